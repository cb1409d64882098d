//! The few shapes of X.509 that a device writes or looks at, in DER: a certification request (PKCS#10, RFC 2986) for a
//! P-256 key, and from a certificate (RFC 5280 section 4.1) whose key it is and who issued it.
//!
//! A device does not verify certificates here: it keeps what its station gives it, after a look whether it is for its own
//! key. What a certificate says is read by whoever is shown it.

use crate::Reason;
use crate::mcuboot::der::{DER_BYTES_MAX, RAW_BYTES, from_raw};

/// Bytes of a SubjectPublicKeyInfo of P-256 (RFC 5480 section 2), the point not compressed.
pub const SPKI_BYTES: usize = 91;
/// Bytes of what a request signs: version 0, an empty subject, the key, no attributes.
pub const REQUEST_INFO_BYTES: usize = 2 + 3 + 2 + SPKI_BYTES + 2;
/// Bytes of a request at most.
pub const REQUEST_BYTES_MAX: usize = 3 + REQUEST_INFO_BYTES + ECDSA_SHA256.len() + 3 + DER_BYTES_MAX;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// `[0] EXPLICIT`: the version of a certificate.
const VERSION: u8 = 0xa0;

/// Head of the SubjectPublicKeyInfo: id-ecPublicKey, secp256r1, a bit string of 66 bytes, a point that is not compressed.
const SPKI_HEAD: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758 section 3.2).
const ECDSA_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The SubjectPublicKeyInfo of a key, x then y.
pub fn spki(public: &[u8; 64]) -> [u8; SPKI_BYTES] {
    let mut spki = [0; SPKI_BYTES];
    let (head, point) = spki.split_at_mut(SPKI_HEAD.len());
    head.copy_from_slice(&SPKI_HEAD);
    point.copy_from_slice(public);
    spki
}

/// What a request for this key (x then y) signs. Subject and attributes are empty: identity comes from whoever was
/// authenticated, never from the request.
pub fn request_info(public: &[u8; 64]) -> [u8; REQUEST_INFO_BYTES] {
    let mut out = Der::<REQUEST_INFO_BYTES>::new();
    out.push(&[SEQUENCE, (REQUEST_INFO_BYTES - 2) as u8, INTEGER, 1, 0, SEQUENCE, 0]);
    out.push(&spki(public));
    out.push(&[VERSION, 0]);
    out.bytes
}

/// The request with its signature (r then s) by the key itself, SHA-256 over `info`.
pub fn request(info: &[u8; REQUEST_INFO_BYTES], signature: &[u8; RAW_BYTES]) -> Der<REQUEST_BYTES_MAX> {
    let signature = from_raw(signature);
    let signature = signature.as_bytes();
    let len = REQUEST_INFO_BYTES + ECDSA_SHA256.len() + 3 + signature.len();
    let mut out = Der::new();
    // Between 123 and 187 bytes: below 128 the length has one byte, from there on two.
    match len < 0x80 {
        true => out.push(&[SEQUENCE, len as u8]),
        false => out.push(&[SEQUENCE, 0x81, len as u8]),
    }
    out.push(info);
    out.push(&ECDSA_SHA256);
    out.push(&[BIT_STRING, signature.len() as u8 + 1, 0]);
    out.push(signature);
    out
}

