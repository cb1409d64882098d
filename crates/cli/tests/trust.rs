//! `ampoule trust`: from keys to a root that a device would take.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};

const NAMES: &str = "--vendor-domain example.com --product-line demo --passphrase-file pass";

fn desk() -> Desk {
    let desk = Desk::new();
    for (name, algorithm) in [
        ("root1", Ed25519),
        ("root2", Esp256),
        ("release", Ed25519),
        ("image", Esp256),
    ] {
        desk.key(name, algorithm);
    }
    desk
}

#[test]
fn a_root_of_private_and_public_keys_is_made_and_explained() {
    let desk = desk();
    let made = desk.ampoule(&format!(
        "trust init -o demo.ampr --environment production {NAMES} --root-key root1 --root-key root2 \
         --root-threshold 2 --release-key release.pub --image-key image.pub --i-know-these-production-keys-are-files"
    ));
    assert!(made.ok().contains("production"), "{}", made.ok());
    let shown = desk.ampoule("trust show demo.ampr --json").json();
    assert_eq!(shown["root id"], "5b8b5bec-d94e-5dde-8b20-af19702569a6");
    assert_eq!(shown["environment"], "production");
    assert_eq!(shown["own threshold"], "reached: enough of its own root keys signed it");
    assert_eq!(shown["signatures"].as_array().unwrap().len(), 2);
    assert_eq!(shown["roles"][0]["threshold"], 2);
    assert!(desk.ampoule("trust show demo.ampr").ok().contains("role:"));
}

#[test]
fn a_root_file_is_never_overwritten() {
    let desk = desk();
    std::fs::write(desk.path("demo.ampr"), "precious").unwrap();
    let command =
        format!("trust init -o demo.ampr --environment development {NAMES} --root-key root1 --release-key release.pub");
    desk.ampoule(&command).fails(2215);
    assert_eq!(std::fs::read(desk.path("demo.ampr")).unwrap(), b"precious");
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let desk = desk();
    let init = |rest: &str| {
        desk.ampoule(&format!(
            "trust init -o demo.ampr --environment development {NAMES} {rest}"
        ))
    };
    init("--root-key root1.pub --release-key release.pub").fails(2124);
    init("--root-key root1 --root-threshold 2 --release-key release.pub").fails(2124);
    init("--root-key root1 --release-key root1.pub").fails(2019);
    init("--root-key nobody --release-key release.pub").fails(2001);
    std::fs::write(desk.path("pass"), "a wrong passphrase").unwrap();
    init("--root-key root1 --release-key release.pub").fails(2006);
    assert!(!desk.path("demo.ampr").exists());
    std::fs::write(desk.path("hello"), "hello").unwrap();
    desk.ampoule("trust show hello").fails(2122);
    desk.ampoule("trust show nothing").fails(2201);
}

#[test]
fn unencrypted_keys_stay_out_of_production_unless_typed_out() {
    let desk = desk();
    // RFC 8032 test key 1, published: unencrypted PKCS#8.
    let plain = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAOcrn9g\n\
                 -----END PRIVATE KEY-----\n";
    std::fs::write(desk.path("plain"), plain).unwrap();
    let command = format!(
        "trust init -o demo.ampr --environment production {NAMES} --root-key root1.pub --propose --release-key plain"
    );
    assert!(desk.ampoule(&command).fails(2125).contains("release key"));
    assert!(!desk.path("demo.ampr").exists());
    desk.ampoule(&format!("{command} --i-know-these-production-keys-are-files"))
        .ok();
    assert!(desk.path("demo.ampr").exists());
}
