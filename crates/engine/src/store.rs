//! The trust store: what the boot chain believes, in two copies.
//!
//! Only the bootloader writes it; the application reads it. A commit writes the copy that does not count, its digest
//! last; a cut leaves the old copy or the new one, never a mix.

use crate::flash::Flash;
use crate::layout::{Area, Layout};
use codec::Reason;
use codec::record::{COUNTERS_MAX, Lifecycle, STORE_HEADER_BYTES, STORE_HEADER_SIGNED_BYTES, StoreHeader};
use trust::digest::Sha256;

/// Bytes moved at a time between flash and flash.
const BLOCK_BYTES: usize = 64;

/// The trust store as read.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    header: StoreHeader,
    copy: usize,
    /// Whether the other copy holds a whole store too.
    twice: bool,
}

/// What was found where the trust store should be.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// A store.
    Store(Store),
    /// Nothing yet: the device waits for its root.
    Blank,
    /// Something, but no copy of it is whole.
    Corrupt,
}

impl Store {
    /// Finds the copy that counts.
    pub fn open(flash: &mut impl Flash, layout: &Layout) -> Result<Found, Reason> {
        let copies = [read_copy(flash, layout.trust[0])?, read_copy(flash, layout.trust[1])?];
        let twice = copies[0].is_some() && copies[1].is_some();
        Ok(match copies {
            [Some(first), Some(second)] if second.generation > first.generation => Found::Store(Store {
                header: second,
                copy: 1,
                twice,
            }),
            [Some(header), _] => Found::Store(Store { header, copy: 0, twice }),
            [None, Some(header)] => Found::Store(Store { header, copy: 1, twice }),
            // The factory's first commit fills copy 0, its second copy 1: while copy 1 is erased, nothing was ever whole.
            [None, None] if is_erased(flash, layout.trust[1])? => Found::Blank,
            [None, None] => Found::Corrupt,
        })
    }

    /// The facts beside root and list.
    pub fn header(&self) -> &StoreHeader {
        &self.header
    }

    /// The stored security counter of an image; 0 for images that the store does not know.
    pub fn counter(&self, image: u8) -> u32 {
        self.header.counters.get(usize::from(image)).copied().unwrap_or(0)
    }

    /// Reads the root file into the caller's buffer; refuses (105) when it does not fit.
    pub fn read_root<'b>(
        &self,
        flash: &mut impl Flash,
        layout: &Layout,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Reason> {
        let root = buffer.get_mut(..self.header.root_len as usize).ok_or(Reason::Limit)?;
        flash.read(self.area(layout).start + STORE_HEADER_BYTES as u32, root)?;
        Ok(root)
    }

    /// Stores the first root of a device, in both copies.
    pub fn provision(flash: &mut impl Flash, layout: &Layout, root: &[u8]) -> Result<Store, Reason> {
        let header = StoreHeader {
            generation: 1,
            lifecycle: Lifecycle::Factory,
            root_len: u32::try_from(root.len()).map_err(|_| Reason::Limit)?,
            list_len: 0,
            time_floor: 0,
            counters: [0; COUNTERS_MAX],
            pinned: None,
        };
        write_copy(flash, layout.trust[0], &header, Body::Memory(root))?;
        let first = Store {
            header,
            copy: 0,
            twice: false,
        };
        first.commit(flash, layout, header)
    }

    /// Raises the counter of an image; it never falls.
    pub fn raise_counter(self, flash: &mut impl Flash, layout: &Layout, image: u8, to: u32) -> Result<Store, Reason> {
        let mut header = self.header;
        match header.counters.get_mut(usize::from(image)) {
            Some(counter) if *counter < to => *counter = to,
            _ => return Ok(self),
        }
        self.commit(flash, layout, header)
    }

    /// Makes both copies whole again after a cut.
    pub fn heal(self, flash: &mut impl Flash, layout: &Layout) -> Result<Store, Reason> {
        if self.twice {
            Ok(self)
        } else {
            self.commit(flash, layout, self.header)
        }
    }

