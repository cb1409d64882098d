//! COSE_Sign1 as the profile uses it (profile section 4; RFC 9052).
