//! ML-DSA-65 (FIPS 204) for hosts and Linux devices, by the `ml-dsa` crate.
//!
//! Behind the feature `ml-dsa`: verification takes 156 KB of stack with that crate, which no microcontroller has; what
//! protects those is LMS. Pure mode with an empty context, as in COSE (RFC 9964) and certificates (RFC 9881). It signs
//! no images: a bootloader could not verify them.

use crate::alg::{BadSignature, SignatureAlgorithm, Verifier, WeakKey};
use codec::cose::{ALG_ML_DSA_65, PublicKey};
use ml_dsa::signature::MultipartVerifier;
use ml_dsa::{EncodedVerifyingKey, MlDsa65 as Set, Signature, VerifyingKey};

/// ML-DSA with the parameter set of security category 3.
#[derive(Clone, Copy, Debug)]
pub struct MlDsa65;

impl MlDsa65 {
    /// The key. Every string of the right length is one (FIPS 204, algorithm 23).
    fn key(key: &PublicKey) -> Option<VerifyingKey<Set>> {
        let PublicKey::MlDsa { algorithm, public } = key else {
            return None;
        };
        let encoded = EncodedVerifyingKey::<Set>::try_from(*public).ok()?;
        (*algorithm == ALG_ML_DSA_65).then(|| VerifyingKey::decode(&encoded))
    }
}

impl Verifier for MlDsa65 {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::MlDsa65
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey> {
        Self::key(key).map(|_| ()).ok_or(WeakKey)
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        let key = Self::key(key).ok_or(BadSignature)?;
        let signature = Signature::<Set>::try_from(signature).map_err(|_| BadSignature)?;
        key.multipart_verify(message, &signature).map_err(|_| BadSignature)
    }

    /// Always refused: ML-DSA signs no images.
    fn verify_digest(&self, _: &PublicKey, _: &[u8; 32], _: &[u8]) -> Result<(), BadSignature> {
        Err(BadSignature)
    }
}
