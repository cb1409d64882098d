//! Messages: what a device understands means the same when our client says it; every request gets an answer that the
//! client can read.

use codec::smp::client::{Answer, Client, Failure, Question};
use codec::smp::map::Map;
use codec::smp::{HEADER_BYTES, Header, Request, Response};

/// Any bytes as a message that a device receives, and as one that a client receives.
pub fn run(data: &[u8]) {
    let _ = Map::parse(data);
    device(data);
    client(data);
}

fn device(data: &[u8]) {
    let Ok((header, body)) = Header::split(data) else {
        return;
    };
    let mut out = [0; 64];
    match Request::decode(&header, body) {
        Ok(request) => {
            let mut again = vec![0; data.len() + 64];
            let (said, message) = request
                .encode(header.sequence, &mut again)
                .expect("not longer than it came");
            assert_eq!(message.len(), request.encoded_len());
            assert_eq!(Request::decode(&said, &message[HEADER_BYTES..]), Ok(request));
        }
        Err(reason) => {
            let answer = Response::Refused(reason).encode(&header, &mut out);
            assert_eq!(answer.is_empty(), header.op.response().is_none());
        }
    }
}

/// The message as an answer to every question, with the header that this one expects.
fn client(data: &[u8]) {
    for request in [Request::ImageStates, Request::DeviceInfo, Request::Parameters] {
        let mut out = [0; 32];
        let (question, asked) = Client::new(7).request(&request, &mut out).expect("room");
        read(question, data);
        let mut header = Header::split(asked).expect("our own header").0;
        header.op = header.op.response().expect("a request");
        header.len = u16::try_from(data.len()).unwrap_or(0);
        read(question, &[&header.to_bytes()[..], data].concat());
    }
}

fn read(question: Question, message: &[u8]) {
    match question.answer(message) {
        Ok(answer) => everything(answer),
        Err(Failure::Refused(refusal)) => assert_ne!(refusal.rc, 0),
        Err(Failure::NotMine | Failure::Malformed) => {}
    }
}

fn everything(answer: Answer<'_>) {
    let _ = (
        answer.echo(),
        answer.application_info(),
        answer.bootloader(),
        answer.parameters(),
    );
    let _ = (answer.uploaded(), answer.device(), answer.report());
    if let Ok(images) = answer.images() {
        assert!(images.count() <= 0x1_0000);
    }
}
