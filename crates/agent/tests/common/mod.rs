//! A TPM in software, with a state of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A TPM that runs until this value goes.
pub(crate) struct SwTpm {
    process: Option<Child>,
    folder: tempfile::TempDir,
    port: u16,
}

impl SwTpm {
    pub(crate) fn new() -> SwTpm {
        let mut tpm = SwTpm {
            process: None,
            folder: tempfile::tempdir().unwrap(),
            port: 0,
        };
        tpm.power_on();
        tpm
    }

    /// Another start of the machine: the PCRs are as after a reset, NV memory is as before.
    pub(crate) fn restart(&mut self) {
        self.power_off();
        self.power_on();
    }

    fn power_on(&mut self) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            self.port = free_pair();
            let (data, control) = (self.port, self.port + 1);
            let mut child = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .args(["--server", &format!("type=tcp,port={data},disconnect")])
                .args(["--ctrl", &format!("type=tcp,port={control}")])
                .arg("--tpmstate")
                .arg(format!("dir={}", self.folder.path().display()))
                .stderr(Stdio::null())
                .spawn()
                .expect("swtpm is installed");
            if is_listening(&mut child, control) {
                self.process = Some(child);
                return;
            }
        }
        panic!("swtpm does not start");
    }

    fn power_off(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Runs a program of tpm2-tools, which must succeed, and gives what it prints.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let run = Command::new(program)
            .args(arguments)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .current_dir(self.folder.path())
            .output()
            .expect("tpm2-tools are installed");
        assert!(
            run.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        run.stdout
    }

    /// Something else was started than before.
    pub(crate) fn extend(&self, pcr: u8, digit: char) {
        let digest: String = std::iter::repeat_n(digit, 64).collect();
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl Drop for SwTpm {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// A port that is free, as is the one behind it.
fn free_pair() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// Whether it listens; looked up in the kernel's table, because a connection would be taken for the one it serves.
fn is_listening(child: &mut Child, port: u16) -> bool {
    let wanted = format!(":{port:04X} 00000000:0000 0A");
    for _ in 0..200 {
        if std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
