//! SMP on a serial line: finds messages among the bytes, hands each to whoever answers, and frames the answer.

use codec::smp::Deframer;
use codec::smp::frame::{LINE_CHARS_MAX, frame};
use engine::smp::Action;

use crate::board;
use crate::idle::Idle;
use crate::retained::{self, Cause};
use crate::uart::Uart;

/// A line with its buffers.
pub struct SmpLine {
    uart: Uart,
    idle: Idle,
    messages: Deframer<'static>,
    answer: &'static mut [u8; board::SMP_BUFFER],
}

impl SmpLine {
    /// Starts the UART that the board file names for SMP.
    pub fn start(message: &'static mut [u8; board::SMP_BUFFER], answer: &'static mut [u8; board::SMP_BUFFER]) -> Self {
        SmpLine {
            uart: Uart::start(board::SMP_UART),
            idle: Idle::start(),
            messages: Deframer::new(message),
            answer,
        }
    }

    /// Answers what has arrived, then sleeps until more does, or a tick has passed ([`crate::idle::TICK_MS`]).
    /// `handle` gets a message and room for the answer. A reset that was asked for happens here, after its answer.
    pub fn serve(&mut self, mut handle: impl for<'o> FnMut(&[u8], &'o mut [u8]) -> (&'o [u8], Action)) {
        while let Some(byte) = self.uart.read() {
            let Some(message) = self.messages.push(byte) else {
                continue;
            };
            let (answer, action) = handle(message, self.answer);
            if !answer.is_empty() {
                // Longer than a frame can be is longer than the buffer.
                let _ = frame(answer, LINE_CHARS_MAX, |bytes| self.uart.write(bytes));
            }
            if action == Action::Reset {
                retained::reset(Cause::Requested, 0);
            }
        }
        self.idle.wait(&self.uart);
    }
}
