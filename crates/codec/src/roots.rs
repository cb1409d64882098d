//! Trust root, revocation and time files (profile sections 13, 15 and 19).
//!
//! A file is decoded in one pass over borrowed bytes; what it says is then read through iterators. Decoding checks
//! everything that the bytes alone decide. What needs a hash or a signature (key ids recomputed, thresholds reached)
//! and what needs the present root (version, regression) is decided by `trust`.

use crate::cbor::{self, Extent, Keys, Reader, Writer};
use crate::cose::{Blocks, KeyId, PublicKey, Sign1};
use crate::limits::{self, Limits, ROOT_BLOCKS_MAX, TIME_BLOCKS_MAX};
use crate::plan::Uuid;
use crate::{Reason, Refused};

/// The text that a trust root names its own form by.
const SPEC: &str = "amp-root-1";

/// What a signed file of this family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A trust root, `*.ampr`.
    Root,
    /// A revocation list.
    Revoke,
    /// A time floor.
    Time,
}

impl FileKind {
    /// The kind of file that starts with these bytes (12 are enough); `None` when it is none of them.
    pub fn of(prefix: &[u8]) -> Option<FileKind> {
        [FileKind::Root, FileKind::Revoke, FileKind::Time]
            .into_iter()
            .find(|kind| {
                let name = kind.name().as_bytes();
                matches!(prefix.split_at_checked(2), Some(([0x83, head], rest))
                    if usize::from(*head) == 0x60 + name.len() && rest.starts_with(name))
            })
    }

    /// The text in the file's first element.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Root => "amp-root",
            FileKind::Revoke => "amp-revoke",
            FileKind::Time => "amp-time",
        }
    }

    /// The `external_aad` that its signatures cover, so that no file passes for another kind.
    pub fn external_aad(self) -> &'static [u8] {
        match self {
            FileKind::Root => b"AMP-ROOT-1",
            FileKind::Revoke => b"AMP-REVOKE-1",
            FileKind::Time => b"AMP-TIME-1",
        }
    }

    /// The reason for which a file of this kind with the wrong structure is refused.
    fn invalid(self) -> Reason {
        match self {
            FileKind::Root => Reason::RootInvalid,
            FileKind::Revoke => Reason::RevokeInvalid,
            FileKind::Time => Reason::TimeInvalid,
        }
    }

    /// Refuses (105) a file of this kind that is longer than a device takes.
    fn fits(self, len: u64, limits: &Limits) -> Result<(), Refused> {
        match self {
            FileKind::Root => limits::at_most(len, limits.root_max.into(), "ROOT_MAX"),
            FileKind::Revoke | FileKind::Time => limits::at_most(len, limits.list_max.into(), "LIST_MAX"),
        }
    }

    fn blocks_max(self) -> usize {
        match self {
            FileKind::Root | FileKind::Revoke => ROOT_BLOCKS_MAX,
            FileKind::Time => TIME_BLOCKS_MAX,
        }
    }
}

/// The first byte of a file of this family, which no envelope and no image starts with: an array of three.
pub const FILE_FIRST_BYTE: u8 = 0x83;
/// Bytes that tell the kind of a file.
const KIND_BYTES: usize = 12;

/// How long the file at the start of `prefix` is and of which kind, as far as it has arrived. Refused: 1013 when it is
/// none of this family, 105 as soon as it is to be longer than the device takes, 101 and 102 for what is no CBOR.
pub fn file_len(prefix: &[u8], limits: &Limits) -> Result<(Option<FileKind>, Extent), Refused> {
    let extent = cbor::extent(prefix)?;
    let (Extent::Needs(len) | Extent::Complete(len)) = extent;
    let Some(kind) = FileKind::of(prefix) else {
        // Asked for only as far as the kind can be told; nothing is as short.
        return match prefix.len() < KIND_BYTES && matches!(extent, Extent::Needs(_)) {
            true => Ok((None, Extent::Needs(len.min(KIND_BYTES)))),
            false => Err(Reason::NotARelease.into()),
        };
    };
    kind.fits(len as u64, limits)?;
    Ok((Some(kind), extent))
}

