//! A board on the bench: its flash programmed as if installation had ended a moment ago, then one start in QEMU.

use anyhow::{Context, Result};
use codec::mcuboot::trailer::SwapType;
use engine::layout::{Area, Layout, Slots};
use engine::store::Store;
use engine::swap;
use release::board::Board as BoardFile;
use serde::Deserialize;
use sim::chance::Chance;
use sim::firmware::Programs;
use sim::fixture::{Authority, Identity, Image, Scheme};
use sim::nor::{Geometry, Nor};
use sim::qemu::{self, Board, Options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes of the program in a measured image.
const PROGRAM_BYTES: usize = 256 << 10;
/// How long a start may take, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Power is cut at a random moment of this span: from the start of QEMU until a swap of this size has ended.
const CUT_SPAN_MS: u64 = 400;

/// What a start costs.
pub(super) struct Cost {
    pub(super) instructions: u64,
    pub(super) stack_bytes: u64,
}

/// One product line with one board.
pub(super) struct Bench {
    authority: Authority,
    identity: Identity,
    header_bytes: u16,
    layout: Layout,
    geometry: Geometry,
    folder: TempDir,
}

impl Bench {
    /// A board whose image keys are of this scheme.
    pub(super) fn new(board_file: &Path, scheme: Scheme) -> Result<Bench> {
        let board = BoardFile::read(board_file)?;
        let vendor = release::image::vendor_id(&board.vendor_domain)?;
        let class = release::image::class_id(&board.model, Some(&vendor))?;
        let flash = FlashFile::read(board_file)?;
        Ok(Bench {
            authority: Authority::new(scheme),
            identity: Identity { vendor, class },
            header_bytes: board.header_size,
            layout: flash.layout(board.max_sectors)?,
            geometry: flash.geometry(),
            folder: tempfile::tempdir()?,
        })
    }

    /// Instructions and stack of a start of the confirmed image.
    pub(super) fn start(&self, programs: &Programs) -> Result<Cost> {
        self.measure(programs, &self.confirmed(programs)?)
    }

    /// Instructions and stack of a start that first swaps in a new image.
    pub(super) fn upgrade(&self, programs: &Programs) -> Result<Cost> {
        self.measure(programs, &self.staged(programs)?)
    }

    /// How often the power of a swapping board can be cut in a minute, the restart that recovers included.
    pub(super) fn cuts_per_minute(&self, programs: &Programs, span: Duration) -> Result<u64> {
        let staged = self.staged(programs)?;
        let flash = self.flash_file();
        let mut chance = Chance::new(7);
        let started = Instant::now();
        let mut cuts = 0;
        while started.elapsed() < span {
            qemu::program(&flash, 0, staged.cells())?;
            let board = Board::start(&flash, &programs.bootloader, &Options::default())?;
            std::thread::sleep(Duration::from_millis(chance.below(CUT_SPAN_MS)));
            board.cut_power();
            let mut board = Board::start(&flash, &programs.bootloader, &Options::default())?;
            board.wait_for("boot: starting ", PATIENCE)?;
            board.cut_power();
            cuts += 1;
        }
        Ok(cuts * 60_000 / (started.elapsed().as_millis() as u64).max(1))
    }

    fn measure(&self, programs: &Programs, content: &Nor) -> Result<Cost> {
        let flash = self.flash_file();
        qemu::program(&flash, 0, content.cells())?;
        let counted = Options {
            icount: Some(0),
            ..Options::default()
        };
        let mut board = Board::start(&flash, &programs.bootloader, &counted)?;
        let instructions = number(&board.wait_for("measure: instructions ", PATIENCE)?)?;
        let stack_bytes = number(&board.wait_for("measure: stack ", PATIENCE)?)?;
        board
            .wait_for("boot: starting ", PATIENCE)
            .context("the board measured a start that it refused")?;
        Ok(Cost {
            instructions,
            stack_bytes,
        })
    }

    /// Root stored, one confirmed image.
    fn confirmed(&self, programs: &Programs) -> Result<Nor> {
        let mut nor = Nor::new(self.geometry.clone());
        Store::provision(&mut nor, &self.layout, &self.authority.trust_root.build())
            .map_err(|reason| anyhow::anyhow!("the store refuses the root: {reason:?}"))?;
        nor.program(self.layout.primary.start, &self.image(programs, 1)?);
        Ok(nor)
    }

    /// The same, and another image that waits for its trial.
    fn staged(&self, programs: &Programs) -> Result<Nor> {
        let mut nor = self.confirmed(programs)?;
        let failed = |reason| anyhow::anyhow!("the flash cannot be prepared: {reason:?}");
        let slots = Slots::new(&self.layout, &nor).map_err(failed)?;
        nor.program(
            self.layout.secondary.start + slots.staging_offset(),
            &self.image(programs, 2)?,
        );
        swap::write_request(&mut nor, &slots, SwapType::Test).map_err(failed)?;
        Ok(nor)
    }

    /// An image of [`PROGRAM_BYTES`]: the application, and bytes that nothing compresses.
    fn image(&self, programs: &Programs, number: u32) -> Result<Vec<u8>> {
        let signers = std::slice::from_ref(&self.authority.image);
        let mut image = Image::new(number.into(), PROGRAM_BYTES, &self.identity, number, signers);
        image.header_len = self.header_bytes;
        let application = programs.firmware()?.bytes;
        let start = image
            .payload
            .get_mut(..application.len())
            .context("the application is too large to be measured")?;
        start.copy_from_slice(&application);
        Ok(image.build())
    }

    fn flash_file(&self) -> PathBuf {
        self.folder.path().join("flash.bin")
    }
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("`{text}` is no number"))
}

/// What the board file says about the flash.
#[derive(Deserialize)]
struct FlashFile {
    flash: Flash,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Flash {
    write_size: u32,
    sector_size: u32,
    erased: u8,
    regions: BTreeMap<String, Span>,
}

#[derive(Deserialize, Clone, Copy)]
struct Span {
    start: u32,
    size: u32,
}

impl FlashFile {
    fn read(path: &Path) -> Result<Flash> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(toml::from_str::<FlashFile>(&text)?.flash)
    }
}

impl Flash {
    /// As much of the flash as has regions.
    fn geometry(&self) -> Geometry {
        let end = self
            .regions
            .values()
            .map(|span| span.start + span.size)
            .max()
            .unwrap_or(0);
        Geometry::uniform(
            self.write_size,
            self.erased,
            self.sector_size,
            (end / self.sector_size) as usize,
        )
    }

    fn layout(&self, max_sectors: u32) -> Result<Layout> {
        let area = |name: &str| {
            let span = self
                .regions
                .get(name)
                .with_context(|| format!("the board file has no region {name}"))?;
            anyhow::Ok(Area {
                start: span.start,
                len: span.size,
            })
        };
        Ok(Layout {
            trust: [area("trust-store-a")?, area("trust-store-b")?],
            mailbox: area("mailbox")?,
            boot_log: [area("boot-log-a")?, area("boot-log-b")?],
            journal: [area("journal-a")?, area("journal-b")?],
            head: area("head")?,
            table: area("chunk-table")?,
            sealed: [area("sealed-a")?, area("sealed-b")?],
            sealed_counter: area("sealed-counter")?,
            device_key: area("device-key")?,
            entropy: area("entropy-seed")?,
            boot_update: area("bootloader-update")?,
            primary: area("primary")?,
            secondary: area("secondary")?,
            max_sectors,
        })
    }
}
