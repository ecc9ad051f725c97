//! The hot loops of ogbox, in a package of their own, since Cargo sets the optimisation level by package: this one
//! is built for speed, the rest of the binary for size.

pub mod lanes;
pub mod lzo1x;
pub mod scan;
pub mod xxh;
