//! What clients of signed roots have got wrong before (profile section 13, MUST NOT): one test each where no other stands.
//! docs/rotation.md lists all of them.

use ampoule_sim::body::Boot;
use ampoule_sim::fixture::time_file;
use ampoule_sim::line::Line;
use engine::install::Step;

/// A moment after which root 2 of these tests is expired.
const EXPIRY: i64 = 1_700_000_000;

/// A device that slept for years walks through roots that expired meanwhile; its time floor stands behind them all.
#[test]
fn an_intermediate_root_that_expired_is_walked_through() {
    let mut line = Line::new();
    let floor = time_file(EXPIRY + 1_000_000, line.first.id, &[&line.keys.distribute]);
    line.follow(&[line.first.build(), floor].concat());
    let mut second = line.second();
    second.expires = Some(EXPIRY);
    let mut third = second.next().signed(&[&line.keys.next_root]);
    third.expires = Some(EXPIRY + 2_000_000);
    line.follow(&second.build());
    assert_eq!(line.version(), Some(2));
    line.follow(&[second.build(), third.build()].concat());
    assert_eq!(line.version(), Some(3));
}

/// CVE-2020-15163: what failed a step is neither kept nor built upon.
#[test]
fn a_root_that_failed_is_not_the_foundation_of_the_next() {
    let mut line = Line::new();
    let forged = line.second().signed(&[&line.keys.next_root.clone()]);
    let next = forged.next().signed(&[&line.keys.next_root.clone()]);
    line.refuses(&forged.build(), 804);
    line.refuses(&next.build(), 803);
    line.refuses(&[forged.build(), next.build()].concat(), 804);
    assert_eq!(line.boot(), Boot::Runs("old", false));
    assert_eq!(line.version(), Some(1));
    // The real one is still taken: the forged one has not used up its number.
    line.follow(&line.second().build());
    assert_eq!(line.version(), Some(2));
}

/// A release behind a root that was refused is not judged, and the device goes on with the root that it has.
#[test]
fn a_failed_rotation_is_no_success_of_the_delivery_behind_it() {
    let mut line = Line::new();
    let forged = line.second().signed(&[&line.keys.next_root.clone()]);
    let new = line.body.make("new", 2_000, 2);
    let release = line.release(9, &new, &line.keys.release.clone());
    line.refuses(&[forged.build(), release.clone()].concat(), 804);
    assert_eq!(line.version(), Some(1));
    line.update(&release, "new");
}

/// Nothing that a sender adds makes a device walk on and on: one root at each reset, however many stand in the file.
#[test]
fn a_chain_without_end_is_one_step_at_each_reset() {
    let mut line = Line::new();
    let mut roots = vec![line.first.build(), line.second().build()];
    let mut last = line.second();
    for _ in 0..40 {
        last = last.next().signed(&[&line.keys.next_root.clone()]);
        roots.push(last.build());
    }
    let chain = roots.concat();
    for version in 2..6 {
        let sent = line.send(&chain);
        assert!(sent.is_err_and(|what| what.starts_with("812 ")));
        line.boot();
        line.body.app(&mut line.sim, |_| Ok(())).expect("opens");
        assert_eq!(line.version(), Some(version));
    }
}

/// Nobody is believed for saying twice the same: as the root's own keys, and as those of the next.
#[test]
fn one_root_key_does_not_make_a_threshold_of_two() {
    let mut line = Line::new();
    let two = line
        .second()
        .role(1, 2, &[&line.keys.next_root.clone(), &line.keys.thief.clone()]);
    let once = [&line.keys.root.clone(), &line.keys.next_root.clone()];
    line.refuses(&two.clone().signed(&once).build(), 805);
    let twice = [once[0], once[1], once[1]];
    assert!(line.send(&two.clone().signed(&twice).build()).is_err());
    assert_eq!(line.version(), Some(1));
    let both = [once[0], once[1], &line.keys.thief.clone()];
    assert_eq!(line.send(&two.signed(&both).build()), Ok(Step::ChainTaken));
}
