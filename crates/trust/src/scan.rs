//! Finds things in CBOR that was decoded strictly before: a root or a list that this device accepted.
//!
//! A boot asks a stored root for a handful of keys. The strict decoder would be half of a small bootloader, so what it
//! passed once is only looked up here. Total on any bytes; what cannot be found is absent, and whoever asks treats that
//! as "no": no key, no threshold that could be reached.

use codec::cose::PublicKey;

/// The major types that accepted files contain.
const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// `{1: 1, 3: -19, -1: 6, -2: h'` of an Ed25519 key, up to its 32 bytes.
const COSE_ED25519: [u8; 10] = [0xa4, 0x01, 0x01, 0x03, 0x32, 0x20, 0x06, 0x21, 0x58, 0x20];
/// `{1: 2, 3: -9, -1: 1, -2: h'` of a P-256 key, up to the 32 bytes of x.
const COSE_P256: [u8; 10] = [0xa5, 0x01, 0x02, 0x03, 0x28, 0x20, 0x01, 0x21, 0x58, 0x20];
/// `-3: h'`, up to the 32 bytes of y.
const COSE_P256_Y: [u8; 3] = [0x22, 0x58, 0x20];
/// `{1: 5, 3: -46, -1:` of an HSS-LMS key.
const COSE_HSS_LMS: [u8; 7] = [0xa3, 0x01, 0x05, 0x03, 0x38, 0x2d, 0x20];
/// `{1: 7, 3: -49, -1:` of an ML-DSA-65 key.
#[cfg(feature = "ml-dsa")]
const COSE_ML_DSA_65: [u8; 7] = [0xa3, 0x01, 0x07, 0x03, 0x38, 0x30, 0x20];

/// A position in accepted bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    #[cfg(test)]
    fn new(bytes: &'a [u8]) -> Self {
        Scan(bytes)
    }

    /// The content of a file of the root's family: `[text, bstr content, blocks]`.
    pub(crate) fn file_content(file: &'a [u8]) -> Option<Self> {
        let mut scan = Scan(file);
        scan.count_of(ARRAY)?;
        scan.skip()?;
        scan.bytes().map(Scan)
    }

    /// The value of this key (0 to 23) of the map that starts here; where it is absent: nothing.
    pub(crate) fn member(mut self, key: u8) -> Option<Self> {
        for _ in 0..self.count_of(MAP)? {
            if self.uint()? == u64::from(key) {
                return Some(self);
            }
            self.skip()?;
        }
        None
    }

    pub(crate) fn array(&mut self) -> Option<u32> {
        self.count_of(ARRAY)
    }

    pub(crate) fn map(&mut self) -> Option<u32> {
        self.count_of(MAP)
    }

    pub(crate) fn uint(&mut self) -> Option<u64> {
        match self.head()? {
            (UINT, value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        match self.head()? {
            (BYTES, length) => self.take(length),
            _ => None,
        }
    }

    pub(crate) fn bytes_of<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.bytes()?.try_into().ok()
    }

    /// An array of unsigned integers below 8, as a set of bits.
    pub(crate) fn small_set(mut self) -> Option<u8> {
        let mut set = 0;
        for _ in 0..self.array()? {
            set |= 1u8.checked_shl(u32::try_from(self.uint()?).ok()?)?;
        }
        Some(set)
    }

    /// Whether the array of byte strings that starts here holds these bytes. Unreadable: `None`.
    pub(crate) fn lists(mut self, wanted: &[u8]) -> Option<bool> {
        for _ in 0..self.array()? {
            if self.bytes()? == wanted {
                return Some(true);
            }
        }
        Some(false)
    }

    fn count_of(&mut self, kind: u8) -> Option<u32> {
        let (found, count) = self.head()?;
        (found == kind).then_some(u32::try_from(count).ok()?)
    }

    /// Steps over one item of any type.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut items = 1u32;
        while items > 0 {
            items = items.checked_sub(1)?;
            let (kind, value) = self.head()?;
            match kind {
                BYTES | TEXT => drop(self.take(value)?),
                ARRAY => items = items.checked_add(u32::try_from(value).ok()?)?,
                MAP => items = items.checked_add(u32::try_from(value).ok()?.checked_mul(2)?)?,
                _ => {}
            }
        }
        Some(())
    }

    /// Type and number of the next item.
    fn head(&mut self) -> Option<(u8, u64)> {
        let (first, mut rest) = self.0.split_first()?;
        let info = first & 0x1f;
        let mut value = u64::from(info);
        if info >= 24 {
            let width = 1usize
                .checked_shl(u32::from(info).checked_sub(24)?)
                .filter(|width| *width <= 8)?;
            let (digits, behind) = rest.split_at_checked(width)?;
            value = digits.iter().fold(0, |value, digit| value << 8 | u64::from(*digit));
            rest = behind;
        }
        self.0 = rest;
        Some((first >> 5, value))
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// A key of an algorithm that can be implemented here, from its COSE_Key.
pub(crate) fn public_key(cose_key: &[u8]) -> Option<PublicKey<'_>> {
    if let Some(x) = cose_key.strip_prefix(&COSE_ED25519) {
        return Some(PublicKey::Ed25519 { x: x.try_into().ok()? });
    }
    if let Some(public) = cose_key.strip_prefix(&COSE_HSS_LMS) {
        let public = Scan(public).bytes()?;
        return Some(PublicKey::HssLms { public });
    }
    #[cfg(feature = "ml-dsa")]
    if let Some(public) = cose_key.strip_prefix(&COSE_ML_DSA_65) {
        return Some(PublicKey::MlDsa {
            algorithm: codec::cose::ALG_ML_DSA_65,
            public: Scan(public).bytes()?,
        });
    }
    let (x, rest) = cose_key.strip_prefix(&COSE_P256)?.split_first_chunk()?;
    let y = rest.strip_prefix(&COSE_P256_Y)?;
    Some(PublicKey::P256 {
        x,
        y: y.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn finds_and_skips() {
        // {1: 7, 2: [h'0102', "a", {3: 4}], 5: 2^32}
        let bytes = [
            0xa3, 0x01, 0x07, 0x02, 0x83, 0x42, 0x01, 0x02, 0x61, 0x61, 0xa1, 0x03, 0x04, 0x05, 0x1b, 0, 0, 0, 1, 0, 0,
            0, 0,
        ];
        let scan = Scan::new(&bytes);
        assert_eq!(scan.member(1).and_then(|mut value| value.uint()), Some(7));
        assert_eq!(scan.member(5).and_then(|mut value| value.uint()), Some(1 << 32));
        assert!(scan.member(3).is_none());
        assert!(scan.member(7).is_none());
        let mut array = scan.member(2).unwrap();
        assert_eq!(array.array(), Some(3));
        assert_eq!(array.bytes(), Some(&[1, 2][..]));
        for len in 0..bytes.len() {
            assert!(Scan::new(&bytes[..len]).skip().is_none());
        }
        assert!(Scan::new(&bytes).skip().is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let scan = Scan::new(&bytes);
            let _ = (Scan::file_content(&bytes), scan.small_set(), scan.lists(b"x"), public_key(&bytes));
            let _ = (scan.member(4), { scan }.skip());
        }
    }
}
