//! One suite that every signer passes: keys in files, keys in a token, a vault that nothing can be plugged into, and a
//! signing service in front of either. Then what a token's failures end in.
//!
//! SoftHSM is the token, OpenSSL the vault, `pkcs11-tool` the second opinion.

mod suite;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ampoule_keys as keys;
use keys::external::ExternalSignature;
use keys::file::{FileKey, LockedKey};
use keys::journal::{By, Journal, verify};
use keys::lms::{self, NewCounter, Set};
use keys::pkcs11::{Pkcs11Uri, Token};
use keys::service::client::{Address, ServiceKey};
use keys::service::policy::Policy;
use keys::service::server::Service;
use keys::{Code, Content, DevelopmentOnly, Job, Object, PublicKey, Result, SignatureAlgorithm, Signer, file};
use suite::softhsm::{PIN, TOKEN, pin, present, run, with_softhsm};
use suite::{Kind, conforms, job, last_signature, purpose};

const ALGORITHMS: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Esp256, SignatureAlgorithm::Ed25519];
const WRONG_PIN: &str = "314159";
const PASSPHRASE: &str = "four random words here";

#[test]
fn key_files_conform() {
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        conforms(&saved(algorithm, folder.path()), &in_a_file());
    }
}

#[test]
fn ml_dsa_key_files_conform_and_sign_no_images() {
    let folder = tempfile::tempdir().unwrap();
    let kind = Kind {
        no_digest: Some(Code::KeyAlgorithm),
        digests: 3,
        ..in_a_file()
    };
    conforms(&saved(SignatureAlgorithm::MlDsa65, folder.path()), &kind);
}

#[test]
fn lms_key_files_conform() {
    let (folder, medium) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("lms.pem");
    let set = Set::new(10, 4).unwrap();
    let counter = NewCounter::File(medium.path().join("counter"));
    lms::create(&path, set, &counter, &pin(PASSPHRASE)).unwrap();
    let kind = Kind {
        development_only: Some(DevelopmentOnly::LmsFile),
        digests: 10,
        ..in_a_file()
    };
    conforms(&unlocked(&path), &kind);
}

fn in_a_file() -> Kind<'static> {
    Kind {
        development_only: Some(DevelopmentOnly::File),
        secrets: &[PASSPHRASE],
        ..Kind::PRODUCTION
    }
}

/// A new key, as it comes back from its encrypted file.
fn saved(algorithm: SignatureAlgorithm, folder: &Path) -> FileKey {
    let path = folder.join("key.pem");
    file::generate(algorithm)
        .unwrap()
        .save_new(&path, &pin(PASSPHRASE))
        .unwrap();
    unlocked(&path)
}

fn unlocked(path: &Path) -> FileKey {
    LockedKey::read(path).unwrap().unlock(Some(&pin(PASSPHRASE))).unwrap()
}

#[test]
fn a_service_before_key_files_conforms() {
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().to_path_buf();
        serves(|| Box::new(saved(algorithm, &key)));
    }
}

#[test]
fn a_service_before_a_token_conforms() {
    with_softhsm("a_service_before_a_token_conforms", |module| {
        for (name, algorithm) in [("a", ALGORITHMS[0]), ("b", ALGORITHMS[1])] {
            let uri = Pkcs11Uri::parse(&format!("{TOKEN};object={name}")).unwrap();
            let token = Token::find(&uri, Some(module)).unwrap();
            token.generate(&uri, algorithm, Some(&pin(PIN))).unwrap();
            serves(|| Box::new(token.open(&uri, Some(&pin(PIN))).unwrap()));
        }
    });
}

const CLIENT_TOKEN: &str = "secret";

