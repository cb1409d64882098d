//! The one table of numbered errors of the host side: 20xx keys, 21xx image and release tooling, 22xx the person's hand
//! (arguments, files, terminal, serial port), 23xx certificates and the CA, 24xx the agent on a device.
//!
//! Numbers below 2000 are a device's ([`codec::Reason`]) and pass through unchanged. Every error says what happened and
//! then what to do; a number never changes its meaning.

use core::fmt;

use codec::{Reason, Refused};

macro_rules! codes {
    ($($variant:ident = $number:literal, $name:literal, $advice:literal;)*) => {
        /// What kind of failure it was. The discriminant is the number that a person and a script see.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $advice] $variant = $number,)*
        }

        impl Code {
            /// Every code, in ascending order of its number.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The stable name, such as `KEY_EXISTS`.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// What to do about it, in one sentence for a person.
            pub const fn advice(self) -> &'static str {
                match self { $(Code::$variant => $advice,)* }
            }
        }
    };
}

codes! {
    KeyFileMissing = 2001, "KEY_FILE_MISSING", "Check the path, or make a key with `ampoule key new`.";
    KeyFileRead = 2002, "KEY_FILE_READ", "Check that you may read the file.";
    KeyExists = 2003, "KEY_EXISTS", "Choose another name: a key file is never overwritten.";
    KeyFileWrite = 2004, "KEY_FILE_WRITE", "Check that the directory exists, that you may write to it and that the disk is not full.";
    NotAKey = 2005, "NOT_A_KEY", "Give a PKCS#8 private key in PEM form, as `ampoule key new`, `imgtool keygen` or `openssl genpkey` write it.";
    WrongPassphrase = 2006, "WRONG_PASSPHRASE", "Try the passphrase again; if it is surely right, the file is damaged: use its backup.";
    PassphraseNeeded = 2007, "PASSPHRASE_NEEDED", "Give --passphrase-file FILE or --passphrase-env NAME, or run this at a terminal to be asked.";
    PassphraseTooShort = 2008, "PASSPHRASE_TOO_SHORT", "Choose a longer passphrase, for example four random words.";
    KeyUnencrypted = 2009, "KEY_UNENCRYPTED", "Encrypt it (`openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`), or make a new key with `ampoule key new`.";
    KeyFileMode = 2010, "KEY_FILE_MODE", "Take the rights of others away with `chmod 600 FILE`.";
    KeyAlgorithm = 2011, "KEY_ALGORITHM", "Use a P-256 or Ed25519 key, or one of those that `ampoule key new --help` lists.";
    KeyPublicOnly = 2012, "KEY_PUBLIC_ONLY", "Give the private key file: signing needs it.";
    KeySample = 2013, "KEY_SAMPLE", "Make a key of your own with `ampoule key new`: everybody has the private half of this one.";
    KeyWeak = 2014, "KEY_WEAK", "Make a new key with `ampoule key new`, and find out where this one came from.";
    SignFailed = 2015, "SIGN_FAILED", "Check the signer (token, service) and try again.";
    NoEntropy = 2016, "NO_ENTROPY", "The operating system gave no random bytes; try again, then check the machine.";
    KdfLimit = 2017, "KDF_LIMIT", "The file asks for more work than is sensible; encrypt the key anew with `openssl pkcs8 -topk8`.";
    SelfCheckFailed = 2018, "SELF_CHECK_FAILED", "The signer's signature does not verify under its own public key; do not use this key before you know why.";
    SameKeyTwice = 2019, "SAME_KEY_TWICE", "Give every signing key once: thresholds count distinct keys.";
    NotAPublicKey = 2020, "NOT_A_PUBLIC_KEY", "Give a public key in PEM form (`ampoule key show --pem KEY`), or a private key file.";

    KeyHalvesDiffer = 2021, "KEY_HALVES_DIFFER", "The file is damaged, or somebody changed it: use its backup.";
    TokenKeyExposed = 2022, "TOKEN_KEY_EXPOSED", "Delete that key with the vendor's tool and find out why (a setting, a patched library); use a token that keeps its keys.";

    Pkcs11Uri = 2030, "PKCS11_URI", "Write it as pkcs11:token=NAME;object=NAME (RFC 7512); `ampoule key list` shows what there is.";
    PinOnCommandLine = 2031, "PIN_ON_COMMAND_LINE", "Change the PIN, since others may have seen it; then give --pin-file FILE, --pin-env NAME or pin-source=file:FILE in the URI.";
    Pkcs11Module = 2032, "PKCS11_MODULE", "Give the vendor's PKCS#11 library with --pkcs11-module FILE or the environment variable AMPOULE_PKCS11_MODULE; docs/hardware-keys.md names it for common tokens.";
    TokenMissing = 2033, "TOKEN_MISSING", "Plug the token in and check its name with `ampoule key list`.";
    TokenAmbiguous = 2034, "TOKEN_AMBIGUOUS", "Add what tells them apart, such as serial=NUMBER, to the URI; `ampoule key list` shows it.";
    TokenRemoved = 2035, "TOKEN_REMOVED", "Nothing was signed or written; plug the token in and run the same command again.";
    PinNeeded = 2036, "PIN_NEEDED", "Give --pin-file FILE, --pin-env NAME or pin-source=file:FILE in the URI, or run this at a terminal to be asked.";
    PinWrong = 2037, "PIN_WRONG", "Check the PIN before you try again: after a few wrong ones the token locks.";
    PinLocked = 2038, "PIN_LOCKED", "Unlock the token with its security officer's PIN and the vendor's tool; the keys are still in it.";
    PinSource = 2039, "PIN_SOURCE", "Check the file or environment variable that is named; the first line is the PIN.";
    TokenKeyMissing = 2040, "TOKEN_KEY_MISSING", "Check object and id with `ampoule key list`, or make the key with `ampoule key new URI`.";
    TokenKeyTwice = 2041, "TOKEN_KEY_TWICE", "Add the id that tells them apart to the URI (`ampoule key list` shows it), or delete one with the vendor's tool.";
    TokenMechanism = 2042, "TOKEN_MECHANISM", "Use a key type that the token has: P-256 is in nearly all of them (--type p256).";
    TokenKeyExists = 2043, "TOKEN_KEY_EXISTS", "Choose another object name or id: a key in a token is never replaced.";
    TokenFailed = 2044, "TOKEN_FAILED", "The code is the token's own: look it up in PKCS#11 or the vendor's manual, then try again.";
    TokenPublicMissing = 2045, "TOKEN_PUBLIC_MISSING", "Put the public key or a certificate beside the private key, under the same id, with the vendor's tool.";
    TokenKeyUse = 2046, "TOKEN_KEY_USE", "Use a key made for signing that wants its PIN once per session; `ampoule key new URI` makes one.";
    PinForOneToken = 2047, "PIN_FOR_ONE_TOKEN", "Put pin-source=file:FILE into each token's URI instead, so that no PIN is tried on the wrong token.";
    SignatureMalformed = 2048, "SIGNATURE_MALFORMED", "Give the signature as raw bytes, DER, hex or base64.";
    SignatureForeign = 2049, "SIGNATURE_FOREIGN", "Check that the file that was signed is the one written for this object and this key, and that the public key is the signer's.";
    JournalOpen = 2050, "JOURNAL_OPEN", "Check that the folder exists and that you may read and write the signing journal; --journal FILE or AMPOULE_JOURNAL names another.";
    JournalAppend = 2051, "JOURNAL_APPEND", "The signature was not released. Make room on the disk (or repair it), then sign again; the journal itself is unharmed.";
    JournalDamaged = 2052, "JOURNAL_DAMAGED", "Somebody or something changed the journal: keep the file as evidence, compare it with its backup, and find out who; see docs/journal.md.";
    JournalGap = 2053, "JOURNAL_GAP", "Entries were removed: find them in a backup or in an older segment, and find out who removed them; see docs/journal.md.";
    JournalOrder = 2054, "JOURNAL_ORDER", "Entries were moved, repeated or taken from another journal: keep the files as evidence, and check that all segments were given, the oldest first.";
    JournalHead = 2055, "JOURNAL_HEAD", "Entries were cut off at the end, or this is another journal than the one whose head was noted: restore it from a backup; see docs/journal.md.";
    JournalEnded = 2056, "JOURNAL_ENDED", "A rotation was interrupted: finish it with `ampoule journal rotate`; or give the file that goes on.";
    JournalFull = 2057, "JOURNAL_FULL", "Begin the next file with `ampoule journal rotate`.";
    JournalEntry = 2058, "JOURNAL_ENTRY", "Shorten --reason and --operator.";
    JournalHeadFile = 2059, "JOURNAL_HEAD_FILE", "Check the medium and the file that --head-file names; it holds HASH@NUMBER and only grows.";
    JournalRead = 2060, "JOURNAL_READ", "Check the disk.";
    ServicePolicy = 2061, "SERVICE_POLICY", "Correct the policy at the place named; docs/sign-service.md describes every field.";
    ServiceSocket = 2062, "SERVICE_SOCKET", "Check the path of the socket and its folder; a socket that is served already is left alone.";
    ServiceUnreachable = 2063, "SERVICE_UNREACHABLE", "Check that the service runs, and that you may write to its socket.";
    ServiceProtocol = 2064, "SERVICE_PROTOCOL", "Use the same version of `ampoule` on both sides; docs/sign-service.md names the limits.";
    ServiceForbidden = 2065, "SERVICE_FORBIDDEN", "Ask whoever keeps the service's policy, or sign this with people.";
    ServiceRate = 2066, "SERVICE_RATE", "Wait, and find out why so much is signed; the policy of the service sets the rate.";
    ServiceProduction = 2067, "SERVICE_PRODUCTION", "Production is signed by the threshold of people, each with their own key; a service never does.";
    ServiceBusy = 2068, "SERVICE_BUSY", "Try again in a few seconds.";
    ServiceContent = 2069, "SERVICE_CONTENT", "The request was made wrong or changed on its way: find out by whom.";

    BackupMalformed = 2070, "BACKUP_MALFORMED", "Use another copy of the backup; every share's sheet carries one.";
    ShareMistyped = 2071, "SHARE_MISTYPED", "Compare the place named with the sheet and type it again.";
    ShareOfOtherBackup = 2072, "SHARE_OF_OTHER_BACKUP", "Take the shares that carry this backup's id.";
    ShareTwice = 2073, "SHARE_TWICE", "Take shares with different numbers.";
    SharesTooFew = 2074, "SHARES_TOO_FEW", "Bring as many shares as the backup's threshold; fewer say nothing about the key.";
    ShareWrong = 2075, "SHARE_WRONG", "Leave that share out and find out who changed it; use another one.";
    BackupParameters = 2076, "BACKUP_PARAMETERS", "Choose a threshold of at least 2 and at most as many as there are shares, and at most 16 shares.";
    DrillFailed = 2077, "DRILL_FAILED", "The backup does not give the key back: make a new backup while the key still exists.";
    CeremonyToken = 2078, "CEREMONY_TOKEN", "Put the token of the record into its place and start the same command again; if it is lost, write that down (`incident: TEXT`) and begin a new ceremony.";
    TokenCertificate = 2079, "TOKEN_CERTIFICATE", "Give the certificate of this very key; one that stands there already goes with --replace.";
    CeremonyScript = 2080, "CEREMONY_SCRIPT", "Correct the script at the place named; docs/ceremony.md describes every field.";
    CeremonyScriptChanged = 2081, "CEREMONY_SCRIPT_CHANGED", "Go on with the script that the record names, or start a new ceremony with a new record.";
    CeremonyRecord = 2082, "CEREMONY_RECORD", "The record is not what was written: use another copy, and find out who changed this one.";
    CeremonyQuorum = 2083, "CEREMONY_QUORUM", "Wait until enough participants are present, or plan another day.";
    CeremonyAnswer = 2084, "CEREMONY_ANSWER", "Start the same command again: the ceremony goes on at this step.";
    CeremonyCheck = 2085, "CEREMONY_CHECK", "Mend what the check found, then start the same command again: the ceremony goes on at this step.";
    CeremonyAnswers = 2086, "CEREMONY_ANSWERS", "Answers from a file are for rehearsals; they must fit the questions in order.";
    CeremonyUncertain = 2087, "CEREMONY_UNCERTAIN", "Look at what the interrupted step left, set it aside by hand, and start the same command again.";
    CeremonyIncomplete = 2088, "CEREMONY_INCOMPLETE", "Finish the ceremony with `ampoule ceremony run`; what is missing is named.";
    CeremonyFile = 2089, "CEREMONY_FILE", "The file is not the one of the ceremony: use another copy.";
    LmsStateMissing = 2090, "LMS_STATE_MISSING", "The key signs only with its own state beside it (KEY.state); where that is lost for good, enrol another key: an old copy must never sign.";
    LmsStateDamaged = 2091, "LMS_STATE_DAMAGED", "Do not repair it and do not take an old copy: enrol another key and retire this one.";
    LmsCounterMissing = 2092, "LMS_COUNTER_MISSING", "Mount the medium with the counter that was named when the key was made; without it nothing is signed.";
    LmsCounterDamaged = 2093, "LMS_COUNTER_DAMAGED", "Check the medium; if the counter cannot be had whole again, enrol another key and retire this one.";
    LmsStateOld = 2094, "LMS_STATE_OLD", "Use the state that signed last; if there is none, enrol another key: signing with this one could use an index twice and give the key away.";
    LmsCounterBehind = 2095, "LMS_COUNTER_BEHIND", "Find the counter that belongs to this key; if it was put back from a copy, enrol another key and retire this one.";
    LmsForeign = 2096, "LMS_FOREIGN", "Put the state and the counter of this very key in their places.";
    LmsExhausted = 2097, "LMS_EXHAUSTED", "Enrol another key; this one can still be verified, and never signs again.";
    LmsBusy = 2098, "LMS_BUSY", "Let the other signer end, then try again.";
    LmsStateWrite = 2099, "LMS_STATE_WRITE", "Check that the disk is not full and that you may write there; no signature was made, and an index may be lost.";
    LmsTpm = 2100, "LMS_TPM", "Check that tpm2-tools is installed, that the TPM is there (`tpm2_getcap handles-nv-index`) and that you may use it (group tss); no signature was made, and an index may be lost.";

    ImageOption = 2101, "IMAGE_OPTION", "Change the option; `ampoule image sign --help` explains each.";
    ImageTooLarge = 2102, "IMAGE_TOO_LARGE", "Make the firmware smaller, or check --slot-size, --align and --max-align against the board.";
    ImageHeaderSpace = 2103, "IMAGE_HEADER_SPACE", "Add --pad-header, or link the firmware so that it leaves --header-size zero bytes at its start.";
    HexMalformed = 2104, "HEX_MALFORMED", "Check that the file is Intel HEX and complete; a binary must not be called .hex.";
    HexAddress = 2105, "HEX_ADDRESS", "Give --hex-addr ADDRESS: the input is binary and Intel HEX needs to know where it starts.";
    HexTooLarge = 2106, "HEX_TOO_LARGE", "Sign the part of the file that belongs to one slot; it spans more memory than an image can.";
    ImageAlreadySigned = 2107, "IMAGE_ALREADY_SIGNED", "Each key signs an image once; give another key.";
    ImageNotSigned = 2108, "IMAGE_NOT_SIGNED", "Sign it with `ampoule image sign -k KEY`, or check that you gave the right key.";
    RecipeMalformed = 2120, "RECIPE_MALFORMED", "Correct the recipe at the place named; docs/recipe.md describes every field.";
    ReleaseInput = 2121, "RELEASE_INPUT", "Check the file that the recipe names.";
    NotAnAmpouleFile = 2122, "NOT_AN_AMPOULE_FILE", "Give an envelope, trust root, image or one of the other files that `ampoule release inspect --help` lists.";
    BoardMalformed = 2123, "BOARD_MALFORMED", "Correct the board file at the place named; docs/board-file.md describes every field.";
    RootSigners = 2124, "ROOT_SIGNERS", "Give as many private root keys as the threshold demands, and thresholds that the keys can reach.";
    ProductionKey = 2125, "PRODUCTION_KEY", "Make production keys with `ampoule key new`, which encrypts them, or keep them in hardware; see the overriding option in --help.";
    RootUnreachable = 2130, "ROOT_UNREACHABLE", "Leave every role at least as many keys, neither removed nor revoked, as its threshold demands; a threshold is at least 1.";
    RootUnsignable = 2131, "ROOT_UNSIGNABLE", "Go in smaller steps: keep more of the previous root's root keys, or lower the threshold in a root before this one.";
    BoardAlgorithm = 2132, "BOARD_ALGORITHM", "Use a key of an algorithm that the board file lists under [signatures]: its devices would ignore any other.";
    RootEdit = 2133, "ROOT_EDIT", "Correct the change that is named; `ampoule trust show` lists roles and keys.";
    RootExpired = 2134, "ROOT_EXPIRED", "Choose a later day, or leave --expires away: a root that expires in the field locks its devices out.";
    CopiesDiffer = 2135, "COPIES_DIFFER", "Join copies of one and the same proposal; compare their digests with `ampoule trust verify`.";
    SignerWithoutRole = 2136, "SIGNER_WITHOUT_ROLE", "Sign with a key that the root names for this; `ampoule trust show` lists them.";
    SignerRevoked = 2137, "SIGNER_REVOKED", "Sign with another key: devices count no signature of a revoked one.";
    NotConfirmed = 2138, "NOT_CONFIRMED", "Read the statement above and confirm it at a terminal, or approve exactly this digest with --approve DIGEST.";
    YesInProduction = 2139, "YES_IN_PRODUCTION", "Leave --yes away and confirm at the terminal, or give --approve DIGEST: --yes is for development keys only.";
    ApprovalDiffers = 2140, "APPROVAL_DIFFERS", "Find out why this is another file than the one that was approved, before anybody signs it.";
    NamesMalformed = 2141, "NAMES_MALFORMED", "Correct the names file; docs/trust-root.md shows one.";
    ChainBroken = 2142, "CHAIN_BROKEN", "Put the chain together anew with `ampoule trust chain`, from roots with no version missing.";

    FileMissing = 2201, "FILE_MISSING", "Check the path.";
    FileRead = 2202, "FILE_READ", "Check that you may read the file.";
    FileWrite = 2203, "FILE_WRITE", "Check that the directory exists, that you may write to it and that the disk is not full.";
    FileTooLarge = 2204, "FILE_TOO_LARGE", "Check that you gave the right file.";
    PassphraseFile = 2205, "PASSPHRASE_FILE", "Check the file named by --passphrase-file; its first line is the passphrase.";
    PassphraseEnv = 2206, "PASSPHRASE_ENV", "Set the environment variable named by --passphrase-env.";
    PassphraseDiffers = 2207, "PASSPHRASE_DIFFERS", "Start again and type the same passphrase twice.";
    Terminal = 2208, "TERMINAL", "Use --passphrase-file FILE or --passphrase-env NAME where there is no terminal.";
    Argument = 2209, "ARGUMENT", "Change the argument; --help explains each.";
    PortOpen = 2210, "PORT_OPEN", "Check the name of the port, that the board is connected and that no other program uses it.";
    PortLost = 2211, "PORT_LOST", "Check cable and power, then run the same command again: an upload continues where it stopped.";
    DeviceSilent = 2212, "DEVICE_SILENT", "Check that the board runs, that this is its update port and that the baud rate is right.";
    DeviceAnswer = 2213, "DEVICE_ANSWER", "The other end does not speak this protocol as expected; check the port and the firmware's version.";
    DeviceRefused = 2214, "DEVICE_REFUSED", "The number and reason are the device's own; see docs/errors.md.";
    FileExists = 2215, "FILE_EXISTS", "Choose another name, or remove the old file first.";

    CaOpen = 2301, "CA_OPEN", "Check the path and its rights, or found a CA with `ampoule ca init`.";
    CaWrite = 2302, "CA_WRITE", "Nothing was handed out. Check that the disk is not full and that you may write the database and its folder, then run the same command again: it goes on where it stopped.";
    CaBusy = 2303, "CA_BUSY", "Another program holds the database and does not move on; let it end, then try again.";
    CaForeign = 2304, "CA_FOREIGN", "Give a database that `ampoule ca init` made, with the version of `ampoule` that it needs or a newer one.";
    CaExists = 2305, "CA_EXISTS", "Choose another file, or give what the CA was founded with: a founded CA does not change.";
    CaProfile = 2306, "CA_PROFILE", "Correct the profiles at the place named; docs/ca.md describes every field.";
    CaIdentity = 2307, "CA_IDENTITY", "Name the subject as its profile demands; docs/ca.md shows the forms.";
    CaRequest = 2308, "CA_REQUEST", "Give a certification request (PKCS#10) in PEM or DER, of at most 16 KiB.";
    CaPossession = 2309, "CA_POSSESSION", "The requester does not have the private key, or the request was changed on its way: make a new request with the key itself.";
    CaRequestKey = 2310, "CA_REQUEST_KEY", "Make the request with a key of an algorithm that the profile names: P-256 where it names no other.";
    CaKeyBound = 2311, "CA_KEY_BOUND", "Make a new key: a key belongs to one identity and, on a device, to one kind of certificate.";
    CaIssuedAlready = 2312, "CA_ISSUED_ALREADY", "Find out why a second one is asked for; revoke the first (`ampoule ca revoke`) if the device lost its key.";
    CaIssuerKey = 2313, "CA_ISSUER_KEY", "Give the key of the issuing CA that the profile names; `ampoule ca list` shows their key ids.";
    CaIssuer = 2314, "CA_ISSUER", "Renew the issuing CA's certificate with the root (`ampoule ca renew`), or use its successor.";
    CaUnknown = 2315, "CA_UNKNOWN", "`ampoule ca list` shows what was issued, with the serial numbers.";
    CaRenewal = 2316, "CA_RENEWAL", "Ask for what the profile lets a renewal have; docs/ca.md describes it.";
    CaRevokedAlready = 2317, "CA_REVOKED_ALREADY", "Nothing is to be done: it stands on every CRL from then on.";
    CaReason = 2318, "CA_REASON", "Give one of the reasons that `ampoule ca revoke --help` lists.";
    CertificateMalformed = 2330, "CERTIFICATE_MALFORMED", "Give an X.509 certificate or CRL in PEM or DER, as it was issued.";
    CertificateChain = 2331, "CERTIFICATE_CHAIN", "Give the certificates between this one and an anchor, and the anchors of the right CA; find out who issued it.";
    CertificateExpired = 2332, "CERTIFICATE_EXPIRED", "Renew the certificate; check the clock.";
    CertificateEarly = 2333, "CERTIFICATE_EARLY", "Check the clock: the certificate is not valid yet.";
    CertificateRevoked = 2334, "CERTIFICATE_REVOKED", "Do not talk to its holder; find out why it was revoked.";
    CertificatePurpose = 2335, "CERTIFICATE_PURPOSE", "Use a certificate of the profile that is meant for this.";
    CertificateStatus = 2336, "CERTIFICATE_STATUS", "Fetch the newest CRL of every CA in the chain: without it nobody knows whether the certificate was revoked.";
    CertificateName = 2337, "CERTIFICATE_NAME", "The certificate names somebody else, or in no form that is known here.";

    VaultMissing = 2401, "VAULT_MISSING", "Make the vault with `ampoule-agent vault init`, once in the life of the device.";
    VaultExists = 2402, "VAULT_EXISTS", "Keep the vault that is there; `ampoule-agent vault destroy` gives it up, with everything sealed under it.";
    VaultDamaged = 2403, "VAULT_DAMAGED", "The file is not what was written, or others may read it (`chmod 600 FILE`); the vault of another device does not help.";
    VaultStorage = 2404, "VAULT_STORAGE", "Check that the folder exists, that you may write it, that the disk is not full and that no other agent uses it.";
    TpmSilent = 2405, "TPM_SILENT", "Check that the machine has a TPM 2.0, that `tcti` names it and that you may use it; an agent built without the feature `tpm` uses none.";
    TpmRefused = 2406, "TPM_REFUSED", "The code is the TPM's own: look it up with `tpm2_rc_decode`, then try again.";
    TpmForeign = 2407, "TPM_FOREIGN", "This was made by another TPM, or this one was cleared: make the vault anew and enrol the device again.";
    PolicyMalformed = 2408, "POLICY_MALFORMED", "Give a signed policy as docs/agent.md describes it.";
    PolicyForeign = 2409, "POLICY_FOREIGN", "Have the policy signed by the authority that the vault was made with; find out who signed this one.";
    PolicyUnmet = 2410, "POLICY_UNMET", "Have a policy signed for what was measured at this start, or find out why something else was started.";
    CounterMissing = 2411, "COUNTER_MISSING", "Somebody removed the vault's part or counter from the TPM: make the vault anew and enrol the device again.";
}

