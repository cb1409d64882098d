//! Power cuts on a board: SIGKILL at random moments of a swap, of a revert and of an installation over the wire.
//!
//! After every burst of cuts the board is started once more, and the laws are checked by the host: an image of the
//! authority runs, byte for byte, the counter did not fall, and in the end the update completes. SIGKILL leaves an exact
//! prefix of the board's stores in the flash file; torn words are the business of `swap_cuts.rs` and `install_story.rs`.
//!
//! `AMPOULE_SEED=<number>` chooses the moments, `AMPOULE_CUTS=<number>` how many cuts there are at least.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ampoule_sim::bench::Bench;
use ampoule_sim::chance::Chance;
use ampoule_sim::firmware::Build;
use ampoule_sim::fixture::Scheme;
use ampoule_sim::nor::Nor;
use ampoule_sim::qemu::{Board, Options};
use ampoule_sim::smp::SmpClient;
use ampoule_sim::station::{Sight, Station};
use codec::mcuboot::trailer::SwapType;
use codec::smp::Request as Ask;
use codec::smp::client::Destination;
use engine::journal::Progress;
use engine::swap::Request;

/// How long the board may take for a step, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Cuts in all, unless the environment says otherwise.
const CUTS: u32 = 210;
/// Bytes of an image whose swap takes long enough to be hit.
const LONG_BYTES: usize = 192 * 1024;
/// No swap is faster than this.
const SWAP_MIN: Duration = Duration::from_millis(2);
/// The longest that an upload goes on before its cut: several are needed to bring a release.
const UPLOAD_MAX: Duration = Duration::from_millis(1200);
/// Cuts one after the other, before a start is left alone: 1 to this.
const BURST_MAX: u64 = 4;
/// Starts within which something must run or recovery must answer.
const STARTS_MAX: usize = 3;

