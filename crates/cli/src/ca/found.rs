//! `ampoule ca init` and `roll`: what the root signs, after somebody read it.

use std::path::PathBuf;

use ::release::{hex, input, tree::Tree};
use clap::Args;
use codec::roots::Environment;
use keys::ca::profile::DEFAULT;
use keys::ca::{Branch, Ca, Custody, Founding, Issued, Moment};
use keys::{Code, KeyUri, PublicKey, Result};
use serde_json::{Value, json};

use super::{SigningArgs, describe, prose};
use crate::approval::{ApprovalArgs, grave};
use crate::journal::now;
use crate::out::Out;
use crate::signing::EitherHalf;
use crate::worlds::World;

#[derive(Args)]
pub(crate) struct Init {
    /// The database to make; it holds no secrets
    db: PathBuf,
    /// Whose CA it is; stands in every name
    #[arg(long, value_name = "NAME")]
    organisation: String,
    /// Whether real devices or those on a desk are certified
    #[arg(long, value_name = "WORLD")]
    environment: World,
    /// Profiles of what is issued; without it those of docs/ca.md
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Key of the CA that issues to devices; a private one also signs its first list of revocations
    #[arg(long, value_name = "KEY")]
    device_key: Option<KeyUri>,
    /// Key of the CA that issues to TLS servers
    #[arg(long, value_name = "KEY", requires = "server_domain")]
    server_key: Option<KeyUri>,
    /// DNS domain in which the server CA may issue (repeat)
    #[arg(long, value_name = "DOMAIN", requires = "server_key")]
    server_domain: Vec<String>,
    /// Key of the CA that issues to people
    #[arg(long, value_name = "KEY")]
    operator_key: Option<KeyUri>,
    /// Key of the CA that issues to signers of firmware
    #[arg(long, value_name = "KEY")]
    firmware_key: Option<KeyUri>,
    #[command(flatten)]
    approval: ApprovalArgs,
    /// The root's key.
    #[command(flatten)]
    signing: SigningArgs,
}

impl Init {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let profiles = match &self.profiles {
            Some(file) => input::text(file)?,
            None => DEFAULT.to_owned(),
        };
        let founding = Founding {
            organisation: &self.organisation,
            environment: self.environment.into(),
            profiles: &profiles,
        };
        let keys = self.public_keys(founding.environment, out)?;
        self.ask(&founding, &keys, out)?;
        let root = self.signing.open(out)?;
        // Before the database is made: what production does not take leaves nothing behind.
        self.admit(
            founding.environment,
            "the root CA's key",
            root.public_key(),
            root.development_only(),
        )?;
        let mut ca = self.database(&founding)?;
        let custody = self.signing.custody();
        let mut made = vec![(Branch::Root, ca.found_root(&root, custody, Moment::at(now())?)?)];
        for IssuingKey { branch, public, .. } in &keys {
            let domains: &[String] = if *branch == Branch::Server {
                &self.server_domain
            } else {
                &[]
            };
            let moment = Moment::at(now())?;
            made.push((*branch, ca.establish(*branch, public, domains, &root, custody, moment)?));
        }
        first_list(&mut ca, Branch::Root, Some(&root), custody, out)?;
        for IssuingKey { branch, uri, .. } in &keys {
            let key = self.signing.open_half(uri, out)?;
            first_list(&mut ca, *branch, key.private(), custody, out)?;
        }
        tell(&ca, &made, out);
        Ok(())
    }

    fn database(&self, founding: &Founding<'_>) -> Result<Ca> {
        match Ca::create(&self.db, founding) {
            Err(error) if error.is(Code::CaExists) => {
                let ca = Ca::open(&self.db)?;
                ca.check_founding(founding)?;
                Ok(ca)
            }
            made => made,
        }
    }

    /// The issuing CAs' keys as the statement names them.
    fn public_keys(&self, world: Environment, out: Out) -> Result<Vec<IssuingKey<'_>>> {
        let given = [
            (Branch::Device, &self.device_key),
            (Branch::Server, &self.server_key),
            (Branch::Operator, &self.operator_key),
            (Branch::FirmwareSigning, &self.firmware_key),
        ];
        let given = given
            .into_iter()
            .filter_map(|(branch, uri)| Some((branch, uri.as_ref()?)));
        let read = |(branch, uri): (Branch, &'_ KeyUri)| {
            let key = EitherHalf::public_of(uri, &self.signing.passphrase, out)?;
            self.admit(
                world,
                &format!("the {branch} CA's key"),
                key.public(),
                key.development_only(),
            )?;
            Ok((branch, key.public().clone()))
        };
        let mut keys = Vec::new();
        for (branch, uri) in given {
            let (branch, public) = read((branch, uri))?;
            keys.push(IssuingKey { branch, uri, public });
        }
        Ok(keys)
    }

    fn admit(
        &self,
        world: Environment,
        whose: &str,
        key: &PublicKey,
        reason: Option<keys::DevelopmentOnly>,
    ) -> Result<()> {
        self.signing.worlds.admit(world, whose, key, reason)
    }

    fn ask(&self, founding: &Founding<'_>, keys: &[IssuingKey<'_>], out: Out) -> Result<()> {
        let mut statement = Tree::fields()
            .with("what", "a certification authority")
            .with("organisation", founding.organisation)
            .with("environment", ::release::root::environment_name(founding.environment))
            .with("root key", self.signing.key_name());
        for IssuingKey { branch, public, .. } in keys {
            statement = statement.with(&format!("{branch} CA"), hex::text(&public.thumbprint()));
        }
        let domains = self.server_domain.join(" ");
        let statement = statement
            .with_some("server domains", (!domains.is_empty()).then_some(domains))
            .with("profiles", hex::text(&trust::Sha256::of(founding.profiles.as_bytes())));
        approved(&self.approval, &self.signing, statement, founding.environment, out)
    }
}

