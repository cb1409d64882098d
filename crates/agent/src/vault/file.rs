//! A vault in a file, for development: whoever copies the file has the device's secret and key, and nobody notices.

use std::path::{Path, PathBuf};

use codec::Reason;
use engine::counter::FlashCounter;
use engine::layout::Area;
use keys::file::{FileKey, LockedKey, generate};
use keys::{Code, Error, Passphrase, Result, SignatureAlgorithm};
use trust::{KeyVault, UniqueKey};
use zeroize::Zeroizing;

use crate::fields;
use crate::flash::FileFlash;
use crate::policy::to_hex;
use crate::secrets::DeviceCounter;

/// The file of the secret, in the vault's folder.
pub const SECRET_FILE: &str = "vault.key";
const MARK: &[u8; 8] = b"AMPVLT-1";

/// A vault in a file.
pub struct FileVault {
    folder: PathBuf,
    key: UniqueKey,
}

impl FileVault {
    /// A new vault in this folder. Errors: [`Code::VaultExists`], [`Code::VaultStorage`], [`Code::NoEntropy`].
    pub fn create(folder: &Path) -> Result<FileVault> {
        let secret = crate::vault::random()?;
        fields::write_new(&folder.join(SECRET_FILE), &fields::to_bytes(MARK, &[&secret[..]]))?;
        FileVault::open(folder)
    }

    /// The vault in this folder. Errors: [`Code::VaultMissing`], [`Code::VaultDamaged`] (also where others may read it),
    /// [`Code::VaultStorage`].
    pub fn open(folder: &Path) -> Result<FileVault> {
        let bytes = fields::read(&folder.join(SECRET_FILE))?;
        let damaged = || Code::VaultDamaged.error(format!("{SECRET_FILE} holds no secret"));
        let [secret] = fields::parse(MARK, &bytes).ok_or_else(damaged)?;
        let secret = Zeroizing::new(secret);
        let secret: [u8; 32] = secret[..].try_into().map_err(|_| damaged())?;
        Ok(FileVault {
            folder: folder.to_path_buf(),
            key: UniqueKey::new(secret),
        })
    }

    /// The device's key of this name, made at its first use: a key file that the vault's secret encrypts.
    ///
    /// Errors: those of [`LockedKey`] and [`FileKey::save_new`]; 1103.
    pub fn device_key(&mut self, name: &str) -> Result<FileKey> {
        let path = self.folder.join(format!("key-{name}.pem"));
        let mut secret = Zeroizing::new([0; 32]);
        let label = format!("amp-agent-1 key {name}");
        self.derive(label.as_bytes(), &mut secret[..])
            .map_err(|reason| Error::refused(SECRET_FILE, reason))?;
        let passphrase = Passphrase::new(to_hex(&secret[..]));
        if !path.exists() {
            generate(SignatureAlgorithm::Esp256)?.save_new(&path, &passphrase)?;
        }
        LockedKey::read(&path)?.unlock(Some(&passphrase))
    }

    pub(crate) fn counter(&self, area: Area, flash: &FileFlash) -> Result<DeviceCounter> {
        let counter = FlashCounter::new(area, flash).map_err(|reason| Error::refused(SECRET_FILE, reason))?;
        Ok(DeviceCounter::File(counter))
    }
}

impl KeyVault for FileVault {
    fn derive(&mut self, label: &[u8], out: &mut [u8]) -> Result<(), Reason> {
        self.key.derive(label, out)
    }

    fn destroy(&mut self) -> Result<(), Reason> {
        std::fs::remove_file(self.folder.join(SECRET_FILE)).map_err(|_| Reason::VaultFailed)?;
        self.key.destroy()
    }
}
