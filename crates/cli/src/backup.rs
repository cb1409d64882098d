//! `ampoule backup`: M-of-N shares of a file key, and the drill that proves that they work.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ::release::ceremony::record::canonical;
use ::release::hex::text as hex;
use ::release::input;
use clap::{Args, Subcommand};
use keys::backup::{self, Backup, LINE_GROUPS, Share};
use keys::file::FileKey;
use keys::journal::Journaled;
use keys::{Code, KeyUri, Passphrase, PublicKey, Result, Signer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::files;
use crate::journal::JournalArgs;
use crate::out::Out;
use crate::signing::{self, PassphraseArgs};

/// What the record of a drill calls itself.
const DRILL_RECORD: &str = "ampoule-restore-drill-v1";
const SHARE_GROUPS_LINES: usize = 4;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a backup of a key file in shares, of which a few together restore it
    ///
    /// The directory gets the backup (the key, sealed) and one sheet for each share, to print or to put on a medium of
    /// its own. Give each sheet to another person and delete the directory: together, the sheets are the key.
    Make(Make),
    /// Restore a key from a backup and enough shares, into a new key file with a new passphrase
    Restore(Restore),
    /// Prove that a backup works without writing the key anywhere
    ///
    /// The key is restored into memory, signs a record with a fresh nonce, and is forgotten. The record can be verified
    /// by everybody with `ampoule backup show`.
    Drill(Drill),
    /// Explain a backup, or verify the record of a drill
    Show {
        /// A backup, a share's sheet, or the record of a drill
        file: PathBuf,
    },
}

/// Runs one `ampoule backup` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Make(make) => make.run(out),
        Command::Restore(restore) => restore.run(out),
        Command::Drill(drill) => drill.run(out),
        Command::Show { file } => show(&file, out),
    }
}

#[derive(Args)]
pub(crate) struct Make {
    /// The key file
    key: KeyUri,
    /// How many shares to make
    #[arg(long, value_name = "N")]
    shares: u8,
    /// How many of them restore the key
    #[arg(long, value_name = "M")]
    threshold: u8,
    /// Directory to make for the backup and the sheets
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Make {
    fn run(&self, out: Out) -> Result<()> {
        if self.out.exists() {
            return Err(Code::FileExists.error(format!("{} exists already", self.out.display())));
        }
        let key = signing::open_file(key_file(&self.key)?, &self.passphrase)?;
        let (backup, shares) = backup::make(&key, self.shares, self.threshold)?;
        write(&self.out, &backup, &shares)?;
        let text = format!(
            "Wrote {}: backup {} of key {}, and {} sheets; any {} of them restore it.\nGive each sheet to another \
             person, with a copy of the backup, then delete the directory: together, the sheets are the key.\nNext: \
             ampoule backup drill {} --record RECORD, once the sheets are where they will stay.",
            self.out.display(),
            backup.id(),
            hex(&key.public_key().thumbprint()),
            self.shares,
            self.threshold,
            self.out.join(BACKUP_FILE).display(),
        );
        out.result(text, &describe(&backup));
        Ok(())
    }
}

/// Name of the backup in its directory.
const BACKUP_FILE: &str = "backup.ampb";

fn key_file(uri: &KeyUri) -> Result<&Path> {
    uri.as_file().ok_or_else(|| {
        let advice = "Back up a token with the means of its vendor; docs/backup.md names them.";
        Code::Argument
            .error(format!("{uri} is no key file, and a key in a token cannot leave it"))
            .advise(advice)
    })
}

/// Writes the backup and the sheets of its shares into a new directory that only its owner may read; all or nothing.
pub(crate) fn write(directory: &Path, backup: &Backup, shares: &[Share]) -> Result<()> {
    create_private(directory)?;
    let written = write_files(directory, backup, shares);
    if written.is_err() {
        // Some of the shares of a key are worth nothing and would be taken for all.
        let _ = std::fs::remove_dir_all(directory);
    }
    written
}

fn write_files(directory: &Path, backup: &Backup, shares: &[Share]) -> Result<()> {
    let pem = format!("{}\n{}", summary(backup), backup.to_pem());
    files::write_new(&directory.join(BACKUP_FILE), pem.as_bytes())?;
    for share in shares {
        let name = format!("share-{}-of-{}.txt", share.number(), share.of());
        files::write_new_secret(&directory.join(name), sheet(backup, share).as_bytes())?;
    }
    Ok(())
}

#[cfg(unix)]
fn create_private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().mode(0o700).create(directory);
    made.map_err(|error| Code::FileWrite.error(format!("{} cannot be made: {error}", directory.display())))
}

