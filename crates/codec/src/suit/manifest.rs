//! The manifest: matched against the profile's templates, never interpreted (profile sections 5 and 6).

use super::args::{Args, Place};
use super::sequence::{self, Parameters, Sequence, command, parameter};
use super::{is_payload_name, name_ascending, read_digest};
use crate::cbor::{Keys, Reader};
use crate::limits::{self, Limits};
use crate::plan::{
    Base, COMPONENT_ID_PARTS_MAX, ComponentId, Content, Digest, Format, Plan, Source, Stage, Step, Target, Variant,
    Variants, Version,
};
use crate::{Reason, Refused};

pub(super) const KEY_VERSION: i64 = 1;
pub(super) const KEY_SEQUENCE: i64 = 2;
pub(super) const KEY_COMMON: i64 = 3;
pub(super) const KEY_REFERENCE_URI: i64 = 4;
pub(super) const KEY_COMPONENT_ID: i64 = 5;
pub(super) const KEY_SET_VERSION: i64 = 6;
pub(super) const KEY_VALIDATE: i64 = 7;
pub(super) const KEY_FETCH: i64 = 16;
pub(super) const KEY_INSTALL: i64 = 20;
pub(super) const KEY_TEXT: i64 = 23;
pub(super) const KEY_COMPONENTS: i64 = 2;
pub(super) const KEY_SHARED: i64 = 4;

/// Last part of a base's id.
pub(super) const BASE: &[u8] = b"base";
/// First part of a stage's id; the second is its number in one byte.
pub(super) const STAGE: &[u8] = b"amp-stage";

/// Decodes a manifest map into a plan. `room` takes the targets; a device gives as much as its board declares.
///
/// Refused with the reason of profile section 17 that its order of checks reaches first: 301 to 305, 401 to 412, 501,
/// 503, 504, 507, 701, 702, 105 with the limit's name (`COMPONENTS_MAX` also when `room` is too small), 101 to 104.
pub fn decode<'w, 'a: 'w>(
    manifest: &'a [u8],
    limits: &Limits,
    room: &'w mut [Target<'a>],
) -> Result<Plan<'w>, Refused> {
    limits::at_most(manifest.len() as u64, limits.manifest_max.into(), "MANIFEST_MAX")?;
    let members = Members::decode(manifest)?;
    let values = Values::decode(&members, limits)?;
    let common = Common::decode(members.common, limits)?;
    let targets = decode_shared(&common, limits, room)?;
    let auxiliaries = Auxiliaries::classify(&common.components, targets)?;
    let mut sequences = Sequences {
        components: common.components.count,
        auxiliaries,
        fetch: members.fetch,
        fetches: Fetches::default(),
        used: 0,
        limits,
    };
    sequences.check_fetch()?;
    sequences.decode_install(members.install, targets)?;
    check_validate(members.validate, targets.len(), common.components.count)?;
    sequences.check_all_used()?;
    Ok(Plan {
        domain: values.domain,
        sequence: values.sequence,
        version: values.version,
        reference_uri: values.reference_uri,
        targets,
        text_digest: values.text_digest,
    })
}

/// The encoded values of the manifest map.
struct Members<'a> {
    version: &'a [u8],
    sequence: &'a [u8],
    common: &'a [u8],
    reference_uri: Option<&'a [u8]>,
    domain: Option<&'a [u8]>,
    set_version: Option<&'a [u8]>,
    validate: &'a [u8],
    fetch: Option<&'a [u8]>,
    install: &'a [u8],
    text: Option<&'a [u8]>,
}

