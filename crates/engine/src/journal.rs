//! What the engine remembers: which releases are committed, which one is under way and how far, and how the last one
//! ended. The state is the fold of the records; nothing else is kept.

use crate::flash::Flash;
use crate::layout::Layout;
use crate::log::Log;
use codec::plan::Version;
use codec::record::{JournalRecord, ReleaseId, TrustName, Upload};
use codec::{Reason, Refused};

/// Sequence domains that a device follows at most.
pub const DOMAINS_MAX: usize = 2;

/// A release that was confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Which one.
    pub release: ReleaseId,
    /// The version to show.
    pub version: Option<Version>,
}

/// A release under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Which one.
    pub release: ReleaseId,
    /// Where its head starts in the file.
    pub head_start: u32,
    /// Bytes of its head.
    pub head_len: u32,
    /// The file that carries it.
    pub upload: Upload,
    /// The version to show once it is confirmed, when the release names one.
    pub version: Option<Version>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a release under way is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Admitted; its head is being stored.
    Admitted,
    /// Its head is in the head area.
    HeadStored,
    /// Its payload is being written to the staging slot.
    Payload {
        /// Which URI of the manifest.
        ordinal: u8,
        /// Offset of the payload's first byte in the file.
        offset: u32,
        /// Members of the envelope that follow it.
        members_left: u8,
        /// Chunks that are written.
        chunks: u32,
    },
    /// Its image is whole in the staging slot.
    Staged {
        /// The image's hash TLV.
        image: [u8; 32],
        /// Its security counter.
        counter: u32,
        /// Under which root and list it was approved.
        trust: TrustName,
        /// Whether the bootloader was asked to take it.
        requested: bool,
    },
}

/// How the last release that did not make it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Which one.
    pub release: ReleaseId,
    /// Whether it had been booted and went back; otherwise it was given up before.
    pub reverted: bool,
    /// The numbered reason.
    pub reason: u16,
}

/// The state that the records add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Confirmed releases, one per sequence domain.
    pub committed: [Option<Committed>; DOMAINS_MAX],
    /// The release under way.
    pub pending: Option<Pending>,
    /// The last one that failed.
    pub ending: Option<Ending>,
}

impl State {
    /// The confirmed release of a domain.
    pub fn committed_in(&self, domain: &[u8; 16]) -> Option<&Committed> {
        self.committed
            .iter()
            .flatten()
            .find(|committed| committed.release.domain == *domain)
    }

    /// Whether a release of this domain could be committed.
    pub fn has_room_for(&self, domain: &[u8; 16]) -> bool {
        self.committed_in(domain).is_some() || self.committed.iter().any(Option::is_none)
    }

    fn apply(&mut self, record: JournalRecord) {
        match record {
            JournalRecord::Committed { release, version } => {
                self.commit(Committed { release, version });
                if self.pending.is_some_and(|pending| pending.release == release) {
                    self.pending = None;
                }
            }
            JournalRecord::Pending {
                release,
                head_start,
                head_len,
                upload,
                version,
            } => {
                self.pending = Some(Pending {
                    release,
                    head_start,
                    head_len,
                    upload,
                    version,
                    progress: Progress::Admitted,
                });
            }
            JournalRecord::HeadStored => self.progress(|_| Progress::HeadStored),
            JournalRecord::Payload {
                ordinal,
                offset,
                members_left,
            } => {
                self.progress(|_| Progress::Payload {
                    ordinal,
                    offset,
                    members_left,
                    chunks: 0,
                });
            }
            JournalRecord::Chunks { count } => self.progress(|progress| match progress {
                Progress::Payload {
                    ordinal,
                    offset,
                    members_left,
                    ..
                } => Progress::Payload {
                    ordinal,
                    offset,
                    members_left,
                    chunks: count,
                },
                other => other,
            }),
            JournalRecord::Staged { image, counter, trust } => {
                self.progress(|_| Progress::Staged {
                    image,
                    counter,
                    trust,
                    requested: false,
                });
            }
            JournalRecord::Requested => self.progress(|progress| match progress {
                Progress::Staged {
                    image, counter, trust, ..
                } => Progress::Staged {
                    image,
                    counter,
                    trust,
                    requested: true,
                },
                other => other,
            }),
            JournalRecord::Dropped { reason } => self.end(false, reason),
            JournalRecord::Reverted { reason } => self.end(true, reason),
        }
    }

    fn commit(&mut self, new: Committed) {
        let same = self
            .committed
            .iter()
            .position(|old| old.is_some_and(|old| old.release.domain == new.release.domain));
        let slot = same.or_else(|| self.committed.iter().position(Option::is_none));
        if let Some(place) = slot.and_then(|slot| self.committed.get_mut(slot)) {
            *place = Some(new);
        }
    }

    fn progress(&mut self, step: impl FnOnce(Progress) -> Progress) {
        if let Some(pending) = &mut self.pending {
            pending.progress = step(pending.progress);
        }
    }

    fn end(&mut self, reverted: bool, reason: u16) {
        if let Some(pending) = self.pending.take() {
            self.ending = Some(Ending {
                release: pending.release,
                reverted,
                reason,
            });
        }
    }
}

