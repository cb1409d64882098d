//! `ampoule ca issue`, `renew`, `revoke` and `crl`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ::release::input;
use clap::Args;
use keys::ca::authority::{parse_serial, text};
use keys::ca::{Branch, Ca, Crl, Identity, Issued, Moment, Order, Reason, Request};
use keys::{Code, Result};
use serde_json::json;

use super::{SigningArgs, date, found, hand_out};
use crate::approval::ApprovalArgs;
use crate::files;
use crate::journal::now;
use crate::out::Out;

#[derive(Args)]
pub(crate) struct Issue {
    /// The CA's database
    db: PathBuf,
    /// Profile of the certificate
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Request with the key that is to be certified (PKCS#10, PEM or DER)
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    #[command(flatten)]
    whom: Whom,
    /// Where to write the certificate; without it to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the issuing CA's certificate behind it
    #[arg(long)]
    chain: bool,
    #[command(flatten)]
    signing: SigningArgs,
}

/// Whom the certificate names; not taken from the request.
#[derive(Args)]
pub(crate) struct Whom {
    /// Serial number of a device
    #[arg(long, value_name = "SERIAL", requires = "class", help_heading = "Whom it names")]
    device: Option<String>,
    /// Class of the device (a UUID)
    #[arg(long, value_name = "UUID", requires = "device", help_heading = "Whom it names")]
    class: Option<String>,
    /// For whom the device works, where one CA serves several
    #[arg(long, value_name = "NAME", requires = "device", help_heading = "Whom it names")]
    tenant: Option<String>,
    /// DNS name of a server (repeat)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "person", "product_line", "station"], help_heading = "Whom it names")]
    dns: Vec<String>,
    /// IP address of a server (repeat)
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["device", "person", "product_line", "station"], help_heading = "Whom it names")]
    ip: Vec<IpAddr>,
    /// Name of a person, such as alice@example.com
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "product_line", "station"], help_heading = "Whom it names")]
    person: Option<String>,
    /// Product line that a signer of firmware signs for
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "station"], help_heading = "Whom it names")]
    product_line: Option<String>,
    /// Name of a factory station
    #[arg(long, value_name = "NAME", conflicts_with = "device", help_heading = "Whom it names")]
    station: Option<String>,
    /// Role in which it acts (repeat)
    #[arg(long, value_name = "ROLE", help_heading = "Whom it names")]
    role: Vec<String>,
}

impl Whom {
    fn identity(&self) -> Result<Identity> {
        let identity = match self {
            Whom {
                device: Some(serial),
                class: Some(class),
                tenant,
                ..
            } => Identity::device(class, serial, tenant.as_deref()),
            Whom { person: Some(name), .. } => Identity::operator(name),
            Whom {
                product_line: Some(line),
                ..
            } => Identity::firmware(line),
            Whom {
                station: Some(name), ..
            } => Identity::station(name),
            Whom { dns, ip, .. } if !dns.is_empty() || !ip.is_empty() => Identity::server(dns, ip),
            _ => Err(Code::CaIdentity.error("nothing says whom the certificate is to name")),
        };
        identity?.in_roles(&self.role)
    }
}

impl Issue {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut ca = super::open(&self.db, out)?;
        let (identity, request) = (self.whom.identity()?, read_request(&self.request)?);
        // What cannot be issued is said before anybody is asked for a passphrase.
        ca.profiles().of(&self.profile)?;
        let order = Order {
            profile: &self.profile,
            identity: &identity,
            request: &request,
        };
        let signer = self.signing.open(out)?;
        let issued = ca.issue(&signer, &order, self.signing.custody(), Moment::at(now())?)?;
        give(&ca, &issued, self.chain, self.output.as_ref(), out)
    }
}

fn give(ca: &Ca, issued: &Issued, chain: bool, output: Option<&PathBuf>, out: Out) -> Result<()> {
    let others = match chain {
        true => ca.chain(&issued.certificate)?,
        false => Vec::new(),
    };
    hand_out(issued, &others, output, out)
}

