//! `ampoule key`: make and look at private keys.

use std::path::PathBuf;

use ::release::hex::text as hex;
use clap::{Args, Subcommand, ValueEnum};
use keys::{Code, DevelopmentOnly, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer, file};
use serde_json::{Value, json};

use crate::out::Out;
use crate::signing::{self, PassphraseArgs};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a private key in a new, encrypted file
    ///
    /// The file is PKCS#8 in PEM form (PBES2: scrypt, AES-256-CBC), readable by its owner only, and never replaces
    /// another. The public key stands in it too, so that `ampoule trust init` and `ampoule key show` need no passphrase.
    New(New),
    /// Show the public key and the names of a key
    Show(Show),
}

/// Runs one `ampoule key` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::New(new) => new.run(out),
        Command::Show(show) => show.run(out),
    }
}

#[derive(Args)]
pub(crate) struct New {
    /// The file to write
    file: PathBuf,
    /// Signature algorithm
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "ed25519")]
    algorithm: Algorithm,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    /// Ed25519
    Ed25519,
    /// ECDSA on NIST P-256
    #[value(alias = "ecdsa-p256")]
    P256,
}

impl New {
    fn run(&self, out: Out) -> Result<()> {
        // Before anybody thinks of a passphrase.
        if self.file.exists() {
            return Err(Code::KeyExists.error(format!("{} exists already", self.file.display())));
        }
        let passphrase = self.new_passphrase()?;
        let key = file::generate(match self.algorithm {
            Algorithm::Ed25519 => SignatureAlgorithm::Ed25519,
            Algorithm::P256 => SignatureAlgorithm::Esp256,
        })?;
        key.save_new(&self.file, &passphrase)?;
        let mut description = describe(&KeyUri::File(self.file.clone()), key.public_key());
        description["encrypted"] = json!(true);
        let text = format!(
            "Wrote {}. Keep a copy of the file and its passphrase apart from each other: nobody can recover either.\n{}",
            self.file.display(),
            prose(key.public_key()),
        );
        out.result(text, &description);
        Ok(())
    }

    fn new_passphrase(&self) -> Result<Passphrase> {
        if let Some(given) = self.passphrase.given()? {
            return Ok(given);
        }
        signing::new_passphrase(&self.file)
    }
}

#[derive(Args)]
pub(crate) struct Show {
    /// A private or public key
    key: KeyUri,
    /// Print the public key in PEM form and nothing else
    #[arg(long)]
    pem: bool,
    /// Open the private key too, to see whether its passphrase is right and the file whole
    #[arg(long)]
    unlock: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Show {
    fn run(&self, out: Out) -> Result<()> {
        let public = match signing::public(&self.key) {
            Ok(public) if !self.unlock => public,
            Err(error) if !error.is(Code::PassphraseNeeded) => return Err(error),
            _ => signing::unlock(&self.key, &self.passphrase, out)?,
        };
        if let Some(name) = public.published_sample() {
            out.note(format!("warning: {}", DevelopmentOnly::PublishedSample(name)));
        }
        let text = if self.pem { public.to_pem() } else { prose(&public) };
        out.result(text, &describe(&self.key, &public));
        Ok(())
    }
}

fn prose(public: &PublicKey) -> String {
    format!(
        "algorithm        {}\nkey id           {}  (in trust roots and releases)\nimage key hash   {}  (KEYHASH in images)",
        public.algorithm_name(),
        hex(&public.thumbprint()),
        hex(&public.image_key_hash()),
    )
}

fn describe(key: &KeyUri, public: &PublicKey) -> Value {
    json!({
        "key": key.to_string(),
        "algorithm": public.algorithm_name(),
        "key_id": hex(&public.thumbprint()),
        "image_key_hash": hex(&public.image_key_hash()),
        "published_sample": public.published_sample(),
        "public_key_pem": public.to_pem(),
    })
}
