//! Going through a script, from wherever the record says that it stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use codec::limits::Limits;
use codec::roots::Role;
use keys::backup::{self, Backup, Share};
use keys::file::{self, LockedKey};
use keys::pkcs11::{KeyInToken, Pkcs11Uri, TokenFacts};
use keys::{Code, Content, DevelopmentOnly, Error, Job, KeyUri, Object, PublicKey, Purpose, Result, Signer};
use serde_json::{Map, Value, json};
use trust::Sha256;
use zeroize::Zeroizing;

use super::record::{Entry, Record, Writer, canonical};
use super::room::{Room, TokenLook};
use super::script::{self, Act, Mode, Part, Participant, RootStep, Script, Step, World};
use crate::board::Board;
use crate::root::safety::{self, Conditions};
use crate::root::{self, Names, RoleSpec, RootSpec};
use crate::{hex, identity, input};

/// What records of this version call themselves.
pub const FORMAT: &str = "ampoule-ceremony-v1";
/// What a signature over a transcript starts with, so that it is good for nothing else.
pub const SIGNATURE_DOMAIN: &[u8] = b"ampoule-ceremony-transcript-v1\0";
/// How often a question is asked before the ceremony stops there.
const TRIES: usize = 3;

/// How a sitting ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// At a break: the same command goes on.
    Paused,
    /// Everything is done and signed.
    Finished,
}

/// Begins a ceremony, or goes on with one whose record is at `path`.
///
/// Errors: [`Code::CeremonyScriptChanged`], [`Code::CeremonyRecord`], [`Code::CeremonyQuorum`],
/// [`Code::CeremonyAnswer`], [`Code::CeremonyAnswers`], [`Code::CeremonyCheck`], [`Code::CeremonyUncertain`], and those
/// of what the steps do. The record keeps what was done; the same call goes on.
pub fn run(script: &Script, path: &Path, room: &mut dyn Room) -> Result<Outcome> {
    if script.mode == Mode::Production && room.is_scripted() {
        return Err(Code::CeremonyAnswers.error("this script says production, and answers come from a file"));
    }
    let writer = Writer::open(path)?;
    let mut sitting = Sitting { script, writer, room };
    sitting.open()?;
    for step in &script.steps {
        if sitting.is_done(step) {
            continue;
        }
        match sitting.step(step) {
            Ok(Outcome::Finished) => {}
            Ok(Outcome::Paused) => return Ok(Outcome::Paused),
            Err(error) => return Err(sitting.stopped(&step.id, error)),
        }
    }
    match sitting.close() {
        Ok(()) => Ok(Outcome::Finished),
        Err(error) => Err(sitting.stopped("signatures", error)),
    }
}

struct Sitting<'a> {
    script: &'a Script,
    writer: Writer,
    room: &'a mut dyn Room,
}

/// What a step found when it began: how far it came in an earlier sitting.
struct Earlier {
    /// It had begun.
    begun: bool,
    /// What it wrote down just before it acted.
    about: Option<Map<String, Value>>,
}

