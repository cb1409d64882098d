//! The laws of starting, with an attacker who can write the flash and with flash that decays: no unauthorised image ever
//! starts, counters never fall, and within three resets something authorised runs or recovery answers.

use ampoule_sim::body::{Body, Boot, Ledger, Made, Sim};
use ampoule_sim::chance::Chance;
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Identity, Image, Key, Scheme};
use ampoule_sim::nor::Nor;
use codec::Reason;
use codec::mcuboot::trailer::{FLAG_SET, SwapType, magic};
use codec::record::HalfHeader;
use engine::boot::{self, Buffers, Outcome, Reset};
use engine::flash::{Flash, FlashError, Sector};
use engine::install::Step;
use engine::layout::{Area, SlotId, Slots};
use engine::swap;

struct Desk {
    body: Body,
    old: Made,
    new: Made,
    start: Sim,
}

impl Desk {
    fn new(shape: Shape, scheme: Scheme) -> Desk {
        let mut body = Body::new(shape, Authority::new(scheme));
        let old = body.make("old", 2000, 2);
        let new = body.make("new", 1700, 3);
        let mut start = body.factory(&old);
        body.boot_to(&mut start, Reset::Power, "old", false).unwrap();
        Desk { body, old, new, start }
    }

    /// Puts these bytes where an update belongs and asks for them, as whoever can write the flash could.
    fn force(&self, sim: &mut Sim, bytes: &[u8], kind: SwapType) {
        self.body.stage(&mut sim.nor, bytes);
        let slots = Slots::new(&self.body.layout, &sim.nor).unwrap();
        swap::write_request(&mut sim.nor, &slots, kind).unwrap();
    }

    /// Forced upon the device, it is not taken, and the old image goes on with nothing lost.
    fn not_taken(&self, bytes: &[u8], why: &str) {
        for kind in [SwapType::Test, SwapType::Permanent] {
            let mut sim = self.start.clone();
            self.force(&mut sim, bytes, kind);
            let primary = self.body.area(&sim.nor, self.body.layout.primary).to_vec();
            self.body.boot_to(&mut sim, Reset::Power, "old", false).expect(why);
            assert_eq!(self.body.area(&sim.nor, self.body.layout.primary), primary, "{why}");
            self.body.boot_steady(&mut sim, "old").expect(why);
        }
    }
}

#[test]
fn what_is_forced_into_the_slot_is_judged() {
    let desk = Desk::new(Shape::small(4, 0xff, true), Scheme::P256);
    let with = |change: &dyn Fn(&mut Image)| {
        let signers = std::slice::from_ref(&desk.body.authority.image);
        let mut image = Image::new(5, 1000, &Identity::DEMO, 3, signers);
        change(&mut image);
        image.build()
    };
    desk.not_taken(&with(&|image| image.signers.clear()), "no signature");
    desk.not_taken(
        &with(&|image| image.signers = vec![Key::new(Scheme::P256, "stranger")]),
        "a stranger's signature",
    );
    desk.not_taken(
        &with(&|image| image.signers = vec![desk.body.authority.release.clone()]),
        "the release key",
    );
    desk.not_taken(&with(&|image| image.protected[0].1[0] = 1), "a lower counter");
    desk.not_taken(&with(&|image| image.protected[2].1[0] ^= 1), "another class");
    desk.not_taken(&with(&|image| image.protected.clear()), "nothing protected");
    desk.not_taken(&[], "nothing at all");
    let mut bytes = desk.new.bytes.clone();
    for at in (0..bytes.len()).step_by(16) {
        bytes[at] ^= 1;
        desk.not_taken(&bytes, &format!("byte {at}"));
        bytes[at] ^= 1;
    }
    let mut sim = desk.start.clone();
    desk.force(&mut sim, &bytes, SwapType::Test);
    desk.body.boot_to(&mut sim, Reset::Power, "new", true).unwrap();
}

