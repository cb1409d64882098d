//! From firmware to a signed image, byte for byte as imgtool makes it.

use std::collections::BTreeSet;

use codec::Reason;
use codec::mcuboot::header::flags;
use codec::mcuboot::tlv::{Protected, SIGNATURE_PAIRS_MAX, Signed, Unprotected, kind};
use codec::mcuboot::{HEADER_BYTES, ImageHeader, ImageVersion, TlvInfo, der, tlv, trailer};
use keys::{Code, Content, Error, Job, Object, Purpose, Result, Signature, SignatureAlgorithm, Signer};
use trust::Sha256;

use super::options::{Finish, ImageOptions, LoadAddress};
use super::verify;
use crate::hex;

/// Bytes of a TLV area at most, with its info header.
const AREA_BYTES_MAX: usize = 0xffff;

/// Signs an image: firmware in, the file's bytes out (padded, if the options say so).
///
/// Without signers the image carries its hash alone and no device of ours starts it. Errors: [`Code::ImageOption`],
/// [`Code::ImageHeaderSpace`], [`Code::ImageTooLarge`], [`Code::SameKeyTwice`], and those of the signers.
pub fn sign(firmware: &[u8], options: &ImageOptions, signers: &[&dyn Signer]) -> Result<Vec<u8>> {
    build(firmware, options, signers).map(|image| image.to_binary())
}

/// As [`sign`], and leaves open in which form the image is written.
pub fn build(firmware: &[u8], options: &ImageOptions, signers: &[&dyn Signer]) -> Result<Image> {
    prepare(firmware, options)?.sign(signers)
}

/// The part of [`build`] before anybody signs: what is to be signed can be shown, or carried to a vault.
///
/// Errors: [`Code::ImageOption`], [`Code::ImageHeaderSpace`], [`Code::ImageTooLarge`].
pub fn prepare(firmware: &[u8], options: &ImageOptions) -> Result<Unsigned> {
    options.check()?;
    let mut bytes = with_header_space(firmware, options)?;
    let protected = protected_area(options)?;
    put_header(&mut bytes, options, &protected)?;
    bytes.extend_from_slice(&protected);
    check_size(&bytes, options)?;
    Ok(Unsigned {
        digest: Sha256::of(&bytes),
        bytes,
        options: options.clone(),
    })
}

/// An image before its hash and signatures are added.
#[derive(Clone, Debug)]
pub struct Unsigned {
    bytes: Vec<u8>,
    digest: [u8; 32],
    options: ImageOptions,
}

impl Unsigned {
    /// The bytes that are hashed: header, firmware and protected TLVs. A vault's ECDSA key signs them (over their SHA-256).
    pub fn payload(&self) -> &[u8] {
        &self.bytes
    }

    /// Their SHA-256. A vault's Ed25519 key signs these 32 bytes as its message.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Adds the hash and the signatures. Errors: [`Code::SameKeyTwice`], [`Code::ImageTooLarge`], those of the signers.
    pub fn sign(self, signers: &[&dyn Signer]) -> Result<Image> {
        let Unsigned {
            mut bytes,
            digest,
            options,
        } = self;
        let purpose = purpose(&options.version, options.counter(), &digest);
        let area = unprotected_area(&purpose, &bytes, signers)?;
        bytes.extend_from_slice(&area);
        check_size(&bytes, &options)?;
        Ok(Image { bytes, digest, options })
    }
}

/// A signed image, ready to be written.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Vec<u8>,
    digest: [u8; 32],
    options: ImageOptions,
}

impl Image {
    /// The image itself, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the signed bytes: the image's name on devices and in manifests.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The file: the image, and where the options say so padding and trailer up to the slot's end.
    pub fn to_binary(&self) -> Vec<u8> {
        let mut file = self.bytes.clone();
        if self.options.finish != Finish::Bare {
            file.resize(self.options.slot_size as usize, self.options.erased_value);
            for (from_end, bytes) in self.trailer() {
                let start = file.len() - from_end;
                file[start..start + bytes.len()].copy_from_slice(&bytes);
            }
        }
        file
    }

    /// The file as Intel HEX, with the slot starting at `address`; the gap between image and trailer stays a gap.
    ///
    /// Error: [`Code::HexTooLarge`].
    pub fn to_hex(&self, address: u32) -> Result<String> {
        let slot_end = u64::from(address) + u64::from(self.options.slot_size);
        let place = |from_end: usize| u32::try_from(slot_end - from_end as u64);
        let beyond = |_| Code::HexTooLarge.error("the slot reaches beyond address 0xffffffff");
        let mut blocks = vec![(address, self.bytes.as_slice())];
        let trailer = self.trailer();
        if self.options.finish != Finish::Bare {
            for (from_end, bytes) in &trailer {
                blocks.push((place(*from_end).map_err(beyond)?, bytes));
            }
        }
        hex::write(&blocks)
    }

