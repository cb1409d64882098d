//! Sealed storage: what was set is what is read, whatever the power does; what was put back, moved or changed is not read.

use ampoule_sim::body::ensure;
use ampoule_sim::chance::Chance;
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, World, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::sha256;
use ampoule_sim::nor::Nor;
use codec::Reason;
use engine::counter::{Counter, FlashCounter};
use engine::layout::{Area, Layout};
use engine::sealed::Sealed;
use std::collections::BTreeMap;
use trust::{KeyVault, UniqueKey};

type Values = BTreeMap<Vec<u8>, Vec<u8>>;
type Sim = World<Seen>;

/// What an observer knows: the values before the change under way, and after it.
#[derive(Clone, Debug, Default)]
struct Seen {
    values: Values,
    changing: Option<Values>,
}

/// A change.
#[derive(Clone, Debug)]
enum Change {
    Set(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Clear,
}

impl Change {
    fn made(&self, values: &Values) -> Values {
        let mut after = values.clone();
        match self {
            Change::Set(name, value) => drop(after.insert(name.clone(), value.clone())),
            Change::Remove(name) => drop(after.remove(name)),
            Change::Clear => after.clear(),
        }
        after
    }

    fn make<C: Counter<Nor>>(&self, sealed: &mut Sealed<C>, nor: &mut Nor) -> Result<(), Reason> {
        match self {
            Change::Set(name, value) => sealed.set(nor, name, value, &mut [0; 1040]),
            Change::Remove(name) => sealed.remove(nor, name),
            Change::Clear => sealed.clear(nor),
        }
    }
}

fn set(name: &str, byte: u8, len: usize) -> Change {
    Change::Set(name.into(), vec![byte; len])
}

fn vault() -> UniqueKey {
    UniqueKey::new([7; 32])
}

fn open(nor: &mut Nor, layout: &Layout) -> Result<Sealed<FlashCounter>, Reason> {
    let counter = FlashCounter::new(layout.sealed_counter, nor)?;
    Sealed::open(nor, layout, counter, &mut vault())
}

fn values<C>(sealed: &Sealed<C>, nor: &mut Nor) -> Result<Values, Reason> {
    let mut names = Vec::new();
    sealed.for_each(nor, |name, len| names.push((name.to_vec(), len)))?;
    let mut values = Values::new();
    for (name, len) in names {
        let mut out = [0; 1040];
        let value = sealed.get(nor, &name, &mut out)?.expect("it was listed");
        assert_eq!(value.len(), len);
        assert_eq!(values.insert(name, value.to_vec()), None, "listed twice");
    }
    Ok(values)
}

/// A counter in a secure element: outside the flash, so that it does not go back with it.
#[derive(Clone, Copy, Default)]
struct Element(u32);

impl Counter<Nor> for &mut Element {
    fn read(&mut self, _: &mut Nor) -> Result<u32, Reason> {
        Ok(self.0)
    }