/// `[name, bstr .cbor content, [+ bstr .cbor block]]`: the frame that all three kinds share.
#[derive(Clone, Copy, Debug)]
struct Frame<'a> {
    content: &'a [u8],
    blocks: Blocks<'a>,
}

impl<'a> Frame<'a> {
    fn decode(file: &'a [u8], kind: FileKind, limits: &Limits) -> Result<Self, Refused> {
        kind.fits(file.len() as u64, limits)?;
        let mut reader = Reader::demanding(file, kind.invalid());
        reader.array_of(3)?;
        if reader.text()? != kind.name() {
            return Err(kind.invalid().into());
        }
        let content = reader.bytes()?;
        let count = reader.array()?;
        if count == 0 {
            return Err(kind.invalid().into());
        }
        limits::at_most(count as u64, kind.blocks_max() as u64, "AUTH_BLOCKS_MAX")?;
        let blocks = Blocks::new(reader, count, None);
        blocks.check()?;
        Ok(Frame { content, blocks })
    }
}

/// Writes a whole file: its kind, the encoded content, and the blocks in ascending order of their key ids.
pub fn write_file(writer: &mut Writer<'_>, kind: FileKind, content: &[u8], blocks: &[Sign1<'_>]) {
    writer.array(3).text(kind.name()).bytes(content).array(blocks.len());
    for block in blocks {
        writer.embedded(|w| block.encode(w));
    }
}

/// What a key is trusted for. The discriminant is the number in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// 1: signs trust roots.
    Root = 1,
    /// 2: signs releases; offline.
    Release = 2,
    /// 3: approves deliveries online, and time files.
    Distribute = 3,
    /// 4: signs revocation lists.
    Revoke = 4,
    /// 5: signs releases with a second algorithm.
    ReleaseSecond = 5,
    /// 6: signs what the bootloader accepts.
    Image = 6,
    /// 7: signs what the bootloader accepts, with a second algorithm.
    ImageSecond = 7,
}

impl Role {
    /// Every role, ascending.
    pub const ALL: [Role; 7] = [
        Role::Root,
        Role::Release,
        Role::Distribute,
        Role::Revoke,
        Role::ReleaseSecond,
        Role::Image,
        Role::ImageSecond,
    ];

    /// The role with this number.
    pub fn from_number(number: u64) -> Option<Role> {
        Role::ALL.into_iter().find(|role| u64::from(role.number()) == number)
    }

    /// Its number in files.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether its keys must stand in the root themselves, without certificates.
    fn demands_raw_keys(self) -> bool {
        matches!(self, Role::Root | Role::Image | Role::ImageSecond)
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoleSet(u8);

impl RoleSet {
    /// The set of these roles.
    pub fn of(roles: &[Role]) -> RoleSet {
        RoleSet(roles.iter().fold(0, |set, role| set | 1 << role.number()))
    }

    /// Whether the role is in it.
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role.number()) != 0
    }

    /// The roles, ascending.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }

    fn is_within(self, other: RoleSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// Reads a non-empty ascending array of role numbers, all of them in `allowed`.
    fn decode(reader: &mut Reader<'_>, allowed: RoleSet) -> Result<RoleSet, Refused> {
        let mut set = RoleSet::default();
        let mut last = 0;
        let count = reader.array()?;
        for _ in 0..count {
            let number = reader.uint()?;
            let role = Role::from_number(number).filter(|role| allowed.contains(*role));
            let role = role.ok_or(reader.wrong_here())?;
            if number <= last {
                return Err(reader.wrong_here());
            }
            last = number;
            set = RoleSet(set.0 | 1 << role.number());
        }
        if count == 0 {
            return Err(reader.wrong_here());
        }
        Ok(set)
    }

    fn encode(self, writer: &mut Writer<'_>) {
        writer.array(self.iter().count());
        for role in self.iter() {
            writer.uint(role.number().into());
        }
    }
}

/// Which world a root is for. A device holds the root of one of them only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Environment {
    /// 0, also when the root does not say: real devices.
    #[default]
    Production,
    /// 1: the desk.
    Development,
}

