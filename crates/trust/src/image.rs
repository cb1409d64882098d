//! May this image start? The bootloader's only question about authority (mcuboot-format, sections 1 and 2).
//!
//! Stricter than the C implementation: one hash over every byte that is used, every signature pair evaluated, distinct
//! keys counted per role of the trust root, and counter, vendor and class taken from the signed area alone.

use crate::alg::{Algorithms, BadSignature, Pieces, SIGNATURE_BYTES};
use crate::digest::{SHA256_BYTES, Sha256};
use crate::key::image_key_hash;
use crate::root::{Entries, Entry, Role, TrustRoot};
use codec::Reason;
use codec::cose::PublicKey;
use codec::mcuboot::tlv::kind;
use codec::mcuboot::{HEADER_BYTES, ImageHeader, ReadAt, Tlv, Walk, der, tlv};
use codec::plan::Uuid;

/// Bytes of the scratch buffer of [`ImageRule::judge`] at least; 64 times a power of two hashes fastest.
pub const SCRATCH_BYTES_MIN: usize = 64;

/// What an image must be to start on this device.
#[derive(Clone, Copy)]
pub struct ImageRule<'r> {
    /// The keys and thresholds of the image role.
    pub root: &'r TrustRoot<'r>,
    /// The signature algorithms that the device accepts.
    pub algorithms: &'r Algorithms<'r>,
    /// The device's vendor id.
    pub vendor: &'r Uuid,
    /// The device's class id.
    pub class: &'r Uuid,
    /// The rollback floor: the lowest security counter that may start.
    pub floor: u32,
    /// Bytes that an image with both TLV areas may take of its slot.
    pub slot_limit: u32,
    /// SHA-256 of the one image that may start whatever the root says of its signatures: the confirmed image that ran
    /// when the root became stricter (profile section 15). Integrity, class and floor hold for it too.
    pub pinned: Option<[u8; SHA256_BYTES]>,
}

/// An image that may start. Only [`ImageRule::judge`] makes one.
///
/// ```compile_fail,E0451
/// # use ampoule_trust as trust;
/// fn skip_the_checks(header: codec::mcuboot::ImageHeader) -> trust::Bootable {
///     trust::Bootable { header, total_len: 0, digest: [0; 32], counter: 0, counted: Default::default() }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bootable {
    header: ImageHeader,
    total_len: u32,
    digest: [u8; SHA256_BYTES],
    counter: u32,
    counted: Entries,
}

impl Bootable {
    /// The header, as hashed.
    pub fn header(&self) -> &ImageHeader {
        &self.header
    }

    /// Bytes of the whole image with both TLV areas.
    pub fn total_len(&self) -> u32 {
        self.total_len
    }

    /// The image's name: SHA-256 of its signed bytes, equal to its SHA256 TLV.
    pub fn digest(&self) -> &[u8; SHA256_BYTES] {
        &self.digest
    }

    /// Its security counter, as hashed.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// The entries of the trust root that signed it; empty for a pinned image, whose signatures are not asked for.
    /// [`TrustRoot::signers`] names them.
    pub fn counted(&self) -> Entries {
        self.counted
    }
}

