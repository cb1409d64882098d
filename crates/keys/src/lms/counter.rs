//! The counter outside of an LMS state: what notices that a state is a copy or an old one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use trust::Sha256;

use super::state::{hex, new_file, sync_folder};
use crate::journal::JournalHead;
use crate::{Code, Error, Result};

/// First word of a counter file: what it is, and the version of its form.
const TITLE: &str = "ampoule-lms-counter-1";
/// Bytes of a counter file at most: more lines than any key made here has signatures.
pub const COUNTER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often the lock is tried, and the pause between: ten seconds together.
const LOCK_TRIES_MAX: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A number that never falls, kept where a copy of the state does not reach: [`CounterFile`] on another medium, the
/// signing journal ([`super::JournalCounter`]), an NV counter of a TPM ([`super::TpmCounter`]).
pub trait OutsideCounter {
    /// Where it stands. Errors: [`Code::LmsCounterMissing`], [`Code::LmsCounterDamaged`], [`Code::LmsForeign`]; of a TPM
    /// also [`Code::LmsTpm`], of a journal those of [`Journal::last_reservation`](crate::journal::Journal).
    fn read(&mut self) -> Result<Count>;
    /// Raises the number by one, from exactly where it was read, durably before it returns. When it fails, either may be
    /// the case; of two that raise it from the same place at most one succeeds ([`Code::LmsBusy`] for the other).
    fn raise(&mut self, from: &Count) -> Result<Count>;
    /// Its name for people.
    fn describe(&self) -> String;
}

impl<C: OutsideCounter + ?Sized> OutsideCounter for Box<C> {
    fn read(&mut self) -> Result<Count> {
        (**self).read()
    }
    fn raise(&mut self, from: &Count) -> Result<Count> {
        (**self).raise(from)
    }
    fn describe(&self) -> String {
        (**self).describe()
    }
}

/// Where a counter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// How many indices were ever given away.
    pub given: u32,
    /// The reservation that was the last, where the counter has them by name: a journal.
    pub last: Option<JournalHead>,
    /// The one before it.
    pub after: Option<JournalHead>,
}

impl Count {
    /// Of a counter that is a number and nothing else.
    pub fn of(given: u32) -> Count {
        Count {
            given,
            ..Count::default()
        }
    }
}

/// A counter in a file that is only appended to: one line for each index, chained by hashes. Opening takes its lock.
#[derive(Debug)]
pub struct CounterFile {
    file: File,
    path: PathBuf,
    key: [u8; 32],
}

impl CounterFile {
    /// Makes the counter of a new key. Errors: [`Code::KeyExists`], [`Code::LmsCounterMissing`] there is no such folder,
    /// [`Code::LmsStateWrite`].
    pub fn create(path: &Path, key: [u8; 32]) -> Result<()> {
        let made = new_file(path).and_then(|mut file| {
            file.write_all(header(&key).as_bytes())?;
            file.sync_all()?;
            sync_folder(path)
        });
        made.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Code::KeyExists.error(format!("{} exists already", path.display())),
            ErrorKind::NotFound => missing(path),
            _ => not_written(path, &error),
        })
    }

    /// Opens the counter of this key and takes its lock, which is given back when this value goes.
    ///
    /// Errors: [`Code::LmsCounterMissing`], [`Code::LmsBusy`], [`Code::KeyFileRead`].
    pub fn open(path: &Path, key: [u8; 32]) -> Result<CounterFile> {
        let opened = OpenOptions::new().read(true).append(true).open(path);
        let file = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(path),
            _ => Code::KeyFileRead.error(format!("the LMS counter {} cannot be opened: {error}", path.display())),
        })?;
        lock(&file, path)?;
        Ok(CounterFile {
            file,
            path: path.to_path_buf(),
            key,
        })
    }

    /// How many whole lines there are, the hash of the last one, and what stands behind it without an end.
    fn parse(&mut self) -> Result<(u32, [u8; 32], String)> {
        let damaged = || Code::LmsCounterDamaged.error(format!("the LMS counter {} is damaged", self.path.display()));
        let text = read_all(&mut self.file).map_err(|error| not_read(&self.path, &error))?;
        let own = header(&self.key);
        let rest = text.strip_prefix(&own).ok_or_else(|| {
            if text.starts_with(TITLE) && text.contains('\n') {
                return Code::LmsForeign.error(format!(
                    "the LMS counter {} belongs to another key",
                    self.path.display()
                ));
            }
            damaged()
        })?;
        let (mut count, mut hash) = (0, Sha256::of(own.as_bytes()));
        let mut rest = rest;
        while let Some((line, behind)) = rest.split_once('\n') {
            let (expected, next) = line_after(count, &hash);
            if line != expected.trim_end() {
                return Err(damaged());
            }
            (count, hash, rest) = (count + 1, next, behind);
        }
        // A crash cut the next line short: it has to be the beginning of the only one that can come.
        if !line_after(count, &hash).0.starts_with(rest) {
            return Err(damaged());
        }
        Ok((count, hash, rest.into()))
    }
}

impl OutsideCounter for CounterFile {
    fn read(&mut self) -> Result<Count> {
        self.parse().map(|(count, ..)| Count::of(count))
    }

    fn raise(&mut self, from: &Count) -> Result<Count> {
        let (count, hash, torn) = self.parse()?;
        if count != from.given {
            return Err(Code::LmsBusy.error(format!("the LMS counter {} moved in the meantime", self.path.display())));
        }
        let (line, _) = line_after(count, &hash);
        let left = line.get(torn.len()..).unwrap_or_default();
        let written = self.file.write_all(left.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error| not_written(&self.path, &error))?;
        Ok(Count::of(count + 1))
    }

    fn describe(&self) -> String {
        format!("the LMS counter {}", self.path.display())
    }
}

/// The line that follows `count` lines of which the last has this hash; and its own hash.
fn line_after(count: u32, hash: &[u8; 32]) -> (String, [u8; 32]) {
    let number = count + 1;
    let next = Sha256::of_parts(&[hash, number.to_string().as_bytes()]);
    (format!("{number} {}\n", hex(&next)), next)
}

fn header(key: &[u8; 32]) -> String {
    format!("{TITLE} {}\n", hex(key))
}

fn read_all(file: &mut File) -> std::io::Result<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(COUNTER_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Takes the lock of a file. Error: [`Code::LmsBusy`] after ten seconds.
pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    for _ in 0..LOCK_TRIES_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(not_read(path, &error)),
        }
    }
    Err(Code::LmsBusy.error(format!("another signer holds {}", path.display())))
}

fn missing(path: &Path) -> Error {
    Code::LmsCounterMissing.error(format!("the LMS counter {} is not there", path.display()))
}

fn not_read(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidData => {
            Code::LmsCounterDamaged.error(format!("the LMS counter {} is damaged", path.display()))
        }
        _ => Code::KeyFileRead.error(format!("the LMS counter {} cannot be read: {error}", path.display())),
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> Error {
    Code::LmsStateWrite.error(format!("the LMS counter {} cannot be written: {error}", path.display()))
}
