//! A NOR flash in memory that keeps the hardware's rules and fails like hardware.
//!
//! Rules (a breach is a defect of the caller and panics): erases hit exactly one sector; writes start and end on
//! multiples of the write size; every unit is written at most once per erase, even with the same or with erased bytes;
//! nothing touches an address that does not exist.
//!
//! Faults: the power fails before, after or in the middle of an operation, after which every operation fails until
//! [`Nor::power_on`]; or a single operation reports a failure and the flash lives on.

use crate::chance::Chance;
use engine::flash::{Flash, FlashError, Sector};
use std::ops::Range;
use std::sync::Arc;

/// The shape of a flash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes of one write unit: 1, 2, 4, 8, 16 or 32.
    pub write_size: u32,
    /// What an erased byte reads as: 0xff or 0x00.
    pub erased: u8,
    sectors: Vec<Sector>,
}

impl Geometry {
    /// A flash of sectors with these lengths in bytes, from address 0 upwards.
    pub fn of(write_size: u32, erased: u8, sector_lens: &[u32]) -> Geometry {
        assert!(
            matches!(write_size, 1 | 2 | 4 | 8 | 16 | 32),
            "no such write size: {write_size}"
        );
        assert!(matches!(erased, 0x00 | 0xff), "no such erased value: {erased:#04x}");
        let mut start = 0;
        let sectors = sector_lens
            .iter()
            .map(|&len| {
                assert!(
                    len > 0 && len.is_multiple_of(write_size),
                    "sector of {len} bytes in units of {write_size}"
                );
                let sector = Sector { start, len };
                start += len;
                sector
            })
            .collect();
        Geometry {
            write_size,
            erased,
            sectors,
        }
    }

    /// A flash of `count` sectors of `sector_len` bytes.
    pub fn uniform(write_size: u32, erased: u8, sector_len: u32, count: usize) -> Geometry {
        Geometry::of(write_size, erased, &vec![sector_len; count])
    }

    /// Bytes of the whole flash.
    pub fn size(&self) -> u32 {
        self.sectors.last().map_or(0, Sector::end)
    }

    /// The sectors, lowest address first.
    pub fn sectors(&self) -> &[Sector] {
        &self.sectors
    }

    fn sector(&self, address: u32) -> Option<Sector> {
        let after = self.sectors.partition_point(|s| s.start <= address);
        let sector = *self.sectors.get(after.checked_sub(1)?)?;
        (address < sector.end()).then_some(sector)
    }

    fn units(&self, address: u32, len: usize) -> Range<usize> {
        let unit = self.write_size as usize;
        let start = address as usize;
        start / unit..(start + len).div_ceil(unit)
    }
}

/// One operation that changes the flash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A write of whole units.
    Write {
        /// Where.
        address: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// An erase of one sector.
    Erase(Sector),
}

/// What happens to the operation with a chosen number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The power fails before it: nothing changed.
    CutBefore,
    /// The power fails right after it: done, but nobody heard.
    CutAfter,
    /// The power fails in its middle. The seed decides what is left.
    CutTorn(u64),
    /// It fails, changes nothing, and the flash works on.
    GlitchBefore,
    /// It reports a failure although it was done, and the flash works on.
    GlitchAfter,
}

/// How much was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Calls of `read`.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Calls of `write`.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Sectors erased.
    pub erases: u64,
}

/// The flash. `clone` is the snapshot; [`Nor::copy_state_from`] restores one without allocating.
#[derive(Clone, Debug)]
pub struct Nor {
    geometry: Arc<Geometry>,
    cells: Vec<u8>,
    /// One flag per write unit: not to be written before the next erase.
    spent: Vec<bool>,
    powered: bool,
    operations: u64,
    fault: Option<(u64, Fault)>,
    stats: Stats,
    trace: Option<Vec<Operation>>,
    tolerant: bool,
}

impl Nor {
    /// An erased flash, powered.
    pub fn new(geometry: Geometry) -> Nor {
        let size = geometry.size() as usize;
        Nor {
            cells: vec![geometry.erased; size],
            spent: vec![false; size / geometry.write_size as usize],
            geometry: Arc::new(geometry),
            powered: true,
            operations: 0,
            fault: None,
            stats: Stats::default(),
            trace: None,
            tolerant: false,
        }
    }

