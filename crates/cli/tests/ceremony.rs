//! `ampoule ceremony`: the rehearsal of the documentation with the real program, power cuts, and people's mistakes.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use common::{Desk, Ran};
use keys::SignatureAlgorithm::Ed25519;
use serde_json::Value;

const SCRIPT: &str = include_str!("../../../docs/ceremony/rehearsal.toml");
const ANSWERS: &str = include_str!("../../../docs/ceremony/rehearsal-answers.toml");
const RUN: &str = "ceremony run script.toml --answers answers.toml --passphrase-file pass";
const RECORD: &str = "script.record.jsonl";
const DESTROYED: &str = "keys/root-1.pem";

fn desk_with(script: &str, answers: &str) -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("script.toml"), script).unwrap();
    fs::write(desk.path("answers.toml"), answers).unwrap();
    desk
}

fn desk() -> Desk {
    desk_with(SCRIPT, ANSWERS)
}

/// A desk on which the rehearsal is over: two sittings, because of its break.
fn finished() -> Desk {
    let desk = desk();
    assert!(desk.ampoule(RUN).ok().contains("pauses"));
    assert!(desk.ampoule(RUN).ok().contains("finished"));
    desk
}

fn record(desk: &Desk) -> Vec<Value> {
    let text = fs::read_to_string(desk.path(RECORD)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn results(desk: &Desk) -> Vec<(String, Value)> {
    let done = record(desk).into_iter().filter(|entry| entry["kind"] == "done");
    done.map(|entry| (entry["step"].as_str().unwrap().to_owned(), entry["result"].clone()))
        .collect()
}

/// The whole ceremony happened once: every step is done once, the keys in the record are those on the disk and nothing
/// else is there, and the record verifies.
fn assert_whole(desk: &Desk) {
    let script: toml::Table = fs::read_to_string(desk.path("script.toml")).unwrap().parse().unwrap();
    let results = results(desk);
    let steps: BTreeSet<&str> = results.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(results.len(), steps.len());
    assert_eq!(results.len(), script["step"].as_array().unwrap().len());
    let made = results.iter().filter(|(step, _)| step.starts_with("generate"));
    let made: Vec<(&str, &str)> = made
        .map(|(_, result)| (result["key"].as_str().unwrap(), result["key_id"].as_str().unwrap()))
        .collect();
    for (file, key_id) in made.iter().filter(|(file, _)| *file != DESTROYED) {
        assert_eq!(
            desk.ampoule(&format!("key show {file} --json")).json()["key_id"],
            *key_id,
            "{file}"
        );
    }
    assert!(!desk.path(DESTROYED).exists());
    assert_eq!(
        fs::read_dir(desk.path("keys")).unwrap().count(),
        made.len() - 1,
        "no further key"
    );
    assert_eq!(fs::read_dir(desk.path("safe")).unwrap().count(), 4);
    let verified = desk.ampoule(&format!("ceremony verify {RECORD} --json")).json();
    assert_eq!(verified["finished"], true);
    assert_eq!(verified["signed_by"].as_array().unwrap().len(), 4);
    assert_eq!(verified["files_absent"].as_array().unwrap().len(), 0);
}

#[test]
fn the_rehearsal_of_the_documentation() {
    let desk = finished();
    assert_whole(&desk);
    let shown = desk.ampoule("trust show demo.ampr --json").json();
    assert_eq!(shown["own threshold"], "reached: enough of its own root keys signed it");
    // The destroyed key comes back from its shares, which is why it could be destroyed.
    desk.ampoule(
        "backup restore safe/backup.ampb --share safe/share-1-of-3.txt --share safe/share-2-of-3.txt -o again \
         --passphrase-file pass",
    )
    .ok();
    let again = desk.ampoule("key show again --json").json();
    assert_eq!(again["key_id"], results(&desk)[3].1["key_id"]);
    // The root, four transcripts and a drill.
    assert_eq!(
        fs::read_to_string(desk.path("journal.jsonl"))
            .unwrap()
            .matches("\"record\"")
            .count(),
        5
    );
    // A further call changes nothing.
    let before = fs::read(desk.path(RECORD)).unwrap();
    assert!(desk.ampoule(RUN).ok().contains("finished"));
    assert_eq!(fs::read(desk.path(RECORD)).unwrap(), before);
}

#[test]
fn no_secret_is_in_the_record_or_on_the_screen() {
    let desk = desk();
    let mut seen = String::new();
    for _ in 0..2 {
        let ran = desk.ampoule(RUN);
        seen.push_str(&ran.ok());
        seen.push_str(&ran.stderr());
    }
    seen.push_str(&fs::read_to_string(desk.path(RECORD)).unwrap());
    seen.push_str(&fs::read_to_string(desk.path("script.record.html")).unwrap());
    assert!(!seen.contains(common::PASSPHRASE));
    assert!(!seen.contains("PRIVATE"));
    for number in 1..=3 {
        let sheet = fs::read_to_string(desk.path(&format!("safe/share-{number}-of-3.txt"))).unwrap();
        let share = sheet.split("SHARE-----\n").nth(1).unwrap();
        let groups = share.split(['-', '\n']).filter(|group| group.len() == 6).skip(4);
        for group in groups.take(10) {
            assert!(!seen.contains(group), "{group}");
        }
    }
}

/// Every byte of the record at a stride that no line is a multiple of, and every first and last byte of every member.
#[test]
fn every_changed_byte_of_the_record_is_found() {
    let desk = finished();
    let whole = fs::read(desk.path(RECORD)).unwrap();
    let path = desk.path("changed.jsonl");
    let members = whole
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair == b"\":" || pair == b",\"");
    let edges = members.flat_map(|(at, _)| [at.saturating_sub(1), at + 2]);
    let places: BTreeSet<usize> = (0..whole.len())
        .step_by(101)
        .chain(edges)
        .filter(|at| *at < whole.len())
        .collect();
    assert!(places.len() > 1000, "{}", places.len());
    for at in places {
        let mut bent = whole.clone();
        bent[at] = if bent[at] == b'1' { b'2' } else { b'1' };
        let bent = String::from_utf8_lossy(&bent).into_owned();
        let error = release::ceremony::verify::verify(bent.as_bytes(), None).unwrap_err();
        let entry = whole[..at].iter().filter(|byte| **byte == b'\n').count();
        let named = error.what.starts_with(&format!("entry {entry} "));
        assert!(error.is(keys::Code::CeremonyRecord) && named, "{at}: {error}");
    }
    fs::write(
        &path,
        whole[..whole.len() - 1]
            .iter()
            .chain(b" \n")
            .copied()
            .collect::<Vec<u8>>(),
    )
    .unwrap();
    desk.ampoule("ceremony verify changed.jsonl").fails(2082);
}

/// Somebody who changes an entry and makes the whole chain anew has no participant's key.
#[test]
fn a_chain_made_anew_is_found_by_its_signatures() {
    let desk = finished();
    let rechained = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut entries = record(&desk);
        change(&mut entries);
        fs::write(desk.path("forged.jsonl"), chain(entries)).unwrap();
        desk.ampoule("ceremony verify forged.jsonl")
    };
    rechained(&|_| ()).ok();
    let said = rechained(&|entries| entries[2]["text"] = "Dora was on time.".into()).fails(2082);
    assert!(said.contains("Ada Lindqvist signed something else"), "{said}");
    rechained(&|entries| entries[5]["time"] = 1.into()).fails(2082);
    rechained(&|entries| drop(entries.remove(7))).fails(2082);
    rechained(&|entries| drop(entries.pop())).fails(2088);
    rechained(&|entries| entries.truncate(20)).fails(2088);
    rechained(&|entries| entries.swap(9, 12)).fails(2082);
    rechained(&|entries| {
        let last = entries.last().unwrap().clone();
        entries.push(last);
    })
    .fails(2082);
    for member in ["participant", "name", "part", "signed_at", "transcript"] {
        rechained(&|entries| entries.last_mut().unwrap()["statement"][member] = "x".into()).fails(2082);
    }
    let script = |entries: &mut Vec<Value>| entries[0]["script"]["text"] = SCRIPT.replace("2,", "1,").into();
    rechained(&script).fails(2082);
}

