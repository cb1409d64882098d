//! What a ceremony needs of the world: people who answer, a clock, a machine, keys.

use std::path::PathBuf;

use keys::backup::{Backup, Share};
use keys::file::FileKey;
use keys::pkcs11::{KeyInToken, TokenFacts};
use keys::{DevelopmentOnly, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer};
use serde_json::Value;

use super::health::Health;

/// The room in which a ceremony takes place. The terminal is one; a rehearsal's file of answers another.
pub trait Room {
    /// Says something to everybody.
    fn say(&mut self, text: &str);

    /// Asks for a line. `id` names the question for good: `STEP/QUESTION`. Errors: nobody is there to answer.
    fn ask(&mut self, id: &str, question: &str) -> Result<String>;

    /// Whether answers come from a file instead of people, which is for rehearsals only.
    fn is_scripted(&self) -> bool;

    /// Seconds since 1970-01-01 UTC.
    fn now(&mut self) -> u64;

    /// Where a path of the script is.
    fn path(&self, of_script: &str) -> PathBuf;

    /// What the program and the machine are.
    fn machine(&mut self) -> Result<Machine>;

    /// What the token that a URI names says of itself. Errors: it is not there, or several are.
    fn token(&mut self, uri: &KeyUri) -> Result<TokenFacts>;

    /// A look into that token: the keys in it, and random bytes of its generator.
    fn look_into_token(&mut self, uri: &KeyUri) -> Result<TokenLook>;

    /// The public half of a key, if there is such a key.
    fn public_key(&mut self, uri: &KeyUri) -> Result<Option<PublicKey>>;

    /// Why signatures of a key must never count in production, as far as that is seen without opening it.
    fn development_only(&mut self, uri: &KeyUri) -> Result<Option<DevelopmentOnly>>;

    /// A private key, opened by whoever holds it.
    fn signer(&mut self, uri: &KeyUri) -> Result<Box<dyn Signer>>;

    /// A key that is in memory, tied to the signing journal.
    fn journaled(&mut self, key: FileKey) -> Result<Box<dyn Signer>>;

    /// The passphrase for a key file that is about to be made.
    fn new_passphrase(&mut self, uri: &KeyUri) -> Result<Passphrase>;

    /// The passphrase of a key file that is to be opened.
    fn passphrase(&mut self, uri: &KeyUri) -> Result<Passphrase>;

    /// Makes a key in a token, to stay there.
    fn generate_in_token(&mut self, uri: &KeyUri, algorithm: SignatureAlgorithm) -> Result<KeyInToken>;

    /// A key that is in a token already, unlocked by whoever holds it.
    fn key_in_token(&mut self, uri: &KeyUri) -> Result<KeyInToken>;

    /// Writes a backup and the sheets of its shares into a new directory, all or nothing.
    fn write_backup(&mut self, directory: &std::path::Path, backup: &Backup, shares: &[Share]) -> Result<()>;

    /// Shares from people, without echo.
    fn ask_shares(&mut self, backup: &Backup) -> Result<Vec<Share>>;
}

/// What was found in a token.
#[derive(Clone, Debug)]
pub struct TokenLook {
    /// Its public keys: label, id, and the key where it is of an algorithm that is known here.
    pub keys: Vec<(String, Vec<u8>, Option<PublicKey>)>,
    /// What the tests of its random numbers saw, if it has a generator.
    pub health: Option<Health>,
}

/// What was found about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The version of this program.
    pub tool_version: String,
    /// SHA-256 of the file that runs.
    pub tool_sha256: [u8; 32],
    /// Names and states of interfaces that are up, but loopback.
    pub interfaces_up: Vec<String>,
    /// What the tests of a sample of random bytes saw.
    pub health: Health,
    /// Where the kernel takes its random numbers from, as far as it says.
    pub entropy_source: String,
    /// Other facts for the record, such as kernel and disk.
    pub facts: Value,
}
