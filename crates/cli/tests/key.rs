//! `ampoule key` and `ampoule image` as a new user meets them: what is printed, and what each mistake ends in.

mod common;

use std::process::Command;

use common::{Desk, PASSPHRASE};
use keys::SignatureAlgorithm;
use serde_json::Value;

#[test]
fn a_new_key_is_shown_by_its_names_without_its_passphrase() {
    let desk = Desk::new();
    for algorithm in ["ed25519", "p256"] {
        let made = desk
            .ampoule(&format!(
                "key new {algorithm}.pem --type {algorithm} --passphrase-file pass --json"
            ))
            .json();
        let shown = desk.ampoule(&format!("key show {algorithm}.pem --json")).json();
        assert_eq!(shown["algorithm"], algorithm);
        for field in ["key_id", "image_key_hash", "public_key_pem"] {
            assert_eq!(made[field], shown[field], "{field}");
        }
        let pem = desk.ampoule(&format!("key show {algorithm}.pem --pem")).ok();
        assert_eq!(shown["public_key_pem"], pem);
        std::fs::write(desk.path("public.pem"), pem).unwrap();
        assert_eq!(
            desk.ampoule("key show public.pem --json").json()["key_id"],
            shown["key_id"]
        );
        desk.ampoule(&format!("key show {algorithm}.pem --unlock --passphrase-file pass"))
            .ok();
    }
}

#[test]
fn every_mistake_with_a_key_ends_in_its_number() {
    let desk = Desk::new();
    desk.key("key.pem", SignatureAlgorithm::Ed25519);
    std::fs::write(desk.path("wrong"), "not the passphrase").unwrap();
    std::fs::write(desk.path("short"), "short").unwrap();
    std::fs::write(desk.path("text"), "hello").unwrap();
    let before = std::fs::read(desk.path("key.pem")).unwrap();
    for (arguments, number) in [
        ("key new key.pem --passphrase-file pass", 2003),
        ("key new new.pem --passphrase-file short", 2008),
        ("key new new.pem --passphrase-file missing", 2205),
        ("key new new.pem --passphrase-env UNSET", 2206),
        ("key new nowhere/new.pem --passphrase-file pass", 2004),
        ("key new new.pem", 2208),
        ("key show missing.pem", 2001),
        ("key show text", 2005),
        ("key show .", 2002),
        ("key show key.pem --unlock --passphrase-file wrong", 2006),
        ("key show key.pem --unlock", 2208),
        (
            "image sign -k key.pem.pub -v 1 -H 32 -S 0x4000 --pad-header text out.bin",
            2012,
        ),
        (
            "image sign -k key.pem -k key.pem --passphrase-file pass -v 1 -H 32 -S 0x4000 --pad-header text out.bin",
            2019,
        ),
        ("image verify text", 901),
        ("image dumpinfo text", 901),
        ("image verify missing", 2201),
        ("image verify --root text text", 801),
    ] {
        let message = desk.ampoule(arguments).fails(number);
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        assert!(message.starts_with("error: "), "{message}");
    }
    assert!(!desk.path("new.pem").exists() && !desk.path("out.bin").exists());
    assert_eq!(std::fs::read(desk.path("key.pem")).unwrap(), before);
}

#[test]
fn a_passphrase_comes_from_a_file_or_the_environment_and_never_from_an_argument() {
    let desk = Desk::new();
    desk.key("key.pem", SignatureAlgorithm::Esp256);
    let with_env = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(["key", "show", "--unlock", "key.pem", "--passphrase-env", "SECRET"])
        .env("SECRET", PASSPHRASE)
        .current_dir(desk.directory())
        .output()
        .unwrap();
    assert!(with_env.status.success());
    for command in [
        "key new",
        "key show",
        "image sign",
        "image add-signature",
        "image verify",
    ] {
        let help = desk.ampoule(&format!("{command} --help")).ok();
        assert!(help.contains("--passphrase-file") && help.contains("--passphrase-env"));
        assert!(!help.contains("--passphrase ") && !help.contains("--passphrase=") && !help.contains("--password"));
    }
}

