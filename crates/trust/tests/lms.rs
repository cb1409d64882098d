//! LMS: the published vectors, every bit, every length, every parameter set that is refused.

use ampoule_trust::alg::Pieces;
use ampoule_trust::lms::{HssLms, PUBLIC_BYTES_MAX, Parameters, SIGNATURE_BYTES_MAX, Tree, Unsupported};
use ampoule_trust::{BadSignature, PORTABLE, PublicKey, SignatureAlgorithm, Verifier, WeakKey, raw_key};
use std::path::Path;

struct Case {
    public: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

impl Case {
    fn read(path: &Path) -> Case {
        let text = std::fs::read_to_string(path).unwrap();
        let field = |name: &str| {
            let mut values = text
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            hex(values.next().unwrap_or_else(|| panic!("{name} in {}", path.display())))
        };
        Case {
            public: field("public"),
            message: field("message"),
            signature: field("signature"),
        }
    }

    fn named(name: &str) -> Case {
        Case::read(&folder().join(name))
    }

    fn verify(&self) -> Result<(), BadSignature> {
        HssLms.verify(
            &PublicKey::HssLms { public: &self.public },
            &[&self.message],
            &self.signature,
        )
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/lms")
}

/// Every file of the folder: one layer verifies, the two-level originals are refused, as key and as signature.
#[test]
fn each_layer_of_the_published_vectors_verifies_and_two_levels_are_refused() {
    let mut seen = (0, 0);
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".txt") {
            continue;
        }
        let case = Case::read(&path);
        let key = PublicKey::HssLms { public: &case.public };
        if name.ends_with("-hss.txt") {
            assert_eq!(case.verify(), Err(BadSignature), "{name}");
            assert_eq!(Tree::of(&case.public), Err(Unsupported::Levels(2)), "{name}");
            assert_eq!(HssLms.check_key(&key), Err(WeakKey), "{name}");
            seen.1 += 1;
        } else {
            assert_eq!(case.verify(), Ok(()), "{name}");
            assert_eq!(HssLms.check_key(&key), Ok(()), "{name}");
            assert_eq!(raw_key(SignatureAlgorithm::HssLms, &case.public), Some(key), "{name}");
            seen.0 += 1;
        }
    }
    // Both layers of two test cases, and the sixteen accepted parameter sets.
    assert_eq!(seen, (4 + 16, 2));
}

/// A one-level key does not make a two-level signature good: the signature's own count is asked too.
#[test]
fn a_signature_with_levels_is_refused_under_a_key_of_one_level() {
    let (one, two) = (
        Case::named("rfc8554-case-2-upper.txt"),
        Case::named("rfc8554-case-2-hss.txt"),
    );
    let mut mixed = Case {
        signature: two.signature.clone(),
        ..one
    };
    assert_eq!(mixed.verify(), Err(BadSignature));
    // Of the right length, but it says that it carries a signed public key.
    mixed.signature.truncate(2512);
    assert_eq!((mixed.signature[3], mixed.verify()), (1, Err(BadSignature)));
    mixed.signature[3] = 0;
    assert_eq!(mixed.verify(), Ok(()));
}

