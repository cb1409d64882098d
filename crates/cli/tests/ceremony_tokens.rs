//! `ampoule ceremony` with keys in tokens: the rehearsal of the documentation, power cuts, people's mistakes.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::Desk;
use common::tokens::{self, PIN};
use serde_json::Value;

const SCRIPT: &str = include_str!("../../../docs/ceremony/tokens.toml");
const ANSWERS: &str = include_str!("../../../docs/ceremony/tokens-answers.toml");
const RUN: &str = "ceremony run script.toml --answers answers.toml --passphrase-file pass";
const RECORD: &str = "script.record.jsonl";
const TOKENS: [&str; 4] = ["root-1", "root-2", "root-3", "work"];

fn desk_with(script: &str, answers: &str, tokens: &[&str]) -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("script.toml"), script).unwrap();
    fs::write(desk.path("answers.toml"), answers).unwrap();
    desk.with_tokens(tokens);
    for name in ["release.pub", "image.pub"] {
        let key = keys::file::generate(keys::SignatureAlgorithm::Ed25519).unwrap();
        fs::write(desk.path(name), keys::Signer::public_key(&key).to_pem()).unwrap();
    }
    desk
}

/// The whole entries; a kill may have left a torn one behind them.
fn record(desk: &Desk) -> Vec<Value> {
    let text = fs::read_to_string(desk.path(RECORD)).unwrap();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The results of the steps whose id starts like this.
fn results(desk: &Desk, step: &str) -> Vec<Value> {
    let entries = record(desk).into_iter();
    let done = entries.filter(|entry| entry["kind"] == "done" && entry["step"].as_str().unwrap().starts_with(step));
    done.map(|entry| entry["result"].clone()).collect()
}

/// Public keys per token, as `ampoule key list` finds them.
fn keys_in_tokens(desk: &Desk) -> Vec<String> {
    let listed = desk.ampoule("key list --json").json();
    let tokens = listed["tokens"].as_array().unwrap().iter();
    let ids = tokens.flat_map(|token| token["keys"].as_array().unwrap().iter());
    let mut ids: Vec<String> = ids.map(|key| key["key_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Every step was done once, the tokens hold the keys of the record and no further one, and the record verifies.
fn assert_whole(desk: &Desk) {
    let script: toml::Table = fs::read_to_string(desk.path("script.toml")).unwrap().parse().unwrap();
    assert_eq!(results(desk, "").len(), script["step"].as_array().unwrap().len());
    let made = results(desk, "generate");
    let made = made.iter().filter(|result| result["token"].is_object());
    let mut recorded: Vec<&str> = made.map(|result| result["key_id"].as_str().unwrap()).collect();
    recorded.sort();
    assert_eq!(keys_in_tokens(desk), recorded);
    let verified = desk.ampoule(&format!("ceremony verify {RECORD} --json")).json();
    assert_eq!(verified["finished"], true);
    let shown = desk.ampoule("trust show demo.ampr --json").json();
    assert_eq!(shown["own threshold"], "reached: enough of its own root keys signed it");
}

fn finish(desk: &Desk) {
    while !desk.ampoule(RUN).ok().contains("finished") {}
    assert_whole(desk);
}

#[test]
fn the_rehearsal_with_tokens_of_the_documentation() {
    if !tokens::is_there() {
        return;
    }
    let desk = desk_with(SCRIPT, ANSWERS, &TOKENS);
    let mut seen = String::new();
    for end in ["pauses", "finished"] {
        let ran = desk.ampoule(RUN);
        assert!(ran.ok().contains(end));
        seen.push_str(&(ran.ok() + &ran.stderr()));
    }
    assert_whole(&desk);
    for token in results(&desk, "token") {
        let Value::Object(facts) = &token["token"] else {
            continue;
        };
        assert_eq!(
            facts["uri"],
            format!("pkcs11:token={}", facts["label"].as_str().unwrap())
        );
        assert_eq!(
            (&facts["firmware"], facts["serial"].as_str().unwrap().len()),
            (&"2.6".into(), 16)
        );
        assert!(token["mechanisms"].as_array().unwrap().contains(&"CKM_ECDSA".into()));
        assert!(token["random"]["longest_run"].as_u64().unwrap() < 6, "{token}");
    }
    for made in results(&desk, "generate")
        .iter()
        .filter(|made| made["token"].is_object())
    {
        let uri = made["key"].as_str().unwrap().split('?').next().unwrap();
        assert_eq!(
            desk.ampoule(&format!("key show {uri} --json")).json()["key_id"],
            made["key_id"]
        );
        let protection = made["protection"].as_object().unwrap();
        assert!(
            protection.len() == 5 && protection.values().all(|is| *is == true),
            "{made}"
        );
        assert_eq!(
            (
                made["cka_id"].as_str().unwrap().len(),
                &made["made_before_an_interruption"]
            ),
            (4, &false.into())
        );
    }
    for file in [RECORD, "script.record.html", "journal.jsonl"] {
        seen.push_str(&fs::read_to_string(desk.path(file)).unwrap());
    }
    assert!(!seen.contains(PIN) && !seen.contains(common::PASSPHRASE) && !seen.contains("PRIVATE"));
    assert!(seen.contains("the third token was in the wrong envelope"));
}

#[test]
fn every_changed_byte_of_such_a_record_is_found() {
    if !tokens::is_there() {
        return;
    }
    let desk = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    finish(&desk);
    let whole = fs::read(desk.path(RECORD)).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut bent = whole.clone();
        bent[at] = if bent[at] == b'1' { b'2' } else { b'1' };
        let error = release::ceremony::verify::verify(&bent, None).unwrap_err();
        assert!(error.is(keys::Code::CeremonyRecord), "{at}: {error}");
    }
    // Whoever writes "protected" where it was not has to sign the record anew.
    let text = String::from_utf8(whole).unwrap();
    fs::write(
        desk.path("bent.jsonl"),
        text.replace("\"sensitive\":true", "\"sensitive\":false"),
    )
    .unwrap();
    desk.ampoule("ceremony verify bent.jsonl").fails(2082);
}

/// The rehearsal with two tokens, whose keys sign the root, in one sitting; release and image keys are there already.
fn short() -> String {
    let mut script: toml::Table = SCRIPT.parse().unwrap();
    let steps = script["step"].as_array_mut().unwrap();
    let text = |step: &toml::Value, name: &str| {
        step.get(name)
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let left_out = ["backup", "drill", "destroy", "pause", "note", "statement"];
    steps.retain(|step| !left_out.contains(&text(step, "kind").as_str()));
    steps.retain(|step| {
        let names = text(step, "uri") + &text(step, "key");
        !["root-3", "work", "spare"]
            .iter()
            .any(|left_out| names.contains(left_out))
    });
    let root = steps.iter_mut().find(|step| text(step, "kind") == "root").unwrap();
    let roles = root["roles"].as_table_mut().unwrap();
    roles["root"]["keys"].as_array_mut().unwrap().truncate(2);
    for role in ["release", "image"] {
        roles[role]["keys"] = vec![format!("{role}.pub")].into();
    }
    toml::to_string(&script).unwrap()
}

/// Lets the kernel kill the program as soon as the record would grow beyond `limit` bytes.
fn run_until(desk: &Desk, limit: usize) -> bool {
    let mut command = Command::new("prlimit");
    command.args([&format!("--fsize={limit}"), "--core=0", env!("CARGO_BIN_EXE_ampoule")]);
    command.args(RUN.split_whitespace());
    let status = desk
        .equip(&mut command)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("prlimit (util-linux)").success()
}

/// Killed after every entry: resumed, it is one whole ceremony. Where the kill came between the making of a key and its
/// entry, the key is found by the id that was announced, and the record says so.
#[cfg(target_os = "linux")]
#[test]
fn killed_after_every_entry_and_resumed_no_key_is_made_twice() {
    if !tokens::is_there() {
        return;
    }
    let reference = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    finish(&reference);
    let text = fs::read_to_string(reference.path(RECORD)).unwrap();
    // A few bytes behind each entry: what the tests of random numbers count has one digit or two.
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + SLACK_BYTES).collect();
    let cuts = &ends[..ends.len() - 1];
    assert!(cuts.len() > 25, "{}", cuts.len());
    let adopted: usize = std::thread::scope(|scope| {
        let halves = cuts.chunks(cuts.len().div_ceil(2));
        let halves: Vec<_> = halves
            .map(|half| scope.spawn(move || half.iter().map(cut_and_resume).sum::<usize>()))
            .collect();
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert_eq!(adopted, 2, "each of the two keys was once made and not yet entered");
}

/// How much longer a record may be than another of the same script; far less than an entry.
const SLACK_BYTES: usize = 16;

/// How many keys the resumed ceremony found made already.
fn cut_and_resume(cut: &usize) -> usize {
    let desk = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    assert!(!run_until(&desk, *cut));
    let left = fs::read(desk.path(RECORD)).unwrap();
    assert!(left.len() <= *cut);
    finish(&desk);
    let made = results(&desk, "generate");
    made.iter()
        .filter(|made| made["made_before_an_interruption"] == true)
        .count()
}

/// A desk on which the ceremony stopped with this number, and its error's text.
fn stopped(desk: &Desk, number: u16) -> String {
    let said = desk.ampoule(RUN).fails(number);
    let entries = record(desk);
    let last = entries.last().unwrap();
    assert_eq!((&last["kind"], &last["number"]), (&"stopped".into(), &number.into()));
    assert!(!said.contains(PIN));
    said
}

#[test]
fn a_missing_token_and_a_wrong_pin_stop_it_and_nothing_is_lost() {
    if !tokens::is_there() {
        return;
    }
    let desk = desk_with(&short(), ANSWERS, &["root-1"]);
    stopped(&desk, 2033);
    desk.new_token("root-2", PIN);
    fs::write(desk.path("pin"), "314159").unwrap();
    let said = stopped(&desk, 2037);
    assert!(said.contains("few are left") && !said.contains("314159"), "{said}");
    fs::remove_file(desk.path("pin")).unwrap();
    stopped(&desk, 2039);
    assert_eq!(keys_in_tokens(&desk), [""; 0]);
    fs::write(desk.path("pin"), PIN).unwrap();
    finish(&desk);
    assert!(!fs::read_to_string(desk.path(RECORD)).unwrap().contains("314159"));
}

/// Without `pin-source` in the script the PIN comes from where the command says, and goes to one token only.
#[test]
fn a_pin_of_the_command_serves_one_token() {
    if !tokens::is_there() {
        return;
    }
    let two = short().replace("?pin-source=file:pin", "");
    let desk = desk_with(&two, ANSWERS, &["root-1", "root-2"]);
    let run = format!("{RUN} --pin-file pin");
    desk.ampoule(&run).fails(2047);
    assert!(keys_in_tokens(&desk).len() <= 1);

    let mut one: toml::Table = two.parse().unwrap();
    let names = |step: &toml::Value, name: &str| step.get(name).is_some_and(|text| text.to_string().contains("root-2"));
    let steps = one["step"].as_array_mut().unwrap();
    steps.retain(|step| !names(step, "uri") && !names(step, "key"));
    let root = steps.iter_mut().find(|step| step.get("roles").is_some()).unwrap();
    root["sign"].as_array_mut().unwrap().truncate(1);
    root["roles"]["root"]["keys"].as_array_mut().unwrap().truncate(1);
    root["roles"]["root"]["threshold"] = 1.into();
    let desk = desk_with(&toml::to_string(&one).unwrap(), ANSWERS, &["root-1"]);
    desk.ampoule(&run).ok();
    assert_whole(&desk);
    let record = fs::read_to_string(desk.path(RECORD)).unwrap();
    assert!(!record.contains(PIN) && !record.contains("pin-source"), "{record}");
}

#[test]
fn a_token_that_holds_a_key_of_that_name_already_stops_it() {
    if !tokens::is_there() {
        return;
    }
    let desk = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    let new = "key new pkcs11:token=root-2;object=root-2 --type p256 --pin-file pin";
    desk.ampoule(new).ok();
    let before = keys_in_tokens(&desk);
    stopped(&desk, 2043);
    assert!(before.iter().all(|key| keys_in_tokens(&desk).contains(key)));
    desk.delete_object("root-2", "privkey", "root-2");
    desk.delete_object("root-2", "pubkey", "root-2");
    finish(&desk);
}

#[test]
fn another_token_in_the_place_of_one_stops_it() {
    if !tokens::is_there() {
        return;
    }
    // Another token of the same name, before its key is made; and again before it signs.
    for cut in ["\"step\":\"generate-2\"", "\"step\":\"root-1\""] {
        let desk = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
        let reference = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
        finish(&reference);
        let text = fs::read_to_string(reference.path(RECORD)).unwrap();
        let begins = text.lines().position(|line| line.contains(cut)).unwrap();
        let limit: usize = text.lines().take(begins).map(|line| line.len() + 1).sum();
        assert!(!run_until(&desk, limit + SLACK_BYTES));
        let own = desk.path("tokens");
        fs::rename(&own, desk.path("kept")).unwrap();
        fs::create_dir(&own).unwrap();
        desk.new_token("root-1", PIN);
        desk.new_token("root-2", PIN);
        let said = stopped(&desk, 2078);
        assert!(
            said.contains("where the record has the token with the serial number"),
            "{said}"
        );
        assert_eq!(keys_in_tokens(&desk), [""; 0], "nothing was made in the wrong token");
        fs::remove_dir_all(&own).unwrap();
        fs::rename(desk.path("kept"), &own).unwrap();
        finish(&desk);
    }
}

#[test]
fn a_token_with_another_serial_number_than_the_script_demands_stops_it() {
    if !tokens::is_there() {
        return;
    }
    let script = short().replacen("kind = \"token\"", "kind = \"token\"\nserial = \"00\"", 1);
    let desk = desk_with(&script, ANSWERS, &["root-1", "root-2"]);
    let said = stopped(&desk, 2085);
    assert!(said.contains("has the serial number 00"), "{said}");
}

#[test]
fn another_key_in_the_same_token_stops_it() {
    if !tokens::is_there() {
        return;
    }
    let desk = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    let reference = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    finish(&reference);
    let text = fs::read_to_string(reference.path(RECORD)).unwrap();
    let begins = text
        .lines()
        .position(|line| line.contains("\"step\":\"export-1\""))
        .unwrap();
    let limit: usize = text.lines().take(begins).map(|line| line.len() + 1).sum();
    assert!(!run_until(&desk, limit + SLACK_BYTES));
    desk.delete_object("root-1", "privkey", "root-1");
    desk.delete_object("root-1", "pubkey", "root-1");
    desk.ampoule("key new pkcs11:token=root-1;object=root-1 --type p256 --pin-file pin")
        .ok();
    let said = stopped(&desk, 2078);
    assert!(said.contains("the key that was made here has"), "{said}");
    assert!(!desk.path("public/root-1.pub").exists() && !desk.path("demo.ampr").exists());
}

/// A ceremony that was killed after it made its first key and before the entry that says so.
fn killed_behind_the_first_key() -> Desk {
    let reference = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    finish(&reference);
    let text = fs::read_to_string(reference.path(RECORD)).unwrap();
    let is_done = |line: &str| line.contains("\"kind\":\"done\"") && line.contains("\"step\":\"generate-1\"");
    let done = text.lines().position(is_done).unwrap();
    let limit: usize = text.lines().take(done).map(|line| line.len() + 1).sum();
    let desk = desk_with(&short(), ANSWERS, &["root-1", "root-2"]);
    assert!(!run_until(&desk, limit + SLACK_BYTES));
    assert_eq!(keys_in_tokens(&desk).len(), 1);
    desk
}

/// A stranger's key where the interrupted attempt would have made its own, and half of a pair.
#[test]
fn what_an_interrupted_attempt_did_not_make_is_never_taken() {
    if !tokens::is_there() {
        return;
    }
    let desk = killed_behind_the_first_key();
    desk.delete_object("root-1", "privkey", "root-1");
    let said = stopped(&desk, 2087);
    assert!(said.contains("half of") && said.contains("--delete-object"), "{said}");
    desk.delete_object("root-1", "pubkey", "root-1");
    desk.ampoule("key new pkcs11:token=root-1;object=root-1;id=%00%00%00 --type p256 --pin-file pin")
        .ok();
    let said = stopped(&desk, 2087);
    assert!(said.contains("is there with the id 000000"), "{said}");
    desk.delete_object("root-1", "privkey", "root-1");
    desk.delete_object("root-1", "pubkey", "root-1");
    finish(&desk);

    let other_half = killed_behind_the_first_key();
    other_half.delete_object("root-1", "pubkey", "root-1");
    stopped(&other_half, 2087);
}

/// A key that was put into the token from outside is no key of a ceremony.
#[test]
fn a_key_from_outside_under_the_announced_id_is_refused() {
    if !tokens::is_there() {
        return;
    }
    let desk = killed_behind_the_first_key();
    let about = record(&desk)
        .into_iter()
        .rfind(|entry| entry["kind"] == "about")
        .unwrap();
    let id = about["about"]["cka_id"].as_str().unwrap().to_owned();
    desk.delete_object("root-1", "privkey", "root-1");
    desk.delete_object("root-1", "pubkey", "root-1");
    let made = desk.with_token_tool(
        "openssl",
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            "outside.pem",
        ],
    );
    assert!(made.status.success());
    let import = [
        "--import",
        "outside.pem",
        "--token",
        "root-1",
        "--label",
        "root-1",
        "--id",
        &id,
        "--pin",
        PIN,
    ];
    assert!(desk.with_token_tool("softhsm2-util", &import).status.success());
    let said = stopped(&desk, 2022);
    assert!(said.contains("not made in the token"), "{said}");
}
