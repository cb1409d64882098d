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

/// Verifies a signature of each width and prints what it cost. The vectors are the upper trees of RFC 8554's two test
/// cases.
#[cfg(feature = "measure-lms")]
pub fn lms(console: &mut Console) {
    use vectors::{W4, W8};
    lms_cost(console, "measure: lms w4 h10 ", &W4.public, &W4.message, &W4.signature);
    lms_cost(console, "measure: lms w8 h5 ", &W8.public, &W8.message, &W8.signature);
}

#[cfg(feature = "measure-lms")]
fn lms_cost(console: &mut Console, name: &str, public: &[u8], message: &[u8], signature: &[u8]) {
    use trust::{PublicKey, Verifier};
    let measure = Measure::begin();
    let (top, before) = (stack_pointer(), clock::ticks());
    let key = PublicKey::HssLms { public };
    let verified = core::hint::black_box(&trust::lms::HssLms).verify(&key, &[message], signature);
    let ticks = clock::ticks() - before;
    let stack = top - measure.deepest();
    if verified.is_err() {
        console.text("measure: the vector does not verify").end();
    }
    console
        .text(name)
        .text("instructions ")
        .number(ticks * NS_PER_TICK)
        .end();
    console.text(name).text("stack ").number(stack as u32).end();
}

/// The files of `vectors/lms`, as bytes.
#[cfg(feature = "measure-lms")]
mod vectors {
    pub(super) struct Vector<const MESSAGE: usize, const SIGNATURE: usize> {
        pub(super) public: [u8; 60],
        pub(super) message: [u8; MESSAGE],
        pub(super) signature: [u8; SIGNATURE],
    }

    pub(super) static W4: Vector<56, 2512> = Vector::of(include_str!("../../../vectors/lms/rfc8554-case-2-upper.txt"));
    pub(super) static W8: Vector<56, 1296> = Vector::of(include_str!("../../../vectors/lms/rfc8554-case-1-upper.txt"));

    impl<const MESSAGE: usize, const SIGNATURE: usize> Vector<MESSAGE, SIGNATURE> {
        const fn of(file: &str) -> Self {
            Vector {
                public: field(file, b"\npublic "),
                message: field(file, b"\nmessage "),
                signature: field(file, b"\nsignature "),
            }
        }
    }

    /// The bytes of the hexadecimal digits behind this name. While the program is compiled: a wrong file is no program.
    const fn field<const N: usize>(file: &str, name: &[u8]) -> [u8; N] {
        let (text, mut at) = (file.as_bytes(), 0);
        while !starts_with(text, at, name) {
            at += 1;
        }
        at += name.len();
        let (mut bytes, mut i) = ([0; N], 0);
        while i < N {
            bytes[i] = digit(text[at + 2 * i]) << 4 | digit(text[at + 2 * i + 1]);
            i += 1;
        }
        assert!(text[at + 2 * N] == b'\n');
        bytes
    }

    const fn starts_with(text: &[u8], at: usize, name: &[u8]) -> bool {
        let mut i = 0;
        while i < name.len() && text[at + i] == name[i] {
            i += 1;
        }
        i == name.len()
    }

    const fn digit(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!(),
        }
    }
}

#[inline(always)]
fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) }
    sp & !3
}
