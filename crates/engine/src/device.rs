//! The application's side of the engine: what the device is, what it runs, and the steps a person or a server may ask
//! for. Installing is in [`crate::install`].

use crate::boot::Board;
use crate::bootlog;
use crate::flash::Flash;
use crate::journal::{Committed, Journal, Pending, Progress, State};
use crate::layout::{SlotId, Slots};
use crate::lifecycle;
use crate::mailbox::{self, Mail};
use crate::slot::{self, ImageInfo, SlotReader};
use crate::store::Store;
use crate::swap::{self, Request, Trailers};
use codec::mcuboot::trailer::SwapType;
use codec::plan::{ComponentId, Plan, Uuid, Version};
use codec::record::{
    BootEvent, BootEventKind, JournalRecord, LIFECYCLE_REQUEST_BYTES, Lifecycle, LifecycleRequest, MailKind, ReleaseId,
    TrustName,
};
use codec::roots::{Environment, FileKind, RevokeFile, RootFile, TimeFile};
use codec::{Reason, Refused};
use trust::admit::{ComponentView, DeviceView, DomainView};
use trust::digest::Sha256;
use trust::image::Bootable;
use trust::root::{Role, TrustRoot};

/// The version of this engine, against which releases may demand a minimum.
pub const ENGINE_VERSION: [u32; 3] = [0, 1, 0];

/// What an application is compiled for.
#[derive(Clone, Copy)]
pub struct Config<'d> {
    /// The board, as the bootloader knows it too.
    pub board: Board<'d>,
    /// The name of the component in the slots.
    pub component: ComponentId<'d>,
    /// The device id, once the device has one.
    pub device: Option<Uuid>,
}

/// A running device.
pub struct Device<'d, F> {
    pub(crate) flash: F,
    pub(crate) config: Config<'d>,
    pub(crate) slots: Slots,
    pub(crate) journal: Journal,
    pub(crate) root: TrustRoot<'d>,
    store: Store,
    /// The name of root and list in force.
    trust: TrustName,
    running: Option<ImageInfo>,
    self_tested: bool,
}

impl<'d, F: Flash> Device<'d, F> {
    /// Reads what the device is and settles what the last boot decided: a confirmed release is committed, one that went
    /// back is recorded with its reason, what the bootloader took or refused leaves the mailbox. `root` holds root file and
    /// revocation list for as long as the device lives. What a change of root means for a release under way is settled by
    /// [`Receiving::recheck`](crate::install::Receiving::recheck).
    pub fn open(mut flash: F, config: Config<'d>, root: &'d mut [u8]) -> Result<Self, Refused> {
        let layout = config.board.layout;
        let slots = Slots::new(layout, &flash)?;
        let store = Store::of_running(&mut flash, layout)?;
        let root = store.read_trust(&mut flash, layout, config.board.limits, root)?;
        let list = root.list().map_or(&[][..], |list| list.bytes());
        let trust = Sha256::of_parts(&[root.bytes(), list]);
        let journal = Journal::open(&mut flash, layout)?;
        let mut reader = SlotReader::new(&mut flash, &slots, SlotId::Primary, 0);
        let running = slot::identify(&mut reader, slots.image_len_max()).ok();
        let mut device = Device {
            flash,
            config,
            slots,
            journal,
            root,
            store,
            trust: trust.first_chunk().copied().unwrap_or_default(),
            running,
            self_tested: false,
        };
        device.empty_mailbox()?;
        device.settle()?;
        Ok(device)
    }

    /// The flash, for what belongs to the application alone.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    /// The image that runs; `None` when the engine does not run from a slot (in tests).
    pub fn running(&self) -> Option<&ImageInfo> {
        self.running.as_ref()
    }

    /// What the journal says.
    pub fn state(&self) -> &State {
        self.journal.state()
    }

    /// The environment of the installed root.
    pub fn environment(&self) -> Environment {
        self.root.environment()
    }

    /// Where in its life the device is.
    pub fn lifecycle(&self) -> Lifecycle {
        self.store.header().lifecycle
    }

