//! Who signed a release, and whether this device may install it (profile sections 4, 11, 12 and 17).

mod common;

use ampoule_trust::alg::PortableP256;
use ampoule_trust::{
    Admitted, Algorithms, Authentic, ComponentView, DeviceView, DomainView, PORTABLE, Role, Sha256, Standing, TrustRoot,
};
use codec::cose::{ALG_ESP256, Chain, write_protected};
use codec::limits::Limits;
use codec::plan::{
    ChunkHashes, ChunkTable, Comparison, ComponentId, Content, Digest, DigestAlgorithm, Format, Plan, Source, Stage,
    Step, Target, Uuid, Variant, Variants, Version, VersionRule,
};
use codec::suit::{Head, encode::write_manifest, head};
use codec::{Reason, Refused};
use common::*;

const IMAGE_HASH: [u8; 32] = [0xab; 32];
const TABLE: [u8; 32] = [0xcd; 32];

/// A plan to be changed by a test.
fn target() -> Target<'static> {
    static APP: &[&[u8]] = &[b"app"];
    let variant = Variant {
        slot: None,
        digest: Digest {
            algorithm: DigestAlgorithm::Sha256,
            hash: &IMAGE_HASH,
        },
        size: 1000,
        content: Content {
            format: Format::McubootImage,
            counter: Some(3),
            min_engine: None,
        },
        source: Some(source()),
    };
    Target {
        id: ComponentId::new(APP).unwrap(),
        vendor: &VENDOR,
        class: &CLASS,
        device: None,
        version_rule: None,
        variants: Variants::new(&[variant]).unwrap(),
        step: Step::Fetch,
    }
}

fn source() -> Source<'static> {
    Source {
        uri: "#app.bin",
        ordinal: 0,
        compression: None,
        table: Some(ChunkTable {
            chunk_size: 1024,
            hashes: ChunkHashes::Inline(&TABLE),
        }),
        transport: None,
        encryption: None,
    }
}

