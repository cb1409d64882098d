//! Building the firmware of the demo board, in the variants that demo, tests and measurements need.

use crate::setup::FIRMWARE_TARGET;
use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// One build of the `boot` crate.
pub(crate) struct Build {
    /// The name of the outputs, `target/firmware/<name>.elf` and `.bin`.
    pub(crate) name: &'static str,
    /// The program of the crate.
    pub(crate) bin: &'static str,
    /// Cargo features, separated by commas; empty for none.
    pub(crate) features: &'static str,
    /// Whether the crate's default features are left out.
    pub(crate) bare: bool,
    /// Environment of the build, such as the application's version.
    pub(crate) env: &'static [(&'static str, &'static str)],
}

/// Where the outputs stand.
pub(crate) fn folder() -> PathBuf {
    sh::target().join("firmware")
}

/// The ELF file of a build.
pub(crate) fn elf(build: &Build) -> PathBuf {
    folder().join(format!("{}.elf", build.name))
}

/// Builds everything in [`BUILDS`].
pub(crate) fn build_all() -> Result<()> {
    BUILDS.iter().try_for_each(build)
}

/// Builds one variant and leaves its ELF file and its flat binary in [`folder`].
pub(crate) fn build(build: &Build) -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "ampoule-boot",
        "--profile",
        "firmware",
        "--target",
        FIRMWARE_TARGET,
    ]);
    cargo.args(["--bin", build.bin]);
    if build.bare {
        cargo.arg("--no-default-features");
    }
    if !build.features.is_empty() {
        cargo.args(["--features", build.features]);
    }
    cargo.envs(build.env.iter().copied());
    sh::run(&mut cargo).with_context(|| format!("firmware `{}`", build.name))?;

    let built = sh::target().join(FIRMWARE_TARGET).join("firmware").join(build.bin);
    let elf = elf(build);
    fs::create_dir_all(folder())?;
    fs::copy(&built, &elf).with_context(|| built.display().to_string())?;
    fs::write(elf.with_extension("bin"), flat_binary(&elf)?)?;
    Ok(())
}

fn flat_binary(elf: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(elf)?;
    crate::measure::elf::Elf::parse(&bytes)
        .and_then(|elf| elf.flat_binary())
        .with_context(|| elf.display().to_string())
}

/// The bootloader as small as it gets: without recovery.
pub(crate) const BOOTLOADER_SMALL: Build = Build {
    name: "bootloader-small",
    bin: "bootloader",
    features: "",
    bare: true,
    env: &[],
};
/// The bootloader with everything.
pub(crate) const BOOTLOADER: Build = Build {
    name: "bootloader",
    bin: "bootloader",
    features: "",
    bare: false,
    env: &[],
};

/// Every build that the demo and the tests use.
const BUILDS: &[Build] = &[];
