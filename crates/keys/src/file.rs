//! Private keys in files: PKCS#8 in PEM form, encrypted with a passphrase.
//!
//! What is written here is always encrypted (PBES2: scrypt, AES-256-CBC, read by OpenSSL 3 and imgtool), mode 0600, and
//! never replaces a file. Behind the encrypted block stands the public key, so that it can be had without the passphrase;
//! unlocking compares the two, because AES-CBC alone would let a damaged file pass as another key. What is read may also
//! be unencrypted, because keys made by other tools often are. Every key in a file says of itself that it is good for
//! development only ([`DevelopmentOnly::File`], [`DevelopmentOnly::Unencrypted`]).

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::Signer as _;
use ed25519_dalek::ed25519::signature::MultipartSigner;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use pkcs8::der::pem::PemLabel;
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef};
use trust::SignatureAlgorithm;
use zeroize::Zeroizing;

use crate::public::{HSS_LMS, PUBLIC_PEM_LABEL};
use crate::{Code, Content, DevelopmentOnly, Error, Job, Passphrase, PublicKey, Result, Signer, lms, mldsa};

/// Bytes of a key file at most.
pub const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;
/// scrypt's N of new files is 2 to this power: 16 MiB with r = 8, the most that OpenSSL derives without being asked.
pub const SCRYPT_LOG_N: u8 = 14;
/// scrypt's r of new files.
pub const SCRYPT_R: u32 = 8;
/// scrypt's p of new files: with N and r as above the work that OWASP's password storage guide demands.
pub const SCRYPT_P: u32 = 5;
/// Bytes of memory that the key derivation of a file may ask for.
pub const SCRYPT_MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// scrypt's p that a file may ask for.
pub const SCRYPT_P_MAX: u16 = 32;
/// PBKDF2 rounds that a file may ask for.
pub const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;

const SEC1_PEM_LABEL: &str = "EC PRIVATE KEY";
/// PKCS#1, as older tools write RSA keys (among them MCUboot's default key).
const RSA_PEM_LABEL: &str = "RSA PRIVATE KEY";
/// Permission bits of group and others.
#[cfg(unix)]
const MODE_OTHERS: u32 = 0o077;

/// A key file that was read and, if it is encrypted, waits for its passphrase.
pub struct LockedKey {
    path: PathBuf,
    kind: Kind,
    public: Option<PublicKey>,
}

enum Kind {
    Encrypted(SecretDocument),
    Plain(SecretDocument),
    Sec1(SecretDocument),
}

impl LockedKey {
    /// Reads a private key file.
    ///
    /// Errors: [`Code::KeyFileMissing`], [`Code::KeyFileRead`], [`Code::NotAKey`], [`Code::KeyPublicOnly`];
    /// [`Code::KeyFileMode`] others may read or write the encrypted file (an unencrypted one is for development only, and
    /// usually comes out of a repository that keeps no modes).
    pub fn read(path: &Path) -> Result<Self> {
        let (contents, mode) = read_limited(path)?;
        let blocks = Blocks::parse(path, &contents)?;
        let Some(kind) = blocks.private else {
            return Err(match blocks.public {
                Some(_) => Code::KeyPublicOnly.error(format!("{} holds a public key", path.display())),
                None => not_a_key(path),
            });
        };
        if matches!(kind, Kind::Encrypted(_)) && mode & 0o077 != 0 {
            let what = format!(
                "others may read or write {} (mode {:03o})",
                path.display(),
                mode & 0o777
            );
            return Err(Code::KeyFileMode.error(what));
        }
        Ok(LockedKey {
            path: path.to_path_buf(),
            kind,
            public: blocks.public,
        })
    }

    /// Whether [`LockedKey::unlock`] needs a passphrase.
    pub fn needs_passphrase(&self) -> bool {
        matches!(self.kind, Kind::Encrypted(_))
    }

