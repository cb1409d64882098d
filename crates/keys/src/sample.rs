//! Keys whose private half everybody has: MCUboot's sample and test keys (GHSA-gcxh-546h-phg4).
//!
//! Products have shipped with them. They are recognised by the SHA-256 of their SubjectPublicKeyInfo, the value of an
//! image's KEYHASH; only keys of algorithms that sign here are listed.

/// The upstream name of a published key, if this is the SHA-256 of its SubjectPublicKeyInfo.
pub fn published_name(spki_sha256: &[u8; 32]) -> Option<&'static str> {
    PUBLISHED
        .iter()
        .find(|(hash, _)| hash == spki_sha256)
        .map(|(_, name)| *name)
}

/// Whether the private half of this key is published.
pub fn is_published_sample(spki_sha256: &[u8; 32]) -> bool {
    published_name(spki_sha256).is_some()
}

/// Source: the .pem files of github.com/mcu-tools/mcuboot at v2.4.0-114-g2d4bacc3.
const PUBLISHED: &[([u8; 32], &str)] = &[
    (
        hash("bb868a727f0ef75e890a6a52bccd1d936fb34438afd6f237e8af259865742446"),
        "cypress-test-ec-p256.pem",
    ),
    (
        hash("3c23fc4e1d332a0c86e6a8bf6ecf26046d702302e135bf53fc04a009a33a78c5"),
        "enc-ec256-priv.pem",
    ),
    (
        hash("e30466f6b8470c1f29070b17f1e2d3e94d445e3f608087fdc711e4382bb538b6"),
        "root-ec-p256.pem",
    ),
    (
        hash("6754edab1e29affef4a05935adecbeb1a7b8b62397b31e39a61b5bfcaafd63af"),
        "root-ed25519-2.pem",
    ),
    (
        hash("b1d87d60173352b9a4808979790fc699fb4c4f83b49cf1970edd96ff4adc36a6"),
        "root-ed25519-unknown.pem",
    ),
    (
        hash("c1907fa4eac7fae3840a78902b6f0710b037e9968e5c6274a12a28790c7d4e3c"),
        "root-ed25519.pem",
    ),
    (
        hash("e6c097daf1458d0f8b8d43fc4b4b9d4425203484b3afe5570ed074073901bab0"),
        "bad-ec-p256.pem",
    ),
    (
        hash("6dc968724fdedb71be7c8ad62540ea148996f96adb5c48e9cc3112c588f26d89"),
        "key_ec256.pem",
    ),
    (
        hash("1c35c9ccb929906e7792eda384825b41be700c50760493eaf163135933e191aa"),
        "key_ec256_2.pem",
    ),
];

const fn hash(hex: &str) -> [u8; 32] {
    let hex = hex.as_bytes();
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]);
        i += 1;
    }
    bytes
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key of `root-ed25519.pem`, as it stands in the table of keys of the upstream simulator.
    const ROOT_ED25519: [u8; 32] = [
        0xd4, 0xb3, 0x1b, 0xa4, 0x9a, 0x3a, 0xdd, 0x3f, 0x82, 0x5d, 0x10, 0xca, 0x7f, 0x31, 0xb5, 0x0b, 0x0d, 0xe8,
        0x7f, 0x37, 0xcc, 0xc4, 0x9f, 0x1a, 0x40, 0x3a, 0x5c, 0x13, 0x20, 0xff, 0xb4, 0xe0,
    ];

    #[test]
    fn a_published_key_is_recognised_by_its_public_half() {
        let key = trust::PublicKey::Ed25519 { x: &ROOT_ED25519 };
        assert_eq!(
            published_name(&trust::image_key_hash(&key).unwrap()),
            Some("root-ed25519.pem")
        );
        assert!(!is_published_sample(&[0; 32]));
    }
}
