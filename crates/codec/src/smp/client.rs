//! A client without I/O: it builds requests, recognises their answers and keeps the place in an upload. Whoever owns
//! the serial line or socket sends what [`Client::request`] gives, waits, and shows what came to [`Question::answer`].

use super::map::{Item, Items, Malformed, Map};
use super::request::{Piece, Request, Start};
use super::response::{DeviceInfo, Parameters, RootInfo, UpdateState};
use super::{Header, Op, group};
use crate::Reason;
use crate::cbor::Full;
use crate::mcuboot::ImageVersion;
use crate::record::Lifecycle;

/// How long to wait for an answer, in milliseconds.
pub const TIMEOUT_MILLIS: u32 = 2_500;
/// How long to wait for the answer to an upload's first piece or to an erase, in milliseconds: flash may be erased.
pub const FIRST_TIMEOUT_MILLIS: u32 = 40_000;
/// Bytes of `buf_size` left free: some devices count length and CRC of the console framing into it.
pub const FRAMING_BYTES: u32 = 4;
/// Answers of an upload that lead nowhere or back before it is given up, unless it got further than ever in between.
pub const STALLS_MAX: u8 = 16;

/// Numbers requests, so that their answers can be told apart.
#[derive(Clone, Debug, Default)]
pub struct Client {
    sequence: u8,
}

impl Client {
    /// A client whose first request has this number; a new process had better not start where the last one did.
    pub const fn new(sequence: u8) -> Self {
        Client { sequence }
    }

    /// Writes a request to the start of `out`: the question to be answered, and the message to send.
    pub fn request<'b>(&mut self, request: &Request<'_>, out: &'b mut [u8]) -> Result<(Question, &'b [u8]), Full> {
        let (header, message) = request.encode(self.sequence, out)?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok((Question(header), message))
    }
}

/// A request that was sent and waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question(Header);

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure<'a> {
    /// The message answers another question, such as one given up earlier: wait on.
    NotMine,
    /// The message is not what the protocol demands.
    Malformed,
    /// The device refuses.
    Refused(Refusal<'a>),
}

impl From<Malformed> for Failure<'_> {
    fn from(_: Malformed) -> Self {
        Failure::Malformed
    }
}

/// A device's refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal<'a> {
    /// The group whose numbers `rc` has; `None` for the standard ones ([`MgmtErr`](super::MgmtErr)).
    pub group: Option<u16>,
    /// The number.
    pub rc: u32,
    /// Our reason, when the device gave one.
    pub reason: Option<Reason>,
    /// What the device says beside the number; may be empty.
    pub text: &'a str,
}

impl Question {
    /// The answer in a received message, if it is the one to this question.
    pub fn answer<'a>(&self, message: &'a [u8]) -> Result<Answer<'a>, Failure<'a>> {
        let (header, body) = Header::split(message).map_err(|_| Failure::Malformed)?;
        let expected = |op: Op| op.response() == Some(header.op);
        let same = header.sequence == self.0.sequence && header.group == self.0.group;
        if !same || header.command != self.0.command || !expected(self.0.op) {
            return Err(Failure::NotMine);
        }
        if body.len() != usize::from(header.len) {
            return Err(Failure::Malformed);
        }
        let body = Map::parse(body)?;
        match refusal(&body, header.group)? {
            Some(refusal) => Err(Failure::Refused(refusal)),
            None => Ok(Answer(body)),
        }
    }
}

/// `{"err": {"group", "rc"}}` of version 2, or `{"rc", "rsn"?}`; an `rc` of 0 is no refusal.
fn refusal<'a>(body: &Map<'a>, group: u16) -> Result<Option<Refusal<'a>>, Malformed> {
    if let Some(err) = body.map("err")? {
        let rc = err.uint("rc")?.ok_or(Malformed)?;
        let group = err
            .uint("group")?
            .and_then(|group| u16::try_from(group).ok())
            .ok_or(Malformed)?;
        let refusal = Refusal {
            group: Some(group),
            rc,
            reason: None,
            text: "",
        };
        return Ok((rc != 0).then_some(refusal));
    }
    let Some(rc) = body.find("rc")? else { return Ok(None) };
    let rc = match rc {
        Item::Uint(rc) => u32::try_from(rc).map_err(|_| Malformed)?,
        // Some servers let a negative errno through.
        Item::Negative(_) => u32::MAX,
        _ => return Err(Malformed),
    };
    let text = body.text("rsn")?.unwrap_or("");
    let number = if group == group::AMPOULE {
        u16::try_from(rc).ok()
    } else {
        leading_number(text)
    };
    let reason = number.and_then(Reason::from_number);
    let group = (group == group::AMPOULE).then_some(group);
    Ok((rc != 0).then_some(Refusal {
        group,
        rc,
        reason,
        text,
    }))
}

/// The number that a text such as `607 SEQ_ROLLBACK` begins with.
fn leading_number(text: &str) -> Option<u16> {
    text.split(' ').next()?.parse().ok()
}

