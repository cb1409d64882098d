//! A new generation of a CA beside the old one, and a longer life for a CA that stays.
//!
//! Nothing is replaced in place: both generations issue and are trusted until the old one's certificate is revoked or
//! has expired, so nobody is disconnected. Between two roots stand two link certificates (RFC 4210 section 4.4): the new
//! key signed by the old root, for whoever trusts the old one only, and the old key signed by the new root, the other
//! way round. Issuing CAs need none: both generations hang from the same root.

use super::authority::{Ca, Custody, Issued, Moment, NewCa, text};
use super::certificate::Certificate;
use super::profile::Branch;
use super::store::{AuthorityRow, Entry};
use crate::{Code, PublicKey, Result, Signer};

/// What a new root comes with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRoot {
    /// Its certificate, signed by itself.
    pub root: Issued,
    /// Its key, certified by the old root.
    pub new_with_old: Issued,
    /// The old root's key, certified by it.
    pub old_with_new: Issued,
}

impl Ca {
    /// The newest generation of a CA. Error: [`Code::CaUnknown`] there is none yet.
    pub fn newest(&self, branch: Branch) -> Result<AuthorityRow> {
        let all = self.authorities()?.into_iter();
        let newest = all.filter(|row| row.branch == branch).max_by_key(|row| row.generation);
        newest.ok_or_else(|| Code::CaUnknown.error(format!("there is no {branch} CA yet")))
    }

    /// The CA that issued or reserved this.
    pub fn issuer_of(&self, entry: &Entry) -> Result<AuthorityRow> {
        let all = self.authorities()?;
        let issuer = all.into_iter().find(|row| row.id == entry.issuer);
        issuer.ok_or_else(|| Code::CaForeign.error("the database does not know who issued this"))
    }

    /// Certificates of all generations of a CA that were not revoked: what whoever believes this CA has as anchors.
    pub fn anchors(&self, branch: Branch) -> Result<Vec<Certificate>> {
        let mut all = Vec::new();
        for row in self.authorities()?.iter().filter(|row| row.branch == branch) {
            let own = self.own_certificate(row)?.filter(|entry| entry.revoked.is_none());
            all.extend(own.and_then(|entry| entry.der));
        }
        all.iter().map(|der| Certificate::from_der(der)).collect()
    }

    /// What may stand between a root and what was issued: certificates of issuing CAs (of one, or of all), of all
    /// generations and from every root, and links between roots.
    pub fn between(&self, branch: Option<Branch>) -> Result<Vec<Certificate>> {
        let mut all = Vec::new();
        for row in self.authorities()? {
            let is_wanted = row.branch == Branch::Root || branch.is_none_or(|branch| branch == row.branch);
            let own = self.certificates_of(&row)?.into_iter();
            let between = own.filter(|entry| entry.issuer != row.id && entry.revoked.is_none() && is_wanted);
            all.extend(between.filter_map(|entry| entry.der));
        }
        all.iter().map(|der| Certificate::from_der(der)).collect()
    }

    /// What a holder sends behind their certificate: the CA that issued it, up to the root, without it.
    pub fn chain(&self, certificate: &Certificate) -> Result<Vec<Certificate>> {
        let mut chain = Vec::new();
        let mut entry = self.entry(&certificate.serial())?;
        // Two steps at most: a root's own certificate ends it.
        loop {
            let issuer = self.issuer_of(&entry)?;
            if issuer.branch == Branch::Root {
                return Ok(chain);
            }
            let own = self.own_certificate(&issuer)?;
            entry = own.ok_or_else(|| Code::CaIssuer.error("the issuing CA has no certificate"))?;
            chain.extend(entry.der.as_deref().map(Certificate::from_der).transpose()?);
        }
    }

    /// Makes the next generation of an issuing CA, with another key and a name of its own. The domains of a server CA go
    /// with it. Called again with the same key it gives the same certificate.
    ///
    /// Errors: as [`Ca::establish`]; [`Code::CaUnknown`] there is no first generation.
    pub fn succeed(
        &mut self,
        branch: Branch,
        key: &PublicKey,
        root: &dyn Signer,
        custody: Custody,
        moment: Moment,
    ) -> Result<Issued> {
        self.admit(root, custody)?;
        let newest = self.newest(branch)?;
        let is_begun = newest.key()? == *key && newest.generation > 1;
        let generation = newest.generation + u32::from(!is_begun);
        let name = self.ca_name(branch, generation)?;
        let new = NewCa {
            branch,
            generation,
            name,
            key,
            domains: &newest.domains,
        };
        self.certify_ca(&new, root, moment)
    }

    /// Makes the next root, and both links to the old one. Interrupted and called again with the same keys it goes on.
    ///
    /// `moments` are three, with different random bytes. Errors: as [`Ca::found_root`]; [`Code::CaIssuerKey`] `old` is
    /// not a root of this CA.
    pub fn succeed_root(
        &mut self,
        new: &dyn Signer,
        old: &dyn Signer,
        custody: Custody,
        moments: [Moment; 3],
    ) -> Result<NewRoot> {
        self.admit(new, custody)?;
        self.admit(old, custody)?;
        let [first, second, third] = moments;
        let old_root = self.issuing(Branch::Root, old.public_key(), first.now)?;
        let newest = self.newest(Branch::Root)?;
        let is_begun = newest.key()? == *new.public_key() && newest.generation > 1;
        let generation = newest.generation + u32::from(!is_begun);
        let name = self.ca_name(Branch::Root, generation)?;
        let key = new.public_key();
        let ca = NewCa {
            branch: Branch::Root,
            generation,
            name,
            key,
            domains: &[],
        };
        let root = self.certify_ca(&ca, new, first)?;
        let new_root = self.issuing(Branch::Root, new.public_key(), first.now)?;
        Ok(NewRoot {
            root,
            new_with_old: self.certify(&new_root.row, &old_root, None, old, second)?,
            old_with_new: self.certify(&old_root.row, &new_root, None, new, third)?,
        })
    }

    /// Certifies a CA again, with the same name and key, for a new lifetime, by whichever root signs: the way to keep
    /// what it issued verifiable, and to bring an issuing CA under a new root. `serial` is the certificate that it
    /// follows; called again with the same one it gives the same successor.
    ///
    /// Errors: [`Code::CaUnknown`]; [`Code::CaRenewal`] it is no CA's own certificate, or was revoked;
    /// [`Code::CaIssuerKey`] the key is no root's, or a root's that is to be renewed by another.
    pub fn recertify(&mut self, serial: &[u8], root: &dyn Signer, custody: Custody, moment: Moment) -> Result<Issued> {
        self.admit(root, custody)?;
        let entry = self.entry(serial)?;
        let all = self.authorities()?;
        let row = all.into_iter().find(|row| Some(row.id) == entry.authority);
        let refused = |what: &str| Code::CaRenewal.error(format!("{} {what}", text(serial)));
        let row = row.ok_or_else(|| refused("is no CA's own certificate"))?;
        if entry.revoked.is_some() {
            return Err(refused("was revoked"));
        }
        // A root may renew itself after it expired; whatever else it signs, it signs before.
        let issuer = self.issuing(Branch::Root, root.public_key(), 0)?;
        match row.branch {
            Branch::Root if issuer.row.id != row.id => Err(Code::CaIssuerKey.error("a root renews itself")),
            Branch::Root => self.certify(&row, &issuer.without_end(), Some(entry.id), root, moment),
            _ => {
                let issuer = self.issuing(Branch::Root, root.public_key(), moment.now)?;
                self.certify(&row, &issuer, Some(entry.id), root, moment)
            }
        }
    }
}
