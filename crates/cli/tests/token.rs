//! Keys in a token on the command line, with SoftHSM as the token.

mod common;

use std::process::{Command, Output};

use common::Desk;
use common::tokens::{self, MODULE, PIN};

#[test]
fn a_key_in_a_token_is_made_listed_shown_and_signs() {
    let Some(bench) = Bench::new(&["release"]) else { return };
    for algorithm in ["p256", "ed25519"] {
        let uri = format!("pkcs11:token=release;object={algorithm}");
        bench.ok(&["key", "new", &uri, "--type", algorithm, "--pin-file", "pin"]);
        // Public halves are had without the PIN.
        let listed = bench.ok(&["key", "list"]);
        assert!(listed.contains(&format!("object={algorithm};id=%")), "{listed}");
        let pem = bench.ok(&["key", "show", &uri, "--pem"]);
        std::fs::write(bench.desk.path("public.pem"), pem).unwrap();

        bench.approved(&[&["image", "sign", "-k", &uri, "--pin-env", "PIN"], &IMAGE[..]].concat());
        bench.ok(&["image", "verify", "-k", "public.pem", "signed.bin"]);
        bench.ok(&["image", "verify", "-k", &uri, "signed.bin"]);
        bench.fails(&["key", "new", &uri, "--type", algorithm, "--pin-file", "pin"], 2043);
    }
}

/// The recipe of a release that needs no board.
const RECIPE: &str = "schema = 1\n[release]\nsequence = 1\nversion = \"1.0\"\n[target]\nvendor-domain = \"ampoule.example\"\n\
     model = \"GATEWAY\"\nclass = \"linux\"\n[[component]]\nid = [\"rootfs\"]\nfile = \"fw.bin\"\nformat = \"block-image\"\n";

#[test]
fn a_key_in_a_token_signs_no_release_and_no_image_in_it_unseen() {
    let Some(bench) = Bench::new(&["release"]) else { return };
    let uri = |name: &str| format!("pkcs11:token=release;object={name}");
    let (root, release, image) = (uri("root"), uri("release"), uri("image"));
    for uri in [&root, &release, &image] {
        bench.ok(&["key", "new", uri, "--type", "p256", "--pin-file", "pin"]);
    }
    for (file, environment) in [("production.ampr", "production"), ("development.ampr", "development")] {
        bench.ok(&[
            "trust",
            "init",
            "-o",
            file,
            "--environment",
            environment,
            "--vendor-domain",
            "ampoule.example",
            "--product-line",
            "gateways",
            "--root-key",
            &root,
            "--release-key",
            &release,
            "--image-key",
            &image,
            "--pin-file",
            "pin",
        ]);
    }
    std::fs::write(bench.desk.path("release.toml"), RECIPE).unwrap();
    let build = |root: &'static str| {
        [
            "release",
            "build",
            "release.toml",
            "-o",
            "app.suit",
            "--root",
            root,
            "--pin-file",
            "pin",
        ]
    };
    let production = [&build("production.ampr")[..], &["--key", &release]].concat();

    let statement = bench.fails(&production, 2138);
    for shown in ["1.0", "production", "rootfs", "not compared"] {
        assert!(statement.contains(shown), "{shown}: {statement}");
    }
    bench.fails(&[&production[..], &["--yes"]].concat(), 2139);
    bench.fails(&[&production[..], &["--approve", &"ab".repeat(32)]].concat(), 2140);
    let unseen = bench.fails(&[&production[..], &["--image-key", &image]].concat(), 2138);
    assert!(unseen.contains("image sign"), "{unseen}");
    assert!(!bench.desk.path("app.suit").exists());
    bench.approved(&production);
    bench.ok(&["release", "verify", "app.suit", "--root", "production.ampr"]);

    std::fs::rename(bench.desk.path("app.suit"), bench.desk.path("old.suit")).unwrap();
    std::fs::write(bench.desk.path("release.toml"), RECIPE.replace("1.0", "1.1")).unwrap();
    let changed = bench.fails(&[&production[..], &["--previous", "old.suit"]].concat(), 2138);
    assert!(changed.contains("version: 1.0 -> 1.1"), "{changed}");

    // On the desk: without the root's word for it --yes is not enough, under a development root it is.
    let alone = [
        "release",
        "build",
        "release.toml",
        "-o",
        "app.suit",
        "--key",
        &release,
        "--pin-file",
        "pin",
        "--yes",
    ];
    bench.fails(&alone, 2139);
    let development = [
        &build("development.ampr")[..],
        &["--key", &release, "--image-key", &image],
    ]
    .concat();
    bench.fails(&development, 2138);
    bench.ok(&[&development[..], &["--yes"]].concat());
}

