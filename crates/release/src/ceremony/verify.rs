//! Whether a record is what was written, years later and on another machine.

use std::collections::BTreeSet;
use std::path::Path;

use codec::limits::Limits;
use keys::{Code, Error, KeyUri, PublicKey, Result, backup};
use serde_json::Value;
use trust::{PORTABLE, Sha256};

use super::record::{Entry, Record, canonical, damaged};
use super::run::{FORMAT, SIGNATURE_DOMAIN, outputs, present, roles_of};
use super::script::{Act, Mode, Participant, RoleStep, RootStep, Script};
use crate::identity::{root_id, vendor_id};
use crate::root::Content;
use crate::{hex, input, root};

/// A record that holds, and what it says.
#[derive(Debug)]
pub struct Verified {
    /// The entries.
    pub record: Record,
    /// The script that was followed.
    pub script: Script,
    /// The hash that everybody signed, in hexadecimal.
    pub transcript: String,
    /// Names of those who signed.
    pub signed_by: Vec<String>,
    /// Whether the ceremony is over. If not, chain and content hold as far as they go.
    pub is_finished: bool,
    /// Files of the ceremony that were looked at and are unchanged.
    pub files_found: Vec<String>,
    /// Files that are not here to be looked at.
    pub files_absent: Vec<String>,
    /// What people wrote down, and where it stopped.
    pub remarks: Vec<String>,
}

/// Verifies a finished record: form, chain, script, order of the steps, digests, signatures of everybody who was
/// present, drills, the root that was made, and the files in `beside`, if they are there.
///
/// Errors: [`Code::CeremonyRecord`] with the entry; [`Code::CeremonyIncomplete`] with what is missing;
/// [`Code::CeremonyFile`]; what a script or a root is refused for.
pub fn verify(bytes: &[u8], beside: Option<&Path>) -> Result<Verified> {
    let verified = verify_so_far(bytes, beside)?;
    if verified.is_finished {
        return Ok(verified);
    }
    let missing = match missing_step(&verified.script, &verified.record) {
        Some(step) => format!("step {step} was not done"),
        None => {
            let unsigned = present(&verified.script, &verified.record);
            let names: Vec<&str> = unsigned.iter().map(|who| who.name.as_str()).collect();
            let missing: Vec<&str> = names
                .into_iter()
                .filter(|name| !verified.signed_by.iter().any(|signed| signed == name))
                .collect();
            format!("it was not signed by {}", missing.join(", "))
        }
    };
    Err(Code::CeremonyIncomplete.error(format!("the ceremony is not finished: {missing}")))
}

/// As [`verify`], but of a ceremony that may still go on.
pub fn verify_so_far(bytes: &[u8], beside: Option<&Path>) -> Result<Verified> {
    let record = Record::parse(bytes)?;
    let open = record
        .entries
        .first()
        .ok_or_else(|| damaged(0, "the record is empty"))?;
    let script = opened(open)?;
    check_order(&script, &record)?;
    for (at, entry) in record.entries.iter().enumerate() {
        check_content(at, entry)?;
        check_result(&script, &record, at, entry)?;
        check_token_key(&script, at, entry)?;
    }
    let end = record.entries.iter().position(|entry| entry.kind() == "end");
    let transcript = end
        .and_then(|at| record.entries.get(at))
        .map(|end| end.hash().to_owned())
        .unwrap_or_default();
    if let Some(at) = end {
        let stated = record.entries.get(at).map(|end| end.get("outputs").clone());
        if stated != Some(Value::Array(outputs(&record))) {
            return Err(damaged(at, "the files that it lists are not those of the steps"));
        }
    }
    let signed_by = check_signatures(&script, &record, open, &transcript)?;
    let here = present(&script, &record);
    let is_finished = !transcript.is_empty()
        && record.torn.is_empty()
        && !here.is_empty()
        && here.iter().all(|who| signed_by.contains(&who.name));
    let (files_found, files_absent) = check_files(&record, beside)?;
    Ok(Verified {
        remarks: remarks(&record),
        record,
        script,
        transcript,
        signed_by,
        is_finished,
        files_found,
        files_absent,
    })
}

