//! `ampoule release`: from a recipe to a release that devices believe.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};

fn desk() -> Desk {
    let desk = Desk::new();
    for (name, algorithm) in [("root", Ed25519), ("one", Ed25519), ("two", Esp256), ("image", Esp256)] {
        desk.key(name, algorithm);
    }
    desk.ampoule(
        "trust init -o demo.ampr --environment development --vendor-domain ampoule.example --product-line amp-demo \
         --root-key root --release-key one --release-key two --release-threshold 2 --image-key image \
         --passphrase-file pass",
    )
    .ok();
    std::fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    std::fs::write(desk.path("app.bin"), [0x5a; 20_000]).unwrap();
    desk.ampoule("release new").ok();
    desk
}

#[test]
fn the_template_builds_two_people_sign_and_a_third_verifies() {
    let desk = desk();
    let built = desk.ampoule(
        "release build release.toml -o app.suit --key one --image-key image --root demo.ampr --passphrase-file pass",
    );
    assert!(built.ok().contains("waits for more signatures"), "{}", built.ok());
    assert!(built.stderr().contains("1 more release signature"));
    desk.ampoule("release verify app.suit --root demo.ampr").fails(219);
    desk.ampoule("release sign app.suit --yes --key one --passphrase-file pass")
        .fails(2019);
    let signed = desk
        .ampoule("release sign app.suit --yes --key two --root demo.ampr --passphrase-file pass --json")
        .json();
    assert_eq!(signed["verdict"], "complete: its devices will believe it");
    assert_eq!(signed["signatures"].as_array().unwrap().len(), 2);
    let verified = desk.ampoule("release verify app.suit --root demo.ampr --json").json();
    assert_eq!(verified["digest"], signed["digest"]);
    let inspected = desk.ampoule("release inspect app.suit --json").json();
    assert_eq!(inspected["manifest"]["sequence number"], 1);
    assert!(
        desk.ampoule("release inspect app.suit")
            .ok()
            .contains("payload #app.bin:")
    );
    assert!(desk.ampoule("release inspect demo.ampr").ok().contains("trust root"));
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let desk = desk();
    let build = |rest: &str| {
        desk.ampoule(&format!(
            "release build release.toml -o app.suit --passphrase-file pass {rest}"
        ))
    };
    build("--key one").fails(2121);
    build("--key one --image-key two --root demo.ampr").fails(907);
    build("--key missing --image-key image").fails(2001);
    build("--key one.pub --image-key image").fails(2012);
    build("--key one --image-key image --root app.bin").fails(801);
    assert!(!desk.path("app.suit").exists());
    desk.ampoule("release new").fails(2215);
    desk.ampoule("release verify nothing.suit --root demo.ampr").fails(2201);
    assert!(
        desk.ampoule("release verify app.bin --root demo.ampr")
            .fails(201)
            .contains("app.bin")
    );
    desk.ampoule("release inspect app.bin").fails(2122);
    std::fs::write(desk.path("release.toml"), "schema = 1\n[release]\nsequence = 1\n").unwrap();
    build("--key one --image-key image").fails(2120);
}

#[test]
fn names_that_ids_are_made_of_are_names() {
    let desk = desk();
    for names in [
        "--vendor-domain=example --product-line=pumps",
        "--vendor-domain=http://example.com --product-line=pumps",
        "--vendor-domain=example.com --product-line=",
    ] {
        let said = desk
            .ampoule(&format!(
                "trust init -o new.ampr --environment development {names} --root-key root --release-key one --image-key \
                 image --passphrase-file pass"
            ))
            .fails(2133);
        assert!(said.contains("never changes"), "{said}");
        assert!(!desk.path("new.ampr").exists());
    }
    let board = std::fs::read_to_string(desk.path("board.toml")).unwrap();
    std::fs::write(
        desk.path("board.toml"),
        board.replace("ampoule.example", "ampoule example"),
    )
    .unwrap();
    let built =
        desk.ampoule("release build release.toml -o app.suit --key one --image-key image --passphrase-file pass");
    assert!(built.fails(2123).contains("vendor-domain"));
}

#[test]
fn who_signed_is_told_by_the_names_that_were_given() {
    let desk = desk();
    desk.ampoule("release build release.toml -o app.suit --key one --key two --image-key image --passphrase-file pass")
        .ok();
    let id = desk.ampoule("key show one.pub --json").json()["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(
        desk.path("names.toml"),
        format!("schema = 1\n[keys]\n\"{id}\" = \"Alice\"\n"),
    )
    .unwrap();
    let said = desk
        .ampoule("release verify app.suit --root demo.ampr --names names.toml")
        .ok();
    assert!(said.contains("Alice"), "{said}");
    std::fs::write(desk.path("names.toml"), "junk").unwrap();
    desk.ampoule("release verify app.suit --root demo.ampr --names names.toml")
        .fails(2141);
    assert!(
        desk.ampoule("release verify app.suit --root app.bin")
            .fails(801)
            .contains("app.bin")
    );
}
