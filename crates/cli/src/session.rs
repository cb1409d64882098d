//! A conversation with a device: one question at a time over the line, each answered, refused or given up.

use std::time::{Duration, Instant};

use codec::smp::client::{Answer, Client, Destination, FIRST_TIMEOUT_MILLIS, Failure, Refusal, Upload, UploadFailure};
use codec::smp::map::Malformed;
use codec::smp::request::Start;
use codec::smp::{Deframer, Request, frame};
use codec::{Reason, smp};
use keys::{Code, Error, Result};
use trust::Sha256;

use crate::port::Port;

/// Bytes of the longest answer that is understood.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the longest request.
const REQUEST_BYTES_MAX: usize = 40 * 1024;
/// How often a question is asked before the device counts as silent.
const TRIES: u32 = 3;
/// Bytes of a message that every device takes, for those that do not tell.
const BUFFER_BYTES_DEFAULT: u32 = 256;

/// An open conversation.
pub(crate) struct Session {
    port: Port,
    client: Client,
    /// How long to wait for an answer.
    timeout: Duration,
    /// Bytes that came in behind the last answer.
    pending: Vec<u8>,
}

impl Session {
    /// A conversation over this line. Its first question has a number that depends on the time, because an answer to
    /// the last question of an earlier run may still be under way.
    pub(crate) fn new(port: Port, timeout: Duration) -> Session {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let first = now.map_or(0, |now| now.subsec_micros() as u8);
        Session {
            port,
            client: Client::new(first),
            timeout,
            pending: Vec::new(),
        }
    }

    /// Asks, and reads the answer with `read`. `action` says in errors what was wanted ("confirm the image").
    ///
    /// Errors: a device's reason, or [`Code::DeviceRefused`] where it gives none; [`Code::DeviceSilent`],
    /// [`Code::DeviceAnswer`], [`Code::PortLost`].
    pub(crate) fn ask<T>(
        &mut self,
        action: &str,
        request: &Request,
        read: impl Fn(Answer) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        self.ask_within(self.timeout, TRIES, action, request, read)
    }

    /// The same with another patience.
    pub(crate) fn ask_within<T>(
        &mut self,
        timeout: Duration,
        tries: u32,
        action: &str,
        request: &Request,
        read: impl Fn(Answer) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        for _ in 0..tries {
            if let Some(answer) = self.ask_once(timeout, action, request, &read)? {
                return Ok(answer);
            }
        }
        let what = format!("the device on {} does not answer (wanted: {action})", self.port.name());
        Err(Code::DeviceSilent.error(what))
    }

