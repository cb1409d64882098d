//! The script of a ceremony: a TOML file, checked as a whole before anything happens.

use std::collections::{BTreeMap, BTreeSet};

use codec::roots::{Environment, Role};
use keys::pkcs11::Pkcs11Uri;
use keys::{Code, KeyUri, Result, SignatureAlgorithm};
use serde::{Deserialize, Serialize};
use trust::Sha256;

use crate::root;

/// The version of the format.
pub const SCRIPT_VERSION: u32 = 1;
/// Steps of a script at most.
pub const STEPS_MAX: usize = 200;
/// Participants at most.
pub const PARTICIPANTS_MAX: usize = 32;

/// A script that passed every check.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it is called.
    pub title: String,
    /// What it is for.
    pub purpose: String,
    /// For practice or in earnest.
    pub mode: Mode,
    /// Who takes part.
    pub participants: Vec<Participant>,
    /// How many of each part must be present; administrator and custodian at least one.
    pub quorum: BTreeMap<Part, usize>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// The file as it is; the record carries it.
    pub text: String,
}

/// For practice or in earnest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Answers may come from a file, keys may be files, signing keys of participants may be made on the spot.
    Rehearsal,
    /// None of this.
    Production,
}

/// What somebody is there for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Leads through the script and types.
    Administrator,
    /// Holds a key or a share.
    Custodian,
    /// Watches, and says afterwards what happened.
    Witness,
    /// Watches for somebody else.
    Auditor,
}

impl Part {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Part::Administrator => "administrator",
            Part::Custodian => "custodian",
            Part::Witness => "witness",
            Part::Auditor => "auditor",
        }
    }
}

/// Somebody who takes part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Participant {
    /// A short name for the script: lower-case letters, digits, hyphens.
    pub id: String,
    /// The full name, which is typed to be present.
    pub name: String,
    /// What they are there for.
    pub part: Part,
    /// The key by which they sign the transcript. A rehearsal makes one up where there is none.
    #[serde(default)]
    pub key: Option<String>,
}

/// A step: what it is called and what it does.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name in the record and in answers; `generate-2` is the second that generates.
    pub id: String,
    /// A heading for people.
    pub title: String,
    /// What it does.
    pub act: Act,
}

/// What a step does.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    tag = "kind",
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Act {
    /// Everybody types their name, or is absent; the quorum decides.
    Presence {},
    /// A text is read aloud and acknowledged.
    Statement {
        /// The text.
        text: String,
        /// Who acknowledges it; the administrator if nobody is named.
        #[serde(default)]
        by: Vec<String>,
    },
    /// The machine is looked at: random numbers, network, clock, the tool itself, the disk.
    Machine {
        /// Why an interface may be up; without a reason production refuses it.
        #[serde(default)]
        allow_network: Option<String>,
        /// The SHA-256 that this program must have, in hexadecimal.
        #[serde(default)]
        tool_sha256: Option<String>,
    },
    /// A token is there, is the right one, and is not locked.
    Token {
        /// A PKCS#11 URI.
        uri: String,
        /// Its serial number, if it must be this one.
        #[serde(default)]
        serial: Option<String>,
    },
    /// A key is made where it will stay.
    Generate {
        /// Its URI.
        key: String,
        /// `p256` or `ed25519`.
        algorithm: Algorithm,
        /// Who holds it: types the PIN or passphrase.
        holder: String,
        /// A key that is a file, in production: only with this, spelled out.
        #[serde(default)]
        i_know_this_production_key_is_a_file: bool,
    },
    /// The public half of a key goes into a file.
    Export {
        /// The key.
        key: String,
        /// The file to write (PEM).
        to: String,
    },
    /// The first root of a product line is made and signed.
    Root(Box<RootStep>),
    /// A key file goes into M-of-N shares.
    Backup {
        /// The key file.
        key: String,
        /// How many shares.
        shares: u8,
        /// How many restore it.
        threshold: u8,
        /// The directory to make.
        to: String,
    },
    /// A backup is tried without writing the key anywhere.
    Drill {
        /// The backup.
        backup: String,
        /// Files with shares; asked without echo where there are none.
        #[serde(default)]
        shares: Vec<String>,
    },
    /// A root is verified as a device does.
    Verify {
        /// The root.
        root: String,
    },
    /// A file is overwritten and removed.
    Destroy {
        /// The file.
        file: String,
        /// Who watches; every witness if nobody is named.
        #[serde(default)]
        by: Vec<String>,
    },
    /// The ceremony is interrupted; what lies around is sealed.
    Pause {
        /// What is to be done.
        text: String,
    },
    /// Something is written down.
    Note {
        /// What is asked for.
        text: String,
    },
}

