//! What was changed in a journal, removed from it, repeated or moved.
//!
//! Found from the files alone: an edited line, a line missing in the middle or at the start, lines in another order,
//! repeated or from another journal. Found only with a [head](super::head) that was kept outside: lines missing at the end,
//! and a journal that was written anew as a whole. Not found by anybody: a signature made without this software.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::entry::Damage;
use super::{Digest, ENTRY_BYTES_MAX, Entry, Event, JournalHead, TORN_BYTES_MAX, Torn};
use crate::{Code, Error, Result};

/// Bytes of a line at most: an entry behind torn writes.
pub(super) const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX + TORN_BYTES_MAX;
/// Findings that are kept; a file that is something else altogether would give one for each line.
pub const FINDINGS_MAX: usize = 1_000;

/// A line of a journal file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// An entry.
    Entry(Box<Entry>),
    /// Something else.
    Damaged(Damage),
    /// Bytes behind the last line feed: a write that a crash cut short, and nobody closed yet.
    OpenEnd(Torn),
}

/// Reads a journal line by line, in bounded memory.
pub struct Lines<R> {
    reader: R,
}

impl Lines<BufReader<File>> {
    /// The lines of a file. Error: [`Code::JournalOpen`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| super::cannot_open(path, &error))?;
        Ok(Lines::of(BufReader::new(file)))
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines of a reader.
    pub fn of(reader: R) -> Lines<R> {
        Lines { reader }
    }

    fn read(&mut self) -> std::io::Result<Option<Line>> {
        let mut line = Vec::new();
        let (is_whole, is_long) = read_line(&mut self.reader, &mut line)?;
        Ok(match (is_whole, is_long) {
            (true, true) => Some(Line::Damaged(Damage::Malformed)),
            (true, false) => Some(Entry::read(&line).map_or_else(Line::Damaged, |entry| Line::Entry(Box::new(entry)))),
            (false, _) => Torn::of(&line).map(Line::OpenEnd),
        })
    }
}

/// Reads up to the line feed, keeps at most [`LINE_BYTES_MAX`] bytes; says whether there was one, and whether bytes were
/// left out.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<(bool, bool)> {
    let mut is_long = false;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok((false, is_long));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        let room = LINE_BYTES_MAX - line.len();
        is_long |= part.len() > room;
        line.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok((true, is_long));
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = std::io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What it is.
    pub what: Wrong,
}

/// What can be wrong with a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// The line was changed.
    Damaged(Damage),
    /// These entries are missing before the line.
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The entry stood elsewhere, or stands elsewhere too.
    Order {
        /// Its number.
        number: u64,
        /// The number before it.
        after: u64,
    },
    /// The entry has its place's number, but was written behind another entry than the one that stands before it.
    Chain {
        /// Its number.
        number: u64,
    },
    /// The beginning of a file stands inside of one, or something follows the end.
    Stray {
        /// Its number.
        number: u64,
    },
    /// The journal does not contain the entry that was noted outside.
    Head {
        /// The last entry that it has.
        last: Option<JournalHead>,
    },
}

impl Wrong {
    /// The number of this kind of finding.
    pub fn code(&self) -> Code {
        match self {
            Wrong::Damaged(_) => Code::JournalDamaged,
            Wrong::Gap { .. } => Code::JournalGap,
            Wrong::Order { .. } | Wrong::Chain { .. } | Wrong::Stray { .. } => Code::JournalOrder,
            Wrong::Head { .. } => Code::JournalHead,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Damaged(damage) => write!(f, "{damage}"),
            Wrong::Gap { from, to } if from == to => write!(f, "entry {from} is missing before this line"),
            Wrong::Gap { from, to } => write!(f, "entries {from} to {to} are missing before this line"),
            Wrong::Order { number, after } => write!(f, "entry {number} stands behind entry {after}"),
            Wrong::Chain { number } => write!(
                f,
                "entry {number} was written behind another entry than the one before it"
            ),
            Wrong::Stray { number } => write!(f, "entry {number} begins a file inside of one, or follows its end"),
            Wrong::Head { last: None } => f.write_str("the journal is empty and does not contain the expected head"),
            Wrong::Head { last: Some(last) } => {
                write!(
                    f,
                    "the journal ends with entry {} and does not contain the expected head",
                    last.number
                )
            }
        }
    }
}

