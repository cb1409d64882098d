//! Root chains (profile section 15): every root that a device far behind has to walk, then the newest list and time file.

use codec::cbor::Reader;
use codec::limits::Limits;
use codec::roots::{FileKind, RootFile};
use codec::{Reason, Refused};
use keys::{Code, Error, Result};
use trust::TrustRoot;

use super::content::Content;
use super::difference::difference;
use super::names::Names;
use super::proposal::{Proposal, kind_name};
use super::standing::{Standing, judge, standing};
use crate::envelope::Envelope;
use crate::inspect::moment;
use crate::tree::Tree;

/// A chain, taken apart; nothing of it is believed before [`Chain::verify`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chain {
    roots: Vec<Vec<u8>>,
    list: Option<Vec<u8>>,
    time: Option<Vec<u8>>,
    release: Option<Vec<u8>>,
}

/// What a device that walked the chain would hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walked {
    /// The version it started from.
    pub first: u64,
    /// The version it ends with.
    pub last: u64,
    /// The number of the list that it would store.
    pub list: Option<u64>,
    /// The moment that its clock would not go behind.
    pub time: Option<u64>,
    /// Whether a release follows that its root believes.
    pub release: bool,
}

impl Chain {
    /// Takes a chain apart: roots in ascending versions, then a list, a time file, a release, each optional.
    ///
    /// Error: [`Code::ChainBroken`] for another order or other items.
    pub fn parse(bytes: &[u8]) -> Result<Chain> {
        let mut reader = Reader::new(bytes);
        let mut chain = Chain::default();
        while !reader.is_empty() {
            let item = reader
                .item()
                .map_err(|refused| Error::refused("the root chain", refused))?;
            chain.take(item)?;
        }
        if chain.roots.is_empty() {
            return Err(broken("it holds no trust root"));
        }
        Ok(chain)
    }

    fn take(&mut self, item: &[u8]) -> Result<()> {
        let place = match FileKind::of(item) {
            Some(FileKind::Root) => {
                let in_order = self.list.is_none() && self.time.is_none() && self.release.is_none();
                self.roots.push(item.to_vec());
                return if in_order {
                    Ok(())
                } else {
                    Err(broken("a root stands behind what belongs after all roots"))
                };
            }
            Some(FileKind::Revoke) if self.time.is_none() && self.release.is_none() => &mut self.list,
            Some(FileKind::Time) if self.release.is_none() => &mut self.time,
            None => &mut self.release,
            Some(kind) => {
                return Err(broken(format!(
                    "a {} stands behind what belongs after it",
                    kind_name(kind)
                )));
            }
        };
        once(place, item)
    }

