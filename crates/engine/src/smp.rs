//! The device's end of the Simple Management Protocol, without I/O: a whole message in, a whole message out.
//!
//! The wire is not the application: what it may ask for is decided by [`Device`], and refused with the same numbered
//! reasons as anywhere else.

use crate::device::Device;
use crate::flash::Flash;
use crate::install::{Receiving, Resumed, Step};
use crate::layout::SlotId;
use crate::report::{self, REPORT_BYTES_MAX};
use crate::slot::ImageInfo;
use crate::swap::Request as SwapRequest;
use codec::Reason;
use codec::mcuboot::trailer::SwapType;
use codec::record::Upload;
use codec::roots::Environment;
use codec::smp::response::{BOOTLOADER_NAME, MODE_SWAP_OFFSET, Parameters, RootInfo};
use codec::smp::{DeviceInfo, Header, ImageState, Piece, Request, Response, SlotSize, Start};

/// What is to be done after the answer was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    None,
    /// Flush the answer, then reset.
    Reset,
}

/// What the application contributes.
pub trait Application {
    /// The answer to "application info".
    fn about(&self) -> &str;

    /// Whether a reset is all right now; a request may insist.
    fn may_reset(&self) -> bool {
        true
    }
}

/// The server of one transport.
pub struct Server<'m> {
    parameters: Parameters,
    state: Receive<'m>,
}

