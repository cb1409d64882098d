//! LMS states that are bound to an NV counter of a TPM, against a TPM in software.

mod swtpm;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use ampoule_keys::lms::{
    Binding, Count, Ledger, NvCounter, OutsideCounter, State, StateFile, StateStore, Tpm, TpmCounter,
};
use ampoule_keys::{Code, Result};
use swtpm::Swtpm;
use tempfile::TempDir;

const KEY: [u8; 32] = [1; 32];
const HANDLE: u32 = 0x0180_0001;
const LABEL: [u8; 32] = [7; 32];

/// A state in a file, bound to a counter of a TPM.
struct Bound {
    folder: TempDir,
    tcti: String,
    counter: NvCounter,
}

fn reach(tcti: &str) -> Tpm {
    Tpm {
        tcti: Some(tcti.into()),
    }
}

impl Bound {
    fn new(tpm: &Swtpm) -> Bound {
        let counter = TpmCounter::create(reach(&tpm.tcti()), HANDLE, &LABEL)
            .unwrap()
            .bound()
            .clone();
        let bound = Bound {
            folder: tempfile::tempdir().unwrap(),
            tcti: tpm.tcti(),
            counter,
        };
        let state = State::new(KEY, Binding::Tpm(bound.counter.clone()));
        StateFile::at(&bound.state()).create(&state).unwrap();
        bound
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn counter(&self) -> TpmCounter {
        TpmCounter::new(reach(&self.tcti), self.counter.clone())
    }

    /// As a program that was just started.
    fn reserve(&self) -> Result<u32> {
        Ledger::new(StateFile::at(&self.state()), self.counter(), KEY, 1000).reserve()
    }
}

#[test]
fn indices_go_up_and_what_was_put_back_is_refused() {
    let Some(mut tpm) = Swtpm::start() else { return };
    let bound = Bound::new(&tpm);
    let old = std::fs::read(bound.state()).unwrap();
    assert_eq!((bound.reserve().unwrap(), bound.reserve().unwrap()), (0, 1));
    // The machine is switched off: TPM and state remember.
    tpm.unplug();
    assert!(bound.reserve().unwrap_err().is(Code::LmsTpm));
    tpm.plug_in();
    let started = Instant::now();
    assert_eq!(bound.reserve().unwrap(), 2);
    println!("one reservation took {:?}", started.elapsed());
    let now = std::fs::read(bound.state()).unwrap();
    std::fs::write(bound.state(), old).unwrap();
    let error = bound.reserve().unwrap_err();
    assert!(
        error.is(Code::LmsStateOld) && error.what.contains("of 0 ") && error.what.contains("of 3"),
        "{error}"
    );
    std::fs::write(bound.state(), now).unwrap();
    assert_eq!(bound.reserve().unwrap(), 3);
}

/// Deleted and made again: until it is raised, and under another label, its name differs; raised, it stands above all that
/// was there before, because the TPM sees to that.
#[test]
fn a_counter_that_was_made_again_is_refused() {
    let Some(tpm) = Swtpm::start() else { return };
    let bound = Bound::new(&tpm);
    assert_eq!((bound.reserve().unwrap(), bound.reserve().unwrap()), (0, 1));
    let index = format!("{HANDLE:#x}");
    tpm.tool("tpm2_nvundefine", &format!("-C o {index}"));
    assert!(bound.reserve().unwrap_err().is(Code::LmsCounterMissing));

    let again = |label: &[u8; 32]| TpmCounter::create(reach(&tpm.tcti()), HANDLE, label).unwrap();
    let other = again(&[8; 32]);
    assert_ne!(other.bound().name, bound.counter.name);
    assert!(bound.reserve().unwrap_err().is(Code::LmsForeign));
    other.remove().unwrap();

    let same = again(&LABEL);
    assert_eq!(same.bound().name, bound.counter.name);
    assert!(same.bound().base > bound.counter.base + 2, "the TPM's guarantee");
    assert!(bound.reserve().unwrap_err().is(Code::LmsStateOld));
}

#[test]
fn a_cleared_tpm_and_another_one_are_refused() {
    let (Some(tpm), Some(other)) = (Swtpm::start(), Swtpm::start()) else {
        return;
    };
    let mut bound = Bound::new(&tpm);
    assert_eq!(bound.reserve().unwrap(), 0);
    let own = std::mem::replace(&mut bound.tcti, other.tcti());
    assert!(bound.reserve().unwrap_err().is(Code::LmsCounterMissing));
    TpmCounter::create(reach(&other.tcti()), HANDLE, &[9; 32]).unwrap();
    assert!(bound.reserve().unwrap_err().is(Code::LmsForeign));

    bound.tcti = own;
    tpm.tool("tpm2_clear", "-c p");
    assert!(bound.reserve().unwrap_err().is(Code::LmsCounterMissing));
    // What is made after a clear goes on above what was before it.
    let after = TpmCounter::create(reach(&tpm.tcti()), HANDLE, &LABEL).unwrap();
    assert!(after.bound().base > bound.counter.base + 1);
    assert!(bound.reserve().unwrap_err().is(Code::LmsStateOld));
}

#[test]
fn an_index_that_is_in_use_or_not_the_owners_is_refused() {
    let Some(tpm) = Swtpm::start() else { return };
    Bound::new(&tpm);
    let refusal = |handle| TpmCounter::create(reach(&tpm.tcti()), handle, &LABEL).unwrap_err();
    assert!(refusal(HANDLE).is(Code::KeyExists));
    for handle in [0, 0x8100_0001, 0x017f_ffff, 0x01c0_0000] {
        assert!(refusal(handle).is(Code::Argument), "{handle:#x}");
    }
    let gone = TpmCounter::create(reach("swtpm:path=/nowhere/tpm"), HANDLE, &LABEL).unwrap_err();
    assert!(gone.is(Code::LmsTpm), "{gone}");
}

/// Copies of a state race for one counter: of those that start from the same place at most one gets on.
#[test]
fn copies_that_race_get_no_index_twice() {
    let Some(tpm) = Swtpm::start() else { return };
    let bound = Bound::new(&tpm);
    let (mut one, mut other) = (bound.counter(), bound.counter());
    let (from, same) = (one.read().unwrap(), other.read().unwrap());
    assert_eq!(from, same);
    assert_eq!(one.raise(&from).unwrap(), Count::of(1));
    assert!(other.raise(&same).unwrap_err().is(Code::LmsBusy));

    let indices: Vec<u32> = std::thread::scope(|scope| {
        let race = || {
            let mut counter = bound.counter();
            let attempt = |_| {
                let from = counter.read().ok()?;
                counter.raise(&from).is_ok().then_some(from.given)
            };
            (0..6).filter_map(attempt).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(race)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(indices.iter().collect::<BTreeSet<_>>().len(), indices.len());
}

/// The TPM goes away at any of the steps of a reservation: nothing comes out twice, and afterwards the key goes on.
#[test]
fn a_tpm_that_goes_away_in_the_middle_gives_no_index_twice() {
    struct Vanishing<'a> {
        counter: TpmCounter,
        tpm: &'a mut Swtpm,
        steps: &'a Cell<u32>,
        at: u32,
    }

    impl Vanishing<'_> {
        fn step(&mut self) {
            if self.steps.replace(self.steps.get() + 1) == self.at {
                self.tpm.unplug();
            }
        }
    }

    impl OutsideCounter for Vanishing<'_> {
        fn read(&mut self) -> Result<Count> {
            self.step();
            let read = self.counter.read();
            self.step();
            read
        }
        fn raise(&mut self, from: &Count) -> Result<Count> {
            self.step();
            let raised = self.counter.raise(from);
            self.step();
            // Its answer was lost together with it.
            if self.steps.get() == self.at + 1 {
                return Err(Code::LmsTpm.error("gone"));
            }
            raised
        }
        fn describe(&self) -> String {
            "vanishing".into()
        }
    }

    let Some(mut tpm) = Swtpm::start() else { return };
    let bound = Bound::new(&tpm);
    let (mut given, mut refused) = (Vec::new(), 0);
    for at in 0..5 {
        let steps = Cell::new(0);
        let counter = Vanishing {
            counter: bound.counter(),
            tpm: &mut tpm,
            steps: &steps,
            at,
        };
        match Ledger::new(StateFile::at(&bound.state()), counter, KEY, 1000).reserve() {
            Ok(index) => given.push(index),
            Err(error) => {
                assert!(error.is(Code::LmsTpm), "{error}");
                refused += 1;
            }
        }
        if steps.get() > at {
            tpm.plug_in();
        }
        given.push(bound.reserve().unwrap());
    }
    assert_eq!(refused, 4, "cut at each of the four steps");
    assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
    let mut state = StateFile::at(&bound.state());
    assert!(
        State::parse(&state.load().unwrap(), "").unwrap().next > given.len() as u32,
        "none was burnt"
    );
}
