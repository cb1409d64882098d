//! The words that survive a reset: why the last one came, and what the bootloader tells the application.
//!
//! The chip's own reset cause register reads 0 in QEMU, and a program that crashed cannot be asked. So whoever causes
//! a reset writes the cause down first; where none was written although a program was running, it was the watchdog.
//!
//! | word | content |
//! |---|---|
//! | 0 | magic: these words were written by us; its last byte is the version of this table |
//! | 1 | stage: which program runs, 1 bootloader, 2 application |
//! | 2 | cause of the coming reset: 0 none written, 1 requested, 2 panic, 3 fault, 4 watchdog |
//! | 3 | detail: the program counter of a fault |
//! | 4 to 11 | report of the bootloader to the application |
//! | 12 | check: all words before, mixed |

use core::ptr;

use crate::board;

/// Words of the report from bootloader to application.
pub const REPORT_WORDS: usize = 8;

const MAGIC: u32 = 0x414d_5001;
const WORDS: usize = 13;
const CHECKED: usize = WORDS - 1;
const _: () = assert!(
    WORDS * 4 <= board::RETAINED_SIZE as usize,
    "memory.retained is too small"
);
const _: () = assert!(board::RETAINED_START.is_multiple_of(4), "words are aligned");

/// Which program was running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Stage {
    /// The bootloader.
    Bootloader = 1,
    /// The application.
    Application = 2,
}

/// Why a running program was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Cause {
    /// It asked for the reset.
    Requested = 1,
    /// It panicked.
    Panic = 2,
    /// It did what the core refuses (HardFault and kin).
    Fault = 3,
    /// It hung, or its trial ran out of time.
    Watchdog = 4,
}

/// What happened before this start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastReset {
    /// The words hold nothing of ours: power was off.
    PowerOn,
    /// A program was running and was reset.
    During {
        /// Which one.
        stage: Stage,
        /// Why.
        cause: Cause,
        /// The program counter of a fault, else 0.
        detail: u32,
    },
}

impl LastReset {
    /// One word for a person.
    pub const fn name(self) -> &'static str {
        match self {
            LastReset::PowerOn => "power on",
            LastReset::During {
                cause: Cause::Requested,
                ..
            } => "requested",
            LastReset::During {
                cause: Cause::Panic, ..
            } => "panic",
            LastReset::During {
                cause: Cause::Fault, ..
            } => "fault",
            LastReset::During {
                cause: Cause::Watchdog, ..
            } => "watchdog",
        }
    }
}

/// Reads what came before and notes that the bootloader runs now. Called once, first, by the bootloader.
pub fn begin() -> LastReset {
    let words = load();
    let last = last_reset(&words);
    store(record(Stage::Bootloader, [0; REPORT_WORDS]));
    last
}

/// Notes that the application runs from here on, and what the bootloader tells it.
pub fn hand_over(report: [u32; REPORT_WORDS]) {
    store(record(Stage::Application, report));
}

/// What the bootloader told the application; `None` when it told nothing.
pub fn report() -> Option<[u32; REPORT_WORDS]> {
    let words = load();
    if !is_ours(&words) {
        return None;
    }
    words.get(4..CHECKED)?.try_into().ok()
}

/// Writes the cause down and resets the chip.
pub fn reset(cause: Cause, detail: u32) -> ! {
    let mut words = load();
    words[2] = cause as u32;
    words[3] = detail;
    store(words);
    cortex_m::peripheral::SCB::sys_reset()
}

fn record(stage: Stage, report: [u32; REPORT_WORDS]) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    words[0] = MAGIC;
    words[1] = stage as u32;
    for (word, value) in words.iter_mut().skip(4).zip(report) {
        *word = value;
    }
    words
}

fn last_reset(words: &[u32; WORDS]) -> LastReset {
    let stage = match words[1] {
        1 => Stage::Bootloader,
        2 => Stage::Application,
        _ => return LastReset::PowerOn,
    };
    if !is_ours(words) {
        return LastReset::PowerOn;
    }
    let cause = match words[2] {
        1 => Cause::Requested,
        2 => Cause::Panic,
        3 => Cause::Fault,
        // Nobody had time to write: the watchdog's second stage.
        _ => Cause::Watchdog,
    };
    LastReset::During {
        stage,
        cause,
        detail: words[3],
    }
}

fn is_ours(words: &[u32; WORDS]) -> bool {
    words[0] == MAGIC && words[CHECKED] == check(words)
}

/// FNV-1a over words: tells our words from what RAM holds after power-on. Not a defence; who writes RAM owns it.
fn check(words: &[u32; WORDS]) -> u32 {
    words
        .iter()
        .take(CHECKED)
        .fold(0x811c_9dc5, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193))
}

fn load() -> [u32; WORDS] {
    core::array::from_fn(|index| {
        // SAFETY: inside `memory.retained`, aligned, RAM that the linker gives to nothing else; any value is a u32.
        unsafe { ptr::read_volatile(address(index)) }
    })
}

/// Writes all words, the check made anew.
fn store(mut words: [u32; WORDS]) {
    words[CHECKED] = check(&words);
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: as in `load`; nothing holds a reference into these words.
        unsafe { ptr::write_volatile(address(index), word) }
    }
}

fn address(index: usize) -> *mut u32 {
    (board::RETAINED_START as usize + index * 4) as *mut u32
}