/// What an entry of the root's key list trusts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyMaterial<'a> {
    /// This very key.
    Raw(PublicKey<'a>),
    /// The keys that this authority certifies: its DER certificate.
    Authority(&'a [u8]),
}

/// An entry of the root's key list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyEntry<'a> {
    /// The id that the file gives it; `trust` recomputes it before anything is believed.
    pub id: &'a KeyId,
    /// What it trusts.
    pub material: KeyMaterial<'a>,
}

impl<'a> KeyEntry<'a> {
    fn decode(reader: &mut Reader<'a>, limits: &Limits) -> Result<KeyMaterial<'a>, Refused> {
        reader.array_of(2)?;
        let kind = reader.uint()?;
        let content = reader.bytes()?;
        match kind {
            1 => PublicKey::decode(content, Reason::RootInvalid).map(KeyMaterial::Raw),
            2 => {
                limits::at_most(content.len() as u64, limits.cert_max.into(), "CERT_MAX")?;
                Ok(KeyMaterial::Authority(content))
            }
            _ => Err(reader.wrong_here()),
        }
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.id).array(2);
        match &self.material {
            KeyMaterial::Raw(key) => writer.uint(1).embedded(|w| key.encode(w)),
            KeyMaterial::Authority(der) => writer.uint(2).bytes(der),
        };
    }
}

/// The keys of a root, ascending by id.
#[derive(Clone, Copy, Debug)]
pub struct KeyEntries<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> KeyEntries<'a> {
    fn decode(reader: &mut Reader<'a>, limits: &Limits) -> Result<Self, Refused> {
        let mut keys = Keys::of(reader)?;
        let entries = KeyEntries {
            reader: *reader,
            count: keys.left(),
        };
        if entries.count == 0 {
            return Err(reader.wrong_here());
        }
        limits::at_most(entries.count as u64, limits.root_keys_max.into(), "ROOT_KEYS_MAX")?;
        while let Some(key) = keys.next(reader)? {
            Reader::demanding(key, Reason::RootInvalid).bytes_of::<32>()?;
            KeyEntry::decode(reader, limits)?;
        }
        Ok(entries)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never, in a decoded root.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyEntry<'a>> + use<'a> {
        let mut reader = self.reader;
        // Decoding read them all before, within the device's limits; here nothing can be refused any more.
        (0..self.count).map_while(move |_| {
            let id = reader.bytes_of().ok()?;
            let material = KeyEntry::decode(&mut reader, &Limits::LINUX).ok()?;
            Some(KeyEntry { id, material })
        })
    }

    /// The entry with this id.
    pub fn get(&self, id: &KeyId) -> Option<KeyEntry<'a>> {
        self.iter().find(|entry| entry.id == id)
    }
}

/// An ascending list of ids of keys (or, in a revocation list, of certificates).
#[derive(Clone, Copy, Debug)]
pub struct KeyIds<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> KeyIds<'a> {
    const NONE: KeyIds<'static> = KeyIds {
        reader: Reader::EMPTY,
        count: 0,
    };

    /// Reads a non-empty, strictly ascending array of ids.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let count = reader.array()?;
        let ids = KeyIds { reader: *reader, count };
        let mut last: Option<&KeyId> = None;
        for _ in 0..count {
            let id = reader.bytes_of()?;
            if last.is_some_and(|last| last >= id) {
                return Err(reader.wrong_here());
            }
            last = Some(id);
        }
        if count == 0 {
            return Err(reader.wrong_here());
        }
        Ok(ids)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a KeyId> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| reader.bytes_of().ok())
    }

    /// Whether the id is in the list.
    pub fn contains(&self, id: &KeyId) -> bool {
        self.iter().any(|listed| listed == id)
    }
}

/// How many keys, and which, speak for a role.
#[derive(Clone, Copy, Debug)]
pub struct RoleDef<'a> {
    /// The role.
    pub role: Role,
    /// How many distinct keys must sign, 1 to the number of keys.
    pub threshold: u8,
    /// Their ids.
    pub keys: KeyIds<'a>,
}

