//! Whether an image is whole and who signed it, judged as strictly as a device judges.

use codec::Reason;
use codec::mcuboot::header::flags;
use codec::mcuboot::tlv::{Role, Tlv, kind};
use codec::mcuboot::{HEADER_BYTES, ImageHeader, Walk, der};
use codec::plan::Uuid;
use keys::{Code, Error, PublicKey, Result, SignatureAlgorithm};
use trust::image::SCRATCH_BYTES_MIN;
use trust::{ImageRule, PORTABLE, Sha256, TrustRoot};

/// Whose signatures an image must carry.
#[derive(Clone, Copy)]
pub enum Authority<'a> {
    /// Nobody's: structure and hash alone. Says nothing about where the image comes from.
    Nobody,
    /// This key's.
    Key(&'a PublicKey),
    /// Those that the image role of this trust root demands: what a bootloader with this root accepts. Counter floor and
    /// device class are the device's own and not asked here, but the image must name both.
    Root(&'a TrustRoot<'a>),
}

/// An image that passed [`verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its header.
    pub header: ImageHeader,
    /// SHA-256 of its signed bytes: its name on devices and in manifests.
    pub digest: [u8; 32],
    /// Bytes of the image without padding.
    pub image_len: usize,
    /// Its security counter.
    pub counter: Option<u32>,
    /// The vendor it names.
    pub vendor: Option<Uuid>,
    /// The class it names.
    pub class: Option<Uuid>,
    /// KEYHASH of every key that it claims to be signed by; only those asked for were verified.
    pub key_hashes: Vec<[u8; 32]>,
    /// Why Ampoule's own bootloader refuses it although it is well-formed: it wants RAM load or another thing that only
    /// other bootloaders do.
    pub refused_by_devices: Option<Reason>,
}

/// Verifies an image; bytes behind it (padding, trailer) are not looked at.
///
/// Errors: a device's reason (901 to 913) as the strict reader gives it; [`Code::ImageNotSigned`] no signature of the key
/// asked for.
pub fn verify(image: &[u8], authority: Authority<'_>) -> Result<Verified> {
    let parsed = Parsed::of(image)?;
    match authority {
        Authority::Nobody => {}
        Authority::Key(key) => parsed.signed_by(key)?,
        Authority::Root(root) => parsed.accepted_under(image, root)?,
    }
    Ok(Verified {
        header: parsed.header,
        digest: parsed.digest,
        image_len: parsed.image_len,
        counter: parsed.counter,
        vendor: parsed.vendor,
        class: parsed.class,
        key_hashes: parsed.pairs.iter().map(|pair| pair.key_hash).collect(),
        refused_by_devices: header_of(image).and_then(ImageHeader::parse).err(),
    })
}

/// The signature of this key as the image carries it (ECDSA: DER; Ed25519: R and S), which imgtool's `--sig-out` writes.
///
/// Errors: as [`verify`]; [`Code::ImageNotSigned`].
pub fn signature_of(image: &[u8], key: &PublicKey) -> Result<Vec<u8>> {
    let parsed = Parsed::of(image)?;
    parsed.signed_by(key)?;
    let name = key.image_key_hash();
    let pair = parsed.pairs.iter().find(|pair| pair.key_hash == name);
    Ok(pair.map_or_else(Vec::new, |pair| pair.signature.to_vec()))
}

/// A well-formed image whose hash is right.
pub(super) struct Parsed<'a> {
    pub(super) header: ImageHeader,
    pub(super) digest: [u8; 32],
    pub(super) image_len: usize,
    pub(super) pairs: Vec<Pair<'a>>,
    pub(super) counter: Option<u32>,
    pub(super) vendor: Option<Uuid>,
    pub(super) class: Option<Uuid>,
}

/// A signature and the key it names.
pub(super) struct Pair<'a> {
    pub(super) key_hash: [u8; 32],
    kind: u16,
    signature: &'a [u8],
}

impl<'a> Parsed<'a> {
    pub(super) fn of(image: &'a [u8]) -> Result<Self> {
        Self::parse(image).map_err(refused)
    }

