//! Where a key is: the one notation that every command takes.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The place of a key.
///
/// `pkcs11:` starts a URI of RFC 7512, `service:` names a signing service, `file:` a file; anything else is the path of a
/// file too (a file whose name starts with one of the schemes is written `./pkcs11:...`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum KeyUri {
    /// A key file.
    File(PathBuf),
    /// A key in a token; the whole URI.
    Pkcs11(String),
    /// A key behind a signing service; the whole URI.
    Service(String),
}

impl KeyUri {
    /// The file, where it is one.
    pub fn as_file(&self) -> Option<&Path> {
        match self {
            KeyUri::File(path) => Some(path),
            _ => None,
        }
    }
}

impl FromStr for KeyUri {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some(("pkcs11", _)) => KeyUri::Pkcs11(text.to_owned()),
            Some(("service", _)) => KeyUri::Service(text.to_owned()),
            Some(("file", path)) => KeyUri::File(path.into()),
            _ => KeyUri::File(text.into()),
        })
    }
}

impl fmt::Display for KeyUri {
    /// As it was given, but a file without its scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyUri::File(path) => write!(f, "{}", path.display()),
            KeyUri::Pkcs11(uri) | KeyUri::Service(uri) => f.write_str(uri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_recognised_and_paths_stay_paths() {
        let uri = |text: &str| text.parse::<KeyUri>().unwrap();
        assert_eq!(uri("keys/a.pem"), KeyUri::File("keys/a.pem".into()));
        assert_eq!(uri("file:keys/a.pem"), KeyUri::File("keys/a.pem".into()));
        assert_eq!(uri("./pkcs11:a"), KeyUri::File("./pkcs11:a".into()));
        assert_eq!(
            uri("pkcs11:token=a;object=b"),
            KeyUri::Pkcs11("pkcs11:token=a;object=b".into())
        );
        assert_eq!(
            uri("service:/run/a.sock"),
            KeyUri::Service("service:/run/a.sock".into())
        );
        assert_eq!(uri("pkcs11:token=a").to_string(), "pkcs11:token=a");
    }
}
