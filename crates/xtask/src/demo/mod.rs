//! The story of a release on a board in QEMU, told as it happens. Whatever does not happen as told ends the story with an
//! error.

mod bench;
mod story;
mod tokens;

use crate::{setup, sh};
use ::release::envelope::Envelope;
use anyhow::{Context, Result, bail};
use bench::Bench;
use sim::firmware::Build;
use std::fs;
use story::Story;

/// Whether the story waits for its reader between scenes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    WaitForReader,
    Once,
}

/// The board that the story is about.
const BOARD_FILE: &str = "boards/mps2-an386.toml";
/// How recipes name it, and who it is.
const BOARD: &str = "board = \"board.toml\"";
const VENDOR: &str = "ampoule.example";
const MODEL: &str = "AMP-DEMO-1";
/// The tokens of the story, one for each person or place; what their key is called too.
const ROOT_KEYS: [&str; 3] = ["safe-a", "safe-b", "safe-c"];
const RELEASE_KEYS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const IMAGE_KEY: &str = "builder";

/// Tells the story.
pub(crate) fn run(pace: Pace) -> Result<()> {
    setup::everything()?;
    println!("building the command line tool and the firmware; the first time takes some minutes");
    sh::run(sh::cargo().args(["build", "--quiet", "--bin", "ampoule"]))?;
    let mut story = Story::begin(pace, sh::target().join("debug/ampoule"))?;
    let bootloader = firmware(&mut story)?;
    keys_and_root(&mut story)?;
    first_release(&mut story)?;
    let mut bench = Bench::new(&story, &sh::root().join(BOARD_FILE), bootloader)?;
    factory(&mut story, &mut bench)?;
    update(&mut story, &mut bench)?;
    forgeries(&mut story, &mut bench)?;
    hanging_firmware(&mut story, &mut bench)?;
    power_cut(&mut story, &mut bench)?;
    lost_key(&mut story, &mut bench)?;
    journal(&mut story)?;
    story.end()
}

/// Builds the programs; returns the bootloader's path.
fn firmware(story: &mut Story) -> Result<std::path::PathBuf> {
    fs::copy(sh::root().join(BOARD_FILE), story.folder.join("board.toml"))?;
    let first = Build::version("1.0.0").run()?;
    story.write("firmware-1.bin", first.firmware()?.bytes)?;
    for (number, behaviour) in [(2, "healthy"), (3, "hang"), (4, "healthy")] {
        let programs = Build::version(&format!("{number}.0.0")).behaving(behaviour).run()?;
        story.write(&format!("firmware-{number}.bin"), programs.firmware()?.bytes)?;
    }
    Ok(first.bootloader)
}

fn keys_and_root(story: &mut Story) -> Result<()> {
    story.scene("Keys that nobody can copy, and a trust root")?;
    story.say(
        "A product line needs three kinds of keys. Root keys say who may do what: three, in three safes, and two must agree. \
         Release keys say what is delivered: Alice, Bob and Carol, and two must agree. An image key says what may boot. Each \
         is made inside a token and never leaves it; SoftHSM stands in for the hardware.",
    )?;
    let tokens: Vec<&str> = ROOT_KEYS.into_iter().chain(RELEASE_KEYS).chain([IMAGE_KEY]).collect();
    tokens::make(story, &tokens)?;
    for token in tokens {
        story.ampoule(&format!("key new {} --type p256", uri(token)))?;
    }
    story.say("The trust root names them. It is the only thing that a device is told to believe.")?;
    let keys = |option: &str, tokens: &[&str]| -> String {
        tokens
            .iter()
            .map(|token| format!(" --{option} {}", uri(token)))
            .collect()
    };
    story.ampoule(&format!(
        "trust init --output root-1.ampr --environment production --board board.toml{} --root-threshold 2{} \
         --release-threshold 2{}",
        keys("root-key", &ROOT_KEYS),
        keys("release-key", &RELEASE_KEYS[..3]),
        keys("image-key", &[IMAGE_KEY]),
    ))?;
    Ok(())
}

/// The key in this token. Each token has its own PIN, so each URI says where that is.
fn uri(token: &str) -> String {
    format!("pkcs11:token={token};object={token}?pin-source=file:{token}.pin")
}

/// The options of two people who sign a release for a root.
fn signed_by(one: &str, other: &str, root: &str) -> String {
    format!("--key {} --key {} --root {root}", uri(one), uri(other))
}

/// Options that sign a release as root 1 demands.
fn signed() -> String {
    signed_by("alice", "bob", "root-1.ampr")
}

