//! Signature algorithms as values.
//!
//! The algorithm belongs to the stored key: what a message says about its algorithm is compared with the key's, never
//! used to choose. A program hands an [`Algorithms`] list to whatever verifies; what is not in the list is not linked,
//! and a board may put a faster implementation of the same algorithm into its own list.

use crate::digest::Sha256;
use crate::lms::HssLms;
use codec::cose;
pub use codec::cose::PublicKey;
use ed25519_compact::x25519;
use p256::ecdsa::signature::hazmat::PrehashVerifier;

/// Bytes of a signature of both algorithms over curves.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes of an ML-DSA-65 public key (FIPS 204, table 2).
pub const ML_DSA_65_PUBLIC_BYTES: usize = 1952;
/// Bytes of an ML-DSA-65 signature.
pub const ML_DSA_65_SIGNATURE_BYTES: usize = 3309;

/// Signature algorithms that a trust root may give a key (profile section 4). ML-DSA-44 (-48) and -87 (-50) are
/// reserved: keys of theirs are read, kept and never counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8032), COSE -19; 64 bytes, R then S.
    Ed25519,
    /// ECDSA on P-256 with SHA-256, COSE -9; 64 bytes, r then s, big-endian, s not normalised.
    Esp256,
    /// HSS-LMS with one level, COSE -46 (RFC 8778): see [`crate::lms`].
    HssLms,
    /// ML-DSA-65 (FIPS 204), pure with an empty context, COSE -49 (RFC 9964). Its verifier needs the feature `ml-dsa`.
    MlDsa65,
}

impl SignatureAlgorithm {
    /// The algorithm of this COSE number, if it is implemented here.
    pub const fn from_cose(number: i64) -> Option<Self> {
        match number {
            cose::ALG_ED25519 => Some(Self::Ed25519),
            cose::ALG_ESP256 => Some(Self::Esp256),
            cose::ALG_HSS_LMS => Some(Self::HssLms),
            cose::ALG_ML_DSA_65 => Some(Self::MlDsa65),
            _ => None,
        }
    }

    /// The COSE number (RFC 9864).
    pub const fn cose(self) -> i64 {
        match self {
            Self::Ed25519 => cose::ALG_ED25519,
            Self::Esp256 => cose::ALG_ESP256,
            Self::HssLms => cose::ALG_HSS_LMS,
            Self::MlDsa65 => cose::ALG_ML_DSA_65,
        }
    }
}

/// The key of these raw bytes: 32 for Ed25519; 64 (x, then y) for P-256; an HSS public key, 52 or 60 bytes; 1952 for
/// ML-DSA-65; `None` for another length. Any bytes pass: [`Verifier::check_key`] says whether they are a good key.
pub fn raw_key(algorithm: SignatureAlgorithm, raw: &[u8]) -> Option<PublicKey<'_>> {
    match algorithm {
        SignatureAlgorithm::Ed25519 => raw.try_into().ok().map(|x| PublicKey::Ed25519 { x }),
        SignatureAlgorithm::Esp256 => {
            let (x, y) = raw.split_first_chunk()?;
            Some(PublicKey::P256 {
                x,
                y: y.try_into().ok()?,
            })
        }
        SignatureAlgorithm::HssLms => matches!(raw.len(), 52 | 60).then_some(PublicKey::HssLms { public: raw }),
        SignatureAlgorithm::MlDsa65 => (raw.len() == ML_DSA_65_PUBLIC_BYTES).then_some(PublicKey::MlDsa {
            algorithm: cose::ALG_ML_DSA_65,
            public: raw,
        }),
    }
}

/// The key is no good public key of its algorithm: not canonical, not on the curve, of small or mixed order; an HSS key
/// with several levels or a parameter set that is not accepted ([`crate::lms::Unsupported`] says which).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WeakKey;

/// The signature is not one of this message by this key, or the key is weak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSignature;

/// A signature that is read once, from front to back, where it lies: one of a few kilobytes in flash needs no buffer.
pub trait Pieces {
    /// Bytes that were not read yet.
    fn left(&self) -> usize;

    /// Fills `out` with the next bytes; refused when there are fewer, or the medium fails.
    fn next(&mut self, out: &mut [u8]) -> Result<(), BadSignature>;
}

impl Pieces for &[u8] {
    fn left(&self) -> usize {
        self.len()
    }

    fn next(&mut self, out: &mut [u8]) -> Result<(), BadSignature> {
        let (now, rest) = self.split_at_checked(out.len()).ok_or(BadSignature)?;
        out.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        *self = rest;
        Ok(())
    }
}

/// Verifies signatures of one algorithm. Total: every input ends in `Ok` or `Err`.
pub trait Verifier: Sync {
    /// The algorithm this verifies.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// Refuses keys that must never be trusted; called when a trust root is accepted.
    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey>;

    /// Verifies the signature of the message, given in parts. Refuses weak keys too.
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature>;

    /// Verifies an MCUboot image's signature of its SHA-256: ECDSA takes the digest as the message's digest, Ed25519 and
    /// LMS as the message itself. Signatures have the same form as in [`Verifier::verify`].
    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature>;

