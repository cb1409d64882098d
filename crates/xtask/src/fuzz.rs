//! Fuzz targets: their corpus is replayed by the tests on the stable toolchain; real fuzzing needs a nightly one.

use crate::sh;
use anyhow::Result;
use std::process::Command;

/// Where the fuzz targets live, outside the workspace.
const MANIFEST: &str = "fuzz/Cargo.toml";

/// The command that replays every corpus file through its target, where there are targets.
pub(crate) fn replay() -> Option<Command> {
    sh::root().join(MANIFEST).exists().then(|| {
        let mut cargo = sh::cargo();
        cargo.args(["test", "--manifest-path", MANIFEST, "--no-fail-fast"]);
        cargo
    })
}

/// The names of the targets: one file each.
pub(crate) fn targets() -> Result<Vec<String>> {
    let Ok(folder) = std::fs::read_dir(sh::root().join("fuzz/fuzz_targets")) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in folder {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
