//! Receiving a release: verified before the first erase, written chunk by chunk, resumed after a reset.
//!
//! ```text
//! [roots, list, time]* Head --verified, admitted, stored--> Members --payload whole, judged--> Staged
//! ```
//!
//! A file may begin with a root chain, and may be nothing else (profile section 15): each root, list or time file that is
//! news is [staged for the bootloader](Device::propose), and whatever comes behind a root or list is answered 812: the
//! sender resets the device and sends the file again.
//!
//! One buffer serves all: it holds the head until the head is stored, and then one chunk at a time. What was written
//! before a reset is not trusted: the stored head is verified again, the chunk table is hashed again, and the image as a
//! whole must have the signed digest before anything is staged.

use crate::device::{Device, release_id};
use crate::flash::{Flash, WRITE_SIZE_MAX};
use crate::journal::{Pending, Progress};
use crate::layout::{Area, SlotId};
use crate::slot::{self, SlotReader};
use codec::cbor::Extent;
use codec::limits::Limits;
use codec::mcuboot::header::IMAGE_MAGIC;
use codec::plan::{ChunkHashes, DigestAlgorithm, Format, Plan, Step as PlanStep, Target};
use codec::record::{JournalRecord, ReleaseId, Upload};
use codec::roots::{self, Environment, FILE_FIRST_BYTE, FileKind};
use codec::suit::head::{self, Head};
use codec::suit::members::{Event, Members, Name};
use codec::{Reason, Refused};
use trust::admit::{Admitted, Standing};
use trust::digest::{SHA256_BYTES, Sha256};

/// Targets that a plan may have on this device.
pub const TARGETS_MAX: usize = 2;
/// How often a chunk may arrive damaged before the installation stops.
pub const CHUNK_TRIES_MAX: u8 = 3;
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
    /// The file held roots, lists or times alone: what was news waits for the bootloader.
    ChainTaken,
}

/// What [`Receiving::resume`] found.
#[expect(
    clippy::large_enum_variant,
    reason = "no allocation to put the larger variant behind"
)]
pub enum Resumed<'m> {
    /// An installation that goes on.
    Going(Receiving<'m>),
    /// None; the buffer is free.
    Nothing(&'m mut [u8]),
}

/// An installation under way.
pub struct Receiving<'m> {
    buffer: &'m mut [u8],
    /// Bytes of the buffer in use.
    fill: usize,
    /// Offset in the file of the next byte wanted.
    offset: u32,
    /// Offset in the file where the head starts, or the file of a root chain that is arriving.
    start: u32,
    /// The kind of the root chain's file before it.
    chain: Option<FileKind>,
    upload: Upload,
    phase: Phase,
}

#[expect(
    clippy::large_enum_variant,
    reason = "no allocation to put the larger variant behind"
)]
enum Phase {
    /// Collecting a file of the root chain, or the head.
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
    name: Name,
    /// Whether the manifest signed a text, without which none may come.
    has_text: bool,
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
        self.size
            .saturating_sub(chunk.saturating_mul(self.chunk_size))
            .min(self.chunk_size)
    }

    /// Takes from an admitted plan what this device must do; refuses what it cannot.
    fn of(plan: &Plan<'_>, digest: &[u8; 32], chunk_bytes_max: usize) -> Result<Work, Refused> {
        let [target] = plan.targets else {
            return Err(Reason::NotSupported.about("several targets"));
        };
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
        let name = source
            .integrated()
            .ok_or(Reason::UriScheme.about("only payloads inside the envelope"))?;
        let table = source.table.ok_or(Reason::ChunkTable)?;
        if table.chunk_size as usize > chunk_bytes_max {
            return Err(Reason::Limit.about("CHUNK_MAX"));
        }
        if variant.digest.algorithm != DigestAlgorithm::Sha256 {
            return Err(Reason::AuthDigestAlg.refused());
        }
        Ok(Work {
            release: release_id(plan, digest),
            ordinal: source.ordinal,
            name: Name::new(name).ok_or(Reason::UriScheme)?,
            has_text: plan.text_digest.is_some(),
            size: u32::try_from(variant.size).map_err(|_| Reason::Limit.about("IMAGE_SIZE_MAX"))?,
            digest: *variant.digest.hash.first_chunk().ok_or(Reason::AuthDigestAlg)?,
            counter,
            chunk_size: table.chunk_size,
            table: match table.hashes {
                ChunkHashes::Inline(_) => None,
                ChunkHashes::Detached(digest) => Some(*digest),
            },
        })
    }
}

