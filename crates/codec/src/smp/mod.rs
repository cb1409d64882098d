//! The Simple Management Protocol: console framing, bodies, and a client without I/O.
