//! The state of an LMS key, and the protocol by which an index is given away.
//!
//! Three durable steps, in this order: the intention goes into the state, the counter outside is raised, the state says
//! done. A crash after any of them leaves either everything as it was or an intention; an intention is never signed with
//! but burnt, because nobody can know whether the signature left. What is neither is a copy, an old state, or another
//! key's, and is refused.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use trust::Sha256;

use super::counter::OutsideCounter;
use crate::{Code, Error, Result};

/// First line of a state file: what it is, and the version of its form.
const TITLE: &str = "ampoule-lms-state-1";
/// Bytes of a state file at most.
pub const STATE_BYTES_MAX: u64 = 8 * 1024;

/// What a state file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Thumbprint of the key.
    pub key: [u8; 32],
    /// Where the outside counter is.
    pub counter: PathBuf,
    /// The index that the next signature will have: all below are used or burnt.
    pub next: u32,
    /// What `next` was about to become when this was written.
    pub reserving: Option<u32>,
}

impl State {
    /// Of a new key.
    pub fn new(key: [u8; 32], counter: PathBuf) -> State {
        State {
            key,
            counter,
            next: 0,
            reserving: None,
        }
    }

    /// The file: lines of a name and a value, the last one with the SHA-256 of those before.
    pub fn to_text(&self) -> String {
        let reserving = self.reserving.map_or("-".into(), |to| to.to_string());
        let mut text = format!(
            "{TITLE}\nkey {}\ncounter {}\nnext {}\nreserving {reserving}\n",
            hex(&self.key),
            self.counter.display(),
            self.next,
        );
        let sum = Sha256::of(text.as_bytes());
        let _ = writeln!(text, "sum {}", hex(&sum));
        text
    }

    /// Reads such a file, strictly: only what [`State::to_text`] writes. `place` is named in the error,
    /// [`Code::LmsStateDamaged`].
    pub fn parse(bytes: &[u8], place: &str) -> Result<State> {
        let damaged = || Code::LmsStateDamaged.error(format!("the LMS state {place} is damaged"));
        let state = Self::read(bytes).ok_or_else(damaged)?;
        (state.to_text().as_bytes() == bytes)
            .then_some(state)
            .ok_or_else(damaged)
    }

    fn read(bytes: &[u8]) -> Option<State> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        (lines.next()? == TITLE).then_some(())?;
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        Some(State {
            key: unhex(value("key")?)?,
            counter: value("counter")?.into(),
            next: value("next")?.parse().ok()?,
            reserving: match value("reserving")? {
                "-" => None,
                to => Some(to.parse().ok()?),
            },
        })
    }
}

/// Where a state is kept. Whatever was replaced is on the medium before `replace` returns; when that fails, either content
/// may be there, whole.
pub trait StateStore {
    /// What is there. Error: [`Code::LmsStateMissing`], [`Code::KeyFileRead`].
    fn load(&mut self) -> Result<Vec<u8>>;
    /// Puts this in its place. Error: [`Code::LmsStateWrite`].
    fn replace(&mut self, content: &[u8]) -> Result<()>;
    /// Its name for people.
    fn describe(&self) -> String;
}

/// A state in a file, replaced by rename: file and folder are synchronised each time.
#[derive(Clone, Debug)]
pub struct StateFile(PathBuf);

impl StateFile {
    /// The state at this path.
    pub fn at(path: &Path) -> StateFile {
        StateFile(path.to_path_buf())
    }

    /// Makes the file, mode 0600. Errors: [`Code::KeyExists`], [`Code::LmsStateWrite`].
    pub fn create(&self, state: &State) -> Result<()> {
        let made = new_file(&self.0).and_then(|mut file| {
            file.write_all(state.to_text().as_bytes())?;
            file.sync_all()?;
            sync_folder(&self.0)
        });
        made.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Code::KeyExists.error(format!("{} exists already", self.0.display())),
            _ => self.not_written(&error),
        })
    }

    fn not_written(&self, error: &std::io::Error) -> Error {
        Code::LmsStateWrite.error(format!("the LMS state {} cannot be written: {error}", self.0.display()))
    }
}

impl StateStore for StateFile {
    fn load(&mut self) -> Result<Vec<u8>> {
        use std::io::Read;
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => {
                Code::LmsStateMissing.error(format!("the LMS key has no state: {} is not there", self.0.display()))
            }
            _ => Code::KeyFileRead.error(format!("{} cannot be read: {error}", self.0.display())),
        };
        let mut content = Vec::new();
        let file = File::open(&self.0).map_err(failed)?;
        file.take(STATE_BYTES_MAX).read_to_end(&mut content).map_err(failed)?;
        Ok(content)
    }

    fn replace(&mut self, content: &[u8]) -> Result<()> {
        let mut fresh = self.0.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        // One that a crash left is nobody's: the lock is held.
        let _ = fs::remove_file(&fresh);
        let written = new_file(&fresh).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.0)?;
            sync_folder(&self.0)
        });
        written.map_err(|error| self.not_written(&error))
    }

    fn describe(&self) -> String {
        self.0.display().to_string()
    }
}

