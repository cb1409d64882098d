//! The bootloader: judges, swaps if it was asked to, and starts what may run. All policy is the engine's
//! ([`engine::boot::run`]); this file says in which order the board does it.
#![no_std]
#![no_main]

use boot::board;
use boot::flash::MappedFlash;
use boot::retained::{self, Cause, LastReset, Stage};
use boot::start::Application;
use boot::uart::Console;
use boot::verifier::CortexM4P256;
use boot::watchdog;
use codec::Reason;
use engine::boot::{Board, Buffers, Outcome, Reset, Start};
#[cfg(feature = "ed25519")]
use trust::alg::PortableEd25519;
use trust::alg::{Algorithms, Verifier};
#[cfg(feature = "lms")]
use trust::lms::HssLms;

/// The signatures that may make an image boot on this board.
const VERIFIERS: &[&dyn Verifier] = &[
    &CortexM4P256,
    #[cfg(feature = "ed25519")]
    &PortableEd25519,
    #[cfg(feature = "lms")]
    &HssLms,
];

const BOARD: Board<'static> = board::with(Algorithms::new(VERIFIERS));

/// Bytes of an image that are read and hashed at a time.
const SCRATCH_BYTES: usize = 512;

/// A message and its answer, for the recovery.
type SmpBuffers = [[u8; board::SMP_BUFFER]; 2];

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut TRUST: [u8; board::TRUST_BYTES] = [0; board::TRUST_BYTES];
    static mut SCRATCH: [u8; SCRATCH_BYTES] = [0; SCRATCH_BYTES];
    static mut SMP: SmpBuffers = [[0; board::SMP_BUFFER]; 2];

    #[cfg(feature = "measure")]
    let measure = boot::measure::Measure::begin();
    watchdog::disarm();
    let last = retained::begin();
    let mut console = Console::start();
    #[cfg(feature = "measure-lms")]
    boot::measure::lms(&mut console);
    console.text("boot: ").text(last.name()).end();

    let mut flash = MappedFlash::take();
    let outcome = match reset(last) {
        Some(reset) => {
            // Before anything else may start or be committed.
            #[cfg(feature = "lifecycle")]
            engine::lifecycle::run(&mut flash, &BOARD, TRUST);
            #[cfg(feature = "rotation")]
            follow(&mut flash, TRUST, SCRATCH, SMP);
            let buffers = Buffers {
                root: TRUST,
                scratch: SCRATCH,
            };
            engine::boot::run(&mut flash, &BOARD, reset, buffers)
        }
        // This program crashed, and would again.
        None => Outcome::Recovery(Reason::NoBootableImage),
    };
    #[cfg(feature = "measure")]
    measure.print(&mut console);

    let reason = match outcome {
        Outcome::Start(start) => match Application::at(start.entry) {
            Some(application) => go(application, &start, last, &mut console),
            None if start.trial => end_trial(last, &mut console),
            None => Reason::ImageAddress,
        },
        Outcome::Recovery(reason) => reason,
    };
    console
        .text("boot: nothing may start, reason ")
        .number(reason.number().into())
        .end();
    wait_for_help(
        flash,
        reason,
        Buffers {
            root: TRUST,
            scratch: SCRATCH,
        },
        SMP,
    )
}

/// Commits what the authority says of itself and the application left in the mailbox. The messages of a recovery are not
/// under way yet: a proposal is read into their memory.
#[cfg(feature = "rotation")]
fn follow(flash: &mut MappedFlash, trust: &mut [u8], scratch: &mut [u8], smp: &mut SmpBuffers) {
    let buffers = Buffers { root: trust, scratch };
    engine::rotate::run(flash, &BOARD, buffers, smp.as_flattened_mut());
}

/// Arms the watchdog and leaves.
fn go(application: Application, start: &Start, last: LastReset, console: &mut Console) -> ! {
    let (kind, deadline_s) = if start.trial {
        ("trial", board::TRIAL_DEADLINE_S)
    } else {
        ("confirmed", board::WATCHDOG_S)
    };
    let version = start.image.header().version;
    console
        .text("boot: starting ")
        .number(version.major.into())
        .text(".")
        .number(version.minor.into());
    console
        .text(".")
        .number(version.revision.into())
        .text("+")
        .number(version.build)
        .text(" ")
        .text(kind)
        .end();
    retained::hand_over(last);
    watchdog::arm(deadline_s);
    application.start()
}

/// An image on trial whose vectors lead elsewhere would crash with its first instruction. Its trial ends as after any
/// crash, so that a device in the field goes back instead of waiting for somebody to help.
fn end_trial(last: LastReset, console: &mut Console) -> ! {
    console.text("boot: the image on trial has no entry").end();
    retained::hand_over(last);
    retained::reset(Cause::Fault, 0)
}

/// What the engine is told of the last reset; `None` when the bootloader itself crashed.
fn reset(last: LastReset) -> Option<Reset> {
    Some(match last {
        LastReset::During {
            stage: Stage::Bootloader,
            cause: Cause::Panic | Cause::Fault,
            ..
        } => return None,
        LastReset::During {
            stage: Stage::Application,
            cause,
            ..
        } => match cause {
            Cause::Requested => Reset::Software,
            Cause::Panic | Cause::Fault => Reset::Fault,
            Cause::Watchdog => Reset::Watchdog,
        },
        LastReset::During {
            stage: Stage::Bootloader,
            ..
        }
        | LastReset::PowerOn => Reset::Power,
    })
}

/// Answers SMP until somebody has brought an image, or a root, and asks for a reset.
#[cfg(feature = "recovery")]
fn wait_for_help(mut flash: MappedFlash, reason: Reason, buffers: Buffers<'static>, smp: &'static mut SmpBuffers) -> ! {
    let [message, answer] = smp;
    let mut line = boot::smp::SmpLine::start(message, answer);
    let mut recovery = engine::recover::Recovery::new(reason, board::SMP_PARAMETERS, buffers);
    loop {
        line.serve(|message, out| recovery.handle(message, &mut flash, &BOARD, out));
    }
}

/// Waits for the programmer.
#[cfg(not(feature = "recovery"))]
fn wait_for_help(_: MappedFlash, _: Reason, _: Buffers<'static>, _: &'static mut SmpBuffers) -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}
