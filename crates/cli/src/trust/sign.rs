//! `ampoule trust sign` and `join`: one file, several people.

use std::path::{Path, PathBuf};

use ::release::root::proposal::kind_name;
use ::release::root::standing::{Standing, judge, may_sign, standing};
use ::release::root::{Content, Names, Proposal, difference, environment_name, lists::List};
use ::release::tree::Tree;
use ::release::{detached, input, inspect};
use clap::Args;
use codec::limits::Limits;
use codec::roots::{Environment, FileKind};
use keys::{Code, DevelopmentOnly, KeyUri, PublicKey, Result};
use trust::TrustRoot;

use super::desk::{self, DeskArgs};
use crate::approval::{ApprovalArgs, grave};
use crate::external::{ExternalArgs, Way};
use crate::files;
use crate::out::Out;
use crate::signing::{self, PassphraseArgs};
use crate::worlds::WorldsArgs;

#[derive(Args)]
pub(crate) struct Sign {
    /// The proposed root, revocation list or time file
    file: PathBuf,
    /// Private key of yours (repeat for several that you hold)
    #[arg(short, long, value_name = "KEY", required_unless_present_any = ["to_sign", "signature"])]
    key: Vec<KeyUri>,
    #[command(flatten)]
    external: ExternalArgs,
    /// The root before the proposed one, version N; for a list or time file the root that it belongs to
    #[arg(long, visible_alias = "root", value_name = "FILE")]
    previous: Option<PathBuf>,
    /// The revocation list that devices hold now, to see what a new one adds
    #[arg(long, value_name = "FILE")]
    previous_list: Option<PathBuf>,
    /// Where to write the result; without it the file itself gets the signature
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    desk: DeskArgs,
    #[command(flatten)]
    approval: ApprovalArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    worlds: WorldsArgs,
}

impl Sign {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let (_, proposal) = desk::read_proposal(&self.file)?;
        let under = self.previous.as_deref().map(|path| Ok((input::bytes(path)?, path)));
        let under = under.transpose()?;
        let under = under
            .as_ref()
            .map(|(bytes, path)| desk::finished(bytes, path))
            .transpose()?;
        follows(&proposal, under.as_ref())?;
        let names = self.desk.names()?;
        let before = standing(&proposal, under.as_ref())?;
        refuse_wrong(&before, &names)?;
        let world = world(&proposal, under.as_ref());
        let statement = self.statement(&proposal, under.as_ref(), &before, &names, out)?;
        let way = self.external.way()?;
        let room = Room {
            args: self,
            proposal: &proposal,
            under: under.as_ref(),
            before: &before,
            names: &names,
        };
        if let Some(Way::Out(path, key)) = &way {
            room.admit("the vault's key", key, None)?;
            let to_sign = detached::proposal_to_sign(&proposal, key)?;
            return self.external.hand_out(path, key, &to_sign, statement, out);
        }
        let grave = match &way {
            Some(Way::Back(..)) => Some("a vault".to_owned()),
            _ => grave(&self.key),
        };
        self.approval
            .ask(&statement, &proposal.digest(), grave.as_deref(), Some(world), out)?;
        let signed = room.sign(way.as_ref(), out)?;
        self.write(&signed)?;
        say(
            self.target(),
            &signed,
            under.as_ref(),
            &names,
            &self.desk.limits()?,
            out,
        )
    }

    /// Puts the signatures into the file as it is now: somebody else may have signed meanwhile.
    fn write(&self, signed: &Proposal) -> Result<()> {
        match &self.output {
            Some(output) => files::write_new(output, &signed.to_bytes()),
            None => files::update(&self.file, |now| Ok(Proposal::read(&now)?.join(signed)?.to_bytes())),
        }
    }

    fn target(&self) -> &Path {
        self.output.as_ref().unwrap_or(&self.file)
    }

    /// What a signer reads before anything is asked.
    fn statement(
        &self,
        proposal: &Proposal,
        under: Option<&TrustRoot>,
        before: &Standing,
        names: &Names,
        out: Out,
    ) -> Result<Tree> {
        let old = under.and_then(|root| Proposal::read(root.bytes()).ok()?.root());
        let (changes, expires) = match (proposal.root(), &old) {
            (Some(new), old) => {
                let checked = self.desk.conditions()?;
                desk::notes(
                    &::release::root::safety::check(&new, old.as_ref(), &checked, names)?,
                    out,
                );
                (difference(old.as_ref(), &new, names), new.expires)
            }
            (None, Some(root)) if proposal.kind() == FileKind::Revoke => {
                let held = self.previous_list.as_deref().map(input::bytes).transpose()?;
                let held = held.as_deref().map(List::read).transpose()?.unwrap_or_default();
                let list = List::read(&proposal.as_read())?;
                (list.difference(&held, root, names), None)
            }
            _ => (Vec::new(), None),
        };
        if old
            .as_ref()
            .and_then(|old| old.expires)
            .is_some_and(|end| end <= desk::now())
        {
            out.note("warning: the root that you gave has expired; devices that know the time believe it no longer");
        }
        let changes: Vec<Tree> = changes.into_iter().map(Tree::from).collect();
        Ok(Tree::fields()
            .with(
                "what",
                format!("{}, {}", kind_name(proposal.kind()), proposal.subject()),
            )
            .with("environment", environment_name(world(proposal, under)))
            .with_some("changes", (!changes.is_empty()).then_some(changes))
            .with_some("expires", expires.map(inspect::moment))
            .with("digest", &proposal.digest()[..])
            .with("so far", before.to_tree(names)))
    }
}

