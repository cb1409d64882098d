//! The head of an envelope: everything up to and including the manifest (profile sections 3 and 4).

use super::{TAG_ENVELOPE, read_digest};
use crate::cbor::{self, EncodedHead, Extent, Kind, Reader, Writer};
use crate::cose::{Blocks, Sign1};
use crate::limits::{self, AUTH_BLOCKS_MAX, Limits};
use crate::plan::Digest;
use crate::{Reason, Refused};

/// Envelope key of the authentication wrapper.
const KEY_AUTH: u64 = 2;
/// Envelope key of the manifest.
const KEY_MANIFEST: u64 = 3;
/// Members that are neither payloads nor part of the head: text, `#k`, `#c0` to `#cf`.
const OTHER_MEMBERS_MAX: u64 = 1 + 1 + 16;

/// A head taken apart: structure is checked, nothing is believed yet.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Bytes of the head; the first member follows.
    pub len: usize,
    /// Entries of the envelope map, the head's two included; what [`Members`](super::Members) starts from.
    pub entries: u64,
    /// The digest that the signatures cover; it must be the digest of [`manifest_value`](Self::manifest_value).
    pub digest: Digest<'a>,
    /// The encoded digest, `[alg, hash]`: the payload of every block.
    pub signed: &'a [u8],
    /// The signature blocks, 1 to 8, checked for structure and order.
    pub blocks: Blocks<'a>,
    /// The value of key 3 *with* its byte string header: what the digest is taken of.
    pub manifest_value: &'a [u8],
    /// The manifest map.
    pub manifest: &'a [u8],
}

/// How many bytes the head at the start of `prefix` has. A receiver calls this with what has arrived so far, and again
/// when there are as many bytes as it asked for.
///
/// Refused as soon as the bytes cannot become a head any more: 201 without tag 107; 202 and 203 for other keys; 105 for
/// `HEAD_MAX`, `MANIFEST_MAX` and `PAYLOADS_MAX`, judged by the length headers before the content arrives; 101 to 103.
pub fn head_len(prefix: &[u8], limits: &Limits) -> Result<Extent, Refused> {
    let mut walk = Walk { prefix, at: 0 };
    match layout(&mut walk, limits)? {
        Some(layout) if layout.end <= prefix.len() => Ok(Extent::Complete(layout.end)),
        Some(layout) => Ok(Extent::Needs(layout.end)),
        None => Ok(Extent::Needs(walk.at.max(prefix.len()).saturating_add(1))),
    }
}

impl<'a> Head<'a> {
    /// Takes the head at the start of `file` apart; more may follow it.
    ///
    /// Refused: as [`head_len`], and 101 when it is not complete; 210 to 215 for the authentication wrapper's structure;
    /// 105 `AUTH_BLOCKS_MAX` and `CERT_MAX`. Whether the digest matches and who signed is decided by `trust`.
    pub fn decode(file: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let mut walk = Walk { prefix: file, at: 0 };
        let layout = layout(&mut walk, limits)?.ok_or(Reason::CborMalformed)?;
        let part = |from: usize, to: usize| file.get(from..to).ok_or(Reason::CborMalformed);
        let manifest_value = part(layout.manifest_value, layout.end)?;
        let auth = Auth::decode(part(layout.auth, layout.auth_end)?, limits)?;
        Ok(Head {
            len: layout.end,
            entries: layout.entries,
            digest: auth.digest,
            signed: auth.signed,
            blocks: auth.blocks,
            manifest_value,
            manifest: part(layout.manifest, layout.end)?,
        })
    }
}

/// Where the parts of a head stand, in bytes from its start.
struct Layout {
    entries: u64,
    auth: usize,
    auth_end: usize,
    manifest_value: usize,
    manifest: usize,
    end: usize,
}

/// The layout, as soon as the last length header has arrived.
fn layout(walk: &mut Walk<'_>, limits: &Limits) -> Result<Option<Layout>, Refused> {
    let Some(tag) = walk.head()? else { return Ok(None) };
    if tag.kind != Kind::Tag || tag.argument != TAG_ENVELOPE {
        return Err(Reason::EnvTag.into());
    }
    let Some(map) = walk.head()? else { return Ok(None) };
    let entries = envelope_entries(&map, limits)?;
    let Some(auth) = walk.member(KEY_AUTH)? else {
        return Ok(None);
    };
    let auth_end = end_of(walk.at, &auth, limits)?;
    let auth = walk.at;
    walk.at = auth_end;
    let Some(manifest) = walk.member(KEY_MANIFEST)? else {
        return Ok(None);
    };
    limits::at_most(manifest.argument, limits.manifest_max.into(), "MANIFEST_MAX")?;
    let end = end_of(walk.at, &manifest, limits)?;
    Ok(Some(Layout {
        entries,
        auth,
        auth_end,
        manifest_value: walk.at.saturating_sub(manifest.len),
        manifest: walk.at,
        end,
    }))
}

