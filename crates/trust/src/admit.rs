//! From "the right people signed it" to "this device may install it" (profile sections 11 and 17).
//!
//! [`Authentic`] is made by [`TrustRoot::verify`](crate::root::TrustRoot::verify) alone, [`Admitted`] by
//! [`Authentic::admit`] alone: whoever holds one knows that the checks were made.

use crate::root::Signers;
use codec::Reason;
use codec::Refused;
use codec::plan::{ComponentId, Plan, Source, Step, Target, Uuid, Version};

/// A value that enough authorised keys signed.
///
/// ```compile_fail,E0451
/// # use ampoule_trust as trust;
/// // Nobody outside this crate can make one:
/// let forged = trust::Authentic { value: 7, digest: [0; 32], minimum: 0, signers: trust::Signers::default() };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Authentic<T> {
    value: T,
    digest: [u8; 32],
    minimum: u64,
    signers: Signers,
}

impl<T> Authentic<T> {
    /// Only for what has verified the signatures.
    pub(crate) fn seal(value: T, digest: [u8; 32], minimum: u64, signers: Signers) -> Self {
        Self {
            value,
            digest,
            minimum,
            signers,
        }
    }

    /// SHA-256 by which the manifest was signed: the release's name in records.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Who was counted, for the audit log.
    pub fn signers(&self) -> &Signers {
        &self.signers
    }

    /// The signed value.
    pub fn get(&self) -> &T {
        &self.value
    }
}

/// A value that this device may carry out now.
///
/// ```compile_fail,E0451
/// # use ampoule_trust as trust;
/// // Nobody outside this crate can make one:
/// fn skip_the_checks<T>(authentic: trust::Authentic<T>) -> trust::Admitted<T> {
///     trust::Admitted { authentic, standing: trust::Standing::New }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Admitted<T> {
    authentic: Authentic<T>,
    standing: Standing,
}

impl<T> Admitted<T> {
    /// What this release is to the device.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The admitted value.
    pub fn get(&self) -> &T {
        &self.authentic.value
    }

    /// SHA-256 by which the manifest was signed: the release's name in records.
    pub fn digest(&self) -> &[u8; 32] {
        &self.authentic.digest
    }

    /// Who was counted, for the audit log.
    pub fn signers(&self) -> &Signers {
        &self.authentic.signers
    }
}

impl<'a> Admitted<Plan<'a>> {
    /// The plan to carry out.
    pub fn plan(&self) -> &Plan<'a> {
        self.get()
    }
}

/// What an admitted release is to the device (profile section 11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Newer than what is installed; a pending one, if any, is replaced.
    New,
    /// The pending release again: its installation may be resumed.
    Resume,
    /// The installed release again: nothing is written if every target verifies, otherwise it is a repair.
    Installed,
}

/// What the device says about itself when a release asks for admission. All of it is read from the device's own state.
pub trait DeviceView {
    /// The component of this id, if the device has it.
    fn component(&self, id: &ComponentId<'_>) -> Option<ComponentView>;

    /// What was installed and what is pending in this sequence domain.
    fn domain(&self, id: &ComponentId<'_>) -> DomainView;

    /// The version of the update engine: major, minor, patch.
    fn engine_version(&self) -> [u32; 3];

    /// Whether an image is on trial.
    fn trial_running(&self) -> bool;

    /// Whether payloads without a signed chunk table are refused (profile section 9).
    fn require_chunk_table(&self) -> bool {
        true
    }
}

/// What a component of the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ComponentView {
    /// Its vendor id.
    pub vendor: Uuid,
    /// Its class id.
    pub class: Uuid,
    /// Its device id, when it has one.
    pub device: Option<Uuid>,
    /// The installed version, when one is recorded.
    pub version: Option<Version>,
    /// The rollback floor: the larger of the stored counter and that of the confirmed running image.
    pub counter_floor: u32,
}

/// What is known of a sequence domain: sequence number and manifest digest each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DomainView {
    /// The release that is installed and confirmed.
    pub committed: Option<(u64, [u8; 32])>,
    /// The release whose installation has begun.
    pub pending: Option<(u64, [u8; 32])>,
}