    /// The trust root in force.
    pub fn root(&self) -> &TrustRoot<'d> {
        &self.root
    }

    /// What the device is compiled for.
    pub fn config(&self) -> &Config<'d> {
        &self.config
    }

    /// The security counter in the trust store.
    pub fn stored_counter(&self) -> u32 {
        self.store.counter(0)
    }

    /// The rollback floor: the larger of the stored counter and that of the confirmed running image.
    pub fn counter_floor(&mut self) -> Result<u32, Reason> {
        let confirmed = self.trailers()?.is_confirmed();
        let running = self.running.and_then(|image| image.counter).filter(|_| confirmed);
        Ok(self.store.counter(0).max(running.unwrap_or(0)))
    }

    /// Whether the running image is on trial.
    pub fn is_trial(&mut self) -> Result<bool, Reason> {
        Ok(self.trailers()?.is_trial())
    }

    /// The slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What the bootloader noted last of an image.
    pub fn boot_event(&mut self) -> Result<Option<BootEvent>, Reason> {
        let of_image = |event: &BootEvent| !event.kind.is_of_mail();
        bootlog::last_that(&mut self.flash, self.config.board.layout, of_image)
    }

    /// Whether the running image is confirmed.
    pub fn is_confirmed(&mut self) -> Result<bool, Reason> {
        Ok(self.trailers()?.is_confirmed())
    }

    /// What the bootloader will do at the next reset.
    pub fn request(&mut self) -> Result<Request, Reason> {
        Ok(self.trailers()?.request())
    }

    /// The application says that it works: from now on it may be confirmed.
    pub fn self_test_passed(&mut self) {
        self.self_tested = true;
    }

    /// Confirms the running image. Refused before the self-test passed (1001); does nothing when it is confirmed.
    ///
    /// The flag is written first and is the truth; the release is committed after it, and repaired from it at the next
    /// start. The stored counter is the bootloader's business.
    pub fn confirm(&mut self) -> Result<(), Refused> {
        if !self.self_tested {
            return Err(Reason::NotSelfTested.refused());
        }
        // A trial; or an image that a programmer wrote with a padded trailer, which nobody has confirmed yet.
        if !self.is_confirmed()? {
            swap::write_confirm(&mut self.flash, &self.slots)?;
        }
        self.settle()
    }

    /// Asks the bootloader to try the staged image at the next reset ([`SwapType::Test`]), or, in development only, to
    /// take it without a trial ([`SwapType::Permanent`]).
    ///
    /// Refused when no image with this hash TLV is staged (1009, 1004), during a trial (613), while a root or list waits for
    /// the bootloader (812), when the boot chain would refuse it, when its release was approved under another root (1004),
    /// and in production when it did not come as a release (1004) or for permanence (1005).
    pub fn request_swap(&mut self, image: Option<&[u8]>, kind: SwapType) -> Result<(), Refused> {
        let production = self.environment() == Environment::Production;
        if kind == SwapType::Permanent && production {
            return Err(Reason::PermanentRefused.refused());
        }
        let trailers = self.trailers()?;
        if trailers.is_trial() {
            return Err(Reason::TrialRunning.refused());
        }
        if self.trust_waits()? {
            return Err(Reason::RootStaged.refused());
        }
        let staged = self.staged()?.ok_or(Reason::NothingStaged)?;
        if image.is_some_and(|image| *image != staged.digest) {
            return Err(Reason::HashUnknown.refused());
        }
        let released = match self.state().pending.map(|pending| pending.progress) {
            Some(Progress::Staged { image, requested, .. }) if image == staged.digest => Some(requested),
            _ => None,
        };
        // Approved under another root or list: nobody has said under this one that it may be installed.
        let stale = self.is_approved_before();
        if stale || (released.is_none() && production) {
            return Err(Reason::NothingStaged.refused());
        }
        if matches!(
            (trailers.request(), kind),
            (Request::Test, SwapType::Test) | (Request::Permanent, _)
        ) {
            return Ok(());
        }
        // Whoever asks, the boot chain's own rule decides; asking for what it would refuse helps nobody.
        self.judge_staged(&mut [0; 256])?;
        if released == Some(false) {
            self.append(JournalRecord::Requested)?;
        }
        Ok(swap::write_request(&mut self.flash, &self.slots, kind)?)
    }

    /// The image in the staging slot, if there is one.
    pub fn staged(&mut self) -> Result<Option<ImageInfo>, Reason> {
        // While an image is on trial, what stands there is the old image, at the slot's start.
        let offset = if self.trailers()?.is_trial() {
            0
        } else {
            self.slots.staging_offset()
        };
        let mut reader = SlotReader::new(&mut self.flash, &self.slots, SlotId::Secondary, offset);
        Ok(slot::identify(&mut reader, self.slots.image_len_max()).ok())
    }

    /// Empties the staging slot. Refused during a trial (613), while an image waits for the bootloader (1010).
    pub fn erase_staging(&mut self) -> Result<(), Refused> {
        self.staging_is_free()?;
        if self.state().pending.is_some() {
            self.append(JournalRecord::Dropped { reason: 0 })?;
        }
        Ok(self.slots.area(SlotId::Secondary).erase(&mut self.flash)?)
    }

    /// Whether the staging slot may be written at all: the fallback of a trial must stay, and so must what the
    /// bootloader was asked to take.
    pub(crate) fn staging_is_free(&mut self) -> Result<(), Refused> {
        let trailers = self.trailers()?;
        if trailers.is_trial() {
            return Err(Reason::TrialRunning.refused());
        }
        match trailers.request() {
            Request::None => Ok(()),
            _ => Err(Reason::SlotPending.refused()),
        }
    }

    /// Judges the staged image by the boot chain's own rule.
    pub(crate) fn judge_staged(&mut self, scratch: &mut [u8]) -> Result<Bootable, Reason> {
        let floor = self.counter_floor()?;
        let (offset, pinned) = (self.slots.staging_offset(), self.store.header().pinned);
        let mut reader = SlotReader::new(&mut self.flash, &self.slots, SlotId::Secondary, offset);
        let board = self.config.board;
        board.judge(&mut reader, &self.slots, &self.root, floor, pinned, scratch)
    }

    pub(crate) fn append(&mut self, record: JournalRecord) -> Result<(), Refused> {
        self.journal.append(&mut self.flash, self.config.board.layout, record)
    }

    pub(crate) fn trailers(&mut self) -> Result<Trailers, Reason> {
        Trailers::read(&mut self.flash, &self.slots)
    }

    /// Repairs the journal from what the trailers and the boot log say.
    fn settle(&mut self) -> Result<(), Refused> {
        let Some(pending) = self.state().pending else {
            return Ok(());
        };
        let Progress::Staged { image, requested, .. } = pending.progress else {
            return Ok(());
        };
        let trailers = self.trailers()?;
        if self.running.is_some_and(|running| running.digest == image) {
            return if trailers.is_confirmed() {
                self.commit(pending)
            } else {
                Ok(())
            };
        }
        if !requested || trailers.request() != Request::None {
            return Ok(());
        }
        // The bootloader was asked and the image does not run: its log says why. Without an entry for this image the
        // request never reached the trailer.
        let event = self.boot_event()?;
        let Some(event) = event.filter(|event| image.starts_with(&event.digest) || event.digest == [0; 8]) else {
            return Ok(());
        };
        match event.kind {
            BootEventKind::Revert => self.append(JournalRecord::Reverted { reason: event.reason }),
            BootEventKind::Refused => self.append(JournalRecord::Dropped { reason: event.reason }),
            _ => Ok(()),
        }
    }

    /// What the bootloader took or refused is done with; its boot log says what became of it. A lifecycle request it
    /// empties itself, because the same words asked again are another request.
    fn empty_mailbox(&mut self) -> Result<(), Reason> {
        let layout = self.config.board.layout;
        for kind in [MailKind::Root, MailKind::Revoke, MailKind::Time] {
            let Some(mail) = Mail::find(&mut self.flash, layout, kind)? else {
                continue;
            };
            let is_noted = |event: &BootEvent| event.kind.is_of_mail() && event.digest == mail.name();
            if bootlog::last_that(&mut self.flash, layout, is_noted)?.is_some() {
                mailbox::clear(&mut self.flash, layout, kind)?;
            }
        }
        Ok(())
    }

    /// Empties the parts of the mailbox that say nothing new, also where the bootloader's note of it was lost. What the
    /// device cannot read stays: it is the bootloader's to refuse.
    pub(crate) fn empty_old_mail(&mut self, buffer: &mut [u8]) -> Result<(), Reason> {
        let layout = self.config.board.layout;
        for (kind, file) in [
            (MailKind::Root, FileKind::Root),
            (MailKind::Revoke, FileKind::Revoke),
            (MailKind::Time, FileKind::Time),
        ] {
            let Some(mail) = Mail::find(&mut self.flash, layout, kind)? else {
                continue;
            };
            let content = mail.read(&mut self.flash, buffer)?;
            if content.is_some_and(|content| self.is_news(file, content) == Ok(false)) {
                mailbox::clear(&mut self.flash, layout, kind)?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, pending: Pending) -> Result<(), Refused> {
        let version = pending.version.or(self.running.map(|image| version_of(&image)));
        self.append(JournalRecord::Committed {
            release: pending.release,
            version,
        })
    }

    /// Whether a staged release was approved under another root or list than those in force.
    pub(crate) fn is_approved_before(&self) -> bool {
        match self.state().pending.map(|pending| pending.progress) {
            Some(Progress::Staged { trust, .. }) => trust != self.trust,
            _ => false,
        }
    }

    /// The name of root and list in force.
    pub(crate) fn trust_name(&self) -> TrustName {
        self.trust
    }

    /// The device as the release sees it.
    pub(crate) fn view(&mut self) -> Result<View<'_>, Reason> {
        let floor = self.counter_floor()?;
        let trial = self.is_trial()?;
        Ok(View {
            config: &self.config,
            state: self.journal.state(),
            version: self.running.map(|image| version_of(&image)),
            floor,
            trial,
        })
    }
}

