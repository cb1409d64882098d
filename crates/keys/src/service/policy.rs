//! Who may have what signed, and how often: the policy file of a signing service.

use std::path::PathBuf;

use codec::plan::Uuid;
use serde::Deserialize;

use super::facts::SignFacts;
use crate::journal::Digest;
use crate::{Code, Error, KeyUri, Object, Result};

/// Bytes of a policy file at most.
pub const POLICY_BYTES_MAX: u64 = 256 * 1024;
/// Seconds of an hour and a day, over which signatures are counted.
pub const HOUR_SECONDS: u64 = 3_600;
/// See [`HOUR_SECONDS`].
pub const DAY_SECONDS: u64 = 86_400;

/// A policy that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The keys, by their names.
    pub keys: Vec<KeyRule>,
    /// The clients.
    pub clients: Vec<Client>,
}

/// A key of the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRule {
    /// Its name in requests.
    pub name: String,
    /// Where it is.
    pub uri: KeyUri,
    /// The world of its signatures.
    pub world: World,
    /// A trust root that must list it, in a role that fits, and say the same world.
    pub root: Option<PathBuf>,
}

/// The world of a key's signatures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// Devices on a desk.
    Development,
    /// Real devices: a service signs nothing with such a key.
    Production,
}

/// Whoever is at the other end of a socket and meets all of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// Its name in the journal.
    pub name: String,
    /// User id of its process.
    pub uid: Option<u32>,
    /// Primary group id of its process.
    pub gid: Option<u32>,
    /// SHA-256 of the token that it has to send.
    pub token_sha256: Option<Digest>,
    /// What it may have signed.
    pub allows: Vec<Allow>,
}

/// Something that a client may have signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allow {
    /// With this key.
    pub key: String,
    /// This kind of object.
    pub object: Object,
    /// For devices of these classes; all that the object names must be among them.
    pub classes: Vec<Uuid>,
    /// From these git refs, as the client says; empty for any.
    pub refs: Vec<String>,
    /// Signatures in any hour.
    pub per_hour: u32,
    /// Signatures in any day.
    pub per_day: u32,
    /// From and until which minute of the day, UTC.
    pub window: Option<(u16, u16)>,
    /// Whether digests of images that are not shown are signed too.
    pub blind_digests: bool,
}

