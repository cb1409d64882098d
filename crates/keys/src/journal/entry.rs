//! What a line of the journal says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use trust::Sha256;

use super::JournalHead;
use crate::{Content, Job, Signature, Signer};

/// Version of the line's form.
const VERSION: u8 = 1;
/// With what every line's object starts; it cannot stand inside of one, because quotes in texts are escaped.
const START: &[u8] = br#"{"at":"#;

/// One entry, as it stands in a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place in the chain, from 1; goes on in the next file when a journal is rotated.
    pub number: u64,
    /// The hash of the entry before; [`Digest::NONE`] for the first of all.
    pub previous: Digest,
    /// SHA-256 of the line's object without its member `hash`.
    pub hash: Digest,
    /// When, in seconds since 1970 UTC, by the clock of whoever wrote it.
    pub at: u64,
    /// What happened.
    pub event: Event,
    /// Who did it.
    pub by: By,
    /// Why, as the operator said.
    pub why: Option<String>,
    /// More that is to be known, by name: an override that was typed out, the client of a signing service.
    pub facts: Facts,
    /// What stands torn before it on the same line.
    pub torn: Option<Torn>,
}

/// What is to be entered; number, hashes and time are the journal's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// Who did it.
    pub by: By,
    /// Why.
    pub why: Option<String>,
    /// More that is to be known.
    pub facts: Facts,
}

/// Facts of an entry, by name.
pub type Facts = BTreeMap<String, String>;

/// What an entry is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A journal file begins; of every LMS key that the files before know it carries the last reservation.
    Begin(Vec<Carried>),
    /// Indices of an LMS key were given away, or the key was bound to this journal. Written before anything is signed
    /// with the index.
    Reservation(Reservation),
    /// A signature was made, and is released once this entry is durable.
    Signature(Signed),
    /// A signing service refused to sign.
    Refusal(Refusal),
    /// The file ends; the journal goes on in the next.
    End,
}

/// A signature, as far as a journal is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// What it is for.
    pub what: What,
    /// The bytes that were signed.
    pub content: Bytes,
    /// The key.
    pub key: Key,
    /// SHA-256 of the signature.
    pub signature: Digest,
}

/// The state of an LMS key that is bound to this journal; see [`crate::lms`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// The key.
    pub key: Key,
    /// How many indices are given away, with the one that this entry reserves; 0 in the entry that binds the key.
    pub given: u32,
    /// The key's reservation before this one; none in the entry that binds the key.
    pub after: Option<JournalHead>,
}

/// The last reservation of an LMS key, as the beginning of a file repeats it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The key's reservation before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<JournalHead>,
    /// How many indices are given away.
    pub given: u32,
    /// The key id.
    pub key: Digest,
    /// The entry that says so.
    pub last: JournalHead,
}

/// A request that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The error's number.
    pub number: u16,
    /// What happened.
    pub what: String,
    /// What was to be signed, where that much is known.
    pub object: Option<What>,
}

/// Who acts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The person, as stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The account on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What a signature is for; see [`crate::Purpose`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct What {
    /// SHA-256 by which the object is known.
    pub digest: Digest,
    /// The kind of object: the name of a [`crate::Object`].
    pub object: String,
    /// Which one, for people.
    pub subject: String,
}

/// The bytes that were signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// `message`: a message as COSE signs it; `digest`: an image's SHA-256 was signed in its place.
    pub form: Form,
    /// SHA-256 of the message, or the digest itself.
    pub sha256: Digest,
}

/// The form of what is signed; see [`Content`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// An image's SHA-256 in place of the image.
    Digest,
    /// A message.
    Message,
}

/// The key that signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its algorithm.
    pub algorithm: String,
    /// Where it is kept.
    pub custody: String,
    /// The key id of trust roots and releases.
    pub id: Digest,
}

/// Bytes that a crash left where an entry should have been.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Torn {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: Digest,
}

impl Torn {
    /// What `bytes` are, unless there are none.
    pub(super) fn of(bytes: &[u8]) -> Option<Torn> {
        (!bytes.is_empty()).then(|| Torn {
            bytes: bytes.len() as u64,
            sha256: Digest(Sha256::of(bytes)),
        })
    }
}

impl Record {
    /// A record with nothing but its event.
    pub fn of(event: Event) -> Record {
        Record {
            event,
            by: By::default(),
            why: None,
            facts: Facts::new(),
        }
    }
}

impl Signed {
    /// What is entered for a signature that `signer` made.
    pub fn new(signer: &dyn Signer, job: &Job<'_>, signature: &Signature) -> Signed {
        Signed {
            what: What::of(job),
            content: Bytes::of(&job.content),
            key: Key {
                algorithm: signer.public_key().algorithm_name().into(),
                custody: signer.describe(),
                id: Digest(signer.public_key().thumbprint()),
            },
            signature: Digest(Sha256::of(signature.as_cose())),
        }
    }
}

