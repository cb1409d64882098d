//! Would devices with this trust root believe the release, and is everything in it that it promises?
//!
//! `trust` gives the verdict, with the code that runs on devices; what is added here is the explanation of who signed
//! and who is missing, and a check of every member, so that a server or a person can be as sure as a device.

use codec::cose::{SigStructure, Sign1};
use codec::limits::Limits;
use codec::plan::{ChunkHashes, Digest, DigestAlgorithm, Format, Plan, Source, Step, Target};
use codec::roots::{Role, RoleSet, RootFile};
use codec::suit::manifest;
use codec::{Reason, Refused};
use keys::{Code, Error, Result};
use trust::{KeyId, Sha256, TrustRoot};

use crate::assemble::value_digest;
use crate::envelope::{Envelope, MemberKind, TARGETS_MAX};
use crate::identity;
use crate::image::{self, Authority};
use crate::root::{Names, role_name, short};
use crate::tree::Tree;

/// A release that a trust root's devices believe, with all its members as promised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its sequence number.
    pub sequence: u64,
    /// SHA-256 by which it is signed: its name in records.
    pub digest: [u8; 32],
    /// Who signed, block by block.
    pub signatures: Vec<SignatureState>,
    /// How far the roles are that a delivery needs.
    pub roles: Vec<RoleState>,
    /// What it installs, in order.
    pub targets: Vec<TargetState>,
}

/// One signature block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureState {
    /// The key that it names.
    pub key: KeyId,
    /// The role that the root gives this key; nothing when the root does not know it.
    pub role: Option<Role>,
    /// Whether the signature is right; `None` when it was not evaluated (unknown key, algorithm not available).
    pub good: Option<bool>,
}

/// One role that a delivery needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleState {
    /// The role.
    pub role: Role,
    /// How many keys must sign.
    pub threshold: u8,
    /// Keys of the role that signed.
    pub signed: Vec<KeyId>,
    /// Keys of the role that have not signed.
    pub unsigned: Vec<KeyId>,
}

/// One thing that the release installs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetState {
    /// Its component id, for people.
    pub component: String,
    /// Where the bytes come from.
    pub uris: Vec<String>,
    /// Whether all of them are in the file and were checked.
    pub complete: bool,
}

/// Verifies a release under a trust root.
///
/// Errors: the reason that a device would give (2xx signatures, 3xx to 5xx content, 6xx and 9xx images); for a missing
/// signature (219) with the roles and keys that are missing.
pub fn verify(envelope: &Envelope, root: &TrustRoot) -> Result<Verified> {
    let signatures = signatures(envelope, root)?;
    let roles = roles(root, &signatures)?;
    let refused = |refused: Refused| explain(refused, &roles);
    let head = envelope.head();
    let mut room = vec![Target::EMPTY; TARGETS_MAX];
    let authentic = root
        .verify(&head, &trust::PORTABLE, &Limits::LINUX, &mut room)
        .map_err(refused)?;
    let plan = authentic.get();
    let targets = check_members(envelope, plan, Some(root))?;
    Ok(Verified {
        sequence: plan.sequence,
        digest: *authentic.digest(),
        signatures,
        roles,
        targets,
    })
}

/// Checks a release's content without asking who signed it: text, chunk tables, payloads, images, against the manifest.
///
/// Errors: as [`verify`], without 219 and without signatures of images.
pub fn check_content(envelope: &Envelope) -> Result<Vec<TargetState>> {
    crate::envelope::check_digest(&envelope.head()).map_err(|refused| Error::refused("the release", refused))?;
    let mut room = vec![Target::EMPTY; TARGETS_MAX];
    let plan = envelope.plan(&mut room)?;
    check_members(envelope, &plan, None)
}

/// A refusal as an error; a missing threshold names the keys that could still sign.
fn explain(refused: Refused, roles: &[RoleState]) -> Error {
    let error = Error::refused("the release", refused);
    if refused.reason != Reason::AuthThreshold {
        return error;
    }
    let missing: Vec<String> = roles
        .iter()
        .filter(|role| !role.is_reached())
        .map(RoleState::missing)
        .collect();
    error.advise(format!(
        "Missing: {}. Add a signature with `ampoule release sign`.",
        missing.join("; ")
    ))
}

