//! A device of a development line at its station, with secrets and pending work everywhere, the production line that it
//! may go over to, and what a test of lifecycles does with them.

use crate::body::{Body, Made, Sim, ensure};
use crate::chance::Chance;
use crate::device::Shape;
use crate::fixture::{Authority, Key, Root, Scheme, revocation_list, sha256};
use crate::line::forge;
use crate::nor::Nor;
use codec::record::{LifecycleRequest, MailKind, StoreHeader, Upload};
use codec::roots::Environment;
use engine::boot::Reset;
use engine::install::Receiving;
use engine::layout::Area;
use std::collections::HashSet;

/// Bytes of a secret that count as a trace of it.
const TRACE_BYTES: usize = 16;
/// The time that the development line signed, in seconds since 1970-01-01 UTC.
pub const TIME_FLOOR: u64 = 1_800_000_000;

/// A development device, and the production line.
pub struct Life {
    /// The device; its authority is that of development.
    pub body: Body,
    /// Its flash, and what was seen of it.
    pub sim: Sim,
    /// The development image that runs, with counter 3.
    pub old: Made,
    /// Production's root.
    pub production: Root,
    /// Production's image, with counter 3.
    pub product: Made,
    /// Production's release key.
    pub release: Key,
    /// What must not be found once it is wiped: content of sealed storage, device key and entropy seed.
    secrets: Traces,
    /// Likewise every public key and key id of development.
    keys: Traces,
}

impl Life {
    /// A device whose images have this length: factory state, counter 3, a list, a time, half a release received, a
    /// further root and an outgoing bootloader waiting, a secret in every place for secrets.
    pub fn new(shape: Shape, scheme: Scheme, image_len: usize) -> Life {
        Life::of(shape, scheme, image_len, Some(1))
    }

    /// The same in this environment: 1 development, none production.
    pub fn of(shape: Shape, scheme: Scheme, image_len: usize, environment: Option<i64>) -> Life {
        let mut authority = Authority::new(scheme);
        let key = |name| Key::new(scheme, name);
        let [revoke, distribute] = [key("revoke"), key("distribute")];
        let root = authority.trust_root.clone();
        authority.trust_root = root.role(3, 1, &[&distribute]).role(4, 1, &[&revoke]);
        authority.trust_root.environment = environment;
        let production = production_root(scheme);
        let mut body = Body::new(shape, authority);
        let old = body.make("old", image_len, 3);
        let new = body.make("new", image_len - 40, 4);
        let product = body.make_signed("product", image_len - 60, 3, &[&key("production image")]);
        let keys = development_keys(&body.authority);
        let sim = body.factory(&old);
        let mut life = Life {
            secrets: Traces::default(),
            keys: Traces::of(keys.iter().flat_map(|key| [key.public(), key.id().to_vec()])),
            body,
            sim,
            old,
            production,
            product,
            release: key("production release"),
        };
        life.settle(&revoke, &distribute);
        life.begin_release(&new);
        life.plant();
        life
    }

    /// Counter, list and time floor as after some time in development.
    fn settle(&mut self, revoke: &Key, distribute: &Key) {
        let (id, body) = (self.body.authority.trust_root.id, &self.body);
        let stranger = Key::new(body.authority.scheme, "a key that was stolen");
        let list = revocation_list(1, id, &[&stranger], &[revoke]);
        let time = crate::fixture::time_file(TIME_FLOOR as i64, id, &[distribute]);
        body.boot_to(&mut self.sim, Reset::Power, "old", false)
            .expect("a good device");
        for file in [time, list] {
            body.install(&mut self.sim, &file, 700).expect("a time, a list");
            body.boot_to(&mut self.sim, Reset::Power, "old", false).expect("lawful");
            body.app(&mut self.sim, |_| Ok(())).expect("opens");
        }
        let header = self.header();
        assert_eq!((header.time_floor, header.counters[0]), (TIME_FLOOR, 3));
    }

