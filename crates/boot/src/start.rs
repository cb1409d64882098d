//! The jump from the bootloader into an application.

use core::{arch::asm, ptr};

use crate::{board, idle, mmio::Register};

// SAFETY: the vector table offset register of every ARMv7-M core (Arm DDI 0403, B3.2.5).
const VTOR: Register = unsafe { Register::at(0xe000_ed08) };

/// An application whose first two words make sense: a stack in RAM and an entry inside the primary slot.
#[derive(Clone, Copy)]
pub struct Application {
    vectors: u32,
    stack: u32,
    entry: u32,
}

impl Application {
    /// The application whose vector table stands at this flash offset; `None` when its vectors lead elsewhere. Whether
    /// it *may* start is not asked here: the engine's decision comes first.
    pub fn at(entry: u32) -> Option<Application> {
        let slot = board::FLASH_START.checked_add(board::PRIMARY.start)?;
        let code = slot..slot.checked_add(board::PRIMARY.len)?;
        let ram = board::RAM_START..=board::RAM_START.checked_add(board::RAM_SIZE)?;
        let vectors = board::FLASH_START.checked_add(entry)?;
        if !code.contains(&vectors) || !vectors.is_multiple_of(board::VECTOR_ALIGN) {
            return None;
        }
        let (stack, entry) = (word(vectors), word(vectors + 4));
        let sane = ram.contains(&stack) && stack.is_multiple_of(8) && code.contains(&entry) && entry & 1 == 1;
        sane.then_some(Application { vectors, stack, entry })
    }

    /// Starts it. The bootloader's stack and statics end here.
    pub fn start(self) -> ! {
        idle::stop();
        VTOR.write(self.vectors);
        cortex_m::asm::dsb();
        cortex_m::asm::isb();
        // SAFETY: `at` checked stack and entry, nothing can interrupt, and nothing of this program is used again.
        // CONTROL = 0 selects MSP and drops the floating point context; LR = -1 is what a reset leaves.
        unsafe {
            asm!(
                "msr CONTROL, {zero}",
                "isb",
                "msr MSP, {stack}",
                "mvn lr, {zero}",
                "bx {entry}",
                zero = in(reg) 0,
                stack = in(reg) self.stack,
                entry = in(reg) self.entry,
                options(noreturn, nomem),
            )
        }
    }
}

fn word(address: u32) -> u32 {
    // SAFETY: called with addresses inside the memory-mapped flash, multiples of 4; any value is a u32.
    unsafe { ptr::read_volatile(address as usize as *const u32) }
}
