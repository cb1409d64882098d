//! Whatever arrives, a device stages only what its authority made, changes nothing before it has admitted a release, and
//! boots its old image afterwards.
//!
//! The first byte of an input says in pieces of how many bytes the rest arrives; its highest bit says that the rest is a
//! manifest that an attacker signs with the real release key, with the members of a real release behind it.

use ampoule_sim::body::{Body, Boot, Sim};
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Authority, Release, Scheme};
use codec::record::Upload;
use engine::boot::Reset;
use engine::install::{Receiving, Step};
use engine::journal::Progress;
use std::sync::OnceLock;

const BUFFER_BYTES: usize = 2_048;
const RESIGNED: u8 = 0x80;

struct Bench {
    body: Body,
    sim: Sim,
    release: Release,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let mut body = Body::new(Shape::small(4, 0xff, true), Authority::new(Scheme::TestOnlyHash));
        let old = body.make("old", 1_500, 1);
        let new = body.make("new", 2_200, 2);
        let release = body.authority.release(7, &new.bytes, new.counter);
        let mut sim = body.factory(&old);
        body.boot_to(&mut sim, Reset::Power, "old", false)
            .expect("a good device");
        Bench { body, sim, release }
    })
}

/// One upload of these bytes.
pub fn run(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let Bench { body, sim, release } = bench();
    let file = if how & RESIGNED != 0 {
        release.sign(rest)
    } else {
        rest.to_vec()
    };
    let piece = usize::from(how & !RESIGNED).pow(2) + 1;
    let mut sim = sim.clone();
    let before = sim.nor.cells().to_vec();
    let (staged, begun) = body
        .app(&mut sim, |device| {
            let mut buffer = [0; BUFFER_BYTES];
            let upload = Upload {
                sha: [1; 32],
                len: u32::try_from(file.len()).unwrap_or(u32::MAX),
            };
            let mut receiving = Receiving::new(&mut buffer, upload);
            let mut last = Ok(Step::More { offset: 0 });
            for piece in file.chunks(piece) {
                last = receiving.push(piece, device);
                if last.is_err() {
                    assert_eq!(receiving.push(piece, device), last, "a refusal is final");
                    break;
                }
            }
            let state = device.state();
            Ok((
                last == Ok(Step::Staged),
                state.pending.is_some() || state.ending.is_some(),
            ))
        })
        .expect("the device opens");
    assert!(
        begun || sim.nor.cells() == before,
        "something was written before anything was admitted"
    );
    if staged {
        let image = body.image_at(&sim.nor, body.staging_address());
        assert!(
            image.is_some_and(|image| image.name == "new"),
            "something else was staged"
        );
    }
    let settled = body.app(&mut sim, |device| {
        let pending = device.state().pending.map(|pending| pending.progress);
        assert_eq!(staged, matches!(pending, Some(Progress::Staged { .. })));
        Ok(())
    });
    settled.expect("the device opens again");
    assert_eq!(body.boot(&mut sim, Reset::Power), Ok(Boot::Runs("old", false)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The seeds lead where they are meant to lead; with AMPOULE_RENEW set they are written.
    #[test]
    fn seeds_are_a_whole_release_and_its_manifest() {
        let release = &bench().release;
        let whole = [vec![16], release.build()].concat();
        let mut manifest = vec![RESIGNED | 16];
        manifest.extend(release.manifest_bytes());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/receiving");
        for (name, seed) in [("release", whole), ("manifest", manifest)] {
            if std::env::var_os("AMPOULE_RENEW").is_some() {
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(folder.join(name), &seed).expect("a file");
            }
            assert_eq!(
                std::fs::read(folder.join(name)).expect("a seed"),
                seed,
                "renew with AMPOULE_RENEW=1"
            );
            let file = if name == "release" {
                seed[1..].to_vec()
            } else {
                release.sign(&seed[1..])
            };
            let mut sim = bench().sim.clone();
            let step = bench().body.app(&mut sim, |device| {
                let mut buffer = [0; BUFFER_BYTES];
                Receiving::new(&mut buffer, Upload::default()).push(&file, device)
            });
            assert_eq!(step, Ok(Step::Staged));
        }
    }
}
