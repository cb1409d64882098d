//! Console framing: the documented vectors both ways, and what goes wrong on a serial line.

use ampoule_codec::smp::frame::{TooLong, crc16};
use ampoule_codec::smp::{Deframer, frame};
use proptest::prelude::*;

const ROOM: usize = 1_024;

/// Messages in hexadecimal and their lines, from documentation and captures of other people's clients.
const VECTORS: &[(&str, &str, &str)] = &[
    ("parameters", "0800000100000006a0", "AAsIAAABAAAABqBzEw=="),
    (
        "parameters response",
        "0900001800000006a2686275665f73697a65190400696275665f636f756e7404",
        "ACIJAAAYAAAABqJoYnVmX3NpemUZBABpYnVmX2NvdW50BGFy",
    ),
    (
        "echo",
        "0a00000900000100a1616465 68656c6c6f",
        "ABMKAAAJAAABAKFhZGVoZWxsb3o2",
    ),
    (
        "echo response",
        "0b00000900000100a161726568656c6c6f",
        "ABMLAAAJAAABAKFhcmVoZWxsb/yK",
    ),
    ("image state", "0800000100010200a0", "AAsIAAABAAECAKDBYQ=="),
    (
        "erase",
        "0a00000700010405a164736c6f7401",
        "ABEKAAAHAAEEBaFkc2xvdAF7Rg==",
    ),
    ("reset", "0a00000100000505a0", "AAsKAAABAAAFBaAL1w=="),
    ("reset response", "0b00000100000505a0", "AAsLAAABAAAFBaDg9A=="),
    (
        "not supported",
        "0900000500080903a162726308",
        "AA8JAAAFAAgJA6FicmMIKik=",
    ),
    (
        "version 2 error",
        "0900001200010900a163657272a26567726f75700162726318 18",
        "ABwJAAASAAEJAKFjZXJyomVncm91cAFicmMYGGaO",
    ),
    (
        "upload response",
        "0b00000d00010301a2636f666610656d61746368f5",
        "ABcLAAANAAEDAaJjb2ZmEGVtYXRjaPUZZQ==",
    ),
    (
        "upload",
        "0a00004e00010301a565696d61676500636c656e10636f666600637368615820be45cb2605bf36bebde684841a28f0fd43c69850a3dce5fe\
         dba69928ee3a89916464617461 50000102030405060708090a0b0c0d0e0f",
        "AFgKAABOAAEDAaVlaW1hZ2UAY2xlbhBjb2ZmAGNzaGFYIL5FyyYFvza+veaEhBoo8P1DxphQo9zl/tummSjuOomRZGRhdGFQAAECAwQFBgcICQoLDA0OD+I1",
    ),
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(pair).collect()
}

fn line(text: &str) -> Vec<u8> {
    [b"\x06\x09", text.as_bytes(), b"\n"].concat()
}

fn framed(message: &[u8], line_chars: usize) -> Vec<u8> {
    let mut out = Vec::new();
    frame(message, line_chars, |bytes| out.extend(bytes)).expect("short enough");
    out
}

/// All messages in a stream, byte by byte.
fn messages(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut room = [0; ROOM];
    let mut deframer = Deframer::new(&mut room);
    stream
        .iter()
        .filter_map(|byte| deframer.push(*byte).map(<[u8]>::to_vec))
        .collect()
}

#[test]
fn the_documented_vectors_both_ways() {
    for (name, message, text) in VECTORS {
        let message = hex(message);
        assert_eq!(framed(&message, 124), line(text), "{name}");
        assert_eq!(messages(&line(text)), [message], "{name}");
    }
}

#[test]
fn the_check_value_of_the_crc() {
    assert_eq!(crc16(b"123456789"), 0x31c3);
    assert_eq!(crc16(b"Hello, world!"), 0x7ade);
    assert_eq!(crc16(b""), 0);
}

