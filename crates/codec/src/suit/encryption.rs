//! Content encryption as a manifest signs it, and the key packages that travel beside it (profile section 8).

use crate::cbor::{Keys, Reader, Writer};
use crate::limits::{self, Limits};
use crate::plan::{ContentCipher, Encryption};
use crate::{Reason, Refused};

/// Tag of COSE_Encrypt.
pub const TAG_ENCRYPT: u64 = 96;
/// COSE number of the recipient algorithm `direct`.
const ALG_DIRECT: i64 = -6;
/// COSE number of AES key wrap with a 256-bit key.
const ALG_A256KW: i64 = -5;
/// COSE number of ECDH-ES with HKDF-SHA256 and A256KW.
const ALG_ECDH_ES_A256KW: i64 = -31;
const HEADER_ALG: i64 = 1;
const HEADER_KID: i64 = 4;
const HEADER_IV: i64 = 5;
const HEADER_EPHEMERAL: i64 = -1;

/// The COSE number of a content cipher.
pub fn cipher_number(cipher: ContentCipher) -> i64 {
    match cipher {
        ContentCipher::A256Gcm => 3,
        ContentCipher::ChaCha20Poly1305 => 24,
        ContentCipher::A256Ctr => -65532,
    }
}

fn cipher_of(number: i64) -> Result<ContentCipher, Refused> {
    match number {
        3 => Ok(ContentCipher::A256Gcm),
        24 => Ok(ContentCipher::ChaCha20Poly1305),
        -65532 => Ok(ContentCipher::A256Ctr),
        _ => Err(Reason::EncAlg.into()),
    }
}

/// Decodes the content of parameter 19, which must fill `info`.
///
/// Refused: 702 for an algorithm that is not the profile's (whatever else is in it), 701 for any other difference.
pub fn decode_info(info: &[u8]) -> Result<Encryption<'_>, Refused> {
    const WRONG: Reason = Reason::EncInfo;
    let mut reader = Reader::demanding(info, WRONG);
    if reader.tag()? != TAG_ENCRYPT {
        return Err(WRONG.into());
    }
    reader.array_of(4)?;
    let protected = protected_algorithm(reader.bytes()?)?;
    let (unprotected, nonce) = unprotected_header(&mut reader)?;
    let algorithm = cipher_of(protected.or(unprotected).ok_or(WRONG)?)?;
    let (protected_here, nonce_bytes) = match algorithm {
        ContentCipher::A256Gcm | ContentCipher::ChaCha20Poly1305 => (true, 12),
        ContentCipher::A256Ctr => (false, 16),
    };
    let nonce = nonce.filter(|nonce| nonce.len() == nonce_bytes).ok_or(WRONG)?;
    if protected.is_some() != protected_here || unprotected.is_some() == protected_here {
        return Err(WRONG.into());
    }
    reader.null()?;
    reader.array_of(1)?;
    let cek_id = direct_recipient(&mut reader)?;
    reader.end()?;
    Ok(Encryption {
        algorithm,
        nonce,
        cek_id,
    })
}

/// The algorithm of a protected header, `{1: alg}`; none when the header is `h''`.
fn protected_algorithm(header: &[u8]) -> Result<Option<i64>, Refused> {
    if header.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::demanding(header, Reason::EncInfo);
    let mut keys = Keys::of(&mut reader)?;
    let mut algorithm = None;
    while let Some(key) = keys.next_int(&mut reader)? {
        if key != HEADER_ALG {
            return Err(Reason::EncInfo.into());
        }
        algorithm = Some(reader.int()?);
    }
    reader.end()?;
    if algorithm.is_none() {
        return Err(Reason::EncInfo.into());
    }
    Ok(algorithm)
}

/// Algorithm and nonce of an unprotected header, `{?1: alg, ?5: nonce}`.
fn unprotected_header<'a>(reader: &mut Reader<'a>) -> Result<(Option<i64>, Option<&'a [u8]>), Refused> {
    let mut keys = Keys::of(reader)?;
    let (mut algorithm, mut nonce) = (None, None);
    while let Some(key) = keys.next_int(reader)? {
        match key {
            HEADER_ALG => algorithm = Some(reader.int()?),
            HEADER_IV => nonce = Some(reader.bytes()?),
            _ => return Err(reader.wrong_here()),
        }
    }
    Ok((algorithm, nonce))
}

/// `[h'', {1: -6, 4: cek-id}, h'']`.
fn direct_recipient<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8; 16], Refused> {
    reader.array_of(3)?;
    reader.bytes_of::<0>()?;
    let cek_id = header_alg_kid(reader, ALG_DIRECT)?;
    reader.bytes_of::<0>()?;
    cek_id.try_into().map_err(|_| reader.wrong_here())
}

/// The key id of `{1: alg, 4: kid}`.
fn header_alg_kid<'a>(reader: &mut Reader<'a>, algorithm: i64) -> Result<&'a [u8], Refused> {
    let mut keys = Keys::of(reader)?;
    let wrong = reader.wrong_here();
    if keys.next_int(reader)? != Some(HEADER_ALG) || reader.int()? != algorithm {
        return Err(wrong);
    }
    if keys.next_int(reader)? != Some(HEADER_KID) {
        return Err(wrong);
    }
    let kid = reader.bytes()?;
    match keys.left() {
        0 => Ok(kid),
        _ => Err(wrong),
    }
}

