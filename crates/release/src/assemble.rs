//! From a recipe to a release that waits for its signatures.
//!
//! What is signed here is decoded again with the limits of the devices it is for, so that no release leaves this desk
//! that they would refuse for its form.

use std::collections::{BTreeMap, BTreeSet};

use codec::cbor::Writer;
use codec::limits::{INLINE_CHUNKS_MAX, Limits};
use codec::mcuboot::ImageVersion;
use codec::plan::{
    ChunkHashes, ChunkTable, ComponentId, Content, Digest, DigestAlgorithm, Format, Plan, Source, Step, Target, Uuid,
    Variant, Variants, Version,
};
use codec::suit::{encode, head, manifest};
use keys::{Code, Error, Result, Signer};
use trust::{Sha256, TrustRoot};

use crate::envelope::{Draft, TARGETS_MAX};
use crate::identity;
use crate::image::{self, Alignment, Authority, ImageOptions, SecurityCounter};
use crate::recipe::{Component, ComponentText, Recipe, ReleaseText, SignOptions};
use crate::root::to_vec;

/// Makes the release that a recipe describes. `image_signers` sign the images that the recipe wants signed here; with a
/// `root`, every image must be one that this root's devices would start.
///
/// Errors: [`Code::ReleaseInput`] an image does not say what the recipe says; those of signing and verifying images; the
/// device's own reasons where the release would exceed what its devices take.
pub fn assemble(recipe: &Recipe, image_signers: &[&dyn Signer], root: Option<&TrustRoot>) -> Result<Draft> {
    let ids = Ids::of(recipe);
    let mut notes = Vec::new();
    let prepared = recipe
        .components
        .iter()
        .map(|component| Prepared::of(component, recipe, &ids, image_signers, root, &mut notes))
        .collect::<Result<Vec<_>>>()?;
    let text = encode_text(recipe)?;
    let text_digest = text.as_ref().map(|text| value_digest(text));
    let manifest = encode_manifest(recipe, &ids, &prepared, text_digest.as_ref())?;
    let mut tables = Vec::new();
    let mut payloads = Vec::new();
    for ((ordinal, component), prepared) in (0..).zip(&recipe.components).zip(prepared) {
        if prepared.is_detached() {
            tables.push((ordinal, prepared.hashes));
        }
        if component.uri.starts_with('#') {
            payloads.push((component.uri.clone(), prepared.bytes));
        }
    }
    let draft = Draft {
        manifest,
        text,
        tables,
        payloads,
        limits: recipe.limits,
        notes,
    };
    check(&draft)?;
    Ok(draft)
}

/// The ids of profile section 11.
struct Ids {
    vendor: Uuid,
    class: Uuid,
    device: Option<Uuid>,
}

impl Ids {
    fn of(recipe: &Recipe) -> Ids {
        let vendor = identity::vendor_id(&recipe.vendor_domain);
        let class = identity::class_id(&vendor, &recipe.model);
        let device = recipe.serial.as_ref().map(|serial| identity::device_id(&class, serial));
        Ids { vendor, class, device }
    }
}

/// A component's final bytes with everything that is signed about them.
struct Prepared {
    bytes: Vec<u8>,
    digest: [u8; 32],
    counter: Option<u32>,
    hashes: Vec<u8>,
    hashes_digest: [u8; 32],
}

impl Prepared {
    fn of(
        component: &Component,
        recipe: &Recipe,
        ids: &Ids,
        signers: &[&dyn Signer],
        root: Option<&TrustRoot>,
        notes: &mut Vec<String>,
    ) -> Result<Prepared> {
        let bytes = match &component.sign {
            Some(options) => sign_image(component, options, recipe, ids, signers)?,
            None => component.bytes.clone(),
        };
        if bytes.is_empty() {
            return Err(input(component, "is empty"));
        }
        let counter = match component.format {
            Format::McubootImage => Some(check_image(&bytes, component, recipe, ids, root, notes)?),
            _ => None,
        };
        let hashes: Vec<u8> = bytes
            .chunks(component.chunk_size as usize)
            .flat_map(Sha256::of)
            .collect();
        Ok(Prepared {
            digest: Sha256::of(&bytes),
            hashes_digest: Sha256::of(&hashes),
            bytes,
            counter,
            hashes,
        })
    }