impl<'m> Receiving<'m> {
    /// A new installation. `buffer` holds the longest head and the longest chunk that the board allows; `upload` is what
    /// the transport knows of the file (its length 0 when it knows nothing).
    pub fn new(buffer: &'m mut [u8], upload: Upload) -> Self {
        Receiving {
            buffer,
            fill: 0,
            offset: 0,
            start: 0,
            chain: None,
            upload,
            phase: Phase::Head,
        }
    }

    /// Goes on with the installation that a reset interrupted, or gives the buffer back when there is none that can.
    ///
    /// The stored head is verified and admitted again; what no longer passes is given up.
    pub fn resume<F: Flash>(device: &mut Device<'_, F>, buffer: &'m mut [u8]) -> Resumed<'m> {
        let Some(pending) = device.state().pending else {
            return Resumed::Nothing(buffer);
        };
        let (Progress::HeadStored | Progress::Payload { .. }) = pending.progress else {
            return Resumed::Nothing(buffer);
        };
        let mut receiving = Receiving::new(buffer, pending.upload);
        match receiving.read_back(device, &pending) {
            Ok(()) => Resumed::Going(receiving),
            Err(refused) => {
                if !refused.reason.is_retriable() {
                    // When even that cannot be written, the next resume finds the same reason.
                    let _ = device.append(JournalRecord::Dropped {
                        reason: refused.reason.number(),
                    });
                }
                Resumed::Nothing(receiving.into_buffer())
            }
        }
    }

    /// Settles at start what a new root or list means for a release that is staged already: it is verified again, from its
    /// stored head on, and given up when they no longer approve it; proposals that are in force by now are cleared away.
    /// `buffer` is that of an installation. An application calls this once, before anything may ask for a swap; without
    /// it such a release is not installed (1004).
    pub fn recheck<F: Flash>(device: &mut Device<'_, F>, buffer: &mut [u8]) -> Result<(), Refused> {
        device.empty_old_mail(buffer)?;
        let Some(pending) = device.state().pending.filter(|_| device.is_approved_before()) else {
            return Ok(());
        };
        let Progress::Staged { image, counter, .. } = pending.progress else {
            return Ok(());
        };
        // What was swapped in is judged by its trial.
        if device.trailers()?.request() != crate::swap::Request::None {
            return Ok(());
        }
        match device.approves(&pending, buffer) {
            Ok(()) => {
                let trust = device.trust_name();
                device.append(JournalRecord::Staged { image, counter, trust })
            }
            Err(refused) if refused.reason.is_retriable() => Err(refused),
            Err(refused) => device.append(JournalRecord::Dropped {
                reason: refused.reason.number(),
            }),
        }
    }

    /// Whether further bytes make sense: nothing was refused, and the file is not whole.
    pub fn can_go_on(&self) -> bool {
        !matches!(self.phase, Phase::Refused(_) | Phase::Done(_))
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

    /// Takes the next bytes of the file, any number of them, from any transport; none of them say that the file ends.
    ///
    /// Refusals before the first erase change nothing; later ones change only the staging slot and the journal. A
    /// refusal is final: it is repeated for every further push.
    pub fn push<F: Flash>(&mut self, bytes: &[u8], device: &mut Device<'_, F>) -> Result<Step, Refused> {
        let is_chain = matches!(self.phase, Phase::Head) && self.chain.is_some() && self.fill == 0;
        if bytes.is_empty() && is_chain {
            self.phase = Phase::Done(Step::ChainTaken);
        }
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
                Phase::Done(Step::Staged | Step::ChainTaken) if !bytes.is_empty() => {
                    return Err(Reason::CborTrailing.refused());
                }
                Phase::Done(step) => {
                    self.offset = self.offset.saturating_add(bytes.len() as u32);
                    return Ok(*step);
                }
                Phase::Raw => {
                    device.is_under_way(None)?;
                    return self.raw(bytes, device);
                }
                Phase::Head => match self.head(&mut bytes, device)? {
                    true => {}
                    false => return Ok(Step::More { offset: self.offset }),
                },
                Phase::Body(body) => {
                    device.is_under_way(Some(body.work.release))?;
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
        // Before the head is admitted, what is pending is another release, and not this one's to give up.
        let begun = matches!(self.phase, Phase::Body(_) | Phase::Done(Step::Staged));
        if begun && !refused.reason.is_retriable() && device.state().pending.is_some() {
            // When even that cannot be written, the next resume finds the same reason.
            let _ = device.append(JournalRecord::Dropped {
                reason: refused.reason.number(),
            });
        }
        self.phase = Phase::Refused(refused);
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Head

    /// Collects the head. True when another phase has begun.
    fn head<F: Flash>(&mut self, bytes: &mut &[u8], device: &mut Device<'_, F>) -> Result<bool, Refused> {
        const RAW: [u8; 4] = IMAGE_MAGIC.to_le_bytes();
        while !bytes.is_empty() {
            let prefix = self.buffer.get(..self.fill).unwrap_or(&[]);
            let wanted = match RAW.starts_with(prefix) && prefix.len() < RAW.len() {
                true => self.fill + 1,
                false => match expected(prefix, device.config.board.limits)? {
                    (_, Extent::Needs(len) | Extent::Complete(len)) => len,
                },
            };
            let take = wanted.saturating_sub(self.fill).min(bytes.len());
            let (piece, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
            let place = self.buffer.get_mut(self.fill..).and_then(|free| free.get_mut(..take));
            place.ok_or(Reason::Limit.about("HEAD_MAX"))?.copy_from_slice(piece);
            self.fill += take;
            self.offset = self.start.saturating_add(self.fill as u32);
            *bytes = rest;
            let prefix = self.buffer.get(..self.fill).unwrap_or(&[]);
            if prefix == RAW {
                self.begin_raw(device)?;
                return Ok(true);
            }
            if RAW.starts_with(prefix) {
                continue;
            }
            let (kind, extent) = expected(prefix, device.config.board.limits)?;
            let is_whole = extent == Extent::Complete(self.fill);
            match kind {
                Some(kind) if is_whole => {
                    self.chain_file(kind, device)?;
                    if self.offset == self.upload.len {
                        self.phase = Phase::Done(Step::ChainTaken);
                        return Ok(true);
                    }
                    continue;
                }
                None if is_whole => {
                    self.begin(device)?;
                    return Ok(true);
                }
                _ => {}
            }
            if take == 0 {
                return Err(Reason::CborMalformed.refused());
            }
        }
        Ok(false)
    }

    /// A whole file of the root chain: roots first, then one list, then one time.
    fn chain_file<F: Flash>(&mut self, kind: FileKind, device: &mut Device<'_, F>) -> Result<(), Refused> {
        let file = self.buffer.get(..self.fill).unwrap_or(&[]);
        let in_order = match self.chain {
            None | Some(FileKind::Root) => true,
            Some(FileKind::Revoke) => kind == FileKind::Time,
            Some(FileKind::Time) => false,
        };
        if !in_order {
            return Err(Reason::NotARelease.refused());
        }
        device.propose(kind, file)?;
        self.chain = Some(kind);
        self.start = self.offset;
        self.fill = 0;
        Ok(())
    }

    /// The step from bytes to work: verified, admitted, and only then stored.
    fn begin<F: Flash>(&mut self, device: &mut Device<'_, F>) -> Result<(), Refused> {
        if device.trust_waits()? {
            return Err(Reason::RootStaged.refused());
        }
        let head_bytes = self.buffer.get(..self.fill).unwrap_or(&[]);
        let (limits, algorithms) = (device.config.board.limits, device.config.board.algorithms);
        let head = Head::decode(head_bytes, limits)?;
        let mut room = [Target::EMPTY; TARGETS_MAX];
        let authentic = device.root.verify(&head, &algorithms, limits, &mut room)?;
        let admitted = authentic.admit(&device.view()?)?;
        let work = Work::of(admitted.plan(), admitted.digest(), self.buffer.len())?;
        device.fits(&work, self.fill as u32)?;
        let members = Members::new(head.entries, limits);
        if admitted.standing() == Standing::Installed && device.runs(&work)? {
            self.phase = Phase::Done(Step::AlreadyInstalled);
            return Ok(());
        }
        let written = device.store_head(&admitted, &work, head_bytes, self.start, self.upload)?;
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
        let room_bytes = self.buffer.len();
        let head_bytes = self
            .buffer
            .get_mut(..pending.head_len as usize)
            .ok_or(Reason::Limit.about("HEAD_MAX"))?;
        device
            .flash
            .read(device.config.board.layout.head.start, head_bytes)
            .map_err(Reason::from)?;
        let (limits, algorithms) = (device.config.board.limits, device.config.board.algorithms);
        let head = Head::decode(head_bytes, limits)?;
        let mut room = [Target::EMPTY; TARGETS_MAX];
        let admitted = device
            .root
            .verify(&head, &algorithms, limits, &mut room)?
            .admit(&device.view()?)?;
        let work = Work::of(admitted.plan(), admitted.digest(), room_bytes)?;
        if work.release != pending.release {
            return Err(Reason::StateCorrupt.refused());
        }
        device.staging_is_free()?;
        self.start = pending.head_start;
        self.offset = pending.head_start.saturating_add(pending.head_len);
        let mut body = Body {
            members: Members::new(head.entries, limits),
            inside: Inside::Other,
            has_table: false,
            has_image: false,
            written: 0,
            tries: 0,
            work,
        };
        match pending.progress {
            Progress::Payload {
                ordinal,
                offset,
                members_left,
                chunks,
            } if ordinal == body.work.ordinal => {
                device.verify_table(&admitted, &body.work)?;
                let whole = device.resume_chunk(&body.work, chunks);
                let at = whole.saturating_mul(body.work.chunk_size);
                body.has_table = true;
                body.written = whole;
                body.members = Members::resume(
                    &body.work.name,
                    body.work.size.saturating_sub(at).into(),
                    members_left.into(),
                    limits,
                );
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
                Event::Text { .. } if !body.work.has_text => return Err(Reason::EnvKeyForbidden.about("text")),
                Event::Text { .. } | Event::KeyPackages { .. } => body.inside = Inside::Other,
                Event::ChunkTable { ordinal, len } => body.begin_table(ordinal, len, device)?,
                Event::Payload { name, len } => body.begin_payload(&name, len, self.offset, device)?,
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

impl Receiving<'_> {
    // -----------------------------------------------------------------------------------------------------------------
    // Raw images

    /// A raw image instead of a release: in development only, and only with a known length.
    fn begin_raw<F: Flash>(&mut self, device: &mut Device<'_, F>) -> Result<(), Refused> {
        if device.root.environment() != Environment::Development {
            return Err(Reason::RawImageRefused.refused());
        }
        if self.chain.is_some() {
            return Err(Reason::NotARelease.refused());
        }
        if device.trust_waits()? {
            return Err(Reason::RootStaged.refused());
        }
        if self.upload.len == 0 {
            return Err(Reason::UploadLength.refused());
        }
        if self.upload.len > device.slots.image_len_max() {
            return Err(Reason::ImageSize.refused());
        }
        device.staging_is_free()?;
        if device.state().pending.is_some() {
            device.append(JournalRecord::Dropped { reason: 0 })?;
        }
        device.clear_staging()?;
        self.phase = Phase::Raw;
        Ok(())
    }

    fn raw<F: Flash>(&mut self, mut bytes: &[u8], device: &mut Device<'_, F>) -> Result<Step, Refused> {
        while !bytes.is_empty() {
            let left = self.upload.len.saturating_sub(self.offset) as usize;
            let block = TABLE_BLOCK_BYTES.min(self.buffer.len()).min(self.fill + left);
            let (now, rest) = bytes
                .split_at_checked(block.saturating_sub(self.fill))
                .unwrap_or((bytes, &[]));
            if now.is_empty() {
                return Err(Reason::UploadLength.refused());
            }
            let free = self
                .buffer
                .get_mut(self.fill..)
                .and_then(|free| free.get_mut(..now.len()));
            free.ok_or(Reason::Limit)?.copy_from_slice(now);
            self.fill += now.len();
            self.offset = self.offset.saturating_add(now.len() as u32);
            bytes = rest;
            if self.fill == block {
                let at = self.offset.saturating_sub(self.fill as u32);
                device.write_chunk(at, self.buffer.get(..self.fill).unwrap_or(&[]))?;
                self.fill = 0;
            }
        }
        if self.offset < self.upload.len {
            return Ok(Step::More { offset: self.offset });
        }
        device.judge_staged(self.buffer)?;
        self.phase = Phase::Done(Step::Staged);
        Ok(Step::Staged)
    }
}

impl Body {
    /// The chunk hashes begin: only those that the plan wants, once, and of the right length.
    fn begin_table<F: Flash>(&mut self, ordinal: u8, len: u32, device: &mut Device<'_, F>) -> Result<(), Refused> {
        let expected = self.work.table.is_some() && ordinal == self.work.ordinal && len == self.work.table_bytes();
        if !expected || self.has_table {
            return Err(Reason::ChunkTable.refused());
        }
        device.config.board.layout.table.erase(&mut device.flash)?;
        self.inside = Inside::Table {
            at: 0,
            hash: Sha256::new(),
        };
        Ok(())
    }

    /// The payload begins. From here on the staging slot holds nothing that could be booted until it is whole.
    fn begin_payload<F: Flash>(
        &mut self,
        name: &Name,
        len: u64,
        offset: u32,
        device: &mut Device<'_, F>,
    ) -> Result<(), Refused> {
        if *name != self.work.name || self.has_image {
            return Err(Reason::PayloadUnreferenced.refused());
        }
        if len != u64::from(self.work.size) {
            return Err(Reason::SizeMismatch.refused());
        }
        if !self.has_table {
            return Err(Reason::ChunkTable.refused());
        }
        let (ordinal, members_left) = (self.work.ordinal, u8::try_from(self.members.left()).unwrap_or(u8::MAX));
        let begun = JournalRecord::Payload {
            ordinal,
            offset,
            members_left,
        };
        if self.written == 0 {
            device.append(begun)?;
            device.clear_staging()?;
        } else if !device.has_begun(&begun) {
            // The same release in another file: what is written stays, its place in the file is another.
            device.append(begun)?;
            device.append(JournalRecord::Chunks { count: self.written })?;
        }
        self.inside = Inside::Payload { start: offset, at: 0 };
        Ok(())
    }

    /// Takes content of the member that began. Some offset: the file is wanted again from there.
    fn take<F: Flash>(
        &mut self,
        mut piece: &[u8],
        buffer: &mut [u8],
        fill: &mut usize,
        device: &mut Device<'_, F>,
    ) -> Result<Option<u32>, Refused> {
        while !piece.is_empty() {
            let block = match &self.inside {
                Inside::Other => return Ok(None),
                Inside::Table { .. } => buffer.len().min(TABLE_BLOCK_BYTES),
                Inside::Payload { at, .. } => self.work.chunk_len(at / self.work.chunk_size.max(1)) as usize,
            };
            let (now, rest) = piece
                .split_at_checked(block.saturating_sub(*fill))
                .unwrap_or((piece, &[]));
            let free = buffer.get_mut(*fill..).and_then(|free| free.get_mut(..now.len()));
            free.ok_or(Reason::Limit.about("CHUNK_MAX"))?.copy_from_slice(now);
            *fill += now.len();
            piece = rest;
            if *fill < block {
                continue;
            }
            let whole = buffer.get(..block).unwrap_or(&[]);
            *fill = 0;
            if matches!(self.inside, Inside::Table { .. }) {
                self.table_block(whole, device)?;
            } else if let Some(offset) = self.chunk(whole, device)? {
                self.members.rewind(piece.len() as u64);
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn table_block<F: Flash>(&mut self, block: &[u8], device: &mut Device<'_, F>) -> Result<(), Refused> {
        if let Inside::Table { at, hash } = &mut self.inside {
            hash.update(block);
            write_padded(
                &mut device.flash,
                device.config.board.layout.table.start.saturating_add(*at),
                block,
            )?;
            *at = at.saturating_add(block.len() as u32);
        }
        Ok(())
    }

    /// A whole chunk: verified by the signed table, then written. Some offset: it was damaged and is wanted again.
    fn chunk<F: Flash>(&mut self, chunk: &[u8], device: &mut Device<'_, F>) -> Result<Option<u32>, Refused> {
        let Inside::Payload { start, at } = &mut self.inside else {
            return Ok(None);
        };
        let number = *at / self.work.chunk_size.max(1);
        if Sha256::of(chunk) != device.chunk_hash(number)? {
            self.tries += 1;
            if self.tries >= CHUNK_TRIES_MAX {
                return Err(Reason::ChunkDigest.refused());
            }
            self.members.rewind(chunk.len() as u64);
            return Ok(Some(start.saturating_add(*at)));
        }
        self.tries = 0;
        if number >= self.written {
            device.write_chunk(*at, chunk)?;
            self.written = number + 1;
            device.append(JournalRecord::Chunks { count: self.written })?;
        }
        *at = at.saturating_add(chunk.len() as u32);
        Ok(None)
    }

    /// A member is whole: the rest of the table is stored and compared, the image is verified and judged.
    fn end_member<F: Flash>(
        &mut self,
        buffer: &mut [u8],
        fill: &mut usize,
        device: &mut Device<'_, F>,
    ) -> Result<(), Refused> {
        let rest = core::mem::take(fill);
        if matches!(self.inside, Inside::Table { .. }) {
            self.table_block(buffer.get(..rest).unwrap_or(&[]), device)?;
        }
        match core::mem::replace(&mut self.inside, Inside::Other) {
            Inside::Other => {}
            Inside::Table { hash, .. } => {
                if self.work.table != Some(hash.finish()) {
                    return Err(Reason::ChunkTable.refused());
                }
                self.has_table = true;
            }
            Inside::Payload { .. } => {
                device.accept(&self.work, buffer)?;
                self.has_image = true;
            }
        }
        Ok(())
    }
}

/// How long the head is, or the file of a root chain, whichever begins like this.
fn expected(prefix: &[u8], limits: &Limits) -> Result<(Option<FileKind>, Extent), Refused> {
    match prefix.first() {
        Some(&FILE_FIRST_BYTE) => roots::file_len(prefix, limits),
        _ => Ok((None, head::head_len(prefix, limits)?)),
    }
}

/// Bytes of the chunk table that are stored at a time.
const TABLE_BLOCK_BYTES: usize = 256;

impl<F: Flash> Device<'_, F> {
    /// Verifies a staged release again: its stored head by the root and list in force, its image by the boot chain's rule.
    fn approves(&mut self, pending: &Pending, buffer: &mut [u8]) -> Result<(), Refused> {
        let (limits, algorithms) = (self.config.board.limits, self.config.board.algorithms);
        let chunk_bytes_max = buffer.len();
        let head = buffer.get_mut(..pending.head_len as usize);
        let head = head.ok_or(Reason::Limit.about("HEAD_MAX"))?;
        let at = self.config.board.layout.head.start;
        self.flash.read(at, head).map_err(Reason::from)?;
        let head = Head::decode(head, limits)?;
        let mut room = [Target::EMPTY; TARGETS_MAX];
        let admitted = self
            .root
            .verify(&head, &algorithms, limits, &mut room)?
            .admit(&self.view()?)?;
        let work = Work::of(admitted.plan(), admitted.digest(), chunk_bytes_max)?;
        if work.release != pending.release {
            return Err(Reason::StateCorrupt.refused());
        }
        self.judge_staged(buffer)?;
        Ok(())
    }

    /// Refuses, before anything is erased, what does not fit this device.
    fn fits(&mut self, work: &Work, head_len: u32) -> Result<(), Refused> {
        let layout = self.config.board.layout;
        if work.size > self.slots.image_len_max() {
            return Err(Reason::ImageSize.refused());
        }
        if work.table_bytes() > layout.table.len {
            return Err(Reason::Limit.about("CHUNK_TABLE_MAX"));
        }
        if head_len > layout.head.len {
            return Err(Reason::Limit.about("HEAD_MAX"));
        }
        if !self.state().has_room_for(&work.release.domain) {
            return Err(Reason::Limit.about("DOMAINS_MAX"));
        }
        self.staging_is_free()
    }

    /// Refuses (1003) to go on with a release that another transport has replaced, finished or dropped meanwhile: journal
    /// and staging slot are somebody else's now. A raw image has no release.
    fn is_under_way(&mut self, release: Option<ReleaseId>) -> Result<(), Refused> {
        let same = self.state().pending.map(|pending| pending.release) == release;
        match same && self.staging_is_free().is_ok() {
            true => Ok(()),
            false => Err(Reason::InstallRunning.refused()),
        }
    }

    /// Whether the running image is the one that the plan wants.
    fn runs(&mut self, work: &Work) -> Result<bool, Reason> {
        self.has_digest(SlotId::Primary, 0, work)
    }

    /// Stores the head of an admitted release, or finds it stored. Returns how many chunks are already written.
    fn store_head(
        &mut self,
        admitted: &Admitted<Plan<'_>>,
        work: &Work,
        head: &[u8],
        head_start: u32,
        upload: Upload,
    ) -> Result<u32, Refused> {
        let area = self.config.board.layout.head;
        let same = |pending: &Pending| {
            (pending.release, pending.upload, pending.head_start) == (work.release, upload, head_start)
        };
        if let Some(pending) = self.state().pending.filter(same)
            && self.holds(area, head)?
        {
            match pending.progress {
                Progress::Admitted => {}
                Progress::HeadStored => return Ok(0),
                Progress::Payload { chunks, .. } => return Ok(self.resume_chunk(work, chunks)),
                Progress::Staged { .. } => {
                    if self.has_digest(SlotId::Secondary, self.slots.staging_offset(), work)? {
                        return Ok(work.chunks());
                    }
                }
            }
        }
        let version = admitted.plan().version;
        self.append(JournalRecord::Pending {
            release: work.release,
            head_start,
            head_len: head.len() as u32,
            upload,
            version,
        })?;
        area.erase(&mut self.flash)?;
        write_padded(&mut self.flash, area.start, head)?;
        self.append(JournalRecord::HeadStored)?;
        Ok(0)
    }

    /// Puts chunk hashes that travel in the head where detached ones go. True when it did.
    fn store_inline_table(&mut self, admitted: &Admitted<Plan<'_>>) -> Result<bool, Refused> {
        let variants = admitted
            .plan()
            .targets
            .iter()
            .flat_map(|target| target.variants.as_slice());
        let tables = variants.filter_map(|variant| variant.source.and_then(|source| source.table));
        for table in tables {
            if let ChunkHashes::Inline(hashes) = table.hashes {
                let area = self.config.board.layout.table;
                if !self.holds(area, hashes)? {
                    area.erase(&mut self.flash)?;
                    write_padded(&mut self.flash, area.start, hashes)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an area starts with these bytes.
    fn holds(&mut self, area: Area, bytes: &[u8]) -> Result<bool, Reason> {
        let mut at = area.start;
        for piece in bytes.chunks(TABLE_BLOCK_BYTES) {
            let mut stored = [0; TABLE_BLOCK_BYTES];
            let stored = stored.get_mut(..piece.len()).unwrap_or(&mut []);
            self.flash.read(at, stored)?;
            if stored != piece {
                return Ok(false);
            }
            at = at.saturating_add(piece.len() as u32);
        }
        Ok(true)
    }

    /// After a reset: the stored chunk hashes are those that the manifest signed.
    fn verify_table(&mut self, admitted: &Admitted<Plan<'_>>, work: &Work) -> Result<(), Refused> {
        let Some(signed) = work.table else {
            return self.store_inline_table(admitted).map(|_| ());
        };
        let (start, len) = (self.config.board.layout.table.start, work.table_bytes());
        if hash_of(&mut self.flash, start, len)? == signed {
            Ok(())
        } else {
            Err(Reason::ChunkTable.refused())
        }
    }

    /// The first chunk that must be written again: the last one that starts a sector, because the sector that was being
    /// written must be erased. Never behind the last chunk: whoever resumes has something to send, and what ends the
    /// payload is done again.
    fn resume_chunk(&self, work: &Work, written: u32) -> u32 {
        let starts_sector = |chunk: u32| self.slots.bytes_into_sector(chunk.saturating_mul(work.chunk_size)) == 0;
        let mut chunk = written.min(work.chunks().saturating_sub(1));
        while chunk > 0 && !starts_sector(chunk) {
            chunk -= 1;
        }
        chunk
    }

    fn chunk_hash(&mut self, chunk: u32) -> Result<[u8; SHA256_BYTES], Reason> {
        let mut hash = [0; SHA256_BYTES];
        let at = self
            .config
            .board
            .layout
            .table
            .start
            .saturating_add(chunk.saturating_mul(HASH_BYTES));
        self.flash.read(at, &mut hash)?;
        Ok(hash)
    }

    /// Whether the journal says this of the payload already, or that it is past it.
    fn has_begun(&self, begun: &JournalRecord) -> bool {
        match self.state().pending.map(|pending| pending.progress) {
            Some(Progress::Staged { .. }) => true,
            Some(Progress::Payload {
                ordinal,
                offset,
                members_left,
                ..
            }) => {
                *begun
                    == JournalRecord::Payload {
                        ordinal,
                        offset,
                        members_left,
                    }
            }
            _ => false,
        }
    }

    /// Nothing old may look like an image or a request: the spare sector, the trailer.
    pub(crate) fn clear_staging(&mut self) -> Result<(), Reason> {
        let secondary = self.slots.area(SlotId::Secondary);
        let spare = Area {
            start: secondary.start,
            len: self.slots.sector_size(),
        };
        crate::swap::erase_trailer(&mut self.flash, &self.slots, SlotId::Secondary)?;
        spare.erase(&mut self.flash)
    }

    /// Writes verified bytes at this offset of the image, erasing each sector when its first byte is reached.
    pub(crate) fn write_chunk(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Reason> {
        let start = self.slots.area(SlotId::Secondary).start + self.slots.staging_offset();
        let sector_size = self.slots.sector_size();
        let mut at = offset;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let into = self.slots.bytes_into_sector(at);
            if into == 0 {
                let sector = self
                    .flash
                    .sector(start.saturating_add(at))
                    .ok_or(Reason::StorageFailed)?;
                self.flash.erase(sector)?;
            }
            let room = (sector_size - into) as usize;
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            write_padded(&mut self.flash, start.saturating_add(at), now)?;
            at = at.saturating_add(now.len() as u32);
            bytes = rest;
        }
        Ok(())
    }

    /// The whole image as written: the signed digest, the signed counter, and the boot chain's own rule.
    fn accept(&mut self, work: &Work, scratch: &mut [u8]) -> Result<(), Refused> {
        let offset = self.slots.staging_offset();
        if !self.has_digest(SlotId::Secondary, offset, work)? {
            return Err(Reason::ImageDigest.refused());
        }
        let limit = self.slots.image_len_max();
        let mut reader = SlotReader::new(&mut self.flash, &self.slots, SlotId::Secondary, offset);
        let info = slot::identify(&mut reader, limit)?;
        if info.counter != Some(work.counter) {
            return Err(Reason::CounterMismatch.refused());
        }
        let image = self.judge_staged(scratch)?;
        if image.total_len() != work.size {
            return Err(Reason::ImageSize.refused());
        }
        let trust = self.trust_name();
        match self.state().pending.map(|pending| pending.progress) {
            Some(Progress::Staged {
                image: staged,
                trust: approved,
                ..
            }) if staged == info.digest && approved == trust => Ok(()),
            _ => self.append(JournalRecord::Staged {
                image: info.digest,
                counter: work.counter,
                trust,
            }),
        }
    }

    fn has_digest(&mut self, slot: SlotId, offset: u32, work: &Work) -> Result<bool, Reason> {
        let start = self.slots.area(slot).start.saturating_add(offset);
        Ok(hash_of(&mut self.flash, start, work.size)? == work.digest)
    }
}

/// SHA-256 over a range of the flash.
fn hash_of(flash: &mut impl Flash, start: u32, len: u32) -> Result<[u8; SHA256_BYTES], Reason> {
    let mut hash = Sha256::new();
    hash_into(&mut hash, flash, start, len)?;
    Ok(hash.finish())
}

/// Adds a range of the flash to a hash.
pub(crate) fn hash_into(hash: &mut Sha256, flash: &mut impl Flash, start: u32, len: u32) -> Result<(), Reason> {
    let mut at = 0;
    while at < len {
        let mut block = [0; TABLE_BLOCK_BYTES];
        let take = (len - at).min(TABLE_BLOCK_BYTES as u32);
        let block = block.get_mut(..take as usize).unwrap_or(&mut []);
        flash.read(start.saturating_add(at), block)?;
        hash.update(block);
        at += take;
    }
    Ok(())
}

/// Writes bytes whose end may not be a whole write unit; the rest of the unit keeps the erased value.
pub(crate) fn write_padded(flash: &mut impl Flash, address: u32, bytes: &[u8]) -> Result<(), Reason> {
    let unit = flash.write_size().max(1) as usize;
    let (whole, rest) = bytes
        .split_at_checked(bytes.len() - bytes.len() % unit)
        .unwrap_or((bytes, &[]));
    if !whole.is_empty() {
        flash.write(address, whole)?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    let mut last = [flash.erased(); WRITE_SIZE_MAX];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    Ok(flash.write(
        address.saturating_add(whole.len() as u32),
        last.get(..unit).unwrap_or(&[]),
    )?)
}