/// Writes the content of parameter 19.
pub fn write_info(writer: &mut Writer<'_>, encryption: &Encryption<'_>) {
    let number = cipher_number(encryption.algorithm);
    writer.tag(TAG_ENCRYPT).array(4);
    match encryption.algorithm {
        ContentCipher::A256Gcm | ContentCipher::ChaCha20Poly1305 => {
            writer.embedded(|w| {
                w.map(1).int(HEADER_ALG).int(number);
            });
            writer.map(1);
        }
        ContentCipher::A256Ctr => {
            writer.bytes(&[]).map(2).int(HEADER_ALG).int(number);
        }
    }
    writer.int(HEADER_IV).bytes(encryption.nonce).null().array(1);
    writer.array(3).bytes(&[]).map(2).int(HEADER_ALG).int(ALG_DIRECT);
    writer.int(HEADER_KID).bytes(encryption.cek_id).bytes(&[]);
}

/// The value of `#k` (or of a file beside the envelope): key packages, ascending by the key they carry.
#[derive(Clone, Copy, Debug)]
pub struct KeyPackages<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> KeyPackages<'a> {
    /// Decodes packages that must fill `bytes`.
    ///
    /// Refused: 703 for another structure (a new file of packages may help), 105 for exceeded limits, 101 to 104.
    pub fn decode(bytes: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        limits::at_most(bytes.len() as u64, limits.keypkg_max.into(), "KEYPKG_MAX")?;
        let mut reader = Reader::demanding(bytes, Reason::EncNoKey);
        let count = reader.array()?;
        if count == 0 {
            return Err(Reason::EncNoKey.into());
        }
        limits::at_most(count as u64, limits.cek_max.into(), "CEK_MAX")?;
        let packages = KeyPackages { reader, count };
        let mut last: Option<&[u8; 16]> = None;
        for _ in 0..count {
            let package = KeyPackage::decode(reader.bytes()?, limits)?;
            if last.is_some_and(|last| last >= package.cek_id) {
                return Err(Reason::EncNoKey.into());
            }
            last = Some(package.cek_id);
        }
        reader.end()?;
        Ok(packages)
    }

    /// The packages in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyPackage<'a>> + use<'a> {
        let mut reader = self.reader;
        // Decoding judged every package within the device's limits.
        (0..self.count).map_while(move |_| KeyPackage::decode(reader.bytes().ok()?, &Limits::LINUX).ok())
    }

    /// The package that carries this content key.
    pub fn get(&self, cek_id: &[u8; 16]) -> Option<KeyPackage<'a>> {
        self.iter().find(|package| package.cek_id == cek_id)
    }
}

/// One content key, wrapped for its recipients: `96([h'', {4: cek-id}, null, [+ recipient]])`.
#[derive(Clone, Copy, Debug)]
pub struct KeyPackage<'a> {
    /// Which content key.
    pub cek_id: &'a [u8; 16],
    reader: Reader<'a>,
    count: usize,
}

impl<'a> KeyPackage<'a> {
    fn decode(bytes: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        const WRONG: Reason = Reason::EncNoKey;
        let mut reader = Reader::demanding(bytes, WRONG);
        if reader.tag()? != TAG_ENCRYPT {
            return Err(WRONG.into());
        }
        reader.array_of(4)?;
        reader.bytes_of::<0>()?;
        let mut keys = Keys::of(&mut reader)?;
        if keys.left() != 1 || keys.next_int(&mut reader)? != Some(HEADER_KID) {
            return Err(WRONG.into());
        }
        let cek_id = reader.bytes_of()?;
        reader.null()?;
        let count = reader.array()?;
        if count == 0 {
            return Err(WRONG.into());
        }
        limits::at_most(count as u64, limits.recipients_max.into(), "RECIPIENTS_MAX")?;
        let package = KeyPackage { cek_id, reader, count };
        for _ in 0..count {
            Recipient::decode(&mut reader)?;
        }
        reader.end()?;
        Ok(package)
    }

    /// The recipients in order.
    pub fn recipients(&self) -> impl Iterator<Item = Recipient<'a>> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| Recipient::decode(&mut reader).ok())
    }

    /// Writes a package (without the `bstr` around it).
    pub fn encode(writer: &mut Writer<'_>, cek_id: &[u8; 16], recipients: &[Recipient<'_>]) {
        writer
            .tag(TAG_ENCRYPT)
            .array(4)
            .bytes(&[])
            .map(1)
            .int(HEADER_KID)
            .bytes(cek_id);
        writer.null().array(recipients.len());
        for recipient in recipients {
            recipient.encode(writer);
        }
    }
}

/// Bytes of a wrapped content key: 32 and 8 of AES key wrap.
pub const WRAPPED_KEY_BYTES: usize = 40;

