//! Who has signed a proposal, who is missing, and what a device would say of it now.

use codec::cose::KeyId;
use codec::limits::Limits;
use codec::roots::{FileKind, Role, RootFile};
use codec::{Reason, Refused};
use keys::{Code, Error, Result};
use trust::TrustRoot;

use super::names::Names;
use super::proposal::{Proposal, kind_name};
use super::role_name;
use crate::tree::Tree;
use crate::verify::RoleState;

/// How far a proposal is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The groups of people who must sign.
    pub parties: Vec<Party>,
    /// Signatures of keys that have no say in this.
    pub idle: Vec<KeyId>,
    /// Signatures that are wrong, of keys that have a say: devices refuse the whole file for one.
    pub wrong: Vec<KeyId>,
}

/// A group of people who must sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// Which keys they are, for people ("root keys of version 2").
    pub name: String,
    /// Who of them has signed.
    pub state: RoleState,
}

/// Who has signed so far, and who could still. `under` is the root before this one, or the root whose list or time file
/// it is; a first root has none.
///
/// Errors: [`Code::Argument`] without the root that decides; [`Code::SignerWithoutRole`] the root has no keys for this.
pub fn standing(proposal: &Proposal, under: Option<&TrustRoot>) -> Result<Standing> {
    let file = proposal.as_read();
    let mut parties = Vec::new();
    let mut say = Vec::new();
    match (proposal.kind(), under) {
        (FileKind::Root, under) => {
            let candidate = TrustRoot::stored(&file, &Limits::LINUX).map_err(refused(proposal))?;
            for root in under.into_iter().chain([&candidate]) {
                let name = format!("root keys of version {}", root.version());
                parties.push(party(proposal, root, Role::Root, name, &mut say)?);
            }
        }
        (kind, Some(root)) => {
            let role = if kind == FileKind::Revoke {
                Role::Revoke
            } else {
                Role::Distribute
            };
            let name = format!("{} keys of version {}", role_name(role), root.version());
            parties.push(party(proposal, root, role, name, &mut say)?);
        }
        (kind, None) => {
            let what = format!("a {} says nothing without the root that it belongs to", kind_name(kind));
            return Err(Code::Argument.error(what).advise("Give the root with --root."));
        }
    }
    let mut idle: Vec<KeyId> = Vec::new();
    let mut wrong: Vec<KeyId> = Vec::new();
    for id in proposal.signers() {
        match say.iter().find(|(listed, _)| listed == id) {
            None => idle.push(*id),
            Some((_, false)) => wrong.push(*id),
            Some((_, true)) => {}
        }
    }
    Ok(Standing { parties, idle, wrong })
}

/// The keys of a role under a root, split by whether they signed; joins what each signature came to.
fn party(
    proposal: &Proposal,
    root: &TrustRoot,
    role: Role,
    name: String,
    say: &mut Vec<(KeyId, bool)>,
) -> Result<Party> {
    let def = RootFile::decode(root.bytes(), &Limits::LINUX).map_err(refused(proposal))?;
    let def = def.root.roles.get(role).ok_or_else(|| {
        let what = format!("the root defines no {} keys, so nobody can sign this", role_name(role));
        Code::SignerWithoutRole.error(what)
    })?;
    let (mut signed, mut unsigned) = (Vec::new(), Vec::new());
    for entry in root.entries().filter(|entry| entry.role == role) {
        match entry.key.and_then(|key| proposal.is_signed_by(entry.id, &key)) {
            Some(good) => {
                say.push((*entry.id, good));
                if good {
                    signed.push(*entry.id)
                } else {
                    unsigned.push(*entry.id)
                }
            }
            None => unsigned.push(*entry.id),
        }
    }
    let state = RoleState {
        role,
        threshold: def.threshold,
        signed,
        unsigned,
    };
    Ok(Party { name, state })
}

