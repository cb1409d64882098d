//! The trailer at the end of a slot, in the layout of swap-offset without encryption (format sheet, section 4).
//!
//! Every field is one cell of `max_align` bytes, padded with the erased value; the status area holds one write unit per
//! half step of the swap. The layout is MCUboot's, so that `imgtool` and the C bootloader read the same bytes.

/// Bytes of the magic.
pub const MAGIC_BYTES: usize = 16;
/// Value of a set flag.
pub const FLAG_SET: u8 = 0x01;
/// Status cells that one sector of a swap needs.
pub const STATES_PER_SECTOR: u32 = 2;
/// The largest alignment of the format, in bytes.
pub const ALIGN_BYTES_MAX: u32 = 32;

const MAGIC_ALIGN_8: [u8; MAGIC_BYTES] = [
    0x77, 0xc2, 0x95, 0xf3, 0x60, 0xd2, 0xef, 0x7f, 0x35, 0x52, 0x50, 0x0f, 0x2c, 0xb6, 0x79, 0x80,
];
/// The magic that marks a written trailer, which depends on the alignment.
pub const fn magic(max_align: u32) -> [u8; MAGIC_BYTES] {
    if max_align == 8 {
        return MAGIC_ALIGN_8;
    }
    let [low, high] = (max_align as u16).to_le_bytes();
    [
        low, high, 0x2d, 0xe1, 0x5d, 0x29, 0x41, 0x0b, 0x8d, 0x77, 0x67, 0x9c, 0x11, 0x0f, 0x1f, 0x8a,
    ]
}

/// Where the fields of one slot's trailer stand. All positions are relative to the start of the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrailerLayout {
    slot_len: u32,
    write_size: u32,
    max_align: u32,
    max_sectors: u32,
}

impl TrailerLayout {
    /// The trailer of a slot of `slot_len` bytes; `None` when the numbers do not fit the format or the slot.
    pub const fn new(slot_len: u32, write_size: u32, max_sectors: u32) -> Option<Self> {
        if !write_size.is_power_of_two() || write_size > ALIGN_BYTES_MAX || max_sectors == 0 || max_sectors > 0xffff {
            return None;
        }
        let max_align = if write_size > 8 { write_size } else { 8 };
        let layout = TrailerLayout {
            slot_len,
            write_size,
            max_align,
            max_sectors,
        };
        if layout.len() > slot_len || !slot_len.is_multiple_of(write_size) {
            return None;
        }
        Some(layout)
    }

    /// The cell size: 8, 16 or 32 bytes.
    pub const fn max_align(&self) -> u32 {
        self.max_align
    }

    /// Bytes of the whole trailer.
    pub const fn len(&self) -> u32 {
        self.max_sectors * STATES_PER_SECTOR * self.write_size + 5 * self.max_align + self.magic_unit()
    }

    /// A trailer is never empty.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Position of the trailer's first byte.
    pub const fn start(&self) -> u32 {
        self.slot_len - self.len()
    }

    /// Bytes that the magic occupies when written; it stands at the end of them.
    pub const fn magic_unit(&self) -> u32 {
        if self.max_align > MAGIC_BYTES as u32 {
            self.max_align
        } else {
            MAGIC_BYTES as u32
        }
    }

    /// Position of the unit that ends with the magic.
    pub const fn magic_at(&self) -> u32 {
        self.slot_len - self.magic_unit()
    }

    /// Position of the confirm flag.
    pub const fn image_ok_at(&self) -> u32 {
        self.magic_at() - self.max_align
    }

    /// Position of the flag that ends a swap.
    pub const fn copy_done_at(&self) -> u32 {
        self.image_ok_at() - self.max_align
    }

    /// Position of the swap type.
    pub const fn swap_info_at(&self) -> u32 {
        self.copy_done_at() - self.max_align
    }

    /// Position of the sizes of both unprotected TLV areas.
    pub const fn tlv_sizes_at(&self) -> u32 {
        self.swap_info_at() - self.max_align
    }

    /// Position of the number of bytes to swap.
    pub const fn swap_size_at(&self) -> u32 {
        self.tlv_sizes_at() - self.max_align
    }

    /// Number of status cells.
    pub const fn status_cells(&self) -> u32 {
        self.max_sectors * STATES_PER_SECTOR
    }

    /// Position of a status cell; cells beyond the last are those of the last.
    pub const fn status_at(&self, cell: u32) -> u32 {
        let last = self.status_cells() - 1;
        self.start() + (if cell > last { last } else { cell }) * self.write_size
    }
}

