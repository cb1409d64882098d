//! A share as a text that a person prints, reads and types back.
//!
//! 50 bytes are 16 groups of 25 bits. Each group is five characters and a sixth that checks them *and* the place of the
//! group, so that a slip is named where it happened.

use std::fmt;

use trust::Sha256;
use zeroize::Zeroizing;

use super::{BackupId, SHARES_MAX, TEXT_BYTES_MAX, THRESHOLD_MIN};
use crate::{Code, Error, Result};

/// Bytes of a share.
pub const SHARE_BYTES: usize = 50;
/// Groups of its text.
pub const GROUPS: usize = 16;
/// Characters of a group: five of content, one that checks.
pub const GROUP_CHARS: usize = 6;
/// Groups on a line.
pub const LINE_GROUPS: usize = 4;

/// Crockford's base 32: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const VERSION: u8 = 1;
const CONTENT_CHARS: usize = GROUP_CHARS - 1;
const SECRET: std::ops::Range<usize> = 12..44;
const CHECKSUM_AT: usize = 44;
const BEGIN: &str = "-----BEGIN AMPOULE SHARE-----";
const END: &str = "-----END AMPOULE SHARE-----";
/// Weights of the five characters and of the place, in GF(2^5): distinct and not zero, so that any one wrong character
/// and any two that changed places are seen.
const WEIGHTS: [u8; CONTENT_CHARS] = [2, 3, 4, 5, 6];
const PLACE_WEIGHT: u8 = 7;

/// One share: secret, wiped when dropped, never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Share(Zeroizing<[u8; SHARE_BYTES]>);

impl Share {
    pub(super) fn new(id: BackupId, threshold: u8, shares: u8, point: &blahaj::Share) -> Share {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&id.0);
        (bytes[9], bytes[10], bytes[11]) = (threshold, shares, point.x.0);
        for (byte, value) in bytes[SECRET].iter_mut().zip(&point.y) {
            *byte = value.0;
        }
        let checksum = checksum(&bytes);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum);
        Share(bytes)
    }

    /// Reads a share: the groups alone, in either case, with or without what separates them; or a sheet on which they
    /// stand between its BEGIN and END lines. `O` is read as 0, `I` and `L` as 1.
    ///
    /// Error: [`Code::ShareMistyped`], which names the group or the line.
    pub fn parse(text: &str) -> Result<Share> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(mistyped("this is far too long for a share"));
        }
        let groups = Groups::of(between_marks(text)?);
        let mut bits = Zeroizing::new(Vec::with_capacity(GROUPS * CONTENT_CHARS));
        for (place, group) in groups.numbered() {
            bits.extend(*check_group(place, group)?);
        }
        if groups.0.len() != GROUPS {
            let what = format!(
                "the share has {} groups of {GROUP_CHARS} characters, not {GROUPS}",
                groups.0.len()
            );
            return Err(mistyped(&what));
        }
        Share::from_bytes(pack(&bits))
    }

    fn from_bytes(bytes: Zeroizing<[u8; SHARE_BYTES]>) -> Result<Share> {
        let share = Share(bytes);
        if share.0[CHECKSUM_AT..] != checksum(&share.0) {
            return Err(mistyped(
                "each group could be right, but together they are not the share",
            ));
        }
        if share.0[0] != VERSION {
            return Err(mistyped(&format!(
                "the share is of version {}, not {VERSION}",
                share.0[0]
            )));
        }
        let (threshold, of) = (share.threshold(), share.of());
        if threshold < THRESHOLD_MIN || threshold > of || of > SHARES_MAX || !(1..=of).contains(&share.number()) {
            return Err(mistyped("its number, threshold and count do not fit together"));
        }
        Ok(share)
    }

    /// The groups, four on a line; what a person copies by hand.
    pub fn to_text(&self) -> Zeroizing<String> {
        let values = unpack(&self.0);
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_CHARS + 1)));
        for (place, group) in values.chunks(CONTENT_CHARS).enumerate() {
            for value in group.iter().chain([&check(place, group)]) {
                text.push(char::from(ALPHABET[usize::from(*value) & 31]));
            }
            text.push(if place % LINE_GROUPS == LINE_GROUPS - 1 {
                '\n'
            } else {
                '-'
            });
        }
        text
    }

    /// [`Share::to_text`] between the lines that mark it on a sheet.
    pub fn to_block(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{BEGIN}\n{}{END}\n", *self.to_text()))
    }

    /// Its number, 1 to [`Share::of`].
    pub fn number(&self) -> u8 {
        self.0[11]
    }

    /// How many shares restore the key.
    pub fn threshold(&self) -> u8 {
        self.0[9]
    }

    /// How many shares were made.
    pub fn of(&self) -> u8 {
        self.0[10]
    }

    /// The backup that it belongs to.
    pub fn backup_id(&self) -> BackupId {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[1..9]);
        BackupId(id)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &*self.0
    }

    pub(super) fn point(&self) -> blahaj::Share {
        let mut bytes = Zeroizing::new(vec![self.number()]);
        bytes.extend_from_slice(&self.0[SECRET]);
        // It fails for less than two bytes only.
        blahaj::Share::try_from(bytes.as_slice()).unwrap_or_else(|_| unreachable!("33 bytes"))
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of {}, hidden)", self.number(), self.of())
    }
}

