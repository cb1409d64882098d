//! The dialogue of `ampoule ceremony run` at a real terminal, with people who type; and production, which takes nothing else.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use common::terminal::Terminal;
use common::{Desk, tokens};
use serde_json::Value;

const RECORD: &str = "script.record.jsonl";
const SECRET: &str = "a long enough passphrase of Carl";

fn kinds(desk: &Desk) -> Vec<String> {
    let text = fs::read_to_string(desk.path(RECORD)).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// A small rehearsal: a key in a file and a key in a token.
fn small(with_token: bool) -> Desk {
    let desk = Desk::new();
    let mut script = "version = 1\ntitle = 'Small'\npurpose = 'A test.'\nmode = 'rehearsal'\n\
        [[participant]]\nid = 'ada'\nname = 'Ada Lindqvist'\npart = 'administrator'\n\
        [[participant]]\nid = 'carl'\nname = 'Carl Meyer'\npart = 'custodian'\n\
        [[step]]\nkind = 'presence'\n\
        [[step]]\nkind = 'statement'\ntext = 'We make a key.'\n\
        [[step]]\nkind = 'generate'\nkey = 'a.pem'\nalgorithm = 'ed25519'\nholder = 'carl'\n"
        .to_owned();
    if with_token {
        script.push_str(
            "[[step]]\nkind = 'generate'\nkey = 'pkcs11:token=root-1;object=b'\nalgorithm = 'p256'\nholder = 'carl'\n",
        );
        desk.with_tokens(&["root-1"]);
    }
    script.push_str("[[step]]\nkind = 'note'\ntext = 'Anything else?'\n");
    fs::write(desk.path("script.toml"), script).unwrap();
    desk
}

#[test]
fn from_the_first_question_to_the_end_with_interruptions() {
    let with_token = tokens::is_there();
    let desk = small(with_token);
    // Ctrl-C at a question.
    let mut first = Terminal::start(&desk, "ceremony run script.toml");
    first.expect("Small");
    first.answer(
        "Ada Lindqvist (administrator): type your full name, or `absent`:",
        "Ada Lindqvist",
    );
    first.answer("Carl Meyer (custodian)", "note: Carl has no badge");
    first.answer("Carl Meyer (custodian)", "Carl");
    first.expect("That is not the answer that was expected.");
    first.answer("Carl Meyer (custodian)", "Carl Meyer");
    first.interrupt("this was read aloud and understood. Type yes:");
    let (status, _) = first.end();
    assert_eq!(status.signal(), Some(2), "{status:?}");
    assert_eq!(kinds(&desk), ["open", "begin", "note", "done", "begin"]);

    // Ctrl-C while a passphrase is typed: no key is made, and the terminal shows again what is typed.
    let mut second = Terminal::start(&desk, "ceremony run script.toml");
    second.expect("The ceremony goes on where it stopped.");
    second.answer("Type yes:", "yes");
    second.answer("Carl Meyer: I hold a.pem and am about to make it. Type yes:", "yes");
    second.expect("New passphrase for");
    second.wait_until_hidden();
    assert!(!second.echoes());
    second.interrupt("");
    let status = second.end().0;
    assert!(!status.success(), "{status:?}");
    assert!(!desk.path("a.pem").exists());

    let mut third = Terminal::start(&desk, "ceremony run script.toml");
    third.answer("am about to make it. Type yes:", "yes");
    third.answer_hidden("New passphrase for", SECRET);
    third.answer_hidden("The same again:", SECRET);
    third.expect("key id ");
    if with_token {
        third.answer(
            "I hold pkcs11:token=root-1;object=b and am about to make it. Type yes:",
            "yes",
        );
        third.answer_hidden("PIN of token root-1", tokens::PIN);
        third.expect("key id ");
    }
    third.answer("Anything else?", "nothing");
    third.expect("Everybody who was present signs it.");
    third.expect("Ada Lindqvist signed.");
    third.expect("Carl Meyer signed.");
    third.expect("The ceremony is finished");
    assert!(third.echoes());
    let (status, screen) = third.end();
    assert!(status.success());
    assert!(screen.contains("yes"), "what is no secret is shown");
    let record = fs::read_to_string(desk.path(RECORD)).unwrap();
    let page = fs::read_to_string(desk.path("script.record.html")).unwrap();
    for secret in [SECRET, tokens::PIN] {
        assert!(
            ![&screen, &record, &page].iter().any(|text| text.contains(secret)),
            "{secret}"
        );
    }
    assert_eq!(kinds(&desk).iter().filter(|kind| *kind == "resumed").count(), 2);
    let verified = desk.ampoule(&format!("ceremony verify {RECORD} --json")).json();
    assert_eq!(verified["finished"], true);
    assert!(verified["remarks"].to_string().contains("Carl has no badge"));
}

#[test]
fn a_wrong_pin_at_the_terminal_can_be_mended() {
    if !tokens::is_there() {
        return;
    }
    let desk = small(true);
    let script = fs::read_to_string(desk.path("script.toml")).unwrap();
    let without_file = script.replace("key = 'a.pem'", "key = 'pkcs11:token=root-1;object=a'");
    fs::write(desk.path("script.toml"), without_file).unwrap();
    let mut wrong = Terminal::start(&desk, "ceremony run script.toml");
    wrong.answer("Ada Lindqvist (administrator)", "Ada Lindqvist");
    wrong.answer("Carl Meyer (custodian)", "Carl Meyer");
    wrong.answer("understood. Type yes:", "yes");
    wrong.answer("object=a and am about to make it. Type yes:", "yes");
    wrong.answer_hidden("PIN of token root-1", "314159");
    wrong.expect("few are left");
    wrong.expect("(2037 PIN_WRONG)");
    let (status, screen) = wrong.end();
    assert_eq!((status.code(), screen.contains("314159")), (Some(1), false));
    let mut again = Terminal::start(&desk, "ceremony run script.toml");
    for object in ["a", "b"] {
        again.answer(&format!("object={object} and am about to make it. Type yes:"), "yes");
        again.answer_hidden("PIN of token root-1", tokens::PIN);
    }
    again.answer("Anything else?", "no");
    again.expect("The ceremony is finished");
    assert!(again.end().0.success());
    assert!(!fs::read_to_string(desk.path(RECORD)).unwrap().contains("314159"));
}

const PEOPLE: [(&str, &str, &str); 4] = [
    ("ada", "Ada Lindqvist", "administrator"),
    ("carl", "Carl Meyer", "custodian"),
    ("dora", "Dora Okafor", "custodian"),
    ("walt", "Walter Brandt", "witness"),
];

/// A production script: people sign with keys in tokens of their own, two root keys and the working keys are made in tokens.
fn production() -> Desk {
    let desk = Desk::new();
    desk.with_tokens(&["root-1", "root-2", "work", "people"]);
    let mut script = "version = 1\ntitle = 'First root'\npurpose = 'In earnest.'\nmode = 'production'\n".to_owned();
    for (id, name, part) in PEOPLE {
        let key = format!("pkcs11:token=people;object={id}");
        desk.ampoule(&format!("key new {key} --type p256 --pin-file pin")).ok();
        script.push_str(&format!(
            "[[participant]]\nid = '{id}'\nname = '{name}'\npart = '{part}'\nkey = '{key}'\n"
        ));
    }
    let key = |token: &str, object: &str| format!("'pkcs11:token={token};object={object}'");
    let [one, two] = [key("root-1", "root"), key("root-2", "root")];
    let [release, image] = [key("work", "release"), key("work", "image")];
    script.push_str(
        "[quorum]\nadministrator = 1\ncustodian = 2\nwitness = 1\n[[step]]\nkind = 'presence'\n\
         [[step]]\nkind = 'machine'\nallow-network = 'the machine of a test'\n",
    );
    for token in ["root-1", "root-2", "work"] {
        script.push_str(&format!("[[step]]\nkind = 'token'\nuri = 'pkcs11:token={token}'\n"));
    }
    for (key, algorithm, holder) in [
        (&one, "p256", "carl"),
        (&two, "ed25519", "dora"),
        (&release, "ed25519", "carl"),
        (&image, "p256", "dora"),
    ] {
        script.push_str(&format!(
            "[[step]]\nkind = 'generate'\nkey = {key}\nalgorithm = '{algorithm}'\nholder = '{holder}'\n"
        ));
    }
    script.push_str(&format!(
        "[[step]]\nkind = 'export'\nkey = {release}\nto = 'release.pub'\n\
         [[step]]\nkind = 'root'\nto = 'first.ampr'\nvendor-domain = 'example.com'\nproduct-line = 'demo'\n\
         environment = 'production'\nsign = [{one}, {two}]\n[step.roles]\n\
         root = {{ threshold = 2, keys = [{one}, {two}] }}\n\
         release = {{ threshold = 1, keys = [{release}] }}\n\
         image = {{ threshold = 1, keys = [{image}] }}\n\
         [[step]]\nkind = 'verify'\nroot = 'first.ampr'\n"
    ));
    fs::write(desk.path("script.toml"), script).unwrap();
    desk
}

#[test]
fn production_whole_with_every_key_in_a_token() {
    if !tokens::is_there() {
        return;
    }
    let desk = production();
    let mut table = Terminal::start(&desk, "ceremony run script.toml");
    for (_, name, part) in PEOPLE {
        table.answer(&format!("{name} ({part})"), name);
    }
    table.answer(
        "digests and clock were compared with paper and a watch. Type yes:",
        "yes",
    );
    for token in ["root-1", "root-2", "work"] {
        table.expect(&format!("token {token} (serial"));
        table.expect("its random numbers do not look broken");
    }
    for (token, object) in [
        ("root-1", "root"),
        ("root-2", "root"),
        ("work", "release"),
        ("work", "image"),
    ] {
        let question = format!("I hold pkcs11:token={token};object={object} and am about to make it. Type yes:");
        table.answer(&question, "yes");
        table.answer_hidden(&format!("PIN of token {token}"), tokens::PIN);
        table.expect("key id ");
    }
    table.answer("this is the root that was decided. Type yes:", "yes");
    table.answer_hidden("PIN of token root-1", tokens::PIN);
    table.answer_hidden("PIN of token root-2", tokens::PIN);
    table.expect("first.ampr verifies as on a device: version 1");
    for (_, name, _) in PEOPLE {
        table.answer_hidden("PIN of token people", tokens::PIN);
        table.expect(&format!("{name} signed."));
    }
    table.expect("The ceremony is finished");
    let (status, screen) = table.end();
    assert!(status.success() && !screen.contains(tokens::PIN));

    let verified = desk.ampoule(&format!("ceremony verify {RECORD} --json")).json();
    assert_eq!(
        (&verified["mode"], &verified["finished"]),
        (&"production".into(), &true.into())
    );
    assert_eq!(verified["signed_by"].as_array().unwrap().len(), 4);
    assert!(!verified["signed_by"].to_string().contains("made for this rehearsal"));
    let record = fs::read_to_string(desk.path(RECORD)).unwrap();
    assert!(!record.contains(tokens::PIN));
    assert!(record.contains("\"scripted_answers\":false"));
    let shown = desk.ampoule("trust show first.ampr --json").json();
    assert_eq!(shown["own threshold"], "reached: enough of its own root keys signed it");
}

/// A root key that is a file signs no root in production, also where the script did not make it.
#[test]
fn a_key_file_signs_no_root_in_production() {
    if !tokens::is_there() {
        return;
    }
    let desk = production();
    desk.key("file.pem", keys::SignatureAlgorithm::Ed25519);
    let script = fs::read_to_string(desk.path("script.toml")).unwrap();
    let steps = script.find("[[step]]\nkind = 'token'").unwrap();
    let rest = "[[step]]\nkind = 'root'\nto = 'first.ampr'\nvendor-domain = 'example.com'\nproduct-line = 'demo'\n\
                environment = 'production'\nsign = ['file.pem']\n[step.roles]\n\
                root = { threshold = 1, keys = ['file.pem'] }\nrelease = { threshold = 1, keys = ['file.pem'] }\n\
                image = { threshold = 1, keys = ['file.pem'] }\n";
    fs::write(desk.path("script.toml"), format!("{}{rest}", &script[..steps])).unwrap();
    let mut table = Terminal::start(&desk, "ceremony run script.toml");
    for (_, name, part) in PEOPLE {
        table.answer(&format!("{name} ({part})"), name);
    }
    table.answer("paper and a watch. Type yes:", "yes");
    table.expect("(2125 PRODUCTION_KEY)");
    assert_eq!(table.end().0.code(), Some(1));
    assert!(!desk.path("first.ampr").exists());
}
