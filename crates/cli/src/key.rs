//! `ampoule key`: make and look at private keys.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ::release::hex::text as hex;
use ::release::input;
use clap::{Args, Subcommand, ValueEnum};
use keys::ca::Certificate;
use keys::lms::{self, NewCounter, Set, Tpm, Usage};
use keys::pkcs11::Pkcs11Uri;
use keys::{Code, DevelopmentOnly, KeyUri, Passphrase, PublicKey, Result, SignatureAlgorithm, Signer, file};
use serde_json::{Value, json};

use crate::out::Out;
use crate::signing::{self, PassphraseArgs};
use crate::token::{self, PinArgs};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a private key: in a new, encrypted file, or in a token (pkcs11:token=NAME;object=NAME)
    ///
    /// In a token the key is sensitive, cannot be extracted and only signs; its private half never leaves the token.
    ///
    /// The file is PKCS#8 in PEM form (PBES2: scrypt, AES-256-CBC), readable by its owner only, and never replaces
    /// another. The public key stands in it too, so that `ampoule trust init` and `ampoule key show` need no passphrase.
    New(New),
    /// List the tokens of a PKCS#11 library with their public keys
    List,
    /// Show the public key and the names of a key
    Show(Show),
    /// Keep a certificate beside its key in a token, where `ampoule key list` and other programs find it
    Certificate(KeepCertificate),
}

/// Runs one `ampoule key` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::New(new) => new.run(out),
        Command::List => list(out),
        Command::Show(show) => show.run(out),
        Command::Certificate(keep) => keep.run(out),
    }
}

#[derive(Args)]
pub(crate) struct New {
    /// The file to write, or the URI of a key in a token
    key: KeyUri,
    /// Signature algorithm
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "ed25519")]
    algorithm: Algorithm,
    /// LMS keys: the outside counter. FILE, a new one on another medium than the key; journal:FILE, the signing journal
    /// (journal: for the usual one) with its head on another medium (--head-file); or tpm:HANDLE, a new NV counter of this
    /// machine's TPM (tpm:0x01800001)
    #[arg(long, value_name = "COUNTER")]
    lms_counter: Option<LmsCounter>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Where the counter of a new LMS key is to be.
#[derive(Clone)]
enum LmsCounter {
    File(PathBuf),
    Journal(Option<PathBuf>),
    Tpm(u32),
}

impl FromStr for LmsCounter {
    type Err = String;

    fn from_str(text: &str) -> Result<LmsCounter, String> {
        if let Some(journal) = text.strip_prefix("journal:") {
            return Ok(LmsCounter::Journal((!journal.is_empty()).then(|| journal.into())));
        }
        let Some(handle) = text.strip_prefix("tpm:") else {
            return Ok(LmsCounter::File(text.into()));
        };
        let form = || "an NV index is written tpm:0x01800001".to_owned();
        lms::tpm::parse_handle(handle).map(LmsCounter::Tpm).ok_or_else(form)
    }
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
            other => Err(Code::Argument.error(format!("no key can be made at {other}"))),
        }
    }

    fn in_file(&self, path: &Path, out: Out) -> Result<()> {
        // Before anybody thinks of a passphrase.
        if path.exists() {
            return Err(Code::KeyExists.error(format!("{} exists already", path.display())));
        }
        let counter = self.counter()?;
        let passphrase = self.new_passphrase(path)?;
        let key = match counter {
            Some((set, counter)) => lms::create(path, set, &counter, &passphrase)?,
            None => {
                let key = file::generate(self.algorithm.stateless())?;
                key.save_new(path, &passphrase)?;
                key
            }
        };
        let mut description = describe(&self.key, key.public_key());
        description["encrypted"] = json!(true);
        let care = match self.algorithm.lms() {
            None => "Keep a copy of the file and its passphrase apart from each other: nobody can recover either.",
            // A copy that signs uses indices twice.
            Some(_) => {
                "Keep no copy: an LMS key that is put back gives itself away. Enrol a second one, made elsewhere."
            }
        };
        let text = format!("Wrote {}. {care}\n{}", path.display(), prose(key.public_key()));
        out.result(text, &description);
        Ok(())
    }

    fn in_token(&self, uri: &str, out: Out) -> Result<()> {
        if self.algorithm.lms().is_some() {
            return Err(Code::KeyAlgorithm.error("LMS keys are not made in tokens here"));
        }
        let public = token::generate(uri, self.algorithm.stateless(), &self.passphrase.pin)?.public;
        let text = format!("Made {uri}. It never leaves the token.\n{}", prose(&public));
        out.result(text, &describe(&self.key, &public));
        Ok(())
    }

    /// Parameter set and counter of an LMS key.
    fn counter(&self) -> Result<Option<(Set, NewCounter)>> {
        match (self.algorithm.lms(), &self.lms_counter) {
            (Some(set), Some(counter)) => Ok(Some((set, self.new_counter(counter)?))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Code::Argument.error("an LMS key needs a counter outside of its files").advise(
                "Add --lms-counter FILE, with FILE on another medium, journal: or tpm:HANDLE; docs/post-quantum.md says why.",
            )),
            (None, Some(_)) => Err(Code::Argument.error("--lms-counter is for LMS keys")),
        }
    }

    fn new_counter(&self, counter: &LmsCounter) -> Result<NewCounter> {
        Ok(match counter {
            LmsCounter::File(path) => NewCounter::File(path.clone()),
            LmsCounter::Tpm(handle) => NewCounter::Tpm {
                tpm: Tpm::default(),
                handle: *handle,
            },
            LmsCounter::Journal(given) => {
                let (usual, head) = self.passphrase.journal_with_head()?;
                NewCounter::Journal {
                    journal: given.clone().unwrap_or(usual),
                    head,
                    scribe: self.passphrase.scribe(),
                }
            }
        })
    }

    fn new_passphrase(&self, path: &Path) -> Result<Passphrase> {
        if let Some(given) = self.passphrase.given()? {
            return Ok(given);
        }
        signing::new_passphrase(path)
    }
}