#[cfg(not(unix))]
fn create_private(directory: &Path) -> Result<()> {
    let made = std::fs::create_dir(directory);
    made.map_err(|error| Code::FileWrite.error(format!("{} cannot be made: {error}", directory.display())))
}

fn summary(backup: &Backup) -> String {
    format!(
        "backup   {}\nkey      {} {}\nshares   any {} of {} restore the key",
        backup.id(),
        backup.public_key().algorithm_name(),
        hex(&backup.public_key().thumbprint()),
        backup.threshold(),
        backup.shares(),
    )
}

/// What one custodian gets: the share, what it is, and a copy of the backup, which is not secret.
fn sheet(backup: &Backup, share: &Share) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "Ampoule key backup: share {number} of {of}\n\n{}\n\nSecret. Whoever has {threshold} of these sheets has the \
         key. Keep this one where no other is.\n\nCustodian _________________________   Date ____________   Place \
         ____________________\n\n{}\nTo restore the key: ampoule backup restore FILE -o NEWKEY\nFILE holds the lines \
         below; it is not secret, and every sheet carries it. The shares are asked for.\nLetters and digits are those \
         of Crockford's base 32: no I, L, O, U. Capitals or not is the same.\n\n{}",
        summary(backup),
        *share.to_block(),
        backup.to_pem(),
        number = share.number(),
        of = share.of(),
        threshold = share.threshold(),
    ))
}

/// The shares of a restore: from files, or typed without echo.
#[derive(Args)]
pub(crate) struct ShareArgs {
    /// File with a share, as `backup make` wrote it (repeat); asked at the terminal when none is given
    #[arg(long = "share", value_name = "FILE")]
    shares: Vec<PathBuf>,
}

impl ShareArgs {
    fn read(&self, backup: &Backup) -> Result<Vec<Share>> {
        if self.shares.is_empty() {
            return ask_shares(backup);
        }
        self.shares.iter().map(|path| read_share(path)).collect()
    }
}

fn read_share(path: &Path) -> Result<Share> {
    let text = Zeroizing::new(input::text(path)?);
    Share::parse(&text).map_err(|mut error| {
        error.what = format!("{}: {}", path.display(), error.what);
        error
    })
}

