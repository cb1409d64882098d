//! Everything an image says, field by field, for a person and for scripts that read imgtool's `dumpinfo --format json`.
//!
//! Reads images of any maker: bounds are checked, rules are not.

use std::fmt;

use codec::mcuboot::header::flags;
use codec::mcuboot::tlv::{Dependency, Tlvs, kind};
use codec::mcuboot::trailer::MAGIC_BYTES;
use codec::mcuboot::{Area, HEADER_BYTES, ImageHeader, ImageVersion, TlvInfo, tlv, trailer};
use codec::{Reason, plan::Uuid};
use keys::{Error, Result};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::hex::text as hex;

/// Bytes that imgtool takes from the end for an encrypted image's keys, for each slot.
const KEY_BYTES: u32 = 16;

/// What an image says. Serializes to the JSON of `imgtool dumpinfo --format json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Info {
    /// Name of the file, without its directory.
    pub filename: String,
    /// The header's fields.
    pub header: HeaderInfo,
    /// Both TLV areas.
    pub tlv_area: TlvAreaInfo,
    /// What stands at the end of a padded file; nothing where the file ends with the image.
    #[serde(serialize_with = "object_or_empty")]
    pub trailer: Option<TrailerInfo>,
}

/// The header's fields.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HeaderInfo {
    magic: u32,
    load_addr: u32,
    hdr_size: u16,
    protected_tlv_size: u16,
    img_size: u32,
    flags: u32,
    version: String,
}

/// Both TLV areas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TlvAreaInfo {
    #[serde(serialize_with = "object_or_empty")]
    tlv_hdr_prot: Option<AreaInfo>,
    tlvs_prot: Vec<TlvInfoLine>,
    #[serde(serialize_with = "object_or_empty")]
    tlv_hdr: Option<AreaInfo>,
    tlvs: Vec<TlvInfoLine>,
}

/// The info header of a TLV area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct AreaInfo {
    magic: u16,
    tlv_tot: u16,
}

/// One TLV.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TlvInfoLine {
    #[serde(rename = "type")]
    kind: u16,
    type_name: &'static str,
    len: u16,
    #[serde(serialize_with = "as_hex")]
    data: Vec<u8>,
}

/// The trailer; its fields only where the magic is good.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TrailerInfo {
    #[serde(serialize_with = "as_hex")]
    magic: Vec<u8>,
    #[serde(flatten)]
    fields: Option<TrailerFields>,
}

/// The fields of a trailer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct TrailerFields {
    image_ok: u8,
    copy_done: u8,
    swap_info: u8,
    swap_size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_field_len: Option<u32>,
}

/// Reads everything that an image says. Errors: 901 no image; 903 and 908 its TLV areas cannot be followed.
pub fn dumpinfo(filename: &str, image: &[u8]) -> Result<Info> {
    read(filename, image).map_err(|reason| Error::refused(filename, reason))
}

fn read(filename: &str, image: &[u8]) -> Result<Info, Reason> {
    let bytes: &[u8; HEADER_BYTES] = image.first_chunk().ok_or(Reason::ImageMagic)?;
    let header = ImageHeader::decode(bytes)?;
    let (tlv_area, image_len) = tlv_area(image, &header)?;
    let behind = image.get(image_len..).unwrap_or(&[]);
    Ok(Info {
        filename: filename.into(),
        header: HeaderInfo {
            magic: codec::mcuboot::header::IMAGE_MAGIC,
            load_addr: header.load_addr,
            hdr_size: header.hdr_size,
            protected_tlv_size: header.protect_tlv_size,
            img_size: header.img_size,
            flags: header.flags,
            version: long_version(&header.version),
        },
        tlv_area,
        trailer: (!behind.is_empty()).then(|| trailer_info(image, &header)),
    })
}

fn tlv_area(image: &[u8], header: &ImageHeader) -> Result<(TlvAreaInfo, usize), Reason> {
    let mut area = TlvAreaInfo {
        tlv_hdr_prot: None,
        tlvs_prot: Vec::new(),
        tlv_hdr: None,
        tlvs: Vec::new(),
    };
    let mut tlvs = Tlvs::new(image, header);
    for tlv in &mut tlvs {
        let tlv = tlv?;
        let line = TlvInfoLine {
            kind: tlv.kind,
            type_name: kind::name(tlv.kind).unwrap_or("UNKNOWN"),
            len: tlv.value.len() as u16,
            data: tlv.value.to_vec(),
        };
        match tlv.area {
            Area::Protected => area.tlvs_prot.push(line),
            Area::Unprotected => area.tlvs.push(line),
        }
    }
    if header.protect_tlv_size != 0 {
        area.tlv_hdr_prot = area_info(image, header.tlv_offset());
    }
    area.tlv_hdr = area_info(image, header.signed_len());
    Ok((area, tlvs.image_len()))
}

fn area_info(image: &[u8], at: u32) -> Option<AreaInfo> {
    let bytes: &[u8; tlv::INFO_BYTES] = image.get(at as usize..)?.first_chunk()?;
    let TlvInfo { magic, tot } = TlvInfo::parse(bytes);
    Some(AreaInfo { magic, tlv_tot: tot })
}

