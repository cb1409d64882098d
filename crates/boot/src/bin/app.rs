//! The demonstration application: runs a self-test, confirms itself, and takes releases over SMP.
//!
//! Version and behaviour are chosen when it is built (`AMPOULE_APP_VERSION`, `AMPOULE_APP_BEHAVIOUR`), so that a
//! release can carry an application that hangs, crashes or never confirms.
#![no_std]
#![no_main]

use boot::board;
use boot::clock::Clock;
use boot::flash::MappedFlash;
use boot::retained;
use boot::smp::SmpLine;
use boot::uart::Console;
use boot::verifier::CortexM4P256;
use boot::watchdog;
use codec::Refused;
use codec::plan::ComponentId;
use engine::device::{Config, Device};
use engine::install::Receiving;
use engine::smp::{Application, Server};
use trust::alg::{Algorithms, PortableEd25519};
use trust::digest::Sha256;
#[cfg(feature = "lms")]
use trust::lms::HssLms;

const VERSION: &str = match option_env!("AMPOULE_APP_VERSION") {
    Some(version) => version,
    None => "0.0.0",
};

/// Milliseconds that the self-test takes.
const SELF_TEST_MS: u64 = 300;

/// What the application does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// Passes its self-test and confirms itself.
    Healthy,
    /// Passes its self-test and waits for somebody to confirm it over SMP.
    Patient,
    /// Never passes its self-test; all else works.
    NeverConfirm,
    /// Stops in an endless loop.
    Hang,
    /// Reads where nothing is.
    Crash,
}

const BEHAVIOUR: Behaviour = match option_env!("AMPOULE_APP_BEHAVIOUR") {
    Some(name) => behaviour(name.as_bytes()),
    None => Behaviour::Healthy,
};

/// An unknown name stops the build.
const fn behaviour(name: &[u8]) -> Behaviour {
    match name {
        b"healthy" => Behaviour::Healthy,
        b"patient" => Behaviour::Patient,
        b"never-confirm" => Behaviour::NeverConfirm,
        b"hang" => Behaviour::Hang,
        b"crash" => Behaviour::Crash,
        _ => panic!("AMPOULE_APP_BEHAVIOUR: healthy, patient, never-confirm, hang or crash"),
    }
}

type Flash = MappedFlash;

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut TRUST: [u8; board::TRUST_BYTES] = [0; board::TRUST_BYTES];
    // One buffer for the head and, after it, for one chunk.
    static mut INSTALL: [u8; INSTALL_BYTES] = [0; INSTALL_BYTES];
    static mut MESSAGE: [u8; board::SMP_BUFFER] = [0; board::SMP_BUFFER];
    static mut ANSWER: [u8; board::SMP_BUFFER] = [0; board::SMP_BUFFER];

    let mut console = Console::start();
    console
        .text("app: version ")
        .text(VERSION)
        .text(" after ")
        .text(retained::last_reset().name())
        .end();
    match BEHAVIOUR {
        Behaviour::Hang => hang(),
        Behaviour::Crash => cortex_m::asm::udf(),
        Behaviour::Healthy | Behaviour::Patient | Behaviour::NeverConfirm => {}
    }

    let mut line = SmpLine::start(MESSAGE, ANSWER);
    let mut clock = Clock::start();
    let mut device = match Device::open(MappedFlash::take(), config(), TRUST) {
        Ok(device) => device,
        Err(refused) => stop(&mut console, &refused),
    };
    if let Err(refused) = Receiving::recheck(&mut device, INSTALL) {
        complain(&mut console, "recheck", &refused);
    }
    let mut server = Server::new(INSTALL, board::SMP_PARAMETERS);
    tell(&mut console, &mut device);
    let mut tested = false;
    loop {
        line.serve(|message, out| server.handle(message, &mut device, &Demo, out));
        if !tested && clock.now_ms() >= SELF_TEST_MS {
            tested = true;
            self_test(&mut console, &mut device);
        }
        feed(&mut device);
    }
}

const INSTALL_BYTES: usize = if board::HEAD_MAX > board::CHUNK_MAX {
    board::HEAD_MAX
} else {
    board::CHUNK_MAX
};

fn config() -> Config<'static> {
    let algorithms = Algorithms::new(&[
        &CortexM4P256,
        &PortableEd25519,
        #[cfg(feature = "lms")]
        &HssLms,
    ]);
    Config {
        board: board::with(algorithms),
        component: ComponentId::new(&[b"app"]).unwrap_or(ComponentId::EMPTY),
        device: None,
    }
}

struct Demo;

impl Application for Demo {
    fn about(&self) -> &str {
        concat!("ampoule-demo ", env!("CARGO_PKG_VERSION"))
    }
}

/// Prints what the last update came to, and whether this is a trial.
fn tell(console: &mut Console, device: &mut Device<'_, Flash>) {
    if let Some(ending) = device.state().ending {
        let reason = codec::Reason::from_number(ending.reason).map_or("", codec::Reason::name);
        let what = if ending.reverted { "reverted" } else { "given up" };
        console
            .text("app: last update ")
            .text(what)
            .text(": ")
            .number(ending.reason.into());
        console.text(" ").text(reason).end();
    }
    let trial = device.is_trial().unwrap_or(false) && !device.is_confirmed().unwrap_or(false);
    console
        .text(if trial { "app: on trial" } else { "app: confirmed" })
        .end();
}

/// What has to work before this version may stay: the clock, the hash, and the flash with the image that runs.
fn self_test(console: &mut Console, device: &mut Device<'_, Flash>) {
    const ABC: [u8; 4] = [0xba, 0x78, 0x16, 0xbf]; // FIPS 180-4, first bytes of SHA-256("abc")
    let passed = BEHAVIOUR != Behaviour::NeverConfirm
        && Sha256::of_parts(&[b"abc"]).starts_with(&ABC)
        && device.running().is_some();
    if !passed {
        console.text("app: self-test failed").end();
        return;
    }
    device.self_test_passed();
    console.text("app: self-test passed").end();
    if BEHAVIOUR == Behaviour::Healthy {
        match device.confirm() {
            Ok(()) => console.text("app: confirmed").end(),
            Err(refused) => complain(console, "confirm", &refused),
        }
    }
}

/// A trial has its deadline, and the watchdog that the bootloader armed keeps it: it is fed once there is none.
fn feed(device: &mut Device<'_, Flash>) {
    if !device.is_trial().unwrap_or(true) {
        watchdog::arm(board::WATCHDOG_S);
    }
}

/// Without a device there is nothing to do but to say so, until the watchdog bites.
fn stop(console: &mut Console, refused: &Refused) -> ! {
    complain(console, "start", refused);
    hang()
}

fn complain(console: &mut Console, what: &str, refused: &Refused) {
    console
        .text("app: ")
        .text(what)
        .text(" refused: ")
        .number(refused.reason.number().into());
    console.text(" ").text(refused.reason.name()).end();
}

fn hang() -> ! {
    loop {
        cortex_m::asm::nop();
    }
}