/// A damaged primary never starts; recovery answers and says so, again and again.
#[test]
fn a_damaged_primary_never_starts() {
    let desk = Desk::new(Shape::small(8, 0x00, false), Scheme::TestOnlyHash);
    for at in 0..desk.old.bytes.len() as u32 {
        let mut sim = desk.start.clone();
        sim.nor.corrupt(desk.body.layout.primary.start + at, 1 << (at % 8));
        for reset in [Reset::Power, Reset::Watchdog, Reset::Power] {
            let boot = desk.body.boot(&mut sim, reset).unwrap();
            assert_eq!(boot, Boot::Recovery(Reason::NoBootableImage), "byte {at}");
        }
    }
}

/// A trial image that decays is taken back; a fallback that decays leaves the trial image, which was authorised too.
#[test]
fn decay_during_a_trial() {
    let desk = Desk::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash);
    let mut trial = desk.start.clone();
    desk.force(&mut trial, &desk.new.bytes, SwapType::Test);
    desk.body.boot_to(&mut trial, Reset::Power, "new", true).unwrap();
    let (primary, secondary) = (desk.body.layout.primary.start, desk.body.layout.secondary.start);
    for at in (0..desk.new.bytes.len() as u32).step_by(7) {
        let mut sim = trial.clone();
        sim.nor.corrupt(primary + at, 0x40);
        desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
        desk.body.boot_steady(&mut sim, "old").unwrap();
        let mut sim = trial.clone();
        sim.nor.corrupt(secondary + at, 0x40);
        for _ in 0..3 {
            desk.body.boot_to(&mut sim, Reset::Watchdog, "new", true).unwrap();
        }
        sim.nor.corrupt(primary + at, 0x40);
        let both = desk.body.boot(&mut sim, Reset::Power).unwrap();
        assert_eq!(both, Boot::Recovery(Reason::NoBootableImage), "both decayed at {at}");
    }
}

/// Random bytes over trailers, store, logs and journal: whatever they say, nothing unauthorised starts, and the device
/// starts something or answers.
#[test]
fn garbage_anywhere_starts_nothing_unauthorised() {
    let soak = std::env::var_os("AMPOULE_SOAK").is_some();
    let rounds = if soak { 20_000 } else { 400 };
    let mut outcomes = std::collections::BTreeMap::new();
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape, Scheme::TestOnlyHash);
        let mut trial = desk.start.clone();
        desk.force(&mut trial, &desk.new.bytes, SwapType::Test);
        let asked = trial.clone();
        desk.body.boot_to(&mut trial, Reset::Power, "new", true).unwrap();
        for round in 0..rounds {
            let mut chance = Chance::new(Chance::mix(
                u64::from(shape.write_size) << 8 | u64::from(shape.erased),
                round,
            ));
            let mut sim = [&desk.start, &asked, &trial][chance.below(3) as usize].clone();
            spoil(&desk.body, &mut sim, &mut chance);
            sim.nor.tolerate_second_writes();
            for _ in 0..3 {
                // Whoever writes the flash can also set a confirm flag, or begin a trial anew, but only of an image that may
                // start.
                sim.note(|ledger| {
                    (ledger.confirmed, ledger.confirming) = (Some("old"), Some("new"));
                    ledger.starts.clear();
                });
                let boot = desk.body.boot_unstored(&mut sim, Reset::Power).unwrap();
                let name = match boot {
                    Boot::Runs(name, trial) => format!("{name}, trial {trial}"),
                    Boot::Recovery(reason) => reason.name().to_owned(),
                };
                *outcomes.entry(name).or_insert(0u32) += 1;
            }
        }
    }
    println!("{outcomes:?}");
}

