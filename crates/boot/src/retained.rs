//! The words that survive a reset: why the last one came, for the bootloader, and what it passes on to the application.
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
//! | 4 to 6 | stage, cause and detail of the reset before, passed on to the application; stage 0 after power-on |
//! | 7 | check: all words before, mixed |

use core::ptr;

use crate::board;

const MAGIC: u32 = 0x414d_5001;
const WORDS: usize = 8;
const CHECK: usize = WORDS - 1;
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
    /// In two words for a person.
    pub const fn name(self) -> &'static str {
        match self {
            LastReset::PowerOn => "power on",
            LastReset::During {
                cause: Cause::Requested,
                ..
            } => "reset requested",
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

    /// As the three words stage, cause, detail.
    const fn to_words(self) -> [u32; 3] {
        match self {
            LastReset::PowerOn => [0; 3],
            LastReset::During { stage, cause, detail } => [stage as u32, cause as u32, detail],
        }
    }

    const fn from_words([stage, cause, detail]: [u32; 3]) -> LastReset {
        let stage = match stage {
            1 => Stage::Bootloader,
            2 => Stage::Application,
            _ => return LastReset::PowerOn,
        };
        let cause = match cause {
            1 => Cause::Requested,
            2 => Cause::Panic,
            3 => Cause::Fault,
            // Nobody had time to write: the watchdog's second zero, or the reset button.
            _ => Cause::Watchdog,
        };
        LastReset::During { stage, cause, detail }
    }
}

/// Reads what came before, and notes that the bootloader runs now. Called once, first, by the bootloader.
pub fn begin() -> LastReset {
    let last = match load() {
        [MAGIC, stage, cause, detail, ..] => LastReset::from_words([stage, cause, detail]),
        _ => LastReset::PowerOn,
    };
    note(Stage::Bootloader, last);
    last
}

/// Notes that the application runs from here on, and passes on what the bootloader had found.
pub fn hand_over(last: LastReset) {
    note(Stage::Application, last);
}

/// What the bootloader passed on.
pub fn last_reset() -> LastReset {
    let [.., stage, cause, detail, _] = load();
    LastReset::from_words([stage, cause, detail])
}

/// Writes the cause down and resets the chip.
pub fn reset(cause: Cause, detail: u32) -> ! {
    let [magic, stage, _, _, rest @ ..] = load();
    let [a, b, c, _] = rest;
    store([magic, stage, cause as u32, detail, a, b, c]);
    cortex_m::peripheral::SCB::sys_reset()
}

fn note(stage: Stage, last: LastReset) {
    let [a, b, c] = last.to_words();
    store([MAGIC, stage as u32, 0, 0, a, b, c]);
}

/// FNV-1a over words: tells our words from what RAM holds after power-on. Not a defence; who writes RAM owns it.
fn check(words: &[u32]) -> u32 {
    words
        .iter()
        .fold(0x811c_9dc5, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193))
}

/// The words; all 0 when they are not ours.
fn load() -> [u32; WORDS] {
    let words: [u32; WORDS] = core::array::from_fn(|index| {
        // SAFETY: inside `memory.retained`, aligned, RAM that the linker gives to nothing else; any value is a u32.
        unsafe { ptr::read_volatile(address(index)) }
    });
    let [claims @ .., sum] = &words;
    if check(claims) == *sum { words } else { [0; WORDS] }
}

/// Writes all words, with their check.
fn store(claims: [u32; CHECK]) {
    let sum = check(&claims);
    for (index, word) in claims.into_iter().chain([sum]).enumerate() {
        // SAFETY: as in `load`; nothing holds a reference into these words.
        unsafe { ptr::write_volatile(address(index), word) }
    }
}

fn address(index: usize) -> *mut u32 {
    (board::RETAINED_START as usize + index * 4) as *mut u32
}
