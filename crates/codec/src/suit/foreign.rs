//! SUIT envelopes that are not of the profile, taken apart for people: import and inspection tools on a host only.
//!
//! A device never gets here. The generic reader is as strict about CBOR as the device's, but takes what the drafts
//! allow: other signature types and algorithms, blocks without key id, severed members, and on request a missing tag.

use super::TAG_ENVELOPE;
use crate::cbor::{Keys, Kind, Reader};
use crate::{Reason, Refused};

/// A generic SUIT envelope.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Whether tag 107 stands before it.
    pub tagged: bool,
    /// COSE number of the digest's algorithm.
    pub digest_algorithm: i64,
    /// The digest of [`manifest_value`](Self::manifest_value).
    pub digest: &'a [u8],
    /// The encoded digest: the payload of every block.
    pub signed: &'a [u8],
    /// The value of key 3 with its header: what the digest is taken of.
    pub manifest_value: &'a [u8],
    /// The manifest map.
    pub manifest: &'a [u8],
    blocks: Reader<'a>,
    block_count: usize,
    members: Reader<'a>,
    member_count: usize,
}

/// Whether an envelope must be tagged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// Tag 107 is required.
    Required,
    /// The file may start with the map itself, as files inside a known context do.
    Optional,
}

impl<'a> Envelope<'a> {
    /// Takes a file apart. Refused: 201 for a missing tag, 202 for a missing key 2 or 3, 101 to 104 for CBOR.
    pub fn decode(file: &'a [u8], tag: Tag) -> Result<Self, Refused> {
        let mut reader = Reader::new(file);
        let tagged = reader.peek()? == Kind::Tag;
        if tagged && reader.tag()? != TAG_ENVELOPE || !tagged && tag == Tag::Required {
            return Err(Reason::EnvTag.into());
        }
        let mut keys = Keys::of(&mut reader)?;
        let (mut auth, mut manifest_value) = (None, None);
        let (members, member_count) = (reader, keys.left());
        while let Some(key) = keys.next(&mut reader)? {
            let value = reader.item()?;
            match key {
                [2] => auth = Some(value),
                [3] => manifest_value = Some(value),
                _ => {}
            }
        }
        reader.end()?;
        let manifest_value = manifest_value.ok_or(Reason::EnvKeyMissing)?;
        let mut auth = Reader::new(auth.ok_or(Reason::EnvKeyMissing)?).embedded()?;
        let block_count = auth.array()?.checked_sub(1).ok_or(Reason::CborMalformed)?;
        let signed = auth.bytes()?;
        let blocks = auth;
        for _ in 0..block_count {
            Block::decode(auth.bytes()?)?;
        }
        auth.end()?;
        let mut digest = Reader::new(signed);
        digest.array_of(2)?;
        let (digest_algorithm, hash) = (digest.int()?, digest.bytes()?);
        digest.end()?;
        Ok(Envelope {
            tagged,
            digest_algorithm,
            digest: hash,
            signed,
            manifest_value,
            manifest: Reader::new(manifest_value).bytes()?,
            blocks,
            block_count,
            members,
            member_count,
        })
    }

    /// The authentication blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let mut reader = self.blocks;
        (0..self.block_count).map_while(move |_| Block::decode(reader.bytes().ok()?).ok())
    }

    /// All members of the envelope as encoded key and encoded value, the head's two included.
    pub fn members(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        pairs(self.members, self.member_count)
    }

    /// The entries of the manifest map as encoded key and encoded value.
    pub fn manifest_entries(&self) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a>, Refused> {
        map_entries(self.manifest)
    }
}

/// The entries of a map that fills `bytes`, as encoded key and encoded value.
pub fn map_entries(bytes: &[u8]) -> Result<impl Iterator<Item = (&[u8], &[u8])>, Refused> {
    let mut check = Reader::new(bytes);
    check.item()?;
    check.end()?;
    let mut reader = Reader::new(bytes);
    let count = reader.map()?;
    Ok(pairs(reader, count))
}

/// The commands of a sequence that fills `bytes`: number and encoded argument. Refused: 101 to 104, also for a sequence
/// that is not made of pairs with a number first.
pub fn commands(bytes: &[u8]) -> Result<impl Iterator<Item = (i64, &[u8])>, Refused> {
    let mut check = Reader::new(bytes);
    let count = check.array()?;
    if count % 2 != 0 {
        return Err(Reason::CborMalformed.into());
    }
    let mut reader = check;
    for _ in 0..count / 2 {
        check.int()?;
        check.item()?;
    }
    check.end()?;
    Ok((0..count / 2).map_while(move |_| Some((reader.int().ok()?, reader.item().ok()?))))
}

fn pairs<'a>(mut reader: Reader<'a>, count: usize) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
    (0..count).map_while(move |_| Some((reader.item().ok()?, reader.item().ok()?)))
}

/// What kind of block authenticates the digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockKind {
    /// COSE_Sign1, tag 18.
    Sign1,
    /// COSE_Mac0, tag 17.
    Mac0,
}

/// A generic authentication block with detached payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// Signature or MAC.
    pub kind: BlockKind,
    /// The protected header as received.
    pub protected: &'a [u8],
    /// The algorithm, from either header.
    pub algorithm: Option<i64>,
    /// The key id, from either header.
    pub kid: Option<&'a [u8]>,
    /// The signature or MAC.
    pub authenticator: &'a [u8],
}

impl<'a> Block<'a> {
    /// The context string of the bytes that the authenticator covers (RFC 9052 sections 4.4 and 6.3).
    pub fn context(&self) -> &'static str {
        match self.kind {
            BlockKind::Sign1 => "Signature1",
            BlockKind::Mac0 => "MAC0",
        }
    }

    /// Decodes a block that must fill `bytes`. Refused: 213 for other types and attached payloads, 101 to 104.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut reader = Reader::demanding(bytes, Reason::AuthBlockType);
        let kind = match reader.tag()? {
            17 => BlockKind::Mac0,
            18 => BlockKind::Sign1,
            _ => return Err(Reason::AuthBlockType.into()),
        };
        reader.array_of(4)?;
        let mut block = Block {
            kind,
            protected: reader.bytes()?,
            algorithm: None,
            kid: None,
            authenticator: &[],
        };
        if !block.protected.is_empty() {
            let mut header = Reader::new(block.protected);
            block.take_header(&mut header)?;
            header.end()?;
        }
        block.take_header(&mut reader)?;
        reader.null()?;
        block.authenticator = reader.bytes()?;
        reader.end()?;
        Ok(block)
    }

    fn take_header(&mut self, reader: &mut Reader<'a>) -> Result<(), Refused> {
        let mut keys = Keys::of(reader)?;
        while let Some(key) = keys.next(reader)? {
            match key {
                [1] => self.algorithm = Some(reader.int()?),
                [4] => self.kid = Some(reader.bytes()?),
                _ => {
                    reader.item()?;
                }
            }
        }
        Ok(())
    }
}
