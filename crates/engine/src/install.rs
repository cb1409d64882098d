//! Receiving a release: verified before the first erase, written chunk by chunk, resumed after a reset.
//!
//! ```text
//! Head --verified, admitted, stored--> Members --payload whole, judged--> Staged
//! ```
//!
//! One buffer serves all: it holds the head until the head is stored, and then one chunk at a time. What was written
//! before a reset is not trusted: the stored head is verified again, the chunk table is hashed again, and the image as a
//! whole must have the signed digest before anything is staged.

use crate::device::{Device, release_id};
use crate::flash::{Flash, WRITE_SIZE_MAX};
use crate::journal::{Pending, Progress};
use crate::layout::{Area, SlotId};
use crate::slot::{self, SlotReader};
use codec::mcuboot::ReadAt;
use codec::mcuboot::header::IMAGE_MAGIC;
use codec::plan::{ChunkHashes, DigestAlgorithm, Format, Plan, Step as PlanStep, Target};
use codec::record::{JournalRecord, ReleaseId, Upload};
use codec::suit::{self, Event, Head, HeadLen, Members};
use codec::{Reason, Refused};
use trust::admit::{Admitted, Standing};
use trust::digest::{SHA256_BYTES, Sha256};

/// Targets that a plan may have on this device.
pub const TARGETS_MAX: usize = 2;
/// How often a chunk may arrive damaged before the installation stops.
pub const CHUNK_TRIES_MAX: u8 = 3;
/// Characters of a payload name with its `#`.
const NAME_BYTES_MAX: usize = 32;
/// Bytes of a table entry.
const HASH_BYTES: u32 = SHA256_BYTES as u32;

/// What a push came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// More is wanted, from this offset of the file on. It is behind what was pushed when a chunk was damaged.
    More {
        /// The offset.
        offset: u32,
    },
    /// The whole file arrived and its image stands in the staging slot.
    Staged,
    /// This very release is installed already; nothing was written.
    AlreadyInstalled,
}

/// An installation under way.
pub struct Receiving<'m> {
    buffer: &'m mut [u8],
    /// Bytes of the buffer in use.
    fill: usize,
    /// Offset in the file of the next byte wanted.
    offset: u32,
    upload: Upload,
    phase: Phase,
}

enum Phase {
    /// Collecting the head.
    Head,
    /// Behind the head.
    Body(Body),
    /// A raw image, in development only.
    Raw,
    /// Nothing more to do: the image is staged, or was installed before.
    Done(Step),
    /// A refusal ended it.
    Refused(Refused),
}

/// What is left to do, without any borrow of the head.
struct Body {
    members: Members,
    work: Work,
    inside: Inside,
    /// Whether the chunk hashes are in the table area.
    has_table: bool,
    /// Whether the image was received, verified and judged.
    has_image: bool,
    /// Chunks that the staging slot already holds.
    written: u32,
    tries: u8,
}

/// The one image that the plan wants, as values.
struct Work {
    release: ReleaseId,
    ordinal: u8,
    name: [u8; NAME_BYTES_MAX],
    name_len: u8,
    size: u32,
    digest: [u8; SHA256_BYTES],
    counter: u32,
    chunk_size: u32,
    /// Digest over the chunk hashes when they travel behind the head.
    table: Option<[u8; SHA256_BYTES]>,
}

/// The member whose bytes are arriving.
enum Inside {
    /// One that this device passes over: text, key packages.
    Other,
    /// The chunk hashes.
    Table { at: u32, hash: Sha256 },
    /// The payload; `at` counts its bytes.
    Payload { start: u32, at: u32 },
}

impl Work {
    fn chunks(&self) -> u32 {
        self.size.div_ceil(self.chunk_size.max(1))
    }

    fn table_bytes(&self) -> u32 {
        self.chunks().saturating_mul(HASH_BYTES)
    }

    fn chunk_len(&self, chunk: u32) -> u32 {
        self.size.saturating_sub(chunk.saturating_mul(self.chunk_size)).min(self.chunk_size)
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.get(..usize::from(self.name_len)) == Some(name.as_bytes())
    }

