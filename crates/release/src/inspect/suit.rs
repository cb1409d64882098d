//! Any SUIT file, of any maker, down to every field (draft-ietf-suit-manifest and its companions).
//!
//! This reader is for looking: it is lenient, names what it knows and shows the rest as it stands. Whether a device
//! would take the file is decided by `codec` and `trust` alone.

use ciborium::Value;
use trust::Sha256;

use crate::identity;
use crate::tree::{Tree, hex};

/// Levels of byte strings with CBOR inside that are opened.
const EMBEDDED_MAX: usize = 12;

/// A SUIT envelope, with or without its tag 107, or a bare manifest (tag 1070); `None` when it is neither.
pub(crate) fn explain(value: &Value) -> Option<Tree> {
    match value {
        Value::Tag(107, inner) => Some(envelope(inner.as_map()?)),
        Value::Tag(1070, inner) => Some(
            Tree::fields()
                .with("kind", "SUIT manifest without envelope")
                .with("manifest", manifest(inner, 0)),
        ),
        Value::Map(members)
            if [2, 3]
                .iter()
                .all(|key| members.iter().any(|(name, _)| number(name) == Some(*key))) =>
        {
            Some(envelope(members))
        }
        _ => None,
    }
}

fn envelope(members: &[(Value, Value)]) -> Tree {
    let mut tree = Tree::fields().with("kind", "SUIT envelope");
    for (key, value) in members {
        let (name, part) = match number(key) {
            Some(1) => ("delegation".into(), any(value, 0)),
            Some(2) => ("authentication".into(), embedded(value, 0, authentication)),
            Some(3) => ("manifest".into(), embedded(value, 0, manifest)),
            Some(23) => ("text".into(), embedded(value, 0, text)),
            Some(key @ (14 | 15 | 16 | 18 | 20)) => {
                let section = |value: &Value, depth| sequence(value, depth);
                (format!("severed {}", manifest_key(key)), embedded(value, 0, section))
            }
            Some(key) => (format!("member {key}"), any(value, 0)),
            None => member(key, value),
        };
        tree = tree.with(&name, part);
    }
    tree
}

/// A member with a text name: a payload, or one of the profile's own.
fn member(key: &Value, value: &Value) -> (String, Tree) {
    let name = key.as_text().unwrap_or("?").to_owned();
    let Value::Bytes(bytes) = value else {
        return (name, any(value, 0));
    };
    if name == "#k" {
        return ("key packages #k".into(), embedded(value, 0, any));
    }
    if name.len() == 3 && name.starts_with("#c") {
        let hashes = bytes.chunks(32).map(Tree::from).collect::<Vec<_>>();
        return (format!("chunk hashes {name}"), Tree::List(hashes));
    }
    let part = Tree::fields()
        .with("bytes", bytes.len())
        .with("sha256", &Sha256::of(bytes)[..]);
    (format!("payload {name}"), part)
}

fn authentication(value: &Value, depth: usize) -> Tree {
    let Some(items) = value.as_array() else {
        return any(value, depth);
    };
    let mut items = items.iter();
    let digest_part = items.next().map(|value| embedded(value, depth, digest));
    let blocks = items.map(|value| embedded(value, depth, block)).collect::<Vec<_>>();
    Tree::fields()
        .with_some("digest", digest_part)
        .with("signatures", blocks)
}

/// COSE_Sign1 or COSE_Mac0.
fn block(value: &Value, depth: usize) -> Tree {
    let Value::Tag(tag, inner) = value else {
        return any(value, depth);
    };
    let kind = match tag {
        17 => "COSE_Mac0",
        18 => "COSE_Sign1",
        97 => "COSE_Mac",
        98 => "COSE_Sign",
        _ => return any(value, depth),
    };
    let Some([protected, unprotected, payload, signature]) = inner.as_array().map(Vec::as_slice) else {
        return any(value, depth);
    };
    let mut tree = Tree::fields()
        .with("type", kind)
        .with("protected", embedded(protected, depth, header));
    if unprotected.as_map().is_none_or(|map| !map.is_empty()) {
        tree = tree.with("unprotected", header(unprotected, depth));
    }
    if *payload != Value::Null {
        tree = tree.with("payload", any(payload, depth));
    }
    tree.with("signature", any(signature, depth))
}

