//! Figures of the firmware: sizes from the ELF files, instructions and stack counted on the board in QEMU.

pub(crate) mod elf;

use crate::setup;
use anyhow::{Result, bail};
use elf::Elf;
use sim::elf::Firmware;
use sim::firmware::Build;

/// Where the board's RAM starts.
const RAM_START: u32 = 0x2000_0000;

/// How figures are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// A table for a person.
    Table,
    /// The table, then one line with a JSON object of numbers.
    Json,
}

/// A figure: its name ends in its unit.
struct Figure {
    name: &'static str,
    value: u64,
    /// The first bar: not above this.
    bar: Option<u64>,
}

/// Measures an area and prints its figures.
pub(crate) fn run(area: &str, output: Output) -> Result<()> {
    setup::everything()?;
    let figures: Vec<Figure> = match area {
        "boot" => boot()?,
        other => bail!("there is no area `{other}`; there is boot"),
    };
    for Figure { name, value, bar } in &figures {
        let bar = bar.map_or(String::new(), |bar| format!("at most {bar}"));
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

fn boot() -> Result<Vec<Figure>> {
    let small = Sizes::of(&bootloader(&[]))?;
    let full = Sizes::of(&Build::default())?;
    Ok(vec![
        Figure {
            name: "bootloader_flash_bytes",
            value: small.flash_bytes,
            bar: Some(28 << 10),
        },
        Figure {
            name: "bootloader_full_flash_bytes",
            value: full.flash_bytes,
            bar: Some(44 << 10),
        },
        Figure {
            name: "bootloader_static_ram_bytes",
            value: full.static_ram_bytes,
            bar: None,
        },
    ])
}

/// A build with these features of the `boot` crate alone.
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
    fn of(build: &Build) -> Result<Sizes> {
        let file = std::fs::read(build.run()?.bootloader)?;
        let elf = Elf::parse(&file)?;
        for panic in elf.panics() {
            println!("note: {:?} can reach {panic}", build.features);
        }
        Ok(Sizes {
            flash_bytes: Firmware::from_elf(&file)?.bytes.len() as u64,
            static_ram_bytes: elf.static_ram_bytes(RAM_START).into(),
        })
    }
}
