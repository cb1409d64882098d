//! What a program does that cannot go on: write down why, and reset. No text, no formatting.

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};

use crate::retained::{self, Cause};

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    retained::reset(Cause::Panic, 0)
}

// SAFETY: the handler never returns, so it owes the interrupted code nothing; it reads the frame and the retained
// words only. BusFault, UsageFault and MemManage are not enabled and end here too.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    retained::reset(Cause::Fault, frame.pc())
}

// SAFETY: never returns. The watchdog's first zero is the only source of NMI on this board.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    retained::reset(Cause::Watchdog, 0)
}

// SAFETY: never returns. Interrupts are masked from the first line on, so one that comes is a defect.
#[exception]
unsafe fn DefaultHandler(_number: i16) -> ! {
    retained::reset(Cause::Fault, 0)
}

/// Interrupts of the board's devices, receive and transmit of three UARTs first.
const INTERRUPTS: usize = 6;

// SAFETY: cortex-m-rt defines it, without arguments.
unsafe extern "C" {
    #[link_name = "DefaultHandler"]
    fn default_handler();
}

// SAFETY: cortex-m-rt with the feature `device` reads the vector table's second part under this name from this section.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vector_table.interrupts")]
static __INTERRUPTS: [unsafe extern "C" fn(); INTERRUPTS] = [default_handler; INTERRUPTS];
