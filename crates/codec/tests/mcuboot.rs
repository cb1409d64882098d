//! Images of imgtool read with the device's reader and built again byte for byte; and every way to bend them.

use ampoule_codec::Reason;
use ampoule_codec::mcuboot::tlv::{self, Protected, Role, Signed, Tlvs, Unprotected, kind};
use ampoule_codec::mcuboot::{Area, Dependency, HEADER_BYTES, ImageHeader, ImageVersion, ReadAt, Tlv, Walk, rule};
use proptest::prelude::*;

const ED25519: &[u8] = include_bytes!("data/imgtool-ed25519-all-tlvs.img");
const P256: &[u8] = include_bytes!("data/imgtool-p256.img");
const UNSIGNED: &[u8] = include_bytes!("data/imgtool-unsigned-boot-record.img");

const LIMIT: u32 = 0x1_0000;

fn header(image: &[u8]) -> ImageHeader {
    ImageHeader::parse(image.first_chunk::<HEADER_BYTES>().expect("32 bytes")).expect("a good header")
}

/// All entries, or the reason why the image is refused.
fn walk(image: &[u8], limit: u32) -> Result<(Vec<Tlv>, u32), Reason> {
    let bytes = image.first_chunk::<HEADER_BYTES>().ok_or(Reason::ImageSize)?;
    let mut walk = Walk::new(&ImageHeader::parse(bytes)?, limit);
    let mut found = Vec::new();
    let mut reader = image;
    while let Some(tlv) = walk.next(&mut reader)? {
        found.push(tlv);
    }
    Ok((found, walk.image_len()))
}

fn value<'a>(image: &'a [u8], tlv: &Tlv) -> &'a [u8] {
    &image[tlv.offset as usize..][..usize::from(tlv.len)]
}

fn kinds(image: &[u8]) -> Vec<u16> {
    walk(image, LIMIT)
        .expect("a good image")
        .0
        .iter()
        .map(|tlv| tlv.kind)
        .collect()
}

#[test]
fn images_of_imgtool_are_read() {
    assert_eq!(
        kinds(ED25519),
        [
            kind::SEC_CNT,
            kind::DEPENDENCY,
            kind::UUID_VID,
            kind::UUID_CID,
            0x01a1,
            kind::SHA256,
            kind::KEYHASH,
            kind::ED25519
        ]
    );
    assert_eq!(kinds(P256), [kind::SHA256, kind::KEYHASH, kind::ECDSA]);
    assert_eq!(kinds(UNSIGNED), [kind::BOOT_RECORD, kind::SHA256]);
    for image in [ED25519, P256, UNSIGNED] {
        let (_, len) = walk(image, LIMIT).expect("a good image");
        assert_eq!(len as usize, image.len());
        assert!(walk(image, len).is_ok(), "exactly as long as allowed");
        assert_eq!(walk(image, len - 1).err(), Some(Reason::ImageSize), "one byte too long");
    }
    assert_eq!(header(UNSIGNED).rom_address(), Some(0x1_0000));
    assert_eq!(header(ED25519).version.to_string(), "1.2.772+84281096");
}

#[test]
fn the_values_are_those_that_imgtool_was_told() {
    let (found, _) = walk(ED25519, LIMIT).expect("a good image");
    let by_kind = |kind| {
        found
            .iter()
            .find(|tlv| tlv.kind == kind)
            .map(|tlv| value(ED25519, tlv))
            .expect("present")
    };
    assert_eq!(by_kind(kind::SEC_CNT), 3u32.to_le_bytes());
    let dependency = Dependency::parse(by_kind(kind::DEPENDENCY).try_into().expect("12 bytes"));
    let min_version = ImageVersion {
        major: 2,
        minor: 3,
        revision: 4,
        build: 5,
    };
    assert_eq!(dependency, Ok(Dependency { image: 1, min_version }));
    assert_eq!(by_kind(0x01a1), [0xde, 0xad, 0xbe, 0xef]);
}

