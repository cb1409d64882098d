//! Trust roots over their whole life (profile sections 13 and 15).
//!
//! | part | answers |
//! |---|---|
//! | this file | the first root of a product line, made and signed in one step |
//! | [`content`] | what does a root say |
//! | [`edits`] | what is to change from one root to the next |
//! | [`difference`] | what changes, in words |
//! | [`safety`] | would devices still be reachable |
//! | [`proposal`] | a file that several people sign, one after the other |
//! | [`standing`] | who signed it, who is missing, what does a device say |
//! | [`lists`] | revocation lists and time files |
//! | [`chain`] | all roots that a device far behind walks, and their history |
//! | [`names`] | who holds which key |
//!
//! What is called finished has passed the same code as on a device; nothing else is handed out.

pub mod chain;
pub mod content;
pub mod difference;
pub mod edits;
pub mod lists;
pub mod names;
pub mod proposal;
pub mod safety;
pub mod standing;

pub use chain::Chain;
pub use content::Content;
pub use difference::difference;
pub use names::Names;
pub use proposal::Proposal;

use std::collections::{BTreeMap, BTreeSet};

use codec::cbor::{self, Writer};
use codec::cose::{KeyId, SigStructure, Sign1};
use codec::limits::Limits;
use codec::roots::{Environment, FileKind, Role};
use keys::{Code, Error, Job, PublicKey, Purpose, Result, Signer};
use trust::TrustRoot;

use crate::identity;

/// What a new trust root shall say.
#[derive(Clone, Debug)]
pub struct RootSpec {
    /// The vendor's domain, from which the vendor id is computed.
    pub vendor_domain: String,
    /// The product line that this root is for; with the vendor it makes the root's id, fixed for life.
    pub product_line: String,
    /// The world it is for.
    pub environment: Environment,
    /// Seconds since 1970-01-01 UTC from which on it is no longer trusted, if ever.
    pub expires: Option<u64>,
    /// Who may do what, in any order; root and release at least.
    pub roles: Vec<RoleSpec>,
}

/// How many of which keys speak for a role.
#[derive(Clone, Debug)]
pub struct RoleSpec {
    /// The role.
    pub role: Role,
    /// How many distinct keys must sign.
    pub threshold: u8,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// Makes the first trust root of a product line, signed by `signers`, which are keys of its role *root*.
///
/// Errors: [`Code::KeySample`] a key that everybody has; [`Code::SameKeyTwice`] a key in two places;
/// [`Code::RootSigners`] too few private root keys, or a threshold that its keys cannot reach; the device's own
/// reasons (105, 8xx) where the content does not fit `limits` or the profile.
pub fn make(spec: &RootSpec, signers: &[&dyn Signer], limits: &Limits) -> Result<Vec<u8>> {
    finish(&spec.content()?, signers, limits)
}

/// Signs a first root with as many of its own root keys as it demands. Errors: as [`make`].
pub fn finish(content: &Content, signers: &[&dyn Signer], limits: &Limits) -> Result<Vec<u8>> {
    check_signers(content, signers)?;
    let proposal = Proposal::new(FileKind::Root, content.encode(), limits)?;
    let signed = signers
        .iter()
        .try_fold(proposal, |proposal, signer| proposal.sign(*signer))?;
    let file = signed.to_bytes();
    verify(&file, limits)?;
    Ok(file)
}

/// Reads a trust root as a device does when it is provisioned: content, key ids, weak keys, own threshold.
pub fn verify<'a>(file: &'a [u8], limits: &Limits) -> Result<TrustRoot<'a>> {
    let refused = |refused| Error::refused("trust root", refused);
    let root = TrustRoot::parse(file, limits, &trust::PORTABLE).map_err(refused)?;
    root.verify_self(&trust::PORTABLE).map_err(refused)?;
    Ok(root)
}

/// What a role is called on the command line and in explanations.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Root => "root",
        Role::Release => "release",
        Role::Distribute => "distribute",
        Role::Revoke => "revoke",
        Role::ReleaseSecond => "release-second",
        Role::Image => "image",
        Role::ImageSecond => "image-second",
    }
}

/// What an environment is called.
pub fn environment_name(environment: Environment) -> &'static str {
    match environment {
        Environment::Production => "production",
        Environment::Development => "development",
    }
}

/// No published key, no key twice, thresholds that can be reached.
fn check_names(spec: &RootSpec) -> Result<()> {
    let faults = [
        (
            "vendor's domain",
            &spec.vendor_domain,
            identity::domain_fault(&spec.vendor_domain),
        ),
        (
            "product line",
            &spec.product_line,
            identity::product_line_fault(&spec.product_line),
        ),
    ];
    let fault = faults
        .into_iter()
        .find_map(|(what, name, fault)| Some((what, name, fault?)));
    match fault {
        None => Ok(()),
        Some((what, name, fault)) => Err(Code::RootEdit
            .error(format!("the {what} {name:?} {fault}"))
            .advise("Correct it: a root's id is made of it and never changes.")),
    }
}

