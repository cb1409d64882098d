//! Trust roots: content checks, counting, rotation, revocation lists and time files (profile sections 12, 13, 15).

mod common;

use ampoule_trust::alg::PortableP256;
use ampoule_trust::{Algorithms, PORTABLE, PublicKey, Revocations, TrustRoot, thumbprint};
use codec::Reason;
use codec::cose::ALG_ESP256;
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{Environment, FileKind, KeyEntry, KeyMaterial, Role, RootFile};
use common::*;

fn parse(bytes: &[u8]) -> Result<TrustRoot<'_>, Reason> {
    TrustRoot::parse(bytes, &Limits::MCU, &PORTABLE).map_err(|refused| refused.reason)
}

fn verify_self(bytes: &[u8]) -> Result<(), Reason> {
    parse(bytes)?.verify_self(&PORTABLE).map_err(|refused| refused.reason)
}

fn rotate(from: &[u8], to: &[u8]) -> Result<u64, Reason> {
    let root = parse(from).unwrap();
    root.successor(to, &Limits::MCU, &PORTABLE)
        .map(|root| root.version())
        .map_err(|refused| refused.reason)
}

/// Profile section 18: two root keys, threshold 2, one release key.
const EXAMPLE: &str = include_str!("../../../vectors/profile/root-1.hex");

#[test]
fn the_profile_s_example_root() {
    let bytes = hex(EXAMPLE);
    assert_eq!(bytes.len(), 628);
    let root = parse(&bytes).unwrap();
    assert_eq!(root.version(), 1);
    assert_eq!(root.id()[..], hex("5b8b5becd94e5dde8b20af19702569a6")[..]);
    assert_eq!(root.environment(), Environment::Production);
    assert_eq!(
        root.entries().map(|entry| entry.role).collect::<Vec<_>>(),
        [Role::Root, Role::Root, Role::Release]
    );
    root.verify_self(&PORTABLE).unwrap();
    assert_eq!(root.bytes(), bytes);
    assert_eq!(TrustRoot::stored(&bytes, &Limits::MCU).unwrap().version(), 1);
}

/// What a root is asked for is what the strict decoder reads in it, also when it is only looked up in a stored root.
#[test]
fn looked_up_as_decoded() {
    let keys = keys();
    let mut spec = root_spec(&keys).role(Role::ImageSecond, 1, &[&keys.image_second]);
    spec.environment = Environment::Development;
    spec.version = 1 << 40;
    spec.minima = vec![([1; 16], 3), ([2; 16], 1 << 52)];
    spec.revoked = vec![keys.release[0].id()];
    for bytes in [
        spec.signed(&[&keys.root[0]]),
        root_spec(&keys).signed(&[&keys.root[0]]),
        hex(EXAMPLE),
    ] {
        let decoded = RootFile::decode(&bytes, &Limits::MCU).unwrap().root;
        let root = TrustRoot::stored(&bytes, &Limits::MCU).unwrap();
        assert_eq!(
            (root.version(), root.id(), root.environment()),
            (decoded.version, decoded.id, decoded.environment)
        );
        assert_eq!(root.expires(), decoded.expires);
        for class in [[1; 16], [2; 16], [3; 16]] {
            assert_eq!(root.min_sequence(&class), decoded.min_sequences.of_class(&class));
        }
        let mut entries = root.entries();
        for (index, expected) in decoded.keys.iter().enumerate() {
            if decoded.revoked.contains(expected.id) {
                continue;
            }
            let entry = entries.next().unwrap();
            assert_eq!((usize::from(entry.index), entry.id), (index, expected.id));
            assert_eq!(KeyMaterial::Raw(entry.key.unwrap()), expected.material);
            assert_eq!(Some(entry.role), decoded.roles.role_of(expected.id));
        }
        assert!(entries.next().is_none());
        for len in 0..bytes.len() {
            // Total on anything; a root cut off is at most a root with fewer keys.
            if let Ok(cut) = TrustRoot::stored(&bytes[..len], &Limits::MCU) {
                assert!(cut.entries().count() <= decoded.keys.len());
            }
        }
    }
}

/// Every bit of the example counts: nothing changed is accepted as a factory root.
#[test]
fn every_changed_bit_of_a_root_is_refused() {
    let good = hex(EXAMPLE);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(verify_self(&bad).is_err(), "byte {at} bit {bit}");
        }
    }
    for len in 0..good.len() {
        assert!(parse(&good[..len]).is_err());
    }
}

