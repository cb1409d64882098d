//! Strict deterministic CBOR (profile section 2; RFC 8949 section 4.2): a reader that refuses and a writer that cannot
//! write anything else.
//!
//! A [`Reader`] walks over borrowed bytes and hands out borrowed values. It accepts definite lengths, shortest heads,
//! ascending unique map keys, valid UTF-8 without NUL, `true` and `null`; everything else is refused, never repaired.
//! An item of another type than the place demands is refused with a reason that the caller sets, because the profile
//! numbers such errors by place ([`Reader::demand`]).

use crate::limits::DEPTH_MAX;
use crate::{Reason, Refused};

/// The major types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// 0: an unsigned integer.
    Uint,
    /// 1: a negative integer.
    Negative,
    /// 2: a byte string.
    Bytes,
    /// 3: a text string.
    Text,
    /// 4: an array.
    Array,
    /// 5: a map.
    Map,
    /// 6: a tag before an item.
    Tag,
    /// 7: `true` or `null`; nothing else is allowed.
    Simple,
}

/// The argument of the simple value `true`.
const TRUE: u64 = 21;
/// The argument of the simple value `null`.
const NULL: u64 = 22;

/// The first bytes of an item: its type and its number (a value, a length in bytes, a count of items, a tag).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The major type.
    pub kind: Kind,
    /// The value, length, count or tag number.
    pub argument: u64,
    /// Bytes of the head itself, 1 to 9.
    pub len: usize,
}

impl Head {
    /// Reads the head at the start of `bytes`, which may be the beginning of a stream.
    ///
    /// `None`: the head is longer than `bytes` and nothing is wrong so far. Refused: 101 for reserved forms, floats and
    /// simple values other than `true` and `null`; 102 for indefinite lengths and heads longer than the shortest.
    pub fn read(bytes: &[u8]) -> Result<Option<Head>, Refused> {
        let Some((&initial, following)) = bytes.split_first() else {
            return Ok(None);
        };
        let kind = kind_of(initial);
        let info = initial & 0x1f;
        let (width, least) = match info {
            0..=23 => return direct(kind, info).map(Some),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            31 if matches!(kind, Kind::Bytes | Kind::Text | Kind::Array | Kind::Map) => {
                return Err(Reason::CborNotDeterministic.into());
            }
            _ => return Err(Reason::CborMalformed.into()),
        };
        if kind == Kind::Simple {
            return Err(Reason::CborMalformed.into());
        }
        let Some(digits) = following.get(..width) else {
            return Ok(None);
        };
        let argument = digits.iter().fold(0u64, |sum, &digit| (sum << 8) | u64::from(digit));
        if argument < least {
            return Err(Reason::CborNotDeterministic.into());
        }
        Ok(Some(Head {
            kind,
            argument,
            len: width + 1,
        }))
    }
}

fn kind_of(initial: u8) -> Kind {
    match initial >> 5 {
        0 => Kind::Uint,
        1 => Kind::Negative,
        2 => Kind::Bytes,
        3 => Kind::Text,
        4 => Kind::Array,
        5 => Kind::Map,
        6 => Kind::Tag,
        _ => Kind::Simple,
    }
}

/// A head whose argument stands in the initial byte.
fn direct(kind: Kind, info: u8) -> Result<Head, Refused> {
    let argument = u64::from(info);
    if kind == Kind::Simple && argument != TRUE && argument != NULL {
        return Err(Reason::CborMalformed.into());
    }
    Ok(Head { kind, argument, len: 1 })
}

/// Reads items one after the other from borrowed bytes. Cheap to copy; a copy reads on by itself.
///
/// Every method refuses with 101 when the bytes end too early, with 102 when they are not deterministic, and with the
/// demanded reason (101 unless set) when the item is well-formed but of another type, size or count than asked for.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    wrong: Reason,
}

