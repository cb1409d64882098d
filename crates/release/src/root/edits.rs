//! Changes that lead from one root to the next, as options or a TOML file name them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codec::cose::KeyId;
use codec::limits::SEQ_MAX;
use codec::plan::Uuid;
use codec::roots::Role;
use keys::{Code, PublicKey, Result};
use serde::Deserialize;

use super::content::{ANCHOR_PURPOSES, Content, Material, RoleKeys};
use super::names::Names;
use super::{role_name, to_vec};
use crate::{hex, identity, input};

/// What is to be changed. The environment and the product line are not among it: they are fixed for a root's life.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Edits {
    /// Version of this description; 1.
    pub schema: Option<u32>,
    /// Keys to be listed.
    pub add_key: Vec<AddKey>,
    /// Keys to be listed no longer: an id, its first 8 or more digits, a name, or a key.
    pub remove_key: Vec<String>,
    /// Roles to be defined no longer, with their keys.
    pub remove_role: Vec<String>,
    /// Thresholds by role.
    pub threshold: BTreeMap<String, u8>,
    /// Keys or certificates to be trusted no longer, named as in `remove_key`.
    pub revoke: Vec<String>,
    /// Lowest sequences by class id or model.
    pub min_sequence: BTreeMap<String, u64>,
    /// `never`, a day (2046-01-01), or seconds since 1970-01-01 UTC.
    pub expires: Option<String>,
    /// The roles that a delivery needs; unchanged when empty.
    pub require: Vec<String>,
    /// The roles that an image needs; unchanged when empty.
    pub image_require: Vec<String>,
    /// Anchors by purpose, each list replacing the one before: DER certificates, or public keys.
    pub anchor: BTreeMap<String, Vec<String>>,
}

/// A key to be listed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// The role.
    pub role: String,
    /// The key, as every command takes it.
    pub key: String,
}

/// What the names in [`Edits`] stand for.
pub struct Desk<'a> {
    /// Opens the public half of a key.
    pub public: &'a dyn Fn(&str) -> Result<PublicKey>,
    /// Reads a file.
    pub file: &'a dyn Fn(&str) -> Result<Vec<u8>>,
    /// The vendor, for models.
    pub vendor: Option<Uuid>,
    /// Names of people.
    pub names: &'a Names,
}

impl Edits {
    /// Reads a file of changes. Errors: those of reading; [`Code::RootEdit`].
    pub fn read(path: &Path) -> Result<Edits> {
        let name = path.display();
        let edits: Edits = toml::from_str(&input::text(path)?)
            .map_err(|error| wrong(format!("{name}: {}", error.to_string().trim_end())))?;
        match edits.schema {
            Some(1) => Ok(edits),
            _ => Err(wrong(format!("{name}: it must say schema = 1"))),
        }
    }

    /// These changes and those, the latter winning where both speak of one thing.
    pub fn and(mut self, other: Edits) -> Edits {
        self.add_key.extend(other.add_key);
        self.remove_key.extend(other.remove_key);
        self.remove_role.extend(other.remove_role);
        self.threshold.extend(other.threshold);
        self.revoke.extend(other.revoke);
        self.min_sequence.extend(other.min_sequence);
        self.anchor.extend(other.anchor);
        self.expires = other.expires.or(self.expires);
        if !other.require.is_empty() {
            self.require = other.require;
        }
        if !other.image_require.is_empty() {
            self.image_require = other.image_require;
        }
        self
    }

    /// The root that follows `old` with these changes, version N+1. Whether devices would stay reachable is not asked.
    ///
    /// Error: [`Code::RootEdit`] for what names nothing, or changes nothing that is there; those of opening keys.
    pub fn apply(&self, old: &Content, desk: &Desk) -> Result<Content> {
        let mut new = old.clone();
        new.version = old
            .version
            .checked_add(1)
            .ok_or_else(|| wrong("there is no version after this one"))?;
        self.apply_to(&mut new, desk)?;
        let version = old.version;
        if (Content { version, ..new.clone() }) == *old {
            return Err(wrong("nothing would change").advise("Say what is to change; --help lists the options."));
        }
        Ok(new)
    }

