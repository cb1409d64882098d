//! Whatever a client says to a device that runs: every request gets an answer of its own, the application writes only what
//! is its to write, and only what the authority made starts afterwards.

use crate::script::frames;
use ampoule_sim::body::{Body, Boot, Sim};
use ampoule_sim::device::Shape;
use ampoule_sim::fixture::{Authority, Scheme};
use codec::smp::response::Parameters;
use codec::smp::{HEADER_BYTES, Header, Request};
use engine::boot::Reset;
use engine::smp::{Action, Application, Server};
use std::sync::OnceLock;

const BUFFER_BYTES: usize = 2_048;
const MESSAGE_BYTES: usize = 1_024;

struct Bench {
    body: Body,
    sim: Sim,
    #[cfg_attr(not(test), expect(dead_code, reason = "makes the seeds"))]
    release: Vec<u8>,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let mut body = Body::new(Shape::small(4, 0xff, true), Authority::new(Scheme::TestOnlyHash));
        let old = body.make("old", 1_500, 1);
        let new = body.make("new", 2_200, 2);
        let release = body.authority.release(7, &new.bytes, new.counter).build();
        let mut sim = body.factory(&old);
        body.boot_to(&mut sim, Reset::Power, "old", false)
            .expect("a good device");
        Bench { body, sim, release }
    })
}

struct Quiet;

impl Application for Quiet {
    fn about(&self) -> &str {
        "fuzzed"
    }
}

/// A dialogue up to the first reset, and the boot after it.
pub fn run(data: &[u8]) {
    let Bench { body, sim, .. } = bench();
    let mut sim = sim.clone();
    let (ended, permanent) = talk(body, &mut sim, data);
    if permanent {
        // Development allows it: a client may ask for an image for good.
        sim.note(|ledger| ledger.confirming = Some("new"));
    }
    let boot = body.boot(&mut sim, ended).expect("lawful");
    assert!(matches!(
        boot,
        Boot::Runs("old", false) | Boot::Runs("new", true) | Boot::Runs("new", false)
    ));
    assert!(permanent || boot != Boot::Runs("new", false));
}

/// What reset ends it, and whether an image was asked for for good.
fn talk(body: &Body, sim: &mut Sim, data: &[u8]) -> (Reset, bool) {
    body.app(sim, |device| {
        let mut buffer = [0; BUFFER_BYTES];
        let parameters = Parameters {
            buf_size: MESSAGE_BYTES as u32,
            buf_count: 1,
        };
        let mut server = Server::new(&mut buffer, parameters);
        let mut permanent = false;
        for message in frames(data) {
            let mut out = [0; MESSAGE_BYTES];
            let (answer, action) = server.handle(message, device, &Quiet, &mut out);
            judge(message, answer);
            permanent |= asks_for_good(message);
            if action == Action::Reset {
                return Ok((Reset::Software, permanent));
            }
        }
        Ok((Reset::Power, permanent))
    })
    .expect("lawful")
}

fn asks_for_good(message: &[u8]) -> bool {
    let request = Header::split(message).and_then(|(header, body)| Request::decode(&header, body));
    matches!(request, Ok(Request::SetImageState { confirm: true, .. }))
}

/// An answer is one to this message, whole, and its length is what its header says.
pub(crate) fn judge(message: &[u8], answer: &[u8]) {
    let Ok((asked, _)) = Header::split(message) else {
        assert!(answer.is_empty(), "an answer to no message");
        return;
    };
    assert_eq!(
        answer.is_empty(),
        asked.op.response().is_none(),
        "requests are answered"
    );
    if answer.is_empty() {
        return;
    }
    let (said, body) = Header::split(answer).expect("a whole answer");
    assert_eq!(
        (Some(said.op), said.group, said.sequence, said.command),
        (asked.op.response(), asked.group, asked.sequence, asked.command)
    );
    assert_eq!(usize::from(said.len), answer.len() - HEADER_BYTES);
    codec::smp::map::Map::parse(body).expect("one map");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::script::{keep, script};
    use codec::smp::client::{Client, Destination, Upload};
    use codec::smp::{Piece, Start};

    /// The messages of an upload in pieces that a device takes.
    pub(crate) fn upload(destination: Destination, file: &[u8]) -> Vec<Vec<u8>> {
        let start = Start {
            len: u32::try_from(file.len()).expect("short"),
            image: 0,
            sha: Some([1; 32]),
            upgrade: false,
        };
        let mut upload = Upload::new(destination, start);
        let mut messages = Vec::new();
        while let Some((offset, len)) = upload.next(300).expect("room") {
            messages.push(said(&upload.request(&file[offset as usize..][..len as usize])));
            let offset = offset + len;
            let uploaded = codec::smp::client::Uploaded { offset, matches: None };
            upload.on_response(uploaded).expect("progress");
        }
        messages
    }

    fn said(request: &Request<'_>) -> Vec<u8> {
        let mut out = [0; MESSAGE_BYTES];
        Client::new(3).request(request, &mut out).expect("room").1.to_vec()
    }

    #[test]
    fn seeds_lead_where_they_are_meant_to() {
        let Bench { body, sim, release } = bench();
        let test = Request::SetImageState {
            hash: Some(&body.images[1].digest()),
            confirm: false,
        };
        let reset = Request::Reset {
            force: true,
            boot_mode: 0,
        };
        let mut trial = upload(Destination::Image, release);
        trial.extend([said(&test), said(&reset)]);
        let trial = script(trial);
        keep("smp_server", "trial", &trial);
        let mut tried = sim.clone();
        assert_eq!(talk(body, &mut tried, &trial), (Reset::Software, false));
        body.boot_to(&mut tried, Reset::Software, "new", true).expect("a trial");

        let everything = [
            Request::Echo("hello"),
            Request::Parameters,
            Request::ImageStates,
            Request::SlotInfo,
            Request::DeviceInfo,
            Request::Report,
            Request::Erase { slot: 1 },
            Request::Provision(Piece {
                offset: 0,
                data: b"root",
                start: None,
            }),
        ];
        keep("smp_server", "everything", &script(everything.iter().map(said)));
    }
}
