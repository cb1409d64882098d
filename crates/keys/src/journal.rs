//! The signing journal: every signature leaves a line before it leaves the signer.
//!
//! One line per entry, one JSON object per line in the canonical form of RFC 8785, each with the hash of the one before.
//! JSON Lines, because in twenty years a text editor and any SHA-256 read and check them; docs/journal.md describes every
//! member and how to check a line by hand.
//!
//! | part | answers |
//! |---|---|
//! | [`entry`] | what a line says, and when it is one |
//! | this file | how a line is appended: one at a time, durable, never over another |
//! | [`head`] | what an outsider has to keep to notice that lines are missing at the end |
//! | [`reservation`] | which index of an LMS key was given away last: read backwards, so that a long journal costs nothing |
//! | [`verify`] | what was changed, removed, repeated or moved |
//! | [`journaled`] | a signer that gives nothing away before its line is durable |
//!
//! A journal is only ever appended to: no byte of it is changed or removed here, so that its file may be made append-only
//! (`chattr +a`). A line that a crash cut short stays; the next entry stands behind it on the same line and says how many
//! bytes are torn and what their digest is.

pub mod entry;
pub mod head;
pub mod journaled;
pub mod reservation;
pub mod verify;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use entry::{By, Carried, Digest, Entry, Event, Facts, Key, Record, Refusal, Reservation, Signed, Torn};
pub use head::{HeadFile, JournalHead};
pub use journaled::{Context, Journaled, Surroundings};

use crate::{Code, Error, Result};

/// Bytes of an entry's line at most, with its line feed.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of torn writes in a row at most, before the journal is given up and a new one has to be begun.
pub const TORN_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one journal file at most; then it is to be rotated. About a million entries.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How often the lock of a journal is tried, and the pause between: half a minute together.
const LOCK_TRIES_MAX: u32 = 6_000;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// How often a journal is opened anew because it was rotated in the meantime.
const REOPEN_TRIES_MAX: u32 = 100;

/// A journal file, whether it exists already or not. Any number of processes and threads may append to one.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    head: Option<HeadFile>,
}

/// What an append came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The new end of the journal.
    pub head: JournalHead,
    /// Whether the journal was begun with it.
    pub is_new: bool,
    /// What a crash had left at the end, now closed.
    pub torn: Option<Torn>,
}

impl Journal {
    /// The journal at `path`. `head` is where its end is noted outside, on another medium, after every append and before
    /// a signature is released.
    pub fn at(path: impl Into<PathBuf>, head: Option<HeadFile>) -> Journal {
        Journal {
            path: path.into(),
            head,
        }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one entry and waits until it is on the disk. Begins the journal (mode 0600) if there is none; its folder
    /// must exist.
    ///
    /// `at` is the time, in seconds since 1970 UTC. When this fails nothing that stood in the journal is lost or changed:
    /// at most the entry's first bytes stand behind its end, and the next append says so.
    ///
    /// Errors: [`Code::JournalOpen`]; [`Code::JournalAppend`] it cannot be written, such as on a full disk;
    /// [`Code::JournalDamaged`] its last entry is not whole; [`Code::JournalEnded`], [`Code::JournalFull`] it is to be
    /// rotated; [`Code::JournalEntry`] the entry is too long; [`Code::JournalHead`] it does not reach the head that was
    /// noted outside; [`Code::JournalHeadFile`].
    pub fn append(&self, at: u64, record: &Record) -> Result<Appended> {
        self.append_all(at, std::slice::from_ref(record))
    }

    /// As [`Journal::append`], for several entries and one wait for the disk. When it fails, some of the first may stand.
    ///
    /// A reservation is entered only behind the one that it names: of two signers that race for an index one gets
    /// [`Code::LmsBusy`].
    pub fn append_all(&self, at: u64, records: &[Record]) -> Result<Appended> {
        let mut open = self.lock()?;
        let begins = open.end.last.is_none();
        self.check_noted_head(&open.end, begins)?;
        let torn = open.end.torn.clone();
        if begins {
            open.write(at, &Record::of(Event::Begin(Vec::new())))?;
        }
        for record in records {
            if let Event::Reservation(reservation) = &record.event {
                reservation::admit(&mut open, reservation)?;
            }
            open.write(at, record)?;
        }
        open.sync(begins)?;
        let head = open.end.head().ok_or_else(|| damaged(&self.path, "it is empty"))?;
        if let Some(noted) = &self.head {
            noted.advance(&head)?;
        }
        Ok(Appended {
            head,
            is_new: begins,
            torn,
        })
    }

    /// The last reservation of the LMS key with this id; nothing when the journal does not know the key.
    ///
    /// The entries from the end back to the reservation are seen to hang together, and the journal to reach the head noted
    /// outside. Errors: as [`Journal::append`]; [`Code::JournalOrder`].
    pub fn last_reservation(&self, key: &Digest) -> Result<Option<Carried>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let mut open = self.lock()?;
        let begins = open.end.last.is_none();
        self.check_noted_head(&open.end, begins)?;
        reservation::last(&mut open, key)
    }

