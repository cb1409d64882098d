//! The protocol, version 1: frames of a length (4 bytes, big-endian) and one deterministic CBOR array each way.

use std::io::{ErrorKind, Read, Write};

use codec::Refused;
use codec::cbor::{self, Reader, Writer};

use crate::{Code, Error, Result};

/// Version of the protocol; another is refused.
pub const VERSION: u64 = 1;
/// Bytes of an object (manifest, image without its unprotected TLVs) at most.
pub const OBJECT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of what is signed at most.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a text in a request at most.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a frame at most, without its length.
pub const FRAME_BYTES_MAX: usize = OBJECT_BYTES_MAX + CONTENT_BYTES_MAX + 8 * TEXT_BYTES_MAX;

const KEY: u64 = 1;
const SIGN: u64 = 2;
/// First number of a response that is none of the errors'.
const GRANTED: u64 = 0;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// `[1, 1, key]`: the public half of the key with this name.
    Key(String),
    /// `[1, 2, ...]`: a signature.
    Sign(Box<SignRequest>),
}

/// A request for a signature, members in the order in which they are sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SignRequest {
    /// Name of the key in the policy.
    pub key: String,
    /// Kind of object: the name of a [`crate::Object`].
    pub object: String,
    /// Which one, as the client says.
    pub subject: String,
    /// What is signed: a message, or the digest of an image.
    pub content: SignContent,
    /// The object itself: a release's manifest, an image's hashed bytes. Empty when the client does not have it.
    pub shown: Vec<u8>,
    /// The git ref, as the client says; empty for none.
    pub git_ref: String,
    /// The client's token; empty for none.
    pub token: String,
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignContent {
    /// `[0, bytes]`: a message as COSE signs it.
    Message(Vec<u8>),
    /// `[1, bytes]`: an image's SHA-256.
    Digest([u8; 32]),
}

impl Default for SignContent {
    fn default() -> Self {
        SignContent::Message(Vec::new())
    }
}

/// What the service answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// `[1, 0, spki]`: a public key, as DER SubjectPublicKeyInfo.
    Key(Vec<u8>),
    /// `[1, 0, signature]`, in the form that COSE carries. Same form; the request says which it is.
    Signature(Vec<u8>),
    /// `[1, number, what, advice]`.
    Refused {
        /// The error's number.
        number: u16,
        /// What happened.
        what: String,
        /// What to do.
        advice: String,
    },
}

impl Request {
    /// Its frame's content.
    pub fn encode(&self) -> Vec<u8> {
        to_vec(|w| match self {
            Request::Key(name) => {
                w.array(3).uint(VERSION).uint(KEY).text(name);
            }
            Request::Sign(sign) => {
                w.array(9).uint(VERSION).uint(SIGN);
                w.text(&sign.key).text(&sign.object).text(&sign.subject);
                match &sign.content {
                    SignContent::Message(message) => w.array(2).uint(0).bytes(message),
                    SignContent::Digest(digest) => w.array(2).uint(1).bytes(digest),
                };
                w.bytes(&sign.shown).text(&sign.git_ref).text(&sign.token);
            }
        })
    }

    /// Reads a frame's content. Error: [`Code::ServiceProtocol`].
    pub fn decode(frame: &[u8]) -> Result<Request> {
        let mut reader = Reader::new(frame);
        let request = Self::read(&mut reader)?;
        reader.end().map_err(malformed)?;
        Ok(request)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Request> {
        let members = reader.array().map_err(malformed)?;
        check_version(reader)?;
        match (reader.uint().map_err(malformed)?, members) {
            (KEY, 3) => Ok(Request::Key(text(reader)?)),
            (SIGN, 9) => Ok(Request::Sign(Box::new(SignRequest {
                key: text(reader)?,
                object: text(reader)?,
                subject: text(reader)?,
                content: SignContent::read(reader)?,
                shown: bytes(reader, OBJECT_BYTES_MAX)?,
                git_ref: text(reader)?,
                token: text(reader)?,
            }))),
            _ => Err(protocol("the request is not one of this version")),
        }
    }
}

impl SignContent {
    fn read(reader: &mut Reader<'_>) -> Result<SignContent> {
        reader.array_of(2).map_err(malformed)?;
        let form = reader.uint().map_err(malformed)?;
        let content = bytes(reader, CONTENT_BYTES_MAX)?;
        match (form, <[u8; 32]>::try_from(&content[..])) {
            (0, _) => Ok(SignContent::Message(content)),
            (1, Ok(digest)) => Ok(SignContent::Digest(digest)),
            _ => Err(protocol("what is to be signed has no form of this version")),
        }
    }
}

impl Response {
    /// An error, as it travels.
    pub fn refusal(error: &Error) -> Response {
        Response::Refused {
            number: error.number,
            what: error.what.clone(),
            advice: error.advice.clone(),
        }
    }

    /// Its frame's content.
    pub fn encode(&self) -> Vec<u8> {
        to_vec(|w| match self {
            Response::Key(bytes) | Response::Signature(bytes) => {
                w.array(3).uint(VERSION).uint(GRANTED).bytes(bytes);
            }
            Response::Refused { number, what, advice } => {
                w.array(4).uint(VERSION).uint((*number).into()).text(what).text(advice);
            }
        })
    }

