//! COSE_Sign1 blocks and COSE_Key as the profile uses them (profile sections 4 and 12; RFC 9052).
//!
//! Nothing here verifies: a block is taken apart, the bytes it signs are put together as borrowed pieces, and the
//! bytes whose SHA-256 is a key's thumbprint are written out. Hashing and judging is `trust`'s work.

use crate::cbor::{EncodedHead, Keys, Kind, Reader, Writer};
use crate::limits;
use crate::{Reason, Refused};

/// Tag of COSE_Sign1.
pub const TAG_SIGN1: u64 = 18;
/// Algorithm number of Ed25519 (RFC 9864).
pub const ALG_ED25519: i64 = -19;
/// Algorithm number of ECDSA P-256 with SHA-256, "ESP256" (RFC 9864).
pub const ALG_ESP256: i64 = -9;
/// Algorithm number of HSS-LMS (RFC 8778).
pub const ALG_HSS_LMS: i64 = -46;
/// Algorithm number of ML-DSA-44 (RFC 9964).
pub const ALG_ML_DSA_44: i64 = -48;
/// Algorithm number of ML-DSA-65 (RFC 9964).
pub const ALG_ML_DSA_65: i64 = -49;
/// Algorithm number of ML-DSA-87 (RFC 9964).
pub const ALG_ML_DSA_87: i64 = -50;

/// Bytes of a key id: a SHA-256 thumbprint.
pub const KEY_ID_BYTES: usize = 32;
/// The id of a key: SHA-256 of its [`PublicKey::write_thumbprint_input`].
pub type KeyId = [u8; KEY_ID_BYTES];

const HEADER_ALG: i64 = 1;
const HEADER_KID: i64 = 4;
const HEADER_X5CHAIN: i64 = 33;

/// One signature block: COSE_Sign1 with detached payload, `18([<<{1: alg, 4: kid, ?33: x5chain}>>, {}, null, sig])`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sign1<'a> {
    /// The protected header as received; part of what is signed.
    pub protected: &'a [u8],
    /// The algorithm that the block names. The key decides, never this number.
    pub algorithm: i64,
    /// Thumbprint of the key that signed.
    pub kid: &'a KeyId,
    /// The certificates under an authority of the root, when the signer has one.
    pub chain: Option<Chain<'a>>,
    /// The signature, of whatever length.
    pub signature: &'a [u8],
}

/// A certificate chain below an authority of the trust root (profile section 14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain<'a> {
    /// DER certificate of the signing key.
    pub leaf: &'a [u8],
    /// DER certificate between the leaf and the authority.
    pub intermediate: Option<&'a [u8]>,
}

impl<'a> Sign1<'a> {
    /// Decodes one block that must fill `block`; `cert_max` bounds the bytes of a certificate.
    ///
    /// Refused: 213 without tag 18 or with a payload; 214 for headers other than the profile's; 105 `CERT_MAX`;
    /// 101, 102, 103, 104 for CBOR that is malformed, not deterministic or followed by more.
    pub fn decode(block: &'a [u8], cert_max: u32) -> Result<Self, Refused> {
        let mut reader = Reader::demanding(block, Reason::AuthBlockType);
        if reader.tag()? != TAG_SIGN1 {
            return Err(Reason::AuthBlockType.into());
        }
        reader.demand(Reason::CborMalformed);
        reader.array_of(4)?;
        reader.demand(Reason::AuthBlockHeader);
        let protected = reader.bytes()?;
        let header = Header::decode(protected, cert_max)?;
        if reader.map()? != 0 {
            return Err(Reason::AuthBlockHeader.into());
        }
        reader.demand(Reason::AuthBlockType);
        reader.null()?;
        reader.demand(Reason::CborMalformed);
        let signature = reader.bytes()?;
        reader.end()?;
        Ok(Sign1 {
            protected,
            algorithm: header.algorithm,
            kid: header.kid,
            chain: header.chain,
            signature,
        })
    }

    /// Writes the block (without the `bstr` around it).
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.tag(TAG_SIGN1).array(4).bytes(self.protected);
        writer.map(0).null().bytes(self.signature);
    }
}

/// Writes a protected header, the content of a block's first element.
pub fn write_protected(writer: &mut Writer<'_>, algorithm: i64, kid: &KeyId, chain: Option<Chain<'_>>) {
    writer.map(2 + usize::from(chain.is_some()));
    writer.int(HEADER_ALG).int(algorithm).int(HEADER_KID).bytes(kid);
    let Some(chain) = chain else { return };
    writer.int(HEADER_X5CHAIN);
    match chain.intermediate {
        None => writer.bytes(chain.leaf),
        Some(intermediate) => writer.array(2).bytes(chain.leaf).bytes(intermediate),
    };
}

