//! What a device keeps in flash: the trust store's header, and the records of the append-only logs (journal, boot log).
//!
//! Layouts are fixed, little-endian and versioned; golden tests hold them. Nothing here reads or writes flash.

use crate::Reason;
use crate::plan::Version;

/// The format number of everything in this module.
pub const FORMAT: u16 = 1;

// ---------------------------------------------------------------------------------------------------------------------
// Trust store

/// Bytes of the header in front of each copy of the trust store; the root file follows, then the revocation list, each
/// starting at a multiple of [`STORE_ALIGN_BYTES`].
pub const STORE_HEADER_BYTES: usize = 128;
/// Bytes of the header that its digest covers (with root and list behind them).
pub const STORE_HEADER_SIGNED_BYTES: usize = 96;
/// Alignment of what follows the header.
pub const STORE_ALIGN_BYTES: u32 = 32;
/// Security counters in the store, one per image.
pub const COUNTERS_MAX: usize = 4;

const STORE_MAGIC: [u8; 8] = *b"AMPTRUST";

/// The life of a device; it only moves forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Lifecycle {
    /// Nothing was provisioned.
    Blank = 0,
    /// In the factory: a root is there.
    Factory = 1,
    /// Identity and keys are there.
    Provisioned = 2,
    /// In the field.
    Deployed = 3,
    /// Back for analysis: secrets are gone.
    Rma = 4,
    /// For ever out of service.
    Decommissioned = 5,
}

impl Lifecycle {
    /// The state with this number.
    pub const fn from_number(number: u8) -> Option<Lifecycle> {
        match number {
            0 => Some(Lifecycle::Blank),
            1 => Some(Lifecycle::Factory),
            2 => Some(Lifecycle::Provisioned),
            3 => Some(Lifecycle::Deployed),
            4 => Some(Lifecycle::Rma),
            5 => Some(Lifecycle::Decommissioned),
            _ => None,
        }
    }
}

/// The header of one copy of the trust store, without its digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreHeader {
    /// Grows with every commit; of two good copies the one with the higher generation counts.
    pub generation: u32,
    /// Where in its life the device is.
    pub lifecycle: Lifecycle,
    /// Bytes of the root file.
    pub root_len: u32,
    /// Bytes of the revocation list; 0 when there is none.
    pub list_len: u32,
    /// The largest signed time seen, in seconds since 1970-01-01 UTC; 0 when none was.
    pub time_floor: u64,
    /// Security counters, by image number; they never fall.
    pub counters: [u32; COUNTERS_MAX],
    /// Digest of the one image that a stricter root still lets boot.
    pub pinned: Option<[u8; 32]>,
    /// Grows with every change of anything but counters: copies of one edition say the same of all else.
    pub edition: u32,
    /// A step of the device's life was decided that erases things, and they are not all erased yet: nothing may start.
    /// What is to be erased follows from lifecycle and root.
    pub wiping: bool,
}

const FLAG_PINNED: u8 = 1;
const FLAG_WIPING: u8 = 2;

impl StoreHeader {
    /// The header's signed bytes.
    pub fn to_bytes(&self) -> [u8; STORE_HEADER_SIGNED_BYTES] {
        let mut out = [0; STORE_HEADER_SIGNED_BYTES];
        let mut rest = Fill(&mut out);
        rest.put(&STORE_MAGIC);
        rest.put(&FORMAT.to_le_bytes());
        let pinned = if self.pinned.is_some() { FLAG_PINNED } else { 0 };
        let wiping = if self.wiping { FLAG_WIPING } else { 0 };
        rest.put(&[self.lifecycle as u8, pinned | wiping]);
        rest.put(&self.generation.to_le_bytes());
        rest.put(&self.root_len.to_le_bytes());
        rest.put(&self.list_len.to_le_bytes());
        rest.put(&self.time_floor.to_le_bytes());
        for counter in self.counters {
            rest.put(&counter.to_le_bytes());
        }
        rest.put(&self.pinned.unwrap_or([0; 32]));
        rest.put(&self.edition.to_le_bytes());
        out
    }

    /// Reads the signed bytes; `None` when they are not a header of this format.
    pub fn parse(bytes: &[u8; STORE_HEADER_SIGNED_BYTES]) -> Option<StoreHeader> {
        let mut rest = Take(bytes);
        let magic: [u8; 8] = rest.take()?;
        let format = u16::from_le_bytes(rest.take()?);
        let [lifecycle, flags] = rest.take()?;
        let header = StoreHeader {
            lifecycle: Lifecycle::from_number(lifecycle)?,
            generation: rest.u32()?,
            root_len: rest.u32()?,
            list_len: rest.u32()?,
            time_floor: rest.u64()?,
            counters: [rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?],
            pinned: {
                let digest = rest.take()?;
                (flags & FLAG_PINNED != 0).then_some(digest)
            },
            edition: rest.u32()?,
            wiping: flags & FLAG_WIPING != 0,
        };
        (magic == STORE_MAGIC && format == FORMAT && header.to_bytes() == *bytes).then_some(header)
    }

