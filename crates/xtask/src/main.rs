//! The project's own workshop: everything that is run on the code instead of shipped with it.
//!
//! `cargo xtask test` is the whole proof, and `.ci/run` calls exactly that.
#![forbid(unsafe_code)]

mod demo;
mod firmware;
mod fuzz;
mod measure;
mod setup;
mod sh;
mod soak;
mod test;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  demo [--once]              tell the whole story on a board in QEMU; --once never waits for a key
  test                       set-up and every test (what .ci/run calls)
  tidy [--write]             the rules of ARCHITECTURE.md and STYLE.md; --write renews generated documents
  measure AREA [--json]      figures of an area: boot, install, sign; --json ends with one line of JSON
  soak [--minutes N]         long runs: real fuzzing (nightly toolchain) and more power cuts; 60 minutes unless told
  setup                      only the set-up: packages, Rust targets, Python tools
  firmware                   only the firmware of the demo board
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["demo"] => demo::run(demo::Pace::WaitForReader),
        ["demo", "--once"] => demo::run(demo::Pace::Once),
        ["test"] => test::run(),
        ["tidy"] => tidy::run(tidy::Mode::Check),
        ["tidy", "--write"] => tidy::run(tidy::Mode::Write),
        ["measure", area] => measure::run(area, measure::Output::Table),
        ["measure", area, "--json"] | ["measure", "--json", area] => measure::run(area, measure::Output::Json),
        ["soak"] => soak::run(soak::MINUTES_DEFAULT),
        ["soak", "--minutes", minutes] => soak::run(minutes.parse()?),
        ["setup"] => setup::everything().map(drop),
        ["firmware"] => firmware::build_all().map(drop),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [] => bail!("which command?\n\n{USAGE}"),
        other => bail!("unknown command or arguments: {}\n\n{USAGE}", other.join(" ")),
    }
}