impl<'a> Reader<'a> {
    /// A reader of nothing.
    pub const EMPTY: Reader<'static> = Reader {
        rest: &[],
        wrong: Reason::CborMalformed,
    };

    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            rest: bytes,
            wrong: Reason::CborMalformed,
        }
    }

    /// A reader of these bytes that refuses items of the wrong type with `reason`.
    pub fn demanding(bytes: &'a [u8], reason: Reason) -> Self {
        Reader {
            rest: bytes,
            wrong: reason,
        }
    }

    /// From here on, items of the wrong type are refused with `reason`.
    pub fn demand(&mut self, reason: Reason) {
        self.wrong = reason;
    }

    /// The refusal for an item that does not belong here.
    pub fn wrong_here(&self) -> Refused {
        self.wrong.into()
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses with 104 when bytes are left.
    pub fn end(&self) -> Result<(), Refused> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Reason::CborTrailing.into())
        }
    }

    /// The type of the next item, which is not consumed.
    pub fn peek(&self) -> Result<Kind, Refused> {
        let initial = self.rest.first().ok_or(Reason::CborMalformed)?;
        Ok(kind_of(*initial))
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, Refused> {
        self.argument(Kind::Uint)
    }

    /// An integer of either sign; one that does not fit an `i64` is malformed (profile section 2, rule 8).
    pub fn int(&mut self) -> Result<i64, Refused> {
        let head = self.head()?;
        let magnitude = i64::try_from(head.argument);
        match (head.kind, magnitude) {
            (Kind::Uint, Ok(value)) => Ok(value),
            (Kind::Negative, Ok(value)) => Ok(!value),
            (Kind::Uint | Kind::Negative, Err(_)) => Err(Reason::CborMalformed.into()),
            _ => Err(self.wrong.into()),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Refused> {
        let length = self.argument(Kind::Bytes)?;
        self.take(length)
    }

    /// A byte string of exactly `N` bytes; another length is refused like another type.
    pub fn bytes_of<const N: usize>(&mut self) -> Result<&'a [u8; N], Refused> {
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| self.wrong.into())
    }

    /// A reader of the items inside a byte string (`bstr .cbor`); it demands what this one demands. The caller reads
    /// the one item and then asks for its [`end`](Self::end).
    pub fn embedded(&mut self) -> Result<Reader<'a>, Refused> {
        Ok(Reader {
            rest: self.bytes()?,
            wrong: self.wrong,
        })
    }

    /// A text string: valid UTF-8 without NUL.
    pub fn text(&mut self) -> Result<&'a str, Refused> {
        let length = self.argument(Kind::Text)?;
        text_of(self.take(length)?)
    }

    /// The head of an array: how many items follow.
    pub fn array(&mut self) -> Result<usize, Refused> {
        self.count(Kind::Array, 1)
    }

    /// The head of an array of exactly `count` items; another count is refused like another type.
    pub fn array_of(&mut self, count: usize) -> Result<(), Refused> {
        if self.array()? != count {
            return Err(self.wrong.into());
        }
        Ok(())
    }

    /// The head of a map: how many pairs follow. [`Keys`] reads the keys and checks their order.
    pub fn map(&mut self) -> Result<usize, Refused> {
        self.count(Kind::Map, 2)
    }

    /// The tag before an item.
    pub fn tag(&mut self) -> Result<u64, Refused> {
        self.argument(Kind::Tag)
    }

    /// The value `null`.
    pub fn null(&mut self) -> Result<(), Refused> {
        self.simple(NULL)
    }

    /// The value `true`.
    pub fn truth(&mut self) -> Result<(), Refused> {
        self.simple(TRUE)
    }

    /// One whole item of any type, checked for determinism down to [`DEPTH_MAX`] (not into its byte strings), as bytes.
    pub fn item(&mut self) -> Result<&'a [u8], Refused> {
        let before = self.rest;
        self.skip(DEPTH_MAX)?;
        Ok(since(before, self.rest))
    }

    fn head(&mut self) -> Result<Head, Refused> {
        let head = Head::read(self.rest)?.ok_or(Reason::CborMalformed)?;
        self.rest = self.rest.get(head.len..).ok_or(Reason::CborMalformed)?;
        Ok(head)
    }

    /// The next item's argument, if it is of this kind.
    fn argument(&mut self, kind: Kind) -> Result<u64, Refused> {
        let head = self.head()?;
        if head.kind != kind {
            return Err(self.wrong.into());
        }
        Ok(head.argument)
    }

    fn simple(&mut self, value: u64) -> Result<(), Refused> {
        if self.argument(Kind::Simple)? != value {
            return Err(self.wrong.into());
        }
        Ok(())
    }

    /// A count of entries that can still follow: each takes `least` bytes or more.
    fn count(&mut self, kind: Kind, least: usize) -> Result<usize, Refused> {
        let count = self.argument(kind)?;
        self.possible(count, least)
    }

    fn possible(&self, count: u64, least: usize) -> Result<usize, Refused> {
        let count = usize::try_from(count).map_err(|_| Reason::CborMalformed)?;
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Reason::CborMalformed.into()),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Refused> {
        let length = usize::try_from(length).map_err(|_| Reason::CborMalformed)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Reason::CborMalformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Steps over one item. The recursion is bounded by `levels`, the nesting that is still allowed.
    fn skip(&mut self, levels: u8) -> Result<(), Refused> {
        let head = self.head()?;
        match head.kind {
            Kind::Uint | Kind::Negative | Kind::Simple => Ok(()),
            Kind::Bytes => self.take(head.argument).map(|_| ()),
            Kind::Text => text_of(self.take(head.argument)?).map(|_| ()),
            Kind::Tag => self.skip(deeper(levels)?),
            Kind::Array => {
                let inner = deeper(levels)?;
                for _ in 0..self.possible(head.argument, 1)? {
                    self.skip(inner)?;
                }
                Ok(())
            }
            Kind::Map => {
                let inner = deeper(levels)?;
                let mut last: &[u8] = &[];
                for _ in 0..self.possible(head.argument, 2)? {
                    let before = self.rest;
                    self.skip(inner)?;
                    last = ascending(last, since(before, self.rest))?;
                    self.skip(inner)?;
                }
                Ok(())
            }
        }
    }
}

