//! That and why a new image did not stay: told by the journal and the report, whatever happened on the way.

use ampoule_sim::body::{Body, Made, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Scheme};
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;
use engine::journal::Ending;
use engine::report::{REPORT_BYTES_MAX, report};
use std::sync::atomic::{AtomicU64, Ordering};

struct Desk {
    body: Body,
    new: Made,
    requested: Sim,
}

impl Desk {
    /// A device that was asked to try release 9.
    fn new(shape: Shape) -> Desk {
        let mut body = Body::new(shape, Authority::new(Scheme::TestOnlyHash));
        let old = body.make("old", 1500, 1);
        let new = body.make("new", 1900, 2);
        let mut sim = body.factory(&old);
        body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
        let mut desk = Desk {
            body,
            new,
            requested: sim.clone(),
        };
        desk.install_and_request(&mut sim);
        desk.requested = sim;
        desk
    }

    fn install_and_request(&self, sim: &mut Sim) {
        let file = self.body.authority.release(9, &self.new.bytes, 2).build();
        assert_eq!(self.body.install(sim, &file, 1000), Ok(Step::Staged));
        self.body
            .app(sim, |device| device.request_swap(None, SwapType::Test))
            .unwrap();
    }

    fn trial(&self) -> Sim {
        let mut sim = self.requested.clone();
        self.body.boot_to(&mut sim, Reset::Software, "new", true).unwrap();
        sim
    }

    fn ending(&self, sim: &mut Sim) -> Result<Option<Ending>, String> {
        self.body.app(sim, |device| Ok(device.state().ending))
    }

    fn told(&self, sim: &mut Sim, reverted: bool, reason: u16) {
        for _ in 0..3 {
            let ending = self.ending(sim).unwrap().expect("the last release did not stay");
            assert_eq!(
                (ending.release.sequence, ending.reverted, ending.reason),
                (9, reverted, reason)
            );
            let written = self.body.app(sim, |device| {
                let mut buffer = [0; REPORT_BYTES_MAX];
                Ok(report(device, &mut buffer)?.to_vec())
            });
            // Key 9: [9, digest, reverted, reason].
            let mut entry = vec![9, 0x84, 9, 0x58, 32];
            entry.extend(ending.release.digest);
            entry.extend([u8::from(reverted), 0x19]);
            entry.extend(reason.to_be_bytes());
            let written = written.unwrap();
            assert!(
                written.windows(entry.len()).any(|window| window == entry),
                "{written:x?}"
            );
            self.body.boot_steady(sim, "old").unwrap();
        }
    }
}

#[test]
fn every_kind_of_reset_has_its_reason() {
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape);
        for (reset, reason) in [
            (Reset::Power, 930),
            (Reset::Software, 930),
            (Reset::Watchdog, 931),
            (Reset::Fault, 932),
        ] {
            let mut sim = desk.trial();
            desk.body.boot_to(&mut sim, reset, "old", false).unwrap();
            desk.told(&mut sim, true, reason);
            // The same release may be tried again, and confirmed.
            desk.install_and_request(&mut sim);
            desk.body.boot_to(&mut sim, Reset::Software, "new", true).unwrap();
            desk.body.confirm(&mut sim, "new").unwrap();
            desk.body.boot_to(&mut sim, Reset::Software, "new", false).unwrap();
            assert_eq!(sim.ledger().committed, Some(9));
        }
    }
}

/// Tried twice, taken back twice, for different reasons: the last one is told.
#[test]
fn the_last_reason_counts() {
    let desk = Desk::new(Shape::small(4, 0xff, true));
    let mut sim = desk.trial();
    desk.body.boot_to(&mut sim, Reset::Watchdog, "old", false).unwrap();
    desk.told(&mut sim, true, 931);
    for (reset, reason) in [(Reset::Fault, 932), (Reset::Fault, 932), (Reset::Power, 930)] {
        desk.install_and_request(&mut sim);
        desk.body.boot_to(&mut sim, Reset::Software, "new", true).unwrap();
        desk.body.boot_to(&mut sim, reset, "old", false).unwrap();
        desk.told(&mut sim, true, reason);
    }
}

#[test]
fn an_image_that_decays_on_trial_is_told_as_invalid() {
    let desk = Desk::new(Shape::small(4, 0xff, true));
    let mut sim = desk.trial();
    sim.nor.corrupt(desk.body.layout.primary.start + 700, 1);
    desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
    desk.told(&mut sim, true, 933);
}

#[test]
fn an_image_that_decays_before_its_trial_is_given_up() {
    let desk = Desk::new(Shape::small(4, 0xff, true));
    let mut sim = desk.requested.clone();
    sim.nor.corrupt(desk.body.staging_address() + 700, 1);
    desk.body.boot_to(&mut sim, Reset::Power, "old", false).unwrap();
    desk.told(&mut sim, false, 905);
}

/// The watchdog bit, and then the power failed while the old image came back: it was the watchdog all the same, unless
/// the power failed before the bootloader had noted anything.
#[test]
fn a_cut_does_not_change_the_reason() {
    let torn = 3;
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape);
        let forgotten = AtomicU64::new(0);
        let campaign = Campaign::new(format!("reason {shape}"), torn, &[]);
        let scenario = |sim: &mut Sim| desk.body.boot_to(sim, Reset::Watchdog, "old", false);
        let aftermath = |sim: &mut Sim| {
            desk.body.boot_to(sim, Reset::Power, "old", false)?;
            let ending = desk.ending(sim)?;
            let reason = ending.filter(|ending| ending.reverted).map(|ending| ending.reason);
            if reason == Some(930) {
                forgotten.fetch_add(1, Ordering::Relaxed);
            }
            ensure(matches!(reason, Some(930 | 931)), || format!("told as {ending:?}"))
        };
        total.add(findings.gather(|| explore(&campaign, &desk.trial(), scenario, aftermath)));
        let forgotten = forgotten.into_inner();
        assert!(
            forgotten <= u64::from(1 + torn),
            "{shape}: the watchdog was forgotten after {forgotten} cuts"
        );
    }
    total.tell("cuts while going back");
    findings.tell();
}

/// The power fails while the new image comes in: what is told is right for what happened.
#[test]
fn a_cut_while_the_image_comes_in_tells_no_lies() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape);
        let campaign = Campaign::new(format!("told {shape}"), 3, &[]);
        let scenario = |sim: &mut Sim| desk.body.boot_to(sim, Reset::Software, "new", true);
        let aftermath = |sim: &mut Sim| {
            desk.body.boot(sim, Reset::Power)?;
            let tried = sim.ledger().starts.iter().any(|start| start.0 == "new");
            let ending = desk.ending(sim)?;
            let runs = sim.ledger().starts.last().map(|start| start.0);
            ensure(ending.is_none() == (runs == Some("new")), || {
                format!("{runs:?} runs, told: {ending:?}")
            })?;
            ensure(!tried || ending.is_none_or(|ending| ending.reason == 930), || {
                format!("told: {ending:?}")
            })
        };
        total.add(findings.gather(|| explore(&campaign, &desk.requested, scenario, aftermath)));
    }
    total.tell("cuts while coming in");
    findings.tell();
}
