//! A release from recipe to verdict, and every way in which it can be wrong.

use std::path::Path;

use ampoule_release as release;
use codec::limits::Limits;
use codec::plan::{ChunkHashes, Target};
use codec::roots::{Environment, Role};
use keys::file::{FileKey, generate};
use keys::{Code, SignatureAlgorithm, Signer};
use release::envelope::TARGETS_MAX;
use release::root::{self, RoleSpec, RootSpec};
use release::{Draft, Envelope, Recipe, assemble, verify};
use trust::TrustRoot;

const RECIPE: &str = r#"
    schema = 1
    [release]
    sequence = 7
    version = "1.4.2"
    [target]
    board = "board.toml"
    [text.en]
    update = "Fixes pump alarm delay"
    [text.de]
    update = "Behebt die Verzögerung des Pumpenalarms"
    [[component]]
    id = ["app"]
    file = "app.bin"
    format = "mcuboot-image"
    security-counter = 3
    [component.sign]
    pad-header = true
    [component.text.en]
    vendor = "Example Corp"
    model = "AMP-DEMO-1"
    version = "1.4.2"
"#;

/// Keys, a root of theirs and a directory with firmware.
struct World {
    directory: tempfile::TempDir,
    release: [FileKey; 2],
    image: FileKey,
    root: Vec<u8>,
}

