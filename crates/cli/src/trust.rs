//! `ampoule trust`.

use std::path::PathBuf;

use ::release::board::Board;
use ::release::root::{self, RoleSpec, RootSpec};
use ::release::{identity, input, inspect};
use clap::{Args, Subcommand, ValueEnum};
use codec::limits::Limits;
use codec::roots::{Environment, FileKind, Role};
use keys::{Code, DevelopmentOnly, KeyUri, Result, Signer};

use crate::files;
use crate::out::Out;
use crate::signing::{EitherHalf, PassphraseArgs};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the first trust root of a product line
    ///
    /// The root says which keys may sign releases, images and further roots, and how many of each it takes. It is
    /// signed by its own root keys and checked as a device checks it before it is written.
    Init(Box<Init>),
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
        Command::Show { file } => show(&file, out),
    }
}

#[derive(Args)]
pub(crate) struct Init {
    /// Where to write the root; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Whether real devices or those on a desk will hold it: a device holds the root of one world only
    #[arg(long, value_name = "WORLD")]
    environment: World,
    /// Board file that states vendor, product line and the device's limits
    #[arg(long, value_name = "FILE")]
    board: Option<PathBuf>,
    /// Domain of the vendor, such as example.com
    #[arg(long, value_name = "DOMAIN", required_unless_present = "board")]
    vendor_domain: Option<String>,
    /// Name of the product line; it can never change
    #[arg(long, value_name = "NAME", required_unless_present = "board")]
    product_line: Option<String>,
    /// Day from which on the root is no longer trusted, as seconds since 1970-01-01 UTC
    #[arg(long, value_name = "SECONDS")]
    expires: Option<u64>,

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

    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Put unencrypted key files into a production root all the same: whoever copies such a file can sign
    #[arg(long)]
    i_know_these_production_keys_are_files: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    /// Devices on a desk
    Development,
    /// Real devices
    Production,
}

impl Init {
    fn run(&self, out: Out) -> Result<()> {
        if self.output.exists() {
            return Err(Code::FileExists.error(format!("{} exists already", self.output.display())));
        }
        let board = self.board.as_deref().map(Board::read).transpose()?;
        let roles = self.open_keys(out)?;
        if self.environment == World::Production && !self.i_know_these_production_keys_are_files {
            refuse_development_keys(&roles)?;
        }
        let stated = |given: &Option<String>, of_board: fn(&Board) -> &String| {
            given
                .clone()
                .or(board.as_ref().map(|board| of_board(board).clone()))
                .unwrap_or_default()
        };
        let spec = RootSpec {
            vendor_domain: stated(&self.vendor_domain, |board| &board.vendor_domain),
            product_line: stated(&self.product_line, |board| &board.product_line),
            environment: match self.environment {
                World::Development => Environment::Development,
                World::Production => Environment::Production,
            },
            expires: self.expires,
            roles: roles.iter().map(OpenRole::spec).collect(),
        };
        let signers: Vec<&dyn Signer> = (roles.iter().filter(|role| role.role == Role::Root))
            .flat_map(|role| role.keys.iter().filter_map(EitherHalf::private))
            .collect();
        let limits = board.map_or(Limits::MCU, |board| board.limits);
        let file = root::make(&spec, &signers, &limits)?;
        files::write_new(&self.output, &file)?;
        self.report(&spec, &file, out)
    }

    fn open_keys(&self, out: Out) -> Result<Vec<OpenRole>> {
        let given: [(Role, u8, &Vec<KeyUri>); 5] = [
            (Role::Root, self.root_threshold, &self.root_key),
            (Role::Release, self.release_threshold, &self.release_key),
            (Role::Distribute, self.distribute_threshold, &self.distribute_key),
            (Role::Revoke, self.revoke_threshold, &self.revoke_key),
            (Role::Image, self.image_threshold, &self.image_key),
        ];
        let passphrase = self.passphrase.with_override(
            "i-know-these-production-keys-are-files",
            self.i_know_these_production_keys_are_files,
        );
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

    fn report(&self, spec: &RootSpec, file: &[u8], out: Out) -> Result<()> {
        let id = identity::root_id(&identity::vendor_id(&spec.vendor_domain), &spec.product_line);
        let path = self.output.display();
        let no_image = spec.roles.iter().all(|role| role.role != Role::Image);
        if no_image {
            out.note("note: this root has no image keys, so Ampoule's bootloader refuses it (941 ROOT_NO_IMAGE_ROLE)");
        }
        let text = format!(
            "Wrote {path}: trust root version 1, {}, {} bytes, id {}.\nNext: ampoule device provision --root {path} \
             --port PORT",
            root::environment_name(spec.environment),
            file.len(),
            identity::text(&id),
        );
        out.result(text, &inspect::explain(file)?);
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

fn refuse_development_keys(roles: &[OpenRole]) -> Result<()> {
    for role in roles {
        let reason = role.keys.iter().find_map(EitherHalf::development_only);
        if let Some(reason @ DevelopmentOnly::Unencrypted) = reason {
            let what = format!(
                "a {} key must not be in a production root: {reason}",
                root::role_name(role.role)
            );
            return Err(Code::ProductionKey.error(what));
        }
    }
    Ok(())
}

fn show(path: &std::path::Path, out: Out) -> Result<()> {
    let bytes = input::bytes(path)?;
    if FileKind::of(&bytes).is_none() {
        return Err(Code::NotAnAmpouleFile.error(format!("{} is no trust root", path.display())));
    }
    let tree = inspect::explain(&bytes)?;
    out.result(tree.to_string(), &tree);
    Ok(())
}