impl ImageRule<'_> {
    /// Reads the image from offset 0 of `reader`, each signed byte once, and says whether it may start.
    ///
    /// `scratch` is the block that is read and hashed at a time, at least [`SCRATCH_BYTES_MIN`] bytes. Refused with the
    /// reasons of structure and size (901 to 904, 908, 911), then 905 hash, 906 a known key's signature, 941 and 907
    /// roles and thresholds, 913 dependencies, 909 and 910 counter and class, 610 floor; 515 when the reader fails or
    /// `scratch` is too small.
    pub fn judge<R: ReadAt + ?Sized>(&self, reader: &mut R, scratch: &mut [u8]) -> Result<Bootable, Reason> {
        let mut image = HashedOnce::open(reader, scratch, self.slot_limit)?;
        let mut walk = Walk::new(&image.header, self.slot_limit);
        let mut facts = Facts::default();
        let mut counted = Entries::default();
        let mut signer = None;
        while let Some(tlv) = walk.next(&mut image)? {
            match tlv.role {
                tlv::Role::Fact => facts.take(&mut image, &tlv)?,
                tlv::Role::KeyHash => signer = self.key_named(image.value(&tlv)?),
                tlv::Role::Signature => {
                    if let Some(entry) = signer.take() {
                        counted = counted.with(self.signature(&mut image, &tlv, &entry)?);
                    }
                }
                tlv::Role::Ignored => {}
            }
        }
        let digest = image.digest()?;
        if self.pinned != Some(digest) {
            self.root.image_signed_by(counted)?;
        }
        let counter = facts.admitted_by(self)?;
        Ok(Bootable {
            header: image.header,
            total_len: walk.image_len(),
            digest,
            counter,
            counted,
        })
    }

    /// The key that a KEYHASH names, if the root lists it for images. Pairs of other keys are not ours to judge.
    fn key_named(&self, key_hash: [u8; SHA256_BYTES]) -> Option<Entry<'_>> {
        let mut keys = self
            .root
            .entries()
            .filter(|entry| matches!(entry.role, Role::Image | Role::ImageSecond));
        keys.find(|entry| entry.key.and_then(|key| image_key_hash(&key)) == Some(key_hash))
    }

    /// Evaluates one signature of a known key: `None` when the device does not have its algorithm, else its entry.
    fn signature<R: ReadAt + ?Sized>(
        &self,
        image: &mut HashedOnce<'_, R>,
        tlv: &Tlv,
        entry: &Entry<'_>,
    ) -> Result<Option<u8>, Reason> {
        let Some(key) = &entry.key else { return Ok(None) };
        let raw = match (key, tlv.kind) {
            (PublicKey::Ed25519 { .. }, kind::ED25519) => Some(image.value(tlv)?),
            (PublicKey::P256 { .. }, kind::ECDSA) => Some(image.ecdsa(tlv)?),
            (PublicKey::HssLms { .. }, kind::LMS) => None,
            _ => return Err(Reason::ImageSignature),
        };
        let Some(verifier) = self.algorithms.for_key(key) else {
            return Ok(None);
        };
        let digest = image.digest()?;
        if self.pinned == Some(digest) {
            return Ok(None);
        }
        let mut pieces = InPlace::of(image, tlv);
        let verified = match &raw {
            Some(raw) => verifier.verify_digest(key, &digest, raw),
            None => verifier.verify_digest_from(key, &digest, &mut pieces),
        };
        match verified {
            Ok(()) => Ok(Some(entry.index)),
            Err(BadSignature) => Err(pieces.failed.unwrap_or(Reason::ImageSignature)),
        }
    }
}

/// A long signature, read where it stands, each byte once.
struct InPlace<'i, 's, R: ?Sized> {
    image: &'i mut HashedOnce<'s, R>,
    at: u32,
    left: u16,
    /// Why a read failed, where it was not the signature's fault.
    failed: Option<Reason>,
}

impl<'i, 's, R: ReadAt + ?Sized> InPlace<'i, 's, R> {
    fn of(image: &'i mut HashedOnce<'s, R>, tlv: &Tlv) -> Self {
        Self {
            image,
            at: tlv.offset,
            left: tlv.len,
            failed: None,
        }
    }
}

impl<R: ReadAt + ?Sized> Pieces for InPlace<'_, '_, R> {
    fn left(&self) -> usize {
        self.left.into()
    }

    fn next(&mut self, out: &mut [u8]) -> Result<(), BadSignature> {
        let len = u16::try_from(out.len()).map_err(|_| BadSignature)?;
        self.left = self.left.checked_sub(len).ok_or(BadSignature)?;
        let read = self.image.read_at(self.at, out);
        self.at = self.at.saturating_add(len.into());
        read.map_err(|reason| {
            self.failed = Some(reason);
            BadSignature
        })
    }
}

/// What the image says about itself, from its signed area; and that its hash is right.
#[derive(Default)]
struct Facts {
    counter: Option<u32>,
    vendor: Option<Uuid>,
    class: Option<Uuid>,
    depends: bool,
}

impl Facts {
    fn take<R: ReadAt + ?Sized>(&mut self, image: &mut HashedOnce<'_, R>, tlv: &Tlv) -> Result<(), Reason> {
        match tlv.kind {
            kind::SEC_CNT => self.counter = Some(u32::from_le_bytes(image.value(tlv)?)),
            kind::UUID_VID => self.vendor = Some(image.value(tlv)?),
            kind::UUID_CID => self.class = Some(image.value(tlv)?),
            kind::DEPENDENCY => self.depends = true,
            kind::SHA256 if image.value(tlv)? != image.digest()? => return Err(Reason::ImageHash),
            _ => {}
        }
        Ok(())
    }

    /// The security counter of an image that is meant for this device and not too old.
    fn admitted_by(&self, rule: &ImageRule) -> Result<u32, Reason> {
        // A device of this kind has one image: nothing else can be there to depend on.
        if self.depends {
            return Err(Reason::ImageDependency);
        }
        let counter = self.counter.ok_or(Reason::ImageCounter)?;
        if self.vendor.as_ref() != Some(rule.vendor) || self.class.as_ref() != Some(rule.class) {
            return Err(Reason::ImageClass);
        }
        if counter < rule.floor {
            return Err(Reason::CounterRollback);
        }
        Ok(counter)
    }
}

