//! The life of a device: which steps it takes, from whom, what they erase, and what nobody can bring it to do.

use ampoule_sim::body::{Boot, Sim};
use ampoule_sim::chance::Chance;
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Identity, Image, Key, Release, Scheme};
use ampoule_sim::help::{device_info, offer, refusal};
use ampoule_sim::life::{Life, TIME_FLOOR};
use ampoule_sim::line::forge;
use ampoule_sim::nor::Nor;
use codec::Reason;
use codec::mcuboot::trailer::SwapType;
use codec::record::LifecycleRequest::{self, Advance, LeaveDevelopment};
use codec::record::{BootEventKind, Lifecycle, MailKind};
use codec::smp::Request;
use codec::smp::client::{Client, Destination, Failure};
use codec::smp::response::Parameters;
use engine::boot::{Buffers, Outcome, Reset};
use engine::flash::{Flash, FlashError, Sector};
use engine::install::Step;
use engine::smp::{Application, Server};
use std::slice::from_ref;

const RUNS: Boot = Boot::Runs("old", false);
const NO_ROOT: Boot = Boot::Recovery(Reason::NoRoot);
const ENDED: Boot = Boot::Recovery(Reason::Decommissioned);

fn life() -> Life {
    Life::new(Shape::small(4, 0xff, true), Scheme::TestOnlyHash, 1500)
}

fn production() -> Life {
    Life::of(Shape::small(4, 0xff, true), Scheme::TestOnlyHash, 1500, None)
}

/// What tests do with a life, on its own flash.
trait Acts {
    fn step(&mut self, request: LifecycleRequest) -> Boot;
    fn boot(&mut self) -> Boot;
    fn refuses(&mut self, request: LifecycleRequest, number: u16);
    fn declines(&mut self, content: &[u8], number: u16);
    fn state(&mut self) -> Lifecycle;
}

impl Acts for Life {
    fn step(&mut self, request: LifecycleRequest) -> Boot {
        let mut sim = self.sim.clone();
        self.ask(&mut sim, request).expect("allowed");
        self.sim = sim;
        self.boot()
    }

    fn boot(&mut self) -> Boot {
        self.body.boot(&mut self.sim, Reset::Software).expect("lawful")
    }

    /// The application refuses, and no byte of the flash changes.
    fn refuses(&mut self, request: LifecycleRequest, number: u16) {
        let mut sim = self.sim.clone();
        let refused = self.ask(&mut sim, request);
        let says = |what: &String| what.starts_with(&format!("{number} "));
        assert!(refused.as_ref().is_err_and(says), "{request:?}: {refused:?}");
        assert!(sim.nor.cells() == self.sim.nor.cells(), "{number} changed the flash");
    }

    /// What stands in the mailbox with a right digest is declined by the bootloader, and then emptied by the
    /// application.
    fn declines(&mut self, content: &[u8], number: u16) {
        let mut sim = self.sim.clone();
        forge(&mut sim.nor, &self.body, MailKind::Lifecycle, content);
        let before = self.header_of(&mut sim.nor);
        assert_eq!(self.body.boot(&mut sim, Reset::Software), Ok(RUNS), "{content:x?}");
        assert_eq!(self.header_of(&mut sim.nor), before, "{content:x?}");
        let (event, waits) = self
            .body
            .app(&mut sim, |device| {
                Ok((device.mail_event()?, device.waits(MailKind::Lifecycle)?))
            })
            .expect("opens");
        let event = event.expect("a note");
        let told = (event.kind, event.reason, event.version.0);
        let kind = MailKind::Lifecycle as u8;
        assert_eq!(told, (BootEventKind::Declined, number, kind), "{content:x?}");
        assert!(!waits, "{content:x?} still waits");
        self.judge_whole(&sim.nor).expect("nothing is erased");
    }

    fn state(&mut self) -> Lifecycle {
        self.header().lifecycle
    }
}