fn envelope_entries(map: &cbor::Head, limits: &Limits) -> Result<u64, Refused> {
    if map.kind != Kind::Map {
        return Err(Reason::CborMalformed.into());
    }
    let members = map.argument.checked_sub(2).ok_or(Reason::EnvKeyMissing)?;
    let most = OTHER_MEMBERS_MAX + u64::from(limits.payloads_max);
    limits::at_most(members, most, "PAYLOADS_MAX")?;
    Ok(map.argument)
}

/// Where a byte string ends whose content starts at `at`.
fn end_of(at: usize, head: &cbor::Head, limits: &Limits) -> Result<usize, Refused> {
    let too_long = Reason::Limit.about("HEAD_MAX");
    limits::at_most(head.argument, limits.head_max.into(), "HEAD_MAX")?;
    let length = usize::try_from(head.argument).map_err(|_| too_long)?;
    let end = at.checked_add(length).ok_or(too_long)?;
    limits::at_most(end as u64, limits.head_max.into(), "HEAD_MAX")?;
    Ok(end)
}

struct Walk<'a> {
    prefix: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// Steps over the head of the next item; `None` when it has not arrived.
    fn head(&mut self) -> Result<Option<cbor::Head>, Refused> {
        let rest = self.prefix.get(self.at..).unwrap_or(&[]);
        let head = cbor::Head::read(rest)?;
        if let Some(head) = &head {
            self.at = self.at.saturating_add(head.len);
        }
        Ok(head)
    }

    /// Steps over a key, which must be `key`, and the head of its value, which must be a byte string.
    fn member(&mut self, key: u64) -> Result<Option<cbor::Head>, Refused> {
        let Some(found) = self.head()? else { return Ok(None) };
        judge_key(&found, key)?;
        let Some(value) = self.head()? else { return Ok(None) };
        if value.kind != Kind::Bytes {
            return Err(Reason::CborMalformed.into());
        }
        Ok(Some(value))
    }
}

/// The keys of the head are 2 and 3 and nothing else: a smaller one is forbidden (delegation) or out of order, a larger
/// one or a name means that this one is missing.
fn judge_key(found: &cbor::Head, wanted: u64) -> Result<(), Refused> {
    if found.kind != Kind::Uint || found.argument > wanted {
        return Err(Reason::EnvKeyMissing.into());
    }
    match found.argument {
        key if key == wanted => Ok(()),
        KEY_AUTH => Err(Reason::CborDuplicateKey.into()),
        _ if wanted == KEY_MANIFEST => Err(Reason::CborNotDeterministic.into()),
        _ => Err(Reason::EnvKeyForbidden.into()),
    }
}

/// The authentication wrapper: `[bstr .cbor [alg, hash], 1*8 bstr .cbor block]`.
struct Auth<'a> {
    digest: Digest<'a>,
    signed: &'a [u8],
    blocks: Blocks<'a>,
}

impl<'a> Auth<'a> {
    fn decode(auth: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let mut reader = Reader::new(auth);
        let count = reader.array()?;
        let blocks = count.checked_sub(1).ok_or(Reason::CborMalformed)?;
        limits::at_most(blocks as u64, AUTH_BLOCKS_MAX as u64, "AUTH_BLOCKS_MAX")?;
        let signed = reader.bytes()?;
        let digest = decode_signed(signed)?;
        if blocks == 0 {
            reader.end()?;
            return Err(Reason::AuthNoBlock.into());
        }
        let blocks = Blocks::new(reader, blocks, Some(limits.cert_max));
        blocks.check()?;
        Ok(Auth { digest, signed, blocks })
    }
}

fn decode_signed(signed: &[u8]) -> Result<Digest<'_>, Refused> {
    let mut reader = Reader::demanding(signed, Reason::AuthDigestAlg);
    let digest = read_digest(&mut reader)?;
    reader.end()?;
    Ok(digest)
}

/// Writes a head: the digest of the manifest's value, the blocks in ascending order of their key ids, the manifest.
/// `members` more members are to follow.
pub fn write_head(writer: &mut Writer<'_>, members: usize, digest: &Digest<'_>, blocks: &[Sign1<'_>], manifest: &[u8]) {
    writer.tag(TAG_ENVELOPE).map(members.saturating_add(2));
    writer.uint(KEY_AUTH).embedded(|w| {
        w.array(blocks.len().saturating_add(1))
            .embedded(|w| super::write_digest(w, digest));
        for block in blocks {
            w.embedded(|w| block.encode(w));
        }
    });
    writer.uint(KEY_MANIFEST).bytes(manifest);
}

/// The byte string header that stands before a manifest (or a text) of this length and is hashed with it.
pub fn value_header(length: usize) -> EncodedHead {
    EncodedHead::new(Kind::Bytes, length as u64)
}