impl<'a> RoleDef<'a> {
    /// Reads what follows a role's number.
    fn decode(role: Role, reader: &mut Reader<'a>) -> Result<Self, Refused> {
        reader.array_of(2)?;
        let threshold = reader.uint()?;
        let keys = KeyIds::decode(reader)?;
        if threshold == 0 || threshold > keys.len() as u64 {
            return Err(Reason::RootThreshold.into());
        }
        let threshold = u8::try_from(threshold).map_err(|_| Reason::RootThreshold)?;
        Ok(RoleDef { role, threshold, keys })
    }
}

/// The roles that a root defines.
#[derive(Clone, Copy, Debug)]
pub struct RoleDefs<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> RoleDefs<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let mut numbers = Keys::of(reader)?;
        let defs = RoleDefs {
            reader: *reader,
            count: numbers.left(),
        };
        while let Some(number) = numbers.next_int(reader)? {
            let number = u64::try_from(number).map_err(|_| Reason::RootInvalid)?;
            let role = Role::from_number(number).ok_or(Reason::RootInvalid)?;
            RoleDef::decode(role, reader)?;
        }
        Ok(defs)
    }

    /// The definitions, ascending by role.
    pub fn iter(&self) -> impl Iterator<Item = RoleDef<'a>> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| {
            let role = Role::from_number(reader.uint().ok()?)?;
            RoleDef::decode(role, &mut reader).ok()
        })
    }

    /// The definition of this role, if there is one.
    pub fn get(&self, role: Role) -> Option<RoleDef<'a>> {
        self.iter().find(|def| def.role == role)
    }

    /// The roles that are defined.
    pub fn defined(&self) -> RoleSet {
        RoleSet(self.iter().fold(0, |set, def| set | 1 << def.role.number()))
    }

    /// The role that this key speaks for.
    pub fn role_of(&self, id: &KeyId) -> Option<Role> {
        self.iter().find(|def| def.keys.contains(id)).map(|def| def.role)
    }
}

/// The lowest sequence number that a device class accepts, per class.
#[derive(Clone, Copy, Debug)]
pub struct MinSequences<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> MinSequences<'a> {
    const NONE: MinSequences<'static> = MinSequences {
        reader: Reader::EMPTY,
        count: 0,
    };

    /// Reads a non-empty map of class id to sequence number.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let mut classes = Keys::of(reader)?;
        let minima = MinSequences {
            reader: *reader,
            count: classes.left(),
        };
        if minima.count == 0 {
            return Err(reader.wrong_here());
        }
        let wrong = reader.wrong_here().reason;
        while let Some(class) = classes.next(reader)? {
            Reader::demanding(class, wrong).bytes_of::<16>()?;
            limits::at_most(reader.uint()?, limits::SEQ_MAX, "SEQ_MAX")?;
        }
        Ok(minima)
    }

    /// Class ids and their minima, ascending by class id.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Uuid, u64)> + use<'a> {
        let mut reader = self.reader;
        (0..self.count).map_while(move |_| Some((reader.bytes_of().ok()?, reader.uint().ok()?)))
    }

    /// The minimum for this class; 0 when the list does not name it.
    pub fn of_class(&self, class: &Uuid) -> u64 {
        self.iter()
            .find(|(listed, _)| *listed == class)
            .map_or(0, |(_, minimum)| minimum)
    }
}

/// What else a product trusts, beside its release keys. The discriminant is the number in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum AnchorPurpose {
    /// 1: authorities of device certificates (DER).
    DeviceCa = 1,
    /// 2: authorities of server certificates (DER).
    ServerCa = 2,
    /// 3: authorities of operator certificates (DER).
    OperatorCa = 3,
    /// 4: keys that device logs are encrypted to (COSE_Key).
    LogRecipient = 4,
    /// 5: keys that sign checkpoints of the audit log (COSE_Key).
    AuditCheckpoint = 5,
}

impl AnchorPurpose {
    fn from_number(number: i64) -> Option<Self> {
        use AnchorPurpose::*;
        [DeviceCa, ServerCa, OperatorCa, LogRecipient, AuditCheckpoint]
            .into_iter()
            .find(|purpose| *purpose as i64 == number)
    }

    fn is_key(self) -> bool {
        matches!(self, AnchorPurpose::LogRecipient | AnchorPurpose::AuditCheckpoint)
    }
}

