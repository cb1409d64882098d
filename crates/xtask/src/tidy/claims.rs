//! What the README says the device does is proved by tests that exist; links in documents lead somewhere.

use super::{House, Problems, normal};

const README: &str = "README.md";
/// The heading above the numbered claims.
const CLAIMS_HEADING: &str = "## What the device and the platform do";

pub(super) fn check(house: &House) -> Problems {
    let mut problems = Problems::new();
    let claims = claims(house.text(README));
    if claims.is_empty() {
        problems.push(format!("{README} has no numbered list under `{CLAIMS_HEADING}`"));
    }
    for claim in &claims {
        if !links(claim).iter().any(|link| is_a_test(house, link)) {
            let start: String = claim.chars().take(60).collect();
            problems.push(format!("{README}: no link to a test proves: {start}…"));
        }
    }
    for (path, text) in house.files_ending(".md") {
        let dead = links(text).into_iter().filter(|link| !resolves(house, path, link));
        problems.extend(dead.map(|link| format!("{path}: the link {link} leads nowhere")));
    }
    problems
}

/// The numbered items of the list, each with its further lines; the list ends at the next heading.
fn claims(readme: &str) -> Vec<String> {
    let mut claims: Vec<String> = Vec::new();
    let list = readme.lines().skip_while(|line| *line != CLAIMS_HEADING).skip(1);
    for line in list.take_while(|line| !line.starts_with('#')) {
        let is_item = line
            .split_once(". ")
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        match claims.last_mut() {
            _ if is_item => claims.push(line.to_string()),
            Some(claim) => {
                claim.push('\n');
                claim.push_str(line);
            }
            None => {}
        }
    }
    claims
}

/// Targets of the Markdown links in a text, outside of code blocks.
fn links(text: &str) -> Vec<&str> {
    let is_prose = |(index, _): &(usize, &str)| index % 2 == 0;
    let prose = text.split("```").enumerate().filter(is_prose);
    let after_each = prose.flat_map(|(_, prose)| prose.split("](").skip(1));
    after_each.filter_map(|rest| rest.split(')').next()).collect()
}

/// Whether a link of a root document leads to a test function that is not ignored.
fn is_a_test(house: &House, link: &str) -> bool {
    let Some((path, function)) = link.split_once('#') else {
        return false;
    };
    path.ends_with(".rs") && has_test(house.text(path), function)
}

fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declaration = format!("fn {function}(");
    let Some(place) = lines.iter().position(|line| line.contains(&declaration)) else {
        return false;
    };
    let above = lines.iter().take(place).rev();
    let attributes: Vec<&&str> = above
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .collect();
    attributes.iter().any(|line| line.starts_with("#[test]"))
        && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

fn resolves(house: &House, from: &str, link: &str) -> bool {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    if path.is_empty() {
        return has_heading(house.text(from), anchor);
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = normal(&format!("{folder}/{path}"));
    if !house.has(&path) {
        return false;
    }
    match path.rsplit_once('.') {
        _ if anchor.is_empty() => true,
        Some((_, "rs")) => has_item(house.text(&path), anchor),
        Some((_, "md")) => has_heading(house.text(&path), anchor),
        _ => false,
    }
}

/// Whether Rust source declares an item of this name.
fn has_item(source: &str, name: &str) -> bool {
    let keywords = [
        "fn",
        "struct",
        "enum",
        "trait",
        "const",
        "mod",
        "type",
        "static",
        "macro_rules!",
    ];
    source.lines().any(|line| {
        keywords.iter().any(|keyword| {
            let declares = |rest: &str| {
                rest.strip_prefix(name)
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            };
            line.split_once(&format!("{keyword} "))
                .is_some_and(|(_, rest)| declares(rest))
        })
    })
}

/// Whether a Markdown text has a heading with this anchor, by the usual rule (lower case, spaces to dashes).
fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>() == anchor
    })
}

#[cfg(test)]
mod tests {
    use super::super::house_of;
    use super::*;

    fn readme(list: &str) -> String {
        format!("# A\n\n{CLAIMS_HEADING}\n\n{list}\n### Planned\n\n1. Flying.\n")
    }

    fn problems(list: &str, test: &str) -> Problems {
        check(&house_of(&[(README, &readme(list)), ("crates/a/tests/b.rs", test)]))
    }

    const TEST: &str = "/// Why.\n#[test]\nfn it_swims() {}\n";
    const CLAIM: &str = "1. It swims,\n   far. [proof](crates/a/tests/b.rs#it_swims)\n";

    #[test]
    fn a_proved_claim_passes_and_planned_lines_need_no_proof() {
        assert_eq!(problems(CLAIM, TEST), Problems::new());
    }

    #[test]
    fn a_claim_without_link_is_found() {
        assert!(problems("1. It swims.\n", TEST)[0].contains("no link"));
    }

    #[test]
    fn a_link_to_a_missing_ignored_or_untested_function_is_no_proof() {
        assert_eq!(
            problems(CLAIM, "#[test]\nfn it_flies() {}\n").len(),
            2,
            "neither proof nor target"
        );
        assert_eq!(problems(CLAIM, "#[test]\n#[ignore]\nfn it_swims() {}\n").len(), 1);
        assert_eq!(problems(CLAIM, "fn it_swims() {}\n").len(), 1);
    }

    #[test]
    fn dead_links_are_found_in_every_document() {
        let claims = readme(CLAIM);
        let files = [(README, claims.as_str()), ("crates/a/tests/b.rs", TEST)];
        let with = |text| {
            let mut house = house_of(&files);
            house.files.insert("docs/c.md".into(), text);
            check(&house)
        };
        assert_eq!(
            with("[a](../README.md#planned) [b](../crates/a) [c](https://example.com)".into()),
            Problems::new()
        );
        assert_eq!(
            with("[a](../README.md#plan) [b](../crates/x) [c](../crates/a/tests/b.rs#it)".into()).len(),
            3
        );
        assert_eq!(
            with("```\n[a](nowhere)\n```\n".into()),
            Problems::new(),
            "code is no prose"
        );
    }

    #[test]
    fn a_readme_without_list_is_found() {
        assert!(check(&house_of(&[(README, "# A\n")]))[0].contains("no numbered list"));
    }
}
