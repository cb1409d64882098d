//! Swap-offset: exchanging the two slots with one spare sector, in an order that survives a cut at any operation
//! (format sheet, section 7).
//!
//! The new image stands one sector into the secondary slot. An upgrade moves sector after sector in ascending order, a
//! revert in descending order; a status cell in the primary trailer follows every half step. Which sectors move is
//! decided by the swap size in the trailer alone, never by headers: the C implementation reads headers again while
//! resuming and can lose the last sector of a longer old image (section 7.4).

use crate::flash::{Flash, WRITE_SIZE_MAX};
use crate::layout::{SlotId, Slots};
use codec::Reason;
use codec::mcuboot::trailer::{FLAG_SET, Flag, MAGIC_BYTES, Magic, SwapType, Trailer, TrailerLayout, magic};

/// Bytes moved at a time.
const BLOCK_BYTES: usize = 256;

/// Both trailers, and what they ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailers {
    /// Of the slot that runs.
    pub primary: Trailer,
    /// Of the slot that receives.
    pub secondary: Trailer,
}

/// What the trailers ask the bootloader to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Nothing.
    None,
    /// Try the secondary image once.
    Test,
    /// Take the secondary image for good.
    Permanent,
    /// Go back: the primary had its trial and was not confirmed.
    Revert,
    /// Finish the swap that was interrupted.
    Resume(SwapType),
}

impl Trailers {
    /// Reads both trailers.
    pub fn read(flash: &mut impl Flash, slots: &Slots) -> Result<Trailers, Reason> {
        Ok(Trailers {
            primary: read_trailer(flash, slots, SlotId::Primary)?,
            secondary: read_trailer(flash, slots, SlotId::Secondary)?,
        })
    }

    /// The decision table (format sheet, section 5), with torn trailers settled.
    ///
    /// * A primary trailer is written before the request in the secondary's is erased, so a swap under way comes first:
    ///   an erase that was cut can leave the secondary's magic and change its flags, a test into a permanent one.
    /// * For the same reason a flag in the secondary counts only when it is set exactly.
    /// * A torn confirm flag in the primary was written by an application that had passed its self-test, and a torn
    ///   `copy_done` was the last write of a swap: both count as set.
    ///
    /// | primary magic | secondary magic | pri image_ok | sec image_ok | pri copy_done | sec copy_done | request |
    /// |---|---|---|---|---|---|---|
    /// | good | - | - | - | unset, with a swap type | - | resume |
    /// | - | good | - | set | - | - | permanent |
    /// | - | good | - | not set | - | set | revert (being prepared) |
    /// | - | good | - | not set | - | not set | test |
    /// | good | - | unset | - | set | - | revert |
    pub fn request(&self) -> Request {
        let (primary, secondary) = (self.primary, self.secondary);
        if primary.magic == Magic::Good
            && primary.copy_done == Flag::Unset
            && let Some(swap) = primary.swap.filter(|swap| *swap != SwapType::None)
        {
            return Request::Resume(swap);
        }
        if secondary.magic == Magic::Good {
            return match (secondary.image_ok, secondary.copy_done) {
                (Flag::Set, _) => Request::Permanent,
                (_, Flag::Set) => Request::Revert,
                _ => Request::Test,
            };
        }
        if self.is_trial() {
            Request::Revert
        } else {
            Request::None
        }
    }

    /// Whether the primary image is confirmed: it never was on trial (no magic), or its confirm flag is written.
    pub fn is_confirmed(&self) -> bool {
        self.primary.magic != Magic::Good || self.primary.image_ok != Flag::Unset
    }

    /// Whether the primary's confirm flag is written exactly, in a whole trailer. Stricter than [`Trailers::is_confirmed`]: while
    /// a revert begins, the trailer of a trial is erased, and an erased one says nothing.
    pub fn says_confirmed(&self) -> bool {
        self.primary.magic == Magic::Good && self.primary.image_ok == Flag::Set
    }

    /// Whether the primary image runs on trial: swapped in and not confirmed.
    pub fn is_trial(&self) -> bool {
        self.primary.magic == Magic::Good
            && self.primary.image_ok == Flag::Unset
            && self.primary.copy_done != Flag::Unset
    }
}

