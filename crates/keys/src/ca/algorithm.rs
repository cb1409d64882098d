//! Signatures in X.509: their names, and their form there and back.

use pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use rustls_pki_types as pki_types;
use trust::{PORTABLE, SignatureAlgorithm};
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Any, Decode, Encode, Tag};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::{Code, Content, Error, Job, Object, PublicKey, Purpose, Result, Signer};

/// A signature's algorithm as certificates name it. Error: [`Code::KeyAlgorithm`], for keys that sign no certificates.
pub(super) fn identifier(key: &PublicKey) -> Result<AlgorithmIdentifierOwned> {
    use x509_cert::der::oid::db::{rfc5912::ECDSA_WITH_SHA_256, rfc8410::ID_ED_25519};
    let oid = match key.algorithm() {
        // RFC 5758 section 3.2: without parameters.
        SignatureAlgorithm::Esp256 => ECDSA_WITH_SHA_256,
        // RFC 8410 section 3.
        SignatureAlgorithm::Ed25519 => ID_ED_25519,
        _ => {
            let what = format!(
                "a key of the algorithm {} signs no certificates here",
                key.algorithm_name()
            );
            return Err(Code::KeyAlgorithm.error(what).advise("Use a P-256 or Ed25519 key."));
        }
    };
    Ok(AlgorithmIdentifierOwned { oid, parameters: None })
}

/// Signs the DER of what is to be signed, and gives the three of them as one: the body of a certificate or CRL.
pub(super) fn sign(signer: &dyn Signer, object: Object, subject: String, tbs: &[u8]) -> Result<Vec<u8>> {
    sign_all(signer, object, &[(subject, tbs)]).map(|signed| signed.concat())
}

/// As [`sign`], for several with their subjects, all of them or none.
pub(super) fn sign_all(signer: &dyn Signer, object: Object, all: &[(String, &[u8])]) -> Result<Vec<Vec<u8>>> {
    let purpose = |(subject, tbs): &(String, &[u8])| Purpose {
        object,
        subject: subject.clone(),
        digest: trust::Sha256::of(tbs),
    };
    let purposes: Vec<Purpose> = all.iter().map(purpose).collect();
    let messages: Vec<[&[u8]; 1]> = all.iter().map(|(_, tbs)| [*tbs]).collect();
    let jobs = purposes.iter().zip(&messages).map(|(purpose, message)| Job {
        content: Content::Message(message),
        purpose,
    });
    let signatures = signer.sign_all(&jobs.collect::<Vec<_>>())?;
    let identifier = identifier(signer.public_key())?;
    let pairs = all.iter().zip(&signatures);
    pairs
        .map(|((_, tbs), signature)| together(tbs, &identifier, &signature.to_x509()?))
        .collect()
}

/// SIGNED{}, RFC 5912: the bytes that were signed, the algorithm, the signature.
pub(super) fn together(tbs: &[u8], algorithm: &AlgorithmIdentifierOwned, signature: &[u8]) -> Result<Vec<u8>> {
    let encoded = || {
        let signature = BitString::from_bytes(signature)?.to_der()?;
        Any::new(Tag::Sequence, [tbs, &algorithm.to_der()?, &signature].concat())?.to_der()
    };
    encoded().map_err(unencodable)
}

/// Whether a signature, in the form of X.509, is one of the key over the message.
pub(super) fn is_signature(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let raw = match key.algorithm() {
        SignatureAlgorithm::Esp256 => match p256::ecdsa::Signature::from_der(signature) {
            Ok(signature) => signature.to_bytes().to_vec(),
            Err(_) => return false,
        },
        _ => signature.to_vec(),
    };
    let verifier = PORTABLE.find(key.algorithm());
    verifier.is_some_and(|verifier| verifier.verify(&key.borrow(), &[message], &raw).is_ok())
}

/// What the path verification may ask for: the project's own verifiers under the names of X.509.
pub(super) const VERIFIERS: &[&dyn SignatureVerificationAlgorithm] = &[
    &Verifier {
        algorithm: SignatureAlgorithm::Esp256,
        key: alg_id::ECDSA_P256,
        signature: alg_id::ECDSA_SHA256,
    },
    &Verifier {
        algorithm: SignatureAlgorithm::Ed25519,
        key: alg_id::ED25519,
        signature: alg_id::ED25519,
    },
];

#[derive(Debug)]
struct Verifier {
    algorithm: SignatureAlgorithm,
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Verifier {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let raw = match self.algorithm {
            // An uncompressed point.
            SignatureAlgorithm::Esp256 => key.strip_prefix(&[4]).ok_or(InvalidSignature)?,
            _ => key,
        };
        let key = PublicKey::from_raw(self.algorithm, raw).map_err(|_| InvalidSignature)?;
        match is_signature(&key, message, signature) {
            true => Ok(()),
            false => Err(InvalidSignature),
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// A value that DER cannot carry: a fault of ours, since every length is checked before.
pub(super) fn unencodable(error: impl std::fmt::Display) -> Error {
    Code::CertificateMalformed.error(format!("what is to be signed cannot be encoded: {error}"))
}

/// The bytes of `SEQUENCE { first, … }`, cut into its first element as it stands and the rest.
pub(super) fn first_of(sequence: &[u8]) -> Option<&[u8]> {
    use x509_cert::der::{Header, Reader, SliceReader};
    let mut reader = SliceReader::new(sequence).ok()?;
    Header::decode(&mut reader).ok()?;
    reader.tlv_bytes().ok()
}
