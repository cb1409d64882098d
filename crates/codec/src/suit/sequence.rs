//! Command sequences as flat lists of `command, argument`, read against a template, and their parameter maps.
//!
//! Nothing is interpreted: the caller knows which command it wants next; another one ends the decoding.

use super::encryption;
use crate::cbor::{Keys, Kind, Reader};
use crate::limits::{self, Limits};
use crate::plan::{Comparison, Digest, Encryption, Uuid, Version, VersionRule};
use crate::{Reason, Refused};

/// Commands of the profile (SUIT numbers; the last one is private).
pub(super) mod command {
    pub(crate) const VENDOR: i64 = 1;
    pub(crate) const CLASS: i64 = 2;
    pub(crate) const IMAGE: i64 = 3;
    pub(crate) const SLOT: i64 = 5;
    pub(crate) const INDEX: i64 = 12;
    pub(crate) const TRY_EACH: i64 = 15;
    pub(crate) const PARAMETERS: i64 = 20;
    pub(crate) const FETCH: i64 = 21;
    pub(crate) const COPY: i64 = 22;
    pub(crate) const DEVICE: i64 = 24;
    pub(crate) const VERSION: i64 = 28;
    pub(crate) const APPLY_DELTA: i64 = -257;

    pub(crate) const ALL: [i64; 12] = [
        VENDOR,
        CLASS,
        IMAGE,
        SLOT,
        INDEX,
        TRY_EACH,
        PARAMETERS,
        FETCH,
        COPY,
        DEVICE,
        VERSION,
        APPLY_DELTA,
    ];
}

/// Parameters of the profile (SUIT numbers).
pub(super) mod parameter {
    pub(crate) const VENDOR: i64 = 1;
    pub(crate) const CLASS: i64 = 2;
    pub(crate) const DIGEST: i64 = 3;
    pub(crate) const SLOT: i64 = 5;
    pub(crate) const SIZE: i64 = 14;
    pub(crate) const ENCRYPTION: i64 = 19;
    pub(crate) const URI: i64 = 21;
    pub(crate) const SOURCE: i64 = 22;
    pub(crate) const DEVICE: i64 = 24;
    pub(crate) const ARGS: i64 = 25;
    pub(crate) const VERSION: i64 = 28;
}

/// The reporting policy of every condition, fetch and copy.
pub(super) const POLICY: u64 = 15;

/// A sequence, read from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Sequence<'a> {
    /// The sequence that fills `bytes`; it has at least one command and whole pairs.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut reader = Reader::new(bytes);
        let left = reader.array()?;
        if left == 0 || left % 2 != 0 {
            return Err(Reason::SeqTemplate.into());
        }
        Ok(Sequence { reader, left })
    }

    /// Whether no command is left.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Refuses when a command or anything else is left.
    pub(super) fn end(mut self) -> Result<(), Refused> {
        if !self.is_done() {
            let unexpected = self.command()?;
            return Err(not_here(unexpected));
        }
        self.reader.end()
    }

    /// The next command, which is not consumed.
    pub(super) fn peek(&self) -> Result<i64, Refused> {
        let mut ahead = *self;
        ahead.command()
    }

    /// Consumes a command; its argument is the next thing to read.
    fn command(&mut self) -> Result<i64, Refused> {
        self.left = self.left.checked_sub(2).ok_or(Reason::SeqTemplate)?;
        self.reader.demand(Reason::SeqTemplate);
        self.reader.int()
    }

    /// Consumes the command, which must be this one, and returns a reader of its argument.
    pub(super) fn expect(&mut self, wanted: i64) -> Result<&mut Reader<'a>, Refused> {
        let found = self.command()?;
        if found != wanted {
            return Err(not_here(found));
        }
        Ok(&mut self.reader)
    }

    /// Consumes a command whose argument is the reporting policy.
    pub(super) fn expect_policy(&mut self, wanted: i64) -> Result<(), Refused> {
        let argument = self.expect(wanted)?;
        argument.demand(Reason::SeqPolicy);
        if argument.uint()? != POLICY {
            return Err(Reason::SeqPolicy.into());
        }
        Ok(())
    }

    /// Consumes command 12; refuses an index that no component has.
    pub(super) fn expect_index(&mut self, components: u8) -> Result<u8, Refused> {
        let argument = self.expect(command::INDEX)?;
        argument.demand(Reason::SeqIndex);
        index(argument.uint()?, components)
    }

    /// Consumes command 12, which must select this component.
    pub(super) fn expect_this_index(&mut self, wanted: u8, components: u8) -> Result<(), Refused> {
        if self.expect_index(components)? != wanted {
            return Err(Reason::SeqTemplate.into());
        }
        Ok(())
    }

    /// Consumes command 20; its map must hold `required` and may hold `optional`.
    pub(super) fn expect_parameters(
        &mut self,
        required: &[i64],
        optional: &[i64],
        limits: &Limits,
    ) -> Result<Parameters<'a>, Refused> {
        let parameters = self.expect_any_parameters(limits)?;
        parameters.check(required, optional)?;
        Ok(parameters)
    }

    /// Consumes command 20, whose map the caller [checks](Parameters::check).
    pub(super) fn expect_any_parameters(&mut self, limits: &Limits) -> Result<Parameters<'a>, Refused> {
        Parameters::decode(self.expect(command::PARAMETERS)?, limits)
    }

    /// Consumes command 15: 2 to 4 branches, each a sequence of its own.
    pub(super) fn expect_branches(&mut self) -> Result<Branches<'a>, Refused> {
        let argument = self.expect(command::TRY_EACH)?;
        argument.demand(Reason::SeqTemplate);
        let left = argument.array()?;
        limits::at_most(left as u64, limits::TRY_BRANCHES_MAX as u64, "TRY_BRANCHES_MAX")?;
        if left < 2 {
            return Err(Reason::SeqTemplate.into());
        }
        let branches = Branches {
            reader: *argument,
            left,
        };
        for _ in 0..left {
            argument.bytes()?;
        }
        Ok(branches)
    }
}