/// The target with its only variant changed.
fn variant(change: impl FnOnce(&mut Variant<'static>)) -> Target<'static> {
    let mut target = target();
    let mut variant = target.variants.as_slice()[0];
    change(&mut variant);
    target.variants = Variants::new(&[variant]).unwrap();
    target
}

fn manifest(sequence: u64, targets: &[Target]) -> Vec<u8> {
    let plan = Plan {
        domain: ComponentId::EMPTY,
        sequence,
        version: None,
        reference_uri: None,
        targets,
        text_digest: None,
    };
    encoded(|w| write_manifest(w, &plan))
}

/// An encoded digest, as signed, of this manifest.
fn signed_digest(manifest: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let digest = Sha256::of_parts(&[head::value_header(manifest.len()).as_slice(), manifest]);
    let encoded = encoded(|w| {
        w.array(2).int(-16).bytes(&digest);
    });
    (encoded, digest)
}

fn head_of(manifest: &[u8], blocks: &[Block]) -> Vec<u8> {
    let (_, digest) = signed_digest(manifest);
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(|block| block.kid);
    let blocks: Vec<_> = blocks.iter().map(Block::sign1).collect();
    let digest = Digest {
        algorithm: DigestAlgorithm::Sha256,
        hash: &digest,
    };
    encoded(|w| head::write_head(w, 0, &digest, &blocks, manifest))
}

fn release(manifest: &[u8], signers: &[&Key]) -> Vec<u8> {
    let (signed, _) = signed_digest(manifest);
    head_of(
        manifest,
        &signers.iter().map(|key| key.block(b"", &signed)).collect::<Vec<_>>(),
    )
}

fn root_of(spec: &RootSpec) -> Vec<u8> {
    spec.signed(&[&keys().root[0]])
}

fn with_verified<T>(
    root: &TrustRoot,
    release: &[u8],
    algorithms: &Algorithms,
    then: impl FnOnce(Authentic<Plan>) -> Result<T, Refused>,
) -> Result<T, Reason> {
    let inner = || {
        let head = Head::decode(release, &Limits::MCU)?;
        let mut room = [Target::EMPTY; 8];
        then(root.verify(&head, algorithms, &Limits::MCU, &mut room)?)
    };
    inner().map_err(|refused| refused.reason)
}

/// The roles and ids that were counted.
fn verify_with(spec: &RootSpec, release: &[u8], algorithms: &Algorithms) -> Result<Vec<(Role, [u8; 32])>, Reason> {
    let root_bytes = root_of(spec);
    let root = TrustRoot::parse(&root_bytes, &Limits::MCU, &PORTABLE).unwrap();
    with_verified(&root, release, algorithms, |authentic| {
        Ok(authentic
            .signers()
            .as_slice()
            .iter()
            .map(|signer| (signer.role, signer.id))
            .collect())
    })
}

fn verify(spec: &RootSpec, release: &[u8]) -> Result<usize, Reason> {
    verify_with(spec, release, &PORTABLE).map(|signers| signers.len())
}

/// Profile section 18: the example root verifies the examples (a), (c), (d) and (e).
#[test]
fn the_profile_s_examples() {
    let root_bytes = hex(include_str!("../../../vectors/profile/root-1.hex"));
    let root = TrustRoot::parse(&root_bytes, &Limits::MCU, &PORTABLE).unwrap();
    root.verify_self(&PORTABLE).unwrap();
    let thumbprint = hex("866eefbd6718c8846cd7ddfe43fc74ab1daac4538ff8514ea2ec2d410a415743");
    for (name, example, sequence, digest) in [
        (
            "a",
            include_str!("../../../vectors/profile/a-one-component.hex"),
            7,
            "7e6e8c98996f39efaba18f0827504013694392186036e9dea9abb43d111ed90d",
        ),
        (
            "c",
            include_str!("../../../vectors/profile/c-slots.hex"),
            10,
            "707533a8a339150e3dd42cc8f07c7c9f8addbeca5e968802d6b6c9f3acd37cad",
        ),
        (
            "d",
            include_str!("../../../vectors/profile/d-delta.hex"),
            8,
            "464a7fe3ad06c53732e67d554e3c384d55382b82863365c35a499865ba89720e",
        ),
        (
            "e",
            include_str!("../../../vectors/profile/e-encrypted.hex"),
            9,
            "c848c072939a3b30f1c61f150227378a70ffea83c41fbd0b2cd4a1a03d1ef666",
        ),
    ] {
        let file = hex(example);
        let verified = with_verified(&root, &file, &PORTABLE, |authentic| {
            assert_eq!(authentic.get().sequence, sequence);
            assert_eq!(authentic.digest()[..], hex(digest)[..]);
            let signers = authentic.signers().as_slice();
            assert_eq!(signers.len(), 1);
            assert_eq!((signers[0].role, &signers[0].id[..]), (Role::Release, &thumbprint[..]));
            Ok(())
        });
        assert_eq!(verified, Ok(()), "{name}");
        // Every bit of the head counts; behind it nothing has been looked at yet.
        let head_len = Head::decode(&file, &Limits::MCU).unwrap().len;
        for at in 0..head_len {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                let outcome = with_verified(&root, &bad, &PORTABLE, |_| Ok(()));
                // The count of members that follow is in the head, is not signed, and is checked while they are read.
                assert!(outcome.is_err() || at == 2, "{name}: byte {at} bit {bit}");
            }
        }
        for len in 0..head_len {
            assert!(with_verified(&root, &file[..len], &PORTABLE, |_| Ok(())).is_err());
        }
    }
}

/// 212: the digest is of the manifest with its header, and comes before any signature.
#[test]
fn the_digest_comes_first() {
    let keys = keys();
    let spec = root_spec(&keys);
    let good = release(&manifest(7, &[target()]), &[&keys.release[0]]);
    assert_eq!(verify(&spec, &good), Ok(1));
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&spec, &changed), Err(Reason::AuthDigest));
    // Even with a wrong signature, and by nobody known.
    let manifest = manifest(7, &[target()]);
    let (signed, _) = signed_digest(&manifest);
    let mut both = head_of(&manifest, &[keys.release[0].block(b"", &signed).damaged()]);
    *both.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&spec, &both), Err(Reason::AuthDigest));
}

