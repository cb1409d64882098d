//! `ampoule sign-service`: a build system gets development signatures, and nothing else.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Desk, tokens};
use keys::SignatureAlgorithm::{Ed25519, Esp256};
use keys::service::wire::{Request, Response, SignContent, SignRequest, read_frame, write_frame};
use keys::{Code, Result};
use rustix::process::{Pid, Signal, kill_process};

const BUILD: &str = "release build release.toml --root demo.ampr --passphrase-file pass --image-key image";

/// A running service; ended by SIGTERM.
struct Running {
    child: Child,
}

impl Running {
    /// Starts it and waits until it listens.
    fn start(desk: &Desk) -> Running {
        let mut child = command(desk).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_up = |line: &String| line.starts_with("signing service at");
        let said: Vec<String> = lines
            .by_ref()
            .map_while(|line| line.ok())
            .take_while(|line| !is_up(line))
            .collect();
        assert!(desk.path("sock").exists(), "{said:?}");
        // Somebody has to read what it says later.
        std::thread::spawn(move || lines.for_each(drop));
        Running { child }
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "a clean end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(desk: &Desk) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule"));
    command
        .args("sign-service --policy policy.toml --socket sock --passphrase-file pass".split_whitespace())
        .current_dir(desk.directory())
        .env_clear()
        .env("AMPOULE_PKCS11_MODULE", tokens::MODULE)
        .env("SOFTHSM2_CONF", desk.path("softhsm2.conf"))
        .env("AMPOULE_JOURNAL", desk.path("service.jsonl"));
    command
}

fn desk() -> Desk {
    let desk = Desk::new();
    for (name, algorithm) in [
        ("root", Ed25519),
        ("ci", Ed25519),
        ("other", Ed25519),
        ("image", Esp256),
        ("prod", Ed25519),
    ] {
        desk.key(name, algorithm);
    }
    for (root, environment, release) in [("demo", "development", "ci"), ("prod-root", "production", "prod")] {
        desk.ampoule(&format!(
            "trust init -o {root}.ampr --environment {environment} --vendor-domain ampoule.example --product-line amp-demo \
             --root-key root --release-key {release} --image-key image --passphrase-file pass \
             --i-know-these-production-keys-are-files"
        ))
        .ok();
    }
    fs::write(desk.path("board.toml"), include_str!("../../../boards/mps2-an386.toml")).unwrap();
    fs::write(desk.path("app.bin"), [0x5a; 20_000]).unwrap();
    desk.ampoule("release new").ok();
    policy(&desk, &class(&desk), 2);
    desk
}

/// The class of the recipe's board, as a release names it.
fn class(desk: &Desk) -> String {
    let board = release::board::Board::read(&desk.path("board.toml")).unwrap();
    let vendor = release::identity::vendor_id(&board.vendor_domain);
    release::identity::text(&release::identity::class_id(&vendor, &board.model))
}

fn policy(desk: &Desk, class: &str, per_hour: u32) {
    let uid = rustix::process::getuid().as_raw();
    let key = |name: &str, file: &str, environment: &str, root: &str| {
        format!("[[key]]\nname = \"{name}\"\nuri = \"{file}\"\nenvironment = \"{environment}\"\n{root}\n")
    };
    let allow = |key: &str, object: &str| {
        format!(
            "[[client.allow]]\nkey = \"{key}\"\nobject = \"{object}\"\nclasses = [\"{class}\"]\nper-hour = {per_hour}\n\
             per-day = 50\nrefs = [\"refs/heads/main\"]\n"
        )
    };
    let text = [
        "schema = 1\n".into(),
        key("ci-release", "ci", "development", "root = \"demo.ampr\""),
        key("ci-image", "image", "development", ""),
        // Said to be for development, but a production root lists it.
        key("sly", "prod", "development", "root = \"prod-root.ampr\""),
        key("prod", "other", "production", ""),
        format!("[[client]]\nname = \"runner\"\nuid = {uid}\n"),
        allow("ci-release", "release"),
        allow("ci-image", "image"),
        allow("sly", "release"),
        allow("prod", "release"),
    ];
    fs::write(desk.path("policy.toml"), text.concat()).unwrap();
}

