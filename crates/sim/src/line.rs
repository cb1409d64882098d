//! A product line in a simulated device: root 1 with all its roles, root 2 with other keys for everything, and what a test
//! of rotations does with them.

use crate::body::{Body, Boot, Made, Sim};
use crate::device::Shape;
use crate::fixture::{Authority, Key, Release, Root, Scheme};
use crate::nor::Nor;
use codec::mcuboot::trailer::SwapType;
use codec::record::{BootEventKind, MAIL_HEADER_BYTES, MailHeader, MailKind};
use engine::boot::Reset;
use engine::flash::Flash;
use engine::install::Step;
use trust::Sha256;

/// A production device under root 1, and the keys of its authority, old and new.
pub struct Line {
    /// The device.
    pub body: Body,
    /// Its flash, and what was seen of it.
    pub sim: Sim,
    /// The image that runs at first, signed by the image key of root 1.
    pub old: Made,
    /// Root 1.
    pub first: Root,
    /// Whoever signs.
    pub keys: Keys,
}

/// The keys of a product line. Root 1 names the first of each kind, root 2 the next.
pub struct Keys {
    /// Signs roots.
    pub root: Key,
    /// Signs roots from root 2 on.
    pub next_root: Key,
    /// Signs releases.
    pub release: Key,
    /// Signs releases from root 2 on.
    pub next_release: Key,
    /// Signs images.
    pub image: Key,
    /// Signs images from root 2 on.
    pub next_image: Key,
    /// Signs images for another role, or as a second.
    pub second_image: Key,
    /// Signs time files.
    pub distribute: Key,
    /// Signs revocation lists.
    pub revoke: Key,
    /// Signs nothing that anybody trusts.
    pub thief: Key,
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl Line {
    /// A small device with signatures that cost nothing.
    pub fn new() -> Line {
        Line::of(Shape::small(4, 0xff, true), Scheme::TestOnlyHash)
    }

    /// A device of this shape.
    pub fn of(shape: Shape, scheme: Scheme) -> Line {
        Line::sized(shape, scheme, 1500)
    }

    /// A device of this shape whose first image has this length.
    pub fn sized(shape: Shape, scheme: Scheme, old_len: usize) -> Line {
        let mut authority = Authority::new(scheme);
        let key = |name| Key::new(scheme, name);
        let keys = Keys {
            root: authority.root.clone(),
            next_root: key("next root"),
            release: authority.release.clone(),
            next_release: key("next release"),
            image: authority.image.clone(),
            next_image: key("next image"),
            second_image: key("second image"),
            distribute: key("distribute"),
            revoke: key("revoke"),
            thief: key("thief"),
        };
        let root = std::mem::replace(&mut authority.trust_root, Authority::new(scheme).trust_root);
        let first = root.role(3, 1, &[&keys.distribute]).role(4, 1, &[&keys.revoke]);
        authority.trust_root = first.clone();
        let mut body = Body::new(shape, authority);
        let old = body.make("old", old_len, 1);
        let mut sim = body.factory(&old);
        body.boot_to(&mut sim, Reset::Power, "old", false)
            .expect("a good device");
        Line {
            body,
            sim,
            old,
            first,
            keys,
        }
    }

    /// Root 2: other keys for everything.
    pub fn second(&self) -> Root {
        let Keys {
            root,
            next_root,
            next_release,
            next_image,
            ..
        } = &self.keys;
        self.first
            .next()
            .role(1, 1, &[next_root])
            .role(2, 1, &[next_release])
            .role(6, 1, &[next_image])
            .signed(&[root, next_root])
    }

    /// A release of this image, signed with this key.
    pub fn release(&self, sequence: i64, image: &Made, signer: &Key) -> Vec<u8> {
        Release::new(
            sequence,
            image.bytes.clone(),
            image.counter,
            std::slice::from_ref(signer),
        )
        .build()
    }

    /// Sends a file as a transport would, in pieces.
    pub fn send(&mut self, file: &[u8]) -> Result<Step, String> {
        self.body.install(&mut self.sim, file, 700)
    }

    /// Sends what is refused with this number and changes no byte.
    pub fn refuses(&mut self, file: &[u8], number: u16) {
        let before = self.sim.nor.cells().to_vec();
        let refused = self.send(file);
        assert!(
            refused
                .as_ref()
                .is_err_and(|what| what.starts_with(&format!("{number} "))),
            "{number}: {refused:?}"
        );
        assert!(self.sim.nor.cells() == before, "{number} changed the flash");
    }

    /// Sends a chain alone, lets the bootloader see it, and the application what became of it.
    pub fn follow(&mut self, file: &[u8]) {
        assert_eq!(self.send(file), Ok(Step::ChainTaken));
        self.boot();
        self.body.app(&mut self.sim, |_| Ok(())).expect("the application opens");
    }

    /// One reset, and what runs after it.
    pub fn boot(&mut self) -> Boot {
        self.body.boot(&mut self.sim, Reset::Software).expect("lawful")
    }

    /// The version of the stored root.
    pub fn version(&mut self) -> Option<u64> {
        self.body.root_version(&mut self.sim.nor)
    }

    /// The digest that the store pins.
    pub fn pinned(&mut self) -> Option<[u8; 32]> {
        self.body
            .store(&mut self.sim.nor)
            .and_then(|store| store.header().pinned)
    }

    /// Installs a release up to its confirmed image.
    pub fn update(&mut self, file: &[u8], image: &'static str) {
        assert_eq!(self.send(file), Ok(Step::Staged));
        self.try_staged(image);
        self.body.confirm(&mut self.sim, image).expect("confirmed");
        self.body
            .boot_to(&mut self.sim, Reset::Software, image, false)
            .expect("stays");
        self.body.boot_steady(&mut self.sim, image).expect("steady");
    }

    /// Asks for the staged image and boots it on trial.
    pub fn try_staged(&mut self, image: &'static str) {
        let Line { body, sim, .. } = self;
        body.app(sim, |device| device.request_swap(None, SwapType::Test))
            .expect("a request");
        body.boot_to(sim, Reset::Software, image, true).expect("a trial");
    }

    /// Writes a proposal as an attacker with the application's rights can: any bytes, with the right digest.
    pub fn forge(&mut self, kind: MailKind, content: &[u8]) {
        forge(&mut self.sim.nor, &self.body, kind, content);
    }

    /// Whether the last word of the bootloader on a proposal was this refusal; the mailbox is empty afterwards.
    pub fn declined(&mut self) -> Option<u16> {
        let (body, sim) = (&self.body, &mut self.sim);
        body.app(sim, |device| {
            for kind in MailKind::ALL {
                assert!(!device.waits(kind)?, "{kind:?} still waits");
            }
            let event = device.mail_event()?;
            Ok(event
                .filter(|event| event.kind == BootEventKind::Declined)
                .map(|event| event.reason))
        })
        .expect("the application opens")
    }
}

/// Writes a proposal into a flash: any bytes, with the right digest.
pub fn forge(nor: &mut Nor, body: &Body, kind: MailKind, content: &[u8]) {
    let header = MailHeader {
        kind,
        len: content.len() as u32,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(Sha256::of_parts(&[&header.to_bytes(), content]));
    assert_eq!(bytes.len(), MAIL_HEADER_BYTES);
    bytes.extend(content);
    let area = body.layout.mail(kind);
    let mut at = area.start;
    while at < area.end() {
        let sector = nor.sector(at).expect("a sector");
        nor.erase(sector).expect("powered");
        at = sector.end();
    }
    bytes.resize(bytes.len().next_multiple_of(32), body.shape.erased);
    nor.write(area.start, &bytes).expect("powered");
}