/// 805 and 810: the root's own threshold.
#[test]
fn self_signature() {
    let keys = keys();
    let [a, b, c] = &keys.root;
    let spec = root_spec(&keys);
    assert_eq!(verify_self(&spec.signed(&[a, b])), Ok(()));
    assert_eq!(verify_self(&spec.signed(&[a])), Err(Reason::RootNewThreshold));
    assert_eq!(
        verify_self(&spec.signed(&[a, c])),
        Err(Reason::RootNewThreshold),
        "not a root key"
    );
    assert_eq!(
        verify_self(&spec.signed(&[a, &keys.release[0], &keys.image[0]])),
        Err(Reason::RootNewThreshold)
    );
    assert_eq!(verify_self(&spec.signed(&[a, b, c])), Ok(()), "strangers are ignored");
    let content = spec.content();
    let block = |key: &Key| key.block(b"AMP-ROOT-1", &content);
    let file = |blocks: &[Block]| file(FileKind::Root, &content, blocks);
    assert_eq!(
        verify_self(&file(&[block(a), block(b).damaged()])),
        Err(Reason::RootSignature)
    );
    assert_eq!(
        verify_self(&file(&[block(a), block(b), block(c).damaged()])),
        Ok(()),
        "a stranger's is not looked at"
    );
    // Signed as a list of another kind, or as a delivery.
    for aad in [&b"AMP-REVOKE-1"[..], b"AMP-TIME-1", b""] {
        assert_eq!(
            verify_self(&file(&[block(a), b.block(aad, &content)])),
            Err(Reason::RootSignature)
        );
    }
    // The block names another algorithm than the key has.
    assert_eq!(
        verify_self(&file(&[block(a).naming(ALG_ESP256), block(b)])),
        Err(Reason::AuthAlgMismatch)
    );
    assert_eq!(
        verify_self(&file(&[block(b).naming(-19), block(a)])),
        Err(Reason::AuthAlgMismatch)
    );
    // A device without Ed25519 cannot count a; it does not take it for wrong either.
    let bytes = spec.signed(&[a, b]);
    let root = parse(&bytes).unwrap();
    let p256 = Algorithms::new(&[&PortableP256]);
    assert_eq!(root.verify_self(&p256).unwrap_err().reason, Reason::RootNewThreshold);
}

/// CVE-2020-6174, CVE-2020-15093: two signatures of one key.
#[test]
fn one_key_counts_once() {
    let keys = keys();
    let [a, b, _] = &keys.root;
    let spec = root_spec(&keys);
    // Two blocks of one kid are refused by their order.
    assert_eq!(verify_self(&spec.signed(&[a, a])), Err(Reason::AuthBlockOrder));
    assert_eq!(verify_self(&spec.signed(&[b, b])), Err(Reason::AuthBlockOrder));
    // One key under two ids: the second id is not its thumbprint.
    let (id_a, id_b) = (a.id(), b.id());
    let mut entries: Vec<KeyEntry> = Vec::new();
    let all: Vec<Key> = spec.roles.iter().flat_map(|(.., keys)| keys.clone()).collect();
    let ids: Vec<_> = all.iter().map(Key::id).collect();
    for (key, id) in all.iter().zip(&ids) {
        let public = if *id == id_b { a.public() } else { key.public() };
        entries.push(KeyEntry {
            id,
            material: KeyMaterial::Raw(public),
        });
    }
    entries.sort_by_key(|entry| entry.id);
    let content = spec.content_with(&entries);
    let mut second = a.block(b"AMP-ROOT-1", &content);
    second.kid = id_b;
    assert_ne!(id_a, id_b);
    assert_eq!(
        parse(&file(FileKind::Root, &content, &[second])).unwrap_err(),
        Reason::RootKeyId
    );
}

/// 806: a key id is recomputed, never believed.
#[test]
fn key_ids_are_recomputed() {
    let keys = keys();
    let spec = root_spec(&keys);
    let content = spec.content();
    // Change one byte of every key's value; its id stays.
    for (.., role_keys) in &spec.roles {
        for key in role_keys {
            let raw = match key.public() {
                PublicKey::Ed25519 { x } => x,
                PublicKey::P256 { x, .. } => x,
                _ => unreachable!(),
            };
            let at = content.windows(32).position(|window| window == raw).unwrap();
            let mut changed = content.clone();
            changed[at] ^= 1;
            let bytes = signed_file(FileKind::Root, &changed, &[&keys.root[0], &keys.root[1]]);
            assert_eq!(parse(&bytes).unwrap_err(), Reason::RootKeyId);
        }
    }
}

