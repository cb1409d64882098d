//! What a device answers.

use super::request::truth;
use super::{HEADER_BYTES, Header, MgmtErr, group};
use crate::Reason;
use crate::cbor::{self, Full, Kind, Writer};
use crate::mcuboot::ImageVersion;
use crate::plan::Uuid;
use crate::record::Lifecycle;

/// Bytes that the room for an answer has at least: every refusal fits.
pub const RESPONSE_BYTES_MIN: usize = 64;

/// An answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response<'a> {
    /// Done; there is nothing to say.
    Done,
    /// The text of an echo.
    Echo(&'a str),
    /// Buffer sizes.
    Parameters(Parameters),
    /// What runs.
    ApplicationInfo(&'a str),
    /// Name of the bootloader.
    Bootloader(&'a str),
    /// How the bootloader updates (answer to the query `mode`).
    BootloaderMode {
        /// Such as [`MODE_SWAP_OFFSET`].
        mode: u8,
        /// Older images are refused.
        no_downgrade: bool,
    },
    /// The images in the slots.
    Images(&'a [ImageState]),
    /// The offset that an upload must continue with; its length at the end.
    Uploaded {
        /// Offset of the next byte.
        offset: u32,
        /// At the end, when the sender announced a hash: whether the file has it.
        matches: Option<bool>,
    },
    /// Sizes of the slots.
    Slots {
        /// The slots of image 0.
        slots: &'a [SlotSize],
        /// Bytes of the largest image.
        image_bytes_max: u32,
    },
    /// State of the device.
    Device(DeviceInfo),
    /// The device's report, already encoded.
    Report(&'a [u8]),
    /// The device refuses.
    Refused(Reason),
}

/// `mode` of a bootloader that swaps without scratch area.
pub const MODE_SWAP_OFFSET: u8 = 3;
/// Name that clients expect of a bootloader that handles this image format.
pub const BOOTLOADER_NAME: &str = "MCUboot";

/// Buffers of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Bytes of the largest message, header included.
    pub buf_size: u32,
    /// Messages that may be under way at once.
    pub buf_count: u32,
}

/// An image in a slot, as its bootloader would judge it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImageState {
    /// 0 primary, 1 secondary.
    pub slot: u8,
    /// Version in its header.
    pub version: ImageVersion,
    /// Its hash TLV: SHA-256 of what is signed. Not the hash of an uploaded file.
    pub hash: Option<[u8; 32]>,
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

/// A slot and its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotSize {
    /// 0 primary, 1 secondary.
    pub slot: u8,
    /// Bytes of the whole slot.
    pub size: u32,
    /// Uploads go there.
    pub takes_uploads: bool,
}

/// What is going on with updates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum UpdateState {
    /// Nothing: a confirmed image runs.
    Idle = 0,
    /// A release is being received.
    Receiving = 1,
    /// A verified image waits for the next reset.
    Staged = 2,
    /// The running image is on trial.
    Trial = 3,
    /// No image runs: the bootloader waits for one.
    Recovery = 4,
}

impl UpdateState {
    /// The state with this number.
    pub const fn from_number(number: u32) -> Option<UpdateState> {
        Some(match number {
            0 => UpdateState::Idle,
            1 => UpdateState::Receiving,
            2 => UpdateState::Staged,
            3 => UpdateState::Trial,
            4 => UpdateState::Recovery,
            _ => return None,
        })
    }
}

/// State of the device, group AMPOULE command 1. Keys in brackets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// Vendor (`vendor`).
    pub vendor: Uuid,
    /// Device class (`class`).
    pub class: Uuid,
    /// This single device (`device`), once it has an identity.
    pub device: Option<Uuid>,
    /// Lifecycle (`life`).
    pub lifecycle: Lifecycle,
    /// The trust root, once there is one (`root`, `production`).
    pub root: Option<RootInfo>,
    /// What is going on (`state`).
    pub state: UpdateState,
    /// Version of the running image (`version`), absent in recovery.
    pub version: Option<ImageVersion>,
    /// Stored security counter (`counter`).
    pub counter: u32,
    /// Lowest security counter that the device still takes (`floor`).
    pub floor: u32,
    /// Sequence number of the confirmed release (`sequence`), once there was one.
    pub sequence: Option<u64>,
    /// Why the last update did not stay, or the last request of the bootloader failed (`last`); absent when all is well.
    pub last: Option<Reason>,
}

