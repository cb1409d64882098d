//! `unsafe` only in `boot`, and every use there says why it is sound.

use super::{House, Kind, Problems};

/// The one crate that may: it touches registers and jumps to the application.
const UNSAFE_FOLDER: &str = "crates/boot/";
const REASON_OF_BLOCK: &str = "// SAFETY (all of this block):";
/// Entry points of fuzz targets are one call of a macro of the fuzzer, with unsafe code inside.
const FUZZ_ENTRIES: &str = "fuzz/fuzz_targets/";
const FORBID: &str = "#![forbid(unsafe_code)]";

pub(super) fn check(house: &House) -> Problems {
    let mut problems = Problems::new();
    for krate in house
        .crates
        .iter()
        .filter(|krate| !UNSAFE_FOLDER.starts_with(&format!("{}/", krate.folder)))
    {
        for target in krate.targets.iter().filter(|target| target.kind == Kind::Product) {
            let text = house.text(&target.file);
            if !text.contains(FORBID) && !target.file.starts_with(FUZZ_ENTRIES) {
                problems.push(format!("{} lacks {FORBID}", target.file));
            }
        }
    }
    for (path, text) in house.files_ending(".rs") {
        let uses = uses(text);
        if path.starts_with(UNSAFE_FOLDER) {
            let unexplained = uses.into_iter().filter(|line| !is_explained(text, *line));
            problems.extend(unexplained.map(|line| format!("{path}:{}: unsafe without a `// SAFETY:` line", line + 1)));
        } else {
            problems.extend(
                uses.into_iter()
                    .map(|line| format!("{path}:{}: unsafe outside of boot", line + 1)),
            );
        }
    }
    problems
}

/// Lines (from 0) that use the keyword `unsafe` in code.
fn uses(text: &str) -> Vec<usize> {
    let keyword = [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "unsafe trait",
        "#[unsafe(",
        "unsafe{",
    ];
    let is_use = |line: &str| {
        let code = line.split("//").next().unwrap_or("");
        keyword
            .iter()
            .any(|word| code.contains(word) && !code.contains(&format!("\"{word}")))
            || code.trim() == "unsafe"
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_use(line))
        .map(|(number, _)| number)
        .collect()
}

/// Whether the line itself, or the comments and attributes right above it, give the reason. A statement that starts on
/// an earlier line may carry the comment above its first line; `// SAFETY (all of this block):` reaches to the next blank
/// line.
fn is_explained(text: &str, line: usize) -> bool {
    const REACH_LINES: usize = 8;
    let lines: Vec<&str> = text.lines().collect();
    let above = || lines.iter().take(line).rev().map(|line| line.trim());
    let has_reason = |line: &str| line.contains("// SAFETY:") || line.contains("/// # Safety");
    let mut block = above().take_while(|line| !line.is_empty());
    if lines.get(line).is_some_and(|line| has_reason(line)) || block.any(|line| line.starts_with(REASON_OF_BLOCK)) {
        return true;
    }
    let ends_another_statement = |line: &&str| {
        let ends = line.ends_with(';') || line.ends_with('}') || line.is_empty();
        ends && !line.starts_with("//") && !line.starts_with("#[")
    };
    above()
        .take(REACH_LINES)
        .take_while(|line| has_reason(line) || !ends_another_statement(line))
        .any(has_reason)
}

#[cfg(test)]
mod tests {
    use super::super::{Crate, Target, house_of};
    use super::*;

    /// The keyword, so that these fixtures are not uses themselves.
    const WORD: &str = "unsafe";

    fn problems(path: &str, text: &str) -> Problems {
        check(&house_of(&[(path, &text.replace("UNSAFE", WORD))]))
    }

    #[test]
    fn unsafe_outside_boot_is_found() {
        assert_eq!(
            problems("crates/engine/src/a.rs", "fn a() {\n    UNSAFE { b() }\n}\n").len(),
            1
        );
    }

    #[test]
    fn unsafe_in_a_comment_is_no_use() {
        assert!(problems("crates/engine/src/a.rs", "// UNSAFE { is a word }\n").is_empty());
    }

    #[test]
    fn boot_needs_a_reason_for_each_block() {
        let path = "crates/boot/src/a.rs";
        assert!(problems(path, "// SAFETY: the register exists.\nUNSAFE { a() }\n").is_empty());
        assert!(
            problems(
                path,
                "// SAFETY: two lines\n// of reason.\n#[inline]\nUNSAFE fn a() {}\n"
            )
            .is_empty()
        );
        assert!(problems(path, "// SAFETY: mine\nlet a =\n    UNSAFE { a() };\n").is_empty());
        assert_eq!(problems(path, "UNSAFE { a() }\n").len(), 1);
        let block =
            "// SAFETY (all of this block): registers.\nconst A: R = UNSAFE { r(1) };\nconst B: R = UNSAFE { r(2) };\n";
        assert!(problems(path, block).is_empty());
        assert_eq!(problems(path, &format!("{block}\nUNSAFE {{ a() }}\n")).len(), 1);
        assert_eq!(
            problems(path, "// SAFETY: of another.\nUNSAFE { a() };\nUNSAFE { b() };\n").len(),
            1
        );
        assert_eq!(problems(path, "#[UNSAFE(no_mangle)]\nfn a() {}\n").len(), 1);
    }

    #[test]
    fn a_crate_root_without_forbid_is_found() {
        let target = Target {
            kind: Kind::Product,
            file: "crates/a/src/lib.rs".into(),
        };
        let krate = Crate {
            folder: "crates/a".into(),
            targets: vec![target],
            ..Crate::default()
        };
        let mut house = house_of(&[("crates/a/src/lib.rs", "//! Nothing.\n")]);
        house.crates = vec![krate];
        assert_eq!(check(&house).len(), 1);
        house.files.insert("crates/a/src/lib.rs".into(), format!("{FORBID}\n"));
        assert!(check(&house).is_empty());
    }
}
