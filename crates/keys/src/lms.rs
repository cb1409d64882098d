//! LMS keys in files: signing with a state that must never go back (RFC 8554, SP 800-208).
//!
//! An LMS key signs 2^h times, each time with another one-time key. **Two messages signed with one of them give the key
//! away.** So the number of the next one, the index, is a state that is worth as much as the secret, and a copy of a file
//! put back later is the disaster. The rules here:
//!
//! 1. An index is reserved durably *before* a signature is made; what a crash leaves in between is burnt.
//! 2. The state is bound to a counter outside of it ([`OutsideCounter`]), on another medium. A state that does not agree
//!    with the counter, in either direction, signs nothing.
//! 3. One signer at a time holds the lock.
//! 4. A file can be copied with its counter, so such keys are for development only
//!    ([`DevelopmentOnly::LmsFile`](crate::DevelopmentOnly::LmsFile)); in production the tree belongs into a hardware
//!    module, which stands behind [`Signer`](crate::Signer) like any other.
//!
//! | file | holds |
//! |---|---|
//! | `KEY` | identifier and seed, encrypted as every key file; the public key |
//! | `KEY.state` | the next index, and where the counter is |
//! | the counter's file | how many indices were ever given away; it only grows |

pub mod counter;
pub mod state;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use trust::lms::{PUBLIC_BYTES_MAX, Parameters};
use zeroize::Zeroizing;

pub use counter::{CounterFile, OutsideCounter};
pub use state::{Ledger, State, StateFile, StateStore};
use tree::{Secret, Tree};

use crate::file::{FileKey, random};
use crate::{Code, Content, Job, Passphrase, PublicKey, Result};

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
}

impl FileTree {
    /// From the octets of a PKCS#8 private key.
    pub(crate) fn from_octets(octets: &[u8], place: &Path) -> Option<Self> {
        Some(FileTree {
            secret: Secret::from_octets(octets)?,
            tree: OnceLock::new(),
            place: place.to_path_buf(),
        })
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
        let index = Access::of(&self.place, public)?.ledger()?.reserve()?;
        Ok(match job.content {
            Content::Message(parts) => tree.sign(index, &randomizer, parts),
            Content::Digest(sha256) => tree.sign(index, &randomizer, &[sha256]),
        })
    }
}

/// Makes an LMS key: the key file at `path`, its state beside it, and a new outside counter at `counter`, which belongs on
/// another medium. None of the three may exist.
///
/// Errors: those of [`FileKey::save_new`]; [`Code::KeyExists`] for each of the three; [`Code::LmsCounterMissing`] its
/// folder is not there.
pub fn create(path: &Path, set: Set, counter: &Path, passphrase: &Passphrase) -> Result<FileKey> {
    passphrase.check_for_new_key()?;
    let state_path = state_path(path);
    for file in [path, &state_path, counter] {
        if file.exists() {
            return Err(Code::KeyExists.error(format!("{} exists already", file.display())));
        }
    }
    let secret = Secret::new(set.0, &*random()?, &*random()?);
    let tree = FileTree {
        secret,
        tree: OnceLock::new(),
        place: path.to_path_buf(),
    };
    let key = FileKey::of_lms(tree)?;
    let id = crate::Signer::public_key(&key).thumbprint();
    let counter = std::path::absolute(counter).unwrap_or_else(|_| counter.to_path_buf());
    CounterFile::create(&counter, id)?;
    let made = StateFile::at(&state_path)
        .create(&State::new(id, counter.clone()))
        .and_then(|()| key.save_new(path, passphrase));
    match made {
        Ok(()) => Ok(key),
        Err(error) => {
            // Nothing was signed: a counter without a key would only be in the way of the next attempt.
            let _ = (fs::remove_file(&state_path), fs::remove_file(&counter));
            Err(error)
        }
    }
}

/// How much of a key is used up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Signatures that the key can ever make.
    pub total: u32,
    /// Signatures left.
    pub left: u32,
    /// Where the outside counter is.
    pub counter: PathBuf,
}

impl Usage {
    /// Reads state and counter of the key file at `path`; the private key stays closed. Errors as of
    /// [`Ledger::reserve`], but for [`Code::LmsExhausted`].
    pub fn of(path: &Path, public: &PublicKey) -> Result<Usage> {
        let access = Access::of(path, public)?;
        let used = access.ledger()?.settle()?;
        Ok(Usage {
            total: access.total,
            left: access.total.saturating_sub(used),
            counter: access.counter,
        })
    }

    /// Whether a successor should be enrolled now.
    pub fn is_nearly_over(&self) -> bool {
        self.left < FEW_LEFT || self.left < self.total / 10
    }
}

/// State and counter that belong to a key file.
struct Access {
    state: StateFile,
    counter: PathBuf,
    id: [u8; 32],
    total: u32,
}

impl Access {
    fn of(path: &Path, public: &PublicKey) -> Result<Access> {
        let raw = public.raw();
        debug_assert!(raw.len() <= PUBLIC_BYTES_MAX);
        let not_lms = |_| Code::KeyAlgorithm.error(format!("{} is no LMS key", path.display()));
        let parameters = trust::lms::Tree::of(&raw).map_err(not_lms)?.parameters;
        let mut state = StateFile::at(&state_path(path));
        let counter = State::parse(&state.load()?, &state.describe())?.counter;
        Ok(Access {
            state,
            counter,
            id: public.thumbprint(),
            total: 1 << parameters.height(),
        })
    }

    /// Takes the lock, which the ledger holds.
    fn ledger(&self) -> Result<Ledger<StateFile, CounterFile>> {
        let counter = CounterFile::open(&self.counter, self.id)?;
        Ok(Ledger::new(self.state.clone(), counter, self.id, self.total))
    }
}

/// The state of the key file at `path`: its name and `.state`.
pub fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".state");
    name.into()
}