fn deeper(levels: u8) -> Result<u8, Refused> {
    levels.checked_sub(1).ok_or(Reason::Limit.about("DEPTH_MAX"))
}

/// What was read of `before`, of which `rest` is left.
fn since<'a>(before: &'a [u8], rest: &[u8]) -> &'a [u8] {
    let read = before.len().saturating_sub(rest.len());
    before.get(..read).unwrap_or(before)
}

fn text_of(bytes: &[u8]) -> Result<&str, Refused> {
    let text = core::str::from_utf8(bytes).map_err(|_| Reason::CborMalformed)?;
    if bytes.contains(&0) {
        return Err(Reason::CborMalformed.into());
    }
    Ok(text)
}

/// Refuses `key` unless it follows `last` in the bytewise order of encoded keys (103 when equal, 102 when before).
pub fn ascending<'a>(last: &[u8], key: &'a [u8]) -> Result<&'a [u8], Refused> {
    match last.cmp(key) {
        core::cmp::Ordering::Less => Ok(key),
        core::cmp::Ordering::Equal => Err(Reason::CborDuplicateKey.into()),
        core::cmp::Ordering::Greater => Err(Reason::CborNotDeterministic.into()),
    }
}

/// The keys of one map, in ascending order. The caller reads each value between two keys from the same reader.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    left: usize,
    last: &'a [u8],
}

impl<'a> Keys<'a> {
    /// Reads the head of a map.
    pub fn of(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        Ok(Keys {
            left: reader.map()?,
            last: &[],
        })
    }

    /// How many pairs are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next key, encoded, of any type; `None` after the last.
    pub fn next(&mut self, reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Refused> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        self.last = ascending(self.last, reader.item()?)?;
        Ok(Some(self.last))
    }

    /// The next key, which must be an integer; `None` after the last.
    pub fn next_int(&mut self, reader: &mut Reader<'a>) -> Result<Option<i64>, Refused> {
        let wrong = reader.wrong;
        let Some(key) = self.next(reader)? else {
            return Ok(None);
        };
        Reader::demanding(key, wrong).int().map(Some)
    }
}

