//! Console framing: messages as lines of base64 between whatever else a serial line carries.
//!
//! ```text
//! packet  = u16be(len(message) + 2) | message | u16be crc16(message)
//! lines   = 06 09 <base64> 0a, then 04 14 <base64> 0a ...
//! ```
//!
//! Each line decodes alone. A start mark always begins anew, a continuation without start is skipped, and marks may
//! follow log text in the same line. What is damaged is dropped without an answer; the sender asks again.

/// Base64 characters of one line at most, as Zephyr has them: with two marks and LF 127 bytes.
pub const LINE_CHARS_MAX: usize = 124;
/// First bytes of a packet's first line.
pub const START: [u8; 2] = [0x06, 0x09];
/// First bytes of a packet's further lines.
pub const CONTINUE: [u8; 2] = [0x04, 0x14];

const LENGTH_BYTES: u32 = 2;
const CRC_BYTES: u32 = 2;
const LF: u8 = b'\n';
const CR: u8 = b'\r';
const PAD: u8 = b'=';

/// CRC-16/XMODEM: polynomial 0x1021, start 0, not reflected.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc16_step(crc, *byte))
}

fn crc16_step(crc: u16, byte: u8) -> u16 {
    let mut crc = crc ^ u16::from(byte) << 8;
    for _ in 0..8 {
        let carry = crc & 0x8000 != 0;
        crc <<= 1;
        if carry {
            crc ^= 0x1021;
        }
    }
    crc
}

/// Finds messages in a serial stream. Its buffer holds one message and is the announced `buf_size`.
#[derive(Debug)]
pub struct Deframer<'b> {
    buffer: &'b mut [u8],
    /// The packet that was started.
    packet: Option<Packet>,
    line: Line,
    /// Bytes of the complete message in the buffer.
    complete: usize,
}

/// A packet of which `received` bytes (length field, message, CRC) are decoded.
#[derive(Clone, Copy, Debug, Default)]
struct Packet {
    received: u32,
    length: u16,
    crc_sent: u16,
    crc: u16,
}

impl Packet {
    /// Whether the announced length has room for the CRC, and the buffer for the message.
    fn fits(&self, room: usize) -> bool {
        usize::from(self.length)
            .checked_sub(CRC_BYTES as usize)
            .is_some_and(|message| message <= room)
    }
}

/// Where in a line the stream is.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// In text that is not ours; the byte before decides whether this one completes a mark.
    Text { before: u8 },
    /// In base64, with this many characters of a quantum of four.
    Base64 { chars: u8, bits: u32 },
    /// Behind the first of two padding characters.
    Padding,
}

const NO_TEXT: Line = Line::Text { before: 0 };
const NEW_QUANTUM: Line = Line::Base64 { chars: 0, bits: 0 };

