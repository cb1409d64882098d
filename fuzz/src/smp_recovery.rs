//! Whatever a client says to a bootloader in recovery: every request gets an answer of its own, and only what the authority
//! made starts afterwards.
//!
//! The first byte of an input says which device it is: blank, or one with a root and no image.

use crate::script::frames;
use crate::smp_server::judge;
use ampoule_sim::body::{Body, Boot, Ledger, Sim};
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Authority, Scheme};
use codec::Reason;
use codec::smp::response::Parameters;
use engine::boot::{Buffers, Reset};
use engine::recover::Recovery;
use engine::smp::Action;
use std::sync::OnceLock;

const MESSAGE_BYTES: usize = 1_024;

struct Bench {
    body: Body,
    blank: Sim,
    without_image: Sim,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let mut body = Body::new(Shape::small(4, 0xff, true), Authority::new(Scheme::TestOnlyHash));
        body.make("good", 700, 2);
        let ledger = Ledger {
            confirmed: Some("good"),
            ..Ledger::default()
        };
        Bench {
            blank: Sim::new(body.shape.blank().0, ledger.clone()),
            without_image: Sim::new(body.provisioned(), ledger),
            body,
        }
    })
}

/// A dialogue up to the first reset, and the boot after it.
pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    let Bench {
        body,
        blank,
        without_image,
    } = bench();
    let is_blank = which & 1 == 0;
    let mut sim = if is_blank { blank } else { without_image }.clone();
    let stored = body.root_version(&mut sim.nor);
    talk(body, &mut sim, rest);
    match body.boot_unstored(&mut sim, Reset::Power).expect("lawful") {
        Boot::Runs("good", false) | Boot::Recovery(Reason::NoBootableImage) => {}
        Boot::Recovery(Reason::NoRoot) => assert!(is_blank, "the root is gone"),
        other => panic!("{other:?}"),
    }
    assert!(is_blank || body.root_version(&mut sim.nor) == stored);
}

fn talk(body: &Body, sim: &mut Sim, data: &[u8]) {
    let (mut root, mut scratch) = ([0; 1536], [0; 256]);
    let parameters = Parameters {
        buf_size: MESSAGE_BYTES as u32,
        buf_count: 1,
    };
    let buffers = Buffers {
        root: &mut root,
        scratch: &mut scratch,
    };
    let mut recovery = Recovery::new(Reason::NoBootableImage, parameters, buffers);
    for message in frames(data) {
        let mut out = [0; MESSAGE_BYTES];
        let (answer, action) = recovery.handle(message, &mut sim.nor, &body.board(), &mut out);
        judge(message, answer);
        if action == Action::Reset {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{keep, script};
    use crate::smp_server::tests::upload;
    use codec::smp::client::Destination;

    #[test]
    fn seeds_provision_and_recover() {
        let Bench {
            body,
            blank,
            without_image,
        } = bench();
        let root = script(upload(Destination::Root, &body.authority.trust_root.build()));
        let image = script(upload(Destination::Image, &body.images[0].bytes));
        keep("smp_recovery", "root", &[&[0][..], &root].concat());
        keep("smp_recovery", "image", &[&[1][..], &image].concat());
        let mut sim = blank.clone();
        talk(body, &mut sim, &root);
        assert_eq!(body.root_version(&mut sim.nor), Some(1));
        let mut sim = without_image.clone();
        talk(body, &mut sim, &image);
        assert_eq!(body.boot(&mut sim, Reset::Power), Ok(Boot::Runs("good", false)));
    }
}