/// How far the item at the start of a stream reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// More bytes are needed: at least this many from the item's start.
    Needs(usize),
    /// The item is this many bytes long, and all of them are there.
    Complete(usize),
}

/// How long the item at the start of `prefix` is, as far as the heads that have arrived tell. Its inside is not judged
/// beyond that; at most as many steps as there are bytes.
pub fn extent(prefix: &[u8]) -> Result<Extent, Refused> {
    let mut at: usize = 0;
    let mut items: u64 = 1;
    while let Some(left) = items.checked_sub(1) {
        let rest = prefix.get(at..).unwrap_or(&[]);
        let Some(head) = Head::read(rest)? else {
            return Ok(Extent::Needs(at.max(prefix.len()).saturating_add(1)));
        };
        let (more, content) = match head.kind {
            Kind::Uint | Kind::Negative | Kind::Simple => (0, 0),
            Kind::Bytes | Kind::Text => (0, head.argument),
            Kind::Tag => (1, 0),
            Kind::Array => (head.argument, 0),
            Kind::Map => (head.argument.saturating_mul(2), 0),
        };
        items = left.saturating_add(more);
        let content = usize::try_from(content).map_err(|_| Reason::CborMalformed)?;
        at = at
            .checked_add(head.len)
            .and_then(|at| at.checked_add(content))
            .ok_or(Reason::CborMalformed)?;
    }
    if at > prefix.len() {
        return Ok(Extent::Needs(at));
    }
    Ok(Extent::Complete(at))
}

/// Takes encoded bytes: a buffer, a counter, a hash.
pub trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

/// An item's head, encoded in the shortest form: 1 to 9 bytes.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHead {
    bytes: [u8; 9],
    len: usize,
}

impl EncodedHead {
    /// The head of an item of this kind with this value, length, count or tag.
    pub fn new(kind: Kind, argument: u64) -> Self {
        let major = (kind as u8) << 5;
        let digits = argument.to_be_bytes();
        let (info, width) = match argument {
            0..=23 => (digits[7], 0),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        let mut bytes = [0; 9];
        let tail = digits.iter().skip(8 - width);
        for (slot, digit) in bytes.iter_mut().skip(1).zip(tail) {
            *slot = *digit;
        }
        bytes[0] = major | info;
        EncodedHead { bytes, len: width + 1 }
    }

    /// The encoded bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Writes items in their deterministic form. Counts and the order of map keys are the caller's to get right.
pub struct Writer<'s> {
    sink: &'s mut dyn Sink,
}

impl<'s> Writer<'s> {
    /// A writer into this sink.
    pub fn new(sink: &'s mut dyn Sink) -> Self {
        Writer { sink }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(Kind::Uint, value)
    }

    /// An integer of either sign.
    pub fn int(&mut self, value: i64) -> &mut Self {
        match u64::try_from(value) {
            Ok(value) => self.head(Kind::Uint, value),
            Err(_) => self.head(Kind::Negative, (!value).unsigned_abs()),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(Kind::Bytes, bytes.len() as u64).raw(bytes)
    }

    /// A text string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(Kind::Text, text.len() as u64).raw(text.as_bytes())
    }

    /// The head of an array; `count` items are to follow.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(Kind::Array, count as u64)
    }

    /// The head of a map; `count` keys and values are to follow, keys ascending.
    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(Kind::Map, count as u64)
    }

    /// A tag; its item is to follow.
    pub fn tag(&mut self, number: u64) -> &mut Self {
        self.head(Kind::Tag, number)
    }

    /// The value `null`.
    pub fn null(&mut self) -> &mut Self {
        self.head(Kind::Simple, NULL)
    }

    /// The value `true`.
    pub fn truth(&mut self) -> &mut Self {
        self.head(Kind::Simple, TRUE)
    }

    /// A byte string that holds what `write` writes. It is called twice: to measure and to write.
    pub fn embedded(&mut self, write: impl Fn(&mut Writer<'_>)) -> &mut Self {
        let length = measure(&write);
        self.head(Kind::Bytes, length as u64);
        write(self);
        self
    }

    /// The head of an item whose content follows by other means.
    pub fn head(&mut self, kind: Kind, argument: u64) -> &mut Self {
        self.raw(EncodedHead::new(kind, argument).as_slice())
    }

    /// Bytes that are encoded already.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.sink.put(encoded);
        self
    }
}