#[test]
fn every_changed_bit_is_refused() {
    let mut case = Case::named("rfc8554-case-2-upper.txt");
    for bit in 0..case.signature.len() * 8 {
        case.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(case.verify(), Err(BadSignature), "signature, bit {bit}");
        case.signature[bit / 8] ^= 1 << (bit % 8);
    }
    for bit in 0..case.public.len() * 8 {
        case.public[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(case.verify(), Err(BadSignature), "key, bit {bit}");
        case.public[bit / 8] ^= 1 << (bit % 8);
    }
    for bit in 0..case.message.len() * 8 {
        case.message[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(case.verify(), Err(BadSignature), "message, bit {bit}");
        case.message[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(case.verify(), Ok(()));
}

#[test]
fn every_other_length_is_refused() {
    let whole = Case::named("rfc8554-case-2-upper.txt");
    for len in 0..whole.signature.len() {
        let case = Case {
            public: whole.public.clone(),
            message: whole.message.clone(),
            signature: whole.signature[..len].to_vec(),
        };
        assert_eq!(case.verify(), Err(BadSignature), "{len} bytes");
    }
    for len in (0..whole.public.len()).chain([61, 100]) {
        let mut public = whole.public.clone();
        public.resize(len, 0);
        assert!(Tree::of(&public).is_err(), "{len} bytes");
    }
    let mut longer = whole;
    longer.signature.push(0);
    assert_eq!(longer.verify(), Err(BadSignature));
}

/// SP 800-208 tables 1 to 4 and RFC 8554 tables 1 and 2: lengths of every accepted set; every other is refused by name.
#[test]
fn parameter_sets_are_accepted_or_refused_by_name() {
    let lengths: &[(u32, u32, usize, usize)] = &[
        // LMS type, LM-OTS type, bytes of a key, bytes of a signature.
        (5, 3, 60, 2352),
        (6, 3, 60, 2512),
        (7, 3, 60, 2672),
        (8, 3, 60, 2832),
        (5, 4, 60, 1296),
        (6, 4, 60, 1456),
        (7, 4, 60, 1616),
        (8, 4, 60, 1776),
        (10, 7, 52, 1384),
        (13, 7, 52, 1744),
        (10, 8, 52, 784),
        (13, 8, 52, 1144),
    ];
    for &(tree, one_time, public, signature) in lengths {
        let set = Parameters::of_types(tree, one_time).unwrap();
        assert_eq!((set.public_bytes(), set.signature_bytes()), (public, signature));
        assert_eq!((set.tree_type(), set.one_time_type()), (tree, one_time));
    }
    for tree in (0..=30).chain([u32::MAX]) {
        for one_time in (0..=20).chain([u32::MAX]) {
            let accepted = match tree {
                5..=8 => matches!(one_time, 3 | 4),
                10..=13 => matches!(one_time, 7 | 8),
                _ => false,
            };
            match Parameters::of_types(tree, one_time) {
                Ok(set) => {
                    assert!(accepted, "{tree} {one_time}");
                    assert!(set.public_bytes() <= PUBLIC_BYTES_MAX && set.signature_bytes() <= SIGNATURE_BYTES_MAX);
                }
                Err(Unsupported::Tree(number)) => assert_eq!((number, accepted), (tree, false)),
                Err(other) => assert_eq!((other, accepted), (Unsupported::OneTime(one_time), false)),
            }
        }
    }
}

/// A key keeps its tree: q of another subtree, q beyond the tree, and types of another set are refused.
#[test]
fn an_index_beyond_the_tree_is_refused() {
    let mut case = Case::named("rfc8554-case-2-upper.txt");
    for q in [1u32 << 10, 1 << 31, u32::MAX] {
        case.signature[4..8].copy_from_slice(&q.to_be_bytes());
        assert_eq!(case.verify(), Err(BadSignature), "{q}");
    }
}

/// What reads a signature from flash sees its bytes once, in order, at most 32 at a time.
#[test]
fn a_signature_is_read_once_in_small_pieces() {
    struct Counting<'a>(&'a [u8], usize);
    impl Pieces for Counting<'_> {
        fn left(&self) -> usize {
            self.0.len()
        }
        fn next(&mut self, out: &mut [u8]) -> Result<(), BadSignature> {
            self.1 = self.1.max(out.len());
            self.0.next(out)
        }
    }
    let case = Case::named("rfc8554-case-2-upper.txt");
    let key = PublicKey::HssLms { public: &case.public };
    // The message of this case is no digest; what counts here is that all is read before that is known.
    let mut pieces = Counting(&case.signature, 0);
    let verdict = HssLms.verify_digest_from(&key, &[0; 32], &mut pieces);
    assert_eq!((verdict, pieces.left(), pieces.1), (Err(BadSignature), 0, 32));
}

/// An image's digest is the message itself, whether the signature is held or read by pieces.
#[test]
fn a_digest_is_the_message() {
    let case = Case::named("made-sha192-h20-w8.txt");
    let key = PublicKey::HssLms { public: &case.public };
    let digest = case.message[..].try_into().unwrap();
    assert_eq!(HssLms.verify_digest(&key, digest, &case.signature), Ok(()));
    let mut pieces = &case.signature[..];
    assert_eq!(HssLms.verify_digest_from(&key, digest, &mut pieces), Ok(()));
}

/// Other algorithms refuse a signature by pieces, and LMS the keys of others.
#[test]
fn algorithms_are_not_mixed() {
    let case = Case::named("rfc8554-case-2-upper.txt");
    let lms = PublicKey::HssLms { public: &case.public };
    let ed25519 = PublicKey::Ed25519 { x: &[3; 32] };
    assert_eq!(HssLms.check_key(&ed25519), Err(WeakKey));
    assert_eq!(HssLms.verify(&ed25519, &[], &case.signature), Err(BadSignature));
    for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
        let verifier = PORTABLE.find(algorithm).unwrap();
        assert_eq!(verifier.check_key(&lms), Err(WeakKey));
        assert_eq!(
            verifier.verify(&lms, &[&case.message], &case.signature),
            Err(BadSignature)
        );
        let mut pieces = &case.signature[..];
        assert_eq!(
            verifier.verify_digest_from(&lms, &[0; 32], &mut pieces),
            Err(BadSignature)
        );
    }
}
