//! `ampoule device`: over a serial line to one device.

mod lifecycle;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::release::envelope::{Envelope, TARGETS_MAX};
use ::release::tree::{Tree, printable};
use ::release::{identity, image, input, inspect, root, verify};
use clap::{Args, Subcommand};
use codec::Reason;
use codec::cbor::Extent;
use codec::limits::Limits;
use codec::mcuboot::ImageVersion;
use codec::plan::{Format, Target};
use codec::record::Lifecycle;
use codec::roots::{FILE_FIRST_BYTE, FileKind, RootFile, file_len};
use codec::smp::client::Destination;
use codec::smp::{DeviceInfo, Request, UpdateState};
use indicatif::{ProgressBar, ProgressStyle};
use keys::{Code, Error, Result};

use crate::out::Out;
use crate::port::Port;
use crate::release::parse_envelope;
use crate::session::Session;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show what a device is, what runs on it, and why the last update did not stay
    Info(Line),
    /// Give a blank device its first trust root
    Provision {
        #[command(flatten)]
        line: Line,
        /// The trust root file
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
    },
    /// Install a release: upload, reset, trial, and wait for the device's own confirmation
    ///
    /// Interrupted, the same command goes on where the upload stopped, also after the device was reset. A device whose
    /// trust root is behind is taken along first: it is restarted once per root. The file may also be a root chain alone.
    Update(Update),
    /// Give a device whose bootloader finds nothing to start an image again
    Recover(Recover),
    /// Confirm the running image, which is on trial; a device refuses before its self-test has passed
    Confirm(Line),
    /// Restart a device
    Reset {
        #[command(flatten)]
        line: Line,
        /// Also when the application would rather not
        #[arg(long)]
        force: bool,
    },
    /// Take a device one step on in its life: to a later state, or out of development. No step comes back
    ///
    /// What it must not take along is erased by its bootloader at the reset that follows.
    Lifecycle(lifecycle::Step),
}

/// The line to the device.
#[derive(Args)]
pub(crate) struct Line {
    /// Serial port or pty, `unix:PATH` for a socket, or `tcp:HOST:PORT`
    #[arg(short, long, value_name = "PORT")]
    port: String,
    /// Speed of a serial port
    #[arg(long, value_name = "BAUD", default_value_t = 115_200)]
    baud: u32,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Args)]
pub(crate) struct Update {
    #[command(flatten)]
    line: Line,
    /// The release, with or without a root chain in front of it, or a root chain alone
    release: PathBuf,
    /// Roots, revocation list and time file that the device may not have yet; only what it lacks is sent
    #[arg(long, value_name = "FILE")]
    root_chain: Option<PathBuf>,
    /// Trust root of the device: the release is verified here before it is sent
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Send the file whatever it is; the device judges it anyway
    #[arg(long, conflicts_with = "root")]
    unchecked: bool,
    /// Only upload and stage: the device installs it at its next reset
    #[arg(long)]
    no_reset: bool,
    /// Seconds to wait until the new image has confirmed itself or the device has gone back
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    confirm_timeout: u64,
}

#[derive(Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    line: Line,
    /// A release whose image is not encrypted, or a signed image
    file: PathBuf,
    /// Leave the device in its bootloader
    #[arg(long)]
    no_reset: bool,
    /// Seconds to wait until the image runs
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    start_timeout: u64,
}

/// Runs one `ampoule device` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Info(line) => info(&line, out),
        Command::Provision { line, root } => provision(&line, &root, out),
        Command::Update(update) => update.run(out),
        Command::Recover(recover) => recover.run(out),
        Command::Confirm(line) => confirm(&line, out),
        Command::Reset { line, force } => reset(&line, force, out),
        Command::Lifecycle(step) => step.run(out),
    }
}

impl Line {
    fn open(&self) -> Result<Session> {
        Ok(Session::new(
            Port::open(&self.port, self.baud)?,
            Duration::from_secs(self.timeout),
        ))
    }
}

/// Time between two looks at a device that is restarting.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How long a device may take to restart and to commit a root.
const RESTART_TIME: Duration = Duration::from_secs(30);
/// How long one look may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

