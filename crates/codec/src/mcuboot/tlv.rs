//! TLV areas: which types may stand where, and how often.
//!
//! Stricter than the C implementation, whose gaps are listed in its advisories (CVE-2024-32883: protected types taken
//! from the unsigned area) and issues: every type has one place, types that say one thing stand once, lengths are exact,
//! and a signature names its key right before it. Only vendor types in the signed area are ignored.

use super::header::{ImageHeader, ImageVersion, VERSION_BYTES};
use super::{ReadAt, der};
use crate::Reason;

/// Bytes of a TLV area's info header.
pub const INFO_BYTES: usize = 4;
/// Bytes of an entry's head.
pub const HEAD_BYTES: usize = 4;
/// Magic of the protected area.
pub const PROTECTED_MAGIC: u16 = 0x6908;
/// Magic of the unprotected area.
pub const UNPROTECTED_MAGIC: u16 = 0x6907;
/// Pairs of KEYHASH and signature in an image at most; bounds the time that checking one takes.
pub const SIGNATURE_PAIRS_MAX: u8 = 16;

/// TLV types. All that have a meaning upstream; [`rule`] says which are accepted.
pub mod kind {
    /// SHA-256 of the SubjectPublicKeyInfo of the key that made the next signature.
    pub const KEYHASH: u16 = 0x01;
    /// The public key itself instead of its hash.
    pub const PUBKEY: u16 = 0x02;
    /// SHA-256 of the signed bytes.
    pub const SHA256: u16 = 0x10;
    /// SHA-384 of the signed bytes.
    pub const SHA384: u16 = 0x11;
    /// SHA-512 of the signed bytes.
    pub const SHA512: u16 = 0x12;
    /// RSA-2048 PSS signature.
    pub const RSA2048: u16 = 0x20;
    /// ECDSA signature in DER.
    pub const ECDSA: u16 = 0x22;
    /// RSA-3072 PSS signature.
    pub const RSA3072: u16 = 0x23;
    /// Ed25519 signature of the hash.
    pub const ED25519: u16 = 0x24;
    /// Says that the signature covers the bytes, not their hash.
    pub const SIG_PURE: u16 = 0x25;
    /// Image key wrapped with RSA-2048 OAEP.
    pub const ENC_RSA2048: u16 = 0x30;
    /// Image key wrapped with AES.
    pub const ENC_KW: u16 = 0x31;
    /// Image key wrapped with ECIES-P256.
    pub const ENC_EC256: u16 = 0x32;
    /// Image key wrapped with ECIES-X25519 and SHA-256.
    pub const ENC_X25519: u16 = 0x33;
    /// Image key wrapped with ECIES-X25519 and SHA-512.
    pub const ENC_X25519_SHA512: u16 = 0x34;
    /// Another image that must have at least some version.
    pub const DEPENDENCY: u16 = 0x40;
    /// Security counter, u32.
    pub const SEC_CNT: u16 = 0x50;
    /// Boot record for attestation, CBOR.
    pub const BOOT_RECORD: u16 = 0x60;
    /// Size of the decompressed payload.
    pub const DECOMP_SIZE: u16 = 0x70;
    /// Hash of the decompressed image.
    pub const DECOMP_SHA: u16 = 0x71;
    /// Signature of the decompressed image.
    pub const DECOMP_SIGNATURE: u16 = 0x72;
    /// Size of the payload after decompression and decryption.
    pub const COMP_DEC_SIZE: u16 = 0x73;
    /// UUID of the vendor.
    pub const UUID_VID: u16 = 0x74;
    /// UUID of the device class.
    pub const UUID_CID: u16 = 0x75;
    /// LMS signature (RFC 8554); a vendor type of ours.
    pub const LMS: u16 = 0x01a0;

