//! The Simple Management Protocol (SMP, mcumgr): console framing, bodies, and a client without I/O.
//!
//! ```text
//! serial bytes -> Deframer -> message -> Header::split -> Request::decode -> the device acts
//! serial bytes <- frame()  <- message <-      Response::encode           <-
//! ```
//!
//! A message is an 8-byte header and one CBOR map. Existing clients must work, so groups 0 and 1 answer with what those
//! clients know (a standard `rc`, our reason as text in `rsn`); what is only ours stands in group 64.

pub mod client;
pub mod frame;
pub mod map;
mod put;
pub mod request;
pub mod response;

pub use frame::{Deframer, frame};
pub use request::{Piece, Request, Start};
pub use response::{DeviceInfo, ImageState, Response, SlotSize, UpdateState};

use crate::Reason;

/// Bytes of the header before every body.
pub const HEADER_BYTES: usize = 8;
/// UDP port of SMP.
pub const UDP_PORT: u16 = 1337;
/// Version bits of the current protocol. Older clients send 0; answers repeat what the request had.
pub const VERSION: u8 = 1;

/// Group numbers.
pub mod group {
    /// The device itself: echo, reset, buffer sizes.
    pub const OS: u16 = 0;
    /// Images: list, upload, test, confirm, erase.
    pub const IMAGE: u16 = 1;
    /// Ampoule's own commands.
    pub const AMPOULE: u16 = 64;
}

/// Command numbers, unique within their group.
pub mod command {
    /// Group OS, write (read accepted): gives back a text.
    pub const ECHO: u8 = 0;
    /// Group OS, write: switches console echo.
    pub const ECHO_CONTROL: u8 = 1;
    /// Group OS, write: restarts the device.
    pub const RESET: u8 = 5;
    /// Group OS, read: buffer sizes.
    pub const PARAMETERS: u8 = 6;
    /// Group OS, read: what runs.
    pub const APPLICATION_INFO: u8 = 7;
    /// Group OS, read: what starts it.
    pub const BOOTLOADER_INFO: u8 = 8;

    /// Group IMAGE, read: list of images; write: test or confirm one.
    pub const IMAGE_STATE: u8 = 0;
    /// Group IMAGE, write: a piece of an upload.
    pub const IMAGE_UPLOAD: u8 = 1;
    /// Group IMAGE, write: erases a slot.
    pub const IMAGE_ERASE: u8 = 5;
    /// Group IMAGE, read: sizes of the slots.
    pub const SLOT_INFO: u8 = 6;

    /// Group AMPOULE, write: a piece of the first trust root, or of a file that changes it.
    pub const PROVISION: u8 = 0;
    /// Group AMPOULE, read: identity, environment, counters, state of the last update.
    pub const DEVICE_INFO: u8 = 1;
    /// Group AMPOULE, read: what happened, for the server.
    pub const REPORT: u8 = 2;
    /// Group AMPOULE, write: asks for a step of the device's life.
    pub const LIFECYCLE: u8 = 3;
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Asks.
    Read,
    /// Answers [`Op::Read`].
    ReadResponse,
    /// Demands.
    Write,
    /// Answers [`Op::Write`].
    WriteResponse,
}

impl Op {
    /// The operation that answers this one; `None` for answers.
    pub const fn response(self) -> Option<Op> {
        match self {
            Op::Read => Some(Op::ReadResponse),
            Op::Write => Some(Op::WriteResponse),
            Op::ReadResponse | Op::WriteResponse => None,
        }
    }
}

/// The header of a message; all integers are big-endian on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the message is.
    pub op: Op,
    /// 0 or [`VERSION`]; two bits on the wire.
    pub version: u8,
    /// No flags are defined.
    pub flags: u8,
    /// Bytes of the body.
    pub len: u16,
    /// See [`group`].
    pub group: u16,
    /// Number that an answer repeats.
    pub sequence: u8,
    /// See [`command`].
    pub command: u8,
}

impl Header {
    /// Reads a header. The reserved bits are ignored; an operation that does not exist is
    /// [`Reason::RequestMalformed`], and nobody could answer it.
    pub const fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Reason> {
        let [first, flags, l0, l1, g0, g1, sequence, command] = *bytes;
        let op = match first & 0x07 {
            0 => Op::Read,
            1 => Op::ReadResponse,
            2 => Op::Write,
            3 => Op::WriteResponse,
            _ => return Err(Reason::RequestMalformed),
        };
        Ok(Header {
            op,
            version: (first >> 3) & 0x03,
            flags,
            len: u16::from_be_bytes([l0, l1]),
            group: u16::from_be_bytes([g0, g1]),
            sequence,
            command,
        })
    }

    /// The header of a message and the bytes behind it, whose number [`Request::decode`] compares with `len`.
    /// Error: [`Reason::RequestMalformed`], too short or no operation; such a message cannot be answered.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), Reason> {
        let (header, body) = message.split_first_chunk().ok_or(Reason::RequestMalformed)?;
        Ok((Header::parse(header)?, body))
    }

    /// The 8 bytes.
    pub const fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let op = match self.op {
            Op::Read => 0,
            Op::ReadResponse => 1,
            Op::Write => 2,
            Op::WriteResponse => 3,
        };
        let [l0, l1] = self.len.to_be_bytes();
        let [g0, g1] = self.group.to_be_bytes();
        [
            (self.version & 0x03) << 3 | op,
            self.flags,
            l0,
            l1,
            g0,
            g1,
            self.sequence,
            self.command,
        ]
    }

    /// Bytes of the whole message that starts with this header, for transports that split messages.
    pub const fn message_len(&self) -> usize {
        HEADER_BYTES + self.len as usize
    }
}