/// 801: a weak key with a right id.
#[test]
fn weak_keys_are_refused() {
    let keys = keys();
    let mut spec = root_spec(&keys);
    spec.roles.retain(|(role, ..)| *role != Role::Distribute);
    let all: Vec<Key> = spec.roles.iter().flat_map(|(.., keys)| keys.clone()).collect();
    let ids: Vec<_> = all.iter().map(Key::id).collect();
    let (mut identity, off_curve) = ([0; 32], [5; 32]);
    identity[0] = 1;
    for weak in [
        PublicKey::Ed25519 { x: &identity },
        PublicKey::Ed25519 { x: &[0xff; 32] },
        PublicKey::P256 {
            x: &off_curve,
            y: &off_curve,
        },
        PublicKey::P256 {
            x: &[0; 32],
            y: &[0; 32],
        },
    ] {
        let weak_id = thumbprint(&weak);
        let mut entries: Vec<KeyEntry> = all
            .iter()
            .zip(&ids)
            .map(|(key, id)| KeyEntry {
                id,
                material: KeyMaterial::Raw(key.public()),
            })
            .collect();
        entries.push(KeyEntry {
            id: &weak_id,
            material: KeyMaterial::Raw(weak),
        });
        entries.sort_by_key(|entry| entry.id);
        // The draft writes key ids of its own keys: let the weak one stand for the distribute key by id.
        let mut content = spec
            .clone()
            .role(Role::Distribute, 1, &[&keys.distribute])
            .content_with(&entries);
        let at = content
            .windows(32)
            .rposition(|window| window == keys.distribute.id())
            .unwrap();
        content[at..at + 32].copy_from_slice(&weak_id);
        let bytes = signed_file(FileKind::Root, &content, &[&keys.root[0], &keys.root[1]]);
        let refused = TrustRoot::parse(&bytes, &Limits::MCU, &PORTABLE).unwrap_err();
        assert_eq!((refused.reason, refused.detail), (Reason::RootInvalid, "weak key"));
        // The device's own store: strength was checked when it came, and use checks it again.
        assert!(TrustRoot::stored(&bytes, &Limits::MCU).is_ok());
    }
}

/// 801, 807, 808: the other content checks.
#[test]
fn content_checks() {
    let keys = keys();
    let spec = || root_spec(&keys);
    let check = |spec: RootSpec| parse(&spec.signed(&[&keys.root[0], &keys.root[1]])).map(|root| root.version());
    let [a, b, c] = &keys.root;
    assert_eq!(check(spec()), Ok(1));
    assert_eq!(check(RootSpec { version: 0, ..spec() }), Err(Reason::RootInvalid));
    assert_eq!(check(spec().role(Role::Root, 0, &[a])), Err(Reason::RootThreshold));
    assert_eq!(check(spec().role(Role::Root, 2, &[a])), Err(Reason::RootThreshold));
    assert_eq!(
        check(spec().role(Role::Image, 3, &[&keys.image[0], &keys.image[1]])),
        Err(Reason::RootThreshold)
    );
    assert_eq!(
        check(spec().role(Role::Root, 0, &[])),
        Err(Reason::RootInvalid),
        "no role 1"
    );
    assert_eq!(
        check(spec().role(Role::Release, 0, &[])),
        Err(Reason::RootInvalid),
        "no role 2"
    );
    assert_eq!(
        check(spec().role(Role::Release, 1, &[a])),
        Err(Reason::RootKeyInTwoRoles)
    );
    assert_eq!(
        check(spec().role(Role::Image, 1, &[&keys.release[1]])),
        Err(Reason::RootKeyInTwoRoles)
    );
    assert_eq!(
        check(RootSpec {
            delivery: vec![Role::Release, Role::ReleaseSecond],
            ..spec()
        }),
        Err(Reason::RootInvalid)
    );
    assert_eq!(
        check(RootSpec {
            delivery: vec![Role::Distribute],
            ..spec()
        }),
        Err(Reason::RootInvalid)
    );
    assert_eq!(
        check(RootSpec {
            delivery: vec![],
            ..spec()
        }),
        Err(Reason::RootInvalid)
    );
    assert_eq!(
        check(RootSpec {
            delivery: vec![Role::Release, Role::Image],
            ..spec()
        }),
        Err(Reason::RootInvalid)
    );
    assert_eq!(
        check(RootSpec {
            image: Some(vec![Role::Image, Role::ImageSecond]),
            ..spec()
        }),
        Err(Reason::RootInvalid)
    );
    assert_eq!(
        check(spec().role(Role::Image, 0, &[])),
        Ok(1),
        "a device whose boot chain is not ours"
    );
    assert_eq!(check(spec().role(Role::Root, 3, &[a, b, c])), Ok(1));
}

