//! What follows the head of an envelope, as a stream: text, key packages, chunk tables and payloads, in pieces of any
//! size and without a buffer for any of them (profile section 3).

use super::is_payload_name;
use crate::cbor::{Head, Kind};
use crate::limits::{Limits, at_most};
use crate::{Reason, Refused};

/// Bytes of a member's name at most, with its `#`.
pub const NAME_BYTES_MAX: usize = 32;
/// Bytes of a member's key and length header at most.
const HEADER_BYTES_MAX: usize = 2 + NAME_BYTES_MAX + 9;

/// A payload's name with its `#`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl Name {
    /// A name as the profile allows it: `#` and 4 to 31 characters of `[a-z0-9._-]`.
    pub fn new(name: &str) -> Option<Name> {
        if !is_payload_name(name) {
            return None;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        let room = bytes.get_mut(..name.len())?;
        room.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        Some(Name {
            bytes,
            len: name.len() as u8,
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.len))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }
}

/// What the stream came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Everything given was used; more is needed.
    NeedMore,
    /// The severed text begins.
    Text {
        /// Its bytes, without the header that its digest covers too.
        len: u32,
    },
    /// The key packages begin.
    KeyPackages {
        /// Their bytes.
        len: u32,
    },
    /// The chunk hashes of a source begin.
    ChunkTable {
        /// Which URI of the manifest.
        ordinal: u8,
        /// Their bytes.
        len: u32,
    },
    /// A payload begins.
    Payload {
        /// Its name.
        name: Name,
        /// Its bytes.
        len: u64,
    },
    /// The used bytes are content of the member that began last.
    Bytes,
    /// That member is whole.
    MemberEnd,
    /// The envelope is whole; no byte may follow.
    End,
}

/// The key of a member, in the order of encoded keys: integers, then names by length, then by bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Uint(u64),
    Name(u8, [u8; NAME_BYTES_MAX]),
}

/// Key of the manifest, the last of the head.
const MANIFEST: Key = Key::Uint(3);
/// Key of the severed text.
const TEXT: Key = Key::Uint(23);

/// The stream behind a head.
#[derive(Clone, Copy, Debug)]
pub struct Members {
    limits: MemberLimits,
    /// Members that have not begun.
    left: u64,
    last: Key,
    stage: Stage,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    table_bytes: u64,
    payloads: u64,
}

#[derive(Clone, Copy, Debug)]
struct MemberLimits {
    text: u64,
    key_packages: u64,
    tables: u64,
    payloads: u64,
    image: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Header,
    Content { left: u64 },
    Ended,
}

impl Members {
    /// The stream behind a head whose envelope map has `entries` entries in all.
    pub fn new(entries: u64, limits: &Limits) -> Self {
        Members {
            limits: MemberLimits {
                text: limits.text_max.into(),
                key_packages: limits.keypkg_max.into(),
                tables: limits.chunk_table_max.into(),
                payloads: limits.payloads_max.into(),
                image: limits.image_size_max,
            },
            left: entries.saturating_sub(2),
            last: MANIFEST,
            stage: Stage::Header,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            table_bytes: 0,
            payloads: 0,
        }
    }

    /// The same stream in the middle of a payload: `left` of its bytes are still to come, and `members_left` members
    /// follow it. Both were noted when the payload began ([`Members::left`]).
    pub fn resume(name: &Name, left: u64, members_left: u64, limits: &Limits) -> Self {
        let mut members = Members::new(members_left.saturating_add(2), limits);
        members.last = Key::Name(name.len, name.bytes);
        members.stage = Stage::Content { left };
        members
    }

    /// Members that have not begun.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Gives back the last `bytes` bytes of the member's content: they will come again.
    pub fn rewind(&mut self, bytes: u64) {
        if let Stage::Content { left } = &mut self.stage {
            *left = left.saturating_add(bytes);
        }
    }

