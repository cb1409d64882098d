//! Long runs that find what short ones cannot: real fuzzing and more power cuts.

use crate::{fuzz, setup, sh};
use anyhow::{Context, Result};

/// Minutes of a run unless told.
pub(crate) const MINUTES_DEFAULT: u64 = 60;

/// Divides the minutes among the fuzz targets (half) and the power cuts (half).
pub(crate) fn run(minutes: u64) -> Result<()> {
    let machine = setup::everything()?;
    let seconds = minutes.checked_mul(60).context("too many minutes")?;
    let half = seconds / 2;
    fuzzing(half)?;
    let mut cuts = sh::cargo();
    cuts.args([
        "test",
        "--release",
        "--package",
        "ampoule-sim",
        "--",
        "--include-ignored",
        "soak",
    ]);
    cuts.env("AMPOULE_SOAK_SECONDS", half.to_string());
    sh::run(machine.equip(&mut cuts))
}

fn fuzzing(seconds: u64) -> Result<()> {
    let targets = fuzz::targets()?;
    if !has_nightly() {
        println!("no nightly toolchain with cargo-fuzz here: no real fuzzing (the tests replay the corpus)");
        return Ok(());
    }
    let each = seconds.checked_div(targets.len() as u64).unwrap_or(0).max(1);
    for target in targets {
        let limit = format!("-max_total_time={each}");
        let corpus = [format!("fuzz/corpus-local/{target}"), format!("fuzz/corpus/{target}")];
        std::fs::create_dir_all(sh::root().join(&corpus[0]))?;
        let mut fuzz = sh::program("cargo");
        // The outer cargo's pinned toolchain must not leak into the nightly one.
        fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        sh::run(
            fuzz.args(["+nightly", "fuzz", "run", &target])
                .args(&corpus)
                .args(["--", &limit]),
        )?;
    }
    Ok(())
}

fn has_nightly() -> bool {
    let mut version = sh::program("cargo");
    version
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .args(["+nightly", "fuzz", "--version"]);
    sh::output(&mut version).is_ok()
}
