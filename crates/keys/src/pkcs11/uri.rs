//! URIs of RFC 7512, as far as they name a private key in a token.

use std::fmt;
use std::path::PathBuf;

use crate::{Code, Error, Result};

/// A parsed `pkcs11:` URI. What is not given matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pkcs11Uri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's manufacturer.
    pub manufacturer: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The slot's number. Numbers change when a token is plugged in elsewhere; prefer token or serial.
    pub slot_id: Option<u64>,
    /// The key's label (CKA_LABEL).
    pub object: Option<String>,
    /// The key's id (CKA_ID).
    pub id: Option<Vec<u8>>,
    /// The file of the vendor's library.
    pub module_path: Option<PathBuf>,
    /// The file whose first line is the PIN.
    pub pin_file: Option<PathBuf>,
}

impl Pkcs11Uri {
    /// Reads a URI. Unknown attributes of a vendor (`x-...`) are ignored, as RFC 7512 (section 2.3) wants.
    ///
    /// Errors: [`Code::Pkcs11Uri`]; [`Code::PinOnCommandLine`] for `pin-value`, since everybody on the machine sees
    /// arguments. No message repeats the URI's query.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text
            .strip_prefix("pkcs11:")
            .ok_or_else(|| wrong("it does not start with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Pkcs11Uri::default();
        let mut seen: Vec<&str> = Vec::new();
        for (attribute, separator_of_path) in attributes(path, ';', true).chain(attributes(query, '&', false)) {
            let (name, value) = attribute
                .split_once('=')
                .ok_or_else(|| wrong("an attribute has no value"))?;
            if seen.contains(&name) {
                return Err(wrong(&format!("the attribute {name} is given twice")));
            }
            seen.push(name);
            if separator_of_path {
                uri.take_path(name, value)?;
            } else {
                uri.take_query(name, value)?;
            }
        }
        Ok(uri)
    }

    /// The URI of the token alone, without the key in it.
    pub fn of_token(&self) -> Pkcs11Uri {
        Pkcs11Uri {
            object: None,
            id: None,
            module_path: None,
            pin_file: None,
            ..self.clone()
        }
    }

    /// The whole URI, with the files that its query names; `to_string` leaves these away.
    pub fn to_full_text(&self) -> String {
        let file = |path: &PathBuf| encoded(&path.to_string_lossy());
        let module = self
            .module_path
            .as_ref()
            .map(|path| format!("module-path={}", file(path)));
        let pin = self
            .pin_file
            .as_ref()
            .map(|path| format!("pin-source=file:{}", file(path)));
        let query: Vec<String> = [module, pin].into_iter().flatten().collect();
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{self}{separator}{}", query.join("&"))
    }

    fn take_path(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "token" => self.token = Some(decoded(value)?),
            "manufacturer" => self.manufacturer = Some(decoded(value)?),
            "serial" => self.serial = Some(decoded(value)?),
            "model" => self.model = Some(decoded(value)?),
            "object" => self.object = Some(decoded(value)?),
            "id" => self.id = Some(decoded_bytes(value)?),
            "slot-id" => self.slot_id = Some(value.parse().map_err(|_| wrong("slot-id is no number"))?),
            "type" if value == "private" => {}
            "type" => return Err(wrong("its type is not private: only private keys sign")),
            "slot-description"
            | "slot-manufacturer"
            | "library-description"
            | "library-manufacturer"
            | "library-version" => return Err(wrong(&format!("the attribute {name} is not used here"))),
            other => ignored(other)?,
        }
        Ok(())
    }

    fn take_query(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "pin-value" => return Err(Code::PinOnCommandLine.error("the URI holds a PIN, and others can read it")),
            "module-path" => self.module_path = Some(decoded(value)?.into()),
            "pin-source" => {
                let source = decoded(value)?;
                let file = source
                    .strip_prefix("file:")
                    .ok_or_else(|| wrong("its pin-source is not file:FILE"))?;
                self.pin_file = Some(file.strip_prefix("//").unwrap_or(file).into());
            }
            "module-name" => return Err(wrong("module-name means nothing here: give module-path=FILE")),
            other => ignored(other)?,
        }
        Ok(())
    }
}

