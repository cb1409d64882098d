//! A desk with SoftHSM's tokens on it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::Desk;

/// The PIN of every token here, unless it is said otherwise.
pub(crate) const PIN: &str = "271828";
/// SoftHSM's library.
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Whether SoftHSM is there. In CI it must be; at home its absence is said and skips the test.
pub(crate) fn is_there() -> bool {
    let present = Path::new(MODULE).exists();
    assert!(
        present || std::env::var_os("CI").is_none(),
        "CI needs SoftHSM: run `cargo xtask test`"
    );
    if !present {
        eprintln!("skipped: there is no SoftHSM here; `cargo xtask setup` installs it");
    }
    present
}

impl Desk {
    /// Makes the token folder, with a token of each of these labels, and a file `pin`.
    pub(crate) fn with_tokens(&self, labels: &[&str]) {
        std::fs::create_dir(self.path("tokens")).unwrap();
        let folder = self.path("tokens").display().to_string();
        let text = format!("directories.tokendir = {folder}\nlog.level = ERROR\n");
        std::fs::write(self.path("softhsm2.conf"), text).unwrap();
        std::fs::write(self.path("pin"), PIN).unwrap();
        for label in labels {
            self.new_token(label, PIN);
        }
    }

    /// Makes a token.
    pub(crate) fn new_token(&self, label: &str, pin: &str) {
        let init = [
            "--init-token",
            "--free",
            "--so-pin",
            "0000",
            "--pin",
            pin,
            "--label",
            label,
        ];
        assert!(self.with_token_tool("softhsm2-util", &init).status.success());
    }

    /// Takes a token away.
    pub(crate) fn remove_token(&self, label: &str) {
        let done = self.with_token_tool("softhsm2-util", &["--delete-token", "--token", label]);
        assert!(done.status.success(), "{done:?}");
    }

    /// A program that looks at the tokens.
    pub(crate) fn with_token_tool(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .current_dir(self.directory())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Deletes an object of a token, with a tool that is not ours.
    pub(crate) fn delete_object(&self, token: &str, kind: &str, label: &str) {
        let place = ["--module", MODULE, "--token-label", token, "--login", "--pin", PIN];
        let what = ["--delete-object", "--type", kind, "--label", label];
        let done = self.with_token_tool("pkcs11-tool", &[&place[..], &what].concat());
        assert!(done.status.success(), "{done:?}");
    }
}
