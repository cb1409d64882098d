//! How the story is told: scenes, sentences, commands as a person would type them, and what they answer.

use crate::demo::{Pace, tokens};
use crate::sh;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

const LINE_COLUMNS: usize = 100;

/// The teller: prints to the terminal and into `story.txt`.
pub(super) struct Story {
    /// Everything that the story makes; commands run here.
    pub(super) folder: PathBuf,
    pace: Pace,
    ampoule: PathBuf,
    transcript: File,
    scene: u32,
    started: Instant,
}

impl Story {
    /// Starts anew in `target/demo`; `ampoule` is the program that the commands call.
    pub(super) fn begin(pace: Pace, ampoule: PathBuf) -> Result<Story> {
        let folder = sh::target().join("demo");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let transcript = File::create(folder.join("story.txt"))?;
        Ok(Story {
            folder,
            pace,
            ampoule,
            transcript,
            scene: 0,
            started: Instant::now(),
        })
    }

    /// A new scene; waits for the reader first, unless told not to.
    pub(super) fn scene(&mut self, title: &str) -> Result<()> {
        if self.pace == Pace::WaitForReader && self.scene > 0 && io::stdin().is_terminal() {
            print!("\n   (Enter goes on) ");
            io::stdout().flush()?;
            io::stdin().lock().read_line(&mut String::new())?;
        }
        self.scene += 1;
        let title = format!("── {}. {title} ", self.scene);
        let rule = "─".repeat(LINE_COLUMNS.saturating_sub(title.chars().count()));
        self.print(&format!("\n{title}{rule}"))
    }

    /// A paragraph.
    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        let mut line = String::from("  ");
        for word in text.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > LINE_COLUMNS {
                self.print(&line)?;
                line = String::from("  ");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.print(&line)
    }

    /// Lines that the board printed, without those of QEMU.
    pub(super) fn board_says(&mut self, lines: &str) -> Result<()> {
        let by_board = |line: &&str| line.contains("boot: ") || line.contains("app: ");
        for line in lines.lines().filter(by_board) {
            self.print(&format!("     board | {}", line.trim_end()))?;
        }
        Ok(())
    }

    /// Runs `ampoule` with these words; it must succeed.
    pub(super) fn ampoule(&mut self, line: &str) -> Result<String> {
        let output = self.run(line)?;
        if !output.status.success() {
            bail!("`ampoule {line}` failed, which the story did not expect");
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `ampoule` with these words; it must be refused, and with this number.
    pub(super) fn ampoule_is_refused(&mut self, line: &str, number: u16) -> Result<()> {
        let output = self.run(line)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            bail!("`ampoule {line}` succeeded, which must never happen");
        }
        if !said
            .split(|c: char| !c.is_ascii_digit())
            .any(|digits| digits == number.to_string())
        {
            bail!("`ampoule {line}` was refused, but not with {number}");
        }
        Ok(())
    }

    /// Runs `ampoule` with these words and the digest of what it would sign, which a first run without it showed. What was
    /// not approved is not signed.
    pub(super) fn ampoule_approved(&mut self, line: &str) -> Result<String> {
        let asked = self.command(line).output()?;
        let statement = String::from_utf8_lossy(&asked.stderr).into_owned();
        if asked.status.success() || !statement.contains("2138") {
            bail!("`ampoule {line}` did not ask for approval: {statement}");
        }
        let said = |line: &str| Some(line.strip_prefix("  digest")?.trim_start_matches([':', ' ']).to_owned());
        let digest = statement.lines().find_map(said);
        self.ampoule(&format!(
            "{line} --approve {}",
            digest.context("the statement has no digest")?
        ))
    }

    /// Runs `ampoule` with these words; it must be refused, with whatever number.
    pub(super) fn ampoule_fails(&mut self, line: &str) -> Result<()> {
        if self.run(line)?.status.success() {
            bail!("`ampoule {line}` succeeded, which must never happen");
        }
        Ok(())
    }

    /// Writes a file of the story.
    pub(super) fn write(&mut self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        fs::write(self.folder.join(name), content).with_context(|| name.to_string())
    }

    /// Shows a text file of the story.
    pub(super) fn show_file(&mut self, name: &str) -> Result<()> {
        let text = String::from_utf8_lossy(&self.read(name)?).into_owned();
        self.print(&format!("   {name}:"))?;
        text.lines()
            .filter(|line| !line.is_empty())
            .try_for_each(|line| self.print(&format!("     {line}")))
    }

    /// Reads a file of the story.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.folder.join(name)).with_context(|| name.to_string())
    }

    /// The last words.
    pub(super) fn end(&mut self) -> Result<()> {
        let seconds = self.started.elapsed().as_secs();
        let folder = self
            .folder
            .strip_prefix(sh::root())
            .unwrap_or(Path::new("target/demo"))
            .display()
            .to_string();
        self.print(&format!(
            "\n── The end, after {seconds} s. Everything is in {folder}/ for inspection."
        ))
    }

    fn run(&mut self, line: &str) -> Result<Output> {
        self.print(&format!("   $ ampoule {line}"))?;
        let output = self.command(line).output()?;
        // Notes on the way first, then the result.
        for bytes in [&output.stderr, &output.stdout] {
            for line in String::from_utf8_lossy(bytes).lines() {
                self.print(&format!("     {line}"))?;
            }
        }
        Ok(output)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.ampoule);
        command
            .args(line.split_whitespace())
            .current_dir(&self.folder)
            .env("AMPOULE_JOURNAL", self.folder.join("journal.jsonl"))
            .env("AMPOULE_PKCS11_MODULE", tokens::MODULE)
            .env("SOFTHSM2_CONF", self.folder.join(tokens::CONFIGURATION))
            .stdin(Stdio::null());
        command
    }

    fn print(&mut self, line: &str) -> Result<()> {
        println!("{line}");
        writeln!(self.transcript, "{line}")?;
        Ok(())
    }
}
