//! LMS keys in files: signing with a state that must never go back (RFC 8554, SP 800-208).
//!
//! An LMS key signs 2^h times, each time with another one-time key. **Two messages signed with one of them give the key
//! away.** So the number of the next one, the index, is a state that is worth as much as the secret, and a copy of a file
//! put back later is the disaster. The rules here:
//!
//! 1. An index is reserved durably *before* a signature is made; what a crash leaves in between is burnt.
//! 2. The state is bound to a counter outside of it ([`OutsideCounter`]): a file on another medium, the signing journal
//!    with its head on another medium, or an NV counter of a TPM. A state that does not agree with the counter, in either
//!    direction, signs nothing.
//! 3. One signer at a time holds the lock, which is the key file's. Where copies race all the same, a counter gives its
//!    next step to one of them.
//! 4. Files can be copied together with a counter that is a file, so such keys are for development only
//!    ([`DevelopmentOnly::LmsFile`]). With a counter in a TPM a copy signs nothing, and the key is what every key in a file
//!    is ([`DevelopmentOnly::File`]).
//!
//! | file | holds |
//! |---|---|
//! | `KEY` | identifier and seed, encrypted as every key file; the public key |
//! | `KEY.state` | the next index, and what it is bound to |
//! | the counter | how many indices were ever given away; it only grows |

pub mod counter;
pub mod journal;
pub mod state;
pub mod tpm;
mod tree;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use trust::lms::{PUBLIC_BYTES_MAX, Parameters};
use zeroize::Zeroizing;

pub use counter::{Count, CounterFile, OutsideCounter};
pub use journal::{JournalCounter, Scribe};
pub use state::{Binding, Ledger, State, StateFile, StateStore};
pub use tpm::{NvCounter, Tpm, TpmCounter};
use tree::{Secret, Tree};

use crate::file::{FileKey, random};
use crate::journal::{HeadFile, Journal};
use crate::{Code, Content, DevelopmentOnly, Job, Passphrase, PublicKey, Result};

/// Below this many signatures left everybody is warned, and below a tenth of all.
pub const FEW_LEFT: u32 = 20;

/// A parameter set with which keys are made here: SHA-256 with 32 bytes. Higher trees verify, but growing one of height 20
/// takes minutes at every start of a program; they are for hardware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set(Parameters);

impl Set {
    /// The set of this height (5, 10 or 15) and Winternitz width (4 or 8).
    pub fn new(height: u32, width: u32) -> Option<Self> {
        let tree = matches!(height, 5 | 10 | 15).then_some(4 + height / 5)?;
        let one_time = matches!(width, 4 | 8).then_some(2 + width / 4)?;
        Parameters::of_types(tree, one_time).ok().map(Set)
    }
}

/// The private half as it stands in a key file, and where its state is.
pub(crate) struct FileTree {
    secret: Secret,
    /// Grown when it is first needed: seconds for a high tree.
    tree: OnceLock<Tree>,
    place: PathBuf,
    /// Who reserves, for keys that are bound to a journal.
    scribe: Option<Scribe>,
}

impl FileTree {
    /// From the octets of a PKCS#8 private key.
    pub(crate) fn from_octets(octets: &[u8], place: &Path) -> Option<Self> {
        Some(FileTree {
            secret: Secret::from_octets(octets)?,
            tree: OnceLock::new(),
            place: place.to_path_buf(),
            scribe: None,
        })
    }

    pub(crate) fn reserve_as(&mut self, scribe: Scribe) {
        self.scribe = Some(scribe);
    }

    /// Why it must not be used in production.
    pub(crate) fn development_only(&self) -> DevelopmentOnly {
        development_only(&self.place)
    }

    pub(crate) fn to_octets(&self) -> Zeroizing<Vec<u8>> {
        self.secret.to_octets()
    }

    fn tree(&self) -> &Tree {
        self.tree.get_or_init(|| Tree::grow(&self.secret))
    }

    pub(crate) fn public(&self) -> Result<PublicKey> {
        PublicKey::from_raw(trust::SignatureAlgorithm::HssLms, &self.tree().public())
    }

