//! Signatures made elsewhere: by a vault, a paper process or a machine that nothing can be plugged into.
//!
//! The bytes to sign go out as a file, the signature comes back as one. [`ExternalSignature`] is then a [`Signer`] that
//! knows one signature: it gives it to the job that it was made for and to no other.

use base64ct::{Base64, Encoding};
use trust::{PORTABLE, SignatureAlgorithm};

use crate::{Code, Content, DevelopmentOnly, Job, PublicKey, Result, Signer};

/// Bytes of a signature file at most, in any notation.
pub const SIGNATURE_FILE_BYTES_MAX: usize = 16 * 1024;

/// One signature that came from outside, with the public key that it claims.
#[derive(Clone, Debug)]
pub struct ExternalSignature {
    public: PublicKey,
    place: String,
    /// What the file may mean, in the form that COSE carries. Most files mean one thing; verification decides.
    readings: Vec<Vec<u8>>,
}

impl ExternalSignature {
    /// Reads a signature by `public`: the raw bytes (r and s, or R and S), an ECDSA signature in DER, or either of them
    /// in hex or base64. `place` names it in messages ("file release.sig").
    ///
    /// Error: [`Code::SignatureMalformed`] it is none of these.
    pub fn parse(public: PublicKey, file: &[u8], place: impl Into<String>) -> Result<Self> {
        let place = place.into();
        let mut readings: Vec<Vec<u8>> = Vec::new();
        let limited = file.get(..file.len().min(SIGNATURE_FILE_BYTES_MAX)).unwrap_or(&[]);
        for bytes in notations(limited) {
            readings.extend(forms(public.algorithm(), bytes));
        }
        if readings.is_empty() || limited.len() < file.len() {
            let what = format!("{place} is no {} signature", public.algorithm_name());
            return Err(Code::SignatureMalformed.error(what));
        }
        Ok(ExternalSignature {
            public,
            place,
            readings,
        })
    }
}

impl Signer for ExternalSignature {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    /// A published key is; about any other nothing is known here but its public half.
    fn development_only(&self) -> Option<DevelopmentOnly> {
        self.public.published_sample().map(DevelopmentOnly::PublishedSample)
    }

    /// Error: [`Code::SignatureForeign`] the signature is not this key's over this content.
    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let foreign = || {
            let what = format!(
                "the signature in {} is not one over this {} ({}) by the key given",
                self.place,
                job.purpose.object.name(),
                job.purpose.subject
            );
            Code::SignatureForeign.error(what)
        };
        let verifier = PORTABLE.find(self.algorithm()).ok_or_else(foreign)?;
        let key = self.public.borrow();
        let fits = |signature: &&Vec<u8>| match job.content {
            Content::Message(parts) => verifier.verify(&key, parts, signature).is_ok(),
            Content::Digest(sha256) => verifier.verify_digest(&key, sha256, signature).is_ok(),
        };
        self.readings.iter().find(fits).cloned().ok_or_else(foreign)
    }
}

/// The bytes of a file, and what they say as text, if they are hex or base64.
fn notations(file: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let text: Option<String> = std::str::from_utf8(file)
        .ok()
        .map(|text| text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let hex = text.as_deref().and_then(from_hex);
    let base64 = text.as_deref().and_then(|text| Base64::decode_vec(text).ok());
    [Some(file.to_vec()), hex, base64].into_iter().flatten()
}

/// What bytes may be as a signature of this algorithm, in the form that COSE carries.
fn forms(algorithm: SignatureAlgorithm, bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let from_der = match algorithm {
        SignatureAlgorithm::Esp256 => p256::ecdsa::Signature::from_der(&bytes).ok(),
        _ => None,
    };
    let from_der = from_der.map(|signature| signature.to_bytes().to_vec());
    let is_raw = match algorithm {
        SignatureAlgorithm::Esp256 | SignatureAlgorithm::Ed25519 => bytes.len() == 64,
        _ => bytes.len() > 64,
    };
    let raw = is_raw.then_some(bytes);
    from_der.into_iter().chain(raw).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Object, Purpose, file};

    fn purpose() -> Purpose {
        Purpose {
            object: Object::Release,
            subject: "sequence 7".into(),
            digest: [0; 32],
        }
    }

    fn notations_of(bytes: &[u8]) -> [Vec<u8>; 4] {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let base64 = Base64::encode_string(bytes);
        let (first, second) = base64.split_at(40);
        [
            bytes.to_vec(),
            format!("{hex}\n").into(),
            base64.clone().into(),
            format!("{first}\r\n{second}\n").into(),
        ]
    }

    #[test]
    fn every_notation_of_a_signature_is_read_and_fits_its_own_job_only() {
        let purpose = purpose();
        for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
            let key = file::generate(algorithm).unwrap();
            for (content, other) in [
                (Content::Message(&[b"mess", b"age"]), Content::Message(&[b"another"])),
                (Content::Digest(&[7; 32]), Content::Digest(&[8; 32])),
            ] {
                let job = |content| Job {
                    content,
                    purpose: &purpose,
                };
                let made = key.sign(&job(content)).unwrap();
                let mut files: Vec<Vec<u8>> = notations_of(made.as_cose()).into();
                if algorithm == SignatureAlgorithm::Esp256 {
                    let der = p256::ecdsa::Signature::from_slice(made.as_cose()).unwrap().to_der();
                    files.extend(notations_of(der.as_bytes()));
                }
                for file in files {
                    let signature = ExternalSignature::parse(key.public_key().clone(), &file, "file a.sig").unwrap();
                    assert_eq!(signature.sign(&job(content)).unwrap(), made, "{file:?}");
                    let refused = signature.sign(&job(other)).unwrap_err();
                    assert!(refused.is(Code::SignatureForeign), "{refused}");
                    assert!(refused.what.contains("file a.sig") && refused.what.contains("sequence 7"));
                }
            }
        }
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let key = file::generate(SignatureAlgorithm::Esp256).unwrap().public_key().clone();
        let huge = vec![b'0'; SIGNATURE_FILE_BYTES_MAX + 128];
        for bytes in [
            &b""[..],
            &[1; 63],
            b"hello",
            b"0g",
            &b"0".repeat(126),
            &[0x30, 0],
            &huge,
        ] {
            let refused = ExternalSignature::parse(key.clone(), bytes, "file a.sig").unwrap_err();
            assert!(refused.is(Code::SignatureMalformed), "{refused}");
        }
    }
}