/// Encoded bytes, at most `N`.
#[derive(Clone, Copy, Debug)]
pub struct Der<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Der<N> {
    fn new() -> Der<N> {
        Der { bytes: [0; N], len: 0 }
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        // N is the sum of the longest parts, so the write never misses.
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

/// What a device looks at in a certificate: parts of it, each whole in DER.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Certificate<'a> {
    /// Who issued it, a Name.
    pub issuer: &'a [u8],
    /// Whom it is for, a Name.
    pub subject: &'a [u8],
    /// The key, a SubjectPublicKeyInfo.
    pub spki: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Looks at one certificate in DER with nothing behind it. Error: 1108 it is none, as far as one has to look.
    pub fn parse(der: &'a [u8]) -> Result<Certificate<'a>, Reason> {
        parse(der).ok_or(Reason::CertificateMalformed)
    }
}

fn parse(der: &[u8]) -> Option<Certificate<'_>> {
    let mut outer = Elements(der);
    let mut certificate = Elements(outer.content(SEQUENCE)?);
    let mut signed = Elements(certificate.content(SEQUENCE)?);
    let algorithm = certificate.whole(SEQUENCE)?;
    certificate.whole(BIT_STRING)?;
    // Version 3, the only one with extensions, without which nobody could tell a CA from a device.
    let is_version_3 = signed.content(VERSION)? == [INTEGER, 1, 2];
    signed.whole(INTEGER)?;
    let is_same_algorithm = signed.whole(SEQUENCE)? == algorithm;
    let issuer = signed.whole(SEQUENCE)?;
    signed.whole(SEQUENCE)?;
    let subject = signed.whole(SEQUENCE)?;
    let spki = signed.whole(SEQUENCE)?;
    let is_whole = outer.0.is_empty() && certificate.0.is_empty();
    (is_whole && is_version_3 && is_same_algorithm).then_some(Certificate { issuer, subject, spki })
}

/// Elements of DER one after the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The content of the next element, which has this tag.
    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next(tag).map(|(_, content)| content)
    }

    /// The next element with its head.
    fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next(tag).map(|(whole, _)| whole)
    }

    fn next(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (&[found, first], rest) = self.0.split_first_chunk()?;
        let (len, head) = match (first, rest) {
            (0..=0x7f, _) => (usize::from(first), 2usize),
            (0x81, &[len, ..]) if len >= 0x80 => (usize::from(len), 3),
            (0x82, &[high, low, ..]) if high > 0 => (usize::from(u16::from_be_bytes([high, low])), 4),
            // Longer than anything here, or a length that has a shorter form.
            _ => return None,
        };
        let (whole, behind) = self.0.split_at_checked(head.checked_add(len)?)?;
        let content = whole.get(head..)?;
        self.0 = behind;
        (found == tag).then_some((whole, content))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let len = content.len();
        let mut out = match len {
            0..0x80 => [tag, len as u8].to_vec(),
            0x80..0x100 => [tag, 0x81, len as u8].to_vec(),
            _ => [tag, 0x82, (len >> 8) as u8, len as u8].to_vec(),
        };
        out.extend(content);
        out
    }

    fn certificate(extensions: usize) -> Vec<u8> {
        let name = |text: &[u8]| element(SEQUENCE, &[text]);
        let signed = element(
            SEQUENCE,
            &[
                &[VERSION, 3, INTEGER, 1, 2, INTEGER, 1, 9],
                &ECDSA_SHA256,
                &name(b"issuer"),
                &element(SEQUENCE, &[b"dates"]),
                &name(b"subject"),
                &spki(&[5; 64]),
                &element(0xa3, &[&std::vec![0; extensions]]),
            ],
        );
        element(SEQUENCE, &[&signed, &ECDSA_SHA256, &element(BIT_STRING, &[&[0; 71]])])
    }

    #[test]
    fn a_certificate_is_looked_at() {
        for extensions in [0, 100, 600] {
            let der = certificate(extensions);
            let seen = Certificate::parse(&der).unwrap();
            assert_eq!(seen.issuer, element(SEQUENCE, &[b"issuer"]));
            assert_eq!(seen.subject, element(SEQUENCE, &[b"subject"]));
            assert_eq!(seen.spki, spki(&[5; 64]));
            // Cut short, and with something behind it.
            for len in 0..der.len() {
                assert_eq!(
                    Certificate::parse(&der[..len]),
                    Err(Reason::CertificateMalformed),
                    "{len}"
                );
            }
            let longer = [&der[..], &[0]].concat();
            assert_eq!(Certificate::parse(&longer), Err(Reason::CertificateMalformed));
        }
    }

    #[test]
    fn other_versions_algorithms_and_lengths_are_refused() {
        let der = certificate(100);
        let version = der.windows(3).position(|window| window == [INTEGER, 1, 2]).unwrap();
        let inner = der.windows(12).position(|window| window == ECDSA_SHA256).unwrap();
        for (at, byte) in [(version + 2, 1), (inner + 11, 3), (0, 0x31), (1, 0x80), (1, 0x83)] {
            let mut bent = der.clone();
            bent[at] = byte;
            assert_eq!(Certificate::parse(&bent), Err(Reason::CertificateMalformed), "{at}");
        }
        // A length that has a shorter form.
        let mut padded = [&[SEQUENCE, 0x82, 0, der.len() as u8][..], &der[..]].concat();
        assert_eq!(Certificate::parse(&padded), Err(Reason::CertificateMalformed));
        padded.clear();
        assert_eq!(Certificate::parse(&padded), Err(Reason::CertificateMalformed));
    }

    #[test]
    fn requests_of_every_length_are_well_formed() {
        for (signature, len) in [([0; 64], 125), ([0xff; 64], REQUEST_BYTES_MAX)] {
            let info = request_info(&[7; 64]);
            let request = request(&info, &signature);
            assert_eq!(request.as_bytes().len(), len);
            let mut outer = Elements(request.as_bytes());
            let mut parts = Elements(outer.content(SEQUENCE).unwrap());
            assert!(outer.0.is_empty());
            assert_eq!(parts.whole(SEQUENCE), Some(&info[..]));
            assert_eq!(parts.whole(SEQUENCE), Some(&ECDSA_SHA256[..]));
            let bits = parts.content(BIT_STRING).unwrap();
            assert_eq!(crate::mcuboot::der::to_raw(&bits[1..]), Ok(signature));
            assert!(parts.0.is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::parse(&bytes);
        }

        #[test]
        fn no_changed_byte_panics(at in 0..300usize, byte: u8) {
            let mut der = certificate(100);
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = Certificate::parse(&der);
        }
    }
}
