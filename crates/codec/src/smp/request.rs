//! What a client asks: decoded by devices, encoded by our client.

use super::map::Map;
use super::{HEADER_BYTES, Header, Op, VERSION, command, group, put};
use crate::Reason;
use crate::cbor::{self, Full, Writer};
use crate::record::{Lifecycle, LifecycleRequest};

/// The slot that is erased when a request names none.
const ERASE_SLOT_DEFAULT: u32 = 1;

/// A request of one of the groups OS, IMAGE and AMPOULE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// OS 0 `{"d": text}`: gives back the text.
    Echo(&'a str),
    /// OS 1: switches console echo; a device answers with nothing and does nothing.
    EchoControl,
    /// OS 5 `{"force"?, "boot_mode"?}`: restarts the device, once the answer is sent.
    Reset {
        /// Also when the application would rather not.
        force: bool,
        /// 0 = normal, 1 = recovery.
        boot_mode: u32,
    },
    /// OS 6: buffer sizes.
    Parameters,
    /// OS 7 `{"format"?}`: what runs.
    ApplicationInfo {
        /// Letters of what is wanted; empty = default.
        format: &'a str,
    },
    /// OS 8 `{"query"?}`: what starts it.
    BootloaderInfo {
        /// What is wanted of it; none = its name.
        query: Option<&'a str>,
    },
    /// IMAGE 0, read: list of images.
    ImageStates,
    /// IMAGE 0, write `{"hash"?, "confirm"?}`: test the image with this hash at the next reset, or make it permanent.
    SetImageState {
        /// Hash of the image's TLV; none = the running image. Of any length: the device compares.
        hash: Option<&'a [u8]>,
        /// Without trial (or after it).
        confirm: bool,
    },
    /// IMAGE 1: a piece of an image or release.
    Upload(Piece<'a>),
    /// IMAGE 5 `{"slot"?}`: erases a slot.
    Erase {
        /// 0 primary, 1 secondary (default).
        slot: u32,
    },
    /// IMAGE 6: sizes of the slots.
    SlotInfo,
    /// AMPOULE 0: a piece of the first trust root; same form as an upload.
    Provision(Piece<'a>),
    /// AMPOULE 1: identity, environment, counters, state.
    DeviceInfo,
    /// AMPOULE 2: what happened, for the server.
    Report,
    /// AMPOULE 3 `{"to": number}` or `{"leave": true}`: asks for a step of the device's life.
    Lifecycle(LifecycleRequest),
}

/// A piece of a file on its way into the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Offset of its first byte in the file. Not the expected one: no error, but the device answers what it expects.
    pub offset: u32,
    /// Its bytes; may be none.
    pub data: &'a [u8],
    /// What the sender says of the whole file, exactly in the piece of offset 0.
    pub start: Option<Start>,
}

/// What the first piece says of the whole file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Bytes of the file.
    pub len: u32,
    /// Number of the image it is for; 0 = default.
    pub image: u32,
    /// SHA-256 of the file, by which a device knows that it holds a part of it already.
    pub sha: Option<[u8; 32]>,
    /// Accept only a higher version than the running one.
    pub upgrade: bool,
}

impl<'a> Request<'a> {
    /// Reads the request with this header. Keys that it does not have are ignored, any well-formed CBOR will do.
    ///
    /// Errors, to be answered with [`Response::Refused`](super::Response::Refused): [`Reason::NotSupported`] there is no
    /// such request; [`Reason::LifecycleUnknown`] there is no such state; [`Reason::RequestMalformed`] the body is not
    /// one map of the announced length, a value is missing, of the wrong type, out of range or there twice.
    pub fn decode(header: &Header, body: &'a [u8]) -> Result<Self, Reason> {
        match Request::decode_in_recovery(header, body) {
            Err(Reason::NotSupported) => {}
            decoded => return decoded,
        }
        let body = Map::parse(body)?;
        match (header.group, header.command, header.op) {
            (group::OS, command::APPLICATION_INFO, Op::Read) => Ok(Request::ApplicationInfo {
                format: body.text("format")?.unwrap_or(""),
            }),
            (group::IMAGE, command::IMAGE_STATE, Op::Write) => set_image_state(&body),
            (group::IMAGE, command::IMAGE_ERASE, Op::Write) => Ok(Request::Erase {
                slot: body.uint("slot")?.unwrap_or(ERASE_SLOT_DEFAULT),
            }),
            (group::AMPOULE, command::REPORT, Op::Read) => Ok(Request::Report),
            (group::AMPOULE, command::LIFECYCLE, Op::Write) => lifecycle(&body),
            _ => Err(Reason::NotSupported),
        }
    }

