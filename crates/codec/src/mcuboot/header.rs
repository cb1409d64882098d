//! The 32-byte image header.