/// 802, 803: only the next version of the same root.
#[test]
fn rotation_is_sequential() {
    let keys = keys();
    let signers = [&keys.root[0], &keys.root[1]];
    let old = root_spec(&keys).signed(&signers);
    let with = |change: fn(&mut RootSpec)| {
        let mut spec = root_spec(&keys);
        spec.version = 2;
        change(&mut spec);
        rotate(&old, &spec.signed(&signers))
    };
    assert_eq!(with(|_| {}), Ok(2));
    assert_eq!(with(|spec| spec.version = 1), Err(Reason::RootVersion));
    assert_eq!(with(|spec| spec.version = 3), Err(Reason::RootVersion));
    assert_eq!(with(|spec| spec.version = u64::MAX), Err(Reason::RootVersion));
    assert_eq!(with(|spec| spec.id[0] ^= 1), Err(Reason::RootId));
    assert_eq!(
        with(|spec| spec.environment = Environment::Development),
        Err(Reason::RootId)
    );
    assert_eq!(rotate(&old, &old), Err(Reason::RootVersion));
    let mut last = root_spec(&keys);
    last.version = u64::MAX;
    let mut first = root_spec(&keys);
    first.version = 1;
    assert_eq!(
        rotate(&last.signed(&signers), &first.signed(&signers)),
        Err(Reason::RootVersion)
    );
}

/// 804, 805, 810: old and new thresholds, each with its own keys.
#[test]
fn rotation_needs_old_and_new_keys() {
    let keys = keys();
    let [a, b, c] = &keys.root;
    let old = root_spec(&keys).signed(&[a, b]);
    let new = |threshold: u8, of: &[&Key]| {
        let mut spec = root_spec(&keys).role(Role::Root, threshold, of);
        spec.version = 2;
        spec
    };
    // A key that is in both counts in both.
    assert_eq!(rotate(&old, &new(2, &[a, b]).signed(&[a, b])), Ok(2));
    assert_eq!(rotate(&old, &new(2, &[a, c]).signed(&[a, b, c])), Ok(2));
    assert_eq!(rotate(&old, &new(1, &[c]).signed(&[a, b, c])), Ok(2));
    // Signed by the new ones only, by the old ones only, by too few of either.
    assert_eq!(rotate(&old, &new(1, &[c]).signed(&[c])), Err(Reason::RootOldThreshold));
    assert_eq!(
        rotate(&old, &new(2, &[a, c]).signed(&[a, c])),
        Err(Reason::RootOldThreshold)
    );
    assert_eq!(
        rotate(&old, &new(1, &[c]).signed(&[a, b])),
        Err(Reason::RootNewThreshold)
    );
    assert_eq!(
        rotate(&old, &new(3, &[a, b, c]).signed(&[a, b])),
        Err(Reason::RootNewThreshold)
    );
    // A threshold that the new root lowers is still the old one's for this step.
    assert_eq!(
        rotate(&old, &new(1, &[a, b]).signed(&[a])),
        Err(Reason::RootOldThreshold)
    );
    // A known kid with a wrong signature refuses, whoever knows it.
    let spec = new(1, &[c]);
    let content = spec.content();
    let block = |key: &Key| key.block(b"AMP-ROOT-1", &content);
    let damaged = |blocks: &[Block]| rotate(&old, &file(FileKind::Root, &content, blocks));
    assert_eq!(
        damaged(&[block(a), block(b).damaged(), block(c)]),
        Err(Reason::RootSignature)
    );
    assert_eq!(
        damaged(&[block(a), block(b), block(c).damaged()]),
        Err(Reason::RootSignature)
    );
    assert_eq!(
        damaged(&[block(a), block(b), block(c), block(&keys.stranger).damaged()]),
        Ok(2)
    );
    // Release keys rotate nothing.
    assert_eq!(
        rotate(&old, &new(2, &[a, b]).signed(&[&keys.release[0], &keys.release[1]])),
        Err(Reason::RootOldThreshold)
    );
}

