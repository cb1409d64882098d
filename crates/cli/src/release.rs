//! `ampoule release`.

use std::path::{Path, PathBuf};

use ::release::envelope::Envelope;
use ::release::root::Names;
use ::release::tree::Tree;
use ::release::{Recipe, assemble, input, inspect, recipe, review, root, verify};
use clap::{Args, Subcommand};
use codec::Reason;
use codec::limits::Limits;
use codec::roots::Environment;
use keys::{Code, KeyUri, Result, Signer};
use trust::TrustRoot;

use crate::approval::ApprovalArgs;
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
        Command::Verify { release, root } => verify_file(&release, &root, out),
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
        let root = root.as_deref().map(read_root).transpose()?;
        let image_keys = signing::open_all(&self.image_key, &self.worlds.journaled(&self.passphrase), out)?;
        let world = world_of(root.as_ref());
        for key in &image_keys {
            self.admit(world, "image", &**key)?;
        }
        let image_signers: Vec<&dyn Signer> = image_keys.iter().map(|key| &**key).collect();
        let draft = assemble(&recipe, &image_signers, root.as_ref())?;
        let envelope = self.sign(&draft, world, out)?;
        for note in draft.notes() {
            out.note(format!("note: {note}"));
        }
        let verdict = judge(&envelope, root.as_ref(), out)?;
        files::write_new(&self.output, envelope.as_bytes())?;
        say_written(&self.output, &envelope, verdict, out)
    }

    /// No key of the desk signs for production.
    fn admit(&self, world: Environment, role: &str, key: &dyn Signer) -> Result<()> {
        let whose = format!("the {role} key {}", key.describe());
        self.worlds
            .admit(world, &whose, key.public_key(), key.development_only())
    }

    fn sign(&self, draft: &::release::Draft, world: Environment, out: Out) -> Result<Envelope> {
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
    #[arg(short, long, value_name = "KEY", required = true)]
    key: Vec<KeyUri>,
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
        let mut envelope = read_envelope(&self.release)?;
        verify::check_content(&envelope)?;
        let root = self.root.as_deref().map(input::bytes).transpose()?;
        let root = root.as_deref().map(read_root).transpose()?;
        let names = self.names.as_deref().map_or(Ok(Names::default()), Names::read)?;
        let previous = self.previous.as_deref().map(read_envelope).transpose()?;
        let statement = review::statement(&envelope, root.as_ref(), previous.as_ref(), &names)?;
        let digest = trust::Sha256::of(envelope.head().manifest_value);
        self.approval
            .ask(&statement, &digest, &self.key, review::world(root.as_ref()), out)?;
        let passphrase = self.worlds.journaled(&self.passphrase);
        for uri in &self.key {
            let key = signing::open(uri, &passphrase, out)?;
            if let Some(root) = &root {
                verify::may_sign(root, &key.public_key().thumbprint(), &names)?;
            }
            let whose = format!("the key {uri}");
            let world = world_of(root.as_ref());
            self.worlds
                .admit(world, &whose, key.public_key(), key.development_only())?;
            envelope = envelope.add_signature(&key)?;
        }
        let verdict = judge(&envelope, root.as_ref(), out)?;
        let target = self.output.as_ref().unwrap_or(&self.release);
        match self.output {
            Some(_) => files::write_new(target, envelope.as_bytes())?,
            // Somebody else may have signed meanwhile.
            None => files::update(target, |now| Ok(Envelope::parse(now)?.join(&envelope)?.into_bytes()))?,
        }
        say_written(target, &envelope, verdict, out)
    }
}

/// The world that a root is for; the desk's where no root says it.
fn world_of(root: Option<&TrustRoot>) -> Environment {
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

fn verify_file(release: &Path, root: &Path, out: Out) -> Result<()> {
    let root = input::bytes(root)?;
    let root = read_root(&root)?;
    let verified = ::release::verify(&read_envelope(release)?, &root)?;
    let tree = verified.to_tree();
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

/// Reads a trust root, which must have reached its own threshold.
pub(crate) fn read_root(bytes: &[u8]) -> Result<TrustRoot<'_>> {
    root::verify(bytes, &Limits::LINUX)
}
