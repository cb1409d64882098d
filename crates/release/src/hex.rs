//! Hexadecimal: digests as text, and Intel HEX files in the form that imgtool reads and writes.

use std::fmt::Write;

use ihex::{Reader, Record};
use keys::{Code, Error, Result};

/// Bytes from the lowest to the highest address of a file that is read at once.
pub const HEX_SPAN_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Data bytes of a record that is written.
const RECORD_BYTES: usize = 16;
/// What stands in the gaps of a file.
const GAP: u8 = 0xff;

/// The content of a file: one block of memory, gaps filled with 0xff.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Where the first byte belongs.
    pub address: u32,
    /// All bytes up to the highest address.
    pub bytes: Vec<u8>,
}

/// Reads a file.
///
/// Errors: [`Code::HexMalformed`] a record is bad, two overlap, data is missing or there is no end record (the file was
/// cut off); [`Code::HexTooLarge`] it spans more than [`HEX_SPAN_BYTES_MAX`].
pub fn read(text: &str) -> Result<Memory> {
    let pieces = pieces(text)?;
    let first = pieces.first().ok_or_else(|| malformed("it holds no data"))?;
    let (address, end) = (
        first.address,
        pieces.iter().map(Piece::end).max().unwrap_or(first.end()),
    );
    let span = end - u64::from(address);
    if span > u64::from(HEX_SPAN_BYTES_MAX) {
        let what = format!("the Intel HEX file spans {span} bytes of memory");
        return Err(Code::HexTooLarge.error(what));
    }
    let mut bytes = vec![GAP; span as usize];
    for piece in &pieces {
        let start = (piece.address - address) as usize;
        bytes[start..start + piece.bytes.len()].copy_from_slice(&piece.bytes);
    }
    Ok(Memory { address, bytes })
}

/// Writes blocks of memory, in ascending order and without overlap, as records of 16 bytes.
///
/// Error: [`Code::HexTooLarge`] a block reaches beyond 32-bit addresses.
pub fn write(blocks: &[(u32, &[u8])]) -> Result<String> {
    let blocks = joined(blocks);
    let end = blocks
        .iter()
        .map(|(address, bytes)| u64::from(*address) + bytes.len() as u64)
        .max()
        .unwrap_or(0);
    if end > 1 << 32 {
        return Err(Code::HexTooLarge.error("the image reaches beyond address 0xffffffff"));
    }
    let mut records = Vec::new();
    // Below 64 KiB no record needs the upper half of its address.
    let mut upper = if end <= 1 << 16 { Some(0) } else { None };
    for (address, bytes) in &blocks {
        let mut at = *address;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if upper != Some(at >> 16) {
                upper = Some(at >> 16);
                records.push(Record::ExtendedLinearAddress((at >> 16) as u16));
            }
            let to_boundary = 0x1_0000 - (at & 0xffff) as usize;
            let (value, behind) = rest.split_at(rest.len().min(RECORD_BYTES).min(to_boundary));
            records.push(Record::Data {
                offset: at as u16,
                value: value.to_vec(),
            });
            at = at.wrapping_add(value.len() as u32);
            rest = behind;
        }
    }
    records.push(Record::EndOfFile);
    let lines: Result<Vec<String>, _> = records.iter().map(Record::to_record_string).collect();
    let lines = lines.map_err(|_| malformed("a record cannot be written"))?;
    Ok(lines.join("\n") + "\n")
}

/// Bytes as lower-case digits.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of digits of either case; `None` when there is an odd number of them or something else between.
pub fn bytes(digits: &str) -> Option<Vec<u8>> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit()) && digits.len().is_multiple_of(2);
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if plain { pairs.map(byte).collect() } else { None }
}

struct Piece {
    address: u32,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        u64::from(self.address) + self.bytes.len() as u64
    }
}

