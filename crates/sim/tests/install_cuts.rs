//! Power cuts at every operation of an installation and of all that follows it: resumed, requested, tried, confirmed or
//! taken back, and the device's memory of it right at every step.

use ampoule_sim::body::{Body, Boot, Made, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Scheme};
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;

/// A production device, and the releases that it meets.
struct Story {
    body: Body,
    new: Made,
    /// Release 9: the new image.
    file: Vec<u8>,
    /// Release 8 of an image below the new one's counter.
    older: Vec<u8>,
    /// Release 10 of the next image.
    newer: Vec<u8>,
    /// Release 11 of an image below the new one's counter.
    low: Vec<u8>,
    piece: usize,
    start: Sim,
}

impl Story {
    fn new(shape: Shape, scheme: Scheme, lens: (usize, usize), piece: usize, given_up: usize) -> Story {
        let mut body = Body::new(shape, Authority::new(scheme));
        let old = body.make("old", lens.0, 1);
        let new = body.make("new", lens.1, 2);
        let next = body.make("next", lens.1 - 7, 3);
        let low = body.make("low", lens.1 - 9, 1);
        let mut start = body.factory(&old);
        body.boot_to(&mut start, Reset::Power, "old", false).unwrap();
        let release = |sequence, image: &Made| body.authority.release(sequence, &image.bytes, image.counter).build();
        let (file, older) = (release(9, &new), release(8, &low));
        let (newer, low) = (release(10, &next), release(11, &low));
        let mut story = Story {
            body,
            new,
            file,
            older,
            newer,
            low,
            piece,
            start,
        };
        story.give_up(given_up);
        story
    }

    /// Releases that were received and dropped before: they bring the journal to where it changes its half.
    fn give_up(&mut self, times: usize) {
        let mut sim = self.start.clone();
        for _ in 0..times {
            self.install(&mut sim, &self.older).unwrap();
            self.body.app(&mut sim, |device| device.erase_staging()).unwrap();
        }
        self.start = sim;
    }

    /// From the first byte of the release to the steady new image, or back to the old one.
    fn scenario(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        self.install(sim, &self.file)?;
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "new", true)?;
        if confirms {
            self.body.confirm(sim, "new")?;
            self.settle(sim)?;
            self.body.boot_to(sim, Reset::Software, "new", false)?;
            return self.body.boot_steady(sim, "new");
        }
        self.body.boot_to(sim, Reset::Watchdog, "old", false)?;
        self.settle(sim)
    }

    /// After a cut: as a server would, that asks the device what runs and sends the release until it does.
    fn recover(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        let mut boot = self.body.boot(sim, Reset::Power)?;
        self.settle(sim)?;
        if boot == Boot::Runs("old", false) {
            self.install(sim, &self.file)?;
            self.request(sim)?;
            boot = self.body.boot(sim, Reset::Software)?;
            ensure(boot == Boot::Runs("new", true), || {
                format!("{boot:?} after the request")
            })?;
        }
        ensure(matches!(boot, Boot::Runs("new", _)), || {
            format!("{boot:?}, although both images are whole")
        })?;
        if boot == Boot::Runs("new", true) {
            let refused = self.body.install(sim, &self.newer, self.piece);
            ensure(refused.as_ref().is_err_and(|what| what.starts_with("613 ")), || {
                format!("trial: {refused:?}")
            })?;
            if !confirms {
                self.body.boot_to(sim, Reset::Power, "old", false)?;
                return self.judge_reverted(sim);
            }
            self.body.confirm(sim, "new")?;
        }
        self.body.boot_to(sim, Reset::Software, "new", false)?;
        self.judge_confirmed(sim)?;
        self.body.boot_steady(sim, "new")
    }

    fn install(&self, sim: &mut Sim, file: &[u8]) -> Result<(), String> {
        let step = self.body.install(sim, file, self.piece)?;
        ensure(step == Step::Staged, || format!("{step:?} instead of staged"))
    }

    fn request(&self, sim: &mut Sim) -> Result<(), String> {
        self.body.app(sim, |device| device.request_swap(None, SwapType::Test))
    }

    /// The application starts: the journal is repaired from what the bootloader did.
    fn settle(&self, sim: &mut Sim) -> Result<(), String> {
        self.body.app(sim, |_| Ok(()))
    }

    fn judge_confirmed(&self, sim: &mut Sim) -> Result<(), String> {
        let (pending, floor) = self
            .body
            .app(sim, |device| Ok((device.state().pending, device.counter_floor()?)))?;
        ensure(sim.ledger().committed == Some(9), || {
            format!("committed is {:?}", sim.ledger().committed)
        })?;
        ensure(pending.is_none() && floor == 2, || {
            format!("pending {pending:?}, floor {floor}")
        })?;
        let again = self.body.install(sim, &self.file, self.piece);
        ensure(again == Ok(Step::AlreadyInstalled), || {
            format!("the same release again: {again:?}")
        })
    }

    fn judge_reverted(&self, sim: &mut Sim) -> Result<(), String> {
        let (pending, ending) = self
            .body
            .app(sim, |device| Ok((device.state().pending, device.state().ending)))?;
        ensure(pending.is_none(), || format!("still pending: {pending:?}"))?;
        let told = ending.is_some_and(|ending| ending.reverted && ending.reason == 930 && ending.release.sequence == 9);
        ensure(told, || format!("a revert is remembered as {ending:?}"))?;
        ensure(sim.ledger().committed.is_none(), || {
            "a release that went back is committed".into()
        })?;
        self.body.boot_steady(sim, "old")
    }

    /// What must still be refused, changing nothing, and that the next release goes all the way.
    fn go_on(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if confirms {
            for (file, number) in [(&self.older, "607 "), (&self.low, "610 ")] {
                let before = sim.nor.clone();
                let refused = self.body.install(sim, file, self.piece);
                ensure(refused.as_ref().is_err_and(|what| what.starts_with(number)), || {
                    format!("{refused:?}")
                })?;
                ensure(before.cells() == sim.nor.cells(), || {
                    format!("{number} changed the flash")
                })?;
            }
        }
        self.install(sim, &self.newer)?;
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "next", true)?;
        self.body.confirm(sim, "next")?;
        self.body.boot_to(sim, Reset::Software, "next", false)?;
        self.settle(sim)?;
        ensure(sim.ledger().committed == Some(10), || {
            format!("committed is {:?}", sim.ledger().committed)
        })
    }
}

