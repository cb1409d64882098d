//! The trust store: what the boot chain believes, in two copies.
//!
//! Only the bootloader writes it; the application reads it. A commit writes the copy that does not count, its digest
//! last; a cut leaves the old copy or the new one, never a mix.

use crate::flash::Flash;
use crate::layout::{Area, Layout};
use codec::Reason;
use codec::limits::Limits;
use codec::record::{COUNTERS_MAX, Lifecycle, STORE_HEADER_BYTES, STORE_HEADER_SIGNED_BYTES, StoreHeader};
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
        let twice = match &copies {
            [Some(one), Some(other)] => say_the_same(one, other) && hold_the_same(flash, layout, one)?,
            _ => false,
        };
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

    /// Reads the root into the caller's buffer, and the revocation list behind it; refused 940 when the store holds no
    /// root (the device left development), 105 when they do not fit.
    pub fn read_trust<'b>(
        &self,
        flash: &mut impl Flash,
        layout: &Layout,
        limits: &Limits,
        buffer: &'b mut [u8],
    ) -> Result<TrustRoot<'b>, Reason> {
        let (root_len, list_len) = (self.header.root_len as usize, self.header.list_len as usize);
        if root_len == 0 {
            return Err(Reason::NoRoot);
        }
        let (root, rest) = buffer.split_at_mut_checked(root_len).ok_or(Reason::Limit)?;
        let list = rest.get_mut(..list_len).ok_or(Reason::Limit)?;
        let (start, list_at) = (
            self.area(layout).start,
            self.header.extents().map_or(0, |(list, _)| list),
        );
        flash.read(start + STORE_HEADER_BYTES as u32, root)?;
        flash.read(start + list_at, list)?;
        let root = TrustRoot::stored(root, limits).map_err(|refused| refused.reason)?;
        if list_len == 0 {
            return Ok(root);
        }
        let list = Revocations::stored(list).map_err(|refused| refused.reason)?;
        Ok(root.with_list(list))
    }

    /// Stores the first root of a device, in both copies; or the production root of one that left development.
    pub fn provision(flash: &mut impl Flash, layout: &Layout, root: &[u8]) -> Result<Store, Reason> {
        if let Found::Store(store) = Store::open(flash, layout)? {
            let header = StoreHeader {
                production_only: false,
                ..store.header
            };
            let change = Change {
                root: Some(root),
                ..Change::default()
            };
            return store.commit_twice(flash, layout, header, change);
        }
        let header = StoreHeader {
            generation: 1,
            lifecycle: Lifecycle::Factory,
            root_len: u32::try_from(root.len()).map_err(|_| Reason::Limit)?,
            list_len: 0,
            time_floor: 0,
            counters: [0; COUNTERS_MAX],
            pinned: None,
            production_only: false,
        };
        write_copy(
            flash,
            layout.trust[0],
            &header,
            [Source::Memory(root), Source::Memory(&[])],
        )?;
        let first = Store {
            header,
            copy: 0,
            twice: false,
        };
        first.commit(flash, layout, header, Change::default())
    }

    /// A confirmed image runs: its counter is the floor now, and an image pinned before it is no longer.
    pub fn settle(
        self,
        flash: &mut impl Flash,
        layout: &Layout,
        counter: u32,
        digest: &[u8; 32],
    ) -> Result<Store, Reason> {
        let mut header = self.header;
        header.pinned = header.pinned.filter(|pinned| pinned == digest);
        match header.counters.first_mut() {
            Some(stored) if *stored < counter => *stored = counter,
            _ => {}
        }
        match (header == self.header, header.pinned == self.header.pinned) {
            (true, _) => Ok(self),
            // Both copies, so that a lost one does not bring the pin back.
            (_, false) => self.commit_twice(flash, layout, header, Change::default()),
            _ => self.commit(flash, layout, header, Change::default()),
        }
    }

    /// Makes both copies whole again after a cut, and equal in all but counters: what was replaced in one of them must not
    /// come back when the other is lost.
    pub fn heal(self, flash: &mut impl Flash, layout: &Layout) -> Result<Store, Reason> {
        if self.twice {
            Ok(self)
        } else {
            self.commit(flash, layout, self.header, Change::default())
        }
    }

    /// Writes a change to one copy, which decides it, and then to the other, so that nothing of what was stays.
    pub(crate) fn commit_twice(
        self,
        flash: &mut impl Flash,
        layout: &Layout,
        header: StoreHeader,
        change: Change<'_>,
    ) -> Result<Store, Reason> {
        let store = self.commit(flash, layout, header, change)?;
        // The change is made: a second copy that cannot be written now is healed at the next boot.
        Ok(store
            .commit(flash, layout, store.header, Change::default())
            .unwrap_or(store))
    }

    /// Writes the other copy, with the same root and list where they do not change, and makes it count.
    fn commit(
        self,
        flash: &mut impl Flash,
        layout: &Layout,
        header: StoreHeader,
        change: Change<'_>,
    ) -> Result<Store, Reason> {
        let generation = self.header.generation.checked_add(1).ok_or(Reason::StateFull)?;
        let stored_at = |offset: u32| Source::Flash(self.area(layout).start.saturating_add(offset));
        let list_at = self.header.extents().map_or(0, |(list, _)| list);
        let root = change.root.map_or(stored_at(STORE_HEADER_BYTES as u32), Source::Memory);
        let list = change.list.map_or(stored_at(list_at), Source::Memory);
        let len = |bytes: Option<&[u8]>, stored: u32| bytes.map_or(Ok(stored), |bytes| u32::try_from(bytes.len()));
        let header = StoreHeader {
            generation,
            root_len: len(change.root, header.root_len).map_err(|_| Reason::Limit)?,
            list_len: len(change.list, header.list_len).map_err(|_| Reason::Limit)?,
            ..header
        };
        let copy = 1 - self.copy;
        let target = if copy == 0 { layout.trust[0] } else { layout.trust[1] };
        write_copy(flash, target, &header, [root, list])?;
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

/// Where root or list come from: root and list are padded to whole units, in flash with zeros already.
#[derive(Clone, Copy)]
enum Source<'a> {
    Memory(&'a [u8]),
    Flash(u32),
}

impl Source<'_> {
    /// Reads what stands at this offset of it, zeros behind its end.
    fn read(&self, flash: &mut impl Flash, offset: u32, block: &mut [u8]) -> Result<(), Reason> {
        match self {
            Source::Flash(from) => flash.read(from.saturating_add(offset), block)?,
            Source::Memory(bytes) => {
                let rest = bytes.get(offset as usize..).unwrap_or(&[]);
                block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            }
        }
        Ok(())
    }
}

