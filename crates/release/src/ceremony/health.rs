//! Whether random bytes look broken: the two health tests of NIST SP 800-90B section 4.4, over bytes that claim full
//! entropy.
//!
//! They find a source that is stuck or heavily biased, and nothing finer: behind the kernel's generator everything looks
//! random. They are run because a ceremony shall not rest on a machine whose source is dead.

/// Bytes of a sample.
pub const SAMPLE_BYTES: usize = 65_536;
/// Equal bytes in a row that fail (4.4.1): 1 + 40 / 8, for a false alarm in 2^40.
pub const REPETITION_CUTOFF: usize = 6;
/// Window of the proportion test, in samples (4.4.2, of more than two values).
pub const PROPORTION_WINDOW: usize = 512;
/// As many of the window's first byte in it fail (4.4.2): 1 + the critical value for a false alarm in 2^40.
pub const PROPORTION_CUTOFF: usize = 20;

/// What the tests saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// The longest run of one byte.
    pub longest_run: usize,
    /// The most of a window's first byte.
    pub highest_count: usize,
}

impl Health {
    /// Looks at a sample.
    pub fn of(sample: &[u8]) -> Health {
        let runs = sample.chunk_by(|one, next| one == next).map(<[u8]>::len);
        let count = |window: &[u8]| window.iter().filter(|byte| Some(*byte) == window.first()).count();
        Health {
            longest_run: runs.max().unwrap_or(0),
            highest_count: sample.chunks_exact(PROPORTION_WINDOW).map(count).max().unwrap_or(0),
        }
    }

    /// Whether neither test fails, over a sample of the full length.
    pub fn is_good(&self) -> bool {
        self.longest_run > 0 && self.longest_run < REPETITION_CUTOFF && self.highest_count < PROPORTION_CUTOFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probability that `count` or more of 511 bytes are a given one.
    fn tail(count: u32) -> f64 {
        let p = 1.0 / 256.0;
        let term = |k: u32| {
            (0..k).fold((1.0 - p) / 1.0, |t: f64, i| {
                t * f64::from(511 - i) / f64::from(i + 1) * p / (1.0 - p)
            })
        };
        let scale = (1.0f64 - p).powi(510);
        (count..120).map(|k| term(k) * scale).sum()
    }

    #[test]
    fn the_cutoff_is_the_critical_value() {
        let alpha = 2f64.powi(-40);
        let extra = PROPORTION_CUTOFF as u32 - 1;
        assert!(tail(extra) <= alpha, "{} > {alpha}", tail(extra));
        assert!(tail(extra - 1) > alpha, "{} could be lower", tail(extra - 1));
    }

    #[test]
    fn broken_sources_fail_and_a_good_one_passes() {
        let mut state = 1u64;
        let mut good = vec![0; SAMPLE_BYTES];
        for byte in &mut good {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ z >> 31) as u8;
        }
        assert!(Health::of(&good).is_good(), "{:?}", Health::of(&good));
        assert!(!Health::of(&[]).is_good());
        assert!(!Health::of(&[7; SAMPLE_BYTES]).is_good());
        let mut stuck = good.clone();
        stuck[100..106].fill(9);
        assert!(!Health::of(&stuck).is_good());
        let biased: Vec<u8> = good.iter().map(|byte| if byte % 16 == 0 { 0 } else { *byte }).collect();
        assert!(!Health::of(&biased).is_good(), "{:?}", Health::of(&biased));
    }
}
