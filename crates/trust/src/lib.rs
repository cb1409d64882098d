//! Whether to believe bytes: algorithms, trust root, roles and thresholds, digests.
//!
//! Three questions, three values that only this crate can make:
//!
//! | question | asked by | answer |
//! |---|---|---|
//! | did the right people sign this release? | devices, servers, people | [`Authentic`] |
//! | may this device install it now? | the update engine | [`Admitted`] |
//! | may this image start? | the bootloader | [`Bootable`] |
//!
//! Public keys only, but for the one that is a device's [own]; no clock, no I/O, no allocation, no panic on outside bytes.
#![no_std]
#![forbid(unsafe_code)]

pub mod admit;
pub mod alg;
pub mod digest;
pub mod entropy;
pub mod hmac;
pub mod image;
pub mod key;
pub mod lms;
#[cfg(feature = "ml-dsa")]
pub mod mldsa;
pub mod own;
pub mod root;
mod scan;
#[cfg(any(test, target_os = "none"))]
mod sha256;
pub mod siv;
pub mod vault;

pub use admit::{Admitted, Authentic, ComponentView, DeviceView, DomainView, Standing};
pub use alg::{Algorithms, BadSignature, PORTABLE, Pieces, SignatureAlgorithm, Verifier, WeakKey, raw_key};
pub use codec::cose::{KeyId, PublicKey};
pub use digest::Sha256;
pub use entropy::{Entropy, NoEntropy, Tested};
pub use image::{Bootable, ImageRule};
pub use key::{image_key_hash, thumbprint};
pub use own::OwnKey;
pub use root::{Entries, Entry, Revocations, Role, RoleSet, Signer, Signers, TrustRoot};
pub use vault::{KeyVault, UniqueKey};
