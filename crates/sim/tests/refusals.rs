//! What a device refuses, with which number, at which moment, and what it has written by then.
//!
//! A release that is refused for what its head says changes nothing at all; one that is refused later changes only the
//! staging slot and the records. In both cases the running image stays, and the right release installs afterwards.

use ampoule_sim::body::{Body, Made, Sim};
use ampoule_sim::cbor::Value;
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Authority, Identity, Image, Key, Release, Scheme, tlv};
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;

/// How far a release got before it was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// The flash is byte-identical.
    BeforeAnyWrite,
    /// Staging slot and records may have changed.
    Later,
}

use Moment::{BeforeAnyWrite, Later};

struct Desk {
    body: Body,
    new: Made,
    start: Sim,
}

impl Desk {
    /// A production device that runs release 5 (counter 2), before release 9 (counter 3).
    fn new(scheme: Scheme) -> Desk {
        let mut body = Body::new(Shape::small(4, 0xff, true), Authority::new(scheme));
        let factory = body.make("factory", 900, 1);
        let old = body.make("old", 2000, 2);
        let new = body.make("new", 2600, 3);
        let mut start = body.factory(&factory);
        body.boot_to(&mut start, Reset::Power, "factory", false).unwrap();
        let desk = Desk { body, new, start };
        let mut start = desk.start.clone();
        desk.accepted(
            &mut start,
            &desk.body.authority.release(5, &old.bytes, 2).build(),
            "old",
        );
        Desk { start, ..desk }
    }

    fn release(&self) -> Release {
        self.body.authority.release(9, &self.new.bytes, 3)
    }

    /// Installs it all the way.
    fn accepted(&self, sim: &mut Sim, file: &[u8], image: &'static str) {
        assert_eq!(self.body.install(sim, file, 4000), Ok(Step::Staged));
        self.body
            .app(sim, |device| device.request_swap(None, SwapType::Test))
            .unwrap();
        self.body.boot_to(sim, Reset::Software, image, true).unwrap();
        self.body.confirm(sim, image).unwrap();
        self.body.boot_to(sim, Reset::Software, image, false).unwrap();
        self.body.boot_steady(sim, image).unwrap();
    }

    /// Pushes a file that must not be staged; its number (0: not refused, but wanting more), and when.
    fn push(&self, file: &[u8]) -> (u16, Moment) {
        let mut sim = self.start.clone();
        let before = sim.nor.clone();
        let number = match self.body.install(&mut sim, file, 4000) {
            Ok(Step::More { .. }) => 0,
            Ok(step) => panic!("{step:?}"),
            Err(what) => what
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .expect(&what),
        };
        let moment = if sim.nor.operations() == before.operations() {
            BeforeAnyWrite
        } else {
            Later
        };
        // Whatever it was: nothing is requested, and the old image goes on.
        self.body.boot_steady(&mut sim, "old").unwrap();
        (number, moment)
    }

    fn refused(&self, file: &[u8], number: u16, moment: Moment, why: &str) {
        assert_eq!(self.push(file), (number, moment), "{why}");
    }

    /// The same, and the right release is installed afterwards on the very same device.
    fn refused_and_recovered(&self, file: &[u8], number: u16, moment: Moment, why: &str) {
        self.refused(file, number, moment, why);
        let mut sim = self.start.clone();
        self.body.install(&mut sim, file, 4000).unwrap_err();
        self.accepted(&mut sim, &self.release().build(), "new");
    }
}

/// Where the bytes of `part` stand in `file`.
fn place(file: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = file
        .windows(part.len())
        .position(|window| window == part)
        .expect("it is in there");
    start..start + part.len()
}