/// Overwrites up to 24 places: flags, magics and sizes of trailers with plausible values, anything else with noise.
fn spoil(body: &Body, sim: &mut Sim, chance: &mut Chance) {
    let slots = Slots::new(&body.layout, &sim.nor).unwrap();
    for _ in 0..=chance.below(24) {
        let area = match chance.below(6) {
            0 => body.layout.trust[chance.below(2) as usize],
            1 => body.layout.boot_log[chance.below(2) as usize],
            2 => body.layout.journal[chance.below(2) as usize],
            _ => {
                let slot =
                    [engine::layout::SlotId::Primary, engine::layout::SlotId::Secondary][chance.below(2) as usize];
                let (area, trailer) = (slots.area(slot), slots.trailer(slot));
                let places = [
                    trailer.image_ok_at(),
                    trailer.copy_done_at(),
                    trailer.swap_info_at(),
                    trailer.swap_size_at(),
                    trailer.magic_at(),
                    trailer.status_at(chance.below(12) as u32),
                ];
                let at = area.start + places[chance.below(6) as usize];
                let now = sim.nor.cells()[at as usize];
                let wanted = [0x00, 0x01, 0x02, 0x03, 0x04, 0xff, chance.byte()][chance.below(7) as usize];
                sim.nor.corrupt(at, now ^ wanted);
                continue;
            }
        };
        sim.nor
            .corrupt(area.start + chance.below(area.len.into()) as u32, chance.byte());
    }
}

/// The counter rises when the image is confirmed, at the next boot, and never falls: not by a revert, not by an older
/// image, not when the copy of the store that counts is lost.
#[test]
fn the_counter_rises_only_by_confirmation() {
    let desk = Desk::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash);
    let counter = |sim: &mut Sim| desk.body.counter(&mut sim.nor);
    let mut sim = desk.start.clone();
    assert_eq!(counter(&mut sim), Some(2));
    desk.force(&mut sim, &desk.new.bytes, SwapType::Test);
    desk.body.boot_to(&mut sim, Reset::Power, "new", true).unwrap();
    assert_eq!(counter(&mut sim), Some(2), "a trial raises nothing");
    desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
    assert_eq!(counter(&mut sim), Some(2));
    desk.force(&mut sim, &desk.new.bytes, SwapType::Test);
    desk.body.boot_to(&mut sim, Reset::Power, "new", true).unwrap();
    desk.body.confirm(&mut sim, "new").unwrap();
    assert_eq!(counter(&mut sim), Some(2), "the bootloader raises it, at the next boot");
    desk.body.boot_to(&mut sim, Reset::Power, "new", false).unwrap();
    assert_eq!(counter(&mut sim), Some(3));
    // The old image is whole and well signed, and its time is over.
    for kind in [SwapType::Test, SwapType::Permanent] {
        desk.force(&mut sim, &desk.old.bytes, kind);
        desk.body.boot_to(&mut sim, Reset::Power, "new", false).unwrap();
    }
    assert_eq!(counter(&mut sim), Some(3));
}

/// Between its confirmation and the next boot, whoever can write the secondary slot asks to go back to the image that ran
/// before. The confirmed image raises the counter first, and by that counter the other one is judged.
#[test]
fn a_confirmed_image_is_not_talked_back() {
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape, Scheme::TestOnlyHash);
        let mut sim = desk.start.clone();
        desk.force(&mut sim, &desk.new.bytes, SwapType::Test);
        desk.body.boot_to(&mut sim, Reset::Power, "new", true).unwrap();
        desk.body.confirm(&mut sim, "new").unwrap();
        let slots = Slots::new(&desk.body.layout, &sim.nor).unwrap();
        let (area, trailer) = (slots.area(SlotId::Secondary), slots.trailer(SlotId::Secondary));
        sim.nor.program(area.start + trailer.copy_done_at(), &[FLAG_SET]);
        sim.nor.program(area.end() - 16, &magic(trailer.max_align()));
        desk.body.boot_to(&mut sim, Reset::Power, "new", false).unwrap();
        assert_eq!(desk.body.counter(&mut sim.nor), Some(3), "{shape}");
        desk.body.boot_steady(&mut sim, "new").unwrap();
    }
}

/// A flash with an area that takes nothing any more.
struct Worn<'n>(&'n mut Nor, [Area; 2]);

