//! What is issued, for how long and to whom: the profiles.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use x509_cert::der::oid::ObjectIdentifier;

use super::identity;
use crate::{Code, Error, PublicKey, Result};

/// The profiles of whoever brings none: docs/ca/profiles.toml.
pub const DEFAULT: &str = include_str!("../../../../docs/ca/profiles.toml");
/// Bytes of a file of profiles at most.
pub const PROFILES_BYTES_MAX: usize = 64 * 1024;
/// The version of the file's form.
const SCHEMA: u32 = 1;
/// Days of a lifetime at most: a hundred years.
const LIFETIME_DAYS_MAX: u32 = 36_525;

/// A file of profiles that holds together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    schema: u32,
    ca: BTreeMap<Branch, CaProfile>,
    profile: BTreeMap<String, Profile>,
}

/// Root or purpose of an issuing CA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Branch {
    /// Signs the other four.
    Root,
    /// Issues to devices and to factory stations.
    Device,
    /// Issues to TLS servers.
    Server,
    /// Issues to people.
    Operator,
    /// Issues to signers of firmware.
    FirmwareSigning,
}

impl Branch {
    /// The root, then the issuing CAs.
    pub const ALL: [Branch; 5] = [
        Branch::Root,
        Branch::Device,
        Branch::Server,
        Branch::Operator,
        Branch::FirmwareSigning,
    ];

    /// Its name in files, commands and certificates.
    pub const fn name(self) -> &'static str {
        match self {
            Branch::Root => "root",
            Branch::Device => "device",
            Branch::Server => "server",
            Branch::Operator => "operator",
            Branch::FirmwareSigning => "firmware-signing",
        }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Branch {
    type Err = String;

    fn from_str(text: &str) -> Result<Branch, String> {
        let found = Branch::ALL.into_iter().find(|branch| branch.name() == text);
        found.ok_or_else(|| {
            format!("there is no CA called {text}; there are root, device, server, operator, firmware-signing")
        })
    }
}

/// How a CA's own certificate and its CRLs are made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaProfile {
    /// Days that its certificate is valid.
    pub lifetime_days: u32,
    /// CAs that may follow below it. None at the root: no limit.
    pub path_length: Option<u8>,
    /// What the certificates below it may be used for. Empty at the root.
    #[serde(default)]
    pub extended_key_usage: Vec<KeyPurpose>,
    /// Days from a CRL's signature to its `nextUpdate`.
    pub crl_days: u32,
    /// Days after which the next CRL is due; at most half of `crl_days`, so that an outage locks nobody out.
    pub crl_publish_days: u32,
}

/// How one kind of certificate is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The CA that issues it.
    pub issuer: Branch,
    /// Whom it names.
    pub subject: identity::Kind,
    /// For how long.
    pub lifetime_days: Lifetime,
    /// The algorithms that its key may have.
    #[serde(default = "p256_only")]
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// What it is good for.
    pub extended_key_usage: Vec<KeyPurpose>,
    /// Whether a subject has only one at a time, with one key.
    #[serde(default)]
    pub once: bool,
    /// Whether and how it can be renewed.
    pub renewal: Renewal,
    /// Object identifier of the product's hardware type (IEEE 802.1AR), from an arc of the maker's own; with it the
    /// certificate carries a hardwareModuleName.
    pub hardware_type: Option<Oid>,
    /// Certificate policies, from an arc of the maker's own.
    #[serde(default)]
    pub policies: Vec<Oid>,
}

/// How long a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// This many days, but not longer than its issuer.
    Days(u32),
    /// Without end: `notAfter` is 99991231235959Z (RFC 5280 section 4.1.2.5).
    Unlimited,
}

/// What a key may do after it proved itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// id-kp-clientAuth: the client of a TLS connection.
    Client,
    /// id-kp-serverAuth: its server.
    Server,
    /// id-kp-codeSigning.
    CodeSigning,
}

impl KeyPurpose {
    /// RFC 5280 section 4.2.1.12.
    pub(super) const fn oid(self) -> ObjectIdentifier {
        use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_CODE_SIGNING, ID_KP_SERVER_AUTH};
        match self {
            KeyPurpose::Client => ID_KP_CLIENT_AUTH,
            KeyPurpose::Server => ID_KP_SERVER_AUTH,
            KeyPurpose::CodeSigning => ID_KP_CODE_SIGNING,
        }
    }
}

/// An algorithm of keys that certificates are issued for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// NIST P-256.
    P256,
    /// Ed25519.
    Ed25519,
}

/// Whether and how a certificate is renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renewal {
    /// Not at all.
    Never,
    /// With the same key or another.
    AnyKey,
    /// With another key only.
    NewKey,
}

/// An object identifier in its dotted form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Oid(pub ObjectIdentifier);

