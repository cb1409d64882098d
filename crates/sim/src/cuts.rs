//! Power cuts at every operation of a scenario, and cuts while recovering from a cut.
//!
//! A cut loses everything but the flash, so the states that a cut can leave follow from the list of operations: the
//! scenario runs once under a trace, and each state is made by replaying the trace. "After operation k" and "before
//! operation k + 1" are one state and are tried once. [`explore`] runs the aftermath on every such state; the aftermath
//! boots, lives on, and judges. With nested cuts the aftermath is itself traced and cut.

use crate::chance::Chance;
use crate::nor::{Fault, Nor, Operation};
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A device and what an observer outside has seen of it so far.
#[derive(Clone, Debug)]
pub struct World<L> {
    /// The device's flash: all that survives a cut.
    pub nor: Nor,
    ledger: L,
    history: Vec<(u64, L)>,
}

impl<L: Clone> World<L> {
    /// A device of which this much is known.
    pub fn new(nor: Nor, ledger: L) -> Self {
        World {
            nor,
            ledger,
            history: Vec::new(),
        }
    }

    /// What has been seen.
    pub fn ledger(&self) -> &L {
        &self.ledger
    }

    /// Notes something at this moment: a later cut does not undo it, an earlier one does not know it.
    pub fn note(&mut self, change: impl FnOnce(&mut L)) {
        change(&mut self.ledger);
        self.history.push((self.nor.operations(), self.ledger.clone()));
    }

    fn branch(&self) -> Self {
        World {
            nor: self.nor.clone(),
            ledger: self.ledger.clone(),
            history: Vec::new(),
        }
    }
}

/// How many cuts, and which.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Its name in reports and in `AMPOULE_CASE`.
    pub name: String,
    /// Decides all that is random.
    pub seed: u64,
    /// Torn variants of every operation, besides the clean cuts.
    pub torn: u32,
    /// Cuts during the aftermath of a cut: how many at each further depth.
    pub nested: Vec<Nested>,
}

impl Campaign {
    /// A campaign whose seed follows from its name.
    pub fn new(name: String, torn: u32, nested: &[Nested]) -> Campaign {
        let seed = name.bytes().fold(0, |seed, byte| Chance::mix(seed, byte.into()));
        Campaign {
            name,
            seed,
            torn,
            nested: nested.to_vec(),
        }
    }
}

/// Cuts at one further depth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nested {
    /// Every operation of the aftermath, clean and this many times torn.
    All {
        /// Torn variants of every operation.
        torn: u32,
    },
    /// So many operations of the aftermath, drawn by seed, each clean or torn.
    Sample(u32),
}

/// One cut on the way to a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The operation, counted from 0 since the scenario or the latest power-on.
    pub operation: u64,
    /// [`Fault::CutBefore`] or [`Fault::CutTorn`]; one `CutAfter` for the last operation.
    pub fault: Fault,
}

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Operations of the scenario.
    pub operations: u64,
    /// Clean cuts.
    pub clean: u64,
    /// Torn cuts.
    pub torn: u64,
    /// Of all these, cuts in the aftermath of a cut.
    pub nested: u64,
}

impl Tally {
    /// All cuts.
    pub fn cuts(&self) -> u64 {
        self.clean + self.torn
    }

    /// Says what was tried, past the test harness, which would keep it to itself.
    pub fn tell(&self, what: &str) {
        // A report that cannot be written is no reason to fail.
        let _ = writeln!(std::io::stderr(), "power cuts, {what}: {self}");
    }

    /// Adds another campaign's.
    pub fn add(&mut self, other: Tally) {
        self.operations += other.operations;
        self.clean += other.clean;
        self.torn += other.torn;
        self.nested += other.nested;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            operations,
            clean,
            torn,
            nested,
        } = self;
        write!(
            f,
            "{} cuts ({clean} clean, {torn} torn; {nested} during recovery) of {operations} operations",
            self.cuts()
        )
    }
}

