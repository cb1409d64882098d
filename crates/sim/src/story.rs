//! Two stories of a device that are cut everywhere: an upgrade from its request on, and an installation from its first byte
//! on. Each has a scenario, a way to recover from any cut of it, and something that must still work afterwards.

use crate::body::{Body, Boot, Made, Sim, ensure};
use crate::device::Shape;
use crate::fixture::{Authority, Scheme};
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;

/// One device with an image to go from, one to go to, and one for afterwards.
pub struct Upgrade {
    /// The device.
    pub body: Body,
    /// What runs at first.
    pub old: Made,
    /// What is staged.
    pub new: Made,
    next: Made,
    /// Where it begins.
    pub start: Sim,
}

impl Upgrade {
    /// Images of these lengths: the one that runs, the one that is staged.
    pub fn new(shape: Shape, scheme: Scheme, lens: (usize, usize)) -> Upgrade {
        let mut authority = Authority::new(scheme);
        // Development: images may be staged without a release, which is tried in install_cuts.
        authority.trust_root.environment = Some(1);
        let mut body = Body::new(shape, authority);
        let old = body.make("old", lens.0, 1);
        let new = body.make("new", lens.1, 2);
        let next = body.make("next", (lens.0 + lens.1) / 2, 3);
        let mut start = body.factory(&old);
        body.boot_to(&mut start, Reset::Power, "old", false).unwrap();
        body.stage(&mut start.nor, &new.bytes);
        Upgrade {
            body,
            old,
            new,
            next,
            start,
        }
    }

    fn request(&self, sim: &mut Sim) -> Result<(), String> {
        self.body.app(sim, |device| device.request_swap(None, SwapType::Test))?;
        sim.note(|ledger| ledger.done.push("requested"));
        Ok(())
    }

    /// From the request to the confirmed new image.
    fn upgrade(&self, sim: &mut Sim) -> Result<(), String> {
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "new", true)?;
        self.body.confirm(sim, "new")?;
        self.body.boot_to(sim, Reset::Software, "new", false)?;
        self.body.boot_steady(sim, "new")
    }

    /// From the request to the old image again.
    fn revert(&self, sim: &mut Sim) -> Result<(), String> {
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "new", true)?;
        self.body.boot_to(sim, Reset::Watchdog, "old", false)?;
        self.body.boot_steady(sim, "old")
    }

    /// Request, swap, and confirmation or revert.
    pub fn scenario(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if confirms { self.upgrade(sim) } else { self.revert(sim) }
    }

    /// Life after a cut. Power comes back; whatever was under way is finished or taken back; the new image is confirmed
    /// or not. Can itself be cut anywhere and begun again.
    pub fn recover(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if self.first_boot(sim)? == Boot::Runs("old", false) {
            self.while_old_runs(sim, confirms)
        } else {
            self.finish_trial(sim, confirms)
        }
    }

    fn first_boot(&self, sim: &mut Sim) -> Result<Boot, String> {
        let boot = self.body.boot(sim, Reset::Power)?;
        ensure(matches!(boot, Boot::Runs(..)), || {
            format!("{boot:?}, although both images are whole")
        })?;
        Ok(boot)
    }

    /// The request did not arrive, or the trial is over. If the new image is still staged, it can be requested again.
    fn while_old_runs(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        self.body.boot_steady(sim, "old")?;
        let staged = self
            .body
            .image_at(&sim.nor, self.body.staging_address())
            .map(|image| image.name);
        ensure(staged == Some("new"), || format!("{staged:?} is staged"))?;
        self.request(sim)?;
        let boot = self.first_boot(sim)?;
        ensure(boot == Boot::Runs("new", true), || {
            format!("{boot:?} after the second request")
        })?;
        self.finish_trial(sim, confirms)
    }

    fn finish_trial(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if sim.ledger().starts.last() == Some(&("new", true)) {
            self.judge_trial(sim)?;
            if confirms {
                self.body.confirm(sim, "new")?;
            }
            let left = if confirms { "new" } else { "old" };
            self.body.boot_to(sim, Reset::Software, left, false)?;
        }
        let runs = sim.ledger().starts.last().map_or("nothing", |start| start.0);
        self.body.boot_steady(sim, runs)
    }

    /// Law L10: while an image is on trial its fallback stays whole, and nobody may erase it.
    fn judge_trial(&self, sim: &mut Sim) -> Result<(), String> {
        let fallback = self.body.fallback(&sim.nor).map(|image| image.name);
        ensure(fallback == Some("old"), || {
            format!("{fallback:?} is the fallback of the trial")
        })?;
        let refused = self.body.app(sim, |device| device.erase_staging());
        ensure(refused.as_ref().is_err_and(|what| what.starts_with("613 ")), || {
            format!("erase: {refused:?}")
        })
    }

    /// Afterwards the device still takes an update.
    pub fn update_to_next(&self, sim: &mut Sim) -> Result<(), String> {
        let runs = sim.ledger().starts.last().map_or("nothing", |start| start.0);
        self.body.stage(&mut sim.nor, &self.next.bytes);
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "next", true)?;
        let fallback = self.body.fallback(&sim.nor).map(|image| image.name);
        ensure(fallback == Some(runs), || {
            format!("{fallback:?} is the fallback, {runs} ran")
        })?;
        self.body.confirm(sim, "next")?;
        self.body.boot_to(sim, Reset::Software, "next", false)?;
        ensure(self.body.counter(&mut sim.nor) == Some(3), || {
            "the counter was not raised".into()
        })
    }
}

