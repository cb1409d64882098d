//! An SMP client on a board's socket, for tests that drive a board without the command line.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use codec::Reason;
use codec::smp::client::{Answer, Client, Destination, Failure, Upload};
use codec::smp::frame::{Deframer, LINE_CHARS_MAX, frame};
use codec::smp::{Request, Start};

use crate::fixture::sha256;

/// How long a board may take to answer, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of the longest message of a board.
const MESSAGE_BYTES: usize = 4096;

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SmpError {
    /// The device refuses, for this reason.
    Refused(Reason),
    /// The device refuses with a number that is no reason of ours.
    Code(u32),
    /// The line is closed, or silent for too long.
    Silent(String),
    /// What came is not what the protocol demands.
    Malformed,
}

impl From<io::Error> for SmpError {
    fn from(error: io::Error) -> Self {
        SmpError::Silent(error.to_string())
    }
}

/// A client of one board.
pub struct SmpClient<'s> {
    stream: &'s mut UnixStream,
    client: Client,
}

impl<'s> SmpClient<'s> {
    /// A client on this line.
    pub fn new(stream: &'s mut UnixStream) -> Self {
        SmpClient {
            stream,
            client: Client::new(1),
        }
    }

    /// Asks, waits, and reads the answer.
    pub fn ask<R>(&mut self, request: &Request<'_>, read: impl FnOnce(&Answer<'_>) -> R) -> Result<R, SmpError> {
        let mut message = [0; MESSAGE_BYTES];
        let (question, message) = self
            .client
            .request(request, &mut message)
            .map_err(|_| SmpError::Malformed)?;
        let mut lines = Vec::new();
        frame(message, LINE_CHARS_MAX, |bytes| lines.extend_from_slice(bytes)).map_err(|_| SmpError::Malformed)?;
        self.stream.write_all(&lines)?;

        let mut buffer = [0; MESSAGE_BYTES];
        let mut messages = Deframer::new(&mut buffer);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut bytes = [0; 512];
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(SmpError::Silent("the line is closed".into()));
            }
            let mut rest = &bytes[..count];
            while let Some(message) = messages.take(&mut rest) {
                match question.answer(message) {
                    Ok(answer) => return Ok(read(&answer)),
                    Err(Failure::NotMine) => {}
                    Err(Failure::Malformed) => return Err(SmpError::Malformed),
                    Err(Failure::Refused(refusal)) => {
                        return Err(refusal.reason.map_or(SmpError::Code(refusal.rc), SmpError::Refused));
                    }
                }
            }
        }
        Err(SmpError::Silent("no answer".into()))
    }

    /// Asks for something whose answer says nothing.
    pub fn tell(&mut self, request: &Request<'_>) -> Result<(), SmpError> {
        self.ask(request, |_| ())
    }

    /// Sends a whole file; returns the number of pieces.
    pub fn upload(&mut self, destination: Destination, file: &[u8]) -> Result<usize, SmpError> {
        let buf_size = self
            .ask(&Request::Parameters, |answer| answer.parameters())?
            .map_err(|_| SmpError::Malformed)?;
        let len = u32::try_from(file.len()).map_err(|_| SmpError::Malformed)?;
        let start = Start {
            len,
            image: 0,
            sha: Some(sha256(&[file])),
            upgrade: false,
        };
        let mut upload = Upload::new(destination, start);
        let mut pieces = 0;
        while let Some((offset, len)) = upload.next(buf_size.buf_size).map_err(|_| SmpError::Malformed)? {
            let data = &file[offset as usize..][..len as usize];
            let uploaded = self.ask(&upload.request(data), |answer| answer.uploaded())?;
            upload
                .on_response(uploaded.map_err(|_| SmpError::Malformed)?)
                .map_err(|_| SmpError::Malformed)?;
            pieces += 1;
        }
        Ok(pieces)
    }

    /// Asks for the staged image to be tried at the next reset, and resets.
    pub fn try_staged(&mut self) -> Result<(), SmpError> {
        self.request_trial()?;
        self.tell(&Request::Reset {
            force: false,
            boot_mode: 0,
        })
    }

    /// Asks for the staged image to be tried at the next reset.
    pub fn request_trial(&mut self) -> Result<(), SmpError> {
        let staged = self.ask(&Request::ImageStates, |answer| {
            let images = answer.images().ok()?;
            images
                .filter_map(Result::ok)
                .find(|image| image.slot == 1)
                .map(|image| image.hash.unwrap_or(&[]).to_vec())
        })?;
        let hash = staged.ok_or(SmpError::Malformed)?;
        self.tell(&Request::SetImageState {
            hash: Some(&hash),
            confirm: false,
        })
    }
}
