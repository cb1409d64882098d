//! The state of an LMS key, and the protocol by which an index is given away.
//!
//! Three durable steps, in this order: the intention goes into the state, the counter outside is raised, the state says
//! done. A crash after any of them leaves either everything as it was or an intention; an intention is never signed with
//! but burnt, because nobody can know whether the signature left. What is neither is a copy, an old state, or another
//! key's, and is refused.
//!
//! docs/post-quantum.md describes the file.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use trust::Sha256;

use super::counter::{Count, OutsideCounter};
use super::tpm::NvCounter;
use crate::journal::JournalHead;
use crate::{Code, Error, Result};

/// First line of a state file: what it is, and the version of its form.
const TITLE: &str = "ampoule-lms-state-2";
/// The version before, which knew counters in files only; read, and written as version 2 with the next reservation.
const TITLE_1: &str = "ampoule-lms-state-1";
/// Bytes of a state file at most.
pub const STATE_BYTES_MAX: u64 = 8 * 1024;

/// What a state file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Thumbprint of the key.
    pub key: [u8; 32],
    /// What it is bound to.
    pub binding: Binding,
    /// The index that the next signature will have: all below are used or burnt.
    pub next: u32,
    /// What `next` was about to become when this was written.
    pub reserving: Option<u32>,
}

/// The counter outside to which a state is bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Binding {
    /// A counter file.
    File(PathBuf),
    /// The signing journal.
    Journal {
        /// Its file.
        journal: PathBuf,
        /// The file on another medium that holds its end.
        head: PathBuf,
        /// The entry with the last reservation that this state knows of.
        last: JournalHead,
    },
    /// An NV counter of a TPM.
    Tpm(NvCounter),
}

impl Binding {
    /// As a person reads it.
    pub fn describe(&self) -> String {
        match self {
            Binding::File(path) => path.display().to_string(),
            Binding::Journal { journal, head, .. } => {
                format!("signing journal {}, its head in {}", journal.display(), head.display())
            }
            Binding::Tpm(counter) => counter.to_string(),
        }
    }

    /// The reservation of which the state knows, where the counter has them by name.
    fn last(&self) -> Option<JournalHead> {
        match self {
            Binding::Journal { last, .. } => Some(*last),
            _ => None,
        }
    }

    /// The same counter, after it was found here.
    fn at(&self, count: &Count) -> Binding {
        match (self, count.last) {
            (Binding::Journal { journal, head, .. }, Some(last)) => Binding::Journal {
                journal: journal.clone(),
                head: head.clone(),
                last,
            },
            _ => self.clone(),
        }
    }

    /// The lines of a state: one, and for a journal the two paths.
    fn to_lines(&self) -> String {
        match self {
            Binding::File(path) => format!("counter file {}", path.display()),
            Binding::Tpm(counter) => format!("counter tpm {counter}"),
            Binding::Journal { journal, head, last } => {
                format!(
                    "counter journal {last}\njournal {}\nhead {}",
                    journal.display(),
                    head.display()
                )
            }
        }
    }

    fn read<'a>(mut value: impl FnMut(&str) -> Option<&'a str>) -> Option<Binding> {
        let (kind, rest) = value("counter")?.split_once(' ')?;
        match kind {
            "file" => Some(Binding::File(rest.into())),
            "tpm" => rest.parse().ok().map(Binding::Tpm),
            "journal" => Some(Binding::Journal {
                last: rest.parse().ok()?,
                journal: value("journal")?.into(),
                head: value("head")?.into(),
            }),
            _ => None,
        }
    }
}

impl State {
    /// Of a new key.
    pub fn new(key: [u8; 32], binding: Binding) -> State {
        State {
            key,
            binding,
            next: 0,
            reserving: None,
        }
    }

    /// The file: lines of a name and a value, the last one with the SHA-256 of those before.
    pub fn to_text(&self) -> String {
        self.text(TITLE, &self.binding.to_lines())
    }

    fn text(&self, title: &str, counter: &str) -> String {
        let reserving = self.reserving.map_or("-".into(), |to| to.to_string());
        let mut text = format!(
            "{title}\nkey {}\n{counter}\nnext {}\nreserving {reserving}\n",
            hex(&self.key),
            self.next,
        );
        let sum = Sha256::of(text.as_bytes());
        let _ = writeln!(text, "sum {}", hex(&sum));
        text
    }

    /// As version 1 wrote it.
    fn to_text_1(&self) -> Option<String> {
        match &self.binding {
            Binding::File(path) => Some(self.text(TITLE_1, &format!("counter {}", path.display()))),
            _ => None,
        }
    }

    /// Reads such a file, strictly: only what [`State::to_text`] writes, or wrote in version 1. `place` is named in the
    /// error, [`Code::LmsStateDamaged`].
    pub fn parse(bytes: &[u8], place: &str) -> Result<State> {
        let damaged = || Code::LmsStateDamaged.error(format!("the LMS state {place} is damaged"));
        let state = Self::read(bytes).ok_or_else(damaged)?;
        let is_1 = bytes.starts_with(TITLE_1.as_bytes());
        let text = if is_1 { state.to_text_1() } else { Some(state.to_text()) };
        (text.is_some_and(|text| text.as_bytes() == bytes))
            .then_some(state)
            .ok_or_else(damaged)
    }