impl TryFrom<String> for Oid {
    type Error = String;

    fn try_from(text: String) -> Result<Oid, String> {
        ObjectIdentifier::new(&text)
            .map(Oid)
            .map_err(|_| format!("{text} is no object identifier"))
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Lifetime, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Days(u32),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Days(days) => Ok(Lifetime::Days(days)),
            Written::Word(word) if word == "unlimited" => Ok(Lifetime::Unlimited),
            Written::Word(word) => Err(serde::de::Error::custom(format!(
                "a lifetime is a number of days or \"unlimited\", not {word:?}"
            ))),
        }
    }
}

impl Profiles {
    /// Reads a file of profiles. Error: [`Code::CaProfile`].
    pub fn parse(text: &str) -> Result<Profiles> {
        if text.len() > PROFILES_BYTES_MAX {
            return Err(wrong("the file is larger than 64 KiB"));
        }
        let profiles: Profiles = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end()))?;
        profiles.check()?;
        Ok(profiles)
    }

    /// The profile of this name. Error: [`Code::CaProfile`].
    pub fn of(&self, name: &str) -> Result<&Profile> {
        let found = self.profile.get(name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            wrong(format!("there is no profile {name:?}")).advise(format!("There are {}.", names.join(", ")))
        })
    }

    /// The names of all profiles.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profile.keys().map(String::as_str)
    }

    /// How a CA is made.
    pub fn ca(&self, branch: Branch) -> Result<&CaProfile> {
        let missing = || wrong(format!("[ca.{branch}] is missing"));
        self.ca.get(&branch).ok_or_else(missing)
    }

    fn check(&self) -> Result<()> {
        if self.schema != SCHEMA {
            return Err(wrong(format!("schema {} is not known, only {SCHEMA}", self.schema)));
        }
        for branch in Branch::ALL {
            self.ca(branch)?.check(branch)?;
        }
        for (name, profile) in &self.profile {
            check_name(name)?;
            profile.check(name, self.ca(profile.issuer)?)?;
        }
        Ok(())
    }
}

impl CaProfile {
    fn check(&self, branch: Branch) -> Result<()> {
        let here = |what: &str| wrong(format!("[ca.{branch}]: {what}"));
        check_days(self.lifetime_days).map_err(|what| here(&what))?;
        if self.crl_publish_days == 0 || self.crl_days < self.crl_publish_days.saturating_mul(2) {
            return Err(here(
                "crl_days must be at least twice crl_publish_days, and that at least 1",
            ));
        }
        // Sheet of the hierarchy: each issuing CA has its purpose and its depth, the device CA alone one more below it.
        let depth = if branch == Branch::Device { 1 } else { 0 };
        match branch {
            Branch::Root if self.path_length.is_some() => Err(here("the root has no path_length")),
            Branch::Root if !self.extended_key_usage.is_empty() => Err(here("the root has no extended_key_usage")),
            Branch::Root => Ok(()),
            _ if self.path_length.is_none_or(|length| length > depth) => {
                Err(here(&format!("path_length must be given, and at most {depth}")))
            }
            _ => check_purposes(branch, &self.extended_key_usage).map_err(|what| here(&what)),
        }
    }
}

impl Profile {
    fn check(&self, name: &str, issuer: &CaProfile) -> Result<()> {
        let here = |what: &str| wrong(format!("[profile.{name}]: {what}"));
        if let Lifetime::Days(days) = self.lifetime_days {
            check_days(days).map_err(|what| here(&what))?;
        }
        check_purposes(self.issuer, &self.extended_key_usage).map_err(|what| here(&what))?;
        let is_allowed = |purpose: &KeyPurpose| issuer.extended_key_usage.contains(purpose);
        if !self.extended_key_usage.iter().all(is_allowed) {
            return Err(here("its CA does not have each of its extended_key_usage"));
        }
        if self.subject.issuer() != self.issuer {
            return Err(here(&format!(
                "a {} is certified by the {} CA",
                self.subject,
                self.subject.issuer()
            )));
        }
        if self.key_algorithms.is_empty() {
            return Err(here("key_algorithms is empty"));
        }
        if self.subject == identity::Kind::Station && issuer.path_length != Some(1) {
            return Err(here(
                "the device CA's path_length must be 1 for a station's CA to stand below it",
            ));
        }
        match (self.once, self.renewal) {
            (true, Renewal::AnyKey | Renewal::NewKey) => Err(here("what is issued once has renewal = \"never\"")),
            _ => Ok(()),
        }
    }