fn opened(open: &Entry) -> Result<Script> {
    if open.kind() != "open" || open.text("format") != FORMAT {
        return Err(damaged(0, "it does not open a ceremony of this format"));
    }
    let text = open.get("script")["text"].as_str().unwrap_or_default();
    let script = Script::parse(text)?;
    let stated = &open.get("script")["sha256"];
    if *stated != hex::text(&script.digest()) || open.text("title") != script.title {
        return Err(damaged(0, "the digest of its script is another"));
    }
    let listed = open
        .get("participants")
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let same = |(value, who): (&Value, &Participant)| {
        value["id"] == who.id.as_str() && value["name"] == who.name.as_str() && value["part"] == who.part.name()
    };
    if listed.len() != script.participants.len() || !listed.iter().zip(&script.participants).all(same) {
        return Err(damaged(0, "its participants are not those of the script"));
    }
    let keys: Vec<&str> = listed
        .iter()
        .filter_map(|value| value["public_key_pem"].as_str())
        .collect();
    if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
        return Err(damaged(0, "two participants have one key"));
    }
    if script.mode == Mode::Production && open.get("scripted_answers") != &Value::Bool(false) {
        return Err(damaged(0, "it is of production and was answered from a file"));
    }
    Ok(script)
}

/// Steps begin, act and end in the order of the script, each ends once, and nothing follows the end but signatures.
fn check_order(script: &Script, record: &Record) -> Result<()> {
    let mut done = 0;
    let mut begun = false;
    let mut ended = false;
    for (at, entry) in record.entries.iter().enumerate() {
        let step = script.steps.get(done).map(|step| step.id.as_str());
        let of_this_step = step == Some(entry.text("step"));
        let fits = match entry.kind() {
            "open" => at == 0,
            "resumed" => at > 0,
            "stopped" => true,
            "begin" => of_this_step && !ended,
            "about" | "note" | "incident" => of_this_step && begun && !ended,
            "done" => of_this_step && begun && !ended,
            "end" => step.is_none() && !ended,
            "signature" => ended,
            _ => false,
        };
        if !fits {
            return Err(damaged(at, &format!("`{}` does not belong here", entry.kind())));
        }
        match entry.kind() {
            "begin" => begun = true,
            "done" => (begun, done) = (false, done + 1),
            "end" => ended = true,
            _ => {}
        }
    }
    Ok(())
}

fn missing_step<'s>(script: &'s Script, record: &Record) -> Option<&'s str> {
    let done = record.entries.iter().filter(|entry| entry.kind() == "done").count();
    script.steps.get(done).map(|step| step.id.as_str())
}

/// What a step claims to have made must hold by itself.
fn check_content(at: usize, entry: &Entry) -> Result<()> {
    if entry.kind() != "done" {
        return Ok(());
    }
    let result = entry.get("result");
    let text = |name: &str| result[name].as_str().unwrap_or_default();
    let wrong = |why: String| damaged(at, &why);
    let about = |error: Error| wrong(error.to_string());
    if !text("public_key_pem").is_empty() && !text("key_id").is_empty() {
        let key = PublicKey::from_pem(text("public_key_pem")).map_err(about)?;
        if hex::text(&key.thumbprint()) != text("key_id") {
            return Err(wrong("its key id is not that of its public key".into()));
        }
    }
    if result.get("root").is_some() {
        let bytes = hex::bytes(text("root")).ok_or_else(|| wrong("its root is not hexadecimal".into()))?;
        root::verify(&bytes, &Limits::LINUX).map_err(about)?;
        if hex::text(&Sha256::of(&bytes)) != text("sha256") {
            return Err(wrong("the digest of its root is another".into()));
        }
    }
    if result.get("statement").is_some() && !text("signature").is_empty() {
        let key = PublicKey::from_pem(text("public_key_pem")).map_err(about)?;
        let signature = hex::bytes(text("signature")).unwrap_or_default();
        backup::verify_drill(&key, canonical(&result["statement"]).as_bytes(), &signature).map_err(about)?;
    }
    Ok(())
}

