//! `ampoule device lifecycle`: a step of a device's life, asked of its application, taken by its bootloader.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use ::release::inspect::lifecycle_name;
use clap::{Args, ValueEnum};
use codec::Reason;
use codec::record::{Lifecycle, LifecycleRequest};
use codec::smp::{DeviceInfo, Request, UpdateState};
use keys::{Code, Error, Result};

use super::{Line, POLL_INTERVAL, describe, device_info, look};
use crate::out::Out;
use crate::session::Session;

#[derive(Args)]
pub(crate) struct Step {
    #[command(flatten)]
    line: Line,
    #[command(flatten)]
    wanted: Wanted,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Seconds to wait until the device has taken the step
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    restart_timeout: u64,
}

/// One step, not both.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Wanted {
    /// The state to advance to
    #[arg(long, value_enum, value_name = "STATE")]
    to: Option<State>,
    /// Erase everything of the development world; only a production root is taken from then on
    #[arg(long)]
    leave_development: bool,
}

/// The states that a device can be asked to go to.
#[derive(Clone, Copy, ValueEnum)]
enum State {
    /// Identity and keys are there
    Provisioned,
    /// In the field: over the wire it takes no more steps
    Deployed,
    /// Back for analysis, without its secrets
    Rma,
    /// Out of service for ever
    Decommissioned,
}

impl State {
    fn of_device(self) -> Lifecycle {
        match self {
            State::Provisioned => Lifecycle::Provisioned,
            State::Deployed => Lifecycle::Deployed,
            State::Rma => Lifecycle::Rma,
            State::Decommissioned => Lifecycle::Decommissioned,
        }
    }
}

impl Wanted {
    fn request(&self) -> LifecycleRequest {
        match self.to {
            Some(state) => LifecycleRequest::Advance(state.of_device()),
            None => LifecycleRequest::LeaveDevelopment,
        }
    }
}

impl Step {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let request = self.wanted.request();
        let mut session = self.line.open()?;
        let before = device_info(&mut session)?;
        if is_taken(&before, request) {
            let text = format!("{} Nothing was written.", outcome(&before, request, &self.line));
            out.result(text, &describe(&before).with("result", "already so"));
            return Ok(());
        }
        if before.state == UpdateState::Recovery {
            return Err(in_recovery(&before));
        }
        out.note(announcement(&before, request));
        self.confirm(request)?;
        session.ask("a step of its life", &Request::Lifecycle(request), |_| Ok(()))?;
        let reset = Request::Reset {
            force: false,
            boot_mode: 0,
        };
        session
            .ask("reset", &reset, |_| Ok(()))
            .map_err(|error| error.advise("The step waits for the next reset: `ampoule device reset`."))?;
        out.note("The device restarts, and its bootloader takes the step.");
        let after = self.await_step(session, request)?;
        out.result(
            outcome(&after, request, &self.line),
            &describe(&after).with("result", "taken"),
        );
        Ok(())
    }

    /// Nothing comes back from a step: whoever asks for one types which. Error: [`Code::NotConfirmed`].
    fn confirm(&self, request: LifecycleRequest) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let refused = |what: &str| {
            Code::NotConfirmed
                .error(format!("{what}; the device was asked for nothing"))
                .advise("Read above what the step does and type its word at a terminal, or give --yes.")
        };
        if !io::stdin().is_terminal() {
            return Err(refused("nobody confirmed the step, and there is no terminal to ask at"));
        }
        let word = word(request);
        let _ = write!(io::stderr().lock(), "There is no way back. Type {word} to go on: ");
        let mut typed = String::new();
        let _ = io::stdin().lock().read_line(&mut typed);
        match typed.trim() == word {
            true => Ok(()),
            false => Err(refused("what was typed is not the word")),
        }
    }

    /// Waits until the device says that the step is taken. It may be asked before it has gone down, and while it erases
    /// it does not answer.
    fn await_step(&self, mut session: Session, request: LifecycleRequest) -> Result<DeviceInfo> {
        let deadline = Instant::now() + Duration::from_secs(self.restart_timeout);
        let mut seen = None;
        while Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
            let Some((device, _)) = look(&mut session, &self.line) else {
                continue;
            };
            if is_taken(&device, request) && is_back(&device, request) {
                return Ok(device);
            }
            seen = Some(device);
        }
        Err(self.not_taken(seen))
    }

    fn not_taken(&self, seen: Option<DeviceInfo>) -> Error {
        let seconds = self.restart_timeout;
        match seen {
            None => Code::DeviceSilent
                .error(format!("the device did not come back within {seconds} seconds"))
                .advise(
                    "It may still be erasing. Look at it with `ampoule device info`; a cut of the power loses nothing.",
                ),
            Some(device) if is_wiping(&device) => Error::refused("the device", Reason::WipeUnfinished)
                .advise("Restart it. If it stays so, a sector does not let itself be erased: destroy the device."),
            Some(device) => Code::DeviceAnswer
                .error(format!(
                    "the step was not taken within {seconds} seconds: the device is {}",
                    lifecycle_name(device.lifecycle)
                ))
                .advise(
                    "`ampoule device info` says whether the request still waits; a bootloader built without the \
                         feature `lifecycle` takes none.",
                ),
        }
    }
}