#[derive(Args)]
pub(crate) struct KeepCertificate {
    /// URI of the key
    key: KeyUri,
    /// The certificate, in PEM or DER; of several, the first one
    certificate: PathBuf,
    /// Take away the one that stands there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    pin: PinArgs,
}

impl KeepCertificate {
    fn run(&self, out: Out) -> Result<()> {
        let KeyUri::Pkcs11(uri) = &self.key else {
            return Err(Code::Argument.error(format!("{} is no key in a token", self.key)));
        };
        let all = Certificate::read_all(&input::bytes(&self.certificate)?)?;
        let none = || Code::CertificateMalformed.error(format!("{} holds none", self.certificate.display()));
        let certificate = all.first().ok_or_else(none)?;
        token::keep_certificate(uri, certificate, self.replace, &self.pin)?;
        let subject = certificate.subject();
        let text = format!("The certificate of {subject} stands beside {}.", self.key);
        out.result(text, &json!({"key": self.key.to_string(), "subject": subject}));
        Ok(())
    }
}

/// A line about a certificate of a token, whatever it holds.
fn certificate_line(der: &[u8]) -> String {
    match Certificate::from_der(der) {
        Ok(certificate) => format!(
            "{}, until {}",
            certificate.subject(),
            ::release::time::utc(certificate.not_after())
        ),
        Err(_) => "not understood".into(),
    }
}

fn list(out: Out) -> Result<()> {
    let (mut lines, mut tokens) = (Vec::new(), Vec::new());
    for found in token::list()? {
        lines.push(found.uri.to_string());
        let mut keys = Vec::new();
        for (label, id, public) in &found.keys {
            let uri = Pkcs11Uri {
                token: found.uri.token.clone(),
                object: Some(label.clone()),
                id: Some(id.clone()),
                ..Pkcs11Uri::default()
            };
            let algorithm = public.as_ref().map_or("not used here", PublicKey::algorithm_name);
            lines.push(format!("  {uri}  {algorithm}"));
            let key_id = public.as_ref().map(|key| hex(&key.thumbprint()));
            let beside = found.certificates.iter().filter(|(other, _)| other == id);
            let certificates: Vec<String> = beside.map(|(_, der)| certificate_line(der)).collect();
            lines.extend(certificates.iter().map(|line| format!("    certificate of {line}")));
            keys.push(json!({
                "key": uri.to_string(), "algorithm": algorithm, "key_id": key_id, "certificates": certificates,
            }));
        }
        tokens.push(json!({"token": found.uri.to_string(), "keys": keys}));
    }
    out.result(lines.join("\n"), &json!({ "tokens": tokens }));
    Ok(())
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
                let line = format!("\nsignatures left  {left} of {total}  (counter {counter})");
                text.push_str(&line);
            }
        }
        out.result(text, &description);
        Ok(())
    }
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
