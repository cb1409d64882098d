//! Writing manifests (profile sections 5 to 7). The encoding of a plan is unique.
//!
//! Nothing is judged here: whoever makes a release decodes what was written, with the limits of the devices it is for,
//! and compares. Ordinals and stage numbers follow from the order: stages must be numbered 0, 1, .. without gaps; a
//! source's ordinal is not read.

use super::args::{Delta, Draft, What};
use super::manifest::{
    BASE, KEY_COMMON, KEY_COMPONENT_ID, KEY_COMPONENTS, KEY_FETCH, KEY_INSTALL, KEY_REFERENCE_URI, KEY_SEQUENCE,
    KEY_SET_VERSION, KEY_SHARED, KEY_TEXT, KEY_VALIDATE, KEY_VERSION, STAGE,
};
use super::sequence::{POLICY, command, parameter};
use super::{encryption, write_digest};
use crate::cbor::{Kind, Writer};
use crate::plan::{
    Comparison, ComponentId, Content, Digest, Plan, Source, Stage, Step, Target, Variant, Version, VersionRule,
};

/// Writes the manifest map of a plan.
pub fn write_manifest(writer: &mut Writer<'_>, plan: &Plan<'_>) {
    let early = plan
        .targets
        .iter()
        .filter_map(stage_of)
        .filter(|stage| stage.early)
        .count();
    let optional = [
        plan.reference_uri.is_some(),
        !plan.domain.parts().is_empty(),
        plan.version.is_some(),
        early != 0,
        plan.text_digest.is_some(),
    ];
    writer.map(5 + optional.iter().filter(|present| **present).count());
    writer.int(KEY_VERSION).uint(1).int(KEY_SEQUENCE).uint(plan.sequence);
    writer.int(KEY_COMMON).embedded(|w| write_common(w, plan.targets));
    if let Some(uri) = plan.reference_uri {
        writer.int(KEY_REFERENCE_URI).text(uri);
    }
    if !plan.domain.parts().is_empty() {
        write_component_id(writer.int(KEY_COMPONENT_ID), &plan.domain, &[]);
    }
    if let Some(version) = &plan.version {
        writer.int(KEY_SET_VERSION).embedded(|w| write_version(w, version));
    }
    writer
        .int(KEY_VALIDATE)
        .embedded(|w| write_validate(w, plan.targets.len()));
    if early != 0 {
        writer.int(KEY_FETCH).embedded(|w| write_fetch(w, plan.targets, early));
    }
    writer.int(KEY_INSTALL).embedded(|w| write_install(w, plan.targets));
    if let Some(digest) = &plan.text_digest {
        write_digest(writer.int(KEY_TEXT), digest);
    }
}

/// The stage that a target's step uses.
fn stage_of<'t, 'a>(target: &'t Target<'a>) -> Option<&'t Stage<'a>> {
    match &target.step {
        Step::Fetch => None,
        Step::CopyFromStage(stage) => Some(stage),
        Step::ApplyDelta { patch, .. } => Some(patch),
    }
}

fn is_delta(target: &Target<'_>) -> bool {
    matches!(target.step, Step::ApplyDelta { .. })
}

/// Component indices of a plan: targets, then bases in the order of their targets, then stages by number.
#[derive(Clone, Copy)]
struct Indices {
    targets: usize,
    bases: usize,
}

impl Indices {
    fn of(targets: &[Target<'_>]) -> Self {
        Indices {
            targets: targets.len(),
            bases: targets.iter().filter(|target| is_delta(target)).count(),
        }
    }

    fn stage(self, stage: &Stage<'_>) -> u64 {
        (self.targets + self.bases) as u64 + u64::from(stage.number)
    }
}

fn write_common(writer: &mut Writer<'_>, targets: &[Target<'_>]) {
    let indices = Indices::of(targets);
    let stages = targets.iter().filter_map(stage_of).count();
    writer
        .map(2)
        .int(KEY_COMPONENTS)
        .array(indices.targets + indices.bases + stages);
    for target in targets {
        write_component_id(writer, &target.id, &[]);
    }
    for target in targets.iter().filter(|target| is_delta(target)) {
        write_component_id(writer, &target.id, &[BASE]);
    }
    for (_, number) in (0..stages).zip(0u8..) {
        writer.array(2).bytes(STAGE).bytes(&[number]);
    }
    writer.int(KEY_SHARED).embedded(|w| write_shared(w, targets));
}

/// Writes a component id with more parts at its end.
pub(super) fn write_component_id(writer: &mut Writer<'_>, id: &ComponentId<'_>, more: &[&[u8]]) {
    writer.array(id.parts().len() + more.len());
    for part in id.parts().iter().chain(more) {
        writer.bytes(part);
    }
}

fn write_version(writer: &mut Writer<'_>, version: &Version) {
    writer.array(version.parts().len());
    for part in version.parts() {
        writer.uint(*part);
    }
}