impl fmt::Display for Pkcs11Uri {
    /// Without its query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            ("token", &self.token),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("model", &self.model),
            ("object", &self.object),
        ];
        let mut parts: Vec<String> = texts
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))))
            .collect();
        parts.extend(self.slot_id.map(|id| format!("slot-id={id}")));
        let id = |id: &Vec<u8>| id.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
        parts.extend(self.id.as_ref().map(|bytes| format!("id={}", id(bytes))));
        write!(f, "pkcs11:{}", parts.join(";"))
    }
}

fn attributes(text: &str, separator: char, is_path: bool) -> impl Iterator<Item = (&str, bool)> {
    text.split(separator)
        .filter(|part| !part.is_empty())
        .map(move |part| (part, is_path))
}

fn ignored(name: &str) -> Result<()> {
    match name.starts_with("x-") {
        true => Ok(()),
        false => Err(wrong(&format!("the attribute {name} is not known"))),
    }
}

fn wrong(what: &str) -> Error {
    Code::Pkcs11Uri.error(format!("this is no URI of a key in a token: {what}"))
}

fn decoded(value: &str) -> Result<String> {
    String::from_utf8(decoded_bytes(value)?).map_err(|_| wrong("a value is not UTF-8"))
}

fn decoded_bytes(value: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |c: &u8| {
                    char::from(*c)
                        .to_digit(16)
                        .ok_or_else(|| wrong("% wants two hex digits"))
                };
                ((digit(high)? << 4 | digit(low)?) as u8, after)
            }
            (b'%', _) => return Err(wrong("% wants two hex digits")),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(bytes)
}

fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_which_token_which_key_and_where_the_pin_is() {
        let uri = Pkcs11Uri::parse(
            "pkcs11:token=Release%20HSM;serial=42;object=a%3Bb;id=%01%ff;type=private;slot-id=3;x-vendor=1\
             ?module-path=/lib/a.so&pin-source=file:/run/pin&x-v=2",
        );
        let uri = uri.unwrap();
        assert_eq!(uri.token.as_deref(), Some("Release HSM"));
        assert_eq!(
            (uri.object.as_deref(), uri.id.as_deref()),
            (Some("a;b"), Some(&[1, 0xff][..]))
        );
        assert_eq!((uri.serial.as_deref(), uri.slot_id), (Some("42"), Some(3)));
        assert_eq!(uri.module_path, Some("/lib/a.so".into()));
        assert_eq!(uri.pin_file, Some("/run/pin".into()));
        let shown = uri.to_string();
        assert_eq!(
            shown,
            "pkcs11:token=Release%20HSM;serial=42;object=a%3Bb;slot-id=3;id=%01%ff"
        );
        assert_eq!(Pkcs11Uri::parse(&shown).unwrap().id, uri.id);
    }

    #[test]
    fn a_pin_on_the_command_line_is_refused_and_not_repeated() {
        let refused = Pkcs11Uri::parse("pkcs11:token=a?pin-value=271828").unwrap_err();
        assert!(refused.is(Code::PinOnCommandLine) && !refused.to_string().contains("271828"));
    }

    #[test]
    fn malformed_uris_are_refused() {
        for text in [
            "token=a",
            "pkcs11:token",
            "pkcs11:token=a;token=b",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:token=%ff",
            "pkcs11:type=cert",
            "pkcs11:slot-id=x",
            "pkcs11:tokn=a",
            "pkcs11:token=a?pin-source=|cat",
            "pkcs11:token=a?module-name=p11",
        ] {
            assert!(Pkcs11Uri::parse(text).unwrap_err().is(Code::Pkcs11Uri), "{text}");
        }
    }
}