/// Forward, one step after the other and over several at once; each is told, its part of the mailbox emptied, and
/// nothing else of the device changes.
#[test]
fn a_life_moves_forward() {
    for steps in [
        &[Lifecycle::Provisioned, Lifecycle::Deployed][..],
        &[Lifecycle::Deployed][..],
    ] {
        let mut life = life();
        assert_eq!(life.state(), Lifecycle::Factory);
        for state in steps {
            assert_eq!(life.step(Advance(*state)), RUNS);
            assert_eq!(life.state(), *state);
            let Life { body, sim, .. } = &mut life;
            let (event, waits) = body
                .app(sim, |device| Ok((device.mail_event()?, device.lifecycle_waits()?)))
                .expect("opens");
            let event = event.expect("a note");
            assert_eq!((event.kind, event.version.3), (BootEventKind::Taken, *state as u32));
            assert_eq!(waits, None);
            let sim = life.sim.clone();
            life.judge_whole(&sim.nor).expect("nothing is erased");
            // Where it is already, it needs nothing.
            let before = life.sim.nor.cells().to_vec();
            life.ask(&mut life.sim.clone(), Advance(*state)).expect("no news");
            assert!(life.sim.nor.cells() == before);
        }
        let pending = life.body.app(&mut life.sim, |device| Ok(device.state().pending));
        assert!(pending.expect("opens").is_some(), "half a release is still there");
        life.body.boot_steady(&mut life.sim, "old").expect("steady");
    }
}

/// At the application's door and at the bootloader's, whoever wrote the mailbox.
#[test]
fn a_life_never_moves_back() {
    let mut life = life();
    let states = [
        Lifecycle::Blank,
        Lifecycle::Factory,
        Lifecycle::Provisioned,
        Lifecycle::Deployed,
    ];
    for present in [Lifecycle::Provisioned, Lifecycle::Deployed, Lifecycle::Rma] {
        assert_eq!(life.step(Advance(present)), RUNS);
        life.body.app(&mut life.sim, |_| Ok(())).expect("opens");
        for state in states.into_iter().filter(|state| *state < present) {
            life.refuses(Advance(state), 1020);
            if present < Lifecycle::Rma {
                life.declines(&Advance(state).to_bytes(), 1020);
            }
        }
    }
}

/// What is no request is declined with its number; what is not whole, or noise, is nothing at all.
#[test]
fn what_is_no_request_changes_nothing() {
    let mut life = life();
    life.declines(&[1, 0, 1, 6, 0, 0, 0, 0], 1021);
    life.declines(&[1, 0, 1, 255, 0, 0, 0, 0], 1021);
    for malformed in [
        &[][..],
        &[1, 0, 1, 3, 0, 0, 0],
        &[2, 0, 1, 3, 0, 0, 0, 0],
        &[1, 0, 3, 3, 0, 0, 0, 0],
        &[1, 0, 1, 3, 0, 0, 0, 0, 0],
        &[0; 300],
    ] {
        life.declines(malformed, 1019);
    }
    let mut chance = Chance::new(3);
    let part = life.body.layout.mail(MailKind::Lifecycle);
    let mut asked = life.sim.clone();
    life.ask(&mut asked, Advance(Lifecycle::Decommissioned))
        .expect("allowed");
    for at in 0..72 {
        let mut sim = asked.clone();
        sim.nor.corrupt(part.start + at, 1 << chance.below(8));
        assert_eq!(life.body.boot(&mut sim, Reset::Software), Ok(RUNS), "bit of byte {at}");
        life.judge_whole(&sim.nor).expect("nothing is erased");
    }
    assert_eq!(
        life.body.boot(&mut asked, Reset::Software),
        Ok(ENDED),
        "unchanged, it is taken"
    );
}

struct App;

impl Application for App {
    fn about(&self) -> &str {
        "a test"
    }
}

