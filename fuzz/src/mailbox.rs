//! Whatever the application leaves in the mailbox: the bootloader takes what the authority signed, nothing else, and what
//! runs keeps running. A lifecycle request is signed by nobody: what is none changes nothing, and no request leads back.
//!
//! The first byte of an input says which part it stands in.

use ampoule_sim::body::Boot;
use ampoule_sim::fixture::{revocation_list, time_file};
use ampoule_sim::line::{Line, forge};
use codec::reason::Reason;
use codec::record::{Lifecycle, LifecycleRequest, MailKind, StoreHeader};
use engine::boot::Reset;
use std::sync::OnceLock;

const KINDS: [MailKind; 4] = MailKind::ALL;

struct Bench {
    line: Line,
    /// What the authority signed, in the order of [`KINDS`], but for the last, which nobody signs.
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
    let boot = body.boot(&mut sim, Reset::Software).expect("lawful");
    let after = *body.store(&mut sim.nor).expect("a store").header();
    if KINDS[which] == MailKind::Lifecycle {
        assert_eq!(boot, judge(content, &before, &after));
        if boot != RUNS {
            return;
        }
    } else {
        assert_eq!(boot, RUNS);
        let taken = content == good[which];
        assert_eq!(
            after != before,
            taken,
            "what the authority signed is taken, and nothing else"
        );
    }
    let waits = body.app(&mut sim, |device| device.waits(KINDS[which]).map_err(Into::into));
    assert_eq!(waits, Ok(false), "it was taken or refused");
}

const RUNS: Boot = Boot::Runs("old", false);

/// What starts after a lifecycle request; panics if the trust store says what was not asked for.
fn judge(content: &[u8], before: &StoreHeader, after: &StoreHeader) -> Boot {
    assert!(after.lifecycle >= before.lifecycle && !after.wiping);
    match LifecycleRequest::parse(content) {
        Ok(LifecycleRequest::Advance(to)) if to > before.lifecycle => {
            assert_eq!(after.lifecycle, to);
            match to {
                Lifecycle::Decommissioned => Boot::Recovery(Reason::Decommissioned),
                _ => RUNS,
            }
        }
        // The root of this bench is none of development.
        _ => {
            assert_eq!(after, before, "what is no step forward changed the trust store");
            RUNS
        }
    }
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
        let ends = LifecycleRequest::Advance(Lifecycle::Decommissioned);
        for (name, request) in [("leave", LifecycleRequest::LeaveDevelopment), ("end", ends)] {
            let seed = [&[3][..], &request.to_bytes()].concat();
            keep("mailbox", name, &seed);
            run(&seed);
        }
    }

    #[test]
    fn every_byte_of_a_lifecycle_request_matters() {
        let request = LifecycleRequest::Advance(Lifecycle::Rma).to_bytes();
        for at in 0..request.len() {
            for byte in 0..=u8::MAX {
                let mut bent = [&[3][..], &request].concat();
                bent[1 + at] = byte;
                run(&bent);
            }
        }
    }
}
