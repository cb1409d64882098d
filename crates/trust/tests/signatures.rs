//! Signature verification: published vectors, edge cases made by arithmetic, and agreement with a second implementation.

use ampoule_trust::alg::{Algorithms, PortableEd25519, PortableP256};
use ampoule_trust::{BadSignature, PORTABLE, PublicKey, Sha256, SignatureAlgorithm, Verifier, WeakKey, raw_key};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

/// Ed25519 over a whole message.
fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    PortableEd25519.verify(&PublicKey::Ed25519 { x: key }, &[message], signature)
}

fn dalek_strict(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(key) else {
        return false;
    };
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
        return false;
    };
    key.verify_strict(message, &signature).is_ok()
}

/// The vectors of `vectors/crypto`, one per line: algorithm, verdict, key, message, signature.
#[test]
fn published_vectors() {
    let mut seen = 0;
    for line in include_str!("../../../vectors/crypto/signatures.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<_> = line.split_whitespace().collect();
        let [algorithm, verdict, key, message, signature] = fields[..] else {
            panic!("{line}")
        };
        let algorithm = match algorithm {
            "ed25519" => SignatureAlgorithm::Ed25519,
            "esp256" => SignatureAlgorithm::Esp256,
            other => panic!("{other}"),
        };
        let (key, message, signature) = (hex(key), hex(message.trim_start_matches('-')), hex(signature));
        let key = raw_key(algorithm, &key).unwrap();
        let verified = PORTABLE.for_key(&key).unwrap().verify(&key, &[&message], &signature);
        assert_eq!(verified.is_ok(), verdict == "valid", "{line}");
        seen += 1;
    }
    assert_eq!(seen, 13);
}

/// A message is the concatenation of its parts, and an image's digest is Ed25519's message itself.
#[test]
fn parts_and_digests() {
    use ed25519_dalek::Signer;
    let signer = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public = signer.verifying_key().to_bytes();
    let key = PublicKey::Ed25519 { x: &public };
    let signature = signer.sign(b"one two three").to_bytes();
    assert_eq!(
        PortableEd25519.verify(&key, &[&b"one "[..], b"", b"two three"], &signature),
        Ok(())
    );
    assert_eq!(
        PortableEd25519.verify(&key, &[&b"one "[..], b"two", b"three"], &signature),
        Err(BadSignature)
    );
    let digest = Sha256::of(b"image");
    let signature = signer.sign(&digest).to_bytes();
    assert_eq!(PortableEd25519.verify_digest(&key, &digest, &signature), Ok(()));

    let signer = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let point = signer.verifying_key().to_sec1_point(false);
    let key = raw_key(SignatureAlgorithm::Esp256, &point.as_bytes()[1..]).unwrap();
    let signature: p256::ecdsa::Signature = signer.sign_prehash(&digest).unwrap();
    assert_eq!(PortableP256.verify_digest(&key, &digest, &signature.to_bytes()), Ok(()));
    assert_eq!(
        PortableP256.verify(&key, &[&b"im"[..], b"age"], &signature.to_bytes()),
        Ok(())
    );
    assert_eq!(
        PortableP256.verify(&key, &[&b"im"[..], b"agf"], &signature.to_bytes()),
        Err(BadSignature)
    );
}

/// A key is only ever used with its own algorithm.
#[test]
fn the_key_decides() {
    let ed25519 = PublicKey::Ed25519 { x: &[9; 32] };
    let p256 = PublicKey::P256 {
        x: &[9; 32],
        y: &[9; 32],
    };
    assert_eq!(PortableP256.check_key(&ed25519), Err(WeakKey));
    assert_eq!(PortableEd25519.check_key(&p256), Err(WeakKey));
    assert_eq!(PortableP256.verify(&ed25519, &[b""], &[1; 64]), Err(BadSignature));
    assert_eq!(PortableEd25519.verify(&p256, &[b""], &[1; 64]), Err(BadSignature));
    let lms = PublicKey::HssLms { public: b"lms" };
    let verifier = PORTABLE.for_key(&lms).expect("LMS is among them");
    assert_eq!(verifier.algorithm(), SignatureAlgorithm::HssLms);
    assert_eq!(verifier.check_key(&lms), Err(WeakKey), "and this is none of its keys");
    assert!(Algorithms::new(&[&PortableP256]).for_key(&lms).is_none());
    assert!(raw_key(SignatureAlgorithm::Ed25519, &[0; 31]).is_none());
    assert!(raw_key(SignatureAlgorithm::Esp256, &[0; 65]).is_none());
}

