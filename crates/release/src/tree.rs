//! What a file says, as a tree: printed with indentation for a person, as JSON for a script.

use std::fmt::{self, Write};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// One value with a name for each of its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tree {
    /// A sentence, a name, a number with its meaning.
    Text(String),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Bytes; hexadecimal in both forms.
    Bytes(Vec<u8>),
    /// Several of a kind.
    List(Vec<Tree>),
    /// Named parts, in the order of the file.
    Fields(Vec<(String, Tree)>),
}

/// Bytes of one line of a person's view; JSON always has all.
const LINE_BYTES: usize = 32;
/// Bytes that a person's view shows of one value.
const SHOWN_BYTES: usize = 96;

impl Tree {
    /// An empty list of named parts, to be filled with [`Tree::with`].
    pub fn fields() -> Tree {
        Tree::Fields(Vec::new())
    }

    /// The same with one more named part.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Tree>) -> Tree {
        if let Tree::Fields(fields) = &mut self {
            fields.push((name.into(), value.into()));
        }
        self
    }

    /// The same with a part that may not be there.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl Into<Tree>>) -> Tree {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The part with this name.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        match self {
            Tree::Fields(fields) => fields.iter().find(|(listed, _)| listed == name).map(|(_, value)| value),
            _ => None,
        }
    }

    fn is_inline(&self) -> bool {
        match self {
            Tree::List(items) => items.is_empty(),
            Tree::Fields(fields) => fields.is_empty(),
            Tree::Bytes(bytes) => bytes.len() <= LINE_BYTES,
            Tree::Text(text) => !text.contains('\n'),
            Tree::Number(_) | Tree::Flag(_) => true,
        }
    }

    fn write(&self, out: &mut String, indent: usize) -> fmt::Result {
        let margin = "  ".repeat(indent);
        match self {
            Tree::Fields(fields) if !fields.is_empty() => {
                let lead = fields
                    .iter()
                    .filter(|(_, value)| value.is_inline())
                    .map(|(name, _)| name.len())
                    .max();
                for (name, value) in fields {
                    if value.is_inline() {
                        let width = lead.unwrap_or(0) + 1;
                        write!(out, "{margin}{:width$} ", format!("{name}:"))?;
                        value.write(out, 0)?;
                    } else {
                        writeln!(out, "{margin}{name}:")?;
                        value.write(out, indent + 1)?;
                    }
                }
            }
            Tree::List(items) if !items.is_empty() => {
                for item in items {
                    let mut inner = String::new();
                    item.write(&mut inner, indent + 1)?;
                    // The item's first line carries the dash in its margin.
                    let first = inner.get(margin.len() + 2..).filter(|_| !item.is_inline());
                    write!(out, "{margin}- {}", first.unwrap_or(inner.trim_start()))?;
                }
            }
            Tree::Fields(_) | Tree::List(_) => writeln!(out, "{margin}none")?,
            Tree::Text(text) => {
                for line in text.lines() {
                    writeln!(out, "{margin}{}", printable(line))?;
                }
                if text.is_empty() {
                    out.push('\n');
                }
            }
            Tree::Number(number) => writeln!(out, "{margin}{number}")?,
            Tree::Flag(flag) => writeln!(out, "{margin}{}", if *flag { "yes" } else { "no" })?,
            Tree::Bytes(bytes) => {
                let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
                for line in shown.chunks(LINE_BYTES) {
                    writeln!(out, "{margin}{}", hex(line))?;
                }
                match bytes.len() {
                    0 => writeln!(out, "{margin}(no bytes)")?,
                    len if len > SHOWN_BYTES => writeln!(out, "{margin}.. {len} bytes in all")?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out, 0)?;
        f.write_str(&out)
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Text(text) => serializer.serialize_str(text),
            Tree::Number(number) => serializer.serialize_u64(*number),
            Tree::Flag(flag) => serializer.serialize_bool(*flag),
            Tree::Bytes(bytes) => serializer.serialize_str(&hex(bytes)),
            Tree::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Tree::Fields(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Tree {
        Tree::Text(text.into())
    }
}

impl From<String> for Tree {
    fn from(text: String) -> Tree {
        Tree::Text(text)
    }
}

impl From<u64> for Tree {
    fn from(number: u64) -> Tree {
        Tree::Number(number)
    }
}

impl From<u32> for Tree {
    fn from(number: u32) -> Tree {
        Tree::Number(number.into())
    }
}

impl From<usize> for Tree {
    fn from(number: usize) -> Tree {
        Tree::Number(number as u64)
    }
}

impl From<bool> for Tree {
    fn from(flag: bool) -> Tree {
        Tree::Flag(flag)
    }
}

impl From<&[u8]> for Tree {
    fn from(bytes: &[u8]) -> Tree {
        Tree::Bytes(bytes.into())
    }
}

impl From<Vec<Tree>> for Tree {
    fn from(items: Vec<Tree>) -> Tree {
        Tree::List(items)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text from outside with its control characters replaced, so that no file can drive a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_and_a_script_see_the_same() {
        let tree = Tree::fields()
            .with("kind", "example")
            .with("number", 7u64)
            .with(
                "items",
                vec![
                    Tree::fields().with("a", true).with("longer", &[0xab, 0xcd][..]),
                    Tree::fields().with("a", false),
                ],
            )
            .with("names", vec![Tree::from("x"), Tree::from("y\u{1b}[2J")])
            .with_some("absent", None::<u64>)
            .with("nothing", Vec::new());
        let person = "kind:    example\nnumber:  7\nitems:\n  - a:      yes\n    longer: abcd\n  - a: no\nnames:\n  - x\n  - \
                      y\u{fffd}[2J\nnothing: none\n";
        assert_eq!(tree.to_string(), person);
        let json = r#"{"kind":"example","number":7,"items":[{"a":true,"longer":"abcd"},{"a":false}],"names":["x","y\u001b[2J"],"nothing":[]}"#;
        assert_eq!(serde_json::to_string(&tree).unwrap(), json);
    }

    #[test]
    fn long_bytes_are_shortened_for_a_person_only() {
        let tree = Tree::from(&[0x11; 100][..]);
        assert!(tree.to_string().ends_with(".. 100 bytes in all\n"));
        assert_eq!(serde_json::to_string(&tree).unwrap().len(), 202);
    }
}
