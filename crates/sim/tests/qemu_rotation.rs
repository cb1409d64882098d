//! A board follows its authority: from root 1 to root 3 by a chain in front of a release, restarted once per root, with the
//! commands that a person types; and then believes nothing of the keys that were dropped.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ampoule_sim::bench::Bench;
use ampoule_sim::firmware::Build;
use ampoule_sim::fixture::{Key, Root, Scheme};
use ampoule_sim::qemu::{Board, Options, SmpLine};
use ampoule_sim::station::Station;

const PATIENCE: Duration = Duration::from_secs(90);

fn build_ampoule() -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a file");
    let profile = exe.ancestors().nth(2).expect("target/PROFILE/deps/test");
    let target = profile.parent().expect("a target directory");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ampoule-cli", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(
        built.expect("cargo starts").success(),
        "the command line does not build"
    );
    target.join("debug/ampoule")
}

/// A board on a desk, and the command line beside it.
struct Desk {
    ampoule: PathBuf,
    station: Station,
    board: Board,
}

impl Desk {
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.station.file(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    fn device(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(&self.ampoule)
            .arg("device")
            .args(arguments)
            .args(["--port".as_ref(), self.board.pty().as_os_str()])
            .output()
            .expect("ampoule starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (success, said) = self.device(arguments);
        assert!(success, "ampoule device {arguments:?}\n{said}");
        said
    }

    fn fails(&self, arguments: &[&str], number: u16) {
        let (success, said) = self.device(arguments);
        assert!(
            !success && said.contains(&format!("({number} ")),
            "ampoule device {arguments:?}\n{said}"
        );
    }

    fn sees(&mut self, text: &str) -> String {
        self.board
            .wait_for(text, PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Root N+1 with other keys for releases and images, signed by the keys of both.
fn next(root: &Root, number: u32) -> (Root, Key, Key) {
    let key = |role: &str| Key::new(Scheme::P256, &format!("{role} {number}"));
    let (root_key, release, image) = (key("root"), key("release"), key("image"));
    let old = root.roles.iter().find(|(role, ..)| *role == 1).expect("a root role");
    let signers = [&old.2[0], &root_key];
    let next = root
        .next()
        .role(1, 1, &[&root_key])
        .role(2, 1, &[&release])
        .role(6, 1, &[&image])
        .signed(&signers);
    (next, release, image)
}

#[test]
fn a_board_follows_its_root_and_refuses_the_dropped_keys() {
    let ampoule = build_ampoule();
    let (bench, one) = Bench::new(Scheme::P256, &Build::version("1.0.0")).expect("a bench");
    let image = bench.image(&one, (1, 0, 0), 1, 0).expect("an image");
    let options = Options {
        smp: SmpLine::Pty,
        ..Options::default()
    };
    let station = Station::new(bench);
    station.write(&station.factory(&image), &station.bench.flash);
    let board = station.bench.start(&options).expect("a board");
    let mut desk = Desk {
        ampoule,
        station,
        board,
    };
    desk.sees("app: self-test passed");

    let first = desk.station.bench.authority.trust_root.clone();
    let old = desk.station.bench.authority.clone();
    let (second, ..) = next(&first, 2);
    let (third, release, image) = next(&second, 3);
    let chain = [first.build(), second.build(), third.build()].concat();
    let two = Build::version("2.0.0").run().expect("the firmware builds");

    // Under root 3: its release key, its image key.
    (desk.station.bench.authority.release, desk.station.bench.authority.image) = (release, image);
    let bench = &desk.station.bench;
    let good = bench.image(&two, (2, 0, 0), 2, 0).expect("an image");
    let good = desk.file("two.suit", &bench.release(2, &good, 2));
    let chain = desk.file("chain.ampr", &chain);
    let (good, chain) = (good.to_str().expect("text"), chain.to_str().expect("text"));
    desk.fails(&["update", good], 219);
    let updated = desk.ok(&["update", good, "--root-chain", chain]);
    assert!(updated.contains("what follows trust root version 1"), "{updated}");
    assert!(updated.contains("what follows trust root version 2"), "{updated}");
    assert!(updated.contains("Version 2.0.0 is confirmed"), "{updated}");
    let shown = desk.ok(&["info"]);
    assert!(shown.contains("version 3, production"), "{shown}");
    assert!(shown.contains("pinned:") && shown.contains("in force"), "{shown}");

    // The dropped keys: a release of theirs, and an image of theirs in a release of the new key.
    let three = Build::version("3.0.0").run().expect("the firmware builds");
    let bench = &mut desk.station.bench;
    let new = std::mem::replace(&mut bench.authority, old);
    let stolen = bench.image(&three, (3, 0, 0), 3, 0).expect("an image");
    let by_old = bench.release(3, &stolen, 3);
    bench.authority = new;
    let by_new = bench.release(4, &stolen, 3);
    let by_old = desk.file("old.suit", &by_old);
    let by_new = desk.file("mixed.suit", &by_new);
    desk.fails(&["update", by_old.to_str().expect("text")], 219);
    desk.fails(&["update", by_new.to_str().expect("text")], 907);

    // A chain alone; one with a gap; and the old one again, which is no news.
    let (fourth, ..) = next(&third, 4);
    let (fifth, ..) = next(&fourth, 5);
    let gap = desk.file("gap.ampr", &fifth.build());
    desk.fails(&["update", gap.to_str().expect("text")], 803);
    let fourth = desk.file("fourth.ampr", &fourth.build());
    let followed = desk.ok(&["update", fourth.to_str().expect("text")]);
    assert!(followed.contains("follows this chain"), "{followed}");
    desk.ok(&["update", chain]);
    assert!(desk.ok(&["info"]).contains("version 4, production"));
}
