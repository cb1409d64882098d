//! The MCUboot image format, read strictly.
//!
//! ```text
//! header (hdr_size bytes, 32 of them meaningful)         \
//! payload (img_size bytes)                                | hashed and signed: `ImageHeader::signed_len`
//! protected TLV area (protect_tlv_size bytes, may be 0)  /
//! unprotected TLV area (hash, then KEYHASH and signature pairs)
//! ```
//!
//! A device reads an image in three steps, none of which needs a buffer for the whole of it: [`ImageHeader::parse`] the
//! first 32 bytes, hash [`ImageHeader::signed_len`] bytes from the start of the slot, then take the TLVs one by one from
//! [`Walk::next`], which enforces [`rule`], bounds, uniqueness and pairing. What to believe of them is not decided here.

pub mod der;
pub mod header;
pub mod tlv;
pub mod trailer;

pub use header::{HEADER_BYTES, ImageHeader, ImageVersion};
pub use tlv::{Area, Dependency, Rule, Tlv, TlvHead, TlvInfo, Walk, rule};

use crate::Reason;

/// Something that can be read at any offset, such as a slot in flash; offset 0 is the first byte of the image header.
pub trait ReadAt {
    /// Fills `out` from `offset`. Bytes beyond the end are an error ([`Reason::ImageSize`]), a failing medium is
    /// [`Reason::StorageFailed`].
    fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason>;
}

impl ReadAt for &[u8] {
    fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
        let start = usize::try_from(offset).map_err(|_| Reason::ImageSize)?;
        let tail = self.get(start..).ok_or(Reason::ImageSize)?;
        let bytes = tail.get(..out.len()).ok_or(Reason::ImageSize)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &mut R {
    fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
        (**self).read_at(offset, out)
    }
}
