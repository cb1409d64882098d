//! How a device follows its authority: what it takes from a root chain, what it refuses, and what may start afterwards.

use ampoule_sim::body::{Boot, Sim};
use ampoule_sim::chance::Chance;
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Key, Scheme, revocation_list, time_file};
use ampoule_sim::line::{Keys, Line, forge};
use codec::mcuboot::trailer::SwapType;
use codec::record::{MAIL_HEADER_BYTES, MailKind};
use engine::boot::Reset;
use engine::flash::Flash;
use engine::install::Step;
use trust::Sha256;

/// Root N to N+1 in front of a release: 812, a reset, and the same file again.
#[test]
fn a_chain_in_front_of_a_release_takes_the_device_along() {
    for scheme in [Scheme::TestOnlyHash, Scheme::Ed25519, Scheme::P256] {
        let mut line = Line::of(Shape::small(4, 0xff, true), scheme);
        let new = line.body.make_signed("new", 2200, 2, &[&line.keys.next_image.clone()]);
        let (first, second) = (line.first.build(), line.second().build());
        let release = line.release(9, &new, &line.keys.next_release.clone());
        let file = [first, second, release].concat();
        assert!(line.send(&file).is_err_and(|what| what.starts_with("812 ")));
        assert_eq!(line.version(), Some(1), "the application commits nothing");
        assert!(
            line.send(&file).is_err_and(|what| what.starts_with("812 ")),
            "until the reset"
        );
        assert_eq!(line.boot(), Boot::Runs("old", false));
        assert_eq!(line.version(), Some(2));
        assert_eq!(
            line.pinned(),
            Some(line.old.digest()),
            "the new root no longer accepts it"
        );
        line.body.boot_steady(&mut line.sim, "old").expect("pinned");
        line.update(&file, "new");
        assert_eq!(line.pinned(), None, "its reason is gone");
        assert_eq!(line.send(&file), Ok(Step::AlreadyInstalled));
    }
}

/// Pieces of every size, cut through the files of the chain and the head.
#[test]
fn a_chain_arrives_in_pieces_of_any_size() {
    let line = Line::new();
    let second = line.second();
    let third = second.next().signed(&[&line.keys.next_root]).build();
    let chain = [line.first.build(), second.build()].concat();
    for piece in (1..80).chain([500, 5000]) {
        let mut sim = line.sim.clone();
        assert_eq!(
            line.body.install(&mut sim, &chain, piece),
            Ok(Step::ChainTaken),
            "{piece}"
        );
        line.body
            .boot_to(&mut sim, Reset::Software, "old", false)
            .expect("lawful");
        assert_eq!(line.body.root_version(&mut sim.nor), Some(2), "{piece}");
        let further = [&chain[..], &third].concat();
        assert_eq!(
            line.body.install(&mut sim, &further, piece),
            Ok(Step::ChainTaken),
            "{piece}"
        );
        line.body
            .boot_to(&mut sim, Reset::Software, "old", false)
            .expect("lawful");
        assert_eq!(line.body.root_version(&mut sim.nor), Some(3), "{piece}");
    }
}

/// A file that was interrupted behind its chain goes on behind its chain.
#[test]
fn an_interrupted_upload_behind_a_chain_is_resumed() {
    let mut line = Line::new();
    let new = line.body.make_signed("new", 2500, 2, &[&line.keys.next_image.clone()]);
    let second = line.second().build();
    line.follow(&second);
    let file = [&second[..], &line.release(9, &new, &line.keys.next_release.clone())].concat();
    // The sender goes away in the second chunk; the device restarts.
    let upload = codec::record::Upload {
        sha: Sha256::of(&file),
        len: file.len() as u32,
    };
    let Line { body, sim, .. } = &mut line;
    let stopped = file.len() - 1000;
    body.app(sim, |device| {
        let mut buffer = [0; 2048];
        engine::install::Receiving::new(&mut buffer, upload)
            .push(&file[..stopped], device)
            .map(|_| ())
    })
    .expect("the first part");
    body.boot_to(sim, Reset::Power, "old", false).expect("lawful");
    let offset = body.app(sim, |device| {
        let mut buffer = [0; 2048];
        match engine::install::Receiving::resume(device, &mut buffer) {
            engine::install::Resumed::Going(receiving) => Ok(receiving.offset()),
            engine::install::Resumed::Nothing(_) => Ok(0),
        }
    });
    let offset = offset.expect("resumed") as usize;
    assert!(
        offset > second.len() + 1000 && offset <= stopped,
        "{offset} of {stopped}"
    );
    line.update(&file, "new");
}

