//! The trust root: which keys may do what, and how many of them it takes (profile sections 12, 13 and 15).
//!
//! Counting is always the same: go through the signature blocks, ignore those of keys that have no say here, refuse the
//! whole file for a wrong signature of one that has, and collect the rest in a set of entries. A threshold is compared
//! with the size of that set, never with a number of signatures.

use crate::admit::Authentic;
use crate::alg::Algorithms;
use crate::digest::{SHA256_BYTES, Sha256};
use crate::key::thumbprint;
use crate::scan::{self, Scan};
use codec::cose::{Blocks, KeyId, PublicKey, SigStructure, Sign1};
use codec::limits::Limits;
use codec::plan::{DigestAlgorithm, Plan, Target, Uuid};
use codec::roots::{Environment, FileKind, KeyMaterial, RevokeFile, Root, RootFile, TimeFile};
use codec::suit::{Head, manifest};
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
    content: Scan<'a>,
    /// The values of members 4, 5 and 7, which every count asks for.
    keys: Scan<'a>,
    roles: Scan<'a>,
    revoked: Option<Scan<'a>>,
    list: Option<Revocations<'a>>,
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
        Self::stored(bytes, limits)
    }

    /// The root that this device itself accepted and keeps in its trust store, which only the bootloader writes. Its
    /// content was checked when it was accepted and is not checked again, so that a boot need not decode all of it; the
    /// strength of a key is checked again whenever it is used. Refused: 105 `ROOT_MAX`, 801 when it is no root file.
    pub fn stored(bytes: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        codec::limits::at_most(bytes.len() as u64, limits.root_max.into(), "ROOT_MAX")?;
        let content = Scan::file_content(bytes).ok_or(Reason::RootInvalid)?;
        let keys = content.member(4).ok_or(Reason::RootInvalid)?;
        let roles = content.member(5).ok_or(Reason::RootInvalid)?;
        Ok(Self {
            bytes,
            content,
            keys,
            roles,
            revoked: content.member(7),
            list: None,
        })
    }

    /// The same root under a revocation list that was [verified](TrustRoot::verify_list) for it or its predecessor.
    pub fn with_list(self, list: Revocations<'a>) -> Self {
        Self {
            list: Some(list),
            ..self
        }
    }

    /// Requires the root's own threshold of its own root keys (profile section 13, step 5): what a factory root must
    /// pass before it is stored. Refused: 805, 810.
    pub fn verify_self(&self, algorithms: &Algorithms) -> Result<(), Refused> {
        // It was decoded within the device's limits before.
        let file = RootFile::decode(self.bytes, &Limits::LINUX)?;
        self.signed(&file, algorithms, Reason::RootNewThreshold)
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
        let candidate = TrustRoot::stored(candidate, limits)?;
        let same = candidate.id() == self.id() && candidate.environment() == self.environment();
        ensure(same, Reason::RootId)?;
        // 2. Version N+1 exactly.
        ensure(
            self.version().checked_add(1) == Some(candidate.version()),
            Reason::RootVersion,
        )?;
        // 3. Content checks.
        check_keys(&file.root, algorithms)?;
        // 4. and 5. Threshold of N and of N+1; a key that is in both counts in both.
        self.signed(&file, algorithms, Reason::RootOldThreshold)?;
        candidate.signed(&file, algorithms, Reason::RootNewThreshold)?;
        // 6. Revocations and minima do not shrink.
        let kept = RootFile::decode(self.bytes, limits).map(|present| is_kept_by(&present.root, &file.root));
        ensure(kept == Ok(true), Reason::RootRegression)?;
        Ok(candidate)
    }

    /// The version, 1 or more.
    pub fn version(&self) -> u64 {
        self.content.member(1).and_then(|mut value| value.uint()).unwrap_or(0)
    }

    /// The product line, fixed for its life.
    pub fn id(&self) -> &'a Uuid {
        self.content
            .member(3)
            .and_then(|mut value| value.bytes_of())
            .unwrap_or(&[0; 16])
    }

    /// The world it is for.
    pub fn environment(&self) -> Environment {
        match self.content.member(11).and_then(|mut value| value.uint()) {
            Some(1) => Environment::Development,
            _ => Environment::Production,
        }
    }

    /// Seconds since 1970-01-01 UTC from which on it is no longer trusted, if it says so.
    pub fn expires(&self) -> Option<u64> {
        self.content.member(9).and_then(|mut value| value.uint())
    }

    /// The bytes of the root file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entries that may sign, each with its role; revoked ones are left out.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let root = *self;
        let mut keys = self.keys;
        let count = keys.map().unwrap_or(0);
        let next = move |index| Some((index, keys.bytes_of()?, key_entry(&mut keys)?));
        (0..u8::try_from(count).unwrap_or(u8::MAX))
            .map_while(next)
            .filter_map(move |(index, id, key)| {
                let role = root.role_of(id)?;
                (!root.is_revoked(id)).then_some(Entry { index, id, role, key })
            })
    }

    /// The one role that lists this key.
    fn role_of(&self, id: &KeyId) -> Option<Role> {
        let mut defs = self.roles;
        for _ in 0..defs.map()? {
            let number = defs.uint()?;
            defs.array()?;
            defs.uint()?;
            if defs.lists(id)? {
                return Role::from_number(number);
            }
            defs.skip()?;
        }
        None
    }

    /// The threshold of a role, if the root defines it.
    fn threshold(&self, role: Role) -> Option<u64> {
        let mut def = self.roles.member(role.number())?;
        def.array()?;
        def.uint()
    }

    /// Whether root or list revoke this id; also when that cannot be read.
    fn is_revoked(&self, id: &KeyId) -> bool {
        let listed = |ids: Option<Scan>| ids.is_some_and(|ids| ids.lists(id) != Some(false));
        listed(self.revoked) || listed(self.list.and_then(|list| list.content.member(7)))
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
        let listed = self.list.map_or(0, |list| min_sequence(list.content, class));
        listed.max(min_sequence(self.content, class))
    }

    /// Whether the counted entries reach the threshold of every role that an image needs: 941 when the root has no image
    /// role, 907 otherwise.
    pub(crate) fn image_signed_by(&self, counted: Entries) -> Result<(), Reason> {
        if self.threshold(Role::Image).is_none() {
            return Err(Reason::RootNoImageRole);
        }
        if self.reaches_all(10, Role::Image, counted) {
            Ok(())
        } else {
            Err(Reason::ImageThreshold)
        }
    }

    /// Whether every role that this member of the root demands is reached, and the one that it always demands.
    fn reaches_all(&self, member: u8, always: Role, counted: Entries) -> bool {
        let demanded = match self.content.member(member) {
            Some(roles) => roles.small_set(),
            None => Some(0),
        };
        let demands = |set: u8, role: Role| role == always || set & (1 << role.number()) != 0;
        demanded.is_some_and(|set| {
            Role::ALL
                .into_iter()
                .all(|role| !demands(set, role) || self.reaches(role, counted))
        })
    }

    /// Whether as many distinct entries of the role were counted as the root demands; never for a role it does not define.
    fn reaches(&self, role: Role, counted: Entries) -> bool {
        let number = self
            .entries()
            .filter(|entry| entry.role == role && counted.has(entry.index))
            .count();
        self.threshold(role)
            .is_some_and(|threshold| threshold > 0 && number as u64 >= threshold)
    }

    /// Requires the blocks of this root file to reach the threshold of this root's root role.
    fn signed(&self, file: &RootFile, algorithms: &Algorithms, few: Reason) -> Result<(), Refused> {
        let signed = Signed {
            kind: Some(FileKind::Root),
            content: file.content,
            blocks: file.blocks,
        };
        let counted = self.count(&signed, &[Role::Root], algorithms, Reason::RootSignature)?;
        ensure(self.reaches(Role::Root, counted), few)
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
}

