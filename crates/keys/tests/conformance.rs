//! One suite that every signer passes, and what a token's failures end in. SoftHSM is the token, OpenSSL the vault that
//! nothing can be plugged into, `pkcs11-tool` the second opinion.
//!
//! SoftHSM reads its configuration once per process, so each test with a token runs itself again in a process with a
//! token folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use ampoule_keys as keys;
use keys::external::ExternalSignature;
use keys::pkcs11::{Pkcs11Uri, Token};
use keys::{
    Code, Content, DevelopmentOnly, Job, Object, Passphrase, PublicKey, Purpose, Result, SignatureAlgorithm, Signer,
    file,
};

const ALGORITHMS: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Esp256, SignatureAlgorithm::Ed25519];
const PIN: &str = "271828";
const WRONG_PIN: &str = "314159";
const TOKEN: &str = "pkcs11:token=conformance";

/// What every signer does.
fn conforms(signer: &dyn Signer) {
    conforms_from(0, signer);
}

/// The same for messages of `len_min` bytes and more.
fn conforms_from(len_min: usize, signer: &dyn Signer) {
    let purpose = Purpose {
        object: Object::Record,
        subject: "a test".into(),
        digest: [0; 32],
    };
    let key = PublicKey::from_raw(signer.algorithm(), &signer.public_key().raw()).unwrap();
    let verifier = trust::PORTABLE.find(signer.algorithm()).unwrap();
    let sign = |content: Content<'_>| {
        let job = Job {
            content,
            purpose: &purpose,
        };
        signer.sign(&job).unwrap().as_cose().to_vec()
    };
    for len in [len_min, 1, 31, 32, 64, 65, 1000, 1 << 20] {
        let message: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
        let (first, second) = message.split_at(len / 3);
        let mut signature = sign(Content::Message(&[first, b"", second]));
        verifier.verify(&key.borrow(), &[&message], &signature).unwrap();
        signature[len % 64] ^= 1;
        assert!(verifier.verify(&key.borrow(), &[&message], &signature).is_err());
    }
    for round in 0..100u8 {
        let digest = [round; 32];
        let signature = sign(Content::Digest(&digest));
        verifier.verify_digest(&key.borrow(), &digest, &signature).unwrap();
        assert!(
            verifier
                .verify_digest(&key.borrow(), &[!round; 32], &signature)
                .is_err()
        );
    }
    let name = signer.describe();
    assert!(
        !name.is_empty() && !name.contains(PIN) && !name.contains('\n'),
        "{name}"
    );
}

#[test]
fn key_files_conform() {
    for algorithm in ALGORITHMS {
        conforms(&file::generate(algorithm).unwrap());
    }
}

#[test]
fn a_vault_that_signs_files_conforms() {
    if !present("openssl") {
        return;
    }
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        // OpenSSL's command line signs no empty file.
        conforms_from(1, &Vault::new(folder.path(), algorithm));
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
            conforms(&key);
            std::thread::scope(|scope| {
                for (key, _) in [open(), open()] {
                    scope.spawn(move || conforms(&key));
                }
            });
            let again = token.generate(&uri, algorithm, Some(&pin(PIN)));
            assert!(again.unwrap_err().is(Code::TokenKeyExists));
        }
    });
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
        conforms(&one);

        // Gone between opening and signing.
        std::fs::remove_dir_all(folder.join("tokens")).unwrap();
        let purpose = Purpose {
            object: Object::Record,
            subject: "a test".into(),
            digest: [0; 32],
        };
        let job = Job {
            content: Content::Digest(&[7; 32]),
            purpose: &purpose,
        };
        assert_eq!(one.sign(&job).unwrap_err().name, "TOKEN_REMOVED");
    });
}

fn pin(text: &str) -> Passphrase {
    Passphrase::new(text)
}

/// Runs `story` with SoftHSM's library, in a process whose token folder holds one new token.
fn with_softhsm(test: &str, story: fn(&Path)) {
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
fn present(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let present = std::env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    assert!(present || std::env::var_os("CI").is_none(), "CI needs {program}");
    if !present {
        eprintln!("skipped: there is no {program} here; `cargo xtask setup` installs it");
    }
    present
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {failed}");
    String::from_utf8(output.stdout).unwrap()
}