/// 211: SHA-512 is for devices whose policy lists it; none does yet.
#[test]
fn sha512_is_not_listed() {
    let keys = keys();
    let manifest = manifest(7, &[target()]);
    let digest = Digest {
        algorithm: DigestAlgorithm::Sha512,
        hash: &[1; 64],
    };
    let signed = encoded(|w| {
        w.array(2).int(-44).bytes(digest.hash);
    });
    let block = keys.release[0].block(b"", &signed);
    let file = encoded(|w| head::write_head(w, 0, &digest, &[block.sign1()], &manifest));
    assert_eq!(verify(&root_spec(&keys), &file), Err(Reason::AuthDigestAlg));
}

/// The manifest's inside is not looked at before the signatures.
#[test]
fn signatures_before_the_manifest() {
    let keys = keys();
    let spec = root_spec(&keys);
    let garbage = vec![0xa1, 0x01, 0x07];
    assert_eq!(
        verify(&spec, &release(&garbage, &[&keys.stranger])),
        Err(Reason::AuthThreshold)
    );
    assert!(matches!(
        verify(&spec, &release(&garbage, &[&keys.release[0]])),
        Err(Reason::ManVersion | Reason::ManKeyMissing)
    ));
}

/// The counting rule, point by point.
#[test]
fn counting() {
    let keys = keys();
    let [a, b] = &keys.release;
    let one = root_spec(&keys);
    let two = root_spec(&keys).role(Role::Release, 2, &[a, b]);
    let manifest = manifest(7, &[target()]);
    let (signed, _) = signed_digest(&manifest);
    let block = |key: &Key| key.block(b"", &signed);
    let head = |blocks: &[Block]| head_of(&manifest, blocks);
    // 1. Duplicates and order.
    assert_eq!(verify(&one, &head(&[block(a), block(a)])), Err(Reason::AuthBlockOrder));
    assert_eq!(verify(&two, &head(&[block(b), block(b)])), Err(Reason::AuthBlockOrder));
    // 2. Strangers and other roles are ignored, even when wrong.
    for other in [
        &keys.stranger,
        &keys.root[0],
        &keys.image[0],
        &keys.image[1],
        &keys.revoke,
    ] {
        assert_eq!(verify(&one, &head(&[block(other)])), Err(Reason::AuthThreshold));
        assert_eq!(verify(&one, &head(&[block(a), block(other).damaged()])), Ok(1));
    }
    // 3. The block's algorithm is the key's, or the file is refused, whatever the signature.
    assert_eq!(
        verify(&one, &head(&[block(a).naming(ALG_ESP256)])),
        Err(Reason::AuthAlgMismatch)
    );
    assert_eq!(
        verify(&one, &head(&[block(b).naming(-19), block(a)])),
        Err(Reason::AuthAlgMismatch)
    );
    for unsupported in [-7, -8, 5, -48, -65535] {
        assert_eq!(
            verify(&one, &head(&[block(a).naming(unsupported)])),
            Err(Reason::AuthAlgMismatch)
        );
        assert_eq!(
            verify(&one, &head(&[block(a), block(&keys.stranger).naming(unsupported)])),
            Ok(1)
        );
    }
    // An algorithm that the device does not have: ignored and not counted.
    let p256 = Algorithms::new(&[&PortableP256]);
    assert_eq!(
        verify_with(&one, &head(&[block(a).damaged(), block(b)]), &p256),
        Ok(vec![(Role::Release, b.id())])
    );
    assert_eq!(verify_with(&one, &head(&[block(a)]), &p256), Err(Reason::AuthThreshold));
    // 4. A wrong signature of a known key refuses the file, whoever else signed.
    assert_eq!(
        verify(&one, &head(&[block(a), block(b).damaged()])),
        Err(Reason::AuthSignature)
    );
    assert_eq!(verify(&one, &head(&[block(a).damaged()])), Err(Reason::AuthSignature));
    assert_eq!(
        verify(&one, &head(&[block(&keys.distribute).damaged(), block(a)])),
        Err(Reason::AuthSignature)
    );
    for length in [0, 63, 65] {
        let mut cut = block(a);
        cut.signature.resize(length, 0);
        assert_eq!(verify(&one, &head(&[cut])), Err(Reason::AuthSignature));
    }
    // Another file's signature of the same content: the context is part of what is signed.
    assert_eq!(
        verify(&one, &head(&[a.block(b"AMP-ROOT-1", &signed)])),
        Err(Reason::AuthSignature)
    );
    // 5. and 6. Sets and thresholds.
    assert_eq!(verify(&two, &head(&[block(a)])), Err(Reason::AuthThreshold));
    assert_eq!(
        verify(&two, &head(&[block(a), block(&keys.distribute)])),
        Err(Reason::AuthThreshold)
    );
    assert_eq!(verify(&two, &head(&[block(a), block(b)])), Ok(2));
    assert_eq!(
        verify(
            &one,
            &head(&[block(a), block(b), block(&keys.distribute), block(&keys.stranger)])
        ),
        Ok(3)
    );
}