/// Releases (profile sections 4, 12 and 17).
impl TrustRoot<'_> {
    /// Verifies a release: its digest, then its signatures, and only then what its manifest says. `room` takes the
    /// targets of the plan.
    ///
    /// Refused, in this order: 211 SHA-512, which no policy of this crate allows yet; 212 the digest; 216, 217, 219 the
    /// counting rule; then the reasons of [`manifest::decode`]. A block under a certificate (x5chain) is ignored and not
    /// counted: this crate does not verify chains yet.
    pub fn verify<'w, 'a: 'w>(
        &self,
        head: &Head<'a>,
        algorithms: &Algorithms,
        limits: &Limits,
        room: &'w mut [Target<'a>],
    ) -> Result<Authentic<Plan<'w>>, Refused> {
        let digest = manifest_digest(head)?;
        let signed = Signed {
            kind: None,
            content: head.signed,
            blocks: head.blocks,
        };
        let counted = self.count(&signed, &DELIVERY_ROLES, algorithms, Reason::AuthSignature)?;
        ensure(self.reaches_all(6, Role::Release, counted), Reason::AuthThreshold)?;
        let plan = manifest::decode(head.manifest, limits, room)?;
        let minima = plan.targets.iter().map(|target| self.min_sequence(target.class));
        let minimum = minima.max().unwrap_or(0);
        Ok(Authentic::seal(plan, digest, minimum, self.signers(counted)))
    }
}

/// The digest that was signed, which must be that of the manifest's value with its byte string header.
fn manifest_digest(head: &Head) -> Result<[u8; SHA256_BYTES], Refused> {
    ensure(head.digest.algorithm == DigestAlgorithm::Sha256, Reason::AuthDigestAlg)?;
    let digest = Sha256::of(head.manifest_value);
    ensure(digest == head.digest.hash, Reason::AuthDigest)?;
    Ok(digest)
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
    content: Scan<'a>,
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

/// Rotation rule 6: every minimum and every revocation stays, except of keys that the new root no longer lists.
fn is_kept_by(old: &Root, new: &Root) -> bool {
    let minima = old
        .min_sequences
        .iter()
        .all(|(class, minimum)| new.min_sequences.of_class(class) >= minimum);
    let dropped = |id| old.keys.get(id).is_some() && new.keys.get(id).is_none();
    minima && old.revoked.iter().all(|id| new.revoked.contains(id) || dropped(id))
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

/// The minimum that member 8 of a root or list gives this class, 0 when it names none.
fn min_sequence(content: Scan, class: &Uuid) -> u64 {
    let Some(mut minima) = content.member(8) else {
        return 0;
    };
    let count = minima.map().unwrap_or(0);
    (0..count)
        .map_while(|_| Some((minima.bytes()?, minima.uint()?)))
        .find(|(listed, _)| *listed == class)
        .map_or(0, |found| found.1)
}

/// The key of an entry, `[1, bstr .cbor COSE_Key]` or `[2, bstr]`; the inner `None` for a certificate authority and for
/// algorithms that nobody implements here.
fn key_entry<'a>(entry: &mut Scan<'a>) -> Option<Option<PublicKey<'a>>> {
    entry.array()?;
    let kind = entry.uint()?;
    let content = entry.bytes()?;
    Some(if kind == 1 { scan::public_key(content) } else { None })
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
    /// The key; `None` for what this crate verifies nothing with: a certificate authority, another algorithm.
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
