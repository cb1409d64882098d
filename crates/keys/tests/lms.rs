//! LMS keys: two other implementations agree, and no index is ever used twice, whatever breaks.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_keys::file::{FileKey, LockedKey};
use ampoule_keys::lms::{
    Binding, Count, CounterFile, FEW_LEFT, Ledger, NewCounter, OutsideCounter, Set, State, StateFile, StateStore,
    Usage, create, state_path,
};
use ampoule_keys::{
    Code, Content, DevelopmentOnly, Error, Job, Object, Passphrase, PublicKey, Purpose, Result, SignatureAlgorithm,
    Signer,
};
use hbs_lms::{HssParameter, LmotsAlgorithm, LmsAlgorithm, Seed, Sha256_192, Sha256_256};
use lms_signature::lms::{LmsMode, LmsSha256M32H5, LmsSha256M32H10};
use lms_signature::ots::{LmsOtsSha256N32W4, LmsOtsSha256N32W8};
use tempfile::TempDir;
use trust::lms::HssLms;
use trust::{PublicKey as Borrowed, Verifier};

const PASSPHRASE: &str = "four random words here";

fn purpose() -> Purpose {
    Purpose {
        object: Object::Record,
        subject: "a test".into(),
        digest: [7; 32],
    }
}

fn sign(key: &FileKey, message: &[u8]) -> Result<Vec<u8>> {
    let job = Job {
        content: Content::Message(&[message]),
        purpose: &purpose(),
    };
    key.sign(&job).map(|signature| signature.as_cose().to_vec())
}

/// The index of an HSS signature of one level.
fn index(signature: &[u8]) -> u32 {
    u32::from_be_bytes(signature[4..8].try_into().unwrap())
}

/// A key in a folder of its own, with its counter in another one.
struct Desk {
    folder: TempDir,
    medium: TempDir,
}

impl Desk {
    fn new(set: Set) -> (Desk, FileKey) {
        let desk = Desk {
            folder: tempfile::tempdir().unwrap(),
            medium: tempfile::tempdir().unwrap(),
        };
        let key = create(
            &desk.key(),
            set,
            &NewCounter::File(desk.counter()),
            &Passphrase::new(PASSPHRASE),
        )
        .unwrap();
        (desk, key)
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("lms.pem")
    }

    fn state(&self) -> PathBuf {
        state_path(&self.key())
    }

    fn counter(&self) -> PathBuf {
        self.medium.path().join("lms.counter")
    }

    fn open(&self) -> FileKey {
        open(&self.key())
    }
}

fn open(path: &Path) -> FileKey {
    let locked = LockedKey::read(path).unwrap();
    locked.unlock(Some(&Passphrase::new(PASSPHRASE))).unwrap()
}

fn small() -> Set {
    Set::new(5, 4).unwrap()
}

// ---------------------------------------------------------------------------------------------------------------------
// Two other implementations

/// What we sign, both verify.
#[test]
fn others_verify_what_we_sign() {
    for (height, width) in [(5, 4), (5, 8), (10, 4)] {
        let (_desk, key) = Desk::new(Set::new(height, width).unwrap());
        let public = key.public_key().raw();
        for round in 0..3 {
            let message = format!("message {round}");
            let signature = sign(&key, message.as_bytes()).unwrap();
            assert_eq!(index(&signature), round);
            let by_hbs = hbs_lms::verify::<Sha256_256>(message.as_bytes(), &signature, &public);
            assert!(by_hbs.is_ok(), "hbs-lms, H{height} W{width}");
            let wrong = hbs_lms::verify::<Sha256_256>(b"another", &signature, &public);
            assert!(wrong.is_err());
            let by_rustcrypto = match (height, width) {
                (5, 4) => verified::<LmsSha256M32H5<LmsOtsSha256N32W4>>(&public, &message, &signature),
                (5, 8) => verified::<LmsSha256M32H5<LmsOtsSha256N32W8>>(&public, &message, &signature),
                _ => verified::<LmsSha256M32H10<LmsOtsSha256N32W4>>(&public, &message, &signature),
            };
            assert!(by_rustcrypto, "lms-signature, H{height} W{width}");
        }
    }
}

