//! Running `ampoule` as a person would.
#![allow(dead_code, reason = "every test file uses a part of it")]

#[cfg(target_os = "linux")]
pub(crate) mod terminal;
pub(crate) mod tokens;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keys::file::generate;
use keys::{Passphrase, SignatureAlgorithm};

/// The passphrase of every key here.
pub(crate) const PASSPHRASE: &str = "correct horse battery";

/// A directory of its own, with keys by name.
pub(crate) struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    /// An empty directory with a passphrase file `pass`.
    pub(crate) fn new() -> Desk {
        let desk = Desk {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(desk.path("pass"), PASSPHRASE).unwrap();
        desk
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes an encrypted key file, `NAME`, and its public half, `NAME.pub`.
    pub(crate) fn key(&self, name: &str, algorithm: SignatureAlgorithm) {
        let key = generate(algorithm).unwrap();
        key.save_new(&self.path(name), &Passphrase::new(PASSPHRASE)).unwrap();
        let public = keys::PublicKey::read(&self.path(name)).unwrap();
        std::fs::write(self.path(&format!("{name}.pub")), public.to_pem()).unwrap();
    }

    /// Runs `ampoule` in it; arguments are separated by blanks.
    pub(crate) fn ampoule(&self, arguments: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
        command.args(arguments.split_whitespace());
        Ran {
            output: self.equip(&mut command).output().unwrap(),
            arguments: arguments.into(),
        }
    }

    /// Tells a program where everything on this desk is, and nothing else.
    pub(crate) fn equip<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("AMPOULE_JOURNAL", self.path("journal.jsonl"))
            .env("AMPOULE_PKCS11_MODULE", tokens::MODULE)
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.path("tpm").display()))
    }

    /// Runs `ampoule` where no file can get longer than 1 KiB, as on a disk that is nearly full, with a journal of its own.
    pub(crate) fn ampoule_on_full_disk(&self, arguments: &str) -> Ran {
        let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\"";
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_ampoule")])
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .env("AMPOULE_JOURNAL", self.path("fresh.jsonl"))
            .output()
            .unwrap();
        Ran {
            output,
            arguments: arguments.into(),
        }
    }

    /// Runs another program in it.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Ran {
        let output = Command::new(program)
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let arguments = format!("(no, {program}) {arguments}");
        Ran { output, arguments }
    }

    /// Makes a P-256 key `NAME.key` and a request for it, `NAME.csr`, with openssl.
    pub(crate) fn request(&self, name: &str) {
        let new = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        self.run(
            "openssl",
            &format!("{new} -keyout {name}.key -out {name}.csr -subj /CN=ignored"),
        )
        .ok();
    }

    /// The serial number of a certificate, as openssl reads it.
    pub(crate) fn serial(&self, file: &str) -> String {
        let said = self.run("openssl", &format!("x509 -noout -serial -in {file}")).ok();
        said.trim().trim_start_matches("serial=").to_ascii_lowercase()
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// What a run of `ampoule` came to.
pub(crate) struct Ran {
    output: Output,
    arguments: String,
}

impl Ran {
    /// It succeeded; gives what it printed.
    pub(crate) fn ok(&self) -> String {
        assert!(
            self.output.status.success(),
            "ampoule {}: {}",
            self.arguments,
            self.stderr()
        );
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    /// It failed with this number; gives the message.
    pub(crate) fn fails(&self, number: u16) -> String {
        let message = self.stderr();
        assert_eq!(
            self.output.status.code(),
            Some(1),
            "ampoule {}: {message}",
            self.arguments
        );
        assert!(
            message.contains(&format!("({number} ")),
            "ampoule {}: {message}",
            self.arguments
        );
        message
    }

    /// Its arguments were not understood.
    pub(crate) fn misused(&self) {
        assert_eq!(self.output.status.code(), Some(2), "ampoule {}", self.arguments);
    }

    /// What it wrote to standard error.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// The JSON document it printed.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}
