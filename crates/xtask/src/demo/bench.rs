//! The board of the story: QEMU, its flash file, and its serial port under a name that stays.

use super::story::Story;
use anyhow::{Context, Result, bail};
use codec::mcuboot::trailer::TrailerLayout;
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
/// Share of the half steps after which the power is cut: one of so many.
const CUT_AT_ONE_OF: usize = 3;

/// The board and where its parts are.
pub(super) struct Bench {
    folder: PathBuf,
    bootloader: PathBuf,
    board: Option<Board>,
    /// Bytes of the console that were told already.
    told: usize,
    file: release::board::Board,
    primary_start: u64,
    sector_bytes: usize,
}

/// What the board file says and a release does not need to know.
#[derive(Deserialize)]
struct BoardFile {
    flash: Flash,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Flash {
    sector_size: usize,
    regions: BTreeMap<String, Region>,
}

#[derive(Deserialize)]
struct Region {
    start: u64,
}

impl Bench {
    /// A board that is off, with erased flash.
    pub(super) fn new(story: &Story, board_file: &Path, bootloader: PathBuf) -> Result<Bench> {
        let BoardFile { flash } = toml::from_str(&fs::read_to_string(board_file)?)?;
        let primary = flash
            .regions
            .get("primary")
            .context("the board file has no primary slot")?;
        Ok(Bench {
            folder: story.folder.clone(),
            bootloader,
            board: None,
            told: 0,
            file: release::board::Board::read(board_file)?,
            primary_start: primary.start,
            sector_bytes: flash.sector_size,
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

    /// Cuts the power in the middle of the swap that the board is about to begin. Says how many half steps were done, and
    /// of how many.
    pub(super) fn cut_power_in_swap(&mut self) -> Result<(usize, usize)> {
        let board = self.board.take().context("the board is off")?;
        let half_steps = self.half_steps()?;
        let of_last_swap = self.status_cells()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = self.status_cells()?;
            if done != of_last_swap && done * CUT_AT_ONE_OF > half_steps && done < half_steps {
                break;
            }
            if Instant::now() > deadline {
                bail!("the board did not begin to swap");
            }
        }
        board.cut_power();
        Ok((self.status_cells()?, half_steps))
    }

    /// Two for each sector that holds a part of the running image.
    fn half_steps(&self) -> Result<usize> {
        let slot = qemu::read_back(&self.flash(), self.primary_start, self.file.slot_size as usize)?;
        let is_written = |sector: &&[u8]| sector.iter().any(|byte| *byte != self.file.erased);
        Ok(2 * slot.chunks(self.sector_bytes).take_while(is_written).count())
    }

    /// The cells of the primary trailer that say which half steps are done.
    fn status_cells(&self) -> Result<usize> {
        let Some(trailer) = TrailerLayout::new(self.file.slot_size, self.file.write_size, self.file.max_sectors) else {
            bail!("the board file's slots have no trailer");
        };
        let cell = self.file.write_size as usize;
        let start = self.primary_start + u64::from(trailer.start());
        let cells = qemu::read_back(&self.flash(), start, trailer.status_cells() as usize * cell)?;
        let is_done = |cell: &&[u8]| cell.iter().any(|byte| *byte != self.file.erased);
        Ok(cells.chunks(cell).filter(is_done).count())
    }

    fn all_flash(&self) -> Result<Vec<u8>> {
        Ok(qemu::read_back(&self.flash(), 0, FLASH_BYTES as usize)?)
    }

    fn flash(&self) -> PathBuf {
        self.folder.join("flash.bin")
    }
}
