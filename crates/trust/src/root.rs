//! The trust root: which keys may do what, and how many of them it takes (profile sections 12, 13 and 15).
//!
//! Counting is always the same: go through the signature blocks, ignore those of keys that have no say here, refuse the
//! whole file for a wrong signature of one that has, and collect the rest in a set of entries. A threshold is compared
//! with the size of that set, never with a number of signatures.

use crate::alg::Algorithms;
use crate::key::thumbprint;
use codec::cose::{Blocks, KeyId, PublicKey, SigStructure, Sign1};
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{Environment, FileKind, KeyMaterial, RevokeFile, Root, RootFile, TimeFile};
use codec::{Reason, Refused};

pub use codec::roots::{Role, RoleSet};

/// Entries that [`Signers`] holds at most: as many as a release has signature blocks.
pub const SIGNERS_MAX: usize = codec::limits::AUTH_BLOCKS_MAX;

/// Roles that may sign a delivery at all (profile section 12).
const DELIVERY_ROLES: [Role; 3] = [Role::Release, Role::Distribute, Role::ReleaseSecond];

/// A trust root whose content was checked, borrowed from the bytes of its file, with the revocation list that goes with
/// it, if any.
///
/// Having one says that it is well-formed, not that it is to be trusted: that is said by where it came from (the trust
/// store), by [`TrustRoot::verify_self`] for a factory root, or by [`TrustRoot::successor`].
#[derive(Clone, Copy, Debug)]
pub struct TrustRoot<'a> {
    bytes: &'a [u8],
    file: RootFile<'a>,
    list: Option<RevokeFile<'a>>,
}

impl<'a> TrustRoot<'a> {
    /// Reads a root file and checks its content (profile section 13). Who signed it is not asked here.
    ///
    /// Refused: what [`RootFile::decode`] refuses (101 to 105, 213 to 215, 801, 807, 808); 806 for a key id that is not
    /// its key's thumbprint; 801 for a key that its verifier in `algorithms` calls weak. Keys of algorithms that this
    /// device does not have pass, and are never counted.
    pub fn parse(bytes: &'a [u8], limits: &Limits, algorithms: &Algorithms) -> Result<Self, Refused> {
        let file = RootFile::decode(bytes, limits)?;
        check_keys(&file.root, algorithms)?;
        Ok(Self {
            bytes,
            file,
            list: None,
        })
    }

    /// The same for the root that this device itself accepted and keeps in its trust store: keys were found strong when
    /// it was accepted, and every use of one checks it again, so that a boot need not do the arithmetic for all of them.
    pub fn stored(bytes: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        Self::parse(bytes, limits, &Algorithms::new(&[]))
    }

    /// The same root under a revocation list that was [verified](TrustRoot::verify_list) for it or its predecessor.
    pub fn with_list(self, list: Revocations<'a>) -> Self {
        Self {
            list: Some(list.0),
            ..self
        }
    }

    /// Requires the root's own threshold of its own root keys (profile section 13, step 5): what a factory root must
    /// pass before it is stored. Refused: 805, 810.
    pub fn verify_self(&self, algorithms: &Algorithms) -> Result<(), Refused> {
        self.signed_by_root_of(self, algorithms, Reason::RootNewThreshold)
    }