    fn read(bytes: &[u8]) -> Option<State> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        let title = lines.next()?;
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        Some(State {
            key: unhex(value("key")?)?,
            binding: match title {
                TITLE => Binding::read(&mut value)?,
                TITLE_1 => Binding::File(value("counter")?.into()),
                _ => return None,
            },
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
        let count = self.settle()?;
        let index = count.given;
        if index >= self.total {
            return Err(Code::LmsExhausted.error(format!("all {} signatures of this LMS key are used", self.total)));
        }
        let state = self.state()?;
        let to = index + 1;
        self.save(&State {
            reserving: Some(to),
            ..state.clone()
        })?;
        let count = self.counter.raise(&count)?;
        self.save(&State {
            next: to,
            binding: state.binding.at(&count),
            ..state
        })?;
        Ok(index)
    }

    /// How many indices are used, burnt or under way; compares state and counter, and changes neither.
    ///
    /// Errors: [`Code::LmsForeign`] another key's, or a counter that went another way; [`Code::LmsStateOld`] the counter is
    /// ahead; [`Code::LmsCounterBehind`]; those of reading both.
    pub fn look(&mut self) -> Result<u32> {
        let (state, _) = self.compare()?;
        Ok(state.reserving.unwrap_or(state.next))
    }

    /// Compares state and counter; burns an index that a crash left reserved. Returns where both stand then.
    ///
    /// Errors: as [`Ledger::look`]; those of writing both.
    pub fn settle(&mut self) -> Result<Count> {
        let (state, count) = self.compare()?;
        match state.reserving {
            None => Ok(count),
            Some(to) => self.burn(&state, count, to),
        }
    }

    fn compare(&mut self) -> Result<(State, Count)> {
        let state = self.state()?;
        let count = self.counter.read()?;
        let (counted, expected) = (count.given, state.reserving.unwrap_or(state.next));
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
        // The state names the last reservation, or the one before where the crash came in between.
        let known = if counted == state.next { count.last } else { count.after };
        if known != state.binding.last() {
            return Err(Code::LmsForeign.error(format!(
                "{} tells of other reservations than the LMS state {}: one of the two was put back and went on",
                self.counter.describe(),
                self.store.describe()
            )));
        }
        Ok((state, count))
    }

    /// Brings counter and state behind the reserved index without using it.
    fn burn(&mut self, state: &State, count: Count, to: u32) -> Result<Count> {
        let count = if count.given < to {
            self.counter.raise(&count)?
        } else {
            count
        };
        self.save(&State {
            next: to,
            reserving: None,
            binding: state.binding.at(&count),
            ..state.clone()
        })?;
        Ok(count)
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

    fn state(binding: Binding) -> State {
        State {
            key: [0xab; 32],
            binding,
            next: 12,
            reserving: Some(13),
        }
    }

    fn bindings() -> [(Binding, String); 3] {
        let last: JournalHead = format!("{}@77", "cd".repeat(32)).parse().unwrap();
        let name = format!("000b{}", "ef".repeat(32));
        let journal = Binding::Journal {
            journal: "/var/the journal.jsonl".into(),
            head: "/media/head".into(),
            last,
        };
        [
            (
                Binding::File("/media/counter/lms".into()),
                "counter file /media/counter/lms\n".into(),
            ),
            (
                journal,
                format!("counter journal {last}\njournal /var/the journal.jsonl\nhead /media/head\n"),
            ),
            (
                Binding::Tpm(format!("0x01800016 {name} 41").parse().unwrap()),
                format!("counter tpm 0x01800016 {name} 41\n"),
            ),
        ]
    }

    fn with_sum(text: String) -> String {
        format!("{text}sum {}\n", hex(&Sha256::of(text.as_bytes())))
    }

    /// The forms of version 2, byte for byte.
    #[test]
    fn golden_states() {
        for (binding, lines) in bindings() {
            let key = "ab".repeat(32);
            let file = with_sum(format!(
                "ampoule-lms-state-2\nkey {key}\n{lines}next 12\nreserving 13\n"
            ));
            assert_eq!(state(binding.clone()).to_text(), file);
            assert_eq!(State::parse(file.as_bytes(), "").unwrap(), state(binding));
        }
    }

    /// Version 1 is read, and is written as version 2 from then on.
    #[test]
    fn golden_state_of_version_1() {
        let file = with_sum(
            "ampoule-lms-state-1\n\
             key abababababababababababababababababababababababababababababababab\n\
             counter /media/counter/lms\n\
             next 12\n\
             reserving 13\n"
                .into(),
        );
        let [(binding, _), ..] = bindings();
        let read = State::parse(file.as_bytes(), "").unwrap();
        assert_eq!(read, state(binding));
        assert!(read.to_text().starts_with("ampoule-lms-state-2\n"));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let refused = |bytes: &[u8]| State::parse(bytes, "").unwrap_err().is(Code::LmsStateDamaged);
        for (binding, _) in bindings() {
            let file = state(binding).to_text().into_bytes();
            for at in 0..file.len() {
                let mut changed = file.clone();
                changed[at] ^= 1;
                assert!(refused(&changed), "{at}");
                assert!(refused(&file[..at]), "{at}");
            }
        }
        let mixed = "ampoule-lms-state-1\ncounter tpm 0x01800016 00 1\n";
        assert!(refused(mixed.as_bytes()));
    }
}
