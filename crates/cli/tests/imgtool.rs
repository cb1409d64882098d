//! imgtool as the peer: the same options give the same bytes, each tool verifies what the other signed, both say the
//! same about an image, and both read each other's keys.
//!
//! imgtool runs once per test and takes a list of commands. It is found in the virtual environment that `cargo xtask`
//! makes; without it the tests say so and pass at home, and fail in CI.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Desk, PASSPHRASE};
use keys::SignatureAlgorithm;
use serde_json::{Value, json};

/// Random combinations of options that are compared.
const COMBINATIONS: usize = 400;
/// Bytes of firmware in most tests.
const FIRMWARE_BYTES: usize = 7001;

#[test]
fn ed25519_images_are_byte_identical() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    let mut peer = imgtool.session(&desk);
    peer.say(&["keygen", "-t", "ed25519", "-k", "key"]);
    let cases = cases(&desk, "key", 1);
    for case in &cases {
        peer.say(&case.arguments(&case.theirs()));
    }
    peer.run_all_ok();
    for case in &cases {
        ampoule(&desk, &[&["image"], &case.arguments(&case.ours())[..]].concat());
        let (ours, theirs) = (desk.path(&case.ours()), desk.path(&case.theirs()));
        assert!(
            read(&ours) == read(&theirs),
            "{} differ: {:?}",
            case.ours(),
            case.options
        );
    }
}

#[test]
fn unsigned_images_are_byte_identical() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    let mut peer = imgtool.session(&desk);
    let cases: Vec<Case> = cases(&desk, "", 2).into_iter().take(60).collect();
    for case in &cases {
        peer.say(&case.arguments(&case.theirs()));
    }
    peer.run_all_ok();
    for case in &cases {
        ampoule(&desk, &[&["image"], &case.arguments(&case.ours())[..]].concat());
        assert!(
            read(&desk.path(&case.ours())) == read(&desk.path(&case.theirs())),
            "{:?}",
            case.options
        );
    }
}

#[test]
fn p256_images_differ_in_their_signature_alone_and_verify_on_both_sides() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    let mut peer = imgtool.session(&desk);
    peer.say(&["keygen", "-t", "ecdsa-p256", "-k", "key"]);
    let cases: Vec<Case> = cases(&desk, "key", 3).into_iter().take(100).collect();
    for case in &cases {
        peer.say(&case.arguments(&case.theirs()));
    }
    peer.run_all_ok();
    for case in &cases {
        ampoule(&desk, &[&["image"], &case.arguments(&case.ours())[..]].concat());
        peer.say(&["verify", "-k", "key", &case.ours()]);
        peer.say(&["verify", &case.ours()]);
    }
    let answers = peer.run_all_ok();
    for (case, answer) in cases.iter().zip(answers.chunks(2)) {
        let verified = ampoule(&desk, &["image", "verify", "-k", "key", &case.theirs()]);
        // Same digest, so the same version, header, firmware and protected TLVs.
        assert_eq!(verified, answer[0], "{:?}", case.options);
        let by_hash = ampoule(&desk, &["image", "verify", &case.theirs()]);
        assert!(by_hash.starts_with(&answer[1]), "{by_hash}");
        let without_signature = |file: &str| {
            let mut info = our_dumpinfo(&desk, file);
            info["filename"] = json!("");
            info["tlv_area"]["tlv_hdr"]["tlv_tot"] = json!(0);
            let signature = info["tlv_area"]["tlvs"].as_array_mut().unwrap().pop().unwrap();
            assert_eq!(signature["type_name"], "ECDSASIG");
            info
        };
        assert_eq!(
            without_signature(&case.ours()),
            without_signature(&case.theirs()),
            "{:?}",
            case.options
        );
    }
}

