//! A signer that gives nothing away before its journal entry is durable.

use super::{Appended, By, Event, Facts, Journal, Record, Signed};
use crate::{DevelopmentOnly, Job, PublicKey, Result, Signature, Signer};

/// What a library has no business to know by itself: the time, and somebody to tell.
pub trait Surroundings {
    /// Seconds since 1970 UTC.
    fn now(&self) -> u64;

    /// A journal was begun, or a torn line in it was closed.
    fn tell(&self, journal: &Journal, appended: &Appended) {
        let _ = (journal, appended);
    }
}

/// Where signatures are entered, by whom and why.
pub struct Context {
    /// The journal.
    pub journal: Journal,
    /// Who signs.
    pub by: By,
    /// Why.
    pub why: Option<String>,
    /// More that is to be known of every signature: overrides that were typed out.
    pub facts: Facts,
    /// Time, and somebody to tell.
    pub surroundings: Box<dyn Surroundings>,
}

/// A signer whose signatures are entered in a journal before they come out.
///
/// The entry is on the disk (and its head noted outside, where that was asked for) before [`Signer::sign`] returns; when
/// it cannot be, the signature is dropped and the error says why. The signer inside cannot be had back.
pub struct Journaled<S> {
    signer: S,
    context: Context,
}

impl<S: Signer> Journaled<S> {
    /// Ties a signer to a journal.
    pub fn new(signer: S, context: Context) -> Journaled<S> {
        Journaled { signer, context }
    }

    /// Releases signatures for their durable entries.
    fn release(&self, jobs: &[Job<'_>], signatures: &[Signature]) -> Result<()> {
        let Context {
            journal, surroundings, ..
        } = &self.context;
        let pairs = jobs.iter().zip(signatures);
        let records: Vec<Record> = pairs.map(|(job, signature)| self.record(job, signature)).collect();
        let appended = journal.append_all(surroundings.now(), &records)?;
        if appended.is_new || appended.torn.is_some() {
            surroundings.tell(journal, &appended);
        }
        Ok(())
    }

    fn record(&self, job: &Job<'_>, signature: &Signature) -> Record {
        Record {
            event: Event::Signature(Signed::new(&self.signer, job, signature)),
            by: self.context.by.clone(),
            why: self.context.why.clone(),
            facts: self.context.facts.clone(),
        }
    }

    fn release_one(&self, job: &Job<'_>, signature: Signature) -> Result<Signature> {
        self.release(&[*job], std::slice::from_ref(&signature))?;
        Ok(signature)
    }
}

impl<S: Signer> Signer for Journaled<S> {
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
        self.sign(job).map(|signature| signature.as_cose().to_vec())
    }

    fn sign(&self, job: &Job<'_>) -> Result<Signature> {
        self.release_one(job, self.signer.sign(job)?)
    }

    fn sign_shown(&self, job: &Job<'_>, object: &[u8]) -> Result<Signature> {
        self.release_one(job, self.signer.sign_shown(job, object)?)
    }

    fn sign_all(&self, jobs: &[Job<'_>]) -> Result<Vec<Signature>> {
        let signatures = self.signer.sign_all(jobs)?;
        if !jobs.is_empty() {
            self.release(jobs, &signatures)?;
        }
        Ok(signatures)
    }
}
