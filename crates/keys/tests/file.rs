//! Key files: what is written, what is read, and what is refused with which number. OpenSSL is the peer.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ampoule_keys as keys;
use keys::file::{self, FileKey, LockedKey};
use keys::{
    Code, Content, DevelopmentOnly, Job, Object, Passphrase, PublicKey, Purpose, Signature, SignatureAlgorithm, Signer,
};
use tempfile::TempDir;

const ALGORITHMS: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256];
const PASSPHRASE: &str = "four random words";

fn saved(algorithm: SignatureAlgorithm) -> (TempDir, PathBuf, PublicKey) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let key = file::generate(algorithm).unwrap();
    key.save_new(&path, &Passphrase::new(PASSPHRASE)).unwrap();
    let public = key.public_key().clone();
    (dir, path, public)
}

fn refused<T>(result: keys::Result<T>) -> Code {
    let error = result.err().expect("an error");
    *Code::ALL
        .iter()
        .find(|code| error.is(**code))
        .expect("a code of the table")
}

fn sign(key: &FileKey, content: Content<'_>) -> Signature {
    let purpose = Purpose {
        object: Object::Record,
        subject: "a test".into(),
        digest: [0; 32],
    };
    let purpose = &purpose;
    key.sign(&Job { content, purpose }).unwrap()
}

#[test]
fn a_new_key_comes_back_with_its_passphrase_and_signs() {
    for algorithm in ALGORITHMS {
        let (_dir, path, public) = saved(algorithm);
        let locked = LockedKey::read(&path).unwrap();
        assert!(locked.needs_passphrase());
        let key = locked.unlock(Some(&Passphrase::new(PASSPHRASE))).unwrap();
        assert_eq!(*key.public_key(), public);
        assert_eq!(key.development_only(), Some(DevelopmentOnly::File));
        assert!(key.describe().contains("key.pem"));

        let verifier = trust::PORTABLE.find(algorithm).unwrap();
        let by_message = sign(&key, Content::Message(&[&b"mess"[..], b"", b"age"]));
        verifier
            .verify(&public.borrow(), &[b"message"], by_message.as_cose())
            .unwrap();
        let digest = trust::Sha256::of(b"image");
        let by_digest = sign(&key, Content::Digest(&digest));
        verifier
            .verify_digest(&public.borrow(), &digest, by_digest.as_cose())
            .unwrap();
        assert_eq!(
            sign(&key, Content::Digest(&digest)),
            by_digest,
            "signatures are deterministic"
        );
    }
}

#[test]
fn two_new_keys_differ() {
    for algorithm in ALGORITHMS {
        let (a, b) = (file::generate(algorithm).unwrap(), file::generate(algorithm).unwrap());
        assert_ne!(a.public_key(), b.public_key());
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_is_for_its_owner_only_and_never_replaces_another() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path, _) = saved(SignatureAlgorithm::Ed25519);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let before = fs::read(&path).unwrap();
    let another = file::generate(SignatureAlgorithm::Ed25519).unwrap();
    assert_eq!(
        refused(another.save_new(&path, &Passphrase::new(PASSPHRASE))),
        Code::KeyExists
    );
    assert_eq!(fs::read(&path).unwrap(), before);

    // Nor is a link followed to somewhere else.
    let link = path.with_file_name("link.pem");
    std::os::unix::fs::symlink(path.with_file_name("elsewhere.pem"), &link).unwrap();
    assert_eq!(
        refused(another.save_new(&link, &Passphrase::new(PASSPHRASE))),
        Code::KeyExists
    );
}

#[test]
fn a_short_passphrase_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let key = file::generate(SignatureAlgorithm::Ed25519).unwrap();
    assert_eq!(
        refused(key.save_new(&path, &Passphrase::new("short"))),
        Code::PassphraseTooShort
    );
    assert!(!path.exists());
    let nowhere = dir.path().join("missing").join("key.pem");
    assert_eq!(
        refused(key.save_new(&nowhere, &Passphrase::new(PASSPHRASE))),
        Code::KeyFileWrite
    );
}

