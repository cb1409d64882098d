//! A bench: a product line with its keys, its programs, and one board on the table.

use std::path::{Path, PathBuf};

use codec::smp::Request;
use codec::smp::client::Destination;
use release::board;
use tempfile::TempDir;

use crate::firmware::{Build, Programs};
use crate::fixture::{Authority, Identity, Image, Release, Scheme};
use crate::qemu::{Board, Options, QemuError};
use crate::smp::{SmpClient, SmpError};

/// Bytes of a chunk in the releases that a bench makes.
const CHUNK_BYTES: usize = 4096;

/// A product line, its programs, and one board.
pub struct Bench {
    /// Who may sign.
    pub authority: Authority,
    /// What the board is.
    pub identity: Identity,
    /// The board's flash; it survives every power cut.
    pub flash: PathBuf,
    /// The bootloader that the board starts with.
    pub bootloader: PathBuf,
    header_len: u16,
    _folder: TempDir,
}

impl Bench {
    /// An erased board, and the programs of this build.
    pub fn new(scheme: Scheme, build: &Build) -> Result<(Bench, Programs), QemuError> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards/mps2-an386.toml");
        let other = |e: &dyn std::fmt::Display| QemuError::new(format!("{}: {e}", file.display()));
        let board = board::Board::read(&file).map_err(|e| other(&e))?;
        let vendor = release::identity::vendor_id(&board.vendor_domain);
        let class = release::identity::class_id(&vendor, &board.model);
        let programs = build.run()?;
        let folder = tempfile::tempdir().map_err(|e| QemuError::new(format!("cannot make a folder: {e}")))?;
        let bench = Bench {
            authority: Authority::new(scheme),
            identity: Identity { vendor, class },
            flash: folder.path().join("flash.bin"),
            bootloader: programs.bootloader.clone(),
            header_len: board.header_size,
            _folder: folder,
        };
        Ok((bench, programs))
    }

    /// Switches the board on.
    pub fn start(&self, options: &Options) -> Result<Board, QemuError> {
        Board::start(&self.flash, &self.bootloader, options)
    }

    /// Bytes of the header of an image for this board.
    pub fn header_len(&self) -> u16 {
        self.header_len
    }

    /// A signed image of an application, `len` bytes long without its TLVs; 0 = as long as it is.
    pub fn image(
        &self,
        programs: &Programs,
        version: (u8, u8, u16),
        counter: u32,
        len: usize,
    ) -> Result<Vec<u8>, QemuError> {
        let firmware = programs.firmware()?;
        let signers = &self.authority.image_signers();
        // What follows the program is never executed; it only has to be hashed and moved.
        let filling = len.saturating_sub(usize::from(self.header_len) + firmware.bytes.len());
        let mut image = Image::new(u64::from(version.0), filling, &self.identity, counter, signers);
        image.header_len = self.header_len;
        image.payload.splice(0..0, firmware.bytes);
        image.version = (version.0, version.1, version.2, 0);
        Ok(image.build())
    }

    /// A release of an image.
    pub fn release(&self, sequence: i64, image: &[u8], counter: u32) -> Vec<u8> {
        let mut release: Release = self.authority.release(sequence, image, counter);
        release.device = self.identity;
        release.chunk = Some(CHUNK_BYTES);
        release.build()
    }

    /// What a factory does over the wire with an erased board that runs: root, image, reset.
    pub fn provision(&self, board: &mut Board, image: &[u8]) -> Result<(), SmpError> {
        let mut smp = SmpClient::new(board.smp());
        smp.upload(Destination::Root, &self.authority.trust_root.build())?;
        smp.upload(Destination::Image, image)?;
        smp.tell(&Request::Reset {
            force: false,
            boot_mode: 0,
        })
    }
}
