//! The firmware of the demo board, in the builds that the tests start from.

use crate::measure::elf::Elf;
use anyhow::{Result, bail};
use sim::firmware::{Build, Programs};

/// Ends of the names of `panic!` itself and of what formats its message.
const PANICS_OF_ASSERTIONS: &[&str] = &["9panicking5panic", "9panicking9panic_fmt"];

/// Builds bootloader and healthy application, so that tests find them built.
pub(crate) fn build_all() -> Result<Programs> {
    println!("building the firmware of the board");
    let programs = Build::default().run()?;
    println!("  {}", programs.bootloader.display());
    println!("  {}", programs.application.display());
    Ok(programs)
}

/// Builds a bootloader with P-256 and recovery, and looks for panics that it can reach by what it reads: an index, a
/// missing value, a division. The two general functions remain for assertions about our own calls.
pub(crate) fn check_panics() -> Result<()> {
    let build = Build {
        features: Some(vec!["recovery".into()]),
        ..Build::default()
    };
    let file = std::fs::read(build.run()?.bootloader)?;
    let elf = Elf::parse(&file)?;
    let is_general =
        |name: &&str| PANICS_OF_ASSERTIONS.iter().any(|end| name.ends_with(end)) || *name == "rust_begin_unwind";
    let by_input: Vec<&str> = elf.panics().into_iter().filter(|name| !is_general(name)).collect();
    if !by_input.is_empty() {
        bail!("the bootloader can panic by what it reads: {}", by_input.join(", "));
    }
    Ok(())
}
