//! The vault in a TPM: real commands to a TPM in software, looked at with tpm2-tools.

mod common;

use std::path::Path;

use agent::policy::{self, SignedPolicy, to_hex};
use agent::secrets::{SEALED_FILE, Secrets};
use agent::vault::Vault;
use agent::vault::tpm::{NV_INDEX, Tpm, TpmVault};
use codec::Reason;
use common::SwTpm;
use keys::file::{FileKey, generate};
use keys::{Code, Content, Error, Job, Object, Purpose, Result, SignatureAlgorithm, Signer};
use trust::KeyVault;

const PCRS: [u8; 2] = [7, 11];
const FAMILY: &str = "pump";

/// A machine with a vault in its TPM.
struct Machine {
    swtpm: SwTpm,
    tpm: Tpm,
    folder: tempfile::TempDir,
    authority: FileKey,
}

impl Machine {
    fn new() -> Machine {
        let swtpm = SwTpm::new();
        let tpm = Tpm::open(&swtpm.tcti()).unwrap();
        let machine = Machine {
            tpm,
            swtpm,
            folder: tempfile::tempdir().unwrap(),
            authority: generate(SignatureAlgorithm::Esp256).unwrap(),
        };
        machine.create().unwrap();
        machine
    }

    fn create(&self) -> Result<()> {
        TpmVault::create(&self.tpm, self.path(), NV_INDEX, self.authority.public_key(), FAMILY)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A policy for what is measured now.
    fn policy(&self) -> SignedPolicy {
        self.policy_of(&self.authority, FAMILY)
    }

    fn policy_of(&self, authority: &FileKey, reference: &str) -> SignedPolicy {
        let digest = policy::digest(&PCRS, &self.tpm.measured(&PCRS).unwrap()).unwrap();
        let message = policy::message(&digest, reference);
        SignedPolicy {
            pcrs: PCRS.to_vec(),
            digest: to_hex(&digest),
            reference: reference.into(),
            signature: to_hex(&sign(authority, &message).to_x509().unwrap()),
        }
    }

    fn open(&self, policies: &[SignedPolicy]) -> Result<TpmVault> {
        TpmVault::open(&self.tpm, self.path(), NV_INDEX, policies)
    }

    fn secret(&self, policies: &[SignedPolicy]) -> Result<[u8; 32]> {
        self.open(policies).map(derived)
    }

    fn secrets(&self) -> Result<Secrets> {
        Secrets::open(self.path(), &mut Vault::Tpm(self.open(&[self.policy()])?))
    }

    fn restart(&mut self) {
        self.swtpm.restart();
        self.tpm = Tpm::open(&self.swtpm.tcti()).unwrap();
    }
}

fn derived(mut vault: TpmVault) -> [u8; 32] {
    let mut out = [0; 32];
    vault.derive(b"a test", &mut out).unwrap();
    out
}

fn sign(signer: &dyn Signer, message: &[u8]) -> keys::Signature {
    let purpose = Purpose {
        object: Object::Record,
        subject: "a policy".into(),
        digest: [0; 32],
    };
    let content = Content::Message(&[message]);
    let purpose = &purpose;
    signer.sign(&Job { content, purpose }).unwrap()
}

fn number<T>(result: Result<T>) -> u16 {
    result.err().map_or(0, |error: Error| error.number)
}

#[test]
fn a_vault_outlives_an_update_by_a_signed_policy_and_by_nothing_else() {
    let mut machine = Machine::new();
    let before = machine.policy();
    let secret = machine.secret(std::slice::from_ref(&before)).unwrap();
    machine.restart();
    assert_eq!(
        machine.secret(std::slice::from_ref(&before)).unwrap(),
        secret,
        "the same secret at every start"
    );
    machine.swtpm.extend(11, 'a');
    assert_eq!(
        number(machine.secret(std::slice::from_ref(&before))),
        Code::PolicyUnmet.number()
    );
    assert_eq!(number(machine.secret(&[])), Code::PolicyUnmet.number());
    let after = machine.policy();
    assert_eq!(
        machine.secret(&[before, after]).unwrap(),
        secret,
        "the update brought its policy"
    );

    let stranger = generate(SignatureAlgorithm::Esp256).unwrap();
    let foreign = machine.policy_of(&stranger, FAMILY);
    assert_eq!(number(machine.secret(&[foreign])), Code::PolicyForeign.number());
    let other_family = machine.policy_of(&machine.authority, "valve");
    assert_eq!(
        number(machine.secret(std::slice::from_ref(&other_family))),
        Code::PolicyUnmet.number()
    );
    let renamed = SignedPolicy {
        reference: FAMILY.into(),
        ..other_family
    };
    assert_eq!(number(machine.secret(&[renamed])), Code::PolicyForeign.number());
}

/// The authority's name stands in the file; the TPM has it in what it sealed.
#[test]
fn another_authority_in_the_sealed_file_opens_nothing() {
    let machine = Machine::new();
    let stranger = generate(SignatureAlgorithm::Esp256).unwrap();
    let path = machine.path().join(agent::vault::tpm::SEALED_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let (ours, theirs) = (
        machine.authority.public_key().to_spki_der(),
        stranger.public_key().to_spki_der(),
    );
    let at = bytes.windows(ours.len()).position(|window| window == ours).unwrap();
    let mut changed = bytes.clone();
    changed[at..at + ours.len()].copy_from_slice(&theirs);
    std::fs::write(&path, changed).unwrap();
    let policy = machine.policy_of(&stranger, FAMILY);
    assert_eq!(number(machine.secret(&[policy])), Code::PolicyUnmet.number());
    std::fs::write(&path, bytes).unwrap();
    machine.secret(&[machine.policy()]).unwrap();
}

#[test]
fn a_vault_moved_to_another_tpm_opens_nothing() {
    let machine = Machine::new();
    let other = Machine::new();
    let policy = machine.policy();
    let moved = TpmVault::open(&other.tpm, machine.path(), NV_INDEX, &[policy]);
    assert_eq!(number(moved), Code::TpmForeign.number());
    machine.tpm.device_key(machine.path(), "device").unwrap();
    assert_eq!(
        number(other.tpm.device_key(machine.path(), "device")),
        Code::TpmForeign.number()
    );
    assert_ne!(
        machine.secret(&[machine.policy()]).unwrap(),
        other.secret(&[other.policy()]).unwrap()
    );
    assert_eq!(number(machine.create()), Code::VaultExists.number());
    std::fs::remove_file(machine.path().join(agent::vault::tpm::SEALED_FILE)).unwrap();
    assert_eq!(number(machine.create()), Code::VaultExists.number(), "the TPM has one");
    assert_eq!(number(machine.open(&[])), Code::VaultMissing.number());
}

#[test]
fn a_destroyed_vault_stays_destroyed_though_its_file_comes_back() {
    let machine = Machine::new();
    let path = machine.path().join(agent::vault::tpm::SEALED_FILE);
    let copy = std::fs::read(&path).unwrap();
    machine.secrets().unwrap().set("key", &[1; 32]).unwrap();
    let mut vault = machine.open(&[machine.policy()]).unwrap();
    vault.destroy().unwrap();
    assert_eq!(vault.derive(b"a test", &mut [0; 32]), Err(Reason::VaultFailed));
    assert_eq!(number(machine.open(&[machine.policy()])), Code::VaultMissing.number());
    std::fs::write(&path, copy).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    assert_eq!(number(machine.open(&[machine.policy()])), Code::CounterMissing.number());
}

/// The key never leaves the TPM; openssl and tpm2-tools agree about its public half and its signatures.
#[test]
fn the_devices_key_is_the_tpms() {
    let mut machine = Machine::new();
    let key = machine.tpm.device_key(machine.path(), "device").unwrap();
    let public = key.public_key().to_pem();
    let message = b"a handshake";
    let signature = sign(&key, message);
    let file = |name: &str, bytes: &[u8]| {
        let path = machine.swtpm.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (key_file, signed) = (file("key.pem", public.as_bytes()), file("message", message));
    let signature_file = file("signature", &signature.to_x509().unwrap());
    machine.swtpm.tool(
        "openssl",
        &[
            "dgst",
            "-sha256",
            "-verify",
            &key_file,
            "-signature",
            &signature_file,
            &signed,
        ],
    );
    // The file is what the TPM wrapped: `tpm2_readpublic` says so after the TPM has loaded it.
    let bytes = std::fs::read(machine.path().join("key-device.tpm")).unwrap();
    let public_len = usize::from(u16::from_be_bytes([bytes[8], bytes[9]]));
    let (public_part, private_part) = (&bytes[10..10 + public_len], &bytes[12 + public_len..]);
    let sized = |part: &[u8]| [&(part.len() as u16).to_be_bytes()[..], part].concat();
    file("k.pub", &sized(public_part));
    file("k.priv", &sized(private_part));
    let primary = ["-C", "o", "-g", "sha256", "-G", "ecc256:aes128cfb", "-c", "p.ctx", "-a"];
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    machine
        .swtpm
        .tool("tpm2_createprimary", &[&primary[..], &[attributes]].concat());
    // Each tool leaves its objects in the TPM, which has places for three.
    machine.swtpm.tool("tpm2_flushcontext", &["-t"]);
    machine.swtpm.tool(
        "tpm2_load",
        &["-C", "p.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx"],
    );
    machine.swtpm.tool("tpm2_flushcontext", &["-t"]);
    let told = machine
        .swtpm
        .tool("tpm2_readpublic", &["-c", "k.ctx", "-f", "pem", "-o", "told.pem"]);
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("fixedtpm|fixedparent|sensitivedataorigin"), "{told}");
    assert_eq!(
        std::fs::read_to_string(machine.swtpm.path("told.pem")).unwrap().trim(),
        public.trim()
    );
    machine.restart();
    let again = machine.tpm.device_key(machine.path(), "device").unwrap();
    assert_eq!(again.public_key(), key.public_key());
}

/// Sealed storage with the TPM's counter: what is put back is found, whatever is put back.
#[test]
fn sealed_storage_counts_in_the_tpm() {
    let mut machine = Machine::new();
    let file = machine.path().join(SEALED_FILE);
    let index = format!("{NV_INDEX:#x}");
    let count = |machine: &Machine| {
        let bytes = machine.swtpm.tool("tpm2_nvread", &["-C", "o", &index]);
        u64::from_be_bytes(bytes.try_into().unwrap())
    };
    let mut secrets = machine.secrets().unwrap();
    let began = count(&machine);
    let mut moments = Vec::new();
    for change in 0..4u8 {
        secrets.set("key", &[change; 32]).unwrap();
        moments.push(std::fs::read(&file).unwrap());
    }
    drop(secrets);
    assert_eq!(count(&machine), began + 4, "tpm2_nvread sees each change");
    machine.restart();
    assert_eq!(
        machine.secrets().unwrap().get("key").unwrap().unwrap().to_vec(),
        [3; 32]
    );
    for old in &moments[..3] {
        std::fs::write(&file, old).unwrap();
        assert_eq!(number(machine.secrets()), Reason::SealedReplayed.number());
    }
    std::fs::write(&file, &moments[3]).unwrap();
    assert_eq!(
        machine.secrets().unwrap().get("key").unwrap().unwrap().to_vec(),
        [3; 32]
    );

    // The counter made anew: it does not count before its first step, and then from above what it was.
    machine.swtpm.tool("tpm2_nvundefine", &["-C", "o", &index]);
    assert_eq!(number(machine.secrets()), Reason::VaultFailed.number());
    machine.swtpm.tool(
        "tpm2_nvdefine",
        &[
            "-C",
            "o",
            "-s",
            "8",
            "-a",
            "ownerread|ownerwrite|no_da|nt=counter",
            &index,
        ],
    );
    assert_eq!(number(machine.secrets()), Reason::VaultFailed.number());
    machine.swtpm.tool("tpm2_nvincrement", &["-C", "o", &index]);
    assert_eq!(number(machine.secrets()), Reason::SealedReplayed.number());
    for old in &moments {
        std::fs::write(&file, old).unwrap();
        assert_eq!(number(machine.secrets()), Reason::SealedReplayed.number());
    }
    let mut vault = Vault::Tpm(machine.open(&[machine.policy()]).unwrap());
    let anew = Secrets::start_anew(machine.path(), &mut vault).unwrap();
    assert_eq!(anew.generation(), 6, "whoever may, begins anew; the counter goes on");
}

/// docs/agent.md: the commands of its console blocks, in order.
#[test]
fn every_command_of_the_page_runs() {
    let swtpm = SwTpm::new();
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str| {
        let command = command.replace("device:/dev/tpmrm0", &swtpm.tcti());
        let mut words = command.split_whitespace();
        let program = match words.next() {
            Some("ampoule-agent") => env!("CARGO_BIN_EXE_ampoule-agent"),
            Some(program) => program,
            None => panic!("an empty command"),
        };
        let output = std::process::Command::new(program)
            .args(words)
            .current_dir(folder.path())
            .env("TSS2_LOG", "all+none")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let page = include_str!("../../../docs/agent.md");
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let (command, number) = command.split_once(" # ").unwrap_or((command, ""));
        let (is_done, said) = run(command);
        match number.trim() {
            "" => assert!(is_done, "{command}: {said}"),
            number => assert!(!is_done && said.contains(&format!("({number} ")), "{command}: {said}"),
        }
    }
}
