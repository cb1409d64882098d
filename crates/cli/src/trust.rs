//! `ampoule trust`: the whole life of a trust root (docs/trust-root.md).

mod chain;
mod desk;
mod init;
mod lists;
mod propose;
mod sign;

use std::path::PathBuf;

use ::release::root::Proposal;
use ::release::{input, inspect};
use clap::Subcommand;
use codec::roots::FileKind;
use keys::{Code, Result};

use crate::out::Out;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the first trust root of a product line
    ///
    /// The root says which keys may sign releases, images and further roots, and how many of each it takes. It is
    /// signed by its own root keys and checked as a device checks it before it is written.
    Init(Box<init::Init>),
    /// Propose the root that follows one, version N+1, for people to sign
    ///
    /// Prints in words what changes. What would leave devices unreachable is refused before anybody signs.
    Propose(Box<propose::Propose>),
    /// Add one person's signature to a proposed root, revocation list or time file
    Sign(Box<sign::Sign>),
    /// Put the signatures of several copies of one proposal into one file
    Join(sign::Join),
    /// Say whether a device would take a root, list, time file or root chain: who signed, and who is missing
    Verify(chain::Verify),
    /// Check that a root follows another by the device's own rules, and append it to the root chain
    Rotate(chain::Rotate),
    /// Put roots, a list and a time file together into a root chain
    Chain(chain::Make),
    /// Tell every version of a root chain: what changed, who signed, when it expires
    History(chain::History),
    /// Make an emergency list: keys to be trusted no longer, sequences to be refused, between two roots
    Revoke(Box<lists::Revoke>),
    /// Make a time file: it is not before this moment
    Time(lists::Time),
    /// Explain a trust root, revocation list or time file
    Show {
        /// The file
        file: PathBuf,
    },
}

/// Runs one `ampoule trust` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Init(init) => init.run(out),
        Command::Propose(propose) => propose.run(out),
        Command::Sign(sign) => sign.run(out),
        Command::Join(join) => join.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Rotate(rotate) => rotate.run(out),
        Command::Chain(chain) => chain.run(out),
        Command::History(history) => history.run(out),
        Command::Revoke(revoke) => revoke.run(out),
        Command::Time(time) => time.run(out),
        Command::Show { file } => show(&file, out),
    }
}

fn show(path: &std::path::Path, out: Out) -> Result<()> {
    let bytes = input::bytes(path)?;
    if FileKind::of(&bytes).is_none() {
        return Err(Code::NotAnAmpouleFile.error(format!("{} is no trust root", path.display())));
    }
    let tree = match Proposal::read(&bytes) {
        Ok(proposal) if proposal.signers().next().is_none() => proposal.explain(),
        _ => inspect::explain(&bytes)?,
    };
    out.result(tree.to_string(), &tree);
    Ok(())
}