/// Pairs of command and argument that make up a target in SHARED.
fn target_commands(target: &Target<'_>) -> usize {
    let slots = target.variants.as_slice().iter().any(|variant| variant.slot.is_some());
    4 + usize::from(target.device.is_some()) + usize::from(target.version_rule.is_some()) + usize::from(slots)
}

fn write_shared(writer: &mut Writer<'_>, targets: &[Target<'_>]) {
    writer.array(2 * targets.iter().map(target_commands).sum::<usize>());
    for (target, index) in targets.iter().zip(0..) {
        write_target(writer, target, index);
    }
}

fn write_target(writer: &mut Writer<'_>, target: &Target<'_>, index: u64) {
    let variants = target.variants.as_slice();
    let whole = variants.first().filter(|variant| variant.slot.is_none());
    let optional = usize::from(target.device.is_some()) + usize::from(target.version_rule.is_some());
    select(writer, index).int(command::PARAMETERS);
    writer.map(2 + optional + if whole.is_some() { 2 } else { 0 });
    writer
        .int(parameter::VENDOR)
        .bytes(target.vendor)
        .int(parameter::CLASS)
        .bytes(target.class);
    if let Some(variant) = whole {
        write_image(writer, &variant.digest, variant.size);
    }
    if let Some(device) = target.device {
        writer.int(parameter::DEVICE).bytes(device);
    }
    if let Some(rule) = &target.version_rule {
        writer.int(parameter::VERSION).embedded(|w| write_version_rule(w, rule));
    }
    check(check(writer, command::VENDOR), command::CLASS);
    if target.device.is_some() {
        check(writer, command::DEVICE);
    }
    if target.version_rule.is_some() {
        check(writer, command::VERSION);
    }
    if whole.is_none() {
        write_branches(writer, variants, |w, variant| {
            write_image(w.int(command::PARAMETERS).map(2), &variant.digest, variant.size);
        });
    }
}

fn write_version_rule(writer: &mut Writer<'_>, rule: &VersionRule) {
    let comparison = match rule.comparison {
        Comparison::Greater => 1,
        Comparison::GreaterEqual => 2,
        Comparison::Equal => 3,
        Comparison::LesserEqual => 4,
        Comparison::Lesser => 5,
    };
    write_version(writer.array(2).uint(comparison), &rule.version);
}

/// `12 index`.
fn select<'w, 's>(writer: &'w mut Writer<'s>, index: u64) -> &'w mut Writer<'s> {
    writer.int(command::INDEX).uint(index)
}

/// A command whose argument is the reporting policy.
fn check<'w, 's>(writer: &'w mut Writer<'s>, number: i64) -> &'w mut Writer<'s> {
    writer.int(number).uint(POLICY)
}

/// Parameters 3 and 14.
fn write_image(writer: &mut Writer<'_>, digest: &Digest<'_>, size: u64) {
    writer.int(parameter::DIGEST).embedded(|w| write_digest(w, digest));
    writer.int(parameter::SIZE).uint(size);
}

/// `15 [ <<[20 {5: slot}, 5 15, ..]>> ]`, one branch per variant; `write` writes the rest of a branch, one command.
fn write_branches(writer: &mut Writer<'_>, variants: &[Variant<'_>], write: impl Fn(&mut Writer<'_>, &Variant<'_>)) {
    writer.int(command::TRY_EACH).array(variants.len());
    for (variant, number) in variants.iter().zip(0..) {
        let slot = variant.slot.unwrap_or(number);
        writer.embedded(|w| {
            w.array(6)
                .int(command::PARAMETERS)
                .map(1)
                .int(parameter::SLOT)
                .uint(slot.into());
            write(check(w, command::SLOT), variant);
        });
    }
}

fn write_validate(writer: &mut Writer<'_>, targets: usize) {
    writer.array(4 * targets);
    for (_, index) in (0..targets).zip(0..) {
        check(select(writer, index), command::IMAGE);
    }
}

/// Pairs of command and argument that make up a stage.
const STAGE_COMMANDS: usize = 4;

fn write_fetch(writer: &mut Writer<'_>, targets: &[Target<'_>], early: usize) {
    let indices = Indices::of(targets);
    writer.array(2 * STAGE_COMMANDS * early);
    let stages = targets.iter().filter_map(stage_of).count();
    for (_, number) in (0..stages).zip(0..) {
        let numbered =
            |target: &&Target<'_>| stage_of(target).is_some_and(|stage| stage.early && stage.number == number);
        for target in targets.iter().filter(numbered) {
            write_stage(writer, target, indices);
        }
    }
}

/// STAGE: `12 s, 20 {3, 14, ?19, 21, 25}, 21 15, 3 15`.
fn write_stage(writer: &mut Writer<'_>, target: &Target<'_>, indices: Indices) {
    let Some(stage) = stage_of(target) else { return };
    select(writer, indices.stage(stage)).int(command::PARAMETERS);
    writer.map(4 + usize::from(stage.source.encryption.is_some()));
    write_image(writer, &stage.digest, stage.size);
    let variant = target.variants.as_slice().first().filter(|_| !is_delta(target));
    write_fetch_parameters(writer, &stage.source, variant.map(|variant| &variant.content));
    check(check(writer, command::FETCH), command::IMAGE);
}

