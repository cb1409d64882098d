//! The little of ELF that figures and flat binaries need: 32-bit little-endian files as our linker writes them.

use anyhow::{Context, Result, bail};

const MAGIC_32_LITTLE: &[u8] = b"\x7fELF\x01\x01\x01";
const SECTION_NOBITS: u32 = 8;
const FLAG_ALLOC: u32 = 2;
const SEGMENT_LOAD: u32 = 1;
/// Bytes of a flat binary at most: more than any board has, less than a mistake in an address makes.
const FLAT_BINARY_BYTES_MAX: u32 = 16 << 20;

/// A section that occupies memory on the device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) address: u32,
    pub(crate) bytes: u32,
    /// Whether it has content in the file (`.bss` has none).
    pub(crate) is_stored: bool,
}

/// A part of the file and where it stands in flash.
struct Segment {
    load_address: u32,
    file_offset: u32,
    file_bytes: u32,
}

/// A parsed ELF file.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
    /// Sections that occupy memory.
    pub(crate) sections: Vec<Section>,
    segments: Vec<Segment>,
}

impl<'a> Elf<'a> {
    /// Reads section and program headers.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(MAGIC_32_LITTLE) {
            bail!("not a 32-bit little-endian ELF file");
        }
        let mut elf = Elf {
            bytes,
            sections: Vec::new(),
            segments: Vec::new(),
        };
        elf.read_sections()?;
        elf.read_segments()?;
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
            if self.word(entry + 8)? & FLAG_ALLOC == 0 {
                continue;
            }
            self.sections.push(Section {
                name: self.name(names + self.word(entry)?)?,
                address: self.word(entry + 12)?,
                bytes: self.word(entry + 20)?,
                is_stored: self.word(entry + 4)? != SECTION_NOBITS,
            });
        }
        Ok(())
    }

    fn read_segments(&mut self) -> Result<()> {
        let table = self.word(28)?;
        let entry_bytes = u32::from(self.half(42)?);
        for index in 0..u32::from(self.half(44)?) {
            let entry = table + index * entry_bytes;
            let segment = Segment {
                file_offset: self.word(entry + 4)?,
                load_address: self.word(entry + 12)?,
                file_bytes: self.word(entry + 16)?,
            };
            if self.word(entry)? == SEGMENT_LOAD && segment.file_bytes > 0 {
                self.segments.push(segment);
            }
        }
        self.segments.sort_by_key(|segment| segment.load_address);
        Ok(())
    }

    /// Bytes of flash: all stored content, initial values of variables included.
    pub(crate) fn flash_bytes(&self) -> u32 {
        self.segments.iter().map(|segment| segment.file_bytes).sum()
    }

    /// Bytes of RAM that variables take, at addresses from `ram_start` up.
    pub(crate) fn static_ram_bytes(&self, ram_start: u32) -> u32 {
        self.sections
            .iter()
            .filter(|section| section.address >= ram_start)
            .map(|section| section.bytes)
            .sum()
    }

    /// What a programmer writes, from the lowest load address on; gaps are filled with the erased value.
    pub(crate) fn flat_binary(&self) -> Result<Vec<u8>> {
        let start = self.segments.first().context("nothing to load")?.load_address;
        let mut flat = Vec::new();
        for segment in &self.segments {
            let offset = segment.load_address - start;
            if offset > FLAT_BINARY_BYTES_MAX {
                bail!(
                    "a part at {:#x} is too far from the start at {start:#x}",
                    segment.load_address
                );
            }
            flat.resize(offset as usize, 0xff);
            flat.extend_from_slice(self.slice(segment.file_offset, segment.file_bytes)?);
        }
        Ok(flat)
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

    /// An ELF file with one code segment of `code` at 0 and one of `data`, stored behind it and used in RAM.
    fn elf_file(code: &[u8], data: &[u8], gap: u32) -> Vec<u8> {
        let names = b"\0.text\0.data\0.bss\0.shstrtab\0";
        let mut file = MAGIC_32_LITTLE.to_vec();
        file.resize(52, 0);
        let segments_at = file.len() as u32;
        let data_at = code.len() as u32 + gap;
        let code_offset = segments_at + 2 * 32;
        let data_offset = code_offset + code.len() as u32;
        let names_offset = data_offset + data.len() as u32;
        let sections_at = names_offset + names.len() as u32;
        let word = |value: u32, file: &mut Vec<u8>| file.extend_from_slice(&value.to_le_bytes());
        for (offset, address, load, length) in [
            (data_offset, 0x2000_0000, data_at, data.len()),
            (code_offset, 0, 0, code.len()),
        ] {
            for value in [SEGMENT_LOAD, offset, address, load, length as u32, length as u32, 5, 4] {
                word(value, &mut file);
            }
        }
        file.extend_from_slice(code);
        file.extend_from_slice(data);
        file.extend_from_slice(names);
        for (name, kind, flags, address, offset, length) in [
            (1, 1, FLAG_ALLOC, 0, code_offset, code.len() as u32),
            (7, 1, FLAG_ALLOC, 0x2000_0000, data_offset, data.len() as u32),
            (13, SECTION_NOBITS, FLAG_ALLOC, 0x2000_0100, 0, 40),
            (18, 3, 0, 0, names_offset, names.len() as u32),
        ] {
            for value in [name, kind, flags, address, offset, length, 0, 0, 4, 0] {
                word(value, &mut file);
            }
        }
        for (place, value) in [(28, segments_at), (32, sections_at)] {
            file[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        for (place, value) in [(42, 32u16), (44, 2), (46, 40), (48, 4), (50, 3)] {
            file[place..place + 2].copy_from_slice(&value.to_le_bytes());
        }
        file
    }

    #[test]
    fn sizes_are_those_of_the_headers() {
        let file = elf_file(&[1; 100], &[2; 8], 0);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.flash_bytes(), 108);
        assert_eq!(elf.static_ram_bytes(0x2000_0000), 48);
        let names: Vec<&str> = elf.sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, [".text", ".data", ".bss"]);
        assert_eq!(
            elf.sections.iter().map(|section| section.is_stored).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[test]
    fn the_flat_binary_is_in_load_order_with_erased_gaps() {
        let file = elf_file(&[1, 1], &[2], 2);
        assert_eq!(Elf::parse(&file).unwrap().flat_binary().unwrap(), [1, 1, 0xff, 0xff, 2]);
    }

    #[test]
    fn other_and_cut_files_are_refused() {
        assert!(Elf::parse(b"\x7fELF\x02\x01\x01").is_err());
        let file = elf_file(&[1; 100], &[2; 8], 0);
        assert!(Elf::parse(&file[..file.len() - 30]).is_err());
    }
}
