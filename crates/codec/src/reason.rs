//! The one table of numbered reasons for which a device refuses something.
//!
//! 1xx to 8xx are the numbers of the delivery profile (AMP-SUIT-1, section 17), 900 to 999 image and boot, 1000 to 1099
//! the device's own state, 1100 to 1199 its identity and secrets. A number never changes its meaning and is carried unchanged from the device to whoever asked.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $what:literal;)*) => {
        /// Why something was refused. The discriminant is the number on the wire and in logs.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Reason {
            $(#[doc = $what] $variant = $number,)*
        }

        impl Reason {
            /// Every reason, in ascending order of its number.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// All names in the order of [`Reason::ALL`], each followed by a blank: a `match` over as many texts would cost
            /// a device twice the flash.
            const NAMES: &'static str = concat!($($name, " ",)*);

            /// What happened, in one sentence for a person.
            pub const fn what(self) -> &'static str {
                match self { $(Reason::$variant => $what,)* }
            }

            /// The reason with this number.
            pub const fn from_number(number: u16) -> Option<Reason> {
                match number { $($number => Some(Reason::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    CborMalformed = 101, "CBOR_MALFORMED", "the bytes are not the CBOR this place demands (truncated, wrong type, bad UTF-8)";
    CborNotDeterministic = 102, "CBOR_NOT_DETERMINISTIC", "indefinite length, longer than shortest, or map keys out of order";
    CborDuplicateKey = 103, "CBOR_DUPLICATE_KEY", "a map holds the same key twice";
    CborTrailing = 104, "CBOR_TRAILING", "bytes follow where the item must end";
    Limit = 105, "LIMIT", "a named limit of the profile or of the board is exceeded";
    EnvTag = 201, "ENV_TAG", "not a SUIT envelope: tag 107 is missing";
    EnvKeyMissing = 202, "ENV_KEY_MISSING", "the envelope has no authentication wrapper or no manifest";
    EnvKeyForbidden = 203, "ENV_KEY_FORBIDDEN", "the envelope has a member that the profile forbids";
    AuthNoBlock = 210, "AUTH_NO_BLOCK", "the release is not signed: digest only";
    AuthDigestAlg = 211, "AUTH_DIGEST_ALG", "the digest algorithm or its length is not allowed";
    AuthDigest = 212, "AUTH_DIGEST", "the digest does not match the manifest";
    AuthBlockType = 213, "AUTH_BLOCK_TYPE", "a signature block is not COSE_Sign1 with a detached payload";
    AuthBlockHeader = 214, "AUTH_BLOCK_HEADER", "a signature block's headers are not those of the profile";
    AuthBlockOrder = 215, "AUTH_BLOCK_ORDER", "the signature blocks are not in ascending order of their key ids";
    AuthAlgMismatch = 216, "AUTH_ALG_MISMATCH", "a signature block names another algorithm than its key has";
    AuthSignature = 217, "AUTH_SIGNATURE", "a signature of a known key is wrong";
    AuthChain = 218, "AUTH_CHAIN", "the certificate chain of a known authority is not valid";
    AuthThreshold = 219, "AUTH_THRESHOLD", "too few authorised keys signed";
    ManVersion = 301, "MAN_VERSION", "the manifest version is not 1";
    ManKeyMissing = 302, "MAN_KEY_MISSING", "the manifest lacks a required key";
    ManKeyForbidden = 303, "MAN_KEY_FORBIDDEN", "the manifest has a key that the profile forbids";
    ManComponent = 304, "MAN_COMPONENT", "a component id is bad, double or in the wrong place";
    ManValue = 305, "MAN_VALUE", "a manifest value is out of range or of the wrong type";
    SeqTemplate = 401, "SEQ_TEMPLATE", "a command sequence matches no template of the profile";
    SeqCommand = 402, "SEQ_COMMAND", "a command is not in the profile";
    SeqParameter = 403, "SEQ_PARAMETER", "a parameter is missing, extra or of the wrong type";
    SeqPolicy = 404, "SEQ_POLICY", "a reporting policy is not 15";
    SeqIndex = 405, "SEQ_INDEX", "a component index is out of range or of the wrong class";
    SeqReference = 406, "SEQ_REFERENCE", "a stage or base is unused, used twice or not what its target says";
    ArgsKey = 410, "ARGS_KEY", "a fetch argument is unknown, missing or not allowed here";
    ArgsValue = 411, "ARGS_VALUE", "a fetch argument is reserved or out of range";
    ArgsProfile = 412, "ARGS_PROFILE", "the fetch arguments are not of profile 1";
    UriScheme = 501, "URI_SCHEME", "a payload address has a scheme or name that is not allowed";
    PayloadMissing = 502, "PAYLOAD_MISSING", "a payload that the plan needs is not in the envelope";
    PayloadUnreferenced = 503, "PAYLOAD_UNREFERENCED", "a payload in the envelope is never referenced, or twice";
    PayloadOrder = 504, "PAYLOAD_ORDER", "payload addresses are not in ascending order";
    SizeMismatch = 505, "SIZE_MISMATCH", "a length differs from the signed one";
    TransportDigest = 506, "TRANSPORT_DIGEST", "the payload as transported differs from its signed digest";
    ChunkTable = 507, "CHUNK_TABLE", "the chunk table is missing, unexpected or differs from its signed digest";
    ChunkDigest = 508, "CHUNK_DIGEST", "a chunk differs from the signed chunk table";
    ImageDigest = 509, "IMAGE_DIGEST", "the written image differs from its signed digest";
    BaseMismatch = 510, "BASE_MISMATCH", "the delta was made for another base image";
    DeltaFailed = 511, "DELTA_FAILED", "the delta is malformed or of an unknown algorithm";
    TextDigest = 512, "TEXT_DIGEST", "the text differs from its signed digest";
    Decompress = 513, "DECOMPRESS", "the compressed payload is malformed or its window too large";
    FetchFailed = 514, "FETCH_FAILED", "the payload could not be fetched; try again";
    StorageFailed = 515, "STORAGE_FAILED", "the flash could not be read, erased or written; try again";
    VendorMismatch = 601, "VENDOR_MISMATCH", "the release is for another vendor";
    ClassMismatch = 602, "CLASS_MISMATCH", "the release is for another device class";
    DeviceMismatch = 603, "DEVICE_MISMATCH", "the release is for another single device";
    VersionMismatch = 604, "VERSION_MISMATCH", "the release demands another installed version";
    ComponentUnknown = 605, "COMPONENT_UNKNOWN", "the device has no such component";
    SlotNone = 606, "SLOT_NONE", "no variant of the release fits the slot to be written";
    SeqRollback = 607, "SEQ_ROLLBACK", "the release is older than the one installed";
    SeqReused = 608, "SEQ_REUSED", "another release with the same sequence number is installed";
    SeqBelowMin = 609, "SEQ_BELOW_MIN", "the release is below the minimum that the trust root demands";
    CounterRollback = 610, "COUNTER_ROLLBACK", "the image's security counter is below the device's";
    CounterMismatch = 611, "COUNTER_MISMATCH", "the image's security counter is not the one its manifest signed";
    EngineTooOld = 612, "ENGINE_TOO_OLD", "the release needs a newer update engine";
    TrialRunning = 613, "TRIAL_RUNNING", "an image is on trial; confirm it or let it revert first";
    EncInfo = 701, "ENC_INFO", "the encryption information is malformed";
    EncAlg = 702, "ENC_ALG", "the content encryption algorithm is not allowed";
    EncNoKey = 703, "ENC_NO_KEY", "no key package for this device";
    EncKeyMismatch = 704, "ENC_KEY_MISMATCH", "the key package does not unwrap to the promised key";
    EncTag = 705, "ENC_TAG", "the encrypted payload fails its authentication tag";
    RootInvalid = 801, "ROOT_INVALID", "the trust root's structure or content is not allowed";
    RootId = 802, "ROOT_ID", "the trust root is of another product line or environment";
    RootVersion = 803, "ROOT_VERSION", "the trust root is not the next version";
    RootOldThreshold = 804, "ROOT_OLD_THRESHOLD", "too few keys of the present root signed the new one";
    RootNewThreshold = 805, "ROOT_NEW_THRESHOLD", "too few of its own keys signed the trust root";
    RootKeyId = 806, "ROOT_KEY_ID", "a key id of the trust root is not the thumbprint of its key";
    RootKeyInTwoRoles = 807, "ROOT_KEY_IN_TWO_ROLES", "a key of the trust root stands in two roles";
    RootThreshold = 808, "ROOT_THRESHOLD", "a threshold of the trust root is 0 or above its number of keys";
    RootRegression = 809, "ROOT_REGRESSION", "the new trust root takes back a revocation or a minimum";
    RootSignature = 810, "ROOT_SIGNATURE", "a signature of a known root key is wrong";
    RevokeInvalid = 811, "REVOKE_INVALID", "the revocation list is not allowed";
    RootStaged = 812, "ROOT_STAGED", "a trust root waits for the bootloader; reset the device and send again";
    TimeInvalid = 813, "TIME_INVALID", "the time file is not allowed";
    ImageMagic = 901, "IMAGE_MAGIC", "there is no MCUboot image at this place";
    ImageHeader = 902, "IMAGE_HEADER", "the image header is not allowed";
    ImageTlv = 903, "IMAGE_TLV", "the image's TLV area is malformed";
    ImageTlvForbidden = 904, "IMAGE_TLV_FORBIDDEN", "an image TLV is unknown, double or in the wrong area";
    ImageHash = 905, "IMAGE_HASH", "the image differs from its own hash";
    ImageSignature = 906, "IMAGE_SIGNATURE", "an image signature of a known key is wrong";
    ImageThreshold = 907, "IMAGE_THRESHOLD", "too few keys of the image role signed the image";
    ImageSize = 908, "IMAGE_SIZE", "the image does not fit the slot";
    ImageCounter = 909, "IMAGE_COUNTER", "the image has no protected security counter";
    ImageClass = 910, "IMAGE_CLASS", "the image names no vendor and class, or others than this device's";
    ImageFlags = 911, "IMAGE_FLAGS", "the image needs something that this device does not do (encryption, compression, RAM load)";
    ImageAddress = 912, "IMAGE_ADDRESS", "the image stands at the wrong place of the slot";
    ImageDependency = 913, "IMAGE_DEPENDENCY", "the image depends on another image that is not there";
    TrailerBad = 920, "TRAILER_BAD", "the slot's trailer holds neither a set nor an unset value";
    RevertedUnconfirmed = 930, "REVERTED_UNCONFIRMED", "reverted: the new image was restarted before it confirmed itself";
    RevertedWatchdog = 931, "REVERTED_WATCHDOG", "reverted: the watchdog or the trial deadline stopped the new image";
    RevertedFault = 932, "REVERTED_FAULT", "reverted: the new image crashed";
    RevertedInvalid = 933, "REVERTED_INVALID", "reverted: the new image no longer verified";
    RevertedRequested = 934, "REVERTED_REQUESTED", "reverted: the application asked for it";
    NoRoot = 940, "NO_ROOT", "the device holds no trust root yet; provision it";
    RootNoImageRole = 941, "ROOT_NO_IMAGE_ROLE", "the trust root has no image role, so nothing could boot";
    NoBootableImage = 942, "NO_BOOTABLE_IMAGE", "no slot holds an image that may start; the device waits for recovery";
    StoreCorrupt = 943, "STORE_CORRUPT", "neither copy of the trust store is readable";
    Decommissioned = 944, "DECOMMISSIONED", "the device is decommissioned: nothing starts on it, and it takes nothing any more";
    WipeUnfinished = 945, "WIPE_UNFINISHED", "the device is erasing its secrets; restart it to go on";
    NotSelfTested = 1001, "NOT_SELF_TESTED", "the application has not passed its self-test yet; wait and ask again";
    NotOnTrial = 1002, "NOT_ON_TRIAL", "no image is on trial";
    InstallRunning = 1003, "INSTALL_RUNNING", "an installation is under way; finish or abort it first";
    NothingStaged = 1004, "NOTHING_STAGED", "no verified image is staged";
    PermanentRefused = 1005, "PERMANENT_REFUSED", "an image becomes permanent only by passing its trial";
    RevertRefused = 1006, "REVERT_REFUSED", "going back over the wire is not allowed in production";
    RawImageRefused = 1007, "RAW_IMAGE_REFUSED", "a device in production takes releases only, no raw images";
    ResetVetoed = 1008, "RESET_VETOED", "the application does not allow a reset now";
    HashUnknown = 1009, "HASH_UNKNOWN", "no slot holds an image with this hash";
    SlotPending = 1010, "SLOT_PENDING", "the slot waits to be installed and cannot be erased";
    LayoutRefused = 1011, "LAYOUT_REFUSED", "the flash layout cannot be handled";
    RootPresent = 1012, "ROOT_PRESENT", "the device has its trust root already; only a rotation changes it";
    NotARelease = 1013, "NOT_A_RELEASE", "the file is neither a release nor anything else this device takes here";
    UploadLength = 1014, "UPLOAD_LENGTH", "the upload is longer than it said or than the device can take";
    UploadOrder = 1015, "UPLOAD_ORDER", "the upload continues nothing that was started";
    StateFull = 1016, "STATE_FULL", "the device's record area is full; reset it and try again";
    StateCorrupt = 1017, "STATE_CORRUPT", "the device's records are damaged; they were started anew";
    NotSupported = 1018, "NOT_SUPPORTED", "the device does not do this";
    RequestMalformed = 1019, "REQUEST_MALFORMED", "the request is malformed";
    LifecycleBackwards = 1020, "LIFECYCLE_BACKWARDS", "the life of a device only moves forward";
    LifecycleUnknown = 1021, "LIFECYCLE_UNKNOWN", "there is no such state of a device's life";
    LifecycleOnWire = 1022, "LIFECYCLE_ON_WIRE", "from its deployment on, a device takes steps of its life from its application only, not over the wire";
    LifecycleStaged = 1023, "LIFECYCLE_STAGED", "another lifecycle request waits for the bootloader; reset the device and ask again";
    NotInDevelopment = 1024, "NOT_IN_DEVELOPMENT", "the device's trust root is not one for development: there is nothing to leave";
    ProductionOnly = 1025, "PRODUCTION_ONLY", "the device left development for good and takes production roots only";
    SealedReplayed = 1101, "SEALED_REPLAYED", "the sealed storage is not the one that its counter belongs to: it was put back, or the counter was";
    SealedDamaged = 1102, "SEALED_DAMAGED", "the sealed storage is damaged, or was sealed by another device";
    VaultFailed = 1103, "VAULT_FAILED", "the device's key vault does not give its secret";
    EntropyAbsent = 1104, "ENTROPY_ABSENT", "the device's entropy source does not answer: no key is made";
    EntropyUnhealthy = 1105, "ENTROPY_UNHEALTHY", "the device's entropy source failed its health tests: no key is made";
    CertificateMalformed = 1108, "CERTIFICATE_FORM", "this is not one certificate in DER";
}

impl Reason {
    /// The stable name, such as `SEQ_ROLLBACK`.
    pub fn name(self) -> &'static str {
        let mut named = Self::ALL.iter().zip(Self::NAMES.split(' '));
        named.find(|(reason, _)| **reason == self).map_or("", |(_, name)| name)
    }

    /// The stable number, as it stands on the wire and in logs.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// A refusal without further detail.
    pub const fn refused(self) -> Refused {
        self.about("")
    }

    /// A refusal that names what it is about, such as the exceeded limit.
    #[cfg_attr(
        target_os = "none",
        allow(unused_variables, reason = "a device keeps the number only")
    )]
    pub const fn about(self, detail: &'static str) -> Refused {
        Refused {
            reason: self,
            #[cfg(not(target_os = "none"))]
            detail,
        }
    }

    /// Whether the same file may succeed later on the same device (profile section 17: all others are permanent).
    pub const fn is_retriable(self) -> bool {
        matches!(
            self,
            Reason::PayloadMissing
                | Reason::ChunkDigest
                | Reason::FetchFailed
                | Reason::StorageFailed
                | Reason::TrialRunning
                | Reason::EncNoKey
                | Reason::RootStaged
                | Reason::NotSelfTested
                | Reason::InstallRunning
                | Reason::StateFull
                | Reason::WipeUnfinished
                | Reason::LifecycleStaged
        )
    }
}

/// A refusal: its numbered reason and, where one helps, the name of what it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The numbered reason.
    pub reason: Reason,
    /// The limit, key or field concerned; empty where the reason says it all. For people at a desk: a device sends the
    /// number, and a refusal of two bytes instead of twelve makes it an eighth smaller.
    #[cfg(not(target_os = "none"))]
    pub detail: &'static str,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        reason.refused()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.reason.number(),
            self.reason.name(),
            self.reason.what()
        )?;
        #[cfg(not(target_os = "none"))]
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl core::error::Error for Refused {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique_and_reversible() {
        let numbers: BTreeSet<_> = Reason::ALL.iter().map(|r| r.number()).collect();
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(numbers.len(), Reason::ALL.len());
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(*reason));
        }
    }
}