/// The number with which the application answers a request over the wire; none: it does it.
fn on_wire(life: &Life, sim: &mut Sim, request: LifecycleRequest) -> Option<Reason> {
    let parameters = Parameters {
        buf_size: 512,
        buf_count: 1,
    };
    let mut refused = None;
    let ask = |device: &mut engine::device::Device<'_, &mut Nor>| {
        let mut buffer = [0; 2048];
        let mut server = Server::new(&mut buffer, parameters);
        let (mut room, mut out) = ([0; 64], [0; 64]);
        let (question, message) = Client::new(1)
            .request(&Request::Lifecycle(request), &mut room)
            .expect("room");
        let (answer, _) = server.handle(message, device, &App, &mut out);
        refused = match question.answer(answer) {
            Ok(_) => None,
            Err(Failure::Refused(refusal)) => refusal.reason,
            Err(other) => panic!("{other:?}"),
        };
        Ok(())
    };
    life.body.app(sim, ask).expect("opens");
    refused
}

/// Before its deployment a device is at its station, and whoever holds the wire may ask. After it nobody on the wire
/// ends its life, nor its world; its own application may.
#[test]
fn a_deployed_device_takes_no_steps_over_the_wire() {
    let mut life = life();
    for state in [Lifecycle::Provisioned, Lifecycle::Deployed] {
        assert_eq!(
            on_wire(&life, &mut life.sim.clone(), LeaveDevelopment),
            None,
            "{state:?}"
        );
        let mut sim = life.sim.clone();
        assert_eq!(on_wire(&life, &mut sim, Advance(state)), None);
        // The same once more, as after an answer that was lost.
        assert_eq!(on_wire(&life, &mut sim, Advance(state)), None);
        let another = on_wire(&life, &mut sim, Advance(Lifecycle::Decommissioned));
        assert_eq!(another, Some(Reason::LifecycleStaged));
        life.sim = sim;
        assert_eq!(life.boot(), RUNS);
        assert_eq!(life.state(), state);
    }
    for request in [
        Advance(Lifecycle::Deployed),
        Advance(Lifecycle::Factory),
        Advance(Lifecycle::Rma),
        Advance(Lifecycle::Decommissioned),
        LeaveDevelopment,
    ] {
        let mut sim = life.sim.clone();
        life.body.app(&mut sim, |_| Ok(())).expect("opens");
        let before = sim.nor.cells().to_vec();
        assert_eq!(on_wire(&life, &mut sim, request), Some(Reason::LifecycleOnWire));
        assert!(sim.nor.cells() == before, "{request:?} over the wire changed the flash");
    }
    assert_eq!(life.step(Advance(Lifecycle::Decommissioned)), ENDED);
}

/// An image on trial has proved nothing yet; one that waits for its trial, or another request, comes first.
#[test]
fn during_a_trial_or_before_a_swap_nothing_is_asked() {
    let mut life = life();
    let end = Advance(Lifecycle::Decommissioned);
    let mut other = life.sim.clone();
    life.ask(&mut other, Advance(Lifecycle::Deployed)).expect("allowed");
    let refused = life.ask(&mut other, end);
    assert!(refused.is_err_and(|what| what.starts_with("1023 ")));

    let newer = life.body.make("newer", 1400, 4);
    let Life { body, sim, .. } = &mut life;
    body.app(sim, |device| device.erase_staging()).expect("erased");
    body.stage(&mut sim.nor, &newer.bytes);
    body.app(sim, |device| device.request_swap(None, SwapType::Test))
        .expect("a request");
    life.refuses(end, 1010);
    assert_eq!(life.boot(), Boot::Runs("newer", true));
    life.refuses(end, 613);
    // Past everything that the application checks: declined for good, whatever becomes of the trial.
    let mut sim = life.sim.clone();
    forge(&mut sim.nor, &life.body, MailKind::Lifecycle, &end.to_bytes());
    assert_eq!(life.body.boot(&mut sim, Reset::Watchdog), Ok(RUNS));
    let event = life
        .body
        .app(&mut sim, |device| device.mail_event().map_err(Into::into));
    let event = event.expect("opens").expect("a note");
    assert_eq!((event.kind, event.reason), (BootEventKind::Declined, 613));
    assert_eq!(life.body.boot(&mut sim, Reset::Power), Ok(RUNS), "answered once");
}

