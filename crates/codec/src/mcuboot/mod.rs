//! The MCUboot image format, read strictly.

pub mod header;
pub mod tlv;
pub mod trailer;
