//! A second CBOR and a second COSE implementation (cbor2 and pycose) read what `ampoule` writes: envelopes and trust
//! roots decode to the same values, their encoding is the canonical one, and their signatures verify.
//!
//! The peers are found in the virtual environment that `cargo xtask` makes; without it the test says so and passes at
//! home, and fails in CI.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};
use serde_json::Value;

/// Takes the files apart with the peers alone; prints what it found as JSON. Arguments: release, root, public key PEMs.
const PEER: &str = include_str!("peers/cose_peer.py");

const INIT: &str = "trust init -o demo.ampr --environment production --vendor-domain ampoule.example --product-line amp-demo \
                    --root-key root1 --root-key root2 --root-threshold 2 --release-key one --release-key two \
                    --image-key image --passphrase-file pass --i-know-these-production-keys-are-files";

#[test]
fn envelopes_and_roots_are_what_pycose_and_cbor2_read() {
    let Some(python) = find_peers() else { return };
    let desk = Desk::new();
    for (name, algorithm) in [
        ("root1", Ed25519),
        ("root2", Esp256),
        ("one", Ed25519),
        ("two", Esp256),
        ("image", Esp256),
    ] {
        desk.key(name, algorithm);
    }
    desk.ampoule(INIT).ok();
    desk.ampoule("release new").ok();
    std::fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    // Few chunks, whose hashes stand in the manifest, and many, whose hashes travel beside it.
    for (name, bytes) in [("small.suit", 30_000), ("large.suit", 200_000)] {
        std::fs::write(desk.path("app.bin"), vec![0x42; bytes]).unwrap();
        desk.ampoule(&format!(
            "release build release.toml -o {name} --key one --key two --image-key image --root demo.ampr \
             --passphrase-file pass --i-know-these-production-keys-are-files"
        ))
        .ok();
        let found = ask_peers(&python, &desk, name);
        let ours = desk
            .ampoule(&format!("release verify {name} --root demo.ampr --json"))
            .json();
        assert_eq!(found["digest"], ours["digest"]);
        assert_eq!(
            (&found["sequence"], &found["counter"]),
            (&Value::from(1), &Value::from(1))
        );
        for claim in ["text", "image", "canonical", "root key ids"] {
            assert_eq!(found[claim], true, "{claim} of {name}: {found}");
        }
        assert_eq!(found["signatures"], serde_json::json!([true, true]), "{name}");
        assert_eq!(found["tampered"], serde_json::json!([false, false]), "{name}");
        assert_eq!(found["root signatures"], serde_json::json!([true, true]));
        assert_eq!(
            (&found["root version"], found["root keys"].as_array().unwrap().len()),
            (&Value::from(1), 5)
        );
    }
}

fn ask_peers(python: &Path, desk: &Desk, release: &str) -> Value {
    let pems = ["root1.pub", "root2.pub", "one.pub", "two.pub"].map(|name| desk.path(name));
    let output = Command::new(python)
        .args(["-c", PEER])
        .args([desk.path(release), desk.path("demo.ampr")])
        .args(pems)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn find_peers() -> Option<PathBuf> {
    let given = std::env::var_os("AMPOULE_PY_VENV").map(PathBuf::from);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = given
        .unwrap_or_else(|| workspace.join("target/venv"))
        .join("bin/python");
    let import = Command::new(&python).args(["-c", "import cbor2, pycose"]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI needs cbor2 and pycose: run `cargo xtask test`"
    );
    eprintln!(
        "skipped: no cbor2 and pycose at {}; `cargo xtask test` installs them",
        python.display()
    );
    None
}
