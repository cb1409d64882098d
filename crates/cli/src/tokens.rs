//! Keys in PKCS#11 tokens: which library knows the token, and where its PIN comes from.
//!
//! A PIN is never an argument, and it is never tried on another token than the one it was given for: three wrong tries
//! lock most of them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use keys::pkcs11::{Pkcs11Uri, Token, TokenKey};
use keys::{Code, Passphrase, PublicKey, Result, SignatureAlgorithm};

use crate::signing::prompt;

/// Names the PKCS#11 library where the URI does not.
pub(crate) const MODULE_VARIABLE: &str = "AMPOULE_PKCS11_MODULE";

/// Where the PIN of a token comes from; asked at the terminal when neither is given and the URI has no `pin-source`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PinArgs {
    /// File whose first line is the PIN of the one token given
    #[arg(long, value_name = "FILE", conflicts_with = "pin_env", help_heading = "Tokens")]
    pin_file: Option<PathBuf>,
    /// Name of the environment variable that holds the PIN of the one token given
    #[arg(long, value_name = "NAME", help_heading = "Tokens")]
    pin_env: Option<String>,
    /// The token that got it.
    #[arg(skip)]
    used_for: Rc<RefCell<Option<String>>>,
}

/// A token and the key that a URI names in it.
pub(crate) struct Place {
    uri: Pkcs11Uri,
    token: Token,
}

impl Place {
    /// Finds the token. Errors: those of [`Pkcs11Uri::parse`] and [`Token::find`].
    pub(crate) fn find(uri: &str) -> Result<Place> {
        let uri = Pkcs11Uri::parse(uri)?;
        let token = Token::find(&uri, module().as_deref())?;
        Ok(Place { uri, token })
    }

    /// The public half of the key, without a PIN.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        self.token.public_key(&self.uri)
    }

    /// The key, ready to sign.
    pub(crate) fn open(&self, pins: &PinArgs) -> Result<TokenKey> {
        self.with_pin(pins, |pin| self.token.open(&self.uri, pin))
    }

    /// A new key in the token.
    pub(crate) fn generate(&self, algorithm: SignatureAlgorithm, pins: &PinArgs) -> Result<PublicKey> {
        self.with_pin(pins, |pin| self.token.generate(&self.uri, algorithm, pin))
    }

    /// The token's name, for people.
    pub(crate) fn token_name(&self) -> &str {
        self.token.name()
    }

    fn with_pin<T>(&self, pins: &PinArgs, run: impl Fn(Option<&Passphrase>) -> Result<T>) -> Result<T> {
        let given = match &self.uri.pin_file {
            Some(file) => Some(from_file(file)?),
            None => pins.given(self.token.name())?,
        };
        match run(given.as_ref()) {
            // A token with a keypad of its own never asks for it here.
            Err(error) if given.is_none() && error.is(Code::PinNeeded) => run(Some(&self.ask(error)?)),
            done => done,
        }
    }

    fn ask(&self, needed: keys::Error) -> Result<Passphrase> {
        prompt(&format!("PIN of {}: ", self.token.name())).map_err(|error| match error.is(Code::Terminal) {
            true => needed,
            false => error,
        })
    }
}

impl PinArgs {
    /// The PIN of a file or environment variable, if one was named. Errors: [`Code::PinSource`]; [`Code::PinForOneToken`]
    /// another token got it already.
    fn given(&self, token: &str) -> Result<Option<Passphrase>> {
        let pin = match (&self.pin_file, &self.pin_env) {
            (Some(file), _) => from_file(file)?,
            (None, Some(name)) => from_env(name)?,
            (None, None) => return Ok(None),
        };
        let mut used_for = self.used_for.borrow_mut();
        match used_for.get_or_insert_with(|| token.into()) {
            first if first == token => Ok(Some(pin)),
            first => {
                let what = format!("one PIN is given for {first} and for {token}");
                Err(Code::PinForOneToken.error(what))
            }
        }
    }
}

/// The PKCS#11 library that the environment names.
pub(crate) fn module() -> Option<PathBuf> {
    std::env::var_os(MODULE_VARIABLE).map(PathBuf::from)
}

fn from_file(path: &Path) -> Result<Passphrase> {
    crate::signing::from_file(path).map_err(|error| Code::PinSource.error(error.what))
}

fn from_env(name: &str) -> Result<Passphrase> {
    crate::signing::from_env(name).map_err(|error| Code::PinSource.error(error.what))
}
