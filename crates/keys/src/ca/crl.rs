//! Lists of what was revoked (RFC 5280 section 5).

use std::fmt;
use std::str::FromStr;

use rusqlite::params;
use x509_cert::Version;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::der::asn1::{Any, Uint};
use x509_cert::der::pem::{self, LineEnding, PemLabel};
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::{CrlNumber, CrlReason};
use x509_cert::ext::{Extension, Extensions, ToExtension};
use x509_cert::serial_number::SerialNumber;

use super::algorithm::{self, identifier, unencodable};
use super::authority::{Ca, Custody, Issuing};
use super::certificate::{authority_key_identifier, time};
use super::profile::Branch;
use super::store::{self, AuthorityRow, CrlRow, Entry};
use crate::{Code, Object, Result, Signer};

const DAY_SECONDS: u64 = 86_400;

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

    const fn in_x509(self) -> CrlReason {
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
    pem::encode_string(
        CertificateList::<x509_cert::certificate::Rfc5280>::PEM_LABEL,
        LineEnding::LF,
        der,
    )
    .unwrap_or_default()
}

/// The bytes of a CRL that was given in PEM or DER. Error: [`Code::CertificateMalformed`].
pub fn read(bytes: &[u8]) -> Result<Vec<u8>> {
    let malformed = || Code::CertificateMalformed.error("this is no CRL in PEM or DER");
    let der = match bytes.first() {
        Some(0x30) => bytes.to_vec(),
        _ => pem::decode_vec(bytes.trim_ascii()).map_err(|_| malformed())?.1,
    };
    match CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&der) {
        Ok(_) => Ok(der),
        Err(_) => Err(malformed()),
    }
}

impl Ca {
    /// Signs the next CRL of the CA whose key this is. Its number is reserved first: a crash leaves a gap, and no number
    /// is used twice.
    ///
    /// Errors: [`Code::CaIssuerKey`], [`Code::CaIssuer`] it has no certificate; [`Code::KeySample`],
    /// [`Code::ProductionKey`]; those of the signer; [`Code::CaWrite`], [`Code::CaBusy`].
    pub fn sign_crl(&mut self, branch: Branch, signer: &dyn Signer, custody: Custody, now: u64) -> Result<Crl> {
        self.admit(signer, custody)?;
        // An expired CA still says what it revoked.
        let issuer = self.issuing(branch, signer.public_key(), 0)?;
        let days = u64::from(self.profiles().ca(branch)?.crl_days);
        let id = issuer.row.id;
        let (row, entries) = self.store.write(|tx| {
            let last = store::crls(tx, id)?.into_iter().next();
            let (number, before) = last.map_or((0, 0), |crl| (crl.number, crl.this_update));
            // The time of a list never goes back, whatever the clock does.
            let this_update = now.max(before);
            let next_update = this_update + days * DAY_SECONDS;
            let row = CrlRow {
                number: number + 1,
                this_update,
                next_update,
                der: None,
            };
            let reserve = "INSERT INTO crl(issuer, number, this_update, next_update) VALUES (?1, ?2, ?3, ?4)";
            let values = params![id, row.number as i64, this_update as i64, next_update as i64];
            tx.execute(reserve, values)?;
            // An entry leaves when it has stood on a list that was made after its certificate had expired.
            let condition = "issuer = ?1 AND revoked_at IS NOT NULL AND not_after >= ?2";
            Ok((row, store::certificates(tx, condition, params![id, before as i64])?))
        })?;
        let tbs = to_be_signed(&issuer, &row, &entries)?;
        let count = entries.len();
        let subject = format!("CRL {} of the {}, {count} revoked", row.number, issuer.label());
        let der = algorithm::sign(signer, Object::CertificateList, subject, &tbs)?;
        let keep = "UPDATE crl SET der = ?1 WHERE issuer = ?2 AND number = ?3";
        self.store
            .write(|tx| Ok(tx.execute(keep, params![der, id, row.number as i64])?))?;
        let CrlRow {
            number,
            this_update,
            next_update,
            ..
        } = row;
        Ok(Crl {
            number,
            this_update,
            next_update,
            revoked: count,
            der,
        })
    }

