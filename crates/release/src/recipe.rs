//! The recipe of a release: a TOML file that a person writes and a build fills in (docs/recipe.md).
//!
//! Reading one gives a [`Recipe`] in which every value is checked and every file that it names is read, so that
//! assembling needs nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use codec::limits::{self, Limits};
use codec::plan::{COMPONENT_ID_PART_BYTES_MAX, COMPONENT_ID_PARTS_MAX, Comparison, Format, Version, VersionRule};
use keys::{Code, Error, Result};
use serde::Deserialize;

use crate::board::Board;
use crate::{identity, input};

/// A commented recipe to start from.
pub const TEMPLATE: &str = include_str!("recipe.template.toml");

/// Bytes of a chunk where the recipe does not say (profile section 16): what a microcontroller can buffer.
pub const CHUNK_BYTES_MCU: u32 = 4096;
/// The same for devices with an operating system.
pub const CHUNK_BYTES_LINUX: u32 = 262_144;

/// A checked recipe with everything that goes into the release.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The sequence number; a device takes only higher ones.
    pub sequence: u64,
    /// The version that the device records.
    pub version: Version,
    /// The same as written.
    pub version_text: String,
    /// The sequence domain; empty for the default one.
    pub domain: Vec<String>,
    /// Where people read about the release.
    pub reference_uri: Option<String>,
    /// The vendor's domain.
    pub vendor_domain: String,
    /// The model.
    pub model: String,
    /// The serial number, when the release is for a single device.
    pub serial: Option<String>,
    /// The board, when the recipe names its file.
    pub board: Option<Board>,
    /// The limits of the devices that this is for.
    pub limits: Limits,
    /// What people are shown, per language.
    pub text: BTreeMap<String, ReleaseText>,
    /// What is installed, in this order.
    pub components: Vec<Component>,
}

/// One thing to install.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its id, part by part.
    pub id: Vec<String>,
    /// What error messages call it: the file's name as written.
    pub name: String,
    /// The content of its file.
    pub bytes: Vec<u8>,
    /// What the bytes are.
    pub format: Format,
    /// The security counter, where the recipe states it.
    pub counter: Option<u32>,
    /// The oldest update engine that can install it.
    pub min_engine: Option<[u32; 3]>,
    /// What must be installed before.
    pub version_rule: Option<VersionRule>,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// `#name` of the payload in the envelope, or where else it is fetched from.
    pub uri: String,
    /// How to make a signed image of the file; absent when it is signed already or no image.
    pub sign: Option<SignOptions>,
    /// What people are shown, per language.
    pub text: BTreeMap<String, ComponentText>,
}

/// How an unsigned firmware binary becomes an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignOptions {
    /// Bytes of the image header.
    pub header_size: u16,
    /// Whether the header is put before the file; otherwise the file leaves room for it.
    pub pad_header: bool,
}

/// What people are shown about a release (profile section 10).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReleaseText {
    /// What this manifest is.
    pub manifest: Option<String>,
    /// What the update brings.
    pub update: Option<String>,
}

/// What people are shown about a component.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ComponentText {
    /// The vendor's name.
    pub vendor: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// The vendor's domain.
    pub domain: Option<String>,
    /// More about the model.
    pub model_info: Option<String>,
    /// What the component is.
    pub description: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The version that must be there before.
    pub version_required: Option<String>,
    /// The version that is there now.
    pub current_version: Option<String>,
}

impl ComponentText {
    /// The values that are there, each with its number in the text map, ascending.
    pub(crate) fn numbered(&self) -> Vec<(u64, &str)> {
        let all = [
            &self.vendor,
            &self.model,
            &self.domain,
            &self.model_info,
            &self.description,
            &self.version,
            &self.version_required,
            &self.current_version,
        ];
        (1..)
            .zip(all)
            .filter_map(|(number, value)| Some((number, value.as_deref()?)))
            .collect()
    }
}

impl Recipe {
    /// Reads a recipe and every file it names; relative paths start at the recipe's directory.
    ///
    /// Errors: [`Code::RecipeMalformed`] names the field; those of the board file and of reading files.
    pub fn read(path: &Path) -> Result<Recipe> {
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(&input::text(path)?, &path.display().to_string(), directory)
    }

