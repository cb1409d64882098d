//! Every rule for manifests that the profile numbers: one thing wrong at a time, refused with exactly its number.

mod common;
#[path = "common/value.rs"]
mod value;

use ampoule_codec::Refused;
use ampoule_codec::limits::Limits;
use ampoule_codec::plan::Target;
use ampoule_codec::suit::manifest;
use value::{V, a, b, e, i, m, t};

fn decode(manifest: &V, limits: &Limits) -> Result<(), Refused> {
    let bytes = manifest.bytes();
    let mut room = [Target::EMPTY; 16];
    manifest::decode(&bytes, limits, &mut room).map(|_| ())
}

fn number(manifest: &V) -> u16 {
    decode(manifest, &Limits::MCU).map_or_else(|refused| refused.reason.number(), |()| 0)
}

fn limit(manifest: &V) -> &'static str {
    let refused = decode(manifest, &Limits::MCU).expect_err("a limit is exceeded");
    assert_eq!(refused.reason.number(), 105);
    refused.detail
}

fn digest(byte: u8) -> V {
    a([i(-16), b(&[byte; 32])])
}

fn image(byte: u8, size: i64) -> [(i64, V); 2] {
    [(3, e(digest(byte))), (14, i(size))]
}

fn identity() -> [(i64, V); 2] {
    [(1, b(&[1; 16])), (2, b(&[2; 16]))]
}

fn policies(commands: &[i64]) -> Vec<V> {
    commands.iter().flat_map(|command| [i(*command), i(15)]).collect()
}

fn args(format: i64) -> V {
    let counter = (format == 1).then_some((-260, i(3)));
    e(m([(-257, i(format))].into_iter().chain(counter).chain([(-262, i(1))])))
}

fn chain(parts: impl IntoIterator<Item = Vec<V>>) -> V {
    V::A(parts.into_iter().flatten().collect())
}

fn select(index: i64) -> Vec<V> {
    vec![i(12), i(index)]
}

fn parameters(pairs: impl IntoIterator<Item = (i64, V)>) -> Vec<V> {
    vec![i(20), m(pairs)]
}

fn target(index: i64) -> Vec<V> {
    let pairs = identity().into_iter().chain(image(0xaa, 48));
    [select(index), parameters(pairs), policies(&[1, 2])].concat()
}

fn fetch(index: i64, uri: &str) -> Vec<V> {
    [
        select(index),
        parameters([(21, t(uri)), (25, args(1))]),
        policies(&[21, 3]),
    ]
    .concat()
}

fn stage(index: i64, uri: &str, format: i64) -> Vec<V> {
    let size = if format == 5 { 24 } else { 48 };
    let pairs = image(if format == 5 { 0xcc } else { 0xaa }, size).into_iter();
    [
        select(index),
        parameters(pairs.chain([(21, t(uri)), (25, args(format))])),
        policies(&[21, 3]),
    ]
    .concat()
}

fn copy(index: i64, from: i64) -> Vec<V> {
    [select(index), parameters([(22, i(from))]), policies(&[22, 3])].concat()
}

fn delta_args(base: i64, stage: i64) -> V {
    e(m([
        (-257, i(1)),
        (-260, i(3)),
        (-262, i(1)),
        (-264, a([i(1), i(base), i(stage)])),
    ]))
}

fn base_check(base: i64) -> Vec<V> {
    [select(base), parameters(image(0xbb, 40)), policies(&[3])].concat()
}

fn apply(index: i64, base: i64, stage: i64) -> Vec<V> {
    [select(index), vec![i(-257), delta_args(base, stage)], policies(&[3])].concat()
}

fn validate(targets: i64) -> V {
    chain((0..targets).map(|index| [select(index), policies(&[3])].concat()))
}

fn manifest(components: V, shared: V, fetch: Option<V>, install: V, targets: i64) -> V {
    let fetch = fetch.map(|fetch| (16, e(fetch)));
    let start = [
        (1, i(1)),
        (2, i(7)),
        (3, e(m([(2, components), (4, e(shared))]))),
        (7, e(validate(targets))),
    ];
    m(start.into_iter().chain(fetch).chain([(20, e(install))]))
}

fn id(parts: &[&[u8]]) -> V {
    a(parts.iter().map(|part| b(part)))
}

/// Kind (a).
fn one() -> V {
    manifest(
        a([id(&[b"app"])]),
        chain([target(0)]),
        None,
        chain([fetch(0, "#app.bin")]),
        1,
    )
}

/// Kind (b).
fn two() -> V {
    let ids = a([id(&[b"app"]), id(&[b"radio"])]);
    let install = chain([fetch(0, "#app.bin"), fetch(1, "#rad.bin")]);
    manifest(ids, chain([target(0), target(1)]), None, install, 2)
}

fn branch(slot: i64, last: Vec<V>) -> V {
    e(chain([parameters([(5, i(slot))]), policies(&[5]), last]))
}

/// Kind (c).
fn slots() -> V {
    let shared_slot = |slot| branch(slot, parameters(image(slot as u8, 48)));
    let fetch_slot = |slot, uri| branch(slot, parameters([(21, t(uri)), (25, args(1))]));
    let shared = chain([
        select(0),
        parameters(identity()),
        policies(&[1, 2]),
        vec![i(15), a([shared_slot(0), shared_slot(1)])],
    ]);
    let branches = a([fetch_slot(0, "#s0.bin"), fetch_slot(1, "#s1.bin")]);
    let install = chain([select(0), vec![i(15), branches], policies(&[21, 3])]);
    manifest(a([id(&[b"app"])]), shared, None, install, 1)
}