    fn parse(image: &'a [u8]) -> Result<Self, Reason> {
        let header = ImageHeader::decode(header_of(image)?)?;
        // What other bootloaders do is no fault of the image: see `Verified::refused_by_devices`.
        ImageHeader {
            flags: header.flags & !flags::KNOWN,
            load_addr: 0,
            ..header
        }
        .check()?;
        let signed = image.get(..header.signed_len() as usize).ok_or(Reason::ImageSize)?;
        let digest = Sha256::of(signed);
        let mut parsed = Parsed {
            header,
            digest,
            image_len: 0,
            pairs: Vec::new(),
            counter: None,
            vendor: None,
            class: None,
        };
        let mut walk = Walk::new(&header, u32::try_from(image.len()).unwrap_or(u32::MAX));
        let mut key_hash = None;
        while let Some(tlv) = walk.next(&mut &*image)? {
            let value = value(image, &tlv)?;
            match tlv.role {
                Role::KeyHash => key_hash = value.try_into().ok(),
                Role::Signature => {
                    let key_hash = key_hash.take().ok_or(Reason::ImageTlv)?;
                    parsed.pairs.push(Pair {
                        key_hash,
                        kind: tlv.kind,
                        signature: value,
                    });
                }
                Role::Fact | Role::Ignored => parsed.take_fact(tlv.kind, value)?,
            }
        }
        parsed.image_len = walk.image_len() as usize;
        Ok(parsed)
    }

    fn take_fact(&mut self, kind: u16, value: &[u8]) -> Result<(), Reason> {
        match kind {
            kind::SHA256 if *value != self.digest => return Err(Reason::ImageHash),
            kind::SEC_CNT => self.counter = value.try_into().ok().map(u32::from_le_bytes),
            kind::UUID_VID => self.vendor = value.try_into().ok(),
            kind::UUID_CID => self.class = value.try_into().ok(),
            _ => {}
        }
        Ok(())
    }

    fn signed_by(&self, key: &PublicKey) -> Result<()> {
        let name = key.image_key_hash();
        let mut pairs = self.pairs.iter().filter(|pair| pair.key_hash == name).peekable();
        if pairs.peek().is_none() {
            return Err(Code::ImageNotSigned.error("the image carries no signature of the given key"));
        }
        if pairs.all(|pair| pair.is_good(&key.borrow(), &self.digest)) {
            Ok(())
        } else {
            Err(refused(Reason::ImageSignature))
        }
    }

    fn accepted_under(&self, image: &[u8], root: &TrustRoot<'_>) -> Result<()> {
        let rule = ImageRule {
            root,
            algorithms: &PORTABLE,
            vendor: &self.vendor.unwrap_or_default(),
            class: &self.class.unwrap_or_default(),
            floor: 0,
            slot_limit: self.image_len as u32,
            pinned: None,
        };
        let mut scratch = [0; 64 * SCRATCH_BYTES_MIN];
        let judged = rule.judge(&mut &*image, &mut scratch);
        judged.map(|_| ()).map_err(refused)
    }
}

impl Pair<'_> {
    pub(super) fn is_good(&self, key: &trust::PublicKey, digest: &[u8; 32]) -> bool {
        let Some(verifier) = PORTABLE.for_key(key) else {
            return false;
        };
        let raw = match (verifier.algorithm(), self.kind) {
            (SignatureAlgorithm::Ed25519, kind::ED25519) | (SignatureAlgorithm::HssLms, kind::LMS) => {
                Some(self.signature.to_vec())
            }
            (SignatureAlgorithm::Esp256, kind::ECDSA) => der::to_raw(self.signature).ok().map(|raw| raw.to_vec()),
            _ => None,
        };
        raw.is_some_and(|raw| verifier.verify_digest(key, digest, &raw).is_ok())
    }
}

/// A device's reason, with what a person at a desk can do about it.
fn refused(reason: Reason) -> Error {
    let advice = match reason {
        Reason::ImageMagic => "Give an MCUboot image, as `ampoule image sign` makes it.",
        Reason::ImageHash | Reason::ImageSignature => {
            "It was changed or damaged after it was signed: do not install it, get it anew."
        }
        Reason::ImageThreshold => "Let the missing image keys sign it with `ampoule image add-signature`.",
        Reason::ImageCounter => "Sign it with --security-counter.",
        Reason::ImageClass => "Sign it with --vid and --cid.",
        Reason::RootNoImageRole => "Give a trust root with image keys.",
        _ => "See what is wrong with `ampoule image dumpinfo`, and make it anew.",
    };
    Error::refused("the image", reason).advise(advice)
}

fn header_of(image: &[u8]) -> Result<&[u8; HEADER_BYTES], Reason> {
    image.first_chunk().ok_or(Reason::ImageMagic)
}

fn value<'a>(image: &'a [u8], tlv: &Tlv) -> Result<&'a [u8], Reason> {
    let start = tlv.offset as usize;
    image.get(start..start + usize::from(tlv.len)).ok_or(Reason::ImageSize)
}