/// Every rule of rotation, at the application's door and at the bootloader's, with the same number at both.
#[test]
fn what_the_rules_refuse_is_refused_by_application_and_bootloader() {
    let line = Line::new();
    let (first, second) = (&line.first, line.second());
    let Keys {
        root, next_root, thief, ..
    } = &line.keys;
    let mut bent = second.build();
    *bent.last_mut().expect("bytes") ^= 1;
    let mut other_line = second.clone();
    other_line.id = *b"another product.";
    let mut development = second.clone();
    development.environment = Some(1);
    let mut minimum = first.clone();
    minimum.minima = vec![(*b"class of a test.", 5)];
    let cases = [
        (
            "signed only by the new keys",
            second.clone().signed(&[next_root]).build(),
            804,
        ),
        (
            "signed only by the old keys",
            second.clone().signed(&[root]).build(),
            805,
        ),
        ("signed by a stranger", second.clone().signed(&[thief]).build(), 804),
        ("a signature changed", bent, 810),
        (
            "a skipped version",
            second.next().signed(&[root, next_root]).build(),
            803,
        ),
        ("another product line", other_line.build(), 802),
        ("another environment", development.build(), 802),
        ("no image role", second.clone().role(6, 1, &[]).build(), 941),
        ("a threshold of 0", second.clone().role(2, 0, &[root]).build(), 808),
    ];
    for (what, file, number) in cases {
        let mut line = Line::new();
        line.refuses(&file, number);
        line.forge(MailKind::Root, &file);
        assert_eq!(line.boot(), Boot::Runs("old", false), "{what}");
        assert_eq!(line.version(), Some(1), "{what}");
        assert_eq!(line.declined(), Some(number), "{what}");
        // A failed rotation changes nothing of what follows: under root 1 the release of root 1's keys is installed.
        let new = line.body.make("new", 2000, 2);
        let file = line.release(9, &new, &line.keys.release.clone());
        line.update(&file, "new");
    }
}

/// The old root, an older list and an earlier time are no news; nothing comes back.
#[test]
fn what_is_older_is_skipped() {
    let mut line = Line::new();
    let (first, second) = (line.first.build(), line.second().build());
    let id = line.first.id;
    line.follow(&second);
    let Keys {
        revoke,
        thief,
        distribute,
        ..
    } = &line.keys;
    let lists = [1, 2].map(|number| revocation_list(number, id, &[thief], &[revoke]));
    let times = [1000, 2000].map(|seconds| time_file(seconds, id, &[distribute]));
    line.follow(&lists[1]);
    line.follow(&times[1]);
    let before = line.sim.nor.cells().to_vec();
    for old in [&first, &second, &lists[0], &lists[1], &times[0], &times[1]] {
        assert_eq!(line.send(old), Ok(Step::ChainTaken));
        assert!(line.sim.nor.cells() == before, "nothing is staged");
    }
    for (kind, old) in [(MailKind::Root, &first), (MailKind::Time, &times[0])] {
        line.forge(kind, old);
        line.boot();
        assert_eq!(line.declined(), None, "no news is no fault");
    }
    line.forge(MailKind::Revoke, &lists[0]);
    line.boot();
    assert_eq!(line.declined(), Some(811));
    let store = line.body.store(&mut line.sim.nor).expect("a store");
    assert_eq!(store.header().time_floor, 2000);
    assert_eq!(line.version(), Some(2));
    let number = line.body.app(&mut line.sim, |device| Ok(device.list_number()));
    assert_eq!(number, Ok(Some(2)));
}