    /// Where the journal ends; nothing when it has not begun. Errors: as [`Journal::append`].
    pub fn head(&self) -> Result<Option<JournalHead>> {
        if !self.path.exists() {
            return Ok(None);
        }
        Ok(self.lock()?.end.head())
    }

    /// Closes the file and begins a new one in its place; the old one gets `archive` as its name. The chain goes on: the
    /// first entry of the new file has the next number, names the hash of the old one's last, and carries the last
    /// reservation of every LMS key.
    ///
    /// A crash on the way leaves the journal under its name and complete; the same call finishes what was begun. Errors:
    /// as [`Journal::append`]; [`Code::FileExists`] for the archive's name; [`Code::JournalDamaged`] and
    /// [`Code::JournalOrder`] where entries cannot be trusted, because one of them may be a reservation.
    pub fn rotate(&self, at: u64, archive: &Path) -> Result<Appended> {
        if archive.exists() && !is_same_file(archive, &self.path) {
            return Err(Code::FileExists.error(format!("{} exists already", archive.display())));
        }
        let mut open = self.lock_even_ended()?;
        let Some(last) = &open.end.last else {
            return Err(Code::JournalOpen.error(format!("{} has no entries yet", self.path.display())));
        };
        let (torn, is_ended) = (open.end.torn.clone(), matches!(last.event, Event::End));
        // Before anything is written: a journal that cannot go on is not ended.
        let carried = reservation::all(&mut open)?;
        if !is_ended {
            self.check_noted_head(&open.end, false)?;
            open.write(at, &Record::of(Event::End))?;
            open.sync(false)?;
        }
        let (head, _new) = open.replace(at, archive, carried)?;
        if let Some(noted) = &self.head {
            noted.advance(&head)?;
        }
        Ok(Appended {
            head,
            is_new: true,
            torn,
        })
    }

    fn check_noted_head(&self, end: &End, begins: bool) -> Result<()> {
        let Some(noted) = &self.head else { return Ok(()) };
        match (noted.read()?, end.head()) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Code::JournalHeadFile
                .error(format!(
                    "{} is missing although the journal has begun",
                    noted.path().display()
                ))
                .advise("Is the medium there? If this head file is new: `ampoule journal verify --write-head FILE`.")),
            (Some(head), _) if begins => Err(behind(&self.path, &head)),
            (Some(head), Some(own)) if head == own => Ok(()),
            (Some(head), Some(own)) if head.number >= own.number => Err(behind(&self.path, &head)),
            // A crash came between an entry and its note: the journal must still contain what was noted.
            (Some(head), Some(_)) => verify::contains(&self.path, &head),
            (Some(head), None) => Err(behind(&self.path, &head)),
        }
    }

    /// The file, open and locked, with what is known of its end.
    fn lock(&self) -> Result<Open<'_>> {
        let open = self.lock_even_ended()?;
        match &open.end.last {
            Some(last) if matches!(last.event, Event::End) => {
                Err(Code::JournalEnded.error(format!("{} was ended with entry {}", self.path.display(), last.number)))
            }
            _ => Ok(open),
        }
    }

    fn lock_even_ended(&self) -> Result<Open<'_>> {
        for _ in 0..REOPEN_TRIES_MAX {
            let mut file = open_or_create(&self.path).map_err(|error| cannot_open(&self.path, &error))?;
            lock_file(&self.path, &file)?;
            // Whoever held the lock may have put a new file in this one's place.
            if is_still_at(&file, &self.path) {
                let end = End::read(&self.path, &mut file)?;
                let path = &self.path;
                return Ok(Open { path, file, end });
            }
        }
        Err(Code::JournalOpen.error(format!("{} is replaced again and again", self.path.display())))
    }
}

/// A journal file under its lock, which ends when this is dropped.
struct Open<'a> {
    path: &'a Path,
    file: File,
    end: End,
}

impl Open<'_> {
    /// Appends a line in one write.
    fn write(&mut self, at: u64, record: &Record) -> Result<()> {
        let (entry, line) = self.end.next(at, record)?;
        if self.end.len + line.len() as u64 > SEGMENT_BYTES_MAX {
            return Err(Code::JournalFull.error(format!("{} has reached its largest size", self.path.display())));
        }
        let written = self.file.write_all(&line);
        written.map_err(|error| cannot_append(self.path, &error))?;
        self.end.len += line.len() as u64;
        self.end.last = Some(entry);
        self.end.torn = None;
        Ok(())
    }

    /// Waits for the disk; for a new file also for its name in the folder.
    fn sync(&self, is_new: bool) -> Result<()> {
        let synced = self.file.sync_all().and_then(|()| match is_new {
            true => sync_folder(self.path),
            false => Ok(()),
        });
        synced.map_err(|error| cannot_append(self.path, &error))
    }

    /// Begins the next file beside this ended one, then gives each its name: the journal's name never leads nowhere. The
    /// new file comes back locked.
    fn replace(&self, at: u64, archive: &Path, carried: Vec<Carried>) -> Result<(JournalHead, File)> {
        let failed = |error| cannot_append(self.path, &error);
        let beside = beside(self.path, ".new");
        let _ = fs::remove_file(&beside);
        let end = End {
            last: self.end.last.clone(),
            ..End::default()
        };
        let (entry, line) = end.next(at, &Record::of(Event::Begin(carried)))?;
        let head = entry.head();
        let mut file = create_new(&beside).map_err(failed)?;
        lock_file(&beside, &file)?;
        file.write_all(&line)
            .and_then(|()| file.sync_all())
            .and_then(|()| match is_same_file(archive, self.path) {
                true => Ok(()),
                false => fs::hard_link(self.path, archive),
            })
            .and_then(|()| fs::rename(&beside, self.path))
            .and_then(|()| sync_folder(self.path))
            .map_err(failed)?;
        Ok((head, file))
    }
}