/// Parameters 19, 21, 25; without content the source is a patch.
fn write_fetch_parameters(writer: &mut Writer<'_>, source: &Source<'_>, content: Option<&Content>) {
    if let Some(encryption) = &source.encryption {
        writer
            .int(parameter::ENCRYPTION)
            .embedded(|w| encryption::write_info(w, encryption));
    }
    writer.int(parameter::URI).text(source.uri).int(parameter::ARGS);
    let args = Draft {
        what: content.map_or(What::Patch, |content| What::Content(content.format)),
        table: source.table,
        transport: source.transport,
        counter: content.and_then(|content| content.counter),
        min_engine: content.and_then(|content| content.min_engine),
        compression: source.compression,
        delta: None,
    };
    writer.embedded(|w| args.encode(w));
}

/// Pairs of command and argument that make up a step in INSTALL.
fn step_commands(target: &Target<'_>) -> usize {
    match &target.step {
        Step::Fetch | Step::CopyFromStage(_) => 4,
        Step::ApplyDelta { patch, .. } => 6 + if patch.early { 0 } else { STAGE_COMMANDS },
    }
}

fn write_install(writer: &mut Writer<'_>, targets: &[Target<'_>]) {
    let indices = Indices::of(targets);
    writer.array(2 * targets.iter().map(step_commands).sum::<usize>());
    let mut next_base = targets.len() as u64;
    for (target, index) in targets.iter().zip(0..) {
        match &target.step {
            Step::Fetch => write_full(writer, target, index),
            Step::CopyFromStage(stage) => write_copy(writer, index, indices.stage(stage)),
            Step::ApplyDelta { .. } => {
                write_delta(writer, target, index, next_base, indices);
                next_base += 1;
            }
        }
    }
}

/// FETCH or FETCHSLOT.
fn write_full(writer: &mut Writer<'_>, target: &Target<'_>, index: u64) {
    select(writer, index);
    let write = |w: &mut Writer<'_>, variant: &Variant<'_>| {
        let Some(source) = &variant.source else { return };
        w.int(command::PARAMETERS)
            .map(2 + usize::from(source.encryption.is_some()));
        write_fetch_parameters(w, source, Some(&variant.content));
    };
    match target.variants.as_slice() {
        [variant] if variant.slot.is_none() => write(writer, variant),
        variants => write_branches(writer, variants, write),
    }
    check(check(writer, command::FETCH), command::IMAGE);
}

/// COPY.
fn write_copy(writer: &mut Writer<'_>, index: u64, stage: u64) {
    select(writer, index)
        .int(command::PARAMETERS)
        .map(1)
        .int(parameter::SOURCE)
        .uint(stage);
    check(check(writer, command::COPY), command::IMAGE);
}

/// DELTA.
fn write_delta(writer: &mut Writer<'_>, target: &Target<'_>, index: u64, base_index: u64, indices: Indices) {
    let Step::ApplyDelta { algorithm, base, patch } = &target.step else {
        return;
    };
    select(writer, base_index).int(command::PARAMETERS).map(2);
    write_image(writer, &base.digest, base.size);
    check(writer, command::IMAGE);
    if !patch.early {
        write_stage(writer, target, indices);
    }
    let Some(variant) = target.variants.as_slice().first() else {
        return;
    };
    let args = Draft {
        what: What::Content(variant.content.format),
        table: None,
        transport: None,
        counter: variant.content.counter,
        min_engine: variant.content.min_engine,
        compression: None,
        delta: Some(Delta {
            algorithm: *algorithm,
            base: base_index,
            stage: indices.stage(patch),
        }),
    };
    select(writer, index)
        .int(command::APPLY_DELTA)
        .embedded(|w| args.encode(w));
    check(writer, command::IMAGE);
}

/// A member that follows the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member<'a> {
    /// The severed text.
    Text,
    /// The key packages, `#k`.
    KeyPackages,
    /// The chunk hashes of the source with this ordinal, `#c0` to `#cf`.
    ChunkTable(u8),
    /// A payload, by its name with `#`.
    Payload(&'a str),
}

/// Writes a member's key and the header of its value; exactly `length` bytes are to follow. Members stand in the order
/// of [`Member`], chunk tables by ordinal, payloads by length of their names, then bytewise.
pub fn write_member_header(writer: &mut Writer<'_>, member: Member<'_>, length: u64) {
    match member {
        Member::Text => writer.int(KEY_TEXT),
        Member::KeyPackages => writer.text("#k"),
        Member::ChunkTable(ordinal) => {
            let digit = *b"0123456789abcdef".get(usize::from(ordinal)).unwrap_or(&b'f');
            writer.head(Kind::Text, 3).raw(&[b'#', b'c', digit])
        }
        Member::Payload(name) => writer.text(name),
    };
    writer.head(Kind::Bytes, length);
}
