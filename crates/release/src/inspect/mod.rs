//! What is this file? Explains every kind of file that the project knows, down to every field.
//!
//! Explaining is not believing: nothing here says that a file is authentic. [`crate::verify`] does.

mod files;
mod image;
mod report;
mod suit;

use codec::cbor::Reader;
use codec::roots::FileKind;
use keys::{Code, Result};

use crate::envelope::Envelope;
use crate::hex;
use crate::tree::Tree;
use crate::verify::check_content;

pub use files::moment;
pub use report::lifecycle_name;

/// What [`explain`] knows, for help texts.
pub const KINDS: &str = "envelopes (ours and any other SUIT file), MCUboot images (binary or Intel HEX), trust roots, \
                         revocation lists, time files, root chains, board files, recipes, keys";

/// Explains a file. Error: [`Code::NotAnAmpouleFile`] when it is none of [`KINDS`].
pub fn explain(bytes: &[u8]) -> Result<Tree> {
    let tree = match std::str::from_utf8(bytes) {
        Ok(text) if text.trim_start().starts_with(':') => {
            let memory = hex::read(text)?;
            let image = image::explain(&memory.bytes);
            image.map(|tree| tree.with("address in Intel HEX", format!("{:#010x}", memory.address)))
        }
        Ok(text) => files::text(text).transpose()?,
        Err(_) => None,
    };
    tree.or_else(|| image::explain(bytes))
        .or_else(|| signed_items(bytes))
        .or_else(|| envelope(bytes))
        .ok_or_else(|| Code::NotAnAmpouleFile.error("this is no kind of file that is known here"))
}

/// Any SUIT file, with what an Ampoule device says of its form.
fn envelope(bytes: &[u8]) -> Option<Tree> {
    let tree = suit::explain(&suit::parse(bytes)?)?;
    let form = Envelope::parse(bytes.to_vec()).and_then(|envelope| check_content(&envelope));
    Some(match form {
        Ok(_) => tree.with(
            "AMP-SUIT-1",
            "yes, and complete; `ampoule release verify` says who signed it",
        ),
        Err(error) => tree.with("AMP-SUIT-1", format!("no: {error}")),
    })
}

/// A root, list or time file, or several items one after the other (a root chain).
fn signed_items(bytes: &[u8]) -> Option<Tree> {
    FileKind::of(bytes)?;
    let mut reader = Reader::new(bytes);
    let mut items = Vec::new();
    while !reader.is_empty() {
        let item = reader.item().ok()?;
        items.push(files::signed(item).or_else(|| envelope(item))?);
    }
    match items.len() {
        1 => items.pop(),
        _ => Some(Tree::fields().with("kind", "root chain").with("items", items)),
    }
}

/// A device's report (its form stands in `engine::report`); `None` when these bytes are none.
pub fn explain_report(bytes: &[u8]) -> Option<Tree> {
    report::explain(&suit::parse(bytes)?)
}