/// The suite for a key behind a service, whose own journal has every signature before its client has it.
fn serves(open: impl Fn() -> Box<dyn Signer> + Sync) {
    let folder = tempfile::tempdir().unwrap();
    let (socket, path) = (folder.path().join("sock"), folder.path().join("service.jsonl"));
    let (journal, listener) = (Journal::at(&path, None), UnixListener::bind(&socket).unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serve = || {
            let open = Box::new(|_: &_| Ok(open()));
            let service = Service::start(policy(), journal.clone(), By::default(), || 1_764_053_478, open);
            service.unwrap().serve(&listener, &stop).unwrap();
        };
        let serving = scope.spawn(serve);
        let address = Address::parse(&format!("service:{}?key=ci", socket.display())).unwrap();
        let asked = std::panic::catch_unwind(|| {
            let key = ServiceKey::open(address, Some(CLIENT_TOKEN.to_owned().into())).unwrap();
            conforms(&key, &behind_a_service());
            let purpose = purpose(Object::Image);
            let signature = key.sign(&job(Content::Digest(&[8; 32]), &purpose)).unwrap();
            assert_eq!(last_signature(&path), trust::Sha256::of(signature.as_cose()));
        });
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap();
        asked.unwrap();
    });
    assert!(verify::files(&[&path], None).unwrap().is_whole());
}

/// It signs no message that it does not understand.
fn behind_a_service() -> Kind<'static> {
    Kind {
        development_only: Some(DevelopmentOnly::SigningService),
        lens: &[0, 1, 1000],
        digests: 20,
        no_blind_message: Some(Code::ServiceForbidden),
        secrets: &[CLIENT_TOKEN, PIN],
        ..Kind::PRODUCTION
    }
}

fn policy() -> Policy {
    let class: String = suite::class().iter().map(|byte| format!("{byte:02x}")).collect();
    let class = [&class[..8], &class[8..12], &class[12..16], &class[16..20], &class[20..]].join("-");
    let uid = rustix::process::getuid().as_raw();
    let allow = |object: &str, more: &str| {
        format!(
            "[[client.allow]]\nkey = \"ci\"\nobject = \"{object}\"\nclasses = [\"{class}\"]\nper-hour = 9999\n\
             per-day = 9999\n{more}\n"
        )
    };
    // printf secret | sha256sum
    let text = format!(
        "schema = 1\n[[key]]\nname = \"ci\"\nuri = \"ci.pem\"\nenvironment = \"development\"\n[[client]]\n\
         name = \"runner\"\nuid = {uid}\n\
         token-sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"\n{}{}",
        allow("release", ""),
        allow("image", "blind-digests = true"),
    );
    Policy::parse(&text, &|_| None).unwrap()
}

#[test]
fn a_vault_that_signs_files_conforms() {
    if !present("openssl") {
        return;
    }
    // OpenSSL's command line signs no empty file.
    let kind = Kind {
        lens: &[1, 31, 32, 64, 65, 1000, 1 << 20],
        digests: 20,
        ..Kind::PRODUCTION
    };
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        conforms(&Vault::new(folder.path(), algorithm), &kind);
    }
}

/// OpenSSL behind files: the bytes go out, the signature comes back.
struct Vault {
    folder: PathBuf,
    public: PublicKey,
}

impl Vault {
    fn new(folder: &Path, algorithm: SignatureAlgorithm) -> Vault {
        let kind: &[&str] = match algorithm {
            SignatureAlgorithm::Esp256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            _ => &["ed25519"],
        };
        run(
            folder,
            "openssl",
            &[&["genpkey", "-out", "key", "-algorithm"], kind].concat(),
        );
        let pem = run(folder, "openssl", &["pkey", "-in", "key", "-pubout"]);
        Vault {
            folder: folder.into(),
            public: PublicKey::from_pem(&pem).unwrap(),
        }
    }
}

impl Signer for Vault {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn describe(&self) -> String {
        "a vault".into()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        None
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let (bytes, form) = match (job.content, self.algorithm()) {
            (Content::Digest(digest), SignatureAlgorithm::Esp256) => (digest.to_vec(), None),
            (Content::Digest(digest), _) => (digest.to_vec(), Some("-rawin")),
            (Content::Message(parts), _) => (parts.concat(), Some("-rawin")),
        };
        std::fs::write(self.folder.join("to-sign"), bytes).unwrap();
        let sign = [
            "pkeyutl",
            "-sign",
            "-inkey",
            "key",
            "-in",
            "to-sign",
            "-out",
            "signature",
        ];
        run(&self.folder, "openssl", &[&sign[..], form.as_slice()].concat());
        let signature = std::fs::read(self.folder.join("signature")).unwrap();
        ExternalSignature::parse(self.public.clone(), &signature, "file signature")?.make_signature(job)
    }
}

