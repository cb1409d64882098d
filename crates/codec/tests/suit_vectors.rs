//! Third-party SUIT files (vectors/suit/README.md): the generic reader takes them, the device's decoder refuses each
//! with exactly the reason that the columns "strict" and "template" name.

mod common;

use ampoule_codec::Reason;
use ampoule_codec::cbor::{Kind, Reader};
use ampoule_codec::limits::Limits;
use ampoule_codec::plan::Target;
use ampoule_codec::suit::foreign::{self, BlockKind, Envelope, Tag};
use ampoule_codec::suit::{Head, encryption, manifest};
use common::{unhex, vectors};

use Reason::{AuthBlockHeader, AuthBlockType, AuthNoBlock, EnvTag, ManKeyForbidden, ManKeyMissing, SeqTemplate};

/// File, whether it is tagged, strict, template.
#[rustfmt::skip]
const ENVELOPES: &[(&str, bool, Reason, Option<Reason>)] = &[
    ("manifest-spec/example0-0", true, AuthNoBlock, None),
    ("manifest-spec/example1-0", true, AuthNoBlock, None),
    ("manifest-spec/example2-0", true, AuthNoBlock, None),
    ("manifest-spec/example3-0", true, AuthNoBlock, None),
    ("manifest-spec/example4-0", true, AuthNoBlock, None),
    ("manifest-spec/example5-0", true, AuthNoBlock, None),
    ("manifest-spec/example0-1", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("manifest-spec/example1-1", true, AuthBlockHeader, Some(SeqTemplate)),
    ("manifest-spec/example2-1", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("manifest-spec/example2-2", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("manifest-spec/example3-1", true, AuthBlockHeader, Some(SeqTemplate)),
    ("manifest-spec/example4-1", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("manifest-spec/example5-1", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_exp0", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_exp2A", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_exp2B", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_exp5", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_exp1", true, AuthBlockHeader, Some(SeqTemplate)),
    ("libcsuit/suit_manifest_exp3", true, AuthBlockHeader, Some(SeqTemplate)),
    ("libcsuit/suit_manifest_exp4", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_expAF", true, AuthBlockType, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expAFS", true, AuthBlockType, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expAW", true, AuthBlockType, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expEW", true, AuthBlockHeader, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expED", true, AuthBlockHeader, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expS0", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_expS2", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_expS3", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_expU0", true, AuthBlockHeader, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expU1", true, AuthBlockHeader, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expU2", true, AuthBlockHeader, Some(ManKeyForbidden)),
    ("libcsuit/suit_manifest_expU3", true, AuthBlockHeader, Some(ManKeyMissing)),
    ("libcsuit/suit_manifest_expD", false, EnvTag, None),
    ("libcsuit/suit_manifest_expI", false, EnvTag, None),
    ("libcsuit/suit_manifest_expU", false, EnvTag, None),
    ("fw-encryption/suit-manifest-aes-kw", true, AuthBlockType, Some(ManKeyMissing)),
    ("fw-encryption/suit-manifest-aes-kw-content", true, AuthBlockType, Some(ManKeyMissing)),
    ("fw-encryption/suit-manifest-aes-kw-slot", true, AuthBlockType, Some(ManKeyMissing)),
    ("fw-encryption/suit-manifest-es-ecdh-content", true, AuthBlockHeader, Some(ManKeyMissing)),
    ("fw-encryption/suit-manifest-es-ecdh-dependency", true, AuthBlockHeader, Some(ManKeyMissing)),
];

fn file(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join("suit").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_envelope_file_is_in_the_table() {
    for folder in ["manifest-spec", "libcsuit", "fw-encryption"] {
        for entry in std::fs::read_dir(vectors().join("suit").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(stem) = name.strip_suffix(".suit") {
                let listed = format!("{folder}/{stem}");
                assert!(
                    ENVELOPES.iter().any(|(name, ..)| *name == listed),
                    "{listed} is not tested"
                );
            }
        }
    }
}

#[test]
fn the_generic_reader_takes_every_file() {
    for (name, tagged, strict, _) in ENVELOPES {
        let bytes = file(&format!("{name}.suit"));
        let envelope = Envelope::decode(&bytes, Tag::Optional).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(envelope.tagged, *tagged, "{name}");
        assert_eq!(Envelope::decode(&bytes, Tag::Required).is_ok(), *tagged, "{name}");
        assert_eq!((envelope.digest_algorithm, envelope.digest.len()), (-16, 32), "{name}");
        let blocks: Vec<_> = envelope.blocks().collect();
        assert_eq!(blocks.is_empty(), *strict == AuthNoBlock, "{name}");
        let is_mac = blocks.iter().any(|block| block.kind == BlockKind::Mac0);
        assert_eq!(is_mac, *strict == AuthBlockType, "{name}");
        deterministic_to_the_bottom(&bytes, name);
    }
}

/// Whatever reads as CBOR inside byte strings is deterministic as well.
fn deterministic_to_the_bottom(bytes: &[u8], name: &str) {
    let mut reader = Reader::new(bytes);
    let item = reader.item().unwrap_or_else(|refused| panic!("{name}: {refused}"));
    assert!(reader.is_empty(), "{name}");
    for_each_byte_string(item, &mut |content| {
        let mut inner = Reader::new(content);
        if inner
            .peek()
            .is_ok_and(|kind| matches!(kind, Kind::Array | Kind::Map | Kind::Tag))
            && inner.item().is_ok()
            && inner.is_empty()
        {
            deterministic_to_the_bottom(content, name);
        }
    });
}

fn for_each_byte_string<'a>(item: &'a [u8], visit: &mut dyn FnMut(&'a [u8])) {
    let mut reader = Reader::new(item);
    match reader.peek().unwrap() {
        Kind::Bytes => visit(reader.bytes().unwrap()),
        Kind::Tag => {
            reader.tag().unwrap();
            for_each_byte_string(reader.rest(), visit);
        }
        Kind::Array | Kind::Map => {
            let items = if reader.peek().unwrap() == Kind::Array {
                reader.array()
            } else {
                reader.map().map(|n| 2 * n)
            };
            for _ in 0..items.unwrap() {
                for_each_byte_string(reader.item().unwrap(), visit);
            }
        }
        _ => {}
    }
}

#[test]
fn a_device_refuses_every_file_with_its_reason() {
    for limits in [Limits::MCU, Limits::LINUX] {
        for (name, _, strict, _) in ENVELOPES {
            let bytes = file(&format!("{name}.suit"));
            let refused = Head::decode(&bytes, &limits).expect_err(name);
            assert_eq!(refused.reason, *strict, "{name}");
        }
    }
}

#[test]
fn their_manifests_match_no_template() {
    for (name, _, _, template) in ENVELOPES {
        let Some(template) = template else { continue };
        let bytes = file(&format!("{name}.suit"));
        let envelope = Envelope::decode(&bytes, Tag::Required).unwrap();
        let mut room = [Target::EMPTY; 16];
        let refused = manifest::decode(envelope.manifest, &Limits::LINUX, &mut room).expect_err(name);
        assert_eq!(refused.reason, *template, "{name}");
    }
}

#[test]
fn the_generic_reader_walks_their_sequences() {
    let bytes = file("manifest-spec/example1-1.suit");
    let envelope = Envelope::decode(&bytes, Tag::Required).unwrap();
    let install = envelope
        .manifest_entries()
        .unwrap()
        .find(|(key, _)| *key == [20])
        .unwrap()
        .1;
    let numbers: Vec<i64> = foreign::commands(Reader::new(install).bytes().unwrap())
        .unwrap()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, [20, 21, 3]);
    assert!(foreign::commands(&[0x81, 0x01]).is_err());
    assert_eq!(envelope.members().count(), 2);
}

#[test]
fn their_content_encryption_is_not_the_profiles() {
    let mut seen = 0;
    for folder in ["libcsuit", "fw-encryption"] {
        for entry in std::fs::read_dir(vectors().join("suit").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let bytes = file(&format!("{folder}/{name}"));
            let info = match name.as_str() {
                _ if name.ends_with(".cose") => bytes,
                _ if name.starts_with("suit-encryption-info") => unhex(std::str::from_utf8(&bytes).unwrap()),
                _ => continue,
            };
            seen += 1;
            assert_eq!(
                encryption::decode_info(&info).expect_err(&name).reason,
                Reason::EncAlg,
                "{name}"
            );
        }
    }
    assert_eq!(seen, 13);
}
