//! The bytes that a linked program puts into memory, taken out of its ELF file.

use std::fmt;

/// A program as it stands in flash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// Address of its first byte.
    pub start: u32,
    /// Its bytes; gaps between segments read as erased flash.
    pub bytes: Vec<u8>,
}

/// The file is not a 32-bit little-endian ELF program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAProgram;

impl fmt::Display for NotAProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a 32-bit little-endian ELF program with something to load")
    }
}

impl std::error::Error for NotAProgram {}

const MAGIC_32_LITTLE: [u8; 6] = [0x7f, b'E', b'L', b'F', 1, 1];
const PT_LOAD: u32 = 1;
const ERASED: u8 = 0xff;

/// Larger than any flash here; stops an absurd file, in bytes.
const FIRMWARE_MAX: u32 = 64 * 1024 * 1024;

impl Firmware {
    /// Reads the loadable segments (System V ABI, chapter 5), by their physical addresses.
    pub fn from_elf(elf: &[u8]) -> Result<Firmware, NotAProgram> {
        Self::load(elf).ok_or(NotAProgram)
    }

    fn load(elf: &[u8]) -> Option<Firmware> {
        if !elf.starts_with(&MAGIC_32_LITTLE) {
            return None;
        }
        let table = word(elf, 28)? as usize;
        let (entry_len, entries) = (half(elf, 42)? as usize, half(elf, 44)? as usize);
        let mut segments = Vec::new();
        for index in 0..entries {
            let entry = elf.get(table + index * entry_len..)?;
            let (offset, address, len) = (word(entry, 4)? as usize, word(entry, 12)?, word(entry, 16)?);
            if word(entry, 0)? == PT_LOAD && len > 0 {
                segments.push((address, elf.get(offset..offset.checked_add(len as usize)?)?));
            }
        }
        let start = segments.iter().map(|(address, _)| *address).min()?;
        let mut bytes = Vec::new();
        for (address, segment) in segments {
            let at = (address - start) as usize;
            let end = at
                .checked_add(segment.len())
                .filter(|end| *end <= FIRMWARE_MAX as usize)?;
            bytes.resize(bytes.len().max(end), ERASED);
            bytes[at..end].copy_from_slice(segment);
        }
        Some(Firmware { start, bytes })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|half| u16::from_le_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_program_at_any_length() {
        let mut elf = MAGIC_32_LITTLE.to_vec();
        elf.resize(200, 0xff);
        for len in 0..elf.len() {
            assert_eq!(Firmware::from_elf(&elf[..len]), Err(NotAProgram));
        }
    }

    #[test]
    fn fills_the_gap_between_two_segments() {
        let mut elf = vec![0; 52 + 2 * 32];
        elf[..6].copy_from_slice(&MAGIC_32_LITTLE);
        elf[28] = 52;
        (elf[42], elf[44]) = (32, 2);
        for (entry, address) in [(52, 0x10u8), (84, 0x18)] {
            elf[entry] = 1;
            elf[entry + 4] = elf.len() as u8;
            elf[entry + 12] = address;
            elf[entry + 16] = 4;
        }
        elf.extend(*b"abcd");
        let firmware = Firmware::from_elf(&elf).expect("a program");
        assert_eq!(
            firmware,
            Firmware {
                start: 0x10,
                bytes: b"abcd\xff\xff\xff\xffabcd".to_vec()
            }
        );
    }
}
