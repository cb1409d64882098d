//! What a device answers.

use super::{HEADER_BYTES, Header, MgmtErr, group, put};
use crate::Reason;
use crate::cbor::{self, Full, Writer};
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

/// Who answers, which decides what can be said.
#[derive(Clone, Copy)]
struct Voice {
    /// What a refusal calls its reason, beside the number.
    name: fn(Reason) -> &'static str,
    /// Writes the version of the image that runs.
    version: fn(ImageVersion, &mut Writer<'_>),
    /// Writes the answers that a bootloader never gives.
    more: fn(&Response<'_>, &mut Writer<'_>),
}

const APPLICATION: Voice = Voice {
    name: Reason::name,
    version: write_version,
    more: write_more,
};

/// Where flash is scarce, the number has to do for a reason, and there is nothing to say what nothing runs.
const BOOTLOADER: Voice = Voice {
    name: |_| "",
    version: |_, writer| put::text(writer, "version", ""),
    more: |_, writer| put::map(writer, 0),
};

impl Response<'_> {
    /// Writes the whole message that answers the request with this header to the start of `out`; gives its bytes.
    ///
    /// An answer that does not fit becomes a refusal with [`Reason::Limit`]; nothing at all is written when `out` has
    /// fewer than [`RESPONSE_BYTES_MIN`] bytes and that does not fit either, or when `request` is not a request.
    pub fn encode<'b>(&self, request: &Header, out: &'b mut [u8]) -> &'b [u8] {
        self.encode_as(APPLICATION, request, out)
    }

    /// The same as a bootloader says it, in less flash: reasons without their names, and nothing of running images.
    /// What it never says (application info, mode, a list with images, a report) comes out as [`Response::Done`].
    pub fn encode_in_recovery<'b>(&self, request: &Header, out: &'b mut [u8]) -> &'b [u8] {
        self.encode_as(BOOTLOADER, request, out)
    }

    fn encode_as<'b>(&self, voice: Voice, request: &Header, out: &'b mut [u8]) -> &'b [u8] {
        let len = self
            .try_encode(voice, request, out)
            .or_else(|Full| Response::Refused(Reason::Limit).try_encode(voice, request, out))
            .unwrap_or(0);
        out.get(..len).unwrap_or(&[])
    }

    fn try_encode(&self, voice: Voice, request: &Header, out: &mut [u8]) -> Result<usize, Full> {
        let op = request.op.response().ok_or(Full)?;
        let (head, room) = out.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Full)?;
        let body_len = cbor::encode(room, |writer| self.write(voice, request.group, writer))?.len();
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

    #[inline(never)]
    fn write(&self, voice: Voice, group: u16, writer: &mut Writer<'_>) {
        match *self {
            Response::Done => put::map(writer, 0),
            Response::Echo(text) => one_text(writer, "r", text),
            Response::Bootloader(name) => one_text(writer, "bootloader", name),
            Response::Parameters(parameters) => {
                put::map(writer, 2);
                put::uint(writer, "buf_size", parameters.buf_size);
                put::uint(writer, "buf_count", parameters.buf_count);
            }
            Response::Images([]) => {
                put::map(writer, 1);
                put::array(writer, "images", 0);
            }
            Response::Uploaded { offset, matches } => {
                put::map(writer, 1 + usize::from(matches.is_some()));
                put::uint(writer, "off", offset);
                if let Some(matches) = matches {
                    put::truth(writer, "match", matches);
                }
            }
            Response::Slots { slots, image_bytes_max } => write_slots(slots, image_bytes_max, writer),
            Response::Device(ref info) => info.write(voice, writer),
            Response::Refused(reason) => write_refusal(reason, (voice.name)(reason), group, writer),
            Response::ApplicationInfo(_)
            | Response::BootloaderMode { .. }
            | Response::Images(_)
            | Response::Report(_) => (voice.more)(self, writer),
        }
    }
}

/// What applications alone say.
fn write_more(response: &Response<'_>, writer: &mut Writer<'_>) {
    match *response {
        Response::ApplicationInfo(text) => one_text(writer, "output", text),
        Response::BootloaderMode { mode, no_downgrade } => {
            put::map(writer, 1 + usize::from(no_downgrade));
            put::uint(writer, "mode", u32::from(mode));
            if no_downgrade {
                put::truth(writer, "no-downgrade", true);
            }
        }
        Response::Images(images) => {
            put::map(writer, 1);
            put::array(writer, "images", images.len());
            images.iter().for_each(|image| image.write(writer));
        }
        Response::Report(report) => {
            put::map(writer, 1);
            put::bytes(writer, "report", report);
        }
        _ => put::map(writer, 0),
    }
}

