//! `ampoule key`: make and look at private keys.

use std::path::{Path, PathBuf};

use ::release::hex::text as hex;
use clap::{Args, Subcommand, ValueEnum};
use keys::lms::{self, Set, Usage};
use keys::{Code, DevelopmentOnly, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer, file, pkcs11};
use serde_json::{Value, json};

use crate::out::Out;
use crate::signing::{self, PassphraseArgs};
use crate::tokens::{MODULE_VARIABLE, Place};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a private key in a new, encrypted file, or inside a token
    ///
    /// A key in a token (`pkcs11:token=NAME;object=NAME`) is made there and never leaves it. A file is PKCS#8 in PEM form (PBES2: scrypt, AES-256-CBC), readable by its owner only, and never replaces
    /// another. The public key stands in it too, so that `ampoule trust init` and `ampoule key show` need no passphrase.
    New(New),
    /// Show the public key and the names of a key
    Show(Show),
    /// List the tokens that a PKCS#11 library knows, and the keys in them
    List {
        /// The vendor's PKCS#11 library
        #[arg(long, value_name = "FILE", env = MODULE_VARIABLE)]
        pkcs11_module: PathBuf,
    },
}

/// Runs one `ampoule key` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::New(new) => new.run(out),
        Command::Show(show) => show.run(out),
        Command::List { pkcs11_module } => list(&pkcs11_module, out),
    }
}

#[derive(Args)]
pub(crate) struct New {
    /// The file to write, or the place in a token: pkcs11:token=NAME;object=NAME
    key: KeyUri,
    /// Signature algorithm
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "ed25519")]
    algorithm: Algorithm,
    /// LMS keys: the file of the outside counter, on another medium than the key
    #[arg(long, value_name = "FILE")]
    lms_counter: Option<PathBuf>,
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
    /// ML-DSA-65, post-quantum, for releases and roots; not for images
    #[value(name = "ml-dsa-65")]
    MlDsa65,
    /// LMS, post-quantum, 32 signatures of 2.4 KB
    #[value(name = "lms-h5-w4")]
    LmsH5W4,
    /// LMS, 32 signatures of 1.3 KB, eight times slower to verify
    #[value(name = "lms-h5-w8")]
    LmsH5W8,
    /// LMS, 1024 signatures of 2.5 KB: the usual choice for images
    #[value(name = "lms-h10-w4")]
    LmsH10W4,
    /// LMS, 1024 signatures of 1.5 KB
    #[value(name = "lms-h10-w8")]
    LmsH10W8,
    /// LMS, 32768 signatures of 2.7 KB; seconds at every start
    #[value(name = "lms-h15-w4")]
    LmsH15W4,
    /// LMS, 32768 signatures of 1.6 KB; a minute at every start
    #[value(name = "lms-h15-w8")]
    LmsH15W8,
}

impl Algorithm {
    /// The parameter set, where it is LMS.
    fn lms(self) -> Option<Set> {
        let (height, width) = match self {
            Algorithm::LmsH5W4 => (5, 4),
            Algorithm::LmsH5W8 => (5, 8),
            Algorithm::LmsH10W4 => (10, 4),
            Algorithm::LmsH10W8 => (10, 8),
            Algorithm::LmsH15W4 => (15, 4),
            Algorithm::LmsH15W8 => (15, 8),
            Algorithm::Ed25519 | Algorithm::P256 | Algorithm::MlDsa65 => return None,
        };
        Set::new(height, width)
    }

    fn stateless(self) -> SignatureAlgorithm {
        match self {
            Algorithm::P256 => SignatureAlgorithm::Esp256,
            Algorithm::MlDsa65 => SignatureAlgorithm::MlDsa65,
            _ => SignatureAlgorithm::Ed25519,
        }
    }
}

impl New {
    fn run(&self, out: Out) -> Result<()> {
        match &self.key {
            KeyUri::File(path) => self.in_file(path, out),
            KeyUri::Pkcs11(uri) => self.in_token(uri, out),
            other => Err(Code::Argument.error(format!("a key cannot be made at {other}"))),
        }
    }

