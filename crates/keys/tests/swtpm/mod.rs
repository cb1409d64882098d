//! A TPM 2.0 in software, started for one test and gone with it. Also for the tests of the command line.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running swtpm with its state in a folder of its own, reached over a socket there.
pub(crate) struct Swtpm {
    folder: TempDir,
    socket: PathBuf,
    child: Child,
}

impl Swtpm {
    /// A new TPM. `None` where swtpm or tpm2-tools is missing and this is not CI.
    pub(crate) fn start() -> Option<Swtpm> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tpm");
        Swtpm::serve(folder, socket)
    }

    /// A new TPM that is reached here.
    pub(crate) fn at(socket: &Path) -> Option<Swtpm> {
        Swtpm::serve(tempfile::tempdir().unwrap(), socket.to_path_buf())
    }

    fn serve(folder: TempDir, socket: PathBuf) -> Option<Swtpm> {
        let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
        if !(there("swtpm") && there("tpm2_nvincrement")) {
            assert!(std::env::var_os("CI").is_none(), "swtpm or tpm2-tools is missing");
            eprintln!("skipped: swtpm or tpm2-tools is missing");
            return None;
        }
        let child = spawn(&folder, &socket);
        let tpm = Swtpm { folder, socket, child };
        tpm.wait();
        Some(tpm)
    }

    /// For `--tcti` and `TPM2TOOLS_TCTI`.
    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:path={}", self.socket.display())
    }

    /// Runs one of tpm2-tools with it, which must succeed.
    pub(crate) fn tool(&self, tool: &str, arguments: &str) {
        let output = Command::new(tool)
            .args(["--tcti", &self.tcti()])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments}: {said}");
    }

    /// Takes its power away. It keeps what it has durably.
    pub(crate) fn unplug(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for socket in [self.socket.clone(), self.socket.with_extension("ctrl")] {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Gives its power back.
    pub(crate) fn plug_in(&mut self) {
        self.child = spawn(&self.folder, &self.socket);
        self.wait();
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        let control = self.socket.with_extension("ctrl");
        while !(self.socket.exists() && control.exists()) {
            assert!(Instant::now() < end, "swtpm does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn spawn(folder: &TempDir, socket: &Path) -> Child {
    let path = folder.path().display();
    Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={path}")])
        .args(["--server", &format!("type=unixio,path={}", socket.display())])
        // Where tpm2-tss looks for it.
        .args(["--ctrl", &format!("type=unixio,path={}.ctrl", socket.display())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
