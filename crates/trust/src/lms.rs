//! LMS signatures (RFC 8554, SP 800-208) in the one-level form of HSS: the post-quantum signature of small devices.
//!
//! Nothing but SHA-256, so a device that can hash an image can verify. A signature has 1.1 to 2.9 KB; it is read once,
//! from front to back, 32 bytes at a time ([`Pieces`]), and never held.
//!
//! | parameter | accepted | refused by name |
//! |---|---|---|
//! | levels of HSS | 1 | more: [`Unsupported::Levels`] |
//! | hash | SHA-256 with 32 bytes, SHA-256/192 with 24 | SHAKE256, and two that differ: [`Unsupported::Tree`], [`Unsupported::OneTime`] |
//! | height of the tree | 5, 10, 15, 20 | 25: [`Unsupported::Tree`] |
//! | Winternitz width | 4, 8 | 1, 2: [`Unsupported::OneTime`] |
//!
//! Sentences with a number in comments are those of RFC 8554.

use crate::alg::{BadSignature, Pieces, SignatureAlgorithm, Verifier, WeakKey};
use crate::digest::Sha256;
use codec::cose::PublicKey;
use core::fmt;

/// Bytes of a tree's identifier I (RFC 8554 section 3.2).
pub const ID_BYTES: usize = 16;
/// Bytes of a hash value at most.
pub const HASH_BYTES_MAX: usize = 32;
/// Bytes of an HSS public key at most: levels, two types, I, T[1] (sections 5.3 and 6.1).
pub const PUBLIC_BYTES_MAX: usize = 4 + 4 + 4 + ID_BYTES + HASH_BYTES_MAX;
/// Bytes of an HSS signature at most: H20 with W4.
pub const SIGNATURE_BYTES_MAX: usize = 4 + 12 + 32 * (1 + 67 + 20);

/// Section 7.1: D_PBLC, D_MESG, D_LEAF, D_INTR.
const D_PBLC: u16 = 0x8080;
const D_MESG: u16 = 0x8181;
const D_LEAF: u16 = 0x8282;
const D_INTR: u16 = 0x8383;

/// A hash value; with SHA-256/192 the last 8 bytes mean nothing.
pub type Node = [u8; HASH_BYTES_MAX];

/// Why a key or its parameter set is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unsupported {
    /// It has not as many bytes as its types demand.
    Length,
    /// HSS with this many levels; one is accepted.
    Levels(u32),
    /// This LMS type (tree height and hash).
    Tree(u32),
    /// This LM-OTS type (Winternitz width and hash), or one whose hash is not that of the tree.
    OneTime(u32),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("it is not as long as its type demands"),
            Self::Levels(levels) => write!(f, "HSS with {levels} levels; only one level is accepted"),
            Self::Tree(9 | 14) => f.write_str("a tree of height 25; 5, 10, 15 and 20 are accepted"),
            Self::Tree(number) => write!(f, "LMS type {number}; SHA-256 with height 5, 10, 15 or 20 is accepted"),
            Self::OneTime(1 | 2 | 5 | 6) => f.write_str("Winternitz width 1 or 2; W4 and W8 are accepted"),
            Self::OneTime(number) => write!(
                f,
                "LM-OTS type {number}; SHA-256 with W4 or W8 is accepted, as the tree's"
            ),
        }
    }
}

/// A parameter set: hash length n, Winternitz width w, tree height h.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Parameters {
    hash_bytes: u8,
    width: u8,
    height: u8,
}

impl Parameters {
    /// The set of these type numbers (RFC 8554 sections 4.1 and 5.1, SP 800-208 tables 1 to 4).
    ///
    /// Errors: [`Unsupported::Tree`], [`Unsupported::OneTime`].
    pub const fn of_types(tree: u32, one_time: u32) -> Result<Self, Unsupported> {
        let (hash_bytes, height) = match tree {
            5 => (32, 5),
            6 => (32, 10),
            7 => (32, 15),
            8 => (32, 20),
            10 => (24, 5),
            11 => (24, 10),
            12 => (24, 15),
            13 => (24, 20),
            _ => return Err(Unsupported::Tree(tree)),
        };
        let width = match (hash_bytes, one_time) {
            (32, 3) | (24, 7) => 4,
            (32, 4) | (24, 8) => 8,
            _ => return Err(Unsupported::OneTime(one_time)),
        };
        Ok(Parameters {
            hash_bytes,
            width,
            height,
        })
    }

    /// The LMS type number: tree height and hash.
    pub const fn tree_type(self) -> u32 {
        let first = if self.hash_bytes == 24 { 9 } else { 4 };
        first + self.height as u32 / 5
    }

