//! The life of a trust root, as people at several desks type it: propose, sign, rotate, revoke, and every mistake.

mod common;

use common::{Desk, Ran};
use keys::SignatureAlgorithm::{Ed25519, Esp256};

const INIT: &str = "trust init -o 1.ampr --environment development --vendor-domain ampoule.example --product-line amp-demo \
                    --root-key root1 --root-key root2 --root-key root3.pub --root-threshold 2 --release-key alice.pub \
                    --release-key bob.pub --image-key image.pub --distribute-key clock.pub --revoke-key guard.pub \
                    --passphrase-file pass";

/// Three root keys of which two sign, and keys for every role; version 1 is made.
fn desk() -> Desk {
    let desk = Desk::new();
    for name in ["root1", "root2", "root3", "root4", "alice", "clock", "guard"] {
        desk.key(name, Ed25519);
    }
    for name in ["bob", "carol", "image", "image2"] {
        desk.key(name, Esp256);
    }
    desk.ampoule(INIT).ok();
    desk
}

fn propose(desk: &Desk, from: u32, rest: &str) -> Ran {
    let next = from + 1;
    desk.ampoule(&format!("trust propose --from {from}.ampr -o {next}.ampr {rest}"))
}

fn sign(desk: &Desk, file: &str, previous: &str, key: &str) -> Ran {
    desk.ampoule(&format!(
        "trust sign {file} --previous {previous} --key {key} --yes --passphrase-file pass"
    ))
}

/// Proposes version N+1, signed by root1 and root2, and appends it to the chain.
fn rotate(desk: &Desk, from: u32, rest: &str) {
    let next = from + 1;
    propose(desk, from, rest).ok();
    for key in ["root1", "root2"] {
        sign(desk, &format!("{next}.ampr"), &format!("{from}.ampr"), key).ok();
    }
    desk.ampoule(&format!(
        "trust rotate --from {from}.ampr --next {next}.ampr --chain roots.ampc"
    ))
    .ok();
}

fn id_of(desk: &Desk, key: &str) -> String {
    let shown = desk.ampoule(&format!("key show {key}.pub --json")).json();
    shown["key_id"]
        .as_str()
        .or(shown["id"].as_str())
        .unwrap_or_else(|| panic!("{shown}"))
        .to_owned()
}

#[test]
fn two_people_sign_a_new_root_one_after_the_other_and_devices_follow_it() {
    let desk = desk();
    let proposed = propose(&desk, 1, "--remove-key alice.pub --add-key release=carol.pub").ok();
    for line in ["role release: - ed25519", "role release: + p256", "Proposed version 2"] {
        assert!(proposed.contains(line), "{line}: {proposed}");
    }
    // Unsigned, then half signed: no device takes it, and the message says who is missing.
    let missing = desk.ampoule("trust verify 2.ampr --previous 1.ampr").fails(804);
    assert!(missing.contains("2 more of the root keys of version 1"), "{missing}");
    let first = sign(&desk, "2.ampr", "1.ampr", "root1").ok();
    assert!(
        first.contains("waits for 1 more of the root keys of version 1"),
        "{first}"
    );
    desk.ampoule("trust rotate --from 1.ampr --next 2.ampr --chain roots.ampc")
        .fails(804);
    assert!(!desk.path("roots.ampc").exists());
    let second = sign(&desk, "2.ampr", "1.ampr", "root3").ok();
    assert!(second.contains("complete: devices will take it"), "{second}");
    let verified = desk.ampoule("trust verify 2.ampr --previous 1.ampr --json").json();
    assert_eq!(verified["standing"]["complete"], true);
    desk.ampoule("trust rotate --from 1.ampr --next 2.ampr --chain roots.ampc")
        .ok();
    assert_eq!(
        std::fs::read(desk.path("roots.ampc")).unwrap(),
        ["1.ampr", "2.ampr"]
            .map(|name| std::fs::read(desk.path(name)).unwrap())
            .concat()
    );
    assert!(sign(&desk, "2.ampr", "1.ampr", "root1").fails(2019).contains("signed"));
}

