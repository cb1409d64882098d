//! Requests and answers: the documented bytes, other people's encodings, and what is malformed.

use ampoule_codec::Reason;
use ampoule_codec::mcuboot::ImageVersion;
use ampoule_codec::record::{Lifecycle, LifecycleRequest};
use ampoule_codec::smp::client::{Client, Failure, Refusal};
use ampoule_codec::smp::response::{MODE_SWAP_OFFSET, Parameters, RESPONSE_BYTES_MIN, RootInfo};
use ampoule_codec::smp::{
    DeviceInfo, HEADER_BYTES, Header, ImageState, Op, Piece, Request, Response, SlotSize, Start, UpdateState, group,
};
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(pair).collect()
}

fn encoded(request: &Request<'_>, sequence: u8) -> Vec<u8> {
    let mut out = [0; 2_048];
    request.encode(sequence, &mut out).expect("room").1.to_vec()
}

fn decode(message: &[u8]) -> Result<Request<'_>, Reason> {
    let (header, body) = Header::split(message)?;
    Request::decode(&header, body)
}

/// A message of a version 1 client with this body.
fn message(op: u8, group: u16, command: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x08 | op, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(group.to_be_bytes());
    message.extend([7, command]);
    message.extend(body);
    message
}

fn answer(request: &[u8], response: &Response<'_>) -> Vec<u8> {
    let (header, _) = Header::split(request).expect("a header");
    let mut out = [0; 2_048];
    response.encode(&header, &mut out).to_vec()
}

const SHA: [u8; 32] = [
    0xbe, 0x45, 0xcb, 0x26, 0x05, 0xbf, 0x36, 0xbe, 0xbd, 0xe6, 0x84, 0x84, 0x1a, 0x28, 0xf0, 0xfd, 0x43, 0xc6, 0x98,
    0x50, 0xa3, 0xdc, 0xe5, 0xfe, 0xdb, 0xa6, 0x99, 0x28, 0xee, 0x3a, 0x89, 0x91,
];

fn first_piece() -> Piece<'static> {
    let data = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let start = Start {
        len: 16,
        image: 0,
        sha: Some(SHA),
        upgrade: false,
    };
    Piece {
        offset: 0,
        data,
        start: Some(start),
    }
}

#[test]
fn requests_have_the_documented_bytes() {
    for (sequence, request, bytes) in [
        (0, Request::Parameters, "0800000100000006a0"),
        (1, Request::Echo("hello"), "0a00000900000100a161646568656c6c6f"),
        (2, Request::ImageStates, "0800000100010200a0"),
        (4, Request::Erase { slot: 1 }, "0a00000700010405a164736c6f7401"),
        (
            5,
            Request::Reset {
                force: false,
                boot_mode: 0,
            },
            "0a00000100000505a0",
        ),
        (
            6,
            Request::Lifecycle(LifecycleRequest::Advance(Lifecycle::Provisioned)),
            "0a00000500400603a162746f02",
        ),
        (
            7,
            Request::Lifecycle(LifecycleRequest::LeaveDevelopment),
            "0a00000800400703a1656c65617665f5",
        ),
        (
            3,
            Request::Upload(first_piece()),
            "0a00004e00010301a565696d61676500636c656e10636f666600637368615820be45cb2605bf36bebde684841a28f0fd43c69850a3\
             dce5fedba69928ee3a8991646461746150000102030405060708090a0b0c0d0e0f",
        ),
    ] {
        assert_eq!(encoded(&request, sequence), hex(bytes), "{request:?}");
        assert_eq!(decode(&hex(bytes)), Ok(request));
    }
}

#[test]
fn answers_have_the_documented_bytes() {
    let parameters = Parameters {
        buf_size: 1_024,
        buf_count: 4,
    };
    for (request, response, bytes) in [
        (
            "0800000100000006a0",
            Response::Parameters(parameters),
            "0900001800000006a2686275665f73697a65190400696275665f636f756e7404",
        ),
        (
            "0a00000900000100a161646568656c6c6f",
            Response::Echo("hello"),
            "0b00000900000100a161726568656c6c6f",
        ),
        ("0a00000100000505a0", Response::Done, "0b00000100000505a0"),
        (
            "0a00000d00010301",
            Response::Uploaded {
                offset: 16,
                matches: Some(true),
            },
            "0b00000d00010301a2636f666610656d61746368f5",
        ),
    ] {
        assert_eq!(answer(&hex(request), &response), hex(bytes), "{response:?}");
    }
}