/// An index in range, as the number of a component.
pub(super) fn index(number: u64, components: u8) -> Result<u8, Refused> {
    match u8::try_from(number) {
        Ok(index) if index < components => Ok(index),
        _ => Err(Reason::SeqIndex.into()),
    }
}

/// The refusal of a command that the template does not have at this place.
fn not_here(found: i64) -> Refused {
    if command::ALL.contains(&found) {
        Reason::SeqTemplate.into()
    } else {
        Reason::SeqCommand.into()
    }
}

/// The branches of a try-each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branches<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Branches<'a> {
    /// How many branches are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The next branch; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Sequence<'a>>, Refused> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        Sequence::open(self.reader.bytes()?).map(Some)
    }
}

/// The map of command 20.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parameters<'a> {
    present: u32,
    vendor: Option<&'a Uuid>,
    class: Option<&'a Uuid>,
    digest: Option<Digest<'a>>,
    slot: Option<u64>,
    size: Option<u64>,
    uri: Option<&'a str>,
    source: Option<u64>,
    args: Option<&'a [u8]>,
    /// Parameter 19.
    pub(super) encryption: Option<Encryption<'a>>,
    /// Parameter 24.
    pub(super) device: Option<&'a Uuid>,
    /// Parameter 28.
    pub(super) version: Option<VersionRule>,
}

impl<'a> Parameters<'a> {
    fn decode(reader: &mut Reader<'a>, limits: &Limits) -> Result<Self, Refused> {
        let mut parameters = Parameters::default();
        reader.demand(Reason::SeqParameter);
        let mut keys = Keys::of(reader)?;
        while let Some(key) = keys.next_int(reader)? {
            parameters.take(key, reader, limits)?;
        }
        Ok(parameters)
    }