impl What {
    /// What a job is for.
    pub fn of(job: &Job<'_>) -> What {
        What {
            digest: Digest(job.purpose.digest),
            object: job.purpose.object.name().into(),
            subject: job.purpose.subject.clone(),
        }
    }
}

impl Bytes {
    fn of(content: &Content<'_>) -> Bytes {
        match content {
            Content::Message(parts) => Bytes {
                form: Form::Message,
                sha256: Digest(Sha256::of_parts(parts)),
            },
            Content::Digest(sha256) => Bytes {
                form: Form::Digest,
                sha256: Digest(**sha256),
            },
        }
    }
}

/// Why a line is no entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// It is not an object of the journal's form.
    Malformed,
    /// It says what an entry says, but not in its canonical form.
    NotCanonical,
    /// Its content does not give its hash.
    Edited,
    /// The torn bytes before it are not the ones that it names.
    Torn,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Malformed => "the line is no journal entry",
            Damage::NotCanonical => "the entry is not written in its canonical form",
            Damage::Edited => "the entry's content does not give its hash",
            Damage::Torn => "the bytes before the entry are not the torn ones that it names",
        })
    }
}

impl Entry {
    /// The entry with this place in the chain.
    pub(super) fn new(number: u64, previous: Digest, at: u64, record: &Record, torn: Option<Torn>) -> Entry {
        let record = record.clone();
        let mut entry = Entry {
            number,
            previous,
            hash: Digest::NONE,
            at,
            event: record.event,
            by: record.by,
            why: record.why,
            facts: record.facts,
            torn,
        };
        entry.hash = entry.compute_hash();
        entry
    }

    /// Reads a line, without its line feed: torn bytes, where the entry says so, then the entry.
    pub fn read(line: &[u8]) -> Result<Entry, Damage> {
        let start = line.windows(START.len()).rposition(|window| window == START);
        let (torn, object) = line
            .split_at_checked(start.ok_or(Damage::Malformed)?)
            .ok_or(Damage::Malformed)?;
        let parsed: Line = serde_json::from_slice(object).map_err(|_| Damage::Malformed)?;
        if parsed.to_json() != object {
            return Err(Damage::NotCanonical);
        }
        let entry = parsed.into_entry().ok_or(Damage::Malformed)?;
        if entry.compute_hash() != entry.hash {
            return Err(Damage::Edited);
        }
        match entry.torn == Torn::of(torn) {
            true => Ok(entry),
            false => Err(Damage::Torn),
        }
    }

    /// Its line, with its line feed, without torn bytes.
    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut line = Line::of(self, Some(self.hash)).to_json();
        line.push(b'\n');
        line
    }

    /// Its place and hash.
    pub fn head(&self) -> JournalHead {
        JournalHead {
            number: self.number,
            hash: self.hash,
        }
    }

    /// As a JSON value with the members of its line.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(Line::of(self, Some(self.hash))).unwrap_or_default()
    }

    fn compute_hash(&self) -> Digest {
        Digest(Sha256::of(&Line::of(self, None).to_json()))
    }
}

/// The members of a line, in the order of RFC 8785: by name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<Vec<Carried>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Key>,
    kind: Kind,
    number: u64,
    previous: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<RefusalLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation: Option<ReservationLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn: Option<Torn>,
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<What>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Begin,
    Signature,
    Refusal,
    Reservation,
    End,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalLine {
    number: u16,
    what: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReservationLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<JournalHead>,
    given: u32,
}

impl Line {
    fn of(entry: &Entry, hash: Option<Digest>) -> Line {
        let mut line = Line {
            at: entry.at,
            by: (entry.by != By::default()).then(|| entry.by.clone()),
            carried: None,
            content: None,
            facts: (!entry.facts.is_empty()).then(|| entry.facts.clone()),
            hash,
            key: None,
            kind: Kind::Begin,
            number: entry.number,
            previous: entry.previous,
            refusal: None,
            reservation: None,
            signature: None,
            torn: entry.torn.clone(),
            v: VERSION,
            what: None,
            why: entry.why.clone(),
        };
        line.set_event(&entry.event);
        line
    }

