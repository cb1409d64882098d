//! What every signer does, whatever it is: the rules, and the objects that are signed.

pub(crate) mod softhsm;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use codec::cbor::{self, Writer};
use codec::cose::{self, SigStructure};
use codec::limits::Limits;
use codec::mcuboot::tlv::{Area, AreaWriter, kind};
use codec::mcuboot::{HEADER_BYTES, ImageHeader, ImageVersion};
use codec::plan::{Digest, DigestAlgorithm, Target};
use codec::suit::{self, head, manifest};
use trust::Sha256;

use ampoule_keys as keys;
use keys::journal::{By, Context, Entry, Event, Facts, Journal, Journaled, Surroundings, verify};
use keys::{Code, Content, DevelopmentOnly, Job, Object, PublicKey, Purpose, Result, Signature, Signer};

/// In what signers differ. Everything else is the same for all.
#[derive(Clone)]
pub(crate) struct Kind<'a> {
    /// What [`Signer::development_only`] says.
    pub(crate) development_only: Option<DevelopmentOnly>,
    /// Bytes of the messages that are signed.
    pub(crate) lens: &'a [usize],
    /// How many digests are signed.
    pub(crate) digests: u8,
    /// The refusal of a digest, where images are not signed.
    pub(crate) no_digest: Option<Code>,
    /// The refusal of a message whose object is not shown, where that is not signed.
    pub(crate) no_blind_message: Option<Code>,
    /// What must not stand in [`Signer::describe`].
    pub(crate) secrets: &'a [&'a str],
}

impl Kind<'_> {
    /// A signer that signs everything and is good for production.
    pub(crate) const PRODUCTION: Kind<'static> = Kind {
        development_only: None,
        lens: &[0, 1, 31, 32, 64, 65, 1000, 1 << 20],
        digests: 100,
        no_digest: None,
        no_blind_message: None,
        secrets: &[],
    };
}

/// Every rule, for the signer, for a pointer to it, and for the signer behind a journal.
pub(crate) fn conforms(signer: &dyn Signer, kind: &Kind<'_>) {
    follows(&signer, kind);
    checks_itself(signer, kind);
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::at(folder.path().join("journal.jsonl"), None);
    let journaled = Journaled::new(signer, context(journal.clone()));
    let few = Kind {
        digests: kind.digests.min(5),
        ..kind.clone()
    };
    let released = follows(&journaled, &few);
    let report = verify::files(&[journal.path()], None).unwrap();
    assert!(report.is_whole());
    assert_eq!(
        report.signatures, released,
        "one entry for each signature that came out"
    );
    enters_before_it_releases(&journaled, &journal, kind);
}

/// The rules that hold with and without a journal. Gives the number of signatures that came out.
fn follows<S: Signer>(signer: &S, kind: &Kind<'_>) -> u64 {
    names_itself(signer, kind);
    signs_messages(signer, kind)
        + signs_digests(signer, kind)
        + signs_what_it_sees(signer, kind)
        + signs_many(signer, kind)
}

