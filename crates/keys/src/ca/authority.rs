//! The CA: reserve, sign, keep, hand out.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use codec::roots::Environment;
use rusqlite::{Transaction, params};
use trust::Sha256;
use x509_cert::der::Encode;
use x509_cert::der::oid::db::rfc4519::{CN, O, OU};

use super::Reason;
use super::algorithm::{self, unencodable};
use super::certificate::{Authority, Certificate, Content, Kind, NO_END, distinguished_name, subject};
use super::identity::{self, Identity, Name, is_within};
use super::profile::{Branch, Lifetime, Profile, Profiles, Renewal};
use super::request::Request;
use super::store::{self, AuthorityRow, Entry, Failure, Store};
use crate::{Code, DevelopmentOnly, Object, PublicKey, Result, Signer, file};

/// Characters of an organisation's name at most (RFC 5280, ub-organization-name).
pub const ORGANISATION_CHARS_MAX: usize = 64;
/// Seconds that a certificate is valid before it is made: clocks differ.
const BACKDATED_SECONDS: u64 = 300;
const DAY_SECONDS: u64 = 86_400;
/// Seconds in which a reservation that was not finished is finished by the same request; later the request gets a
/// reservation of its own, and the old one waits for somebody to look.
pub const RESERVATION_SECONDS: u64 = DAY_SECONDS;

/// A CA with its database.
pub struct Ca {
    pub(super) store: Store,
    profiles: Profiles,
    organisation: String,
    environment: Environment,
}

/// With what a CA is founded; none of it changes afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Founding<'a> {
    /// Whose CA it is; stands in every name.
    pub organisation: &'a str,
    /// Its world. A production CA signs with no key that is good for development only.
    pub environment: Environment,
    /// The text of its profiles; [`super::profile::DEFAULT`] for those that are shipped.
    pub profiles: &'a str,
}

/// When, and with which chance: what a library does not take from the machine by itself.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970 UTC.
    pub now: u64,
    /// Fresh random bytes for one serial number.
    pub random: [u8; 16],
}

impl Moment {
    /// This time, with bytes of the operating system's generator. Error: [`Code::NoEntropy`].
    pub fn at(now: u64) -> Result<Moment> {
        let random = *file::random::<16>()?;
        Ok(Moment { now, random })
    }

    /// 126 random bits in 16 bytes: positive, and of one length (RFC 5280 section 4.1.2.2).
    fn serial(&self) -> [u8; 16] {
        let mut serial = self.random;
        serial[0] = serial[0] & 0x3f | 0x40;
        serial
    }
}

/// Where a production CA's keys have to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Custody {
    /// In hardware, as production demands.
    Demanded,
    /// Somebody typed out that files will do. A key that everybody has never does.
    FilesWaived,
}

/// What is to be issued.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The profile.
    pub profile: &'a str,
    /// Whom the certificate names: who was authenticated, not what the request says.
    pub identity: &'a Identity,
    /// Which key.
    pub request: &'a Request,
}

/// What was handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Whether it had been issued before, for the same request.
    pub is_repeat: bool,
}

impl Ca {
    /// Founds a CA with a new database. Its root comes with [`Ca::found_root`].
    ///
    /// Errors: [`Code::CaExists`], [`Code::CaProfile`], [`Code::CaIdentity`] for the organisation, [`Code::CaWrite`].
    pub fn create(path: &Path, founding: &Founding<'_>) -> Result<Ca> {
        Profiles::parse(founding.profiles)?;
        check_organisation(founding.organisation)?;
        let facts = [
            ("organisation", founding.organisation),
            ("environment", environment_name(founding.environment)),
            ("profiles", founding.profiles),
        ];
        Ca::of(Store::create(path, &facts)?)
    }

    /// Opens a CA's database. Errors: [`Code::CaOpen`], [`Code::CaForeign`], [`Code::CaBusy`].
    pub fn open(path: &Path) -> Result<Ca> {
        Ca::of(Store::open(path)?)
    }

    fn of(store: Store) -> Result<Ca> {
        let environment = match store.fact("environment")?.as_str() {
            "production" => Environment::Production,
            "development" => Environment::Development,
            other => return Err(Code::CaForeign.error(format!("the environment {other} is not known"))),
        };
        Ok(Ca {
            profiles: Profiles::parse(&store.fact("profiles")?)?,
            organisation: store.fact("organisation")?,
            environment,
            store,
        })
    }

