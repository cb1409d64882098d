//! What a production ceremony finds wrong in its room: the machine, the tokens, the keys of the people. The room here is
//! made of whatever a test wants to be found; the ceremony, its script and its record are the real ones.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_release::ceremony::health::{Health, SAMPLE_BYTES};
use ampoule_release::ceremony::record::Record;
use ampoule_release::ceremony::room::{Machine, Room, TokenLook};
use ampoule_release::ceremony::run::{Outcome, run};
use ampoule_release::ceremony::script::Script;
use ampoule_release::ceremony::verify::verify;
use keys::backup::{Backup, Share};
use keys::file::{self, FileKey};
use keys::pkcs11::{KeyInToken, Pkcs11Uri, Protection, TokenFacts};
use keys::{Code, DevelopmentOnly, Error, Job, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer};
use serde_json::{Value, json};

const SCRIPT: &str = r#"
version = 1
title = "First trust root"
purpose = "Tests"
mode = "production"

[[participant]]
id = "ada"
name = "Ada Lindqvist"
part = "administrator"
key = "pkcs11:token=ada;object=ada"

[[participant]]
id = "walter"
name = "Walter Brandt"
part = "witness"
key = "walter.pem"

[[participant]]
id = "dora"
name = "Dora Okafor"
part = "custodian"
key = "pkcs11:token=dora;object=dora"

[quorum]
administrator = 1
custodian = 1
witness = 1

[[step]]
kind = "presence"

[[step]]
kind = "machine"
tool-sha256 = "0101010101010101010101010101010101010101010101010101010101010101"

[[step]]
kind = "token"
uri = "pkcs11:token=root"

[[step]]
kind = "generate"
key = "pkcs11:token=root;object=root"
algorithm = "p256"
holder = "dora"

[[step]]
kind = "root"
to = "first.ampr"
vendor-domain = "example.com"
product-line = "demo"
environment = "production"
sign = ["pkcs11:token=root;object=root"]

[step.roles.root]
threshold = 1
keys = ["pkcs11:token=root;object=root"]

[step.roles.release]
threshold = 1
keys = ["pkcs11:token=root;object=release"]

[step.roles.image]
threshold = 1
keys = ["pkcs11:token=root;object=image"]
"#;

const ROOT: &str = "root/root";
const ADA: &str = "ada/ada";
const WALTER: &str = "walter.pem";
const DORA: &str = "dora/dora";

/// A key, and what is the matter with it.
#[derive(Clone)]
struct Held {
    key: Rc<FileKey>,
    development_only: Option<DevelopmentOnly>,
    /// What its next signature ends in; the one after that works.
    fails_once: Rc<Cell<Option<Code>>>,
}

impl Held {
    fn new() -> Held {
        Held {
            key: Rc::new(file::generate(SignatureAlgorithm::Esp256).unwrap()),
            development_only: None,
            fails_once: Rc::default(),
        }
    }
}

impl Signer for Held {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn describe(&self) -> String {
        "a key of the test".into()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        self.development_only
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        match self.fails_once.take() {
            Some(code) => Err(code.error("pulled out in the middle of it")),
            None => self.key.make_signature(job),
        }
    }
}

struct Scene {
    directory: tempfile::TempDir,
    machine: Machine,
    facts: TokenFacts,
    /// The random numbers of the token, if it has a generator.
    look: Option<Health>,
    protection: Protection,
    keys: BTreeMap<String, Held>,
    said: String,
}

fn good() -> Health {
    let bytes: Vec<u8> = (0..SAMPLE_BYTES).map(|at| (at * 167 % 256) as u8).collect();
    Health::of(&bytes)
}

impl Scene {
    /// Where everything is as it should be.
    fn new() -> Scene {
        let names = [ADA, WALTER, DORA, "root/release", "root/image"];
        Scene {
            directory: tempfile::tempdir().unwrap(),
            machine: Machine {
                tool_version: "0.0.0".into(),
                tool_sha256: [1; 32],
                interfaces_up: Vec::new(),
                health: good(),
                entropy_source: "a test".into(),
                facts: json!({}),
            },
            facts: TokenFacts {
                label: "root".into(),
                serial: "0001".into(),
                model: "model".into(),
                manufacturer: "maker".into(),
                firmware: "1.0".into(),
                hardware: "1.0".into(),
                has_pin: true,
                is_locked: false,
                had_wrong_pins: false,
                has_generator: true,
                mechanisms: vec!["CKM_ECDSA".into()],
            },
            look: Some(good()),
            protection: Protection {
                sensitive: true,
                always_sensitive: true,
                unextractable: true,
                never_extractable: true,
                made_in_token: true,
            },
            keys: names.into_iter().map(|name| (name.to_owned(), Held::new())).collect(),
            said: String::new(),
        }
    }

