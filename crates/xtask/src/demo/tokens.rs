//! The tokens of the story: SoftHSM, in a folder of its own.

use super::story::Story;
use crate::sh;
use anyhow::{Context, Result};
use std::fs;
use std::io::Read;

/// The token's PKCS#11 library, where Debian puts it.
pub(super) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// SoftHSM's configuration in the folder of the story.
pub(super) const CONFIGURATION: &str = "softhsm2.conf";

/// Bytes of a PIN before they are written as digits.
const PIN_BYTES: usize = 6;

/// Makes empty tokens of these names, each with a PIN of its own in `NAME.pin`.
pub(super) fn make(story: &mut Story, names: &[&str]) -> Result<()> {
    let folder = story.folder.join("tokens");
    fs::create_dir_all(&folder)?;
    story.write(
        CONFIGURATION,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.display()
        ),
    )?;
    for name in names {
        let pin = random_digits()?;
        story.write(&format!("{name}.pin"), format!("{pin}\n"))?;
        let mut command = sh::program("softhsm2-util");
        command.env("SOFTHSM2_CONF", story.folder.join(CONFIGURATION));
        // SoftHSM takes a PIN on the command line only; a real token is initialised with its own tool, at its own prompt.
        command.args([
            "--init-token",
            "--free",
            "--label",
            name,
            "--so-pin",
            &pin,
            "--pin",
            &pin,
        ]);
        sh::output(&mut command).with_context(|| format!("token {name}"))?;
    }
    Ok(())
}

fn random_digits() -> Result<String> {
    let mut bytes = [0; PIN_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{:02}", byte % 100)).collect())
}
