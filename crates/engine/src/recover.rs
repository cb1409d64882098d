//! Recovery: what the bootloader answers when nothing may start. The smallest possible thing: one image into the primary
//! slot, judged by the bootloader's own rule; and, on a device without one, the first trust root.

use crate::boot::{self, Board, Buffers};
use crate::flash::{Flash, WRITE_SIZE_MAX};
use crate::layout::{SlotId, Slots};
use crate::smp::Action;
use crate::store::{Found, Store};
use crate::swap;
use codec::mcuboot::{HEADER_BYTES, ImageHeader};
use codec::record::Lifecycle;
use codec::roots::Environment;
use codec::smp::response::{BOOTLOADER_NAME, Parameters, RootInfo};
use codec::smp::{DeviceInfo, Header, Piece, Request, Response, SlotSize, UpdateState};
use codec::{Reason, Refused};
use trust::root::{Role, TrustRoot};

/// The recovery of one device.
pub struct Recovery<'m> {
    parameters: Parameters,
    /// Why the device is here.
    reason: Reason,
    buffers: Buffers<'m>,
    /// What is arriving: the file's length, and the offset wanted next.
    arriving: Option<(File, u32, u32)>,
    /// Bytes of the last write unit that is not whole yet.
    tail: [u8; WRITE_SIZE_MAX],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    Image,
    Root,
}

impl<'m> Recovery<'m> {
    /// A recovery, and why it is needed. `buffers` are the bootloader's; the root buffer also collects a new root.
    pub fn new(reason: Reason, parameters: Parameters, buffers: Buffers<'m>) -> Self {
        Recovery {
            parameters,
            reason,
            buffers,
            arriving: None,
            tail: [0; WRITE_SIZE_MAX],
        }
    }

    /// Answers one message into `out`. Bytes that are no request get no answer.
    pub fn handle<'o, F: Flash>(
        &mut self,
        message: &[u8],
        flash: &mut F,
        board: &Board<'_>,
        out: &'o mut [u8],
    ) -> (&'o [u8], Action) {
        let Ok((header, body)) = Header::split(message) else {
            return (&[], Action::None);
        };
        let mut slots = [SlotSize {
            slot: 0,
            size: board.layout.primary.len,
            takes_uploads: true,
        }];
        let mut action = Action::None;
        let response = Request::decode_in_recovery(&header, body)
            .and_then(|request| self.answer(&request, flash, board, &mut slots, &mut action))
            .unwrap_or_else(Response::Refused);
        (response.encode_in_recovery(&header, out), action)
    }

    fn answer<'a, F: Flash>(
        &mut self,
        request: &Request<'a>,
        flash: &mut F,
        board: &Board<'_>,
        slots: &'a mut [SlotSize; 1],
        action: &mut Action,
    ) -> Result<Response<'a>, Reason> {
        Ok(match request {
            Request::Echo(text) => Response::Echo(text),
            Request::EchoControl => Response::Done,
            Request::Parameters => Response::Parameters(self.parameters),
            Request::BootloaderInfo { query: None } => Response::Bootloader(BOOTLOADER_NAME),
            Request::Reset { .. } => {
                *action = Action::Reset;
                Response::Done
            }
            // Nothing here may start.
            Request::ImageStates => Response::Images(&[]),
            Request::SlotInfo => Response::Slots {
                slots,
                image_bytes_max: Slots::new(board.layout, flash)?.image_len_max(),
            },
            Request::Upload(piece) => self.upload(File::Image, piece, flash, board)?,
            Request::Provision(piece) => self.upload(File::Root, piece, flash, board)?,
            Request::DeviceInfo => Response::Device(self.info(flash, board)?),
            _ => return Err(Reason::NotSupported),
        })
    }

    /// A piece of the image or of the root. The offset that is wanted next is the answer.
    fn upload<F: Flash>(
        &mut self,
        file: File,
        piece: &Piece<'_>,
        flash: &mut F,
        board: &Board<'_>,
    ) -> Result<Response<'static>, Reason> {
        if let Some(start) = &piece.start {
            self.arriving = None;
            match file {
                File::Image => begin_image(start.len, piece.data, flash, board)?,
                File::Root => begin_root(start.len, self.buffers.root.len(), flash, board)?,
            }
            self.arriving = Some((file, start.len, 0));
        }
        let Some((arriving, len, wanted)) = self.arriving.filter(|(arriving, ..)| *arriving == file) else {
            return Ok(Response::Uploaded {
                offset: 0,
                matches: None,
            });
        };
        if piece.offset != wanted {
            return Ok(Response::Uploaded {
                offset: wanted,
                matches: None,
            });
        }
        let end = piece
            .offset
            .checked_add(piece.data.len() as u32)
            .filter(|end| *end <= len);
        let end = end.ok_or(Reason::UploadLength)?;
        self.arriving = None;
        match file {
            File::Image => self.write_image(wanted, piece.data, end == len, flash, board)?,
            File::Root => {
                let place = self
                    .buffers
                    .root
                    .get_mut(wanted as usize..end as usize)
                    .ok_or(Reason::Limit)?;
                place.copy_from_slice(piece.data);
            }
        }
        if end == len {
            match file {
                File::Image => finish_image(flash, board, &mut self.buffers)?,
                File::Root => {
                    let root = self.buffers.root.get(..len as usize).ok_or(Reason::Limit)?;
                    provision(root, flash, board).map_err(|refused| refused.reason)?;
                }
            }
        } else {
            self.arriving = Some((arriving, len, end));
        }
        Ok(Response::Uploaded {
            offset: end,
            matches: None,
        })
    }

    /// Writes image bytes to the primary slot; an unfinished write unit waits for the next piece.
    fn write_image<F: Flash>(
        &mut self,
        offset: u32,
        data: &[u8],
        is_last: bool,
        flash: &mut F,
        board: &Board<'_>,
    ) -> Result<(), Reason> {
        let start = board.layout.primary.start;
        let unit = flash.write_size().max(1);
        for (at, byte) in (offset..).zip(data) {
            let into = at % unit;
            if into == 0 {
                self.tail = [flash.erased(); WRITE_SIZE_MAX];
            }
            *self.tail.get_mut(into as usize).ok_or(Reason::StorageFailed)? = *byte;
            if into + 1 == unit || (is_last && at + 1 == offset + data.len() as u32) {
                let address = start + at - into;
                let sector = flash.sector(address).ok_or(Reason::StorageFailed)?;
                if sector.start == address {
                    flash.erase(sector)?;
                }
                flash.write(address, self.tail.get(..unit as usize).unwrap_or(&[]))?;
            }
        }
        Ok(())
    }

    fn info<F: Flash>(&mut self, flash: &mut F, board: &Board<'_>) -> Result<DeviceInfo, Reason> {
        let store = match Store::open(flash, board.layout)? {
            Found::Store(store) => Some(store),
            Found::Blank | Found::Corrupt => None,
        };
        let counter = store.map_or(0, |store| store.counter(0));
        Ok(DeviceInfo {
            vendor: *board.vendor,
            class: *board.class,
            device: None,
            lifecycle: store.map_or(Lifecycle::Blank, |store| store.header().lifecycle),
            root: store.and_then(|store| self.root_info(store, flash, board)),
            state: UpdateState::Recovery,
            version: None,
            counter,
            floor: counter,
            sequence: None,
            last: Some(self.reason),
        })
    }

    /// What the stored root is, if it can be read. The root buffer is free then: a root is collected only without one.
    fn root_info<F: Flash>(&mut self, store: Store, flash: &mut F, board: &Board<'_>) -> Option<RootInfo> {
        let root = store
            .read_trust(flash, board.layout, board.limits, self.buffers.root)
            .ok()?;
        Some(RootInfo {
            version: u32::try_from(root.version()).unwrap_or(u32::MAX),
            production: root.environment() == Environment::Production,
        })
    }
}

