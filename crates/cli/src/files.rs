//! Writing files: never over another one unless that was asked for, and never half.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

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

/// Replaces a file as a whole: the old content or the new one is there, never a mix. Error: [`Code::FileWrite`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let written = fs::write(beside, bytes).and_then(|()| fs::rename(beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(beside);
        failed(path, &error)
    })
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Code::FileWrite.error(format!("{} cannot be written: {error}", path.display()))
}