/// A signer that is free to choose its points: public A, secret r, claimed R, and how S is made.
struct Forger {
    secret: Scalar,
    nonce: Scalar,
}

impl Forger {
    fn new(seed: u8) -> Self {
        Forger {
            secret: Scalar::from_bytes_mod_order([seed; 32]),
            nonce: Scalar::from_bytes_mod_order([seed ^ 0x5a; 32]),
        }
    }

    /// `S = nonce + k secret` for `A = secret B + torsion_a` and `R = nonce B + torsion_r`, with k as computed.
    fn sign(&self, torsion_a: EdwardsPoint, torsion_r: EdwardsPoint, message: &[u8]) -> Attempt {
        let a = B * self.secret + torsion_a;
        let r = B * self.nonce + torsion_r;
        let k = challenge(&r, &a, message);
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r.compress().0);
        signature[32..].copy_from_slice(&(self.nonce + k * self.secret).to_bytes());
        Attempt {
            key: a.compress().0,
            signature,
            off_by: torsion_a * k + torsion_r,
        }
    }
}

struct Attempt {
    key: [u8; 32],
    signature: [u8; 64],
    /// `R + k A - S B`: the identity exactly when the cofactorless equation holds.
    off_by: EdwardsPoint,
}

fn challenge(r: &EdwardsPoint, a: &EdwardsPoint, message: &[u8]) -> Scalar {
    let mut hash = ed25519_compact::sha512::Hash::new();
    hash.update(r.compress().0);
    hash.update(a.compress().0);
    hash.update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize())
}

/// R = rB + T satisfies the cofactored equation for every T of small order, and the cofactorless one for none but 0.
#[test]
fn the_equation_is_cofactorless() {
    for seed in 1..20 {
        for (order, torsion) in EIGHT_TORSION.iter().enumerate() {
            let attempt = Forger::new(seed).sign(EIGHT_TORSION[0], *torsion, b"message");
            assert_eq!(
                PortableEd25519.check_key(&PublicKey::Ed25519 { x: &attempt.key }),
                Ok(())
            );
            let verified = ed25519(&attempt.key, b"message", &attempt.signature);
            assert_eq!(verified.is_ok(), order == 0, "torsion {order}, seed {seed}");
            assert_eq!(
                verified.is_ok(),
                dalek_strict(&attempt.key, b"message", &attempt.signature)
            );
        }
    }
}

/// A key outside the group of prime order is refused when it is enrolled and whenever it is used, also where the
/// cofactorless equation happens to hold. (ed25519-dalek accepts those; nobody honest has such a key.)
#[test]
fn keys_of_mixed_order_are_refused() {
    let mut equation_held = 0;
    for seed in 1..20 {
        for torsion_a in &EIGHT_TORSION[1..] {
            for torsion_r in &EIGHT_TORSION {
                let attempt = Forger::new(seed).sign(*torsion_a, *torsion_r, b"message");
                assert_eq!(
                    PortableEd25519.check_key(&PublicKey::Ed25519 { x: &attempt.key }),
                    Err(WeakKey)
                );
                assert_eq!(ed25519(&attempt.key, b"message", &attempt.signature), Err(BadSignature));
                equation_held += u32::from(attempt.off_by.is_identity());
            }
        }
    }
    assert!(equation_held > 50, "the cases do not test what they say");
}

