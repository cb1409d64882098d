//! docs/ca.md: each command that stands there is run, in order.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::Esp256;

const PAGE: &str = include_str!("../../../docs/ca.md");

/// The commands of the console blocks, each with the number that refuses it, if it is to be refused.
fn commands() -> Vec<(&'static str, Option<u16>)> {
    let blocks = PAGE
        .split("```console\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let lines = blocks
        .flat_map(str::lines)
        .map(|line| line.strip_prefix("$ ").expect("a command"));
    let command = |line: &'static str| match line.split_once(" # ") {
        Some((command, number)) => (command.trim(), Some(number.trim().parse().unwrap())),
        None => (line.trim(), None),
    };
    lines.map(command).collect()
}

/// The answers to the questions that the page leaves out, and the serial numbers that it points to.
fn answered(desk: &Desk, command: &str) -> String {
    let mut command = command.to_owned();
    while let Some((before, rest)) = command.split_once("$(serial ") {
        let (file, after) = rest.split_once(')').unwrap();
        command = format!("{before}{}{after}", desk.serial(file));
    }
    if command.contains("--key ") {
        command.push_str(" --passphrase-file pass");
    }
    let asks = ["ca init", "ca roll", "ca renew"]
        .iter()
        .any(|start| command.starts_with(start));
    if asks { format!("{command} --yes") } else { command }
}

#[test]
fn every_command_of_the_page_runs() {
    let desk = Desk::new();
    for name in [
        "root",
        "device",
        "server",
        "operator",
        "firmware",
        "device-next",
        "root-next",
    ] {
        desk.key(&format!("{name}.pem"), Esp256);
    }
    let commands = commands();
    assert!(commands.len() > 30, "{}", commands.len());
    for (command, refusal) in commands {
        let ran = match command.split_once(' ') {
            Some(("ampoule", arguments)) => desk.ampoule(&answered(&desk, arguments)),
            Some(("openssl", arguments)) => desk.run("openssl", arguments),
            _ => panic!("{command}"),
        };
        match refusal {
            Some(number) => drop(ran.fails(number)),
            None => drop(ran.ok()),
        }
        if command.starts_with("ampoule ca init") {
            let list = desk.ampoule("ca list ca.db --json").json();
            let ca = list["certificates"]
                .as_array()
                .unwrap()
                .iter()
                .find(|one| one["profile"] == "ca-device");
            let serial = ca.unwrap()["serial"].as_str().unwrap();
            let pem = desk.ampoule(&format!("ca show ca.db {serial} --pem")).ok();
            std::fs::write(desk.path("device-ca.crt"), pem).unwrap();
            desk.request("other");
            std::fs::create_dir(desk.path("day")).unwrap();
            for unit in 1..=3 {
                desk.request(&format!("day/B-000{unit}"));
            }
        }
    }
}
