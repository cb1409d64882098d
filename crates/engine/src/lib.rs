//! What a device does with a release it believes: install, boot, swap, trial, confirm, report.
//!
//! The engine touches the world through traits alone ([`flash::Flash`] and its siblings): no network, no clock, no
//! private key. Buffers belong to the caller; nothing allocates and nothing panics.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod bootlog;
pub mod counter;
pub mod device;
pub mod flash;
pub mod install;
pub mod journal;
pub mod layout;
pub mod lifecycle;
mod log;
pub mod mailbox;
pub mod nor;
pub mod recover;
pub mod report;
pub mod rotate;
pub mod sealed;
pub mod slot;
pub mod smp;
pub mod store;
pub mod swap;
