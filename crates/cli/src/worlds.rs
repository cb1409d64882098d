//! Two worlds: keys of the desk stay out of production unless somebody types out what that means.

use clap::{Args, ValueEnum};
use codec::roots::Environment;
use keys::{Code, DevelopmentOnly, PublicKey, Result};

use crate::signing::PassphraseArgs;

/// The world of a root or a CA.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum World {
    /// Devices on a desk
    Development,
    /// Real devices
    Production,
}

impl From<World> for Environment {
    fn from(world: World) -> Environment {
        match world {
            World::Development => Environment::Development,
            World::Production => Environment::Production,
        }
    }
}

/// The option that lets a key file into production.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct WorldsArgs {
    /// Let key files sign for production, or stand in its root, all the same: whoever copies such a file and learns its
    /// passphrase can sign
    #[arg(long)]
    pub(crate) i_know_these_production_keys_are_files: bool,
}

impl WorldsArgs {
    /// The same way to open keys; what they sign is entered in the journal with the override, if it was typed out.
    pub(crate) fn journaled(self, passphrase: &PassphraseArgs) -> PassphraseArgs {
        let is_given = self.i_know_these_production_keys_are_files;
        passphrase.with_override("i-know-these-production-keys-are-files", is_given)
    }

    /// Refuses a key that must not be used in production; `whose` says what for ("a release key").
    ///
    /// Errors: [`Code::KeySample`] everybody has it, which no option changes; [`Code::ProductionKey`], for an LMS key in a
    /// file whatever was typed out.
    pub(crate) fn admit(
        self,
        world: Environment,
        whose: &str,
        key: &PublicKey,
        reason: Option<DevelopmentOnly>,
    ) -> Result<()> {
        if world == Environment::Development {
            return Ok(());
        }
        if let Some(sample) = key.published_sample() {
            let published = DevelopmentOnly::PublishedSample(sample);
            return Err(Code::KeySample.error(format!("{whose} must not be used in production: {published}")));
        }
        match reason {
            // A copy of its state signs twice with one index; no wording makes that acceptable.
            Some(reason @ DevelopmentOnly::LmsFile) => {
                Err(Code::ProductionKey.error(format!("{whose} must not be used in production: {reason}")))
            }
            Some(reason) if !self.i_know_these_production_keys_are_files => {
                Err(Code::ProductionKey.error(format!("{whose} must not be used in production: {reason}")))
            }
            _ => Ok(()),
        }
    }
}
