//! `ampoule ca list`, `show`, `export` and `verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use keys::ca::authority::{parse_serial, text};
use keys::ca::store::{AuthorityRow, Entry};
use keys::ca::{Anchors, Branch, Ca, Certificate, Reason, Usage, crl};
use keys::{Code, Result};
use serde_json::{Value, json};

use super::{date, describe, prose, read_certificates, read_crl, time};
use crate::files;
use crate::out::Out;

#[derive(Args)]
pub(crate) struct List {
    /// The CA's database
    db: PathBuf,
    /// Only what was reserved and never finished
    #[arg(long)]
    open: bool,
    /// Only what was revoked
    #[arg(long, conflicts_with = "open")]
    revoked: bool,
}

impl List {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let ca = super::open(&self.db, out)?;
        let authorities = ca.authorities()?;
        let wanted = |entry: &Entry| match self {
            List { open: true, .. } => entry.der.is_none() && entry.revoked.is_none(),
            List { revoked: true, .. } => entry.revoked.is_some(),
            _ => true,
        };
        let entries: Vec<Entry> = ca.entries()?.into_iter().filter(wanted).collect();
        let mut lines = Vec::new();
        let mut cas = Vec::new();
        for authority in &authorities {
            let (line, value) = ca_line(&ca, authority)?;
            lines.push(line);
            cas.push(value);
        }
        lines.push(String::new());
        lines.extend(entries.iter().map(entry_line));
        let entries: Vec<Value> = entries.iter().map(entry_value).collect();
        out.result(lines.join("\n"), &json!({ "cas": cas, "certificates": entries }));
        Ok(())
    }
}

fn ca_line(ca: &Ca, authority: &AuthorityRow) -> Result<(String, Value)> {
    let key = authority.key()?;
    let crl = ca.latest_crl(authority)?;
    let behind = ca.revoked_since_crl(authority)?;
    let publish = u64::from(ca.profiles().ca(authority.branch)?.crl_publish_days) * 86_400;
    let due = crl.as_ref().map(|crl| crl.this_update + publish);
    let list = match &crl {
        None => "no CRL yet".into(),
        Some(crl) => format!(
            "CRL {} until {}, next due {}",
            crl.number,
            date(crl.next_update),
            date(due.unwrap_or(0))
        ),
    };
    let warning = if behind > 0 {
        format!(", {behind} revoked and NOT on it")
    } else {
        String::new()
    };
    let id = ::release::hex::text(&key.thumbprint());
    let name = format!("{} CA {}", authority.branch, authority.generation);
    let value = json!({
        "ca": authority.branch.name(),
        "generation": authority.generation,
        "key_id": id,
        "domains": authority.domains,
        "crl_number": crl.as_ref().map(|crl| crl.number),
        "crl_next_update": crl.as_ref().map(|crl| crl.next_update),
        "crl_due": due,
        "revoked_not_listed": behind,
    });
    Ok((format!("{name:24} key {id}\n{:24} {list}{warning}", ""), value))
}

fn state(entry: &Entry) -> String {
    match (&entry.der, entry.revoked) {
        (_, Some((at, code))) => {
            let reason = Reason::from_code(code).map_or("unspecified", Reason::name);
            format!("revoked {} ({reason})", date(at))
        }
        (None, None) => "reserved, not finished".into(),
        (Some(_), None) => format!("valid until {}", date(entry.not_after)),
    }
}

fn entry_line(entry: &Entry) -> String {
    format!(
        "{}  {:16} {}  {}",
        text(&entry.serial),
        entry.profile,
        state(entry),
        entry.identity
    )
}

fn entry_value(entry: &Entry) -> Value {
    json!({
        "serial": text(&entry.serial),
        "profile": entry.profile,
        "names": entry.identity,
        "state": match (&entry.der, entry.revoked) {
            (_, Some(_)) => "revoked",
            (None, None) => "reserved",
            (Some(_), None) => "issued",
        },
        "reserved_at": entry.reserved_at,
        "not_after": entry.not_after,
        "revoked_at": entry.revoked.map(|(at, _)| at),
        "reason": entry.revoked.and_then(|(_, code)| Reason::from_code(code)).map(Reason::name),
    })
}

#[derive(Args)]
pub(crate) struct Show {
    /// The CA's database
    db: PathBuf,
    /// Serial number of the certificate
    serial: String,
    /// Print the certificate in PEM form and nothing else
    #[arg(long)]
    pem: bool,
}

