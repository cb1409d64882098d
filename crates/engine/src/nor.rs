//! [`Flash`] for every driver that implements `embedded-storage`'s `NorFlash`, the convention of the Rust HALs.

use crate::flash::{Flash, FlashError, Sector, WRITE_SIZE_MAX};
use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};

/// A NOR flash with sectors of one size, erased to 0xff, as the trait promises them.
///
/// The trait leaves alignment of reads to the driver; this adapter takes drivers that read single bytes.
#[derive(Debug)]
pub struct Nor<D>(D);

impl<D: NorFlash> Nor<D> {
    /// Adapts a driver; `None` when its geometry is not one that the engine handles (reads of single bytes, write units
    /// of a power of two up to 32 bytes, at most 4 GiB).
    pub fn new(driver: D) -> Option<Self> {
        let fits = D::READ_SIZE == 1
            && D::WRITE_SIZE.is_power_of_two()
            && D::WRITE_SIZE <= WRITE_SIZE_MAX
            && D::ERASE_SIZE > 0
            && D::ERASE_SIZE % D::WRITE_SIZE == 0
            && u32::try_from(driver.capacity()).is_ok()
            && u32::try_from(D::ERASE_SIZE).is_ok();
        fits.then_some(Nor(driver))
    }

    /// The driver.
    pub fn into_inner(self) -> D {
        self.0
    }
}

impl<D: NorFlash> Flash for Nor<D> {
    fn write_size(&self) -> u32 {
        D::WRITE_SIZE as u32
    }

    fn erased(&self) -> u8 {
        0xff
    }

    fn size(&self) -> u32 {
        self.0.capacity() as u32
    }

    fn sector(&self, address: u32) -> Option<Sector> {
        let len = D::ERASE_SIZE as u32;
        (address < self.size()).then(|| Sector {
            start: address - address % len,
            len,
        })
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashError> {
        self.0.read(address, out).map_err(kind)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.write(address, bytes).map_err(kind)
    }

    fn erase(&mut self, sector: Sector) -> Result<(), FlashError> {
        self.0.erase(sector.start, sector.end()).map_err(kind)
    }
}

fn kind(error: impl NorFlashError) -> FlashError {
    match error.kind() {
        NorFlashErrorKind::NotAligned | NorFlashErrorKind::OutOfBounds => FlashError::Misuse,
        _ => FlashError::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};

    struct Chip([u8; 64]);

    impl ErrorType for Chip {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Chip {
        const READ_SIZE: usize = 1;
        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
            let from = offset as usize;
            bytes.copy_from_slice(
                self.0
                    .get(from..from + bytes.len())
                    .ok_or(NorFlashErrorKind::OutOfBounds)?,
            );
            Ok(())
        }
        fn capacity(&self) -> usize {
            self.0.len()
        }
    }

    impl NorFlash for Chip {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 16;
        fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
            self.0[from as usize..to as usize].fill(0xff);
            Ok(())
        }
        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
            if !bytes.len().is_multiple_of(4) {
                return Err(NorFlashErrorKind::NotAligned);
            }
            self.0[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn a_driver_of_the_hals_is_a_flash() {
        let mut flash = Nor::new(Chip([0; 64])).unwrap();
        assert_eq!((flash.write_size(), flash.erased(), flash.size()), (4, 0xff, 64));
        let sector = flash.sector(37).unwrap();
        assert_eq!(sector, Sector { start: 32, len: 16 });
        assert_eq!(flash.sector(64), None);
        flash.erase(sector).unwrap();
        flash.write(36, b"abcd").unwrap();
        let mut read = [0; 6];
        flash.read(34, &mut read).unwrap();
        assert_eq!(&read, b"\xff\xffabcd");
        assert_eq!(flash.write(36, b"abc"), Err(FlashError::Misuse));
        assert_eq!(flash.read(60, &mut read), Err(FlashError::Misuse));
    }
}
