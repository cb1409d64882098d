//! What the bootloader starts, and each reason for which it does not.

mod common;

use ampoule_trust::alg::{PortableEd25519, PortableP256};
use ampoule_trust::{Algorithms, Bootable, ImageRule, PORTABLE, Role, TrustRoot, image_key_hash};
use codec::Reason;
use codec::limits::Limits;
use codec::mcuboot::ReadAt;
use codec::mcuboot::tlv::kind;
use common::*;

const SLOT_LIMIT: u32 = 0x8000;

/// Judges with a root of these bytes; `change` may alter the rule.
fn judge_with(root: &[u8], image: &[u8], change: impl FnOnce(&mut ImageRule)) -> Result<Bootable, Reason> {
    let root = TrustRoot::parse(root, &Limits::MCU, &PORTABLE).unwrap();
    let mut rule = ImageRule {
        root: &root,
        algorithms: &PORTABLE,
        vendor: &VENDOR,
        class: &CLASS,
        floor: 3,
        slot_limit: SLOT_LIMIT,
        pinned: None,
    };
    change(&mut rule);
    rule.judge(&mut &image[..], &mut [0; 512])
}

/// The same; who signed the root does not matter to the bootloader, which trusts its store.
fn judge(spec: RootSpec, image: &ImageSpec) -> Result<Bootable, Reason> {
    judge_with(&spec.signed(&[&keys().root[0]]), &image.build(), |_| {})
}

#[test]
fn a_good_image_boots_and_says_what_was_hashed() {
    let keys = keys();
    for signer in &keys.image {
        let image = image_spec(&[signer]);
        let bootable = judge(root_spec(&keys), &image).unwrap();
        assert_eq!(*bootable.digest(), image.digest());
        assert_eq!(bootable.counter(), 3);
        assert_eq!(bootable.total_len() as usize, image.build().len());
        assert_eq!(bootable.header().version.minor, 2);
        let root_bytes = root_spec(&keys).signed(&[&keys.root[0]]);
        let root = TrustRoot::stored(&root_bytes, &Limits::MCU).unwrap();
        let signers = root.signers(bootable.counted());
        assert_eq!(signers.as_slice().len(), 1);
        assert_eq!(
            (signers.as_slice()[0].role, signers.as_slice()[0].id),
            (Role::Image, signer.id())
        );
    }
}

/// The answer does not depend on the block size, and each signed byte is read exactly once.
#[test]
fn every_signed_byte_is_read_once() {
    struct Counting<'a> {
        bytes: &'a [u8],
        reads: Vec<u32>,
    }
    impl ReadAt for Counting<'_> {
        fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
            for read in &mut self.reads[offset as usize..offset as usize + out.len()] {
                *read += 1;
            }
            let mut bytes = self.bytes;
            bytes.read_at(offset, out)
        }
    }
    let keys = keys();
    let root_bytes = root_spec(&keys).signed(&[&keys.root[0]]);
    let root = TrustRoot::stored(&root_bytes, &Limits::MCU).unwrap();
    for header_bytes in [32, 36, 0x200] {
        let mut spec = image_spec(&[&keys.image[0], &keys.image[1]]);
        spec.header_bytes = header_bytes;
        let spec = spec.with(0x00a0, &[7; 300]);
        let image = spec.build();
        let rule = ImageRule {
            root: &root,
            algorithms: &PORTABLE,
            vendor: &VENDOR,
            class: &CLASS,
            floor: 0,
            slot_limit: SLOT_LIMIT,
            pinned: None,
        };
        for block in [64, 65, 100, 256, 4096, 20_000] {
            let mut reader = Counting {
                bytes: &image,
                reads: vec![0; image.len()],
            };
            let bootable = rule.judge(&mut reader, &mut vec![0; block]).unwrap();
            assert_eq!(*bootable.digest(), spec.digest());
            let signed = spec.signed_part().len();
            assert!(reader.reads[..signed].iter().all(|reads| *reads == 1), "block {block}");
            assert!(reader.reads[signed..].iter().all(|reads| *reads <= 1), "block {block}");
        }
        assert_eq!(rule.judge(&mut &image[..], &mut [0; 63]), Err(Reason::StorageFailed));
    }
}

