//! Other people's clients on a board's serial port, and other people's images in its slots.
//!
//! `smpmgr` (command line), `smpclient` (library) and `mcumgr-toolkit` (an independent Rust implementation, as a Python
//! wheel) drive the board over a pty; `imgtool` makes images that boot. They are found in the virtual environment that
//! `cargo xtask` makes; without it the tests say so and pass at home, and fail in CI.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ampoule_sim::bench::Bench;
use ampoule_sim::firmware::{Build, Programs};
use ampoule_sim::fixture::{Identity, Scheme};
use ampoule_sim::nor::Nor;
use ampoule_sim::qemu::{Board, Options, SmpLine};
use ampoule_sim::station::Station;
use codec::Reason;
use codec::roots::Environment;
use serde_json::{Value, json};

/// How long the board may take for a step, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the board says about its message buffer: `smp.buffer` and `smp.buffers` of the board file.
const BUFFER: [u32; 2] = [2048, 1];
/// smpmgr does not ask what the board can take; its own default is two lines of 128 bytes.
const LONG_MESSAGES: [&str; 4] = ["--line-length", "128", "--line-buffers", "16"];

#[test]
fn smpmgr_takes_a_board_from_one_version_to_the_next() {
    let Some(venv) = venv("smpmgr") else { return };
    let line = Line::new(Environment::Production);
    let mut board = line.start();
    let mut peer = Peer::start(&venv, "smpmgr_cli.py", &board);
    let mut smpmgr = |arguments: &[&str]| -> String {
        let answer = peer.ask(json!({"do": "run", "arguments": arguments}))["ok"].clone();
        format!("{} {}", answer["exit"], answer["output"].as_str().unwrap_or_default())
    };
    wait(&mut board, "app: self-test passed");

    assert_says(&smpmgr(&["os", "echo", "hello"]), &["0 ", "r='hello'"]);
    assert_says(
        &smpmgr(&["image", "state-read"]),
        &["0 ", "slot=0", "version='1.0.0", "confirmed=True", "active=True"],
    );

    // What the device refuses is told by number and name.
    let raw = line.file("raw.bin", &line.images[1]);
    assert_refused(
        &smpmgr(&["image", "upload", &raw, "--format", "any"]),
        Reason::RawImageRefused,
    );
    let foreign = line.file("foreign.suit", &line.for_another_class());
    assert_refused(
        &smpmgr(&["image", "upload", &foreign, "--format", "any"]),
        Reason::ClassMismatch,
    );
    let text = "00".repeat(32);
    assert_refused(&smpmgr(&["image", "state-write", &text]), Reason::NothingStaged);

    // The update.
    let release = line.file("release.suit", &line.release);
    let upload = [&LONG_MESSAGES[..], &["image", "upload", &release, "--format", "any"]].concat();
    assert_says(&smpmgr(&upload), &["0 ", "100.0%"]);
    assert_says(&smpmgr(&["image", "state-read"]), &["slot=1", "version='2.0.0"]);
    assert_refused(&smpmgr(&["image", "state-write", &text]), Reason::HashUnknown);
    let hash = hex(&digest(&line.images[1]));
    assert_says(&smpmgr(&["image", "state-write", &hash]), &["0 "]);
    assert_says(&smpmgr(&["image", "state-read"]), &["pending=True"]);
    assert_refused(&smpmgr(&["image", "erase", "1"]), Reason::SlotPending);
    assert_says(&smpmgr(&["os", "reset"]), &["0 "]);
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    wait(&mut board, "app: self-test passed");
    assert_says(&smpmgr(&["image", "state-write", "--confirm"]), &["0 "]);
    let states = smpmgr(&["image", "state-read"]);
    assert_says(&states, &["slot=0", "version='2.0.0", "confirmed=True", "active=True"]);
    assert_says(&smpmgr(&["os", "reset"]), &["0 "]);
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 confirmed");
    wait(&mut board, "app: self-test passed");

    // And not back.
    let old = line.file("old.suit", &line.station.bench.release(1, &line.images[0], 1));
    assert_refused(
        &smpmgr(&["image", "upload", &old, "--format", "any"]),
        Reason::SeqRollback,
    );
}

