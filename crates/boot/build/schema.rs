//! The board file as types, and the rules that hold between its numbers (docs/board-file.md).

use serde::Deserialize;
use uuid::Uuid;

/// The one schema that this build reads.
const SCHEMA: u32 = 1;

/// Largest write unit that the engine handles, in bytes (`engine::flash::WRITE_SIZE_MAX`).
const WRITE_SIZE_MAX: u32 = 32;

/// The image header holds its own size in 16 bits.
const HEADER_SIZE_MAX: u32 = 0xffff;

/// Smallest image header, in bytes.
const HEADER_SIZE_MIN: u32 = 32;

/// ARMv7-M wants the vector table at a multiple of its size, rounded up; ours is shorter than this, in bytes.
pub(crate) const VECTOR_ALIGN: u32 = 0x400;

/// Parts of the mailbox, and bytes of the header in each (`codec::record`).
const MAIL_PARTS: u32 = 4;
const MAIL_HEADER_BYTES: u32 = 64;

/// Bytes of the trust store's header, and what two paddings may take (`codec::record`).
const STORE_BYTES: u32 = 128 + 2 * 31;

/// Bytes of the hand-over record (`boot::retained`).
const RETAINED_MIN: u32 = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Board {
    pub(crate) schema: u32,
    pub(crate) board: Hardware,
    pub(crate) identity: Identity,
    pub(crate) memory: Memory,
    pub(crate) flash: Flash,
    pub(crate) image: Image,
    pub(crate) limits: Limits,
    pub(crate) trial: Trial,
    pub(crate) console: Console,
    pub(crate) smp: Smp,
    #[allow(dead_code, reason = "read by the tools that make trust roots")]
    pub(crate) signatures: Option<Signatures>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Hardware {
    pub(crate) name: String,
    #[allow(dead_code, reason = "read by the tools that build and start a board")]
    pub(crate) target: String,
    #[allow(dead_code, reason = "read by the tools that build and start a board")]
    pub(crate) machine: Option<String>,
    pub(crate) clock_hz: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Identity {
    pub(crate) vendor_domain: String,
    pub(crate) model: String,
    pub(crate) product_line: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Memory {
    pub(crate) code: Span,
    pub(crate) ram: Span,
    pub(crate) retained: Span,
    pub(crate) flash: Span,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) size: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Flash {
    pub(crate) write_size: u32,
    pub(crate) sector_size: u32,
    pub(crate) erased: u8,
    pub(crate) regions: Regions,
}

macro_rules! regions {
    ($($field:ident = $name:literal,)*) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub(crate) struct Regions { $(pub(crate) $field: Span,)* }

        impl Regions {
            pub(crate) fn named(&self) -> Vec<(&'static str, Span)> {
                vec![$(($name, self.$field),)*]
            }
        }
    };
}

regions! {
    trust_store_a = "trust-store-a",
    trust_store_b = "trust-store-b",
    mailbox = "mailbox",
    journal_a = "journal-a",
    journal_b = "journal-b",
    head = "head",
    chunk_table = "chunk-table",
    boot_log_a = "boot-log-a",
    boot_log_b = "boot-log-b",
    sealed_a = "sealed-a",
    sealed_b = "sealed-b",
    sealed_counter = "sealed-counter",
    device_key = "device-key",
    entropy_seed = "entropy-seed",
    bootloader_update = "bootloader-update",
    primary = "primary",
    secondary = "secondary",
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Image {
    pub(crate) header_size: u32,
    pub(crate) max_sectors: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Limits {
    pub(crate) head: u32,
    pub(crate) manifest: u32,
    pub(crate) chunk: u32,
    pub(crate) root: u32,
    pub(crate) list: u32,
    pub(crate) uris: u8,
    pub(crate) components: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Trial {
    pub(crate) deadline_s: u32,
    pub(crate) watchdog_s: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Console {
    pub(crate) uart: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Smp {
    pub(crate) uart: u32,
    pub(crate) buffer: u32,
    pub(crate) buffers: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Signatures {
    #[allow(dead_code, reason = "read by the tools that make trust roots")]
    pub(crate) algorithms: Vec<String>,
}

impl Board {
    /// Vendor id of profile section 11.
    pub(crate) fn vendor_id(&self) -> [u8; 16] {
        *self.vendor().as_bytes()
    }

    /// Class id of profile section 11.
    pub(crate) fn class_id(&self) -> [u8; 16] {
        *Uuid::new_v5(&self.vendor(), self.identity.model.as_bytes()).as_bytes()
    }

    fn vendor(&self) -> Uuid {
        let domain = self.identity.vendor_domain.to_ascii_lowercase();
        Uuid::new_v5(&Uuid::NAMESPACE_DNS, domain.trim_end_matches('.').as_bytes())
    }

    /// The rules of docs/board-file.md, in its order; the error names the key that breaks one.
    pub(crate) fn check(&self) -> Result<(), String> {
        rule(self.schema == SCHEMA, || {
            format!("schema {} is unknown, expected {SCHEMA}", self.schema)
        })?;
        self.check_memory()?;
        self.check_flash()?;
        self.check_regions()?;
        self.check_image()?;
        let period_max = u32::MAX / self.board.clock_hz.max(1);
        rule(
            self.trial.deadline_s <= period_max && self.trial.watchdog_s <= period_max,
            || format!("trial.deadline-s and trial.watchdog-s must not exceed {period_max}"),
        )?;
        rule(self.console.uart <= 2 && self.smp.uart <= 2, || {
            "uart is 0, 1 or 2".into()
        })?;
        rule(self.console.uart != self.smp.uart, || {
            "console.uart and smp.uart must differ".into()
        })
    }

    fn check_memory(&self) -> Result<(), String> {
        let memory = &self.memory;
        for (name, span) in [
            ("code", memory.code),
            ("ram", memory.ram),
            ("retained", memory.retained),
            ("flash", memory.flash),
        ] {
            rule(span.end().is_some(), || {
                format!("memory.{name} passes the end of the address space")
            })?;
            rule(span.start % 8 == 0 && span.size % 8 == 0, || {
                format!("memory.{name} must be a multiple of 8 bytes")
            })?;
        }
        rule(memory.retained.size >= RETAINED_MIN, || {
            format!("memory.retained needs {RETAINED_MIN} bytes")
        })?;
        rule(!memory.retained.overlaps(memory.ram), || {
            "memory.retained must lie outside memory.ram".into()
        })
    }

    fn check_flash(&self) -> Result<(), String> {
        let Flash {
            write_size,
            sector_size,
            erased,
            ..
        } = self.flash;
        rule(write_size.is_power_of_two() && write_size <= WRITE_SIZE_MAX, || {
            format!("flash.write-size must be a power of two up to {WRITE_SIZE_MAX}")
        })?;
        rule(sector_size != 0 && sector_size % write_size == 0, || {
            "flash.sector-size must be a multiple of flash.write-size".into()
        })?;
        rule(self.memory.flash.size.is_multiple_of(sector_size), || {
            "memory.flash must be whole sectors".into()
        })?;
        rule(matches!(erased, 0x00 | 0xff), || {
            "flash.erased must be 0xff or 0x00".into()
        })
    }

    fn check_regions(&self) -> Result<(), String> {
        let regions = self.flash.regions.named();
        let sector = self.flash.sector_size;
        for (index, (name, span)) in regions.iter().enumerate() {
            rule(
                span.size != 0 && span.start % sector == 0 && span.size % sector == 0,
                || format!("flash.regions.{name} must be whole sectors"),
            )?;
            rule(span.end().is_some_and(|end| end <= self.memory.flash.size), || {
                format!("flash.regions.{name} passes the end of the flash")
            })?;
            for (other, earlier) in &regions[..index] {
                rule(!span.overlaps(*earlier), || {
                    format!("flash.regions.{name} overlaps {other}")
                })?;
            }
        }
        let part = self.flash.regions.mailbox.size / MAIL_PARTS;
        rule(
            self.flash.regions.mailbox.size.is_multiple_of(MAIL_PARTS * sector),
            || format!("flash.regions.mailbox must be {MAIL_PARTS} parts of whole sectors"),
        )?;
        rule(
            part.saturating_sub(MAIL_HEADER_BYTES) >= self.limits.root.max(self.limits.list),
            || "flash.regions.mailbox: a part must hold limits.root and limits.list behind its header".into(),
        )?;
        let trust = self.flash.regions.trust_store_a.size;
        rule(
            trust.saturating_sub(STORE_BYTES) >= self.limits.root.saturating_add(self.limits.list),
            || "flash.regions.trust-store-a must hold limits.root and limits.list behind its header".into(),
        )?;
        let messages = self.smp.buffer.saturating_mul(2);
        rule(messages >= self.limits.root.max(self.limits.list), || {
            "smp.buffer: two of them must hold limits.root and limits.list".into()
        })?;
        let (primary, secondary) = (self.flash.regions.primary, self.flash.regions.secondary);
        rule(
            secondary.size == primary.size || secondary.size == primary.size + sector,
            || "flash.regions.secondary must be as large as primary, or one sector larger".into(),
        )
    }

    fn check_image(&self) -> Result<(), String> {
        let header = self.image.header_size;
        rule((HEADER_SIZE_MIN..=HEADER_SIZE_MAX).contains(&header), || {
            format!("image.header-size must be {HEADER_SIZE_MIN} to {HEADER_SIZE_MAX}")
        })?;
        let vectors = self
            .memory
            .flash
            .start
            .wrapping_add(self.flash.regions.primary.start)
            .wrapping_add(header);
        rule(vectors.is_multiple_of(VECTOR_ALIGN), || {
            format!(
                "the vector table behind the header would stand at {vectors:#x}, not at a multiple of {VECTOR_ALIGN:#x}"
            )
        })?;
        let sectors = self.flash.regions.primary.size / self.flash.sector_size;
        rule(self.image.max_sectors >= sectors, || {
            format!("image.max-sectors must be at least {sectors}")
        })
    }
}

impl Span {
    fn end(self) -> Option<u32> {
        self.start.checked_add(self.size)
    }

    fn overlaps(self, other: Span) -> bool {
        u64::from(self.start) < u64::from(other.start) + u64::from(other.size)
            && u64::from(other.start) < u64::from(self.start) + u64::from(self.size)
    }
}

fn rule(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
