//! docs/post-quantum.md is typed as it stands.

mod common;
#[path = "../../keys/tests/swtpm/mod.rs"]
mod swtpm;

use common::Desk;
use keys::SignatureAlgorithm::Esp256;
use swtpm::Swtpm;

const PAGE: &str = include_str!("../../../docs/post-quantum.md");

/// The commands in the page's console blocks, in order, each with the number that refuses it, if it is to be refused.
fn commands() -> Vec<(&'static str, Option<u16>)> {
    let blocks = PAGE.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    let command = |line: &'static str| match line.split_once(" # ") {
        Some((command, number)) => (command, Some(number.parse().unwrap())),
        None => (line, None),
    };
    lines.filter_map(|line| line.strip_prefix("$ ")).map(command).collect()
}

#[test]
fn every_command_of_the_page_runs() {
    let desk = Desk::new();
    let Some(_tpm) = Swtpm::at(&desk.path("tpm")) else {
        return;
    };
    std::fs::create_dir(desk.path("medium")).unwrap();
    std::fs::write(desk.path("app.bin"), [0x5a; 600]).unwrap();
    desk.key("p256.pem", Esp256);
    let commands = commands();
    assert!(commands.len() > 12, "{}", commands.len());
    for (command, refusal) in commands {
        match (command.split_once(' '), refusal) {
            (Some(("ampoule", arguments)), None) => drop(desk.ampoule(arguments).ok()),
            (Some(("ampoule", arguments)), Some(number)) => drop(desk.ampoule(arguments).fails(number)),
            (Some(("cp", files)), None) => {
                let (from, to) = files.split_once(' ').unwrap();
                std::fs::copy(desk.path(from), desk.path(to)).unwrap();
            }
            _ => panic!("{command}"),
        }
    }
}
