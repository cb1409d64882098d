//! What a release wants of a device, free of CBOR and SUIT numbers: the value that the manifest codec fills and the
//! engine carries out (profile section 21). Encoding a plan has exactly one result.

/// Parts of a component id at most (profile section 5).
pub const COMPONENT_ID_PARTS_MAX: usize = 4;
/// Bytes of one part of a component id at most.
pub const COMPONENT_ID_PART_BYTES_MAX: usize = 32;
/// Variants of one target at most (profile: TRY_BRANCHES_MAX).
pub const VARIANTS_MAX: usize = 4;
/// Integers of a version at most.
pub const VERSION_PARTS_MAX: usize = 5;

/// The name of a component: 1 to 4 byte strings; the empty id names the default sequence domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ComponentId<'a> {
    parts: [&'a [u8]; COMPONENT_ID_PARTS_MAX],
    len: u8,
}

impl<'a> ComponentId<'a> {
    /// The empty id (`[]`).
    pub const EMPTY: ComponentId<'static> = ComponentId {
        parts: [&[]; COMPONENT_ID_PARTS_MAX],
        len: 0,
    };

    /// An id of these parts; `None` when there are too many, or one is empty or too long.
    pub fn new(parts: &[&'a [u8]]) -> Option<Self> {
        let mut id = ComponentId {
            parts: [&[]; COMPONENT_ID_PARTS_MAX],
            len: parts.len() as u8,
        };
        if parts.len() > COMPONENT_ID_PARTS_MAX {
            return None;
        }
        for (slot, part) in id.parts.iter_mut().zip(parts) {
            if part.is_empty() || part.len() > COMPONENT_ID_PART_BYTES_MAX {
                return None;
            }
            *slot = part;
        }
        Some(id)
    }

    /// The parts, first to last.
    pub fn parts(&self) -> &[&'a [u8]] {
        self.parts.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The id with one more part, as bases are named; `None` when it would not fit.
    pub fn with_part(&self, part: &'a [u8]) -> Option<Self> {
        let mut longer = *self;
        *longer.parts.get_mut(usize::from(self.len))? = part;
        longer.len += 1;
        Some(longer)
    }
}

/// A digest and its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest<'a> {
    /// The algorithm.
    pub algorithm: DigestAlgorithm,
    /// The hash, of the length its algorithm has.
    pub hash: &'a [u8],
}

/// Digest algorithms of the profile (section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestAlgorithm {
    /// SHA-256, COSE -16, 32 bytes.
    Sha256,
    /// SHA-512, COSE -44, 64 bytes; by device policy.
    Sha512,
}

/// 16 bytes of a UUID (vendor, class, device, root).
pub type Uuid = [u8; 16];

/// A version of 1 to 5 non-negative integers; missing trailing parts compare as 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Version {
    parts: [u64; VERSION_PARTS_MAX],
    len: u8,
}

impl Version {
    /// A version of these parts; `None` unless there are 1 to 5.
    pub fn new(parts: &[u64]) -> Option<Self> {
        let mut version = Version {
            parts: [0; VERSION_PARTS_MAX],
            len: parts.len() as u8,
        };
        let room = version.parts.get_mut(..parts.len())?;
        room.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        (!parts.is_empty()).then_some(version)
    }

    /// The parts as written.
    pub fn parts(&self) -> &[u64] {
        self.parts.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Compares part by part, missing parts as 0 (profile section 11).
    pub fn compare(&self, other: &Version) -> core::cmp::Ordering {
        self.parts.cmp(&other.parts)
    }
}

/// What must hold between the installed version and [`VersionRule::version`] (SUIT parameter 28).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRule {
    /// The comparison: `installed comparison version`.
    pub comparison: Comparison,
    /// The right-hand side.
    pub version: Version,
}

/// SUIT version comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// 1: greater.
    Greater,
    /// 2: greater or equal.
    GreaterEqual,
    /// 3: equal.
    Equal,
    /// 4: lesser or equal.
    LesserEqual,
    /// 5: lesser.
    Lesser,
}