/// Root, list, secrets and pending work of development are nowhere any more; counters, lifecycle and time floor stay;
/// only a production root is taken, and then production's image runs and follows production's releases.
#[test]
fn a_device_leaves_development_for_production() {
    for scheme in [Scheme::TestOnlyHash, Scheme::Ed25519, Scheme::P256] {
        let mut life = Life::new(Shape::small(4, 0xff, true), scheme, 1500);
        assert_eq!(life.step(Advance(Lifecycle::Provisioned)), RUNS);
        // A root of development that waits for the bootloader has no chance either.
        life.stage_further_root();
        let start = life.sim.clone();
        life.judge_without_world(&start.nor)
            .expect_err("secrets and keys are there");
        let before = life.header();
        assert_eq!(life.step(LeaveDevelopment), NO_ROOT, "{scheme:?}");
        let nor = life.sim.nor.clone();
        life.judge_without_world(&nor).expect("nothing is left");
        life.judge_nothing_pending(&nor).expect("nothing is left");
        let header = life.header();
        assert_eq!((header.counters, header.time_floor), (before.counters, TIME_FLOOR));
        assert_eq!(
            (header.lifecycle, header.root_len, header.list_len),
            (Lifecycle::Provisioned, 0, 0)
        );
        assert_eq!((header.pinned, header.wiping), (None, false));

        let development = life.body.authority.trust_root.build();
        let mut further = life.body.authority.trust_root.next();
        further.signers = vec![life.body.authority.root.clone()];
        let before = life.sim.nor.cells().to_vec();
        let root =
            |life: &mut Life, file: &[u8]| offer(&life.body, &mut life.sim, Reason::NoRoot, Destination::Root, file);
        assert_eq!(root(&mut life, &development), Err(1025));
        assert_eq!(root(&mut life, &further.build()), Err(1025));
        let image = life.product.bytes.clone();
        let no_root = offer(&life.body, &mut life.sim, Reason::NoRoot, Destination::Image, &image);
        assert_eq!(no_root, Err(940));
        assert!(life.sim.nor.cells() == before, "refusals change nothing");
        let info = device_info(&life.body, &mut life.sim, Reason::NoRoot);
        assert_eq!(
            (info.lifecycle, info.root, info.counter),
            (Lifecycle::Provisioned, None, 3)
        );

        goes_on_in_production(&mut life);
    }
}

fn goes_on_in_production(life: &mut Life) {
    let root = life.production.build();
    let given = offer(&life.body, &mut life.sim, Reason::NoRoot, Destination::Root, &root);
    assert_eq!(given, Ok(()));
    let again = offer(&life.body, &mut life.sim, Reason::NoRoot, Destination::Root, &root);
    assert_eq!(again, Err(1012));
    assert_eq!(
        life.boot(),
        Boot::Recovery(Reason::NoBootableImage),
        "the development image stands there"
    );
    let header = life.header();
    assert_eq!((header.counters[0], header.lifecycle), (3, Lifecycle::Provisioned));
    assert_eq!(header.time_floor, TIME_FLOOR);
    let recovery = |life: &mut Life, image: &[u8]| {
        let reason = Reason::NoBootableImage;
        offer(&life.body, &mut life.sim, reason, Destination::Image, image)
    };
    let development = life.old.bytes.clone();
    assert_eq!(recovery(life, &development), Err(907));
    let key = Key::new(life.body.authority.scheme, "production image");
    let low = Image::new(77, 900, &Identity::DEMO, 2, from_ref(&key)).build();
    assert_eq!(recovery(life, &low), Err(610), "the counter of development holds");
    life.sim.note(|ledger| ledger.confirming = Some("product"));
    let product = life.product.bytes.clone();
    assert_eq!(recovery(life, &product), Ok(()));
    assert_eq!(life.boot(), Boot::Runs("product", false));
    life.body.boot_steady(&mut life.sim, "product").expect("steady");
    life.judge_without_secrets(&life.sim.nor.clone())
        .expect("nothing came back");

    // Its releases count from 1 again, and nothing of development is left to leave.
    life.refuses(LeaveDevelopment, 1024);
    let next = life.body.make_signed("next", 1300, 4, &[&key]);
    let release = Release::new(1, next.bytes, 4, from_ref(&life.release)).build();
    let Life { body, sim, .. } = life;
    assert_eq!(body.install(sim, &release, 700), Ok(Step::Staged));
    body.app(sim, |device| device.request_swap(None, SwapType::Test))
        .expect("a request");
    body.boot_to(sim, Reset::Software, "next", true).expect("a trial");
    body.confirm(sim, "next").expect("confirmed");
    body.boot_to(sim, Reset::Software, "next", false).expect("stays");
}