/// The state of a magic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Magic {
    /// Written.
    Good,
    /// Erased.
    Unset,
    /// Neither.
    Bad,
}

impl Magic {
    /// Reads a magic.
    pub fn parse(bytes: &[u8; MAGIC_BYTES], max_align: u32, erased: u8) -> Magic {
        if *bytes == magic(max_align) {
            Magic::Good
        } else if bytes.iter().all(|byte| *byte == erased) {
            Magic::Unset
        } else {
            Magic::Bad
        }
    }
}

/// The state of a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// Written.
    Set,
    /// Erased.
    Unset,
    /// Neither: its write was torn.
    Bad,
}

impl Flag {
    /// Reads a flag.
    pub const fn parse(byte: u8, erased: u8) -> Flag {
        if byte == FLAG_SET {
            Flag::Set
        } else if byte == erased {
            Flag::Unset
        } else {
            Flag::Bad
        }
    }
}

/// What a swap is for, as the trailer stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SwapType {
    /// Nothing to do.
    None = 1,
    /// Try the secondary image once.
    Test = 2,
    /// Take the secondary image for good.
    Permanent = 3,
    /// Go back to the image in the secondary slot.
    Revert = 4,
}

impl SwapType {
    /// Reads the low half of `swap_info`.
    pub const fn parse(swap_info: u8) -> Option<SwapType> {
        match swap_info & 0x0f {
            1 => Some(SwapType::None),
            2 => Some(SwapType::Test),
            3 => Some(SwapType::Permanent),
            4 => Some(SwapType::Revert),
            _ => None,
        }
    }

    /// The `swap_info` byte for an image number.
    pub const fn info(self, image: u8) -> u8 {
        (image << 4) | self as u8
    }
}

/// What a trailer says at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// The magic.
    pub magic: Magic,
    /// The confirm flag.
    pub image_ok: Flag,
    /// The flag that ends a swap.
    pub copy_done: Flag,
    /// The swap type, where one is written.
    pub swap: Option<SwapType>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets from the end, sizes: format sheet, tables 4.1 and 4.2 (confirmed there against imgtool and C).
    #[test]
    fn positions_are_those_of_the_format() {
        let cases = [
            (4, [16, 24, 32, 40, 48, 56], 1080),
            (8, [16, 24, 32, 40, 48, 56], 2104),
            (16, [16, 32, 48, 64, 80, 96], 4192),
            (32, [32, 64, 96, 128, 160, 192], 8384),
        ];
        for (write_size, from_end, len) in cases {
            let layout = TrailerLayout::new(0x2_0000, write_size, 128).unwrap();
            let positions = [
                layout.magic_at(),
                layout.image_ok_at(),
                layout.copy_done_at(),
                layout.swap_info_at(),
                layout.tlv_sizes_at(),
                layout.swap_size_at(),
            ];
            assert_eq!(positions.map(|at| 0x2_0000 - at), from_end);
            assert_eq!(layout.len(), len);
            assert_eq!(layout.status_at(0), 0x2_0000 - len);
            assert_eq!(layout.status_at(255) + write_size, layout.swap_size_at());
        }
    }

    #[test]
    fn what_the_format_cannot_hold_is_refused() {
        assert_eq!(TrailerLayout::new(1079, 4, 128), None);
        assert_eq!(TrailerLayout::new(0x2_0000, 3, 128), None);
        assert_eq!(TrailerLayout::new(0x2_0000, 64, 128), None);
        assert_eq!(TrailerLayout::new(0x2_0000, 8, 0), None);
        assert!(TrailerLayout::new(1080, 4, 128).is_some());
    }

    #[test]
    fn magic_and_flags_have_three_states() {
        assert_eq!(Magic::parse(&magic(8), 8, 0xff), Magic::Good);
        assert_eq!(Magic::parse(&magic(16), 8, 0xff), Magic::Bad);
        assert_eq!(Magic::parse(&[0; 16], 16, 0), Magic::Unset);
        assert_eq!(magic(32)[..3], [32, 0, 0x2d]);
        assert_eq!(
            [1, 0xff, 0x7f].map(|byte| Flag::parse(byte, 0xff)),
            [Flag::Set, Flag::Unset, Flag::Bad]
        );
        assert_eq!(SwapType::parse(SwapType::Revert.info(3)), Some(SwapType::Revert));
        assert_eq!(SwapType::parse(0xff), None);
    }
}
