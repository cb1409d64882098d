//! `ampoule trust propose`.

use std::path::PathBuf;

use ::release::root::edits::{AddKey, Edits};
use ::release::root::{self, Content, Proposal, difference, safety};
use ::release::tree::Tree;
use ::release::{identity, inspect};
use clap::Args;
use codec::roots::FileKind;
use keys::{Code, Result};

use super::desk::{self, DeskArgs, EditArgs, number, pair};
use crate::files;
use crate::out::Out;
use crate::signing::PassphraseArgs;
use crate::worlds::WorldsArgs;

#[derive(Args)]
pub(crate) struct Propose {
    /// The root that devices hold now, version N
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Where to write the proposal; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// TOML file of changes; options come on top of it
    #[arg(long, value_name = "FILE")]
    edits: Option<PathBuf>,
    /// Key to be listed (repeat); its public half is enough
    #[arg(long, value_name = "ROLE=KEY", value_parser = pair)]
    add_key: Vec<(String, String)>,
    /// Key to be listed no longer (repeat): the start of its id, a name of the names file, or a key
    #[arg(long, value_name = "KEY")]
    remove_key: Vec<String>,
    /// Role to be defined no longer, with all its keys (repeat)
    #[arg(long, value_name = "ROLE")]
    remove_role: Vec<String>,
    /// How many keys of a role must sign (repeat)
    #[arg(long, value_name = "ROLE=N", value_parser = pair)]
    threshold: Vec<(String, String)>,
    /// Key to be trusted no longer (repeat), named as for --remove-key; or the SHA-256 of a certificate
    #[arg(long, value_name = "KEY")]
    revoke: Vec<String>,
    #[command(flatten)]
    edit: EditArgs,
    /// Domain of the vendor, for models in --min-sequence
    #[arg(long, value_name = "DOMAIN")]
    vendor_domain: Option<String>,
    #[command(flatten)]
    desk: DeskArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    worlds: WorldsArgs,
}

impl Propose {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        if self.output.exists() {
            return Err(Code::FileExists.error(format!("{} exists already", self.output.display())));
        }
        let (_, old) = desk::root_content(&self.from)?;
        let names = self.desk.names()?;
        let edits = self.edits()?;
        let vendor = self.vendor(&old)?;
        let new = desk::with_desk(&names, vendor, &self.passphrase, out, |desk| edits.apply(&old, desk))?;
        desk::admit_added(&edits.add_key, &new, self.worlds, &self.passphrase, out)?;
        let conditions = self.desk.conditions()?;
        let notes = safety::check(&new, Some(&old), &conditions, &names)?;
        let proposal = Proposal::new(FileKind::Root, new.encode(), &conditions.limits)?;
        files::write_new(&self.output, &proposal.to_bytes())?;
        desk::notes(&notes, out);
        self.report(&proposal, &new, &difference(Some(&old), &new, &names), out);
        Ok(())
    }

    fn edits(&self) -> Result<Edits> {
        let file = self.edits.as_deref().map(Edits::read).transpose()?.unwrap_or_default();
        let mut options = self.edit.edits()?;
        let added = self.add_key.iter().cloned();
        options.add_key = added.map(|(role, key)| AddKey { role, key }).collect();
        options.remove_key = self.remove_key.clone();
        options.remove_role = self.remove_role.clone();
        options.revoke = self.revoke.clone();
        for (role, threshold) in &self.threshold {
            options.threshold.insert(role.clone(), number(threshold)?);
        }
        Ok(file.and(options))
    }

    /// The vendor, for models; a board file of another product line is a mistake.
    fn vendor(&self, old: &Content) -> Result<Option<codec::plan::Uuid>> {
        let board = self.desk.board()?;
        let vendor = desk::vendor(board.as_ref(), self.vendor_domain.as_deref());
        if let Some((board, vendor)) = board.zip(vendor) {
            let id = identity::root_id(&vendor, &board.product_line);
            if id != old.id {
                let what = format!(
                    "board {} is of product line {}, and {} is another line's root",
                    board.name,
                    board.product_line,
                    self.from.display()
                );
                return Err(Code::RootEdit.error(what));
            }
        }
        Ok(vendor)
    }

    fn report(&self, proposal: &Proposal, new: &Content, changes: &[String], out: Out) {
        let path = self.output.display();
        let lines: String = changes.iter().map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "Proposed version {} ({}) in {path}; nobody has signed it yet. What changes:\n{lines}digest {}\nNext, each \
             person: ampoule trust sign {path} --previous {} --key KEY",
            new.version,
            root::environment_name(new.environment),
            ::release::hex::text(&proposal.digest()),
            self.from.display(),
        );
        let changes: Vec<Tree> = changes.iter().map(|line| line.as_str().into()).collect();
        let tree = Tree::fields()
            .with("file", path.to_string())
            .with("version", new.version)
            .with("digest", &proposal.digest()[..])
            .with("changes", changes)
            .with("expires", new.expires.map_or("never".into(), inspect::moment));
        out.result(text, &tree);
    }
}