    /// Whether this device may start an image or be given one, as far as the header tells.
    ///
    /// Refused: 945 while a wipe is not whole; 944 at the end of its life; 940 without a root, which is what a device
    /// has that left development, until it is given a production root.
    pub const fn may_run(&self) -> Result<(), Reason> {
        if self.wiping {
            Err(Reason::WipeUnfinished)
        } else if matches!(self.lifecycle, Lifecycle::Decommissioned) {
            Err(Reason::Decommissioned)
        } else if self.root_len == 0 {
            Err(Reason::NoRoot)
        } else {
            Ok(())
        }
    }

    /// Offset of the revocation list behind the header; `None` on overflow.
    pub fn list_at(&self) -> Option<u32> {
        self.root_len.checked_next_multiple_of(STORE_ALIGN_BYTES)
    }

    /// Offset of the revocation list from the start of the copy, and the whole length of the copy; `None` on overflow.
    pub fn extents(&self) -> Option<(u32, u32)> {
        let list = (STORE_HEADER_BYTES as u32)
            .checked_add(self.root_len)?
            .checked_next_multiple_of(STORE_ALIGN_BYTES)?;
        let end = list
            .checked_add(self.list_len)?
            .checked_next_multiple_of(STORE_ALIGN_BYTES)?;
        Some((list, end))
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Mailbox

/// Parts of the mailbox, one for each kind of proposal.
pub const MAIL_PARTS: u32 = 4;
/// Bytes of the header in front of each part of the mailbox; the content follows.
pub const MAIL_HEADER_BYTES: usize = 64;
/// Bytes of the header that its digest covers (with the content behind it).
pub const MAIL_HEADER_SIGNED_BYTES: usize = 32;

const MAIL_MAGIC: [u8; 8] = *b"AMP-MAIL";

/// What the application may propose to the bootloader, and which part of the mailbox it goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MailKind {
    /// The next trust root.
    Root = 1,
    /// A revocation list.
    Revoke = 2,
    /// A time file.
    Time = 3,
    /// A [`LifecycleRequest`].
    Lifecycle = 4,
}

impl MailKind {
    /// Every kind, in the order of the parts.
    pub const ALL: [MailKind; MAIL_PARTS as usize] =
        [MailKind::Root, MailKind::Revoke, MailKind::Time, MailKind::Lifecycle];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<MailKind> {
        MailKind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The header of one part of the mailbox, without its digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MailHeader {
    /// What the content is.
    pub kind: MailKind,
    /// Bytes of the content.
    pub len: u32,
}

impl MailHeader {
    /// The header's signed bytes.
    pub fn to_bytes(&self) -> [u8; MAIL_HEADER_SIGNED_BYTES] {
        let mut out = [0; MAIL_HEADER_SIGNED_BYTES];
        let mut rest = Fill(&mut out);
        rest.put(&MAIL_MAGIC);
        rest.put(&FORMAT.to_le_bytes());
        rest.put(&[self.kind as u8, 0]);
        rest.put(&self.len.to_le_bytes());
        out
    }

    /// Reads the signed bytes; `None` when they are not a header of this format.
    pub fn parse(bytes: &[u8; MAIL_HEADER_SIGNED_BYTES]) -> Option<MailHeader> {
        let mut rest = Take(bytes.get(MAIL_MAGIC.len() + 2..)?);
        let [kind, _] = rest.take()?;
        let header = MailHeader {
            kind: MailKind::from_number(kind)?,
            len: rest.u32()?,
        };
        (header.to_bytes() == *bytes).then_some(header)
    }
}

/// Bytes of a lifecycle request, the content of its part of the mailbox.
pub const LIFECYCLE_REQUEST_BYTES: usize = 8;

/// A step of a device's life that its application asks the bootloader for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleRequest {
    /// To this state, which must not lie behind the present one.
    Advance(Lifecycle),
    /// From a development root to none: only a production root is taken from then on.
    LeaveDevelopment,
}

const STEP_ADVANCE: u8 = 1;
const STEP_LEAVE: u8 = 2;

impl LifecycleRequest {
    /// Format (2), step (1), state (1; 0 when the step has none), zeros (4).
    pub const fn to_bytes(self) -> [u8; LIFECYCLE_REQUEST_BYTES] {
        let [f0, f1] = FORMAT.to_le_bytes();
        let (step, state) = match self {
            LifecycleRequest::Advance(state) => (STEP_ADVANCE, state as u8),
            LifecycleRequest::LeaveDevelopment => (STEP_LEAVE, 0),
        };
        [f0, f1, step, state, 0, 0, 0, 0]
    }