fn read_request(path: &Path) -> Result<Request> {
    Request::read(&input::bytes(path)?)
}

#[derive(Args)]
pub(crate) struct Renew {
    /// The CA's database
    db: PathBuf,
    /// Serial number of the certificate that is renewed
    serial: String,
    /// Request with the key that is to be certified; none for a CA's own certificate, which keeps its key
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Where to write the certificate; without it to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the issuing CA's certificate behind it
    #[arg(long)]
    chain: bool,
    #[command(flatten)]
    approval: ApprovalArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

impl Renew {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut ca = super::open(&self.db, out)?;
        let serial = parse_serial(&self.serial)?;
        let issued = match &self.request {
            None => found::recertify(&mut ca, &serial, &self.approval, &self.signing, out)?,
            Some(request) => {
                let request = read_request(request)?;
                let signer = self.signing.open(out)?;
                ca.renew(&signer, &serial, &request, self.signing.custody(), Moment::at(now())?)?
            }
        };
        give(&ca, &issued, self.chain, self.output.as_ref(), out)
    }
}

#[derive(Args)]
pub(crate) struct Revoke {
    /// The CA's database
    db: PathBuf,
    /// Serial number of the certificate
    serial: String,
    /// Why, in the words of RFC 5280: unspecified, key-compromise, ca-compromise, affiliation-changed, superseded,
    /// cessation-of-operation, privilege-withdrawn
    #[arg(long, value_name = "REASON")]
    because: Reason,
    /// Where to write the list that says so; replaces the file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The key of the CA that issued it.
    #[command(flatten)]
    signing: SigningArgs,
}

impl Revoke {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut ca = super::open(&self.db, out)?;
        let serial = parse_serial(&self.serial)?;
        let issuer = ca.issuer_of(&ca.entry(&serial)?)?;
        let signer = self.signing.open(out)?;
        // A key that cannot sign the list is found before anything is written.
        if issuer.key()? != *signer.public_key() {
            return Err(Code::CaIssuerKey.error(format!(
                "the certificate was issued by the {} CA, with another key",
                issuer.branch
            )));
        }
        let entry = ca.revoke(&serial, self.because, now())?;
        let crl = ca.sign_crl(issuer.branch, &signer, self.signing.custody(), now())?;
        publish(
            &crl,
            self.output.as_ref(),
            &format!("Revoked {} ({}).\n", text(&serial), entry.identity),
            out,
        )
    }
}

#[derive(Args)]
pub(crate) struct SignCrl {
    /// The CA's database
    db: PathBuf,
    /// Which CA
    #[arg(long, value_name = "CA")]
    issuer: Branch,
    /// Where to write the list; replaces the file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    signing: SigningArgs,
}

impl SignCrl {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut ca = super::open(&self.db, out)?;
        let signer = self.signing.open(out)?;
        let crl = ca.sign_crl(self.issuer, &signer, self.signing.custody(), now())?;
        publish(&crl, self.output.as_ref(), "", out)
    }
}

fn publish(crl: &Crl, output: Option<&PathBuf>, first: &str, out: Out) -> Result<()> {
    let pem = crl.to_pem();
    let value = json!({
        "number": crl.number,
        "this_update": crl.this_update,
        "next_update": crl.next_update,
        "revoked": crl.revoked,
        "pem": pem,
    });
    let until = date(crl.next_update);
    let text = format!(
        "{first}CRL {} with {} revoked, good until {until}",
        crl.number, crl.revoked
    );
    let Some(file) = output else {
        let text = if first.is_empty() { pem } else { text };
        out.result(text, &value);
        return Ok(());
    };
    files::replace(file, pem.as_bytes())?;
    out.result(format!("{text}; wrote {}.", file.display()), &value);
    Ok(())
}
