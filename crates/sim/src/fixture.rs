//! Keys, trust roots, images and releases for tests, built without `codec`, `keys` and `release`: a second opinion on
//! the formats, and a builder that also makes what a release tool would refuse.
//!
//! Format sources: profile AMP-SUIT-1 sections 3 to 13, MCUboot image format (format sheet, sections 1 and 2).

use crate::cbor::{Value, header};
use crate::chance::Chance;
use codec::cose::PublicKey;
use ed25519_dalek::Signer as _;
use lms_signature::lms;
use lms_signature::ots::LmsOtsSha256N32W4;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::signature::rand_core::{self, TryCryptoRng, TryRng};
use p256::ecdsa::signature::{RandomizedSignerMut, SignatureEncoding};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use trust::alg::{Algorithms, BadSignature, PORTABLE, SignatureAlgorithm, Verifier, WeakKey};

/// SHA-256 of these parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

// ---------------------------------------------------------------------------------------------------------------------
// Keys

/// How a test signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Two hashes of public key and message, under the number of Ed25519: cheap, and worth nothing. For long runs.
    TestOnlyHash,
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// LMS with height 10 and W4, by another implementation than the one under test. Every signature of a process takes
    /// the next index of its key; another process begins anew, which only a test may do.
    Lms,
}

impl Scheme {
    /// What a device of this scheme verifies with.
    pub fn algorithms(self) -> Algorithms<'static> {
        match self {
            Scheme::TestOnlyHash => TEST_ONLY,
            _ => PORTABLE,
        }
    }
}

const TEST_ONLY: Algorithms<'static> = Algorithms::new(&[&TestOnlyHash]);

/// "Verifies" [`Scheme::TestOnlyHash`]. Anybody can sign; it only finds changed bytes. Not for any device.
#[derive(Clone, Copy, Debug)]
pub struct TestOnlyHash;

impl TestOnlyHash {
    fn sign(public: &[u8; 32], message: &[&[u8]]) -> [u8; 64] {
        let half = |number: u8| {
            let mut parts = vec![&b"test-only, worth nothing"[..], public];
            parts.extend(message);
            let number = [number];
            parts.push(&number);
            sha256(&parts)
        };
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&half(0));
        signature[32..].copy_from_slice(&half(1));
        signature
    }
}

impl Verifier for TestOnlyHash {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Ed25519
    }

    fn check_key(&self, _: &PublicKey) -> Result<(), WeakKey> {
        Ok(())
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &[u8]) -> Result<(), BadSignature> {
        match key {
            PublicKey::Ed25519 { x: public } if Self::sign(public, message) == *signature => Ok(()),
            _ => Err(BadSignature),
        }
    }

    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify(key, &[sha256], signature)
    }
}

/// An LMS key of the other implementation.
type LmsKey = lms::SigningKey<lms::LmsSha256M32H10<LmsOtsSha256N32W4>>;

/// "Randomness" for one LMS signature: the same message gives the same randomizer.
struct Randomizer([u8; 32]);