/// The standard error numbers (`MGMT_ERR`); clients refuse others in groups 0 and 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MgmtErr {
    /// No error.
    Ok = 0,
    /// Something failed, such as the flash.
    Unknown = 1,
    /// No room.
    NoMemory = 2,
    /// The request is wrong.
    Invalid = 3,
    /// It took too long.
    Timeout = 4,
    /// There is no such thing.
    NoEntry = 5,
    /// Not in the present state.
    BadState = 6,
    /// The answer does not fit.
    MessageSize = 7,
    /// The device does not do this.
    NotSupported = 8,
    /// The data is damaged.
    Corrupt = 9,
    /// Something else is under way.
    Busy = 10,
    /// Not allowed.
    AccessDenied = 11,
    /// The protocol version is too old.
    TooOld = 12,
    /// The protocol version is too new.
    TooNew = 13,
}

impl From<Reason> for MgmtErr {
    /// The standard number closest to a reason. The reason itself travels beside it.
    fn from(reason: Reason) -> MgmtErr {
        match reason {
            Reason::RequestMalformed | Reason::NotARelease | Reason::UploadLength | Reason::ImageSize => {
                MgmtErr::Invalid
            }
            Reason::NotSupported | Reason::LayoutRefused => MgmtErr::NotSupported,
            Reason::HashUnknown => MgmtErr::NoEntry,
            Reason::StateFull => MgmtErr::NoMemory,
            Reason::InstallRunning | Reason::ResetVetoed | Reason::RootStaged => MgmtErr::Busy,
            Reason::StorageFailed | Reason::FetchFailed => MgmtErr::Unknown,
            Reason::PermanentRefused
            | Reason::RevertRefused
            | Reason::RawImageRefused
            | Reason::ImageSignature
            | Reason::ImageThreshold => MgmtErr::AccessDenied,
            Reason::StateCorrupt | Reason::StoreCorrupt => MgmtErr::Corrupt,
            _ => by_range(reason.number()),
        }
    }
}

/// The error number of a whole range of reasons.
const fn by_range(number: u16) -> MgmtErr {
    match number {
        // Signatures and trust: the release says nothing wrong, but nobody may say it.
        210..=219 | 800..=899 => MgmtErr::AccessDenied,
        // For another device or version.
        600..=606 | 611..=612 | 909..=919 => MgmtErr::Invalid,
        // Too old, on trial, reverted, not provisioned: another time the same request may do.
        600..=699 | 930..=942 | 944..=945 | 1000..=1099 => MgmtErr::BadState,
        _ => MgmtErr::Corrupt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_documented_layout() {
        let header = Header {
            op: Op::Write,
            version: 1,
            flags: 0,
            len: 0x0102,
            group: 0x0304,
            sequence: 5,
            command: 6,
        };
        let bytes = [0x0a, 0, 1, 2, 3, 4, 5, 6];
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(Header::parse(&bytes), Ok(header));
        assert_eq!(header.message_len(), 8 + 0x0102);
        for first in 0..=255 {
            let parsed = Header::parse(&[first, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(parsed.is_ok(), first & 0x07 < 4, "{first:#x}");
            assert!(parsed.is_err() || parsed.is_ok_and(|h| h.to_bytes()[0] == first & 0x1f));
        }
        assert_eq!(Header::split(&bytes[..7]), Err(Reason::RequestMalformed));
        assert_eq!(Header::split(&bytes), Ok((header, &[][..])));
    }

    #[test]
    fn every_reason_has_a_standard_number() {
        for reason in Reason::ALL {
            let rc = MgmtErr::from(*reason) as u8;
            assert!((1..=13).contains(&rc), "{reason:?}");
        }
        for (reason, rc) in [
            (Reason::SeqRollback, MgmtErr::BadState),
            (Reason::CounterRollback, MgmtErr::BadState),
            (Reason::TrialRunning, MgmtErr::BadState),
            (Reason::NotSelfTested, MgmtErr::BadState),
            (Reason::ClassMismatch, MgmtErr::Invalid),
            (Reason::AuthThreshold, MgmtErr::AccessDenied),
            (Reason::RootOldThreshold, MgmtErr::AccessDenied),
            (Reason::ChunkDigest, MgmtErr::Corrupt),
            (Reason::CborMalformed, MgmtErr::Corrupt),
            (Reason::ResetVetoed, MgmtErr::Busy),
            (Reason::HashUnknown, MgmtErr::NoEntry),
            (Reason::RequestMalformed, MgmtErr::Invalid),
            (Reason::NotSupported, MgmtErr::NotSupported),
            (Reason::StoreCorrupt, MgmtErr::Corrupt),
            (Reason::Decommissioned, MgmtErr::BadState),
            (Reason::WipeUnfinished, MgmtErr::BadState),
        ] {
            assert_eq!(MgmtErr::from(reason), rc, "{reason:?}");
        }
    }
}