#[test]
fn every_request_survives_the_way_there_and_back() {
    let later = Piece {
        offset: 70_000,
        data: &[0x55; 661],
        start: None,
    };
    let upgrade = Start {
        len: u32::MAX,
        image: 2,
        sha: None,
        upgrade: true,
    };
    let mut requests = vec![
        Request::Echo(""),
        Request::Echo("größer"),
        Request::EchoControl,
        Request::Reset {
            force: true,
            boot_mode: 1,
        },
        Request::Parameters,
        Request::ApplicationInfo { format: "" },
        Request::ApplicationInfo { format: "snv" },
        Request::BootloaderInfo { query: None },
        Request::BootloaderInfo { query: Some("mode") },
        Request::ImageStates,
        Request::SetImageState {
            hash: Some(&SHA),
            confirm: false,
        },
        Request::SetImageState {
            hash: Some(&SHA[..31]),
            confirm: true,
        },
        Request::SetImageState {
            hash: None,
            confirm: true,
        },
        Request::Erase { slot: 0 },
        Request::SlotInfo,
        Request::DeviceInfo,
        Request::Report,
        Request::Lifecycle(LifecycleRequest::Advance(Lifecycle::Decommissioned)),
        Request::Lifecycle(LifecycleRequest::LeaveDevelopment),
    ];
    for piece in [
        first_piece(),
        later,
        Piece {
            offset: 0,
            data: &[],
            start: Some(upgrade),
        },
    ] {
        requests.extend([Request::Upload(piece), Request::Provision(piece)]);
    }
    for request in requests {
        let bytes = encoded(&request, 9);
        assert_eq!(decode(&bytes), Ok(request));
        assert_eq!(bytes.len(), request.encoded_len());
        for room in 0..bytes.len() {
            assert!(request.encode(9, &mut vec![0; room]).is_err());
        }
    }
}

fn upload(body: &[u8]) -> Result<Piece<'_>, Reason> {
    // The header is taken away again; the body lives on.
    let header = Header {
        op: Op::Write,
        version: 1,
        flags: 0,
        len: body.len() as u16,
        group: 1,
        sequence: 0,
        command: 1,
    };
    match Request::decode(&header, body)? {
        Request::Upload(piece) => Ok(piece),
        other => panic!("not an upload: {other:?}"),
    }
}

const MALFORMED: Reason = Reason::RequestMalformed;

#[test]
fn any_wellformed_encoding_is_understood() {
    let piece = |offset| {
        Ok(Piece {
            offset,
            data: b"ab",
            start: None,
        })
    };
    for (body, offset) in [
        ("a2 636f6666 05 6464617461 426162", 5),
        ("a2 6464617461 426162 636f6666 05", 5),
        ("bf 636f6666 05 6464617461 426162 ff", 5),
        ("a2 636f6666 1805 6464617461 426162", 5),
        ("a2 636f6666 190005 6464617461 5802 6162", 5),
        ("a2 636f6666 1a00000005 6464617461 590002 6162", 5),
        ("a2 636f6666 1b0000000000000005 6464617461 5b0000000000000002 6162", 5),
        ("b802 636f6666 1affffffff 6464617461 426162", u32::MAX),
        // Unknown keys of every shape, and keys that are no texts, are ignored; also the first piece's keys.
        (
            "a9 636f6666 05 6464617461 426162 6178 f6 01 f97e00 4101 80 f5 c100 636c656e 6130 637368 61 40 65696d616765 f4",
            5,
        ),
        (
            "bf 636f6666 05 6178 bf 6179 9f 01 02 ff ff 6464617461 426162 617a 5f 4101 40 ff 6177 7f 6161 ff ff",
            5,
        ),
    ] {
        assert_eq!(upload(&hex(body)), piece(offset), "{body}");
    }
}

