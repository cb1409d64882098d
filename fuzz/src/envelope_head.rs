//! Envelope heads: measured from a prefix as they are decoded, and written again as the same bytes.

use codec::cbor::{self, Extent};
use codec::cose::Sign1;
use codec::limits::Limits;
use codec::suit::foreign::{Envelope, Tag};
use codec::suit::head::{Head, head_len, write_head};

/// Any bytes as the beginning of an envelope, for a device and for the generic reader.
pub fn run(data: &[u8]) {
    generic(data);
    let measured = head_len(data, &Limits::MCU);
    let Ok(head) = Head::decode(data, &Limits::MCU) else {
        return;
    };
    assert_eq!(measured, Ok(Extent::Complete(head.len)));
    let blocks: Vec<Sign1<'_>> = head.blocks.map(|block| block.expect("checked")).collect();
    let members = usize::try_from(head.entries - 2).expect("bounded");
    let mut again = vec![0; head.len];
    let again = cbor::encode(&mut again, |w| {
        write_head(w, members, &head.digest, &blocks, head.manifest)
    });
    assert_eq!(again, Ok(&data[..head.len]));
}

fn generic(data: &[u8]) {
    let Ok(envelope) = Envelope::decode(data, Tag::Optional) else {
        return;
    };
    assert!(envelope.members().count() >= 2);
    envelope.blocks().for_each(|block| assert!(!block.context().is_empty()));
    if let Ok(entries) = envelope.manifest_entries() {
        for (_, value) in entries {
            let _ = codec::suit::foreign::commands(value).map(Iterator::count);
        }
    }
}
