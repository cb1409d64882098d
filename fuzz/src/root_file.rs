//! Trust roots, revocation lists, time files: what is accepted can be read to the last entry.

use codec::cbor;
use codec::cose::Sign1;
use codec::limits::Limits;
use codec::roots::{AnchorPurpose, FileKind, RevokeFile, Role, Root, RootFile, TimeFile, write_file};

/// Any bytes as each kind of file.
pub fn run(data: &[u8]) {
    if let Ok(file) = RootFile::decode(data, &Limits::MCU) {
        root(&file.root);
        framed(
            data,
            FileKind::Root,
            file.content,
            file.blocks.map(|block| block.expect("checked")),
        );
    }
    if let Ok(file) = RevokeFile::decode(data, &Limits::MCU) {
        assert_eq!(file.revoked.iter().count(), file.revoked.len());
        file.min_sequences
            .iter()
            .for_each(|(class, least)| assert_eq!(file.min_sequences.of_class(class), least));
        framed(
            data,
            FileKind::Revoke,
            file.content,
            file.blocks.map(|block| block.expect("checked")),
        );
    }
    if let Ok(file) = TimeFile::decode(data, &Limits::MCU) {
        framed(
            data,
            FileKind::Time,
            file.content,
            file.blocks.map(|block| block.expect("checked")),
        );
    }
}

/// The frame is written again as the same bytes.
fn framed<'a>(data: &[u8], kind: FileKind, content: &[u8], blocks: impl Iterator<Item = Sign1<'a>>) {
    assert_eq!(FileKind::of(data), Some(kind));
    let blocks: Vec<Sign1<'_>> = blocks.collect();
    let mut again = vec![0; data.len()];
    assert_eq!(
        cbor::encode(&mut again, |w| write_file(w, kind, content, &blocks)),
        Ok(data)
    );
}

/// What section 13 promises of a root that is consistent in itself.
fn root(root: &Root<'_>) {
    assert!(root.version >= 1);
    assert_eq!(root.keys.iter().count(), root.keys.len());
    assert_eq!(root.revoked.iter().count(), root.revoked.len());
    for entry in root.keys.iter() {
        assert_eq!(root.roles.iter().filter(|def| def.keys.contains(entry.id)).count(), 1);
    }
    for def in root.roles.iter() {
        assert!((1..=def.keys.len()).contains(&usize::from(def.threshold)));
        assert!(def.keys.iter().all(|id| root.keys.get(id).is_some()));
    }
    let defined = root.roles.defined();
    assert!(root.delivery_roles.iter().all(|role| defined.contains(role)));
    assert!(root.delivery_roles.contains(Role::Release) && root.image_roles.contains(Role::Image));
    for (class, least) in root.min_sequences.iter() {
        assert_eq!(root.min_sequences.of_class(class), least);
    }
    assert!(root.anchors.of_purpose(AnchorPurpose::ServerCa).count() <= 4);
}