    /// The shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// All bytes as they stand.
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// What was done since the flash was made.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Writes and erases so far: the number of the next operation.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Puts bytes there as a factory programmer would: any alignment, over erased units only, not counted.
    pub fn program(&mut self, address: u32, bytes: &[u8]) {
        let units = self.geometry.units(address, bytes.len());
        assert!(
            !self.spent[units.clone()].contains(&true),
            "the factory programs erased flash only, at {address:#x}"
        );
        self.spent[units].fill(true);
        self.cells[address as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Flips bits in place, as an attacker with a probe or a failing cell would; not counted.
    pub fn corrupt(&mut self, address: u32, mask: u8) {
        self.cells[address as usize] ^= mask;
        let units = self.geometry.units(address, 1);
        self.spent[units].fill(true);
    }

    /// From now on a second write to a unit does what it does on most parts, instead of panicking: it can only take bits
    /// further from the erased value. For flash that somebody else has written to.
    pub fn tolerate_second_writes(&mut self) {
        self.tolerant = true;
    }

    /// Lets this happen to the operation with this number (see [`Nor::operations`]).
    pub fn plan(&mut self, operation: u64, fault: Fault) {
        self.fault = Some((operation, fault));
    }

    /// Whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// Switches the power on again; a fault that has not happened is forgotten.
    pub fn power_on(&mut self) {
        self.powered = true;
        self.fault = None;
    }

    /// Records every operation from now on.
    pub fn start_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// Ends recording and returns what was recorded.
    pub fn take_trace(&mut self) -> Vec<Operation> {
        self.trace.take().unwrap_or_default()
    }

    /// Makes this flash hold what the other holds, powered and without fault or trace.
    pub fn copy_state_from(&mut self, other: &Nor) {
        self.cells.clone_from(&other.cells);
        self.spent.clone_from(&other.spent);
        self.geometry.clone_from(&other.geometry);
        self.operations = other.operations;
        self.tolerant = other.tolerant;
        self.trace = None;
        self.power_on();
    }

    /// The sectors whose bytes differ between the two.
    pub fn changed_sectors(&self, other: &Nor) -> Vec<Sector> {
        assert_eq!(self.geometry, other.geometry);
        let bytes = |nor: &Nor, s: &Sector| nor.cells[s.start as usize..s.end() as usize].to_vec();
        self.geometry
            .sectors
            .iter()
            .filter(|s| bytes(self, s) != bytes(other, s))
            .copied()
            .collect()
    }

    /// Does the operation, by the rules.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Write { address, bytes } => self.put(*address, bytes),
            Operation::Erase(sector) => self.clear(*sector),
        }
    }

    /// Does a part of the operation that the seed chooses.
    pub fn apply_torn(&mut self, operation: &Operation, seed: u64) {
        let mut chance = Chance::new(seed);
        match operation {
            Operation::Write { address, bytes } => self.put_torn(*address, bytes, &mut chance),
            Operation::Erase(sector) => self.clear_torn(*sector, &mut chance),
        }
    }
}

impl Flash for Nor {
    fn write_size(&self) -> u32 {
        self.geometry.write_size
    }

    fn erased(&self) -> u8 {
        self.geometry.erased
    }

    fn size(&self) -> u32 {
        self.geometry.size()
    }

    fn sector(&self, address: u32) -> Option<Sector> {
        self.geometry.sector(address)
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        let end = address as usize + out.len();
        assert!(
            end <= self.cells.len(),
            "rule broken: read of {:#x}..{end:#x} beyond the end",
            address
        );
        if !self.powered {
            return Err(FlashError::Device);
        }
        self.stats.reads += 1;
        self.stats.read_bytes += out.len() as u64;
        out.copy_from_slice(&self.cells[address as usize..end]);
        Ok(())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        if !self.powered {
            return Err(FlashError::Device);
        }
        self.check_write(address, bytes);
        self.stats.writes += 1;
        self.stats.written_bytes += bytes.len() as u64;
        self.operate(
            || Operation::Write {
                address,
                bytes: bytes.to_vec(),
            },
            |nor| nor.put(address, bytes),
        )
    }

    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        if !self.powered {
            return Err(FlashError::Device);
        }
        let known = self.geometry.sector(sector.start);
        assert!(
            known == Some(sector),
            "rule broken: erase of {sector:?}, the sector there is {known:?}"
        );
        self.stats.erases += 1;
        self.operate(|| Operation::Erase(sector), |nor| nor.clear(sector))
    }
}

