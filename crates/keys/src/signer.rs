//! What can sign, wherever its private key lives, and what it is asked to sign.

use std::ops::Deref;
use std::sync::mpsc;
use std::{fmt, thread};

use trust::SignatureAlgorithm;

use crate::selfcheck::SELF_CHECK;
use crate::{Code, Error, PublicKey, Result};

/// A private key that signs: a file, a hardware token, a service. A [`Job`] goes in, the signature comes out.
///
/// Implementations write [`Signer::make_signature`]; callers use [`Signer::sign`], which verifies what came back, so that
/// a faulty or attacked signer never lets a wrong signature (or one that leaks its key) out.
pub trait Signer {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Where the key is, in a few words for logs and error messages ("file release.pem").
    fn describe(&self) -> String;

    /// Why signatures of this key must never count in production, if there is a reason.
    fn development_only(&self) -> Option<DevelopmentOnly>;

    /// Makes the signature in the form that COSE carries. Not for callers: see [`Signer::sign`].
    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>>;

    /// The algorithm of the key.
    fn algorithm(&self) -> SignatureAlgorithm {
        self.public_key().algorithm()
    }

    /// Signs. [`Code::SelfCheckFailed`] when the signature that came back is wrong.
    fn sign(&self, job: &Job<'_>) -> Result<Signature> {
        accept(self, job, self.make_signature(job)?)
    }

    /// As [`Signer::sign`], for a signer that wants to see more than the bytes that are signed: `object` is the object
    /// itself (a release's manifest, an image's hashed bytes), whose digest `job` names. A signing service demands it,
    /// because it decides by what it reads there and not by what its client says.
    fn sign_shown(&self, job: &Job<'_>, object: &[u8]) -> Result<Signature> {
        let _ = object;
        self.sign(job)
    }

    /// Signs all of these, in this order, or none: every signature is verified before any comes out. One is verified while
    /// the signer is at work on the next, so that a token's session is not idle meanwhile. Errors: the first one of
    /// [`Signer::sign`].
    fn sign_all(&self, jobs: &[Job<'_>]) -> Result<Vec<Signature>> {
        make_and_verify(self, jobs)
    }
}

/// A signer behind a reference, a box or another pointer. Every method goes on to the one behind it, also those that have
/// a body above: a pointer to a signer with a journal must not lead past the journal.
impl<P: Deref<Target: Signer>> Signer for P {
    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        (**self).development_only()
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        (**self).make_signature(job)
    }

    fn sign(&self, job: &Job<'_>) -> Result<Signature> {
        (**self).sign(job)
    }

    fn sign_shown(&self, job: &Job<'_>, object: &[u8]) -> Result<Signature> {
        (**self).sign_shown(job, object)
    }

    fn sign_all(&self, jobs: &[Job<'_>]) -> Result<Vec<Signature>> {
        (**self).sign_all(jobs)
    }
}

/// A signer that is shown the object itself with everything that it signs; see [`Signer::sign_shown`].
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The signer.
    pub signer: &'a dyn Signer,
    /// The object whose digest its jobs name.
    pub object: &'a [u8],
}

impl Signer for Shown<'_> {
    fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    fn describe(&self) -> String {
        self.signer.describe()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        self.signer.development_only()
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        self.sign(job).map(|signature| signature.as_cose().to_vec())
    }

    fn sign(&self, job: &Job<'_>) -> Result<Signature> {
        self.signer.sign_shown(job, self.object)
    }
}

/// What a signer is asked to sign, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The bytes.
    pub content: Content<'a>,
    /// What they are part of: for the person who approves, and for the signing journal.
    pub purpose: &'a Purpose,
}

/// The bytes of a [`Job`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// A message, as COSE signs it: the concatenated parts. Ed25519 takes them as they are (RFC 8032), ECDSA over their
    /// SHA-256.
    Message(&'a [&'a [u8]]),
    /// An image's SHA-256, as MCUboot signs it: ECDSA takes it as the message's digest, Ed25519 and LMS as the message
    /// itself. ML-DSA signs no images.
    Digest(&'a [u8; 32]),
}

