//! MCUboot images of any maker, with their TLVs and trailer.

use codec::mcuboot::header::flags;
use codec::mcuboot::tlv::{self, Area, RawTlv, Tlvs, kind};
use codec::mcuboot::trailer::magic;
use codec::mcuboot::{HEADER_BYTES, ImageHeader};
use trust::Sha256;

use crate::identity;
use crate::tree::{Tree, hex};

/// An image; `None` when the magic is missing.
pub(super) fn explain(bytes: &[u8]) -> Option<Tree> {
    let header = ImageHeader::decode(bytes.first_chunk()?).ok()?;
    Some(image(bytes, &header))
}

fn image(bytes: &[u8], header: &ImageHeader) -> Tree {
    let mut tlvs = Tlvs::new(bytes, header);
    let mut areas = [Vec::new(), Vec::new()];
    let mut problem = None;
    for entry in tlvs.by_ref() {
        match entry {
            Ok(entry) => areas[usize::from(entry.area == Area::Unprotected)].push(one_tlv(&entry)),
            Err(reason) => problem = Some(reason.refused().to_string()),
        }
    }
    let [protected, unprotected] = areas;
    let behind = bytes.get(tlvs.image_len()..).unwrap_or(&[]);
    Tree::fields()
        .with("kind", "MCUboot image")
        .with("header", header_fields(bytes, header))
        .with("signed bytes digest", signed_digest(bytes, header))
        .with("protected TLVs", protected)
        .with("unprotected TLVs", unprotected)
        .with_some("refused", problem)
        .with("image bytes", tlvs.image_len().min(bytes.len()))
        .with_some("after the image", after(behind))
}

fn header_fields(bytes: &[u8], header: &ImageHeader) -> Tree {
    let version = header.version;
    let strict = bytes.first_chunk::<HEADER_BYTES>().map(ImageHeader::parse);
    let tree = Tree::fields()
        .with(
            "version",
            format!(
                "{}.{}.{}+{}",
                version.major, version.minor, version.revision, version.build
            ),
        )
        .with("load address", format!("{:#010x}", header.load_addr))
        .with("header bytes", u32::from(header.hdr_size))
        .with("payload bytes", header.img_size)
        .with("protected TLV bytes", u32::from(header.protect_tlv_size))
        .with("flags", flag_names(header.flags));
    match strict {
        Some(Err(reason)) => tree.with("a device refuses it", reason.refused().to_string()),
        _ => tree,
    }
}

fn flag_names(set: u32) -> String {
    let names = [
        (flags::PIC, "PIC"),
        (flags::ENCRYPTED_AES128, "ENCRYPTED_AES128"),
        (flags::ENCRYPTED_AES256, "ENCRYPTED_AES256"),
        (flags::NON_BOOTABLE, "NON_BOOTABLE"),
        (flags::RAM_LOAD, "RAM_LOAD"),
        (flags::ROM_FIXED, "ROM_FIXED"),
        (flags::COMPRESSED_LZMA1, "COMPRESSED_LZMA1"),
        (flags::COMPRESSED_LZMA2, "COMPRESSED_LZMA2"),
        (flags::COMPRESSED_ARM_THUMB, "COMPRESSED_ARM_THUMB"),
    ];
    let named: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| set & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    format!("{set:#x} {}", named.join(" ")).trim_end().to_owned()
}

fn signed_digest(bytes: &[u8], header: &ImageHeader) -> Tree {
    match bytes.get(..header.signed_len() as usize) {
        Some(signed) => Tree::from(&Sha256::of(signed)[..]),
        None => Tree::from("the file ends before the signed bytes do"),
    }
}

fn one_tlv(entry: &RawTlv) -> Tree {
    let name = tlv::kind::name(entry.kind).unwrap_or("unknown");
    let meaning = match (entry.kind, entry.value) {
        (kind::SEC_CNT, [a, b, c, d]) => Some(u32::from_le_bytes([*a, *b, *c, *d]).to_string()),
        (kind::UUID_VID | kind::UUID_CID, value) => value.try_into().ok().map(|id| identity::text(&id)),
        (kind::KEYHASH, value) => value.try_into().ok().map(known_key),
        _ => None,
    };
    Tree::fields()
        .with("type", format!("{:#06x} {name}", entry.kind))
        .with_some("means", meaning)
        .with("value", entry.value)
}

fn known_key(hash: [u8; 32]) -> String {
    match keys::sample::published_name(&hash) {
        Some(name) => format!("published sample key {name}: everybody can sign with it"),
        None => format!(
            "SHA-256 of the signer's public key, {}",
            hex(hash.get(..8).unwrap_or(&[]))
        ),
    }
}

/// Padding and trailer of an image that was made as large as its slot.
fn after(behind: &[u8]) -> Option<String> {
    let (_, last) = behind.split_last_chunk::<16>()?;
    let named = [8, 16, 32].into_iter().find(|align| magic(*align) == *last);
    Some(match named {
        Some(align) => format!("{} bytes, ending in a trailer magic (alignment {align})", behind.len()),
        None => format!("{} bytes", behind.len()),
    })
}