fn names_itself<S: Signer>(signer: &S, kind: &Kind<'_>) {
    let name = signer.describe();
    assert!(!name.is_empty() && !name.contains('\n'), "{name:?}");
    for secret in kind.secrets {
        assert!(!name.contains(secret), "{name}");
    }
    assert_eq!(signer.development_only(), kind.development_only, "{name}");
    assert_eq!(signer.algorithm(), signer.public_key().algorithm());
    let (pointer, boxed): (&dyn Signer, Box<dyn Signer + '_>) = (signer, Box::new(signer));
    for other in [&pointer as &dyn Signer, &boxed] {
        assert_eq!(other.describe(), name);
        assert_eq!(other.development_only(), kind.development_only);
        assert_eq!(other.public_key(), signer.public_key());
    }
}

fn signs_messages<S: Signer>(signer: &S, kind: &Kind<'_>) -> u64 {
    let purpose = purpose(Object::Record);
    let mut released = 0;
    for &len in kind.lens {
        let message: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
        let (first, second) = message.split_at(len / 3);
        let parts: [&[u8]; 3] = [first, b"", second];
        let job = job(Content::Message(&parts), &purpose);
        released += signs_or_refuses(signer, &job, None, kind.no_blind_message);
    }
    released
}

fn signs_digests<S: Signer>(signer: &S, kind: &Kind<'_>) -> u64 {
    let purpose = purpose(Object::Image);
    let digests = (0..kind.digests).map(|round| [round; 32]);
    let sign = |digest| signs_or_refuses(signer, &job(Content::Digest(&digest), &purpose), None, kind.no_digest);
    digests.map(sign).sum()
}

/// A real release and a real image, shown to the signer with what it is to sign of them.
fn signs_what_it_sees<S: Signer>(signer: &S, kind: &Kind<'_>) -> u64 {
    let (manifest, image) = (manifest(), image());
    let (message, release) = (to_be_signed(&manifest, signer.public_key()), purpose(Object::Release));
    let (hash, of_image) = (Sha256::of(&image), purpose(Object::Image));
    let parts: [&[u8]; 1] = [&message];
    signs_or_refuses(signer, &job(Content::Message(&parts), &release), Some(&manifest), None)
        + signs_or_refuses(
            signer,
            &job(Content::Digest(&hash), &of_image),
            Some(&image),
            kind.no_digest,
        )
}

/// Signs, and what comes out verifies over exactly this; or refuses with exactly this number.
fn signs_or_refuses<S: Signer>(signer: &S, job: &Job<'_>, shown: Option<&[u8]>, refusal: Option<Code>) -> u64 {
    let signed = match shown {
        Some(object) => signer.sign_shown(job, object),
        None => signer.sign(job),
    };
    match refusal {
        Some(code) => {
            let error = signed.unwrap_err();
            assert!(error.is(code), "{error}");
            0
        }
        None => {
            verifies(signer, job, &signed.unwrap());
            1
        }
    }
}

/// All of these in their order, or none of them.
fn signs_many<S: Signer>(signer: &S, kind: &Kind<'_>) -> u64 {
    assert!(signer.sign_all(&[]).unwrap().is_empty());
    let (digest, image, record) = ([3; 32], purpose(Object::Image), purpose(Object::Record));
    let message: [&[u8]; 2] = [b"mess", b"age"];
    let of_message = (job(Content::Message(&message), &record), kind.no_blind_message);
    let of_digest = (job(Content::Digest(&digest), &image), kind.no_digest);
    let both = [of_message, of_digest, of_message];
    let jobs: Vec<Job<'_>> = both
        .iter()
        .filter(|(_, no)| no.is_none())
        .map(|(job, _)| *job)
        .collect();
    let signatures = signer.sign_all(&jobs).unwrap();
    assert_eq!(signatures.len(), jobs.len());
    for (job, signature) in jobs.iter().zip(&signatures) {
        verifies(signer, job, signature);
    }
    // One that is refused, in the last place: none of the others comes out.
    if let Some((job, Some(code))) = both.iter().find(|(_, no)| no.is_some()) {
        let error = signer.sign_all(&[&jobs[..], &[*job]].concat()).unwrap_err();
        assert!(error.is(*code), "{error}");
    }
    signatures.len() as u64
}

fn verifies<S: Signer>(signer: &S, job: &Job<'_>, signature: &Signature) {
    assert_eq!(signature.algorithm(), signer.algorithm());
    let key = PublicKey::from_raw(signer.algorithm(), &signer.public_key().raw()).unwrap();
    let portable = trust::PORTABLE.find(signer.algorithm());
    let verifier = portable.unwrap_or(&trust::mldsa::MlDsa65);
    let is_right = |content: Content<'_>, bytes: &[u8]| match content {
        Content::Message(parts) => verifier.verify(&key.borrow(), parts, bytes).is_ok(),
        Content::Digest(digest) => verifier.verify_digest(&key.borrow(), digest, bytes).is_ok(),
    };
    assert!(is_right(job.content, signature.as_cose()));
    let mut bent = signature.as_cose().to_vec();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    assert!(!is_right(job.content, &bent));
    let other = match job.content {
        Content::Message(_) => Content::Message(&[b"another"]),
        Content::Digest(_) => Content::Digest(&[0xaa; 32]),
    };
    assert!(!is_right(other, signature.as_cose()));
}

/// A signer that goes wrong once lets nothing out: not alone, and none of several.
fn checks_itself(signer: &dyn Signer, kind: &Kind<'_>) {
    let (digest, purpose) = ([9; 32], purpose(Object::Image));
    let content = match kind.no_digest {
        None => Content::Digest(&digest),
        Some(_) => Content::Message(&[b"message"]),
    };
    let job = job(content, &purpose);
    let wrong = |result: Result<()>| assert!(result.unwrap_err().is(Code::SelfCheckFailed));
    wrong(Faulty::at(0, signer).sign(&job).map(drop));
    wrong(Faulty::at(0, signer).sign_shown(&job, b"").map(drop));
    for at in 0..3 {
        wrong(Faulty::at(at, signer).sign_all(&[job; 3]).map(drop));
    }
}

/// A signer of which one signature, the one with this number, comes out with a bit flipped.
struct Faulty<'a> {
    signer: &'a dyn Signer,
    at: usize,
    made: Cell<usize>,
}

