//! The firmware of the demo board, in the builds that the tests start from.

use anyhow::Result;
use sim::firmware::{Build, Programs};

/// Builds bootloader and healthy application, so that tests find them built.
pub(crate) fn build_all() -> Result<Programs> {
    println!("building the firmware of the board");
    let programs = Build::default().run()?;
    println!("  {}", programs.bootloader.display());
    println!("  {}", programs.application.display());
    Ok(programs)
}
