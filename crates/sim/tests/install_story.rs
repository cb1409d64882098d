//! One release from the wire to its confirmation, in pieces of every awkward size, through resets, by push and over SMP.

use ampoule_sim::body::{Body, Made, Sim};
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Authority, Identity, Image, Scheme, sha256};
use ampoule_sim::nor::Nor;
use codec::Reason;
use codec::record::Upload;
use codec::smp::client::{Client, Destination, Upload as ClientUpload};
use codec::smp::response::Parameters;
use codec::smp::{Request, Start};
use engine::boot::Reset;
use engine::device::Device;
use engine::install::{Receiving, Resumed, Step};
use engine::journal::Progress;
use engine::smp::{Action, Application, Server};
use engine::swap::Request as SwapRequest;

const BUFFER_BYTES: usize = 2048;

struct Desk {
    body: Body,
    sim: Sim,
    old: Made,
    new: Made,
}

fn desk(shape: Shape) -> Desk {
    let mut body = Body::new(shape, Authority::new(Scheme::P256));
    let old = body.make("old", 3000, 1);
    let new = body.make("new", 3333, 2);
    let sim = body.factory(&old);
    let mut desk = Desk { body, sim, old, new };
    desk.boot("old", false);
    desk
}

impl Desk {
    fn boot(&mut self, image: &'static str, trial: bool) {
        self.body.boot_to(&mut self.sim, Reset::Power, image, trial).unwrap();
    }

