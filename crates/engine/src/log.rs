//! An append-only log in two halves of flash.
//!
//! Records are appended in units of 32 bytes. When a half is full, what still matters is written to the other half and
//! its header last, so that a cut leaves the old half valid. A torn record fails its check value and is skipped; new
//! records are appended behind everything that was begun.

use crate::flash::{Flash, WRITE_SIZE_MAX};
use crate::layout::Area;
use codec::Reason;
use codec::record::{self, Encoded, HalfHeader, RECORD_BYTES_MAX, UNIT_BYTES};

const UNIT: u32 = UNIT_BYTES as u32;
const _: () = assert!(WRITE_SIZE_MAX <= UNIT_BYTES);

/// An open log: which half counts, and where the next record goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    halves: [Area; 2],
    active: usize,
    generation: u32,
    end: u32,
}

impl Log {
    /// Finds the half that counts. `None` when neither does (a new device, or a damaged one): [`Log::start_anew`] makes it.
    pub(crate) fn open(flash: &mut impl Flash, halves: [Area; 2]) -> Result<Option<Log>, Reason> {
        let mut best: Option<Log> = None;
        for (active, half) in halves.iter().enumerate() {
            let mut unit = [0; UNIT_BYTES];
            flash.read(half.start, &mut unit)?;
            let Some(HalfHeader { generation }) = HalfHeader::decode(&unit) else {
                continue;
            };
            if best.is_none_or(|best| follows(generation, best.generation)) {
                best = Some(Log {
                    halves,
                    active,
                    generation,
                    end: half.len,
                });
            }
        }
        let Some(mut log) = best else { return Ok(None) };
        log.end = log.written_end(flash)?;
        Ok(Some(log))
    }

    /// Makes an empty log of two halves of which neither counts.
    pub(crate) fn start_anew(flash: &mut impl Flash, halves: [Area; 2]) -> Result<Log, Reason> {
        let nothing = Log {
            halves,
            active: 1,
            generation: 0,
            end: 0,
        };
        nothing.switch(flash, |_, _| Ok(()))
    }

    /// Whether a record of this length still fits.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        u32::try_from(bytes)
            .ok()
            .and_then(|len| self.end.checked_add(len))
            .is_some_and(|end| end <= self.half().len)
    }

    /// Appends a record; refuses (1016) when it does not fit. The caller then makes room with [`Log::switch`].
    pub(crate) fn append(&mut self, flash: &mut impl Flash, record: &Encoded) -> Result<(), Reason> {
        let bytes = record.as_bytes();
        if !self.has_room(bytes.len()) {
            return Err(Reason::StateFull);
        }
        let at = self.half().start + self.end;
        // Even a write that fails may have left bytes behind.
        self.end += bytes.len() as u32;
        Ok(flash.write(at, bytes)?)
    }

    /// Calls `each` for every whole record, oldest first.
    pub(crate) fn for_each(&self, flash: &mut impl Flash, mut each: impl FnMut(&[u8])) -> Result<(), Reason> {
        let half = self.half();
        let mut at = UNIT;
        while at < self.end {
            let mut buffer = [0; RECORD_BYTES_MAX];
            let wanted = (half.len - at).min(RECORD_BYTES_MAX as u32) as usize;
            let window = buffer.get_mut(..wanted).unwrap_or(&mut []);
            flash.read(half.start + at, window)?;
            // A torn record has a wrong check value; its units are passed one by one.
            let record = record::record_units(window).and_then(|units| window.get(..units * UNIT_BYTES));
            let passed = match record {
                Some(record) if record::is_whole(record) => {
                    each(record);
                    record.len() as u32
                }
                _ => UNIT,
            };
            at += passed;
        }
        Ok(())
    }

    /// Moves to the other half: erases it, lets `fill` append what still matters, and makes it count.
    pub(crate) fn switch<F: Flash>(
        self,
        flash: &mut F,
        fill: impl FnOnce(&mut F, &mut Log) -> Result<(), Reason>,
    ) -> Result<Log, Reason> {
        // Nothing wears a flash 2^32 times; but whoever could write it once must not end the log for ever.
        let generation = self.generation.wrapping_add(1);
        let mut next = Log {
            active: 1 - self.active,
            generation,
            end: UNIT,
            ..self
        };
        next.half().erase(flash)?;
        fill(flash, &mut next)?;
        flash.write(next.half().start, HalfHeader { generation }.encode().as_bytes())?;
        Ok(next)
    }

    fn half(&self) -> Area {
        if self.active == 0 {
            self.halves[0]
        } else {
            self.halves[1]
        }
    }

    /// The end of what was written. A record counts with all the units that its first one announces, because its last ones
    /// may read as erased: zeros do on a flash that erases to zeros.
    fn written_end(&self, flash: &mut impl Flash) -> Result<u32, Reason> {
        let half = self.half();
        let whole = half.len / UNIT * UNIT;
        let (mut at, mut end) = (UNIT, UNIT);
        while at < whole {
            let mut unit = [0; UNIT_BYTES];
            flash.read(half.start + at, &mut unit)?;
            if unit.iter().all(|byte| *byte == flash.erased()) {
                at += UNIT;
                continue;
            }
            at += record::record_units(&unit).unwrap_or(1) as u32 * UNIT;
            end = at.min(whole);
        }
        Ok(end)
    }
}

/// Whether a half of this generation is the later one of the two.
fn follows(generation: u32, other: u32) -> bool {
    (1..=u32::MAX / 2).contains(&generation.wrapping_sub(other))
}
