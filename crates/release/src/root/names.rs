//! Names of the people behind keys: a file of the desk's own, believed by nobody else.

use std::path::Path;

use codec::cose::KeyId;
use keys::{Code, Result};
use serde::Deserialize;

use super::short;
use crate::tree::printable;
use crate::{hex, input};

/// Who holds which key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names(Vec<(Vec<u8>, String)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    keys: std::collections::BTreeMap<String, String>,
}

/// Bytes of a key id that a name must give at least.
const PREFIX_BYTES_MIN: usize = 8;

impl Names {
    /// Reads a names file. Errors: those of reading; [`Code::NamesMalformed`].
    pub fn read(path: &Path) -> Result<Names> {
        Self::parse(&input::text(path)?, &path.display().to_string())
    }

    /// Takes a names file apart; `name` is what errors call it.
    pub fn parse(text: &str, name: &str) -> Result<Names> {
        let malformed = |what: &str| Code::NamesMalformed.error(format!("{name}: {what}"));
        let file: File = toml::from_str(text).map_err(|error| malformed(error.to_string().trim_end()))?;
        if file.schema != 1 {
            return Err(malformed(&format!("schema {} is unknown, expected 1", file.schema)));
        }
        let entry = |(id, label): (String, String)| {
            let bytes = hex::bytes(&id).filter(|bytes| (PREFIX_BYTES_MIN..=32).contains(&bytes.len()));
            let bytes = bytes.ok_or_else(|| malformed(&format!("{id} is no key id (16 to 64 hexadecimal digits)")))?;
            Ok((bytes, printable(&label)))
        };
        file.keys.into_iter().map(entry).collect::<Result<_>>().map(Names)
    }

    /// The name of the key's holder.
    pub fn of(&self, id: &KeyId) -> Option<&str> {
        let named = self.0.iter().find(|(prefix, _)| id.starts_with(prefix));
        named.map(|(_, label)| label.as_str())
    }

    /// The ids that this name stands for, as prefixes.
    pub fn prefixes_of<'a>(&'a self, label: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.0.iter().filter(move |(_, listed)| listed == label);
        named.map(|(prefix, _)| prefix.as_slice())
    }

    /// What to call a key: its holder and the start of its id.
    pub fn label(&self, id: &KeyId) -> String {
        match self.of(id) {
            Some(name) => format!("{name} ({})", short(id)),
            None => short(id),
        }
    }

    /// What to call several keys.
    pub fn labels<'a>(&self, ids: impl IntoIterator<Item = &'a KeyId>) -> Vec<String> {
        ids.into_iter().map(|id| self.label(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_the_start_of_its_key_id() {
        let text = "schema = 1\n[keys]\n\"d4b31ba49a3add3f\" = \"Alice\\u001b[2J\"\n";
        let names = Names::parse(text, "names.toml").unwrap();
        let mut id = [0; 32];
        id[..8].copy_from_slice(&[0xd4, 0xb3, 0x1b, 0xa4, 0x9a, 0x3a, 0xdd, 0x3f]);
        assert_eq!(names.label(&id), "Alice\u{fffd}[2J (d4b31ba49a3add3f)");
        assert_eq!(names.label(&[7; 32]), "0707070707070707");
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "schema = 2\n[keys]\n",
            "schema = 1\n[keys]\n\"d4b3\" = \"short\"\n",
            "schema = 1\nkeys = 3",
            "schema = 1\n[people]\n",
        ] {
            assert!(Names::parse(text, "n").unwrap_err().is(Code::NamesMalformed), "{text}");
        }
    }
}
