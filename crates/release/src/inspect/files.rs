//! Trust roots, lists, time files, keys, board files and recipes.

use codec::Refused;
use codec::cose::{Blocks, KeyId, PublicKey, Sign1};
use codec::limits::Limits;
use codec::plan::Uuid;
use codec::roots::{FileKind, KeyIds, KeyMaterial, MinSequences, RevokeFile, Role, RoleSet, RootFile, TimeFile};
use keys::Result;
use trust::{TrustRoot, thumbprint};

use super::suit::{algorithm, named};
use crate::board::Board;
use crate::identity;
use crate::root::{environment_name, role_name};
use crate::tree::Tree;

/// One signed file of the trust root family; `None` when it is another kind of item.
pub(super) fn signed(item: &[u8]) -> Option<Tree> {
    let kind = FileKind::of(item)?;
    let explained = match kind {
        FileKind::Root => RootFile::decode(item, &Limits::LINUX).map(|file| root(item, &file)),
        FileKind::Revoke => RevokeFile::decode(item, &Limits::LINUX).map(|file| revoke(&file)),
        FileKind::Time => TimeFile::decode(item, &Limits::LINUX).map(|file| time(&file)),
    };
    Some(explained.unwrap_or_else(|refused| {
        let name = match kind {
            FileKind::Root => "trust root",
            FileKind::Revoke => "revocation list",
            FileKind::Time => "time file",
        };
        Tree::fields().with("kind", name).with("refused", refused.to_string())
    }))
}

fn root(bytes: &[u8], file: &RootFile) -> Tree {
    let root = &file.root;
    let roles = root.roles.iter().map(|def| {
        let keys = def.keys.iter().map(|id| match root.keys.get(id) {
            Some(entry) => key_entry(id, entry.material),
            None => Tree::fields().with("id", &id[..]),
        });
        Tree::fields()
            .with("role", role_name(def.role))
            .with("threshold", u64::from(def.threshold))
            .with("keys", keys.collect::<Vec<_>>())
    });
    let signer = |block: &Sign1| match root.roles.role_of(block.kid) {
        Some(Role::Root) => "root key of this file".into(),
        Some(other) => format!("{} key of this file: not counted", role_name(other)),
        None => "key of another root".into(),
    };
    Tree::fields()
        .with("kind", "trust root")
        .with("bytes", bytes.len())
        .with("version", root.version)
        .with("root id", identity::text(root.id))
        .with("environment", environment_name(root.environment))
        .with_some("expires", root.expires.map(moment))
        .with("a delivery needs", role_set(root.delivery_roles))
        .with(
            "an image needs",
            image_roles(root.image_roles, root.roles.get(Role::Image).is_some()),
        )
        .with("roles", roles.collect::<Vec<_>>())
        .with_some("revoked", ids(&root.revoked))
        .with_some("minimum sequences", minima(&root.min_sequences))
        .with("signatures", blocks(file.blocks, signer))
        .with("own threshold", verdict(own_threshold(bytes)))
}

fn own_threshold(bytes: &[u8]) -> std::result::Result<(), Refused> {
    TrustRoot::parse(bytes, &Limits::LINUX, &trust::PORTABLE)?.verify_self(&trust::PORTABLE)
}

fn verdict(checked: std::result::Result<(), Refused>) -> String {
    match checked {
        Ok(()) => "reached: enough of its own root keys signed it".into(),
        Err(refused) => refused.to_string(),
    }
}

fn image_roles(needed: RoleSet, defined: bool) -> String {
    if defined {
        role_set(needed)
    } else {
        "role image, which this root does not define: nothing can boot".into()
    }
}

fn role_set(roles: RoleSet) -> String {
    roles.iter().map(role_name).collect::<Vec<_>>().join(" and ")
}

fn key_entry(id: &KeyId, material: KeyMaterial) -> Tree {
    let tree = Tree::fields().with("id", &id[..]);
    match material {
        KeyMaterial::Raw(key) => {
            let tree = tree.with("algorithm", named(key.algorithm(), algorithm));
            let tree = if thumbprint(&key) == *id {
                tree
            } else {
                tree.with("id is wrong", true)
            };
            let sample = trust::image_key_hash(&key).and_then(|hash| keys::sample::published_name(&hash));
            public(tree, &key).with_some("everybody has this key", sample)
        }
        KeyMaterial::Authority(der) => tree.with("authority certificate", der),
    }
}

fn public(tree: Tree, key: &PublicKey) -> Tree {
    match key {
        PublicKey::Ed25519 { x } => tree.with("x", &x[..]),
        PublicKey::P256 { x, y } => tree.with("x", &x[..]).with("y", &y[..]),
        PublicKey::MlDsa { public, .. } | PublicKey::HssLms { public } => tree.with("public", *public),
    }
}

fn revoke(file: &RevokeFile) -> Tree {
    Tree::fields()
        .with("kind", "revocation list")
        .with("number", file.number)
        .with("root id", identity::text(file.root_id))
        .with_some("revoked", ids(&file.revoked))
        .with_some("minimum sequences", minima(&file.min_sequences))
        .with("signatures", blocks(file.blocks, |_| "verify with a root".into()))
}