#[test]
fn every_mistake_with_a_token_ends_in_its_number() {
    let Some(bench) = Bench::new(&["release", "other"]) else {
        return;
    };
    let uri = "pkcs11:token=release;object=a";
    bench.ok(&["key", "new", uri, "--type", "p256", "--pin-file", "pin"]);
    bench.ok(&[
        "key",
        "new",
        "pkcs11:token=other;object=a",
        "--type",
        "p256",
        "--pin-file",
        "pin",
    ]);
    std::fs::write(bench.desk.path("wrong"), "314159").unwrap();
    for (arguments, number) in [
        (&["key", "show", "pkcs11:token"][..], 2030),
        (&["key", "show", "pkcs11:token=release?pin-value=271828"], 2031),
        (
            &["key", "show", "pkcs11:token=release;object=a?module-path=/nowhere.so"],
            2032,
        ),
        (&["key", "show", "pkcs11:token=nobody;object=a"], 2033),
        (&["key", "show", "pkcs11:object=a"], 2034),
        (&["key", "show", uri, "--unlock"], 2036),
        (&["key", "show", uri, "--unlock", "--pin-file", "wrong"], 2037),
        (&["key", "show", uri, "--unlock", "--pin-file", "missing"], 2039),
        (&["key", "show", uri, "--unlock", "--pin-env", "UNSET"], 2039),
        (&["key", "show", "pkcs11:token=release;object=b"], 2040),
        (
            &["key", "new", "pkcs11:token=release;object=b", "--type", "lms-h5-w8"],
            2011,
        ),
    ] {
        let message = bench.fails(arguments, number);
        assert!(!message.contains(PIN) && !message.contains("314159"), "{message}");
    }
    // One PIN is tried on one token only; each token's own pin-source serves both.
    let other = "pkcs11:token=other;object=a";
    let both = ["image", "sign", "--pin-file", "pin", "-k", uri, "-k", other];
    let both = [&both[..], &IMAGE].concat();
    let digest = bench.digest(&both);
    bench.fails(&[&both[..], &["--approve", &digest]].concat(), 2047);
    assert!(!bench.desk.path("signed.bin").exists());
    let (one, two) = (
        format!("{uri}?pin-source=file:pin"),
        format!("{other}?pin-source=file:pin"),
    );
    bench.approved(&[&["image", "sign", "-k", &one, "-k", &two], &IMAGE[..]].concat());
}

#[test]
fn a_token_without_the_mechanism_says_so_and_nothing_is_made() {
    let Some(bench) = Bench::new(&["release"]) else { return };
    let uri = "pkcs11:token=release;object=a";
    bench.ok(&["key", "new", uri, "--type", "p256", "--pin-file", "pin"]);
    let sign = |uri: &'static str| [&["image", "sign", "-k", uri, "--pin-file", "pin"][..], &IMAGE].concat();
    let digest = bench.digest(&sign(uri));
    let all = std::fs::read_to_string(bench.desk.path("softhsm2.conf")).unwrap();
    // A token that hashes and does nothing else.
    let little = format!("{all}slots.mechanisms = CKM_SHA256\n");
    std::fs::write(bench.desk.path("softhsm2.conf"), little).unwrap();
    bench.fails(&[&sign(uri)[..], &["--approve", &digest]].concat(), 2042);
    assert!(!bench.desk.path("signed.bin").exists());
    let other = "pkcs11:token=release;object=b";
    bench.fails(&["key", "new", other, "--type", "p256", "--pin-file", "pin"], 2042);
    std::fs::write(bench.desk.path("softhsm2.conf"), &all).unwrap();
    bench.fails(&["key", "show", other], 2040);
    bench.ok(&[&sign(uri)[..], &["--approve", &digest]].concat());
}

/// The token stands where `ampoule` cannot reach it, and another program asks it.
#[test]
fn what_was_written_out_to_be_signed_another_program_lets_the_token_sign() {
    let Some(bench) = Bench::new(&["vault"]) else { return };
    bench.peer(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--label",
        "vault",
        "--usage-sign",
    ]);
    bench.peer(&[
        "--read-object",
        "--type",
        "pubkey",
        "--label",
        "vault",
        "-o",
        "vault.der",
    ]);
    bench.openssl("pkey -pubin -inform DER -in vault.der -out vault.pub");
    bench.ok(&[&["image", "sign", "--vector-to-sign", "digest"][..], &IMAGE].concat());
    std::fs::rename(bench.desk.path("signed.bin"), bench.desk.path("digest")).unwrap();
    // Raw and DER; the second is what such programs write for openssl.
    for format in ["rs", "openssl"] {
        let files = ["--input-file", "digest", "--output-file", format];
        let sign = [
            "--sign",
            "-m",
            "ECDSA",
            "--label",
            "vault",
            "--signature-format",
            format,
        ];
        bench.peer(&[&sign[..], &files].concat());
        let back = ["image", "sign", "--fix-sig", format, "--fix-sig-pubkey", "vault.pub"];
        bench.ok(&[&back[..], &IMAGE].concat());
        bench.ok(&["image", "verify", "-k", "vault.pub", "signed.bin"]);
        std::fs::remove_file(bench.desk.path("signed.bin")).unwrap();
    }
}

