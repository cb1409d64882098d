//! What an image shall say and how it shall be laid out, under imgtool's names.

use codec::mcuboot::{Dependency, HEADER_BYTES, ImageVersion, trailer};
use codec::plan::Uuid;
use keys::{Code, Error, Result};
use uuid::Uuid as Uuid5;

/// Bytes of a custom TLV's value at most; the area with everything in it has 16-bit sizes.
pub const TLV_VALUE_BYTES_MAX: usize = 60_000;
/// Bytes of a slot at most; padding fills one in memory.
pub const SLOT_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Sectors of a slot for which a trailer has room unless something else is said.
pub const SECTORS_DEFAULT: u32 = 128;
/// Sectors of a slot at most, for which a trailer can have room.
pub const SECTORS_MAX: u32 = 0xffff;

/// Everything but firmware and keys that decides the bytes of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageOptions {
    /// `--version`.
    pub version: ImageVersion,
    /// `--header-size`: bytes from the start of the slot to the firmware; at least 32.
    pub header_size: u16,
    /// `--pad-header`: put the header before the firmware, instead of over the zero bytes with which it starts.
    pub pad_header: bool,
    /// `--slot-size`: bytes of the slot; image and trailer must fit.
    pub slot_size: u32,
    /// `--align` and `--max-align`.
    pub alignment: Alignment,
    /// `--max-sectors`: sectors of the slot for which the trailer has room.
    pub max_sectors: u32,
    /// `--overwrite-only`: the trailer needs no room for the steps of a swap.
    pub overwrite_only: bool,
    /// `--pad`, `--test`, `--confirm`.
    pub finish: Finish,
    /// `--erased-val`: 0xff or 0, what erased flash reads as.
    pub erased_value: u8,
    /// `--load-addr`, `--rom-fixed`.
    pub load: LoadAddress,
    /// `--non-bootable`.
    pub non_bootable: bool,
    /// `--security-counter`.
    pub security_counter: Option<SecurityCounter>,
    /// `--dependencies`.
    pub dependencies: Vec<Dependency>,
    /// `--vid`.
    pub vendor: Option<Uuid>,
    /// `--cid`.
    pub class: Option<Uuid>,
    /// `--custom-tlv`: vendor types and their values, in this order.
    pub custom: Vec<(u16, Vec<u8>)>,
}

impl ImageOptions {
    /// The options that imgtool takes when nothing else is said.
    pub fn new(version: ImageVersion, header_size: u16, slot_size: u32) -> Self {
        ImageOptions {
            version,
            header_size,
            pad_header: false,
            slot_size,
            alignment: Alignment::default(),
            max_sectors: SECTORS_DEFAULT,
            overwrite_only: false,
            finish: Finish::Bare,
            erased_value: 0xff,
            load: LoadAddress::None,
            non_bootable: false,
            security_counter: None,
            dependencies: Vec::new(),
            vendor: None,
            class: None,
            custom: Vec::new(),
        }
    }

    /// Refuses what contradicts itself or the format ([`Code::ImageOption`]).
    pub fn check(&self) -> Result<()> {
        let custom_fits = self.custom.iter().all(|(_, value)| value.len() <= TLV_VALUE_BYTES_MAX);
        let rules = [
            (
                usize::from(self.header_size) >= HEADER_BYTES,
                "--header-size must be 32 or more",
            ),
            (self.slot_size <= SLOT_BYTES_MAX, "--slot-size is larger than 256 MiB"),
            (
                (1..=SECTORS_MAX).contains(&self.max_sectors),
                "--max-sectors must be 1 to 65535",
            ),
            (matches!(self.erased_value, 0 | 0xff), "--erased-val must be 0 or 0xff"),
            (custom_fits, "the value of a custom TLV is longer than 60000 bytes"),
        ];
        match rules.iter().find(|(kept, _)| !kept) {
            Some((_, broken)) => Err(Code::ImageOption.error(*broken)),
            None => Ok(()),
        }
    }

    /// The counter's value, if the image has one.
    pub fn counter(&self) -> Option<u32> {
        self.security_counter.map(|counter| match counter {
            SecurityCounter::Value(value) => value,
            SecurityCounter::Auto => {
                let ImageVersion {
                    major, minor, revision, ..
                } = self.version;
                u32::from(major) << 24 | u32::from(minor) << 16 | u32::from(revision)
            }
        })
    }

    /// Bytes at the end of the slot that an image leaves to the trailer. imgtool reserves for swap-move, which needs the
    /// most, whatever the swap algorithm is.
    pub fn trailer_len(&self) -> u32 {
        let cell = self.alignment.max_align();
        let magic = (trailer::MAGIC_BYTES as u32).max(cell);
        if self.overwrite_only {
            2 * cell + magic
        } else {
            self.max_sectors * 3 * self.alignment.align() + 4 * cell + magic
        }
    }
}