impl World {
    fn new() -> World {
        let new = |algorithm| generate(algorithm).unwrap();
        let (ed25519, p256) = (SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256);
        let (root_key, release, image) = (new(ed25519), [new(ed25519), new(p256)], new(p256));
        let role = |role, threshold, keys: &[&FileKey]| RoleSpec {
            role,
            threshold,
            keys: keys.iter().map(|key| key.public_key().clone()).collect(),
        };
        let spec = RootSpec {
            vendor_domain: "ampoule.example".into(),
            product_line: "amp-demo".into(),
            environment: Environment::Development,
            expires: None,
            roles: vec![
                role(Role::Root, 1, &[&root_key]),
                role(Role::Release, 2, &[&release[0], &release[1]]),
                role(Role::Image, 1, &[&image]),
            ],
        };
        let root = root::make(&spec, &[&root_key], &Limits::MCU).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let board = include_str!("../../../boards/mps2-an386.toml");
        std::fs::write(directory.path().join("board.toml"), board).unwrap();
        let firmware: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(directory.path().join("app.bin"), firmware).unwrap();
        World {
            directory,
            release,
            image,
            root,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn root(&self) -> TrustRoot<'_> {
        root::verify(&self.root, &Limits::MCU).unwrap()
    }

    fn recipe(&self, text: &str) -> keys::Result<Recipe> {
        Recipe::parse(text, "recipe.toml", self.path())
    }

    fn draft(&self, text: &str) -> keys::Result<Draft> {
        assemble(&self.recipe(text)?, &[&self.image], Some(&self.root()))
    }

    fn signed(&self, text: &str) -> Envelope {
        let once = self.draft(text).unwrap().sign(&self.release[0]).unwrap();
        once.add_signature(&self.release[1]).unwrap()
    }

    /// Verifies changed bytes; gives the number of the refusal, 0 when there is none.
    fn number(&self, bytes: Vec<u8>) -> u16 {
        let verdict = Envelope::parse(bytes).and_then(|envelope| verify(&envelope, &self.root()));
        verdict.map_or_else(|error| error.number, |_| 0)
    }
}

#[test]
fn a_release_is_made_signed_twice_and_verified() {
    let world = World::new();
    let draft = world.draft(RECIPE).unwrap();
    assert_eq!(draft.notes(), [""; 0]);
    let once = draft.sign(&world.release[1]).unwrap();
    let few = verify(&once, &world.root()).unwrap_err();
    assert_eq!(few.number, 219);
    let missing: String = world.release[0].public_key().thumbprint()[..8]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(
        few.advice.contains("1 more release signature") && few.advice.contains(&missing),
        "{few}"
    );
    let twice = once.add_signature(&world.release[0]).unwrap();
    let verified = verify(&twice, &world.root()).unwrap();
    assert_eq!((verified.sequence, verified.digest), (7, draft.digest()));
    assert_eq!(verified.roles[0].signed.len(), 2);
    assert!(verified.targets[0].complete);
    let other_way = draft
        .sign(&world.release[0])
        .unwrap()
        .add_signature(&world.release[1])
        .unwrap();
    assert_eq!(
        Envelope::parse(other_way.into_bytes()).unwrap().members(),
        twice.members()
    );
}

#[test]
fn the_plan_says_what_the_recipe_says() {
    let world = World::new();
    let envelope = world.signed(RECIPE);
    let mut room = [Target::EMPTY; TARGETS_MAX];
    let plan = envelope.plan(&mut room).unwrap();
    let target = &plan.targets[0];
    let variant = target.variants.as_slice()[0];
    assert_eq!(plan.version.unwrap().parts(), [1, 4, 2]);
    assert_eq!(release::identity::text(target.class), {
        let vendor = release::identity::vendor_id("ampoule.example");
        release::identity::text(&release::identity::class_id(&vendor, "AMP-DEMO-1"))
    });
    assert_eq!(variant.content.counter, Some(3));
    let table = variant.source.unwrap().table.unwrap();
    assert_eq!(table.chunk_size, 4096);
    // 100,000 bytes and header make 25 chunks: too many for the manifest, so the hashes travel beside it.
    assert!(matches!(table.hashes, ChunkHashes::Detached(_)));
    assert_eq!(
        envelope.chunk_hashes(0).unwrap().len() as u64,
        variant.size.div_ceil(4096) * 32
    );
    assert!(envelope.head_len() <= 4096);
}

#[test]
fn a_key_signs_once_and_blocks_ascend() {
    let world = World::new();
    let once = world.draft(RECIPE).unwrap().sign(&world.release[0]).unwrap();
    assert!(
        once.add_signature(&world.release[0])
            .unwrap_err()
            .is(Code::SameKeyTwice)
    );
    let twice = once.add_signature(&world.release[1]).unwrap();
    let kids: Vec<_> = twice.head().blocks.map(|block| *block.unwrap().kid).collect();
    assert!(kids.is_sorted() && kids.len() == 2);
    let mut full = twice;
    for _ in 0..6 {
        full = full
            .add_signature(&generate(SignatureAlgorithm::Ed25519).unwrap())
            .unwrap();
    }
    let ninth = generate(SignatureAlgorithm::Ed25519).unwrap();
    assert_eq!(full.add_signature(&ninth).unwrap_err().number, 105);
    // Signatures of keys that the root does not know are ignored.
    assert!(verify(&full, &world.root()).is_ok());
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let world = World::new();
    let bytes = world.signed(RECIPE).into_bytes();
    assert_eq!(world.number(bytes.clone()), 0);
    let head_len = Envelope::parse(bytes.clone()).unwrap().head_len();
    let head = (0..head_len).flat_map(|at| [(at, 0), (at, 5)]);
    for (at, bit) in head.chain((head_len..bytes.len()).step_by(997).map(|at| (at, 3))) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        assert_ne!(world.number(flipped), 0, "bit {bit} of byte {at}");
    }
}

#[test]
fn wrong_members_get_the_right_number() {
    let world = World::new();
    let envelope = world.signed(RECIPE);
    let bytes = envelope.as_bytes();
    let changed = |kind: fn(&release::envelope::MemberKind) -> bool| {
        let member = envelope.members().iter().find(|member| kind(&member.kind)).unwrap();
        let mut changed = bytes.to_vec();
        changed[member.content.end - 1] ^= 1;
        world.number(changed)
    };
    use release::envelope::MemberKind::{ChunkTable, Payload, Text};
    assert_eq!(changed(|kind| *kind == Text), 512);
    assert_eq!(changed(|kind| *kind == ChunkTable(0)), 507);
    assert_eq!(changed(|kind| matches!(kind, Payload(_))), 508);
    for cut in [1, envelope.head_len() - 1, envelope.head_len(), bytes.len() - 1] {
        assert_eq!(world.number(bytes[..cut].to_vec()), 101, "cut at {cut}");
    }
    assert_eq!(world.number([bytes, &[0]].concat()), 104);
}