fn check_keys(spec: &RootSpec) -> Result<()> {
    let mut seen: Vec<(KeyId, Role)> = Vec::new();
    for role in &spec.roles {
        let name = role_name(role.role);
        if role.threshold == 0 || usize::from(role.threshold) > role.keys.len() {
            let what = format!("role {name} demands {} of {} keys", role.threshold, role.keys.len());
            return Err(Code::RootSigners.error(what));
        }
        for key in &role.keys {
            if let Some(sample) = key.published_sample() {
                return Err(Code::KeySample.error(format!("a {name} key is MCUboot's published sample {sample}")));
            }
            let id = key.thumbprint();
            if let Some((_, other)) = seen.iter().find(|(listed, _)| *listed == id) {
                let what = format!("key {} is given for {} and {name}", short(&id), role_name(*other));
                return Err(Code::SameKeyTwice
                    .error(what)
                    .advise("Give every key to exactly one role, once."));
            }
            seen.push((id, role.role));
        }
    }
    Ok(())
}

/// Enough of the root's own keys sign.
fn check_signers(content: &Content, signers: &[&dyn Signer]) -> Result<()> {
    let Some(root) = content.roles.get(&Role::Root) else {
        return Err(Code::RootSigners.error("the role root has no keys"));
    };
    let is_listed = |signer: &&&dyn Signer| root.keys.contains(&signer.public_key().thumbprint());
    if let Some(stranger) = signers.iter().find(|signer| !is_listed(signer)) {
        return Err(Code::RootSigners.error(format!("{} is no key of the role root", stranger.describe())));
    }
    if signers.len() < usize::from(root.threshold) {
        let what = format!(
            "{} private root keys are given, {} must sign",
            signers.len(),
            root.threshold
        );
        return Err(Code::RootSigners.error(what));
    }
    Ok(())
}

impl RootSpec {
    /// What the root will say.
    ///
    /// Errors: [`Code::RootEdit`] a name that is none; [`Code::KeySample`], [`Code::SameKeyTwice`];
    /// [`Code::RootSigners`] a threshold that keys cannot reach.
    pub fn content(&self) -> Result<Content> {
        check_names(self)?;
        check_keys(self)?;
        let defined = |role: Role| self.roles.iter().any(|listed| listed.role == role);
        let demanded = |roles: &[Role]| roles.iter().copied().filter(|role| defined(*role)).collect();
        let mut content = Content {
            version: 1,
            id: identity::root_id(&identity::vendor_id(&self.vendor_domain), &self.product_line),
            environment: self.environment,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            delivery_roles: demanded(&[Role::Release, Role::ReleaseSecond]),
            image_roles: demanded(&[Role::Image, Role::ImageSecond]),
            revoked: BTreeSet::new(),
            min_sequences: BTreeMap::new(),
            expires: self.expires,
            anchors: BTreeMap::new(),
        };
        content.image_roles.insert(Role::Image);
        for role in &self.roles {
            for key in &role.keys {
                edits::add_key(&mut content, role.role, key)?;
            }
            if let Some(def) = content.roles.get_mut(&role.role) {
                def.threshold = role.threshold;
            }
        }
        Ok(content)
    }
}

/// One signature block, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) kid: KeyId,
    algorithm: i64,
    protected: Vec<u8>,
    signature: Vec<u8>,
}

impl Block {
    /// A decoded block of a file without certificates.
    pub(crate) fn of(block: &Sign1) -> Block {
        Block {
            kid: *block.kid,
            algorithm: block.algorithm,
            protected: block.protected.to_vec(),
            signature: block.signature.to_vec(),
        }
    }

    /// Lets `signer` sign `payload` under `external_aad`.
    pub(crate) fn sign(signer: &dyn Signer, external_aad: &[u8], payload: &[u8], purpose: &Purpose) -> Result<Block> {
        let (kid, algorithm) = (signer.public_key().thumbprint(), signer.algorithm().cose());
        let protected = crate::detached::protected(signer.public_key());
        let structure = SigStructure::new(&protected, external_aad, payload);
        let job = Job {
            content: keys::Content::Message(&structure.parts()),
            purpose,
        };
        let signature = signer.sign(&job)?.as_cose().to_vec();
        Ok(Block {
            kid,
            algorithm,
            protected,
            signature,
        })
    }

    /// The block as `codec` writes it.
    pub(crate) fn borrow(&self) -> Sign1<'_> {
        Sign1 {
            protected: &self.protected,
            algorithm: self.algorithm,
            kid: &self.kid,
            chain: None,
            signature: &self.signature,
        }
    }
}

