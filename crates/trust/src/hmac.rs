//! HMAC-SHA256 (RFC 2104), and keys derived with it (HKDF, RFC 5869).

use crate::digest::{SHA256_BYTES, Sha256};

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;

/// A running HMAC-SHA256.
#[derive(Clone)]
pub struct HmacSha256 {
    inner: Sha256,
    outer: Sha256,
}

impl HmacSha256 {
    /// The code of nothing yet, under this key of any length.
    pub fn new(key: &[u8]) -> HmacSha256 {
        let hashed = (key.len() > BLOCK_BYTES).then(|| Sha256::of(key));
        let key = hashed.as_ref().map_or(key, |hash| hash.as_slice());
        let mut pad = [0x36; BLOCK_BYTES];
        pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        let mut inner = Sha256::new();
        inner.update(&pad);
        pad.iter_mut().for_each(|pad| *pad ^= 0x36 ^ 0x5c);
        let mut outer = Sha256::new();
        outer.update(&pad);
        HmacSha256 { inner, outer }
    }

    /// Goes on with further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The code of everything.
    pub fn finish(self) -> [u8; SHA256_BYTES] {
        let mut outer = self.outer;
        outer.update(&self.inner.finish());
        outer.finish()
    }

    /// The code of these parts, one after the other.
    pub fn of_parts(key: &[u8], parts: &[&[u8]]) -> [u8; SHA256_BYTES] {
        let mut hmac = HmacSha256::new(key);
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finish()
    }
}

/// Whether two codes are the same, in a time that does not tell where they differ.
pub fn same(one: &[u8; SHA256_BYTES], other: &[u8; SHA256_BYTES]) -> bool {
    let differing = one.iter().zip(other).fold(0, |bits, (one, other)| bits | (one ^ other));
    core::hint::black_box(differing) == 0
}

/// HKDF-Expand (RFC 5869 section 2.3): fills `out` from a secret that is random already. At most 255 * 32 bytes; what
/// would lie behind stays as it is.
pub fn hkdf_expand(secret: &[u8; SHA256_BYTES], info: &[u8], out: &mut [u8]) {
    let mut last: [u8; SHA256_BYTES] = [0; SHA256_BYTES];
    for (block, number) in out.chunks_mut(SHA256_BYTES).zip(1..=255u8) {
        let before: &[u8] = if number == 1 { &[] } else { &last };
        last = HmacSha256::of_parts(secret, &[before, info, &[number]]);
        block.iter_mut().zip(&last).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn rfc4231_vectors() {
        let cases: [(Vec<u8>, Vec<u8>, &str); 5] = [
            (
                [0x0b; 20].to_vec(),
                b"Hi There".to_vec(),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                [0xaa; 20].to_vec(),
                [0xdd; 50].to_vec(),
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                [0xaa; 131].to_vec(),
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                [0xaa; 131].to_vec(),
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs \
                  to be hashed before being used by the HMAC algorithm."
                    .to_vec(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, message, code) in cases {
            assert_eq!(HmacSha256::of_parts(&key, &[&message]).to_vec(), hex(code));
            let (front, back) = message.split_at(3);
            assert_eq!(HmacSha256::of_parts(&key, &[front, back]).to_vec(), hex(code));
        }
    }

    #[test]
    fn rfc5869_vectors() {
        // Test cases 1 and 2, from the PRK on.
        let prk: [u8; 32] = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
            .try_into()
            .unwrap();
        let mut out = [0; 42];
        hkdf_expand(&prk, &hex("f0f1f2f3f4f5f6f7f8f9"), &mut out);
        assert_eq!(
            out.to_vec(),
            hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        );
        let prk: [u8; 32] = hex("06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244")
            .try_into()
            .unwrap();
        let info: Vec<u8> = (0xb0..=0xff).collect();
        let mut out = [0; 82];
        hkdf_expand(&prk, &info, &mut out);
        assert_eq!(
            out.to_vec(),
            hex(
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da327560\
                 0c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            )
        );
    }

    #[test]
    fn every_difference_is_one() {
        let code = [7; 32];
        assert!(same(&code, &code));
        for bit in 0..256 {
            let mut other = code;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!same(&code, &other), "bit {bit}");
        }
    }
}
