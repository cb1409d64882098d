//! How fast a token signs through us, and how fast a release is verified; each beside a peer in the same run.

use super::{Figure, figure};
use crate::sh;
use anyhow::{Context, Result};
use codec::roots::Environment;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use keys::pkcs11::{Pkcs11Uri, Token};
use keys::{Content, Job, Object, Passphrase, Purpose, SignatureAlgorithm, Signer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// SoftHSM's library, where Debian puts it.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// The PIN of a token that lives for one measurement.
const PIN: &str = "20260101";
/// Rounds of both sides in turn; the median counts.
const ROUNDS: usize = 9;
/// Signatures in a round.
const SIGNATURES: u32 = 200;
/// Bytes of the payload of the release that is verified.
const RELEASE_BYTES: usize = 256 << 20;
/// The bars: of the bare token's speed, and of OpenSSL's SHA-256.
const TOKEN_PERCENT_MIN: u64 = 60;
const VERIFY_PERCENT_MIN: u64 = 80;

/// Signatures a second, ours and the bare token's. SoftHSM reads its configuration once, from the environment, so this
/// happens in a process of its own.
pub(super) fn sign() -> Result<Vec<Figure>> {
    let folder = sh::target().join("measure-token");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("tokens"))?;
    let configuration = folder.join("softhsm2.conf");
    let tokens = folder.join("tokens");
    std::fs::write(
        &configuration,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    )?;
    let equipped = |mut command: std::process::Command| {
        command.env("SOFTHSM2_CONF", &configuration);
        command
    };
    let mut make = equipped(sh::program("softhsm2-util"));
    make.args([
        "--init-token",
        "--free",
        "--label",
        "measure",
        "--so-pin",
        PIN,
        "--pin",
        PIN,
    ]);
    sh::output(&mut make)?;
    let mut child = equipped(sh::program(std::env::current_exe()?));
    let printed = sh::output(child.args(["measure", TOKEN_AREA, "--json"]))?;
    let object: serde_json::Value = serde_json::from_str(printed.lines().last().context("no figures")?)?;
    let number = |name: &'static str| Ok(figure(name, object[name].as_u64().context(name)?));
    let mut figures = TOKEN_FIGURES.map(number).into_iter().collect::<Result<Vec<_>>>()?;
    if let Some(share) = figures.last_mut() {
        *share = figure(share.name, share.value).at_least(TOKEN_PERCENT_MIN);
    }
    figures.extend(release_verify()?);
    Ok(figures)
}

/// The area of [`token`], for [`sign`] alone.
pub(super) const TOKEN_AREA: &str = "sign-token";
const TOKEN_FIGURES: [&str; 5] = [
    "sign_pkcs11_p256_per_second",
    "sign_pkcs11_single_per_second",
    "sign_pkcs11_unchecked_per_second",
    "sign_pkcs11_bare_per_second",
    "sign_pkcs11_of_bare_percent",
];

/// One session of the token of the environment: through our signer with its check of every signature, many in a call and
/// one in a call; through it without the check; and in a bare loop.
pub(super) fn token() -> Result<Vec<Figure>> {
    let uri = Pkcs11Uri::parse("pkcs11:token=measure;object=key").map_err(failed)?;
    let pin = Passphrase::new(PIN);
    let token = Token::find(&uri, Some(Path::new(MODULE))).map_err(failed)?;
    token
        .generate(&uri, SignatureAlgorithm::Esp256, Some(&pin))
        .map_err(failed)?;
    let key = token.open(&uri, Some(&pin)).map_err(failed)?;
    let purpose = Purpose {
        object: Object::Record,
        subject: "a measurement".into(),
        digest: [7; 32],
    };
    let job = Job {
        content: Content::Digest(&[7; 32]),
        purpose: &purpose,
    };
    let library = Pkcs11::new(MODULE)?;
    let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slot = *library
        .get_slots_with_initialized_token()?
        .first()
        .context("no token")?;
    let session = library.open_ro_session(slot)?;
    // The first session logged in for the whole process.
    let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    let private = *found.first().context("no key")?;

    let jobs = vec![job; SIGNATURES as usize];
    let (mut ours, mut single, mut unchecked, mut bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        key.sign_all(&jobs).map_err(failed)?;
        ours.push(per_second(u64::from(SIGNATURES), started.elapsed()));
        single.push(rate(|| key.sign(&job).map(drop).map_err(failed))?);
        unchecked.push(rate(|| key.make_signature(&job).map(drop).map_err(failed))?);
        bare.push(rate(|| {
            Ok(session.sign(&Mechanism::Ecdsa, private, &[7; 32]).map(drop)?)
        })?);
    }
    let (ours, single) = (median(ours), median(single));
    let (unchecked, bare) = (median(unchecked), median(bare));
    let values = [ours, single, unchecked, bare, ours * 100 / bare.max(1)];
    Ok(TOKEN_FIGURES
        .into_iter()
        .zip(values)
        .map(|(name, value)| figure(name, value))
        .collect())
}