impl RoleState {
    /// Whether enough keys signed.
    pub fn is_reached(&self) -> bool {
        self.signed.len() >= usize::from(self.threshold)
    }

    pub(crate) fn missing(&self) -> String {
        let left = usize::from(self.threshold).saturating_sub(self.signed.len());
        let keys: Vec<String> = self.unsigned.iter().map(short).collect();
        format!(
            "{left} more {} signature(s), by key {}",
            role_name(self.role),
            keys.join(" or ")
        )
    }
}

/// Every block of a release with what the root knows of its key.
pub fn signatures(envelope: &Envelope, root: &TrustRoot) -> Result<Vec<SignatureState>> {
    let head = envelope.head();
    head.blocks
        .map(|block| {
            let block = block.map_err(|refused| Error::refused("the release", refused))?;
            Ok(signature(&block, head.signed, root))
        })
        .collect()
}

fn signature(block: &Sign1, signed: &[u8], root: &TrustRoot) -> SignatureState {
    let entry = root.entries().find(|entry| entry.id == block.kid);
    let key = entry.and_then(|entry| entry.key).filter(|_| block.chain.is_none());
    let verifier = key.as_ref().and_then(|key| trust::PORTABLE.for_key(key));
    let structure = SigStructure::new(block.protected, &[], signed);
    let good = verifier.zip(key).map(|(verifier, key)| {
        block.algorithm == key.algorithm() && verifier.verify(&key, &structure.parts(), block.signature).is_ok()
    });
    SignatureState {
        key: *block.kid,
        role: entry.map(|entry| entry.role),
        good,
    }
}

/// How far a release is under a root: who signed, who is missing, for a person or a script.
pub(crate) fn standing(envelope: &Envelope, root: &TrustRoot, names: &Names) -> Result<Tree> {
    let roles = roles(root, &signatures(envelope, root)?)?;
    let role = |role: &RoleState| role.to_tree(names);
    Ok(Tree::List(roles.iter().map(role).collect()))
}

/// Refuses a signer whose signature would not count under this root.
///
/// Errors: [`Code::SignerRevoked`], [`Code::SignerWithoutRole`].
pub fn may_sign(root: &TrustRoot, id: &KeyId, names: &Names) -> Result<()> {
    const DELIVERY: [Role; 3] = [Role::Release, Role::Distribute, Role::ReleaseSecond];
    may_sign_as(root, id, names, &DELIVERY, "releases")
}

/// The same for the roles given; `what` is what their keys sign ("releases").
pub(crate) fn may_sign_as(root: &TrustRoot, id: &KeyId, names: &Names, roles: &[Role], what: &str) -> Result<()> {
    let file =
        RootFile::decode(root.bytes(), &Limits::LINUX).map_err(|refused| Error::refused("trust root", refused))?;
    let who = format!("key {}", names.label(id));
    match file.root.roles.role_of(id) {
        None => Err(Code::SignerWithoutRole.error(format!("the root does not know {who}"))),
        Some(role) if !roles.contains(&role) => {
            let what = format!("{who} is a {} key, and such keys do not sign {what}", role_name(role));
            Err(Code::SignerWithoutRole.error(what))
        }
        Some(role) if root.entries().all(|entry| entry.id != id) => {
            Err(Code::SignerRevoked.error(format!("{who} was a {} key and is revoked", role_name(role))))
        }
        Some(_) => Ok(()),
    }
}

/// The roles that a delivery needs under this root, with who signed.
fn roles(root: &TrustRoot, signatures: &[SignatureState]) -> Result<Vec<RoleState>> {
    let file =
        RootFile::decode(root.bytes(), &Limits::LINUX).map_err(|refused| Error::refused("trust root", refused))?;
    let signed_by = |id: &KeyId| {
        signatures
            .iter()
            .any(|signature| signature.key == *id && signature.good == Some(true))
    };
    Ok(role_states(root, &file, file.root.delivery_roles, signed_by))
}

