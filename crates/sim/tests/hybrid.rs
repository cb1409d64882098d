//! Two signatures of two kinds, both demanded: P-256 (role 6) AND LMS (role 7). Whatever is taken from an image or put in
//! another place ends in the exact number, and no device falls back to one.

use ampoule_sim::fixture::{Authority, Identity, Image, Key, Release, Root, Scheme};
use codec::limits::Limits;
use codec::mcuboot::{ImageHeader, ReadAt};
use codec::plan::Target;
use codec::suit::Head;
use codec::{Reason, Refused};
use trust::alg::PortableP256;
use trust::{Algorithms, Bootable, ImageRule, PORTABLE, Role, TrustRoot};

const KEYHASH: u16 = 0x01;
const ECDSA: u16 = 0x22;
const LMS: u16 = 0x01a0;

fn authority() -> Authority {
    Authority::hybrid(Scheme::P256)
}

fn second(authority: &Authority) -> &Key {
    authority.image_second.as_ref().expect("a hybrid authority")
}

fn judge_with(algorithms: &Algorithms, root: &Root, image: &mut dyn ReadAt) -> Result<Bootable, Reason> {
    let root = root.build();
    let root = TrustRoot::parse(&root, &Limits::MCU, algorithms).expect("a good root");
    let rule = ImageRule {
        root: &root,
        algorithms,
        vendor: &Identity::DEMO.vendor,
        class: &Identity::DEMO.class,
        floor: 0,
        slot_limit: 0x1_0000,
        pinned: None,
    };
    rule.judge(image, &mut [0; 512])
}

fn judge(root: &Root, image: &[u8]) -> Result<Bootable, Reason> {
    judge_with(&PORTABLE, root, &mut &image[..])
}

fn number(root: &Root, image: &[u8]) -> u16 {
    judge(root, image).map_or_else(Reason::number, |_| 0)
}

/// An image's signed bytes and the entries of its unsigned area, to be taken apart and put together.
#[derive(Clone)]
struct Parts {
    signed: Vec<u8>,
    entries: Vec<(u16, Vec<u8>)>,
}

impl Parts {
    fn of(image: &[u8]) -> Parts {
        let header = ImageHeader::parse(image.first_chunk().unwrap()).unwrap();
        let (signed, mut rest) = image.split_at(header.signed_len() as usize);
        rest = &rest[4..];
        let mut entries = Vec::new();
        while let Some(([k0, k1, l0, l1], value)) = rest.split_first_chunk() {
            let (value, behind) = value.split_at(u16::from_le_bytes([*l0, *l1]).into());
            entries.push((u16::from_le_bytes([*k0, *k1]), value.to_vec()));
            rest = behind;
        }
        Parts {
            signed: signed.to_vec(),
            entries,
        }
    }

    fn build(&self) -> Vec<u8> {
        let body = self.entries.iter().flat_map(|(kind, value)| {
            let head = [kind.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat();
            [&head[..], value].concat()
        });
        let body: Vec<u8> = body.collect();
        let info = [0x6907u16.to_le_bytes(), (body.len() as u16 + 4).to_le_bytes()].concat();
        [&self.signed[..], &info, &body].concat()
    }

    /// With these of the entries, by their places: 0 hash, 1 and 2 the P-256 pair, 3 and 4 the LMS pair.
    fn only(&self, places: &[usize]) -> Vec<u8> {
        let entries = places.iter().map(|place| self.entries[*place].clone()).collect();
        Parts {
            entries,
            ..self.clone()
        }
        .build()
    }

    fn with(&self, change: impl FnOnce(&mut Vec<(u16, Vec<u8>)>)) -> Vec<u8> {
        let mut parts = self.clone();
        change(&mut parts.entries);
        parts.build()
    }
}

#[test]
fn both_signatures_start_an_image_and_one_does_not() {
    let authority = authority();
    let image = authority.image(1, 900, 3);
    let parts = Parts::of(&image);
    let kinds: Vec<u16> = parts.entries.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x10, KEYHASH, ECDSA, KEYHASH, LMS]);
    assert_eq!(parts.build(), image);

    let root = authority.trust_root.build();
    let root = TrustRoot::stored(&root, &Limits::MCU).unwrap();
    let good = judge(&authority.trust_root, &image).expect("both verify");
    let signers = root.signers(good.counted());
    assert_eq!((signers.count(Role::Image), signers.count(Role::ImageSecond)), (1, 1));

    // In the other order it is the same image.
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 3, 4, 1, 2])), 0);
    // Stripped: of either, of both.
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 1, 2])), 907);
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 3, 4])), 907);
    assert_eq!(number(&authority.trust_root, &parts.only(&[0])), 907);
    // Doubled in place of the other.
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 1, 2, 1, 2])), 907);
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 3, 4, 3, 4])), 907);
    // A signature without its key's name, and a name without its signature.
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 1, 2, 4])), 903);
    assert_eq!(number(&authority.trust_root, &parts.only(&[0, 1, 2, 3])), 903);
}

