//! The record of a ceremony: one JSON object a line, each bound to the one before it.
//!
//! A line is canonical JSON (members sorted, no blanks) with `n` (its number, from 0), `prev` (the hash of the line
//! before; of nothing for the first), `time`, `kind`, and `hash`: SHA-256 over the same line without `hash`. Lines are
//! appended and on the disk before anything goes on.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use keys::{Code, Result};
use serde_json::{Map, Value};
use trust::Sha256;

use crate::hex;

/// Bytes of a record at most.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// `prev` of the first entry.
const NOTHING: [u8; 32] = [0; 32];

/// An entry of the record.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// What it says: every member of the line.
    pub body: Map<String, Value>,
}

impl Entry {
    /// What sort of entry it is.
    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    /// The text of a member; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its hash in hexadecimal.
    pub fn hash(&self) -> &str {
        self.text("hash")
    }

    /// Its time, in seconds since 1970-01-01 UTC.
    pub fn time(&self) -> u64 {
        self.body.get("time").and_then(Value::as_u64).unwrap_or_default()
    }

    /// Another member; null where there is none.
    pub fn get(&self, name: &str) -> &Value {
        self.body.get(name).unwrap_or(&Value::Null)
    }
}

/// Entries whose chain was checked.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Bytes after the last whole line: an entry that was being written when the power failed.
    pub torn: Vec<u8>,
}

impl Record {
    /// Reads entries and checks form, numbers and chain. Error: [`Code::CeremonyRecord`], which names the entry.
    pub fn parse(bytes: &[u8]) -> Result<Record> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(damaged(0, "the record is too long"));
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (lines, torn) = bytes.split_at_checked(whole).unwrap_or_default();
        let mut record = Record {
            entries: Vec::new(),
            torn: torn.to_vec(),
        };
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let entry = parse_line(record.entries.len(), record.head(), line)?;
            record.entries.push(entry);
        }
        Ok(record)
    }

    /// The hash of the last entry.
    fn head(&self) -> String {
        match self.entries.last() {
            Some(entry) => entry.hash().to_owned(),
            None => hex::text(&NOTHING),
        }
    }
}

fn parse_line(number: usize, head: String, line: &[u8]) -> Result<Entry> {
    let text = str::from_utf8(line).map_err(|_| damaged(number, "it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let value: Value =
        serde_json::from_str(text).map_err(|error| damaged(number, &format!("it is no JSON: {error}")))?;
    let Value::Object(mut body) = value else {
        return Err(damaged(number, "it is no object"));
    };
    if canonical(&Value::Object(body.clone())) != text {
        return Err(damaged(number, "it is not in canonical form"));
    }
    if body.get("n").and_then(Value::as_u64) != Some(number as u64) {
        return Err(damaged(number, "its number is another"));
    }
    if body.get("prev").and_then(Value::as_str) != Some(head.as_str()) {
        return Err(damaged(number, "it does not follow the entry before it"));
    }
    let stated = body.remove("hash").unwrap_or_default();
    if stated.as_str() != Some(hash(&body).as_str()) {
        return Err(damaged(number, "it is not what was written: its hash differs"));
    }
    body.insert("hash".into(), stated);
    Ok(Entry { body })
}

fn hash(body: &Map<String, Value>) -> String {
    hex::text(&Sha256::of(canonical(&Value::Object(body.clone())).as_bytes()))
}

/// The one form of a value: members sorted by name, no blanks, strings escaped as little as JSON allows.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            let members = sorted.into_iter().map(|(name, value)| {
                let name = Value::String(name.clone());
                format!("{name}:{}", canonical(value))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// A record that is being written.
pub struct Writer {
    path: PathBuf,
    file: File,
    record: Record,
}

impl Writer {
    /// Opens a record, or makes an empty one, for nobody else. What a power cut left of an entry is cut off; `torn` of
    /// the record still has it.
    ///
    /// Errors: [`Code::CeremonyRecord`]; [`Code::FileWrite`], also when another program writes it.
    pub fn open(path: &Path) -> Result<Writer> {
        let failed = |error: &dyn std::fmt::Display| write_error(path, error);
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = options.map_err(|error| failed(&error))?;
        file.try_lock().map_err(|_| failed(&"another program writes it"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        let record = Record::parse(&bytes)?;
        let whole = (bytes.len() - record.torn.len()) as u64;
        let cut = file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole)));
        cut.map_err(|error| failed(&error))?;
        sync_directory(path);
        Ok(Writer {
            path: path.to_path_buf(),
            file,
            record,
        })
    }

    /// What is in it so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Appends an entry and waits until it is on the disk. Error: [`Code::FileWrite`].
    pub fn append(&mut self, time: u64, kind: &str, members: Map<String, Value>) -> Result<&Entry> {
        let mut body = members;
        body.insert("n".into(), self.record.entries.len().into());
        body.insert("prev".into(), self.record.head().into());
        body.insert("time".into(), time.into());
        body.insert("kind".into(), kind.into());
        let hash = hash(&body);
        body.insert("hash".into(), hash.into());
        let line = format!("{}\n", canonical(&Value::Object(body.clone())));
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| write_error(&self.path, &error))?;
        self.record.entries.push(Entry { body });
        self.record.entries.last().ok_or_else(|| damaged(0, "it is empty"))
    }
}