    /// The upstream name of a type, as imgtool's `dumpinfo` prints it; `None` for vendor and unknown types.
    pub const fn name(kind: u16) -> Option<&'static str> {
        Some(match kind {
            KEYHASH => "KEYHASH",
            PUBKEY => "PUBKEY",
            SHA256 => "SHA256",
            SHA384 => "SHA384",
            SHA512 => "SHA512",
            RSA2048 => "RSA2048",
            ECDSA => "ECDSASIG",
            RSA3072 => "RSA3072",
            ED25519 => "ED25519",
            SIG_PURE => "SIG_PURE",
            ENC_RSA2048 => "ENCRSA2048",
            ENC_KW => "ENCKW",
            ENC_EC256 => "ENCEC256",
            ENC_X25519 => "ENCX25519",
            ENC_X25519_SHA512 => "ENCX25519_SHA512",
            DEPENDENCY => "DEPENDENCY",
            SEC_CNT => "SEC_CNT",
            BOOT_RECORD => "BOOT_RECORD",
            DECOMP_SIZE => "DECOMP_SIZE",
            DECOMP_SHA => "DECOMP_SHA",
            DECOMP_SIGNATURE => "DECOMP_SIGNATURE",
            COMP_DEC_SIZE => "COMP_DEC_SIZE",
            UUID_VID => "UUID_VID",
            UUID_CID => "UUID_CID",
            LMS => "LMS",
            _ => return None,
        })
    }

    /// Vendor types (`0xXXa0` to `0xXXff`, but not the iterator wildcard `0xffff`).
    pub const fn is_vendor(kind: u16) -> bool {
        kind & 0xff >= 0xa0 && kind != 0xffff
    }
}

/// One of the two TLV areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// Hashed and signed with the image.
    Protected,
    /// Not signed: holds hash and signatures.
    Unprotected,
}

impl Area {
    const fn magic(self) -> u16 {
        match self {
            Area::Protected => PROTECTED_MAGIC,
            Area::Unprotected => UNPROTECTED_MAGIC,
        }
    }
}

/// What an entry is for, which decides what may follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Says something about the image.
    Fact,
    /// Names the key of the signature that must come next.
    KeyHash,
    /// A signature by the key named right before it.
    Signature,
    /// A vendor type: signed, and nothing to us.
    Ignored,
}

/// Where and how a TLV type may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The only area it may stand in.
    pub area: Area,
    /// What it is for.
    pub role: Role,
    /// Bytes of its value at least.
    pub len_min: u16,
    /// Bytes of its value at most.
    pub len_max: u16,
    /// One bit, unique among the types that may stand once; 0 = may repeat.
    once: u8,
}

impl Rule {
    /// Whether the type may stand more than once.
    pub const fn repeats(&self) -> bool {
        self.once == 0
    }

    /// Refuses an entry in the wrong area ([`Reason::ImageTlvForbidden`]) or of the wrong length ([`Reason::ImageTlv`]).
    pub fn check(&self, area: Area, len: u16) -> Result<(), Reason> {
        if self.area != area {
            Err(Reason::ImageTlvForbidden)
        } else if len < self.len_min || len > self.len_max {
            Err(Reason::ImageTlv)
        } else {
            Ok(())
        }
    }
}

/// The rule of a TLV type; `None` when it is refused everywhere.
///
/// Refused on purpose: other hashes than SHA-256 (an image has one identity), bare public keys (keys come from the trust
/// root), signatures over unhashed bytes, and everything about encryption and compression, which the header flags
/// already refuse. RSA signatures are accepted as somebody else's: no key of a trust root has that algorithm.
pub const fn rule(kind: u16) -> Option<Rule> {
    use Area::{Protected, Unprotected};
    use Role::{Fact, Ignored, KeyHash, Signature};
    let (area, role, len_min, len_max, once) = match kind {
        kind::SEC_CNT => (Protected, Fact, 4, 4, 0x01),
        kind::BOOT_RECORD => (Protected, Fact, 0, u16::MAX, 0x02),
        kind::DEPENDENCY => (Protected, Fact, DEPENDENCY_BYTES as u16, DEPENDENCY_BYTES as u16, 0),
        kind::UUID_VID => (Protected, Fact, 16, 16, 0x04),
        kind::UUID_CID => (Protected, Fact, 16, 16, 0x08),
        kind::SHA256 => (Unprotected, Fact, 32, 32, HASH_SEEN),
        kind::KEYHASH => (Unprotected, KeyHash, 32, 32, 0),
        kind::ECDSA => (
            Unprotected,
            Signature,
            der::DER_BYTES_MIN as u16,
            der::DER_BYTES_MAX as u16,
            0,
        ),
        kind::ED25519 => (Unprotected, Signature, 64, 64, 0),
        kind::RSA2048 => (Unprotected, Signature, 256, 256, 0),
        kind::RSA3072 => (Unprotected, Signature, 384, 384, 0),
        kind::LMS => (Unprotected, Signature, 1, u16::MAX, 0),
        _ if kind::is_vendor(kind) => (Protected, Ignored, 0, u16::MAX, 0),
        _ => return None,
    };
    Some(Rule {
        area,
        role,
        len_min,
        len_max,
        once,
    })
}

