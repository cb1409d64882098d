//! The signing journal: what is found in it, what it survives, and that no signature comes out before its entry.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ampoule_keys as keys;
use keys::journal::verify::{self, Report, Wrong};
use keys::journal::{
    Appended, By, Context, Entry, Event, Facts, HeadFile, Journal, JournalHead, Journaled, Record, Refusal,
    Surroundings,
};
use keys::{Code, Content, Job, Object, Purpose, SignatureAlgorithm, Signer, file};
use proptest::prelude::*;
use tempfile::TempDir;

fn record(what: &str) -> Record {
    Record {
        by: By {
            operator: Some("Ada".into()),
            ..By::default()
        },
        why: Some("a test".into()),
        ..Record::of(Event::Refusal(Refusal {
            number: 2065,
            what: what.into(),
            object: None,
        }))
    }
}

/// A journal with `entries` entries behind the one that begins it.
fn journal(entries: usize) -> (TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::at(folder.path().join("journal.jsonl"), None);
    for number in 0..entries {
        journal
            .append(1_000 + number as u64, &record(&format!("refused {number}")))
            .unwrap();
    }
    (folder, journal)
}

fn report(journal: &Journal) -> Report {
    verify::files(&[journal.path()], None).unwrap()
}

fn head(journal: &Journal) -> JournalHead {
    journal.head().unwrap().unwrap()
}

/// The report of a journal with this content, which must be seen to end at `head`.
fn report_of(content: &[u8], head: JournalHead) -> Report {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    verify::files(&[file.path()], Some(&head.into())).unwrap()
}

fn kinds(report: &Report) -> Vec<Code> {
    report.findings.iter().map(|finding| finding.what.code()).collect()
}

#[test]
fn a_whole_journal_verifies_and_tells_what_it_holds() {
    let (_folder, journal) = journal(5);
    let report = report(&journal);
    assert!(report.is_whole() && report.verdict().is_ok());
    assert_eq!((report.entries, report.signatures, report.torn), (6, 0, 0));
    assert_eq!(report.last, journal.head().unwrap());
    assert_eq!(report.first.unwrap().number, 1);
}

