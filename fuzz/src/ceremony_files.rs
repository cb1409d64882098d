//! What ceremonies and backups read that others wrote or typed: shares, backups, scripts, records.

use keys::backup::{Backup, Share};
use release::ceremony::record::{Record, canonical};
use release::ceremony::script::Script;
use release::ceremony::{page, verify};

/// Any bytes as each of them.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(share) = Share::parse(&text) {
        assert_eq!(Share::parse(&share.to_text()), Ok(share));
    }
    if let Ok(backup) = Backup::parse(&text) {
        assert_eq!(Backup::parse(&backup.to_pem()), Ok(backup));
    }
    let _ = Script::parse(&text);
    let Ok(record) = Record::parse(data) else {
        return;
    };
    // A line that was accepted is the only way to write it.
    let lines = record
        .entries
        .iter()
        .map(|entry| canonical(&serde_json::Value::Object(entry.body.clone())) + "\n");
    let mut again = lines.collect::<String>().into_bytes();
    again.extend(&record.torn);
    assert_eq!(again, data);
    if let Ok(verified) = verify::verify_so_far(data, None) {
        assert!(page::page(&verified).starts_with("<!DOCTYPE html>"));
    }
}
