//! Images signed elsewhere, under imgtool's option names: `--vector-to-sign`, `--fix-sig`, `--fix-sig-pubkey`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keys::{Code, PublicKey, Result};

/// The two halves of signing elsewhere.
#[derive(Args)]
pub(super) struct VaultArgs {
    /// Sign nothing: write to OUTFILE what a vault must sign instead of an image
    #[arg(long, value_enum, conflicts_with_all = ["key", "fix_sig"])]
    vector_to_sign: Option<Vector>,
    /// Signature that a vault made: base64 as imgtool has it, also hex, DER or raw
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    fix_sig: Option<PathBuf>,
    /// Public key of the vault
    #[arg(long, value_name = "FILE")]
    fix_sig_pubkey: Option<PathBuf>,
}

/// What the vault takes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Vector {
    /// The bytes that are hashed: for ECDSA, which hashes them itself
    Payload,
    /// Their SHA-256: for Ed25519, whose message it is, and for ECDSA vaults that take digests
    Digest,
}

/// A signature that came back, and the key that it claims.
pub(super) struct Back<'a> {
    pub(super) file: &'a Path,
    pub(super) key: PublicKey,
}

impl VaultArgs {
    /// What to write for the vault, if that was asked for.
    pub(super) fn vector(&self) -> Option<Vector> {
        self.vector_to_sign
    }

    /// The signature that came back, if one was given. Errors: [`Code::ImageOption`] half of it; those of reading the key.
    pub(super) fn back(&self) -> Result<Option<Back<'_>>> {
        match (&self.fix_sig, &self.fix_sig_pubkey) {
            (Some(file), Some(key)) => Ok(Some(Back {
                file,
                key: PublicKey::read(key)?,
            })),
            (Some(_), None) => Err(Code::ImageOption
                .error("--fix-sig is given and nothing says whose signature it is")
                .advise("Give the public key of the vault with --fix-sig-pubkey FILE.")),
            (None, Some(_)) if self.vector_to_sign.is_none() => Err(Code::ImageOption
                .error("--fix-sig-pubkey is given without a signature")
                .advise("Give the signature with --fix-sig FILE.")),
            (None, _) => Ok(None),
        }
    }
}

impl Vector {
    /// The bytes for the vault.
    pub(super) fn of<'a>(self, payload: &'a [u8], digest: &'a [u8; 32]) -> &'a [u8] {
        match self {
            Vector::Payload => payload,
            Vector::Digest => digest,
        }
    }
}
