//! Power cuts at every operation of a rotation: staged, committed, followed by a release of the new keys, confirmed; and of
//! a list that revokes the key of the image that runs; of two roots in a row and a time. After any cut the device runs an image that is authorised or
//! pinned, holds root N or N+1, and gets to the end by being sent the same file again.

use ampoule_sim::body::{Body, Boot, Made, Sim, ensure};
use ampoule_sim::cuts::{Campaign, Findings, Nested, Tally, explore};
use ampoule_sim::device::{Shape, shapes};
use ampoule_sim::fixture::{Scheme, revocation_list, time_file};
use ampoule_sim::line::Line;
use codec::mcuboot::trailer::SwapType;
use engine::boot::Reset;
use engine::install::Step;

fn soak() -> bool {
    std::env::var_os("AMPOULE_SOAK").is_some()
}

/// A device, what it is sent, and what may start under which root.
struct Story {
    line: Line,
    old: Made,
    /// A chain, and a release behind it.
    file: Vec<u8>,
    /// The version of the last root in it, and the time that it brings.
    version: u64,
    time: u64,
    piece: usize,
}

/// How often a sender tries: once per step of the chain, and once more.
const SENDINGS_MAX: usize = 4;
/// Seconds since 1970 that a time file says.
const TIME: i64 = 1_800_000_000;

impl Story {
    /// Root 2, which drops every key of root 1, in front of a release of the new keys.
    fn stricter(shape: Shape, scheme: Scheme, lens: (usize, usize), piece: usize) -> Story {
        Story::of(shape, scheme, lens, piece, |line| vec![line.second().build()])
    }

    /// Root 2 names a further image key; the list revokes the old one.
    fn revoking(shape: Shape, scheme: Scheme, lens: (usize, usize), piece: usize) -> Story {
        Story::of(shape, scheme, lens, piece, |line| {
            let keys = &line.keys;
            let spare = line.second().role(6, 1, &[&keys.image, &keys.next_image]);
            let list = revocation_list(1, line.first.id, &[&keys.image], &[&keys.revoke]);
            vec![spare.build(), list]
        })
    }

    /// Root 2, which drops every key of root 1, root 3 and the time, for a device that slept.
    fn walking(shape: Shape, scheme: Scheme, lens: (usize, usize), piece: usize) -> Story {
        let story = Story::of(shape, scheme, lens, piece, |line| {
            let second = line.second();
            let third = second.clone().next().signed(&[&line.keys.next_root]);
            let time = time_file(TIME, line.first.id, &[&line.keys.distribute]);
            vec![second.build(), third.build(), time]
        });
        Story {
            version: 3,
            time: TIME as u64,
            ..story
        }
    }

    fn of(shape: Shape, scheme: Scheme, lens: (usize, usize), piece: usize, chain: fn(&Line) -> Vec<Vec<u8>>) -> Story {
        let mut line = Line::sized(shape, scheme, lens.0);
        let new = line
            .body
            .make_signed("new", lens.1, 2, &[&line.keys.next_image.clone()]);
        let mut file = chain(&line).concat();
        file.extend(line.release(9, &new, &line.keys.next_release.clone()));
        Story {
            old: line.old.clone(),
            line,
            file,
            version: 2,
            time: 0,
            piece,
        }
    }

    fn body(&self) -> &Body {
        &self.line.body
    }

    /// One reset; only an image that is authorised under the stored root and list, or pinned, runs.
    fn boot(&self, sim: &mut Sim, reset: Reset) -> Result<Boot, String> {
        let boot = self.body().boot(sim, reset)?;
        let version = self.body().root_version(&mut sim.nor);
        let pinned = self.body().store(&mut sim.nor).and_then(|store| store.header().pinned);
        let authorised = match boot {
            Boot::Runs("old", _) => version == Some(1) || pinned == Some(self.old.digest()) || !self.is_strict(sim),
            Boot::Runs("new", _) => version == Some(self.version),
            _ => false,
        };
        ensure(
            authorised && version.is_some_and(|version| (1..=self.version).contains(&version)),
            || format!("{boot:?} under root {version:?}, pinned {}", pinned.is_some()),
        )?;
        for lost in self.body().layout.trust {
            let mut nor = sim.nor.clone();
            nor.corrupt(lost.start + 150, 0x55);
            ensure(self.body().root_version(&mut nor) == version, || {
                "the other copy of the store holds another root".into()
            })?;
        }
        Ok(boot)
    }

    /// Whether what is stored no longer accepts the old image: the last step of the chain is stored.
    fn is_strict(&self, sim: &mut Sim) -> bool {
        let listed = self
            .body()
            .app(&mut sim.clone(), |device| Ok(device.list_number().is_some()));
        !self.file.windows(10).any(|window| window == b"amp-revoke") || listed == Ok(true)
    }

    /// As a server would: sends the file, resets the device when it says so, until the new image is confirmed.
    fn deliver(&self, sim: &mut Sim) -> Result<(), String> {
        for _ in 0..SENDINGS_MAX {
            match self.body().install(sim, &self.file, self.piece) {
                Ok(Step::Staged) => return self.try_and_confirm(sim),
                Err(refused) if refused.starts_with("812 ") => {
                    let boot = self.boot(sim, Reset::Software)?;
                    ensure(boot == Boot::Runs("old", false), || {
                        format!("{boot:?} after a rotation")
                    })?;
                }
                other => return Err(format!("{other:?}")),
            }
        }
        Err("the device goes in circles".into())
    }

