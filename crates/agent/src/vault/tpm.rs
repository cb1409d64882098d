//! A vault in a TPM 2.0.
//!
//! | what | where |
//! |---|---|
//! | the device's secret | half of it sealed by the TPM under a signed policy (`sealed.tpm`), half of it in the TPM's NV memory |
//! | the device's key | made in the TPM, which alone can use it; what lies in `key-NAME.tpm` is wrapped by the TPM |
//! | the counter | an NV counter of the TPM |
//!
//! Every command that carries a secret goes through a session that is salted with the storage key and encrypts its
//! parameters, so that nobody reads along on the bus. The half in NV memory makes [`KeyVault::destroy`] true: a copy of the
//! sealed file opens nothing any more. An NV counter that is made anew never starts below any that ever was (TPM 2.0
//! Library part 1, section 37.2.4), so that it does not fit either.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, mpsc};
use std::thread;

use codec::Reason;
use engine::counter::Counter;
use engine::flash::Flash;
use keys::{Code, Content, DevelopmentOnly, Error, Job, PublicKey, Result, Signer};
use trust::{KeyVault, Sha256, SignatureAlgorithm, UniqueKey};
use tss_esapi::Context;
use tss_esapi::attributes::{NvIndexAttributesBuilder, ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK, TPM2_ST_VERIFIED};
use tss_esapi::constants::{NvIndexType, SessionType, Tss2ResponseCodeKind};
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, EccSignature, HashScheme, HashcheckTicket, KeyedHashScheme, MaxNvBuffer,
    Name, Nonce, NvPublicBuilder, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Private, Public, PublicBuilder,
    PublicEccParametersBuilder, PublicKeyedHashParameters, SensitiveData, Signature, SignatureScheme,
    SymmetricDefinition, SymmetricDefinitionObject, VerifiedTicket,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK, TPMT_TK_VERIFIED};
use zeroize::Zeroizing;

use crate::fields;
use crate::policy::{self, SignedPolicy};

/// The sealed file, in the vault's folder.
pub const SEALED_FILE: &str = "sealed.tpm";
/// The NV index of the counter; the secret's half is at the next one. In the range of a machine's owner.
pub const NV_INDEX: u32 = 0x0180_0a00;
const SEALED_MARK: &[u8; 8] = b"AMPTPM-1";
const KEY_MARK: &[u8; 8] = b"AMPTPK-1";
/// What the two halves are put together for.
const SECRET_LABEL: &[u8] = b"amp-tpm-vault-1 secret";
const HALF_BYTES: usize = 32;
const COUNT_BYTES: usize = 8;
/// Steps that the counter may be behind: one per change, and one where it was given up.
const STEPS_MAX: u32 = 8;

type Tss<T> = tss_esapi::Result<T>;

/// A TPM, used by one thread of its own; clones use the same one. When the last of them goes, the TPM is left without
/// anything that was loaded: one without a resource manager would keep it, and holds three objects.
#[derive(Clone)]
pub struct Tpm(Arc<Worker>);

struct Worker {
    jobs: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Work = Box<dyn FnOnce(&mut Open) + Send>;

/// A connection with the storage key and the session that protects what goes over it.
struct Open {
    context: Context,
    storage: KeyHandle,
}

impl Tpm {
    /// Connects. `tcti` names the TPM in the way of its software stack: `device:/dev/tpmrm0`, `swtpm:host=H,port=P`.
    ///
    /// Errors: [`Code::TpmSilent`], [`Code::TpmRefused`].
    pub fn open(tcti: &str) -> Result<Tpm> {
        let silent = |error: tss_esapi::Error| Code::TpmSilent.error(format!("{tcti}: {error}"));
        let place = TctiNameConf::from_str(tcti).map_err(silent)?;
        let (jobs, inbox) = mpsc::channel::<Work>();
        let (ready, opened) = mpsc::channel();
        let thread = thread::spawn(move || match Open::new(place) {
            Ok(mut open) => {
                let _ = ready.send(Ok(()));
                inbox.into_iter().for_each(|work| work(&mut open));
            }
            Err(error) => drop(ready.send(Err(error))),
        });
        opened.recv().map_err(|_| gone())?.map_err(silent)?;
        Ok(Tpm(Arc::new(Worker {
            jobs: Some(jobs),
            thread: Some(thread),
        })))
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Open) -> T + Send + 'static) -> Result<T> {
        let (done, result) = mpsc::channel();
        let work: Work = Box::new(move |open| drop(done.send(work(open))));
        let jobs = self.0.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(work).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// What PCRs of the SHA-256 bank hold now. Errors: [`Code::PolicyMalformed`], [`Code::TpmRefused`].
    pub fn measured(&self, pcrs: &[u8]) -> Result<Vec<[u8; 32]>> {
        let selections = pcrs.iter().map(|pcr| selection(&[*pcr])).collect::<Result<Vec<_>>>()?;
        self.run(move |open| open.measured(&selections))?.map_err(refused)
    }

