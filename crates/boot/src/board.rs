//! What the board file says, as constants (written by `build.rs`).

use engine::layout::{Area, Layout};

include!(concat!(env!("OUT_DIR"), "/board.rs"));

/// Which part of the flash holds what.
pub const LAYOUT: Layout = Layout {
    trust: [TRUST_STORE_A, TRUST_STORE_B],
    mailbox: MAILBOX,
    boot_log: [BOOT_LOG_A, BOOT_LOG_B],
    journal: [JOURNAL_A, JOURNAL_B],
    head: HEAD,
    table: CHUNK_TABLE,
    sealed: [SEALED_A, SEALED_B],
    sealed_counter: SEALED_COUNTER,
    device_key: DEVICE_KEY,
    entropy: ENTROPY_SEED,
    boot_update: BOOTLOADER_UPDATE,
    primary: PRIMARY,
    secondary: SECONDARY,
    max_sectors: MAX_SECTORS,
};