    /// The key, ready to sign.
    ///
    /// Errors: [`Code::PassphraseNeeded`], [`Code::WrongPassphrase`], [`Code::KdfLimit`], [`Code::KeyAlgorithm`],
    /// [`Code::NotAKey`], [`Code::KeyHalvesDiffer`].
    pub fn unlock(self, passphrase: Option<&Passphrase>) -> Result<FileKey> {
        let path = self.path;
        let (private, encrypted) = match self.kind {
            Kind::Sec1(document) => (Private::from_sec1(&path, &document)?, false),
            Kind::Plain(document) => {
                let info = PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| not_a_key(&path))?;
                (Private::from_info(&path, info)?, false)
            }
            Kind::Encrypted(document) => {
                let needed = || Code::PassphraseNeeded.error(format!("{} is encrypted", path.display()));
                let plain = decrypt(&path, &document, passphrase.ok_or_else(needed)?)?;
                let info = PrivateKeyInfoRef::from_der(plain.as_bytes()).map_err(|_| wrong_passphrase(&path))?;
                (Private::from_info(&path, info)?, true)
            }
        };
        let mut key = FileKey::new(private, format!("file {}", path.display()))?;
        key.encrypted = encrypted;
        if self.public.is_some_and(|public| public != key.public) {
            let what = format!(
                "the private and the public key in {} are not two halves of one",
                path.display()
            );
            return Err(Code::KeyHalvesDiffer.error(what));
        }
        Ok(key)
    }
}

/// A private key that was in a file, or will be.
pub struct FileKey {
    private: Private,
    public: PublicKey,
    place: String,
    encrypted: bool,
}

enum Private {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::SecretKey),
    MlDsa65(mldsa::PrivateKey),
    Lms(lms::FileTree),
}

/// A new key from the operating system's random generator; save it with [`FileKey::save_new`].
///
/// Errors: [`Code::NoEntropy`]; [`Code::KeyAlgorithm`] for an algorithm that is not implemented.
pub fn generate(algorithm: SignatureAlgorithm) -> Result<FileKey> {
    let private = match algorithm {
        SignatureAlgorithm::Ed25519 => Private::Ed25519(ed25519_dalek::SigningKey::from_bytes(&*random::<32>()?)),
        SignatureAlgorithm::Esp256 => Private::P256(random_p256()?),
        SignatureAlgorithm::MlDsa65 => Private::MlDsa65(mldsa::PrivateKey::from_seed(&*random()?)),
        _ => {
            return Err(Code::KeyAlgorithm.error("this kind of key is more than a file").advise(
                "Make LMS keys with their counter: `ampoule key new --type lms-h10-w4 --lms-counter FILE KEY`.",
            ));
        }
    };
    FileKey::new(private, "new key".into())
}

impl FileKey {
    pub(crate) fn of_lms(tree: lms::FileTree) -> Result<Self> {
        Self::new(Private::Lms(tree), "new key".into())
    }

    fn new(private: Private, place: String) -> Result<Self> {
        let public = private.public()?;
        Ok(FileKey {
            private,
            public,
            place,
            encrypted: true,
        })
    }

    /// The same key, whose reservations stand in the signing journal as this one's: an LMS key that is bound to a journal
    /// signs nothing without it. Any other key does not care.
    pub fn reserving_as(mut self, scribe: lms::Scribe) -> Self {
        if let Private::Lms(tree) = &mut self.private {
            tree.reserve_as(scribe);
        }
        self
    }

