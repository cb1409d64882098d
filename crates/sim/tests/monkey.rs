//! A device in the hands of somebody who does everything in any order: uploads whole, cut short and damaged, requests,
//! confirmations, erasures, resets of every kind, power cuts and failing operations. The laws hold at every step, and at
//! the end a patient server brings the newest release to it.

use ampoule_sim::body::{Body, Boot, POWER_FAILED, Sim};
use ampoule_sim::chance::Chance;
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Scheme};
use ampoule_sim::nor::Fault;
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;
use std::collections::BTreeMap;

struct Monkey {
    body: Body,
    sim: Sim,
    files: Vec<Vec<u8>>,
    chance: Chance,
    /// What runs, since the last boot.
    runs: Option<(&'static str, bool)>,
    seen: BTreeMap<String, u32>,
}

impl Monkey {
    fn new(shape: Shape, seed: u64) -> Monkey {
        let mut body = Body::new(shape, Authority::new(Scheme::TestOnlyHash));
        let mut chance = Chance::new(seed);
        let longest = body.image_len_max() - 300;
        let mut make = |name, counter| body.make(name, 300 + chance.below(longest as u64) as usize, counter);
        let factory = make("factory", 1);
        let images = [make("a", 1), make("b", 2), make("c", 2), make("newest", 3)];
        let releases = [3, 5, 7, 8].into_iter().zip(&images);
        let files =
            releases.map(|(sequence, image)| body.authority.release(sequence, &image.bytes, image.counter).build());
        let files = files.collect();
        let sim = body.factory(&factory);
        Monkey {
            body,
            sim,
            files,
            chance,
            runs: None,
            seen: BTreeMap::new(),
        }
    }

    fn live(&mut self, steps: u32) -> Result<(), String> {
        self.boot(Reset::Power)?;
        for _ in 0..steps {
            self.maybe_plan_a_fault();
            let reset = [Reset::Software, Reset::Watchdog, Reset::Fault][self.chance.below(3) as usize];
            let result = match self.chance.below(10) {
                0 => self.boot(Reset::Power),
                1 => self.boot(reset),
                2..4 => self.push(),
                4..7 => self.app(|body, sim, _| body.app(sim, |device| device.request_swap(None, SwapType::Test))),
                7..9 => self.app(|body, sim, runs| body.confirm(sim, runs)),
                _ => self.app(|body, sim, _| body.app(sim, |device| device.erase_staging())),
            };
            self.weigh(result)?;
        }
        self.sim.nor.power_on();
        self.patience()
    }

    /// A refusal with its number is an answer, and so is a power cut; anything else is a broken law.
    fn weigh(&mut self, result: Result<(), String>) -> Result<(), String> {
        if !self.sim.nor.is_powered() {
            self.count("power cut");
            self.sim.nor.power_on();
            return self.boot(Reset::Power);
        }
        match result {
            Err(what) if what.starts_with(|first: char| first.is_ascii_digit()) => {
                self.count(what.split(':').next().unwrap_or(""));
                Ok(())
            }
            other => other,
        }
    }

    fn maybe_plan_a_fault(&mut self) {
        let torn = Fault::CutTorn(self.chance.next());
        let faults = [
            Fault::CutBefore,
            Fault::CutAfter,
            torn,
            torn,
            torn,
            Fault::GlitchBefore,
            Fault::GlitchAfter,
        ];
        if self.chance.below(4) == 0 {
            let operation = self.sim.nor.operations() + self.chance.below(60);
            self.sim
                .nor
                .plan(operation, faults[self.chance.below(faults.len() as u64) as usize]);
        }
    }

    fn boot(&mut self, reset: Reset) -> Result<(), String> {
        self.runs = None;
        match self.body.boot(&mut self.sim, reset) {
            Ok(Boot::Runs(name, trial)) => {
                self.count(&format!("{name}, trial {trial}"));
                self.runs = Some((name, trial));
                Ok(())
            }
            // Without a working flash there is nothing to start; the next reset tries again.
            Ok(Boot::Recovery(reason)) if reason.number() == 515 => {
                self.count("recovery for want of flash");
                Ok(())
            }
            Ok(Boot::Recovery(reason)) => Err(format!("recovery: {}", reason.name())),
            Err(what) if what == POWER_FAILED => Ok(()),
            Err(what) => Err(what),
        }
    }

    fn app(&mut self, act: impl FnOnce(&Body, &mut Sim, &'static str) -> Result<(), String>) -> Result<(), String> {
        match self.runs {
            Some((runs, _)) => act(&self.body, &mut self.sim, runs),
            None => Ok(()),
        }
    }

    /// One of the releases: whole or not, sound or not.
    fn push(&mut self) -> Result<(), String> {
        let mut file = self.files[self.chance.below(self.files.len() as u64) as usize].clone();
        if self.chance.below(5) == 0 {
            file.truncate(self.chance.below(file.len() as u64) as usize + 1);
        }
        if self.chance.below(6) == 0 {
            let at = self.chance.below(file.len() as u64) as usize;
            file[at] ^= 1 << self.chance.below(8);
        }
        let piece = 1 + self.chance.below(2000) as usize;
        self.app(|body, sim, _| body.install(sim, &file, piece).map(|_| ()))
    }

    fn count(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_insert(0) += 1;
    }

    /// A server that wants the newest release to run, and gives up after a dozen resets.
    fn patience(&mut self) -> Result<(), String> {
        for _ in 0..12 {
            self.boot(Reset::Power)?;
            match self.runs {
                Some(("newest", false)) => {
                    self.app(|body, sim, _| body.app(sim, |_| Ok(())))?;
                    self.body.boot_steady(&mut self.sim, "newest")?;
                    let (committed, counter) = (self.sim.ledger().committed, self.body.counter(&mut self.sim.nor));
                    return match (committed, counter) {
                        (Some(8), Some(3)) => Ok(()),
                        other => Err(format!("the newest runs, and the device remembers {other:?}")),
                    };
                }
                Some(("newest", true)) => self.app(|body, sim, runs| body.confirm(sim, runs))?,
                Some((_, true)) | None => {}
                Some((_, false)) => {
                    let file = self.files[3].clone();
                    let staged = self.body.install(&mut self.sim, &file, 900)?;
                    if staged != Step::Staged {
                        return Err(format!("{staged:?} instead of staged"));
                    }
                    self.app(|body, sim, _| body.app(sim, |device| device.request_swap(None, SwapType::Test)))?;
                }
            }
        }
        Err(format!(
            "the newest release does not run after a dozen resets: {:?}",
            self.sim.ledger()
        ))
    }
}

#[test]
fn whatever_happens_the_newest_release_runs_at_last() {
    let (from, rounds) = match std::env::var("AMPOULE_MONKEY").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed, 1),
        None => (
            0,
            if std::env::var_os("AMPOULE_SOAK").is_some() {
                50_000
            } else {
                1_000
            },
        ),
    };
    let shapes = shapes(Shape::small);
    let mut seen = BTreeMap::new();
    for seed in from..from + rounds {
        let mut monkey = Monkey::new(shapes[seed as usize % shapes.len()], seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| monkey.live(60)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(what)) => panic!("AMPOULE_MONKEY={seed}: {what}"),
            Err(_) => panic!("AMPOULE_MONKEY={seed} panicked, see above"),
        }
        for (what, times) in monkey.seen {
            *seen.entry(what).or_insert(0) += times;
        }
    }
    println!("{seen:?}");
}
