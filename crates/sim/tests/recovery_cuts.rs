//! Recovery and provisioning, with the power cut at every operation: a device that can be helped can be helped again.

use ampoule_sim::body::{Body, Boot, Ledger, Made, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Identity, Image, Key, Scheme};
use ampoule_sim::help::offer;
use codec::Reason;
use codec::smp::client::Destination;
use engine::boot::Reset;

struct Desk {
    body: Body,
    image: Made,
}

impl Desk {
    fn new(shape: Shape) -> Desk {
        let mut body = Body::new(shape, Authority::new(Scheme::TestOnlyHash));
        let image = body.make("good", 700, 2);
        Desk { body, image }
    }

    /// Sends a file to the recovery, as a client does. Ok, or the number of the refusal.
    fn send(&self, sim: &mut Sim, destination: Destination, file: &[u8]) -> Result<(), u64> {
        offer(&self.body, sim, Reason::NoBootableImage, destination, file)
    }

    /// A person at the serial line: helps until the image runs.
    fn help(&self, sim: &mut Sim) -> Result<(), String> {
        for _ in 0..3 {
            match self.body.boot_unstored(sim, Reset::Power)? {
                Boot::Runs("good", false) => return self.body.boot_steady(sim, "good"),
                Boot::Recovery(Reason::NoRoot) => {
                    let root = self.body.authority.trust_root.build();
                    self.send(sim, Destination::Root, &root)
                        .map_err(|number| format!("root refused: {number}"))?;
                }
                Boot::Recovery(Reason::NoBootableImage) => {
                    let sent = self.send(sim, Destination::Image, &self.image.bytes);
                    sent.map_err(|number| format!("image refused: {number}"))?;
                }
                other => return Err(format!("{other:?}")),
            }
        }
        Err("helped three times and still nothing runs".into())
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            confirmed: Some("good"),
            ..Ledger::default()
        }
    }

    fn blank(&self) -> Sim {
        Sim::new(self.body.shape.blank().0, self.ledger())
    }

    fn without_image(&self) -> Sim {
        Sim::new(self.body.provisioned(), self.ledger())
    }
}

#[test]
fn a_cut_never_leaves_a_device_beyond_help() {
    let torn = if std::env::var_os("AMPOULE_SOAK").is_some() {
        24
    } else {
        2
    };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape);
        for (name, start) in [("blank", desk.blank()), ("without image", desk.without_image())] {
            let campaign = Campaign::new(format!("recovery {name} {shape}"), torn, &[]);
            let help = |sim: &mut Sim| desk.help(sim);
            total.add(findings.gather(|| explore(&campaign, &start, help, help)));
        }
    }
    total.tell("cuts while being helped");
    findings.tell();
}

/// Half an image in both slots, and trailers that ask for anything: recovery starts over.
#[test]
fn recovery_ends_whatever_was_under_way() {
    for shape in shapes(Shape::small) {
        let mut desk = Desk::new(shape);
        let other = desk.body.make("other", 1500, 2);
        let mut sim = desk.body.factory(&other);
        sim.note(|ledger| ledger.confirming = Some("good"));
        desk.body.boot_to(&mut sim, Reset::Power, "other", false).unwrap();
        let slots = engine::layout::Slots::new(&desk.body.layout, &sim.nor).unwrap();
        desk.body.stage(&mut sim.nor, &desk.image.bytes);
        engine::swap::write_request(&mut sim.nor, &slots, codec::mcuboot::trailer::SwapType::Test).unwrap();
        desk.body.boot_to(&mut sim, Reset::Power, "good", true).unwrap();
        // Both images decay during the trial.
        sim.nor.corrupt(desk.body.layout.primary.start + 100, 1);
        sim.nor.corrupt(desk.body.layout.secondary.start + 100, 1);
        let boot = desk.body.boot(&mut sim, Reset::Power).unwrap();
        assert_eq!(boot, Boot::Recovery(Reason::NoBootableImage), "{shape}");
        sim.note(|ledger| ledger.confirming = Some("good"));
        desk.help(&mut sim).unwrap();
    }
}

