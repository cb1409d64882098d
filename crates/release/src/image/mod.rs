//! MCUboot images: sign, add a signature, verify, explain.
//!
//! [`sign`] makes, from firmware and [`ImageOptions`], the bytes that imgtool makes for the same key and options; several
//! signers give several pairs of KEYHASH and signature, which the role of a trust root counts.

mod build;
pub mod dump;
pub mod options;
pub mod review;
mod verify;

pub use build::{Image, Unsigned, add_signature, build, prepare, sign};
pub use dump::{Info, dumpinfo};
pub use options::{Alignment, Finish, ImageOptions, LoadAddress, SecurityCounter};
pub use options::{class_id, dependencies_from_text, number_from_text, vendor_id};
pub use verify::{Authority, Verified, signature_of, verify};
