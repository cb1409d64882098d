//! Opening private keys: where the passphrase comes from.
//!
//! A passphrase is never an argument, because arguments are seen by everybody on the machine and kept by shells.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use keys::file::{FileKey, LockedKey};
use keys::passphrase::PASSPHRASE_BYTES_MAX;
use keys::{Code, DevelopmentOnly, Passphrase, PublicKey, Result, Signer};
use zeroize::Zeroizing;

use crate::out::Out;

/// Where the passphrase of private key files comes from; asked at the terminal when neither is given.
#[derive(Args, Clone, Debug)]
pub(crate) struct PassphraseArgs {
    /// File whose first line is the passphrase of every encrypted key given
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_env")]
    passphrase_file: Option<PathBuf>,
    /// Name of the environment variable that holds the passphrase of every encrypted key given
    #[arg(long, value_name = "NAME")]
    passphrase_env: Option<String>,
}

impl PassphraseArgs {
    /// The passphrase for a key; asks for it at the terminal if no other source is given.
    pub(crate) fn for_key(&self, path: &Path) -> Result<Passphrase> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => prompt(&format!("Passphrase of {}: ", path.display())),
        }
    }

    /// The passphrase of a file or environment variable, if one was named.
    pub(crate) fn given(&self) -> Result<Option<Passphrase>> {
        if let Some(file) = &self.passphrase_file {
            return from_file(file).map(Some);
        }
        self.passphrase_env.as_deref().map(from_env).transpose()
    }
}

/// Asks for a passphrase without echo. Error: [`Code::Terminal`] where there is nobody to ask.
pub(crate) fn prompt(question: &str) -> Result<Passphrase> {
    if !std::io::stdin().is_terminal() {
        return Err(Code::Terminal.error("a passphrase is needed and there is no terminal to ask for it"));
    }
    let typed = rpassword::prompt_password(question)
        .map_err(|error| Code::Terminal.error(format!("the terminal could not be read: {error}")))?;
    Ok(Passphrase::new(typed))
}

fn from_file(path: &Path) -> Result<Passphrase> {
    let failed = |error| Code::PassphraseFile.error(format!("{} cannot be read: {error}", path.display()));
    let mut contents = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 2));
    let file = File::open(path).map_err(failed)?;
    file.take(PASSPHRASE_BYTES_MAX as u64 + 2)
        .read_to_end(&mut contents)
        .map_err(failed)?;
    Ok(Passphrase::from_first_line(contents))
}

fn from_env(name: &str) -> Result<Passphrase> {
    std::env::var(name)
        .map(Passphrase::new)
        .map_err(|_| Code::PassphraseEnv.error(format!("the environment variable {name} is not set")))
}

/// Opens a private key file; warns when its signatures are good for development only.
pub(crate) fn open(path: &Path, passphrase: &PassphraseArgs, out: Out) -> Result<FileKey> {
    let locked = LockedKey::read(path)?;
    let passphrase = if locked.needs_passphrase() {
        Some(passphrase.for_key(path)?)
    } else {
        None
    };
    let key = locked.unlock(passphrase.as_ref())?;
    if let Some(reason) = key.development_only() {
        out.note(format!("warning: {}: for development only: {reason}", path.display()));
    }
    Ok(key)
}

/// Opens several private key files, in the order given.
pub(crate) fn open_all(paths: &[PathBuf], passphrase: &PassphraseArgs, out: Out) -> Result<Vec<FileKey>> {
    paths.iter().map(|path| open(path, passphrase, out)).collect()
}

/// A key of which either half was given.
pub(crate) enum EitherHalf {
    /// It can sign.
    Private(Box<FileKey>),
    /// It can only be listed.
    Public(PublicKey),
}

impl EitherHalf {
    /// Opens a public key, or a private one with its passphrase.
    pub(crate) fn open(path: &Path, passphrase: &PassphraseArgs, out: Out) -> Result<EitherHalf> {
        match open(path, passphrase, out) {
            Ok(key) => Ok(EitherHalf::Private(Box::new(key))),
            Err(error) if error.is(Code::KeyPublicOnly) => PublicKey::read(path).map(EitherHalf::Public),
            Err(error) => Err(error),
        }
    }

    /// A key that is only to be listed: an encrypted private file is opened only where it does not state its public
    /// half; an unencrypted one always, to know that it is.
    pub(crate) fn public_of(path: &Path, passphrase: &PassphraseArgs, out: Out) -> Result<EitherHalf> {
        let unencrypted = LockedKey::read(path).is_ok_and(|locked| !locked.needs_passphrase());
        match PublicKey::read(path) {
            Ok(key) if !unencrypted => Ok(EitherHalf::Public(key)),
            Err(error) if !error.is(Code::PassphraseNeeded) => Err(error),
            _ => EitherHalf::open(path, passphrase, out),
        }
    }

    /// The public half.
    pub(crate) fn public(&self) -> &PublicKey {
        match self {
            EitherHalf::Private(key) => key.public_key(),
            EitherHalf::Public(key) => key,
        }
    }

    /// The private half.
    pub(crate) fn private(&self) -> Option<&FileKey> {
        match self {
            EitherHalf::Private(key) => Some(key),
            EitherHalf::Public(_) => None,
        }
    }

    /// Why it must not be used in production, if that is known.
    pub(crate) fn development_only(&self) -> Option<DevelopmentOnly> {
        self.private().and_then(Signer::development_only)
    }
}