#[test]
fn both_tools_say_the_same_about_every_image() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    let mut peer = imgtool.session(&desk);
    peer.say(&["keygen", "-t", "ed25519", "-k", "key"]);
    peer.run_all_ok();
    let cases: Vec<Case> = cases(&desk, "key", 4).into_iter().take(100).collect();
    for case in &cases {
        ampoule(&desk, &[&["image"], &case.arguments(&case.ours())[..]].concat());
        let json = format!("{}.json", case.ours());
        peer.say(&["dumpinfo", "-f", "json", "-o", &json, &case.ours()]);
        peer.say(&["verify", "-k", "key", &case.ours()]);
    }
    let answers = peer.run_all_ok();
    for (case, answer) in cases.iter().zip(answers.chunks(2)) {
        let theirs = read(&desk.path(&format!("{}.json", case.ours())));
        let theirs: Value = serde_json::from_slice(&theirs).unwrap();
        assert_eq!(our_dumpinfo(&desk, &case.ours()), theirs, "{:?}", case.options);
        let verified = ampoule(&desk, &["image", "verify", "-k", "key", &case.ours()]);
        assert_eq!(verified, answer[1]);
    }
}

#[test]
fn what_imgtool_refuses_is_refused() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    std::fs::write(desk.path("fw.bin"), firmware(FIRMWARE_BYTES)).unwrap();
    std::fs::write(desk.path("fw.hex"), ":0100000042BD\n").unwrap();
    std::fs::write(desk.path("bad.hex"), ":0100000042BE\n:00000001FF\n").unwrap();
    let common = "sign --version 1.2.3 --header-size 0x20 --slot-size 0x10000 --pad-header";
    let cases = [
        ("sign -v 1.2.3 -H 0x20 -S 0x2000 --align 8 --pad-header fw.bin", 2102),
        ("sign -v 1.2.3 -H 0x20 -S 0x10000 fw.bin", 2103),
        ("sign -v 1.2.3 -H 0x10000 -S 0x20000 --pad-header fw.bin", 2101),
        ("sign -v 1.2.3 -H 31 -S 0x20000 --pad-header fw.bin", 2101),
        ("COMMON --cid name fw.bin", 2101),
        ("COMMON --custom-tlv 0xa0 a --custom-tlv 0xa0 b fw.bin", 2101),
        ("COMMON --custom-tlv 0x50 a fw.bin", 2101),
        ("COMMON --custom-tlv 0x90 a fw.bin", 2101),
        ("COMMON --custom-tlv 0xa0 0x012 fw.bin", 2101),
        ("COMMON --custom-tlv 0xa0 0xzz fw.bin", 2101),
        ("COMMON -s -1 fw.bin", 0),
        ("COMMON -s many fw.bin", 2101),
        ("COMMON -s 0x100000000 fw.bin", 2101),
        ("COMMON -d 1 fw.bin", 2101),
        ("COMMON -d (1,1.2.3.4) fw.bin", 2101),
        ("COMMON -d (300,1.2.3) fw.bin", 2101),
        ("COMMON bad.hex", 2104),
        ("COMMON missing.bin", 2201),
        ("COMMON -k fw.bin fw.bin", 2005),
        // imgtool's own usage errors are ours too.
        ("sign -v 1.2.3.4 -H 0x20 -S 0x10000 --pad-header fw.bin", 0),
        ("sign -v 01.2.3 -H 0x20 -S 0x10000 --pad-header fw.bin", 0),
        ("sign -v 1.2.3+4+5 -H 0x20 -S 0x10000 --pad-header fw.bin", 0),
        ("sign -v 256 -H 0x20 -S 0x10000 --pad-header fw.bin", 0),
        ("sign -H 0x20 -S 0x10000 --pad-header fw.bin", 0),
        ("COMMON --align 3 fw.bin", 2101),
        ("COMMON --max-align 4 fw.bin", 2101),
        ("COMMON -R 1 fw.bin", 0),
        ("COMMON --rom-fixed 0x1000 --load-addr 0x1000 fw.bin", 0),
    ];
    let mut peer = imgtool.session(&desk);
    for (arguments, _) in cases {
        let arguments = arguments.replace("COMMON", common);
        peer.say(&[arguments.split(' ').collect(), vec!["theirs.bin"]].concat());
    }
    for ((arguments, number), answer) in cases.iter().zip(peer.run_all()) {
        assert_ne!(answer.exit, 0, "imgtool takes {arguments}");
        let ran = desk.ampoule(&format!("image {} ours.bin", arguments.replace("COMMON", common)));
        match number {
            0 => assert!(ran.stderr().starts_with("error: "), "{arguments}: {}", ran.stderr()),
            number => drop(ran.fails(*number)),
        }
        assert!(!desk.path("ours.bin").exists(), "{arguments}");
    }
    // Where nothing says the address of an Intel HEX output.
    desk.ampoule(&format!("image {common} fw.bin out.hex")).fails(2105);
    // A file cut off before its end record is taken by imgtool, and not here.
    desk.ampoule(&format!("image {common} fw.hex out.bin")).fails(2104);
}