    fn ask_once<T>(
        &mut self,
        timeout: Duration,
        action: &str,
        request: &Request,
        read: impl Fn(Answer) -> std::result::Result<T, Malformed>,
    ) -> Result<Option<T>> {
        let mut room = vec![0; REQUEST_BYTES_MAX];
        let too_long = |_| Code::DeviceAnswer.error("the device announces a larger buffer than a message can fill");
        let (question, message) = self.client.request(request, &mut room).map_err(too_long)?;
        let mut lines = Vec::with_capacity(message.len() * 3 / 2);
        frame(message, smp::frame::LINE_CHARS_MAX, |bytes| {
            lines.extend_from_slice(bytes)
        })
        .map_err(|_| Code::DeviceAnswer.error("the device announces a larger buffer than a frame can carry"))?;
        self.port.write(&lines)?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let mut deframer = Deframer::new(&mut buffer);
        let deadline = Instant::now() + timeout;
        let mut chunk = [0; 4096];
        while Instant::now() < deadline {
            if self.pending.is_empty() {
                let count = self.port.read(&mut chunk)?;
                self.pending.extend_from_slice(chunk.get(..count).unwrap_or(&[]));
            }
            let pending = std::mem::take(&mut self.pending);
            let mut rest = pending.as_slice();
            while let Some(message) = deframer.take(&mut rest) {
                match question.answer(message) {
                    Err(Failure::NotMine) => {}
                    Err(Failure::Malformed) => return Err(malformed(action)),
                    Err(Failure::Refused(refusal)) => return Err(refused(action, &refusal)),
                    Ok(answer) => {
                        self.pending = rest.to_vec();
                        return read(answer).map(Some).map_err(|Malformed| malformed(action));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Bytes of the longest message that the device takes.
    pub(crate) fn buffer_bytes(&mut self) -> Result<u32> {
        let asked = self.ask("buffer sizes", &Request::Parameters, |answer| answer.parameters());
        match asked {
            Ok(parameters) => Ok(parameters.buf_size),
            // A device that speaks but does not tell.
            Err(error) if error.number < FIRST_HOST_NUMBER || error.is(Code::DeviceRefused) => Ok(BUFFER_BYTES_DEFAULT),
            Err(error) => Err(error),
        }
    }

    /// Uploads a file; goes on where an earlier upload of the same file stopped. `progress` is told the place after each
    /// answer.
    pub(crate) fn upload(
        &mut self,
        destination: Destination,
        file: &[u8],
        mut progress: impl FnMut(u32),
    ) -> Result<()> {
        let len = u32::try_from(file.len()).map_err(|_| Code::FileTooLarge.error("the file is larger than 4 GiB"))?;
        let buffer_bytes = self.buffer_bytes()?;
        let start = Start {
            len,
            image: 0,
            sha: Some(Sha256::of(file)),
            upgrade: false,
        };
        let mut upload = Upload::new(destination, start);
        let mut first = true;
        while let Some((offset, count)) = upload.next(buffer_bytes).map_err(upload_failed)? {
            let end = offset.saturating_add(count);
            let data = file.get(offset as usize..end as usize).unwrap_or(&[]);
            // The first piece may erase flash, the last one verifies the whole image.
            let long = first || end == len;
            let timeout = if long {
                self.timeout.max(first_timeout())
            } else {
                self.timeout
            };
            let answer = self.ask_within(timeout, TRIES, "upload", &upload.request(data), |answer| {
                answer.uploaded()
            });
            upload.on_response(answer.map_err(resumes)?).map_err(upload_failed)?;
            first = false;
            progress(upload.offset());
        }
        Ok(())
    }
}

/// Numbers from here on are the tools' own.
const FIRST_HOST_NUMBER: u16 = 2000;

fn first_timeout() -> Duration {
    Duration::from_millis(FIRST_TIMEOUT_MILLIS.into())
}

/// A broken connection during an upload is no loss: say so.
fn resumes(error: Error) -> Error {
    if error.is(Code::DeviceSilent) || error.is(Code::PortLost) {
        return error
            .advise("Check cable and power, then run the same command again: the upload continues where it stopped.");
    }
    error
}

fn upload_failed(failure: UploadFailure) -> Error {
    match failure {
        UploadFailure::BufferTooSmall => {
            Code::DeviceAnswer.error("the device's buffer has no room for a piece of the file")
        }
        UploadFailure::BeyondEnd => Code::DeviceAnswer.error("the device wants bytes behind the end of the file"),
        UploadFailure::Mismatch => Code::DeviceAnswer
            .error("the device received other bytes than were sent")
            .advise("Check the line (baud rate, flow control) and run the same command again."),
        UploadFailure::Stalled => Code::DeviceAnswer
            .error("the upload makes no progress: the device asks for the same bytes again and again")
            .advise("Check the line (baud rate, flow control) and run the same command again."),
    }
}

fn malformed(action: &str) -> Error {
    Code::DeviceAnswer.error(format!("the device's answer cannot be understood (wanted: {action})"))
}

/// A refusal as an error: the device's own number where it gave one, with what to do about it.
fn refused(action: &str, refusal: &Refusal) -> Error {
    if let Some(reason) = refusal.reason {
        let mut error = Error::refused("the device", reason);
        error.what = format!("the device refuses ({action}): {}", reason.what());
        return error.advise(advice(reason));
    }
    let group = refusal
        .group
        .map_or_else(String::new, |group| format!(" of group {group}"));
    let text = if refusal.text.is_empty() {
        String::new()
    } else {
        format!(": {}", refusal.text)
    };
    Code::DeviceRefused.error(format!(
        "the device refuses ({action}) with error {}{group}{text}",
        refusal.rc
    ))
}

/// What a person can do about a device's refusal; empty where the reason says it all.
fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::AuthThreshold | Reason::AuthNoBlock => {
            "Sign it with keys of the device's trust root: `ampoule release verify --root FILE` says whose are missing."
        }
        Reason::AuthSignature | Reason::AuthDigest | Reason::ChunkDigest | Reason::ImageDigest | Reason::ChunkTable => {
            "The file was changed or damaged after it was signed: fetch it again, or build it anew."
        }
        Reason::VendorMismatch | Reason::ClassMismatch | Reason::DeviceMismatch | Reason::ImageClass => {
            "Build the release for this device; `ampoule device info` shows what it is."
        }
        Reason::VersionMismatch => "Install the version in between first.",
        Reason::SeqRollback | Reason::SeqBelowMin => {
            "To go back to older code, publish it again with a higher sequence number."
        }
        Reason::SeqReused => "Give the release a higher sequence number.",
        Reason::CounterRollback => {
            "Images with a lower security counter never start again on this device; build it anew."
        }
        Reason::EngineTooOld => "Install a release that brings a newer update engine first.",
        Reason::TrialRunning => "Wait until the device has confirmed or gone back, then try again.",
        Reason::NotSelfTested => "Wait until the self-test has passed, then ask again.",
        Reason::NotOnTrial => "Nothing is to be confirmed: see `ampoule device info`.",
        Reason::InstallRunning => "Let the other installation end, or reset the device.",
        Reason::NothingStaged | Reason::HashUnknown => "Upload the release first: `ampoule device update`.",
        Reason::PermanentRefused => "Let the image pass its trial: `ampoule device update` does it.",
        Reason::RawImageRefused | Reason::NotARelease => {
            "Put the image into a release: `ampoule release build`; raw images are for recovery."
        }
        Reason::NoRoot => "Give the device its trust root: `ampoule device provision --root FILE`.",
        Reason::RootPresent => "The device has its root already; it changes only by rotation.",
        Reason::ImageThreshold | Reason::ImageSignature => {
            "Sign the image with the image keys of the device's trust root: `ampoule image sign`."
        }
        Reason::NotSupported => "This device (or its bootloader, in recovery) does not do this.",
        Reason::ResetVetoed => "Try again later, or insist with `ampoule device reset --force`.",
        Reason::LifecycleBackwards | Reason::LifecycleUnknown => {
            "Ask for a later state: `ampoule device info` shows the present one."
        }
        Reason::LifecycleOnWire => {
            "Have the application ask (`Device::request_lifecycle`), by its own policy: a person at the device, or an order \
             that it authenticated."
        }
        Reason::LifecycleStaged => "Reset the device, look at it with `ampoule device info`, and ask again.",
        Reason::NotInDevelopment => "Advance it instead: `ampoule device lifecycle --to`.",
        Reason::ProductionOnly => "Give it the production root: `ampoule device provision --root FILE`.",
        Reason::Decommissioned => "It is at the end of its life: no command brings it back.",
        Reason::WipeUnfinished => "Restart the device, for its bootloader to go on.",
        Reason::RootStaged => "Reset the device and run the same command again.",
        _ if reason.is_retriable() => "Try again.",
        _ => "",
    }
}