impl TryRng for Randomizer {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(32) {
            self.0 = sha256(&[&self.0]);
            chunk.copy_from_slice(&self.0[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Randomizer {}

/// A key pair whose private half is its name. Test-only.
#[derive(Clone, Debug)]
pub struct Key {
    scheme: Scheme,
    secret: [u8; 32],
}

impl Key {
    /// The key of this name.
    pub fn new(scheme: Scheme, name: &str) -> Key {
        let mut secret = sha256(&[b"test-only key ", name.as_bytes()]);
        secret[0] &= 0x7f; // Below the order of P-256.
        Key { scheme, secret }
    }

    /// The private half, 32 bytes, for other tools that are to sign with it.
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    fn p256(&self) -> p256::ecdsa::SigningKey {
        p256::ecdsa::SigningKey::from_slice(&self.secret).expect("below the group order")
    }

    /// The raw public key: 32 bytes, or x and y.
    pub fn public(&self) -> Vec<u8> {
        match self.scheme {
            Scheme::TestOnlyHash => sha256(&[b"public", &self.secret]).to_vec(),
            Scheme::Ed25519 => ed25519_dalek::SigningKey::from_bytes(&self.secret)
                .verifying_key()
                .to_bytes()
                .to_vec(),
            Scheme::P256 => self.p256().verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec(),
            Scheme::Lms => self.with_lms(|key| {
                let types = [0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 3];
                [&types, &key.id()[..], key.public().k()].concat()
            }),
        }
    }

    /// COSE number of its algorithm.
    pub fn cose_algorithm(&self) -> i64 {
        match self.scheme {
            Scheme::TestOnlyHash | Scheme::Ed25519 => -19,
            Scheme::P256 => -9,
            Scheme::Lms => -46,
        }
    }

    /// Runs with the LMS key of this secret, which is made once and moves on with each signature.
    fn with_lms<T>(&self, run: impl FnOnce(&mut LmsKey) -> T) -> T {
        static KEYS: Mutex<BTreeMap<[u8; 32], LmsKey>> = Mutex::new(BTreeMap::new());
        let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        let id: [u8; 16] = sha256(&[b"lms id", &self.secret])[..16].try_into().expect("16 bytes");
        let make = || LmsKey::new_from_seed(id, self.secret).expect("32 bytes");
        run(keys.entry(self.secret).or_insert_with(make))
    }

    /// HSS with one level: no signed public keys, then the LMS signature.
    fn sign_lms(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.with_lms(|key| key.sign_with_rng(&mut Randomizer(sha256(&[message])), message));
        [vec![0; 4], signature.to_vec()].concat()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self.scheme {
            Scheme::TestOnlyHash => self.sign_test_only(message),
            Scheme::Ed25519 => ed25519_dalek::SigningKey::from_bytes(&self.secret)
                .sign(message)
                .to_bytes()
                .to_vec(),
            Scheme::P256 => self.sign_p256(&sha256(&[message])).to_bytes().to_vec(),
            Scheme::Lms => self.sign_lms(message),
        }
    }

    fn sign_test_only(&self, message: &[u8]) -> Vec<u8> {
        let public = self.public().try_into().expect("32 bytes");
        TestOnlyHash::sign(&public, &[message]).to_vec()
    }

    fn sign_p256(&self, digest: &[u8; 32]) -> p256::ecdsa::Signature {
        self.p256()
            .sign_prehash(digest)
            .expect("a 32-byte digest can be signed")
    }

    /// Type and content of the image TLV that signs this digest.
    fn image_signature(&self, digest: &[u8; 32]) -> (u16, Vec<u8>) {
        match self.scheme {
            Scheme::P256 => (0x22, self.sign_p256(digest).to_der().as_bytes().to_vec()),
            Scheme::Lms => (0x01a0, self.sign(digest)),
            _ => (0x24, self.sign(digest)),
        }
    }

    fn cose_key(&self, with_algorithm: bool) -> Value {
        let public = self.public();
        let mut entries: Vec<(i64, Value)> = match self.scheme {
            Scheme::P256 => vec![
                (1, 2.into()),
                (-1, 1.into()),
                (-2, public[..32].into()),
                (-3, public[32..].into()),
            ],
            Scheme::Lms => vec![(1, 5.into()), (-1, public[..].into())],
            _ => vec![(1, 1.into()), (-1, 6.into()), (-2, public[..].into())],
        };
        if with_algorithm {
            entries.push((3, self.cose_algorithm().into()));
        }
        Value::keyed(entries)
    }

    /// The key's id: its COSE key thumbprint.
    pub fn id(&self) -> [u8; 32] {
        sha256(&[&self.cose_key(false).encode()])
    }

    /// What an image calls the key: SHA-256 of its SubjectPublicKeyInfo.
    pub fn image_hash(&self) -> [u8; 32] {
        const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        const P256: &[u8] = &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
        ];
        const HSS_LMS: &[u8] = &[
            0x30, 0x4e, 0x30, 0x0d, 0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x03, 0x11, 0x03,
            0x3d, 0x00,
        ];
        let prefix = match self.scheme {
            Scheme::TestOnlyHash | Scheme::Ed25519 => ED25519,
            Scheme::P256 => P256,
            Scheme::Lms => HSS_LMS,
        };
        sha256(&[prefix, &self.public()])
    }

    /// A COSE_Sign1 with detached payload over this, as it stands in releases and roots.
    fn block(&self, external_aad: &[u8], payload: &[u8]) -> Value {
        let protected = Value::keyed([(1, self.cose_algorithm().into()), (4, self.id()[..].into())]).encode();
        let signed = Value::Array(vec![
            "Signature1".into(),
            protected[..].into(),
            external_aad.into(),
            payload.into(),
        ]);
        let signature = self.sign(&signed.encode());
        let sign1 = Value::Array(vec![
            Value::Bytes(protected),
            Value::Map(Vec::new()),
            Value::Null,
            Value::Bytes(signature),
        ]);
        Value::embed(&Value::Tag(18, Box::new(sign1)))
    }
}

fn blocks(keys: &[Key], external_aad: &[u8], payload: &[u8]) -> Vec<Value> {
    let mut keys = keys.to_vec();
    keys.sort_by_key(Key::id);
    keys.iter().map(|key| key.block(external_aad, payload)).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Trust root

/// A trust root to be.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its version.
    pub version: i64,
    /// Its 16-byte id.
    pub id: [u8; 16],
    /// Roles: number, threshold, keys.
    pub roles: Vec<(i64, i64, Vec<Key>)>,
    /// Roles that a release needs.
    pub required: Vec<i64>,
    /// Roles that an image needs, where not the default.
    pub image_required: Option<Vec<i64>>,
    /// 1 = development; `None` = key absent, production.
    pub environment: Option<i64>,
    /// Class to minimum sequence.
    pub minima: Vec<([u8; 16], i64)>,
    /// Seconds since 1970 after which it is expired.
    pub expires: Option<i64>,
    /// Who signs the file.
    pub signers: Vec<Key>,
}

impl Root {
    /// The file.
    pub fn build(&self) -> Vec<u8> {
        signed_file("amp-root", b"AMP-ROOT-1", &self.content(), &self.signers)
    }

    /// The root after this one, as yet with nothing changed and nobody's signature.
    pub fn next(&self) -> Root {
        Root {
            version: self.version + 1,
            signers: Vec::new(),
            ..self.clone()
        }
    }

    /// The same with this role for these keys; none of them: without the role.
    pub fn role(mut self, number: i64, threshold: i64, keys: &[&Key]) -> Root {
        self.roles.retain(|(other, ..)| *other != number);
        if !keys.is_empty() {
            self.roles
                .push((number, threshold, keys.iter().map(|key| (*key).clone()).collect()));
        }
        self
    }

    /// The same with these signatures.
    pub fn signed(mut self, keys: &[&Key]) -> Root {
        self.signers = keys.iter().map(|key| (*key).clone()).collect();
        self
    }

    fn content(&self) -> Value {
        let ids = |keys: &[Key]| {
            let mut ids: Vec<_> = keys.iter().map(Key::id).collect();
            ids.sort();
            ids.iter().map(|id| id[..].into()).collect()
        };
        let entry = |key: &Key| {
            (
                key.id()[..].into(),
                Value::Array(vec![1.into(), Value::embed(&key.cose_key(true))]),
            )
        };
        let mut keys: Vec<(Value, Value)> = self
            .roles
            .iter()
            .flat_map(|(_, _, keys)| keys.iter().map(entry))
            .collect();
        keys.sort_by_key(|(id, _)| id.encode());
        keys.dedup();
        let role = |(number, threshold, keys): &(i64, i64, Vec<Key>)| {
            (
                *number,
                Value::Array(vec![(*threshold).into(), Value::Array(ids(keys))]),
            )
        };
        let ints = |list: &[i64]| Value::Array(list.iter().map(|&n| n.into()).collect());
        let mut entries = vec![
            (1, self.version.into()),
            (2, "amp-root-1".into()),
            (3, self.id[..].into()),
            (4, Value::Map(keys)),
            (5, Value::keyed(self.roles.iter().map(role))),
            (6, ints(&self.required)),
        ];
        if !self.minima.is_empty() {
            let minima = self
                .minima
                .iter()
                .map(|(class, least)| (class[..].into(), (*least).into()))
                .collect();
            entries.push((8, Value::sorted(minima)));
        }
        entries.extend(self.expires.iter().map(|seconds| (9, (*seconds).into())));
        entries.extend(self.image_required.iter().map(|roles| (10, ints(roles))));
        entries.extend(self.environment.iter().map(|number| (11, (*number).into())));
        Value::keyed(entries)
    }
}

/// A revocation list.
pub fn revocation_list(number: i64, root_id: [u8; 16], revoked: &[&Key], signers: &[&Key]) -> Vec<u8> {
    let mut ids: Vec<_> = revoked.iter().map(|key| key.id()).collect();
    ids.sort();
    let mut content = vec![(1, number.into()), (3, root_id[..].into())];
    if !ids.is_empty() {
        content.push((7, Value::Array(ids.iter().map(|id| id[..].into()).collect())));
    }
    let signers: Vec<Key> = signers.iter().map(|key| (*key).clone()).collect();
    signed_file("amp-revoke", b"AMP-REVOKE-1", &Value::keyed(content), &signers)
}

/// A time file.
pub fn time_file(seconds: i64, root_id: [u8; 16], signers: &[&Key]) -> Vec<u8> {
    let content = Value::keyed([(1, seconds.into()), (3, root_id[..].into())]);
    let signers: Vec<Key> = signers.iter().map(|key| (*key).clone()).collect();
    signed_file("amp-time", b"AMP-TIME-1", &content, &signers)
}

fn signed_file(name: &str, external_aad: &[u8], content: &Value, signers: &[Key]) -> Vec<u8> {
    let content = content.encode();
    let blocks = blocks(signers, external_aad, &content);
    Value::Array(vec![name.into(), Value::Bytes(content), Value::Array(blocks)]).encode()
}

// ---------------------------------------------------------------------------------------------------------------------
// Image

/// TLV types of the image format.
pub mod tlv {
    /// Security counter.
    pub const SEC_CNT: u16 = 0x50;
    /// Vendor id.
    pub const VENDOR: u16 = 0x74;
    /// Class id.
    pub const CLASS: u16 = 0x75;
}

/// An MCUboot image to be.
#[derive(Clone, Debug)]
pub struct Image {
    /// Bytes of the header with its padding.
    pub header_len: u16,
    /// The payload.
    pub payload: Vec<u8>,
    /// Version: major, minor, revision, build.
    pub version: (u8, u8, u16, u32),
    /// Flags.
    pub flags: u32,
    /// Address that it was linked for, which counts with flag 0x100.
    pub load_addr: u32,
    /// Protected TLVs in order.
    pub protected: Vec<(u16, Vec<u8>)>,
    /// Who signs it.
    pub signers: Vec<Key>,
}

impl Image {
    /// An image of this many payload bytes, which differ from those of other seeds.
    pub fn new(seed: u64, payload_len: usize, device: &Identity, counter: u32, signers: &[Key]) -> Image {
        Image {
            header_len: 32,
            payload: Chance::new(seed).bytes(payload_len),
            version: (1, 0, seed as u16, 0),
            flags: 0,
            load_addr: 0,
            protected: vec![
                (tlv::SEC_CNT, counter.to_le_bytes().to_vec()),
                (tlv::VENDOR, device.vendor.to_vec()),
                (tlv::CLASS, device.class.to_vec()),
            ],
            signers: signers.to_vec(),
        }
    }

    /// The file: header, payload, protected and unprotected TLVs.
    pub fn build(&self) -> Vec<u8> {
        let protected = area(0x6908, &self.protected);
        let protected_len = if self.protected.is_empty() { 0 } else { protected.len() };
        let mut bytes = Vec::new();
        bytes.extend(0x96f3_b83du32.to_le_bytes());
        bytes.extend(self.load_addr.to_le_bytes());
        bytes.extend(self.header_len.to_le_bytes());
        bytes.extend((protected_len as u16).to_le_bytes());
        bytes.extend((self.payload.len() as u32).to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend([self.version.0, self.version.1]);
        bytes.extend(self.version.2.to_le_bytes());
        bytes.extend(self.version.3.to_le_bytes());
        bytes.resize(usize::from(self.header_len), 0);
        bytes.extend(&self.payload);
        bytes.extend(&protected[..protected_len]);
        let digest = sha256(&[&bytes]);
        let mut tlvs = vec![(0x10, digest.to_vec())];
        for key in &self.signers {
            tlvs.push((0x01, key.image_hash().to_vec()));
            tlvs.push(key.image_signature(&digest));
        }
        bytes.extend(area(0x6907, &tlvs));
        bytes
    }
}

fn area(magic: u16, entries: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, data) in entries {
        body.extend(kind.to_le_bytes());
        body.extend((data.len() as u16).to_le_bytes());
        body.extend(data);
    }
    let mut area = magic.to_le_bytes().to_vec();
    area.extend((body.len() as u16 + 4).to_le_bytes());
    area.extend(body);
    area
}

// ---------------------------------------------------------------------------------------------------------------------
// Release

/// Who a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Vendor id.
    pub vendor: [u8; 16],
    /// Class id.
    pub class: [u8; 16],
}

impl Identity {
    /// The device of these tests.
    pub const DEMO: Identity = Identity {
        vendor: *b"vendor of a test",
        class: *b"class of a test.",
    };
}

/// A release of one full image for one component: kind (a) of the profile, payload in the envelope.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its sequence number.
    pub sequence: i64,
    /// Parts of the component's id.
    pub component: Vec<Vec<u8>>,
    /// Whom it is for.
    pub device: Identity,
    /// The image file.
    pub image: Vec<u8>,
    /// The counter that the manifest signs.
    pub counter: Option<i64>,
    /// Bytes of a chunk; `None` = no table.
    pub chunk: Option<usize>,
    /// Recorded version (manifest key 6).
    pub version: Vec<i64>,
    /// Name of the payload, with `#`.
    pub payload_name: String,
    /// Payload format (AmpArgs -257).
    pub format: i64,
    /// Further AmpArgs, or replacements of those above.
    pub args: Vec<(i64, Value)>,
    /// Further manifest entries, or replacements.
    pub manifest: Vec<(i64, Value)>,
    /// Further target parameters, or replacements.
    pub parameters: Vec<(i64, Value)>,
    /// Further conditions of the target, ascending.
    pub conditions: Vec<i64>,
    /// Who signs it.
    pub signers: Vec<Key>,
}

impl Release {
    /// An ordinary release of this image.
    pub fn new(sequence: i64, image: Vec<u8>, counter: u32, signers: &[Key]) -> Release {
        Release {
            sequence,
            component: vec![b"app".to_vec()],
            device: Identity::DEMO,
            image,
            counter: Some(counter.into()),
            chunk: Some(1024),
            version: Vec::new(),
            payload_name: "#app.bin".into(),
            format: 1,
            args: Vec::new(),
            manifest: Vec::new(),
            parameters: Vec::new(),
            conditions: Vec::new(),
            signers: signers.to_vec(),
        }
    }