/// What was found in one or more files of a journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Entries that are as they were written.
    pub entries: u64,
    /// Signatures among them.
    pub signatures: u64,
    /// Reservations of LMS keys among them, with those that only bind a key.
    pub reservations: u64,
    /// The entry with which the first file starts.
    pub first: Option<JournalHead>,
    /// The last whole entry.
    pub last: Option<JournalHead>,
    /// Torn writes that a later entry closed.
    pub torn: u64,
    /// Entries whose time lies before that of the entry in front of them: a clock was set.
    pub steps_back: u64,
    /// A torn write at the end that no entry closed yet.
    pub open_end: Option<Torn>,
    /// What is wrong, in order; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Report {
    /// Nothing is wrong with it.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// Nothing, or the first finding as an error.
    pub fn verdict(&self) -> Result<()> {
        let Some(first) = self.findings.first() else {
            return Ok(());
        };
        let more = match self.findings.len() {
            1 => String::new(),
            n => format!(" ({} findings in all)", n),
        };
        let place = format!("{}, line {}", first.file.display(), first.line);
        Err(first.what.code().error(format!("{place}: {}{more}", first.what)))
    }
}

/// Verifies the files of a journal, the oldest first, and that they contain `expected`.
///
/// Errors: [`Code::JournalOpen`], [`Code::JournalRead`]. What is wrong with the journal is in the report.
pub fn files<P: AsRef<Path>>(paths: &[P], expected: Option<&Expected>) -> Result<Report> {
    let mut chain = Chain::expecting(expected.cloned());
    for path in paths {
        let path = path.as_ref();
        chain.file(path, Lines::open(path)?)?;
    }
    Ok(chain.end())
}

/// An entry that has to be in a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Its hash.
    pub hash: Digest,
    /// Its number, where that is known too.
    pub number: Option<u64>,
}

impl Expected {
    fn is(&self, entry: &Entry) -> bool {
        self.hash == entry.hash && self.number.is_none_or(|number| number == entry.number)
    }
}

impl From<JournalHead> for Expected {
    fn from(head: JournalHead) -> Expected {
        Expected {
            hash: head.hash,
            number: Some(head.number),
        }
    }
}

impl std::str::FromStr for Expected {
    type Err = &'static str;

    /// `HASH` or `HASH@NUMBER`.
    fn from_str(text: &str) -> Result<Expected, Self::Err> {
        match text.contains('@') {
            true => text.parse::<JournalHead>().map(Expected::from),
            false => Ok(Expected {
                hash: text.parse()?,
                number: None,
            }),
        }
    }
}

/// Whether the file contains the entry of this head, or follows directly on it. Error: [`Code::JournalHead`].
pub(super) fn contains(path: &Path, head: &JournalHead) -> Result<()> {
    for line in Lines::open(path)? {
        if let Line::Entry(entry) = line.map_err(|error| cannot_read(path, &error))? {
            let follows = entry.previous == head.hash && entry.number == head.number + 1;
            if entry.head() == *head || follows && matches!(entry.event, Event::Begin(_)) {
                return Ok(());
            }
        }
    }
    Err(super::behind(path, head))
}

/// Follows the chain from entry to entry.
#[derive(Default)]
pub struct Chain {
    report: Report,
    expected: Option<Expected>,
    /// The last entry in order.
    last: Option<Link>,
    /// Numbers that were skipped, with where; some may turn up later.
    gaps: Vec<(u64, u64, PathBuf, u64)>,
    /// Damaged lines since the last whole one: their entries are not missing.
    damaged: u64,
}

/// What the next entry has to follow.
struct Link {
    head: JournalHead,
    at: u64,
    is_end: bool,
}

impl Chain {
    /// A chain that has to contain this entry.
    pub fn expecting(expected: Option<Expected>) -> Chain {
        Chain {
            expected,
            ..Chain::default()
        }
    }

    /// Goes through one file. Error: [`Code::JournalRead`].
    pub fn file<R: BufRead>(&mut self, path: &Path, lines: Lines<R>) -> Result<()> {
        let mut number = 0;
        // A file that was ended has nothing torn behind its last line.
        if self.report.open_end.take().is_some() {
            self.found(path, 1, Wrong::Damaged(Damage::Torn));
        }
        for line in lines {
            number += 1;
            match line.map_err(|error| cannot_read(path, &error))? {
                Line::Entry(entry) => self.entry(&entry, path, number),
                Line::OpenEnd(torn) => self.report.open_end = Some(torn),
                Line::Damaged(damage) => {
                    self.damaged += 1;
                    self.found(path, number, Wrong::Damaged(damage));
                }
            }
        }
        Ok(())
    }