    fn app<R>(&mut self, run: impl FnOnce(&mut Device<'_, &mut Nor>) -> R) -> R {
        self.body.app(&mut self.sim, |device| Ok(run(device))).unwrap()
    }

    fn release(&self, sequence: i64) -> Vec<u8> {
        self.body
            .authority
            .release(sequence, &self.new.bytes, self.new.counter)
            .build()
    }
}

fn upload_of(file: &[u8]) -> Upload {
    Upload {
        sha: sha256(&[file]),
        len: file.len() as u32,
    }
}

fn push_all(device: &mut Device<'_, &mut Nor>, file: &[u8], piece: usize) -> Step {
    let mut buffer = [0; BUFFER_BYTES];
    let mut receiving = Receiving::new(&mut buffer, upload_of(file));
    let mut step = Step::More { offset: 0 };
    for piece in file.chunks(piece) {
        step = receiving.push(piece, device).unwrap();
    }
    step
}

#[test]
fn pieces_of_any_size_end_in_the_same_place() {
    for (number, shape) in [
        Shape::small(1, 0xff, true),
        Shape::small(8, 0, false),
        Shape::small(32, 0xff, true),
    ]
    .into_iter()
    .enumerate()
    {
        for piece in [1, 7, 255, 1024, 65536] {
            let mut desk = desk(shape);
            let file = desk.release(7 + number as i64);
            assert_eq!(
                desk.app(|device| push_all(device, &file, piece)),
                Step::Staged,
                "{shape} {piece}"
            );
            let hash = desk.app(|device| {
                let staged = device.staged().unwrap().unwrap();
                device
                    .request_swap(Some(&staged.digest), codec::mcuboot::trailer::SwapType::Test)
                    .unwrap();
                assert_eq!(device.request().unwrap(), SwapRequest::Test);
                staged.digest
            });
            desk.boot("new", true);
            desk.app(|device| {
                assert!(device.is_trial().unwrap());
                assert_eq!(device.running().unwrap().digest, hash);
                assert_eq!(device.confirm().unwrap_err().reason, Reason::NotSelfTested);
                assert_eq!(device.state().committed_in(&[0; 16]), None);
                device.self_test_passed();
                device.confirm().unwrap();
                assert!(device.state().pending.is_none());
                assert_eq!(device.state().committed[0].unwrap().release.sequence, 7 + number as u64);
                assert_eq!(device.stored_counter(), 1);
                assert_eq!(device.counter_floor().unwrap(), 2);
            });
            desk.sim.note(|ledger| ledger.confirmed = Some("new"));
            desk.boot("new", false);
            desk.app(|device| {
                assert_eq!(device.stored_counter(), 2);
                // The same release again: nothing is written.
                assert_eq!(push_all(device, &file, 100), Step::AlreadyInstalled);
            });
        }
    }
}

#[test]
fn a_revert_is_reported_with_its_reason() {
    let mut desk = desk(Shape::small(4, 0xff, true));
    let file = desk.release(9);
    desk.app(|device| {
        push_all(device, &file, 500);
        device
            .request_swap(None, codec::mcuboot::trailer::SwapType::Test)
            .unwrap();
    });
    desk.boot("new", true);
    desk.body.boot_to(&mut desk.sim, Reset::Watchdog, "old", false).unwrap();
    desk.app(|device| {
        let ending = device.state().ending.unwrap();
        assert!(ending.reverted && device.state().pending.is_none());
        assert_eq!(
            (ending.reason, ending.release.sequence),
            (Reason::RevertedWatchdog.number(), 9)
        );
        let mut buffer = [0; engine::report::REPORT_BYTES_MAX];
        assert!(
            engine::report::report(device, &mut buffer)
                .unwrap()
                .starts_with(b"\xa9\x01\x6camp-report-1\x02\x00")
        );
    });
    assert_eq!(desk.old.counter, 1);
}

#[test]
fn a_reset_in_the_middle_resumes_at_a_chunk() {
    let mut desk = desk(Shape::small(4, 0xff, true));
    let file = desk.release(9);
    for cut in [700, 900, 1500, 2100, 2600, 3500, file.len() - 1] {
        let mut desk = Desk {
            sim: desk.body.factory(&desk.old),
            body: desk.body.clone(),
            ..desk_parts(&desk)
        };
        desk.app(|device| {
            let mut buffer = [0; BUFFER_BYTES];
            let mut receiving = Receiving::new(&mut buffer, upload_of(&file));
            receiving.push(&file[..cut], device).unwrap();
        });
        desk.boot("old", false);
        desk.app(|device| {
            let progress = device.state().pending.map(|pending| pending.progress);
            let mut buffer = [0; BUFFER_BYTES];
            let mut receiving = match Receiving::resume(device, &mut buffer) {
                Resumed::Going(receiving) => receiving,
                Resumed::Nothing(_) => panic!("cut {cut}: nothing to resume, {progress:?}"),
            };
            let offset = receiving.offset() as usize;
            assert!(
                offset <= cut && cut - offset <= 1024 + 400,
                "cut {cut} resumes at {offset}"
            );
            assert_eq!(*receiving.upload(), upload_of(&file));
            assert_eq!(receiving.push(&file[offset..], device), Ok(Step::Staged));
            assert!(matches!(
                device.state().pending.unwrap().progress,
                Progress::Staged { .. }
            ));
        });
    }
    desk.boot("old", false);
}

fn desk_parts(desk: &Desk) -> Desk {
    Desk {
        body: desk.body.clone(),
        sim: desk.body.factory(&desk.old),
        old: desk.old.clone(),
        new: desk.new.clone(),
    }
}

/// An image that was linked for a fixed address starts there or nowhere.
#[test]
fn an_image_for_another_address_is_never_staged() {
    let mut desk = desk(Shape::small(4, 0xff, true));
    let right = desk.body.board().flash_base + desk.body.layout.primary.start;
    for (load_addr, expected) in [(right, Ok(Step::Staged)), (right + 0x1000, Err(Reason::ImageAddress))] {
        let mut image = Image::new(
            5,
            2000,
            &Identity::DEMO,
            2,
            std::slice::from_ref(&desk.body.authority.image),
        );
        (image.flags, image.load_addr) = (0x100, load_addr);
        let bytes = image.build();
        let file = desk.body.authority.release(9, &bytes, 2).build();
        desk.body.images.push(Made {
            name: "linked",
            bytes,
            counter: 2,
        });
        desk.app(|device| {
            let mut buffer = [0; BUFFER_BYTES];
            let pushed = Receiving::new(&mut buffer, upload_of(&file)).push(&file, device);
            assert_eq!(pushed.map_err(|refused| refused.reason), expected);
        });
    }
}

#[test]
fn a_damaged_chunk_is_wanted_again_and_three_times_are_enough() {
    let mut desk = desk(Shape::small(4, 0xff, true));
    let file = desk.release(9);
    let mut bad = file.clone();
    let at = file.len() - 1;
    bad[at] ^= 1;
    desk.app(|device| {
        let mut buffer = [0; BUFFER_BYTES];
        let mut receiving = Receiving::new(&mut buffer, upload_of(&file));
        let Step::More { offset } = receiving.push(&bad, device).unwrap() else {
            panic!("taken")
        };
        assert!((offset as usize) < at);
        assert_eq!(receiving.push(&file[offset as usize..], device), Ok(Step::Staged));
    });
    desk.app(|device| {
        device.erase_staging().unwrap();
        let mut buffer = [0; BUFFER_BYTES];
        let mut receiving = Receiving::new(&mut buffer, upload_of(&file));
        let mut offset = 0;
        for _ in 0..2 {
            let Ok(Step::More { offset: again }) = receiving.push(&bad[offset..], device) else {
                panic!("taken")
            };
            offset = again as usize;
        }
        assert_eq!(
            receiving.push(&bad[offset..], device).unwrap_err().reason,
            Reason::ChunkDigest
        );
        assert_eq!(
            receiving.push(&file[offset..], device).unwrap_err().reason,
            Reason::ChunkDigest
        );
    });
}

struct App;

impl Application for App {
    fn about(&self) -> &str {
        "test"
    }
}

/// Everything over the wire, as the clients do it.
#[test]
fn over_smp_an_upload_ends_in_a_trial() {
    let mut desk = desk(Shape::small(4, 0xff, true));
    let file = desk.release(9);
    desk.app(|device| {
        let mut buffer = [0; BUFFER_BYTES];
        let mut server = Server::new(
            &mut buffer,
            Parameters {
                buf_size: 512,
                buf_count: 1,
            },
        );
        let mut client = Client::new(0);
        let start = Start {
            len: file.len() as u32,
            image: 0,
            sha: Some(sha256(&[&file])),
            upgrade: false,
        };
        let mut upload = ClientUpload::new(Destination::Image, start);
        let mut lost = 0;
        while let Some((offset, len)) = upload.next(512).unwrap() {
            let data = &file[offset as usize..(offset + len) as usize];
            let (mut request, mut response) = ([0; 600], [0; 600]);
            let (question, message) = client.request(&upload.request(data), &mut request).unwrap();
            let (answer, action) = server.handle(message, device, &App, &mut response);
            assert_eq!(action, Action::None);
            // A lost answer is the same message once more.
            lost += 1;
            let answer = if lost % 3 == 0 {
                server.handle(message, device, &App, &mut response).0
            } else {
                answer
            };
            upload
                .on_response(question.answer(answer).unwrap().uploaded().unwrap())
                .unwrap();
        }
        let mut ask = |request: Request<'_>| {
            let (mut room, mut response) = ([0; 600], [0; 600]);
            let (question, message) = client.request(&request, &mut room).unwrap();
            let (answer, action) = server.handle(message, device, &App, &mut response);
            let images: Vec<_> = match question.answer(answer) {
                Ok(answer) => answer
                    .images()
                    .map(|images| {
                        images
                            .map(|image| image.unwrap())
                            .map(|i| (i.slot, i.active, i.pending, i.hash.map(|h| h.to_vec())))
                            .collect()
                    })
                    .unwrap_or_default(),
                Err(failure) => panic!("{failure:?}"),
            };
            (images, action)
        };
        let (images, _) = ask(Request::ImageStates);
        assert_eq!(
            images.iter().map(|i| (i.0, i.1, i.2)).collect::<Vec<_>>(),
            [(0, true, false), (1, false, false)]
        );
        let hash = images[1].3.clone().unwrap();
        let (images, _) = ask(Request::SetImageState {
            hash: Some(&hash),
            confirm: false,
        });
        assert!(images[1].2);
        assert_eq!(
            ask(Request::Reset {
                force: false,
                boot_mode: 0
            })
            .1,
            Action::Reset
        );
    });
    desk.boot("new", true);
}

/// Two transports at once: the release that came last is the one under way, and the other one is told so. Otherwise the
/// journal would give the sequence number of one release to the image of the other.
#[test]
fn an_installation_that_was_overtaken_ends() {
    let mut desk = desk(Shape::small(4, 0xff, true));
    let (nine, ten) = (desk.release(9), desk.release(10));
    desk.app(|device| {
        let (mut first, mut second) = ([0; BUFFER_BYTES], [0; BUFFER_BYTES]);
        let mut first = Receiving::new(&mut first, upload_of(&nine));
        let mut second = Receiving::new(&mut second, upload_of(&ten));
        first.push(&nine[..2000], device).unwrap();
        second.push(&ten[..1000], device).unwrap();
        let overtaken = first.push(&nine[2000..], device).unwrap_err();
        assert_eq!(overtaken.reason, Reason::InstallRunning);
        assert_eq!(device.state().pending.unwrap().release.sequence, 10);
        assert_eq!(second.push(&ten[1000..], device), Ok(Step::Staged));
    });
}