struct Header<'a> {
    algorithm: i64,
    kid: &'a KeyId,
    chain: Option<Chain<'a>>,
}

impl<'a> Header<'a> {
    fn decode(protected: &'a [u8], cert_max: u32) -> Result<Self, Refused> {
        const WRONG: Reason = Reason::AuthBlockHeader;
        if protected.is_empty() {
            return Err(WRONG.into());
        }
        let mut reader = Reader::demanding(protected, WRONG);
        let mut keys = Keys::of(&mut reader)?;
        let (mut algorithm, mut kid, mut chain) = (None, None, None);
        while let Some(key) = keys.next_int(&mut reader)? {
            match key {
                HEADER_ALG => algorithm = Some(reader.int()?),
                HEADER_KID => kid = Some(reader.bytes_of()?),
                HEADER_X5CHAIN => chain = Some(Chain::decode(&mut reader, cert_max)?),
                _ => return Err(WRONG.into()),
            }
        }
        reader.end()?;
        Ok(Header {
            algorithm: algorithm.ok_or(WRONG)?,
            kid: kid.ok_or(WRONG)?,
            chain,
        })
    }
}

impl<'a> Chain<'a> {
    fn decode(reader: &mut Reader<'a>, cert_max: u32) -> Result<Self, Refused> {
        if reader.peek()? == Kind::Bytes {
            let leaf = certificate(reader, cert_max)?;
            return Ok(Chain {
                leaf,
                intermediate: None,
            });
        }
        reader.array_of(2)?;
        Ok(Chain {
            leaf: certificate(reader, cert_max)?,
            intermediate: Some(certificate(reader, cert_max)?),
        })
    }
}

fn certificate<'a>(reader: &mut Reader<'a>, cert_max: u32) -> Result<&'a [u8], Refused> {
    let der = reader.bytes()?;
    limits::at_most(der.len() as u64, cert_max.into(), "CERT_MAX")?;
    Ok(der)
}

/// The blocks of one file, in order: `n` byte strings, each a block, key ids strictly ascending.
///
/// Iterating checks each block and the order; after an error the iterator ends.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    reader: Reader<'a>,
    left: usize,
    last: Option<&'a KeyId>,
    cert_max: Option<u32>,
}

impl<'a> Blocks<'a> {
    /// The next `count` items of `reader`, with certificates of `cert_max` bytes at most, or none allowed at all.
    pub(crate) fn new(mut reader: Reader<'a>, count: usize, cert_max: Option<u32>) -> Self {
        reader.demand(Reason::CborMalformed);
        Blocks {
            reader,
            left: count,
            last: None,
            cert_max,
        }
    }

    /// How many blocks are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Checks every block and that nothing follows the last.
    pub(crate) fn check(mut self) -> Result<(), Refused> {
        for block in self.by_ref() {
            block?;
        }
        self.reader.end()
    }

    fn decode_next(&mut self) -> Result<Sign1<'a>, Refused> {
        let block = Sign1::decode(self.reader.bytes()?, self.cert_max.unwrap_or(u32::MAX))?;
        if block.chain.is_some() && self.cert_max.is_none() {
            return Err(Reason::AuthBlockHeader.into());
        }
        if self.last.is_some_and(|last| last >= block.kid) {
            return Err(Reason::AuthBlockOrder.into());
        }
        self.last = Some(block.kid);
        Ok(block)
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Sign1<'a>, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let block = self.decode_next();
        if block.is_err() {
            self.left = 0;
        }
        Some(block)
    }
}