/// Roots, then a list, then a time, then the envelope; anything else is no file for a device.
#[test]
fn a_chain_has_its_order() {
    let mut line = Line::new();
    let id = line.first.id;
    let first = line.first.build();
    let Keys { revoke, distribute, .. } = &line.keys;
    let list = revocation_list(1, id, &[], &[revoke]);
    let time = time_file(1000, id, &[distribute]);
    line.follow(&[&first[..], &list].concat());
    let new = line.body.make("new", 2000, 2);
    let release = line.release(9, &new, &line.keys.release.clone());
    line.refuses(&[&list[..], &first].concat(), 1013);
    line.refuses(&[&list[..], &list].concat(), 1013);
    line.refuses(&[&first[..], &new.bytes].concat(), 1007);
    // A time does not hold up what follows it.
    line.update(&[&first[..], &list, &time, &release].concat(), "new");
    let floor = line
        .body
        .store(&mut line.sim.nor)
        .map(|store| store.header().time_floor);
    assert_eq!(floor, Some(1000));
}

/// While an image is on trial or waits to be swapped in, a root waits for its turn; and the other way round.
#[test]
fn a_rotation_waits_for_a_swap_and_a_swap_for_a_rotation() {
    let mut line = Line::new();
    let new = line.body.make("new", 2000, 2);
    let release = line.release(9, &new, &line.keys.release.clone());
    let second = line.second().build();
    assert_eq!(line.send(&release), Ok(Step::Staged));
    let mut other = line.sim.clone();
    line.body
        .app(&mut line.sim, |device| device.request_swap(None, SwapType::Test))
        .expect("a request");
    line.refuses(&second, 1010);
    let asked = line.sim.clone();
    assert_eq!(line.boot(), Boot::Runs("new", true));
    line.refuses(&[&second[..], &release].concat(), 613);
    line.sim = asked;
    // Forced into the mailbox, it is not even looked at before the trial is over.
    line.forge(MailKind::Root, &second);
    assert_eq!(line.boot(), Boot::Runs("new", true));
    assert_eq!(line.version(), Some(1));
    line.body.confirm(&mut line.sim, "new").expect("confirmed");
    assert_eq!(line.boot(), Boot::Runs("new", false));
    assert_eq!(line.version(), Some(2));
    assert_eq!(line.pinned(), Some(new.digest()));
    // The other way round: staged root, then a request.
    assert_eq!(line.body.install(&mut other, &second, 700), Ok(Step::ChainTaken));
    let refused = line
        .body
        .app(&mut other, |device| device.request_swap(None, SwapType::Test));
    assert!(refused.is_err_and(|what| what.starts_with("812 ")));
}

/// A release that only removed keys approved is not installed: neither staged nor half received.
#[test]
fn pending_deliveries_are_verified_again_after_a_rotation() {
    let mut line = Line::new();
    let keep_image = line.second().role(6, 1, &[&line.keys.image.clone()]);
    let keep_release = line.second().role(2, 1, &[&line.keys.release.clone()]);
    let drop_both = line.second();
    let new = line.body.make("new", 2000, 2);
    let release = line.release(9, &new, &line.keys.release.clone());
    let Line { body, sim, .. } = &mut line;
    assert_eq!(body.install(sim, &release, 700), Ok(Step::Staged));
    for (root, reason) in [(keep_image, 219), (keep_release, 907), (drop_both, 219)] {
        let mut sim = sim.clone();
        assert_eq!(body.install(&mut sim, &root.build(), 700), Ok(Step::ChainTaken));
        body.boot_to(&mut sim, Reset::Software, "old", false).expect("lawful");
        let (pending, ending) = body
            .app(&mut sim, |device| Ok((device.state().pending, device.state().ending)))
            .expect("opens");
        assert_eq!((pending, ending.map(|ending| ending.reason)), (None, Some(reason)));
        let refused = body.app(&mut sim, |device| device.request_swap(None, SwapType::Test));
        assert!(refused.is_err_and(|what| what.starts_with("1004 ")));
    }
    // One that the new root approves as well stays, and is installed.
    let root = line
        .second()
        .role(2, 1, &[&line.keys.release.clone()])
        .role(6, 1, &[&line.keys.image.clone()]);
    line.follow(&root.build());
    line.try_staged("new");
}

