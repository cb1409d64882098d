//! Private keys and the signatures they make.
//!
//! A [`Signer`] gets a message or a digest and gives back a signature; the private key never leaves it. Keys in
//! encrypted files ([`file`]) are one kind; hardware and external signers stand behind the same trait.
//!
//! No terminal, no environment, no clock: passphrases come in as bytes, and the operating system's random generator is
//! the only thing asked for; beside the tools of a TPM, where an LMS key is bound to one ([`lms::tpm`]).
#![forbid(unsafe_code)]

pub mod backup;
#[cfg(feature = "identity")]
pub mod ca;
pub mod error;
pub mod external;
pub mod file;
pub mod journal;
pub mod lms;
mod mldsa;
pub mod passphrase;
pub mod pkcs11;
pub mod public;
pub mod sample;
mod selfcheck;
#[cfg(unix)]
pub mod service;
pub mod signer;
pub mod uri;

pub use error::{Code, Error};
pub use passphrase::Passphrase;
pub use public::PublicKey;
pub use signer::{Content, DevelopmentOnly, Job, Object, Purpose, Shown, Signature, Signer};
pub use trust::SignatureAlgorithm;
pub use uri::KeyUri;

/// The result of everything on the host side.
pub type Result<T, E = Error> = core::result::Result<T, E>;
