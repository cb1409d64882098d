//! What a person does with `ampoule` and a board: keys, trust root, releases, and a real device on the other end of a
//! serial line (QEMU, UART 1 on a pty). Only the commands of the manual are used; the console is the witness.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ampoule_sim::firmware::{Build, Programs};
use ampoule_sim::qemu::{self, Board, Options, SmpLine};

/// How long a board may take for anything, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes that make an image long enough to interrupt its upload.
const BALLAST_BYTES: usize = 300_000;

/// The desk of a release engineer, made once: keys, roots and releases, each by the command that a person would type.
struct Office {
    folder: tempfile::TempDir,
    ampoule: PathBuf,
    bootloader: PathBuf,
}

fn office() -> &'static Office {
    static OFFICE: OnceLock<Office> = OnceLock::new();
    OFFICE.get_or_init(Office::open)
}

impl Office {
    fn open() -> Office {
        let one = Build::version("1.0.0").run().expect("the firmware builds");
        let folder = tempfile::tempdir().expect("a folder");
        let office = Office {
            folder,
            ampoule: build_ampoule(),
            bootloader: one.bootloader.clone(),
        };
        std::fs::write(office.path("pass"), "correct horse battery staple").expect("a passphrase file");
        let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards/mps2-an386.toml");
        std::fs::copy(board, office.path("board.toml")).expect("the board file");
        for (key, kind) in [
            ("root", "p256"),
            ("release", "p256"),
            ("image", "p256"),
            ("thief", "ed25519"),
        ] {
            office.ok(&format!("key new {key} --type {kind} --passphrase-file pass"));
        }
        office.ok(
            "trust init -o demo.ampr --environment development --board board.toml --root-key root \
             --release-key release --image-key image --passphrase-file pass",
        );
        let app = |version: &str, behaviour: &str| {
            Build::version(version)
                .behaving(behaviour)
                .run()
                .expect("the firmware builds")
        };
        let two = app("2.0.0", "healthy");
        office.release("one", &one, 1, "1.0.0", 0, RECIPE_TARGET);
        office.release("two", &two, 2, "2.0.0", 0, RECIPE_TARGET);
        office.release("large", &two, 2, "2.0.0", BALLAST_BYTES, RECIPE_TARGET);
        office.release("hangs", &app("3.0.0", "hang"), 3, "3.0.0", 0, RECIPE_TARGET);
        office.release("patient", &app("4.0.0", "patient"), 4, "4.0.0", 0, RECIPE_TARGET);
        office.release("unsure", &app("5.0.0", "never-confirm"), 5, "5.0.0", 0, RECIPE_TARGET);
        let other = "vendor-domain = \"ampoule.example\"\nmodel = \"AMP-OTHER-9\"\n";
        office.release("other", &two, 6, "6.0.0", 0, other);
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a recipe and builds `NAME.suit`; `ballast` bytes behind the firmware make it longer.
    fn release(&self, name: &str, programs: &Programs, sequence: u32, version: &str, ballast: usize, target: &str) {
        let mut firmware = programs.firmware().expect("an application").bytes;
        firmware.extend((0..ballast).map(|i| (i * 31 % 251) as u8));
        std::fs::write(self.path(&format!("{name}.bin")), firmware).expect("firmware");
        let recipe = format!(
            "schema = 1\n[release]\nsequence = {sequence}\nversion = \"{version}\"\n[target]\n{target}[[component]]\n\
             id = [\"app\"]\nfile = \"{name}.bin\"\nformat = \"mcuboot-image\"\nsecurity-counter = 1\n\
             [component.sign]\nheader-size = 0x400\npad-header = true\n"
        );
        std::fs::write(self.path(&format!("{name}.toml")), recipe).expect("a recipe");
        self.ok(&format!(
            "release build {name}.toml -o {name}.suit --key release --image-key image --root demo.ampr \
             --passphrase-file pass"
        ));
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.ampoule);
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env("AMPOULE_JOURNAL", self.path("journal.jsonl"));
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("ampoule starts")
    }

    /// Runs a command that succeeds; gives what it printed, notes included.
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert!(output.status.success(), "ampoule {arguments}\n{said}");
        said
    }
}