impl<'a> Members<'a> {
    /// Walks over the keys: order first, then forbidden, then missing ones.
    fn decode(manifest: &'a [u8]) -> Result<Self, Refused> {
        let mut reader = Reader::new(manifest);
        let mut keys = Keys::of(&mut reader)?;
        let mut found: [Option<&'a [u8]>; 10] = [None; 10];
        reader.demand(Reason::ManKeyForbidden);
        while let Some(key) = keys.next_int(&mut reader)? {
            let place = match key {
                KEY_VERSION..=KEY_VALIDATE => usize::try_from(key - 1).ok(),
                KEY_FETCH => Some(7),
                KEY_INSTALL => Some(8),
                KEY_TEXT => Some(9),
                _ => None,
            };
            let place = place.and_then(|place| found.get_mut(place));
            *place.ok_or(Reason::ManKeyForbidden)? = Some(reader.item()?);
        }
        reader.end()?;
        let [
            version,
            sequence,
            common,
            uri,
            domain,
            set_version,
            validate,
            fetch,
            install,
            text,
        ] = found;
        Ok(Members {
            version: version.ok_or(Reason::ManKeyMissing)?,
            sequence: sequence.ok_or(Reason::ManKeyMissing)?,
            common: embedded(common.ok_or(Reason::ManKeyMissing)?)?,
            reference_uri: uri,
            domain,
            set_version,
            validate: embedded(validate.ok_or(Reason::ManKeyMissing)?)?,
            fetch: fetch.map(embedded).transpose()?,
            install: embedded(install.ok_or(Reason::ManKeyMissing)?)?,
            text,
        })
    }
}

/// The content of an encoded byte string.
fn embedded(item: &[u8]) -> Result<&[u8], Refused> {
    Reader::new(item).bytes()
}

/// What the plan takes over from the manifest map as it stands.
struct Values<'a> {
    sequence: u64,
    reference_uri: Option<&'a str>,
    domain: ComponentId<'a>,
    version: Option<Version>,
    text_digest: Option<Digest<'a>>,
}

impl<'a> Values<'a> {
    fn decode(members: &Members<'a>, limits: &Limits) -> Result<Self, Refused> {
        if Reader::demanding(members.version, Reason::ManVersion).uint()? != 1 {
            return Err(Reason::ManVersion.into());
        }
        let reader = |item| Reader::demanding(item, Reason::ManValue);
        let sequence = reader(members.sequence).uint()?;
        limits::at_most(sequence, limits::SEQ_MAX, "SEQ_MAX")?;
        let reference_uri = members
            .reference_uri
            .map(|item| sequence::bounded_text(&mut reader(item), limits.uri_len_max, "URI_LEN_MAX"))
            .transpose()?;
        let domain = members.domain.map(|item| component_id(&mut reader(item))).transpose()?;
        let version = members
            .set_version
            .map(|item| set_version(&mut reader(item)))
            .transpose()?;
        let text_digest = members.text.map(|item| read_digest(&mut reader(item))).transpose()?;
        Ok(Values {
            sequence,
            reference_uri,
            domain: domain.unwrap_or(ComponentId::EMPTY),
            version,
            text_digest,
        })
    }
}

fn set_version(reader: &mut Reader<'_>) -> Result<Version, Refused> {
    let mut inner = reader.embedded()?;
    let version = sequence::version(&mut inner)?;
    inner.end()?;
    Ok(version)
}

/// `[1*4 bstr .size (1..32)]`; anything else is refused as the reader demands.
pub(super) fn component_id<'a>(reader: &mut Reader<'a>) -> Result<ComponentId<'a>, Refused> {
    let wrong = reader.wrong_here();
    let mut parts: [&[u8]; COMPONENT_ID_PARTS_MAX] = [&[]; COMPONENT_ID_PARTS_MAX];
    let count = reader.array()?;
    if count == 0 {
        return Err(wrong);
    }
    let parts = parts.get_mut(..count).ok_or(wrong)?;
    for part in parts.iter_mut() {
        *part = reader.bytes()?;
    }
    ComponentId::new(parts).ok_or(wrong)
}

/// Key 3: the components and the sequence that all others share.
struct Common<'a> {
    components: Components<'a>,
    shared: &'a [u8],
}

impl<'a> Common<'a> {
    fn decode(common: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let mut reader = Reader::new(common);
        let mut keys = Keys::of(&mut reader)?;
        let (mut components, mut shared) = (None, None);
        reader.demand(Reason::ManKeyForbidden);
        while let Some(key) = keys.next_int(&mut reader)? {
            match key {
                KEY_COMPONENTS => components = Some(reader.item()?),
                KEY_SHARED => shared = Some(reader.item()?),
                _ => return Err(Reason::ManKeyForbidden.into()),
            }
        }
        reader.end()?;
        let shared = embedded(shared.ok_or(Reason::ManKeyMissing)?);
        Ok(Common {
            components: Components::decode(components.ok_or(Reason::ManKeyMissing)?, limits)?,
            shared: shared?,
        })
    }
}