fn info(line: &Line, out: Out) -> Result<()> {
    let mut session = line.open()?;
    let device = device_info(&mut session)?;
    let images = images(&mut session)?;
    let report = session.ask("report", &Request::Report, |answer| Ok(answer.report()?.to_vec()));
    let report = report.ok().and_then(|bytes| inspect::explain_report(&bytes));
    let tree = describe(&device)
        .with("images", images.iter().map(SlotImage::to_tree).collect::<Vec<_>>())
        .with_some("report", report);
    out.result(tree.to_string(), &tree);
    Ok(())
}

fn provision(line: &Line, path: &Path, out: Out) -> Result<()> {
    let file = input::bytes(path)?;
    let root = root::verify(&file, &Limits::LINUX).map_err(|mut error| {
        error.what = error.what.replacen("trust root", &path.display().to_string(), 1);
        error.advise("Give the device's trust root, as `ampoule trust init` writes it.")
    })?;
    let mut session = line.open()?;
    let bar = Progress::start("Sending the trust root", file.len(), out);
    session.upload(Destination::Root, &file, |offset| bar.at(offset))?;
    bar.end();
    let device = device_info(&mut session)?;
    if device.root.is_none() {
        return Err(Code::DeviceAnswer.error("the device took the trust root and says that it has none"));
    }
    let text = format!(
        "The device holds trust root version {} ({}) now. Next: ampoule device recover RELEASE.suit --port {}",
        root.version(),
        root::environment_name(root.environment()),
        line.port
    );
    let tree = describe(&device);
    out.result(text, &tree);
    Ok(())
}

fn confirm(line: &Line, out: Out) -> Result<()> {
    let mut session = line.open()?;
    let request = Request::SetImageState {
        hash: None,
        confirm: true,
    };
    session.ask("confirm the running image", &request, |_| Ok(()))?;
    let tree = describe(&device_info(&mut session)?);
    out.result("The running image is confirmed.", &tree);
    Ok(())
}

fn reset(line: &Line, force: bool, out: Out) -> Result<()> {
    let mut session = line.open()?;
    session.ask("reset", &Request::Reset { force, boot_mode: 0 }, |_| Ok(()))?;
    out.result("The device restarts.", &Tree::fields().with("reset", true));
    Ok(())
}

impl Update {
    fn run(&self, out: Out) -> Result<()> {
        let bytes = input::bytes(&self.release)?;
        let (mut chain, file) = match self.unchecked {
            true => (Chain::default(), bytes),
            false => Chain::split(bytes, &self.release)?,
        };
        if let Some(path) = &self.root_chain {
            let (more, rest) = Chain::split(input::bytes(path)?, path)?;
            if !rest.is_empty() {
                return Err(Code::ReleaseInput.error(format!("{} is no root chain: a release follows", path.display())));
            }
            chain = more.before(chain);
        }
        let file = match file.is_empty() && !chain.is_empty() {
            true => file,
            false => self.read(file, out)?,
        };
        let expected = match self.unchecked || file.is_empty() {
            true => None,
            false => image_digest(&Envelope::parse(file.clone())?),
        };
        let mut session = self.line.open()?;
        let before = device_info(&mut session)?;
        if before.state == UpdateState::Recovery {
            return Err(Error::refused("the device", Reason::NoBootableImage)
                .advise("It takes an image, no release for an update: `ampoule device recover`."));
        }
        let before = self.send(&mut session, before, &chain, &file, out)?;
        if file.is_empty() {
            out.result(
                "The device follows this chain.",
                &describe(&before).with("result", "followed"),
            );
            return Ok(());
        }
        let Some(staged) = self.stage(&mut session, expected.as_deref())? else {
            let text = "This release is installed and confirmed already; nothing was written.";
            out.result(text, &describe(&before).with("result", "already installed"));
            return Ok(());
        };
        if self.no_reset {
            let text = "The release is staged. The device installs it at its next reset: ampoule device reset";
            out.result(
                text,
                &Tree::fields().with("result", "staged").with("image", &staged[..]),
            );
            return Ok(());
        }
        session.ask(
            "reset",
            &Request::Reset {
                force: false,
                boot_mode: 0,
            },
            |_| Ok(()),
        )?;
        out.note("The device restarts and swaps the images.");
        self.await_outcome(session, &staged, out)
    }