impl Worn<'_> {
    fn is_worn(&self, address: u32) -> Result<(), FlashError> {
        match self.1.iter().any(|area| (area.start..area.end()).contains(&address)) {
            true => Err(FlashError::Device),
            false => Ok(()),
        }
    }
}

impl Flash for Worn<'_> {
    fn write_size(&self) -> u32 {
        self.0.write_size()
    }
    fn erased(&self) -> u8 {
        self.0.erased()
    }
    fn size(&self) -> u32 {
        self.0.size()
    }
    fn sector(&self, address: u32) -> Option<Sector> {
        self.0.sector(address)
    }
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        self.0.read(address, out)
    }
    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.is_worn(address)?;
        self.0.write(address, bytes)
    }
    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        self.is_worn(sector.start)?;
        self.0.erase(sector)
    }
}

/// A log that takes no record costs the report its reason, and no device its start: upgrade, revert and refusal go on.
#[test]
fn a_worn_log_keeps_nothing_from_starting() {
    let desk = Desk::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash);
    let boot = |sim: &mut Sim, reset: Reset| {
        let (mut root, mut scratch) = (vec![0; 4096], [0; 256]);
        let buffers = Buffers {
            root: &mut root,
            scratch: &mut scratch,
        };
        let mut flash = Worn(&mut sim.nor, desk.body.layout.boot_log);
        match boot::run(&mut flash, &desk.body.board(), reset, buffers) {
            Outcome::Start(start) => (start.image.counter(), start.trial),
            Outcome::Recovery(reason) => panic!("{}", reason.name()),
        }
    };
    let mut sim = desk.start.clone();
    desk.force(&mut sim, &desk.new.bytes, SwapType::Test);
    assert_eq!(boot(&mut sim, Reset::Power), (3, true));
    assert_eq!(boot(&mut sim, Reset::Watchdog), (2, false));
    desk.force(&mut sim, &[0; 100], SwapType::Test);
    assert_eq!(boot(&mut sim, Reset::Power), (2, false));
    // One worn half is no loss at all: the other one takes the record.
    let mut sim = desk.start.clone();
    desk.force(&mut sim, &desk.new.bytes, SwapType::Test);
    desk.body.boot_to(&mut sim, Reset::Power, "new", true).unwrap();
    let (mut root, mut scratch) = (vec![0; 4096], [0; 256]);
    let buffers = Buffers {
        root: &mut root,
        scratch: &mut scratch,
    };
    let first = desk.body.layout.boot_log[0];
    let outcome = boot::run(
        &mut Worn(&mut sim.nor, [first; 2]),
        &desk.body.board(),
        Reset::Watchdog,
        buffers,
    );
    assert!(matches!(outcome, Outcome::Start(start) if !start.trial), "{outcome:?}");
    let told = engine::bootlog::last(&mut sim.nor, &desk.body.layout).unwrap().unwrap();
    assert_eq!(told.reason, Reason::RevertedWatchdog.number());
}

/// Whoever could write the logs once cannot end them: the generation after the last one is the first.
#[test]
fn logs_outlive_their_last_generation() {
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape, Scheme::TestOnlyHash);
        let mut sim = desk.start.clone();
        let last = HalfHeader { generation: u32::MAX }.encode();
        for half in [desk.body.layout.boot_log[1], desk.body.layout.journal[1]] {
            let sector = sim.nor.sector(half.start).unwrap();
            sim.nor.erase(sector).unwrap();
            sim.nor.write(half.start, last.as_bytes()).unwrap();
        }
        for (sequence, reset, reason) in [
            (7, Reset::Watchdog, 931),
            (8, Reset::Fault, 932),
            (9, Reset::Power, 930),
        ] {
            let file = desk.body.authority.release(sequence, &desk.new.bytes, 3).build();
            assert_eq!(desk.body.install(&mut sim, &file, 4000), Ok(Step::Staged), "{shape}");
            let request = desk
                .body
                .app(&mut sim, |device| device.request_swap(None, SwapType::Test));
            request.unwrap();
            desk.body.boot_to(&mut sim, Reset::Software, "new", true).unwrap();
            desk.body.boot_to(&mut sim, reset, "old", false).unwrap();
            let ending = desk.body.app(&mut sim, |device| Ok(device.state().ending)).unwrap();
            let ending = ending.map(|ending| (ending.release.sequence, ending.reason));
            assert_eq!(ending, Some((sequence as u64, reason)), "{shape}");
        }
    }
}