    /// Its database.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Its profiles.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// Whose it is.
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// Its world.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// Whether it was founded with these. Error: [`Code::CaExists`].
    pub fn check_founding(&self, founding: &Founding<'_>) -> Result<()> {
        let differs = |what: &str| {
            let path = self.path().display();
            Err(Code::CaExists.error(format!("{path} exists already, with another {what}")))
        };
        match () {
            () if self.organisation != founding.organisation => differs("organisation"),
            () if self.environment != founding.environment => differs("environment"),
            () if self.store.fact("profiles")? != founding.profiles => differs("set of profiles"),
            () => Ok(()),
        }
    }

    /// Makes the root: its certificate, signed by itself. Called again with the same key it gives the same one.
    ///
    /// Errors: [`Code::CaExists`] it has another root; [`Code::KeySample`], [`Code::ProductionKey`]; those of the signer;
    /// [`Code::CaWrite`].
    pub fn found_root(&mut self, root: &dyn Signer, custody: Custody, moment: Moment) -> Result<Issued> {
        self.admit(root, custody)?;
        let name = self.ca_name(Branch::Root, 1)?;
        let new = NewCa {
            branch: Branch::Root,
            generation: 1,
            name,
            key: root.public_key(),
            domains: &[],
        };
        self.certify_ca(&new, root, moment)
    }

    /// Makes an issuing CA: the root signs its certificate. Called again with the same key it gives the same one. The
    /// server CA needs the DNS `domains` that it may issue in; no other has any.
    ///
    /// Errors: [`Code::CaExists`] there is another one for this purpose (see [`Ca::succeed`]); [`Code::CaIdentity`] the
    /// domains; [`Code::CaIssuerKey`] `root` is not the root; otherwise as [`Ca::found_root`].
    pub fn establish(
        &mut self,
        branch: Branch,
        key: &PublicKey,
        domains: &[String],
        root: &dyn Signer,
        custody: Custody,
        moment: Moment,
    ) -> Result<Issued> {
        self.admit(root, custody)?;
        check_domains(branch, domains)?;
        let name = self.ca_name(branch, 1)?;
        self.certify_ca(
            &NewCa {
                branch,
                generation: 1,
                name,
                key,
                domains,
            },
            root,
            moment,
        )
    }

    /// Issues a certificate. The same request for the same subject and profile, while its certificate is valid, gives the
    /// same certificate; a reservation that a crash left is finished with its serial number.
    ///
    /// Errors: [`Code::CaProfile`]; [`Code::CaIdentity`] the identity is not one for the profile;
    /// [`Code::CaRequestKey`]; [`Code::CaKeyBound`] the key belongs to another identity, to a CA, or to a certificate that
    /// was revoked for cause; [`Code::CaIssuedAlready`] the profile gives each subject one; [`Code::CaIssuerKey`],
    /// [`Code::CaIssuer`], [`Code::KeySample`], [`Code::ProductionKey`]; those of the signer; [`Code::CaWrite`],
    /// [`Code::CaBusy`].
    pub fn issue(
        &mut self,
        signer: &dyn Signer,
        order: &Order<'_>,
        custody: Custody,
        moment: Moment,
    ) -> Result<Issued> {
        self.issue_after(signer, order, None, custody, moment)
    }