/// The installation buffer is here or lent to an installation.
#[expect(
    clippy::large_enum_variant,
    reason = "no allocation to put the larger variant behind"
)]
enum Receive<'m> {
    Idle(&'m mut [u8]),
    Running(Receiving<'m>),
}

impl<'m> Server<'m> {
    /// A server. `buffer` is the installation's (the longest head and the longest chunk); `parameters` tell clients how
    /// long a message may be.
    pub fn new(buffer: &'m mut [u8], parameters: Parameters) -> Self {
        Server {
            parameters,
            state: Receive::Idle(buffer),
        }
    }

    /// Answers one message into `out`. Bytes that are no request get no answer.
    pub fn handle<'o, F: Flash>(
        &mut self,
        message: &[u8],
        device: &mut Device<'_, F>,
        application: &dyn Application,
        out: &'o mut [u8],
    ) -> (&'o [u8], Action) {
        let Ok((header, body)) = Header::split(message) else {
            return (&[], Action::None);
        };
        let mut action = Action::None;
        let mut facts = Facts::default();
        let response = Request::decode(&header, body)
            .and_then(|request| self.answer(&request, device, application, &mut facts, &mut action))
            .unwrap_or_else(Response::Refused);
        (response.encode(&header, out), action)
    }

    fn answer<'a, F: Flash>(
        &mut self,
        request: &Request<'a>,
        device: &mut Device<'_, F>,
        application: &'a dyn Application,
        facts: &'a mut Facts,
        action: &mut Action,
    ) -> Result<Response<'a>, Reason> {
        Ok(match request {
            Request::Echo(text) => Response::Echo(text),
            Request::EchoControl => Response::Done,
            Request::Parameters => Response::Parameters(self.parameters),
            Request::ApplicationInfo { .. } => Response::ApplicationInfo(application.about()),
            Request::BootloaderInfo { query: None } => Response::Bootloader(BOOTLOADER_NAME),
            Request::BootloaderInfo { query: Some("mode") } => Response::BootloaderMode {
                mode: MODE_SWAP_OFFSET,
                no_downgrade: true,
            },
            Request::Reset { boot_mode: 1.., .. } | Request::BootloaderInfo { .. } => return Err(Reason::NotSupported),
            Request::Reset { force, .. } => {
                if !force && !application.may_reset() {
                    return Err(Reason::ResetVetoed);
                }
                *action = Action::Reset;
                Response::Done
            }
            Request::ImageStates => Response::Images(facts.images(device)?),
            Request::SetImageState { hash, confirm } => {
                set_state(device, *hash, *confirm)?;
                Response::Images(facts.images(device)?)
            }
            Request::Upload(piece) => self.upload(piece, device)?,
            Request::Erase { slot: 1 } => {
                device.erase_staging().map_err(|refused| refused.reason)?;
                self.stop();
                Response::Done
            }
            Request::Erase { .. } => return Err(Reason::NotSupported),
            Request::SlotInfo => Response::Slots {
                slots: facts.slots(device),
                image_bytes_max: device.slots().image_len_max(),
            },
            // A device that runs an application has its root already.
            Request::Provision(_) => return Err(Reason::RootPresent),
            Request::DeviceInfo => Response::Device(info(device)?),
            Request::Lifecycle(request) => {
                device
                    .request_lifecycle_on_wire(*request)
                    .map_err(|refused| refused.reason)?;
                Response::Done
            }
            Request::Report => {
                Response::Report(report::report(device, &mut facts.report).map_err(|refused| refused.reason)?)
            }
        })
    }

    /// A piece of a release. The offset that is wanted next is the answer, whatever offset the piece had.
    fn upload<F: Flash>(&mut self, piece: &Piece<'_>, device: &mut Device<'_, F>) -> Result<Response<'static>, Reason> {
        if let Some(start) = &piece.start
            && let Some(offset) = self.start(start, device)?
        {
            return Ok(Response::Uploaded { offset, matches: None });
        }
        let Receive::Running(receiving) = &mut self.state else {
            return Ok(Response::Uploaded {
                offset: 0,
                matches: None,
            });
        };
        if piece.offset != receiving.offset() {
            return Ok(Response::Uploaded {
                offset: receiving.offset(),
                matches: None,
            });
        }
        let len = receiving.upload().len;
        if piece
            .offset
            .checked_add(piece.data.len() as u32)
            .is_none_or(|end| end > len)
        {
            return Err(Reason::UploadLength);
        }
        let offset = match receiving.push(piece.data, device).map_err(|refused| refused.reason)? {
            Step::More { offset } => offset,
            Step::Staged | Step::ChainTaken => receiving.offset(),
            Step::AlreadyInstalled => len,
        };
        if offset == len {
            match receiving.push(&[], device).map_err(|refused| refused.reason)? {
                Step::More { .. } => return Err(Reason::CborMalformed),
                Step::Staged | Step::AlreadyInstalled | Step::ChainTaken => self.stop(),
            }
        }
        Ok(Response::Uploaded { offset, matches: None })
    }

    /// The first piece: goes on with a file that is known by its hash, or starts anew. Some offset: go on there.
    fn start<F: Flash>(&mut self, start: &Start, device: &mut Device<'_, F>) -> Result<Option<u32>, Reason> {
        if start.image != 0 {
            return Err(Reason::NotSupported);
        }
        if start.len == 0 {
            return Err(Reason::UploadLength);
        }
        let upload = Upload {
            sha: start.sha.unwrap_or([0; 32]),
            len: start.len,
        };
        let known = |receiving: &Receiving<'_>| start.sha.is_some() && *receiving.upload() == upload;
        let buffer = match core::mem::replace(&mut self.state, Receive::Idle(&mut [])) {
            Receive::Running(receiving) if known(&receiving) && receiving.can_go_on() => {
                let offset = receiving.offset();
                self.state = Receive::Running(receiving);
                return Ok((offset > 0).then_some(offset));
            }
            Receive::Running(receiving) => receiving.into_buffer(),
            Receive::Idle(buffer) => match start.sha {
                None => buffer,
                Some(_) => match Receiving::resume(device, buffer) {
                    Resumed::Going(receiving) if known(&receiving) => {
                        let offset = receiving.offset();
                        self.state = Receive::Running(receiving);
                        return Ok(Some(offset));
                    }
                    Resumed::Going(receiving) => receiving.into_buffer(),
                    Resumed::Nothing(buffer) => buffer,
                },
            },
        };
        self.state = Receive::Running(Receiving::new(buffer, upload));
        Ok(None)
    }

    fn stop(&mut self) {
        self.state = match core::mem::replace(&mut self.state, Receive::Idle(&mut [])) {
            Receive::Running(receiving) => Receive::Idle(receiving.into_buffer()),
            idle => idle,
        };
    }
}

