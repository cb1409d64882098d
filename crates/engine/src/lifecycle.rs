//! The life of a device: the bootloader's step between reset and boot choice, in which it carries out what the
//! application asked for in the [mailbox](crate::mailbox).
//!
//! | request | allowed | what it erases |
//! |---|---|---|
//! | to a later state | always | nothing |
//! | to `Rma` | before it | secrets |
//! | to `Decommissioned` | before it | everything but what the bootloader remembers |
//! | out of development | under a development root | root and list, secrets, pending work |
//!
//! A request has no signature: whether somebody may ask is the application's to judge ([`Device::request_lifecycle`]),
//! what may be asked is judged here. An image on trial asks for nothing.
//!
//! What erases is decided by one commit of the trust store, without root where the root goes, and with the mark that a
//! wipe is under way. From then on nothing starts, in any build of the bootloader, until all is erased and the mark is
//! gone; a cut in between goes on at the next boot, before anything else.
//!
//! [`Device::request_lifecycle`]: crate::device::Device::request_lifecycle

use crate::boot::Board;
use crate::bootlog;
use crate::flash::Flash;
use crate::layout::{Area, Layout, Slots};
use crate::mailbox::Mail;
use crate::store::{Change, Found, Store};
use crate::swap::{Request, Trailers};
use codec::Reason;
use codec::record::{
    BootEvent, BootEventKind, LIFECYCLE_REQUEST_BYTES, Lifecycle, LifecycleRequest, MailKind, StoreHeader,
};
use codec::roots::Environment;

/// Goes on with a wipe that was decided, or takes or refuses the request that waits. `root` holds the longest root file
/// with its list. Costs a look at the trust store and one short read when there is nothing to do. Never fails: what the
/// flash refuses is tried again at the next boot, and while a wipe is not whole nothing starts.
pub fn run<F: Flash>(flash: &mut F, board: &Board<'_>, root: &mut [u8]) {
    let _ = step(flash, board, root);
}

fn step<F: Flash>(flash: &mut F, board: &Board<'_>, root: &mut [u8]) -> Result<(), Reason> {
    let Found::Store(store) = Store::open(flash, board.layout)? else {
        return Ok(());
    };
    // Both copies say the same, also where nothing is to start: what one of them forgets, the other knows.
    let store = store.heal(flash, board.layout).unwrap_or(store);
    if store.header().wiping {
        return wipe(flash, board.layout, store);
    }
    let Some(mail) = Mail::find(flash, board.layout, MailKind::Lifecycle)? else {
        return Ok(());
    };
    let Some(request) = read(flash, &mail)? else {
        return Ok(());
    };
    let trailers = Trailers::read(flash, &Slots::new(board.layout, flash)?)?;
    let next = match trailers.request() {
        // A step that erases would leave half of each image; all of them can wait for the end of the swap.
        Request::Resume(_) => return Ok(()),
        _ if trailers.is_trial() => Err(Reason::TrialRunning),
        _ => {
            let environment = environment(flash, board, &store, root)?;
            request.and_then(|request| next(store.header(), environment, request))
        }
    };
    let header = match next {
        Err(reason) => return answer(flash, board.layout, &mail, Err(reason)),
        Ok(None) => return answer(flash, board.layout, &mail, Ok(store.header().lifecycle)),
        Ok(Some(header)) => header,
    };
    let store = store.change(flash, board.layout, header, Change::default())?;
    match header.wiping {
        true => wipe(flash, board.layout, store),
        false => answer(flash, board.layout, &mail, Ok(header.lifecycle)),
    }
}

/// The request in the mailbox; `None` where nothing whole stands.
fn read(flash: &mut impl Flash, mail: &Mail) -> Result<Option<Result<LifecycleRequest, Reason>>, Reason> {
    Ok(match mail.read(flash, &mut [0; LIFECYCLE_REQUEST_BYTES])? {
        Some(content) => Some(LifecycleRequest::parse(content)),
        // Longer than any request; or not whole, and then nothing.
        None => mail.is_whole(flash)?.then_some(Err(Reason::RequestMalformed)),
    })
}

