//! Every limit of the profile, by name (profile section 16).
//!
//! A limit is checked on a length header, before anything is copied; exceeding one is [`Reason::Limit`] with the
//! constant's name as detail. A board may lower the values of its column, never raise the fixed ones.

use crate::{Reason, Refused};

/// Nested arrays, maps and tags in one CBOR item, at most.
pub const DEPTH_MAX: u8 = 8;
/// Nested `bstr .cbor` levels below the manifest, at most. The templates reach it and cannot exceed it.
pub const EMBED_MAX: u8 = 4;
/// Signature blocks of an envelope, at most.
pub const AUTH_BLOCKS_MAX: usize = 8;
/// Signature blocks of a trust root or revocation list, at most (profile section 13).
pub const ROOT_BLOCKS_MAX: usize = 16;
/// Signature blocks of a time file, at most (profile section 19).
pub const TIME_BLOCKS_MAX: usize = 8;
/// Branches of a try-each, at most.
pub const TRY_BRANCHES_MAX: usize = 4;
/// URIs of a manifest, at most (their ordinal is one hexadecimal digit).
pub const URIS_MAX: usize = 16;
/// The largest sequence number.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// Characters of a payload name after its `#`.
pub const PAYLOAD_NAME_CHARS: core::ops::RangeInclusive<usize> = 4..=31;
/// Chunks whose hashes stand in the manifest itself, at most (profile section 9).
pub const INLINE_CHUNKS_MAX: u64 = 16;

/// The limits that differ between devices. Fields are named after the constants of the profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of an envelope's head: tag, authentication wrapper, manifest.
    pub head_max: u32,
    /// Bytes of the manifest map.
    pub manifest_max: u32,
    /// Bytes of the severed text.
    pub text_max: u32,
    /// Bytes of one text value.
    pub text_value_max: u32,
    /// Component ids of a manifest, targets and auxiliaries together.
    pub components_max: u8,
    /// URIs of a manifest; at most [`URIS_MAX`].
    pub uris_max: u8,
    /// Bytes of a URI.
    pub uri_len_max: u32,
    /// Payloads in an envelope.
    pub payloads_max: u8,
    /// Bytes of an image, and of a payload on the way.
    pub image_size_max: u64,
    /// Bytes of a chunk, at least.
    pub chunk_min: u32,
    /// Bytes of a chunk, at most.
    pub chunk_max: u32,
    /// Bytes of all chunk tables of one file together.
    pub chunk_table_max: u32,
    /// Bytes of the key packages.
    pub keypkg_max: u32,
    /// Key packages of one file.
    pub cek_max: u32,
    /// Recipients of one key package.
    pub recipients_max: u32,
    /// Bytes of the decompressor's window.
    pub zstd_window_max: u32,
    /// Bytes of a certificate.
    pub cert_max: u32,
    /// Bytes of a trust root file.
    pub root_max: u32,
    /// Bytes of a revocation or time file; a device holds root and list in memory at once.
    pub list_max: u32,
    /// Keys of a trust root.
    pub root_keys_max: u32,
    /// Rotation steps in one update run.
    pub root_steps_max: u32,
    /// Entries of a revocation list.
    pub revoked_max: u32,
}

impl Limits {
    /// The column of microcontrollers.
    pub const MCU: Limits = Limits {
        head_max: 8192,
        manifest_max: 4096,
        text_max: 4096,
        text_value_max: 1024,
        components_max: 8,
        uris_max: 16,
        uri_len_max: 128,
        payloads_max: 8,
        image_size_max: (1 << 31) - 1,
        chunk_min: 1024,
        chunk_max: 16384,
        chunk_table_max: 16384,
        keypkg_max: 4096,
        cek_max: 8,
        recipients_max: 8,
        zstd_window_max: 65536,
        cert_max: 1024,
        root_max: 8192,
        list_max: 8192,
        root_keys_max: 16,
        root_steps_max: 32,
        revoked_max: 64,
    };

    /// The column of Linux devices and of everything on a host.
    pub const LINUX: Limits = Limits {
        head_max: 65536,
        manifest_max: 32768,
        text_max: 65536,
        text_value_max: 4096,
        components_max: 16,
        uris_max: 16,
        uri_len_max: 1024,
        payloads_max: 16,
        image_size_max: (1 << 53) - 1,
        chunk_min: 1024,
        chunk_max: 1_048_576,
        chunk_table_max: 4_194_304,
        keypkg_max: 65536,
        cek_max: 16,
        recipients_max: 1024,
        zstd_window_max: 2_097_152,
        cert_max: 4096,
        root_max: 65536,
        list_max: 65536,
        root_keys_max: 32,
        root_steps_max: 256,
        revoked_max: 1024,
    };
}

/// Refuses `value` above `max` with [`Reason::Limit`] and the limit's name.
pub fn at_most(value: u64, max: u64, name: &'static str) -> Result<(), Refused> {
    if value > max {
        return Err(Reason::Limit.about(name));
    }
    Ok(())
}
