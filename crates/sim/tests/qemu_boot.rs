//! A real board from erased flash to a confirmed update: every step over the wire, judged by what the console says.

use std::time::Duration;

use ampoule_sim::bench::Bench;
use ampoule_sim::firmware::Build;
use ampoule_sim::fixture::{Authority, Image, Scheme};
use ampoule_sim::qemu::{Board, Options};
use ampoule_sim::smp::{SmpClient, SmpError};
use codec::Reason;
use codec::smp::Request;
use codec::smp::client::Destination;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the primary slot stands in the flash of the demo board.
const PRIMARY: usize = 0x4_0000;

fn smp(board: &mut Board) -> SmpClient<'_> {
    SmpClient::new(board.smp())
}

#[test]
fn from_erased_to_confirmed_and_back_from_a_hang() {
    let (bench, one) = Bench::new(Scheme::P256, &Build::version("1.0.0")).expect("a bench");
    let mut board = bench.start(&Options::default()).expect("a board");
    let wait = |board: &mut Board, text: &str| board.wait_for(text, PATIENCE).unwrap_or_else(|e| panic!("{e}"));

    // Erased: it waits for a root, and takes no image before.
    assert_eq!(wait(&mut board, "nothing may start, reason "), "940");
    let image = bench.image(&one, (1, 0, 0), 1, 0).expect("an image");
    assert_eq!(
        smp(&mut board).upload(Destination::Image, &image),
        Err(SmpError::Refused(Reason::NoRoot))
    );
    let root = bench.authority.trust_root.build();
    smp(&mut board).upload(Destination::Root, &root).expect("a first root");
    assert_eq!(
        smp(&mut board).upload(Destination::Root, &root),
        Err(SmpError::Refused(Reason::RootPresent))
    );

    // Recovery: one image, judged by the same rule.
    let mut broken = image.clone();
    broken[5000] ^= 1;
    assert_eq!(
        smp(&mut board).upload(Destination::Image, &broken),
        Err(SmpError::Refused(Reason::ImageHash))
    );
    smp(&mut board).upload(Destination::Image, &image).expect("an image");
    smp(&mut board)
        .tell(&Request::Reset {
            force: false,
            boot_mode: 0,
        })
        .expect("a reset");
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    assert_eq!(wait(&mut board, "app: version "), "1.0.0 after reset requested");
    wait(&mut board, "app: self-test passed");

    // A release: installed, tried, confirmed.
    let two = Build::version("2.0.0").run().expect("the firmware builds");
    let two = bench.image(&two, (2, 0, 0), 2, 0).expect("an image");
    smp(&mut board)
        .upload(Destination::Image, &bench.release(2, &two, 2))
        .expect("a release");
    smp(&mut board).try_staged().expect("a trial");
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    assert_eq!(wait(&mut board, "app: version "), "2.0.0 after reset requested");
    wait(&mut board, "app: confirmed");
    drop(board);

    // Power off and on: it stays. One that hangs does not.
    let mut board = bench.start(&Options::default()).expect("a board");
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 confirmed");
    wait(&mut board, "app: self-test passed");
    let three = Build::version("3.0.0")
        .behaving("hang")
        .run()
        .expect("the firmware builds");
    let three = bench.image(&three, (3, 0, 0), 3, 0).expect("an image");
    smp(&mut board)
        .upload(Destination::Image, &bench.release(3, &three, 3))
        .expect("a release");
    smp(&mut board).try_staged().expect("a trial");
    assert_eq!(wait(&mut board, "boot: starting "), "3.0.0+0 trial");
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 confirmed");
    assert_eq!(wait(&mut board, "app: version "), "2.0.0 after watchdog");
    assert_eq!(wait(&mut board, "app: last update "), "reverted: 931 REVERTED_WATCHDOG");

    // Old releases are refused.
    wait(&mut board, "app: self-test passed");
    let old = bench.release(1, &image, 1);
    assert_eq!(
        smp(&mut board).upload(Destination::Image, &old),
        Err(SmpError::Refused(Reason::SeqRollback))
    );
}