#[test]
fn every_bit_of_the_head_is_signed_or_structure() {
    for scheme in [Scheme::Ed25519, Scheme::P256] {
        let desk = Desk::new(scheme);
        let release = desk.release();
        let manifest = release.manifest_bytes();
        let (head, members) = release.sign_parts(&manifest);
        let authentication = ampoule_sim::fixture::authentication(&manifest, &release.signers);
        let manifest = place(&head, &manifest);
        let kid = place(&head, &release.signers[0].id());
        let signature = place(&authentication, &authentication[authentication.len() - 64..]);
        let signature = place(&head, &authentication[signature]);
        let mut file = [head.clone(), members].concat();
        let mut numbers = std::collections::BTreeMap::new();
        for bit in 0..head.len() * 8 {
            let at = bit / 8;
            file[at] ^= 1 << (bit % 8);
            let (number, moment) = desk.push(&file);
            *numbers.entry(number).or_insert(0) += 1;
            // The number of members (byte 2) is no content: a wrong one shows when the file ends.
            if at == 2 {
                assert!(
                    [0, 104, 201, 202, 101, 502, 503].contains(&number),
                    "bit {bit}: {number}"
                );
            } else {
                assert_eq!(moment, BeforeAnyWrite, "bit {bit}: {number}");
                let expected: &[u16] = match at {
                    at if manifest.contains(&at) => &[212],
                    at if signature.contains(&at) => &[217],
                    at if kid.contains(&at) => &[219],
                    _ => &[
                        101, 102, 103, 104, 105, 201, 202, 203, 210, 211, 212, 213, 214, 215, 216, 217, 219,
                    ],
                };
                assert!(expected.contains(&number), "bit {bit} of byte {at}: {number}");
            }
            file[at] ^= 1 << (bit % 8);
        }
        println!("{scheme:?}: {} bits, refused as {numbers:?}", head.len() * 8);
        desk.accepted(&mut desk.start.clone(), &file, "new");
    }
}

#[test]
fn one_bit_in_every_64_bytes_of_payload() {
    let desk = Desk::new(Scheme::Ed25519);
    let mut file = desk.release().build();
    let payload = place(&file, &desk.new.bytes);
    for at in payload.step_by(64).chain([file.len() - 1]) {
        file[at] ^= 0x10;
        // The chunk is wanted again, and after three times it is given up.
        desk.refused(&file, 508, Later, &format!("byte {at}"));
        file[at] ^= 0x10;
    }
}

