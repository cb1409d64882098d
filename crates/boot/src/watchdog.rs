//! CMSDK APB watchdog (Arm DDI 0479, section 4.5): counts down, raises NMI at zero, and resets the chip when it comes
//! to zero again without an answer.
//!
//! The NMI handler ([`crate::traps`]) writes the reason down and resets at once, so a period is one count; if the
//! program is too broken even for that, the second zero resets the chip and the reason is inferred from its absence.
//! The device's lock keeps stray writes out, not intent: whoever runs here was authorised to.

use crate::{board::CLOCK_HZ, mmio::Register};

const LOAD: usize = 0x000;
const CTRL: usize = 0x008;
const INT_CLEAR: usize = 0x00c;
const LOCK: usize = 0xc00;

const CTRL_INTERRUPT_AND_RESET: u32 = 0b11;
const UNLOCK_KEY: u32 = 0x1acc_e551;

/// The longest period, in seconds.
pub const PERIOD_MAX_S: u32 = u32::MAX / CLOCK_HZ;

/// Starts the watchdog: a reset `seconds` from now unless [`feed`] comes first. Longer than [`PERIOD_MAX_S`] is taken
/// as that.
pub fn arm(seconds: u32) {
    let count = seconds.min(PERIOD_MAX_S) * CLOCK_HZ;
    unlocked(|| {
        register(LOAD).write(count);
        register(CTRL).write(CTRL_INTERRUPT_AND_RESET);
    });
}

/// Starts the period again.
pub fn feed() {
    // Any write clears the interrupt and reloads the counter.
    unlocked(|| register(INT_CLEAR).write(1));
}

/// Stops it: a swap takes as long as it takes.
pub fn disarm() {
    unlocked(|| register(CTRL).write(0));
}

fn unlocked(change: impl FnOnce()) {
    register(LOCK).write(UNLOCK_KEY);
    change();
    register(LOCK).write(0);
}

fn register(offset: usize) -> Register {
    // SAFETY: the watchdog of the board, and `offset` is one of the registers above.
    unsafe { Register::at(0x4000_8000 + offset) }
}
