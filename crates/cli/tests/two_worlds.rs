//! Development and production are two worlds; and what a signer of a release sees before anything is asked.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::{self, Ed25519, Esp256};

const OVERRIDE: &str = "--i-know-these-production-keys-are-files";

/// A root of each world, `production.ampr` and `development.ampr`, with the same keys in files.
fn desk() -> Desk {
    let desk = Desk::new();
    for (name, algorithm) in [("root", Ed25519), ("one", Ed25519), ("two", Esp256), ("image", Esp256)] {
        desk.key(name, algorithm);
    }
    for (world, typed) in [("production", OVERRIDE), ("development", "")] {
        desk.ampoule(&format!(
            "trust init -o {world}.ampr --environment {world} --vendor-domain ampoule.example --product-line amp-demo \
             --root-key root --release-key one --release-key two --release-threshold 2 --image-key image \
             --passphrase-file pass {typed}"
        ))
        .ok();
    }
    std::fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    std::fs::write(desk.path("app.bin"), [0x5a; 20_000]).unwrap();
    desk.ampoule("release new").ok();
    desk
}

fn build(desk: &Desk, file: &str, rest: &str) -> common::Ran {
    desk.ampoule(&format!(
        "release build release.toml -o {file} --key one --image-key image --passphrase-file pass {rest}"
    ))
}

#[test]
fn key_files_sign_for_production_only_where_that_is_typed_out_and_then_the_journal_says_so() {
    let desk = desk();
    let refused = build(&desk, "app.suit", "--root production.ampr").fails(2125);
    assert!(refused.contains("image key"), "{refused}");
    assert!(!desk.path("app.suit").exists());
    build(&desk, "app.suit", "--root development.ampr").ok();
    let sign = |rest: &str| {
        desk.ampoule(&format!(
            "release sign app.suit --key two --yes --passphrase-file pass {rest}"
        ))
    };
    let before = std::fs::read(desk.path("app.suit")).unwrap();
    sign("--root production.ampr").fails(2125);
    assert_eq!(std::fs::read(desk.path("app.suit")).unwrap(), before);
    let journal = || std::fs::read_to_string(desk.path("journal.jsonl")).unwrap();
    let overrides = |text: &str| text.lines().filter(|line| line.contains(&OVERRIDE[2..])).count();
    let typed = overrides(&journal());
    sign(&format!("--root production.ampr {OVERRIDE}")).ok();
    assert_eq!(overrides(&journal()), typed + 1);
    desk.ampoule("release verify app.suit --root production.ampr").ok();
}

