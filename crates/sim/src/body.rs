//! The engine in a simulated body: a device that boots and runs an application on [`Nor`], and the observer who holds it
//! to the laws at every step.
//!
//! The observer does not ask the engine what it did: which image starts is judged by comparing the bytes in the primary
//! slot with the images that the authority made.

use crate::cuts::World;
use crate::device::Shape;
use crate::fixture::{Authority, Identity, Image, Key, sha256};
use crate::nor::Nor;
use codec::Reason;
use codec::limits::Limits;
use codec::plan::ComponentId;
use codec::record::{Lifecycle, MailKind, Upload};
use engine::boot::{self, Board, Buffers, Outcome, Reset, Start};
use engine::device::{Config, Device};
use engine::flash::Flash;
use engine::install::{Receiving, Resumed, Step};
use engine::journal::{Progress, State};
use engine::layout::{Area, Layout, SlotId, Slots};
use engine::store::{Found, Store};
use trust::root::TrustRoot;

/// Bytes of the longest root file.
const ROOT_BYTES: usize = 1536;
/// Bytes of the longest revocation list or time file.
const LIST_BYTES: usize = 512;
/// Bytes of the buffer for both.
const TRUST_BYTES: usize = ROOT_BYTES + LIST_BYTES;
/// Bytes of a chunk in the releases of these tests.
pub const CHUNK_BYTES: usize = 1024;
/// Bytes of the buffer that heads and chunks arrive in.
const CHUNK_BYTES_MAX: usize = 2048;
/// Bytes of the buffer for image bytes.
const SCRATCH_BYTES: usize = 256;

/// The error of a step during which the power failed.
pub const POWER_FAILED: &str = "the power failed";

/// An image that the authority made, by its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// What tests call it.
    pub name: &'static str,
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Its security counter.
    pub counter: u32,
}

impl Made {
    /// Its hash TLV.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[signed_part(&self.bytes)])
    }
}

/// Everything about a device that does not change.
#[derive(Clone)]
pub struct Body {
    /// Geometry.
    pub shape: Shape,
    /// What stands where.
    pub layout: Layout,
    /// Who may sign.
    pub authority: Authority,
    /// Limits of the board.
    pub limits: Limits,
    /// Images that may start on this device.
    pub images: Vec<Made>,
}

/// What the observer has seen. Only what cannot be undone is noted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// The largest stored counter seen.
    pub counter: u32,
    /// The largest version of a stored trust root seen.
    pub root_version: u64,
    /// The image that was confirmed last: nothing else may start but on trial.
    pub confirmed: Option<&'static str>,
    /// The image whose confirmation has begun: from now on it may count as confirmed.
    pub confirming: Option<&'static str>,
    /// The highest sequence number that the journal called committed.
    pub committed: Option<u64>,
    /// Every start: image, on trial.
    pub starts: Vec<(&'static str, bool)>,
    /// The steps of the scenario that were completed.
    pub done: Vec<&'static str>,
}

/// A device and its observer.
pub type Sim = World<Ledger>;

/// What a boot ended in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boot {
    /// This image runs, perhaps on trial.
    Runs(&'static str, bool),
    /// Recovery answers.
    Recovery(Reason),
}

impl Body {
    /// A device of this shape under this authority; images are added by the test.
    pub fn new(shape: Shape, authority: Authority) -> Body {
        let (_, layout) = shape.blank();
        let limits = Limits {
            head_max: 2048,
            manifest_max: 1024,
            root_max: ROOT_BYTES as u32,
            list_max: LIST_BYTES as u32,
            ..Limits::MCU
        };
        Body {
            shape,
            layout,
            authority,
            limits,
            images: Vec::new(),
        }
    }

    /// Makes and remembers an image of `len` bytes in all.
    pub fn make(&mut self, name: &'static str, len: usize, counter: u32) -> Made {
        let signer = self.authority.image.clone();
        self.make_signed(name, len, counter, &[&signer])
    }

    /// The same, signed with these keys.
    pub fn make_signed(&mut self, name: &'static str, len: usize, counter: u32, signers: &[&Key]) -> Made {
        let signers: Vec<Key> = signers.iter().map(|key| (*key).clone()).collect();
        let image = |number, payload_len| Image::new(number, payload_len, &Identity::DEMO, counter, &signers).build();
        // The length of an ECDSA signature in DER varies: another payload is tried until the sum is right.
        let number = 1 + self.images.len() as u64;
        let empty = image(number, 0).len();
        let bytes = (0..64)
            .map(|attempt| image(number + attempt * 1000, len - empty))
            .find(|bytes| bytes.len() == len)
            .expect("most signatures have one of three lengths");
        let made = Made { name, bytes, counter };
        self.images.push(made.clone());
        made
    }