/// Whether `lms-signature` takes this HSS signature of one level.
fn verified<M: LmsMode>(public: &[u8], message: &str, signature: &[u8]) -> bool {
    use p256::ecdsa::signature::Verifier as _;
    let key = lms_signature::lms::VerifyingKey::<M>::try_from(&public[4..]).unwrap();
    let signature = lms_signature::lms::Signature::<M>::try_from(&signature[4..]).unwrap();
    key.verify(message.as_bytes(), &signature).is_ok()
}

/// What `hbs-lms` signs with every set that is not too slow to make, we verify: also with SHA-256/192.
#[test]
fn we_verify_what_others_sign() {
    use LmotsAlgorithm::{LmotsW4, LmotsW8};
    use LmsAlgorithm::{LmsH5, LmsH10};
    for (one_time, tree) in [(LmotsW4, LmsH5), (LmotsW8, LmsH5), (LmotsW4, LmsH10)] {
        foreign::<Sha256_256>(HssParameter::new(one_time, tree), 1);
        foreign::<Sha256_192>(HssParameter::new(one_time, tree), 1);
    }
}

/// Two levels by the other implementation: refused.
#[test]
fn two_levels_by_others_are_refused() {
    foreign::<Sha256_256>(HssParameter::new(LmotsAlgorithm::LmotsW4, LmsAlgorithm::LmsH5), 2);
}

fn foreign<H: hbs_lms::HashChain>(parameter: HssParameter<H>, levels: usize) {
    use hbs_lms::signature::SignerMut;
    let mut seed = Seed::<H>::default();
    seed.as_mut_slice().fill(7);
    let parameters = vec![parameter; levels];
    let (mut private, public) = hbs_lms::keygen::<H>(&parameters, &seed, None).unwrap();
    let signature = private.try_sign(b"a message").unwrap();
    let (public, signature) = (public.as_slice().to_vec(), signature.as_ref().to_vec());
    let (public, signature) = with_registered_types(public, signature);
    let key = Borrowed::HssLms { public: &public };
    let verdict = |message: &[u8]| HssLms.verify(&key, &[message], &signature).is_ok();
    assert_eq!((verdict(b"a message"), verdict(b"a massage")), (levels == 1, false));
    let owned = PublicKey::from_raw(SignatureAlgorithm::HssLms, &public);
    if levels == 1 {
        let owned = owned.unwrap();
        assert_eq!(PublicKey::from_pem(&owned.to_pem()).unwrap(), owned);
        assert_eq!(trust::image_key_hash(&owned.borrow()), Some(owned.image_key_hash()));
    } else {
        let refused = owned.unwrap_err();
        assert!(
            refused.is(Code::KeyAlgorithm) && refused.what.contains("2 levels"),
            "{refused}"
        );
    }
}

/// `hbs-lms` numbers the sets of SHA-256/192 as those of SHA-256; SP 800-208 gave them numbers of their own, 5 and 4
/// higher. With one level nothing hashes the numbers.
fn with_registered_types(mut public: Vec<u8>, mut signature: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    if public.len() == 52 {
        let chains = if public[11] == 3 { 51 } else { 26 };
        public[7] += 5;
        public[11] += 4;
        signature[11] += 4;
        signature[12 + 24 * (1 + chains) + 3] += 5;
    }
    (public, signature)
}

// ---------------------------------------------------------------------------------------------------------------------
// State and counter

#[test]
fn indices_go_up_over_restarts_until_the_key_is_used_up() {
    let (desk, key) = Desk::new(small());
    let mut seen = vec![index(&sign(&key, b"0").unwrap())];
    drop(key);
    for round in 1..32 {
        let key = if round % 8 == 0 { desk.open() } else { open(&desk.key()) };
        let usage = Usage::of(&desk.key(), key.public_key()).unwrap();
        assert_eq!((usage.total, usage.left), (32, 32 - round));
        assert_eq!(usage.is_nearly_over(), usage.left < FEW_LEFT);
        seen.push(index(&sign(&key, b"more").unwrap()));
    }
    assert_eq!(seen, (0..32).collect::<Vec<_>>());
    let key = desk.open();
    assert!(sign(&key, b"one too many").unwrap_err().is(Code::LmsExhausted));
    assert_eq!(Usage::of(&desk.key(), key.public_key()).unwrap().left, 0);
    assert_eq!(key.development_only(), Some(DevelopmentOnly::LmsFile));
}