/// One lost copy of the store is made whole at the next boot.
#[test]
fn a_lost_copy_of_the_store_is_healed() {
    let desk = Desk::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash);
    let trust = desk.body.layout.trust;
    for _ in 0..2 {
        let mut sim = desk.start.clone();
        for (lost, other) in [(trust[0], trust[1]), (trust[1], trust[0])] {
            for at in [0, 40, 130, 400] {
                let before = desk.body.counter(&mut sim.nor);
                sim.nor.corrupt(lost.start + at, 0x11);
                desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
                let root = desk.body.authority.trust_root.build();
                for copy in [lost, other] {
                    assert_eq!(sim.nor.cells()[copy.start as usize + 128..][..root.len()], root);
                }
                assert!(desk.body.counter(&mut sim.nor) >= before);
                desk.body.boot_steady(&mut sim, "old").unwrap();
            }
        }
    }
}

/// A device without root or image answers, and one with an image but no root starts nothing.
#[test]
fn without_root_or_image_recovery_answers() {
    let desk = Desk::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash);
    let mut empty = Sim::new(desk.body.provisioned(), Default::default());
    assert_eq!(
        desk.body.boot(&mut empty, Reset::Power),
        Ok(Boot::Recovery(Reason::NoBootableImage))
    );
    let (mut nor, layout) = desk.body.shape.blank();
    nor.program(layout.primary.start, &desk.old.bytes);
    assert_eq!(nor.erased(), 0xff);
    let mut blank = Sim::new(nor, Default::default());
    assert_eq!(
        desk.body.boot_unstored(&mut blank, Reset::Power),
        Ok(Boot::Recovery(Reason::NoRoot))
    );
}

/// A primary slot as a programmer leaves it when the image was padded by imgtool: with magic, or magic and confirm flag,
/// and nothing else. It runs, is left as it is (format sheet, section 10, number 4), and takes updates.
#[test]
fn padded_images_run_and_take_updates() {
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape, Scheme::TestOnlyHash);
        let slots = Slots::new(&desk.body.layout, &desk.start.nor).unwrap();
        let trailer = slots.trailer(engine::layout::SlotId::Primary);
        let start = desk.body.layout.primary.start;
        for confirmed in [false, true] {
            let mut nor = desk.body.provisioned();
            nor.program(start, &desk.old.bytes);
            let magic = codec::mcuboot::trailer::magic(trailer.max_align());
            nor.program(desk.body.layout.primary.end() - magic.len() as u32, &magic);
            if confirmed {
                nor.program(start + trailer.image_ok_at(), &[1]);
            }
            let ledger = Ledger {
                confirmed: Some("old"),
                ..Ledger::default()
            };
            let mut sim = Sim::new(nor, ledger);
            desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
            desk.body.boot_steady(&mut sim, "old").unwrap();
            // Magic alone confirms nothing: the application does, as MCUboot's do, and then the counter counts.
            assert_eq!(desk.body.counter(&mut sim.nor), Some(if confirmed { 2 } else { 0 }));
            desk.body.confirm(&mut sim, "old").unwrap();
            let settled = desk.body.app(&mut sim, |device| Ok(device.is_confirmed()?));
            assert_eq!(settled, Ok(true), "{shape}");
            desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
            assert_eq!(desk.body.counter(&mut sim.nor), Some(2), "{shape}");
            desk.body.boot_steady(&mut sim, "old").unwrap();
            desk.force(&mut sim, &desk.new.bytes, SwapType::Test);
            desk.body.boot_to(&mut sim, Reset::Power, "new", true).unwrap();
            desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
            desk.body.boot_steady(&mut sim, "old").unwrap();
        }
    }
}
