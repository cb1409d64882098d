//! AMP-SUIT-1 (profile sections 3 to 10): one envelope is a release.
//!
//! A receiver works through an envelope as a stream, without seeking:
//! 1. [`head`]: tag, authentication wrapper, manifest; at most `HEAD_MAX` bytes, kept as they came.
//! 2. `trust` judges the head's signatures; only then [`manifest::decode`] turns the manifest into a
//!    [`Plan`](crate::plan::Plan).
//! 3. [`members`]: what follows the head, piece by piece: text, key packages, chunk tables, payloads.
//!
//! [`encode`] writes all of it; [`text`] and [`foreign`] are for people and tools, never for a device's decision.

use crate::cbor::{Reader, Writer};
use crate::plan::{Digest, DigestAlgorithm};
use crate::{Reason, Refused};

mod args;
pub mod encode;
pub mod encryption;
pub mod foreign;
pub mod head;
pub mod manifest;
pub mod members;
mod sequence;
pub mod text;

pub use head::{Head, head_len};
pub use members::{Event, Members, Name};

/// Tag of a SUIT envelope.
pub const TAG_ENVELOPE: u64 = 107;
/// COSE number of SHA-256.
pub const ALG_SHA256: i64 = -16;
/// COSE number of SHA-512.
pub const ALG_SHA512: i64 = -44;

/// Reads `[alg, hash]`; anything but the profile's algorithms and lengths is refused as the reader demands.
pub(crate) fn read_digest<'a>(reader: &mut Reader<'a>) -> Result<Digest<'a>, Refused> {
    reader.array_of(2)?;
    read_digest_members(reader)
}

/// Reads `alg, hash`, the members of a digest.
pub(crate) fn read_digest_members<'a>(reader: &mut Reader<'a>) -> Result<Digest<'a>, Refused> {
    let (algorithm, length) = match reader.int()? {
        ALG_SHA256 => (DigestAlgorithm::Sha256, 32),
        ALG_SHA512 => (DigestAlgorithm::Sha512, 64),
        _ => return Err(reader.wrong_here()),
    };
    let hash = reader.bytes()?;
    if hash.len() != length {
        return Err(reader.wrong_here());
    }
    Ok(Digest { algorithm, hash })
}

/// Writes `[alg, hash]`: for an envelope's digest, exactly the bytes that its signatures cover.
pub fn write_digest(writer: &mut Writer<'_>, digest: &Digest<'_>) {
    write_digest_members(writer.array(2), digest);
}

/// Writes `alg, hash`.
pub(crate) fn write_digest_members(writer: &mut Writer<'_>, digest: &Digest<'_>) {
    let algorithm = match digest.algorithm {
        DigestAlgorithm::Sha256 => ALG_SHA256,
        DigestAlgorithm::Sha512 => ALG_SHA512,
    };
    writer.int(algorithm).bytes(digest.hash);
}

/// Whether this is the name of a payload in the envelope, `#` and 4 to 31 characters of `[a-z0-9._-]`.
pub fn is_payload_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix('#') else {
        return false;
    };
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_' | b'-');
    crate::limits::PAYLOAD_NAME_CHARS.contains(&rest.len()) && rest.bytes().all(allowed)
}

/// Refuses `name` unless it follows `last` in the order of envelope keys: shorter first, then bytewise.
pub(crate) fn name_ascending(last: &str, name: &str) -> Result<(), Refused> {
    match (last.len(), last).cmp(&(name.len(), name)) {
        core::cmp::Ordering::Less => Ok(()),
        core::cmp::Ordering::Equal => Err(Reason::PayloadUnreferenced.into()),
        core::cmp::Ordering::Greater => Err(Reason::PayloadOrder.into()),
    }
}
