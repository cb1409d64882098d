//! The signing journal as the counter of an LMS key.
//!
//! A reservation is an entry of the journal's chain. The state names its last one, so that neither an old state nor an old
//! journal goes unnoticed; the head file on another medium notices when both were put back together.

use super::counter::{Count, OutsideCounter};
use crate::journal::{By, Carried, Event, Facts, HeadFile, Journal, Key, Record, Reservation};
use crate::{Code, Error, PublicKey, Result};

/// Who reserves, for the entries of LMS keys that are bound to a journal: what a library does not know by itself.
#[derive(Clone, Debug)]
pub struct Scribe {
    /// Who signs.
    pub by: By,
    /// Why.
    pub why: Option<String>,
    /// More that is to be known.
    pub facts: Facts,
    /// Seconds since 1970 UTC.
    pub now: fn() -> u64,
}

/// The reservations of one key in a signing journal.
#[derive(Debug)]
pub struct JournalCounter {
    journal: Journal,
    key: Key,
    scribe: Option<Scribe>,
}

impl JournalCounter {
    /// The counter of the key with this public half, kept at `custody`, in this journal with its head file. Without a
    /// scribe it can be read and not raised.
    pub fn new(
        journal: Journal,
        head: HeadFile,
        public: &PublicKey,
        custody: String,
        scribe: Option<Scribe>,
    ) -> JournalCounter {
        JournalCounter {
            journal: Journal::at(journal.path(), Some(head)),
            key: Key {
                algorithm: public.algorithm_name().into(),
                custody,
                id: crate::journal::Digest(public.thumbprint()),
            },
            scribe,
        }
    }

    /// Binds a new key to the journal: its first entry, which gives nothing away yet. Errors: as
    /// [`OutsideCounter::raise`]; [`Code::LmsBusy`] the journal knows the key already.
    pub fn bind(&mut self) -> Result<Count> {
        self.enter(0, None)
    }

    fn enter(&mut self, given: u32, after: Option<crate::journal::JournalHead>) -> Result<Count> {
        let scribe = self.scribe.as_ref().ok_or_else(no_scribe)?;
        let record = Record {
            event: Event::Reservation(Reservation {
                key: self.key.clone(),
                given,
                after,
            }),
            by: scribe.by.clone(),
            why: scribe.why.clone(),
            facts: scribe.facts.clone(),
        };
        let appended = self.journal.append((scribe.now)(), &record)?;
        Ok(Count {
            given,
            last: Some(appended.head),
            after,
        })
    }

    fn missing(&self) -> Error {
        Code::LmsCounterMissing
            .error(format!(
                "the signing journal {}, to which the LMS key is bound, is not there",
                self.journal.path().display()
            ))
            .advise("Put the journal back in its place; without it nothing is signed.")
    }
}

impl OutsideCounter for JournalCounter {
    fn read(&mut self) -> Result<Count> {
        if !self.journal.path().exists() {
            return Err(self.missing());
        }
        let found = self.journal.last_reservation(&self.key.id)?;
        let Carried { after, given, last, .. } = found.ok_or_else(|| {
            Code::LmsForeign.error(format!(
                "{} does not know this key: it is another journal",
                self.describe()
            ))
        })?;
        Ok(Count {
            given,
            last: Some(last),
            after,
        })
    }

    fn raise(&mut self, from: &Count) -> Result<Count> {
        if !self.journal.path().exists() {
            return Err(self.missing());
        }
        self.enter(from.given.saturating_add(1), from.last)
    }

    fn describe(&self) -> String {
        format!("the signing journal {}", self.journal.path().display())
    }
}

pub(super) fn no_scribe() -> Error {
    Code::Argument
        .error("an LMS key that is bound to the signing journal was opened without saying who signs")
        .advise("Give the key a scribe (`FileKey::reserving_as`).")
}
