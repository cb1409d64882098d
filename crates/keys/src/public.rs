//! Public keys as the host keeps them: owned, checked, with all their names.

use std::path::Path;

use pkcs8::der::pem::PemLabel;
use pkcs8::der::{Decode, Document};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{EncodePublicKey, LineEnding, ObjectIdentifier};
use trust::{PORTABLE, Sha256, SignatureAlgorithm};

use crate::file;
use crate::{Code, Result};

/// `id-Ed25519` (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `id-ecPublicKey` (RFC 5480).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` (RFC 5480).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `PUBLIC KEY` (RFC 7468 section 13).
pub(crate) const PUBLIC_PEM_LABEL: &str = SubjectPublicKeyInfoRef::PEM_LABEL;

/// A public key that passed [`trust::Verifier::check_key`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PublicKey(Point);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Point {
    Ed25519([u8; 32]),
    Esp256 { x: [u8; 32], y: [u8; 32] },
}

impl PublicKey {
    /// The key of these raw bytes: 32 for Ed25519, 64 (x, then y) for P-256.
    ///
    /// Errors: [`Code::KeyAlgorithm`] another length or algorithm; [`Code::KeyWeak`] no good key.
    pub fn from_raw(algorithm: SignatureAlgorithm, raw: &[u8]) -> Result<Self> {
        let key = trust::raw_key(algorithm, raw).ok_or_else(unsupported)?;
        let verifier = PORTABLE.find(algorithm).ok_or_else(unsupported)?;
        let weak = |_| Code::KeyWeak.error("the public key is weak: anybody could forge its signatures");
        verifier.check_key(&key).map_err(weak)?;
        match key {
            trust::PublicKey::Ed25519 { x } => Ok(PublicKey(Point::Ed25519(*x))),
            trust::PublicKey::P256 { x, y } => Ok(PublicKey(Point::Esp256 { x: *x, y: *y })),
            _ => Err(unsupported()),
        }
    }