/// The bytes a block signs, `["Signature1", protected, external_aad, payload]`, as borrowed pieces (RFC 9052 section
/// 4.4): hash or verify [`parts`](Self::parts) one after the other, nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct SigStructure<'a> {
    protected: (EncodedHead, &'a [u8]),
    external_aad: (EncodedHead, &'a [u8]),
    payload: (EncodedHead, &'a [u8]),
}

/// Array of 4 and the text "Signature1".
const SIGNATURE1: &[u8] = b"\x84\x6aSignature1";

impl<'a> SigStructure<'a> {
    /// What a block with this protected header signs: `external_aad` is empty for deliveries and names the kind of file
    /// for trust roots and lists; `payload` is the content that the block leaves out.
    pub fn new(protected: &'a [u8], external_aad: &'a [u8], payload: &'a [u8]) -> Self {
        let headed = |bytes: &'a [u8]| (EncodedHead::new(Kind::Bytes, bytes.len() as u64), bytes);
        SigStructure {
            protected: headed(protected),
            external_aad: headed(external_aad),
            payload: headed(payload),
        }
    }

    /// The pieces; signed is their concatenation.
    pub fn parts(&self) -> [&[u8]; 7] {
        [
            SIGNATURE1,
            self.protected.0.as_slice(),
            self.protected.1,
            self.external_aad.0.as_slice(),
            self.external_aad.1,
            self.payload.0.as_slice(),
            self.payload.1,
        ]
    }

    /// Bytes of all pieces together.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Never: a structure has at least its name.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A public key as a trust root lists it: COSE_Key with exactly the members of profile section 19.
///
/// ML-DSA and HSS-LMS keys decode on every device, so that a root may list keys which some devices cannot use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublicKey<'a> {
    /// `{1: 1, 3: -19, -1: 6, -2: x}`.
    Ed25519 {
        /// The encoded point, 32 bytes. Not checked here.
        x: &'a [u8; 32],
    },
    /// `{1: 2, 3: -9, -1: 1, -2: x, -3: y}`.
    P256 {
        /// Affine x, big-endian. Whether the point is on the curve is not checked here.
        x: &'a [u8; 32],
        /// Affine y, big-endian.
        y: &'a [u8; 32],
    },
    /// `{1: 7, 3: -48 / -49 / -50, -1: pub}`.
    MlDsa {
        /// Which parameter set: -48, -49 or -50.
        algorithm: i64,
        /// The encoded public key.
        public: &'a [u8],
    },
    /// `{1: 5, 3: -46, -1: pub}`.
    HssLms {
        /// The encoded public key.
        public: &'a [u8],
    },
}

const KTY_OKP: i64 = 1;
const KTY_EC2: i64 = 2;
const KTY_HSS_LMS: i64 = 5;
const KTY_AKP: i64 = 7;
const CRV_P256: i64 = 1;
const CRV_ED25519: i64 = 6;

impl<'a> PublicKey<'a> {
    /// Decodes a key that must fill `bytes`; anything but the four forms is refused with `wrong`.
    pub fn decode(bytes: &'a [u8], wrong: Reason) -> Result<Self, Refused> {
        let mut reader = Reader::demanding(bytes, wrong);
        let members = Members::decode(&mut reader)?;
        reader.end()?;
        members.into_key().ok_or(wrong.into())
    }

    /// Writes the key in the form that [`decode`](Self::decode) takes.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        self.write(writer, true);
    }

    /// Writes the bytes whose SHA-256 is the key's id (profile section 12; RFC 9679): the key without its algorithm,
    /// except for ML-DSA, where the algorithm names the parameter set.
    pub fn write_thumbprint_input(&self, writer: &mut Writer<'_>) {
        self.write(writer, matches!(self, PublicKey::MlDsa { .. }));
    }

    /// The COSE algorithm that this key, and no other, is used with.
    pub fn algorithm(&self) -> i64 {
        match self {
            PublicKey::Ed25519 { .. } => ALG_ED25519,
            PublicKey::P256 { .. } => ALG_ESP256,
            PublicKey::MlDsa { algorithm, .. } => *algorithm,
            PublicKey::HssLms { .. } => ALG_HSS_LMS,
        }
    }

    fn write(&self, writer: &mut Writer<'_>, with_algorithm: bool) {
        let (kty, others) = match self {
            PublicKey::Ed25519 { .. } => (KTY_OKP, 3),
            PublicKey::P256 { .. } => (KTY_EC2, 4),
            PublicKey::MlDsa { .. } => (KTY_AKP, 2),
            PublicKey::HssLms { .. } => (KTY_HSS_LMS, 2),
        };
        writer.map(others + usize::from(with_algorithm)).int(1).int(kty);
        if with_algorithm {
            writer.int(3).int(self.algorithm());
        }
        match self {
            PublicKey::Ed25519 { x } => writer.int(-1).int(CRV_ED25519).int(-2).bytes(*x),
            PublicKey::P256 { x, y } => writer.int(-1).int(CRV_P256).int(-2).bytes(*x).int(-3).bytes(*y),
            PublicKey::MlDsa { public, .. } | PublicKey::HssLms { public } => writer.int(-1).bytes(public),
        };
    }
}

/// The members of a COSE_Key before it is clear which kind it is.
#[derive(Default)]
struct Members<'a> {
    kty: Option<i64>,
    algorithm: Option<i64>,
    curve: Option<i64>,
    public: Option<&'a [u8]>,
    x: Option<&'a [u8]>,
    y: Option<&'a [u8]>,
}