/// A device's answer that is not a refusal. Each question has its own way to read it; the wrong one is
/// [`Malformed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a>(Map<'a>);

/// How far an upload is, according to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uploaded {
    /// Offset of the byte that the device wants next.
    pub offset: u32,
    /// At the end: whether the file has the announced hash.
    pub matches: Option<bool>,
}

/// An image in a slot of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeenImage<'a> {
    /// Number of the image; 0 when the device has only one.
    pub image: u32,
    /// 0 primary, 1 secondary.
    pub slot: u32,
    /// `x.y.z` or `x.y.z.b`.
    pub version: &'a str,
    /// Hash of what is signed.
    pub hash: Option<&'a [u8]>,
    /// It may start.
    pub bootable: bool,
    /// It starts next.
    pub pending: bool,
    /// It proved itself.
    pub confirmed: bool,
    /// It runs.
    pub active: bool,
    /// It starts next, and stays.
    pub permanent: bool,
}

impl<'a> Answer<'a> {
    /// The answer's map, for what has no function here.
    pub fn map(&self) -> Map<'a> {
        self.0
    }

    /// Text of an echo.
    pub fn echo(&self) -> Result<&'a str, Malformed> {
        self.0.text("r")?.ok_or(Malformed)
    }

    /// What runs.
    pub fn application_info(&self) -> Result<&'a str, Malformed> {
        self.0.text("output")?.ok_or(Malformed)
    }

    /// Name of the bootloader.
    pub fn bootloader(&self) -> Result<&'a str, Malformed> {
        self.0.text("bootloader")?.ok_or(Malformed)
    }

    /// Buffers of the device.
    pub fn parameters(&self) -> Result<Parameters, Malformed> {
        Ok(Parameters {
            buf_size: self.0.uint("buf_size")?.ok_or(Malformed)?,
            buf_count: self.0.uint("buf_count")?.ok_or(Malformed)?,
        })
    }

    /// Place in an upload.
    pub fn uploaded(&self) -> Result<Uploaded, Malformed> {
        Ok(Uploaded {
            offset: self.0.uint("off")?.ok_or(Malformed)?,
            matches: self.0.truth("match")?,
        })
    }

    /// The images in the slots.
    pub fn images(&self) -> Result<SeenImages<'a>, Malformed> {
        Ok(SeenImages(self.0.array("images")?))
    }

    /// State of an Ampoule device.
    pub fn device(&self) -> Result<DeviceInfo, Malformed> {
        let number = |key| self.0.uint(key)?.ok_or(Malformed);
        let life = u8::try_from(number("life")?).map_err(|_| Malformed)?;
        Ok(DeviceInfo {
            vendor: uuid(&self.0, "vendor")?.ok_or(Malformed)?,
            class: uuid(&self.0, "class")?.ok_or(Malformed)?,
            device: uuid(&self.0, "device")?,
            lifecycle: Lifecycle::from_number(life).ok_or(Malformed)?,
            root: root(&self.0)?,
            state: UpdateState::from_number(number("state")?).ok_or(Malformed)?,
            version: self.0.text("version")?.map(version).transpose()?,
            counter: number("counter")?,
            floor: number("floor")?,
            sequence: sequence(&self.0)?,
            last: last(&self.0)?,
        })
    }

    /// The device's report, as it encoded it.
    pub fn report(&self) -> Result<&'a [u8], Malformed> {
        self.0.bytes("report")?.ok_or(Malformed)
    }
}

/// The images of a list, each read when asked for.
#[derive(Clone, Copy, Debug)]
pub struct SeenImages<'a>(Items<'a>);

impl<'a> Iterator for SeenImages<'a> {
    type Item = Result<SeenImage<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.0.next()? {
            Item::Map(entry) => seen_image(&entry),
            _ => Err(Malformed),
        })
    }
}

fn seen_image<'a>(entry: &Map<'a>) -> Result<SeenImage<'a>, Malformed> {
    let flag = |key| Ok::<bool, Malformed>(entry.truth(key)?.unwrap_or(false));
    Ok(SeenImage {
        image: entry.uint("image")?.unwrap_or(0),
        slot: entry.uint("slot")?.ok_or(Malformed)?,
        version: entry.text("version")?.ok_or(Malformed)?,
        hash: entry.bytes("hash")?,
        bootable: flag("bootable")?,
        pending: flag("pending")?,
        confirmed: flag("confirmed")?,
        active: flag("active")?,
        permanent: flag("permanent")?,
    })
}

fn uuid(map: &Map<'_>, key: &str) -> Result<Option<[u8; 16]>, Malformed> {
    map.bytes(key)?
        .map(<[u8; 16]>::try_from)
        .transpose()
        .map_err(|_| Malformed)
}

fn root(map: &Map<'_>) -> Result<Option<RootInfo>, Malformed> {
    let Some(version) = map.uint("root")? else {
        return Ok(None);
    };
    let production = map.truth("production")?.ok_or(Malformed)?;
    Ok(Some(RootInfo { version, production }))
}

