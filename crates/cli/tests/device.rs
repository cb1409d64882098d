//! `ampoule device` against a double that speaks the protocol and nothing else: framing, resume, rewind, refusals. What
//! a real device does with it is told in QEMU.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use codec::Reason;
use codec::mcuboot::ImageVersion;
use codec::record::{Lifecycle, LifecycleRequest};
use codec::smp::response::{Parameters, RootInfo};
use codec::smp::{Deframer, DeviceInfo, Header, ImageState, Piece, Request, Response, UpdateState, frame};
use common::Desk;
use keys::SignatureAlgorithm::Ed25519;

/// What the double holds and how it behaves.
struct Double {
    state: UpdateState,
    root: Option<Vec<u8>>,
    lifecycle: Lifecycle,
    /// The step that waits for the bootloader.
    step: Option<LifecycleRequest>,
    /// Built without steps: they wait for ever.
    stands_still: bool,
    old: [u8; 32],
    new: [u8; 32],
    runs_new: bool,
    file: Vec<u8>,
    announced: Option<(u32, Option<[u8; 32]>)>,
    pieces: usize,
    last: Option<Reason>,
    /// Hang up once, when the upload has this many bytes.
    hang_up_at: Option<usize>,
    /// Answer once with this offset although another is wanted.
    rewind_to: Option<usize>,
    /// Refuse uploads.
    refuses: Option<Reason>,
    /// Never answer.
    mute: bool,
    /// How the trial ends: confirmed, or back with this reason.
    outcome: Result<(), Reason>,
    /// Looks at the device that see the trial.
    trial_looks: u32,
    log: Vec<String>,
}

impl Double {
    /// An application runs on it, under this root.
    fn new(new: [u8; 32], root: Vec<u8>) -> Double {
        Double {
            state: UpdateState::Idle,
            root: Some(root),
            lifecycle: Lifecycle::Factory,
            step: None,
            stands_still: false,
            old: [1; 32],
            new,
            runs_new: false,
            file: Vec::new(),
            announced: None,
            pieces: 0,
            last: None,
            hang_up_at: None,
            rewind_to: None,
            refuses: None,
            mute: false,
            outcome: Ok(()),
            trial_looks: 2,
            log: Vec::new(),
        }
    }

    /// Erased flash.
    fn erase(&mut self) {
        (self.state, self.root, self.lifecycle) = (UpdateState::Recovery, None, Lifecycle::Blank);
        self.last = Some(Reason::NoRoot);
    }

    /// The answer, or nothing to hang up.
    fn answer(&mut self, message: &[u8], out: &mut [u8]) -> Option<Vec<u8>> {
        let (header, body) = Header::split(message).unwrap();
        let request = Request::decode(&header, body);
        let images = self.images();
        let response = match request {
            Err(reason) => Response::Refused(reason),
            Ok(Request::Parameters) => Response::Parameters(Parameters {
                buf_size: 1024,
                buf_count: 1,
            }),
            Ok(Request::DeviceInfo) => Response::Device(self.info()),
            Ok(Request::ImageStates) => Response::Images(&images),
            Ok(Request::Upload(piece) | Request::Provision(piece)) => {
                let provision = matches!(request, Ok(Request::Provision(_)));
                let offset = match self.piece(&piece, provision) {
                    Ok(offset) => Response::Uploaded { offset, matches: None },
                    Err(reason) => Response::Refused(reason),
                };
                if self.hang_up_at.is_some_and(|at| self.file.len() >= at) {
                    self.hang_up_at = None;
                    return None;
                }
                offset
            }
            Ok(Request::SetImageState {
                hash: Some(hash),
                confirm: false,
            }) => {
                self.log.push(format!("test {}", hash == self.new));
                Response::Images(&images)
            }
            Ok(Request::SetImageState {
                hash: None,
                confirm: true,
            }) => Response::Refused(Reason::NotSelfTested),
            Ok(Request::Reset { .. }) => {
                self.restart();
                Response::Done
            }
            Ok(Request::Lifecycle(step)) if self.state != UpdateState::Recovery => match self.judge(step) {
                Ok(()) => Response::Done,
                Err(reason) => Response::Refused(reason),
            },
            Ok(_) => Response::Refused(Reason::NotSupported),
        };
        Some(response.encode(&header, out).to_vec())
    }

