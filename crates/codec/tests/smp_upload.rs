//! The upload's place: against a device that loses, repeats, forgets or knows a part already.

use ampoule_codec::smp::client::{
    Client, Destination, FRAMING_BYTES, Question, STALLS_MAX, Upload, UploadFailure, Uploaded,
};
use ampoule_codec::smp::{Header, Request, Response, Start};

const BUF_SIZE: u32 = 256;

fn file() -> Vec<u8> {
    (0..5_000u32).map(|at| (at * 7) as u8).collect()
}

fn start(len: usize) -> Start {
    Start {
        len: len as u32,
        image: 0,
        sha: Some([9; 32]),
        upgrade: false,
    }
}

/// A device that stores what comes in order.
#[derive(Default)]
struct Device {
    stored: Vec<u8>,
    messages: usize,
    starts: usize,
    /// Forgets everything at this message.
    forgets_at: Option<usize>,
    longest: usize,
}

impl Device {
    fn serve(&mut self, message: &[u8]) -> Vec<u8> {
        self.messages += 1;
        self.longest = self.longest.max(message.len());
        let (header, body) = Header::split(message).expect("a header");
        let (Ok(Request::Upload(piece)) | Ok(Request::Provision(piece))) = Request::decode(&header, body) else {
            panic!("not an upload");
        };
        self.starts += usize::from(piece.start.is_some());
        if self.forgets_at == Some(self.messages) {
            self.stored.clear();
        } else if piece.offset as usize == self.stored.len() {
            self.stored.extend(piece.data);
        }
        let offset = self.stored.len() as u32;
        let mut out = [0; 64];
        Response::Uploaded { offset, matches: None }
            .encode(&header, &mut out)
            .to_vec()
    }
}

fn uploaded(question: Question, message: &[u8]) -> Uploaded {
    question
        .answer(message)
        .expect("an answer")
        .uploaded()
        .expect("a place")
}

/// Runs an upload to its end; `loses` says which answers get lost.
fn run(device: &mut Device, destination: Destination, loses: impl Fn(usize) -> bool) {
    let file = file();
    let mut upload = Upload::new(destination, start(file.len()));
    let mut client = Client::default();
    let mut out = [0; BUF_SIZE as usize];
    let mut exchanges = 0;
    while let Some((offset, len)) = upload.next(BUF_SIZE).expect("room") {
        let data = &file[offset as usize..][..len as usize];
        let (question, message) = client
            .request(&upload.request(data), &mut out)
            .expect("fits the buffer");
        let answer = device.serve(message);
        exchanges += 1;
        if !loses(exchanges) {
            upload.on_response(uploaded(question, &answer)).expect("no failure");
        }
    }
    assert!(upload.is_done());
    assert!(device.stored == file);
}

#[test]
fn a_file_arrives_in_messages_as_large_as_the_buffer() {
    let mut device = Device::default();
    run(&mut device, Destination::Image, |_| false);
    assert_eq!(device.starts, 1);
    // The head of a small byte string is one byte shorter than what is reserved for it.
    assert!((BUF_SIZE - FRAMING_BYTES - 1..=BUF_SIZE - FRAMING_BYTES).contains(&(device.longest as u32)));
    assert_eq!(device.messages, 23);
    run(&mut Device::default(), Destination::Root, |_| false);
}

#[test]
fn lost_answers_are_asked_for_again() {
    run(&mut Device::default(), Destination::Image, |exchange| exchange % 3 == 0);
    run(&mut Device::default(), Destination::Image, |exchange| exchange == 1);
}

#[test]
fn a_device_that_holds_a_part_is_sent_the_rest_only() {
    let mut device = Device {
        stored: file()[..4_000].to_vec(),
        ..Device::default()
    };
    run(&mut device, Destination::Image, |_| false);
    assert!(device.messages < 8, "{} messages", device.messages);
    let mut device = Device {
        stored: file(),
        ..Device::default()
    };
    run(&mut device, Destination::Image, |_| false);
    assert_eq!(device.messages, 1);
}

#[test]
fn a_device_that_forgets_is_told_everything_anew() {
    let mut device = Device {
        forgets_at: Some(20),
        ..Device::default()
    };
    run(&mut device, Destination::Image, |_| false);
    assert_eq!(device.starts, 2);
}

#[test]
fn uploads_that_cannot_end_are_given_up() {
    let answer = |offset| Uploaded { offset, matches: None };
    let mut upload = Upload::new(Destination::Image, start(100));
    assert_eq!(upload.on_response(answer(101)), Err(UploadFailure::BeyondEnd));
    assert_eq!(upload.on_response(answer(50)), Ok(()));
    for _ in 1..STALLS_MAX {
        assert_eq!(upload.on_response(answer(50)), Ok(()));
    }
    assert_eq!(upload.on_response(answer(50)), Err(UploadFailure::Stalled));

    // Back and forth is no progress either.
    let mut upload = Upload::new(Destination::Image, start(100));
    let verdicts: Vec<_> = (0..100).map(|at| upload.on_response(answer(10 + at % 2))).collect();
    assert!(verdicts.contains(&Err(UploadFailure::Stalled)));

    let mut upload = Upload::new(Destination::Image, start(100));
    let mismatch = Uploaded {
        offset: 100,
        matches: Some(false),
    };
    assert_eq!(upload.on_response(mismatch), Err(UploadFailure::Mismatch));
    assert!(!upload.is_done());
    let good = Uploaded {
        offset: 100,
        matches: Some(true),
    };
    assert_eq!(upload.on_response(good), Ok(()));
    assert_eq!(
        (upload.is_done(), upload.offset(), upload.next(0)),
        (true, 100, Ok(None))
    );
}

#[test]
fn the_buffer_must_have_room_for_a_byte() {
    let upload = Upload::new(Destination::Image, start(100));
    let smallest = (0..200).find(|size| upload.next(*size).is_ok()).expect("a size");
    assert_eq!(upload.next(smallest), Ok(Some((0, 1))));
    assert_eq!(upload.next(smallest - 1), Err(UploadFailure::BufferTooSmall));
    assert_eq!(upload.next(u32::MAX), Ok(Some((0, 100))));
    let large = Upload::new(Destination::Image, start(10_000_000));
    let Ok(Some((0, len))) = large.next(u32::MAX) else {
        panic!("no piece")
    };
    let data = vec![0; len as usize];
    assert!(
        Client::default()
            .request(&large.request(&data), &mut vec![0; 70_000])
            .is_ok()
    );
}

#[test]
fn an_empty_file_is_one_message() {
    let mut upload = Upload::new(Destination::Image, start(0));
    assert_eq!(upload.next(BUF_SIZE), Ok(Some((0, 0))));
    assert_eq!(
        upload.on_response(Uploaded {
            offset: 0,
            matches: None
        }),
        Ok(())
    );
    assert_eq!(upload.next(BUF_SIZE), Ok(None));
}
