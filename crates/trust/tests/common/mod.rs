//! Keys, roots and images for the tests of this crate.
#![allow(dead_code, unreachable_pub)]

use ampoule_trust::{PublicKey, Role, RoleSet, Sha256, SignatureAlgorithm, image_key_hash, raw_key, thumbprint};
use codec::cbor::{Sink, Writer};
use codec::cose::{KeyId, SigStructure, Sign1, write_protected};
use codec::mcuboot::tlv::{self, kind};
use codec::mcuboot::{HEADER_BYTES, ImageHeader, ImageVersion, der};
use codec::plan::Uuid;
use codec::roots::{Environment, FileKind, KeyEntry, KeyMaterial, RevokeFile, RootDraft, TimeFile, write_file};

/// Hexadecimal digits, white space, and lines that start with `#`.
pub fn hex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let text: String = lines.flat_map(str::split_whitespace).collect();
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

pub struct Out(pub Vec<u8>);

impl Sink for Out {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

pub fn encoded(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Out(Vec::new());
    write(&mut Writer::new(&mut out));
    out.0
}

/// A private key of either algorithm.
#[derive(Clone)]
pub struct Key {
    raw: Vec<u8>,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

impl Key {
    pub fn ed25519(seed: [u8; 32]) -> Key {
        let secret = ed25519_dalek::SigningKey::from_bytes(&seed);
        Key {
            raw: secret.verifying_key().to_bytes().to_vec(),
            secret: Secret::Ed25519(secret),
        }
    }

    pub fn p256(seed: [u8; 32]) -> Key {
        let secret = p256::ecdsa::SigningKey::from_slice(&seed).unwrap();
        Key {
            raw: secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec(),
            secret: Secret::P256(secret),
        }
    }

    pub fn public(&self) -> PublicKey<'_> {
        let algorithm = match self.secret {
            Secret::Ed25519(_) => SignatureAlgorithm::Ed25519,
            Secret::P256(_) => SignatureAlgorithm::Esp256,
        };
        raw_key(algorithm, &self.raw).unwrap()
    }

    pub fn id(&self) -> KeyId {
        thumbprint(&self.public())
    }

    /// 64 bytes over a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        use ed25519_dalek::Signer;
        use p256::ecdsa::signature::hazmat::PrehashSigner;
        match &self.secret {
            Secret::Ed25519(secret) => secret.sign(message).to_bytes().to_vec(),
            Secret::P256(secret) => {
                let signature: p256::ecdsa::Signature = secret.sign_prehash(&Sha256::of(message)).unwrap();
                signature.to_bytes().to_vec()
            }
        }
    }

    /// The signature TLV of an image with this digest: type and value.
    pub fn sign_image(&self, digest: &[u8; 32]) -> (u16, Vec<u8>) {
        use p256::ecdsa::signature::hazmat::PrehashSigner;
        match &self.secret {
            Secret::Ed25519(_) => (kind::ED25519, self.sign(digest)),
            Secret::P256(secret) => {
                let signature: p256::ecdsa::Signature = secret.sign_prehash(digest).unwrap();
                (
                    kind::ECDSA,
                    der::from_raw(&signature.to_bytes().into()).as_bytes().to_vec(),
                )
            }
        }
    }

    /// The protected header of this key's blocks.
    pub fn protected(&self) -> Vec<u8> {
        encoded(|w| write_protected(w, self.public().algorithm(), &self.id(), None))
    }

    pub fn block(&self, external_aad: &[u8], payload: &[u8]) -> Block {
        let protected = self.protected();
        let signature = self.sign(&SigStructure::new(&protected, external_aad, payload).parts().concat());
        Block {
            kid: self.id(),
            algorithm: self.public().algorithm(),
            protected,
            signature,
        }
    }
}

/// A signature block, owned.
#[derive(Clone)]
pub struct Block {
    pub kid: KeyId,
    pub algorithm: i64,
    pub protected: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Block {
    pub fn sign1(&self) -> Sign1<'_> {
        Sign1 {
            protected: &self.protected,
            algorithm: self.algorithm,
            kid: &self.kid,
            chain: None,
            signature: &self.signature,
        }
    }

    /// The same signature under a header that names another algorithm.
    pub fn naming(mut self, algorithm: i64) -> Block {
        self.algorithm = algorithm;
        self.protected = encoded(|w| write_protected(w, algorithm, &self.kid, None));
        self
    }

    pub fn damaged(mut self) -> Block {
        self.signature[7] ^= 1;
        self
    }
}

