//! The board's flash: memory that a file backs, driven as NOR.
//!
//! QEMU gives plain RAM, which would forgive what flash does not. So the driver keeps the rules itself: whole sectors
//! are erased, whole units are written, and only to erased bytes. Every write is read back.

use core::sync::atomic::{AtomicBool, Ordering};
use core::{ptr, slice};

use engine::flash::{Flash, FlashError, Sector};

use crate::board;

const WORD: u32 = 4;
const _: () = assert!(board::WRITE_SIZE.is_multiple_of(WORD), "this driver writes words");
const ERASED_WORD: u32 = u32::from_ne_bytes([board::ERASED; 4]);

/// The whole flash of the board. There is one; [`MappedFlash::take`] gives it out once.
pub struct MappedFlash(());

impl MappedFlash {
    /// The flash. Asking a second time is a defect and panics: the value is the only way to the flash, so that no two
    /// of its users write at a time.
    pub fn take() -> MappedFlash {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        assert!(!TAKEN.swap(true, Ordering::Relaxed));
        MappedFlash(())
    }
}

impl Flash for MappedFlash {
    fn write_size(&self) -> u32 {
        board::WRITE_SIZE
    }

    fn erased(&self) -> u8 {
        board::ERASED
    }

    fn size(&self) -> u32 {
        board::FLASH_SIZE
    }

    fn sector(&self, address: u32) -> Option<Sector> {
        let start = address - address % board::SECTOR_SIZE;
        (address < board::FLASH_SIZE).then_some(Sector {
            start,
            len: board::SECTOR_SIZE,
        })
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        let len = inside(address, out.len())?;
        // SAFETY: `inside` holds the range within the mapped flash, plain memory that nobody writes during this call.
        let source = unsafe { slice::from_raw_parts(pointer(address).cast::<u8>(), len) };
        out.copy_from_slice(source);
        Ok(())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let len = inside(address, bytes.len())?;
        if !address.is_multiple_of(board::WRITE_SIZE) || !len.is_multiple_of(board::WRITE_SIZE as usize) {
            return Err(FlashError::Misuse);
        }
        let words = (0..).step_by(WORD as usize).map(|offset| pointer(address + offset));
        for (place, bytes) in words.zip(bytes.as_chunks().0) {
            program(place, u32::from_ne_bytes(*bytes))?;
        }
        Ok(())
    }

    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        if self.sector(sector.start) != Some(sector) {
            return Err(FlashError::Misuse);
        }
        for offset in (0..sector.len).step_by(WORD as usize) {
            // SAFETY: `sector` is one of the flash's own; the place is inside it and a multiple of 4.
            unsafe { ptr::write_volatile(pointer(sector.start + offset), ERASED_WORD) }
        }
        Ok(())
    }
}

/// Writes one word to an erased place and reads it back.
fn program(place: *mut u32, value: u32) -> Result<(), FlashError> {
    // SAFETY: the callers took `place` from a range that `inside` checked; it is a multiple of 4.
    let (before, after) = unsafe {
        let before = ptr::read_volatile(place);
        if before == ERASED_WORD {
            ptr::write_volatile(place, value);
        }
        (before, ptr::read_volatile(place))
    };
    if before != ERASED_WORD {
        return Err(FlashError::Misuse);
    }
    if after != value {
        Err(FlashError::Device)
    } else {
        Ok(())
    }
}

/// The length, if the range lies in the flash.
fn inside(address: u32, len: usize) -> Result<usize, FlashError> {
    let end = u32::try_from(len).ok().and_then(|len| address.checked_add(len));
    match end {
        Some(end) if end <= board::FLASH_SIZE => Ok(len),
        _ => Err(FlashError::Misuse),
    }
}

fn pointer(address: u32) -> *mut u32 {
    (board::FLASH_START as usize + address as usize) as *mut u32
}
