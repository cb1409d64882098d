//! docs/playbooks.md: each command that stands there is run, in order, on the product that it describes.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};

const PLAYBOOKS: &str = include_str!("../../../docs/playbooks.md");

/// The product of the page: keys with their public halves, the first root, a backup.
fn desk() -> Desk {
    let desk = Desk::new();
    let all = [
        ("root-1", Ed25519),
        ("root-2", Esp256),
        ("root-3", Esp256),
        ("root-4", Ed25519),
        ("root-5", Esp256),
        ("release-1", Ed25519),
        ("release-2", Esp256),
        ("release-3", Ed25519),
        ("image-1", Ed25519),
        ("image-2", Esp256),
        ("image-3", Esp256),
        ("guard", Ed25519),
        ("mallory", Ed25519),
    ];
    for (name, algorithm) in all {
        desk.key(&format!("{name}.pem"), algorithm);
        std::fs::rename(desk.path(&format!("{name}.pem.pub")), desk.path(&format!("{name}.pub"))).unwrap();
    }
    desk.ampoule(
        "trust init -o 1.ampr --environment development --vendor-domain example.com --product-line demo --root-key \
         root-1.pem --root-key root-2.pem --root-key root-3.pub --root-threshold 2 --release-key release-1.pub \
         --release-key release-2.pub --image-key image-1.pub --image-key image-2.pub --revoke-key guard.pub \
         --passphrase-file pass",
    )
    .ok();
    desk.ampoule("backup make root-1.pem --shares 3 --threshold 2 --out safe --passphrase-file pass")
        .ok();
    desk
}

/// The commands of the console blocks, each with the number that refuses it, if it is to be refused.
fn commands() -> Vec<(String, Option<u16>)> {
    let blocks = PLAYBOOKS
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let lines = blocks
        .flat_map(str::lines)
        .map(|line| line.strip_prefix("$ ampoule ").expect("a command"));
    let command = |line: &str| match line.split_once(" # ") {
        Some((command, number)) => (command.trim().to_owned(), Some(number.trim().parse().unwrap())),
        None => (line.trim().to_owned(), None),
    };
    lines.map(command).collect()
}

/// The answers to the questions that the page leaves out.
fn answered(command: &str) -> String {
    let asks = ["trust sign", "backup restore"]
        .iter()
        .any(|start| command.starts_with(start));
    let yes = if command.starts_with("trust sign") {
        " --yes"
    } else {
        ""
    };
    if asks {
        format!("{command}{yes} --passphrase-file pass")
    } else {
        command.to_owned()
    }
}

#[test]
fn every_command_of_the_playbooks_works() {
    let desk = desk();
    let commands = commands();
    assert!(commands.len() > 35, "{}", commands.len());
    for (command, refusal) in commands {
        let ran = desk.ampoule(&answered(&command));
        match refusal {
            Some(number) => drop(ran.fails(number)),
            None => drop(ran.ok()),
        }
    }
}