/// Frames a signed file; blocks are put in order.
pub fn file(kind: FileKind, content: &[u8], blocks: &[Block]) -> Vec<u8> {
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(|block| block.kid);
    let blocks: Vec<_> = blocks.iter().map(Block::sign1).collect();
    encoded(|w| write_file(w, kind, content, &blocks))
}

pub fn signed_file(kind: FileKind, content: &[u8], signers: &[&Key]) -> Vec<u8> {
    let blocks: Vec<_> = signers
        .iter()
        .map(|key| key.block(kind.external_aad(), content))
        .collect();
    file(kind, content, &blocks)
}

/// The keys that the tests' roots list: two root keys, two release keys, one each for distribute and revoke, and two
/// image keys; Ed25519 and P-256 in turn.
pub struct Keys {
    pub root: [Key; 3],
    pub release: [Key; 2],
    pub second: Key,
    pub distribute: Key,
    pub revoke: Key,
    pub image: [Key; 2],
    pub image_second: Key,
    pub stranger: Key,
}

pub fn keys() -> Keys {
    Keys {
        root: [Key::ed25519([1; 32]), Key::p256([2; 32]), Key::ed25519([3; 32])],
        release: [Key::ed25519([4; 32]), Key::p256([5; 32])],
        second: Key::p256([6; 32]),
        distribute: Key::ed25519([7; 32]),
        revoke: Key::ed25519([8; 32]),
        image: [Key::ed25519([9; 32]), Key::p256([10; 32])],
        image_second: Key::p256([11; 32]),
        stranger: Key::ed25519([12; 32]),
    }
}

/// A root to be changed by a test and then encoded.
#[derive(Clone)]
pub struct RootSpec {
    pub version: u64,
    pub id: Uuid,
    pub environment: Environment,
    pub roles: Vec<(Role, u8, Vec<Key>)>,
    pub delivery: Vec<Role>,
    pub image: Option<Vec<Role>>,
    pub revoked: Vec<KeyId>,
    pub minima: Vec<(Uuid, u64)>,
}

pub const ROOT_ID: Uuid = *b"product line id!";

/// Root 2 of 2, release 1 of 2, distribute, revoke, image 1 of 2.
pub fn root_spec(keys: &Keys) -> RootSpec {
    RootSpec {
        version: 1,
        id: ROOT_ID,
        environment: Environment::Production,
        roles: vec![
            (Role::Root, 2, keys.root[..2].to_vec()),
            (Role::Release, 1, keys.release.to_vec()),
            (Role::Distribute, 1, vec![keys.distribute.clone()]),
            (Role::Revoke, 1, vec![keys.revoke.clone()]),
            (Role::Image, 1, keys.image.to_vec()),
        ],
        delivery: vec![Role::Release],
        image: None,
        revoked: vec![],
        minima: vec![],
    }
}

impl RootSpec {
    pub fn role(mut self, role: Role, threshold: u8, keys: &[&Key]) -> Self {
        self.roles.retain(|(listed, ..)| *listed != role);
        if !keys.is_empty() {
            self.roles
                .push((role, threshold, keys.iter().map(|key| (*key).clone()).collect()));
        }
        self.roles.sort_by_key(|(role, ..)| *role);
        self
    }

    pub fn content(&self) -> Vec<u8> {
        let all: Vec<Key> = self.roles.iter().flat_map(|(.., keys)| keys.clone()).collect();
        let ids: Vec<KeyId> = all.iter().map(Key::id).collect();
        let mut entries: Vec<KeyEntry> = all
            .iter()
            .zip(&ids)
            .map(|(key, id)| KeyEntry {
                id,
                material: KeyMaterial::Raw(key.public()),
            })
            .collect();
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        self.content_with(&entries)
    }

    /// The content with these entries instead of those of the keys.
    pub fn content_with(&self, entries: &[KeyEntry]) -> Vec<u8> {
        let lists: Vec<Vec<KeyId>> = self
            .roles
            .iter()
            .map(|(.., keys)| {
                let mut ids: Vec<KeyId> = keys.iter().map(Key::id).collect();
                ids.sort();
                ids
            })
            .collect();
        let roles: Vec<(Role, u8, &[KeyId])> = self
            .roles
            .iter()
            .zip(&lists)
            .map(|((role, threshold, _), ids)| (*role, *threshold, &ids[..]))
            .collect();
        let draft = RootDraft {
            version: self.version,
            id: &self.id,
            environment: self.environment,
            keys: entries,
            roles: &roles,
            delivery_roles: RoleSet::of(&self.delivery),
            image_roles: self.image.as_deref().map(RoleSet::of),
            revoked: &self.revoked,
            min_sequences: &self.minima,
            expires: None,
            anchors: &[],
        };
        encoded(|w| draft.encode(w))
    }

