//! Passphrases: bytes that are wiped when dropped and never printed.

use std::fmt;

use zeroize::Zeroizing;

use crate::{Code, Result};

/// Characters that the passphrase of a new key must have at least. The file can be attacked offline, so this is more
/// than for a login (NIST SP 800-63B-4 section 3.1.1.2 demands 15 of a password that stands alone).
pub const PASSPHRASE_CHARS_MIN: usize = 15;
/// Bytes of a passphrase at most.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

/// A passphrase. Wiped when dropped; its `Debug` form hides it.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// These bytes as they are (UTF-8 by convention, as imgtool and OpenSSL do).
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Passphrase(Zeroizing::new(bytes.into()))
    }

    /// The first line of a passphrase file: up to, without, the first line feed or CR LF.
    pub fn from_first_line(mut contents: Zeroizing<Vec<u8>>) -> Self {
        let line = contents
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(contents.len());
        contents.truncate(line);
        if contents.last() == Some(&b'\r') {
            contents.pop();
        }
        Passphrase(contents)
    }

    /// The bytes, for the key derivation.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Refuses what is too short for a new key ([`Code::PassphraseTooShort`]).
    pub fn check_for_new_key(&self) -> Result<()> {
        let characters = String::from_utf8_lossy(&self.0).chars().count();
        if characters >= PASSPHRASE_CHARS_MIN && self.0.len() <= PASSPHRASE_BYTES_MAX {
            return Ok(());
        }
        let what = format!(
            "the passphrase of a new key must have {PASSPHRASE_CHARS_MIN} characters or more (and at most \
             {PASSPHRASE_BYTES_MAX} bytes); this one has {characters}"
        );
        Err(Code::PassphraseTooShort.error(what))
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        // Both were just typed by the same person; there is nobody to measure the time.
        self.0 == other.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_passphrase() {
        for text in [
            "correct horse",
            "correct horse\n",
            "correct horse\r\n",
            "correct horse\nsecond line\n",
        ] {
            let read = Passphrase::from_first_line(Zeroizing::new(text.into()));
            assert_eq!(read.as_bytes(), b"correct horse", "{text:?}");
        }
        assert_eq!(
            Passphrase::from_first_line(Zeroizing::new(b"\n".to_vec())).as_bytes(),
            b""
        );
    }

    #[test]
    fn new_keys_need_a_long_passphrase_counted_in_characters() {
        assert!(
            Passphrase::new("fourteen chars")
                .check_for_new_key()
                .unwrap_err()
                .is(Code::PassphraseTooShort)
        );
        assert!(Passphrase::new("fifteen chars !").check_for_new_key().is_ok());
        assert!(Passphrase::new("ää".repeat(7)).check_for_new_key().is_err());
        assert!(
            Passphrase::new("x".repeat(PASSPHRASE_BYTES_MAX))
                .check_for_new_key()
                .is_ok()
        );
        assert!(
            Passphrase::new("x".repeat(PASSPHRASE_BYTES_MAX + 1))
                .check_for_new_key()
                .is_err()
        );
    }

    #[test]
    fn a_passphrase_is_never_printed() {
        assert_eq!(format!("{:?}", Passphrase::new("secret")), "Passphrase(hidden)");
    }
}
