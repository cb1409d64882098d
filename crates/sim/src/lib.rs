//! The workshop: flash with faults, power cuts at every operation, and the laws that must hold afterwards.
//!
//! Everything is deterministic: a failure names its case, and `AMPOULE_CASE=<case>` runs that case alone.
#![forbid(unsafe_code)]

pub mod bench;
pub mod body;
pub mod cbor;
pub mod chance;
pub mod cuts;
pub mod device;
pub mod elf;
pub mod firmware;
pub mod fixture;
pub mod help;
pub mod life;
pub mod line;
pub mod nor;
pub mod qemu;
pub mod smp;
pub mod station;
pub mod story;