/// Anchors per purpose, 1 to 4 each.
const ANCHORS_MAX: usize = 4;

/// The other anchors of the product.
#[derive(Clone, Copy, Debug)]
pub struct Anchors<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> Anchors<'a> {
    const NONE: Anchors<'static> = Anchors {
        reader: Reader::EMPTY,
        count: 0,
    };

    fn decode(reader: &mut Reader<'a>, limits: &Limits) -> Result<Self, Refused> {
        let mut purposes = Keys::of(reader)?;
        let anchors = Anchors {
            reader: *reader,
            count: purposes.left(),
        };
        if anchors.count == 0 {
            return Err(reader.wrong_here());
        }
        while let Some(number) = purposes.next_int(reader)? {
            let purpose = AnchorPurpose::from_number(number).ok_or(reader.wrong_here())?;
            let count = reader.array()?;
            if count == 0 || count > ANCHORS_MAX {
                return Err(reader.wrong_here());
            }
            for _ in 0..count {
                let anchor = reader.bytes()?;
                limits::at_most(anchor.len() as u64, limits.cert_max.into(), "CERT_MAX")?;
                if purpose.is_key() {
                    PublicKey::decode(anchor, Reason::RootInvalid)?;
                }
            }
        }
        Ok(anchors)
    }

    /// The anchors for this purpose: DER certificates or encoded COSE_Keys.
    pub fn of_purpose(&self, purpose: AnchorPurpose) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = self.reader;
        let mut left = 0;
        for _ in 0..self.count {
            let Ok(number) = reader.int() else { break };
            let Ok(count) = reader.array() else { break };
            if number == purpose as i64 {
                left = count;
                break;
            }
            for _ in 0..count {
                let _ = reader.bytes();
            }
        }
        (0..left).map_while(move |_| reader.bytes().ok())
    }
}

/// A trust root file, decoded and consistent in itself, not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct RootFile<'a> {
    /// What the root says.
    pub root: Root<'a>,
    /// The encoded root: what the blocks sign, with [`FileKind::external_aad`].
    pub content: &'a [u8],
    /// The blocks, checked for structure and order.
    pub blocks: Blocks<'a>,
}

impl<'a> RootFile<'a> {
    /// Decodes a file that must fill `file`.
    ///
    /// Refused: 801 for structure and content, 807 for a key in two roles, 808 for a threshold of 0 or above the number
    /// of keys, 213 to 215 for its blocks, 105 for exceeded limits, 101 to 104 for bytes that are not deterministic CBOR.
    /// Not checked: that key ids belong to their keys (806), and signatures.
    pub fn decode(file: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let frame = Frame::decode(file, FileKind::Root, limits)?;
        Ok(RootFile {
            root: Root::decode(frame.content, limits)?,
            content: frame.content,
            blocks: frame.blocks,
        })
    }
}

/// What a trust root says (`AmpRoot`).
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// Its version, 1 or more.
    pub version: u64,
    /// The product line, fixed for its life.
    pub id: &'a Uuid,
    /// The world it is for.
    pub environment: Environment,
    /// All keys.
    pub keys: KeyEntries<'a>,
    /// Who may do what.
    pub roles: RoleDefs<'a>,
    /// The roles that must all reach their threshold for a delivery.
    pub delivery_roles: RoleSet,
    /// The roles that must all reach their threshold for an image to boot. Role 6 is in it even when the root does not
    /// define that role; then no image can boot.
    pub image_roles: RoleSet,
    /// Ids that are no longer trusted.
    pub revoked: KeyIds<'a>,
    /// Lowest sequence numbers per class.
    pub min_sequences: MinSequences<'a>,
    /// Seconds since 1970-01-01 UTC from which on it is no longer trusted.
    pub expires: Option<u64>,
    /// Other anchors of the product.
    pub anchors: Anchors<'a>,
}

impl<'a> Root<'a> {
    /// Decodes the content of a root file.
    fn decode(content: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let root = RootMembers::decode(content, limits)?.complete()?;
        root.check_roles()?;
        Ok(root)
    }

