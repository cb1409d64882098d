//! AmpArgs: what the profile signs beside a fetch or a delta (profile section 7).

use super::{read_digest_members, write_digest_members};
use crate::cbor::{Keys, Reader, Writer};
use crate::limits::{self, INLINE_CHUNKS_MAX, Limits};
use crate::plan::{ChunkHashes, ChunkTable, Compression, Content, Format, Transport};
use crate::{Reason, Refused};

const FORMAT: i64 = -257;
const CHUNK_TABLE: i64 = -258;
const TRANSPORT: i64 = -259;
const COUNTER: i64 = -260;
const MIN_ENGINE: i64 = -261;
const PROFILE: i64 = -262;
const COMPRESSION: i64 = -263;
const DELTA: i64 = -264;

/// The number of this profile.
const PROFILE_1: u64 = 1;
/// The number of the only delta algorithm.
const DELTA_ALGORITHM_1: u64 = 1;

/// What the payload bytes are: a content to install, or a patch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// Formats 0 to 4 and 6.
    Content(Format),
    /// Format 5.
    Patch,
}

/// Where arguments stand; each place has its own required and forbidden keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// A fetch into a target, or into a stage, of content or of a patch.
    Fetch {
        /// Whether parameter 19 stands beside them.
        encrypted: bool,
    },
    /// The argument of command -257.
    ApplyDelta,
}

/// Decoded arguments that fit their place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a> {
    pub(super) what: What,
    table: Option<RawTable<'a>>,
    pub(super) transport: Option<Transport<'a>>,
    counter: Option<u32>,
    min_engine: Option<[u32; 3]>,
    pub(super) compression: Option<Compression>,
    pub(super) delta: Option<Delta>,
}

/// The members of -264.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Delta {
    pub(super) algorithm: u32,
    pub(super) base: u64,
    pub(super) stage: u64,
}

/// The members of -258 before the number of chunks is known.
#[derive(Clone, Copy, Debug)]
struct RawTable<'a> {
    chunk_size: u32,
    table: &'a [u8],
}

impl<'a> Args<'a> {
    /// Decodes arguments that must fill `bytes`. Refused: 410, 411, 412, 105, 101 to 104.
    pub(super) fn decode(bytes: &'a [u8], place: Place, limits: &Limits) -> Result<Self, Refused> {
        let members = Members::decode(bytes, limits)?;
        if members.profile.is_none() {
            return Err(Reason::ArgsProfile.into());
        }
        let args = Args {
            what: members.what.ok_or(Reason::ArgsKey)?,
            table: members.table,
            transport: members.transport,
            counter: members.counter,
            min_engine: members.min_engine,
            compression: members.compression,
            delta: members.delta,
        };
        args.check(place)?;
        Ok(args)
    }

    /// Which keys must and which must not be there (profile section 7, "Which keys where").
    fn check(&self, place: Place) -> Result<(), Refused> {
        let is_image = self.what == What::Content(Format::McubootImage);
        demand_iff(is_image, self.counter.is_some())?;
        demand_iff(place == Place::ApplyDelta, self.delta.is_some())?;
        match (place, self.what) {
            (Place::ApplyDelta, What::Patch | What::Content(Format::Nested)) => Err(Reason::ArgsValue.into()),
            (Place::ApplyDelta, What::Content(_)) => {
                forbid(self.table.is_some() || self.transport.is_some() || self.compression.is_some())
            }
            (Place::Fetch { encrypted }, What::Content(_)) => {
                forbid(encrypted && self.table.is_none())?;
                demand_iff(encrypted || self.compression.is_some(), self.transport.is_some())
            }
            (Place::Fetch { encrypted }, What::Patch) => {
                forbid(encrypted && self.table.is_none())?;
                demand_iff(encrypted, self.transport.is_some())?;
                forbid(self.min_engine.is_some() || self.compression.is_some())
            }
        }
    }

    /// The content to install, when the payload is not a patch (411).
    pub(super) fn content(&self) -> Result<Content, Refused> {
        match self.what {
            What::Patch => Err(Reason::ArgsValue.into()),
            What::Content(format) => Ok(Content {
                format,
                counter: self.counter,
                min_engine: self.min_engine,
            }),
        }
    }