/// Checks one line of four groups, 0 to 3, while the others are still to be typed. Error: [`Code::ShareMistyped`].
pub fn check_line(line: usize, text: &str) -> Result<()> {
    let groups = Groups::of(text);
    for (at, group) in groups.0.iter().enumerate() {
        check_group(line * LINE_GROUPS + at, group)?;
    }
    if groups.0.len() == LINE_GROUPS {
        return Ok(());
    }
    let what = format!(
        "line {} has {LINE_GROUPS} groups of {GROUP_CHARS} characters, not {}",
        line + 1,
        groups.0.len()
    );
    Err(mistyped(&what))
}

/// The groups as they were typed, without what separates them; secret.
struct Groups(Vec<Zeroizing<Vec<u8>>>);

impl Groups {
    fn of(text: &str) -> Groups {
        let is_separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'-';
        let parts: Vec<&[u8]> = text
            .as_bytes()
            .split(is_separator)
            .filter(|part| !part.is_empty())
            .collect();
        // Where a person kept the groups apart, a missing character is in the group that lacks it.
        let kept_apart = parts.len() > 1 && parts.iter().all(|part| part.len() <= GROUP_CHARS + 1);
        if kept_apart {
            return Groups(parts.iter().map(|part| Zeroizing::new(part.to_vec())).collect());
        }
        let together = Zeroizing::new(parts.concat());
        Groups(
            together
                .chunks(GROUP_CHARS)
                .map(|group| Zeroizing::new(group.to_vec()))
                .collect(),
        )
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.0.iter().take(GROUPS).map(|group| group.as_slice()).enumerate()
    }
}

fn between_marks(text: &str) -> Result<&str> {
    let Some((_, rest)) = text.split_once(BEGIN) else {
        return Ok(text);
    };
    let block = rest.split_once(END).map(|(block, _)| block);
    block.ok_or_else(|| mistyped("the line that ends the share is missing"))
}

/// The five values of a group whose check fits.
fn check_group(place: usize, group: &[u8]) -> Result<Zeroizing<[u8; CONTENT_CHARS]>> {
    let wrong = |why: &str| {
        let (line, at) = (place / LINE_GROUPS + 1, place % LINE_GROUPS + 1);
        mistyped(&format!("group {} (line {line}, number {at}) {why}", place + 1))
    };
    if group.len() != GROUP_CHARS {
        return Err(wrong(&format!("has {} characters, not {GROUP_CHARS}", group.len())));
    }
    let mut values = Zeroizing::new([0; GROUP_CHARS]);
    for (value, character) in values.iter_mut().zip(group) {
        *value = value_of(*character).ok_or_else(|| wrong("has a character that no share has"))?;
    }
    let mut content = Zeroizing::new([0; CONTENT_CHARS]);
    content.copy_from_slice(&values[..CONTENT_CHARS]);
    if check(place, &*content) != values[CONTENT_CHARS] {
        return Err(wrong("is not what the sheet says, or stands in the wrong place"));
    }
    Ok(content)
}