impl<'a> Members<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let mut members = Members::default();
        let mut keys = Keys::of(reader)?;
        while let Some(key) = keys.next_int(reader)? {
            match key {
                1 => members.kty = Some(reader.int()?),
                3 => members.algorithm = Some(reader.int()?),
                -1 if reader.peek()? == Kind::Bytes => members.public = Some(reader.bytes()?),
                -1 => members.curve = Some(reader.int()?),
                -2 => members.x = Some(reader.bytes()?),
                -3 => members.y = Some(reader.bytes()?),
                _ => return Err(reader.wrong_here()),
            }
        }
        Ok(members)
    }

    /// The key, when the members are exactly those of one of the forms.
    fn into_key(self) -> Option<PublicKey<'a>> {
        let Members {
            kty,
            algorithm,
            curve,
            public,
            x,
            y,
        } = self;
        match (kty?, algorithm?, curve, public, x, y) {
            (KTY_OKP, ALG_ED25519, Some(CRV_ED25519), None, Some(x), None) => {
                Some(PublicKey::Ed25519 { x: x.try_into().ok()? })
            }
            (KTY_EC2, ALG_ESP256, Some(CRV_P256), None, Some(x), Some(y)) => Some(PublicKey::P256 {
                x: x.try_into().ok()?,
                y: y.try_into().ok()?,
            }),
            (KTY_AKP, ALG_ML_DSA_87..=ALG_ML_DSA_44, None, Some(public), None, None) => Some(PublicKey::MlDsa {
                algorithm: algorithm?,
                public,
            }),
            (KTY_HSS_LMS, ALG_HSS_LMS, None, Some(public), None, None) => Some(PublicKey::HssLms { public }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;
    use crate::limits::Limits;

    const KID: KeyId = [7; 32];

    fn with_block<T>(write: impl Fn(&mut Writer<'_>), judge: impl FnOnce(Result<Sign1<'_>, Refused>) -> T) -> T {
        let mut room = [0; 4096];
        judge(Sign1::decode(
            cbor::encode(&mut room, write).unwrap(),
            Limits::MCU.cert_max,
        ))
    }

    fn number_of(write: impl Fn(&mut Writer<'_>)) -> u16 {
        with_block(write, |block| {
            block.map_or_else(|refused| refused.reason.number(), |_| 0)
        })
    }

    fn block(writer: &mut Writer<'_>, header: impl Fn(&mut Writer<'_>)) {
        writer.tag(18).array(4).embedded(header);
        writer.map(0).null().bytes(&[1; 64]);
    }

    #[test]
    fn a_block_survives_the_round_trip() {
        for chain in [
            None,
            Some(Chain {
                leaf: &[1],
                intermediate: None,
            }),
            Some(Chain {
                leaf: &[1],
                intermediate: Some(&[2, 3]),
            }),
        ] {
            let mut protected = [0; 128];
            let protected = cbor::encode(&mut protected, |w| write_protected(w, ALG_ESP256, &KID, chain)).unwrap();
            let sent = Sign1 {
                protected,
                algorithm: ALG_ESP256,
                kid: &KID,
                chain,
                signature: &[9; 64],
            };
            with_block(|w| sent.encode(w), |received| assert_eq!(received, Ok(sent)));
        }
    }

    #[test]
    fn every_other_header_is_refused() {
        assert_eq!(number_of(|w| block(w, |w| write_protected(w, -8, &KID, None))), 0);
        assert_eq!(number_of(|w| block(w, |_| ())), 214, "empty");
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(0);
            })),
            214,
            "no members"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(1).int(1).int(-7);
            })),
            214,
            "no kid"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(1).int(4).bytes(&KID);
            })),
            214,
            "no alg"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(2).int(1).text("x").int(4).bytes(&KID);
            })),
            214,
            "text alg"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(2).int(1).int(-9).int(4).bytes(&[1; 31]);
            })),
            214,
            "short kid"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(2).int(4).bytes(&KID).int(1).int(-9);
            })),
            102,
            "order"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(2).int(1).int(-9).int(1).int(-9);
            })),
            103,
            "twice"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                w.map(3).int(1).int(-9).int(2).array(0).int(4).bytes(&KID);
            })),
            214,
            "crit"
        );
        assert_eq!(
            number_of(|w| block(w, |w| {
                write_protected(w, -9, &KID, None);
                w.uint(0);
            })),
            104,
            "trailing"
        );
        let long = [0; 1025];
        let chain = Some(Chain {
            leaf: &long,
            intermediate: None,
        });
        assert_eq!(number_of(|w| block(w, |w| write_protected(w, -9, &KID, chain))), 105);
        let chain = Some(Chain {
            leaf: &long[1..],
            intermediate: None,
        });
        assert_eq!(number_of(|w| block(w, |w| write_protected(w, -9, &KID, chain))), 0);
    }

    #[test]
    fn every_other_type_is_refused() {
        let header = |w: &mut Writer<'_>| write_protected(w, -9, &KID, None);
        assert_eq!(
            number_of(|w| {
                w.tag(17).array(4).embedded(header).map(0).null().bytes(&[]);
            }),
            213
        );
        assert_eq!(
            number_of(|w| {
                w.array(4).embedded(header).map(0).null().bytes(&[]);
            }),
            213,
            "no tag"
        );
        assert_eq!(
            number_of(|w| {
                w.tag(18).array(4).embedded(header).map(0).bytes(&[]).bytes(&[]);
            }),
            213
        );
        assert_eq!(
            number_of(|w| {
                w.tag(18).array(3).embedded(header).map(0).null();
            }),
            101
        );
        assert_eq!(
            number_of(|w| {
                w.tag(18).array(4).embedded(header).map(0).null().uint(1);
            }),
            101
        );
        assert_eq!(
            number_of(|w| {
                w.tag(18)
                    .array(4)
                    .embedded(header)
                    .map(1)
                    .int(1)
                    .int(1)
                    .null()
                    .bytes(&[]);
            }),
            214
        );
        assert_eq!(
            number_of(|w| {
                w.tag(18).array(4).map(0).map(0).null().bytes(&[]);
            }),
            214
        );
    }

    #[test]
    fn keys_survive_the_round_trip_and_other_forms_are_refused() {
        let keys = [
            PublicKey::Ed25519 { x: &[1; 32] },
            PublicKey::P256 {
                x: &[2; 32],
                y: &[3; 32],
            },
            PublicKey::MlDsa {
                algorithm: ALG_ML_DSA_65,
                public: &[4; 1952],
            },
            PublicKey::HssLms { public: &[5; 60] },
        ];
        for key in keys {
            let mut room = [0; 2048];
            let bytes = cbor::encode(&mut room, |w| key.encode(w)).unwrap();
            assert_eq!(PublicKey::decode(bytes, Reason::RootInvalid), Ok(key));
        }
        let number = |write: fn(&mut Writer<'_>)| {
            let mut room = [0; 256];
            let bytes = cbor::encode(&mut room, write).unwrap();
            PublicKey::decode(bytes, Reason::RootInvalid).map_or_else(|refused| refused.reason.number(), |_| 0)
        };
        assert_eq!(
            number(|w| {
                w.map(3).int(1).int(1).int(-1).int(6).int(-2).bytes(&[1; 32]);
            }),
            801,
            "no alg"
        );
        assert_eq!(
            number(|w| {
                w.map(4)
                    .int(1)
                    .int(1)
                    .int(3)
                    .int(-8)
                    .int(-1)
                    .int(6)
                    .int(-2)
                    .bytes(&[1; 32]);
            }),
            801
        );
        assert_eq!(
            number(|w| {
                w.map(4)
                    .int(1)
                    .int(1)
                    .int(3)
                    .int(-19)
                    .int(-1)
                    .int(6)
                    .int(-2)
                    .bytes(&[1; 31]);
            }),
            801
        );
        assert_eq!(
            number(|w| {
                w.map(2).int(1).int(4).int(-1).bytes(&[1; 32]);
            }),
            801,
            "symmetric"
        );
        assert_eq!(
            number(|w| {
                w.map(5)
                    .int(1)
                    .int(2)
                    .int(3)
                    .int(-9)
                    .int(-1)
                    .int(1)
                    .int(-2)
                    .bytes(&[1; 32])
                    .int(-3)
                    .truth();
            }),
            801,
            "compressed y"
        );
    }
}