/// The component ids, in order.
#[derive(Clone, Copy)]
struct Components<'a> {
    reader: Reader<'a>,
    count: u8,
}

impl<'a> Components<'a> {
    /// Every id well-formed, all of them different.
    fn decode(array: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let mut reader = Reader::demanding(array, Reason::ManComponent);
        let count = reader.array()?;
        limits::at_most(count as u64, limits.components_max.into(), "COMPONENTS_MAX")?;
        let count = u8::try_from(count).map_err(|_| Reason::ManComponent)?;
        let components = Components { reader, count };
        for index in 0..count {
            let id = component_id(&mut reader)?;
            if components.iter().take(index.into()).any(|earlier| earlier == id) {
                return Err(Reason::ManComponent.into());
            }
        }
        if count == 0 {
            return Err(Reason::ManComponent.into());
        }
        Ok(components)
    }

    fn iter(&self) -> impl Iterator<Item = ComponentId<'a>> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| component_id(&mut reader).ok())
    }
}

/// SHARED: one TARGET after the other, written into `room`.
fn decode_shared<'w, 'a>(
    common: &Common<'a>,
    limits: &Limits,
    room: &'w mut [Target<'a>],
) -> Result<&'w mut [Target<'a>], Refused> {
    let mut sequence = Sequence::open(common.shared)?;
    let mut count = 0;
    for (index, id) in (0..).zip(common.components.iter()) {
        if sequence.is_done() {
            break;
        }
        let target = room
            .get_mut(usize::from(index))
            .ok_or(Reason::Limit.about("COMPONENTS_MAX"))?;
        *target = Target::EMPTY;
        target.id = id;
        sequence.expect_this_index(index, common.components.count)?;
        decode_target(&mut sequence, target, limits)?;
        count += 1;
    }
    if !sequence.is_done() {
        sequence.expect_index(common.components.count)?;
        return Err(Reason::SeqTemplate.into());
    }
    sequence.end()?;
    room.get_mut(..count).ok_or(Reason::SeqTemplate.into())
}

/// TARGET without its `12 i`.
fn decode_target<'a>(sequence: &mut Sequence<'a>, target: &mut Target<'a>, limits: &Limits) -> Result<(), Refused> {
    use parameter::{CLASS, DEVICE, DIGEST, SIZE, VENDOR, VERSION};
    let parameters = sequence.expect_any_parameters(limits)?;
    let has_slots = !parameters.has(DIGEST) && !parameters.has(SIZE);
    let required: &[i64] = if has_slots {
        &[VENDOR, CLASS]
    } else {
        &[VENDOR, CLASS, DIGEST, SIZE]
    };
    parameters.check(required, &[DEVICE, VERSION])?;
    target.vendor = parameters.vendor()?;
    target.class = parameters.class()?;
    target.device = parameters.device;
    target.version_rule = parameters.version;
    check_identity_conditions(sequence, &parameters)?;
    if has_slots {
        return decode_slots(sequence, &mut target.variants, limits);
    }
    let variant = variant(None, parameters.digest()?, parameters.size()?);
    target.variants.push(variant).ok_or(Reason::SeqTemplate.into())
}

/// IDCHECK.
fn check_identity_conditions(sequence: &mut Sequence<'_>, parameters: &Parameters<'_>) -> Result<(), Refused> {
    sequence.expect_policy(command::VENDOR)?;
    sequence.expect_policy(command::CLASS)?;
    if parameters.device.is_some() {
        sequence.expect_policy(command::DEVICE)?;
    }
    if parameters.version.is_some() {
        sequence.expect_policy(command::VERSION)?;
    }
    Ok(())
}