/// A swap that can be started or resumed.
pub struct Swap<'f, F> {
    flash: &'f mut F,
    slots: &'f Slots,
    kind: SwapType,
    /// Index of the last sector that moves.
    last: u32,
}

impl<'f, F: Flash> Swap<'f, F> {
    /// Starts an upgrade ([`SwapType::Test`] or [`SwapType::Permanent`]) of two images whose longer one has `size`
    /// bytes. The secondary's request stays until the primary's trailer is whole.
    pub fn upgrade(flash: &'f mut F, slots: &'f Slots, kind: SwapType, size: u32) -> Result<(), Reason> {
        let mut swap = Swap::new(flash, slots, kind, size)?;
        swap.begin_primary_trailer(size, kind == SwapType::Permanent)?;
        swap.run(0)
    }

    /// Starts a revert of the two images; the old one stands at the start of the secondary slot.
    pub fn revert(flash: &'f mut F, slots: &'f Slots, size: u32) -> Result<(), Reason> {
        let mut swap = Swap::new(flash, slots, SwapType::Revert, size)?;
        swap.prepare_revert(size)?;
        swap.begin_primary_trailer(size, false)?;
        swap.run(0)
    }

    /// Resumes the swap that the primary's trailer describes.
    pub fn resume(flash: &'f mut F, slots: &'f Slots, kind: SwapType) -> Result<(), Reason> {
        let size = trailer_size(flash, slots, SlotId::Primary)?;
        let mut swap = Swap::new(flash, slots, kind, size)?;
        let done = swap.steps_done()?;
        swap.run(done)
    }

    /// Whether the primary's trailer describes a swap that these slots can do.
    pub fn resumable(flash: &'f mut F, slots: &'f Slots) -> Result<bool, Reason> {
        let size = trailer_size(flash, slots, SlotId::Primary)?;
        Ok(size > 0 && size <= slots.image_len_max())
    }

    /// Whether the interrupted swap has moved anything yet.
    pub fn has_moved(flash: &'f mut F, slots: &'f Slots) -> Result<bool, Reason> {
        let size = trailer_size(flash, slots, SlotId::Primary)?;
        Ok(Swap::new(flash, slots, SwapType::Test, size)?.steps_done()? > 0)
    }

    fn new(flash: &'f mut F, slots: &'f Slots, kind: SwapType, size: u32) -> Result<Self, Reason> {
        if size == 0 || size > slots.image_len_max() {
            return Err(Reason::ImageSize);
        }
        let last = slots.sectors(size - 1);
        Ok(Swap {
            flash,
            slots,
            kind,
            last,
        })
    }

    /// Does every half step from `done` on, then settles the trailers.
    fn run(&mut self, done: u32) -> Result<(), Reason> {
        if done == 0 {
            // Only now that the primary's trailer carries the swap may the request go.
            self.erase_trailer(SlotId::Secondary)?;
        }
        for step in done..(self.last + 1) * 2 {
            self.half_step(step)?;
            self.write_status(step)?;
        }
        self.finish()
    }

    /// Upgrade: pri[i] -> sec[i], then sec[i+1] -> pri[i], ascending. Revert: pri[k] -> sec[k+1], then sec[k] -> pri[k],
    /// descending. Each half step can be repeated from its erase: its source is untouched until the next one.
    fn half_step(&mut self, step: u32) -> Result<(), Reason> {
        use SlotId::{Primary, Secondary};
        let (index, first_half) = (step / 2, step.is_multiple_of(2));
        match (self.kind, first_half) {
            (SwapType::Revert, true) => {
                self.move_sector((Primary, self.last - index), (Secondary, self.last - index + 1))
            }
            (SwapType::Revert, false) => self.move_sector((Secondary, self.last - index), (Primary, self.last - index)),
            (_, true) => self.move_sector((Primary, index), (Secondary, index)),
            (_, false) => self.move_sector((Secondary, index + 1), (Primary, index)),
        }
    }

