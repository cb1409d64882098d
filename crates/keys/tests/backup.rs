//! Backups in M-of-N shares: every subset, and what people do wrong with paper.

use ampoule_keys::backup::{self, Backup, GROUP_CHARS, GROUPS, LINE_GROUPS, Share, verify_drill};
use ampoule_keys::file::{FileKey, generate};
use ampoule_keys::{Code, Passphrase, PublicKey, SignatureAlgorithm, Signer};
use proptest::prelude::*;

fn key() -> FileKey {
    generate(SignatureAlgorithm::Esp256).unwrap()
}

fn subset(shares: &[Share], mask: u32) -> Vec<Share> {
    let chosen = shares.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
    chosen.map(|(_, share)| share.clone()).collect()
}

/// The text of a share without separators.
fn characters(share: &Share) -> String {
    share.to_text().chars().filter(char::is_ascii_alphanumeric).collect()
}

fn with_char(text: &str, at: usize, character: char) -> String {
    text.chars()
        .enumerate()
        .map(|(index, old)| if index == at { character } else { old })
        .collect()
}

#[test]
fn every_subset_of_every_size_up_to_five() {
    for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
        let key = generate(algorithm).unwrap();
        for (threshold, count) in (2..=5).flat_map(|count| (2..=count).map(move |threshold| (threshold, count))) {
            let (backup, shares) = backup::make(&key, count, threshold).unwrap();
            assert_eq!((backup.threshold(), backup.shares()), (threshold, count));
            for mask in 0..1 << count {
                let opened = backup.open(&subset(&shares, mask));
                if mask.count_ones() >= u32::from(threshold) {
                    assert_eq!(opened.unwrap().public_key(), key.public_key());
                } else {
                    assert!(opened.err().unwrap().is(Code::SharesTooFew));
                }
            }
        }
    }
}

#[test]
fn the_order_of_the_shares_does_not_matter_and_sixteen_are_possible() {
    let key = key();
    let (backup, mut shares) = backup::make(&key, 16, 16).unwrap();
    shares.reverse();
    assert_eq!(backup.open(&shares).unwrap().public_key(), key.public_key());
}

/// Fewer shares than the threshold and a made-up one do not open it, whatever the made-up one says.
#[test]
fn the_missing_share_cannot_be_made_up() {
    let (backup, shares) = backup::make(&key(), 3, 3).unwrap();
    let (_, others) = backup::make(&key(), 3, 3).unwrap();
    let forged = [shares[0].clone(), shares[1].clone(), others[2].clone()];
    assert!(backup.open(&forged).err().unwrap().is(Code::ShareOfOtherBackup));
}

#[test]
fn parameters_that_make_no_sense() {
    let key = key();
    for (shares, threshold) in [(0, 0), (1, 1), (5, 1), (2, 3), (17, 3), (255, 255)] {
        assert!(
            backup::make(&key, shares, threshold)
                .unwrap_err()
                .is(Code::BackupParameters)
        );
    }
}

