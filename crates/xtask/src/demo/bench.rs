//! The board of the story: QEMU, its flash file, and its serial port under a name that stays.

use super::story::Story;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sim::qemu::{self, Board, FLASH_BYTES, Options, SmpLine};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a single step of the board may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long the board is left alone before its flash is compared.
const SETTLE: Duration = Duration::from_millis(200);
/// What an erased byte of this board's flash reads as.
const ERASED: u8 = 0xff;
/// Share of the changed sectors at which the power is cut: one of so many.
const CUT_AT_ONE_OF: usize = 3;

/// The board and where its parts are.
pub(super) struct Bench {
    folder: PathBuf,
    bootloader: PathBuf,
    board: Option<Board>,
    /// Bytes of the console that were told already.
    told: usize,
    primary: Span,
    sector_bytes: usize,
}

#[derive(Deserialize)]
struct BoardFile {
    flash: Flash,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Flash {
    sector_size: usize,
    regions: BTreeMap<String, Span>,
}

#[derive(Deserialize, Clone, Copy)]
struct Span {
    start: u64,
    size: usize,
}

impl Bench {
    /// A board that is off, with erased flash.
    pub(super) fn new(story: &Story, board_file: &Path, bootloader: PathBuf) -> Result<Bench> {
        let file: BoardFile = toml::from_str(&fs::read_to_string(board_file)?)?;
        Ok(Bench {
            folder: story.folder.clone(),
            bootloader,
            board: None,
            told: 0,
            primary: *file
                .flash
                .regions
                .get("primary")
                .context("the board file has no primary slot")?,
            sector_bytes: file.flash.sector_size,
        })
    }

    /// Starts the board; its serial port is `board.port` in the story's folder.
    pub(super) fn power_on(&mut self) -> Result<()> {
        let options = Options {
            smp: SmpLine::Pty,
            log: Some(self.folder.join("console.txt")),
            ..Options::default()
        };
        let board = Board::start(&self.flash(), &self.bootloader, &options)?;
        let port = self.folder.join("board.port");
        if port.is_symlink() {
            fs::remove_file(&port)?;
        }
        symlink(board.pty(), &port)?;
        self.board = Some(board);
        self.told = 0;
        Ok(())
    }

    /// Waits until the console has said all of this, one after the other, and tells everything that it said.
    pub(super) fn wait(&mut self, story: &mut Story, texts: &[&str]) -> Result<()> {
        let board = self.board.as_mut().context("the board is off")?;
        for text in texts {
            board.wait_for(text, PATIENCE)?;
        }
        let console = board.console();
        story.board_says(console.get(self.told..).unwrap_or_default())?;
        self.told = console.len();
        Ok(())
    }

    /// Offers a file: it must be refused with this number, and all flash must stay as it is.
    pub(super) fn refuses(&mut self, story: &mut Story, file: &str, number: u16) -> Result<()> {
        std::thread::sleep(SETTLE);
        let before = self.all_flash()?;
        story.ampoule_is_refused(&format!("device update --unchecked {file} --port board.port"), number)?;
        std::thread::sleep(SETTLE);
        if self.all_flash()? != before {
            bail!("{file} was refused, and yet the flash has changed");
        }
        Ok(())
    }

    /// The bytes of the primary slot.
    pub(super) fn primary(&self) -> Result<Vec<u8>> {
        Ok(qemu::read_back(&self.flash(), self.primary.start, self.primary.size)?)
    }

    /// Cuts the power as soon as a part of the sectors has moved; says how many had when it was off, and of how many.
    pub(super) fn cut_power_in_swap(&mut self, before: &[u8]) -> Result<(usize, usize)> {
        let board = self.board.take().context("the board is off")?;
        let is_written = |sector: &&[u8]| sector.iter().any(|byte| *byte != ERASED);
        let used = before.chunks(self.sector_bytes).take_while(is_written).count();
        let deadline = Instant::now() + PATIENCE;
        while self.changed(before)? * CUT_AT_ONE_OF < used {
            if Instant::now() > deadline {
                bail!("the board did not begin to swap");
            }
        }
        board.cut_power();
        Ok((self.changed(before)?, used))
    }

    fn changed(&self, before: &[u8]) -> Result<usize> {
        let now = self.primary()?;
        let pairs = before.chunks(self.sector_bytes).zip(now.chunks(self.sector_bytes));
        Ok(pairs.filter(|(before, now)| before != now).count())
    }

    fn all_flash(&self) -> Result<Vec<u8>> {
        Ok(qemu::read_back(&self.flash(), 0, FLASH_BYTES as usize)?)
    }

    fn flash(&self) -> PathBuf {
        self.folder.join("flash.bin")
    }
}
