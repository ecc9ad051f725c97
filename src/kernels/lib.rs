//! The loops in which ogbox spends its time. Cargo chooses what to optimise for by package: this one is built for
//! speed, the rest of the binary for size.

pub mod lanes;
pub mod lzo1x;
pub mod scan;