fn soak() -> bool {
    std::env::var_os("AMPOULE_SOAK").is_some()
}

fn both_ways(story: &Story, name: &str, torn: u32, nested: &[Nested]) -> Tally {
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
        let story = Story::new(
            shape,
            Scheme::TestOnlyHash,
            lens,
            [100, 1500, 65536][number % 3],
            number % 5,
        );
        assert_eq!(story.new.bytes.len(), lens.1);
        total.add(findings.gather(|| both_ways(&story, &format!("install {shape} {lens:?}"), torn, &[])));
    }
    println!("single cuts of an installation: {total}");
    findings.tell();
}

#[test]
fn cuts_in_a_row_of_an_installation() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (number, shape) in shapes(Shape::small).into_iter().enumerate() {
        let story = Story::new(shape, Scheme::TestOnlyHash, (1400, 2600), 700, number % 5);
        let nested = if soak() {
            [Nested::Sample(12), Nested::Sample(2)]
        } else {
            [Nested::Sample(1); 2]
        };
        total.add(findings.gather(|| both_ways(&story, &format!("install rows {shape}"), 1, &nested)));
    }
    println!("cuts in a row of an installation: {total}");
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
        let story = Story::new(shape, Scheme::TestOnlyHash, (500, 700), 300, number % 3);
        let nested = [Nested::All { torn: 1 }];
        total.add(findings.gather(|| both_ways(&story, &format!("install pairs {shape}"), 1, &nested)));
    }
    println!("pairs of cuts of an installation: {total}");
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
        let story = Story::new(shape, Scheme::TestOnlyHash, (9_000, 18_500), 5000, number);
        let torn = if soak() { 8 } else { 1 };
        total.add(findings.gather(|| both_ways(&story, &format!("detached {shape}"), torn, &[])));
        let nested = [Nested::Sample(if soak() { 8 } else { 1 })];
        total.add(findings.gather(|| both_ways(&story, &format!("detached rows {shape}"), torn, &nested)));
    }
    println!("cuts of an installation with a detached table: {total}");
    findings.tell();
}
