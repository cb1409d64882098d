//! A reader for the CBOR map of a message: any well-formed encoding, because other people's clients and servers write
//! it (indefinite lengths, long integers, any order of keys). Unknown keys are ignored; a key asked for stands once.
//!
//! The strict reader of [`crate::cbor`] is for what is signed; nothing here is.

use crate::limits::DEPTH_MAX;

/// The bytes are not the one well-formed map that a message must have, or a value is of the wrong type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl From<Malformed> for crate::Reason {
    fn from(_: Malformed) -> Self {
        crate::Reason::RequestMalformed
    }
}

/// One value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// Major type 0.
    Uint(u64),
    /// Major type 1: the value is -1 minus this.
    Negative(u64),
    /// Major type 2 of definite length.
    Bytes(&'a [u8]),
    /// Major type 3 of definite length.
    Text(&'a str),
    /// Major type 4.
    Array(Items<'a>),
    /// Major type 5.
    Map(Map<'a>),
    /// `true` or `false`.
    Bool(bool),
    /// Anything else that is well-formed.
    Other,
}

/// Items one after the other: those of an array, or keys and values of a map. Well-formed throughout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    /// `None`: up to the break.
    left: Option<u64>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.left == Some(0) || (self.left.is_none() && self.rest.first() == Some(&BREAK)) {
            return None;
        }
        self.left = self.left.and_then(|left| left.checked_sub(1));
        item(&mut self.rest).ok()
    }
}

/// A map with text keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Map<'a>(Items<'a>);

impl<'a> Map<'a> {
    /// Reads a body: exactly one well-formed map, at most [`DEPTH_MAX`] levels deep, with valid UTF-8 throughout.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = body;
        match item(&mut rest)? {
            Item::Map(map) if rest.is_empty() => Ok(map),
            _ => Err(Malformed),
        }
    }

    /// The value of a key. Error: the key stands twice.
    pub fn find(&self, key: &str) -> Result<Option<Item<'a>>, Malformed> {
        let mut items = self.0;
        let mut found = None;
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            if matches!(name, Item::Text(text) if text == key) && found.replace(value).is_some() {
                return Err(Malformed);
            }
        }
        Ok(found)
    }

    /// An unsigned integer that fits 32 bits.
    pub fn uint(&self, key: &str) -> Result<Option<u32>, Malformed> {
        match self.find(key)? {
            None => Ok(None),
            Some(Item::Uint(value)) => u32::try_from(value).map(Some).map_err(|_| Malformed),
            Some(_) => Err(Malformed),
        }
    }

    /// A byte string.
    pub fn bytes(&self, key: &str) -> Result<Option<&'a [u8]>, Malformed> {
        match self.find(key)? {
            None => Ok(None),
            Some(Item::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(Malformed),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Malformed> {
        match self.find(key)? {
            None => Ok(None),
            Some(Item::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Malformed),
        }
    }

    /// A truth value; `None` when the key is missing.
    pub fn truth(&self, key: &str) -> Result<Option<bool>, Malformed> {
        match self.find(key)? {
            None => Ok(None),
            Some(Item::Bool(truth)) => Ok(Some(truth)),
            Some(_) => Err(Malformed),
        }
    }

    /// A map within the map.
    pub fn map(&self, key: &str) -> Result<Option<Map<'a>>, Malformed> {
        match self.find(key)? {
            None => Ok(None),
            Some(Item::Map(map)) => Ok(Some(map)),
            Some(_) => Err(Malformed),
        }
    }

    /// An array; empty when the key is missing.
    pub fn array(&self, key: &str) -> Result<Items<'a>, Malformed> {
        match self.find(key)? {
            None => Ok(Items {
                rest: &[],
                left: Some(0),
            }),
            Some(Item::Array(items)) => Ok(items),
            Some(_) => Err(Malformed),
        }
    }
}

const BREAK: u8 = 0xff;
const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const FALSE: u64 = 20;
const TRUE: u64 = 21;

/// Reads one item and moves `rest` behind it.
fn item<'a>(rest: &mut &'a [u8]) -> Result<Item<'a>, Malformed> {
    let mut inside = *rest;
    skip(rest)?;
    let (major, argument) = head(&mut inside)?;
    Ok(match (major, argument) {
        (UINT, Some(value)) => Item::Uint(value),
        (NEGATIVE, Some(value)) => Item::Negative(value),
        (BYTES, Some(len)) => Item::Bytes(take(&mut inside, len)?),
        (TEXT, Some(len)) => Item::Text(text(take(&mut inside, len)?)?),
        (ARRAY, left) => Item::Array(Items { rest: inside, left }),
        (MAP, pairs) => Item::Map(Map(Items {
            rest: inside,
            left: pairs.map(|pairs| pairs.saturating_mul(2)),
        })),
        (SIMPLE, Some(FALSE)) => Item::Bool(false),
        (SIMPLE, Some(TRUE)) => Item::Bool(true),
        _ => Item::Other,
    })
}