/// Encodes into a vector of the right size.
pub(crate) fn to_vec(write: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    struct Bytes(Vec<u8>);
    impl cbor::Sink for Bytes {
        fn put(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }
    let mut bytes = Bytes(Vec::new());
    write(&mut Writer::new(&mut bytes));
    bytes.0
}

/// The first 8 bytes of a key id, enough to recognise it.
pub(crate) fn short(id: &KeyId) -> String {
    id.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use keys::SignatureAlgorithm;
    use keys::file::{FileKey, LockedKey, generate};

    /// Seeds of the RFC 8032 test keys 1 to 3 (section 7.1): published, worth nothing.
    const SEEDS: [&str; 3] = [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    ];

    /// The RFC 8032 test key with this number, 1 to 3, through an unencrypted PKCS#8 file.
    pub(crate) fn rfc8032_key(number: usize) -> FileKey {
        let der = unhex(&format!("302e020100300506032b657004220420{}", SEEDS[number - 1]));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem("PRIVATE KEY", &der)).unwrap();
        LockedKey::read(file.path()).unwrap().unlock(None).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut body = String::new();
        for chunk in der.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
                body.push(if place > chunk.len() { '=' } else { digit as char });
            }
        }
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    pub(crate) fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    pub(crate) fn role(role: Role, threshold: u8, keys: &[&FileKey]) -> RoleSpec {
        let keys = keys.iter().map(|key| key.public_key().clone()).collect();
        RoleSpec { role, threshold, keys }
    }

    fn spec(roles: Vec<RoleSpec>) -> RootSpec {
        RootSpec {
            vendor_domain: "example.com".into(),
            product_line: "demo".into(),
            environment: Environment::Production,
            expires: None,
            roles,
        }
    }

    /// Profile section 18: version 1, two root keys with threshold 2, one release key; byte for byte.
    #[test]
    fn the_example_root_of_the_profile() {
        let [release, one, two] = [1, 2, 3].map(rfc8032_key);
        let roles = vec![role(Role::Release, 1, &[&release]), role(Role::Root, 2, &[&one, &two])];
        let file = make(&spec(roles), &[&one, &two], &Limits::MCU).unwrap();
        assert_eq!(file, unhex(include_str!("../tests/data/profile-root.hex")));
    }

    #[test]
    fn a_root_with_every_role_and_algorithm_verifies() {
        let keys: Vec<FileKey> = [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256]
            .into_iter()
            .cycle()
            .take(7)
            .map(|algorithm| generate(algorithm).unwrap())
            .collect();
        let roles = vec![
            role(Role::Root, 2, &[&keys[0], &keys[1], &keys[2]]),
            role(Role::Release, 1, &[&keys[3]]),
            role(Role::Distribute, 1, &[&keys[4]]),
            role(Role::Revoke, 1, &[&keys[5]]),
            role(Role::Image, 1, &[&keys[6]]),
        ];
        let mut spec = spec(roles);
        (spec.environment, spec.expires) = (Environment::Development, Some(1_893_456_000));
        let file = make(&spec, &[&keys[2], &keys[0]], &Limits::MCU).unwrap();
        let root = verify(&file, &Limits::MCU).unwrap();
        assert_eq!(root.environment(), Environment::Development);
        assert_eq!((root.version(), root.expires()), (1, Some(1_893_456_000)));
        assert_eq!(root.entries().count(), 7);
    }

    #[test]
    fn what_would_never_verify_is_not_made() {
        let [release, one, two] = [1, 2, 3].map(rfc8032_key);
        let both = |threshold| role(Role::Root, threshold, &[&one, &two]);
        let releases = |threshold| role(Role::Release, threshold, &[&release]);
        let code = |roles, signers: &[&dyn Signer]| make(&spec(roles), signers, &Limits::MCU).unwrap_err().name;
        assert_eq!(code(vec![both(2), releases(1)], &[&one]), "ROOT_SIGNERS");
        assert_eq!(code(vec![both(2), releases(1)], &[&one, &one]), "SAME_KEY_TWICE");
        assert_eq!(code(vec![both(1), releases(1)], &[&release]), "ROOT_SIGNERS");
        assert_eq!(code(vec![both(3), releases(1)], &[&one, &two]), "ROOT_SIGNERS");
        assert_eq!(code(vec![both(1), releases(0)], &[&one]), "ROOT_SIGNERS");
        assert_eq!(code(vec![both(1)], &[&one]), "ROOT_INVALID");
        assert_eq!(code(vec![releases(1)], &[]), "ROOT_SIGNERS");
        assert_eq!(
            code(vec![both(1), role(Role::Release, 1, &[&two])], &[&one]),
            "SAME_KEY_TWICE"
        );
    }
}