impl VersionRule {
    /// Whether the installed version satisfies the rule.
    pub fn admits(&self, installed: &Version) -> bool {
        let order = installed.compare(&self.version);
        match self.comparison {
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterEqual => order.is_ge(),
            Comparison::Equal => order.is_eq(),
            Comparison::LesserEqual => order.is_le(),
            Comparison::Lesser => order.is_lt(),
        }
    }
}

/// How the bytes of an installed component are to be understood (AmpArgs -257).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// 0: raw bytes.
    Raw,
    /// 1: an MCUboot image; its security counter is signed beside it.
    McubootImage,
    /// 2: a block device or partition image.
    BlockImage,
    /// 3: a POSIX tar archive.
    Tar,
    /// 4: a single file.
    File,
    /// 6: an AMP-SUIT-1 envelope, handed on unmodified.
    Nested,
}

/// Compression of a payload as transported (AmpArgs -263).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// 1: one zstd frame.
    Zstd,
    /// 2: a row of independent zstd frames, one per block.
    ZstdBlocks,
}

/// What a variant is, beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// How to understand the bytes.
    pub format: Format,
    /// The security counter; present exactly when the format is [`Format::McubootImage`].
    pub counter: Option<u32>,
    /// The oldest engine that can carry this out: major, minor, patch.
    pub min_engine: Option<[u32; 3]>,
}

/// Where bytes come from and what they look like on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source<'a> {
    /// `#name` of a payload in the envelope, or `https:`, `coaps:`, `amp:`.
    pub uri: &'a str,
    /// Which URI of the manifest this is, 0 first (payload-fetch, then install; each branch counts).
    pub ordinal: u8,
    /// Compression on the way, if any.
    pub compression: Option<Compression>,
    /// Chunk hashes of the transported bytes, if any.
    pub table: Option<ChunkTable<'a>>,
    /// Digest and size of the transported bytes where they differ from the image (encrypted or compressed).
    pub transport: Option<Transport<'a>>,
    /// Encryption on the way, if any.
    pub encryption: Option<Encryption<'a>>,
}

impl<'a> Source<'a> {
    /// The payload's name when it travels in the envelope (with its `#`).
    pub fn integrated(&self) -> Option<&'a str> {
        self.uri.starts_with('#').then_some(self.uri)
    }

    /// Bytes on the way, given the size of what comes out at the end.
    pub fn transport_size(&self, plain_size: u64) -> u64 {
        self.transport.map_or(plain_size, |transport| transport.size)
    }
}

/// The signed chunk table (profile section 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkTable<'a> {
    /// Bytes of a chunk, a power of two.
    pub chunk_size: u32,
    /// The hashes, or their digest.
    pub hashes: ChunkHashes<'a>,
}

/// Chunk hashes travel in the manifest when there are at most 16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkHashes<'a> {
    /// SHA-256 of each chunk, one after the other.
    Inline(&'a [u8]),
    /// SHA-256 over the hashes, which are the envelope's `#c<f>` member.
    Detached(&'a [u8; 32]),
}

/// Digest and size of a payload as transported (AmpArgs -259).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transport<'a> {
    /// Digest of the transported bytes.
    pub digest: Digest<'a>,
    /// Number of the transported bytes.
    pub size: u64,
}

/// Content encryption as signed (profile section 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encryption<'a> {
    /// The algorithm.
    pub algorithm: ContentCipher,
    /// Nonce (12 bytes) or counter block (16 bytes).
    pub nonce: &'a [u8],
    /// The commitment to key and algorithm.
    pub cek_id: &'a [u8; 16],
}

/// Content encryption algorithms of the profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentCipher {
    /// COSE 3.
    A256Gcm,
    /// COSE 24.
    ChaCha20Poly1305,
    /// COSE -65532, by device policy.
    A256Ctr,
}

/// One possible content of a target: the only one, or the one for a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant<'a> {
    /// The slot it is for (A/B form), or none.
    pub slot: Option<u8>,
    /// Digest of the installed bytes.
    pub digest: Digest<'a>,
    /// Number of the installed bytes.
    pub size: u64,
    /// What the bytes are.
    pub content: Content,
    /// Where they come from; absent when the step copies or patches.
    pub source: Option<Source<'a>>,
}