fn uri(key: &str) -> String {
    format!("service:sock?key={key}&ref=refs/heads/main")
}

#[test]
fn a_build_system_signs_for_development_and_for_nothing_else() {
    let desk = desk();
    let running = Running::start(&desk);
    assert_eq!(
        fs::metadata(desk.path("sock")).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let build = |name: &str, key: &str| desk.ampoule(&format!("{BUILD} -o {name}.suit --key {key}"));
    build("one", &uri("ci-release")).ok();
    desk.ampoule("release verify one.suit --root demo.ampr").ok();

    // Production: by the policy's word, and by the root's against the policy's word.
    build("no", &uri("prod")).fails(2067);
    build("no", &uri("sly")).fails(2067);
    // Another ref, a key for something else, a key that is not there.
    build("no", "service:sock?key=ci-release&ref=refs/heads/evil").fails(2065);
    build("no", &uri("ci-image")).fails(2065);
    build("no", &uri("nothing")).fails(2065);
    // A root is signed by people.
    desk.ampoule(&format!(
        "trust init -o evil.ampr --environment development --vendor-domain ampoule.example --product-line x \
         --root-key {} --release-key other.pub --passphrase-file pass",
        uri("ci-release")
    ))
    .fails(2065);
    assert!(!desk.path("no.suit").exists() && !desk.path("evil.ampr").exists());

    build("two", &uri("ci-release")).ok();
    build("three", &uri("ci-release")).fails(2066);
    // The rate is counted in the journal, so a restart does not forget it.
    running.stop();
    assert!(!desk.path("sock").exists());
    let running = Running::start(&desk);
    build("three", &uri("ci-release")).fails(2066);
    running.stop();
    build("three", &uri("ci-release")).fails(2063);

    let journal = |what: &str| desk.ampoule(&format!("journal {what} service.jsonl --json")).json();
    let report = journal("verify");
    assert_eq!(
        (report["whole"].as_bool(), report["signatures"].as_u64()),
        (Some(true), Some(2))
    );
    let entries = journal("show");
    let of_kind = |kind: &str| {
        entries
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["kind"] == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    let signed = &of_kind("signature")[0];
    assert_eq!(signed["facts"]["service-client"], "runner");
    assert_eq!(signed["facts"]["git-ref-as-stated"], "refs/heads/main");
    assert!(
        signed["what"]["subject"].as_str().unwrap().contains(&class(&desk)),
        "{signed}"
    );
    let mut refused: Vec<u64> = of_kind("refusal")
        .iter()
        .map(|entry| entry["refusal"]["number"].as_u64().unwrap())
        .collect();
    refused.sort_unstable();
    assert_eq!(refused, [2065, 2065, 2065, 2065, 2066, 2066, 2067, 2067]);
    // And the client's own journal tells of its two.
    let own = desk.ampoule("journal show --object release --json").json();
    assert_eq!(own.as_array().unwrap().len(), 2);
}

/// The daemon of the page: the key is in a token, the service holds the PIN, the client holds nothing.
#[test]
fn a_key_in_a_token_signs_for_a_build_system_and_comes_back_with_its_token() {
    if !tokens::is_there() {
        return;
    }
    let desk = desk();
    desk.with_tokens(&["ci"]);
    let token = "pkcs11:token=ci;object=ci";
    desk.ampoule(&format!("key new {token} --type p256 --pin-file pin"))
        .ok();
    fs::write(
        desk.path("token.pub"),
        desk.ampoule(&format!("key show {token} --pem")).ok(),
    )
    .unwrap();
    desk.ampoule(
        "trust init -o token.ampr --environment development --vendor-domain ampoule.example --product-line amp-demo \
         --root-key root --release-key token.pub --image-key image --passphrase-file pass",
    )
    .ok();
    let policy = fs::read_to_string(desk.path("policy.toml")).unwrap();
    let file = "uri = \"ci\"\nenvironment = \"development\"\nroot = \"demo.ampr\"";
    let held = format!("uri = \"{token}?pin-source=file:pin\"\nenvironment = \"development\"\nroot = \"token.ampr\"");
    assert!(policy.contains(file));
    fs::write(desk.path("policy.toml"), policy.replace(file, &held)).unwrap();

    let running = Running::start(&desk);
    let build = |name: &str| {
        let release = BUILD.replace("demo.ampr", "token.ampr");
        desk.ampoule(&format!("{release} -o {name}.suit --key {}", uri("ci-release")))
    };
    build("one").ok();
    desk.ampoule("release verify one.suit --root token.ampr").ok();
    // Pulled out, and put in again: nobody has to start the service anew.
    fs::rename(desk.path("tokens"), desk.path("away")).unwrap();
    build("two").fails(2035);
    assert!(!desk.path("two.suit").exists());
    fs::rename(desk.path("away"), desk.path("tokens")).unwrap();
    build("two").ok();
    desk.ampoule("release verify two.suit --root token.ampr").ok();
    running.stop();
    for file in ["service.jsonl", "journal.jsonl"] {
        assert!(!fs::read_to_string(desk.path(file)).unwrap().contains(tokens::PIN));
    }
}

#[test]
fn an_image_is_judged_by_what_it_is() {
    let desk = desk();
    let running = Running::start(&desk);
    let sign = |class: &str| {
        desk.ampoule(&format!(
            "image sign app.bin app.img --version 1.0.0 --header-size 32 --pad-header --slot-size 65536 \
             --vid ampoule.example --cid {class} --key {}",
            uri("ci-image")
        ))
    };
    sign("00000000-0000-0000-0000-000000000001").fails(2065);
    sign(&class(&desk)).ok();
    desk.ampoule("image verify app.img --key image.pub").ok();
    // Without a class an image would run anywhere.
    desk.ampoule(&format!(
        "image sign app.bin b.img --version 1.0.0 --header-size 32 --pad-header --slot-size 65536 --key {}",
        uri("ci-image")
    ))
    .fails(2065);
    running.stop();
}

#[test]
fn another_class_is_refused() {
    let desk = desk();
    policy(&desk, "00000000-0000-0000-0000-000000000001", 2);
    let running = Running::start(&desk);
    let refused = desk
        .ampoule(&format!("{BUILD} -o no.suit --key {}", uri("ci-release")))
        .fails(2065);
    assert!(refused.contains(&class(&desk)), "{refused}");
    running.stop();
}

/// One request as a client that is not ours would send it.
fn ask(desk: &Desk, request: &Request) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(desk.path("sock")).unwrap();
    write_frame(&mut stream, &request.encode()).unwrap();
    Response::decode(&read_frame(&mut stream).unwrap().unwrap())
}

/// A client shows a harmless manifest and asks for a signature over something else, or shows nothing.
#[test]
fn a_client_that_lies_gets_nothing() {
    let desk = desk();
    let running = Running::start(&desk);
    desk.ampoule(&format!("{BUILD} -o one.suit --key {}", uri("ci-release")))
        .ok();
    let envelope = release::envelope::Envelope::parse(fs::read(desk.path("one.suit")).unwrap()).unwrap();
    let manifest = envelope.head().manifest.to_vec();
    let lie = |content: SignContent, shown: &[u8]| {
        ask(
            &desk,
            &Request::Sign(Box::new(SignRequest {
                key: "ci-release".into(),
                object: "release".into(),
                subject: "harmless".into(),
                content,
                shown: shown.to_vec(),
                git_ref: "refs/heads/main".into(),
                token: String::new(),
            })),
        )
        .unwrap_err()
    };
    for (content, shown) in [
        (SignContent::Message(b"a root".to_vec()), &manifest[..]),
        (SignContent::Message(b"a root".to_vec()), &[]),
        (SignContent::Digest([1; 32]), &manifest[..]),
    ] {
        let error = lie(content, shown);
        assert!(error.is(Code::ServiceContent), "{error}");
    }
    running.stop();
}

#[test]
fn garbage_stalls_and_floods_end_with_their_connections() {
    let desk = desk();
    let running = Running::start(&desk);
    let works = || ask(&desk, &Request::Key("ci-release".into()));
    works().unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 2, 0x80, 0x80],
        &[0, 0, 0, 0],
    ] {
        let mut stream = UnixStream::connect(desk.path("sock")).unwrap();
        stream.write_all(garbage).unwrap();
        let error = Response::decode(&read_frame(&mut stream).unwrap().unwrap()).unwrap_err();
        assert!(error.is(Code::ServiceProtocol), "{error}");
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the connection is over");
    }
    // Half a frame, then gone.
    UnixStream::connect(desk.path("sock"))
        .unwrap()
        .write_all(&[0, 0, 1, 0, 1, 2])
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    works().unwrap();

    // As many as one user may have say nothing; the next is sent away, until they are cut off.
    let mut stalled: Vec<UnixStream> = Vec::new();
    let busy = loop {
        assert!(stalled.len() <= 16, "nobody is sent away");
        let mut next = UnixStream::connect(desk.path("sock")).unwrap();
        next.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        match read_frame(&mut next) {
            Ok(frame) => break Response::decode(&frame.unwrap()).unwrap_err(),
            Err(_) => stalled.push(next),
        }
    };
    assert!(busy.is(Code::ServiceBusy), "{busy}");
    let mut slow = &stalled[0];
    slow.write_all(&[0, 1]).unwrap();
    for mut stream in &stalled {
        stream.set_read_timeout(None).unwrap();
        let cut = Response::decode(&read_frame(&mut stream).unwrap().unwrap()).unwrap_err();
        assert!(cut.is(Code::ServiceProtocol), "{cut}");
    }
    std::thread::sleep(Duration::from_millis(300));
    works().unwrap();
    running.stop();
    desk.ampoule("journal verify service.jsonl").ok();
}