/// Nobody's key is needed to write a record that nobody signed: it must not pass for a ceremony.
#[test]
fn a_record_without_signatures_is_no_ceremony_whatever_it_says() {
    let desk = finished();
    let forged = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut entries = record(&desk);
        entries.retain(|entry| entry["kind"] != "signature");
        change(&mut entries);
        fs::write(desk.path("forged.jsonl"), chain(entries)).unwrap();
        desk.ampoule("ceremony verify forged.jsonl")
    };
    let done = |entries: &[Value], step: &str| {
        let is_it = |entry: &Value| entry["kind"] == "done" && entry["step"] == step;
        entries.iter().position(is_it).expect("the step was done")
    };
    assert!(
        forged(&|_| ())
            .fails(2088)
            .contains("not signed by Ada Lindqvist, Carlos Meyer")
    );
    for (present, said) in [
        (serde_json::json!([]), "does not say who was present"),
        (Value::Null, "does not say who was present"),
        (
            serde_json::json!(["ada", "ada", "carlos", "dora", "walter"]),
            "does not say who was present",
        ),
        (
            serde_json::json!(["ada", "carlos", "dora", "zoe"]),
            "does not say who was present",
        ),
        (
            serde_json::json!(["walter"]),
            "0 of administrator were present, 1 had to be",
        ),
        (
            serde_json::json!(["ada", "carlos", "walter"]),
            "1 of custodian were present, 2 had to be",
        ),
    ] {
        let change = |entries: &mut Vec<Value>| {
            let at = done(entries, "presence-1");
            entries[at]["result"]["present"] = present.clone();
        };
        let found = forged(&change).fails(2082);
        assert!(found.contains(said), "{found}");
    }
    // Another step does not say who was there.
    let elsewhere = |entries: &mut Vec<Value>| {
        let at = done(entries, "note-1");
        entries[at]["result"]["present"] = serde_json::json!([]);
    };
    forged(&elsewhere).fails(2088);
    // A step that says nothing, or something else than the script told it to do.
    let steps: Vec<String> = results(&desk).into_iter().map(|(step, _)| step).collect();
    for step in &steps {
        let found = forged(&|entries| {
            let at = done(entries, step);
            entries[at]["result"] = serde_json::json!({});
        });
        found.fails(2082);
    }
    // The root of somebody else, verified and described as it is.
    let other = finished();
    let (_, theirs) = results(&other).into_iter().find(|(step, _)| step == "root-1").unwrap();
    let found = forged(&|entries| {
        let at = done(entries, "root-1");
        entries[at]["result"] = theirs.clone();
    });
    assert!(found.fails(2082).contains("no result of step root-1"));
    for (member, other) in [
        ("version", Value::from(2)),
        ("environment", "production".into()),
        ("file", "x".into()),
    ] {
        forged(&|entries| {
            let at = done(entries, "root-1");
            entries[at]["result"][member] = other.clone();
        })
        .fails(2082);
    }
}

