//! CMSDK APB UART (Arm DDI 0479, section 4.3): one byte in, one byte out, no FIFO.

use crate::mmio::Register;

const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CTRL: usize = 0x08;
const INT_CLEAR: usize = 0x0c;
const BAUD_DIV: usize = 0x10;

const STATE_TX_FULL: u32 = 1 << 0;
const STATE_RX_FULL: u32 = 1 << 1;
const CTRL_TX: u32 = 1 << 0;
const CTRL_RX: u32 = 1 << 1;
const CTRL_RX_INTERRUPT: u32 = 1 << 3;
const INT_RX: u32 = 1 << 1;

/// Smallest divider that the device takes: as fast as it goes. The line of an emulated board has no baud rate.
const BAUD_DIV_MIN: u32 = 16;

/// A started UART.
pub struct Uart {
    base: usize,
    interrupt: u32,
}

impl Uart {
    /// Starts UART 0, 1 or 2 of the board; others do not exist and are taken as 2.
    pub fn start(number: u32) -> Uart {
        let (base, interrupt) = match number {
            0 => (0x4000_4000, 0),
            1 => (0x4000_5000, 2),
            _ => (0x4000_6000, 4),
        };
        let uart = Uart { base, interrupt };
        uart.register(BAUD_DIV).write(BAUD_DIV_MIN);
        uart.register(CTRL).write(CTRL_TX | CTRL_RX | CTRL_RX_INTERRUPT);
        uart
    }

    /// The next received byte; `None` when there is none yet.
    pub fn read(&mut self) -> Option<u8> {
        if !self.has_byte() {
            return None;
        }
        Some(self.register(DATA).read() as u8)
    }

    /// Whether a received byte waits.
    pub fn has_byte(&self) -> bool {
        self.register(STATE).read() & STATE_RX_FULL != 0
    }

    /// Sends the bytes; returns when the last one is on its way.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            while self.register(STATE).read() & STATE_TX_FULL != 0 {}
            self.register(DATA).write(u32::from(*byte));
        }
    }

    /// Number of its receive interrupt.
    pub(crate) fn interrupt(&self) -> u32 {
        self.interrupt
    }

    /// Takes back the request for a receive interrupt.
    pub(crate) fn clear_interrupt(&self) {
        self.register(INT_CLEAR).write(INT_RX);
    }

    fn register(&self, offset: usize) -> Register {
        // SAFETY: `base` is one of the three UARTs of the board and `offset` one of the registers above.
        unsafe { Register::at(self.base + offset) }
    }
}

/// What prints text, and numbers without the weight of `core::fmt`.
pub struct Console(Uart);

impl Console {
    /// Starts the UART that the board file names for printing.
    pub fn start() -> Console {
        Console(Uart::start(crate::board::CONSOLE_UART))
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) -> &mut Console {
        self.0.write(text.as_bytes());
        self
    }

    /// Prints a number in decimal.
    pub fn number(&mut self, mut value: u32) -> &mut Console {
        let mut digits = [0u8; 10];
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
            used += 1;
            if value == 0 {
                break;
            }
        }
        self.0.write(digits.get(digits.len() - used..).unwrap_or_default());
        self
    }

    /// Ends the line.
    pub fn end(&mut self) {
        self.0.write(b"\n");
    }
}
