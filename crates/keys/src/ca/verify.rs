//! Whether a certificate may be believed, for what, and whom it names.
//!
//! The path and its rules are verified by rustls-webpki (RFC 5280 section 6), with the project's own signature verifiers
//! beneath; this module hands it what it needs and gives its refusals their numbers. Revocation is checked for every
//! certificate of the path and fails closed: without a current CRL of each issuer the answer is no.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

use super::algorithm::VERIFIERS;
use super::certificate::Certificate;
use super::identity::Identity;
use crate::{Code, Error, Result};

/// id-kp-codeSigning, 1.3.6.1.5.5.7.3.3, without tag and length.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// What the holder of a certificate wants to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// The client of a TLS connection.
    Client,
    /// Its server.
    Server,
    /// A signer of firmware.
    CodeSigning,
}

/// Whom a door believes: certificates of roots, or of issuing CAs where only one purpose is let in.
#[derive(Clone, Copy, Debug)]
pub struct Anchors<'a> {
    /// They are believed without a signature; CA certificates.
    pub trusted: &'a [Certificate],
    /// What may stand between, links among them; believed only with a signature.
    pub between: &'a [Certificate],
    /// The current CRLs of every CA in a path below an anchor, in DER.
    pub crls: &'a [Vec<u8>],
}

impl Anchors<'_> {
    /// Verifies a certificate for a usage at a time, in seconds since 1970: the clock's, or a signed floor where that is
    /// later. Gives whom it names.
    ///
    /// Errors: [`Code::CertificateMalformed`]; [`Code::CertificateChain`]; [`Code::CertificateExpired`],
    /// [`Code::CertificateEarly`], of any certificate in the path; [`Code::CertificateRevoked`];
    /// [`Code::CertificateStatus`] no CRL says, or it has expired; [`Code::CertificatePurpose`];
    /// [`Code::CertificateName`].
    pub fn verify(&self, certificate: &Certificate, usage: Usage, now: u64) -> Result<Identity> {
        self.verify_under(certificate, usage, now, ExpirationPolicy::Enforce)
    }

    /// As [`Anchors::verify`], but also by CRLs that have expired: for a caller whose policy sorted out the ones that are
    /// too old.
    pub fn verify_although_lists_may_have_expired(
        &self,
        certificate: &Certificate,
        usage: Usage,
        now: u64,
    ) -> Result<Identity> {
        self.verify_under(certificate, usage, now, ExpirationPolicy::Ignore)
    }

    fn verify_under(
        &self,
        certificate: &Certificate,
        usage: Usage,
        now: u64,
        lists: ExpirationPolicy,
    ) -> Result<Identity> {
        let anchors: Vec<TrustAnchor<'static>> = self.trusted.iter().map(anchor).collect::<Result<_>>()?;
        let between: Vec<CertificateDer<'_>> = self.between.iter().map(der).collect();
        let crls: Vec<CertRevocationList<'_>> = self.crls.iter().map(|crl| list(crl)).collect::<Result<_>>()?;
        let crls: Vec<&CertRevocationList<'_>> = crls.iter().collect();
        let missing = |_| Code::CertificateStatus.error("there is no CRL");
        let revocation = RevocationOptionsBuilder::new(&crls)
            .map_err(missing)?
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(lists)
            .build();
        let leaf = der(certificate);
        let leaf = EndEntityCert::try_from(&leaf).map_err(refused)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        leaf.verify_for_usage(
            VERIFIERS,
            &anchors,
            &between,
            now,
            usage.in_webpki(),
            Some(revocation),
            None,
        )
        .map_err(refused)?;
        certificate.identity()
    }
}

impl Usage {
    fn in_webpki(self) -> KeyUsage {
        match self {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
            Usage::CodeSigning => KeyUsage::required(CODE_SIGNING),
        }
    }
}

fn der(certificate: &Certificate) -> CertificateDer<'_> {
    CertificateDer::from(certificate.as_der())
}

fn anchor(certificate: &Certificate) -> Result<TrustAnchor<'static>> {
    if !certificate.is_ca() {
        let what = format!("{} is no CA and therefore no anchor", certificate.subject());
        return Err(Code::CertificateChain.error(what));
    }
    let der = der(certificate);
    let anchor = anchor_from_trusted_cert(&der).map_err(refused)?;
    Ok(anchor.to_owned())
}

fn list(crl: &[u8]) -> Result<CertRevocationList<'static>> {
    let malformed = |_| Code::CertificateMalformed.error("a CRL cannot be read");
    OwnedCertRevocationList::from_der(crl)
        .map(Into::into)
        .map_err(malformed)
}

/// The number of a refusal.
fn refused(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let code = match error {
        E::CertExpired { .. } => Code::CertificateExpired,
        E::CertNotValidYet { .. } => Code::CertificateEarly,
        E::CertRevoked => Code::CertificateRevoked,
        E::CrlExpired { .. } | E::UnknownRevocationStatus => Code::CertificateStatus,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension | E::CaUsedAsEndEntity => Code::CertificatePurpose,
        E::CertNotValidForName(_) => Code::CertificateName,
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::MalformedExtensions | E::UnsupportedCertVersion => {
            Code::CertificateMalformed
        }
        _ => Code::CertificateChain,
    };
    code.error(format!("the certificate is refused: {error:?}"))
}