    /// Reads a request. Refused: 1021 for a state that there is not; 1019 for anything else that is no request of this
    /// format.
    pub fn parse(bytes: &[u8]) -> Result<LifecycleRequest, Reason> {
        let request = match bytes {
            [_, _, STEP_ADVANCE, state, ..] => {
                LifecycleRequest::Advance(Lifecycle::from_number(*state).ok_or(Reason::LifecycleUnknown)?)
            }
            _ => LifecycleRequest::LeaveDevelopment,
        };
        match request.to_bytes() == bytes {
            true => Ok(request),
            false => Err(Reason::RequestMalformed),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Sealed storage

/// Bytes of the header in front of each half of the sealed storage, with its code; the records follow.
pub const SEALED_HEADER_BYTES: usize = 64;
/// Bytes of the header without its code.
pub const SEALED_HEADER_CODED_BYTES: usize = 32;
/// Bytes of the head of a record; its tag and its cipher text follow, then zeros up to a multiple of [`UNIT_BYTES`].
pub const SEALED_HEAD_BYTES: usize = 32;
/// Bytes of the code behind a record that was appended; records that were copied are covered by the header's.
pub const SEALED_CODE_BYTES: usize = 32;
/// Bytes of a name.
pub const SEALED_NAME_BYTES_MAX: usize = 22;
/// Bytes of a value.
pub const SEALED_VALUE_BYTES_MAX: usize = 1024;

const SEALED_MAGIC: [u8; 8] = *b"AMP-SEAL";

/// The header of one half of the sealed storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedHeader {
    /// The generation that this half began with.
    pub generation: u32,
    /// Bytes of the records that it began with.
    pub body_len: u32,
}

impl SealedHeader {
    /// The coded bytes.
    pub fn to_bytes(&self) -> [u8; SEALED_HEADER_CODED_BYTES] {
        let mut out = [0; SEALED_HEADER_CODED_BYTES];
        let mut rest = Fill(&mut out);
        rest.put(&SEALED_MAGIC);
        rest.put(&FORMAT.to_le_bytes());
        rest.put(&[0, 0]);
        rest.put(&self.generation.to_le_bytes());
        rest.put(&self.body_len.to_le_bytes());
        out
    }

    /// Reads the coded bytes; `None` when they are not a header of this format.
    pub fn parse(bytes: &[u8; SEALED_HEADER_CODED_BYTES]) -> Option<SealedHeader> {
        let mut rest = Take(bytes.get(SEALED_MAGIC.len() + 4..)?);
        let header = SealedHeader {
            generation: rest.u32()?,
            body_len: rest.u32()?,
        };
        (header.to_bytes() == *bytes).then_some(header)
    }
}

/// The head of a sealed record. Its bytes are the associated data of the value, so that a value cannot stand under another
/// name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedHead {
    /// The name, zeros behind it.
    name: [u8; SEALED_NAME_BYTES_MAX],
    name_len: u8,
    /// Bytes of the value.
    pub value_len: u16,
    /// The generation in which the value was set.
    pub generation: u32,
}

impl SealedHead {
    /// A head; `None` when the name is empty or too long, or the value is too long.
    pub fn new(name: &[u8], value_len: usize, generation: u32) -> Option<SealedHead> {
        let mut padded = [0; SEALED_NAME_BYTES_MAX];
        padded.get_mut(..name.len())?.copy_from_slice(name);
        let fits = !name.is_empty() && value_len <= SEALED_VALUE_BYTES_MAX;
        fits.then_some(SealedHead {
            name: padded,
            name_len: name.len() as u8,
            value_len: value_len as u16,
            generation,
        })
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.name_len)).unwrap_or(&[])
    }

    /// Bytes of tag, cipher text and zeros behind the head.
    pub fn text_len(&self) -> u32 {
        (u32::from(self.value_len) + 16).next_multiple_of(UNIT_BYTES as u32)
    }

    /// The head's bytes.
    pub fn to_bytes(&self) -> [u8; SEALED_HEAD_BYTES] {
        let mut out = [0; SEALED_HEAD_BYTES];
        let mut rest = Fill(&mut out);
        rest.put(&[SEALED_RECORD, self.name_len, 0, 0]);
        rest.put(&self.value_len.to_le_bytes());
        rest.put(&self.generation.to_le_bytes());
        rest.put(&self.name);
        out
    }

    /// Reads a head; `None` when these are not the bytes of one.
    pub fn parse(bytes: &[u8; SEALED_HEAD_BYTES]) -> Option<SealedHead> {
        let mut rest = Take(bytes);
        let [_, name_len, _, _] = rest.take()?;
        let value_len = u16::from_le_bytes(rest.take()?);
        let generation = rest.u32()?;
        let name: [u8; SEALED_NAME_BYTES_MAX] = rest.take()?;
        let name = name.get(..usize::from(name_len))?;
        let head = SealedHead::new(name, value_len.into(), generation)?;
        (head.to_bytes() == *bytes).then_some(head)
    }
}

/// First byte of a sealed record: neither erased value begins one.
const SEALED_RECORD: u8 = 0x51;

// ---------------------------------------------------------------------------------------------------------------------
// Counter in flash

/// Bytes of the header of each half of a counter in flash; cells of [`UNIT_BYTES`] follow, each of them one more.
pub const COUNT_HEADER_BYTES: usize = 32;

const COUNT_MAGIC: [u8; 8] = *b"AMPCOUNT";

/// The header of one half of a counter in flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CountHeader {
    /// What the half began with.
    pub base: u32,
}