    /// Writes the encrypted key to a new file, mode 0600, and waits until it is on the disk.
    ///
    /// Errors: [`Code::KeyExists`], [`Code::KeyFileWrite`], [`Code::PassphraseTooShort`], [`Code::NoEntropy`].
    pub fn save_new(&self, path: &Path, passphrase: &Passphrase) -> Result<()> {
        passphrase.check_for_new_key()?;
        let pem = self.to_encrypted_pem(passphrase)?;
        let mut file = create_new(path)?;
        let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| {
            // Half a key is worth nothing and would block the next attempt.
            let _ = std::fs::remove_file(path);
            write_error(path, &error)
        })
    }

    /// The private key as PKCS#8 in DER, for a backup: the one form that it takes outside of its file.
    ///
    /// Error: [`Code::KeyAlgorithm`] for an LMS key, of which there must be no second copy.
    pub(crate) fn to_pkcs8(&self) -> Result<SecretDocument> {
        if matches!(self.private, Private::Lms(_)) {
            return Err(Code::KeyAlgorithm
                .error("an LMS key is not backed up: a copy put back signs twice with one index and gives it away")
                .advise("Enrol two LMS keys of different places instead, so that one may be lost."));
        }
        self.private.to_pkcs8()
    }

    /// A key that comes out of a backup, which is as good as an encrypted file.
    pub(crate) fn from_pkcs8(der: &[u8], place: String) -> Result<Self> {
        let path = Path::new(&place);
        let info = PrivateKeyInfoRef::from_der(der).map_err(|_| not_a_key(path))?;
        FileKey::new(Private::from_info(path, info)?, place.clone())
    }

    fn to_encrypted_pem(&self, passphrase: &Passphrase) -> Result<Zeroizing<String>> {
        let failed = |_| Code::KeyFileWrite.error("the key could not be encrypted");
        let plain = self.private.to_pkcs8()?;
        let info =
            PrivateKeyInfoRef::from_der(plain.as_bytes()).map_err(|_| Code::NotAKey.error("the key is damaged"))?;
        let encrypted = info
            .encrypt_with_params(encryption()?, passphrase.as_bytes())
            .map_err(failed)?;
        let label = EncryptedPrivateKeyInfoRef::PEM_LABEL;
        let mut pem = encrypted.to_pem(label, LineEnding::LF).map_err(|_| encoding_failed())?;
        pem.push_str(&self.public.to_pem());
        Ok(pem)
    }
}

impl Signer for FileKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        let published = self.public.published_sample().map(DevelopmentOnly::PublishedSample);
        let file = match (&self.private, self.encrypted) {
            (_, false) => DevelopmentOnly::Unencrypted,
            (Private::Lms(tree), true) => tree.development_only(),
            (_, true) => DevelopmentOnly::File,
        };
        published.or(Some(file))
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        match (&self.private, job.content) {
            (Private::Ed25519(key), Content::Message(parts)) => match key.try_multipart_sign(parts) {
                Ok(signature) => Ok(signature.to_bytes().to_vec()),
                Err(_) => Err(self.failed()),
            },
            (Private::Ed25519(key), Content::Digest(sha256)) => Ok(key.sign(sha256).to_bytes().to_vec()),
            (Private::P256(key), Content::Message(parts)) => self.ecdsa(key, &trust::Sha256::of_parts(parts)),
            (Private::P256(key), Content::Digest(sha256)) => self.ecdsa(key, sha256),
            (Private::MlDsa65(key), _) => key.sign(job),
            (Private::Lms(tree), _) => tree.sign(&self.public, job),
        }
    }
}

impl FileKey {
    /// Deterministic (RFC 6979): the same image and key give the same bytes.
    fn ecdsa(&self, key: &p256::SecretKey, sha256: &[u8; 32]) -> Result<Vec<u8>> {
        let signature: Result<p256::ecdsa::Signature, _> = p256::ecdsa::SigningKey::from(key).sign_prehash(sha256);
        signature
            .map(|signature| signature.to_bytes().to_vec())
            .map_err(|_| self.failed())
    }

    fn failed(&self) -> Error {
        Code::SignFailed.error(format!("{} did not sign", self.place))
    }
}

impl Private {
    fn from_info(path: &Path, info: PrivateKeyInfoRef<'_>) -> Result<Self> {
        if info.algorithm.oid == ed25519_dalek::pkcs8::ALGORITHM_OID {
            return ed25519_dalek::SigningKey::try_from(info)
                .map(Private::Ed25519)
                .map_err(|_| not_a_key(path));
        }
        if info.algorithm.oid == mldsa::OID {
            return mldsa::PrivateKey::from_info(info)
                .map(Private::MlDsa65)
                .ok_or_else(|| not_a_key(path));
        }
        if info.algorithm.oid == HSS_LMS {
            return lms::FileTree::from_octets(info.private_key.as_bytes(), path)
                .map(Private::Lms)
                .ok_or_else(|| not_a_key(path));
        }
        let unsupported = |_| {
            let what = format!("the key in {} is neither a P-256 nor an Ed25519 key", path.display());
            Code::KeyAlgorithm.error(what)
        };
        p256::SecretKey::try_from(info).map(Private::P256).map_err(unsupported)
    }

