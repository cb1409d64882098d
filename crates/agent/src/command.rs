//! The commands of the vault.

use std::path::{Path, PathBuf};

use agent::secrets::Secrets;
use agent::vault::Vault as Opened;
use agent::vault::file::FileVault;
use clap::{Args, Subcommand};
use keys::{Code, Result, Signer};
use trust::KeyVault;

#[derive(Subcommand)]
pub(crate) enum Vault {
    /// Make the vault, once in the life of the device
    Init {
        #[command(flatten)]
        place: Place,
        /// The vault is a file, which is good for development only: whoever copies it has the device's secret and key
        #[arg(long, conflicts_with = "tcti", required_unless_present = "tcti")]
        development_file: bool,
        /// Public key (PEM, P-256) of the authority whose signed policies open the vault
        #[arg(long, value_name = "FILE", requires = "tcti")]
        authority: Option<PathBuf>,
        /// Family of the policies, a word of up to 32 bytes
        #[arg(long, value_name = "WORD", default_value = "ampoule")]
        reference: String,
    },
    /// Open the vault and say what is in it
    Show {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        policies: Policies,
    },
    /// Print the public key of a device key (PEM); made at its first use
    Key {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        policies: Policies,
        /// Name of the key
        #[arg(default_value = "device")]
        name: String,
    },
    /// Write what the authority signs: the policy for what was measured at this start
    #[cfg(feature = "tpm")]
    Measure {
        /// The TPM
        #[arg(long, value_name = "TCTI")]
        tcti: String,
        /// PCRs of the SHA-256 bank, ascending
        #[arg(long, value_delimiter = ',', required = true)]
        pcr: Vec<u8>,
        /// Family of the policies
        #[arg(long, value_name = "WORD", default_value = "ampoule")]
        reference: String,
        /// The bytes that are signed with ECDSA and SHA-256
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put the authority's signature (DER) and what it signed together to a signed policy
    #[cfg(feature = "tpm")]
    Policy {
        /// The PCRs given to `measure`
        #[arg(long, value_delimiter = ',', required = true)]
        pcr: Vec<u8>,
        /// What `measure` wrote
        message: PathBuf,
        /// The signature
        signature: PathBuf,
        /// The signed policy
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Destroy the device's secret for ever, with everything that is sealed under it
    Destroy {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        policies: Policies,
        /// Needed: there is no way back
        #[arg(long, required = true)]
        for_ever: bool,
    },
}

#[derive(Args)]
pub(crate) struct Place {
    /// Folder of the vault
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ampoule")]
    vault: PathBuf,
    /// The TPM, as its software stack names it, such as device:/dev/tpmrm0
    #[arg(long, value_name = "TCTI")]
    tcti: Option<String>,
}

#[derive(Args)]
pub(crate) struct Policies {
    /// A signed policy; the first one that fits opens a TPM's vault
    #[arg(long = "policy", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Vault {
    /// Does it, and gives what is printed.
    pub(crate) fn run(self) -> Result<String> {
        match self {
            Vault::Init {
                place,
                authority,
                reference,
                ..
            } => init(&place, authority.as_deref(), &reference),
            Vault::Show { place, policies } => show(&place, &policies),
            Vault::Key { place, policies, name } => Ok(key(&place, &policies, &name)?),
            #[cfg(feature = "tpm")]
            Vault::Measure {
                tcti,
                pcr,
                reference,
                out,
            } => tpm::measure(&tcti, &pcr, &reference, &out),
            #[cfg(feature = "tpm")]
            Vault::Policy {
                pcr,
                message,
                signature,
                out,
            } => tpm::policy(pcr, &message, &signature, &out),
            Vault::Destroy { place, policies, .. } => {
                open(&place, &policies)?
                    .destroy()
                    .map_err(|reason| keys::Error::refused("vault", reason))?;
                Ok("destroyed: what was sealed under it cannot be read any more\n".into())
            }
        }
    }
}

fn init(place: &Place, authority: Option<&Path>, reference: &str) -> Result<String> {
    let failed = |error| Code::VaultStorage.error(format!("{}: {error}", place.vault.display()));
    std::fs::create_dir_all(&place.vault).map_err(failed)?;
    match &place.tcti {
        None => {
            FileVault::create(&place.vault)?;
            Ok("made, in a file: for development only\n".into())
        }
        #[cfg(feature = "tpm")]
        Some(tcti) => tpm::init(tcti, &place.vault, authority, reference),
        #[cfg(not(feature = "tpm"))]
        Some(tcti) => {
            let _ = (authority, reference);
            Err(without_tpm(tcti))
        }
    }
}

fn open(place: &Place, policies: &Policies) -> Result<Opened> {
    match &place.tcti {
        None => FileVault::open(&place.vault).map(Opened::File),
        #[cfg(feature = "tpm")]
        Some(tcti) => tpm::open(tcti, &place.vault, &policies.files),
        #[cfg(not(feature = "tpm"))]
        Some(tcti) => {
            let _ = &policies.files;
            Err(without_tpm(tcti))
        }
    }
}

fn show(place: &Place, policies: &Policies) -> Result<String> {
    let mut vault = open(place, policies)?;
    let kind = match vault {
        Opened::File(_) => "file, for development only",
        #[cfg(feature = "tpm")]
        Opened::Tpm(_) => "TPM 2.0",
    };
    let secrets = Secrets::open(&place.vault, &mut vault)?;
    Ok(format!("vault    {kind}\nchanges  {}\n", secrets.generation()))
}

fn key(place: &Place, policies: &Policies, name: &str) -> Result<String> {
    match &mut open(place, policies)? {
        Opened::File(vault) => Ok(vault.device_key(name)?.public_key().to_pem()),
        #[cfg(feature = "tpm")]
        Opened::Tpm(vault) => Ok(vault.device_key(name)?.public_key().to_pem()),
    }
}

#[cfg(not(feature = "tpm"))]
fn without_tpm(tcti: &str) -> keys::Error {
    Code::TpmSilent.error(format!("this agent was built without TPMs and cannot use {tcti}"))
}

#[cfg(feature = "tpm")]
mod tpm {
    use agent::policy::{self, SignedPolicy, to_hex};
    use agent::vault::tpm::{NV_INDEX, Tpm, TpmVault};
    use keys::PublicKey;

    use super::{Code, Opened, Path, PathBuf, Result};

    pub(super) fn init(tcti: &str, folder: &Path, authority: Option<&Path>, reference: &str) -> Result<String> {
        let wanted = || Code::Argument.error("a vault in a TPM needs --authority FILE");
        let authority = PublicKey::from_pem(&text(authority.ok_or_else(wanted)?)?)?;
        TpmVault::create(&Tpm::open(tcti)?, folder, NV_INDEX, &authority, reference)?;
        Ok("made, in the TPM: it opens under a policy that the authority signed\n".into())
    }

    pub(super) fn open(tcti: &str, folder: &Path, files: &[PathBuf]) -> Result<Opened> {
        let policies = files
            .iter()
            .map(|file| SignedPolicy::read(&text(file)?))
            .collect::<Result<Vec<_>>>()?;
        TpmVault::open(&Tpm::open(tcti)?, folder, NV_INDEX, &policies).map(Opened::Tpm)
    }

    pub(super) fn measure(tcti: &str, pcrs: &[u8], reference: &str, out: &Path) -> Result<String> {
        let digest = policy::digest(pcrs, &Tpm::open(tcti)?.measured(pcrs)?)?;
        write(out, &policy::message(&digest, reference))?;
        Ok(format!("{}\n", to_hex(&digest)))
    }

    pub(super) fn policy(pcrs: Vec<u8>, message: &Path, signature: &Path, out: &Path) -> Result<String> {
        let wrong = || Code::PolicyMalformed.error(format!("{} is not what `measure` wrote", message.display()));
        let message = bytes(message)?;
        let (digest, reference) = message.split_at_checked(32).ok_or_else(wrong)?;
        let policy = SignedPolicy {
            pcrs,
            digest: to_hex(digest),
            reference: String::from_utf8(reference.to_vec()).map_err(|_| wrong())?,
            signature: to_hex(&bytes(signature)?),
        };
        write(out, SignedPolicy::read(&policy.to_toml())?.to_toml().as_bytes())?;
        Ok(String::new())
    }

    fn bytes(file: &Path) -> Result<Vec<u8>> {
        std::fs::read(file).map_err(|error| Code::FileRead.error(format!("{}: {error}", file.display())))
    }

    fn text(file: &Path) -> Result<String> {
        String::from_utf8(bytes(file)?).map_err(|_| Code::FileRead.error(format!("{} is no text", file.display())))
    }

    fn write(file: &Path, bytes: &[u8]) -> Result<()> {
        std::fs::write(file, bytes).map_err(|error| Code::FileWrite.error(format!("{}: {error}", file.display())))
    }
}