#[test]
fn a_restored_key_is_saved_under_a_new_passphrase() {
    let key = key();
    let (backup, shares) = backup::make(&key, 3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("restored");
    let passphrase = Passphrase::new("a passphrase of this year");
    backup.open(&shares[1..]).unwrap().save_new(&path, &passphrase).unwrap();
    assert_eq!(PublicKey::read(&path).unwrap(), *key.public_key());
    let again = ampoule_keys::file::LockedKey::read(&path)
        .unwrap()
        .unlock(Some(&passphrase))
        .unwrap();
    assert_eq!(again.development_only(), Some(ampoule_keys::DevelopmentOnly::File));
}

fn bare(key: FileKey) -> ampoule_keys::Result<Box<dyn Signer>> {
    Ok(Box::new(key))
}

#[test]
fn a_drill_signs_what_it_is_given_and_nothing_else() {
    let key = key();
    let (backup, shares) = backup::make(&key, 3, 2).unwrap();
    let signature = backup.drill(&shares[..2], b"statement with a nonce", bare).unwrap();
    verify_drill(key.public_key(), b"statement with a nonce", signature.as_cose()).unwrap();
    for (statement, public) in [
        (&b"another statement"[..], key.public_key().clone()),
        (
            b"statement with a nonce",
            generate(SignatureAlgorithm::Esp256).unwrap().public_key().clone(),
        ),
    ] {
        let refused = verify_drill(&public, statement, signature.as_cose());
        assert!(refused.unwrap_err().is(Code::DrillFailed));
    }
    assert!(
        backup
            .drill(&shares[..1], b"", bare)
            .unwrap_err()
            .is(Code::SharesTooFew)
    );
}

#[test]
fn the_same_share_twice_and_a_share_of_another_backup() {
    let key = key();
    let (backup, shares) = backup::make(&key, 3, 2).unwrap();
    let (_, others) = backup::make(&key, 3, 2).unwrap();
    let twice = backup.open(&[shares[0].clone(), shares[0].clone()]).err().unwrap();
    assert!(twice.is(Code::ShareTwice) && twice.what.contains("share 1"));
    let other = backup.open(&[shares[0].clone(), others[1].clone()]).err().unwrap();
    assert!(other.is(Code::ShareOfOtherBackup) && other.what.contains("share 2"));
}

/// Somebody makes a well-formed share of their own for this backup: it is named.
#[test]
fn a_share_that_was_made_anew_is_named() {
    let (backup, shares) = backup::make(&key(), 3, 2).unwrap();
    let (stranger, _) = backup::make(&key(), 3, 2).unwrap();
    // The other backup's shares under this backup's id: as an attacker who knows the format would write them.
    let bytes = decode(&stranger_share(&stranger));
    let mut forged = bytes;
    forged[1..9].copy_from_slice(&backup.id().0);
    let checksum = trust::Sha256::of(&forged[..44]);
    forged[44..].copy_from_slice(&checksum[..6]);
    let forged = Share::parse(&encode(&forged)).unwrap();
    let refused = backup.open(&[forged, shares[1].clone()]).err().unwrap();
    assert!(refused.is(Code::ShareWrong), "{refused}");
    assert!(refused.what.contains("share 1"));
}

/// Share 1 of any backup with these parameters.
fn stranger_share(_: &Backup) -> String {
    characters(&backup::make(&key(), 3, 2).unwrap().1[0])
}

const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A second reader of the text, from the description in docs/backup.md.
fn decode(characters: &str) -> [u8; 50] {
    let mut number = Vec::new();
    for group in characters.as_bytes().chunks(6) {
        for character in &group[..5] {
            let value = ALPHABET.find(char::from(*character)).unwrap();
            number.extend((0..5).rev().map(|bit| value >> bit & 1));
        }
    }
    let bytes: Vec<u8> = number
        .chunks(8)
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8))
        .collect();
    bytes.try_into().unwrap()
}

/// A second writer of it.
fn encode(bytes: &[u8; 50]) -> String {
    let times = |a: u32, b: u32| {
        let mut product = (0..5)
            .filter(|bit| b >> bit & 1 == 1)
            .fold(0, |sum, bit| sum ^ a << bit);
        for bit in (5..10).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0b10_0101 << (bit - 5);
            }
        }
        product
    };
    let bits: Vec<u32> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)))
        .collect();
    let values: Vec<u32> = bits
        .chunks(5)
        .map(|five| five.iter().fold(0, |value, bit| value << 1 | bit))
        .collect();
    let mut text = String::new();
    for (place, group) in values.chunks(5).enumerate() {
        let check = (group.iter().zip(2..)).fold(times(place as u32, 7), |sum, (value, weight)| {
            sum ^ times(*value, weight)
        });
        text.extend(
            group
                .iter()
                .chain([&check])
                .map(|value| ALPHABET.as_bytes()[*value as usize] as char),
        );
    }
    text
}

