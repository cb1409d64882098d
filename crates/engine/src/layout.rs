//! Which part of the flash holds what, and what the swap can handle.

use crate::flash::{Flash, Sector, WRITE_SIZE_MAX};
use codec::Reason;
use codec::mcuboot::trailer::TrailerLayout;
use codec::record::{MAIL_HEADER_BYTES, MAIL_PARTS, MailKind};
use core::num::NonZeroU32;

/// A range of whole sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Area {
    /// Address of its first byte.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Area {
    /// Address after its last byte.
    pub const fn end(&self) -> u32 {
        self.start.saturating_add(self.len)
    }

    /// Erases every sector, from the last to the first.
    pub(crate) fn erase(&self, flash: &mut impl Flash) -> Result<(), Reason> {
        self.erase_from(flash, 0)
    }

    /// Erases every sector that holds a byte at or after `offset`, from the last to the first, so that a cut never
    /// leaves the end (where trailers keep their magic) without its beginning.
    pub(crate) fn erase_from(&self, flash: &mut impl Flash, offset: u32) -> Result<(), Reason> {
        let mut end = self.end();
        while end > self.start.saturating_add(offset) {
            let sector = flash.sector(end - 1).ok_or(Reason::StorageFailed)?;
            flash.erase(sector)?;
            end = sector.start;
        }
        Ok(())
    }

    fn is_whole_sectors(&self, flash: &impl Flash) -> bool {
        let starts = |address| flash.sector(address).is_some_and(|sector| sector.start == address);
        let ends = |address: u32| {
            flash
                .sector(address.wrapping_sub(1))
                .is_some_and(|sector| sector.end() == address)
        };
        self.len > 0 && self.start.checked_add(self.len).is_some() && starts(self.start) && ends(self.end())
    }
}

/// The flash of a device. What the boot chain and the engine use today and what is reserved for later keeps its place
/// for the life of the product; `docs/layout.md` and a golden test hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Trust store, two copies; written by the bootloader only.
    pub trust: [Area; 2],
    /// Mailbox: one root, one list, one time file, one lifecycle request; proposals to the bootloader. Cut into four equal
    /// parts ([`Layout::mail`]).
    pub mailbox: Area,
    /// What the bootloader did, two halves; written by the bootloader only.
    pub boot_log: [Area; 2],
    /// The engine's journal, two halves.
    pub journal: [Area; 2],
    /// The envelope head of the installation under way.
    pub head: Area,
    /// Its chunk hashes.
    pub table: Area,
    /// Sealed storage, two copies.
    pub sealed: [Area; 2],
    /// The generation counter of the sealed storage.
    pub sealed_counter: Area,
    /// Device key, where no secure element holds it.
    pub device_key: Area,
    /// Entropy seed.
    pub entropy: Area,
    /// A new bootloader on its way.
    pub boot_update: Area,
    /// The slot that runs.
    pub primary: Area,
    /// The slot that receives.
    pub secondary: Area,
    /// Sectors that the trailer's status area is made for (imgtool's `--max-sectors`).
    pub max_sectors: u32,
}

impl Layout {
    /// All areas, in the order of the fields.
    pub fn areas(&self) -> [Area; 16] {
        [
            self.trust[0],
            self.trust[1],
            self.mailbox,
            self.boot_log[0],
            self.boot_log[1],
            self.journal[0],
            self.journal[1],
            self.head,
            self.table,
            self.sealed[0],
            self.sealed[1],
            self.sealed_counter,
            self.device_key,
            self.entropy,
            self.boot_update,
            self.primary,
        ]
    }

    /// The part of the mailbox for this kind of proposal.
    pub const fn mail(&self, kind: MailKind) -> Area {
        let len = self.mailbox.len / MAIL_PARTS;
        Area {
            start: self.mailbox.start.saturating_add(len.saturating_mul(kind as u32 - 1)),
            len,
        }
    }

    /// Checks once, at start, that this flash can carry the layout: whole sectors, nothing overlapping, a mailbox that can
    /// be cut into its four parts, slots that the swap can handle. Refuses with 1011 and the area or rule concerned.
    pub fn check(&self, flash: &impl Flash) -> Result<(), Reason> {
        let areas = self.areas();
        let all = || areas.iter().chain(core::iter::once(&self.secondary));
        let whole = all().all(|area| area.is_whole_sectors(flash) && area.end() <= flash.size());
        let mut apart = true;
        for (number, one) in all().enumerate() {
            apart &= all()
                .skip(number + 1)
                .all(|other| one.end() <= other.start || other.end() <= one.start);
        }
        let cut = self.mailbox.len.is_multiple_of(MAIL_PARTS)
            && MailKind::ALL.into_iter().all(|kind| {
                let part = self.mail(kind);
                part.is_whole_sectors(flash) && part.len as usize > MAIL_HEADER_BYTES
            });
        if !whole || !apart || !cut {
            return Err(Reason::LayoutRefused);
        }
        Slots::new(self, flash).map(|_| ())
    }
}