#[test]
fn smpclient_resumes_an_upload_and_erases_it() {
    let Some(venv) = venv("smpclient") else { return };
    let line = Line::new(Environment::Production);
    let mut board = line.start();
    let mut peer = Peer::start(&venv, "smpclient_library.py", &board);
    wait(&mut board, "app: self-test passed");

    let long = "long ".repeat(300);
    assert_eq!(peer.ok(json!({"do": "echo", "text": long})), json!(long));
    assert_eq!(peer.ok(json!({"do": "parameters"})), json!(BUFFER));

    // Stopped in the middle; the file's hash is enough to go on.
    let release = line.file("release.suit", &line.release);
    let begun = offsets(&peer.ok(json!({"do": "upload", "file": release, "pieces": 12})));
    assert_eq!(begun.len(), 12);
    let resumed = offsets(&peer.ok(json!({"do": "upload", "file": release, "pieces": 5})));
    assert!(resumed[0] >= begun[11], "{begun:?} {resumed:?}");

    // So it is after the power failed: whole chunks stay.
    drop(peer);
    drop(board);
    let mut board = line.start();
    let mut peer = Peer::start(&venv, "smpclient_library.py", &board);
    wait(&mut board, "app: self-test passed");
    let rest = offsets(&peer.ok(json!({"do": "upload", "file": release})));
    assert!(rest[0] > begun[0] && rest[0] <= resumed[4], "{resumed:?} {rest:?}");
    assert_eq!(rest.last(), Some(&(line.release.len() as u64)));
    let pieces = line.release.len().div_ceil(BUFFER[0] as usize);
    assert!(
        begun.len() + resumed.len() + rest.len() < pieces * 2,
        "{} pieces",
        rest.len()
    );

    // Erased, refused in what it cannot do, and brought again.
    assert_eq!(staged(&peer.ok(json!({"do": "images"}))), Some("2.0.0".into()));
    peer.ok(json!({"do": "erase", "slot": 1}));
    assert_eq!(staged(&peer.ok(json!({"do": "images"}))), None);
    assert_refused(&peer.refused(json!({"do": "erase", "slot": 0})), Reason::NotSupported);
    peer.ok(json!({"do": "upload", "file": release}));
    let hash = hex(&digest(&line.images[1]));
    assert_refused(
        &peer.refused(json!({"do": "set_state", "hash": hash, "confirm": true})),
        Reason::PermanentRefused,
    );
    peer.ok(json!({"do": "set_state", "hash": hash}));
    peer.ok(json!({"do": "reset"}));
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    wait(&mut board, "app: self-test passed");
    let images = peer.ok(json!({"do": "set_state", "confirm": true}));
    assert_eq!(images[0]["version"], "2.0.0", "{images}");
    assert_eq!(images[0]["confirmed"], true, "{images}");
}

#[test]
fn mcumgr_toolkit_takes_a_board_from_one_version_to_the_next() {
    let Some(venv) = venv("mcumgr_toolkit") else { return };
    let line = Line::new(Environment::Production);
    let mut board = line.start();
    let mut peer = Peer::start(&venv, "toolkit.py", &board);
    wait(&mut board, "app: self-test passed");

    assert_eq!(peer.ok(json!({"do": "echo", "msg": "hello"})), json!("hello"));
    assert_eq!(peer.ok(json!({"do": "parameters"})), json!(BUFFER));
    assert_says(&peer.ok(json!({"do": "application"})).to_string(), &["ampoule-demo"]);
    assert_says(&peer.ok(json!({"do": "bootloader"})).to_string(), &["MCUboot"]);
    assert_eq!(peer.ok(json!({"do": "slots"})), json!([[0, 0x8_0000], [1, 0x8_1000]]));

    let raw = line.file("raw.bin", &line.images[1]);
    assert_refused(
        &peer.refused(json!({"do": "upload", "file": raw})),
        Reason::RawImageRefused,
    );
    let foreign = line.file("foreign.suit", &line.for_another_class());
    assert_refused(
        &peer.refused(json!({"do": "upload", "file": foreign})),
        Reason::ClassMismatch,
    );
    let release = line.file("release.suit", &line.release);
    peer.ok(json!({"do": "upload", "file": release}));
    peer.ok(json!({"do": "erase", "slot": 1}));
    assert_eq!(staged(&peer.ok(json!({"do": "images"}))), None);
    peer.ok(json!({"do": "upload", "file": release}));
    let images = peer.ok(json!({"do": "set_state", "hash": hex(&digest(&line.images[1]))}));
    assert_eq!(images[1]["pending"], true, "{images}");
    peer.ok(json!({"do": "reset"}));
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    wait(&mut board, "app: self-test passed");
    peer.ok(json!({"do": "set_state", "confirm": true}));
    let images = peer.ok(json!({"do": "images"}));
    assert_eq!(images[0]["confirmed"], true, "{images}");
    let old = line.file("old.suit", &line.station.bench.release(1, &line.images[0], 1));
    assert_refused(&peer.refused(json!({"do": "upload", "file": old})), Reason::SeqRollback);
}

