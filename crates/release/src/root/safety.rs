//! Would devices still be reachable under this root? What is refused before anybody signs, and what a person is told.

use std::collections::BTreeSet;

use codec::Reason;
use codec::cose::KeyId;
use codec::limits::{Limits, ROOT_BLOCKS_MAX};
use codec::roots::Role;
use keys::{Code, Error, Result};

use super::content::Content;
use super::names::Names;
use super::role_name;
use crate::inspect::moment;

/// Days before its end in which a root is said to expire soon.
const EXPIRES_SOON_DAYS: u64 = 90;
/// Bytes of a signature block with a signature of 64 bytes (profile section 13), with its `bstr` header.
const BLOCK_BYTES: usize = 112;

/// What the devices are like, and what time it is.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Their limits.
    pub limits: Limits,
    /// Names of the signature algorithms that they verify, where the board file says it.
    pub algorithms: Option<Vec<String>>,
    /// Seconds since 1970-01-01 UTC.
    pub now: u64,
}

/// Refuses a root that would leave devices unreachable; gives what a person should know about the others.
///
/// Errors: [`Code::RootUnreachable`] a role cannot reach its threshold, or is demanded without keys;
/// [`Code::RootUnsignable`] more signatures are needed than a root file holds; [`Code::BoardAlgorithm`];
/// [`Code::RootExpired`]; 105 above a limit of the devices; 809 a revocation or minimum taken back.
pub fn check(new: &Content, old: Option<&Content>, conditions: &Conditions, names: &Names) -> Result<Vec<String>> {
    reachable(new)?;
    keeps_restrictions(new, old)?;
    algorithms(new, conditions, names)?;
    fits(new, old, &conditions.limits)?;
    let mut notes = expiry(new, conditions.now)?;
    notes.extend(no_spares(new));
    notes.extend(images(new, old));
    notes.extend(
        old.filter(|old| shared_root_keys(old, new) == 0).map(|_| {
            "this root keeps none of the previous root's root keys: both sets of people must sign".to_string()
        }),
    );
    Ok(notes)
}

/// Every role can still reach its threshold, and every demanded one is defined.
fn reachable(new: &Content) -> Result<()> {
    for role in new.roles.keys() {
        let (able, threshold) = (new.able_keys(*role).len(), new.threshold(*role));
        if threshold == 0 || usize::from(threshold) > able {
            let name = role_name(*role);
            let what =
                format!("role {name} would demand {threshold} signatures and have {able} keys left that may sign");
            return Err(Code::RootUnreachable.error(what));
        }
    }
    let always = BTreeSet::from([Role::Root, Role::Release]);
    let demanded = always.union(&new.delivery_roles).chain(&new.image_roles);
    // A root without image keys is valid; Ampoule's bootloader alone refuses it, and a note says so.
    let image_alone = new.image_roles == BTreeSet::from([Role::Image]);
    let missing = demanded.filter(|role| !(new.roles.contains_key(role) || **role == Role::Image && image_alone));
    match missing.into_iter().next() {
        Some(role) => {
            let what = format!("role {} is demanded and has no keys", role_name(*role));
            Err(Code::RootUnreachable.error(what))
        }
        None => Ok(()),
    }
}

/// Rotation rule 6, said before anybody signs.
fn keeps_restrictions(new: &Content, old: Option<&Content>) -> Result<()> {
    let Some(old) = old else { return Ok(()) };
    let dropped = |id: &KeyId| old.keys.contains_key(id) && !new.keys.contains_key(id);
    let revoked = old.revoked.iter().all(|id| new.revoked.contains(id) || dropped(id));
    let least = |class| new.min_sequences.get(class).copied().unwrap_or(0);
    let minima = old
        .min_sequences
        .iter()
        .all(|(class, minimum)| least(class) >= *minimum);
    if revoked && minima {
        Ok(())
    } else {
        Err(Error::refused("the proposed root", Reason::RootRegression).advise(
            "Keep every revocation and every lowest sequence of the previous root: devices refuse a root that takes one back.",
        ))
    }
}