/// Best effort: without it, a new file may be gone after a power cut, and the ceremony starts anew.
fn sync_directory(path: &Path) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let _ = File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
}

fn write_error(path: &Path, error: &dyn std::fmt::Display) -> keys::Error {
    Code::FileWrite.error(format!("{} cannot be written: {error}", path.display()))
}

pub(super) fn damaged(entry: usize, why: &str) -> keys::Error {
    Code::CeremonyRecord.error(format!("entry {entry} (line {}): {why}", entry + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let mut writer = Writer::open(&path).unwrap();
        for text in ["a", "b \"quoted\" ä", "c"] {
            writer
                .append(
                    7,
                    "note",
                    members(json!({"text": text, "more": {"z": [1, null], "a": true}})),
                )
                .unwrap();
        }
        (folder, path)
    }

    #[test]
    fn every_changed_bit_is_found_and_its_entry_named() {
        let (_folder, path) = written();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(Record::parse(&bytes).unwrap().entries.len(), 3);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                let entry = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
                match Record::parse(&bent) {
                    // Without its end the last line is torn, not whole.
                    Ok(record) => assert!(at == bytes.len() - 1 && !record.torn.is_empty(), "{at} {bit}"),
                    Err(error) => {
                        let named = error.what.starts_with(&format!("entry {entry} (line {})", entry + 1));
                        assert!(error.is(Code::CeremonyRecord) && named, "{at}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn entries_cannot_be_left_out_doubled_or_exchanged() {
        let (_folder, path) = written();
        let bytes = std::fs::read(path).unwrap();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for order in [&[0, 2][..], &[1, 2], &[0, 0, 1, 2], &[0, 2, 1], &[1, 0, 2]] {
            let changed: Vec<u8> = order.iter().flat_map(|at| lines[*at].to_vec()).collect();
            assert!(
                Record::parse(&changed).unwrap_err().is(Code::CeremonyRecord),
                "{order:?}"
            );
        }
    }

    #[test]
    fn a_torn_entry_is_cut_off_and_the_chain_goes_on() {
        let (_folder, path) = written();
        let bytes = std::fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for end in (0..bytes.len()).step_by(23) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let mut writer = Writer::open(&path).unwrap();
            let whole = writer.record().entries.len();
            let starts: usize = lines[..whole].iter().map(|line| line.len()).sum();
            assert_eq!(writer.record().torn, bytes[starts..end]);
            writer.append(8, "note", Map::new()).unwrap();
            drop(writer);
            let record = Record::parse(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!((record.entries.len(), record.torn.len()), (whole + 1, 0));
        }
    }

    #[test]
    fn two_do_not_write_one_record() {
        let (_folder, path) = written();
        let _first = Writer::open(&path).unwrap();
        assert!(Writer::open(&path).err().unwrap().is(Code::FileWrite));
    }
}