#[test]
fn one_socket_has_one_service_and_a_dead_ones_is_taken_over() {
    let desk = desk();
    let mut running = Running::start(&desk);
    let second = command(&desk).output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("(2062 SERVICE_SOCKET)"));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(desk.path("sock").exists(), "it had no time to clean up");
    Running::start(&desk).stop();
    fs::write(desk.path("sock"), "precious").unwrap();
    let refused = command(&desk).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("(2062 SERVICE_SOCKET)"));
    assert_eq!(fs::read(desk.path("sock")).unwrap(), b"precious");
}

#[test]
fn a_token_is_asked_for_where_the_policy_wants_one() {
    let desk = desk();
    let text = fs::read_to_string(desk.path("policy.toml")).unwrap();
    // printf secret | sha256sum
    let token = "token-sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"\n[[client.allow]]";
    fs::write(desk.path("policy.toml"), text.replacen("[[client.allow]]", token, 1)).unwrap();
    let running = Running::start(&desk);
    desk.ampoule(&format!("{BUILD} -o no.suit --key {}", uri("ci-release")))
        .fails(2065);
    desk.ampoule(&format!(
        "{BUILD} -o no.suit --key {}&token-env=CI_TOKEN",
        uri("ci-release")
    ))
    .fails(2065);
    for (value, is_right) in [("wrong", false), ("secret", true)] {
        let done = Command::new(env!("CARGO_BIN_EXE_ampoule"))
            .args(BUILD.split_whitespace())
            .args([
                "-o",
                "yes.suit",
                "--key",
                &format!("{}&token-env=CI_TOKEN", uri("ci-release")),
            ])
            .current_dir(desk.directory())
            .env("AMPOULE_JOURNAL", desk.path("journal.jsonl"))
            .env("CI_TOKEN", value)
            .output()
            .unwrap();
        assert_eq!(
            done.status.success(),
            is_right,
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    running.stop();
    let journal = fs::read_to_string(desk.path("service.jsonl")).unwrap();
    assert!(!journal.contains("secret"), "a token is in the journal");
}