/// What a signature is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Purpose {
    /// The kind of thing that is signed.
    pub object: Object,
    /// Which one, in a line for people ("sequence 7, version 1.4.2, class ede90b60-...").
    pub subject: String,
    /// SHA-256 by which it is known: an image's hash, a manifest's digest, the hash of a root's content.
    pub digest: [u8; 32],
}

/// The kinds of things that are signed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Object {
    /// A firmware image, for the bootloader.
    Image,
    /// A release.
    Release,
    /// A trust root.
    Root,
    /// A revocation list.
    RevocationList,
    /// A time file.
    TimeFile,
    /// A record of a ceremony.
    Record,
    /// A certificate of the private CA.
    Certificate,
    /// A list of revoked certificates (CRL).
    CertificateList,
    /// A TLS handshake, by a device's own key.
    Handshake,
}

impl Object {
    /// Its name for people, journals and policies.
    pub const fn name(self) -> &'static str {
        match self {
            Object::Image => "image",
            Object::Release => "release",
            Object::Root => "root",
            Object::RevocationList => "revocation-list",
            Object::TimeFile => "time-file",
            Object::Record => "record",
            Object::Certificate => "certificate",
            Object::CertificateList => "certificate-list",
            Object::Handshake => "handshake",
        }
    }
}

/// The signature, if it is right: nothing but this and [`make_and_verify`] makes a [`Signature`].
pub(crate) fn accept<S: Signer + ?Sized>(signer: &S, job: &Job<'_>, bytes: Vec<u8>) -> Result<Signature> {
    verified(signer.public_key(), job, bytes).ok_or_else(|| wrong(signer))
}

fn make_and_verify<S: Signer + ?Sized>(signer: &S, jobs: &[Job<'_>]) -> Result<Vec<Signature>> {
    let key = signer.public_key();
    let (made, came) = mpsc::channel();
    let verified = thread::scope(|scope| {
        let verify = move || -> Option<Vec<Signature>> {
            let pairs = jobs.iter().zip(came);
            pairs.map(|(job, bytes)| verified(key, job, bytes)).collect()
        };
        let verifier = scope.spawn(verify);
        for job in jobs {
            let bytes = signer.make_signature(job)?;
            // The other end goes at the first wrong signature.
            if made.send(bytes).is_err() {
                break;
            }
        }
        drop(made);
        Ok(verifier.join().unwrap_or(None))
    })?;
    verified.ok_or_else(|| wrong(signer))
}

fn verified(key: &PublicKey, job: &Job<'_>, bytes: Vec<u8>) -> Option<Signature> {
    let algorithm = key.algorithm();
    let verifier = SELF_CHECK.find(algorithm)?;
    let key = key.borrow();
    let right = match job.content {
        Content::Message(parts) => verifier.verify(&key, parts, &bytes),
        Content::Digest(sha256) => verifier.verify_digest(&key, sha256, &bytes),
    };
    right.ok()?;
    Some(Signature { algorithm, bytes })
}

fn wrong<S: Signer + ?Sized>(signer: &S) -> Error {
    Code::SelfCheckFailed.error(format!("{} made a wrong signature", signer.describe()))
}

/// A signature that was verified under its signer's public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    algorithm: SignatureAlgorithm,
    bytes: Vec<u8>,
}

impl Signature {
    /// The form that COSE carries: 64 bytes, R and S, or r and s big-endian; an HSS signature (RFC 8554 section 6.2);
    /// an ML-DSA signature.
    pub fn as_cose(&self) -> &[u8] {
        &self.bytes
    }