/// Every encoding of a point of small order: 8 points, and those whose y or sign bit is not canonical.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let (mut p_plus_1, mut y_one_negative, mut y_minus_one_negative) = (p, [0; 32], p);
    p_plus_1[0] = 0xee;
    (y_one_negative[0], y_one_negative[31]) = (1, 0x80);
    (y_minus_one_negative[0], y_minus_one_negative[31]) = (0xec, 0xff);
    encodings.extend([p, p_plus_1, y_one_negative, y_minus_one_negative]);
    for mut encoding in [p, p_plus_1] {
        encoding[31] |= 0x80;
        encodings.push(encoding);
    }
    encodings
}

#[test]
fn small_order_points_are_refused() {
    let forger = Forger::new(3);
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    for small in &encodings {
        assert_eq!(
            PortableEd25519.check_key(&PublicKey::Ed25519 { x: small }),
            Err(WeakKey),
            "{small:02x?}"
        );
        // As a key: S = 0 and R = A or R = 0 verify some or all messages in lax implementations.
        for r in &encodings {
            for message in [b"0", b"1", b"2", b"3"] {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(r);
                assert_eq!(ed25519(small, message, &signature), Err(BadSignature));
            }
        }
        // As R of an honest key: S = k a.
        let key = (B * forger.secret).compress().0;
        let mut hash = ed25519_compact::sha512::Hash::new();
        for part in [&small[..], &key, b"message"] {
            hash.update(part);
        }
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize());
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(small);
        signature[32..].copy_from_slice(&(k * forger.secret).to_bytes());
        assert_eq!(
            ed25519(&key, b"message", &signature),
            Err(BadSignature),
            "R = {small:02x?}"
        );
    }
}

/// y = p + 3 .. p + 18: the encodings of points of large order that are not canonical.
#[test]
fn non_canonical_points_are_refused() {
    let mut points = 0;
    for low in 0xedu8..=0xff {
        for sign in [0x7f, 0xff] {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (low, sign);
            points += u32::from(CompressedEdwardsY(encoding).decompress().is_some());
            assert_eq!(
                PortableEd25519.check_key(&PublicKey::Ed25519 { x: &encoding }),
                Err(WeakKey)
            );
            let mut signature = Forger::new(5).sign(EIGHT_TORSION[0], EIGHT_TORSION[0], b"m").signature;
            signature[..32].copy_from_slice(&encoding);
            let key = (B * Forger::new(5).secret).compress().0;
            assert_eq!(ed25519(&key, b"m", &signature), Err(BadSignature));
        }
    }
    assert!(points > 10, "the encodings are no points at all");
}