/// The same image, encoded by us from what the walk found.
fn rebuilt(image: &[u8]) -> Vec<u8> {
    let (found, _) = walk(image, LIMIT).expect("a good image");
    let all = |kind| {
        found
            .iter()
            .filter(move |tlv| tlv.kind == kind)
            .map(|tlv| value(image, tlv))
    };
    let array = |kind| {
        all(kind)
            .next()
            .map(|bytes| <[u8; 16]>::try_from(bytes).expect("16 bytes"))
    };
    let dependencies: Vec<_> = all(kind::DEPENDENCY)
        .map(|bytes| Dependency::parse(bytes.try_into().expect("12 bytes")).expect("a dependency"))
        .collect();
    let custom: Vec<_> = found
        .iter()
        .filter(|tlv| tlv.role == Role::Ignored)
        .map(|tlv| (tlv.kind, value(image, tlv)))
        .collect();
    let protected = Protected {
        security_counter: all(kind::SEC_CNT)
            .next()
            .map(|v| u32::from_le_bytes(v.try_into().expect("4 bytes"))),
        boot_record: all(kind::BOOT_RECORD).next(),
        dependencies: &dependencies,
        vendor: array(kind::UUID_VID),
        class: array(kind::UUID_CID),
        custom: &custom,
    };
    let signatures: Vec<_> = found
        .windows(2)
        .filter(|pair| pair[0].role == Role::KeyHash)
        .map(|pair| Signed {
            key_hash: value(image, &pair[0]).try_into().expect("32 bytes"),
            kind: pair[1].kind,
            signature: value(image, &pair[1]),
        })
        .collect();
    let hash = all(kind::SHA256).next().expect("a hash").try_into().expect("32 bytes");

    let header = header(image);
    assert_eq!(protected.encoded_len(), Ok(header.protect_tlv_size));
    let mut built = image[..header.tlv_offset() as usize].to_vec();
    built[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let mut area = [0; 1024];
    let len = protected.encode(&mut area).expect("room");
    built.extend(&area[..len]);
    let len = Unprotected {
        hash,
        signatures: &signatures,
    }
    .encode(&mut area)
    .expect("room");
    built.extend(&area[..len]);
    built
}

#[test]
fn our_encoding_is_imgtools_byte_for_byte() {
    for image in [ED25519, P256, UNSIGNED] {
        assert_eq!(rebuilt(image), image);
    }
}

#[test]
fn every_truncation_is_refused() {
    for image in [ED25519, P256, UNSIGNED] {
        for len in 0..image.len() {
            assert_eq!(
                walk(&image[..len], len as u32).err(),
                Some(Reason::ImageSize),
                "{len} bytes"
            );
        }
    }
}

/// An image of raw entries, whatever they are.
fn image(protected: Option<&[(u16, Vec<u8>)]>, unprotected: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let area = |magic: u16, entries: &[(u16, Vec<u8>)]| {
        let mut bytes = Vec::new();
        for (kind, value) in entries {
            bytes.extend(kind.to_le_bytes());
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(value);
        }
        let mut area = magic.to_le_bytes().to_vec();
        area.extend((bytes.len() as u16 + 4).to_le_bytes());
        area.extend(bytes);
        area
    };
    let protected = protected
        .map(|entries| area(tlv::PROTECTED_MAGIC, entries))
        .unwrap_or_default();
    let header = ImageHeader {
        load_addr: 0,
        hdr_size: 32,
        protect_tlv_size: protected.len() as u16,
        img_size: 8,
        flags: 0,
        version: ImageVersion::default(),
    };
    let mut image = header.to_bytes().to_vec();
    image.extend([0x55; 8]);
    image.extend(protected);
    image.extend(area(tlv::UNPROTECTED_MAGIC, unprotected));
    image
}

fn hash() -> (u16, Vec<u8>) {
    (kind::SHA256, vec![1; 32])
}

fn key_hash() -> (u16, Vec<u8>) {
    (kind::KEYHASH, vec![2; 32])
}

fn signature() -> (u16, Vec<u8>) {
    (kind::ED25519, vec![3; 64])
}

fn verdict(protected: Option<&[(u16, Vec<u8>)]>, unprotected: &[(u16, Vec<u8>)]) -> Option<Reason> {
    walk(&image(protected, unprotected), LIMIT).err()
}

#[test]
fn every_type_is_refused_outside_its_area() {
    let forbidden = Some(Reason::ImageTlvForbidden);
    for kind in 0..=u16::MAX {
        let (in_protected, in_unprotected) = match kind {
            0x40 | 0x50 | 0x60 | 0x74 | 0x75 => (true, false),
            0x01 | 0x10 | 0x20 | 0x22 | 0x23 | 0x24 | 0x01a0 => (false, true),
            0xffff => (false, false),
            _ => (kind & 0xff >= 0xa0, false),
        };
        let len = rule(kind).map_or(16, |rule| usize::from(rule.len_min));
        let entry = (kind, vec![0; len]);
        let as_protected = verdict(Some(core::slice::from_ref(&entry)), &[hash()]);
        assert_eq!(
            as_protected,
            if in_protected { None } else { forbidden },
            "protected {kind:#06x}"
        );
        // Whatever it is, it stands last behind a KEYHASH here, so only its place can be forbidden.
        let as_unprotected = verdict(None, &[hash(), key_hash(), entry]);
        assert_eq!(
            as_unprotected == forbidden,
            !in_unprotected || kind == kind::SHA256,
            "unprotected {kind:#06x}"
        );
    }
}

#[test]
fn every_length_is_exact() {
    for (kind, good) in [
        (kind::SEC_CNT, 4),
        (kind::DEPENDENCY, 12),
        (kind::UUID_VID, 16),
        (kind::UUID_CID, 16),
    ] {
        for len in 0..=20 {
            let expected = if len == good { None } else { Some(Reason::ImageTlv) };
            assert_eq!(
                verdict(Some(&[(kind, vec![0; len])]), &[hash()]),
                expected,
                "{kind:#x} of {len}"
            );
        }
    }
    for len in 0..=65 {
        let of = |good: bool| if good { None } else { Some(Reason::ImageTlv) };
        assert_eq!(
            verdict(None, &[(kind::SHA256, vec![0; len])]),
            of(len == 32),
            "hash of {len}"
        );
        let short_key = (kind::KEYHASH, vec![0; len]);
        assert_eq!(
            verdict(None, &[hash(), short_key, signature()]),
            of(len == 32),
            "KEYHASH of {len}"
        );
        let ed25519 = (kind::ED25519, vec![0; len]);
        assert_eq!(
            verdict(None, &[hash(), key_hash(), ed25519]),
            of(len == 64),
            "Ed25519 of {len}"
        );
    }
    for (len, good) in [(7, false), (8, true), (72, true), (73, false)] {
        let ecdsa = (kind::ECDSA, vec![0; len]);
        assert_eq!(
            verdict(None, &[hash(), key_hash(), ecdsa]).is_none(),
            good,
            "ECDSA of {len}"
        );
    }
}

#[test]
fn what_stands_once_stands_once() {
    for (kind, len) in [
        (kind::SEC_CNT, 4),
        (kind::UUID_VID, 16),
        (kind::UUID_CID, 16),
        (kind::BOOT_RECORD, 1),
    ] {
        let entry = (kind, vec![0; len]);
        let twice = verdict(Some(&[entry.clone(), entry]), &[hash()]);
        assert_eq!(twice, Some(Reason::ImageTlvForbidden), "{kind:#x} twice");
    }
    assert_eq!(verdict(None, &[hash(), hash()]), Some(Reason::ImageTlvForbidden));
    let dependency = (kind::DEPENDENCY, vec![0; 12]);
    assert_eq!(verdict(Some(&[dependency.clone(), dependency]), &[hash()]), None);
    let vendor = (0x02a5, vec![]);
    assert_eq!(verdict(Some(&[vendor.clone(), vendor]), &[hash()]), None);
}

#[test]
fn a_signature_stands_right_behind_its_key() {
    let malformed = Some(Reason::ImageTlv);
    assert_eq!(verdict(None, &[]), malformed, "no hash");
    assert_eq!(
        verdict(None, &[key_hash(), signature()]),
        malformed,
        "no hash, but signed"
    );
    assert_eq!(verdict(None, &[hash()]), None, "unsigned images are well-formed");
    assert_eq!(
        verdict(None, &[hash(), signature()]),
        malformed,
        "a signature of nobody"
    );
    assert_eq!(
        verdict(None, &[hash(), key_hash()]),
        malformed,
        "a key without signature"
    );
    assert_eq!(verdict(None, &[hash(), key_hash(), key_hash(), signature()]), malformed);
    assert_eq!(verdict(None, &[key_hash(), hash(), signature()]), malformed);
    assert_eq!(
        verdict(None, &[hash(), key_hash(), signature(), signature()]),
        malformed
    );
    assert_eq!(
        verdict(None, &[key_hash(), signature(), hash(), key_hash(), signature()]),
        None
    );
}

#[test]
fn the_number_of_signatures_is_limited() {
    let pairs = |n: u8| {
        let mut entries = vec![hash()];
        for _ in 0..n {
            entries.extend([key_hash(), signature()]);
        }
        verdict(None, &entries)
    };
    assert_eq!(pairs(tlv::SIGNATURE_PAIRS_MAX), None);
    assert_eq!(pairs(tlv::SIGNATURE_PAIRS_MAX + 1), Some(Reason::ImageTlv));
}

#[test]
fn area_headers_must_agree_with_the_image_header() {
    let good = image(Some(&[(kind::SEC_CNT, vec![0; 4])]), &[hash()]);
    let bent = |at: usize, value: u16| {
        let mut image = good.clone();
        image[at..at + 2].copy_from_slice(&value.to_le_bytes());
        walk(&image, LIMIT).err()
    };
    let (protected, unprotected) = (40, 52);
    assert_eq!(bent(protected, tlv::PROTECTED_MAGIC), None);
    assert_eq!(bent(protected, tlv::UNPROTECTED_MAGIC), Some(Reason::ImageTlv));
    assert_eq!(bent(unprotected, tlv::PROTECTED_MAGIC), Some(Reason::ImageTlv));
    for tot in [0, 3, 4, 11, 13, u16::MAX] {
        assert_eq!(bent(protected + 2, tot), Some(Reason::ImageTlv), "protected size {tot}");
    }
    for tot in [0, 3, 4, 7, 39, 41] {
        assert!(bent(unprotected + 2, tot).is_some(), "unprotected size {tot}");
    }
    // The header says that there is no protected area, or one of another size.
    for size in [0, 8, 16] {
        assert_eq!(bent(10, size), Some(Reason::ImageTlv), "header size {size}");
    }
    let mut reaches_beyond = good.clone();
    reaches_beyond[unprotected + 2..][..2].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(walk(&reaches_beyond, LIMIT).err(), Some(Reason::ImageSize));
}

#[test]
fn an_error_is_final() {
    let image = image(None, &[hash(), (0x99, vec![]), key_hash(), signature()]);
    let mut walk = Walk::new(&header(&image), LIMIT);
    let mut reader = &image[..];
    assert!(walk.next(&mut reader).is_ok());
    for _ in 0..3 {
        assert_eq!(walk.next(&mut reader), Err(Reason::ImageTlvForbidden));
    }
}

#[test]
fn a_failing_medium_is_said_as_such() {
    struct Broken;
    impl ReadAt for Broken {
        fn read_at(&mut self, _: u32, _: &mut [u8]) -> Result<(), Reason> {
            Err(Reason::StorageFailed)
        }
    }
    assert_eq!(
        Walk::new(&header(ED25519), LIMIT).next(&mut Broken),
        Err(Reason::StorageFailed)
    );
}

#[test]
fn a_builder_cannot_write_what_a_device_refuses() {
    let mut out = [0; 256];
    let custom = |kind, out: &mut [u8]| {
        Protected {
            custom: &[(kind, &[1])],
            ..Default::default()
        }
        .encode(out)
    };
    assert_eq!(custom(0x01a1, &mut out), Ok(9));
    for kind in [kind::LMS, kind::SHA256, 0x0150, 0xffff] {
        assert_eq!(custom(kind, &mut out), Err(Reason::ImageTlvForbidden), "{kind:#x}");
    }
    assert_eq!(custom(0x01a1, &mut out[..8]), Err(Reason::ImageSize));
    assert_eq!(Protected::default().encode(&mut out), Ok(0));
    let long = vec![0; 65_536 - 8];
    let with = |value: &[u8]| {
        Protected {
            custom: &[(0x01a1, value)],
            ..Default::default()
        }
        .encoded_len()
    };
    assert_eq!(with(&long), Err(Reason::ImageSize));
    assert_eq!(with(&long[1..]), Ok(u16::MAX));
    let short = Signed {
        key_hash: [0; 32],
        kind: kind::ED25519,
        signature: &[0; 63],
    };
    assert_eq!(
        Unprotected {
            hash: [0; 32],
            signatures: &[short]
        }
        .encode(&mut out),
        Err(Reason::ImageTlv)
    );
}

#[test]
fn foreign_images_can_be_looked_at() {
    let foreign = image(
        Some(&[(0x71, vec![0; 48])]),
        &[(kind::SHA512, vec![0; 64]), (kind::PUBKEY, vec![])],
    );
    let seen: Vec<_> = Tlvs::new(&foreign, &header(&foreign))
        .collect::<Result<_, _>>()
        .expect("well-formed");
    let shape: Vec<_> = seen.iter().map(|tlv| (tlv.area, tlv.kind, tlv.value.len())).collect();
    assert_eq!(
        shape,
        [
            (Area::Protected, 0x71, 48),
            (Area::Unprotected, 0x12, 64),
            (Area::Unprotected, 0x02, 0)
        ]
    );
    for len in 0..foreign.len() {
        let mut tlvs = Tlvs::new(&foreign[..len], &header(&foreign));
        assert!(tlvs.by_ref().any(|tlv| tlv.is_err()), "{len} bytes");
        assert!(tlvs.next().is_none(), "an error is the end");
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_readers_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..300), from in 40..300usize) {
        let mut image = ED25519.to_vec();
        let end = (from + bytes.len()).min(image.len());
        if from < end {
            image[from..end].copy_from_slice(&bytes[..end - from]);
        }
        // Whatever the strict walk accepts, the slice reader and the rules accept too, with the same length.
        if let Ok((found, len)) = walk(&image, LIMIT) {
            let mut tlvs = Tlvs::new(&image, &header(&image));
            for tlv in &found {
                let raw = tlvs.next().expect("as many").expect("well-formed");
                prop_assert_eq!((raw.kind, raw.value), (tlv.kind, value(&image, tlv)));
                prop_assert!(rule(raw.kind).expect("a known type").check(raw.area, tlv.len).is_ok());
            }
            prop_assert!(tlvs.next().is_none());
            prop_assert_eq!(tlvs.image_len(), len as usize);
        }
    }
}