    /// The whole file.
    pub fn build(&self) -> Vec<u8> {
        self.sign(&self.manifest_bytes())
    }

    /// The whole file with another manifest, signed as this release is.
    pub fn sign(&self, manifest: &[u8]) -> Vec<u8> {
        let (head, members) = self.sign_parts(manifest);
        [head, members].concat()
    }

    /// Head (to the last byte of the manifest) and the rest of the file.
    pub fn sign_parts(&self, manifest: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let members = self.members();
        let mut head = Vec::new();
        header(&mut head, 6, 107);
        header(&mut head, 5, 2 + members.len() as u64);
        head.extend(Value::Int(2).encode());
        head.extend(Value::Bytes(authentication(manifest, &self.signers)).encode());
        head.extend(Value::Int(3).encode());
        head.extend(Value::Bytes(manifest.to_vec()).encode());
        let rest = members
            .iter()
            .flat_map(|(name, value)| [name.encode(), value.encode()].concat())
            .collect();
        (head, rest)
    }

    /// The manifest map, encoded.
    pub fn manifest_bytes(&self) -> Vec<u8> {
        self.manifest_map().encode()
    }

    /// The manifest map.
    pub fn manifest_map(&self) -> Value {
        let component = Value::Array(self.component.iter().map(|part| part[..].into()).collect());
        let mut shared = vec![12.into(), 0.into(), 20.into(), self.target_parameters()];
        for condition in [1, 2].iter().chain(&self.conditions) {
            shared.extend([(*condition).into(), 15.into()]);
        }
        let shared = Value::Array(shared);
        let common = Value::keyed([(2, Value::Array(vec![component])), (4, Value::embed(&shared))]);
        let validate = Value::Array(vec![12.into(), 0.into(), 3.into(), 15.into()]);
        let fetch = Value::keyed([
            (21, self.payload_name.as_str().into()),
            (25, Value::embed(&self.args())),
        ]);
        let install = Value::Array(vec![
            12.into(),
            0.into(),
            20.into(),
            fetch,
            21.into(),
            15.into(),
            3.into(),
            15.into(),
        ]);
        let mut entries = vec![
            (1, 1.into()),
            (2, self.sequence.into()),
            (3, Value::embed(&common)),
            (7, Value::embed(&validate)),
            (20, Value::embed(&install)),
        ];
        if !self.version.is_empty() {
            let version = Value::Array(self.version.iter().map(|&part| part.into()).collect());
            entries.push((6, Value::embed(&version)));
        }
        Value::keyed(overlay(entries, &self.manifest))
    }

