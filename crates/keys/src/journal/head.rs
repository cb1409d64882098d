//! The end of a journal, kept where whoever cuts the journal cannot reach.
//!
//! A chain proves that nothing in its middle was changed; that nothing is missing at its end is only known to whoever
//! remembers the end. A [`HeadFile`] on another medium does (a USB stick, a share with other owners), and so does a
//! person who writes `HASH@NUMBER` down. With its journal the same file is an outside counter to which the state of an LMS
//! key can be bound ([`crate::lms`]): it only grows.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, beside, sync_folder};
use crate::{Code, Error, Result};

/// Bytes of a head file at most.
const HEAD_FILE_BYTES_MAX: u64 = 256;

/// Where a journal ends: number and hash of its last entry. Written `HASH@NUMBER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JournalHead {
    /// The number of the last entry.
    pub number: u64,
    /// Its hash, which covers everything before it.
    pub hash: Digest,
}

impl fmt::Display for JournalHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.hash, self.number)
    }
}

impl FromStr for JournalHead {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<JournalHead, Self::Err> {
        const FORM: &str = "the head of a journal is written HASH@NUMBER";
        let (hash, number) = text.split_once('@').ok_or(FORM)?;
        Ok(JournalHead {
            hash: hash.parse()?,
            number: number.parse().map_err(|_| FORM)?,
        })
    }
}

impl TryFrom<String> for JournalHead {
    type Error = &'static str;

    fn try_from(text: String) -> Result<JournalHead, Self::Error> {
        text.parse()
    }
}

impl From<JournalHead> for String {
    fn from(head: JournalHead) -> String {
        head.to_string()
    }
}

/// A file that holds a [`JournalHead`] and whose number only grows.
#[derive(Clone, Debug)]
pub struct HeadFile(PathBuf);

impl HeadFile {
    /// The head file at `path`, whether it exists already or not.
    pub fn at(path: impl Into<PathBuf>) -> HeadFile {
        HeadFile(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it holds; nothing when there is no such file. Error: [`Code::JournalHeadFile`].
    pub fn read(&self) -> Result<Option<JournalHead>> {
        let mut text = String::new();
        match File::open(&self.0).and_then(|file| file.take(HEAD_FILE_BYTES_MAX).read_to_string(&mut text)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error.to_string())),
            Ok(_) => {}
        }
        text.trim_end().parse().map(Some).map_err(|form| self.failed(form))
    }

    /// Replaces what it holds by a later head, whole or not at all, and waits until that is on the disk.
    ///
    /// Error: [`Code::JournalHeadFile`] when it cannot be written, or when the number would not grow (the same head again
    /// is no error and changes nothing).
    pub fn advance(&self, head: &JournalHead) -> Result<()> {
        match self.read()? {
            Some(present) if present == *head => return Ok(()),
            Some(present) if present.number >= head.number => {
                return Err(self.failed(&format!("it holds {present}, and {head} is not later")));
            }
            _ => {}
        }
        let new = beside(&self.0, ".new");
        File::create(&new)
            .and_then(|mut file| writeln!(file, "{head}").and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&new, &self.0))
            .and_then(|()| sync_folder(&self.0))
            .map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&self, why: &str) -> Error {
        Code::JournalHeadFile.error(format!("the head file {}: {why}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, byte: u8) -> JournalHead {
        JournalHead {
            number,
            hash: Digest([byte; 32]),
        }
    }

    #[test]
    fn a_head_file_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let file = HeadFile::at(folder.path().join("head"));
        assert_eq!(file.read().unwrap(), None);
        file.advance(&head(5, 1)).unwrap();
        file.advance(&head(5, 1)).unwrap();
        for back in [head(5, 2), head(4, 1)] {
            assert!(file.advance(&back).unwrap_err().is(Code::JournalHeadFile));
        }
        file.advance(&head(6, 3)).unwrap();
        assert_eq!(file.read().unwrap(), Some(head(6, 3)));
        fs::write(file.path(), "what?").unwrap();
        assert!(file.read().unwrap_err().is(Code::JournalHeadFile));
        assert!(file.advance(&head(7, 3)).unwrap_err().is(Code::JournalHeadFile));
    }

    #[test]
    fn a_head_is_written_hash_at_number() {
        let text = head(12, 0xa0).to_string();
        assert_eq!(text, format!("{}@12", "a0".repeat(32)));
        assert_eq!(text.parse(), Ok(head(12, 0xa0)));
        for bad in ["12", "@12", &text[1..], &text.to_uppercase(), &format!("{text}x")] {
            assert!(bad.parse::<JournalHead>().is_err(), "{bad}");
        }
    }
}