/// Room for what an answer borrows.
struct Facts {
    images: [ImageState; 2],
    slots: [SlotSize; 2],
    report: [u8; REPORT_BYTES_MAX],
}

impl Default for Facts {
    fn default() -> Self {
        let slot = SlotSize {
            slot: 0,
            size: 0,
            takes_uploads: false,
        };
        Facts {
            images: [ImageState::default(); 2],
            slots: [slot; 2],
            report: [0; REPORT_BYTES_MAX],
        }
    }
}

impl Facts {
    fn images<F: Flash>(&mut self, device: &mut Device<'_, F>) -> Result<&[ImageState], Reason> {
        let (trial, confirmed, request) = (device.is_trial()?, device.is_confirmed()?, device.request()?);
        let state = |slot, image: &ImageInfo| ImageState {
            slot,
            version: image.version,
            hash: Some(image.digest),
            bootable: true,
            ..ImageState::default()
        };
        let running = device.running().map(|image| ImageState {
            active: true,
            confirmed,
            ..state(0, image)
        });
        let staged = device.staged()?.map(|image| ImageState {
            pending: trial || matches!(request, SwapRequest::Test | SwapRequest::Permanent),
            permanent: request == SwapRequest::Permanent,
            // During a trial the old image stands here: confirmed, and next unless the trial succeeds.
            confirmed: trial,
            ..state(1, &image)
        });
        let mut count = 0;
        for (place, image) in self.images.iter_mut().zip([running, staged].into_iter().flatten()) {
            *place = image;
            count += 1;
        }
        Ok(self.images.get(..count).unwrap_or(&[]))
    }

    fn slots<F: Flash>(&mut self, device: &Device<'_, F>) -> &[SlotSize] {
        let size = |slot| device.slots().area(slot).len;
        self.slots = [
            SlotSize {
                slot: 0,
                size: size(SlotId::Primary),
                takes_uploads: false,
            },
            SlotSize {
                slot: 1,
                size: size(SlotId::Secondary),
                takes_uploads: true,
            },
        ];
        &self.slots
    }
}

fn set_state<F: Flash>(device: &mut Device<'_, F>, hash: Option<&[u8]>, confirm: bool) -> Result<(), Reason> {
    let running = device.running().map(|image| image.digest);
    let names_running = hash.is_some() && hash == running.as_ref().map(|digest| digest.as_slice());
    let done = match (hash, confirm) {
        (None, _) => device.confirm(),
        (Some(_), true) if names_running => device.confirm(),
        (Some(_), false) if names_running => return Err(Reason::NothingStaged),
        (Some(_), true) => device.request_swap(hash, SwapType::Permanent),
        (Some(_), false) => device.request_swap(hash, SwapType::Test),
    };
    done.map_err(|refused| refused.reason)
}

fn info<F: Flash>(device: &mut Device<'_, F>) -> Result<DeviceInfo, Reason> {
    let root = RootInfo {
        version: u32::try_from(device.root().version()).unwrap_or(u32::MAX),
        production: device.environment() == Environment::Production,
    };
    let state = report::update_state(device)?;
    let floor = device.counter_floor()?;
    let board = device.config().board;
    Ok(DeviceInfo {
        vendor: *board.vendor,
        class: *board.class,
        device: device.config().device,
        lifecycle: device.lifecycle(),
        root: Some(root),
        state,
        version: device.running().map(|image| image.version),
        counter: device.stored_counter(),
        floor,
        sequence: device
            .state()
            .committed
            .iter()
            .flatten()
            .map(|committed| committed.release.sequence)
            .max(),
        last: device
            .state()
            .ending
            .and_then(|ending| Reason::from_number(ending.reason)),
    })
}