#[test]
fn a_second_implementation_of_the_text_agrees() {
    for share in backup::make(&key(), 16, 2).unwrap().1 {
        let text = characters(&share);
        let bytes = decode(&text);
        assert_eq!(encode(&bytes), text);
        assert_eq!((bytes[0], bytes[9], bytes[10], bytes[11]), (1, 2, 16, share.number()));
        assert_eq!(bytes[44..], trust::Sha256::of(&bytes[..44])[..6]);
    }
}

/// Each character of each group, changed into each other one: the group is named.
#[test]
fn every_slip_of_one_character_names_its_group() {
    let share = &backup::make(&key(), 2, 2).unwrap().1[0];
    let text = characters(share);
    for at in 0..text.len() {
        for character in ALPHABET
            .chars()
            .filter(|character| text.chars().nth(at) != Some(*character))
        {
            let error = Share::parse(&with_char(&text, at, character)).unwrap_err();
            assert!(error.is(Code::ShareMistyped));
            let (group, line) = (at / GROUP_CHARS, at / GROUP_CHARS / LINE_GROUPS);
            assert!(
                error
                    .what
                    .starts_with(&format!("group {} (line {}", group + 1, line + 1)),
                "{at}: {error}"
            );
        }
    }
}

/// Any two characters of a group, any two groups: what people exchange.
#[test]
fn exchanged_characters_and_groups_are_seen() {
    let share = &backup::make(&key(), 2, 2).unwrap().1[0];
    let text: Vec<char> = characters(share).chars().collect();
    let parse = |characters: &[char]| Share::parse(&characters.iter().collect::<String>());
    for group in 0..GROUPS {
        for (one, two) in (0..GROUP_CHARS).flat_map(|one| (0..one).map(move |two| (one, two))) {
            let mut exchanged = text.clone();
            exchanged.swap(group * GROUP_CHARS + one, group * GROUP_CHARS + two);
            if exchanged != text {
                let error = parse(&exchanged).unwrap_err();
                assert!(error.what.starts_with(&format!("group {} ", group + 1)), "{error}");
            }
        }
        for other in 0..group {
            let mut exchanged = text.clone();
            for at in 0..GROUP_CHARS {
                exchanged.swap(group * GROUP_CHARS + at, other * GROUP_CHARS + at);
            }
            if exchanged != text {
                let error = parse(&exchanged).unwrap_err();
                assert!(error.what.starts_with(&format!("group {} ", other + 1)), "{error}");
            }
        }
    }
}

#[test]
fn missing_and_surplus_characters_name_their_group() {
    let share = &backup::make(&key(), 2, 2).unwrap().1[0];
    let text = share.to_text();
    for (find, place) in [(0, 1), (7, 2), (28, 5), (110, 16)] {
        let mut missing = text.to_string();
        missing.remove(find);
        let error = Share::parse(&missing).unwrap_err();
        assert!(error.what.starts_with(&format!("group {place} ")), "{error}");
        let mut surplus = text.to_string();
        surplus.insert(find, '0');
        let error = Share::parse(&surplus).unwrap_err();
        assert!(error.what.starts_with(&format!("group {place} ")), "{error}");
    }
    let without_the_last = &text[..text.len() - GROUP_CHARS - 2];
    assert!(Share::parse(without_the_last).unwrap_err().what.contains("15 groups"));
    assert!(
        Share::parse(&format!("{}0", &*text))
            .unwrap_err()
            .what
            .contains("17 groups")
    );
    for nothing in ["", " \n-", "hello", "ä"] {
        assert!(Share::parse(nothing).unwrap_err().is(Code::ShareMistyped));
    }
    assert!(Share::parse(&"0".repeat(100_000)).unwrap_err().is(Code::ShareMistyped));
}

