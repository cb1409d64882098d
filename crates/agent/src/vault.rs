//! Where the device's own secret, its key and its counter are: [`trust::KeyVault`] on Linux.

pub mod file;
#[cfg(feature = "tpm")]
pub mod tpm;

use codec::Reason;
use engine::layout::Area;
use keys::Result;
use trust::KeyVault;

use crate::flash::FileFlash;
use crate::secrets::DeviceCounter;

/// An open vault.
pub enum Vault {
    /// A file: for development.
    File(file::FileVault),
    /// A TPM 2.0.
    #[cfg(feature = "tpm")]
    Tpm(tpm::TpmVault),
}

impl Vault {
    /// The counter of the sealed storage. `area` is where a file vault counts.
    pub(crate) fn counter(&self, area: Area, flash: &FileFlash) -> Result<DeviceCounter> {
        match self {
            Vault::File(vault) => vault.counter(area, flash),
            #[cfg(feature = "tpm")]
            Vault::Tpm(vault) => Ok(DeviceCounter::Tpm(vault.counter())),
        }
    }
}

impl KeyVault for Vault {
    fn derive(&mut self, label: &[u8], out: &mut [u8]) -> Result<(), Reason> {
        match self {
            Vault::File(vault) => vault.derive(label, out),
            #[cfg(feature = "tpm")]
            Vault::Tpm(vault) => vault.derive(label, out),
        }
    }

    fn destroy(&mut self) -> Result<(), Reason> {
        match self {
            Vault::File(vault) => vault.destroy(),
            #[cfg(feature = "tpm")]
            Vault::Tpm(vault) => vault.destroy(),
        }
    }
}

/// A new secret of the operating system's generator.
fn random() -> Result<zeroize::Zeroizing<[u8; 32]>> {
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    let failed = |_| keys::Code::NoEntropy.error("the operating system gave no random bytes");
    getrandom::fill(&mut secret[..]).map_err(failed)?;
    Ok(secret)
}