#[test]
fn malformed_requests_have_their_number() {
    for body in [
        "",
        "a0",
        "f6",
        "80",
        "a1 636f6666 05",
        "a1 6464617461 426162",
        "a2 636f6666 20 6464617461 426162",
        "a2 636f6666 f4 6464617461 426162",
        "a2 636f6666 4105 6464617461 426162",
        "a2 636f6666 1b0000000100000000 6464617461 426162",
        "a2 636f6666 05 6464617461 626162",
        "a2 636f6666 05 6464617461 5f 426162 ff",
        "a3 636f6666 05 636f6666 05 6464617461 426162",
        "a2 636f6666 05 6464617461 426162 00",
        "a2 636f6666 05 6464617461 436162",
        "a3 636f6666 05 6464617461 426162",
        "bf 636f6666 05 6464617461 426162",
        "bf 636f6666 05 6464617461 ff",
        "a2 636f6666 1c 6464617461 426162",
        "a2 636f6666 f800 6464617461 426162",
        "a3 636f6666 05 6464617461 426162 6178 62ff28",
        "a3 636f6666 05 6464617461 426162 6178 ff",
        "a3 636f6666 05 6464617461 426162 6178 5f 6161 ff",
        "a3 636f6666 05 6464617461 426162 6178 9f c1 ff",
        // At offset 0 the length must be there, and the hash has 32 bytes.
        "a2 636f6666 00 6464617461 426162",
        "a3 636f6666 00 6464617461 426162 636c656e 6130",
        "a4 636f6666 00 6464617461 426162 636c656e 02 63736861 4101",
        "a4 636f6666 00 6464617461 426162 636c656e 02 6775706772616465 01",
        "a3 636f6666 00 6464617461 426162 636c656e 1b0000000100000000",
    ] {
        assert_eq!(upload(&hex(body)), Err(MALFORMED), "{body}");
    }
}

#[test]
fn nesting_is_limited_and_never_recursed_into() {
    let nested = |levels: usize| {
        let mut body = hex("a3 636f6666 05 6464617461 426162 6178");
        body.extend(vec![0x81; levels]);
        body.push(0);
        body
    };
    assert!(upload(&nested(7)).is_ok());
    assert_eq!(upload(&nested(8)), Err(MALFORMED));
    assert_eq!(upload(&nested(1_000)), Err(MALFORMED));
    assert!(upload(&nested(0)).is_ok());
    let many = [
        hex("a3 636f6666 05 6464617461 426162 6178 9bffffffffffffffff"),
        vec![0; 100],
    ]
    .concat();
    assert_eq!(upload(&many), Err(MALFORMED));
}

