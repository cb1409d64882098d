//! Who may import whom: the table in ARCHITECTURE.md is read and compared with the manifests.

use super::{Crate, House, Problems};
use std::collections::{BTreeMap, BTreeSet};

/// Rooms that may import anything and that nobody imports.
const WORKSHOPS: &[&str] = &["sim", "xtask", "fuzz"];
/// Rooms that run without an operating system.
const DEVICE_ROOMS: &[&str] = &["codec", "trust", "engine", "boot"];
const TABLE_FILE: &str = "ARCHITECTURE.md";
const TABLE_HEAD: &str = "| room |";

pub(super) fn check(house: &House) -> Problems {
    let mut problems = Problems::new();
    let table = table(house.text(TABLE_FILE));
    if table.is_empty() {
        return vec![format!("{TABLE_FILE} has no table that starts with `{TABLE_HEAD}`")];
    }
    for krate in &house.crates {
        check_crate(krate, &table, &mut problems);
    }
    for room in DEVICE_ROOMS {
        let library = format!("crates/{room}/src/lib.rs");
        if house.files.contains_key(&library) && !house.text(&library).contains("#![no_std]") {
            problems.push(format!("{library} lacks #![no_std]: a device has no operating system"));
        }
    }
    problems
}

fn check_crate(krate: &Crate, table: &BTreeMap<String, BTreeSet<String>>, problems: &mut Problems) {
    let room = krate.room();
    if WORKSHOPS.contains(&room) {
        return;
    }
    let Some(allowed) = table.get(room) else {
        problems.push(format!("{room} has no row in the table of {TABLE_FILE}"));
        return;
    };
    for dependency in krate
        .dependencies
        .iter()
        .filter(|dependency| dependency.is_of_the_house)
    {
        let imported = dependency
            .package
            .strip_prefix("ampoule-")
            .unwrap_or(&dependency.package);
        if WORKSHOPS.contains(&imported) {
            problems.push(format!(
                "{room} imports the workshop {imported}; move the test there instead"
            ));
        } else if !allowed.contains(imported) {
            problems.push(format!(
                "{room} imports {imported}, which the table of {TABLE_FILE} does not allow"
            ));
        }
    }
}

/// The rows of the table: room to the rooms it may import (the last column; a dash for none).
fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(TABLE_HEAD)).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let room = cells.first()?.trim_matches('`').to_string();
            let imports = cells.last()?.split(',').map(|name| name.trim().to_string());
            Some((room, imports.filter(|name| name != "–").collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Dependency, house_of};
    use super::*;

    const TABLE: &str =
        "# A\n| room | what | may import |\n|---|---|---|\n| `codec` | x | – |\n| `trust` | y | codec |\n\n";

    fn krate(room: &str, imports: &[&str]) -> Crate {
        Crate {
            package: format!("ampoule-{room}"),
            dependencies: imports
                .iter()
                .map(|room| Dependency {
                    package: format!("ampoule-{room}"),
                    is_of_the_house: true,
                    is_for_tests_only: false,
                })
                .collect(),
            ..Crate::default()
        }
    }

    fn problems(crates: &[Crate]) -> Problems {
        check(&House {
            crates: crates.to_vec(),
            ..house_of(&[(TABLE_FILE, TABLE)])
        })
    }

    #[test]
    fn allowed_imports_pass() {
        assert!(
            problems(&[
                krate("codec", &[]),
                krate("trust", &["codec"]),
                krate("sim", &["trust"])
            ])
            .is_empty()
        );
    }

    #[test]
    fn an_import_outside_the_table_is_found() {
        assert_eq!(problems(&[krate("codec", &["trust"])]).len(), 1);
    }

    #[test]
    fn a_workshop_is_imported_by_nobody() {
        assert!(problems(&[krate("trust", &["codec", "sim"])])[0].contains("workshop sim"));
    }

    #[test]
    fn a_crate_without_row_and_a_document_without_table_are_found() {
        assert!(problems(&[krate("extra", &[])])[0].contains("no row"));
        assert!(check(&house_of(&[(TABLE_FILE, "no table")]))[0].contains("no table"));
    }

    #[test]
    fn a_device_crate_with_an_operating_system_is_found() {
        let house = house_of(&[(TABLE_FILE, TABLE), ("crates/codec/src/lib.rs", "//! x\n")]);
        assert!(check(&house)[0].contains("no_std"));
    }
}