/// Asks until there are enough; a share that cannot be right is asked for again at once.
pub(crate) fn ask_shares(backup: &Backup) -> Result<Vec<Share>> {
    let mut shares: Vec<Share> = Vec::new();
    while shares.len() < usize::from(backup.threshold()) {
        let title = format!("Share {} of the {} needed", shares.len() + 1, backup.threshold());
        let typed = ask_share(&title).and_then(|share| {
            let mut all = shares.clone();
            all.push(share.clone());
            match backup.check_shares(&all) {
                Err(error) if !error.is(Code::SharesTooFew) => Err(error),
                _ => Ok(share),
            }
        });
        match typed {
            Ok(share) => shares.push(share),
            Err(error) if error.is(Code::Terminal) => return Err(error),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(shares)
}

fn ask_share(title: &str) -> Result<Share> {
    let mut text = Zeroizing::new(String::new());
    for line in 0..SHARE_GROUPS_LINES {
        loop {
            let question = format!("{title}, line {} ({LINE_GROUPS} groups, not shown): ", line + 1);
            let typed = signing::prompt(&question)?;
            let typed = Zeroizing::new(String::from_utf8_lossy(typed.as_bytes()).into_owned());
            match backup::check_line(line, &typed) {
                Ok(()) => {
                    text.push_str(&typed);
                    text.push('\n');
                    break;
                }
                Err(error) => eprintln!("{error}"),
            }
        }
    }
    Share::parse(&text)
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The backup, or any sheet that carries it
    backup: PathBuf,
    #[command(flatten)]
    shares: ShareArgs,
    /// The key file to write; never replaces a file
    #[arg(short, long, value_name = "NEWKEY")]
    output: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Restore {
    fn run(&self, out: Out) -> Result<()> {
        if self.output.exists() {
            return Err(Code::KeyExists.error(format!("{} exists already", self.output.display())));
        }
        let backup = read(&self.backup)?;
        let key = backup.open(&self.shares.read(&backup)?)?;
        let passphrase = self.new_passphrase()?;
        key.save_new(&self.output, &passphrase)?;
        let text = format!(
            "Wrote {}: key {} out of backup {}.\nWhoever saw the shares today may have the key: make a new backup, or \
             rotate the key.",
            self.output.display(),
            hex(&key.public_key().thumbprint()),
            backup.id(),
        );
        out.result(text, &describe(&backup));
        Ok(())
    }

    fn new_passphrase(&self) -> Result<Passphrase> {
        match self.passphrase.given()? {
            Some(given) => Ok(given),
            None => signing::new_passphrase(&self.output),
        }
    }
}

#[derive(Args)]
pub(crate) struct Drill {
    /// The backup, or any sheet that carries it
    backup: PathBuf,
    #[command(flatten)]
    shares: ShareArgs,
    /// The record to write (JSON); never replaces a file
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    #[command(flatten)]
    journal: JournalArgs,
}

impl Drill {
    fn run(&self, out: Out) -> Result<()> {
        if self.record.exists() {
            return Err(Code::FileExists.error(format!("{} exists already", self.record.display())));
        }
        let backup = read(&self.backup)?;
        let shares = self.shares.read(&backup)?;
        let context = self.journal.context(out)?;
        let record = record_of(&backup, &shares, |key| Ok(Box::new(Journaled::new(key, context))))?;
        let bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
        files::write_new(&self.record, &bytes)?;
        let text = format!(
            "The backup works: shares {} restored key {} into memory, and it signed {}.\nThe key was written nowhere.",
            numbers(&shares),
            hex(&backup.public_key().thumbprint()),
            self.record.display(),
        );
        out.result(text, &record);
        Ok(())
    }
}

fn record_of(
    backup: &Backup,
    shares: &[Share],
    journaled: impl FnOnce(FileKey) -> Result<Box<dyn Signer>>,
) -> Result<Value> {
    let mut nonce = [0; 32];
    let no_entropy = |error| Code::NoEntropy.error(format!("no random bytes: {error}"));
    getrandom::fill(&mut nonce).map_err(no_entropy)?;
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let statement = json!({
        "record": DRILL_RECORD,
        "backup": backup.id().to_string(),
        "backup_sha256": hex(&::trust::Sha256::of(backup.to_pem().as_bytes())),
        "threshold": backup.threshold(),
        "shares_used": shares.iter().map(Share::number).collect::<Vec<u8>>(),
        "public_key_pem": backup.public_key().to_pem(),
        "key_id": hex(&backup.public_key().thumbprint()),
        "nonce": hex(&nonce),
        "time": seconds,
        "tool": concat!("ampoule ", env!("CARGO_PKG_VERSION")),
    });
    let signature = backup.drill(shares, canonical(&statement).as_bytes(), journaled)?;
    Ok(json!({"statement": statement, "signature": hex(signature.as_cose())}))
}

fn numbers(shares: &[Share]) -> String {
    let numbers: Vec<String> = shares.iter().map(|share| share.number().to_string()).collect();
    numbers.join(", ")
}

fn show(path: &Path, out: Out) -> Result<()> {
    let text = Zeroizing::new(input::text(path)?);
    if let Ok(record) = serde_json::from_str::<Value>(&text) {
        return show_record(path, &record, out);
    }
    let backup = Backup::parse(&text)?;
    out.result(summary(&backup), &describe(&backup));
    Ok(())
}

fn show_record(path: &Path, record: &Value, out: Out) -> Result<()> {
    let statement = &record["statement"];
    if statement["record"] != DRILL_RECORD {
        return Err(Code::NotAnAmpouleFile.error(format!("{} is no record of a drill", path.display())));
    }
    let key = PublicKey::from_pem(statement["public_key_pem"].as_str().unwrap_or_default())?;
    let signature = ::release::hex::bytes(record["signature"].as_str().unwrap_or_default());
    backup::verify_drill(&key, canonical(statement).as_bytes(), &signature.unwrap_or_default())?;
    let text = format!(
        "The record is genuine: key {} was restored from backup {} with shares {}.",
        hex(&key.thumbprint()),
        statement["backup"].as_str().unwrap_or_default(),
        statement["shares_used"],
    );
    out.result(text, record);
    Ok(())
}

fn read(path: &Path) -> Result<Backup> {
    Backup::parse(&Zeroizing::new(input::text(path)?)).map_err(|mut error| {
        error.what = format!("{}: {}", path.display(), error.what);
        error
    })
}

fn describe(backup: &Backup) -> Value {
    json!({
        "backup": backup.id().to_string(),
        "threshold": backup.threshold(),
        "shares": backup.shares(),
        "key_id": hex(&backup.public_key().thumbprint()),
        "algorithm": backup.public_key().algorithm_name(),
        "public_key_pem": backup.public_key().to_pem(),
    })
}
