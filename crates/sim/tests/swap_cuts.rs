//! Power cuts at every operation of request, swap, trial, confirmation and revert, clean and torn, on every shape of
//! flash and with new images shorter than, as long as and longer than the old one.

use ampoule_sim::body::{Body, Boot, Made, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Scheme};
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::layout::SlotId;
use std::sync::atomic::{AtomicU64, Ordering};

/// One device with an image to go from, one to go to, and one for afterwards.
struct Story {
    body: Body,
    old: Made,
    new: Made,
    next: Made,
    start: Sim,
}

impl Story {
    fn new(shape: Shape, scheme: Scheme, lens: (usize, usize)) -> Story {
        let mut authority = Authority::new(scheme);
        // Development: images may be staged without a release, which is tried in install_cuts.
        authority.trust_root.environment = Some(1);
        let mut body = Body::new(shape, authority);
        let old = body.make("old", lens.0, 1);
        let new = body.make("new", lens.1, 2);
        let next = body.make("next", (lens.0 + lens.1) / 2, 3);
        let mut start = body.factory(&old);
        body.boot_to(&mut start, Reset::Power, "old", false).unwrap();
        body.stage(&mut start.nor, &new.bytes);
        Story {
            body,
            old,
            new,
            next,
            start,
        }
    }

    fn request(&self, sim: &mut Sim) -> Result<(), String> {
        self.body.app(sim, |device| device.request_swap(None, SwapType::Test))?;
        sim.note(|ledger| ledger.done.push("requested"));
        Ok(())
    }

    /// From the request to the confirmed new image.
    fn upgrade(&self, sim: &mut Sim) -> Result<(), String> {
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "new", true)?;
        self.body.confirm(sim, "new")?;
        self.body.boot_to(sim, Reset::Software, "new", false)?;
        self.body.boot_steady(sim, "new")
    }

    /// From the request to the old image again.
    fn revert(&self, sim: &mut Sim) -> Result<(), String> {
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "new", true)?;
        self.body.boot_to(sim, Reset::Watchdog, "old", false)?;
        self.body.boot_steady(sim, "old")
    }

    fn scenario(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if confirms { self.upgrade(sim) } else { self.revert(sim) }
    }

    /// Life after a cut. Power comes back; whatever was under way is finished or taken back; the new image is confirmed
    /// or not. Can itself be cut anywhere and begun again.
    fn recover(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if self.first_boot(sim)? == Boot::Runs("old", false) {
            self.while_old_runs(sim, confirms)
        } else {
            self.finish_trial(sim, confirms)
        }
    }

    fn first_boot(&self, sim: &mut Sim) -> Result<Boot, String> {
        let boot = self.body.boot(sim, Reset::Power)?;
        ensure(matches!(boot, Boot::Runs(..)), || {
            format!("{boot:?}, although both images are whole")
        })?;
        Ok(boot)
    }

    /// The request did not arrive, or the trial is over. If the new image is still staged, it can be requested again.
    fn while_old_runs(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        self.body.boot_steady(sim, "old")?;
        let staged = self
            .body
            .image_at(&sim.nor, self.body.staging_address())
            .map(|image| image.name);
        ensure(staged == Some("new"), || format!("{staged:?} is staged"))?;
        self.request(sim)?;
        let boot = self.first_boot(sim)?;
        ensure(boot == Boot::Runs("new", true), || {
            format!("{boot:?} after the second request")
        })?;
        self.finish_trial(sim, confirms)
    }

    fn finish_trial(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if sim.ledger().starts.last() == Some(&("new", true)) {
            self.judge_trial(sim)?;
            if confirms {
                self.body.confirm(sim, "new")?;
            }
            let left = if confirms { "new" } else { "old" };
            self.body.boot_to(sim, Reset::Software, left, false)?;
        }
        let runs = sim.ledger().starts.last().map_or("nothing", |start| start.0);
        self.body.boot_steady(sim, runs)
    }

    /// Law L10: while an image is on trial its fallback stays whole, and nobody may erase it.
    fn judge_trial(&self, sim: &mut Sim) -> Result<(), String> {
        let fallback = self.body.fallback(&sim.nor).map(|image| image.name);
        ensure(fallback == Some("old"), || {
            format!("{fallback:?} is the fallback of the trial")
        })?;
        let refused = self.body.app(sim, |device| device.erase_staging());
        ensure(refused.as_ref().is_err_and(|what| what.starts_with("613 ")), || {
            format!("erase: {refused:?}")
        })
    }

    /// Afterwards the device still takes an update.
    fn update_to_next(&self, sim: &mut Sim) -> Result<(), String> {
        let runs = sim.ledger().starts.last().map_or("nothing", |start| start.0);
        self.body.stage(&mut sim.nor, &self.next.bytes);
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "next", true)?;
        let fallback = self.body.fallback(&sim.nor).map(|image| image.name);
        ensure(fallback == Some(runs), || {
            format!("{fallback:?} is the fallback, {runs} ran")
        })?;
        self.body.confirm(sim, "next")?;
        self.body.boot_to(sim, Reset::Software, "next", false)?;
        ensure(self.body.counter(&mut sim.nor) == Some(3), || {
            "the counter was not raised".into()
        })
    }
}