    /// Issues certificates to many, each with bytes of chance of its own: all are issued, or none is and nothing is
    /// reserved. Called again with the same orders it gives the same certificates.
    ///
    /// Errors: as [`Ca::issue`], with the identity that it is about.
    pub fn issue_all(
        &mut self,
        signer: &dyn Signer,
        orders: &[(Order<'_>, Moment)],
        custody: Custody,
    ) -> Result<Vec<Issued>> {
        self.admit(signer, custody)?;
        let profiles = self.profiles.clone();
        let mut prepared = Vec::with_capacity(orders.len());
        for (order, moment) in orders {
            let one = self.prepare(signer, &profiles, *order, None, *moment);
            prepared.push(one.map_err(|error| error.about(&order.identity.to_string()))?);
        }
        self.issue_prepared(signer, prepared)
    }

    /// Issues the successor of a certificate, for the same identity. The profile says whether it may have the same key.
    /// Called again with the same request it gives the same certificate.
    ///
    /// Errors: [`Code::CaUnknown`]; [`Code::CaRenewal`] the profile has no renewal, or another key is demanded, or the
    /// certificate was revoked or has expired; otherwise as [`Ca::issue`].
    pub fn renew(
        &mut self,
        signer: &dyn Signer,
        serial: &[u8],
        request: &Request,
        custody: Custody,
        moment: Moment,
    ) -> Result<Issued> {
        let entry = self.entry(serial)?;
        let certificate = self.renewable(&entry, request.key(), moment.now)?;
        let identity = certificate.identity()?;
        let order = Order {
            profile: &entry.profile,
            identity: &identity,
            request,
        };
        self.issue_after(signer, &order, Some(entry.id), custody, moment)
    }

    fn renewable(&self, entry: &Entry, key: &PublicKey, now: u64) -> Result<Certificate> {
        let refused = |what: &str| Err(Code::CaRenewal.error(format!("{} {what}", text(&entry.serial))));
        let Some(der) = &entry.der else {
            return refused("was reserved and never issued");
        };
        if entry.authority.is_some() {
            return refused("is a CA's own certificate, which the root renews without a request");
        }
        let profile = self.profiles.of(&entry.profile)?;
        match profile.renewal {
            _ if entry.revoked.is_some() => refused("was revoked"),
            _ if entry.not_after < now => refused("has expired: issue a new one to whoever proves the identity"),
            Renewal::Never => refused(&format!("is of the profile {}, which has no renewal", entry.profile)),
            Renewal::NewKey if key_digest(key)[..] == entry.key => refused("must be renewed with another key"),
            Renewal::NewKey | Renewal::AnyKey => Certificate::from_der(der),
        }
    }

    fn issue_after(
        &mut self,
        signer: &dyn Signer,
        order: &Order<'_>,
        predecessor: Option<i64>,
        custody: Custody,
        moment: Moment,
    ) -> Result<Issued> {
        self.admit(signer, custody)?;
        let profiles = self.profiles.clone();
        let prepared = self.prepare(signer, &profiles, *order, predecessor, moment)?;
        only(self.issue_prepared(signer, vec![prepared])?)
    }

    /// All that can be said about an order before anything is written.
    fn prepare<'a>(
        &self,
        signer: &dyn Signer,
        profiles: &'a Profiles,
        order: Order<'a>,
        predecessor: Option<i64>,
        moment: Moment,
    ) -> Result<Prepared<'a>> {
        let profile = profiles.of(order.profile)?;
        let key = order.request.key();
        profile.check_key(key)?;
        let issuer = self.issuing(profile.issuer, signer.public_key(), moment.now)?;
        check_identity(order.identity, profile, &issuer.row)?;
        let wanted = Wanted {
            profile: order.profile,
            profiles,
            once: profile.once,
            identity: order.identity.to_string(),
            principal: order.identity.name.principal(),
            authority: None,
            request: request_digest(&order, predecessor),
            key,
            predecessor,
        };
        let not_after = end(profile.lifetime_days, moment.now, issuer.not_after);
        let content = Content {
            serial: moment.serial(),
            not_before: moment.now.saturating_sub(BACKDATED_SECONDS),
            not_after,
            issuer: &issuer.authority,
            subject: subject(&self.organisation, &order.identity.name)?,
            key,
            kind: kind(profile, order.identity),
        };
        let reservation = reservation(&wanted, &content, issuer.row.id, moment.now)?;
        Ok(Prepared {
            wanted,
            reservation,
            issuer,
        })
    }

