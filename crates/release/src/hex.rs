//! Intel HEX files in and out.