/// Runs the scenario once, then the aftermath on every state that a cut could leave. Panics with the first case (in the
/// order of the cuts) whose aftermath reports an error, breaks a rule of the flash, or panics.
pub fn explore<L: Clone + Send + Sync>(
    campaign: &Campaign,
    start: &World<L>,
    scenario: impl Fn(&mut World<L>) -> Result<(), String>,
    aftermath: impl Fn(&mut World<L>) -> Result<(), String> + Sync,
) -> Tally {
    let story = match Story::record(start, &scenario) {
        Ok(story) => story,
        Err(what) => panic!("{}: the scenario fails without any cut: {what}", campaign.name),
    };
    let wanted = wanted_case(&campaign.name);
    if wanted.as_ref().is_some_and(|case| case.is_empty()) {
        return Tally::default();
    }
    let search = Search {
        campaign,
        aftermath: &aftermath,
        counts: Counts::default(),
        failures: Mutex::default(),
        wanted,
    };
    let cuts = story.cuts(campaign.torn, campaign.seed);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| search.work(&story, start, &cuts, &next));
        }
    });
    search.verdict(story.operations.len() as u64)
}

const THREADS: usize = 2;
/// The laws broken in any of several campaigns, told together at the end.
#[derive(Debug, Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Runs a campaign; what it finds is kept.
    pub fn gather(&mut self, campaign: impl FnOnce() -> Tally) -> Tally {
        match catch_unwind(AssertUnwindSafe(campaign)) {
            Ok(tally) => tally,
            Err(panic) => {
                self.0.push(panic_text(&*panic));
                Tally::default()
            }
        }
    }

    /// Panics with all that was found.
    pub fn tell(self) {
        let Findings(found) = self;
        assert!(
            found.is_empty(),
            "{} campaigns failed:\n{}",
            found.len(),
            found.join("\n")
        );
    }
}

/// A thread takes so many neighbouring cuts at a time, so that it seldom replays from the start.
const BATCH: usize = 16;
/// After so many failures the search ends.
const FAILURES_MAX: usize = 3;

/// What happened in one run: its operations, and what was known when.
struct Story<L> {
    operations: Vec<Operation>,
    history: Vec<(u64, L)>,
    first: u64,
}

impl<L: Clone> Story<L> {
    fn record(
        start: &World<L>,
        run: &(impl Fn(&mut World<L>) -> Result<(), String> + ?Sized),
    ) -> Result<Story<L>, String> {
        let mut world = start.branch();
        let first = world.nor.operations();
        world.nor.start_trace();
        guarded(|| run(&mut world))?;
        Ok(Story {
            operations: world.nor.take_trace(),
            history: world.history,
            first,
        })
    }

    /// Every clean cut, and so many torn ones per operation.
    fn cuts(&self, torn: u32, seed: u64) -> Vec<Cut> {
        let count = self.operations.len() as u64;
        let mut cuts = Vec::new();
        for operation in 0..count {
            cuts.push(Cut {
                operation,
                fault: Fault::CutBefore,
            });
            for variant in 0..torn {
                let seed = Chance::mix(seed, operation << 8 | u64::from(variant));
                cuts.push(Cut {
                    operation,
                    fault: Fault::CutTorn(seed),
                });
            }
        }
        if let Some(operation) = count.checked_sub(1) {
            cuts.push(Cut {
                operation,
                fault: Fault::CutAfter,
            });
        }
        cuts
    }

    fn sample(&self, count: u32, seed: u64) -> Vec<Cut> {
        let mut chance = Chance::new(seed);
        let operations = self.operations.len() as u64;
        let draw = |_| {
            let operation = chance.below(operations);
            let fault = match chance.below(2) {
                0 => Fault::CutBefore,
                _ => Fault::CutTorn(chance.next()),
            };
            Cut { operation, fault }
        };
        if operations == 0 {
            Vec::new()
        } else {
            (0..count).map(draw).collect()
        }
    }
}

/// A position in a story: all operations before `at` are done.
struct Replay<'s, L> {
    story: &'s Story<L>,
    start: &'s World<L>,
    world: World<L>,
    at: u64,
}

