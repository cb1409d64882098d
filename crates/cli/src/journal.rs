//! `ampoule journal`: read and check the signing journal; and how every other command writes to it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use keys::journal::verify::{self, Expected, Line, Lines, Report};
use keys::journal::{
    Appended, By, Context, Entry, Event, Facts, HeadFile, Journal, JournalHead, Reservation, Signed, Surroundings,
};
use keys::lms::Scribe;
use keys::{Code, Result};
use serde_json::{Value, json};

use crate::out::Out;

/// Where signatures are entered, and what a person adds to the entry. There is no option that leaves it out.
#[derive(Args, Clone, Debug)]
pub(crate) struct JournalArgs {
    #[command(flatten)]
    place: Place,
    /// Why this is signed; stands in the signing journal
    #[arg(long, value_name = "TEXT", help_heading = "Signing journal")]
    reason: Option<String>,
    /// Who signs, if the account's name does not say it; stands in the signing journal
    #[arg(
        long,
        value_name = "NAME",
        env = "AMPOULE_OPERATOR",
        help_heading = "Signing journal"
    )]
    operator: Option<String>,
    /// Overrides that were typed out.
    #[arg(skip)]
    facts: Facts,
}

/// Which journal.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// Signing journal; without it one in the user's state folder
    #[arg(long, value_name = "FILE", env = "AMPOULE_JOURNAL", help_heading = "Signing journal")]
    journal: Option<PathBuf>,
    /// File on another medium that always holds the journal's end, so that entries cut off there are missed
    #[arg(
        long,
        value_name = "FILE",
        env = "AMPOULE_JOURNAL_HEAD",
        help_heading = "Signing journal"
    )]
    head_file: Option<PathBuf>,
}

impl Place {
    /// The journal; its folder is made if it is the user's own state folder. Error: [`Code::JournalOpen`].
    pub(crate) fn journal(&self) -> Result<Journal> {
        Ok(Journal::at(self.path()?, self.head_file.clone().map(HeadFile::at)))
    }

    fn path(&self) -> Result<PathBuf> {
        if let Some(given) = &self.journal {
            return Ok(given.clone());
        }
        let folder = state_folder().ok_or_else(|| {
            Code::JournalOpen
                .error("there is no place for the signing journal: neither XDG_STATE_HOME nor HOME is set")
                .advise("Give --journal FILE or set AMPOULE_JOURNAL.")
        })?;
        make_private(&folder).map_err(|error| {
            Code::JournalOpen.error(format!("the folder {} cannot be made: {error}", folder.display()))
        })?;
        Ok(folder.join("journal.jsonl"))
    }
}

impl JournalArgs {
    /// What every signature of this run is entered with.
    pub(crate) fn context(&self, out: Out) -> Result<Context> {
        Ok(Context {
            journal: self.place.journal()?,
            by: self.by(),
            why: self.reason.clone(),
            facts: self.facts.clone(),
            surroundings: Box::new(Here(out)),
        })
    }

    /// What the entries of LMS keys that are bound to a journal are made with.
    pub(crate) fn scribe(&self) -> Scribe {
        Scribe {
            by: self.by(),
            why: self.reason.clone(),
            facts: self.facts.clone(),
            now,
        }
    }

    /// The journal's file and the file that holds its head; error [`Code::Argument`] where none was named.
    pub(crate) fn with_head(&self) -> Result<(PathBuf, PathBuf)> {
        let head = self.place.head_file.clone().ok_or_else(|| {
            Code::Argument
                .error("an LMS key is bound to a journal only if the journal's head is kept on another medium")
                .advise("Add --head-file FILE, with FILE on another medium; docs/post-quantum.md says why.")
        })?;
        Ok((self.place.path()?, head))
    }

    /// Who signs.
    pub(crate) fn by(&self) -> By {
        By {
            operator: self.operator.clone(),
            ..by_machine()
        }
    }

    /// The same, with an override that was typed out as a fact of every entry.
    pub(crate) fn with_override(mut self, option: &str, is_given: bool) -> JournalArgs {
        if is_given {
            let overrides = self.facts.entry("override".into()).or_default();
            let separator = if overrides.is_empty() { "" } else { " " };
            *overrides += separator;
            *overrides += option;
        }
        self
    }
}

/// Machine and account.
pub(crate) fn by_machine() -> By {
    let uid = rustix::process::getuid().as_raw();
    By {
        host: Some(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        operator: None,
        user: Some(user_name(uid).unwrap_or_else(|| uid.to_string())),
    }
}

/// The name of an account, where the machine's own list has it.
fn user_name(uid: u32) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    };
    accounts.lines().find_map(name)
}