    /// The chunk table for a payload of `transport_size` bytes, and how many bytes its hashes have together.
    pub(super) fn chunk_table(&self, transport_size: u64) -> Result<(Option<ChunkTable<'a>>, u64), Refused> {
        let Some(raw) = self.table else { return Ok((None, 0)) };
        let chunks = transport_size.div_ceil(raw.chunk_size.max(1).into());
        let bytes = chunks.checked_mul(32).ok_or(Reason::Limit.about("CHUNK_TABLE_MAX"))?;
        let hashes = if chunks <= INLINE_CHUNKS_MAX {
            if raw.table.len() as u64 != bytes {
                return Err(Reason::ChunkTable.into());
            }
            ChunkHashes::Inline(raw.table)
        } else {
            ChunkHashes::Detached(raw.table.try_into().map_err(|_| Reason::ChunkTable)?)
        };
        let chunk_size = raw.chunk_size;
        Ok((Some(ChunkTable { chunk_size, hashes }), bytes))
    }
}

fn forbid(wrong: bool) -> Result<(), Refused> {
    if wrong {
        return Err(Reason::ArgsKey.into());
    }
    Ok(())
}

/// Refuses a key that is there without being demanded, or demanded without being there.
fn demand_iff(demanded: bool, present: bool) -> Result<(), Refused> {
    forbid(present != demanded)
}

#[derive(Default)]
struct Members<'a> {
    what: Option<What>,
    table: Option<RawTable<'a>>,
    transport: Option<Transport<'a>>,
    counter: Option<u32>,
    min_engine: Option<[u32; 3]>,
    profile: Option<()>,
    compression: Option<Compression>,
    delta: Option<Delta>,
}

impl<'a> Members<'a> {
    fn decode(bytes: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let mut reader = Reader::new(bytes);
        let mut keys = Keys::of(&mut reader)?;
        let mut members = Members::default();
        loop {
            reader.demand(Reason::ArgsKey);
            let Some(key) = keys.next_int(&mut reader)? else { break };
            reader.demand(Reason::ArgsValue);
            members.take(key, &mut reader, limits)?;
        }
        reader.end()?;
        Ok(members)
    }

    fn take(&mut self, key: i64, reader: &mut Reader<'a>, limits: &Limits) -> Result<(), Refused> {
        match key {
            FORMAT => self.what = Some(what(reader)?),
            CHUNK_TABLE => self.table = Some(RawTable::decode(reader, limits)?),
            TRANSPORT => self.transport = Some(transport(reader, limits)?),
            COUNTER => self.counter = Some(uint32(reader)?),
            MIN_ENGINE => {
                reader.array_of(3)?;
                self.min_engine = Some([uint32(reader)?, uint32(reader)?, uint32(reader)?]);
            }
            PROFILE => self.profile = Some(profile(reader)?),
            COMPRESSION => self.compression = Some(compression(reader)?),
            DELTA => self.delta = Some(Delta::decode(reader)?),
            _ => return Err(Reason::ArgsKey.into()),
        }
        Ok(())
    }
}

fn uint32(reader: &mut Reader<'_>) -> Result<u32, Refused> {
    u32::try_from(reader.uint()?).map_err(|_| reader.wrong_here())
}

fn what(reader: &mut Reader<'_>) -> Result<What, Refused> {
    Ok(match reader.uint()? {
        0 => What::Content(Format::Raw),
        1 => What::Content(Format::McubootImage),
        2 => What::Content(Format::BlockImage),
        3 => What::Content(Format::Tar),
        4 => What::Content(Format::File),
        5 => What::Patch,
        6 => What::Content(Format::Nested),
        _ => return Err(reader.wrong_here()),
    })
}

fn what_number(what: What) -> u64 {
    match what {
        What::Content(Format::Raw) => 0,
        What::Content(Format::McubootImage) => 1,
        What::Content(Format::BlockImage) => 2,
        What::Content(Format::Tar) => 3,
        What::Content(Format::File) => 4,
        What::Patch => 5,
        What::Content(Format::Nested) => 6,
    }
}