    /// The device's key of this name in this folder, made in the TPM at its first use.
    ///
    /// Errors: [`Code::TpmForeign`] another TPM made it; [`Code::VaultDamaged`], [`Code::VaultStorage`],
    /// [`Code::TpmRefused`].
    pub fn device_key(&self, folder: &Path, name: &str) -> Result<TpmKey> {
        let path = folder.join(format!("key-{name}.tpm"));
        if !path.exists() {
            let made = self.run(|open| open.make_key())?.map_err(refused)?;
            fields::write_new(&path, &fields::to_bytes(KEY_MARK, &[&made.0, &made.1]))?;
        }
        let damaged = || Code::VaultDamaged.error(format!("{} holds no key", path.display()));
        let [public, private] = fields::parse(KEY_MARK, &fields::read(&path)?).ok_or_else(damaged)?;
        let wrapped = Wrapped { public, private };
        let copy = wrapped.clone();
        let (x, y) = self.run(move |open| open.coordinates(&copy))?.map_err(foreign)?;
        Ok(TpmKey {
            tpm: self.clone(),
            wrapped,
            public: PublicKey::from_raw(SignatureAlgorithm::Esp256, &[x, y].concat())?,
            place: format!("TPM key {name}"),
        })
    }
}

/// An object as the TPM gives it away: it alone can load it again. Loaded for each use, because a TPM has few places.
#[derive(Clone)]
struct Wrapped {
    public: Vec<u8>,
    private: Vec<u8>,
}

/// A P-256 key that a TPM made and keeps. Its signatures are verified before they leave, like those of every signer.
pub struct TpmKey {
    tpm: Tpm,
    wrapped: Wrapped,
    public: PublicKey,
    place: String,
}

impl Signer for TpmKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        None
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let sha256 = match job.content {
            Content::Message(parts) => Sha256::of_parts(parts),
            Content::Digest(sha256) => *sha256,
        };
        let wrapped = self.wrapped.clone();
        self.tpm.run(move |open| open.sign(&wrapped, &sha256))?.map_err(refused)
    }
}

/// A vault in a TPM, open.
pub struct TpmVault {
    tpm: Tpm,
    folder: PathBuf,
    nv_index: u32,
    key: UniqueKey,
    /// What the NV counter stood at when the vault was made.
    base: u64,
}

impl TpmVault {
    /// Makes the vault: its secret, and its counter. From now on it opens under policies of this authority (P-256) and
    /// family only.
    ///
    /// Errors: [`Code::VaultExists`] in the folder or in the TPM, [`Code::VaultStorage`], [`Code::TpmRefused`],
    /// [`Code::KeyAlgorithm`], [`Code::NoEntropy`].
    pub fn create(tpm: &Tpm, folder: &Path, nv_index: u32, authority: &PublicKey, reference: &str) -> Result<()> {
        let path = folder.join(SEALED_FILE);
        if path.exists() {
            return Err(Code::VaultExists.error(format!("{} exists already", path.display())));
        }
        let key = authority_public(authority)?;
        let (sealed_half, nv_half) = (super::random()?, super::random()?);
        let word = reference.as_bytes().to_vec();
        let (public, private) = tpm
            .run(move |open| {
                let policy = open.authorized(key, &word)?;
                let base = open.make_counter(nv_index, &nv_half)?;
                let secret = Zeroizing::new([&sealed_half[..], &base.to_be_bytes()].concat());
                open.seal(policy, &secret)
            })?
            .map_err(|error| match is_defined(&error) {
                true => Code::VaultExists.error(format!("the TPM has a vault at {nv_index:#x}")),
                false => refused(error),
            })?;
        let spki = authority.to_spki_der();
        let bytes = fields::to_bytes(SEALED_MARK, &[&public, &private, &spki, reference.as_bytes()]);
        fields::write_new(&path, &bytes)
    }

