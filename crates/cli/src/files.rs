//! Writing files: never over another one unless that was asked for, and never half.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ::release::input;
use keys::{Code, Error, Result};

/// Writes a new file. Errors: [`Code::FileExists`], [`Code::FileWrite`].
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(OpenOptions::new(), path, bytes)
}

/// Writes a new file that only its owner may read. Errors as [`write_new`].
pub(crate) fn write_new_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    #[allow(unused_mut, reason = "there are no modes elsewhere")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_with(options, path, bytes)
}

fn write_with(mut options: OpenOptions, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = options
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Code::FileExists.error(format!("{} exists already", path.display())),
            _ => failed(path, &error),
        })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(path, &error)
    })
}

/// Writes a file that nobody finds half written, and never over another one; one that has these bytes already is left, so
/// that a command can be repeated. Errors as [`write_new`].
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let beside = beside(path);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::hard_link(&beside, path)
    };
    let written = write();
    let _ = fs::remove_file(&beside);
    written.map_err(|error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Code::FileExists.error(format!("{} exists already", path.display())),
        _ => failed(path, &error),
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    beside.into()
}

/// Replaces a file as a whole: the old content or the new one is there, never a mix. Error: [`Code::FileWrite`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error: std::io::Error| {
        let _ = fs::remove_file(&beside);
        failed(path, &error)
    })
}

/// Changes a file that others may be changing too: `change` gets what stands in it now, and nobody else's change comes in
/// between. Errors: those of reading, of `change`, [`Code::FileWrite`].
pub(crate) fn update(path: &Path, change: impl FnOnce(Vec<u8>) -> Result<Vec<u8>>) -> Result<()> {
    // The folder is locked, because the file itself is another one after each change.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let lock = File::open(folder.unwrap_or(Path::new("."))).map_err(|error| failed(path, &error))?;
    lock.lock().map_err(|error| failed(path, &error))?;
    replace(path, &change(input::bytes(path)?)?)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Code::FileWrite.error(format!("{} cannot be written: {error}", path.display()))
}