#[cfg(unix)]
#[test]
fn a_journal_is_its_owners_alone() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, journal) = journal(1);
    assert_eq!(fs::metadata(journal.path()).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn every_changed_byte_is_found() {
    let (_folder, journal) = journal(4);
    let (whole, head) = (fs::read(journal.path()).unwrap(), head(&journal));
    for at in 0..whole.len() {
        for change in [0x01, 0x20, 0xff] {
            let mut bent = whole.clone();
            bent[at] ^= change;
            let report = report_of(&bent, head);
            assert!(!report.is_whole(), "byte {at} changed by {change:#x}");
            let line = 1 + whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
            let in_last = line == 5;
            let is_named = report.findings.iter().any(|finding| finding.line == line) || in_last;
            assert!(is_named, "byte {at} in line {line}: {:?}", report.findings);
        }
    }
}

fn lines(content: &[u8]) -> Vec<&[u8]> {
    content.split_inclusive(|byte| *byte == b'\n').collect()
}

#[test]
fn a_removed_line_is_named_by_its_number() {
    let (_folder, journal) = journal(6);
    let (whole, head) = (fs::read(journal.path()).unwrap(), head(&journal));
    let lines = lines(&whole);
    for removed in 0..lines.len() {
        let mut rest = lines.clone();
        rest.remove(removed);
        let report = report_of(&rest.concat(), head);
        let number = removed as u64 + 1;
        if number == head.number {
            assert_eq!(kinds(&report), [Code::JournalHead]);
        } else {
            let what: Vec<Wrong> = report.findings.iter().map(|finding| finding.what).collect();
            assert_eq!(
                what,
                [Wrong::Gap {
                    from: number,
                    to: number
                }]
            );
        }
    }
}

#[test]
fn lines_cut_off_at_the_end_are_found_against_a_head_and_only_so() {
    let (folder, journal) = journal(6);
    let (whole, head) = (fs::read(journal.path()).unwrap(), head(&journal));
    let lines = lines(&whole);
    for kept in 1..lines.len() {
        let cut = lines[..kept].concat();
        assert_eq!(kinds(&report_of(&cut, head)), [Code::JournalHead]);
        let file = folder.path().join("cut");
        fs::write(&file, &cut).unwrap();
        assert!(
            verify::files(&[&file], None).unwrap().is_whole(),
            "the limit that docs/journal.md names"
        );
    }
}

/// A journal written anew as a whole is sound in itself; only a head that was kept outside tells.
#[test]
fn a_journal_written_anew_does_not_contain_the_head() {
    let (_folder, old) = journal(3);
    let (_folder, new) = journal(3);
    new.append(9, &record("something else")).unwrap();
    let content = fs::read(new.path()).unwrap();
    let mut noted = head(&old);
    noted.hash.0[0] ^= 1;
    assert_eq!(kinds(&report_of(&content, noted)), [Code::JournalHead]);
}

/// An insider who knows the form rewrites an entry with the right hash: its successor gives it away.
#[test]
fn an_entry_replaced_with_its_right_hash_breaks_the_chain() {
    let (_folder, journal) = journal(4);
    let whole = fs::read(journal.path()).unwrap();
    let (_folder, forged) = {
        let folder = tempfile::tempdir().unwrap();
        let forged = Journal::at(folder.path().join("forged"), None);
        fs::write(forged.path(), lines(&whole)[..2].concat()).unwrap();
        forged.append(1_001, &record("innocent")).unwrap();
        (folder, forged)
    };
    let forged = fs::read(forged.path()).unwrap();
    let patched = [
        &lines(&whole)[..2].concat(),
        lines(&forged)[2],
        &lines(&whole)[3..].concat(),
    ]
    .concat();
    let report = report_of(&patched, head(&journal));
    assert_eq!(report.findings[0].what, Wrong::Chain { number: 4 });
    assert_eq!(report.findings.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn swapped_and_repeated_lines_are_out_of_order(one in 0usize..8, other in 0usize..8, swap: bool) {
        prop_assume!(one != other);
        let (_folder, journal) = journal(7);
        let whole = fs::read(journal.path()).unwrap();
        let mut lines = lines(&whole);
        match swap {
            true => lines.swap(one, other),
            false => lines.insert(other, lines[one]),
        }
        let report = report_of(&lines.concat(), head(&journal));
        // A line repeated directly before itself is the same as behind itself.
        prop_assert!(kinds(&report).contains(&Code::JournalOrder), "{:?}", report.findings);
    }

    #[test]
    fn any_text_comes_back(texts in proptest::collection::vec(".{0,40}", 3)) {
        let (_folder, journal) = journal(0);
        let mut given = record(&texts[0]);
        given.why = Some(texts[1].clone());
        given.facts = Facts::from([(texts[2].clone(), texts[0].clone())]);
        journal.append(7, &given).unwrap();
        let content = fs::read(journal.path()).unwrap();
        let entry = Entry::read(lines(&content)[1].strip_suffix(b"\n").unwrap()).unwrap();
        prop_assert_eq!((entry.event, entry.why, entry.facts), (given.event, given.why, given.facts));
    }

    /// Bytes that are no journal: reported or refused, never a panic, never taken for a whole journal with entries.
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        let report = verify::files(&[file.path()], None).unwrap();
        prop_assert_eq!(report.entries, 0);
        let appended = Journal::at(file.path(), None).append(1, &record("x"));
        prop_assert_eq!(appended.is_err(), bytes.contains(&b'\n'));
    }
}

/// A crash may leave any first part of a line. The next entry stands behind it, says what is torn, and nothing is lost.
#[test]
fn a_line_torn_at_any_byte_is_closed_by_the_next_entry_and_kept() {
    let (_folder, journal) = journal(3);
    let whole = fs::read(journal.path()).unwrap();
    let last_start = whole.len() - lines(&whole)[3].len();
    for cut in (0..lines(&whole)[0].len()).chain(last_start..whole.len()) {
        fs::write(journal.path(), &whole[..cut]).unwrap();
        let is_torn = cut != 0 && cut != last_start;
        let before = verify::files(&[journal.path()], None).unwrap();
        assert_eq!(
            (before.is_whole(), before.open_end.is_some()),
            (true, is_torn),
            "cut at {cut}"
        );
        let appended = journal.append(2_000, &record("after the crash")).unwrap();
        assert_eq!(
            appended.torn.map(|torn| torn.bytes as usize),
            is_torn.then(|| cut - if cut < last_start { 0 } else { last_start })
        );
        // And the write that closes it is cut short too.
        let once = fs::read(journal.path()).unwrap();
        assert!(once.starts_with(&whole[..cut]), "bytes were changed");
        fs::write(journal.path(), &once[..once.len() - 7]).unwrap();
        let again = journal.append(2_001, &record("after another crash")).unwrap();
        assert!(again.torn.is_some());
        let after = report(&journal);
        // The torn first line of all is closed by the entry that begins the journal.
        let torn = 1 + u64::from(is_torn && cut < last_start);
        assert!(after.is_whole() && after.open_end.is_none(), "{after:?}");
        assert_eq!(after.torn, torn, "cut at {cut}");
        assert!(fs::read(journal.path()).unwrap().starts_with(&once[..once.len() - 7]));
    }
}

#[test]
fn nothing_is_appended_behind_a_changed_last_entry() {
    let (_folder, journal) = journal(3);
    let mut bent = fs::read(journal.path()).unwrap();
    let at = bent.len() - 10;
    bent[at] ^= 1;
    fs::write(journal.path(), &bent).unwrap();
    let error = journal.append(5, &record("x")).unwrap_err();
    assert!(error.is(Code::JournalDamaged), "{error}");
    assert_eq!(fs::read(journal.path()).unwrap(), bent);
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_changes_nothing() {
    let (_folder, journal) = journal(1);
    let before = fs::read(journal.path()).unwrap();
    let error = journal.append(5, &record(&"x".repeat(70_000))).unwrap_err();
    assert!(error.is(Code::JournalEntry), "{error}");
    assert_eq!(fs::read(journal.path()).unwrap(), before);
}

#[test]
fn a_head_file_follows_every_append_and_a_shorter_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, noted) = (folder.path().join("j"), HeadFile::at(folder.path().join("head")));
    let journal = Journal::at(&path, Some(noted.clone()));
    journal.append(1, &record("one")).unwrap();
    let short = fs::read(&path).unwrap();
    journal.append(2, &record("two")).unwrap();
    assert_eq!(noted.read().unwrap(), journal.head().unwrap());

    // Cut off, as a restored backup would be.
    let long = fs::read(&path).unwrap();
    fs::write(&path, &short).unwrap();
    assert!(journal.append(3, &record("three")).unwrap_err().is(Code::JournalHead));
    assert_eq!(fs::read(&path).unwrap(), short);
    fs::remove_file(&path).unwrap();
    assert!(journal.append(3, &record("three")).unwrap_err().is(Code::JournalHead));

    // A crash between entry and note: the journal is ahead, and that is fine.
    fs::write(&path, &long).unwrap();
    Journal::at(&path, None).append(3, &record("three")).unwrap();
    journal.append(4, &record("four")).unwrap();
    assert_eq!(noted.read().unwrap(), journal.head().unwrap());

    // The medium is not there.
    fs::remove_file(noted.path()).unwrap();
    assert!(
        journal
            .append(5, &record("five"))
            .unwrap_err()
            .is(Code::JournalHeadFile)
    );
}