const HASH_SEEN: u8 = 0x10;

/// The four bytes at the start of a TLV area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlvInfo {
    /// [`PROTECTED_MAGIC`] or [`UNPROTECTED_MAGIC`].
    pub magic: u16,
    /// Bytes of the whole area, with these four.
    pub tot: u16,
}

impl TlvInfo {
    /// Reads the four bytes.
    pub const fn parse(bytes: &[u8; INFO_BYTES]) -> Self {
        let [m0, m1, t0, t1] = *bytes;
        TlvInfo {
            magic: u16::from_le_bytes([m0, m1]),
            tot: u16::from_le_bytes([t0, t1]),
        }
    }

    /// The four bytes.
    pub const fn to_bytes(self) -> [u8; INFO_BYTES] {
        let [m0, m1] = self.magic.to_le_bytes();
        let [t0, t1] = self.tot.to_le_bytes();
        [m0, m1, t0, t1]
    }
}

/// The four bytes before a TLV's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlvHead {
    /// The type, see [`kind`](mod@kind).
    pub kind: u16,
    /// Bytes of the value that follows.
    pub len: u16,
}

impl TlvHead {
    /// Reads the four bytes.
    pub const fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [k0, k1, l0, l1] = *bytes;
        TlvHead {
            kind: u16::from_le_bytes([k0, k1]),
            len: u16::from_le_bytes([l0, l1]),
        }
    }

    /// The four bytes.
    pub const fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let [k0, k1] = self.kind.to_le_bytes();
        let [l0, l1] = self.len.to_le_bytes();
        [k0, k1, l0, l1]
    }
}

/// An entry that obeys its rule, as [`Walk::next`] finds it: its value is `len` bytes at `offset` of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv {
    /// The type, see [`kind`](mod@kind).
    pub kind: u16,
    /// What it is for. The signature that belongs to a KEYHASH is always the next entry.
    pub role: Role,
    /// Bytes of the value, within the bounds of its rule.
    pub len: u16,
    /// Where the value starts, from the first byte of the header.
    pub offset: u32,
}

/// A walk over both TLV areas of an image that needs no buffer: the caller lends the reader for each step and may read
/// the values itself in between.
///
/// ```text
/// let mut walk = Walk::new(&header, limit);
/// while let Some(tlv) = walk.next(&mut slot)? { .. }
/// let image_bytes = walk.image_len();
/// ```
///
/// What was seen counts only after `next` returned `Ok(None)`: only then both areas are known to be well-formed, with
/// exactly one hash and every signature paired with its key.
#[derive(Clone, Debug)]
pub struct Walk {
    at: u32,
    area_end: u32,
    limit: u32,
    protected_len: u16,
    stage: Stage,
    order: Order,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Start,
    In(Area),
    Done,
    Failed(Reason),
}

impl Walk {
    /// A walk over the TLVs of the image with this header. `limit` is the number of bytes that an image may take of its
    /// slot (for a file: its length); what reaches beyond is [`Reason::ImageSize`]. Values are not read here.
    pub const fn new(header: &ImageHeader, limit: u32) -> Self {
        Walk {
            at: header.tlv_offset(),
            area_end: header.tlv_offset(),
            limit,
            protected_len: header.protect_tlv_size,
            stage: Stage::Start,
            order: Order::NEW,
        }
    }

    /// The next entry of either area, protected first; `None` at the end of a well-formed image.
    ///
    /// Errors: [`Reason::ImageSize`] the image reaches beyond its limit; [`Reason::ImageTlvForbidden`] a type is refused,
    /// double or in the wrong area; [`Reason::ImageTlv`] anything else that is malformed; and those of the reader. An
    /// error is the end: it is repeated however often one asks.
    pub fn next<R: ReadAt + ?Sized>(&mut self, reader: &mut R) -> Result<Option<Tlv>, Reason> {
        let step = self.step(reader);
        if let Err(reason) = step {
            self.stage = Stage::Failed(reason);
        }
        step
    }