/// Stricter in every way: the image that runs stays, nothing else of the old keys starts, new ones do.
#[test]
fn a_stricter_root_or_list_never_bricks() {
    let line = Line::new();
    let Keys {
        root,
        image,
        next_image,
        second_image,
        revoke,
        ..
    } = &line.keys;
    let next = || line.first.next();
    let mut seventh = next().role(7, 1, &[second_image]);
    seventh.image_required = Some(vec![6, 7]);
    let spare = next().role(6, 1, &[image, next_image]).signed(&[root]);
    type Case<'k> = (&'static str, Vec<Vec<u8>>, &'k [&'k Key]);
    let cases: [Case; 4] = [
        (
            "key removed",
            vec![next().role(6, 1, &[next_image]).signed(&[root]).build()],
            &[next_image],
        ),
        (
            "threshold raised",
            vec![next().role(6, 2, &[image, next_image]).signed(&[root]).build()],
            &[image, next_image],
        ),
        (
            "role 7 demanded",
            vec![seventh.signed(&[root]).build()],
            &[image, second_image],
        ),
        (
            "key revoked",
            vec![spare.build(), revocation_list(1, line.first.id, &[image], &[revoke])],
            &[next_image],
        ),
    ];
    for (what, chain, signers) in cases {
        let mut line = Line::new();
        let stolen = line.body.make("stolen", 1900, 3);
        let new = line.body.make_signed("new", 2000, 1, signers);
        for file in &chain {
            line.follow(file);
        }
        assert_eq!(line.pinned(), Some(line.old.digest()), "{what}");
        line.body.boot_steady(&mut line.sim, "old").expect(what);
        // An image of the old keys, forced past everything the application checks.
        let Line { body, sim, .. } = &mut line;
        body.stage(&mut sim.nor, &stolen.bytes);
        let slots = engine::layout::Slots::new(&body.layout, &sim.nor).expect("slots");
        engine::swap::write_request(&mut sim.nor, &slots, SwapType::Permanent).expect("written");
        assert_eq!(line.boot(), Boot::Runs("old", false), "{what}");
        let release = line.release(9, &stolen, &line.keys.release.clone());
        assert!(
            line.send(&release).is_err_and(|said| said.starts_with("907 ")),
            "{what}"
        );
        let release = line.release(10, &new, &line.keys.release.clone());
        line.update(&release, "new");
        assert_eq!(line.pinned(), None, "{what}");
        // From now on the image that was pinned starts no more; no counter is in its way.
        line.body.stage(&mut line.sim.nor, &line.old.bytes);
        let slots = engine::layout::Slots::new(&line.body.layout, &line.sim.nor).expect("slots");
        engine::swap::write_request(&mut line.sim.nor, &slots, SwapType::Permanent).expect("written");
        assert_eq!(line.boot(), Boot::Runs("new", false), "{what}");
    }
}