    fn issue_prepared(&mut self, signer: &dyn Signer, prepared: Vec<Prepared<'_>>) -> Result<Vec<Issued>> {
        let reserved = self.store.write(|tx| {
            let several = prepared.len() > 1;
            let reserve = |one: Prepared<'_>| {
                let now = one.reservation.reserved_at;
                let entry = reserve(tx, &one.wanted, one.reservation, now);
                let entry = entry.map_err(|failure| match failure {
                    Failure::Ours(error) if several => error.about(&one.wanted.identity).into(),
                    failure => failure,
                })?;
                Ok((one.issuer, entry))
            };
            prepared.into_iter().map(reserve).collect::<Result<Vec<_>, Failure>>()
        })?;
        let pairs: Vec<(&Issuing, &Entry)> = reserved.iter().map(|(issuer, entry)| (issuer, entry)).collect();
        self.finish_all(signer, &pairs)
    }

    /// As [`Ca::finish_all`], for one.
    fn finish(&mut self, signer: &dyn Signer, issuer: &Issuing, entry: &Entry) -> Result<Issued> {
        only(self.finish_all(signer, &[(issuer, entry)])?)
    }

    /// Signs what was reserved, keeps it, and only then lets it out. Where it was finished before, or somebody else was
    /// faster, what they kept is handed out.
    fn finish_all(&mut self, signer: &dyn Signer, reserved: &[(&Issuing, &Entry)]) -> Result<Vec<Issued>> {
        let mut seen = HashSet::new();
        let mut is_open = |entry: &Entry| entry.der.is_none() && seen.insert(entry.id);
        let open: Vec<_> = reserved.iter().filter(|(_, entry)| is_open(entry)).collect();
        let said = open.iter().map(|(issuer, entry)| to_sign(issuer, entry));
        let said = said.collect::<Result<Vec<_>>>()?;
        let mut made = HashMap::new();
        if !open.is_empty() {
            let signed = algorithm::sign_all(signer, Object::Certificate, &said)?;
            let ids = open.iter().map(|(_, entry)| entry.id);
            made.extend(ids.zip(signed));
        }
        let kept = self.store.write(|tx| {
            let keep = |(_, entry): &(&Issuing, &Entry)| keep(tx, entry, made.get(&entry.id));
            reserved.iter().map(keep).collect::<Result<Vec<_>, Failure>>()
        })?;
        let pairs = reserved.iter().zip(kept);
        pairs
            .map(|((_, entry), der)| {
                Ok(Issued {
                    certificate: Certificate::from_der(&der)?,
                    is_repeat: made.get(&entry.id) != Some(&der),
                })
            })
            .collect()
    }

    /// Revokes a certificate; it stands on the next CRL of its issuer ([`Ca::sign_crl`]) and on all later ones. A
    /// reservation that nobody finished is given up in the same way: if it was signed after all, it is revoked.
    ///
    /// Errors: [`Code::CaUnknown`], [`Code::CaRevokedAlready`], [`Code::CaWrite`].
    pub fn revoke(&mut self, serial: &[u8], reason: Reason, now: u64) -> Result<Entry> {
        let entry = self.entry(serial)?;
        let changed = self.store.write(|tx| {
            let change = "UPDATE certificate SET revoked_at = ?1, reason = ?2 WHERE id = ?3 AND revoked_at IS NULL";
            Ok(tx.execute(change, params![now as i64, reason.code(), entry.id])?)
        })?;
        match changed {
            0 => Err(Code::CaRevokedAlready.error(format!("{} was revoked before", text(serial)))),
            _ => self.entry(serial),
        }
    }

    /// The certificate, or the reservation, with this serial number. Error: [`Code::CaUnknown`].
    pub fn entry(&self, serial: &[u8]) -> Result<Entry> {
        let found = self.store.read(|db| store::certificates(db, "serial = ?1", [serial]))?;
        let unknown = || Code::CaUnknown.error(format!("nothing was issued under the serial number {}", text(serial)));
        found.into_iter().next().ok_or_else(unknown)
    }

    /// Everything that was reserved or issued, in that order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.store.read(|db| store::certificates(db, "true", []))
    }

    /// What was issued or reserved for a device, a person or another principal.
    pub fn entries_of(&self, name: &Name) -> Result<Vec<Entry>> {
        self.store
            .read(|db| store::certificates(db, "principal = ?1", [name.principal()]))
    }

    /// Reservations that nobody finished: killed between reserving and keeping. A signature may exist (the signing
    /// journal says so); nothing was handed out.
    pub fn reservations(&self) -> Result<Vec<Entry>> {
        self.store
            .read(|db| store::certificates(db, "der IS NULL AND revoked_at IS NULL", []))
    }

    /// All CAs, each generation, the oldest first.
    pub fn authorities(&self) -> Result<Vec<AuthorityRow>> {
        self.store.read(|db| store::authorities(db, "true", []))
    }

    /// The certificates of a CA itself, the oldest first: its own, renewed ones, and links between roots.
    pub fn certificates_of(&self, authority: &AuthorityRow) -> Result<Vec<Entry>> {
        let condition = "authority = ?1 AND der IS NOT NULL";
        self.store.read(|db| store::certificates(db, condition, [authority.id]))
    }

    /// Refuses keys that production does not trust. Errors: [`Code::KeySample`], [`Code::ProductionKey`].
    pub(super) fn admit(&self, signer: &dyn Signer, custody: Custody) -> Result<()> {
        if self.environment == Environment::Development {
            return Ok(());
        }
        let refused = |code: Code, why: DevelopmentOnly| {
            Err(code.error(format!(
                "{} must not sign for a production CA: {why}",
                signer.describe()
            )))
        };
        match (signer.public_key().published_sample(), signer.development_only()) {
            (Some(sample), _) => refused(Code::KeySample, DevelopmentOnly::PublishedSample(sample)),
            (None, Some(why)) if custody == Custody::Demanded => refused(Code::ProductionKey, why),
            _ => Ok(()),
        }
    }

    /// The CA of this purpose whose key this is, if its certificate lets it issue now. Errors: [`Code::CaIssuerKey`],
    /// [`Code::CaIssuer`].
    pub(super) fn issuing(&self, branch: Branch, key: &PublicKey, now: u64) -> Result<Issuing> {
        let wrong = || {
            let name = key.algorithm_name();
            Code::CaIssuerKey.error(format!("this {name} key is not that of the {branch} CA"))
        };
        let condition = "spki = ?1 AND branch = ?2";
        let values = params![key.to_spki_der(), branch.name()];
        let found = self.store.read(|db| store::authorities(db, condition, values))?;
        let row = found.into_iter().next().ok_or_else(wrong)?;
        let own = self.own_certificate(&row)?;
        let refused = |what: &str| Err(Code::CaIssuer.error(format!("the certificate of the {branch} CA {what}")));
        match own {
            None => refused("was never finished"),
            Some(own) if own.revoked.is_some() => refused("was revoked"),
            Some(own) if own.not_after < now => refused("has expired"),
            Some(own) => Issuing::of(row, own.not_after),
        }
    }

    /// The newest certificate of a CA that is no link.
    pub fn own_certificate(&self, authority: &AuthorityRow) -> Result<Option<Entry>> {
        let all = self.certificates_of(authority)?;
        Ok(all.into_iter().rev().find(|entry| entry.profile != LINK))
    }

    pub(super) fn ca_name(&self, branch: Branch, generation: u32) -> Result<x509_cert::name::Name> {
        let number = if generation == 1 {
            String::new()
        } else {
            format!(" {generation}")
        };
        let name = format!("{branch} CA{number}");
        let world = (self.environment == Environment::Development).then_some("development");
        distinguished_name(&[(O, Some(&self.organisation)), (OU, world), (CN, Some(&name))])
    }

    /// Enters a CA that is not there yet, and certifies it. The root certifies itself.
    pub(super) fn certify_ca(&mut self, new: &NewCa<'_>, signer: &dyn Signer, moment: Moment) -> Result<Issued> {
        let row = self.store.write(|tx| enter(tx, new))?;
        let issuer = match new.branch {
            Branch::Root => Issuing::of(row.clone(), NO_END)?,
            _ => self.issuing(Branch::Root, signer.public_key(), moment.now)?,
        };
        if new.branch == Branch::Root && signer.public_key() != new.key {
            return Err(Code::CaIssuerKey.error("a root signs itself"));
        }
        self.certify(&row, &issuer, None, signer, moment)
    }

    /// Signs a certificate for a CA that is entered. Repeated with the same predecessor it gives the same one.
    pub(super) fn certify(
        &mut self,
        row: &AuthorityRow,
        issuer: &Issuing,
        predecessor: Option<i64>,
        signer: &dyn Signer,
        moment: Moment,
    ) -> Result<Issued> {
        let authority = Authority::of(row)?;
        let profile = self.profiles.ca(row.branch)?.clone();
        let is_link = row.branch == Branch::Root && issuer.row.id != row.id;
        let name = if is_link {
            LINK.into()
        } else {
            format!("ca-{}", row.branch)
        };
        let wanted = Wanted {
            profile: &name,
            profiles: &self.profiles,
            once: false,
            identity: authority.name.to_string(),
            principal: authority.name.to_string(),
            authority: Some(row.id),
            request: ca_digest(&name, row, issuer, predecessor),
            key: &authority.key,
            predecessor,
        };
        let content = Content {
            serial: moment.serial(),
            not_before: moment.now.saturating_sub(BACKDATED_SECONDS),
            not_after: end(Lifetime::Days(profile.lifetime_days), moment.now, issuer.not_after),
            issuer: &issuer.authority,
            subject: authority.name.clone(),
            key: &authority.key,
            kind: Kind::Ca {
                path_length: profile.path_length,
                purposes: &profile.extended_key_usage,
                domains: &row.domains,
                identity: None,
            },
        };
        let reservation = reservation(&wanted, &content, issuer.row.id, moment.now)?;
        let entry = self.store.write(|tx| reserve(tx, &wanted, reservation, moment.now))?;
        self.finish(signer, issuer, &entry)
    }
}