/// Entries as lines with numbers, hashes and chain made anew, as an attacker would.
fn chain(entries: Vec<Value>) -> String {
    let mut head = "0".repeat(64);
    let mut text = String::new();
    for (at, mut entry) in entries.into_iter().enumerate() {
        entry["n"] = at.into();
        entry["prev"] = head.into();
        entry.as_object_mut().unwrap().remove("hash");
        let canonical = release::ceremony::record::canonical(&entry);
        head = release::hex::text(&trust::Sha256::of(canonical.as_bytes()));
        entry["hash"] = head.clone().into();
        text.push_str(&release::ceremony::record::canonical(&entry));
        text.push('\n');
    }
    text
}

#[test]
fn a_changed_file_beside_the_record_is_found_and_a_missing_one_is_told() {
    let desk = finished();
    fs::remove_file(desk.path("public/root-1.pub")).unwrap();
    assert!(
        desk.ampoule(&format!("ceremony verify {RECORD}"))
            .ok()
            .contains("not here   public/root-1.pub")
    );
    fs::write(desk.path("public/root-2.pub"), "another").unwrap();
    assert!(
        desk.ampoule(&format!("ceremony verify {RECORD}"))
            .fails(2089)
            .contains("public/root-2.pub")
    );
}

/// Lets the kernel kill the program (SIGXFSZ) as soon as the record would grow beyond `limit` bytes: what is left is
/// exactly that prefix of it, and everything that was done until then.
fn run_until(desk: &Desk, limit: usize) -> bool {
    let ran = Command::new("prlimit")
        .args([&format!("--fsize={limit}"), "--core=0", env!("CARGO_BIN_EXE_ampoule")])
        .args(RUN.split_whitespace())
        .current_dir(desk.directory())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("AMPOULE_JOURNAL", desk.path("journal.jsonl"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ran.expect("prlimit (util-linux)").success()
}

/// The rehearsal with each kind of step once or twice: two keys, one of which signs the root alone.
fn short() -> Desk {
    let mut script: toml::Table = SCRIPT.parse().unwrap();
    let steps = script["step"].as_array_mut().unwrap();
    let text = |step: &toml::Value, name: &str| {
        step.get(name)
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let left_out = ["keys/root-2.pem", "keys/image.pem"];
    steps.retain(|step| !left_out.contains(&text(step, "key").as_str()) || text(step, "kind") == "backup");
    let root = steps.iter_mut().find(|step| text(step, "kind") == "root").unwrap();
    root["sign"].as_array_mut().unwrap().truncate(1);
    root["roles"].as_table_mut().unwrap().remove("image");
    let own = &mut root["roles"]["root"];
    own["keys"].as_array_mut().unwrap().truncate(1);
    own["threshold"] = 1.into();
    desk_with(
        &toml::to_string(&script).unwrap(),
        &ANSWERS.replace("[generate-2]\ndora", "[generate-2]\ncarlos"),
    )
}

/// Killed at the end of every entry, and in the middle of every seventh: resumed, it is one whole ceremony, and no key
/// was made twice.
#[cfg(target_os = "linux")]
#[test]
fn killed_after_every_entry_and_resumed() {
    let reference = short();
    while !reference.ampoule(RUN).ok().contains("finished") {}
    assert_whole(&reference);
    let lines: Vec<usize> = fs::read_to_string(reference.path(RECORD))
        .unwrap()
        .lines()
        .map(|line| line.len() + 1)
        .collect();
    let ends: Vec<usize> = lines
        .iter()
        .scan(0, |end, line| {
            *end += line;
            Some(*end)
        })
        .collect();
    let torn = ends.iter().zip(&lines).step_by(7).map(|(end, line)| end - line / 2);
    let cuts: Vec<usize> = ends.iter().copied().chain(torn).collect();
    assert!(cuts.len() > 40, "{}", cuts.len());
    let (odd, even): (Vec<usize>, Vec<usize>) = cuts.iter().partition(|cut| *cut % 2 == 1);
    let torn_seen: usize = std::thread::scope(|scope| {
        let halves =
            [odd, even].map(|half| scope.spawn(move || half.into_iter().filter(|cut| cut_and_resume(*cut)).count()));
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(torn_seen > 3, "{torn_seen}");
}

/// Whether the cut was in the middle of an entry.
fn cut_and_resume(cut: usize) -> bool {
    let desk = short();
    let mut sittings = 0;
    while run_until(&desk, cut) && sittings < 2 {
        sittings += 1;
    }
    let left = fs::read(desk.path(RECORD)).unwrap();
    assert!(left.len() <= cut, "the cut at {cut} was one");
    while !desk.ampoule(RUN).ok().contains("finished") {}
    assert_whole(&desk);
    left.last().is_some_and(|byte| *byte != b'\n')
}

#[test]
fn the_record_says_that_it_was_interrupted() {
    let desk = desk();
    assert!(!run_until(&desk, 9_000));
    while !desk.ampoule(RUN).ok().contains("finished") {}
    let kinds: Vec<Value> = record(&desk).iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "resumed").count(), 2);
    assert!(
        desk.ampoule(&format!("ceremony verify {RECORD}"))
            .ok()
            .contains("resumed")
    );
}

/// A key that lies there although this ceremony did not make it is never taken and never replaced.
#[test]
fn a_stranger_key_stops_the_ceremony() {
    let desk = desk();
    fs::create_dir(desk.path("keys")).unwrap();
    desk.key("keys/root-2.pem", Ed25519);
    let before = fs::read(desk.path("keys/root-2.pem")).unwrap();
    desk.ampoule(RUN).fails(2003);
    // Put there while the ceremony was interrupted just before it made its own.
    let interrupted = self::desk();
    let until = fs::read_to_string(desk.path(RECORD)).unwrap();
    let before_the_key = until
        .find("\"kind\":\"done\",\"n\":11")
        .expect("the entry after the first key");
    let start = until[..before_the_key].rfind('\n').unwrap() + 1;
    // A few bytes more: what the machine's checks count has a digit more or less from run to run.
    assert!(!run_until(&interrupted, start + 16));
    let key = interrupted.path("keys/root-1.pem");
    let _ = fs::remove_file(&key);
    fs::create_dir_all(interrupted.path("keys")).unwrap();
    interrupted.key("keys/root-1.pem", Ed25519);
    interrupted.ampoule(RUN).fails(2087);
    assert_eq!(fs::read(desk.path("keys/root-2.pem")).unwrap(), before);
}

/// Somebody's key exchanged between two sittings: the transcript is not signed with it.
#[test]
fn a_key_of_a_participant_that_was_exchanged_signs_no_transcript() {
    let named = "name = \"Ada Lindqvist\"";
    let desk = desk_with(&changed(SCRIPT, named, &format!("{named}\nkey = \"ada.pem\"")), ANSWERS);
    desk.key("ada.pem", Ed25519);
    assert!(desk.ampoule(RUN).ok().contains("pauses"));
    fs::rename(desk.path("ada.pem"), desk.path("kept.pem")).unwrap();
    desk.key("ada.pem", Ed25519);
    let said = desk.ampoule(RUN).fails(2089);
    assert!(said.contains("the key of Ada Lindqvist is not the one"), "{said}");
    fs::rename(desk.path("kept.pem"), desk.path("ada.pem")).unwrap();
    assert!(desk.ampoule(RUN).ok().contains("finished"));
    assert_whole(&desk);
}

fn changed(script: &str, old: &str, new: &str) -> String {
    assert!(script.contains(old), "{old}");
    script.replace(old, new)
}

#[test]
fn a_script_that_changed_between_two_sittings() {
    let desk = desk();
    desk.ampoule(RUN).ok();
    let before = fs::read(desk.path(RECORD)).unwrap();
    fs::write(
        desk.path("script.toml"),
        changed(SCRIPT, "threshold = 2\nto", "threshold = 3\nto"),
    )
    .unwrap();
    desk.ampoule(RUN).fails(2081);
    assert_eq!(fs::read(desk.path(RECORD)).unwrap(), before);
    fs::write(desk.path("script.toml"), SCRIPT).unwrap();
    assert!(desk.ampoule(RUN).ok().contains("finished"));
    assert_whole(&desk);
}

#[test]
fn a_record_that_changed_between_two_sittings() {
    let desk = desk();
    desk.ampoule(RUN).ok();
    let text = fs::read_to_string(desk.path(RECORD)).unwrap();
    fs::write(desk.path(RECORD), changed(&text, "five minutes", "nine minutes")).unwrap();
    assert!(desk.ampoule(RUN).fails(2082).contains("entry 2 "));
}

/// What people do wrong stops the ceremony with its number and is in the record; mended, it goes on.
fn stops(answers: &str, number: u16) -> Ran {
    let desk = desk_with(SCRIPT, answers);
    let ran = desk.ampoule(RUN);
    ran.fails(number);
    let entries = record(&desk);
    let last = entries.last().unwrap();
    assert_eq!((&last["kind"], &last["number"]), (&"stopped".into(), &number.into()));
    fs::write(desk.path("answers.toml"), ANSWERS).unwrap();
    while !desk.ampoule(RUN).ok().contains("finished") {}
    assert_whole(&desk);
    ran
}

#[test]
fn people_who_are_absent_or_answer_wrongly() {
    let two_custodians = stops(
        &changed(ANSWERS, "carlos = \"Carlos Meyer\"", "carlos = \"absent\""),
        2083,
    );
    assert!(two_custodians.stderr().contains("1 of custodian present, 2 must be"));
    stops(
        &changed(ANSWERS, "walter = \"Walter Brandt\"", "walter = \"absent\""),
        2083,
    );
    let wrong = "[\"Wally\", \"W. Brandt\", \"me\"]";
    stops(
        &changed(ANSWERS, "walter = \"Walter Brandt\"", &format!("walter = {wrong}")),
        2084,
    );
    stops(&changed(ANSWERS, "ada = \"yes\"\nwalter", "walter"), 2086);
}

/// The wrong seals are found in the second sitting only.
#[test]
fn a_broken_seal_stops_the_second_sitting() {
    let answers = changed(
        ANSWERS,
        "found = \"A 1001, A 1002, A 1003\"",
        "found = [\"A 1001\", \"none\", \"?\"]",
    );
    let desk = desk_with(SCRIPT, &answers);
    assert!(desk.ampoule(RUN).ok().contains("pauses"));
    desk.ampoule(RUN).fails(2084);
    let text = fs::read_to_string(desk.path(RECORD)).unwrap();
    assert!(!text.contains("none\""), "a wrong answer may be a secret");
}

#[test]
fn a_script_that_makes_no_sense_does_nothing() {
    for (old, new) in [
        ("version = 1", "version = 7"),
        ("kind = \"machine\"", "kind = \"magic\""),
        ("to = \"demo.ampr\"", "to = \"../demo.ampr\""),
        ("holder = \"dora\"", "holder = \"zoe\""),
        ("custodian = 2", "custodian = 3"),
        ("root = { threshold = 2", "root = { threshold = 3"),
    ] {
        let desk = desk_with(&changed(SCRIPT, old, new), ANSWERS);
        desk.ampoule(RUN).fails(2080);
        assert!(!desk.path(RECORD).exists());
    }
    let desk = desk();
    desk.ampoule("ceremony run nothing.toml").fails(2201);
    desk.ampoule("ceremony verify script.toml").fails(2082);
    // Nobody is there to ask.
    desk.ampoule("ceremony run script.toml --passphrase-file pass")
        .fails(2208);
}

/// A production script with keys of its participants; `rest` are its steps.
fn production(desk: &Desk, rest: &str) {
    let mut script = "version = 1\ntitle = 'T'\npurpose = 'P'\nmode = 'production'\n".to_owned();
    for (id, part) in [("a", "administrator"), ("c", "custodian"), ("w", "witness")] {
        desk.key(&format!("{id}.pem"), Ed25519);
        script.push_str(&format!(
            "[[participant]]\nid = '{id}'\nname = 'N {id}'\npart = '{part}'\nkey = '{id}.pem'\n"
        ));
    }
    script.push_str("[quorum]\nwitness = 1\n[[step]]\nkind = 'presence'\n[[step]]\nkind = 'machine'\n");
    fs::write(desk.path("script.toml"), script + rest).unwrap();
    fs::write(desk.path("answers.toml"), "").unwrap();
}

#[test]
fn production_takes_no_answers_from_a_file_and_no_key_files() {
    let desk = Desk::new();
    production(&desk, "");
    desk.ampoule(RUN).fails(2086);
    assert!(!desk.path(RECORD).exists());
    production_again(
        &desk,
        "[[step]]\nkind = 'generate'\nkey = 'k.pem'\nalgorithm = 'p256'\nholder = 'c'\n",
    );
    desk.ampoule("ceremony run script.toml").fails(2080);
}

fn production_again(desk: &Desk, rest: &str) {
    let script = fs::read_to_string(desk.path("script.toml")).unwrap();
    fs::write(desk.path("script.toml"), script + rest).unwrap();
}

#[test]
fn the_printed_record_stands_alone() {
    let desk = finished();
    let page = fs::read_to_string(desk.path("script.record.html")).unwrap();
    for outside in ["http:", "https:", "<script", "<link", "src=", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let transcript = desk.ampoule(&format!("ceremony verify {RECORD} --json")).json()["transcript"].clone();
    let transcript = transcript.as_str().unwrap();
    assert!(page.contains(&transcript[..8]) && page.contains(&transcript[56..]));
    assert!(page.contains("the wall clock is two minutes slow"));
    desk.ampoule(&format!("ceremony show {RECORD} --page again.html")).ok();
    assert_eq!(fs::read_to_string(desk.path("again.html")).unwrap(), page);
}

#[test]
fn markup_in_names_stays_text() {
    let script = changed(SCRIPT, "Practice.", "<b>Practice</b> & \\\"more\\\".");
    let desk = desk_with(&script, ANSWERS);
    while !desk.ampoule(RUN).ok().contains("finished") {}
    let page = fs::read_to_string(desk.path("script.record.html")).unwrap();
    assert!(page.contains("&lt;b&gt;Practice&lt;/b&gt; &amp; &quot;more&quot;."));
}