impl Sitting<'_> {
    /// The first entry, or the one that says that the ceremony goes on.
    fn open(&mut self) -> Result<()> {
        let Some(first) = self.record().entries.first() else {
            let opening = opening(self.script, &mut *self.room)?;
            self.write("open", opening)?;
            self.room
                .say(&format!("{}\n{}", self.script.title, self.script.purpose));
            return Ok(());
        };
        let digest = hex::text(&self.script.digest());
        if first.get("script")["sha256"].as_str() != Some(digest.as_str()) {
            let what = "the script is not the one that this ceremony began with";
            return Err(Code::CeremonyScriptChanged.error(what));
        }
        if self.is_closed() {
            return Ok(());
        }
        let torn = self.record().torn.clone();
        let machine = self.room.machine()?;
        let members = json!({
            "torn_bytes": torn.len(),
            "tool": {"version": machine.tool_version, "sha256": hex::text(&machine.tool_sha256)},
        });
        self.room.say("The ceremony goes on where it stopped.");
        self.write("resumed", members)
    }

    fn record(&self) -> &Record {
        self.writer.record()
    }

    fn write(&mut self, kind: &str, members: Value) -> Result<()> {
        let Value::Object(members) = members else {
            return Err(Code::CeremonyRecord.error("an entry must have members"));
        };
        let now = self.room.now();
        self.writer.append(now, kind, members).map(|_| ())
    }

    fn is_done(&self, step: &Step) -> bool {
        self.result(&step.id).is_some()
    }

    fn result(&self, step: &str) -> Option<&Value> {
        let mut entries = self.record().entries.iter();
        entries
            .find(|entry| entry.kind() == "done" && entry.text("step") == step)
            .map(|entry| entry.get("result"))
    }

    fn is_closed(&self) -> bool {
        present(self.script, self.record())
            .iter()
            .all(|who| self.has_signed(who))
            && self.end().is_some()
    }

    fn end(&self) -> Option<&Entry> {
        self.record().entries.iter().find(|entry| entry.kind() == "end")
    }

    fn has_signed(&self, who: &Participant) -> bool {
        let mut entries = self.record().entries.iter();
        entries.any(|entry| entry.kind() == "signature" && entry.get("statement")["participant"] == who.id.as_str())
    }

    /// Writes down why it stopped. If even that fails, the first error is the one to hear about.
    fn stopped(&mut self, step: &str, error: Error) -> Error {
        let members = json!({"step": step, "number": error.number, "name": error.name, "what": error.what});
        let _ = self.write("stopped", members);
        error
    }

    fn step(&mut self, step: &Step) -> Result<Outcome> {
        let of_step = |entry: &&Entry| entry.text("step") == step.id;
        let mine: Vec<&Entry> = self.record().entries.iter().filter(of_step).collect();
        let about = mine.iter().rev().find(|entry| entry.kind() == "about");
        let earlier = Earlier {
            begun: mine.iter().any(|entry| entry.kind() == "begin"),
            about: about.and_then(|entry| entry.get("about").as_object().cloned()),
        };
        self.write(
            "begin",
            json!({"step": step.id, "act": step.act.kind(), "title": step.title, "again": earlier.begun}),
        )?;
        self.room.say(&format!("\n[{}] {}", step.id, step.title));
        let result = match &step.act {
            Act::Presence {} => self.presence(step),
            Act::Statement { text, by } => self.statement(step, text, by),
            Act::Machine {
                allow_network,
                tool_sha256,
            } => self.machine(step, allow_network.as_deref(), tool_sha256.as_deref()),
            Act::Token { uri, serial } => self.token(uri, serial.as_deref()),
            Act::Generate {
                key, algorithm, holder, ..
            } => self.generate(step, key, *algorithm, holder, &earlier),
            Act::Export { key, to } => self.export(step, key, to, &earlier),
            Act::Root(root) => self.root(step, root, &earlier),
            Act::Backup {
                key,
                shares,
                threshold,
                to,
            } => self.backup(step, key, (*shares, *threshold), to, &earlier),
            Act::Drill { backup, shares } => self.drill(backup, shares),
            Act::Verify { root } => self.verify(root),
            Act::Destroy { file, by } => self.destroy(step, file, by, &earlier),
            Act::Pause { text } => match self.pause(step, text, &earlier)? {
                Some(result) => Ok(result),
                None => return Ok(Outcome::Paused),
            },
            Act::Note { text } => self
                .ask(step, "text", text, |answer| !answer.is_empty())
                .map(|text| json!({"text": text})),
        }?;
        self.write("done", json!({"step": step.id, "result": result}))?;
        Ok(Outcome::Finished)
    }

    /// Writes down what is about to happen, so that an interruption can be told from a stranger's doing.
    fn about(&mut self, step: &Step, about: Value) -> Result<()> {
        self.write("about", json!({"step": step.id, "about": about}))
    }

    /// Asks until the answer fits, but not for ever. An answer that starts with `note:` or `incident:` goes into the
    /// record, and the question is asked again; a wrong answer does not, for it may be a secret typed at the wrong
    /// moment.
    fn ask(&mut self, step: &Step, name: &str, question: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let id = format!("{}/{name}", step.id);
        let mut tries = 0;
        while tries < TRIES {
            let answer = self.room.ask(&id, question)?;
            let answer = answer.trim();
            let remark = ["note", "incident"].into_iter().find_map(|kind| {
                let text = answer.strip_prefix(kind)?.strip_prefix(':')?;
                Some((kind, text.trim().to_owned()))
            });
            match remark {
                Some((kind, text)) => self.write(kind, json!({"step": step.id, "text": text}))?,
                None if fits(answer) => return Ok(answer.to_owned()),
                None => {
                    tries += 1;
                    self.room.say("That is not the answer that was expected.");
                }
            }
        }
        Err(Code::CeremonyAnswer.error(format!("question {id} was not answered as expected {TRIES} times")))
    }

    /// Each of these people types yes.
    fn confirmed(&mut self, step: &Step, by: &[String], question: &str) -> Result<Value> {
        let present: BTreeSet<String> = present(self.script, self.record())
            .iter()
            .map(|who| who.id.clone())
            .collect();
        for id in by {
            let who = self.script.participant(id);
            let name = who.map(|who| who.name.clone()).unwrap_or_default();
            if !present.contains(id) {
                return Err(Code::CeremonyQuorum.error(format!("{name} must confirm step {} and is absent", step.id)));
            }
            self.ask(step, id, &format!("{name}: {question} Type yes:"), |answer| {
                answer == "yes"
            })?;
        }
        Ok(json!(by))
    }

    /// Everybody present with this part.
    fn all(&self, part: Part) -> Vec<String> {
        let present = present(self.script, self.record());
        present
            .iter()
            .filter(|who| who.part == part)
            .map(|who| who.id.clone())
            .collect()
    }

    fn presence(&mut self, step: &Step) -> Result<Value> {
        let mut here = Vec::new();
        let mut counts: BTreeMap<Part, usize> = BTreeMap::new();
        for who in &self.script.participants {
            let question = format!("{} ({}): type your full name, or `absent`:", who.name, who.part.name());
            let fits = |answer: &str| answer == who.name || answer == "absent";
            if self.ask(step, &who.id, &question, fits)? == who.name {
                here.push(json!(who.id));
                *counts.entry(who.part).or_default() += 1;
            }
        }
        for (part, needed) in &self.script.quorum {
            let count = counts.get(part).copied().unwrap_or_default();
            if count < *needed {
                let what = format!("{count} of {} present, {needed} must be", part.name());
                return Err(Code::CeremonyQuorum.error(what));
            }
        }
        Ok(json!({"present": here}))
    }

    fn statement(&mut self, step: &Step, text: &str, by: &[String]) -> Result<Value> {
        self.room.say(text);
        let by = match by {
            [] => self.all(Part::Administrator),
            named => named.to_vec(),
        };
        let by = self.confirmed(step, &by, "this was read aloud and understood.")?;
        Ok(json!({"text": text, "acknowledged_by": by}))
    }

    fn machine(&mut self, step: &Step, allow_network: Option<&str>, tool_sha256: Option<&str>) -> Result<Value> {
        let machine = self.room.machine()?;
        let failed = |what: String| Err(Code::CeremonyCheck.error(what));
        if !machine.health.is_good() {
            return failed(format!("the random numbers look broken: {:?}", machine.health));
        }
        let up = machine.interfaces_up.join(", ");
        let network = match (up.is_empty(), allow_network, self.script.mode) {
            (true, ..) => "none up but loopback".to_owned(),
            (false, Some(reason), _) => format!("up: {up}; allowed by the script: {reason}"),
            (false, None, Mode::Rehearsal) => format!("up: {up}; a production ceremony would stop here"),
            (false, None, Mode::Production) => return failed(format!("the network is up: {up}")),
        };
        let tool = hex::text(&machine.tool_sha256);
        if tool_sha256.is_some_and(|expected| !expected.eq_ignore_ascii_case(&tool)) {
            return failed(format!(
                "this program is {tool}, which is not the one that the script demands"
            ));
        }
        let now = utc(self.room.now());
        self.room
            .say(&format!("program   ampoule {}, SHA-256 {tool}", machine.tool_version));
        self.room
            .say(&format!("script    SHA-256 {}", hex::text(&self.script.digest())));
        self.room.say(&format!("network   {network}"));
        self.room.say(&format!("entropy   {}", machine.entropy_source));
        self.room.say(&format!("clock     {now}"));
        let administrators = self.all(Part::Administrator);
        let by = self.confirmed(
            step,
            &administrators,
            "digests and clock were compared with paper and a watch.",
        )?;
        Ok(json!({
            "tool": {"version": machine.tool_version, "sha256": tool},
            "network": network,
            "entropy": {
                "source": machine.entropy_source,
                "longest_run": machine.health.longest_run,
                "highest_count": machine.health.highest_count,
            },
            "clock": now,
            "facts": machine.facts,
            "confirmed_by": by,
        }))
    }

    /// Looks at a token: the right one, unlocked, with a generator that is not broken; and at what is in it.
    fn token(&mut self, uri: &str, serial: Option<&str>) -> Result<Value> {
        let located = located(&*self.room, &script::uri(uri));
        let facts = self.token_of_record(&located)?;
        let failed = |what: &str| Err(Code::CeremonyCheck.error(format!("{} {what}", named(&facts))));
        if let Some(expected) = serial.filter(|expected| *expected != facts.serial) {
            return failed(&format!(
                "is not the one that the script demands, which has the serial number {expected}"
            ));
        }
        if facts.is_locked {
            return failed("is locked");
        }
        if !facts.has_pin {
            return failed("has no PIN yet");
        }
        let look = self.room.look_into_token(&located)?;
        if look.health.is_some_and(|health| !health.is_good()) {
            return failed(&format!("gives random numbers that look broken: {:?}", look.health));
        }
        self.tell_token(&facts, &look);
        let keys = look.keys.iter().map(|(label, id, public)| {
            let key_id = public.as_ref().map(|public| hex::text(&public.thumbprint()));
            json!({"label": label, "cka_id": hex::text(id), "key_id": key_id})
        });
        Ok(json!({
            "uri": uri,
            "token": token_value(&located, &facts),
            "mechanisms": facts.mechanisms,
            "wrong_pins_before": facts.had_wrong_pins,
            "keys_already_there": keys.collect::<Vec<Value>>(),
            "random": look.health.map(|health| {
                json!({"longest_run": health.longest_run, "highest_count": health.highest_count})
            }),
        }))
    }

    fn tell_token(&mut self, facts: &TokenFacts, look: &TokenLook) {
        let random = match look.health {
            Some(_) => "its random numbers do not look broken",
            None => "it has no generator that could be asked",
        };
        self.room.say(&format!(
            "{}\nmade by   {}, model {}, firmware {}, hardware {}\nhas       {} mechanisms; {random}\nholds     {} keys",
            named(facts),
            facts.manufacturer,
            facts.model,
            facts.firmware,
            facts.hardware,
            facts.mechanisms.len(),
            look.keys.len(),
        ));
        if facts.had_wrong_pins {
            self.room.say("A wrong PIN was typed since the last right one.");
        }
    }

    /// What the token behind a URI says of itself, if it is the one that the record knows there. Error:
    /// [`Code::CeremonyToken`] somebody put another one in its place.
    fn token_of_record(&mut self, uri: &KeyUri) -> Result<TokenFacts> {
        let facts = self.room.token(uri)?;
        let place = token_place(uri);
        let known = self.record().entries.iter().find_map(|entry| {
            let token = &entry.get("result")["token"];
            (token["uri"] == place.as_str()).then(|| token["serial"].as_str())?
        });
        match known {
            Some(serial) if serial != facts.serial => Err(Code::CeremonyToken.error(format!(
                "{} stands where the record has the token with the serial number {serial}",
                named(&facts)
            ))),
            _ => Ok(facts),
        }
    }

    /// Makes a key once. What an interrupted attempt left is taken if it is surely that, and nothing else ever is.
    fn generate(
        &mut self,
        step: &Step,
        key: &str,
        algorithm: script::Algorithm,
        holder: &str,
        earlier: &Earlier,
    ) -> Result<Value> {
        let uri = located(&*self.room, &script::uri(key));
        let token = match uri {
            KeyUri::Pkcs11(_) => Some(self.token_of_record(&uri)?),
            _ => None,
        };
        let holders = [holder.to_owned()];
        self.confirmed(step, &holders, &format!("I hold {key} and am about to make it."))?;
        let mut result = match &token {
            Some(token) => self.generate_in_token(step, key, &uri, algorithm, token, earlier)?,
            None => self.generate_in_file(step, key, &uri, algorithm, earlier)?,
        };
        self.room
            .say(&format!("key id    {}", result["key_id"].as_str().unwrap_or_default()));
        result["key"] = json!(key);
        result["holder"] = json!(holder);
        Ok(result)
    }

    fn generate_in_file(
        &mut self,
        step: &Step,
        key: &str,
        uri: &KeyUri,
        algorithm: script::Algorithm,
        earlier: &Earlier,
    ) -> Result<Value> {
        let found = self.room.public_key(uri);
        let (public, adopted) = match (found, &earlier.about) {
            (Ok(Some(public)), Some(about)) if text_of(about, "key_id") == Some(&hex::text(&public.thumbprint())) => {
                (public, true)
            }
            (Ok(Some(_)), Some(_)) => {
                return Err(uncertain(format!(
                    "{key} is there and is not the key that was being made"
                )));
            }
            (Ok(Some(_)), None) => return Err(Code::KeyExists.error(format!("{key} exists already"))),
            (Ok(None), _) => (self.make_file(step, uri, algorithm)?, false),
            (Err(error), Some(_)) => {
                return Err(uncertain(format!("{key} is there and cannot be read ({})", error.what)));
            }
            (Err(error), None) => return Err(error),
        };
        Ok(made(&public, adopted))
    }

    fn make_file(&mut self, step: &Step, uri: &KeyUri, algorithm: script::Algorithm) -> Result<PublicKey> {
        let path = uri
            .as_file()
            .ok_or_else(|| Code::Argument.error(format!("no key can be made at {uri}")))?;
        let passphrase = self.room.new_passphrase(uri)?;
        passphrase.check_for_new_key()?;
        let key = file::generate(algorithm.of_signer())?;
        self.about(step, json!({"key_id": hex::text(&key.public_key().thumbprint())}))?;
        make_parent(path)?;
        key.save_new(path, &passphrase)?;
        Ok(key.public_key().clone())
    }

    /// A key in a token cannot be announced by its key id, so it is announced by the CKA_ID that it will get: a key of that
    /// label and id, in that token, where there was none before, is the one.
    fn generate_in_token(
        &mut self,
        step: &Step,
        key: &str,
        uri: &KeyUri,
        algorithm: script::Algorithm,
        token: &TokenFacts,
        earlier: &Earlier,
    ) -> Result<Value> {
        let announced = earlier.about.as_ref().and_then(|about| text_of(about, "cka_id"));
        let (found, adopted) = match (self.room.public_key(uri)?, announced) {
            (Some(_), Some(id)) => (self.adopt_in_token(key, uri, id)?, true),
            (Some(_), None) => return Err(Code::TokenKeyExists.error(format!("{key} exists already"))),
            (None, announced) => {
                let was_announced = announced.is_some();
                let made = self.make_in_token(step, uri, algorithm, token);
                (made.map_err(|error| half_a_pair(key, error, was_announced))?, false)
            }
        };
        found.protection.demand(key)?;
        let mut result = made(&found.public, adopted);
        result["cka_id"] = json!(hex::text(&found.id));
        result["token"] = token_value(uri, token);
        result["protection"] = json!({
            "sensitive": found.protection.sensitive,
            "always_sensitive": found.protection.always_sensitive,
            "unextractable": found.protection.unextractable,
            "never_extractable": found.protection.never_extractable,
            "made_in_token": found.protection.made_in_token,
        });
        Ok(result)
    }

    fn make_in_token(
        &mut self,
        step: &Step,
        uri: &KeyUri,
        algorithm: script::Algorithm,
        token: &TokenFacts,
    ) -> Result<KeyInToken> {
        let mut announced = parsed(uri)?;
        let id = match announced.id.take() {
            Some(given) => given,
            // Two bytes are what every token takes.
            None => nonce::<2>()?.to_vec(),
        };
        self.about(
            step,
            json!({"key_was_absent": true, "cka_id": hex::text(&id), "serial": token.serial}),
        )?;
        announced.id = Some(id);
        self.room
            .generate_in_token(&KeyUri::Pkcs11(announced.to_full_text()), algorithm.of_signer())
    }

    /// The key that an interrupted attempt announced, if it is there as a whole.
    fn adopt_in_token(&mut self, key: &str, uri: &KeyUri, announced: &str) -> Result<KeyInToken> {
        let found = self
            .room
            .key_in_token(uri)
            .map_err(|error| half_a_pair(key, error, true))?;
        let id = hex::text(&found.id);
        if id != announced {
            let what = format!("{key} is there with the id {id}; the key that was being made would have {announced}");
            return Err(uncertain(what).advise(
                "Somebody else made that key: find out who. Give it another label or delete it with the vendor's tool, \
                 then start the same command again.",
            ));
        }
        Ok(found)
    }

    /// The public half of a key; if the record made it, that very key.
    ///
    /// Errors: [`Code::CeremonyToken`], [`Code::CeremonyFile`] another key stands in its place.
    fn public_key(&mut self, key: &str) -> Result<PublicKey> {
        let uri = located(&*self.room, &script::uri(key));
        if matches!(uri, KeyUri::Pkcs11(_)) {
            self.token_of_record(&uri)?;
        }
        let found = self.room.public_key(&uri)?;
        let found = found.ok_or_else(|| match uri {
            KeyUri::Pkcs11(_) => Code::TokenKeyMissing.error(format!("{key} does not exist")),
            _ => Code::KeyFileMissing.error(format!("{key} does not exist")),
        })?;
        self.is_of_record(key, &found)?;
        Ok(found)
    }

    fn is_of_record(&self, key: &str, found: &PublicKey) -> Result<()> {
        let id = hex::text(&found.thumbprint());
        let mut results = self.record().entries.iter().map(|entry| entry.get("result"));
        let recorded = results.find_map(|result| {
            let is_made_here = result["holder"].is_string() && result["key"] == key;
            is_made_here.then(|| result["key_id"].as_str())?
        });
        match recorded {
            Some(recorded) if recorded != id => {
                let code = match script::uri(key) {
                    KeyUri::Pkcs11(_) => Code::CeremonyToken,
                    _ => Code::CeremonyFile,
                };
                Err(code.error(format!(
                    "{key} has the key id {id}; the key that was made here has {recorded}"
                )))
            }
            _ => Ok(()),
        }
    }

    fn export(&mut self, step: &Step, key: &str, to: &str, earlier: &Earlier) -> Result<Value> {
        let public = self.public_key(key)?;
        let pem = public.to_pem();
        self.write_file(step, to, pem.as_bytes(), earlier)?;
        Ok(json!({
            "key": key,
            "key_id": hex::text(&public.thumbprint()),
            "file": to,
            "sha256": hex::text(&Sha256::of(pem.as_bytes())),
        }))
    }

    /// Writes a new file once: after an interruption a file that is what was being written is taken as it is.
    fn write_file(&mut self, step: &Step, to: &str, bytes: &[u8], earlier: &Earlier) -> Result<()> {
        let path = self.room.path(to);
        match (input::bytes(&path), &earlier.about) {
            (Ok(found), Some(about)) if Some(hex::text(&Sha256::of(&found)).as_str()) == text_of(about, "sha256") => {
                return if found == bytes {
                    Ok(())
                } else {
                    Err(uncertain(format!("{to} is there, from before")))
                };
            }
            (Ok(_), Some(_)) => return Err(uncertain(format!("{to} is there and is not what was being written"))),
            (Ok(_), None) => return Err(Code::FileExists.error(format!("{to} exists already"))),
            (Err(error), _) if error.is(Code::FileMissing) => {}
            (Err(error), _) => return Err(error),
        }
        self.about(step, json!({"file": to, "sha256": hex::text(&Sha256::of(bytes))}))?;
        make_parent(&path)?;
        write_new(&path, bytes)
    }

    fn root(&mut self, step: &Step, wanted: &RootStep, earlier: &Earlier) -> Result<Value> {
        let limits = self.limits(wanted.board.as_deref())?;
        let spec = self.root_spec(wanted)?;
        let path = self.room.path(&wanted.to);
        // A signature of a token is another one every time: what an interrupted attempt wrote is taken if it says the same.
        let found = match (input::bytes(&path), &earlier.about) {
            (Ok(found), Some(about)) if Some(hex::text(&Sha256::of(&found)).as_str()) == text_of(about, "sha256") => {
                Some(found)
            }
            (Ok(_), Some(_)) => {
                return Err(uncertain(format!(
                    "{} is there and is not what was being written",
                    wanted.to
                )));
            }
            (Ok(_), None) => return Err(Code::FileExists.error(format!("{} exists already", wanted.to))),
            (Err(error), _) if error.is(Code::FileMissing) => None,
            (Err(error), _) => return Err(error),
        };
        let content = spec.content()?;
        let bytes = match found {
            Some(found) if root::Content::read(&found, &limits).is_ok_and(|found| found == content) => found,
            Some(_) => return Err(uncertain(format!("{} is there and says something else", wanted.to))),
            None => {
                let notes = safety::check(&content, None, &self.conditions(wanted, &limits)?, &Names::default())?;
                self.room.say(&describe_root(&spec, &content));
                notes.iter().for_each(|note| self.room.say(&format!("note: {note}")));
                let administrators = self.all(Part::Administrator);
                self.confirmed(step, &administrators, "this is the root that was decided.")?;
                let bytes = self.sign_root(wanted, &content, &limits)?;
                self.write_file(
                    step,
                    &wanted.to,
                    &bytes,
                    &Earlier {
                        begun: true,
                        about: None,
                    },
                )?;
                bytes
            }
        };
        let parsed = root::verify(&bytes, &limits)?;
        self.room
            .say(&format!("root      SHA-256 {}", hex::text(&Sha256::of(&bytes))));
        Ok(json!({
            "file": wanted.to,
            "sha256": hex::text(&Sha256::of(&bytes)),
            "root": hex::text(&bytes),
            "id": identity::text(&identity::root_id(&identity::vendor_id(&spec.vendor_domain), &spec.product_line)),
            "version": parsed.version(),
            "environment": root::environment_name(parsed.environment()),
            "signed_by": wanted.sign,
            "roles": roles_of(&content),
        }))
    }

    fn sign_root(&mut self, wanted: &RootStep, content: &root::Content, limits: &Limits) -> Result<Vec<u8>> {
        let mut signers: Vec<Box<dyn Signer>> = Vec::new();
        for key in &wanted.sign {
            let public = self.public_key(key)?;
            let uri = located(&*self.room, &script::uri(key));
            let signer = self.room.signer(&uri)?;
            if *signer.public_key() != public {
                return Err(Code::CeremonyToken.error(format!("{key} changed while it was opened")));
            }
            self.admit(wanted, key, signer.development_only())?;
            signers.push(signer);
        }
        let signers: Vec<&dyn Signer> = signers.iter().map(|signer| &**signer).collect();
        root::finish(content, &signers, limits)
    }

    /// A production root is signed by keys in hardware, and lists such keys, as far as it is seen here; a file that the
    /// script spells out is the one exception. Error: [`Code::ProductionKey`].
    fn admit(&self, wanted: &RootStep, key: &str, reason: Option<DevelopmentOnly>) -> Result<()> {
        let is_spelled_out = reason == Some(DevelopmentOnly::File) && self.script.admits_file(key);
        match reason {
            Some(reason) if wanted.environment == World::Production && !is_spelled_out => Err(Code::ProductionKey
                .error(format!(
                    "{key} must neither sign a production root nor stand in it: {reason}"
                ))),
            _ => Ok(()),
        }
    }

    fn conditions(&mut self, wanted: &RootStep, limits: &Limits) -> Result<Conditions> {
        let board = wanted.board.as_deref().map(|board| Board::read(&self.room.path(board)));
        Ok(Conditions {
            limits: *limits,
            algorithms: board.transpose()?.map(|board| board.algorithms),
            now: self.room.now(),
        })
    }

    fn limits(&self, board: Option<&str>) -> Result<Limits> {
        let board = board.map(|board| Board::read(&self.room.path(board))).transpose()?;
        Ok(board.map_or(Limits::MCU, |board| board.limits))
    }

    fn root_spec(&mut self, wanted: &RootStep) -> Result<RootSpec> {
        let mut roles = Vec::new();
        for (name, of_role) in &wanted.roles {
            let role =
                script::role(name).ok_or_else(|| Code::CeremonyScript.error(format!("there is no role {name}")))?;
            let mut keys = Vec::with_capacity(of_role.keys.len());
            for key in &of_role.keys {
                keys.push(self.public_key(key)?);
                let uri = located(&*self.room, &script::uri(key));
                let reason = self.room.development_only(&uri)?;
                self.admit(wanted, key, reason)?;
            }
            roles.push(RoleSpec {
                role,
                threshold: of_role.threshold,
                keys,
            });
        }
        Ok(RootSpec {
            vendor_domain: wanted.vendor_domain.clone(),
            product_line: wanted.product_line.clone(),
            environment: wanted.environment.environment(),
            expires: wanted.expires,
            roles,
        })
    }

    fn backup(
        &mut self,
        step: &Step,
        key: &str,
        (shares, threshold): (u8, u8),
        to: &str,
        earlier: &Earlier,
    ) -> Result<Value> {
        let directory = self.room.path(to);
        let exists = directory.exists();
        if exists && earlier.about.is_none() {
            return Err(Code::FileExists.error(format!("{to} exists already")));
        }
        let backup = match (exists, &earlier.about) {
            (true, Some(about)) => whole_backup(&directory, about, (shares, threshold))?,
            _ => {
                let (backup, dealt) = self.split(key, (shares, threshold))?;
                self.about(step, json!({"directory": to, "backup_id": backup.id().to_string()}))?;
                make_parent(&directory)?;
                self.room.write_backup(&directory, &backup, &dealt)?;
                backup
            }
        };
        self.room.say(&format!(
            "backup    {}: any {threshold} of {shares} sheets in {to} restore {key}",
            backup.id()
        ));
        Ok(json!({
            "key": key,
            "key_id": hex::text(&backup.public_key().thumbprint()),
            "backup_id": backup.id().to_string(),
            "shares": shares,
            "threshold": threshold,
            "directory": to,
            "sha256": hex::text(&Sha256::of(backup.to_pem().as_bytes())),
        }))
    }

    fn split(&mut self, key: &str, (shares, threshold): (u8, u8)) -> Result<(Backup, Vec<Share>)> {
        let uri = located(&*self.room, &script::uri(key));
        let path = uri
            .as_file()
            .ok_or_else(|| Code::Argument.error(format!("{key} is no file")))?;
        let locked = LockedKey::read(path)?;
        let passphrase = locked
            .needs_passphrase()
            .then(|| self.room.passphrase(&uri))
            .transpose()?;
        backup::make(&locked.unlock(passphrase.as_ref())?, shares, threshold)
    }

    fn drill(&mut self, of: &str, files: &[String]) -> Result<Value> {
        let backup = Backup::parse(&Zeroizing::new(input::text(&self.room.path(of))?))?;
        let shares = match files {
            [] => self.room.ask_shares(&backup)?,
            files => {
                let read = files.iter().map(|file| {
                    let text = Zeroizing::new(input::text(&self.room.path(file))?);
                    Share::parse(&text)
                });
                read.collect::<Result<Vec<Share>>>()?
            }
        };
        let nonce: [u8; 32] = nonce()?;
        let statement = json!({
            "record": FORMAT,
            "backup": backup.id().to_string(),
            "nonce": hex::text(&nonce),
            "shares_used": shares.iter().map(Share::number).collect::<Vec<u8>>(),
        });
        let signature = backup.drill(&shares, canonical(&statement).as_bytes(), |key| {
            self.room.journaled(key)
        })?;
        self.room.say("The backup works: it gave back its key, in memory only.");
        Ok(json!({
            "statement": statement,
            "signature": hex::text(signature.as_cose()),
            "public_key_pem": backup.public_key().to_pem(),
        }))
    }

    fn verify(&mut self, file: &str) -> Result<Value> {
        let bytes = input::bytes(&self.room.path(file))?;
        let root = root::verify(&bytes, &Limits::MCU)?;
        self.room
            .say(&format!("{file} verifies as on a device: version {}", root.version()));
        Ok(json!({"file": file, "sha256": hex::text(&Sha256::of(&bytes)), "version": root.version()}))
    }

    fn destroy(&mut self, step: &Step, file: &str, by: &[String], earlier: &Earlier) -> Result<Value> {
        let path = self.room.path(file);
        let by = match by {
            [] => self.all(Part::Witness),
            named => named.to_vec(),
        };
        let gone = earlier.about.is_some() && !path.exists();
        if !gone {
            self.confirmed(step, &by, &format!("{file} may be destroyed for ever."))?;
            self.about(step, json!({"file": file}))?;
            overwrite_and_remove(&path)?;
        }
        Ok(json!({
            "file": file,
            "confirmed_by": by,
            "gone_before_an_interruption": gone,
            "how": "overwritten with zeros, then removed; flash media may keep old blocks",
        }))
    }

    /// The first time: seal, and end the sitting. The second time: compare the seals and go on.
    fn pause(&mut self, step: &Step, text: &str, earlier: &Earlier) -> Result<Option<Value>> {
        let sealed = earlier.about.as_ref().and_then(|about| text_of(about, "seals"));
        let Some(sealed) = sealed else {
            self.room.say(text);
            let question = "Numbers of the seals, or where everything is locked away:";
            let seals = self.ask(step, "seals", question, |answer| !answer.is_empty())?;
            self.about(step, json!({"seals": seals}))?;
            let head = self
                .record()
                .entries
                .last()
                .map(|entry| entry.hash().to_owned())
                .unwrap_or_default();
            self.room.say(&format!(
                "The ceremony pauses here. The same command goes on.\nThe record so far is {head}.\nWrite that down: it is \
                 said again when it goes on."
            ));
            return Ok(None);
        };
        let sealed = sealed.to_owned();
        let paused = self
            .record()
            .entries
            .iter()
            .rfind(|entry| entry.kind() == "about" && entry.text("step") == step.id);
        let head = paused.map(|entry| entry.hash().to_owned()).unwrap_or_default();
        self.room.say(&format!(
            "The record was {head} when it was put away: compare with what was written down."
        ));
        let question = "Numbers of the seals as you find them, before anything is opened:";
        self.ask(step, "found", question, |answer| answer == sealed)?;
        Ok(Some(json!({"seals": sealed, "found": "the same"})))
    }

    /// Everybody who was present signs the whole transcript.
    fn close(&mut self) -> Result<()> {
        if self.end().is_none() {
            let outputs = outputs(self.record());
            self.write("end", json!({"outputs": outputs}))?;
        }
        let transcript = self.end().map(|end| end.hash().to_owned()).unwrap_or_default();
        self.room.say(&format!(
            "\nThe transcript is {transcript}.\nEverybody who was present signs it."
        ));
        for who in present(self.script, self.record()) {
            if !self.has_signed(who) {
                self.sign(who, &transcript)?;
            }
        }
        Ok(())
    }

    fn sign(&mut self, who: &Participant, transcript: &str) -> Result<()> {
        let signer: Box<dyn Signer> = match &who.key {
            Some(key) => {
                let uri = located(&*self.room, &script::uri(key));
                self.room.signer(&uri)?
            }
            None => self
                .room
                .journaled(file::generate(keys::SignatureAlgorithm::Ed25519)?)?,
        };
        self.is_as_stated(who, signer.public_key())?;
        // An encrypted file will do for a person's word; what others could sign with, or what signs unasked, will not.
        let unfit = signer
            .development_only()
            .filter(|reason| *reason != DevelopmentOnly::File);
        if let Some(reason) = unfit
            && self.script.mode == Mode::Production
        {
            return Err(Code::ProductionKey.error(format!("the key of {} must not sign: {reason}", who.name)));
        }
        let statement = json!({
            "transcript": transcript,
            "participant": who.id,
            "name": who.name,
            "part": who.part.name(),
            "signed_at": self.room.now(),
            "key_made_for_this_rehearsal": who.key.is_none(),
        });
        let signed = canonical(&statement);
        let purpose = Purpose {
            object: Object::Record,
            subject: format!("ceremony \"{}\", as {}", self.script.title, who.part.name()),
            digest: Sha256::of(signed.as_bytes()),
        };
        let job = Job {
            content: Content::Message(&[SIGNATURE_DOMAIN, signed.as_bytes()]),
            purpose: &purpose,
        };
        let signature = signer.sign(&job)?;
        self.room.say(&format!("{} signed.", who.name));
        let members = json!({
            "statement": statement,
            "signature": hex::text(signature.as_cose()),
            "public_key_pem": signer.public_key().to_pem(),
        });
        self.write("signature", members)
    }
}

