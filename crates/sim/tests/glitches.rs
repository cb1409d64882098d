//! A flash operation that fails once, done or not done, while the power stays: nothing panics, nothing wrong starts, what
//! fails says so (515), and after the next reset everything goes on.

use ampoule_sim::body::{Body, Boot, Made, Sim};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Authority, Scheme};
use ampoule_sim::nor::Fault;
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;

struct Desk {
    body: Body,
    new: Made,
    start: Sim,
}

impl Desk {
    fn new(shape: Shape) -> Desk {
        let mut body = Body::new(shape, Authority::new(Scheme::TestOnlyHash));
        let old = body.make("old", 1200, 1);
        let new = body.make("new", 2000, 2);
        let mut start = body.factory(&old);
        body.boot_to(&mut start, Reset::Power, "old", false).unwrap();
        Desk { body, new, start }
    }

    /// A device in the hands of a patient server: it is reset when it does not go on. True when the new image is confirmed.
    fn live(&self, sim: &mut Sim) -> Result<bool, String> {
        let file = self.body.authority.release(9, &self.new.bytes, 2).build();
        match self.body.boot(sim, Reset::Software)? {
            Boot::Runs("old", false) => {
                let staged = self.quietly(self.body.install(sim, &file, 777))?;
                if staged == Some(Step::Staged) {
                    self.quietly(self.body.app(sim, |device| device.request_swap(None, SwapType::Test)))?;
                }
                Ok(false)
            }
            Boot::Runs("new", true) => {
                self.quietly(self.body.confirm(sim, "new"))?;
                Ok(false)
            }
            Boot::Runs("new", false) => {
                self.quietly(self.body.app(sim, |_| Ok(())))?;
                // A counter that could not be written is written at the next boot.
                Ok(sim.ledger().committed == Some(9) && self.body.counter(&mut sim.nor) == Some(2))
            }
            // Recovery for want of a working flash: the next reset tries again.
            Boot::Recovery(reason) if reason.number() == 515 => Ok(false),
            other => Err(format!("{other:?}")),
        }
    }

    /// A failed flash may be said (515) and tried again; nothing else may go wrong.
    fn quietly<T>(&self, result: Result<T, String>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(what) if what.starts_with("515 ") => Ok(None),
            Err(what) => Err(what),
        }
    }

    /// Lives until the new image is confirmed. Returns how many resets that took.
    fn live_on(&self, sim: &mut Sim) -> Result<u32, String> {
        for resets in 1..=12 {
            if self.live(sim)? {
                return Ok(resets);
            }
        }
        Err(format!("not confirmed after 12 resets: {:?}", sim.ledger()))
    }
}

#[test]
fn one_failing_operation_delays_and_spoils_nothing() {
    let mut tried = 0;
    for shape in shapes(Shape::small) {
        let desk = Desk::new(shape);
        let mut sim = desk.start.clone();
        let first = sim.nor.operations();
        let usual = desk.live_on(&mut sim).unwrap();
        for operation in first..sim.nor.operations() {
            for fault in [Fault::GlitchBefore, Fault::GlitchAfter] {
                let mut sim = desk.start.clone();
                sim.nor.plan(operation, fault);
                let resets = desk
                    .live_on(&mut sim)
                    .unwrap_or_else(|what| panic!("{shape} {operation} {fault:?}: {what}"));
                assert!(
                    resets <= usual + 3,
                    "{shape} {operation} {fault:?}: {resets} resets instead of {usual}"
                );
                tried += 1;
            }
        }
    }
    println!("{tried} failing operations");
}