    /// Roles, keys and required roles fit each other (profile section 13, content checks).
    fn check_roles(&self) -> Result<(), Refused> {
        let invalid = Err(Reason::RootInvalid.into());
        let defined = self.roles.defined();
        if !RoleSet::of(&[Role::Root, Role::Release]).is_within(defined) {
            return invalid;
        }
        for def in self.roles.iter() {
            for id in def.keys.iter() {
                let Some(entry) = self.keys.get(id) else { return invalid };
                if def.role.demands_raw_keys() && matches!(entry.material, KeyMaterial::Authority(_)) {
                    return invalid;
                }
            }
        }
        for entry in self.keys.iter() {
            match self.roles.iter().filter(|def| def.keys.contains(entry.id)).count() {
                0 => return invalid,
                1 => {}
                _ => return Err(Reason::RootKeyInTwoRoles.into()),
            }
        }
        if !self.delivery_roles.contains(Role::Release) || !self.delivery_roles.is_within(defined) {
            return invalid;
        }
        Ok(())
    }
}

/// The members of a root before it is clear that all of them are there.
#[derive(Default)]
struct RootMembers<'a> {
    version: Option<u64>,
    spec: Option<()>,
    id: Option<&'a Uuid>,
    keys: Option<KeyEntries<'a>>,
    roles: Option<RoleDefs<'a>>,
    delivery_roles: Option<RoleSet>,
    revoked: Option<KeyIds<'a>>,
    min_sequences: Option<MinSequences<'a>>,
    expires: Option<u64>,
    image_roles: Option<RoleSet>,
    environment: Environment,
    anchors: Option<Anchors<'a>>,
}

impl<'a> RootMembers<'a> {
    fn decode(content: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        let mut reader = Reader::demanding(content, Reason::RootInvalid);
        let mut members = RootMembers::default();
        let mut keys = Keys::of(&mut reader)?;
        while let Some(key) = keys.next_int(&mut reader)? {
            members.take(key, &mut reader, limits)?;
        }
        reader.end()?;
        Ok(members)
    }

    fn take(&mut self, key: i64, reader: &mut Reader<'a>, limits: &Limits) -> Result<(), Refused> {
        let delivery = RoleSet::of(&[Role::Release, Role::Distribute, Role::ReleaseSecond]);
        let image = RoleSet::of(&[Role::Image, Role::ImageSecond]);
        match key {
            1 => self.version = Some(reader.uint()?).filter(|version| *version >= 1),
            2 => self.spec = (reader.text()? == SPEC).then_some(()),
            3 => self.id = Some(reader.bytes_of()?),
            4 => self.keys = Some(KeyEntries::decode(reader, limits)?),
            5 => self.roles = Some(RoleDefs::decode(reader)?),
            6 => self.delivery_roles = Some(RoleSet::decode(reader, delivery)?),
            7 => self.revoked = Some(revoked(reader, limits)?),
            8 => self.min_sequences = Some(MinSequences::decode(reader)?),
            9 => self.expires = Some(reader.uint()?),
            10 => self.image_roles = Some(RoleSet::decode(reader, image)?),
            11 => self.environment = environment(reader)?,
            12 => self.anchors = Some(Anchors::decode(reader, limits)?),
            _ => return Err(reader.wrong_here()),
        }
        Ok(())
    }

    fn complete(self) -> Result<Root<'a>, Refused> {
        const INVALID: Reason = Reason::RootInvalid;
        self.spec.ok_or(INVALID)?;
        let roles = self.roles.ok_or(INVALID)?;
        let image_roles_fit = |set: RoleSet| set.contains(Role::Image) && set.is_within(roles.defined());
        if !self.image_roles.is_none_or(image_roles_fit) {
            return Err(INVALID.into());
        }
        Ok(Root {
            version: self.version.ok_or(INVALID)?,
            id: self.id.ok_or(INVALID)?,
            environment: self.environment,
            keys: self.keys.ok_or(INVALID)?,
            roles,
            delivery_roles: self.delivery_roles.ok_or(INVALID)?,
            image_roles: self.image_roles.unwrap_or(RoleSet::of(&[Role::Image])),
            revoked: self.revoked.unwrap_or(KeyIds::NONE),
            min_sequences: self.min_sequences.unwrap_or(MinSequences::NONE),
            expires: self.expires,
            anchors: self.anchors.unwrap_or(Anchors::NONE),
        })
    }
}