#[test]
fn a_first_root_is_made_by_people_who_never_meet() {
    let desk = desk();
    let init = INIT
        .replace("-o 1.ampr", "-o first.ampr --propose")
        .replace("root1 ", "root1.pub ")
        .replace("root2 ", "root2.pub ");
    desk.ampoule(&init).ok();
    assert_eq!(
        desk.ampoule("trust show first.ampr --json").json()["signatures"],
        serde_json::json!([])
    );
    desk.ampoule("trust verify first.ampr").fails(805);
    desk.ampoule("device provision --root first.ampr --port nowhere")
        .fails(801);
    std::fs::copy(desk.path("first.ampr"), desk.path("copy.ampr")).unwrap();
    // Both sign a copy of their own; a third puts the signatures together.
    for (file, key) in [("first.ampr", "root1"), ("copy.ampr", "root3")] {
        desk.ampoule(&format!("trust sign {file} --key {key} --yes --passphrase-file pass"))
            .ok();
    }
    desk.ampoule("trust verify first.ampr").fails(805);
    let joined = desk.ampoule("trust join first.ampr copy.ampr").ok();
    assert!(joined.contains("complete"), "{joined}");
    desk.ampoule("trust verify first.ampr").ok();
    propose(&desk, 1, "--add-key release=carol.pub").ok();
    let differ = desk.ampoule("trust join first.ampr 2.ampr").fails(2135);
    assert!(differ.contains("two statements"), "{differ}");
    desk.ampoule("trust verify first.ampr").ok();
}

