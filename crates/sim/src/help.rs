//! Somebody at the serial line of a device on which nothing may start.

use crate::body::{Body, Sim};
use crate::fixture::sha256;
use codec::Reason;
use codec::smp::client::{Answer, Client, Destination, Failure, Refusal, Upload};
use codec::smp::request::Start;
use codec::smp::response::Parameters;
use codec::smp::{DeviceInfo, Request};
use engine::boot::Buffers;
use engine::recover::Recovery;

/// Bytes of the longest message.
const BUFFER_BYTES: usize = 512;
/// Bytes of the longest root file with its list.
const ROOT_BYTES: usize = 2048;

/// The recovery of a device, its memory, and a client.
struct Desk<'d> {
    body: &'d Body,
    recovery: Recovery<'d>,
    client: Client,
}

impl Desk<'_> {
    fn with<R>(body: &Body, reason: Reason, run: impl FnOnce(&mut Desk<'_>) -> R) -> R {
        let (mut root, mut scratch) = ([0; ROOT_BYTES], [0; 256]);
        let parameters = Parameters {
            buf_size: BUFFER_BYTES as u32,
            buf_count: 1,
        };
        let buffers = Buffers {
            root: &mut root,
            scratch: &mut scratch,
        };
        run(&mut Desk {
            body,
            recovery: Recovery::new(reason, parameters, buffers),
            client: Client::new(0),
        })
    }

    fn ask<R>(&mut self, sim: &mut Sim, request: &Request<'_>, read: impl FnOnce(Answer<'_>) -> R) -> Result<R, u64> {
        let (mut room, mut out) = ([0; BUFFER_BYTES + 88], [0; BUFFER_BYTES + 88]);
        let (question, message) = self.client.request(request, &mut room).expect("room for a message");
        let (answer, _) = self
            .recovery
            .handle(message, &mut sim.nor, &self.body.board(), &mut out);
        match question.answer(answer) {
            Ok(answer) => Ok(read(answer)),
            Err(Failure::Refused(refusal)) => Err(number_of(&refusal)),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Sends a file to a recovery, as a client does. Ok, or the number of the refusal.
pub fn offer(body: &Body, sim: &mut Sim, reason: Reason, destination: Destination, file: &[u8]) -> Result<(), u64> {
    Desk::with(body, reason, |desk| {
        let start = Start {
            len: file.len() as u32,
            image: 0,
            sha: Some(sha256(&[file])),
            upgrade: false,
        };
        let mut upload = Upload::new(destination, start);
        while let Some((offset, len)) = upload.next(BUFFER_BYTES as u32).expect("room for a piece") {
            let piece = upload.request(&file[offset as usize..(offset + len) as usize]);
            let answer = desk.ask(sim, &piece, |answer| answer.uploaded().expect("an answer"))?;
            upload.on_response(answer).expect("progress");
        }
        Ok(())
    })
}

/// What a recovery that is needed for this reason says of its device.
pub fn device_info(body: &Body, sim: &mut Sim, reason: Reason) -> DeviceInfo {
    let read = |answer: Answer<'_>| answer.device().expect("device information");
    let info = Desk::with(body, reason, |desk| desk.ask(sim, &Request::DeviceInfo, read));
    info.expect("an answer")
}

/// The number of what a recovery answers to this request.
pub fn refusal(body: &Body, sim: &mut Sim, reason: Reason, request: &Request<'_>) -> Option<u64> {
    Desk::with(body, reason, |desk| desk.ask(sim, request, |_| ())).err()
}

fn number_of(refusal: &Refusal<'_>) -> u64 {
    refusal
        .reason
        .map_or(refusal.rc.into(), |reason| reason.number().into())
}
