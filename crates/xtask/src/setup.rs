//! What the tests, the demo and the measurements need of a machine, installed where it is missing.
//!
//! Expected to be there already: rustup with the pinned toolchain, Python 3.11, and root (or sudo) on a system with apt.
//! Running it again costs under a second.

use crate::sh;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that the Cortex-M4 firmware is built for.
pub(crate) const FIRMWARE_TARGET: &str = "thumbv7em-none-eabihf";

/// A program that must be there, the file that shows it, and the Debian packages that bring it.
struct Tool {
    what: &'static str,
    present: fn() -> bool,
    packages: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    Tool {
        what: "QEMU for ARM boards",
        present: || sh::exists("qemu-system-arm"),
        packages: &["qemu-system-arm"],
    },
    Tool {
        what: "C compiler for Cortex-M (the P-256 verifier of the M4 board)",
        present: || sh::exists("arm-none-eabi-gcc") && sh::exists("arm-none-eabi-ar") && has_newlib(),
        packages: &["gcc-arm-none-eabi", "binutils-arm-none-eabi", "libnewlib-arm-none-eabi"],
    },
    Tool {
        what: "C compiler for this machine",
        present: || sh::exists("cc"),
        packages: &["gcc", "libc6-dev"],
    },
    Tool {
        what: "SoftHSM, a PKCS#11 token in software, with pkcs11-tool and openssl beside it",
        present: || sh::exists("softhsm2-util") && sh::exists("pkcs11-tool") && sh::exists("openssl"),
        packages: &["softhsm2", "opensc", "openssl"],
    },
    Tool {
        what: "a TPM 2.0 in software, and the tools that speak to one",
        present: || sh::exists("swtpm") && sh::exists("tpm2_nvincrement"),
        packages: &["swtpm", "swtpm-tools", "tpm2-tools"],
    },
    Tool {
        what: "the TPM 2.0 library that the agent calls, to build against",
        present: || sh::exists("pkg-config") && Path::new("/usr/include/tss2/tss2_esys.h").exists(),
        packages: &["pkg-config", "libtss2-dev"],
    },
    Tool {
        what: "git",
        present: || sh::exists("git"),
        packages: &["git"],
    },
    Tool {
        what: "Python 3 with venv",
        present: || sh::exists("python3") && has_venv(),
        packages: &["python3", "python3-venv", "python3-pip"],
    },
];

/// Where the set-up put things; tests receive this as environment variables.
pub(crate) struct Machine {
    /// The Python environment with the independent peers.
    pub(crate) python_venv: PathBuf,
}

impl Machine {
    /// Tells a command where the tools are, and that a missing one is a failure and no reason to skip.
    pub(crate) fn equip<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("CI", "true").env("AMPOULE_PY_VENV", &self.python_venv)
    }
}

/// Everything: packages, Rust targets, Python tools.
pub(crate) fn everything() -> Result<Machine> {
    packages()?;
    rust_target()?;
    let python_venv = python_tools()?;
    Ok(Machine { python_venv })
}

fn packages() -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !(tool.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.what).collect();
    println!("missing here: {}", names.join("; "));
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages.iter().copied()).collect();
    if !sh::exists("apt-get") {
        bail!("this machine has no apt; install what brings: {}", packages.join(" "));
    }
    sh::run(apt().arg("update"))?;
    sh::run(apt().args(["install", "-y", "--no-install-recommends"]).args(&packages))?;
    for tool in missing {
        if !(tool.present)() {
            bail!(
                "{} is still missing after installing {}",
                tool.what,
                tool.packages.join(" ")
            );
        }
    }
    Ok(())
}

fn apt() -> Command {
    let is_root = sh::output(sh::program("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let mut command = if is_root {
        sh::program("apt-get")
    } else {
        sh::program("sudo")
    };
    if !is_root {
        command.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
    }
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
    command
}

fn has_newlib() -> bool {
    // The compiler answers with a bare name when it does not find the file.
    let header = "libc.a";
    sh::output(sh::program("arm-none-eabi-gcc").arg(format!("-print-file-name={header}")))
        .is_ok_and(|path| path.trim() != header)
}

fn has_venv() -> bool {
    sh::output(sh::program("python3").args(["-c", "import venv, ensurepip"])).is_ok()
}

/// Adds the firmware target to the toolchain that `rust-toolchain.toml` pins.
fn rust_target() -> Result<()> {
    let sysroot = sh::output(sh::program("rustc").args(["--print", "sysroot"]))?;
    let library = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(FIRMWARE_TARGET);
    if library.is_dir() {
        return Ok(());
    }
    if !sh::exists("rustup") {
        bail!("the Rust library for {FIRMWARE_TARGET} is missing, and rustup, which would install it, too");
    }
    sh::run(sh::program("rustup").args(["target", "add", FIRMWARE_TARGET]))
}

/// Makes `target/venv` hold exactly `scripts/requirements.txt`; renewed when that file changes.
fn python_tools() -> Result<PathBuf> {
    let venv = sh::target().join("venv");
    let wanted = fs::read_to_string(sh::root().join("scripts/requirements.txt")).context("scripts/requirements.txt")?;
    let stamp = venv.join("ampoule-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && venv.join("bin/python").exists() {
        return Ok(venv);
    }
    sh::run(sh::program("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        "scripts/requirements.txt",
    ];
    sh::run(sh::program(venv.join("bin/python")).args(pip))?;
    fs::write(stamp, wanted)?;
    Ok(venv)
}