fn one_text(writer: &mut Writer<'_>, key: &str, text: &str) {
    put::map(writer, 1);
    put::text(writer, key, text);
}

/// Existing clients know the standard groups' numbers only and refuse keys that they do not know; `rsn` they show.
fn write_refusal(reason: Reason, name: &str, group: u16, writer: &mut Writer<'_>) {
    if group == group::AMPOULE {
        put::map(writer, 1);
        put::uint(writer, "rc", u32::from(reason.number()));
        return;
    }
    put::map(writer, 2);
    put::uint(writer, "rc", MgmtErr::from(reason) as u32);
    let number = Decimal::new(u32::from(reason.number()));
    let gap: &[u8] = if name.is_empty() { b"" } else { b" " };
    put::parts(writer, "rsn", &[number.as_bytes(), gap, name.as_bytes()]);
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
        put::map(writer, 2 + usize::from(self.hash.is_some()) + flags.len());
        put::uint(writer, "slot", u32::from(self.slot));
        write_version(self.version, writer);
        if let Some(hash) = &self.hash {
            put::bytes(writer, "hash", hash);
        }
        // They may be left out when false, but some clients show only what is there.
        for (name, set) in flags {
            put::truth(writer, name, set);
        }
    }
}

fn write_slots(slots: &[SlotSize], image_bytes_max: u32, writer: &mut Writer<'_>) {
    put::map(writer, 1);
    put::array(writer, "images", 1);
    put::map(writer, 3);
    put::uint(writer, "image", 0);
    put::array(writer, "slots", slots.len());
    for slot in slots {
        put::map(writer, 2 + usize::from(slot.takes_uploads));
        put::uint(writer, "slot", u32::from(slot.slot));
        put::uint(writer, "size", slot.size);
        if slot.takes_uploads {
            put::uint(writer, "upload_image_id", 0);
        }
    }
    put::uint(writer, "max_image_size", image_bytes_max);
}

impl DeviceInfo {
    fn write(&self, voice: Voice, writer: &mut Writer<'_>) {
        let optional = [
            self.device.is_some(),
            self.root.is_some(),
            self.root.is_some(),
            self.version.is_some(),
            self.sequence.is_some(),
            self.last.is_some(),
        ];
        put::map(writer, 6 + optional.iter().filter(|there| **there).count());
        put::bytes(writer, "vendor", &self.vendor);
        put::bytes(writer, "class", &self.class);
        put::uint(writer, "life", self.lifecycle as u32);
        put::uint(writer, "state", self.state as u32);
        put::uint(writer, "counter", self.counter);
        put::uint(writer, "floor", self.floor);
        if let Some(device) = &self.device {
            put::bytes(writer, "device", device);
        }
        if let Some(root) = &self.root {
            put::uint(writer, "root", root.version);
            put::truth(writer, "production", root.production);
        }
        if let Some(version) = self.version {
            (voice.version)(version, writer);
        }
        if let Some(sequence) = self.sequence {
            writer.text("sequence").uint(sequence);
        }
        if let Some(last) = self.last {
            put::uint(writer, "last", u32::from(last.number()));
        }
    }
}

/// Writes `x.y.z`, or `x.y.z.b` when there is a build number, as clients expect it.
#[inline(never)]
fn write_version(version: ImageVersion, writer: &mut Writer<'_>) {
    let [major, minor, revision, build] = [
        u32::from(version.major),
        u32::from(version.minor),
        u32::from(version.revision),
        version.build,
    ]
    .map(Decimal::new);
    let dot: &[u8] = b".";
    let (before_build, build) = if version.build == 0 {
        (&[][..], &[][..])
    } else {
        (dot, build.as_bytes())
    };
    let parts = [
        major.as_bytes(),
        dot,
        minor.as_bytes(),
        dot,
        revision.as_bytes(),
        before_build,
        build,
    ];
    put::parts(writer, "version", &parts);
}

/// A number in decimal digits, without the formatting machinery.
#[derive(Clone, Copy)]
struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    #[inline(never)]
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