    /// Whether the chunk hashes travel beside the manifest (profile section 9).
    fn is_detached(&self) -> bool {
        (self.hashes.len() / 32) as u64 > INLINE_CHUNKS_MAX
    }

    fn table(&self, chunk_size: u32) -> ChunkTable<'_> {
        let hashes = match self.is_detached() {
            true => ChunkHashes::Detached(&self.hashes_digest),
            false => ChunkHashes::Inline(&self.hashes),
        };
        ChunkTable { chunk_size, hashes }
    }
}

fn sign_image(
    component: &Component,
    sign: &SignOptions,
    recipe: &Recipe,
    ids: &Ids,
    signers: &[&dyn Signer],
) -> Result<Vec<u8>> {
    if signers.is_empty() {
        return Err(
            input(component, "is to be signed as an image and no image key is given")
                .advise("Give --image-key KEY, or sign the image first and remove [component.sign] from the recipe."),
        );
    }
    let mut options = match &recipe.board {
        Some(board) => ImageOptions {
            alignment: Alignment::new(board.write_size, None)?,
            max_sectors: board.max_sectors,
            erased_value: board.erased,
            ..ImageOptions::new(
                image_version(component, &recipe.version)?,
                sign.header_size,
                board.slot_size,
            )
        },
        None => {
            let slot = u32::try_from(component.bytes.len())
                .unwrap_or(u32::MAX)
                .saturating_add(SLOT_SPARE_BYTES);
            ImageOptions::new(image_version(component, &recipe.version)?, sign.header_size, slot)
        }
    };
    options.pad_header = sign.pad_header;
    options.security_counter = component.counter.map(SecurityCounter::Value);
    (options.vendor, options.class) = (Some(ids.vendor), Some(ids.class));
    image::sign(&component.bytes, &options, signers)
}

/// Bytes that header, TLVs and trailer take beside the firmware at most, where no board says how large the slot is.
const SLOT_SPARE_BYTES: u32 = 256 * 1024;

/// The release's version as an image carries it: up to four parts.
fn image_version(component: &Component, version: &Version) -> Result<ImageVersion> {
    let part = |index: usize| version.parts().get(index).copied().unwrap_or(0);
    let parts = (
        u8::try_from(part(0)),
        u8::try_from(part(1)),
        u16::try_from(part(2)),
        u32::try_from(part(3)),
    );
    match parts {
        (Ok(major), Ok(minor), Ok(revision), Ok(build)) if version.parts().len() <= 4 => Ok(ImageVersion {
            major,
            minor,
            revision,
            build,
        }),
        _ => Err(input(
            component,
            "cannot carry the release's version: an image has 255.255.65535+4294967295 at most",
        )),
    }
}

/// Whether the image says what the recipe says and its device would start it; gives its security counter.
fn check_image(
    bytes: &[u8],
    component: &Component,
    recipe: &Recipe,
    ids: &Ids,
    root: Option<&TrustRoot>,
    notes: &mut Vec<String>,
) -> Result<u32> {
    let named = |mut error: Error| {
        error.what = error.what.replacen("the image", &component.name, 1);
        error
    };
    let verified = image::verify(bytes, root.map_or(Authority::Nobody, Authority::Root)).map_err(named)?;
    if let Some(reason) = verified.refused_by_devices {
        return Err(Error::refused(&component.name, reason));
    }
    if verified.image_len != bytes.len() {
        return Err(input(component, "has padding or a trailer behind the image")
            .advise("Sign it without --pad, --test and --confirm: the device writes its own trailer."));
    }
    if verified.key_hashes.is_empty() {
        return Err(Code::ImageNotSigned.error(format!("{} carries no signature", component.name)));
    }
    let says = |what: &str, image: String, recipe: String| {
        input(component, &format!("has {what} {image}, the recipe says {recipe}"))
    };
    let id = |id: Option<Uuid>| id.map_or_else(|| "none".to_owned(), |id| identity::text(&id));
    if verified.vendor != Some(ids.vendor) {
        return Err(says("vendor id", id(verified.vendor), id(Some(ids.vendor)))
            .advise("Sign the image with --vid DOMAIN --cid MODEL of the recipe."));
    }
    if verified.class != Some(ids.class) {
        return Err(says("class id", id(verified.class), id(Some(ids.class)))
            .advise("Sign the image with --vid DOMAIN --cid MODEL of the recipe."));
    }
    let Some(counter) = verified.counter else {
        return Err(input(component, "has no security counter").advise("Sign the image with --security-counter N."));
    };
    if let Some(stated) = component.counter.filter(|stated| *stated != counter) {
        return Err(says("security counter", counter.to_string(), stated.to_string()));
    }
    if let Some(board) = &recipe.board {
        if bytes.len() as u64 > u64::from(board.image_max) {
            let what = format!(
                "has {} bytes, and the board's slots take {}",
                bytes.len(),
                board.image_max
            );
            return Err(input(component, &what));
        }
        if verified.header.hdr_size != board.header_size {
            let (image, board) = (verified.header.hdr_size, board.header_size);
            return Err(input(
                component,
                &format!("has a header of {image} bytes, the board wants {board}"),
            ));
        }
    }
    if image_version(component, &recipe.version).ok() != Some(verified.header.version) {
        let ImageVersion {
            major,
            minor,
            revision,
            build,
        } = verified.header.version;
        notes.push(format!(
            "{} says version {major}.{minor}.{revision}+{build}, the release {}",
            component.name, recipe.version_text
        ));
    }
    if root.is_none() {
        notes.push(format!(
            "{} was not judged by a trust root; give --root to be sure that it boots",
            component.name
        ));
    }
    Ok(counter)
}

