//! docs/trust-root.md is typed as it stands.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::{Ed25519, Esp256};

const PAGE: &str = include_str!("../../../docs/trust-root.md");

/// The commands in the page's console blocks, in order.
fn commands() -> Vec<&'static str> {
    let blocks = PAGE.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    lines.filter_map(|line| line.strip_prefix("$ ")).collect()
}

#[test]
fn every_command_of_the_page_runs() {
    let desk = Desk::new();
    for name in ["root1", "root2", "root3", "alice", "clock", "guard"] {
        desk.key(name, Ed25519);
    }
    for name in ["bob", "carol", "image", "image2"] {
        desk.key(name, Esp256);
    }
    let commands = commands();
    assert!(commands.len() > 15, "{}", commands.len());
    let mut last = String::new();
    for command in commands {
        match command.split_once(' ') {
            Some(("ampoule", arguments)) => last = desk.ampoule(arguments).ok(),
            Some(("cp", files)) => {
                let (from, to) = files.split_once(' ').unwrap();
                std::fs::copy(desk.path(from), desk.path(to)).unwrap();
            }
            _ => panic!("{command}"),
        }
    }
    assert!(last.contains("role release: + p256"), "{last}");
}
