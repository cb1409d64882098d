//! P-256 in C and Cortex-M4 assembly, fifteen times as fast as the portable crate and half its size.
//!
//! The same algorithm as `trust::alg::PortableP256`, so a board puts one or the other into its list. The core needs the
//! floating point unit (it keeps intermediate values there), which cortex-m-rt switches on before `main`.

use codec::cose::PublicKey;
use p256_cortex_m4::{PublicKey as Point, Signature};
use trust::alg::{BadSignature, SIGNATURE_BYTES, SignatureAlgorithm, Verifier, WeakKey};
use trust::digest::Sha256;

/// First byte of an uncompressed point (SEC 1, section 2.3.3).
const SEC1_UNCOMPRESSED: u8 = 4;

/// P-256 by `p256-cortex-m4`.
#[derive(Clone, Copy, Debug)]
pub struct CortexM4P256;

impl Verifier for CortexM4P256 {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Esp256
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey> {
        point(key).map(|_| ()).ok_or(WeakKey)
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify_digest(key, &Sha256::of_parts(message), signature)
    }

    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature> {
        let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| BadSignature)?;
        // The wrapper checks the range of r twice and never that of s; the C core checks both again before it uses
        // them (`p256_verify`, `P256_check_range_n`).
        let signature = Signature::from_untagged_bytes(signature).map_err(|_| BadSignature)?;
        let point = point(key).ok_or(BadSignature)?;
        if point.verify_prehashed(sha256, &signature) {
            Ok(())
        } else {
            Err(BadSignature)
        }
    }
}

/// The key as a point; the core refuses coordinates out of range and points off the curve.
fn point(key: &PublicKey) -> Option<Point> {
    let PublicKey::P256 { x, y } = key else { return None };
    let mut sec1 = [SEC1_UNCOMPRESSED; 65];
    let (head, tail) = sec1.split_last_chunk_mut::<32>()?;
    *tail = **y;
    *head.last_chunk_mut::<32>()? = **x;
    Point::from_sec1_bytes(&sec1).ok()
}
