//! What a signer sees and confirms before a PIN or a passphrase is asked.

use std::io::{self, BufRead, IsTerminal, Write};

use ::release::hex;
use ::release::tree::Tree;
use clap::Args;
use codec::roots::Environment;
use keys::{Code, KeyUri, Result};

use crate::out::Out;

/// How a signature is approved; asked at the terminal when neither is given.
#[derive(Args, Clone, Debug)]
pub(crate) struct ApprovalArgs {
    /// Sign without asking; only for a development root or keys in files
    #[arg(long, conflicts_with = "approve")]
    yes: bool,
    /// Sign without asking if exactly this is signed: the digest in full, from a statement that you have read
    #[arg(long, value_name = "DIGEST")]
    approve: Option<String>,
}

/// Digits of the digest that a person types.
const TYPED_DIGITS: usize = 8;

impl ApprovalArgs {
    /// Whether one of the two was given.
    pub(crate) fn is_given(&self) -> bool {
        self.yes || self.approve.is_some()
    }

    /// Shows the statement and waits for its approval. `grave` is a signer that `--yes` is not for ([`grave`]); `world` is
    /// that of the root, where one is given.
    ///
    /// Errors: [`Code::ApprovalDiffers`], [`Code::YesInProduction`], [`Code::NotConfirmed`].
    pub(crate) fn ask(
        &self,
        statement: &Tree,
        digest: &[u8; 32],
        grave: Option<&str>,
        world: Option<Environment>,
        out: Out,
    ) -> Result<()> {
        out.note(format!("You are about to sign:\n{}", indented(statement)));
        let digest = hex::text(digest);
        if let Some(approved) = &self.approve {
            return if approved.eq_ignore_ascii_case(&digest) {
                Ok(())
            } else {
                Err(Code::ApprovalDiffers.error(format!("{approved} was approved, and this is {digest}")))
            };
        }
        if self.yes {
            return yes(grave, world);
        }
        if !io::stdin().is_terminal() {
            return Err(
                Code::NotConfirmed.error("nobody confirmed what is to be signed, and there is no terminal to ask at")
            );
        }
        let wanted = &digest[..TYPED_DIGITS];
        let _ = write!(
            io::stderr().lock(),
            "Type the first {TYPED_DIGITS} digits of the digest to sign: "
        );
        let mut typed = String::new();
        let _ = io::stdin().lock().read_line(&mut typed);
        match typed.trim() == wanted {
            true => Ok(()),
            false => {
                Err(Code::NotConfirmed.error("what was typed is not the beginning of the digest; nothing was signed"))
            }
        }
    }
}

/// The first of these keys that may be good for more than development: it is neither in a file nor behind a service.
pub(crate) fn grave(keys: &[KeyUri]) -> Option<String> {
    let is_of_the_desk = |key: &&KeyUri| matches!(key, KeyUri::File(_) | KeyUri::Service(_));
    keys.iter().find(|key| !is_of_the_desk(key)).map(KeyUri::to_string)
}

/// `--yes` is enough on the desk alone: a development root, or keys that are good for nothing else.
fn yes(grave: Option<&str>, world: Option<Environment>) -> Result<()> {
    match grave {
        Some(key) if world != Some(Environment::Development) => {
            Err(Code::YesInProduction.error(format!("--yes does not approve a signature of {key}")))
        }
        _ => Ok(()),
    }
}

fn indented(statement: &Tree) -> String {
    let lines = statement.to_string();
    lines.lines().map(|line| format!("  {line}\n")).collect()
}
