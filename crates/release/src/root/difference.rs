//! What changes from one root to the next, in words: what a person reads before the PIN is asked.

use std::collections::BTreeSet;

use codec::cose::KeyId;
use codec::plan::Uuid;
use codec::roots::Role;

use super::content::{ANCHOR_PURPOSES, Content, RoleKeys};
use super::names::Names;
use super::{environment_name, role_name};
use crate::identity;
use crate::inspect::moment;

/// The differences from `old` to `new`, a line each; from nothing for a first root. Empty when only the version differs.
pub fn difference(old: Option<&Content>, new: &Content, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for role in Role::ALL {
        let before = old.and_then(|old| old.roles.get(&role));
        lines.extend(role_lines(role, before, new.roles.get(&role), old, new, names));
    }
    let delivery = old.map(|old| role_list(&old.delivery_roles));
    lines.extend(changed("a delivery needs", delivery, role_list(&new.delivery_roles)));
    let image = old.map(|old| role_list(&old.image_roles));
    lines.extend(changed("an image needs", image, role_list(&new.image_roles)));
    lines.extend(revocations(old, new, names));
    lines.extend(minima(old, new));
    lines.extend(changed(
        "expires",
        old.map(|old| expiry(old.expires)),
        expiry(new.expires),
    ));
    lines.extend(anchors(old, new));
    match old {
        Some(old) if old.environment != new.environment || old.id != new.id => {
            lines.push("product line or environment differ: no device takes this root after that one".into());
        }
        Some(_) => {}
        None => lines.push(format!("environment: {}", environment_name(new.environment))),
    }
    lines
}

fn role_lines(
    role: Role,
    before: Option<&RoleKeys>,
    after: Option<&RoleKeys>,
    old: Option<&Content>,
    new: &Content,
    names: &Names,
) -> Vec<String> {
    let name = role_name(role);
    let none = RoleKeys::default();
    let (was, is) = (before.unwrap_or(&none), after.unwrap_or(&none));
    let mut lines = Vec::new();
    match (before, after) {
        (None, Some(_)) => lines.push(format!("role {name}: new, {} of {} keys", is.threshold, is.keys.len())),
        (Some(_), None) => lines.push(format!("role {name}: gone")),
        (Some(_), Some(_)) if was.threshold != is.threshold => {
            let (from, to) = (was.threshold, is.threshold);
            lines.push(format!(
                "role {name}: threshold {from} -> {to} of {} keys",
                is.keys.len()
            ));
        }
        _ => {}
    }
    let key = |root: Option<&Content>, id: &KeyId| {
        let material = root.and_then(|root| root.keys.get(id));
        format!(
            "{} {}",
            material.map_or("unknown", |key| key.algorithm_name()),
            names.label(id)
        )
    };
    let gone = was
        .keys
        .difference(&is.keys)
        .map(|id| format!("role {name}: - {}", key(old, id)));
    let added = is
        .keys
        .difference(&was.keys)
        .map(|id| format!("role {name}: + {}", key(Some(new), id)));
    lines.extend(gone.chain(added));
    lines
}

fn revocations(old: Option<&Content>, new: &Content, names: &Names) -> Vec<String> {
    let none = BTreeSet::new();
    let was = old.map_or(&none, |old| &old.revoked);
    let whose = |id: &KeyId| match new.role_of(id).or_else(|| old?.role_of(id)) {
        Some(role) => format!("{} key {}", role_name(role), names.label(id)),
        None => format!("key or certificate {}", names.label(id)),
    };
    let added = new
        .revoked
        .difference(was)
        .map(|id| format!("revoked: + {}", whose(id)));
    let gone = was
        .difference(&new.revoked)
        .map(|id| format!("revoked: - {}, which is no longer listed", whose(id)));
    added.chain(gone).collect()
}

fn minima(old: Option<&Content>, new: &Content) -> Vec<String> {
    let before = |class: &Uuid| old.and_then(|old| old.min_sequences.get(class).copied()).unwrap_or(0);
    let raised = new
        .min_sequences
        .iter()
        .filter(|(class, least)| before(class) != **least);
    raised
        .map(|(class, least)| {
            format!(
                "lowest sequence for class {}: {} -> {least}",
                identity::text(class),
                before(class)
            )
        })
        .collect()
}

fn anchors(old: Option<&Content>, new: &Content) -> Vec<String> {
    let of = |root: Option<&Content>, purpose: u8| {
        root.and_then(|root| root.anchors.get(&purpose).cloned())
            .unwrap_or_default()
    };
    let line = |(purpose, name): (codec::roots::AnchorPurpose, &str)| {
        let (was, is) = (of(old, purpose as u8), of(Some(new), purpose as u8));
        let added = is.iter().filter(|item| !was.contains(item)).count();
        let gone = was.iter().filter(|item| !is.contains(item)).count();
        (was != is).then(|| format!("anchors {name}: {added} added, {gone} removed"))
    };
    ANCHOR_PURPOSES.into_iter().filter_map(line).collect()
}

fn changed(what: &str, old: Option<String>, new: String) -> Option<String> {
    match old {
        Some(old) if old == new => None,
        Some(old) => Some(format!("{what}: {old} -> {new}")),
        None => Some(format!("{what}: {new}")),
    }
}

fn expiry(seconds: Option<u64>) -> String {
    seconds.map_or("never".into(), moment)
}

fn role_list(roles: &BTreeSet<Role>) -> String {
    roles
        .iter()
        .map(|role| role_name(*role))
        .collect::<Vec<_>>()
        .join(" and ")
}
