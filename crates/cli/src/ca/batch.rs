//! `ampoule ca issue-batch`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ::release::input;
use clap::Args;
use keys::ca::{Ca, Certificate, Identity, Issued, Moment, Order, Request};
use keys::{Code, Error, Result};
use serde_json::json;

use super::SigningArgs;
use crate::files;
use crate::journal::now;
use crate::out::Out;

/// Requests in a batch at most.
const BATCH_REQUESTS_MAX: usize = 1000;
/// How the names of requests and of certificates end.
const REQUEST: &str = "csr";
const CERTIFICATE: &str = "crt";

#[derive(Args)]
pub(crate) struct IssueBatch {
    /// The CA's database
    db: PathBuf,
    /// Profile of the certificates
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Folder of requests (PKCS#10, PEM or DER), each named SERIAL.csr after its device
    #[arg(long, value_name = "FOLDER")]
    requests: PathBuf,
    /// Class of the devices (a UUID)
    #[arg(long, value_name = "UUID")]
    class: String,
    /// For whom the devices work, where one CA serves several
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Folder for the certificates, each named SERIAL.crt; made where it is missing
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Write the issuing CA's certificate behind each
    #[arg(long)]
    chain: bool,
    #[command(flatten)]
    signing: SigningArgs,
}

/// A request and whose it is.
struct Unit {
    serial: String,
    identity: Identity,
    request: Request,
}

impl IssueBatch {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut ca = super::open(&self.db, out)?;
        ca.profiles().of(&self.profile)?;
        // What cannot be issued is said before anybody is asked for a passphrase.
        let units = self.units()?;
        let order = |unit| Ok((self.order(unit), Moment::at(now())?));
        let orders = units.iter().map(order).collect::<Result<Vec<_>>>()?;
        let signer = self.signing.open(out)?;
        let issued = ca.issue_all(&signer, &orders, self.signing.custody())?;
        let failed = |error| Code::FileWrite.error(format!("{} cannot be made: {error}", self.output.display()));
        fs::create_dir_all(&self.output).map_err(failed)?;
        for (unit, issued) in units.iter().zip(&issued) {
            self.write(&ca, unit, issued)?;
        }
        self.tell(&issued, out);
        Ok(())
    }

    fn order<'a>(&'a self, unit: &'a Unit) -> Order<'a> {
        Order {
            profile: &self.profile,
            identity: &unit.identity,
            request: &unit.request,
        }
    }

    /// The folder's requests in the order of their names.
    fn units(&self) -> Result<Vec<Unit>> {
        let unreadable = |error: std::io::Error| {
            let code = match error.kind() {
                ErrorKind::NotFound => Code::FileMissing,
                _ => Code::FileRead,
            };
            code.error(format!(
                "the folder {} cannot be read: {error}",
                self.requests.display()
            ))
        };
        let entries = fs::read_dir(&self.requests).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<PathBuf> = paths.collect::<std::io::Result<_>>().map_err(unreadable)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == REQUEST));
        paths.sort();
        if paths.is_empty() || paths.len() > BATCH_REQUESTS_MAX {
            return Err(Code::Argument.error(format!(
                "{} has {} requests (*.{REQUEST}); a batch is 1 to {BATCH_REQUESTS_MAX}",
                self.requests.display(),
                paths.len()
            )));
        }
        paths.iter().map(|path| self.unit(path)).collect()
    }

    fn unit(&self, path: &Path) -> Result<Unit> {
        let serial = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let identity = Identity::device(&self.class, &serial, self.tenant.as_deref());
        let request = input::bytes(path).and_then(|bytes| Request::read(&bytes));
        Ok(Unit {
            identity: identity.map_err(|error| of(path, error))?,
            request: request.map_err(|error| of(path, error))?,
            serial,
        })
    }

    fn write(&self, ca: &Ca, unit: &Unit, issued: &Issued) -> Result<()> {
        let above = match self.chain {
            true => ca.chain(&issued.certificate)?,
            false => Vec::new(),
        };
        let all = std::iter::once(&issued.certificate).chain(&above);
        let pem: String = all.map(Certificate::to_pem).collect();
        let file = self.output.join(format!("{}.{CERTIFICATE}", unit.serial));
        files::write_once(&file, pem.as_bytes())
    }

    fn tell(&self, issued: &[Issued], out: Out) {
        let again = issued.iter().filter(|issued| issued.is_repeat).count();
        let text = format!(
            "Wrote {} certificates to {}; {again} of them had been issued before.\n",
            issued.len(),
            self.output.display()
        );
        let value = json!({
            "certificates": issued.len(),
            "repeated": again,
            "folder": self.output.display().to_string(),
        });
        out.result(text, &value);
    }
}

/// Names the file of the batch that an error is about.
fn of(path: &Path, error: Error) -> Error {
    error.about(&path.display().to_string())
}
