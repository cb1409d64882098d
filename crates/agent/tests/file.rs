//! The vault in a file, and sealed storage under it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agent::secrets::{SEALED_FILE, Secrets};
use agent::vault::Vault;
use agent::vault::file::{FileVault, SECRET_FILE};
use keys::{Code, Error, Signer};
use trust::KeyVault;

fn open(folder: &Path) -> Vault {
    Vault::File(FileVault::open(folder).unwrap())
}

fn refused<T>(result: Result<T, Error>) -> u16 {
    result.err().expect("a refusal").number
}

#[test]
fn values_and_the_key_are_there_again_and_nobody_elses_vault_opens_them() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let mut vault = FileVault::create(path).unwrap();
    let key = vault.device_key("device").unwrap();
    let mut vault = Vault::File(vault);
    let mut secrets = Secrets::open(path, &mut vault).unwrap();
    secrets.set("wifi", b"password").unwrap();
    secrets.set("floor", &[7; 1024]).unwrap();
    assert_eq!(refused(secrets.set("large", &[7; 1025])), 105);
    secrets.remove("floor").unwrap();
    assert_eq!(
        refused(Secrets::open(path, &mut open(path))),
        2404,
        "one process at a time"
    );
    drop(secrets);

    let mut secrets = Secrets::open(path, &mut open(path)).unwrap();
    assert_eq!(secrets.get("wifi").unwrap().unwrap()[..], *b"password");
    assert!(secrets.get("floor").unwrap().is_none());
    assert_eq!(secrets.generation(), 3);
    drop(secrets);
    let again = FileVault::open(path).unwrap().device_key("device").unwrap();
    assert_eq!(again.public_key(), key.public_key());
    let stored = fs::read(path.join(SEALED_FILE)).unwrap();
    assert!(!stored.windows(8).any(|bytes| bytes == b"password"));

    FileVault::create(other.path()).unwrap();
    for file in [SEALED_FILE, "key-device.pem"] {
        fs::copy(path.join(file), other.path().join(file)).unwrap();
    }
    let mut theirs = open(other.path());
    assert_eq!(refused(Secrets::open(other.path(), &mut theirs)), 1102);
    drop(theirs);
    let mut theirs = FileVault::open(other.path()).unwrap();
    assert!(theirs.device_key("device").is_err());
    Secrets::start_anew(other.path(), &mut open(other.path())).unwrap();
}

#[test]
fn a_vault_that_is_missing_twice_open_to_others_or_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(refused(FileVault::open(path)), Code::VaultMissing.number());
    FileVault::create(path).unwrap();
    assert_eq!(refused(FileVault::create(path)), Code::VaultExists.number());
    let file = path.join(SECRET_FILE);
    let secret = fs::read(&file).unwrap();

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refused(FileVault::open(path)), Code::VaultDamaged.number());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for len in 0..secret.len() {
        fs::write(&file, &secret[..len]).unwrap();
        assert_eq!(
            refused(FileVault::open(path)),
            Code::VaultDamaged.number(),
            "{len} bytes"
        );
    }
    fs::write(&file, [&secret[..], b"x"].concat()).unwrap();
    assert_eq!(refused(FileVault::open(path)), Code::VaultDamaged.number());
    fs::write(&file, &secret).unwrap();
    open(path).destroy().unwrap();
    assert_eq!(refused(FileVault::open(path)), Code::VaultMissing.number());
}