fn time(file: &TimeFile) -> Tree {
    Tree::fields()
        .with("kind", "time file")
        .with("not before", moment(file.seconds))
        .with("root id", identity::text(file.root_id))
        .with("signatures", blocks(file.blocks, |_| "verify with a root".into()))
}

fn blocks(blocks: Blocks, signer: impl Fn(&Sign1) -> String) -> Vec<Tree> {
    let explain = |block: Sign1| {
        Tree::fields()
            .with("key", &block.kid[..])
            .with("algorithm", named(block.algorithm, algorithm))
            .with("by", signer(&block))
            .with("signature", block.signature)
    };
    blocks.filter_map(|block| block.ok()).map(explain).collect()
}

fn ids(ids: &KeyIds) -> Option<Vec<Tree>> {
    (!ids.is_empty()).then(|| ids.iter().map(|id| Tree::from(&id[..])).collect())
}

fn minima(minima: &MinSequences) -> Option<Vec<Tree>> {
    let class = |(class, minimum): (&Uuid, u64)| {
        Tree::fields()
            .with("class id", identity::text(class))
            .with("sequence", minimum)
    };
    let list: Vec<Tree> = minima.iter().map(class).collect();
    (!list.is_empty()).then_some(list)
}

/// Seconds since 1970 and the date they mean.
pub fn moment(seconds: u64) -> String {
    format!("{} ({seconds})", crate::time::utc(seconds))
}

/// A key, board file or recipe; `None` for other text.
pub(super) fn text(text: &str) -> Option<Result<Tree>> {
    if text.contains("-----BEGIN ") {
        return Some(key(text));
    }
    let table: toml::Table = text.parse().ok()?;
    if table.contains_key("board") {
        return Some(Board::parse(text, "board file").map(|board| board_file(&board)));
    }
    let recipe = table.contains_key("release") && table.contains_key("component");
    recipe.then(|| Ok(with_table(Tree::fields().with("kind", "recipe"), &table)))
}

fn key(pem: &str) -> Result<Tree> {
    if pem.contains("PRIVATE KEY-----") {
        let encrypted = pem.contains("ENCRYPTED PRIVATE KEY-----");
        let what = if encrypted {
            "private key, encrypted"
        } else {
            "private key, NOT encrypted"
        };
        return Ok(Tree::fields()
            .with("kind", what)
            .with("more", "`ampoule key show` prints its public half"));
    }
    let key = keys::PublicKey::from_pem(pem)?;
    let tree = Tree::fields()
        .with("kind", "public key")
        .with("algorithm", named(key.algorithm().cose(), algorithm))
        .with("id", &key.thumbprint()[..])
        .with("id in images", &key.image_key_hash()[..]);
    Ok(public(tree, &key.borrow()).with_some("everybody has this key", key.published_sample()))
}

fn board_file(board: &Board) -> Tree {
    let vendor = identity::vendor_id(&board.vendor_domain);
    Tree::fields()
        .with("kind", "board file")
        .with("name", board.name.as_str())
        .with(
            "vendor",
            format!("{} ({})", board.vendor_domain, identity::text(&vendor)),
        )
        .with(
            "model",
            format!(
                "{} ({})",
                board.model,
                identity::text(&identity::class_id(&vendor, &board.model))
            ),
        )
        .with(
            "root id",
            identity::text(&identity::root_id(&vendor, &board.product_line)),
        )
        .with("slot bytes", board.slot_size)
        .with("longest image bytes", board.image_max)
        .with("header bytes", u32::from(board.header_size))
        .with("write unit bytes", board.write_size)
        .with("head limit", board.limits.head_max)
        .with("manifest limit", board.limits.manifest_max)
        .with("chunk limit", board.limits.chunk_max)
        .with("root limit", board.limits.root_max)
}

fn with_table(tree: Tree, table: &toml::Table) -> Tree {
    table
        .iter()
        .fold(tree, |tree, (name, value)| tree.with(name, toml_value(value)))
}

fn toml_value(value: &toml::Value) -> Tree {
    match value {
        toml::Value::String(text) => Tree::from(text.as_str()),
        toml::Value::Boolean(flag) => Tree::from(*flag),
        toml::Value::Integer(number) => u64::try_from(*number).map_or_else(|_| number.to_string().into(), Tree::from),
        toml::Value::Array(items) => Tree::List(items.iter().map(toml_value).collect()),
        toml::Value::Table(table) => with_table(Tree::fields(), table),
        other => Tree::Text(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z (0)");
        assert_eq!(moment(951_782_399), "2000-02-28T23:59:59Z (951782399)");
        assert_eq!(moment(951_868_800), "2000-03-01T00:00:00Z (951868800)");
        assert_eq!(moment(1_893_456_000), "2030-01-01T00:00:00Z (1893456000)");
    }
}