/// One of the two slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotId {
    /// The slot that runs.
    Primary,
    /// The slot that receives.
    Secondary,
}

/// The two slots as swap-offset needs them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    primary: Area,
    secondary: Area,
    sector_size: NonZeroU32,
    primary_trailer: TrailerLayout,
    secondary_trailer: TrailerLayout,
}

impl Slots {
    /// The slots of a layout; refused (1011) unless all their sectors have one size, the secondary has as many as the
    /// primary or one more, the status area covers them, and at least one sector is left for an image.
    pub fn new(layout: &Layout, flash: &impl Flash) -> Result<Slots, Reason> {
        Self::fit(layout, flash).ok_or(Reason::LayoutRefused)
    }

    fn fit(layout: &Layout, flash: &impl Flash) -> Option<Slots> {
        let (primary, secondary) = (layout.primary, layout.secondary);
        let sector_size = NonZeroU32::new(flash.sector(primary.start)?.len)?;
        let even = |area: Area| {
            let mut at = area.start;
            while at < area.end() {
                match flash.sector(at) {
                    Some(Sector { start, len }) if start == at && len == sector_size.get() => {
                        at = at.saturating_add(len)
                    }
                    _ => return false,
                }
            }
            at == area.end()
        };
        let write_size = flash.write_size();
        let counts = (primary.len / sector_size, secondary.len / sector_size);
        let fits = even(primary)
            && even(secondary)
            && (counts.1 == counts.0 || counts.1 == counts.0 + 1)
            && counts.0 <= layout.max_sectors
            && write_size as usize <= WRITE_SIZE_MAX
            && write_size.is_power_of_two()
            && sector_size.get() & (write_size - 1) == 0;
        let slots = Slots {
            primary,
            secondary,
            sector_size,
            primary_trailer: TrailerLayout::new(primary.len, write_size, layout.max_sectors)?,
            secondary_trailer: TrailerLayout::new(secondary.len, write_size, layout.max_sectors)?,
        };
        (fits && slots.image_len_max() > 0).then_some(slots)
    }

    /// Where a slot stands.
    pub const fn area(&self, slot: SlotId) -> Area {
        match slot {
            SlotId::Primary => self.primary,
            SlotId::Secondary => self.secondary,
        }
    }

    /// The trailer of a slot.
    pub const fn trailer(&self, slot: SlotId) -> &TrailerLayout {
        match slot {
            SlotId::Primary => &self.primary_trailer,
            SlotId::Secondary => &self.secondary_trailer,
        }
    }

    /// Bytes of a sector.
    pub const fn sector_size(&self) -> u32 {
        self.sector_size.get()
    }

    /// Whole sectors in so many bytes.
    pub(crate) const fn sectors(&self, bytes: u32) -> u32 {
        // A plain division by a `NonZeroU32` is not const; its zero is excluded here, once for all.
        match bytes.checked_div(self.sector_size.get()) {
            Some(sectors) => sectors,
            None => 0,
        }
    }

    /// Bytes into a sector at this offset of a slot.
    pub(crate) const fn bytes_into_sector(&self, offset: u32) -> u32 {
        match offset.checked_rem(self.sector_size.get()) {
            Some(bytes) => bytes,
            None => 0,
        }
    }

    /// Where a new image stands in the secondary slot: one sector in, because sector 0 is the swap's spare.
    pub const fn staging_offset(&self) -> u32 {
        self.sector_size.get()
    }

    /// Bytes before the first sector that holds a part of the trailer.
    const fn usable(&self, slot: SlotId) -> u32 {
        self.sectors(self.trailer(slot).start()) * self.sector_size.get()
    }

    /// The longest image (header to last TLV) that both slots can hold and swap (format sheet, section 6).
    pub const fn image_len_max(&self) -> u32 {
        let primary = self.usable(SlotId::Primary);
        let secondary = self.usable(SlotId::Secondary).saturating_sub(self.sector_size.get());
        if primary < secondary { primary } else { secondary }
    }

    /// Address of a sector, counted from the start of the slot.
    pub(crate) const fn sector_address(&self, slot: SlotId, index: u32) -> u32 {
        self.area(slot).start + index * self.sector_size.get()
    }
}
