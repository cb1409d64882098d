//! The counting rule (profile section 12): did the keys that the root names sign this, and enough of them?
//!
//! Counting is always the same: go through the signature blocks, ignore those of keys that have no say here, refuse the
//! whole file for a wrong signature of one that has, and collect the rest in a set of entries. A threshold is compared
//! with the size of that set, never with a number of signatures.

use super::{Entries, Role, TrustRoot, ensure};
use crate::admit::Authentic;
use crate::alg::Algorithms;
use crate::digest::{SHA256_BYTES, Sha256};
use codec::cose::{Blocks, SigStructure, Sign1};
use codec::limits::Limits;
use codec::plan::{DigestAlgorithm, Plan, Target};
use codec::roots::{FileKind, RootFile};
use codec::suit::{Head, manifest};
use codec::{Reason, Refused};

/// Roles that may sign a delivery at all (profile section 12).
const DELIVERY_ROLES: [Role; 3] = [Role::Release, Role::Distribute, Role::ReleaseSecond];

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

/// Counting, for every kind of signed thing.
impl TrustRoot<'_> {
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
    pub(super) fn reaches(&self, role: Role, counted: Entries) -> bool {
        let number = self
            .entries()
            .filter(|entry| entry.role == role && counted.has(entry.index))
            .count();
        self.threshold(role)
            .is_some_and(|threshold| threshold > 0 && number as u64 >= threshold)
    }

    /// Requires the blocks of this root file to reach the threshold of this root's root role.
    pub(super) fn signed(&self, file: &RootFile, algorithms: &Algorithms, few: Reason) -> Result<(), Refused> {
        let signed = Signed {
            kind: Some(FileKind::Root),
            content: file.content,
            blocks: file.blocks,
        };
        let counted = self.count(&signed, &[Role::Root], algorithms, Reason::RootSignature)?;
        ensure(self.reaches(Role::Root, counted), few)
    }

    /// The counting rule of profile section 12, for keys of these roles. `wrong` is the reason for a wrong signature.
    pub(super) fn count(
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

/// What blocks sign: the content, and for files of the root's family the name of their kind.
pub(super) struct Signed<'a> {
    pub(super) kind: Option<FileKind>,
    pub(super) content: &'a [u8],
    pub(super) blocks: Blocks<'a>,
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
