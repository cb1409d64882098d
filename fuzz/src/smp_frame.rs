//! Serial streams: slices and single bytes give the same messages, and each survives another frame.

use codec::smp::{Deframer, frame};

/// Bytes of the longest message; short, so that the limit is met.
const ROOM: usize = 96;

/// Any bytes as a serial stream.
pub fn run(data: &[u8]) {
    let messages = by_byte(data);
    for (index, message) in messages.iter().enumerate() {
        assert!(message.len() <= ROOM);
        let mut again = b"noise ".to_vec();
        frame(message, index, |bytes| again.extend(bytes)).expect("short enough");
        assert_eq!(by_byte(&again), [message.clone()]);
    }
    assert_eq!(messages, by_slices(data));
    clean_after(data);
}

fn by_byte(data: &[u8]) -> Vec<Vec<u8>> {
    let mut room = [0; ROOM];
    let mut deframer = Deframer::new(&mut room);
    data.iter()
        .filter_map(|byte| deframer.push(*byte).map(<[u8]>::to_vec))
        .collect()
}

fn by_slices(data: &[u8]) -> Vec<Vec<u8>> {
    let mut room = [0; ROOM];
    let mut deframer = Deframer::new(&mut room);
    let mut messages = Vec::new();
    for mut slice in data.chunks(7) {
        while let Some(message) = deframer.take(&mut slice) {
            messages.push(message.to_vec());
        }
    }
    messages
}

/// Nothing that came before makes a deframer miss a frame in a line of its own.
fn clean_after(data: &[u8]) {
    let mut stream = data.to_vec();
    stream.push(b'\n');
    frame(b"after", 4, |bytes| stream.extend(bytes)).expect("short enough");
    assert_eq!(by_byte(&stream).last().map(Vec::as_slice), Some(&b"after"[..]));
}
