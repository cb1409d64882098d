//! The story of a release on a board in QEMU, told as it happens.

use crate::{firmware, setup};
use anyhow::Result;

/// Whether the story waits for its reader between scenes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    WaitForReader,
    Once,
}

/// Tells the story.
pub(crate) fn run(_pace: Pace) -> Result<()> {
    setup::everything()?;
    firmware::build_all()
}
