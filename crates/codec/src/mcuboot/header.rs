//! The 32-byte image header.

use core::fmt;

use crate::Reason;

/// Meaningful bytes at the start of an image; the header itself may be longer (padding).
pub const HEADER_BYTES: usize = 32;
/// First four bytes of an image, little-endian.
pub const IMAGE_MAGIC: u32 = 0x96f3_b83d;
/// `hdr_size` is a multiple of this many bytes, because the payload starts with a table of words.
pub const HEADER_ALIGN_BYTES: u16 = 4;

/// Header flags (bits). Only [`flags::ROM_FIXED`] may stand in an image that a device runs.
pub mod flags {
    /// Position-independent code; defined upstream, never supported.
    pub const PIC: u32 = 0x1;
    /// Payload encrypted with AES-128-CTR.
    pub const ENCRYPTED_AES128: u32 = 0x4;
    /// Payload encrypted with AES-256-CTR.
    pub const ENCRYPTED_AES256: u32 = 0x8;
    /// Not for starting: upstream treats the slot as empty.
    pub const NON_BOOTABLE: u32 = 0x10;
    /// `load_addr` is the RAM address to copy the image to.
    pub const RAM_LOAD: u32 = 0x20;
    /// `load_addr` is the flash address that the image was linked for.
    pub const ROM_FIXED: u32 = 0x100;
    /// Payload compressed with LZMA1.
    pub const COMPRESSED_LZMA1: u32 = 0x200;
    /// Payload compressed with LZMA2.
    pub const COMPRESSED_LZMA2: u32 = 0x400;
    /// Payload went through the ARM Thumb filter before compression.
    pub const COMPRESSED_ARM_THUMB: u32 = 0x800;

    /// Flags that have a meaning upstream.
    pub const KNOWN: u32 = PIC
        | ENCRYPTED_AES128
        | ENCRYPTED_AES256
        | NON_BOOTABLE
        | RAM_LOAD
        | ROM_FIXED
        | COMPRESSED_LZMA1
        | COMPRESSED_LZMA2
        | COMPRESSED_ARM_THUMB;
    /// Flags that ask for nothing a device here does not do.
    pub const SUPPORTED: u32 = ROM_FIXED;
}

/// The image header. [`ImageHeader::parse`] is the door for devices, [`ImageHeader::decode`] for looking at any image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Flash address the image was linked for (with [`flags::ROM_FIXED`]), RAM address (with [`flags::RAM_LOAD`]), or 0.
    pub load_addr: u32,
    /// Bytes of the header with its padding; the payload starts there.
    pub hdr_size: u16,
    /// Bytes of the protected TLV area with its info header; 0 = none.
    pub protect_tlv_size: u16,
    /// Bytes of the payload alone.
    pub img_size: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Version of the image.
    pub version: ImageVersion,
}

