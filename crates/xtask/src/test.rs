//! The whole proof: set-up, rules, lints, firmware, every test. `.ci/run` calls exactly this.

use crate::setup::{self, FIRMWARE_TARGET, Machine};
use crate::{firmware, fuzz, sh, tidy};
use anyhow::{Result, bail};
use std::process::Command;
use std::time::Instant;

/// Lints against everything that can panic, for the crates that read outside bytes on a device.
const NO_PANIC_LINTS: &[&str] = &[
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::string_slice",
    "clippy::unreachable",
    "clippy::unwrap_used",
];
const NO_PANIC_CRATES: &[&str] = &["ampoule-codec", "ampoule-trust", "ampoule-engine"];

/// Tests counted from the lines that test programs end with.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs everything, also past a failure, and ends with the count.
pub(crate) fn run() -> Result<()> {
    let machine = setup::everything()?;
    let mut count = Count::default();
    let mut failed = Vec::new();
    let mut step = |name: &'static str, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    };
    let started = Instant::now();
    step("tidy", tidy::run(tidy::Mode::Check));
    step("format", sh::run(sh::cargo().args(["fmt", "--all", "--check"])));
    step("firmware", firmware::build_all().map(drop));
    step("no panic by what the bootloader reads", firmware::check_panics());
    step("lints", lints());
    step("no panic on outside bytes", no_panic_lints());
    step(
        "tests",
        tests(&machine, sh::cargo().args(["test", "--no-fail-fast"]), &mut count),
    );
    let mut tpm = sh::cargo();
    tpm.args([
        "test",
        "--no-fail-fast",
        "--package",
        "ampoule-agent",
        "--features",
        "tpm",
    ]);
    step("tests with a TPM", tests(&machine, &mut tpm, &mut count));
    if let Some(mut replay) = fuzz::replay() {
        step("fuzz corpus", tests(&machine, &mut replay, &mut count));
    }
    println!(
        "\n{} s; steps that failed: {}",
        started.elapsed().as_secs(),
        or_none(&failed)
    );
    if count.ignored > 0 {
        println!("{} ignored", count.ignored);
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if !failed.is_empty() || count.failed > 0 {
        bail!("not everything passed");
    }
    Ok(())
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

fn lints() -> Result<()> {
    let strict = ["--", "--deny", "warnings"];
    sh::run(sh::cargo().args(["clippy", "--quiet", "--all-targets"]).args(strict))?;
    let tpm = [
        "clippy",
        "--quiet",
        "--all-targets",
        "--package",
        "ampoule-agent",
        "--features",
        "tpm",
    ];
    sh::run(sh::cargo().args(tpm).args(strict))?;
    let firmware = [
        "--package",
        "ampoule-boot",
        "--target",
        FIRMWARE_TARGET,
        "--profile",
        "firmware",
    ];
    sh::run(sh::cargo().args(["clippy", "--quiet"]).args(firmware).args(strict))
}

fn no_panic_lints() -> Result<()> {
    let mut clippy = sh::cargo();
    clippy.args(["clippy", "--quiet", "--lib", "--no-deps"]);
    for package in NO_PANIC_CRATES {
        clippy.args(["--package", package]);
    }
    clippy.arg("--");
    for lint in NO_PANIC_LINTS {
        clippy.args(["--deny", lint]);
    }
    sh::run(&mut clippy)
}

fn tests(machine: &Machine, command: &mut Command, count: &mut Count) -> Result<()> {
    if !sh::watch(machine.equip(command), |line| count.add(line))? {
        bail!("tests failed or did not build");
    }
    Ok(())
}

impl Count {
    /// Adds what a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …` says.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number_before = |word: &str| {
            let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            words
                .windows(2)
                .find(|pair| pair[1] == word)
                .and_then(|pair| pair[0].parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.passed += number_before("passed");
        self.failed += number_before("failed");
        self.ignored += number_before("ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_result_lines_only() {
        let mut count = Count::default();
        count.add("running 7 tests");
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        count.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        assert_eq!(
            count,
            Count {
                passed: 4,
                failed: 2,
                ignored: 1
            }
        );
    }
}