/// The state of each of these roles; `file` is the root, decoded.
pub(crate) fn role_states(
    root: &TrustRoot,
    file: &RootFile,
    roles: RoleSet,
    signed_by: impl Fn(&KeyId) -> bool,
) -> Vec<RoleState> {
    let state = |role| {
        let def = file.root.roles.get(role)?;
        // A revoked key signs for nobody, and is missing nowhere.
        let able = |id: &KeyId| root.entries().any(|entry| entry.id == id);
        let (signed, unsigned) = def.keys.iter().copied().filter(able).partition(&signed_by);
        Some(RoleState {
            role,
            threshold: def.threshold,
            signed,
            unsigned,
        })
    };
    roles.iter().filter_map(state).collect()
}

/// Checks every member against the plan: what must be there is there, what is there is as promised.
fn check_members(envelope: &Envelope, plan: &Plan, root: Option<&TrustRoot>) -> Result<Vec<TargetState>> {
    let refused = |refused: Refused| Error::refused("the release", refused);
    check_text(envelope, plan).map_err(refused)?;
    check_references(envelope, plan).map_err(refused)?;
    plan.targets
        .iter()
        .map(|target| check_target(envelope, target, root))
        .collect()
}

fn check_text(envelope: &Envelope, plan: &Plan) -> std::result::Result<(), Refused> {
    let text = envelope.members().iter().find(|member| member.kind == MemberKind::Text);
    let Some(text) = text.map(|member| envelope.content(member)) else {
        return Ok(());
    };
    match plan.text_digest {
        None => Err(Reason::EnvKeyForbidden.about("text without digest")),
        Some(digest) if digest.algorithm == DigestAlgorithm::Sha256 && digest.hash == value_digest(text) => Ok(()),
        Some(_) => Err(Reason::TextDigest.refused()),
    }
}

