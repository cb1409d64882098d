//! Flash with a geometry that is known at run time.

use codec::Reason;

/// The largest write size that the engine handles, in bytes.
pub const WRITE_SIZE_MAX: usize = 32;

/// One erasable sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sector {
    /// Address of its first byte.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Sector {
    /// Address after its last byte.
    pub const fn end(&self) -> u32 {
        self.start.saturating_add(self.len)
    }
}

/// The flash did not do what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlashError {
    /// The address, length or alignment is not one that this flash has: a defect of the caller.
    Misuse,
    /// The hardware reported a failure.
    Device,
}

impl From<FlashError> for Reason {
    fn from(_: FlashError) -> Reason {
        Reason::StorageFailed
    }
}

/// NOR flash, or what behaves like it: erased by sectors, each byte written once per erase, in aligned units.
///
/// One `Flash` is one address space from 0 to [`Flash::size`]; a board with several chips maps them into it.
pub trait Flash {
    /// Bytes of one write unit: a power of two, 1 to [`WRITE_SIZE_MAX`]. Writes start and end on its multiples.
    fn write_size(&self) -> u32;

    /// What an erased byte reads as: 0xff or 0x00.
    fn erased(&self) -> u8;

    /// Bytes of the address space.
    fn size(&self) -> u32;

    /// The sector that holds this address; `None` beyond the end. Sectors may differ in size.
    fn sector(&self, address: u32) -> Option<Sector>;

    /// Reads from any address.
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError>;

    /// Writes whole units to erased bytes.
    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError>;

    /// Erases one whole sector.
    fn erase(&mut self, sector: Sector) -> Result<(), FlashError>;
}

impl<F: Flash + ?Sized> Flash for &mut F {
    fn write_size(&self) -> u32 {
        (**self).write_size()
    }
    fn erased(&self) -> u8 {
        (**self).erased()
    }
    fn size(&self) -> u32 {
        (**self).size()
    }
    fn sector(&self, address: u32) -> Option<Sector> {
        (**self).sector(address)
    }
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        (**self).read(address, out)
    }
    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        (**self).write(address, bytes)
    }
    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        (**self).erase(sector)
    }
}
