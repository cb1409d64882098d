//! What is really to be signed: read from the bytes that a client shows, never from what it says about them.

use codec::cose::{self, SigStructure};
use codec::limits::Limits;
use codec::mcuboot::header::flags;
use codec::mcuboot::tlv::{Role, Unprotected, kind};
use codec::mcuboot::{HEADER_BYTES, ImageHeader, Walk};
use codec::plan::{Digest, DigestAlgorithm, Target, Uuid};
use codec::suit::{self, head, manifest};
use trust::Sha256;

use super::wire::{SignContent, SignRequest, to_vec};
use crate::{Code, Error, Object, PublicKey, Purpose, Result};

/// Bytes that an unprotected TLV area with a hash and nothing else takes.
const HASH_AREA_BYTES_MAX: usize = 64;

/// What a request is about, as its bytes say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignFacts {
    /// What the signature is for.
    pub purpose: Purpose,
    /// The classes of the devices that it is for; empty when it was not seen.
    pub classes: Vec<Uuid>,
    /// Whether the object was not shown: only a digest is known.
    pub is_blind: bool,
}

/// Reads what `request` is about, for a signature by `key`. Errors: [`Code::ServiceContent`] the bytes to be signed are
/// not those of the object; a device's reason where the object is malformed; [`Code::ServiceForbidden`] for an object that
/// people sign.
pub fn of_request(request: &SignRequest, key: &PublicKey) -> Result<SignFacts> {
    match (request.object.as_str(), &request.content) {
        (name, SignContent::Message(message)) if name == Object::Release.name() => {
            release(&request.shown, message, key)
        }
        (name, SignContent::Digest(digest)) if name == Object::Image.name() => match request.shown.is_empty() {
            true => Ok(blind_image(digest)),
            false => image(&request.shown, digest),
        },
        (name, _) if [Object::Release.name(), Object::Image.name()].contains(&name) => {
            Err(Code::ServiceContent.error(format!("that is not how a signature over {name} is asked for")))
        }
        (name, _) => Err(Code::ServiceForbidden
            .error(format!("{name:?} is signed by people"))
            .advice_for_people()),
    }
}

impl Error {
    fn advice_for_people(self) -> Error {
        self.advise("A signing service signs releases and images; sign the rest with the key itself.")
    }
}

/// The manifest tells everything; the bytes to be signed are made again from it, so that nothing else can be signed.
fn release(shown: &[u8], message: &[u8], key: &PublicKey) -> Result<SignFacts> {
    let refused = |refused| Error::refused("the release", refused);
    let digest = Sha256::of_parts(&[head::value_header(shown.len()).as_slice(), shown]);
    let signed = Digest {
        algorithm: DigestAlgorithm::Sha256,
        hash: &digest,
    };
    let payload = to_vec(|w| suit::write_digest(w, &signed));
    let protected = to_vec(|w| cose::write_protected(w, key.algorithm().cose(), &key.thumbprint(), None));
    if SigStructure::new(&protected, &[], &payload).parts().concat() != message {
        return Err(not_the_objects("the release's manifest"));
    }
    let mut room = vec![Target::EMPTY; Limits::LINUX.components_max as usize];
    let plan = manifest::decode(shown, &Limits::LINUX, &mut room).map_err(refused)?;
    let mut classes: Vec<Uuid> = plan.targets.iter().map(|target| *target.class).collect();
    classes.sort();
    classes.dedup();
    let names: Vec<String> = classes.iter().map(uuid_text).collect();
    Ok(SignFacts {
        purpose: Purpose {
            object: Object::Release,
            subject: format!("sequence {}, class {}", plan.sequence, names.join(" and ")),
            digest,
        },
        classes,
        is_blind: false,
    })
}

/// Header, program and protected TLVs, as they are hashed.
fn image(shown: &[u8], digest: &[u8; 32]) -> Result<SignFacts> {
    if Sha256::of(shown) != *digest {
        return Err(not_the_objects("the image"));
    }
    let refused = |reason| Error::refused("the image", reason);
    let header = shown
        .first_chunk::<HEADER_BYTES>()
        .ok_or(codec::Reason::ImageSize)
        .map_err(refused)?;
    let header = ImageHeader::decode(header).map_err(refused)?;
    // What other bootloaders do is theirs; structure is checked.
    let plain = ImageHeader {
        flags: header.flags & !flags::KNOWN,
        load_addr: 0,
        ..header
    };
    plain.check().map_err(refused)?;
    if header.signed_len() as usize != shown.len() {
        return Err(Error::refused("the image", codec::Reason::ImageSize));
    }
    let (mut counter, mut class) = (None, None);
    let whole = with_hash(shown, digest).map_err(refused)?;
    let mut walk = Walk::new(&header, u32::try_from(whole.len()).unwrap_or(u32::MAX));
    while let Some(tlv) = walk.next(&mut &whole[..]).map_err(refused)? {
        let value = whole
            .get(tlv.offset as usize..)
            .and_then(|rest| rest.get(..tlv.len as usize))
            .unwrap_or_default();
        match (tlv.role, tlv.kind) {
            (Role::Fact, kind::SEC_CNT) => counter = value.try_into().ok().map(u32::from_le_bytes),
            (Role::Fact, kind::UUID_CID) => class = value.try_into().ok(),
            _ => {}
        }
    }
    let named = class.as_ref().map_or("none".into(), uuid_text);
    let counter = counter.map_or("none".into(), |counter| counter.to_string());
    Ok(SignFacts {
        purpose: Purpose {
            object: Object::Image,
            subject: format!("version {}, security counter {counter}, class {named}", header.version),
            digest: *digest,
        },
        classes: class.into_iter().collect(),
        is_blind: false,
    })
}

/// The hashed bytes with the shortest area that makes an image of them.
fn with_hash(hashed: &[u8], digest: &[u8; 32]) -> Result<Vec<u8>, codec::Reason> {
    let mut area = [0; HASH_AREA_BYTES_MAX];
    let hash = Unprotected {
        hash: *digest,
        signatures: &[],
    };
    let len = hash.encode(&mut area)?;
    Ok([hashed, area.get(..len).unwrap_or_default()].concat())
}

fn blind_image(digest: &[u8; 32]) -> SignFacts {
    SignFacts {
        purpose: Purpose {
            object: Object::Image,
            subject: "an image that was not shown".into(),
            digest: *digest,
        },
        classes: Vec::new(),
        is_blind: true,
    }
}

fn not_the_objects(object: &str) -> Error {
    Code::ServiceContent.error(format!(
        "what is to be signed does not follow from {object} that was shown"
    ))
}

/// 8-4-4-4-12.
pub(super) fn uuid_text(id: &Uuid) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        hex.get(..8),
        hex.get(8..12),
        hex.get(12..16),
        hex.get(16..20),
        hex.get(20..),
    ]
    .map(Option::unwrap_or_default)
    .join("-")
}