#[test]
fn short_lines_are_those_of_the_documentation() {
    let stream = framed(b"Hello, world!", 4);
    let expected = b"\x06\x09AA9I\n\x04\x14ZWxs\n\x04\x14bywg\n\x04\x14d29y\n\x04\x14bGQh\n\x04\x14et4=\n";
    assert_eq!(stream, expected);
    assert_eq!(messages(&stream), [b"Hello, world!"]);
    for (asked, same_as) in [(0, 4), (3, 4), (7, 4), (8, 8), (126, 124), (1_000, 124)] {
        assert_eq!(framed(&[7; 200], asked), framed(&[7; 200], same_as), "{asked}");
    }
}

#[test]
fn lines_have_the_documented_sizes() {
    for (message, chars, lines) in [(512usize, 688, 6), (1_024, 1_372, 12)] {
        let stream = framed(&vec![0x5a; message], 124);
        assert_eq!(stream.len(), chars + lines * 3);
        assert!(
            stream
                .split_inclusive(|byte| *byte == b'\n')
                .all(|line| line.len() <= 127)
        );
    }
    assert_eq!(frame(&vec![0; 65_534], 124, |_| ()), Err(TooLong));
    assert_eq!(frame(&vec![0; 65_533], 124, |_| ()), Ok(()));
}

#[test]
fn console_text_is_ignored_wherever_it_stands() {
    let lines = framed(&[0x42; 150], 124);
    let (first, second) = lines.split_at(127);
    let expected = [vec![0x42; 150]];
    let log = b"[00:00:01.234] <inf> main: AAsIAAAB started\r\n";
    assert_eq!(messages(&[&log[..], first, log, second, log].concat()), expected);
    // Glued to the mark, also with bytes of marks in it.
    assert_eq!(
        messages(&[b"boot> \x06", first, b"\x04 \x06 ", second].concat()),
        expected
    );
    assert_eq!(messages(&[b"\x06\x06", first, b"\x04", second].concat()), expected);
    let crlf = [&first[..126], b"\r\n", &second[..second.len() - 1], b"\r\n"].concat();
    assert_eq!(messages(&crlf), expected);
}

#[test]
fn a_start_line_always_begins_anew() {
    let good = line("AAsIAAABAAAABqBzEw==");
    let message = [hex("0800000100000006a0")];
    let long = framed(&[0x42; 150], 124);
    assert_eq!(
        messages(&[&long[..127], &good].concat()),
        message,
        "the first packet is given up"
    );
    assert_eq!(
        messages(&[&long[..60], &good].concat()),
        message,
        "in the middle of a line"
    );
    assert_eq!(
        messages(&[&long[..61], &good].concat()),
        message,
        "in the middle of four characters"
    );
    assert_eq!(
        messages(&[&long[127..], &good].concat()),
        message,
        "a continuation of nothing"
    );
    assert_eq!(
        messages(&[good.clone(), good].concat()),
        [message.clone(), message].concat()
    );
}

#[test]
fn frames_need_no_line_end_to_be_complete() {
    let text = b"\x06\x09AAsIAAABAAAABqBzEw==";
    assert_eq!(messages(text), [hex("0800000100000006a0")]);
    assert_eq!(messages(&[&text[..], &text[..]].concat()).len(), 2);
}

#[test]
fn what_is_damaged_is_dropped_and_the_next_frame_is_found() {
    let good = line("AAsIAAABAAAABqBzEw==");
    let message = hex("0800000100000006a0");
    for at in 2..good.len() - 1 {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let found = messages(&[&bad[..], &good].concat());
            // Only what the last quantum says beyond the last byte may differ without harm: the message is the same.
            let harmless = [good.len() - 4, good.len() - 3].contains(&at);
            assert!(
                found == [message.clone()] || harmless && found == [message.clone(), message.clone()],
                "{at}.{bit}"
            );
        }
    }
}