#[test]
fn keys_in_a_token_conform_and_two_handles_sign_at_once() {
    with_softhsm("keys_in_a_token_conform_and_two_handles_sign_at_once", |module| {
        for (name, algorithm) in [("a", ALGORITHMS[0]), ("b", ALGORITHMS[1])] {
            let uri = Pkcs11Uri::parse(&format!("{TOKEN};object={name}")).unwrap();
            let open = || {
                let token = Token::find(&uri, Some(module)).unwrap();
                (token.open(&uri, Some(&pin(PIN))).unwrap(), token)
            };
            let token = Token::find(&uri, Some(module)).unwrap();
            let made = token.generate(&uri, algorithm, Some(&pin(PIN))).unwrap();
            assert!(made.protection.is_whole(), "{made:?}");
            assert_eq!(token.examine(&uri, Some(&pin(PIN))).unwrap(), made);
            let made = made.public;
            let (key, _) = open();
            assert_eq!(
                (key.public_key(), token.public_key(&uri).unwrap()),
                (&made, made.clone())
            );
            assert_eq!(key.development_only(), None);
            conforms(&key, &in_a_token());
            std::thread::scope(|scope| {
                for (key, _) in [open(), open()] {
                    scope.spawn(move || conforms(&key, &in_a_token()));
                }
            });
            let again = token.generate(&uri, algorithm, Some(&pin(PIN)));
            assert!(again.unwrap_err().is(Code::TokenKeyExists));
        }
    });
}

fn in_a_token() -> Kind<'static> {
    Kind {
        digests: 40,
        secrets: &[PIN],
        ..Kind::PRODUCTION
    }
}

#[test]
fn the_private_key_cannot_be_read_out_of_the_token() {
    with_softhsm("the_private_key_cannot_be_read_out_of_the_token", |module| {
        use cryptoki::object::{Attribute, AttributeType, ObjectClass};
        let uri = Pkcs11Uri::parse(&format!("{TOKEN};object=a")).unwrap();
        let token = Token::find(&uri, Some(module)).unwrap();
        token.generate(&uri, ALGORITHMS[0], Some(&pin(PIN))).unwrap();
        let _logged_in = token.open(&uri, Some(&pin(PIN))).unwrap();

        let library = cryptoki::context::Pkcs11::new(module).unwrap();
        let slot = library.get_slots_with_initialized_token().unwrap()[0];
        let session = library.open_rw_session(slot).unwrap();
        let private = session
            .find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])
            .unwrap();
        let [private] = private[..] else { panic!("one key") };
        // The token answers Ok and says nothing.
        assert_eq!(session.get_attributes(private, &[AttributeType::Value]).unwrap(), []);
        let wrapping = session.generate_key(
            &cryptoki::mechanism::Mechanism::AesKeyGen,
            &[
                Attribute::Wrap(true),
                Attribute::ValueLen(32.into()),
                Attribute::Token(false),
            ],
        );
        let wrapped = session.wrap_key(
            &cryptoki::mechanism::Mechanism::AesKeyWrapPad,
            wrapping.unwrap(),
            private,
        );
        assert!(format!("{:?}", wrapped.unwrap_err()).contains("KeyUnextractable"));
        // Nor can it be made extractable afterwards.
        let opened_up = session.update_attributes(private, &[Attribute::Extractable(true)]);
        assert!(opened_up.is_err());
    });
}

