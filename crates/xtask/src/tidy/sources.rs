//! Words that do not belong into tracked files: marks of unfinished work, paths of somebody's machine, hosts of package
//! registries (which mirror is used is the machine's business).

use super::{House, Problems};

/// Files whose text is not ours.
const FOREIGN: &[&str] = &["LICENSE-APACHE", "Cargo.lock", "fuzz/Cargo.lock"];

/// Each word is written in two halves, so that this file does not break its own rule.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
];
const UNFINISHED_CALL: &str = concat!("unim", "plemented!(");
const MACHINE_PATHS: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
];
const REGISTRY_HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
    concat!("registry.", "npmjs.org"),
];

pub(super) fn check(house: &House) -> Problems {
    let mut problems = Problems::new();
    let ours = house.files.iter().filter(|(path, _)| !FOREIGN.contains(&path.as_str()));
    for (path, text) in ours {
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = fault(line) {
                problems.push(format!("{path}:{}: {what}", number + 1));
            }
        }
    }
    problems
}

fn fault(line: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if UNFINISHED.iter().any(|word| has_word(line, word)) || line.contains(UNFINISHED_CALL) {
        Some("unfinished work: finish it, or write an issue")
    } else if MACHINE_PATHS.iter().any(|path| has_path(line, path)) {
        Some("a path of somebody's machine")
    } else if has(REGISTRY_HOSTS) {
        Some("the host of a package registry")
    } else {
        None
    }
}

/// Whether the word stands alone, not as part of a longer one such as base64 text.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '/'));
        !joins(before) && (word.ends_with('(') || !joins(after))
    })
}

/// Whether an absolute path starts with this; `crates/work/x` and addresses do not count.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::house_of;
    use super::*;

    fn problems(text: &str) -> usize {
        check(&house_of(&[("a.rs", text)])).len()
    }

    #[test]
    fn each_kind_of_word_is_found() {
        for words in [UNFINISHED, MACHINE_PATHS, REGISTRY_HOSTS] {
            for word in words {
                assert_eq!(problems(&format!("fine\nsee {word} x)\n")), 1, "{word}");
            }
        }
        assert_eq!(problems(&format!("{UNFINISHED_CALL})")), 1);
    }

    #[test]
    fn parts_of_longer_words_and_paths_are_no_faults() {
        let word = UNFINISHED[0];
        let path = MACHINE_PATHS[3];
        assert_eq!(problems(&format!("A{word}+ {word}S 0{word}9 frame{path}x .{path}")), 0);
    }
}
