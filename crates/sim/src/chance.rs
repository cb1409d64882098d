//! Seeded chance: the same seed gives the same numbers on every machine, so that a failure can be repeated.

/// A splitmix64 generator. Not for keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator that is determined by its seed.
    pub const fn new(seed: u64) -> Self {
        Chance(seed)
    }

    /// A seed for a part of the work, independent of the other parts.
    pub fn mix(seed: u64, part: u64) -> u64 {
        Chance(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93)).next()
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // An endless source: there is no `None` to return.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// One random byte.
    pub fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    /// So many random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}
