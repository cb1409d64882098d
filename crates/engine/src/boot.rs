//! What the bootloader does between reset and hand-over.
//!
//! It knows the image format, the trust store and the trailers, and nothing of manifests. Every image is verified
//! before it moves and before it starts, by the image role of the stored root and the security counter.

use crate::bootlog;
use crate::flash::Flash;
use crate::layout::{Layout, SlotId, Slots};
use crate::slot::SlotReader;
use crate::store::Store;
use crate::swap::{self, Request, Swap, Trailers};
use codec::Reason;
use codec::limits::Limits;
use codec::mcuboot::trailer::{Magic, SwapType};
use codec::plan::Uuid;
use codec::record::{BootEvent, BootEventKind};
use trust::alg::Algorithms;
use trust::image::{Bootable, ImageRule};
use trust::root::TrustRoot;

/// What a boot may do at most before it starts something: resume, revert, upgrade, start, and one spare.
const ROUNDS_MAX: u32 = 6;

/// What the bootloader is compiled for.
#[derive(Clone, Copy)]
pub struct Board<'b> {
    /// The flash layout.
    pub layout: &'b Layout,
    /// The vendor id that every image must name.
    pub vendor: &'b Uuid,
    /// The class id that every image must name.
    pub class: &'b Uuid,
    /// The signature algorithms that this device implements.
    pub algorithms: Algorithms<'b>,
    /// The board's limits.
    pub limits: &'b Limits,
    /// Where the first byte of the flash is mapped, for images that were linked for a fixed address.
    pub flash_base: u32,
}

impl Board<'_> {
    /// The boot chain's one rule for an image, wherever it lies while it is judged: whether it may start from the
    /// primary slot. Bootloader, installation and recovery all ask here.
    pub(crate) fn judge<F: Flash>(
        &self,
        reader: &mut SlotReader<'_, F>,
        slots: &Slots,
        root: &TrustRoot<'_>,
        floor: u32,
        pinned: Option<[u8; 32]>,
        scratch: &mut [u8],
    ) -> Result<Bootable, Reason> {
        let rule = ImageRule {
            root,
            algorithms: &self.algorithms,
            vendor: self.vendor,
            class: self.class,
            floor,
            slot_limit: slots.image_len_max(),
            pinned,
        };
        let image = rule.judge(reader, scratch)?;
        let primary = self.flash_base.wrapping_add(slots.area(SlotId::Primary).start);
        match image.header().rom_address() {
            Some(address) if address != primary => Err(Reason::ImageAddress),
            _ => Ok(image),
        }
    }
}

/// The caller's memory.
pub struct Buffers<'m> {
    /// For root file and revocation list: as long as the longest of both together.
    pub root: &'m mut [u8],
    /// For image bytes on their way through the hash; at least 64 bytes.
    pub scratch: &'m mut [u8],
}

/// Why the processor was reset, as far as retained memory tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// Power came on, or nobody knows.
    Power,
    /// The software asked for it.
    Software,
    /// The watchdog bit, or the trial's deadline passed.
    Watchdog,
    /// The software crashed.
    Fault,
}

impl Reset {
    /// Why a trial that ended with this reset is taken back.
    const fn revert_reason(self) -> Reason {
        match self {
            Reset::Watchdog => Reason::RevertedWatchdog,
            Reset::Fault => Reason::RevertedFault,
            Reset::Power | Reset::Software => Reason::RevertedUnconfirmed,
        }
    }
}

/// What comes after the bootloader.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// This image starts.
    Start(Start),
    /// Nothing may start: wait for help, and say why.
    Recovery(Reason),
}

/// An image that may start.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The verified image.
    pub image: Bootable,
    /// Flash address of its vector table.
    pub entry: u32,
    /// Whether it runs on trial: the watchdog must be armed with the trial deadline.
    pub trial: bool,
}