    /// What the trailer says, as distances from the slot's end and bytes, in ascending order of addresses.
    fn trailer(&self) -> Vec<(usize, Vec<u8>)> {
        let cell = self.options.alignment.max_align() as usize;
        let magic_unit = trailer::MAGIC_BYTES.max(cell);
        let mut fields = Vec::new();
        if matches!(self.options.finish, Finish::Test | Finish::Confirm) && !self.options.overwrite_only {
            let mut image_ok = vec![self.options.erased_value; cell];
            if self.options.finish == Finish::Confirm {
                image_ok[0] = trailer::FLAG_SET;
            }
            fields.push((magic_unit + cell, image_ok));
        }
        fields.push((trailer::MAGIC_BYTES, trailer::magic(cell as u32).to_vec()));
        fields
    }
}

/// Adds one signature to an image that carries its hash, signed or not; everything else stays as it is.
///
/// Errors: [`Code::ImageAlreadySigned`] by this key; [`Code::ImageOption`] the file is padded; a device's reason when the
/// image is malformed or does not match its hash.
pub fn add_signature(image: &[u8], signer: &dyn Signer) -> Result<Vec<u8>> {
    let parsed = verify::Parsed::of(image)?;
    if parsed.image_len != image.len() {
        let what = "the image is padded, which leaves no room for another signature";
        return Err(Code::ImageOption
            .error(what)
            .advise("Add all signatures first, then pad."));
    }
    let key_hash = signer.public_key().image_key_hash();
    if parsed.pairs.iter().any(|pair| pair.key_hash == key_hash) {
        return Err(Code::ImageAlreadySigned.error(format!("{} has signed this image already", signer.describe())));
    }
    if parsed.pairs.len() >= usize::from(SIGNATURE_PAIRS_MAX) {
        return Err(Code::ImageOption.error(format!("the image has {SIGNATURE_PAIRS_MAX} signatures already")));
    }
    let purpose = purpose(&parsed.header.version, parsed.counter, &parsed.digest);
    let hashed = image.get(..parsed.header.signed_len() as usize).unwrap_or_default();
    let (kind, value) = image_tlv(&sign_digest(signer, &purpose, hashed)?);
    let mut pair = Vec::new();
    for (kind, value) in [(kind::KEYHASH, &key_hash[..]), (kind, &value)] {
        pair.extend_from_slice(
            &tlv::TlvHead {
                kind,
                len: value.len() as u16,
            }
            .to_bytes(),
        );
        pair.extend_from_slice(value);
    }
    let start = parsed.header.signed_len() as usize;
    let area_len = u16::try_from(image.len() - start + pair.len());
    let tot =
        area_len.map_err(|_| Code::ImageTooLarge.error("the image's TLV area has no room for another signature"))?;
    let mut signed = [image, &pair].concat();
    let info = TlvInfo {
        magic: tlv::UNPROTECTED_MAGIC,
        tot,
    }
    .to_bytes();
    signed[start..start + tlv::INFO_BYTES].copy_from_slice(&info);
    Ok(signed)
}

fn with_header_space(firmware: &[u8], options: &ImageOptions) -> Result<Vec<u8>> {
    let header_size = usize::from(options.header_size);
    if options.pad_header {
        // imgtool pads with the erased value, so that a header need not be written in full.
        let space = vec![options.erased_value; header_size];
        return match firmware {
            [] => Err(Code::ImageHeaderSpace
                .error("the firmware is empty")
                .advise("Check the input file.")),
            _ => Ok([&space, firmware].concat()),
        };
    }
    match firmware.split_at_checked(header_size) {
        Some((space, [_, ..])) if space.iter().all(|byte| *byte == 0) => Ok(firmware.to_vec()),
        Some((_, [_, ..])) => {
            let what = format!("the firmware does not start with {header_size} zero bytes for the header");
            Err(Code::ImageHeaderSpace.error(what))
        }
        _ => {
            let what = format!(
                "the firmware is {} bytes long, no more than its header of {header_size}",
                firmware.len()
            );
            Err(Code::ImageHeaderSpace.error(what))
        }
    }
}

fn put_header(bytes: &mut [u8], options: &ImageOptions, protected: &[u8]) -> Result<()> {
    let too_large = |_| Code::ImageTooLarge.error("the firmware is larger than 4 GiB");
    let (load_addr, load_flag) = match options.load {
        LoadAddress::None | LoadAddress::Ram(0) | LoadAddress::RomFixed(0) => (0, 0),
        LoadAddress::Ram(address) => (address, flags::RAM_LOAD),
        LoadAddress::RomFixed(address) => (address, flags::ROM_FIXED),
    };
    let header = ImageHeader {
        load_addr,
        hdr_size: options.header_size,
        protect_tlv_size: protected.len() as u16,
        img_size: u32::try_from(bytes.len() - usize::from(options.header_size)).map_err(too_large)?,
        flags: load_flag | if options.non_bootable { flags::NON_BOOTABLE } else { 0 },
        version: options.version,
    };
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(())
}

