//! The file of a release, and signatures on it (profile sections 3 and 4).

use std::ops::Range;

use codec::cose::Sign1;
use codec::limits::{AUTH_BLOCKS_MAX, Limits};
use codec::plan::{Digest, DigestAlgorithm, Plan, Target};
use codec::suit::{self, Event, Head, Members, head, manifest};
use codec::{Reason, Refused};
use keys::{Code, Error, Object, Purpose, Result, Shown, Signer};
use trust::Sha256;

use crate::root::{Block, short, to_vec};

/// Targets that a plan on a host has room for (COMPONENTS_MAX of the widest column).
pub const TARGETS_MAX: usize = Limits::LINUX.components_max as usize;

/// A release as one file. Its structure was checked; who signed it is said by [`crate::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    bytes: Vec<u8>,
    head_len: usize,
    members: Vec<Member>,
}

/// A part of an envelope behind its head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it is.
    pub kind: MemberKind,
    /// Where its content stands in the file.
    pub content: Range<usize>,
}

/// The kinds of members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberKind {
    /// The severed text.
    Text,
    /// The key packages.
    KeyPackages,
    /// The chunk hashes of the source with this ordinal.
    ChunkTable(u8),
    /// The payload of this name, with its `#`.
    Payload(String),
}

impl Envelope {
    /// Takes a file apart. Errors: a device's reasons (1xx, 2xx) for what is no envelope of the profile.
    pub fn parse(bytes: Vec<u8>) -> Result<Envelope> {
        Self::read(bytes).map_err(|refused| Error::refused("the release", refused))
    }

    fn read(bytes: Vec<u8>) -> std::result::Result<Envelope, Refused> {
        let (head_len, entries) = {
            let head = Head::decode(&bytes, &Limits::LINUX)?;
            (head.len, head.entries)
        };
        let members = read_members(&bytes, head_len, entries)?;
        Ok(Envelope {
            bytes,
            head_len,
            members,
        })
    }

    /// The file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of the head: what a device reads before it decides.
    pub fn head_len(&self) -> usize {
        self.head_len
    }

    /// The head, taken apart.
    pub fn head(&self) -> Head<'_> {
        // It was decoded when the envelope was made, and the bytes have not changed since.
        Head::decode(&self.bytes, &Limits::LINUX).expect("an envelope has a head")
    }

    /// What follows the head, in order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The content of a member.
    pub fn content(&self, member: &Member) -> &[u8] {
        self.bytes.get(member.content.clone()).unwrap_or(&[])
    }

    /// The payload of this name.
    pub fn payload(&self, name: &str) -> Option<&[u8]> {
        let named = |member: &&Member| matches!(&member.kind, MemberKind::Payload(payload) if payload == name);
        self.members.iter().find(named).map(|member| self.content(member))
    }

    /// The chunk hashes of the source with this ordinal, where they travel outside the manifest.
    pub fn chunk_hashes(&self, ordinal: u8) -> Option<&[u8]> {
        let member = self
            .members
            .iter()
            .find(|member| member.kind == MemberKind::ChunkTable(ordinal));
        member.map(|member| self.content(member))
    }

    /// What the release wants of a device, whoever signed it. `room` takes its targets. Errors: a device's reasons.
    pub fn plan<'w, 'a: 'w>(&'a self, room: &'w mut [Target<'a>]) -> Result<Plan<'w>> {
        plan(self.head().manifest, room)
    }

    /// The same release with one more signature.
    ///
    /// Errors: [`Code::SameKeyTwice`] this key signed it already; 105 when there is no room for another; 212 when the
    /// manifest is not the one that was signed; those of the signer.
    pub fn add_signature(&self, signer: &dyn Signer) -> Result<Envelope> {
        let head = self.head();
        check_digest(&head).map_err(|refused| Error::refused("the release", refused))?;
        let present: Vec<Sign1> = head.blocks.filter_map(std::result::Result::ok).collect();
        let object = head.manifest;
        let block = Block::sign(&Shown { signer, object }, &[], head.signed, &purpose(head.manifest)?)?;
        if present.iter().any(|other| *other.kid == block.kid) {
            let what = format!(
                "{} (key {}) has signed this release already",
                signer.describe(),
                short(&block.kid)
            );
            return Err(Code::SameKeyTwice.error(what));
        }
        if present.len() >= AUTH_BLOCKS_MAX {
            return Err(Error::refused("the release", Reason::Limit.about("AUTH_BLOCKS_MAX")));
        }
        let mut blocks = present;
        blocks.push(block.borrow());
        self.with_blocks(blocks)
    }

    /// This and another copy of the same release as one, with the signatures of both.
    ///
    /// Errors: [`Code::CopiesDiffer`] the other is another release; 105 too many signatures.
    pub fn join(&self, other: &Envelope) -> Result<Envelope> {
        let (head, others) = (self.head(), other.head());
        let rest = |envelope: &Envelope| envelope.bytes.get(envelope.head_len..).map(<[u8]>::to_vec);
        if head.manifest_value != others.manifest_value || rest(self) != rest(other) {
            return Err(Code::CopiesDiffer.error("the file is another release by now"));
        }
        let mut blocks: Vec<Sign1> = head.blocks.filter_map(std::result::Result::ok).collect();
        for block in others.blocks.filter_map(std::result::Result::ok) {
            if blocks.iter().all(|present| present.kid != block.kid) {
                blocks.push(block);
            }
        }
        if blocks.len() > AUTH_BLOCKS_MAX {
            return Err(Error::refused("the release", Reason::Limit.about("AUTH_BLOCKS_MAX")));
        }
        self.with_blocks(blocks)
    }

    fn with_blocks(&self, mut blocks: Vec<Sign1>) -> Result<Envelope> {
        let head = self.head();
        blocks.sort_by_key(|block| *block.kid);
        let mut bytes = to_vec(|w| head::write_head(w, self.members.len(), &head.digest, &blocks, head.manifest));
        bytes.extend_from_slice(self.bytes.get(self.head_len..).unwrap_or(&[]));
        Envelope::parse(bytes)
    }
}