    /// Takes from an admitted plan what this device must do; refuses what it cannot.
    fn of(plan: &Plan<'_>, digest: &[u8; 32], chunk_bytes_max: usize) -> Result<Work, Refused> {
        let [target] = plan.targets else { return Err(Reason::NotSupported.about("several targets")) };
        let variant = match (target.step, target.variants.as_slice()) {
            (PlanStep::Fetch, [variant]) => variant,
            (PlanStep::Fetch, _) => return Err(Reason::SlotNone.about("the slots of this device swap")),
            (PlanStep::CopyFromStage(_), _) => return Err(Reason::NotSupported.about("staged download")),
            (PlanStep::ApplyDelta { .. }, _) => return Err(Reason::NotSupported.about("delta")),
        };
        let (Some(source), Some(counter)) = (variant.source, variant.content.counter) else {
            return Err(Reason::NotSupported.about("payload format"));
        };
        if variant.content.format != Format::McubootImage {
            return Err(Reason::NotSupported.about("payload format"));
        }
        if source.encryption.is_some() {
            return Err(Reason::EncAlg.about("this device has no decryption"));
        }
        if source.compression.is_some() || source.transport.is_some() {
            return Err(Reason::Decompress.about("this device has no decompression"));
        }
        let name = source.integrated().ok_or(Reason::UriScheme.about("only payloads inside the envelope"))?;
        let table = source.table.ok_or(Reason::ChunkTable)?;
        if table.chunk_size as usize > chunk_bytes_max {
            return Err(Reason::Limit.about("CHUNK_MAX"));
        }
        if variant.digest.algorithm != DigestAlgorithm::Sha256 {
            return Err(Reason::AuthDigestAlg.refused());
        }
        let mut work = Work {
            release: release_id(plan, digest),
            ordinal: source.ordinal,
            name: [0; NAME_BYTES_MAX],
            name_len: name.len() as u8,
            size: u32::try_from(variant.size).map_err(|_| Reason::Limit.about("IMAGE_SIZE_MAX"))?,
            digest: *variant.digest.hash.first_chunk().ok_or(Reason::AuthDigestAlg)?,
            counter,
            chunk_size: table.chunk_size,
            table: match table.hashes {
                ChunkHashes::Inline(_) => None,
                ChunkHashes::Detached(digest) => Some(*digest),
            },
        };
        work.name.get_mut(..name.len()).ok_or(Reason::UriScheme)?.copy_from_slice(name.as_bytes());
        Ok(work)
    }
}

impl<'m> Receiving<'m> {
    /// A new installation. `buffer` holds the longest head and the longest chunk that the board allows; `upload` is what
    /// the transport knows of the file (its length 0 when it knows nothing).
    pub fn new(buffer: &'m mut [u8], upload: Upload) -> Self {
        Receiving { buffer, fill: 0, offset: 0, upload, phase: Phase::Head }
    }