/// A production device, and the releases that it meets.
pub struct Installation {
    /// The device.
    pub body: Body,
    /// The image of release 9.
    pub new: Made,
    /// Release 9: the new image.
    file: Vec<u8>,
    /// Release 8 of an image below the new one's counter.
    older: Vec<u8>,
    /// Release 10 of the next image.
    newer: Vec<u8>,
    /// Release 11 of an image below the new one's counter.
    low: Vec<u8>,
    piece: usize,
    /// Where it begins.
    pub start: Sim,
}

impl Installation {
    /// Images of these lengths, releases sent in pieces of this length, so many given up before.
    pub fn new(shape: Shape, scheme: Scheme, lens: (usize, usize), piece: usize, given_up: usize) -> Installation {
        let mut body = Body::new(shape, Authority::new(scheme));
        let old = body.make("old", lens.0, 1);
        let new = body.make("new", lens.1, 2);
        let next = body.make("next", lens.1 - 7, 3);
        let low = body.make("low", lens.1 - 9, 1);
        let mut start = body.factory(&old);
        body.boot_to(&mut start, Reset::Power, "old", false).unwrap();
        let release = |sequence, image: &Made| body.authority.release(sequence, &image.bytes, image.counter).build();
        let (file, older) = (release(9, &new), release(8, &low));
        let (newer, low) = (release(10, &next), release(11, &low));
        let mut story = Installation {
            body,
            new,
            file,
            older,
            newer,
            low,
            piece,
            start,
        };
        story.give_up(given_up);
        story
    }

    /// Releases that were received and dropped before: they bring the journal to where it changes its half.
    fn give_up(&mut self, times: usize) {
        let mut sim = self.start.clone();
        for _ in 0..times {
            self.install(&mut sim, &self.older).unwrap();
            self.body.app(&mut sim, |device| device.erase_staging()).unwrap();
        }
        self.start = sim;
    }

