//! The table around which a ceremony sits: a terminal with people, or a file of answers.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ::release::ceremony::health::{Health, SAMPLE_BYTES};
use ::release::ceremony::room::{Machine, Room, TokenLook};
use ::release::input;
use keys::backup::{Backup, Share};
use keys::file::FileKey;
use keys::pkcs11::{KeyInToken, TokenFacts};
use keys::{Code, DevelopmentOnly, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer};
use serde::Deserialize;

use super::{machine, wrong_answers};
use crate::backup;
use crate::out::Out;
use crate::signing::{self, EitherHalf, PassphraseArgs};
use crate::token;

/// Who answers, and how keys are opened.
pub(super) struct Table<'a> {
    answers: Option<Answers>,
    directory: &'a Path,
    passphrase: &'a PassphraseArgs,
    out: Out,
}

impl<'a> Table<'a> {
    /// `answers` instead of people; paths of the script start at `directory`.
    pub(super) fn new(
        answers: Option<Answers>,
        directory: &'a Path,
        passphrase: &'a PassphraseArgs,
        out: Out,
    ) -> Table<'a> {
        Table {
            answers,
            directory,
            passphrase,
            out,
        }
    }
}

impl Room for Table<'_> {
    fn say(&mut self, text: &str) {
        self.out.note(text);
    }

    fn ask(&mut self, id: &str, question: &str) -> Result<String> {
        if let Some(answers) = &mut self.answers {
            let answer = answers.next(id)?;
            self.out.note(format!("{question} {answer}"));
            return Ok(answer);
        }
        if !io::stdin().is_terminal() {
            return Err(Code::Terminal
                .error("a ceremony asks people, and there is no terminal")
                .advise("Run it at a terminal; a rehearsal may take --answers FILE."));
        }
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{question} ").and_then(|()| stderr.flush());
        drop(stderr);
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(0) => Err(Code::Terminal
                .error("the terminal was closed")
                .advise("Start the same command again.")),
            Ok(_) => Ok(line),
            Err(error) => Err(Code::Terminal.error(format!("the terminal could not be read: {error}"))),
        }
    }

    fn is_scripted(&self) -> bool {
        self.answers.is_some()
    }

    fn now(&mut self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn path(&self, of_script: &str) -> PathBuf {
        self.directory.join(of_script)
    }

    fn machine(&mut self) -> Result<Machine> {
        machine::look(self.directory)
    }

    fn token(&mut self, uri: &KeyUri) -> Result<TokenFacts> {
        token::find(token_of(uri)?)?.1.facts()
    }

    fn look_into_token(&mut self, uri: &KeyUri) -> Result<TokenLook> {
        let (_, token) = token::find(token_of(uri)?)?;
        let sample = token.facts()?.has_generator.then(|| token.random(SAMPLE_BYTES));
        Ok(TokenLook {
            keys: token.describe()?.keys,
            health: sample.transpose()?.map(|sample| Health::of(&sample)),
        })
    }

    fn public_key(&mut self, uri: &KeyUri) -> Result<Option<PublicKey>> {
        match uri {
            KeyUri::File(path) if !path.exists() => Ok(None),
            _ => match signing::public(uri) {
                Err(error) if error.is(Code::TokenKeyMissing) => Ok(None),
                found => found.map(Some),
            },
        }
    }

    fn development_only(&mut self, uri: &KeyUri) -> Result<Option<DevelopmentOnly>> {
        EitherHalf::public_of(uri, self.passphrase, self.out).map(|key| key.development_only())
    }

    fn signer(&mut self, uri: &KeyUri) -> Result<Box<dyn Signer>> {
        signing::open(uri, self.passphrase, self.out)
    }

    fn journaled(&mut self, key: FileKey) -> Result<Box<dyn Signer>> {
        self.passphrase.journaled(key, self.out)
    }

    fn new_passphrase(&mut self, uri: &KeyUri) -> Result<Passphrase> {
        match self.passphrase.given()? {
            Some(given) => Ok(given),
            None => signing::new_passphrase(file_of(uri)?),
        }
    }

    fn passphrase(&mut self, uri: &KeyUri) -> Result<Passphrase> {
        self.passphrase.for_key(file_of(uri)?)
    }

    fn generate_in_token(&mut self, uri: &KeyUri, algorithm: SignatureAlgorithm) -> Result<KeyInToken> {
        token::generate(token_of(uri)?, algorithm, &self.passphrase.pin)
    }

    fn key_in_token(&mut self, uri: &KeyUri) -> Result<KeyInToken> {
        token::examine(token_of(uri)?, &self.passphrase.pin)
    }

    fn write_backup(&mut self, directory: &Path, backup: &Backup, shares: &[Share]) -> Result<()> {
        backup::write(directory, backup, shares)
    }

    fn ask_shares(&mut self, backup: &Backup) -> Result<Vec<Share>> {
        backup::ask_shares(backup)
    }
}

fn file_of(uri: &KeyUri) -> Result<&Path> {
    uri.as_file().ok_or_else(|| unknown(uri))
}

fn token_of(uri: &KeyUri) -> Result<&str> {
    match uri {
        KeyUri::Pkcs11(uri) => Ok(uri),
        _ => Err(unknown(uri)),
    }
}

fn unknown(uri: &KeyUri) -> keys::Error {
    Code::Argument.error(format!("{uri} names a kind of key that is not known here"))
}

/// The answers of a rehearsal: for each question, by step and name, one or several in turn.
pub(super) struct Answers {
    path: PathBuf,
    answers: BTreeMap<String, BTreeMap<String, OneOrMore>>,
    given: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Answers {
    /// Reads a file of answers. Errors: [`Code::CeremonyAnswers`], and those of reading files.
    pub(super) fn read(path: &Path) -> Result<Answers> {
        let answers = toml::from_str(&input::text(path)?).map_err(|error| wrong_answers(path, error))?;
        Ok(Answers {
            path: path.to_path_buf(),
            answers,
            given: BTreeMap::new(),
        })
    }

    fn next(&mut self, id: &str) -> Result<String> {
        let given = self.given.entry(id.to_owned()).or_default();
        let answers = id
            .split_once('/')
            .and_then(|(step, name)| self.answers.get(step)?.get(name));
        let answer = match answers {
            Some(OneOrMore::One(answer)) => (*given == 0).then_some(answer),
            Some(OneOrMore::More(answers)) => answers.get(*given),
            None => None,
        };
        *given += 1;
        answer
            .cloned()
            .ok_or_else(|| wrong_answers(&self.path, format!("there is no further answer to {id}")))
    }
}
