//! A board on the bench, prepared over the wire as any other, then started in QEMU with every instruction counted.

use anyhow::{Context, Result, anyhow};
use codec::smp::client::Destination;
use sim::bench::Bench;
use sim::chance::Chance;
use sim::firmware::{Build, Programs};
use sim::fixture::{Authority, Scheme};
use sim::qemu::{Board, Options};
use sim::smp::{SmpClient, SmpError};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a measured image without its TLVs.
const IMAGE_BYTES: usize = 256 << 10;
/// How long a step may take, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Power is cut at a random moment of this span: from the start of QEMU until a swap of this size has ended.
const CUT_SPAN_MS: u64 = 400;

/// What a start costs.
pub(super) struct Cost {
    pub(super) instructions: u64,
    pub(super) stack_bytes: u64,
}

/// A board that runs a confirmed image of [`IMAGE_BYTES`].
pub(super) struct Prepared {
    bench: Bench,
    programs: Programs,
}

impl Prepared {
    /// Provisions an erased board whose keys are of this scheme.
    pub(super) fn new(scheme: Scheme) -> Result<Prepared> {
        Self::of(Authority::new(scheme))
    }

    /// Provisions an erased board with the root of this authority.
    pub(super) fn of(authority: Authority) -> Result<Prepared> {
        let (mut bench, programs) = Bench::new(authority.scheme, &Build::default())?;
        bench.authority = authority;
        let image = bench.image(&programs, (1, 0, 0), 1, IMAGE_BYTES)?;
        let mut board = bench.start(&Options::default())?;
        board.wait_for("nothing may start", PATIENCE)?;
        bench.provision(&mut board, &image).map_err(refused)?;
        board.wait_for("app: self-test passed", PATIENCE)?;
        board.cut_power();
        Ok(Prepared { bench, programs })
    }

    /// Sends another image of the same size; it waits for the next start.
    pub(super) fn stage(&self) -> Result<()> {
        let image = self.bench.image(&self.programs, (2, 0, 0), 2, IMAGE_BYTES)?;
        let release = self.bench.release(2, &image, 2);
        let mut board = self.bench.start(&Options::default())?;
        board.wait_for("app: self-test passed", PATIENCE)?;
        let mut smp = SmpClient::new(board.smp());
        smp.upload(Destination::Image, &release).map_err(refused)?;
        smp.request_trial().map_err(refused)?;
        board.cut_power();
        Ok(())
    }

    /// Instructions and stack of the next start, up to the jump; the flash stays as it was.
    pub(super) fn start_counted(&self, bootloader: &Path) -> Result<Cost> {
        self.printed_cost(bootloader, "measure: ")
    }

    /// What this bootloader prints behind this name, in a start that succeeds.
    pub(super) fn printed_cost(&self, bootloader: &Path, name: &str) -> Result<Cost> {
        let before = fs::read(&self.bench.flash)?;
        let counted = Options {
            icount: Some(0),
            ..Options::default()
        };
        let mut board = Board::start(&self.bench.flash, bootloader, &counted)?;
        let instructions = number(&board.wait_for(&format!("{name}instructions "), PATIENCE)?)?;
        let stack_bytes = number(&board.wait_for(&format!("{name}stack "), PATIENCE)?)?;
        board
            .wait_for("boot: starting ", PATIENCE)
            .context("what was measured is no start")?;
        board.cut_power();
        fs::write(&self.bench.flash, before)?;
        Ok(Cost {
            instructions,
            stack_bytes,
        })
    }

    /// How often the power of a swapping board can be cut in a minute, the start that recovers included.
    pub(super) fn cuts_per_minute(&self, span: Duration) -> Result<u64> {
        let staged = fs::read(&self.bench.flash)?;
        let mut chance = Chance::new(7);
        let started = Instant::now();
        let mut cuts = 0;
        while started.elapsed() < span {
            fs::write(&self.bench.flash, &staged)?;
            let board = self.bench.start(&Options::default())?;
            std::thread::sleep(Duration::from_millis(chance.below(CUT_SPAN_MS)));
            board.cut_power();
            let mut board = self.bench.start(&Options::default())?;
            board.wait_for("boot: starting ", PATIENCE)?;
            board.cut_power();
            cuts += 1;
        }
        Ok(cuts * 60_000 / (started.elapsed().as_millis() as u64).max(1))
    }
}

fn refused(error: SmpError) -> anyhow::Error {
    anyhow!("the board does not take it: {error:?}")
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("`{text}` is no number"))
}