impl Act {
    /// What it is called in the script.
    pub fn kind(&self) -> &'static str {
        match self {
            Act::Presence {} => "presence",
            Act::Statement { .. } => "statement",
            Act::Machine { .. } => "machine",
            Act::Token { .. } => "token",
            Act::Generate { .. } => "generate",
            Act::Export { .. } => "export",
            Act::Root(_) => "root",
            Act::Backup { .. } => "backup",
            Act::Drill { .. } => "drill",
            Act::Verify { .. } => "verify",
            Act::Destroy { .. } => "destroy",
            Act::Pause { .. } => "pause",
            Act::Note { .. } => "note",
        }
    }

    fn heading(&self) -> String {
        match self {
            Act::Presence {} => "Who is present".into(),
            Act::Statement { .. } => "A statement is read".into(),
            Act::Machine { .. } => "The machine".into(),
            Act::Token { uri, .. } => format!("The token {uri}"),
            Act::Generate { key, .. } => format!("A key is made: {key}"),
            Act::Export { key, .. } => format!("The public half of {key} is written out"),
            Act::Root(root) => format!("The trust root {} is made and signed", root.to),
            Act::Backup { key, .. } => format!("A backup of {key} in shares"),
            Act::Drill { backup, .. } => format!("A drill: {backup} restores its key"),
            Act::Verify { root } => format!("{root} is verified as a device does"),
            Act::Destroy { file, .. } => format!("{file} is destroyed"),
            Act::Pause { .. } => "A break".into(),
            Act::Note { .. } => "A note".into(),
        }
    }
}

/// The algorithm of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
}

impl Algorithm {
    /// As the signers know it.
    pub fn of_signer(self) -> SignatureAlgorithm {
        match self {
            Algorithm::Ed25519 => SignatureAlgorithm::Ed25519,
            Algorithm::P256 => SignatureAlgorithm::Esp256,
        }
    }
}

/// The first root of a product line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RootStep {
    /// The file to write.
    pub to: String,
    /// Domain of the vendor.
    pub vendor_domain: String,
    /// Name of the product line.
    pub product_line: String,
    /// `development` or `production`.
    pub environment: World,
    /// Seconds since 1970-01-01 UTC, if it ever expires.
    #[serde(default)]
    pub expires: Option<u64>,
    /// Board file with the limits of the device; those of a microcontroller otherwise.
    #[serde(default)]
    pub board: Option<String>,
    /// The keys that sign it, among its root keys, as many as their threshold or more.
    pub sign: Vec<String>,
    /// Who may do what: `root`, `release`, `image`, `distribute`, `revoke`.
    pub roles: BTreeMap<String, RoleStep>,
}

/// The keys of a role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoleStep {
    /// How many must sign.
    pub threshold: u8,
    /// Their URIs; public halves are enough.
    pub keys: Vec<String>,
}

/// The world that a root is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// Devices on a desk.
    Development,
    /// Real devices.
    Production,
}

impl World {
    /// As the root states it.
    pub fn environment(self) -> Environment {
        match self {
            World::Development => Environment::Development,
            World::Production => Environment::Production,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    version: u32,
    title: String,
    purpose: String,
    mode: Mode,
    participant: Vec<Participant>,
    #[serde(default)]
    quorum: BTreeMap<Part, usize>,
    step: Vec<toml::Table>,
}

impl Script {
    /// Reads and checks a script. Error: [`Code::CeremonyScript`], which names the place.
    pub fn parse(text: &str) -> Result<Script> {
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if file.version != SCRIPT_VERSION {
            return Err(wrong(format!(
                "version {} is not known here, only {SCRIPT_VERSION}",
                file.version
            )));
        }
        let mut quorum = file.quorum;
        for part in [Part::Administrator, Part::Custodian] {
            quorum.entry(part).or_insert(1);
        }
        let script = Script {
            title: file.title,
            purpose: file.purpose,
            mode: file.mode,
            participants: file.participant,
            quorum,
            steps: steps(file.step)?,
            text: text.to_owned(),
        };
        script.check()?;
        Ok(script)
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::of(self.text.as_bytes())
    }

    /// The participant with this id.
    pub fn participant(&self, id: &str) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.id == id)
    }