#[test]
fn lines_are_checked_one_by_one() {
    let share = &backup::make(&key(), 2, 2).unwrap().1[0];
    let text = share.to_text();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        backup::check_line(number, line).unwrap();
        backup::check_line(number, &line.to_lowercase().replace('-', " ")).unwrap();
        backup::check_line(number, &line.replace('-', "")).unwrap();
        let other = lines[(number + 1) % 4];
        assert!(
            backup::check_line(number, other)
                .unwrap_err()
                .what
                .starts_with(&format!("group {} ", number * 4 + 1))
        );
        assert!(
            backup::check_line(number, &line[7..])
                .unwrap_err()
                .is(Code::ShareMistyped)
        );
    }
    assert!(
        backup::check_line(0, "")
            .unwrap_err()
            .what
            .contains("line 1 has 4 groups")
    );
}

#[test]
fn what_people_type_is_read_kindly() {
    let share = &backup::make(&key(), 2, 2).unwrap().1[0];
    let text = share.to_text().to_string();
    let alike = text.replace('0', "O").replace('1', "l");
    for typed in [
        text.to_lowercase(),
        text.replace('-', " "),
        text.replace(['-', '\n'], ""),
        alike,
    ] {
        assert_eq!(Share::parse(&typed).unwrap(), *share, "{typed}");
    }
    let sheet = format!("A sheet.\n\n{}\nMore.\n", *share.to_block());
    assert_eq!(Share::parse(&sheet).unwrap(), *share);
    assert!(
        Share::parse(&sheet.replace("END", ""))
            .unwrap_err()
            .what
            .contains("missing")
    );
}

#[test]
fn every_changed_byte_of_a_backup_is_found() {
    let (backup, shares) = backup::make(&key(), 3, 2).unwrap();
    let pem = backup.to_pem();
    assert_eq!(Backup::parse(&format!("above\n{pem}below")).unwrap(), backup);
    let body: Vec<usize> = pem.match_indices(|_: char| true).map(|(at, _)| at).collect();
    for at in body {
        for change in [0x01, 0x04, 0x20] {
            let mut bytes = pem.clone().into_bytes();
            bytes[at] ^= change;
            let Ok(bent) = String::from_utf8(bytes) else { continue };
            let Ok(parsed) = Backup::parse(&bent) else { continue };
            if parsed != backup {
                let opened = parsed.open(&shares[..2]);
                assert!(opened.is_err(), "the byte {at} was changed and nobody saw it");
            }
        }
    }
    for end in 0..pem.len() - 1 {
        assert!(
            Backup::parse(&pem[..end]).unwrap_err().is(Code::BackupMalformed),
            "cut at {end}"
        );
    }
}

#[test]
fn nothing_that_is_printed_holds_the_secret() {
    let (backup, shares) = backup::make(&key(), 2, 2).unwrap();
    let secret = shares[0].to_text().to_string();
    let shown = format!("{:?} {backup:?}", shares[0]);
    assert_eq!(format!("{:?}", shares[0]), "Share(1 of 2, hidden)");
    for group in secret.split(['-', '\n']).skip(4).take(10) {
        assert!(!shown.contains(group));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = Share::parse(&text);
        let _ = Backup::parse(&text);
    }

    #[test]
    fn any_characters_of_the_alphabet_are_refused(text in "[0-9A-HJKMNP-TV-Z]{96}") {
        prop_assert!(Share::parse(&text).is_err());
    }

    #[test]
    fn any_two_slips_are_seen(at in 0usize..96, other in 0usize..96, one in 0usize..32, two in 0usize..32) {
        let share = &backup::make(&key(), 2, 2).unwrap().1[0];
        let text = characters(share);
        let bent = with_char(&with_char(&text, at, ALPHABET.as_bytes()[one] as char), other, ALPHABET.as_bytes()[two] as char);
        prop_assert_eq!(Share::parse(&bent).is_ok(), bent == text);
    }
}
