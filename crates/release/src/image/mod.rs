//! MCUboot images: sign, add a signature, verify, explain.