/// The data of all records, sorted by address.
fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut base = 0;
    let mut ended = false;
    for record in Reader::new(text) {
        match record.map_err(|error| malformed(&format!("a record is bad: {error}")))? {
            Record::Data { offset, value } if !value.is_empty() => {
                let address = u32::checked_add(base, u32::from(offset));
                let address = address.ok_or_else(|| malformed("an address is beyond 32 bits"))?;
                pieces.push(Piece { address, bytes: value });
            }
            Record::ExtendedLinearAddress(upper) => base = u32::from(upper) << 16,
            Record::ExtendedSegmentAddress(segment) => base = u32::from(segment) << 4,
            Record::EndOfFile => ended = true,
            // The start address is for a debugger.
            Record::Data { .. } | Record::StartLinearAddress(_) | Record::StartSegmentAddress { .. } => {}
        }
    }
    if !ended {
        return Err(malformed("its end record is missing"));
    }
    pieces.sort_by_key(|piece| piece.address);
    if pieces.windows(2).any(|pair| pair[0].end() > u64::from(pair[1].address)) {
        return Err(malformed("two records write the same address"));
    }
    Ok(pieces)
}

/// The same blocks with neighbours that touch made one, so that records run across.
fn joined(blocks: &[(u32, &[u8])]) -> Vec<(u32, Vec<u8>)> {
    let mut joined: Vec<(u32, Vec<u8>)> = Vec::new();
    for (address, bytes) in blocks {
        match joined.last_mut() {
            Some((start, last)) if u64::from(*start) + last.len() as u64 == u64::from(*address) => {
                last.extend_from_slice(bytes);
            }
            _ => joined.push((*address, bytes.to_vec())),
        }
    }
    joined
}

fn malformed(why: &str) -> Error {
    Code::HexMalformed.error(format!("the Intel HEX file cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text_are_each_others_way_back() {
        assert_eq!(text(&[0, 0x0f, 0xf0]), "000ff0");
        assert_eq!(bytes("000Ff0"), Some(vec![0, 0x0f, 0xf0]));
        assert_eq!(bytes(""), Some(vec![]));
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for address in [0, 0xfff8, 0x1_0000, 0x0800_fff1, 0xffff_ff00] {
            let bytes: Vec<u8> = (0..=255).collect();
            let memory = Memory { address, bytes };
            let text = write(&[(memory.address, &memory.bytes)]).unwrap();
            assert_eq!(read(&text).unwrap(), memory, "{address:x}");
        }
    }

    #[test]
    fn gaps_are_filled_and_neighbours_joined() {
        let text = write(&[(0x10, &[1, 2]), (0x12, &[3]), (0x20, &[4])]).unwrap();
        assert_eq!(text, ":03001000010203E7\n:0100200004DB\n:00000001FF\n");
        let memory = read(&text).unwrap();
        let expected = [&[1, 2, 3][..], &[0xff; 13], &[4]].concat();
        assert_eq!(
            memory,
            Memory {
                address: 0x10,
                bytes: expected
            }
        );
    }

    #[test]
    fn segment_addresses_and_windows_line_ends_are_read() {
        let text = ":020000021000EC\r\n:0100000042BD\r\n:00000001FF\r\n";
        assert_eq!(
            read(text).unwrap(),
            Memory {
                address: 0x1_0000,
                bytes: vec![0x42]
            }
        );
    }

    #[test]
    fn bad_files_have_their_numbers() {
        let two = write(&[(0, &[0; 32])]).unwrap();
        let without_end = two.replace(":00000001FF\n", "");
        let overlap = format!("{}{two}", two.replace(":00000001FF\n", ""));
        let bad_sum = two.replacen('0', "1", 4);
        for text in [
            "",
            "hello\n",
            ":00000001FF\n",
            without_end.as_str(),
            overlap.as_str(),
            bad_sum.as_str(),
        ] {
            assert!(read(text).unwrap_err().is(Code::HexMalformed), "{text:?}");
        }
        let wide = write(&[(0, &[1]), (0x2000_0000, &[2])]).unwrap();
        assert!(read(&wide).unwrap_err().is(Code::HexTooLarge));
        assert!(write(&[(0xffff_ffff, &[1, 2])]).unwrap_err().is(Code::HexTooLarge));
    }
}
