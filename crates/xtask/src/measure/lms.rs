//! What a post-quantum signature costs the board.

use super::bench::Prepared;
use super::{Figure, Sizes, bootloader, figure};
use anyhow::Result;
use sim::fixture::{Authority, Scheme};

/// Verifying LMS, alone (in a bootloader that verifies published vectors first) and as the second signature of an image.
///
/// The flash is the difference of two bootloaders, with and without: everything that LMS adds, without the SHA-256 that is
/// there in any case. Stack is counted from the call.
pub(super) fn lms() -> Result<Vec<Figure>> {
    let measured = bootloader(&["measure-lms"]).run()?.bootloader;
    let board = Prepared::of(Authority::hybrid(Scheme::P256))?;
    let whole = board.start_counted(&bootloader(&["measure", "lms"]).run()?.bootloader)?;
    let w4 = board.printed_cost(&measured, "measure: lms w4 h10 ")?;
    let w8 = board.printed_cost(&measured, "measure: lms w8 h5 ")?;
    let with = Sizes::of(&bootloader(&["lms"]).run()?)?.flash_bytes;
    let without = Sizes::of(&bootloader(&[]).run()?)?.flash_bytes;
    Ok(vec![
        figure("lms_verify_w4_h10_instructions", w4.instructions).at_most(4_000_000),
        figure("lms_verify_w8_h5_instructions", w8.instructions),
        figure("lms_verify_flash_bytes", with.saturating_sub(without)).at_most(4096),
        figure("lms_verify_stack_bytes", w4.stack_bytes.max(w8.stack_bytes)).at_most(2048),
        figure("boot_hybrid_256kib_instructions", whole.instructions),
        figure("boot_hybrid_stack_bytes", whole.stack_bytes).at_most(6 << 10),
    ])
}
