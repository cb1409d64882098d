//! `ampoule journal`, and that every command that signs leaves its entry.

mod common;

use std::fs;
use std::process::Command;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};

const SIGN: &str = "image sign app.bin app.img --version 1.0.0 --header-size 32 --pad-header --slot-size 65536 \
                    --passphrase-file pass --key image";

fn desk() -> Desk {
    let desk = Desk::new();
    for (name, algorithm) in [("root", Ed25519), ("release", Ed25519), ("image", Esp256)] {
        desk.key(name, algorithm);
    }
    fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    fs::write(desk.path("app.bin"), [0x5a; 2_000]).unwrap();
    desk
}

#[test]
fn every_command_that_signs_leaves_an_entry() {
    let desk = desk();
    let first = desk.ampoule(&format!("{SIGN} --reason trial --operator Ada"));
    first.ok();
    assert!(
        first.stderr().contains("began the signing journal"),
        "{}",
        first.stderr()
    );
    desk.key("second", Ed25519);
    let again = desk.ampoule("image add-signature app.img two.img --key second --passphrase-file pass");
    again.ok();
    assert!(!again.stderr().contains("journal"), "said once: {}", again.stderr());
    desk.ampoule(
        "trust init -o demo.ampr --environment development --vendor-domain ampoule.example --product-line demo \
         --root-key root --release-key release --image-key image --passphrase-file pass",
    )
    .ok();
    desk.ampoule("release new").ok();
    desk.ampoule("release build release.toml -o a.suit --key release --image-key image --passphrase-file pass")
        .ok();
    desk.ampoule("release sign a.suit --yes --key second --passphrase-file pass")
        .ok();

    let shown = desk.ampoule("journal show --json").json();
    let objects: Vec<&str> = (shown.as_array().unwrap().iter())
        .filter_map(|entry| entry["what"]["object"].as_str())
        .collect();
    assert_eq!(objects, ["image", "image", "root", "image", "release", "release"]);
    let trial = &shown[1];
    assert_eq!(
        (trial["why"].as_str(), trial["by"]["operator"].as_str()),
        (Some("trial"), Some("Ada"))
    );
    assert!(trial["by"]["user"].is_string() && trial["by"]["host"].is_string());
    assert_eq!(trial["key"]["custody"], "file image");

    let report = desk.ampoule("journal verify --json").json();
    assert_eq!(
        (report["whole"].as_bool(), report["signatures"].as_u64()),
        (Some(true), Some(6))
    );
    let head = report["head"].as_str().unwrap();
    desk.ampoule(&format!("journal verify --expect-head {head}")).ok();
}

#[test]
fn an_override_is_a_fact_of_the_journal() {
    let desk = desk();
    // RFC 8032 test key 1, published: unencrypted PKCS#8.
    let plain = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAOcrn9g\n\
                 -----END PRIVATE KEY-----\n";
    fs::write(desk.path("plain"), plain).unwrap();
    desk.ampoule(
        "trust init -o demo.ampr --environment production --vendor-domain ampoule.example --product-line demo \
         --root-key root --release-key plain --passphrase-file pass --i-know-these-production-keys-are-files",
    )
    .ok();
    let shown = desk.ampoule("journal show --object root --json").json();
    assert_eq!(shown[0]["facts"]["override"], "i-know-these-production-keys-are-files");
}

#[test]
fn what_was_done_to_a_journal_is_named() {
    let desk = desk();
    (0..3).for_each(|_| drop(desk.ampoule(SIGN).ok()));
    let verify = |extra: &str| desk.ampoule(&format!("journal verify {extra}"));
    let head = desk.ampoule("journal verify --json").json()["head"]
        .as_str()
        .unwrap()
        .to_owned();
    let whole = fs::read_to_string(desk.path("journal.jsonl")).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let put = |lines: &[&str]| fs::write(desk.path("journal.jsonl"), lines.concat()).unwrap();

    put(&[lines[0], lines[2], lines[3]]);
    assert!(verify("").fails(2053).contains("line 2: entry 2 is missing"));
    put(&[
        lines[0],
        &lines[1].replace("file image", "file imagf"),
        lines[2],
        lines[3],
    ]);
    assert!(verify("").fails(2052).contains("line 2"));
    put(&[lines[0], lines[2], lines[1], lines[3]]);
    verify("").fails(2054);
    put(&lines[..3]);
    verify("").ok();
    verify(&format!("--expect-head {head}")).fails(2055);
    put(&[
        lines[0],
        lines[1],
        lines[2],
        &lines[3].replace("file image", "file imagf"),
    ]);
    desk.ampoule(SIGN).fails(2052);
    put(&lines);
    verify(&format!("--expect-head {head}")).ok();
    verify("nothing").fails(2050);
    assert!(
        desk.ampoule("journal export --format csv --key ffffffffff")
            .ok()
            .lines()
            .count()
            == 1
    );
}