fn header(value: &Value, depth: usize) -> Tree {
    named_map(value, depth, |key| match key {
        1 => Some(("algorithm", |value, _| named_number(value, algorithm))),
        4 => Some(("key", any)),
        5 => Some(("iv", any)),
        33 => Some(("x5chain", any)),
        _ => None,
    })
}

fn digest(value: &Value, depth: usize) -> Tree {
    match value.as_array().map(Vec::as_slice) {
        Some([algorithm_number, hash]) => Tree::fields()
            .with("algorithm", named_number(algorithm_number, algorithm))
            .with("hash", any(hash, depth)),
        _ => any(value, depth),
    }
}

fn manifest(value: &Value, depth: usize) -> Tree {
    named_map(value, depth, |key| {
        let part: fn(&Value, usize) -> Tree = match key {
            3 => |value, depth| embedded(value, depth, common),
            5 => component_id,
            6 => |value, depth| embedded(value, depth, version),
            7..=9 | 15 | 16 | 18 | 20 | 24 => |value, depth| embedded(value, depth, sequence),
            23 => |value, depth| embedded(value, depth, text_or_digest),
            1 | 2 | 4 => any,
            _ => return None,
        };
        Some((manifest_key(key), part))
    })
}

fn text_or_digest(value: &Value, depth: usize) -> Tree {
    if value.is_map() {
        text(value, depth)
    } else {
        digest(value, depth)
    }
}

fn common(value: &Value, depth: usize) -> Tree {
    named_map(value, depth, |key| match key {
        1 => Some(("dependencies", any)),
        2 => Some(("components", |value, depth| list(value, depth, component_id))),
        4 => Some(("shared sequence", |value, depth| embedded(value, depth, sequence))),
        _ => None,
    })
}

/// A sequence of commands, or the digest of a severed one.
fn sequence(value: &Value, depth: usize) -> Tree {
    let Some(items) = value.as_array() else {
        return any(value, depth);
    };
    if let [algorithm, Value::Bytes(hash)] = items.as_slice()
        && hash.len() >= 32
        && number(algorithm).is_some_and(|number| number < 0)
    {
        return Tree::fields().with("severed", digest(value, depth));
    }
    let commands = items.chunks(2).map(|pair| match pair {
        [command, argument] => one_command(command, argument, depth),
        rest => Tree::List(rest.iter().map(|value| any(value, depth)).collect()),
    });
    Tree::List(commands.collect())
}

fn one_command(command: &Value, argument: &Value, depth: usize) -> Tree {
    let Some(code) = number(command) else {
        return Tree::fields()
            .with("command", any(command, depth))
            .with("argument", any(argument, depth));
    };
    let name = command_name(code).map_or(format!("command {code}"), str::to_owned);
    let argument = match code {
        15 => list(argument, depth, |value, depth| match value {
            Value::Null => Tree::from("otherwise nothing"),
            _ => embedded(value, depth, sequence),
        }),
        19 | 20 => parameters(argument, depth),
        32 => embedded(argument, depth, sequence),
        -257 => embedded(argument, depth, amp_args),
        _ => any(argument, depth),
    };
    Tree::fields().with(&name, argument)
}

