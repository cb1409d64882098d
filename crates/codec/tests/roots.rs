//! Trust root, revocation and time files: the worked example, every rule that bytes alone decide, and mutations.

mod common;

use ampoule_codec::Reason;
use ampoule_codec::cbor::Writer;
use ampoule_codec::cose::{self, KeyId, PublicKey, Sign1};
use ampoule_codec::limits::Limits;
use ampoule_codec::roots::{
    AnchorPurpose, Environment, FileKind, KeyEntry, KeyMaterial, RevokeFile, Role, RoleSet, RootDraft, RootFile,
    TimeFile, write_file,
};
use common::{encoded, hex, hex_file};

/// A draft with room to spoil it.
#[derive(Clone)]
struct Spec {
    version: u64,
    environment: Environment,
    keys: Vec<(KeyId, Option<Vec<u8>>)>,
    roles: Vec<(Role, u8, Vec<KeyId>)>,
    delivery_roles: RoleSet,
    image_roles: Option<RoleSet>,
    revoked: Vec<KeyId>,
    min_sequences: Vec<([u8; 16], u64)>,
    expires: Option<u64>,
    anchors: Vec<(AnchorPurpose, Vec<Vec<u8>>)>,
    blocks: usize,
}

const X: [u8; 32] = [0x42; 32];

fn id(number: u8) -> KeyId {
    [number; 32]
}

impl Spec {
    /// Keys 1 and 2 for role 1, 3 and 4 for role 2, 5 for role 6.
    fn good() -> Self {
        Spec {
            version: 1,
            environment: Environment::Production,
            keys: (1..=5).map(|n| (id(n), None)).collect(),
            roles: vec![
                (Role::Root, 2, vec![id(1), id(2)]),
                (Role::Release, 1, vec![id(3), id(4)]),
                (Role::Image, 1, vec![id(5)]),
            ],
            delivery_roles: RoleSet::of(&[Role::Release]),
            image_roles: None,
            revoked: vec![],
            min_sequences: vec![],
            expires: None,
            anchors: vec![],
            blocks: 1,
        }
    }

    fn file(&self) -> Vec<u8> {
        let keys: Vec<KeyEntry<'_>> = self
            .keys
            .iter()
            .map(|(id, der)| KeyEntry {
                id,
                material: der
                    .as_ref()
                    .map_or(KeyMaterial::Raw(PublicKey::Ed25519 { x: &X }), |der| {
                        KeyMaterial::Authority(der)
                    }),
            })
            .collect();
        let roles: Vec<_> = self.roles.iter().map(|(role, n, ids)| (*role, *n, &ids[..])).collect();
        let borrowed: Vec<Vec<&[u8]>> = self
            .anchors
            .iter()
            .map(|(_, items)| items.iter().map(|item| &item[..]).collect())
            .collect();
        let anchors: Vec<_> = self
            .anchors
            .iter()
            .zip(&borrowed)
            .map(|((p, _), items)| (*p, &items[..]))
            .collect();
        let draft = RootDraft {
            version: self.version,
            id: &[9; 16],
            environment: self.environment,
            keys: &keys,
            roles: &roles,
            delivery_roles: self.delivery_roles,
            image_roles: self.image_roles,
            revoked: &self.revoked,
            min_sequences: &self.min_sequences,
            expires: self.expires,
            anchors: &anchors,
        };
        let content = encoded(|w| draft.encode(w));
        file_of(FileKind::Root, &content, self.blocks)
    }

    fn number(&self) -> u16 {
        number_of(&self.file())
    }

