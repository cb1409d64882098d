//! Who was counted: sets of entries of one root, and their names for a log.

use super::{Role, TrustRoot};
use codec::cose::KeyId;

/// Entries that [`Signers`] holds at most: as many as a release has signature blocks.
pub const SIGNERS_MAX: usize = codec::limits::AUTH_BLOCKS_MAX;

impl TrustRoot<'_> {
    /// The names and roles of counted entries, for a log.
    pub fn signers(&self, counted: Entries) -> Signers {
        let mut signers = Signers::default();
        for entry in self.entries().filter(|entry| counted.has(entry.index)) {
            signers.add(Signer {
                role: entry.role,
                id: *entry.id,
            });
        }
        signers
    }
}

/// A set of entries of one trust root, by their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entries(u32);

impl Entries {
    /// The set with this place added. A place beyond 31 cannot be counted; no limit allows that many keys.
    pub(crate) fn with(self, index: Option<u8>) -> Self {
        Self(self.0 | index.and_then(|index| 1u32.checked_shl(index.into())).unwrap_or(0))
    }

    /// Whether the place is in the set.
    pub fn has(self, index: u8) -> bool {
        1u32.checked_shl(index.into()).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether nobody is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// An entry of the trust root that was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signer {
    /// The role that it was counted for.
    pub role: Role,
    /// Its key id.
    pub id: KeyId,
}

/// The names of the entries that were counted, each once, for a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signers {
    items: [Signer; SIGNERS_MAX],
    len: u8,
}

impl Default for Signers {
    fn default() -> Self {
        let nobody = Signer {
            role: Role::Root,
            id: [0; 32],
        };
        Self {
            items: [nobody; SIGNERS_MAX],
            len: 0,
        }
    }
}

impl Signers {
    /// The entries, in the order of the root.
    pub fn as_slice(&self) -> &[Signer] {
        self.items.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// How many of them signed for the role.
    pub fn count(&self, role: Role) -> usize {
        self.as_slice().iter().filter(|signer| signer.role == role).count()
    }

    /// Adds an entry while there is room.
    fn add(&mut self, signer: Signer) {
        if let Some(free) = self.items.get_mut(usize::from(self.len)) {
            *free = signer;
            self.len = self.len.saturating_add(1);
        }
    }
}