    /// Makes the changes to a root, whatever its version.
    pub fn apply_to(&self, root: &mut Content, desk: &Desk) -> Result<()> {
        self.keys(root, desk)?;
        for (role, threshold) in &self.threshold {
            let role = role_from_name(role)?;
            let def = root.roles.get_mut(&role);
            let def = def.ok_or_else(|| wrong(format!("the root has no {} keys", role_name(role))))?;
            def.threshold = *threshold;
        }
        for (class, least) in &self.min_sequence {
            if *least > SEQ_MAX {
                return Err(wrong(format!(
                    "{least} is above the largest sequence number, {SEQ_MAX}"
                )));
            }
            root.min_sequences.insert(class_from_text(class, desk.vendor)?, *least);
        }
        if let Some(expires) = &self.expires {
            root.expires = moment_from_text(expires)?;
        }
        let roles = |names: &[String]| names.iter().map(|name| role_from_name(name)).collect::<Result<_>>();
        if !self.require.is_empty() {
            root.delivery_roles = among(roles(&self.require)?, &DELIVERY, Role::Release, "delivery")?;
        }
        if !self.image_require.is_empty() {
            root.image_roles = among(roles(&self.image_require)?, &IMAGE, Role::Image, "image")?;
        }
        self.anchors(root, desk)
    }

    fn keys(&self, root: &mut Content, desk: &Desk) -> Result<()> {
        // Ids are looked up before anything changes, so that `revoke` may name a key that `remove-key` drops.
        let find = |root: &Content, name: &String| key_id(name, root, desk);
        let removed: Vec<KeyId> = self
            .remove_key
            .iter()
            .map(|name| find(root, name))
            .collect::<Result<_>>()?;
        let revoked: Vec<KeyId> = self.revoke.iter().map(|name| find(root, name)).collect::<Result<_>>()?;
        let gone: BTreeSet<KeyId> = root.revoked.iter().chain(&revoked).copied().collect();
        for id in removed {
            let role = root.role_of(&id);
            let role = role.ok_or_else(|| wrong(format!("the root does not list key {}", desk.names.label(&id))))?;
            if let Some(def) = root.roles.get_mut(&role) {
                def.keys.remove(&id);
            }
            root.keys.remove(&id);
            // A revocation of a key that is no longer listed says nothing more (rotation rule 6).
            root.revoked.remove(&id);
        }
        for name in &self.remove_role {
            let role = role_from_name(name)?;
            let def = root.roles.remove(&role);
            let def = def.ok_or_else(|| wrong(format!("the root has no role {}", role_name(role))))?;
            root.keys.retain(|id, _| !def.keys.contains(id));
        }
        for AddKey { role, key } in &self.add_key {
            let public = (desk.public)(key)?;
            if gone.contains(&public.thumbprint()) {
                return Err(wrong(format!(
                    "key {key} is revoked, and a revoked key does not come back"
                )));
            }
            add_key(root, role_from_name(role)?, &public)?;
        }
        root.revoked.extend(revoked);
        Ok(())
    }

    fn anchors(&self, root: &mut Content, desk: &Desk) -> Result<()> {
        for (purpose, items) in &self.anchor {
            let known = ANCHOR_PURPOSES.iter().find(|(_, name)| name == purpose);
            let (number, name) = known
                .map(|(number, name)| (*number as u8, *name))
                .ok_or_else(|| wrong(format!("{purpose} is no purpose of an anchor")))?;
            let is_key = matches!(name, "log-recipient" | "audit-checkpoint");
            let read = |item: &String| match is_key {
                true => (desk.public)(item).map(|key| to_vec(|writer| key.borrow().encode(writer))),
                false => (desk.file)(item),
            };
            let items: Vec<Vec<u8>> = items.iter().map(read).collect::<Result<_>>()?;
            match items.is_empty() {
                true => root.anchors.remove(&number),
                false => root.anchors.insert(number, items),
            };
        }
        Ok(())
    }
}

/// Roles that a delivery may need.
const DELIVERY: [Role; 3] = [Role::Release, Role::Distribute, Role::ReleaseSecond];
/// Roles that an image may need.
const IMAGE: [Role; 2] = [Role::Image, Role::ImageSecond];

fn among(roles: BTreeSet<Role>, allowed: &[Role], always: Role, what: &str) -> Result<BTreeSet<Role>> {
    if let Some(role) = roles.iter().find(|role| !allowed.contains(role)) {
        return Err(wrong(format!(
            "role {} cannot be required of a {what}",
            role_name(*role)
        )));
    }
    if !roles.contains(&always) {
        return Err(wrong(format!("every {what} needs role {}", role_name(always))));
    }
    Ok(roles)
}

