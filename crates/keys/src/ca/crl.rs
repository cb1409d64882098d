//! Lists of what was revoked (RFC 5280 section 5).

use std::fmt;
use std::str::FromStr;

use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::pem::{self, LineEnding, PemLabel};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason};

use super::algorithm::{first_of, identifier, is_signature};
use super::certificate::Certificate;
use crate::{Code, Result};

/// Bytes of a CRL at most: some ten thousand entries.
pub const CRL_BYTES_MAX: usize = 1024 * 1024;

/// Why a certificate was revoked (RFC 5280 section 5.3.1), without the reasons that can be taken back or mean something
/// else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody said.
    Unspecified,
    /// Somebody else has its key, or may have it.
    KeyCompromise,
    /// The same for a CA.
    CaCompromise,
    /// Its names are no longer right.
    AffiliationChanged,
    /// Another one took its place.
    Superseded,
    /// It is no longer needed: the device was decommissioned.
    CessationOfOperation,
    /// What it allowed is no longer allowed.
    PrivilegeWithdrawn,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 7] = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::CaCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
        Reason::PrivilegeWithdrawn,
    ];

    /// Its number in CRLs.
    pub const fn code(self) -> u32 {
        self.in_x509() as u32
    }

    /// The reason with this number.
    pub fn from_code(code: u32) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Its name, as a person types it.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "key-compromise",
            Reason::CaCompromise => "ca-compromise",
            Reason::AffiliationChanged => "affiliation-changed",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessation-of-operation",
            Reason::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    /// Whether the key itself is never certified again.
    pub const fn condemns_the_key(self) -> bool {
        !matches!(self, Reason::AffiliationChanged | Reason::Superseded)
    }

    pub(super) const fn in_x509(self) -> CrlReason {
        match self {
            Reason::Unspecified => CrlReason::Unspecified,
            Reason::KeyCompromise => CrlReason::KeyCompromise,
            Reason::CaCompromise => CrlReason::CaCompromise,
            Reason::AffiliationChanged => CrlReason::AffiliationChanged,
            Reason::Superseded => CrlReason::Superseded,
            Reason::CessationOfOperation => CrlReason::CessationOfOperation,
            Reason::PrivilegeWithdrawn => CrlReason::PrivilegeWithdrawn,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reason {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Reason> {
        let found = Reason::ALL.into_iter().find(|reason| reason.name() == text);
        found.ok_or_else(|| Code::CaReason.error(format!("{text:?} is no reason for a revocation")))
    }
}

/// A list that was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crl {
    /// Its number: greater than that of every earlier one of the same CA.
    pub number: u64,
    /// From when it speaks, in seconds since 1970.
    pub this_update: u64,
    /// When the next one comes at the latest, in seconds since 1970.
    pub next_update: u64,
    /// How many certificates stand on it.
    pub revoked: usize,
    /// Its bytes.
    pub der: Vec<u8>,
}

impl Crl {
    /// Its bytes in PEM.
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }
}

/// A CRL's bytes in PEM.
pub fn to_pem(der: &[u8]) -> String {
    pem::encode_string(CertificateList::<Rfc5280>::PEM_LABEL, LineEnding::LF, der).unwrap_or_default()
}

/// The bytes of a CRL that was given in PEM or DER. Error: [`Code::CertificateMalformed`].
pub fn read(bytes: &[u8]) -> Result<Vec<u8>> {
    let malformed = || Code::CertificateMalformed.error("this is no CRL in PEM or DER");
    let der = match bytes.first() {
        Some(0x30) => bytes.to_vec(),
        _ => pem::decode_vec(bytes.trim_ascii()).map_err(|_| malformed())?.1,
    };
    match CertificateList::<Rfc5280>::from_der(&der) {
        Ok(_) => Ok(der),
        Err(_) => Err(malformed()),
    }
}

/// The serial numbers on a CRL. Error: [`Code::CertificateMalformed`].
pub fn serials(der: &[u8]) -> Result<Vec<Vec<u8>>> {
    let list = CertificateList::<Rfc5280>::from_der(der);
    let list = list.map_err(|_| Code::CertificateMalformed.error("this is no CRL"))?;
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    Ok(revoked
        .iter()
        .map(|entry| entry.serial_number.as_bytes().to_vec())
        .collect())
}

/// Whose list it is, which one, and for how long: what stands in a CRL that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// SHA-256 of the issuer's name and of the identifier of its key: each generation of a CA has lists of its own.
    pub issuer: [u8; 32],
    /// The issuer's name, for people.
    pub issuer_name: String,
    /// Its number.
    pub number: u64,
    /// From when it speaks, in seconds since 1970.
    pub this_update: u64,
    /// When the next one comes at the latest, in seconds since 1970.
    pub next_update: u64,
}

impl Facts {
    /// The facts of a CRL in DER, whose signature nobody has verified yet. Error: [`Code::CertificateMalformed`], also for
    /// one without number or end.
    pub fn read(der: &[u8]) -> Result<Facts> {
        let malformed = || Code::CertificateMalformed.error("this is no CRL with a number and an end");
        if der.len() > CRL_BYTES_MAX {
            return Err(malformed());
        }
        let list = CertificateList::<Rfc5280>::from_der(der).map_err(|_| malformed())?;
        let list = list.tbs_cert_list;
        let extensions = list.crl_extensions.unwrap_or_default();
        let number: CrlNumber = extension(&extensions).ok_or_else(malformed)?;
        let key: AuthorityKeyIdentifier = extension(&extensions).ok_or_else(malformed)?;
        let key = key.key_identifier.ok_or_else(malformed)?;
        let issuer = list.issuer.to_der().map_err(|_| malformed())?;
        Ok(Facts {
            issuer: trust::Sha256::of_parts(&[&issuer, key.as_bytes()]),
            issuer_name: list.issuer.to_string(),
            number: to_u64(number.0.as_bytes()).ok_or_else(malformed)?,
            this_update: list.this_update.to_unix_duration().as_secs(),
            next_update: list.next_update.ok_or_else(malformed)?.to_unix_duration().as_secs(),
        })
    }
}

/// The facts of a CRL in DER that this CA signed.
///
/// Errors: [`Code::CertificateMalformed`]; [`Code::CertificateChain`] another CA signed it, or nobody.
pub fn verify(der: &[u8], issuer: &Certificate) -> Result<Facts> {
    let facts = Facts::read(der)?;
    let foreign = || Code::CertificateChain.error(format!("{} did not sign this CRL", issuer.subject()));
    let key = issuer.key()?;
    let list = CertificateList::<Rfc5280>::from_der(der).map_err(|_| foreign())?;
    let signed = first_of(der).ok_or_else(foreign)?;
    let signature = list.signature.as_bytes().ok_or_else(foreign)?;
    let is_right = list.signature_algorithm == identifier(&key)? && is_signature(&key, signed, signature);
    match is_right && issuer.is_ca() && issuer.subject() == facts.issuer_name {
        true => Ok(facts),
        false => Err(foreign()),
    }
}

fn extension<'e, E: AssociatedOid + Decode<'e>>(extensions: &'e [Extension]) -> Option<E> {
    let found = extensions.iter().find(|extension| extension.extn_id == E::OID)?;
    E::from_der(found.extn_value.as_bytes()).ok()
}

fn to_u64(bytes: &[u8]) -> Option<u64> {
    let mut all = [0; 8];
    let start = all.len().checked_sub(bytes.len())?;
    all[start..].copy_from_slice(bytes);
    Some(u64::from_be_bytes(all))
}