    /// The same for what a bootloader answers: it does not read what it would refuse in any case.
    pub fn decode_in_recovery(header: &Header, body: &'a [u8]) -> Result<Self, Reason> {
        if body.len() != usize::from(header.len) {
            return Err(Reason::RequestMalformed);
        }
        let body = Map::parse(body)?;
        match (header.group, header.command, header.op) {
            (group::OS, command::ECHO, Op::Read | Op::Write) => Ok(Request::Echo(required(body.text("d")?)?)),
            (group::OS, command::ECHO_CONTROL, Op::Write) => Ok(Request::EchoControl),
            (group::OS, command::RESET, Op::Write) => Ok(Request::Reset {
                force: force(&body)?,
                boot_mode: body.uint("boot_mode")?.unwrap_or(0),
            }),
            (group::OS, command::PARAMETERS, Op::Read) => Ok(Request::Parameters),
            (group::OS, command::BOOTLOADER_INFO, Op::Read) => Ok(Request::BootloaderInfo {
                query: body.text("query")?,
            }),
            (group::IMAGE, command::IMAGE_STATE, Op::Read) => Ok(Request::ImageStates),
            (group::IMAGE, command::IMAGE_UPLOAD, Op::Write) => Ok(Request::Upload(Piece::read(&body)?)),
            (group::IMAGE, command::SLOT_INFO, Op::Read) => Ok(Request::SlotInfo),
            (group::AMPOULE, command::PROVISION, Op::Write) => Ok(Request::Provision(Piece::read(&body)?)),
            (group::AMPOULE, command::DEVICE_INFO, Op::Read) => Ok(Request::DeviceInfo),
            _ => Err(Reason::NotSupported),
        }
    }

    /// Group, command and operation.
    pub const fn address(&self) -> (u16, u8, Op) {
        match self {
            Request::Echo(_) => (group::OS, command::ECHO, Op::Write),
            Request::EchoControl => (group::OS, command::ECHO_CONTROL, Op::Write),
            Request::Reset { .. } => (group::OS, command::RESET, Op::Write),
            Request::Parameters => (group::OS, command::PARAMETERS, Op::Read),
            Request::ApplicationInfo { .. } => (group::OS, command::APPLICATION_INFO, Op::Read),
            Request::BootloaderInfo { .. } => (group::OS, command::BOOTLOADER_INFO, Op::Read),
            Request::ImageStates => (group::IMAGE, command::IMAGE_STATE, Op::Read),
            Request::SetImageState { .. } => (group::IMAGE, command::IMAGE_STATE, Op::Write),
            Request::Upload(_) => (group::IMAGE, command::IMAGE_UPLOAD, Op::Write),
            Request::Erase { .. } => (group::IMAGE, command::IMAGE_ERASE, Op::Write),
            Request::SlotInfo => (group::IMAGE, command::SLOT_INFO, Op::Read),
            Request::Provision(_) => (group::AMPOULE, command::PROVISION, Op::Write),
            Request::DeviceInfo => (group::AMPOULE, command::DEVICE_INFO, Op::Read),
            Request::Report => (group::AMPOULE, command::REPORT, Op::Read),
            Request::Lifecycle(_) => (group::AMPOULE, command::LIFECYCLE, Op::Write),
        }
    }

