//! What the device crates take from others: little, and each for a reason that stands in the manifest.

use super::{House, Problems};
use std::collections::BTreeSet;

/// The crates that every device runs.
const DEVICE_CRATES: &[&str] = &["ampoule-codec", "ampoule-trust", "ampoule-engine"];
/// External crates that they may import directly, all together.
const DEVICE_DEPENDENCIES_MAX: usize = 8;
const MANIFEST: &str = "Cargo.toml";

pub(super) fn check(house: &House) -> Problems {
    let mut problems = Problems::new();
    let device = external(house, |package| DEVICE_CRATES.contains(&package));
    if device.len() > DEVICE_DEPENDENCIES_MAX {
        let names: Vec<&str> = device.iter().copied().collect();
        let all = names.join(", ");
        problems.push(format!(
            "device crates import {} external crates, at most {DEVICE_DEPENDENCIES_MAX}: {all}",
            names.len()
        ));
    }
    let explained = explained(house.text(MANIFEST));
    for name in external(house, |package| {
        package.starts_with("ampoule-") && package != "ampoule-fuzz"
    }) {
        if !explained.contains(name) {
            problems.push(format!(
                "{MANIFEST}: {name} has no line in [workspace.dependencies] under a comment with its reason"
            ));
        }
    }
    problems
}

/// External crates that the chosen packages import directly (in their devices' case: not those of their tests).
fn external(house: &House, chosen: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let crates = house.crates.iter().filter(|krate| chosen(&krate.package));
    crates
        .flat_map(|krate| &krate.dependencies)
        .filter(|dependency| !dependency.is_of_the_house && !dependency.is_for_tests_only)
        .map(|dependency| dependency.package.as_str())
        .collect()
}

/// Names in `[workspace.dependencies]` that stand under a comment, with no blank line between.
fn explained(manifest: &str) -> BTreeSet<&str> {
    let section = manifest
        .lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1);
    let mut names = BTreeSet::new();
    let mut has_reason = false;
    for line in section.take_while(|line| !line.starts_with('[')) {
        if line.trim().is_empty() {
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else if has_reason && let Some((name, _)) = line.split_once(" =") {
            names.insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::{Crate, Dependency, house_of};
    use super::*;

    fn house(package: &str, names: &[&str], manifest: &str) -> House {
        let dependency = |name: &&str| Dependency {
            package: name.to_string(),
            is_of_the_house: false,
            is_for_tests_only: false,
        };
        let dependencies = names.iter().map(dependency).collect();
        let krate = Crate {
            package: package.into(),
            dependencies,
            ..Crate::default()
        };
        House {
            crates: vec![krate],
            ..house_of(&[(MANIFEST, manifest)])
        }
    }

    #[test]
    fn a_dependency_with_a_reason_passes() {
        let manifest = "[workspace.dependencies]\n# Because.\nsha2 = \"1\"\np256 = { version = \"1\" }\n";
        assert_eq!(
            check(&house("ampoule-trust", &["sha2", "p256"], manifest)),
            Problems::new()
        );
    }

    #[test]
    fn a_dependency_without_reason_is_found() {
        let manifest = "[workspace.dependencies]\n# Because.\nsha2 = \"1\"\n\np256 = \"1\"\n";
        assert_eq!(check(&house("ampoule-trust", &["sha2", "p256"], manifest)).len(), 1);
        assert_eq!(
            check(&house("ampoule-keys", &["rsa"], manifest)).len(),
            1,
            "written past the table"
        );
    }

    #[test]
    fn the_ninth_device_dependency_is_found() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let lines: String = names.iter().map(|name| format!("{name} = \"1\"\n")).collect();
        let manifest = format!("[workspace.dependencies]\n# Because.\n{lines}");
        assert_eq!(check(&house("ampoule-codec", &names, &manifest)).len(), 1);
        assert_eq!(check(&house("ampoule-codec", &names[1..], &manifest)).len(), 0);
    }
}
