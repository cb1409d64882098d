//! What a trust root says, as a value that can be changed, compared and written again.

use std::collections::{BTreeMap, BTreeSet};

use codec::Reason;
use codec::cose::{KeyId, PublicKey};
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{AnchorPurpose, Environment, KeyEntry, KeyMaterial, Role, RoleSet, Root, RootDraft, RootFile};
use keys::{Error, Result};

use super::to_vec;

/// The content of a trust root, free of its encoding. Ids are as the root gives them; whoever reads a root from outside
/// has a device's reader check it first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// Its version, 1 or more.
    pub version: u64,
    /// The product line.
    pub id: Uuid,
    /// The world it is for.
    pub environment: Environment,
    /// Every key by its id.
    pub keys: BTreeMap<KeyId, Material>,
    /// Who may do what.
    pub roles: BTreeMap<Role, RoleKeys>,
    /// The roles that a delivery needs.
    pub delivery_roles: BTreeSet<Role>,
    /// The roles that an image needs.
    pub image_roles: BTreeSet<Role>,
    /// Ids that are no longer trusted.
    pub revoked: BTreeSet<KeyId>,
    /// Lowest sequence numbers by class id.
    pub min_sequences: BTreeMap<Uuid, u64>,
    /// Seconds since 1970-01-01 UTC from which on it is no longer trusted.
    pub expires: Option<u64>,
    /// Other anchors of the product, by the number of their purpose.
    pub anchors: BTreeMap<u8, Vec<Vec<u8>>>,
}

/// A key as the root carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Material {
    /// An encoded COSE_Key.
    Raw(Vec<u8>),
    /// The DER certificate of an authority.
    Authority(Vec<u8>),
}

/// How many of which keys speak for a role.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RoleKeys {
    /// How many distinct keys must sign.
    pub threshold: u8,
    /// The keys.
    pub keys: BTreeSet<KeyId>,
}

/// Every purpose of an anchor, with the name that options give it.
pub const ANCHOR_PURPOSES: [(AnchorPurpose, &str); 5] = [
    (AnchorPurpose::DeviceCa, "device-ca"),
    (AnchorPurpose::ServerCa, "server-ca"),
    (AnchorPurpose::OperatorCa, "operator-ca"),
    (AnchorPurpose::LogRecipient, "log-recipient"),
    (AnchorPurpose::AuditCheckpoint, "audit-checkpoint"),
];

impl Content {
    /// What a decoded root says.
    pub fn of(root: &Root) -> Content {
        let anchors = |(purpose, _): (AnchorPurpose, &str)| {
            let items: Vec<Vec<u8>> = root.anchors.of_purpose(purpose).map(<[u8]>::to_vec).collect();
            (!items.is_empty()).then_some((purpose as u8, items))
        };
        let role = |def: codec::roots::RoleDef| {
            let keys = def.keys.iter().copied().collect();
            let threshold = def.threshold;
            (def.role, RoleKeys { threshold, keys })
        };
        Content {
            version: root.version,
            id: *root.id,
            environment: root.environment,
            keys: root
                .keys
                .iter()
                .map(|entry| (*entry.id, Material::of(entry.material)))
                .collect(),
            roles: root.roles.iter().map(role).collect(),
            delivery_roles: root.delivery_roles.iter().collect(),
            image_roles: root.image_roles.iter().collect(),
            revoked: root.revoked.iter().copied().collect(),
            min_sequences: root
                .min_sequences
                .iter()
                .map(|(class, least)| (*class, least))
                .collect(),
            expires: root.expires,
            anchors: ANCHOR_PURPOSES.into_iter().filter_map(anchors).collect(),
        }
    }

    /// What a root file says, if it can be decoded; nothing is verified. Error: the device's own reason.
    pub fn read(file: &[u8], limits: &Limits) -> Result<Content> {
        let decoded = RootFile::decode(file, limits).map_err(|refused| Error::refused("trust root", refused))?;
        Ok(Content::of(&decoded.root))
    }

    /// The one role of a key.
    pub fn role_of(&self, id: &KeyId) -> Option<Role> {
        let mut roles = self.roles.iter();
        roles.find(|(_, def)| def.keys.contains(id)).map(|(role, _)| *role)
    }

    /// The keys of a role that may still sign: listed and not revoked.
    pub fn able_keys(&self, role: Role) -> BTreeSet<KeyId> {
        let listed = self.roles.get(&role).map(|def| &def.keys);
        listed
            .map(|keys| keys.difference(&self.revoked).copied().collect())
            .unwrap_or_default()
    }