    fn step<R: ReadAt + ?Sized>(&mut self, reader: &mut R) -> Result<Option<Tlv>, Reason> {
        if let Stage::Failed(reason) = self.stage {
            return Err(reason);
        }
        while self.at == self.area_end {
            match self.stage {
                Stage::Start if self.protected_len != 0 => self.enter(Area::Protected, reader)?,
                Stage::Start | Stage::In(Area::Protected) => self.enter(Area::Unprotected, reader)?,
                Stage::In(Area::Unprotected) => {
                    self.order.finish()?;
                    self.stage = Stage::Done;
                }
                Stage::Done | Stage::Failed(_) => return Ok(None),
            }
        }
        let Stage::In(area) = self.stage else {
            return Err(Reason::ImageTlv);
        };
        let head = TlvHead::parse(&self.take(reader)?);
        let rule = self.order.admit(area, head)?;
        let offset = self.at;
        self.at = self.advanced(u32::from(head.len))?;
        Ok(Some(Tlv {
            kind: head.kind,
            role: rule.role,
            len: head.len,
            offset,
        }))
    }

    /// Bytes of the whole image with both TLV areas; known once [`Walk::next`] returned `None`.
    pub const fn image_len(&self) -> u32 {
        self.area_end
    }

    /// Opens the area that starts here.
    fn enter<R: ReadAt + ?Sized>(&mut self, area: Area, reader: &mut R) -> Result<(), Reason> {
        self.area_end = self.limit;
        let start = self.at;
        let info = match self.take(reader) {
            Err(Reason::ImageTlv) => return Err(Reason::ImageSize),
            other => TlvInfo::parse(&other?),
        };
        // The header's size is signed and has decided what was hashed; the area must agree with it.
        let size_agrees = area == Area::Unprotected || info.tot == self.protected_len;
        let end = start.checked_add(u32::from(info.tot)).ok_or(Reason::ImageSize)?;
        if info.magic != area.magic() || !size_agrees || end < self.at {
            return Err(Reason::ImageTlv);
        }
        if end > self.limit {
            return Err(Reason::ImageSize);
        }
        self.area_end = end;
        self.stage = Stage::In(area);
        Ok(())
    }

    fn take<R: ReadAt + ?Sized>(&mut self, reader: &mut R) -> Result<[u8; HEAD_BYTES], Reason> {
        let next = self.advanced(HEAD_BYTES as u32)?;
        let mut bytes = [0; HEAD_BYTES];
        reader.read_at(self.at, &mut bytes)?;
        self.at = next;
        Ok(bytes)
    }

    /// The position `len` bytes further, which must not leave the area.
    fn advanced(&self, len: u32) -> Result<u32, Reason> {
        let next = self.at.checked_add(len).ok_or(Reason::ImageTlv)?;
        if next > self.area_end {
            Err(Reason::ImageTlv)
        } else {
            Ok(next)
        }
    }
}

/// What was seen so far, as far as it decides what may come next.
#[derive(Clone, Debug)]
struct Order {
    /// Bits of the types that may stand once.
    seen: u8,
    pairs: u8,
    key_named: bool,
}

impl Order {
    const NEW: Order = Order {
        seen: 0,
        pairs: 0,
        key_named: false,
    };

    /// Checks one entry against its rule, its uniqueness and the order of KEYHASH and signature.
    fn admit(&mut self, area: Area, head: TlvHead) -> Result<Rule, Reason> {
        let rule = rule(head.kind).ok_or(Reason::ImageTlvForbidden)?;
        rule.check(area, head.len)?;
        if self.seen & rule.once != 0 {
            return Err(Reason::ImageTlvForbidden);
        }
        self.seen |= rule.once;
        let is_signature = rule.role == Role::Signature;
        self.pairs = self.pairs.saturating_add(u8::from(is_signature));
        if self.key_named != is_signature || self.pairs > SIGNATURE_PAIRS_MAX {
            return Err(Reason::ImageTlv);
        }
        self.key_named = rule.role == Role::KeyHash;
        Ok(rule)
    }

    /// Checks what can be said only at the end of the unprotected area.
    fn finish(&self) -> Result<(), Reason> {
        if self.key_named || self.seen & HASH_SEEN == 0 {
            Err(Reason::ImageTlv)
        } else {
            Ok(())
        }
    }
}

/// An entry as found in a file, before any rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawTlv<'a> {
    /// The area it stands in.
    pub area: Area,
    /// The type, see [`kind`](mod@kind).
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The TLVs of a whole image in memory, for looking at images of any maker: bounds are checked, [`rule`]s are not.
///
/// Ends after the first error ([`Reason::ImageTlv`], or [`Reason::ImageSize`] when the file is too short).
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    /// What is left of the area that is open, and what follows it.
    entries: &'a [u8],
    behind: &'a [u8],
    area: Area,
    upcoming: Option<Area>,
    protected_len: u16,
    len: usize,
}