    /// Takes a recipe apart; `name` is what errors call it, `directory` where relative paths start.
    pub fn parse(text: &str, name: &str, directory: &Path) -> Result<Recipe> {
        let file: File = toml::from_str(text)
            .map_err(|error| Code::RecipeMalformed.error(format!("{name}: {}", error.to_string().trim_end())))?;
        Checked { name, directory }.recipe(file)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    schema: u32,
    release: ReleaseTable,
    target: TargetTable,
    #[serde(default)]
    text: BTreeMap<String, ReleaseText>,
    #[serde(default)]
    component: Vec<ComponentTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ReleaseTable {
    sequence: u64,
    version: String,
    #[serde(default)]
    domain: Vec<String>,
    reference_uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TargetTable {
    board: Option<String>,
    vendor_domain: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    class: Option<Class>,
}

/// Which column of limits applies where no board file says more.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Class {
    Mcu,
    Linux,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ComponentTable {
    id: Vec<String>,
    file: String,
    format: FormatName,
    security_counter: Option<u32>,
    min_engine: Option<String>,
    installed_version: Option<String>,
    chunk_size: Option<u32>,
    payload: Option<String>,
    uri: Option<String>,
    sign: Option<SignTable>,
    #[serde(default)]
    text: BTreeMap<String, ComponentText>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum FormatName {
    Raw,
    McubootImage,
    BlockImage,
    Tar,
    File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SignTable {
    header_size: Option<u16>,
    #[serde(default)]
    pad_header: bool,
}

/// The one schema of recipes that this build reads.
const SCHEMA: u32 = 1;
/// Bytes of an image header where neither recipe nor board says.
const HEADER_BYTES_DEFAULT: u16 = 0x400;

/// Checks a recipe's values; errors name the field.
struct Checked<'a> {
    name: &'a str,
    directory: &'a Path,
}

impl Checked<'_> {
    fn recipe(&self, file: File) -> Result<Recipe> {
        if file.schema != SCHEMA {
            return Err(self.wrong("schema", format!("{} is unknown, expected {SCHEMA}", file.schema)));
        }
        if file.component.is_empty() {
            return Err(self.wrong("component", "a release installs at least one".into()));
        }
        let board = file
            .target
            .board
            .as_ref()
            .map(|path| Board::read(&self.directory.join(path)))
            .transpose()?;
        let vendor_domain = self.identity("vendor-domain", file.target.vendor_domain, &board, |b| &b.vendor_domain)?;
        if let Some(fault) = identity::domain_fault(&vendor_domain) {
            return Err(self.wrong("target.vendor-domain", format!("`{vendor_domain}` {fault}")));
        }
        let model = self.identity("model", file.target.model, &board, |b| &b.model)?;
        let linux = file.target.class == Some(Class::Linux);
        if linux && board.is_some() {
            return Err(self.wrong("target.class", "a board file is for microcontrollers".into()));
        }
        let limits = board
            .as_ref()
            .map_or(if linux { Limits::LINUX } else { Limits::MCU }, |board| board.limits);
        if file.release.sequence > limits::SEQ_MAX {
            return Err(self.wrong("release.sequence", format!("must be at most {}", limits::SEQ_MAX)));
        }
        let count = file.component.len();
        let context = Context {
            board: board.as_ref(),
            limits: &limits,
            linux,
            count,
        };
        let components = (file.component.into_iter().enumerate())
            .map(|(index, table)| self.component(index, table, &context))
            .collect::<Result<Vec<_>>>()?;
        Ok(Recipe {
            sequence: file.release.sequence,
            version: self.version("release.version", &file.release.version)?,
            version_text: file.release.version,
            domain: self.id("release.domain", file.release.domain)?,
            reference_uri: file.release.reference_uri,
            vendor_domain,
            model,
            serial: file.target.serial,
            board,
            limits,
            text: file.text,
            components,
        })
    }

    /// A name that the recipe states, or its board; where both do, they must agree.
    fn identity(
        &self,
        field: &str,
        stated: Option<String>,
        board: &Option<Board>,
        of_board: fn(&Board) -> &String,
    ) -> Result<String> {
        let field = format!("target.{field}");
        match (stated, board.as_ref().map(of_board)) {
            (Some(stated), Some(board)) if stated != *board => {
                Err(self.wrong(&field, format!("`{stated}` is not what the board file says, `{board}`")))
            }
            (Some(stated), _) if stated.is_empty() || !stated.is_ascii() => {
                Err(self.wrong(&field, "must be ASCII and not empty".into()))
            }
            (Some(stated), _) => Ok(stated),
            (None, Some(board)) => Ok(board.clone()),
            (None, None) => Err(self.wrong(&field, "is missing, and no board file states it".into())),
        }
    }

    fn component(&self, index: usize, table: ComponentTable, context: &Context) -> Result<Component> {
        let field = |name: &str| format!("component[{index}].{name}");
        let format = match table.format {
            FormatName::Raw => Format::Raw,
            FormatName::McubootImage => Format::McubootImage,
            FormatName::BlockImage => Format::BlockImage,
            FormatName::Tar => Format::Tar,
            FormatName::File => Format::File,
        };
        let image = format == Format::McubootImage;
        if !image && (table.security_counter.is_some() || table.sign.is_some()) {
            return Err(self.wrong(
                &field("format"),
                "only an mcuboot-image has security-counter and sign".into(),
            ));
        }
        if table.sign.is_some() && table.security_counter.is_none() {
            return Err(self.wrong(&field("security-counter"), "is needed to sign the image".into()));
        }
        let id = self.id(&field("id"), table.id)?;
        if id.is_empty() {
            return Err(self.wrong(&field("id"), "must have 1 to 4 parts".into()));
        }
        let uri = match (table.payload, table.uri) {
            (Some(_), Some(_)) => return Err(self.wrong(&field("uri"), "excludes payload".into())),
            (Some(payload), None) => self.payload(&field("payload"), payload)?,
            (None, Some(uri)) if uri.starts_with('#') => {
                return Err(self.wrong(&field("uri"), "name a payload in the envelope with payload".into()));
            }
            (None, Some(uri)) => uri,
            (None, None) => self.payload(&field("payload"), default_payload(index, context.count, &id))?,
        };
        let default_chunk = if context.linux {
            CHUNK_BYTES_LINUX
        } else {
            CHUNK_BYTES_MCU
        };
        let chunk_size = table.chunk_size.unwrap_or(default_chunk.min(context.limits.chunk_max));
        let (least, most) = (context.limits.chunk_min, context.limits.chunk_max);
        if !chunk_size.is_power_of_two() || !(least..=most).contains(&chunk_size) {
            return Err(self.wrong(
                &field("chunk-size"),
                format!("must be a power of two from {least} to {most}"),
            ));
        }
        let header_size = context.board.map_or(HEADER_BYTES_DEFAULT, |board| board.header_size);
        Ok(Component {
            id,
            bytes: input::bytes(&self.directory.join(&table.file))?,
            name: table.file,
            format,
            counter: table.security_counter,
            min_engine: table
                .min_engine
                .map(|text| self.engine(&field("min-engine"), &text))
                .transpose()?,
            version_rule: table
                .installed_version
                .map(|t| self.rule(&field("installed-version"), &t))
                .transpose()?,
            chunk_size,
            uri,
            sign: table.sign.map(|sign| SignOptions {
                header_size: sign.header_size.unwrap_or(header_size),
                pad_header: sign.pad_header,
            }),
            text: table.text,
        })
    }

    fn id(&self, field: &str, id: Vec<String>) -> Result<Vec<String>> {
        let fits = |part: &String| (1..=COMPONENT_ID_PART_BYTES_MAX).contains(&part.len());
        if id.len() > COMPONENT_ID_PARTS_MAX || !id.iter().all(fits) {
            return Err(self.wrong(field, "must have up to 4 parts of 1 to 32 bytes".into()));
        }
        Ok(id)
    }

    fn payload(&self, field: &str, name: String) -> Result<String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !limits::PAYLOAD_NAME_CHARS.contains(&name.len()) || !name.chars().all(allowed) {
            return Err(self.wrong(
                field,
                format!("`{name}` must be 4 to 31 of a-z, 0-9, dot, underscore, hyphen"),
            ));
        }
        Ok(format!("#{name}"))
    }

    fn version(&self, field: &str, text: &str) -> Result<Version> {
        let parts: Option<Vec<u64>> = text.split('.').map(number).collect();
        parts
            .filter(|parts| parts.len() <= 5)
            .and_then(|parts| Version::new(&parts))
            .ok_or_else(|| {
                self.wrong(
                    field,
                    format!("`{text}` must be 1 to 5 numbers with dots, such as 1.4.2"),
                )
            })
    }

    fn engine(&self, field: &str, text: &str) -> Result<[u32; 3]> {
        let version = self.version(field, text)?;
        let part = |index: usize| {
            version
                .parts()
                .get(index)
                .map_or(Some(0), |part| u32::try_from(*part).ok())
        };
        match (version.parts().len() <= 3, part(0), part(1), part(2)) {
            (true, Some(major), Some(minor), Some(patch)) => Ok([major, minor, patch]),
            _ => Err(self.wrong(field, format!("`{text}` must be a version such as 0.1.0"))),
        }
    }

    fn rule(&self, field: &str, text: &str) -> Result<VersionRule> {
        let text = text.trim();
        let comparisons = [
            (">=", Comparison::GreaterEqual),
            ("<=", Comparison::LesserEqual),
            (">", Comparison::Greater),
            ("<", Comparison::Lesser),
            ("=", Comparison::Equal),
        ];
        let parsed = comparisons
            .into_iter()
            .find_map(|(sign, rule)| Some((rule, text.strip_prefix(sign)?)));
        let Some((comparison, version)) = parsed else {
            return Err(self.wrong(field, format!("`{text}` must be a comparison such as `>= 1.2.0`")));
        };
        Ok(VersionRule {
            comparison,
            version: self.version(field, version.trim())?,
        })
    }

    fn wrong(&self, field: &str, what: String) -> Error {
        Code::RecipeMalformed.error(format!("{}: {field}: {what}", self.name))
    }
}

/// What a component's checks need of the whole recipe.
struct Context<'a> {
    board: Option<&'a Board>,
    limits: &'a Limits,
    linux: bool,
    count: usize,
}

/// `app.bin` for the only component `app`; `00.bin`, `01.bin`, .. for several, because names must ascend in the order of
/// installation.
fn default_payload(index: usize, count: usize, id: &[String]) -> String {
    match id.last() {
        Some(last) if count == 1 => format!("{}.bin", last.to_ascii_lowercase()),
        _ => format!("{index:02}.bin"),
    }
}

/// A decimal number without sign or leading zeros.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        schema = 1
        [release]
        sequence = 7
        version = "1.4.2"
        [target]
        vendor-domain = "example.com"
        model = "AMP-DEMO-1"
        [[component]]
        id = ["app"]
        file = "app.bin"
        format = "mcuboot-image"
        security-counter = 3
    "#;