/// Bytes that are fetched into a stage before a step uses them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage<'a> {
    /// Which stage, counted from 0 (`['amp-stage', h'00']`).
    pub number: u8,
    /// Digest of the staged bytes.
    pub digest: Digest<'a>,
    /// Number of the staged bytes.
    pub size: u64,
    /// Where they come from.
    pub source: Source<'a>,
    /// Whether they are fetched ahead (payload-fetch) or during the installation.
    pub early: bool,
}

/// A base image that a delta needs: the first `size` bytes of the active image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base<'a> {
    /// Digest of the base bytes.
    pub digest: Digest<'a>,
    /// Number of the base bytes.
    pub size: u64,
}

/// How a target gets its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// Fetched in full, from the variant's source.
    Fetch,
    /// Copied from a stage that was fetched ahead.
    CopyFromStage(Stage<'a>),
    /// Made from the active image and a patch.
    ApplyDelta {
        /// Project patch format; 1 is the only one.
        algorithm: u32,
        /// What the patch starts from.
        base: Base<'a>,
        /// The patch.
        patch: Stage<'a>,
    },
}

/// One thing to install.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The component's name.
    pub id: ComponentId<'a>,
    /// Vendor id that the component must have.
    pub vendor: &'a Uuid,
    /// Class id that the component must have.
    pub class: &'a Uuid,
    /// Device id, when the release is for a single device.
    pub device: Option<&'a Uuid>,
    /// Rule for the installed version, if any.
    pub version_rule: Option<VersionRule>,
    /// One variant without slot, or 2 to 4 with ascending slots from 0.
    pub variants: Variants<'a>,
    /// How it gets there.
    pub step: Step<'a>,
}

impl Target<'_> {
    /// A placeholder to fill a caller's buffer with before decoding.
    pub const EMPTY: Target<'static> = Target {
        id: ComponentId::EMPTY,
        vendor: &[0; 16],
        class: &[0; 16],
        device: None,
        version_rule: None,
        variants: Variants::EMPTY,
        step: Step::Fetch,
    };
}

/// Up to [`VARIANTS_MAX`] variants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variants<'a> {
    items: [Variant<'a>; VARIANTS_MAX],
    len: u8,
}

impl<'a> Variants<'a> {
    const NONE: Variant<'static> = Variant {
        slot: None,
        digest: Digest {
            algorithm: DigestAlgorithm::Sha256,
            hash: &[0; 32],
        },
        size: 0,
        content: Content {
            format: Format::Raw,
            counter: None,
            min_engine: None,
        },
        source: None,
    };

    /// No variants.
    pub const EMPTY: Variants<'static> = Variants {
        items: [Self::NONE; VARIANTS_MAX],
        len: 0,
    };

    /// These variants; `None` when there are too many.
    pub fn new(variants: &[Variant<'a>]) -> Option<Self> {
        let mut list = Variants {
            items: [Self::NONE; VARIANTS_MAX],
            len: variants.len() as u8,
        };
        let room = list.items.get_mut(..variants.len())?;
        room.iter_mut().zip(variants).for_each(|(to, from)| *to = *from);
        Some(list)
    }

    /// Adds one more; `None` when there are too many.
    pub fn push(&mut self, variant: Variant<'a>) -> Option<()> {
        *self.items.get_mut(usize::from(self.len))? = variant;
        self.len += 1;
        Some(())
    }

    /// The variants in order.
    pub fn as_slice(&self) -> &[Variant<'a>] {
        self.items.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The same, to be filled further while decoding.
    pub fn as_mut_slice(&mut self) -> &mut [Variant<'a>] {
        self.items.get_mut(..usize::from(self.len)).unwrap_or(&mut [])
    }
}

/// A whole release, as a device carries it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan<'a> {
    /// The sequence domain (manifest key 5); empty for the default one.
    pub domain: ComponentId<'a>,
    /// The sequence number (manifest key 2).
    pub sequence: u64,
    /// The version to record for the domain after commit (manifest key 6).
    pub version: Option<Version>,
    /// Informative address (manifest key 4); never fetched.
    pub reference_uri: Option<&'a str>,
    /// Targets in installation order; all commit together or none.
    pub targets: &'a [Target<'a>],
    /// Digest of the severed text (manifest key 23).
    pub text_digest: Option<Digest<'a>>,
}
