//! Where a device's randomness comes from, and whether it can be believed.
//!
//! A source is tested without pause as NIST SP 800-90B demands: 1,024 samples before the first that counts (section 4.3),
//! the repetition count test (4.4.1) and the adaptive proportion test (4.4.2) on every sample. One sample is one byte. A
//! source is trusted with one bit of min-entropy in a byte, whatever it promises, so that 512 bytes of it make one seed.
//! False alarms: one in 2^30 samples. A source that failed is not asked again until the next start.
//!
//! The tests find a source that is dead or stuck. They do not find one that somebody else knows.

use crate::digest::Sha256;
use codec::Reason;
use zeroize::Zeroize;

/// Samples that are tested and thrown away before the first that counts (SP 800-90B section 4.3).
pub const STARTUP_SAMPLES: usize = 1024;
/// Samples in one seed: 512 bits of min-entropy as claimed, twice what the seed has.
pub const SEED_SAMPLES: usize = 512;
/// As many equal samples in a row fail: 1 + 30 / 1 (SP 800-90B section 4.4.1, one bit a sample, false alarms of 2^-30).
pub const REPETITIONS_MAX: u32 = 31;
/// Samples of one window of the adaptive proportion test, for sources that are not binary.
pub const WINDOW_SAMPLES: u32 = 512;
/// A sample that is found as often in its window fails: 1 + CRITBINOM(512, 1/2, 1 - 2^-30) (SP 800-90B section 4.4.2).
pub const PROPORTION_MAX: u32 = 325;

/// Samples fetched at a time.
const BLOCK_BYTES: usize = 64;

/// A source of noise: a ring oscillator, an analogue input, or what stands in for one.
pub trait Entropy {
    /// Fills `out` with fresh samples, raw: nothing mixed in, none given twice.
    ///
    /// Error: 1104 it does not answer.
    fn samples(&mut self, out: &mut [u8]) -> Result<(), Reason>;
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn samples(&mut self, out: &mut [u8]) -> Result<(), Reason> {
        (**self).samples(out)
    }
}

/// No source at all: what needs one is refused (1104).
#[derive(Clone, Copy, Debug)]
pub struct NoEntropy;

impl Entropy for NoEntropy {
    fn samples(&mut self, _: &mut [u8]) -> Result<(), Reason> {
        Err(Reason::EntropyAbsent)
    }
}

/// A source under test.
#[derive(Debug)]
pub struct Tested<E> {
    source: E,
    health: Health,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Untested,
    Good,
    Failed,
}

impl<E: Entropy> Tested<E> {
    /// A source that was not asked yet.
    pub fn new(source: E) -> Tested<E> {
        Tested {
            source,
            health: Health::default(),
            state: State::Untested,
        }
    }

    /// A fresh secret of 256 bits: SHA-256 over [`SEED_SAMPLES`] samples that passed (SP 800-90B section 3.1.5.1.1).
    ///
    /// Errors: 1104 the source does not answer; 1105 it failed, now or before.
    pub fn seed(&mut self) -> Result<[u8; 32], Reason> {
        if self.state == State::Untested {
            self.take(STARTUP_SAMPLES, |_| {})?;
            self.state = State::Good;
        }
        let mut hash = Sha256::new();
        self.take(SEED_SAMPLES, |block| hash.update(block))?;
        Ok(hash.finish())
    }

    fn take(&mut self, mut count: usize, mut each: impl FnMut(&[u8])) -> Result<(), Reason> {
        let mut block = [0; BLOCK_BYTES];
        while count > 0 {
            if self.state == State::Failed {
                return Err(Reason::EntropyUnhealthy);
            }
            let Some(part) = block.get_mut(..count.min(BLOCK_BYTES)) else {
                break;
            };
            self.source.samples(part)?;
            if !part.iter().all(|sample| self.health.passes(*sample)) {
                self.state = State::Failed;
            }
            each(part);
            count = count.saturating_sub(part.len());
            part.zeroize();
        }
        match self.state {
            State::Failed => Err(Reason::EntropyUnhealthy),
            _ => Ok(()),
        }
    }
}

/// Both tests of SP 800-90B section 4.4, on one sample after the other.
#[derive(Clone, Copy, Default, Debug)]
pub struct Health {
    last: Option<u8>,
    repetitions: u32,
    first: u8,
    in_window: u32,
    found: u32,
}

