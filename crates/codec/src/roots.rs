//! Trust root, revocation and time files (profile sections 13 and 15).