#[test]
fn tampered_images_are_refused_by_both() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    std::fs::write(desk.path("fw.bin"), firmware(500)).unwrap();
    /// Header, firmware and the protected area with a security counter.
    const SIGNED_BYTES: usize = 32 + 500 + 12;
    let mut peer = imgtool.session(&desk);
    for (kind, key) in [("ed25519", "a"), ("ecdsa-p256", "b"), ("ed25519", "other")] {
        peer.say(&["keygen", "-t", kind, "-k", key]);
    }
    peer.run_all_ok();
    for key in ["a", "b"] {
        let sign = format!("image sign -k {key} -v 1.0.0 -H 32 --pad-header -S 0x4000 -s 3 fw.bin {key}.bin");
        desk.ampoule(&sign).ok();
        let image = read(&desk.path(&format!("{key}.bin")));
        let changed: Vec<usize> = (0..image.len())
            .step_by(13)
            .filter(|at| !(8..20).contains(at))
            .collect();
        for at in &changed {
            let mut image = image.clone();
            image[*at] ^= 0x10;
            std::fs::write(desk.path(&format!("{key}{at}.bin")), image).unwrap();
            peer.say(&["verify", "-k", key, &format!("{key}{at}.bin")]);
        }
        for (at, answer) in changed.iter().zip(peer.run_all()) {
            let ours = desk.ampoule(&format!("image verify -k {key} {key}{at}.bin"));
            assert!(!ours.stderr().is_empty(), "byte {at} of {key}");
            // imgtool does not look at KEYHASH and the area's size; the hashed bytes are everybody's.
            assert!(
                answer.exit != 0 || *at >= SIGNED_BYTES,
                "imgtool takes byte {at} of {key}"
            );
        }
        desk.ampoule(&format!("image verify -k other {key}.bin")).fails(2108);
    }
}

#[test]
fn each_of_several_signatures_verifies_with_imgtool() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    std::fs::write(desk.path("fw.bin"), firmware(FIRMWARE_BYTES)).unwrap();
    let mut peer = imgtool.session(&desk);
    for (kind, key) in [
        ("ed25519", "a"),
        ("ecdsa-p256", "b"),
        ("ed25519", "c"),
        ("ed25519", "other"),
    ] {
        peer.say(&["keygen", "-t", kind, "-k", key]);
    }
    peer.run_all_ok();
    desk.ampoule("image sign -k a -k b -v 1.2.3 -H 0x20 --pad-header -S 0x10000 fw.bin two.bin")
        .ok();
    desk.ampoule("image add-signature -k c two.bin three.bin").ok();
    desk.ampoule("image add-signature -k c three.bin four.bin").fails(2107);
    for key in ["a", "b", "c", "other"] {
        peer.say(&["verify", "-k", key, "three.bin"]);
    }
    let exits: Vec<i64> = peer.run_all().iter().map(|answer| answer.exit).collect();
    assert_eq!(exits, [0, 0, 0, 1]);
}

#[test]
fn both_tools_read_each_others_encrypted_keys() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    let mut peer = imgtool.session(&desk);
    for (name, kind, algorithm) in [
        ("ours-a", "ed25519", SignatureAlgorithm::Ed25519),
        ("ours-b", "ecdsa-p256", SignatureAlgorithm::Esp256),
    ] {
        desk.key(name, algorithm);
        let theirs = name.replace("ours", "theirs");
        peer.say(&["keygen", "-p", "-t", kind, "-k", &theirs]);
        for key in [name, &theirs] {
            peer.say(&["getpub", "-e", "pem", "-k", key, "-o", &format!("{key}.pem")]);
            peer.say(&["getpubhash", "-e", "raw", "-k", key, "-o", &format!("{key}.hash")]);
        }
    }
    peer.run_all_ok();
    for key in ["ours-a", "ours-b", "theirs-a", "theirs-b"] {
        if key.starts_with("theirs") {
            // imgtool leaves the file readable for others.
            desk.ampoule(&format!("key show {key} --passphrase-file pass"))
                .fails(2010);
            owner_only(&desk.path(key));
        }
        let pem = desk
            .ampoule(&format!("key show --pem {key} --passphrase-file pass"))
            .ok();
        assert_eq!(pem.into_bytes(), read(&desk.path(&format!("{key}.pem"))));
        let shown = desk
            .ampoule(&format!("key show --unlock --json {key} --passphrase-file pass"))
            .json();
        let hash: String = read(&desk.path(&format!("{key}.hash")))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(shown["image_key_hash"], hash);
    }
}

