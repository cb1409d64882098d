//! Private keys and the signatures they make.
//!
//! A [`Signer`] gets a message or a digest and gives back a signature; the private key never leaves it. Keys in
//! encrypted files are one kind; hardware and external signers stand behind the same trait.
#![forbid(unsafe_code)]

pub mod error;

pub use error::{Code, Error};

/// The result of everything on the host side.
pub type Result<T, E = Error> = core::result::Result<T, E>;