fn revoked<'a>(reader: &mut Reader<'a>, limits: &Limits) -> Result<KeyIds<'a>, Refused> {
    let ids = KeyIds::decode(reader)?;
    limits::at_most(ids.len() as u64, limits.revoked_max.into(), "REVOKED_MAX")?;
    Ok(ids)
}

fn environment(reader: &mut Reader<'_>) -> Result<Environment, Refused> {
    match reader.uint()? {
        0 => Ok(Environment::Production),
        1 => Ok(Environment::Development),
        _ => Err(reader.wrong_here()),
    }
}

/// A trust root to be written. Lists must be in ascending order; whoever writes one decodes the result to be sure.
#[derive(Clone, Copy, Debug)]
pub struct RootDraft<'a> {
    /// Its version, 1 or more.
    pub version: u64,
    /// The product line.
    pub id: &'a Uuid,
    /// The world it is for; production is left out of the file.
    pub environment: Environment,
    /// All keys, ascending by id.
    pub keys: &'a [KeyEntry<'a>],
    /// Role, threshold and key ids, ascending by role and by id.
    pub roles: &'a [(Role, u8, &'a [KeyId])],
    /// The roles demanded of a delivery.
    pub delivery_roles: RoleSet,
    /// The roles demanded of an image, where they are not just role 6.
    pub image_roles: Option<RoleSet>,
    /// Ids that are no longer trusted, ascending.
    pub revoked: &'a [KeyId],
    /// Lowest sequence numbers per class, ascending by class id.
    pub min_sequences: &'a [(Uuid, u64)],
    /// Seconds since 1970-01-01 UTC.
    pub expires: Option<u64>,
    /// Other anchors, ascending by purpose.
    pub anchors: &'a [(AnchorPurpose, &'a [&'a [u8]])],
}

impl RootDraft<'_> {
    /// Writes the root's content: what is signed, and what [`write_file`] frames.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        let development = self.environment == Environment::Development;
        let optional = [
            !self.revoked.is_empty(),
            !self.min_sequences.is_empty(),
            self.expires.is_some(),
            self.image_roles.is_some(),
            development,
            !self.anchors.is_empty(),
        ];
        writer.map(6 + optional.iter().filter(|present| **present).count());
        writer
            .uint(1)
            .uint(self.version)
            .uint(2)
            .text(SPEC)
            .uint(3)
            .bytes(self.id);
        writer.uint(4).map(self.keys.len());
        for entry in self.keys {
            entry.encode(writer);
        }
        writer.uint(5).map(self.roles.len());
        for (role, threshold, ids) in self.roles {
            writer.uint(role.number().into()).array(2).uint((*threshold).into());
            write_ids(writer, ids);
        }
        writer.uint(6);
        self.delivery_roles.encode(writer);
        write_restrictions(writer, self.revoked, self.min_sequences);
        if let Some(expires) = self.expires {
            writer.uint(9).uint(expires);
        }
        if let Some(roles) = self.image_roles {
            writer.uint(10);
            roles.encode(writer);
        }
        if development {
            writer.uint(11).uint(1);
        }
        if !self.anchors.is_empty() {
            write_anchors(writer.uint(12), self.anchors);
        }
    }
}

fn write_ids(writer: &mut Writer<'_>, ids: &[KeyId]) {
    writer.array(ids.len());
    for id in ids {
        writer.bytes(id);
    }
}

/// Writes keys 7 and 8, where there is something to say.
fn write_restrictions(writer: &mut Writer<'_>, revoked: &[KeyId], min_sequences: &[(Uuid, u64)]) {
    if !revoked.is_empty() {
        write_ids(writer.uint(7), revoked);
    }
    if !min_sequences.is_empty() {
        writer.uint(8).map(min_sequences.len());
        for (class, minimum) in min_sequences {
            writer.bytes(class).uint(*minimum);
        }
    }
}

fn write_anchors(writer: &mut Writer<'_>, anchors: &[(AnchorPurpose, &[&[u8]])]) {
    writer.map(anchors.len());
    for (purpose, items) in anchors {
        writer.uint(*purpose as u64).array(items.len());
        for item in *items {
            writer.bytes(item);
        }
    }
}

