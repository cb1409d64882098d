//! What a signer reads of an image before anything is asked: what it is, for whom, what differs from the last one, and who
//! signed it already.

use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{Role, RootFile};
use keys::{Error, Result};
use trust::{KeyId, TrustRoot};

use super::verify::{Pair, Parsed};
use crate::identity;
use crate::root::{Names, environment_name};
use crate::tree::Tree;
use crate::verify::{self, RoleState};

/// The roles whose keys sign images.
const IMAGE_ROLES: [Role; 2] = [Role::Image, Role::ImageSecond];

/// The statement about an image, which carries its hash and perhaps signatures. An image says for which vendor and class it
/// is, not for which slot: that is said by the release that brings it.
///
/// Errors: a device's reasons for an image (also the previous one) that it would not read.
pub fn statement(image: &[u8], root: Option<&TrustRoot>, previous: Option<&[u8]>, names: &Names) -> Result<Tree> {
    let now = Parsed::of(image)?;
    let id = |id: Option<Uuid>| id.map_or("not stated".into(), |id| identity::text(&id));
    let tree = Tree::fields()
        .with("what", "image")
        .with_some("product line", root.map(|root| identity::text(root.id())))
        .with("vendor", id(now.vendor))
        .with("class", id(now.class))
        .with("version", now.header.version.to_string())
        .with("security counter", counter(&now))
        .with("bytes of the firmware", u64::from(now.header.img_size))
        .with("digest", &now.digest[..]);
    let tree = match previous {
        Some(previous) => tree.with(
            "differs from the previous image",
            differences(&now, &Parsed::of(previous)?),
        ),
        None => tree.with(
            "differs from the previous image",
            "not compared: --previous was not given",
        ),
    };
    match root {
        Some(root) => Ok(tree.with("environment", environment_name(root.environment())).with(
            "so far",
            standing(&now, root)?
                .iter()
                .map(|role| role.to_tree(names))
                .collect::<Vec<_>>(),
        )),
        None => Ok(tree.with("environment", "unknown: no trust root was given")),
    }
}

/// The roles that an image needs under this root, and which of their keys signed. Errors: a device's reasons.
pub fn roles(image: &[u8], root: &TrustRoot) -> Result<Vec<RoleState>> {
    standing(&Parsed::of(image)?, root)
}

/// Refuses a signer whose signature on an image would not count under this root.
///
/// Errors: [`keys::Code::SignerRevoked`], [`keys::Code::SignerWithoutRole`].
pub fn may_sign(root: &TrustRoot, id: &KeyId, names: &Names) -> Result<()> {
    verify::may_sign_as(root, id, names, &IMAGE_ROLES, "images")
}

fn standing(image: &Parsed, root: &TrustRoot) -> Result<Vec<RoleState>> {
    let file =
        RootFile::decode(root.bytes(), &Limits::LINUX).map_err(|refused| Error::refused("trust root", refused))?;
    let signed_by = |id: &KeyId| {
        let key = root.entries().find(|entry| entry.id == id).and_then(|entry| entry.key);
        key.is_some_and(|key| image.pairs.iter().any(|pair| is_signed(pair, &key, &image.digest)))
    };
    Ok(verify::role_states(root, &file, file.root.image_roles, signed_by))
}

fn is_signed(pair: &Pair, key: &trust::PublicKey, digest: &[u8; 32]) -> bool {
    trust::image_key_hash(key) == Some(pair.key_hash) && pair.is_good(key, digest)
}

fn counter(image: &Parsed) -> String {
    image.counter.map_or("none".into(), |counter| counter.to_string())
}

/// A line for each thing that changed.
fn differences(now: &Parsed, was: &Parsed) -> Vec<Tree> {
    let id = |id: Option<Uuid>| id.map_or("not stated".into(), |id| identity::text(&id));
    let facts = |image: &Parsed| {
        [
            ("version", image.header.version.to_string()),
            ("security counter", counter(image)),
            ("bytes of the firmware", image.header.img_size.to_string()),
            ("vendor", id(image.vendor)),
            ("class", id(image.class)),
            ("load address", format!("{:#x}", image.header.load_addr)),
            ("digest", crate::tree::hex(&image.digest)),
        ]
    };
    let changed = facts(was).into_iter().zip(facts(now)).filter(|(was, now)| was != now);
    changed
        .map(|((name, was), (_, now))| Tree::from(format!("{name}: {was} -> {now}")))
        .collect()
}
