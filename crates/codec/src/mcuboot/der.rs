//! `ECDSA-Sig-Value` (RFC 3279 section 2.2.3) for P-256: the DER form in an image's signature TLV, and r || s.

use crate::Reason;

/// Bytes of r || s for P-256.
pub const RAW_BYTES: usize = 64;
/// Bytes of the DER form at most: a sequence of two integers of 33 bytes.
pub const DER_BYTES_MAX: usize = 72;
/// Bytes of the DER form at least: a sequence of two integers of one byte.
pub const DER_BYTES_MIN: usize = 8;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const SCALAR_BYTES: usize = 32;

/// Reads a signature in strict DER: minimal lengths and integers, not negative, nothing behind.
///
/// Whether r and s are in range is for the verifier. Error: [`Reason::ImageSignature`].
pub fn to_raw(der: &[u8]) -> Result<[u8; RAW_BYTES], Reason> {
    decode(der).ok_or(Reason::ImageSignature)
}

fn decode(der: &[u8]) -> Option<[u8; RAW_BYTES]> {
    let (&[tag, len], content) = der.split_first_chunk()?;
    // All lengths are below 0x80, so their only DER form is the one byte.
    if tag != SEQUENCE || usize::from(len) != content.len() || der.len() > DER_BYTES_MAX {
        return None;
    }
    let mut raw = [0; RAW_BYTES];
    let (r, s) = raw.split_at_mut(SCALAR_BYTES);
    let rest = integer(content, r)?;
    let rest = integer(rest, s)?;
    rest.is_empty().then_some(raw)
}

/// Reads one integer right-aligned into `out`; gives what follows it.
fn integer<'a>(content: &'a [u8], out: &mut [u8]) -> Option<&'a [u8]> {
    let (&[tag, len], rest) = content.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    let magnitude = match *value {
        [0, next, ..] if next >= 0x80 => value.get(1..)?,
        [first, ..] if first < 0x80 && (first != 0 || value.len() == 1) => value,
        _ => return None,
    };
    let start = out.len().checked_sub(magnitude.len())?;
    out.get_mut(start..)?.copy_from_slice(magnitude);
    (tag == INTEGER).then_some(rest)
}

/// A signature in DER.
#[derive(Clone, Copy, Debug)]
pub struct Der {
    bytes: [u8; DER_BYTES_MAX],
    len: u8,
}

impl Der {
    /// The encoded bytes, 8 to 72.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// Writes r || s in DER.
pub fn from_raw(raw: &[u8; RAW_BYTES]) -> Der {
    let (r, s) = raw.split_at(SCALAR_BYTES);
    let mut der = Der {
        bytes: [0; DER_BYTES_MAX],
        len: 0,
    };
    push(&mut der, SEQUENCE);
    push(&mut der, 0);
    push_integer(&mut der, r);
    push_integer(&mut der, s);
    if let Some(len) = der.bytes.get_mut(1) {
        *len = der.len.saturating_sub(2);
    }
    der
}

fn push_integer(der: &mut Der, scalar: &[u8]) {
    let zeros = scalar
        .iter()
        .take_while(|byte| **byte == 0)
        .count()
        .min(SCALAR_BYTES - 1);
    let magnitude = scalar.get(zeros..).unwrap_or(&[]);
    let sign = magnitude.first().is_some_and(|first| *first >= 0x80);
    push(der, INTEGER);
    push(der, magnitude.len() as u8 + u8::from(sign));
    if sign {
        push(der, 0);
    }
    for byte in magnitude {
        push(der, *byte);
    }
}

fn push(der: &mut Der, byte: u8) {
    // 72 bytes hold the longest signature, so the write never misses.
    if let Some(place) = der.bytes.get_mut(usize::from(der.len)) {
        *place = byte;
        der.len += 1;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    fn scalars(r: &[u8], s: &[u8]) -> [u8; 64] {
        let mut raw = [0; 64];
        raw[32 - r.len()..32].copy_from_slice(r);
        raw[64 - s.len()..].copy_from_slice(s);
        raw
    }

    #[test]
    fn shortest_and_longest_forms() {
        let cases: [(&[u8], &[u8], &[u8]); 4] = [
            (&[1], &[2], &[0x30, 6, 2, 1, 1, 2, 1, 2]),
            (&[0], &[0x7f], &[0x30, 6, 2, 1, 0, 2, 1, 0x7f]),
            (&[0x80], &[1, 0], &[0x30, 8, 2, 2, 0, 0x80, 2, 2, 1, 0]),
            (&[0xff, 0], &[0x80, 0], &[0x30, 10, 2, 3, 0, 0xff, 0, 2, 3, 0, 0x80, 0]),
        ];
        for (r, s, der) in cases {
            let raw = scalars(r, s);
            assert_eq!(from_raw(&raw).as_bytes(), der);
            assert_eq!(to_raw(der), Ok(raw));
        }
        let longest = from_raw(&[0xff; 64]);
        assert_eq!(longest.as_bytes().len(), DER_BYTES_MAX);
        assert_eq!(to_raw(longest.as_bytes()), Ok([0xff; 64]));
    }

    #[test]
    fn anything_but_strict_der_is_refused() {
        let too_long = {
            let mut der = std::vec![0x30, 37, 2, 33, 1];
            der.extend([0; 32]);
            der.extend([2, 1, 1]);
            der[1] = (der.len() - 2) as u8;
            der
        };
        let cases: [(&str, &[u8]); 16] = [
            ("empty", &[]),
            ("tag alone", &[0x30]),
            ("no integers", &[0x30, 0]),
            ("one integer", &[0x30, 3, 2, 1, 1]),
            ("three integers", &[0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1]),
            ("trailing byte", &[0x30, 6, 2, 1, 1, 2, 1, 2, 0]),
            ("trailing byte inside", &[0x30, 7, 2, 1, 1, 2, 1, 2, 0]),
            ("sequence too long", &[0x30, 7, 2, 1, 1, 2, 1, 2]),
            ("long form length", &[0x30, 0x81, 6, 2, 1, 1, 2, 1, 2]),
            ("indefinite length", &[0x30, 0x80, 2, 1, 1, 2, 1, 2, 0, 0]),
            ("set, not sequence", &[0x31, 6, 2, 1, 1, 2, 1, 2]),
            ("octet string", &[0x30, 6, 4, 1, 1, 2, 1, 2]),
            ("negative", &[0x30, 6, 2, 1, 0x80, 2, 1, 2]),
            ("padded", &[0x30, 7, 2, 2, 0, 1, 2, 1, 2]),
            ("empty integer", &[0x30, 5, 2, 0, 2, 1, 2]),
            ("integer over 32 bytes", &too_long),
        ];
        for (what, der) in cases {
            assert_eq!(to_raw(der), Err(Reason::ImageSignature), "{what}");
        }
    }

    proptest! {
        #[test]
        fn every_signature_survives_the_way_there_and_back(raw in any::<[u8; 64]>(), r_zeros in 0..33usize, s_zeros in 0..33usize) {
            let mut raw = raw;
            raw[..r_zeros].fill(0);
            raw[32..32 + s_zeros].fill(0);
            let der = from_raw(&raw);
            prop_assert!((DER_BYTES_MIN..=DER_BYTES_MAX).contains(&der.as_bytes().len()));
            prop_assert_eq!(to_raw(der.as_bytes()), Ok(raw));
        }

        #[test]
        fn what_is_accepted_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(raw) = to_raw(&bytes) {
                let der = from_raw(&raw);
                prop_assert_eq!(der.as_bytes(), &bytes[..]);
            }
        }
    }
}
