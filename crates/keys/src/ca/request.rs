//! PKCS#10 certification requests (RFC 2986): whether one is well-formed, and whether its sender has the private key.
//!
//! A request says which key, and nothing else: its subject and every extension that it asks for are ignored, because
//! identity comes from whoever was authenticated and the rest from the profile.

use x509_cert::der::Decode;
use x509_cert::der::pem::{self, PemLabel};
use x509_cert::der::referenced::OwnedToRef;
use x509_cert::request::CertReq;

use super::algorithm::{first_of, identifier, is_signature};
use crate::{Code, PublicKey, Result};

/// Bytes of a request at most, in either form (RFC 7030 servers accept as much in practice).
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// As older tools write the label (RFC 7468 section 7).
const OLD_LABEL: &str = "NEW CERTIFICATE REQUEST";

/// A request whose sender has the private key of its public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    der: Vec<u8>,
    key: PublicKey,
}

impl Request {
    /// Reads a request in PEM or DER and checks its signature: proof of possession.
    ///
    /// Errors: [`Code::CaRequest`] it is none, or too large; [`Code::CaRequestKey`] its key is of another algorithm than
    /// P-256 and Ed25519, or weak; [`Code::CaPossession`] it was not signed with its own key.
    pub fn read(bytes: &[u8]) -> Result<Request> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Code::CaRequest.error(format!("the request has {} bytes", bytes.len())));
        }
        Request::from_der(&in_der(bytes)?)
    }

    fn from_der(der: &[u8]) -> Result<Request> {
        let malformed = |_| Code::CaRequest.error("the request is no PKCS#10 request");
        let request = CertReq::from_der(der).map_err(malformed)?;
        let key = key_of(&request)?;
        let signed = first_of(der).unwrap_or_default();
        let signature = request.signature.as_bytes().unwrap_or_default();
        if request.algorithm != identifier(&key)? || !is_signature(&key, signed, signature) {
            return Err(Code::CaPossession.error("the request is not signed with the key that it names"));
        }
        Ok(Request { der: der.to_vec(), key })
    }

    /// The key that is to be certified.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Its bytes, in DER.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }
}

fn in_der(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.first() == Some(&0x30) {
        return Ok(bytes.to_vec());
    }
    let text = bytes.trim_ascii();
    match pem::decode_vec(text) {
        Ok((CertReq::PEM_LABEL | OLD_LABEL, der)) => Ok(der),
        _ => Err(Code::CaRequest.error("this is neither a PEM block CERTIFICATE REQUEST nor DER")),
    }
}

fn key_of(request: &CertReq) -> Result<PublicKey> {
    use x509_cert::der::Encode;
    let spki = request.info.public_key.owned_to_ref().to_der();
    let malformed = |_| Code::CaRequest.error("the request names no key");
    let key = PublicKey::from_spki_der(&spki.map_err(malformed)?);
    let key = key.map_err(|error| Code::CaRequestKey.error(format!("the request's key is refused: {}", error.what)))?;
    match key.published_sample() {
        Some(sample) => Err(Code::CaRequestKey.error(format!("everybody has the request's key: it is {sample}"))),
        None => Ok(key),
    }
}