    /// The key of a SubjectPublicKeyInfo in DER. Errors: [`Code::NotAPublicKey`] and those of [`PublicKey::from_raw`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self> {
        let not_a_key = |_| Code::NotAPublicKey.error("these bytes are no SubjectPublicKeyInfo");
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(not_a_key)?;
        let bits = spki.subject_public_key.as_bytes().ok_or_else(unsupported)?;
        let curve = || spki.algorithm.parameters_oid().ok();
        match spki.algorithm.oid {
            ED25519 => Self::from_raw(SignatureAlgorithm::Ed25519, bits),
            EC_PUBLIC_KEY if curve() == Some(P256) => {
                let point = p256::PublicKey::from_sec1_bytes(bits).map_err(|_| unsupported())?;
                Self::from_p256(&point)
            }
            _ => Err(unsupported()),
        }
    }

    /// The key of a `PUBLIC KEY` PEM text. Errors as [`PublicKey::from_spki_der`].
    pub fn from_pem(pem: &str) -> Result<Self> {
        match Document::from_pem(pem) {
            Ok((PUBLIC_PEM_LABEL, document)) => Self::from_spki_der(document.as_bytes()),
            _ => Err(Code::NotAPublicKey.error("this is no public key in PEM form")),
        }
    }

    /// Reads the public key that stands in a file (also behind an encrypted private key, as `ampoule key new` writes
    /// it), or the public half of an unencrypted private key.
    ///
    /// Errors: [`Code::PassphraseNeeded`] the file holds an encrypted private key alone; those of [`PublicKey::from_pem`] and of
    /// reading a key file.
    pub fn read(path: &Path) -> Result<Self> {
        file::read_public(path)
    }

    pub(crate) fn from_p256(key: &p256::PublicKey) -> Result<Self> {
        use p256::elliptic_curve::sec1::ToSec1Point;
        let point = key.to_sec1_point(false);
        let raw = point.as_bytes().get(1..).ok_or_else(unsupported)?;
        Self::from_raw(SignatureAlgorithm::Esp256, raw)
    }

    /// The algorithm of the key.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        match self.0 {
            Point::Ed25519(_) => SignatureAlgorithm::Ed25519,
            Point::Esp256 { .. } => SignatureAlgorithm::Esp256,
        }
    }

    /// The name of the algorithm for a person: `ed25519` or `p256`.
    pub fn algorithm_name(&self) -> &'static str {
        match self.0 {
            Point::Ed25519(_) => "ed25519",
            Point::Esp256 { .. } => "p256",
        }
    }

    /// The raw bytes: 32 for Ed25519; 64 (x, then y) for P-256.
    pub fn raw(&self) -> Vec<u8> {
        match &self.0 {
            Point::Ed25519(point) => point.to_vec(),
            Point::Esp256 { x, y } => [*x, *y].concat(),
        }
    }

    /// The key as `trust` takes it.
    pub fn borrow(&self) -> trust::PublicKey<'_> {
        match &self.0 {
            Point::Ed25519(x) => trust::PublicKey::Ed25519 { x },
            Point::Esp256 { x, y } => trust::PublicKey::P256 { x, y },
        }
    }

    /// The key's id in trust roots and releases: its COSE key thumbprint (RFC 9679).
    pub fn thumbprint(&self) -> [u8; 32] {
        trust::thumbprint(&self.borrow())
    }

    /// The key's name in images (TLV KEYHASH): SHA-256 of its SubjectPublicKeyInfo.
    pub fn image_key_hash(&self) -> [u8; 32] {
        Sha256::of(&self.to_spki_der())
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn to_spki_der(&self) -> Vec<u8> {
        self.spki().map(Document::into_vec).unwrap_or_default()
    }

    /// SubjectPublicKeyInfo in PEM, as OpenSSL and imgtool read it.
    pub fn to_pem(&self) -> String {
        let pem = self
            .spki()
            .and_then(|spki| spki.to_pem(PUBLIC_PEM_LABEL, LineEnding::LF).ok());
        pem.unwrap_or_default()
    }

    fn spki(&self) -> Option<Document> {
        match &self.0 {
            Point::Ed25519(point) => ed25519_dalek::pkcs8::PublicKeyBytes(*point).to_public_key_der().ok(),
            Point::Esp256 { x, y } => {
                let sec1 = [&[4][..], x, y].concat();
                p256::PublicKey::from_sec1_bytes(&sec1).ok()?.to_public_key_der().ok()
            }
        }
    }

    /// The upstream name of the key, if it is one whose private half is published.
    pub fn published_sample(&self) -> Option<&'static str> {
        crate::sample::published_name(&self.image_key_hash())
    }
}

fn unsupported() -> crate::Error {
    Code::KeyAlgorithm.error("the key is neither a P-256 nor an Ed25519 key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;

    #[test]
    fn pem_and_der_forms_survive_the_way_there_and_back() {
        for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
            let key = file::generate(algorithm).unwrap().public_key().clone();
            assert_eq!(PublicKey::from_pem(&key.to_pem()).unwrap(), key);
            assert_eq!(PublicKey::from_spki_der(&key.to_spki_der()).unwrap(), key);
            assert_eq!(trust::image_key_hash(&key.borrow()), Some(key.image_key_hash()));
        }
    }

    #[test]
    fn weak_and_foreign_keys_are_refused() {
        let identity = {
            let mut point = [0; 32];
            point[0] = 1;
            point
        };
        let weak = PublicKey::from_raw(SignatureAlgorithm::Ed25519, &identity);
        assert!(weak.unwrap_err().is(Code::KeyWeak));
        let off_curve = PublicKey::from_raw(SignatureAlgorithm::Esp256, &[3; 64]);
        assert!(off_curve.unwrap_err().is(Code::KeyWeak));
        assert!(
            PublicKey::from_raw(SignatureAlgorithm::Ed25519, &[0; 31])
                .unwrap_err()
                .is(Code::KeyAlgorithm)
        );
        assert!(PublicKey::from_pem("hello").unwrap_err().is(Code::NotAPublicKey));
        assert!(
            PublicKey::from_spki_der(&[0x30, 0])
                .unwrap_err()
                .is(Code::NotAPublicKey)
        );
        // X25519 (RFC 8410), which agrees on keys and signs nothing.
        let mut x25519 = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];
        x25519.extend([9; 32]);
        assert!(PublicKey::from_spki_der(&x25519).unwrap_err().is(Code::KeyAlgorithm));
    }
}
