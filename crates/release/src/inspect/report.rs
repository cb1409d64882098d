//! What a device reported of itself (`amp-report-1`).

use ciborium::Value;
use codec::Reason;
use codec::record::Lifecycle;

use super::suit::any;
use crate::tree::Tree;

/// The name that a report begins with.
const SPEC: &str = "amp-report-1";

pub(super) fn explain(value: &Value) -> Option<Tree> {
    let entries = value.as_map()?;
    let member = |wanted: i128| {
        let found = entries
            .iter()
            .find(|(key, _)| key.as_integer().map(i128::from) == Some(wanted));
        found.map(|(_, value)| value)
    };
    if member(1)?.as_text()? != SPEC {
        return None;
    }
    let signed = match member(2).and_then(number) {
        Some(0) => "no: this device has no identity yet, so anybody on the line could have made it up",
        _ => "yes",
    };
    let doing = |number| match number {
        0 => "nothing",
        1 => "receiving a release",
        2 => "a release is staged",
        3 => "an image is on trial",
        _ => "unknown",
    };
    let releases = |value: &Value| Some(value.as_array()?.iter().filter_map(release).collect::<Vec<_>>());
    Some(
        Tree::fields()
            .with("kind", "device report")
            .with("signed", signed)
            .with_some("running image", member(3).and_then(image))
            .with_some("doing", member(4).and_then(number).map(doing))
            .with_some("security counter", member(5).and_then(number))
            .with_some("trust root version", member(6).and_then(number))
            .with_some("confirmed releases", member(7).and_then(releases))
            .with_some("release under way", member(8).and_then(release))
            .with_some("last release that did not stay", member(9).and_then(ending))
            .with_some("last note of the bootloader", member(10).and_then(note))
            .with_some("trust", member(11).and_then(trust))
            .with_some("waits for the bootloader", member(12).and_then(proposals))
            .with_some("last proposal", member(13).and_then(proposal)),
    )
}

fn number(value: &Value) -> Option<u64> {
    u64::try_from(i128::from(value.as_integer()?)).ok()
}

/// `[hash TLV, major, minor, revision, build]`.
fn image(value: &Value) -> Option<Tree> {
    let [hash, version @ ..] = value.as_array()?.as_slice() else {
        return None;
    };
    Some(
        Tree::fields()
            .with("hash", any(hash, 0))
            .with("version", version_text(version)),
    )
}

fn version_text(parts: &[Value]) -> String {
    parts
        .iter()
        .filter_map(number)
        .map(|part| part.to_string())
        .collect::<Vec<_>>()
        .join(".")
}

/// `[sequence, manifest digest]`.
fn release(value: &Value) -> Option<Tree> {
    let [sequence, digest, ..] = value.as_array()?.as_slice() else {
        return None;
    };
    Some(
        Tree::fields()
            .with("sequence", number(sequence)?)
            .with("digest", any(digest, 0)),
    )
}

/// `[sequence, manifest digest, 0 given up / 1 reverted, reason number]`.
fn ending(value: &Value) -> Option<Tree> {
    let [_, _, how, why] = value.as_array()?.as_slice() else {
        return None;
    };
    let how = if number(how)? == 1 { "reverted" } else { "given up" };
    Some(release(value)?.with("how", how).with("why", reason(number(why)?)))
}

/// `[kind, reason number, first 8 bytes of the hash TLV, major, minor, revision, build]`.
fn note(value: &Value) -> Option<Tree> {
    let [kind, why, hash, version @ ..] = value.as_array()?.as_slice() else {
        return None;
    };
    Some(
        Tree::fields()
            .with("kind", number(kind)?)
            .with("why", reason(number(why)?))
            .with("image", any(hash, 0))
            .with("version", version_text(version)),
    )
}

/// `[0 production / 1 development, number of the list, time floor, 1 = pinned]`.
fn trust(value: &Value) -> Option<Tree> {
    let [environment, list, floor, pinned, ..] = value.as_array()?.as_slice() else {
        return None;
    };
    let environment = if number(environment)? == 0 {
        "production"
    } else {
        "development"
    };
    let none_at_zero = |value: &Value, none: &str| match number(value) {
        Some(0) => Some(none.to_owned()),
        number => number.map(|number| number.to_string()),
    };
    let pinned = match number(pinned)? {
        0 => "no",
        _ => "yes: root or list no longer accept the running image, which keeps running until it is replaced",
    };
    Some(
        Tree::fields()
            .with("environment", environment)
            .with("revocation list", none_at_zero(list, "none")?)
            .with("time floor", none_at_zero(floor, "none")?)
            .with("pinned", pinned),
    )
}

/// The part of the mailbox for lifecycle requests.
const LIFECYCLE: u64 = 4;

/// The name of a lifecycle state.
fn state(number: u64) -> &'static str {
    let state = u8::try_from(number).ok().and_then(Lifecycle::from_number);
    state.map_or("unknown", lifecycle_name)
}

/// What people call a state of a device's life.
pub fn lifecycle_name(state: Lifecycle) -> &'static str {
    match state {
        Lifecycle::Blank => "blank",
        Lifecycle::Factory => "factory",
        Lifecycle::Provisioned => "provisioned",
        Lifecycle::Deployed => "deployed",
        Lifecycle::Rma => "returned for analysis",
        Lifecycle::Decommissioned => "decommissioned",
    }
}

fn part(value: &Value) -> Option<&'static str> {
    Some(match number(value)? {
        1 => "trust root",
        2 => "revocation list",
        3 => "time file",
        LIFECYCLE => "lifecycle request",
        _ => "unknown",
    })
}

fn proposals(value: &Value) -> Option<String> {
    let parts: Vec<&str> = value.as_array()?.iter().filter_map(part).collect();
    Some(format!("{}; restart the device", parts.join(", ")))
}

/// `[7 taken / 8 refused, reason number, part, what the trust store holds]`.
fn proposal(value: &Value) -> Option<Tree> {
    let [kind, why, what, holds, ..] = value.as_array()?.as_slice() else {
        return None;
    };
    let tree = Tree::fields().with("what", part(what)?);
    Some(match (number(kind)?, number(what)?) {
        (7, LIFECYCLE) => tree.with("became", "in force").with("state", state(number(holds)?)),
        (7, _) => tree.with("became", "in force").with("number", number(holds)?),
        _ => tree
            .with("became", "refused by the bootloader")
            .with("why", reason(number(why)?)),
    })
}

/// A reason's number with its name and meaning; 0 is none.
fn reason(number: u64) -> String {
    match u16::try_from(number).ok().and_then(Reason::from_number) {
        Some(reason) => reason.refused().to_string(),
        None if number == 0 => "nothing went wrong".into(),
        None => format!("{number}, unknown to this tool"),
    }
}