    fn piece(&mut self, piece: &Piece, provision: bool) -> Result<u32, Reason> {
        self.pieces += 1;
        if let Some(reason) = self.refuses {
            return Err(reason);
        }
        if let Some(start) = piece.start {
            let known = self.announced == Some((start.len, start.sha));
            if known && !self.file.is_empty() {
                return Ok(self.file.len() as u32);
            }
            self.announced = Some((start.len, start.sha));
            self.file.clear();
        }
        if let Some(to) = self.rewind_to.filter(|to| self.file.len() > *to) {
            self.rewind_to = None;
            self.file.truncate(to);
            return Ok(to as u32);
        }
        if piece.offset as usize == self.file.len() {
            self.file.extend_from_slice(piece.data);
        }
        if self.announced.is_some_and(|(len, _)| len as usize == self.file.len()) {
            match provision {
                true => self.take_root()?,
                false if self.state == UpdateState::Recovery => self.runs_new = true,
                false => self.state = UpdateState::Staged,
            }
        }
        Ok(self.file.len() as u32)
    }

    /// As the real one: a life that began takes no development root without having one.
    fn take_root(&mut self) -> Result<(), Reason> {
        let is_new = self.lifecycle == Lifecycle::Blank;
        if !is_new && !is_production(&self.file) {
            return Err(Reason::ProductionOnly);
        }
        self.root = Some(self.file.clone());
        self.lifecycle = self.lifecycle.max(Lifecycle::Factory);
        Ok(())
    }

    fn judge(&mut self, step: LifecycleRequest) -> Result<(), Reason> {
        self.log.push(format!("{step:?}"));
        match step {
            _ if self.refuses.is_some() => return self.refuses.map_or(Ok(()), Err),
            _ if self.lifecycle >= Lifecycle::Deployed => return Err(Reason::LifecycleOnWire),
            LifecycleRequest::Advance(to) if to < self.lifecycle => return Err(Reason::LifecycleBackwards),
            LifecycleRequest::LeaveDevelopment if self.root.as_deref().is_some_and(is_production) => {
                return Err(Reason::NotInDevelopment);
            }
            _ => self.step = Some(step),
        }
        Ok(())
    }

    fn take_step(&mut self) {
        let Some(step) = self.step.take_if(|_| !self.stands_still) else {
            return;
        };
        let reason = match step {
            LifecycleRequest::Advance(to) => {
                self.lifecycle = to;
                (to == Lifecycle::Decommissioned).then_some(Reason::Decommissioned)
            }
            LifecycleRequest::LeaveDevelopment => Some(Reason::NoRoot),
        };
        if let Some(reason) = reason {
            (self.state, self.root, self.last) = (UpdateState::Recovery, None, Some(reason));
        }
    }

    fn restart(&mut self) {
        self.log.push("reset".into());
        self.take_step();
        match self.state {
            UpdateState::Staged => (self.state, self.runs_new) = (UpdateState::Trial, true),
            UpdateState::Recovery if self.runs_new => self.state = UpdateState::Idle,
            _ => {}
        }
    }

    fn info(&mut self) -> DeviceInfo {
        if self.state == UpdateState::Trial {
            self.trial_looks -= 1;
            if self.trial_looks == 0 {
                self.state = UpdateState::Idle;
                self.runs_new = self.outcome.is_ok();
                self.last = self.outcome.err();
            }
        }
        let running = self.state != UpdateState::Recovery;
        let revision = if self.runs_new { 2 } else { 1 };
        let version = ImageVersion {
            major: 1,
            minor: 0,
            revision,
            build: 0,
        };
        DeviceInfo {
            vendor: [1; 16],
            class: [2; 16],
            device: None,
            lifecycle: self.lifecycle,
            root: self.root.as_deref().map(|root| RootInfo {
                version: 1,
                production: is_production(root),
            }),
            state: self.state,
            version: running.then_some(version),
            counter: 1,
            floor: 1,
            sequence: Some(1),
            last: self.last,
        }
    }

    fn images(&self) -> Vec<ImageState> {
        let image = |slot, hash| ImageState {
            slot,
            hash: Some(hash),
            bootable: true,
            ..ImageState::default()
        };
        let (runs, other) = if self.runs_new {
            (self.new, self.old)
        } else {
            (self.old, self.new)
        };
        let mut images = vec![ImageState {
            active: true,
            confirmed: true,
            ..image(0, runs)
        }];
        if self.state == UpdateState::Staged {
            images.push(image(1, other));
        }
        images
    }
}

