//! Authenticated encryption that forgives a repeated nonce: AES-256-SIV (RFC 5297, AEAD_AES_SIV_CMAC_512).
//!
//! A device that writes, loses its power, and writes something else in the same place would use a nonce twice, and so would
//! one whose flash an attacker puts back. Under GCM or Poly1305 that gives the key stream away; here it tells at most that
//! two texts under the same associated data are equal.

use aes_siv::siv::Aes256Siv;
use aes_siv::{KeyInit, Tag};

/// Bytes of a key: one half authenticates, one encrypts.
pub const SIV_KEY_BYTES: usize = 64;
/// Bytes of the tag, which is also the initial value.
pub const SIV_TAG_BYTES: usize = 16;

/// The text is not what was sealed under this key and associated data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAuthentic;

/// Encrypts in place and gives the tag.
pub fn seal(key: &[u8; SIV_KEY_BYTES], associated: &[u8], text: &mut [u8]) -> [u8; SIV_TAG_BYTES] {
    let mut siv = Aes256Siv::new(&(*key).into());
    // Fails for more than 126 pieces of associated data only; there is one.
    siv.encrypt_inout_detached([associated], text.into())
        .map_or([0; SIV_TAG_BYTES], Into::into)
}

/// Decrypts in place. When the tag is wrong, the text is not to be used; it is wiped.
pub fn open(
    key: &[u8; SIV_KEY_BYTES],
    associated: &[u8],
    text: &mut [u8],
    tag: &[u8; SIV_TAG_BYTES],
) -> Result<(), NotAuthentic> {
    let mut siv = Aes256Siv::new(&(*key).into());
    let tag = Tag::from(*tag);
    let opened = siv.decrypt_inout_detached([associated], (&mut *text).into(), &tag);
    opened.map_err(|_| {
        text.fill(0);
        NotAuthentic
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// Associated data, text, and tag with cipher text as OpenSSL's AES-256-SIV makes them (through pyca/cryptography
    /// 50.0.2), under the key 00 01 .. 3f.
    const VECTORS: [(&str, &str, &str); 3] = [
        ("616d702d7365616c2d31", "", "0929510e69cec5a888366fe5892a4f03"),
        (
            "6e616d65",
            "61206b6579206f662033322062797465732c2061732069742068617070656e73",
            "09564f3bcdeb3943be7d0118956290e5920fd75fd08d3ddeb12eaef5d222a7a124f42099b047d8175c004c30244ff3ad",
        ),
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536\
             3738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60616263",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536\
             3738393a3b3c3d3e3f404142434445464748494a4b4c",
            "faed5ffbe27ca937d7e86eafa50985c0b7dc5a354e280b9b709cf0ca2b2c23df463303005f537db4b71035aec4ba312d4e5a2f8acc007b\
             a2b1766cbebd5cc030bc0ade5d23108c983e4549fc39134aec5555640dfa2ce0523be3970069",
        ),
    ];

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    fn key() -> [u8; SIV_KEY_BYTES] {
        core::array::from_fn(|at| at as u8)
    }

    #[test]
    fn openssl_makes_the_same() {
        for (associated, text, sealed) in VECTORS {
            let (associated, mut text, sealed) = (hex(associated), hex(text), hex(sealed));
            let plain = text.clone();
            let tag = seal(&key(), &associated, &mut text);
            assert_eq!([&tag, &text[..]].concat(), sealed);
            assert_eq!(open(&key(), &associated, &mut text, &tag), Ok(()));
            assert_eq!(text, plain);
        }
    }

    #[test]
    fn every_changed_bit_is_found_and_gives_no_text() {
        let (associated, plain, sealed) = (hex(VECTORS[1].0), hex(VECTORS[1].1), hex(VECTORS[1].2));
        for bit in 0..sealed.len() * 8 {
            let mut bent = sealed.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let (tag, text) = bent.split_at_mut(SIV_TAG_BYTES);
            let tag: [u8; SIV_TAG_BYTES] = (&*tag).try_into().unwrap();
            assert_eq!(open(&key(), &associated, text, &tag), Err(NotAuthentic));
            assert!(text.iter().all(|byte| *byte == 0) && text.len() == plain.len());
        }
        let mut text = sealed[SIV_TAG_BYTES..].to_vec();
        let tag: [u8; SIV_TAG_BYTES] = sealed[..SIV_TAG_BYTES].try_into().unwrap();
        assert_eq!(open(&key(), b"game", &mut text, &tag), Err(NotAuthentic));
    }
}
