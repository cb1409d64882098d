//! The life of a root in the library: what chains hold, what is refused before anybody signs, keys under two ids.

use ampoule_release as release;
use codec::limits::{Limits, ROOT_BLOCKS_MAX};
use codec::roots::{Environment, FileKind, Role};
use keys::file::{FileKey, generate};
use keys::{Code, PublicKey, Result, SignatureAlgorithm, Signer};
use release::root::content::Material;
use release::root::safety::{self, Conditions};
use release::root::{Chain, Content, Names, Proposal, RoleSpec, RootSpec, difference};
use trust::TrustRoot;

fn keys(count: usize) -> Vec<FileKey> {
    (0..count)
        .map(|_| generate(SignatureAlgorithm::Ed25519).unwrap())
        .collect()
}

fn role(role: Role, threshold: u8, keys: &[FileKey]) -> RoleSpec {
    let keys = keys
        .iter()
        .map(|key| key.public_key().clone())
        .collect::<Vec<PublicKey>>();
    RoleSpec { role, threshold, keys }
}

fn content(root: &[FileKey], threshold: u8, rest: &[FileKey]) -> Content {
    let spec = RootSpec {
        vendor_domain: "example.com".into(),
        product_line: "demo".into(),
        environment: Environment::Development,
        expires: None,
        roles: vec![
            role(Role::Root, threshold, root),
            role(Role::Release, 1, &rest[..1]),
            role(Role::Image, 1, &rest[1..2]),
        ],
    };
    spec.content().unwrap()
}

fn signed(content: &Content, signers: &[&FileKey]) -> Vec<u8> {
    let proposal = Proposal::new(FileKind::Root, content.encode(), &Limits::LINUX).unwrap();
    let signed = signers
        .iter()
        .try_fold(proposal, |proposal, signer| proposal.sign(*signer));
    signed.unwrap().to_bytes()
}

fn check(new: &Content, old: &Content, limits: Limits) -> Result<Vec<String>> {
    let conditions = Conditions {
        limits,
        algorithms: None,
        now: 1_800_000_000,
    };
    safety::check(new, Some(old), &conditions, &Names::default())
}

#[test]
fn a_chain_is_as_long_as_a_device_walks_and_no_longer() {
    let (root, rest) = (keys(1), keys(2));
    let mut now = content(&root, 1, &rest);
    let mut chain = Chain::of(&[signed(&now, &[&root[0]])]).unwrap();
    for step in 0..=Limits::MCU.root_steps_max {
        now.version += 1;
        let next = chain.append(&signed(&now, &[&root[0]]), &Limits::MCU, &Names::default());
        if step < Limits::MCU.root_steps_max {
            chain = next.unwrap().0;
        } else {
            let refused = next.unwrap_err();
            assert_eq!(
                (refused.number, refused.what.contains("ROOT_STEPS_MAX")),
                (105, true),
                "{refused}"
            );
        }
    }
    let walked = chain.verify(None, &Limits::MCU, &Names::default()).unwrap();
    assert_eq!(
        (walked.first, walked.last),
        (1, u64::from(Limits::MCU.root_steps_max) + 1)
    );
    assert_eq!(Chain::parse(&chain.to_bytes()).unwrap(), chain);
}

/// What a file is called says nothing: the version is that of the content, and two contents are not one version.
#[test]
fn a_chain_is_put_together_by_content_and_not_by_name() {
    let (root, rest) = (keys(1), keys(2));
    let mut now = content(&root, 1, &rest);
    let mut files = Vec::new();
    for version in 1..=3 {
        now.version = version;
        files.push(signed(&now, &[&root[0]]));
    }
    let chain = Chain::of(&files).unwrap();
    let backwards: Vec<_> = files.iter().rev().cloned().collect();
    assert_eq!(Chain::of(&backwards).unwrap(), chain);
    assert_eq!(chain.to_bytes(), files.concat());
    now.expires = Some(1_893_456_000);
    let other_third = signed(&now, &[&root[0]]);
    let refused = Chain::of(&[&files[..], &[other_third]].concat()).unwrap_err();
    assert!(refused.is(Code::ChainBroken), "{refused}");
    // A gap is found when it is verified, whatever the files were called.
    let gap = Chain::of(&[files[0].clone(), files[2].clone()]).unwrap();
    let refused = gap.verify(None, &Limits::MCU, &Names::default()).unwrap_err();
    assert_eq!(refused.number, 803, "{refused}");
}

#[test]
fn a_root_that_would_need_more_signatures_than_a_file_holds_is_refused() {
    let (old_keys, new_keys, rest) = (keys(9), keys(9), keys(2));
    let old = content(&old_keys, 9, &rest);
    let mut new = content(&new_keys, 9, &rest);
    new.version = 2;
    const { assert!(18 > ROOT_BLOCKS_MAX) };
    assert!(check(&new, &old, Limits::LINUX).unwrap_err().is(Code::RootUnsignable));
    // With one old threshold lower there is room, if the file may be as long.
    let old = content(&old_keys, 7, &rest);
    let notes = check(&new, &old, Limits::LINUX).unwrap();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("keeps none of the previous root's root keys"))
    );
    let small = Limits {
        root_max: 2048,
        ..Limits::MCU
    };
    assert_eq!(check(&new, &old, small).unwrap_err().number, 105);
}

#[test]
fn one_key_under_two_ids_is_no_root_and_signs_once() {
    let (root, rest) = (keys(2), keys(2));
    let honest = content(&root, 2, &rest);
    let [one, _] = [0, 1].map(|i: usize| root[i].public_key().thumbprint());
    // The second root key is the first one again, under an id that is not its own.
    let mut forged = honest.clone();
    let material = forged.keys[&one].clone();
    let other = root[1].public_key().thumbprint();
    forged.keys.insert(other, material);
    let refused = Proposal::new(FileKind::Root, forged.encode(), &Limits::LINUX).unwrap_err();
    assert_eq!(refused.number, 806);
    let proposal = Proposal::new(FileKind::Root, honest.encode(), &Limits::LINUX).unwrap();
    let once = proposal.sign(&root[0]).unwrap();
    assert!(once.sign(&root[0]).unwrap_err().is(Code::SameKeyTwice));
    assert_eq!(once.join(&once).unwrap(), once);
}

#[test]
fn content_survives_the_way_there_and_back_and_differences_are_told() {
    let (root, rest) = (keys(3), keys(2));
    let mut all = content(&root, 2, &rest);
    all.expires = Some(1_893_456_000);
    all.revoked.insert([7; 32]);
    all.min_sequences.insert([9; 16], 12);
    all.anchors.insert(2, vec![vec![0x30, 0x00]]);
    let file = signed(&all, &[&root[0], &root[1]]);
    let read = Proposal::read(&file).unwrap();
    assert_eq!(read.root().unwrap(), all);
    assert_eq!(read.to_bytes(), file);
    assert!(TrustRoot::parse(&file, &Limits::MCU, &trust::PORTABLE).is_ok());
    assert!(all.keys.values().all(|key| matches!(key, Material::Raw(_))));
    assert_eq!(difference(Some(&all), &all, &Names::default()), Vec::<String>::new());
    let mut next = all.clone();
    next.min_sequences.insert([9; 16], 11);
    assert_eq!(check(&next, &all, Limits::MCU).unwrap_err().number, 809);
    let told = difference(Some(&all), &next, &Names::default());
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with(": 12 -> 11"), "{}", told[0]);
}