    /// The LM-OTS type number: Winternitz width and hash.
    pub const fn one_time_type(self) -> u32 {
        let first = if self.hash_bytes == 24 { 6 } else { 2 };
        first + self.width as u32 / 4
    }

    /// n: bytes of every hash value, 24 or 32.
    pub const fn hash_bytes(self) -> usize {
        self.hash_bytes as usize
    }

    /// w: bits of a digit, 4 or 8.
    pub const fn width(self) -> u32 {
        self.width as u32
    }

    /// h: height of the tree; it signs 2^h times.
    pub const fn height(self) -> u32 {
        self.height as u32
    }

    /// p: hash chains of a one-time signature (appendix B): 8n/w digits of the message hash and those of its checksum.
    pub const fn chains(self) -> u16 {
        if self.width == 8 {
            self.hash_bytes as u16 + 2
        } else {
            2 * self.hash_bytes as u16 + 3
        }
    }

    /// The last digit's place in its chain: 2^w - 1.
    pub const fn digit_max(self) -> u8 {
        if self.width == 8 { 0xff } else { 0x0f }
    }

    /// Bytes of an HSS public key.
    pub const fn public_bytes(self) -> usize {
        12 + ID_BYTES + self.hash_bytes()
    }

    /// Bytes of an HSS signature of one level.
    pub const fn signature_bytes(self) -> usize {
        4 + 12 + self.hash_bytes() * (1 + self.chains() as usize + self.height as usize)
    }
}

/// A public key of one level: u32 1, u32 LMS type, u32 LM-OTS type, I, T[1].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tree<'a> {
    /// What it is made with.
    pub parameters: Parameters,
    /// I.
    pub id: &'a [u8; ID_BYTES],
    /// T[1], n bytes.
    pub root: &'a [u8],
}

impl<'a> Tree<'a> {
    /// Reads an HSS public key. Errors: [`Unsupported`], each by name.
    pub fn of(public: &'a [u8]) -> Result<Self, Unsupported> {
        let (levels, rest) = word(public)?;
        if levels != 1 {
            return Err(Unsupported::Levels(levels));
        }
        let (tree, rest) = word(rest)?;
        let (one_time, rest) = word(rest)?;
        let parameters = Parameters::of_types(tree, one_time)?;
        let (id, root) = rest.split_first_chunk().ok_or(Unsupported::Length)?;
        if root.len() != parameters.hash_bytes() {
            return Err(Unsupported::Length);
        }
        Ok(Tree { parameters, id, root })
    }

    /// Whether this is a signature of the message.
    fn verify(&self, message: &[&[u8]], signature: &mut dyn Pieces) -> Result<(), BadSignature> {
        let Parameters { height, .. } = self.parameters;
        // Algorithm 6a, 2. i: [if] the signature is not exactly 12 + n * (p + 1) + m * h bytes long, return INVALID.
        ensure(signature.left() == self.parameters.signature_bytes())?;
        // Section 6.3: if Nspk+1 is not equal to the number of levels L in pub: return INVALID.
        ensure(next_word(signature)? == 0)?;
        // Algorithm 6a, 2. a: q = strTou32(first 4 bytes of signature).
        let q = next_word(signature)?;
        // 2. b and c: if otssigtype is not the OTS typecode from the public key, return INVALID.
        ensure(next_word(signature)? == self.parameters.one_time_type())?;
        // 2. i: if q >= 2^h [...] return INVALID.
        ensure(q.checked_shr(height.into()) == Some(0))?;
        // 3. Kc = candidate public key computed by applying Algorithm 4b to the signature lmots_signature, the message,
        // and the identifiers I, q.
        let one_time = OneTime {
            parameters: self.parameters,
            id: self.id,
            q,
        };
        let candidate = one_time.candidate(message, signature)?;
        // 2. f and g: if sigtype is not the LM typecode from the public key, return INVALID.
        ensure(next_word(signature)? == self.parameters.tree_type())?;
        // Algorithm 6, 4. If Tc is equal to T[1], return VALID; otherwise, return INVALID.
        let root = self.climb(one_time, &candidate, signature)?;
        ensure(self.parameters.cut(&root) == self.root)
    }

    /// Algorithm 6a, 4: the candidate root Tc above this one-time key.
    fn climb(&self, leaf: OneTime, key: &Node, path: &mut dyn Pieces) -> Result<Node, BadSignature> {
        let Parameters { height, .. } = self.parameters;
        // node_num = 2^h + q; tmp = H(I || u32str(node_num) || u16str(D_LEAF) || Kc).
        let mut number = 1u32.checked_shl(height.into()).unwrap_or(0) | leaf.q;
        let mut node = self.leaf(number, key);
        // while (node_num > 1): one step for each level.
        for _ in 0..height {
            let sibling = self.parameters.next_node(path)?;
            node = if number & 1 == 1 {
                // if (node_num is odd): tmp = H(I || u32str(node_num/2) || u16str(D_INTR) || path[i] || tmp)
                self.parent(number, &sibling, &node)
            } else {
                // else: tmp = H(I || u32str(node_num/2) || u16str(D_INTR) || tmp || path[i])
                self.parent(number, &node, &sibling)
            };
            number >>= 1;
        }
        Ok(node)
    }

