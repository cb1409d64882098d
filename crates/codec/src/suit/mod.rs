//! AMP-SUIT-1 envelopes and manifests: decode, encode, stream.