    /// The threshold of a role; 0 where it is not defined.
    pub fn threshold(&self, role: Role) -> u8 {
        self.roles.get(&role).map_or(0, |def| def.threshold)
    }

    /// The encoded root: what is signed.
    pub fn encode(&self) -> Vec<u8> {
        let keys: Vec<KeyEntry> = self
            .keys
            .iter()
            .filter_map(|(id, material)| {
                let material = material.borrow()?;
                Some(KeyEntry { id, material })
            })
            .collect();
        let roles: Vec<(Role, u8, Vec<KeyId>)> = self
            .roles
            .iter()
            .map(|(role, def)| (*role, def.threshold, def.keys.iter().copied().collect()))
            .collect();
        let roles: Vec<(Role, u8, &[KeyId])> = roles
            .iter()
            .map(|(role, threshold, ids)| (*role, *threshold, ids.as_slice()))
            .collect();
        let revoked: Vec<KeyId> = self.revoked.iter().copied().collect();
        let minima: Vec<(Uuid, u64)> = self
            .min_sequences
            .iter()
            .map(|(class, least)| (*class, *least))
            .collect();
        let anchors: Vec<(AnchorPurpose, Vec<&[u8]>)> = ANCHOR_PURPOSES
            .iter()
            .filter_map(|(purpose, _)| {
                let items = self.anchors.get(&(*purpose as u8))?;
                Some((*purpose, items.iter().map(Vec::as_slice).collect()))
            })
            .collect();
        let anchors: Vec<(AnchorPurpose, &[&[u8]])> = anchors
            .iter()
            .map(|(purpose, items)| (*purpose, items.as_slice()))
            .collect();
        let draft = RootDraft {
            version: self.version,
            id: &self.id,
            environment: self.environment,
            keys: &keys,
            roles: &roles,
            delivery_roles: set_of(&self.delivery_roles),
            image_roles: self.stated_image_roles(),
            revoked: &revoked,
            min_sequences: &minima,
            expires: self.expires,
            anchors: &anchors,
        };
        to_vec(|writer| draft.encode(writer))
    }

    /// The roles of an image, where they are not just role 6.
    fn stated_image_roles(&self) -> Option<RoleSet> {
        let usual = BTreeSet::from([Role::Image]);
        (self.image_roles != usual && !self.image_roles.is_empty()).then(|| set_of(&self.image_roles))
    }
}

impl Material {
    /// The key, owned.
    pub fn of(material: KeyMaterial) -> Material {
        match material {
            KeyMaterial::Raw(key) => Material::Raw(to_vec(|writer| key.encode(writer))),
            KeyMaterial::Authority(der) => Material::Authority(der.to_vec()),
        }
    }

    fn borrow(&self) -> Option<KeyMaterial<'_>> {
        match self {
            Material::Raw(_) => self.key().map(KeyMaterial::Raw),
            Material::Authority(der) => Some(KeyMaterial::Authority(der)),
        }
    }

    /// The raw key, where it is one.
    pub fn key(&self) -> Option<PublicKey<'_>> {
        match self {
            Material::Raw(bytes) => PublicKey::decode(bytes, Reason::RootInvalid).ok(),
            Material::Authority(_) => None,
        }
    }

    /// The name of the key's algorithm for people and board files.
    pub fn algorithm_name(&self) -> &'static str {
        self.key().map_or("certificate", |key| algorithm_name(key.algorithm()))
    }
}

/// What board files and explanations call a COSE algorithm.
pub fn algorithm_name(cose: i64) -> &'static str {
    use codec::cose::{ALG_ED25519, ALG_ESP256, ALG_HSS_LMS, ALG_ML_DSA_44, ALG_ML_DSA_65, ALG_ML_DSA_87};
    match cose {
        ALG_ED25519 => "ed25519",
        ALG_ESP256 => "p256",
        ALG_HSS_LMS => "hss-lms",
        ALG_ML_DSA_44 => "ml-dsa-44",
        ALG_ML_DSA_65 => "ml-dsa-65",
        ALG_ML_DSA_87 => "ml-dsa-87",
        _ => "unknown",
    }
}

fn set_of(roles: &BTreeSet<Role>) -> RoleSet {
    RoleSet::of(&roles.iter().copied().collect::<Vec<_>>())
}