/// The major type and the argument of an item, whatever width it has; `None` for indefinite lengths and the break.
fn head(rest: &mut &[u8]) -> Result<(u8, Option<u64>), Malformed> {
    let [initial] = *take(rest, 1)? else {
        return Err(Malformed);
    };
    let (major, info) = (initial >> 5, initial & 0x1f);
    let width = match info {
        0..=23 => return Ok((major, Some(u64::from(info)))),
        24..=27 => 1u64 << (info - 24),
        31 if !matches!(major, UINT | NEGATIVE | TAG) => return Ok((major, None)),
        _ => return Err(Malformed),
    };
    let argument = take(rest, width)?
        .iter()
        .fold(0, |sum: u64, digit| sum << 8 | u64::from(*digit));
    // Floats share the major type of the simple values; their bits must not be mistaken for one. One byte that says what
    // the initial byte could have said is not well-formed (RFC 8949 section 3.3).
    match (major, width) {
        (SIMPLE, 1) if argument < 32 => Err(Malformed),
        (SIMPLE, _) => Ok((SIMPLE, Some(u64::MAX))),
        _ => Ok((major, Some(argument))),
    }
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], Malformed> {
    let len = usize::try_from(len).map_err(|_| Malformed)?;
    let (taken, behind) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = behind;
    Ok(taken)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    core::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// An item that was opened and is not over.
#[derive(Clone, Copy)]
struct Open {
    major: u8,
    /// Items that it still needs; in one of indefinite length, items that it has so far.
    items: u64,
    indefinite: bool,
}

impl Open {
    /// Counts one more item; whether this one is over now.
    fn count(&mut self) -> bool {
        if self.indefinite {
            self.items = self.items.wrapping_add(1);
            false
        } else {
            self.items = self.items.saturating_sub(1);
            self.items == 0
        }
    }
}

/// Moves `rest` behind one well-formed item, however it is nested, without recursion.
fn skip(rest: &mut &[u8]) -> Result<(), Malformed> {
    let mut stack = [Open {
        major: 0,
        items: 0,
        indefinite: false,
    }; DEPTH_MAX as usize];
    let mut depth = 0usize;
    let mut tagged = false;
    loop {
        let (major, argument) = head(rest)?;
        let within = depth.checked_sub(1).and_then(|top| stack.get(top)).copied();
        // The pieces of a string of indefinite length are strings of its type and of definite length.
        if let Some(open) = within.filter(|open| matches!(open.major, BYTES | TEXT)) {
            let is_piece = major == open.major && argument.is_some();
            let is_break = major == SIMPLE && argument.is_none();
            if !is_piece && !is_break {
                return Err(Malformed);
            }
        }
        let mut over = true;
        match (major, argument) {
            (TAG, _) => {
                tagged = true;
                continue;
            }
            (SIMPLE, None) => {
                let open = within.ok_or(Malformed)?;
                if tagged || !open.indefinite || (open.major == MAP && open.items % 2 == 1) {
                    return Err(Malformed);
                }
                depth = depth.saturating_sub(1);
            }
            (BYTES, Some(len)) => {
                take(rest, len)?;
            }
            (TEXT, Some(len)) => {
                text(take(rest, len)?)?;
            }
            (BYTES | TEXT | ARRAY | MAP, argument) => {
                let items = match (major, argument) {
                    (MAP, Some(pairs)) => pairs.saturating_mul(2),
                    (_, items) => items.unwrap_or(0),
                };
                let indefinite = argument.is_none();
                if indefinite || items != 0 {
                    *stack.get_mut(depth).ok_or(Malformed)? = Open {
                        major,
                        items,
                        indefinite,
                    };
                    depth = depth.saturating_add(1);
                    over = false;
                }
            }
            _ => {}
        }
        tagged = false;
        // An item that is over may be the last one of what it stands in.
        while over && depth > 0 {
            let top = depth.saturating_sub(1);
            over = stack.get_mut(top).is_some_and(Open::count);
            if over {
                depth = top;
            }
        }
        if depth == 0 {
            return Ok(());
        }
    }
}
