//! `ampoule ca`: the private CA.

mod batch;
mod found;
mod issue;
mod view;

use std::path::{Path, PathBuf};

use ::release::{hex, input};
use clap::{Args, Subcommand};
use keys::ca::authority::text;
use keys::ca::{Ca, Certificate, Custody, Issued};
use keys::{KeyUri, Result, Signer};
use serde_json::{Value, json};

use crate::files;
use crate::journal::now;
use crate::out::Out;
use crate::signing::{self, EitherHalf, PassphraseArgs};
use crate::worlds::WorldsArgs;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Found a CA: its database, its root, and an issuing CA for each key that is given
    ///
    /// Interrupted and started again with the same options it goes on where it stopped; started again with a further key
    /// it adds that issuing CA. The root signs issuing CAs and their list of revocations, and nothing else.
    Init(found::Init),
    /// Make the next generation of a CA beside the present one, with another key
    Roll(found::Roll),
    /// Issue a certificate for the key of a request (PKCS#10), to whom you name; what the request says of itself is ignored
    ///
    /// The same request again, after a lost answer or a crash, gives the same certificate.
    Issue(issue::Issue),
    /// Issue to every device of a folder of requests, SERIAL.csr by SERIAL.csr: to all of them or to none
    ///
    /// The same folder again, after a crash or with more requests in it, gives those the same certificates that have one.
    IssueBatch(batch::IssueBatch),
    /// Issue the successor of a certificate, for the same subject; or, without a request, certify a CA's own key again
    Renew(issue::Renew),
    /// Revoke a certificate, and sign the list that says so
    Revoke(issue::Revoke),
    /// Sign the next list of what a CA revoked (CRL)
    Crl(issue::SignCrl),
    /// List the CAs and what they issued
    List(view::List),
    /// Show one certificate
    Show(view::Show),
    /// Write anchors, chains and lists of revocations for those who verify
    Export(view::Export),
    /// Verify a certificate as a door would: path, time, usage, revocation
    Verify(view::Verify),
}

/// Runs one `ampoule ca` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Init(init) => init.run(out),
        Command::Roll(roll) => roll.run(out),
        Command::Issue(issue) => issue.run(out),
        Command::IssueBatch(batch) => batch.run(out),
        Command::Renew(renew) => renew.run(out),
        Command::Revoke(revoke) => revoke.run(out),
        Command::Crl(crl) => crl.run(out),
        Command::List(list) => list.run(out),
        Command::Show(show) => show.run(out),
        Command::Export(export) => export.run(out),
        Command::Verify(verify) => verify.run(out),
    }
}

/// With which key the CA signs.
#[derive(Args)]
struct SigningArgs {
    /// Key of the CA that signs: a file, or the URI of a key in a token
    #[arg(short, long, value_name = "KEY")]
    key: KeyUri,
    #[command(flatten)]
    worlds: WorldsArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl SigningArgs {
    /// The key, tied to the signing journal.
    fn open(&self, out: Out) -> Result<Box<dyn Signer>> {
        signing::open(&self.key, &self.worlds.journaled(&self.passphrase), out)
    }

    /// Another key, of which either half was given.
    fn open_half(&self, key: &KeyUri, out: Out) -> Result<EitherHalf> {
        EitherHalf::open(key, &self.worlds.journaled(&self.passphrase), out)
    }

    /// The key's id for a statement, or its place where only its private half says it.
    fn key_name(&self) -> String {
        let id = signing::public(&self.key).map(|key| hex::text(&key.thumbprint()));
        id.unwrap_or_else(|_| self.key.to_string())
    }

    fn custody(&self) -> Custody {
        match self.worlds.i_know_these_production_keys_are_files {
            true => Custody::FilesWaived,
            false => Custody::Demanded,
        }
    }
}

/// Opens the database; says what an interrupted issuance left.
fn open(db: &Path, out: Out) -> Result<Ca> {
    let ca = Ca::open(db)?;
    for entry in ca.reservations()? {
        out.note(format!(
            "note: {} {} for {} was reserved and not finished; the same request finishes it, `ampoule ca revoke` gives it up",
            entry.profile,
            text(&entry.serial),
            entry.identity
        ));
    }
    Ok(ca)
}

/// Hands out a certificate: to a file, or to standard output.
fn hand_out(issued: &Issued, others: &[Certificate], file: Option<&PathBuf>, out: Out) -> Result<()> {
    let certificate = &issued.certificate;
    let pem: String = std::iter::once(certificate)
        .chain(others)
        .map(Certificate::to_pem)
        .collect();
    let mut value = describe(certificate);
    value["repeated"] = json!(issued.is_repeat);
    let Some(file) = file else {
        value["pem"] = json!(pem);
        out.result(pem, &value);
        return Ok(());
    };
    files::write_once(file, pem.as_bytes())?;
    value["file"] = json!(file.display().to_string());
    let again = if issued.is_repeat {
        ", which had been issued before"
    } else {
        ""
    };
    let text = format!("Wrote {}{again}.\n{}", file.display(), prose(certificate));
    out.result(text, &value);
    Ok(())
}

fn prose(certificate: &Certificate) -> String {
    let mut text = format!(
        "serial number  {}\nsubject        {}\n",
        text(&certificate.serial()),
        certificate.subject()
    );
    if let Ok(identity) = certificate.identity() {
        text.push_str(&format!("names          {identity}\n"));
    }
    let (from, until) = (date(certificate.not_before()), date(certificate.not_after()));
    text.push_str(&format!("valid          {from} to {until}\n"));
    text.push_str(&format!("SHA-256        {}", hex::text(&certificate.fingerprint())));
    text
}

fn describe(certificate: &Certificate) -> Value {
    json!({
        "serial": text(&certificate.serial()),
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "names": certificate.identity().ok().map(|identity| identity.to_string()),
        "not_before": certificate.not_before(),
        "not_after": certificate.not_after(),
        "is_ca": certificate.is_ca(),
        "sha256": hex::text(&certificate.fingerprint()),
        "key_id": certificate.key().ok().map(|key| hex::text(&key.thumbprint())),
    })
}

fn date(seconds: u64) -> String {
    ::release::time::utc(seconds)
}

/// The CRL of a file.
fn read_crl(path: &Path) -> Result<Vec<u8>> {
    keys::ca::crl::read(&input::bytes(path)?)
}

fn read_certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(Certificate::read_all(&input::bytes(path)?)?);
    }
    Ok(all)
}

/// The time that a person gave, or the machine's.
fn time(at: Option<u64>) -> u64 {
    at.unwrap_or_else(now)
}