impl ImageHeader {
    /// Reads the header of an image that a device may run.
    ///
    /// Errors: [`Reason::ImageMagic`] no image here; [`Reason::ImageFlags`] it wants encryption, compression, RAM load,
    /// position independence, or not to be started; [`Reason::ImageHeader`] anything else that is not allowed.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Reason> {
        let header = Self::decode(bytes)?;
        let [.., p0, p1, p2, p3] = *bytes;
        if u32::from_le_bytes([p0, p1, p2, p3]) != 0 {
            return Err(Reason::ImageHeader);
        }
        header.check()?;
        Ok(header)
    }

    /// Reads the fields of any image header, for inspection: only the magic is checked ([`Reason::ImageMagic`]).
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Reason> {
        let [
            m0,
            m1,
            m2,
            m3,
            l0,
            l1,
            l2,
            l3,
            h0,
            h1,
            t0,
            t1,
            i0,
            i1,
            i2,
            i3,
            f0,
            f1,
            f2,
            f3,
            major,
            minor,
            r0,
            r1,
            b0,
            b1,
            b2,
            b3,
            ..,
        ] = *bytes;
        if u32::from_le_bytes([m0, m1, m2, m3]) != IMAGE_MAGIC {
            return Err(Reason::ImageMagic);
        }
        Ok(ImageHeader {
            load_addr: u32::from_le_bytes([l0, l1, l2, l3]),
            hdr_size: u16::from_le_bytes([h0, h1]),
            protect_tlv_size: u16::from_le_bytes([t0, t1]),
            img_size: u32::from_le_bytes([i0, i1, i2, i3]),
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
            version: ImageVersion {
                major,
                minor,
                revision: u16::from_le_bytes([r0, r1]),
                build: u32::from_le_bytes([b0, b1, b2, b3]),
            },
        })
    }

    /// The rules of [`ImageHeader::parse`] for the fields themselves; also for whoever builds an image.
    pub fn check(&self) -> Result<(), Reason> {
        if self.flags & !flags::KNOWN != 0 {
            return Err(Reason::ImageHeader);
        }
        if self.flags & !flags::SUPPORTED != 0 {
            return Err(Reason::ImageFlags);
        }
        // An address that no flag explains would be a field that nobody checks.
        let address_explained = self.load_addr == 0 || self.flags & flags::ROM_FIXED != 0;
        let header_fits =
            usize::from(self.hdr_size) >= HEADER_BYTES && self.hdr_size.is_multiple_of(HEADER_ALIGN_BYTES);
        let area_fits = self.protect_tlv_size == 0 || usize::from(self.protect_tlv_size) >= super::tlv::INFO_BYTES;
        let size_fits = self.img_size != 0 && self.checked_signed_len().is_some();
        if address_explained && header_fits && area_fits && size_fits {
            Ok(())
        } else {
            Err(Reason::ImageHeader)
        }
    }

    /// The 32 bytes, as imgtool writes them.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let [m0, m1, m2, m3] = IMAGE_MAGIC.to_le_bytes();
        let [l0, l1, l2, l3] = self.load_addr.to_le_bytes();
        let [h0, h1] = self.hdr_size.to_le_bytes();
        let [t0, t1] = self.protect_tlv_size.to_le_bytes();
        let [i0, i1, i2, i3] = self.img_size.to_le_bytes();
        let [f0, f1, f2, f3] = self.flags.to_le_bytes();
        let [major, minor, r0, r1, b0, b1, b2, b3] = self.version.to_bytes();
        [
            m0, m1, m2, m3, l0, l1, l2, l3, h0, h1, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, major, minor, r0, r1, b0,
            b1, b2, b3, 0, 0, 0, 0,
        ]
    }

    /// Bytes from the start that are hashed and signed: header, payload, protected TLV area. A parsed header never
    /// overflows; one made by hand that does gives `u32::MAX`, which no slot has.
    pub const fn signed_len(&self) -> u32 {
        match self.checked_signed_len() {
            Some(len) => len,
            None => u32::MAX,
        }
    }

    /// Offset of the first TLV area: after header and payload. Saturates like [`ImageHeader::signed_len`].
    pub const fn tlv_offset(&self) -> u32 {
        self.img_size.saturating_add(self.hdr_size as u32)
    }

    /// The flash address of the header's slot that the image was linked for, when it insists on one.
    pub const fn rom_address(&self) -> Option<u32> {
        if self.flags & flags::ROM_FIXED != 0 {
            Some(self.load_addr)
        } else {
            None
        }
    }

    const fn checked_signed_len(&self) -> Option<u32> {
        match self.img_size.checked_add(self.hdr_size as u32) {
            Some(len) => len.checked_add(self.protect_tlv_size as u32),
            None => None,
        }
    }
}

/// Version of an image. Ordered by major, minor, revision, and last by build.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct ImageVersion {
    /// First number.
    pub major: u8,
    /// Second number.
    pub minor: u8,
    /// Third number.
    pub revision: u16,
    /// Number behind the `+`.
    pub build: u32,
}

/// Bytes of a version in a header or a dependency.
pub const VERSION_BYTES: usize = 8;

impl ImageVersion {
    /// Reads the 8 bytes of a version.
    pub const fn from_bytes(bytes: &[u8; VERSION_BYTES]) -> Self {
        let [major, minor, r0, r1, b0, b1, b2, b3] = *bytes;
        ImageVersion {
            major,
            minor,
            revision: u16::from_le_bytes([r0, r1]),
            build: u32::from_le_bytes([b0, b1, b2, b3]),
        }
    }

    /// The 8 bytes of a version.
    pub const fn to_bytes(self) -> [u8; VERSION_BYTES] {
        let [r0, r1] = self.revision.to_le_bytes();
        let [b0, b1, b2, b3] = self.build.to_le_bytes();
        [self.major, self.minor, r0, r1, b0, b1, b2, b3]
    }

    /// Reads `major[.minor[.revision[+build]]]` in decimal without leading zeros, as imgtool does; `None` otherwise.
    pub fn from_text(text: &str) -> Option<Self> {
        let (numbers, build) = match text.split_once('+') {
            Some((numbers, build)) => (numbers, Some(build)),
            None => (text, None),
        };
        let mut parts = numbers.split('.');
        let major = number(parts.next()?)?;
        let minor = parts.next();
        let revision = parts.next();
        if parts.next().is_some() || (build.is_some() && revision.is_none()) {
            return None;
        }
        Some(ImageVersion {
            major: u8::try_from(major).ok()?,
            minor: u8::try_from(minor.map_or(Some(0), number)?).ok()?,
            revision: u16::try_from(revision.map_or(Some(0), number)?).ok()?,
            build: build.map_or(Some(0), number)?,
        })
    }
}

/// A decimal number without sign or leading zeros.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if plain && !leading_zero {
        text.parse().ok()
    } else {
        None
    }
}