#[test]
fn errors_are_json_when_a_script_asks() {
    let desk = Desk::new();
    let message = desk.ampoule("--json key show missing.pem").stderr();
    let error: Value = serde_json::from_str(&message).unwrap();
    assert_eq!(error["error"]["number"], 2001);
    assert_eq!(error["error"]["name"], "KEY_FILE_MISSING");
    assert_eq!(error["error"]["what"], "there is no key file missing.pem");
    assert!(error["error"]["do"].as_str().unwrap().contains("ampoule key new"));
}

#[test]
fn an_image_is_judged_under_a_trust_root_as_a_device_judges_it() {
    let desk = Desk::new();
    for name in ["root", "release", "image-a", "image-b", "stranger"] {
        desk.key(name, SignatureAlgorithm::Ed25519);
    }
    std::fs::write(desk.path("fw.bin"), [1; 1000]).unwrap();
    desk.ampoule(
        "trust init -o demo.root --environment development --vendor-domain example.com --product-line demo \
         --root-key root --release-key release.pub --image-key image-a.pub --image-key image-b.pub --image-threshold 2 \
         --passphrase-file pass",
    )
    .ok();
    let sign = "--passphrase-file pass -v 1.2.3 -H 32 -S 0x4000 --pad-header";
    let facts = "-s 3 --vid example.com --cid demo";
    desk.ampoule(&format!("image sign -k image-a {sign} {facts} fw.bin one.bin"))
        .ok();
    desk.ampoule("image verify --root demo.root one.bin").fails(907);
    desk.ampoule("image add-signature -k image-b --passphrase-file pass one.bin two.bin")
        .ok();
    let verified = desk.ampoule("image verify --root demo.root two.bin --json").json();
    assert_eq!(verified["version"], "1.2.3+0");
    assert_eq!(
        (
            &verified["security_counter"],
            verified["signed_by"].as_array().unwrap().len()
        ),
        (&Value::from(3), 2)
    );

    desk.ampoule(&format!(
        "image sign -k image-a -k stranger {sign} {facts} fw.bin half.bin"
    ))
    .ok();
    desk.ampoule("image verify --root demo.root half.bin").fails(907);
    desk.ampoule(&format!("image sign -k image-a -k image-b {sign} fw.bin nameless.bin"))
        .ok();
    desk.ampoule("image verify --root demo.root nameless.bin").fails(909);
}

#[test]
fn images_only_other_bootloaders_start_are_said_to_be() {
    let desk = Desk::new();
    std::fs::write(desk.path("fw.bin"), [1; 1000]).unwrap();
    let ram = desk.ampoule("image sign -v 1 -H 32 -S 0x4000 --pad-header --load-addr 0x20000000 fw.bin ram.bin");
    assert!(ram.ok().contains("not signed"));
    assert!(ram.stderr().contains("(911 IMAGE_FLAGS)"), "{}", ram.stderr());
    let verified = desk.ampoule("image verify ram.bin");
    assert!(verified.ok().contains("Only the hash was checked"));
}

#[test]
fn completions_and_manual_pages_are_made_for_every_command() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = desk.ampoule(&format!("generate completions {shell}")).ok();
        assert!(
            text.contains("add-signature") && text.contains("passphrase-file"),
            "{shell}"
        );
    }
    std::fs::create_dir(desk.path("man")).unwrap();
    desk.ampoule("generate man man").ok();
    for page in [
        "ampoule.1",
        "ampoule-key-new.1",
        "ampoule-image-sign.1",
        "ampoule-trust-init.1",
    ] {
        let text = std::fs::read_to_string(desk.path("man").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    desk.ampoule("generate man missing").fails(2203);
}

#[test]
fn arguments_that_say_nothing_are_told_as_json_where_that_was_asked_for() {
    let desk = Desk::new();
    for arguments in [
        "--json key",
        "key show --json",
        "key show a.pem --no-such-option --json",
        "keys --json",
    ] {
        let ran = desk.ampoule(arguments);
        ran.misused();
        let stderr = ran.stderr();
        let said: Value = serde_json::from_str(stderr.trim()).unwrap_or_else(|e| panic!("{arguments}: {e}: {stderr}"));
        assert_eq!(said["error"]["number"], 2209);
        assert!(said["error"]["what"].as_str().unwrap().len() > 10, "{said}");
    }
    let prose = desk.ampoule("key show a.pem --no-such-option");
    prose.misused();
    assert!(prose.stderr().contains("--no-such-option") && prose.stderr().contains("Usage:"));
    assert!(desk.ampoule("key show --help --json").ok().contains("Usage:"));
}
