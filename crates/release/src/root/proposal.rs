//! A root, revocation list or time file on its way to its threshold.
//!
//! A proposal has the form of the finished file, `[name, content, [* block]]`, with as many signature blocks as people
//! have signed so far, none at first. So nothing is converted in the end: the block that reaches the threshold makes the
//! file. Until then every device refuses it, for the structure (801, 811, 813) while nobody signed and for the signatures
//! (804, 805, 811, 813) later.

use codec::cbor::Reader;
use codec::cose::{Blocks, KeyId, SigStructure, Sign1, write_protected};
use codec::limits::{Limits, ROOT_BLOCKS_MAX, TIME_BLOCKS_MAX};
use codec::roots::{self, FileKind, RevokeFile, RootFile, TimeFile};
use codec::{Reason, Refused};
use keys::{Code, Error, Object, Purpose, Result, Signer};
use trust::{Sha256, TrustRoot};

use super::content::Content;
use super::{Block, short, to_vec};
use crate::identity;
use crate::tree::Tree;

/// A statement of the trust root family with the signatures that it has so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    kind: FileKind,
    content: Vec<u8>,
    blocks: Vec<Block>,
}

impl Proposal {
    /// What nobody has signed yet. Errors: a device's reasons for what it would never read, within `limits`.
    pub fn new(kind: FileKind, content: Vec<u8>, limits: &Limits) -> Result<Proposal> {
        let proposal = Proposal {
            kind,
            content,
            blocks: Vec::new(),
        };
        proposal.check(limits)?;
        Ok(proposal)
    }

    /// Reads a file of the family, finished or not.
    ///
    /// Errors: [`Code::NotAnAmpouleFile`]; a device's reasons for content and blocks that it would never read, however
    /// many signed.
    pub fn read(bytes: &[u8]) -> Result<Proposal> {
        let Some(kind) = FileKind::of(bytes) else {
            return Err(Code::NotAnAmpouleFile.error("this is no trust root, revocation list or time file"));
        };
        if let Some(content) = unsigned_content(bytes, kind) {
            return Proposal::new(kind, content.to_vec(), &Limits::LINUX);
        }
        let refused = |refused: Refused| Error::refused(kind_name(kind), refused);
        let (content, blocks) = signed_content(bytes, kind).map_err(refused)?;
        let blocks = blocks.map(|block| block.map(|block| Block::of(&block)));
        let proposal = Proposal {
            kind,
            content: content.to_vec(),
            blocks: blocks.collect::<std::result::Result<_, _>>().map_err(refused)?,
        };
        proposal.check(&Limits::LINUX)?;
        Ok(proposal)
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let blocks: Vec<Sign1> = self.blocks.iter().map(Block::borrow).collect();
        to_vec(|writer| roots::write_file(writer, self.kind, &self.content, &blocks))
    }