#[test]
fn at_every_moment_the_power_may_fail() {
    let seed = from_environment("AMPOULE_SEED").unwrap_or(0x51_6b11);
    let cuts = from_environment("AMPOULE_CUTS").map_or(CUTS, |cuts| cuts as u32);
    let line = Line::new();
    let begun = Instant::now();
    // A swap takes milliseconds and an upload seconds: one worker each keeps both cores busy.
    thread::scope(|scope| {
        let swaps = scope.spawn(|| line.swaps_and_reverts(seed, cuts.div_ceil(4) * 3));
        let installs = scope.spawn(|| line.installations(seed, cuts.div_ceil(4)));
        for worker in [swaps, installs] {
            if let Err(panic) = worker.join() {
                println!("AMPOULE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    });
    let hits = line.hits();
    let total: u32 = hits.values().sum();
    println!(
        "{total} power cuts in {} s, seed {seed}; they hit:",
        begun.elapsed().as_secs()
    );
    for (place, count) in &hits {
        println!("{count:6}  {place}");
    }
    assert!(total >= cuts, "{total} cuts");
    for place in ["in the swap", "in the revert", "chunks being written"] {
        let hit = hits.contains_key(place);
        assert!(hit, "no cut hit {place:?}");
    }
}

/// The product line and its two versions: 1 is confirmed at the factory, 2 is what the update brings.
struct Line {
    station: Station,
    /// As long as their programs: quick to send.
    short: Update,
    /// As long as a large application: slow to swap.
    long: Update,
    hits: Mutex<BTreeMap<&'static str, u32>>,
}

/// Two images and the release that leads from one to the other.
struct Update {
    images: [Vec<u8>; 2],
    release: Vec<u8>,
}

impl Line {
    fn new() -> Line {
        let (bench, one) = Bench::new(Scheme::P256, &Build::version("1.0.0")).expect("a bench");
        let two = Build::version("2.0.0").behaving("patient").run();
        let programs = [one, two.expect("the firmware builds")];
        let update = |len| {
            let images = [1, 2].map(|number: u8| {
                let program = &programs[usize::from(number - 1)];
                let image = bench.image(program, (number, 0, 0), number.into(), len);
                image.expect("an image")
            });
            let release = bench.release(2, &images[1], 2);
            Update { images, release }
        };
        Line {
            short: update(0),
            long: update(LONG_BYTES),
            station: Station::new(bench),
            hits: Mutex::new(BTreeMap::new()),
        }
    }

    /// Cuts while version 2 moves in, and while it moves out again.
    fn swaps_and_reverts(&self, seed: u64, cuts: u32) {
        let factory = self.station.factory(&self.long.images[0]);
        let staged = self.station.staged(factory, &self.long.release);
        let tried = self.on_trial(&staged);
        let mut spans = [&staged, &tried].map(|flash| self.boot_times(flash));
        println!("uncut: {spans:?}");
        let mut done = 0;
        for round in 0.. {
            if done >= cuts {
                return;
            }
            let mut chance = Chance::new(Chance::mix(seed, round));
            let (flash, span) = match round % 5 {
                0..3 => (&staged, &mut spans[0]),
                _ => (&tried, &mut spans[1]),
            };
            let mut life = Life::new(self, &self.long, "swap.bin", flash);
            for _ in 0..=chance.below(BURST_MAX) {
                // Most of a boot is the judging of images; every second cut waits for the swap.
                match chance.below(2) {
                    0 => life.cut_in_boot(moment(&mut chance, span.boot)),
                    _ => {
                        let hit = life.cut_in_swap(span.boot, moment(&mut chance, span.swap));
                        span.learn(hit);
                    }
                }
                done += 1;
            }
            life.settle();
            // An update to its end takes as long as many cuts: every eighth.
            if round % 8 == 0 {
                life.complete();
            }
        }
    }

    /// Cuts while the release travels and what follows it.
    fn installations(&self, seed: u64, cuts: u32) {
        let factory = self.station.factory(&self.short.images[0]);
        let span = self.install_time(&factory).min(UPLOAD_MAX);
        println!("uploads are cut within {span:?}");
        let mut done = 0;
        for round in 0.. {
            if done >= cuts {
                return;
            }
            let mut chance = Chance::new(Chance::mix(!seed, round));
            let mut life = Life::new(self, &self.short, "install.bin", &factory);
            while !life.is_past_staging() && done < cuts {
                life.cut_in_install(moment(&mut chance, span));
                done += 1;
            }
            life.settle();
            life.complete();
        }
    }

    /// A flash on which version 2 had its trial and was not confirmed.
    fn on_trial(&self, staged: &Nor) -> Nor {
        let mut life = Life::new(self, &self.long, "swap.bin", staged);
        let mut board = life.start();
        wait(&mut board, "app: self-test passed");
        drop(board);
        life.look().0
    }

    /// How long this flash takes to boot when nobody cuts.
    fn boot_times(&self, flash: &Nor) -> Span {
        let life = Life::new(self, &self.long, "swap.bin", flash);
        let mut board = life.start();
        wait(&mut board, "boot: ");
        let begun = Instant::now();
        life.until_swapping(PATIENCE);
        let swapping = Instant::now();
        wait(&mut board, "boot: starting ");
        Span {
            boot: begun.elapsed(),
            swap: swapping.elapsed(),
        }
    }

    /// From the application's first word to the end of an upload.
    fn install_time(&self, flash: &Nor) -> Duration {
        let life = Life::new(self, &self.short, "install.bin", flash);
        let mut board = life.start();
        wait(&mut board, "app: version ");
        let begun = Instant::now();
        upload(&mut board, &self.short.release);
        begun.elapsed()
    }

    fn note(&self, place: &'static str) {
        *self
            .hits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(place)
            .or_insert(0) += 1;
    }

    fn hits(&self) -> BTreeMap<&'static str, u32> {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long a boot takes.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// From the board's first word to the start of an image.
    boot: Duration,
    /// The part of it in which sectors move, and what follows.
    swap: Duration,
}

impl Span {
    /// What else the machine does makes a swap slow now and fast then; cuts that come too late teach nothing else.
    fn learn(&mut self, hit: bool) {
        self.swap = match hit {
            true => self.swap * 5 / 4,
            false => (self.swap * 3 / 4).max(SWAP_MIN),
        };
    }
}

/// One board through its cuts.
struct Life<'l> {
    line: &'l Line,
    update: &'l Update,
    flash: PathBuf,
    /// The largest counter seen: it never falls.
    counter: u32,
    /// Whether version 2 was confirmed.
    confirmed: bool,
}

impl<'l> Life<'l> {
    fn new(line: &'l Line, update: &'l Update, name: &str, flash: &Nor) -> Life<'l> {
        let file = line.station.file(name);
        line.station.write(flash, &file);
        Life {
            line,
            update,
            flash: file,
            counter: 0,
            confirmed: false,
        }
    }

    fn start(&self) -> Board {
        let board = Board::start(&self.flash, &self.line.station.bench.bootloader, &Options::default());
        board.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Starts the board and cuts its power so long after its first word.
    fn cut_in_boot(&mut self, after: Duration) {
        let mut board = self.start();
        wait(&mut board, "boot: ");
        thread::sleep(after);
        board.cut_power();
        self.judge_cut();
    }

    /// Starts the board and cuts its power so long after the swap began, which is within the time of a boot or never.
    /// Returns whether the swap was still under way.
    fn cut_in_swap(&mut self, boot: Duration, after: Duration) -> bool {
        let mut board = self.start();
        wait(&mut board, "boot: ");
        self.until_swapping(boot);
        thread::sleep(after);
        board.cut_power();
        matches!(self.judge_cut(), Request::Resume(_))
    }

    /// Until the flash says that a swap is under way, or so long.
    fn until_swapping(&self, limit: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < limit && !self.line.station.is_swapping(&self.flash) {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Starts the board, sends the release to it, and cuts its power so long after the application's first word.
    fn cut_in_install(&mut self, after: Duration) {
        let mut board = self.start();
        wait(&mut board, "app: version ");
        let mut wire = board.smp().try_clone().expect("the socket");
        let release = &self.update.release;
        thread::scope(|scope| {
            scope.spawn(move || {
                // However far it comes: the cut ends it.
                let mut smp = SmpClient::new(&mut wire);
                let _ = smp.upload(Destination::Image, release).and_then(|_| smp.try_staged());
            });
            thread::sleep(after);
            board.cut_power();
        });
        self.judge_cut();
    }

    /// What the cut left: the counter holds, and the place is noted. Returns what the bootloader has to do next.
    fn judge_cut(&mut self) -> Request {
        let (_, sight) = self.look();
        self.line.note(place(&sight));
        sight.request
    }

    /// The flash, and the law of counters.
    fn look(&mut self) -> (Nor, Sight) {
        let mut nor = self.line.station.read(&self.flash);
        let sight = self.line.station.look(&mut nor);
        let counter = sight.counter.expect("the trust store is readable at every moment");
        assert!(
            counter >= self.counter,
            "the counter fell from {} to {counter}",
            self.counter
        );
        self.counter = counter;
        (nor, sight)
    }

    fn is_past_staging(&mut self) -> bool {
        let (_, sight) = self.look();
        let requested = |progress| matches!(progress, Progress::Staged { requested: true, .. });
        sight.request != Request::None
            || sight.journal.ending.is_some()
            || sight.journal.pending.is_some_and(|pending| requested(pending.progress))
    }

    /// Leaves the board alone: within three starts an image of the authority runs, or recovery answers, which these
    /// flashes give no reason for.
    fn settle(&mut self) {
        let mut board = self.start();
        for _ in 0..STARTS_MAX {
            let texts = ["boot: starting ", "boot: nothing may start, reason "];
            let (number, rest) = board.wait_for_any(&texts, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(number, 0, "recovery, reason {rest}, in {}", self.flash.display());
            // That it starts is the bootloader's claim; the application's first word shows that it runs.
            let texts = ["app: version ", "boot: "];
            let (number, version) = board.wait_for_any(&texts, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
            if number == 0 {
                board.cut_power();
                return self.judge_running(&rest, &version);
            }
        }
        panic!("nothing runs after {STARTS_MAX} starts\n{}", board.console());
    }

    fn judge_running(&mut self, start: &str, version: &str) {
        let (nor, _) = self.look();
        let running = self.line.station.running(&nor, &self.update.images);
        let running = running.unwrap_or_else(|| panic!("{start} is no image of the authority"));
        let (number, expected) = if *running == self.update.images[0] {
            ("1.0.0", "1.0.0+0 confirmed")
        } else if self.confirmed {
            ("2.0.0", "2.0.0+0 confirmed")
        } else {
            ("2.0.0", "2.0.0+0 trial")
        };
        assert_eq!(start, expected);
        assert!(version.starts_with(number), "{version} in the slot of {number}");
    }

    /// Brings the release to a board that went back: over the wire, or by the host's engine when it is long.
    fn offer_again(&mut self, mut board: Board) -> Board {
        if self.update.release.len() > LONG_BYTES {
            drop(board);
            let (nor, _) = self.look();
            let station = &self.line.station;
            station.write(&station.staged(nor, &self.update.release), &self.flash);
            return self.start();
        }
        wait(&mut board, "app: self-test passed");
        upload(&mut board, &self.update.release);
        if let Err(error) = SmpClient::new(board.smp()).try_staged() {
            panic!("{error:?}\n{}", board.console());
        }
        board
    }

    /// Whatever happened, the update can be brought to its end: version 2, confirmed, its counter the floor.
    fn complete(&mut self) {
        let mut board = self.start();
        let texts = ["app: version 2.0.0", "app: version 1.0.0"];
        let (mut number, _) = board.wait_for_any(&texts, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
        if number == 1 {
            board = self.offer_again(board);
            (number, _) = board.wait_for_any(&texts, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
        }
        assert_eq!(number, 0, "version 2 does not come\n{}", board.console());
        wait(&mut board, "app: self-test passed");
        SmpClient::new(board.smp())
            .tell(&Ask::SetImageState {
                hash: None,
                confirm: true,
            })
            .unwrap_or_else(|e| panic!("{e:?}\n{}", board.console()));
        board.cut_power();
        self.confirmed = true;
        self.settle();
        assert_eq!(self.counter, 2, "the counter follows the confirmed image");
    }
}

/// What the board was at when its power failed.
fn place(sight: &Sight) -> &'static str {
    match (sight.request, sight.journal.pending.map(|pending| pending.progress)) {
        (Request::Resume(SwapType::Revert), _) => "in the revert",
        (Request::Resume(_), _) => "in the swap",
        (Request::Test | Request::Permanent, _) => "swap asked for, not begun",
        (Request::Revert, _) => "on trial, or the revert being prepared",
        (Request::None, None) if sight.journal.ending.is_some() => "version 1 back again",
        (Request::None, None) => "installation not begun",
        (Request::None, Some(Progress::Admitted)) => "installation admitted, head being stored",
        (Request::None, Some(Progress::HeadStored)) => "head stored, staging being erased",
        (Request::None, Some(Progress::Payload { .. })) => "chunks being written",
        (Request::None, Some(Progress::Staged { requested: false, .. })) => "staged",
        (Request::None, Some(Progress::Staged { requested: true, .. })) => "around the request, or after the revert",
    }
}

fn upload(board: &mut Board, release: &[u8]) {
    if let Err(error) = SmpClient::new(board.smp()).upload(Destination::Image, release) {
        panic!("{error:?}\n{}", board.console());
    }
}

fn wait(board: &mut Board, text: &str) {
    board.wait_for(text, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
}

/// A moment up to a tenth behind the end of this span.
fn moment(chance: &mut Chance, span: Duration) -> Duration {
    Duration::from_nanos(chance.below(span.as_nanos() as u64 / 10 * 11))
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