/// Root key 6: all of the roles that it lists.
#[test]
fn required_roles() {
    let keys = keys();
    let [a, ..] = &keys.release;
    let manifest = manifest(7, &[target()]);
    let sign = |signers: &[&Key]| release(&manifest, signers);
    let mut spec = root_spec(&keys).role(Role::ReleaseSecond, 1, &[&keys.second]);
    assert_eq!(verify(&spec, &sign(&[a])), Ok(1));
    spec.delivery = vec![Role::Release, Role::Distribute];
    assert_eq!(verify(&spec, &sign(&[a])), Err(Reason::AuthThreshold));
    assert_eq!(verify(&spec, &sign(&[&keys.distribute])), Err(Reason::AuthThreshold));
    assert_eq!(verify(&spec, &sign(&[a, &keys.distribute])), Ok(2));
    spec.delivery = vec![Role::Release, Role::Distribute, Role::ReleaseSecond];
    assert_eq!(verify(&spec, &sign(&[a, &keys.distribute])), Err(Reason::AuthThreshold));
    assert_eq!(verify(&spec, &sign(&[a, &keys.distribute, &keys.second])), Ok(3));
}

/// Revoked by the root or by a list: ignored, and below the threshold nothing is accepted (profile section 15).
#[test]
fn revoked_keys() {
    let keys = keys();
    let [a, b] = &keys.release;
    let manifest = manifest(7, &[target()]);
    let mut spec = root_spec(&keys);
    spec.revoked = vec![a.id()];
    assert_eq!(verify(&spec, &release(&manifest, &[a])), Err(Reason::AuthThreshold));
    assert_eq!(verify(&spec, &release(&manifest, &[a, b])), Ok(1));
    let (signed, _) = signed_digest(&manifest);
    let damaged = [a.block(b"", &signed).damaged(), b.block(b"", &signed)];
    assert_eq!(
        verify(&spec, &head_of(&manifest, &damaged)),
        Ok(1),
        "ignored, not refused"
    );

    let root_bytes = root_of(&root_spec(&keys));
    let root = TrustRoot::parse(&root_bytes, &Limits::MCU, &PORTABLE).unwrap();
    let list = list(1, &[a.id(), b.id()], &[], &[&keys.revoke]);
    let listed = root.with_list(root.verify_list(&list, &Limits::MCU, &PORTABLE).unwrap());
    let file = release(&manifest, &[a, b]);
    assert_eq!(with_verified(&root, &file, &PORTABLE, |_| Ok(())), Ok(()));
    assert_eq!(
        with_verified(&listed, &file, &PORTABLE, |_| Ok(())),
        Err(Reason::AuthThreshold)
    );
}

/// A block under a certificate names nobody that this device knows: neither its kid's raw key nor anything else counts.
#[test]
fn certificate_chains_are_ignored() {
    let keys = keys();
    let [a, b] = &keys.release;
    let manifest = manifest(7, &[target()]);
    let (signed, _) = signed_digest(&manifest);
    let chain = Chain {
        leaf: b"not even DER",
        intermediate: None,
    };
    let protected = encoded(|w| write_protected(w, -19, &a.id(), Some(chain)));
    let structure = codec::cose::SigStructure::new(&protected, b"", &signed)
        .parts()
        .concat();
    let block = Block {
        kid: a.id(),
        algorithm: -19,
        signature: a.sign(&structure),
        protected,
    };
    let spec = root_spec(&keys);
    assert_eq!(
        verify(&spec, &head_of(&manifest, core::slice::from_ref(&block))),
        Err(Reason::AuthThreshold)
    );
    assert_eq!(
        verify(&spec, &head_of(&manifest, &[block, b.block(b"", &signed)])),
        Ok(1)
    );
}