/// S + L and S + 2L verify the same equation; S with any high bit is out of range.
#[test]
fn s_is_below_the_order() {
    let attempt = Forger::new(11).sign(EIGHT_TORSION[0], EIGHT_TORSION[0], b"message");
    assert_eq!(ed25519(&attempt.key, b"message", &attempt.signature), Ok(()));
    let mut malleated = attempt.signature;
    for times in 1..8 {
        let mut carry = 0u16;
        let order = (-Scalar::ONE).to_bytes();
        for (i, byte) in malleated[32..].iter_mut().enumerate() {
            let sum = u16::from(*byte) + u16::from(order[i]) + u16::from(i == 0) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(
            ed25519(&attempt.key, b"message", &malleated),
            Err(BadSignature),
            "S + {times} L"
        );
    }
    for bit in [0x20, 0x40, 0x80] {
        let mut high = attempt.signature;
        high[63] |= bit;
        assert_eq!(ed25519(&attempt.key, b"message", &high), Err(BadSignature));
    }
    for length in [0, 32, 63, 65] {
        let mut cut = attempt.signature.to_vec();
        cut.resize(length, 0);
        assert_eq!(ed25519(&attempt.key, b"message", &cut), Err(BadSignature));
    }
}

const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const P: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";

#[test]
fn p256_keys_are_points_of_the_curve() {
    let signer = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let good = signer.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    let check = |raw: &[u8]| PortableP256.check_key(&raw_key(SignatureAlgorithm::Esp256, raw).unwrap());
    assert_eq!(check(&good), Ok(()));
    assert_eq!(check(&[0; 64]), Err(WeakKey));
    for at in [0, 31, 32, 63] {
        let mut off_curve = good.clone();
        off_curve[at] ^= 1;
        assert_eq!(check(&off_curve), Err(WeakKey));
    }
    // x = 5 has a y on the curve; x = 5 + p would be the same point, written out of range.
    let mut out_of_range = good.clone();
    out_of_range[..32].copy_from_slice(&hex(P));
    assert_eq!(check(&out_of_range), Err(WeakKey));
    out_of_range[..32].copy_from_slice(&[0xff; 32]);
    assert_eq!(check(&out_of_range), Err(WeakKey));
}

#[test]
fn p256_scalars_are_in_range_and_s_needs_no_normal_form() {
    let signer = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let raw = signer.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    let key = raw_key(SignatureAlgorithm::Esp256, &raw).unwrap();
    let digest = Sha256::of(b"message");
    let verify = |signature: &[u8]| PortableP256.verify_digest(&key, &digest, signature);
    let signature: p256::ecdsa::Signature = signer.sign_prehash(&digest).unwrap();
    let (r, s) = (signature.r(), signature.s());
    let bytes = |r: &[u8], s: &[u8]| [r, s].concat();
    assert_eq!(verify(&bytes(&r.to_bytes(), &s.to_bytes())), Ok(()));
    assert_eq!(
        verify(&bytes(&r.to_bytes(), &(-*s).to_bytes())),
        Ok(()),
        "n - s is the same signature"
    );
    assert_eq!(verify(&bytes(&s.to_bytes(), &r.to_bytes())), Err(BadSignature));
    let (zero, n, max) = ([0; 32], hex(N), [0xff; 32]);
    for bad in [&zero[..], &n, &max] {
        assert_eq!(verify(&bytes(bad, &s.to_bytes())), Err(BadSignature));
        assert_eq!(verify(&bytes(&r.to_bytes(), bad)), Err(BadSignature));
        assert_eq!(verify(&bytes(bad, bad)), Err(BadSignature));
    }
    for length in [0, 63, 65, 72] {
        let mut cut = signature.to_bytes().to_vec();
        cut.resize(length, 0);
        assert_eq!(verify(&cut), Err(BadSignature));
    }
}

proptest! {
    /// Honest signatures verify, and every changed bit of key, message or signature is treated as ed25519-dalek's strict
    /// verification treats it.
    #[test]
    fn agrees_with_dalek_strict(
        seed in any::<[u8; 32]>(),
        message in proptest::collection::vec(any::<u8>(), 0..200),
        flips in proptest::collection::vec(0usize..(32 + 64 + 200) * 8, 0..3),
    ) {
        use ed25519_dalek::Signer;
        let signer = ed25519_dalek::SigningKey::from_bytes(&seed);
        let mut all = signer.verifying_key().to_bytes().to_vec();
        all.extend(signer.sign(&message).to_bytes());
        all.extend(&message);
        let honest = all.clone();
        for flip in flips {
            if let Some(byte) = all.get_mut(flip / 8) {
                *byte ^= 1 << (flip % 8);
            }
        }
        let key: [u8; 32] = all[..32].try_into().unwrap();
        let verified = ed25519(&key, &all[96..], &all[32..96]).is_ok();
        prop_assert_eq!(verified, dalek_strict(&key, &all[96..], &all[32..96]));
        prop_assert_eq!(verified, all == honest);
    }

    /// Random bytes are no signature and crash nothing.
    #[test]
    fn random_bytes(key in any::<[u8; 64]>(), message in any::<[u8; 8]>(), signature in any::<[[u8; 32]; 2]>()) {
        let signature = signature.concat();
        for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
            let raw = if algorithm == SignatureAlgorithm::Ed25519 { &key[..32] } else { &key[..] };
            let key = raw_key(algorithm, raw).unwrap();
            let verifier = PORTABLE.find(algorithm).unwrap();
            prop_assert_eq!(verifier.verify(&key, &[&message], &signature), Err(BadSignature));
            if algorithm == SignatureAlgorithm::Esp256 {
                prop_assert_eq!(verifier.check_key(&key), Err(WeakKey));
            }
        }
    }
}