fn delta_ids() -> V {
    a([id(&[b"app"]), id(&[b"app", b"base"]), id(&[b"amp-stage", &[0]])])
}

/// Kind (d), the patch fetched during the installation.
fn delta() -> V {
    let install = chain([base_check(1), stage(2, "#patch", 5), apply(0, 1, 2)]);
    manifest(delta_ids(), chain([target(0)]), None, install, 1)
}

/// Kind (d), the patch fetched ahead.
fn early_delta() -> V {
    let install = chain([base_check(1), apply(0, 1, 2)]);
    manifest(
        delta_ids(),
        chain([target(0)]),
        Some(chain([stage(2, "#patch", 5)])),
        install,
        1,
    )
}

/// Two targets, each copied from a stage that was fetched ahead.
fn copies() -> V {
    let ids = a([
        id(&[b"app"]),
        id(&[b"radio"]),
        id(&[b"amp-stage", &[0]]),
        id(&[b"amp-stage", &[1]]),
    ]);
    let ahead = chain([stage(2, "#aaaa", 1), stage(3, "#bbbb", 1)]);
    manifest(
        ids,
        chain([target(0), target(1)]),
        Some(ahead),
        chain([copy(0, 3), copy(1, 2)]),
        2,
    )
}

fn spoilt(base: fn() -> V, spoil: impl FnOnce(&mut V)) -> V {
    let mut manifest = base();
    spoil(&mut manifest);
    manifest
}

/// The items of a sequence: 3 is shared, 7, 16 and 20 are those keys.
fn sequence(manifest: &mut V, key: i64) -> &mut Vec<V> {
    let value = manifest.get(key);
    let value = if key == 3 { value.inner().get(4) } else { value };
    value.inner().items()
}

fn ids(manifest: &mut V) -> &mut Vec<V> {
    manifest.get(3).inner().get(2).items()
}

/// Parameters of the first command 20 of the installation.
fn fetch_parameters(manifest: &mut V) -> &mut V {
    &mut sequence(manifest, 20)[3]
}

fn amp_args(manifest: &mut V) -> &mut V {
    fetch_parameters(manifest).get(25).inner()
}

