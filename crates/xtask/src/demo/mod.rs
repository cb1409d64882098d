//! The story of a release on a board in QEMU, told as it happens. Whatever does not happen as told ends the story with an
//! error.

mod bench;
mod story;

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
/// Options of every command that opens private keys.
const PASSPHRASE: &str = "--passphrase-file passphrase.txt";
/// Typed wherever a production root meets these keys: they are files, because this is a demonstration.
const DEMO_KEYS_ARE_FILES: &str = "--i-know-these-production-keys-are-files";
/// Options that sign a release as the root demands.
const SIGNED: &str = "--key alice.pem --key bob.pem --image-key image.pem --root root.cbor \
                      --i-know-these-production-keys-are-files";

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
    story.scene("Keys and a trust root")?;
    story.say(
        "A product line needs three kinds of keys. Root keys say who may do what and are kept in a safe. Image keys say \
         what may boot. Release keys say what is delivered, and here two people must agree: Alice and Bob.",
    )?;
    story.write("passphrase.txt", "four random words suffice\n")?;
    for key in ["root", "image", "alice", "bob"] {
        story.ampoule(&format!("key new {key}.pem --type p256 {PASSPHRASE}"))?;
    }
    story.say("The trust root names them. It is the only thing that a device is told to believe.")?;
    story.ampoule(&format!(
        "trust init --output root.cbor --environment production --board board.toml --root-key root.pem --image-key \
         image.pem --release-key alice.pem --release-key bob.pem --release-threshold 2 {PASSPHRASE} {DEMO_KEYS_ARE_FILES}"
    ))?;
    Ok(())
}

fn first_release(story: &mut Story) -> Result<()> {
    story.scene("A release: one recipe, one file")?;
    story.say("Version 1.0.0 of the firmware was built by cargo for a Cortex-M4. A recipe says for whom it is.")?;
    story.write("release-1.toml", recipe(1, 1, "board = \"board.toml\""))?;
    story.show_file("release-1.toml")?;
    build(story, 1, SIGNED)?;
    story.say("Anybody who has the trust root can check the file. It may now travel by anything.")?;
    story.ampoule("release verify release-1.suit --root root.cbor")?;
    Ok(())
}

fn factory(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("An erased board gets its root and its first firmware")?;
    bench.power_on()?;
    bench.wait(story, &["nothing may start, reason 940"])?;
    story.say("Its bootloader runs, has no root, believes nobody and waits. The root can be given once.")?;
    story.ampoule("device provision --root root.cbor --port board.port")?;
    story.say("From here on only what this root allows can run. The image travels inside the release.")?;
    story.ampoule("device recover release-1.suit --port board.port")?;
    bench.wait(story, &["boot: starting 1.0.0+0 confirmed", "app: self-test passed"])
}

fn update(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("An update: received, tried, confirmed")?;
    story.write("release-2.toml", recipe(2, 2, "board = \"board.toml\""))?;
    build(story, 2, SIGNED)?;
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
    story.write(
        "release-5.toml",
        recipe(5, 5, "board = \"board.toml\"").replace("firmware-5", "firmware-2"),
    )?;
    story.ampoule(&format!(
        "release build release-5.toml --output alone.suit --key alice.pem --image-key image.pem {PASSPHRASE}"
    ))?;
    bench.refuses(story, "alone.suit", 219)?;

    story.say("A correctly signed release for another class of devices.")?;
    let other = "vendor-domain = \"ampoule.example\"\nmodel = \"AMP-OTHER-7\"";
    story.write("other.toml", recipe(6, 6, other).replace("firmware-6", "firmware-2"))?;
    story.ampoule(&format!(
        "release build other.toml --output other.suit {SIGNED} {PASSPHRASE}"
    ))?;
    bench.refuses(story, "other.suit", 602)?;

    story.say("A downgrade: release 1 was good once, and its signatures still are.")?;
    bench.refuses(story, "release-1.suit", 607)?;

    story.say("Old firmware under a new sequence number: its security counter gives it away.")?;
    story.write(
        "old.toml",
        recipe(7, 1, "board = \"board.toml\"").replace("firmware-7", "firmware-1"),
    )?;
    story.ampoule(&format!(
        "release build old.toml --output old.suit {SIGNED} {PASSPHRASE}"
    ))?;
    bench.refuses(story, "old.suit", 610)
}

fn hanging_firmware(story: &mut Story, bench: &mut Bench) -> Result<()> {
    story.scene("Firmware that hangs")?;
    story.say(
        "Release 3 is signed by everybody, and its firmware stops in an endless loop. Nobody noticed on the desk.",
    )?;
    story.write("release-3.toml", recipe(3, 3, "board = \"board.toml\""))?;
    build(story, 3, SIGNED)?;
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
    story.write("release-4.toml", recipe(4, 4, "board = \"board.toml\""))?;
    build(story, 4, SIGNED)?;
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

/// The recipe of a release of `firmware-<number>.bin`.
fn recipe(number: u32, counter: u32, target: &str) -> String {
    format!(
        "schema = 1\n\n[release]\nsequence = {number}\nversion = \"{number}.0.0\"\n\n[target]\n{target}\n\n\
         [text.en]\nupdate = \"Version {number}\"\n\n[[component]]\nid = [\"app\"]\nfile = \"firmware-{number}.bin\"\n\
         format = \"mcuboot-image\"\nsecurity-counter = {counter}\n\n[component.sign]\nheader-size = 0x400\n\
         pad-header = true\n"
    )
}

fn build(story: &mut Story, number: u32, keys: &str) -> Result<()> {
    let line = format!("release build release-{number}.toml --output release-{number}.suit {keys} {PASSPHRASE}");
    story.ampoule(&line).map(drop)
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
