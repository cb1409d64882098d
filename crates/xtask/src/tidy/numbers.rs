//! Numbers of errors: unique, in the range of whoever refuses, and printed in a document that is renewed from the tables.

use super::{House, Problems};
use codec::Reason;
use keys::error::Code;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// The printed tables; `cargo xtask tidy --write` renews them.
pub(super) const DOCUMENT: &str = "docs/errors.md";

/// Which numbers speak about what: the device's, then those of the tools.
const GROUPS: &[(RangeInclusive<u16>, &str)] = &[
    (101..=199, "Encoding and limits"),
    (201..=299, "Envelope and signatures"),
    (301..=399, "Manifest"),
    (401..=499, "Command sequences and fetch arguments"),
    (501..=599, "Payloads"),
    (601..=699, "Target, versions, floors"),
    (701..=799, "Encryption"),
    (801..=899, "Trust root"),
    (900..=999, "Image and boot"),
    (1000..=1099, "The device's own state"),
    (1100..=1199, "Identity"),
    (2000..=2099, "Keys"),
    (2100..=2199, "Image and release tools"),
    (2200..=2299, "The command line: arguments, files, terminal, serial port"),
    (2300..=2399, "Certificates and the CA"),
    (2400..=2449, "The agent on a device"),
];
/// From here on, numbers are those of the tools.
const HOST_NUMBERS_START: u16 = 2000;

/// A row of the printed tables.
struct Row {
    number: u16,
    name: &'static str,
    /// What happened (devices) or what to do (tools).
    text: &'static str,
    /// Whether the same file may succeed later on the same device.
    again: bool,
}

pub(super) fn check(house: &House) -> Problems {
    let mut problems = unique(&rows());
    if house.text(DOCUMENT) != document() {
        problems.push(format!(
            "{DOCUMENT} is not what the tables say; run `cargo xtask tidy --write`"
        ));
    }
    problems
}

fn rows() -> Vec<Row> {
    let device = Reason::ALL.iter().map(|reason| Row {
        number: reason.number(),
        name: reason.name(),
        text: reason.what(),
        again: reason.is_retriable(),
    });
    let host = Code::ALL.iter().map(|code| Row {
        number: code.number(),
        name: code.name(),
        text: code.advice(),
        again: false,
    });
    device.chain(host).collect()
}

fn unique(rows: &[Row]) -> Problems {
    let mut problems = Problems::new();
    let mut names = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    for Row { number, name, .. } in rows {
        if let Some(other) = numbers.insert(number, name) {
            problems.push(format!("number {number} is {other} and {name}"));
        }
        if let Some(other) = names.insert(name, number) {
            problems.push(format!("{name} is {other} and {number}"));
        }
        if !GROUPS.iter().any(|(range, _)| range.contains(number)) {
            problems.push(format!("{number} {name} is in no group of numbers"));
        }
    }
    problems
}

/// The printed tables.
pub(super) fn document() -> String {
    let mut text = String::from(
        "# Numbered errors\n\n\
         A number never changes its meaning. Numbers below 2000 are a device's refusals and are carried unchanged from the \
         device to\nwhoever asked; numbers from 2000 on are those of the tools. This page is made by `cargo xtask tidy \
         --write` from\n[the device's table](../crates/codec/src/reason.rs#Reason) and [the \
         tools'](../crates/keys/src/error.rs#Code). *Again* means that the same\nfile may succeed later on the same \
         device.\n",
    );
    let rows = rows();
    for (range, title) in GROUPS {
        let rows: Vec<&Row> = rows.iter().filter(|row| range.contains(&row.number)).collect();
        let is_device = *range.start() < HOST_NUMBERS_START;
        let head = if is_device {
            "| number | name | what happened | again |\n|---|---|---|---|\n"
        } else {
            "| number | name | what to do |\n|---|---|---|\n"
        };
        if rows.is_empty() {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {title}\n\n{head}");
        for Row {
            number,
            name,
            text: what,
            again,
        } in rows
        {
            let _ = match (is_device, again) {
                (true, true) => writeln!(text, "| {number} | {name} | {what} | yes |"),
                (true, false) => writeln!(text, "| {number} | {name} | {what} | |"),
                (false, _) => writeln!(text, "| {number} | {name} | {what} |"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::house_of;
    use super::*;

    fn problems(list: &[(u16, &'static str)]) -> usize {
        let row = |(number, name): &(u16, &'static str)| Row {
            number: *number,
            name,
            text: "",
            again: false,
        };
        unique(&list.iter().map(row).collect::<Vec<_>>()).len()
    }

    #[test]
    fn double_numbers_double_names_and_strange_numbers_are_found() {
        assert_eq!(problems(&[(101, "A"), (2001, "B")]), 0);
        assert_eq!(problems(&[(101, "A"), (101, "B")]), 1);
        assert_eq!(problems(&[(101, "A"), (102, "A")]), 1);
        assert_eq!(problems(&[(1999, "A")]), 1);
    }

    #[test]
    fn an_outdated_document_is_found() {
        let fresh = document();
        assert_eq!(check(&house_of(&[(DOCUMENT, &fresh)])), Problems::new());
        assert_eq!(check(&house_of(&[(DOCUMENT, &fresh.replace("607", "606"))])).len(), 1);
    }
}