    /// The longest image that this device can swap.
    pub fn image_len_max(&self) -> usize {
        let (nor, layout) = self.shape.blank();
        Slots::new(&layout, &nor)
            .expect("a shape that the engine accepts")
            .image_len_max() as usize
    }

    /// A device from the factory: root stored, this image in the primary slot.
    pub fn factory(&self, image: &Made) -> Sim {
        let mut nor = self.provisioned();
        nor.program(self.layout.primary.start, &image.bytes);
        World::new(
            nor,
            Ledger {
                confirmed: Some(image.name),
                ..Ledger::default()
            },
        )
    }

    /// A device with a root and no image.
    pub fn provisioned(&self) -> Nor {
        let (mut nor, layout) = self.shape.blank();
        let root = self.authority.trust_root.build();
        let root = TrustRoot::stored(&root, &self.limits).expect("a root file");
        Store::provision(&mut nor, &layout, &root).expect("an erased store takes a root");
        nor
    }

    /// What bootloader and application are compiled for.
    pub fn board(&self) -> Board<'_> {
        Board {
            layout: &self.layout,
            vendor: &Identity::DEMO.vendor,
            class: &Identity::DEMO.class,
            algorithms: self.authority.scheme.algorithms(),
            limits: &self.limits,
            flash_base: 0x0800_0000,
        }
    }

    /// Where new images are staged.
    pub fn staging_address(&self) -> u32 {
        self.layout.secondary.start + self.shape.sector
    }

    /// The bytes of an area.
    pub fn area<'n>(&self, nor: &'n Nor, area: Area) -> &'n [u8] {
        &nor.cells()[area.start as usize..area.end() as usize]
    }

    /// The image of which all bytes stand at this address.
    pub fn image_at(&self, nor: &Nor, address: u32) -> Option<&Made> {
        let there = &nor.cells()[address as usize..];
        self.images.iter().find(|image| there.starts_with(&image.bytes))
    }

    /// Writes an image to the staging place as an engine would: erased sectors, then whole units.
    pub fn stage(&self, nor: &mut Nor, bytes: &[u8]) {
        let Area { start, len } = self.layout.secondary;
        let mut at = start;
        while at < start + len {
            let sector = nor.sector(at).expect("inside the flash");
            nor.erase(sector).expect("powered");
            at = sector.end();
        }
        let mut padded = bytes.to_vec();
        padded.resize(
            bytes.len().next_multiple_of(self.shape.write_size as usize),
            self.shape.erased,
        );
        if !padded.is_empty() {
            nor.write(self.staging_address(), &padded).expect("powered");
        }
    }

    /// One reset: the bootloader runs. Checks what the laws say of starts, of counters and of what it may write.
    pub fn boot(&self, sim: &mut Sim, reset: Reset) -> Result<Boot, String> {
        let boot = self.boot_unstored(sim, reset)?;
        self.judge_counter(sim)?;
        Ok(boot)
    }

    /// The same on a device whose trust store may be gone.
    pub fn boot_unstored(&self, sim: &mut Sim, reset: Reset) -> Result<Boot, String> {
        let (mut root, mut scratch) = ([0; TRUST_BYTES], [0; SCRATCH_BYTES]);
        let mut before = sim.nor.clone();
        let buffers = Buffers {
            root: &mut root,
            scratch: &mut scratch,
        };
        engine::lifecycle::run(&mut sim.nor, &self.board(), buffers.root);
        engine::rotate::run(&mut sim.nor, &self.board(), buffers, &mut [0; ROOT_BYTES]);
        let buffers = Buffers {
            root: &mut root,
            scratch: &mut scratch,
        };
        let outcome = boot::run(&mut sim.nor, &self.board(), reset, buffers);
        let wipes = self.judge_life(&mut before, &mut sim.nor, matches!(outcome, Outcome::Start(_)))?;
        self.judge_bootloader(&before, &sim.nor, wipes)?;
        // Whatever the bootloader made of it, nothing runs without power.
        ensure(sim.nor.is_powered(), || POWER_FAILED.into())?;
        match outcome {
            Outcome::Recovery(reason) => Ok(Boot::Recovery(reason)),
            Outcome::Start(start) => self.judge_start(sim, &start),
        }
    }

    /// One reset after which this image must run, on trial or not.
    pub fn boot_to(&self, sim: &mut Sim, reset: Reset, image: &'static str, trial: bool) -> Result<(), String> {
        let boot = self.boot(sim, reset)?;
        ensure(boot == Boot::Runs(image, trial), || {
            format!("{boot:?} instead of {image}, trial {trial}")
        })
    }

    /// One reset that must change nothing.
    pub fn boot_steady(&self, sim: &mut Sim, image: &'static str) -> Result<(), String> {
        let before = sim.nor.operations();
        self.boot_to(sim, Reset::Power, image, false)?;
        let after = sim.nor.operations();
        ensure(after == before, || {
            format!("a boot with nothing to do wrote {} times", after - before)
        })
    }

    /// The application confirms itself after its self-test.
    pub fn confirm(&self, sim: &mut Sim, image: &'static str) -> Result<(), String> {
        sim.note(|ledger| ledger.confirming = Some(image));
        self.app(sim, |device| {
            device.self_test_passed();
            device.confirm()
        })?;
        sim.note(|ledger| ledger.confirmed = Some(image));
        Ok(())
    }

    /// Runs the application on the device, and checks what the laws say of what it may write and what its journal says.
    pub fn app<R>(
        &self,
        sim: &mut Sim,
        run: impl FnOnce(&mut Device<'_, &mut Nor>) -> Result<R, codec::Refused>,
    ) -> Result<R, String> {
        let mut root = [0; TRUST_BYTES];
        let component: &[&[u8]] = &[b"app"];
        let config = Config {
            board: self.board(),
            component: ComponentId::new(component).expect("one short part"),
            device: None,
        };
        let before = sim.nor.clone();
        let mut device = Device::open(&mut sim.nor, config, &mut root).map_err(|refused| refused.to_string())?;
        Receiving::recheck(&mut device, &mut [0; CHUNK_BYTES_MAX]).map_err(|refused| refused.to_string())?;
        let opened = *device.state();
        let result = run(&mut device).map_err(|refused| refused.to_string());
        let state = *device.state();
        self.judge_application(&before, &sim.nor)?;
        self.judge_journal(sim, &before, &opened)?;
        let after = sim.nor.clone();
        self.judge_journal(sim, &after, &state)?;
        result
    }

    /// Pushes a whole release, in pieces, as a transport that sends again what is wanted again.
    pub fn install(&self, sim: &mut Sim, file: &[u8], piece: usize) -> Result<Step, String> {
        let upload = Upload {
            sha: sha256(&[file]),
            len: file.len() as u32,
        };
        let mut buffer = [0; CHUNK_BYTES_MAX];
        let mut receipt = Ok(Step::More { offset: 0 });
        self.app(sim, |device| {
            let mut receiving = match Receiving::resume(device, &mut buffer) {
                Resumed::Going(going) if *going.upload() == upload => going,
                Resumed::Going(other) => Receiving::new(other.into_buffer(), upload),
                Resumed::Nothing(buffer) => Receiving::new(buffer, upload),
            };
            receipt = push_from(&mut receiving, file, piece, device);
            Ok(())
        })?;
        receipt.map_err(|refused| refused.to_string())
    }

    /// Law: the application writes the staging slot, its own records and the confirm flag, nothing else.
    fn judge_application(&self, before: &Nor, after: &Nor) -> Result<(), String> {
        let Layout {
            trust,
            boot_log,
            sealed,
            sealed_counter,
            device_key,
            entropy,
            boot_update,
            primary,
            ..
        } = self.layout;
        let trailer = Slots::new(&self.layout, after).map_err(|reason| reason.name().to_owned())?;
        let trailer = trailer.trailer(SlotId::Primary).start();
        let image = Area {
            start: primary.start,
            len: trailer,
        };
        let theirs = [trust[0], trust[1], boot_log[0], boot_log[1], sealed[0], sealed[1]];
        let others = [sealed_counter, device_key, entropy, boot_update, image];
        self.judge_untouched("the application", before, after, theirs.iter().chain(&others))
    }

    /// Law: the bootloader writes the slots, the trust store and its log, nothing else; where a step of the device's
    /// life was decided that erases, it erases; and it empties the part of the mailbox with the request that it
    /// answered.
    fn judge_bootloader(&self, before: &Nor, after: &Nor, wipes: bool) -> Result<(), String> {
        let Layout {
            journal,
            head,
            table,
            sealed,
            sealed_counter,
            device_key,
            ..
        } = self.layout;
        let parts = [MailKind::Root, MailKind::Revoke, MailKind::Time].map(|kind| self.layout.mail(kind));
        let answered = self.layout.mail(MailKind::Lifecycle);
        let theirs = [
            parts[0],
            parts[1],
            parts[2],
            answered,
            journal[0],
            journal[1],
            head,
            table,
            sealed[0],
            sealed[1],
            sealed_counter,
            device_key,
        ];
        let erased = |area: &Area| self.area(after, *area).iter().all(|byte| *byte == self.shape.erased);
        // An erase that was cut leaves anything; what is left of it is judged when the power is back.
        let kept = theirs
            .iter()
            .filter(|area| !((wipes || **area == answered) && (erased(area) || !after.is_powered())));
        self.judge_untouched("the bootloader", before, after, kept)
    }

    /// Laws: nothing starts from the moment on at which a wipe is decided, at the end of a device's life, or without a
    /// root; and a life only moves forward. Gives whether a wipe was under way or was decided.
    fn judge_life(&self, before: &mut Nor, after: &mut Nor, starts: bool) -> Result<bool, String> {
        let (Some(was), Some(is)) = (self.store(before), self.store(after)) else {
            return Ok(false);
        };
        let (was, is) = (was.header(), is.header());
        ensure(is.lifecycle >= was.lifecycle, || {
            format!("a life went from {:?} back to {:?}", was.lifecycle, is.lifecycle)
        })?;
        let ended = is.lifecycle == Lifecycle::Decommissioned;
        ensure(!(starts && (is.wiping || ended || is.root_len == 0)), || {
            format!("an image starts on a device whose store says {is:?}")
        })?;
        let changes = (was.lifecycle, was.root_len) != (is.lifecycle, is.root_len);
        Ok(was.wiping || is.wiping || changes)
    }

    fn judge_untouched<'a>(
        &self,
        who: &str,
        before: &Nor,
        after: &Nor,
        mut areas: impl Iterator<Item = &'a Area>,
    ) -> Result<(), String> {
        let touched = areas.find(|area| self.area(before, **area) != self.area(after, **area));
        ensure(touched.is_none(), || format!("{who} wrote to {touched:x?}"))
    }

    /// Law L7: a record claims only what is so, and a committed release is never forgotten.
    fn judge_journal(&self, sim: &mut Sim, nor: &Nor, state: &State) -> Result<(), String> {
        let committed = state
            .committed
            .iter()
            .flatten()
            .map(|committed| committed.release.sequence)
            .max();
        let seen = sim.ledger().committed;
        ensure(committed >= seen, || {
            format!("committed was {seen:?} and is {committed:?}")
        })?;
        if committed > seen {
            sim.note(|ledger| ledger.committed = committed);
        }
        let staging = &nor.cells()[self.staging_address() as usize..];
        match state.pending.map(|pending| pending.progress) {
            Some(Progress::Staged {
                image,
                requested: false,
                ..
            }) => {
                let made = self.images.iter().find(|made| made.digest() == image);
                ensure(made.is_some_and(|made| staging.starts_with(&made.bytes)), || {
                    "the journal says staged, the slot does not".into()
                })
            }
            // The last chunk may be under way again: whoever resumes sends it once more.
            Some(Progress::Payload { chunks, .. }) if chunks > 1 => {
                let len = (chunks as usize - 1) * CHUNK_BYTES;
                let holds = |made: &Made| staging.starts_with(&made.bytes[..len.min(made.bytes.len())]);
                ensure(self.images.iter().any(holds), || {
                    format!("the journal says {chunks} chunks, the slot does not")
                })
            }
            _ => Ok(()),
        }
    }

    /// Laws: only what the authority made starts, byte for byte, not below the counter; and without trial only what was
    /// confirmed.
    fn judge_start(&self, sim: &mut Sim, start: &Start) -> Result<Boot, String> {
        let Some(image) = self.image_at(&sim.nor, self.layout.primary.start) else {
            return Err("an image starts that nobody made".into());
        };
        let name = image.name;
        let digest = image.digest();
        ensure(*start.image.digest() == digest, || {
            format!("{name} starts under another digest")
        })?;
        let counter = sim.ledger().counter;
        ensure(image.counter >= counter, || {
            format!("{name} starts, counter {} below {counter}", image.counter)
        })?;
        let Ledger {
            confirmed, confirming, ..
        } = *sim.ledger();
        if !start.trial {
            ensure([confirmed, confirming].contains(&Some(name)), || {
                format!("{name} starts for good, confirmed was {confirmed:?}")
            })?;
        }
        // One chance: a second one only where there is nothing to go back to.
        let had_its_trial = start.trial && sim.ledger().starts.last() == Some(&(name, true));
        ensure(!had_its_trial || self.fallback(&sim.nor).is_none(), || {
            format!("{name} has a second trial")
        })?;
        sim.note(|ledger| {
            ledger.starts.push((name, start.trial));
            if !start.trial {
                // Whatever was in doubt is settled by what runs now.
                (ledger.confirmed, ledger.confirming) = (Some(name), None);
            }
        });
        Ok(Boot::Runs(name, start.trial))
    }

    /// Law: counters never fall, and rise only for an image that is confirmed.
    fn judge_counter(&self, sim: &mut Sim) -> Result<(), String> {
        let Some(counter) = self.counter(&mut sim.nor) else {
            return Err("the trust store is gone".into());
        };
        let seen = sim.ledger().counter;
        ensure(counter >= seen, || {
            format!("the stored counter fell from {seen} to {counter}")
        })?;
        // Only confirmation raises it, to that image's own.
        let Ledger {
            confirmed, confirming, ..
        } = *sim.ledger();
        let is_confirmed = |made: &&Made| [confirmed, confirming].contains(&Some(made.name));
        let confirmed_counter = self.images.iter().filter(is_confirmed).map(|made| made.counter).max();
        ensure(counter == seen || Some(counter) <= confirmed_counter, || {
            format!("the stored counter rose from {seen} to {counter}, confirmed is {confirmed:?}")
        })?;
        if counter > seen {
            sim.note(|ledger| ledger.counter = counter);
        }
        self.judge_root(sim)
    }

    /// Law: no trust root comes back; of a device that holds one, whatever stands in its flash.
    fn judge_root(&self, sim: &mut Sim) -> Result<(), String> {
        if self
            .store(&mut sim.nor)
            .is_some_and(|store| store.header().root_len == 0)
        {
            // It left development: the roots of production count anew.
            sim.note(|ledger| ledger.root_version = 0);
        }
        let Some(version) = self.root_version(&mut sim.nor) else {
            return Ok(());
        };
        let seen = sim.ledger().root_version;
        ensure(version >= seen, || {
            format!("the trust root fell from version {seen} to {version}")
        })?;
        if version > seen {
            sim.note(|ledger| ledger.root_version = version);
        }
        Ok(())
    }

    /// The trust store as it stands; `None` when it is not readable.
    pub fn store(&self, nor: &mut Nor) -> Option<Store> {
        match Store::open(nor, &self.layout) {
            Ok(Found::Store(store)) => Some(store),
            _ => None,
        }
    }

    /// The version of the stored root; `None` when there is none.
    pub fn root_version(&self, nor: &mut Nor) -> Option<u64> {
        let mut buffer = [0; TRUST_BYTES];
        let store = self.store(nor)?;
        let root = store.read_trust(nor, &self.layout, &self.limits, &mut buffer);
        root.ok().map(|root| root.version())
    }

    /// The stored counter; `None` when the store is not readable.
    pub fn counter(&self, nor: &mut Nor) -> Option<u32> {
        self.store(nor).map(|store| store.counter(0))
    }

    /// The slot that holds the fallback during a trial.
    pub fn fallback(&self, nor: &Nor) -> Option<&Made> {
        self.image_at(nor, self.layout.secondary.start)
    }

    /// The areas of a slot id, for messages and diffs.
    pub fn slot(&self, slot: SlotId) -> Area {
        match slot {
            SlotId::Primary => self.layout.primary,
            SlotId::Secondary => self.layout.secondary,
        }
    }
}

/// Header, payload and protected TLVs of an image.
fn signed_part(image: &[u8]) -> &[u8] {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let payload = u32::from_le_bytes([image[12], image[13], image[14], image[15]]) as usize;
    &image[..u16_at(8) + payload + u16_at(10)]
}

/// Sends the file from where it is wanted until it is taken or refused.
fn push_from(
    receiving: &mut Receiving<'_>,
    file: &[u8],
    piece: usize,
    device: &mut Device<'_, &mut Nor>,
) -> Result<Step, codec::Refused> {
    let mut at = receiving.offset() as usize;
    loop {
        let end = file.len().min(at + piece);
        match receiving.push(&file[at..end], device)? {
            Step::More { offset } if end < file.len() || (offset as usize) < end => at = offset as usize,
            step => return Ok(step),
        }
    }
}

/// The claim, or what is wrong.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
