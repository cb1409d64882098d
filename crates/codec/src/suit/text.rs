//! The severed text of a release (profile section 10): shown to people, never used for a decision.

use super::encode::write_component_id;
use super::manifest::component_id;
use super::sequence::bounded_text;
use crate::cbor::{Keys, Kind, Reader, Writer};
use crate::limits::{self, Limits};
use crate::plan::ComponentId;
use crate::{Reason, Refused};

/// Key of a language's description of the manifest.
pub const MANIFEST_DESCRIPTION: u8 = 1;
/// Key of a language's description of the update.
pub const UPDATE_DESCRIPTION: u8 = 2;
/// What the keys 1 to 8 of a component's texts mean, in order.
pub const COMPONENT_KEYS: [&str; 8] = [
    "vendor",
    "model",
    "vendor domain",
    "model info",
    "description",
    "version",
    "version required",
    "current version",
];

/// One text value and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The language tag.
    pub language: &'a str,
    /// The component it is about; none for the release as a whole.
    pub component: Option<ComponentId<'a>>,
    /// Its key: [`MANIFEST_DESCRIPTION`] or [`UPDATE_DESCRIPTION`], or 1 to 8 of [`COMPONENT_KEYS`].
    pub key: u8,
    /// The text.
    pub value: &'a str,
}

/// Decodes a text map that must fill `bytes` (the content of envelope key 23) and shows each value to `visit`, in order.
///
/// Refused: 101 for another structure, keys 3 and 4 of a language among it; 105 `TEXT_MAX` and `TEXT_VALUE_MAX`; 102 to
/// 104. Values seen before a refusal are not to be trusted.
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits, mut visit: impl FnMut(Entry<'a>)) -> Result<(), Refused> {
    limits::at_most(bytes.len() as u64, limits.text_max.into(), "TEXT_MAX")?;
    let mut reader = Reader::new(bytes);
    let mut languages = Keys::of(&mut reader)?;
    if languages.left() == 0 {
        return Err(Reason::CborMalformed.into());
    }
    while let Some(key) = languages.next(&mut reader)? {
        let language = Reader::new(key).text()?;
        if !is_language(language) {
            return Err(Reason::CborMalformed.into());
        }
        decode_language(&mut reader, language, limits, &mut visit)?;
    }
    reader.end()
}

/// 2 to 8 letters, then subtags of 1 to 8 letters or digits.
fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let primary = subtags.next().unwrap_or("");
    (2..=8).contains(&primary.len())
        && primary.bytes().all(|c| c.is_ascii_alphabetic())
        && subtags.all(|tag| (1..=8).contains(&tag.len()) && tag.bytes().all(|c| c.is_ascii_alphanumeric()))
}

fn decode_language<'a>(
    reader: &mut Reader<'a>,
    language: &'a str,
    limits: &Limits,
    visit: &mut impl FnMut(Entry<'a>),
) -> Result<(), Refused> {
    let mut keys = Keys::of(reader)?;
    while let Some(key) = keys.next(reader)? {
        let mut key_reader = Reader::new(key);
        if key_reader.peek()? == Kind::Array {
            let component = component_id(&mut key_reader)?;
            decode_component(reader, language, component, limits, visit)?;
            continue;
        }
        visit(Entry {
            language,
            component: None,
            key: number(key_reader.uint()?, UPDATE_DESCRIPTION)?,
            value: value(reader, limits)?,
        });
    }
    Ok(())
}

fn decode_component<'a>(
    reader: &mut Reader<'a>,
    language: &'a str,
    component: ComponentId<'a>,
    limits: &Limits,
    visit: &mut impl FnMut(Entry<'a>),
) -> Result<(), Refused> {
    let mut keys = Keys::of(reader)?;
    while let Some(key) = keys.next(reader)? {
        visit(Entry {
            language,
            component: Some(component),
            key: number(Reader::new(key).uint()?, COMPONENT_KEYS.len() as u8)?,
            value: value(reader, limits)?,
        });
    }
    Ok(())
}

/// A key from 1 to `last`.
fn number(key: u64, last: u8) -> Result<u8, Refused> {
    match u8::try_from(key) {
        Ok(key) if (1..=last).contains(&key) => Ok(key),
        _ => Err(Reason::CborMalformed.into()),
    }
}

fn value<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<&'a str, Refused> {
    bounded_text(reader, limits.text_value_max, "TEXT_VALUE_MAX")
}

/// The texts of one language, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Language<'a> {
    /// The language tag.
    pub tag: &'a str,
    /// Key 1.
    pub manifest_description: Option<&'a str>,
    /// Key 2.
    pub update_description: Option<&'a str>,
    /// Texts per component, by key minus one, in the order of the encoded ids.
    pub components: &'a [(ComponentId<'a>, [Option<&'a str>; COMPONENT_KEYS.len()])],
}

/// Writes a text map; languages in the order of their encoded tags (shorter first, then bytewise).
pub fn write(writer: &mut Writer<'_>, languages: &[Language<'_>]) {
    writer.map(languages.len());
    for language in languages {
        let general = [language.manifest_description, language.update_description];
        writer.text(language.tag);
        writer.map(general.iter().flatten().count() + language.components.len());
        write_values(writer, &general);
        for (id, values) in language.components {
            write_component_id(writer, id, &[]);
            writer.map(values.iter().flatten().count());
            write_values(writer, values);
        }
    }
}

fn write_values(writer: &mut Writer<'_>, values: &[Option<&str>]) {
    for (key, value) in (1..).zip(values) {
        if let Some(value) = value {
            writer.uint(key).text(value);
        }
    }
}