/// Whoever is at the other end of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its user id.
    pub uid: u32,
    /// Its primary group id.
    pub gid: u32,
    /// Its process id.
    pub pid: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PolicyFile {
    schema: u32,
    #[serde(default)]
    key: Vec<KeyTable>,
    #[serde(default)]
    client: Vec<ClientTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyTable {
    name: String,
    uri: String,
    environment: World,
    root: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ClientTable {
    name: String,
    user: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    token_sha256: Option<String>,
    #[serde(default)]
    allow: Vec<AllowTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AllowTable {
    key: String,
    object: String,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    refs: Vec<String>,
    per_hour: u32,
    per_day: u32,
    hours_utc: Option<String>,
    #[serde(default)]
    blind_digests: bool,
}

impl Policy {
    /// Reads a policy file. `uid_of` gives the id of an account. Error: [`Code::ServicePolicy`].
    pub fn parse(text: &str, uid_of: &dyn Fn(&str) -> Option<u32>) -> Result<Policy> {
        let file: PolicyFile = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end()))?;
        if file.schema != 1 {
            return Err(wrong("schema is not 1"));
        }
        let keys: Vec<KeyRule> = file.key.into_iter().map(KeyTable::check).collect::<Result<_>>()?;
        let clients: Vec<Client> = file
            .client
            .into_iter()
            .map(|client| client.check(&keys, uid_of))
            .collect::<Result<_>>()?;
        check_unique("key", keys.iter().map(|key| &key.name))?;
        check_unique("client", clients.iter().map(|client| &client.name))?;
        match keys.is_empty() || clients.is_empty() {
            true => Err(wrong("it has no [[key]] or no [[client]]")),
            false => Ok(Policy { keys, clients }),
        }
    }

    /// The key with this name. Error: [`Code::ServiceForbidden`].
    pub fn key(&self, name: &str) -> Result<&KeyRule> {
        let found = self.keys.iter().find(|key| key.name == name);
        found.ok_or_else(|| Code::ServiceForbidden.error(format!("there is no key {name:?}")))
    }

    /// The first client that the peer is. Error: [`Code::ServiceForbidden`].
    pub fn client(&self, peer: &Peer, token: &str) -> Result<&Client> {
        let found = self.clients.iter().find(|client| client.is(peer, token));
        found.ok_or_else(|| Code::ServiceForbidden.error(format!("user {} is no client of this service", peer.uid)))
    }
}

impl KeyTable {
    fn check(self) -> Result<KeyRule> {
        let Ok(uri) = self.uri.parse::<KeyUri>();
        if matches!(uri, KeyUri::Service(_)) {
            return Err(wrong(&format!(
                "key {}: a service does not ask another service",
                self.name
            )));
        }
        Ok(KeyRule {
            name: self.name,
            uri,
            world: self.environment,
            root: self.root,
        })
    }
}

impl ClientTable {
    fn check(self, keys: &[KeyRule], uid_of: &dyn Fn(&str) -> Option<u32>) -> Result<Client> {
        let wrong = |what: &str| wrong(&format!("client {}: {what}", self.name));
        let named = match &self.user {
            Some(user) => Some(uid_of(user).ok_or_else(|| wrong(&format!("there is no user {user:?}")))?),
            None => None,
        };
        if named.is_some() && self.uid.is_some() {
            return Err(wrong("give user or uid, not both"));
        }
        let token = self.token_sha256.as_deref().map(str::parse::<Digest>);
        let client = Client {
            uid: named.or(self.uid),
            gid: self.gid,
            token_sha256: token.transpose().map_err(wrong)?,
            allows: self
                .allow
                .iter()
                .map(|allow| allow.check(keys).map_err(|what| wrong(&what)))
                .collect::<Result<_>>()?,
            name: self.name.clone(),
        };
        match client.uid.or(client.gid).is_some() || client.token_sha256.is_some() {
            true => Ok(client),
            false => Err(wrong("give user, uid, gid or token-sha256: everybody is no client")),
        }
    }
}

impl AllowTable {
    fn check(&self, keys: &[KeyRule]) -> Result<Allow, String> {
        if !keys.iter().any(|key| key.name == self.key) {
            return Err(format!("there is no key {:?}", self.key));
        }
        let object = [Object::Release, Object::Image]
            .into_iter()
            .find(|object| object.name() == self.object);
        let object = object.ok_or("object is \"release\" or \"image\": people sign the rest")?;
        if self.classes.is_empty() {
            return Err("classes is empty: name the classes of the devices".into());
        }
        if self.per_hour == 0 || self.per_day < self.per_hour {
            return Err("per-hour is at least 1, per-day at least per-hour".into());
        }
        if self.blind_digests && object != Object::Image {
            return Err("blind-digests is for images".into());
        }
        Ok(Allow {
            key: self.key.clone(),
            object,
            classes: self.classes.iter().map(|class| uuid(class)).collect::<Result<_, _>>()?,
            refs: self.refs.clone(),
            per_hour: self.per_hour,
            per_day: self.per_day,
            window: self.hours_utc.as_deref().map(window).transpose()?,
            blind_digests: self.blind_digests,
        })
    }
}

impl Client {
    fn is(&self, peer: &Peer, token: &str) -> bool {
        // Digests are compared, so that the time it takes says nothing about the token.
        let has_token = |wanted: Digest| trust::Sha256::of(token.as_bytes()) == wanted.0;
        self.uid.is_none_or(|uid| uid == peer.uid)
            && self.gid.is_none_or(|gid| gid == peer.gid)
            && self.token_sha256.is_none_or(has_token)
    }

    /// The rule under which this client may have this signed; `counted` says how many signatures it got in the last so
    /// many seconds under a rule.
    ///
    /// Errors: [`Code::ServiceForbidden`] with what is in the way, [`Code::ServiceRate`].
    pub fn allows(
        &self,
        key: &str,
        facts: &SignFacts,
        git_ref: &str,
        at: u64,
        counted: &dyn Fn(&Allow, u64) -> u32,
    ) -> Result<&Allow> {
        let mut forbidden = format!("no rule for key {key:?} and object {}", facts.purpose.object.name());
        for allow in self
            .allows
            .iter()
            .filter(|allow| allow.key == key && allow.object == facts.purpose.object)
        {
            match allow.obstacle(facts, git_ref, at) {
                Some(obstacle) => forbidden = obstacle,
                None => {
                    allow.check_rate(&self.name, counted)?;
                    return Ok(allow);
                }
            }
        }
        Err(Code::ServiceForbidden.error(format!("client {} may not have this signed: {forbidden}", self.name)))
    }
}

impl Allow {
    fn obstacle(&self, facts: &SignFacts, git_ref: &str, at: u64) -> Option<String> {
        let minute = (at % DAY_SECONDS / 60) as u16;
        let is_open = self.window.is_none_or(|(from, to)| match from < to {
            true => (from..to).contains(&minute),
            false => minute >= from || minute < to,
        });
        if facts.is_blind && !self.blind_digests {
            return Some("the image was not shown, only its digest".into());
        }
        if facts.classes.is_empty() && !facts.is_blind {
            return Some("the object names no class".into());
        }
        if let Some(other) = facts.classes.iter().find(|class| !self.classes.contains(class)) {
            return Some(format!(
                "class {} is not among those allowed",
                super::facts::uuid_text(other)
            ));
        }
        if !self.refs.is_empty() && !self.refs.iter().any(|pattern| matches_ref(pattern, git_ref)) {
            return Some(format!("ref {git_ref:?} is not among those allowed"));
        }
        (!is_open).then(|| "not at this time of the day".into())
    }

    fn check_rate(&self, client: &str, counted: &dyn Fn(&Allow, u64) -> u32) -> Result<()> {
        for (seconds, most, name) in [
            (HOUR_SECONDS, self.per_hour, "hour"),
            (DAY_SECONDS, self.per_day, "day"),
        ] {
            if counted(self, seconds) >= most {
                let what = format!("client {client} has had its {most} signatures of this {name}");
                return Err(Code::ServiceRate.error(what));
            }
        }
        Ok(())
    }
}

/// `*` at the end of a pattern stands for any rest.
fn matches_ref(pattern: &str, git_ref: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => git_ref.starts_with(start),
        None => git_ref == pattern,
    }
}

fn check_unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(wrong(&format!("the name {name:?} of a {what} is empty or given twice")));
        }
    }
    Ok(())
}

fn uuid(text: &str) -> Result<Uuid, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    match <Uuid>::try_from(&bytes[..]) {
        Ok(id) if super::facts::uuid_text(&id) == text => Ok(id),
        _ => Err(format!("{text:?} is no UUID in small letters")),
    }
}

/// `06:00-20:00`.
fn window(text: &str) -> Result<(u16, u16), String> {
    let minute = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    };
    let parse = || {
        let (from, to) = text.split_once('-')?;
        Some((minute(from)?, minute(to)?)).filter(|(from, to)| from != to)
    };
    parse().ok_or_else(|| format!("hours-utc is \"06:00-20:00\", not {text:?}"))
}

fn wrong(what: &str) -> Error {
    Code::ServicePolicy.error(format!("the policy of the signing service: {what}"))
}