/// SLOTS.
fn decode_slots<'a>(sequence: &mut Sequence<'a>, variants: &mut Variants<'a>, limits: &Limits) -> Result<(), Refused> {
    let mut branches = sequence.expect_branches()?;
    let mut slot = 0;
    while let Some(mut branch) = branches.next()? {
        expect_slot(&mut branch, slot, limits)?;
        let parameters = branch.expect_parameters(&[parameter::DIGEST, parameter::SIZE], &[], limits)?;
        branch.end()?;
        let variant = variant(Some(slot), parameters.digest()?, parameters.size()?);
        variants.push(variant).ok_or(Reason::SeqTemplate)?;
        slot += 1;
    }
    Ok(())
}

/// `20 {5: slot}, 5 15`.
fn expect_slot(branch: &mut Sequence<'_>, slot: u8, limits: &Limits) -> Result<(), Refused> {
    let parameters = branch.expect_parameters(&[parameter::SLOT], &[], limits)?;
    if parameters.slot()? != u64::from(slot) {
        return Err(Reason::SeqTemplate.into());
    }
    branch.expect_policy(command::SLOT)
}

/// A variant whose content and source the installation still has to tell.
fn variant(slot: Option<u8>, digest: Digest<'_>, size: u64) -> Variant<'_> {
    Variant {
        slot,
        digest,
        size,
        content: Content {
            format: Format::Raw,
            counter: None,
            min_engine: None,
        },
        source: None,
    }
}

/// Which indices are bases and which are stages: targets first, then all bases in the order of their targets, then all
/// stages in the order of their numbers.
#[derive(Clone, Copy)]
struct Auxiliaries {
    targets: u8,
    stages_from: u8,
    /// Target of each base, in 4 bits per base, first base lowest.
    base_targets: u64,
}

impl Auxiliaries {
    fn classify(components: &Components<'_>, targets: &[Target<'_>]) -> Result<Self, Refused> {
        const MISPLACED: Reason = Reason::ManComponent;
        let count = u8::try_from(targets.len()).map_err(|_| MISPLACED)?;
        if targets.iter().any(|target| target.id.parts().first() == Some(&STAGE)) {
            return Err(MISPLACED.into());
        }
        let mut found = Auxiliaries {
            targets: count,
            stages_from: count,
            base_targets: 0,
        };
        let mut next_target = 0;
        for (index, id) in (0u8..).zip(components.iter()).skip(usize::from(count)) {
            let stages = index - found.stages_from;
            if id.parts() == [STAGE, &[stages]] {
                continue;
            }
            let base_of = |(_, target): &(u8, &Target<'_>)| target.id.with_part(BASE) == Some(id);
            let target = (0u8..).zip(targets).skip(next_target).find(base_of);
            let Some((target, _)) = target.filter(|_| stages == 0) else {
                return Err(MISPLACED.into());
            };
            found.base_targets |= u64::from(target & 0xf) << (4 * u32::from((index - count) & 0xf));
            found.stages_from = index.saturating_add(1);
            next_target = usize::from(target) + 1;
        }
        Ok(found)
    }

    fn is_base_of(&self, index: u8, target: u8) -> bool {
        let nth = index.wrapping_sub(self.targets);
        let is_base = index >= self.targets && index < self.stages_from;
        is_base && (self.base_targets >> (4 * u32::from(nth & 0xf))) & 0xf == u64::from(target)
    }

    /// The number of the stage with this index; the index must be one of a stage.
    fn stage_number(&self, index: u8) -> Result<u8, Refused> {
        index.checked_sub(self.stages_from).ok_or(Reason::SeqIndex.into())
    }
}

/// The URIs met so far.
#[derive(Clone, Copy, Default)]
struct Fetches<'a> {
    count: u8,
    names: u8,
    last_name: &'a str,
    table_bytes: u64,
}

impl<'a> Fetches<'a> {
    /// Judges the next URI and returns its ordinal.
    fn admit(&mut self, uri: &'a str, limits: &Limits) -> Result<u8, Refused> {
        let ordinal = self.count;
        self.count = self.count.saturating_add(1);
        let most = u64::from(limits.uris_max).min(limits::URIS_MAX as u64);
        limits::at_most(self.count.into(), most, "URIS_MAX")?;
        if !uri.starts_with('#') {
            check_scheme(uri)?;
            return Ok(ordinal);
        }
        if !is_payload_name(uri) {
            return Err(Reason::UriScheme.into());
        }
        self.names = self.names.saturating_add(1);
        limits::at_most(self.names.into(), limits.payloads_max.into(), "PAYLOADS_MAX")?;
        name_ascending(self.last_name, uri)?;
        self.last_name = uri;
        Ok(ordinal)
    }

