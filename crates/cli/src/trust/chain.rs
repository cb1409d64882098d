//! `ampoule trust verify`, `rotate`, `chain` and `history`: what devices will say, by their own code.

use std::path::PathBuf;

use ::release::input;
use ::release::root::standing::{judge, standing};
use ::release::root::{Chain, Proposal};
use ::release::tree::Tree;
use clap::Args;
use codec::roots::FileKind;
use keys::{Code, Result};

use super::desk::{self, DeskArgs};
use crate::files;
use crate::out::Out;

#[derive(Args)]
pub(crate) struct Verify {
    /// A root, revocation list, time file or root chain
    file: PathBuf,
    /// The root that a device holds: version N before a root of version N+1, the root of a list or time file, or where a
    /// device stands before a chain
    #[arg(long, visible_alias = "root", value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    desk: DeskArgs,
}

impl Verify {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let bytes = input::bytes(&self.file)?;
        let held = self.previous.as_deref().map(|path| Ok((input::bytes(path)?, path)));
        let held = held.transpose()?;
        let held = held
            .as_ref()
            .map(|(bytes, path)| desk::finished(bytes, path))
            .transpose()?;
        let (names, limits) = (self.desk.names()?, self.desk.limits()?);
        if FileKind::of(&bytes) == Some(FileKind::Root) {
            let chain = Chain::parse(&bytes);
            if let Some(chain) = chain.ok().filter(|chain| chain.items().len() > 1) {
                let tree = chain.verify(held.as_ref(), &limits, &names)?.to_tree();
                out.result(format!("A device walks the whole chain.\n{tree}"), &tree);
                return Ok(());
            }
        }
        let (_, proposal) = desk::read_proposal(&self.file)?;
        judge(&proposal, held.as_ref(), &limits, &names)?;
        let standing = standing(&proposal, held.as_ref())?;
        if held.is_none() && proposal.root().is_some_and(|root| root.version > 1) {
            out.note("note: judged by itself alone; give --previous to know whether devices take it after version N");
        }
        let tree = Tree::fields()
            .with("verdict", "complete: devices will take it")
            .with("what", proposal.subject())
            .with("digest", &proposal.digest()[..])
            .with("standing", standing.to_tree(&names));
        out.result(tree.to_string(), &tree);
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// The root that devices hold now, version N
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The signed root of version N+1
    #[arg(long, value_name = "FILE")]
    next: PathBuf,
    /// The root chain that gets it; begun with both roots if there is none
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    #[command(flatten)]
    desk: DeskArgs,
}

impl Rotate {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let (names, limits) = (self.desk.names()?, self.desk.limits()?);
        let (from, next) = (input::bytes(&self.from)?, input::bytes(&self.next)?);
        let held = desk::finished(&from, &self.from)?;
        let (_, proposal) = desk::read_proposal(&self.next)?;
        judge(&proposal, Some(&held), &limits, &names)?;
        let begun = Chain::of(std::slice::from_ref(&from))?;
        let mut note = None;
        let mut longer = |chain: Chain| {
            self.continues(&chain, &from)?;
            let (chain, said) = chain.append(&next, &limits, &names)?;
            note = said;
            Ok(chain.to_bytes())
        };
        if self.chain.exists() {
            files::update(&self.chain, |now| longer(Chain::parse(&now)?))?;
        } else {
            files::write_new(&self.chain, &longer(begun)?)?;
        }
        if let Some(note) = note {
            out.note(format!("note: {note}"));
        }
        let walked = Chain::parse(&input::bytes(&self.chain)?)?.verify(None, &limits, &names)?;
        let path = self.chain.display();
        let text = format!(
            "Wrote {path}: it leads from version {} to version {}.\nNext: ampoule device update --root-chain {path} \
             --port PORT",
            walked.first, walked.last
        );
        out.result(text, &walked.to_tree().with("file", path.to_string()));
        Ok(())
    }

    /// The chain must end with the root that the next one follows.
    fn continues(&self, chain: &Chain, from: &[u8]) -> Result<()> {
        let last = chain.roots().next_back().map(Proposal::read).transpose()?;
        let from = Proposal::read(from)?;
        if last.as_ref().map(Proposal::digest) == Some(from.digest()) {
            return Ok(());
        }
        let what = format!(
            "{} ends with {}, not with {}",
            self.chain.display(),
            last.map(|root| root.subject()).unwrap_or_default(),
            self.from.display()
        );
        Err(Code::ChainBroken
            .error(what)
            .advise("Give as --from the last root of the chain."))
    }
}

#[derive(Args)]
pub(crate) struct Make {
    /// Where to write the chain; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Roots, chains, one revocation list and one time file, in any order
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    desk: DeskArgs,
}

impl Make {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut items = Vec::new();
        for path in &self.files {
            let bytes = input::bytes(path)?;
            match FileKind::of(&bytes) {
                Some(FileKind::Root) => items.extend(Chain::parse(&bytes)?.items()),
                Some(_) => items.push(bytes),
                None => {
                    let what = format!("{} belongs into no root chain", path.display());
                    return Err(Code::NotAnAmpouleFile.error(what));
                }
            }
        }
        let chain = Chain::of(&items)?;
        let walked = chain.verify(None, &self.desk.limits()?, &self.desk.names()?)?;
        files::write_new(&self.output, &chain.to_bytes())?;
        let tree = walked.to_tree().with("file", self.output.display().to_string());
        out.result(format!("Wrote {}.\n{tree}", self.output.display()), &tree);
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct History {
    /// The root chain, or a single root
    chain: PathBuf,
    #[command(flatten)]
    desk: DeskArgs,
}

impl History {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let bytes = input::bytes(&self.chain)?;
        if FileKind::of(&bytes) != Some(FileKind::Root) {
            return Err(Code::NotAnAmpouleFile.error(format!("{} is no root chain", self.chain.display())));
        }
        let names = self.desk.names()?;
        let history = Chain::parse(&bytes)?.history(&names)?;
        let tree = Tree::List(history.iter().map(|version| version.to_tree(&names)).collect());
        out.result(tree.to_string(), &tree);
        Ok(())
    }
}
