//! The private CA: a root that signs issuing CAs only, one issuing CA for each purpose, and what they issue.
//!
//! ```text
//! root ── device ──── IDevID, LDevID, and stations' CAs below
//!     ├── server ──── TLS servers, in named DNS domains
//!     ├── operator ── people
//!     └── firmware-signing
//! ```
//!
//! | part | answers |
//! |---|---|
//! | [`profile`] | what is issued, for how long, to whom: the TOML file of profiles |
//! | [`identity`] | whom a certificate names, in one notation |
//! | [`request`] | whether a PKCS#10 request is one, and whether its sender has the key |
//! | [`certificate`] | what is signed, byte by byte |
//! | [`store`] | what was reserved, issued and revoked: the database |
//! | [`authority`] | the CA: reserve, sign, keep, hand out |
//! | [`roll`] | a new generation of a CA beside the old one |
//! | [`crl`] | the lists of what was revoked |
//! | `listing` | how they are made |
//! | [`verify`] | whether a certificate may be believed, for what, and whom it names |
//!
//! Who only has an identity takes the feature `identity`: names, certificates, requests, lists and [`verify`], without
//! anything that signs or stores.
//!
//! No clock, terminal or network: the time comes in as a [`Moment`], private keys as [`crate::Signer`]s, requests as
//! bytes. A signer that is tied to the signing journal ([`crate::journal::Journaled`]) enters each certificate and each
//! CRL there before it comes out; `ampoule` and the server pass no other.
//!
//! **In which order things are written.** The database gets a reservation with the exact bytes that are to be signed;
//! then they are signed (and the journal has its entry); then the certificate is kept; then it is handed out. Killed
//! anywhere between, what is missing is missing at the end only: the same request again finishes the reservation with the
//! same serial number, and [`authority::Ca::reservations`] shows the ones that nobody finished.
//!
//! Sources: RFC 5280 (certificates and CRLs), RFC 2986 (requests), IEEE 802.1AR (IDevID, LDevID), RFC 4210 section 4.4
//! (link certificates).

#[cfg_attr(not(feature = "ca"), allow(dead_code, reason = "the CA alone makes certificates"))]
mod algorithm;
#[cfg(feature = "ca")]
pub mod authority;
#[cfg_attr(not(feature = "ca"), allow(dead_code, reason = "the CA alone makes certificates"))]
pub mod certificate;
#[cfg_attr(not(feature = "ca"), allow(dead_code, reason = "the CA alone makes certificates"))]
pub mod crl;
#[cfg_attr(not(feature = "ca"), allow(dead_code, reason = "the CA alone makes certificates"))]
pub mod identity;
#[cfg(feature = "ca")]
mod listing;
#[cfg_attr(not(feature = "ca"), allow(dead_code, reason = "the CA alone makes certificates"))]
pub mod profile;
pub mod request;
#[cfg(feature = "ca")]
pub mod roll;
#[cfg(feature = "ca")]
pub mod store;
pub mod verify;

#[cfg(feature = "ca")]
pub use authority::{Ca, Custody, Founding, Issued, Moment, Order};
pub use certificate::Certificate;
pub use crl::{Crl, Reason};
pub use identity::Identity;
pub use profile::{Branch, Profiles};
pub use request::Request;
pub use verify::{Anchors, Usage};