    fn with(&self, change: impl FnOnce(&mut Spec)) -> Spec {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

fn file_of(kind: FileKind, content: &[u8], blocks: usize) -> Vec<u8> {
    let kids: Vec<KeyId> = (0..blocks).map(|n| id(n as u8 + 1)).collect();
    let headers: Vec<Vec<u8>> = kids
        .iter()
        .map(|kid| encoded(|w| cose::write_protected(w, cose::ALG_ED25519, kid, None)))
        .collect();
    let blocks: Vec<Sign1<'_>> = kids
        .iter()
        .zip(&headers)
        .map(|(kid, protected)| Sign1 {
            protected,
            algorithm: cose::ALG_ED25519,
            kid,
            chain: None,
            signature: &[0; 64],
        })
        .collect();
    encoded(|w| write_file(w, kind, content, &blocks))
}

fn number_of(file: &[u8]) -> u16 {
    RootFile::decode(file, &Limits::MCU).map_or_else(|refused| refused.reason.number(), |_| 0)
}

#[test]
fn the_worked_example_is_read_and_written_byte_for_byte() {
    let bytes = hex_file("profile/root-1.hex");
    assert_eq!(bytes.len(), 628);
    assert_eq!(FileKind::of(&bytes), Some(FileKind::Root));
    let file = RootFile::decode(&bytes, &Limits::MCU).unwrap();
    let root = file.root;
    assert_eq!(root.version, 1);
    assert_eq!(hex(root.id), "5b8b5becd94e5dde8b20af19702569a6");
    assert_eq!(root.environment, Environment::Production);
    assert_eq!(root.roles.defined(), RoleSet::of(&[Role::Root, Role::Release]));
    assert_eq!(root.roles.get(Role::Root).unwrap().threshold, 2);
    assert_eq!(root.delivery_roles, RoleSet::of(&[Role::Release]));
    assert_eq!(root.image_roles, RoleSet::of(&[Role::Image]));
    assert!(root.revoked.is_empty() && root.expires.is_none());
    assert_eq!(root.min_sequences.of_class(&[0; 16]), 0);

    let keys: Vec<KeyEntry<'_>> = root.keys.iter().collect();
    assert_eq!(keys.len(), 3);
    let PublicKey::Ed25519 { x } = (match keys[2].material {
        KeyMaterial::Raw(key) => key,
        KeyMaterial::Authority(_) => panic!("a raw key"),
    }) else {
        panic!("an Ed25519 key")
    };
    assert_eq!(
        hex(x),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
    assert_eq!(root.roles.role_of(keys[2].id), Some(Role::Release));

    let ids: Vec<Vec<KeyId>> = root
        .roles
        .iter()
        .map(|def| def.keys.iter().copied().collect())
        .collect();
    let roles: Vec<_> = root
        .roles
        .iter()
        .zip(&ids)
        .map(|(def, ids)| (def.role, def.threshold, &ids[..]))
        .collect();
    let draft = RootDraft {
        version: 1,
        id: root.id,
        environment: root.environment,
        keys: &keys,
        roles: &roles,
        delivery_roles: root.delivery_roles,
        image_roles: None,
        revoked: &[],
        min_sequences: &[],
        expires: None,
        anchors: &[],
    };
    assert_eq!(hex(&encoded(|w| draft.encode(w))), hex(file.content));
    let blocks: Vec<Sign1<'_>> = file.blocks.map(Result::unwrap).collect();
    assert_eq!(blocks.len(), 2);
    assert_eq!(
        hex(&encoded(|w| write_file(w, FileKind::Root, file.content, &blocks))),
        hex(&bytes)
    );
}

#[test]
fn a_root_with_every_member_is_read_as_it_was_written() {
    let key = encoded(|w| PublicKey::Ed25519 { x: &X }.encode(w));
    let file = Spec::good()
        .with(|s| {
            s.version = u64::MAX;
            s.environment = Environment::Development;
            s.keys.push((id(6), None));
            s.keys.push((id(7), Some(vec![0x30; 1024])));
            s.roles[1].2.push(id(7));
            s.roles.push((Role::ImageSecond, 1, vec![id(6)]));
            s.image_roles = Some(RoleSet::of(&[Role::Image, Role::ImageSecond]));
            s.revoked = vec![id(0x50), id(0x60)];
            s.min_sequences = vec![([1; 16], 7), ([2; 16], 1 << 53 >> 1)];
            s.expires = Some(4_000_000_000);
            s.anchors = vec![
                (AnchorPurpose::DeviceCa, vec![vec![1], vec![2, 3]]),
                (AnchorPurpose::AuditCheckpoint, vec![key.clone()]),
            ];
        })
        .file();
    let root = RootFile::decode(&file, &Limits::MCU).unwrap().root;
    assert_eq!(root.environment, Environment::Development);
    assert_eq!(
        root.keys.get(&id(7)).unwrap().material,
        KeyMaterial::Authority(&[0x30; 1024])
    );
    assert_eq!(root.image_roles, RoleSet::of(&[Role::Image, Role::ImageSecond]));
    assert!(root.revoked.contains(&id(0x60)) && !root.revoked.contains(&id(1)));
    assert_eq!(root.min_sequences.of_class(&[1; 16]), 7);
    assert_eq!(root.min_sequences.of_class(&[3; 16]), 0);
    assert_eq!(root.expires, Some(4_000_000_000));
    assert_eq!(
        root.anchors.of_purpose(AnchorPurpose::DeviceCa).collect::<Vec<_>>(),
        [&[1][..], &[2, 3]]
    );
    assert_eq!(root.anchors.of_purpose(AnchorPurpose::ServerCa).count(), 0);
    assert_eq!(
        root.anchors
            .of_purpose(AnchorPurpose::AuditCheckpoint)
            .collect::<Vec<_>>(),
        [&key[..]]
    );
}

#[test]
fn every_content_rule_has_its_number() {
    let good = Spec::good();
    assert_eq!(good.number(), 0);
    type Case = (&'static str, u16, Box<dyn Fn(&mut Spec)>);
    let cases: Vec<Case> = vec![
        ("version 0", 801, Box::new(|s| s.version = 0)),
        ("no role 1", 801, Box::new(|s| drop(s.roles.remove(0)))),
        ("no role 2", 801, Box::new(|s| drop(s.roles.remove(1)))),
        (
            "without role 6 nothing boots here, yet it is valid",
            0,
            Box::new(|s| {
                s.roles.remove(2);
                s.keys.remove(4);
            }),
        ),
        ("key of a role not listed", 801, Box::new(|s| s.roles[1].2.push(id(8)))),
        ("key without role", 801, Box::new(|s| s.keys.push((id(8), None)))),
        ("key in two roles", 807, Box::new(|s| s.roles[1].2.insert(0, id(1)))),
        ("ids not ascending", 801, Box::new(|s| s.roles[1].2.reverse())),
        ("id twice in a role", 801, Box::new(|s| s.roles[1].2.push(id(4)))),
        ("keys not ascending", 102, Box::new(|s| s.keys.swap(0, 1))),
        ("key twice", 103, Box::new(|s| s.keys.insert(0, (id(1), None)))),
        ("roles not ascending", 102, Box::new(|s| s.roles.swap(0, 1))),
        ("threshold 0", 808, Box::new(|s| s.roles[0].1 = 0)),
        ("threshold above the keys", 808, Box::new(|s| s.roles[0].1 = 3)),
        ("authority as root key", 801, Box::new(|s| s.keys[0].1 = Some(vec![1]))),
        ("authority as release key", 0, Box::new(|s| s.keys[2].1 = Some(vec![1]))),
        ("authority as image key", 801, Box::new(|s| s.keys[4].1 = Some(vec![1]))),
        (
            "certificate too long",
            105,
            Box::new(|s| s.keys[2].1 = Some(vec![1; 1025])),
        ),
        (
            "no delivery role",
            801,
            Box::new(|s| s.delivery_roles = RoleSet::default()),
        ),
        (
            "delivery without role 2",
            801,
            Box::new(|s| s.delivery_roles = RoleSet::of(&[Role::Distribute])),
        ),
        (
            "delivery role not defined",
            801,
            Box::new(|s| s.delivery_roles = RoleSet::of(&[Role::Release, Role::Distribute])),
        ),
        (
            "delivery by image keys",
            801,
            Box::new(|s| s.delivery_roles = RoleSet::of(&[Role::Release, Role::Image])),
        ),
        (
            "image role named",
            0,
            Box::new(|s| s.image_roles = Some(RoleSet::of(&[Role::Image]))),
        ),
        (
            "image role not defined",
            801,
            Box::new(|s| s.image_roles = Some(RoleSet::of(&[Role::Image, Role::ImageSecond]))),
        ),
        (
            "revoked not ascending",
            801,
            Box::new(|s| s.revoked = vec![id(9), id(8)]),
        ),
        (
            "minima not ascending",
            102,
            Box::new(|s| s.min_sequences = vec![([2; 16], 1), ([1; 16], 1)]),
        ),
        (
            "minimum too large",
            105,
            Box::new(|s| s.min_sequences = vec![([2; 16], 1 << 53)]),
        ),
        (
            "checkpoint key that is none",
            801,
            Box::new(|s| s.anchors = vec![(AnchorPurpose::AuditCheckpoint, vec![vec![0xa0]])]),
        ),
        (
            "purpose without anchors",
            801,
            Box::new(|s| s.anchors = vec![(AnchorPurpose::DeviceCa, vec![])]),
        ),
        (
            "5 anchors",
            801,
            Box::new(|s| s.anchors = vec![(AnchorPurpose::DeviceCa, vec![vec![1]; 5])]),
        ),
        ("no block", 801, Box::new(|s| s.blocks = 0)),
        ("16 blocks", 0, Box::new(|s| s.blocks = 16)),
        ("17 blocks", 105, Box::new(|s| s.blocks = 17)),
    ];
    for (name, number, spoil) in cases {
        assert_eq!(good.with(spoil).number(), number, "{name}");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let keys = |count: u8| {
        Spec::good().with(|s| {
            s.keys = (1..=count).map(|n| (id(n), None)).collect();
            s.roles[1].2 = (3..=count).filter(|n| *n != 5).map(id).collect();
        })
    };
    assert_eq!(keys(16).number(), 0);
    assert_eq!(keys(17).number(), 105);
    let revoked = |count: u8| Spec::good().with(|s| s.revoked = (1..=count).map(id).collect());
    assert_eq!(revoked(64).number(), 0);
    assert_eq!(revoked(65).number(), 105);
    let anchors = |bytes: usize| {
        Spec::good().with(|s| {
            s.anchors = vec![
                (AnchorPurpose::DeviceCa, vec![vec![1; 1024]; 4]),
                (
                    AnchorPurpose::ServerCa,
                    vec![vec![1; 1024], vec![1; 1024], vec![1; 800], vec![1; bytes]],
                ),
            ]
        })
    };
    let rest = 8192 - (anchors(300).file().len() - 300);
    assert_eq!((anchors(rest).file().len(), anchors(rest).number()), (8192, 0));
    assert_eq!(
        (anchors(rest + 1).file().len(), anchors(rest + 1).number()),
        (8193, 105)
    );
}

#[test]
fn a_root_cut_short_or_lengthened_is_refused() {
    let bytes = hex_file("profile/root-1.hex");
    for length in 0..bytes.len() {
        let number = number_of(&bytes[..length]);
        assert!(matches!(number, 101), "{length}: {number}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(number_of(&longer), 104);
}

#[test]
fn a_flipped_bit_is_refused_or_changes_what_is_signed_or_the_signature() {
    let bytes = hex_file("profile/root-1.hex");
    let original = RootFile::decode(&bytes, &Limits::MCU).unwrap();
    let signatures = |file: &RootFile<'_>| -> Vec<Vec<u8>> {
        file.blocks
            .map(|block| [block.unwrap().protected, block.unwrap().signature].concat())
            .collect()
    };
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(file) = RootFile::decode(&flipped, &Limits::MCU) {
            let same = file.content == original.content && signatures(&file) == signatures(&original);
            assert!(!same, "bit {bit} changes nothing that signatures cover");
        }
    }
}

#[test]
fn revocation_lists_and_time_files_are_read_as_written() {
    let revoked = [id(1), id(2)];
    let minima = [([3; 16], 12)];
    let content = encoded(|w| RevokeFile::encode_content(w, 5, &[9; 16], &revoked, &minima));
    let bytes = file_of(FileKind::Revoke, &content, 2);
    let file = RevokeFile::decode(&bytes, &Limits::MCU).unwrap();
    assert_eq!((file.number, file.root_id), (5, &[9; 16]));
    assert!(file.revoked.contains(&id(2)));
    assert_eq!(file.min_sequences.of_class(&[3; 16]), 12);
    assert_eq!((file.content, file.blocks.count()), (&content[..], 2));

    let content = encoded(|w| TimeFile::encode_content(w, 1_800_000_000, &[9; 16]));
    let bytes = file_of(FileKind::Time, &content, 8);
    let file = TimeFile::decode(&bytes, &Limits::MCU).unwrap();
    assert_eq!((file.seconds, file.root_id), (1_800_000_000, &[9; 16]));
    assert_eq!(FileKind::of(&bytes), Some(FileKind::Time));
}

#[test]
fn other_lists_and_time_files_are_refused() {
    let revoke = |write: &dyn Fn(&mut Writer<'_>), kind| {
        let file = file_of(kind, &encoded(write), 1);
        RevokeFile::decode(&file, &Limits::MCU).map_or_else(|refused| refused.reason.number(), |_| 0)
    };
    let minimal = |w: &mut Writer<'_>| RevokeFile::encode_content(w, 5, &[9; 16], &[], &[]);
    assert_eq!(revoke(&minimal, FileKind::Revoke), 0);
    assert_eq!(revoke(&minimal, FileKind::Root), 811);
    assert_eq!(
        revoke(
            &|w| {
                w.map(1).uint(1).uint(5);
            },
            FileKind::Revoke
        ),
        811
    );
    assert_eq!(
        revoke(
            &|w| {
                w.map(2).uint(1).uint(5).uint(3).bytes(&[9; 15]);
            },
            FileKind::Revoke
        ),
        811
    );
    assert_eq!(
        revoke(
            &|w| {
                w.map(2).uint(1).uint(5).uint(4).bytes(&[9; 16]);
            },
            FileKind::Revoke
        ),
        811
    );
    assert_eq!(
        revoke(
            &|w| {
                w.map(2).uint(3).bytes(&[9; 16]).uint(1).uint(5);
            },
            FileKind::Revoke
        ),
        102
    );

    let time = |write: &dyn Fn(&mut Writer<'_>), blocks| {
        let file = file_of(FileKind::Time, &encoded(write), blocks);
        TimeFile::decode(&file, &Limits::MCU).map_or_else(|refused| refused.reason.number(), |_| 0)
    };
    let minimal = |w: &mut Writer<'_>| TimeFile::encode_content(w, 1, &[9; 16]);
    assert_eq!(time(&minimal, 8), 0);
    assert_eq!(time(&minimal, 9), 105);
    assert_eq!(
        time(
            &|w| {
                w.map(1).uint(1).uint(5);
            },
            1
        ),
        813
    );
    assert_eq!(
        time(
            &|w| {
                w.map(2).uint(1).int(-5).uint(3).bytes(&[9; 16]);
            },
            1
        ),
        813
    );
}

#[test]
fn a_root_signed_through_a_certificate_is_refused() {
    let chain = cose::Chain {
        leaf: &[1],
        intermediate: None,
    };
    let protected = encoded(|w| cose::write_protected(w, cose::ALG_ED25519, &id(1), Some(chain)));
    let block = Sign1 {
        protected: &protected,
        algorithm: cose::ALG_ED25519,
        kid: &id(1),
        chain: Some(chain),
        signature: &[0; 64],
    };
    let good = Spec::good().file();
    let content = RootFile::decode(&good, &Limits::MCU).unwrap().content;
    let file = encoded(|w| write_file(w, FileKind::Root, content, &[block]));
    assert_eq!(
        RootFile::decode(&file, &Limits::MCU).unwrap_err(),
        Reason::AuthBlockHeader.into()
    );
}
