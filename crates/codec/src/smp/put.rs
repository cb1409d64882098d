//! Writes entries of a message's map. Not inlined: a device has one copy of each, however many entries it can answer.

use crate::cbor::{Kind, Writer};

/// `false`; the strict profile has only `true`.
const FALSE: u8 = 0xf4;

/// An entry with an unsigned integer.
#[inline(never)]
pub(super) fn uint(writer: &mut Writer<'_>, key: &str, value: u32) {
    writer.text(key).uint(u64::from(value));
}

/// An entry with a byte string.
#[inline(never)]
pub(super) fn bytes(writer: &mut Writer<'_>, key: &str, value: &[u8]) {
    writer.text(key).bytes(value);
}

/// An entry with a text.
#[inline(never)]
pub(super) fn text(writer: &mut Writer<'_>, key: &str, value: &str) {
    writer.text(key).text(value);
}

/// An entry with a truth value.
#[inline(never)]
pub(super) fn truth(writer: &mut Writer<'_>, key: &str, value: bool) {
    writer.text(key);
    if value {
        writer.truth();
    } else {
        writer.raw(&[FALSE]);
    }
}

/// An entry with a text made of parts.
#[inline(never)]
pub(super) fn parts(writer: &mut Writer<'_>, key: &str, parts: &[&[u8]]) {
    let len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
    writer.text(key).head(Kind::Text, len as u64);
    for part in parts {
        writer.raw(part);
    }
}

/// The head of an array under a key; its items are to follow.
#[inline(never)]
pub(super) fn array(writer: &mut Writer<'_>, key: &str, count: usize) {
    writer.text(key).array(count);
}

/// The head of a map; its entries are to follow.
#[inline(never)]
pub(super) fn map(writer: &mut Writer<'_>, count: usize) {
    writer.map(count);
}
