//! What can sign, wherever its private key lives.

use std::fmt;

use trust::{PORTABLE, SignatureAlgorithm, Verifier};

use crate::{Code, PublicKey, Result};

/// A private key that signs: a file, a hardware token, a service. A digest or message goes in, the signature comes out.
///
/// Implementations write the two `make_` methods; callers use [`Signer::sign_message`] and [`Signer::sign_digest`], which
/// verify what came back, so that a faulty or attacked signer never lets a wrong signature (or one that leaks its key)
/// out.
pub trait Signer {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Where the key is, in a few words for logs and error messages ("file release.pem").
    fn describe(&self) -> String;

    /// Why signatures of this key must never count in production, if there is a reason.
    fn development_only(&self) -> Option<DevelopmentOnly>;

    /// Signs the concatenated parts: Ed25519 (RFC 8032), or ECDSA over their SHA-256; 64 bytes.
    /// Not for callers: see [`Signer::sign_message`].
    fn make_message_signature(&self, message: &[&[u8]]) -> Result<Vec<u8>>;

    /// Signs a SHA-256 digest as MCUboot does: ECDSA takes it as the message's digest, Ed25519 as the message itself;
    /// 64 bytes. Not for callers: see [`Signer::sign_digest`].
    fn make_digest_signature(&self, sha256: &[u8; 32]) -> Result<Vec<u8>>;

    /// The algorithm of the key.
    fn algorithm(&self) -> SignatureAlgorithm {
        self.public_key().algorithm()
    }

    /// Signs the concatenated parts, as COSE demands it. [`Code::SelfCheckFailed`] when the signature is wrong.
    fn sign_message(&self, message: &[&[u8]]) -> Result<Signature> {
        let signature = Signature {
            algorithm: self.algorithm(),
            bytes: self.make_message_signature(message)?,
        };
        let verified = verifier(self.algorithm())
            .is_some_and(|v| v.verify(&self.public_key().borrow(), message, &signature.bytes).is_ok());
        checked(self.describe(), signature, verified)
    }

    /// Signs an image's SHA-256, as MCUboot demands it. [`Code::SelfCheckFailed`] when the signature is wrong.
    fn sign_digest(&self, sha256: &[u8; 32]) -> Result<Signature> {
        let signature = Signature {
            algorithm: self.algorithm(),
            bytes: self.make_digest_signature(sha256)?,
        };
        let verified = verifier(self.algorithm()).is_some_and(|v| {
            v.verify_digest(&self.public_key().borrow(), sha256, &signature.bytes)
                .is_ok()
        });
        checked(self.describe(), signature, verified)
    }
}

fn verifier(algorithm: SignatureAlgorithm) -> Option<&'static dyn Verifier> {
    PORTABLE.find(algorithm)
}

fn checked(signer: String, signature: Signature, verified: bool) -> Result<Signature> {
    if verified {
        Ok(signature)
    } else {
        Err(Code::SelfCheckFailed.error(format!("{signer} made a wrong signature")))
    }
}

/// A signature that was verified under its signer's public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    algorithm: SignatureAlgorithm,
    bytes: Vec<u8>,
}

impl Signature {
    /// The form that COSE carries: 64 bytes, R and S, or r and s big-endian.
    pub fn as_cose(&self) -> &[u8] {
        &self.bytes
    }

    /// The algorithm of the key that made it.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

/// Why a key is good for development only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DevelopmentOnly {
    /// Its private half is published; the name under which it is known upstream.
    PublishedSample(&'static str),
    /// Its file is not encrypted: whoever copies the file has the key.
    Unencrypted,
}

impl fmt::Display for DevelopmentOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublishedSample(name) => write!(f, "everybody has this key: it is MCUboot's published sample {name}"),
            Self::Unencrypted => f.write_str("the key file is not encrypted: whoever copies it can sign"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    /// A signer whose hardware flips a bit.
    struct Faulty(file::FileKey);

    impl Signer for Faulty {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn describe(&self) -> String {
            "token".into()
        }
        fn development_only(&self) -> Option<DevelopmentOnly> {
            None
        }
        fn make_message_signature(&self, message: &[&[u8]]) -> Result<Vec<u8>> {
            let mut bytes = self.0.make_message_signature(message)?;
            bytes[40] ^= 1;
            Ok(bytes)
        }
        fn make_digest_signature(&self, sha256: &[u8; 32]) -> Result<Vec<u8>> {
            self.0.make_digest_signature(sha256).map(|bytes| bytes[..63].to_vec())
        }
    }

    #[test]
    fn a_wrong_signature_never_leaves_the_signer() {
        for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
            let faulty = Faulty(file::generate(algorithm).unwrap());
            assert!(faulty.sign_message(&[b"m"]).unwrap_err().is(Code::SelfCheckFailed));
            assert!(faulty.sign_digest(&[7; 32]).unwrap_err().is(Code::SelfCheckFailed));
        }
    }
}