#[test]
fn the_stand_in_for_imgtool_py_hands_its_arguments_on() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    std::fs::write(desk.path("zephyr.bin"), [vec![0; 0x200], firmware(3000)].concat()).unwrap();
    let mut peer = imgtool.session(&desk);
    peer.say(&["keygen", "-t", "ed25519", "-k", "key.pem"]);
    // As Zephyr's cmake/mcuboot.cmake builds the command, for the plain and for the confirmed image.
    let zephyr = [
        "sign",
        "--version",
        "1.2.3+0",
        "--header-size",
        "0x200",
        "--slot-size",
        "0x10000",
        "--key",
        "key.pem",
    ];
    let plain = ["--align", "4", "zephyr.bin", "zephyr.signed.bin"];
    let confirmed = [
        "--align",
        "4",
        "--pad",
        "--confirm",
        "zephyr.bin",
        "zephyr.signed.confirmed.bin",
    ];
    peer.say(&[&zephyr[..], &plain].concat());
    peer.say(&[&zephyr[..], &confirmed].concat());
    peer.run_all_ok();
    for rest in [&plain[..], &confirmed] {
        let file = rest.last().unwrap();
        let theirs = read(&desk.path(file));
        std::fs::remove_file(desk.path(file)).unwrap();
        let script = workspace().join("scripts/imgtool.py");
        let done = Command::new(&imgtool.python)
            .arg(script)
            .args([&zephyr[..], rest].concat())
            .env("AMPOULE", env!("CARGO_BIN_EXE_ampoule"))
            .current_dir(desk.directory())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(read(&desk.path(file)) == theirs, "{file}");
    }
    let wrong = Command::new(&imgtool.python)
        .arg(workspace().join("scripts/imgtool.py"))
        .args(["verify", "missing.bin"])
        .env("AMPOULE", env!("CARGO_BIN_EXE_ampoule"))
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
}