    fn in_token(&self, uri: &str, out: Out) -> Result<()> {
        if self.counter()?.is_some() || matches!(self.algorithm, Algorithm::MlDsa65) {
            return Err(Code::KeyAlgorithm.error("keys of this algorithm are not made in tokens here"));
        }
        let place = Place::find(uri)?;
        let public = place.generate(self.algorithm.stateless(), self.passphrase.pin())?;
        let text = format!(
            "Made in {}. The private half never leaves it: make its spare, and think of the token's own backup, now.\n{}",
            place.token_name(),
            prose(&public),
        );
        out.result(text, &describe(&self.key, &public));
        Ok(())
    }

    fn in_file(&self, path: &Path, out: Out) -> Result<()> {
        // Before anybody thinks of a passphrase.
        if path.exists() {
            return Err(Code::KeyExists.error(format!("{} exists already", path.display())));
        }
        let counter = self.counter()?;
        let passphrase = self.new_passphrase(path)?;
        let key = match counter {
            Some((set, counter)) => lms::create(path, set, counter, &passphrase)?,
            None => {
                let key = file::generate(self.algorithm.stateless())?;
                key.save_new(path, &passphrase)?;
                key
            }
        };
        let mut description = describe(&self.key, key.public_key());
        description["encrypted"] = json!(true);
        let text = format!(
            "Wrote {}. Keep a copy of the file and its passphrase apart from each other: nobody can recover either.\n{}",
            path.display(),
            prose(key.public_key()),
        );
        out.result(text, &description);
        Ok(())
    }

    /// Parameter set and counter of an LMS key.
    fn counter(&self) -> Result<Option<(Set, &Path)>> {
        match (self.algorithm.lms(), &self.lms_counter) {
            (Some(set), Some(counter)) => Ok(Some((set, counter))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Code::Argument
                .error("an LMS key needs a counter outside of its files")
                .advise("Add --lms-counter FILE, with FILE on another medium; docs/post-quantum.md says why.")),
            (None, Some(_)) => Err(Code::Argument.error("--lms-counter is for LMS keys")),
        }
    }

    fn new_passphrase(&self, path: &Path) -> Result<Passphrase> {
        if let Some(given) = self.passphrase.given()? {
            return Ok(given);
        }
        signing::new_passphrase(path)
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
        let mut description = describe(&self.key, &public);
        let mut text = if self.pem { public.to_pem() } else { prose(&public) };
        if let Some(usage) = signing::lms_usage(&self.key, &public, out)? {
            let Usage { total, left, counter } = usage;
            description["lms"] = json!({ "signatures": total, "left": left, "counter": counter });
            if !self.pem {
                let line = format!("\nsignatures left  {left} of {total}  (counter {})", counter.display());
                text.push_str(&line);
            }
        }
        out.result(text, &description);
        Ok(())
    }
}

fn list(module: &Path, out: Out) -> Result<()> {
    let tokens = pkcs11::list(module)?;
    let mut text = String::new();
    let mut described = Vec::new();
    for token in &tokens {
        text.push_str(&format!("{}\n", token.uri));
        let mut keys = Vec::new();
        for (label, id, key) in &token.keys {
            let name = key.as_ref().map_or("of another algorithm", PublicKey::algorithm_name);
            let key_id = key.as_ref().map(|key| hex(&key.thumbprint()));
            text.push_str(&format!(
                "  object={label}  id {}  {name}  {}\n",
                hex(id),
                key_id.as_deref().unwrap_or("")
            ));
            keys.push(json!({ "object": label, "id": hex(id), "algorithm": name, "key_id": key_id }));
        }
        described.push(json!({ "uri": token.uri.to_string(), "keys": keys }));
    }
    if tokens.is_empty() {
        text = format!("{} knows no token that is initialised.", module.display());
    }
    out.result(text, &described);
    Ok(())
}

fn prose(public: &PublicKey) -> String {
    let mut text = format!(
        "algorithm        {}\nkey id           {}  (in trust roots and releases)",
        public.algorithm_name(),
        hex(&public.thumbprint()),
    );
    if public.algorithm() != SignatureAlgorithm::MlDsa65 {
        let name = hex(&public.image_key_hash());
        text.push_str(&format!("\nimage key hash   {name}  (KEYHASH in images)"));
    }
    text
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
