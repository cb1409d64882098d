//! Who checks a signature before it leaves its signer.

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use trust::alg::{PortableEd25519, PortableP256};
use trust::lms::HssLms;
use trust::mldsa::MlDsa65;
use trust::{Algorithms, BadSignature, PublicKey, Sha256, SignatureAlgorithm, Verifier, WeakKey};

/// The algorithms of [`trust::PORTABLE`], ECDSA by another implementation.
pub(crate) const SELF_CHECK: Algorithms<'static> = Algorithms::new(&[&AwsLcP256, &PortableEd25519, &HssLms, &MlDsa65]);

/// P-256 by AWS-LC. A fault in the one implementation does not pass the other, which verifies the finished release; and
/// it takes a third of the time, which everybody notices who signs with a token that is fast itself.
#[derive(Clone, Copy, Debug)]
struct AwsLcP256;

impl Verifier for AwsLcP256 {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Esp256
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey> {
        PortableP256.check_key(key)
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify_digest(key, &Sha256::of_parts(message), signature)
    }

    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature> {
        let PublicKey::P256 { x, y } = key else {
            return Err(BadSignature);
        };
        let sec1 = [&[4][..], *x, *y].concat();
        let digest = Digest::import_less_safe(sha256, &SHA256).map_err(|_| BadSignature)?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, sec1);
        key.verify_digest(&digest, signature).map_err(|_| BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Job, Object, Purpose, Signer, file};

    fn purpose() -> Purpose {
        Purpose {
            object: Object::Record,
            subject: "a test".into(),
            digest: [7; 32],
        }
    }

    #[test]
    fn both_implementations_say_the_same_about_every_changed_bit() {
        let key = file::generate(SignatureAlgorithm::Esp256).unwrap();
        let purpose = purpose();
        let digest = Sha256::of_parts(&[b"release"]);
        let content = Content::Digest(&digest);
        let job = Job {
            content,
            purpose: &purpose,
        };
        let signature = key.make_signature(&job).unwrap();
        let public = key.public_key().borrow();
        let says = |digest: &[u8; 32], signature: &[u8]| {
            let both = [&AwsLcP256 as &dyn Verifier, &PortableP256];
            both.map(|verifier| verifier.verify_digest(&public, digest, signature).is_ok())
        };
        assert_eq!(says(&digest, &signature), [true, true]);
        for bit in 0..512 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(says(&digest, &changed), [false, false], "bit {bit}");
        }
        for bit in 0..256 {
            let mut changed = digest;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(says(&changed, &signature), [false, false], "bit {bit} of the digest");
        }
        for len in [0, 63, 65] {
            let mut resized = signature.clone();
            resized.resize(len, 0);
            assert_eq!(says(&digest, &resized), [false, false], "{len} bytes");
        }
        for zeros in [0..32, 32..64] {
            let mut changed = signature.clone();
            changed[zeros].fill(0);
            assert_eq!(says(&digest, &changed), [false, false], "r or s is 0");
        }
    }

    #[test]
    fn both_implementations_take_both_forms_of_s() {
        let key = file::generate(SignatureAlgorithm::Esp256).unwrap();
        let purpose = purpose();
        let message: &[&[u8]] = &[b"a message ", b"in parts"];
        let content = Content::Message(message);
        let signature = key
            .make_signature(&Job {
                content,
                purpose: &purpose,
            })
            .unwrap();
        let mirrored = p256::ecdsa::Signature::from_slice(&signature).unwrap();
        let (r, s) = mirrored.split_scalars();
        let mirrored = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes())
            .unwrap()
            .to_bytes();
        let public = key.public_key().borrow();
        for signature in [&signature[..], &mirrored] {
            assert!(AwsLcP256.verify(&public, message, signature).is_ok());
            assert!(PortableP256.verify(&public, message, signature).is_ok());
        }
    }
}