fn algorithms(new: &Content, conditions: &Conditions, names: &Names) -> Result<()> {
    let Some(known) = &conditions.algorithms else {
        return Ok(());
    };
    for (id, material) in &new.keys {
        let name = material.algorithm_name();
        if !known.iter().any(|listed| listed == name) {
            let role = new.role_of(id).map_or("", role_name);
            let what = format!(
                "the {role} key {} is {name}, and the board's devices verify only {}",
                names.label(id),
                known.join(" and ")
            );
            return Err(Code::BoardAlgorithm.error(what));
        }
    }
    Ok(())
}

/// The finished file stays within a root file's blocks and the devices' bytes.
fn fits(new: &Content, old: Option<&Content>, limits: &Limits) -> Result<()> {
    let blocks = signatures_needed(new, old);
    if blocks > ROOT_BLOCKS_MAX {
        let what =
            format!("{blocks} people would have to sign, and a root file has room for {ROOT_BLOCKS_MAX} signatures");
        return Err(Code::RootUnsignable.error(what));
    }
    let limited = |name| Error::refused("the proposed root", Reason::Limit.about(name));
    if new.keys.len() > limits.root_keys_max as usize {
        return Err(limited("ROOT_KEYS_MAX"));
    }
    if new.revoked.len() > limits.revoked_max as usize {
        return Err(limited("REVOKED_MAX"));
    }
    let bytes = new.encode().len() + blocks * BLOCK_BYTES + 16;
    if bytes > limits.root_max as usize {
        let mut error = limited("ROOT_MAX");
        error.what = format!(
            "{}: about {bytes} bytes with {blocks} signatures, {} fit",
            error.what, limits.root_max
        );
        return Err(error.advise("List fewer keys, or drop revocations of keys that are no longer listed."));
    }
    Ok(())
}

/// Blocks of the smallest set of signers that reaches both thresholds.
fn signatures_needed(new: &Content, old: Option<&Content>) -> usize {
    let own = usize::from(new.threshold(Role::Root));
    let Some(old) = old else { return own };
    let before = usize::from(old.threshold(Role::Root));
    own + before - shared_root_keys(old, new).min(own).min(before)
}

/// Root keys that count for both.
fn shared_root_keys(old: &Content, new: &Content) -> usize {
    old.able_keys(Role::Root)
        .intersection(&new.able_keys(Role::Root))
        .count()
}

fn expiry(new: &Content, now: u64) -> Result<Vec<String>> {
    let Some(expires) = new.expires else {
        return Ok(Vec::new());
    };
    if expires <= now {
        return Err(Code::RootExpired.error(format!("the root would expire at {}, which is past", moment(expires))));
    }
    let soon = expires - now < EXPIRES_SOON_DAYS * 86_400;
    let note = format!(
        "this root expires within {EXPIRES_SOON_DAYS} days, at {}: a device that sleeps longer can only be given a newer root",
        moment(expires)
    );
    Ok(soon.then_some(note).into_iter().collect())
}

/// Roles for which one lost key is one too many.
fn no_spares(new: &Content) -> Vec<String> {
    let bare = |role: &Role| new.able_keys(*role).len() == usize::from(new.threshold(*role));
    let note = |role: &Role| match role {
        Role::Root => "role root has no spare key: if one is lost, nobody can ever change this root again".to_string(),
        role => format!(
            "role {} has no spare key: if one is lost, only a new root helps",
            role_name(*role)
        ),
    };
    new.roles.keys().filter(|role| bare(role)).map(note).collect()
}

/// What becomes of images that were signed before.
fn images(new: &Content, old: Option<&Content>) -> Vec<String> {
    let mut notes = Vec::new();
    if !new.roles.contains_key(&Role::Image) {
        notes.push(
            "this root has no image keys, so Ampoule's bootloader refuses it (941 ROOT_NO_IMAGE_ROLE)".to_string(),
        );
    }
    let Some(old) = old else { return notes };
    let stricter = |role: Role| {
        let lost = old.able_keys(role).difference(&new.able_keys(role)).count() > 0;
        lost || new.threshold(role) > old.threshold(role)
    };
    let demanded = new.image_roles.difference(&old.image_roles).count() > 0;
    if demanded || new.image_roles.iter().any(|role| stricter(*role)) {
        notes.push(
            "images that only the dropped keys signed, or too few keys, start no longer; the one image that a device runs \
             confirmed when it takes this root is pinned and keeps running until it is replaced"
                .to_string(),
        );
    }
    notes
}