fn encode_manifest(
    recipe: &Recipe,
    ids: &Ids,
    prepared: &[Prepared],
    text_digest: Option<&[u8; 32]>,
) -> Result<Vec<u8>> {
    let targets = (0..)
        .zip(recipe.components.iter().zip(prepared))
        .map(|(ordinal, (component, prepared))| target(ordinal, component, prepared, ids))
        .collect::<Result<Vec<_>>>()?;
    let plan = Plan {
        domain: component_id("release.domain", &recipe.domain)?,
        sequence: recipe.sequence,
        version: Some(recipe.version),
        reference_uri: recipe.reference_uri.as_deref(),
        targets: &targets,
        text_digest: text_digest.map(|hash| sha256(hash)),
    };
    Ok(to_vec(|writer| encode::write_manifest(writer, &plan)))
}

fn target<'a>(ordinal: u8, component: &'a Component, prepared: &'a Prepared, ids: &'a Ids) -> Result<Target<'a>> {
    let source = Source {
        uri: &component.uri,
        ordinal,
        compression: None,
        table: Some(prepared.table(component.chunk_size)),
        transport: None,
        encryption: None,
    };
    let variant = Variant {
        slot: None,
        digest: sha256(&prepared.digest),
        size: prepared.bytes.len() as u64,
        content: Content {
            format: component.format,
            counter: prepared.counter,
            min_engine: component.min_engine,
        },
        source: Some(source),
    };
    Ok(Target {
        id: component_id("component.id", &component.id)?,
        vendor: &ids.vendor,
        class: &ids.class,
        device: ids.device.as_ref(),
        version_rule: component.version_rule,
        variants: Variants::new(&[variant]).ok_or_else(|| input(component, "has too many variants"))?,
        step: Step::Fetch,
    })
}

fn component_id<'a>(field: &str, parts: &'a [String]) -> Result<ComponentId<'a>> {
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    ComponentId::new(&parts)
        .ok_or_else(|| Code::RecipeMalformed.error(format!("{field}: must have up to 4 parts of 1 to 32 bytes")))
}

fn sha256(hash: &[u8; 32]) -> Digest<'_> {
    Digest {
        algorithm: DigestAlgorithm::Sha256,
        hash,
    }
}

fn input(component: &Component, what: &str) -> Error {
    Code::ReleaseInput.error(format!("{} {what}", component.name))
}