#[test]
fn a_rotated_journal_goes_on_in_the_next_file() {
    let folder = tempfile::tempdir().unwrap();
    let noted = HeadFile::at(folder.path().join("head"));
    let journal = Journal::at(folder.path().join("j"), Some(noted.clone()));
    let (first, second) = (folder.path().join("j-1"), folder.path().join("j-2"));
    assert!(journal.rotate(1, &first).unwrap_err().is(Code::JournalOpen));
    for (number, archive) in [&first, &second].into_iter().enumerate() {
        journal.append(number as u64, &record("x")).unwrap();
        journal.rotate(number as u64, archive).unwrap();
        assert_eq!(noted.read().unwrap(), journal.head().unwrap());
    }
    journal.append(9, &record("y")).unwrap();
    assert!(journal.rotate(9, &first).unwrap_err().is(Code::FileExists));
    let all = [first.as_path(), second.as_path(), journal.path()];
    let report = verify::files(&all, Some(&head(&journal).into())).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.entries, report.last.unwrap().number), (8, 8));
    // One file forgotten, or in the wrong place.
    let forgotten = verify::files(&[all[0], all[2]], None).unwrap();
    assert_eq!(forgotten.findings[0].what, Wrong::Gap { from: 4, to: 6 });
    assert_eq!(
        kinds(&verify::files(&[all[1], all[0]], None).unwrap())[0],
        Code::JournalOrder
    );
    // The ended file takes nothing more.
    let ended = Journal::at(&first, None).append(9, &record("z"));
    assert!(ended.unwrap_err().is(Code::JournalEnded));
}