fn first_release(story: &mut Story) -> Result<()> {
    story.scene("A release: one recipe, one file, two of three people")?;
    story.say("Version 1.0.0 of the firmware was built by cargo for a Cortex-M4. A recipe says for whom it is.")?;
    story.write("release-1.toml", recipe(1, BOARD))?;
    story.show_file("release-1.toml")?;
    story.say(
        "A token signs nothing that its holder was not shown. The builder reads what the image is, and approves exactly that: \
         by its digest.",
    )?;
    story.ampoule_is_refused(&sign_image(1, 1, 1, MODEL), 2138)?;
    story.ampoule_approved(&sign_image(1, 1, 1, MODEL))?;
    story.say("Alice builds the release and signs it. One of three is not enough: no device would take it.")?;
    let alone = format!(
        "release build release-1.toml --output release-1.suit --key {} --root root-1.ampr",
        uri("alice")
    );
    story.ampoule_approved(&alone)?;
    story.ampoule_is_refused("release verify release-1.suit --root root-1.ampr", 219)?;
    story.say("Bob is shown what he would sign, and signs exactly that: he names its digest.")?;
    let digest = manifest_digest(&story.read("release-1.suit")?)?;
    story.ampoule(&format!(
        "release sign release-1.suit --key {} --root root-1.ampr --approve {digest}",
        uri("bob")
    ))?;
    story.say("Anybody who has the trust root can check the file. It may now travel by anything.")?;
    story.ampoule("release verify release-1.suit --root root-1.ampr")?;
    Ok(())
}

fn factory(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("An erased board gets its root and its first firmware")?;
    bench.power_on()?;
    bench.wait(story, &["nothing may start, reason 940"])?;
    story.say("Its bootloader runs, has no root, believes nobody and waits. The root can be given once.")?;
    story.ampoule("device provision --root root-1.ampr --port board.port")?;
    story.say("From here on only what this root allows can run. The image travels inside the release.")?;
    story.ampoule("device recover release-1.suit --port board.port")?;
    bench.wait(story, &["boot: starting 1.0.0+0 confirmed", "app: self-test passed"])
}

fn update(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("An update: received, tried, confirmed")?;
    build(story, (2, 2, 2), &signed())?;
    story.say(
        "The running application receives the release: signatures, target, version and counter before the first erase, \
         every chunk before it is written. The bootloader judges the image again, swaps, and starts it on trial.",
    )?;
    story.ampoule("device update release-2.suit --port board.port")?;
    bench.wait(
        story,
        &[
            "boot: starting 2.0.0+0 trial",
            "app: self-test passed",
            "app: confirmed",
        ],
    )?;
    story.ampoule("device info --port board.port")?;
    Ok(())
}

fn forgeries(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("What the board refuses")?;
    story.say("None of the following changes a single byte of the board's flash. We compare all 16 MiB each time.")?;

    story.say("A tampered release: one bit of the manifest is another one.")?;
    let release = story.read("release-2.suit")?;
    story.write("tampered.suit", flipped(&release, last_of_manifest(&release)?))?;
    bench.refuses(story, "tampered.suit", 212)?;

    story.say("A release that Alice signed alone, without Bob.")?;
    build(story, (5, 5, 2), &format!("--key {}", uri("alice")))?;
    bench.refuses(story, "release-5.suit", 219)?;

    story.say("A correctly signed release for another class of devices.")?;
    let other = "vendor-domain = \"ampoule.example\"\nmodel = \"AMP-OTHER-7\"";
    story.write("release-6.toml", recipe(6, other))?;
    story.ampoule_approved(&sign_image(6, 6, 2, "AMP-OTHER-7"))?;
    story.ampoule_approved(&build_release(6, &signed()))?;
    bench.refuses(story, "release-6.suit", 602)?;

    story.say("A downgrade: release 1 was good once, and its signatures still are.")?;
    bench.refuses(story, "release-1.suit", 607)?;

    story.say("Old firmware under a new sequence number: its security counter gives it away.")?;
    build(story, (7, 1, 1), &signed())?;
    bench.refuses(story, "release-7.suit", 610)
}

fn hanging_firmware(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("Firmware that hangs")?;
    story.say(
        "Release 3 is signed by everybody, and its firmware stops in an endless loop. Nobody noticed on the desk.",
    )?;
    build(story, (3, 3, 3), &signed())?;
    story.ampoule_is_refused("device update release-3.suit --port board.port", 931)?;
    bench.wait(
        story,
        &[
            "boot: starting 3.0.0+0 trial",
            "app: last update reverted: 931",
            "app: self-test passed",
        ],
    )?;
    story.say(
        "It was never confirmed, so the watchdog ended its trial, the old image came back, and the board says why.",
    )
}

fn power_cut(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("Power fails in the middle of the swap")?;
    build(story, (4, 4, 4), &signed())?;
    story.ampoule("device update release-4.suit --no-reset --port board.port")?;
    story.ampoule("device reset --port board.port")?;
    let (done, all) = bench.cut_power_in_swap()?;
    story.say(&format!(
        "The power is cut while the images change places: {done} of {all} half steps are done, and neither image is whole \
         in the primary slot."
    ))?;
    story.say("Power comes back.")?;
    bench.power_on()?;
    bench.wait(
        story,
        &[
            "boot: starting 4.0.0+0 trial",
            "app: self-test passed",
            "app: confirmed",
        ],
    )?;
    let info = story.ampoule("device info --port board.port")?;
    if !info.contains("running version:        4.0.0") {
        bail!("the board does not run version 4.0.0");
    }
    Ok(())
}