    /// Whether the script spells out that this key may be a file in production.
    pub(super) fn admits_file(&self, named: &str) -> bool {
        let is_spelled_out = |step: &Step| matches!(&step.act, Act::Generate { key, i_know_this_production_key_is_a_file: true, .. } if key == named);
        self.steps.iter().any(is_spelled_out)
    }

    fn check(&self) -> Result<()> {
        self.check_participants()?;
        if !matches!(
            self.steps.first(),
            Some(Step {
                act: Act::Presence {},
                ..
            })
        ) {
            return Err(wrong(
                "the first step must be `presence`: nothing happens before it is known who is there",
            ));
        }
        if self.steps.len() > STEPS_MAX {
            return Err(wrong(format!("{} steps are more than {STEPS_MAX}", self.steps.len())));
        }
        for step in &self.steps {
            self.check_step(step)?;
        }
        self.check_production()
    }

    fn check_participants(&self) -> Result<()> {
        let mut ids = BTreeSet::new();
        for participant in &self.participants {
            let id = &participant.id;
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if id.is_empty() || !id.chars().all(plain) {
                return Err(wrong(format!(
                    "the participant id `{id}` has more than a to z, 0 to 9 and hyphens"
                )));
            }
            if !ids.insert(id) {
                return Err(wrong(format!("two participants have the id `{id}`")));
            }
            if participant.name.trim().is_empty() {
                return Err(wrong(format!("the participant `{id}` has no name")));
            }
        }
        if self.participants.len() > PARTICIPANTS_MAX {
            return Err(wrong(format!("more than {PARTICIPANTS_MAX} participants")));
        }
        for (part, needed) in &self.quorum {
            let listed = self
                .participants
                .iter()
                .filter(|participant| participant.part == *part)
                .count();
            if listed < *needed {
                return Err(wrong(format!(
                    "{needed} of {} must be present, {listed} are listed",
                    part.name()
                )));
            }
        }
        Ok(())
    }

    fn check_step(&self, step: &Step) -> Result<()> {
        let known = |id: &String| match self.participant(id) {
            Some(_) => Ok(()),
            None => Err(wrong(format!("step `{}` names `{id}`, who is no participant", step.id))),
        };
        let beside = |path: &String| match path.is_empty() || path.split('/').any(|part| part == "..") {
            true => Err(wrong(format!(
                "step `{}`: `{path}` must be a path below the script's directory",
                step.id
            ))),
            false => Ok(()),
        };
        match &step.act {
            Act::Statement { by, .. } => by.iter().try_for_each(known),
            Act::Token { uri, .. } => check_token(step, uri),
            Act::Generate { holder, key, .. } => {
                known(holder)?;
                match uri(key) {
                    KeyUri::Pkcs11(_) => check_token(step, key),
                    _ => beside(key),
                }
            }
            Act::Destroy { file, by } => by.iter().try_for_each(known).and_then(|()| beside(file)),
            Act::Export { to, .. } => beside(to),
            Act::Backup { key, to, .. } if uri(key).as_file().is_some() => beside(to),
            Act::Backup { key, .. } => Err(wrong(format!(
                "step `{}`: {key} is no file; docs/backup.md says what \
                 tokens have instead",
                step.id
            ))),
            Act::Root(root) if root.environment == World::Production && self.mode == Mode::Rehearsal => {
                Err(wrong(format!(
                    "step `{}`: a rehearsal makes no production root; write `environment = \"development\"`",
                    step.id
                )))
            }
            Act::Root(root) => beside(&root.to).and_then(|()| check_root(step, root)),
            _ => Ok(()),
        }
    }

    fn check_production(&self) -> Result<()> {
        if self.mode == Mode::Rehearsal {
            return Ok(());
        }
        if let Some(participant) = self.participants.iter().find(|participant| participant.key.is_none()) {
            return Err(wrong(format!(
                "production: `{}` has no key to sign the transcript with",
                participant.id
            )));
        }
        if self.quorum.get(&Part::Witness).is_none_or(|needed| *needed == 0) {
            return Err(wrong("production: the quorum must ask for at least one witness"));
        }
        if !self.steps.iter().any(|step| matches!(step.act, Act::Machine { .. })) {
            return Err(wrong("production: no step looks at the machine (`machine`)"));
        }
        for step in &self.steps {
            if let Act::Generate {
                key,
                i_know_this_production_key_is_a_file: false,
                ..
            } = &step.act
                && uri(key).as_file().is_some()
            {
                return Err(wrong(format!(
                    "production: step `{}` makes a key that is a file; keep production keys in \
                     tokens, or write `i-know-this-production-key-is-a-file = true`",
                    step.id
                )));
            }
        }
        Ok(())
    }
}