/// The profile of certificates between roots.
pub(super) const LINK: &str = "link";

/// A CA that is to be entered.
pub(super) struct NewCa<'a> {
    pub(super) branch: Branch,
    pub(super) generation: u32,
    pub(super) name: x509_cert::name::Name,
    pub(super) key: &'a PublicKey,
    pub(super) domains: &'a [String],
}

/// A CA that may sign now.
pub(super) struct Issuing {
    pub(super) row: AuthorityRow,
    authority: Authority,
    /// Until when its certificate is valid.
    not_after: u64,
}

impl Issuing {
    fn of(row: AuthorityRow, not_after: u64) -> Result<Issuing> {
        Ok(Issuing {
            authority: Authority::of(&row)?,
            row,
            not_after,
        })
    }

    /// The same for its own renewal, which its present end does not limit.
    pub(super) fn without_end(self) -> Issuing {
        Issuing {
            not_after: NO_END,
            ..self
        }
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// For people: purpose and generation.
    pub(super) fn label(&self) -> String {
        format!("{} CA {}", self.row.branch, self.row.generation)
    }
}

impl Authority {
    pub(super) fn of(row: &AuthorityRow) -> Result<Authority> {
        use x509_cert::der::Decode;
        Ok(Authority {
            name: x509_cert::name::Name::from_der(&row.name).map_err(unencodable)?,
            key: PublicKey::from_spki_der(&row.spki)?,
        })
    }
}

impl AuthorityRow {
    /// Its public key.
    pub fn key(&self) -> Result<PublicKey> {
        PublicKey::from_spki_der(&self.spki)
    }
}

/// What is wanted of the database, beside the bytes.
/// An order that was looked at, and what it comes to.
struct Prepared<'a> {
    wanted: Wanted<'a>,
    reservation: Entry,
    issuer: Issuing,
}