    /// Whether a key of this algorithm may have it. Error: [`Code::CaRequestKey`].
    pub(super) fn check_key(&self, key: &PublicKey) -> Result<()> {
        let name = key.algorithm_name();
        let is_allowed = self.key_algorithms.iter().any(|algorithm| match algorithm {
            KeyAlgorithm::P256 => name == "p256",
            KeyAlgorithm::Ed25519 => name == "ed25519",
        });
        match is_allowed {
            true => Ok(()),
            false => Err(Code::CaRequestKey.error(format!("the request's key is of the algorithm {name}"))),
        }
    }
}

/// A signer of firmware never speaks TLS, and nobody who speaks TLS signs firmware.
fn check_purposes(branch: Branch, purposes: &[KeyPurpose]) -> Result<(), String> {
    let is_code = |purpose: &KeyPurpose| *purpose == KeyPurpose::CodeSigning;
    match branch {
        _ if purposes.is_empty() => Err("extended_key_usage is empty".into()),
        Branch::FirmwareSigning if !purposes.iter().all(is_code) => {
            Err("firmware-signing has no extended_key_usage but code-signing".into())
        }
        Branch::FirmwareSigning => Ok(()),
        _ if purposes.iter().any(is_code) => Err("only firmware-signing has code-signing".into()),
        _ => Ok(()),
    }
}

fn check_days(days: u32) -> Result<(), String> {
    match days {
        1..=LIFETIME_DAYS_MAX => Ok(()),
        _ => Err(format!("a lifetime has 1 to {LIFETIME_DAYS_MAX} days, not {days}")),
    }
}

/// Names of profiles stand in the database beside those of CAs' own certificates.
fn check_name(name: &str) -> Result<()> {
    let is_good = name
        .bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    match is_good && !name.is_empty() && !name.starts_with("ca-") {
        true => Ok(()),
        false => Err(wrong(format!(
            "the profile name {name:?} has other characters than a-z, 0-9 and -, or begins with ca-"
        ))),
    }
}

fn p256_only() -> Vec<KeyAlgorithm> {
    vec![KeyAlgorithm::P256]
}

fn wrong(what: impl Into<String>) -> Error {
    Code::CaProfile.error(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_that_are_shipped_hold_together() {
        let profiles = Profiles::parse(DEFAULT).unwrap();
        assert_eq!(profiles.of("idevid").unwrap().lifetime_days, Lifetime::Unlimited);
        assert_eq!(profiles.ca(Branch::Server).unwrap().path_length, Some(0));
        assert_eq!(profiles.names().count(), 7);
    }

    #[test]
    fn what_would_break_the_hierarchy_is_refused_at_its_place() {
        let breaks = [
            ("schema = 1", "schema = 2", "schema 2"),
            ("path_length = 1", "path_length = 2", "[ca.device]"),
            ("path_length = 0", "", "[ca.server]"),
            ("crl_days = 30", "crl_days = 13", "crl_days"),
            ("crl_publish_days = 180", "crl_publish_days = 0", "[ca.root]"),
            (
                "lifetime_days = 9125",
                "lifetime_days = 9125\npath_length = 3",
                "the root has no path_length",
            ),
            (
                "extended_key_usage = [\"code-signing\"]",
                "extended_key_usage = [\"client\"]",
                "code-signing",
            ),
            ("lifetime_days = 90", "lifetime_days = 0", "1 to"),
            (
                "lifetime_days = \"unlimited\"",
                "lifetime_days = \"for ever\"",
                "unlimited",
            ),
            (
                "issuer = \"operator\"",
                "issuer = \"device\"",
                "certified by the operator CA",
            ),
            ("[profile.idevid]", "[profile.\"ca-x\"]", "begins with ca-"),
            (
                "once = true\nrenewal = \"never\"",
                "once = true\nrenewal = \"any-key\"",
                "issued once",
            ),
            (
                "key_algorithms = [\"p256\", \"ed25519\"]",
                "key_algorithms = [\"rsa\"]",
                "rsa",
            ),
            ("[ca.operator]", "[ca.humans]", "humans"),
            ("renewal = \"new-key\"", "renewal = \"new-key\"\nsize = 1", "size"),
            (
                "renewal = \"new-key\"",
                "renewal = \"new-key\"\npolicies = [\"1.2.x\"]",
                "1.2.x",
            ),
        ];
        for (good, bad, said) in breaks {
            assert!(DEFAULT.contains(good), "{good}");
            let error = Profiles::parse(&DEFAULT.replacen(good, bad, 1)).unwrap_err();
            assert!(error.is(Code::CaProfile) && error.what.contains(said), "{bad}: {error}");
        }
        let error = Profiles::parse(&" ".repeat(PROFILES_BYTES_MAX + 1)).unwrap_err();
        assert!(error.what.contains("64 KiB"));
        let unknown = Profiles::parse(DEFAULT).unwrap().of("idev").unwrap_err();
        assert!(unknown.is(Code::CaProfile) && unknown.advice.contains("idevid"));
    }
}