#[test]
fn a_certificate_stands_beside_its_key_where_other_programs_find_it() {
    let Some(bench) = Bench::new(&["release"]) else { return };
    let (uri, other) = ("pkcs11:token=release;object=www", "pkcs11:token=release;object=other");
    for uri in [uri, other] {
        bench.ok(&["key", "new", uri, "--type", "p256", "--pin-file", "pin"]);
    }
    // What certifies it does not matter here: an authority of openssl's, and the public key as the token gives it.
    std::fs::write(bench.desk.path("public.pem"), bench.ok(&["key", "show", uri, "--pem"])).unwrap();
    let certify = |days: &str, out: &str| {
        bench.openssl(&format!(
            "x509 -new -force_pubkey public.pem -signkey authority.key -subj /CN=www.example.com -days {days} -out {out}"
        ));
    };
    bench.openssl("ecparam -name prime256v1 -genkey -noout -out authority.key");
    certify("30", "first.pem");
    certify("60", "next.pem");

    let keep = |uri: &'static str, file: &'static str| ["key", "certificate", uri, file, "--pin-file", "pin"];
    bench.fails(&keep(other, "first.pem"), 2079);
    bench.fails(&keep(uri, "public.pem"), 2330);
    bench.fails(&keep("public.pem", "first.pem"), 2209);
    bench.ok(&keep(uri, "first.pem"));
    bench.ok(&keep(uri, "first.pem"));
    let listed = bench.ok(&["key", "list"]);
    assert_eq!(
        listed.matches("certificate of CN=www.example.com, until ").count(),
        1,
        "{listed}"
    );
    bench.fails(&keep(uri, "next.pem"), 2079);
    bench.ok(&[&keep(uri, "next.pem")[..], &["--replace"]].concat());
    assert_eq!(bench.ok(&["key", "list"]).matches("certificate of").count(), 1);

    bench.peer(&["--read-object", "--type", "cert", "--label", "www", "-o", "read.der"]);
    bench.openssl("x509 -inform DER -in read.der -out read.pem");
    assert_eq!(
        std::fs::read(bench.desk.path("read.pem")).unwrap(),
        std::fs::read(bench.desk.path("next.pem")).unwrap()
    );
    // A token that keeps no public key where there is a certificate: the key is that of the certificate.
    bench.peer(&["--delete-object", "--type", "pubkey", "--label", "www"]);
    bench.peer(&["--delete-object", "--type", "pubkey", "--label", "other"]);
    let sign = |uri: &'static str| [&["image", "sign", "-k", uri, "--pin-env", "PIN"][..], &IMAGE].concat();
    bench.approved(&sign(uri));
    bench.ok(&["image", "verify", "-k", "public.pem", "signed.bin"]);
    let digest = bench.digest(&sign(other));
    bench.fails(&[&sign(other)[..], &["--approve", &digest]].concat(), 2045);
}

/// How the image of these tests is made.
const IMAGE: [&str; 9] = [
    "-v",
    "1.2.3",
    "-H",
    "32",
    "-S",
    "0x4000",
    "--pad-header",
    "fw.bin",
    "signed.bin",
];

/// A desk with tokens of its own, all with one PIN.
struct Bench {
    desk: Desk,
    /// The first of its tokens.
    token: String,
}

impl Bench {
    fn new(labels: &[&str]) -> Option<Bench> {
        if !tokens::is_there() {
            return None;
        }
        let bench = Bench {
            desk: Desk::new(),
            token: labels.first().map(|label| (*label).to_owned()).unwrap_or_default(),
        };
        bench.desk.with_tokens(labels);
        std::fs::write(bench.desk.path("fw.bin"), [1; 1000]).unwrap();
        Some(bench)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .current_dir(self.desk.directory())
            .env("SOFTHSM2_CONF", self.desk.path("softhsm2.conf"))
            .env("AMPOULE_PKCS11_MODULE", MODULE)
            .env("PIN", PIN)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    /// Another program at the first token, logged in.
    fn peer(&self, arguments: &[&str]) {
        let place = [
            "--module",
            MODULE,
            "--token-label",
            &self.token,
            "--login",
            "--pin",
            PIN,
        ];
        let output = self.run("pkcs11-tool", &[&place[..], arguments].concat());
        assert!(output.status.success(), "{output:?}");
    }

    fn openssl(&self, arguments: &str) {
        let output = self.run("openssl", &arguments.split_whitespace().collect::<Vec<_>>());
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(env!("CARGO_BIN_EXE_ampoule"), arguments);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ampoule {arguments:?}: {failed}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Reads the statement, and gives the digest that stands there: a key in a token signs nothing unseen.
    fn digest(&self, arguments: &[&str]) -> String {
        let statement = self.fails(arguments, 2138);
        let said = |line: &str| Some(line.strip_prefix("  digest")?.trim_start_matches([':', ' ']).to_owned());
        statement.lines().find_map(said).expect("a digest")
    }

    fn approved(&self, arguments: &[&str]) -> String {
        let digest = self.digest(arguments);
        self.ok(&[arguments, &["--approve", &digest]].concat())
    }

    fn fails(&self, arguments: &[&str], number: u16) -> String {
        let output = self.run(env!("CARGO_BIN_EXE_ampoule"), arguments);
        let failed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "ampoule {arguments:?}: {failed}");
        assert!(
            failed.contains(&format!("({number} ")),
            "ampoule {arguments:?}: {failed}"
        );
        failed
    }
}