/// A device back from a trial under a pin: the image that was pinned is the fallback and starts again.
#[test]
fn a_pinned_image_is_a_good_fallback() {
    let mut line = Line::new();
    let new = line.body.make_signed("new", 2000, 2, &[&line.keys.next_image.clone()]);
    line.follow(&line.second().build());
    let release = line.release(9, &new, &line.keys.next_release.clone());
    assert_eq!(line.send(&release), Ok(Step::Staged));
    line.try_staged("new");
    assert_eq!(line.pinned(), Some(line.old.digest()));
    assert_eq!(line.boot(), Boot::Runs("old", false));
    line.body.boot_steady(&mut line.sim, "old").expect("pinned");
}

/// Random bytes, a changed bit anywhere, and a changed byte under a right digest: nothing is committed, nothing else starts.
#[test]
fn garbage_in_the_mailbox_commits_nothing() {
    let mut line = Line::new();
    let mut chance = Chance::new(7);
    let second = line.second().build();
    let Line { body, sim, .. } = &mut line;
    let judge = |sim: &mut Sim, what: &str| {
        body.boot_to(sim, Reset::Power, "old", false).expect(what);
        assert_eq!(body.root_version(&mut sim.nor), Some(1), "{what}");
        assert_eq!(
            body.store(&mut sim.nor).map(|store| store.header().pinned),
            Some(None),
            "{what}"
        );
    };
    for round in 0..200 {
        let mut sim = sim.clone();
        let area = body.layout.mailbox;
        for (at, byte) in (area.start..).zip(chance.bytes(area.len as usize)) {
            sim.nor.corrupt(at, byte);
        }
        judge(&mut sim, &format!("noise {round}"));
    }
    for at in 0..second.len() {
        let mut sim = sim.clone();
        let mut bent = second.clone();
        bent[at] ^= 1 << chance.below(8);
        forge(&mut sim.nor, body, MailKind::Root, &bent);
        judge(&mut sim, &format!("byte {at} under a right digest"));
    }
    let mut staged = sim.clone();
    forge(&mut staged.nor, body, MailKind::Root, &second);
    let part = body.layout.mail(MailKind::Root);
    for at in 0..MAIL_HEADER_BYTES + second.len() {
        let mut sim = staged.clone();
        sim.nor.corrupt(part.start + at as u32, 1 << chance.below(8));
        judge(&mut sim, &format!("bit of byte {at} in the part"));
    }
    // And the very same bytes, unchanged, are taken.
    body.boot_to(&mut staged, Reset::Power, "old", false).expect("lawful");
    assert_eq!(body.root_version(&mut staged.nor), Some(2));
}

/// Once a root is committed, either copy of the store alone brings back this root and no other.
#[test]
fn the_old_root_is_in_no_copy() {
    let mut line = Line::new();
    line.follow(&line.second().build());
    let old_key = line.keys.image.public();
    for lost in line.body.layout.trust {
        let mut sim = line.sim.clone();
        sim.nor.corrupt(lost.start + 200, 0x55);
        line.body
            .boot_to(&mut sim, Reset::Power, "old", false)
            .expect("one copy is enough");
        assert_eq!(line.body.root_version(&mut sim.nor), Some(2));
        let trust = line
            .body
            .layout
            .trust
            .map(|area| line.body.area(&sim.nor, area).to_vec());
        let found = trust.concat().windows(old_key.len()).any(|window| window == old_key);
        assert!(!found, "a key of the old root is left");
    }
}

/// The bootloader's note that it took a root is lost (a worn log): the proposal does not stand in the way for ever.
#[test]
fn a_taken_proposal_goes_also_when_its_note_is_lost() {
    let mut line = Line::new();
    let new = line.body.make_signed("new", 2200, 2, &[&line.keys.next_image.clone()]);
    let second = line.second().build();
    assert_eq!(line.send(&second), Ok(Step::ChainTaken));
    assert_eq!(line.boot(), Boot::Runs("old", false));
    for area in line.body.layout.boot_log {
        let sector = line.sim.nor.sector(area.start).expect("inside the flash");
        line.sim.nor.erase(sector).expect("powered");
    }
    let release = line.release(9, &new, &line.keys.next_release.clone());
    line.update(&release, "new");
}