/// The trust root that a device holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootInfo {
    /// Its version.
    pub version: u32,
    /// It is a production root, not one for development.
    pub production: bool,
}

impl Response<'_> {
    /// Writes the whole message that answers the request with this header to the start of `out`; gives its bytes.
    ///
    /// An answer that does not fit becomes a refusal with [`Reason::Limit`]; nothing at all is written when `out` has
    /// fewer than [`RESPONSE_BYTES_MIN`] bytes and that does not fit either, or when `request` is not a request.
    pub fn encode<'b>(&self, request: &Header, out: &'b mut [u8]) -> &'b [u8] {
        let len = self
            .try_encode(request, out)
            .or_else(|Full| Response::Refused(Reason::Limit).try_encode(request, out))
            .unwrap_or(0);
        out.get(..len).unwrap_or(&[])
    }

    fn try_encode(&self, request: &Header, out: &mut [u8]) -> Result<usize, Full> {
        let op = request.op.response().ok_or(Full)?;
        let (head, room) = out.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Full)?;
        let body_len = cbor::encode(room, |writer| self.write(request.group, writer))?.len();
        let len = u16::try_from(body_len).map_err(|_| Full)?;
        let header = Header {
            op,
            flags: 0,
            len,
            ..*request
        };
        *head = header.to_bytes();
        Ok(header.message_len())
    }

    fn write(&self, group: u16, writer: &mut Writer<'_>) {
        match self {
            Response::Done => {
                writer.map(0);
            }
            Response::Echo(text) => {
                writer.map(1).text("r").text(text);
            }
            Response::Parameters(parameters) => {
                writer.map(2).text("buf_size").uint(u64::from(parameters.buf_size));
                writer.text("buf_count").uint(u64::from(parameters.buf_count));
            }
            Response::ApplicationInfo(text) => {
                writer.map(1).text("output").text(text);
            }
            Response::Bootloader(name) => {
                writer.map(1).text("bootloader").text(name);
            }
            Response::BootloaderMode { mode, no_downgrade } => {
                writer
                    .map(1 + usize::from(*no_downgrade))
                    .text("mode")
                    .uint(u64::from(*mode));
                if *no_downgrade {
                    writer.text("no-downgrade").truth();
                }
            }
            Response::Images(images) => {
                writer.map(1).text("images").array(images.len());
                images.iter().for_each(|image| image.write(writer));
            }
            Response::Uploaded { offset, matches } => {
                writer
                    .map(1 + usize::from(matches.is_some()))
                    .text("off")
                    .uint(u64::from(*offset));
                if let Some(matches) = matches {
                    truth(writer.text("match"), *matches);
                }
            }
            Response::Slots { slots, image_bytes_max } => write_slots(slots, *image_bytes_max, writer),
            Response::Device(info) => info.write(writer),
            Response::Report(report) => {
                writer.map(1).text("report").bytes(report);
            }
            Response::Refused(reason) => write_refusal(*reason, group, writer),
        }
    }
}

/// Existing clients know the standard groups' numbers only and refuse keys that they do not know; `rsn` they show.
fn write_refusal(reason: Reason, group: u16, writer: &mut Writer<'_>) {
    if group == group::AMPOULE {
        writer.map(1).text("rc").uint(u64::from(reason.number()));
        return;
    }
    writer.map(2).text("rc").uint(MgmtErr::from(reason) as u64);
    let number = Decimal::new(u32::from(reason.number()));
    let name = reason.name();
    writer
        .text("rsn")
        .head(Kind::Text, (number.as_bytes().len() + 1 + name.len()) as u64);
    writer.raw(number.as_bytes()).raw(b" ").raw(name.as_bytes());
}