    fn target_parameters(&self) -> Value {
        let entries = vec![
            (1, self.device.vendor[..].into()),
            (2, self.device.class[..].into()),
            (3, Value::embed(&digest(&self.image))),
            (14, (self.image.len() as i64).into()),
        ];
        Value::keyed(overlay(entries, &self.parameters))
    }

    fn args(&self) -> Value {
        let mut entries = vec![(-257, self.format.into()), (-262, 1.into())];
        entries.extend(self.counter.map(|counter| (-260, counter.into())));
        if let Some(chunk) = self.chunk {
            let hashes = self.chunk_hashes();
            let table = if hashes.len() <= 16 * 32 {
                hashes
            } else {
                sha256(&[&hashes]).to_vec()
            };
            entries.push((
                -258,
                Value::Array(vec![(chunk as i64).into(), (-16).into(), Value::Bytes(table)]),
            ));
        }
        Value::keyed(overlay(entries, &self.args))
    }

    /// The hashes of all chunks.
    pub fn chunk_hashes(&self) -> Vec<u8> {
        let chunk = self.chunk.unwrap_or(self.image.len().max(1));
        self.image.chunks(chunk).flat_map(|part| sha256(&[part])).collect()
    }

    fn members(&self) -> Vec<(Value, Value)> {
        let mut members = Vec::new();
        let hashes = self.chunk_hashes();
        if self.chunk.is_some() && hashes.len() > 16 * 32 {
            members.push(("#c0".into(), Value::Bytes(hashes)));
        }
        members.push((self.payload_name.as_str().into(), self.image[..].into()));
        members
    }
}

/// The authentication wrapper of a manifest map.
pub fn authentication(manifest: &[u8], signers: &[Key]) -> Vec<u8> {
    // The digest covers the header of the byte string that holds the manifest.
    let digest = digest(&Value::Bytes(manifest.to_vec()).encode()).encode();
    let mut items = vec![digest[..].into()];
    items.extend(blocks(signers, b"", &digest));
    Value::Array(items).encode()
}

fn digest(bytes: &[u8]) -> Value {
    Value::Array(vec![(-16).into(), sha256(&[bytes])[..].into()])
}

fn overlay(mut entries: Vec<(i64, Value)>, changes: &[(i64, Value)]) -> Vec<(i64, Value)> {
    for (key, value) in changes {
        entries.retain(|(other, _)| other != key);
        entries.push((*key, value.clone()));
    }
    entries
}

// ---------------------------------------------------------------------------------------------------------------------
// Everything a device needs

/// The keys of a product line and the root that names them.
#[derive(Clone, Debug)]
pub struct Authority {
    /// How everybody signs.
    pub scheme: Scheme,
    /// Signs roots.
    pub root: Key,
    /// Signs releases.
    pub release: Key,
    /// Signs images.
    pub image: Key,
    /// Signs images too, with a second algorithm (role 7); the root demands both then.
    pub image_second: Option<Key>,
    /// What the device holds.
    pub trust_root: Root,
}

impl Authority {
    /// A root with one key per role.
    pub fn new(scheme: Scheme) -> Authority {
        let [root, release, image] = ["root", "release", "image"].map(|name| Key::new(scheme, name));
        let trust_root = Root {
            version: 1,
            id: *b"root of a test..",
            roles: vec![
                (1, 1, vec![root.clone()]),
                (2, 1, vec![release.clone()]),
                (6, 1, vec![image.clone()]),
            ],
            required: vec![2],
            image_required: None,
            environment: None,
            minima: Vec::new(),
            expires: None,
            signers: vec![root.clone()],
        };
        Authority {
            scheme,
            root,
            release,
            image,
            image_second: None,
            trust_root,
        }
    }