/// Decides what runs now. Never fails: what goes wrong ends in recovery with its reason.
pub fn run<F: Flash>(flash: &mut F, board: &Board<'_>, reset: Reset, buffers: Buffers<'_>) -> Outcome {
    match decide(flash, board, reset, buffers) {
        Ok(start) => Outcome::Start(start),
        Err(reason) => {
            // Noted if it can be; the recovery answers in any case.
            let _ = bootlog::note(flash, board.layout, &event(BootEventKind::Recovery, Some(reason), None));
            Outcome::Recovery(reason)
        }
    }
}

fn decide<F: Flash>(flash: &mut F, board: &Board<'_>, reset: Reset, buffers: Buffers<'_>) -> Result<Start, Reason> {
    let mut boot = Boot::open(flash, board, reset, buffers)?;
    // Both copies whole again; a store that cannot be written still counts.
    boot.store = boot.store.heal(boot.flash, board.layout).unwrap_or(boot.store);
    for _ in 0..ROUNDS_MAX {
        if let Some(start) = boot.round()? {
            return Ok(start);
        }
    }
    Err(Reason::NoBootableImage)
}

/// The boot chain's verdict on the primary slot as it stands, for recovery.
pub fn judge_primary<F: Flash>(flash: &mut F, board: &Board<'_>, buffers: Buffers<'_>) -> Result<Bootable, Reason> {
    Boot::open(flash, board, Reset::Power, buffers)?.judge(SlotId::Primary, 0)
}

struct Boot<'b, F> {
    flash: &'b mut F,
    board: &'b Board<'b>,
    slots: Slots,
    store: Store,
    root: TrustRoot<'b>,
    scratch: &'b mut [u8],
    reset: Reset,
    /// Whether the trial image was swapped in by this very boot and has not run yet.
    fresh: bool,
}

impl<'b, F: Flash> Boot<'b, F> {
    fn open(flash: &'b mut F, board: &'b Board<'b>, reset: Reset, buffers: Buffers<'b>) -> Result<Self, Reason> {
        let slots = Slots::new(board.layout, flash)?;
        let store = Store::of_running(flash, board.layout)?;
        let root = store.read_trust(flash, board.layout, board.limits, buffers.root)?;
        Ok(Boot {
            flash,
            board,
            slots,
            store,
            root,
            scratch: buffers.scratch,
            reset,
            fresh: false,
        })
    }

    /// One step towards a start; `None` when the trailers must be looked at again.
    fn round(&mut self) -> Result<Option<Start>, Reason> {
        let trailers = Trailers::read(self.flash, &self.slots)?;
        match trailers.request() {
            Request::Resume(kind) => self.resume(kind),
            Request::Revert if !self.fresh => self.revert(&trailers),
            Request::Test => self.upgrade(SwapType::Test, &trailers),
            Request::Permanent => self.upgrade(SwapType::Permanent, &trailers),
            Request::Revert | Request::None => self.start(&trailers),
        }
    }

    /// Verifies the primary and, if it is confirmed, raises the counter to its own: before anything else is judged.
    fn judge_primary(&mut self, trailers: &Trailers) -> Result<Bootable, Reason> {
        let image = self.judge(SlotId::Primary, 0)?;
        if trailers.is_confirmed() {
            // A store that cannot be written keeps its old floor; the device still starts.
            let raised = self
                .store
                .raise_counter(self.flash, self.board.layout, 0, image.counter());
            self.store = raised.unwrap_or(self.store);
        }
        Ok(image)
    }

    /// The boot chain's one rule, for an image at this offset of a slot.
    fn judge(&mut self, slot: SlotId, offset: u32) -> Result<Bootable, Reason> {
        let (floor, pinned) = (self.store.counter(0), self.store.header().pinned);
        let mut reader = SlotReader::new(self.flash, &self.slots, slot, offset);
        self.board
            .judge(&mut reader, &self.slots, &self.root, floor, pinned, self.scratch)
    }

    fn start(&mut self, trailers: &Trailers) -> Result<Option<Start>, Reason> {
        match self.judge_primary(trailers) {
            Ok(image) => {
                let entry = self.slots.area(SlotId::Primary).start + u32::from(image.header().hdr_size);
                Ok(Some(Start {
                    image,
                    entry,
                    trial: trailers.is_trial(),
                }))
            }
            // The copy that was swapped in is damaged: it never ran, but its trial is over.
            Err(_) if trailers.is_trial() && self.fresh => self.revert(trailers),
            Err(_) => Err(Reason::NoBootableImage),
        }
    }

