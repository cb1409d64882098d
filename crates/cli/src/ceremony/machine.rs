//! What can be said of the machine: the program itself, interfaces, random numbers, disk.

use std::fs;
use std::path::{Path, PathBuf};

use ::release::ceremony::health::{Health, SAMPLE_BYTES};
use ::release::ceremony::room::Machine;
use ::trust::Sha256;
use keys::{Code, Result};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Bit of `/sys/class/net/*/flags` (IFF_UP).
const INTERFACE_UP: u32 = 1;
/// `/sys/class/net/*/type` of the loopback interface (ARPHRD_LOOPBACK).
const LOOPBACK: &str = "772";

/// Looks at the machine. Errors: [`Code::NoEntropy`]; [`Code::CeremonyCheck`] where the program cannot read itself or
/// the kernel does not tell its interfaces.
pub(super) fn look(directory: &Path) -> Result<Machine> {
    let mut sample = Zeroizing::new(vec![0; SAMPLE_BYTES]);
    // This waits until the kernel's generator is seeded.
    getrandom::fill(&mut sample).map_err(|error| Code::NoEntropy.error(format!("no random bytes: {error}")))?;
    Ok(Machine {
        tool_version: env!("CARGO_PKG_VERSION").into(),
        tool_sha256: digest_of(std::env::current_exe())?,
        interfaces_up: interfaces_up(Path::new("/sys/class/net"))?,
        health: Health::of(&sample),
        entropy_source: entropy_source(),
        facts: facts(directory),
    })
}

/// SHA-256 of this program's file.
fn digest_of(program: std::io::Result<PathBuf>) -> Result<[u8; 32]> {
    let own = program.and_then(fs::read);
    let own = own.map_err(|error| Code::CeremonyCheck.error(format!("this program cannot read itself: {error}")))?;
    Ok(Sha256::of(&own))
}

fn interfaces_up(folder: &Path) -> Result<Vec<String>> {
    let unknown = |error| Code::CeremonyCheck.error(format!("the kernel does not tell its interfaces: {error}"));
    let mut up = Vec::new();
    for entry in fs::read_dir(folder).map_err(unknown)? {
        let folder = entry.map_err(unknown)?.path();
        let flags = line(&folder.join("flags"));
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16);
        // What cannot be read is taken for up.
        let is_up = flags.map_or(folder.is_dir(), |flags| flags & INTERFACE_UP != 0);
        if is_up && line(&folder.join("type")) != LOOPBACK {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            up.push(format!("{name} ({})", line(&folder.join("operstate"))));
        }
    }
    up.sort();
    Ok(up)
}

fn entropy_source() -> String {
    let hardware = line(Path::new("/sys/class/misc/hw_random/rng_current"));
    let hardware = if hardware.is_empty() || hardware == "none" {
        "no hardware generator".into()
    } else {
        hardware
    };
    let processor = match fs::read_to_string("/proc/cpuinfo") {
        Ok(text) if text.split_whitespace().any(|flag| flag == "rdseed") => "the processor's RDSEED",
        Ok(text) if text.split_whitespace().any(|flag| flag == "rdrand") => "the processor's RDRAND",
        _ => "no instruction of the processor",
    };
    let pool = line(Path::new("/proc/sys/kernel/random/entropy_avail"));
    format!("getrandom(2), seeded (pool {pool} bits); {hardware}; {processor}")
}

fn facts(directory: &Path) -> Value {
    let swap = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let swap: Vec<&str> = swap
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    json!({
        "kernel": format!(
            "{} {} {}",
            line(Path::new("/proc/sys/kernel/ostype")),
            line(Path::new("/proc/sys/kernel/osrelease")),
            line(Path::new("/proc/sys/kernel/version")),
        ),
        "boot_id": line(Path::new("/proc/sys/kernel/random/boot_id")),
        "swap": swap,
        "disk": disk(directory),
    })
}

/// The file system that takes the record: where it is mounted, its type, and what is free.
fn disk(directory: &Path) -> Value {
    let path = fs::canonicalize(directory).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<&str>>());
    let holding = fields.filter(|fields| fields.get(1).is_some_and(|mounted| path.starts_with(mounted)));
    let mount = holding
        .max_by_key(|fields| fields.get(1).map(|mounted| mounted.len()))
        .unwrap_or_default();
    let field = |at: usize| mount.get(at).copied().unwrap_or_default();
    json!({"device": field(0), "mounted_at": field(1), "type": field(2), "options": field(3), "free_bytes": free(&path)})
}

#[cfg(unix)]
fn free(path: &Path) -> Option<u64> {
    let state = rustix::fs::statvfs(path).ok()?;
    state.f_bavail.checked_mul(state.f_frsize)
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

/// The first line of a file of the kernel; empty where there is none.
fn line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_are_up_are_named_and_loopback_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for (name, flags, kind, state) in [
            ("lo", "0x9", LOOPBACK, "unknown"),
            ("eth0", "0x1003", "1", "up"),
            ("eth1", "0x1002", "1", "down"),
            ("tun0", "0x1091", "65534", "unknown"),
        ] {
            let interface = folder.path().join(name);
            fs::create_dir(&interface).unwrap();
            for (file, text) in [("flags", flags), ("type", kind), ("operstate", state)] {
                fs::write(interface.join(file), format!("{text}\n")).unwrap();
            }
        }
        fs::create_dir(folder.path().join("odd")).unwrap();
        assert_eq!(
            interfaces_up(folder.path()).unwrap(),
            ["eth0 (up)", "odd ()", "tun0 (unknown)"]
        );
        let unknown = interfaces_up(&folder.path().join("none")).unwrap_err();
        assert!(unknown.is(Code::CeremonyCheck), "{unknown}");
    }

    #[test]
    fn a_program_that_cannot_read_itself_stops_the_ceremony() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ampoule");
        fs::write(&program, "abc").unwrap();
        assert_eq!(digest_of(Ok(program.clone())).unwrap(), Sha256::of(b"abc"));
        fs::remove_file(&program).unwrap();
        let unreadable = digest_of(Ok(program)).unwrap_err();
        assert!(unreadable.is(Code::CeremonyCheck), "{unreadable}");
        let unknown = digest_of(Err(std::io::ErrorKind::NotFound.into())).unwrap_err();
        assert!(unknown.is(Code::CeremonyCheck), "{unknown}");
    }
}
