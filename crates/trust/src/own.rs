//! The one private key that is a device's own: made on it, and never outside.

use crate::digest::Sha256;
use crate::entropy::{Entropy, Tested};
use codec::Reason;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the private key.
pub const OWN_KEY_BYTES: usize = 32;
/// Bytes of its public key: x, then y.
pub const OWN_PUBLIC_BYTES: usize = 64;
/// Candidates that are tried. One in 2^32 is no key: more than one in a row does not happen to a source that works.
const CANDIDATES_MAX: usize = 4;

/// An ECDSA key on P-256. Signatures are deterministic (RFC 6979): no randomness is needed, so none can fail.
pub struct OwnKey(SigningKey);

impl OwnKey {
    /// A new key, the number itself from a source that passed its tests (FIPS 186-5 appendix A.2.2, by rejection).
    ///
    /// Errors: 1104 the source does not answer; 1105 it failed its tests.
    pub fn generate<E: Entropy>(entropy: &mut Tested<E>) -> Result<OwnKey, Reason> {
        for _ in 0..CANDIDATES_MAX {
            let secret = Zeroizing::new(entropy.seed()?);
            if let Ok(key) = OwnKey::from_bytes(&secret) {
                return Ok(key);
            }
        }
        Err(Reason::EntropyUnhealthy)
    }

    /// The key that these bytes are, big-endian. Error: 1102, zero or too large, as no key of ours is.
    pub fn from_bytes(secret: &[u8; OWN_KEY_BYTES]) -> Result<OwnKey, Reason> {
        let key = SigningKey::from_slice(secret).map_err(|_| Reason::SealedDamaged)?;
        Ok(OwnKey(key))
    }

    /// Its bytes, to be sealed.
    pub fn to_bytes(&self) -> Zeroizing<[u8; OWN_KEY_BYTES]> {
        let mut bytes = self.0.to_bytes();
        let secret = Zeroizing::new(bytes.into());
        bytes.zeroize();
        secret
    }

    /// Its public key: x, then y.
    pub fn public(&self) -> [u8; OWN_PUBLIC_BYTES] {
        let mut public = [0; OWN_PUBLIC_BYTES];
        let point = self.0.verifying_key().to_sec1_point(false);
        if let Some((_, coordinates)) = point.as_bytes().split_first() {
            public.copy_from_slice(coordinates);
        }
        public
    }

    /// Signs the SHA-256 of a message: r, then s. Error: 1103, which no key and no digest lead to.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], Reason> {
        let signed: Result<Signature, _> = self.0.sign_prehash(&Sha256::of(message));
        Ok(signed.map_err(|_| Reason::VaultFailed)?.to_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6979 appendix A.2.5, P-256 with SHA-256, message "sample".
    #[test]
    fn it_signs_as_rfc_6979_says() {
        let secret = *b"\xc9\xaf\xa9\xd8\x45\xba\x75\x16\x6b\x5c\x21\x57\x67\xb1\xd6\x93\x4e\x50\xc3\xdb\x36\xe8\x9b\x12\x7b\x8a\x62\x2b\x12\x0f\x67\x21";
        let key = OwnKey::from_bytes(&secret).unwrap();
        assert_eq!(*key.to_bytes(), secret);
        assert_eq!(key.public()[..4], [0x60, 0xfe, 0xd4, 0xba]);
        let signature = key.sign(b"sample").unwrap();
        assert_eq!(signature[..4], [0xef, 0xd4, 0x8b, 0x2a]);
        assert_eq!(signature[32..36], [0xf7, 0xcb, 0x1c, 0x94]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for secret in [[0; 32], [0xff; 32]] {
            assert_eq!(OwnKey::from_bytes(&secret).err(), Some(Reason::SealedDamaged));
        }
    }
}