/// The journal of a device.
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    log: Option<Log>,
    state: State,
}

impl Journal {
    /// Reads the journal. A device without one has the empty state; nothing is written before the first record.
    pub fn open(flash: &mut impl Flash, layout: &Layout) -> Result<Journal, Reason> {
        let log = Log::open(flash, layout.journal)?;
        let mut state = State::default();
        if let Some(log) = &log {
            log.for_each(flash, |bytes| {
                if let Some(record) = JournalRecord::decode(bytes) {
                    state.apply(record);
                }
            })?;
        }
        Ok(Journal { log, state })
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes a record, and then lets it count.
    pub fn append(&mut self, flash: &mut impl Flash, layout: &Layout, record: JournalRecord) -> Result<(), Refused> {
        let encoded = record.encode();
        let log = match self.log {
            Some(log) if log.has_room(encoded.as_bytes().len()) => log,
            Some(log) => {
                let state = self.state;
                log.switch(flash, |flash, log| {
                    snapshot(&state, |record| log.append(flash, &record.encode()))
                })?
            }
            None => Log::start_anew(flash, layout.journal)?,
        };
        let log = self.log.insert(log);
        log.append(flash, &encoded)?;
        self.state.apply(record);
        Ok(())
    }
}

/// The records that add up to this state.
fn snapshot(state: &State, mut put: impl FnMut(JournalRecord) -> Result<(), Reason>) -> Result<(), Reason> {
    for committed in state.committed.iter().flatten() {
        put(JournalRecord::Committed {
            release: committed.release,
            version: committed.version,
        })?;
    }
    if let Some(ending) = state.ending {
        put(JournalRecord::Pending {
            release: ending.release,
            head_start: 0,
            head_len: 0,
            upload: Upload::default(),
            version: None,
        })?;
        put(match ending.reverted {
            true => JournalRecord::Reverted { reason: ending.reason },
            false => JournalRecord::Dropped { reason: ending.reason },
        })?;
    }
    let Some(Pending {
        release,
        head_start,
        head_len,
        upload,
        version,
        progress,
    }) = state.pending
    else {
        return Ok(());
    };
    put(JournalRecord::Pending {
        release,
        head_start,
        head_len,
        upload,
        version,
    })?;
    match progress {
        Progress::Admitted => {}
        Progress::HeadStored => put(JournalRecord::HeadStored)?,
        Progress::Payload {
            ordinal,
            offset,
            members_left,
            chunks,
        } => {
            put(JournalRecord::Payload {
                ordinal,
                offset,
                members_left,
            })?;
            put(JournalRecord::Chunks { count: chunks })?;
        }
        Progress::Staged {
            image,
            counter,
            trust,
            requested,
        } => {
            put(JournalRecord::Staged { image, counter, trust })?;
            if requested {
                put(JournalRecord::Requested)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_snapshot_adds_up_to_the_same_state() {
        let id = |sequence| ReleaseId {
            domain: [1; 16],
            sequence,
            digest: [sequence as u8; 32],
        };
        let upload = Upload {
            sha: [7; 32],
            len: 1000,
        };
        let version = Version::new(&[1, 2]);
        let history = [
            JournalRecord::Pending {
                release: id(1),
                head_start: 3,
                head_len: 9,
                upload,
                version,
            },
            JournalRecord::HeadStored,
            JournalRecord::Payload {
                ordinal: 0,
                offset: 30,
                members_left: 1,
            },
            JournalRecord::Chunks { count: 1 },
            JournalRecord::Chunks { count: 2 },
            JournalRecord::Staged {
                image: [3; 32],
                counter: 4,
                trust: [5; 8],
            },
            JournalRecord::Requested,
            JournalRecord::Committed {
                release: id(1),
                version: Version::new(&[1, 0]),
            },
            JournalRecord::Pending {
                release: id(2),
                head_start: 3,
                head_len: 9,
                upload,
                version,
            },
            JournalRecord::HeadStored,
            JournalRecord::Payload {
                ordinal: 0,
                offset: 30,
                members_left: 1,
            },
            JournalRecord::Chunks { count: 5 },
            JournalRecord::Dropped { reason: 508 },
            JournalRecord::Pending {
                release: id(3),
                head_start: 3,
                head_len: 9,
                upload,
                version,
            },
            JournalRecord::Staged {
                image: [3; 32],
                counter: 4,
                trust: [5; 8],
            },
            JournalRecord::Requested,
            JournalRecord::Reverted { reason: 931 },
            JournalRecord::Pending {
                release: id(4),
                head_start: 3,
                head_len: 9,
                upload,
                version,
            },
        ];
        let mut state = State::default();
        for record in history {
            state.apply(record);
            let mut again = State::default();
            snapshot(&state, |record| {
                again.apply(record);
                Ok(())
            })
            .unwrap();
            assert_eq!(again, state, "after {record:?}");
        }
        assert_eq!(
            state.committed_in(&[1; 16]).map(|committed| committed.release.sequence),
            Some(1)
        );
        assert_eq!(
            state.ending,
            Some(Ending {
                release: id(3),
                reverted: true,
                reason: 931
            })
        );
    }
}