/// How many bytes `write` writes.
pub fn measure(write: impl FnOnce(&mut Writer<'_>)) -> usize {
    let mut count = Count(0);
    write(&mut Writer::new(&mut count));
    count.0
}

/// Encodes into the start of `room` and returns the encoded bytes, or [`Full`] when they do not fit.
pub fn encode(room: &mut [u8], write: impl FnOnce(&mut Writer<'_>)) -> Result<&[u8], Full> {
    let mut buffer = Buffer::new(room);
    write(&mut Writer::new(&mut buffer));
    buffer.finish()
}

/// The caller's room is too small for what was encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the encoded bytes do not fit the room given for them")
    }
}

impl core::error::Error for Full {}

/// A sink that counts.
#[derive(Debug, Default)]
pub struct Count(pub usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// A sink into the caller's bytes; what does not fit is dropped and reported at the end.
#[derive(Debug)]
pub struct Buffer<'b> {
    room: &'b mut [u8],
    used: usize,
    full: bool,
}

impl<'b> Buffer<'b> {
    /// A sink that fills `room` from its start.
    pub fn new(room: &'b mut [u8]) -> Self {
        Buffer {
            room,
            used: 0,
            full: false,
        }
    }

    /// The bytes written, or [`Full`] when there were more than the room holds.
    pub fn finish(self) -> Result<&'b [u8], Full> {
        if self.full {
            return Err(Full);
        }
        let written: &'b [u8] = self.room;
        written.get(..self.used).ok_or(Full)
    }
}

