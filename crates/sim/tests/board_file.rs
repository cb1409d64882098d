//! The rules of docs/board-file.md: a board file that does not add up stops the firmware's build and says where.

#[path = "../../boot/build/schema.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the build script's own module, read here as it stands"
)]
mod schema;

use schema::Board;

const FILE: &str = include_str!("../../../boards/mps2-an386.toml");

fn verdict(text: &str) -> Result<(), String> {
    let board: Board = toml::from_str(text).map_err(|error| error.to_string())?;
    board.check()
}

#[test]
fn the_demonstration_board_adds_up() {
    assert_eq!(verdict(FILE), Ok(()));
    let board: Board = toml::from_str(FILE).expect("the file");
    let vendor = release::identity::vendor_id("ampoule.example");
    assert_eq!(board.vendor_id(), vendor);
    assert_eq!(board.class_id(), release::identity::class_id(&vendor, "AMP-DEMO-1"));
}

#[test]
fn larger_write_units_and_equal_slots_do_too() {
    for (from, to) in [
        ("write-size = 4", "write-size = 8"),
        ("write-size = 4", "write-size = 32"),
        ("erased = 0xff", "erased = 0x00"),
        ("size = 0x8_1000", "size = 0x8_0000"),
    ] {
        assert_eq!(verdict(&FILE.replace(from, to)), Ok(()), "{to}");
    }
}

#[test]
fn every_rule_refuses_and_names_its_key() {
    for (from, to, names) in [
        ("schema = 1", "schema = 2", "schema"),
        ("name = \"mps2-an386\"", "nam = \"mps2-an386\"", "unknown field `nam`"),
        ("write-size = 4", "write-size = 3", "write-size"),
        ("write-size = 4", "write-size = 64", "write-size"),
        ("sector-size = 4096", "sector-size = 4098", "sector-size"),
        ("erased = 0xff", "erased = 0x7f", "erased"),
        (
            "retained = { start = 0x2000_0000, size = 0x100 }",
            "retained = { start = 0x2000_0000, size = 0x20 }",
            "retained",
        ),
        ("ram = { start = 0x2000_0100", "ram = { start = 0x2000_0000", "retained"),
        (
            "ram = { start = 0x2000_0100",
            "ram = { start = 0x2000_0104",
            "memory.ram",
        ),
        (
            "flash = { start = 0x2100_0000, size = 0x0100_0000 }",
            "flash = { start = 0xff00_0008, size = 0x0100_0000 }",
            "memory.flash",
        ),
        (
            "mailbox = { start = 0x00_8000, size = 0x4000 }",
            "mailbox = { start = 0x00_7000, size = 0x4000 }",
            "trust-store-b",
        ),
        (
            "head = { start = 0x01_4000, size = 0x2000 }",
            "head = { start = 0x01_4000, size = 0x2001 }",
            "head",
        ),
        (
            "secondary = { start = 0x0c_0000",
            "secondary = { start = 0x0ff_0000",
            "secondary",
        ),
        ("size = 0x8_1000", "size = 0x8_2000", "secondary"),
        ("header-size = 0x400", "header-size = 0x200", "0x400"),
        ("header-size = 0x400", "header-size = 0x10", "header-size"),
        ("max-sectors = 128", "max-sectors = 127", "max-sectors"),
        ("deadline-s = 10", "deadline-s = 172", "deadline"),
        ("uart = 1", "uart = 0", "uart"),
        ("uart = 1", "uart = 3", "uart"),
    ] {
        assert!(FILE.contains(from), "{from}");
        let error = verdict(&FILE.replace(from, to)).expect_err(to);
        assert!(error.contains(names), "{to}: {error}");
    }
}