/// A URI of a token, and where a key is to be made, its name. Errors: also those of [`Pkcs11Uri::parse`].
fn check_token(step: &Step, text: &str) -> Result<()> {
    let KeyUri::Pkcs11(text) = uri(text) else {
        return Err(wrong(format!(
            "step `{}`: `{text}` names no token, as pkcs11:token=NAME does",
            step.id
        )));
    };
    let uri = Pkcs11Uri::parse(&text)?;
    match &step.act {
        Act::Generate { .. } if uri.object.is_none() => Err(wrong(format!(
            "step `{}`: the URI of a new key must give its name as object=NAME",
            step.id
        ))),
        _ => Ok(()),
    }
}

fn check_root(step: &Step, root: &RootStep) -> Result<()> {
    for name in root.roles.keys() {
        role(name).ok_or_else(|| wrong(format!("step `{}`: there is no role `{name}`", step.id)))?;
    }
    let Some(own) = root.roles.get("root") else {
        return Err(wrong(format!("step `{}`: the role `root` has no keys", step.id)));
    };
    if let Some(stranger) = root.sign.iter().find(|key| !own.keys.contains(key)) {
        return Err(wrong(format!(
            "step `{}`: {stranger} signs and is no key of the role `root`",
            step.id
        )));
    }
    let distinct: BTreeSet<&String> = root.sign.iter().collect();
    if distinct.len() < usize::from(own.threshold) {
        return Err(wrong(format!(
            "step `{}`: {} keys sign, {} must",
            step.id,
            distinct.len(),
            own.threshold
        )));
    }
    Ok(())
}

/// The role of this name.
pub fn role(name: &str) -> Option<Role> {
    let all = [
        Role::Root,
        Role::Release,
        Role::Distribute,
        Role::Revoke,
        Role::ReleaseSecond,
        Role::Image,
        Role::ImageSecond,
    ];
    all.into_iter().find(|role| root::role_name(*role) == name)
}

/// A key's URI.
pub fn uri(text: &str) -> KeyUri {
    text.parse().unwrap_or_else(|never| match never {})
}

fn steps(tables: Vec<toml::Table>) -> Result<Vec<Step>> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut steps: Vec<Step> = Vec::new();
    for (at, mut table) in tables.into_iter().enumerate() {
        let place = |what: String| wrong(format!("step {}: {what}", at + 1));
        let mut named = |name: &str| match table.remove(name) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(place(format!("`{name}` must be a text"))),
        };
        let (id, title) = (named("id")?, named("title")?);
        let act: Act = table
            .try_into()
            .map_err(|error: toml::de::Error| place(error.message().to_owned()))?;
        let count = counts.entry(act.kind()).or_insert(0);
        *count += 1;
        let id = id.unwrap_or_else(|| format!("{}-{count}", act.kind()));
        if steps.iter().any(|step| step.id == id) {
            return Err(place(format!("another step has the id `{id}`")));
        }
        let title = title.unwrap_or_else(|| act.heading());
        steps.push(Step { id, title, act });
    }
    Ok(steps)
}