/// Shorter, as long, longer; short ones end in the middle of a sector, the longest fills all sectors there are.
fn lengths(shape: Shape) -> [(usize, usize); 4] {
    let longest = Body::new(shape, Authority::new(Scheme::TestOnlyHash)).image_len_max();
    let short = shape.sector as usize + 40;
    [(longest, short), (short, longest), (longest, longest), (short, short)]
}

fn soak() -> bool {
    std::env::var_os("AMPOULE_SOAK").is_some()
}

/// Both scenarios, and the way on from each cut that fits: with confirmation, and without.
fn both_ways(name: &str, explore: impl Fn(String, bool) -> Tally) -> Tally {
    let mut total = explore(format!("{name} confirm"), true);
    total.add(explore(format!("{name} revert"), false));
    total
}

/// A cut may cost an image its trial only when it tears the one write that ends the swap: in all other cases the image
/// that was asked for is tried.
fn single_cuts(story: &Story, name: String, confirms: bool, torn: u32) -> Tally {
    let lost = AtomicU64::new(0);
    let aftermath = |sim: &mut Sim| {
        let before = sim.ledger().starts.clone();
        let asked = sim.ledger().done.contains(&"requested") && before.iter().all(|start| start.0 != "new");
        story.recover(sim, confirms)?;
        if asked && sim.ledger().starts.get(before.len()) == Some(&("old", false)) {
            lost.fetch_add(1, Ordering::Relaxed);
        }
        story.update_to_next(sim)
    };
    let campaign = Campaign::new(name, torn, &[]);
    let tally = explore(&campaign, &story.start, |sim| story.scenario(sim, confirms), aftermath);
    let lost = lost.into_inner();
    assert!(lost <= u64::from(torn), "{}: {lost} trials were lost", campaign.name);
    tally
}

fn nested_cuts(story: &Story, name: String, confirms: bool, torn: u32, nested: &[Nested]) -> Tally {
    let campaign = Campaign::new(name, torn, nested);
    let scenario = |sim: &mut Sim| story.scenario(sim, confirms);
    explore(&campaign, &story.start, scenario, |sim| story.recover(sim, confirms))
}

#[test]
fn single_cuts_on_every_shape() {
    let torn = if soak() { 24 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        for lens in lengths(shape) {
            let story = Story::new(shape, Scheme::TestOnlyHash, lens);
            assert_eq!((story.old.bytes.len(), story.new.bytes.len()), lens);
            total.add(findings.gather(|| {
                both_ways(&format!("{shape} {lens:?}"), |name, confirms| {
                    single_cuts(&story, name, confirms, torn)
                })
            }));
        }
    }
    println!("single cuts: {total}");
    findings.tell();
}

/// Every pair of cuts on tiny devices: each cut of the scenario, then each cut of what follows it.
#[test]
fn pairs_of_cuts_on_tiny_shapes() {
    let everything = shapes(Shape::tiny);
    let chosen = [
        Shape::tiny(1, 0xff, true),
        Shape::tiny(8, 0x00, false),
        Shape::tiny(32, 0xff, true),
    ];
    let chosen = if soak() { &everything[..] } else { &chosen };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for &shape in chosen {
        for lens in &lengths(shape)[..2] {
            let story = Story::new(shape, Scheme::TestOnlyHash, *lens);
            total.add(findings.gather(|| {
                both_ways(&format!("pairs {shape} {lens:?}"), |name, confirms| {
                    nested_cuts(&story, name, confirms, 1, &[Nested::All { torn: 1 }])
                })
            }));
        }
    }
    println!("pairs of cuts: {total}");
    findings.tell();
}

/// Three cuts in a row, drawn by seed, on every shape.
#[test]
fn sampled_cuts_in_a_row_on_every_shape() {
    let few = if soak() { 8 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        for lens in lengths(shape) {
            let story = Story::new(shape, Scheme::TestOnlyHash, lens);
            total.add(findings.gather(|| {
                both_ways(&format!("rows {shape} {lens:?}"), |name, confirms| {
                    nested_cuts(&story, name, confirms, 1, &[Nested::Sample(few), Nested::Sample(1)])
                })
            }));
        }
    }
    println!("cuts in a row: {total}");
    findings.tell();
}

/// The same with real signatures, on fewer shapes because a verification costs more than all the rest.
#[test]
fn single_cuts_with_real_signatures() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (scheme, shape) in [
        (Scheme::P256, Shape::small(8, 0xff, true)),
        (Scheme::Ed25519, Shape::small(4, 0x00, false)),
    ] {
        let story = Story::new(shape, scheme, (3000, 1600));
        total.add(findings.gather(|| {
            both_ways(&format!("{scheme:?} {shape}"), |name, confirms| {
                single_cuts(&story, name, confirms, 1)
            })
        }));
    }
    println!("with real signatures: {total}");
    findings.tell();
}

#[test]
fn the_slots_are_where_the_shape_says() {
    let story = Story::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash, (900, 900));
    let secondary = story.body.slot(SlotId::Secondary);
    assert_eq!(
        story.body.area(&story.start.nor, secondary)[512..512 + 900],
        story.new.bytes
    );
}