    /// Opens the vault under the first of these policies that fits what was measured.
    ///
    /// Errors: [`Code::VaultMissing`], [`Code::VaultDamaged`]; [`Code::TpmForeign`] another TPM sealed it;
    /// [`Code::PolicyUnmet`] no policy fits, or there is none; [`Code::PolicyForeign`] none is signed by the authority;
    /// [`Code::CounterMissing`] the TPM's part is gone; [`Code::TpmRefused`].
    pub fn open(tpm: &Tpm, folder: &Path, nv_index: u32, policies: &[SignedPolicy]) -> Result<TpmVault> {
        let damaged = || Code::VaultDamaged.error(format!("{SEALED_FILE} is no sealed vault"));
        let bytes = fields::read(&folder.join(SEALED_FILE))?;
        let [public, private, authority, reference] = fields::parse(SEALED_MARK, &bytes).ok_or_else(damaged)?;
        let authority = authority_public(&PublicKey::from_spki_der(&authority).map_err(|_| damaged())?)?;
        let item = Wrapped { public, private };
        let copy = item.clone();
        tpm.run(move |open| open.with_loaded(&copy, |_, _| Ok(())))?
            .map_err(foreign)?;
        let mut last = Code::PolicyUnmet.error("there is no signed policy");
        for policy in policies {
            match unseal(tpm, &item, authority.clone(), &reference, policy) {
                Ok(opened) => return TpmVault::complete(tpm, folder, nv_index, &opened),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn complete(tpm: &Tpm, folder: &Path, nv_index: u32, opened: &[u8]) -> Result<TpmVault> {
        let damaged = || Code::VaultDamaged.error("what was sealed has another form");
        let (half, base) = opened.split_first_chunk::<HALF_BYTES>().ok_or_else(damaged)?;
        let base = u64::from_be_bytes(base.try_into().map_err(|_| damaged())?);
        let nv_half = tpm
            .run(move |open| open.nv_read(nv_index + 1, HALF_BYTES))?
            .map_err(missing)?;
        let secret = Sha256::of_parts(&[SECRET_LABEL, half, &nv_half]);
        Ok(TpmVault {
            tpm: tpm.clone(),
            folder: folder.to_path_buf(),
            nv_index,
            key: UniqueKey::new(secret),
            base,
        })
    }

    /// The device's key of this name; see [`Tpm::device_key`].
    pub fn device_key(&self, name: &str) -> Result<TpmKey> {
        self.tpm.device_key(&self.folder, name)
    }

    /// The counter of the sealed storage.
    pub fn counter(&self) -> TpmCounter {
        TpmCounter {
            tpm: self.tpm.clone(),
            index: self.nv_index,
            base: self.base,
        }
    }
}

impl KeyVault for TpmVault {
    fn derive(&mut self, label: &[u8], out: &mut [u8]) -> Result<(), Reason> {
        self.key.derive(label, out)
    }

    /// Takes the secret's half and the counter out of the TPM.
    fn destroy(&mut self) -> Result<(), Reason> {
        let index = self.nv_index;
        let removed = self
            .tpm
            .run(move |open| open.nv_remove(index + 1).and(open.nv_remove(index)));
        self.key.destroy()?;
        removed
            .ok()
            .and_then(|removed| removed.ok())
            .ok_or(Reason::VaultFailed)?;
        std::fs::remove_file(self.folder.join(SEALED_FILE)).map_err(|_| Reason::VaultFailed)
    }
}

/// A counter in the TPM, counted from where it stood when the vault was made.
pub struct TpmCounter {
    tpm: Tpm,
    index: u32,
    base: u64,
}

impl TpmCounter {
    fn count(&self) -> Result<u32, Reason> {
        let index = self.index;
        let read = self.tpm.run(move |open| open.nv_read(index, COUNT_BYTES));
        let bytes = read.ok().and_then(|read| read.ok()).ok_or(Reason::VaultFailed)?;
        let count = u64::from_be_bytes(bytes[..].try_into().map_err(|_| Reason::VaultFailed)?);
        let since = count.checked_sub(self.base).ok_or(Reason::VaultFailed)?;
        u32::try_from(since).map_err(|_| Reason::VaultFailed)
    }
}

impl<F: Flash> Counter<F> for TpmCounter {
    fn read(&mut self, _: &mut F) -> Result<u32, Reason> {
        self.count()
    }

    fn advance_to(&mut self, _: &mut F, to: u32) -> Result<(), Reason> {
        let steps = to.saturating_sub(self.count()?);
        if steps > STEPS_MAX {
            return Err(Reason::VaultFailed);
        }
        for _ in 0..steps {
            let index = self.index;
            let stepped = self.tpm.run(move |open| open.nv_increment(index));
            stepped
                .ok()
                .and_then(|stepped| stepped.ok())
                .ok_or(Reason::VaultFailed)?;
        }
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Commands

/// What went wrong on the way to an open vault.
enum Unsealing {
    Signature(tss_esapi::Error),
    Policy(tss_esapi::Error),
    Other(tss_esapi::Error),
}

fn unseal(
    tpm: &Tpm,
    item: &Wrapped,
    authority: Public,
    reference: &[u8],
    policy: &SignedPolicy,
) -> Result<Zeroizing<Vec<u8>>> {
    let [r, s] = policy.raw_signature()?;
    let approved = policy.digest()?;
    if policy.reference.as_bytes() != reference {
        let what = format!(
            "the policy is of the family {:?}, the vault of another",
            policy.reference
        );
        return Err(Code::PolicyUnmet.error(what));
    }
    let signed = Sha256::of(&policy::message(&approved, &policy.reference));
    let pcrs = selection(&policy.pcrs)?;
    let word = reference.to_vec();
    let item = item.clone();
    let opened = tpm.run(move |open| {
        let signature = ecdsa(&r, &s).map_err(Unsealing::Signature)?;
        open.unseal(&item, authority, &word, (&approved, &signed, signature), pcrs)
    })?;
    opened.map_err(|error| match error {
        Unsealing::Signature(error) => Code::PolicyForeign.error(format!("the policy is not the authority's: {error}")),
        Unsealing::Policy(error) => {
            Code::PolicyUnmet.error(format!("what was measured is not what was approved: {error}"))
        }
        Unsealing::Other(error) => refused(error),
    })
}

impl Open {
    fn new(place: TctiNameConf) -> Tss<Open> {
        let mut context = Context::new(place)?;
        let template = storage_template()?;
        let storage = context
            .execute_with_nullauth_session(|context| {
                context.create_primary(Hierarchy::Owner, template, None, None, None, None)
            })?
            .key_handle;
        let mut open = Open { context, storage };
        let session = open.session(SessionType::Hmac)?;
        open.context.set_sessions((Some(session), None, None));
        Ok(open)
    }

    /// A session that is salted with the storage key and encrypts what goes in and comes out.
    fn session(&mut self, kind: SessionType) -> Tss<AuthSession> {
        let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        let storage = Some(self.storage);
        let session = self
            .context
            .execute_without_session(|context| context.start_auth_session(storage, None, None, kind, cipher, hash))?;
        let session = session.ok_or_else(no_answer)?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_continue_session(true)
            .with_decrypt(kind != SessionType::Trial)
            .with_encrypt(kind != SessionType::Trial)
            .build();
        self.context.tr_sess_set_attributes(session, attributes, mask)?;
        Ok(session)
    }

    /// A policy session for what `then` does, closed afterwards.
    fn with_policy<T>(
        &mut self,
        kind: SessionType,
        then: impl FnOnce(&mut Open, AuthSession) -> Result<T, Unsealing>,
    ) -> Result<T, Unsealing> {
        let session = self.session(kind).map_err(Unsealing::Other)?;
        let result = then(self, session);
        let handle = tss_esapi::handles::SessionHandle::from(session);
        let closed = self
            .context
            .execute_without_session(|context| context.flush_context(handle.into()));
        let result = result?;
        closed.map_err(Unsealing::Other)?;
        Ok(result)
    }

    /// The digest of "whatever this authority approves in this family".
    fn authorized(&mut self, authority: Public, reference: &[u8]) -> Tss<Digest> {
        let (key, name) = self.authority(authority)?;
        self.context
            .execute_without_session(|context| context.flush_context(key.into()))?;
        let reference = Nonce::try_from(reference.to_vec())?;
        let made = self.with_policy(SessionType::Trial, |open, session| {
            let digest = open.context.execute_without_session(|context| {
                let session = PolicySession::try_from(session)?;
                let ticket = no_ticket()?;
                context.policy_authorize(session, Digest::default(), reference, &name, ticket)?;
                context.policy_get_digest(session)
            });
            digest.map_err(Unsealing::Other)
        });
        made.map_err(Unsealing::into_inner)
    }

    fn authority(&mut self, authority: Public) -> Tss<(KeyHandle, Name)> {
        let key = self
            .context
            .execute_without_session(|context| context.load_external_public(authority, Hierarchy::Owner))?;
        let name = self.context.tr_get_name(key.into())?;
        Ok((key, name))
    }

    fn seal(&mut self, policy: Digest, secret: &[u8]) -> Tss<(Vec<u8>, Vec<u8>)> {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .build()?;
        let template = PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::KeyedHash)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_auth_policy(policy)
            .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
            .with_keyed_hash_unique_identifier(Digest::default())
            .build()?;
        let secret = SensitiveData::try_from(secret.to_vec())?;
        let made = self
            .context
            .create(self.storage, template, None, Some(secret), None, None)?;
        Ok((made.out_public.marshall()?, made.out_private.value().to_vec()))
    }

    /// Loads an object for what `then` does, and flushes it afterwards.
    fn with_loaded<T>(&mut self, item: &Wrapped, then: impl FnOnce(&mut Open, KeyHandle) -> Tss<T>) -> Tss<T> {
        let (public, private) = (
            Public::unmarshall(&item.public)?,
            Private::try_from(item.private.clone())?,
        );
        let handle = self.context.load(self.storage, private, public)?;
        let result = then(self, handle);
        self.context
            .execute_without_session(|context| context.flush_context(handle.into()))?;
        result
    }

    /// PolicyPCR with what is measured, PolicyAuthorize with what was signed, Unseal. `approved` is the policy's digest,
    /// the digest that was signed, and the signature.
    fn unseal(
        &mut self,
        item: &Wrapped,
        authority: Public,
        reference: &[u8],
        approved: (&[u8; 32], &[u8; 32], Signature),
        pcrs: PcrSelectionList,
    ) -> Result<Zeroizing<Vec<u8>>, Unsealing> {
        let (digest, signed, signature) = approved;
        let (key, name) = self.authority(authority).map_err(Unsealing::Other)?;
        let checked = self.context.execute_without_session(|context| {
            let ticket = context.verify_signature(key, Digest::try_from(signed.to_vec())?, signature);
            context.flush_context(key.into())?;
            ticket
        });
        let ticket = checked.map_err(Unsealing::Signature)?;
        let digest = Digest::try_from(digest.to_vec()).map_err(Unsealing::Other)?;
        let reference = Nonce::try_from(reference.to_vec()).map_err(Unsealing::Other)?;
        self.with_policy(SessionType::Policy, |open, session| {
            let met = open.context.execute_without_session(|context| {
                let session = PolicySession::try_from(session)?;
                context.policy_pcr(session, Digest::default(), pcrs)?;
                context.policy_authorize(session, digest, reference, &name, ticket)
            });
            met.map_err(Unsealing::Policy)?;
            let unsealed = open.with_loaded(item, |open, item| {
                let item = ObjectHandle::from(item);
                open.context
                    .execute_with_session(Some(session), |context| context.unseal(item))
            });
            let secret = unsealed.map_err(Unsealing::Policy)?;
            Ok(Zeroizing::new(secret.value().to_vec()))
        })
    }

    fn measured(&mut self, selections: &[PcrSelectionList]) -> Tss<Vec<[u8; 32]>> {
        let read = |selection: &PcrSelectionList| {
            let (_, _, values) = self
                .context
                .execute_without_session(|context| context.pcr_read(selection.clone()))?;
            let value = values.value().first().ok_or_else(no_answer)?;
            value.value().try_into().map_err(|_| no_answer())
        };
        selections.iter().map(read).collect()
    }

    fn make_key(&mut self) -> Tss<(Vec<u8>, Vec<u8>)> {
        let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
        let template = tss_esapi::utils::create_unrestricted_signing_ecc_public(scheme, EccCurve::NistP256)?;
        let made = self.context.create(self.storage, template, None, None, None, None)?;
        Ok((made.out_public.marshall()?, made.out_private.value().to_vec()))
    }

    /// The coordinates of a key's public half, as the TPM says after loading it.
    fn coordinates(&mut self, key: &Wrapped) -> Tss<([u8; 32], [u8; 32])> {
        let read = |open: &mut Open, key| open.context.execute_without_session(|context| context.read_public(key));
        let Public::Ecc { unique, .. } = self.with_loaded(key, read)?.0 else {
            return Err(no_answer());
        };
        Ok((padded(unique.x().value())?, padded(unique.y().value())?))
    }

    fn sign(&mut self, key: &Wrapped, sha256: &[u8; 32]) -> Tss<Vec<u8>> {
        let digest = Digest::try_from(sha256.to_vec())?;
        let scheme = SignatureScheme::EcDsa {
            hash_scheme: HashScheme::new(HashingAlgorithm::Sha256),
        };
        let ticket = unchecked()?;
        let made = self.with_loaded(key, |open, key| open.context.sign(key, digest, scheme, ticket))?;
        let Signature::EcDsa(signature) = made else {
            return Err(no_answer());
        };
        let (r, s) = (signature.signature_r().value(), signature.signature_s().value());
        Ok([padded(r)?, padded(s)?].concat())
    }

    /// The half of the secret, and a counter that has counted once; gives what it stands at.
    fn make_counter(&mut self, index: u32, half: &[u8; HALF_BYTES]) -> Tss<u64> {
        self.nv_define(index, NvIndexType::Counter, COUNT_BYTES)?;
        self.nv_increment(index)?;
        self.nv_define(index + 1, NvIndexType::Ordinary, HALF_BYTES)?;
        let handle = self.nv(index + 1)?;
        let data = MaxNvBuffer::try_from(half.to_vec())?;
        self.context.nv_write(NvAuth::Owner, handle, data, 0)?;
        self.close(handle)?;
        let count = self.nv_read(index, COUNT_BYTES)?;
        Ok(u64::from_be_bytes(count[..].try_into().map_err(|_| no_answer())?))
    }

    fn nv_define(&mut self, index: u32, kind: NvIndexType, bytes: usize) -> Tss<()> {
        let attributes = NvIndexAttributesBuilder::new()
            .with_owner_write(true)
            .with_owner_read(true)
            .with_no_da(true)
            .with_nv_index_type(kind)
            .build()?;
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes)
            .with_data_area_size(bytes)
            .build()?;
        let handle = self.context.nv_define_space(Provision::Owner, None, public)?;
        self.close(handle)
    }

    fn nv(&mut self, index: u32) -> Tss<NvIndexHandle> {
        let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?);
        let found = self
            .context
            .execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        Ok(found.into())
    }

    fn close(&mut self, handle: NvIndexHandle) -> Tss<()> {
        self.context.tr_close(&mut ObjectHandle::from(handle))
    }

    fn nv_read(&mut self, index: u32, bytes: usize) -> Tss<Zeroizing<Vec<u8>>> {
        let handle = self.nv(index)?;
        let read = self.context.nv_read(NvAuth::Owner, handle, bytes as u16, 0);
        self.close(handle)?;
        Ok(Zeroizing::new(read?.value().to_vec()))
    }

    fn nv_increment(&mut self, index: u32) -> Tss<()> {
        let handle = self.nv(index)?;
        let stepped = self.context.nv_increment(NvAuth::Owner, handle);
        self.close(handle)?;
        stepped
    }

    fn nv_remove(&mut self, index: u32) -> Tss<()> {
        let handle = self.nv(index)?;
        self.context.nv_undefine_space(Provision::Owner, handle)
    }
}

impl Unsealing {
    fn into_inner(self) -> tss_esapi::Error {
        match self {
            Unsealing::Signature(error) | Unsealing::Policy(error) | Unsealing::Other(error) => error,
        }
    }
}

/// The TCG's template of a storage key on P-256 (TCG TPM v2.0 Provisioning Guidance, section 7.5.1): the same key each time.
fn storage_template() -> Tss<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_decrypt(true)
        .with_restricted(true)
        .build()?;
    let cipher = SymmetricDefinitionObject::AES_128_CFB;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new_restricted_decryption_key(cipher, EccCurve::NistP256).build()?,
        )
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// The authority's key as the TPM takes it. Error: [`Code::KeyAlgorithm`].
fn authority_public(key: &PublicKey) -> Result<Public> {
    let trust::PublicKey::P256 { x, y } = key.borrow() else {
        return Err(Code::KeyAlgorithm.error("the authority's key is no P-256 key"));
    };
    let made = || {
        let attributes = ObjectAttributesBuilder::new()
            .with_user_with_auth(true)
            .with_sign_encrypt(true)
            .build()?;
        let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
        let parameters = PublicEccParametersBuilder::new_unrestricted_signing_key(scheme, EccCurve::NistP256);
        let coordinate = |bytes: &[u8]| EccParameter::try_from(bytes.to_vec());
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(parameters.build()?)
            .with_ecc_unique_identifier(EccPoint::new(coordinate(x)?, coordinate(y)?))
            .build()
    };
    made().map_err(refused)
}

/// A trial session looks at no ticket (TPM 2.0 Library part 3, TPM2_PolicyAuthorize).
fn no_ticket() -> Tss<VerifiedTicket> {
    VerifiedTicket::try_from(TPMT_TK_VERIFIED {
        tag: TPM2_ST_VERIFIED,
        hierarchy: TPM2_RH_NULL,
        digest: TPM2B_DIGEST::default(),
    })
}

/// The digest was not made by the TPM, which a key that is not restricted allows.
fn unchecked() -> Tss<HashcheckTicket> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: TPM2_ST_HASHCHECK,
        hierarchy: TPM2_RH_NULL,
        digest: TPM2B_DIGEST::default(),
    })
}