/// What is known of a file's end.
#[derive(Default)]
struct End {
    len: u64,
    last: Option<Entry>,
    torn: Option<Torn>,
}

impl End {
    /// Reads the last whole line, and the torn one behind it.
    fn read(path: &Path, file: &mut File) -> Result<End> {
        let failed = |error| cannot_open(path, &error);
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let window = len.min((2 * TORN_BYTES_MAX) as u64);
        file.seek(SeekFrom::Start(len - window)).map_err(failed)?;
        let mut bytes = Vec::with_capacity(window as usize);
        file.take(window).read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (lines, torn) = bytes.split_at(whole);
        if torn.len() > TORN_BYTES_MAX {
            return Err(damaged(path, "its last line does not end"));
        }
        Ok(End {
            len,
            last: last_line(lines)
                .map(|line| Entry::read(line).map_err(|damage| damaged(path, &damage.to_string())))
                .transpose()?,
            torn: Torn::of(torn),
        })
    }

    fn head(&self) -> Option<JournalHead> {
        self.last.as_ref().map(Entry::head)
    }

    /// The entry that follows, and its line.
    fn next(&self, at: u64, record: &Record) -> Result<(Entry, Vec<u8>)> {
        let (number, previous) = match &self.last {
            Some(last) => (last.number + 1, last.hash),
            None => (1, Digest::NONE),
        };
        let entry = Entry::new(number, previous, at, record, self.torn.clone());
        let line = entry.to_line();
        if line.len() > ENTRY_BYTES_MAX {
            let what = format!("an entry of {} bytes is too long for the journal", line.len());
            return Err(Code::JournalEntry.error(what));
        }
        Ok((entry, line))
    }
}

/// The last line of whole lines, without its line feed.
fn last_line(lines: &[u8]) -> Option<&[u8]> {
    let lines = lines.strip_suffix(b"\n")?;
    let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    lines.get(start..)
}

fn open_or_create(path: &Path) -> std::io::Result<File> {
    match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match create_new(path) {
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).append(true).open(path)
            }
            created => created,
        },
        opened => opened,
    }
}

fn create_new(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn lock_file(path: &Path, file: &File) -> Result<()> {
    for _ in 0..LOCK_TRIES_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(cannot_open(path, &error)),
        }
    }
    Err(Code::JournalOpen
        .error(format!("{} is locked by another program", path.display()))
        .advise("Another signing program holds the journal and does not move on; find it (`lsof FILE`) and try again."))
}

#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    same(file.metadata(), fs::metadata(path))
}

#[cfg(unix)]
fn is_same_file(one: &Path, other: &Path) -> bool {
    same(fs::metadata(one), fs::metadata(other))
}

#[cfg(unix)]
fn same(one: std::io::Result<fs::Metadata>, other: std::io::Result<fs::Metadata>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    one.map(id)
        .is_ok_and(|one| other.map(id).is_ok_and(|other| one == other))
}

#[cfg(not(unix))]
fn is_still_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &Path) -> bool {
    false
}

/// A name beside a file's.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Waits until the names in a file's folder are on the disk.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match cfg!(unix) {
        true => File::open(folder.unwrap_or(Path::new(".")))?.sync_all(),
        false => Ok(()),
    }
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Error {
    Code::JournalOpen.error(format!(
        "the signing journal {} cannot be opened: {error}",
        path.display()
    ))
}

fn cannot_append(path: &Path, error: &std::io::Error) -> Error {
    Code::JournalAppend.error(format!(
        "the signing journal {} cannot be written: {error}",
        path.display()
    ))
}

fn damaged(path: &Path, how: &str) -> Error {
    Code::JournalDamaged.error(format!(
        "the end of the signing journal {} is not whole: {how}",
        path.display()
    ))
}

fn behind(path: &Path, head: &JournalHead) -> Error {
    let what = format!(
        "the signing journal {} does not reach the head noted outside, {head}",
        path.display()
    );
    Code::JournalHead.error(what)
}
