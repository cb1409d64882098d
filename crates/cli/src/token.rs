//! Keys in PKCS#11 tokens: which library, which PIN.
//!
//! A PIN is never an argument. One that is given for a command is tried on one token only, since a wrong PIN costs a try.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use clap::Args;
use keys::ca::Certificate;
use keys::pkcs11::{self, KeyInToken, Pkcs11Uri, Token, TokenDescription, TokenKey};
use keys::{Code, Passphrase, PublicKey, Result, SignatureAlgorithm};

use crate::signing;

/// Where the PIN of a token comes from; pin-source=file:FILE in a key's URI goes first, and without any of them the
/// terminal is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct PinArgs {
    /// File whose first line is the PIN of the token
    #[arg(long, value_name = "FILE", conflicts_with = "pin_env")]
    pin_file: Option<PathBuf>,
    /// Name of the environment variable that holds the PIN of the token
    #[arg(long, value_name = "NAME")]
    pin_env: Option<String>,
}

static MODULE: OnceLock<PathBuf> = OnceLock::new();
/// The token that the PIN of the arguments was tried on.
static TRIED_ON: Mutex<Option<String>> = Mutex::new(None);

/// Says which library knows the tokens, for keys whose URI does not.
pub(crate) fn use_module(path: Option<PathBuf>) {
    if let Some(path) = path {
        // Called once, by main.
        let _ = MODULE.set(path);
    }
}

/// The key, ready to sign.
pub(crate) fn open(uri: &str, pin: &PinArgs) -> Result<TokenKey> {
    let (uri, token) = find(uri)?;
    token.open(&uri, pin.for_token(&uri, &token)?.as_ref())
}

/// The public half, for which no PIN is needed.
pub(crate) fn public(uri: &str) -> Result<PublicKey> {
    let (uri, token) = find(uri)?;
    token.public_key(&uri)
}

/// Makes a key in a token.
pub(crate) fn generate(uri: &str, algorithm: SignatureAlgorithm, pin: &PinArgs) -> Result<KeyInToken> {
    let (uri, token) = find(uri)?;
    token.generate(&uri, algorithm, pin.for_token(&uri, &token)?.as_ref())
}

/// Keeps a certificate beside its key.
pub(crate) fn keep_certificate(uri: &str, certificate: &Certificate, replace: bool, pin: &PinArgs) -> Result<()> {
    let (uri, token) = find(uri)?;
    token.keep_certificate(&uri, certificate, replace, pin.for_token(&uri, &token)?.as_ref())
}

/// What can be told of a key in a token, once it is unlocked.
pub(crate) fn examine(uri: &str, pin: &PinArgs) -> Result<KeyInToken> {
    let (uri, token) = find(uri)?;
    token.examine(&uri, pin.for_token(&uri, &token)?.as_ref())
}

/// Every token of the library.
pub(crate) fn list() -> Result<Vec<TokenDescription>> {
    let module = MODULE.get();
    let unnamed = || Code::Pkcs11Module.error("nothing says which PKCS#11 library to ask");
    pkcs11::list(module.ok_or_else(unnamed)?)
}

/// The token of a URI, locked.
pub(crate) fn find(uri: &str) -> Result<(Pkcs11Uri, Token)> {
    let uri = Pkcs11Uri::parse(uri)?;
    let token = Token::find(&uri, MODULE.get().map(PathBuf::as_path))?;
    Ok((uri, token))
}

impl PinArgs {
    fn for_token(&self, uri: &Pkcs11Uri, token: &Token) -> Result<Option<Passphrase>> {
        if let Some(file) = &uri.pin_file {
            return from_file(file).map(Some);
        }
        if token.is_logged_in() {
            return Ok(None);
        }
        match (&self.pin_file, &self.pin_env) {
            (Some(file), _) => self.once(token, from_file(file)?),
            (_, Some(name)) => self.once(token, from_env(name)?),
            _ if token.has_keypad() => Ok(None),
            _ => signing::prompt(&format!("PIN of {}: ", token.name()))
                .map(Some)
                .map_err(|error| match error.is(Code::Terminal) {
                    true => Code::PinNeeded.error(format!("{} wants its PIN", token.name())),
                    false => error,
                }),
        }
    }

    fn once(&self, token: &Token, pin: Passphrase) -> Result<Option<Passphrase>> {
        let mut tried_on = TRIED_ON.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match tried_on.get_or_insert_with(|| token.name().to_owned()) {
            first if first == token.name() => Ok(Some(pin)),
            first => Err(Code::PinForOneToken.error(format!("one PIN is given, for {first} and {}", token.name()))),
        }
    }
}

fn from_file(path: &Path) -> Result<Passphrase> {
    signing::from_file(path).map_err(|error| Code::PinSource.error(error.what))
}

fn from_env(name: &str) -> Result<Passphrase> {
    let unset = |_| Code::PinSource.error(format!("the environment variable {name} is not set"));
    std::env::var(name).map(Passphrase::new).map_err(unset)
}