/// Every state in which a crash may leave a rotation.
#[test]
fn an_interrupted_rotation_is_finished_by_the_next() {
    for (has_new, has_link) in [(false, false), (true, false), (true, true)] {
        let (folder, journal) = journal(2);
        let archive = folder.path().join("archive");
        let ended = {
            let copy = Journal::at(folder.path().join("copy"), None);
            fs::copy(journal.path(), copy.path()).unwrap();
            let archived = folder.path().join("copy-archive");
            copy.rotate(5, &archived).unwrap();
            fs::read(archived).unwrap()
        };
        fs::write(journal.path(), ended).unwrap();
        if has_new {
            fs::write(folder.path().join("journal.jsonl.new"), "half").unwrap();
        }
        if has_link {
            fs::hard_link(journal.path(), &archive).unwrap();
        }
        assert!(journal.append(6, &record("x")).unwrap_err().is(Code::JournalEnded));
        journal.rotate(6, &archive).unwrap();
        journal.append(7, &record("x")).unwrap();
        let report = verify::files(&[archive.as_path(), journal.path()], None).unwrap();
        assert!(report.is_whole() && report.entries == 6, "{:?}", report.findings);
    }
}

struct Clock;

impl Surroundings for Clock {
    fn now(&self) -> u64 {
        1_764_053_478
    }
}

fn context(journal: Journal) -> Context {
    Context {
        journal,
        by: By::default(),
        why: Some("release day".into()),
        facts: Facts::from([("override".into(), "i-know".into())]),
        surroundings: Box::new(Clock),
    }
}

fn purpose() -> Purpose {
    Purpose {
        object: Object::Release,
        subject: "sequence 7".into(),
        digest: [7; 32],
    }
}

#[test]
fn a_signature_comes_out_with_its_entry_and_not_without() {
    let (folder, journal) = journal(0);
    let signer = Journaled::new(
        file::generate(SignatureAlgorithm::Esp256).unwrap(),
        context(journal.clone()),
    );
    let boxed: Box<dyn Signer> = Box::new(signer);
    let purpose = purpose();
    let job = Job {
        content: Content::Message(&[b"one ", b"two"]),
        purpose: &purpose,
    };
    for is_shown in [false, true] {
        let signature = match is_shown {
            false => boxed.sign(&job),
            true => boxed.sign_shown(&job, b""),
        }
        .unwrap();
        let content = fs::read(journal.path()).unwrap();
        let line = *lines(&content).last().unwrap();
        let entry = Entry::read(line.strip_suffix(b"\n").unwrap()).unwrap();
        let Event::Signature(signed) = entry.event else {
            panic!("{entry:?}")
        };
        assert_eq!(signed.signature.0, trust::Sha256::of(signature.as_cose()));
        assert_eq!(signed.content.sha256.0, trust::Sha256::of(b"one two"));
        assert_eq!(
            (signed.what.object.as_str(), signed.what.digest.0),
            ("release", [7; 32])
        );
        assert_eq!(signed.key.id.0, boxed.public_key().thumbprint());
        assert_eq!((entry.at, entry.why.as_deref()), (1_764_053_478, Some("release day")));
        assert_eq!(entry.facts["override"], "i-know");
    }
    boxed.make_signature(&job).unwrap();
    assert_eq!(boxed.sign_all(&[job, job]).unwrap().len(), 2);
    assert!(boxed.sign_all(&[]).unwrap().is_empty());
    assert_eq!(
        report(&journal).signatures,
        5,
        "every way to a signature leads through the journal"
    );

    fs::remove_file(journal.path()).unwrap();
    fs::create_dir(journal.path()).unwrap();
    assert!(boxed.sign(&job).unwrap_err().is(Code::JournalOpen));
    assert!(boxed.make_signature(&job).unwrap_err().is(Code::JournalOpen));
    assert!(boxed.sign_all(&[job, job]).unwrap_err().is(Code::JournalOpen));
    drop(folder);
    assert!(boxed.sign_shown(&job, b"").unwrap_err().is(Code::JournalOpen));
}