#[test]
fn lengths_that_lie_are_dropped() {
    let with_length = |length: u16| {
        let mut packet = length.to_be_bytes().to_vec();
        packet.extend(hex("0800000100000006a0"));
        packet.extend(crc16(&hex("0800000100000006a0")).to_be_bytes());
        let mut lines = b"\x06\x09".to_vec();
        lines.extend(base64(&packet));
        lines.extend(b"\n");
        messages(&lines)
    };
    assert_eq!(with_length(11), [hex("0800000100000006a0")]);
    for length in [0, 1, 3, 10, 12, 0x0400 + 3, u16::MAX] {
        assert_eq!(with_length(length), Vec::<Vec<u8>>::new(), "{length}");
    }
}

/// Base64 of any bytes, by way of the encoder: what it gives for a message without length and CRC.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            let char = ALPHABET[(bits >> (18 - 6 * at) & 0x3f) as usize];
            out.push(if at as usize > chunk.len() { b'=' } else { char });
        }
    }
    out
}

#[test]
fn the_longest_message_fits_the_buffer_exactly() {
    let fits = |bytes: usize| messages(&framed(&vec![9; bytes], 124)).len();
    assert_eq!(fits(ROOM), 1);
    assert_eq!(fits(ROOM + 1), 0);
    assert_eq!(
        messages(&[framed(&[9; ROOM + 1], 124), framed(&[8; 10], 124)].concat()),
        [[8; 10]]
    );
}

#[test]
fn padding_ends_a_packet_and_lines_decode_alone() {
    let good = line("AAsIAAABAAAABqBzEw==");
    let after = |bad: &[u8]| messages(&[bad, &good].concat()).len();
    assert_eq!(
        after(b"\x06\x09AAsIAAAB\n\x04\x14AAAABqBzEw==\n"),
        2,
        "split between quanta"
    );
    assert_eq!(
        after(b"\x06\x09AAsIAAABA\n\x04\x14AAABqBzEw==\n"),
        1,
        "split within a quantum"
    );
    assert_eq!(
        after(b"\x06\x09AAsIAA==\n\x04\x14AAABqBzEw==\n"),
        1,
        "padding in a line that is not the last"
    );
    assert_eq!(after(b"\x06\x09AAs=IAABAAAABqBzEw==\n"), 1, "padding within a line");
    assert_eq!(after(b"\x06\x09=AAsIAABAAAABqBzEw==\n"), 1);
    assert_eq!(after(b"\x06\x09A===\n"), 1);
    assert_eq!(
        after(b"\x06\x09AAsIAAABAAAABqBzEw=A\n"),
        1,
        "one padding character too few"
    );
    assert_eq!(after(b"\x06\x09AAsIAAABAAAABqBz Ew==\n"), 1, "a blank within");
}

#[test]
fn slices_of_any_size_are_taken_up_to_a_message() {
    let stream = [framed(&[1; 50], 124), b"noise\n".to_vec(), framed(&[2; 60], 8)].concat();
    for size in 1..stream.len() {
        let mut room = [0; ROOM];
        let mut deframer = Deframer::new(&mut room);
        let mut found = Vec::new();
        for mut slice in stream.chunks(size) {
            while let Some(message) = deframer.take(&mut slice) {
                found.push(message.to_vec());
            }
            assert!(slice.is_empty());
        }
        assert_eq!(found, [vec![1; 50], vec![2; 60]], "slices of {size}");
    }
}

proptest! {
    #[test]
    fn every_message_arrives(message in proptest::collection::vec(any::<u8>(), 0..600), chars in 0..200usize, noise in "[ -~]{0,40}") {
        let mut stream = noise.clone().into_bytes();
        stream.extend(framed(&message, chars));
        stream.extend(noise.into_bytes());
        prop_assert_eq!(messages(&stream), [message]);
    }

    #[test]
    fn whatever_came_before_a_clean_start_is_no_hindrance(
        noise in proptest::collection::vec(prop_oneof![Just(6u8), Just(9), Just(4), Just(20), Just(b'='), Just(b'A'), Just(b'\n'), any::<u8>()], 0..300),
        message in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let mut stream = noise;
        stream.push(b'\n');
        stream.extend(framed(&message, 124));
        let found = messages(&stream);
        prop_assert_eq!(found.last(), Some(&message));
    }
}