    /// Goes on with the installation that a reset interrupted, or gives the buffer back when there is none that can.
    ///
    /// The stored head is verified and admitted again; what no longer passes is given up.
    pub fn resume<F: Flash>(
        device: &mut Device<'_, F>,
        buffer: &'m mut [u8],
    ) -> Result<Result<Self, &'m mut [u8]>, Refused> {
        let Some(pending) = device.state().pending else { return Ok(Err(buffer)) };
        let (Progress::HeadStored | Progress::Payload { .. }) = pending.progress else { return Ok(Err(buffer)) };
        let mut receiving = Receiving::new(buffer, pending.upload);
        match receiving.read_back(device, &pending) {
            Ok(()) => Ok(Ok(receiving)),
            Err(refused) => {
                device.append(JournalRecord::Dropped { reason: refused.reason.number() })?;
                Ok(Err(receiving.into_buffer()))
            }
        }
    }

    /// The offset in the file of the next byte wanted.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// What the transport said of the file.
    pub fn upload(&self) -> &Upload {
        &self.upload
    }

    /// Gives the buffer back; what is written stays and may be resumed.
    pub fn into_buffer(self) -> &'m mut [u8] {
        self.buffer
    }

    /// Takes the next bytes of the file, any number of them, from any transport.
    ///
    /// Refusals before the first erase change nothing; later ones change only the staging slot and the journal. A
    /// refusal is final: it is repeated for every further push.
    pub fn push<F: Flash>(&mut self, bytes: &[u8], device: &mut Device<'_, F>) -> Result<Step, Refused> {
        match self.consume(bytes, device) {
            Ok(step) => Ok(step),
            Err(refused) => {
                self.fail(refused, device);
                Err(refused)
            }
        }
    }

    fn consume<F: Flash>(&mut self, mut bytes: &[u8], device: &mut Device<'_, F>) -> Result<Step, Refused> {
        loop {
            match &mut self.phase {
                Phase::Refused(refused) => return Err(*refused),
                Phase::Done(step) => {
                    self.offset = self.offset.saturating_add(bytes.len() as u32);
                    return Ok(*step);
                }
                Phase::Raw => return self.raw(bytes, device),
                Phase::Head => match self.head(&mut bytes, device)? {
                    true => {}
                    false => return Ok(Step::More { offset: self.offset }),
                },
                Phase::Body(_) => {
                    let wanted = self.body(bytes, device)?;
                    return Ok(match self.phase {
                        Phase::Done(step) => step,
                        _ => Step::More { offset: wanted },
                    });
                }
            }
        }
    }

    /// A refusal ends the installation; a permanent one also gives the pending release up.
    fn fail<F: Flash>(&mut self, refused: Refused, device: &mut Device<'_, F>) {
        if let Phase::Body(body) = &self.phase {
            let pending = device.state().pending.map(|pending| pending.release);
            if !refused.reason.is_retriable() && pending == Some(body.work.release) {
                // When even that cannot be written, the next resume finds the same reason.
                let _ = device.append(JournalRecord::Dropped { reason: refused.reason.number() });
            }
        }
        self.phase = Phase::Refused(refused);
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Head

    /// Collects the head. True when another phase has begun.
    fn head<F: Flash>(&mut self, bytes: &mut &[u8], device: &mut Device<'_, F>) -> Result<bool, Refused> {
        while let Some((byte, rest)) = bytes.split_first() {
            *self.buffer.get_mut(self.fill).ok_or(Reason::Limit.about("HEAD_MAX"))? = *byte;
            self.fill += 1;
            *bytes = rest;
            let prefix = self.buffer.get(..self.fill).unwrap_or(&[]);
            if prefix == IMAGE_MAGIC.to_le_bytes() {
                self.begin_raw(device)?;
                return Ok(true);
            }
            if IMAGE_MAGIC.to_le_bytes().starts_with(prefix) {
                continue;
            }
            if let HeadLen::Complete(len) = suit::head_len(prefix, device.config.board.limits)? {
                if len == self.fill {
                    self.begin(device)?;
                    return Ok(true);
                }
            }
        }
        self.offset = self.fill as u32;
        Ok(false)
    }

    /// The step from bytes to work: verified, admitted, and only then stored.
    fn begin<F: Flash>(&mut self, device: &mut Device<'_, F>) -> Result<(), Refused> {
        let head_bytes = self.buffer.get(..self.fill).unwrap_or(&[]);
        let (limits, algorithms) = (device.config.board.limits, device.config.board.algorithms);
        let head = Head::parse(head_bytes, limits)?;
        let mut room = [Target::EMPTY; TARGETS_MAX];
        let authentic = device.root.verify(&head, &algorithms, limits, &mut room)?;
        let admitted = authentic.admit(&device.view()?)?;
        let work = Work::of(admitted.plan(), admitted.digest(), self.buffer.len())?;
        device.fits(&work, self.fill as u32)?;
        let members = Members::new(&head)?;
        self.offset = self.fill as u32;
        if admitted.standing() == Standing::Installed && device.runs(&work)? {
            self.phase = Phase::Done(Step::AlreadyInstalled);
            return Ok(());
        }
        let written = device.store_head(&admitted, &work, head_bytes, self.upload)?;
        let has_table = device.store_inline_table(&admitted)?;
        self.phase = Phase::Body(Body {
            members,
            work,
            inside: Inside::Other,
            has_table,
            has_image: false,
            written,
            tries: 0,
        });
        self.fill = 0;
        Ok(())
    }

    /// The same from the head area.
    fn read_back<F: Flash>(&mut self, device: &mut Device<'_, F>, pending: &Pending) -> Result<(), Refused> {
        let head_bytes = self.buffer.get_mut(..pending.head_len as usize).ok_or(Reason::Limit.about("HEAD_MAX"))?;
        device.flash.read(device.config.board.layout.head.start, head_bytes).map_err(Reason::from)?;
        let (limits, algorithms) = (device.config.board.limits, device.config.board.algorithms);
        let head = Head::parse(head_bytes, limits)?;
        let mut room = [Target::EMPTY; TARGETS_MAX];
        let admitted = device.root.verify(&head, &algorithms, limits, &mut room)?.admit(&device.view()?)?;
        let work = Work::of(admitted.plan(), admitted.digest(), self.buffer.len())?;
        if work.release != pending.release {
            return Err(Reason::StateCorrupt.refused());
        }
        device.staging_is_free()?;
        self.offset = pending.head_len;
        let mut body = Body {
            members: Members::new(&head)?,
            inside: Inside::Other,
            has_table: false,
            has_image: false,
            written: 0,
            tries: 0,
            work,
        };
        match pending.progress {
            Progress::Payload { ordinal, offset, chunks } if ordinal == body.work.ordinal => {
                device.verify_table(&body.work)?;
                let whole = device.resume_chunk(&body.work, chunks);
                let at = whole.saturating_mul(body.work.chunk_size);
                body.has_table = true;
                body.written = whole;
                body.members = Members::resume(&head, name_of(&body.work), body.work.size.into(), at.into())?;
                body.inside = Inside::Payload { start: offset, at };
                self.offset = offset.saturating_add(at);
            }
            _ => body.has_table = device.store_inline_table(&admitted)?,
        }
        self.phase = Phase::Body(body);
        self.fill = 0;
        Ok(())
    }
}