/// A double on a socket, on a desk with a signed release.
struct Bench {
    desk: Desk,
    double: Arc<Mutex<Double>>,
    release: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        let desk = Desk::new();
        for name in ["root", "one", "image"] {
            desk.key(name, Ed25519);
        }
        desk.ampoule(
            "trust init -o demo.ampr --environment development --vendor-domain ampoule.example --product-line amp-demo \
             --root-key root --release-key one --image-key image --passphrase-file pass",
        )
        .ok();
        std::fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
        let firmware: Vec<u8> = (0..20_000u32).map(|i| (i % 253) as u8).collect();
        std::fs::write(desk.path("app.bin"), firmware).unwrap();
        desk.ampoule("release new").ok();
        desk.ampoule("release build release.toml -o app.suit --key one --image-key image --passphrase-file pass")
            .ok();
        let release = std::fs::read(desk.path("app.suit")).unwrap();
        let root = std::fs::read(desk.path("demo.ampr")).unwrap();
        let double = Arc::new(Mutex::new(Double::new(image_hash(&release), root)));
        serve(desk.path("line"), Arc::clone(&double));
        Bench { desk, double, release }
    }

    fn run(&self, command: &str) -> common::Ran {
        let line = self.desk.path("line");
        self.desk
            .ampoule(&format!("device {command} --port unix:{}", line.display()))
    }

    /// Answers the one question at a terminal.
    #[cfg(target_os = "linux")]
    fn run_at_terminal(&self, command: &str, question: &str, answer: &str, succeeds: bool) {
        let line = self.desk.path("line");
        let command = format!("device {command} --port unix:{}", line.display());
        let mut terminal = common::terminal::Terminal::start(&self.desk, &command);
        terminal.answer(question, answer);
        assert_eq!(terminal.end().0.success(), succeeds);
    }

    fn set(&self, change: impl FnOnce(&mut Double)) {
        change(&mut self.double.lock().unwrap());
    }

    fn see<T>(&self, look: impl FnOnce(&Double) -> T) -> T {
        look(&self.double.lock().unwrap())
    }
}

fn is_production(root: &[u8]) -> bool {
    let root = release::root::verify(root, &codec::limits::Limits::LINUX).unwrap();
    root.environment() == codec::roots::Environment::Production
}

fn image_hash(release: &[u8]) -> [u8; 32] {
    let envelope = release::Envelope::parse(release.to_vec()).unwrap();
    let image = envelope.payload("#app.bin").unwrap();
    release::image::verify(image, release::image::Authority::Nobody)
        .unwrap()
        .digest
}

fn serve(path: PathBuf, double: Arc<Mutex<Double>>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            converse(stream.unwrap(), &double);
        }
    });
}

/// Answers until the other end hangs up, or the double wants to.
fn converse(mut stream: UnixStream, double: &Mutex<Double>) {
    let mut buffer = vec![0; 1024];
    let mut deframer = Deframer::new(&mut buffer);
    let mut chunk = [0; 512];
    loop {
        let count = stream.read(&mut chunk).unwrap_or(0);
        if count == 0 {
            return;
        }
        let mut rest = &chunk[..count];
        while let Some(message) = deframer.take(&mut rest) {
            let mut double = double.lock().unwrap();
            if double.mute {
                continue;
            }
            let mut out = vec![0; 1024];
            let Some(answer) = double.answer(message, &mut out) else {
                return;
            };
            // Log lines share the line with answers.
            let mut lines = b"[00:00:01] self-test passed\n".to_vec();
            frame(&answer, 124, |bytes| lines.extend_from_slice(bytes)).unwrap();
            if stream.write_all(&lines).is_err() {
                return;
            }
        }
    }
}

#[test]
fn an_update_is_uploaded_tried_and_confirmed() {
    let bench = Bench::new();
    let ran = bench.run("update app.suit --root demo.ampr --json");
    assert_eq!(ran.json()["result"], "confirmed");
    assert!(ran.stderr().contains("on trial"), "{}", ran.stderr());
    assert_eq!(bench.see(|double| double.file.clone()), bench.release);
    assert_eq!(bench.see(|double| double.log.clone()), ["test true", "reset"]);
}