impl Nor {
    fn operate(&mut self, name: impl Fn() -> Operation, act: impl Fn(&mut Nor)) -> Result<(), FlashError> {
        let number = self.operations;
        self.operations += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(name());
        }
        match self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault) {
            None => {
                act(self);
                return Ok(());
            }
            Some(Fault::GlitchBefore | Fault::CutBefore) => {}
            Some(Fault::GlitchAfter | Fault::CutAfter) => act(self),
            Some(Fault::CutTorn(seed)) => self.apply_torn(&name(), seed),
        }
        let glitch = matches!(self.fault, Some((_, Fault::GlitchBefore | Fault::GlitchAfter)));
        self.powered = glitch;
        Err(FlashError::Device)
    }

    fn check_write(&self, address: u32, bytes: &[u8]) {
        let unit = self.geometry.write_size as usize;
        let (start, end) = (address as usize, address as usize + bytes.len());
        assert!(
            end <= self.cells.len(),
            "rule broken: write of {start:#x}..{end:#x} beyond the end"
        );
        assert!(!bytes.is_empty(), "rule broken: empty write at {start:#x}");
        assert!(
            start.is_multiple_of(unit) && end.is_multiple_of(unit),
            "rule broken: write of {start:#x}..{end:#x} is not in whole units of {unit}"
        );
        let units = self.geometry.units(address, bytes.len());
        let spent = units.clone().find(|&u| self.spent[u] && !self.tolerant);
        assert!(
            spent.is_none(),
            "rule broken: second write to the unit at {:#x} without an erase (write of {start:#x}..{end:#x})",
            spent.unwrap_or(0) * unit
        );
    }

    fn put(&mut self, address: u32, bytes: &[u8]) {
        let units = self.geometry.units(address, bytes.len());
        self.spent[units].fill(true);
        for (cell, byte) in self.cells[address as usize..].iter_mut().zip(bytes) {
            *cell = if self.geometry.erased == 0xff {
                *cell & byte
            } else {
                *cell | byte
            };
        }
    }

    fn clear(&mut self, sector: Sector) {
        let units = self.geometry.units(sector.start, sector.len as usize);
        self.spent[units].fill(false);
        self.cells[sector.start as usize..sector.end() as usize].fill(self.geometry.erased);
    }

    /// Some whole units arrive, then one in which only some bits have changed, then none. A unit that still reads as
    /// erased counts as erased: nobody could tell.
    fn put_torn(&mut self, address: u32, bytes: &[u8], chance: &mut Chance) {
        let unit = self.geometry.write_size as usize;
        let erased = self.geometry.erased;
        let whole = chance.below((bytes.len() / unit) as u64) as usize * unit;
        if whole > 0 {
            self.put(address, &bytes[..whole]);
        }
        let way = chance.below(4);
        let arrived = chance.below(unit as u64 + 1) as usize;
        let mut mask = |at: usize| match way {
            0 if at < arrived => 0xff,
            0 => 0,
            1 => chance.byte() & chance.byte(),
            2 => chance.byte() | chance.byte(),
            _ => chance.byte(),
        };
        let torn: Vec<u8> = bytes[whole..whole + unit]
            .iter()
            .enumerate()
            .map(|(at, &byte)| mix(erased, byte, mask(at)))
            .collect();
        if torn.iter().any(|&byte| byte != erased) {
            self.put(address + whole as u32, &torn);
        }
    }

    /// Whatever the sector reads as afterwards, it is not erased: cells of an interrupted erase do not hold.
    fn clear_torn(&mut self, sector: Sector, chance: &mut Chance) {
        let erased = self.geometry.erased;
        let cells = &mut self.cells[sector.start as usize..sector.end() as usize];
        let split = chance.below(cells.len() as u64) as usize;
        match chance.below(8) {
            0 => cells[..split].fill(erased),
            1 => cells[split..].fill(erased),
            2 => cells
                .iter_mut()
                .for_each(|cell| *cell = mix(*cell, erased, chance.byte())),
            3 => cells.iter_mut().for_each(|cell| *cell = chance.byte()),
            4 => cells.fill(!erased),
            // Erasing begins by programming every bit; this was as far as it came.
            5 => cells[..split].fill(!erased),
            6 => cells[split..].fill(!erased),
            _ => cells.fill(erased),
        }
        let units = self.geometry.units(sector.start, sector.len as usize);
        self.spent[units].fill(true);
    }
}