#[test]
fn history_tells_every_version_and_a_chain_is_verified_from_anywhere() {
    let desk = desk();
    std::fs::write(
        desk.path("names.toml"),
        format!("schema = 1\n[keys]\n\"{}\" = \"Alice Archer\"\n", id_of(&desk, "alice")),
    )
    .unwrap();
    rotate(&desk, 1, "--add-key image=image2.pub");
    rotate(
        &desk,
        2,
        "--revoke alice.pub --min-sequence AMP-DEMO-1=7 --vendor-domain ampoule.example",
    );
    rotate(&desk, 3, "--add-key root=root4.pub --expires 2099-01-01");
    let history = desk.ampoule("trust history roots.ampc --names names.toml").ok();
    for line in [
        "role image: + p256",
        "revoked: + release key Alice Archer",
        "lowest sequence for class",
        ": 0 -> 7",
        "expires: never -> 2099-01-01T00:00:00Z",
        "root keys of version 3: ",
    ] {
        assert!(history.contains(line), "{line}: {history}");
    }
    assert_eq!(
        desk.ampoule("trust history roots.ampc --json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        4
    );
    for (from, first) in [("", 1), ("--previous 3.ampr", 3), ("--previous 4.ampr", 4)] {
        let walked = desk.ampoule(&format!("trust verify roots.ampc {from} --json")).json();
        assert_eq!(
            (&walked["from version"], &walked["to version"]),
            (&first.into(), &4.into()),
            "{from}"
        );
    }
    // The same chain from its files, whatever their order; with a version missing there is none.
    desk.ampoule("trust chain -o again.ampc 4.ampr 2.ampr 1.ampr 3.ampr")
        .ok();
    let bytes = |name| std::fs::read(desk.path(name)).unwrap();
    assert_eq!(bytes("again.ampc"), bytes("roots.ampc"));
    desk.ampoule("trust chain -o gap.ampc 1.ampr 2.ampr 4.ampr").fails(803);
    desk.ampoule("trust rotate --from 2.ampr --next 3.ampr --chain roots.ampc")
        .fails(2142);
    assert_eq!(bytes("again.ampc"), bytes("roots.ampc"));
}

#[test]
fn a_root_that_would_leave_devices_unreachable_is_refused_before_anybody_signs() {
    let desk = desk();
    let board = include_str!("../../../boards/mps2-an386.toml");
    let only_p256 = board.replace("algorithms = [\"p256\", \"ed25519\"]", "algorithms = [\"p256\"]");
    std::fs::write(desk.path("p256.toml"), only_p256).unwrap();
    std::fs::write(desk.path("board.toml"), board.replace("root = 2048", "root = 1400")).unwrap();
    std::fs::write(desk.path("other.toml"), board.replace("amp-demo", "amp-other")).unwrap();
    for (options, number) in [
        ("--threshold release=0", 2130),
        ("--threshold release=3", 2130),
        ("--threshold root=4", 2130),
        ("--remove-key image.pub", 2130),
        ("--revoke image.pub", 2130),
        ("--revoke root1.pub --revoke root2.pub", 2130),
        ("--remove-role release", 2130),
        ("--require release --require release-second", 2130),
        ("--image-require image --image-require image-second", 2130),
        ("--expires 2001-01-01", 2134),
        ("--add-key release=carol.pub --board p256.toml", 2132),
        ("--add-key release=carol.pub --board board.toml", 105),
        ("--add-key release=carol.pub --board other.toml", 2133),
        ("--add-key root=alice.pub", 2019),
        (
            "--remove-key alice.pub --revoke alice.pub --add-key release=alice.pub",
            2133,
        ),
        ("--add-key nobody=carol.pub", 2133),
        ("--remove-key 0123456789abcdef", 2133),
        ("--remove-key carol.pub", 2133),
        ("--require distribute", 2133),
        ("--require release --require image", 2133),
        ("--min-sequence AMP-DEMO-1=7", 2133),
        ("--threshold image-second=1", 2133),
        ("--expires someday", 2133),
        ("", 2133),
    ] {
        propose(&desk, 1, options).fails(number);
        assert!(!desk.path("2.ampr").exists(), "{options}");
    }
}

#[test]
fn what_is_allowed_and_yet_dangerous_is_said() {
    let desk = desk();
    let soon = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 86_400;
    let noted = propose(
        &desk,
        1,
        &format!("--expires {soon} --remove-key image.pub --add-key image=image2.pub"),
    );
    noted.ok();
    for note in [
        "expires within 90 days",
        "is pinned and keeps running",
        "role image has no spare key",
    ] {
        assert!(noted.stderr().contains(note), "{note}: {}", noted.stderr());
    }
}

#[test]
fn changes_may_stand_in_a_file() {
    let desk = desk();
    let class = "ede90b60-052b-5a20-84dd-0b72f61219a5";
    std::fs::write(
        desk.path("edits.toml"),
        format!(
            "schema = 1\nremove-key = [\"alice.pub\"]\nrequire = [\"release\", \"distribute\"]\nexpires = \"2099-01-01\"\n\
             [threshold]\nrelease = 2\n[min-sequence]\n\"{class}\" = 3\n[[add-key]]\nrole = \"release\"\nkey = \"carol.pub\"\n"
        ),
    )
    .unwrap();
    let proposed = propose(&desk, 1, "--edits edits.toml").ok();
    for line in [
        "role release: threshold 1 -> 2 of 2 keys",
        "a delivery needs: release -> release and distribute",
        "class ede90b60-052b-5a20-84dd-0b72f61219a5: 0 -> 3",
    ] {
        assert!(proposed.contains(line), "{line}: {proposed}");
    }
    std::fs::write(desk.path("edits.toml"), "schema = 1\nremove-keys = []\n").unwrap();
    desk.ampoule("trust propose --from 1.ampr -o x.ampr --edits edits.toml")
        .fails(2133);
}

#[test]
fn skipped_replayed_and_one_sided_roots_get_the_devices_own_numbers() {
    let desk = desk();
    rotate(&desk, 1, "--add-key release=carol.pub");
    rotate(&desk, 2, "--add-key image=image2.pub");
    let skipped = desk.ampoule("trust verify 3.ampr --previous 1.ampr").fails(803);
    assert!(skipped.contains("takes version 2 next"), "{skipped}");
    desk.ampoule("trust verify 1.ampr --previous 3.ampr").fails(803);
    desk.ampoule("trust verify 3.ampr --previous 3.ampr").fails(803);
    assert!(
        sign(&desk, "3.ampr", "1.ampr", "root1")
            .fails(803)
            .contains("comes version 2")
    );
    desk.ampoule("trust sign 3.ampr --key root1 --yes").fails(2209);
    // Signed by every new root key and no old one; then the other way round.
    propose(
        &desk,
        3,
        "--remove-key root1.pub --remove-key root2.pub --remove-key root3.pub --add-key root=root4.pub --threshold root=1",
    )
    .ok();
    std::fs::copy(desk.path("4.ampr"), desk.path("4b.ampr")).unwrap();
    sign(&desk, "4.ampr", "3.ampr", "root4").ok();
    desk.ampoule("trust verify 4.ampr").ok();
    let only_new = desk.ampoule("trust verify 4.ampr --previous 3.ampr").fails(804);
    assert!(only_new.contains("2 more of the root keys of version 3"), "{only_new}");
    for key in ["root1", "root2"] {
        sign(&desk, "4b.ampr", "3.ampr", key).ok();
    }
    desk.ampoule("trust verify 4b.ampr --previous 3.ampr").fails(805);
    desk.ampoule("trust join 4.ampr 4b.ampr --previous 3.ampr").ok();
    desk.ampoule("trust verify 4.ampr --previous 3.ampr").ok();
}

#[test]
fn a_signature_of_something_else_and_signers_without_a_say_are_refused() {
    let desk = desk();
    propose(&desk, 1, "--add-key release=carol.pub").ok();
    assert!(
        sign(&desk, "2.ampr", "1.ampr", "alice")
            .fails(2136)
            .contains("release key")
    );
    assert!(
        sign(&desk, "2.ampr", "1.ampr", "root4")
            .fails(2136)
            .contains("does not know")
    );
    std::fs::copy(desk.path("2.ampr"), desk.path("clean.ampr")).unwrap();
    sign(&desk, "2.ampr", "1.ampr", "root1").ok();
    // The signature of version 2 pasted into another proposal.
    desk.ampoule("trust propose --from 1.ampr -o other.ampr --add-key image=image2.pub")
        .ok();
    let signed = std::fs::read(desk.path("2.ampr")).unwrap();
    let clean = std::fs::read(desk.path("clean.ampr")).unwrap();
    let other = std::fs::read(desk.path("other.ampr")).unwrap();
    let mut pasted = other[..other.len() - 1].to_vec();
    pasted.extend(&signed[clean.len() - 1..]);
    std::fs::write(desk.path("other.ampr"), &pasted).unwrap();
    for refused in [
        desk.ampoule("trust verify other.ampr --previous 1.ampr"),
        sign(&desk, "other.ampr", "1.ampr", "root2"),
    ] {
        assert!(refused.fails(810).contains("something else"));
    }
    assert_eq!(std::fs::read(desk.path("other.ampr")).unwrap(), pasted);
    // A revoked root key.
    rotate_over(&desk);
    propose(&desk, 2, "--add-key image=image2.pub").ok();
    assert!(sign(&desk, "3.ampr", "2.ampr", "root3").fails(2137).contains("revoked"));
}

/// Replaces version 2 by one that revokes root3.
fn rotate_over(desk: &Desk) {
    std::fs::remove_file(desk.path("2.ampr")).unwrap();
    rotate(desk, 1, "--revoke root3.pub");
}

#[test]
fn two_signers_at_once_lose_no_signature() {
    let desk = desk();
    propose(&desk, 1, "--add-key release=carol.pub").ok();
    std::thread::scope(|scope| {
        for key in ["root1", "root2", "root3"] {
            let desk = &desk;
            scope.spawn(move || sign(desk, "2.ampr", "1.ampr", key).ok());
        }
    });
    let verified = desk.ampoule("trust verify 2.ampr --previous 1.ampr --json").json();
    assert_eq!(
        verified["standing"]["signatures"][0]["signed"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let desk = desk();
    propose(&desk, 1, "--add-key release=carol.pub").ok();
    let before = std::fs::read(desk.path("2.ampr")).unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(desk.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    std::fs::write(desk.path("fresh.jsonl"), "").unwrap();
    let files = names();
    let full =
        desk.ampoule_on_full_disk("trust sign 2.ampr --previous 1.ampr --key root1 --yes --passphrase-file pass");
    full.fails(2203);
    assert_eq!(std::fs::read(desk.path("2.ampr")).unwrap(), before);
    assert_eq!(names(), files, "nothing is left behind");
    sign(&desk, "2.ampr", "1.ampr", "root1").ok();
}

#[test]
fn nobody_signs_without_having_said_so() {
    let desk = desk();
    propose(&desk, 1, "--add-key release=carol.pub").ok();
    let before = std::fs::read(desk.path("2.ampr")).unwrap();
    let command = "trust sign 2.ampr --previous 1.ampr --key root1 --passphrase-file pass";
    let unasked = desk.ampoule(command).fails(2138);
    for line in [
        "version 2 of root",
        "role release: + p256",
        "environment: development",
        "root keys of version 1",
    ] {
        assert!(unasked.contains(line), "{line}: {unasked}");
    }
    let wrong = "0".repeat(64);
    desk.ampoule(&format!("{command} --approve {wrong}")).fails(2140);
    let digest = |text: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("digest:"))
            .unwrap();
        line.trim().to_owned()
    };
    let short = &digest(&unasked)[..8];
    desk.ampoule(&format!("{command} --approve {short}")).fails(2140);
    assert_eq!(std::fs::read(desk.path("2.ampr")).unwrap(), before);
    desk.ampoule(&format!("{command} --approve {}", digest(&unasked))).ok();
}

#[test]
fn an_emergency_list_grows_and_a_time_file_goes_into_the_chain() {
    let desk = desk();
    rotate(&desk, 1, "--add-key release=carol.pub");
    let revoke = |rest: &str| desk.ampoule(&format!("trust revoke --root 2.ampr {rest}"));
    let made = revoke("-o 1.ampl --revoke alice.pub").ok();
    assert!(
        made.contains("number 1") && made.contains("revoked: + release key"),
        "{made}"
    );
    desk.ampoule("trust verify 1.ampl").fails(2209);
    desk.ampoule("trust verify 1.ampl --root 2.ampr").fails(811);
    let by_root = desk.ampoule("trust sign 1.ampl --root 2.ampr --key root1 --yes --passphrase-file pass");
    assert!(by_root.fails(2136).contains("root key"));
    let sign_list = |file: &str, key: &str| {
        desk.ampoule(&format!(
            "trust sign {file} --root 2.ampr --key {key} --yes --passphrase-file pass"
        ))
    };
    sign_list("1.ampl", "guard").ok();
    desk.ampoule("trust verify 1.ampl --root 2.ampr").ok();
    // The next list has the next number and everything of the one before.
    revoke("-o 2.ampl --from 1.ampl --min-sequence AMP-DEMO-1=9 --vendor-domain ampoule.example").ok();
    sign_list("2.ampl", "guard").ok();
    let shown = desk.ampoule("trust show 2.ampl --json").json();
    assert_eq!(
        (&shown["number"], shown["revoked"].as_array().unwrap().len()),
        (&2.into(), 1)
    );
    for (rest, number) in [
        ("--from 1.ampl --revoke alice.pub", 2133),
        ("--revoke root1.pub", 2133),
        ("--revoke alice.pub --revoke bob.pub --revoke carol.pub", 2130),
        ("--revoke image.pub", 2130),
    ] {
        revoke(&format!("-o x.ampl {rest}")).fails(number);
        assert!(!desk.path("x.ampl").exists());
    }
    revoke("-o stop.ampl --revoke image.pub --even-if-nothing-can-be-delivered").ok();
    desk.ampoule("trust time --root 2.ampr -o now.ampt").ok();
    sign_list("now.ampt", "clock").ok();
    desk.ampoule("trust time --root 2.ampr -o x.ampt --not-before 2999-01-01")
        .fails(2133);
    let walked = desk
        .ampoule("trust chain -o all.ampc now.ampt 2.ampl roots.ampc --json")
        .json();
    assert_eq!(
        (&walked["to version"], &walked["revocation list"]),
        (&2.into(), &2.into())
    );
    // The list stays behind the roots when the next one comes.
    rotate_chain(&desk, "--add-key image=image2.pub", "all.ampc");
    assert_eq!(
        desk.ampoule("trust verify all.ampc --json").json()["revocation list"],
        2
    );
    desk.ampoule("trust verify all.ampc --root 1.ampr").ok();
}

fn rotate_chain(desk: &Desk, rest: &str, chain: &str) {
    propose(desk, 2, rest).ok();
    for key in ["root1", "root2"] {
        sign(desk, "3.ampr", "2.ampr", key).ok();
    }
    desk.ampoule(&format!("trust rotate --from 2.ampr --next 3.ampr --chain {chain}"))
        .ok();
}
