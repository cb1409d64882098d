//! Revocation lists and time files: what the root's keys say between two roots (profile section 15).

use super::count::Signed;
use super::{Role, TrustRoot, ensure};
use crate::alg::Algorithms;
use crate::scan::Scan;
use codec::limits::Limits;
use codec::roots::{FileKind, RevokeFile, TimeFile};
use codec::{Reason, Refused};

impl<'a> TrustRoot<'a> {
    /// Verifies a revocation list against this root and the list that the device holds, if any. The same list again
    /// passes; whether to replace anything is then told by [`Revocations::number`].
    ///
    /// Refused: 811 for structure, another product line, a number that does not grow, too few signatures of role 4 or a
    /// wrong one, a root key revoked, an earlier revocation or minimum taken back.
    pub fn verify_list<'l>(
        &self,
        bytes: &'l [u8],
        limits: &Limits,
        algorithms: &Algorithms,
    ) -> Result<Revocations<'l>, Refused> {
        const INVALID: Reason = Reason::RevokeInvalid;
        let list = RevokeFile::decode(bytes, limits)?;
        ensure(list.root_id == self.id(), INVALID)?;
        let signed = Signed {
            kind: Some(FileKind::Revoke),
            content: list.content,
            blocks: list.blocks,
        };
        // A list cannot take its own authority away: signers are judged by the root alone.
        let root = Self { list: None, ..*self };
        let counted = root.count(&signed, &[Role::Revoke], algorithms, INVALID)?;
        ensure(root.reaches(Role::Revoke, counted), INVALID)?;
        let revokes_root = root
            .entries()
            .any(|entry| entry.role == Role::Root && list.revoked.contains(entry.id));
        ensure(!revokes_root, INVALID)?;
        if let Some(held) = &self.list {
            ensure(is_extended_by(held, &list, limits), INVALID)?;
        }
        Revocations::stored(bytes)
    }

    /// Verifies a time file; gives seconds since 1970-01-01 UTC, before which it is not. Keeping the largest is the
    /// caller's. Refused: 813 for structure, another product line, too few signatures of role 3 or a wrong one.
    pub fn verify_time(&self, bytes: &[u8], limits: &Limits, algorithms: &Algorithms) -> Result<u64, Refused> {
        const INVALID: Reason = Reason::TimeInvalid;
        let time = TimeFile::decode(bytes, limits)?;
        ensure(time.root_id == self.id(), INVALID)?;
        let signed = Signed {
            kind: Some(FileKind::Time),
            content: time.content,
            blocks: time.blocks,
        };
        let counted = self.count(&signed, &[Role::Distribute], algorithms, INVALID)?;
        ensure(self.reaches(Role::Distribute, counted), INVALID)?;
        Ok(time.seconds)
    }
}

/// A revocation list that the root's revocation role signed: just now, or before this device stored it.
#[derive(Clone, Copy, Debug)]
pub struct Revocations<'a> {
    bytes: &'a [u8],
    pub(super) content: Scan<'a>,
}

impl<'a> Revocations<'a> {
    /// The list that this device itself accepted and keeps in its trust store; see [`TrustRoot::stored`].
    pub fn stored(bytes: &'a [u8]) -> Result<Self, Refused> {
        let content = Scan::file_content(bytes).ok_or(Reason::RevokeInvalid)?;
        Ok(Self { bytes, content })
    }

    /// Its number, strictly growing.
    pub fn number(&self) -> u64 {
        self.content.member(1).and_then(|mut value| value.uint()).unwrap_or(0)
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The same list again, or one with a greater number that takes nothing back.
fn is_extended_by(held: &Revocations, list: &RevokeFile, limits: &Limits) -> bool {
    let Ok(held) = RevokeFile::decode(held.bytes, limits) else {
        return false;
    };
    if held.content == list.content {
        return true;
    }
    let minima = held
        .min_sequences
        .iter()
        .all(|(class, least)| list.min_sequences.of_class(class) >= least);
    list.number > held.number && minima && held.revoked.iter().all(|id| list.revoked.contains(id))
}