/// What `trust sign` knows when it comes to keys.
struct Room<'a> {
    args: &'a Sign,
    proposal: &'a Proposal,
    under: Option<&'a TrustRoot<'a>>,
    before: &'a Standing,
    names: &'a Names,
}

impl Room<'_> {
    fn sign(&self, way: Option<&Way>, out: Out) -> Result<Proposal> {
        let passphrase = self.args.worlds.journaled(&self.args.passphrase);
        if let Some(Way::Back(path, key)) = way {
            self.admit("the vault's key", key, None)?;
            return self.proposal.sign(&*signing::external(key, path, &passphrase, out)?);
        }
        let mut signed = self.proposal.clone();
        for uri in &self.args.key {
            let key = signing::open(uri, &passphrase, out)?;
            self.admit(&format!("the key {uri}"), key.public_key(), key.development_only())?;
            signed = signed.sign(&*key)?;
        }
        Ok(signed)
    }

    /// A key that one of the roots names for this, that has not signed, and that the world of the statement lets in.
    fn admit(&self, whose: &str, key: &PublicKey, reason: Option<DevelopmentOnly>) -> Result<()> {
        let own = own_bytes(self.proposal);
        let own = own
            .as_deref()
            .and_then(|bytes| TrustRoot::stored(bytes, &Limits::LINUX).ok());
        let roots: Vec<&TrustRoot> = self.under.into_iter().chain(&own).collect();
        may_sign(self.before, &roots, &key.thumbprint(), self.names)?;
        self.args
            .worlds
            .admit(world(self.proposal, self.under), whose, key, reason)
    }
}

#[derive(Args)]
pub(crate) struct Join {
    /// The file that gets all signatures
    file: PathBuf,
    /// Other copies of the same proposal
    #[arg(required = true)]
    copies: Vec<PathBuf>,
    /// The root before the proposed one, or the root that a list or time file belongs to, to say who is missing
    #[arg(long, visible_alias = "root", value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    desk: DeskArgs,
}