/// Flash that answers differently the second time gains nothing: what was hashed is what is used.
#[test]
fn fields_come_from_the_hashed_read() {
    struct Liar<'a> {
        first: &'a [u8],
        later: &'a [u8],
        seen: Vec<bool>,
    }
    impl ReadAt for Liar<'_> {
        fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
            for (at, byte) in (offset as usize..).zip(out) {
                let source = if self.seen[at] { self.later } else { self.first };
                (*byte, self.seen[at]) = (source[at], true);
            }
            Ok(())
        }
    }
    let keys = keys();
    let honest = image_spec(&[&keys.image[0]]);
    let lie = honest.clone().with(kind::SEC_CNT, &99u32.to_le_bytes());
    let (honest_bytes, lie_bytes) = (honest.build(), lie.build());
    let root_bytes = root_spec(&keys).signed(&[&keys.root[0]]);
    let root = TrustRoot::stored(&root_bytes, &Limits::MCU).unwrap();
    let rule = ImageRule {
        root: &root,
        algorithms: &PORTABLE,
        vendor: &VENDOR,
        class: &CLASS,
        floor: 0,
        slot_limit: SLOT_LIMIT,
        pinned: None,
    };
    let mut liar = Liar {
        first: &honest_bytes,
        later: &lie_bytes,
        seen: vec![false; honest_bytes.len()],
    };
    assert_eq!(rule.judge(&mut liar, &mut [0; 256]).unwrap().counter(), 3);
    let mut liar = Liar {
        first: &lie_bytes,
        later: &honest_bytes,
        seen: vec![false; honest_bytes.len()],
    };
    // The lie is hashed, and signed by nobody else's hash: its own TLVs are honest, so it boots as what it is.
    assert_eq!(rule.judge(&mut liar, &mut [0; 256]).unwrap().counter(), 99);
}

/// One bit changed anywhere: refused, in the signed part always before a signature is looked at.
#[test]
fn every_changed_bit_is_refused() {
    let keys = keys();
    let image = image_spec(&[&keys.image[0]]);
    let (good, signed) = (image.build(), image.signed_part().len());
    let root = root_spec(&keys).signed(&[&keys.root[0]]);
    let area = image.protected.iter().map(|(_, value)| value.len() + 4).sum::<usize>() + 4;
    for at in (0..32)
        .chain((32..signed - area).step_by(97))
        .chain(signed - area..good.len())
    {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let reason = judge_with(&root, &bad, |_| {}).unwrap_err();
        let expected: &[Reason] = match at {
            0..4 => &[Reason::ImageMagic],
            4..20 | 28..32 => &[
                Reason::ImageHeader,
                Reason::ImageFlags,
                Reason::ImageTlv,
                Reason::ImageSize,
                Reason::ImageHash,
            ],
            _ if at < signed - area => &[Reason::ImageHash],
            _ => &[
                Reason::ImageTlv,
                Reason::ImageTlvForbidden,
                Reason::ImageSize,
                Reason::ImageHash,
                Reason::ImageSignature,
                // A changed KEYHASH names a key that nobody knows.
                Reason::ImageThreshold,
            ],
        };
        assert!(expected.contains(&reason), "byte {at}: {reason:?}");
    }
    for len in (0..good.len()).step_by(41) {
        assert!(judge_with(&root, &good[..len], |_| {}).is_err());
    }
}

#[test]
fn what_stands_behind_the_image_does_not_matter() {
    let keys = keys();
    let mut image = image_spec(&[&keys.image[0]]).build();
    let len = image.len();
    image.resize(len + 3000, 0xff);
    let root = root_spec(&keys).signed(&[&keys.root[0]]);
    assert_eq!(judge_with(&root, &image, |_| {}).unwrap().total_len() as usize, len);
}

#[test]
fn size_against_the_slot() {
    let keys = keys();
    let image = image_spec(&[&keys.image[0]]).build();
    let root = root_spec(&keys).signed(&[&keys.root[0]]);
    let len = image.len() as u32;
    assert!(judge_with(&root, &image, |rule| rule.slot_limit = len).is_ok());
    for limit in [0, 31, 600, 12_600, len - 1] {
        assert_eq!(
            judge_with(&root, &image, |rule| rule.slot_limit = limit),
            Err(Reason::ImageSize)
        );
    }
    assert_eq!(judge_with(&root, &[], |_| {}), Err(Reason::ImageSize));
    assert_eq!(judge_with(&root, &[0xff; 4096], |_| {}), Err(Reason::ImageMagic));
}