/// A reader that hashes every signed byte exactly once, in order, and serves reads of the signed area from the very
/// bytes that it hashed: flash that changes between check and use changes nothing.
struct HashedOnce<'s, R: ?Sized> {
    reader: &'s mut R,
    /// The block hashed last: `filled` bytes from `start` of the image.
    block: &'s mut [u8],
    start: u32,
    filled: u32,
    header: ImageHeader,
    hash: Sha256,
    digest: Option<[u8; SHA256_BYTES]>,
}

impl<'s, R: ReadAt + ?Sized> HashedOnce<'s, R> {
    /// Reads and hashes the header; refuses an image that cannot fit.
    fn open(reader: &'s mut R, block: &'s mut [u8], limit: u32) -> Result<Self, Reason> {
        if block.len() < SCRATCH_BYTES_MIN {
            return Err(Reason::StorageFailed);
        }
        let head: &mut [u8; HEADER_BYTES] = block.first_chunk_mut().ok_or(Reason::StorageFailed)?;
        reader.read_at(0, head)?;
        let header = ImageHeader::parse(head)?;
        if header.signed_len() > limit {
            return Err(Reason::ImageSize);
        }
        let mut hash = Sha256::new();
        hash.update(head);
        Ok(Self {
            reader,
            block,
            start: 0,
            filled: HEADER_BYTES as u32,
            header,
            hash,
            digest: None,
        })
    }

    /// SHA-256 of all signed bytes; hashes what is left of them.
    fn digest(&mut self) -> Result<[u8; SHA256_BYTES], Reason> {
        loop {
            if let Some(digest) = self.digest {
                return Ok(digest);
            }
            self.advance()?;
        }
    }

    /// Reads and hashes the next block, up to a multiple of the block's size; after the last one makes the digest.
    fn advance(&mut self) -> Result<(), Reason> {
        let block_len = u32::try_from(self.block.len()).unwrap_or(u32::MAX);
        let start = self.start.saturating_add(self.filled);
        let left = self.header.signed_len().saturating_sub(start);
        let wanted = block_len
            .saturating_sub(start.checked_rem(block_len).unwrap_or(0))
            .min(left);
        if wanted == 0 {
            self.digest = Some(core::mem::take(&mut self.hash).finish());
            return Ok(());
        }
        let block = self.block.get_mut(..wanted as usize).ok_or(Reason::StorageFailed)?;
        self.reader.read_at(start, block)?;
        self.hash.update(block);
        (self.start, self.filled) = (start, wanted);
        Ok(())
    }

    /// The value of a TLV of exactly this length.
    fn value<const N: usize>(&mut self, tlv: &Tlv) -> Result<[u8; N], Reason> {
        if usize::from(tlv.len) != N {
            return Err(Reason::ImageTlv);
        }
        let mut value = [0; N];
        self.read_at(tlv.offset, &mut value)?;
        Ok(value)
    }

    /// The value of an ECDSA signature TLV as r || s.
    fn ecdsa(&mut self, tlv: &Tlv) -> Result<[u8; SIGNATURE_BYTES], Reason> {
        let mut value = [0; der::DER_BYTES_MAX];
        let value = value.get_mut(..usize::from(tlv.len)).ok_or(Reason::ImageTlv)?;
        self.read_at(tlv.offset, value)?;
        der::to_raw(value)
    }

    /// One byte of the signed area, from the block in which it was hashed. Positions only grow.
    fn signed_byte(&mut self, at: u32) -> Result<u8, Reason> {
        while at >= self.start.saturating_add(self.filled) {
            if self.digest.is_some() {
                return Err(Reason::ImageTlv);
            }
            self.advance()?;
        }
        let within = at.checked_sub(self.start).ok_or(Reason::ImageTlv)?;
        self.block.get(within as usize).copied().ok_or(Reason::ImageTlv)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for HashedOnce<'_, R> {
    fn read_at(&mut self, offset: u32, out: &mut [u8]) -> Result<(), Reason> {
        if offset >= self.header.signed_len() {
            // Unsigned: hash and signatures, used only to be compared with or verified over the digest.
            return self.reader.read_at(offset, out);
        }
        for (at, byte) in (offset..).zip(out) {
            *byte = self.signed_byte(at)?;
        }
        Ok(())
    }
}