#[test]
fn a_production_root_lists_no_key_file_and_no_published_key() {
    let desk = desk();
    let init = |rest: &str| {
        desk.ampoule(&format!(
            "trust init -o new.ampr --environment production --vendor-domain example.com --product-line demo --propose \
             --passphrase-file pass {rest}"
        ))
    };
    // The file of the private key names a place; its public half alone does not.
    init("--root-key root.pub --release-key one").fails(2125);
    init("--root-key root.pub --release-key one.pub --image-key image").fails(2125);
    // MCUboot's root-ed25519.pem: its private half is on the internet.
    let raw = "d4b31ba49a3add3f825d10ca7f31b50b0de87f37ccc49f1a403a5c1320ffb4e0";
    let raw: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&raw[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let sample = keys::PublicKey::from_raw(SignatureAlgorithm::Ed25519, &raw).unwrap();
    std::fs::write(desk.path("sample.pub"), sample.to_pem()).unwrap();
    for typed in ["", OVERRIDE] {
        init(&format!("--root-key root.pub --release-key sample.pub {typed}")).fails(2013);
    }
    let propose = |rest: &str| desk.ampoule(&format!("trust propose --from production.ampr -o new.ampr {rest}"));
    desk.key("three", Ed25519);
    propose("--add-key release=three").fails(2125);
    propose(&format!("--add-key release=sample.pub {OVERRIDE}")).fails(2013);
    assert!(!desk.path("new.ampr").exists());
    propose("--add-key release=three.pub").ok();
    let sign = "trust sign new.ampr --previous production.ampr --key root --yes --passphrase-file pass";
    desk.ampoule(sign).fails(2125);
    desk.ampoule(&format!("{sign} {OVERRIDE}")).ok();
}

#[test]
fn a_signer_sees_the_release_before_the_passphrase_is_asked() {
    let desk = desk();
    build(&desk, "old.suit", "").ok();
    let recipe = std::fs::read_to_string(desk.path("release.toml")).unwrap();
    let newer = recipe
        .replace("sequence = 1", "sequence = 2")
        .replace("version = \"1.0.0\"", "version = \"1.1.0\"");
    assert_ne!(recipe, newer);
    std::fs::write(desk.path("release.toml"), newer).unwrap();
    std::fs::write(desk.path("app.bin"), [0x5b; 21_000]).unwrap();
    build(&desk, "app.suit", "").ok();
    let id = desk.ampoule("key show one.pub --json").json()["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(
        desk.path("names.toml"),
        format!("schema = 1\n[keys]\n\"{id}\" = \"Alice Archer\"\n"),
    )
    .unwrap();
    // The passphrase file does not exist: whoever asks for it first fails with another number.
    let sign = "release sign app.suit --root production.ampr --previous old.suit --names names.toml --key two \
                --passphrase-file nowhere";
    let shown = desk.ampoule(sign).fails(2138);
    for line in [
        "environment: ",
        "production",
        "sequence: 1 -> 2",
        "version: 1.0.0 -> 1.1.0",
        "app: bytes: ",
        "Alice Archer",
        "class: ",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(desk.ampoule(&format!("{sign} --yes")).stderr().contains("(2205 "));
    // --yes is not for keys that production may use.
    let token = sign.replace("--key two", "--key pkcs11:token=release;object=two");
    desk.ampoule(&format!("{token} --yes")).fails(2139);
    let digest = shown
        .lines()
        .find_map(|line| line.strip_prefix("  digest:"))
        .unwrap()
        .trim()
        .to_owned();
    let approved = "release sign app.suit --root development.ampr --key two --passphrase-file pass --approve";
    desk.ampoule(&format!("{approved} {}", "ab".repeat(32))).fails(2140);
    desk.ampoule(&format!("{approved} {digest}")).ok();
    desk.ampoule("release verify app.suit --root development.ampr").ok();
}

#[test]
fn a_key_without_a_say_signs_no_release_and_two_signers_at_once_lose_none() {
    let desk = desk();
    build(&desk, "app.suit", "").ok();
    let sign = |key: &str| {
        desk.ampoule(&format!(
            "release sign app.suit --root development.ampr --key {key} --yes --passphrase-file pass"
        ))
    };
    assert!(sign("image").fails(2136).contains("image key"));
    desk.key("stranger", Ed25519);
    sign("stranger").fails(2136);
    std::fs::copy(desk.path("two"), desk.path("two-again")).unwrap();
    std::thread::scope(|scope| {
        let signed: Vec<_> = ["two", "two-again"]
            .map(|key| scope.spawn(move || sign(key).stderr()))
            .into_iter()
            .collect();
        for one in signed {
            one.join().unwrap();
        }
    });
    let verified = desk
        .ampoule("release verify app.suit --root development.ampr --json")
        .json();
    assert_eq!(
        verified["roles"][0]["signed"].as_array().unwrap().len(),
        2,
        "one key under two names counts once"
    );
    sign("two-again").fails(2019);
}

#[test]
fn an_image_that_is_signed_already_is_not_wrapped_again() {
    let desk = desk();
    let sign = |from: &str, to: &str| {
        desk.ampoule(&format!(
            "image sign -k image --passphrase-file pass -v 1.2.3 -H 32 -S 0x10000 --pad-header {from} {to}"
        ))
    };
    sign("app.bin", "app.img").ok();
    let refused = sign("app.img", "again.img").fails(2107);
    assert!(refused.contains("ampoule image add-signature"), "{refused}");
    assert!(!desk.path("again.img").exists());
}