impl Receiving<'_> {
    // -----------------------------------------------------------------------------------------------------------------
    // Members

    /// Feeds the bytes behind the head. Returns the offset wanted next.
    fn body<F: Flash>(&mut self, mut bytes: &[u8], device: &mut Device<'_, F>) -> Result<u32, Refused> {
        while let Phase::Body(body) = &mut self.phase {
            let (used, event) = body.members.next(bytes)?;
            let (piece, rest) = bytes.split_at_checked(used).unwrap_or((bytes, &[]));
            bytes = rest;
            self.offset = self.offset.saturating_add(used as u32);
            match event {
                Event::NeedMore => break,
                Event::Text { .. } | Event::KeyPackages { .. } => body.inside = Inside::Other,
                Event::ChunkTable { ordinal, len } => body.begin_table(ordinal, len)?,
                Event::Payload { name, len } => {
                    body.begin_payload(name.as_str(), len, self.offset, device)?;
                }
                Event::Bytes => {
                    if let Some(offset) = body.take(piece, self.buffer, &mut self.fill, device)? {
                        self.offset = offset;
                        break;
                    }
                }
                Event::MemberEnd => body.end_member(self.buffer, &mut self.fill, device)?,
                Event::End => {
                    if !body.has_image {
                        return Err(Reason::PayloadMissing.refused());
                    }
                    self.phase = Phase::Done(Step::Staged);
                }
            }
        }
        match (&self.phase, bytes.is_empty()) {
            (Phase::Done(_), false) => Err(Reason::CborTrailing.refused()),
            _ => Ok(self.offset),
        }
    }
}