impl<'a> Authentic<Plan<'a>> {
    /// Whether this device may install the release now. Writes nothing; the first failure, in the order of profile
    /// section 17, is reported.
    pub fn admit(self, device: &dyn DeviceView) -> Result<Admitted<Plan<'a>>, Refused> {
        let targets = self.value.targets;
        for target in targets {
            identity(target, device)?;
        }
        for target in targets {
            engine_version(target, device.engine_version())?;
        }
        let standing = sequence(
            self.value.sequence,
            &self.digest,
            self.minimum,
            &device.domain(&self.value.domain),
        )?;
        for target in targets {
            counter(target, device)?;
        }
        if device.trial_running() {
            return Err(Reason::TrialRunning.refused());
        }
        if device.require_chunk_table() {
            targets.iter().try_for_each(chunk_table)?;
        }
        Ok(Admitted {
            authentic: self,
            standing,
        })
    }
}

fn identity(target: &Target, device: &dyn DeviceView) -> Result<(), Refused> {
    let component = component(target, device)?;
    ensure(*target.vendor == component.vendor, Reason::VendorMismatch)?;
    ensure(*target.class == component.class, Reason::ClassMismatch)?;
    ensure(
        target.device.is_none_or(|id| component.device == Some(*id)),
        Reason::DeviceMismatch,
    )?;
    // A component whose version is not recorded satisfies no version rule: the author meant a known one.
    let version_fits = target
        .version_rule
        .is_none_or(|rule| component.version.is_some_and(|installed| rule.admits(&installed)));
    ensure(version_fits, Reason::VersionMismatch)
}

fn component(target: &Target, device: &dyn DeviceView) -> Result<ComponentView, Refused> {
    device.component(&target.id).ok_or(Reason::ComponentUnknown.refused())
}

fn engine_version(target: &Target, engine: [u32; 3]) -> Result<(), Refused> {
    let new_enough = |needed: Option<[u32; 3]>| needed.is_none_or(|needed| engine >= needed);
    let all = target
        .variants
        .as_slice()
        .iter()
        .all(|variant| new_enough(variant.content.min_engine));
    ensure(all, Reason::EngineTooOld)
}

fn sequence(number: u64, digest: &[u8; 32], minimum: u64, domain: &DomainView) -> Result<Standing, Refused> {
    ensure(number >= minimum, Reason::SeqBelowMin)?;
    if let Some((committed, committed_digest)) = &domain.committed {
        ensure(number >= *committed, Reason::SeqRollback)?;
        if number == *committed {
            ensure(digest == committed_digest, Reason::SeqReused)?;
            return Ok(Standing::Installed);
        }
    }
    match &domain.pending {
        Some((_, pending_digest)) if pending_digest == digest => Ok(Standing::Resume),
        _ => Ok(Standing::New),
    }
}

fn counter(target: &Target, device: &dyn DeviceView) -> Result<(), Refused> {
    let floor = component(target, device)?.counter_floor;
    let counters = target
        .variants
        .as_slice()
        .iter()
        .filter_map(|variant| variant.content.counter);
    ensure(
        counters.min().is_none_or(|lowest| lowest >= floor),
        Reason::CounterRollback,
    )
}

fn chunk_table(target: &Target) -> Result<(), Refused> {
    let has_table = |source: &Source| source.table.is_some();
    let staged = match &target.step {
        Step::Fetch => true,
        Step::CopyFromStage(stage) => has_table(&stage.source),
        Step::ApplyDelta { patch, .. } => has_table(&patch.source),
    };
    let fetched = target
        .variants
        .as_slice()
        .iter()
        .filter_map(|variant| variant.source.as_ref())
        .all(has_table);
    ensure(staged && fetched, Reason::ChunkTable)
}

fn ensure(holds: bool, otherwise: Reason) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(otherwise.refused()) }
}
