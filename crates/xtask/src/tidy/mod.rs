//! The rules of the house that a machine can check. Each rule is a function from the tracked files and the crates to
//! sentences about what breaks it; each has unit tests with small broken houses.

mod claims;
mod dependencies;
mod imports;
mod numbers;
mod reached;
mod sources;
mod unsafety;

use crate::sh;
use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, TargetKind};
use std::collections::BTreeMap;
use std::path::Path;

/// Whether generated documents are compared or renewed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Check,
    Write,
}

/// Checks every rule and prints what breaks one.
pub(crate) fn run(mode: Mode) -> Result<()> {
    if mode == Mode::Write {
        std::fs::write(sh::root().join(numbers::DOCUMENT), numbers::document())?;
    }
    let house = House::of_this_repository()?;
    let mut broken = 0;
    for (rule, check) in RULES {
        let problems = check(&house);
        println!(
            "tidy: {rule}: {}",
            if problems.is_empty() {
                "ok".into()
            } else {
                format!("{} broken", problems.len())
            }
        );
        for problem in &problems {
            println!("  {problem}");
        }
        broken += problems.len();
    }
    if broken > 0 {
        bail!("{broken} broken rules, listed above");
    }
    Ok(())
}

type Problems = Vec<String>;
type Rule = fn(&House) -> Problems;

const RULES: &[(&str, Rule)] = &[
    ("crates import what the table of ARCHITECTURE.md allows", imports::check),
    ("unsafe code only in boot, each block with its reason", unsafety::check),
    ("every Rust file is compiled, every test file is run", reached::check),
    (
        "numbers of errors are unique, in their range and documented",
        numbers::check,
    ),
    (
        "each claim of the README links to a test, each link to something",
        claims::check,
    ),
    (
        "device crates have few dependencies, each with a reason",
        dependencies::check,
    ),
    ("no unfinished work, machine paths or registry hosts", sources::check),
];

/// What the rules look at.
#[derive(Default)]
struct House {
    /// Tracked text files by their path from the root.
    files: BTreeMap<String, String>,
    /// Tracked files that are no text, and therefore only have a name.
    binary_files: Vec<String>,
    /// The crates of the workspace and of `fuzz/`.
    crates: Vec<Crate>,
}

/// A crate as its manifest describes it.
#[derive(Default, Clone)]
struct Crate {
    /// The package's name.
    package: String,
    /// The folder of its manifest, from the root, such as `crates/codec`.
    folder: String,
    /// Whether `cargo test` and `cargo xtask test` run its tests.
    is_tested: bool,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Clone)]
struct Dependency {
    package: String,
    is_of_the_house: bool,
    is_for_tests_only: bool,
}

#[derive(Clone)]
struct Target {
    kind: Kind,
    /// The root file, from the repository's root.
    file: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A library or program.
    Product,
    /// An integration test.
    Test,
    /// A build script, bench or example.
    Other,
}

impl Crate {
    /// The room's short name, as the table of ARCHITECTURE.md has it.
    fn room(&self) -> &str {
        self.package.strip_prefix("ampoule-").unwrap_or(&self.package)
    }
}

impl House {
    fn of_this_repository() -> Result<House> {
        let mut house = House::default();
        let tracked = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        for path in sh::output(sh::program("git").args(tracked))?
            .split('\0')
            .filter(|path| !path.is_empty())
        {
            let Ok(bytes) = std::fs::read(sh::root().join(path)) else {
                continue;
            };
            match String::from_utf8(bytes) {
                Ok(text) => drop(house.files.insert(path.into(), text)),
                Err(_) => house.binary_files.push(path.into()),
            }
        }
        house.crates = crates_of("Cargo.toml")?;
        if house.files.contains_key("fuzz/Cargo.toml") {
            house.crates.extend(crates_of("fuzz/Cargo.toml")?);
        }
        Ok(house)
    }

    /// Whether a file or folder of this path is tracked.
    fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.files.contains_key(path)
            || self
                .binary_files
                .iter()
                .any(|file| file == path || file.starts_with(&folder))
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(file, _)| file.starts_with(&folder))
    }

    fn text(&self, path: &str) -> &str {
        self.files.get(path).map_or("", String::as_str)
    }

    /// Files with this ending, as path and text.
    fn files_ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

fn crates_of(manifest: &str) -> Result<Vec<Crate>> {
    let root = sh::root();
    let metadata = MetadataCommand::new()
        .manifest_path(root.join(manifest))
        .no_deps()
        .exec()
        .with_context(|| format!("cannot read the crates of {manifest}"))?;
    let from_root = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
    let tested = metadata.workspace_default_members.clone();
    let crate_of = |package: cargo_metadata::Package| Crate {
        package: package.name.to_string(),
        folder: from_root(package.manifest_path.as_std_path().parent().unwrap_or(Path::new(""))),
        is_tested: tested.contains(&package.id),
        dependencies: package
            .dependencies
            .iter()
            .map(|dependency| Dependency {
                package: dependency.name.clone(),
                is_of_the_house: dependency.path.is_some(),
                is_for_tests_only: dependency.kind == DependencyKind::Development,
            })
            .collect(),
        targets: package
            .targets
            .iter()
            .map(|target| Target {
                kind: kind(&target.kind),
                file: from_root(target.src_path.as_std_path()),
            })
            .collect(),
    };
    Ok(metadata.packages.into_iter().map(crate_of).collect())
}

fn kind(kinds: &[TargetKind]) -> Kind {
    match kinds.first() {
        Some(TargetKind::Test) => Kind::Test,
        Some(TargetKind::CustomBuild | TargetKind::Bench | TargetKind::Example) => Kind::Other,
        _ => Kind::Product,
    }
}

/// The path without `.` and `..` parts.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A house of these files, for tests of the rules.
#[cfg(test)]
fn house_of(files: &[(&str, &str)]) -> House {
    let files = files
        .iter()
        .map(|(path, text)| (path.to_string(), text.to_string()))
        .collect();
    House {
        files,
        ..House::default()
    }
}