    fn move_sector(&mut self, from: (SlotId, u32), to: (SlotId, u32)) -> Result<(), Reason> {
        let (from, to) = (
            self.slots.sector_address(from.0, from.1),
            self.slots.sector_address(to.0, to.1),
        );
        let sector = self.flash.sector(to).ok_or(Reason::StorageFailed)?;
        self.flash.erase(sector)?;
        let mut at = 0;
        while at < self.slots.sector_size() {
            let mut block = [0; BLOCK_BYTES];
            let take = (self.slots.sector_size() - at).min(BLOCK_BYTES as u32);
            let block = block.get_mut(..take as usize).unwrap_or(&mut []);
            self.flash.read(from + at, block)?;
            self.flash.write(to + at, block)?;
            at += take;
        }
        Ok(())
    }

    /// The last writes: a revert leaves nothing at the old place of the old image; confirm flag, and `copy_done` last.
    fn finish(&mut self) -> Result<(), Reason> {
        if self.kind == SwapType::Revert {
            let spare = self.flash.sector(self.slots.sector_address(SlotId::Secondary, 0));
            self.flash.erase(spare.ok_or(Reason::StorageFailed)?)?;
            self.erase_trailer(SlotId::Secondary)?;
        }
        let trailer = *self.slots.trailer(SlotId::Primary);
        let state = read_trailer(self.flash, self.slots, SlotId::Primary)?;
        if self.kind != SwapType::Test && state.image_ok == Flag::Unset {
            write_cell(
                self.flash,
                self.slots,
                SlotId::Primary,
                trailer.image_ok_at(),
                &[FLAG_SET],
            )?;
        }
        if state.copy_done == Flag::Unset {
            write_cell(
                self.flash,
                self.slots,
                SlotId::Primary,
                trailer.copy_done_at(),
                &[FLAG_SET],
            )?;
        }
        Ok(())
    }

    /// Section 7.1, steps 2 and 3: erased from the last sector back, written with the magic last.
    fn begin_primary_trailer(&mut self, size: u32, image_ok: bool) -> Result<(), Reason> {
        self.erase_trailer(SlotId::Primary)?;
        let trailer = *self.slots.trailer(SlotId::Primary);
        let mut cell = |at, bytes: &[u8]| write_cell(self.flash, self.slots, SlotId::Primary, at, bytes);
        cell(trailer.swap_info_at(), &[self.kind.info(0)])?;
        if image_ok {
            cell(trailer.image_ok_at(), &[FLAG_SET])?;
        }
        cell(trailer.swap_size_at(), &size.to_le_bytes())?;
        // Nothing is skipped, so nobody needs the TLV sizes; zero says so.
        cell(trailer.tlv_sizes_at(), &[0; 4])?;
        write_magic(self.flash, self.slots, SlotId::Primary)
    }

    /// Section 7.3, step 1: until the primary's trailer is rebuilt, the secondary's says that a revert is due.
    fn prepare_revert(&mut self, size: u32) -> Result<(), Reason> {
        let state = read_trailer(self.flash, self.slots, SlotId::Secondary)?;
        if state.magic == Magic::Good {
            return Ok(());
        }
        self.erase_trailer(SlotId::Secondary)?;
        let trailer = *self.slots.trailer(SlotId::Secondary);
        let mut cell = |at, bytes: &[u8]| write_cell(self.flash, self.slots, SlotId::Secondary, at, bytes);
        cell(trailer.copy_done_at(), &[FLAG_SET])?;
        cell(trailer.swap_info_at(), &[SwapType::Revert.info(0)])?;
        cell(trailer.swap_size_at(), &size.to_le_bytes())?;
        cell(trailer.tlv_sizes_at(), &[0; 4])?;
        write_magic(self.flash, self.slots, SlotId::Secondary)
    }

    fn erase_trailer(&mut self, slot: SlotId) -> Result<(), Reason> {
        erase_trailer(self.flash, self.slots, slot)
    }

    /// The highest written cell decides; a torn cell follows a finished half step like a whole one.
    fn steps_done(&mut self) -> Result<u32, Reason> {
        let trailer = *self.slots.trailer(SlotId::Primary);
        let base = self.slots.area(SlotId::Primary).start;
        for step in (0..(self.last + 1) * 2).rev() {
            let mut cell = [0; 1];
            self.flash.read(base + trailer.status_at(step), &mut cell)?;
            if cell[0] != self.flash.erased() {
                return Ok(step + 1);
            }
        }
        Ok(0)
    }

