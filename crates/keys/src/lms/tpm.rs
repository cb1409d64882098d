//! An NV counter of a TPM 2.0 as the counter of an LMS key.
//!
//! The TPM raises it by one and never lets it fall (TPM 2.0 Library, part 3, TPM2_NV_Increment); one that was deleted and
//! made again starts above the highest that any counter of this TPM ever had (part 1, "NV counters"). Its *name* is a
//! digest of what the index is, and every key's counter is defined with a policy of random bytes, which nobody can fulfil
//! and which makes the name this counter's own: the counter of another key, of another TPM, or one that was made later
//! under the same handle has another name.
//!
//! The TPM is spoken to through tpm2-tools: five short commands without a secret, at every signature four processes of
//! some ten milliseconds. A library (`tss-esapi`) would save those and tie every build of the signing tools to the C library of
//! one distribution; a key bound on one machine would then be refused by the build of another.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use super::counter::{Count, OutsideCounter};
use crate::{Code, Error, Result};

/// NV handles that belong to a machine's owner (TCG registry of reserved TPM 2.0 handles and localities).
pub const HANDLES: std::ops::RangeInclusive<u32> = 0x0180_0000..=0x01bf_ffff;
/// What may be done with the index: read and raised without a password, and no mistake locks it.
const ATTRIBUTES: &str = "authread|authwrite|no_da|nt=counter";
/// How long a command may take: a TPM on a slow bus answers within two seconds.
const COMMAND_TIME: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);
/// Bytes of a command's output that are looked at.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// An NV counter as a state names it: handle, name, and the value that it had when the key was made. Written
/// `0xHANDLE NAME BASE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NvCounter {
    /// The NV index.
    pub handle: u32,
    /// Its name (TPM 2.0 Library, part 1, "Names"): algorithm and digest of its public area, in hexadecimal digits.
    pub name: String,
    /// The counter's value before the first index was given away.
    pub base: u64,
}

impl fmt::Display for NvCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x} {} {}", self.handle, self.name, self.base)
    }
}

impl FromStr for NvCounter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<NvCounter, Self::Err> {
        const FORM: &str = "an NV counter is written 0xHANDLE NAME BASE";
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(FORM);
        let handle = parse_handle(word()?).ok_or(FORM)?;
        let name = word()?.to_owned();
        let base = word()?.parse().map_err(|_| FORM)?;
        let is_form = !name.is_empty() && name.bytes().all(|c| c.is_ascii_hexdigit());
        (is_form && words.next().is_none())
            .then_some(NvCounter { handle, name, base })
            .ok_or(FORM)
    }
}

