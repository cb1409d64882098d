//! Waiting without interrupt handlers: interrupts stay masked, a pending one only ends the sleep.

use crate::{board::CLOCK_HZ, mmio::Register, uart::Uart};

/// The longest that [`Idle::wait`] sleeps, in milliseconds.
pub const TICK_MS: u32 = 10;

const TICK_RELOAD: u32 = CLOCK_HZ / 1000 * TICK_MS - 1;
const _: () = assert!(TICK_RELOAD < 1 << 24, "SysTick counts 24 bits");

// The system control space of every ARMv7-M core (Arm DDI 0403, B3).

// SAFETY: the SysTick control register.
const SYST_CSR: Register = unsafe { Register::at(0xe000_e010) };
// SAFETY: the SysTick reload value register.
const SYST_RVR: Register = unsafe { Register::at(0xe000_e014) };
// SAFETY: the SysTick current value register.
const SYST_CVR: Register = unsafe { Register::at(0xe000_e018) };
// SAFETY: the interrupt set-enable register.
const NVIC_ISER0: Register = unsafe { Register::at(0xe000_e100) };
// SAFETY: the interrupt clear-enable register.
const NVIC_ICER0: Register = unsafe { Register::at(0xe000_e180) };
// SAFETY: the interrupt clear-pending register.
const NVIC_ICPR0: Register = unsafe { Register::at(0xe000_e280) };
// SAFETY: the interrupt control and state register.
const ICSR: Register = unsafe { Register::at(0xe000_ed04) };

const SYST_ENABLE_INTERRUPT_CORE_CLOCK: u32 = 0b111;
const ICSR_CLEAR_SYSTICK: u32 = 1 << 25;

/// The right to sleep: interrupts are masked and SysTick ticks.
pub struct Idle(());

impl Idle {
    /// Masks interrupts for good and starts the tick.
    pub fn start() -> Idle {
        cortex_m::interrupt::disable();
        SYST_RVR.write(TICK_RELOAD);
        SYST_CVR.write(0);
        SYST_CSR.write(SYST_ENABLE_INTERRUPT_CORE_CLOCK);
        Idle(())
    }

    /// Sleeps until `uart` holds a byte, and at most [`TICK_MS`].
    pub fn wait(&self, uart: &Uart) {
        let interrupt = 1 << uart.interrupt();
        NVIC_ISER0.write(interrupt);
        uart.clear_interrupt();
        NVIC_ICPR0.write(interrupt);
        ICSR.write(ICSR_CLEAR_SYSTICK);
        // A byte that comes after this look makes the interrupt pending, and `wfi` returns at once.
        if !uart.has_byte() {
            cortex_m::asm::wfi();
        }
    }
}

/// Leaves nothing that could interrupt the next program.
pub(crate) fn stop() {
    cortex_m::interrupt::disable();
    SYST_CSR.write(0);
    NVIC_ICER0.write(u32::MAX);
    NVIC_ICPR0.write(u32::MAX);
    ICSR.write(ICSR_CLEAR_SYSTICK);
}