/// A content key wrapped for one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipient<'a> {
    /// With a key that both sides share: AES key wrap.
    Shared {
        /// Which shared key, 1 to 32 bytes.
        kek_id: &'a [u8],
        /// The wrapped key.
        wrapped: &'a [u8; WRAPPED_KEY_BYTES],
    },
    /// With a key agreed for this package: ECDH-ES and AES key wrap.
    Agreed {
        /// Thumbprint of the device's key.
        kid: &'a [u8; 32],
        /// The sender's public key for this package.
        ephemeral: Ephemeral<'a>,
        /// The wrapped key.
        wrapped: &'a [u8; WRAPPED_KEY_BYTES],
    },
}

/// A public key that exists for one package only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ephemeral<'a> {
    /// P-256 with both coordinates.
    P256 {
        /// Affine x, big-endian.
        x: &'a [u8; 32],
        /// Affine y, big-endian.
        y: &'a [u8; 32],
    },
    /// X25519.
    X25519 {
        /// The encoded point.
        x: &'a [u8; 32],
    },
}

impl<'a> Recipient<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        reader.array_of(3)?;
        if protected_algorithm_here(reader)? {
            let (kid, ephemeral) = header_kid_ephemeral(reader)?;
            let wrapped = reader.bytes_of()?;
            return Ok(Recipient::Agreed {
                kid,
                ephemeral,
                wrapped,
            });
        }
        let kek_id = header_alg_kid(reader, ALG_A256KW)?;
        if !(1..=32).contains(&kek_id.len()) {
            return Err(reader.wrong_here());
        }
        Ok(Recipient::Shared {
            kek_id,
            wrapped: reader.bytes_of()?,
        })
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.array(3);
        match self {
            Recipient::Shared { kek_id, wrapped } => {
                writer.bytes(&[]).map(2).int(HEADER_ALG).int(ALG_A256KW);
                writer.int(HEADER_KID).bytes(kek_id).bytes(*wrapped);
            }
            Recipient::Agreed {
                kid,
                ephemeral,
                wrapped,
            } => {
                writer.bytes(ECDH_PROTECTED).map(2).int(HEADER_KID).bytes(*kid);
                ephemeral.encode(writer.int(HEADER_EPHEMERAL));
                writer.bytes(*wrapped);
            }
        }
    }
}

/// `<<{1: -31}>>`.
const ECDH_PROTECTED: &[u8] = &[0xa1, 0x01, 0x38, 0x1e];

/// Reads a recipient's protected header; whether it says ECDH-ES (and not, by `h''`, a shared key).
fn protected_algorithm_here(reader: &mut Reader<'_>) -> Result<bool, Refused> {
    let header = reader.bytes()?;
    if header.is_empty() {
        return Ok(false);
    }
    debug_assert_eq!(ALG_ECDH_ES_A256KW, -31);
    if header != ECDH_PROTECTED {
        return Err(reader.wrong_here());
    }
    Ok(true)
}

/// `{4: kid, -1: ephemeral COSE_Key}`.
fn header_kid_ephemeral<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8; 32], Ephemeral<'a>), Refused> {
    let mut keys = Keys::of(reader)?;
    let wrong = reader.wrong_here();
    if keys.left() != 2 || keys.next_int(reader)? != Some(HEADER_KID) {
        return Err(wrong);
    }
    let kid = reader.bytes_of()?;
    if keys.next_int(reader)? != Some(HEADER_EPHEMERAL) {
        return Err(wrong);
    }
    Ok((kid, Ephemeral::decode(reader)?))
}

impl<'a> Ephemeral<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let wrong = reader.wrong_here();
        let mut keys = Keys::of(reader)?;
        let count = keys.left();
        let (mut kty, mut curve, mut x, mut y) = (None, None, None, None);
        while let Some(key) = keys.next_int(reader)? {
            match key {
                1 => kty = Some(reader.int()?),
                -1 => curve = Some(reader.int()?),
                -2 => x = Some(reader.bytes_of()?),
                -3 => y = Some(reader.bytes_of()?),
                _ => return Err(wrong),
            }
        }
        match (kty, curve, x, y) {
            (Some(2), Some(1), Some(x), Some(y)) if count == 4 => Ok(Ephemeral::P256 { x, y }),
            (Some(1), Some(4), Some(x), None) if count == 3 => Ok(Ephemeral::X25519 { x }),
            _ => Err(wrong),
        }
    }

    /// Writes the key as COSE_Key.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        match self {
            Ephemeral::P256 { x, y } => {
                writer.map(4).int(1).int(2).int(-1).int(1);
                writer.int(-2).bytes(*x).int(-3).bytes(*y);
            }
            Ephemeral::X25519 { x } => {
                writer.map(3).int(1).int(1).int(-1).int(4).int(-2).bytes(*x);
            }
        }
    }
}

/// Writes the value of `#k`: packages that are encoded already, ascending by the key they carry.
pub fn write_packages(writer: &mut Writer<'_>, packages: &[&[u8]]) {
    writer.array(packages.len());
    for package in packages {
        writer.bytes(package);
    }
}
