//! Post-quantum keys as an engineer meets them: made, shown, used like any other key, and refused by their numbers.

mod common;
#[path = "../../keys/tests/swtpm/mod.rs"]
mod swtpm;

use common::{Desk, PASSPHRASE};
use keys::lms::{Count, CounterFile, OutsideCounter, State, StateFile, StateStore};
use keys::{Passphrase, PublicKey, SignatureAlgorithm};
use release::root::{RoleSpec, RootSpec};
use swtpm::Swtpm;
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

/// Below 20 signatures, or below a tenth of a larger key.
#[test]
fn a_tenth_of_a_large_key_is_warned_about() {
    let desk = desk();
    desk.ampoule(&format!("{NEW} lms-h10-w4 large --lms-counter medium/large"))
        .ok();
    let id = PublicKey::read(&desk.path("large")).unwrap().thumbprint();
    let mut state = StateFile::at(&desk.path("large.state"));
    let mut counter = CounterFile::open(&desk.path("medium/large"), id).unwrap();
    let mut raise_to = |next: u32| {
        for from in counter.read().unwrap().given..next {
            counter.raise(&Count::of(from)).unwrap();
        }
        let old = State::parse(&state.load().unwrap(), "").unwrap();
        state.replace(State { next, ..old }.to_text().as_bytes()).unwrap();
    };
    raise_to(1024 - 102);
    drop(counter);
    let shown = desk.ampoule("key show large");
    assert!(shown.ok().contains("signatures left  102 of 1024"), "{}", shown.ok());
    assert!(!shown.stderr().contains("warning"), "{}", shown.stderr());
    let signed = desk.ampoule(&format!("{SIGN} -k large fw.bin one.bin"));
    signed.ok();
    assert!(!signed.stderr().contains("signatures left"), "{}", signed.stderr());
    let shown = desk.ampoule("key show large");
    assert!(
        shown.stderr().contains("101 of 1024 signatures left"),
        "{}",
        shown.stderr()
    );
}

