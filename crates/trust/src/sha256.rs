//! SHA-256 for devices without an operating system (FIPS 180-4, section 6.2), in 1.5 KB of flash.
//!
//! Why not the library that hosts use: on a Cortex-M4 its one block function is 7 KB, a quarter of what a whole bootloader
//! may have, for a few percent of speed; its compact form is half again as slow, and hashing is nine tenths of a boot.
//! Everything else (signatures, curves) stays with libraries. The tests hold this code to the library on any input.

/// Bytes of a block.
const BLOCK_BYTES: usize = 64;

/// Section 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes, in groups of the
/// eight rounds that are written out below.
const K: [[u32; 8]; 8] = [
    [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    ],
    [
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    ],
    [
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    ],
    [
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    ],
    [
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    ],
    [
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    ],
    [
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    ],
    [
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ],
];

/// Section 5.3.3.
const START: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// A running SHA-256.
#[derive(Clone)]
pub(crate) struct Sha256 {
    state: [u32; 8],
    block: [u8; BLOCK_BYTES],
    /// Bytes hashed so far; those behind the last whole block wait in `block`.
    len: u64,
}

impl Sha256 {
    pub(crate) const fn new() -> Self {
        Sha256 {
            state: START,
            block: [0; BLOCK_BYTES],
            len: 0,
        }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let waiting = self.waiting();
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if waiting > 0 {
            let (now, rest) = bytes.split_at_checked(BLOCK_BYTES - waiting).unwrap_or((bytes, &[]));
            self.put(waiting, now);
            if waiting + now.len() < BLOCK_BYTES {
                return;
            }
            compress(&mut self.state, &self.block);
            bytes = rest;
        }
        while let Some((block, rest)) = bytes.split_first_chunk() {
            compress(&mut self.state, block);
            bytes = rest;
        }
        self.put(0, bytes);
    }

    /// Section 5.1.1: a one bit, zeros, the length in bits.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        let (waiting, bits) = (self.waiting(), self.len.wrapping_mul(8));
        self.put(waiting, &[0x80]);
        self.clear_from(waiting + 1);
        if waiting + 1 > BLOCK_BYTES - 8 {
            compress(&mut self.state, &self.block);
            self.clear_from(0);
        }
        self.put(BLOCK_BYTES - 8, &bits.to_be_bytes());
        compress(&mut self.state, &self.block);
        let mut digest = [0; 32];
        digest
            .iter_mut()
            .zip(self.state.iter().flat_map(|word| word.to_be_bytes()))
            .for_each(|(to, from)| *to = from);
        digest
    }

    const fn waiting(&self) -> usize {
        self.len as usize % BLOCK_BYTES
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block
            .iter_mut()
            .skip(at)
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    }

    fn clear_from(&mut self, at: usize) {
        self.block.iter_mut().skip(at).for_each(|byte| *byte = 0);
    }
}

/// Section 6.2.2 for one block.
fn compress(state: &mut [u32; 8], block: &[u8; BLOCK_BYTES]) {
    let schedule = schedule(block);
    let mut working = *state;
    for (w, k) in schedule.as_chunks::<8>().0.iter().zip(&K) {
        eight_rounds(&mut working, w, k);
    }
    for (sum, word) in state.iter_mut().zip(working) {
        *sum = sum.wrapping_add(word);
    }
}

/// The message schedule: the block's 16 words, and 48 made of them.
#[inline(always)]
fn schedule(block: &[u8; BLOCK_BYTES]) -> [u32; 64] {
    let mut w = [0; 64];
    for (word, bytes) in w.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for at in 16..64 {
        let (w15, w2) = (w[at - 15], w[at - 2]);
        let s0 = w15.rotate_right(7) ^ w15.rotate_right(18) ^ (w15 >> 3);
        let s1 = w2.rotate_right(17) ^ w2.rotate_right(19) ^ (w2 >> 10);
        w[at] = w[at - 16].wrapping_add(s0).wrapping_add(w[at - 7]).wrapping_add(s1);
    }
    w
}

/// Eight rounds, after which every working variable is back in its place: no value is moved, only names are.
#[inline(always)]
fn eight_rounds(working: &mut [u32; 8], w: &[u32; 8], k: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *working;
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $w:expr) => {
            $h = $h
                .wrapping_add($w)
                .wrapping_add($e.rotate_right(6) ^ $e.rotate_right(11) ^ $e.rotate_right(25))
                .wrapping_add($g ^ ($e & ($f ^ $g)));
            $d = $d.wrapping_add($h);
            $h = $h
                .wrapping_add($a.rotate_right(2) ^ $a.rotate_right(13) ^ $a.rotate_right(22))
                .wrapping_add(($a & $b) | ($c & ($a | $b)));
        };
    }
    round!(a b c d e f g h k[0].wrapping_add(w[0]));
    round!(h a b c d e f g k[1].wrapping_add(w[1]));
    round!(g h a b c d e f k[2].wrapping_add(w[2]));
    round!(f g h a b c d e k[3].wrapping_add(w[3]));
    round!(e f g h a b c d k[4].wrapping_add(w[4]));
    round!(d e f g h a b c k[5].wrapping_add(w[5]));
    round!(c d e f g h a b k[6].wrapping_add(w[6]));
    round!(b c d e f g h a k[7].wrapping_add(w[7]));
    *working = [a, b, c, d, e, f, g, h];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest as _;
    extern crate std;
    use std::vec::Vec;

    fn hash(pieces: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        pieces.iter().for_each(|piece| hash.update(piece));
        hash.finish()
    }

    #[test]
    fn every_length_around_the_block_agrees_with_the_library() {
        let bytes: Vec<u8> = (0..=255).cycle().take(300).collect();
        for len in 0..bytes.len() {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes[..len]).into();
            assert_eq!(hash(&[&bytes[..len]]), expected, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_agree_with_the_library(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12)
        ) {
            let expected: [u8; 32] = sha2::Sha256::digest(pieces.concat()).into();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(hash(&pieces), expected);
        }
    }
}