/// The bits of `to` where the mask is set, those of `from` elsewhere.
fn mix(from: u8, to: u8, mask: u8) -> u8 {
    (from & !mask) | (to & mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn small(write_size: u32, erased: u8) -> Nor {
        Nor::new(Geometry::of(write_size, erased, &[64, 64, 128]))
    }

    fn breaks_a_rule(act: impl FnOnce() -> Result<(), FlashError>) -> bool {
        catch_unwind(AssertUnwindSafe(act)).is_err()
    }

    #[test]
    fn sectors_may_differ_and_end_where_the_flash_ends() {
        let nor = small(4, 0xff);
        assert_eq!(nor.size(), 256);
        assert_eq!(nor.sector(63), Some(Sector { start: 0, len: 64 }));
        assert_eq!(nor.sector(64), Some(Sector { start: 64, len: 64 }));
        assert_eq!(nor.sector(255), Some(Sector { start: 128, len: 128 }));
        assert_eq!(nor.sector(256), None);
    }

    #[test]
    fn what_hardware_forbids_panics() {
        for erased in [0xff, 0x00] {
            let mut nor = small(8, erased);
            nor.write(8, &[1; 16]).unwrap();
            let before = nor.cells().to_vec();
            assert!(breaks_a_rule(|| nor.write(8, &[1; 8])), "same data again");
            assert!(breaks_a_rule(|| nor.write(16, &[erased; 8])), "erased value over data");
            assert!(breaks_a_rule(|| nor.write(28, &[1; 8])), "start not aligned");
            assert!(breaks_a_rule(|| nor.write(32, &[1; 9])), "end not aligned");
            assert!(breaks_a_rule(|| nor.write(256, &[1; 8])), "beyond the end");
            assert!(breaks_a_rule(|| nor.read(250, &mut [0; 8])), "read beyond the end");
            assert!(
                breaks_a_rule(|| nor.erase(Sector { start: 0, len: 32 })),
                "half a sector"
            );
            assert!(
                breaks_a_rule(|| nor.erase(Sector { start: 0, len: 128 })),
                "two sectors"
            );
            assert_eq!(nor.cells(), before);
            nor.erase(Sector { start: 0, len: 64 }).unwrap();
            nor.write(8, &[erased; 8]).unwrap();
            assert!(
                breaks_a_rule(|| nor.write(8, &[1; 8])),
                "a unit written with erased bytes is written"
            );
        }
    }

    #[test]
    fn a_cut_leaves_what_it_says_and_holds_until_power_on() {
        for (fault, written) in [(Fault::CutBefore, false), (Fault::CutAfter, true)] {
            let mut nor = small(4, 0xff);
            nor.write(0, &[1; 4]).unwrap();
            nor.plan(1, fault);
            assert_eq!(nor.write(4, &[2; 4]), Err(FlashError::Device));
            assert_eq!(nor.write(8, &[3; 4]), Err(FlashError::Device));
            assert_eq!(nor.erase(Sector { start: 0, len: 64 }), Err(FlashError::Device));
            assert_eq!(nor.read(0, &mut [0; 4]), Err(FlashError::Device));
            nor.power_on();
            assert_eq!(nor.cells()[..4], [1; 4]);
            assert_eq!(nor.cells()[4..8] == [2; 4], written);
            assert_eq!(nor.cells()[8..12], [0xff; 4]);
        }
    }

    #[test]
    fn a_glitch_fails_once() {
        for (fault, written) in [(Fault::GlitchBefore, false), (Fault::GlitchAfter, true)] {
            let mut nor = small(4, 0x00);
            nor.plan(0, fault);
            assert_eq!(nor.write(4, &[2; 4]), Err(FlashError::Device));
            assert_eq!(nor.cells()[4..8] == [2; 4], written);
            nor.write(8, &[3; 4]).unwrap();
        }
    }

    #[test]
    fn torn_writes_set_a_subset_of_the_bits_and_never_pass_the_end() {
        for erased in [0xff, 0x00] {
            let (mut whole, mut none, mut part) = (0, 0, 0);
            for seed in 0..2000 {
                let mut nor = small(4, erased);
                nor.plan(0, Fault::CutTorn(seed));
                let data = [0x5a; 12];
                nor.write(64, &data).unwrap_err();
                nor.power_on();
                let got = &nor.cells()[64..76];
                for (&cell, &byte) in got.iter().zip(&data) {
                    let (changed, meant) = (cell ^ erased, byte ^ erased);
                    assert_eq!(changed & !meant, 0, "only bits that were to change have changed");
                }
                match got {
                    _ if got == data => whole += 1,
                    _ if got.iter().all(|&b| b == erased) => none += 1,
                    _ => part += 1,
                }
                assert!(nor.cells()[..64].iter().chain(&nor.cells()[76..]).all(|&b| b == erased));
                if got[8..].iter().all(|&b| b == erased) {
                    nor.write(72, &[1; 4]).unwrap();
                }
            }
            assert!(
                part > 1000 && none > 10 && whole > 10,
                "{whole} whole, {none} none, {part} part"
            );
        }
    }

    #[test]
    fn a_torn_erase_must_be_erased_again() {
        for seed in 0..200 {
            let mut nor = small(4, 0xff);
            nor.write(0, &[7; 64]).unwrap();
            nor.write(64, &[7; 64]).unwrap();
            nor.plan(2, Fault::CutTorn(seed));
            nor.erase(Sector { start: 0, len: 64 }).unwrap_err();
            nor.power_on();
            assert_eq!(nor.cells()[64..128], [7; 64], "the neighbour is untouched");
            assert!(breaks_a_rule(|| nor.write(0, &[1; 4])));
            nor.erase(Sector { start: 0, len: 64 }).unwrap();
            nor.write(0, &[1; 4]).unwrap();
        }
    }

    #[test]
    fn changed_sectors_are_those_that_differ() {
        let before = small(4, 0xff);
        let mut after = before.clone();
        after.write(64, &[1; 4]).unwrap();
        assert_eq!(after.changed_sectors(&before), [Sector { start: 64, len: 64 }]);
    }
}
