//! What the tests of this crate share: vector files and room to encode into.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use ampoule_codec::cbor::{self, Writer};
use std::path::{Path, PathBuf};

/// The project's folder of vectors.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}

/// The bytes of a `.hex` file; lines that start with `#` are its description.
pub fn hex_file(path: &str) -> Vec<u8> {
    let path = vectors().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    unhex(&lines.collect::<String>())
}

/// Bytes from hexadecimal digits; white space is skipped.
pub fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `write` writes.
pub fn encoded(write: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut room = vec![0; cbor::measure(&write)];
    cbor::encode(&mut room, write).expect("measured").to_vec()
}