    fn leaf(&self, number: u32, key: &Node) -> Node {
        leaf(self.parameters, self.id, number, key)
    }

    fn parent(&self, child: u32, left: &Node, right: &Node) -> Node {
        parent(self.parameters, self.id, child >> 1, left, right)
    }
}

/// The leaf with this number: H(I || u32str(r) || u16str(D_LEAF) || OTS_PUB_HASH[r-2^h]) (section 5.3).
pub fn leaf(parameters: Parameters, id: &[u8; ID_BYTES], number: u32, key: &Node) -> Node {
    let mut hash = named(id, number, D_LEAF);
    hash.update(parameters.cut(key));
    hash.finish()
}

/// The inner node with this number: H(I || u32str(r) || u16str(D_INTR) || T[2*r] || T[2*r+1]) (section 5.3).
pub fn parent(parameters: Parameters, id: &[u8; ID_BYTES], number: u32, left: &Node, right: &Node) -> Node {
    let mut hash = named(id, number, D_INTR);
    hash.update(parameters.cut(left));
    hash.update(parameters.cut(right));
    hash.finish()
}

/// A one-time key pair's place: leaf q of tree I.
#[derive(Clone, Copy, Debug)]
pub struct OneTime<'a> {
    /// What it is made with.
    pub parameters: Parameters,
    /// I.
    pub id: &'a [u8; ID_BYTES],
    /// q.
    pub q: u32,
}

/// Bytes of what one step of a chain hashes: I, q, i, j, value. With padding just one block of SHA-256.
const LINK_BYTES: usize = ID_BYTES + 4 + 2 + 1 + HASH_BYTES_MAX;

impl OneTime<'_> {
    /// Algorithm 4b: the public key candidate Kc. (Its type was compared by the caller, who knows its length too.)
    fn candidate(&self, message: &[&[u8]], signature: &mut dyn Pieces) -> Result<Node, BadSignature> {
        // 2. d: C = next n bytes of signature.
        let randomizer = self.parameters.next_node(signature)?;
        // 3. Q = H(I || u32str(q) || u16str(D_MESG) || C || message)
        let digits = self.digits(&randomizer, message);
        let mut key = self.public();
        for chain in 0..self.parameters.chains() {
            // a = coef(Q || Cksm(Q), i, w); tmp = y[i]
            let start = self.parameters.next_node(signature)?;
            // for ( j = a; j < 2^w - 1; j = j + 1 ): tmp = H(I || u32str(q) || u16str(i) || u8str(j) || tmp); z[i] = tmp
            let end = self.walk(chain, digits.get(chain)..self.parameters.digit_max(), &start);
            // Kc = H(I || u32str(q) || u16str(D_PBLC) || z[0] || z[1] || ... || z[p-1])
            key.update(self.parameters.cut(&end));
        }
        Ok(key.finish())
    }

    /// The digits of Q || Cksm(Q), with Q the hash of the message under this randomizer.
    pub fn digits(&self, randomizer: &Node, message: &[&[u8]]) -> Digits {
        let mut hash = named(self.id, self.q, D_MESG);
        hash.update(self.parameters.cut(randomizer));
        message.iter().for_each(|part| hash.update(part));
        Digits::of(self.parameters, &hash.finish())
    }

    /// The running hash of the public key, to which the ends of all chains are to be added.
    pub fn public(&self) -> Sha256 {
        named(self.id, self.q, D_PBLC)
    }

    /// Goes along chain i by the steps j of this range.
    pub fn walk(&self, chain: u16, steps: core::ops::Range<u8>, start: &Node) -> Node {
        let mut link = [0; LINK_BYTES];
        let head = [&self.id[..], &self.q.to_be_bytes(), &chain.to_be_bytes(), &[0], start];
        put(&mut link, head.into_iter().flatten());
        let hashed = LINK_BYTES - HASH_BYTES_MAX + self.parameters.hash_bytes();
        for j in steps {
            if let Some([step, _value @ ..]) = link.last_chunk_mut::<{ 1 + HASH_BYTES_MAX }>() {
                *step = j;
            }
            let next = Sha256::of(link.get(..hashed).unwrap_or(&[]));
            if let Some(value) = link.last_chunk_mut() {
                *value = next;
            }
        }
        link.last_chunk().copied().unwrap_or_default()
    }
}