    /// Reserves an index, then signs with it.
    pub(crate) fn sign(&self, public: &PublicKey, job: &Job<'_>) -> Result<Vec<u8>> {
        let tree = self.tree();
        let randomizer = random()?;
        let access = Access::of(&self.place, public, self.scribe.clone())?;
        access.check_scribe()?;
        let _lock = access.lock()?;
        let index = access.ledger()?.reserve()?;
        Ok(match job.content {
            Content::Message(parts) => tree.sign(index, &randomizer, parts),
            Content::Digest(sha256) => tree.sign(index, &randomizer, &[sha256]),
        })
    }
}

/// The counter to which a new key is bound.
#[derive(Clone, Debug)]
pub enum NewCounter {
    /// A new file, which belongs on another medium.
    File(PathBuf),
    /// The signing journal, whose head is noted in a file on another medium.
    Journal {
        /// Its file; begun if there is none.
        journal: PathBuf,
        /// The head file.
        head: PathBuf,
        /// Who makes the key.
        scribe: Scribe,
    },
    /// A new NV counter.
    Tpm {
        /// The TPM.
        tpm: Tpm,
        /// The NV index, of those that belong to the owner ([`tpm::HANDLES`]).
        handle: u32,
    },
}

/// Makes an LMS key: the key file at `path`, its state beside it, and its outside counter. None of the three may exist; a
/// journal may, and gets an entry.
///
/// Errors: those of [`FileKey::save_new`]; [`Code::KeyExists`] for each of the three; [`Code::LmsCounterMissing`] the
/// folder of a counter file is not there; [`Code::Argument`] a path that a state cannot name; those of the journal;
/// [`Code::LmsTpm`].
pub fn create(path: &Path, set: Set, counter: &NewCounter, passphrase: &Passphrase) -> Result<FileKey> {
    passphrase.check_for_new_key()?;
    let state_path = state_path(path);
    for file in [path, &state_path] {
        if file.exists() {
            return Err(Code::KeyExists.error(format!("{} exists already", file.display())));
        }
    }
    let tree = FileTree {
        secret: Secret::new(set.0, &*random()?, &*random()?),
        tree: OnceLock::new(),
        place: path.to_path_buf(),
        scribe: None,
    };
    let mut key = FileKey::of_lms(tree)?;
    let public = crate::Signer::public_key(&key).clone();
    let binding = counter.bind(path, &public)?;
    let made = StateFile::at(&state_path)
        .create(&State::new(public.thumbprint(), binding.clone()))
        .and_then(|()| key.save_new(path, passphrase));
    if let Err(error) = made {
        // Nothing was signed: a counter without a key would only be in the way of the next attempt.
        let _ = fs::remove_file(&state_path);
        counter.unbind(binding);
        return Err(error);
    }
    if let NewCounter::Journal { scribe, .. } = counter {
        key = key.reserving_as(scribe.clone());
    }
    Ok(key)
}

impl NewCounter {
    /// Makes the counter of this key.
    fn bind(&self, path: &Path, public: &PublicKey) -> Result<Binding> {
        match self {
            NewCounter::File(file) => {
                let file = named(file)?;
                CounterFile::create(&file, public.thumbprint())?;
                Ok(Binding::File(file))
            }
            NewCounter::Journal { journal, head, scribe } => {
                let (journal, head) = (named(journal)?, named(head)?);
                let (file, noted) = (Journal::at(&journal, None), HeadFile::at(&head));
                let count = JournalCounter::new(file, noted, public, custody(path), Some(scribe.clone())).bind()?;
                let unnamed = || Code::JournalEntry.error("the journal gave its entry no name");
                let last = count.last.ok_or_else(unnamed)?;
                Ok(Binding::Journal { journal, head, last })
            }
            NewCounter::Tpm { tpm, handle } => {
                let counter = TpmCounter::create(tpm.clone(), *handle, &*random()?)?;
                Ok(Binding::Tpm(counter.bound().clone()))
            }
        }
    }

    /// Takes it away again; a journal keeps its entry, which gave nothing away.
    fn unbind(&self, binding: Binding) {
        match (self, binding) {
            (_, Binding::File(file)) => drop(fs::remove_file(file)),
            (NewCounter::Tpm { tpm, .. }, Binding::Tpm(bound)) => drop(TpmCounter::new(tpm.clone(), bound).remove()),
            _ => {}
        }
    }
}

