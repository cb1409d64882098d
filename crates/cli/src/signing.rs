//! Opening private keys: where the passphrase comes from.
//!
//! A passphrase is never an argument, because arguments are seen by everybody on the machine and kept by shells.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use keys::external::ExternalSignature;
use keys::file::{FileKey, LockedKey};
use keys::journal::{Context, Journaled};
use keys::lms::{self, Scribe, Usage};
use keys::passphrase::PASSPHRASE_BYTES_MAX;
use keys::service::client::{Address, ServiceKey};
use keys::{Code, DevelopmentOnly, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer};
use zeroize::Zeroizing;

use crate::journal::JournalArgs;
use crate::out::Out;
use crate::token::{self, PinArgs};

/// Where the passphrase of private key files comes from (asked at the terminal when neither is given), and where what they
/// sign is entered.
#[derive(Args, Clone, Debug)]
pub(crate) struct PassphraseArgs {
    /// File whose first line is the passphrase of every encrypted key given
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_env")]
    passphrase_file: Option<PathBuf>,
    /// Name of the environment variable that holds the passphrase of every encrypted key given
    #[arg(long, value_name = "NAME")]
    passphrase_env: Option<String>,
    /// Where the PIN of a token comes from.
    #[command(flatten)]
    pub(crate) pin: Box<PinArgs>,
    /// Where what they sign is entered.
    #[command(flatten)]
    journal: JournalArgs,
}

