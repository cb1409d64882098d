//! What a signer reads of a release before anything is asked: what it is, for whom, and what differs from the last one.

use codec::plan::{Plan, Target};
use codec::roots::Environment;
use keys::Result;
use trust::TrustRoot;

use crate::envelope::{Draft, Envelope, TARGETS_MAX, manifest_digest};
use crate::identity;
use crate::root::{Names, environment_name};
use crate::tree::Tree;
use crate::verify;

/// The statement about a release: identity, numbers, targets with sizes and digests, the difference to `previous`, and who
/// signed so far under `root`. Dependencies (an SBOM) are not part of a release yet and are not compared.
///
/// Errors: a device's reasons for a release that it would not read.
pub fn statement(
    release: &Envelope,
    root: Option<&TrustRoot>,
    previous: Option<&Envelope>,
    names: &Names,
) -> Result<Tree> {
    let mut room = vec![Target::EMPTY; TARGETS_MAX];
    let plan = release.plan(&mut room)?;
    let changes = previous.map(|previous| differences(release, previous)).transpose()?;
    let tree = what_it_is(&plan, release.head().manifest, root, changes);
    match root {
        Some(root) => Ok(tree.with("so far", verify::standing(release, root, names)?)),
        None => Ok(tree),
    }
}

/// The statement about a release that nobody signed yet, as [`statement`].
pub fn draft_statement(draft: &Draft, root: Option<&TrustRoot>, previous: Option<&Envelope>) -> Result<Tree> {
    let mut room = vec![Target::EMPTY; TARGETS_MAX];
    let plan = draft.plan(&mut room)?;
    let mut old_room = vec![Target::EMPTY; TARGETS_MAX];
    let previous = previous.map(|previous| previous.plan(&mut old_room)).transpose()?;
    let changes = previous.map(|previous| changes(&plan, &previous));
    Ok(what_it_is(&plan, &draft.manifest, root, changes))
}

fn what_it_is(plan: &Plan, manifest: &[u8], root: Option<&TrustRoot>, changes: Option<Vec<String>>) -> Tree {
    let first = plan.targets.first();
    let counter = |target: &Target| {
        let variant = target.variants.as_slice().first();
        variant.and_then(|variant| variant.content.counter)
    };
    let differs = match changes {
        Some(changes) => Tree::from(changes.into_iter().map(Tree::from).collect::<Vec<_>>()),
        None => Tree::from("not compared: --previous was not given"),
    };
    let environment = root.map_or("unknown: no trust root was given", |root| {
        environment_name(root.environment())
    });
    Tree::fields()
        .with("what", "release")
        .with_some("product line", root.map(|root| identity::text(root.id())))
        .with_some("vendor", first.map(|target| identity::text(target.vendor)))
        .with_some("class", first.map(|target| identity::text(target.class)))
        .with("version", version(plan))
        .with("sequence", plan.sequence)
        .with_some("security counter", first.and_then(counter))
        .with("installs", plan.targets.iter().map(target).collect::<Vec<_>>())
        .with("digest", &manifest_digest(manifest)[..])
        .with("differs from the previous release", differs)
        .with("environment", environment)
}

/// The world of a root, where there is one.
pub fn world(root: Option<&TrustRoot>) -> Option<Environment> {
    root.map(TrustRoot::environment)
}

fn target(target: &Target) -> Tree {
    let variants = target.variants.as_slice().iter().map(|variant| {
        Tree::fields()
            .with("bytes", variant.size)
            .with("digest", variant.digest.hash)
    });
    Tree::fields()
        .with("component", component(target))
        .with("content", variants.collect::<Vec<_>>())
}

fn component(target: &Target) -> String {
    let parts = target.id.parts();
    let parts = parts.iter().map(|part| String::from_utf8_lossy(part).into_owned());
    parts.collect::<Vec<_>>().join("/")
}

fn version(plan: &Plan) -> String {
    let parts = plan
        .version
        .map(|version| version.parts().iter().map(u64::to_string).collect::<Vec<_>>());
    parts.map_or("not stated".into(), |parts| parts.join("."))
}

/// The differences to another release, a line each.
pub fn differences(new: &Envelope, old: &Envelope) -> Result<Vec<String>> {
    let (mut new_room, mut old_room) = (vec![Target::EMPTY; TARGETS_MAX], vec![Target::EMPTY; TARGETS_MAX]);
    let (now, was) = (new.plan(&mut new_room)?, old.plan(&mut old_room)?);
    let mut lines = changes(&now, &was);
    let (new, old) = (new.as_bytes().len(), old.as_bytes().len());
    if new != old {
        lines.push(format!("bytes of the file: {old} -> {new}"));
    }
    Ok(lines)
}

fn changes(now: &Plan, was: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |what: &str, was: String, now: String| {
        if was != now {
            lines.push(format!("{what}: {was} -> {now}"));
        }
    };
    line("version", version(was), version(now));
    line("sequence", was.sequence.to_string(), now.sequence.to_string());
    for target in now.targets {
        let before = was.targets.iter().find(|before| before.id.parts() == target.id.parts());
        let name = component(target);
        let facts = |target: &Target| {
            target.variants.as_slice().first().map(|variant| {
                (
                    variant.size.to_string(),
                    variant
                        .content
                        .counter
                        .map_or("none".into(), |counter| counter.to_string()),
                    crate::tree::hex(variant.digest.hash),
                )
            })
        };
        let none = || (String::from("none"), String::from("none"), String::from("none"));
        let (is, before_facts) = (
            facts(target).unwrap_or_else(none),
            before.and_then(facts).unwrap_or_else(none),
        );
        line(&format!("{name}: bytes"), before_facts.0, is.0);
        line(&format!("{name}: security counter"), before_facts.1, is.1);
        line(&format!("{name}: digest"), before_facts.2, is.2);
        let class = |target: &Target| identity::text(target.class);
        line(
            &format!("{name}: class"),
            before.map_or("none".into(), class),
            class(target),
        );
    }
    let gone = was
        .targets
        .iter()
        .filter(|target| now.targets.iter().all(|other| other.id.parts() != target.id.parts()));
    for target in gone {
        lines.push(format!("{}: no longer in the release", component(target)));
    }
    lines
}