/// Steps of the device's life.
impl<F: Flash> Device<'_, F> {
    /// Asks the bootloader for a step of the device's life, which it takes at the next reset and which is not to be
    /// undone: to a later state, or out of development. To ask is the application's own decision: by a person at the
    /// device, by an order that it authenticated. The present state again is no news, and nothing is written.
    ///
    /// Refused, changing nothing: 1020 back; 1024 out of development without a development root; 613 during a trial;
    /// 1010 while the bootloader is asked to swap; 1023 while another request waits; 105 when its part of the mailbox
    /// is too small.
    pub fn request_lifecycle(&mut self, request: LifecycleRequest) -> Result<(), Refused> {
        if lifecycle::next(self.store.header(), Some(self.environment()), request)?.is_none() {
            return Ok(());
        }
        let layout = self.config.board.layout;
        if self.lifecycle_waits()?.is_some_and(|waiting| waiting != request) {
            return Err(Reason::LifecycleStaged.refused());
        }
        self.staging_is_free()?;
        Ok(mailbox::put(
            &mut self.flash,
            layout,
            MailKind::Lifecycle,
            &request.to_bytes(),
        )?)
    }

    /// The same for whoever holds the wire: refused (1022) from deployment on. Before it, a device is at its station.
    pub fn request_lifecycle_on_wire(&mut self, request: LifecycleRequest) -> Result<(), Refused> {
        match self.lifecycle() < Lifecycle::Deployed {
            true => self.request_lifecycle(request),
            false => Err(Reason::LifecycleOnWire.refused()),
        }
    }

    /// The request that waits for the bootloader, if one does that can be read.
    pub fn lifecycle_waits(&mut self) -> Result<Option<LifecycleRequest>, Reason> {
        let Some(mail) = Mail::find(&mut self.flash, self.config.board.layout, MailKind::Lifecycle)? else {
            return Ok(None);
        };
        let mut content = [0; LIFECYCLE_REQUEST_BYTES];
        let content = mail.read(&mut self.flash, &mut content)?;
        Ok(content.and_then(|content| LifecycleRequest::parse(content).ok()))
    }
}