impl CountHeader {
    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; COUNT_HEADER_BYTES] {
        let mut out = [0; COUNT_HEADER_BYTES];
        let mut rest = Fill(&mut out);
        rest.put(&COUNT_MAGIC);
        rest.put(&FORMAT.to_le_bytes());
        rest.put(&[0, 0]);
        rest.put(&self.base.to_le_bytes());
        // A torn write is no smaller number.
        rest.put(&(!self.base).to_le_bytes());
        out
    }

    /// Reads them; `None` when they are not a header of this format.
    pub fn parse(bytes: &[u8; COUNT_HEADER_BYTES]) -> Option<CountHeader> {
        let mut rest = Take(bytes.get(COUNT_MAGIC.len() + 4..)?);
        let header = CountHeader { base: rest.u32()? };
        (header.to_bytes() == *bytes).then_some(header)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Log records

/// Bytes of one unit of a log; every record is a whole number of units, so that any write size up to 32 fits.
pub const UNIT_BYTES: usize = 32;
/// Units of one record at most.
pub const RECORD_UNITS_MAX: usize = 5;
/// Bytes of one record at most.
pub const RECORD_BYTES_MAX: usize = UNIT_BYTES * RECORD_UNITS_MAX;
/// Bytes of kind, length and check value in front of each record's payload.
pub const RECORD_HEAD_BYTES: usize = 8;

/// One record, encoded.
#[derive(Clone, Copy)]
pub struct Encoded {
    bytes: [u8; RECORD_BYTES_MAX],
    len: u8,
}

impl Encoded {
    /// The bytes to write: a whole number of units.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn new(kind: u8, payload: impl FnOnce(&mut Fill)) -> Encoded {
        let mut bytes = [0; RECORD_BYTES_MAX];
        let mut rest = Fill(bytes.get_mut(RECORD_HEAD_BYTES..).unwrap_or(&mut []));
        payload(&mut rest);
        let used = RECORD_BYTES_MAX - rest.0.len();
        let len = used.next_multiple_of(UNIT_BYTES).min(RECORD_BYTES_MAX);
        bytes[0] = kind;
        bytes[1] = (len / UNIT_BYTES) as u8;
        let check = check_value(bytes.get(..len).unwrap_or(&[]));
        bytes[4..RECORD_HEAD_BYTES].copy_from_slice(&check.to_le_bytes());
        Encoded { bytes, len: len as u8 }
    }
}

/// How many units the record needs whose first bytes these are; `None` when no record starts like this.
pub fn record_units(first: &[u8]) -> Option<usize> {
    let units = usize::from(*first.get(1)?);
    (1..=RECORD_UNITS_MAX).contains(&units).then_some(units)
}

/// Whether these are the bytes of one whole record, of any kind.
pub fn is_whole(bytes: &[u8]) -> bool {
    open(bytes).is_some()
}

/// Kind and payload of a whole record; `None` when its check value is wrong.
fn open(bytes: &[u8]) -> Option<(u8, Take<'_>)> {
    let stored = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let kind = *bytes.first()?;
    (check_value(bytes) == stored).then_some((kind, Take(bytes.get(RECORD_HEAD_BYTES..)?)))
}

/// CRC-32 (IEEE) over the record with its check value taken as zero. It finds torn writes, not attackers: nothing that a
/// record says is believed further than an attacker who can write the flash could go anyway.
fn check_value(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for (at, byte) in bytes.iter().enumerate() {
        let byte = if (4..RECORD_HEAD_BYTES).contains(&at) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// The first record of a log half. It is written last when a half is filled, so a half without it does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HalfHeader {
    /// Grows with every change of halves.
    pub generation: u32,
}

const KIND_HALF: u8 = 0x01;

impl HalfHeader {
    /// Encodes to one unit.
    pub fn encode(&self) -> Encoded {
        Encoded::new(KIND_HALF, |out| {
            out.put(b"AMPLOG");
            out.put(&FORMAT.to_le_bytes());
            out.put(&self.generation.to_le_bytes());
        })
    }

    /// Decodes one unit.
    pub fn decode(bytes: &[u8]) -> Option<HalfHeader> {
        let (kind, mut rest) = open(bytes)?;
        let (magic, format): ([u8; 6], _) = (rest.take()?, u16::from_le_bytes(rest.take()?));
        let header = HalfHeader {
            generation: rest.u32()?,
        };
        (kind == KIND_HALF && &magic == b"AMPLOG" && format == FORMAT).then_some(header)
    }
}

/// Something that happened at boot, written by the bootloader before it acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootEvent {
    /// What it did.
    pub kind: BootEventKind,
    /// The numbered reason: why it reverted, refused or waits; 0 when nothing went wrong.
    pub reason: u16,
    /// First bytes of the digest of the image concerned.
    pub digest: [u8; 8],
    /// Version of that image: major, minor, revision, build.
    pub version: (u8, u8, u16, u32),
}

