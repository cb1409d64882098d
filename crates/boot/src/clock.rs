//! Time since the program started, from CMSDK timer 0 (Arm DDI 0479, section 4.4).

use crate::{board::CLOCK_HZ, mmio::Register};

const CTRL: usize = 0x00;
const VALUE: usize = 0x04;
const RELOAD: usize = 0x08;
const CTRL_ENABLE: u32 = 1;

const TICKS_PER_MS: u32 = CLOCK_HZ / 1000;

/// Milliseconds since [`Clock::start`]. The timer counts down and starts over after 2^32 ticks (171 s at 25 MHz), so
/// [`Clock::now_ms`] must be asked more often than that; [`crate::idle`] returns every few milliseconds.
pub struct Clock {
    last: u32,
    rest: u32,
    ms: u64,
}

impl Clock {
    /// Starts counting.
    pub fn start() -> Clock {
        restart();
        Clock {
            last: u32::MAX,
            rest: 0,
            ms: 0,
        }
    }

    /// Milliseconds since the start.
    pub fn now_ms(&mut self) -> u64 {
        let value = register(VALUE).read();
        let passed = u64::from(self.rest) + u64::from(self.last.wrapping_sub(value));
        self.last = value;
        self.ms += passed / u64::from(TICKS_PER_MS);
        self.rest = (passed % u64::from(TICKS_PER_MS)) as u32;
        self.ms
    }
}

/// Starts the timer at its largest value.
pub(crate) fn restart() {
    register(CTRL).write(0);
    register(RELOAD).write(u32::MAX);
    register(VALUE).write(u32::MAX);
    register(CTRL).write(CTRL_ENABLE);
}

/// Ticks since [`restart`], up to 2^32.
#[cfg(feature = "measure")]
pub(crate) fn ticks() -> u32 {
    u32::MAX - register(VALUE).read()
}

fn register(offset: usize) -> Register {
    // SAFETY: timer 0 of the board, and `offset` is one of the registers above.
    unsafe { Register::at(0x4000_0000 + offset) }
}