#[test]
fn an_interrupted_upload_says_what_to_do_and_goes_on() {
    let bench = Bench::new();
    bench.set(|double| double.hang_up_at = Some(8_000));
    let message = bench.run("update app.suit").fails(2211);
    assert!(message.contains("run the same command again"), "{message}");
    let (held, pieces) = bench.see(|double| (double.file.len(), double.pieces));
    assert!((8_000..bench.release.len()).contains(&held));
    bench.run("update app.suit --no-reset").ok();
    assert_eq!(bench.see(|double| double.file.clone()), bench.release);
    // The second run sent the rest only.
    let again = bench.see(|double| double.pieces) - pieces;
    assert!(again < pieces * 2, "{again} pieces after {pieces}");
    assert_eq!(bench.see(|double| double.log.clone()), ["test true"]);
}

#[test]
fn a_device_that_wants_earlier_bytes_gets_them() {
    let bench = Bench::new();
    bench.set(|double| double.rewind_to = Some(5_000));
    bench.run("update app.suit --no-reset").ok();
    assert_eq!(bench.see(|double| double.file.clone()), bench.release);
}

#[test]
fn refusals_carry_the_devices_number_and_what_to_do() {
    let bench = Bench::new();
    for (reason, hint) in [
        (Reason::SeqRollback, "higher sequence number"),
        (Reason::ClassMismatch, "ampoule device info"),
        (Reason::AuthThreshold, "release verify"),
        (Reason::TrialRunning, "Wait"),
    ] {
        bench.set(|double| double.refuses = Some(reason));
        let message = bench.run("update app.suit").fails(reason.number());
        assert!(message.contains(reason.what()) && message.contains(hint), "{message}");
    }
    let message = bench.run("confirm").fails(1001);
    assert!(message.contains("self-test"), "{message}");
}

#[test]
fn a_new_image_that_did_not_stay_is_a_failure_with_its_reason() {
    let bench = Bench::new();
    bench.set(|double| double.outcome = Err(Reason::RevertedWatchdog));
    let message = bench.run("update app.suit").fails(931);
    assert!(message.contains("version 1.0.1 runs again"), "{message}");
}

#[test]
fn a_tampered_release_is_not_even_sent() {
    let bench = Bench::new();
    let mut tampered = bench.release.clone();
    *tampered.last_mut().unwrap() ^= 1;
    std::fs::write(bench.desk.path("bad.suit"), tampered).unwrap();
    bench.run("update bad.suit").fails(508);
    assert_eq!(bench.see(|double| double.pieces), 0);
    bench.set(|double| double.refuses = Some(Reason::ChunkDigest));
    bench.run("update bad.suit --unchecked").fails(508);
    assert_eq!(bench.see(|double| double.pieces), 1);
}

#[test]
fn a_device_is_provisioned_and_recovered() {
    let bench = Bench::new();
    bench.set(Double::erase);
    bench.run("recover app.suit").fails(940);
    bench.run("update app.suit").fails(942);
    let provisioned = bench.run("provision --root demo.ampr").ok();
    assert!(provisioned.contains("development"), "{provisioned}");
    assert_eq!(
        bench.see(|double| double.root.clone()).unwrap(),
        std::fs::read(bench.desk.path("demo.ampr")).unwrap()
    );
    bench.run("provision --root app.suit").fails(801);
    let recovered = bench.run("recover app.suit --json").json();
    assert_eq!(recovered["result"], "running");
    let envelope = release::Envelope::parse(bench.release.clone()).unwrap();
    assert_eq!(
        bench.see(|double| double.file.clone()),
        envelope.payload("#app.bin").unwrap()
    );
}

#[test]
fn info_shows_what_the_device_says() {
    let bench = Bench::new();
    bench.set(|double| double.last = Some(Reason::RevertedFault));
    let shown = bench.run("info --json").json();
    assert_eq!(shown["running version"], "1.0.1");
    assert_eq!(shown["images"][0]["state"], "running, confirmed");
    assert!(shown["last failure"].as_str().unwrap().starts_with("932 "));
    assert!(bench.run("info").ok().contains("class id:"));
}

