//! AMP-SUIT-1 envelopes and manifests: decode, encode, stream.

pub mod members;

pub use members::{Event, Members, Name};
