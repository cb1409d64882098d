//! `ampoule trust init`.

use std::path::PathBuf;

use ::release::board::Board;
use ::release::root::{self, Content, Proposal, RoleSpec, RootSpec, difference, safety};
use ::release::{hex, identity, inspect};
use clap::Args;
use codec::roots::{FileKind, Role};
use keys::{Code, KeyUri, Result, Signer};

use super::desk::{self, DeskArgs, EditArgs};
use crate::files;
use crate::out::Out;
use crate::signing::{EitherHalf, PassphraseArgs};
use crate::worlds::{World, WorldsArgs};

#[derive(Args)]
pub(crate) struct Init {
    /// Where to write the root; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Whether real devices or those on a desk will hold it: a device holds the root of one world only
    #[arg(long, value_name = "WORLD")]
    environment: World,
    #[command(flatten)]
    desk: DeskArgs,
    /// Domain of the vendor, such as example.com
    #[arg(long, value_name = "DOMAIN", required_unless_present = "board")]
    vendor_domain: Option<String>,
    /// Name of the product line; it can never change
    #[arg(long, value_name = "NAME", required_unless_present = "board")]
    product_line: Option<String>,
    #[command(flatten)]
    edit: EditArgs,
    /// Write a proposal that others still sign with `ampoule trust sign`; the private root keys given here sign it already
    #[arg(long)]
    propose: bool,

    /// Key that may sign further roots (repeat). Private halves sign this one, at least as many as the threshold
    #[arg(long, value_name = "KEY", required = true)]
    root_key: Vec<KeyUri>,
    /// How many root keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: u8,
    /// Key that signs releases (repeat); the public half is enough
    #[arg(long, value_name = "KEY", required = true)]
    release_key: Vec<KeyUri>,
    /// How many release keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: u8,
    /// Key that signs images for the bootloader (repeat); the public half is enough
    #[arg(long, value_name = "KEY")]
    image_key: Vec<KeyUri>,
    /// How many image keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    image_threshold: u8,
    /// Key that approves deliveries online and signs time files (repeat)
    #[arg(long, value_name = "KEY")]
    distribute_key: Vec<KeyUri>,
    /// How many distribute keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    distribute_threshold: u8,
    /// Key that signs emergency revocation lists (repeat)
    #[arg(long, value_name = "KEY")]
    revoke_key: Vec<KeyUri>,
    /// How many revoke keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    revoke_threshold: u8,

    /// Key that signs releases with a second algorithm (repeat); a delivery then needs both
    #[arg(long, value_name = "KEY")]
    release_second_key: Vec<KeyUri>,
    /// How many release-second keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_second_threshold: u8,
    /// Key that signs images with a second algorithm (repeat); an image then needs both
    #[arg(long, value_name = "KEY")]
    image_second_key: Vec<KeyUri>,
    /// How many image-second keys must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    image_second_threshold: u8,

    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    worlds: WorldsArgs,
}