/// A development board takes raw images, so the client's own update routine works on it from end to end. The image does
/// not pass its self-test, so nobody can confirm it.
#[test]
fn mcumgr_toolkit_updates_a_development_board_with_a_raw_image() {
    let Some(venv) = venv("mcumgr_toolkit") else { return };
    let line = Line::new(Environment::Development);
    let sick = Build::version("3.0.0").behaving("never-confirm").run();
    let sick = line
        .station
        .bench
        .image(&sick.expect("the firmware builds"), (3, 0, 0), 3, 0);
    let sick = sick.expect("an image");
    let mut board = line.start();
    let mut peer = Peer::start(&venv, "toolkit.py", &board);
    wait(&mut board, "app: self-test passed");
    peer.ok(json!({"do": "update", "file": line.file("sick.bin", &sick)}));
    assert_eq!(wait(&mut board, "boot: starting "), "3.0.0+0 trial");
    wait(&mut board, "app: self-test failed");
    assert_refused(
        &peer.refused(json!({"do": "set_state", "confirm": true})),
        Reason::NotSelfTested,
    );
    peer.ok(json!({"do": "reset"}));
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    wait(&mut board, "app: self-test passed");
    let raw = line.file("raw.bin", &line.images[1]);
    peer.ok(json!({"do": "update", "file": raw}));
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    wait(&mut board, "app: self-test passed");
    peer.ok(json!({"do": "set_state", "confirm": true}));
}

/// What `imgtool sign --pad --confirm` wrote goes into the primary slot as it is, trailer and all.
#[test]
fn an_image_that_imgtool_padded_and_confirmed_boots() {
    let Some(venv) = venv("imgtool") else { return };
    let line = Line::new(Environment::Production);
    let image = line.imgtool(&venv, "1.0.0", 1, &line.programs[0], &["--pad", "--confirm"]);
    assert_eq!(image.len() as u32, line.station.layout.primary.len);
    let mut board = line.start_on(&line.station.factory(&image));
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    wait(&mut board, "app: self-test passed");
}

/// The image of a release may come from imgtool: the device asks who signed it, not which tool did.
#[test]
fn an_image_that_imgtool_signed_arrives_in_a_release() {
    let Some(venv) = venv("imgtool") else { return };
    let line = Line::new(Environment::Production);
    let image = line.imgtool(&venv, "2.0.0", 2, &line.programs[1], &[]);
    let factory = line.station.factory(&line.images[0]);
    let release = line.station.bench.release(2, &image, 2);
    let mut board = line.start_on(&line.station.staged(factory, &release));
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    wait(&mut board, "app: version 2.0.0");
    wait(&mut board, "app: self-test passed");
}

/// A product line with two versions: 1 comes from the factory, 2 waits for a confirmation over the wire.
struct Line {
    station: Station,
    programs: [Programs; 2],
    images: [Vec<u8>; 2],
    release: Vec<u8>,
}

impl Line {
    fn new(environment: Environment) -> Line {
        let (mut bench, one) = Bench::new(Scheme::P256, &Build::version("1.0.0")).expect("a bench");
        if environment == Environment::Development {
            bench.authority.trust_root.environment = Some(environment as i64);
        }
        let two = Build::version("2.0.0").behaving("patient").run();
        let programs = [one, two.expect("the firmware builds")];
        let images = [1, 2].map(|number: u8| {
            let program = &programs[usize::from(number - 1)];
            let image = bench.image(program, (number, 0, 0), number.into(), 0);
            image.expect("an image")
        });
        let station = Station::new(bench);
        station.write(&station.factory(&images[0]), &station.bench.flash);
        Line {
            release: station.bench.release(2, &images[1], 2),
            station,
            programs,
            images,
        }
    }