fn value_of(character: u8) -> Option<u8> {
    let plain = match character.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    let at = ALPHABET.iter().position(|letter| *letter == plain)?;
    u8::try_from(at).ok()
}

/// The value of the sixth character.
fn check(place: usize, content: &[u8]) -> u8 {
    let place = u8::try_from(place % 32).unwrap_or_default();
    let weighted = content
        .iter()
        .zip(WEIGHTS)
        .map(|(value, weight)| multiply(*value, weight));
    weighted.fold(multiply(place, PLACE_WEIGHT), |sum, term| sum ^ term)
}

/// Multiplication in GF(2^5) with x^5 + x^2 + 1.
fn multiply(a: u8, b: u8) -> u8 {
    let product = (0..5)
        .filter(|bit| b >> bit & 1 == 1)
        .fold(0u16, |sum, bit| sum ^ u16::from(a) << bit);
    let reduced = (5..9).rev().fold(product, |left, bit| match left >> bit & 1 {
        1 => left ^ 0b10_0101 << (bit - 5),
        _ => left,
    });
    (reduced & 31) as u8
}

/// The first six bytes of SHA-256 over all that precedes.
fn checksum(bytes: &[u8; SHARE_BYTES]) -> [u8; SHARE_BYTES - CHECKSUM_AT] {
    let mut short = [0; SHARE_BYTES - CHECKSUM_AT];
    short.copy_from_slice(&Sha256::of(&bytes[..CHECKSUM_AT])[..SHARE_BYTES - CHECKSUM_AT]);
    short
}

/// Five bits a value, the most significant first.
fn unpack(bytes: &[u8; SHARE_BYTES]) -> Zeroizing<Vec<u8>> {
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let value = |at: usize| (0..5).fold(0, |value, place| value << 1 | bit(at * 5 + place));
    Zeroizing::new((0..SHARE_BYTES * 8 / 5).map(value).collect())
}

fn pack(values: &[u8]) -> Zeroizing<[u8; SHARE_BYTES]> {
    let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
    for (at, value) in values.iter().enumerate() {
        for place in 0..5 {
            let to = at * 5 + place;
            bytes[to / 8] |= (value >> (4 - place) & 1) << (7 - to % 8);
        }
    }
    bytes
}

fn mistyped(what: &str) -> Error {
    Code::ShareMistyped.error(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroize;

    #[test]
    fn the_check_of_a_group_sees_every_slip_and_every_exchange() {
        // It is linear, so it is enough that no difference of one or two characters checks as nothing.
        for (at, weight) in WEIGHTS.iter().enumerate() {
            for value in 1..32 {
                assert_ne!(multiply(value, *weight), 0);
                for other in &WEIGHTS[..at] {
                    assert_ne!(multiply(value, weight ^ other), 0, "exchange in {at}");
                }
                // With the check character itself, whose weight is 1.
                assert_ne!(multiply(value, weight ^ 1), 0);
            }
        }
        let mut places: Vec<u8> = (0..GROUPS).map(|place| check(place, &[0; 5])).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), GROUPS, "each place checks differently");
    }

    #[test]
    fn the_field_is_a_field() {
        for a in 1..32 {
            let mut products: Vec<u8> = (1..32).map(|b| multiply(a, b)).collect();
            products.sort_unstable();
            assert_eq!(products, (1..32).collect::<Vec<u8>>());
        }
        assert_eq!(multiply(2, 16), 5, "x * x^4 = x^2 + 1");
    }

    /// The format, byte for byte; docs/backup.md shows the same share.
    #[test]
    fn a_share_is_golden() {
        let point = blahaj::Share::try_from(&[&[2][..], &[0x11; 32]].concat()[..]).unwrap();
        let share = Share::new(BackupId([1, 2, 3, 4, 5, 6, 7, 8]), 3, 5, &point);
        let expected = include_str!("../../tests/data/share.txt");
        assert_eq!(share.to_text().as_str(), expected);
        assert_eq!(Share::parse(expected).unwrap(), share);
        let mut wiped = share.clone();
        wiped.0.zeroize();
        assert_eq!(wiped.as_bytes(), [0; SHARE_BYTES]);
    }
}