    /// As [`Verifier::verify_digest`], for algorithms whose signatures are too long to be held: the others refuse.
    fn verify_digest_from(
        &self,
        _key: &PublicKey,
        _sha256: &[u8; 32],
        _signature: &mut dyn Pieces,
    ) -> Result<(), BadSignature> {
        Err(BadSignature)
    }
}

/// The algorithms that a program accepts, at most one verifier of each.
#[derive(Clone, Copy)]
pub struct Algorithms<'a>(&'a [&'a dyn Verifier]);

impl<'a> Algorithms<'a> {
    /// These verifiers; of two for the same algorithm the first is used.
    pub const fn new(verifiers: &'a [&'a dyn Verifier]) -> Self {
        Self(verifiers)
    }

    /// The verifier for keys of this algorithm, if the program accepts it.
    pub fn find(&self, algorithm: SignatureAlgorithm) -> Option<&'a dyn Verifier> {
        self.0
            .iter()
            .copied()
            .find(|verifier| verifier.algorithm() == algorithm)
    }

    /// The verifier for this key, if the program accepts its algorithm.
    pub fn for_key(&self, key: &PublicKey) -> Option<&'a dyn Verifier> {
        self.find(SignatureAlgorithm::from_cose(key.algorithm())?)
    }
}

/// Every algorithm of this crate, in portable Rust.
pub const PORTABLE: Algorithms<'static> = Algorithms::new(&[
    &PortableP256,
    &PortableEd25519,
    &HssLms,
    #[cfg(feature = "ml-dsa")]
    &crate::mldsa::MlDsa65,
]);

/// P-256 by the `p256` crate.
#[derive(Clone, Copy, Debug)]
pub struct PortableP256;

impl PortableP256 {
    /// The key as a point on the curve. The uncompressed form cannot express the point at infinity.
    fn point(key: &PublicKey) -> Option<p256::ecdsa::VerifyingKey> {
        let PublicKey::P256 { x, y } = key else { return None };
        let mut sec1 = [4; 65];
        let (head, tail) = sec1.split_last_chunk_mut::<32>()?;
        *tail = **y;
        *head.last_chunk_mut::<32>()? = **x;
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&sec1).ok()
    }
}

impl Verifier for PortableP256 {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Esp256
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey> {
        Self::point(key).map(|_| ()).ok_or(WeakKey)
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify_digest(key, &Sha256::of_parts(message), signature)
    }

    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature> {
        // `from_slice` refuses r or s that is 0 or not below the group order; both s and n - s pass.
        let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| BadSignature)?;
        let point = Self::point(key).ok_or(BadSignature)?;
        point.verify_prehash(sha256, &signature).map_err(|_| BadSignature)
    }
}

/// Ed25519 by `ed25519-compact`, made strict.
///
/// Required (profile section 4): S below L, the cofactorless equation `[S]B = R + [k]A`, canonical encodings, and no A or
/// R of small order. `ed25519-compact` checks all of this except that it tests the equation only up to a point of small
/// order (`[8][S]B = [8]R + [8][k]A`). Where A and R both lie in the group of prime order, so does their difference to
/// `[S]B`, and then the two equations are the same. So A and R are both required to lie there: see `in_prime_group`.
/// Every key and every R made by RFC 8032 does.
#[derive(Clone, Copy, Debug)]
pub struct PortableEd25519;

impl Verifier for PortableEd25519 {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Ed25519
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey> {
        let PublicKey::Ed25519 { x: point } = key else {
            return Err(WeakKey);
        };
        in_prime_group(point).then_some(()).ok_or(WeakKey)
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        let PublicKey::Ed25519 { x: point } = key else {
            return Err(BadSignature);
        };
        let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| BadSignature)?;
        let parsed = ed25519_compact::Signature::new(*signature);
        let mut state = ed25519_compact::PublicKey::new(**point)
            .verify_incremental(&parsed)
            .map_err(|_| BadSignature)?;
        for part in message {
            state.absorb(part);
        }
        state.verify().map_err(|_| BadSignature)?;
        let r = signature.first_chunk::<32>().ok_or(BadSignature)?;
        (in_prime_group(r) && in_prime_group(point))
            .then_some(())
            .ok_or(BadSignature)
    }

    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify(key, &[sha256], signature)
    }
}

/// L + 1, little-endian, with L the order of the base point (RFC 8032 section 5.1).
const L_PLUS_1: [u8; 32] = [
    0xee, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Whether these bytes are the canonical encoding of a point whose order is L exactly.
///
/// P has a part T of order 1, 2, 4 or 8, and `[L + 1]P = P + [L]T`. On the Montgomery curve P and -P share one u, so
/// `u([L + 1]P) = u(P)` says `[L]T = 0`, hence T = 0 because L is odd, or `[L + 2]P = 0`, which would make the order of P
/// divide 8 (L is prime and does not divide L + 2); such P are refused before.
fn in_prime_group(encoded: &[u8; 32]) -> bool {
    let point = ed25519_compact::PublicKey::new(*encoded);
    // Refuses what is not canonical, not on the curve, or of small order.
    if point.validate().is_err() {
        return false;
    }
    let Ok(u) = x25519::PublicKey::from_ed25519(&point) else {
        return false;
    };
    u.unclamped_mul(&x25519::SecretKey::new(L_PLUS_1))
        .is_ok_and(|product| *product == *u)
}
