//! Devices, images and cuts drawn at random, for as long as there is time: `AMPOULE_SOAK_SECONDS`, and from which device
//! on: `AMPOULE_SOAK_FROM`. A failure names the device and the case.

use ampoule_sim::body::{Body, Sim};
use ampoule_sim::chance::Chance;
use ampoule_sim::cuts::{Campaign, Nested, Tally, explore};
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Authority, Scheme};
use ampoule_sim::story::{Installation, Upgrade};
use std::time::{Duration, Instant};

/// A device of any shape that the swap can handle, and lengths of two images for it.
fn device(chance: &mut Chance) -> (Shape, (usize, usize)) {
    loop {
        let primary_sectors = 5 + chance.below(12) as u32;
        let shape = Shape {
            write_size: 1 << chance.below(6),
            erased: [0xff, 0x00][chance.below(2) as usize],
            sector: 256 << chance.below(4),
            primary_sectors,
            extra_sector: chance.below(2) == 1,
            max_sectors: primary_sectors + chance.below(8) as u32,
        };
        let (nor, layout) = shape.blank();
        let longest = engine::layout::Slots::new(&layout, &nor).map_or(0, |slots| slots.image_len_max() as usize);
        if longest > LEN_MIN {
            let mut len = || LEN_MIN + 1 + chance.below((longest - LEN_MIN) as u64) as usize;
            return (shape, (len(), len()));
        }
    }
}

/// Bytes of the shortest image drawn: header, TLVs and a little payload, also for the images that stories make of it.
const LEN_MIN: usize = 300;

fn tell(number: u64, shape: &Shape, lens: (usize, usize), what: &str) -> String {
    format!("AMPOULE_SOAK_FROM={number} {shape} {lens:?} {what}")
}

fn upgrade(number: u64, chance: &mut Chance) -> Tally {
    let (shape, lens) = device(chance);
    let story = Upgrade::new(shape, Scheme::TestOnlyHash, lens);
    let confirms = chance.below(2) == 1;
    let campaign = Campaign::new(
        tell(number, &shape, lens, "upgrade"),
        2,
        &[Nested::Sample(1), Nested::Sample(1)],
    );
    let scenario = |sim: &mut Sim| story.scenario(sim, confirms);
    explore(&campaign, &story.start, scenario, |sim| story.recover(sim, confirms))
}

fn installation(number: u64, chance: &mut Chance) -> Tally {
    let (shape, lens) = device(chance);
    let lens = (lens.0, lens.1.min(TABLE_CHUNKS_MAX * 1024));
    let (piece, given_up) = (1 + chance.below(3000) as usize, chance.below(4) as usize);
    let story = Installation::new(shape, Scheme::TestOnlyHash, lens, piece, given_up);
    let confirms = chance.below(2) == 1;
    let campaign = Campaign::new(tell(number, &shape, lens, "installation"), 1, &[Nested::Sample(1)]);
    let scenario = |sim: &mut Sim| story.scenario(sim, confirms);
    explore(&campaign, &story.start, scenario, |sim| story.recover(sim, confirms))
}

/// Chunk hashes that the tiny devices have room for.
const TABLE_CHUNKS_MAX: usize = 32;

fn run(from: u64, time: Duration) -> (u64, Tally) {
    let (begun, mut number, mut total) = (Instant::now(), from, Tally::default());
    while begun.elapsed() < time {
        let mut chance = Chance::new(Chance::mix(0xa3b0, number));
        total.add(upgrade(number, &mut chance));
        total.add(installation(number, &mut chance));
        number += 1;
    }
    (number - from, total)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_few_random_devices() {
    let mut total = Tally::default();
    for number in 0..16 {
        let mut chance = Chance::new(Chance::mix(0xa3b0, number));
        total.add(upgrade(number, &mut chance));
        total.add(installation(number, &mut chance));
    }
    total.tell("random devices");
}

#[test]
#[ignore = "as long as AMPOULE_SOAK_SECONDS says"]
fn soak_of_power_cuts() {
    let seconds = variable("AMPOULE_SOAK_SECONDS").unwrap_or(60);
    let from = variable("AMPOULE_SOAK_FROM").unwrap_or(1000);
    let (devices, total) = run(from, Duration::from_secs(seconds));
    total.tell(&format!("soak of {devices} devices from {from} on"));
}

#[test]
fn the_longest_image_is_what_both_slots_can_swap() {
    let shape = Shape::small(8, 0xff, false);
    assert_eq!(
        Body::new(shape, Authority::new(Scheme::TestOnlyHash)).image_len_max(),
        8 * 512
    );
}