#[test]
fn a_line_that_is_closed_silent_or_missing_is_explained() {
    let bench = Bench::new();
    bench.set(|double| double.mute = true);
    assert!(bench.run("info --timeout 1").fails(2212).contains("does not answer"));
    let missing = bench.desk.ampoule("device info --port /dev/does-not-exist").fails(2210);
    assert!(missing.contains("/dev/does-not-exist"), "{missing}");
    bench.run("update nothing.suit").fails(2201);
}

/// Files that are not what the command wants: named, with what to give instead, and nothing is sent.
#[test]
fn a_wrong_file_is_named_and_not_sent() {
    let bench = Bench::new();
    bench.set(|double| double.state = UpdateState::Recovery);
    std::fs::write(bench.desk.path("empty"), "").unwrap();
    for (file, number) in [("empty", 101), ("app.bin", 201)] {
        let message = bench.run(&format!("update {file}")).fails(number);
        assert!(message.contains(file) && message.contains("release build"), "{message}");
    }
    // A trust root is a root chain, but nothing for a bootloader in recovery.
    bench.run("update demo.ampr").fails(942);
    for file in ["empty", "app.bin", "demo.ampr"] {
        let message = bench.run(&format!("recover {file}")).fails(901);
        assert!(message.contains(file) && message.contains("image sign"), "{message}");
    }
    std::fs::write(bench.desk.path("half.suit"), &bench.release[..bench.release.len() / 2]).unwrap();
    let message = bench.run("recover half.suit").fails(101);
    assert!(
        message.contains("half.suit") && message.contains("whole release"),
        "{message}"
    );
    let message = bench.run("provision --root app.bin").fails(801);
    assert!(
        message.contains("app.bin") && message.contains("trust init"),
        "{message}"
    );
    assert_eq!(bench.see(|double| double.pieces), 0);
}

/// Recovery says which root it holds, and that a device that left development holds none.
#[test]
fn info_of_a_bootloader_says_which_root_it_holds() {
    let bench = Bench::new();
    bench.set(|double| double.state = UpdateState::Recovery);
    assert_eq!(bench.run("info --json").json()["trust root"], "version 1, development");
    bench.set(|double| double.root = None);
    let shown = bench.run("info --json").json();
    assert_eq!(shown["trust root"], "none: provision the device for production");
    bench.run("recover app.suit").fails(940);
}

#[test]
fn a_device_is_taken_forward_and_never_back() {
    let bench = Bench::new();
    let ran = bench.run("lifecycle --to provisioned --yes --json");
    let taken = ran.json();
    assert_eq!(
        (&taken["result"], &taken["lifecycle"]),
        (&"taken".into(), &"provisioned".into())
    );
    assert!(ran.stderr().contains("Nothing is erased"), "{}", ran.stderr());
    let steps = ["Advance(Provisioned)", "reset"];
    assert_eq!(bench.see(|double| double.log.clone()), steps);

    // The same again is no news, and nothing is sent.
    let again = bench.run("lifecycle --to provisioned --yes --json").json();
    assert_eq!(again["result"], "already so");
    assert_eq!(bench.see(|double| double.log.clone()), steps);

    assert!(bench.run("lifecycle --to deployed --yes").ok().contains("deployed"));
    for step in ["--to provisioned", "--to rma", "--leave-development"] {
        let message = bench.run(&format!("lifecycle {step} --yes")).fails(1022);
        assert!(message.contains("request_lifecycle"), "{message}");
    }
    assert_eq!(bench.see(|double| double.lifecycle), Lifecycle::Deployed);
    // Not one reset for what was refused.
    let resets = |double: &Double| double.log.iter().filter(|line| *line == "reset").count();
    assert_eq!(bench.see(resets), 2);
}

#[test]
fn every_refused_step_says_what_to_do() {
    let bench = Bench::new();
    for (reason, hint) in [
        (Reason::LifecycleBackwards, "later state"),
        (Reason::LifecycleUnknown, "later state"),
        (Reason::LifecycleStaged, "Reset the device"),
        (Reason::NotInDevelopment, "lifecycle --to"),
        (Reason::Decommissioned, "end of its life"),
        (Reason::TrialRunning, "Wait"),
    ] {
        bench.set(|double| double.refuses = Some(reason));
        let message = bench.run("lifecycle --to rma --yes").fails(reason.number());
        assert!(message.contains(reason.what()) && message.contains(hint), "{message}");
    }
    assert!(bench.see(|double| !double.log.contains(&"reset".into())));
}