/// Lists a key for a role; one key is enough for a role that has none, until a threshold says otherwise.
///
/// Errors: [`Code::SameKeyTwice`]; [`Code::KeySample`].
pub fn add_key(root: &mut Content, role: Role, key: &PublicKey) -> Result<()> {
    let name = role_name(role);
    if let Some(sample) = key.published_sample() {
        return Err(Code::KeySample.error(format!("a {name} key is MCUboot's published sample {sample}")));
    }
    let id = key.thumbprint();
    if let Some(present) = root.role_of(&id) {
        let what = format!(
            "key {} is listed for role {} already",
            super::short(&id),
            role_name(present)
        );
        return Err(Code::SameKeyTwice
            .error(what)
            .advise("Give every key to exactly one role, once."));
    }
    let material = to_vec(|writer| key.borrow().encode(writer));
    root.keys.insert(id, Material::Raw(material));
    let def = root.roles.entry(role).or_insert(RoleKeys {
        threshold: 1,
        ..RoleKeys::default()
    });
    def.keys.insert(id);
    Ok(())
}

/// Digits of a key id that name it.
const ID_DIGITS_MIN: usize = 8;

/// The id that a person means: a name, the start of an id in the root, a whole id, or a key.
pub fn key_id(text: &str, root: &Content, desk: &Desk) -> Result<KeyId> {
    let digits = (text.len() >= ID_DIGITS_MIN).then(|| hex::bytes(text)).flatten();
    let prefixes: Vec<&[u8]> = match &digits {
        Some(digits) => vec![digits],
        None => desk.names.prefixes_of(text).collect(),
    };
    let meant = |id: &&KeyId| prefixes.iter().any(|prefix| id.starts_with(prefix));
    let found: Vec<&KeyId> = root.keys.keys().filter(meant).collect();
    match (found.as_slice(), digits) {
        ([id], _) => Ok(**id),
        ([], Some(digits)) => {
            KeyId::try_from(digits).map_err(|_| wrong(format!("no key of the root begins with {text}")))
        }
        ([], None) => (desk.public)(text).map(|key| key.thumbprint()),
        _ => Err(wrong(format!("{text} stands for {} keys of the root", found.len()))),
    }
}

/// The role of this name. Error: [`Code::RootEdit`].
pub fn role_from_name(name: &str) -> Result<Role> {
    let known = Role::ALL.into_iter().find(|role| role_name(*role) == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.into_iter().map(role_name).collect();
        wrong(format!("{name} is no role")).advise(format!("The roles are {}.", names.join(", ")))
    })
}

/// A class by its id, or by the model of a vendor. Error: [`Code::RootEdit`].
pub fn class_from_text(text: &str, vendor: Option<Uuid>) -> Result<Uuid> {
    match (uuid::Uuid::parse_str(text), vendor) {
        (Ok(id), _) => Ok(id.into_bytes()),
        (Err(_), Some(vendor)) => Ok(identity::class_id(&vendor, text)),
        (Err(_), None) => Err(wrong(format!("{text} is no class id"))
            .advise("Give the class id (a UUID), or --board or --vendor-domain, so that a model names a class.")),
    }
}

/// `never` (nothing), a day, or seconds since 1970-01-01 UTC. Error: [`Code::RootEdit`].
pub fn moment_from_text(text: &str) -> Result<Option<u64>> {
    if text == "never" {
        return Ok(None);
    }
    let seconds = text.parse::<u64>().ok().or_else(|| day(text));
    seconds.map(Some).ok_or_else(|| {
        wrong(format!("{text} is no moment"))
            .advise("Write a day (2046-01-01), seconds since 1970-01-01 UTC, or never.")
    })
}

/// Seconds from 1970 to the start of a day `YYYY-MM-DD` (days from the civil calendar, proleptic Gregorian).
fn day(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text
        .split('-')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .ok()?;
    let [year, month, day] = parts.as_slice() else {
        return None;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(year) || !(1..=length).contains(day) {
        return None;
    }
    let (year, month) = if *month > 2 {
        (*year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + (153 * month + 2) / 5 + day - 1;
    Some((year / 400 * 146_097 + day_of_era - 719_468) * 86_400)
}

fn wrong(what: impl Into<String>) -> keys::Error {
    Code::RootEdit.error(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_moments_and_moments_are_days() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2000-03-01", 951_868_800),
            ("2030-01-01", 1_893_456_000),
            ("1893456000", 1_893_456_000),
        ] {
            assert_eq!(moment_from_text(text).unwrap(), Some(seconds), "{text}");
            assert!(text.len() > 10 || !text.contains('-') || crate::inspect::moment(seconds).starts_with(text));
        }
        assert_eq!(moment_from_text("never").unwrap(), None);
        for text in [
            "2001-02-29",
            "2030-13-01",
            "2030-00-01",
            "2030-01-32",
            "soon",
            "1969-12-31",
            "2030-1",
        ] {
            assert!(moment_from_text(text).unwrap_err().is(Code::RootEdit), "{text}");
        }
    }
}