    /// Reads the root that is to follow this one, by the rotation rules 1 to 6 of profile section 13. Storing it (rule 7)
    /// and repeating (rule 8) is the caller's.
    ///
    /// Refused: as [`TrustRoot::parse`]; 802 another product line or environment; 803 not the next version (an older one
    /// is to be skipped, see [`TrustRoot::version`]); 810, 804, 805 signatures; 809 a revocation or minimum taken back.
    pub fn successor<'c>(
        &self,
        candidate: &'c [u8],
        limits: &Limits,
        algorithms: &Algorithms,
    ) -> Result<TrustRoot<'c>, Refused> {
        // 1. Parse strictly; root-id and environment equal the stored root's.
        let file = RootFile::decode(candidate, limits)?;
        let candidate = TrustRoot {
            bytes: candidate,
            file,
            list: None,
        };
        ensure(
            candidate.id() == self.id() && candidate.environment() == self.environment(),
            Reason::RootId,
        )?;
        // 2. Version N+1 exactly.
        ensure(
            self.version().checked_add(1) == Some(candidate.version()),
            Reason::RootVersion,
        )?;
        // 3. Content checks.
        check_keys(&candidate.file.root, algorithms)?;
        // 4. and 5. Threshold of N and of N+1; a key that is in both counts in both.
        candidate.signed_by_root_of(self, algorithms, Reason::RootOldThreshold)?;
        candidate.verify_self(algorithms)?;
        // 6. Revocations and minima do not shrink.
        self.is_kept_by(&candidate)?;
        Ok(candidate)
    }

    /// The version, 1 or more.
    pub fn version(&self) -> u64 {
        self.file.root.version
    }

    /// The product line, fixed for its life.
    pub fn id(&self) -> &'a Uuid {
        self.file.root.id
    }

    /// The world it is for.
    pub fn environment(&self) -> Environment {
        self.file.root.environment
    }

    /// All that the root says, as decoded.
    pub fn content(&self) -> &Root<'a> {
        &self.file.root
    }

    /// The bytes of the root file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entries that may sign, each with its role; revoked ones are left out.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let root = self.file.root;
        let list = self.list;
        (0..=u8::MAX).zip(root.keys.iter()).filter_map(move |(index, entry)| {
            if is_revoked(&root, list.as_ref(), entry.id) {
                return None;
            }
            let role = root.roles.role_of(entry.id)?;
            let key = match entry.material {
                KeyMaterial::Raw(key) => Some(key),
                KeyMaterial::Authority(_) => None,
            };
            Some(Entry {
                index,
                id: entry.id,
                role,
                key,
            })
        })
    }

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

    /// The lowest sequence number for this class: the larger of the root's and the list's (profile section 15).
    pub fn min_sequence(&self, class: &Uuid) -> u64 {
        let listed = self.list.as_ref().map_or(0, |list| list.min_sequences.of_class(class));
        listed.max(self.file.root.min_sequences.of_class(class))
    }

    /// Whether the counted entries reach the threshold of every role that a delivery needs; 219.
    fn delivery_signed_by(&self, counted: Entries) -> Result<(), Refused> {
        let reached = self
            .file
            .root
            .delivery_roles
            .iter()
            .all(|role| self.reaches(role, counted));
        ensure(reached, Reason::AuthThreshold)
    }

    /// Whether the counted entries reach the threshold of every role that an image needs: 941 when the root has no image
    /// role, 907 otherwise.
    pub(crate) fn image_signed_by(&self, counted: Entries) -> Result<(), Reason> {
        if self.file.root.roles.get(Role::Image).is_none() {
            return Err(Reason::RootNoImageRole);
        }
        let reached = self
            .file
            .root
            .image_roles
            .iter()
            .all(|role| self.reaches(role, counted));
        if reached { Ok(()) } else { Err(Reason::ImageThreshold) }
    }

    /// Whether as many distinct entries of the role were counted as the root demands; never for a role it does not define.
    fn reaches(&self, role: Role, counted: Entries) -> bool {
        let number = self
            .entries()
            .filter(|entry| entry.role == role && counted.has(entry.index))
            .count();
        self.file
            .root
            .roles
            .get(role)
            .is_some_and(|def| number >= usize::from(def.threshold))
    }

    /// Requires this root's blocks to reach the threshold of the root role of `authority`.
    fn signed_by_root_of(&self, authority: &TrustRoot, algorithms: &Algorithms, few: Reason) -> Result<(), Refused> {
        let signed = Signed {
            kind: Some(FileKind::Root),
            content: self.file.content,
            blocks: self.file.blocks,
        };
        let counted = authority.count(&signed, &[Role::Root], algorithms, Reason::RootSignature)?;
        ensure(authority.reaches(Role::Root, counted), few)
    }

    /// The counting rule of profile section 12, for keys of these roles. `wrong` is the reason for a wrong signature.
    fn count(
        &self,
        signed: &Signed,
        roles: &[Role],
        algorithms: &Algorithms,
        wrong: Reason,
    ) -> Result<Entries, Refused> {
        let mut counted = Entries::default();
        // 1. Any malformed block, bad order or duplicate: the iterator refuses the file.
        for block in signed.blocks {
            let block = block?;
            // 2. No entry, revoked entry, other role: ignored. With x5chain only the chain names a signer; chains are not
            // supported on this device yet, so such a block is of nobody it knows.
            let entry = self.entries().find(|entry| entry.id == block.kid);
            let Some(entry) = entry.filter(|entry| block.chain.is_none() && roles.contains(&entry.role)) else {
                continue;
            };
            let Some(key) = entry.key else { continue };
            // 3. The block's algorithm must be the key's; one that this device does not have: ignored.
            ensure(block.algorithm == key.algorithm(), Reason::AuthAlgMismatch)?;
            let Some(verifier) = algorithms.for_key(&key) else {
                continue;
            };
            // 4. A wrong signature of a known key refuses the file.
            let message = signed.structure(&block);
            verifier
                .verify(&key, &message.parts(), block.signature)
                .map_err(|_| wrong)?;
            // 5. The entry joins the set of its role.
            counted = counted.with(Some(entry.index));
        }
        Ok(counted)
    }

    /// Rotation rule 6: every minimum and every revocation stays, except of keys that the candidate no longer lists.
    fn is_kept_by(&self, candidate: &TrustRoot) -> Result<(), Refused> {
        let (old, new) = (&self.file.root, &candidate.file.root);
        let minima = old
            .min_sequences
            .iter()
            .all(|(class, minimum)| new.min_sequences.of_class(class) >= minimum);
        let dropped = |id| old.keys.get(id).is_some() && new.keys.get(id).is_none();
        let revocations = old.revoked.iter().all(|id| new.revoked.contains(id) || dropped(id));
        ensure(minima && revocations, Reason::RootRegression)
    }
}