/// What is put behind the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Finish {
    /// Nothing: the file ends with the image.
    #[default]
    Bare,
    /// Padding up to the slot's end and the trailer's magic.
    Pad,
    /// As [`Finish::Pad`]: the image is tried once.
    Test,
    /// As [`Finish::Pad`], and the confirm flag is set.
    Confirm,
}

/// How the flash is written, which sizes the trailer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alignment {
    align: u32,
    max_align: u32,
}

impl Default for Alignment {
    fn default() -> Self {
        Alignment { align: 1, max_align: 8 }
    }
}

impl Alignment {
    /// Write size (1, 2, 4, 8, 16 or 32 bytes) and cell size of the trailer (8, 16 or 32 bytes; if not given, the larger
    /// of the write size and 8). [`Code::ImageOption`] for others.
    pub fn new(align: u32, max_align: Option<u32>) -> Result<Self> {
        if !matches!(align, 1 | 2 | 4 | 8 | 16 | 32) {
            return Err(Code::ImageOption.error("--align must be 1, 2, 4, 8, 16 or 32"));
        }
        let max_align = max_align.unwrap_or(align.max(8));
        if !matches!(max_align, 8 | 16 | 32) || max_align < align {
            return Err(Code::ImageOption.error("--max-align must be 8, 16 or 32, and not below --align"));
        }
        Ok(Alignment { align, max_align })
    }

    /// Bytes that the flash writes at once.
    pub fn align(self) -> u32 {
        self.align
    }

    /// Bytes of one cell of the trailer.
    pub fn max_align(self) -> u32 {
        self.max_align
    }
}

/// The address that the header names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LoadAddress {
    /// None: the image runs from its slot, wherever that is.
    #[default]
    None,
    /// The RAM address to copy the image to; 0 says none.
    Ram(u32),
    /// The flash address for which the image was linked; 0 says none.
    RomFixed(u32),
}

/// Where the security counter comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecurityCounter {
    /// From the version: major << 24 | minor << 16 | revision.
    Auto,
    /// This value.
    Value(u32),
}

impl SecurityCounter {
    /// `auto`, or a number in decimal, 0x, 0o or 0b notation. [`Code::ImageOption`] for anything else.
    pub fn from_text(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(SecurityCounter::Auto);
        }
        let value = number_from_text(text);
        value.map(SecurityCounter::Value).ok_or_else(|| {
            Code::ImageOption.error(format!(
                "--security-counter {text} is neither auto nor a number below 4294967296"
            ))
        })
    }
}

/// A number in decimal, 0x, 0o or 0b notation.
pub fn number_from_text(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ => (lower.as_str(), 10),
    };
    let digits = digits.replace('_', "");
    let plain = digits.chars().all(|digit| digit.is_digit(radix));
    if plain {
        u32::from_str_radix(&digits, radix).ok()
    } else {
        None
    }
}

/// Dependencies as imgtool writes them: `(image, version), (image, version)`.
pub fn dependencies_from_text(text: &str) -> Result<Vec<Dependency>> {
    let bad = || {
        let what = format!("--dependencies {text} is not of the form \"(image, version), (image, version)\"");
        Code::ImageOption.error(what)
    };
    let inner = text
        .trim()
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .ok_or_else(bad)?;
    let pairs = inner.split(')').enumerate().map(|(index, pair)| match index {
        0 => Some(pair),
        _ => pair.trim_start().strip_prefix(',')?.trim_start().strip_prefix('('),
    });
    pairs.map(|pair| pair.and_then(dependency).ok_or_else(bad)).collect()
}

fn dependency(pair: &str) -> Option<Dependency> {
    let (image, version) = pair.split_once(',')?;
    Some(Dependency {
        image: image.trim().parse().ok()?,
        min_version: ImageVersion::from_text(version.trim())?,
    })
}

/// `--vid`: a UUID, or a domain name, which stands for its name-based UUID in the DNS namespace (as written: imgtool
/// does not fold the case).
pub fn vendor_id(text: &str) -> Result<Uuid> {
    uuid_or_name(text, Some(Uuid5::NAMESPACE_DNS), "--vid")
}

/// `--cid`: a UUID, or a name, which stands for its name-based UUID in the vendor's namespace.
pub fn class_id(text: &str, vendor: Option<&Uuid>) -> Result<Uuid> {
    uuid_or_name(text, vendor.map(|vendor| Uuid5::from_bytes(*vendor)), "--cid")
}

