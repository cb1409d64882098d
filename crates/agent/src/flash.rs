//! A file that behaves like NOR flash, so that the engine's sealed storage works on Linux as it does on a board.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use engine::flash::{Flash, FlashError, Sector};
use keys::{Code, Result};
use rustix::fs::{FlockOperation, flock};

const WRITE_BYTES: u32 = 32;
const ERASED: u8 = 0xff;
/// Bytes of a sector.
pub const SECTOR_BYTES: u32 = 4096;

/// A file of whole sectors that one process uses. Each operation is on the disk before it returns.
#[derive(Debug)]
pub struct FileFlash {
    file: File,
    size: u32,
}

impl FileFlash {
    /// Opens the file and, where it is new or was cut off while it was made, fills it with erased bytes. Mode 0600.
    ///
    /// Error: [`Code::VaultStorage`], also where another process has it open.
    pub fn open(path: &Path, sectors: u32) -> Result<FileFlash> {
        let failed = |error: std::io::Error| Code::VaultStorage.error(format!("{}: {error}", path.display()));
        let mut open = OpenOptions::new();
        let file = open
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Code::VaultStorage.error(format!("another program uses {}", path.display())))?;
        let size = sectors * SECTOR_BYTES;
        let len = file.metadata().map_err(failed)?.len();
        if len < size.into() {
            // Nothing was written to the flash before all of it was there.
            file.write_all_at(&vec![ERASED; size as usize], 0)
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
        }
        Ok(FileFlash { file, size })
    }

    fn put(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let done = self
            .file
            .write_all_at(bytes, address.into())
            .and_then(|()| self.file.sync_data());
        done.map_err(|_| FlashError::Device)
    }

    fn holds(&self, address: u32, len: usize) -> Result<(), FlashError> {
        let end = u64::from(address) + len as u64;
        if end <= self.size.into() {
            Ok(())
        } else {
            Err(FlashError::Misuse)
        }
    }
}

impl Flash for FileFlash {
    fn write_size(&self) -> u32 {
        WRITE_BYTES
    }

    fn erased(&self) -> u8 {
        ERASED
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn sector(&self, address: u32) -> Option<Sector> {
        let start = address - address % SECTOR_BYTES;
        let len = SECTOR_BYTES;
        (address < self.size).then_some(Sector { start, len })
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        self.holds(address, out.len())?;
        self.file
            .read_exact_at(out, address.into())
            .map_err(|_| FlashError::Device)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.holds(address, bytes.len())?;
        if !address.is_multiple_of(WRITE_BYTES) || !bytes.len().is_multiple_of(WRITE_BYTES as usize) {
            return Err(FlashError::Misuse);
        }
        let mut there = vec![0; bytes.len()];
        self.read(address, &mut there)?;
        // As a chip with error correction: a unit is written once between two erases.
        match there.iter().all(|byte| *byte == ERASED) {
            true => self.put(address, bytes),
            false => Err(FlashError::Misuse),
        }
    }

    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        match self.sector(sector.start) == Some(sector) {
            true => self.put(sector.start, &[ERASED; SECTOR_BYTES as usize]),
            false => Err(FlashError::Misuse),
        }
    }
}