    /// What kind of statement it is.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// SHA-256 of what is signed: the statement's name, whoever has signed it.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::of(&self.content)
    }

    /// What is signed.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// The keys that have signed, ascending.
    pub fn signers(&self) -> impl Iterator<Item = &KeyId> {
        self.blocks.iter().map(|block| &block.kid)
    }

    /// What the root says, where it is one.
    pub fn root(&self) -> Option<Content> {
        let file = self.as_read();
        let decoded = RootFile::decode(&file, &Limits::LINUX).ok()?;
        Some(Content::of(&decoded.root))
    }

    /// One line for people: what this statement is.
    pub fn subject(&self) -> String {
        let file = self.as_read();
        match self.kind {
            FileKind::Root => RootFile::decode(&file, &Limits::LINUX)
                .map(|file| format!("version {} of root {}", file.root.version, identity::text(file.root.id))),
            FileKind::Revoke => RevokeFile::decode(&file, &Limits::LINUX)
                .map(|list| format!("number {} for root {}", list.number, identity::text(list.root_id))),
            FileKind::Time => TimeFile::decode(&file, &Limits::LINUX).map(|time| {
                let moment = crate::inspect::moment(time.seconds);
                format!("not before {moment} for root {}", identity::text(time.root_id))
            }),
        }
        .unwrap_or_default()
    }

    /// What a signature on it is for.
    pub fn purpose(&self) -> Purpose {
        Purpose {
            object: match self.kind {
                FileKind::Root => Object::Root,
                FileKind::Revoke => Object::RevocationList,
                FileKind::Time => Object::TimeFile,
            },
            subject: self.subject(),
            digest: self.digest(),
        }
    }

    /// The same with one more signature.
    ///
    /// Errors: [`Code::SameKeyTwice`] this key has signed it; 105 no room for another block; those of the signer.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Proposal> {
        let kid = signer.public_key().thumbprint();
        if self.signers().any(|present| *present == kid) {
            let what = format!("{} (key {}) has signed this already", signer.describe(), short(&kid));
            return Err(Code::SameKeyTwice.error(what));
        }
        let block = Block::sign(signer, self.kind.external_aad(), &self.content, &self.purpose())?;
        self.with(block)
    }

    /// This and another copy of the same statement as one, with the signatures of both.
    ///
    /// Errors: [`Code::CopiesDiffer`] the other is another statement; 105 too many blocks.
    pub fn join(&self, other: &Proposal) -> Result<Proposal> {
        if (self.kind, &self.content) != (other.kind, &other.content) {
            let what = format!("{} and {} are two statements", self.subject(), other.subject());
            return Err(Code::CopiesDiffer.error(what));
        }
        let missing = other.blocks.iter();
        let missing = missing.filter(|block| self.signers().all(|present| *present != block.kid));
        missing
            .cloned()
            .try_fold(self.clone(), |joined, block| joined.with(block))
    }

    fn with(&self, block: Block) -> Result<Proposal> {
        if self.blocks.len() >= self.blocks_max() {
            return Err(Error::refused(
                kind_name(self.kind),
                Reason::Limit.about("AUTH_BLOCKS_MAX"),
            ));
        }
        let mut with = self.clone();
        with.blocks.push(block);
        with.blocks.sort_by_key(|block| block.kid);
        Ok(with)
    }

    fn blocks_max(&self) -> usize {
        match self.kind {
            FileKind::Root | FileKind::Revoke => ROOT_BLOCKS_MAX,
            FileKind::Time => TIME_BLOCKS_MAX,
        }
    }

    /// What the bytes alone decide, judged by a device's reader.
    fn check(&self, limits: &Limits) -> Result<()> {
        let file = self.as_read();
        let judged = match self.kind {
            FileKind::Root => TrustRoot::parse(&file, limits, &trust::PORTABLE).map(|_| ()),
            FileKind::Revoke => RevokeFile::decode(&file, limits).map(|_| ()),
            FileKind::Time => TimeFile::decode(&file, limits).map(|_| ()),
        };
        judged.map_err(|refused| Error::refused(kind_name(self.kind), refused))
    }

    /// The same as [`Proposal::to_bytes`], in a form that every reader of finished files takes: while nobody has signed, a
    /// block of nobody stands in. For looking at, never for writing.
    pub fn as_read(&self) -> Vec<u8> {
        if !self.blocks.is_empty() {
            return self.to_bytes();
        }
        let protected = to_vec(|writer| write_protected(writer, codec::cose::ALG_ED25519, &NOBODY, None));
        let block = Sign1 {
            protected: &protected,
            algorithm: codec::cose::ALG_ED25519,
            kid: &NOBODY,
            chain: None,
            signature: &[0; 64],
        };
        to_vec(|writer| roots::write_file(writer, self.kind, &self.content, &[block]))
    }

    /// What it says, for a person or a script.
    pub fn explain(&self) -> Tree {
        let Ok(Tree::Fields(fields)) = crate::inspect::explain(&self.as_read()) else {
            return Tree::fields();
        };
        let of_nobody = |(name, _): &(String, Tree)| self.blocks.is_empty() && name == "signatures";
        let kept = fields.into_iter().filter(|field| !of_nobody(field)).collect();
        let tree = Tree::Fields(kept);
        if self.blocks.is_empty() {
            tree.with("signatures", Vec::new())
        } else {
            tree
        }
    }

    /// Whether the block of this key, if there is one, verifies under `key`.
    pub(crate) fn is_signed_by(&self, id: &KeyId, key: &trust::PublicKey) -> Option<bool> {
        let block = self.blocks.iter().find(|block| block.kid == *id)?.borrow();
        let structure = SigStructure::new(block.protected, self.kind.external_aad(), &self.content);
        let verifier = trust::PORTABLE.for_key(key)?;
        let good = block.algorithm == key.algorithm()
            && block.chain.is_none()
            && verifier.verify(key, &structure.parts(), block.signature).is_ok();
        Some(good)
    }
}

/// The id of the block that stands in; SHA-256 of no key.
const NOBODY: KeyId = [0; 32];

/// What people call a file of this kind.
pub fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Root => "trust root",
        FileKind::Revoke => "revocation list",
        FileKind::Time => "time file",
    }
}

/// The content of a file without any block.
fn unsigned_content(bytes: &[u8], kind: FileKind) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    reader.array_of(3).ok()?;
    let content = (reader.text().ok()? == kind.name()).then(|| reader.bytes().ok())??;
    (reader.array().ok()? == 0 && reader.is_empty()).then_some(content)
}

fn signed_content(bytes: &[u8], kind: FileKind) -> std::result::Result<(&[u8], Blocks<'_>), Refused> {
    Ok(match kind {
        FileKind::Root => RootFile::decode(bytes, &Limits::LINUX).map(|file| (file.content, file.blocks))?,
        FileKind::Revoke => RevokeFile::decode(bytes, &Limits::LINUX).map(|file| (file.content, file.blocks))?,
        FileKind::Time => TimeFile::decode(bytes, &Limits::LINUX).map(|file| (file.content, file.blocks))?,
    })
}