#[test]
fn every_truncation_is_taken_up_again_or_refused() {
    let desk = Desk::new(Scheme::TestOnlyHash);
    let file = desk.release().build();
    let head = desk.release().sign_parts(&desk.release().manifest_bytes()).0.len();
    for len in 0..file.len() {
        let (number, moment) = desk.push(&file[..len]);
        assert_eq!(number, 0, "{len} bytes");
        assert_eq!(moment == BeforeAnyWrite, len < head, "{len} bytes of a head of {head}");
    }
    for len in (0..file.len())
        .step_by(97)
        .chain([head - 1, head, head + 1, file.len() - 1])
    {
        let mut sim = desk.start.clone();
        desk.body.install(&mut sim, &file[..len], 333).unwrap();
        desk.body.boot_steady(&mut sim, "old").unwrap();
        desk.accepted(&mut sim, &file, "new");
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let desk = Desk::new(Scheme::TestOnlyHash);
    let file = [desk.release().build(), vec![0]].concat();
    assert_eq!(desk.push(&file).0, 104);
}

/// Everything that the head says and that this device does not want.
#[test]
fn well_signed_heads_that_are_not_for_this_device() {
    let desk = Desk::new(Scheme::Ed25519);
    let other = Identity {
        vendor: *b"another vendor..",
        class: Identity::DEMO.class,
    };
    let class = Identity {
        vendor: Identity::DEMO.vendor,
        class: *b"another class...",
    };
    let with = |change: &dyn Fn(&mut Release)| {
        let mut release = desk.release();
        change(&mut release);
        release.build()
    };
    let args = |key: i64, value: Value| with(&move |r| r.args.push((key, value.clone())));
    let parameter = |key: i64, value: Value| with(&move |r| r.parameters.push((key, value.clone())));
    let member = |key: i64, value: Value| with(&move |r| r.manifest.push((key, value.clone())));
    let array = |items: &[i64]| Value::Array(items.iter().map(|&item| item.into()).collect());
    let rule = |items: Value| Value::embed(&items);
    let version_rule = Value::Array(vec![1.into(), array(&[9])]);
    let conditioned = |key: i64, value: Value| {
        with(&move |r| {
            r.parameters.push((key, value.clone()));
            r.conditions.push(key);
        })
    };
    // The image that runs is version 1.0.2: comparison 1 demands more, 3 exactly this.
    let installed = |comparison: i64| {
        let rule = Value::Array(vec![comparison.into(), array(&[1, 0, 2])]);
        conditioned(28, Value::embed(&rule))
    };
    let cases = [
        (
            conditioned(24, (&b"this one device."[..]).into()),
            603,
            "another single device",
        ),
        (installed(1), 604, "a version that is not installed"),
        (with(&|r| r.device = other), 601, "vendor"),
        (with(&|r| r.device = class), 602, "class"),
        (with(&|r| r.component = vec![b"other".to_vec()]), 605, "component"),
        (with(&|r| r.sequence = 4), 607, "sequence below"),
        (with(&|r| r.sequence = 5), 608, "sequence reused"),
        (with(&|r| r.sequence = 1 << 53), 105, "sequence above SEQ_MAX"),
        (with(&|r| r.counter = Some(1)), 610, "counter below the running image's"),
        (with(&|r| r.counter = None), 410, "no counter"),
        (with(&|r| r.chunk = None), 507, "no chunk table"),
        (with(&|r| r.chunk = Some(512)), 105, "chunks below CHUNK_MIN"),
        (
            with(&|r| r.chunk = Some(4096)),
            105,
            "chunks above what the board takes",
        ),
        (with(&|r| r.chunk = Some(1500)), 411, "chunks of no power of two"),
        (with(&|r| r.format = 0), 410, "raw bytes with a counter"),
        (with(&|r| r.format = 7), 411, "no such format"),
        (args(-261, array(&[99, 0, 0])), 612, "engine"),
        (args(-262, 2.into()), 412, "profile"),
        (args(-300, 1.into()), 410, "unknown argument"),
        (args(-263, 1.into()), 410, "compression without transport digest"),
        (
            parameter(24, (&b"this one device."[..]).into()),
            401,
            "device id without its condition",
        ),
        (
            parameter(28, rule(version_rule)),
            401,
            "version rule without its condition",
        ),
        (
            parameter(14, 0x7fff_ffff.into()),
            507,
            "a size that the table does not fit",
        ),
        (member(1, 2.into()), 301, "manifest version"),
        (member(8, 1.into()), 303, "unknown manifest key"),
        (
            member(6, Value::embed(&array(&[-1]))),
            305,
            "version with a negative part",
        ),
        (with(&|r| r.payload_name = "#bin".into()), 501, "payload name too short"),
        (
            with(&|r| r.payload_name = format!("#{}", "x".repeat(32))),
            501,
            "payload name too long",
        ),
        (
            with(&|r| r.payload_name = "https://example.com/app.bin".into()),
            501,
            "payload elsewhere",
        ),
    ];
    for (file, number, why) in cases {
        desk.refused(&file, number, BeforeAnyWrite, why);
    }
    desk.accepted(&mut desk.start.clone(), &installed(3), "new");
    let longest_name = with(&|r| r.payload_name = format!("#{}", "x".repeat(31)));
    desk.accepted(&mut desk.start.clone(), &longest_name, "new");
}

/// Signers: too few, unknown, of another role, twice.
#[test]
fn who_signed_it_matters() {
    let desk = Desk::new(Scheme::Ed25519);
    let signed_by = |keys: &[Key]| {
        Release {
            signers: keys.to_vec(),
            ..desk.release()
        }
        .build()
    };
    let Authority {
        root, release, image, ..
    } = &desk.body.authority;
    let stranger = Key::new(Scheme::Ed25519, "stranger");
    desk.refused(&signed_by(&[]), 210, BeforeAnyWrite, "nobody");
    desk.refused(
        &signed_by(std::slice::from_ref(&stranger)),
        219,
        BeforeAnyWrite,
        "a stranger",
    );
    desk.refused(
        &signed_by(std::slice::from_ref(image)),
        219,
        BeforeAnyWrite,
        "the image key",
    );
    desk.refused(
        &signed_by(std::slice::from_ref(root)),
        219,
        BeforeAnyWrite,
        "the root key",
    );
    desk.refused(
        &signed_by(&[release.clone(), release.clone()]),
        215,
        BeforeAnyWrite,
        "the same key twice",
    );
    desk.accepted(&mut desk.start.clone(), &signed_by(&[stranger, release.clone()]), "new");
}

/// A thief of the release key delivers, but cannot make an image that starts.
#[test]
fn a_stolen_release_key_boots_nothing() {
    let desk = Desk::new(Scheme::Ed25519);
    let stranger = Key::new(Scheme::Ed25519, "stranger");
    let image = |change: &dyn Fn(&mut Image)| {
        let signers = std::slice::from_ref(&desk.body.authority.image);
        let mut image = Image::new(77, 1500, &Identity::DEMO, 3, signers);
        change(&mut image);
        image.build()
    };
    let without = |kind: u16| image(&move |image| image.protected.retain(|(other, _)| *other != kind));
    let cases = [
        (image(&|image| image.signers.clear()), 907, "not signed"),
        (
            image(&|image| image.signers = vec![stranger.clone()]),
            907,
            "signed by a stranger",
        ),
        (
            image(&|image| image.signers = vec![desk.body.authority.release.clone()]),
            907,
            "signed by the release key",
        ),
        (
            image(&|image| image.protected[0].1[0] = 4),
            611,
            "another counter than the manifest's",
        ),
        (without(tlv::SEC_CNT), 611, "no counter"),
        (without(tlv::VENDOR), 910, "no vendor"),
        (without(tlv::CLASS), 910, "no class"),
        (image(&|image| image.protected[2].1[0] ^= 1), 910, "another class"),
        (image(&|image| image.flags = 0x10), 911, "not bootable"),
        (image(&|image| image.flags = 0x4), 911, "encrypted"),
        (image(&|image| image.flags = 0x8000), 902, "an unknown flag"),
        (
            image(&|image| image.protected.push((0x40, vec![0; 12]))),
            913,
            "a dependency",
        ),
        (
            image(&|image| image.protected.push((0x99, vec![0; 4]))),
            904,
            "an unknown TLV",
        ),
        (vec![0x5a; 1500], 901, "no image"),
    ];
    for (image, number, why) in cases {
        let file = desk.body.authority.release(9, &image, 3).build();
        desk.refused_and_recovered(&file, number, Later, why);
    }
    // Bits of a good image, with a manifest that was signed for the result.
    let mut bytes = desk.new.bytes.clone();
    for at in (0..32)
        .chain((32..bytes.len()).step_by(64))
        .chain(bytes.len() - 100..bytes.len())
    {
        bytes[at] ^= 0x08;
        let (number, _) = desk.push(&desk.body.authority.release(9, &bytes, 3).build());
        assert!(matches!(number, 901..=913 | 611 | 515), "byte {at}: {number}");
        bytes[at] ^= 0x08;
    }
}

/// Every bit of the manifest changed, and signed again by whoever holds the release key: it is refused, or it is another
/// release of the very same image.
#[test]
fn every_bit_of_the_manifest_signed_again() {
    let desk = Desk::new(Scheme::TestOnlyHash);
    let release = desk.release();
    let mut manifest = release.manifest_bytes();
    let (mut refused, mut taken) = (0, 0);
    for bit in 0..manifest.len() * 8 {
        manifest[bit / 8] ^= 1 << (bit % 8);
        let mut sim = desk.start.clone();
        match desk.body.install(&mut sim, &release.sign(&manifest), 4000) {
            Ok(Step::Staged) => {
                let staged = desk
                    .body
                    .image_at(&sim.nor, desk.body.staging_address())
                    .map(|image| image.name);
                assert_eq!(staged, Some("new"), "bit {bit}");
                taken += 1;
            }
            Ok(step) => panic!("bit {bit}: {step:?}"),
            Err(_) => refused += 1,
        }
        desk.body.boot_steady(&mut sim, "old").unwrap();
        manifest[bit / 8] ^= 1 << (bit % 8);
    }
    println!("{refused} refused, {taken} other releases of the same image");
    assert!(refused > 50 * taken);
}

#[test]
fn sizes_to_the_byte() {
    let longest = Desk::new(Scheme::TestOnlyHash).body.image_len_max();
    let desk = || {
        let mut desk = Desk::new(Scheme::TestOnlyHash);
        let image = desk.body.make("longest", longest, 3);
        (desk, image)
    };
    let (fits, image) = desk();
    fits.accepted(
        &mut fits.start.clone(),
        &fits.body.authority.release(9, &image.bytes, 3).build(),
        "longest",
    );
    let (mut exceeds, _) = desk();
    let image = exceeds.body.make("too long", longest + 1, 3);
    let file = exceeds.body.authority.release(9, &image.bytes, 3).build();
    exceeds.refused(&file, 908, BeforeAnyWrite, "one byte longer than both slots can swap");
    // What the head says and what the member says.
    let mut lies = exceeds.release();
    lies.parameters = vec![(14, (lies.image.len() as i64 - 1).into())];
    exceeds.refused(&lies.build(), 505, Later, "the payload is longer than signed");
    let with_uri = |len: usize| {
        let mut release = exceeds.release();
        release.manifest = vec![(4, "u".repeat(len).as_str().into())];
        release.build()
    };
    assert_eq!(exceeds.push(&with_uri(129)), (105, BeforeAnyWrite), "URI_LEN_MAX + 1");
    exceeds.accepted(&mut exceeds.start.clone(), &with_uri(128), "new");
}

/// During a trial everything that would write is refused: its fallback must stay.
#[test]
fn nothing_is_installed_during_a_trial() {
    let desk = Desk::new(Scheme::Ed25519);
    let mut sim = desk.start.clone();
    assert_eq!(
        desk.body.install(&mut sim, &desk.release().build(), 500),
        Ok(Step::Staged)
    );
    desk.body
        .app(&mut sim, |device| device.request_swap(None, SwapType::Test))
        .unwrap();
    // While it waits for the bootloader, neither.
    let before = sim.nor.clone();
    let waiting = desk.body.install(
        &mut sim,
        &desk.body.authority.release(10, &desk.new.bytes, 3).build(),
        500,
    );
    assert!(
        waiting.as_ref().is_err_and(|what| what.starts_with("1010 ")),
        "{waiting:?}"
    );
    assert_eq!(sim.nor.cells(), before.cells());
    desk.body.boot_to(&mut sim, Reset::Software, "new", true).unwrap();
    let before = sim.nor.clone();
    for sequence in [9, 10] {
        let file = desk.body.authority.release(sequence, &desk.new.bytes, 3).build();
        let refused = desk.body.install(&mut sim, &file, 500);
        assert!(
            refused.as_ref().is_err_and(|what| what.starts_with("613 ")),
            "{refused:?}"
        );
    }
    for refused in [
        desk.body.app(&mut sim, |device| device.erase_staging()),
        desk.body
            .app(&mut sim, |device| device.request_swap(None, SwapType::Test)),
    ] {
        assert!(
            refused.as_ref().is_err_and(|what| what.starts_with("613 ")),
            "{refused:?}"
        );
    }
    let early = desk.body.app(&mut sim, |device| device.confirm());
    assert!(
        early.is_err_and(|what| what.starts_with("1001 ")),
        "a confirmation before the self-test"
    );
    assert_eq!(sim.nor.cells(), before.cells());
    desk.body.confirm(&mut sim, "new").unwrap();
}

/// Raw images are for development.
#[test]
fn a_raw_image_is_refused_in_production() {
    let desk = Desk::new(Scheme::Ed25519);
    desk.refused(&desk.new.bytes, 1007, BeforeAnyWrite, "raw image");
    desk.refused(b"{\"not\": \"a release\"}", 201, BeforeAnyWrite, "something else");
}