#[test]
fn a_payload_that_is_missing_or_not_asked_for_is_refused() {
    let world = World::new();
    let bytes = world.signed(RECIPE).into_bytes();
    // The map of the envelope announces its members in one byte after the tag.
    let (entries_at, payload_key) = (2, b"\x68#app.bin".as_slice());
    let at = bytes
        .windows(payload_key.len())
        .rposition(|window| window == payload_key)
        .unwrap();
    let mut without = bytes[..at].to_vec();
    without[entries_at] -= 1;
    assert_eq!(world.number(without), 502);
    let mut more = bytes.clone();
    more[entries_at] += 1;
    more.extend_from_slice(b"\x6a#unrelated\x41x".as_slice().get(..).unwrap());
    let stranger = world.number(more);
    assert_eq!(stranger, 503);
}

#[test]
fn another_root_believes_nothing_of_it() {
    let (one, other) = (World::new(), World::new());
    let bytes = one.signed(RECIPE).into_bytes();
    assert_eq!(other.number(bytes), 219);
}

#[test]
fn images_must_say_what_the_recipe_says() {
    let world = World::new();
    let image_of = |from: &str, to: &str| {
        let text = RECIPE.replace(from, to);
        let envelope = world.signed(&text);
        let payload = envelope.payload("#app.bin").unwrap();
        std::fs::write(world.path().join("signed.bin"), payload).unwrap();
    };
    let refused = |from: &str, to: &str| {
        let signed = RECIPE
            .replace("[component.sign]\n    pad-header = true\n", "")
            .replace("app.bin", "signed.bin");
        let error = world.draft(&signed.replace(from, to)).unwrap_err();
        (error.number, error.what)
    };
    image_of("", "");
    let (number, what) = refused("security-counter = 3", "security-counter = 4");
    assert_eq!(number, Code::ReleaseInput.number());
    assert!(what.contains("security counter 3, the recipe says 4"), "{what}");
    let (number, what) = refused(
        "board = \"board.toml\"",
        "vendor-domain = \"ampoule.example\"\n model = \"AMP-DEMO-2\"",
    );
    assert_eq!(number, Code::ReleaseInput.number());
    assert!(what.contains("class id"), "{what}");
    std::fs::write(world.path().join("signed.bin"), [0; 64]).unwrap();
    assert_eq!(refused("", "").0, 901);
}

#[test]
fn an_image_below_the_roots_threshold_never_becomes_a_release() {
    let world = World::new();
    let stranger = generate(SignatureAlgorithm::Ed25519).unwrap();
    let recipe = world.recipe(RECIPE).unwrap();
    assert_eq!(
        assemble(&recipe, &[&stranger], Some(&world.root())).unwrap_err().number,
        907
    );
    let without_root = assemble(&recipe, &[&stranger], None).unwrap();
    assert!(without_root.notes()[0].contains("--root"));
    assert!(assemble(&recipe, &[], None).unwrap_err().advice.contains("--image-key"));
}

#[test]
fn a_release_that_its_board_cannot_take_is_not_made() {
    let world = World::new();
    let number = |from: &str, to: &str| world.draft(&RECIPE.replace(from, to)).unwrap_err().number;
    assert_eq!(
        number("security-counter = 3", "security-counter = 3\nchunk-size = 8192"),
        2120
    );
    std::fs::write(world.path().join("app.bin"), vec![0; 0x8_0000]).unwrap();
    assert_eq!(number("", ""), Code::ImageTooLarge.number());
    // This one fits the slot beside the trailer, but not in whole sectors.
    std::fs::write(world.path().join("app.bin"), vec![0; 0x7_f000 - 0x420]).unwrap();
    assert_eq!(number("", ""), Code::ReleaseInput.number());
    std::fs::write(world.path().join("app.bin"), [0; 1000]).unwrap();
    let long = "x".repeat(1025);
    assert_eq!(number("Fixes pump alarm delay", &long), 2120);
}