/// 809: revocations and minima do not shrink, except that a revoked key may leave the root for good.
#[test]
fn rotation_takes_nothing_back() {
    let keys = keys();
    let signers = [&keys.root[0], &keys.root[1]];
    let (class_a, class_b): (Uuid, Uuid) = ([1; 16], [2; 16]);
    let mut old = root_spec(&keys);
    old.minima = vec![(class_a, 5), (class_b, 7)];
    let stranger = keys.stranger.id();
    let listed = keys.release[0].id();
    old.revoked = vec![stranger, listed];
    old.revoked.sort();
    let old_bytes = old.signed(&signers);
    let to = |change: &dyn Fn(&mut RootSpec)| {
        let mut spec = old.clone();
        spec.version = 2;
        change(&mut spec);
        rotate(&old_bytes, &spec.signed(&signers))
    };
    let refused = Err(Reason::RootRegression);
    assert_eq!(to(&|_| {}), Ok(2));
    assert_eq!(to(&|spec| spec.minima[0].1 = 6), Ok(2));
    assert_eq!(to(&|spec| spec.minima.push(([3; 16], 1))), Ok(2));
    assert_eq!(to(&|spec| spec.minima[0].1 = 4), refused);
    assert_eq!(to(&|spec| spec.minima.truncate(1)), refused);
    assert_eq!(to(&|spec| spec.minima.clear()), refused);
    assert_eq!(
        to(&|spec| spec.revoked.retain(|id| *id != stranger)),
        refused,
        "never listed as a key"
    );
    assert_eq!(
        to(&|spec| spec.revoked.retain(|id| *id != listed)),
        refused,
        "still listed as a key"
    );
    let dropped = |spec: &mut RootSpec| {
        *spec = spec.clone().role(Role::Release, 1, &[&keys.release[1]]);
        spec.revoked.retain(|id| *id != listed);
    };
    assert_eq!(to(&dropped), Ok(2), "gone with its entry");
}

fn listed<'l>(root: &TrustRoot, bytes: &'l [u8]) -> Result<Revocations<'l>, Reason> {
    root.verify_list(bytes, &Limits::MCU, &PORTABLE)
        .map_err(|refused| refused.reason)
}

/// 811, and what a list does.
#[test]
fn revocation_lists() {
    let keys = keys();
    let mut spec = root_spec(&keys);
    let class: Uuid = [1; 16];
    spec.minima = vec![(class, 5)];
    let bytes = spec.signed(&[&keys.root[0]]);
    let root = parse(&bytes).unwrap();
    let refused = Err(Reason::RevokeInvalid);
    let number = |list: Result<Revocations, Reason>| list.map(|list| list.number());
    let signer = &keys.revoke;
    let release = keys.release[0].id();

    let first = list(3, &[release], &[(class, 9)], &[signer]);
    let held = root.with_list(listed(&root, &first).unwrap());
    assert!(!held.entries().any(|entry| *entry.id == release));
    assert_eq!(held.entries().count() + 1, root.entries().count());
    assert_eq!(
        (
            root.min_sequence(&class),
            held.min_sequence(&class),
            held.min_sequence(&[2; 16])
        ),
        (5, 9, 0)
    );
    let lower = list(3, &[release], &[(class, 2)], &[signer]);
    let lowered = root.with_list(listed(&root, &lower).unwrap());
    assert_eq!(lowered.min_sequence(&class), 5, "the larger of both");

    // Signed by anybody else.
    for other in [&keys.root[0], &keys.release[0], &keys.distribute, &keys.stranger] {
        assert_eq!(number(listed(&root, &list(4, &[release], &[], &[other]))), refused);
    }
    let none = root_spec(&keys).role(Role::Revoke, 0, &[]).signed(&[&keys.root[0]]);
    assert_eq!(number(listed(&parse(&none).unwrap(), &first)), refused, "no role 4");
    let two = root_spec(&keys)
        .role(Role::Revoke, 2, &[signer, &keys.stranger])
        .signed(&[&keys.root[0]]);
    assert_eq!(number(listed(&parse(&two).unwrap(), &first)), refused, "too few");
    assert_eq!(
        number(listed(
            &parse(&two).unwrap(),
            &list(1, &[release], &[], &[signer, &keys.stranger])
        )),
        Ok(1)
    );
    let mut foreign = root_spec(&keys);
    foreign.id[0] ^= 1;
    let foreign = foreign.signed(&[&keys.root[0]]);
    assert_eq!(
        number(listed(&parse(&foreign).unwrap(), &first)),
        refused,
        "another product line"
    );
    let mut damaged = first.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(number(listed(&root, &damaged)), refused);

    // Numbers grow; the same list again is fine.
    assert_eq!(number(listed(&held, &first)), Ok(3));
    assert_eq!(
        number(listed(&held, &list(4, &[release], &[(class, 9)], &[signer]))),
        Ok(4)
    );
    assert_eq!(
        number(listed(&held, &list(3, &[release], &[(class, 10)], &[signer]))),
        refused
    );
    assert_eq!(
        number(listed(&held, &list(2, &[release], &[(class, 9)], &[signer]))),
        refused
    );
    // It only adds.
    assert_eq!(number(listed(&held, &list(4, &[], &[(class, 9)], &[signer]))), refused);
    assert_eq!(
        number(listed(&held, &list(4, &[release], &[(class, 8)], &[signer]))),
        refused
    );
    assert_eq!(number(listed(&held, &list(4, &[release], &[], &[signer]))), refused);
    assert_eq!(
        number(listed(
            &held,
            &list(4, &[release, keys.image[0].id()], &[(class, 9)], &[signer])
        )),
        Ok(4)
    );
    // It cannot revoke root keys, but it can its own signer: a later list then still needs that very key.
    assert_eq!(
        number(listed(&root, &list(4, &[keys.root[1].id()], &[], &[signer]))),
        refused
    );
    let suicide = list(4, &[signer.id()], &[], &[signer]);
    let after = root.with_list(listed(&root, &suicide).unwrap());
    assert_eq!(
        number(listed(&after, &list(5, &[signer.id(), release], &[], &[signer]))),
        Ok(5)
    );
}

