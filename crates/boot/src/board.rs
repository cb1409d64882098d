//! What the board file says, as constants (written by `build.rs`).

use codec::limits::Limits;
use codec::record::STORE_ALIGN_BYTES;
use codec::smp::response::Parameters;
use engine::boot::Board;
use engine::layout::{Area, Layout};
use trust::alg::Algorithms;

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

/// The profile's limits for microcontrollers, lowered by the board's.
pub const LIMITS: Limits = Limits {
    head_max: HEAD_MAX as u32,
    manifest_max: MANIFEST_MAX,
    chunk_max: CHUNK_MAX as u32,
    root_max: ROOT_MAX as u32,
    list_max: LIST_MAX as u32,
    uris_max: URIS_MAX,
    components_max: COMPONENTS_MAX,
    ..Limits::MCU
};

/// Bytes of a trust root and the revocation list that goes with it, as they stand in the trust store.
pub const TRUST_BYTES: usize = ROOT_MAX.next_multiple_of(STORE_ALIGN_BYTES as usize) + LIST_MAX;

/// Largest messages, as SMP clients ask for them.
pub const SMP_PARAMETERS: Parameters = Parameters {
    buf_size: SMP_BUFFER as u32,
    buf_count: SMP_BUFFERS,
};

/// What bootloader and application are compiled for, with the algorithms that this program implements.
pub const fn with(algorithms: Algorithms<'static>) -> Board<'static> {
    Board {
        layout: &LAYOUT,
        vendor: &VENDOR_ID,
        class: &CLASS_ID,
        algorithms,
        limits: &LIMITS,
        flash_base: FLASH_START,
    }
}
