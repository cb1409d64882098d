//! Power cuts at every operation of every step of a life: asked for, decided, erased, and what follows. After any cut
//! the device is what it was, all of it, or what it is to be, without a trace of what was to be erased; the next boot
//! brings it there, and nothing starts in between.

use ampoule_sim::body::{Boot, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::Scheme;
use ampoule_sim::help::offer;
use ampoule_sim::life::Life;
use ampoule_sim::nor::Nor;
use codec::Reason;
use codec::record::LifecycleRequest::{self, Advance, LeaveDevelopment};
use codec::record::{Lifecycle, StoreHeader};
use codec::roots::Environment;
use codec::smp::client::Destination;
use engine::boot::Reset;

const STEPS: [LifecycleRequest; 4] = [
    Advance(Lifecycle::Deployed),
    Advance(Lifecycle::Rma),
    LeaveDevelopment,
    Advance(Lifecycle::Decommissioned),
];

/// Resets within which a device is where it was asked to be (law L12); where it takes help, so many more.
const RESETS_MAX: usize = 3;

fn soak() -> bool {
    std::env::var_os("AMPOULE_SOAK").is_some()
}

/// A device and the step that it is asked for.
struct Story {
    life: Life,
    request: LifecycleRequest,
    before: StoreHeader,
}

impl Story {
    fn new(shape: Shape, scheme: Scheme, image_len: usize, request: LifecycleRequest) -> Story {
        let mut life = Life::new(shape, scheme, image_len);
        if request == LeaveDevelopment {
            life.stage_further_root();
        }
        let before = life.header();
        Story { life, request, before }
    }

    /// The application asks, and all that follows.
    fn scenario(&self, sim: &mut Sim) -> Result<(), String> {
        self.life.ask(sim, self.request)?;
        let boot = self.boot(sim)?;
        ensure(self.is_done(sim), || format!("{boot:?} and not done"))?;
        self.go_on(sim, boot)
    }

    /// Life after a cut, wherever it was; can itself be cut anywhere and begun again.
    fn recover(&self, sim: &mut Sim) -> Result<(), String> {
        self.judge_cut(sim)?;
        for _ in 0..RESETS_MAX {
            let boot = self.boot(sim)?;
            if self.is_done(sim) {
                return self.go_on(sim, boot);
            }
            ensure(boot == Boot::Runs("old", false), || {
                format!("{boot:?} before the decision")
            })?;
            // What was asked for did not arrive: it is asked for again.
            self.life.ask(sim, self.request)?;
        }
        Err("asked again and again, and never done".into())
    }

    /// What a cut left: while nothing is decided everything is there, and once the store calls it done nothing is.
    fn judge_cut(&self, sim: &mut Sim) -> Result<(), String> {
        let header = self.life.header_of(&mut sim.nor).ok_or("no store")?;
        let nor = &sim.nor.clone();
        match (self.is_done(sim), header.wiping) {
            (false, _) => self.life.judge_whole(nor),
            (true, true) => Ok(()),
            (true, false) => self.judge_done(nor),
        }
    }

    fn judge_done(&self, nor: &Nor) -> Result<(), String> {
        match self.request {
            Advance(Lifecycle::Deployed) => self.life.judge_whole(nor),
            Advance(Lifecycle::Rma) => self.life.judge_without_secrets(nor),
            _ => self.life.judge_without_world(nor),
        }
    }

    /// One reset whose power stays on: the device is what it was, whole, or what it is to be, without a trace.
    fn boot(&self, sim: &mut Sim) -> Result<Boot, String> {
        let boot = self.life.body.boot(sim, Reset::Power)?;
        let header = self.life.header_of(&mut sim.nor).ok_or("no store")?;
        ensure(!header.wiping, || "a boot under power left a wipe half done".into())?;
        ensure(header.counters == self.before.counters, || {
            format!("counters {:?}", header.counters)
        })?;
        ensure(header.time_floor == self.before.time_floor, || {
            "the time floor changed".into()
        })?;
        let nor = &sim.nor.clone();
        match self.is_done(sim) {
            false => self.life.judge_whole(nor)?,
            true => self.judge_done(nor)?,
        }
        if header.root_len == 0 {
            self.life.judge_nothing_pending(nor)?;
        }
        self.judge_copies(nor, &header)?;
        Ok(boot)
    }

    /// Either copy of the store alone says the same of everything but counters.
    fn judge_copies(&self, nor: &Nor, header: &StoreHeader) -> Result<(), String> {
        for lost in self.life.body.layout.trust {
            let mut nor = nor.clone();
            nor.corrupt(lost.start + 80, 0x55);
            let other = self.life.header_of(&mut nor).map(|other| StoreHeader {
                generation: header.generation,
                counters: header.counters,
                ..other
            });
            ensure(other == Some(*header), || format!("the other copy says {other:?}"))?;
        }
        Ok(())
    }

    fn is_done(&self, sim: &mut Sim) -> bool {
        match self.request {
            Advance(state) => self.life.header_of(&mut sim.nor).map(|header| header.lifecycle) == Some(state),
            LeaveDevelopment => self.life.environment(&mut sim.nor) != Some(Environment::Development),
        }
    }

    /// What comes of it: the old image runs on, the device is at its end, or it is taken into production.
    fn go_on(&self, sim: &mut Sim, boot: Boot) -> Result<(), String> {
        match self.request {
            Advance(Lifecycle::Decommissioned) => {
                let ended = Boot::Recovery(Reason::Decommissioned);
                ensure(boot == ended && self.boot(sim)? == ended, || {
                    format!("{boot:?} at the end of its life")
                })
            }
            Advance(_) => {
                ensure(boot == Boot::Runs("old", false), || format!("{boot:?}"))?;
                self.life.body.app(sim, |_| Ok(()))?;
                self.life.body.boot_steady(sim, "old")
            }
            LeaveDevelopment => self.provision(sim, boot),
        }
    }

    /// A person of the production station: gives what is asked for until the production image runs.
    fn provision(&self, sim: &mut Sim, mut boot: Boot) -> Result<(), String> {
        let body = &self.life.body;
        let give = |sim: &mut Sim, reason, destination, file: &[u8]| {
            offer(body, sim, reason, destination, file).map_err(|number| format!("refused: {number}"))
        };
        for _ in 0..=RESETS_MAX {
            match boot {
                Boot::Recovery(reason @ Reason::NoRoot) => {
                    let development = body.authority.trust_root.build();
                    let refused = offer(body, sim, reason, Destination::Root, &development);
                    ensure(refused == Err(1025), || format!("the root of development: {refused:?}"))?;
                    give(sim, reason, Destination::Root, &self.life.production.build())?;
                }
                Boot::Recovery(reason @ Reason::NoBootableImage) => {
                    sim.note(|ledger| ledger.confirming = Some("product"));
                    give(sim, reason, Destination::Image, &self.life.product.bytes)?;
                }
                Boot::Runs("product", false) => return body.boot_steady(sim, "product"),
                other => return Err(format!("{other:?} on the way to production")),
            }
            boot = self.boot(sim)?;
        }
        Err("helped and helped, and the production image does not run".into())
    }

    fn cut(&self, name: String, torn: u32, nested: &[Nested]) -> Tally {
        let campaign = Campaign::new(name, torn, nested);
        let start = &self.life.sim;
        explore(&campaign, start, |sim| self.scenario(sim), |sim| self.recover(sim))
    }
}

fn name(what: &str, request: LifecycleRequest, shape: Shape) -> String {
    format!("{what} {request:?} {shape}")
}

#[test]
fn single_cuts_of_every_step_on_every_shape() {
    let torn = if soak() { 16 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        for request in STEPS {
            let story = Story::new(shape, Scheme::TestOnlyHash, 1000, request);
            total.add(findings.gather(|| story.cut(name("life", request, shape), torn, &[])));
        }
    }
    total.tell("single cuts of the steps of a life");
    findings.tell();
}

#[test]
fn pairs_of_cuts_of_every_step() {
    let everything = shapes(Shape::tiny);
    let chosen = [Shape::tiny(8, 0xff, true), Shape::tiny(4, 0x00, false)];
    let chosen = if soak() { &everything[..] } else { &chosen };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for &shape in chosen {
        for request in STEPS {
            let story = Story::new(shape, Scheme::TestOnlyHash, 600, request);
            let nested = [Nested::All { torn: 1 }];
            total.add(findings.gather(|| story.cut(name("life pairs", request, shape), 1, &nested)));
        }
    }
    total.tell("pairs of cuts of the steps of a life");
    findings.tell();
}

#[test]
fn cuts_in_a_row_of_every_step() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        for request in STEPS {
            let story = Story::new(shape, Scheme::TestOnlyHash, 900, request);
            let nested = [Nested::Sample(if soak() { 12 } else { 1 }); 2];
            total.add(findings.gather(|| story.cut(name("life rows", request, shape), 1, &nested)));
        }
    }
    total.tell("cuts in a row of the steps of a life");
    findings.tell();
}
