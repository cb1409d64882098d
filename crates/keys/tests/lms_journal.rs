//! LMS keys that are bound to the signing journal: a reservation is an entry of its chain.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_keys as keys;
use keys::file::{FileKey, LockedKey};
use keys::journal::reservation::LMS_KEYS_MAX;
use keys::journal::{By, Digest, Event, Facts, HeadFile, Journal, Key, Record, Refusal, Reservation, verify};
use keys::lms::{
    Binding, Count, JournalCounter, Ledger, NewCounter, OutsideCounter, Scribe, Set, State, StateStore, Usage, create,
    state_path,
};
use keys::{Code, Content, DevelopmentOnly, Job, Object, Passphrase, PublicKey, Purpose, Result, Signer};
use tempfile::TempDir;

const PASSPHRASE: &str = "four random words here";

fn scribe() -> Scribe {
    Scribe {
        by: By {
            operator: Some("Ada".into()),
            ..By::default()
        },
        why: Some("a test".into()),
        facts: Facts::new(),
        now: || 1_764_053_478,
    }
}

/// A key, its state and its journal in a folder, the journal's head on another medium.
struct Desk {
    folder: TempDir,
    medium: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk {
            folder: tempfile::tempdir().unwrap(),
            medium: tempfile::tempdir().unwrap(),
        };
        let counter = NewCounter::Journal {
            journal: desk.path("journal.jsonl"),
            head: desk.head(),
            scribe: scribe(),
        };
        let set = Set::new(5, 8).unwrap();
        create(&desk.path("key"), set, &counter, &Passphrase::new(PASSPHRASE)).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn head(&self) -> PathBuf {
        self.medium.path().join("head")
    }

    fn state(&self) -> PathBuf {
        state_path(&self.path("key"))
    }

    fn journal(&self) -> Journal {
        Journal::at(self.path("journal.jsonl"), Some(HeadFile::at(self.head())))
    }

    fn public(&self) -> PublicKey {
        PublicKey::read(&self.path("key")).unwrap()
    }

    fn open(&self) -> FileKey {
        open(&self.path("key")).reserving_as(scribe())
    }

    fn sign(&self) -> Result<u32> {
        sign(&self.open())
    }

    /// What stands in these files now, to be put back later.
    fn keep(&self, files: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
        files
            .iter()
            .map(|file| (file.clone(), fs::read(file).unwrap()))
            .collect()
    }

    fn all(&self) -> [PathBuf; 3] {
        [self.state(), self.path("journal.jsonl"), self.head()]
    }
}

fn put_back(kept: &[(PathBuf, Vec<u8>)]) {
    for (file, content) in kept {
        fs::write(file, content).unwrap();
    }
}

fn open(path: &Path) -> FileKey {
    let locked = LockedKey::read(path).unwrap();
    locked.unlock(Some(&Passphrase::new(PASSPHRASE))).unwrap()
}

/// Signs; the index of the signature.
fn sign(key: &FileKey) -> Result<u32> {
    let purpose = Purpose {
        object: Object::Record,
        subject: "a test".into(),
        digest: [7; 32],
    };
    let job = Job {
        content: Content::Message(&[b"a message"]),
        purpose: &purpose,
    };
    let signature = key.sign(&job)?;
    Ok(u32::from_be_bytes(signature.as_cose()[4..8].try_into().unwrap()))
}

fn other_entry(subject: &str) -> Record {
    Record::of(Event::Refusal(Refusal {
        number: 2065,
        what: subject.into(),
        object: None,
    }))
}

