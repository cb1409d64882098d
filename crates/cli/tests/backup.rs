//! `ampoule backup`: a key goes into sheets of paper and comes back.

mod common;

use common::Desk;
use keys::SignatureAlgorithm::Ed25519;

/// A desk with the key `root` and, in `safe`, its backup in 2 of 3 shares.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.key("root", Ed25519);
    desk.ampoule("backup make root --shares 3 --threshold 2 --out safe --passphrase-file pass")
        .ok();
    desk
}

const TWO: &str = "--share safe/share-1-of-3.txt --share safe/share-3-of-3.txt";

#[test]
fn a_lost_key_comes_back_from_two_sheets_alone() {
    let desk = desk();
    let public = std::fs::read_to_string(desk.path("root.pub")).unwrap();
    std::fs::remove_file(desk.path("root")).unwrap();
    // A sheet carries the backup: paper alone is enough.
    desk.ampoule(&format!(
        "backup restore safe/share-2-of-3.txt {TWO} -o again --passphrase-file pass"
    ))
    .ok();
    assert_eq!(
        desk.ampoule("key show again --pem --unlock --passphrase-file pass")
            .ok(),
        public
    );
    desk.ampoule(&format!(
        "backup restore safe/backup.ampb {TWO} -o again --passphrase-file pass"
    ))
    .fails(2003);
}

#[test]
fn a_drill_writes_a_record_that_everybody_can_verify_and_no_key() {
    let desk = desk();
    let before = std::fs::read_dir(desk.directory()).unwrap().count();
    desk.ampoule(&format!("backup drill safe/backup.ampb {TWO} --record drill.json"))
        .ok();
    // The record, and the entry of its signature in the journal.
    assert_eq!(std::fs::read_dir(desk.directory()).unwrap().count(), before + 2);
    let entry = desk.ampoule("journal show journal.jsonl").ok();
    assert!(entry.contains("restore drill of backup"), "{entry}");
    assert!(
        desk.ampoule("backup show drill.json")
            .ok()
            .contains("with shares [1,3]")
    );
    let record = std::fs::read_to_string(desk.path("drill.json")).unwrap();
    for (old, new) in [("\"time\": 1", "\"time\": 2"), ("\"threshold\": 2", "\"threshold\": 3")] {
        assert!(record.contains(old), "{record}");
        std::fs::write(desk.path("changed.json"), record.replace(old, new)).unwrap();
        desk.ampoule("backup show changed.json").fails(2077);
    }
    desk.ampoule(&format!("backup drill safe/backup.ampb {TWO} --record drill.json"))
        .fails(2215);
}

#[test]
fn what_goes_wrong_with_paper_is_named_and_nothing_is_written() {
    let desk = desk();
    desk.ampoule("backup make root --shares 3 --threshold 2 --out other --passphrase-file pass")
        .ok();
    let restore = |shares: &str| {
        let ran = desk.ampoule(&format!(
            "backup restore safe/backup.ampb {shares} -o again --passphrase-file pass"
        ));
        assert!(!desk.path("again").exists());
        ran
    };
    let (one, two) = ("--share safe/share-1-of-3.txt", "--share safe/share-2-of-3.txt");
    restore(one).fails(2074);
    restore(&format!("{one} {one}")).fails(2073);
    restore(&format!("{one} --share other/share-2-of-3.txt")).fails(2072);
    let sheet = std::fs::read_to_string(desk.path("safe/share-2-of-3.txt")).unwrap();
    let begin = sheet.find("BEGIN AMPOULE SHARE").unwrap();
    let at = begin + sheet[begin..].find('\n').unwrap() + 1 + 7 + 2;
    let slip = if &sheet[at..=at] == "7" { "8" } else { "7" };
    std::fs::write(
        desk.path("typed"),
        format!("{}{slip}{}", &sheet[..at], &sheet[at + 1..]),
    )
    .unwrap();
    assert!(
        restore(&format!("{one} --share typed"))
            .fails(2071)
            .contains("group 2 (line 1, number 2)")
    );
    restore(&format!("{one} --share nothing")).fails(2201);
    std::fs::write(
        desk.path("cut"),
        &std::fs::read(desk.path("safe/backup.ampb")).unwrap()[..200],
    )
    .unwrap();
    desk.ampoule(&format!("backup restore cut {one} {two} -o again"))
        .fails(2070);
    // Nobody is there to ask.
    desk.ampoule("backup restore safe/backup.ampb -o again").fails(2208);
}

#[test]
fn a_backup_is_made_whole_or_not_at_all() {
    let desk = Desk::new();
    desk.key("root", Ed25519);
    let make = |rest: &str| desk.ampoule(&format!("backup make {rest} --passphrase-file pass"));
    make("root --shares 3 --threshold 1 --out safe").fails(2076);
    make("root --shares 17 --threshold 2 --out safe").fails(2076);
    make("pkcs11:token=a --shares 3 --threshold 2 --out safe").fails(2209);
    make("root --shares 3 --threshold 2 --out no/where").fails(2203);
    assert!(!desk.path("safe").exists());
    make("root --shares 3 --threshold 2 --out pass").fails(2215);
}

#[cfg(unix)]
#[test]
fn sheets_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let desk = desk();
    let mode = |name: &str| std::fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("safe"), mode("safe/share-1-of-3.txt")), (0o700, 0o600));
}
