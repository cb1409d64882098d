//! Images as made and judged here, without other tools: what every option does, what is refused with which number, and
//! that no bit of a signed image can change.

use ampoule_release as release;

use codec::mcuboot::{Dependency, ImageHeader, ImageVersion, header::flags, tlv};
use codec::{Reason, plan::Uuid};
use keys::{Code, SignatureAlgorithm, Signer, file};
use release::image::{
    Alignment, Authority, Finish, ImageOptions, LoadAddress, SecurityCounter, add_signature, build, dumpinfo, sign,
    verify,
};

const VENDOR: Uuid = [0x11; 16];
const CLASS: Uuid = [0x22; 16];

fn options() -> ImageOptions {
    let mut options = ImageOptions::new(ImageVersion::from_text("1.2.3+4").unwrap(), 0x200, 0x1_0000);
    options.pad_header = true;
    options
}

fn full() -> ImageOptions {
    ImageOptions {
        security_counter: Some(SecurityCounter::Value(7)),
        vendor: Some(VENDOR),
        class: Some(CLASS),
        dependencies: vec![Dependency {
            image: 1,
            min_version: ImageVersion::from_text("2.0").unwrap(),
        }],
        custom: vec![(0x00a5, b"note".to_vec()), (0x12ff, vec![])],
        ..options()
    }
}