/// A revocation list between two roots, decoded, not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct RevokeFile<'a> {
    /// Its number, strictly growing.
    pub number: u64,
    /// The product line it is for.
    pub root_id: &'a Uuid,
    /// Ids that are no longer trusted.
    pub revoked: KeyIds<'a>,
    /// Lowest sequence numbers per class.
    pub min_sequences: MinSequences<'a>,
    /// The encoded list: what the blocks sign.
    pub content: &'a [u8],
    /// The blocks, checked for structure and order.
    pub blocks: Blocks<'a>,
}

impl<'a> RevokeFile<'a> {
    /// Decodes a file that must fill `file`. Refused: 811 for structure, otherwise as [`RootFile::decode`].
    pub fn decode(file: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        const INVALID: Reason = Reason::RevokeInvalid;
        let frame = Frame::decode(file, FileKind::Revoke, limits)?;
        let mut reader = Reader::demanding(frame.content, INVALID);
        let mut keys = Keys::of(&mut reader)?;
        let (mut number, mut root_id) = (None, None);
        let (mut ids, mut min_sequences) = (KeyIds::NONE, MinSequences::NONE);
        while let Some(key) = keys.next_int(&mut reader)? {
            match key {
                1 => number = Some(reader.uint()?),
                3 => root_id = Some(reader.bytes_of()?),
                7 => ids = revoked(&mut reader, limits)?,
                8 => min_sequences = MinSequences::decode(&mut reader)?,
                _ => return Err(INVALID.into()),
            }
        }
        reader.end()?;
        Ok(RevokeFile {
            number: number.ok_or(INVALID)?,
            root_id: root_id.ok_or(INVALID)?,
            revoked: ids,
            min_sequences,
            content: frame.content,
            blocks: frame.blocks,
        })
    }

    /// Writes the content of a list; `revoked` and `min_sequences` ascending.
    pub fn encode_content(
        writer: &mut Writer<'_>,
        number: u64,
        root_id: &Uuid,
        revoked: &[KeyId],
        min_sequences: &[(Uuid, u64)],
    ) {
        let optional = usize::from(!revoked.is_empty()) + usize::from(!min_sequences.is_empty());
        writer.map(2 + optional);
        writer.uint(1).uint(number).uint(3).bytes(root_id);
        write_restrictions(writer, revoked, min_sequences);
    }
}

/// A floor for clocks, decoded, not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct TimeFile<'a> {
    /// Seconds since 1970-01-01 UTC: it is not before this moment.
    pub seconds: u64,
    /// The product line it is for.
    pub root_id: &'a Uuid,
    /// The encoded statement: what the blocks sign.
    pub content: &'a [u8],
    /// The blocks, checked for structure and order.
    pub blocks: Blocks<'a>,
}

impl<'a> TimeFile<'a> {
    /// Decodes a file that must fill `file`. Refused: 813 for structure, otherwise as [`RootFile::decode`].
    pub fn decode(file: &'a [u8], limits: &Limits) -> Result<Self, Refused> {
        const INVALID: Reason = Reason::TimeInvalid;
        let frame = Frame::decode(file, FileKind::Time, limits)?;
        let mut reader = Reader::demanding(frame.content, INVALID);
        let mut keys = Keys::of(&mut reader)?;
        let (mut seconds, mut root_id) = (None, None);
        while let Some(key) = keys.next_int(&mut reader)? {
            match key {
                1 => seconds = Some(reader.uint()?),
                3 => root_id = Some(reader.bytes_of()?),
                _ => return Err(INVALID.into()),
            }
        }
        reader.end()?;
        Ok(TimeFile {
            seconds: seconds.ok_or(INVALID)?,
            root_id: root_id.ok_or(INVALID)?,
            content: frame.content,
            blocks: frame.blocks,
        })
    }

    /// Writes the content of a time file.
    pub fn encode_content(writer: &mut Writer<'_>, seconds: u64, root_id: &Uuid) {
        writer.map(2).uint(1).uint(seconds).uint(3).bytes(root_id);
    }
}