impl fmt::Display for ImageVersion {
    /// `1.2.3`, or `1.2.3+4` when there is a build number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)?;
        if self.build == 0 {
            Ok(())
        } else {
            write!(f, "+{}", self.build)
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    fn good() -> ImageHeader {
        ImageHeader {
            load_addr: 0,
            hdr_size: 0x200,
            protect_tlv_size: 52,
            img_size: 0x1234,
            flags: 0,
            version: ImageVersion {
                major: 1,
                minor: 2,
                revision: 0x0304,
                build: 0x0506_0708,
            },
        }
    }

    #[test]
    fn the_bytes_have_the_layout_of_the_format() {
        // The layout of `struct image_header`; images made by imgtool itself are in tests/mcuboot.rs.
        let expected: [u8; 32] = [
            0x3d, 0xb8, 0xf3, 0x96, 0, 0, 0, 0, 0x00, 0x02, 52, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 1, 2, 0x04, 0x03, 8,
            7, 6, 5, 0, 0, 0, 0,
        ];
        assert_eq!(good().to_bytes(), expected);
        assert_eq!(ImageHeader::parse(&expected), Ok(good()));
        assert_eq!(good().signed_len(), 0x200 + 0x1234 + 52);
        assert_eq!(good().tlv_offset(), 0x200 + 0x1234);
    }

    fn refused(change: impl Fn(&mut ImageHeader)) -> Option<Reason> {
        let mut header = good();
        change(&mut header);
        ImageHeader::parse(&header.to_bytes()).err()
    }

    #[test]
    fn each_rule_of_the_header_has_its_number() {
        assert_eq!(refused(|_| ()), None);
        for (size, reason) in [
            (0, Some(Reason::ImageHeader)),
            (28, Some(Reason::ImageHeader)),
            (31, Some(Reason::ImageHeader)),
            (32, None),
            (34, Some(Reason::ImageHeader)),
            (36, None),
            (0xfffc, None),
            (0xffff, Some(Reason::ImageHeader)),
        ] {
            assert_eq!(refused(|h| h.hdr_size = size), reason, "hdr_size {size}");
        }
        for (size, reason) in [(0, None), (3, Some(Reason::ImageHeader)), (4, None)] {
            assert_eq!(
                refused(|h| h.protect_tlv_size = size),
                reason,
                "protect_tlv_size {size}"
            );
        }
        let largest = u32::MAX - 0x200 - 52;
        for (size, reason) in [
            (0, Some(Reason::ImageHeader)),
            (1, None),
            (largest, None),
            (largest + 1, Some(Reason::ImageHeader)),
            (u32::MAX, Some(Reason::ImageHeader)),
        ] {
            assert_eq!(refused(|h| h.img_size = size), reason, "img_size {size}");
        }
        assert_eq!(refused(|h| h.load_addr = 0x2000_0000), Some(Reason::ImageHeader));
    }

    #[test]
    fn each_flag_is_allowed_unsupported_or_unknown() {
        for bit in 0..32 {
            let flag = 1u32 << bit;
            let expected = match flag {
                flags::ROM_FIXED => None,
                0x1 | 0x4 | 0x8 | 0x10 | 0x20 | 0x200 | 0x400 | 0x800 => Some(Reason::ImageFlags),
                _ => Some(Reason::ImageHeader),
            };
            assert_eq!(refused(|h| h.flags = flag), expected, "flag {flag:#x}");
        }
        let mut fixed = good();
        fixed.flags = flags::ROM_FIXED;
        fixed.load_addr = 0x1_0000;
        assert_eq!(
            ImageHeader::parse(&fixed.to_bytes()).map(|h| h.rom_address()),
            Ok(Some(0x1_0000))
        );
        assert_eq!(good().rom_address(), None);
    }

    #[test]
    fn magic_and_pad_are_checked_bit_by_bit() {
        for bit in 0..32 {
            let mut bytes = good().to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ImageHeader::parse(&bytes), Err(Reason::ImageMagic));
            assert_eq!(ImageHeader::decode(&bytes), Err(Reason::ImageMagic));
            let mut bytes = good().to_bytes();
            bytes[28 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ImageHeader::parse(&bytes), Err(Reason::ImageHeader));
        }
    }

    #[test]
    fn a_length_that_overflows_never_looks_small() {
        let mut header = good();
        header.img_size = u32::MAX - 3;
        assert_eq!(header.signed_len(), u32::MAX);
        assert_eq!(header.tlv_offset(), u32::MAX);
    }

    #[test]
    fn versions_compare_read_and_print() {
        let version = |text| ImageVersion::from_text(text);
        for text in ["0.0.0", "1.2.3", "255.255.65535+4294967295", "1.0.0+7"] {
            assert_eq!(version(text).map(|v| v.to_string()).as_deref(), Some(text));
        }
        assert_eq!(version("2"), version("2.0.0+0"));
        assert_eq!(version("2.1"), version("2.1.0"));
        for text in [
            "",
            ".",
            "1.",
            "01.0.0",
            "1.02",
            "256",
            "1.256",
            "1.2.65536",
            "1.2.3+4294967296",
            "1.2.3.4",
            "1.2+3",
            "+1",
            "-1",
            "1.2.3+",
            "1.2.3+1+2",
            "1. 2",
        ] {
            assert_eq!(version(text), None, "{text}");
        }
        let ordered = [
            "0.0.0+9", "0.0.1", "0.1.0", "1.0.0", "1.0.0+1", "1.0.1", "1.1.0", "2.0.0",
        ]
        .map(version);
        assert!(ordered.is_sorted_by(|a, b| a < b));
    }
}
