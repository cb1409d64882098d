//! Whatever the application leaves in the mailbox: the bootloader takes what the authority signed, nothing else, and what
//! runs keeps running.
//!
//! The first byte of an input says which part it stands in.

use ampoule_sim::body::Boot;
use ampoule_sim::fixture::{revocation_list, time_file};
use ampoule_sim::line::{Line, forge};
use codec::record::MailKind;
use engine::boot::Reset;
use std::sync::OnceLock;

const KINDS: [MailKind; 3] = [MailKind::Root, MailKind::Revoke, MailKind::Time];

struct Bench {
    line: Line,
    /// What the authority signed, in the order of [`KINDS`].
    good: [Vec<u8>; 3],
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let line = Line::new();
        let root = line.second().build();
        let list = revocation_list(3, line.first.id, &[&line.keys.release], &[&line.keys.revoke]);
        let time = time_file(1_800_000_000, line.first.id, &[&line.keys.distribute]);
        Bench {
            good: [root, list, time],
            line,
        }
    })
}

/// A proposal with the right digest, and the boot that judges it.
pub fn run(data: &[u8]) {
    let Some((part, content)) = data.split_first() else {
        return;
    };
    let Bench { line, good } = bench();
    let which = usize::from(*part) % KINDS.len();
    let (body, mut sim) = (&line.body, line.sim.clone());
    let room = body.layout.mail(KINDS[which]).len as usize - codec::record::MAIL_HEADER_BYTES;
    if content.len() > room - 32 {
        return;
    }
    forge(&mut sim.nor, body, KINDS[which], content);
    let before = *body.store(&mut sim.nor).expect("a store").header();
    assert_eq!(body.boot(&mut sim, Reset::Software), Ok(Boot::Runs("old", false)));
    let after = *body.store(&mut sim.nor).expect("a store").header();
    if content == good[which] {
        assert_ne!(after, before, "what the authority signed is taken");
    } else {
        assert_eq!(after, before, "what nobody signed changed the trust store");
    }
    let waits = body.app(&mut sim, |device| device.waits(KINDS[which]).map_err(Into::into));
    assert_eq!(waits, Ok(false), "it was taken or refused");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::keep;

    #[test]
    fn seeds_are_what_the_authority_signs() {
        for (part, name) in ["root", "list", "time"].into_iter().enumerate() {
            let seed = [&[part as u8][..], &bench().good[part]].concat();
            keep("mailbox", name, &seed);
        }
    }
}
