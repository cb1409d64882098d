//! Every limit of the profile, by name (profile section 16).