#[test]
fn lengths_in_the_header_must_be_true() {
    let good = message(2, 0, 0, &hex("a1 6164 65 68656c6c6f"));
    assert_eq!(decode(&good), Ok(Request::Echo("hello")));
    for len in [0u16, 8, 10, u16::MAX] {
        let mut bent = good.clone();
        bent[2..4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(decode(&bent), Err(MALFORMED), "{len}");
    }
    for len in 0..good.len() {
        assert_eq!(decode(&good[..len]), Err(MALFORMED), "{len} bytes");
    }
}

#[test]
fn unknown_requests_are_said_to_be_so() {
    let mut known = 0;
    for group in [0u16, 1, 2, 3, 8, 9, 63, 64, 65, u16::MAX] {
        for command in 0..=255 {
            for op in [0, 2] {
                match decode(&message(op, group, command, &[0xa0])) {
                    Err(Reason::NotSupported) => {}
                    Ok(_) | Err(Reason::RequestMalformed) => known += 1,
                    other => panic!("{group} {command} {op}: {other:?}"),
                }
            }
        }
    }
    assert_eq!(known, 2 + 5 + 5 + 4, "echo twice, OS, IMAGE, AMPOULE");
}

/// One step, known, and not two at once.
#[test]
fn a_lifecycle_request_is_one_step() {
    let ask = |body: &str| decode(&message(2, 64, 3, &hex(body))).map(|request| format!("{request:?}"));
    let leave = format!("{:?}", Request::Lifecycle(LifecycleRequest::LeaveDevelopment));
    assert_eq!(ask("a1 656c65617665 f5"), Ok(leave));
    for state in 0..=5 {
        let to = Lifecycle::from_number(state)
            .map(LifecycleRequest::Advance)
            .expect("a state");
        let said = format!("{:?}", Request::Lifecycle(to));
        assert_eq!(ask(&format!("a2 62746f 0{state} 656c65617665 f4")), Ok(said));
    }
    for unknown in ["06", "1818", "18ff", "190100", "1affffffff"] {
        let asked = ask(&format!("a1 62746f {unknown}"));
        assert_eq!(asked, Err(Reason::LifecycleUnknown), "{unknown}");
    }
    for malformed in [
        "a0",
        "a1 656c65617665 f4",
        "a1 656c65617665 01",
        "a1 62746f 20",
        "a1 62746f 6133",
        "a1 62746f 1b0000000100000000",
        "a2 62746f 03 62746f 03",
        "a2 62746f 03 656c65617665 f5",
    ] {
        assert_eq!(ask(malformed), Err(MALFORMED), "{malformed}");
    }
    // Nobody asks by reading, and a bootloader is not asked.
    let reading = message(0, 64, 3, &hex("a1 62746f 03"));
    assert_eq!(decode(&reading), Err(Reason::NotSupported));
    let asking = message(2, 64, 3, &hex("a1 62746f 03"));
    let (header, body) = Header::split(&asking).expect("a header");
    let in_recovery = Request::decode_in_recovery(&header, body);
    assert_eq!(in_recovery, Err(Reason::NotSupported));
}

/// A bootloader's answers are those of an application where both say the same, but for the names of reasons.
#[test]
fn a_bootloader_answers_in_the_same_words() {
    let request = message(0, 64, 1, &[0xa0]);
    let (header, _) = Header::split(&request).expect("a header");
    let slots = [SlotSize {
        slot: 0,
        size: 4096,
        takes_uploads: true,
    }];
    let recovery = DeviceInfo {
        state: UpdateState::Recovery,
        version: None,
        ..device()
    };
    for response in [
        Response::Done,
        Response::Echo("x"),
        Response::Bootloader("MCUboot"),
        Response::Images(&[]),
        Response::Uploaded {
            offset: 7,
            matches: None,
        },
        Response::Slots {
            slots: &slots,
            image_bytes_max: 4000,
        },
        Response::Device(recovery),
        Response::Refused(Reason::Decommissioned),
    ] {
        let (mut one, mut two) = ([0; 256], [0; 256]);
        let said = response.encode_in_recovery(&header, &mut one);
        assert_eq!(said, response.encode(&header, &mut two), "{response:?}");
    }
}

#[test]
fn small_differences_between_clients_do_not_matter() {
    let reset = |body: &str| decode(&message(2, 0, 5, &hex(body))).map(|request| format!("{request:?}"));
    let forced = format!(
        "{:?}",
        Request::Reset {
            force: true,
            boot_mode: 0
        }
    );
    assert_eq!(reset("a1 65666f726365 01"), Ok(forced.clone()));
    assert_eq!(reset("a1 65666f726365 f5"), Ok(forced));
    assert_eq!(reset("a1 65666f726365 f4"), reset("a0"));
    assert_eq!(reset("a1 65666f726365 00"), reset("a0"));
    assert_eq!(reset("a1 65666f726365 40"), Err(MALFORMED));
    assert_eq!(decode(&message(0, 0, 0, &hex("a1 6164 60"))), Ok(Request::Echo("")));
    assert_eq!(decode(&message(2, 1, 5, &hex("a0"))), Ok(Request::Erase { slot: 1 }));
    assert_eq!(
        decode(&message(2, 1, 0, &hex("a0"))),
        Err(MALFORMED),
        "test or confirm what?"
    );
}

#[test]
fn refusals_are_what_each_group_understands() {
    let rollback = Response::Refused(Reason::SeqRollback);
    let body = |group| answer(&message(2, group, 1, &[0xa0]), &rollback)[HEADER_BYTES..].to_vec();
    let standard = hex("a2 627263 06 6372736e 70 36303720 5345515f524f4c4c4241434b");
    assert_eq!(body(0), standard);
    assert_eq!(body(1), standard);
    assert_eq!(body(8), standard);
    assert_eq!(body(64), hex("a1 627263 19025f"));
}

#[test]
fn every_refusal_fits_the_smallest_room_and_comes_back() {
    for reason in Reason::ALL {
        for group in [group::IMAGE, group::AMPOULE] {
            let mut client = Client::new(200);
            let mut out = [0; 256];
            let request = if group == group::IMAGE {
                Request::ImageStates
            } else {
                Request::DeviceInfo
            };
            let (question, request) = client.request(&request, &mut out).expect("room");
            let (header, _) = Header::split(request).expect("a header");
            let mut room = [0; RESPONSE_BYTES_MIN];
            let message = Response::Refused(*reason).encode(&header, &mut room);
            let Err(Failure::Refused(refusal)) = question.answer(message) else {
                panic!("{reason:?}")
            };
            assert_eq!(refusal.reason, Some(*reason));
        }
    }
}

#[test]
fn an_answer_that_does_not_fit_says_so() {
    let request = message(2, 0, 0, &[0xa0]);
    let (header, _) = Header::split(&request).expect("a header");
    let mut room = [0; RESPONSE_BYTES_MIN];
    let text = "x".repeat(RESPONSE_BYTES_MIN);
    let answer = Response::Echo(&text).encode(&header, &mut room);
    assert_eq!(
        answer[HEADER_BYTES..],
        hex("a2 627263 09 6372736e 69 313035204c494d4954")
    );
    let response = Header {
        op: Op::WriteResponse,
        ..header
    };
    assert!(
        Response::Done.encode(&response, &mut [0; 64]).is_empty(),
        "answers are not answered"
    );
    assert!(Response::Done.encode(&header, &mut [0; 8]).is_empty());
}

#[test]
fn headers_of_answers_repeat_those_of_requests() {
    for version in [0u8, 1] {
        let mut request = message(0, 1, 0, &[0xa0]);
        request[0] = version << 3;
        request[6] = 254;
        let (header, _) = Header::split(&answer(&request, &Response::Done))
            .map(|(h, b)| (h, b.len()))
            .expect("one");
        assert_eq!(
            (header.op, header.version, header.group, header.sequence, header.command),
            (Op::ReadResponse, version, 1, 254, 0)
        );
    }
}

fn state() -> ImageState {
    ImageState {
        slot: 0,
        version: ImageVersion {
            major: 1,
            minor: 20,
            revision: 300,
            build: 0,
        },
        hash: Some(SHA),
        bootable: true,
        active: true,
        confirmed: true,
        ..ImageState::default()
    }
}

#[test]
fn image_lists_are_read_back() {
    let old = ImageState {
        slot: 1,
        version: ImageVersion {
            build: u32::MAX,
            ..Default::default()
        },
        pending: true,
        ..Default::default()
    };
    let mut out = [0; 256];
    let (question, request) = Client::default()
        .request(&Request::ImageStates, &mut out)
        .expect("room");
    let list = answer(request, &Response::Images(&[state(), old]));
    let images: Vec<_> = question
        .answer(&list)
        .expect("an answer")
        .images()
        .expect("a list")
        .collect::<Result<_, _>>()
        .expect("entries");
    assert_eq!(images.len(), 2);
    assert_eq!(
        (images[0].slot, images[0].version, images[0].hash),
        (0, "1.20.300", Some(&SHA[..]))
    );
    assert!(
        images[0].bootable && images[0].active && images[0].confirmed && !images[0].pending && !images[0].permanent
    );
    assert_eq!(
        (images[1].slot, images[1].version, images[1].hash),
        (1, "0.0.0.4294967295", None)
    );
    assert!(images[1].pending && !images[1].active && !images[1].bootable);
}

fn device() -> DeviceInfo {
    DeviceInfo {
        vendor: [1; 16],
        class: [2; 16],
        device: Some([3; 16]),
        lifecycle: Lifecycle::Deployed,
        root: Some(RootInfo {
            version: 7,
            production: true,
        }),
        state: UpdateState::Trial,
        version: Some(ImageVersion {
            major: 255,
            minor: 255,
            revision: 65_535,
            build: 9,
        }),
        counter: 3,
        floor: 4,
        sequence: Some(u64::MAX),
        last: Some(Reason::RevertedWatchdog),
    }
}

#[test]
fn device_information_is_read_back() {
    let blank = DeviceInfo {
        device: None,
        lifecycle: Lifecycle::Blank,
        root: None,
        state: UpdateState::Recovery,
        version: None,
        sequence: None,
        last: None,
        ..device()
    };
    for info in [device(), blank] {
        let mut out = [0; 256];
        let (question, request) = Client::default().request(&Request::DeviceInfo, &mut out).expect("room");
        let message = answer(request, &Response::Device(info));
        assert_eq!(question.answer(&message).expect("an answer").device(), Ok(info));
    }
}

#[test]
fn other_answers_are_read_back() {
    let ask = |request: &Request<'_>, response: &Response<'_>| {
        let mut out = [0; 256];
        let (question, request) = Client::default().request(request, &mut out).expect("room");
        let message = answer(request, response);
        let keep: &'static [u8] = message.leak();
        question.answer(keep).expect("an answer")
    };
    assert_eq!(
        ask(&Request::Report, &Response::Report(b"abc")).report(),
        Ok(&b"abc"[..])
    );
    assert_eq!(ask(&Request::Echo("x"), &Response::Echo("x")).echo(), Ok("x"));
    let info = Request::ApplicationInfo { format: "" };
    assert_eq!(
        ask(&info, &Response::ApplicationInfo("Ampoule")).application_info(),
        Ok("Ampoule")
    );
    let loader = Request::BootloaderInfo { query: None };
    assert_eq!(
        ask(&loader, &Response::Bootloader("MCUboot")).bootloader(),
        Ok("MCUboot")
    );
    let mode = ask(
        &loader,
        &Response::BootloaderMode {
            mode: MODE_SWAP_OFFSET,
            no_downgrade: true,
        },
    );
    assert_eq!(
        (mode.map().uint("mode"), mode.map().truth("no-downgrade")),
        (Ok(Some(3)), Ok(Some(true)))
    );
    let slots = [
        SlotSize {
            slot: 0,
            size: 1,
            takes_uploads: false,
        },
        SlotSize {
            slot: 1,
            size: 2,
            takes_uploads: true,
        },
    ];
    let answer = ask(
        &Request::SlotInfo,
        &Response::Slots {
            slots: &slots,
            image_bytes_max: 5,
        },
    );
    assert_eq!(answer.map().array("images").expect("a list").count(), 1);
}

#[test]
fn only_the_answer_to_the_question_is_taken() {
    let mut client = Client::new(255);
    let mut out = [0; 64];
    let (question, request) = client.request(&Request::ImageStates, &mut out).expect("room");
    let good = answer(request, &Response::Images(&[]));
    assert!(question.answer(&good).is_ok());
    for (at, value, expected) in [
        (0, 0x0b, Failure::NotMine),
        (0, 0x08, Failure::NotMine),
        (5, 0, Failure::NotMine),
        (6, 0, Failure::NotMine),
        (7, 1, Failure::NotMine),
        (3, 0, Failure::Malformed),
        (8, 0x80, Failure::Malformed),
    ] {
        let mut other = good.clone();
        other[at] = value;
        assert_eq!(question.answer(&other), Err(expected), "byte {at}");
    }
    assert_eq!(question.answer(&good[..7]), Err(Failure::Malformed));
    // Behind 255 comes 0.
    let (_, next) = client.request(&Request::ImageStates, &mut out).expect("room");
    assert_eq!(next[6], 0);
}

#[test]
fn refusals_of_other_servers_are_understood() {
    let mut out = [0; 64];
    let (question, request) = Client::default()
        .request(&Request::ImageStates, &mut out)
        .expect("room");
    let header = request[..HEADER_BYTES].to_vec();
    let verdict = |body: &str| {
        let body = hex(body);
        let mut message = header.clone();
        message[0] += 1;
        message[3] = body.len() as u8;
        message.extend(body);
        match question.answer(message.leak()) {
            Err(Failure::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    };
    let refusal = |group, rc, reason, text| {
        Some(Refusal {
            group,
            rc,
            reason,
            text,
        })
    };
    assert_eq!(
        verdict("a1 63657272 a2 6567726f7570 01 627263 1818"),
        refusal(Some(1), 24, None, "")
    );
    assert_eq!(
        verdict("bf 63657272 bf 6567726f7570 01 627263 1818 ff ff"),
        refusal(Some(1), 24, None, "")
    );
    assert_eq!(verdict("a1 627263 08"), refusal(None, 8, None, ""));
    assert_eq!(verdict("a2 627263 08 6372736e 626e6f"), refusal(None, 8, None, "no"));
    assert_eq!(verdict("a1 627263 20"), refusal(None, u32::MAX, None, ""));
    let ours = "a2 627263 06 6372736e 70 36303720 5345515f524f4c4c4241434b";
    assert_eq!(
        verdict(ours),
        refusal(None, 6, Some(Reason::SeqRollback), "607 SEQ_ROLLBACK")
    );
    assert_eq!(verdict("a1 627263 00"), None, "0 is success");
    assert_eq!(verdict("a0"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..200), group in 0..2u16, command in 0..9u8, op in 0..4u8) {
        let message = message(op, group, command, &bytes);
        if let Ok(request) = decode(&message) {
            // What was understood means the same when we say it.
            let again = encoded(&request, 1);
            prop_assert_eq!(decode(&again), Ok(request));
        }
    }

    #[test]
    fn damaged_requests_are_understood_or_refused(at in 0..78usize, value in any::<u8>()) {
        let mut message = encoded(&Request::Upload(first_piece()), 1);
        message[8 + at] = value;
        if let Err(reason) = decode(&message) {
            prop_assert_eq!(reason, MALFORMED);
        }
    }
}