    /// A board with a serial port.
    fn start(&self) -> Board {
        let options = Options {
            smp: SmpLine::Pty,
            ..Options::default()
        };
        self.station.bench.start(&options).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A board that nobody talks to, on this flash.
    fn start_on(&self, flash: &Nor) -> Board {
        self.station.write(flash, &self.station.bench.flash);
        let board = self.station.bench.start(&Options::default());
        board.unwrap_or_else(|e| panic!("{e}"))
    }

    /// A file on the bench.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.station.file(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The update, but for devices of another class.
    fn for_another_class(&self) -> Vec<u8> {
        let mut release = self.station.bench.authority.release(2, &self.images[1], 2);
        release.device = Identity {
            class: *b"another class...",
            ..self.station.bench.identity
        };
        release.build()
    }

    /// A program as an image that imgtool signed with the line's image key.
    fn imgtool(&self, venv: &Path, version: &str, counter: u32, programs: &Programs, more: &[&str]) -> Vec<u8> {
        let program = programs.firmware().expect("an application").bytes;
        let (from, to) = (self.file("program.bin", &program), self.file("image.bin", b""));
        let slot = self.station.layout.primary.len.to_string();
        let header = self.station.header_len.to_string();
        let (counter, sectors) = (counter.to_string(), self.station.layout.max_sectors.to_string());
        let (vendor, class) = (
            uuid(&self.station.bench.identity.vendor),
            uuid(&self.station.bench.identity.class),
        );
        let output = python(venv, "imgtool_sign.py")
            .arg(hex(&self.station.bench.authority.image.secret()))
            .args([
                "sign",
                "--key",
                "@KEY",
                "--version",
                version,
                "--security-counter",
                &counter,
            ])
            .args([
                "--header-size",
                &header,
                "--pad-header",
                "--slot-size",
                &slot,
                "--align",
                "4",
            ])
            .args(["--max-sectors", &sectors, "--vid", &vendor, "--cid", &class])
            .args(more)
            .args([&from, &to])
            .output()
            .expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(to).expect("imgtool's image")
    }
}

/// A client in its own process, that is asked line by line.
struct Peer {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(venv: &Path, script: &str, board: &Board) -> Peer {
        let mut process = python(venv, script)
            .arg(board.pty())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let requests = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Peer {
            process,
            requests,
            answers,
        }
    }

    fn ask(&mut self, request: Value) -> Value {
        writeln!(self.requests, "{request}").expect("the client lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{request}: the client ended ({line:?})"))
    }

    /// What the client gives.
    fn ok(&mut self, request: Value) -> Value {
        let answer = self.ask(request.clone());
        answer
            .get("ok")
            .unwrap_or_else(|| panic!("{request}: {answer}"))
            .clone()
    }

    /// What the client says when it is refused.
    fn refused(&mut self, request: Value) -> String {
        let answer = self.ask(request.clone());
        let text = answer.get("refused").unwrap_or_else(|| panic!("{request}: {answer}"));
        // Some clients break long lines.
        let words: Vec<&str> = text.as_str().expect("a text").split_whitespace().collect();
        words.join(" ")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn python(venv: &Path, script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let mut command = Command::new(venv.join("bin/python"));
    // The repository stays as it was: no compiled Python in it.
    command.arg("-B").arg(folder.join(script));
    command
}

/// The virtual environment, if it has this module.
fn venv(module: &str) -> Option<PathBuf> {
    let given = std::env::var_os("AMPOULE_PY_VENV").map(PathBuf::from);
    let venv = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv"));
    let import = Command::new(venv.join("bin/python"))
        .args(["-c", &format!("import {module}")])
        .output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(venv);
    }
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "CI needs {module}: run `cargo xtask test`");
    let venv = venv.display();
    eprintln!("skipped: there is no {module} in {venv}; `cargo xtask test` installs it");
    None
}

fn wait(board: &mut Board, text: &str) -> String {
    board.wait_for(text, PATIENCE).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn assert_says(output: &str, texts: &[&str]) {
    for text in texts {
        assert!(output.contains(text), "no {text:?} in {output}");
    }
}

/// Number and name of the reason stand in what the client says.
#[track_caller]
fn assert_refused(output: &str, reason: Reason) {
    assert_says(output, &[&format!("{} {}", reason.number(), reason.name())]);
}

fn offsets(answer: &Value) -> Vec<u64> {
    let offsets = answer.as_array().expect("offsets");
    offsets
        .iter()
        .map(|offset| offset.as_u64().expect("an offset"))
        .collect()
}

/// Version of the image in the staging slot.
fn staged(images: &Value) -> Option<String> {
    let images = images.as_array().expect("images");
    let staged = images.iter().find(|image| image["slot"] == 1)?;
    Some(staged["version"].as_str().expect("a version").to_owned())
}

/// The hash TLV of an image of the fixture: SHA-256 of all that comes before its unprotected TLVs.
fn digest(image: &[u8]) -> [u8; 32] {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let payload = u32::from_le_bytes([image[12], image[13], image[14], image[15]]) as usize;
    ampoule_sim::fixture::sha256(&[&image[..u16_at(8) + payload + u16_at(10)]])
}

fn uuid(bytes: &[u8; 16]) -> String {
    let text = hex(bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