/// What the bootloader did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BootEventKind {
    /// Started to swap a new image in.
    Upgrade = 1,
    /// Started to go back to the old image.
    Revert = 2,
    /// Refused a staged image.
    Refused = 3,
    /// Found nothing to start.
    Recovery = 4,
    /// Raised the security counter.
    Raised = 5,
    /// Could not go back because the old image no longer verifies.
    Stuck = 6,
    /// Took a proposal from the mailbox. `digest` names the proposal, `version.0` its [`MailKind`], and the last part of
    /// `version` what the trust store holds now: the version of the root, the number of the list, the seconds, the
    /// number of the lifecycle's state.
    Taken = 7,
    /// Refused a proposal in the mailbox; fields as of `Taken`.
    Declined = 8,
}

impl BootEventKind {
    /// Whether it is about a proposal in the mailbox, not about an image.
    pub const fn is_of_mail(self) -> bool {
        matches!(self, BootEventKind::Taken | BootEventKind::Declined)
    }
}

const KIND_BOOT: u8 = 0x02;

impl BootEvent {
    /// Encodes to one unit.
    pub fn encode(&self) -> Encoded {
        Encoded::new(KIND_BOOT, |out| {
            out.put(&[self.kind as u8, self.version.0]);
            out.put(&self.reason.to_le_bytes());
            out.put(&[self.version.1, 0]);
            out.put(&self.version.2.to_le_bytes());
            out.put(&self.version.3.to_le_bytes());
            out.put(&self.digest);
        })
    }

    /// Decodes one unit.
    pub fn decode(bytes: &[u8]) -> Option<BootEvent> {
        let (KIND_BOOT, mut rest) = open(bytes)? else {
            return None;
        };
        let [kind, major] = rest.take()?;
        let reason = u16::from_le_bytes(rest.take()?);
        let [minor, _] = rest.take()?;
        Some(BootEvent {
            kind: match kind {
                1 => BootEventKind::Upgrade,
                2 => BootEventKind::Revert,
                3 => BootEventKind::Refused,
                4 => BootEventKind::Recovery,
                5 => BootEventKind::Raised,
                6 => BootEventKind::Stuck,
                7 => BootEventKind::Taken,
                8 => BootEventKind::Declined,
                _ => return None,
            },
            reason,
            version: (major, minor, u16::from_le_bytes(rest.take()?), rest.u32()?),
            digest: rest.take()?,
        })
    }
}

/// Who a release is: the sequence domain, its number and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReleaseId {
    /// First half of SHA-256 over the encoded id of the sequence domain.
    pub domain: [u8; 16],
    /// The sequence number.
    pub sequence: u64,
    /// The manifest digest.
    pub digest: [u8; 32],
}

/// The state of the upload that carries a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Upload {
    /// SHA-256 that the sender announced for its file; zeros when it announced none.
    pub sha: [u8; 32],
    /// Bytes of the file.
    pub len: u32,
}

/// First bytes of SHA-256 over the root file and the revocation list behind it: under which a release was approved.
pub type TrustName = [u8; 8];

/// A record of the engine's journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalRecord {
    /// A confirmed release: the floor for what comes.
    Committed {
        /// The release.
        release: ReleaseId,
        /// The version to show for its domain.
        version: Option<Version>,
    },
    /// An admitted release whose head is (about to be) in the head area.
    Pending {
        /// The release.
        release: ReleaseId,
        /// Where its head starts in the file: behind the roots and lists of a root chain, if there are any.
        head_start: u32,
        /// Bytes of its head.
        head_len: u32,
        /// The transport's view of the file.
        upload: Upload,
        /// The version to show for its domain once it is confirmed, when the release names one.
        version: Option<Version>,
    },
    /// The head is whole in the head area: from now on it may be read back (and verified again) after a reset.
    HeadStored,
    /// A payload starts at this offset of the file; the staging slot may be erased from now on.
    Payload {
        /// Which URI of the manifest.
        ordinal: u8,
        /// Offset of its first byte in the file.
        offset: u32,
        /// Members of the envelope that follow it.
        members_left: u8,
    },
    /// This many chunks of the payload are in the staging slot.
    Chunks {
        /// Number of chunks, from the start.
        count: u32,
    },
    /// The image is whole in the staging slot, and the boot chain will accept it.
    Staged {
        /// Its hash TLV.
        image: [u8; 32],
        /// Its security counter.
        counter: u32,
        /// [Name](TrustName) of the trust root and list that approved it.
        trust: TrustName,
    },
    /// The bootloader is (about to be) asked to take the staged image.
    Requested,
    /// The pending release is given up.
    Dropped {
        /// The numbered reason.
        reason: u16,
    },
    /// The pending release went back after its trial.
    Reverted {
        /// The numbered reason.
        reason: u16,
    },
}

const KIND_COMMITTED: u8 = 0x10;
const KIND_PENDING: u8 = 0x11;
const KIND_HEAD: u8 = 0x12;
const KIND_PAYLOAD: u8 = 0x13;
const KIND_CHUNKS: u8 = 0x14;
const KIND_STAGED: u8 = 0x15;
const KIND_DROPPED: u8 = 0x16;
const KIND_REVERTED: u8 = 0x17;
const KIND_REQUESTED: u8 = 0x18;

