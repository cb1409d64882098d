//! How the lists of what was revoked are made.

use rusqlite::params;
use x509_cert::Version;
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::der::asn1::{Any, Uint};
use x509_cert::der::{self, Encode};
use x509_cert::ext::pkix::{CrlNumber, CrlReason};
use x509_cert::ext::{Extension, Extensions, ToExtension};
use x509_cert::serial_number::SerialNumber;

use super::algorithm::{self, identifier, unencodable};
use super::authority::{Ca, Custody, Issuing};
use super::certificate::{authority_key_identifier, time};
use super::crl::{Crl, Reason, serials};
use super::profile::Branch;
use super::store::{self, AuthorityRow, CrlRow, Entry};
use crate::{Object, Result, Signer};

const DAY_SECONDS: u64 = 86_400;

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
