//! What the bootloader did and why, kept over resets and power cuts, so that the application can report it: above all
//! *that and why* a new image was taken back.

use crate::flash::Flash;
use crate::layout::Layout;
use crate::log::Log;
use codec::Reason;
use codec::record::{BootEvent, BootEventKind};

/// The last event; `None` when nothing was ever noted.
pub fn last(flash: &mut impl Flash, layout: &Layout) -> Result<Option<BootEvent>, Reason> {
    last_that(flash, layout, |_| true)
}

/// The last event of this kind; `None` when none is left in the log.
pub fn last_that(
    flash: &mut impl Flash,
    layout: &Layout,
    wanted: impl Fn(&BootEvent) -> bool,
) -> Result<Option<BootEvent>, Reason> {
    let Some(log) = Log::open(flash, layout.boot_log)? else {
        return Ok(None);
    };
    let mut last = None;
    log.for_each(flash, |record| {
        last = BootEvent::decode(record).filter(&wanted).or(last)
    })?;
    Ok(last)
}

/// Notes an event before the bootloader acts on it. The same event twice in a row is one that a cut repeated; going back
/// from an image keeps its first reason, because the reset after a cut says nothing about the image.
pub(crate) fn note(flash: &mut impl Flash, layout: &Layout, event: &BootEvent) -> Result<(), Reason> {
    let goes_back = matches!(event.kind, BootEventKind::Revert | BootEventKind::Stuck);
    let is_noted = |last: BootEvent| match goes_back {
        true => {
            BootEvent {
                reason: event.reason,
                ..last
            } == *event
        }
        false => last == *event,
    };
    if last(flash, layout)?.is_some_and(is_noted) {
        return Ok(());
    }
    let record = event.encode();
    let Some(mut log) = Log::open(flash, layout.boot_log)? else {
        return Log::start_anew(flash, layout.boot_log)?.append(flash, &record);
    };
    // No room, or a half that is worn where the record should go: the other half takes it.
    if log.append(flash, &record).is_ok() {
        return Ok(());
    }
    log.switch(flash, |flash, log| log.append(flash, &record)).map(|_| ())
}