#[test]
fn a_head_file_guards_the_end() {
    let desk = desk();
    let guarded = format!("{SIGN} --head-file head");
    desk.ampoule(&guarded).ok();
    let short = fs::read(desk.path("journal.jsonl")).unwrap();
    desk.ampoule(&guarded).ok();
    desk.ampoule("journal verify --head-file head").ok();
    fs::remove_file(desk.path("app.img")).unwrap();
    fs::write(desk.path("journal.jsonl"), short).unwrap();
    desk.ampoule("journal verify --head-file head").fails(2055);
    desk.ampoule(&guarded).fails(2055);
    assert!(!desk.path("app.img").exists(), "a signature came out");
    fs::remove_file(desk.path("head")).unwrap();
    desk.ampoule(&guarded).fails(2059);
    desk.ampoule("journal verify --write-head head").ok();
    desk.ampoule(&guarded).ok();
}

#[test]
fn a_rotated_journal_verifies_over_its_files() {
    let desk = desk();
    desk.ampoule(SIGN).ok();
    desk.ampoule("journal rotate 2026.jsonl").ok();
    desk.ampoule(SIGN).ok();
    let report = desk.ampoule("journal verify 2026.jsonl journal.jsonl --json").json();
    assert_eq!(
        (report["entries"].as_u64(), report["signatures"].as_u64()),
        (Some(5), Some(2))
    );
    desk.ampoule("journal rotate 2026.jsonl").fails(2215);
}

#[test]
fn an_export_holds_what_was_asked_for() {
    let desk = desk();
    desk.ampoule(&format!("{SIGN} --operator a,b")).ok();
    let id = desk.ampoule("key show image --json").json()["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let rows = desk
        .ampoule(&format!("journal export --format csv --key {}", &id[..12]))
        .ok();
    let rows: Vec<&str> = rows.lines().collect();
    assert!(
        rows.len() == 2 && rows[1].contains("\"a,b\"") && rows[1].contains(&id),
        "{rows:?}"
    );
    let all: serde_json::Value = serde_json::from_str(&desk.ampoule("journal export").ok()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    let none = desk.ampoule("journal export --until 2020-01-01").ok();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&none).unwrap(),
        serde_json::json!([])
    );
}

/// The journal's file system is full: the signature is withheld, nothing is lost, and with room all goes on.
#[test]
fn a_full_disk_withholds_the_signature() {
    let desk = desk();
    desk.ampoule(SIGN).ok();
    fs::remove_file(desk.path("app.img")).unwrap();
    let before = fs::read(desk.path("journal.jsonl")).unwrap();
    // A file may grow to whole KiB (bash) or half ones (others) only: what is there leaves room for less than an entry.
    let blocks = before.len() / 1024 + 1;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {SIGN}");
    let output = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_ampoule")])
        .current_dir(desk.directory())
        .env("AMPOULE_JOURNAL", desk.path("journal.jsonl"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("(2051 JOURNAL_APPEND)"), "{said}");
    assert!(!desk.path("app.img").exists(), "a signature came out");
    let after = fs::read(desk.path("journal.jsonl")).unwrap();
    assert!(after.starts_with(&before), "something was lost");
    desk.ampoule("journal verify").ok();
    let next = desk.ampoule(SIGN);
    next.ok();
    assert_eq!(
        after.len() > before.len(),
        next.stderr().contains("cut short by a crash"),
        "{}",
        next.stderr()
    );
    let report = desk.ampoule("journal verify --json").json();
    assert_eq!(
        (report["signatures"].as_u64(), report["torn"].as_u64()),
        (Some(2), Some(u64::from(after.len() > before.len())))
    );
}

#[test]
fn without_a_place_for_the_journal_nothing_is_signed() {
    let desk = desk();
    let output = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(SIGN.split_whitespace())
        .current_dir(desk.directory())
        .env_clear()
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("(2050 JOURNAL_OPEN)"));
    assert!(!desk.path("app.img").exists());
    let output = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(SIGN.split_whitespace())
        .current_dir(desk.directory())
        .env_clear()
        .env("XDG_STATE_HOME", desk.path("state"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(desk.path("state/ampoule/journal.jsonl").exists());
}