    /// Sends the chain as far as the device lacks it, and the release behind it. The device takes one root or list at a time:
    /// what follows is answered 812, and it is restarted for its bootloader to commit.
    fn send(
        &self,
        session: &mut Session,
        mut device: DeviceInfo,
        chain: &Chain,
        file: &[u8],
        out: Out,
    ) -> Result<DeviceInfo> {
        for _ in 0..=Limits::LINUX.root_steps_max {
            let version = root_version(&device);
            let missing = chain.from(version);
            if missing.is_empty() && file.is_empty() {
                return Ok(device);
            }
            let sent = upload(session, Destination::Image, &[&missing.bytes, file].concat(), out);
            match sent {
                Ok(()) if !file.is_empty() => return Ok(device),
                // A chain alone: the last of it is committed at the next start.
                Ok(()) => {}
                Err(ref error) if error.number == Reason::RootStaged.number() && !missing.is_empty() => {}
                Err(error) => return Err(error),
            }
            out.note(format!(
                "The device restarts to take what follows trust root version {version}."
            ));
            let whole = sent.is_ok();
            device = self.restart(session, version, missing.has_roots)?;
            if whole && !chain.from(root_version(&device)).has_roots {
                return Ok(device);
            }
        }
        Err(Code::DeviceAnswer
            .error("the device takes no end of restarts to follow its trust root")
            .advise("`ampoule device info` says what became of the last root that it was sent."))
    }

    /// Restarts the device and waits until it holds a later root, or, when no root was sent, until it answers again.
    fn restart(&self, session: &mut Session, version: u64, rises: bool) -> Result<DeviceInfo> {
        let request = Request::Reset {
            force: false,
            boot_mode: 0,
        };
        session.ask("reset", &request, |_| Ok(()))?;
        let deadline = Instant::now() + RESTART_TIME;
        let mut seen = None;
        while Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
            let Some((device, _)) = look(session, &self.line) else {
                continue;
            };
            if device.state == UpdateState::Recovery {
                return Err(
                    Error::refused("the device", device.last.unwrap_or(Reason::NoBootableImage))
                        .advise("Its bootloader waits for an image: `ampoule device recover`."),
                );
            }
            if !rises || root_version(&device) > version {
                return Ok(device);
            }
            seen = Some(device);
        }
        Err(match seen {
            Some(_) => Code::DeviceAnswer
                .error(format!(
                    "the device restarted and still holds trust root version {version}"
                ))
                .advise("`ampoule device info` says why its bootloader did not take the next one."),
            None => Code::DeviceSilent.error(format!(
                "the device did not come back within {} seconds",
                RESTART_TIME.as_secs()
            )),
        })
    }

    /// Looks at the release before it is sent, unless told otherwise.
    fn read(&self, file: Vec<u8>, out: Out) -> Result<Vec<u8>> {
        if self.unchecked {
            return Ok(file);
        }
        let envelope = parse_envelope(file, &self.release)?;
        match &self.root {
            Some(path) => {
                let bytes = input::bytes(path)?;
                verify(&envelope, &crate::release::read_root(&bytes, path)?)?;
            }
            None => {
                ::release::verify::check_content(&envelope)?;
            }
        }
        out.note(format!(
            "{}: {}",
            self.release.display(),
            ::release::verify::summary(&envelope)?
        ));
        Ok(envelope.into_bytes())
    }

    /// Asks for a trial of the staged image at the next reset; gives its hash, or nothing when nothing is staged because
    /// the release is installed already.
    fn stage(&self, session: &mut Session, expected: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let images = images(session)?;
        let runs = images.iter().find(|image| image.slot == 0);
        let staged = images.iter().find(|image| image.slot == 1 && !image.confirmed);
        let wanted = staged.filter(|image| expected.is_none() || image.hash.as_deref() == expected);
        let Some(hash) = wanted.and_then(|image| image.hash.clone()) else {
            if expected.is_some() && runs.is_some_and(|image| image.hash.as_deref() == expected) {
                return Ok(None);
            }
            return Err(Error::refused("the device", Reason::NothingStaged)
                .advise("The upload ended, but no image of this release is staged; run the same command again."));
        };
        let request = Request::SetImageState {
            hash: Some(&hash),
            confirm: false,
        };
        session.ask("try the new image at the next reset", &request, |_| Ok(()))?;
        Ok(Some(hash))
    }

    /// Watches the device until the new image is confirmed or gone.
    fn await_outcome(&self, mut session: Session, hash: &[u8], out: Out) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(self.confirm_timeout);
        let mut on_trial = false;
        while Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
            let Some((device, images)) = look(&mut session, &self.line) else {
                continue;
            };
            let runs = images
                .iter()
                .any(|image| image.slot == 0 && image.hash.as_deref() == Some(hash));
            match device.state {
                UpdateState::Trial if runs => {
                    if !on_trial {
                        out.note(format!(
                            "Version {} runs on trial.",
                            version_text(device.version.as_ref())
                        ));
                    }
                    on_trial = true;
                }
                UpdateState::Recovery => {
                    return Err(
                        Error::refused("the device", device.last.unwrap_or(Reason::NoBootableImage))
                            .advise("Its bootloader waits for an image: `ampoule device recover`."),
                    );
                }
                UpdateState::Idle if runs => {
                    let text = format!("Version {} is confirmed.", version_text(device.version.as_ref()));
                    out.result(text, &describe(&device).with("result", "confirmed"));
                    return Ok(());
                }
                UpdateState::Idle => return Err(went_back(&device)),
                // Not restarted yet, or busy.
                UpdateState::Staged | UpdateState::Receiving | UpdateState::Trial => {}
            }
        }
        let what = match on_trial {
            true => "the new image still runs on trial and has not confirmed itself",
            false => "the device did not come back",
        };
        Err(Code::DeviceSilent
            .error(format!("{what} after {} seconds", self.confirm_timeout))
            .advise(
                "Look at it with `ampoule device info`; a device goes back by itself when its trial deadline passes.",
            ))
    }
}