impl<'a> Tlvs<'a> {
    /// The TLVs of `image`, which starts with `header`.
    pub fn new(image: &'a [u8], header: &ImageHeader) -> Self {
        let start = usize::try_from(header.tlv_offset()).unwrap_or(usize::MAX);
        let first = if header.protect_tlv_size == 0 {
            Area::Unprotected
        } else {
            Area::Protected
        };
        Tlvs {
            entries: &[],
            behind: image.get(start..).unwrap_or(&[]),
            area: first,
            upcoming: Some(first),
            protected_len: header.protect_tlv_size,
            len: start,
        }
    }

    /// Bytes of the image with the areas opened so far; of the whole image once the iterator is at its end.
    pub fn image_len(&self) -> usize {
        self.len
    }

    fn enter(&mut self, area: Area) -> Result<(), Reason> {
        let (info, _) = self.behind.split_first_chunk().ok_or(Reason::ImageSize)?;
        let info = TlvInfo::parse(info);
        let size_agrees = area == Area::Unprotected || info.tot == self.protected_len;
        if info.magic != area.magic() || !size_agrees {
            return Err(Reason::ImageTlv);
        }
        let tot = usize::from(info.tot);
        let (whole, behind) = self.behind.split_at_checked(tot).ok_or(Reason::ImageSize)?;
        self.entries = whole.get(INFO_BYTES..).ok_or(Reason::ImageTlv)?;
        self.behind = behind;
        self.area = area;
        self.upcoming = if area == Area::Protected {
            Some(Area::Unprotected)
        } else {
            None
        };
        self.len = self.len.saturating_add(tot);
        Ok(())
    }

    fn entry(&mut self) -> Result<Option<RawTlv<'a>>, Reason> {
        while self.entries.is_empty() {
            match self.upcoming {
                Some(area) => self.enter(area)?,
                None => return Ok(None),
            }
        }
        let (head, rest) = self.entries.split_first_chunk().ok_or(Reason::ImageTlv)?;
        let head = TlvHead::parse(head);
        let (value, rest) = rest.split_at_checked(usize::from(head.len)).ok_or(Reason::ImageTlv)?;
        self.entries = rest;
        Ok(Some(RawTlv {
            area: self.area,
            kind: head.kind,
            value,
        }))
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<RawTlv<'a>, Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entry();
        if entry.is_err() {
            (self.entries, self.upcoming) = (&[], None);
        }
        entry.transpose()
    }
}

/// Bytes of a dependency's value.
pub const DEPENDENCY_BYTES: usize = 12;

/// Another image of the device that must have at least this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// Number of the other image.
    pub image: u8,
    /// The lowest version that will do.
    pub min_version: ImageVersion,
}

impl Dependency {
    /// Reads the value of a dependency TLV; its three padding bytes must be 0 ([`Reason::ImageTlv`]).
    pub fn parse(bytes: &[u8; DEPENDENCY_BYTES]) -> Result<Self, Reason> {
        let [image, 0, 0, 0, version @ ..] = bytes else {
            return Err(Reason::ImageTlv);
        };
        let version: &[u8; VERSION_BYTES] = version;
        Ok(Dependency {
            image: *image,
            min_version: ImageVersion::from_bytes(version),
        })
    }

    /// The value of a dependency TLV.
    pub const fn to_bytes(self) -> [u8; DEPENDENCY_BYTES] {
        let [v0, v1, v2, v3, v4, v5, v6, v7] = self.min_version.to_bytes();
        [self.image, 0, 0, 0, v0, v1, v2, v3, v4, v5, v6, v7]
    }
}

/// The protected area of an image to be built, in imgtool's order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protected<'a> {
    /// Security counter.
    pub security_counter: Option<u32>,
    /// Boot record in CBOR.
    pub boot_record: Option<&'a [u8]>,
    /// Images that this one needs.
    pub dependencies: &'a [Dependency],
    /// UUID of the vendor.
    pub vendor: Option<[u8; 16]>,
    /// UUID of the device class.
    pub class: Option<[u8; 16]>,
    /// Vendor types and their values; see [`kind::is_vendor`].
    pub custom: &'a [(u16, &'a [u8])],
}