    /// Writes the whole message to the start of `out`; gives its header and its bytes.
    pub fn encode<'b>(&self, sequence: u8, out: &'b mut [u8]) -> Result<(Header, &'b [u8]), Full> {
        let (head, room) = out.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Full)?;
        let body_len = cbor::encode(room, |writer| self.write(writer))?.len();
        let (group, command, op) = self.address();
        let len = u16::try_from(body_len).map_err(|_| Full)?;
        let header = Header {
            op,
            version: VERSION,
            flags: 0,
            len,
            group,
            sequence,
            command,
        };
        *head = header.to_bytes();
        Ok((header, out.get(..header.message_len()).ok_or(Full)?))
    }

    /// Bytes of the whole message.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES.saturating_add(cbor::measure(|writer| self.write(writer)))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match *self {
            Request::Echo(text) => one_text(writer, "d", text),
            Request::Reset { force, boot_mode } => {
                put::map(writer, usize::from(force) + usize::from(boot_mode != 0));
                if force {
                    put::uint(writer, "force", 1);
                }
                if boot_mode != 0 {
                    put::uint(writer, "boot_mode", boot_mode);
                }
            }
            Request::ApplicationInfo { format: "" } => put::map(writer, 0),
            Request::ApplicationInfo { format } => one_text(writer, "format", format),
            Request::BootloaderInfo { query: Some(query) } => one_text(writer, "query", query),
            Request::SetImageState { hash, confirm } => {
                put::map(writer, 1 + usize::from(hash.is_some()));
                if let Some(hash) = hash {
                    put::bytes(writer, "hash", hash);
                }
                put::truth(writer, "confirm", confirm);
            }
            Request::Upload(piece) | Request::Provision(piece) => piece.write(writer),
            Request::Erase { slot } => {
                put::map(writer, 1);
                put::uint(writer, "slot", slot);
            }
            Request::Lifecycle(request) => {
                put::map(writer, 1);
                match request {
                    LifecycleRequest::Advance(state) => put::uint(writer, "to", state as u32),
                    LifecycleRequest::LeaveDevelopment => put::truth(writer, "leave", true),
                }
            }
            Request::EchoControl
            | Request::Parameters
            | Request::BootloaderInfo { query: None }
            | Request::ImageStates
            | Request::SlotInfo
            | Request::DeviceInfo
            | Request::Report => put::map(writer, 0),
        }
    }
}

fn one_text(writer: &mut Writer<'_>, key: &str, text: &str) {
    put::map(writer, 1);
    put::text(writer, key, text);
}

impl<'a> Piece<'a> {
    fn read(body: &Map<'a>) -> Result<Self, Reason> {
        let offset = required(body.uint("off")?)?;
        let data = required(body.bytes("data")?)?;
        // What is said of the whole file counts in the first piece only (sheet section 3.2).
        let start = if offset == 0 { Some(Start::read(body)?) } else { None };
        Ok(Piece { offset, data, start })
    }

    /// In the order of the documentation: image, len, off, sha, data.
    fn write(&self, writer: &mut Writer<'_>) {
        let Some(start) = &self.start else {
            put::map(writer, 2);
            put::uint(writer, "off", self.offset);
            put::bytes(writer, "data", self.data);
            return;
        };
        put::map(
            writer,
            4 + usize::from(start.sha.is_some()) + usize::from(start.upgrade),
        );
        put::uint(writer, "image", start.image);
        put::uint(writer, "len", start.len);
        put::uint(writer, "off", self.offset);
        if let Some(sha) = &start.sha {
            put::bytes(writer, "sha", sha);
        }
        put::bytes(writer, "data", self.data);
        if start.upgrade {
            put::truth(writer, "upgrade", true);
        }
    }
}

impl Start {
    fn read(body: &Map<'_>) -> Result<Self, Reason> {
        let sha = body.bytes("sha")?.map(<[u8; 32]>::try_from).transpose();
        Ok(Start {
            len: required(body.uint("len")?)?,
            image: body.uint("image")?.unwrap_or(0),
            sha: sha.map_err(|_| Reason::RequestMalformed)?,
            upgrade: body.truth("upgrade")?.unwrap_or(false),
        })
    }
}

/// Older clients say `force` as a number, newer ones as a truth value.
fn force(body: &Map<'_>) -> Result<bool, Reason> {
    match body.truth("force") {
        Ok(force) => Ok(force.unwrap_or(false)),
        Err(_) => Ok(required(body.uint("force")?)? != 0),
    }
}

fn set_image_state<'a>(body: &Map<'a>) -> Result<Request<'a>, Reason> {
    let hash = body.bytes("hash")?;
    let confirm = body.truth("confirm")?.unwrap_or(false);
    if hash.is_none() && !confirm {
        return Err(Reason::RequestMalformed);
    }
    Ok(Request::SetImageState { hash, confirm })
}

/// One step, not both.
fn lifecycle<'a>(body: &Map<'a>) -> Result<Request<'a>, Reason> {
    let (to, leave) = (body.uint("to")?, body.truth("leave")?);
    Ok(Request::Lifecycle(match (to, leave) {
        (Some(to), None | Some(false)) => {
            let state = u8::try_from(to).ok().and_then(Lifecycle::from_number);
            LifecycleRequest::Advance(state.ok_or(Reason::LifecycleUnknown)?)
        }
        (None, Some(true)) => LifecycleRequest::LeaveDevelopment,
        _ => return Err(Reason::RequestMalformed),
    }))
}

fn required<T>(value: Option<T>) -> Result<T, Reason> {
    value.ok_or(Reason::RequestMalformed)
}