#[test]
fn the_public_key_can_be_had_without_the_passphrase_and_must_fit() {
    for algorithm in ALGORITHMS {
        let (_dir, path, public) = saved(algorithm);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        assert!(!text.contains("-----BEGIN PRIVATE KEY-----") && text.ends_with(&public.to_pem()));
        assert_eq!(PublicKey::read(&path).unwrap(), public);

        let other = file::generate(algorithm).unwrap().public_key().to_pem();
        fs::write(&path, text.replace(&public.to_pem(), &other)).unwrap();
        let key = LockedKey::read(&path)
            .unwrap()
            .unlock(Some(&Passphrase::new(PASSPHRASE)));
        assert_eq!(refused(key), Code::KeyHalvesDiffer);
    }
}

#[test]
fn wrong_or_missing_passphrases_have_their_numbers() {
    for algorithm in ALGORITHMS {
        let (_dir, path, _) = saved(algorithm);
        let open = |passphrase: Option<&str>| LockedKey::read(&path)?.unlock(passphrase.map(Passphrase::new).as_ref());
        assert_eq!(refused(open(None)), Code::PassphraseNeeded);
        for wrong in ["", "four random word", "four random words "] {
            assert_eq!(refused(open(Some(wrong))), Code::WrongPassphrase);
        }
    }
}

#[test]
fn what_is_not_a_private_key_has_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_eq!(refused(LockedKey::read(&path)), Code::KeyFileMissing);
    assert_eq!(refused(LockedKey::read(dir.path())), Code::KeyFileRead);
    let public = file::generate(SignatureAlgorithm::Esp256)
        .unwrap()
        .public_key()
        .to_pem();
    let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_string();
    let huge = "x".repeat(20_000);
    for (contents, code) in [
        (String::new(), Code::NotAKey),
        ("hello".into(), Code::NotAKey),
        ("\u{0}\u{ff}".into(), Code::NotAKey),
        (certificate, Code::NotAKey),
        (huge, Code::NotAKey),
        (public, Code::KeyPublicOnly),
    ] {
        fs::write(&path, &contents).unwrap();
        assert_eq!(refused(LockedKey::read(&path)), code, "{contents:.40}");
    }
    for label in ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY"] {
        let empty = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        fs::write(&path, empty).unwrap();
        owner_only(&path);
        let code = refused(LockedKey::read(&path).and_then(|key| key.unlock(Some(&Passphrase::new(PASSPHRASE)))));
        assert!(matches!(code, Code::NotAKey | Code::KeyAlgorithm), "{label}: {code:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_encrypted_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path, _) = saved(SignatureAlgorithm::Esp256);
    for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(refused(LockedKey::read(&path)), Code::KeyFileMode, "{mode:o}");
    }
    for mode in [0o600, 0o400, 0o700] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(LockedKey::read(&path).is_ok(), "{mode:o}");
    }
}

#[test]
fn every_truncation_and_bit_of_a_key_file_ends_in_an_error_or_the_same_key() {
    let (_dir, path, public) = saved(SignatureAlgorithm::Ed25519);
    let whole = fs::read(&path).unwrap();
    let variants = (0..whole.len() - 1).step_by(17).map(|end| whole[..end].to_vec());
    let flipped = (0..whole.len()).step_by(29).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    });
    for contents in variants.chain(flipped) {
        fs::write(&path, &contents).unwrap();
        // A flipped bit in a newline or in the label of the public block leaves the key as it was; never another key.
        if let Ok(key) = LockedKey::read(&path).and_then(|key| key.unlock(Some(&Passphrase::new(PASSPHRASE)))) {
            assert_eq!(*key.public_key(), public);
        }
    }
}

// With OpenSSL as the peer.

#[test]
fn openssl_reads_what_we_write() {
    if !openssl_present() {
        return;
    }
    for algorithm in ALGORITHMS {
        let (_dir, path, public) = saved(algorithm);
        let pass = format!("pass:{PASSPHRASE}");
        let read = openssl(
            &["pkey", "-in", path.to_str().unwrap(), "-passin", &pass, "-pubout"],
            b"",
        );
        assert_eq!(String::from_utf8(read.unwrap()).unwrap(), public.to_pem());
        assert!(openssl(&["pkey", "-in", path.to_str().unwrap(), "-passin", "pass:wrong"], b"").is_none());
    }
}