impl Code {
    /// The stable number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// An error of this kind. `what` says what happened, as a sentence without its full stop.
    pub fn error(self, what: impl Into<String>) -> Error {
        Error {
            number: self.number(),
            name: self.name(),
            what: what.into(),
            advice: self.advice().into(),
        }
    }
}

/// A failure as a person and a script get it: a number, what happened, what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// 2000 and up: [`Code`]; below: a device's [`Reason`].
    pub number: u16,
    /// The stable name of the number.
    pub name: &'static str,
    /// What happened, one sentence without its full stop.
    pub what: String,
    /// What to do, one sentence with its full stop; may be empty where the reason says it all.
    pub advice: String,
}

impl Error {
    /// The same error with better advice than the table's.
    pub fn advise(mut self, advice: impl Into<String>) -> Error {
        self.advice = advice.into();
        self
    }

    /// The same error, with the one of several things that it is about.
    pub fn about(mut self, subject: &str) -> Error {
        self.what = format!("{subject}: {}", self.what);
        self
    }

    /// A device's reason met on the host, such as an image that the strict reader refuses. `subject` names what was
    /// looked at ("app.bin").
    pub fn refused(subject: &str, refused: impl Into<Refused>) -> Error {
        let Refused { reason, detail } = refused.into();
        let about = if detail.is_empty() {
            String::new()
        } else {
            format!(" ({detail})")
        };
        Error {
            number: reason.number(),
            name: reason.name(),
            what: format!("{subject}: {}{about}", reason.what()),
            advice: String::new(),
        }
    }

    /// Whether this is the host error `code`.
    pub fn is(&self, code: Code) -> bool {
        self.number == code.number()
    }

    /// The device's reason, where this is one.
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_number(self.number)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. ", self.what)?;
        if !self.advice.is_empty() {
            write!(f, "{} ", self.advice)?;
        }
        write!(f, "({} {})", self.number, self.name)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique_ascending_and_apart_from_the_devices() {
        let numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert!(
            numbers
                .iter()
                .all(|n| (2000..2500).contains(n) && Reason::from_number(*n).is_none())
        );
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), numbers.len());
    }

    #[test]
    fn every_advice_is_a_sentence() {
        for code in Code::ALL {
            assert!(code.advice().ends_with('.'), "{}", code.name());
        }
    }

    #[test]
    fn an_error_says_what_happened_then_what_to_do_then_its_number() {
        let text = Code::KeyExists.error("a.pem exists already").to_string();
        assert_eq!(
            text,
            "a.pem exists already. Choose another name: a key file is never overwritten. (2003 KEY_EXISTS)"
        );
        let refused = Error::refused("app.bin", Reason::ImageHash);
        assert_eq!((refused.number, refused.reason()), (905, Some(Reason::ImageHash)));
    }
}
