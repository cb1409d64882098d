//! What a device says of itself: what runs, how far an update is, and that *and why* the last one did not stay.
//!
//! A report is a deterministic CBOR map; unknown keys are to be ignored by readers:
//!
//! | key | value |
//! |---|---|
//! | 1 | `"amp-report-1"` |
//! | 2 | signature state: 0 = unsigned, because the device has no identity yet |
//! | 3 | running image: `[hash TLV, major, minor, revision, build]` |
//! | 4 | 0 nothing, 1 receiving, 2 staged, 3 on trial |
//! | 5 | stored security counter |
//! | 6 | version of the trust root |
//! | 7 | confirmed releases: `[+ [sequence, manifest digest]]` |
//! | 8 | release under way: `[sequence, manifest digest]` |
//! | 9 | the last release that did not stay: `[sequence, manifest digest, 0 given up / 1 reverted, reason number]` |
//! | 10 | last note of an image: `[kind, reason number, first 8 bytes of the hash TLV, major, minor, revision, build]` |
//! | 11 | trust: `[0 production / 1 development, number of the list (0: none), time floor, 1 = the running image is pinned]` |
//! | 12 | proposals that wait for the bootloader: `[+ 1 root / 2 list / 3 time / 4 lifecycle request]` |
//! | 13 | last note of a proposal: `[7 taken / 8 refused, reason number, what it is as in 12, what is stored now]` |

use crate::device::Device;
use crate::flash::Flash;
use crate::journal::Progress;
use codec::cbor::{self, Writer};
use codec::record::{MailKind, ReleaseId};
use codec::roots::Environment;
use codec::smp::UpdateState;
use codec::{Reason, Refused};

/// Bytes of the longest report.
pub const REPORT_BYTES_MAX: usize = 384;

/// How far an update is.
pub fn update_state<F: Flash>(device: &mut Device<'_, F>) -> Result<UpdateState, Reason> {
    if device.is_trial()? {
        return Ok(UpdateState::Trial);
    }
    Ok(match device.state().pending.map(|pending| pending.progress) {
        Some(Progress::Staged { .. }) => UpdateState::Staged,
        Some(_) => UpdateState::Receiving,
        None => UpdateState::Idle,
    })
}

/// Writes the report of a device into the caller's buffer ([`REPORT_BYTES_MAX`] always suffice).
pub fn report<'b, F: Flash>(device: &mut Device<'_, F>, buffer: &'b mut [u8]) -> Result<&'b [u8], Refused> {
    let now = update_state(device)?;
    let (event, mail) = (device.boot_event()?, device.mail_event()?);
    let mut waiting = [None; MailKind::ALL.len()];
    for (place, kind) in waiting.iter_mut().zip(MailKind::ALL) {
        *place = device.waits(kind)?.then_some(kind);
    }
    let development = device.environment() == Environment::Development;
    let (list, floor, pinned) = (device.list_number(), device.time_floor(), device.pinned().is_some());
    let (state, running) = (*device.state(), device.running().copied());
    let (counter, root) = (device.stored_counter(), device.root().version());
    let entries = 6
        + usize::from(waiting.iter().any(Option::is_some))
        + usize::from(mail.is_some())
        + usize::from(running.is_some())
        + usize::from(state.committed.iter().any(Option::is_some))
        + usize::from(state.pending.is_some())
        + usize::from(state.ending.is_some())
        + usize::from(event.is_some());
    let bytes = cbor::encode(buffer, |writer| {
        writer.map(entries).uint(1).text("amp-report-1").uint(2).uint(0);
        if let Some(image) = running {
            writer.uint(3).array(5).bytes(&image.digest);
            version(
                writer,
                (
                    image.version.major,
                    image.version.minor,
                    image.version.revision,
                    image.version.build,
                ),
            );
        }
        writer
            .uint(4)
            .uint(now as u64)
            .uint(5)
            .uint(counter.into())
            .uint(6)
            .uint(root);
        if state.committed.iter().any(Option::is_some) {
            writer.uint(7).array(state.committed.iter().flatten().count());
            for committed in state.committed.iter().flatten() {
                release(writer.array(2), &committed.release);
            }
        }
        if let Some(pending) = state.pending {
            release(writer.uint(8).array(2), &pending.release);
        }
        if let Some(ending) = state.ending {
            release(writer.uint(9).array(4), &ending.release);
            writer.uint(ending.reverted.into()).uint(ending.reason.into());
        }
        if let Some(event) = event {
            writer
                .uint(10)
                .array(7)
                .uint(event.kind as u64)
                .uint(event.reason.into())
                .bytes(&event.digest);
            version(writer, event.version);
        }
        writer
            .uint(11)
            .array(4)
            .uint(development.into())
            .uint(list.unwrap_or(0));
        writer.uint(floor).uint(pinned.into());
        if waiting.iter().any(Option::is_some) {
            writer.uint(12).array(waiting.iter().flatten().count());
            for kind in waiting.iter().flatten() {
                writer.uint(*kind as u64);
            }
        }
        if let Some(event) = mail {
            let (part, .., number) = event.version;
            writer
                .uint(13)
                .array(4)
                .uint(event.kind as u64)
                .uint(event.reason.into());
            writer.uint(part.into()).uint(number.into());
        }
    });
    bytes.map_err(|_| Reason::Limit.about("REPORT_BYTES_MAX"))
}

fn release(writer: &mut Writer<'_>, release: &ReleaseId) {
    writer.uint(release.sequence).bytes(&release.digest);
}

fn version(writer: &mut Writer<'_>, (major, minor, revision, build): (u8, u8, u16, u32)) {
    writer
        .uint(major.into())
        .uint(minor.into())
        .uint(revision.into())
        .uint(build.into());
}