fn wrong(what: impl Into<String>) -> keys::Error {
    let what: String = what.into();
    Code::CeremonyScript.error(what.trim_end().to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ceremony) const SMALL: &str = r#"
version = 1
title = "Practice"
purpose = "A test"
mode = "rehearsal"
[[participant]]
id = "ada"
name = "Ada Administrator"
part = "administrator"
[[participant]]
id = "carl"
name = "Carl Custodian"
part = "custodian"
[[step]]
kind = "presence"
[[step]]
kind = "generate"
key = "a.pem"
algorithm = "p256"
holder = "carl"
"#;

    fn refused(text: &str) -> String {
        let error = Script::parse(text).unwrap_err();
        assert!(error.is(Code::CeremonyScript));
        error.what
    }

    #[test]
    fn a_script_is_read_and_its_steps_are_named() {
        let script = Script::parse(&format!("{SMALL}[[step]]\nkind = 'note'\ntext = 'Say it'\nid = 'last'")).unwrap();
        let ids: Vec<&str> = script.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["presence-1", "generate-1", "last"]);
        assert_eq!(script.quorum[&Part::Custodian], 1);
    }

    #[test]
    fn what_a_script_must_not_say() {
        let with = |old: &str, new: &str| {
            assert!(SMALL.contains(old));
            refused(&SMALL.replace(old, new))
        };
        let and = |step: &str| refused(&format!("{SMALL}[[step]]\n{step}"));
        assert!(with("version = 1", "version = 2").contains("version 2"));
        assert!(with("mode = \"rehearsal\"", "mode = \"fun\"").contains("mode"));
        assert!(with("purpose", "porpoise").contains("porpoise"));
        assert!(with("\"carl\"\nname", "\"ada\"\nname").contains("two participants"));
        assert!(with("Carl Custodian", " ").contains("no name"));
        assert!(with("id = \"ada\"", "id = \"A da\"").contains("A da"));
        assert!(with("\"custodian\"", "\"witness\"").contains("1 of custodian must be present"));
        assert!(with("kind = \"presence\"", "kind = \"note\"\ntext = ''").contains("must be `presence`"));
        assert!(with("holder = \"carl\"", "holder = \"mallory\"").contains("mallory"));
        assert!(with("\"p256\"", "\"rsa\"").contains("step 2"));
        assert!(with("a.pem", "../a.pem").contains("below"));
        assert!(and("kind = 'dance'").contains("step 3"));
        assert!(and("kind = 'note'\ntext = ''\nid = 'generate-1'").contains("another step"));
        assert!(and("kind = 'note'\ntext = ''\nid = 1").contains("must be a text"));
        assert!(and("kind = 'note'\ntext = ''\nsurprise = 1").contains("surprise"));
        assert!(
            and("kind = 'backup'\nkey = 'pkcs11:token=a'\nshares = 3\nthreshold = 2\nto = 'x'").contains("no file")
        );
        assert!(and("kind = 'token'\nuri = 'a.pem'").contains("names no token"));
        assert!(with("a.pem", "pkcs11:token=a").contains("object=NAME"));
        let pin = SMALL.replace("a.pem", "pkcs11:token=a;object=b?pin-value=1234");
        let refused_pin = Script::parse(&pin).unwrap_err();
        assert!(refused_pin.is(Code::PinOnCommandLine) && !refused_pin.what.contains("1234"));
        let root = |roles: &str, sign: &str| {
            and(&format!(
                "kind = 'root'\nto = 'r'\nvendor-domain = 'e.com'\nproduct-line = 'p'\n\
                 environment = 'development'\nsign = [{sign}]\n[step.roles]\n{roles}"
            ))
        };
        let in_earnest = and("kind = 'root'\nto = 'r'\nvendor-domain = 'e.com'\nproduct-line = 'p'\n\
             environment = 'production'\nsign = ['a']\n[step.roles]\nroot = { threshold = 1, keys = ['a'] }");
        assert!(in_earnest.contains("a rehearsal makes no production root"));
        let own = "root = { threshold = 2, keys = ['a', 'b'] }";
        assert!(root("release = { threshold = 1, keys = ['a'] }", "").contains("`root` has no keys"));
        assert!(root(&format!("{own}\nking = {{ threshold = 1, keys = [] }}"), "").contains("king"));
        assert!(root(own, "'a', 'c'").contains("c signs"));
        assert!(root(own, "'a', 'a'").contains("1 keys sign, 2 must"));
    }

    #[test]
    fn production_is_strict() {
        let earnest = SMALL.replace("\"rehearsal\"", "\"production\"");
        assert!(refused(&earnest).contains("`ada` has no key"));
        let keyed = earnest.replace("part =", "key = \"k\"\npart =");
        assert!(refused(&keyed).contains("witness"));
        let witnessed = keyed.replace(
            "[[step]]\nkind = \"presence\"",
            "[[participant]]\nid = 'w'\nname = 'W'\npart = 'witness'\nkey = 'k'\n[quorum]\nwitness = 1\n[[step]]\nkind = \"presence\"",
        );
        assert!(refused(&witnessed).contains("machine"));
        let looked = format!("{witnessed}[[step]]\nkind = 'machine'\n");
        assert!(refused(&looked).contains("makes a key that is a file"));
        let known = looked.replace("holder =", "i-know-this-production-key-is-a-file = true\nholder =");
        Script::parse(&known).unwrap();
        Script::parse(&looked.replace("a.pem", "pkcs11:token=t;object=a")).unwrap();
    }
}