fn firmware() -> Vec<u8> {
    (0..5000u32).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn key(algorithm: SignatureAlgorithm) -> file::FileKey {
    file::generate(algorithm).unwrap()
}

fn ed25519() -> file::FileKey {
    key(SignatureAlgorithm::Ed25519)
}

fn p256() -> file::FileKey {
    key(SignatureAlgorithm::Esp256)
}

#[test]
fn a_signed_image_says_what_its_options_say() {
    for key in [ed25519(), p256()] {
        let image = build(&firmware(), &full(), &[&key]).unwrap();
        let verified = verify(image.as_bytes(), Authority::Key(key.public_key())).unwrap();
        assert_eq!(verified.header.version.to_string(), "1.2.3+4");
        assert_eq!(
            (verified.counter, verified.vendor, verified.class),
            (Some(7), Some(VENDOR), Some(CLASS))
        );
        assert_eq!(
            (&verified.digest, verified.image_len),
            (image.digest(), image.as_bytes().len())
        );
        assert_eq!(verified.key_hashes, [key.public_key().image_key_hash()]);
        assert_eq!(verified.refused_by_devices, None);
        assert_eq!(image.as_bytes()[0x200..][..5000], firmware());
        assert_eq!(image.as_bytes()[32..0x200], [0xff; 0x1e0]);
    }
}

#[test]
fn the_header_goes_over_leading_zeros_or_before_the_firmware() {
    let mut over = options();
    over.pad_header = false;
    let linked = [vec![0; 0x200], firmware()].concat();
    let image = sign(&linked, &over, &[]).unwrap();
    assert_eq!(image[0x200..][..5000], firmware());
    assert_eq!(image[32..0x200], [0; 0x1e0]);

    let nonzero = [vec![0; 0x1ff], vec![1], firmware()].concat();
    for bad in [nonzero, vec![0; 0x200], vec![0; 10], vec![]] {
        assert!(
            sign(&bad, &over, &[]).unwrap_err().is(Code::ImageHeaderSpace),
            "{}",
            bad.len()
        );
    }
    assert!(sign(&[], &options(), &[]).unwrap_err().is(Code::ImageHeaderSpace));
}

#[test]
fn the_slot_must_hold_image_and_trailer_to_the_byte() {
    let mut options = options();
    options.alignment = Alignment::new(4, None).unwrap();
    let len = sign(&firmware(), &options, &[]).unwrap().len() as u32;
    options.slot_size = len + 1584;
    assert!(sign(&firmware(), &options, &[]).is_ok());
    options.finish = Finish::Confirm;
    assert_eq!(sign(&firmware(), &options, &[]).unwrap().len() as u32, len + 1584);
    options.slot_size -= 1;
    assert!(sign(&firmware(), &options, &[]).unwrap_err().is(Code::ImageTooLarge));
    options.overwrite_only = true;
    assert!(sign(&firmware(), &options, &[]).is_ok());
}

#[test]
fn padding_ends_with_the_trailer_and_keeps_the_image_valid() {
    let key = ed25519();
    for (finish, erased, image_ok) in [
        (Finish::Pad, 0xff, 0xff),
        (Finish::Test, 0, 0),
        (Finish::Confirm, 0xff, 1),
    ] {
        for (max_align, image_ok_from_end) in [(8, 24), (16, 32), (32, 64)] {
            let mut options = full();
            options.alignment = Alignment::new(1, Some(max_align)).unwrap();
            (options.finish, options.erased_value) = (finish, erased);
            let image = sign(&firmware(), &options, &[&key]).unwrap();
            assert_eq!(image.len(), 0x1_0000);
            assert_eq!(image[image.len() - image_ok_from_end], image_ok);
            assert_eq!(image[image.len() - 16..], codec::mcuboot::trailer::magic(max_align));
            let verified = verify(&image, Authority::Key(key.public_key())).unwrap();
            assert!(
                image[verified.image_len..image.len() - image_ok_from_end]
                    .iter()
                    .all(|byte| *byte == erased)
            );
        }
    }
}

#[test]
fn several_signers_give_several_pairs() {
    let (a, b, c) = (ed25519(), p256(), ed25519());
    let image = sign(&firmware(), &full(), &[&a, &b]).unwrap();
    let names: Vec<_> = [&a, &b, &c]
        .iter()
        .map(|key| key.public_key().image_key_hash())
        .collect();
    assert_eq!(verify(&image, Authority::Nobody).unwrap().key_hashes, names[..2]);
    for key in [&a, &b] {
        verify(&image, Authority::Key(key.public_key())).unwrap();
    }
    assert!(
        verify(&image, Authority::Key(c.public_key()))
            .unwrap_err()
            .is(Code::ImageNotSigned)
    );

    // One after the other gives the same image as all at once.
    let added = add_signature(&sign(&firmware(), &full(), &[&a]).unwrap(), &b).unwrap();
    assert_eq!(added, image);
    let three = add_signature(&image, &c).unwrap();
    assert_eq!(three, sign(&firmware(), &full(), &[&a, &b, &c]).unwrap());
    assert_eq!(
        add_signature(&sign(&firmware(), &full(), &[]).unwrap(), &a).unwrap(),
        sign(&firmware(), &full(), &[&a]).unwrap()
    );
}

#[test]
fn a_key_signs_once() {
    let (a, b) = (ed25519(), p256());
    assert!(
        sign(&firmware(), &full(), &[&a, &b, &a])
            .unwrap_err()
            .is(Code::SameKeyTwice)
    );
    let image = sign(&firmware(), &full(), &[&a, &b]).unwrap();
    assert!(add_signature(&image, &b).unwrap_err().is(Code::ImageAlreadySigned));
    let keys: Vec<_> = (0..17).map(|_| ed25519()).collect();
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    assert!(sign(&firmware(), &full(), &signers).unwrap_err().is(Code::ImageOption));
    let full_up = sign(&firmware(), &full(), &signers[..16]).unwrap();
    assert!(add_signature(&full_up, signers[16]).unwrap_err().is(Code::ImageOption));
}

#[test]
fn signatures_are_added_to_sound_unpadded_images_only() {
    let key = ed25519();
    let mut padded = full();
    padded.finish = Finish::Pad;
    let image = sign(&firmware(), &padded, &[]).unwrap();
    assert!(add_signature(&image, &key).unwrap_err().is(Code::ImageOption));
    let mut image = sign(&firmware(), &full(), &[]).unwrap();
    image[0x300] ^= 1;
    assert_eq!(
        add_signature(&image, &key).unwrap_err().reason(),
        Some(Reason::ImageHash)
    );
    assert_eq!(
        add_signature(b"hello", &key).unwrap_err().reason(),
        Some(Reason::ImageMagic)
    );
}

#[test]
fn no_bit_of_a_signed_image_can_change() {
    for key in [ed25519(), p256()] {
        let image = sign(&firmware(), &full(), &[&key]).unwrap();
        let tlvs = image.len() - 300;
        for at in (0..32).chain((32..tlvs).step_by(97)).chain(tlvs..image.len()) {
            for bit in [1, 0x80] {
                let mut changed = image.clone();
                changed[at] ^= bit;
                assert!(
                    verify(&changed, Authority::Key(key.public_key())).is_err(),
                    "byte {at} bit {bit}"
                );
            }
        }
        for len in (0..image.len()).rev().step_by(53).chain(image.len() - 200..image.len()) {
            assert!(verify(&image[..len], Authority::Nobody).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn a_wrong_signature_of_the_right_key_has_its_number() {
    let (key, other) = (ed25519(), ed25519());
    let mine = sign(&firmware(), &full(), &[&key]).unwrap();
    let others = sign(&firmware(), &full(), &[&other]).unwrap();
    // The KEYHASH of one and the signature of the other.
    let mixed = [&mine[..mine.len() - 64], &others[others.len() - 64..]].concat();
    assert_eq!(
        verify(&mixed, Authority::Key(key.public_key())).unwrap_err().reason(),
        Some(Reason::ImageSignature)
    );
    assert!(
        verify(&mixed, Authority::Key(other.public_key()))
            .unwrap_err()
            .is(Code::ImageNotSigned)
    );
    verify(&mixed, Authority::Nobody).unwrap();
}

#[test]
fn images_for_other_bootloaders_verify_and_say_that_ours_refuses_them() {
    let key = ed25519();
    for (load, flag, refused) in [
        (LoadAddress::Ram(0x2000_0000), flags::RAM_LOAD, Some(Reason::ImageFlags)),
        (LoadAddress::RomFixed(0x0800_0000), flags::ROM_FIXED, None),
        (LoadAddress::Ram(0), 0, None),
        (LoadAddress::RomFixed(0), 0, None),
    ] {
        let image = sign(&firmware(), &ImageOptions { load, ..full() }, &[&key]).unwrap();
        let verified = verify(&image, Authority::Key(key.public_key())).unwrap();
        assert_eq!((verified.header.flags, verified.refused_by_devices), (flag, refused));
    }
    let hidden = sign(
        &firmware(),
        &ImageOptions {
            non_bootable: true,
            ..full()
        },
        &[&key],
    )
    .unwrap();
    let verified = verify(&hidden, Authority::Nobody).unwrap();
    assert_eq!(verified.refused_by_devices, Some(Reason::ImageFlags));
}

#[test]
fn custom_types_must_be_the_vendors_and_once() {
    for (custom, why) in [
        (vec![(0x0050, vec![])], "known type"),
        (vec![(0x0130, vec![])], "not a vendor type"),
        (vec![(0xffff, vec![])], "wildcard"),
        (vec![(tlv::kind::LMS, vec![])], "our own"),
        (vec![(0x00a0, vec![1]), (0x00a0, vec![2])], "twice"),
        (
            vec![(0x00a0, vec![0; 60_000]), (0x00a1, vec![0; 6_000])],
            "area beyond 16 bits",
        ),
    ] {
        let error = sign(&firmware(), &ImageOptions { custom, ..options() }, &[]).unwrap_err();
        assert!(error.is(Code::ImageOption), "{why}: {error}");
    }
}

#[test]
fn intel_hex_holds_image_and_trailer_at_their_addresses() {
    let mut options = full();
    options.finish = Finish::Confirm;
    let image = build(&firmware(), &options, &[&ed25519()]).unwrap();
    let memory = release::hex::read(&image.to_hex(0x0800_f000).unwrap()).unwrap();
    assert_eq!(memory.address, 0x0800_f000);
    assert_eq!(memory.bytes, image.to_binary());
    assert!(image.to_hex(0xffff_f000).unwrap_err().is(Code::HexTooLarge));
}

#[test]
fn dumpinfo_explains_every_part() {
    let mut options = full();
    options.finish = Finish::Confirm;
    let info = dumpinfo("a.bin", &sign(&firmware(), &options, &[&ed25519(), &p256()]).unwrap()).unwrap();
    let text = info.to_string();
    for part in [
        "a.bin",
        "1.2.3+4",
        "0x200",
        "5000 bytes",
        "SEC_CNT",
        "= 7",
        "image 1 from version 2.0.0+0",
        "UNKNOWN",
        "11111111-1111-1111-1111-111111111111",
        "SHA256",
        "ED25519",
        "ECDSASIG",
        "image_ok            set",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let bare = dumpinfo("b.bin", &sign(&firmware(), &full(), &[]).unwrap()).unwrap();
    assert!(
        bare.to_string()
            .ends_with("trailer: none, the file ends with the image")
    );
    for (bytes, reason) in [
        (&b"hello"[..], Reason::ImageMagic),
        (&ImageHeader::to_bytes(&header())[..], Reason::ImageSize),
    ] {
        assert_eq!(dumpinfo("c.bin", bytes).unwrap_err().reason(), Some(reason));
    }
}

fn header() -> ImageHeader {
    ImageHeader {
        load_addr: 0,
        hdr_size: 32,
        protect_tlv_size: 0,
        img_size: 100,
        flags: 0,
        version: ImageVersion::default(),
    }
}
