//! `ampoule ceremony`: several people make keys and roots together, and a record remains.

mod machine;
mod table;

use std::path::{Path, PathBuf};

use ::release::ceremony::page;
use ::release::ceremony::record::Entry;
use ::release::ceremony::run::{self, Outcome, utc};
use ::release::ceremony::script::Script;
use ::release::ceremony::verify::{self, Verified};
use ::release::input;
use clap::{Args, Subcommand};
use keys::{Code, Result};
use serde_json::{Value, json};

use crate::files;
use crate::out::Out;
use crate::signing::PassphraseArgs;

use table::{Answers, Table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Go through a script, from its beginning or from where it was interrupted
    ///
    /// Every step is written to the record before and after it acts. When all is done, everybody present signs the
    /// record. At any question, `note: TEXT` or `incident: TEXT` is written down, and the question is asked again.
    Run(Run),
    /// Verify a record: chain, digests, signatures, the root that was made, and the files beside it
    Verify(Verify),
    /// Show a record entry by entry, or print it on paper
    Show(Show),
}

/// Runs one `ampoule ceremony` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Run(run) => run.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Show(show) => show.run(out),
    }
}

#[derive(Args)]
pub(crate) struct Run {
    /// The script (TOML; docs/ceremony.md); its paths start at its own directory
    script: PathBuf,
    /// The record; by default the script's name with `.record.jsonl`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Take answers from a file instead of people; for rehearsals only
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Run {
    fn run(&self, out: Out) -> Result<()> {
        let script = Script::parse(&input::text(&self.script)?)?;
        let answers = self.answers.as_deref().map(Answers::read).transpose()?;
        let path = self
            .record
            .clone()
            .unwrap_or_else(|| self.script.with_extension("record.jsonl"));
        let directory = directory_of(&self.script);
        let mut table = Table::new(answers, &directory, &self.passphrase, out);
        let outcome = run::run(&script, &path, &mut table)?;
        let verified = verify::verify_so_far(&input::bytes(&path)?, Some(&directory))?;
        if outcome == Outcome::Paused {
            out.result(
                format!("The ceremony pauses; {} has everything so far.", path.display()),
                &summary(&verified),
            );
            return Ok(());
        }
        let printed = path.with_extension("html");
        files::replace(&printed, page::page(&verified).as_bytes())?;
        let text = format!(
            "The ceremony is finished: {}.\ntranscript {}\nPrint {}; everybody signs the paper too. Keep copies of the \
             record at several places.\nNext: ampoule ceremony verify {}",
            path.display(),
            verified.transcript,
            printed.display(),
            path.display(),
        );
        out.result(text, &summary(&verified));
        Ok(())
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The record
    record: PathBuf,
    /// Directory with the files of the ceremony; by default the record's own
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
}

impl Verify {
    fn run(&self, out: Out) -> Result<()> {
        let files = self.files.clone().unwrap_or_else(|| directory_of(&self.record));
        let verified = verify::verify(&input::bytes(&self.record)?, Some(&files))?;
        let lines =
            |title: &str, lines: &[String]| lines.iter().map(|line| format!("\n{title}{line}")).collect::<String>();
        let text = format!(
            "The record holds: {}, {} entries.\ntranscript {}{}{}{}{}",
            verified.script.title,
            verified.record.entries.len(),
            verified.transcript,
            lines("signed by  ", &signers(&verified)),
            lines("unchanged  ", &verified.files_found),
            lines("not here   ", &verified.files_absent),
            lines("remark     ", &verified.remarks),
        );
        out.result(text, &summary(&verified));
        Ok(())
    }
}

/// Who signed with which key: a verifier compares the ids with what they know of these people.
fn signers(verified: &Verified) -> Vec<String> {
    let signatures = verified
        .record
        .entries
        .iter()
        .filter(|entry| entry.kind() == "signature");
    let line = |entry: &Entry| {
        let id = keys::PublicKey::from_pem(entry.text("public_key_pem")).map(|key| key.thumbprint());
        let statement = entry.get("statement");
        let text = |name: &str| statement[name].as_str().unwrap_or_default().to_owned();
        let made = if statement["key_made_for_this_rehearsal"] == true {
            ", made for this rehearsal"
        } else {
            ""
        };
        format!(
            "{} ({}), key {}{made}",
            text("name"),
            text("part"),
            ::release::hex::text(&id.unwrap_or_default())
        )
    };
    signatures.map(line).collect()
}

fn summary(verified: &Verified) -> Value {
    json!({
        "title": verified.script.title,
        "mode": verified.script.mode,
        "finished": verified.is_finished,
        "transcript": verified.transcript,
        "script_sha256": ::release::hex::text(&verified.script.digest()),
        "entries": verified.record.entries.len(),
        "signed_by": signers(verified),
        "files_unchanged": verified.files_found,
        "files_absent": verified.files_absent,
        "remarks": verified.remarks,
    })
}

#[derive(Args)]
pub(crate) struct Show {
    /// The record; it may be unfinished
    record: PathBuf,
    /// Write the record for paper to this HTML file
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

impl Show {
    fn run(&self, out: Out) -> Result<()> {
        let verified = verify::verify_so_far(&input::bytes(&self.record)?, None)?;
        if let Some(path) = &self.page {
            files::replace(path, page::page(&verified).as_bytes())?;
            out.result(format!("Wrote {}.", path.display()), &summary(&verified));
            return Ok(());
        }
        let lines: Vec<String> = verified.record.entries.iter().map(line).collect();
        let entries: Vec<&serde_json::Map<String, Value>> =
            verified.record.entries.iter().map(|entry| &entry.body).collect();
        out.result(lines.join("\n"), &entries);
        Ok(())
    }
}

fn line(entry: &Entry) -> String {
    let about = match entry.kind() {
        "open" => entry.text("title").to_owned(),
        "signature" => entry.get("statement")["name"].as_str().unwrap_or_default().to_owned(),
        "note" | "incident" => format!("{}: {}", entry.text("step"), entry.text("text")),
        "stopped" => format!("{}: {}", entry.text("step"), entry.text("what")),
        "end" => entry.hash().to_owned(),
        _ => entry.text("step").to_owned(),
    };
    format!(
        "{:>4}  {}  {:9} {about}",
        entry.get("n").to_string(),
        utc(entry.time()),
        entry.kind()
    )
}

fn wrong_answers(path: &Path, what: impl std::fmt::Display) -> keys::Error {
    Code::CeremonyAnswers.error(format!("{}: {what}", path.display()))
}
