//! `ampoule release`.

use std::path::{Path, PathBuf};

use ::release::envelope::Envelope;
use ::release::root::Names;
use ::release::tree::Tree;
use ::release::{Draft, Recipe, assemble, detached, input, inspect, recipe, review, root, verify};
use clap::{Args, Subcommand};
use codec::Reason;
use codec::limits::Limits;
use codec::roots::Environment;
use keys::{Code, DevelopmentOnly, KeyUri, PublicKey, Result, Signer};
use trust::TrustRoot;

use crate::approval::{ApprovalArgs, grave};
use crate::external::{ExternalArgs, Way};
use crate::files;
use crate::out::Out;
use crate::signing::{self, PassphraseArgs};
use crate::worlds::WorldsArgs;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a commented recipe to start from
    New {
        /// The file to write
        #[arg(default_value = "release.toml")]
        recipe: PathBuf,
    },
    /// Make a signed release from a recipe
    Build(Box<Build>),
    /// Add a signature to a release
    Sign(Box<Sign>),
    /// Check that a trust root's devices would believe a release, and every byte of it
    Verify {
        /// The release
        release: PathBuf,
        /// The trust root of the devices
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// File that says which person holds which key
        #[arg(long, value_name = "FILE")]
        names: Option<PathBuf>,
    },
    /// Explain any file that the project knows, down to every field
    ///
    /// Knows envelopes (ours and any other SUIT file), MCUboot images (binary or Intel HEX), trust roots, revocation
    /// lists, time files, root chains, board files, recipes and keys. Explaining is not believing: see `verify`.
    Inspect {
        /// The file
        file: PathBuf,
    },
}

/// Runs one `ampoule release` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::New { recipe } => new(&recipe, out),
        Command::Build(build) => build.run(out),
        Command::Sign(sign) => sign.run(out),
        Command::Verify { release, root, names } => verify_file(&release, &root, names.as_deref(), out),
        Command::Inspect { file } => inspect_file(&file, out),
    }
}

#[derive(Args)]
pub(crate) struct Build {
    /// The recipe; docs/recipe.md describes every field
    recipe: PathBuf,
    /// Where to write the release; never replaces a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Private release key (repeat, once for each signature)
    #[arg(short, long, value_name = "KEY", required = true)]
    key: Vec<KeyUri>,
    /// Private image key for images that the recipe wants signed here (repeat)
    #[arg(long, value_name = "KEY")]
    image_key: Vec<KeyUri>,
    /// Trust root of the devices: images below its threshold are refused
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The release before this one, to see what differs
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    approval: ApprovalArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    worlds: WorldsArgs,
}

impl Build {
    fn run(&self, out: Out) -> Result<()> {
        if self.output.exists() {
            return Err(Code::FileExists.error(format!("{} exists already", self.output.display())));
        }
        let recipe = Recipe::read(&self.recipe)?;
        let root = self.root.as_deref().map(input::bytes).transpose()?;
        let root = read_root_of(root.as_ref(), self.root.as_deref())?;
        self.no_unseen_image(root.as_ref())?;
        let image_keys = signing::open_all(&self.image_key, &self.worlds.journaled(&self.passphrase), out)?;
        let world = world_of(root.as_ref());
        for key in &image_keys {
            self.admit(world, "image", &**key)?;
        }
        let image_signers: Vec<&dyn Signer> = image_keys.iter().map(|key| &**key).collect();
        let draft = assemble(&recipe, &image_signers, root.as_ref())?;
        self.approve(&draft, root.as_ref(), out)?;
        let envelope = self.sign(&draft, world, out)?;
        for note in draft.notes() {
            out.note(format!("note: {note}"));
        }
        let verdict = judge(&envelope, root.as_ref(), out)?;
        files::write_new(&self.output, envelope.as_bytes())?;
        say_written(&self.output, &envelope, verdict, out)
    }

    /// An image that is signed on the way is shown to nobody, which is enough for the desk alone.
    ///
    /// Error: [`Code::NotConfirmed`].
    fn no_unseen_image(&self, root: Option<&TrustRoot>) -> Result<()> {
        match grave(&self.image_key) {
            Some(key) if review::world(root) != Some(Environment::Development) => Err(Code::NotConfirmed
                .error(format!("{key} would sign an image here that nobody was shown"))
                .advise(
                    "Sign the image with `ampoule image sign --root ROOT`, which shows it and asks; the recipe takes \
                     signed images.",
                )),
            _ => Ok(()),
        }
    }