#[test]
fn several_components_travel_in_the_order_of_installation() {
    let world = World::new();
    let text = r#"
        schema = 1
        [release]
        sequence = 1
        version = "2.0"
        [target]
        class = "linux"
        vendor-domain = "example.com"
        model = "GATEWAY"
        [[component]]
        id = ["rootfs"]
        file = "app.bin"
        format = "block-image"
        [[component]]
        id = ["config", "site"]
        file = "board.toml"
        format = "file"
    "#;
    let envelope = world.signed(text);
    let verified = verify(&envelope, &world.root()).unwrap();
    let installed: Vec<_> = verified
        .targets
        .iter()
        .map(|target| target.component.as_str())
        .collect();
    assert_eq!(installed, ["rootfs", "config/site"]);
    assert!(envelope.payload("#00.bin").is_some() && envelope.payload("#01.bin").is_some());
}

#[test]
fn inspection_names_every_field_of_a_release() {
    let world = World::new();
    let envelope = world.signed(RECIPE);
    let tree = release::inspect::explain(envelope.as_bytes()).unwrap();
    let json = serde_json::to_value(&tree).unwrap();
    assert_eq!(json["kind"], "SUIT envelope");
    assert_eq!(json["manifest"]["sequence number"], 7);
    assert_eq!(
        json["manifest"]["install"][1]["override parameters"]["fetch arguments"]["security counter"],
        3
    );
    assert_eq!(json["text"]["en"]["component [app]"]["model"], "AMP-DEMO-1");
    assert!(tree.to_string().contains("payload #app.bin"));
    assert!(json["AMP-SUIT-1"].as_str().unwrap().starts_with("yes"));
    let image = release::inspect::explain(envelope.payload("#app.bin").unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&image).unwrap()["header"]["version"], "1.4.2+0");
    let kinds = |bytes: &[u8]| serde_json::to_value(release::inspect::explain(bytes).unwrap()).unwrap()["kind"].clone();
    assert_eq!(kinds(&world.root), "trust root");
    assert_eq!(
        kinds(&[world.root.as_slice(), envelope.as_bytes()].concat()),
        "root chain"
    );
    assert_eq!(kinds(include_bytes!("../../../boards/mps2-an386.toml")), "board file");
    assert_eq!(kinds(RECIPE.as_bytes()), "recipe");
    let in_hex = release::hex::write(&[(0x2104_0000, envelope.payload("#app.bin").unwrap())]).unwrap();
    assert_eq!(kinds(in_hex.as_bytes()), "MCUboot image");
    assert_eq!(kinds(world.image.public_key().to_pem().as_bytes()), "public key");
    assert!(
        release::inspect::explain(b"hello")
            .unwrap_err()
            .is(Code::NotAnAmpouleFile)
    );
    assert!(
        release::inspect::explain(&[0xff; 100])
            .unwrap_err()
            .is(Code::NotAnAmpouleFile)
    );
}

/// Files of other makers (vectors/suit): inspection names their fields, devices refuse them all.
#[test]
fn other_peoples_suit_files_are_explained() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/suit");
    let mut explained = 0;
    for folder in ["manifest-spec", "libcsuit", "fw-encryption"] {
        for file in std::fs::read_dir(vectors.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "suit") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let tree = serde_json::to_value(release::inspect::explain(&bytes).unwrap()).unwrap();
            assert_eq!(tree["kind"], "SUIT envelope", "{}", path.display());
            assert!(
                tree["manifest"]["sequence number"].is_u64(),
                "{}: {tree}",
                path.display()
            );
            assert!(tree["manifest"]["common"].is_object(), "{}", path.display());
            assert!(
                tree["AMP-SUIT-1"].as_str().unwrap().starts_with("no: "),
                "{}",
                path.display()
            );
            assert!(Envelope::parse(bytes).is_err(), "{}", path.display());
            explained += 1;
        }
    }
    assert!(explained >= 30, "only {explained} files");
}