    fn set_event(&mut self, event: &Event) {
        match event {
            Event::Begin(carried) => {
                self.kind = Kind::Begin;
                self.carried = (!carried.is_empty()).then(|| carried.clone());
            }
            Event::Reservation(reservation) => {
                self.kind = Kind::Reservation;
                self.key = Some(reservation.key.clone());
                self.reservation = Some(ReservationLine {
                    after: reservation.after,
                    given: reservation.given,
                });
            }
            Event::End => self.kind = Kind::End,
            Event::Signature(signed) => {
                self.kind = Kind::Signature;
                self.what = Some(signed.what.clone());
                self.content = Some(signed.content.clone());
                self.key = Some(signed.key.clone());
                self.signature = Some(signed.signature);
            }
            Event::Refusal(refusal) => {
                self.kind = Kind::Refusal;
                self.what = refusal.object.clone();
                self.refusal = Some(RefusalLine {
                    number: refusal.number,
                    what: refusal.what.clone(),
                });
            }
        }
    }

    /// The entry, if the members are those of its kind.
    fn into_entry(self) -> Option<Entry> {
        let place = Entry {
            number: self.number,
            previous: self.previous,
            hash: self.hash?,
            at: self.at,
            event: Event::End,
            by: self.by.unwrap_or_default(),
            why: self.why,
            facts: self.facts.unwrap_or_default(),
            torn: self.torn,
        };
        let members = (self.carried, self.what, self.content, self.key, self.signature);
        let event = match (self.kind, members, self.refusal, self.reservation) {
            (Kind::Begin, (carried, None, None, None, None), None, None) => Event::Begin(carried.unwrap_or_default()),
            (Kind::End, (None, None, None, None, None), None, None) => Event::End,
            (Kind::Signature, (None, Some(what), Some(content), Some(key), Some(signature)), None, None) => {
                Event::Signature(Signed {
                    what,
                    content,
                    key,
                    signature,
                })
            }
            (Kind::Refusal, (None, object, None, None, None), Some(refusal), None) => Event::Refusal(Refusal {
                number: refusal.number,
                what: refusal.what,
                object,
            }),
            (Kind::Reservation, (None, None, None, Some(key), None), None, Some(line)) => {
                Event::Reservation(Reservation {
                    key,
                    given: line.given,
                    after: line.after,
                })
            }
            _ => return None,
        };
        (self.v == VERSION).then_some(Entry { event, ..place })
    }

