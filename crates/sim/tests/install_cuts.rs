//! Power cuts at every operation of an installation and of all that follows it: resumed, requested, tried, confirmed or
//! taken back, and the device's memory of it right at every step.

use ampoule_sim::body::Sim;
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::Scheme;
use ampoule_sim::story::Installation;

fn soak() -> bool {
    std::env::var_os("AMPOULE_SOAK").is_some()
}

fn both_ways(story: &Installation, name: &str, torn: u32, nested: &[Nested]) -> Tally {
    let mut total = Tally::default();
    for confirms in [true, false] {
        let way = if confirms { "confirm" } else { "revert" };
        let campaign = Campaign::new(format!("{name} {way}"), torn, nested);
        let aftermath = |sim: &mut Sim| {
            story.recover(sim, confirms)?;
            // A device that was cut again and again may stand anywhere in the next release, which `recover` does not know.
            if nested.is_empty() {
                story.go_on(sim, confirms)
            } else {
                Ok(())
            }
        };
        total.add(explore(
            &campaign,
            &story.start,
            |sim| story.scenario(sim, confirms),
            aftermath,
        ));
    }
    total
}

#[test]
fn single_cuts_of_an_installation_on_every_shape() {
    let torn = if soak() { 16 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (number, shape) in shapes(Shape::small).into_iter().enumerate() {
        let lens = [(1000, 3000), (3000, 1000), (2500, 2500)][number % 3];
        let story = Installation::new(
            shape,
            Scheme::TestOnlyHash,
            lens,
            [100, 1500, 65536][number % 3],
            number % 5,
        );
        assert_eq!(story.new.bytes.len(), lens.1);
        total.add(findings.gather(|| both_ways(&story, &format!("install {shape} {lens:?}"), torn, &[])));
    }
    total.tell("single cuts of an installation");
    findings.tell();
}

#[test]
fn cuts_in_a_row_of_an_installation() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (number, shape) in shapes(Shape::small).into_iter().enumerate() {
        let story = Installation::new(shape, Scheme::TestOnlyHash, (1400, 2600), 700, number % 5);
        let nested = if soak() {
            [Nested::Sample(12), Nested::Sample(2)]
        } else {
            [Nested::Sample(1); 2]
        };
        total.add(findings.gather(|| both_ways(&story, &format!("install rows {shape}"), 1, &nested)));
    }
    total.tell("cuts in a row of an installation");
    findings.tell();
}

/// Every pair of cuts on tiny devices.
#[test]
fn pairs_of_cuts_of_an_installation() {
    let everything = shapes(Shape::tiny);
    let chosen = [Shape::tiny(4, 0xff, true), Shape::tiny(8, 0x00, false)];
    let chosen = if soak() { &everything[..] } else { &chosen };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (number, &shape) in chosen.iter().enumerate() {
        let story = Installation::new(shape, Scheme::TestOnlyHash, (500, 700), 300, number % 3);
        let nested = [Nested::All { torn: 1 }];
        total.add(findings.gather(|| both_ways(&story, &format!("install pairs {shape}"), 1, &nested)));
    }
    total.tell("pairs of cuts of an installation");
    findings.tell();
}

/// More chunks than fit into the manifest, sectors larger than a chunk, and a journal that changes its half many times.
#[test]
fn cuts_of_an_installation_with_a_detached_table() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (number, (write_size, erased)) in [(4, 0xff), (8, 0x00), (32, 0xff), (1, 0x00)].into_iter().enumerate() {
        let extra_sector = number % 2 == 0;
        let shape = Shape {
            write_size,
            erased,
            sector: 2048,
            primary_sectors: 12,
            extra_sector,
            max_sectors: 12,
        };
        let story = Installation::new(shape, Scheme::TestOnlyHash, (9_000, 18_500), 5000, number);
        let torn = if soak() { 8 } else { 1 };
        total.add(findings.gather(|| both_ways(&story, &format!("detached {shape}"), torn, &[])));
        let nested = [Nested::Sample(if soak() { 8 } else { 1 })];
        total.add(findings.gather(|| both_ways(&story, &format!("detached rows {shape}"), torn, &nested)));
    }
    total.tell("cuts of an installation with a detached table");
    findings.tell();
}