/// An NV handle in hexadecimal digits behind `0x`.
pub fn parse_handle(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// How the TPM is reached.
#[derive(Clone, Debug, Default)]
pub struct Tpm {
    /// For tpm2-tools' `--tcti`; without it what `TPM2TOOLS_TCTI` says, or the TPM of this machine.
    pub tcti: Option<String>,
}

/// The NV counter to which a state is bound.
#[derive(Debug)]
pub struct TpmCounter {
    tpm: Tpm,
    bound: NvCounter,
}

impl TpmCounter {
    /// This counter of this TPM; nothing is asked of it yet.
    pub fn new(tpm: Tpm, bound: NvCounter) -> TpmCounter {
        TpmCounter { tpm, bound }
    }

    /// Defines the counter of a new key, with the owner's authorisation, which must be empty.
    ///
    /// `label` are 32 random bytes. Errors: [`Code::LmsTpm`]; [`Code::KeyExists`] for a handle in use;
    /// [`Code::Argument`] one that does not belong to the owner ([`HANDLES`]).
    pub fn create(tpm: Tpm, handle: u32, label: &[u8; 32]) -> Result<TpmCounter> {
        if !HANDLES.contains(&handle) {
            return Err(Code::Argument
                .error(format!("{handle:#010x} is no NV index of a TPM's owner"))
                .advise("Take one from 0x01800000 to 0x01bfffff."));
        }
        if tpm.has(handle)? {
            return Err(Code::KeyExists.error(format!("the TPM has an NV index {handle:#010x} already")));
        }
        let index = format!("{handle:#x}");
        let define = ["-C", "o", "-s", "8", "-a", ATTRIBUTES, "-L", "/dev/stdin", &index];
        tpm.run("tpm2_nvdefine", &define, label)?;
        let made = tpm.increment(handle).and_then(|()| tpm.look(handle));
        match made {
            Ok((name, base)) => Ok(TpmCounter::new(tpm, NvCounter { handle, name, base })),
            Err(error) => {
                let _ = tpm.undefine(handle);
                Err(error)
            }
        }
    }

    /// What a state has to say of it.
    pub fn bound(&self) -> &NvCounter {
        &self.bound
    }

    /// Takes the counter of a key that was never used out of the TPM again.
    pub fn remove(self) -> Result<()> {
        self.tpm.undefine(self.bound.handle)
    }

    /// Where the counter stands, if it is the one that is bound.
    fn count(&self) -> Result<Count> {
        let NvCounter { handle, name, base } = &self.bound;
        let (found, value) = self.tpm.look(*handle)?;
        let given = (found == *name).then(|| value.checked_sub(*base)).flatten();
        let given = given.ok_or_else(|| self.foreign())?;
        Ok(Count::of(u32::try_from(given).unwrap_or(u32::MAX)))
    }

    fn foreign(&self) -> Error {
        Code::LmsForeign
            .error(format!(
                "{} is not the one to which this LMS key is bound: it was made later, or by another TPM",
                self.describe()
            ))
            .advise("Sign on the machine with the key's own TPM; if that TPM was cleared, enrol another key.")
    }
}

impl OutsideCounter for TpmCounter {
    fn read(&mut self) -> Result<Count> {
        // Asked first: tpm2_nvreadpublic 5.4 crashes where there is no such index.
        if !self.tpm.has(self.bound.handle)? {
            return Err(Code::LmsCounterMissing
                .error(format!("the TPM has no NV index {:#010x}", self.bound.handle))
                .advise("Sign on the machine with the key's own TPM; if that TPM was cleared, enrol another key."));
        }
        self.count()
    }

    /// The TPM has no command that raises a counter only from a known value, so it is read again: only the one of several
    /// signers that finds exactly its own step has the index.
    fn raise(&mut self, from: &Count) -> Result<Count> {
        self.tpm.increment(self.bound.handle)?;
        let found = self.count()?;
        match from.given.checked_add(1) == Some(found.given) {
            true => Ok(found),
            false => Err(Code::LmsBusy.error(format!("{} moved in the meantime", self.describe()))),
        }
    }

    fn describe(&self) -> String {
        format!("the TPM's NV counter {:#010x}", self.bound.handle)
    }
}

impl Tpm {
    /// Whether there is an NV index.
    fn has(&self, handle: u32) -> Result<bool> {
        let list = self.run("tpm2_getcap", &["handles-nv-index"], &[])?;
        let list = String::from_utf8_lossy(&list);
        let mut handles = list
            .lines()
            .filter_map(|line| parse_handle(line.trim_start_matches("- ").trim()));
        Ok(handles.any(|one| one == handle))
    }

    fn increment(&self, handle: u32) -> Result<()> {
        let index = format!("{handle:#x}");
        self.run("tpm2_nvincrement", &["-C", &index, &index], &[]).map(drop)
    }

    fn undefine(&self, handle: u32) -> Result<()> {
        let index = format!("{handle:#x}");
        self.run("tpm2_nvundefine", &["-C", "o", &index], &[]).map(drop)
    }

    /// Name and value of an index.
    fn look(&self, handle: u32) -> Result<(String, u64)> {
        let index = format!("{handle:#x}");
        let public = self.run("tpm2_nvreadpublic", &[&index], &[])?;
        let public = String::from_utf8_lossy(&public);
        let name = public.lines().find_map(|line| line.trim().strip_prefix("name: "));
        let value = self.run("tpm2_nvread", &["-C", &index, "-s", "8", &index], &[])?;
        match (name, value.try_into()) {
            (Some(name), Ok(value)) => Ok((name.to_owned(), u64::from_be_bytes(value))),
            _ => Err(Code::LmsTpm.error("tpm2-tools answered something that is not understood here")),
        }
    }

    /// Runs one of the tools. Error: [`Code::LmsTpm`], with the last thing that the tool said.
    fn run(&self, tool: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let failed = |error| Code::LmsTpm.error(format!("no input for {tool}: {error}"));
        let input = seekable(input).map_err(failed)?;
        let mut command = Command::new(tool);
        if let Some(tcti) = &self.tcti {
            command.args(["--tcti", tcti]);
        }
        let started = command
            .args(arguments)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = started.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Code::LmsTpm.error(format!("{tool} is not installed (tpm2-tools)")),
            _ => Code::LmsTpm.error(format!("{tool} cannot be started: {error}")),
        })?;
        finish(tool, child)
    }
}

/// A file without a name that holds this: the tools ask how long a file is before they read it, which no pipe says.
fn seekable(input: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// Waits for a tool, with an end.
fn finish(tool: &str, mut child: Child) -> Result<Vec<u8>> {
    let failed = |why: &str| Code::LmsTpm.error(format!("{tool}: {why}"));
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut output = Vec::new();
            let _ = pipe.map(|pipe| pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut output));
            output
        })
    };
    let output = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let said = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let end = Instant::now() + COMMAND_TIME;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(POLL),
            _ => {
                let _ = (child.kill(), child.wait());
                return Err(failed("the TPM does not answer"));
            }
        }
    };
    let (output, said) = (output.join().unwrap_or_default(), said.join().unwrap_or_default());
    if status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| line.starts_with("ERROR"));
    Err(failed(
        last.unwrap_or("it failed and said nothing")
            .trim_start_matches("ERROR: "),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::state::hex;
    use super::*;

    #[test]
    fn an_nv_counter_is_written_and_read() {
        let text = format!("0x01800016 000b{} 41", hex(&[0xab; 32]));
        let counter: NvCounter = text.parse().unwrap();
        assert_eq!((counter.handle, counter.base), (0x0180_0016, 41));
        assert_eq!(counter.to_string(), text);
        for bad in [
            "",
            "0x01800016",
            "0x01800016 00",
            "1 00 1",
            "0x1 zz 1",
            "0x1 00 -1",
            "0x1 00 1 1",
        ] {
            assert!(bad.parse::<NvCounter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let error = Tpm::default().run("tpm2_nosuchtool", &[], &[]).unwrap_err();
        assert!(
            error.is(Code::LmsTpm) && error.what.contains("not installed"),
            "{error}"
        );
    }

    #[test]
    fn a_tool_that_fails_says_why() {
        let error = Tpm::default().run("false", &[], &[]).unwrap_err();
        assert!(error.is(Code::LmsTpm), "{error}");
    }
}