/// A release of 256 MiB under a root, and OpenSSL's SHA-256 on one core.
fn release_verify() -> Result<Vec<Figure>> {
    let (file, root) = big_release()?;
    let envelope = ::release::envelope::Envelope::parse(file).map_err(failed)?;
    let root = ::release::root::verify(&root, &codec::limits::Limits::LINUX).map_err(failed)?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let started = Instant::now();
        ::release::verify(&envelope, &root).map_err(failed)?;
        ours.push(per_second(RELEASE_BYTES as u64 / 1_000_000, started.elapsed()));
        peer.push(openssl_sha256()?);
    }
    let (ours, peer) = (median(ours), median(peer));
    Ok(vec![
        figure("release_verify_megabytes_per_second", ours),
        figure("openssl_sha256_megabytes_per_second", peer),
        figure("release_verify_of_sha256_percent", ours * 100 / peer.max(1)).at_least(VERIFY_PERCENT_MIN),
    ])
}

/// A signed release with one large payload, and its root.
fn big_release() -> Result<(Vec<u8>, Vec<u8>)> {
    let folder = sh::target().join("measure-release");
    std::fs::create_dir_all(&folder)?;
    let payload: Vec<u8> = (0..RELEASE_BYTES as u32 / 4)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_le_bytes())
        .collect();
    std::fs::write(folder.join("payload.bin"), payload)?;
    let recipe: PathBuf = folder.join("release.toml");
    std::fs::write(
        &recipe,
        "schema = 1\n[release]\nsequence = 1\nversion = \"1.0\"\n[target]\nvendor-domain = \"ampoule.example\"\nmodel = \
         \"BIG\"\nclass = \"linux\"\n[[component]]\nid = [\"rootfs\"]\nfile = \"payload.bin\"\nformat = \"block-image\"\n",
    )?;
    let recipe = ::release::Recipe::read(&recipe).map_err(failed)?;
    let key = || keys::file::generate(SignatureAlgorithm::Ed25519).map_err(failed);
    let (root_key, release_key) = (key()?, key()?);
    let role = |role, key: &keys::file::FileKey| ::release::root::RoleSpec {
        role,
        threshold: 1,
        keys: vec![key.public_key().clone()],
    };
    let spec = ::release::root::RootSpec {
        vendor_domain: "ampoule.example".into(),
        product_line: "big".into(),
        environment: Environment::Development,
        expires: None,
        roles: vec![
            role(trust::Role::Root, &root_key),
            role(trust::Role::Release, &release_key),
        ],
    };
    let root = ::release::root::make(&spec, &[&root_key], &codec::limits::Limits::LINUX).map_err(failed)?;
    let draft = ::release::assemble(&recipe, &[], None).map_err(failed)?;
    let envelope = draft.sign(&release_key).map_err(failed)?;
    std::fs::remove_dir_all(&folder)?;
    Ok((envelope.into_bytes(), root))
}

/// Megabytes a second of `openssl speed` on blocks of 1 MiB, one core.
fn openssl_sha256() -> Result<u64> {
    let mut speed = sh::program("openssl");
    speed.args(["speed", "-mr", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256"]);
    let printed = sh::output(&mut speed)?;
    let line = printed
        .lines()
        .find(|line| line.starts_with("+F:"))
        .context("openssl says no figure")?;
    let bytes: f64 = line.rsplit(':').next().context("openssl says no figure")?.parse()?;
    Ok(bytes as u64 / 1_000_000)
}

/// How often a second something can be done.
fn rate(mut once: impl FnMut() -> Result<()>) -> Result<u64> {
    let started = Instant::now();
    for _ in 0..SIGNATURES {
        once()?;
    }
    Ok(per_second(SIGNATURES.into(), started.elapsed()))
}

fn per_second(count: u64, span: Duration) -> u64 {
    (count as f64 / span.as_secs_f64()) as u64
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn failed(error: keys::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
