//! The tree and its one-time keys, all from one seed (RFC 8554 appendix A).

use std::thread;

use trust::Sha256;
use trust::lms::{ID_BYTES, Node, OneTime, Parameters, leaf, parent};
use zeroize::Zeroizing;

/// Version of the octets in a key file.
const VERSION: u8 = 1;
/// Bytes of those octets: version, LMS type, LM-OTS type, I, SEED.
const OCTETS: usize = 1 + 4 + 4 + ID_BYTES + SEED_BYTES;
const SEED_BYTES: usize = 32;

/// What a tree is made from.
pub(super) struct Secret {
    parameters: Parameters,
    id: [u8; ID_BYTES],
    seed: Zeroizing<[u8; SEED_BYTES]>,
}

impl Secret {
    pub(super) fn new(parameters: Parameters, id: &[u8; ID_BYTES], seed: &[u8; SEED_BYTES]) -> Self {
        Secret {
            parameters,
            id: *id,
            seed: Zeroizing::new(*seed),
        }
    }

    /// The octets of a PKCS#8 private key. No standard says what they are for LMS; ours are a version, the two types, I
    /// and SEED.
    pub(super) fn to_octets(&self) -> Zeroizing<Vec<u8>> {
        let mut octets = Zeroizing::new(Vec::with_capacity(OCTETS));
        octets.push(VERSION);
        octets.extend(self.parameters.tree_type().to_be_bytes());
        octets.extend(self.parameters.one_time_type().to_be_bytes());
        octets.extend(self.id);
        octets.extend(&*self.seed);
        octets
    }

    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        let (&[version, t0, t1, t2, t3, o0, o1, o2, o3], rest) = octets.split_first_chunk()?;
        let (id, seed) = rest.split_first_chunk()?;
        let types = (
            u32::from_be_bytes([t0, t1, t2, t3]),
            u32::from_be_bytes([o0, o1, o2, o3]),
        );
        let parameters = Parameters::of_types(types.0, types.1).ok()?;
        let supported = version == VERSION && parameters.hash_bytes() == SEED_BYTES && parameters.height() <= 15;
        supported.then_some(Self::new(parameters, id, seed.try_into().ok()?))
    }

    fn one_time(&self, q: u32) -> OneTime<'_> {
        OneTime {
            parameters: self.parameters,
            id: &self.id,
            q,
        }
    }

    /// x_q[i] = H(I || u32str(q) || u16str(i) || u8str(0xff) || SEED).
    fn start(&self, q: u32, i: u16) -> Zeroizing<Node> {
        let parts = [&self.id[..], &q.to_be_bytes(), &i.to_be_bytes(), &[0xff], &*self.seed];
        Zeroizing::new(Sha256::of_parts(&parts))
    }

    /// Algorithm 1: the one-time public key of leaf q, as a leaf of the tree.
    fn leaf(&self, q: u32) -> Node {
        let one_time = self.one_time(q);
        let mut key = one_time.public();
        for i in 0..self.parameters.chains() {
            key.update(&one_time.walk(i, 0..self.parameters.digit_max(), &self.start(q, i)));
        }
        leaf(
            self.parameters,
            &self.id,
            (1 << self.parameters.height()) + q,
            &key.finish(),
        )
    }
}

/// A grown tree: T[1] to T[2^(h+1) - 1]; T[0] is not used.
pub(super) struct Tree {
    secret: Secret,
    nodes: Vec<Node>,
}

impl Tree {
    /// Makes every leaf, on all processors, and the tree above them (section 5.3).
    pub(super) fn grow(secret: &Secret) -> Tree {
        let leaves = 1u32 << secret.parameters.height();
        let mut nodes = vec![[0; 32]; 2 * leaves as usize];
        let workers = thread::available_parallelism()
            .map_or(1, |n| n.get())
            .min(leaves as usize);
        let share = (leaves as usize).div_ceil(workers);
        thread::scope(|scope| {
            for (worker, part) in nodes[leaves as usize..].chunks_mut(share).enumerate() {
                let first = (worker * share) as u32;
                scope.spawn(move || {
                    for (q, node) in (first..).zip(part) {
                        *node = secret.leaf(q);
                    }
                });
            }
        });
        for r in (1..leaves as usize).rev() {
            let (left, right) = (nodes[2 * r], nodes[2 * r + 1]);
            nodes[r] = parent(secret.parameters, &secret.id, r as u32, &left, &right);
        }
        Tree {
            secret: Secret::new(secret.parameters, &secret.id, &secret.seed),
            nodes,
        }
    }

