//! Backups of file keys: the key under a random wrapping key, and the wrapping key in M-of-N shares.
//!
//! The key is sealed with AES-256-GCM; the wrapping key is split by Shamir's secret sharing over GF(2^8) and then
//! forgotten. The backup alone is worth nothing, fewer shares than the threshold say nothing, and enough shares with
//! the backup are the key: no passphrase is needed, because in twenty years nobody knows it. docs/backup.md has both
//! formats byte for byte.

mod share;

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use blahaj::Sharks;
use pkcs8::LineEnding;
use pkcs8::der::pem;
use trust::{PORTABLE, Sha256};
use zeroize::Zeroizing;

pub use share::{GROUP_CHARS, GROUPS, LINE_GROUPS, SHARE_BYTES, Share, check_line};

use crate::file::{FileKey, random};
use crate::{Code, Content, Error, Job, Object, PublicKey, Purpose, Result, Signature, Signer};

/// Label of the PEM block of a backup.
pub const PEM_LABEL: &str = "AMPOULE KEY BACKUP";
/// Shares of a backup at most: each is a person with a safe.
pub const SHARES_MAX: u8 = 16;
/// The lowest threshold: one share that suffices alone is a copy of the key.
pub const THRESHOLD_MIN: u8 = 2;
/// Bytes of a text that is searched for a backup at most.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// First bytes of a backup: a name and the version of the format.
const MAGIC: &[u8; 8] = b"AMPBACK\x01";
/// What a restore drill signs starts with this, so that its signature is good for nothing else.
const DRILL_DOMAIN: &[u8] = b"ampoule-restore-drill-v1\0";
const WRAPPING_KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// The name of a backup; its shares carry it too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackupId(pub [u8; 8]);

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pair) in self.0.chunks(2).enumerate() {
            let separator = if at == 0 { "" } else { "-" };
            write!(f, "{separator}{:02x}{:02x}", pair[0], pair[1])?;
        }
        Ok(())
    }
}

/// A sealed key. Not secret by itself: keep copies of it, one with every share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    id: BackupId,
    threshold: u8,
    digests: Vec<ShareDigest>,
    public: PublicKey,
    /// Everything before the nonce, which the seal covers.
    head: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

/// The first bytes of a share's SHA-256, by which a changed share is named. A share is 32 random bytes and more, so
/// this says nothing about it.
type ShareDigest = [u8; 8];

/// Makes a backup of `key` and `shares` shares of which any `threshold` restore it.
///
/// What is handed out was tried: every share is read back from its text, and groups of them that together cover all
/// give the key again.
///
/// Errors: [`Code::BackupParameters`], [`Code::NoEntropy`], [`Code::DrillFailed`].
pub fn make(key: &FileKey, shares: u8, threshold: u8) -> Result<(Backup, Vec<Share>)> {
    check_parameters(shares, threshold)?;
    let id = BackupId(*random::<8>()?);
    let wrapping_key = random::<WRAPPING_KEY_BYTES>()?;
    let dealt: Vec<Share> = Sharks(threshold)
        .dealer(&*wrapping_key)
        .take(usize::from(shares))
        .map(|point| Share::new(id, threshold, shares, &point))
        .collect();
    let digests: Vec<ShareDigest> = dealt.iter().map(digest).collect();
    let public = key.public_key().clone();
    let head = encode_head(id, threshold, &digests, &public)?;
    let nonce = *random::<NONCE_BYTES>()?;
    let sealed = seal(key, &*wrapping_key, &head, &nonce)?;
    let backup = Backup {
        id,
        threshold,
        digests,
        public,
        head,
        nonce,
        sealed,
    };
    try_out(&backup, &dealt)?;
    Ok((backup, dealt))
}