    /// Looks at the next bytes. Returns how many of them were used, and what they came to; the caller goes on with the
    /// rest until [`Event::NeedMore`] or [`Event::End`].
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Event), Refused> {
        match self.stage {
            Stage::Ended if input.is_empty() => Ok((0, Event::NeedMore)),
            Stage::Ended => Err(Reason::CborTrailing.refused()),
            Stage::Content { left: 0 } => {
                self.stage = Stage::Header;
                self.header_len = 0;
                Ok((0, Event::MemberEnd))
            }
            Stage::Content { .. } if input.is_empty() => Ok((0, Event::NeedMore)),
            Stage::Content { left } => {
                let used = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                self.stage = Stage::Content {
                    left: left - used as u64,
                };
                Ok((used, Event::Bytes))
            }
            Stage::Header if self.left == 0 => {
                self.stage = Stage::Ended;
                Ok((0, Event::End))
            }
            Stage::Header => self.collect(input),
        }
    }

    /// Collects key and length header byte by byte, because they may be cut anywhere.
    fn collect(&mut self, input: &[u8]) -> Result<(usize, Event), Refused> {
        for (at, byte) in input.iter().enumerate() {
            let place = self
                .header
                .get_mut(usize::from(self.header_len))
                .ok_or(Reason::EnvKeyForbidden)?;
            *place = *byte;
            self.header_len += 1;
            let header = self.header.get(..usize::from(self.header_len)).unwrap_or(&[]);
            if let Some((key, len)) = parse(header, &self.last)? {
                return Ok((at + 1, self.begin(key, len)?));
            }
        }
        Ok((input.len(), Event::NeedMore))
    }

    fn begin(&mut self, key: Key, len: u64) -> Result<Event, Refused> {
        self.last = key;
        self.left -= 1;
        self.stage = Stage::Content { left: len };
        let limits = self.limits;
        let small = |max, name| at_most(len, max, name).map(|()| len as u32);
        let Key::Name(name_len, bytes) = key else {
            return Ok(Event::Text {
                len: small(limits.text, "TEXT_MAX")?,
            });
        };
        let name = Name { bytes, len: name_len };
        match name.as_str().as_bytes() {
            b"#k" => Ok(Event::KeyPackages {
                len: small(limits.key_packages, "KEYPKG_MAX")?,
            }),
            [b'#', b'c', digit @ (b'0'..=b'9' | b'a'..=b'f')] => {
                self.table_bytes = self.table_bytes.saturating_add(len);
                at_most(self.table_bytes, limits.tables, "CHUNK_TABLE_MAX")?;
                let ordinal = match digit {
                    b'0'..=b'9' => digit - b'0',
                    _ => digit - b'a' + 10,
                };
                Ok(Event::ChunkTable {
                    ordinal,
                    len: len as u32,
                })
            }
            _ => {
                self.payloads += 1;
                at_most(self.payloads, limits.payloads, "PAYLOADS_MAX")?;
                at_most(len, limits.image, "IMAGE_SIZE_MAX")?;
                Ok(Event::Payload { name, len })
            }
        }
    }
}

/// Key and content length of the member header that begins with these bytes, once it is whole. What cannot become a
/// member of the profile behind `last` is refused with its first byte that shows it.
fn parse(header: &[u8], last: &Key) -> Result<Option<(Key, u64)>, Refused> {
    let Some(head) = Head::read(header)? else {
        return Ok(None);
    };
    let rest = header.get(head.len..).unwrap_or(&[]);
    let (key, rest) = match head.kind {
        Kind::Uint => (Key::Uint(head.argument), rest),
        Kind::Text => {
            at_most_name(head.argument)?;
            let Some((name, rest)) = rest.split_at_checked(head.argument as usize) else {
                return Ok(None);
            };
            let mut bytes = [0; NAME_BYTES_MAX];
            bytes.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
            (Key::Name(head.argument as u8, bytes), rest)
        }
        _ => return Err(Reason::EnvKeyForbidden.refused()),
    };
    ascending(last, &key)?;
    check_allowed(&key)?;
    let Some(value) = Head::read(rest)? else {
        return Ok(None);
    };
    match value.kind {
        Kind::Bytes => Ok(Some((key, value.argument))),
        _ => Err(Reason::CborMalformed.refused()),
    }
}

fn at_most_name(length: u64) -> Result<(), Refused> {
    if length > NAME_BYTES_MAX as u64 {
        return Err(Reason::EnvKeyForbidden.about("payload name"));
    }
    Ok(())
}

fn ascending(last: &Key, next: &Key) -> Result<(), Refused> {
    match last.cmp(next) {
        core::cmp::Ordering::Less => Ok(()),
        core::cmp::Ordering::Equal => Err(Reason::CborDuplicateKey.refused()),
        core::cmp::Ordering::Greater => Err(Reason::CborNotDeterministic.refused()),
    }
}