    fn from_sec1(path: &Path, document: &SecretDocument) -> Result<Self> {
        let unsupported = |_| Code::KeyAlgorithm.error(format!("the key in {} is no P-256 key", path.display()));
        p256::SecretKey::from_sec1_der(document.as_bytes())
            .map(Private::P256)
            .map_err(unsupported)
    }

    fn public(&self) -> Result<PublicKey> {
        match self {
            Private::Ed25519(key) => PublicKey::from_raw(SignatureAlgorithm::Ed25519, key.verifying_key().as_bytes()),
            Private::P256(key) => PublicKey::from_p256(&key.public_key()),
            Private::MlDsa65(key) => key.public(),
            Private::Lms(tree) => tree.public(),
        }
    }

    /// PKCS#8 version 1, without the public key: what OpenSSL of every version reads.
    fn to_pkcs8(&self) -> Result<SecretDocument> {
        let encoded = match self {
            Private::Ed25519(key) => {
                let bytes = ed25519_dalek::pkcs8::KeypairBytes {
                    secret_key: key.to_bytes(),
                    public_key: None,
                };
                bytes.to_pkcs8_der()
            }
            Private::P256(key) => key.to_pkcs8_der(),
            Private::MlDsa65(key) => key.to_pkcs8(),
            Private::Lms(tree) => lms_to_pkcs8(tree),
        };
        encoded.map_err(|_| encoding_failed())
    }
}

fn lms_to_pkcs8(tree: &lms::FileTree) -> pkcs8::Result<SecretDocument> {
    let octets = tree.to_octets();
    let algorithm = pkcs8::AlgorithmIdentifierRef {
        oid: HSS_LMS,
        parameters: None,
    };
    let info = PrivateKeyInfoRef::new(algorithm, pkcs8::der::asn1::OctetStringRef::new(&octets)?);
    Ok(SecretDocument::encode_msg(&info)?)
}

/// Reads the public key that stands in a file, or the public half of an unencrypted private key.
pub(crate) fn read_public(path: &Path) -> Result<PublicKey> {
    let (contents, _) = read_limited(path)?;
    match Blocks::parse(path, &contents)?.public {
        Some(public) => Ok(public),
        None => Ok(LockedKey::read(path)?.unlock(None)?.public),
    }
}

pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| Code::NoEntropy.error(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

fn random_p256() -> Result<p256::SecretKey> {
    // One candidate in 2^32 is not below the group order.
    loop {
        if let Ok(key) = p256::SecretKey::from_slice(&*random::<32>()?) {
            return Ok(key);
        }
    }
}

fn encryption() -> Result<pbes2::Parameters> {
    let failed = || Code::KeyFileWrite.error("the key could not be encrypted");
    let params = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(|_| failed())?;
    pbes2::Parameters::generate_scrypt_aes256cbc(params, &*random::<16>()?, *random::<16>()?).map_err(|_| failed())
}

fn decrypt(path: &Path, document: &SecretDocument, passphrase: &Passphrase) -> Result<SecretDocument> {
    let info = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| not_a_key(path))?;
    check_work(path, &info.encryption_algorithm)?;
    let unsupported = |what: String| {
        Code::NotAKey
            .error(what)
            .advise("Encrypt it anew with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`.")
    };
    info.decrypt(passphrase.as_bytes()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs8::pkcs5::Error::NoPbes1CryptSupport,
        ) => unsupported(format!("{} is encrypted with an outdated algorithm", path.display())),
        // The padding or the structure is wrong: AES-CBC has no other way to tell.
        _ => wrong_passphrase(path),
    })
}