impl PassphraseArgs {
    /// The passphrase for a key; asks for it at the terminal if no other source is given.
    pub(crate) fn for_key(&self, path: &Path) -> Result<Passphrase> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => prompt(&format!("Passphrase of {}: ", path.display())),
        }
    }

    /// What every signature of this run is entered with.
    pub(crate) fn context(&self, out: Out) -> Result<Context> {
        self.journal.context(out)
    }

    /// What an LMS key that is bound to a journal enters there.
    pub(crate) fn scribe(&self) -> Scribe {
        self.journal.scribe()
    }

    /// The journal of this run and the file that holds its head. Error: [`Code::Argument`] where none was named.
    pub(crate) fn journal_with_head(&self) -> Result<(PathBuf, PathBuf)> {
        self.journal.with_head()
    }

    /// The same, and every signature's journal entry says that this override was typed out.
    pub(crate) fn with_override(&self, option: &str, is_given: bool) -> PassphraseArgs {
        PassphraseArgs {
            journal: self.journal.clone().with_override(option, is_given),
            ..self.clone()
        }
    }

    /// A key that is in memory only, tied to the signing journal.
    pub(crate) fn journaled(&self, key: FileKey, out: Out) -> Result<Box<dyn Signer>> {
        Ok(Box::new(Journaled::new(key, self.journal.context(out)?)))
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

/// Asks twice for the passphrase of a new key at `path`. Errors: [`Code::Terminal`], [`Code::PassphraseTooShort`],
/// [`Code::PassphraseDiffers`].
pub(crate) fn new_passphrase(path: &Path) -> Result<Passphrase> {
    let typed = prompt(&format!("New passphrase for {}: ", path.display()))?;
    typed.check_for_new_key()?;
    if prompt("The same again: ")? == typed {
        Ok(typed)
    } else {
        Err(Code::PassphraseDiffers.error("the two passphrases differ; no key was made"))
    }
}

pub(crate) fn from_file(path: &Path) -> Result<Passphrase> {
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

/// Opens a private key, wherever it is; warns when everybody may have it. That it is in a file is said where it matters:
/// before production ([`crate::worlds`]).
///
/// Every command that signs gets its signers here, and here every signer is tied to the signing journal: what comes out
/// has its entry.
pub(crate) fn open(uri: &KeyUri, passphrase: &PassphraseArgs, out: Out) -> Result<Box<dyn Signer>> {
    let context = passphrase.context(out)?;
    let key = open_unjournaled(uri, passphrase, out)?;
    Ok(Box::new(Journaled::new(key, context)))
}

/// A signature that a vault made, as a signer that gives it to the one thing that it was made for. It passes through the
/// journal like every other: its entry is there before anybody has it.
///
/// Errors: those of reading; [`Code::SignatureMalformed`].
pub(crate) fn external(
    public: &PublicKey,
    signature: &Path,
    passphrase: &PassphraseArgs,
    out: Out,
) -> Result<Box<dyn Signer>> {
    let file = ::release::input::bytes(signature)?;
    let place = format!("file {}", signature.display());
    let made = ExternalSignature::parse(public.clone(), &file, place)?;
    Ok(Box::new(Journaled::new(made, passphrase.context(out)?)))
}

/// Opens a key for the signing service, which ties every single signature to the journal itself: each has its own client.
pub(crate) fn open_for_service(uri: &KeyUri, passphrase: &PassphraseArgs, out: Out) -> Result<Box<dyn Signer>> {
    open_unjournaled(uri, passphrase, out)
}

/// A key behind a signing service; the client's token comes from the environment variable that the URI names.
fn open_service(uri: &str) -> Result<ServiceKey> {
    let address = Address::parse(uri)?;
    let token = |name: &String| {
        let value = std::env::var(name);
        value.map(Zeroizing::new).map_err(|_| {
            Code::ServiceForbidden
                .error(format!(
                    "the environment variable {name}, which should hold the client's token, is not set"
                ))
                .advise("Set it, or leave token-env out of the key's URI.")
        })
    };
    let token = address.token_env.as_ref().map(token).transpose()?;
    ServiceKey::open(address, token)
}

/// Opens the private key and gives its public half: for looking, not for signing.
pub(crate) fn unlock(uri: &KeyUri, passphrase: &PassphraseArgs, out: Out) -> Result<PublicKey> {
    Ok(open_unjournaled(uri, passphrase, out)?.public_key().clone())
}

fn open_unjournaled(uri: &KeyUri, passphrase: &PassphraseArgs, out: Out) -> Result<Box<dyn Signer>> {
    let key: Box<dyn Signer> = match uri {
        KeyUri::File(path) => Box::new(open_file(path, passphrase)?),
        KeyUri::Service(uri) => Box::new(open_service(uri)?),
        KeyUri::Pkcs11(uri) => Box::new(token::open(uri, &passphrase.pin)?),
        _ => return Err(Code::Argument.error(format!("{uri} names a kind of key that is not known here"))),
    };
    if let Some(reason) = key.development_only().filter(|reason| *reason != DevelopmentOnly::File) {
        out.note(format!("warning: {uri}: for development only: {reason}"));
    }
    lms_usage(uri, key.public_key(), out)?;
    Ok(key)
}

/// How much of an LMS key in a file is used up, if it is one; warns when little is left. `None` also for its public half
/// alone.
pub(crate) fn lms_usage(uri: &KeyUri, public: &PublicKey, out: Out) -> Result<Option<Usage>> {
    let Some(path) = uri
        .as_file()
        .filter(|_| public.algorithm() == SignatureAlgorithm::HssLms)
    else {
        return Ok(None);
    };
    if LockedKey::read(path).is_err_and(|error| error.is(Code::KeyPublicOnly)) {
        return Ok(None);
    }
    let usage = Usage::of(path, public)?;
    if usage.is_nearly_over() {
        let Usage { left, total, .. } = &usage;
        out.note(format!(
            "warning: {uri}: {left} of {total} signatures left; enrol its successor now, before it can sign no more"
        ));
    }
    Ok(Some(usage))
}

/// Opens a private key that is in a file.
pub(crate) fn open_file(path: &Path, given: &PassphraseArgs) -> Result<FileKey> {
    let locked = LockedKey::read(path)?;
    let passphrase = if locked.needs_passphrase() {
        Some(given.for_key(path)?)
    } else {
        None
    };
    Ok(locked.unlock(passphrase.as_ref())?.reserving_as(given.scribe()))
}

/// Opens several private keys, in the order given.
pub(crate) fn open_all(uris: &[KeyUri], passphrase: &PassphraseArgs, out: Out) -> Result<Vec<Box<dyn Signer>>> {
    uris.iter().map(|uri| open(uri, passphrase, out)).collect()
}

/// Reads the public half of a key without opening the private one.
///
/// Error: [`Code::PassphraseNeeded`] where only the private half says it.
pub(crate) fn public(uri: &KeyUri) -> Result<PublicKey> {
    match uri {
        KeyUri::File(path) => PublicKey::read(path),
        KeyUri::Service(uri) => Ok(open_service(uri)?.public_key().clone()),
        KeyUri::Pkcs11(uri) => token::public(uri),
        _ => Err(Code::Argument.error(format!("{uri} names a kind of key that is not known here"))),
    }
}

/// A key of which either half was given.
pub(crate) enum EitherHalf {
    /// It can sign.
    Private(Box<dyn Signer>),
    /// It can only be listed; with the reason why not in production, where the place of the private half gives one.
    Public(PublicKey, Option<DevelopmentOnly>),
}

impl EitherHalf {
    /// Opens a public key, or a private one with its passphrase.
    pub(crate) fn open(uri: &KeyUri, passphrase: &PassphraseArgs, out: Out) -> Result<EitherHalf> {
        match open(uri, passphrase, out) {
            Ok(key) => Ok(EitherHalf::Private(key)),
            Err(error) if error.is(Code::KeyPublicOnly) => public(uri).map(|key| EitherHalf::Public(key, None)),
            Err(error) => Err(error),
        }
    }

    /// A key that is only to be listed: an encrypted private file is opened only where it does not state its public
    /// half; an unencrypted one always, to know that it is.
    pub(crate) fn public_of(uri: &KeyUri, passphrase: &PassphraseArgs, out: Out) -> Result<EitherHalf> {
        let locked = uri.as_file().and_then(|path| LockedKey::read(path).ok());
        let unencrypted = locked.as_ref().is_some_and(|locked| !locked.needs_passphrase());
        let reason = match uri {
            KeyUri::Service(_) => Some(DevelopmentOnly::SigningService),
            _ => locked.map(|_| DevelopmentOnly::File),
        };
        match public(uri) {
            Ok(key) if key.algorithm() == SignatureAlgorithm::HssLms && !unencrypted => {
                let reason = reason.and(uri.as_file()).map(lms::development_only).or(reason);
                Ok(EitherHalf::Public(key, reason))
            }
            Ok(key) if !unencrypted => Ok(EitherHalf::Public(key, reason)),
            Err(error) if !error.is(Code::PassphraseNeeded) => Err(error),
            _ => EitherHalf::open(uri, passphrase, out),
        }
    }

    /// The public half.
    pub(crate) fn public(&self) -> &PublicKey {
        match self {
            EitherHalf::Private(key) => key.public_key(),
            EitherHalf::Public(key, _) => key,
        }
    }

    /// The private half.
    pub(crate) fn private(&self) -> Option<&dyn Signer> {
        match self {
            EitherHalf::Private(key) => Some(&**key),
            EitherHalf::Public(..) => None,
        }
    }

    /// Why it must not be used in production, if that is known.
    pub(crate) fn development_only(&self) -> Option<DevelopmentOnly> {
        match self {
            EitherHalf::Private(key) => key.development_only(),
            EitherHalf::Public(_, reason) => *reason,
        }
    }
}