impl<'b> Deframer<'b> {
    /// A deframer whose messages may have as many bytes as `buffer`.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Deframer {
            buffer,
            packet: None,
            line: NO_TEXT,
            complete: 0,
        }
    }

    /// Takes one byte of the stream; gives the message that it completes.
    pub fn push(&mut self, byte: u8) -> Option<&[u8]> {
        if self.step(byte) { Some(self.message()) } else { None }
    }

    /// Takes bytes from the front of `stream` up to the end of a message, or all when none ends there.
    pub fn take(&mut self, stream: &mut &[u8]) -> Option<&[u8]> {
        while let Some((byte, rest)) = stream.split_first() {
            *stream = rest;
            if self.step(*byte) {
                return Some(self.message());
            }
        }
        None
    }

    fn message(&self) -> &[u8] {
        self.buffer.get(..self.complete).unwrap_or(&[])
    }

    /// Whether this byte completes a message.
    fn step(&mut self, byte: u8) -> bool {
        match self.line {
            Line::Text { before } => {
                self.line = self.after_text([before, byte]);
                false
            }
            Line::Base64 { chars: 0, .. } if byte == LF => {
                self.line = NO_TEXT;
                false
            }
            Line::Base64 { .. } if byte == CR => false,
            Line::Base64 { chars, bits } => self.in_base64(chars, bits, byte),
            Line::Padding if byte == PAD => self.finish(),
            Line::Padding => self.drop_packet(byte),
        }
    }

    fn after_text(&mut self, last: [u8; 2]) -> Line {
        match last {
            START => {
                self.packet = Some(Packet::default());
                NEW_QUANTUM
            }
            CONTINUE if self.packet.is_some() => NEW_QUANTUM,
            [_, byte] => Line::Text { before: byte },
        }
    }

    fn in_base64(&mut self, chars: u8, bits: u32, byte: u8) -> bool {
        if byte == PAD && chars >= 2 {
            return self.padded(chars, bits);
        }
        let Some(value) = sextet(byte) else {
            return self.drop_packet(byte);
        };
        let bits = bits << 6 | u32::from(value);
        self.line = Line::Base64 { chars: chars + 1, bits };
        if chars < 3 {
            return false;
        }
        self.line = NEW_QUANTUM;
        let [_, bytes @ ..] = bits.to_be_bytes();
        self.decoded(&bytes) && self.finish()
    }

    /// The first padding character: the quantum ends after one or two bytes, and the packet with it.
    fn padded(&mut self, chars: u8, bits: u32) -> bool {
        let [_, _, first, second] = (bits >> 2).to_be_bytes();
        let [_, _, _, only] = (bits >> 4).to_be_bytes();
        if chars == 2 {
            self.line = Line::Padding;
            if !self.decoded(&[only]) {
                self.drop_packet(PAD);
            }
            return false;
        }
        if self.decoded(&[first, second]) {
            self.finish()
        } else {
            self.drop_packet(PAD)
        }
    }

    /// Stores decoded bytes; whether the packet is whole.
    fn decoded(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| self.decoded_byte(*byte))
    }

    fn decoded_byte(&mut self, byte: u8) -> bool {
        let Some(packet) = &mut self.packet else { return false };
        let message_end = u32::from(packet.length)
            .saturating_sub(CRC_BYTES)
            .saturating_add(LENGTH_BYTES);
        let at = packet.received;
        packet.received = at.saturating_add(1);
        if at < LENGTH_BYTES {
            packet.length = packet.length << 8 | u16::from(byte);
            if packet.received == LENGTH_BYTES && !packet.fits(self.buffer.len()) {
                self.packet = None;
            }
            return false;
        }
        if at < message_end {
            packet.crc = crc16_step(packet.crc, byte);
            if let Some(place) = self.buffer.get_mut((at - LENGTH_BYTES) as usize) {
                *place = byte;
            }
            return false;
        }
        packet.crc_sent = packet.crc_sent << 8 | u16::from(byte);
        packet.received >= message_end.saturating_add(CRC_BYTES)
    }

    /// Whether the whole packet is undamaged. Either way it is over, and what follows in the line is text.
    fn finish(&mut self) -> bool {
        self.line = NO_TEXT;
        match self.packet.take() {
            Some(packet) if packet.crc == packet.crc_sent => {
                self.complete = usize::from(packet.length).saturating_sub(CRC_BYTES as usize);
                true
            }
            _ => false,
        }
    }

    /// Something that does not belong into a frame's line: the packet is lost, and `byte` may begin a mark.
    fn drop_packet(&mut self, byte: u8) -> bool {
        self.packet = None;
        self.line = Line::Text { before: byte };
        false
    }
}

/// The value of a base64 character.
const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// The base64 character of a value below 64.
const fn character(value: u8) -> u8 {
    match value {
        0..=25 => b'A' + value,
        26..=51 => b'a' + (value - 26),
        52..=61 => b'0' + (value - 52),
        62 => b'+',
        _ => b'/',
    }
}

/// A message is longer than a frame's length field can say (65,533 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Writes a message as lines of at most `line_chars` base64 characters (a multiple of 4, at most [`LINE_CHARS_MAX`];
/// others are rounded down). `sink` gets the bytes of the lines in small pieces.
pub fn frame(message: &[u8], line_chars: usize, mut sink: impl FnMut(&[u8])) -> Result<(), TooLong> {
    let length = u16::try_from(message.len().saturating_add(CRC_BYTES as usize)).map_err(|_| TooLong)?;
    let length = length.to_be_bytes();
    let crc = crc16(message).to_be_bytes();
    let mut packet = length.iter().chain(message).chain(&crc);
    let quanta_per_line = (line_chars.min(LINE_CHARS_MAX) / 4).max(1);
    let mut quanta = 0usize;
    while let Some(first) = packet.next() {
        if quanta == 0 {
            sink(&START);
        } else if quanta.is_multiple_of(quanta_per_line) {
            sink(&[LF]);
            sink(&CONTINUE);
        }
        quanta = quanta.saturating_add(1);
        sink(&quantum(*first, packet.next(), packet.next()));
    }
    sink(&[LF]);
    Ok(())
}

/// Four characters for one to three bytes.
fn quantum(first: u8, second: Option<&u8>, third: Option<&u8>) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, first, *second.unwrap_or(&0), *third.unwrap_or(&0)]);
    let at = |shift: u32| character((bits >> shift & 0x3f) as u8);
    [
        at(18),
        at(12),
        if second.is_some() { at(6) } else { PAD },
        if third.is_some() { at(0) } else { PAD },
    ]
}