    /// Reads the answer to a request: the bytes that were asked for, or the service's error. Error of its own:
    /// [`Code::ServiceProtocol`].
    pub fn decode(frame: &[u8]) -> Result<Vec<u8>> {
        let mut reader = Reader::new(frame);
        let members = reader.array().map_err(malformed)?;
        check_version(&mut reader)?;
        let number = reader.uint().map_err(malformed)?;
        let answer = match (members, number) {
            (3, GRANTED) => Ok(bytes(&mut reader, CONTENT_BYTES_MAX)?),
            (4, 1..) => Err(error_of(number, text(&mut reader)?, text(&mut reader)?)?),
            _ => return Err(protocol("the answer is not one of this version")),
        };
        reader.end().map_err(malformed)?;
        answer
    }
}

/// The service's error, under the name that its number has here.
fn error_of(number: u64, what: String, advice: String) -> Result<Error> {
    let number = u16::try_from(number).map_err(|_| protocol("the answer's number is none of ours"))?;
    let host = Code::ALL
        .iter()
        .find(|code| code.number() == number)
        .map(|code| code.name());
    let name = host.or_else(|| codec::Reason::from_number(number).map(|reason| reason.name()));
    Ok(Error {
        number,
        name: name.ok_or_else(|| protocol("the answer's number is none of ours"))?,
        what: format!("the signing service refused: {what}"),
        advice,
    })
}

/// Sends one frame.
pub fn write_frame(to: &mut impl Write, content: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| ErrorKind::InvalidInput)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(content)?;
    to.flush()
}

/// Receives one frame; nothing when the other end has closed between two. Memory grows with what arrives, not with what
/// the length promises.
pub fn read_frame(from: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut read = 0;
    while let Some(rest) = length.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match from.read(rest).map_err(lost)? {
            0 if read == 0 => return Ok(None),
            0 => return Err(protocol("the connection ended inside of a frame")),
            some => read += some,
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(protocol(&format!(
            "a frame of {length} bytes is longer than {FRAME_BYTES_MAX}"
        )));
    }
    let mut content = Vec::new();
    from.take(length as u64).read_to_end(&mut content).map_err(lost)?;
    match content.len() == length {
        true => Ok(Some(content)),
        false => Err(protocol("the connection ended inside of a frame")),
    }
}

fn lost(error: std::io::Error) -> Error {
    Code::ServiceProtocol.error(match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "the other end of the connection said nothing for too long".into()
        }
        _ => format!("the connection was lost: {error}"),
    })
}

fn check_version(reader: &mut Reader<'_>) -> Result<()> {
    match reader.uint().map_err(malformed)? {
        VERSION => Ok(()),
        other => Err(protocol(&format!("version {other} of the protocol is not spoken here"))),
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String> {
    let text = reader.text().map_err(malformed)?;
    match text.len() <= TEXT_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(protocol(&format!("a text is longer than {TEXT_BYTES_MAX} bytes"))),
    }
}

fn bytes(reader: &mut Reader<'_>, most: usize) -> Result<Vec<u8>> {
    let bytes = reader.bytes().map_err(malformed)?;
    match bytes.len() <= most {
        true => Ok(bytes.to_vec()),
        false => Err(protocol(&format!("a byte string is longer than {most} bytes"))),
    }
}

fn malformed(refused: Refused) -> Error {
    protocol(&format!("a frame is malformed: {}", refused.reason.what()))
}

fn protocol(what: &str) -> Error {
    Code::ServiceProtocol.error(what)
}

/// Encodes into a vector of the right size.
pub(super) fn to_vec(write: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut room = vec![0; cbor::measure(&write)];
    // The room was measured with the same writer.
    let _ = cbor::encode(&mut room, &write);
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign() -> Request {
        Request::Sign(Box::new(SignRequest {
            key: "ci".into(),
            object: "release".into(),
            subject: "sequence 7".into(),
            content: SignContent::Message(vec![1, 2, 3]),
            shown: vec![9; 300],
            git_ref: "refs/heads/main".into(),
            token: String::new(),
        }))
    }

    #[test]
    fn requests_and_responses_come_back() {
        for request in [sign(), Request::Key("ci".into())] {
            let mut wire = Vec::new();
            write_frame(&mut wire, &request.encode()).unwrap();
            let frame = read_frame(&mut &wire[..]).unwrap().unwrap();
            assert_eq!(Request::decode(&frame).unwrap(), request);
            // Every cut is named, none is taken for a frame.
            for cut in 1..wire.len() {
                assert!(read_frame(&mut &wire[..cut]).unwrap_err().is(Code::ServiceProtocol));
            }
        }
        assert_eq!(
            Response::decode(&Response::Signature(vec![5; 64]).encode()).unwrap(),
            [5; 64]
        );
        let refused = Response::refusal(&Code::ServiceRate.error("slow down"));
        let error = Response::decode(&refused.encode()).unwrap_err();
        assert!(error.is(Code::ServiceRate) && error.what.contains("slow down"));
        assert_eq!(read_frame(&mut &[][..]).unwrap(), None);
    }

    #[test]
    fn what_is_too_long_or_of_another_version_is_refused() {
        let long = ((FRAME_BYTES_MAX + 1) as u32).to_be_bytes();
        assert!(read_frame(&mut &long[..]).unwrap_err().is(Code::ServiceProtocol));
        let mut other = sign().encode();
        other[1] = 2;
        assert!(Request::decode(&other).unwrap_err().what.contains("version 2"));
        let Request::Sign(mut request) = sign() else {
            unreachable!()
        };
        request.subject = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(
            Request::decode(&Request::Sign(request).encode())
                .unwrap_err()
                .is(Code::ServiceProtocol)
        );
    }
}