impl Join {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let copies: Vec<Proposal> = self
            .copies
            .iter()
            .map(|path| desk::read_proposal(path).map(|(_, copy)| copy))
            .collect::<Result<_>>()?;
        let (_, proposal) = desk::read_proposal(&self.file)?;
        let join = |proposal: Proposal| copies.iter().try_fold(proposal, |joined, copy| joined.join(copy));
        let joined = join(proposal)?;
        let names = self.desk.names()?;
        let under = self.previous.as_deref().map(|path| Ok((input::bytes(path)?, path)));
        let under = under.transpose()?;
        let under = under
            .as_ref()
            .map(|(bytes, path)| desk::finished(bytes, path))
            .transpose()?;
        if joined.kind() == FileKind::Root || under.is_some() {
            refuse_wrong(&standing(&joined, under.as_ref())?, &names)?;
        }
        files::update(&self.file, |now| Ok(join(Proposal::read(&now)?)?.to_bytes()))?;
        say(&self.file, &joined, under.as_ref(), &names, &self.desk.limits()?, out)
    }
}

/// What is to be signed must be able to follow what is given.
fn follows(proposal: &Proposal, under: Option<&TrustRoot>) -> Result<()> {
    let Some(Content {
        version,
        id,
        environment,
        ..
    }) = proposal.root()
    else {
        return Ok(());
    };
    match under {
        None if version > 1 => Err(Code::Argument
            .error(format!("version {version} cannot be judged without the root before it"))
            .advise("Give the root that devices hold now with --previous.")),
        Some(root) if (&id, environment) != (root.id(), root.environment()) => {
            Err(keys::Error::refused("trust root", codec::Reason::RootId))
        }
        Some(root) if root.version().checked_add(1) != Some(version) => {
            let advice = format!("After version {} comes version {}.", root.version(), root.version() + 1);
            let mut error = keys::Error::refused("trust root", codec::Reason::RootVersion);
            error.what = format!("{}: this is version {version}", error.what);
            Err(error.advise(advice))
        }
        _ => Ok(()),
    }
}

/// Nobody signs a file that devices refuse for a block that is in it already.
fn refuse_wrong(standing: &Standing, names: &Names) -> Result<()> {
    match standing.wrong.first() {
        None => Ok(()),
        Some(id) => {
            let mut error = keys::Error::refused("the file", codec::Reason::RootSignature);
            error.what = format!("{}: that of key {}", error.what, names.label(id));
            Err(error
                .advise("It is a signature of something else, or damaged: start from a clean copy of the proposal."))
        }
    }
}

/// The world that the statement is for.
fn world(proposal: &Proposal, under: Option<&TrustRoot>) -> Environment {
    let own = proposal.root().map(|root| root.environment);
    own.or(under.map(TrustRoot::environment)).unwrap_or_default()
}

fn own_bytes(proposal: &Proposal) -> Option<Vec<u8>> {
    (proposal.kind() == FileKind::Root).then(|| proposal.as_read())
}

/// Prints how far the file is now.
pub(super) fn say(
    path: &Path,
    signed: &Proposal,
    under: Option<&TrustRoot>,
    names: &Names,
    limits: &Limits,
    out: Out,
) -> Result<()> {
    let decided = signed.kind() == FileKind::Root || under.is_some();
    let standing = decided.then(|| standing(signed, under)).transpose()?;
    let verdict = match &standing {
        Some(standing) if standing.is_complete() => {
            judge(signed, under, limits, names)?;
            "complete: devices will take it".to_string()
        }
        Some(standing) => format!("waits for {}", standing.missing(names).join("; and ")),
        None => "not judged by a trust root".to_string(),
    };
    let path = path.display();
    let text = format!(
        "Wrote {path}: {}, {}, {} signature(s), {verdict}.",
        kind_name(signed.kind()),
        signed.subject(),
        signed.signers().count()
    );
    let tree = Tree::fields()
        .with("file", path.to_string())
        .with("digest", &signed.digest()[..])
        .with("verdict", verdict)
        .with_some("standing", standing.map(|standing| standing.to_tree(names)));
    out.result(text, &tree);
    Ok(())
}