/// Every payload and chunk table in the file belongs to a source of the plan.
fn check_references(envelope: &Envelope, plan: &Plan) -> std::result::Result<(), Refused> {
    let sources: Vec<Source> = plan
        .targets
        .iter()
        .flat_map(sources)
        .map(|fetched| fetched.source)
        .collect();
    for member in envelope.members() {
        match &member.kind {
            MemberKind::Payload(name) if !sources.iter().any(|source| source.uri == name) => {
                return Err(Reason::PayloadUnreferenced.refused());
            }
            MemberKind::ChunkTable(ordinal) => {
                let wanted = sources
                    .iter()
                    .find(|source| source.ordinal == *ordinal)
                    .and_then(|source| source.table);
                if !matches!(wanted.map(|table| table.hashes), Some(ChunkHashes::Detached(_))) {
                    return Err(Reason::ChunkTable.refused());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Bytes that a target fetches, and what they come to in the end.
struct Fetched<'a> {
    source: Source<'a>,
    size: u64,
    digest: Digest<'a>,
    /// Whether the fetched bytes are an MCUboot image, with the counter that is signed beside it.
    image: Option<Option<u32>>,
}

fn sources<'a>(target: &Target<'a>) -> Vec<Fetched<'a>> {
    let image = |format, counter| (format == Format::McubootImage).then_some(counter);
    let mut fetched: Vec<Fetched<'a>> = (target.variants.as_slice().iter())
        .filter_map(|variant| {
            let image = image(variant.content.format, variant.content.counter);
            Some(Fetched {
                source: variant.source?,
                size: variant.size,
                digest: variant.digest,
                image,
            })
        })
        .collect();
    let content = target.variants.as_slice().first().map(|variant| variant.content);
    match target.step {
        Step::Fetch => {}
        Step::CopyFromStage(stage) => {
            let image = content.and_then(|content| image(content.format, content.counter));
            fetched.push(Fetched {
                source: stage.source,
                size: stage.size,
                digest: stage.digest,
                image,
            });
        }
        Step::ApplyDelta { patch, .. } => {
            fetched.push(Fetched {
                source: patch.source,
                size: patch.size,
                digest: patch.digest,
                image: None,
            });
        }
    }
    fetched
}

fn check_target(envelope: &Envelope, target: &Target, root: Option<&TrustRoot>) -> Result<TargetState> {
    let parts: Vec<String> = target
        .id
        .parts()
        .iter()
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let mut state = TargetState {
        component: parts.join("/"),
        uris: Vec::new(),
        complete: true,
    };
    for fetched in sources(target) {
        let name = fetched.source.uri;
        state.uris.push(name.to_owned());
        check_table(envelope, &fetched).map_err(|refused| Error::refused(name, refused))?;
        let Some(payload) = envelope.payload(name) else {
            if fetched.source.integrated().is_some() {
                return Err(Error::refused(name, Reason::PayloadMissing));
            }
            state.complete = false;
            continue;
        };
        check_payload(envelope, &fetched, payload).map_err(|refused| Error::refused(name, refused))?;
        if let Some(counter) = fetched.image.filter(|_| fetched.is_plain()) {
            check_image(name, payload, counter, target, root)?;
        }
    }
    Ok(state)
}

impl Fetched<'_> {
    /// Whether the bytes on the way are the ones that are installed.
    fn is_plain(&self) -> bool {
        self.source.encryption.is_none() && self.source.compression.is_none()
    }
}

/// The chunk hashes of a source, from the manifest or the envelope; they must be there, also for remote payloads.
fn hashes<'e>(envelope: &'e Envelope, fetched: &Fetched<'e>) -> std::result::Result<Option<&'e [u8]>, Refused> {
    let Some(table) = fetched.source.table else {
        return Ok(None);
    };
    match table.hashes {
        ChunkHashes::Inline(hashes) => Ok(Some(hashes)),
        ChunkHashes::Detached(digest) => {
            let hashes = envelope
                .chunk_hashes(fetched.source.ordinal)
                .ok_or(Reason::ChunkTable)?;
            let chunks = fetched
                .source
                .transport_size(fetched.size)
                .div_ceil(table.chunk_size.max(1).into());
            if hashes.len() as u64 != chunks.saturating_mul(32) || Sha256::of(hashes) != *digest {
                return Err(Reason::ChunkTable.refused());
            }
            Ok(Some(hashes))
        }
    }
}

fn check_table(envelope: &Envelope, fetched: &Fetched) -> std::result::Result<(), Refused> {
    hashes(envelope, fetched).map(|_| ())
}

fn check_payload(envelope: &Envelope, fetched: &Fetched, payload: &[u8]) -> std::result::Result<(), Refused> {
    let source = &fetched.source;
    if payload.len() as u64 != source.transport_size(fetched.size) {
        return Err(Reason::SizeMismatch.refused());
    }
    // Chunks and the whole are two hashes over the same bytes: each on a core of its own, a large release takes half as long.
    let (chunks, whole) = std::thread::scope(|scope| {
        let whole = scope.spawn(|| check_whole(fetched, payload));
        let chunks = check_chunks(envelope, fetched, payload);
        (chunks, whole.join().unwrap_or(Err(Reason::ImageDigest.refused())))
    });
    chunks.and(whole)
}

fn check_chunks(envelope: &Envelope, fetched: &Fetched, payload: &[u8]) -> std::result::Result<(), Refused> {
    let Some((table, hashes)) = fetched.source.table.zip(hashes(envelope, fetched)?) else {
        return Ok(());
    };
    let mut chunks = payload.chunks(table.chunk_size.max(1) as usize).zip(hashes.chunks(32));
    match chunks.all(|(chunk, hash)| Sha256::of(chunk) == hash) {
        true => Ok(()),
        false => Err(Reason::ChunkDigest.refused()),
    }
}

fn check_whole(fetched: &Fetched, payload: &[u8]) -> std::result::Result<(), Refused> {
    if let Some(transport) = fetched.source.transport {
        check_hash(&transport.digest, payload, Reason::TransportDigest)?;
    }
    if fetched.is_plain() {
        check_hash(&fetched.digest, payload, Reason::ImageDigest)?;
    }
    Ok(())
}

fn check_hash(digest: &Digest, bytes: &[u8], wrong: Reason) -> std::result::Result<(), Refused> {
    match digest.algorithm {
        DigestAlgorithm::Sha256 if digest.hash == Sha256::of(bytes) => Ok(()),
        DigestAlgorithm::Sha256 => Err(wrong.refused()),
        DigestAlgorithm::Sha512 => Err(Reason::AuthDigestAlg.about("SHA-512 is not checked here")),
    }
}

/// An image inside the release is one that its device would start, and says what the manifest says.
fn check_image(
    name: &str,
    payload: &[u8],
    counter: Option<u32>,
    target: &Target,
    root: Option<&TrustRoot>,
) -> Result<()> {
    let verified = image::verify(payload, root.map_or(Authority::Nobody, Authority::Root)).map_err(|mut error| {
        error.what = error.what.replacen("the image", name, 1);
        error
    })?;
    let class = verified.vendor.as_ref() == Some(target.vendor) && verified.class.as_ref() == Some(target.class);
    match (verified.refused_by_devices, class, verified.counter) {
        (Some(reason), ..) => Err(Error::refused(name, reason)),
        (_, false, _) => Err(Error::refused(name, Reason::ImageClass)),
        (.., found) if found.is_none() || found != counter => Err(Error::refused(name, Reason::CounterMismatch)),
        _ if verified.image_len != payload.len() => Err(Error::refused(name, Reason::SizeMismatch)),
        _ => Ok(()),
    }
}

impl RoleState {
    /// The same for a person or a script, with the names of people.
    pub fn to_tree(&self, names: &Names) -> Tree {
        let list = |ids: &[KeyId]| names.labels(ids).into_iter().map(Tree::from).collect::<Vec<_>>();
        Tree::fields()
            .with("role", role_name(self.role))
            .with("needed", u64::from(self.threshold))
            .with("signed", list(&self.signed))
            .with("not signed", list(&self.unsigned))
    }
}

impl Verified {
    /// The same for a person or a script, with the names of people.
    pub fn to_tree(&self, names: &Names) -> Tree {
        let named = |id: &KeyId| match names.of(id) {
            Some(_) => Tree::from(names.label(id)),
            None => Tree::from(&id[..]),
        };
        let list = |ids: &[KeyId]| ids.iter().map(named).collect::<Vec<_>>();
        let roles = self.roles.iter().map(|role| {
            Tree::fields()
                .with("role", role_name(role.role))
                .with("signed", list(&role.signed))
                .with("needed", u64::from(role.threshold))
        });
        let ignored = self.signatures.iter().filter(|signature| signature.role.is_none());
        let ignored: Vec<Tree> = ignored.map(|signature| Tree::from(&signature.key[..])).collect();
        let targets = self.targets.iter().map(|target| {
            Tree::fields()
                .with("component", target.component.as_str())
                .with("from", target.uris.join(", "))
                .with(
                    "checked",
                    if target.complete {
                        "every byte"
                    } else {
                        "all but what is fetched elsewhere"
                    },
                )
        });
        Tree::fields()
            .with("verdict", "authentic and complete")
            .with("sequence", self.sequence)
            .with("digest", &self.digest[..])
            .with("roles", roles.collect::<Vec<_>>())
            .with_some(
                "signatures of keys unknown to this root",
                (!ignored.is_empty()).then_some(ignored),
            )
            .with("installs", targets.collect::<Vec<_>>())
    }
}

/// One line about what a release is and for whom, whoever signed it.
pub fn summary(envelope: &Envelope) -> Result<String> {
    let described = describe(envelope.head().manifest)?;
    Ok(format!("{described}, {} bytes", envelope.as_bytes().len()))
}

/// The same by its manifest alone.
pub(crate) fn describe(bytes: &[u8]) -> Result<String> {
    let mut room = vec![Target::EMPTY; TARGETS_MAX];
    let plan = manifest::decode(bytes, &Limits::LINUX, &mut room);
    let plan = plan.map_err(|refused| Error::refused("the release", refused))?;
    let version = plan
        .version
        .map(|version| version.parts().iter().map(u64::to_string).collect::<Vec<_>>().join("."));
    let class = plan.targets.first().map(|target| identity::text(target.class));
    Ok(format!(
        "sequence {}, version {}, for class {}",
        plan.sequence,
        version.as_deref().unwrap_or("not stated"),
        class.unwrap_or_default()
    ))
}