impl Health {
    /// Takes the next sample; whether the source is still believed.
    pub fn passes(&mut self, sample: u8) -> bool {
        let (repeats, proportion) = (self.repeats(sample), self.proportion(sample));
        repeats < REPETITIONS_MAX && proportion < PROPORTION_MAX
    }

    /// How often in a row this sample came.
    fn repeats(&mut self, sample: u8) -> u32 {
        self.repetitions = match self.last == Some(sample) {
            true => self.repetitions.saturating_add(1),
            false => 1,
        };
        self.last = Some(sample);
        self.repetitions
    }

    /// How often the first sample of the window came in it.
    fn proportion(&mut self, sample: u8) -> u32 {
        if self.in_window == 0 {
            (self.first, self.found) = (sample, 0);
        }
        self.found = self.found.saturating_add(u32::from(sample == self.first));
        self.in_window = match self.in_window.saturating_add(1) {
            WINDOW_SAMPLES => 0,
            next => next,
        };
        self.found
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Gives these samples, again from the start when they are used up.
    struct Recorded(Vec<u8>, usize);

    impl Entropy for Recorded {
        fn samples(&mut self, out: &mut [u8]) -> Result<(), Reason> {
            for place in out {
                *place = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(())
        }
    }

    /// The index of the sample that fails.
    fn fails_at(samples: impl IntoIterator<Item = u8>) -> Option<usize> {
        let mut health = Health::default();
        samples.into_iter().position(|sample| !health.passes(sample))
    }

    /// Bytes as a good source gives them: SHA-256 of a counter.
    fn good() -> impl Iterator<Item = u8> {
        (0u32..).flat_map(|count| Sha256::of(&count.to_be_bytes()))
    }

    #[test]
    fn good_noise_passes() {
        assert_eq!(fails_at(good().take(1 << 20)), None);
    }

    #[test]
    fn repetition_fails_at_its_limit_exactly() {
        let row = |count: usize| {
            good()
                .filter(|byte| *byte != 7)
                .take(100)
                .chain(std::iter::repeat_n(7, count))
        };
        assert_eq!(
            fails_at(row(30).chain(good().filter(|byte| *byte != 7).take(400))),
            None
        );
        assert_eq!(fails_at(row(31)), Some(130));
        assert_eq!(fails_at(std::iter::repeat_n(0, 40)), Some(30), "a dead line");
    }

    #[test]
    fn proportion_fails_at_its_limit_exactly() {
        // The first of a window comes `count` times in it, never 31 times in a row.
        let window = |count: usize| {
            let pattern = (0..512usize).scan(count, |left, at| {
                let is_first = *left > 0 && at % 20 != 19;
                *left -= usize::from(is_first);
                Some(if is_first { 9 } else { at as u8 | 0x80 })
            });
            pattern.collect::<Vec<_>>()
        };
        assert_eq!(window(324).iter().filter(|sample| **sample == 9).count(), 324);
        assert_eq!(fails_at(window(324)), None);
        assert!(fails_at(window(325)).is_some_and(|at| at < 512));
        // Every window begins anew.
        assert_eq!(fails_at([window(324), window(324)].concat()), None);
        assert!(fails_at([window(10), window(325)].concat()).is_some_and(|at| at >= 512));
        assert_eq!(REPETITIONS_MAX, 31);
    }

    #[test]
    fn a_seed_needs_a_source_that_passes() {
        assert_eq!(Tested::new(NoEntropy).seed(), Err(Reason::EntropyAbsent));
        let mut dead = Tested::new(Recorded([0].into(), 0));
        assert_eq!(dead.seed(), Err(Reason::EntropyUnhealthy));
        let asked = dead.source.1;
        assert_eq!(
            (dead.seed(), dead.source.1),
            (Err(Reason::EntropyUnhealthy), asked),
            "not asked again"
        );

        let mut source = Tested::new(Recorded(good().take(8192).collect(), 0));
        let (first, second) = (source.seed(), source.seed());
        let noise: Vec<u8> = good().skip(STARTUP_SAMPLES).take(SEED_SAMPLES).collect();
        assert_eq!(first, Ok(Sha256::of(&noise)), "what was thrown away does not count");
        assert!(second.is_ok() && second != first);

        // It dies later on, in the middle of a seed.
        let mut dying: Vec<u8> = good().take(STARTUP_SAMPLES + SEED_SAMPLES + 100).collect();
        dying.extend([0; 600]);
        let mut dying = Tested::new(Recorded(dying, 0));
        assert!(dying.seed().is_ok());
        assert_eq!(dying.seed(), Err(Reason::EntropyUnhealthy));
    }
}
