//! The demonstration board's flash map: the engine accepts it, and it stays what it is.

use ampoule_sim::nor::{Geometry, Nor};
use engine::layout::{Area, Layout, Slots};
use std::path::Path;

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn board() -> toml::Table {
    let text = std::fs::read_to_string(repository("boards/mps2-an386.toml")).expect("a board file");
    text.parse().expect("TOML")
}

fn number(value: &toml::Value) -> u32 {
    u32::try_from(value.as_integer().expect("a number")).expect("32 bits")
}

fn layout(board: &toml::Table) -> Layout {
    let area = |name: &str| {
        let region = &board["flash"]["regions"][name];
        Area {
            start: number(&region["start"]),
            len: number(&region["size"]),
        }
    };
    Layout {
        trust: [area("trust-store-a"), area("trust-store-b")],
        mailbox: area("mailbox"),
        boot_log: [area("boot-log-a"), area("boot-log-b")],
        journal: [area("journal-a"), area("journal-b")],
        head: area("head"),
        table: area("chunk-table"),
        sealed: [area("sealed-a"), area("sealed-b")],
        sealed_counter: area("sealed-counter"),
        device_key: area("device-key"),
        entropy: area("entropy-seed"),
        boot_update: area("bootloader-update"),
        primary: area("primary"),
        secondary: area("secondary"),
        max_sectors: number(&board["image"]["max-sectors"]),
    }
}

#[test]
fn the_engine_accepts_the_board_and_the_map_is_golden() {
    let board = board();
    let flash = &board["flash"];
    let (write_size, sector) = (number(&flash["write-size"]), number(&flash["sector-size"]));
    let layout = layout(&board);
    let count = layout.secondary.end() / sector;
    let nor = Nor::new(Geometry::uniform(write_size, 0xff, sector, count as usize));
    layout.check(&nor).expect("a layout that the engine can handle");
    let slots = Slots::new(&layout, &nor).expect("slots that the engine can swap");
    let mut map: Vec<String> = layout
        .areas()
        .iter()
        .chain([&layout.secondary])
        .map(|area| format!("{:06x} {:06x}", area.start, area.len))
        .collect();
    map.push(format!("staging +{:x}", slots.staging_offset()));
    map.push(format!("image at most {}", slots.image_len_max()));
    let golden = repository("vectors/golden/layout-mps2-an386.txt");
    let text = map.join("\n") + "\n";
    if std::env::var_os("AMPOULE_RENEW").is_some() {
        std::fs::create_dir_all(golden.parent().expect("a folder")).expect("a folder");
        std::fs::write(&golden, &text).expect("a file");
    }
    assert_eq!(
        std::fs::read_to_string(&golden).expect("the golden map"),
        text,
        "devices in the field keep this map"
    );
}

#[test]
fn what_the_swap_cannot_handle_is_refused() {
    let good = layout(&board());
    let nor = Nor::new(Geometry::uniform(4, 0xff, 4096, 1024));
    assert_eq!(good.check(&nor), Ok(()));
    let refused = |change: fn(&mut Layout)| {
        let mut bad = good;
        change(&mut bad);
        assert_eq!(bad.check(&nor), Err(codec::Reason::LayoutRefused));
    };
    refused(|layout| layout.secondary.len -= 2 * 4096);
    refused(|layout| layout.secondary.len += 4096);
    refused(|layout| layout.primary.start += 1);
    refused(|layout| layout.head.start = layout.mailbox.start);
    refused(|layout| layout.max_sectors = 127);
    refused(|layout| layout.secondary.start = 0xffff_f000);
    refused(|layout| layout.entropy.len = 0);
    // The same map over a flash whose primary slot starts with one sector of double size.
    let mut sectors = vec![4096; 64];
    sectors.push(8192);
    sectors.extend([4096; 900]);
    let uneven = Nor::new(Geometry::of(4, 0xff, &sectors));
    assert_eq!(good.check(&uneven), Err(codec::Reason::LayoutRefused));
}
