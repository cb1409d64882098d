//! A programming station: the host prepares the flash of a board on the bench, and looks into what the board left.
//!
//! The host runs the same engine on the same layout, so a test can begin where it wants: at the factory, with a release
//! staged, or with what a power cut left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use codec::limits::Limits;
use codec::mcuboot::trailer::SwapType;
use codec::plan::ComponentId;
use codec::record::Upload;
use engine::boot;
use engine::device::{Config, Device};
use engine::install::{Receiving, Step};
use engine::journal::{Journal, State};
use engine::layout::{Area, Layout, SlotId, Slots};
use engine::store::{Found, Store};
use engine::swap::{Request, Trailers};
use release::board::Board as BoardFile;
use serde::Deserialize;
use trust::root::TrustRoot;

use crate::bench::Bench;
use crate::fixture::sha256;
use crate::nor::{Geometry, Nor};
use crate::qemu;

/// A bench and what its board's flash looks like.
pub struct Station {
    /// The product line and its board.
    pub bench: Bench,
    /// What stands where in the flash.
    pub layout: Layout,
    /// Bytes of an image header.
    pub header_len: u16,
    slots: Slots,
    limits: Limits,
    geometry: Geometry,
    flash_base: u32,
}

impl Station {
    /// A station for the board of this bench.
    pub fn new(bench: Bench) -> Station {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards/mps2-an386.toml");
        let board = BoardFile::read(&file).expect("the board file");
        let flash = fs::read_to_string(&file).expect("the board file");
        let FlashFile { flash, memory } = toml::from_str(&flash).expect("the board file");
        let (layout, geometry) = (flash.layout(board.max_sectors), flash.geometry());
        Station {
            bench,
            layout,
            header_len: board.header_size,
            slots: Slots::new(&layout, &Nor::new(geometry.clone())).expect("slots that the engine can swap"),
            limits: board.limits,
            geometry,
            flash_base: memory.flash.start,
        }
    }

    /// A file of this name beside the board's flash.
    pub fn file(&self, name: &str) -> PathBuf {
        self.bench.flash.with_file_name(name)
    }

    /// A flash from the factory: root stored, this image in the primary slot.
    pub fn factory(&self, image: &[u8]) -> Nor {
        let mut nor = Nor::new(self.geometry.clone());
        let root = self.bench.authority.trust_root.build();
        let root = TrustRoot::stored(&root, &self.limits).expect("a root file");
        Store::provision(&mut nor, &self.layout, &root).expect("a first root");
        nor.program(self.layout.primary.start, image);
        nor
    }

    /// The same flash after a release was installed and its image was asked to be tried.
    pub fn staged(&self, mut nor: Nor, release: &[u8]) -> Nor {
        let mut root = vec![0; (self.limits.root_max + self.limits.list_max) as usize];
        let mut buffer = vec![0; self.limits.head_max.max(self.limits.chunk_max) as usize];
        let component: &[&[u8]] = &[b"app"];
        let config = Config {
            board: boot::Board {
                layout: &self.layout,
                vendor: &self.bench.identity.vendor,
                class: &self.bench.identity.class,
                algorithms: self.bench.authority.scheme.algorithms(),
                limits: &self.limits,
                flash_base: self.flash_base,
            },
            component: ComponentId::new(component).expect("one short part"),
            device: None,
        };
        let mut device = Device::open(&mut nor, config, &mut root).expect("a device");
        let upload = Upload {
            sha: sha256(&[release]),
            len: release.len() as u32,
        };
        let step = Receiving::new(&mut buffer, upload).push(release, &mut device);
        assert_eq!(step, Ok(Step::Staged));
        device.request_swap(None, SwapType::Test).expect("a request");
        nor
    }

    /// Writes a flash into the file that a board starts with.
    pub fn write(&self, nor: &Nor, file: &Path) {
        qemu::program(file, 0, nor.cells()).expect("the flash is written");
    }

    /// The flash as a board left it.
    pub fn read(&self, file: &Path) -> Nor {
        let cells = qemu::read_back(file, 0, self.geometry.size() as usize).expect("the flash is read");
        let mut nor = Nor::new(self.geometry.clone());
        let unit = self.geometry.write_size as usize;
        for (number, bytes) in cells.chunks(unit).enumerate() {
            if bytes.iter().any(|byte| *byte != self.geometry.erased) {
                nor.program((number * unit) as u32, bytes);
            }
        }
        nor
    }

    /// What a flash holds, judged by the host.
    pub fn look(&self, nor: &mut Nor) -> Sight {
        let counter = match Store::open(nor, &self.layout) {
            Ok(Found::Store(store)) => Some(store.counter(0)),
            _ => None,
        };
        Sight {
            counter,
            request: Trailers::read(nor, &self.slots).expect("trailers").request(),
            journal: *Journal::open(nor, &self.layout).expect("a journal").state(),
        }
    }

    /// Whether the flash that a board runs on says just now that slots are being swapped: cheap, to be asked often.
    pub fn is_swapping(&self, file: &Path) -> bool {
        let (area, trailer) = (self.layout.primary, self.slots.trailer(SlotId::Primary));
        let from = trailer.swap_info_at();
        let cells = qemu::read_back(file, (area.start + from).into(), (area.len - from) as usize);
        let cells = cells.expect("the flash is read");
        let is_set = |at: u32| cells[(at - from) as usize] != self.geometry.erased;
        is_set(from) && is_set(area.len - 1) && !is_set(trailer.copy_done_at())
    }

    /// Which of these images stands in the primary slot, byte for byte.
    pub fn running<'i>(&self, nor: &Nor, images: &'i [Vec<u8>]) -> Option<&'i Vec<u8>> {
        let slot = &nor.cells()[self.layout.primary.start as usize..];
        images.iter().find(|image| slot.starts_with(image))
    }
}

/// What a flash holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    /// The stored security counter; `None` when the store cannot be read.
    pub counter: Option<u32>,
    /// What the bootloader is asked to do.
    pub request: Request,
    /// What the engine remembers.
    pub journal: State,
}

/// What the board file says about the flash.
#[derive(Deserialize)]
struct FlashFile {
    flash: Flash,
    memory: Memory,
}

/// Where the processor sees it.
#[derive(Deserialize)]
struct Memory {
    flash: Span,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Flash {
    write_size: u32,
    sector_size: u32,
    erased: u8,
    regions: BTreeMap<String, Span>,
}

#[derive(Deserialize, Clone, Copy)]
struct Span {
    start: u32,
    size: u32,
}

impl Flash {
    /// As much of the flash as has regions.
    fn geometry(&self) -> Geometry {
        let ends = self.regions.values().map(|span| span.start + span.size);
        let sectors = ends.max().unwrap_or(0) / self.sector_size;
        Geometry::uniform(self.write_size, self.erased, self.sector_size, sectors as usize)
    }

    fn layout(&self, max_sectors: u32) -> Layout {
        let area = |name: &str| {
            let Span { start, size: len } = self.regions[name];
            Area { start, len }
        };
        Layout {
            trust: [area("trust-store-a"), area("trust-store-b")],
            mailbox: area("mailbox"),
            boot_log: [area("boot-log-a"), area("boot-log-b")],
            journal: [area("journal-a"), area("journal-b")],
            head: area("head"),
            table: area("chunk-table"),
            sealed: [area("sealed-a"), area("sealed-b")],
            sealed_counter: area("sealed-counter"),
            device_key: area("device-key"),
            entropy: area("entropy-seed"),
            boot_update: area("bootloader-update"),
            primary: area("primary"),
            secondary: area("secondary"),
            max_sectors,
        }
    }
}
