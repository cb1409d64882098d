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

    /// Releases a signature for its durable entry.
    fn release(&self, job: &Job<'_>, signature: Signature) -> Result<Signature> {
        let Context {
            journal, surroundings, ..
        } = &self.context;
        let record = Record {
            event: Event::Signature(Signed::new(&self.signer, job, &signature)),
            by: self.context.by.clone(),
            why: self.context.why.clone(),
            facts: self.context.facts.clone(),
        };
        let appended = journal.append(surroundings.now(), &record)?;
        if appended.is_new || appended.torn.is_some() {
            surroundings.tell(journal, &appended);
        }
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
        self.release(job, self.signer.sign(job)?)
    }

    fn sign_shown(&self, job: &Job<'_>, object: &[u8]) -> Result<Signature> {
        self.release(job, self.signer.sign_shown(job, object)?)
    }
}