struct Wanted<'a> {
    profile: &'a str,
    profiles: &'a Profiles,
    once: bool,
    identity: String,
    principal: String,
    authority: Option<i64>,
    request: [u8; 32],
    key: &'a PublicKey,
    predecessor: Option<i64>,
}

impl Wanted<'_> {
    /// Whether another certificate is of a profile that is issued once.
    fn once_elsewhere(&self, profile: &str) -> bool {
        self.profiles.of(profile).is_ok_and(|profile| profile.once)
    }
}

fn reservation(wanted: &Wanted<'_>, content: &Content<'_>, issuer: i64, now: u64) -> Result<Entry> {
    Ok(Entry {
        id: 0,
        issuer,
        serial: content.serial.to_vec(),
        profile: wanted.profile.into(),
        identity: wanted.identity.clone(),
        principal: wanted.principal.clone(),
        authority: wanted.authority,
        request: wanted.request.to_vec(),
        key: key_digest(wanted.key).to_vec(),
        predecessor: wanted.predecessor,
        reserved_at: now,
        not_after: content.not_after,
        tbs: content.to_tbs()?,
        der: None,
        revoked: None,
    })
}

/// What of a reservation is signed, and what the journal says of it. A reservation is signed by the CA that it names,
/// whichever generation was asked.
fn to_sign<'a>(issuer: &Issuing, entry: &'a Entry) -> Result<(String, &'a [u8])> {
    let Entry {
        profile,
        identity,
        serial,
        ..
    } = entry;
    let serial = text(serial);
    if entry.issuer != issuer.row.id {
        let what = format!("{serial} was reserved with another generation of the CA");
        return Err(Code::CaIssuerKey.error(what));
    }
    let issuer = issuer.label();
    let subject = format!("{profile} certificate {serial} for {identity}, issued by {issuer}");
    Ok((subject, &entry.tbs))
}

/// Keeps what was signed now, if anything was, and says what is kept.
fn keep(tx: &Transaction<'_>, entry: &Entry, made: Option<&Vec<u8>>) -> Result<Vec<u8>, Failure> {
    if let Some(der) = made {
        tx.execute(
            "UPDATE certificate SET der = ?1 WHERE id = ?2 AND der IS NULL",
            params![der, entry.id],
        )?;
    }
    let query = "SELECT der FROM certificate WHERE id = ?1";
    Ok(tx.query_row(query, [entry.id], |row| row.get(0))?)
}

/// The one that was asked for.
fn only(issued: Vec<Issued>) -> Result<Issued> {
    let one = issued.into_iter().next();
    one.ok_or_else(|| Code::CaOpen.error("the CA gave no certificate"))
}