/// Root chains: what the authority says of itself (profile sections 13 and 15).
impl<F: Flash> Device<'_, F> {
    /// The number of the revocation list in force, if there is one.
    pub fn list_number(&self) -> Option<u64> {
        self.root.list().map(|list| list.number())
    }

    /// The largest signed time seen, in seconds since 1970-01-01 UTC; 0 when none was.
    pub fn time_floor(&self) -> u64 {
        self.store.header().time_floor
    }

    /// The digest of the image that runs although root and list no longer accept it, if there is one.
    pub fn pinned(&self) -> Option<[u8; 32]> {
        self.store.header().pinned
    }

    /// Whether a proposal of this kind waits for the bootloader.
    pub fn waits(&mut self, kind: MailKind) -> Result<bool, Reason> {
        mailbox::waits(&mut self.flash, self.config.board.layout, kind)
    }

    /// What the bootloader said last of a proposal, as long as its log remembers.
    pub fn mail_event(&mut self) -> Result<Option<BootEvent>, Reason> {
        bootlog::last_that(&mut self.flash, self.config.board.layout, |event| {
            event.kind.is_of_mail()
        })
    }

    /// Whether a root or list waits for the bootloader, before which nothing else is judged.
    pub(crate) fn trust_waits(&mut self) -> Result<bool, Reason> {
        Ok(self.waits(MailKind::Root)? || self.waits(MailKind::Revoke)?)
    }

    /// Takes a root, list or time file: verifies it and stages it for the bootloader. One that is older than what the
    /// device has is skipped, and one that waits already stays.
    ///
    /// Refused, changing nothing: what the rules of its kind refuse (801 to 811, 813, 941); 812 while another root or list
    /// waits; 613 during a trial; 1010 while the bootloader is asked to swap.
    pub fn propose(&mut self, kind: FileKind, file: &[u8]) -> Result<(), Refused> {
        if !self.is_news(kind, file)? {
            return Ok(());
        }
        let part = match kind {
            FileKind::Root => MailKind::Root,
            FileKind::Revoke => MailKind::Revoke,
            FileKind::Time => MailKind::Time,
        };
        let layout = self.config.board.layout;
        if self.trust_waits()? {
            return match mailbox::holds(&mut self.flash, layout, part, file)? {
                true => Ok(()),
                false => Err(Reason::RootStaged.refused()),
            };
        }
        self.verify_proposal(kind, file)?;
        self.staging_is_free()?;
        Ok(mailbox::put(&mut self.flash, layout, part, file)?)
    }

    /// Whether a well-formed file of this product line says more than the device knows.
    fn is_news(&self, kind: FileKind, file: &[u8]) -> Result<bool, Refused> {
        let limits = self.config.board.limits;
        let ours = |id: &Uuid, otherwise: Reason| match id == self.root.id() {
            true => Ok(()),
            false => Err(otherwise),
        };
        Ok(match kind {
            FileKind::Root => {
                let root = RootFile::decode(file, limits)?.root;
                ours(root.id, Reason::RootId)?;
                if root.environment != self.root.environment() {
                    return Err(Reason::RootId.refused());
                }
                root.version > self.root.version()
            }
            FileKind::Revoke => {
                let list = RevokeFile::decode(file, limits)?;
                ours(list.root_id, Reason::RevokeInvalid)?;
                let held = self.root.list();
                held.is_none_or(|held| list.number >= held.number() && held.bytes() != file)
            }
            FileKind::Time => {
                let time = TimeFile::decode(file, limits)?;
                ours(time.root_id, Reason::TimeInvalid)?;
                time.seconds > self.time_floor()
            }
        })
    }

    fn verify_proposal(&self, kind: FileKind, file: &[u8]) -> Result<(), Refused> {
        let (limits, algorithms) = (self.config.board.limits, self.config.board.algorithms);
        match kind {
            FileKind::Root => {
                let next = self.root.successor(file, limits, &algorithms)?;
                let boots = next.entries().any(|entry| entry.role == Role::Image);
                boots.then_some(()).ok_or(Reason::RootNoImageRole.refused())
            }
            FileKind::Revoke => self.root.verify_list(file, limits, &algorithms).map(|_| ()),
            FileKind::Time => self.root.verify_time(file, limits, &algorithms).map(|_| ()),
        }
    }
}