    /// Writes the other copy with the same root and list, and makes it count.
    fn commit(self, flash: &mut impl Flash, layout: &Layout, header: StoreHeader) -> Result<Store, Reason> {
        let generation = self.header.generation.checked_add(1).ok_or(Reason::StateFull)?;
        let header = StoreHeader { generation, ..header };
        let copy = 1 - self.copy;
        let target = if copy == 0 { layout.trust[0] } else { layout.trust[1] };
        write_copy(
            flash,
            target,
            &header,
            Body::Flash(self.area(layout).start + STORE_HEADER_BYTES as u32),
        )?;
        Ok(Store {
            header,
            copy,
            twice: true,
        })
    }

    fn area(&self, layout: &Layout) -> Area {
        if self.copy == 0 {
            layout.trust[0]
        } else {
            layout.trust[1]
        }
    }
}

/// Where the bytes behind the header come from.
enum Body<'a> {
    Memory(&'a [u8]),
    Flash(u32),
}

/// The header of a copy whose digest holds.
fn read_copy(flash: &mut impl Flash, area: Area) -> Result<Option<StoreHeader>, Reason> {
    let mut bytes = [0; STORE_HEADER_BYTES];
    flash.read(area.start, &mut bytes)?;
    let Some((signed, digest)) = bytes.split_first_chunk::<STORE_HEADER_SIGNED_BYTES>() else {
        return Ok(None);
    };
    let Some(header) = StoreHeader::parse(signed) else {
        return Ok(None);
    };
    let Some((_, end)) = header.extents().filter(|(_, end)| *end <= area.len) else {
        return Ok(None);
    };
    let mut hash = Sha256::new();
    hash.update(signed);
    let mut at = STORE_HEADER_BYTES as u32;
    while at < end {
        let mut block = [0; BLOCK_BYTES];
        let take = (end - at).min(BLOCK_BYTES as u32);
        let block = block.get_mut(..take as usize).unwrap_or(&mut []);
        flash.read(area.start + at, block)?;
        hash.update(block);
        at += take;
    }
    Ok((hash.finish() == digest).then_some(header))
}

/// Erases a copy and writes it, the header last.
fn write_copy(flash: &mut impl Flash, area: Area, header: &StoreHeader, body: Body<'_>) -> Result<(), Reason> {
    let (_, end) = header
        .extents()
        .filter(|(_, end)| *end <= area.len)
        .ok_or(Reason::Limit)?;
    area.erase(flash)?;
    let signed = header.to_bytes();
    let mut hash = Sha256::new();
    hash.update(&signed);
    let mut at = STORE_HEADER_BYTES as u32;
    while at < end {
        let mut block = [0; BLOCK_BYTES];
        let take = (end - at).min(BLOCK_BYTES as u32);
        let block = block.get_mut(..take as usize).unwrap_or(&mut []);
        let offset = at - STORE_HEADER_BYTES as u32;
        match body {
            Body::Flash(from) => flash.read(from + offset, block)?,
            Body::Memory(bytes) => {
                let rest = bytes.get(offset as usize..).unwrap_or(&[]);
                block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            }
        }
        hash.update(block);
        flash.write(area.start + at, block)?;
        at += take;
    }
    let mut bytes = [0; STORE_HEADER_BYTES];
    if let Some((front, back)) = bytes.split_first_chunk_mut::<STORE_HEADER_SIGNED_BYTES>() {
        *front = signed;
        back.copy_from_slice(&hash.finish());
    }
    flash.write(area.start, &bytes)?;
    match read_copy(flash, area)? {
        Some(read) if read == *header => Ok(()),
        _ => Err(Reason::StorageFailed),
    }
}

fn is_erased(flash: &mut impl Flash, area: Area) -> Result<bool, Reason> {
    let mut bytes = [0; STORE_HEADER_BYTES];
    flash.read(area.start, &mut bytes)?;
    Ok(bytes.iter().all(|byte| *byte == flash.erased()))
}