/// The new image did not stay: with the device's own reason.
fn went_back(device: &DeviceInfo) -> Error {
    let runs = version_text(device.version.as_ref());
    let reason = device.last.unwrap_or(Reason::RevertedUnconfirmed);
    let mut error = Error::refused("the device", reason);
    error.what = format!(
        "the new image did not stay, version {runs} runs again: {}",
        reason.what()
    );
    error.advise("The device is as it was before; find the fault in the new firmware and release it again.")
}

impl Recover {
    fn run(&self, out: Out) -> Result<()> {
        let bytes = input::bytes(&self.file)?;
        let (name, bytes) = recovery_image(bytes, &self.file)?;
        let verified = image::verify(&bytes, image::Authority::Nobody).map_err(|mut error| {
            error.what = error.what.replacen("the image", &name, 1);
            error
        })?;
        if verified.image_len != bytes.len() {
            return Err(Error::refused(&name, Reason::ImageSize)
                .advise("Send the image without padding (sign it without --pad and --confirm)."));
        }
        let mut session = self.line.open()?;
        let device = device_info(&mut session)?;
        if device.state != UpdateState::Recovery {
            return Err(Error::refused("the device", Reason::NotSupported)
                .advise("An application runs on it: install releases with `ampoule device update`."));
        }
        if device.lifecycle == Lifecycle::Decommissioned {
            return Err(Error::refused("the device", Reason::Decommissioned)
                .advise("It is at the end of its life: no command brings it back."));
        }
        if device.root.is_none() {
            return Err(Error::refused("the device", Reason::NoRoot)
                .advise("Give it its trust root first: `ampoule device provision --root FILE`."));
        }
        upload(&mut session, Destination::Image, &bytes, out)?;
        if self.no_reset {
            out.result(
                "The image is in the device; it starts at the next reset.",
                &Tree::fields().with("result", "written"),
            );
            return Ok(());
        }
        session.ask(
            "reset",
            &Request::Reset {
                force: false,
                boot_mode: 0,
            },
            |_| Ok(()),
        )?;
        self.await_start(session, &verified.digest, out)
    }

    fn await_start(&self, mut session: Session, hash: &[u8], out: Out) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(self.start_timeout);
        let mut seen = None;
        while Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
            let Some((device, images)) = look(&mut session, &self.line) else {
                continue;
            };
            let runs = images
                .iter()
                .any(|image| image.slot == 0 && image.hash.as_deref() == Some(hash));
            if device.state != UpdateState::Recovery && runs {
                let text = format!("Version {} runs.", version_text(device.version.as_ref()));
                out.result(text, &describe(&device).with("result", "running"));
                return Ok(());
            }
            seen = device.last;
        }
        match seen {
            Some(reason) => Err(Error::refused("the device", reason)),
            None => Err(Code::DeviceSilent.error(format!("the image did not start within {} s", self.start_timeout))),
        }
    }
}

/// The files of a root chain, in the order in which they are sent.
#[derive(Clone, Default)]
struct Chain {
    files: Vec<ChainFile>,
}