/// 907: distinct keys of the role, and of no other role.
#[test]
fn thresholds_count_distinct_keys() {
    let keys = keys();
    let [a, b] = &keys.image;
    let two = || root_spec(&keys).role(Role::Image, 2, &[a, b]);
    assert!(judge(two(), &image_spec(&[a, b])).is_ok());
    assert!(judge(two(), &image_spec(&[b, a])).is_ok());
    assert_eq!(judge(two(), &image_spec(&[a])), Err(Reason::ImageThreshold));
    assert_eq!(
        judge(two(), &image_spec(&[a, a])),
        Err(Reason::ImageThreshold),
        "one key twice"
    );
    assert_eq!(
        judge(two(), &image_spec(&[b, b, b])),
        Err(Reason::ImageThreshold),
        "one key, distinct signatures"
    );
    assert_eq!(
        judge(two(), &image_spec(&[a, &keys.stranger])),
        Err(Reason::ImageThreshold)
    );
    assert!(judge(two(), &image_spec(&[&keys.stranger, a, &keys.release[0], b])).is_ok());
    assert_eq!(judge(root_spec(&keys), &image_spec(&[])), Err(Reason::ImageThreshold));
    for other in [
        &keys.root[0],
        &keys.release[0],
        &keys.release[1],
        &keys.distribute,
        &keys.revoke,
    ] {
        assert_eq!(
            judge(root_spec(&keys), &image_spec(&[other])),
            Err(Reason::ImageThreshold)
        );
    }
}

/// Root key 10: both image roles where the root demands both.
#[test]
fn the_second_image_role() {
    let keys = keys();
    let mut both = root_spec(&keys).role(Role::ImageSecond, 1, &[&keys.image_second]);
    assert!(
        judge(both.clone(), &image_spec(&[&keys.image[0]])).is_ok(),
        "defined, not demanded"
    );
    both.image = Some(vec![Role::Image, Role::ImageSecond]);
    assert!(judge(both.clone(), &image_spec(&[&keys.image[0], &keys.image_second])).is_ok());
    assert_eq!(
        judge(both.clone(), &image_spec(&[&keys.image[0]])),
        Err(Reason::ImageThreshold)
    );
    assert_eq!(
        judge(both, &image_spec(&[&keys.image_second])),
        Err(Reason::ImageThreshold)
    );
}

/// 906: a wrong signature of a known key refuses, whoever else signed well; one of an unknown key is ignored.
#[test]
fn wrong_signatures() {
    let keys = keys();
    let [a, b] = &keys.image;
    let name = |key: &Key| image_key_hash(&key.public()).unwrap();
    let mut image = image_spec(&[a]);
    let (tlv, mut value) = b.sign_image(&[0; 32]);
    image.extra_pairs = vec![(name(b), tlv, value.clone())];
    assert_eq!(judge(root_spec(&keys), &image), Err(Reason::ImageSignature));
    image.extra_pairs = vec![(name(&keys.stranger), tlv, value.clone())];
    assert!(judge(root_spec(&keys), &image).is_ok());
    // Not even DER.
    value[0] ^= 1;
    image.extra_pairs = vec![(name(b), tlv, value)];
    assert_eq!(judge(root_spec(&keys), &image), Err(Reason::ImageSignature));
    // The right signature under another algorithm's type.
    let (_, ed25519) = a.sign_image(&image.digest());
    image.extra_pairs = vec![(name(b), kind::ED25519, ed25519.clone())];
    assert_eq!(judge(root_spec(&keys), &image), Err(Reason::ImageSignature));
    image.extra_pairs = vec![(name(a), kind::ECDSA, ed25519)];
    assert_eq!(judge(root_spec(&keys), &image), Err(Reason::ImageSignature));
    // Second image role, even where it is not demanded.
    let root = root_spec(&keys).role(Role::ImageSecond, 1, &[&keys.image_second]);
    let (tlv, value) = keys.image_second.sign_image(&[0; 32]);
    image.extra_pairs = vec![(name(&keys.image_second), tlv, value)];
    assert_eq!(judge(root, &image), Err(Reason::ImageSignature));
    assert!(
        judge(root_spec(&keys), &image).is_ok(),
        "unknown to a root without role 7"
    );
}