impl Sitting<'_> {
    /// A participant signs with the key that was stated at the beginning. Error: [`Code::CeremonyToken`],
    /// [`Code::CeremonyFile`] it is another.
    fn is_as_stated(&self, who: &Participant, found: &PublicKey) -> Result<()> {
        let open = self.record().entries.first().map(|open| open.get("participants"));
        let mut listed = open.and_then(Value::as_array).into_iter().flatten();
        let stated = listed
            .find(|value| value["id"] == who.id.as_str())
            .and_then(|value| value["public_key_pem"].as_str());
        if stated.is_none_or(|stated| stated == found.to_pem()) {
            return Ok(());
        }
        let code = match who.key.as_deref().map(script::uri) {
            Some(KeyUri::Pkcs11(_)) => Code::CeremonyToken,
            _ => Code::CeremonyFile,
        };
        Err(code.error(format!(
            "the key of {} is not the one that was stated at the beginning",
            who.name
        )))
    }
}

/// What the first entry says: the script as it is, the tool, and the keys by which people will sign.
fn opening(script: &Script, room: &mut dyn Room) -> Result<Value> {
    let machine = room.machine()?;
    let mut participants: Vec<Value> = Vec::new();
    for who in &script.participants {
        let pem = match &who.key {
            Some(key) => {
                let uri = located(room, &script::uri(key));
                let missing = || Code::KeyFileMissing.error(format!("{key}, the key of {}, does not exist", who.name));
                Some(room.public_key(&uri)?.ok_or_else(missing)?.to_pem())
            }
            None => None,
        };
        let is_anothers = |other: &Value| pem.is_some() && other["public_key_pem"].as_str() == pem.as_deref();
        if participants.iter().any(is_anothers) {
            let what = format!("the key of {} is that of somebody else here", who.name);
            return Err(Code::SameKeyTwice.error(what));
        }
        participants.push(json!({"id": who.id, "name": who.name, "part": who.part.name(), "public_key_pem": pem}));
    }
    Ok(json!({
        "format": FORMAT,
        "title": script.title,
        "mode": script.mode,
        "script": {"sha256": hex::text(&script.digest()), "text": script.text},
        "participants": participants,
        "tool": {"version": machine.tool_version, "sha256": hex::text(&machine.tool_sha256)},
        "scripted_answers": room.is_scripted(),
    }))
}