/// The severed text, encoded; nothing when the recipe has no text.
fn encode_text(recipe: &Recipe) -> Result<Option<Vec<u8>>> {
    let languages: BTreeSet<&String> = recipe
        .text
        .keys()
        .chain(recipe.components.iter().flat_map(|component| component.text.keys()))
        .collect();
    if languages.is_empty() {
        return Ok(None);
    }
    let mut entries = BTreeMap::new();
    for language in languages {
        check_language(language)?;
        let key = to_vec(|w| _ = w.text(language));
        entries.insert(key, encode_language(recipe, language)?);
    }
    let text = to_vec(|writer| write_entries(writer, &entries));
    let max = recipe.limits.text_max;
    if text.len() as u64 > u64::from(max) {
        return Err(Code::RecipeMalformed.error(format!("text: all texts together must be at most {max} bytes")));
    }
    Ok(Some(text))
}

/// The texts of one language: the release's, then those of its components.
fn encode_language(recipe: &Recipe, language: &str) -> Result<Vec<u8>> {
    let none = ReleaseText::default();
    let release = recipe.text.get(language).unwrap_or(&none);
    let mut entries = BTreeMap::new();
    for (number, value) in [(1, &release.manifest), (2, &release.update)] {
        if let Some(value) = value {
            check_value(recipe, language, value)?;
            entries.insert(to_vec(|w| _ = w.uint(number)), to_vec(|w| _ = w.text(value)));
        }
    }
    for component in &recipe.components {
        let Some(text) = component.text.get(language) else {
            continue;
        };
        let key = to_vec(|writer| {
            writer.array(component.id.len());
            for part in &component.id {
                writer.bytes(part.as_bytes());
            }
        });
        entries.insert(key, encode_component_text(recipe, language, text)?);
    }
    Ok(to_vec(|writer| write_entries(writer, &entries)))
}

fn encode_component_text(recipe: &Recipe, language: &str, text: &ComponentText) -> Result<Vec<u8>> {
    let values = text.numbered();
    for (_, value) in &values {
        check_value(recipe, language, value)?;
    }
    Ok(to_vec(|writer| {
        writer.map(values.len());
        for (number, value) in &values {
            writer.uint(*number).text(value);
        }
    }))
}

/// A map of encoded keys, which a `BTreeMap` holds in the order that deterministic CBOR demands.
fn write_entries(writer: &mut Writer<'_>, entries: &BTreeMap<Vec<u8>, Vec<u8>>) {
    writer.map(entries.len());
    for (key, value) in entries {
        writer.raw(key).raw(value);
    }
}

fn check_language(tag: &str) -> Result<()> {
    let mut parts = tag.split('-');
    let letters = |part: &str| (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphabetic());
    let subtag = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if parts.next().is_some_and(letters) && parts.all(subtag) {
        return Ok(());
    }
    Err(Code::RecipeMalformed.error(format!("text.{tag}: must be a language tag such as en or pt-BR")))
}

fn check_value(recipe: &Recipe, language: &str, value: &str) -> Result<()> {
    let max = recipe.limits.text_value_max;
    if value.len() as u64 <= u64::from(max) && !value.contains('\0') {
        return Ok(());
    }
    let what = format!("text.{language}: a text must be at most {max} bytes and without NUL");
    Err(Code::RecipeMalformed.error(what))
}

/// SHA-256 of an embedded value with its byte string header (profile section 4).
pub(crate) fn value_digest(value: &[u8]) -> [u8; 32] {
    Sha256::of_parts(&[head::value_header(value.len()).as_slice(), value])
}

/// Decodes what was written as its devices will, and compares.
fn check(draft: &Draft) -> Result<()> {
    let refused = |refused| Error::refused("the release", refused);
    let mut room = vec![Target::EMPTY; TARGETS_MAX.min(usize::from(draft.limits.components_max))];
    let plan = manifest::decode(&draft.manifest, &draft.limits, &mut room).map_err(refused)?;
    let again = to_vec(|writer| encode::write_manifest(writer, &plan));
    if again != draft.manifest {
        return Err(Code::SelfCheckFailed.error("the manifest does not decode to what was encoded"));
    }
    check_member_limits(draft, &draft.limits).map_err(refused)
}

fn check_member_limits(draft: &Draft, limits: &Limits) -> std::result::Result<(), codec::Refused> {
    let tables: usize = draft.tables.iter().map(|(_, hashes)| hashes.len()).sum();
    codec::limits::at_most(tables as u64, limits.chunk_table_max.into(), "CHUNK_TABLE_MAX")?;
    codec::limits::at_most(draft.payloads.len() as u64, limits.payloads_max.into(), "PAYLOADS_MAX")
}
