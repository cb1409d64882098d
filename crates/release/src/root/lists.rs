//! Making revocation lists and time files: what speaks between two roots (profile section 15).

use std::collections::{BTreeMap, BTreeSet};

use codec::cose::KeyId;
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{FileKind, RevokeFile, Role, TimeFile};
use keys::{Code, Error, Result};

use super::content::Content;
use super::names::Names;
use super::proposal::Proposal;
use super::{role_name, to_vec};
use crate::identity;

/// What a revocation list says, as a value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Its number; 0 for none yet.
    pub number: u64,
    /// Ids that are no longer trusted.
    pub revoked: BTreeSet<KeyId>,
    /// Lowest sequences by class id.
    pub min_sequences: BTreeMap<Uuid, u64>,
}

impl List {
    /// What a list file says. Errors: 811, 105, 10x.
    pub fn read(file: &[u8]) -> Result<List> {
        let decoded = RevokeFile::decode(file, &Limits::LINUX);
        let list = decoded.map_err(|refused| Error::refused("revocation list", refused))?;
        Ok(List {
            number: list.number,
            revoked: list.revoked.iter().copied().collect(),
            min_sequences: list
                .min_sequences
                .iter()
                .map(|(class, least)| (*class, least))
                .collect(),
        })
    }

    /// The list that follows this one: the next number, and everything of this one with what is added.
    ///
    /// Errors: [`Code::RootEdit`] nothing is added, or a root key; [`Code::RootUnreachable`] what is left could not sign
    /// a delivery, unless `stops_deliveries` says that this is meant.
    pub fn extend(&self, added: &List, root: &Content, stops_deliveries: bool) -> Result<List> {
        let mut next = self.clone();
        next.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| Code::RootEdit.error("there is no number after this one"))?;
        next.revoked.extend(&added.revoked);
        for (class, least) in &added.min_sequences {
            let present = next.min_sequences.entry(*class).or_default();
            *present = (*least).max(*present);
        }
        if (&next.revoked, &next.min_sequences) == (&self.revoked, &self.min_sequences) {
            return Err(Code::RootEdit
                .error("nothing would change")
                .advise("Say what is to be revoked or raised."));
        }
        if next.revoked.iter().any(|id| root.role_of(id) == Some(Role::Root)) {
            return Err(Code::RootEdit
                .error("a revocation list cannot revoke a root key")
                .advise("Change root keys with a new root: `ampoule trust propose`."));
        }
        next.leaves_enough(root, stops_deliveries)?;
        Ok(next)
    }

    fn leaves_enough(&self, root: &Content, stops_deliveries: bool) -> Result<()> {
        for (role, def) in &root.roles {
            let able = root.able_keys(*role);
            let left = able.difference(&self.revoked).count();
            if left < usize::from(def.threshold) && !stops_deliveries {
                let what = format!(
                    "the list would leave role {} {left} keys, and {} must sign: it stops until a new root arrives",
                    role_name(*role),
                    def.threshold
                );
                return Err(Code::RootUnreachable.error(what).advise(
                    "Propose a root that replaces the keys; or say --even-if-nothing-can-be-delivered if that is meant.",
                ));
            }
        }
        Ok(())
    }

    /// The list as a proposal for the root's revocation keys to sign. Errors: 105, 811.
    pub fn propose(&self, root: &Content, limits: &Limits) -> Result<Proposal> {
        has_role(root, Role::Revoke)?;
        let revoked: Vec<KeyId> = self.revoked.iter().copied().collect();
        let minima: Vec<(Uuid, u64)> = self
            .min_sequences
            .iter()
            .map(|(class, least)| (*class, *least))
            .collect();
        let content = to_vec(|writer| RevokeFile::encode_content(writer, self.number, &root.id, &revoked, &minima));
        Proposal::new(FileKind::Revoke, content, limits)
    }

    /// What this list says and the one before did not, in words.
    pub fn difference(&self, before: &List, root: &Content, names: &Names) -> Vec<String> {
        let whose = |id: &KeyId| match root.role_of(id) {
            Some(role) => format!("revoked: + {} key {}", role_name(role), names.label(id)),
            None => format!("revoked: + {}, which the root does not list", names.label(id)),
        };
        let was = |class: &Uuid| before.min_sequences.get(class).copied().unwrap_or(0);
        let raised = self.min_sequences.iter().filter(|(class, least)| was(class) != **least);
        let raised = raised.map(|(class, least)| {
            format!(
                "lowest sequence for class {}: {} -> {least}",
                identity::text(class),
                was(class)
            )
        });
        self.revoked
            .difference(&before.revoked)
            .map(whose)
            .chain(raised)
            .collect()
    }
}

/// A time file as a proposal for the root's distribution keys to sign. Errors: 105, 813; [`Code::SignerWithoutRole`].
pub fn propose_time(seconds: u64, root: &Content, limits: &Limits) -> Result<Proposal> {
    has_role(root, Role::Distribute)?;
    let content = to_vec(|writer| TimeFile::encode_content(writer, seconds, &root.id));
    Proposal::new(FileKind::Time, content, limits)
}

fn has_role(root: &Content, role: Role) -> Result<()> {
    if root.roles.contains_key(&role) {
        return Ok(());
    }
    let what = format!("the root defines no {} keys, so nobody can sign this", role_name(role));
    Err(Code::SignerWithoutRole
        .error(what)
        .advise("Add keys to the role with a new root: `ampoule trust propose`."))
}