    /// Row "test" or "permanent": the staged image moves in only if it would be allowed to start.
    fn upgrade(&mut self, kind: SwapType, trailers: &Trailers) -> Result<Option<Start>, Reason> {
        let old = self.judge_primary(trailers).map_or(0, |image| image.total_len());
        match self.judge(SlotId::Secondary, self.slots.staging_offset()) {
            Ok(new) => {
                self.note(BootEventKind::Upgrade, None, Some(&new));
                Swap::upgrade(self.flash, &self.slots, kind, old.max(new.total_len()))?;
                self.fresh = kind == SwapType::Test;
            }
            Err(reason) => {
                self.note(BootEventKind::Refused, Some(reason), None);
                swap::erase_trailer(self.flash, &self.slots, SlotId::Secondary)?;
            }
        }
        Ok(None)
    }

    /// Row "resume". Before anything moved, the staged image is verified again.
    fn resume(&mut self, kind: SwapType) -> Result<Option<Start>, Reason> {
        if !Swap::resumable(self.flash, &self.slots)? {
            // No swap that this bootloader ever began. It must not stand before what the secondary asks for.
            swap::erase_trailer(self.flash, &self.slots, SlotId::Primary)?;
            return Ok(None);
        }
        let untouched = !Swap::has_moved(self.flash, &self.slots)?;
        if kind != SwapType::Revert
            && untouched
            && let Err(reason) = self.judge(SlotId::Secondary, self.slots.staging_offset())
        {
            self.note(BootEventKind::Refused, Some(reason), None);
            swap::erase_trailer(self.flash, &self.slots, SlotId::Primary)?;
            return Ok(None);
        }
        Swap::resume(self.flash, &self.slots, kind)?;
        self.fresh = kind == SwapType::Test;
        Ok(None)
    }

    /// Row "revert": the image had its trial. The old one moves back only if it would be allowed to start.
    fn revert(&mut self, trailers: &Trailers) -> Result<Option<Start>, Reason> {
        // Whoever writes the secondary's trailer can ask a confirmed image to go back: its counter counts before.
        let trial = match trailers.says_confirmed() {
            true => self.judge_primary(trailers),
            false => self.judge(SlotId::Primary, 0),
        };
        let old = self.judge(SlotId::Secondary, 0);
        let reason = if trial.is_ok() {
            self.reset.revert_reason()
        } else {
            Reason::RevertedInvalid
        };
        match old {
            Ok(old) => {
                self.note(BootEventKind::Revert, Some(reason), trial.as_ref().ok());
                // From the images, not from a trailer: one whose erase was cut may keep its magic and lose its size.
                let size = old.total_len().max(trial.map_or(0, |trial| trial.total_len()));
                Swap::revert(self.flash, &self.slots, size)?;
                Ok(None)
            }
            _ if trial.is_ok() => {
                self.note(BootEventKind::Stuck, Some(reason), trial.as_ref().ok());
                if trailers.secondary.magic == Magic::Good {
                    swap::erase_trailer(self.flash, &self.slots, SlotId::Secondary)?;
                }
                self.fresh = true;
                Ok(None)
            }
            _ => Err(Reason::NoBootableImage),
        }
    }

    /// Before the bootloader acts. What the log cannot take is not told; that is no reason not to start.
    fn note(&mut self, kind: BootEventKind, reason: Option<Reason>, image: Option<&Bootable>) {
        let _ = bootlog::note(self.flash, self.board.layout, &event(kind, reason, image));
    }
}

fn event(kind: BootEventKind, reason: Option<Reason>, image: Option<&Bootable>) -> BootEvent {
    let version = image.map(|image| image.header().version).unwrap_or_default();
    let digest = image
        .and_then(|image| image.digest().first_chunk().copied())
        .unwrap_or_default();
    BootEvent {
        kind,
        reason: reason.map_or(0, Reason::number),
        digest,
        version: (version.major, version.minor, version.revision, version.build),
    }
}