/// What a step says of itself is what the script told it to do, and all that such a step says is there.
fn check_result(script: &Script, record: &Record, at: usize, entry: &Entry) -> Result<()> {
    let act = match act_of(script, entry.text("step")) {
        Some(act) if entry.kind() == "done" => act,
        _ => return Ok(()),
    };
    let result = entry.get("result");
    let is = |name: &str, said: &str| result[name] == said;
    let has = |names: &[&str]| names.iter().all(|name| !result[*name].is_null());
    let fits = match act {
        Act::Presence {} => return check_presence(script, at, result),
        Act::Root(wanted) => is_root_of(record, wanted, result),
        Act::Statement { text, .. } => is("text", text) && has(&["acknowledged_by"]),
        Act::Machine { .. } => has(&["tool", "network", "entropy", "confirmed_by"]),
        Act::Token { uri, .. } => is("uri", uri) && has(&["token", "mechanisms"]),
        Act::Generate { key, holder, .. } => {
            is("key", key) && is("holder", holder) && has(&["key_id", "public_key_pem"])
        }
        Act::Export { key, to } => is("key", key) && is("file", to) && has(&["key_id", "sha256"]),
        Act::Backup { key, to, .. } => is("key", key) && is("directory", to) && has(&["key_id", "backup_id", "sha256"]),
        Act::Drill { .. } => has(&["statement", "signature", "public_key_pem"]),
        Act::Verify { root } => is("file", root) && has(&["sha256", "version"]),
        Act::Destroy { file, .. } => is("file", file) && has(&["confirmed_by"]),
        Act::Pause { .. } => has(&["seals", "found"]),
        Act::Note { .. } => has(&["text"]),
    };
    match fits {
        true => Ok(()),
        false => Err(damaged(at, &format!("it is no result of step {}", entry.text("step")))),
    }
}

/// Enough people of each part were there, each once, and the script knows them all.
fn check_presence(script: &Script, at: usize, result: &Value) -> Result<()> {
    let listed = result["present"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: BTreeSet<&str> = listed.iter().filter_map(Value::as_str).collect();
    let here: Vec<&Participant> = ids.iter().filter_map(|id| script.participant(id)).collect();
    if here.is_empty() || here.len() != listed.len() {
        return Err(damaged(at, "it does not say who was present"));
    }
    for (part, needed) in &script.quorum {
        let count = here.iter().filter(|who| who.part == *part).count();
        if count < *needed {
            let what = format!("{count} of {} were present, {needed} had to be", part.name());
            return Err(damaged(at, &what));
        }
    }
    Ok(())
}

/// The root in a result is the one that the script describes, made of the keys that the record says were made, and says
/// what the result says of it.
fn is_root_of(record: &Record, wanted: &RootStep, result: &Value) -> bool {
    let bytes = hex::bytes(result["root"].as_str().unwrap_or_default()).unwrap_or_default();
    let Ok(content) = Content::read(&bytes, &Limits::LINUX) else {
        return false;
    };
    let id = root_id(&vendor_id(&wanted.vendor_domain), &wanted.product_line);
    let is_stated = result["file"] == wanted.to.as_str()
        && result["roles"] == roles_of(&content)
        && result["version"] == content.version
        && result["environment"] == root::environment_name(content.environment)
        && result["id"] == crate::identity::text(&content.id);
    let is_wanted = content.id == id
        && content.environment == wanted.environment.environment()
        && content.expires == wanted.expires
        && content.roles.len() == wanted.roles.len();
    let made = |key: &str| {
        let results = record.entries.iter().map(|entry| entry.get("result"));
        let mut made = results.filter(|result| result["holder"].is_string() && result["key"] == key);
        made.next()
            .and_then(|result| result["key_id"].as_str().map(str::to_owned))
    };
    let holds = |(name, of_role): (&String, &RoleStep)| {
        let Some(def) = super::script::role(name).and_then(|role| content.roles.get(&role)) else {
            return false;
        };
        let ids: BTreeSet<String> = def.keys.iter().map(|id| hex::text(id)).collect();
        let made_here = of_role.keys.iter().filter_map(|key| made(key));
        def.threshold == of_role.threshold
            && ids.len() == of_role.keys.len()
            && made_here.into_iter().all(|id| ids.contains(&id))
    };
    is_stated && is_wanted && wanted.roles.iter().all(holds)
}

/// A key that the script makes in a token was found to be protected by it.
fn check_token_key(script: &Script, at: usize, entry: &Entry) -> Result<()> {
    let key = match act_of(script, entry.text("step")) {
        Some(Act::Generate { key, .. }) if entry.kind() == "done" => key,
        _ => return Ok(()),
    };
    let protection = entry.get("result")["protection"].as_object();
    let is_whole = protection.is_some_and(|attributes| attributes.values().all(|value| *value == Value::Bool(true)));
    match super::script::uri(key) {
        KeyUri::Pkcs11(_) if !is_whole => Err(damaged(at, &format!("{key} was not protected by its token"))),
        _ => Ok(()),
    }
}

/// The names of those whose signatures hold; every signature that is there must.
fn check_signatures(script: &Script, record: &Record, open: &Entry, transcript: &str) -> Result<Vec<String>> {
    let here: BTreeSet<&str> = present(script, record).iter().map(|who| who.id.as_str()).collect();
    let mut signed_by: Vec<String> = Vec::new();
    for (at, entry) in record
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.kind() == "signature")
    {
        let statement = entry.get("statement");
        let text = |name: &str| statement[name].as_str().unwrap_or_default();
        let who = script
            .participant(text("participant"))
            .filter(|who| here.contains(who.id.as_str()));
        let who = who.ok_or_else(|| damaged(at, "somebody signed who was not present"))?;
        if text("transcript") != transcript || text("name") != who.name || text("part") != who.part.name() {
            return Err(damaged(at, &format!("{} signed something else", who.name)));
        }
        if signed_by.contains(&who.name) {
            return Err(damaged(at, &format!("{} signed twice", who.name)));
        }
        check_signature(at, entry, who, open)?;
        signed_by.push(who.name.clone());
    }
    Ok(signed_by)
}