    /// Half of a release of development is received.
    fn begin_release(&mut self, new: &Made) {
        let file = self.body.authority.release(9, &new.bytes, new.counter).build();
        let upload = Upload {
            sha: sha256(&[&file]),
            len: file.len() as u32,
        };
        let half = &file[..file.len() - new.bytes.len() / 3];
        let push = |device: &mut engine::device::Device<'_, &mut Nor>| {
            let mut buffer = [0; 2048];
            Receiving::new(&mut buffer, upload).push(half, device).map(|_| ())
        };
        self.body.app(&mut self.sim, push).expect("half a release");
        let pending = self.body.app(&mut self.sim, |device| Ok(device.state().pending));
        assert!(pending.expect("opens").is_some());
    }

    /// Secrets wherever there is a place for them, and a further root of development in the mailbox.
    fn plant(&mut self) {
        let mut chance = Chance::new(41);
        let mut secrets = Vec::new();
        for area in self
            .places_of_secrets()
            .into_iter()
            .chain([self.body.layout.sealed_counter])
        {
            let bytes = chance.bytes(area.len as usize);
            self.sim.nor.program(area.start, &bytes);
            secrets.push(bytes);
        }
        secrets.pop();
        self.secrets = Traces::of(secrets);
        let mut further = self.body.authority.trust_root.next();
        further.signers = vec![self.body.authority.root.clone()];
        let update = self.body.layout.boot_update;
        self.sim
            .nor
            .program(update.start, &further.build()[..update.len as usize]);
    }

    /// A further root of development waits for the bootloader.
    pub fn stage_further_root(&mut self) {
        let mut further = self.body.authority.trust_root.next();
        further.signers = vec![self.body.authority.root.clone()];
        forge(&mut self.sim.nor, &self.body, MailKind::Root, &further.build());
    }

    fn places_of_secrets(&self) -> [Area; 4] {
        let layout = &self.body.layout;
        [layout.sealed[0], layout.sealed[1], layout.device_key, layout.entropy]
    }

    /// The application asks for a step.
    pub fn ask(&self, sim: &mut Sim, request: LifecycleRequest) -> Result<(), String> {
        self.body.app(sim, |device| device.request_lifecycle(request))
    }

    /// The header of the trust store.
    pub fn header(&mut self) -> StoreHeader {
        self.header_of(&mut self.sim.nor.clone()).expect("a store")
    }

    /// The header of the trust store in this flash.
    pub fn header_of(&self, nor: &mut Nor) -> Option<StoreHeader> {
        self.body.store(nor).map(|store| *store.header())
    }

    /// Every secret is where it was.
    pub fn judge_whole(&self, nor: &Nor) -> Result<(), String> {
        for area in self
            .places_of_secrets()
            .into_iter()
            .chain([self.body.layout.sealed_counter])
        {
            let same = self.body.area(nor, area) == self.body.area(&self.sim.nor, area);
            ensure(same, || format!("{area:x?} changed, although nothing was decided"))?;
        }
        Ok(())
    }

    /// No trace of a secret is left, and the counter of the sealed storage is what it was.
    pub fn judge_without_secrets(&self, nor: &Nor) -> Result<(), String> {
        let counter = self.body.layout.sealed_counter;
        ensure(
            self.body.area(nor, counter) == self.body.area(&self.sim.nor, counter),
            || "the counter of the sealed storage changed".into(),
        )?;
        self.secrets.judge(nor.cells(), "a secret")
    }

    /// No trace of a secret, nor of a key of development, is left.
    pub fn judge_without_world(&self, nor: &Nor) -> Result<(), String> {
        self.judge_without_secrets(nor)?;
        self.keys.judge(nor.cells(), "a key of development")
    }

    /// Nothing is under way, proposed or staged.
    pub fn judge_nothing_pending(&self, nor: &Nor) -> Result<(), String> {
        let layout = &self.body.layout;
        let journal = layout.journal;
        let areas = [
            layout.mailbox,
            journal[0],
            journal[1],
            layout.head,
            layout.table,
            layout.boot_update,
        ];
        for area in areas.into_iter().chain([layout.secondary]) {
            let cells = self.body.area(nor, area);
            let erased = cells.iter().all(|byte| *byte == self.body.shape.erased);
            ensure(erased, || format!("{area:x?} is not erased"))?;
        }
        Ok(())
    }

    /// The environment of the stored root; `None` without one.
    pub fn environment(&self, nor: &mut Nor) -> Option<Environment> {
        let mut buffer = [0; 2048];
        let store = self.body.store(nor)?;
        let root = store.read_trust(nor, &self.body.layout, &self.body.limits, &mut buffer);
        root.ok().map(|root| root.environment())
    }
}

/// The root of another line of keys for the same products.
fn production_root(scheme: Scheme) -> Root {
    let key = |name: &str| Key::new(scheme, &format!("production {name}"));
    let root = Authority::new(scheme).trust_root;
    Root {
        roles: vec![
            (1, 1, vec![key("root")]),
            (2, 1, vec![key("release")]),
            (6, 1, vec![key("image")]),
        ],
        signers: vec![key("root")],
        ..root
    }
}

fn development_keys(authority: &Authority) -> Vec<Key> {
    let roles = authority.trust_root.roles.iter();
    roles.flat_map(|(_, _, keys)| keys.iter().cloned()).collect()
}

/// Every window of some secret bytes, to be looked for in a flash.
#[derive(Default)]
struct Traces {
    windows: HashSet<[u8; TRACE_BYTES]>,
    /// Whether a window begins with these two bytes.
    begins: Vec<bool>,
}

impl Traces {
    fn of(secrets: impl IntoIterator<Item = Vec<u8>>) -> Traces {
        let mut traces = Traces {
            windows: HashSet::new(),
            begins: vec![false; 1 << 16],
        };
        for secret in secrets {
            for window in secret.windows(TRACE_BYTES) {
                traces.begins[usize::from(u16::from_le_bytes([window[0], window[1]]))] = true;
                traces.windows.insert(window.try_into().expect("as long"));
            }
        }
        assert!(!traces.windows.is_empty());
        traces
    }

    fn judge(&self, cells: &[u8], what: &str) -> Result<(), String> {
        let found = cells.windows(TRACE_BYTES).position(|window| {
            self.begins[usize::from(u16::from_le_bytes([window[0], window[1]]))] && self.windows.contains(window)
        });
        ensure(found.is_none(), || {
            format!("{what} is left at {:#x}", found.unwrap_or(0))
        })
    }
}