fn uuid_or_name(text: &str, namespace: Option<Uuid5>, option: &str) -> Result<Uuid> {
    let hyphens = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    let simple = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let (true, Ok(uuid)) = (hyphens || simple, Uuid5::try_parse(text)) {
        return Ok(uuid.into_bytes());
    }
    let bad = |why: &str| -> Error { Code::ImageOption.error(format!("{option} {text:?} {why}")) };
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(bad("is neither a UUID nor a name"));
    }
    let namespace = namespace.ok_or_else(|| bad("is a name, which needs --vid to mean something"))?;
    Ok(Uuid5::new_v5(&namespace, text.as_bytes()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ImageVersion {
        ImageVersion::from_text(text).unwrap()
    }

    #[test]
    fn trailer_sizes_are_imgtools() {
        let mut options = ImageOptions::new(version("1"), 32, 0x1_0000);
        for (align, max_align, len) in [
            (1, None, 432),
            (4, None, 1584),
            (8, None, 3120),
            (16, None, 6224),
            (32, None, 12448),
        ] {
            options.alignment = Alignment::new(align, max_align).unwrap();
            assert_eq!(options.trailer_len(), len, "{align}");
        }
        options.overwrite_only = true;
        for (max_align, len) in [(8, 32), (16, 48), (32, 96)] {
            options.alignment = Alignment::new(1, Some(max_align)).unwrap();
            assert_eq!(options.trailer_len(), len, "{max_align}");
        }
    }

    #[test]
    fn the_automatic_counter_is_the_version() {
        let mut options = ImageOptions::new(version("1.2.3+4"), 32, 0x1_0000);
        assert_eq!(options.counter(), None);
        options.security_counter = Some(SecurityCounter::from_text("AUTO").unwrap());
        assert_eq!(options.counter(), Some(0x0102_0003));
        for (text, value) in [
            ("0", 0),
            ("42", 42),
            ("0x10", 16),
            ("0b101", 5),
            ("0o17", 15),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(SecurityCounter::from_text(text).unwrap(), SecurityCounter::Value(value));
        }
        for text in ["", "-1", "4294967296", "0x", "1.5", "x"] {
            assert!(
                SecurityCounter::from_text(text).unwrap_err().is(Code::ImageOption),
                "{text}"
            );
        }
    }

    #[test]
    fn dependencies_are_pairs() {
        let one = Dependency {
            image: 1,
            min_version: version("1.2.3+4"),
        };
        let two = Dependency {
            image: 20,
            min_version: version("0.1"),
        };
        assert_eq!(dependencies_from_text("(1, 1.2.3+4)").unwrap(), [one]);
        assert_eq!(dependencies_from_text("(1, 1.2.3+4), (20,0.1.0)").unwrap(), [one, two]);
        for bad in [
            "",
            "()",
            "1, 1.2.3",
            "(1)",
            "(1, )",
            "(1, 1.2.3) (2, 1.0.0)",
            "(256, 1.0.0)",
            "(1, 01.0.0)",
            "(1, 1.0.0),",
        ] {
            assert!(dependencies_from_text(bad).unwrap_err().is(Code::ImageOption), "{bad}");
        }
    }

    #[test]
    fn vendor_and_class_are_uuids_or_names() {
        let vendor = vendor_id("arm.com").unwrap();
        assert_eq!(
            Uuid5::from_bytes(vendor).to_string(),
            "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe"
        );
        for text in [
            "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe",
            "FA6B4A53d5ad5fdfbe9de663e4d41ffe",
        ] {
            assert_eq!(vendor_id(text).unwrap(), vendor);
        }
        assert_eq!(
            class_id("x", Some(&vendor)).unwrap(),
            Uuid5::new_v5(&Uuid5::from_bytes(vendor), b"x").into_bytes()
        );
        assert!(class_id("x", None).unwrap_err().is(Code::ImageOption));
        assert!(vendor_id("").is_err() && vendor_id("a\nb").is_err());
        assert!(class_id("fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe", None).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Alignment::new(3, None).is_err() && Alignment::new(16, Some(8)).is_err());
        assert!(Alignment::new(1, Some(64)).is_err());
        let good = ImageOptions::new(version("1"), 32, 0x1_0000);
        good.check().unwrap();
        let bad: [fn(&mut ImageOptions); 5] = [
            |options| options.header_size = 31,
            |options| options.slot_size = SLOT_BYTES_MAX + 1,
            |options| options.max_sectors = 0,
            |options| options.erased_value = 1,
            |options| options.custom.push((0xa0, vec![0; TLV_VALUE_BYTES_MAX + 1])),
        ];
        for spoil in bad {
            let mut options = good.clone();
            spoil(&mut options);
            assert!(options.check().unwrap_err().is(Code::ImageOption), "{options:?}");
        }
    }
}
