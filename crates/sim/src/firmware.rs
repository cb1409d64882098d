//! The board's programs, built by cargo when a test or the demo needs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use crate::elf::Firmware;
use crate::qemu::QemuError;

const TARGET: &str = "thumbv7em-none-eabihf";
const PROFILE: &str = "firmware";

/// One build of bootloader and application.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Build {
    /// Version that the application prints.
    pub version: String,
    /// What the application does: `healthy`, `patient`, `never-confirm`, `hang` or `crash`.
    pub behaviour: String,
    /// Features of the package instead of its defaults.
    pub features: Option<Vec<String>>,
}

impl Default for Build {
    fn default() -> Self {
        Build {
            version: "1.0.0".into(),
            behaviour: "healthy".into(),
            features: None,
        }
    }
}

/// Where a build's programs are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    /// ELF file of the bootloader.
    pub bootloader: PathBuf,
    /// ELF file of the application.
    pub application: PathBuf,
}

impl Programs {
    /// The application as bytes in flash, ready to become an image.
    pub fn firmware(&self) -> Result<Firmware, QemuError> {
        let elf = fs::read(&self.application)
            .map_err(|e| QemuError::new(format!("cannot read {}: {e}", self.application.display())))?;
        Firmware::from_elf(&elf).map_err(|e| QemuError::new(format!("{}: {e}", self.application.display())))
    }
}

impl Build {
    /// A healthy application of this version.
    pub fn version(version: &str) -> Build {
        Build {
            version: version.into(),
            ..Build::default()
        }
    }

    /// The same with another behaviour.
    pub fn behaving(mut self, behaviour: &str) -> Build {
        self.behaviour = behaviour.into();
        self
    }

    /// Builds, once in the life of this process, and keeps a copy that the next build does not overwrite.
    pub fn run(&self) -> Result<Programs, QemuError> {
        // Tests that run side by side ask for the same few builds, and cargo would make them anew at every change.
        static DONE: Mutex<BTreeMap<Build, Programs>> = Mutex::new(BTreeMap::new());
        let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(programs) = done.get(self) {
            return Ok(programs.clone());
        }
        let output = self
            .command()
            .output()
            .map_err(|e| QemuError::new(format!("cannot start cargo: {e}")))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(QemuError::new(format!("the firmware does not build:\n{text}")));
        }
        let programs = self
            .keep()
            .map_err(|e| QemuError::new(format!("cannot keep the firmware: {e}")))?;
        done.insert(self.clone(), programs.clone());
        Ok(programs)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(root())
            .args([
                "build",
                "--quiet",
                "--package",
                "ampoule-boot",
                "--target",
                TARGET,
                "--profile",
                PROFILE,
            ])
            .arg("--target-dir")
            .arg(target_dir())
            .env("AMPOULE_APP_VERSION", &self.version)
            .env("AMPOULE_APP_BEHAVIOUR", &self.behaviour)
            // What coverage or sanitizer runs set for the host is not for the board.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if let Some(features) = &self.features {
            command.args(["--no-default-features", "--features", &features.join(",")]);
        }
        command
    }

    fn keep(&self) -> std::io::Result<Programs> {
        let features = self
            .features
            .as_ref()
            .map_or("default".into(), |features| features.join("+"));
        let kept = target_dir()
            .join("kept")
            .join(format!("{}-{}-{features}", self.version, self.behaviour));
        fs::create_dir_all(&kept)?;
        let keep = |name: &str| {
            let built = target_dir().join(TARGET).join(PROFILE).join(name);
            // Replaced by rename: a board that runs keeps its file.
            let (copy, fresh) = (kept.join(name), kept.join(format!("{name}.{}", std::process::id())));
            fs::copy(built, &fresh)
                .and_then(|_| fs::rename(&fresh, &copy))
                .map(|()| copy)
        };
        Ok(Programs {
            bootloader: keep("bootloader")?,
            application: keep("app")?,
        })
    }
}

/// A folder of its own: the cargo that runs a test may hold the lock of the usual one.
fn target_dir() -> PathBuf {
    root().join("target/firmware")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