    /// The HSS public key: one level, the types, I, T[1].
    pub(super) fn public(&self) -> Vec<u8> {
        let Secret { parameters, id, .. } = &self.secret;
        let types = [1, parameters.tree_type(), parameters.one_time_type()].map(u32::to_be_bytes);
        [&types.concat()[..], id, &self.nodes[1]].concat()
    }

    /// The HSS signature with leaf q: no signed public keys, then Algorithm 5 of the RFC. Whoever calls this has reserved
    /// q before.
    pub(super) fn sign(&self, q: u32, randomizer: &Node, message: &[&[u8]]) -> Vec<u8> {
        let parameters = self.secret.parameters;
        let one_time = self.secret.one_time(q);
        let mut signature = Vec::with_capacity(parameters.signature_bytes());
        for word in [0, q, parameters.one_time_type()] {
            signature.extend(word.to_be_bytes());
        }
        // Algorithm 3: C, then for each digit a = coef(Q || Cksm(Q), i, w) the value a steps along chain i.
        signature.extend(randomizer);
        let digits = one_time.digits(randomizer, message);
        for i in 0..parameters.chains() {
            signature.extend(one_time.walk(i, 0..digits.get(i), &self.secret.start(q, i)));
        }
        signature.extend(parameters.tree_type().to_be_bytes());
        // path[i]: the sibling of every node on the way from leaf q to the root.
        let mut node = (1usize << parameters.height()) + q as usize;
        while node > 1 {
            signature.extend(self.nodes[node ^ 1]);
            node /= 2;
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [
        0xd0, 0x8f, 0xab, 0xd4, 0xa2, 0x09, 0x1f, 0xf0, 0xa8, 0xcb, 0x4e, 0xd8, 0x34, 0xe7, 0x45, 0x34,
    ];
    const SEED: [u8; 32] = [
        0x55, 0x8b, 0x89, 0x66, 0xc4, 0x8a, 0xe9, 0xcb, 0x89, 0x8b, 0x42, 0x3c, 0x83, 0x44, 0x3a, 0xae, 0x01, 0x4a,
        0x72, 0xf1, 0xb1, 0xab, 0x5c, 0xc8, 0x5c, 0xf1, 0xd8, 0x92, 0x90, 0x3b, 0x54, 0x39,
    ];
    const ROOT: [u8; 32] = [
        0x32, 0xa5, 0x88, 0x85, 0xcd, 0x9b, 0xa0, 0x43, 0x12, 0x35, 0x46, 0x6b, 0xff, 0x96, 0x51, 0xc6, 0xc9, 0x21,
        0x24, 0x40, 0x4d, 0x45, 0xfa, 0x53, 0xcf, 0x16, 0x1c, 0x28, 0xf1, 0xad, 0x5a, 0x8e,
    ];

    fn secret() -> Secret {
        Secret::new(Parameters::of_types(6, 3).unwrap(), &ID, &SEED)
    }

    /// RFC 8554 appendix F, test case 2: the upper tree from its SEED and I, and its signature from the printed C, byte
    /// for byte.
    #[test]
    fn tree_and_signature_are_those_of_the_rfc() {
        let tree = Tree::grow(&secret());
        assert_eq!(tree.public()[28..], ROOT);
        let file = include_str!("../../../../vectors/lms/rfc8554-case-2-upper.txt");
        let field = |name: &str| {
            let line = file.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let bytes = (0..line.len()).step_by(2);
            bytes
                .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
                .collect::<Vec<u8>>()
        };
        let (message, signature) = (field("message "), field("signature "));
        assert_eq!(tree.public(), field("public "));
        let q = u32::from_be_bytes(signature[4..8].try_into().unwrap());
        let randomizer = signature[12..44].try_into().unwrap();
        assert_eq!(tree.sign(q, &randomizer, &[&message]), signature);
    }

    /// The octets of version 1, byte for byte; others are refused.
    #[test]
    fn golden_octets() {
        let octets = [&[1, 0, 0, 0, 6, 0, 0, 0, 3][..], &ID, &SEED].concat();
        assert_eq!(*secret().to_octets(), octets);
        assert_eq!(*Secret::from_octets(&octets).unwrap().to_octets(), octets);
        for (at, value) in [(0, 2), (4, 8), (4, 9), (4, 11), (8, 2)] {
            let mut changed = octets.clone();
            changed[at] = value;
            assert!(Secret::from_octets(&changed).is_none(), "{at} {value}");
        }
        assert!(Secret::from_octets(&octets[1..]).is_none());
    }
}