/// An image that a stricter root of development still lets start does not start under a production root.
#[test]
fn a_pin_does_not_outlive_development() {
    let mut life = life();
    let stricter = life.body.authority.trust_root.next();
    let key = Key::new(Scheme::TestOnlyHash, "next image");
    let stricter = stricter
        .role(6, 1, &[&key])
        .signed(&[&life.body.authority.root.clone()]);
    forge(&mut life.sim.nor, &life.body, MailKind::Root, &stricter.build());
    assert_eq!(life.boot(), RUNS);
    assert_eq!(life.header().pinned, Some(life.old.digest()));
    assert_eq!(life.step(LeaveDevelopment), NO_ROOT);
    let root = life.production.build();
    assert_eq!(
        offer(&life.body, &mut life.sim, Reason::NoRoot, Destination::Root, &root),
        Ok(())
    );
    assert_eq!(life.boot(), Boot::Recovery(Reason::NoBootableImage));
}

/// A device of production has nothing to leave, at either door.
#[test]
fn a_production_device_does_not_leave_its_world() {
    let mut life = production();
    life.refuses(LeaveDevelopment, 1024);
    life.declines(&LeaveDevelopment.to_bytes(), 1024);
}

/// Back for analysis: the secrets are gone, and what is to be analysed is there and runs.
#[test]
fn a_returned_device_has_no_secrets_and_still_runs() {
    for mut life in [life(), production()] {
        assert_eq!(life.step(Advance(Lifecycle::Deployed)), RUNS);
        let before = life.header();
        assert_eq!(life.step(Advance(Lifecycle::Rma)), RUNS);
        life.judge_without_secrets(&life.sim.nor.clone())
            .expect("no secret is left");
        let header = life.header();
        assert_eq!((header.lifecycle, header.wiping), (Lifecycle::Rma, false));
        assert_eq!((header.root_len, header.list_len), (before.root_len, before.list_len));
        let Life { body, sim, .. } = &mut life;
        let pending = body.app(sim, |device| Ok(device.state().pending));
        assert!(
            pending.expect("opens").is_some(),
            "what it was doing is kept for analysis"
        );
        body.boot_steady(sim, "old").expect("steady");
        life.refuses(Advance(Lifecycle::Deployed), 1020);
        assert_eq!(
            on_wire(&life, &mut life.sim.clone(), Advance(Lifecycle::Decommissioned)),
            Some(Reason::LifecycleOnWire)
        );
        assert_eq!(life.step(Advance(Lifecycle::Decommissioned)), ENDED);
        let nor = life.sim.nor.clone();
        life.judge_without_world(&nor).expect("nothing is left");
        life.judge_nothing_pending(&nor).expect("nothing is left");
    }
}

