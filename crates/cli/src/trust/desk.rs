//! What the commands of `ampoule trust` share: reading files, board, names and changes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ::release::board::Board;
use ::release::root::edits::{AddKey, Desk, Edits};
use ::release::root::safety::Conditions;
use ::release::root::{Content, Names, Proposal};
use ::release::{identity, input};
use clap::Args;
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::FileKind;
use keys::{Code, DevelopmentOnly, KeyUri, PublicKey, Result};
use trust::TrustRoot;

use crate::out::Out;
use crate::signing::{EitherHalf, PassphraseArgs};
use crate::worlds::WorldsArgs;

/// What the devices are, and who the people are.
#[derive(Args, Clone, Debug)]
pub(crate) struct DeskArgs {
    /// Board file of the devices: vendor, product line, limits and signature algorithms
    #[arg(long, value_name = "FILE")]
    pub(crate) board: Option<PathBuf>,
    /// File that says which person holds which key
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
}

impl DeskArgs {
    /// The board file, if one is given.
    pub(crate) fn board(&self) -> Result<Option<Board>> {
        self.board.as_deref().map(Board::read).transpose()
    }

    /// The names, if any.
    pub(crate) fn names(&self) -> Result<Names> {
        self.names.as_deref().map_or(Ok(Names::default()), Names::read)
    }

    /// The limits of the devices: the board's, or those of microcontrollers.
    pub(crate) fn limits(&self) -> Result<Limits> {
        Ok(self.board()?.map_or(Limits::MCU, |board| board.limits))
    }

    /// What a new root is judged by.
    pub(crate) fn conditions(&self) -> Result<Conditions> {
        let board = self.board()?;
        Ok(Conditions {
            limits: board.as_ref().map_or(Limits::MCU, |board| board.limits),
            algorithms: board.map(|board| board.algorithms),
            now: now(),
        })
    }
}

/// What is to be changed, as options.
#[derive(Args, Clone, Debug)]
pub(crate) struct EditArgs {
    /// Lowest sequence that devices of a class still accept (repeat); CLASS is an id, or a model of the vendor
    #[arg(long, value_name = "CLASS=N", value_parser = pair)]
    min_sequence: Vec<(String, String)>,
    /// Role that every delivery needs (repeat): release, and distribute or release-second
    #[arg(long, value_name = "ROLE")]
    require: Vec<String>,
    /// Role that every image needs (repeat): image, and image-second
    #[arg(long, value_name = "ROLE")]
    image_require: Vec<String>,
    /// Other anchor of the product (repeat): device-ca, server-ca, operator-ca, log-recipient or audit-checkpoint
    #[arg(long, value_name = "PURPOSE=FILE", value_parser = pair)]
    anchor: Vec<(String, String)>,
    /// When the root ends: a day (2046-01-01), seconds since 1970-01-01 UTC, or never
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
}

impl EditArgs {
    /// The same as changes.
    pub(crate) fn edits(&self) -> Result<Edits> {
        let mut edits = Edits {
            require: self.require.clone(),
            image_require: self.image_require.clone(),
            expires: self.expires.clone(),
            ..Edits::default()
        };
        for (class, least) in &self.min_sequence {
            edits.min_sequence.insert(class.clone(), number(least)?);
        }
        for (purpose, file) in &self.anchor {
            edits.anchor.entry(purpose.clone()).or_default().push(file.clone());
        }
        Ok(edits)
    }
}

/// `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// A whole number in an option.
pub(crate) fn number<N: std::str::FromStr>(text: &str) -> Result<N> {
    text.parse()
        .map_err(|_| Code::RootEdit.error(format!("{text} is no number that fits here")))
}

/// Applies changes with the files and keys that they name; keys that are added are admitted to the root's world.
pub(crate) fn with_desk<T>(
    names: &Names,
    vendor: Option<Uuid>,
    passphrase: &PassphraseArgs,
    out: Out,
    run: impl FnOnce(&Desk) -> Result<T>,
) -> Result<T> {
    let public = |text: &str| public(text, passphrase, out).map(|(key, _)| key);
    let file = |path: &str| input::bytes(Path::new(path));
    run(&Desk {
        public: &public,
        file: &file,
        vendor,
        names,
    })
}

/// Refuses keys among the added ones that must not stand in production.
pub(crate) fn admit_added(
    added: &[AddKey],
    root: &Content,
    worlds: WorldsArgs,
    passphrase: &PassphraseArgs,
    out: Out,
) -> Result<()> {
    for AddKey { role, key } in added {
        let (public, reason) = public(key, passphrase, out)?;
        worlds.admit(root.environment, &format!("the {role} key {key}"), &public, reason)?;
    }
    Ok(())
}

fn public(text: &str, passphrase: &PassphraseArgs, out: Out) -> Result<(PublicKey, Option<DevelopmentOnly>)> {
    let Ok(uri) = text.parse::<KeyUri>();
    let key = EitherHalf::public_of(&uri, passphrase, out)?;
    Ok((key.public().clone(), key.development_only()))
}

/// The vendor id of a board file or a domain.
pub(crate) fn vendor(board: Option<&Board>, domain: Option<&str>) -> Option<Uuid> {
    let domain = domain.or(board.map(|board| board.vendor_domain.as_str()));
    domain.map(identity::vendor_id)
}

/// Reads a proposal or finished file; errors name it.
pub(crate) fn read_proposal(path: &Path) -> Result<(Vec<u8>, Proposal)> {
    let bytes = input::bytes(path)?;
    let proposal = Proposal::read(&bytes).map_err(|mut error| {
        error.what = format!("{}: {}", path.display(), error.what);
        error
    })?;
    Ok((bytes, proposal))
}

/// Reads what a finished root says; the root must have reached its own threshold.
pub(crate) fn root_content(path: &Path) -> Result<(Vec<u8>, Content)> {
    let bytes = input::bytes(path)?;
    finished(&bytes, path)?;
    let content = Proposal::read(&bytes)?.root();
    let content =
        content.ok_or_else(|| Code::NotAnAmpouleFile.error(format!("{} is no trust root", path.display())))?;
    Ok((bytes, content))
}

/// A root that its own root keys signed; errors name the file.
pub(crate) fn finished<'a>(bytes: &'a [u8], path: &Path) -> Result<TrustRoot<'a>> {
    if FileKind::of(bytes) != Some(FileKind::Root) {
        return Err(Code::NotAnAmpouleFile.error(format!("{} is no trust root", path.display())));
    }
    ::release::root::verify(bytes, &Limits::LINUX).map_err(|mut error| {
        error.what = format!("{}: {}", path.display(), error.what);
        error
    })
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Says notes.
pub(crate) fn notes(notes: &[String], out: Out) {
    for note in notes {
        out.note(format!("note: {note}"));
    }
}