impl<'s, L: Clone> Replay<'s, L> {
    fn new(story: &'s Story<L>, start: &'s World<L>) -> Self {
        Replay {
            story,
            start,
            world: start.branch(),
            at: 0,
        }
    }

    /// Makes `out` the world that this cut leaves.
    fn leave(&mut self, cut: Cut, out: &mut World<L>) {
        let end = cut.operation + u64::from(cut.fault == Fault::CutAfter);
        if end < self.at {
            self.world.nor.copy_state_from(&self.start.nor);
            self.at = 0;
        }
        for operation in &self.story.operations[self.at as usize..end as usize] {
            self.world.nor.apply(operation);
        }
        self.at = end;
        out.nor.copy_state_from(&self.world.nor);
        if let Fault::CutTorn(seed) = cut.fault {
            out.nor.apply_torn(&self.story.operations[cut.operation as usize], seed);
        }
        // What was noted after `end` operations had begun is known; the note of a later moment is not.
        let known = self
            .story
            .history
            .iter()
            .rev()
            .find(|(when, _)| when - self.story.first <= end);
        out.ledger = known.map_or(&self.start.ledger, |(_, ledger)| ledger).clone();
        out.history.clear();
    }
}

type Aftermath<'a, L> = &'a (dyn Fn(&mut World<L>) -> Result<(), String> + Sync);

struct Search<'a, L> {
    campaign: &'a Campaign,
    aftermath: Aftermath<'a, L>,
    counts: Counts,
    failures: Mutex<Vec<(Vec<Cut>, String)>>,
    wanted: Option<Vec<Cut>>,
}

#[derive(Default)]
struct Counts {
    clean: AtomicU64,
    torn: AtomicU64,
    nested: AtomicU64,
}

impl<L: Clone + Send + Sync> Search<'_, L> {
    fn work(&self, story: &Story<L>, start: &World<L>, cuts: &[Cut], next: &AtomicUsize) {
        let mut replay = Replay::new(story, start);
        let mut world = start.branch();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = cuts.get(from..) else { return };
            if batch.is_empty() || self.is_over() {
                return;
            }
            for cut in batch.iter().take(BATCH) {
                self.try_cut(&mut replay, &mut world, &mut vec![*cut]);
            }
        }
    }

    fn try_cut(&self, replay: &mut Replay<'_, L>, world: &mut World<L>, path: &mut Vec<Cut>) {
        let Some(cut) = path.last().copied() else { return };
        if self.is_over() || !self.is_wanted(path) {
            return;
        }
        replay.leave(cut, world);
        self.count(cut, path.len());
        let nested = self.campaign.nested.get(path.len() - 1);
        let Some(nested) = nested else {
            if let Err(what) = guarded(|| (self.aftermath)(world)) {
                self.fail(path, what);
            }
            return;
        };
        let story = match Story::record(world, self.aftermath) {
            Ok(story) => story,
            Err(what) => return self.fail(path, what),
        };
        let seed = path
            .iter()
            .fold(self.campaign.seed, |seed, cut| Chance::mix(seed, cut.operation));
        let cuts = match *nested {
            Nested::All { torn } => story.cuts(torn, seed),
            Nested::Sample(count) => story.sample(count, seed),
        };
        let mut inner = Replay::new(&story, world);
        let mut left = world.branch();
        for cut in cuts {
            path.push(cut);
            self.try_cut(&mut inner, &mut left, path);
            path.pop();
        }
    }

    fn count(&self, cut: Cut, depth: usize) {
        let kind = if matches!(cut.fault, Fault::CutTorn(_)) {
            &self.counts.torn
        } else {
            &self.counts.clean
        };
        kind.fetch_add(1, Ordering::Relaxed);
        if depth > 1 {
            self.counts.nested.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fail(&self, path: &[Cut], what: String) {
        self.failures
            .lock()
            .expect("no panic holds it")
            .push((path.to_vec(), what));
    }

    fn is_over(&self) -> bool {
        self.failures.lock().expect("no panic holds it").len() >= FAILURES_MAX
    }

    fn is_wanted(&self, path: &[Cut]) -> bool {
        self.wanted
            .as_ref()
            .is_none_or(|case| case.starts_with(path) || path.starts_with(case))
    }

    fn verdict(self, operations: u64) -> Tally {
        let failures = self.failures.into_inner().expect("no panic holds it");
        let name = &self.campaign.name;
        let told: Vec<_> = failures
            .iter()
            .map(|(path, what)| format!("\n  AMPOULE_CASE='{}': {what}", spell(name, path)))
            .collect();
        assert!(
            told.is_empty(),
            "{name}: after a power cut the laws do not hold:{}",
            told.concat()
        );
        Tally {
            operations,
            clean: self.counts.clean.into_inner(),
            torn: self.counts.torn.into_inner(),
            nested: self.counts.nested.into_inner(),
        }
    }
}

/// Runs it; a panic becomes an error, so that the case can be named.
fn guarded(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no text)")
        .into()
}

