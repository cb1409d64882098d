//! The trust root: which keys may do what, and how many of them it takes (profile sections 12 and 13).

use crate::alg::Algorithms;
use codec::cose::{KeyId, PublicKey};
use codec::limits::Limits;
use codec::{Reason, Refused};

/// Entries that [`Signers`] holds at most: as many as a release has signature blocks (AUTH_BLOCKS_MAX).
pub const SIGNERS_MAX: usize = 8;

/// A trust root whose content was checked, borrowed from the bytes of its file.
#[derive(Clone, Copy, Debug)]
pub struct TrustRoot<'a> {
    file: &'a [u8],
}

impl<'a> TrustRoot<'a> {
    /// Reads a root file and checks its content (profile section 13): every key id recomputed, roles disjoint,
    /// thresholds reachable, weak keys refused. Says nothing about who signed it.
    pub fn parse(file: &'a [u8], limits: &Limits, algorithms: &Algorithms) -> Result<Self, Refused> {
        let _ = (file, limits, algorithms);
        Err(Reason::RootInvalid.about("not readable yet"))
    }

    /// Reads the root that this device itself accepted and keeps in its trust store: the same checks, except for the
    /// strength of its keys, which was checked when it was accepted and is checked again wherever a key is used.
    pub fn stored(file: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        Self::parse(file, limits, &Algorithms::new(&[]))
    }

    /// Requires the root's own threshold of its own root keys (profile section 13, step 5): what a factory root must
    /// pass before it is stored.
    pub fn verify_self(&self, algorithms: &Algorithms) -> Result<(), Refused> {
        let _ = algorithms;
        Err(Reason::RootNewThreshold.refused())
    }

    /// The bytes of the root file.
    pub fn file(&self) -> &'a [u8] {
        self.file
    }

    /// The keys that may sign, each with its role; revoked ones left out.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        core::iter::empty()
    }

    /// Whether the counted entries reach every threshold that an image needs: 941 without image role, 907 else.
    pub(crate) fn image_signed_by(&self, counted: Entries) -> Result<(), Reason> {
        let _ = counted;
        Err(Reason::RootNoImageRole)
    }
}

/// A key of a trust root that may sign for its role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Its place among the root's keys.
    pub index: u8,
    /// Its id.
    pub id: &'a KeyId,
    /// The one role it belongs to.
    pub role: Role,
    /// The key; `None` for a certificate authority, under which leaf keys sign.
    pub key: Option<PublicKey<'a>>,
}

/// A set of entries of one trust root, by their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entries(u32);

impl Entries {
    /// The set with this place added.
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

    /// Whether keys of this role sign images.
    pub const fn signs_images(self) -> bool {
        matches!(self, Self::Image | Self::ImageSecond)
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