    fn to_json(&self) -> Vec<u8> {
        // Strings, small integers and maps with text keys: nothing that JSON cannot say.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A SHA-256, written as 64 small hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What the first entry of all names as the one before it.
    pub const NONE: Digest = Digest([0; 32]);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Digest, Self::Err> {
        let mut digest = [0; 32];
        let is_form = text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if !is_form {
            return Err("a SHA-256 has 64 hexadecimal digits, 0 to 9 and a to f");
        }
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
            *byte = digits.iter().fold(0, |value, c| value << 4 | digit(*c));
        }
        Ok(Digest(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Digest, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: Event) -> Entry {
        let record = Record {
            by: By {
                host: Some("h".into()),
                operator: Some("Ada \"the\" \u{1b}\u{7f}é\n".into()),
                user: Some("ci".into()),
            },
            why: Some("because".into()),
            facts: [("b", "2"), ("a", "1")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into(),
            ..Record::of(event)
        };
        Entry::new(7, Digest([9; 32]), 1_764_053_478, &record, Torn::of(b"torn"))
    }

    fn signed() -> Event {
        Event::Signature(Signed {
            what: What {
                digest: Digest([1; 32]),
                object: "release".into(),
                subject: "sequence 7".into(),
            },
            content: Bytes {
                form: Form::Message,
                sha256: Digest([2; 32]),
            },
            key: Key {
                algorithm: "Ed25519".into(),
                custody: "file a".into(),
                id: Digest([3; 32]),
            },
            signature: Digest([4; 32]),
        })
    }

    fn events() -> Vec<Event> {
        let refusal = |object| {
            Event::Refusal(Refusal {
                number: 2065,
                what: "not you".into(),
                object,
            })
        };
        let Event::Signature(Signed { what, .. }) = signed() else {
            unreachable!()
        };
        vec![
            Event::Begin(vec![]),
            Event::Begin(vec![carried(None), carried(Some(head(3)))]),
            Event::End,
            signed(),
            refusal(None),
            refusal(Some(what)),
            reservation(None),
            reservation(Some(head(3))),
        ]
    }

    fn head(number: u64) -> JournalHead {
        JournalHead {
            number,
            hash: Digest([5; 32]),
        }
    }

    fn carried(after: Option<JournalHead>) -> Carried {
        Carried {
            after,
            given: 4,
            key: Digest([3; 32]),
            last: head(6),
        }
    }

    fn reservation(after: Option<JournalHead>) -> Event {
        Event::Reservation(Reservation {
            key: Key {
                algorithm: "lms-h10-w4".into(),
                custody: "file a".into(),
                id: Digest([3; 32]),
            },
            given: 4,
            after,
        })
    }

    #[test]
    fn an_entry_comes_back_from_its_line() {
        for event in events() {
            let entry = entry(event);
            let line = [b"torn", entry.to_line().strip_suffix(b"\n").unwrap()].concat();
            assert_eq!(Entry::read(&line), Ok(entry));
        }
    }

    /// RFC 8785: members sorted by name at every level, no blanks, short escapes.
    #[test]
    fn a_line_is_canonical_json() {
        fn check_sorted(text: &str) {
            // A map that sorts its keys gives the same text.
            let value: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap();
            let members: Vec<String> = (value.iter())
                .map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap()))
                .collect();
            assert_eq!(format!("{{{}}}", members.join(",")), text);
            for value in value.values().filter(|value| value.is_object()) {
                check_sorted(&value.to_string());
            }
        }
        for event in events() {
            let line = String::from_utf8(entry(event).to_line()).unwrap();
            check_sorted(line.trim_end_matches('\n'));
            assert!(
                line.contains(r#"Ada \"the\" \u001b"#) && line.contains(r"é\n"),
                "{line}"
            );
        }
    }

    /// The form of version 1, which readers of other decades rely on.
    #[test]
    fn golden_line() {
        let record = Record {
            why: Some("nightly".into()),
            ..Record::of(signed())
        };
        let entry = Entry::new(2, Digest([0xab; 32]), 1_764_053_478, &record, None);
        let expected = format!(
            concat!(
                r#"{{"at":1764053478,"content":{{"form":"message","sha256":"{}"}},"hash":"{}","key":{{"algorithm":"Ed25519","#,
                r#""custody":"file a","id":"{}"}},"kind":"signature","number":2,"previous":"{}","signature":"{}","v":1,"#,
                r#""what":{{"digest":"{}","object":"release","subject":"sequence 7"}},"why":"nightly"}}"#,
                "\n"
            ),
            "02".repeat(32),
            GOLDEN_HASH,
            "03".repeat(32),
            "ab".repeat(32),
            "04".repeat(32),
            "01".repeat(32),
        );
        assert_eq!(String::from_utf8(entry.to_line()).unwrap(), expected);
    }

    /// The forms of version 1 that belong to LMS keys.
    #[test]
    fn golden_reservation_and_carried() {
        let line = |event| {
            let entry = Entry::new(2, Digest([0xab; 32]), 7, &Record::of(event), None);
            let line = String::from_utf8(entry.to_line()).unwrap();
            line.replace(&format!(r#""hash":"{}","#, entry.hash), "")
        };
        let [key, hash, previous] = ["03", "05", "ab"].map(|byte| byte.repeat(32));
        let expected = format!(
            concat!(
                r#"{{"at":7,"key":{{"algorithm":"lms-h10-w4","custody":"file a","id":"{}"}},"kind":"reservation","number":2,"#,
                r#""previous":"{}","reservation":{{"after":"{}@3","given":4}},"v":1}}"#,
                "\n"
            ),
            key, previous, hash,
        );
        assert_eq!(line(reservation(Some(head(3)))), expected);
        let expected = format!(
            concat!(
                r#"{{"at":7,"carried":[{{"after":"{}@3","given":4,"key":"{}","last":"{}@6"}}],"kind":"begin","number":2,"#,
                r#""previous":"{}","v":1}}"#,
                "\n"
            ),
            hash, key, hash, previous,
        );
        assert_eq!(line(Event::Begin(vec![carried(Some(head(3)))])), expected);
    }

    /// By `sha256sum` over the golden line without its member `hash`.
    const GOLDEN_HASH: &str = "1b99df418b806e2262c87d86fa70ec05816de57ee9f4bb01e03ce5c86ad0eb43";

    #[test]
    fn every_changed_byte_of_a_line_is_noticed() {
        let entry = entry(signed());
        let whole = [b"torn", entry.to_line().strip_suffix(b"\n").unwrap()].concat();
        for at in 0..whole.len() {
            for change in [1, 2, 0x20, 0x80, 0xff] {
                let mut bent = whole.clone();
                bent[at] ^= change;
                assert!(Entry::read(&bent).is_err(), "byte {at}");
            }
            assert!(Entry::read(&whole[..at]).is_err());
        }
    }

    #[test]
    fn a_line_of_another_version_or_with_more_members_is_no_entry() {
        let line = String::from_utf8(entry(Event::Begin(vec![])).to_line()).unwrap();
        for (from, to) in [
            (r#""v":1"#, r#""v":2"#),
            (r#""v":1"#, r#""v":1,"x":1"#),
            (r#""kind":"begin""#, r#""kind":"signature""#),
        ] {
            let changed = line.replace(from, to);
            assert_ne!(changed, line);
            assert_eq!(Entry::read(changed.trim_end().as_bytes()), Err(Damage::Malformed));
        }
    }
}