    pub fn signed(&self, signers: &[&Key]) -> Vec<u8> {
        signed_file(FileKind::Root, &self.content(), signers)
    }
}

pub fn list(number: u64, revoked: &[KeyId], minima: &[(Uuid, u64)], signers: &[&Key]) -> Vec<u8> {
    let mut revoked = revoked.to_vec();
    revoked.sort();
    let content = encoded(|w| RevokeFile::encode_content(w, number, &ROOT_ID, &revoked, minima));
    signed_file(FileKind::Revoke, &content, signers)
}

pub fn time(seconds: u64, root_id: &Uuid, signers: &[&Key]) -> Vec<u8> {
    let content = encoded(|w| TimeFile::encode_content(w, seconds, root_id));
    signed_file(FileKind::Time, &content, signers)
}

pub const VENDOR: Uuid = *b"vendor 123456789";
pub const CLASS: Uuid = *b"class 0123456789";

/// An image to be changed by a test and then built.
#[derive(Clone)]
pub struct ImageSpec {
    pub payload: Vec<u8>,
    pub protected: Vec<(u16, Vec<u8>)>,
    /// Key hash, type, value; made over the right digest unless overwritten.
    pub signers: Vec<Key>,
    pub extra_pairs: Vec<([u8; 32], u16, Vec<u8>)>,
    pub header_bytes: u16,
    pub flags: u32,
}

pub fn image_spec(signers: &[&Key]) -> ImageSpec {
    ImageSpec {
        payload: (0..3000u32).flat_map(|i| (i * i).to_le_bytes()).collect(),
        protected: vec![
            (kind::SEC_CNT, 3u32.to_le_bytes().to_vec()),
            (kind::UUID_VID, VENDOR.to_vec()),
            (kind::UUID_CID, CLASS.to_vec()),
        ],
        signers: signers.iter().map(|key| (*key).clone()).collect(),
        extra_pairs: vec![],
        header_bytes: 0x200,
        flags: 0,
    }
}

impl ImageSpec {
    pub fn without(mut self, tlv: u16) -> Self {
        self.protected.retain(|(kind, _)| *kind != tlv);
        self
    }

    pub fn with(mut self, tlv: u16, value: &[u8]) -> Self {
        match self.protected.iter_mut().find(|(kind, _)| *kind == tlv) {
            Some(entry) => entry.1 = value.to_vec(),
            None => self.protected.push((tlv, value.to_vec())),
        }
        self
    }

    /// The signed part: header, payload, protected area.
    pub fn signed_part(&self) -> Vec<u8> {
        let mut area = Vec::new();
        for (kind, value) in &self.protected {
            area.extend(
                tlv::TlvHead {
                    kind: *kind,
                    len: value.len() as u16,
                }
                .to_bytes(),
            );
            area.extend(value);
        }
        let tot = if area.is_empty() { 0 } else { area.len() as u16 + 4 };
        let header = ImageHeader {
            load_addr: 0,
            hdr_size: self.header_bytes,
            protect_tlv_size: tot,
            img_size: self.payload.len() as u32,
            flags: self.flags,
            version: ImageVersion {
                major: 1,
                minor: 2,
                revision: 3,
                build: 4,
            },
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(HEADER_BYTES.max(self.header_bytes.into()), 0);
        bytes.extend(&self.payload);
        if tot != 0 {
            bytes.extend(
                tlv::TlvInfo {
                    magic: tlv::PROTECTED_MAGIC,
                    tot,
                }
                .to_bytes(),
            );
            bytes.extend(area);
        }
        bytes
    }

    pub fn digest(&self) -> [u8; 32] {
        Sha256::of(&self.signed_part())
    }

    pub fn build(&self) -> Vec<u8> {
        let digest = self.digest();
        let mut area = Vec::new();
        let mut push = |kind: u16, value: &[u8]| {
            area.extend(
                tlv::TlvHead {
                    kind,
                    len: value.len() as u16,
                }
                .to_bytes(),
            );
            area.extend(value);
        };
        push(kind::SHA256, &digest);
        for key in &self.signers {
            let (kind, value) = key.sign_image(&digest);
            push(kind::KEYHASH, &image_key_hash(&key.public()).unwrap());
            push(kind, &value);
        }
        for (key_hash, kind, value) in &self.extra_pairs {
            push(kind::KEYHASH, key_hash);
            push(*kind, value);
        }
        let mut bytes = self.signed_part();
        bytes.extend(
            tlv::TlvInfo {
                magic: tlv::UNPROTECTED_MAGIC,
                tot: area.len() as u16 + 4,
            }
            .to_bytes(),
        );
        bytes.extend(area);
        bytes
    }
}
