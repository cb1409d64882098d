//! Recipe to signed release: assemble, sign, inspect; and the images that a release carries.
#![forbid(unsafe_code)]

pub mod assemble;
pub mod board;
pub mod ceremony;
pub mod detached;
pub mod envelope;
pub mod hex;
pub mod identity;
pub mod image;
pub mod input;
pub mod inspect;
pub mod recipe;
pub mod review;
pub mod root;
pub mod time;
pub mod tree;
pub mod verify;

pub use assemble::assemble;
pub use envelope::{Draft, Envelope};
pub use recipe::Recipe;
pub use verify::{Verified, verify};