/// An image that may come at all: there is a root to judge it by, it fits, and it starts like an image. Both trailers go
/// first, so that nothing old is resumed or reverted over it.
fn begin_image<F: Flash>(len: u32, data: &[u8], flash: &mut F, board: &Board<'_>) -> Result<(), Reason> {
    let slots = Slots::new(board.layout, flash)?;
    Store::of_running(flash, board.layout)?;
    if len > slots.image_len_max() {
        return Err(Reason::ImageSize);
    }
    ImageHeader::parse(data.first_chunk::<HEADER_BYTES>().ok_or(Reason::ImageMagic)?)?;
    swap::erase_trailer(flash, &slots, SlotId::Primary)?;
    swap::erase_trailer(flash, &slots, SlotId::Secondary)
}

/// The image is whole: it stays only if it may start.
fn finish_image<F: Flash>(flash: &mut F, board: &Board<'_>, buffers: &mut Buffers<'_>) -> Result<(), Reason> {
    let buffers = Buffers {
        root: &mut *buffers.root,
        scratch: &mut *buffers.scratch,
    };
    let verdict = boot::judge_primary(flash, board, buffers);
    if verdict.is_err() {
        flash.erase(flash.sector(board.layout.primary.start).ok_or(Reason::StorageFailed)?)?;
    }
    verdict.map(|_| ())
}

/// A device takes a root only while it has none.
fn begin_root<F: Flash>(len: u32, room: usize, flash: &mut F, board: &Board<'_>) -> Result<(), Reason> {
    match Store::of_running(flash, board.layout) {
        Err(Reason::NoRoot) if len > 0 && len as usize <= room => Ok(()),
        Err(Reason::NoRoot) => Err(Reason::Limit),
        Ok(_) => Err(Reason::RootPresent),
        Err(reason) => Err(reason),
    }
}

/// The factory's step (profile section 13, step 5): content and own threshold are checked here, once.
fn provision<F: Flash>(root: &[u8], flash: &mut F, board: &Board<'_>) -> Result<(), Refused> {
    let parsed = TrustRoot::parse(root, board.limits, &board.algorithms)?;
    parsed.verify_self(&board.algorithms)?;
    if !parsed.entries().any(|entry| entry.role == Role::Image) {
        return Err(Reason::RootNoImageRole.refused());
    }
    Store::provision(flash, board.layout, &parsed)?;
    Ok(())
}