    /// From the first byte of the release to the steady new image, or back to the old one.
    pub fn scenario(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        self.install(sim, &self.file)?;
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "new", true)?;
        if confirms {
            self.body.confirm(sim, "new")?;
            self.settle(sim)?;
            self.body.boot_to(sim, Reset::Software, "new", false)?;
            return self.body.boot_steady(sim, "new");
        }
        self.body.boot_to(sim, Reset::Watchdog, "old", false)?;
        self.settle(sim)
    }

    /// After a cut: as a server would, that asks the device what runs and sends the release until it does.
    pub fn recover(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        let mut boot = self.body.boot(sim, Reset::Power)?;
        self.settle(sim)?;
        if boot == Boot::Runs("old", false) {
            self.install(sim, &self.file)?;
            self.request(sim)?;
            boot = self.body.boot(sim, Reset::Software)?;
            ensure(boot == Boot::Runs("new", true), || {
                format!("{boot:?} after the request")
            })?;
        }
        ensure(matches!(boot, Boot::Runs("new", _)), || {
            format!("{boot:?}, although both images are whole")
        })?;
        if boot == Boot::Runs("new", true) {
            let refused = self.body.install(sim, &self.newer, self.piece);
            ensure(refused.as_ref().is_err_and(|what| what.starts_with("613 ")), || {
                format!("trial: {refused:?}")
            })?;
            if !confirms {
                self.body.boot_to(sim, Reset::Power, "old", false)?;
                return self.judge_reverted(sim);
            }
            self.body.confirm(sim, "new")?;
        }
        self.body.boot_to(sim, Reset::Software, "new", false)?;
        self.judge_confirmed(sim)?;
        self.body.boot_steady(sim, "new")
    }

    fn install(&self, sim: &mut Sim, file: &[u8]) -> Result<(), String> {
        let step = self.body.install(sim, file, self.piece)?;
        ensure(step == Step::Staged, || format!("{step:?} instead of staged"))
    }

    fn request(&self, sim: &mut Sim) -> Result<(), String> {
        self.body.app(sim, |device| device.request_swap(None, SwapType::Test))
    }

    /// The application starts: the journal is repaired from what the bootloader did.
    fn settle(&self, sim: &mut Sim) -> Result<(), String> {
        self.body.app(sim, |_| Ok(()))
    }

    fn judge_confirmed(&self, sim: &mut Sim) -> Result<(), String> {
        let (pending, floor) = self
            .body
            .app(sim, |device| Ok((device.state().pending, device.counter_floor()?)))?;
        ensure(sim.ledger().committed == Some(9), || {
            format!("committed is {:?}", sim.ledger().committed)
        })?;
        ensure(pending.is_none() && floor == 2, || {
            format!("pending {pending:?}, floor {floor}")
        })?;
        let again = self.body.install(sim, &self.file, self.piece);
        ensure(again == Ok(Step::AlreadyInstalled), || {
            format!("the same release again: {again:?}")
        })
    }

    fn judge_reverted(&self, sim: &mut Sim) -> Result<(), String> {
        let (pending, ending) = self
            .body
            .app(sim, |device| Ok((device.state().pending, device.state().ending)))?;
        ensure(pending.is_none(), || format!("still pending: {pending:?}"))?;
        let told = ending.is_some_and(|ending| ending.reverted && ending.reason == 930 && ending.release.sequence == 9);
        ensure(told, || format!("a revert is remembered as {ending:?}"))?;
        ensure(sim.ledger().committed.is_none(), || {
            "a release that went back is committed".into()
        })?;
        self.body.boot_steady(sim, "old")
    }

    /// What must still be refused, changing nothing, and that the next release goes all the way.
    pub fn go_on(&self, sim: &mut Sim, confirms: bool) -> Result<(), String> {
        if confirms {
            for (file, number) in [(&self.older, "607 "), (&self.low, "610 ")] {
                let before = sim.nor.clone();
                let refused = self.body.install(sim, file, self.piece);
                ensure(refused.as_ref().is_err_and(|what| what.starts_with(number)), || {
                    format!("{refused:?}")
                })?;
                ensure(before.cells() == sim.nor.cells(), || {
                    format!("{number} changed the flash")
                })?;
            }
        }
        self.install(sim, &self.newer)?;
        self.request(sim)?;
        self.body.boot_to(sim, Reset::Software, "next", true)?;
        self.body.confirm(sim, "next")?;
        self.body.boot_to(sim, Reset::Software, "next", false)?;
        self.settle(sim)?;
        ensure(sim.ledger().committed == Some(10), || {
            format!("committed is {:?}", sim.ledger().committed)
        })
    }
}
