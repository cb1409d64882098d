//! Names of keys: what a trust root, a signature block and an image call a public key.

use crate::digest::Sha256;
use codec::cbor::Writer;
use codec::cose::{KeyId, PublicKey};

/// SubjectPublicKeyInfo of Ed25519 up to its 32 bytes (RFC 8410 section 4).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// SubjectPublicKeyInfo of P-256, uncompressed, up to the 64 bytes of x and y (RFC 5480 section 2).
const SPKI_P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// SubjectPublicKeyInfo of an HSS-LMS key up to its 60 bytes (RFC 9802 section 4).
const SPKI_HSS_60: [u8; 20] = [
    0x30, 0x4e, 0x30, 0x0d, 0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x03, 0x11, 0x03, 0x3d,
    0x00,
];
/// The same for a key of SHA-256/192, up to its 52 bytes.
const SPKI_HSS_52: [u8; 20] = {
    let mut spki = SPKI_HSS_60;
    (spki[1], spki[18]) = (0x46, 0x35);
    spki
};

/// The key's id everywhere in a trust root and a manifest: its COSE key thumbprint (profile section 12, RFC 9679).
pub fn thumbprint(key: &PublicKey) -> KeyId {
    let mut hash = Sha256::new();
    key.write_thumbprint_input(&mut Writer::new(&mut hash));
    hash.finish()
}

/// The key's name in an MCUboot image, TLV KEYHASH: SHA-256 of its SubjectPublicKeyInfo in DER. `None` for algorithms
/// that sign no images here.
pub fn image_key_hash(key: &PublicKey) -> Option<[u8; 32]> {
    let parts: [&[u8]; 3] = match key {
        PublicKey::Ed25519 { x } => [&SPKI_ED25519, *x, &[]],
        PublicKey::P256 { x, y } => [&SPKI_P256, *x, *y],
        PublicKey::HssLms { public } if public.len() == 60 => [&SPKI_HSS_60, public, &[]],
        PublicKey::HssLms { public } if public.len() == 52 => [&SPKI_HSS_52, public, &[]],
        PublicKey::MlDsa { .. } | PublicKey::HssLms { .. } => return None,
    };
    Some(Sha256::of_parts(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    /// Profile section 18: the thumbprint of RFC 8032 test key 1, and those of keys 2 and 3 in the example root.
    #[test]
    fn thumbprints_of_the_profile() {
        for (key, name) in [
            (
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "866eefbd6718c8846cd7ddfe43fc74ab1daac4538ff8514ea2ec2d410a415743",
            ),
            (
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "5c840f7a40230170abdee5151a594efdf270f7a89825f5c310badf6b589c5c59",
            ),
            (
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "51d53691575b17e32587f41e5b9c85feeec5cccd5c0826be4abd2dfe7d33a6ee",
            ),
        ] {
            assert_eq!(thumbprint(&PublicKey::Ed25519 { x: &hex(key) }), hex(name));
        }
    }

    /// RFC 9679 section 6: the thumbprint of the P-256 key of its example.
    #[test]
    fn thumbprint_of_rfc_9679() {
        let x = hex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d");
        let y = hex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c");
        let name = hex("496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec");
        assert_eq!(thumbprint(&PublicKey::P256 { x: &x, y: &y }), name);
    }
}