    /// Adds up the chunk tables of the file.
    fn admit_table(&mut self, bytes: u64, limits: &Limits) -> Result<(), Refused> {
        self.table_bytes = self.table_bytes.saturating_add(bytes);
        limits::at_most(self.table_bytes, limits.chunk_table_max.into(), "CHUNK_TABLE_MAX")
    }
}

/// Schemes of the profile, in printable ASCII. `http` and `coap` are refused: no policy of this decoder allows them.
fn check_scheme(uri: &str) -> Result<(), Refused> {
    let schemes = ["https://", "coaps://", "amp:"];
    let named = |scheme: &&str| uri.len() > scheme.len() && uri.starts_with(*scheme);
    if !uri.bytes().all(|c| c.is_ascii_graphic()) || !schemes.iter().any(named) {
        return Err(Reason::UriScheme.into());
    }
    Ok(())
}

/// What the sequences of keys 16 and 20 share.
struct Sequences<'a, 'l> {
    components: u8,
    auxiliaries: Auxiliaries,
    /// Payload-fetch.
    fetch: Option<&'a [u8]>,
    fetches: Fetches<'a>,
    /// Auxiliaries that a step has used, one bit per index.
    used: u32,
    limits: &'l Limits,
}

/// A fetch taken apart: where the bytes come from, and what they are.
struct Fetched<'a> {
    source: Source<'a>,
    args: Args<'a>,
}