impl Init {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        if self.output.exists() {
            return Err(Code::FileExists.error(format!("{} exists already", self.output.display())));
        }
        let board = self.desk.board()?;
        let roles = self.open_keys(out)?;
        self.admit(&roles)?;
        let content = self.content(&roles, board.as_ref(), out)?;
        let (conditions, names) = (self.desk.conditions()?, self.desk.names()?);
        let notes = safety::check(&content, None, &conditions, &names)?;
        let signers: Vec<&dyn Signer> = (roles.iter().filter(|role| role.role == Role::Root))
            .flat_map(|role| role.keys.iter().filter_map(EitherHalf::private))
            .collect();
        let file = if self.propose {
            let proposal = Proposal::new(FileKind::Root, content.encode(), &conditions.limits)?;
            let signed = signers
                .iter()
                .try_fold(proposal, |proposal, signer| proposal.sign(*signer))?;
            signed.to_bytes()
        } else {
            root::finish(&content, &signers, &conditions.limits)?
        };
        files::write_new(&self.output, &file)?;
        desk::notes(&notes, out);
        if self.propose {
            return self.report_proposal(&content, &file, out);
        }
        self.report(&content, &file, out)
    }

    /// No key of the desk in production, whoever opens it.
    fn admit(&self, roles: &[OpenRole]) -> Result<()> {
        for role in roles {
            for key in &role.keys {
                let whose = format!("a {} key", root::role_name(role.role));
                self.worlds
                    .admit(self.environment.into(), &whose, key.public(), key.development_only())?;
            }
        }
        Ok(())
    }

    fn content(&self, roles: &[OpenRole], board: Option<&Board>, out: Out) -> Result<Content> {
        let stated = |given: &Option<String>, of_board: fn(&Board) -> &String| {
            given
                .clone()
                .or(board.map(|board| of_board(board).clone()))
                .unwrap_or_default()
        };
        let spec = RootSpec {
            vendor_domain: stated(&self.vendor_domain, |board| &board.vendor_domain),
            product_line: stated(&self.product_line, |board| &board.product_line),
            environment: self.environment.into(),
            expires: None,
            roles: roles.iter().map(OpenRole::spec).collect(),
        };
        let mut content = spec.content()?;
        let vendor = Some(identity::vendor_id(&spec.vendor_domain));
        let (edits, names) = (self.edit.edits()?, self.desk.names()?);
        desk::with_desk(&names, vendor, &self.passphrase, out, |desk| {
            edits.apply_to(&mut content, desk)
        })?;
        Ok(content)
    }

    fn open_keys(&self, out: Out) -> Result<Vec<OpenRole>> {
        let given: [(Role, u8, &Vec<KeyUri>); 7] = [
            (Role::Root, self.root_threshold, &self.root_key),
            (Role::Release, self.release_threshold, &self.release_key),
            (Role::Distribute, self.distribute_threshold, &self.distribute_key),
            (Role::Revoke, self.revoke_threshold, &self.revoke_key),
            (
                Role::ReleaseSecond,
                self.release_second_threshold,
                &self.release_second_key,
            ),
            (Role::Image, self.image_threshold, &self.image_key),
            (Role::ImageSecond, self.image_second_threshold, &self.image_second_key),
        ];
        let passphrase = self.worlds.journaled(&self.passphrase);
        let open = |(role, threshold, uris): (Role, u8, &Vec<KeyUri>)| {
            let open_one = |uri: &KeyUri| match role {
                Role::Root => EitherHalf::open(uri, &passphrase, out),
                _ => EitherHalf::public_of(uri, &passphrase, out),
            };
            let keys = uris.iter().map(open_one).collect::<Result<Vec<_>>>()?;
            Ok(OpenRole { role, threshold, keys })
        };
        given
            .into_iter()
            .filter(|(_, _, uris)| !uris.is_empty())
            .map(open)
            .collect()
    }

    fn report(&self, content: &Content, file: &[u8], out: Out) -> Result<()> {
        let path = self.output.display();
        let text = format!(
            "Wrote {path}: trust root version 1, {}, {} bytes, id {}.\nNext: ampoule device provision --root {path} \
             --port PORT",
            root::environment_name(content.environment),
            file.len(),
            identity::text(&content.id),
        );
        out.result(text, &inspect::explain(file)?);
        Ok(())
    }

    fn report_proposal(&self, content: &Content, file: &[u8], out: Out) -> Result<()> {
        let path = self.output.display();
        let proposal = Proposal::read(file)?;
        let lines = difference(None, content, &self.desk.names()?);
        let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "Proposed version 1 in {path}; {} of {} root keys have signed it. What it says:\n{lines}digest {}\nNext, each \
             person: ampoule trust sign {path} --key KEY",
            proposal.signers().count(),
            content.threshold(Role::Root),
            hex::text(&proposal.digest()),
        );
        out.result(text, &proposal.explain());
        Ok(())
    }
}

/// A role with its keys as they were given.
struct OpenRole {
    role: Role,
    threshold: u8,
    keys: Vec<EitherHalf>,
}

impl OpenRole {
    fn spec(&self) -> RoleSpec {
        let keys = self.keys.iter().map(|key| key.public().clone()).collect();
        RoleSpec {
            role: self.role,
            threshold: self.threshold,
            keys,
        }
    }
}
