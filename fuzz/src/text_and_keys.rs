//! The severed text, key packages, and encryption infos.

use codec::cbor;
use codec::limits::Limits;
use codec::suit::encryption::{self, KeyPackage, KeyPackages, Recipient};
use codec::suit::text;

/// Any bytes as each of them.
pub fn run(data: &[u8]) {
    let _ = text::decode(data, &Limits::MCU, |entry| assert!((1..=8).contains(&entry.key)));
    if let Ok(info) = encryption::decode_info(data) {
        let mut again = vec![0; data.len()];
        assert_eq!(cbor::encode(&mut again, |w| encryption::write_info(w, &info)), Ok(data));
    }
    let Ok(packages) = KeyPackages::decode(data, &Limits::MCU) else {
        return;
    };
    let encoded: Vec<Vec<u8>> = packages.iter().map(|package| encode(&package)).collect();
    let encoded: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
    let mut again = vec![0; data.len()];
    assert_eq!(
        cbor::encode(&mut again, |w| encryption::write_packages(w, &encoded)),
        Ok(data)
    );
}

fn encode(package: &KeyPackage<'_>) -> Vec<u8> {
    let recipients: Vec<Recipient<'_>> = package.recipients().collect();
    let mut room = vec![0; cbor::measure(|w| KeyPackage::encode(w, package.cek_id, &recipients))];
    cbor::encode(&mut room, |w| KeyPackage::encode(w, package.cek_id, &recipients)).expect("measured");
    room
}