#[test]
fn a_vault_signs_for_both_tools_and_each_takes_what_the_other_wrote() {
    let Some(imgtool) = Imgtool::find() else { return };
    let desk = Desk::new();
    std::fs::write(desk.path("fw.bin"), firmware(FIRMWARE_BYTES)).unwrap();
    std::fs::write(desk.path("other.bin"), firmware(FIRMWARE_BYTES - 1)).unwrap();
    let options = "-v 1.2.3 -H 0x20 --pad-header -S 0x10000 -s 3";
    let sign = |rest: &str| format!("sign {options} {rest}");
    let mut peer = imgtool.session(&desk);
    let tell = |peer: &mut Session, command: &str| peer.say(&command.split(' ').collect::<Vec<_>>());
    let ours = |command: &str| desk.ampoule(&format!("image {command}"));
    let same = |a: &str, b: &str| assert!(read(&desk.path(a)) == read(&desk.path(b)), "{a} and {b}");
    for (kind, key, vector, vault) in [
        ("ecdsa-p256", "a", "payload", "dgst -sha256 -sign a -out a.sig ours.vec"),
        (
            "ecdsa-p256",
            "c",
            "digest",
            "pkeyutl -sign -inkey c -in ours.vec -out c.sig",
        ),
        (
            "ed25519",
            "b",
            "digest",
            "pkeyutl -sign -rawin -inkey b -in ours.vec -out b.sig",
        ),
    ] {
        tell(&mut peer, &format!("keygen -t {kind} -k {key}"));
        tell(&mut peer, &format!("getpub -e pem -k {key} -o {key}.pub"));
        for vector in ["payload", "digest"] {
            tell(
                &mut peer,
                &sign(&format!("--vector-to-sign {vector} fw.bin theirs-{vector}.vec")),
            );
        }
        tell(
            &mut peer,
            &sign(&format!("-k {key} --sig-out theirs-{key}.sig fw.bin theirs.img")),
        );
        peer.run_all_ok();
        for vector in ["digest", "payload"] {
            ours(&sign(&format!("--vector-to-sign {vector} fw.bin ours.vec"))).ok();
            same("ours.vec", &format!("theirs-{vector}.vec"));
        }
        ours(&sign(&format!("--vector-to-sign {vector} fw.bin ours.vec"))).ok();
        for command in [vault, &format!("base64 -in {key}.sig -out {key}.b64")] {
            let mut run = Command::new("openssl");
            let done = run.args(command.split(' ')).current_dir(desk.directory()).status();
            assert!(done.unwrap().success(), "{command}");
        }
        let fix = |signature: &str| format!("--fix-sig {signature} --fix-sig-pubkey {key}.pub");
        ours(&sign(&format!("{} fw.bin ours.img", fix(&format!("{key}.b64"))))).ok();
        tell(
            &mut peer,
            &sign(&format!("{} fw.bin fixed.img", fix(&format!("{key}.b64")))),
        );
        tell(&mut peer, &format!("verify -k {key} ours.img"));
        peer.run_all_ok();
        same("ours.img", "fixed.img");
        // Their own signature, taken by us; and ours, taken by them.
        ours(&sign(&format!(
            "{} fw.bin taken.img",
            fix(&format!("theirs-{key}.sig"))
        )))
        .ok();
        same("taken.img", "theirs.img");
        ours(&sign(&format!("-k {key} --sig-out ours-{key}.sig fw.bin ours.img"))).ok();
        tell(
            &mut peer,
            &sign(&format!("{} fw.bin fixed.img", fix(&format!("ours-{key}.sig")))),
        );
        peer.run_all_ok();
        same("ours.img", "fixed.img");

        ours(&sign(&format!("{} other.bin no.img", fix(&format!("{key}.b64"))))).fails(2049);
        std::fs::write(desk.path("garbage"), "bm8gc2lnbmF0dXJl").unwrap();
        ours(&sign(&format!("{} fw.bin no.img", fix("garbage")))).fails(2048);
        ours(&sign(&format!("--fix-sig {key}.sig fw.bin no.img"))).fails(2101);
        ours(&sign(&format!("{} -k {key} fw.bin no.img", fix(&format!("{key}.sig"))))).misused();
    }
    ours(&sign("--fix-sig a.sig --fix-sig-pubkey c.pub fw.bin no.img")).fails(2049);
    ours(&sign("--sig-out no.sig fw.bin no.img")).fails(2101);
    ours(&sign("-k a -k b --sig-out no.sig fw.bin no.img")).fails(2101);
    ours(&sign("--vector-to-sign digest --sig-out no.sig fw.bin no.img")).fails(2101);
    assert!(!desk.path("no.img").exists() && !desk.path("no.sig").exists());
}

/// One way to call `sign`.
struct Case {
    index: usize,
    options: Vec<String>,
    input: String,
    output: &'static str,
}

impl Case {
    fn ours(&self) -> String {
        format!("ours-{}.{}", self.index, self.output)
    }

    fn theirs(&self) -> String {
        format!("theirs-{}.{}", self.index, self.output)
    }

    fn arguments<'a>(&'a self, output: &'a str) -> Vec<&'a str> {
        let options = self.options.iter().map(String::as_str);
        [vec!["sign"], options.collect(), vec![self.input.as_str(), output]].concat()
    }
}

/// Combinations of everything that Zephyr's build and people pass, chosen by a seed; writes the inputs they name.
fn cases(desk: &Desk, key: &str, seed: u64) -> Vec<Case> {
    let mut dice = Dice(seed);
    let cases = (0..COMBINATIONS).map(|index| case(desk, key, index, &mut dice));
    cases.collect()
}