#[test]
fn every_index_has_its_entry_before_it_is_used() {
    let desk = Desk::new();
    for index in 0..3 {
        desk.journal().append(1, &other_entry("between")).unwrap();
        assert_eq!(desk.sign().unwrap(), index);
        let usage = Usage::of(&desk.path("key"), &desk.public()).unwrap();
        assert_eq!((usage.total, usage.left), (32, 31 - index));
        assert!(
            usage.counter.contains("journal.jsonl") && usage.counter.contains("head"),
            "{}",
            usage.counter
        );
    }
    let head = desk.journal().head().unwrap().unwrap();
    assert_eq!(HeadFile::at(desk.head()).read().unwrap(), Some(head));
    let report = verify::files(&[desk.path("journal.jsonl")], Some(&head.into())).unwrap();
    assert!(report.is_whole());
    assert_eq!((report.entries, report.signatures, report.reservations), (8, 0, 4));
    let text = fs::read_to_string(desk.path("journal.jsonl")).unwrap();
    assert!(
        text.contains(r#""operator":"Ada""#) && text.contains(r#""given":3"#),
        "{text}"
    );
    // It is for development all the same: journal, head and state can be put back together.
    assert_eq!(desk.open().development_only(), Some(DevelopmentOnly::LmsFile));
    // Without saying who signs, nothing is entered and nothing signed.
    assert!(sign(&open(&desk.path("key"))).unwrap_err().is(Code::Argument));
    assert_eq!(desk.sign().unwrap(), 3);
}

#[test]
fn what_was_copied_or_put_back_signs_nothing() {
    let desk = Desk::new();
    desk.sign().unwrap();
    let old = desk.keep(&desk.all());
    let [old_state, old_journal, old_head] = [0, 1, 2].map(|at| old[at..=at].to_vec());
    for (from, to) in [
        (desk.path("key"), desk.path("copy")),
        (desk.state(), desk.path("copy.state")),
    ] {
        fs::copy(from, to).unwrap();
    }
    desk.sign().unwrap();
    let now = desk.keep(&desk.all());
    assert!(
        sign(&open(&desk.path("copy")).reserving_as(scribe()))
            .unwrap_err()
            .is(Code::LmsStateOld)
    );
    let refused = |what: &str, code: Code| {
        let error = desk.sign().unwrap_err();
        assert!(error.is(code), "{what}: {error}");
        put_back(&now);
    };
    put_back(&old_state);
    refused("an old state", Code::LmsStateOld);
    put_back(&old_journal);
    refused("an old journal", Code::JournalHead);
    put_back(&old_state);
    put_back(&old_journal);
    refused("an old state with its journal", Code::JournalHead);
    put_back(&old_journal);
    put_back(&old_head);
    refused("an old journal with its head", Code::LmsCounterBehind);
    fs::remove_file(desk.head()).unwrap();
    refused("no head", Code::JournalHeadFile);
    fs::remove_file(desk.path("journal.jsonl")).unwrap();
    refused("no journal", Code::LmsCounterMissing);
    for file in [desk.path("journal.jsonl"), desk.head()] {
        fs::remove_file(file).unwrap();
    }
    desk.journal().append(1, &other_entry("anew")).unwrap();
    refused("another journal", Code::LmsForeign);

    // Journal and head were put back, and somebody else went on with them: as many reservations, but not these.
    put_back(&old);
    desk.sign().unwrap();
    let theirs = desk.keep(&desk.all()[1..]);
    put_back(&now);
    desk.journal()
        .append(1, &other_entry("so that the two differ"))
        .unwrap();
    put_back(&old);
    desk.journal()
        .append(1, &other_entry("so that the two differ"))
        .unwrap();
    desk.sign().unwrap();
    let forked = desk.keep(&[desk.state()]);
    put_back(&theirs);
    put_back(&forked);
    refused("a state of another branch", Code::LmsForeign);
    // As it was, it goes on.
    assert_eq!(desk.sign().unwrap(), 2);
}

/// Somebody takes the last reservation out of the journal, and notes a head that fits.
#[test]
fn a_reservation_that_was_taken_out_is_found() {
    let desk = Desk::new();
    desk.sign().unwrap();
    let old_state = desk.keep(&[desk.state()]);
    desk.sign().unwrap();
    desk.journal().append(1, &other_entry("behind it")).unwrap();
    let text = fs::read_to_string(desk.path("journal.jsonl")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let taken_out: String = lines
        .iter()
        .filter(|line| !line.contains(r#""given":2"#))
        .copied()
        .collect();
    assert_eq!(taken_out.lines().count() + 1, lines.len());
    fs::write(desk.path("journal.jsonl"), taken_out).unwrap();
    put_back(&old_state);
    assert!(desk.sign().unwrap_err().is(Code::JournalOrder));
    let changed = text.replace(r#""given":2"#, r#""given":1"#);
    fs::write(desk.path("journal.jsonl"), changed).unwrap();
    assert!(desk.sign().unwrap_err().is(Code::JournalDamaged));
}

#[test]
fn a_rotation_carries_the_last_reservation_of_every_key() {
    let desk = Desk::new();
    let fresh = desk.keep(&[desk.state()]);
    desk.sign().unwrap();
    let old = desk.keep(&[desk.state()]);
    desk.sign().unwrap();
    for round in 0..3 {
        desk.journal()
            .rotate(5, &desk.path(&format!("archive-{round}")))
            .unwrap();
        let now = desk.keep(&[desk.state()]);
        for older in [&fresh, &old] {
            put_back(older);
            assert!(desk.sign().unwrap_err().is(Code::LmsStateOld));
        }
        put_back(&now);
        // In the last round the reservation is carried a second time.
        if round < 2 {
            assert_eq!(desk.sign().unwrap(), 2 + round);
        }
    }
    assert_eq!(desk.sign().unwrap(), 4);
    let files = [0, 1, 2].map(|round| desk.path(&format!("archive-{round}")));
    let files = [&files[..], &[desk.path("journal.jsonl")]].concat();
    let head = HeadFile::at(desk.head()).read().unwrap().unwrap();
    let report = verify::files(&files, Some(&head.into())).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);

    // A journal with a changed entry is not rotated, because it may have been a reservation; it is not ended either.
    desk.journal().append(5, &other_entry("behind it")).unwrap();
    let whole = fs::read_to_string(desk.path("journal.jsonl")).unwrap();
    let bent = whole.replace(r#""given":5"#, r#""given":4"#);
    assert_ne!(bent, whole);
    fs::write(desk.path("journal.jsonl"), &bent).unwrap();
    let error = desk.journal().rotate(5, &desk.path("archive-9")).unwrap_err();
    assert!(error.is(Code::JournalDamaged), "{error}");
    assert_eq!(fs::read_to_string(desk.path("journal.jsonl")).unwrap(), bent);
    assert!(!desk.path("archive-9").exists());
}

#[test]
fn signers_that_race_get_different_indices() {
    let desk = Desk::new();
    let indices: Vec<u32> = std::thread::scope(|scope| {
        let race = || {
            let key = desk.open();
            (0..4).map(|_| sign(&key).unwrap()).collect::<Vec<_>>()
        };
        let others = || {
            for _ in 0..20 {
                desk.journal().append(1, &other_entry("another signer")).unwrap();
            }
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(race)).collect();
        let between = scope.spawn(others);
        let indices = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        between.join().unwrap();
        indices
    });
    assert_eq!(indices.iter().collect::<BTreeSet<_>>().len(), 12);

    // Copies do not share the lock of the key file: the journal lets one of them on.
    let counter = || counter(&desk.journal(), &desk.public());
    let (mut one, mut other) = (counter(), counter());
    let (from, same) = (one.read().unwrap(), other.read().unwrap());
    one.raise(&from).unwrap();
    assert!(other.raise(&same).unwrap_err().is(Code::LmsBusy));
}

fn counter(journal: &Journal, public: &PublicKey) -> JournalCounter {
    let head = HeadFile::at(journal.path().with_extension("head"));
    // The desk's head file is on its own medium; a counter alone notes it beside the journal.
    let _ = head.advance(&journal.head().unwrap().unwrap());
    JournalCounter::new(journal.clone(), head, public, "file key".into(), Some(scribe()))
}

fn reservation(key: u8, given: u32, after: Option<keys::journal::JournalHead>) -> Record {
    Record::of(Event::Reservation(Reservation {
        key: Key {
            algorithm: "lms-h10-w4".into(),
            custody: "file".into(),
            id: Digest([key; 32]),
        },
        given,
        after,
    }))
}

/// As many keys as a journal admits can be carried, whatever their numbers; one more is refused.
#[test]
fn a_journal_knows_only_as_many_keys_as_it_can_carry() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::at(folder.path().join("j"), None);
    for key in 0..LMS_KEYS_MAX as u8 {
        let bound = journal.append(1, &reservation(key, 0, None)).unwrap().head;
        journal.append(1, &reservation(key, 1, Some(bound))).unwrap();
    }
    assert!(
        journal
            .append(1, &reservation(255, 0, None))
            .unwrap_err()
            .is(Code::JournalFull)
    );
    journal.rotate(1, &folder.path().join("archive")).unwrap();
    assert!(
        journal
            .append(1, &reservation(255, 0, None))
            .unwrap_err()
            .is(Code::JournalFull)
    );
    let carried = journal.last_reservation(&Digest([77; 32])).unwrap().unwrap();
    assert_eq!(carried.given, 1);
    // A reservation that skips one, repeats one, or begins anew is not entered, whoever writes it.
    for (given, after) in [(1, carried.after), (3, Some(carried.last)), (0, None), (2, None)] {
        assert!(
            journal
                .append(1, &reservation(77, given, after))
                .unwrap_err()
                .is(Code::LmsBusy),
            "{given}"
        );
    }
    journal.append(1, &reservation(77, 2, Some(carried.last))).unwrap();
}

/// More than one piece that is read at a time lies behind the reservation, and a torn line at the end.
#[test]
fn a_reservation_far_from_the_end_is_found() {
    let desk = Desk::new();
    desk.sign().unwrap();
    let records: Vec<Record> = (0..40).map(|n| other_entry(&"x".repeat(n * 200))).collect();
    desk.journal().append_all(1, &records).unwrap();
    let mut torn = fs::read(desk.path("journal.jsonl")).unwrap();
    assert!(torn.len() > 140_000);
    torn.extend(b"{\"at\":1,\"torn");
    fs::write(desk.path("journal.jsonl"), torn).unwrap();
    assert_eq!(desk.sign().unwrap(), 1);
    assert!(verify::files(&[desk.path("journal.jsonl")], None).unwrap().is_whole());
}

// ---------------------------------------------------------------------------------------------------------------------
// Crashes

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// It failed, and nothing is there.
    NotPersisted,
    /// It failed, and is there all the same.
    Persisted,
    /// The journal's line is cut short.
    Torn,
    /// The journal has its line, and the head file does not know.
    HeadBehind,
}

/// State and journal of one key; fails at its nth write.
struct Medium {
    folder: TempDir,
    state: Vec<u8>,
    writes: u32,
    fault: Option<(u32, Fault)>,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Medium>>, PublicKey);

impl Shared {
    fn fault(&self) -> Option<Fault> {
        let mut medium = self.0.borrow_mut();
        let number = medium.writes;
        medium.writes += 1;
        medium.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.borrow().folder.path().join(name)
    }

    fn journal(&self) -> JournalCounter {
        let (journal, head) = (Journal::at(self.path("journal"), None), HeadFile::at(self.path("head")));
        JournalCounter::new(journal, head, &self.1, "file key".into(), Some(scribe()))
    }

    /// One start of a program that reserves one index.
    fn reserve(&self) -> Result<u32> {
        Ledger::new(self.clone(), self.clone(), self.1.thumbprint(), 1000).reserve()
    }
}

fn failed() -> keys::Error {
    Code::LmsStateWrite.error("a fault of this test")
}

impl StateStore for Shared {
    fn load(&mut self) -> Result<Vec<u8>> {
        Ok(self.0.borrow().state.clone())
    }
    fn replace(&mut self, content: &[u8]) -> Result<()> {
        let fault = self.fault();
        if matches!(fault, None | Some(Fault::Persisted)) {
            self.0.borrow_mut().state = content.to_vec();
        }
        fault.map_or(Ok(()), |_| Err(failed()))
    }
    fn describe(&self) -> String {
        "state".into()
    }
}

impl OutsideCounter for Shared {
    fn read(&mut self) -> Result<Count> {
        self.journal().read()
    }
    fn raise(&mut self, from: &Count) -> Result<Count> {
        let fault = self.fault();
        if fault == Some(Fault::NotPersisted) {
            return Err(failed());
        }
        let head = fs::read(self.path("head")).unwrap();
        let raised = self.journal().raise(from);
        if matches!(fault, Some(Fault::Torn | Fault::HeadBehind)) {
            fs::write(self.path("head"), head).unwrap();
        }
        if fault == Some(Fault::Torn) {
            let whole = fs::read(self.path("journal")).unwrap();
            fs::write(self.path("journal"), &whole[..whole.len() - 9]).unwrap();
        }
        fault.map_or(raised, |_| Err(failed()))
    }
    fn describe(&self) -> String {
        "counter".into()
    }
}

/// Every fault at every write of a reservation, followed by every fault at every write of the next, with a rotation in
/// between or without: no index comes out twice, none is refused for ever, and the journal stays whole.
#[test]
fn no_fault_gives_an_index_twice() {
    use Fault::{HeadBehind, NotPersisted, Persisted, Torn};
    let public = Desk::new().public();
    let faults = || {
        let anywhere = (0..4).flat_map(|at| [NotPersisted, Persisted].map(|kind| (at, kind)));
        // The second write is the journal's.
        anywhere.chain([(1, Torn), (1, HeadBehind)])
    };
    let (mut cases, mut burnt) = (0, 0);
    for first in faults() {
        for second in faults() {
            let rotates = cases % 2 == 0;
            let folder = tempfile::tempdir().unwrap();
            let medium = Shared(
                Rc::new(RefCell::new(Medium {
                    folder,
                    state: Vec::new(),
                    writes: 0,
                    fault: None,
                })),
                public.clone(),
            );
            let binding = Binding::Journal {
                journal: medium.path("journal"),
                head: medium.path("head"),
                last: medium.journal().bind().unwrap().last.unwrap(),
            };
            medium.0.borrow_mut().state = State::new(public.thumbprint(), binding).to_text().into_bytes();
            let mut given = Vec::new();
            for (round, fault) in [Some(first), Some(second), None].into_iter().enumerate() {
                {
                    let mut medium = medium.0.borrow_mut();
                    (medium.writes, medium.fault) = (0, fault);
                }
                for _ in 0..2 {
                    match medium.reserve() {
                        Ok(index) => given.push(index),
                        Err(error) => assert!(fault.is_some() && error.is(Code::LmsStateWrite), "{error}"),
                    }
                    if rotates && round == 0 {
                        let archive = medium.path(&format!("archive-{}", given.len()));
                        let head = HeadFile::at(medium.path("head"));
                        let _ = Journal::at(medium.path("journal"), Some(head)).rotate(1, &archive);
                    }
                }
            }
            assert!(given.is_sorted_by(|a, b| a < b), "{first:?} {second:?}: {given:?}");
            burnt += given.last().unwrap() + 1 - given.len() as u32;
            let report = verify::files(&[medium.path("journal")], None).unwrap();
            assert!(report.is_whole(), "{:?}", report.findings);
            cases += 1;
        }
    }
    assert_eq!(cases, 100);
    assert!(burnt > 0, "no case came to a lost index");
}
