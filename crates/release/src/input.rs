//! Reading the files that a person names, within limits.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use keys::{Code, Result};

/// Bytes of a file with firmware or a release, at most.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a text file (recipe, board), at most.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;

/// The bytes of a file. Errors: [`Code::FileMissing`], [`Code::FileRead`], [`Code::FileTooLarge`].
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    limited(path, FILE_BYTES_MAX)
}

/// The text of a file. Errors: as [`bytes`], and [`Code::FileRead`] when it is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    String::from_utf8(limited(path, TEXT_BYTES_MAX)?)
        .map_err(|_| Code::FileRead.error(format!("{} is not UTF-8 text", path.display())))
}

fn limited(path: &Path, max: u64) -> Result<Vec<u8>> {
    let name = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Code::FileMissing.error(format!("{name} does not exist")),
        _ => Code::FileRead.error(format!("{name} cannot be read: {error}")),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(Code::FileTooLarge.error(format!("{name} is longer than {max} bytes")));
    }
    Ok(bytes)
}