#[test]
fn swapped_and_foreign_signatures_are_refused() {
    let authority = authority();
    let (one, other) = (authority.image(1, 900, 3), authority.image(2, 900, 3));
    let (parts, foreign) = (Parts::of(&one), Parts::of(&other));
    let root = &authority.trust_root;
    assert_eq!(number(root, &parts.with(|entries| entries.swap(2, 4))), 906, "swapped");
    assert_eq!(
        number(root, &parts.with(|entries| entries.swap(1, 3))),
        906,
        "names swapped"
    );
    assert_eq!(
        number(root, &parts.with(|entries| entries[2] = foreign.entries[2].clone())),
        906
    );
    assert_eq!(
        number(root, &parts.with(|entries| entries[4] = foreign.entries[4].clone())),
        906
    );
    // A stranger's LMS signature beside the right one is not ours to judge; in its place it is none.
    let stranger = Key::new(Scheme::Lms, "stranger");
    let image = |signers: &[Key]| Image::new(1, 900, &Identity::DEMO, 3, signers).build();
    let all = [authority.image.clone(), second(&authority).clone(), stranger.clone()];
    assert_eq!(number(root, &image(&all)), 0);
    assert_eq!(number(root, &image(&[authority.image.clone(), stranger])), 907);
    // Changed in its type, in its last byte, in its length.
    assert_eq!(
        number(root, &parts.with(|entries| entries[4].0 = ECDSA)),
        903,
        "no ECDSA signature is that long"
    );
    assert_eq!(number(root, &parts.with(|entries| entries[2].0 = LMS)), 906);
    assert_eq!(
        number(root, &parts.with(|entries| *entries[4].1.last_mut().unwrap() ^= 1)),
        906
    );
    assert_eq!(number(root, &parts.with(|entries| entries[4].1.truncate(2511))), 906);
    assert_eq!(number(root, &parts.with(|entries| entries[4].1.push(0))), 906);
    // A wrong LMS signature refuses the image also where the root would do without.
    let lenient = Root {
        image_required: Some(vec![6]),
        ..root.clone()
    };
    assert_eq!(number(&lenient, &parts.only(&[0, 1, 2])), 0);
    assert_eq!(
        number(&lenient, &parts.with(|entries| *entries[4].1.last_mut().unwrap() ^= 1)),
        906
    );
}

/// Two signatures of one role are not one of each; and a key has one role.
#[test]
fn the_second_algorithm_does_not_stand_in_for_the_first() {
    let mut authority = authority();
    let third = Key::new(Scheme::Lms, "third");
    authority.trust_root.roles[3].2.push(third.clone());
    let image = Image::new(1, 900, &Identity::DEMO, 3, &[second(&authority).clone(), third]).build();
    assert_eq!(number(&authority.trust_root, &image), 907);

    let mut both = authority.trust_root.clone();
    both.roles[2].2 = vec![second(&authority).clone()];
    let file = both.build();
    let refused = TrustRoot::parse(&file, &Limits::MCU, &PORTABLE).map(|_| ());
    assert_eq!(
        refused.map_err(|refused| refused.reason.number()),
        Err(807),
        "one key in two roles"
    );
    let mut undefined = authority.trust_root.clone();
    undefined.roles.pop();
    let file = undefined.build();
    let refused = TrustRoot::parse(&file, &Limits::MCU, &PORTABLE).map(|_| ());
    assert_eq!(
        refused.map_err(|refused| refused.reason.number()),
        Err(801),
        "a demanded role that nobody has"
    );
}

/// A device that has no LMS does not start what its root demands LMS for. It never counts what it cannot verify.
#[test]
fn a_device_without_the_algorithm_does_not_fall_back() {
    const P256_ALONE: Algorithms<'static> = Algorithms::new(&[&PortableP256]);
    let authority = authority();
    let image = authority.image(1, 900, 3);
    let verdict = judge_with(&P256_ALONE, &authority.trust_root, &mut &image[..]);
    assert_eq!(verdict.map(|_| ()), Err(Reason::ImageThreshold));
}