fn case(desk: &Desk, key: &str, index: usize, dice: &mut Dice) -> Case {
    let mut options = Vec::new();
    let mut add = |words: &[&str]| options.extend(words.iter().map(|word| word.to_string()));
    if !key.is_empty() {
        add(&[dice.one(&["-k", "--key"]), key]);
    }
    add(&[
        dice.one(&["-v", "--version"]),
        dice.one(&["0.0.0", "1.2.3", "1", "2.7", "255.255.65535+4294967295", "1.0.0+9"]),
    ]);
    let header = dice.one(&[32usize, 0x80, 0x200, 0x400]);
    add(&[dice.one(&["-H", "--header-size"]), &format!("{header:#x}")]);
    add(&[
        dice.one(&["-S", "--slot-size"]),
        dice.one(&["0x10000", "65536", "0x18000"]),
    ]);
    let pad_header = dice.may();
    if pad_header {
        add(&["--pad-header"]);
    }
    let align = dice.one(&[0u32, 1, 2, 4, 8, 16, 32]);
    if align != 0 {
        add(&["--align", &align.to_string()]);
    }
    let max_align = dice.one(&[0u32, 8, 16, 32]);
    if max_align >= align.max(8) {
        add(&["--max-align", &max_align.to_string()]);
    }
    add(dice.one(&[&[][..], &[], &["-M", "64"], &["--max-sectors", "256"]]));
    add(dice.one(&[&[][..], &[], &["--overwrite-only"]]));
    add(dice.one(&[
        &[][..],
        &["--pad"],
        &["--test"],
        &["--confirm"],
        &["--pad", "--confirm"],
    ]));
    add(dice.one(&[&[][..], &[], &["-R", "0"], &["--erased-val", "0xff"]]));
    add(dice.one(&[
        &[][..],
        &[],
        &["-L", "0x20000000"],
        &["--load-addr", "0"],
        &["-F", "0x8000"],
        &["--rom-fixed", "0"],
    ]));
    add(dice.one(&[
        &[][..],
        &["-s", "auto"],
        &["--security-counter", "7"],
        &["-s", "0xffffffff"],
        &["-s", "0"],
    ]));
    add(dice.one(&[
        &[][..],
        &[],
        &["-d", "(1, 1.2.3+4)"],
        &["--dependencies", "(0, 1), (255, 2.7.1)"],
    ]));
    add(dice.one(&[
        &[][..],
        &["--vid", "arm.com"],
        &["--vid", "Example.COM", "--cid", "a class"],
        &["--vid", "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe", "--cid", "AMP-DEMO-1"],
        &["--cid", "FA6B4A53D5AD5FDFBE9DE663E4D41FFE"],
    ]));
    add(dice.one(&[
        &[][..],
        &[],
        &["--custom-tlv", "0xa0", "0x0102ff"],
        &["--custom-tlv", "0x12fe", "text", "--custom-tlv", "169", "0x"],
        &[
            "--custom-tlv-file",
            "0xa5",
            "note",
            "--custom-tlv",
            "0xa4",
            "first all the same",
        ],
    ]));
    add(dice.one(&[&[][..], &[], &["--sha", "auto"], &["--sha", "256"], &["--non-bootable"]]));
    let (hex_in, output) = (dice.may(), dice.one(&["bin", "hex"]));
    if output == "hex" && (!hex_in || dice.may()) {
        add(&[
            dice.one(&["-x", "--hex-addr"]),
            dice.one(&["0x8000", "0", "0x0800fff0"]),
        ]);
    }
    let input = write_input(desk, index, if pad_header { 0 } else { header }, hex_in, dice);
    Case {
        index,
        options,
        input,
        output,
    }
}

/// Writes firmware with room for a header; as Intel HEX at some address, with a gap.
fn write_input(desk: &Desk, index: usize, header_space: usize, hex: bool, dice: &mut Dice) -> String {
    std::fs::write(desk.path("note"), b"\x00binary\xff").unwrap();
    let len = dice.one(&[1, 31, 4096, FIRMWARE_BYTES]);
    let bytes = [vec![0; header_space], firmware(len)].concat();
    if !hex {
        std::fs::write(desk.path(&format!("fw-{index}.bin")), &bytes).unwrap();
        return format!("fw-{index}.bin");
    }
    let address = dice.one(&[0u32, 0x8000, 0xf800, 0x0800_fc00]);
    let (first, second) = bytes.split_at(header_space + len.div_ceil(2));
    let gap = dice.one(&[0, 3, 100]);
    let text = release::hex::write(&[(address, first), (address + first.len() as u32 + gap, second)]).unwrap();
    std::fs::write(desk.path(&format!("fw-{index}.hex")), text).unwrap();
    format!("fw-{index}.hex")
}