fn plan<'w, 'a: 'w>(manifest: &'a [u8], room: &'w mut [Target<'a>]) -> Result<Plan<'w>> {
    let decoded = manifest::decode(manifest, &Limits::LINUX, room);
    decoded.map_err(|refused| Error::refused("the release", refused))
}

/// Everything of a release but its signatures.
#[derive(Clone)]
pub struct Draft {
    pub(crate) manifest: Vec<u8>,
    pub(crate) text: Option<Vec<u8>>,
    pub(crate) tables: Vec<(u8, Vec<u8>)>,
    pub(crate) payloads: Vec<(String, Vec<u8>)>,
    pub(crate) limits: Limits,
    pub(crate) notes: Vec<String>,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("digest", &crate::tree::hex(&self.digest()))
            .finish_non_exhaustive()
    }
}

impl Draft {
    /// Signs it; further signatures are added with [`Envelope::add_signature`].
    ///
    /// Errors: those of the signer; 105 when the file exceeds a limit of the devices it is for.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Envelope> {
        let digest = self.digest();
        let digest = Digest {
            algorithm: DigestAlgorithm::Sha256,
            hash: &digest,
        };
        let signed = to_vec(|writer| suit::write_digest(writer, &digest));
        let object = &self.manifest;
        let block = Block::sign(&Shown { signer, object }, &[], &signed, &purpose(&self.manifest)?)?;
        let envelope = Envelope::parse(self.encode(&digest, &[block.borrow()]))?;
        let fits = Head::decode(envelope.as_bytes(), &self.limits).map(|_| ());
        fits.map_err(|refused| Error::refused("the release", refused))?;
        Ok(envelope)
    }

    /// What it wants of a device, as [`Envelope::plan`].
    pub fn plan<'w, 'a: 'w>(&'a self, room: &'w mut [Target<'a>]) -> Result<Plan<'w>> {
        plan(&self.manifest, room)
    }

    /// SHA-256 by which it is signed, and its name in records.
    pub fn digest(&self) -> [u8; 32] {
        manifest_digest(&self.manifest)
    }

    /// What a person should know about it although it is no error.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The limits of the devices that it is for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The file with these blocks.
    fn encode(&self, digest: &Digest, blocks: &[Sign1]) -> Vec<u8> {
        let members = usize::from(self.text.is_some()) + self.tables.len() + self.payloads.len();
        to_vec(|writer| {
            head::write_head(writer, members, digest, blocks, &self.manifest);
            if let Some(text) = &self.text {
                writer.uint(KEY_TEXT).bytes(text);
            }
            for (ordinal, hashes) in &self.tables {
                writer.text(&format!("#c{ordinal:x}")).bytes(hashes);
            }
            for (name, payload) in &self.payloads {
                writer.text(name).bytes(payload);
            }
        })
    }
}

/// Envelope key of the severed text.
const KEY_TEXT: u64 = 23;

/// What a signature on the release with this manifest is for.
fn purpose(manifest: &[u8]) -> Result<Purpose> {
    Ok(Purpose {
        object: Object::Release,
        subject: crate::verify::describe(manifest)?,
        digest: manifest_digest(manifest),
    })
}

/// SHA-256 of a manifest with the header of its byte string, as the profile wants it (section 4).
pub(crate) fn manifest_digest(manifest: &[u8]) -> [u8; 32] {
    Sha256::of_parts(&[head::value_header(manifest.len()).as_slice(), manifest])
}

/// Whether the digest that is signed is the manifest's (212); SHA-512 is by device policy and not used here (211).
pub(crate) fn check_digest(head: &Head) -> std::result::Result<(), Refused> {
    match head.digest.algorithm {
        DigestAlgorithm::Sha256 if Sha256::of(head.manifest_value) == head.digest.hash => Ok(()),
        DigestAlgorithm::Sha256 => Err(Reason::AuthDigest.refused()),
        DigestAlgorithm::Sha512 => Err(Reason::AuthDigestAlg.refused()),
    }
}

fn read_members(bytes: &[u8], head_len: usize, entries: u64) -> std::result::Result<Vec<Member>, Refused> {
    let mut stream = Members::new(entries, &Limits::LINUX);
    let mut found: Vec<Member> = Vec::new();
    let mut at = head_len;
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let (used, event) = stream.next(rest)?;
        at += used;
        let kind = match event {
            Event::Text { .. } => MemberKind::Text,
            Event::KeyPackages { .. } => MemberKind::KeyPackages,
            Event::ChunkTable { ordinal, .. } => MemberKind::ChunkTable(ordinal),
            Event::Payload { name, .. } => MemberKind::Payload(name.as_str().into()),
            Event::Bytes => {
                if let Some(member) = found.last_mut() {
                    member.content.end = at;
                }
                continue;
            }
            Event::MemberEnd => continue,
            Event::NeedMore => return Err(Reason::CborMalformed.about("the file ends too early")),
            Event::End if at == bytes.len() => return Ok(found),
            Event::End => return Err(Reason::CborTrailing.refused()),
        };
        found.push(Member { kind, content: at..at });
    }
}