/// An algorithm that the device does not have: ignored and not counted.
#[test]
fn missing_algorithms() {
    let keys = keys();
    let root = root_spec(&keys).signed(&[&keys.root[0]]);
    let image = image_spec(&[&keys.image[0], &keys.image[1]]).build();
    let only_p256 = Algorithms::new(&[&PortableP256]);
    let only_ed25519 = Algorithms::new(&[&PortableEd25519]);
    let none = Algorithms::new(&[]);
    for one in [only_p256, only_ed25519] {
        let root = TrustRoot::parse(&root, &Limits::MCU, &one).unwrap();
        let rule = ImageRule {
            root: &root,
            algorithms: &one,
            vendor: &VENDOR,
            class: &CLASS,
            floor: 0,
            slot_limit: SLOT_LIMIT,
            pinned: None,
        };
        let bootable = rule.judge(&mut &image[..], &mut [0; 64]).unwrap();
        assert_eq!(root.signers(bootable.counted()).count(Role::Image), 1);
        let rule = ImageRule {
            algorithms: &none,
            ..rule
        };
        assert_eq!(rule.judge(&mut &image[..], &mut [0; 64]), Err(Reason::ImageThreshold));
    }
}

#[test]
fn revoked_keys_do_not_count() {
    let keys = keys();
    let [a, b] = &keys.image;
    let mut root = root_spec(&keys);
    root.revoked = vec![a.id()];
    assert_eq!(judge(root.clone(), &image_spec(&[a])), Err(Reason::ImageThreshold));
    assert!(judge(root, &image_spec(&[a, b])).is_ok());
    // By a list: the same.
    let list = list(1, &[a.id()], &[], &[&keys.revoke]);
    let root_bytes = root_spec(&keys).signed(&[&keys.root[0]]);
    let root = TrustRoot::parse(&root_bytes, &Limits::MCU, &PORTABLE).unwrap();
    let listed = root.with_list(root.verify_list(&list, &Limits::MCU, &PORTABLE).unwrap());
    let rule = ImageRule {
        root: &listed,
        algorithms: &PORTABLE,
        vendor: &VENDOR,
        class: &CLASS,
        floor: 0,
        slot_limit: SLOT_LIMIT,
        pinned: None,
    };
    let judge = |signers: &[&Key]| rule.judge(&mut &image_spec(signers).build()[..], &mut [0; 64]);
    assert_eq!(judge(&[a]), Err(Reason::ImageThreshold));
    assert!(judge(&[b]).is_ok());
}

/// 909, 910, 913, 610: said by the protected area or not at all.
#[test]
fn counter_class_and_dependencies() {
    let keys = keys();
    let key = &keys.image[0];
    let judge = |image: ImageSpec| judge(root_spec(&keys), &image).map(|bootable| bootable.counter());
    let image = || image_spec(&[key]);
    assert_eq!(judge(image().without(kind::SEC_CNT)), Err(Reason::ImageCounter));
    assert_eq!(judge(image().without(kind::UUID_VID)), Err(Reason::ImageClass));
    assert_eq!(judge(image().without(kind::UUID_CID)), Err(Reason::ImageClass));
    assert_eq!(judge(image().with(kind::UUID_VID, &CLASS)), Err(Reason::ImageClass));
    assert_eq!(judge(image().with(kind::UUID_CID, &VENDOR)), Err(Reason::ImageClass));
    assert_eq!(
        judge(image().with(kind::SEC_CNT, &2u32.to_le_bytes())),
        Err(Reason::CounterRollback)
    );
    assert_eq!(judge(image().with(kind::SEC_CNT, &3u32.to_le_bytes())), Ok(3));
    assert_eq!(
        judge(image().with(kind::SEC_CNT, &u32::MAX.to_le_bytes())),
        Ok(u32::MAX)
    );
    assert_eq!(
        judge(image().with(kind::DEPENDENCY, &[0; 12])),
        Err(Reason::ImageDependency)
    );
    let mut bare = image();
    bare.protected.clear();
    assert_eq!(judge(bare), Err(Reason::ImageCounter));
}

