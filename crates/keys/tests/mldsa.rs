//! ML-DSA-65 keys: in files as RFC 9881 has them, and never for images.

use std::path::Path;

use ampoule_keys::file::{self, LockedKey};
use ampoule_keys::{
    Code, Content, DevelopmentOnly, Job, Object, Passphrase, PublicKey, Purpose, SignatureAlgorithm, Signer,
};
use trust::mldsa::MlDsa65;
use trust::{BadSignature, Verifier};

fn vector(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors/ml-dsa")
        .join(name)
}

fn purpose() -> Purpose {
    Purpose {
        object: Object::Release,
        subject: "a test".into(),
        digest: [7; 32],
    }
}

#[test]
fn the_published_key_is_read_and_written_as_published() {
    let key = LockedKey::read(&vector("rfc9881-65-seed.pem")).unwrap();
    let key = key.unlock(None).unwrap();
    let public = PublicKey::read(&vector("rfc9881-65-public.pem")).unwrap();
    assert_eq!(*key.public_key(), public);
    let text = std::fs::read_to_string(vector("rfc9881-65-public.pem")).unwrap();
    assert_eq!(public.to_pem().trim(), text.trim());
    assert_eq!(key.development_only(), Some(DevelopmentOnly::Unencrypted));
    assert_eq!((public.algorithm_name(), public.raw().len()), ("ml-dsa-65", 1952));
}

#[test]
fn a_key_survives_its_file_and_signs_messages_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let passphrase = Passphrase::new("four random words here");
    let made = file::generate(SignatureAlgorithm::MlDsa65).unwrap();
    made.save_new(&path, &passphrase).unwrap();
    let key = LockedKey::read(&path).unwrap().unlock(Some(&passphrase)).unwrap();
    assert_eq!(key.public_key(), made.public_key());
    assert_eq!(PublicKey::read(&path).unwrap(), *key.public_key());
    assert_eq!(key.development_only(), Some(DevelopmentOnly::File));

    let purpose = purpose();
    let content = Content::Message(&[b"mess", b"age"]);
    let job = Job {
        content,
        purpose: &purpose,
    };
    let signature = key.sign(&job).unwrap();
    assert_eq!(
        (signature.as_cose().len(), signature.algorithm()),
        (3309, SignatureAlgorithm::MlDsa65)
    );
    let public = key.public_key().borrow();
    assert_eq!(MlDsa65.verify(&public, &[b"message"], signature.as_cose()), Ok(()));
    assert_eq!(
        MlDsa65.verify(&public, &[b"massage"], signature.as_cose()),
        Err(BadSignature)
    );
    for at in (0..3309).step_by(97) {
        let mut changed = signature.as_cose().to_vec();
        changed[at] ^= 1;
        assert_eq!(
            MlDsa65.verify(&public, &[b"message"], &changed),
            Err(BadSignature),
            "{at}"
        );
    }
    assert_eq!(
        MlDsa65.verify(&public, &[b"message"], &signature.as_cose()[1..]),
        Err(BadSignature)
    );

    let job = Job {
        content: Content::Digest(&[7; 32]),
        purpose: &purpose,
    };
    assert!(key.sign(&job).unwrap_err().is(Code::KeyAlgorithm));
    assert_eq!(trust::image_key_hash(&public), None);
}
