//! What tools on hosts read that others wrote: root chains, proposals, signing journals, frames of the signing service.

use keys::journal::verify::{Chain as Journal, Lines};
use keys::service::wire::{Request, Response, read_frame, write_frame};
use release::root::{Chain, Names, Proposal};
use std::path::Path;

/// Any bytes as each of them.
pub fn run(data: &[u8]) {
    roots(data);
    journal(data);
    frames(data);
}

fn roots(data: &[u8]) {
    if let Ok(chain) = Chain::parse(data) {
        assert_eq!(chain.to_bytes(), data, "a chain is its items");
        let _ = chain.verify(None, &codec::limits::Limits::LINUX, &Names::default());
        let _ = chain.history(&Names::default());
    }
    if let Ok(proposal) = Proposal::read(data) {
        let again = Proposal::read(&proposal.to_bytes()).expect("what we wrote");
        assert_eq!(again.digest(), proposal.digest());
        let _ = (proposal.explain(), proposal.subject(), proposal.signers().count());
    }
}

fn journal(data: &[u8]) {
    let mut journal = Journal::expecting(None);
    if journal.file(Path::new("fuzzed"), Lines::of(data)).is_ok() {
        let report = journal.end();
        assert_eq!(report.is_whole(), report.verdict().is_ok());
    }
}

fn frames(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(request.encode(), data, "a request is written in one way");
    }
    let _ = Response::decode(data);
    if let Ok(Some(content)) = read_frame(&mut &data[..]) {
        let mut again = Vec::new();
        write_frame(&mut again, &content).expect("memory");
        assert!(data.starts_with(&again));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::keep;
    use ampoule_sim::device::Shape;
    use ampoule_sim::fixture::Scheme;
    use ampoule_sim::line::Line;
    use codec::roots::{FileKind, RootFile};
    use keys::journal::{By, Event, Journal as File, Record, Refusal};
    use keys::service::wire::{SignContent, SignRequest};

    fn kept(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/host_files");
        std::fs::read(folder.join(name)).expect("a seed")
    }

    #[test]
    fn a_chain_and_a_proposal() {
        let line = Line::of(Shape::small(4, 0xff, true), Scheme::Ed25519);
        let second = line.second().build();
        keep("host_files", "chain", &[line.first.build(), second.clone()].concat());
        assert!(Chain::parse(&kept("chain")).is_ok());
        let limits = codec::limits::Limits::LINUX;
        let content = RootFile::decode(&second, &limits).expect("a root").content.to_vec();
        let proposal = Proposal::new(FileKind::Root, content, &limits).expect("a proposal");
        keep("host_files", "proposal", &proposal.to_bytes());
        assert!(Proposal::read(&kept("proposal")).is_ok());
    }

    #[test]
    fn requests_of_the_signing_service() {
        let request = Request::Sign(Box::new(SignRequest {
            key: "firmware".into(),
            object: "image".into(),
            subject: "version 1.4.2".into(),
            content: SignContent::Digest([7; 32]),
            shown: b"an image".to_vec(),
            git_ref: "refs/heads/main".into(),
            token: "TEST ONLY".into(),
        }));
        let frame = request.encode();
        keep("host_files", "sign-request", &frame);
        assert_eq!(Request::decode(&frame), Ok(request));
    }

    #[test]
    fn a_signing_journal() {
        let path = std::env::temp_dir().join(format!("ampoule-fuzz-journal-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        for number in 0..3 {
            let refusal = Refusal {
                number: 2000 + number,
                what: "a seed".into(),
                object: None,
            };
            let record = Record {
                by: By::default(),
                ..Record::of(Event::Refusal(refusal))
            };
            File::at(&path, None).append(1_800_000_000, &record).expect("an entry");
        }
        let bytes = std::fs::read(&path).expect("the journal");
        std::fs::remove_file(&path).expect("the journal");
        keep("host_files", "journal", &bytes);
        let mut journal = Journal::expecting(None);
        journal.file(Path::new("seed"), Lines::of(&bytes[..])).expect("memory");
        assert!(journal.end().is_whole());
    }
}
