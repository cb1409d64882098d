//! The trust root: which keys may do what, and how many of them it takes (profile sections 12 and 13).

/// Entries that [`Signers`] holds at most: as many as a release has signature blocks (AUTH_BLOCKS_MAX), or an image
/// signatures.
pub const SIGNERS_MAX: usize = 8;

/// What a key is for (profile section 12). The number is the one in the trust root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Role {
    /// Signs trust roots.
    Root = 1,
    /// Signs releases, offline.
    Release = 2,
    /// Approves the distribution of a release, online.
    Distribute = 3,
    /// Signs emergency revocation lists.
    Revoke = 4,
    /// Signs releases with a second algorithm.
    ReleaseSecond = 5,
    /// Signs images for the bootloader.
    Image = 6,
    /// Signs images with a second algorithm.
    ImageSecond = 7,
}

impl Role {
    /// The role of this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Root,
            2 => Self::Release,
            3 => Self::Distribute,
            4 => Self::Revoke,
            5 => Self::ReleaseSecond,
            6 => Self::Image,
            7 => Self::ImageSecond,
            _ => return None,
        })
    }
}

/// An entry of the trust root that was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signer {
    /// The role that it was counted for.
    pub role: Role,
    /// Its key id.
    pub id: [u8; 32],
}

/// The set of entries that were counted, each once.
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
    /// The entries, in the order in which they were counted.
    pub fn as_slice(&self) -> &[Signer] {
        self.items.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// How many distinct entries were counted for the role.
    pub fn count(&self, role: Role) -> usize {
        self.as_slice().iter().filter(|signer| signer.role == role).count()
    }

    /// Adds an entry unless it is there already; `false` when there is no room left.
    pub(crate) fn add(&mut self, signer: Signer) -> bool {
        if self.as_slice().contains(&signer) {
            return true;
        }
        let Some(free) = self.items.get_mut(usize::from(self.len)) else {
            return false;
        };
        *free = signer;
        self.len += 1;
        true
    }
}