/// HSS with two levels, and parameter sets that are not accepted, never come into a root.
#[test]
fn a_root_with_an_unusable_lms_key_is_refused() {
    let authority = authority();
    for (place, value) in [(3, 2), (7, 9), (7, 14), (11, 2), (11, 7), (11, 99)] {
        assert_eq!(with_changed_lms_key(&authority, place, value), "801 weak key");
    }
    assert_eq!(
        with_changed_lms_key(&authority, 59, 0),
        "accepted",
        "another T[1] is another key"
    );
}

/// What becomes of a root whose LMS key has another byte there. The key's id is its thumbprint, by which keys are
/// ordered; bytes of I are varied until it stands in its place again.
fn with_changed_lms_key(authority: &Authority, place: usize, value: u8) -> String {
    let (public, old) = (second(authority).public(), second(authority).id());
    let good = authority.trust_root.build();
    let key_at = good.windows(public.len()).position(|bytes| bytes == public).unwrap();
    for filling in 0..=255 {
        let mut file = good.clone();
        (file[key_at + place], file[key_at + 20]) = (value, filling);
        let new = thumbprint(&file[key_at..key_at + public.len()]);
        for at in (0..file.len() - 32).filter(|at| good[*at..*at + 32] == old) {
            file[at..at + 32].copy_from_slice(&new);
        }
        match TrustRoot::parse(&file, &Limits::MCU, &PORTABLE) {
            Ok(_) => return "accepted".into(),
            Err(refused) if refused.reason == Reason::CborNotDeterministic => {}
            Err(refused) => return format!("{} {}", refused.reason.number(), refused.detail),
        }
    }
    panic!("never in order");
}

fn thumbprint(public: &[u8]) -> [u8; 32] {
    trust::thumbprint(&trust::PublicKey::HssLms { public })
}

/// A flash that fails while the long signature is read: that is said, and not that the signature is wrong.
#[test]
fn a_failing_flash_is_no_wrong_signature() {
    struct Failing<'a>(&'a [u8], u32);
    impl ReadAt for Failing<'_> {
        fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
            if offset + out.len() as u32 > self.1 {
                return Err(Reason::StorageFailed);
            }
            (&self.0[..]).read_at(offset, out)
        }
    }
    let authority = authority();
    let image = authority.image(1, 900, 3);
    let mut failing = Failing(&image, image.len() as u32 - 100);
    let verdict = judge_with(&PORTABLE, &authority.trust_root, &mut failing);
    assert_eq!(verdict.map(|_| ()), Err(Reason::StorageFailed));
}

/// A release by two algorithms: roles 2 and 5.
#[test]
fn a_release_needs_its_second_algorithm_too() {
    let mut authority = Authority::new(Scheme::P256);
    let second = Key::new(Scheme::Lms, "second release");
    authority.trust_root.roles.push((5, 1, vec![second.clone()]));
    authority.trust_root.roles.sort_by_key(|role| role.0);
    authority.trust_root.required = vec![2, 5];
    let root = authority.trust_root.build();
    let root = TrustRoot::parse(&root, &Limits::MCU, &PORTABLE).expect("a good root");
    let verdict = |algorithms: &Algorithms, signers: &[Key]| {
        let file = Release::new(7, authority.image(1, 900, 3), 3, signers).build();
        let head = Head::decode(&file, &Limits::MCU).expect("a good head");
        let mut room = [Target::EMPTY; 8];
        let verified = root.verify(&head, algorithms, &Limits::MCU, &mut room);
        verified.map(|authentic| authentic.signers().count(Role::ReleaseSecond))
    };
    let few = Err(Refused::from(Reason::AuthThreshold));
    let first = authority.release.clone();
    assert_eq!(verdict(&PORTABLE, &[first.clone(), second.clone()]), Ok(1));
    assert_eq!(verdict(&PORTABLE, std::slice::from_ref(&first)), few);
    assert_eq!(verdict(&PORTABLE, std::slice::from_ref(&second)), few);
    const P256_ALONE: Algorithms<'static> = Algorithms::new(&[&PortableP256]);
    assert_eq!(verdict(&P256_ALONE, &[first, second]), few);
}