/// A device as the tests want it.
#[derive(Clone)]
struct Device {
    component: Option<ComponentView>,
    domain: DomainView,
    trial: bool,
    require_table: bool,
}

impl Device {
    fn new() -> Self {
        let component = ComponentView {
            vendor: VENDOR,
            class: CLASS,
            device: None,
            version: None,
            counter_floor: 3,
        };
        Device {
            component: Some(component),
            domain: DomainView::default(),
            trial: false,
            require_table: true,
        }
    }

    fn with(change: impl FnOnce(&mut Device, &mut ComponentView)) -> Self {
        let mut device = Device::new();
        let mut component = device.component.unwrap();
        change(&mut device, &mut component);
        device.component = device.component.map(|_| component);
        device
    }
}

impl DeviceView for Device {
    fn component(&self, id: &ComponentId<'_>) -> Option<ComponentView> {
        self.component.filter(|_| id.parts() == [b"app"])
    }

    fn domain(&self, id: &ComponentId<'_>) -> DomainView {
        assert_eq!(*id, ComponentId::EMPTY);
        self.domain
    }

    fn engine_version(&self) -> [u32; 3] {
        [1, 2, 3]
    }

    fn trial_running(&self) -> bool {
        self.trial
    }

    fn require_chunk_table(&self) -> bool {
        self.require_table
    }
}

fn admit_under(spec: &RootSpec, sequence: u64, targets: &[Target], device: &Device) -> Result<Standing, Reason> {
    let root_bytes = root_of(spec);
    let root = TrustRoot::parse(&root_bytes, &Limits::MCU, &PORTABLE).unwrap();
    let file = release(&manifest(sequence, targets), &[&keys().release[0]]);
    with_verified(&root, &file, &PORTABLE, |authentic| {
        let admitted: Admitted<Plan> = authentic.admit(device)?;
        assert_eq!(admitted.plan().sequence, sequence);
        assert_eq!(admitted.signers().count(Role::Release), 1);
        Ok(admitted.standing())
    })
}

fn admit(target: Target, device: &Device) -> Result<Standing, Reason> {
    admit_under(&root_spec(&keys()), 7, &[target], device)
}

/// 601 to 605.
#[test]
fn identity() {
    let other: Uuid = [9; 16];
    assert_eq!(admit(target(), &Device::new()), Ok(Standing::New));
    assert_eq!(
        admit(
            Target {
                vendor: &other,
                ..target()
            },
            &Device::new()
        ),
        Err(Reason::VendorMismatch)
    );
    assert_eq!(
        admit(
            Target {
                class: &other,
                ..target()
            },
            &Device::new()
        ),
        Err(Reason::ClassMismatch)
    );
    let single = Target {
        device: Some(&other),
        ..target()
    };
    assert_eq!(admit(single, &Device::new()), Err(Reason::DeviceMismatch));
    assert_eq!(
        admit(single, &Device::with(|_, component| component.device = Some([8; 16]))),
        Err(Reason::DeviceMismatch)
    );
    assert_eq!(
        admit(single, &Device::with(|_, component| component.device = Some(other))),
        Ok(Standing::New)
    );
    assert_eq!(
        admit(target(), &Device::with(|device, _| device.component = None)),
        Err(Reason::ComponentUnknown)
    );
    let parts: &[&[u8]] = &[b"app", b"x"];
    let elsewhere = Target {
        id: ComponentId::new(parts).unwrap(),
        ..target()
    };
    assert_eq!(admit(elsewhere, &Device::new()), Err(Reason::ComponentUnknown));
}