    /// Shows what is signed and asks, where a key may be good for more than development, or where that was asked for.
    fn approve(&self, draft: &Draft, root: Option<&TrustRoot>, out: Out) -> Result<()> {
        let grave = grave(&self.key);
        let asked = self.approval.is_given() || self.previous.is_some();
        if grave.is_none() && !asked {
            return Ok(());
        }
        let previous = self.previous.as_deref().map(read_envelope).transpose()?;
        let statement = review::draft_statement(draft, root, previous.as_ref())?;
        let world = review::world(root);
        self.approval
            .ask(&statement, &draft.digest(), grave.as_deref(), world, out)
    }

    /// No key of the desk signs for production.
    fn admit(&self, world: Environment, role: &str, key: &dyn Signer) -> Result<()> {
        let whose = format!("the {role} key {}", key.describe());
        self.worlds
            .admit(world, &whose, key.public_key(), key.development_only())
    }

    fn sign(&self, draft: &Draft, world: Environment, out: Out) -> Result<Envelope> {
        let mut envelope: Option<Envelope> = None;
        let passphrase = self.worlds.journaled(&self.passphrase);
        for uri in &self.key {
            let key = signing::open(uri, &passphrase, out)?;
            self.admit(world, "release", &*key)?;
            envelope = Some(match envelope {
                None => draft.sign(&key)?,
                Some(signed) => signed.add_signature(&key)?,
            });
        }
        envelope.ok_or_else(|| Code::Argument.error("no release key is given"))
    }
}

#[derive(Args)]
pub(crate) struct Sign {
    /// The release
    release: PathBuf,
    /// Private release key (repeat)
    #[arg(short, long, value_name = "KEY", required_unless_present_any = ["to_sign", "signature"])]
    key: Vec<KeyUri>,
    #[command(flatten)]
    external: ExternalArgs,
    /// Where to write the result; without it the release itself gets the signature
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Trust root of the devices: says which world this is for, who signed and who is missing
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The release before this one, to see what differs
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// File that says which person holds which key
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    #[command(flatten)]
    approval: ApprovalArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    worlds: WorldsArgs,
}

impl Sign {
    fn run(&self, out: Out) -> Result<()> {
        let envelope = read_envelope(&self.release)?;
        verify::check_content(&envelope)?;
        let root = self.root.as_deref().map(input::bytes).transpose()?;
        let root = read_root_of(root.as_ref(), self.root.as_deref())?;
        let names = self.names.as_deref().map_or(Ok(Names::default()), Names::read)?;
        let previous = self.previous.as_deref().map(read_envelope).transpose()?;
        let statement = review::statement(&envelope, root.as_ref(), previous.as_ref(), &names)?;
        let desk = SigningDesk {
            args: self,
            root: root.as_ref(),
            names: &names,
            out,
        };
        let way = self.external.way()?;
        if let Some(Way::Out(path, key)) = &way {
            desk.admit("the vault's key", key, None)?;
            let to_sign = detached::release_to_sign(&envelope, key)?;
            return self.external.hand_out(path, key, &to_sign, statement, out);
        }
        desk.approve(&envelope, &statement, way.as_ref())?;
        let signed = desk.sign(envelope, way.as_ref())?;
        let verdict = judge(&signed, root.as_ref(), out)?;
        self.write(&signed)?;
        say_written(self.target(), &signed, verdict, out)
    }

    fn target(&self) -> &Path {
        self.output.as_ref().unwrap_or(&self.release)
    }

    fn write(&self, signed: &Envelope) -> Result<()> {
        match &self.output {
            Some(output) => files::write_new(output, signed.as_bytes()),
            // Somebody else may have signed meanwhile.
            None => files::update(&self.release, |now| {
                Ok(Envelope::parse(now)?.join(signed)?.into_bytes())
            }),
        }
    }
}

/// What `release sign` knows when it comes to keys.
struct SigningDesk<'a> {
    args: &'a Sign,
    root: Option<&'a TrustRoot<'a>>,
    names: &'a Names,
    out: Out,
}

impl SigningDesk<'_> {
    fn approve(&self, envelope: &Envelope, statement: &Tree, way: Option<&Way>) -> Result<()> {
        let digest = trust::Sha256::of(envelope.head().manifest_value);
        let grave = match way {
            Some(Way::Back(..)) => Some("a vault".to_owned()),
            _ => grave(&self.args.key),
        };
        let world = review::world(self.root);
        self.args
            .approval
            .ask(statement, &digest, grave.as_deref(), world, self.out)
    }

    fn sign(&self, mut envelope: Envelope, way: Option<&Way>) -> Result<Envelope> {
        let passphrase = self.args.worlds.journaled(&self.args.passphrase);
        if let Some(Way::Back(path, key)) = way {
            self.admit("the vault's key", key, None)?;
            return envelope.add_signature(&signing::external(key, path, &passphrase, self.out)?);
        }
        for uri in &self.args.key {
            let key = signing::open(uri, &passphrase, self.out)?;
            self.admit(&format!("the key {uri}"), key.public_key(), key.development_only())?;
            envelope = envelope.add_signature(&key)?;
        }
        Ok(envelope)
    }

    /// A key that the root names for this, and that its world lets in.
    fn admit(&self, whose: &str, key: &PublicKey, reason: Option<DevelopmentOnly>) -> Result<()> {
        if let Some(root) = self.root {
            verify::may_sign(root, &key.thumbprint(), self.names)?;
        }
        self.args.worlds.admit(world_of(self.root), whose, key, reason)
    }
}