    fn try_and_confirm(&self, sim: &mut Sim) -> Result<(), String> {
        self.body()
            .app(sim, |device| device.request_swap(None, SwapType::Test))?;
        let boot = self.boot(sim, Reset::Software)?;
        ensure(boot == Boot::Runs("new", true), || {
            format!("{boot:?} after the request")
        })?;
        self.confirm(sim)
    }

    fn confirm(&self, sim: &mut Sim) -> Result<(), String> {
        self.body().confirm(sim, "new")?;
        self.boot(sim, Reset::Software)?;
        self.body().app(sim, |_| Ok(()))?;
        self.judge_end(sim)
    }

    /// The new image for good, nothing pinned, nothing waiting, and a boot that writes nothing.
    fn judge_end(&self, sim: &mut Sim) -> Result<(), String> {
        self.body().boot_steady(sim, "new")?;
        let store = self.body().store(&mut sim.nor).ok_or("no store")?;
        ensure(store.header().pinned.is_none(), || "still pinned".into())?;
        ensure(store.header().time_floor == self.time, || {
            format!("the time is {}", store.header().time_floor)
        })?;
        ensure(self.body().root_version(&mut sim.nor) == Some(self.version), || {
            "not the last root".into()
        })?;
        ensure(sim.ledger().committed == Some(9), || {
            "the release is not committed".into()
        })?;
        let again = self.body().install(sim, &self.file, self.piece);
        ensure(again == Ok(Step::AlreadyInstalled), || {
            format!("the same file again: {again:?}")
        })
    }

    /// Life after a cut, wherever it was; can itself be cut anywhere and begun again.
    fn recover(&self, sim: &mut Sim) -> Result<(), String> {
        match self.boot(sim, Reset::Power)? {
            Boot::Runs("old", false) => {
                self.body().app(sim, |_| Ok(()))?;
                self.deliver(sim)
            }
            Boot::Runs("new", true) => self.confirm(sim),
            _ => {
                self.body().app(sim, |_| Ok(()))?;
                self.judge_end(sim)
            }
        }
    }

    fn cut(&self, name: String, torn: u32, nested: &[Nested]) -> Tally {
        let campaign = Campaign::new(name, torn, nested);
        explore(
            &campaign,
            &self.line.sim,
            |sim| self.deliver(sim),
            |sim| self.recover(sim),
        )
    }
}

#[test]
fn single_cuts_of_a_rotation_on_every_shape() {
    let torn = if soak() { 16 } else { 2 };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for (number, shape) in shapes(Shape::small).into_iter().enumerate() {
        let lens = [(1000, 2600), (2600, 1000)][number % 2];
        let piece = [100, 1500, 65536][number % 3];
        let story = Story::stricter(shape, Scheme::TestOnlyHash, lens, piece);
        total.add(findings.gather(|| story.cut(format!("rotation {shape}"), torn, &[])));
        let story = Story::revoking(shape, Scheme::TestOnlyHash, lens, piece);
        total.add(findings.gather(|| story.cut(format!("revocation {shape}"), torn, &[])));
        let story = Story::walking(shape, Scheme::TestOnlyHash, lens, piece);
        total.add(findings.gather(|| story.cut(format!("two roots and a time {shape}"), torn, &[])));
    }
    total.tell("single cuts of a rotation");
    findings.tell();
}

#[test]
fn pairs_of_cuts_of_a_rotation() {
    let everything = shapes(Shape::tiny);
    let chosen = [Shape::tiny(8, 0xff, true)];
    let chosen = if soak() { &everything[..] } else { &chosen };
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for &shape in chosen {
        let story = Story::stricter(shape, Scheme::TestOnlyHash, (500, 700), 300);
        let nested = [Nested::All { torn: 1 }];
        total.add(findings.gather(|| story.cut(format!("rotation pairs {shape}"), 1, &nested)));
    }
    total.tell("pairs of cuts of a rotation");
    findings.tell();
}

#[test]
fn cuts_in_a_row_of_a_rotation() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    for shape in shapes(Shape::small) {
        let story = Story::revoking(shape, Scheme::TestOnlyHash, (1400, 2200), 700);
        let nested = [Nested::Sample(if soak() { 12 } else { 1 }); 2];
        total.add(findings.gather(|| story.cut(format!("rotation rows {shape}"), 1, &nested)));
        let story = Story::walking(shape, Scheme::TestOnlyHash, (1400, 2200), 700);
        total.add(findings.gather(|| story.cut(format!("rows of two roots and a time {shape}"), 1, &nested)));
    }
    total.tell("cuts in a row of a rotation");
    findings.tell();
}

#[test]
fn single_cuts_of_a_rotation_with_real_signatures() {
    let (mut total, mut findings) = (Tally::default(), Findings::default());
    let story = Story::stricter(Shape::small(8, 0xff, true), Scheme::P256, (3000, 1600), 1500);
    total.add(findings.gather(|| story.cut("rotation P256".into(), 1, &[])));
    total.tell("rotation with real signatures");
    findings.tell();
}
