//! How a device follows its authority: the bootloader's step between reset and boot choice, in which it judges what waits
//! in the [mailbox](crate::mailbox) and commits it (profile sections 13 and 15).
//!
//! | proposal | believed when | then |
//! |---|---|---|
//! | root | it follows the stored one by all rules of rotation, and has an image role | it replaces the stored one, in both copies |
//! | list | the revoke role of the stored root signed it, and it takes nothing back | likewise |
//! | time file | the distribute role signed it | the time floor rises |
//!
//! Nothing happens but while the primary image may start, is confirmed, and no swap is asked for or under way: otherwise
//! proposals wait. An image that runs and would no longer be accepted is pinned in the same commit; once another image is
//! confirmed, the pin goes. A board with a fixed root does not call this.

use crate::boot::{Board, Buffers};
use crate::bootlog;
use crate::flash::Flash;
use crate::layout::{SlotId, Slots};
use crate::mailbox::Mail;
use crate::slot::{self, SlotReader};
use crate::store::{Change, Store};
use crate::swap::{Request, Trailers};
use codec::Reason;
use codec::record::{BootEvent, BootEventKind, MailKind, StoreHeader};
use trust::image::Bootable;
use trust::root::{Role, TrustRoot};

/// Takes or refuses what waits in the mailbox. `proposal` holds the longest root or list. Costs a look at the trust store
/// and four short reads when there is nothing to do. Never fails: what cannot be done now waits, and what can never be done
/// is noted in the boot log.
pub fn run<F: Flash>(flash: &mut F, board: &Board<'_>, buffers: Buffers<'_>, proposal: &mut [u8]) {
    let Buffers { root, scratch } = buffers;
    let mut turn = |flash: &mut F, mail: Option<(MailKind, &Mail)>, proposal: &mut [u8]| {
        let buffers = Buffers {
            root: &mut *root,
            scratch: &mut *scratch,
        };
        // What the flash refuses now is tried again at the next boot.
        let _ = consider(flash, board, buffers, mail, proposal);
    };
    turn(flash, None, proposal);
    for kind in MailKind::ALL {
        if let Ok(Some(mail)) = Mail::find(flash, board.layout, kind) {
            turn(flash, Some((kind, &mail)), proposal);
        }
    }
}

/// What the bootloader makes of a proposal.
enum Verdict {
    /// It is in force now, or was before: this is what the trust store holds.
    Taken(u64),
    /// It can never be.
    Declined(Reason),
}

fn consider<F: Flash>(
    flash: &mut F,
    board: &Board<'_>,
    buffers: Buffers<'_>,
    mail: Option<(MailKind, &Mail)>,
    proposal: &mut [u8],
) -> Result<(), Reason> {
    let store = Store::of_running(flash, board.layout)?;
    let slots = Slots::new(board.layout, flash)?;
    if mail.is_none() {
        // A look at the image's name is enough while it is the pinned one that runs.
        let mut reader = SlotReader::new(flash, &slots, SlotId::Primary, 0);
        let running = slot::identify(&mut reader, slots.image_len_max()).map(|image| image.digest);
        if store.header().pinned.is_none_or(|pinned| running == Ok(pinned)) {
            return Ok(());
        }
    }
    let root = store.read_trust(flash, board.layout, board.limits, buffers.root)?;
    let mut turn = Turn {
        flash,
        board,
        slots,
        store,
        root,
        scratch: buffers.scratch,
    };
    let Some(running) = turn.settled_image()? else {
        return Ok(());
    };
    let Some((kind, mail)) = mail else {
        return turn.unpin(&running);
    };
    let Some(content) = mail.read(turn.flash, proposal)? else {
        return Ok(());
    };
    let verdict = match kind {
        MailKind::Root => turn.root(content, &running),
        MailKind::Revoke => turn.list(content, &running),
        MailKind::Time => turn.time(content),
        // Another step's: `crate::lifecycle`.
        MailKind::Lifecycle => return Ok(()),
    };
    let (event, reason, number) = match verdict {
        Ok(Verdict::Taken(number)) => (BootEventKind::Taken, 0, number),
        Ok(Verdict::Declined(reason)) => (BootEventKind::Declined, reason.number(), 0),
        Err(reason) if reason.is_retriable() => return Err(reason),
        Err(reason) => (BootEventKind::Declined, reason.number(), 0),
    };
    let event = BootEvent {
        kind: event,
        reason,
        digest: mail.name(),
        version: (kind as u8, 0, 0, u32::try_from(number).unwrap_or(u32::MAX)),
    };
    bootlog::note(turn.flash, board.layout, &event)
}