/// Lists and times that the root's keys sign between two roots (profile section 15).
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
        let roots = root.file.root.roles.get(Role::Root);
        let revokes_root = roots.is_some_and(|def| def.keys.iter().any(|id| list.revoked.contains(id)));
        ensure(!revokes_root, INVALID)?;
        if let Some(held) = &self.list {
            let same = held.number == list.number && held.content == list.content;
            ensure(same || list.number > held.number, INVALID)?;
            let minima = held
                .min_sequences
                .iter()
                .all(|(class, least)| list.min_sequences.of_class(class) >= least);
            ensure(
                minima && held.revoked.iter().all(|id| list.revoked.contains(id)),
                INVALID,
            )?;
        }
        Ok(Revocations(list))
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

/// A revocation list that the root's revocation role signed. Only [`TrustRoot::verify_list`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Revocations<'a>(RevokeFile<'a>);

impl Revocations<'_> {
    /// Its number, strictly growing.
    pub fn number(&self) -> u64 {
        self.0.number
    }
}

/// What blocks sign: the content, and for files of the root's family the name of their kind.
struct Signed<'a> {
    kind: Option<FileKind>,
    content: &'a [u8],
    blocks: Blocks<'a>,
}

impl<'a> Signed<'a> {
    fn structure(&self, block: &Sign1<'a>) -> SigStructure<'a> {
        SigStructure::new(
            block.protected,
            self.kind.map_or(&[], FileKind::external_aad),
            self.content,
        )
    }
}

/// Every raw key has the id that its content gives, and is strong.
///
/// The id of an authority entry is the thumbprint of the certificate's key. It is not recomputed here, because such an
/// entry is never counted on this device: blocks under a certificate are not supported yet.
fn check_keys(root: &Root, algorithms: &Algorithms) -> Result<(), Refused> {
    for entry in root.keys.iter() {
        let KeyMaterial::Raw(key) = entry.material else {
            continue;
        };
        ensure(thumbprint(&key) == *entry.id, Reason::RootKeyId)?;
        if let Some(verifier) = algorithms.for_key(&key) {
            verifier
                .check_key(&key)
                .map_err(|_| Reason::RootInvalid.about("weak key"))?;
        }
    }
    Ok(())
}

fn is_revoked(root: &Root, list: Option<&RevokeFile>, id: &KeyId) -> bool {
    root.revoked.contains(id) || list.is_some_and(|list| list.revoked.contains(id))
}

fn ensure(holds: bool, otherwise: Reason) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(otherwise.refused()) }
}

/// An entry of a trust root that may sign for its role.
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