    /// The newest CRL of a CA that was finished.
    pub fn latest_crl(&self, authority: &AuthorityRow) -> Result<Option<CrlRow>> {
        let all = self.store.read(|db| store::crls(db, authority.id))?;
        Ok(all.into_iter().find(|crl| crl.der.is_some()))
    }

    /// How many certificates of a CA were revoked after its newest CRL.
    pub fn revoked_since_crl(&self, authority: &AuthorityRow) -> Result<usize> {
        let Some(crl) = self.latest_crl(authority)? else {
            let condition = "issuer = ?1 AND revoked_at IS NOT NULL";
            return Ok(self
                .store
                .read(|db| store::certificates(db, condition, [authority.id]))?
                .len());
        };
        let listed = serials(crl.der.as_deref().unwrap_or_default())?;
        let condition = "issuer = ?1 AND revoked_at IS NOT NULL AND not_after >= ?2";
        let values = params![authority.id, crl.this_update as i64];
        let revoked = self.store.read(|db| store::certificates(db, condition, values))?;
        Ok(revoked.iter().filter(|entry| !listed.contains(&entry.serial)).count())
    }
}

/// The serial numbers on a CRL. Error: [`Code::CertificateMalformed`].
pub fn serials(der: &[u8]) -> Result<Vec<Vec<u8>>> {
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der);
    let list = list.map_err(|_| Code::CertificateMalformed.error("this is no CRL"))?;
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    Ok(revoked
        .iter()
        .map(|entry| entry.serial_number.as_bytes().to_vec())
        .collect())
}

fn to_be_signed(issuer: &Issuing, row: &CrlRow, entries: &[Entry]) -> Result<Vec<u8>> {
    let authority = issuer.authority();
    let revoked: Vec<RevokedCert> = entries.iter().map(revoked).collect::<Result<_>>()?;
    let list: TbsCertList = TbsCertList {
        version: Version::V2,
        signature: identifier(&authority.key)?,
        issuer: authority.name.clone(),
        this_update: time(row.this_update)?,
        next_update: Some(time(row.next_update)?),
        // RFC 5280 section 5.1.2.6: absent where nothing was revoked.
        revoked_certificates: (!revoked.is_empty()).then_some(revoked),
        crl_extensions: Some(extensions(issuer, row.number).map_err(unencodable)?),
    };
    list.to_der().map_err(unencodable)
}

fn extensions(issuer: &Issuing, number: u64) -> der::Result<Extensions> {
    let nobody = x509_cert::name::Name::default();
    let number = CrlNumber(Uint::new(&number.to_be_bytes())?);
    Ok(vec![
        (&authority_key_identifier(&issuer.authority().key)?).to_extension(&nobody, &[])?,
        (&number).to_extension(&nobody, &[])?,
    ])
}

fn revoked(entry: &Entry) -> Result<RevokedCert> {
    let (at, code) = entry.revoked.unwrap_or_default();
    let reason = Reason::from_code(code).unwrap_or(Reason::Unspecified);
    // RFC 5280 section 5.3.1: rather absent than "unspecified".
    let extensions = match reason {
        Reason::Unspecified => None,
        reason => Some(vec![reason_extension(reason).map_err(unencodable)?]),
    };
    Ok(RevokedCert {
        serial_number: SerialNumber::new(&entry.serial).map_err(unencodable)?,
        revocation_date: time(at)?,
        crl_entry_extensions: extensions,
    })
}

/// id-ce-cRLReasons, 2.5.29.21.
fn reason_extension(reason: Reason) -> der::Result<Extension> {
    use x509_cert::der::asn1::OctetString;
    use x509_cert::der::oid::AssociatedOid;
    Ok(Extension {
        extn_id: CrlReason::OID,
        critical: false,
        extn_value: OctetString::new(Any::encode_from(&reason.in_x509())?.to_der()?)?,
    })
}