/// The bootloader's own rule judges what recovery is given; what fails it is erased and never starts.
#[test]
fn recovery_takes_no_image_that_may_not_start() {
    let desk = Desk::new(Shape::small(4, 0xff, true));
    let authority = &desk.body.authority;
    let with = |change: &dyn Fn(&mut Image)| {
        let signers = std::slice::from_ref(&authority.image);
        let mut image = Image::new(5, 600, &Identity::DEMO, 3, signers);
        change(&mut image);
        image.build()
    };
    let stranger = Key::new(Scheme::TestOnlyHash, "stranger");
    let mut flipped = desk.image.bytes.clone();
    flipped[300] ^= 1;
    let longest = desk.body.image_len_max();
    let cases = [
        (with(&|image| image.signers.clear()), 907),
        (with(&|image| image.signers = vec![stranger.clone()]), 907),
        (with(&|image| image.signers = vec![authority.release.clone()]), 907),
        (with(&|image| image.protected[2].1[0] ^= 1), 910),
        (with(&|image| drop(image.protected.remove(1))), 910),
        (with(&|image| drop(image.protected.remove(0))), 909),
        (flipped, 905),
        (vec![0x77; 600], 901),
        (with(&|image| image.payload.resize(longest, 0)), 908),
    ];
    for (image, number) in cases {
        let mut sim = desk.without_image();
        assert_eq!(desk.send(&mut sim, Destination::Image, &image), Err(number));
        let boot = desk.body.boot(&mut sim, Reset::Power).unwrap();
        assert_eq!(boot, Boot::Recovery(Reason::NoBootableImage), "{number}");
        desk.help(&mut sim).unwrap();
    }
}

/// The floor holds in recovery too.
#[test]
fn recovery_does_not_go_below_the_counter() {
    let mut desk = Desk::new(Shape::small(4, 0xff, true));
    let higher = desk.body.make("higher", 800, 5);
    let mut sim = desk.body.factory(&higher);
    desk.body.boot_to(&mut sim, Reset::Power, "higher", false).unwrap();
    sim.nor.corrupt(desk.body.layout.primary.start + 90, 1);
    assert_eq!(
        desk.body.boot(&mut sim, Reset::Power),
        Ok(Boot::Recovery(Reason::NoBootableImage))
    );
    assert_eq!(desk.send(&mut sim, Destination::Image, &desk.image.bytes), Err(610));
    assert_eq!(
        desk.body.boot(&mut sim, Reset::Power),
        Ok(Boot::Recovery(Reason::NoBootableImage))
    );
    assert_eq!(desk.send(&mut sim, Destination::Image, &higher.bytes), Ok(()));
    desk.body.boot_to(&mut sim, Reset::Power, "higher", false).unwrap();
}

/// A root is taken once, and only one that signs itself and can boot something.
#[test]
fn provisioning_takes_one_good_root() {
    let desk = Desk::new(Shape::small(4, 0xff, true));
    let authority = &desk.body.authority;
    let mut unsigned = authority.trust_root.clone();
    unsigned.signers = vec![authority.release.clone()];
    let mut imageless = authority.trust_root.clone();
    imageless.roles.retain(|(role, _, _)| *role != 6);
    let mut flipped = authority.trust_root.build();
    flipped[60] ^= 1;
    let untouched = desk.blank();
    for (root, numbers) in [
        (unsigned.build(), vec![805]),
        (imageless.build(), vec![941]),
        (flipped, (101..=810).collect::<Vec<u64>>()),
    ] {
        let mut sim = desk.blank();
        let refused = desk.send(&mut sim, Destination::Root, &root).unwrap_err();
        assert!(numbers.contains(&refused), "{refused}");
        assert_eq!(sim.nor.cells(), untouched.nor.cells());
    }
    let mut sim = desk.blank();
    assert_eq!(
        desk.send(&mut sim, Destination::Image, &desk.image.bytes),
        Err(940),
        "no root, no image"
    );
    let root = authority.trust_root.build();
    assert_eq!(desk.send(&mut sim, Destination::Root, &root), Ok(()));
    assert_eq!(desk.send(&mut sim, Destination::Root, &root), Err(1012));
    desk.help(&mut sim).unwrap();
    ensure(sim.ledger().counter == 2, || {
        "the counter of the first image counts".into()
    })
    .unwrap();
}
