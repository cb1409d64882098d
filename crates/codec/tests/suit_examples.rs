//! The worked examples of the profile (section 18): decoded, and written again byte for byte.

mod common;

use ampoule_codec::cose::{SigStructure, Sign1};
use ampoule_codec::limits::Limits;
use ampoule_codec::plan::{ContentCipher, Format, Plan, Step, Target};
use ampoule_codec::suit::{encode, head, manifest};
use common::{encoded, hex, hex_file};

const EXAMPLES: [&str; 4] = ["a-one-component", "c-slots", "d-delta", "e-encrypted"];

fn file(name: &str) -> Vec<u8> {
    hex_file(&format!("profile/{name}.hex"))
}

/// Decodes an example's manifest and hands the plan to `judge`.
fn with_plan<T>(name: &str, limits: &Limits, judge: impl FnOnce(&Plan<'_>) -> T) -> T {
    let bytes = file(name);
    let head = head::Head::decode(&bytes, limits).unwrap();
    let mut room = [Target::EMPTY; 2];
    judge(&manifest::decode(head.manifest, limits, &mut room).unwrap())
}

#[test]
fn manifests_are_written_as_they_were_read() {
    for name in EXAMPLES {
        for limits in [Limits::MCU, Limits::LINUX] {
            let bytes = file(name);
            let head = head::Head::decode(&bytes, &limits).unwrap();
            let again = with_plan(name, &limits, |plan| encoded(|w| encode::write_manifest(w, plan)));
            assert_eq!(hex(&again), hex(head.manifest), "{name}");
        }
    }
}

#[test]
fn heads_are_written_as_they_were_read() {
    for name in EXAMPLES {
        let bytes = file(name);
        let head = head::Head::decode(&bytes, &Limits::MCU).unwrap();
        let blocks: Vec<Sign1<'_>> = head.blocks.map(Result::unwrap).collect();
        let members = head.entries as usize - 2;
        let again = encoded(|w| head::write_head(w, members, &head.digest, &blocks, head.manifest));
        assert_eq!(hex(&again), hex(&bytes[..head.len]), "{name}");
        let value = [head::value_header(head.manifest.len()).as_slice(), head.manifest].concat();
        assert_eq!(value, head.manifest_value, "{name}");
    }
}

#[test]
fn the_signed_bytes_are_those_of_the_sheet() {
    let bytes = file("a-one-component");
    let head = head::Head::decode(&bytes, &Limits::MCU).unwrap();
    let block = head.blocks.clone().next().unwrap().unwrap();
    let signed = SigStructure::new(block.protected, b"", head.signed);
    assert_eq!(hex(&signed.parts().concat()), hex(&file("a-sig-structure")));
    assert_eq!(signed.len(), 91);
}

#[test]
fn plans_say_what_the_sheet_says() {
    with_plan("a-one-component", &Limits::MCU, |plan| {
        assert_eq!(plan.sequence, 7);
        let [target] = plan.targets else { panic!("one target") };
        assert_eq!(target.id.parts(), [b"app"]);
        assert_eq!(hex(target.vendor), "cfbff0d193755685968c48ce8b15ae17");
        let [variant] = target.variants.as_slice() else {
            panic!("one variant")
        };
        assert_eq!((variant.slot, variant.size), (None, 48));
        assert_eq!(
            (variant.content.format, variant.content.counter),
            (Format::McubootImage, Some(3))
        );
        let source = variant.source.unwrap();
        assert_eq!((source.uri, source.ordinal), ("#app.bin", 0));
        assert!(plan.text_digest.is_some() && plan.domain.parts().is_empty());
    });
    with_plan("c-slots", &Limits::MCU, |plan| {
        let variants = plan.targets[0].variants.as_slice();
        let slots: Vec<_> = variants
            .iter()
            .map(|v| (v.slot, v.source.unwrap().uri, v.source.unwrap().ordinal))
            .collect();
        assert_eq!(slots, [(Some(0), "#00.bin", 0), (Some(1), "#01.bin", 1)]);
    });
    with_plan("d-delta", &Limits::MCU, |plan| {
        let Step::ApplyDelta { algorithm, base, patch } = plan.targets[0].step else {
            panic!("a delta")
        };
        assert_eq!(
            (algorithm, base.size, patch.size, patch.early, patch.number),
            (1, 48, 24, false, 0)
        );
        assert_eq!(patch.source.uri, "#app.delta");
        assert_eq!(plan.targets[0].variants.as_slice()[0].content.counter, Some(3));
    });
    with_plan("e-encrypted", &Limits::MCU, |plan| {
        let source = plan.targets[0].variants.as_slice()[0].source.unwrap();
        let encryption = source.encryption.unwrap();
        assert_eq!(encryption.algorithm, ContentCipher::A256Gcm);
        assert_eq!(hex(encryption.nonce), "a0a1a2a3a4a5a6a7a8a9aaab");
        assert_eq!(hex(encryption.cek_id), "1a0fe5b19dbf89bf0ef56af81247aca5");
        assert_eq!(source.transport_size(48), 64);
        assert_eq!(source.table.unwrap().chunk_size, 1024);
    });
}
