//! The trailer at the end of a slot, in the layout of swap-offset.
