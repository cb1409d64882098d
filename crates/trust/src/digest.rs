//! SHA-256, streamed (FIPS 180-4).
//!
//! Digests here are compared with `==`: every digest this project compares is of public bytes (images, manifests, keys)
//! and stands in the clear beside them, so the time a comparison takes tells nobody anything. Keyed codes are compared with
//! [`crate::hmac::same`].

use codec::cbor::Sink;

/// Bytes of a SHA-256 digest.
pub const SHA256_BYTES: usize = 32;

/// Without an operating system, small code counts; everywhere else, the processor's own SHA instructions do.
#[cfg(target_os = "none")]
use crate::sha256::Sha256 as Implementation;
#[cfg(not(target_os = "none"))]
use hosted::Sha256 as Implementation;

/// A running SHA-256.
#[derive(Clone)]
pub struct Sha256(Implementation);

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sha256 {
    /// The hash of nothing yet.
    pub fn new() -> Self {
        Self(Implementation::new())
    }

    /// Hashes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything hashed.
    pub fn finish(self) -> [u8; SHA256_BYTES] {
        self.0.finish()
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> [u8; SHA256_BYTES] {
        Self::of_parts(&[bytes])
    }

    /// The digest of these parts, one after the other.
    pub fn of_parts(parts: &[&[u8]]) -> [u8; SHA256_BYTES] {
        let mut hash = Self::new();
        for part in parts {
            hash.update(part);
        }
        hash.finish()
    }
}

impl Sink for Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

#[cfg(not(target_os = "none"))]
mod hosted {
    use sha2::Digest;

    #[derive(Clone)]
    pub(super) struct Sha256(sha2::Sha256);

    impl Sha256 {
        pub(super) fn new() -> Self {
            Self(sha2::Sha256::new())
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub(super) fn finish(self) -> [u8; super::SHA256_BYTES] {
            self.0.finalize().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 examples: "abc" and the empty message.
    #[test]
    fn published_digests() {
        let abc = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03,
            0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(Sha256::of(b"abc"), abc);
        assert_eq!(Sha256::of_parts(&[b"a", b"", b"bc"]), abc);
        assert_eq!(Sha256::of(b"")[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }
}