#[test]
fn we_read_what_openssl_writes() {
    if !openssl_present() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ec = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    for (algorithm, arguments) in [
        (SignatureAlgorithm::Ed25519, &["-algorithm", "ed25519"][..]),
        (SignatureAlgorithm::Esp256, &ec[..]),
    ] {
        let plain = openssl(&[&["genpkey"][..], arguments].concat(), b"").unwrap();
        let public = String::from_utf8(openssl(&["pkey", "-pubout"], &plain).unwrap()).unwrap();
        let public = PublicKey::from_pem(&public).unwrap();
        let path = dir.path().join("key.pem");

        fs::write(&path, &plain).unwrap();
        let key = LockedKey::read(&path).unwrap();
        assert!(!key.needs_passphrase());
        let key = key.unlock(None).unwrap();
        assert_eq!((key.public_key(), key.algorithm()), (&public, algorithm));
        assert_eq!(key.development_only(), Some(DevelopmentOnly::Unencrypted));
        assert_eq!(PublicKey::read(&path).unwrap(), public);

        for scheme in [
            &["-v2", "aes-256-cbc"][..],
            &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"],
            &["-scrypt"],
        ] {
            let arguments = [&["pkcs8", "-topk8", "-passout", "pass:old"][..], scheme].concat();
            fs::write(&path, openssl(&arguments, &plain).unwrap()).unwrap();
            owner_only(&path);
            let key = LockedKey::read(&path)
                .unwrap()
                .unlock(Some(&Passphrase::new("old")))
                .unwrap();
            assert_eq!(*key.public_key(), public, "{scheme:?}");
            assert_eq!(key.development_only(), Some(DevelopmentOnly::File));
            assert_eq!(refused(PublicKey::read(&path)), Code::PassphraseNeeded);
        }
    }
}

#[test]
fn we_read_sec1_and_refuse_other_algorithms_and_absurd_work() {
    if !openssl_present() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let open = || LockedKey::read(&path)?.unlock(Some(&Passphrase::new("old")));
    for form in [&["-noout"][..], &[]] {
        let arguments = [&["ecparam", "-name", "prime256v1", "-genkey"][..], form].concat();
        fs::write(&path, openssl(&arguments, b"").unwrap()).unwrap();
        assert_eq!(open().unwrap().algorithm(), SignatureAlgorithm::Esp256);
    }

    for other in [
        &["genrsa", "-traditional", "2048"][..],
        &["genrsa", "2048"],
        &["genpkey", "-algorithm", "x25519"],
        &["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
    ] {
        fs::write(&path, openssl(other, b"").unwrap()).unwrap();
        assert_eq!(refused(open()), Code::KeyAlgorithm, "{other:?}");
    }

    let plain = openssl(&["genpkey", "-algorithm", "ed25519"], b"").unwrap();
    for (work, code) in [
        (&["-iter", "10000001"][..], Code::KdfLimit),
        (&["-v1", "PBE-SHA1-3DES"], Code::NotAKey),
        (&["-v2", "des3"], Code::NotAKey),
    ] {
        let arguments = [&["pkcs8", "-topk8", "-passout", "pass:old"][..], work].concat();
        let Some(pem) = openssl(&arguments, &plain) else {
            continue;
        };
        fs::write(&path, pem).unwrap();
        owner_only(&path);
        assert_eq!(refused(open()), code, "{work:?}");
    }
}

fn owner_only(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let _ = path;
}

/// Whether `openssl` is there. In CI it must be; at home its absence is said and skips the test.
fn openssl_present() -> bool {
    let present = Command::new("openssl")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(
        present || std::env::var_os("CI").is_none(),
        "CI needs the openssl command"
    );
    if !present {
        eprintln!("skipped: there is no openssl command here");
    }
    present
}

fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may have failed on its arguments and be gone already; the exit status tells.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    output.status.success().then_some(output.stdout)
}