fn trailer_info(image: &[u8], header: &ImageHeader) -> TrailerInfo {
    let magic = image.last_chunk::<MAGIC_BYTES>().copied().unwrap_or_default();
    let max_align = [8, 16, 32]
        .into_iter()
        .find(|max_align| trailer::magic(*max_align) == magic);
    TrailerInfo {
        magic: magic.to_vec(),
        fields: max_align.and_then(|max_align| trailer_fields(image, header, max_align)),
    }
}

fn trailer_fields(image: &[u8], header: &ImageHeader, max_align: u32) -> Option<TrailerFields> {
    let magic_unit = (MAGIC_BYTES as u32).max(max_align);
    let from_end = |cell: u32| image.len().checked_sub((magic_unit + cell * max_align) as usize);
    let flag = |cell| image.get(from_end(cell)?).copied();
    let swap_size: [u8; 4] = *image.get(from_end(4)?..)?.first_chunk()?;
    let encrypted = header.flags & (flags::ENCRYPTED_AES128 | flags::ENCRYPTED_AES256) != 0;
    Some(TrailerFields {
        image_ok: flag(1)?,
        copy_done: flag(2)?,
        swap_info: flag(3)?,
        swap_size: u32::from_le_bytes(swap_size),
        key_field_len: encrypted.then(|| KEY_BYTES.next_multiple_of(max_align) * 2),
    })
}

/// All four numbers, as imgtool prints them.
pub(super) fn long_version(version: &ImageVersion) -> String {
    let ImageVersion {
        major,
        minor,
        revision,
        build,
    } = version;
    format!("{major}.{minor}.{revision}+{build}")
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        writeln!(f, "{}", self.filename)?;
        writeln!(f, "header")?;
        writeln!(f, "  version             {}", header.version)?;
        writeln!(f, "  header size         {:#x}", header.hdr_size)?;
        writeln!(
            f,
            "  firmware size       {:#x} ({} bytes)",
            header.img_size, header.img_size
        )?;
        writeln!(f, "  protected TLV size  {:#x}", header.protected_tlv_size)?;
        writeln!(f, "  load address        {:#x}", header.load_addr)?;
        writeln!(
            f,
            "  flags               {:#x}{}",
            header.flags,
            flag_names(header.flags)
        )?;
        for (name, lines) in [
            ("protected TLVs (signed)", &self.tlv_area.tlvs_prot),
            ("unprotected TLVs", &self.tlv_area.tlvs),
        ] {
            writeln!(f, "{name}{}", if lines.is_empty() { ": none" } else { "" })?;
            lines.iter().try_for_each(|line| line.fmt(f))?;
        }
        match &self.trailer {
            None => write!(f, "trailer: none, the file ends with the image"),
            Some(trailer) => trailer.fmt(f),
        }
    }
}

impl fmt::Display for TlvInfoLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = self
            .meaning()
            .map_or_else(|| hex(&self.data), |meaning| format!("{} = {meaning}", hex(&self.data)));
        writeln!(
            f,
            "  {:#06x} {:<12} {:>4} bytes  {meaning}",
            self.kind, self.type_name, self.len
        )
    }
}

impl TlvInfoLine {
    /// The value in words, where it is more than bytes.
    fn meaning(&self) -> Option<String> {
        match self.kind {
            kind::SEC_CNT => Some(u32::from_le_bytes(self.data.as_slice().try_into().ok()?).to_string()),
            kind::UUID_VID | kind::UUID_CID => {
                let id: Uuid = self.data.as_slice().try_into().ok()?;
                Some(uuid::Uuid::from_bytes(id).to_string())
            }
            kind::DEPENDENCY => {
                let Dependency { image, min_version } =
                    Dependency::parse(self.data.as_slice().try_into().ok()?).ok()?;
                Some(format!("image {image} from version {}", long_version(&min_version)))
            }
            kind::KEYHASH => {
                let name = keys::sample::published_name(self.data.as_slice().try_into().ok()?)?;
                Some(format!("PUBLISHED SAMPLE KEY {name}: everybody has it"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for TrailerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(fields) = &self.fields else {
            return write!(f, "trailer\n  magic               {} (none known)", hex(&self.magic));
        };
        let flag = |value: u8| match value {
            trailer::FLAG_SET => "set".to_string(),
            0xff | 0 => "unset".to_string(),
            other => format!("bad ({other:#04x})"),
        };
        writeln!(f, "trailer")?;
        writeln!(f, "  magic               {} (good)", hex(&self.magic))?;
        writeln!(f, "  image_ok            {}", flag(fields.image_ok))?;
        writeln!(f, "  copy_done           {}", flag(fields.copy_done))?;
        writeln!(f, "  swap_info           {:#04x}", fields.swap_info)?;
        write!(f, "  swap_size           {:#x}", fields.swap_size)
    }
}

fn flag_names(value: u32) -> String {
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
    names
        .iter()
        .filter(|(bit, _)| value & bit != 0)
        .map(|(_, name)| format!(" {name}"))
        .collect()
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

/// imgtool writes an absent part as an empty object.
fn object_or_empty<T: Serialize, S: Serializer>(part: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match part {
        Some(part) => part.serialize(serializer),
        None => serializer.serialize_map(Some(0))?.end(),
    }
}