/// The id of an account, where the machine's own list has it.
pub(crate) fn uid_of(name: &str) -> Option<u32> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let uid = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    accounts.lines().find_map(uid)
}

/// XDG Base Directory Specification: `$XDG_STATE_HOME`, or `$HOME/.local/state`; only absolute paths count.
fn state_folder() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("ampoule"))
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The clock of this machine, and whoever reads standard error.
pub(crate) struct Here(pub(crate) Out);

impl Surroundings for Here {
    fn now(&self) -> u64 {
        now()
    }

    fn tell(&self, journal: &Journal, appended: &Appended) {
        let path = journal.path().display();
        if appended.is_new {
            self.0.note(format!(
                "note: began the signing journal {path}; every signature is entered there"
            ));
        }
        if let Some(torn) = &appended.torn {
            self.0.note(format!(
                "note: an earlier entry in {path} was cut short by a crash; its {} bytes are kept",
                torn.bytes
            ));
        }
    }
}

/// Seconds since 1970 UTC.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check that no entry was changed, removed, repeated or moved
    ///
    /// Lines missing at the end are found only against a head that was kept elsewhere: --expect-head or --head-file.
    Verify(Verify),
    /// Show entries
    Show(Show),
    /// Write entries as one JSON array or as CSV to standard output
    Export(Export),
    /// End the file under another name and go on in a new one
    Rotate(Rotate),
}

/// Runs one `ampoule journal` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Verify(verify) => verify.run(out),
        Command::Show(show) => show.run(out),
        Command::Export(export) => export.run(),
        Command::Rotate(rotate) => rotate.run(out),
    }
}

/// The files of a journal.
#[derive(Args)]
struct Files {
    /// Files of one journal, the oldest first; without them the journal that signing commands write to
    files: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Files {
    fn paths(&self) -> Result<Vec<PathBuf>> {
        match self.files.is_empty() {
            true => Ok(vec![self.place.path()?]),
            false => Ok(self.files.clone()),
        }
    }
}

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    files: Files,
    /// An entry that must be there: HASH or HASH@NUMBER, as this command printed it once
    #[arg(long, value_name = "HEAD", value_parser = expected)]
    expect_head: Option<Expected>,
    /// Note the end in this file for the first time, or anew, if the journal is whole and has grown
    #[arg(long, value_name = "FILE")]
    write_head: Option<PathBuf>,
}

impl Verify {
    fn run(&self, out: Out) -> Result<()> {
        let paths = self.files.paths()?;
        let noted = self.files.place.head_file.as_ref().map(HeadFile::at);
        let noted = noted.map(|file| file.read()).transpose()?.flatten();
        let expected = self.expect_head.clone().or(noted.map(Expected::from));
        let report = verify::files(&paths, expected.as_ref())?;
        out.result(prose(&report, expected.is_some()), &document(&report));
        report.verdict()?;
        if report.entries == 0 {
            return Err(Code::JournalOpen.error(format!("{} has no entries", paths[0].display())));
        }
        match (&self.write_head, &report.last) {
            (Some(path), Some(head)) => HeadFile::at(path).advance(head),
            _ => Ok(()),
        }
    }
}

fn expected(text: &str) -> Result<Expected, String> {
    text.parse().map_err(str::to_owned)
}

fn prose(report: &Report, was_expected: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(
            text,
            "{}, line {}: {}",
            finding.file.display(),
            finding.line,
            finding.what
        );
    }
    let _ = writeln!(
        text,
        "{} entries, {} of them signatures",
        report.entries, report.signatures
    );
    if report.reservations > 0 {
        let _ = writeln!(text, "{} reservations of LMS keys", report.reservations);
    }
    if let Some(first) = report.first.filter(|first| first.number > 1) {
        let _ = writeln!(text, "starts with entry {}: older files were not given", first.number);
    }
    if report.torn > 0 {
        let _ = writeln!(
            text,
            "{} writes were torn by a crash; later entries name what is left of them",
            report.torn
        );
    }
    if let Some(torn) = &report.open_end {
        let _ = writeln!(
            text,
            "the last write was torn by a crash: {} bytes, which the next entry will name",
            torn.bytes
        );
    }
    if report.steps_back > 0 {
        let _ = writeln!(
            text,
            "{} entries are older than the one before: a clock was set back",
            report.steps_back
        );
    }
    let whole = match (report.is_whole(), was_expected) {
        (false, _) => return text,
        (true, true) => "whole, and contains the head that was noted",
        (true, false) => "whole, as far as it can be said without a head that was kept elsewhere (--expect-head)",
    };
    let _ = writeln!(text, "{whole}");
    if let Some(last) = &report.last {
        let _ = writeln!(text, "head {last}");
    }
    text
}

