//! What stands between a signer and an image: the statement, its approval, and the world of the trust root.
//!
//! Plain use under imgtool's options (no root, keys of the desk) asks nothing, because build systems sign so. With a root,
//! or with a key that may be good for more than development, nobody signs unseen.

use std::path::PathBuf;

use ::release::image::review;
use ::release::input;
use ::release::root::Names;
use ::release::tree::Tree;
use ::trust::TrustRoot;
use clap::Args;
use keys::{DevelopmentOnly, KeyUri, PublicKey, Result, Signer};

use super::vault::{Back, VaultArgs};
use crate::approval::{ApprovalArgs, grave};
use crate::out::Out;
use crate::release::{read_root_of, world_of};
use crate::signing::{self, PassphraseArgs};
use crate::worlds::WorldsArgs;

/// What a signer of an image sees and says.
#[derive(Args)]
pub(super) struct DeskArgs {
    /// Trust root of the devices: says which world this is for, who signed and who is missing; asks before it signs
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The image before this one, to see what differs
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// File that says which person holds which key
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    #[command(flatten)]
    approval: ApprovalArgs,
    #[command(flatten)]
    worlds: WorldsArgs,
}

/// The same, read.
pub(super) struct ImageDesk<'a> {
    args: &'a DeskArgs,
    passphrase: PassphraseArgs,
    root: Option<Vec<u8>>,
    previous: Option<Vec<u8>>,
    names: Names,
    out: Out,
}

impl DeskArgs {
    /// Reads the files that are named.
    pub(super) fn read(&self, passphrase: &PassphraseArgs, out: Out) -> Result<ImageDesk<'_>> {
        let previous = self.previous.as_deref().map(super::Firmware::read).transpose()?;
        Ok(ImageDesk {
            args: self,
            passphrase: self.worlds.journaled(passphrase),
            root: self.root.as_deref().map(input::bytes).transpose()?,
            previous: previous.map(|image| image.bytes),
            names: self.names.as_deref().map_or(Ok(Names::default()), Names::read)?,
            out,
        })
    }
}

impl ImageDesk<'_> {
    fn root(&self) -> Result<Option<TrustRoot<'_>>> {
        read_root_of(self.root.as_ref(), self.args.root.as_deref())
    }

    /// What a signer of this image, which carries its hash, reads.
    pub(super) fn statement(&self, image: &[u8]) -> Result<Tree> {
        review::statement(image, self.root()?.as_ref(), self.previous.as_deref(), &self.names)
    }

    /// Shows the statement and waits for its approval, where that is needed; then opens the keys, or the vault's signature.
    ///
    /// Errors: those of [`ApprovalArgs::ask`]; a key that the root does not name for images, or that its world keeps out.
    pub(super) fn signers(
        &self,
        image: &[u8],
        digest: &[u8; 32],
        keys: &[KeyUri],
        vault: &VaultArgs,
    ) -> Result<Vec<Box<dyn Signer>>> {
        let back = vault.back()?;
        self.approve(image, digest, keys, back.as_ref())?;
        let keys = keys.iter().map(|uri| {
            let key = signing::open(uri, &self.passphrase, self.out)?;
            self.admit(
                &format!("the image key {uri}"),
                key.public_key(),
                key.development_only(),
            )?;
            Ok(key)
        });
        let from_vault = back.iter().map(|Back { file, key }| {
            self.admit("the vault's key", key, None)?;
            signing::external(key, file, &self.passphrase, self.out)
        });
        keys.chain(from_vault).collect()
    }

    fn approve(&self, image: &[u8], digest: &[u8; 32], keys: &[KeyUri], back: Option<&Back>) -> Result<()> {
        let signs = !keys.is_empty() || back.is_some();
        let root = self.root()?;
        let on_the_desk = root.is_none() && grave(keys).is_none();
        let asked = self.args.approval.is_given() || self.previous.is_some();
        if !signs || on_the_desk && !asked {
            return Ok(());
        }
        let grave = back.map(|_| "a vault".to_owned()).or_else(|| grave(keys));
        let world = root.as_ref().map(TrustRoot::environment);
        self.args
            .approval
            .ask(&self.statement(image)?, digest, grave.as_deref(), world, self.out)
    }

    /// A key that the root names for images, and that its world lets in.
    pub(super) fn admit(&self, whose: &str, key: &PublicKey, reason: Option<DevelopmentOnly>) -> Result<()> {
        let root = self.root()?;
        if let Some(root) = &root {
            review::may_sign(root, &key.thumbprint(), &self.names)?;
        }
        self.args.worlds.admit(world_of(root.as_ref()), whose, key, reason)
    }
}