/// A state with its counter: gives away each index once.
#[derive(Debug)]
pub struct Ledger<S, C> {
    store: S,
    counter: C,
    key: [u8; 32],
    total: u32,
}

impl<S: StateStore, C: OutsideCounter> Ledger<S, C> {
    /// The ledger of the key with this thumbprint, which signs `total` times.
    pub fn new(store: S, counter: C, key: [u8; 32], total: u32) -> Self {
        Ledger {
            store,
            counter,
            key,
            total,
        }
    }

    /// The next index, reserved: it will never be given again, also when this fails.
    ///
    /// Errors: [`Code::LmsExhausted`]; those of [`Ledger::settle`].
    pub fn reserve(&mut self) -> Result<u32> {
        let index = self.settle()?;
        if index >= self.total {
            return Err(Code::LmsExhausted.error(format!("all {} signatures of this LMS key are used", self.total)));
        }
        let state = self.state()?;
        let to = index + 1;
        self.save(&State {
            reserving: Some(to),
            ..state.clone()
        })?;
        self.counter.raise(index, to)?;
        self.save(&State { next: to, ..state })?;
        Ok(index)
    }

    /// Compares state and counter; burns an index that a crash left reserved. Returns how many are used.
    ///
    /// Errors: [`Code::LmsForeign`] another key's; [`Code::LmsStateOld`] the counter is ahead; [`Code::LmsCounterBehind`];
    /// those of reading and writing both.
    pub fn settle(&mut self) -> Result<u32> {
        let state = self.state()?;
        let counted = self.counter.read()?;
        let expected = state.reserving.unwrap_or(state.next);
        if counted > expected {
            return Err(Code::LmsStateOld.error(format!(
                "the LMS state {} knows of {expected} signatures and {} of {counted}: it is a copy or an old one",
                self.store.describe(),
                self.counter.describe()
            )));
        }
        if counted < state.next {
            return Err(Code::LmsCounterBehind.error(format!(
                "{} knows of {counted} signatures and the LMS state {} of {}: the counter was put back or exchanged",
                self.counter.describe(),
                self.store.describe(),
                state.next
            )));
        }
        match state.reserving {
            None => Ok(state.next),
            Some(to) => self.burn(&state, counted, to),
        }
    }

    /// Brings counter and state behind the reserved index without using it.
    fn burn(&mut self, state: &State, counted: u32, to: u32) -> Result<u32> {
        if counted < to {
            self.counter.raise(counted, to)?;
        }
        self.save(&State {
            next: to,
            reserving: None,
            ..state.clone()
        })?;
        Ok(to)
    }

    fn state(&mut self) -> Result<State> {
        let place = self.store.describe();
        let state = State::parse(&self.store.load()?, &place)?;
        let reserves_forward = state.reserving.is_none_or(|to| Some(to) == state.next.checked_add(1));
        if state.next > self.total || !reserves_forward {
            return Err(Code::LmsStateDamaged.error(format!("the LMS state {place} says what cannot be")));
        }
        if state.key != self.key {
            return Err(Code::LmsForeign.error(format!("the LMS state {place} belongs to another key")));
        }
        Ok(state)
    }

    fn save(&mut self, state: &State) -> Result<()> {
        self.store.replace(state.to_text().as_bytes())
    }
}

/// A file that did not exist, for its owner alone.
pub(super) fn new_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the names in a file's folder durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

pub(super) fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    (digits.len() == 64).then_some(())?;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            key: [0xab; 32],
            counter: "/media/counter/lms".into(),
            next: 12,
            reserving: Some(13),
        }
    }

    /// The form of version 1, byte for byte.
    #[test]
    fn golden_state() {
        let text = "ampoule-lms-state-1\n\
                    key abababababababababababababababababababababababababababababababab\n\
                    counter /media/counter/lms\n\
                    next 12\n\
                    reserving 13\n";
        let file = format!("{text}sum {}\n", hex(&Sha256::of(text.as_bytes())));
        assert_eq!(state().to_text(), file);
        assert_eq!(State::parse(file.as_bytes(), "").unwrap(), state());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let file = state().to_text().into_bytes();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(
                State::parse(&changed, "").unwrap_err().is(Code::LmsStateDamaged),
                "{at}"
            );
            assert!(
                State::parse(&file[..at], "").unwrap_err().is(Code::LmsStateDamaged),
                "{at}"
            );
        }
    }
}
