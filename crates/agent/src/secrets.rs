//! What the device keeps secret or must not be set back: names and values in [`engine::sealed`], over a file, under the
//! keys of the vault and its counter.

use std::path::Path;

use codec::Reason;
use engine::counter::{Counter, FlashCounter};
use engine::layout::{Area, Layout};
use engine::sealed::{Sealed, scratch_bytes};
use keys::{Error, Result};
use zeroize::Zeroizing;

use crate::flash::{FileFlash, SECTOR_BYTES};
use crate::vault::Vault;

/// The file of the sealed storage in the vault's folder.
pub const SEALED_FILE: &str = "sealed.bin";
/// Bytes of a value at most (the format's limit).
pub const VALUE_BYTES_MAX: usize = 1024;
/// Sectors of each half of the storage, and of the counter.
const HALF_SECTORS: u32 = 4;

/// A storage that is open; no other process can open it meanwhile.
pub struct Secrets {
    flash: FileFlash,
    sealed: Sealed<DeviceCounter>,
}

/// Where the generation is counted.
pub enum DeviceCounter {
    /// In the same file: it survives every power cut, and nobody who can write the file. For development.
    File(FlashCounter),
    /// In the TPM.
    #[cfg(feature = "tpm")]
    Tpm(crate::vault::tpm::TpmCounter),
}

impl Counter<FileFlash> for DeviceCounter {
    fn read(&mut self, flash: &mut FileFlash) -> Result<u32, Reason> {
        match self {
            DeviceCounter::File(counter) => counter.read(flash),
            #[cfg(feature = "tpm")]
            DeviceCounter::Tpm(counter) => Counter::<FileFlash>::read(counter, flash),
        }
    }

    fn advance_to(&mut self, flash: &mut FileFlash, to: u32) -> Result<(), Reason> {
        match self {
            DeviceCounter::File(counter) => counter.advance_to(flash, to),
            #[cfg(feature = "tpm")]
            DeviceCounter::Tpm(counter) => counter.advance_to(flash, to),
        }
    }
}

/// How the storage begins: with what is there, or with nothing.
type Begin = fn(&mut FileFlash, &Layout, DeviceCounter, &mut Vault) -> Result<Sealed<DeviceCounter>, Reason>;

impl Secrets {
    /// Opens the storage in this folder, and completes what a power cut left half done.
    ///
    /// Errors: 1101 the file was put back; 1102 it is damaged, or another device's; 1103 the vault or its counter;
    /// [`keys::Code::VaultStorage`].
    pub fn open(folder: &Path, vault: &mut Vault) -> Result<Secrets> {
        Secrets::by(folder, vault, Sealed::open)
    }

    /// Gives up what cannot be opened any more, and begins with nothing; the counter goes on.
    pub fn start_anew(folder: &Path, vault: &mut Vault) -> Result<Secrets> {
        Secrets::by(folder, vault, Sealed::start_anew)
    }

    fn by(folder: &Path, vault: &mut Vault, open: Begin) -> Result<Secrets> {
        let mut flash = FileFlash::open(&folder.join(SEALED_FILE), 3 * HALF_SECTORS)?;
        let layout = layout();
        let counter = vault.counter(layout.sealed_counter, &flash)?;
        let sealed = open(&mut flash, &layout, counter, vault).map_err(refused)?;
        Ok(Secrets { flash, sealed })
    }

    /// The value of a name.
    pub fn get(&mut self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let mut out = Zeroizing::new(vec![0; scratch_bytes(VALUE_BYTES_MAX)]);
        let value = self
            .sealed
            .get(&mut self.flash, name.as_bytes(), &mut out)
            .map_err(refused)?;
        Ok(value.map(|value| Zeroizing::new(value.to_vec())))
    }

    /// Sets a value: after a power cut it is this one or the one before. Errors: 105, 1016, 1103.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let mut scratch = Zeroizing::new(vec![0; scratch_bytes(VALUE_BYTES_MAX)]);
        self.sealed
            .set(&mut self.flash, name.as_bytes(), value, &mut scratch)
            .map_err(refused)
    }

    /// Removes a name and its value from the storage.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.sealed.remove(&mut self.flash, name.as_bytes()).map_err(refused)
    }

    /// How many changes were ever made.
    pub fn generation(&self) -> u32 {
        self.sealed.generation()
    }
}

fn refused(reason: Reason) -> Error {
    Error::refused(SEALED_FILE, reason)
}

/// Two halves and the development counter; the file has nothing else.
fn layout() -> Layout {
    let half = HALF_SECTORS * SECTOR_BYTES;
    let area = |number: u32| Area {
        start: number * half,
        len: half,
    };
    let none = Area { start: 0, len: 0 };
    Layout {
        trust: [none; 2],
        mailbox: none,
        boot_log: [none; 2],
        journal: [none; 2],
        head: none,
        table: none,
        sealed: [area(0), area(1)],
        sealed_counter: area(2),
        device_key: none,
        entropy: none,
        boot_update: none,
        primary: none,
        secondary: none,
        max_sectors: 0,
    }
}
