//! Signatures of vaults that nothing can be plugged into: the bytes to sign go out as a file, the signature comes back as
//! one (docs/external-signing.md).

use std::path::{Path, PathBuf};

use ::release::detached;
use ::release::tree::Tree;
use clap::Args;
use keys::{Code, PublicKey, Result};

use crate::files;
use crate::out::Out;

/// The two halves of signing elsewhere.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExternalArgs {
    /// Sign nothing: write the bytes that the vault must sign, and beside them, as FILE.txt, what they say
    #[arg(long, value_name = "FILE", requires = "pubkey", conflicts_with_all = ["key", "signature", "output"])]
    to_sign: Option<PathBuf>,
    /// Write their SHA-256 instead, for an ECDSA vault that takes digests only
    #[arg(long, requires = "to_sign")]
    digest: bool,
    /// Take back the signature that the vault made: raw (r and s, or R and S), DER, hex or base64
    #[arg(long, value_name = "FILE", requires = "pubkey", conflicts_with = "key")]
    signature: Option<PathBuf>,
    /// Public key of the vault
    #[arg(long, value_name = "FILE")]
    pubkey: Option<PathBuf>,
}

/// What was asked for.
pub(crate) enum Way<'a> {
    /// Write the bytes to sign to this file.
    Out(&'a Path, PublicKey),
    /// Take this file's signature.
    Back(&'a Path, PublicKey),
}

impl ExternalArgs {
    /// What was asked for; `None` where keys sign here.
    pub(crate) fn way(&self) -> Result<Option<Way<'_>>> {
        let Some(pubkey) = &self.pubkey else {
            return Ok(None);
        };
        let key = PublicKey::read(pubkey)?;
        match (&self.to_sign, &self.signature) {
            (Some(path), _) => Ok(Some(Way::Out(path, key))),
            (_, Some(path)) => Ok(Some(Way::Back(path, key))),
            _ => Err(Code::Argument
                .error("--pubkey is given and nothing says what for")
                .advise(
                    "Add --to-sign FILE to write the bytes for the vault, or --signature FILE to take its signature.",
                )),
        }
    }

    /// Writes the bytes to sign and, beside them, the statement of what they say; prints both for a person or a script.
    ///
    /// Errors: [`Code::Argument`] a digest for a key that signs messages; those of writing (nothing is left half done).
    pub(crate) fn hand_out(
        &self,
        path: &Path,
        key: &PublicKey,
        to_sign: &[u8],
        statement: Tree,
        out: Out,
    ) -> Result<()> {
        let digest = self
            .digest
            .then(|| detached::digest_to_sign(key, to_sign))
            .transpose()?;
        let bytes = digest.as_ref().map_or(to_sign, |digest| digest);
        let form = match (digest, key.algorithm()) {
            (Some(_), _) => "SHA-256 of the bytes to sign: sign it as the digest, do not hash it again",
            (None, keys::SignatureAlgorithm::Esp256) => "the bytes to sign: ECDSA over their SHA-256",
            _ => "the bytes to sign, as they are",
        };
        let tree = statement
            .with("key", &key.thumbprint()[..])
            .with("file", path.display().to_string())
            .with("form", form)
            .with("SHA-256 of the file", &trust::Sha256::of(bytes)[..]);
        let beside = statement_path(path);
        files::write_new(path, bytes)?;
        files::write_new(&beside, tree.to_string().as_bytes()).inspect_err(|_| drop(std::fs::remove_file(path)))?;
        let text = format!(
            "{tree}\nWrote {} and, to be read at the vault, {}. Nothing is signed yet.",
            path.display(),
            beside.display()
        );
        out.result(text, &tree);
        Ok(())
    }
}

/// Where the statement about the bytes in this file stands.
fn statement_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".txt");
    name.into()
}