impl<'a> Sequences<'a, '_> {
    /// PFETCH: stages in ascending order. They are read again where a step uses them, so that nothing is kept here.
    fn check_fetch(&mut self) -> Result<(), Refused> {
        let Some(bytes) = self.fetch else { return Ok(()) };
        let mut sequence = Sequence::open(bytes)?;
        let mut least = 0;
        while !sequence.is_done() {
            let index = sequence.expect_index(self.components)?;
            self.auxiliaries.stage_number(index)?;
            if index < least {
                return Err(Reason::SeqTemplate.into());
            }
            least = index.saturating_add(1);
            self.decode_stage(&mut sequence, index, true)?;
        }
        sequence.end()
    }

    /// The stage with this index that payload-fetch fills, if it does; checked before.
    fn find_early_stage(&self, wanted: u8) -> Result<Option<(Stage<'a>, Args<'a>)>, Refused> {
        let Some(bytes) = self.fetch else { return Ok(None) };
        let mut sequence = Sequence::open(bytes)?;
        let mut again = Sequences {
            fetches: Fetches::default(),
            ..*self
        };
        while !sequence.is_done() {
            let index = sequence.expect_index(self.components)?;
            let stage = again.decode_stage(&mut sequence, index, true)?;
            if index == wanted {
                return Ok(Some(stage));
            }
        }
        Ok(None)
    }

    /// STAGE without its `12 s`.
    fn decode_stage(
        &mut self,
        sequence: &mut Sequence<'a>,
        index: u8,
        early: bool,
    ) -> Result<(Stage<'a>, Args<'a>), Refused> {
        use parameter::{ARGS, DIGEST, ENCRYPTION, SIZE, URI};
        let parameters = sequence.expect_parameters(&[DIGEST, SIZE, URI, ARGS], &[ENCRYPTION], self.limits)?;
        let (digest, size) = (parameters.digest()?, parameters.size()?);
        let fetched = self.decode_fetch(&parameters, size)?;
        sequence.expect_policy(command::FETCH)?;
        sequence.expect_policy(command::IMAGE)?;
        let stage = Stage {
            number: self.auxiliaries.stage_number(index)?,
            digest,
            size,
            source: fetched.source,
            early,
        };
        Ok((stage, fetched.args))
    }

    /// Parameters 19, 21, 25 of bytes that have `size` bytes at the end of the way.
    fn decode_fetch(&mut self, parameters: &Parameters<'a>, size: u64) -> Result<Fetched<'a>, Refused> {
        let uri = parameters.uri()?;
        let ordinal = self.fetches.admit(uri, self.limits)?;
        let encryption = parameters.encryption;
        let place = Place::Fetch {
            encrypted: encryption.is_some(),
        };
        let args = Args::decode(parameters.args()?, place, self.limits)?;
        let mut source = Source {
            uri,
            ordinal,
            compression: args.compression,
            table: None,
            transport: args.transport,
            encryption,
        };
        let (table, bytes) = args.chunk_table(source.transport_size(size))?;
        self.fetches.admit_table(bytes, self.limits)?;
        source.table = table;
        Ok(Fetched { source, args })
    }

    /// INSTALL: one step per target, in order.
    fn decode_install(&mut self, install: &'a [u8], targets: &mut [Target<'a>]) -> Result<(), Refused> {
        let mut sequence = Sequence::open(install)?;
        for (index, target) in (0..).zip(targets.iter_mut()) {
            self.decode_step(&mut sequence, index, target)?;
        }
        sequence.end()
    }

    fn decode_step(&mut self, sequence: &mut Sequence<'a>, index: u8, target: &mut Target<'a>) -> Result<(), Refused> {
        let selected = sequence.expect_index(self.components)?;
        if selected >= self.auxiliaries.targets {
            if !self.auxiliaries.is_base_of(selected, index) {
                return Err(Reason::SeqIndex.into());
            }
            return self.decode_delta(sequence, index, selected, target);
        }
        self.check_target(selected, index)?;
        if sequence.peek()? == command::TRY_EACH {
            return self.decode_fetch_slot(sequence, target);
        }
        let parameters = sequence.expect_any_parameters(self.limits)?;
        if parameters.has(parameter::SOURCE) {
            return self.decode_copy(sequence, &parameters, target);
        }
        self.decode_full(sequence, &parameters, target)
    }

    /// FETCH without its `12 i` and `20`.
    fn decode_full(
        &mut self,
        sequence: &mut Sequence<'a>,
        parameters: &Parameters<'a>,
        target: &mut Target<'a>,
    ) -> Result<(), Refused> {
        parameters.check(&[parameter::URI, parameter::ARGS], &[parameter::ENCRYPTION])?;
        let variant = only_variant(target)?;
        let fetched = self.decode_fetch(parameters, variant.size)?;
        variant.content = fetched.args.content()?;
        variant.source = Some(fetched.source);
        sequence.expect_policy(command::FETCH)?;
        sequence.expect_policy(command::IMAGE)?;
        target.step = Step::Fetch;
        Ok(())
    }

    /// FETCHSLOT without its `12 i`: one branch for each variant, in the same order.
    fn decode_fetch_slot(&mut self, sequence: &mut Sequence<'a>, target: &mut Target<'a>) -> Result<(), Refused> {
        let mut branches = sequence.expect_branches()?;
        let variants = target.variants.as_mut_slice();
        if branches.left() != variants.len() {
            return Err(Reason::SeqTemplate.into());
        }
        for variant in variants {
            let (Some(mut branch), Some(slot)) = (branches.next()?, variant.slot) else {
                return Err(Reason::SeqTemplate.into());
            };
            expect_slot(&mut branch, slot, self.limits)?;
            let optional = [parameter::ENCRYPTION];
            let parameters = branch.expect_parameters(&[parameter::URI, parameter::ARGS], &optional, self.limits)?;
            branch.end()?;
            let fetched = self.decode_fetch(&parameters, variant.size)?;
            variant.content = fetched.args.content()?;
            variant.source = Some(fetched.source);
        }
        sequence.expect_policy(command::FETCH)?;
        sequence.expect_policy(command::IMAGE)?;
        target.step = Step::Fetch;
        Ok(())
    }

    /// COPY without its `12 i` and `20`.
    fn decode_copy(
        &mut self,
        sequence: &mut Sequence<'a>,
        parameters: &Parameters<'a>,
        target: &mut Target<'a>,
    ) -> Result<(), Refused> {
        parameters.check(&[parameter::SOURCE], &[])?;
        let index = sequence::index(parameters.source()?, self.components)?;
        self.auxiliaries.stage_number(index)?;
        sequence.expect_policy(command::COPY)?;
        sequence.expect_policy(command::IMAGE)?;
        let variant = only_variant(target)?;
        let (stage, args) = self.find_early_stage(index)?.ok_or(Reason::SeqReference)?;
        if stage.digest != variant.digest || stage.size != variant.size {
            return Err(Reason::SeqReference.into());
        }
        variant.content = args.content()?;
        self.use_auxiliary(index)?;
        target.step = Step::CopyFromStage(stage);
        Ok(())
    }

    /// DELTA without its `12 b`.
    fn decode_delta(
        &mut self,
        sequence: &mut Sequence<'a>,
        index: u8,
        base_index: u8,
        target: &mut Target<'a>,
    ) -> Result<(), Refused> {
        let parameters = sequence.expect_parameters(&[parameter::DIGEST, parameter::SIZE], &[], self.limits)?;
        let base = Base {
            digest: parameters.digest()?,
            size: parameters.size()?,
        };
        sequence.expect_policy(command::IMAGE)?;
        let mut selected = sequence.expect_index(self.components)?;
        let mut inline = None;
        if self.auxiliaries.stage_number(selected).is_ok() {
            inline = Some((selected, self.decode_stage(sequence, selected, false)?));
            selected = sequence.expect_index(self.components)?;
        }
        self.check_target(selected, index)?;
        let argument = sequence.expect(command::APPLY_DELTA)?;
        argument.demand(Reason::SeqParameter);
        let args = Args::decode(argument.bytes()?, Place::ApplyDelta, self.limits)?;
        sequence.expect_policy(command::IMAGE)?;
        let delta = args.delta.ok_or(Reason::ArgsKey)?;
        let stage_index = sequence::index(delta.stage, self.components)?;
        self.auxiliaries.stage_number(stage_index)?;
        if sequence::index(delta.base, self.components)? != base_index {
            return Err(Reason::SeqReference.into());
        }
        let early = self.find_early_stage(stage_index)?;
        let (patch, patch_args) = match (inline, early) {
            (Some((staged, stage)), None) if staged == stage_index => stage,
            (None, Some(stage)) => stage,
            _ => return Err(Reason::SeqReference.into()),
        };
        if patch_args.content().is_ok() {
            return Err(Reason::ArgsValue.into());
        }
        self.use_auxiliary(base_index)?;
        self.use_auxiliary(stage_index)?;
        only_variant(target)?.content = args.content()?;
        target.step = Step::ApplyDelta {
            algorithm: delta.algorithm,
            base,
            patch,
        };
        Ok(())
    }

    /// A target is selected (405 otherwise), and it is this one (401 otherwise).
    fn check_target(&self, selected: u8, wanted: u8) -> Result<(), Refused> {
        if selected >= self.auxiliaries.targets {
            return Err(Reason::SeqIndex.into());
        }
        if selected != wanted {
            return Err(Reason::SeqTemplate.into());
        }
        Ok(())
    }

    fn use_auxiliary(&mut self, index: u8) -> Result<(), Refused> {
        let bit = 1 << (index & 0x1f);
        if self.used & bit != 0 {
            return Err(Reason::SeqReference.into());
        }
        self.used |= bit;
        Ok(())
    }

    /// Each auxiliary is used by exactly one step.
    fn check_all_used(&self) -> Result<(), Refused> {
        let unused = (self.auxiliaries.targets..self.components).any(|index| self.used & (1 << (index & 0x1f)) == 0);
        if unused {
            return Err(Reason::SeqReference.into());
        }
        Ok(())
    }
}

/// The only variant of a target without slots.
fn only_variant<'t, 'a>(target: &'t mut Target<'a>) -> Result<&'t mut Variant<'a>, Refused> {
    match target.variants.as_mut_slice() {
        [variant] if variant.slot.is_none() => Ok(variant),
        _ => Err(Reason::SeqTemplate.into()),
    }
}

/// VALIDATE: every target, in order.
fn check_validate(validate: &[u8], targets: usize, components: u8) -> Result<(), Refused> {
    let mut sequence = Sequence::open(validate)?;
    for (_, index) in (0..targets).zip(0..) {
        sequence.expect_this_index(index, components)?;
        sequence.expect_policy(command::IMAGE)?;
    }
    sequence.end()
}