impl Sink for Buffer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let free = self.room.get_mut(self.used..).unwrap_or(&mut []);
        match free.get_mut(..bytes.len()) {
            Some(place) if !self.full => {
                place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                self.used += bytes.len();
            }
            _ => self.full = true,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn refused(bytes: &[u8]) -> u16 {
        let mut reader = Reader::new(bytes);
        match reader.item().and_then(|_| reader.end()) {
            Ok(()) => 0,
            Err(refused) => refused.reason.number(),
        }
    }

    #[test]
    fn every_item_is_taken_in_its_shortest_definite_form_only() {
        for (hex, number) in [
            ("00", 0),
            ("17", 0),
            ("1818", 0),
            ("1817", 102),
            ("1900ff", 102),
            ("190100", 0),
            ("1a0000ffff", 102),
            ("1a00010000", 0),
            ("1b00000000ffffffff", 102),
            ("1b0000000100000000", 0),
            ("1bffffffffffffffff", 0),
            ("1c", 101),
            ("1f", 101),
            ("3f", 101),
            ("5f4100ff", 102),
            ("7f6161ff", 102),
            ("9fff", 102),
            ("bfff", 102),
            ("df00", 101),
            ("ff", 101),
            ("f4", 101),
            ("f5", 0),
            ("f6", 0),
            ("f7", 101),
            ("f820", 101),
            ("f90000", 101),
            ("fa00000000", 101),
            ("fb0000000000000000", 101),
            ("", 101),
            ("18", 101),
            ("42aa", 101),
            ("5affffffff", 101),
            ("5bffffffffffffffff", 101),
            ("9bffffffffffffffff", 101),
            ("bb8000000000000000", 101),
            ("61ff", 101),
            ("6100", 101),
            ("62c3a9", 0),
            ("0000", 104),
            ("a2010202", 101),
            ("a201020304", 0),
            ("a203040102", 102),
            ("a201020103", 103),
            ("a20a002000", 0),
            ("a22000 0a00", 102),
            ("a26161006000", 102),
            ("d818 8100", 0),
        ] {
            assert_eq!(refused(&unhex(hex)), number, "{hex}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels: usize| {
            let mut bytes = std::vec![0x81; levels];
            bytes.push(0);
            refused(&bytes)
        };
        assert_eq!(nested(usize::from(DEPTH_MAX)), 0);
        assert_eq!(nested(usize::from(DEPTH_MAX) + 1), 105);
        assert_eq!(nested(100_000), 105);
    }

    #[test]
    fn another_type_is_refused_with_the_demanded_reason() {
        let mut reader = Reader::demanding(&[0x61, 0x61], Reason::ManValue);
        assert_eq!(reader.uint(), Err(Reason::ManValue.into()));
        assert_eq!(
            Reader::demanding(&[0x18], Reason::ManValue).uint(),
            Err(Reason::CborMalformed.into())
        );
        assert_eq!(
            Reader::demanding(&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0], Reason::ManValue).int(),
            Err(Reason::CborMalformed.into())
        );
    }

    #[test]
    fn the_writer_writes_what_the_reader_takes() {
        let mut room = [0; 256];
        let numbers = [
            0,
            23,
            24,
            255,
            256,
            65535,
            65536,
            (1 << 32) - 1,
            1 << 32,
            i64::MAX,
            -1,
            -24,
            -25,
            -257,
            i64::MIN,
        ];
        let bytes = encode(&mut room, |w| {
            w.array(numbers.len() + 5);
            for number in numbers {
                w.int(number);
            }
            w.embedded(|w| {
                w.map(1).uint(1).text("é");
            });
            w.tag(107).bytes(&[1, 2]).null().truth().uint(u64::MAX);
        })
        .unwrap();
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.item().unwrap(), bytes);
        let mut reader = Reader::new(bytes);
        reader.array_of(numbers.len() + 5).unwrap();
        for number in numbers {
            assert_eq!(reader.int(), Ok(number));
        }
        let mut inner = reader.embedded().unwrap();
        let mut keys = Keys::of(&mut inner).unwrap();
        assert_eq!(keys.next_int(&mut inner), Ok(Some(1)));
        assert_eq!(inner.text(), Ok("é"));
        assert_eq!(keys.next_int(&mut inner), Ok(None));
        assert_eq!(inner.end(), Ok(()));
        assert_eq!(reader.tag(), Ok(107));
        assert_eq!(reader.bytes_of::<2>(), Ok(&[1, 2]));
        reader.null().unwrap();
        reader.truth().unwrap();
        assert_eq!(reader.uint(), Ok(u64::MAX));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn the_extent_of_a_growing_item_never_shrinks() {
        let whole = unhex("d86b a2 02 5818 000000000000000000000000000000000000000000000000 6161 83 01 f6 a1 20 61 62");
        assert_eq!(extent(&whole), Ok(Extent::Complete(whole.len())));
        let mut least = 0;
        for length in 0..whole.len() {
            let Ok(Extent::Needs(needed)) = extent(&whole[..length]) else {
                panic!("complete at {length}")
            };
            assert!(needed > length && needed >= least && needed <= whole.len());
            least = needed;
        }
        assert_eq!(extent(&unhex("9bffffffffffffffff00")), Ok(Extent::Needs(11)));
        assert_eq!(extent(&unhex("9f")), Err(Reason::CborNotDeterministic.into()));
    }

    #[test]
    fn a_buffer_that_is_too_small_says_so() {
        let mut room = [0; 3];
        assert_eq!(
            encode(&mut room, |w| {
                w.bytes(&[1, 2]);
            }),
            Ok(&[0x42, 1, 2][..])
        );
        assert_eq!(
            encode(&mut room, |w| {
                w.bytes(&[1, 2, 3]);
            }),
            Err(Full)
        );
        assert_eq!(
            encode(&mut room, |w| {
                w.bytes(&[1, 2, 3]).uint(0);
            }),
            Err(Full)
        );
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .map(|b| (b as char).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}