/// 604: installed version against the rule; missing parts are 0, and a component without a version satisfies none.
#[test]
fn version_rules() {
    let rule = |comparison, parts: &[u64]| {
        let version = Version::new(parts).unwrap();
        Target {
            version_rule: Some(VersionRule { comparison, version }),
            ..target()
        }
    };
    let installed = |parts: &[u64]| {
        let version = Version::new(parts);
        Device::with(|_, component| component.version = version)
    };
    let device = installed(&[1, 4]);
    let refused = Err(Reason::VersionMismatch);
    for (comparison, lower, equal, higher) in [
        (Comparison::Greater, true, false, false),
        (Comparison::GreaterEqual, true, true, false),
        (Comparison::Equal, false, true, false),
        (Comparison::LesserEqual, false, true, true),
        (Comparison::Lesser, false, false, true),
    ] {
        for (parts, holds) in [
            (&[1, 3, 9][..], lower),
            (&[1, 4, 0, 0, 0], equal),
            (&[1, 4], equal),
            (&[1, 4, 1], higher),
        ] {
            let expected = if holds { Ok(Standing::New) } else { refused };
            assert_eq!(
                admit(rule(comparison, parts), &device),
                expected,
                "{comparison:?} {parts:?}"
            );
            assert_eq!(admit(rule(comparison, parts), &Device::new()), refused);
        }
    }
}

/// 612.
#[test]
fn engine_version() {
    for (needed, admitted) in [
        ([1, 2, 3], true),
        ([1, 2, 2], true),
        ([0, 9, 9], true),
        ([1, 2, 4], false),
        ([1, 3, 0], false),
        ([2, 0, 0], false),
    ] {
        let target = variant(|variant| variant.content.min_engine = Some(needed));
        let expected = if admitted {
            Ok(Standing::New)
        } else {
            Err(Reason::EngineTooOld)
        };
        assert_eq!(admit(target, &Device::new()), expected, "{needed:?}");
    }
}

/// 607, 608, 609 and what the release is to the device.
#[test]
fn sequence() {
    let targets = [target()];
    let digest = |sequence| signed_digest(&manifest(sequence, &targets)).1;
    let spec = root_spec(&keys());
    let at = |committed, pending| {
        let device = Device::with(|device, _| device.domain = DomainView { committed, pending });
        admit_under(&spec, 7, &targets, &device)
    };
    assert_eq!(at(None, None), Ok(Standing::New));
    assert_eq!(at(Some((6, digest(6))), None), Ok(Standing::New));
    assert_eq!(at(Some((8, digest(8))), None), Err(Reason::SeqRollback));
    assert_eq!(at(Some((7, digest(7))), None), Ok(Standing::Installed));
    assert_eq!(at(Some((7, digest(6))), None), Err(Reason::SeqReused));
    assert_eq!(at(Some((6, digest(6))), Some((7, digest(7)))), Ok(Standing::Resume));
    assert_eq!(
        at(Some((6, digest(6))), Some((7, digest(6)))),
        Ok(Standing::New),
        "another release of this number"
    );
    assert_eq!(
        at(Some((6, digest(6))), Some((9, digest(9)))),
        Ok(Standing::New),
        "pending is no floor"
    );
    assert_eq!(at(None, Some((7, digest(7)))), Ok(Standing::Resume));

    let mut minima = root_spec(&keys());
    minima.minima = vec![(CLASS, 8)];
    assert_eq!(
        admit_under(&minima, 7, &targets, &Device::new()),
        Err(Reason::SeqBelowMin)
    );
    assert_eq!(admit_under(&minima, 8, &targets, &Device::new()), Ok(Standing::New));
    // The minimum is judged before the committed number.
    let ahead = Device::with(|device, _| device.domain.committed = Some((9, digest(9))));
    assert_eq!(admit_under(&minima, 7, &targets, &ahead), Err(Reason::SeqBelowMin));
    minima.minima = vec![([9; 16], 8)];
    assert_eq!(
        admit_under(&minima, 7, &targets, &Device::new()),
        Ok(Standing::New),
        "another class"
    );
}

/// A revocation list raises the minimum too.
#[test]
fn minimum_of_a_list() {
    let keys = keys();
    let root_bytes = root_of(&root_spec(&keys));
    let root = TrustRoot::parse(&root_bytes, &Limits::MCU, &PORTABLE).unwrap();
    let list = list(1, &[], &[(CLASS, 8)], &[&keys.revoke]);
    let listed = root.with_list(root.verify_list(&list, &Limits::MCU, &PORTABLE).unwrap());
    for (sequence, expected) in [(7, Err(Reason::SeqBelowMin)), (8, Ok(()))] {
        let file = release(&manifest(sequence, &[target()]), &[&keys.release[0]]);
        let admitted = with_verified(&listed, &file, &PORTABLE, |authentic| {
            authentic.admit(&Device::new()).map(|_| ())
        });
        assert_eq!(admitted, expected);
    }
}