/// Whether two headers differ in nothing but generation and counters.
fn say_the_same(one: &StoreHeader, other: &StoreHeader) -> bool {
    let without_counters = |header: &StoreHeader| StoreHeader {
        generation: 0,
        counters: [0; COUNTERS_MAX],
        ..*header
    };
    without_counters(one) == without_counters(other)
}

/// Whether root and list are the same in both copies, which have this length in both.
fn hold_the_same(flash: &mut impl Flash, layout: &Layout, header: &StoreHeader) -> Result<bool, Reason> {
    let end = header.extents().map_or(0, |(_, end)| end);
    let mut at = STORE_HEADER_BYTES as u32;
    while at < end {
        let (mut one, mut other) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        let take = (end - at).min(BLOCK_BYTES as u32) as usize;
        flash.read(layout.trust[0].start + at, one.get_mut(..take).unwrap_or(&mut []))?;
        flash.read(layout.trust[1].start + at, other.get_mut(..take).unwrap_or(&mut []))?;
        if one != other {
            return Ok(false);
        }
        at += take as u32;
    }
    Ok(true)
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
fn write_copy(
    flash: &mut impl Flash,
    area: Area,
    header: &StoreHeader,
    sources: [Source<'_>; 2],
) -> Result<(), Reason> {
    let (list_at, end) = header
        .extents()
        .filter(|(_, end)| *end <= area.len)
        .ok_or(Reason::Limit)?;
    area.erase(flash)?;
    let signed = header.to_bytes();
    let mut hash = Sha256::new();
    hash.update(&signed);
    let spans = [(STORE_HEADER_BYTES as u32, list_at), (list_at, end)];
    for ((from, to), source) in spans.into_iter().zip(sources) {
        let mut at = from;
        while at < to {
            let mut block = [0; BLOCK_BYTES];
            let take = (to - at).min(BLOCK_BYTES as u32);
            let block = block.get_mut(..take as usize).unwrap_or(&mut []);
            source.read(flash, at - from, block)?;
            hash.update(block);
            flash.write(area.start + at, block)?;
            at += take;
        }
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