#[test]
fn a_device_leaves_development_for_a_production_root() {
    let bench = Bench::new();
    bench
        .desk
        .ampoule(
            "trust init -o production.ampr --environment production --vendor-domain ampoule.example --product-line \
             amp-demo --root-key root --release-key one --image-key image --passphrase-file pass \
             --i-know-these-production-keys-are-files",
        )
        .ok();
    let ran = bench.run("lifecycle --leave-development --yes");
    assert!(ran.ok().contains("device provision --root FILE"), "{}", ran.ok());
    assert!(ran.stderr().contains("Erased: trust root"), "{}", ran.stderr());
    assert_eq!(
        bench.run("lifecycle --leave-development --yes --json").json()["result"],
        "already so"
    );
    // Without an application there are no steps.
    let message = bench.run("lifecycle --to deployed --yes").fails(940);
    assert!(message.contains("device provision"), "{message}");

    let message = bench.run("provision --root demo.ampr").fails(1025);
    assert!(message.contains("production root"), "{message}");
    assert!(
        bench
            .run("provision --root production.ampr")
            .ok()
            .contains("production")
    );
    bench.run("recover app.suit").ok();
    assert_eq!(bench.run("info --json").json()["trust root"], "version 1, production");
    bench.run("lifecycle --leave-development --yes").fails(1024);
}

#[test]
fn a_decommissioned_device_takes_nothing_any_more() {
    let bench = Bench::new();
    let ran = bench.run("lifecycle --to decommissioned --yes --json");
    let ended = ran.json();
    assert_eq!(
        (&ended["lifecycle"], &ended["result"]),
        (&"decommissioned".into(), &"taken".into())
    );
    assert!(ran.stderr().contains("both slots"), "{}", ran.stderr());
    let message = bench.run("lifecycle --to rma --yes").fails(944);
    assert!(message.contains("end of its life"), "{message}");
    bench.run("recover app.suit").fails(944);
    assert_eq!(bench.see(|double| double.pieces), 0);
}

/// Without `--yes` and without a terminal nothing is asked for; at a terminal only the word is enough.
#[test]
#[cfg(target_os = "linux")]
fn a_step_is_confirmed_by_its_word() {
    let bench = Bench::new();
    let message = bench.run("lifecycle --to rma").fails(2138);
    assert!(message.contains("--yes"), "{message}");
    bench.run_at_terminal("lifecycle --leave-development", "Type leave-development", "yes", false);
    assert!(bench.see(|double| double.log.is_empty()));
    bench.run_at_terminal(
        "lifecycle --to decommissioned",
        "Type decommissioned",
        "decommissioned",
        true,
    );
    assert_eq!(bench.see(|double| double.lifecycle), Lifecycle::Decommissioned);
}

/// A bootloader without steps, or one that has not finished: not a success.
#[test]
fn a_step_that_is_not_taken_is_a_failure() {
    let bench = Bench::new();
    bench.set(|double| double.stands_still = true);
    let message = bench.run("lifecycle --to rma --yes --restart-timeout 1").fails(2213);
    assert!(message.contains("is factory"), "{message}");
    bench.set(|double| {
        (double.state, double.lifecycle, double.root) = (UpdateState::Recovery, Lifecycle::Decommissioned, None);
        double.last = Some(Reason::WipeUnfinished);
    });
    bench.run("lifecycle --to decommissioned --yes").fails(945);
}

#[test]
fn one_step_is_asked_for_and_not_two() {
    let bench = Bench::new();
    for (wanted, said) in [
        ("", "required"),
        ("--to rma --leave-development", "cannot be used with"),
        ("--to blank", "possible values"),
    ] {
        let ran = bench.run(&format!("lifecycle {wanted} --yes"));
        assert!(ran.stderr().contains(said), "{}", ran.stderr());
    }
    assert!(bench.see(|double| double.log.is_empty()));
}

/// The first screen says what the program is for.
#[test]
fn help_says_what_it_is_for() {
    let desk = Desk::new();
    assert!(desk.ampoule("--help").ok().starts_with("Secure firmware updates"));
}