/// A path as a state names it: absolute, on one line.
fn named(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let is_line = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
    let refused = || Code::Argument.error(format!("{} cannot be named in a state file", path.display()));
    is_line.then(|| path.clone()).ok_or_else(refused)
}

fn custody(path: &Path) -> String {
    format!("file {}", path.display())
}

/// Why the LMS key in this file must not be used in production: whoever copies its files copies the counter too, unless it
/// is in a TPM.
pub fn development_only(path: &Path) -> DevelopmentOnly {
    let state = StateFile::at(&state_path(path)).load();
    match state.and_then(|text| State::parse(&text, "")) {
        Ok(State {
            binding: Binding::Tpm(_),
            ..
        }) => DevelopmentOnly::File,
        _ => DevelopmentOnly::LmsFile,
    }
}

/// How much of a key is used up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Signatures that the key can ever make.
    pub total: u32,
    /// Signatures left.
    pub left: u32,
    /// The outside counter, as a person reads it.
    pub counter: String,
}

impl Usage {
    /// Reads state and counter of the key file at `path`, and changes neither; the private key stays closed. Errors as of
    /// [`Ledger::look`].
    pub fn of(path: &Path, public: &PublicKey) -> Result<Usage> {
        let access = Access::of(path, public, None)?;
        let _lock = access.lock()?;
        let used = access.ledger()?.look()?;
        Ok(Usage {
            total: access.total,
            left: access.total.saturating_sub(used),
            counter: access.binding.describe(),
        })
    }

    /// Whether a successor should be enrolled now.
    pub fn is_nearly_over(&self) -> bool {
        self.left < FEW_LEFT || self.left < self.total / 10
    }
}

/// State and counter that belong to a key file.
struct Access<'a> {
    path: &'a Path,
    state: StateFile,
    binding: Binding,
    public: &'a PublicKey,
    scribe: Option<Scribe>,
    total: u32,
}

impl<'a> Access<'a> {
    fn of(path: &'a Path, public: &'a PublicKey, scribe: Option<Scribe>) -> Result<Access<'a>> {
        let raw = public.raw();
        debug_assert!(raw.len() <= PUBLIC_BYTES_MAX);
        let not_lms = |_| Code::KeyAlgorithm.error(format!("{} is no LMS key", path.display()));
        let parameters = trust::lms::Tree::of(&raw).map_err(not_lms)?.parameters;
        let mut state = StateFile::at(&state_path(path));
        let binding = State::parse(&state.load()?, &state.describe())?.binding;
        Ok(Access {
            path,
            state,
            binding,
            public,
            scribe,
            total: 1 << parameters.height(),
        })
    }

    /// Before anything is written: a journal wants to know who signs.
    fn check_scribe(&self) -> Result<()> {
        match (&self.binding, &self.scribe) {
            (Binding::Journal { .. }, None) => Err(journal::no_scribe()),
            _ => Ok(()),
        }
    }

    /// The lock of the key file: of those that sign with it one at a time reads and writes its state.
    fn lock(&self) -> Result<File> {
        let unreadable = |error| Code::KeyFileRead.error(format!("{} cannot be read: {error}", self.path.display()));
        let file = File::open(self.path).map_err(unreadable)?;
        counter::lock(&file, self.path)?;
        Ok(file)
    }

    /// To be used under the lock.
    fn ledger(&self) -> Result<Ledger<StateFile, Box<dyn OutsideCounter>>> {
        let id = self.public.thumbprint();
        let counter: Box<dyn OutsideCounter> = match &self.binding {
            Binding::File(path) => Box::new(CounterFile::open(path, id)?),
            Binding::Journal { journal, head, .. } => {
                let (journal, head) = (Journal::at(journal, None), HeadFile::at(head));
                let scribe = self.scribe.clone();
                let custody = custody(self.path);
                Box::new(JournalCounter::new(journal, head, self.public, custody, scribe))
            }
            Binding::Tpm(bound) => Box::new(TpmCounter::new(Tpm::default(), bound.clone())),
        };
        Ok(Ledger::new(self.state.clone(), counter, id, self.total))
    }
}

/// The state of the key file at `path`: its name and `.state`.
pub fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".state");
    name.into()
}