/// The environment of the stored root; `None` without one.
fn environment(
    flash: &mut impl Flash,
    board: &Board<'_>,
    store: &Store,
    root: &mut [u8],
) -> Result<Option<Environment>, Reason> {
    match store.read_trust(flash, board.layout, board.limits, root) {
        Err(Reason::StorageFailed) => Err(Reason::StorageFailed),
        read => Ok(read.ok().map(|root| root.environment())),
    }
}

/// What the trust store says after this request: the one judgement of application and bootloader. `None`: what it says.
///
/// Refused: 944 at the end of its life, 1020 a state behind the present one, 1024 out of development without a
/// development root.
pub(crate) fn next(
    header: &StoreHeader,
    environment: Option<Environment>,
    request: LifecycleRequest,
) -> Result<Option<StoreHeader>, Reason> {
    let present = header.lifecycle;
    let rootless = StoreHeader {
        root_len: 0,
        list_len: 0,
        // Nothing of the old root may start under the next one.
        pinned: None,
        wiping: true,
        ..*header
    };
    match request {
        LifecycleRequest::Advance(to) if to == present => Ok(None),
        _ if present == Lifecycle::Decommissioned => Err(Reason::Decommissioned),
        LifecycleRequest::Advance(to) if to < present => Err(Reason::LifecycleBackwards),
        LifecycleRequest::Advance(Lifecycle::Decommissioned) => Ok(Some(StoreHeader {
            lifecycle: Lifecycle::Decommissioned,
            ..rootless
        })),
        LifecycleRequest::Advance(to) => Ok(Some(StoreHeader {
            lifecycle: to,
            wiping: to == Lifecycle::Rma,
            ..*header
        })),
        LifecycleRequest::LeaveDevelopment if environment == Some(Environment::Development) => Ok(Some(rootless)),
        LifecycleRequest::LeaveDevelopment => Err(Reason::NotInDevelopment),
    }
}

/// Erases what the store says goes, and then says so. An area that does not let itself be erased keeps nothing else
/// from it.
fn wipe<F: Flash>(flash: &mut F, layout: &Layout, store: Store) -> Result<(), Reason> {
    let mut done = Ok(());
    for area in doomed(layout, store.header()).into_iter().flatten() {
        done = done.and(area.erase(flash));
    }
    done?;
    let header = StoreHeader {
        wiping: false,
        ..*store.header()
    };
    if let Some(mail) = Mail::find(flash, layout, MailKind::Lifecycle)? {
        answer(flash, layout, &mail, Ok(header.lifecycle))?;
    }
    if header.root_len == 0 {
        // After the answer, so that a cut leaves the question.
        layout.mailbox.erase(flash)?;
    }
    // Written first over the copy that may still hold what was replaced.
    store.change(flash, layout, header, Change::default()).map(|_| ())
}

/// The areas that go, secrets first. The generation counter of the sealed storage stays, like every counter: what was
/// sealed before must not come back.
fn doomed(layout: &Layout, header: &StoreHeader) -> [Option<Area>; 11] {
    let is_rootless = header.root_len == 0;
    let pending = |area: Area| is_rootless.then_some(area);
    let is_ended = header.lifecycle == Lifecycle::Decommissioned;
    [
        Some(layout.sealed[0]),
        Some(layout.sealed[1]),
        Some(layout.device_key),
        Some(layout.entropy),
        pending(layout.journal[0]),
        pending(layout.journal[1]),
        pending(layout.head),
        pending(layout.table),
        pending(layout.boot_update),
        pending(layout.secondary),
        is_ended.then_some(layout.primary),
    ]
}

/// Notes what became of a request and empties its part: it is answered once. What is declined during a trial must not
/// wait for the image that comes after it.
fn answer(flash: &mut impl Flash, layout: &Layout, mail: &Mail, now: Result<Lifecycle, Reason>) -> Result<(), Reason> {
    let (kind, reason, number) = match now {
        Ok(state) => (BootEventKind::Taken, 0, state as u32),
        Err(reason) => (BootEventKind::Declined, reason.number(), 0),
    };
    let event = BootEvent {
        kind,
        reason,
        digest: mail.name(),
        version: (MailKind::Lifecycle as u8, 0, 0, number),
    };
    // Told if it can be; a worn log is no reason to answer again and again.
    let _ = bootlog::note(flash, layout, &event);
    layout.mail(MailKind::Lifecycle).erase(flash)
}
