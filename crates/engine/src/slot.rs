//! Reading images at rest.

use crate::flash::Flash;
use crate::layout::{SlotId, Slots};
use codec::Reason;
use codec::mcuboot::tlv::kind;
use codec::mcuboot::{HEADER_BYTES, ImageHeader, ImageVersion, ReadAt, Walk};

/// A slot as the image judge reads it: from an offset to the end of the slot.
pub struct SlotReader<'f, F> {
    flash: &'f mut F,
    base: u32,
    len: u32,
}

impl<'f, F: Flash> SlotReader<'f, F> {
    /// The slot from `offset` on.
    pub fn new(flash: &'f mut F, slots: &Slots, slot: SlotId, offset: u32) -> Self {
        let area = slots.area(slot);
        SlotReader {
            flash,
            base: area.start.saturating_add(offset),
            len: area.len.saturating_sub(offset),
        }
    }
}

impl<F: Flash> ReadAt for SlotReader<'_, F> {
    fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
        let end = u32::try_from(out.len()).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.len) {
            return Err(Reason::ImageSize);
        }
        Ok(self.flash.read(self.base + offset, out)?)
    }
}

/// What an image says it is. Nothing of it is verified here: the bootloader verified what runs, and what is staged is
/// judged before anybody relies on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageInfo {
    /// The version of its header.
    pub version: ImageVersion,
    /// Its hash TLV.
    pub digest: [u8; 32],
    /// Its protected security counter, if it has one.
    pub counter: Option<u32>,
}

/// Reads what an image says it is; refuses (901 to 904, 908, 911) what is no image. `limit` is the longest image.
pub fn identify<R: ReadAt>(reader: &mut R, limit: u32) -> Result<ImageInfo, Reason> {
    let mut bytes = [0; HEADER_BYTES];
    reader.read_at(0, &mut bytes)?;
    let header = ImageHeader::parse(&bytes)?;
    let mut info = ImageInfo {
        version: header.version,
        digest: [0; 32],
        counter: None,
    };
    let mut walk = Walk::new(&header, limit);
    while let Some(tlv) = walk.next(reader)? {
        match tlv.kind {
            kind::SHA256 => reader.read_at(tlv.offset, &mut info.digest)?,
            kind::SEC_CNT => {
                let mut counter = [0; 4];
                reader.read_at(tlv.offset, &mut counter)?;
                info.counter = Some(u32::from_le_bytes(counter));
            }
            _ => {}
        }
    }
    Ok(info)
}