fn lost_key(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("Carol's token is lost")?;
    story.say(
        "Whoever finds it cannot deliver with it alone, but one of two is half the way. So the next root names Dave in her \
         place. Nobody has signed it yet, and everybody sees what would change.",
    )?;
    let proposed = story.ampoule(&format!(
        "trust propose --from root-1.ampr --output root-2.ampr --board board.toml --remove-key {} --revoke {} --add-key \
         release={}",
        uri("carol"),
        uri("carol"),
        uri("dave"),
    ))?;
    let digest = proposed
        .split_whitespace()
        .skip_while(|word| *word != "digest")
        .nth(1)
        .context("the proposal states no digest")?;
    story.say("Two of the three safes are opened. Each key signs exactly this digest.")?;
    for safe in &ROOT_KEYS[..2] {
        story.ampoule(&format!(
            "trust sign root-2.ampr --previous root-1.ampr --key {} --approve {digest}",
            uri(safe)
        ))?;
    }
    story.ampoule("trust rotate --from root-1.ampr --next root-2.ampr --chain roots.ampc --board board.toml")?;
    story.say(
        "Alice and Dave release the next version. The chain of roots goes with it; the board walks it by itself.",
    )?;
    build(story, (8, 8, 2), &signed_by("alice", "dave", "root-2.ampr"))?;
    story.ampoule("device update release-8.suit --root-chain roots.ampc --port board.port")?;
    bench.wait(
        story,
        &[
            "boot: starting 8.0.0+0 trial",
            "app: self-test passed",
            "app: confirmed",
        ],
    )?;
    let info = story.ampoule("device info --port board.port")?;
    if !info.contains("version 2, production") {
        bail!("the board does not hold root 2");
    }
    story.say("And the finder of Carol's token, even together with Alice, gets nothing into the board any more.")?;
    build(
        story,
        (9, 9, 2),
        &format!("--key {} --key {}", uri("alice"), uri("carol")),
    )?;
    bench.refuses(story, "release-9.suit", 219)
}

fn journal(story: &mut Story) -> Result<()> {
    story.scene("Every signature left a trace")?;
    story.say(
        "The signing journal was written before each signature was released. Its entries are chained by their hashes: one \
         that is changed or taken out is found and named.",
    )?;
    story.ampoule("journal verify")?;
    let mut journal = story.read("journal.jsonl")?;
    let middle = journal.len() / 2;
    if let Some(byte) = journal.get_mut(middle) {
        *byte ^= 1;
    }
    story.write("edited.jsonl", journal)?;
    story.ampoule_fails("journal verify --journal edited.jsonl")
}

/// SHA-256 by which a release is signed.
fn manifest_digest(release: &[u8]) -> Result<String> {
    let envelope = Envelope::parse(release.to_vec())?;
    Ok(::release::hex::text(&trust::Sha256::of(envelope.head().manifest_value)))
}

/// The recipe of the release of `image-<number>.bin`.
fn recipe(number: u32, target: &str) -> String {
    format!(
        "schema = 1\n\n[release]\nsequence = {number}\nversion = \"{number}.0.0\"\n\n[target]\n{target}\n\n\
         [text.en]\nupdate = \"Version {number}\"\n\n[[component]]\nid = [\"app\"]\nfile = \"image-{number}.bin\"\n\
         format = \"mcuboot-image\"\n"
    )
}

/// The command that makes `firmware-<firmware>.bin` the image of version `number`.
fn sign_image(number: u32, counter: u32, firmware: u32, model: &str) -> String {
    format!(
        "image sign --key {} --root root-1.ampr --version {number}.0.0 --header-size 0x400 --pad-header --slot-size 0x80000 \
         --security-counter {counter} --vid {VENDOR} --cid {model} firmware-{firmware}.bin image-{number}.bin",
        uri(IMAGE_KEY)
    )
}

fn build_release(number: u32, keys: &str) -> String {
    format!("release build release-{number}.toml --output release-{number}.suit {keys}")
}

/// A release of some firmware for the board: image signed, recipe written, release signed.
fn build(story: &mut Story, (number, counter, firmware): (u32, u32, u32), keys: &str) -> Result<()> {
    story.ampoule_approved(&sign_image(number, counter, firmware, MODEL))?;
    story.write(&format!("release-{number}.toml"), recipe(number, BOARD))?;
    story.ampoule_approved(&build_release(number, keys)).map(drop)
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}

/// A place in the signed manifest: its last byte.
fn last_of_manifest(release: &[u8]) -> Result<usize> {
    let envelope = Envelope::parse(release.to_vec())?;
    let manifest = envelope.head().manifest_value;
    let start = release.windows(manifest.len()).position(|window| window == manifest);
    Ok(start.context("the release has no manifest")? + manifest.len() - 1)
}