fn parameters(value: &Value, depth: usize) -> Tree {
    named_map(value, depth, |key| {
        let part: (&str, fn(&Value, usize) -> Tree) = match key {
            1 => ("vendor id", uuid),
            2 => ("class id", uuid),
            3 => ("image digest", |value, depth| embedded(value, depth, digest)),
            4 => ("use before", any),
            5 => ("component slot", any),
            12 => ("strict order", any),
            13 => ("soft failure", any),
            14 => ("image size", any),
            18 => ("content", any),
            19 => ("encryption info", |value, depth| embedded(value, depth, any)),
            21 => ("uri", any),
            22 => ("source component", any),
            23 => ("invoke arguments", any),
            24 => ("device id", uuid),
            25 => ("fetch arguments", |value, depth| embedded(value, depth, amp_args)),
            26 => ("minimum battery", any),
            27 => ("update priority", any),
            28 => ("version", |value, depth| embedded(value, depth, version_rule)),
            29 => ("wait info", |value, depth| embedded(value, depth, any)),
            30 => ("component metadata", |value, depth| embedded(value, depth, any)),
            _ => return None,
        };
        Some(part)
    })
}

/// The profile's own fetch arguments (profile section 7).
fn amp_args(value: &Value, depth: usize) -> Tree {
    named_map(value, depth, |key| {
        let part: (&str, fn(&Value, usize) -> Tree) = match key {
            -257 => ("payload format", |value, _| named_number(value, payload_format)),
            -258 => ("chunk table", chunk_table),
            -259 => ("transport digest", transport),
            -260 => ("security counter", any),
            -261 => ("minimum engine version", version),
            -262 => ("profile", any),
            -263 => ("compression", |value, _| named_number(value, compression)),
            -264 => ("delta", any),
            _ => return None,
        };
        Some(part)
    })
}

fn chunk_table(value: &Value, depth: usize) -> Tree {
    match value.as_array().map(Vec::as_slice) {
        Some([size, hash, table]) => Tree::fields()
            .with("chunk bytes", any(size, depth))
            .with("algorithm", named_number(hash, algorithm))
            .with("table", any(table, depth)),
        _ => any(value, depth),
    }
}

fn transport(value: &Value, depth: usize) -> Tree {
    match value.as_array().map(Vec::as_slice) {
        Some([hash, digest, size]) => Tree::fields()
            .with("algorithm", named_number(hash, algorithm))
            .with("hash", any(digest, depth))
            .with("bytes", any(size, depth)),
        _ => any(value, depth),
    }
}

fn version_rule(value: &Value, depth: usize) -> Tree {
    let sign = |number| {
        ["", ">", ">=", "=", "<=", "<"]
            .get(usize::try_from(number).ok()?)
            .copied()
    };
    match value.as_array().map(Vec::as_slice) {
        Some([comparison, wanted]) => match (number(comparison).and_then(sign), version(wanted, depth)) {
            (Some(sign), Tree::Text(wanted)) => Tree::Text(format!("installed {sign} {wanted}")),
            _ => any(value, depth),
        },
        _ => any(value, depth),
    }
}