/// The world that a root is for; the desk's where no root says it.
pub(crate) fn world_of(root: Option<&TrustRoot>) -> Environment {
    root.map_or(Environment::Development, TrustRoot::environment)
}

/// Whether the root's devices would believe it already. A missing signature is no error here: others may still sign.
fn judge(envelope: &Envelope, root: Option<&TrustRoot>, out: Out) -> Result<&'static str> {
    let Some(root) = root else {
        return Ok("not judged by a trust root");
    };
    match ::release::verify(envelope, root) {
        Ok(_) => Ok("complete: its devices will believe it"),
        Err(error) if error.number == codec::Reason::AuthThreshold.number() => {
            out.note(format!("note: {}", error.advice));
            Ok("waits for more signatures")
        }
        Err(error) => Err(error),
    }
}

fn say_written(path: &Path, envelope: &Envelope, verdict: &str, out: Out) -> Result<()> {
    let digest = trust::Sha256::of(envelope.head().manifest_value);
    let signatures: Vec<Tree> = (envelope.head().blocks.filter_map(std::result::Result::ok))
        .map(|block| Tree::from(&block.kid[..]))
        .collect();
    let text = format!(
        "Wrote {}: {}, {} signature(s), {verdict}.",
        path.display(),
        verify::summary(envelope)?,
        signatures.len()
    );
    let tree = Tree::fields()
        .with("file", path.display().to_string())
        .with("bytes", envelope.as_bytes().len())
        .with("digest", &digest[..])
        .with("signatures", signatures)
        .with("verdict", verdict);
    out.result(text, &tree);
    Ok(())
}

fn new(path: &Path, out: Out) -> Result<()> {
    files::write_new(path, recipe::TEMPLATE.as_bytes())?;
    let path = path.display().to_string();
    let text = format!("Wrote {path}. Fill it in, then: ampoule release build {path} -o NAME.suit --key KEY");
    out.result(text, &Tree::fields().with("file", path));
    Ok(())
}

fn verify_file(release: &Path, root: &Path, names: Option<&Path>, out: Out) -> Result<()> {
    let bytes = input::bytes(root)?;
    let root = read_root(&bytes, root)?;
    let names = names.map_or(Ok(Names::default()), Names::read)?;
    let verified = ::release::verify(&read_envelope(release)?, &root)?;
    let tree = verified.to_tree(&names);
    out.result(tree.to_string(), &tree);
    Ok(())
}

fn inspect_file(path: &Path, out: Out) -> Result<()> {
    let bytes = input::bytes(path)?;
    let tree = inspect::explain(&bytes).map_err(|mut error| {
        error.what = format!("{}: {}", path.display(), error.what);
        error
    })?;
    out.result(tree.to_string(), &tree);
    Ok(())
}

/// Reads a release file; errors name it.
pub(crate) fn read_envelope(path: &Path) -> Result<Envelope> {
    parse_envelope(input::bytes(path)?, path)
}

/// Takes the release in these bytes apart; errors name the file and say what it should have been.
pub(crate) fn parse_envelope(bytes: Vec<u8>, path: &Path) -> Result<Envelope> {
    Envelope::parse(bytes).map_err(|mut error| {
        error.what = error.what.replacen("the release", &path.display().to_string(), 1);
        let is_none = [Reason::EnvTag, Reason::CborMalformed].map(Reason::number);
        match is_none.contains(&error.number) {
            true => error.advise(
                "Give a whole release, as `ampoule release build` writes it; `ampoule release inspect` says what a file is.",
            ),
            false => error,
        }
    })
}

/// Reads the trust root of this file, which must have reached its own threshold; errors name the file.
pub(crate) fn read_root<'a>(bytes: &'a [u8], path: &Path) -> Result<TrustRoot<'a>> {
    root::verify(bytes, &Limits::LINUX).map_err(|mut error| {
        error.what = format!("{}: {}", path.display(), error.what);
        error
    })
}

/// The same for a root that need not be given.
pub(crate) fn read_root_of<'a>(bytes: Option<&'a Vec<u8>>, path: Option<&Path>) -> Result<Option<TrustRoot<'a>>> {
    bytes.zip(path).map(|(bytes, path)| read_root(bytes, path)).transpose()
}
