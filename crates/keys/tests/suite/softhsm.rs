//! SoftHSM with a token of its own for each test, and other people's programs beside it.
//!
//! SoftHSM reads its configuration once per process, so each test with a token runs itself again in a process with a
//! token folder of its own.

use std::path::Path;
use std::process::Command;

use ampoule_keys::Passphrase;

/// The PIN of the token.
pub(crate) const PIN: &str = "271828";
/// The URI of the token.
pub(crate) const TOKEN: &str = "pkcs11:token=conformance";

pub(crate) fn pin(text: &str) -> Passphrase {
    Passphrase::new(text)
}

/// Runs `story` with SoftHSM's library, in a process whose token folder holds one new token.
pub(crate) fn with_softhsm(test: &str, story: fn(&Path)) {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"];
    let module = places.iter().map(Path::new).find(|path| path.exists());
    if !present("softhsm2-util") || !present("pkcs11-tool") {
        return;
    }
    let module = module.expect("SoftHSM's library beside its tool");
    if std::env::var_os("AMPOULE_INNER_TEST").is_some() {
        return story(module);
    }
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    std::fs::create_dir(folder.path().join("tokens")).unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(
        &configuration,
        format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()),
    )
    .unwrap();
    let mut init = Command::new("softhsm2-util");
    init.args([
        "--init-token",
        "--free",
        "--label",
        "conformance",
        "--so-pin",
        "0000",
        "--pin",
        PIN,
    ]);
    assert!(
        init.env("SOFTHSM2_CONF", &configuration)
            .output()
            .unwrap()
            .status
            .success()
    );
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SOFTHSM2_CONF", &configuration)
        .env("AMPOULE_INNER_TEST", "1")
        .output()
        .unwrap();
    let (said, failed) = (
        String::from_utf8_lossy(&inner.stdout),
        String::from_utf8_lossy(&inner.stderr),
    );
    assert!(inner.status.success() && said.contains("1 passed"), "{said}\n{failed}");
}

/// Whether a program is there. In CI it must be; at home its absence is said and skips the test.
pub(crate) fn present(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let present = std::env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    assert!(present || std::env::var_os("CI").is_none(), "CI needs {program}");
    if !present {
        eprintln!("skipped: there is no {program} here; `cargo xtask setup` installs it");
    }
    present
}

pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {failed}");
    String::from_utf8(output.stdout).unwrap()
}
