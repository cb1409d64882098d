//! Recipe to signed release: assemble, sign, inspect; and the images that a release carries.
#![forbid(unsafe_code)]

pub mod board;
pub mod hex;
pub mod identity;
pub mod image;
pub mod input;
pub mod inspect;
pub mod recipe;
pub mod root;
pub mod tree;
