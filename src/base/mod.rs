//! What the standard library lacks and any room may use.

pub mod boundary;
pub mod http;
pub mod log;
pub mod ready;
pub mod rng;
pub mod sort;
pub mod stamp;
pub mod time;
pub mod tree;
pub mod user;