/// 813.
#[test]
fn time_files() {
    let keys = keys();
    let bytes = root_spec(&keys).signed(&[&keys.root[0]]);
    let root = parse(&bytes).unwrap();
    let verify = |root: &TrustRoot, bytes: &[u8]| {
        root.verify_time(bytes, &Limits::MCU, &PORTABLE)
            .map_err(|refused| refused.reason)
    };
    let good = time(1_800_000_000, &ROOT_ID, &[&keys.distribute]);
    assert_eq!(verify(&root, &good), Ok(1_800_000_000));
    let refused = Err(Reason::TimeInvalid);
    assert_eq!(verify(&root, &time(1, &[0; 16], &[&keys.distribute])), refused);
    assert_eq!(verify(&root, &time(1, &ROOT_ID, &[&keys.release[0]])), refused);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&root, &damaged), refused);
    let none = root_spec(&keys).role(Role::Distribute, 0, &[]).signed(&[&keys.root[0]]);
    assert_eq!(verify(&parse(&none).unwrap(), &good), refused);
    let list = list(1, &[keys.distribute.id()], &[], &[&keys.revoke]);
    let listed = root.with_list(listed(&root, &list).unwrap());
    assert_eq!(verify(&listed, &good), refused, "revoked");
}

proptest::proptest! {
    /// Bytes changed anywhere end in a refusal or in a root that can be asked everything; never in a panic.
    #[test]
    fn damaged_roots(
        damage in proptest::collection::vec((0usize..628, proptest::prelude::any::<u8>()), 1..6),
        cut in 0usize..700,
        request in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
    ) {
        let mut bytes = hex(EXAMPLE);
        for (at, value) in damage {
            bytes[at] = value;
        }
        bytes.truncate(cut);
        for root in [parse(&bytes).ok(), TrustRoot::stored(&bytes, &Limits::MCU).ok()].into_iter().flatten() {
            let _ = (root.version(), root.id(), root.environment(), root.expires(), root.min_sequence(&[0; 16]));
            let _ = (root.entries().count(), root.verify_self(&PORTABLE), root.signers(Default::default()));
            for file in [&bytes, &request] {
                let _ = root.successor(file, &Limits::MCU, &PORTABLE).map(|root| root.version());
                let _ = root.verify_list(file, &Limits::MCU, &PORTABLE).map(|list| list.number());
                let _ = root.verify_time(file, &Limits::MCU, &PORTABLE);
                if let Ok(list) = Revocations::stored(file) {
                    let _ = root.with_list(list).entries().count();
                }
            }
        }
    }
}