fn sequence(map: &Map<'_>) -> Result<Option<u64>, Malformed> {
    match map.find("sequence")? {
        None => Ok(None),
        Some(Item::Uint(sequence)) => Ok(Some(sequence)),
        Some(_) => Err(Malformed),
    }
}

/// A newer device may have reasons that this client does not know; they are not shown rather than misread.
fn last(map: &Map<'_>) -> Result<Option<Reason>, Malformed> {
    let number = map.uint("last")?.and_then(|number| u16::try_from(number).ok());
    Ok(number.and_then(Reason::from_number))
}

/// A version in the form of SMP: `x.y.z` or `x.y.z.b`.
pub fn version(text: &str) -> Result<ImageVersion, Malformed> {
    let mut parts = text.splitn(4, '.');
    let mut next = || parts.next().map(|part| part.parse::<u32>().map_err(|_| Malformed));
    let (major, minor, revision, build) = (next(), next(), next(), next());
    let narrow = |part: Option<Result<u32, Malformed>>| part.unwrap_or(Err(Malformed));
    Ok(ImageVersion {
        major: u8::try_from(narrow(major)?).map_err(|_| Malformed)?,
        minor: u8::try_from(narrow(minor)?).map_err(|_| Malformed)?,
        revision: u16::try_from(narrow(revision)?).map_err(|_| Malformed)?,
        build: build.unwrap_or(Ok(0))?,
    })
}

/// Where an upload goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// Group IMAGE: an image or a release.
    Image,
    /// Group AMPOULE: the first trust root.
    Root,
}

/// The place in an upload: which bytes to send next, whatever the device answered. It does not hold the file.
#[derive(Clone, Debug)]
pub struct Upload {
    destination: Destination,
    start: Start,
    /// What the device wants next.
    offset: u32,
    /// The largest offset that it ever wanted.
    furthest: u32,
    /// Answers that led nowhere or back since then.
    stalls: u8,
    done: bool,
}

/// Why an upload ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadFailure {
    /// The device's buffer has no room for a single byte of the file.
    BufferTooSmall,
    /// The device wants bytes behind the end of the file.
    BeyondEnd,
    /// The device received something else than was sent.
    Mismatch,
    /// [`STALLS_MAX`] answers led nowhere or back.
    Stalled,
}

impl Upload {
    /// An upload of a file of which `start` tells; its first piece also asks whether the device holds a part already.
    pub const fn new(destination: Destination, start: Start) -> Self {
        Upload {
            destination,
            start,
            offset: 0,
            furthest: 0,
            stalls: 0,
            done: false,
        }
    }

    /// The bytes to send next: offset and number, as many as fit a message for this device; `None` at the end.
    ///
    /// Send [`Upload::request`] of them. When no answer comes, send the same again.
    pub fn next(&self, buf_size: u32) -> Result<Option<(u32, u32)>, UploadFailure> {
        if self.done {
            return Ok(None);
        }
        // The head of a byte string takes 1 byte when it is empty and 3 when it is not small.
        let empty = self.request(&[]).encoded_len().saturating_add(2);
        let overhead = u32::try_from(empty).unwrap_or(u32::MAX).saturating_add(FRAMING_BYTES);
        let left = self.start.len.saturating_sub(self.offset);
        match buf_size.saturating_sub(overhead).min(MESSAGE_DATA_MAX).min(left) {
            0 if left != 0 => Err(UploadFailure::BufferTooSmall),
            len => Ok(Some((self.offset, len))),
        }
    }

    /// The request that carries these bytes of the file.
    pub fn request<'d>(&self, data: &'d [u8]) -> Request<'d> {
        let start = if self.offset == 0 { Some(self.start) } else { None };
        let piece = Piece {
            offset: self.offset,
            data,
            start,
        };
        match self.destination {
            Destination::Image => Request::Upload(piece),
            Destination::Root => Request::Provision(piece),
        }
    }

    /// Takes what the device answered: it goes on, back, or far ahead when it held a part already.
    pub fn on_response(&mut self, answer: Uploaded) -> Result<(), UploadFailure> {
        if answer.offset > self.start.len {
            return Err(UploadFailure::BeyondEnd);
        }
        if answer.matches == Some(false) {
            return Err(UploadFailure::Mismatch);
        }
        let advances = answer.offset > self.offset;
        self.offset = answer.offset;
        self.done = answer.offset == self.start.len;
        if answer.offset > self.furthest {
            self.furthest = answer.offset;
            self.stalls = 0;
        } else if !advances && !self.done {
            self.stalls = self.stalls.saturating_add(1);
        }
        if self.stalls >= STALLS_MAX {
            Err(UploadFailure::Stalled)
        } else {
            Ok(())
        }
    }

    /// Offset that the device wants next, for a progress bar.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Whether the device has all of it.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

/// Bytes of a file in one message at most, whatever buffers a device has: a message's length field has 16 bits.
const MESSAGE_DATA_MAX: u32 = 32_768;