    fn advance_to(&mut self, _: &mut Nor, to: u32) -> Result<(), Reason> {
        self.0 = self.0.max(to);
        Ok(())
    }
}

/// Random changes against a map, on every shape, with a restart after every few.
#[test]
fn it_holds_what_a_map_holds() {
    for shape in shapes(Shape::small) {
        let (mut nor, layout) = shape.blank();
        let mut chance = Chance::new(u64::from(shape.write_size));
        let mut expected = Values::new();
        let mut sealed = open(&mut nor, &layout).expect("a blank device");
        let (mut full, mut done) = (0, 0);
        for _ in 0..300 {
            let name = format!("name {}", chance.below(5)).into_bytes();
            let len = chance.below(140) as usize;
            let change = match chance.below(12) {
                0 => Change::Clear,
                1 | 2 => Change::Remove(name),
                _ => Change::Set(name, chance.bytes(len)),
            };
            match change.make(&mut sealed, &mut nor) {
                Ok(()) => expected = change.made(&expected),
                Err(Reason::StateFull) => full += 1,
                Err(other) => panic!("{other:?} by {change:?}"),
            }
            done += 1;
            if chance.below(4) == 0 {
                sealed = open(&mut nor, &layout).expect("opens");
            }
            assert_eq!(
                values(&sealed, &mut nor),
                Ok(expected.clone()),
                "{shape} after {done} changes"
            );
        }
        assert!(full > 0 && full < 150, "{shape}: {full} changes did not fit");
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let (mut nor, layout) = Shape::small(4, 0xff, true).blank();
    let mut sealed = open(&mut nor, &layout).expect("blank");
    set("key", 1, 32).make(&mut sealed, &mut nor).expect("fits");
    let before = nor.cells().to_vec();
    let mut scratch = [0; 1040];
    let mut refused = |name: &[u8], len: usize, scratch: &mut [u8]| sealed.set(&mut nor, name, &vec![0; len], scratch);
    assert_eq!(refused(b"long", 1000, &mut scratch), Err(Reason::StateFull));
    assert_eq!(refused(b"longer", 1025, &mut scratch), Err(Reason::Limit));
    assert_eq!(refused(b"", 1, &mut scratch), Err(Reason::Limit));
    assert_eq!(refused(&[b'n'; 23], 1, &mut scratch), Err(Reason::Limit));
    assert_eq!(refused(b"name", 9, &mut scratch[..8]), Err(Reason::Limit));
    assert_eq!(sealed.get(&mut nor, b"key", &mut [0; 47]), Err(Reason::Limit));
    assert!(nor.cells() == before, "a refusal wrote");
    assert_eq!(sealed.get(&mut nor, b"key", &mut [0; 48]), Ok(Some(&[1; 32][..])));
    assert_eq!(sealed.get(&mut nor, b"no key", &mut []), Ok(None));
}

/// Nothing that is removed, cleared or replaced by a rewrite is left, not even encrypted.
#[test]
fn what_is_removed_is_destroyed() {
    let (mut nor, layout) = Shape::small(8, 0x00, false).blank();
    let mut sealed = open(&mut nor, &layout).expect("blank");
    for change in [set("stays", 1, 40), set("goes", 2, 40)] {
        change.make(&mut sealed, &mut nor).expect("fits");
    }
    let record = sealed_bytes(&nor, &layout)
        .iter()
        .position(|window| window.starts_with(b"goes"));
    assert!(record.is_some(), "names are no secret");
    Change::Remove(b"goes".to_vec())
        .make(&mut sealed, &mut nor)
        .expect("removed");
    let left = sealed_bytes(&nor, &layout)
        .iter()
        .any(|window| window.starts_with(b"goes"));
    assert!(!left, "its record is still there");
    let halves = layout
        .sealed
        .map(|half| cells(&nor, half).iter().all(|byte| *byte == 0));
    assert_eq!(halves.iter().filter(|erased| **erased).count(), 1);
    assert_eq!(values(&sealed, &mut nor).expect("reads").len(), 1);
    Change::Clear.make(&mut sealed, &mut nor).expect("cleared");
    assert_eq!(values(&sealed, &mut nor), Ok(Values::new()));
    assert_eq!(sealed.generation(), 4, "clearing is a change like any other");
    assert_eq!(open(&mut nor, &layout).expect("opens").generation(), 4);
}

fn sealed_bytes<'n>(nor: &'n Nor, layout: &Layout) -> Vec<&'n [u8]> {
    let windows = |half: Area| {
        (0..half.len as usize).map(move |at| &nor.cells()[half.start as usize..][..half.len as usize][at..])
    };
    layout.sealed.into_iter().flat_map(windows).collect()
}

fn cells(nor: &Nor, area: Area) -> &[u8] {
    &nor.cells()[area.start as usize..area.end() as usize]
}