    /// The same with LMS as second signature of images, demanded by the root: key 10 = [6, 7].
    pub fn hybrid(scheme: Scheme) -> Authority {
        let mut authority = Authority::new(scheme);
        let second = Key::new(Scheme::Lms, "second image");
        authority.trust_root.roles.push((7, 1, vec![second.clone()]));
        authority.trust_root.image_required = Some(vec![6, 7]);
        authority.image_second = Some(second);
        authority
    }

    /// Who signs images.
    pub fn image_signers(&self) -> Vec<Key> {
        [&self.image].into_iter().chain(&self.image_second).cloned().collect()
    }

    /// A signed image for the demo device.
    pub fn image(&self, seed: u64, payload_len: usize, counter: u32) -> Vec<u8> {
        Image::new(seed, payload_len, &Identity::DEMO, counter, &self.image_signers()).build()
    }

    /// A signed release of an image.
    pub fn release(&self, sequence: i64, image: &[u8], counter: u32) -> Release {
        Release::new(sequence, image.to_vec(), counter, std::slice::from_ref(&self.release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Profile section 18: RFC 8032 test key 1 and its thumbprint.
    #[test]
    fn key_ids_are_those_of_the_profile() {
        let key = test_key(KEY_1);
        assert_eq!(
            hex(&key.public()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(
            hex(&key.id()),
            "866eefbd6718c8846cd7ddfe43fc74ab1daac4538ff8514ea2ec2d410a415743"
        );
    }

    fn test_key(seed: &str) -> Key {
        Key {
            scheme: Scheme::Ed25519,
            secret: unhex(seed),
        }
    }

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        assert_eq!(text.len(), 2 * N);
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    const KEY_1: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const KEY_2: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const KEY_3: &str = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";

    /// Profile section 18, the trust root: by its length and its signatures, which cover every byte before them.
    #[test]
    fn the_root_is_that_of_the_profile() {
        let [release, one, two] = [KEY_1, KEY_2, KEY_3].map(test_key);
        let root = Root {
            version: 1,
            id: unhex("5b8b5becd94e5dde8b20af19702569a6"),
            roles: vec![(1, 2, vec![one.clone(), two.clone()]), (2, 1, vec![release])],
            required: vec![2],
            image_required: None,
            environment: None,
            minima: Vec::new(),
            expires: None,
            signers: vec![one, two],
        };
        let file = hex(&root.build());
        assert_eq!(file.len(), 2 * 628);
        assert!(file.starts_with("8368616d702d726f6f74590186a60101026a616d702d726f6f742d3103505b8b5becd94e"));
        assert!(file.ends_with("694fec21633e652e1efc16b667280a93f20689b8a00"));
    }

    /// Profile section 18, example (a): its manifest digest and its signature.
    #[test]
    fn the_release_is_that_of_the_profile() {
        let text: [u8; 32] = unhex("aaf1047d55443b6283de436172697aaf87f4d12b8c29a25c0c499ba54aad344b");
        let mut release = Release::new(7, (0..48).collect(), 3, &[test_key(KEY_1)]);
        release.chunk = None;
        release.device = Identity {
            vendor: unhex("cfbff0d193755685968c48ce8b15ae17"),
            class: unhex("ede90b60052b5a2084dd0b72f61219a5"),
        };
        release.manifest = vec![(23, Value::Array(vec![(-16).into(), text[..].into()]))];
        let file = hex(&release.build());
        assert!(file.contains("7e6e8c98996f39efaba18f0827504013694392186036e9dea9abb43d111ed90d"));
        assert!(file.contains("2e4b56549976cf22539cc59caca22156f9bd7876c1eb218c221406fbda19dd24"));
    }

    #[test]
    fn signatures_of_every_scheme_verify_and_changed_messages_do_not() {
        for scheme in [Scheme::TestOnlyHash, Scheme::Ed25519, Scheme::P256, Scheme::Lms] {
            let key = Key::new(scheme, "one");
            let (public, signature) = (key.public(), key.sign(b"message"));
            let algorithm = SignatureAlgorithm::from_cose(key.cose_algorithm()).unwrap();
            let verifier = scheme.algorithms().find(algorithm).unwrap();
            let (x, y) = public.split_first_chunk::<32>().unwrap();
            let public = match scheme {
                Scheme::Lms => PublicKey::HssLms { public: &public },
                Scheme::P256 => PublicKey::P256 {
                    x,
                    y: y.try_into().unwrap(),
                },
                _ => PublicKey::Ed25519 { x },
            };
            assert_eq!(verifier.verify(&public, &[b"mess", b"age"], &signature), Ok(()));
            assert_eq!(verifier.verify(&public, &[b"messagf"], &signature), Err(BadSignature));
            assert_eq!(trust::thumbprint(&public), key.id());
            assert_eq!(trust::image_key_hash(&public), Some(key.image_hash()));
        }
    }
}