    fn take(&mut self, key: i64, reader: &mut Reader<'a>, limits: &Limits) -> Result<(), Refused> {
        match key {
            parameter::VENDOR => self.vendor = Some(reader.bytes_of()?),
            parameter::CLASS => self.class = Some(reader.bytes_of()?),
            parameter::DIGEST => self.digest = Some(embedded(reader, super::read_digest)?),
            parameter::SLOT => self.slot = Some(reader.uint()?),
            parameter::SIZE => {
                let size = reader.uint()?;
                limits::at_most(size, limits.image_size_max, "IMAGE_SIZE_MAX")?;
                self.size = Some(size);
            }
            parameter::ENCRYPTION => self.encryption = Some(encryption::decode_info(reader.bytes()?)?),
            parameter::URI => self.uri = Some(bounded_text(reader, limits.uri_len_max, "URI_LEN_MAX")?),
            parameter::SOURCE => self.source = Some(reader.uint()?),
            parameter::DEVICE => self.device = Some(reader.bytes_of()?),
            parameter::ARGS => self.args = Some(reader.bytes()?),
            parameter::VERSION => self.version = Some(embedded(reader, version_rule)?),
            _ => return Err(reader.wrong_here()),
        }
        self.present |= bit(key);
        Ok(())
    }

    /// Whether this parameter is there.
    pub(super) fn has(&self, key: i64) -> bool {
        self.present & bit(key) != 0
    }

    /// Refuses missing and extra parameters.
    pub(super) fn check(&self, required: &[i64], optional: &[i64]) -> Result<(), Refused> {
        let required = bits(required);
        let allowed = required | bits(optional);
        if self.present & required != required || self.present & !allowed != 0 {
            return Err(Reason::SeqParameter.into());
        }
        Ok(())
    }

    pub(super) fn vendor(&self) -> Result<&'a Uuid, Refused> {
        self.vendor.ok_or(MISSING)
    }

    pub(super) fn class(&self) -> Result<&'a Uuid, Refused> {
        self.class.ok_or(MISSING)
    }

    pub(super) fn digest(&self) -> Result<Digest<'a>, Refused> {
        self.digest.ok_or(MISSING)
    }

    pub(super) fn size(&self) -> Result<u64, Refused> {
        self.size.ok_or(MISSING)
    }

    pub(super) fn slot(&self) -> Result<u64, Refused> {
        self.slot.ok_or(MISSING)
    }

    pub(super) fn uri(&self) -> Result<&'a str, Refused> {
        self.uri.ok_or(MISSING)
    }

    pub(super) fn source(&self) -> Result<u64, Refused> {
        self.source.ok_or(MISSING)
    }

    pub(super) fn args(&self) -> Result<&'a [u8], Refused> {
        self.args.ok_or(MISSING)
    }
}

const MISSING: Refused = Reason::SeqParameter.refused();

/// The bit of a parameter of the profile; their numbers are below 32.
fn bit(key: i64) -> u32 {
    u32::try_from(key)
        .ok()
        .and_then(|key| 1u32.checked_shl(key))
        .unwrap_or(0)
}

fn bits(keys: &[i64]) -> u32 {
    keys.iter().fold(0, |bits, key| bits | bit(*key))
}

/// One item inside a byte string, with nothing after it.
fn embedded<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let mut inner = reader.embedded()?;
    let value = read(&mut inner)?;
    inner.end()?;
    Ok(value)
}

/// A text that is judged by its length header first.
pub(super) fn bounded_text<'a>(reader: &mut Reader<'a>, max: u32, name: &'static str) -> Result<&'a str, Refused> {
    let text = crate::cbor::Head::read(reader.rest())?.filter(|head| head.kind == Kind::Text);
    limits::at_most(text.map_or(0, |head| head.argument), max.into(), name)?;
    reader.text()
}

/// `[comparison, [1*5 uint]]`.
fn version_rule(reader: &mut Reader<'_>) -> Result<VersionRule, Refused> {
    reader.array_of(2)?;
    let comparison = match reader.uint()? {
        1 => Comparison::Greater,
        2 => Comparison::GreaterEqual,
        3 => Comparison::Equal,
        4 => Comparison::LesserEqual,
        5 => Comparison::Lesser,
        _ => return Err(reader.wrong_here()),
    };
    Ok(VersionRule {
        comparison,
        version: version(reader)?,
    })
}

/// `[1*5 uint]`.
pub(super) fn version(reader: &mut Reader<'_>) -> Result<Version, Refused> {
    let mut parts = [0; crate::plan::VERSION_PARTS_MAX];
    let count = reader.array()?;
    let wrong = reader.wrong_here();
    let parts = parts.get_mut(..count).ok_or(wrong)?;
    for part in parts.iter_mut() {
        *part = reader.uint()?;
    }
    Version::new(parts).ok_or(wrong)
}