fn profile(reader: &mut Reader<'_>) -> Result<(), Refused> {
    reader.demand(Reason::ArgsProfile);
    if reader.uint()? != PROFILE_1 {
        return Err(reader.wrong_here());
    }
    Ok(())
}

fn compression(reader: &mut Reader<'_>) -> Result<Compression, Refused> {
    match reader.uint()? {
        1 => Ok(Compression::Zstd),
        2 => Ok(Compression::ZstdBlocks),
        _ => Err(reader.wrong_here()),
    }
}

fn compression_number(compression: Compression) -> u64 {
    match compression {
        Compression::Zstd => 1,
        Compression::ZstdBlocks => 2,
    }
}

fn transport<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<Transport<'a>, Refused> {
    reader.array_of(3)?;
    let digest = read_digest_members(reader)?;
    let size = reader.uint()?;
    limits::at_most(size, limits.image_size_max, "IMAGE_SIZE_MAX")?;
    Ok(Transport { digest, size })
}

impl<'a> RawTable<'a> {
    fn decode(reader: &mut Reader<'a>, limits: &Limits) -> Result<Self, Refused> {
        reader.array_of(3)?;
        let chunk_size = reader.uint()?;
        limits::at_most(chunk_size, limits.chunk_max.into(), "CHUNK_MAX")?;
        let chunk_size = u32::try_from(chunk_size).map_err(|_| reader.wrong_here())?;
        if chunk_size < limits.chunk_min {
            return Err(Reason::Limit.about("CHUNK_MIN"));
        }
        if !chunk_size.is_power_of_two() || reader.int()? != super::ALG_SHA256 {
            return Err(reader.wrong_here());
        }
        let table = reader.bytes()?;
        Ok(RawTable { chunk_size, table })
    }
}

impl Delta {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Refused> {
        reader.array_of(3)?;
        if reader.uint()? != DELTA_ALGORITHM_1 {
            return Err(reader.wrong_here());
        }
        Ok(Delta {
            algorithm: DELTA_ALGORITHM_1 as u32,
            base: reader.uint()?,
            stage: reader.uint()?,
        })
    }
}

/// Arguments to be written.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) what: What,
    pub(super) table: Option<ChunkTable<'a>>,
    pub(super) transport: Option<Transport<'a>>,
    pub(super) counter: Option<u32>,
    pub(super) min_engine: Option<[u32; 3]>,
    pub(super) compression: Option<Compression>,
    pub(super) delta: Option<Delta>,
}

impl Draft<'_> {
    /// Writes the map.
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        let optional = [
            self.table.is_some(),
            self.transport.is_some(),
            self.counter.is_some(),
            self.min_engine.is_some(),
            self.compression.is_some(),
            self.delta.is_some(),
        ];
        writer.map(2 + optional.iter().filter(|present| **present).count());
        writer.int(FORMAT).uint(what_number(self.what));
        if let Some(table) = &self.table {
            let hashes: &[u8] = match table.hashes {
                ChunkHashes::Inline(hashes) => hashes,
                ChunkHashes::Detached(digest) => digest,
            };
            writer.int(CHUNK_TABLE).array(3).uint(table.chunk_size.into());
            writer.int(super::ALG_SHA256).bytes(hashes);
        }
        if let Some(transport) = &self.transport {
            write_digest_members(writer.int(TRANSPORT).array(3), &transport.digest);
            writer.uint(transport.size);
        }
        if let Some(counter) = self.counter {
            writer.int(COUNTER).uint(counter.into());
        }
        if let Some(version) = self.min_engine {
            writer.int(MIN_ENGINE).array(3);
            for part in version {
                writer.uint(part.into());
            }
        }
        writer.int(PROFILE).uint(PROFILE_1);
        if let Some(compression) = self.compression {
            writer.int(COMPRESSION).uint(compression_number(compression));
        }
        if let Some(delta) = &self.delta {
            writer.int(DELTA).array(3).uint(delta.algorithm.into());
            writer.uint(delta.base).uint(delta.stage);
        }
    }
}