/// Nothing starts any more, nothing is taken, nothing is left but what the bootloader remembers.
#[test]
fn a_decommissioned_device_is_at_its_end() {
    for mut life in [life(), production()] {
        let told = told_of(&life, Advance(Lifecycle::Decommissioned));
        assert_eq!(told, Some((BootEventKind::Taken, 5)));
        assert_eq!(life.step(Advance(Lifecycle::Decommissioned)), ENDED);
        let nor = life.sim.nor.clone();
        life.judge_without_world(&nor).expect("nothing is left");
        life.judge_nothing_pending(&nor).expect("nothing is left");
        for area in [life.body.layout.primary, life.body.layout.secondary] {
            let erased = life.body.area(&life.sim.nor, area).iter().all(|byte| *byte == 0xff);
            assert!(erased, "{area:x?}");
        }
        let header = life.header();
        assert_eq!(
            (header.lifecycle, header.root_len, header.wiping),
            (Lifecycle::Decommissioned, 0, false)
        );
        assert_eq!((header.counters[0], header.time_floor), (3, TIME_FLOOR));
        let info = device_info(&life.body, &mut life.sim, Reason::Decommissioned);
        assert_eq!(
            (info.lifecycle, info.last),
            (Lifecycle::Decommissioned, Some(Reason::Decommissioned))
        );
        let before = life.sim.nor.cells().to_vec();
        let (root, image) = (life.production.build(), life.product.bytes.clone());
        let development = life.body.authority.trust_root.build();
        for (destination, file) in [
            (Destination::Root, &root),
            (Destination::Root, &development),
            (Destination::Image, &image),
            (Destination::Image, &life.old.bytes.clone()),
        ] {
            let refused = offer(&life.body, &mut life.sim, Reason::Decommissioned, destination, file);
            assert_eq!(refused, Err(944));
        }
        let back = Request::Lifecycle(Advance(Lifecycle::Factory));
        let refused = refusal(&life.body, &mut life.sim, Reason::Decommissioned, &back);
        assert_eq!(refused, Some(1018), "a bootloader is not asked");
        assert!(life.sim.nor.cells() == before, "refusals change nothing");
        // Whoever writes the mailbox brings nothing back.
        for request in [Advance(Lifecycle::Factory), LeaveDevelopment] {
            forge(&mut life.sim.nor, &life.body, MailKind::Lifecycle, &request.to_bytes());
            assert_eq!(life.boot(), ENDED);
            assert_eq!(told_of(&life, request), Some((BootEventKind::Declined, 0)));
            assert_eq!(life.state(), Lifecycle::Decommissioned);
        }
    }
}

/// What the bootloader notes of this request, and the state that it noted.
fn told_of(life: &Life, request: LifecycleRequest) -> Option<(BootEventKind, u32)> {
    let mut nor = life.sim.nor.clone();
    forge(&mut nor, &life.body, MailKind::Lifecycle, &request.to_bytes());
    engine::lifecycle::run(&mut nor, &life.body.board(), &mut [0; 2048]);
    let event = engine::bootlog::last_that(&mut nor, &life.body.layout, |event| event.kind.is_of_mail());
    event.expect("a log").map(|event| (event.kind, event.version.3))
}