/// `name:12b/7t1f2e`: the cuts on the way, each an operation and how (b before, a after, t torn with its seed).
fn spell(name: &str, path: &[Cut]) -> String {
    let cut = |cut: &Cut| match cut.fault {
        Fault::CutAfter => format!("{}a", cut.operation),
        Fault::CutTorn(seed) => format!("{}t{seed:x}", cut.operation),
        _ => format!("{}b", cut.operation),
    };
    format!("{name}:{}", path.iter().map(cut).collect::<Vec<_>>().join("/"))
}

/// The cuts of `AMPOULE_CASE`; empty when it names another campaign.
fn wanted_case(name: &str) -> Option<Vec<Cut>> {
    let case = std::env::var("AMPOULE_CASE").ok()?;
    let Some((_, path)) = case.rsplit_once(':').filter(|(named, _)| *named == name) else {
        return Some(Vec::new());
    };
    let cut = |text: &str| -> Option<Cut> {
        let how = text.find(|c: char| !c.is_ascii_digit())?;
        let fault = match text.get(how..how + 1)? {
            "b" => Fault::CutBefore,
            "a" => Fault::CutAfter,
            _ => Fault::CutTorn(u64::from_str_radix(text.get(how + 1..)?, 16).ok()?),
        };
        Some(Cut {
            operation: text.get(..how)?.parse().ok()?,
            fault,
        })
    };
    Some(
        path.split('/')
            .map(|text| cut(text).expect("AMPOULE_CASE as a failure printed it"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nor::Geometry;
    use engine::flash::{Flash, FlashError, Sector};

    const A: Sector = Sector { start: 0, len: 64 };
    const B: Sector = Sector { start: 64, len: 64 };

    fn campaign(torn: u32, nested: Vec<Nested>) -> Campaign {
        Campaign {
            name: "two copies".into(),
            seed: 1,
            torn,
            nested,
        }
    }

    /// A register with two copies: `[value, !value, 0, 0]` at the start of A and of B.
    fn load(nor: &mut Nor, sector: Sector) -> Option<u8> {
        let mut cell = [0; 4];
        nor.read(sector.start, &mut cell).unwrap();
        (cell[0] == !cell[1] && cell[2..] == [0, 0]).then_some(cell[0])
    }

    fn store(nor: &mut Nor, sector: Sector, value: u8) -> Result<(), FlashError> {
        nor.erase(sector)?;
        nor.write(sector.start, &[value, !value, 0, 0])
    }

    fn start() -> World<u8> {
        let mut nor = Nor::new(Geometry::uniform(4, 0xff, 64, 2));
        store(&mut nor, A, 1).unwrap();
        store(&mut nor, B, 1).unwrap();
        World::new(nor, 1)
    }

    fn error(_: FlashError) -> String {
        "flash".into()
    }

    /// Copy A, then copy B: whoever reads takes the first that is whole.
    fn careful(world: &mut World<u8>) -> Result<(), String> {
        store(&mut world.nor, A, 2).map_err(error)?;
        world.note(|seen| *seen = 2);
        store(&mut world.nor, B, 2).map_err(error)
    }

    /// Repairs a broken copy; the value must be one of the two and never older than what was seen.
    fn repair(world: &mut World<u8>) -> Result<(), String> {
        let (a, b) = (load(&mut world.nor, A), load(&mut world.nor, B));
        let value = a.or(b).ok_or("both copies are broken")?;
        if value < *world.ledger() {
            return Err(format!("{value} after {}", world.ledger()));
        }
        if a.is_none() {
            store(&mut world.nor, A, value).map_err(error)?;
        }
        if a.is_some() && b != a {
            store(&mut world.nor, B, value).map_err(error)?;
        }
        Ok(())
    }

    #[test]
    fn every_cut_is_tried_and_counted() {
        let tally = explore(&campaign(3, Vec::new()), &start(), careful, repair);
        assert_eq!(
            tally,
            Tally {
                operations: 4,
                clean: 5,
                torn: 12,
                nested: 0
            }
        );
        let deep = explore(&campaign(2, vec![Nested::All { torn: 2 }]), &start(), careful, repair);
        assert!(deep.nested > 20, "{deep}");
        let sampled = explore(
            &campaign(1, vec![Nested::Sample(3), Nested::Sample(2)]),
            &start(),
            careful,
            repair,
        );
        assert!(sampled.nested > 10, "{sampled}");
    }

    #[test]
    fn a_careless_order_is_found_and_named() {
        let careless = |world: &mut World<u8>| {
            world.nor.erase(A).map_err(error)?;
            world.nor.erase(B).map_err(error)?;
            world.nor.write(0, &[2, !2, 0, 0]).map_err(error)?;
            world.nor.write(64, &[2, !2, 0, 0]).map_err(error)
        };
        let found = catch_unwind(|| explore(&campaign(0, Vec::new()), &start(), careless, repair));
        let text = *found.unwrap_err().downcast::<String>().unwrap();
        assert!(
            text.contains("AMPOULE_CASE='two copies:2b': both copies are broken"),
            "{text}"
        );
    }

    #[test]
    fn an_early_note_is_found() {
        let boasting = |world: &mut World<u8>| {
            world.note(|seen| *seen = 2);
            store(&mut world.nor, A, 2).map_err(error)
        };
        let found = catch_unwind(|| explore(&campaign(0, Vec::new()), &start(), boasting, repair));
        let text = *found.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("two copies:0b': 1 after 2"), "{text}");
    }

    #[test]
    fn a_broken_rule_is_found_and_named() {
        let twice = |world: &mut World<u8>| {
            repair(world)?;
            world.nor.write(0, &[0; 4]).map_err(error)
        };
        let found = catch_unwind(|| explore(&campaign(0, Vec::new()), &start(), careful, twice));
        let text = *found.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("rule broken: second write"), "{text}");
    }

    #[test]
    fn replayed_states_are_those_of_real_cuts() {
        let start = start();
        let story = Story::record(&start, &careful).unwrap();
        let mut replay = Replay::new(&story, &start);
        let mut left = start.branch();
        for cut in story.cuts(5, 9) {
            replay.leave(cut, &mut left);
            let mut real = start.branch();
            real.nor.plan(start.nor.operations() + cut.operation, cut.fault);
            careful(&mut real).unwrap_err();
            assert_eq!(real.nor.cells(), left.nor.cells(), "{cut:?}");
            assert_eq!(real.ledger, left.ledger, "{cut:?}");
        }
    }

    #[test]
    fn a_case_is_spelled_as_it_is_read() {
        let path = [
            Cut {
                operation: 12,
                fault: Fault::CutBefore,
            },
            Cut {
                operation: 7,
                fault: Fault::CutTorn(0x1f2e),
            },
        ];
        assert_eq!(spell("x", &path), "x:12b/7t1f2e");
    }
}
