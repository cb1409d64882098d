//! Power cuts at every operation of request, swap, trial, confirmation and revert, clean and torn, on every shape of
//! flash and with new images shorter than, as long as and longer than the old one.

use ampoule_sim::body::{Body, Boot, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Scheme};
use ampoule_sim::story::Upgrade;
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::layout::SlotId;
use std::sync::atomic::{AtomicU64, Ordering};

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
fn single_cuts(story: &Upgrade, name: String, confirms: bool, torn: u32) -> Tally {
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

fn nested_cuts(story: &Upgrade, name: String, confirms: bool, torn: u32, nested: &[Nested]) -> Tally {
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
            let story = Upgrade::new(shape, Scheme::TestOnlyHash, lens);
            assert_eq!((story.old.bytes.len(), story.new.bytes.len()), lens);
            total.add(findings.gather(|| {
                both_ways(&format!("{shape} {lens:?}"), |name, confirms| {
                    single_cuts(&story, name, confirms, torn)
                })
            }));
        }
    }
    total.tell("single cuts");
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
            let story = Upgrade::new(shape, Scheme::TestOnlyHash, *lens);
            total.add(findings.gather(|| {
                both_ways(&format!("pairs {shape} {lens:?}"), |name, confirms| {
                    nested_cuts(&story, name, confirms, 1, &[Nested::All { torn: 1 }])
                })
            }));
        }
    }
    total.tell("pairs of cuts");
    findings.tell();
}

/// Three cuts in a row, drawn by seed, on every shape.
#[test]
fn sampled_cuts_in_a_row_on_every_shape() {
    let few = if soak() { 8 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        for lens in lengths(shape) {
            let story = Upgrade::new(shape, Scheme::TestOnlyHash, lens);
            total.add(findings.gather(|| {
                both_ways(&format!("rows {shape} {lens:?}"), |name, confirms| {
                    nested_cuts(&story, name, confirms, 1, &[Nested::Sample(few), Nested::Sample(1)])
                })
            }));
        }
    }
    total.tell("cuts in a row");
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
        let story = Upgrade::new(shape, scheme, (3000, 1600));
        total.add(findings.gather(|| {
            both_ways(&format!("{scheme:?} {shape}"), |name, confirms| {
                single_cuts(&story, name, confirms, 1)
            })
        }));
    }
    total.tell("with real signatures");
    findings.tell();
}

/// Without a trial, as development may ask for: after any cut the new image is there for good, or on trial when the cut
/// took the part of the request that said so, or the request did not arrive. The old image is whole either way (format
/// sheet, section 10, number 1).
#[test]
fn single_cuts_of_a_permanent_upgrade() {
    let torn = if soak() { 16 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        for lens in lengths(shape) {
            let story = Upgrade::new(shape, Scheme::TestOnlyHash, lens);
            let campaign = Campaign::new(format!("permanent {shape} {lens:?}"), torn, &[]);
            let scenario = |sim: &mut Sim| {
                sim.note(|ledger| ledger.confirming = Some("new"));
                story
                    .body
                    .app(sim, |device| device.request_swap(None, SwapType::Permanent))?;
                sim.note(|ledger| ledger.done.push("requested"));
                story.body.boot_to(sim, Reset::Software, "new", false)?;
                story.body.boot_steady(sim, "new")
            };
            let aftermath = |sim: &mut Sim| {
                let requested = sim.ledger().done.contains(&"requested");
                let boot = story.body.boot(sim, Reset::Power)?;
                let expected = match boot {
                    Boot::Runs("new", false) => true,
                    Boot::Runs("new", true) | Boot::Runs("old", false) => !requested,
                    _ => false,
                };
                ensure(expected, || format!("{boot:?}, requested: {requested}"))?;
                if boot != Boot::Runs("old", false) {
                    let fallback = story.body.fallback(&sim.nor).map(|image| image.name);
                    ensure(fallback == Some("old"), || {
                        format!("{fallback:?} is in the secondary slot")
                    })?;
                }
                if boot == Boot::Runs("new", true) {
                    story.body.confirm(sim, "new")?;
                    story.body.boot_to(sim, Reset::Software, "new", false)?;
                }
                story.update_to_next(sim)
            };
            total.add(findings.gather(|| explore(&campaign, &story.start, scenario, aftermath)));
        }
    }
    total.tell("permanent upgrades");
    findings.tell();
}

#[test]
fn the_slots_are_where_the_shape_says() {
    let story = Upgrade::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash, (900, 900));
    let secondary = story.body.slot(SlotId::Secondary);
    assert_eq!(
        story.body.area(&story.start.nor, secondary)[512..512 + 900],
        story.new.bytes
    );
}