impl JournalRecord {
    /// Encodes to whole units.
    pub fn encode(&self) -> Encoded {
        match *self {
            JournalRecord::Committed { release, version } => Encoded::new(KIND_COMMITTED, |out| {
                out.release(&release);
                out.version(version);
            }),
            JournalRecord::Pending {
                release,
                head_start,
                head_len,
                upload,
                version,
            } => Encoded::new(KIND_PENDING, |out| {
                out.release(&release);
                out.put(&head_start.to_le_bytes());
                out.put(&head_len.to_le_bytes());
                out.put(&upload.len.to_le_bytes());
                out.put(&upload.sha);
                out.version(version);
            }),
            JournalRecord::HeadStored => Encoded::new(KIND_HEAD, |_| ()),
            JournalRecord::Payload {
                ordinal,
                offset,
                members_left,
            } => Encoded::new(KIND_PAYLOAD, |out| {
                out.put(&offset.to_le_bytes());
                out.put(&[ordinal, members_left]);
            }),
            JournalRecord::Chunks { count } => Encoded::new(KIND_CHUNKS, |out| out.put(&count.to_le_bytes())),
            JournalRecord::Staged { image, counter, trust } => Encoded::new(KIND_STAGED, |out| {
                out.put(&counter.to_le_bytes());
                out.put(&image);
                out.put(&trust);
            }),
            JournalRecord::Requested => Encoded::new(KIND_REQUESTED, |_| ()),
            JournalRecord::Dropped { reason } => Encoded::new(KIND_DROPPED, |out| out.put(&reason.to_le_bytes())),
            JournalRecord::Reverted { reason } => Encoded::new(KIND_REVERTED, |out| out.put(&reason.to_le_bytes())),
        }
    }

    /// Decodes a whole record.
    pub fn decode(bytes: &[u8]) -> Option<JournalRecord> {
        let (kind, mut rest) = open(bytes)?;
        Some(match kind {
            KIND_COMMITTED => JournalRecord::Committed {
                release: rest.release()?,
                version: rest.version()?,
            },
            KIND_PENDING => {
                let (release, head_start, head_len) = (rest.release()?, rest.u32()?, rest.u32()?);
                let (len, sha) = (rest.u32()?, rest.take()?);
                let upload = Upload { len, sha };
                JournalRecord::Pending {
                    release,
                    head_start,
                    head_len,
                    upload,
                    version: rest.version()?,
                }
            }
            KIND_HEAD => JournalRecord::HeadStored,
            KIND_PAYLOAD => {
                let (offset, [ordinal, members_left]) = (rest.u32()?, rest.take()?);
                JournalRecord::Payload {
                    ordinal,
                    offset,
                    members_left,
                }
            }
            KIND_CHUNKS => JournalRecord::Chunks { count: rest.u32()? },
            KIND_STAGED => {
                let (counter, image, trust) = (rest.u32()?, rest.take()?, rest.take()?);
                JournalRecord::Staged { image, counter, trust }
            }
            KIND_REQUESTED => JournalRecord::Requested,
            KIND_DROPPED => JournalRecord::Dropped {
                reason: u16::from_le_bytes(rest.take()?),
            },
            KIND_REVERTED => JournalRecord::Reverted {
                reason: u16::from_le_bytes(rest.take()?),
            },
            _ => return None,
        })
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

/// Fills a buffer from the front; what does not fit is left out (all records here are checked to fit by golden tests).
struct Fill<'b>(&'b mut [u8]);

impl Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some((front, rest)) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            front.copy_from_slice(bytes);
            self.0 = rest;
        }
    }

    fn version(&mut self, version: Option<Version>) {
        let version = version.unwrap_or_default();
        self.put(&[version.parts().len() as u8]);
        version.parts().iter().for_each(|part| self.put(&part.to_le_bytes()));
    }

    fn release(&mut self, release: &ReleaseId) {
        self.put(&release.domain);
        self.put(&release.sequence.to_le_bytes());
        self.put(&release.digest);
    }
}

struct Take<'b>(&'b [u8]);