/// The digits by which a message hash and its checksum are signed.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    /// Q, then the checksum.
    bytes: [u8; HASH_BYTES_MAX + 2],
    width: u8,
}

impl Digits {
    fn of(parameters: Parameters, hash: &Node) -> Self {
        let mut digits = Digits {
            bytes: [0; HASH_BYTES_MAX + 2],
            width: parameters.width,
        };
        put(&mut digits.bytes, parameters.cut(hash));
        let checksum = digits.checksum(parameters).to_be_bytes();
        put(
            digits.bytes.get_mut(parameters.hash_bytes()..).unwrap_or(&mut []),
            &checksum,
        );
        digits
    }

    /// Algorithm 2, Cksm: sum = sum + (2^w - 1) - coef(S, i, w) over all digits of the hash; return (sum << ls).
    fn checksum(&self, parameters: Parameters) -> u16 {
        let (count, shift) = if parameters.width == 8 {
            (parameters.chains().saturating_sub(2), 0)
        } else {
            (parameters.chains().saturating_sub(3), 4)
        };
        let missing = |i| u16::from(parameters.digit_max().saturating_sub(self.get(i)));
        (0..count).map(missing).fold(0, u16::wrapping_add) << shift
    }

    /// Section 3.1.3: coef(S, i, w), of the hash and its checksum.
    pub fn get(&self, i: u16) -> u8 {
        let byte = |at: u16| self.bytes.get(usize::from(at)).copied().unwrap_or(0);
        match (self.width, i & 1) {
            (8, _) => byte(i),
            (_, 0) => byte(i >> 1) >> 4,
            _ => byte(i >> 1) & 0x0f,
        }
    }
}

impl Parameters {
    /// The bytes of a value that count.
    pub fn cut(self, node: &Node) -> &[u8] {
        node.get(..self.hash_bytes()).unwrap_or(&[])
    }

    fn next_node(self, from: &mut dyn Pieces) -> Result<Node, BadSignature> {
        let mut node = [0; HASH_BYTES_MAX];
        from.next(node.get_mut(..self.hash_bytes()).unwrap_or(&mut []))?;
        Ok(node)
    }
}

/// A hash that begins with I || u32str(number) || u16str(domain).
fn named(id: &[u8; ID_BYTES], number: u32, domain: u16) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(id);
    hash.update(&number.to_be_bytes());
    hash.update(&domain.to_be_bytes());
    hash
}

fn put<'b>(to: &mut [u8], from: impl IntoIterator<Item = &'b u8>) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

fn word(bytes: &[u8]) -> Result<(u32, &[u8]), Unsupported> {
    let (word, rest) = bytes.split_first_chunk().ok_or(Unsupported::Length)?;
    Ok((u32::from_be_bytes(*word), rest))
}

fn next_word(from: &mut dyn Pieces) -> Result<u32, BadSignature> {
    let mut word = [0; 4];
    from.next(&mut word)?;
    Ok(u32::from_be_bytes(word))
}

fn ensure(holds: bool) -> Result<(), BadSignature> {
    if holds { Ok(()) } else { Err(BadSignature) }
}

/// HSS-LMS with one level (COSE: RFC 8778; images: the image's SHA-256 is the message).
#[derive(Clone, Copy, Debug)]
pub struct HssLms;

impl HssLms {
    fn check(key: &PublicKey, message: &[&[u8]], signature: &mut dyn Pieces) -> Result<(), BadSignature> {
        let PublicKey::HssLms { public } = key else {
            return Err(BadSignature);
        };
        let tree = Tree::of(public).map_err(|_| BadSignature)?;
        tree.verify(message, signature)
    }
}

impl Verifier for HssLms {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::HssLms
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), WeakKey> {
        let PublicKey::HssLms { public } = key else {
            return Err(WeakKey);
        };
        Tree::of(public).map(|_| ()).map_err(|_| WeakKey)
    }

    fn verify(&self, key: &PublicKey, message: &[&[u8]], mut signature: &[u8]) -> Result<(), BadSignature> {
        Self::check(key, message, &mut signature)
    }

    fn verify_digest(&self, key: &PublicKey, sha256: &[u8; 32], mut signature: &[u8]) -> Result<(), BadSignature> {
        Self::check(key, &[sha256], &mut signature)
    }

    fn verify_digest_from(
        &self,
        key: &PublicKey,
        sha256: &[u8; 32],
        signature: &mut dyn Pieces,
    ) -> Result<(), BadSignature> {
        Self::check(key, &[sha256], signature)
    }
}
