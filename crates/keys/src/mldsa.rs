//! ML-DSA-65 keys (FIPS 204), by the `ml-dsa` crate; in files as the seed alone (RFC 9881 section 6).

use ml_dsa::signature::MultipartSigner;
use ml_dsa::{KeyExport, Keypair, MlDsa65, SignatureEncoding, SigningKey};
use pkcs8::{EncodePrivateKey, PrivateKeyInfoRef, SecretDocument};
use trust::SignatureAlgorithm;

use crate::{Code, Content, Job, PublicKey, Result};

/// `id-ml-dsa-65`.
pub(crate) const OID: pkcs8::ObjectIdentifier = pkcs8::ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");

/// A private key.
pub(crate) struct PrivateKey(Box<SigningKey<MlDsa65>>);

impl PrivateKey {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        PrivateKey(Box::new(SigningKey::from_seed(&(*seed).into())))
    }

    /// `None` when it is not the seed form.
    pub(crate) fn from_info(info: PrivateKeyInfoRef<'_>) -> Option<Self> {
        SigningKey::try_from(info).ok().map(Box::new).map(PrivateKey)
    }

    pub(crate) fn to_pkcs8(&self) -> pkcs8::Result<SecretDocument> {
        self.0.to_pkcs8_der()
    }

    pub(crate) fn public(&self) -> Result<PublicKey> {
        PublicKey::from_raw(SignatureAlgorithm::MlDsa65, &self.0.verifying_key().to_bytes())
    }

    /// Pure, empty context, deterministic: the same message gives the same signature.
    pub(crate) fn sign(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let Content::Message(parts) = job.content else {
            return Err(Code::KeyAlgorithm
                .error("ML-DSA signs no images: no bootloader could verify it")
                .advise("Sign images with P-256 or Ed25519, and with LMS as the second algorithm."));
        };
        let failed = |_| Code::SignFailed.error("the ML-DSA key did not sign");
        self.0
            .try_multipart_sign(parts)
            .map(|signature| signature.to_vec())
            .map_err(failed)
    }
}
