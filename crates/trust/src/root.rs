//! The trust root: which keys may do what, and how many of them it takes (profile sections 12, 13 and 15).
//!
//! | part | answers |
//! |---|---|
//! | this file | what does the root say, and which root may follow it |
//! | [`count`] | did the keys that it names sign this, and enough of them |
//! | [`lists`] | revocation lists and time files |
//! | [`signers`] | who was counted |

pub mod count;
pub mod lists;
pub mod signers;

pub use codec::roots::{Role, RoleSet};
pub use lists::Revocations;
pub use signers::{Entries, Signer, Signers};

use crate::alg::Algorithms;
use crate::key::thumbprint;
use crate::scan::{self, Scan};
use codec::cose::{KeyId, PublicKey};
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{Environment, KeyMaterial, Root, RootFile};
use codec::{Reason, Refused};

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

    /// The revocation list that goes with it.
    pub fn list(&self) -> Option<Revocations<'a>> {
        self.list
    }

    /// Requires the root's own threshold of its own root keys (profile section 13, step 5): what a factory root must
    /// pass before it is stored. Refused: 805, 810.
    pub fn verify_self(&self, algorithms: &Algorithms) -> Result<(), Refused> {
        // It was decoded within the device's limits before.
        let file = RootFile::decode(self.bytes, &Limits::LINUX)?;
        self.signed(&file, algorithms, Reason::RootNewThreshold)
    }

    /// Reads the root that is to follow this one, by the rotation rules 1 to 6 of profile section 13. Storing it (rule 7)
    /// and repeating (rule 8) is the caller's. A revocation list goes on with the new root (section 15), whose own
    /// signatures are counted under it already.
    ///
    /// Refused: as [`TrustRoot::parse`]; 802 another product line or environment; 803 not the next version (an older one
    /// is to be skipped, see [`TrustRoot::version`]); 810, 804, 805 signatures; 809 a revocation or minimum taken back.
    pub fn successor<'c>(
        &self,
        candidate: &'c [u8],
        limits: &Limits,
        algorithms: &Algorithms,
    ) -> Result<TrustRoot<'c>, Refused>
    where
        'a: 'c,
    {
        // 1. Parse strictly; root-id and environment equal the stored root's.
        let file = RootFile::decode(candidate, limits)?;
        let candidate = TrustRoot {
            list: self.list,
            ..TrustRoot::stored(candidate, limits)?
        };
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

    /// The lowest sequence number for this class: the larger of the root's and the list's (profile section 15).
    pub fn min_sequence(&self, class: &Uuid) -> u64 {
        let listed = self.list.map_or(0, |list| min_sequence(list.content, class));
        listed.max(min_sequence(self.content, class))
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

/// The minimum that member 8 of a root or list gives this class: 0 when it names none, out of reach when unreadable.
fn min_sequence(content: Scan, class: &Uuid) -> u64 {
    let Some(mut minima) = content.member(8) else { return 0 };
    for _ in 0..minima.map().unwrap_or(0) {
        match (minima.bytes(), minima.uint()) {
            (Some(listed), Some(minimum)) if listed == class => return minimum,
            (Some(_), Some(_)) => {}
            _ => return u64::MAX,
        }
    }
    0
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
