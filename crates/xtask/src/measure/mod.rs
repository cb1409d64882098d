//! Figures of the firmware: sizes from the ELF files, instructions and stack counted on the board in QEMU.

mod bench;
pub(crate) mod elf;
mod lms;
mod sign;

use crate::setup;
use anyhow::{Result, bail};
use bench::Prepared;
use elf::Elf;
use sim::elf::Firmware;
use sim::firmware::{Build, Programs};
use sim::fixture::Scheme;
use std::ops::Range;
use std::time::Duration;

/// How long power cuts are counted.
const CUTTING_SPAN: Duration = Duration::from_secs(20);

/// Addresses of the board's RAM; its flash is mapped above.
const RAM: Range<u32> = 0x2000_0000..0x2100_0000;

/// How figures are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// A table for a person.
    Table,
    /// The table, then one line with a JSON object of numbers.
    Json,
}

/// A figure without a bar.
fn figure(name: &'static str, value: u64) -> Figure {
    Figure { name, value, bar: None }
}

impl Figure {
    /// The same with its bar.
    fn at_most(self, bar: u64) -> Figure {
        Figure {
            bar: Some(Bar::Max(bar)),
            ..self
        }
    }

    /// The same with a bar that it must reach.
    fn at_least(self, bar: u64) -> Figure {
        Figure {
            bar: Some(Bar::Min(bar)),
            ..self
        }
    }
}

/// A figure: its name ends in its unit.
struct Figure {
    name: &'static str,
    value: u64,
    /// The first bar.
    bar: Option<Bar>,
}

/// What a figure must not pass.
#[derive(Clone, Copy)]
enum Bar {
    /// Not above this.
    Max(u64),
    /// Not below this.
    Min(u64),
}

/// Measures an area and prints its figures.
pub(crate) fn run(area: &str, output: Output) -> Result<()> {
    setup::everything()?;
    let figures = match area {
        "boot" => boot()?,
        "install" => install()?,
        "sign" => [sign::sign()?, lms::lms()?].into_iter().flatten().collect(),
        sign::TOKEN_AREA => sign::token()?,
        other => bail!("there is no area `{other}`; there are boot, install and sign"),
    };
    for Figure { name, value, bar } in &figures {
        let bar = match *bar {
            Some(Bar::Max(bar)) if *value > bar => format!("above {bar}"),
            Some(Bar::Max(bar)) => format!("at most {bar}"),
            Some(Bar::Min(bar)) if *value < bar => format!("below {bar}"),
            Some(Bar::Min(bar)) => format!("at least {bar}"),
            None => String::new(),
        };
        println!("{name:<36} {value:>12}  {bar}");
    }
    if output == Output::Json {
        let object: serde_json::Map<String, serde_json::Value> = figures
            .iter()
            .map(|figure| (figure.name.to_string(), figure.value.into()))
            .collect();
        println!("{}", serde_json::Value::Object(object));
    }
    Ok(())
}

/// What a start costs, and what the bootloader takes: with P-256 alone, with recovery beside it, with rotation of its root
/// or the steps of a life instead, and as built by default (all of them, Ed25519 and LMS).
fn boot() -> Result<Vec<Figure>> {
    let p256 = Prepared::new(Scheme::P256)?;
    let measured = bootloader(&["measure"]).run()?.bootloader;
    let start = p256.start_counted(&measured)?;
    p256.stage()?;
    let upgrade = p256.start_counted(&measured)?;
    let measured = bootloader(&["measure", "ed25519"]).run()?.bootloader;
    let ed25519 = Prepared::new(Scheme::Ed25519)?.start_counted(&measured)?;
    let small = Sizes::of(&bootloader(&[]).run()?)?;
    let rotation = Sizes::of(&bootloader(&["rotation"]).run()?)?;
    let lifecycle = Sizes::of(&bootloader(&["lifecycle"]).run()?)?;
    let recovery = Sizes::of(&bootloader(&["recovery"]).run()?)?;
    let default = Sizes::of(&Build::default().run()?)?;
    Ok(vec![
        figure("boot_p256_256kib_instructions", start.instructions).at_most(16_000_000),
        figure("boot_ed25519_256kib_instructions", ed25519.instructions),
        figure("upgrade_256kib_instructions", upgrade.instructions).at_most(45_000_000),
        figure("bootloader_flash_bytes", small.flash_bytes).at_most(28 << 10),
        figure("bootloader_full_flash_bytes", recovery.flash_bytes).at_most(44 << 10),
        figure("bootloader_rotation_flash_bytes", rotation.flash_bytes),
        figure("bootloader_lifecycle_flash_bytes", lifecycle.flash_bytes),
        figure("bootloader_default_flash_bytes", default.flash_bytes),
        figure("bootloader_stack_bytes", start.stack_bytes.max(upgrade.stack_bytes)).at_most(6 << 10),
        figure("bootloader_static_ram_bytes", default.static_ram_bytes),
        figure("qemu_power_cuts_per_minute", p256.cuts_per_minute(CUTTING_SPAN)?),
    ])
}

/// What the application's whole install path holds in RAM besides the stack: root, message, answer, head or chunk.
fn install() -> Result<Vec<Figure>> {
    let programs = Build::default().run()?;
    let application = std::fs::read(&programs.application)?;
    let ram_bytes = Elf::parse(&application)?.static_ram_bytes(RAM);
    Ok(vec![figure("install_ram_bytes", ram_bytes.into()).at_most(12 << 10)])
}

/// Bootloader and application with these features of the `boot` crate alone.
fn bootloader(features: &[&str]) -> Build {
    let features = features.iter().map(|feature| feature.to_string()).collect();
    Build {
        features: Some(features),
        ..Build::default()
    }
}

/// What a bootloader takes on the device.
struct Sizes {
    flash_bytes: u64,
    static_ram_bytes: u64,
}

impl Sizes {
    fn of(programs: &Programs) -> Result<Sizes> {
        let file = std::fs::read(&programs.bootloader)?;
        Ok(Sizes {
            flash_bytes: Firmware::from_elf(&file)?.bytes.len() as u64,
            static_ram_bytes: Elf::parse(&file)?.static_ram_bytes(RAM).into(),
        })
    }
}
