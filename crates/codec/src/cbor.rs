//! Strict deterministic CBOR (profile section 2): a reader that refuses and a writer into the caller's buffer.