impl Show {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let ca = super::open(&self.db, out)?;
        let entry = ca.entry(&parse_serial(&self.serial)?)?;
        let mut value = entry_value(&entry);
        let Some(der) = &entry.der else {
            out.result(entry_line(&entry), &value);
            return Ok(());
        };
        let certificate = Certificate::from_der(der)?;
        value["certificate"] = describe(&certificate);
        value["pem"] = json!(certificate.to_pem());
        let said = match self.pem {
            true => certificate.to_pem(),
            false => format!(
                "{}\nissuer         {}\nstate          {}",
                prose(&certificate),
                certificate.issuer(),
                state(&entry)
            ),
        };
        out.result(said, &value);
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Export {
    /// The CA's database
    db: PathBuf,
    /// What to write
    what: What,
    /// Only of this CA
    #[arg(long, value_name = "CA")]
    issuer: Option<Branch>,
    /// Where to write it; replaces the file. Without it to standard output, in PEM
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// In DER: one certificate or list, the newest
    #[arg(long, requires = "output", requires = "issuer")]
    der: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Roots of all generations; with --issuer that CA's certificates, for whoever believes one purpose only
    Anchors,
    /// What stands between: certificates of issuing CAs, and links between roots
    Between,
    /// The newest lists of revocations
    Crls,
}

impl Export {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let ca = super::open(&self.db, out)?;
        let all = match self.what {
            What::Anchors => certificates(ca.anchors(self.issuer.unwrap_or(Branch::Root))?),
            What::Between => certificates(ca.between(self.issuer)?),
            What::Crls => self.crls(&ca)?,
        };
        let Some((newest, _)) = all.last() else {
            return Err(Code::CaUnknown.error("there is nothing of this kind yet"));
        };
        let pem: String = all.iter().map(|(_, pem)| pem.as_str()).collect();
        let value = json!({ "count": all.len(), "pem": all.iter().map(|(_, pem)| pem).collect::<Vec<_>>() });
        let Some(file) = &self.output else {
            out.result(pem, &value);
            return Ok(());
        };
        files::replace(file, if self.der { newest } else { pem.as_bytes() })?;
        out.result(format!("Wrote {}.", file.display()), &value);
        Ok(())
    }

    fn crls(&self, ca: &Ca) -> Result<Vec<(Vec<u8>, String)>> {
        let mut all = Vec::new();
        for authority in ca.authorities()? {
            if self.issuer.is_some_and(|issuer| issuer != authority.branch) {
                continue;
            }
            let newest = ca.latest_crl(&authority)?.and_then(|crl| crl.der);
            all.extend(newest.map(|der| (crl::to_pem(&der), der)).map(|(pem, der)| (der, pem)));
        }
        Ok(all)
    }
}

fn certificates(all: Vec<Certificate>) -> Vec<(Vec<u8>, String)> {
    all.iter().map(|one| (one.as_der().to_vec(), one.to_pem())).collect()
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The certificate, perhaps with its chain behind it
    certificate: PathBuf,
    /// What its holder wants to be
    #[arg(long, value_name = "USAGE")]
    usage: UsageName,
    /// Certificates that are believed without a signature (repeat)
    #[arg(long, value_name = "FILE", required = true)]
    anchors: Vec<PathBuf>,
    /// Certificates that may stand between (repeat)
    #[arg(long, value_name = "FILE")]
    between: Vec<PathBuf>,
    /// Lists of revocations of every CA in the chain, one in each file (repeat)
    #[arg(long, value_name = "FILE", required = true)]
    crl: Vec<PathBuf>,
    /// Time, in seconds since 1970; without it this machine's
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UsageName {
    /// Client of a TLS connection
    Client,
    /// Server of one
    Server,
    /// Signer of firmware
    CodeSigning,
}

impl Verify {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut chain = read_certificates(std::slice::from_ref(&self.certificate))?;
        let leaf = chain.remove(0);
        chain.extend(read_certificates(&self.between)?);
        let trusted = read_certificates(&self.anchors)?;
        let crls: Vec<Vec<u8>> = self.crl.iter().map(|path| read_crl(path)).collect::<Result<_>>()?;
        let anchors = Anchors {
            trusted: &trusted,
            between: &chain,
            crls: &crls,
        };
        let usage = match self.usage {
            UsageName::Client => Usage::Client,
            UsageName::Server => Usage::Server,
            UsageName::CodeSigning => Usage::CodeSigning,
        };
        let identity = anchors.verify(&leaf, usage, time(self.at))?;
        let value = json!({ "names": identity.to_string(), "certificate": describe(&leaf) });
        out.result(format!("{identity}\n{}", prose(&leaf)), &value);
        Ok(())
    }
}