    fn key(&mut self, name: &str) -> &mut Held {
        self.keys.get_mut(name).expect("a key of that name")
    }

    fn record_path(&self) -> PathBuf {
        self.directory.path().join("record.jsonl")
    }

    fn sitting(&mut self) -> Result<Outcome> {
        self.sitting_of(SCRIPT)
    }

    fn sitting_of(&mut self, script: &str) -> Result<Outcome> {
        let path = self.record_path();
        run(&Script::parse(script).unwrap(), &path, self)
    }

    /// It stops with this code; the last entry of the record says so, and where.
    fn stops(&mut self, code: Code, step: &str) -> Error {
        let error = self.sitting().unwrap_err();
        assert!(error.is(code), "{error}");
        let record = Record::parse(&std::fs::read(self.record_path()).unwrap()).unwrap();
        let last = record.entries.last().unwrap();
        assert_eq!((last.kind(), last.text("step")), ("stopped", step));
        assert_eq!(last.get("number"), &json!(error.number));
        error
    }

    /// The same command goes on, now that what was wrong is put right, and what comes out verifies.
    fn goes_on(&mut self) -> Vec<Value> {
        assert_eq!(self.sitting().unwrap(), Outcome::Finished, "{}", self.said);
        let bytes = std::fs::read(self.record_path()).unwrap();
        let verified = verify(&bytes, Some(self.directory.path())).unwrap();
        assert!(verified.is_finished);
        let record = Record::parse(&bytes).unwrap();
        let done = record.entries.iter().filter(|entry| entry.kind() == "done");
        let results: Vec<Value> = done.map(|entry| entry.get("result").clone()).collect();
        assert_eq!(results.len(), 5, "every step once");
        results
    }
}