#[derive(Clone)]
struct ChainFile {
    /// Its version, when it is a root.
    version: Option<u64>,
    bytes: Vec<u8>,
}

/// What a device lacks of a chain.
struct Missing {
    bytes: Vec<u8>,
    has_roots: bool,
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Chain {
    /// Takes the files of a chain from the front of a file; gives the rest, which may be a release.
    fn split(bytes: Vec<u8>, path: &Path) -> Result<(Chain, Vec<u8>)> {
        let mut chain = Chain::default();
        let mut rest = bytes.as_slice();
        let named = |refused: codec::Refused| Error::refused(&path.display().to_string(), refused);
        while rest.first() == Some(&FILE_FIRST_BYTE) {
            let (Some(kind), Extent::Complete(len)) = file_len(rest, &Limits::LINUX).map_err(named)? else {
                return Err(named(Reason::CborMalformed.refused()));
            };
            let (file, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            let version = match kind {
                FileKind::Root => Some(RootFile::decode(file, &Limits::LINUX).map_err(named)?.root.version),
                FileKind::Revoke | FileKind::Time => None,
            };
            chain.files.push(ChainFile {
                version,
                bytes: file.to_vec(),
            });
            rest = behind;
        }
        Ok((chain, rest.to_vec()))
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// This chain in front of another one: roots first, lists and times behind them.
    fn before(mut self, other: Chain) -> Chain {
        self.files.extend(other.files);
        self.files.sort_by_key(|file| file.version.unwrap_or(u64::MAX));
        self.files.dedup_by(|one, two| one.bytes == two.bytes);
        self
    }

    /// What a device under this root version lacks; lists and times always, because it does not say which it has.
    fn from(&self, version: u64) -> Missing {
        let lacks = |file: &&ChainFile| file.version.is_none_or(|of| of > version);
        let files = self.files.iter().filter(lacks);
        Missing {
            bytes: files.clone().flat_map(|file| file.bytes.iter().copied()).collect(),
            has_roots: files.clone().any(|file| file.version.is_some()),
        }
    }
}

fn root_version(device: &DeviceInfo) -> u64 {
    device.root.map_or(0, |root| root.version.into())
}

/// The image to recover with: the file itself, or the image in a release.
fn recovery_image(bytes: Vec<u8>, path: &Path) -> Result<(String, Vec<u8>)> {
    let name = path.display().to_string();
    if !looks_like_an_envelope(&bytes) {
        return Ok((name, bytes));
    }
    let envelope = parse_envelope(bytes, path)?;
    let mut room = vec![Target::EMPTY; TARGETS_MAX];
    let plan = envelope.plan(&mut room)?;
    let images = plan.targets.iter().flat_map(|target| target.variants.as_slice());
    let plain = images
        .filter(|variant| variant.content.format == Format::McubootImage)
        .find_map(|variant| {
            let source = variant
                .source
                .filter(|source| source.encryption.is_none() && source.compression.is_none())?;
            envelope.payload(source.uri)
        });
    match plain {
        Some(image) => Ok((name, image.to_vec())),
        None => Err(Code::ReleaseInput
            .error(format!("{name} holds no plain image"))
            .advise("Recovery needs the image itself: encrypted, compressed and delta payloads cannot be used.")),
    }
}

/// An empty file could still become one; as it stands it is none.
fn looks_like_an_envelope(bytes: &[u8]) -> bool {
    !bytes.is_empty() && codec::suit::head::head_len(bytes, &Limits::LINUX).is_ok()
}

/// The hash TLV of the image in a release: its name in a device's list.
fn image_digest(envelope: &Envelope) -> Option<Vec<u8>> {
    let (_, image) = recovery_image(envelope.as_bytes().to_vec(), Path::new("")).ok()?;
    let verified = image::verify(&image, image::Authority::Nobody).ok()?;
    Some(verified.digest.to_vec())
}

fn upload(session: &mut Session, destination: Destination, file: &[u8], out: Out) -> Result<()> {
    let bar = Progress::start("Uploading", file.len(), out);
    let mut first = true;
    session.upload(destination, file, |offset| {
        // Far more than one message carries: the device held the beginning already.
        if first && offset > RESUMED_BYTES_MIN {
            bar.note(
                &format!("The device holds {offset} bytes of it already; going on there."),
                out,
            );
        }
        first = false;
        bar.at(offset);
    })?;
    bar.end();
    Ok(())
}

/// The first answer of an upload that starts at its beginning cannot be beyond this many bytes.
const RESUMED_BYTES_MIN: u32 = 32_768;

/// A progress bar, where a person looks at it.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn start(what: &'static str, len: usize, out: Out) -> Progress {
        if out.json || !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new(len as u64);
        let template = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Progress(Some(bar))
    }

    fn at(&self, offset: u32) {
        if let Some(bar) = &self.0 {
            bar.set_position(offset.into());
        }
    }

    fn note(&self, text: &str, out: Out) {
        match &self.0 {
            Some(bar) => bar.println(text),
            None => out.note(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn device_info(session: &mut Session) -> Result<DeviceInfo> {
    session.ask("device information", &Request::DeviceInfo, |answer| answer.device())
}

/// One look at a device that may be restarting: nothing while it does not answer. A lost line is opened again.
fn look(session: &mut Session, line: &Line) -> Option<(DeviceInfo, Vec<SlotImage>)> {
    let asked = session.ask_within(POLL_TIMEOUT, 1, "device information", &Request::DeviceInfo, |answer| {
        answer.device()
    });
    match asked {
        Ok(device) => images(session).ok().map(|images| (device, images)),
        Err(error) => {
            if error.is(Code::PortLost)
                && let Ok(again) = line.open()
            {
                *session = again;
            }
            None
        }
    }
}

/// An image in a slot, as the device lists it.
struct SlotImage {
    slot: u32,
    version: String,
    hash: Option<Vec<u8>>,
    active: bool,
    confirmed: bool,
    pending: bool,
}

impl SlotImage {
    fn to_tree(&self) -> Tree {
        let state = [
            (self.active, "running"),
            (self.confirmed, "confirmed"),
            (self.pending, "next"),
        ];
        let state: Vec<&str> = state.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        Tree::fields()
            .with("slot", self.slot)
            .with("version", printable(&self.version))
            .with(
                "state",
                if state.is_empty() {
                    "stored".into()
                } else {
                    state.join(", ")
                },
            )
            .with_some("hash", self.hash.as_deref())
    }
}

fn images(session: &mut Session) -> Result<Vec<SlotImage>> {
    session.ask("list of images", &Request::ImageStates, |answer| {
        let seen = answer.images()?;
        seen.map(|image| {
            let image = image?;
            Ok(SlotImage {
                slot: image.slot,
                version: image.version.to_owned(),
                hash: image.hash.map(<[u8]>::to_vec),
                active: image.active,
                confirmed: image.confirmed,
                pending: image.pending,
            })
        })
        .collect()
    })
}

fn describe(device: &DeviceInfo) -> Tree {
    let root = match device.root {
        Some(root) if root.production => format!("version {}, production", root.version),
        Some(root) => format!("version {}, development", root.version),
        None if device.lifecycle == Lifecycle::Decommissioned => "none: the device is at its end".into(),
        None if device.lifecycle != Lifecycle::Blank => "none: provision the device for production".into(),
        None => "none: provision the device".into(),
    };
    Tree::fields()
        .with("vendor id", identity::text(&device.vendor))
        .with("class id", identity::text(&device.class))
        .with(
            "device id",
            device.device.map_or("none yet".into(), |id| identity::text(&id)),
        )
        .with("lifecycle", inspect::lifecycle_name(device.lifecycle))
        .with("trust root", root)
        .with("state", state_name(device.state))
        .with("running version", version_text(device.version.as_ref()))
        .with("security counter", device.counter)
        .with("security counter floor", device.floor)
        .with_some("confirmed sequence", device.sequence)
        .with_some("last failure", device.last.map(|reason| reason.refused().to_string()))
}

fn state_name(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Idle => "idle",
        UpdateState::Receiving => "receiving a release",
        UpdateState::Staged => "a release waits for the next reset",
        UpdateState::Trial => "the running image is on trial",
        UpdateState::Recovery => "recovery: the bootloader waits for an image",
    }
}

fn version_text(version: Option<&ImageVersion>) -> String {
    match version {
        None => "none".into(),
        Some(ImageVersion {
            major,
            minor,
            revision,
            build: 0,
        }) => format!("{major}.{minor}.{revision}"),
        Some(ImageVersion {
            major,
            minor,
            revision,
            build,
        }) => format!("{major}.{minor}.{revision}+{build}"),
    }
}