/// Below 20, and below a tenth of a larger key.
#[test]
fn a_key_is_nearly_over_below_twenty_and_below_a_tenth() {
    let is_nearly_over = |left, total| {
        let counter = String::new();
        Usage { total, left, counter }.is_nearly_over()
    };
    for (total, enough) in [(32, 20), (1024, 102), (32768, 3276)] {
        assert!(!is_nearly_over(enough, total), "{total}");
        assert!(is_nearly_over(enough - 1, total) && is_nearly_over(0, total), "{total}");
    }
}

#[test]
fn signers_that_race_get_different_indices() {
    let (desk, _) = Desk::new(small());
    let indices: Vec<u32> = std::thread::scope(|scope| {
        let sign = || {
            let key = desk.open();
            (0..4)
                .map(|_| index(&sign(&key, b"raced").unwrap()))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(sign)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(indices.iter().collect::<BTreeSet<_>>().len(), 16);
}

/// A copy of the key and its state, an old state, an old counter, another key's, none: each is refused by its number, and
/// signs nothing.
#[test]
fn what_was_copied_or_put_back_signs_nothing() {
    let (desk, key) = Desk::new(small());
    sign(&key, b"first").unwrap();
    let [old_state, old_counter] = [desk.state(), desk.counter()].map(|file| std::fs::read(file).unwrap());
    // A copy elsewhere, made before the second signature.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.pem");
    std::fs::copy(desk.key(), &copy).unwrap();
    assert!(sign(&open(&copy), b"no state").unwrap_err().is(Code::LmsStateMissing));
    std::fs::copy(desk.state(), state_path(&copy)).unwrap();
    sign(&key, b"second").unwrap();
    assert!(sign(&open(&copy), b"a copy").unwrap_err().is(Code::LmsStateOld));

    let [state, counter] = [desk.state(), desk.counter()].map(|file| std::fs::read(file).unwrap());
    let refused = |code: Code| {
        assert!(sign(&desk.open(), b"x").unwrap_err().is(code), "{code:?}");
        std::fs::write(desk.state(), &state).unwrap();
        std::fs::write(desk.counter(), &counter).unwrap();
    };
    std::fs::write(desk.state(), &old_state).unwrap();
    refused(Code::LmsStateOld);
    std::fs::write(desk.counter(), &old_counter).unwrap();
    refused(Code::LmsCounterBehind);
    std::fs::remove_file(desk.counter()).unwrap();
    refused(Code::LmsCounterMissing);
    std::fs::write(desk.state(), "ampoule-lms-state-1\n").unwrap();
    refused(Code::LmsStateDamaged);
    let mut changed = counter.clone();
    let last = changed.len() - 3;
    changed[last] ^= 1;
    std::fs::write(desk.counter(), changed).unwrap();
    refused(Code::LmsCounterDamaged);

    let (other, _) = Desk::new(small());
    std::fs::copy(other.counter(), desk.counter()).unwrap();
    refused(Code::LmsForeign);
    std::fs::copy(other.state(), desk.state()).unwrap();
    refused(Code::LmsForeign);
    // As it was, it goes on.
    assert_eq!(index(&sign(&desk.open(), b"third").unwrap()), 2);
}

#[test]
fn nothing_is_made_over_a_file_and_nothing_is_left_behind() {
    let (desk, _) = Desk::new(small());
    let passphrase = Passphrase::new(PASSPHRASE);
    let fresh = desk.folder.path().join("fresh.pem");
    let medium = |name: &str| NewCounter::File(desk.medium.path().join(name));
    let refusal =
        |key: &Path, counter: &NewCounter| create(key, small(), counter, &passphrase).map(|_| ()).unwrap_err();
    assert!(refusal(&desk.key(), &medium("c")).is(Code::KeyExists));
    assert!(refusal(&fresh, &NewCounter::File(desk.counter())).is(Code::KeyExists));
    assert!(refusal(&fresh, &medium("no/such")).is(Code::LmsCounterMissing));
    assert!(refusal(&fresh, &medium("two\nlines")).is(Code::Argument));
    let unwritable = desk.folder.path().join("no/such.pem");
    refusal(&unwritable, &medium("d"));
    assert!(!desk.medium.path().join("d").exists() && !fresh.exists());
}

/// A state of version 1 signs on, and is of version 2 then.
#[test]
fn a_state_of_version_1_goes_on() {
    let (desk, key) = Desk::new(small());
    let counter = desk.counter();
    let lines = |title: &str, kind: &str| {
        let id: String = (key.public_key().thumbprint().iter())
            .map(|b| format!("{b:02x}"))
            .collect();
        let counter = counter.display();
        let text = format!("{title}\nkey {id}\ncounter {kind}{counter}\nnext 0\nreserving -\n");
        let sum: String = (trust::Sha256::of(text.as_bytes()).iter())
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("{text}sum {sum}\n")
    };
    let read = || std::fs::read_to_string(desk.state()).unwrap();
    assert_eq!(read(), lines("ampoule-lms-state-2", "file "));
    std::fs::write(desk.state(), lines("ampoule-lms-state-1", "")).unwrap();
    assert_eq!(index(&sign(&desk.open(), b"x").unwrap()), 0);
    assert!(read().starts_with("ampoule-lms-state-2\n"));
    assert_eq!(index(&sign(&desk.open(), b"x").unwrap()), 1);
}

/// A line that a crash cut short is completed, at whatever byte; what cannot be its beginning is damage.
#[test]
fn a_torn_counter_line_is_completed() {
    let (desk, key) = Desk::new(small());
    let id = key.public_key().thumbprint();
    let before = std::fs::read(desk.counter()).unwrap();
    let raise = || CounterFile::open(&desk.counter(), id)?.raise(&Count::of(0)).map(drop);
    raise().unwrap();
    let after = std::fs::read(desk.counter()).unwrap();
    for len in before.len()..after.len() {
        std::fs::write(desk.counter(), &after[..len]).unwrap();
        assert_eq!(
            CounterFile::open(&desk.counter(), id).unwrap().read().unwrap().given,
            0,
            "{len}"
        );
        raise().unwrap();
        assert_eq!(std::fs::read(desk.counter()).unwrap(), after, "{len}");
    }
    let torn = [&before[..], b"1 zz"].concat();
    std::fs::write(desk.counter(), torn).unwrap();
    assert!(raise().unwrap_err().is(Code::LmsCounterDamaged));
}

// ---------------------------------------------------------------------------------------------------------------------
// Crashes

/// A medium of two durable things, which fails at its nth write, before or after it took effect.
#[derive(Default)]
struct Medium {
    state: Vec<u8>,
    counted: u32,
    writes: u32,
    fault: Option<(u32, Fault)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// It failed, and nothing is there.
    FailedAndNotPersisted,
    /// It failed, and is there all the same.
    FailedButPersisted,
}

impl Medium {
    fn write(&mut self, effect: impl FnOnce(&mut Medium)) -> Result<()> {
        let number = self.writes;
        self.writes += 1;
        match self.fault {
            Some((at, fault)) if at == number => {
                if fault == Fault::FailedButPersisted {
                    effect(self);
                }
                Err(Code::LmsStateWrite.error("a fault of this test"))
            }
            _ => {
                effect(self);
                Ok(())
            }
        }
    }
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Medium>>);

impl StateStore for Shared {
    fn load(&mut self) -> Result<Vec<u8>> {
        Ok(self.0.borrow().state.clone())
    }
    fn replace(&mut self, content: &[u8]) -> Result<()> {
        self.0.borrow_mut().write(|medium| medium.state = content.to_vec())
    }
    fn describe(&self) -> String {
        "state".into()
    }
}

impl OutsideCounter for Shared {
    fn read(&mut self) -> Result<Count> {
        Ok(Count::of(self.0.borrow().counted))
    }
    fn raise(&mut self, from: &Count) -> Result<Count> {
        assert_eq!(self.0.borrow().counted, from.given);
        self.0.borrow_mut().write(|medium| medium.counted += 1)?;
        self.read()
    }
    fn describe(&self) -> String {
        "counter".into()
    }
}

impl Shared {
    fn new() -> Shared {
        let state = State::new([1; 32], Binding::File("counter".into()))
            .to_text()
            .into_bytes();
        Shared(Rc::new(RefCell::new(Medium {
            state,
            ..Medium::default()
        })))
    }

    /// One start of a program that reserves one index: a new ledger each time, as after a crash.
    fn reserve(&self) -> Result<u32, Error> {
        Ledger::new(self.clone(), self.clone(), [1; 32], 1000).reserve()
    }
}

/// Every pair of faults, at every write, of both kinds, over several starts: every index that came out is new, and after
/// the faults the key goes on.
#[test]
fn no_fault_gives_an_index_twice() {
    use Fault::{FailedAndNotPersisted, FailedButPersisted};
    let faults = || (0..8).flat_map(|at| [FailedAndNotPersisted, FailedButPersisted].map(|kind| (at, kind)));
    let (mut cases, mut burnt) = (0, 0);
    for first in faults() {
        for second in faults() {
            let medium = Shared::new();
            let mut given = BTreeMap::new();
            for fault in [Some(first), Some(second), None] {
                {
                    let mut medium = medium.0.borrow_mut();
                    (medium.writes, medium.fault) = (0, fault);
                }
                for start in 0..4 {
                    if let Ok(index) = medium.reserve() {
                        assert_eq!(given.insert(index, start), None, "{first:?} {second:?}");
                    } else {
                        assert!(fault.is_some());
                    }
                }
            }
            let highest = *given.keys().next_back().unwrap() as usize;
            burnt += highest + 1 - given.len();
            cases += 1;
        }
    }
    assert_eq!(cases, 256);
    assert!(burnt > 0, "no case came to a lost index");
}

/// An old state restored at any point after it was taken, with the counter where it is: refused, or it goes on with an
/// index that was never given.
#[test]
fn a_restored_state_never_gives_an_old_index() {
    // States as they stood after every single write.
    let medium = Shared::new();
    let mut states = vec![medium.0.borrow().state.clone()];
    for round in 0..4 {
        for at in 0..3 {
            let trial = Shared(Rc::new(RefCell::new(Medium {
                state: medium.0.borrow().state.clone(),
                counted: medium.0.borrow().counted,
                writes: 0,
                fault: Some((at, Fault::FailedButPersisted)),
            })));
            assert!(trial.reserve().is_err());
            states.push(trial.0.borrow().state.clone());
        }
        assert_eq!(medium.reserve().unwrap(), round);
    }
    let (mut refused, mut given) = (0, 0);
    for counted in 0..=4 {
        for state in &states {
            let restored = Shared(Rc::new(RefCell::new(Medium {
                state: state.clone(),
                counted,
                ..Medium::default()
            })));
            match restored.reserve() {
                Ok(index) => {
                    assert!(index >= counted, "index {index} was given when {counted} were counted");
                    given += 1;
                }
                Err(error) => {
                    assert!(
                        error.is(Code::LmsStateOld) || error.is(Code::LmsCounterBehind),
                        "{error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0 && given > 0, "{refused} {given}");
}

/// The same with files: a disk that refuses the new state leaves the old one, and no signature.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_gives_no_signature() {
    let (desk, key) = Desk::new(small());
    sign(&key, b"first").unwrap();
    // Where the new state is to be prepared stands a folder, which `remove_file` does not remove.
    let mut blocked = desk.state().into_os_string();
    blocked.push(".new");
    std::fs::create_dir(&blocked).unwrap();
    assert!(sign(&key, b"second").unwrap_err().is(Code::LmsStateWrite));
    std::fs::remove_dir(&blocked).unwrap();
    assert_eq!(index(&sign(&key, b"second").unwrap()), 1);
    let mut state = StateFile::at(&desk.state());
    assert_eq!(State::parse(&state.load().unwrap(), "").unwrap().next, 2);
}