impl Backup {
    /// Reads the backup that stands in a text: a file of its own, or the sheet of a share.
    ///
    /// Error: [`Code::BackupMalformed`].
    pub fn parse(text: &str) -> Result<Backup> {
        let begin = format!("-----BEGIN {PEM_LABEL}-----");
        let from = (text.len() <= TEXT_BYTES_MAX).then(|| text.find(&begin)).flatten();
        let block = from
            .and_then(|from| text.get(from..))
            .ok_or_else(|| malformed("no backup in it"))?;
        let end = format!("-----END {PEM_LABEL}-----");
        let to = block.find(&end).ok_or_else(|| malformed("its last line is missing"))?;
        let block = block.get(..to + end.len()).unwrap_or_default();
        let (_, bytes) = pem::decode_vec(block.as_bytes()).map_err(|_| malformed("it is no whole PEM block"))?;
        Backup::decode(&bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Backup> {
        let mut rest = Reader(bytes);
        if rest.take(MAGIC.len())? != MAGIC {
            return Err(malformed("it is of another version"));
        }
        let id = BackupId(rest.array()?);
        let [threshold, shares] = rest.array()?;
        check_parameters(shares, threshold).map_err(|_| malformed("threshold and shares do not fit"))?;
        let digests = (0..shares).map(|_| rest.array()).collect::<Result<_>>()?;
        let spki_bytes = usize::from(u16::from_be_bytes(rest.array()?));
        let public = PublicKey::from_spki_der(rest.take(spki_bytes)?)?;
        let head = bytes.len() - rest.0.len();
        let nonce = rest.array()?;
        if rest.0.len() <= TAG_BYTES {
            return Err(malformed("it is cut short"));
        }
        Ok(Backup {
            id,
            threshold,
            digests,
            public,
            head: bytes.get(..head).unwrap_or_default().to_vec(),
            nonce,
            sealed: rest.0.to_vec(),
        })
    }

    /// The backup as a PEM block, which may stand anywhere in a text.
    pub fn to_pem(&self) -> String {
        let bytes = [&self.head[..], &self.nonce, &self.sealed].concat();
        pem::encode_string(PEM_LABEL, LineEnding::LF, &bytes).unwrap_or_default()
    }

    /// Its name.
    pub fn id(&self) -> BackupId {
        self.id
    }

    /// How many shares restore the key.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many shares there are.
    pub fn shares(&self) -> u8 {
        u8::try_from(self.digests.len()).unwrap_or(u8::MAX)
    }

    /// The public half of the key in it, as its maker stated it; opening compares.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Whether `share` is one of this backup's, unchanged.
    ///
    /// Errors: [`Code::ShareOfOtherBackup`], [`Code::ShareWrong`].
    pub fn check_share(&self, share: &Share) -> Result<()> {
        if share.backup_id() != self.id {
            let what = format!(
                "share {} is of backup {}, this is {}",
                share.number(),
                share.backup_id(),
                self.id
            );
            return Err(Code::ShareOfOtherBackup.error(what));
        }
        let stated = self.digests.get(usize::from(share.number()).wrapping_sub(1));
        if stated != Some(&digest(share)) {
            let what = format!("share {} is not the one that was made with this backup", share.number());
            return Err(Code::ShareWrong.error(what));
        }
        Ok(())
    }

    /// Checks a whole set of shares: each genuine, no number twice, enough of them.
    ///
    /// Errors: those of [`Backup::check_share`]; [`Code::ShareTwice`], [`Code::SharesTooFew`].
    pub fn check_shares(&self, shares: &[Share]) -> Result<()> {
        for (at, share) in shares.iter().enumerate() {
            self.check_share(share)?;
            if shares.iter().take(at).any(|other| other.number() == share.number()) {
                return Err(Code::ShareTwice.error(format!("share {} is given twice", share.number())));
            }
        }
        if shares.len() < usize::from(self.threshold) {
            let what = format!("{} shares are given, {} are needed", shares.len(), self.threshold);
            return Err(Code::SharesTooFew.error(what));
        }
        Ok(())
    }

    /// The key, in memory. Save it with [`FileKey::save_new`].
    ///
    /// Errors: those of [`Backup::check_shares`]; [`Code::BackupMalformed`] the backup was changed;
    /// [`Code::KeyHalvesDiffer`].
    pub fn open(&self, shares: &[Share]) -> Result<FileKey> {
        self.check_shares(shares)?;
        let points: Vec<blahaj::Share> = shares.iter().map(Share::point).collect();
        let failed = |_| Code::SharesTooFew.error("the shares do not fit together");
        let wrapping_key = Zeroizing::new(Sharks(self.threshold).recover(&points).map_err(failed)?);
        let payload = Payload {
            msg: &self.sealed,
            aad: &self.head,
        };
        let not_opened = |_| malformed("its seal is broken, although the shares are right");
        let opened = cipher(&wrapping_key)?.decrypt(&Nonce::from(self.nonce), payload);
        let pkcs8 = Zeroizing::new(opened.map_err(not_opened)?);
        let key = FileKey::from_pkcs8(&pkcs8, format!("backup {}", self.id))?;
        if *key.public_key() != self.public {
            return Err(Code::KeyHalvesDiffer.error(format!("backup {} holds another key than it says", self.id)));
        }
        Ok(key)
    }

    /// Proves that the backup works: restores the key into memory, lets it sign `statement` (which carries a nonce of
    /// the caller), verifies that under the stated public key, and forgets the key. `journaled` ties the key to the
    /// signing journal.
    ///
    /// Errors: those of [`Backup::open`]; [`Code::DrillFailed`]; those of the journal.
    pub fn drill(
        &self,
        shares: &[Share],
        statement: &[u8],
        journaled: impl FnOnce(FileKey) -> Result<Box<dyn Signer>>,
    ) -> Result<Signature> {
        let key = journaled(self.open(shares)?)?;
        let purpose = Purpose {
            object: Object::Record,
            subject: format!("restore drill of backup {}", self.id),
            digest: Sha256::of(statement),
        };
        let job = Job {
            content: Content::Message(&[DRILL_DOMAIN, statement]),
            purpose: &purpose,
        };
        let signature = key.sign(&job)?;
        verify_drill(&self.public, statement, signature.as_cose())?;
        Ok(signature)
    }
}

/// Whether the holder of `key` signed `statement` in a restore drill. Error: [`Code::DrillFailed`].
pub fn verify_drill(key: &PublicKey, statement: &[u8], signature: &[u8]) -> Result<()> {
    let wrong = || Code::DrillFailed.error("the drill's signature does not verify under the public key");
    let verifier = PORTABLE.find(key.algorithm()).ok_or_else(wrong)?;
    let verified = verifier.verify(&key.borrow(), &[DRILL_DOMAIN, statement], signature);
    verified.map_err(|_| wrong())
}

fn check_parameters(shares: u8, threshold: u8) -> Result<()> {
    if threshold < THRESHOLD_MIN || threshold > shares || shares > SHARES_MAX {
        return Err(Code::BackupParameters.error(format!("a threshold of {threshold} with {shares} shares")));
    }
    Ok(())
}

fn encode_head(id: BackupId, threshold: u8, digests: &[ShareDigest], public: &PublicKey) -> Result<Vec<u8>> {
    let spki = public.to_spki_der();
    let spki_bytes = u16::try_from(spki.len()).map_err(|_| malformed("its key is too large"))?;
    let shares = u8::try_from(digests.len()).map_err(|_| malformed("too many shares"))?;
    let mut head = [&MAGIC[..], &id.0, &[threshold, shares]].concat();
    head.extend(digests.iter().flatten());
    head.extend(spki_bytes.to_be_bytes());
    head.extend(spki);
    Ok(head)
}

fn seal(key: &FileKey, wrapping_key: &[u8], head: &[u8], nonce: &[u8; NONCE_BYTES]) -> Result<Vec<u8>> {
    let pkcs8 = key.to_pkcs8()?;
    let payload = Payload {
        msg: pkcs8.as_bytes(),
        aad: head,
    };
    let failed = |_| malformed("the key could not be sealed");
    cipher(wrapping_key)?
        .encrypt(&Nonce::from(*nonce), payload)
        .map_err(failed)
}

fn cipher(wrapping_key: &[u8]) -> Result<Aes256Gcm> {
    let key: &Key<Aes256Gcm> = wrapping_key
        .try_into()
        .map_err(|_| malformed("the wrapping key has another size"))?;
    Ok(Aes256Gcm::new(key))
}

fn digest(share: &Share) -> ShareDigest {
    let whole = Sha256::of(share.as_bytes());
    whole.first_chunk().copied().unwrap_or_default()
}

/// Every share is used at least once, each in as few groups as it takes.
fn try_out(backup: &Backup, dealt: &[Share]) -> Result<()> {
    let read = dealt.iter().map(|share| Share::parse(&share.to_text()));
    let read = read.collect::<Result<Vec<Share>>>()?;
    let written = Backup::parse(&backup.to_pem())?;
    let size = usize::from(backup.threshold);
    // A signature over nothing that anybody knows, thrown away at once: no entry in the journal.
    let unjournaled = |key: FileKey| -> Result<Box<dyn Signer>> { Ok(Box::new(key)) };
    let statement = random::<32>()?;
    let last = read.len().saturating_sub(size);
    for from in (0..last).step_by(size).chain([last]) {
        let group = read.get(from..from + size).unwrap_or_default();
        written.drill(group, &*statement, unjournaled)?;
    }
    Ok(())
}

/// Takes what stands next.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| malformed("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| malformed("it is cut short"))
    }
}

fn malformed(why: &str) -> Error {
    Code::BackupMalformed.error(format!("the backup cannot be read: {why}"))
}