impl Protected<'_> {
    /// Bytes of the area, for the header's `protect_tlv_size`; 0 when nothing is in it. Errors as [`AreaWriter::push`].
    pub fn encoded_len(&self) -> Result<u16, Reason> {
        let mut count = AreaWriter::counting(Area::Protected);
        self.push_all(&mut count)?;
        Ok(if count.len == INFO_BYTES { 0 } else { count.tot()? })
    }

    /// Writes the area to the start of `out`; gives its bytes, 0 when nothing is in it.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Reason> {
        if self.encoded_len()? == 0 {
            return Ok(0);
        }
        let mut area = AreaWriter::new(Area::Protected, out);
        self.push_all(&mut area)?;
        area.finish()
    }

    fn push_all(&self, area: &mut AreaWriter<'_>) -> Result<(), Reason> {
        if let Some(counter) = self.security_counter {
            area.push(kind::SEC_CNT, &counter.to_le_bytes())?;
        }
        if let Some(record) = self.boot_record {
            area.push(kind::BOOT_RECORD, record)?;
        }
        for dependency in self.dependencies {
            area.push(kind::DEPENDENCY, &dependency.to_bytes())?;
        }
        if let Some(vendor) = &self.vendor {
            area.push(kind::UUID_VID, vendor)?;
        }
        if let Some(class) = &self.class {
            area.push(kind::UUID_CID, class)?;
        }
        self.custom.iter().try_for_each(|(kind, value)| area.push(*kind, value))
    }
}

/// One signature of an image to be built.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub key_hash: [u8; 32],
    /// Type of the signature, such as [`kind::ED25519`].
    pub kind: u16,
    /// The signature in the form of its type (ECDSA: DER).
    pub signature: &'a [u8],
}

/// The unprotected area of an image to be built, in imgtool's order.
#[derive(Clone, Copy, Debug)]
pub struct Unprotected<'a> {
    /// SHA-256 of the signed bytes.
    pub hash: [u8; 32],
    /// Signatures over that hash.
    pub signatures: &'a [Signed<'a>],
}

impl Unprotected<'_> {
    /// Writes the area to the start of `out`; gives its bytes. Errors as [`AreaWriter::push`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Reason> {
        let mut area = AreaWriter::new(Area::Unprotected, out);
        area.push(kind::SHA256, &self.hash)?;
        for signed in self.signatures {
            area.push(kind::KEYHASH, &signed.key_hash)?;
            area.push(signed.kind, signed.signature)?;
        }
        area.finish()
    }
}

/// Writes one TLV area; every entry must obey the same rules that a reader enforces.
#[derive(Debug)]
pub struct AreaWriter<'b> {
    area: Area,
    out: Option<&'b mut [u8]>,
    len: usize,
    order: Order,
}

impl<'b> AreaWriter<'b> {
    /// An empty area at the start of `out`.
    pub fn new(area: Area, out: &'b mut [u8]) -> Self {
        AreaWriter {
            out: Some(out),
            ..Self::counting(area)
        }
    }

    /// An area that is only measured.
    fn counting(area: Area) -> Self {
        AreaWriter {
            area,
            out: None,
            len: INFO_BYTES,
            order: Order::NEW,
        }
    }

    /// Appends an entry. Errors: [`Reason::ImageTlvForbidden`] or [`Reason::ImageTlv`] against its rule,
    /// [`Reason::ImageSize`] no room in the buffer or in 65,535 bytes.
    pub fn push(&mut self, kind: u16, value: &[u8]) -> Result<(), Reason> {
        let len = u16::try_from(value.len()).map_err(|_| Reason::ImageSize)?;
        let head = TlvHead { kind, len };
        self.order.admit(self.area, head)?;
        self.append(&head.to_bytes())?;
        self.append(value)?;
        self.tot().map(|_| ())
    }

    /// Writes the info header; gives the bytes of the whole area.
    pub fn finish(mut self) -> Result<usize, Reason> {
        if self.area == Area::Unprotected {
            self.order.finish()?;
        }
        let info = TlvInfo {
            magic: self.area.magic(),
            tot: self.tot()?,
        }
        .to_bytes();
        let place = self.out.as_deref_mut().and_then(|out| out.first_chunk_mut());
        *place.ok_or(Reason::ImageSize)? = info;
        Ok(self.len)
    }

    fn tot(&self) -> Result<u16, Reason> {
        u16::try_from(self.len).map_err(|_| Reason::ImageSize)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let end = self.len.checked_add(bytes.len()).ok_or(Reason::ImageSize)?;
        if let Some(out) = self.out.as_deref_mut() {
            let place = out.get_mut(self.len..end).ok_or(Reason::ImageSize)?;
            place.copy_from_slice(bytes);
        }
        self.len = end;
        Ok(())
    }
}
