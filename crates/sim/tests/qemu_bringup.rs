//! The board comes up: drivers, hand-over, jump and every kind of reset, seen from outside.

use std::io::{Read, Write};
use std::time::Duration;

use ampoule_sim::firmware::Build;
use ampoule_sim::qemu::{self, Board, Options};

const PATIENCE: Duration = Duration::from_secs(30);
const FLASH_START: u32 = 0x2100_0000;

#[test]
fn starts_echoes_and_knows_why_it_was_reset() {
    let programs = Build::default().run().expect("the firmware builds");
    let folder = tempfile::tempdir().expect("a folder");
    let flash = folder.path().join("flash.bin");
    let app = programs.firmware().expect("an application");
    qemu::program(&flash, u64::from(app.start - FLASH_START), &app.bytes).expect("programmed");

    let mut board = Board::start(&flash, &programs.bootloader, &Options::default()).expect("a board");
    assert_eq!(board.wait_for("boot: reset: ", PATIENCE).expect("boot"), "power on");
    board
        .wait_for("app: NOR refused", PATIENCE)
        .expect("the flash driver refuses a second write");

    board.smp().write_all(b"xyzzy").expect("sent");
    let mut echo = [0; 5];
    board.smp().read_exact(&mut echo).expect("echoed");
    assert_eq!(&echo, b"xyzzy");

    for (command, cause) in [
        (b"p", "panic"),
        (b"f", "fault"),
        (b"r", "requested"),
        (b"h", "watchdog"),
    ] {
        board.smp().write_all(command).expect("sent");
        assert_eq!(board.wait_for("boot: reset: ", PATIENCE).expect("reset"), cause);
        assert_eq!(board.wait_for("app: up, report ", PATIENCE).expect("up again"), "7");
    }
}
