//! `ampoule trust revoke` and `time`: what speaks between two roots.

use std::path::PathBuf;

use ::release::root::edits::{class_from_text, key_id, moment_from_text};
use ::release::root::lists::{List, propose_time};
use ::release::root::{Names, Proposal};
use ::release::tree::Tree;
use ::release::{hex, input, inspect};
use clap::Args;
use keys::{Code, Result};
use trust::TrustRoot;

use super::desk::{self, DeskArgs, number, pair};
use crate::files;
use crate::out::Out;
use crate::signing::PassphraseArgs;

#[derive(Args)]
pub(crate) struct Revoke {
    /// The root that devices hold
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The revocation list that devices hold; everything in it stays
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where to write the proposed list; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Key to be trusted no longer (repeat): the start of its id, a name of the names file, or a key
    #[arg(long, value_name = "KEY")]
    revoke: Vec<String>,
    /// Lowest sequence that devices of a class still accept (repeat)
    #[arg(long, value_name = "CLASS=N", value_parser = pair)]
    min_sequence: Vec<(String, String)>,
    /// Domain of the vendor, for models in --min-sequence
    #[arg(long, value_name = "DOMAIN")]
    vendor_domain: Option<String>,
    /// Make the list although too few keys are left for a role: devices then take nothing more of it until a new root
    #[arg(long)]
    even_if_nothing_can_be_delivered: bool,
    #[command(flatten)]
    desk: DeskArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Revoke {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let (bytes, root) = desk::root_content(&self.root)?;
        let names = self.desk.names()?;
        let held = self.held(&bytes)?;
        let vendor = desk::vendor(self.desk.board()?.as_ref(), self.vendor_domain.as_deref());
        let added = desk::with_desk(&names, vendor, &self.passphrase, out, |desk| {
            let revoked = self.revoke.iter().map(|name| key_id(name, &root, desk));
            let minimum = |(class, least): &(String, String)| Ok((class_from_text(class, vendor)?, number(least)?));
            Ok(List {
                number: 0,
                revoked: revoked.collect::<Result<_>>()?,
                min_sequences: self.min_sequence.iter().map(minimum).collect::<Result<_>>()?,
            })
        })?;
        let next = held.extend(&added, &root, self.even_if_nothing_can_be_delivered)?;
        let proposal = next.propose(&root, &self.desk.limits()?)?;
        files::write_new(&self.output, &proposal.to_bytes())?;
        report(
            &self.output,
            &self.root,
            &proposal,
            &next.difference(&held, &root, &names),
            out,
        );
        Ok(())
    }

    /// What devices hold: a list that the root's keys signed.
    fn held(&self, root: &[u8]) -> Result<List> {
        let Some(path) = &self.from else {
            return Ok(List::default());
        };
        let bytes = input::bytes(path)?;
        let root = TrustRoot::stored(root, &codec::limits::Limits::LINUX);
        let root = root.map_err(|refused| keys::Error::refused("trust root", refused))?;
        let proposal = Proposal::read(&bytes)?;
        ::release::root::standing::judge(&proposal, Some(&root), &codec::limits::Limits::LINUX, &Names::default())?;
        List::read(&bytes)
    }
}

#[derive(Args)]
pub(crate) struct Time {
    /// The root that devices hold
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Where to write the proposed time file; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The moment before which it is not: a day or seconds since 1970-01-01 UTC; now, if it is not given
    #[arg(long, value_name = "WHEN")]
    not_before: Option<String>,
    #[command(flatten)]
    desk: DeskArgs,
}

/// Seconds that a time file may lie ahead of this machine's clock: devices never go back.
const AHEAD_SECONDS_MAX: u64 = 86_400;

impl Time {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let (_, root) = desk::root_content(&self.root)?;
        let now = desk::now();
        let seconds = self
            .not_before
            .as_deref()
            .map(moment_from_text)
            .transpose()?
            .flatten()
            .unwrap_or(now);
        if seconds > now.saturating_add(AHEAD_SECONDS_MAX) {
            let what = format!(
                "{} lies more than a day ahead of this machine's clock",
                inspect::moment(seconds)
            );
            return Err(Code::RootEdit
                .error(what)
                .advise("Check the moment and the clock: a device that took it could never go back."));
        }
        let proposal = propose_time(seconds, &root, &self.desk.limits()?)?;
        files::write_new(&self.output, &proposal.to_bytes())?;
        report(&self.output, &self.root, &proposal, &[], out);
        Ok(())
    }
}

fn report(output: &std::path::Path, root: &std::path::Path, proposal: &Proposal, changes: &[String], out: Out) {
    let path = output.display();
    let lines: String = changes.iter().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "Proposed {} in {path}; nobody has signed it yet.\n{lines}digest {}\nNext, each person: ampoule trust sign \
         {path} --root {} --key KEY",
        proposal.subject(),
        hex::text(&proposal.digest()),
        root.display()
    );
    let changes: Vec<Tree> = changes.iter().map(|line| line.as_str().into()).collect();
    let tree = Tree::fields()
        .with("file", path.to_string())
        .with("what", proposal.subject())
        .with("digest", &proposal.digest()[..])
        .with("changes", changes);
    out.result(text, &tree);
}