    /// Puts finished files together, whatever their order. Errors: [`Code::ChainBroken`] two roots of one version, two
    /// lists or two time files, no root; 801 a root that no device reads.
    pub fn of(files: &[Vec<u8>]) -> Result<Chain> {
        let mut chain = Chain::default();
        let mut roots: Vec<(u64, Vec<u8>)> = Vec::new();
        for file in files {
            match FileKind::of(file) {
                Some(FileKind::Root) => roots.push((version(file)?, file.clone())),
                Some(FileKind::Revoke) => once(&mut chain.list, file)?,
                Some(FileKind::Time) => once(&mut chain.time, file)?,
                None => once(&mut chain.release, file)?,
            }
        }
        roots.sort();
        roots.dedup();
        if let Some(pair) = roots.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(broken(format!(
                "two different roots say that they are version {}",
                pair[0].0
            )));
        }
        chain.roots = roots.into_iter().map(|(_, file)| file).collect();
        if chain.roots.is_empty() {
            return Err(broken("it holds no trust root"));
        }
        Ok(chain)
    }

    /// The files of the roots, in order.
    pub fn roots(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.roots.iter().map(Vec::as_slice)
    }

    /// Every item as a file of its own.
    pub fn items(&self) -> Vec<Vec<u8>> {
        let rest = [&self.list, &self.time, &self.release];
        let rest = rest.into_iter().flatten();
        self.roots.iter().chain(rest).cloned().collect()
    }

    /// The chain as one file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.items().concat()
    }

    /// The chain with one more root at its end. A list that the new root says all of is left away; gives a note of that.
    ///
    /// Errors: those of [`Chain::verify`], for the longer chain.
    pub fn append(&self, next: &[u8], limits: &Limits, names: &Names) -> Result<(Chain, Option<&'static str>)> {
        let mut longer = self.clone();
        longer.roots.push(next.to_vec());
        longer.release = None;
        match longer.verify(None, limits, names) {
            Ok(_) => Ok((longer, None)),
            Err(error) if error.reason() == Some(Reason::RevokeInvalid) && longer.list_is_in(next)? => {
                longer.list = None;
                longer.verify(None, limits, names)?;
                let note = "the revocation list is left out of the chain: the new root says all of it";
                Ok((longer, Some(note)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a root says everything that the list says.
    fn list_is_in(&self, root: &[u8]) -> Result<bool> {
        let Some(list) = &self.list else { return Ok(false) };
        let refused = |refused: Refused| Error::refused("the root chain", refused);
        let root = RootFile::decode(root, &Limits::LINUX).map_err(refused)?.root;
        let list = codec::roots::RevokeFile::decode(list, &Limits::LINUX).map_err(refused)?;
        let gone = |id| root.revoked.contains(id) || root.keys.get(id).is_none();
        let least = |class| root.min_sequences.of_class(class);
        Ok(list.revoked.iter().all(gone)
            && list
                .min_sequences
                .iter()
                .all(|(class, minimum)| least(class) >= minimum))
    }

    /// Walks the chain as a device does that holds `held`, or was provisioned with the chain's first root; every item
    /// must pass. Older roots are skipped.
    ///
    /// Errors: the device's reasons, for the item named; [`Code::ChainBroken`] the chain does not lead on from `held`;
    /// 105 `ROOT_STEPS_MAX`.
    pub fn verify(&self, held: Option<&TrustRoot>, limits: &Limits, names: &Names) -> Result<Walked> {
        let mut roots: Vec<TrustRoot> = held.copied().into_iter().collect();
        for file in &self.roots {
            let root = self.step(roots.last(), file, limits, names)?;
            roots.extend(root);
        }
        let first = roots.first().map_or(0, TrustRoot::version);
        let root = roots.last().copied().ok_or_else(|| broken("it holds no trust root"))?;
        if roots.len() > limits.root_steps_max as usize + 1 {
            return Err(
                Error::refused("the root chain", Reason::Limit.about("ROOT_STEPS_MAX")).advise(format!(
                    "A device walks {} roots at once: begin another chain file, and send one after the other.",
                    limits.root_steps_max
                )),
            );
        }
        self.behind_roots(root, first, limits, names)
    }

    /// The next root, or nothing when it is one that the device has passed.
    fn step<'c>(
        &self,
        held: Option<&TrustRoot>,
        file: &'c [u8],
        limits: &Limits,
        names: &Names,
    ) -> Result<Option<TrustRoot<'c>>> {
        let proposal = Proposal::read(file)?;
        let number = proposal.root().map_or(0, |root| root.version);
        let at = |mut error: Error| {
            error.what = format!("version {number} in the root chain: {}", error.what);
            error
        };
        if let Some(held) = held.filter(|held| number <= held.version()) {
            let same = number < held.version() || Proposal::read(held.bytes())?.digest() == proposal.digest();
            let other = || {
                broken(format!(
                    "its version {number} is another root than the one that is held"
                ))
            };
            return if same { Ok(None) } else { Err(other()) };
        }
        judge(&proposal, held, limits, names).map_err(at)?;
        let root = TrustRoot::parse(file, limits, &trust::PORTABLE);
        root.map(Some)
            .map_err(|refused| at(Error::refused("trust root", refused)))
    }

    fn behind_roots(&self, root: TrustRoot, first: u64, limits: &Limits, names: &Names) -> Result<Walked> {
        let mut walked = Walked {
            first,
            last: root.version(),
            list: None,
            time: None,
            release: false,
        };
        let mut root = root;
        let refused = |name: &'static str| move |refused: Refused| Error::refused(name, refused);
        if let Some(list) = &self.list {
            judge(&Proposal::read(list)?, Some(&root), limits, names)?;
            let list = root
                .verify_list(list, limits, &trust::PORTABLE)
                .map_err(refused("revocation list"))?;
            walked.list = Some(list.number());
            root = root.with_list(list);
        }
        if let Some(time) = &self.time {
            judge(&Proposal::read(time)?, Some(&root), limits, names)?;
            walked.time = Some(
                root.verify_time(time, limits, &trust::PORTABLE)
                    .map_err(refused("time file"))?,
            );
        }
        if let Some(release) = &self.release {
            crate::verify(&Envelope::parse(release.clone())?, &root)?;
            walked.release = true;
        }
        Ok(walked)
    }

    /// Every version: what changed, who signed, until when it holds.
    pub fn history(&self, names: &Names) -> Result<Vec<Version>> {
        let mut history: Vec<Version> = Vec::new();
        let mut before: Option<(&[u8], Content)> = None;
        for file in self.roots() {
            let proposal = Proposal::read(file)?;
            let content = proposal
                .root()
                .ok_or_else(|| broken("it holds something else than roots"))?;
            let under = before.as_ref().map(|(file, _)| TrustRoot::stored(file, &Limits::LINUX));
            let under = under
                .transpose()
                .map_err(|refused| Error::refused("trust root", refused))?;
            history.push(Version {
                version: content.version,
                digest: proposal.digest(),
                changes: difference(before.as_ref().map(|(_, old)| old), &content, names),
                standing: standing(&proposal, under.as_ref())?,
                expires: content.expires,
            });
            before = Some((file, content));
        }
        Ok(history)
    }
}

/// One root of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    /// What changed from the one before, in words.
    pub changes: Vec<String>,
    /// Who signed it.
    pub standing: Standing,
    /// Seconds since 1970-01-01 UTC until which it holds.
    pub expires: Option<u64>,
}

impl Version {
    /// The same for a person or a script.
    pub fn to_tree(&self, names: &Names) -> Tree {
        let signed = |party: &super::standing::Party| {
            let who = names.labels(&party.state.signed).join(", ");
            Tree::from(format!("{}: {who}", party.name))
        };
        Tree::fields()
            .with("version", self.version)
            .with("digest", &self.digest[..])
            .with(
                "changes",
                self.changes
                    .iter()
                    .map(|line| line.as_str().into())
                    .collect::<Vec<Tree>>(),
            )
            .with(
                "signed by",
                self.standing.parties.iter().map(signed).collect::<Vec<_>>(),
            )
            .with("expires", self.expires.map_or("never".into(), moment))
    }
}

impl Walked {
    /// The same for a person or a script.
    pub fn to_tree(&self) -> Tree {
        Tree::fields()
            .with("from version", self.first)
            .with("to version", self.last)
            .with_some("revocation list", self.list)
            .with_some("not before", self.time.map(moment))
            .with("release", if self.release { "authentic" } else { "none" })
    }
}

fn once(place: &mut Option<Vec<u8>>, item: &[u8]) -> Result<()> {
    match place.replace(item.to_vec()) {
        None => Ok(()),
        Some(_) => Err(broken("an item stands in it twice")),
    }
}

fn version(root: &[u8]) -> Result<u64> {
    let decoded = RootFile::decode(root, &Limits::LINUX);
    Ok(decoded
        .map_err(|refused| Error::refused("trust root", refused))?
        .root
        .version)
}

fn broken(what: impl Into<String>) -> Error {
    Code::ChainBroken.error(format!("the root chain: {}", what.into()))
}
