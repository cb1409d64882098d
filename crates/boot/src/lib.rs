//! A Cortex-M body for the engine: drivers, the hand-over between bootloader and application, and the jump.
//!
//! Two programs stand on it: `bin/bootloader.rs`, which decides what may start, and `bin/app.rs`, the demonstration
//! application. Everything that depends on the board comes from its board file (docs/board-file.md) through [`board`].
//!
//! This crate holds all `unsafe` code of the project. It is of a few kinds, each in one place: device registers
//! ([`mmio`]), memory-mapped flash ([`flash`]), the retained words ([`retained`]), the jump ([`start`]), fault handlers
//! and vector table (`traps`), memory functions in assembly (`mem`), and the painted stack of a measurement (`measure`).
//! No interrupt handler exists: the programs wait with interrupts masked and look at the devices themselves
//! ([`idle`]), so nothing here is shared between contexts, the fault handlers aside.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod board;
pub mod clock;
pub mod flash;
pub mod idle;
#[cfg(feature = "measure")]
pub mod measure;
#[cfg(target_arch = "arm")]
mod mem;
pub mod mmio;
pub mod retained;
pub mod smp;
pub mod start;
mod traps;
pub mod uart;
pub mod verifier;
pub mod watchdog;