type Case = (&'static str, u16, fn() -> V, fn(&mut V));

fn run(cases: &[Case]) {
    for (name, expected, base, spoil) in cases {
        assert_eq!(number(&spoilt(*base, spoil)), *expected, "{name}");
    }
}

#[test]
fn the_unspoilt_manifests_are_accepted() {
    for base in [one, two, slots, delta, early_delta, copies] {
        assert_eq!(number(&base()), 0);
    }
}

#[test]
fn the_manifest_map() {
    run(&[
        ("version 2", 301, one, |x| x.set(1, i(2))),
        ("version of another type", 301, one, |x| x.set(1, t("1"))),
        ("no version", 302, one, |x| x.remove(1)),
        ("no sequence number", 302, one, |x| x.remove(2)),
        ("no common", 302, one, |x| x.remove(3)),
        ("no validate", 302, one, |x| x.remove(7)),
        ("no install", 302, one, |x| x.remove(20)),
        ("no components", 302, one, |x| x.get(3).inner().remove(2)),
        ("no shared sequence", 302, one, |x| x.get(3).inner().remove(4)),
        ("dependencies", 303, one, |x| x.get(3).inner().set(1, m([]))),
        ("key 8 load", 303, one, |x| x.set(8, e(a([])))),
        ("key 9 invoke", 303, one, |x| x.set(9, e(a([])))),
        ("key 14", 303, one, |x| x.set(14, e(a([])))),
        ("key 15", 303, one, |x| x.set(15, e(a([])))),
        ("key 18", 303, one, |x| x.set(18, e(a([])))),
        ("key 24", 303, one, |x| x.set(24, e(a([])))),
        ("key 0", 303, one, |x| x.set(0, i(0))),
        ("key -1", 303, one, |x| x.set(-1, i(0))),
        ("forbidden before missing", 303, one, |x| {
            x.remove(1);
            x.set(24, i(0));
        }),
        ("a name as key", 303, one, |x| {
            let V::M(pairs) = x else { unreachable!() };
            pairs.push((t("x"), i(0)));
        }),
        ("sequence number of another type", 305, one, |x| x.set(2, i(-1))),
        ("reference uri of another type", 305, one, |x| x.set(4, i(1))),
        ("reference uri", 0, one, |x| x.set(4, t("urn:x"))),
        ("domain", 0, one, |x| x.set(5, id(&[b"main"]))),
        ("empty domain", 305, one, |x| x.set(5, a([]))),
        ("domain of 5 parts", 305, one, |x| {
            x.set(5, id(&[b"1", b"2", b"3", b"4", b"5"]))
        }),
        ("domain with an empty part", 305, one, |x| x.set(5, id(&[b""]))),
        ("set-version", 0, one, |x| {
            x.set(6, e(a([i(1), i(2), i(3), i(4), i(5)])))
        }),
        ("set-version of 6 parts", 305, one, |x| x.set(6, e(a((0..6).map(i))))),
        ("set-version of no parts", 305, one, |x| x.set(6, e(a([])))),
        ("set-version with a negative part", 305, one, |x| {
            x.set(6, e(a([i(-1)])))
        }),
        ("set-version not embedded", 305, one, |x| x.set(6, a([i(1)]))),
        ("set-version with more behind it", 104, one, |x| {
            x.set(6, b(&[0x81, 0x01, 0x00]))
        }),
        ("text digest", 0, one, |x| x.set(23, digest(9))),
        ("text embedded", 305, one, |x| x.set(23, e(m([])))),
        ("text digest of another algorithm", 305, one, |x| {
            x.set(23, a([i(-43), b(&[9; 48])]))
        }),
        ("text digest too short", 305, one, |x| {
            x.set(23, a([i(-16), b(&[9; 31])]))
        }),
        ("install not embedded", 101, one, |x| x.set(20, a([]))),
        ("validate with more behind it", 104, one, |x| {
            let mut bytes = validate(1).bytes();
            bytes.push(0);
            x.set(7, b(&bytes));
        }),
        ("order of keys", 102, one, |x| {
            let V::M(pairs) = x else { unreachable!() };
            pairs.swap(0, 1);
        }),
        ("key twice", 103, one, |x| {
            let V::M(pairs) = x else { unreachable!() };
            pairs.insert(1, (i(1), i(1)));
        }),
        ("tag before the map", 101, one, |x| *x = V::G(1070, Box::new(x.clone()))),
        ("float", 101, one, |x| x.set(2, V::Raw(vec![0xf9, 0, 0]))),
    ]);
}

#[test]
fn components_and_their_order() {
    run(&[
        ("no component", 304, one, |x| ids(x).clear()),
        ("not an array", 304, one, |x| x.get(3).inner().set(2, i(1))),
        ("id without parts", 304, one, |x| ids(x)[0] = a([])),
        ("id of 5 parts", 304, one, |x| {
            ids(x)[0] = id(&[b"1", b"2", b"3", b"4", b"5"])
        }),
        ("part of 32 bytes", 0, one, |x| ids(x)[0] = id(&[&[7; 32]])),
        ("part of 33 bytes", 304, one, |x| ids(x)[0] = id(&[&[7; 33]])),
        ("empty part", 304, one, |x| ids(x)[0] = id(&[b""])),
        ("text as part", 304, one, |x| ids(x)[0] = a([t("app")])),
        ("same id twice", 304, two, |x| ids(x)[1] = id(&[b"app"])),
        ("stage as target", 304, one, |x| ids(x)[0] = id(&[b"amp-stage", &[0]])),
        ("component that is nothing", 304, one, |x| ids(x).push(id(&[b"else"]))),
        ("base of nothing", 304, delta, |x| ids(x)[1] = id(&[b"else", b"base"])),
        ("stage before base", 304, delta, |x| ids(x).swap(1, 2)),
        ("stage that starts with 1", 304, delta, |x| {
            ids(x)[2] = id(&[b"amp-stage", &[1]])
        }),
        ("stages in wrong order", 304, copies, |x| ids(x).swap(2, 3)),
        ("stage number in 2 bytes", 304, delta, |x| {
            ids(x)[2] = id(&[b"amp-stage", &[0, 0]])
        }),
        ("base never used", 406, one, |x| ids(x).push(id(&[b"app", b"base"]))),
        ("stage never used", 406, one, |x| ids(x).push(id(&[b"amp-stage", &[0]]))),
        ("more targets than components", 405, one, |x| {
            let more = target(1);
            sequence(x, 3).extend(more);
        }),
    ]);
}

#[test]
fn shared_sequences() {
    run(&[
        ("empty", 401, one, |x| sequence(x, 3).clear()),
        ("half a pair", 401, one, |x| drop(sequence(x, 3).pop())),
        ("index true", 405, one, |x| sequence(x, 3)[1] = V::True),
        ("index list", 405, one, |x| sequence(x, 3)[1] = a([i(0)])),
        ("index out of range", 405, one, |x| sequence(x, 3)[1] = i(1)),
        ("target out of order", 401, two, |x| sequence(x, 3)[1] = i(1)),
        ("no index", 401, one, |x| drop(sequence(x, 3).drain(..2))),
        ("vendor missing", 403, one, |x| sequence(x, 3)[3].remove(1)),
        ("class missing", 403, one, |x| sequence(x, 3)[3].remove(2)),
        ("digest missing", 403, one, |x| sequence(x, 3)[3].remove(3)),
        ("size missing", 403, one, |x| sequence(x, 3)[3].remove(14)),
        ("neither digest nor size, no slots", 401, one, |x| {
            sequence(x, 3)[3].remove(3);
            sequence(x, 3)[3].remove(14);
        }),
        ("slot beside digest", 403, one, |x| sequence(x, 3)[3].set(5, i(0))),
        ("uri beside digest", 403, one, |x| {
            sequence(x, 3)[3].set(21, t("#app.bin"))
        }),
        ("soft failure", 403, one, |x| sequence(x, 3)[3].set(13, V::True)),
        ("negative parameter", 403, one, |x| sequence(x, 3)[3].set(-1, i(1))),
        ("parameters not a map", 403, one, |x| sequence(x, 3)[3] = i(1)),
        ("vendor as tag 112", 403, one, |x| {
            sequence(x, 3)[3].set(1, V::G(112, Box::new(b(&[1; 16]))))
        }),
        ("vendor of 15 bytes", 403, one, |x| {
            sequence(x, 3)[3].set(1, b(&[1; 15]))
        }),
        ("digest not embedded", 403, one, |x| sequence(x, 3)[3].set(3, digest(1))),
        ("digest SHA-512", 0, one, |x| {
            sequence(x, 3)[3].set(3, e(a([i(-44), b(&[1; 64])])))
        }),
        ("digest SHA-384", 403, one, |x| {
            sequence(x, 3)[3].set(3, e(a([i(-43), b(&[1; 48])])))
        }),
        ("digest of another length", 403, one, |x| {
            sequence(x, 3)[3].set(3, e(a([i(-44), b(&[1; 32])])))
        }),
        ("size negative", 403, one, |x| sequence(x, 3)[3].set(14, i(-1))),
        ("policy 0", 404, one, |x| sequence(x, 3)[5] = i(0)),
        ("policy text", 404, one, |x| sequence(x, 3)[5] = t("15")),
        ("class before vendor", 401, one, |x| {
            sequence(x, 3).swap(4, 6);
        }),
        ("no class condition", 401, one, |x| drop(sequence(x, 3).drain(6..))),
        ("device without its condition", 401, one, |x| {
            sequence(x, 3)[3].set(24, b(&[3; 16]))
        }),
        ("device with its condition", 0, one, |x| {
            sequence(x, 3)[3].set(24, b(&[3; 16]));
            sequence(x, 3).extend(policies(&[24]));
        }),
        ("condition device without device", 401, one, |x| {
            sequence(x, 3).extend(policies(&[24]))
        }),
        ("version rule with its condition", 0, one, |x| {
            sequence(x, 3)[3].set(28, e(a([i(2), a([i(1), i(4)])])));
            sequence(x, 3).extend(policies(&[28]));
        }),
        ("version rule without its condition", 401, one, |x| {
            sequence(x, 3)[3].set(28, e(a([i(2), a([i(1), i(4)])])));
        }),
        ("comparison 0", 403, one, |x| {
            sequence(x, 3)[3].set(28, e(a([i(0), a([i(1)])])))
        }),
        ("comparison 6", 403, one, |x| {
            sequence(x, 3)[3].set(28, e(a([i(6), a([i(1)])])))
        }),
        ("version without parts", 403, one, |x| {
            sequence(x, 3)[3].set(28, e(a([i(1), a([])])))
        }),
        ("version of 6 parts", 403, one, |x| {
            sequence(x, 3)[3].set(28, e(a([i(1), a((0..6).map(i))])))
        }),
        ("unknown command", 402, one, |x| sequence(x, 3)[4] = i(99)),
        ("command 13", 402, one, |x| sequence(x, 3)[4] = i(13)),
        ("command 32 run-sequence", 402, one, |x| sequence(x, 3)[0] = i(32)),
        ("command -258", 402, one, |x| sequence(x, 3)[4] = i(-258)),
        ("command -257", 401, one, |x| sequence(x, 3)[4] = i(-257)),
        ("command of another type", 401, one, |x| sequence(x, 3)[4] = t("1")),
        ("fetch in shared", 401, one, |x| sequence(x, 3).extend(policies(&[21]))),
    ]);
}

#[test]
fn slots_in_shared_and_install() {
    fn branches(x: &mut V, key: i64) -> &mut Vec<V> {
        let place = if key == 3 { 9 } else { 3 };
        sequence(x, key)[place].items()
    }
    fn commands(x: &mut V, key: i64, branch: usize) -> &mut Vec<V> {
        branches(x, key)[branch].inner().items()
    }
    run(&[
        ("one branch", 401, slots, |x| drop(branches(x, 3).pop())),
        ("ends in nil", 401, slots, |x| branches(x, 20).push(V::Null)),
        ("nil as branch", 401, slots, |x| branches(x, 3)[1] = V::Null),
        ("slot 1 first", 401, slots, |x| branches(x, 3).swap(0, 1)),
        ("same slot twice", 401, slots, |x| commands(x, 3, 1)[1].set(5, i(0))),
        ("slot 0 and 2", 401, slots, |x| commands(x, 3, 1)[1].set(5, i(2))),
        ("other slot in install", 401, slots, |x| branches(x, 20).swap(0, 1)),
        ("fewer branches in install", 401, slots, |x| {
            let more = branches(x, 3)[1].clone();
            branches(x, 3).push(more);
            commands(x, 3, 2)[1].set(5, i(2));
        }),
        ("slot condition with policy 14", 404, slots, |x| {
            commands(x, 3, 0)[3] = i(14)
        }),
        ("slot missing", 403, slots, |x| commands(x, 3, 0)[1].remove(5)),
        ("size missing", 403, slots, |x| commands(x, 3, 0)[5].remove(14)),
        ("uri in shared", 403, slots, |x| {
            commands(x, 3, 0)[5].set(21, t("#s0.bin"))
        }),
        ("digest in install", 403, slots, |x| {
            commands(x, 20, 0)[5].set(3, e(digest(1)))
        }),
        ("more in a branch", 401, slots, |x| {
            commands(x, 20, 0).extend(policies(&[3]))
        }),
        ("digest beside slots", 401, slots, |x| {
            sequence(x, 3)[3].set(3, e(digest(1)));
            sequence(x, 3)[3].set(14, i(48));
        }),
        ("plain fetch of a target with slots", 401, slots, |x| {
            *sequence(x, 20) = fetch(0, "#app.bin");
        }),
        ("slots for a target without", 401, one, |x| {
            let mut other = slots();
            *sequence(x, 20) = sequence(&mut other, 20).clone();
        }),
        ("try-each of a number", 401, slots, |x| sequence(x, 20)[3] = i(1)),
    ]);
}

#[test]
fn install_sequences_and_validation() {
    run(&[
        ("wrong target", 401, two, |x| sequence(x, 20)[1] = i(1)),
        ("index out of range", 405, two, |x| sequence(x, 20)[1] = i(2)),
        ("one step missing", 401, two, |x| drop(sequence(x, 20).drain(8..))),
        ("one step more", 401, one, |x| {
            sequence(x, 20).extend(fetch(0, "#app.bi2"))
        }),
        ("fetch twice", 401, one, |x| {
            sequence(x, 20).splice(4..4, policies(&[21]));
        }),
        ("no image condition", 401, one, |x| drop(sequence(x, 20).drain(6..))),
        ("fetch policy", 404, one, |x| sequence(x, 20)[5] = i(2)),
        ("uri missing", 403, one, |x| fetch_parameters(x).remove(21)),
        ("uri of another type", 403, one, |x| {
            fetch_parameters(x).set(21, b(b"#app.bin"))
        }),
        ("args missing", 403, one, |x| fetch_parameters(x).remove(25)),
        ("args of another type", 403, one, |x| fetch_parameters(x).set(25, i(1))),
        ("digest again", 403, one, |x| fetch_parameters(x).set(3, e(digest(1)))),
        ("write content", 402, one, |x| sequence(x, 20)[4] = i(18)),
        ("swap", 402, one, |x| sequence(x, 20)[4] = i(31)),
        ("vendor check again", 401, one, |x| sequence(x, 20)[4] = i(1)),
        ("validation missing", 401, two, |x| drop(sequence(x, 7).drain(4..))),
        ("validation out of order", 401, two, |x| sequence(x, 7)[1] = i(1)),
        ("validation of nothing", 405, two, |x| sequence(x, 7)[5] = i(2)),
        ("validation twice", 401, one, |x| sequence(x, 7).extend(policies(&[3]))),
        ("validation with policy", 404, one, |x| sequence(x, 7)[3] = i(5)),
        ("validation invokes", 402, one, |x| sequence(x, 7)[2] = i(23)),
    ]);
}

#[test]
fn stages_copies_and_deltas() {
    fn stage_args(x: &mut V) -> &mut V {
        sequence(x, 20)[9].get(25).inner()
    }
    fn apply_args(x: &mut V) -> &mut V {
        sequence(x, 20)[17].inner()
    }
    run(&[
        ("empty payload-fetch", 401, one, |x| x.set(16, e(a([])))),
        ("payload-fetch into a target", 405, copies, |x| {
            sequence(x, 16)[1] = i(0)
        }),
        ("payload-fetch out of order", 401, copies, |x| {
            sequence(x, 16).rotate_left(8);
        }),
        ("stage twice", 401, copies, |x| sequence(x, 16)[9] = i(2)),
        ("copy of what is not fetched", 406, copies, |x| {
            drop(sequence(x, 16).drain(8..))
        }),
        ("copy from a target", 405, copies, |x| sequence(x, 20)[3].set(22, i(1))),
        ("copy from nowhere", 405, copies, |x| sequence(x, 20)[3].set(22, i(4))),
        ("copy twice from one stage", 406, copies, |x| {
            sequence(x, 20)[3].set(22, i(2))
        }),
        ("copy of another digest", 406, copies, |x| {
            sequence(x, 16)[3].set(3, e(digest(1)))
        }),
        ("copy of another size", 406, copies, |x| {
            sequence(x, 16)[3].set(14, i(49))
        }),
        ("copy and uri", 403, copies, |x| sequence(x, 20)[3].set(21, t("#cccc"))),
        ("copy of a patch", 411, copies, |x| sequence(x, 16)[3].set(25, args(5))),
        ("copy policy", 404, copies, |x| sequence(x, 20)[5] = i(1)),
        ("delta from the base of nothing", 405, delta, |x| {
            sequence(x, 20)[1] = i(2)
        }),
        ("delta of a stage that is not selected", 406, delta, |x| {
            *apply_args(x).get(-264) = a([i(1), i(1), i(1)]);
            *apply_args(x).get(-264) = a([i(1), i(2), i(2)]);
        }),
        ("delta stage is a base", 405, delta, |x| {
            *apply_args(x).get(-264) = a([i(1), i(1), i(1)])
        }),
        ("delta stage out of range", 405, delta, |x| {
            *apply_args(x).get(-264) = a([i(1), i(1), i(3)])
        }),
        ("delta algorithm 2", 411, delta, |x| {
            *apply_args(x).get(-264) = a([i(2), i(1), i(2)])
        }),
        ("delta of 2 members", 411, delta, |x| {
            *apply_args(x).get(-264) = a([i(1), i(1)])
        }),
        ("delta args missing", 410, delta, |x| apply_args(x).remove(-264)),
        ("delta args with a chunk table", 410, delta, |x| {
            apply_args(x).set(-258, a([i(1024), i(-16), b(&[0; 32])]));
        }),
        ("delta args compressed", 410, delta, |x| apply_args(x).set(-263, i(1))),
        ("delta makes a nested envelope", 411, delta, |x| {
            apply_args(x).set(-257, i(6));
            apply_args(x).remove(-260);
        }),
        ("delta makes a patch", 411, delta, |x| {
            apply_args(x).set(-257, i(5));
            apply_args(x).remove(-260);
        }),
        ("delta args of another type", 403, delta, |x| sequence(x, 20)[17] = i(1)),
        ("patch with another format", 411, delta, |x| {
            stage_args(x).set(-257, i(0))
        }),
        ("patch with a counter", 410, delta, |x| stage_args(x).set(-260, i(1))),
        ("patch compressed", 410, delta, |x| stage_args(x).set(-263, i(1))),
        ("patch with engine version", 410, delta, |x| {
            stage_args(x).set(-261, a([i(1), i(0), i(0)]))
        }),
        ("patch with delta", 410, delta, |x| {
            stage_args(x).set(-264, a([i(1), i(1), i(2)]))
        }),
        ("patch fetched twice", 406, delta, |x| {
            let early = chain([stage(2, "#aaaa", 5)]);
            x.set(16, e(early));
        }),
        ("patch never fetched", 406, delta, |x| {
            drop(sequence(x, 20).drain(6..14))
        }),
        ("base check without size", 403, delta, |x| sequence(x, 20)[3].remove(14)),
        ("no base check", 401, delta, |x| drop(sequence(x, 20).drain(4..6))),
        ("delta into another target", 405, delta, |x| sequence(x, 20)[15] = i(1)),
        ("delta of a target with slots", 401, delta, |x| {
            let mut other = slots();
            *sequence(x, 3) = sequence(&mut other, 3).clone();
        }),
        ("unused early stage", 406, early_delta, |x| {
            ids(x).push(id(&[b"amp-stage", &[1]]));
            let more = stage(3, "#patch2", 5);
            sequence(x, 16).extend(more);
        }),
    ]);
}

#[test]
fn fetch_arguments() {
    run(&[
        ("profile missing", 412, one, |x| amp_args(x).remove(-262)),
        ("profile 2", 412, one, |x| amp_args(x).set(-262, i(2))),
        ("profile of another type", 412, one, |x| amp_args(x).set(-262, t("1"))),
        ("format missing", 410, one, |x| amp_args(x).remove(-257)),
        ("format 7", 411, one, |x| amp_args(x).set(-257, i(7))),
        ("format 5 in a fetch", 411, one, |x| {
            amp_args(x).set(-257, i(5));
            amp_args(x).remove(-260);
        }),
        ("counter missing", 410, one, |x| amp_args(x).remove(-260)),
        ("counter of a raw payload", 410, one, |x| amp_args(x).set(-257, i(0))),
        ("raw payload", 0, one, |x| {
            amp_args(x).set(-257, i(0));
            amp_args(x).remove(-260);
        }),
        ("counter 2^32-1", 0, one, |x| amp_args(x).set(-260, i(0xffff_ffff))),
        ("counter 2^32", 411, one, |x| amp_args(x).set(-260, i(0x1_0000_0000))),
        ("engine version", 0, one, |x| {
            amp_args(x).set(-261, a([i(1), i(2), i(3)]))
        }),
        ("engine version of 2 parts", 411, one, |x| {
            amp_args(x).set(-261, a([i(1), i(2)]))
        }),
        ("unknown key -256", 410, one, |x| amp_args(x).set(-256, i(1))),
        ("unknown key -265", 410, one, |x| amp_args(x).set(-265, i(1))),
        ("unknown key 1", 410, one, |x| amp_args(x).set(1, i(1))),
        ("delta in a fetch", 410, one, |x| {
            amp_args(x).set(-264, a([i(1), i(1), i(1)]))
        }),
        ("compressed", 0, one, |x| {
            amp_args(x).set(-259, a([i(-16), b(&[5; 32]), i(40)]));
            amp_args(x).set(-263, i(2));
        }),
        ("compression 3", 411, one, |x| amp_args(x).set(-263, i(3))),
        ("compressed without transport digest", 410, one, |x| {
            amp_args(x).set(-263, i(1))
        }),
        ("transport digest of nothing", 410, one, |x| {
            amp_args(x).set(-259, a([i(-16), b(&[5; 32]), i(48)]));
        }),
        ("transport digest SHA-1", 411, one, |x| {
            amp_args(x).set(-259, a([i(-14), b(&[5; 20]), i(48)]))
        }),
        ("table", 0, one, |x| {
            amp_args(x).set(-258, a([i(1024), i(-16), b(&[0; 32])]))
        }),
        ("table chunk size 3000", 411, one, |x| {
            amp_args(x).set(-258, a([i(3000), i(-16), b(&[0; 32])]))
        }),
        ("table with SHA-512", 411, one, |x| {
            amp_args(x).set(-258, a([i(1024), i(-44), b(&[0; 32])]))
        }),
        ("table of 2 chunks for 1", 507, one, |x| {
            amp_args(x).set(-258, a([i(1024), i(-16), b(&[0; 64])]))
        }),
        ("table too short", 507, one, |x| {
            amp_args(x).set(-258, a([i(1024), i(-16), b(&[0; 31])]))
        }),
        ("arguments with more behind them", 104, one, |x| {
            let mut bytes = amp_args(x).bytes();
            bytes.push(0);
            fetch_parameters(x).set(25, b(&bytes));
        }),
        ("arguments out of order", 102, one, |x| {
            let V::M(pairs) = amp_args(x) else { unreachable!() };
            pairs.swap(0, 1);
        }),
    ]);
}

#[test]
fn chunk_tables_follow_the_transport_size() {
    let with_table = |size: i64, table: usize| {
        number(&spoilt(one, |x| {
            sequence(x, 3)[3].set(14, i(size));
            amp_args(x).set(-258, a([i(1024), i(-16), b(&vec![0; table])]));
        }))
    };
    assert_eq!(with_table(0, 0), 0);
    assert_eq!(with_table(0, 32), 507);
    assert_eq!(with_table(1024, 32), 0);
    assert_eq!(with_table(1025, 32), 507);
    assert_eq!(with_table(1025, 64), 0);
    assert_eq!(with_table(16 * 1024, 16 * 32), 0);
    assert_eq!(with_table(16 * 1024, 32), 507);
    assert_eq!(with_table(16 * 1024 + 1, 17 * 32), 507);
    assert_eq!(with_table(16 * 1024 + 1, 32), 0);
}

fn encryption(algorithm: i64, nonce: usize) -> V {
    let recipient = a([b(&[]), m([(1, i(-6)), (4, b(&[4; 16]))]), b(&[])]);
    let (protected, unprotected) = match algorithm {
        -65532 => (b(&[]), m([(1, i(algorithm)), (5, b(&vec![5; nonce]))])),
        _ => (e(m([(1, i(algorithm))])), m([(5, b(&vec![5; nonce]))])),
    };
    V::G(96, Box::new(a([protected, unprotected, V::Null, a([recipient])])))
}

#[test]
fn encryption_infos() {
    fn encrypted(info: V) -> u16 {
        number(&spoilt(one, |x| {
            fetch_parameters(x).set(19, e(info));
            amp_args(x).set(-258, a([i(1024), i(-16), b(&[0; 32])]));
            amp_args(x).set(-259, a([i(-16), b(&[5; 32]), i(64)]));
        }))
    }
    fn with(spoil: impl FnOnce(&mut Vec<V>)) -> u16 {
        let V::G(96, mut item) = encryption(3, 12) else {
            unreachable!()
        };
        spoil(item.items());
        encrypted(V::G(96, item))
    }
    assert_eq!(encrypted(encryption(3, 12)), 0);
    assert_eq!(encrypted(encryption(24, 12)), 0);
    assert_eq!(encrypted(encryption(-65532, 16)), 0);
    assert_eq!(encrypted(encryption(1, 12)), 702);
    assert_eq!(encrypted(encryption(-65534, 16)), 702);
    assert_eq!(encrypted(encryption(3, 16)), 701);
    assert_eq!(encrypted(encryption(-65532, 12)), 701);
    assert_eq!(with(|_| ()), 0);
    assert_eq!(with(|x| x[2] = b(&[])), 701, "attached");
    assert_eq!(with(|x| x[3] = a([])), 701, "no recipient");
    assert_eq!(with(|x| x[1].set(1, i(3))), 701, "algorithm in both headers");
    assert_eq!(
        with(|x| x[0] = e(m([(1, i(-65532))]))),
        701,
        "counter mode in the protected header"
    );
    assert_eq!(with(|x| x[0] = e(m([]))), 701, "empty map as protected header");
    assert_eq!(
        with(|x| x[3].items()[0].items()[1].set(1, i(-5))),
        701,
        "another recipient"
    );
    assert_eq!(
        with(|x| x[3].items()[0].items()[1].set(4, b(&[4; 15]))),
        701,
        "short key id"
    );
    assert_eq!(
        with(|x| x[3].items()[0].items()[2] = b(&[1])),
        701,
        "key in the manifest"
    );
    assert_eq!(encrypted(V::G(16, Box::new(a([])))), 701, "COSE_Encrypt0");
    run(&[
        ("encrypted without table", 410, one, |x| {
            fetch_parameters(x).set(19, e(encryption(3, 12)));
            amp_args(x).set(-259, a([i(-16), b(&[5; 32]), i(64)]));
        }),
        ("encrypted without transport digest", 410, one, |x| {
            fetch_parameters(x).set(19, e(encryption(3, 12)));
            amp_args(x).set(-258, a([i(1024), i(-16), b(&[0; 32])]));
        }),
        ("encryption of another type", 403, one, |x| {
            fetch_parameters(x).set(19, i(1))
        }),
    ]);
}

#[test]
fn addresses() {
    let address = |uri: &str| number(&spoilt(one, |x| fetch_parameters(x).set(21, t(uri))));
    for good in [
        "#abcd",
        "#a-_.",
        "https://x",
        "coaps://x",
        "amp:x",
        "amp:releases/7/app.bin",
    ] {
        assert_eq!(address(good), 0, "{good}");
    }
    let longest = format!("#{}", "a".repeat(31));
    assert_eq!((address(&longest), address(&format!("{longest}a"))), (0, 501));
    for bad in [
        "",
        "#",
        "#k",
        "#c0",
        "#abc",
        "#Abcd",
        "#ab/cd",
        "#ab cd",
        "##abcd",
        "http://x",
        "coap://x",
        "file:///x",
        "HTTPS://x",
        "https:",
        "https://",
        "amp:",
        "amp:a b",
        "x",
        "amp:\u{e9}",
    ] {
        assert_eq!(address(bad), 501, "{bad}");
    }
    let both = |first: &str, second: &str| {
        number(&spoilt(two, |x| {
            sequence(x, 20)[3].set(21, t(first));
            sequence(x, 20)[11].set(21, t(second));
        }))
    };
    assert_eq!(both("#aaaa", "#aaab"), 0);
    assert_eq!(both("#zzzz", "#aaaaa"), 0, "shorter names come first");
    assert_eq!(both("#aaaaa", "#zzzz"), 504);
    assert_eq!(both("#aaab", "#aaaa"), 504);
    assert_eq!(both("#aaaa", "#aaaa"), 503);
    assert_eq!(both("amp:b", "amp:a"), 0, "only names are ordered");
    assert_eq!(both("amp:a", "amp:a"), 0);
}

#[test]
fn every_limit_holds_and_names_itself() {
    let set = |key: i64, value: V| spoilt(one, |x| x.set(key, value));
    assert_eq!(number(&set(2, i((1 << 53) - 1))), 0);
    assert_eq!(limit(&set(2, i(1 << 53))), "SEQ_MAX");

    assert_eq!(number(&set(4, t(&"a".repeat(128)))), 0);
    assert_eq!(limit(&set(4, t(&"a".repeat(129)))), "URI_LEN_MAX");
    let uri = |length: usize| {
        spoilt(one, |x| {
            fetch_parameters(x).set(21, t(&format!("amp:{}", "a".repeat(length - 4))))
        })
    };
    assert_eq!(number(&uri(128)), 0);
    assert_eq!(limit(&uri(129)), "URI_LEN_MAX");
    let announced = spoilt(one, |x| fetch_parameters(x).set(21, V::Raw(vec![0x79, 0xff, 0xff])));
    assert_eq!(limit(&announced), "URI_LEN_MAX", "judged by the header");

    let size = |size: i64| spoilt(one, |x| sequence(x, 3)[3].set(14, i(size)));
    assert_eq!(number(&size((1 << 31) - 1)), 0);
    assert_eq!(limit(&size(1 << 31)), "IMAGE_SIZE_MAX");

    let chunk = |size: i64| spoilt(one, |x| amp_args(x).set(-258, a([i(size), i(-16), b(&[0; 32])])));
    assert_eq!(number(&chunk(1024)), 0);
    assert_eq!(limit(&chunk(512)), "CHUNK_MIN");
    assert_eq!(number(&chunk(16384)), 0);
    assert_eq!(limit(&chunk(32768)), "CHUNK_MAX");

    let tables = |size: i64| {
        spoilt(one, |x| {
            sequence(x, 3)[3].set(14, i(size));
            amp_args(x).set(-258, a([i(1024), i(-16), b(&[0; 32])]));
        })
    };
    assert_eq!(number(&tables(512 * 1024)), 0);
    assert_eq!(limit(&tables(512 * 1024 + 1)), "CHUNK_TABLE_MAX");

    let transport = |size: i64| {
        spoilt(one, |x| {
            amp_args(x).set(-259, a([i(-16), b(&[5; 32]), i(size)]));
            amp_args(x).set(-263, i(1));
        })
    };
    assert_eq!(number(&transport((1 << 31) - 1)), 0);
    assert_eq!(limit(&transport(1 << 31)), "IMAGE_SIZE_MAX");

    let many = |count: i64, name: fn(i64) -> String| {
        let ids = a((0..count).map(|n| id(&[&[n as u8 + 1]])));
        let install = chain((0..count).map(|n| fetch(n, &name(n))));
        manifest(ids, chain((0..count).map(target)), None, install, count)
    };
    assert_eq!(number(&many(8, |n| format!("#aaa{n}"))), 0);
    assert_eq!(limit(&many(9, |n| format!("#aaa{n}"))), "COMPONENTS_MAX");
    let lower = Limits {
        payloads_max: 2,
        uris_max: 3,
        ..Limits::MCU
    };
    let judged = |manifest: &V| decode(manifest, &lower).map_err(|refused| refused.detail);
    assert_eq!(judged(&many(2, |n| format!("#aaa{n}"))), Ok(()));
    assert_eq!(judged(&many(3, |n| format!("#aaa{n}"))), Err("PAYLOADS_MAX"));
    assert_eq!(judged(&many(3, |n| format!("amp:{n}"))), Ok(()));
    assert_eq!(judged(&many(4, |n| format!("amp:{n}"))), Err("URIS_MAX"));

    let branches = |count: i64| {
        let shared_slot = |slot| branch(slot, parameters(image(slot as u8, 48)));
        let fetch_slot = |slot| branch(slot, parameters([(21, t(&format!("#slot{slot}"))), (25, args(1))]));
        spoilt(slots, |x| {
            sequence(x, 3)[9] = a((0..count).map(shared_slot));
            sequence(x, 20)[3] = a((0..count).map(fetch_slot));
        })
    };
    assert_eq!(number(&branches(4)), 0);
    assert_eq!(limit(&branches(5)), "TRY_BRANCHES_MAX");

    let length = one().bytes().len() as u32;
    let with_manifest_max = |manifest_max: u32| {
        decode(
            &one(),
            &Limits {
                manifest_max,
                ..Limits::MCU
            },
        )
    };
    assert!(with_manifest_max(length).is_ok());
    assert_eq!(with_manifest_max(length - 1).unwrap_err().detail, "MANIFEST_MAX");

    let deep = spoilt(one, |x| x.set(2, (0..9).fold(i(1), |inner, _| a([inner]))));
    assert_eq!(limit(&deep), "DEPTH_MAX");
}

#[test]
fn a_device_with_room_for_one_target_says_so() {
    let bytes = two().bytes();
    let mut room = [Target::EMPTY; 1];
    let refused = manifest::decode(&bytes, &Limits::MCU, &mut room).unwrap_err();
    assert_eq!((refused.reason.number(), refused.detail), (105, "COMPONENTS_MAX"));
}
