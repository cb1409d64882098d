//! No forgotten files: a Rust file that no target reaches is never compiled, and a test in it never runs.

use super::{House, Kind, Problems, normal};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(house: &House) -> Problems {
    let mut problems = Problems::new();
    let mut reached = BTreeSet::new();
    for target in house.crates.iter().flat_map(|krate| &krate.targets) {
        follow(&house.files, &target.file, Place::Root, &mut reached);
    }
    for (path, _) in house.files_ending(".rs") {
        if !reached.contains(path) {
            problems.push(format!("{path} is part of no target: no `mod` line leads to it"));
        }
    }
    for krate in house.crates.iter().filter(|krate| !krate.is_tested) {
        for target in krate.targets.iter().filter(|target| target.kind == Kind::Test) {
            problems.push(format!("{} is never run: {} is not tested", target.file, krate.package));
        }
    }
    problems
}

/// Where a file looks for its modules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Beside itself: the root of a target, or `mod.rs`.
    Root,
    /// In the folder that has its name.
    Module,
}

fn follow(files: &BTreeMap<String, String>, path: &str, place: Place, reached: &mut BTreeSet<String>) {
    let Some(text) = files.get(path) else { return };
    if !reached.insert(path.to_string()) {
        return;
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let inside = match place {
        Place::Root => folder.to_string(),
        Place::Module => path.trim_end_matches(".rs").to_string(),
    };
    for link in links(text) {
        match link {
            Link::File(name) => follow(files, &normal(&format!("{folder}/{name}")), Place::Root, reached),
            Link::Module(name) => {
                follow(files, &format!("{inside}/{name}.rs"), Place::Module, reached);
                follow(files, &format!("{inside}/{name}/mod.rs"), Place::Root, reached);
            }
        }
    }
}

enum Link<'a> {
    /// `mod name;`
    Module(&'a str),
    /// `#[path = "…"]` above a `mod` line, or `include!("…")`.
    File(&'a str),
}

fn links(text: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    let mut file = None;
    for line in text.lines().map(str::trim) {
        if let Some(path) = line
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
        {
            file = Some(path);
        } else if let Some(path) = line.strip_prefix("include!(\"").and_then(|rest| rest.split('"').next()) {
            links.push(Link::File(path));
        } else if let Some(name) = module_name(line) {
            links.push(file.take().map_or(Link::Module(name), Link::File));
        }
    }
    links
}

fn module_name(line: &str) -> Option<&str> {
    let name = line.strip_suffix(';')?;
    let name = match name.split_once("mod ")? {
        ("", name) => name,
        (visibility, name) if visibility.starts_with("pub") && visibility.ends_with(' ') => name,
        _ => return None,
    };
    name.chars()
        .all(|letter| letter.is_alphanumeric() || letter == '_')
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::{Crate, Target, house_of};
    use super::*;

    fn problems(targets: &[(Kind, &str)], files: &[(&str, &str)], is_tested: bool) -> Problems {
        let mut house = house_of(files);
        let targets = targets
            .iter()
            .map(|(kind, file)| Target {
                kind: *kind,
                file: file.to_string(),
            })
            .collect();
        house.crates = vec![Crate {
            package: "a".into(),
            is_tested,
            targets,
            ..Crate::default()
        }];
        check(&house)
    }

    #[test]
    fn modules_are_followed_through_every_form() {
        let files = [
            (
                "a/src/lib.rs",
                "mod b;\npub(crate) mod c;\n#[path = \"../other/d.rs\"]\nmod d;\n",
            ),
            ("a/src/b.rs", "pub mod deep;\n"),
            ("a/src/b/deep.rs", ""),
            ("a/src/c/mod.rs", "mod inner;"),
            ("a/src/c/inner.rs", ""),
            ("a/other/d.rs", ""),
        ];
        assert_eq!(
            problems(&[(Kind::Product, "a/src/lib.rs")], &files, true),
            Problems::new()
        );
    }

    #[test]
    fn a_forgotten_module_and_a_forgotten_test_are_found() {
        let files = [
            ("a/src/lib.rs", "// mod b;\n"),
            ("a/src/b.rs", ""),
            ("a/tests/sub/c.rs", "#[test] fn t() {}"),
        ];
        assert_eq!(problems(&[(Kind::Product, "a/src/lib.rs")], &files, true).len(), 2);
    }

    #[test]
    fn a_test_of_a_crate_that_is_not_tested_is_found() {
        let files = [("a/tests/t.rs", "")];
        assert_eq!(problems(&[(Kind::Test, "a/tests/t.rs")], &files, false).len(), 1);
    }
}
