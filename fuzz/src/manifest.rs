//! Manifests: a plan has one encoding, so whatever is accepted is written again as the same bytes.

use codec::cbor;
use codec::limits::Limits;
use codec::plan::Target;
use codec::suit::{encode, manifest};

/// Any bytes as a manifest, with the limits of both kinds of device.
pub fn run(data: &[u8]) {
    for limits in [Limits::MCU, Limits::LINUX] {
        let mut room = [Target::EMPTY; 16];
        let Ok(plan) = manifest::decode(data, &limits, &mut room) else {
            continue;
        };
        let mut again = vec![0; data.len()];
        let again = cbor::encode(&mut again, |w| encode::write_manifest(w, &plan));
        assert_eq!(again, Ok(data));
    }
}
