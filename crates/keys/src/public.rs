//! Public keys as the host keeps them: owned, checked, with all their names.

use std::path::Path;

use pkcs8::der::pem::PemLabel;
use pkcs8::der::{Decode, Document};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{EncodePublicKey, LineEnding, ObjectIdentifier};
use trust::{PORTABLE, Sha256, SignatureAlgorithm, lms};

use crate::{Code, Result, file, mldsa};

/// `id-Ed25519` (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `id-ecPublicKey` (RFC 5480).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` (RFC 5480).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `id-alg-hss-lms-hashsig` (RFC 9802).
pub(crate) const HSS_LMS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.17");
/// SubjectPublicKeyInfo of ML-DSA-65 up to its 1952 bytes (RFC 9881 section 4).
const SPKI_ML_DSA_65: [u8; 22] = [
    0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12, 0x03, 0x82,
    0x07, 0xa1, 0x00,
];
/// SubjectPublicKeyInfo of HSS-LMS up to its bytes; the second and the second to last are lengths (RFC 9802 section 4).
const SPKI_HSS_LMS: [u8; 20] = [
    0x30, 0x12, 0x30, 0x0d, 0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x03, 0x11, 0x03, 0x01,
    0x00,
];
/// `PUBLIC KEY` (RFC 7468 section 13).
pub(crate) const PUBLIC_PEM_LABEL: &str = SubjectPublicKeyInfoRef::PEM_LABEL;

/// A public key that passed [`trust::Verifier::check_key`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PublicKey(Point);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Point {
    Ed25519([u8; 32]),
    Esp256 {
        x: [u8; 32],
        y: [u8; 32],
    },
    /// One level, 52 or 60 bytes.
    HssLms(Vec<u8>),
    MlDsa65(Vec<u8>),
}

impl PublicKey {
    /// The key of these raw bytes: 32 for Ed25519; 64 (x, then y) for P-256; an HSS public key; 1952 for ML-DSA-65.
    ///
    /// Errors: [`Code::KeyAlgorithm`] another length or algorithm; [`Code::KeyWeak`] no good key.
    pub fn from_raw(algorithm: SignatureAlgorithm, raw: &[u8]) -> Result<Self> {
        if algorithm == SignatureAlgorithm::HssLms {
            let refused =
                |why: lms::Unsupported| Code::KeyAlgorithm.error(format!("the LMS key is not accepted: {why}"));
            lms::Tree::of(raw).map_err(refused)?;
        }
        let key = trust::raw_key(algorithm, raw).ok_or_else(unsupported)?;
        let verifier = PORTABLE.find(algorithm).ok_or_else(unsupported)?;
        let weak = |_| Code::KeyWeak.error("the public key is weak: anybody could forge its signatures");
        verifier.check_key(&key).map_err(weak)?;
        match key {
            trust::PublicKey::Ed25519 { x } => Ok(PublicKey(Point::Ed25519(*x))),
            trust::PublicKey::P256 { x, y } => Ok(PublicKey(Point::Esp256 { x: *x, y: *y })),
            trust::PublicKey::HssLms { public } => Ok(PublicKey(Point::HssLms(public.to_vec()))),
            trust::PublicKey::MlDsa { public, .. } => Ok(PublicKey(Point::MlDsa65(public.to_vec()))),
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
            HSS_LMS => Self::from_raw(SignatureAlgorithm::HssLms, bits),
            mldsa::OID => Self::from_raw(SignatureAlgorithm::MlDsa65, bits),
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
            Point::HssLms(_) => SignatureAlgorithm::HssLms,
            Point::MlDsa65(_) => SignatureAlgorithm::MlDsa65,
        }
    }

    /// The name of the algorithm for a person: `ed25519`, `p256`, `ml-dsa-65`, or as `lms-h10-w4` (with 24-byte hashes
    /// `lms192-h10-w4`).
    pub fn algorithm_name(&self) -> &'static str {
        match &self.0 {
            Point::Ed25519(_) => "ed25519",
            Point::Esp256 { .. } => "p256",
            Point::HssLms(public) => lms_name(public),
            Point::MlDsa65(_) => "ml-dsa-65",
        }
    }

    /// The raw bytes, as [`PublicKey::from_raw`] takes them.
    pub fn raw(&self) -> Vec<u8> {
        match &self.0 {
            Point::Ed25519(point) => point.to_vec(),
            Point::Esp256 { x, y } => [*x, *y].concat(),
            Point::HssLms(public) | Point::MlDsa65(public) => public.clone(),
        }
    }

    /// The key as `trust` takes it.
    pub fn borrow(&self) -> trust::PublicKey<'_> {
        match &self.0 {
            Point::Ed25519(x) => trust::PublicKey::Ed25519 { x },
            Point::Esp256 { x, y } => trust::PublicKey::P256 { x, y },
            Point::HssLms(public) => trust::PublicKey::HssLms { public },
            Point::MlDsa65(public) => trust::PublicKey::MlDsa {
                algorithm: SignatureAlgorithm::MlDsa65.cose(),
                public,
            },
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
            Point::HssLms(public) => {
                let mut head = SPKI_HSS_LMS;
                head[1] += public.len() as u8;
                head[18] += public.len() as u8;
                Document::try_from([&head, &public[..]].concat()).ok()
            }
            Point::MlDsa65(public) => Document::try_from([&SPKI_ML_DSA_65, &public[..]].concat()).ok(),
        }
    }

    /// The upstream name of the key, if it is one whose private half is published.
    pub fn published_sample(&self) -> Option<&'static str> {
        crate::sample::published_name(&self.image_key_hash())
    }
}

/// The name of an LMS parameter set.
fn lms_name(public: &[u8]) -> &'static str {
    let Ok(lms::Tree { parameters, .. }) = lms::Tree::of(public) else {
        return "hss-lms";
    };
    match (parameters.hash_bytes(), parameters.height(), parameters.width()) {
        (32, 5, 4) => "lms-h5-w4",
        (32, 5, 8) => "lms-h5-w8",
        (32, 10, 4) => "lms-h10-w4",
        (32, 10, 8) => "lms-h10-w8",
        (32, 15, 4) => "lms-h15-w4",
        (32, 15, 8) => "lms-h15-w8",
        (32, 20, 4) => "lms-h20-w4",
        (32, 20, 8) => "lms-h20-w8",
        (24, 5, 4) => "lms192-h5-w4",
        (24, 5, 8) => "lms192-h5-w8",
        (24, 10, 4) => "lms192-h10-w4",
        (24, 10, 8) => "lms192-h10-w8",
        (24, 15, 4) => "lms192-h15-w4",
        (24, 15, 8) => "lms192-h15-w8",
        (24, 20, 4) => "lms192-h20-w4",
        (24, 20, 8) => "lms192-h20-w8",
        _ => "hss-lms",
    }
}

fn unsupported() -> crate::Error {
    Code::KeyAlgorithm.error("the key is neither a P-256, Ed25519, LMS nor ML-DSA-65 key")
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
