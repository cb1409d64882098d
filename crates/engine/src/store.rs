//! The trust store: what the boot chain believes, in two copies.
//!
//! Only the bootloader writes it; the application reads it. A commit writes the copy that does not count, its digest
//! last; a cut leaves the old copy or the new one, never a mix.

use crate::flash::Flash;
use crate::layout::{Area, Layout};
use codec::Reason;
use codec::limits::Limits;
use codec::record::{
    COUNTERS_MAX, Lifecycle, STORE_ALIGN_BYTES, STORE_HEADER_BYTES, STORE_HEADER_SIGNED_BYTES, StoreHeader,
};
use codec::roots::Environment;
use trust::digest::Sha256;
use trust::root::{Revocations, TrustRoot};

/// Bytes moved at a time between flash and flash.
const BLOCK_BYTES: usize = 64;

/// The trust store as read.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    header: StoreHeader,
    copy: usize,
    /// Whether the other copy is whole too and says the same of everything but counters.
    twice: bool,
}

/// What a commit changes of root, list and time; `None` keeps what is stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Change<'c> {
    /// Another root file.
    pub(crate) root: Option<&'c [u8]>,
    /// Another revocation list.
    pub(crate) list: Option<&'c [u8]>,
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
        let (second, twice) = match &copies {
            [Some(one), Some(two)] => (two.generation > one.generation, one.edition == two.edition),
            [one, _] => (one.is_none(), false),
        };
        let copy = usize::from(second);
        match copies.into_iter().nth(copy).flatten() {
            Some(header) => Ok(Found::Store(Store { header, copy, twice })),
            // The factory's first commit fills copy 0, its second copy 1: while copy 1 is erased, nothing was ever whole.
            None if is_erased(flash, layout.trust[1])? => Ok(Found::Blank),
            None => Ok(Found::Corrupt),
        }
    }

    /// The store of a device that may start an image or be given one.
    ///
    /// Refused: 940 without a root, 943 when no copy is whole, and what [`StoreHeader::may_run`] refuses (944, 945).
    pub fn of_running(flash: &mut impl Flash, layout: &Layout) -> Result<Store, Reason> {
        match Store::open(flash, layout)? {
            Found::Store(store) => store.header.may_run().map(|()| store),
            Found::Blank => Err(Reason::NoRoot),
            Found::Corrupt => Err(Reason::StoreCorrupt),
        }
    }

    /// The facts beside root and list.
    pub fn header(&self) -> &StoreHeader {
        &self.header
    }

    /// The stored security counter of an image; 0 for images that the store does not know.
    pub fn counter(&self, image: u8) -> u32 {
        self.header.counters.get(usize::from(image)).copied().unwrap_or(0)
    }

    /// Reads root and revocation list into the caller's buffer, as they stand in flash; refused 105 when it is shorter than
    /// both with the padding between them.
    pub fn read_trust<'b>(
        &self,
        flash: &mut impl Flash,
        layout: &Layout,
        limits: &Limits,
        buffer: &'b mut [u8],
    ) -> Result<TrustRoot<'b>, Reason> {
        let StoreHeader { root_len, list_len, .. } = self.header;
        let list_at = root_len.next_multiple_of(STORE_ALIGN_BYTES);
        let body = buffer.get_mut(..(list_at + list_len) as usize).ok_or(Reason::Limit)?;
        flash.read(self.area(layout).start + STORE_HEADER_BYTES as u32, body)?;
        let root = body.get(..root_len as usize).unwrap_or(&[]);
        let list = body.get(list_at as usize..).unwrap_or(&[]);
        let root = TrustRoot::stored(root, limits).map_err(|refused| refused.reason)?;
        if list.is_empty() {
            return Ok(root);
        }
        let list = Revocations::stored(list).map_err(|refused| refused.reason)?;
        Ok(root.with_list(list))
    }

    /// Stores the first root of a device, in both copies; or the next first one, of a device that left development.
    /// That one keeps counters, lifecycle and time floor, and takes a production root only.
    ///
    /// Refused: 1012 when there is a root, 1025 for a development root, 943, 944, 945.
    pub fn provision(flash: &mut impl Flash, layout: &Layout, root: &TrustRoot<'_>) -> Result<Store, Reason> {
        let file = root.bytes();
        let found = Store::open(flash, layout)?;
        let before = match found {
            Found::Store(store) => store,
            Found::Blank => Store::NEVER,
            Found::Corrupt => return Err(Reason::StoreCorrupt),
        };
        match before.header.may_run() {
            Ok(()) => return Err(Reason::RootPresent),
            Err(Reason::NoRoot) => {}
            Err(reason) => return Err(reason),
        }
        let left = matches!(found, Found::Store(_));
        if left && root.environment() != Environment::Production {
            return Err(Reason::ProductionOnly);
        }
        let first = Store {
            header: StoreHeader {
                generation: before.header.generation.checked_add(1).ok_or(Reason::StateFull)?,
                edition: before.header.edition.checked_add(1).ok_or(Reason::StateFull)?,
                root_len: u32::try_from(file.len()).map_err(|_| Reason::Limit)?,
                ..before.header
            },
            copy: 1 - before.copy,
            twice: false,
        };
        write_copy(flash, first.area(layout), &first.header, &|_, offset, block| {
            copy_from(file, offset, block);
            Ok(())
        })?;
        first.commit(flash, layout, first.header)
    }

    /// What stands before the first root: nothing, as if it were in copy 1, so that the first commit fills copy 0.
    const NEVER: Store = Store {
        header: StoreHeader {
            generation: 0,
            lifecycle: Lifecycle::Factory,
            root_len: 0,
            list_len: 0,
            time_floor: 0,
            counters: [0; COUNTERS_MAX],
            pinned: None,
            edition: 0,
            wiping: false,
        },
        copy: 1,
        twice: false,
    };

    /// Raises the counter of an image; it never falls.
    pub fn raise_counter(self, flash: &mut impl Flash, layout: &Layout, image: u8, to: u32) -> Result<Store, Reason> {
        let mut header = self.header;
        match header.counters.get_mut(usize::from(image)) {
            Some(counter) if *counter < to => *counter = to,
            _ => return Ok(self),
        }
        self.commit(flash, layout, header)
    }

    /// Makes both copies whole again after a cut, and of one edition: what was replaced in one of them must not come back
    /// when the other is lost.
    pub fn heal(self, flash: &mut impl Flash, layout: &Layout) -> Result<Store, Reason> {
        if self.twice {
            Ok(self)
        } else {
            self.commit(flash, layout, self.header)
        }
    }

    /// Writes a change to one copy, which decides it, and then to the other, so that nothing of what was stays.
    pub(crate) fn change<F: Flash>(
        self,
        flash: &mut F,
        layout: &Layout,
        header: StoreHeader,
        change: Change<'_>,
    ) -> Result<Store, Reason> {
        let len = |bytes: Option<&[u8]>, stored: u32| bytes.map_or(Ok(stored), |bytes| u32::try_from(bytes.len()));
        let header = StoreHeader {
            generation: self.header.generation.checked_add(1).ok_or(Reason::StateFull)?,
            edition: self.header.edition.checked_add(1).ok_or(Reason::StateFull)?,
            root_len: len(change.root, header.root_len).map_err(|_| Reason::Limit)?,
            list_len: len(change.list, header.list_len).map_err(|_| Reason::Limit)?,
            ..header
        };
        let body = self.area(layout).start.saturating_add(STORE_HEADER_BYTES as u32);
        let old_list_at = self.header.list_at().ok_or(Reason::Limit)?;
        let list_at = header.list_at().ok_or(Reason::Limit)?;
        let read = |flash: &mut F, offset: u32, block: &mut [u8]| -> Result<(), Reason> {
            let front = (list_at.saturating_sub(offset) as usize).min(block.len());
            let (front, back) = block.split_at_mut_checked(front).ok_or(Reason::Limit)?;
            match change.root {
                Some(root) => copy_from(root, offset, front),
                None => flash.read(body.saturating_add(offset), front)?,
            }
            let offset = offset.saturating_add(front.len() as u32).saturating_sub(list_at);
            match change.list {
                Some(list) => copy_from(list, offset, back),
                None => flash.read(body.saturating_add(old_list_at).saturating_add(offset), back)?,
            }
            Ok(())
        };
        let copy = 1 - self.copy;
        let store = Store {
            header,
            copy,
            twice: false,
        };
        write_copy(flash, store.area(layout), &header, &read)?;
        store.heal_after(flash, layout)
    }

    /// The change is made: a second copy that cannot be written now is healed at the next boot.
    fn heal_after(self, flash: &mut impl Flash, layout: &Layout) -> Result<Store, Reason> {
        Ok(self.commit(flash, layout, self.header).unwrap_or(self))
    }

    /// Writes the other copy with the same root and list, and makes it count.
    fn commit<F: Flash>(self, flash: &mut F, layout: &Layout, header: StoreHeader) -> Result<Store, Reason> {
        let generation = self.header.generation.checked_add(1).ok_or(Reason::StateFull)?;
        let store = Store {
            header: StoreHeader { generation, ..header },
            copy: 1 - self.copy,
            twice: true,
        };
        let body = self.area(layout).start + STORE_HEADER_BYTES as u32;
        write_copy(
            flash,
            store.area(layout),
            &store.header,
            &|flash: &mut F, offset, block| Ok(flash.read(body + offset, block)?),
        )?;
        Ok(store)
    }

    fn area(&self, layout: &Layout) -> Area {
        if self.copy == 0 {
            layout.trust[0]
        } else {
            layout.trust[1]
        }
    }
}

/// Fills a block from this offset of some bytes; zeros behind their end stay.
fn copy_from(bytes: &[u8], offset: u32, block: &mut [u8]) {
    let rest = bytes.get(offset as usize..).unwrap_or(&[]);
    block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
}

/// Reads what is to stand at this offset behind the header into a block of zeros.
type Read<'r, F> = &'r dyn Fn(&mut F, u32, &mut [u8]) -> Result<(), Reason>;

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
fn write_copy<F: Flash>(flash: &mut F, area: Area, header: &StoreHeader, read: Read<'_, F>) -> Result<(), Reason> {
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
        read(flash, at - STORE_HEADER_BYTES as u32, block)?;
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