const RECIPE_TARGET: &str = "board = \"board.toml\"\n";

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Builds the command line where the test itself was built.
fn build_ampoule() -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a file");
    let profile = exe.ancestors().nth(2).expect("target/PROFILE/deps/test");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ampoule-cli", "--target-dir"])
        .arg(profile.parent().expect("a target directory"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status();
    assert!(
        built.expect("cargo starts").success(),
        "the command line does not build"
    );
    profile.parent().expect("a target directory").join("debug/ampoule")
}

/// A board on a desk, with its flash in a file of its own.
struct Desk {
    office: &'static Office,
    flash: PathBuf,
    board: Option<Board>,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// A board fresh from the factory: erased, and on.
    fn blank() -> Desk {
        let folder = tempfile::tempdir().expect("a folder");
        let mut desk = Desk {
            office: office(),
            flash: folder.path().join("flash.bin"),
            board: None,
            _folder: folder,
        };
        desk.power_on();
        desk
    }

    /// A board that runs version 1.0.0 under the development root.
    fn running() -> Desk {
        let mut desk = Desk::blank();
        desk.ok("provision --root demo.ampr");
        desk.ok("recover one.suit");
        desk.sees("app: self-test passed");
        desk
    }

    fn power_on(&mut self) {
        let options = Options {
            smp: SmpLine::Pty,
            ..Options::default()
        };
        let board = Board::start(&self.flash, &self.office.bootloader, &options);
        self.board = Some(board.unwrap_or_else(|error| panic!("{error}")));
    }

    fn power_off(&mut self) {
        self.board = None;
    }

    fn board(&mut self) -> &mut Board {
        self.board.as_mut().expect("the board is on")
    }

    /// Waits until the console says this; gives the rest of its line.
    fn sees(&mut self, text: &str) -> String {
        self.board()
            .wait_for(text, PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn arguments(&mut self, command: &str) -> String {
        format!("device {command} --port {}", self.board().pty().display())
    }

    fn ok(&mut self, command: &str) -> String {
        let arguments = self.arguments(command);
        self.office.ok(&arguments)
    }

    /// Runs a device command that fails with this number; gives the message.
    fn fails(&mut self, command: &str, number: u16) -> String {
        let arguments = self.arguments(command);
        let output = self.office.run(&arguments);
        let said = said(&output);
        assert!(
            !output.status.success() && said.contains(&format!("({number} ")),
            "ampoule {arguments}\n{said}"
        );
        said
    }
}

#[test]
fn a_blank_board_is_provisioned_recovered_and_updated() {
    let mut desk = Desk::blank();
    assert_eq!(desk.sees("nothing may start, reason "), "940");
    let blank = desk.ok("info");
    assert!(
        blank.contains("none: provision the device") && blank.contains("recovery"),
        "{blank}"
    );
    desk.fails("recover one.suit", 940);
    desk.fails("update one.suit", 942);
    assert!(desk.ok("provision --root demo.ampr").contains("development"));
    desk.fails("provision --root demo.ampr", 1012);
    assert!(desk.ok("recover one.suit").contains("Version 1.0.0 runs"));
    desk.sees("app: self-test passed");
    desk.fails("recover one.suit", 1018);

    let updated = desk.ok("update two.suit --root demo.ampr");
    assert!(updated.contains("Version 2.0.0 is confirmed"), "{updated}");
    desk.sees("app: confirmed");
    let shown = desk.ok("info");
    assert!(shown.contains("running version:        2.0.0"), "{shown}");
    assert!(shown.contains("confirmed sequence:     2"), "{shown}");
    assert!(
        shown.contains("signed:") && shown.contains("no: this device has no identity yet"),
        "{shown}"
    );
    // The same release again changes nothing.
    let again = desk.ok("update two.suit");
    assert!(again.contains("installed and confirmed already"), "{again}");
}

#[test]
fn a_board_refuses_what_nobody_released_for_it() {
    let mut desk = Desk::running();
    let office = desk.office;
    let mut tampered = std::fs::read(office.path("two.suit")).expect("a release");
    *tampered.last_mut().expect("bytes") ^= 1;
    std::fs::write(office.path("tampered.suit"), tampered).expect("a file");
    desk.fails("update tampered.suit", 508);
    desk.fails("update tampered.suit --unchecked", 508);

    desk.fails("update other.suit", 602);

    // A thief with a key of their own, and with everything else right.
    office.ok("release build two.toml -o stolen.suit --key thief --image-key image --passphrase-file pass");
    desk.fails("update stolen.suit --root demo.ampr", 219);
    let refused = desk.fails("update stolen.suit", 219);
    assert!(refused.contains("ampoule release verify"), "{refused}");

    // Two is installed; one is older now.
    desk.ok("update two.suit");
    let old = desk.fails("update one.suit", 607);
    assert!(old.contains("higher sequence number"), "{old}");
}

#[test]
fn a_release_that_hangs_is_reverted_and_the_device_says_why() {
    let mut desk = Desk::running();
    let said = desk.fails("update hangs.suit", 931);
    assert!(said.contains("version 1.0.0 runs again"), "{said}");
    let shown = desk.ok("info");
    assert!(
        shown.contains("last failure:") && shown.contains("931 REVERTED_WATCHDOG"),
        "{shown}"
    );
    // The device goes on living: the next good release is installed.
    assert!(desk.ok("update patient.suit --no-reset").contains("staged"));
}

#[test]
fn a_confirmation_from_outside_waits_for_the_self_test() {
    let mut desk = Desk::running();
    // What is confirmed stays so.
    assert!(desk.ok("confirm").contains("is confirmed"));
    // Passes its self-test and waits to be told.
    let waiting = desk.fails("update patient.suit --confirm-timeout 6", 2212);
    assert!(waiting.contains("still runs on trial"), "{waiting}");
    assert!(desk.ok("confirm").contains("is confirmed"));
    assert!(desk.ok("info").contains("running version:        4.0.0"));
    // Never passes its self-test: nobody can confirm it.
    desk.ok("update unsure.suit --no-reset");
    desk.ok("reset");
    assert_eq!(desk.sees("boot: starting 5"), ".0.0+0 trial");
    desk.sees("app: version 5.0.0");
    desk.fails("confirm", 1001);
    assert_eq!(desk.sees("boot: starting 4"), ".0.0+0 confirmed");
}

#[test]
fn a_broken_image_is_recovered_with_the_image_of_a_release() {
    let mut desk = Desk::running();
    desk.power_off();
    let primary = 0x4_0000;
    qemu::program(&desk.flash, primary + 0x1000, &[0; 64]).expect("the flash");
    desk.power_on();
    desk.sees("nothing may start, reason ");
    assert!(desk.ok("info").contains("recovery"));
    assert!(desk.ok("recover one.suit").contains("Version 1.0.0 runs"));
    desk.sees("app: self-test passed");
}

/// The way into production at the station, and the end, by the commands of docs/lifecycle.md.
#[test]
fn a_board_leaves_development_for_production_and_ends() {
    let mut desk = Desk::running();
    let office = desk.office;
    // Keys of its own: nothing of development is authority in production.
    for key in ["product-root", "product-release", "product-image"] {
        office.ok(&format!("key new {key} --type p256 --passphrase-file pass"));
    }
    office.ok(
        "trust init -o production.ampr --environment production --board board.toml --root-key product-root \
         --release-key product-release --image-key product-image --passphrase-file pass \
         --i-know-these-production-keys-are-files",
    );
    office.ok(
        "release build two.toml -o product.suit --key product-release --image-key product-image --root production.ampr \
         --passphrase-file pass --i-know-these-production-keys-are-files",
    );

    assert!(desk.ok("lifecycle --to provisioned --yes").contains("is provisioned"));
    let left = desk.ok("lifecycle --leave-development --yes");
    assert!(left.contains("waits for a production root"), "{left}");
    let shown = desk.ok("info");
    assert!(shown.contains("provision the device for production"), "{shown}");
    desk.fails("recover one.suit", 940);
    desk.fails("provision --root demo.ampr", 1025);
    assert!(desk.ok("provision --root production.ampr").contains("production"));
    // The development image still stands in its slot, and starts nothing.
    desk.fails("recover one.suit", 907);
    assert!(desk.ok("recover product.suit").contains("Version 2.0.0 runs"));
    desk.sees("app: self-test passed");
    let shown = desk.ok("info");
    assert!(
        shown.contains("version 1, production") && shown.contains("provisioned"),
        "{shown}"
    );

    desk.fails("lifecycle --leave-development --yes", 1024);
    assert!(
        desk.ok("lifecycle --to decommissioned --yes")
            .contains("decommissioned")
    );
    desk.fails("recover product.suit", 944);
    desk.fails("provision --root production.ampr", 944);
}

#[test]
fn an_upload_that_loses_power_goes_on_where_it_stopped() {
    let mut desk = Desk::running();
    let office = desk.office;
    let arguments = desk.arguments("update large.suit --timeout 2 --no-reset");
    let mut child = office
        .command(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ampoule");
    let secondary = 0x0c_0000;
    wait_until(|| is_written(&desk.flash, secondary + 0x2_0000));
    desk.power_off();
    assert!(
        !child.wait().expect("ampoule ends").success(),
        "the power was cut too late"
    );
    desk.power_on();
    desk.sees("app: self-test passed");
    let resumed = desk.ok("update large.suit");
    assert!(resumed.contains("bytes of it already"), "{resumed}");
    assert!(resumed.contains("Version 2.0.0 is confirmed"), "{resumed}");
}

fn wait_until(mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "time ran out");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the flash holds something at this offset.
fn is_written(flash: &Path, offset: u64) -> bool {
    qemu::read_back(flash, offset, 64).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0xff))
}