/// What a device that holds `under` says of the proposal, by its own code.
///
/// Errors: the device's reasons (802 to 805, 809, 810, 811, 813); where signatures are missing, with whose.
pub fn judge(proposal: &Proposal, under: Option<&TrustRoot>, limits: &Limits, names: &Names) -> Result<()> {
    let file = proposal.as_read();
    let judged = match (proposal.kind(), under) {
        (FileKind::Root, None) => {
            TrustRoot::parse(&file, limits, &trust::PORTABLE).and_then(|root| root.verify_self(&trust::PORTABLE))
        }
        (FileKind::Root, Some(root)) => root.successor(&file, limits, &trust::PORTABLE).map(|_| ()),
        (FileKind::Revoke, Some(root)) => root.verify_list(&file, limits, &trust::PORTABLE).map(|_| ()),
        (FileKind::Time, Some(root)) => root.verify_time(&file, limits, &trust::PORTABLE).map(|_| ()),
        (_, None) => return standing(proposal, None).map(|_| ()),
    };
    let Err(refusal) = judged else { return Ok(()) };
    let error = refused(proposal)(refusal);
    let advice = standing(proposal, under).map(|standing| standing.advice(refusal, proposal, under, names));
    Err(match advice {
        Ok(Some(advice)) => error.advise(advice),
        _ => error,
    })
}

impl Standing {
    /// Whether every party has reached its threshold.
    pub fn is_complete(&self) -> bool {
        self.wrong.is_empty() && self.parties.iter().all(|party| party.state.is_reached())
    }

    /// Who is missing, a line for each party that waits.
    pub fn missing(&self, names: &Names) -> Vec<String> {
        let waiting = self.parties.iter().filter(|party| !party.state.is_reached());
        waiting
            .map(|party| {
                let left = usize::from(party.state.threshold).saturating_sub(party.state.signed.len());
                let who = names.labels(&party.state.unsigned).join(" or ");
                format!("{left} more of the {}: {who}", party.name)
            })
            .collect()
    }

    fn advice(
        &self,
        refusal: Refused,
        proposal: &Proposal,
        under: Option<&TrustRoot>,
        names: &Names,
    ) -> Option<String> {
        if let Some(id) = self.wrong.first() {
            return Some(format!(
                "The signature of {} is of something else than this file: take that block out, or start from a clean copy.",
                names.label(id)
            ));
        }
        match (refusal.reason, under, proposal.root()) {
            (Reason::RootVersion, Some(root), Some(candidate)) => Some(format!(
                "A device that holds version {} takes version {} next, and this is version {}.",
                root.version(),
                root.version() + 1,
                candidate.version
            )),
            _ if !self.is_complete() => Some(format!("Missing: {}.", self.missing(names).join("; "))),
            _ => None,
        }
    }

    /// The same for a person or a script.
    pub fn to_tree(&self, names: &Names) -> Tree {
        let list = |ids: &[KeyId]| names.labels(ids).into_iter().map(Tree::from).collect::<Vec<_>>();
        let party = |party: &Party| {
            Tree::fields()
                .with("who", party.name.as_str())
                .with("needed", u64::from(party.state.threshold))
                .with("signed", list(&party.state.signed))
                .with("not signed", list(&party.state.unsigned))
        };
        Tree::fields()
            .with("complete", self.is_complete())
            .with("signatures", self.parties.iter().map(party).collect::<Vec<_>>())
            .with_some("wrong signatures", (!self.wrong.is_empty()).then(|| list(&self.wrong)))
            .with_some(
                "signatures that do not count",
                (!self.idle.is_empty()).then(|| list(&self.idle)),
            )
    }
}

/// Refuses a signer whose signature would not count.
///
/// Errors: [`Code::SignerRevoked`], [`Code::SignerWithoutRole`].
pub fn may_sign(standing: &Standing, roots: &[&TrustRoot], id: &KeyId, names: &Names) -> Result<()> {
    let has_say = standing.parties.iter().any(|party| {
        let state = &party.state;
        state.signed.contains(id) || state.unsigned.contains(id)
    });
    if has_say {
        return Ok(());
    }
    let who = format!("key {}", names.label(id));
    for root in roots {
        let file = RootFile::decode(root.bytes(), &Limits::LINUX).ok();
        let listed = file.and_then(|file| file.root.roles.role_of(id));
        let may = root.entries().any(|entry| entry.id == id);
        if let Some(role) = listed.filter(|_| !may) {
            let what = format!("{who} was a {} key and is revoked", role_name(role));
            return Err(Code::SignerRevoked.error(what));
        }
        if let Some(role) = listed {
            let what = format!("{who} is a {} key, and such keys do not sign this", role_name(role));
            return Err(Code::SignerWithoutRole.error(what));
        }
    }
    Err(Code::SignerWithoutRole.error(format!("the root does not know {who}")))
}

fn refused(proposal: &Proposal) -> impl Fn(Refused) -> Error {
    let name = kind_name(proposal.kind());
    move |refused| Error::refused(name, refused)
}