fn ecdsa(r: &[u8], s: &[u8]) -> Tss<Signature> {
    let number = |bytes: &[u8]| EccParameter::try_from(bytes.to_vec());
    let signature = EccSignature::create(HashingAlgorithm::Sha256, number(r)?, number(s)?)?;
    Ok(Signature::EcDsa(signature))
}

fn selection(pcrs: &[u8]) -> Result<PcrSelectionList> {
    let slot = |pcr: &u8| PcrSlot::try_from(1u32.checked_shl((*pcr).into()).unwrap_or_default());
    let made = || {
        let slots: Vec<PcrSlot> = pcrs.iter().map(slot).collect::<Tss<_>>()?;
        PcrSelectionListBuilder::new()
            .with_selection(HashingAlgorithm::Sha256, &slots)
            .build()
    };
    made().map_err(|_: tss_esapi::Error| Code::PolicyMalformed.error("the TPM has no such PCR"))
}

fn padded(bytes: &[u8]) -> Tss<[u8; 32]> {
    let mut all = [0; 32];
    let start = all.len().checked_sub(bytes.len()).ok_or_else(no_answer)?;
    all[start..].copy_from_slice(bytes);
    Ok(all)
}

fn no_answer() -> tss_esapi::Error {
    tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm)
}

/// TPM_RC_NV_DEFINED: there is an index of this number.
fn is_defined(error: &tss_esapi::Error) -> bool {
    use tss_esapi::constants::response_code::Tss2ResponseCodeKind;
    matches!(error, tss_esapi::Error::Tss2Error(code) if code.kind() == Some(Tss2ResponseCodeKind::NvDefined))
}

fn refused(error: tss_esapi::Error) -> Error {
    Code::TpmRefused.error(format!("the TPM refuses: {error}"))
}

/// What the TPM says of an object that another one made; what it says of itself is no word about the object.
fn foreign(error: tss_esapi::Error) -> Error {
    use Tss2ResponseCodeKind::{Lockout, ObjectHandles, ObjectMemory, Retry, SessionHandles, SessionMemory};
    let tss_esapi::Error::Tss2Error(code) = error else {
        return refused(error);
    };
    if let Some(ObjectMemory | ObjectHandles | SessionMemory | SessionHandles | Retry | Lockout) = code.kind() {
        return refused(error);
    }
    Code::TpmForeign.error(format!("the TPM does not take it: {error}"))
}

fn missing(error: tss_esapi::Error) -> Error {
    Code::CounterMissing.error(format!("the TPM lacks its part of the vault: {error}"))
}

fn gone() -> Error {
    Code::TpmSilent.error("the TPM's thread has ended")
}