    /// The form that X.509 and TLS carry: ECDSA as Ecdsa-Sig-Value in DER (RFC 3279 section 2.2.3), others as they are.
    pub fn to_x509(&self) -> Result<Vec<u8>> {
        if self.algorithm != SignatureAlgorithm::Esp256 {
            return Ok(self.bytes.clone());
        }
        let malformed = |_| Code::SelfCheckFailed.error("the signature has no form that ECDSA knows");
        let signature = p256::ecdsa::Signature::from_slice(&self.bytes).map_err(malformed)?;
        Ok(signature.to_der().as_bytes().to_vec())
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
    /// It is in an encrypted file: whoever copies it and learns the passphrase has the key, and nobody notices.
    File,
    /// It is behind a signing service, which signs without people.
    SigningService,
    /// It is an LMS key that is only files, its counter too: copies that are put back together sign twice with one index and
    /// give the key away. With a counter in a TPM it is a [`DevelopmentOnly::File`] like any other.
    LmsFile,
    /// The token would give it away: it is extractable, or not sensitive.
    Extractable,
}

impl fmt::Display for DevelopmentOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublishedSample(name) => write!(f, "everybody has this key: it is MCUboot's published sample {name}"),
            Self::SigningService => f.write_str("a signing service signs with it, without people"),
            Self::Extractable => {
                f.write_str("the token does not keep the key to itself: it is extractable or not sensitive")
            }
            Self::Unencrypted => f.write_str("the key file is not encrypted: whoever copies it can sign"),
            Self::File => f.write_str("the key is in a file: whoever copies it and learns its passphrase can sign"),
            Self::LmsFile => {
                f.write_str("an LMS key that is only files, its counter too: a copy that is put back gives it away")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::file;

    /// A signer whose hardware flips a bit of the signature with this number.
    struct Faulty {
        key: file::FileKey,
        at: usize,
        made: Cell<usize>,
    }

    impl Faulty {
        fn at(at: usize, algorithm: SignatureAlgorithm) -> Faulty {
            Faulty {
                key: file::generate(algorithm).unwrap(),
                at,
                made: Cell::new(0),
            }
        }
    }

    impl Signer for Faulty {
        fn public_key(&self) -> &PublicKey {
            self.key.public_key()
        }
        fn describe(&self) -> String {
            "token".into()
        }
        fn development_only(&self) -> Option<DevelopmentOnly> {
            None
        }
        fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
            let mut bytes = self.key.make_signature(job)?;
            match job.content {
                _ if self.made.replace(self.made.get() + 1) != self.at => {}
                Content::Message(_) => bytes[40] ^= 1,
                Content::Digest(_) => bytes.truncate(63),
            }
            Ok(bytes)
        }
    }

    const ALGORITHMS: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256];

    fn purpose() -> Purpose {
        Purpose {
            object: Object::Record,
            subject: "a test".into(),
            digest: [7; 32],
        }
    }

    fn jobs(purpose: &Purpose) -> [Job<'_>; 4] {
        let message = Content::Message(&[b"m"]);
        let digest = Content::Digest(&[7; 32]);
        [message, digest, message, digest].map(|content| Job { content, purpose })
    }

    #[test]
    fn a_wrong_signature_never_leaves_the_signer() {
        for algorithm in ALGORITHMS {
            for job in jobs(&purpose()) {
                let faulty = Faulty::at(0, algorithm);
                assert!(faulty.sign(&job).unwrap_err().is(Code::SelfCheckFailed));
                faulty.sign(&job).unwrap();
            }
        }
    }

    #[test]
    fn many_signatures_come_out_together_in_their_order_or_not_at_all() {
        for algorithm in ALGORITHMS {
            let purpose = purpose();
            let jobs = jobs(&purpose);
            let sound = Faulty::at(usize::MAX, algorithm);
            let signatures = sound.sign_all(&jobs).unwrap();
            assert_eq!(signatures.len(), jobs.len());
            for (job, signature) in jobs.iter().zip(&signatures) {
                assert!(verified(sound.public_key(), job, signature.as_cose().to_vec()).is_some());
            }
            for at in 0..jobs.len() {
                let faulty = Faulty::at(at, algorithm);
                assert!(faulty.sign_all(&jobs).unwrap_err().is(Code::SelfCheckFailed), "at {at}");
            }
            assert!(sound.sign_all(&[]).unwrap().is_empty());
        }
    }
}