struct Turn<'b, F> {
    flash: &'b mut F,
    board: &'b Board<'b>,
    slots: Slots,
    store: Store,
    /// The root in force, with its list.
    root: TrustRoot<'b>,
    scratch: &'b mut [u8],
}

impl<F: Flash> Turn<'_, F> {
    /// The primary image, when it may start now, is confirmed, and nothing is asked for or under way.
    fn settled_image(&mut self) -> Result<Option<Bootable>, Reason> {
        let trailers = Trailers::read(self.flash, &self.slots)?;
        if trailers.request() != Request::None || !trailers.is_confirmed() || trailers.is_trial() {
            return Ok(None);
        }
        let root = self.root;
        Ok(self.judge(&root, self.store.header().pinned).ok())
    }

    fn judge(&mut self, root: &TrustRoot<'_>, pinned: Option<[u8; 32]>) -> Result<Bootable, Reason> {
        let mut reader = SlotReader::new(self.flash, &self.slots, SlotId::Primary, 0);
        let floor = self.store.counter(0);
        self.board
            .judge(&mut reader, &self.slots, root, floor, pinned, self.scratch)
    }

    /// The next root. An older one, and the one in force, are no news.
    fn root(&mut self, content: &[u8], running: &Bootable) -> Result<Verdict, Reason> {
        let (limits, algorithms) = (self.board.limits, self.board.algorithms);
        let proposed = TrustRoot::stored(content, limits).map_err(|refused| refused.reason)?;
        if proposed.version() <= self.root.version() {
            return Ok(Verdict::Taken(self.root.version()));
        }
        let next = self
            .root
            .successor(content, limits, &algorithms)
            .map_err(|refused| refused.reason)?;
        if !next.entries().any(|entry| entry.role == Role::Image) {
            return Ok(Verdict::Declined(Reason::RootNoImageRole));
        }
        let change = Change {
            root: Some(content),
            ..Change::default()
        };
        self.commit(&next, running, change)?;
        Ok(Verdict::Taken(next.version()))
    }

    /// The next list. An older one, and the one in force, are no news.
    fn list(&mut self, content: &[u8], running: &Bootable) -> Result<Verdict, Reason> {
        let held = self.root.list();
        let number = held.map_or(0, |list| list.number());
        if held.is_some_and(|list| list.bytes() == content) {
            return Ok(Verdict::Taken(number));
        }
        let list = self
            .root
            .verify_list(content, self.board.limits, &self.board.algorithms)
            .map_err(|refused| refused.reason)?;
        let change = Change {
            list: Some(content),
            ..Change::default()
        };
        self.commit(&self.root.with_list(list), running, change)?;
        Ok(Verdict::Taken(list.number()))
    }

    /// A later moment than the one known.
    fn time(&mut self, content: &[u8]) -> Result<Verdict, Reason> {
        let seconds = self
            .root
            .verify_time(content, self.board.limits, &self.board.algorithms)
            .map_err(|refused| refused.reason)?;
        let header = *self.store.header();
        if seconds > header.time_floor {
            let header = StoreHeader {
                time_floor: seconds,
                ..header
            };
            self.store = self
                .store
                .change(self.flash, self.board.layout, header, Change::default())?;
        }
        Ok(Verdict::Taken(self.store.header().time_floor))
    }

    /// Another image than the pinned one is confirmed and runs: the pin has served.
    fn unpin(&mut self, running: &Bootable) -> Result<(), Reason> {
        let header = *self.store.header();
        if header.pinned.is_some_and(|pinned| pinned != *running.digest()) {
            let header = StoreHeader { pinned: None, ..header };
            self.store
                .change(self.flash, self.board.layout, header, Change::default())?;
        }
        Ok(())
    }

    /// Rule 7. The image that runs keeps running: it is pinned when root and list that come no longer accept it.
    fn commit(&mut self, next: &TrustRoot<'_>, running: &Bootable, change: Change<'_>) -> Result<(), Reason> {
        let accepted = self.judge(next, None).is_ok();
        let header = StoreHeader {
            pinned: (!accepted).then_some(*running.digest()),
            ..*self.store.header()
        };
        self.store = self.store.change(self.flash, self.board.layout, header, change)?;
        Ok(())
    }
}