impl ImageState {
    fn write(&self, writer: &mut Writer<'_>) {
        let flags = [
            ("bootable", self.bootable),
            ("pending", self.pending),
            ("confirmed", self.confirmed),
            ("active", self.active),
            ("permanent", self.permanent),
        ];
        writer.map(2 + usize::from(self.hash.is_some()) + flags.len());
        writer.text("slot").uint(u64::from(self.slot));
        write_version(self.version, writer.text("version"));
        if let Some(hash) = &self.hash {
            writer.text("hash").bytes(hash);
        }
        // They may be left out when false, but some clients show only what is there.
        for (name, set) in flags {
            truth(writer.text(name), set);
        }
    }
}

fn write_slots(slots: &[SlotSize], image_bytes_max: u32, writer: &mut Writer<'_>) {
    writer.map(1).text("images").array(1);
    writer.map(3).text("image").uint(0).text("slots").array(slots.len());
    for slot in slots {
        writer.map(2 + usize::from(slot.takes_uploads));
        writer.text("slot").uint(u64::from(slot.slot));
        writer.text("size").uint(u64::from(slot.size));
        if slot.takes_uploads {
            writer.text("upload_image_id").uint(0);
        }
    }
    writer.text("max_image_size").uint(u64::from(image_bytes_max));
}

impl DeviceInfo {
    fn write(&self, writer: &mut Writer<'_>) {
        let optional = [
            self.device.is_some(),
            self.root.is_some(),
            self.root.is_some(),
            self.version.is_some(),
            self.sequence.is_some(),
            self.last.is_some(),
        ];
        writer.map(6 + optional.iter().filter(|there| **there).count());
        writer.text("vendor").bytes(&self.vendor);
        writer.text("class").bytes(&self.class);
        writer.text("life").uint(self.lifecycle as u64);
        writer.text("state").uint(self.state as u64);
        writer.text("counter").uint(u64::from(self.counter));
        writer.text("floor").uint(u64::from(self.floor));
        if let Some(device) = &self.device {
            writer.text("device").bytes(device);
        }
        if let Some(root) = &self.root {
            writer.text("root").uint(u64::from(root.version));
            truth(writer.text("production"), root.production);
        }
        if let Some(version) = self.version {
            write_version(version, writer.text("version"));
        }
        if let Some(sequence) = self.sequence {
            writer.text("sequence").uint(sequence);
        }
        if let Some(last) = self.last {
            writer.text("last").uint(u64::from(last.number()));
        }
    }
}

/// Writes `x.y.z`, or `x.y.z.b` when there is a build number, as clients expect it.
fn write_version(version: ImageVersion, writer: &mut Writer<'_>) {
    let parts = [
        Decimal::new(u32::from(version.major)),
        Decimal::new(u32::from(version.minor)),
        Decimal::new(u32::from(version.revision)),
        Decimal::new(version.build),
    ];
    let shown = if version.build == 0 { 3 } else { 4 };
    let digits: usize = parts.iter().take(shown).map(|part| part.as_bytes().len()).sum();
    writer.head(Kind::Text, (digits + shown - 1) as u64);
    for (at, part) in parts.iter().take(shown).enumerate() {
        if at != 0 {
            writer.raw(b".");
        }
        writer.raw(part.as_bytes());
    }
}

/// A number in decimal digits, without the formatting machinery.
#[derive(Clone, Copy)]
struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    fn new(mut number: u32) -> Self {
        let mut decimal = Decimal {
            digits: [0; 10],
            start: 10,
        };
        for place in decimal.digits.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            decimal.start -= 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or(&[])
    }
}
