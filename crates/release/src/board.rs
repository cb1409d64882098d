//! What a release needs to know of a board file (docs/board-file.md): identity, slots, limits.

use std::path::Path;

use codec::limits::Limits;
use codec::mcuboot::trailer::TrailerLayout;
use keys::{Code, Result};
use serde::Deserialize;

use crate::{identity, input};

/// The parts of a board file that concern a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Board {
    /// The board's name.
    pub name: String,
    /// The vendor's domain.
    pub vendor_domain: String,
    /// The model, from which the class id is computed.
    pub model: String,
    /// The product line, from which the trust root's id is computed.
    pub product_line: String,
    /// Bytes of an image header.
    pub header_size: u16,
    /// Bytes of the primary slot.
    pub slot_size: u32,
    /// Bytes that the flash writes at once.
    pub write_size: u32,
    /// Sectors of a slot at most, which sizes the trailer.
    pub max_sectors: u32,
    /// The value of an erased byte.
    pub erased: u8,
    /// Bytes of the longest image that both slots can hold and swap.
    pub image_max: u32,
    /// The limits of the device's engine.
    pub limits: Limits,
    /// Names of the signature algorithms that its firmware verifies.
    pub algorithms: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    schema: u32,
    board: Hardware,
    identity: Identity,
    flash: Flash,
    image: Image,
    limits: DeviceLimits,
    #[serde(default)]
    signatures: Signatures,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signatures {
    algorithms: Vec<String>,
}

impl Default for Signatures {
    /// What every firmware of the project verifies.
    fn default() -> Self {
        Signatures {
            algorithms: vec!["p256".into(), "ed25519".into()],
        }
    }
}

/// Names that `[signatures] algorithms` may list.
const ALGORITHMS: [&str; 6] = ["p256", "ed25519", "hss-lms", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"];

#[derive(Deserialize)]
struct Hardware {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    vendor_domain: String,
    model: String,
    product_line: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Flash {
    write_size: u32,
    sector_size: u32,
    erased: u8,
    regions: Regions,
}

#[derive(Deserialize)]
struct Regions {
    primary: Span,
    secondary: Span,
}

#[derive(Deserialize)]
struct Span {
    size: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    header_size: u16,
    max_sectors: u32,
}

#[derive(Deserialize, Clone, Copy)]
struct DeviceLimits {
    head: u32,
    manifest: u32,
    chunk: u32,
    root: u32,
    list: u32,
    uris: u8,
    components: u8,
}

/// The one schema of board files that this build reads.
const SCHEMA: u32 = 1;

impl Board {
    /// Reads a board file. Errors: [`Code::FileMissing`] and others of reading; [`Code::BoardMalformed`].
    pub fn read(path: &Path) -> Result<Board> {
        Self::parse(&input::text(path)?, &path.display().to_string())
    }

    /// Takes a board file apart; `name` is what errors call it.
    pub fn parse(text: &str, name: &str) -> Result<Board> {
        let malformed = |what: &str| Code::BoardMalformed.error(format!("{name}: {what}"));
        let file: File = toml::from_str(text).map_err(|error| malformed(error.to_string().trim_end()))?;
        if file.schema != SCHEMA {
            return Err(malformed(&format!(
                "schema {} is unknown, expected {SCHEMA}",
                file.schema
            )));
        }
        if let Some(fault) = identity::domain_fault(&file.identity.vendor_domain) {
            return Err(malformed(&format!(
                "vendor-domain {:?} {fault}",
                file.identity.vendor_domain
            )));
        }
        if let Some(fault) = identity::product_line_fault(&file.identity.product_line) {
            return Err(malformed(&format!(
                "product-line {:?} {fault}",
                file.identity.product_line
            )));
        }
        let listed = &file.signatures.algorithms;
        if let Some(unknown) = listed.iter().find(|name| !ALGORITHMS.contains(&name.as_str())) {
            let known = ALGORITHMS.join(", ");
            return Err(malformed(&format!("signature algorithm {unknown} is none of {known}")));
        }
        let image_max = file
            .image_max()
            .ok_or_else(|| malformed("the slots cannot hold an image and its trailer"))?;
        Ok(Board {
            name: file.board.name,
            vendor_domain: file.identity.vendor_domain,
            model: file.identity.model,
            product_line: file.identity.product_line,
            header_size: file.image.header_size,
            slot_size: file.flash.regions.primary.size,
            write_size: file.flash.write_size,
            max_sectors: file.image.max_sectors,
            erased: file.flash.erased,
            image_max,
            limits: file.limits.lower(Limits::MCU),
            algorithms: file.signatures.algorithms,
        })
    }
}

impl File {
    /// The longest image that fits before the trailer of either slot, one sector of the secondary left free (format
    /// sheet, section 6).
    fn image_max(&self) -> Option<u32> {
        let sector = self.flash.sector_size;
        let usable = |slot: &Span| {
            let trailer = TrailerLayout::new(slot.size, self.flash.write_size, self.image.max_sectors)?;
            Some(trailer.start().checked_div(sector)? * sector)
        };
        let primary = usable(&self.flash.regions.primary)?;
        let secondary = usable(&self.flash.regions.secondary)?.checked_sub(sector)?;
        Some(primary.min(secondary)).filter(|max| *max > 0)
    }
}

impl DeviceLimits {
    /// The limits of a column, lowered to what this device says; a device cannot raise any.
    fn lower(self, column: Limits) -> Limits {
        Limits {
            head_max: column.head_max.min(self.head),
            manifest_max: column.manifest_max.min(self.manifest),
            chunk_max: column.chunk_max.min(self.chunk),
            root_max: column.root_max.min(self.root),
            list_max: column.list_max.min(self.list),
            uris_max: column.uris_max.min(self.uris),
            components_max: column.components_max.min(self.components),
            ..column
        }
    }
}