impl<'a> Faulty<'a> {
    fn at(at: usize, signer: &'a dyn Signer) -> Faulty<'a> {
        let made = Cell::new(0);
        Faulty { signer, at, made }
    }
}

impl Signer for Faulty<'_> {
    fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    fn describe(&self) -> String {
        self.signer.describe()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        self.signer.development_only()
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let mut bytes = self.signer.make_signature(job)?;
        if self.made.replace(self.made.get() + 1) == self.at {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Ok(bytes)
    }
}

/// Each way to a signature leads through the journal: when it comes out its entry stands, and without one nothing does.
fn enters_before_it_releases<S: Signer>(journaled: &S, journal: &Journal, kind: &Kind<'_>) {
    let (digest, purpose, manifest) = ([5; 32], purpose(Object::Release), manifest());
    let message = to_be_signed(&manifest, journaled.public_key());
    let parts: [&[u8]; 1] = [&message];
    let of_release = job(Content::Message(&parts), &purpose);
    let image = Purpose {
        object: Object::Image,
        ..purpose.clone()
    };
    let unshown = match kind.no_digest {
        None => job(Content::Digest(&digest), &image),
        Some(_) => of_release,
    };
    let cose = |signature: Signature| signature.as_cose().to_vec();
    let ways: [&dyn Fn() -> Result<Vec<u8>>; 4] = [
        &|| journaled.make_signature(&unshown),
        &|| journaled.sign(&unshown).map(cose),
        &|| journaled.sign_shown(&of_release, &manifest).map(cose),
        &|| journaled.sign_all(&[unshown; 2]).map(|mut both| cose(both.remove(1))),
    ];
    for way in ways {
        let signature = way().unwrap();
        assert_eq!(last_signature(journal.path()), Sha256::of(&signature));
    }
    fs::remove_file(journal.path()).unwrap();
    fs::create_dir(journal.path()).unwrap();
    for way in ways {
        assert!(way().unwrap_err().is(Code::JournalOpen));
    }
}

/// SHA-256 of the signature that a journal's last line tells of.
pub(crate) fn last_signature(journal: &Path) -> [u8; 32] {
    let content = fs::read(journal).unwrap();
    let line = content
        .strip_suffix(b"\n")
        .unwrap()
        .rsplit(|byte| *byte == b'\n')
        .next();
    match Entry::read(line.unwrap()).unwrap().event {
        Event::Signature(signed) => signed.signature.0,
        other => panic!("{other:?}"),
    }
}

struct Clock;

impl Surroundings for Clock {
    fn now(&self) -> u64 {
        1_764_053_478
    }
}

fn context(journal: Journal) -> Context {
    Context {
        journal,
        by: By::default(),
        why: None,
        facts: Facts::new(),
        surroundings: Box::new(Clock),
    }
}

pub(crate) fn purpose(object: Object) -> Purpose {
    Purpose {
        object,
        subject: "a test".into(),
        digest: [0; 32],
    }
}

pub(crate) fn job<'a>(content: Content<'a>, purpose: &'a Purpose) -> Job<'a> {
    Job { content, purpose }
}

/// The class of the device in [`manifest`], which [`image`] names too.
pub(crate) fn class() -> [u8; 16] {
    let manifest = manifest();
    let mut room = [Target::EMPTY; 2];
    *manifest::decode(&manifest, &Limits::LINUX, &mut room).unwrap().targets[0].class
}

/// The manifest of the profile's example (a).
pub(crate) fn manifest() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/profile/a-one-component.hex");
    let text = fs::read_to_string(path).unwrap();
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    let file: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    head::Head::decode(&file, &Limits::LINUX).unwrap().manifest.to_vec()
}

/// What a key signs of a release (RFC 9052 section 4.4, over the manifest's digest).
pub(crate) fn to_be_signed(manifest: &[u8], key: &PublicKey) -> Vec<u8> {
    let hash = Sha256::of_parts(&[head::value_header(manifest.len()).as_slice(), manifest]);
    let digest = Digest {
        algorithm: DigestAlgorithm::Sha256,
        hash: &hash,
    };
    let payload = encoded(|w| suit::write_digest(w, &digest));
    let protected = encoded(|w| cose::write_protected(w, key.algorithm().cose(), &key.thumbprint(), None));
    SigStructure::new(&protected, &[], &payload).parts().concat()
}

fn encoded(write: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut room = vec![0; cbor::measure(&write)];
    cbor::encode(&mut room, &write).unwrap();
    room
}

/// Header, program and protected TLVs of an image: what is hashed.
pub(crate) fn image() -> Vec<u8> {
    let mut area = [0; 64];
    let mut writer = AreaWriter::new(Area::Protected, &mut area);
    writer.push(kind::SEC_CNT, &7u32.to_le_bytes()).unwrap();
    writer.push(kind::UUID_CID, &class()).unwrap();
    let len = writer.finish().unwrap();
    let program = [0x5a; 1000];
    let header = ImageHeader {
        load_addr: 0,
        hdr_size: HEADER_BYTES as u16,
        protect_tlv_size: len as u16,
        img_size: program.len() as u32,
        flags: 0,
        version: ImageVersion {
            major: 1,
            minor: 2,
            revision: 3,
            build: 0,
        },
    };
    [&header.to_bytes()[..], &program, &area[..len]].concat()
}