/// Every way in which a new image can fail its trial on the board ends in the old one, with the reason why; and one
/// that waits for a person is confirmed by one. Images are signed with Ed25519 here.
#[test]
fn a_trial_ends_as_its_image_behaves() {
    let (bench, one) = Bench::new(Scheme::Ed25519, &Build::version("1.0.0")).expect("a bench");
    let mut board = bench.start(&Options::default()).expect("a board");
    let wait = |board: &mut Board, text: &str| board.wait_for(text, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    wait(&mut board, "nothing may start");
    let image = bench.image(&one, (1, 0, 0), 1, 0).expect("an image");
    bench.provision(&mut board, &image).expect("an image and a root");
    wait(&mut board, "app: self-test passed");

    let mut sequence = 1;
    let mut install = |board: &mut Board, behaviour: &str| {
        sequence += 1;
        let version = format!("{sequence}.0.0");
        let programs = Build::version(&version)
            .behaving(behaviour)
            .run()
            .expect("the firmware builds");
        let image = bench.image(&programs, (sequence as u8, 0, 0), 1, 0).expect("an image");
        smp(board)
            .upload(Destination::Image, &bench.release(sequence, &image, 1))
            .expect("a release");
        smp(board).try_staged().expect("a trial");
        assert_eq!(wait(board, "boot: starting "), format!("{version}+0 trial"));
    };
    let confirm = Request::SetImageState {
        hash: None,
        confirm: true,
    };

    // It crashes: taken back for the fault.
    install(&mut board, "crash");
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    assert_eq!(wait(&mut board, "app: version "), "1.0.0 after fault");
    assert_eq!(wait(&mut board, "app: last update "), "reverted: 932 REVERTED_FAULT");
    wait(&mut board, "app: self-test passed");

    // Its self-test fails: nobody can confirm it over the wire, and its deadline passes.
    install(&mut board, "never-confirm");
    wait(&mut board, "app: self-test failed");
    assert_eq!(
        smp(&mut board).tell(&confirm),
        Err(SmpError::Refused(Reason::NotSelfTested))
    );
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    assert_eq!(wait(&mut board, "app: last update "), "reverted: 931 REVERTED_WATCHDOG");
    wait(&mut board, "app: self-test passed");

    // It waits for a person: confirmed over the wire, it outlives its deadline and the next power cut.
    install(&mut board, "patient");
    wait(&mut board, "app: self-test passed");
    smp(&mut board).tell(&confirm).expect("confirmed");
    drop(board);
    let mut board = bench.start(&Options::default()).expect("a board");
    assert_eq!(wait(&mut board, "boot: starting "), "4.0.0+0 confirmed");
}

/// Well signed, and linked for somewhere else: its first instruction would lead out of the slot. The board goes back by
/// itself, as after a crash.
#[test]
fn an_image_without_an_entry_is_taken_back() {
    let (bench, one) = Bench::new(Scheme::P256, &Build::version("1.0.0")).expect("a bench");
    let mut board = bench.start(&Options::default()).expect("a board");
    let wait = |board: &mut Board, text: &str| board.wait_for(text, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    wait(&mut board, "nothing may start");
    let image = bench.image(&one, (1, 0, 0), 1, 0).expect("an image");
    bench.provision(&mut board, &image).expect("an image and a root");
    wait(&mut board, "app: self-test passed");

    let signers = std::slice::from_ref(&bench.authority.image);
    let mut elsewhere = Image::new(2, 4000, &bench.identity, 1, signers);
    (elsewhere.header_len, elsewhere.version) = (bench.header_len(), (2, 0, 0, 0));
    smp(&mut board)
        .upload(Destination::Image, &bench.release(2, &elsewhere.build(), 1))
        .expect("a release");
    smp(&mut board).try_staged().expect("a trial");
    wait(&mut board, "boot: the image on trial has no entry");
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    assert_eq!(wait(&mut board, "app: last update "), "reverted: 932 REVERTED_FAULT");
}

/// A root that demands P-256 AND LMS of an image: both together start, over the wire and from the flash; an image that
/// lost either is refused by recovery (907) and, put into the flash by whoever can write there, does not start.
#[test]
fn an_image_needs_both_of_two_signatures() {
    let (mut bench, one) = Bench::new(Scheme::P256, &Build::version("1.0.0")).expect("a bench");
    bench.authority = Authority::hybrid(Scheme::P256);
    let mut board = bench.start(&Options::default()).expect("a board");
    let wait = |board: &mut Board, text: &str| board.wait_for(text, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(wait(&mut board, "nothing may start, reason "), "940");

    let image = bench.image(&one, (1, 0, 0), 1, 0).expect("an image");
    let second = bench.authority.image_second.take();
    let p256_alone = bench.image(&one, (1, 0, 0), 1, 0).expect("an image");
    assert!(image.len() > p256_alone.len() + 2500);
    bench
        .provision(&mut board, &image)
        .expect("an image with both signatures");
    assert_eq!(wait(&mut board, "boot: starting "), "1.0.0+0 confirmed");
    wait(&mut board, "app: self-test passed");

    // The application judges by the same rule: stripped, it is not even staged.
    let two = Build::version("2.0.0").run().expect("the firmware builds");
    let stripped = bench.image(&two, (2, 0, 0), 2, 0).expect("an image");
    let release = bench.release(2, &stripped, 2);
    let refused = smp(&mut board).upload(Destination::Image, &release);
    assert_eq!(refused, Err(SmpError::Refused(Reason::ImageThreshold)));
    bench.authority.image_second = second;
    let whole = bench.image(&two, (2, 0, 0), 2, 0).expect("an image");
    smp(&mut board)
        .upload(Destination::Image, &bench.release(3, &whole, 2))
        .expect("a release");
    smp(&mut board).try_staged().expect("a trial");
    assert_eq!(wait(&mut board, "boot: starting "), "2.0.0+0 trial");
    wait(&mut board, "app: confirmed");
    drop(board);

    // Stripped in the flash: nothing starts, recovery answers, and takes no stripped image either.
    let mut flash = std::fs::read(&bench.flash).expect("the flash");
    flash[PRIMARY..PRIMARY + p256_alone.len()].copy_from_slice(&p256_alone);
    flash[PRIMARY + p256_alone.len()..][..4096].fill(0xff);
    std::fs::write(&bench.flash, flash).expect("the flash");
    let mut board = bench.start(&Options::default()).expect("a board");
    assert_eq!(wait(&mut board, "nothing may start, reason "), "942");
    let refused = smp(&mut board).upload(Destination::Image, &stripped);
    assert_eq!(refused, Err(SmpError::Refused(Reason::ImageThreshold)));
    smp(&mut board)
        .upload(Destination::Image, &whole)
        .expect("both signatures");
}