#[test]
fn each_failure_of_a_token_has_its_number() {
    with_softhsm("each_failure_of_a_token_has_its_number", |module| {
        let parse = |text: &str| Pkcs11Uri::parse(text).unwrap();
        let find = |text: &str| Token::find(&parse(text), Some(module));
        let code = |result: Result<()>| result.unwrap_err().name;
        let folder = PathBuf::from(std::env::var_os("SOFTHSM2_CONF").unwrap());
        let folder = folder.parent().unwrap();

        let no_library = Token::find(&parse(TOKEN), Some(Path::new("/nowhere.so")));
        assert_eq!(code(no_library.map(drop)), "PKCS11_MODULE");
        assert_eq!(code(Token::find(&parse(TOKEN), None).map(drop)), "PKCS11_MODULE");
        assert_eq!(code(find("pkcs11:token=other").map(drop)), "TOKEN_MISSING");

        let token = find(TOKEN).unwrap();
        let key = parse(&format!("{TOKEN};object=a"));
        assert_eq!(code(token.open(&key, None).map(drop)), "PIN_NEEDED");
        let wrong = token.open(&key, Some(&pin(WRONG_PIN))).map(drop).unwrap_err();
        assert!(
            wrong.is(Code::PinWrong) && !wrong.to_string().contains(WRONG_PIN),
            "{wrong}"
        );
        assert!(wrong.what.contains("few are left"), "{wrong}");
        assert_eq!(code(token.open(&key, Some(&pin(PIN))).map(drop)), "TOKEN_KEY_MISSING");
        assert_eq!(
            code(token.generate(&parse(TOKEN), ALGORITHMS[0], None).map(drop)),
            "PKCS11_URI"
        );

        let library = module.to_str().unwrap();
        let make = |label: &str, id: &str, kind: &str| {
            let place = ["--token-label", "conformance", "--login", "--pin", PIN];
            let wanted = ["--keypairgen", "--key-type", kind, "--label", label, "--id", id];
            run(
                folder,
                "pkcs11-tool",
                &[&["--module", library], &place[..], &wanted[..]].concat(),
            );
        };
        make("twice", "11", "EC:prime256v1");
        make("twice", "12", "EC:prime256v1");
        make("rsa", "13", "rsa:2048");
        let token = find(TOKEN).unwrap();
        let open = |object: &str| token.open(&parse(&format!("{TOKEN};object={object}")), Some(&pin(PIN)));
        assert_eq!(code(open("twice").map(drop)), "TOKEN_KEY_TWICE");
        assert_eq!(code(open("rsa").map(drop)), "KEY_ALGORITHM");
        let one = token
            .open(&parse(&format!("{TOKEN};object=twice;id=%12")), Some(&pin(PIN)))
            .unwrap();
        conforms(&one, &in_a_token());

        // Meant for something else, by its owner's word.
        let session = cryptoki::context::Pkcs11::new(module).unwrap();
        let slot = session.get_slots_with_initialized_token().unwrap()[0];
        let session = session.open_rw_session(slot).unwrap();
        let label = cryptoki::object::Attribute::Label("derive".into());
        let parameters = vec![6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let public = [label.clone(), cryptoki::object::Attribute::EcParams(parameters)];
        let private = [label, cryptoki::object::Attribute::Sign(false)];
        let make = cryptoki::mechanism::Mechanism::EccKeyPairGen;
        session.generate_key_pair(&make, &public, &private).unwrap();
        assert_eq!(code(open("derive").map(drop)), "TOKEN_KEY_USE");

        // The other program takes our signature, and no changed one. A token's ECDSA is over a digest, so that is its input.
        let purpose = purpose(Object::Record);
        let job = job(Content::Digest(&[7; 32]), &purpose);
        let signature = one.sign(&job).unwrap();
        let verifies = |signature: &[u8]| {
            std::fs::write(folder.join("digest"), [7; 32]).unwrap();
            std::fs::write(folder.join("signature"), signature).unwrap();
            let key = ["--token-label", "conformance", "--login", "--pin", PIN, "--id", "12"];
            let files = ["--input-file", "digest", "--signature-file", "signature"];
            let place = ["--module", library, "--verify", "-m", "ECDSA"];
            let mut peer = std::process::Command::new("pkcs11-tool");
            let output = peer
                .args([&place[..], &key, &files].concat())
                .current_dir(folder)
                .output();
            String::from_utf8_lossy(&output.unwrap().stdout).contains("Signature is valid")
        };
        assert!(verifies(signature.as_cose()));
        let mut changed = signature.as_cose().to_vec();
        changed[63] ^= 1;
        assert!(!verifies(&changed));

        // Gone between opening and signing.
        std::fs::remove_dir_all(folder.join("tokens")).unwrap();
        assert_eq!(code(one.sign(&job).map(drop)), "TOKEN_REMOVED");
        assert_eq!(code(one.sign_all(&[job; 3]).map(drop)), "TOKEN_REMOVED");
    });
}