/// Where the keys of a scene have a URI: `token/object`, or the name of a file.
fn name_of(uri: &KeyUri) -> String {
    match uri {
        KeyUri::Pkcs11(text) => {
            let uri = Pkcs11Uri::parse(text).unwrap();
            format!("{}/{}", uri.token.unwrap_or_default(), uri.object.unwrap_or_default())
        }
        KeyUri::File(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
        other => panic!("no key of a scene: {other}"),
    }
}

impl Room for Scene {
    fn say(&mut self, text: &str) {
        self.said.push_str(text);
        self.said.push('\n');
    }

    fn ask(&mut self, id: &str, _: &str) -> Result<String> {
        Ok(match id {
            "presence-1/ada" => "Ada Lindqvist",
            "presence-1/walter" => "Walter Brandt",
            "presence-1/dora" => "Dora Okafor",
            _ => "yes",
        }
        .into())
    }

    fn is_scripted(&self) -> bool {
        false
    }

    fn now(&mut self) -> u64 {
        1_795_591_800
    }

    fn path(&self, of_script: &str) -> PathBuf {
        self.directory.path().join(of_script)
    }

    fn machine(&mut self) -> Result<Machine> {
        Ok(self.machine.clone())
    }

    fn token(&mut self, _: &KeyUri) -> Result<TokenFacts> {
        Ok(self.facts.clone())
    }

    fn look_into_token(&mut self, _: &KeyUri) -> Result<TokenLook> {
        Ok(TokenLook {
            keys: Vec::new(),
            health: self.look,
        })
    }

    fn public_key(&mut self, uri: &KeyUri) -> Result<Option<PublicKey>> {
        Ok(self.keys.get(&name_of(uri)).map(|held| held.public_key().clone()))
    }

    fn development_only(&mut self, uri: &KeyUri) -> Result<Option<DevelopmentOnly>> {
        Ok(self.keys.get(&name_of(uri)).and_then(|held| held.development_only))
    }

    fn signer(&mut self, uri: &KeyUri) -> Result<Box<dyn Signer>> {
        Ok(Box::new(self.keys[&name_of(uri)].clone()))
    }

    fn journaled(&mut self, _: FileKey) -> Result<Box<dyn Signer>> {
        unreachable!("everybody has a key in production")
    }

    fn new_passphrase(&mut self, _: &KeyUri) -> Result<Passphrase> {
        unreachable!("no step makes a file")
    }

    fn passphrase(&mut self, _: &KeyUri) -> Result<Passphrase> {
        unreachable!("no step opens a file")
    }

    fn generate_in_token(&mut self, uri: &KeyUri, _: SignatureAlgorithm) -> Result<KeyInToken> {
        self.keys.insert(name_of(uri), Held::new());
        let KeyUri::Pkcs11(text) = uri else {
            panic!("{uri} is in no token")
        };
        Ok(KeyInToken {
            public: self.keys[&name_of(uri)].public_key().clone(),
            id: Pkcs11Uri::parse(text)?.id.expect("an announced id"),
            protection: self.protection,
        })
    }

    fn key_in_token(&mut self, _: &KeyUri) -> Result<KeyInToken> {
        unreachable!("no attempt to make the key is interrupted here")
    }

    fn write_backup(&mut self, _: &Path, _: &Backup, _: &[Share]) -> Result<()> {
        unreachable!("no step makes a backup")
    }

    fn ask_shares(&mut self, _: &Backup) -> Result<Vec<Share>> {
        unreachable!("no step asks for shares")
    }
}

/// A change to a scene.
type Change = fn(&mut Scene);

/// Breaks one thing, expects the ceremony to stop at `step`, puts it right, and lets the same command finish.
fn broken_and_put_right((what, step, break_it, put_right): (&str, &str, Change, Change), code: Code) {
    let mut scene = Scene::new();
    break_it(&mut scene);
    let error = scene.stops(code, step);
    assert!(error.what.contains(what), "{what}: {error}");
    assert!(!scene.directory.path().join("first.ampr").exists());
    put_right(&mut scene);
    scene.goes_on();
}

#[test]
fn a_production_ceremony_in_a_sound_room_ends_and_verifies() {
    let mut scene = Scene::new();
    let results = scene.goes_on();
    assert_eq!(results[1]["network"], "none up but loopback");
    assert_eq!(results[2]["token"]["serial"], "0001");
    assert_eq!(results[4]["environment"], "production");
    // A token without a generator is said to have none.
    let mut scene = Scene::new();
    scene.look = None;
    assert_eq!(scene.goes_on()[2]["random"], Value::Null);
    assert!(scene.said.contains("no generator"), "{}", scene.said);
}

#[test]
fn every_check_of_the_machine_stops_production() {
    let cases: [(&str, &str, Change, Change); 4] = [
        (
            "random numbers look broken",
            "machine-1",
            |scene| scene.machine.health = Health::of(&[7; SAMPLE_BYTES]),
            |scene| scene.machine.health = good(),
        ),
        (
            "random numbers look broken",
            "machine-1",
            // Nothing was read at all.
            |scene| scene.machine.health = Health::of(&[]),
            |scene| scene.machine.health = good(),
        ),
        (
            "the network is up: eth0 (up)",
            "machine-1",
            |scene| scene.machine.interfaces_up = vec!["eth0 (up)".into()],
            |scene| scene.machine.interfaces_up.clear(),
        ),
        (
            "not the one that the script demands",
            "machine-1",
            |scene| scene.machine.tool_sha256 = [2; 32],
            |scene| scene.machine.tool_sha256 = [1; 32],
        ),
    ];
    for case in cases {
        broken_and_put_right(case, Code::CeremonyCheck);
    }
}

#[test]
fn a_script_may_allow_the_network_and_the_record_keeps_the_reason() {
    let script = SCRIPT.replace(
        "tool-sha256",
        "allow-network = \"the token is in a data centre\"\ntool-sha256",
    );
    let mut scene = Scene::new();
    scene.machine.interfaces_up = vec!["eth0 (up)".into()];
    assert_eq!(scene.sitting_of(&script).unwrap(), Outcome::Finished);
    let record = std::fs::read_to_string(scene.record_path()).unwrap();
    assert!(record.contains("up: eth0 (up); allowed by the script: the token is in a data centre"));
    // In a rehearsal it only is said.
    let mut scene = Scene::new();
    scene.machine.interfaces_up = vec!["eth0 (up)".into()];
    let rehearsal = SCRIPT.replace("\"production\"", "\"rehearsal\"").replacen(
        "environment = \"rehearsal\"",
        "environment = \"development\"",
        1,
    );
    assert_eq!(scene.sitting_of(&rehearsal).unwrap(), Outcome::Finished);
    assert!(
        scene.said.contains("a production ceremony would stop here"),
        "{}",
        scene.said
    );
}

#[test]
fn every_check_of_a_token_stops_production() {
    let cases: [(&str, &str, Change, Change); 3] = [
        (
            "is locked",
            "token-1",
            |scene| scene.facts.is_locked = true,
            |scene| scene.facts.is_locked = false,
        ),
        (
            "has no PIN yet",
            "token-1",
            |scene| scene.facts.has_pin = false,
            |scene| scene.facts.has_pin = true,
        ),
        (
            "gives random numbers that look broken",
            "token-1",
            |scene| scene.look = Some(Health::of(&[0; SAMPLE_BYTES])),
            |scene| scene.look = Some(good()),
        ),
    ];
    for case in cases {
        broken_and_put_right(case, Code::CeremonyCheck);
    }
}

#[test]
fn a_token_that_keeps_a_key_loosely_makes_no_root_key() {
    let loosen: [fn(&mut Protection); 5] = [
        |protection| protection.sensitive = false,
        |protection| protection.always_sensitive = false,
        |protection| protection.unextractable = false,
        |protection| protection.never_extractable = false,
        |protection| protection.made_in_token = false,
    ];
    for loosen in loosen {
        let mut scene = Scene::new();
        loosen(&mut scene.protection);
        scene.stops(Code::TokenKeyExposed, "generate-1");
    }
}

#[test]
fn a_token_pulled_out_while_it_signs_the_root_stops_it_and_the_same_command_goes_on() {
    let mut pulled = Pulled {
        scene: Scene::new(),
        at: VecDeque::from([ROOT, ADA, WALTER]),
    };
    for step in ["root-1", "signatures", "signatures"] {
        let error = pulled.sitting();
        assert!(error.is(Code::TokenRemoved), "{error}");
        let record = Record::parse(&std::fs::read(pulled.scene.record_path()).unwrap()).unwrap();
        assert_eq!(record.entries.last().unwrap().text("step"), step);
        assert_eq!(
            pulled.scene.directory.path().join("first.ampr").exists(),
            step != "root-1"
        );
    }
    pulled.scene.goes_on();
}

/// A scene in which each of these keys fails once.
struct Pulled {
    scene: Scene,
    at: VecDeque<&'static str>,
}

impl Pulled {
    fn sitting(&mut self) -> Error {
        let name = self.at.pop_front().expect("another key to pull");
        if name == ROOT && !self.scene.keys.contains_key(ROOT) {
            // Up to the making of the key, which is there afterwards.
            let path = self.scene.directory.path().join("first.ampr");
            std::fs::create_dir(&path).unwrap();
            self.scene.sitting().unwrap_err();
            std::fs::remove_dir(&path).unwrap();
        }
        self.scene.key(name).fails_once.set(Some(Code::TokenRemoved));
        self.scene.sitting().unwrap_err()
    }
}

#[test]
fn a_key_of_a_participant_that_is_another_at_the_end_signs_nothing() {
    for (name, code) in [(ADA, Code::CeremonyToken), (WALTER, Code::CeremonyFile)] {
        let mut scene = Scene::new();
        scene.machine.health = Health::of(&[7; SAMPLE_BYTES]);
        scene.stops(Code::CeremonyCheck, "machine-1");
        scene.machine.health = good();
        let stated = scene.keys.insert(name.into(), Held::new()).unwrap();
        let error = scene.stops(code, "signatures");
        assert!(
            error.what.contains("not the one that was stated at the beginning"),
            "{error}"
        );
        scene.keys.insert(name.into(), stated);
        scene.goes_on();
    }
}

#[test]
fn a_key_that_is_for_development_signs_no_root_and_no_transcript() {
    let mut scene = Scene::new();
    scene.key(WALTER).development_only = Some(DevelopmentOnly::Unencrypted);
    scene.stops(Code::ProductionKey, "signatures");
    scene.key(WALTER).development_only = None;
    scene.goes_on();

    for reason in [DevelopmentOnly::Unencrypted, DevelopmentOnly::File] {
        let mut pulled = Pulled {
            scene: Scene::new(),
            at: VecDeque::from([ROOT]),
        };
        assert!(pulled.sitting().is(Code::TokenRemoved));
        let mut scene = pulled.scene;
        scene.key(ROOT).development_only = Some(reason);
        scene.stops(Code::ProductionKey, "root-1");
        assert!(!scene.directory.path().join("first.ampr").exists());
        scene.key(ROOT).development_only = None;
        scene.goes_on();
    }
}