/// What was reserved or issued for the same request before; or the new reservation, which stands in the database then.
fn reserve(tx: &Transaction<'_>, wanted: &Wanted<'_>, new: Entry, now: u64) -> Result<Entry, Failure> {
    let same = store::certificates(
        tx,
        "request = ?1 AND revoked_at IS NULL AND not_after >= ?2",
        params![wanted.request, now as i64],
    )?;
    if let Some(entry) = same.into_iter().rev().find(|entry| is_fresh(entry, now)) {
        return Ok(entry);
    }
    if wanted.authority.is_none() {
        check_key_is_free(tx, wanted, &new)?;
        if let Some(entry) = only_one(tx, wanted, &new, now)? {
            return Ok(entry);
        }
    }
    let id = store::insert_reservation(tx, &new)?;
    Ok(Entry { id, ..new })
}

/// Finished, or still waiting for its request.
fn is_fresh(entry: &Entry, now: u64) -> bool {
    entry.der.is_some() || now < entry.reserved_at.saturating_add(RESERVATION_SECONDS)
}

/// A key belongs to one principal, the key of a profile that is issued once to that profile, and a key that was revoked
/// for cause to nobody.
fn check_key_is_free(tx: &Transaction<'_>, wanted: &Wanted<'_>, new: &Entry) -> Result<(), Failure> {
    let bound = |to: String| {
        Err(Code::CaKeyBound
            .error(format!("the request's key belongs to {to}"))
            .into())
    };
    if !store::authorities(tx, "spki = ?1", [wanted.key.to_spki_der()])?.is_empty() {
        return bound("a CA".into());
    }
    for other in store::certificates(tx, "key = ?1", [&new.key])? {
        let reason = other.revoked.and_then(|(_, code)| Reason::from_code(code));
        match reason {
            _ if other.principal != wanted.principal => return bound(other.identity),
            Some(reason) if reason.condemns_the_key() => {
                return bound(format!("a certificate that was revoked ({reason})"));
            }
            _ if other.profile != wanted.profile && (wanted.once || wanted.once_elsewhere(&other.profile)) => {
                return bound(format!("its {} certificate", other.profile));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The certificate that a subject has of a profile that gives it one: the same if it is for the same key.
fn only_one(tx: &Transaction<'_>, wanted: &Wanted<'_>, new: &Entry, now: u64) -> Result<Option<Entry>, Failure> {
    if !wanted.once {
        return Ok(None);
    }
    let condition = "principal = ?1 AND profile = ?2 AND revoked_at IS NULL AND not_after >= ?3";
    let values = params![wanted.principal, wanted.profile, now as i64];
    match store::certificates(tx, condition, values)?.into_iter().next() {
        Some(has) if has.key != new.key => {
            let what = format!(
                "{} has the {} certificate {}",
                wanted.principal,
                wanted.profile,
                text(&has.serial)
            );
            Err(Code::CaIssuedAlready.error(what).into())
        }
        found => Ok(found),
    }
}

/// Enters a CA, unless it is there with the same key.
fn enter(tx: &Transaction<'_>, new: &NewCa<'_>) -> Result<AuthorityRow, Failure> {
    let mut row = AuthorityRow {
        id: 0,
        branch: new.branch,
        generation: new.generation,
        name: new.name.to_der().map_err(unencodable)?,
        spki: new.key.to_spki_der(),
        domains: new.domains.to_vec(),
    };
    let exists = |what: String| Err(Code::CaExists.error(what).into());
    let Some(there) = store::authorities(
        tx,
        "branch = ?1 AND generation = ?2",
        params![row.branch.name(), row.generation],
    )?
    .into_iter()
    .next() else {
        if !store::authorities(tx, "spki = ?1", [&row.spki])?.is_empty() {
            return exists("this key is that of a CA already; each has its own".into());
        }
        if !store::certificates(tx, "key = ?1 AND authority IS NULL", [&key_digest(new.key)[..]])?.is_empty() {
            return Err(Code::CaKeyBound
                .error("the key belongs to somebody whom the CA certified")
                .into());
        }
        row.id = store::insert_authority(tx, &row)?;
        return Ok(row);
    };
    match there {
        there if there.spki != row.spki => exists(format!("there is a {} CA with another key", new.branch)),
        there if there.domains != row.domains => exists(format!("the {} CA has other domains", new.branch)),
        there => Ok(there),
    }
}

fn check_identity(identity: &Identity, profile: &Profile, issuer: &AuthorityRow) -> Result<()> {
    let kind = identity.name.kind();
    if kind != profile.subject {
        let what = format!("{identity} is a {kind}, and the profile is for a {}", profile.subject);
        return Err(Code::CaIdentity.error(what));
    }
    let Name::Server { dns, .. } = &identity.name else {
        return Ok(());
    };
    match dns.iter().find(|name| !is_within(name, &issuer.domains)) {
        Some(name) => Err(Code::CaIdentity.error(format!("{name} is in none of the server CA's domains"))),
        None => Ok(()),
    }
}

fn check_domains(branch: Branch, domains: &[String]) -> Result<()> {
    match (branch, domains) {
        (Branch::Server, []) => Err(Code::CaIdentity.error("the server CA needs the DNS domains that it may issue in")),
        (Branch::Server, domains) if domains.len() <= identity::SERVER_NAMES_MAX => {
            domains.iter().try_for_each(|domain| match domain.starts_with('*') {
                true => Err(Code::CaIdentity.error(format!("{domain} is no domain"))),
                false => identity::check_dns(domain),
            })
        }
        (_, []) => Ok(()),
        _ => Err(Code::CaIdentity.error(format!("the {branch} CA has no such list of DNS domains"))),
    }
}

fn check_organisation(organisation: &str) -> Result<()> {
    let count = organisation.chars().count();
    let is_good = !organisation.chars().any(char::is_control) && organisation.trim() == organisation;
    match is_good && (1..=ORGANISATION_CHARS_MAX).contains(&count) {
        true => Ok(()),
        false => Err(Code::CaIdentity.error(format!(
            "an organisation's name has 1 to {ORGANISATION_CHARS_MAX} characters"
        ))),
    }
}

fn kind<'a>(profile: &'a Profile, identity: &'a Identity) -> Kind<'a> {
    match identity.name {
        Name::Station(_) => Kind::Ca {
            path_length: Some(0),
            purposes: &profile.extended_key_usage,
            domains: &[],
            identity: Some(identity),
        },
        _ => Kind::Leaf {
            identity,
            purposes: &profile.extended_key_usage,
            hardware_type: profile.hardware_type,
            policies: &profile.policies,
        },
    }
}

/// Until when: not longer than the issuer, but for what has no end.
fn end(lifetime: Lifetime, now: u64, issuer: u64) -> u64 {
    match lifetime {
        Lifetime::Unlimited => NO_END,
        Lifetime::Days(days) => now.saturating_add(u64::from(days) * DAY_SECONDS).min(issuer),
    }
}

/// What makes two requests the same one: profile, identity, predecessor, and every byte of the PKCS#10 request.
fn request_digest(order: &Order<'_>, predecessor: Option<i64>) -> [u8; 32] {
    let predecessor = predecessor.unwrap_or(0).to_be_bytes();
    let identity = order.identity.to_string();
    let request = Sha256::of(order.request.as_der());
    Sha256::of_parts(&[
        order.profile.as_bytes(),
        &[0],
        identity.as_bytes(),
        &[0],
        &predecessor,
        &request,
    ])
}

fn ca_digest(name: &str, row: &AuthorityRow, issuer: &Issuing, predecessor: Option<i64>) -> [u8; 32] {
    let predecessor = predecessor.unwrap_or(0).to_be_bytes();
    Sha256::of_parts(&[
        name.as_bytes(),
        &[0],
        &row.id.to_be_bytes(),
        &issuer.row.id.to_be_bytes(),
        &predecessor,
    ])
}

/// By which a key is found in the database.
pub(super) fn key_digest(key: &PublicKey) -> [u8; 32] {
    Sha256::of(&key.to_spki_der())
}

/// A serial number as people and scripts see it.
pub fn text(serial: &[u8]) -> String {
    serial.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A serial number as it was typed: hexadecimal digits, perhaps with colons. Error: [`Code::CaUnknown`].
pub fn parse_serial(text: &str) -> Result<Vec<u8>> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let wrong = || {
        Code::CaUnknown.error(format!(
            "{text:?} is no serial number of this CA: 32 hexadecimal digits"
        ))
    };
    if digits.len() != 32 || !digits.is_ascii() {
        return Err(wrong());
    }
    let byte = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| wrong());
    (0..16).map(byte).collect()
}

fn environment_name(environment: Environment) -> &'static str {
    match environment {
        Environment::Production => "production",
        Environment::Development => "development",
    }
}