impl Take<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn release(&mut self) -> Option<ReleaseId> {
        Some(ReleaseId {
            domain: self.take()?,
            sequence: self.u64()?,
            digest: self.take()?,
        })
    }

    fn version(&mut self) -> Option<Option<Version>> {
        let [len] = self.take()?;
        let mut parts = [0; crate::plan::VERSION_PARTS_MAX];
        for part in parts.get_mut(..usize::from(len))? {
            *part = self.u64()?;
        }
        Some(Version::new(parts.get(..usize::from(len))?))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn records() -> Vec<JournalRecord> {
        let release = ReleaseId {
            domain: [1; 16],
            sequence: 0x0102_0304_0506,
            digest: [2; 32],
        };
        std::vec![
            JournalRecord::Committed {
                release,
                version: Version::new(&[1, 2, 3, 4, u64::MAX])
            },
            JournalRecord::Committed { release, version: None },
            JournalRecord::Pending {
                release,
                head_start: 555,
                head_len: 777,
                upload: Upload { sha: [3; 32], len: 99 },
                version: Version::new(&[9, 8, 7, 6, 5]),
            },
            JournalRecord::HeadStored,
            JournalRecord::Payload {
                ordinal: 2,
                offset: 500,
                members_left: 3,
            },
            JournalRecord::Chunks { count: 7 },
            JournalRecord::Staged {
                image: [4; 32],
                counter: 5,
                trust: [6; 8],
            },
            JournalRecord::Requested,
            JournalRecord::Dropped { reason: 509 },
            JournalRecord::Reverted { reason: 931 },
        ]
    }

    #[test]
    fn records_come_back_and_a_changed_bit_is_found() {
        for record in records() {
            let encoded = record.encode();
            assert_eq!(
                record_units(encoded.as_bytes()),
                Some(encoded.as_bytes().len() / UNIT_BYTES)
            );
            assert_eq!(JournalRecord::decode(encoded.as_bytes()), Some(record));
            let mut bytes = encoded.as_bytes().to_vec();
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let whole = record_units(&bytes).and_then(|units| bytes.get(..units * UNIT_BYTES));
                assert_eq!(whole.and_then(JournalRecord::decode), None, "{record:?} bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn erased_flash_is_no_record() {
        for erased in [0u8, 0xff] {
            let unit = [erased; UNIT_BYTES];
            assert!(record_units(&unit).is_none());
            assert!(HalfHeader::decode(&unit).is_none() && BootEvent::decode(&unit).is_none());
        }
    }

    #[test]
    fn golden_store_header() {
        let header = StoreHeader {
            generation: 3,
            lifecycle: Lifecycle::Deployed,
            root_len: 628,
            list_len: 5,
            time_floor: 0x6a00_0000,
            counters: [7, 0, 0, 0],
            pinned: Some([0xab; 32]),
            edition: 0x0908,
            wiping: false,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..16], *b"AMPTRUST\x01\x00\x03\x01\x03\x00\x00\x00");
        assert_eq!(
            bytes[16..36],
            [0x74, 2, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0x6a, 0, 0, 0, 0, 7, 0, 0, 0]
        );
        assert_eq!(bytes[48..80], [0xab; 32]);
        assert_eq!(bytes[80..84], [8, 9, 0, 0]);
        assert_eq!(bytes[84..], [0; 12]);
        assert_eq!(StoreHeader::parse(&bytes), Some(header));
        assert_eq!(header.extents(), Some((768, 800)));
        let mut other = bytes;
        other[95] = 1;
        assert_eq!(StoreHeader::parse(&other), None);
        // A digest that is not pinned, a flag that nobody knows.
        (other[95], other[11]) = (0, 0);
        assert_eq!(StoreHeader::parse(&other), None);
        other[11] = 4;
        assert_eq!(StoreHeader::parse(&other), None);
        // The wipe under way is one bit, beside the pin's.
        (other, other[11]) = (bytes, 3);
        let wiping = StoreHeader { wiping: true, ..header };
        assert_eq!(StoreHeader::parse(&other), Some(wiping));
        assert_eq!(wiping.to_bytes(), other);
    }

    #[test]
    fn what_a_store_says_of_starting() {
        let running = StoreHeader {
            generation: 1,
            lifecycle: Lifecycle::Rma,
            root_len: 628,
            list_len: 0,
            time_floor: 0,
            counters: [0; COUNTERS_MAX],
            pinned: None,
            edition: 1,
            wiping: false,
        };
        let rootless = StoreHeader { root_len: 0, ..running };
        let ended = StoreHeader {
            lifecycle: Lifecycle::Decommissioned,
            ..running
        };
        let wiping = |header| StoreHeader { wiping: true, ..header };
        assert_eq!(running.may_run(), Ok(()));
        assert_eq!(rootless.may_run(), Err(Reason::NoRoot));
        // Even if a root were there.
        assert_eq!(ended.may_run(), Err(Reason::Decommissioned));
        for header in [running, rootless, ended] {
            assert_eq!(wiping(header).may_run(), Err(Reason::WipeUnfinished));
        }
    }

    #[test]
    fn golden_lifecycle_requests() {
        let deployed = LifecycleRequest::Advance(Lifecycle::Deployed);
        let golden = [
            (deployed, [1, 0, 1, 3, 0, 0, 0, 0]),
            (LifecycleRequest::LeaveDevelopment, [1, 0, 2, 0, 0, 0, 0, 0]),
        ];
        for (request, bytes) in golden {
            assert_eq!(request.to_bytes(), bytes);
            assert_eq!(LifecycleRequest::parse(&bytes), Ok(request));
            assert_eq!(LifecycleRequest::parse(&bytes[..7]), Err(Reason::RequestMalformed));
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(LifecycleRequest::parse(&longer), Err(Reason::RequestMalformed));
            for at in (0..8).filter(|at| *at != 3) {
                let mut bent = bytes;
                bent[at] ^= 0x10;
                assert_eq!(LifecycleRequest::parse(&bent), Err(Reason::RequestMalformed), "{at}");
            }
        }
        for state in 0..=255 {
            let parsed = LifecycleRequest::parse(&[1, 0, 1, state, 0, 0, 0, 0]);
            let known = Lifecycle::from_number(state).map(LifecycleRequest::Advance);
            assert_eq!(parsed, known.ok_or(Reason::LifecycleUnknown));
        }
        assert_eq!(LifecycleRequest::parse(&[]), Err(Reason::RequestMalformed));
        assert_eq!(
            LifecycleRequest::parse(&[1, 0, 2, 3, 0, 0, 0, 0]),
            Err(Reason::RequestMalformed)
        );
    }

    #[test]
    fn golden_sealed() {
        let header = SealedHeader {
            generation: 0x0403_0201,
            body_len: 0x0807_0605,
        };
        let bytes = header.to_bytes();
        assert_eq!(
            bytes[..20],
            *b"AMP-SEAL\x01\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"
        );
        assert_eq!(bytes[20..], [0; 12]);
        assert_eq!(SealedHeader::parse(&bytes), Some(header));
        let head = SealedHead::new(b"identity", 0x0201, 0x0605_0403).unwrap();
        let bytes = head.to_bytes();
        assert_eq!(bytes[..18], *b"\x51\x08\x00\x00\x01\x02\x03\x04\x05\x06identity");
        assert_eq!(bytes[18..], [0; 14]);
        assert_eq!(SealedHead::parse(&bytes), Some(head));
        assert_eq!((head.name(), head.text_len()), (&b"identity"[..], 544));
        for (at, byte) in [(0, 0x50), (1, 0), (1, 23), (2, 1), (5, 4 + 1), (31, 1)] {
            let mut bent = bytes;
            bent[at] = byte;
            assert_eq!(SealedHead::parse(&bent), None, "byte {at}");
        }
        assert!(SealedHead::new(b"", 1, 1).is_none() && SealedHead::new(&[b'n'; 23], 1, 1).is_none());
        assert!(SealedHead::new(&[b'n'; 22], 1024, 1).is_some() && SealedHead::new(b"n", 1025, 1).is_none());
        let count = CountHeader { base: 0x0403_0201 };
        let bytes = count.to_bytes();
        assert_eq!(
            bytes[..20],
            *b"AMPCOUNT\x01\x00\x00\x00\x01\x02\x03\x04\xfe\xfd\xfc\xfb"
        );
        assert_eq!(CountHeader::parse(&bytes), Some(count));
        for erased in [0, 0xff] {
            assert_eq!(SealedHeader::parse(&[erased; 32]), None);
            assert_eq!(SealedHead::parse(&[erased; 32]), None);
            assert_eq!(CountHeader::parse(&[erased; 32]), None);
        }
    }

    #[test]
    fn golden_mail() {
        let header = MailHeader {
            kind: MailKind::Revoke,
            len: 0x0102_0304,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..16], *b"AMP-MAIL\x01\x00\x02\x00\x04\x03\x02\x01");
        assert_eq!(bytes[16..], [0; 16]);
        assert_eq!(MailHeader::parse(&bytes), Some(header));
        for bit in 0..8 * 12 {
            let mut bent = bytes;
            bent[bit / 8] ^= 1 << (bit % 8);
            let kind = MailHeader::parse(&bent).map(|bent| bent.kind);
            // Bits of the kind may make another kind; nothing else may change and still be read.
            assert!(kind.is_none() || bit / 8 == 10, "bit {bit}");
        }
        assert_eq!(MailHeader::parse(&[0xff; 32]), None);
        assert_eq!(MailHeader::parse(&[0; 32]), None);
    }

    #[test]
    fn golden_records() {
        let event = BootEvent {
            kind: BootEventKind::Revert,
            reason: 931,
            digest: [9; 8],
            version: (1, 2, 0x0304, 0x0506_0708),
        };
        assert_eq!(BootEvent::decode(event.encode().as_bytes()), Some(event));
        assert_eq!(
            event.encode().as_bytes()[8..28],
            [2, 1, 0xa3, 3, 2, 0, 4, 3, 8, 7, 6, 5, 9, 9, 9, 9, 9, 9, 9, 9]
        );
        let half = HalfHeader { generation: 2 };
        assert_eq!(HalfHeader::decode(half.encode().as_bytes()), Some(half));
        assert_eq!(half.encode().as_bytes()[..4], [1, 1, 0, 0]);
        assert_eq!(half.encode().as_bytes()[8..20], *b"AMPLOG\x01\x00\x02\x00\x00\x00");
        // The check value is the common CRC-32 ("123456789" gives cbf43926).
        assert_eq!(check_value(b"1234\0\0\0\0"), check_value(b"1234abcd"));
        let units: Vec<_> = records()
            .iter()
            .map(|record| record.encode().as_bytes().len() / UNIT_BYTES)
            .collect();
        assert_eq!(units, [4, 3, 5, 1, 1, 1, 2, 1, 1, 1]);
    }
}