/// An LMS key that is bound to the signing journal: its reservations are entries, old states are refused, also behind a
/// rotation.
#[test]
fn a_key_that_is_bound_to_the_journal_leaves_its_reservations_there() {
    let desk = desk();
    let new = format!("{NEW} lms-h5-w8 bound --lms-counter journal:");
    desk.ampoule(&new).fails(2209);
    let made = desk
        .ampoule(&format!("{new} --head-file medium/head --operator Ada"))
        .ok();
    assert!(made.contains("Keep no copy"), "{made}");
    let shown = desk.ampoule("key show bound").ok();
    assert!(
        shown.contains("32 of 32") && shown.contains("signing journal"),
        "{shown}"
    );
    // The state knows where the head is, also where nobody says it.
    desk.ampoule(&format!("{SIGN} -k bound fw.bin one.bin --operator Ada"))
        .ok();
    let old = std::fs::read(desk.path("bound.state")).unwrap();
    desk.ampoule(&format!("{SIGN} -k bound fw.bin two.bin --reason nightly"))
        .ok();
    let verified = desk.ampoule("journal verify --json").json();
    assert_eq!(
        (&verified["reservations"], &verified["signatures"]),
        (&3.into(), &2.into())
    );
    let shown = desk.ampoule("journal show").ok();
    for line in [
        "an LMS key is bound",
        "index 0 is reserved",
        "index 1 is reserved",
        "by Ada",
        "why nightly",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let exported = desk.ampoule("journal export").ok();
    assert_eq!(exported.matches(r#""kind":"reservation""#).count(), 3, "{exported}");
    assert_eq!(
        desk.ampoule("journal export --format csv")
            .ok()
            .matches(",reservation,")
            .count(),
        3
    );
    let id = PublicKey::read(&desk.path("bound")).unwrap().thumbprint();
    let start: String = id[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let of_key = desk.ampoule(&format!("journal export --key {start}")).ok();
    assert_eq!(of_key.matches(r#""number""#).count(), 5, "{of_key}");

    let now = std::fs::read(desk.path("bound.state")).unwrap();
    let refused = || {
        std::fs::write(desk.path("bound.state"), &old).unwrap();
        desk.ampoule(&format!("{SIGN} -k bound fw.bin old.bin")).fails(2094);
        std::fs::write(desk.path("bound.state"), &now).unwrap();
    };
    refused();
    desk.ampoule("journal verify --write-head medium/head").ok();
    desk.ampoule("journal rotate 2026.jsonl --head-file medium/head").ok();
    refused();
    let shown = desk.ampoule("journal show").ok();
    assert!(shown.contains("2 indices given away"), "{shown}");
    desk.ampoule(&format!("{SIGN} -k bound fw.bin three.bin")).ok();
    desk.ampoule("journal verify 2026.jsonl journal.jsonl").ok();
    std::fs::remove_file(desk.path("medium/head")).unwrap();
    desk.ampoule(&format!("{SIGN} -k bound fw.bin old.bin")).fails(2059);
    std::fs::rename(desk.path("journal.jsonl"), desk.path("elsewhere")).unwrap();
    desk.ampoule(&format!("{SIGN} -k bound fw.bin old.bin")).fails(2092);
    assert!(!desk.path("old.bin").exists());
}

/// The counter in a TPM: a copy signs nothing, and so does the key without its TPM.
#[test]
fn a_key_that_is_bound_to_a_tpm_signs_only_with_it() {
    let desk = desk();
    let new = |name: &str, handle: &str| desk.ampoule(&format!("{NEW} lms-h5-w8 {name} --lms-counter tpm:{handle}"));
    let Some(mut tpm) = Swtpm::at(&desk.path("tpm")) else {
        return;
    };
    new("bound", "what").misused();
    new("bound", "0x81000001").fails(2209);
    new("bound", "0x01800001").ok();
    new("other", "0x01800001").fails(2003);
    assert!(!desk.path("other").exists() && !desk.path("other.state").exists());
    let shown = desk.ampoule("key show bound --json").json();
    assert!(
        shown["lms"]["counter"].as_str().unwrap().starts_with("0x01800001 000b"),
        "{shown}"
    );
    let sign = || desk.ampoule(&format!("{SIGN} -k bound fw.bin out.bin"));
    let old = std::fs::read(desk.path("bound.state")).unwrap();
    sign().ok();
    std::fs::remove_file(desk.path("out.bin")).unwrap();
    std::fs::write(desk.path("bound.state"), old).unwrap();
    sign().fails(2094);
    tpm.unplug();
    let refused = sign().fails(2100);
    assert!(refused.contains("tpm2_getcap"), "{refused}");
    assert!(!desk.path("out.bin").exists());
}

/// An LMS key that is only files has no place in production, whatever is typed out; with its counter in a TPM it is a key
/// in a file like any other.
#[test]
fn production_refuses_lms_keys_that_are_only_files() {
    const OVERRIDE: &str = "--i-know-these-production-keys-are-files";
    let desk = desk();
    for name in ["root", "one"] {
        desk.key(name, SignatureAlgorithm::Ed25519);
    }
    desk.ampoule(&format!(
        "{NEW} lms-h5-w8 journaled --lms-counter journal: --head-file medium/head"
    ))
    .ok();
    let init = |rest: &str| {
        desk.ampoule(&format!(
            "trust init -o new.ampr --environment production --vendor-domain ampoule.example --product-line demo --propose \
             --root-key root.pub --release-key one.pub --image-key p256.pub --passphrase-file pass {rest}"
        ))
    };
    for key in ["lms", "journaled"] {
        for typed in ["", OVERRIDE] {
            let refused = init(&format!("--image-second-key {key} {typed}")).fails(2125);
            assert!(refused.contains("only files"), "{refused}");
        }
    }
    assert!(!desk.path("new.ampr").exists());
    let shown = desk.ampoule("key show lms --json").json();
    assert_eq!(shown["lms"]["left"], 32, "an index was used for a refusal");

    let Some(_tpm) = Swtpm::at(&desk.path("tpm")) else {
        return;
    };
    desk.ampoule(&format!("{NEW} lms-h5-w8 counted --lms-counter tpm:0x01800001"))
        .ok();
    init("--image-second-key counted").fails(2125);
    init(&format!("--image-second-key counted {OVERRIDE}")).ok();
}

/// ML-DSA-65 as root key and as release-second key: made, rotated, signed and verified by the same commands as any other.
#[test]
fn ml_dsa_signs_roots_and_is_the_second_signature_of_a_release() {
    let desk = Desk::new();
    for (name, algorithm) in [
        ("root", SignatureAlgorithm::Ed25519),
        ("root-pq", SignatureAlgorithm::MlDsa65),
        ("one", SignatureAlgorithm::Ed25519),
        ("second", SignatureAlgorithm::MlDsa65),
        ("second-next", SignatureAlgorithm::MlDsa65),
        ("image", SignatureAlgorithm::Esp256),
    ] {
        desk.key(name, algorithm);
    }
    desk.ampoule(
        "trust init -o 1.ampr --propose --environment development --vendor-domain ampoule.example --product-line amp-demo \
         --root-key root.pub --root-key root-pq.pub --root-threshold 2 --release-key one.pub \
         --release-second-key second.pub --image-key image.pub",
    )
    .ok();
    let sign = |file: &str, previous: &str, key: &str| {
        desk.ampoule(&format!(
            "trust sign {file} {previous} --key {key} --yes --passphrase-file pass"
        ))
    };
    sign("1.ampr", "", "root").ok();
    desk.ampoule("trust verify 1.ampr").fails(805);
    sign("1.ampr", "", "root-pq").ok();
    desk.ampoule("trust verify 1.ampr").ok();

    std::fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    std::fs::write(desk.path("app.bin"), [0x5a; 20_000]).unwrap();
    desk.ampoule("release new").ok();
    let built =
        "release build release.toml -o app.suit --key one --image-key image --root 1.ampr --passphrase-file pass";
    desk.ampoule(built).ok();
    // One of the two alone is not believed.
    desk.ampoule("release verify app.suit --root 1.ampr").fails(219);
    desk.ampoule("release sign app.suit --yes --key second --root 1.ampr --passphrase-file pass")
        .ok();
    desk.ampoule("release verify app.suit --root 1.ampr").ok();

    // The second key is replaced by a root that both root keys sign.
    desk.ampoule(
        "trust propose --from 1.ampr -o 2.ampr --remove-key second.pub --add-key release-second=second-next.pub",
    )
    .ok();
    sign("2.ampr", "--previous 1.ampr", "root").ok();
    let rotate = "trust rotate --from 1.ampr --next 2.ampr --chain roots.ampc";
    desk.ampoule(rotate).fails(804);
    sign("2.ampr", "--previous 1.ampr", "root-pq").ok();
    desk.ampoule(rotate).ok();
    desk.ampoule("release verify app.suit --root 2.ampr").fails(219);
    desk.ampoule("release sign app.suit --yes --key second-next --root 2.ampr --passphrase-file pass")
        .ok();
    desk.ampoule("release verify app.suit --root 2.ampr").ok();
}

#[test]
fn an_lms_key_is_not_backed_up() {
    let desk = desk();
    let refused = desk
        .ampoule("backup make lms --shares 3 --threshold 2 --out safe --passphrase-file pass")
        .fails(2011);
    assert!(refused.contains("LMS key is not backed up"), "{refused}");
    assert!(!desk.path("safe").join("backup.ampb").exists());
}