/// Whether the device stands where this step leads.
fn is_taken(device: &DeviceInfo, request: LifecycleRequest) -> bool {
    match request {
        _ if is_wiping(device) => false,
        LifecycleRequest::Advance(to) => device.lifecycle == to,
        LifecycleRequest::LeaveDevelopment => left_development(device),
    }
}

/// Whether it stands there after its restart and not on the way: an ended device answers from its bootloader only.
fn is_back(device: &DeviceInfo, request: LifecycleRequest) -> bool {
    let ends = request == LifecycleRequest::Advance(Lifecycle::Decommissioned);
    !ends || device.state == UpdateState::Recovery
}

fn is_wiping(device: &DeviceInfo) -> bool {
    device.last == Some(Reason::WipeUnfinished)
}

/// A device in recovery that was given a root once and has none any more, and is not at its end.
fn left_development(device: &DeviceInfo) -> bool {
    let lives = !matches!(device.lifecycle, Lifecycle::Blank | Lifecycle::Decommissioned);
    lives && device.state == UpdateState::Recovery && device.root.is_none()
}

/// Recovery takes no steps: with what it waits for, and so what to do first.
fn in_recovery(device: &DeviceInfo) -> Error {
    let reason = device.last.unwrap_or(Reason::NoBootableImage);
    Error::refused("the device", reason).advise(match reason {
        Reason::Decommissioned => "It is at the end of its life.",
        Reason::WipeUnfinished => "Restart it, for its bootloader to go on.",
        _ if device.root.is_none() => {
            "Only an application takes steps: `ampoule device provision`, then `ampoule device recover`, then this."
        }
        _ => "Only an application takes steps: give it an image first, `ampoule device recover`.",
    })
}

/// What a person types, and gave as argument.
fn word(request: LifecycleRequest) -> &'static str {
    match request {
        LifecycleRequest::LeaveDevelopment => "leave-development",
        LifecycleRequest::Advance(Lifecycle::Provisioned) => "provisioned",
        LifecycleRequest::Advance(Lifecycle::Deployed) => "deployed",
        LifecycleRequest::Advance(Lifecycle::Rma) => "rma",
        LifecycleRequest::Advance(_) => "decommissioned",
    }
}

/// What is going to happen, before anybody is asked.
fn announcement(device: &DeviceInfo, request: LifecycleRequest) -> String {
    let erases = match request {
        LifecycleRequest::LeaveDevelopment => {
            "It leaves development for good. Erased: trust root and list, sealed storage, device key, entropy seed, \
             journal, whatever is under way, the secondary slot. Nothing starts until it has a production root and an \
             image under it."
        }
        LifecycleRequest::Advance(Lifecycle::Rma) => {
            "It becomes one that is returned for analysis. Erased: sealed storage, device key, entropy seed. Its image \
             still runs; it is never deployed again."
        }
        LifecycleRequest::Advance(Lifecycle::Decommissioned) => {
            "It ends for ever. Erased: trust root and list, sealed storage, device key, entropy seed, journal, both \
             slots. Nothing ever starts on it again."
        }
        LifecycleRequest::Advance(Lifecycle::Deployed) => {
            "It becomes deployed. Nothing is erased. Over the wire it takes no more steps; only its application can \
             end its life."
        }
        LifecycleRequest::Advance(_) => "It becomes provisioned. Nothing is erased.",
    };
    let device_id = device
        .device
        .map_or("no identity yet".into(), |id| ::release::identity::text(&id));
    format!(
        "The device ({device_id}) is {}. {erases}",
        lifecycle_name(device.lifecycle)
    )
}

/// Where the device stands after it, and what comes next.
fn outcome(device: &DeviceInfo, request: LifecycleRequest, line: &Line) -> String {
    match request {
        LifecycleRequest::LeaveDevelopment => format!(
            "The device left development; its bootloader waits for a production root. Next: ampoule device provision \
             --root FILE --port {}",
            line.port
        ),
        LifecycleRequest::Advance(Lifecycle::Decommissioned) => {
            "The device is decommissioned: it starts nothing and takes nothing any more.".into()
        }
        LifecycleRequest::Advance(_) => format!("The device is {}.", lifecycle_name(device.lifecycle)),
    }
}
