//! What a device does with a release it believes: install, boot, swap, trial, confirm, report.
//!
//! The engine touches the world through traits alone ([`flash::Flash`] and its siblings): no network, no clock, no
//! private key. Buffers belong to the caller; nothing allocates and nothing panics.
#![no_std]
#![forbid(unsafe_code)]

pub mod flash;
pub mod layout;
