//! Counters that never fall.

use crate::flash::Flash;
use crate::layout::Area;
use codec::Reason;
use codec::record::{COUNT_HEADER_BYTES, CountHeader, UNIT_BYTES};

const UNIT: u32 = UNIT_BYTES as u32;

/// A monotonic counter: a secure element's, a TPM's, fuses, or a stand-in in flash.
pub trait Counter<F: ?Sized> {
    /// What it stands at; 0 before the first advance.
    fn read(&mut self, flash: &mut F) -> Result<u32, Reason>;

    /// Raises it to `to`, at once or not at all; does nothing when it stands there or higher.
    fn advance_to(&mut self, flash: &mut F, to: u32) -> Result<(), Reason>;
}

/// A counter in two halves of flash, in the manner of tally marks: a header says what a half began with, and every cell of
/// 32 bytes behind it that is not erased counts one. One erase lasts for as many steps as a half has cells.
///
/// It survives every power cut. It does not survive somebody who can write the flash: a chip with a real counter implements
/// [`Counter`] by that one.
#[derive(Clone, Copy, Debug)]
pub struct FlashCounter {
    halves: [Area; 2],
}

/// A half that counts.
#[derive(Clone, Copy)]
struct Half {
    number: usize,
    value: u32,
    /// Offset of the next cell.
    next: u32,
}

impl FlashCounter {
    /// The counter in this area; refused (1011) unless it can be cut into two halves of whole sectors.
    pub fn new(area: Area, flash: &impl Flash) -> Result<FlashCounter, Reason> {
        let len = area.len / 2;
        let middle = area.start.saturating_add(len);
        let is_cut = flash.sector(middle).is_some_and(|sector| sector.start == middle);
        if !is_cut || !area.len.is_multiple_of(2) || len < 2 * UNIT {
            return Err(Reason::LayoutRefused);
        }
        let half = |start| Area { start, len };
        Ok(FlashCounter {
            halves: [half(area.start), half(middle)],
        })
    }

    /// The half that counts: the one that says more.
    fn find<F: Flash>(&self, flash: &mut F) -> Result<Option<Half>, Reason> {
        let mut best: Option<Half> = None;
        for (number, area) in self.halves.into_iter().enumerate() {
            let Some((value, next)) = read_half(flash, area)? else {
                continue;
            };
            if best.is_none_or(|best| value > best.value) {
                best = Some(Half { number, value, next });
            }
        }
        Ok(best)
    }
}

impl<F: Flash> Counter<F> for FlashCounter {
    fn read(&mut self, flash: &mut F) -> Result<u32, Reason> {
        Ok(self.find(flash)?.map_or(0, |half| half.value))
    }

    fn advance_to(&mut self, flash: &mut F, to: u32) -> Result<(), Reason> {
        let found = self.find(flash)?;
        let (value, active) = found.map_or((0, 1), |half| (half.value, half.number));
        if to <= value {
            return Ok(());
        }
        let [first, second] = self.halves;
        let (here, there) = if active == 0 { (first, second) } else { (second, first) };
        match found {
            Some(half) if to - value == 1 && half.next.saturating_add(UNIT) <= here.len => {
                let mark = [!flash.erased(); UNIT_BYTES];
                Ok(flash.write(here.start.saturating_add(half.next), &mark)?)
            }
            _ => {
                there.erase(flash)?;
                Ok(flash.write(there.start, &CountHeader { base: to }.to_bytes())?)
            }
        }
    }
}

/// What a half says, and the offset of its next cell; `None` when it says nothing. A torn mark is one.
fn read_half(flash: &mut impl Flash, area: Area) -> Result<Option<(u32, u32)>, Reason> {
    let mut header = [0; COUNT_HEADER_BYTES];
    flash.read(area.start, &mut header)?;
    let Some(CountHeader { base }) = CountHeader::parse(&header) else {
        return Ok(None);
    };
    let (mut at, mut next) = (COUNT_HEADER_BYTES as u32, COUNT_HEADER_BYTES as u32);
    while at.saturating_add(UNIT) <= area.len {
        let mut cell = [0; UNIT_BYTES];
        flash.read(area.start.saturating_add(at), &mut cell)?;
        at += UNIT;
        if cell.iter().any(|byte| *byte != flash.erased()) {
            next = at;
        }
    }
    let marks = (next - COUNT_HEADER_BYTES as u32) / UNIT;
    Ok(Some((base.saturating_add(marks), next)))
}