/// The flash of every moment put back later, with a counter that does not go back: refused, by number.
#[test]
fn what_is_put_back_is_found() {
    for shape in shapes(Shape::small) {
        let (mut nor, layout) = shape.blank();
        let mut element = Element::default();
        let mut moments = vec![(nor.clone(), 0, Values::new())];
        let mut expected = Values::new();
        let mut sealed = Sealed::open(&mut nor, &layout, &mut element, &mut vault()).expect("blank");
        for number in 0..12u8 {
            let change = match number {
                5 => Change::Remove(b"one".to_vec()),
                9 => Change::Clear,
                _ => set(["one", "two", "three"][usize::from(number) % 3], number, 60),
            };
            change.make(&mut sealed, &mut nor).expect("fits");
            expected = change.made(&expected);
            moments.push((nor.clone(), sealed.generation(), expected.clone()));
        }
        drop(sealed);
        let now = element.0;
        for (mut then, generation, expected) in moments {
            let opened = Sealed::open(&mut then, &layout, &mut element, &mut vault());
            match opened.map(|sealed| values(&sealed, &mut then)) {
                Ok(read) => assert_eq!((generation, read), (now, Ok(expected))),
                // A blank flash with a counter that has counted has lost everything.
                Err(reason) if generation == 0 => assert_eq!(reason, Reason::SealedDamaged),
                Err(reason) => {
                    assert_eq!(reason, Reason::SealedReplayed);
                    assert!(generation < now);
                }
            }
            assert_eq!(element.0, now, "a refusal changes no counter");
        }
        // The counter of another, younger device.
        let mut younger = Element(now - 3);
        let refused = Sealed::open(&mut nor, &layout, &mut younger, &mut vault());
        assert_eq!(refused.err(), Some(Reason::SealedReplayed));
        // Whoever may, begins anew; the counter goes on.
        let anew = Sealed::start_anew(&mut nor, &layout, &mut element, &mut vault()).expect("anew");
        assert_eq!(
            (anew.generation(), values(&anew, &mut nor)),
            (now + 1, Ok(Values::new()))
        );
    }
}

