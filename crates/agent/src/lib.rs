//! A Linux body for the engine, of which the vault is built: where a device keeps its secrets.
//!
//! | part | answers |
//! |---|---|
//! | [`vault`] | where the device's secret, its key and its counter are: a file for development, or a TPM 2.0 |
//! | [`secrets`] | how settings and floors are kept: [`engine::sealed`] over a file |
//! | [`policy`] | what a signed policy of a TPM says |
//!
//! Only `main.rs` knows the terminal and the command line.
#![forbid(unsafe_code)]

mod fields;
pub mod flash;
pub mod policy;
pub mod secrets;
pub mod vault;