fn document(report: &Report) -> Value {
    let head = |head: &Option<JournalHead>| head.map(|head| head.to_string());
    let findings: Vec<Value> = (report.findings.iter())
        .map(|finding| {
            let code = finding.what.code();
            json!({"file": finding.file, "line": finding.line, "number": code.number(), "name": code.name(),
                   "what": finding.what.to_string()})
        })
        .collect();
    json!({
        "whole": report.is_whole(), "entries": report.entries, "signatures": report.signatures,
        "reservations": report.reservations,
        "first": head(&report.first), "head": head(&report.last), "torn": report.torn,
        "torn_at_end": report.open_end.is_some(), "clock_steps_back": report.steps_back, "findings": findings,
    })
}

/// Which entries.
#[derive(Args)]
struct Filter {
    /// Only of the key whose id starts with these hexadecimal digits
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Only of this kind of object: image, release, root, ...
    #[arg(long, value_name = "NAME")]
    object: Option<String>,
    /// Only from this time on: seconds since 1970, YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ
    #[arg(long, value_name = "TIME", value_parser = time_from_text)]
    since: Option<u64>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = time_from_text)]
    until: Option<u64>,
}

impl Filter {
    fn admits(&self, entry: &Entry) -> bool {
        let (key, object) = match &entry.event {
            Event::Signature(signed) => (Some(signed.key.id.to_string()), Some(signed.what.object.as_str())),
            Event::Reservation(reservation) => (Some(reservation.key.id.to_string()), None),
            Event::Refusal(refusal) => (None, refusal.object.as_ref().map(|what| what.object.as_str())),
            _ => (None, None),
        };
        let by_key = self
            .key
            .as_ref()
            .is_none_or(|start| key.is_some_and(|id| id.starts_with(&start.to_lowercase())));
        let by_object = self.object.as_deref().is_none_or(|wanted| object == Some(wanted));
        let by_time =
            self.since.is_none_or(|since| entry.at >= since) && self.until.is_none_or(|until| entry.at < until);
        by_key && by_object && by_time
    }

    /// The entries of these files, one at a time; says at the end if there was anything else.
    fn each(&self, paths: &[PathBuf], mut use_it: impl FnMut(&Entry)) -> Result<()> {
        for path in paths {
            for line in Lines::open(path)? {
                let line = line.map_err(|error| Code::JournalRead.error(format!("{}: {error}", path.display())))?;
                if let Line::Entry(entry) = line
                    && self.admits(&entry)
                {
                    use_it(&entry);
                }
            }
        }
        verify::files(paths, None)?.verdict()
    }
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    filter: Filter,
}

impl Show {
    fn run(&self, out: Out) -> Result<()> {
        let (mut text, mut values) = (String::new(), Vec::new());
        let whole = self.filter.each(&self.files.paths()?, |entry| {
            describe(entry, &mut text);
            values.push(entry.to_value());
        });
        out.result(text, &values);
        whole
    }
}

/// An entry in a few lines for people. Control characters are shown as escapes: nothing in a journal moves a cursor.
fn describe(entry: &Entry, text: &mut String) {
    let clean = |text: &str| {
        text.chars()
            .map(|c| {
                if c.is_control() {
                    c.escape_default().to_string()
                } else {
                    c.into()
                }
            })
            .collect::<String>()
    };
    let _ = write!(text, "{:>6}  {}  ", entry.number, time_text(entry.at));
    let _ = match &entry.event {
        Event::Begin(carried) => {
            let written = writeln!(text, "begin");
            for one in carried {
                let _ = writeln!(
                    text,
                    "        carries key {}: {} indices given away",
                    one.key, one.given
                );
            }
            written
        }
        Event::Reservation(Reservation { key, given, .. }) => writeln!(
            text,
            "{}\n        key {} ({}, {})",
            match given.checked_sub(1) {
                None => "an LMS key is bound to this journal".to_owned(),
                Some(index) => format!("index {index} is reserved"),
            },
            key.id,
            key.algorithm,
            clean(&key.custody)
        ),
        Event::End => writeln!(text, "end"),
        Event::Refusal(refusal) => writeln!(text, "refused {}: {}", refusal.number, clean(&refusal.what)),
        Event::Signature(Signed { what, key, .. }) => writeln!(
            text,
            "{} {}\n        digest {}\n        key {} ({}, {})",
            what.object,
            clean(&what.subject),
            what.digest,
            key.id,
            key.algorithm,
            clean(&key.custody)
        ),
        _ => writeln!(text, "?"),
    };
    let by = [&entry.by.operator, &entry.by.user, &entry.by.host];
    let by: Vec<String> = by.into_iter().flatten().map(|part| clean(part)).collect();
    if !by.is_empty() {
        let _ = writeln!(text, "        by {}", by.join(", "));
    }
    if let Some(why) = &entry.why {
        let _ = writeln!(text, "        why {}", clean(why));
    }
    for (name, fact) in &entry.facts {
        let _ = writeln!(text, "        {} {}", clean(name), clean(fact));
    }
    if let Some(torn) = &entry.torn {
        let _ = writeln!(text, "        behind {} bytes torn by a crash", torn.bytes);
    }
}

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    filter: Filter,
    /// How
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One array of the lines' objects
    Json,
    /// RFC 4180, with a header line
    Csv,
}