/// One half of the log put back, the other as it is: an older state cannot hide in either.
#[test]
fn one_half_put_back_is_found() {
    let (mut nor, layout) = Shape::small(4, 0xff, true).blank();
    let mut element = Element::default();
    let mut sealed = Sealed::open(&mut nor, &layout, &mut element, &mut vault()).expect("blank");
    let mut moments = vec![nor.clone()];
    for number in 0..14u8 {
        set(["one", "two"][usize::from(number) % 2], number, 80)
            .make(&mut sealed, &mut nor)
            .expect("fits");
        moments.push(nor.clone());
    }
    let expected = values(&sealed, &mut nor).expect("reads");
    drop(sealed);
    let mut refused = 0;
    for then in &moments {
        for half in layout.sealed {
            let mut mixed = nor.clone();
            put(&mut mixed, half, cells(then, half));
            match Sealed::open(&mut mixed, &layout, &mut element, &mut vault()) {
                Ok(sealed) => assert_eq!(values(&sealed, &mut mixed), Ok(expected.clone())),
                Err(reason) => {
                    assert!(matches!(reason, Reason::SealedReplayed | Reason::SealedDamaged));
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 5, "{refused}");
}

/// Overwrites an area without asking the flash.
fn put(nor: &mut Nor, area: Area, bytes: &[u8]) {
    for (at, byte) in (area.start..).zip(bytes) {
        let mask = nor.cells()[at as usize] ^ byte;
        if mask != 0 {
            nor.corrupt(at, mask);
        }
    }
}

/// Every bit of the log: the values, or a number; never other values.
#[test]
fn every_changed_bit_is_found() {
    let (mut nor, layout) = Shape::small(4, 0xff, true).blank();
    let mut element = Element::default();
    let mut sealed = Sealed::open(&mut nor, &layout, &mut element, &mut vault()).expect("blank");
    for change in [
        set("one", 1, 33),
        set("two", 2, 5),
        Change::Remove(b"two".to_vec()),
        set("one", 3, 70),
    ] {
        change.make(&mut sealed, &mut nor).expect("fits");
    }
    let expected = values(&sealed, &mut nor).expect("reads");
    drop(sealed);
    let (mut refused, mut read) = (0, 0);
    for half in layout.sealed {
        for bit in 0..half.len * 8 {
            let mut bent = nor.clone();
            bent.corrupt(half.start + bit / 8, 1 << (bit % 8));
            match Sealed::open(&mut bent, &layout, &mut element, &mut vault()) {
                Ok(sealed) => {
                    assert_eq!(values(&sealed, &mut bent), Ok(expected.clone()), "bit {bit}");
                    read += 1;
                }
                Err(reason) => {
                    assert!(matches!(reason, Reason::SealedReplayed | Reason::SealedDamaged));
                    refused += 1;
                }
            }
        }
    }
    // Everything that is written counts; what is erased does not.
    let written = nor.cells()[layout.sealed[0].start as usize..layout.sealed[1].end() as usize].iter();
    let written = written.filter(|byte| **byte != 0xff).count();
    assert!(refused > written * 8 && read > 0, "{refused} of {written} bytes");
}

/// A flash that was soldered to another device, and a vault that was destroyed.
#[test]
fn another_device_reads_nothing() {
    let (mut nor, layout) = Shape::small(4, 0xff, true).blank();
    let mut element = Element::default();
    let mut sealed = Sealed::open(&mut nor, &layout, &mut element, &mut vault()).expect("blank");
    set("key", 1, 32).make(&mut sealed, &mut nor).expect("fits");
    drop(sealed);
    let mut other = UniqueKey::new([8; 32]);
    let refused = Sealed::open(&mut nor, &layout, &mut element, &mut other);
    assert_eq!(refused.err(), Some(Reason::SealedDamaged));
    let mut destroyed = vault();
    destroyed.destroy().expect("destroyed");
    let refused = Sealed::open(&mut nor, &layout, &mut element, &mut destroyed);
    assert_eq!(refused.err(), Some(Reason::VaultFailed));
    assert!(
        Sealed::open(&mut nor, &layout, &mut element, &mut vault()).is_ok(),
        "nothing was changed"
    );
}

/// Old bytes are read for ever: what this version writes, byte for byte.
#[test]
fn golden_flash() {
    let (mut nor, layout) = Shape::small(32, 0xff, true).blank();
    let mut sealed = open(&mut nor, &layout).expect("blank");
    for change in [set("identity", 1, 32), set("settings", 2, 5), set("identity", 3, 32)] {
        change.make(&mut sealed, &mut nor).expect("fits");
    }
    let areas = [layout.sealed[0], layout.sealed[1], layout.sealed_counter];
    let bytes: Vec<u8> = areas.into_iter().flat_map(|area| cells(&nor, area).to_vec()).collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/sealed/flash-1.bin");
    if std::env::var_os("AMPOULE_RENEW").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, &bytes).expect("a file");
    }
    let golden = std::fs::read(&path).expect("the golden file");
    assert!(bytes == golden, "the format has changed: {:02x?}", sha256(&[&bytes]));
    // And it is read, on a device that never wrote it.
    let (mut fresh, _) = Shape::small(32, 0xff, true).blank();
    let mut rest = &golden[..];
    for area in areas {
        let (now, behind) = rest.split_at(area.len as usize);
        put(&mut fresh, area, now);
        rest = behind;
    }
    let sealed = open(&mut fresh, &layout).expect("opens");
    let read = values(&sealed, &mut fresh).expect("reads");
    assert_eq!(read[&b"identity"[..]], [3; 32]);
    assert_eq!(read[&b"settings"[..]], [2; 5]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Power cuts

struct Story {
    layout: Layout,
    changes: Vec<Change>,
}

impl Story {
    fn run(&self, sim: &mut Sim) -> Result<(), String> {
        let mut sealed = open(&mut sim.nor, &self.layout).map_err(told)?;
        for change in &self.changes {
            make(&mut sealed, sim, change)?;
        }
        Ok(())
    }

    /// Life after a cut, wherever it was: what is there is from before the change or from after it, and life goes on.
    fn recover(&self, sim: &mut Sim) -> Result<(), String> {
        let mut sealed = open(&mut sim.nor, &self.layout).map_err(told)?;
        let read = values(&sealed, &mut sim.nor).map_err(told)?;
        let Seen {
            values: before,
            changing,
        } = sim.ledger().clone();
        ensure(read == before || Some(&read) == changing.as_ref(), || {
            format!("{read:?} is neither {before:?} nor {changing:?}")
        })?;
        sim.note(|seen| {
            *seen = Seen {
                values: read,
                changing: None,
            }
        });
        let halves = self.layout.sealed.map(|half| {
            let erased = cells(&sim.nor, half)
                .iter()
                .all(|byte| *byte == engine::flash::Flash::erased(&sim.nor));
            u32::from(!erased)
        });
        ensure(halves.iter().sum::<u32>() <= 1, || "what is old is still there".into())?;
        let writes = sim.nor.operations();
        drop(open(&mut sim.nor, &self.layout).map_err(told)?);
        ensure(sim.nor.operations() == writes, || "opening again writes".into())?;
        for change in [set("late", 9, 21), set("one", 8, 50), Change::Remove(b"late".to_vec())] {
            make(&mut sealed, sim, &change)?;
        }
        let sealed = open(&mut sim.nor, &self.layout).map_err(told)?;
        let read = values(&sealed, &mut sim.nor).map_err(told)?;
        ensure(read == sim.ledger().values, || format!("{read:?} at the end"))
    }
}

fn make(sealed: &mut Sealed<FlashCounter>, sim: &mut Sim, change: &Change) -> Result<(), String> {
    let after = change.made(&sim.ledger().values);
    sim.note(|seen| seen.changing = Some(after.clone()));
    change.make(sealed, &mut sim.nor).map_err(told)?;
    sim.note(|seen| {
        *seen = Seen {
            values: after,
            changing: None,
        }
    });
    Ok(())
}

fn told(reason: Reason) -> String {
    format!("{} {}", reason.number(), reason.name())
}

fn changes() -> Vec<Change> {
    let mut changes = Vec::new();
    for round in 0..4 {
        changes.push(set("one", round, 40));
        changes.push(set("two", 10 + round, 5 + usize::from(round) * 30));
        changes.push(set("three", 20 + round, 33));
    }
    changes.insert(5, Change::Remove(b"two".to_vec()));
    changes.insert(9, Change::Clear);
    changes
}

fn soak() -> bool {
    std::env::var_os("AMPOULE_SOAK").is_some()
}

#[test]
fn single_cuts_on_every_shape() {
    let torn = if soak() { 24 } else { 4 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        let (nor, layout) = shape.blank();
        let story = Story {
            layout,
            changes: changes(),
        };
        let campaign = Campaign::new(format!("sealed {shape}"), torn, &[]);
        let start = Sim::new(nor, Seen::default());
        total.add(findings.gather(|| explore(&campaign, &start, |sim| story.run(sim), |sim| story.recover(sim))));
    }
    total.tell("sealed storage");
    findings.tell();
}

#[test]
fn pairs_and_rows_of_cuts() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    let everything = shapes(Shape::small);
    let chosen = [Shape::small(8, 0xff, true), Shape::small(32, 0x00, true)];
    for &shape in if soak() { &everything[..] } else { &chosen } {
        let (nor, layout) = shape.blank();
        let story = Story {
            layout,
            changes: changes(),
        };
        let start = Sim::new(nor, Seen::default());
        for (name, nested) in [
            ("pairs", &[Nested::All { torn: 1 }][..]),
            ("rows", &[Nested::Sample(2); 3]),
        ] {
            let campaign = Campaign::new(format!("sealed {name} {shape}"), 1, nested);
            total.add(findings.gather(|| explore(&campaign, &start, |sim| story.run(sim), |sim| story.recover(sim))));
        }
    }
    total.tell("sealed storage, pairs and rows");
    findings.tell();
}

/// The counter in flash: never lower than it was, at most one step ahead of what returned.
#[test]
fn a_counter_in_flash_never_falls() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        let (nor, layout) = shape.blank();
        let count = |sim: &mut World<(u32, u32)>| -> Result<(), String> {
            let mut counter = FlashCounter::new(layout.sealed_counter, &sim.nor).map_err(told)?;
            let (least, most) = *sim.ledger();
            let mut value = counter.read(&mut sim.nor).map_err(told)?;
            ensure((least..=most).contains(&value), || {
                format!("{value} is not {least} to {most}")
            })?;
            for step in [1, 1, 1, 1, 5, 1, 0, 1, 2, 1] {
                let to = value + step;
                sim.note(|ledger| *ledger = (value, to));
                counter.advance_to(&mut sim.nor, to).map_err(told)?;
                counter.advance_to(&mut sim.nor, to.saturating_sub(3)).map_err(told)?;
                value = counter.read(&mut sim.nor).map_err(told)?;
                ensure(value == to, || format!("{value} instead of {to}"))?;
                sim.note(|ledger| *ledger = (to, to));
            }
            Ok(())
        };
        let campaign = Campaign::new(format!("counter {shape}"), 3, &[Nested::All { torn: 1 }]);
        let start = World::new(nor, (0, 0));
        total.add(findings.gather(|| explore(&campaign, &start, count, count)));
    }
    total.tell("a counter in flash");
    findings.tell();
    let (nor, layout) = Shape::small(4, 0xff, true).blank();
    let refused = |area| FlashCounter::new(area, &nor).err();
    assert_eq!(refused(layout.device_key), Some(Reason::LayoutRefused), "one sector");
    assert_eq!(refused(layout.sealed_counter), None);
}
