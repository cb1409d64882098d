//! Device registers: 32-bit words that hardware answers.

use core::ptr;

/// One 32-bit device register.
#[derive(Clone, Copy)]
pub struct Register(usize);

impl Register {
    /// The register at this address.
    ///
    /// # Safety
    /// The address is a multiple of 4 and that of a device register for as long as the program runs. No read and no
    /// write of it changes memory that Rust code uses.
    pub const unsafe fn at(address: usize) -> Register {
        Register(address)
    }

    /// Reads the register, side effects included.
    pub fn read(self) -> u32 {
        // SAFETY: `at` demanded an aligned device register that is always there.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    /// Writes the register.
    pub fn write(self, value: u32) {
        // SAFETY: `at` demanded an aligned device register whose writes leave Rust's memory alone.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }
}