impl Export {
    fn run(&self) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        let mut say = |text: String| {
            let _ = std::io::Write::write_all(&mut stdout, text.as_bytes());
        };
        let mut is_first = true;
        match self.format {
            Format::Csv => say(format!("{}\r\n", COLUMNS.join(","))),
            Format::Json => say("[".into()),
        }
        let whole = self.filter.each(&self.files.paths()?, |entry| {
            match self.format {
                Format::Csv => say(csv_row(entry)),
                Format::Json => say(format!("{}{}", if is_first { "\n" } else { ",\n" }, entry.to_value())),
            }
            is_first = false;
        });
        if self.format == Format::Json {
            say("\n]\n".into());
        }
        whole
    }
}

const COLUMNS: [&str; 16] = [
    "number",
    "time",
    "kind",
    "object",
    "subject",
    "digest",
    "key_id",
    "custody",
    "signed_sha256",
    "signature_sha256",
    "operator",
    "user",
    "host",
    "reason",
    "refusal",
    "hash",
];

fn csv_row(entry: &Entry) -> String {
    let value = entry.to_value();
    let member = |path: &str| match value.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut cells = vec![member("/number"), time_text(entry.at)];
    let rest = [
        "/kind",
        "/what/object",
        "/what/subject",
        "/what/digest",
        "/key/id",
        "/key/custody",
        "/content/sha256",
        "/signature",
        "/by/operator",
        "/by/user",
        "/by/host",
        "/why",
        "/refusal/number",
        "/hash",
    ];
    cells.extend(rest.map(member));
    let quoted: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
    format!("{}\r\n", quoted.join(","))
}

fn csv_cell(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// The name that the ended file gets
    archive: PathBuf,
    #[command(flatten)]
    place: Place,
}

impl Rotate {
    fn run(&self, out: Out) -> Result<()> {
        let journal = self.place.journal()?;
        let done = journal.rotate(now(), &self.archive)?;
        let (path, archive) = (journal.path().display(), self.archive.display());
        let text = format!(
            "{archive} is ended; {path} goes on with entry {}.\nhead {}",
            done.head.number, done.head
        );
        let document = json!({"archive": self.archive, "journal": journal.path(), "head": done.head.to_string()});
        out.result(text, &document);
        Ok(())
    }
}

const DAY_SECONDS: u64 = 86_400;

/// `YYYY-MM-DDThh:mm:ssZ` of seconds since 1970 UTC.
pub(crate) fn time_text(at: u64) -> String {
    ::release::time::utc(at)
}

fn time_from_text(text: &str) -> Result<u64, String> {
    let form = || "a time is seconds since 1970, YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ".to_owned();
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    let year: u64 = full.get(..4).and_then(|year| year.parse().ok()).ok_or_else(form)?;
    // The text of a time grows with it, so the time is found by halving.
    let (mut low, mut high) = (0, (year.max(1969) - 1969) * 366 * DAY_SECONDS);
    while low < high {
        let middle = low + (high - low) / 2;
        if time_text(middle) < full {
            low = middle + 1
        } else {
            high = middle
        }
    }
    if time_text(low) == full { Ok(low) } else { Err(form()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `date -u -d @N +%FT%TZ`.
    #[test]
    fn times_are_written_in_utc_and_read_back() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_764_053_478, "2025-11-25T06:51:18Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time_text(seconds), text);
            assert_eq!(time_from_text(text), Ok(seconds));
            assert_eq!(time_from_text(&seconds.to_string()), Ok(seconds));
        }
        assert_eq!(time_from_text("2025-11-25"), Ok(1_764_028_800));
        for bad in ["2025-02-30", "yesterday", "2025-11-25 10:00", "1969-12-31", ""] {
            assert!(time_from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(csv_cell("plain"), "plain");
        assert_eq!(csv_cell("a \"b\", c"), "\"a \"\"b\"\", c\"");
    }
}