/// A reproducible source of choices (PCG's multiplier and increment).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    fn one<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.throw() % choices.len()]
    }

    fn may(&mut self) -> bool {
        self.throw() % 2 == 1
    }
}

/// The installed imgtool.
struct Imgtool {
    python: PathBuf,
}

/// Runs every command of a JSON list with imgtool's own entry point. A passphrase that it asks for is that of the desk.
const DRIVER: &str = r#"
import getpass, json, os, sys
getpass.getpass = lambda *_: os.environ["PASSPHRASE"]
from click.testing import CliRunner
from imgtool.main import imgtool
answers = []
for command in json.load(sys.stdin):
    done = CliRunner().invoke(imgtool, command)
    answers.append({"exit": done.exit_code, "output": done.output, "error": repr(done.exception)})
json.dump(answers, sys.stdout)
"#;

impl Imgtool {
    fn find() -> Option<Imgtool> {
        let given = std::env::var_os("AMPOULE_PY_VENV").map(PathBuf::from);
        let python = given
            .unwrap_or_else(|| workspace().join("target/venv"))
            .join("bin/python");
        let import = Command::new(&python).args(["-c", "import imgtool"]).output();
        if import.is_ok_and(|output| output.status.success()) {
            return Some(Imgtool { python });
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs imgtool: run `cargo xtask test`"
        );
        eprintln!(
            "skipped: there is no imgtool at {}; `cargo xtask test` installs it",
            python.display()
        );
        None
    }

    fn session<'a>(&'a self, desk: &'a Desk) -> Session<'a> {
        Session {
            imgtool: self,
            desk,
            commands: Vec::new(),
        }
    }
}

/// Commands for imgtool that are collected and then run at once.
struct Session<'a> {
    imgtool: &'a Imgtool,
    desk: &'a Desk,
    commands: Vec<Vec<String>>,
}

struct Answer {
    exit: i64,
    output: String,
    error: String,
}

impl Session<'_> {
    fn say(&mut self, arguments: &[&str]) {
        self.commands
            .push(arguments.iter().map(|argument| argument.to_string()).collect());
    }

    fn run_all(&mut self) -> Vec<Answer> {
        let commands = json!(std::mem::take(&mut self.commands)).to_string();
        let mut child = Command::new(&self.imgtool.python)
            .args(["-c", DRIVER])
            .current_dir(self.desk.directory())
            .env("PASSPHRASE", PASSPHRASE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the driver failed");
        let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let answer = |answer: &Value| Answer {
            exit: answer["exit"].as_i64().unwrap(),
            output: text(&answer["output"]),
            error: text(&answer["error"]),
        };
        answers.iter().map(answer).collect()
    }

    /// Every command must succeed; gives what each printed.
    fn run_all_ok(&mut self) -> Vec<String> {
        let commands = self.commands.clone();
        let answers = self.run_all();
        for (command, answer) in commands.iter().zip(&answers) {
            assert_eq!(
                answer.exit, 0,
                "imgtool {command:?}: {} {}",
                answer.output, answer.error
            );
        }
        answers.into_iter().map(|answer| answer.output).collect()
    }
}

fn ampoule(desk: &Desk, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ampoule"))
        .args(arguments)
        .current_dir(desk.directory())
        .env("AMPOULE_JOURNAL", desk.path("journal.jsonl"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ampoule {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn our_dumpinfo(desk: &Desk, file: &str) -> Value {
    serde_json::from_str(&ampoule(desk, &["image", "dumpinfo", "-f", "json", file])).unwrap()
}

fn firmware(len: usize) -> Vec<u8> {
    (1..=len).map(|at| (at * 31 + at / 251) as u8 | 1).collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn owner_only(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let _ = path;
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
