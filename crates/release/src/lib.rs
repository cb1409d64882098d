//! Recipe to signed release: assemble, sign, inspect; and the images that a release carries.
#![forbid(unsafe_code)]

pub mod hex;
pub mod image;