    /// What was found.
    pub fn end(mut self) -> Report {
        for (from, to, file, line) in std::mem::take(&mut self.gaps) {
            self.found(&file, line, Wrong::Gap { from, to });
        }
        if self.expected.is_some() {
            let file = PathBuf::from("the journal");
            let last = self.report.last;
            let line = self.report.entries;
            let what = Wrong::Head { last };
            self.report.findings.push(Finding { file, line, what });
        }
        self.report
    }

    fn entry(&mut self, entry: &Entry, path: &Path, line: u64) {
        self.count(entry);
        self.check_place(entry, path, line);
        if self.follow(entry, path, line) {
            self.last = Some(Link {
                head: entry.head(),
                at: entry.at,
                is_end: matches!(entry.event, Event::End),
            });
            self.damaged = 0;
        }
    }

    /// A file starts with an entry that says so, and nothing else does; nothing but another file follows its end.
    fn check_place(&mut self, entry: &Entry, path: &Path, line: u64) {
        let begins = matches!(entry.event, Event::Begin(_));
        let after_end = self.last.as_ref().is_some_and(|last| last.is_end);
        match (line == 1, begins) {
            (true, true) => {}
            (false, false) if !after_end => {}
            (true, false) if self.last.is_none() && entry.number > 1 => {
                self.gaps.push((1, entry.number - 1, path.into(), line));
            }
            _ => self.found(path, line, Wrong::Stray { number: entry.number }),
        }
    }

    fn count(&mut self, entry: &Entry) {
        let report = &mut self.report;
        report.entries += 1;
        report.signatures += u64::from(matches!(entry.event, Event::Signature(_)));
        report.reservations += u64::from(matches!(entry.event, Event::Reservation(_)));
        report.torn += u64::from(entry.torn.is_some());
        report.first = report.first.or(Some(entry.head()));
        report.last = Some(entry.head());
        if self.expected.as_ref().is_some_and(|expected| expected.is(entry)) {
            self.expected = None;
        }
    }

    /// Whether the chain goes on with this entry.
    fn follow(&mut self, entry: &Entry, path: &Path, line: u64) -> bool {
        let Some(Link { head, at, .. }) = &self.last else {
            let is_sound = entry.number > 1 || entry.previous == Digest::NONE;
            if !is_sound {
                self.found(path, line, Wrong::Chain { number: entry.number });
            }
            return true;
        };
        let (head, at) = (*head, *at);
        let next = head.number.saturating_add(1);
        if entry.number < next {
            self.turned_up(entry.number);
            self.found(
                path,
                line,
                Wrong::Order {
                    number: entry.number,
                    after: head.number,
                },
            );
            return false;
        }
        self.report.steps_back += u64::from(entry.at < at);
        let accounted = next.saturating_add(self.damaged);
        if entry.number > accounted {
            self.gaps.push((accounted, entry.number - 1, path.into(), line));
        } else if entry.number == next && entry.previous != head.hash {
            self.found(path, line, Wrong::Chain { number: entry.number });
        }
        true
    }

    /// An entry that seemed to be missing stands further behind: it is out of order, not missing.
    fn turned_up(&mut self, number: u64) {
        let Some(place) = self
            .gaps
            .iter()
            .position(|(from, to, ..)| (*from..=*to).contains(&number))
        else {
            return;
        };
        let (from, to, file, line) = self.gaps.swap_remove(place);
        for (from, to) in [(from, number.saturating_sub(1)), (number.saturating_add(1), to)] {
            if from <= to {
                self.gaps.push((from, to, file.clone(), line));
            }
        }
    }

    fn found(&mut self, path: &Path, line: u64, what: Wrong) {
        if self.report.findings.len() < FINDINGS_MAX {
            let file = path.to_path_buf();
            self.report.findings.push(Finding { file, line, what });
        }
    }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Error {
    Code::JournalRead.error(format!(
        "the signing journal {} cannot be read: {error}",
        path.display()
    ))
}