fn protected_area(options: &ImageOptions) -> Result<Vec<u8>> {
    let custom: Vec<(u16, &[u8])> = options
        .custom
        .iter()
        .map(|(kind, value)| (*kind, value.as_slice()))
        .collect();
    check_custom(&custom)?;
    let protected = Protected {
        security_counter: options.counter(),
        boot_record: None,
        dependencies: &options.dependencies,
        vendor: options.vendor,
        class: options.class,
        custom: &custom,
    };
    let failed = |reason: Reason| Code::ImageOption.error(format!("the TLVs do not fit the format: {}", reason.what()));
    let mut area = vec![0; usize::from(protected.encoded_len().map_err(failed)?)];
    protected.encode(&mut area).map_err(failed)?;
    Ok(area)
}

fn check_custom(custom: &[(u16, &[u8])]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (kind, _) in custom {
        if !kind::is_vendor(*kind) || kind::name(*kind).is_some() {
            let what = format!(
                "custom TLV {kind:#06x} is not a vendor type: their last two digits are a0 to ff, without 0xffff and 0x01a0"
            );
            return Err(Code::ImageOption.error(what));
        }
        if !seen.insert(*kind) {
            return Err(Code::ImageOption.error(format!("custom TLV {kind:#06x} is given twice")));
        }
    }
    Ok(())
}

/// What a signature on this image is for.
fn purpose(version: &ImageVersion, counter: Option<u32>, digest: &[u8; 32]) -> Purpose {
    let counter = counter.map_or("none".into(), |counter| counter.to_string());
    Purpose {
        object: Object::Image,
        subject: format!("version {version}, security counter {counter}"),
        digest: *digest,
    }
}

/// `hashed` are the bytes whose hash is signed.
fn sign_digest(signer: &dyn Signer, purpose: &Purpose, hashed: &[u8]) -> Result<Signature> {
    let job = Job {
        content: Content::Digest(&purpose.digest),
        purpose,
    };
    signer.sign_shown(&job, hashed)
}

fn unprotected_area(purpose: &Purpose, hashed: &[u8], signers: &[&dyn Signer]) -> Result<Vec<u8>> {
    if let Some(twice) = first_repeated(signers) {
        return Err(Code::SameKeyTwice.error(format!("{} was given twice", twice.describe())));
    }
    if signers.len() > usize::from(SIGNATURE_PAIRS_MAX) {
        return Err(Code::ImageOption.error(format!("an image has at most {SIGNATURE_PAIRS_MAX} signatures")));
    }
    let made: Result<Vec<_>> = signers
        .iter()
        .map(|signer| sign_digest(*signer, purpose, hashed).map(|s| image_tlv(&s)))
        .collect();
    let made = made?;
    let signatures: Vec<Signed> = signers
        .iter()
        .zip(&made)
        .map(|(signer, (kind, signature))| Signed {
            key_hash: signer.public_key().image_key_hash(),
            kind: *kind,
            signature,
        })
        .collect();
    let mut area = vec![0; AREA_BYTES_MAX];
    let len = Unprotected {
        hash: purpose.digest,
        signatures: &signatures,
    }
    .encode(&mut area);
    area.truncate(len.map_err(|reason| Error::refused("the image", reason))?);
    Ok(area)
}

fn first_repeated<'a>(signers: &[&'a dyn Signer]) -> Option<&'a dyn Signer> {
    let mut seen = BTreeSet::new();
    signers
        .iter()
        .copied()
        .find(|signer| !seen.insert(signer.public_key().image_key_hash()))
}

/// The type of a signature's TLV and its value (ECDSA: DER).
fn image_tlv(signature: &Signature) -> (u16, Vec<u8>) {
    match (signature.algorithm(), signature.as_cose().try_into()) {
        (SignatureAlgorithm::Esp256, Ok(raw)) => (kind::ECDSA, der::from_raw(raw).as_bytes().to_vec()),
        (SignatureAlgorithm::HssLms, _) => (kind::LMS, signature.as_cose().to_vec()),
        _ => (kind::ED25519, signature.as_cose().to_vec()),
    }
}

fn check_size(image: &[u8], options: &ImageOptions) -> Result<()> {
    let (image, trailer, slot) = (
        image.len() as u64,
        u64::from(options.trailer_len()),
        u64::from(options.slot_size),
    );
    if image + trailer <= slot {
        return Ok(());
    }
    let what = format!("the image ({image:#x} bytes) and its trailer ({trailer:#x}) do not fit the slot ({slot:#x})");
    Err(Code::ImageTooLarge.error(what))
}