/// 610, 613, 507.
#[test]
fn counter_trial_and_chunk_table() {
    let floor = |floor| Device::with(|_, component| component.counter_floor = floor);
    assert_eq!(admit(target(), &floor(3)), Ok(Standing::New));
    assert_eq!(admit(target(), &floor(4)), Err(Reason::CounterRollback));
    let raw = variant(|variant| {
        variant.content = Content {
            format: Format::Raw,
            counter: None,
            min_engine: None,
        }
    });
    assert_eq!(admit(raw, &floor(4)), Ok(Standing::New), "no counter to compare");
    assert_eq!(
        admit(target(), &Device::with(|device, _| device.trial = true)),
        Err(Reason::TrialRunning)
    );
    let no_table = variant(|variant| {
        variant.source = Some(Source {
            table: None,
            ..source()
        })
    });
    assert_eq!(admit(no_table, &Device::new()), Err(Reason::ChunkTable));
    assert_eq!(
        admit(no_table, &Device::with(|device, _| device.require_table = false)),
        Ok(Standing::New)
    );
}

/// A table is demanded of what is staged, too.
#[test]
fn staged_payloads_need_tables_too() {
    let staged = |table| {
        let source = Source { table, ..source() };
        let variant = target().variants.as_slice()[0];
        let stage = Stage {
            number: 0,
            digest: variant.digest,
            size: variant.size,
            source,
            early: true,
        };
        let variants = Variants::new(&[Variant {
            source: None,
            ..variant
        }])
        .unwrap();
        Target {
            variants,
            step: Step::CopyFromStage(stage),
            ..target()
        }
    };
    assert_eq!(admit(staged(source().table), &Device::new()), Ok(Standing::New));
    assert_eq!(admit(staged(None), &Device::new()), Err(Reason::ChunkTable));
}

/// Everything wrong at once: reasons come in the order of profile section 17.
#[test]
fn order_of_checks() {
    let other: Uuid = [9; 16];
    let mut worst = variant(|variant| {
        variant.content.min_engine = Some([9, 0, 0]);
        variant.source = Some(Source {
            table: None,
            ..source()
        });
    });
    (worst.vendor, worst.class, worst.device) = (&other, &other, Some(&other));
    let version = Version::new(&[9]).unwrap();
    worst.version_rule = Some(VersionRule {
        comparison: Comparison::Equal,
        version,
    });
    let mut spec = root_spec(&keys());
    let device = Device::with(|device, component| {
        device.domain.committed = Some((9, [0; 32]));
        (device.trial, component.counter_floor) = (true, 9);
    });
    spec.minima = vec![(other, 8), (CLASS, 8)];
    spec.minima.sort();
    let step = |target: &Target, device: &Device| admit_under(&spec, 7, &[*target], device);
    assert_eq!(step(&worst, &device), Err(Reason::VendorMismatch));
    worst.vendor = &VENDOR;
    assert_eq!(step(&worst, &device), Err(Reason::ClassMismatch));
    worst.class = &CLASS;
    assert_eq!(step(&worst, &device), Err(Reason::DeviceMismatch));
    worst.device = None;
    assert_eq!(step(&worst, &device), Err(Reason::VersionMismatch));
    worst.version_rule = None;
    assert_eq!(step(&worst, &device), Err(Reason::EngineTooOld));
    worst = variant(|variant| {
        variant.source = Some(Source {
            table: None,
            ..source()
        })
    });
    assert_eq!(step(&worst, &device), Err(Reason::SeqBelowMin));
    spec.minima.clear();
    let step = |target: &Target, device: &Device| admit_under(&spec, 7, &[*target], device);
    assert_eq!(step(&worst, &device), Err(Reason::SeqRollback));
    let mut device = device;
    device.domain.committed = None;
    assert_eq!(step(&worst, &device), Err(Reason::CounterRollback));
    device.component = Device::new().component;
    assert_eq!(step(&worst, &device), Err(Reason::TrialRunning));
    device.trial = false;
    assert_eq!(step(&worst, &device), Err(Reason::ChunkTable));
    assert_eq!(step(&target(), &device), Ok(Standing::New));
}
