//! Signing in a build system: a daemon in front of a key, so that a build can ask for development signatures without
//! holding a PIN. docs/sign-service.md describes policy and protocol.
//!
//! | part | answers |
//! |---|---|
//! | [`wire`] | what goes over the socket |
//! | [`policy`] | who may have what signed, and how often |
//! | [`facts`] | what is really to be signed, read from the bytes and not from the client's words |
//! | [`server`] | one thread that signs, a bounded number that listen |
//! | [`client`] | a [`Signer`](crate::Signer) whose key is behind a service |
//!
//! A service never signs for production: that takes the threshold of people. Roots, revocation lists and records are
//! signed by people in any world.

pub mod client;
pub mod facts;
pub mod policy;
pub mod server;
pub mod wire;