    fn write_status(&mut self, step: u32) -> Result<(), Reason> {
        let trailer = *self.slots.trailer(SlotId::Primary);
        let state = if step.is_multiple_of(2) { 1 } else { 2 };
        let unit = self.flash.write_size();
        write_padded(
            self.flash,
            self.slots.area(SlotId::Primary).start + trailer.status_at(step),
            &[state],
            unit,
        )
    }
}

/// The swap size in a trailer.
fn trailer_size(flash: &mut impl Flash, slots: &Slots, slot: SlotId) -> Result<u32, Reason> {
    let mut size = [0; 4];
    flash.read(slots.area(slot).start + slots.trailer(slot).swap_size_at(), &mut size)?;
    Ok(u32::from_le_bytes(size))
}

/// Reads the trailer of one slot.
pub fn read_trailer(flash: &mut impl Flash, slots: &Slots, slot: SlotId) -> Result<Trailer, Reason> {
    let (base, layout, erased) = (slots.area(slot).start, slots.trailer(slot), flash.erased());
    let mut bytes = [0; MAGIC_BYTES];
    flash.read(slots.area(slot).end() - MAGIC_BYTES as u32, &mut bytes)?;
    let mut cell = |at| -> Result<u8, Reason> {
        let mut byte = [0; 1];
        flash.read(base + at, &mut byte)?;
        Ok(byte[0])
    };
    Ok(Trailer {
        magic: Magic::parse(&bytes, layout.max_align(), erased),
        image_ok: Flag::parse(cell(layout.image_ok_at())?, erased),
        copy_done: Flag::parse(cell(layout.copy_done_at())?, erased),
        swap: SwapType::parse(cell(layout.swap_info_at())?),
    })
}

/// Erases the sectors of a slot's trailer.
pub fn erase_trailer(flash: &mut impl Flash, slots: &Slots, slot: SlotId) -> Result<(), Reason> {
    slots.area(slot).erase_from(flash, slots.trailer(slot).start())
}

/// Writes what asks the bootloader to swap, as MCUboot's applications do (section 5.1): the magic first, so that a cut
/// leaves a test at most.
pub fn write_request(flash: &mut impl Flash, slots: &Slots, kind: SwapType) -> Result<(), Reason> {
    let slot = SlotId::Secondary;
    let trailer: TrailerLayout = *slots.trailer(slot);
    erase_trailer(flash, slots, slot)?;
    write_magic(flash, slots, slot)?;
    if kind == SwapType::Permanent {
        write_cell(flash, slots, slot, trailer.image_ok_at(), &[FLAG_SET])?;
    }
    write_cell(flash, slots, slot, trailer.swap_info_at(), &[kind.info(0)])
}

/// Writes the confirm flag of the running image, once.
pub fn write_confirm(flash: &mut impl Flash, slots: &Slots) -> Result<(), Reason> {
    let trailer = *slots.trailer(SlotId::Primary);
    write_cell(flash, slots, SlotId::Primary, trailer.image_ok_at(), &[FLAG_SET])
}

fn write_magic(flash: &mut impl Flash, slots: &Slots, slot: SlotId) -> Result<(), Reason> {
    let layout = slots.trailer(slot);
    let unit = layout.magic_unit() as usize;
    let mut bytes = [flash.erased(); WRITE_SIZE_MAX];
    let bytes = bytes.get_mut(..unit).ok_or(Reason::StorageFailed)?;
    if let Some(tail) = bytes.last_chunk_mut::<MAGIC_BYTES>() {
        *tail = magic(layout.max_align());
    }
    Ok(flash.write(slots.area(slot).start + layout.magic_at(), bytes)?)
}

fn write_cell(flash: &mut impl Flash, slots: &Slots, slot: SlotId, at: u32, bytes: &[u8]) -> Result<(), Reason> {
    write_padded(
        flash,
        slots.area(slot).start + at,
        bytes,
        slots.trailer(slot).max_align(),
    )
}

/// Writes a value padded with the erased value to `len` bytes (at most 32).
fn write_padded(flash: &mut impl Flash, address: u32, value: &[u8], len: u32) -> Result<(), Reason> {
    let mut bytes = [flash.erased(); WRITE_SIZE_MAX];
    bytes.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    Ok(flash.write(address, bytes.get(..len as usize).ok_or(Reason::StorageFailed)?)?)
}
