//! The little of ELF that figures need, sections and symbols, of 32-bit little-endian files as our linker writes them.
//! What is loaded where is read by [`sim::elf`].

use anyhow::{Context, Result, bail};
use std::ops::Range;

const MAGIC_32_LITTLE: &[u8] = b"\x7fELF\x01\x01\x01";
const SECTION_SYMBOLS: u32 = 2;
/// Bytes of one entry of the symbol table.
const SYMBOL_BYTES: u32 = 16;
const FLAG_ALLOC: u32 = 2;

/// A section that occupies memory on the device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) address: u32,
    pub(crate) bytes: u32,
}

/// A parsed ELF file.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
    /// Sections that occupy memory.
    pub(crate) sections: Vec<Section>,
    symbols: Vec<String>,
}

impl<'a> Elf<'a> {
    /// Reads section headers and symbols.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(MAGIC_32_LITTLE) {
            bail!("not a 32-bit little-endian ELF file");
        }
        let mut elf = Elf {
            bytes,
            sections: Vec::new(),
            symbols: Vec::new(),
        };
        elf.read_sections()?;
        Ok(elf)
    }

    fn read_sections(&mut self) -> Result<()> {
        let table = self.word(32)?;
        let entry_bytes = u32::from(self.half(46)?);
        let count = u32::from(self.half(48)?);
        let names = table + u32::from(self.half(50)?) * entry_bytes;
        let names = self.word(names + 16)?;
        for index in 0..count {
            let entry = table + index * entry_bytes;
            if self.word(entry + 4)? == SECTION_SYMBOLS {
                let names = table + self.word(entry + 24)? * entry_bytes;
                self.read_symbols(self.word(entry + 16)?, self.word(entry + 20)?, self.word(names + 16)?)?;
            }
            if self.word(entry + 8)? & FLAG_ALLOC == 0 {
                continue;
            }
            self.sections.push(Section {
                name: self.name(names + self.word(entry)?)?,
                address: self.word(entry + 12)?,
                bytes: self.word(entry + 20)?,
            });
        }
        Ok(())
    }

    fn read_symbols(&mut self, start: u32, bytes: u32, names: u32) -> Result<()> {
        for index in 0..bytes / SYMBOL_BYTES {
            let name = self.word(start + index * SYMBOL_BYTES)?;
            self.symbols.push(self.name(names + name)?);
        }
        Ok(())
    }

    /// Bytes of RAM that variables take: sections that start in this range of addresses.
    pub(crate) fn static_ram_bytes(&self, ram: Range<u32>) -> u32 {
        let in_ram = self.sections.iter().filter(|section| ram.contains(&section.address));
        in_ram.map(|section| section.bytes).sum()
    }

    /// Functions that panic and that the program can reach: the linker drops what nothing calls.
    pub(crate) fn panics(&self) -> Vec<&str> {
        let is_panic = |name: &&String| name.contains("9panicking") || name.as_str() == "rust_begin_unwind";
        self.symbols.iter().filter(is_panic).map(String::as_str).collect()
    }

    fn slice(&self, offset: u32, bytes: u32) -> Result<&'a [u8]> {
        let start = offset as usize;
        self.bytes
            .get(start..start + bytes as usize)
            .context("the ELF file is cut off")
    }

    fn half(&self, offset: u32) -> Result<u16> {
        let bytes = self.slice(offset, 2)?.try_into()?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn word(&self, offset: u32) -> Result<u32> {
        let bytes = self.slice(offset, 4)?.try_into()?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn name(&self, offset: u32) -> Result<String> {
        let rest = self.bytes.get(offset as usize..).context("the ELF file is cut off")?;
        let name = rest.split(|byte| *byte == 0).next().unwrap_or(rest);
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[u8] = b"\0.text\0.data\0.bss\0.shstrtab\0main\0_ZN4core9panicking5panic17h0E\0";
    const NAME_MAIN: u32 = 28;
    const NAME_PANIC: u32 = 33;

    /// An ELF file with these sections in memory, and with the symbols `main` and a panic.
    fn elf_file(sections: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut file = MAGIC_32_LITTLE.to_vec();
        file.resize(52, 0);
        let names_offset = file.len() as u32;
        let symbols_offset = names_offset + NAMES.len() as u32;
        let sections_at = symbols_offset + 2 * SYMBOL_BYTES;
        let words = |values: &[u32], file: &mut Vec<u8>| {
            values
                .iter()
                .for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        };
        file.extend_from_slice(NAMES);
        words(&[NAME_MAIN, 0, 0, 0, NAME_PANIC, 0, 0, 0], &mut file);
        words(&[18, 3, 0, 0, names_offset, NAMES.len() as u32, 0, 0, 1, 0], &mut file);
        words(
            &[
                0,
                SECTION_SYMBOLS,
                0,
                0,
                symbols_offset,
                2 * SYMBOL_BYTES,
                0,
                0,
                4,
                SYMBOL_BYTES,
            ],
            &mut file,
        );
        for (name, address, bytes) in sections {
            words(&[*name, 1, FLAG_ALLOC, *address, 0, *bytes, 0, 0, 4, 0], &mut file);
        }
        file[32..36].copy_from_slice(&sections_at.to_le_bytes());
        for (place, value) in [(46, 40u16), (48, 2 + sections.len() as u16), (50, 0)] {
            file[place..place + 2].copy_from_slice(&value.to_le_bytes());
        }
        file
    }

    const SECTIONS: &[(u32, u32, u32)] = &[(1, 0, 100), (7, 0x2000_0000, 8), (13, 0x2000_0100, 40)];

    #[test]
    fn sizes_are_those_of_the_headers() {
        let file = elf_file(SECTIONS);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.static_ram_bytes(0x2000_0000..0x2000_1000), 48);
        assert_eq!(elf.static_ram_bytes(0x2000_0000..0x2000_0100), 8);
        let names: Vec<&str> = elf.sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, [".text", ".data", ".bss"]);
    }

    #[test]
    fn reachable_panics_are_named() {
        let file = elf_file(SECTIONS);
        assert_eq!(Elf::parse(&file).unwrap().panics(), ["_ZN4core9panicking5panic17h0E"]);
    }

    #[test]
    fn other_and_cut_files_are_refused() {
        assert!(Elf::parse(b"\x7fELF\x02\x01\x01").is_err());
        let file = elf_file(SECTIONS);
        assert!(Elf::parse(&file[..file.len() - 30]).is_err());
    }
}
