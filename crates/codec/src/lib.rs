//! Bytes to values and back.
//!
//! Everything an Ampoule device reads from outside or keeps in flash is decoded here, strictly: what the formats do not
//! allow is refused with a numbered [`Reason`], never repaired. No keys, no clock, no I/O, no allocation, no panic.
#![no_std]
#![forbid(unsafe_code)]

pub mod cbor;
pub mod cose;
pub mod limits;
pub mod mcuboot;
pub mod plan;
pub mod reason;
pub mod record;
pub mod roots;
pub mod smp;
pub mod suit;
pub mod x509;

pub use reason::{Reason, Refused};
