//! The stream behind a head: pieces of any size give the same events.

use codec::Refused;
use codec::limits::Limits;
use codec::suit::{Event, Members};

/// The first byte is the number of entries; the others are the stream.
pub fn run(data: &[u8]) {
    let Some((entries, stream)) = data.split_first() else {
        return;
    };
    let whole = events(stream, *entries, stream.len().max(1));
    for piece in [1, 2, 7, 64] {
        assert_eq!(events(stream, *entries, piece), whole);
    }
}

/// Begun members with their content, and whether the end was reached; or the refusal, after however many events.
fn events(stream: &[u8], entries: u8, piece: usize) -> (Vec<(Event, Vec<u8>)>, Option<Refused>) {
    let mut members = Members::new(entries.into(), &Limits::MCU);
    let mut found: Vec<(Event, Vec<u8>)> = Vec::new();
    for mut input in stream.chunks(piece).chain([&[][..]]) {
        loop {
            let (used, event) = match members.next(input) {
                Ok(next) => next,
                Err(refused) => return (found, Some(refused)),
            };
            let (taken, left) = input.split_at(used);
            input = left;
            match event {
                Event::NeedMore => break,
                Event::Bytes => found.last_mut().expect("begun").1.extend_from_slice(taken),
                other => found.push((other, Vec::new())),
            }
        }
    }
    (found, None)
}