fn version(value: &Value, depth: usize) -> Tree {
    let parts = value
        .as_array()
        .and_then(|parts| parts.iter().map(number).collect::<Option<Vec<_>>>());
    match parts {
        Some(parts) => Tree::Text(parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")),
        None => any(value, depth),
    }
}

fn text(value: &Value, depth: usize) -> Tree {
    let Some(languages) = value.as_map() else {
        return any(value, depth);
    };
    languages.iter().fold(Tree::fields(), |tree, (language, content)| {
        tree.with(language.as_text().unwrap_or("?"), language_text(content, depth))
    })
}

fn language_text(value: &Value, depth: usize) -> Tree {
    let Some(entries) = value.as_map() else {
        return any(value, depth);
    };
    entries
        .iter()
        .fold(Tree::fields(), |tree, (key, content)| match number(key) {
            Some(1) => tree.with("manifest", any(content, depth)),
            Some(2) => tree.with("update", any(content, depth)),
            Some(3) => tree.with("JSON source", any(content, depth)),
            Some(4) => tree.with("YAML source", any(content, depth)),
            Some(key) => tree.with(&key.to_string(), any(content, depth)),
            None => match component_id(key, depth) {
                Tree::Text(id) => tree.with(&format!("component {id}"), component_text(content, depth)),
                _ => tree.with("?", any(content, depth)),
            },
        })
}

fn component_text(value: &Value, depth: usize) -> Tree {
    named_map(value, depth, |key| {
        let names = [
            "vendor",
            "model",
            "vendor domain",
            "model info",
            "description",
            "version",
            "version required",
            "current version",
        ];
        let name = names.get(usize::try_from(key.checked_sub(1)?).ok()?)?;
        Some((name, any))
    })
}

/// `["app"]`, or hexadecimal where a part is no text.
fn component_id(value: &Value, depth: usize) -> Tree {
    let part = |part: &Value| {
        let bytes = part.as_bytes()?;
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.chars().all(|c| c.is_ascii_graphic()));
        Some(text.map_or_else(|| format!("h'{}'", hex(bytes)), str::to_owned))
    };
    match value
        .as_array()
        .and_then(|parts| parts.iter().map(part).collect::<Option<Vec<_>>>())
    {
        Some(parts) => Tree::Text(format!("[{}]", parts.join(", "))),
        None => any(value, depth),
    }
}

fn uuid(value: &Value, depth: usize) -> Tree {
    match value.as_bytes().map(|bytes| bytes.as_slice().try_into()) {
        Some(Ok(id)) => Tree::Text(identity::text(id)),
        _ => any(value, depth),
    }
}

/// What a map's integer key is called and how its value is shown; `None` shows both as they stand.
type Named<'n> = Option<(&'n str, fn(&Value, usize) -> Tree)>;

fn named_map<'n>(value: &Value, depth: usize, name: impl Fn(i64) -> Named<'n>) -> Tree {
    let Some(entries) = value.as_map() else {
        return any(value, depth);
    };
    entries.iter().fold(Tree::fields(), |tree, (key, content)| {
        match number(key).and_then(&name) {
            Some((name, show)) => tree.with(name, show(content, depth)),
            None => tree.with(&plain(key), any(content, depth)),
        }
    })
}

fn list(value: &Value, depth: usize, show: fn(&Value, usize) -> Tree) -> Tree {
    match value.as_array() {
        Some(items) => Tree::List(items.iter().map(|item| show(item, depth)).collect()),
        None => any(value, depth),
    }
}

/// A byte string with one CBOR item inside, shown by `show`; without such an item, the value as it stands.
fn embedded(value: &Value, depth: usize, show: impl Fn(&Value, usize) -> Tree) -> Tree {
    let Value::Bytes(bytes) = value else {
        return show(value, depth);
    };
    match (depth < EMBEDDED_MAX).then(|| parse(bytes)).flatten() {
        Some(inner) => show(&inner, depth + 1),
        None => Tree::from(bytes.as_slice()),
    }
}