fn check_signature(at: usize, entry: &Entry, who: &Participant, open: &Entry) -> Result<()> {
    let pem = entry.text("public_key_pem");
    let listed = open
        .get("participants")
        .as_array()
        .into_iter()
        .flatten()
        .find(|value| value["id"] == who.id.as_str());
    let stated = listed.and_then(|value| value["public_key_pem"].as_str());
    if stated.is_some_and(|stated| stated != pem) || stated.is_some() != who.key.is_some() {
        return Err(damaged(
            at,
            &format!(
                "the key of {} is not the one that was stated at the beginning",
                who.name
            ),
        ));
    }
    let statement = entry.get("statement");
    if statement["key_made_for_this_rehearsal"] != Value::Bool(who.key.is_none()) {
        return Err(damaged(at, "it is wrong about whose key it is"));
    }
    let key = PublicKey::from_pem(pem).map_err(|error| damaged(at, &error.to_string()))?;
    let signature = hex::bytes(entry.text("signature")).unwrap_or_default();
    let signed = canonical(statement);
    let verifier = PORTABLE.find(key.algorithm());
    let verified =
        verifier.map(|verifier| verifier.verify(&key.borrow(), &[SIGNATURE_DOMAIN, signed.as_bytes()], &signature));
    match verified {
        Some(Ok(())) => Ok(()),
        _ => Err(damaged(at, &format!("the signature of {} does not verify", who.name))),
    }
}

/// Which of the files are there and unchanged, which are not there. Error: [`Code::CeremonyFile`].
fn check_files(record: &Record, beside: Option<&Path>) -> Result<(Vec<String>, Vec<String>)> {
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for output in outputs(record) {
        let name = output["file"].as_str().unwrap_or_default().to_owned();
        let bytes = beside.map(|folder| input::bytes(&folder.join(&name)));
        match bytes {
            Some(Ok(bytes)) if output["sha256"] == hex::text(&Sha256::of(&bytes)) => found.push(name),
            Some(Ok(_)) => return Err(Code::CeremonyFile.error(format!("{name} is not the file of the ceremony"))),
            _ => absent.push(name),
        }
    }
    Ok((found, absent))
}

fn remarks(record: &Record) -> Vec<String> {
    let remark = |entry: &Entry| {
        let step = entry.text("step");
        match entry.kind() {
            kind @ ("note" | "incident") => Some(format!("{kind} at {step}: {}", entry.text("text"))),
            "stopped" => Some(format!(
                "stopped at {step}: {} ({})",
                entry.text("what"),
                entry.get("number")
            )),
            "resumed" => Some(format!(
                "resumed; {} bytes of a torn entry were cut off",
                entry.get("torn_bytes")
            )),
            _ => None,
        }
    };
    record.entries.iter().filter_map(remark).collect()
}

/// What each step of a kind is for, for the printed record.
pub(super) fn act_of<'s>(script: &'s Script, step: &str) -> Option<&'s Act> {
    script
        .steps
        .iter()
        .find(|listed| listed.id == step)
        .map(|step| &step.act)
}
