//! The reservations of LMS keys in a journal: a counter for each key that only grows.
//!
//! Looked for from the end backwards, up to the key's last one or to the beginning of the file, which repeats those of the
//! files before. On the way each entry is seen to be the one before the next: a reservation that somebody took out is a
//! broken chain, and so is one behind an entry that was changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::verify::LINE_BYTES_MAX;
use super::{Carried, Digest, Entry, Event, Open, Reservation, cannot_open, damaged};
use crate::{Code, Result};

/// LMS keys that one journal can know: as many as the beginning of its next file can carry.
pub const LMS_KEYS_MAX: usize = 200;
/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 64 * 1024;

/// The last reservation of this key.
pub(super) fn last(open: &mut Open<'_>, key: &Digest) -> Result<Option<Carried>> {
    let mut entries = Backwards::from_end(open);
    while let Some(entry) = entries.next_entry()? {
        let found = reservations(&entry).into_iter().find(|one| one.key == *key);
        if found.is_some() || matches!(entry.event, Event::Begin(_)) {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The last reservation of every key, by key id.
pub(super) fn all(open: &mut Open<'_>) -> Result<Vec<Carried>> {
    let mut found = BTreeMap::new();
    let mut entries = Backwards::from_end(open);
    while let Some(entry) = entries.next_entry()? {
        for one in reservations(&entry) {
            found.entry(one.key).or_insert(one);
        }
        if matches!(entry.event, Event::Begin(_)) {
            break;
        }
    }
    Ok(found.into_values().collect())
}

/// Whether this reservation is the one that follows on its key's last.
pub(super) fn admit(open: &mut Open<'_>, wanted: &Reservation) -> Result<()> {
    let before = last(open, &wanted.key.id)?;
    let follows = match &before {
        None => wanted.after.is_none() && wanted.given == 0,
        Some(before) => wanted.after == Some(before.last) && before.given.checked_add(1) == Some(wanted.given),
    };
    if !follows {
        let path = open.path.display();
        return Err(Code::LmsBusy.error(format!(
            "the LMS key moved in the signing journal {path} in the meantime"
        )));
    }
    if before.is_none() && all(open)?.len() >= LMS_KEYS_MAX {
        let what = format!("{} knows {LMS_KEYS_MAX} LMS keys already", open.path.display());
        return Err(Code::JournalFull
            .error(what)
            .advise("Bind the key to another journal: one journal carries no more."));
    }
    Ok(())
}

/// What an entry says of LMS keys.
fn reservations(entry: &Entry) -> Vec<Carried> {
    match &entry.event {
        Event::Begin(carried) => carried.clone(),
        Event::Reservation(reservation) => vec![Carried {
            after: reservation.after,
            given: reservation.given,
            key: reservation.key.id,
            last: entry.head(),
        }],
        _ => Vec::new(),
    }
}

/// The entries of a file, the last one first.
struct Backwards<'a> {
    path: &'a Path,
    file: &'a mut File,
    /// Where in the file `held` begins.
    at: u64,
    /// Whole lines, and the end of one, that were read and not given yet.
    held: Vec<u8>,
    /// The entry that was given last.
    next: Option<Entry>,
}

impl<'a> Backwards<'a> {
    /// From the last whole line on; what is torn behind it is no entry.
    fn from_end(open: &'a mut Open<'_>) -> Backwards<'a> {
        let torn = open.end.torn.as_ref().map_or(0, |torn| torn.bytes);
        Backwards {
            path: open.path,
            file: &mut open.file,
            at: open.end.len.saturating_sub(torn),
            held: Vec::new(),
            next: None,
        }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let entry = Entry::read(&line).map_err(|damage| damaged_before(self.path, self.next.as_ref(), &damage))?;
        if let Some(next) = &self.next
            && (entry.number.checked_add(1) != Some(next.number) || entry.hash != next.previous)
        {
            let what = format!(
                "in the signing journal {} entry {} does not follow on the one before it",
                self.path.display(),
                next.number
            );
            return Err(Code::JournalOrder.error(what));
        }
        self.next = Some(entry.clone());
        Ok(Some(entry))
    }

    /// The line before, without its line feed.
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let body = self.held.strip_suffix(b"\n").unwrap_or(&self.held);
            if let Some(end) = body.iter().rposition(|byte| *byte == b'\n') {
                let mut line = self.held.split_off(end + 1);
                line.pop();
                return Ok(Some(line));
            }
            if self.at == 0 {
                let mut line = std::mem::take(&mut self.held);
                return Ok(line.pop().map(|_| line));
            }
            if self.held.len() > LINE_BYTES_MAX {
                return Err(damaged(self.path, "a line does not begin"));
            }
            self.read_chunk()?;
        }
    }

    fn read_chunk(&mut self) -> Result<()> {
        let len = self.at.min(CHUNK_BYTES);
        self.at -= len;
        let mut chunk = vec![0; len as usize];
        self.file
            .seek(SeekFrom::Start(self.at))
            .and_then(|_| self.file.read_exact(&mut chunk))
            .map_err(|error| cannot_open(self.path, &error))?;
        chunk.append(&mut self.held);
        self.held = chunk;
        Ok(())
    }
}

fn damaged_before(path: &Path, next: Option<&Entry>, damage: &super::entry::Damage) -> crate::Error {
    match next {
        Some(next) => Code::JournalDamaged.error(format!(
            "in the signing journal {}, before entry {}: {damage}",
            path.display(),
            next.number
        )),
        None => damaged(path, &damage.to_string()),
    }
}
