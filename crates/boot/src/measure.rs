//! What a boot costs: instructions by QEMU's counted time, and the stack by paint.
//!
//! Under `-icount shift=0` an instruction takes 1 ns of the board's time, so the timer ticks once per
//! [`NS_PER_TICK`] instructions, and the same program on the same flash reads the same number every time.

use core::arch::{asm, global_asm};
use core::ptr;

use crate::clock;
use crate::uart::Console;

/// Instructions per tick of the 25 MHz timer.
pub const NS_PER_TICK: u32 = 1_000_000_000 / crate::board::CLOCK_HZ;

/// Bytes below the stack's first use that are painted: more than the stack may need.
const PAINTED_BYTES: usize = 12 * 1024;
const PAINT: u32 = 0x5ac3_5ac3;

// The first instructions of the program (cortex-m-rt branches here before it touches RAM): CMSDK timer 0 starts.
global_asm!(
    ".section .text.__pre_init, \"ax\"",
    ".global __pre_init",
    ".type __pre_init, %function",
    ".thumb_func",
    "__pre_init:",
    "ldr r0, =0x40000000",
    "movs r1, #0",
    "mvns r2, r1",
    "str r2, [r0, #8]",
    "str r2, [r0, #4]",
    "movs r1, #1",
    "str r1, [r0]",
    "bx lr",
    ".ltorg",
);

/// A measurement under way.
pub struct Measure {
    /// Ticks that painting took.
    paint: u32,
    bottom: usize,
}

// SAFETY: symbols of the linker script (cortex-m-rt's link.x); only their addresses are taken.
unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
}

impl Measure {
    /// Paints what lies below the stack pointer. Called first in `main`.
    pub fn begin() -> Measure {
        let before = clock::ticks();
        let top = stack_pointer();
        let end = ptr::addr_of!(_stack_end) as usize;
        let bottom = top.saturating_sub(PAINTED_BYTES).max(end);
        for place in (bottom..top).step_by(4) {
            // SAFETY: RAM below the stack pointer and above all statics (`_stack_end`), aligned, in nobody's use: this
            // function calls nothing in the loop and interrupts are not enabled yet.
            unsafe { ptr::write_volatile(place as *mut u32, PAINT) }
        }
        Measure {
            paint: clock::ticks() - before,
            bottom,
        }
    }

    /// Prints instructions since the first one, without those of painting, and the deepest stack.
    pub fn print(&self, console: &mut Console) {
        let ticks = clock::ticks() - self.paint;
        let stack = ptr::addr_of!(_stack_start) as usize - self.deepest();
        console.text("measure: instructions ").number(ticks * NS_PER_TICK).end();
        console.text("measure: stack ").number(stack as u32).end();
    }

    /// The lowest word that lost its paint.
    fn deepest(&self) -> usize {
        let mut place = self.bottom;
        // SAFETY: as in `begin`; stops at the stack in use, which is not painted.
        while unsafe { ptr::read_volatile(place as *const u32) } == PAINT {
            place += 4;
        }
        place
    }
}

#[inline(always)]
fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) }
    sp & !3
}
