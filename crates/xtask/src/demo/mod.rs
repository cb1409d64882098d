//! The story of a release on a board in QEMU, told as it happens.

mod story;

use crate::{firmware, setup, sh};
use anyhow::Result;
use story::Story;

/// Whether the story waits for its reader between scenes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    WaitForReader,
    Once,
}

/// Tells the story.
pub(crate) fn run(pace: Pace) -> Result<()> {
    setup::everything()?;
    firmware::build_all()?;
    sh::run(sh::cargo().args(["build", "--quiet", "--bin", "ampoule"]))?;
    let mut story = Story::begin(pace, sh::target().join("debug/ampoule"))?;
    story.scene("A product line: keys and a trust root")?;
    story.end()
}