/// The one CBOR item that fills these bytes.
pub(crate) fn parse(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

/// A value as it stands, in the form that other explanations have.
pub(crate) fn any(value: &Value, _: usize) -> Tree {
    as_it_stands(value)
}

fn as_it_stands(value: &Value) -> Tree {
    match value {
        Value::Integer(_) => match number(value).map(u64::try_from) {
            Some(Ok(number)) => Tree::Number(number),
            _ => Tree::Text(plain(value)),
        },
        Value::Bytes(bytes) => Tree::from(bytes.as_slice()),
        Value::Text(text) => Tree::from(text.as_str()),
        Value::Bool(flag) => Tree::from(*flag),
        Value::Array(items) => Tree::List(items.iter().map(as_it_stands).collect()),
        Value::Map(entries) => entries.iter().fold(Tree::fields(), |tree, (key, content)| {
            tree.with(&plain(key), as_it_stands(content))
        }),
        Value::Tag(tag, inner) => Tree::fields().with(&format!("tag {tag}"), as_it_stands(inner)),
        _ => Tree::Text(plain(value)),
    }
}

/// A value in one line, as a name of a field.
fn plain(value: &Value) -> String {
    match value {
        Value::Integer(number) => i128::from(*number).to_string(),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => hex(bytes),
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Float(number) => number.to_string(),
        other => match component_id(other, 0) {
            Tree::Text(id) => id,
            _ => "?".into(),
        },
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_integer().and_then(|number| i64::try_from(number).ok())
}

/// A number with the name it has here.
fn named_number(value: &Value, name: fn(i64) -> Option<&'static str>) -> Tree {
    match number(value) {
        Some(number) => Tree::Text(named(number, name)),
        None => any(value, 0),
    }
}

pub(crate) fn named(number: i64, name: fn(i64) -> Option<&'static str>) -> String {
    name(number).map_or_else(|| number.to_string(), |name| format!("{number} ({name})"))
}

/// Names of COSE algorithms (reference table 10).
pub(crate) fn algorithm(number: i64) -> Option<&'static str> {
    Some(match number {
        -7 => "ES256",
        -8 => "EdDSA",
        -9 => "ESP256",
        -16 => "SHA-256",
        -18 => "SHAKE128",
        -19 => "Ed25519",
        -43 => "SHA-384",
        -44 => "SHA-512",
        -45 => "SHAKE256",
        -46 => "HSS-LMS",
        -48 => "ML-DSA-44",
        -49 => "ML-DSA-65",
        -50 => "ML-DSA-87",
        5 => "HMAC 256/256",
        1 => "A128GCM",
        3 => "A256GCM",
        24 => "ChaCha20/Poly1305",
        -3 => "A128KW",
        -5 => "A256KW",
        -6 => "direct",
        -29 => "ECDH-ES + A128KW",
        -31 => "ECDH-ES + A256KW",
        -65532 => "A256CTR",
        -65534 => "A128CTR",
        _ => return None,
    })
}

fn payload_format(number: i64) -> Option<&'static str> {
    let names = [
        "raw",
        "MCUboot image",
        "block image",
        "tar",
        "file",
        "delta patch",
        "nested envelope",
    ];
    names.get(usize::try_from(number).ok()?).copied()
}

fn compression(number: i64) -> Option<&'static str> {
    ["none", "zstd", "zstd blocks"]
        .get(usize::try_from(number).ok()?)
        .copied()
}

fn manifest_key(key: i64) -> &'static str {
    match key {
        1 => "manifest version",
        2 => "sequence number",
        3 => "common",
        4 => "reference uri",
        5 => "manifest component id",
        6 => "set version",
        7 => "validate",
        8 => "load",
        9 => "invoke",
        14 => "coswid",
        15 => "dependency resolution",
        16 => "payload fetch",
        18 => "candidate verification",
        20 => "install",
        23 => "text",
        24 => "uninstall",
        _ => "unknown",
    }
}

fn command_name(code: i64) -> Option<&'static str> {
    Some(match code {
        1 => "condition vendor identifier",
        2 => "condition class identifier",
        3 => "condition image match",
        4 => "condition use before",
        5 => "condition component slot",
        6 => "condition check content",
        7 => "condition dependency integrity",
        8 => "condition is dependency",
        11 => "process dependency",
        12 => "set component index",
        14 => "condition abort",
        15 => "try each",
        18 => "write",
        19 => "set parameters",
        20 => "override parameters",
        21 => "fetch",
        22 => "copy",
        23 => "invoke",
        24 => "condition device identifier",
        25 => "condition image not match",
        26 => "condition minimum battery",
        27 => "condition update authorized",
        28 => "condition version",
        29 => "wait",
        31 => "swap",
        32 => "run sequence",
        33 => "unlink",
        34 => "override multiple",
        35 => "copy params",
        -257 => "apply delta",
        _ => return None,
    })
}