/// The key of an issuing CA.
struct IssuingKey<'a> {
    branch: Branch,
    uri: &'a KeyUri,
    public: PublicKey,
}

/// The first list of a CA, which also shows that its private key is there.
fn first_list(ca: &mut Ca, branch: Branch, key: Option<&dyn keys::Signer>, custody: Custody, out: Out) -> Result<()> {
    let newest = ca.newest(branch)?;
    match key {
        _ if ca.latest_crl(&newest)?.is_some() => {}
        Some(key) => drop(ca.sign_crl(branch, key, custody, now())?),
        None => out.note(format!(
            "note: `ampoule ca crl` with the {branch} CA's key signs its first list of revocations"
        )),
    }
    Ok(())
}

/// Asks for the approval of what a root signs. The digest is that of the statement: what is signed in the end also has
/// serial numbers and times, which nobody can know before.
fn approved(
    approval: &ApprovalArgs,
    signing: &SigningArgs,
    statement: Tree,
    world: Environment,
    out: Out,
) -> Result<()> {
    let digest = digest_of(&statement);
    let statement = statement.with("digest", hex::text(&digest));
    let grave = grave(std::slice::from_ref(&signing.key));
    approval.ask(&statement, &digest, grave.as_deref(), Some(world), out)
}

fn digest_of(statement: &Tree) -> [u8; 32] {
    trust::Sha256::of(serde_json::to_string(statement).unwrap_or_default().as_bytes())
}

fn tell(ca: &Ca, made: &[(Branch, Issued)], out: Out) {
    let parts = made.iter().map(|(branch, issued)| {
        let mut value = describe(&issued.certificate);
        value["ca"] = json!(branch.name());
        value["pem"] = json!(issued.certificate.to_pem());
        value
    });
    let parts: Vec<Value> = parts.collect();
    let mut text = format!("{} holds the CA of {}.\n", ca.path().display(), ca.organisation());
    for (branch, issued) in made {
        text.push_str(&format!("\n{branch} CA\n{}\n", prose(&issued.certificate)));
    }
    let value = json!({"database": ca.path().display().to_string(), "organisation": ca.organisation(), "cas": parts});
    out.result(text, &value);
}

#[derive(Args)]
pub(crate) struct Roll {
    /// The CA's database
    db: PathBuf,
    /// Which CA gets its next generation
    #[arg(long, value_name = "CA")]
    issuer: Branch,
    /// Key of the next generation; for a new root, and for the first list of revocations, the private one
    #[arg(long, value_name = "KEY")]
    new_key: KeyUri,
    #[command(flatten)]
    approval: ApprovalArgs,
    /// The root's key; for a new root that of the present one.
    #[command(flatten)]
    signing: SigningArgs,
}

impl Roll {
    pub(super) fn run(&self, out: Out) -> Result<()> {
        let mut ca = super::open(&self.db, out)?;
        let new = EitherHalf::open(
            &self.new_key,
            &self.signing.worlds.journaled(&self.signing.passphrase),
            out,
        )?;
        let whose = format!("the new {} CA's key", self.issuer);
        let world = ca.environment();
        self.signing
            .worlds
            .admit(world, &whose, new.public(), new.development_only())?;
        let statement = Tree::fields()
            .with("what", format!("the next generation of the {} CA", self.issuer))
            .with("organisation", ca.organisation())
            .with("environment", ::release::root::environment_name(world))
            .with("root key", self.signing.key_name())
            .with("new key", hex::text(&new.public().thumbprint()));
        approved(&self.approval, &self.signing, statement, world, out)?;
        let root = self.signing.open(out)?;
        let new = self.signing.open_half(&self.new_key, out)?;
        let custody = self.signing.custody();
        let made = match self.issuer {
            Branch::Root => self.roll_root(&mut ca, &root, &new)?,
            branch => vec![(
                branch,
                ca.succeed(branch, new.public(), &root, custody, Moment::at(now())?)?,
            )],
        };
        first_list(&mut ca, self.issuer, new.private(), custody, out)?;
        tell(&ca, &made, out);
        Ok(())
    }

    fn roll_root(&self, ca: &mut Ca, old: &dyn keys::Signer, new: &EitherHalf) -> Result<Vec<(Branch, Issued)>> {
        let private = new.private();
        let private =
            private.ok_or_else(|| Code::KeyPublicOnly.error("a new root signs itself, with its private key"))?;
        let moments = [Moment::at(now())?, Moment::at(now())?, Moment::at(now())?];
        let made = ca.succeed_root(&private, &old, self.signing.custody(), moments)?;
        Ok([made.root, made.new_with_old, made.old_with_new]
            .map(|issued| (Branch::Root, issued))
            .to_vec())
    }
}

/// A renewal of a CA's own certificate, after its approval.
pub(super) fn recertify(
    ca: &mut Ca,
    serial: &[u8],
    approval: &ApprovalArgs,
    signing: &SigningArgs,
    out: Out,
) -> Result<Issued> {
    let entry = ca.entry(serial)?;
    let statement = Tree::fields()
        .with(
            "what",
            "a CA's certificate for another lifetime, with the same name and key",
        )
        .with("organisation", ca.organisation())
        .with("environment", ::release::root::environment_name(ca.environment()))
        .with("CA", entry.identity.as_str())
        .with("follows", keys::ca::authority::text(serial))
        .with("root key", signing.key_name());
    approved(approval, signing, statement, ca.environment(), out)?;
    let root = signing.open(out)?;
    ca.recertify(serial, &root, signing.custody(), Moment::at(now())?)
}