    fn parse(text: &str) -> Result<Recipe> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("app.bin"), [1, 2, 3]).unwrap();
        Recipe::parse(text, "recipe.toml", directory.path())
    }

    #[test]
    fn a_small_recipe_gets_the_defaults_of_a_microcontroller() {
        let recipe = parse(SMALL).unwrap();
        let app = &recipe.components[0];
        assert_eq!(
            (app.uri.as_str(), app.chunk_size, app.counter),
            ("#app.bin", 4096, Some(3))
        );
        assert_eq!((app.bytes.as_slice(), recipe.limits), (&[1, 2, 3][..], Limits::MCU));
        assert_eq!(recipe.version.parts(), [1, 4, 2]);
    }

    #[test]
    fn every_wrong_value_is_named() {
        for (from, to, named) in [
            ("schema = 1", "schema = 2", "schema"),
            ("sequence = 7", "sequence = 9007199254740992", "release.sequence"),
            ("\"1.4.2\"", "\"1.04.2\"", "release.version"),
            ("\"1.4.2\"", "\"1.4.2-rc\"", "release.version"),
            ("model =", "modell =", "modell"),
            ("model = \"AMP-DEMO-1\"", "", "target.model"),
            ("[\"app\"]", "[]", "component[0].id"),
            ("[\"app\"]", "[\"\"]", "component[0].id"),
            ("\"mcuboot-image\"", "\"elf\"", "format"),
            ("\"mcuboot-image\"", "\"raw\"", "component[0].format"),
            ("security-counter = 3", "chunk-size = 1000", "component[0].chunk-size"),
            ("security-counter = 3", "chunk-size = 32768", "component[0].chunk-size"),
            ("security-counter = 3", "payload = \"App.bin\"", "component[0].payload"),
            ("security-counter = 3", "payload = \"abc\"", "component[0].payload"),
            (
                "security-counter = 3",
                "installed-version = \"1.0\"",
                "component[0].installed-version",
            ),
            (
                "security-counter = 3",
                "min-engine = \"1.0.0.0\"",
                "component[0].min-engine",
            ),
            ("security-counter = 3", "sign = {}", "component[0].security-counter"),
            ("security-counter = 3", "uri = \"#app.bin\"", "component[0].uri"),
        ] {
            assert!(SMALL.contains(from), "{from}");
            let error = parse(&SMALL.replace(from, to)).unwrap_err();
            assert!(error.is(Code::RecipeMalformed), "{to}: {error}");
            assert!(error.what.contains(named), "{to}: {error}");
        }
        let missing = parse(&SMALL.replace("app.bin", "other.bin")).unwrap_err();
        assert!(missing.is(Code::FileMissing));
    }

    #[test]
    fn rules_and_engine_versions_are_read() {
        let more = "security-counter = 3\nmin-engine = \"0.2\"\ninstalled-version = \">= 1.2.0\"";
        let recipe = parse(&SMALL.replace("security-counter = 3", more)).unwrap();
        let app = &recipe.components[0];
        assert_eq!(app.min_engine, Some([0, 2, 0]));
        let rule = app.version_rule.unwrap();
        assert_eq!(
            (rule.comparison, rule.version.parts()),
            (Comparison::GreaterEqual, &[1, 2, 0][..])
        );
    }

    #[test]
    fn the_template_is_a_recipe() {
        let file: File = toml::from_str(TEMPLATE).unwrap();
        assert_eq!(file.schema, SCHEMA);
        assert_eq!(file.component.len(), 1);
    }
}