/// A bootloader that cannot carry steps out still knows what was decided.
#[test]
fn a_bootloader_without_lifecycles_starts_nothing_after_a_decision() {
    for (request, reason) in [
        (Advance(Lifecycle::Rma), Reason::WipeUnfinished),
        (Advance(Lifecycle::Decommissioned), Reason::WipeUnfinished),
        (LeaveDevelopment, Reason::WipeUnfinished),
    ] {
        let mut life = life();
        let mut sim = life.sim.clone();
        life.ask(&mut sim, request).expect("allowed");
        // The decision is written; the first erase of a secret fails.
        let first = life.body.layout.sealed[0];
        let mut root = [0; 2048];
        engine::lifecycle::run(&mut Worn(&mut sim.nor, first.start), &life.body.board(), &mut root);
        assert!(life.header_of(&mut sim.nor).expect("a store").wiping);
        assert_eq!(without_lifecycles(&life, &mut sim.nor), reason, "{request:?}");
        for (destination, file) in [
            (Destination::Root, life.production.build()),
            (Destination::Image, life.old.bytes.clone()),
        ] {
            let refused = offer(&life.body, &mut sim, reason, destination, &file);
            assert_eq!(refused, Err(945), "{request:?}");
        }
        life.sim = sim;
        life.boot();
        let end = match request {
            Advance(Lifecycle::Decommissioned) => Reason::Decommissioned,
            LeaveDevelopment => Reason::NoRoot,
            Advance(_) => continue,
        };
        assert_eq!(without_lifecycles(&life, &mut life.sim.nor.clone()), end);
    }
}

fn without_lifecycles(life: &Life, nor: &mut Nor) -> Reason {
    let (mut root, mut scratch) = ([0; 2048], [0; 256]);
    let buffers = Buffers {
        root: &mut root,
        scratch: &mut scratch,
    };
    match engine::boot::run(nor, &life.body.board(), Reset::Power, buffers) {
        Outcome::Recovery(reason) => reason,
        Outcome::Start(_) => panic!("an image starts after the decision"),
    }
}

/// A flash of which the sector at this address no longer erases.
struct Worn<'n>(&'n mut Nor, u32);

impl Flash for Worn<'_> {
    fn write_size(&self) -> u32 {
        self.0.write_size()
    }
    fn erased(&self) -> u8 {
        self.0.erased()
    }
    fn size(&self) -> u32 {
        self.0.size()
    }
    fn sector(&self, address: u32) -> Option<Sector> {
        self.0.sector(address)
    }
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        self.0.read(address, out)
    }
    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.write(address, bytes)
    }
    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        match sector.start == self.1 {
            true => Err(FlashError::Device),
            false => self.0.erase(sector),
        }
    }
}

/// A place for secrets that is worn keeps no other secret from being erased, and the device from starting.
#[test]
fn a_worn_sector_keeps_a_device_from_starting_and_no_other_secret_from_going() {
    let life = life();
    let layout = life.body.layout;
    let places = [layout.sealed[0], layout.sealed[1], layout.device_key, layout.entropy];
    for worn in places {
        let mut sim = life.sim.clone();
        life.ask(&mut sim, Advance(Lifecycle::Rma)).expect("allowed");
        for _ in 0..2 {
            engine::lifecycle::run(&mut Worn(&mut sim.nor, worn.start), &life.body.board(), &mut [0; 2048]);
            assert_eq!(without_lifecycles(&life, &mut sim.nor), Reason::WipeUnfinished);
        }
        for area in places.into_iter().filter(|area| *area != worn) {
            assert!(
                life.body.area(&sim.nor, area).iter().all(|byte| *byte == 0xff),
                "{area:x?}"
            );
        }
        assert_eq!(life.body.boot(&mut sim, Reset::Power), Ok(RUNS), "once it erases");
        life.judge_without_secrets(&sim.nor).expect("no secret is left");
    }
}

/// A store of which no copy is whole decides nothing, and a part of the mailbox that is too small takes no request.
#[test]
fn what_cannot_be_judged_or_stored_is_refused() {
    let mut life = life();
    let mut sim = life.sim.clone();
    life.ask(&mut sim, Advance(Lifecycle::Decommissioned)).expect("allowed");
    for copy in life.body.layout.trust {
        sim.nor.corrupt(copy.start + 12, 1);
    }
    let boot = life.body.boot_unstored(&mut sim, Reset::Power);
    assert_eq!(boot, Ok(Boot::Recovery(Reason::StoreCorrupt)));
    life.judge_whole(&sim.nor).expect("nothing is erased");
    life.body.layout.mailbox.len = 4 * 64;
    life.refuses(Advance(Lifecycle::Deployed), 105);
}