/// CVE-2024-32883: facts in the unsigned area.
#[test]
fn unprotected_facts_are_refused() {
    let keys = keys();
    let image = image_spec(&[&keys.image[0]]);
    let root = root_spec(&keys).signed(&[&keys.root[0]]);
    for (tlv, value) in [
        (kind::SEC_CNT, &9u32.to_le_bytes()[..]),
        (kind::UUID_VID, &VENDOR),
        (kind::UUID_CID, &CLASS),
        (0x00a0, b"v"),
    ] {
        let mut bytes = image.build();
        let area = image.signed_part().len();
        bytes.extend(tlv.to_le_bytes());
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
        let tot = (bytes.len() - area) as u16;
        bytes[area + 2..area + 4].copy_from_slice(&tot.to_le_bytes());
        assert_eq!(judge_with(&root, &bytes, |_| {}), Err(Reason::ImageTlvForbidden));
    }
}

/// 941: a root that knows no image keys starts nothing.
#[test]
fn no_image_role() {
    let keys = keys();
    let root = root_spec(&keys).role(Role::Image, 0, &[]);
    assert_eq!(
        judge(root, &image_spec(&[&keys.image[0]])),
        Err(Reason::RootNoImageRole)
    );
}

/// The pinned image needs no signature, but everything else; no other image profits.
#[test]
fn a_pinned_image() {
    let keys = keys();
    let root = root_spec(&keys).signed(&[&keys.root[0]]);
    let orphan = image_spec(&[&keys.stranger]);
    let pin = Some(orphan.digest());
    let pinned = judge_with(&root, &orphan.build(), |rule| rule.pinned = pin).unwrap();
    assert!(pinned.counted().is_empty());
    assert_eq!(judge_with(&root, &orphan.build(), |_| {}), Err(Reason::ImageThreshold));
    assert_eq!(
        judge_with(&root, &orphan.build(), |rule| (rule.pinned, rule.floor) = (pin, 4)),
        Err(Reason::CounterRollback)
    );
    assert_eq!(
        judge_with(&root, &orphan.build(), |rule| (rule.pinned, rule.class) =
            (pin, &VENDOR)),
        Err(Reason::ImageClass)
    );
    let mut changed = orphan.build();
    changed[1000] ^= 1;
    assert_eq!(
        judge_with(&root, &changed, |rule| rule.pinned = pin),
        Err(Reason::ImageHash)
    );
    let other = orphan.clone().with(kind::SEC_CNT, &5u32.to_le_bytes());
    assert_eq!(
        judge_with(&root, &other.build(), |rule| rule.pinned = pin),
        Err(Reason::ImageThreshold)
    );
    // A newly known key whose pair is wrong must not stop it either: its bytes are what was pinned.
    let mut spoiled = orphan.clone();
    let (tlv, value) = keys.image[0].sign_image(&[0; 32]);
    spoiled.extra_pairs = vec![(image_key_hash(&keys.image[0].public()).unwrap(), tlv, value)];
    assert!(judge_with(&root, &spoiled.build(), |rule| rule.pinned = pin).is_ok());
    assert_eq!(judge_with(&root, &spoiled.build(), |_| {}), Err(Reason::ImageSignature));
}

proptest::proptest! {
    /// Bytes changed anywhere end in a refusal, or were not part of what counts; never in a panic.
    #[test]
    fn damaged_images(
        damage in proptest::collection::vec((0usize..13_000, proptest::prelude::any::<u8>()), 0..4),
        behind in proptest::collection::vec((0usize..400, proptest::prelude::any::<u8>()), 0..4),
        cut in 0usize..20_000,
        block in 64usize..1000,
    ) {
        let keys = keys();
        let spec = image_spec(&[&keys.image[0]]);
        let good = spec.build();
        let mut bytes = good.clone();
        let signed = spec.signed_part().len();
        for (at, value) in damage.into_iter().chain(behind.into_iter().map(|(at, value)| (signed + at, value))) {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let root_bytes = root_spec(&keys).signed(&[&keys.root[0]]);
        let root = TrustRoot::stored(&root_bytes, &Limits::MCU).unwrap();
        let rule = ImageRule {
            root: &root,
            algorithms: &PORTABLE,
            vendor: &VENDOR,
            class: &CLASS,
            floor: 0,
            slot_limit: SLOT_LIMIT,
            pinned: None,
        };
        let verdict = rule.judge(&mut &bytes[..], &mut vec![0; block]);
        proptest::prop_assert_eq!(verdict.is_ok(), bytes == good);
    }
}
