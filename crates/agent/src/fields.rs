//! Small files of the vault: a mark, then byte strings of at most 64 KiB, each after its length.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use keys::{Code, Result};
use zeroize::Zeroizing;

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Permission bits of group and others.
const MODE_OTHERS: u32 = 0o077;

/// A mark and fields as bytes.
pub(crate) fn to_bytes(mark: &[u8; 8], fields: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(mark.to_vec());
    for field in fields {
        // What the vault writes is far below.
        bytes.extend_from_slice(&(field.len() as u16).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

/// Exactly `N` fields behind this mark.
pub(crate) fn parse<const N: usize>(mark: &[u8; 8], bytes: &[u8]) -> Option<[Vec<u8>; N]> {
    let mut rest = bytes.strip_prefix(mark)?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk::<2>()?;
        let (field, behind) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
        fields.push(field.to_vec());
        rest = behind;
    }
    fields.try_into().ok()
}

/// A file that nobody else may read. Errors: [`Code::VaultMissing`], [`Code::VaultDamaged`], [`Code::VaultStorage`].
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let shown = path.display();
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Code::VaultMissing.error(format!("{shown} does not exist")));
        }
        Err(error) => return Err(Code::VaultStorage.error(format!("{shown}: {error}"))),
    };
    let failed = |error: std::io::Error| Code::VaultStorage.error(format!("{shown}: {error}"));
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & MODE_OTHERS != 0 {
        return Err(Code::VaultDamaged.error(format!("others may read {shown} (mode {:03o})", mode & 0o777)));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes a new file, mode 0600, whole or not at all. Errors: [`Code::VaultExists`], [`Code::VaultStorage`].
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error: std::io::Error| Code::VaultStorage.error(format!("{}: {error}", path.display()));
    let half = path.with_extension("new");
    let mut open = OpenOptions::new();
    let mut file = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&half)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    // Unlike a rename, a link never replaces.
    let linked = std::fs::hard_link(&half, path);
    let _ = std::fs::remove_file(&half);
    match linked {
        Ok(()) => sync_folder(path).map_err(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Code::VaultExists.error(format!("{} exists already", path.display())))
        }
        Err(error) => Err(failed(error)),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_nothing_else_does() {
        let bytes = to_bytes(b"MARK0001", &[b"one", b"", b"three"]);
        let [one, none, three] = parse(b"MARK0001", &bytes).unwrap();
        assert_eq!(
            (&one[..], &none[..], &three[..]),
            (&b"one"[..], &b""[..], &b"three"[..])
        );
        assert!(parse::<2>(b"MARK0001", &bytes).is_none());
        assert!(parse::<3>(b"MARK0002", &bytes).is_none());
        for len in 0..bytes.len() {
            assert!(parse::<3>(b"MARK0001", &bytes[..len]).is_none(), "{len} bytes");
        }
    }
}