/// Names the journal to which a child of these tests appends, and how often; see [`a_child_that_appends`].
const CHILD: &str = "AMPOULE_TEST_JOURNAL";

/// Not a test of its own: what the children of the tests below run. Says each number once it is durable.
#[test]
fn a_child_that_appends() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (count, path) = order.split_once(' ').unwrap();
    let journal = Journal::at(path, None);
    let mut stdout = std::io::stdout();
    for _ in 0..count.parse::<u32>().unwrap() {
        let appended: Appended = journal.append(1, &record("by a child")).unwrap();
        writeln!(stdout, "durable {}", appended.head.number).unwrap();
    }
}

fn child(path: &Path, count: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_that_appends", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{count} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn eight_processes_race_and_every_entry_is_there_once() {
    let (_folder, journal) = journal(0);
    let children: Vec<Child> = (0..8).map(|_| child(journal.path(), 200)).collect();
    let mut numbers = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        numbers.extend(said(&output.stdout[..]));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=1_601).collect::<Vec<u64>>());
    let report = report(&journal);
    assert!(report.is_whole() && report.entries == 1_601, "{:?}", report.findings);
}

fn said(output: impl std::io::Read) -> Vec<u64> {
    let lines = BufReader::new(output).lines();
    lines
        .map_while(Result::ok)
        .filter_map(|line| line.rsplit_once("durable ")?.1.parse().ok())
        .collect()
}

#[test]
fn threads_race_too() {
    let (_folder, journal) = journal(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert!(journal.append(1, &record("x")).is_ok())));
        }
    });
    assert!(report(&journal).is_whole());
    assert_eq!(report(&journal).entries, 201);
}

/// SIGKILL at 120 random moments: what a process was told to be durable is there, and the chain is whole.
#[test]
fn whatever_was_durable_survives_kill_nine() {
    let (_folder, journal) = journal(0);
    let mut random = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    for kill in 0..120 {
        let mut child = child(journal.path(), u32::MAX);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        // It has begun, so that the kill falls among appends.
        let mut line = String::new();
        while !line.contains("durable") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the child ended");
        }
        std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 10_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let durable = said(stdout).last().copied().unwrap_or(0);
        let report = report(&journal);
        assert!(report.is_whole(), "kill {kill}: {:?}", report.findings);
        assert!(report.last.unwrap().number >= durable, "kill {kill}: {durable} is lost");
    }
    journal.append(1, &record("after all")).unwrap();
    assert!(report(&journal).is_whole());
}

/// The journal of a path that cannot be one.
#[test]
fn a_folder_that_is_missing_is_named() {
    let journal = Journal::at(PathBuf::from("/nonexistent/journal"), None);
    let error = journal.append(1, &record("x")).unwrap_err();
    assert!(
        error.is(Code::JournalOpen) && error.what.contains("/nonexistent/journal"),
        "{error}"
    );
    assert_eq!(journal.head().unwrap(), None);
}