/// Behind the head stand the text, `#k`, `#c0` to `#cf` and payload names, nothing else.
fn check_allowed(key: &Key) -> Result<(), Refused> {
    let Key::Name(len, bytes) = *key else {
        return if *key == TEXT {
            Ok(())
        } else {
            Err(Reason::EnvKeyForbidden.refused())
        };
    };
    let name = bytes.get(..usize::from(len)).unwrap_or(&[]);
    let text = core::str::from_utf8(name).map_err(|_| Reason::CborMalformed)?;
    match name {
        b"#k" | [b'#', b'c', b'0'..=b'9' | b'a'..=b'f'] => Ok(()),
        _ if is_payload_name(text) => Ok(()),
        _ => Err(Reason::EnvKeyForbidden.about("payload name")),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    const WHOLE: &[u8] = b"\x17\x42te\x62#k\x43key\x63#c0\x44hash\x65#aaaa\x42pq\x65#bbbb\x40";

    /// Events as text, with the content of each member joined.
    fn events(stream: &[u8], entries: u64, piece: usize) -> Result<Vec<String>, Refused> {
        let mut members = Members::new(entries, &Limits::MCU);
        let (mut out, mut content) = (Vec::new(), Vec::new());
        for mut input in stream.chunks(piece) {
            loop {
                let (used, event) = members.next(input)?;
                let (done, rest) = input.split_at(used);
                input = rest;
                match event {
                    Event::NeedMore => break,
                    Event::Bytes => content.extend_from_slice(done),
                    Event::MemberEnd => {
                        out.push(String::from_utf8(core::mem::take(&mut content)).unwrap());
                    }
                    Event::Payload { name, len } => out.push(std::format!("{} {len}", name.as_str())),
                    other => out.push(std::format!("{other:?}")),
                }
            }
        }
        Ok(out)
    }

    #[test]
    fn pieces_of_any_size_give_the_same_events() {
        let expected = [
            "Text { len: 2 }",
            "te",
            "KeyPackages { len: 3 }",
            "key",
            "ChunkTable { ordinal: 0, len: 4 }",
            "hash",
            "#aaaa 2",
            "pq",
            "#bbbb 0",
            "",
            "End",
        ]
        .map(|event| event.to_string());
        for piece in 1..=WHOLE.len() {
            assert_eq!(events(WHOLE, 7, piece).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn what_the_profile_forbids_is_refused() {
        let refused = |stream: &[u8]| events(stream, 4, 1).unwrap_err().reason;
        assert_eq!(refused(b"\x14\x40"), Reason::EnvKeyForbidden);
        assert_eq!(refused(b"\x63#c0\x40\x63#c0\x40"), Reason::CborDuplicateKey);
        assert_eq!(refused(b"\x65#bbbb\x40\x65#aaaa\x40"), Reason::CborNotDeterministic);
        assert_eq!(refused(b"\x65#aaaa\x40\x17\x40"), Reason::CborNotDeterministic);
        assert_eq!(refused(b"\x65#aaaa\x58\x01"), Reason::CborNotDeterministic);
        assert_eq!(refused(b"\x65#aaaa\x5f"), Reason::CborNotDeterministic);
        assert_eq!(refused(b"\x65#aaaa\x60"), Reason::CborMalformed);
        assert_eq!(refused(b"\x64#abc\x40"), Reason::EnvKeyForbidden);
        assert_eq!(refused(b"\x65#aaaA\x40"), Reason::EnvKeyForbidden);
        assert_eq!(refused(b"\x78\x21"), Reason::EnvKeyForbidden);
        assert_eq!(refused(b"\x17\x19\x10\x01"), Reason::CborMalformed);
        assert_eq!(refused(b"\x17\x59\x10\x01"), Reason::Limit);
        assert_eq!(refused(b"\x63#c0\x59\x40\x01"), Reason::Limit);
        assert_eq!(
            events(b"\x65#aaaa\x40\x00", 3, 1).unwrap_err().reason,
            Reason::CborTrailing
        );
    }

    #[test]
    fn a_payload_can_be_entered_in_the_middle() {
        let name = Name::new("#aaaa").unwrap();
        let mut members = Members::resume(&name, 1, 1, &Limits::MCU);
        assert_eq!(members.next(b"q\x65#bbbb\x40"), Ok((1, Event::Bytes)));
        assert_eq!(members.next(b"\x65#bbbb\x40"), Ok((0, Event::MemberEnd)));
        assert!(matches!(
            members.next(b"\x65#bbbb\x40"),
            Ok((7, Event::Payload { len: 0, .. }))
        ));
        assert_eq!(members.next(b""), Ok((0, Event::MemberEnd)));
        assert_eq!(members.next(b""), Ok((0, Event::End)));
        assert_eq!(
            Members::resume(&name, 0, 0, &Limits::MCU).next(b"").unwrap().1,
            Event::MemberEnd
        );
    }
}