/// Refuses a key derivation that would take minutes or all memory.
fn check_work(path: &Path, scheme: &EncryptionScheme) -> Result<()> {
    let sensible = match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(params)) => params.iteration_count <= PBKDF2_ROUNDS_MAX,
        Some(Kdf::Scrypt(params)) => {
            let memory = params.cost_parameter.checked_mul(u64::from(params.block_size) * 128);
            memory.is_some_and(|bytes| bytes <= SCRYPT_MEMORY_BYTES_MAX) && params.parallelization <= SCRYPT_P_MAX
        }
        _ => true,
    };
    let what = || format!("the key derivation of {} is beyond what is reasonable", path.display());
    if sensible {
        Ok(())
    } else {
        Err(Code::KdfLimit.error(what()))
    }
}

/// The contents and the permission bits of a key file.
fn read_limited(path: &Path) -> Result<(Zeroizing<String>, u32)> {
    let file = File::open(path).map_err(|error| read_error(path, &error))?;
    let mode = mode_of(&file);
    let mut contents = Zeroizing::new(Vec::new());
    let read = file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut contents);
    read.map_err(|error| read_error(path, &error))?;
    if contents.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(not_a_key(path));
    }
    let text = core::str::from_utf8(&contents).map_err(|_| not_a_key(path))?;
    Ok((Zeroizing::new(text.to_owned()), mode))
}

/// What a key file holds: its first private and its first public key. Other blocks (EC PARAMETERS, certificates) are
/// passed over.
struct Blocks {
    private: Option<Kind>,
    public: Option<PublicKey>,
}

impl Blocks {
    fn parse(path: &Path, contents: &str) -> Result<Self> {
        let mut blocks = Blocks {
            private: None,
            public: None,
        };
        for block in pem_blocks(contents).filter(|block| is_key(block)) {
            let (label, document) = SecretDocument::from_pem(block).map_err(|_| not_a_key(path))?;
            let kind = match label {
                EncryptedPrivateKeyInfoRef::PEM_LABEL => Kind::Encrypted(document),
                PrivateKeyInfoRef::PEM_LABEL => Kind::Plain(document),
                SEC1_PEM_LABEL => Kind::Sec1(document),
                RSA_PEM_LABEL => return Err(Code::KeyAlgorithm.error(format!("{} holds an RSA key", path.display()))),
                PUBLIC_PEM_LABEL => {
                    let public = PublicKey::from_spki_der(document.as_bytes())?;
                    blocks.public.get_or_insert(public);
                    continue;
                }
                _ => continue,
            };
            blocks.private.get_or_insert(kind);
        }
        Ok(blocks)
    }
}

fn is_key(block: &str) -> bool {
    block
        .lines()
        .next()
        .is_some_and(|begin| begin.trim_end().ends_with("KEY-----"))
}

/// The PEM blocks of a text, each from its BEGIN line to the end of its END line.
fn pem_blocks(text: &str) -> impl Iterator<Item = &str> {
    let begins = text.match_indices("-----BEGIN ").map(|(at, _)| at);
    begins.map(|begin| {
        let block = &text[begin..];
        let end = block
            .find("-----END ")
            .and_then(|end| block[end..].find('\n').map(|newline| end + newline + 1));
        &block[..end.unwrap_or(block.len())]
    })
}

#[cfg(unix)]
fn mode_of(file: &File) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .map_or(MODE_OTHERS, |metadata| metadata.permissions().mode())
}

#[cfg(not(unix))]
fn mode_of(_file: &File) -> u32 {
    0
}

fn create_new(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Code::KeyExists.error(format!("{} exists already", path.display())),
        _ => write_error(path, &error),
    })
}

fn read_error(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Code::KeyFileMissing.error(format!("there is no key file {}", path.display())),
        _ => Code::KeyFileRead.error(format!("{} cannot be read: {error}", path.display())),
    }
}

fn write_error(path: &Path, error: &std::io::Error) -> Error {
    Code::KeyFileWrite.error(format!("{} cannot be written: {error}", path.display()))
}

fn encoding_failed() -> Error {
    Code::KeyFileWrite.error("the key could not be encoded")
}

fn not_a_key(path: &Path) -> Error {
    Code::NotAKey.error(format!("{} holds no private key that can be read", path.display()))
}

fn wrong_passphrase(path: &Path) -> Error {
    Code::WrongPassphrase.error(format!("the passphrase does not open {}", path.display()))
}
