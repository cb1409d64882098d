//! A Linux body: where a device keeps its secrets, and how it talks to other devices.
//!
//! | part | answers |
//! |---|---|
//! | [`vault`] | where the device's secret, its key and its counter are: a file for development, or a TPM 2.0 |
//! | [`secrets`] | how settings and floors are kept: [`engine::sealed`] over a file |
//! | [`policy`] | what a signed policy of a TPM says |
//! | [`believed`] | whose certificate is believed, and until when: anchors, CRLs that only rise, the time floor |
//! | [`peer`] | the channel between devices: mutual TLS 1.3, roles, limits, revocation of live sessions |
//! | [`config`] | the TOML file |
//!
//! Time and configuration come in as arguments; only `main.rs` knows the clock, the terminal and the command line.
#![forbid(unsafe_code)]

mod fields;
pub mod flash;
pub mod policy;
pub mod secrets;
pub mod vault;
