//! TLV areas: which types may stand where, and how often.