/// The facts that [`trust::admit`] asks for.
pub(crate) struct View<'v> {
    config: &'v Config<'v>,
    state: &'v State,
    version: Option<Version>,
    floor: u32,
    trial: bool,
}

impl DeviceView for View<'_> {
    fn component(&self, id: &ComponentId<'_>) -> Option<ComponentView> {
        (*id == self.config.component).then_some(ComponentView {
            vendor: *self.config.board.vendor,
            class: *self.config.board.class,
            device: self.config.device,
            version: self.version,
            counter_floor: self.floor,
        })
    }

    fn domain(&self, id: &ComponentId<'_>) -> DomainView {
        let domain = domain_key(id);
        let committed = self
            .state
            .committed_in(&domain)
            .map(|committed: &Committed| committed.release);
        let pending = self
            .state
            .pending
            .map(|pending| pending.release)
            .filter(|release| release.domain == domain);
        let pair = |release: ReleaseId| (release.sequence, release.digest);
        DomainView {
            committed: committed.map(pair),
            pending: pending.map(pair),
        }
    }

    fn engine_version(&self) -> [u32; 3] {
        ENGINE_VERSION
    }

    fn trial_running(&self) -> bool {
        self.trial
    }
}

/// The journal's name of a sequence domain: the first half of SHA-256 over its parts, each after its length.
pub(crate) fn domain_key(id: &ComponentId<'_>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in id.parts() {
        hash.update(&[part.len() as u8]);
        hash.update(part);
    }
    hash.finish().first_chunk().copied().unwrap_or_default()
}

/// The journal's name of a release.
pub(crate) fn release_id(plan: &Plan<'_>, digest: &[u8; 32]) -> ReleaseId {
    ReleaseId {
        domain: domain_key(&plan.domain),
        sequence: plan.sequence,
        digest: *digest,
    }
}

/// An image version as releases compare it.
fn version_of(image: &ImageInfo) -> Version {
    let version = image.version;
    let parts = [
        version.major.into(),
        version.minor.into(),
        version.revision.into(),
        version.build.into(),
    ];
    Version::new(&parts).unwrap_or_default()
}