/// Who was there, by the last step that asked.
pub(super) fn present<'s>(script: &'s Script, record: &Record) -> Vec<&'s Participant> {
    let asks = |step: &str| {
        let mut steps = script.steps.iter();
        steps.any(|listed| listed.id == step && matches!(listed.act, Act::Presence {}))
    };
    let entries = record.entries.iter().rev();
    let mut lists = entries
        .filter(|entry| entry.kind() == "done" && asks(entry.text("step")))
        .map(|entry| &entry.get("result")["present"]);
    let ids: Vec<&str> = match lists.find_map(Value::as_array) {
        Some(ids) => ids.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    script
        .participants
        .iter()
        .filter(|who| ids.contains(&who.id.as_str()))
        .collect()
}

/// Files that steps wrote and that still ought to be there, with their digests.
pub(super) fn outputs(record: &Record) -> Vec<Value> {
    let done = record.entries.iter().filter(|entry| entry.kind() == "done");
    let result = |entry: &Entry| {
        let result = entry.get("result");
        let (file, sha256) = (result["file"].as_str()?, result["sha256"].as_str()?);
        Some(json!({"file": file, "sha256": sha256}))
    };
    let mut outputs: Vec<Value> = Vec::new();
    for output in done.filter_map(result) {
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    outputs
}

/// A key URI whose files are where the script's paths are: the key's, or that of a token's PIN.
fn located(room: &dyn Room, uri: &KeyUri) -> KeyUri {
    let at = |path: &Path| path.to_str().map_or_else(|| path.to_path_buf(), |path| room.path(path));
    match uri {
        KeyUri::File(path) => KeyUri::File(at(path)),
        KeyUri::Pkcs11(text) => match Pkcs11Uri::parse(text) {
            Ok(mut parsed) => {
                parsed.pin_file = parsed.pin_file.as_deref().map(at);
                KeyUri::Pkcs11(parsed.to_full_text())
            }
            // Whoever uses it says what is wrong with it.
            Err(_) => uri.clone(),
        },
        _ => uri.clone(),
    }
}

fn parsed(uri: &KeyUri) -> Result<Pkcs11Uri> {
    match uri {
        KeyUri::Pkcs11(text) => Pkcs11Uri::parse(text),
        _ => Err(Code::Argument.error(format!("{uri} names no token"))),
    }
}

/// The token of a URI, as the record names it.
fn token_place(uri: &KeyUri) -> String {
    parsed(uri).map(|uri| uri.of_token().to_string()).unwrap_or_default()
}

fn named(facts: &TokenFacts) -> String {
    format!("token {} (serial {})", facts.label, facts.serial)
}

fn token_value(uri: &KeyUri, facts: &TokenFacts) -> Value {
    json!({
        "uri": token_place(uri),
        "label": facts.label,
        "serial": facts.serial,
        "model": facts.model,
        "manufacturer": facts.manufacturer,
        "firmware": facts.firmware,
        "hardware": facts.hardware,
    })
}

/// What is said of every key that was made.
fn made(public: &PublicKey, adopted: bool) -> Value {
    json!({
        "algorithm": public.algorithm_name(),
        "key_id": hex::text(&public.thumbprint()),
        "public_key_pem": public.to_pem(),
        "made_before_an_interruption": adopted,
    })
}

/// After an interruption one half of a pair alone means that the token was cut off while it made the key.
fn half_a_pair(key: &str, error: Error, was_announced: bool) -> Error {
    let is_half = [Code::TokenKeyMissing, Code::TokenKeyExists, Code::TokenPublicMissing]
        .iter()
        .any(|code| error.is(*code));
    if !(was_announced && is_half) {
        return error;
    }
    uncertain(format!(
        "the interrupted attempt left half of {key} in the token ({})",
        error.what
    ))
    .advise(
        "Nothing was signed with it: delete the objects of that label with the vendor's tool (`pkcs11-tool --login \
         --delete-object --type privkey --label NAME`, and pubkey), then start the same command again.",
    )
}

/// The backup that an interrupted attempt wrote, if it is whole.
fn whole_backup(directory: &Path, about: &Map<String, Value>, (shares, threshold): (u8, u8)) -> Result<Backup> {
    let unsure = |what: &str| uncertain(format!("{} is there, {what}", directory.display()));
    let mut sheets = Vec::new();
    let mut backup = None;
    for entry in fs::read_dir(directory)
        .map_err(|error| unsure(&error.to_string()))?
        .flatten()
    {
        let text = Zeroizing::new(input::text(&entry.path())?);
        backup = Backup::parse(&text).ok().or(backup);
        sheets.extend(Share::parse(&text).ok());
    }
    let backup = backup.ok_or_else(|| unsure("without a backup"))?;
    let is_that = text_of(about, "backup_id") == Some(backup.id().to_string().as_str());
    if !is_that || (backup.shares(), backup.threshold()) != (shares, threshold) || sheets.len() != usize::from(shares) {
        return Err(unsure("and is not the whole backup that was being written"));
    }
    backup.check_shares(&sheets)?;
    Ok(backup)
}

fn overwrite_and_remove(path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Code::FileMissing.error(format!("{} does not exist", path.display())),
        _ => Code::FileWrite.error(format!("{} cannot be destroyed: {error}", path.display())),
    };
    let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let written = std::io::copy(&mut std::io::repeat(0).take(length), &mut file).and_then(|_| file.sync_all());
    written.and_then(|()| fs::remove_file(path)).map_err(failed)?;
    let _ = path
        .parent()
        .map(|parent| File::open(parent).and_then(|parent| parent.sync_all()));
    Ok(())
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let failed = |error| Code::FileWrite.error(format!("{} cannot be made: {error}", parent.display()));
    fs::create_dir_all(parent).map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed =
        |error: std::io::Error| Code::FileWrite.error(format!("{} cannot be written: {error}", path.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

fn describe_root(spec: &RootSpec, content: &root::Content) -> String {
    let names = |roles: &BTreeSet<Role>| {
        roles
            .iter()
            .map(|role| root::role_name(*role))
            .collect::<Vec<_>>()
            .join(" and ")
    };
    let expires = spec
        .expires
        .map_or("never expires".into(), |at| format!("expires {}", utc(at)));
    let mut text = format!(
        "product line {}, vendor {}, {}\n{expires}\na delivery needs {}, an image {}",
        spec.product_line,
        spec.vendor_domain,
        root::environment_name(spec.environment),
        names(&content.delivery_roles),
        names(&content.image_roles),
    );
    for role in &spec.roles {
        text.push_str(&format!("\n{}: {} of", root::role_name(role.role), role.threshold));
        for key in &role.keys {
            text.push_str(&format!(
                "\n  {} {}",
                key.algorithm_name(),
                hex::text(&key.thumbprint())
            ));
        }
    }
    text
}

/// Thresholds and keys by role, as the record states them.
pub(super) fn roles_of(content: &root::Content) -> Value {
    let roles = content.roles.iter().map(|(role, def)| {
        let keys: Vec<String> = def.keys.iter().map(|key| hex::text(key)).collect();
        (
            root::role_name(*role).to_owned(),
            json!({"threshold": def.threshold, "keys": keys}),
        )
    });
    Value::Object(roles.collect())
}

fn nonce<const N: usize>() -> Result<[u8; N]> {
    let mut nonce = [0; N];
    getrandom::fill(&mut nonce).map_err(|error| Code::NoEntropy.error(format!("no random bytes: {error}")))?;
    Ok(nonce)
}

/// A time for people: `2026-11-25 07:30:00 UTC`.
pub fn utc(seconds: u64) -> String {
    crate::time::utc(seconds).replace('T', " ").replace('Z', " UTC")
}

fn text_of<'v>(map: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    map.get(name).and_then(Value::as_str)
}

fn uncertain(what: String) -> Error {
    Code::CeremonyUncertain.error(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_591_800), "2026-11-25 07:30:00 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
