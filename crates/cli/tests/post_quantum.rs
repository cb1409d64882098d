//! Post-quantum keys as an engineer meets them: made, shown, used like any other key, and refused by their numbers.

mod common;

use common::{Desk, PASSPHRASE};
use keys::{Passphrase, PublicKey, SignatureAlgorithm};
use release::root::{RoleSpec, RootSpec};
use trust::Role;

const NEW: &str = "key new --passphrase-file pass --type";
const SIGN: &str = "image sign -v 1.0.0 -H 32 --pad-header -S 0x10000 -s 3 --vid ampoule.example --cid AMP-DEMO-1 \
                    --passphrase-file pass";

/// A desk with an LMS key `lms`, its counter on another medium, a P-256 key `p256`, and firmware.
fn desk() -> Desk {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("medium")).unwrap();
    std::fs::write(desk.path("fw.bin"), [0x5a; 600]).unwrap();
    desk.key("p256", SignatureAlgorithm::Esp256);
    desk.ampoule(&format!("{NEW} lms-h5-w4 lms --lms-counter medium/counter"))
        .ok();
    desk
}

/// Writes a development root that demands both image roles.
fn hybrid_root(desk: &Desk) {
    let root = keys::file::generate(SignatureAlgorithm::Ed25519).unwrap();
    let release = keys::file::generate(SignatureAlgorithm::Ed25519).unwrap();
    let public = |name: &str| PublicKey::read(&desk.path(name)).unwrap();
    let role = |role, key: PublicKey| RoleSpec {
        role,
        threshold: 1,
        keys: vec![key],
    };
    let spec = RootSpec {
        vendor_domain: "ampoule.example".into(),
        product_line: "demo".into(),
        environment: codec::roots::Environment::Development,
        expires: None,
        roles: vec![
            role(Role::Root, keys::Signer::public_key(&root).clone()),
            role(Role::Release, keys::Signer::public_key(&release).clone()),
            role(Role::Image, public("p256")),
            role(Role::ImageSecond, public("lms")),
        ],
    };
    let file = release::root::make(&spec, &[&root], &codec::limits::Limits::MCU).unwrap();
    std::fs::write(desk.path("demo.ampr"), file).unwrap();
}

#[test]
fn an_image_signed_by_both_passes_where_both_are_demanded() {
    let desk = desk();
    hybrid_root(&desk);
    desk.ampoule(&format!("{SIGN} -k p256 -k lms fw.bin both.bin")).ok();
    desk.ampoule("image verify --root demo.ampr both.bin").ok();
    desk.ampoule("image verify -k lms both.bin").ok();
    let info = desk.ampoule("image dumpinfo both.bin").ok();
    assert!(info.contains("0x01a0 LMS") && info.contains("2352 bytes"), "{info}");
    let inspected = desk.ampoule("release inspect both.bin").ok();
    assert!(inspected.contains("LMS"), "{inspected}");

    // Either alone is not enough, and may be added by somebody else later.
    for (first, then) in [("p256", "lms"), ("lms", "p256")] {
        desk.ampoule(&format!("{SIGN} -k {first} fw.bin one-{first}.bin")).ok();
        let one = format!("image verify --root demo.ampr one-{first}.bin");
        desk.ampoule(&one).fails(907);
        let add = format!("image add-signature --passphrase-file pass -k {then} one-{first}.bin then-{then}.bin");
        desk.ampoule(&add).ok();
        desk.ampoule(&format!("image verify --root demo.ampr then-{then}.bin"))
            .ok();
    }
    let mut changed = std::fs::read(desk.path("both.bin")).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(desk.path("changed.bin"), changed).unwrap();
    desk.ampoule("image verify --root demo.ampr changed.bin").fails(906);
}

#[test]
fn what_is_left_of_an_lms_key_is_shown_and_warned_about() {
    let desk = desk();
    let shown = desk.ampoule("key show lms --json").json();
    assert_eq!(
        (&shown["algorithm"], &shown["lms"]["left"]),
        (&"lms-h5-w4".into(), &32.into())
    );
    for round in 0..13 {
        desk.ampoule(&format!("{SIGN} -k lms fw.bin {round}.bin")).ok();
    }
    let shown = desk.ampoule("key show lms");
    assert!(shown.ok().contains("signatures left  19 of 32"), "{}", shown.ok());
    assert!(
        shown.stderr().contains("19 of 32 signatures left"),
        "{}",
        shown.stderr()
    );
    let signed = desk.ampoule(&format!("{SIGN} -k lms fw.bin last.bin"));
    assert!(signed.stderr().contains("development only"), "{}", signed.stderr());
    assert!(signed.stderr().contains("signatures left"), "{}", signed.stderr());
}

#[test]
fn every_mistake_with_a_post_quantum_key_ends_in_its_number() {
    let desk = desk();
    desk.ampoule(&format!("{NEW} lms-h5-w4 other")).fails(2209);
    desk.ampoule(&format!("{NEW} p256 other --lms-counter medium/c"))
        .fails(2209);
    desk.ampoule(&format!("{NEW} lms-h5-w4 other --lms-counter medium/counter"))
        .fails(2003);
    desk.ampoule(&format!("{NEW} lms-h5-w4 other --lms-counter nowhere/c"))
        .fails(2092);
    assert!(!desk.path("other").exists() && !desk.path("other.state").exists());

    // A copy, and the key without its medium.
    std::fs::copy(desk.path("lms"), desk.path("copy")).unwrap();
    desk.ampoule(&format!("{SIGN} -k copy fw.bin out.bin")).fails(2090);
    std::fs::copy(desk.path("lms.state"), desk.path("copy.state")).unwrap();
    desk.ampoule(&format!("{SIGN} -k lms fw.bin good.bin")).ok();
    desk.ampoule(&format!("{SIGN} -k copy fw.bin out.bin")).fails(2094);
    std::fs::rename(desk.path("medium"), desk.path("unplugged")).unwrap();
    desk.ampoule(&format!("{SIGN} -k lms fw.bin out.bin")).fails(2092);
    assert!(!desk.path("out.bin").exists());

    // ML-DSA signs releases and roots, no images.
    desk.ampoule(&format!("{NEW} ml-dsa-65 mldsa")).ok();
    desk.ampoule(&format!("{SIGN} -k mldsa fw.bin out.bin")).fails(2011);
    let shown = desk.ampoule("key show mldsa --json").json();
    assert_eq!(shown["algorithm"], "ml-dsa-65");
    let key = keys::file::LockedKey::read(&desk.path("mldsa")).unwrap();
    assert!(key.unlock(Some(&Passphrase::new(PASSPHRASE))).is_ok());
}
