//! Signing in a vault that nothing can be plugged into, with OpenSSL as the vault; docs/external-signing.md is run.

mod common;

use std::process::Command;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};

const PAGE: &str = include_str!("../../../docs/external-signing.md");

/// Keys in the vault, and a release that a key of the desk has signed; `None` where OpenSSL is missing.
fn desk() -> Option<Desk> {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs openssl");
        eprintln!("skipped: there is no openssl here");
        return None;
    }
    let desk = Desk::new();
    for (name, kind) in [
        ("root", "ed25519"),
        ("release", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("image", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("second", "EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        openssl(&desk, &format!("genpkey -out {name}.pem -algorithm {kind}"));
        openssl(&desk, &format!("pkey -in {name}.pem -pubout -out {name}.pub"));
    }
    desk.key("desk", Ed25519);
    desk.key("desk-image", Esp256);
    std::fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    std::fs::write(desk.path("app.bin"), [0x5a; 20_000]).unwrap();
    desk.ampoule("release new").ok();
    // The image inside is signed here with the vault's key: the stories carry one thing at a time.
    desk.ampoule("release build release.toml -o app.suit --key desk --image-key image.pem --passphrase-file pass")
        .ok();
    Some(desk)
}

fn openssl(desk: &Desk, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(desk.directory())
        .output()
        .unwrap();
    let failed = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {arguments}: {failed}");
}

/// A root that the vault's keys make, signed by the vault.
fn root(desk: &Desk, world: &str) {
    desk.ampoule(&format!(
        "trust init -o {world}.ampr --propose --environment {world} --vendor-domain ampoule.example --product-line \
         amp-demo --root-key root.pub --release-key release.pub --release-key second.pub --image-key image.pub \
         --image-key desk-image.pub"
    ))
    .ok();
    let out = desk
        .ampoule(&format!(
            "trust sign {world}.ampr --to-sign {world}.bytes --pubkey root.pub --json"
        ))
        .json();
    openssl(
        desk,
        &format!("pkeyutl -sign -rawin -inkey root.pem -in {world}.bytes -out {world}.sig"),
    );
    desk.ampoule(&format!(
        "trust sign {world}.ampr --signature {world}.sig --pubkey root.pub --approve {}",
        out["digest"].as_str().unwrap()
    ))
    .ok();
}

#[test]
fn every_command_of_the_page_works() {
    let Some(desk) = desk() else { return };
    let blocks = PAGE.split("```console\n").skip(1);
    let lines: Vec<&str> = blocks
        .filter_map(|rest| rest.split("```").next())
        .flat_map(str::lines)
        .map(|line| line.strip_prefix("$ ").expect("a command"))
        .collect();
    assert!(lines.len() > 15, "{}", lines.len());
    for line in lines {
        match line.split_once(' ').unwrap() {
            ("openssl", arguments) => openssl(&desk, arguments),
            // The question that the page leaves out.
            (_, arguments) if arguments.contains("--signature") && !arguments.contains("second.sig") => {
                drop(desk.ampoule(&format!("{arguments} --yes")).ok());
            }
            (_, arguments) if arguments.contains("--signature") => {
                let statement = desk.ampoule("release sign app.suit --to-sign again --pubkey second.pub --json");
                let digest = statement.json()["digest"].as_str().unwrap().to_owned();
                desk.ampoule(&format!("{arguments} --yes")).fails(2139);
                desk.ampoule(&format!("{arguments} --approve {digest}")).ok();
            }
            ("ampoule", arguments) => drop(desk.ampoule(arguments).ok()),
            _ => panic!("{line}"),
        }
    }
    let said = std::fs::read_to_string(desk.path("release.bytes.txt")).unwrap();
    for what in ["class:", "sequence:", "digest:", "SHA-256 of the file:", "not compared"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    desk.ampoule("journal verify").ok();
}

#[test]
fn what_is_no_signature_of_exactly_this_is_refused_and_nothing_changes() {
    let Some(desk) = desk() else { return };
    root(&desk, "development");
    let before = std::fs::read(desk.path("app.suit")).unwrap();
    let journal = || std::fs::read_to_string(desk.path("journal.jsonl")).unwrap();
    let entries = journal().lines().count();
    let sign = "release sign app.suit --root development.ampr";
    desk.ampoule(&format!("{sign} --to-sign bytes --pubkey release.pub"))
        .ok();
    openssl(&desk, "dgst -sha256 -sign release.pem -out right.sig bytes");
    openssl(&desk, "dgst -sha256 -sign second.pem -out other-key.sig bytes");
    std::fs::write(desk.path("other"), b"another release").unwrap();
    openssl(&desk, "dgst -sha256 -sign release.pem -out other-thing.sig other");
    std::fs::write(desk.path("short.sig"), [7; 63]).unwrap();
    std::fs::write(desk.path("garbage.sig"), "bm8gc2lnbmF0dXJl\n").unwrap();
    let take = |file: &str, key: &str| desk.ampoule(&format!("{sign} --signature {file} --pubkey {key} --yes"));
    take("other-key.sig", "release.pub").fails(2049);
    let said = take("other-thing.sig", "release.pub").fails(2049);
    assert!(
        said.contains("other-thing.sig") && said.contains("sequence 1"),
        "{said}"
    );
    take("development.sig", "release.pub").fails(2049);
    take("short.sig", "release.pub").fails(2048);
    take("garbage.sig", "release.pub").fails(2048);
    // Keys that the root names for something else, or not at all; already before anything goes to the vault.
    take("right.sig", "image.pub").fails(2136);
    take("right.sig", "desk.pub").fails(2136);
    desk.ampoule(&format!("{sign} --to-sign no --pubkey image.pub"))
        .fails(2136);
    desk.ampoule(&format!("{sign} --to-sign bytes --pubkey release.pub"))
        .fails(2215);
    desk.ampoule("release sign app.suit --to-sign no --pubkey desk.pub")
        .fails(2019);
    desk.ampoule("release sign app.suit --to-sign no --digest --pubkey root.pub")
        .fails(2209);
    desk.ampoule(&format!("{sign} --key desk --pubkey release.pub --yes"))
        .fails(2209);
    // No entry, no signature.
    desk.ampoule(&format!(
        "{sign} --signature right.sig --pubkey release.pub --yes --journal nowhere/journal.jsonl"
    ))
    .fails(2050);
    assert!(!desk.path("no").exists());
    assert_eq!(std::fs::read(desk.path("app.suit")).unwrap(), before);
    assert_eq!(journal().lines().count(), entries);
    take("right.sig", "release.pub").ok();
    assert_eq!(journal().lines().count(), entries + 1);
    desk.ampoule("release verify app.suit --root development.ampr").ok();
    desk.ampoule(&format!("{sign} --to-sign no --pubkey release.pub"))
        .fails(2019);
}

#[test]
fn in_production_a_vault_signs_what_was_approved_and_nothing_else() {
    let Some(desk) = desk() else { return };
    root(&desk, "production");
    let sign = "release sign app.suit --root production.ampr";
    let out = desk
        .ampoule(&format!("{sign} --to-sign bytes --pubkey release.pub --json"))
        .json();
    // As base64 of the DER signature, as some vaults give it.
    openssl(&desk, "dgst -sha256 -sign release.pem -out right.sig bytes");
    openssl(&desk, "base64 -in right.sig -out right.b64");
    let take = format!("{sign} --signature right.b64 --pubkey release.pub");
    desk.ampoule(&take).fails(2138);
    desk.ampoule(&format!("{take} --yes")).fails(2139);
    desk.ampoule(&format!("{take} --approve {}", "ab".repeat(32)))
        .fails(2140);
    desk.ampoule(&format!("{take} --approve {}", out["digest"].as_str().unwrap()))
        .ok();
    desk.ampoule("release verify app.suit --root production.ampr").ok();
}

#[test]
fn an_image_under_a_root_is_shown_asked_for_and_kept_to_its_world() {
    let Some(desk) = desk() else { return };
    for world in ["development", "production"] {
        root(&desk, world);
    }
    let options = "-H 0x20 --pad-header -S 0x40000 --vid ampoule.example --cid amp-demo-1 app.bin";
    desk.ampoule(&format!("image sign -v 1.0.0 -s 6 {options} old.img"))
        .ok();
    let sign = |rest: &str| desk.ampoule(&format!("image sign -v 1.2.3 -s 7 {rest} {options} new.img"));
    let file = "-k desk-image --passphrase-file pass";
    let shown = sign(&format!("{file} --root development.ampr --previous old.img")).fails(2138);
    for line in [
        "class:",
        "development",
        "security counter: 6 -> 7",
        "version: 1.0.0 -> 1.2.3",
        "not signed",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    sign(&format!("{file} --root production.ampr --yes")).fails(2125);
    sign("-k desk --passphrase-file pass --root development.ampr --yes").fails(2136);
    // A token's key is asked for even without a root.
    sign("-k pkcs11:token=none;object=a").fails(2138);
    sign("-k pkcs11:token=none;object=a --yes").fails(2139);
    assert!(!desk.path("new.img").exists());
    sign(&format!("{file} --root development.ampr --yes")).ok();
    let verified = desk
        .ampoule("image verify new.img --root development.ampr --json")
        .json();
    assert_eq!(verified["roles"][0]["signed"].as_array().unwrap().len(), 1);

    let add = |rest: &str| desk.ampoule(&format!("image add-signature new.img both.img {rest}"));
    add("--vector-to-sign payload").ok();
    openssl(&desk, "dgst -sha256 -sign image.pem -out image.sig both.img");
    openssl(&desk, "dgst -sha256 -sign second.pem -out second.sig both.img");
    std::fs::remove_file(desk.path("both.img")).unwrap();
    let back = "--fix-sig image.sig --fix-sig-pubkey image.pub";
    add("--fix-sig second.sig --fix-sig-pubkey image.pub").fails(2049);
    add("--fix-sig second.sig --fix-sig-pubkey second.pub --root development.ampr --yes").fails(2136);
    add("--fix-sig image.sig").fails(2101);
    add(&format!("{back} --root production.ampr --yes")).fails(2139);
    assert!(!desk.path("both.img").exists());
    add(&format!("{back} --root development.ampr --yes")).ok();
    let verified = desk.ampoule("image verify both.img --root development.ampr");
    assert!(
        verified.ok().contains("Signed for role image (1 needed): "),
        "{}",
        verified.ok()
    );
    desk.ampoule("image verify both.img --key image.pub").ok();
}
