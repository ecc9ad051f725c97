//! Helpers that the standard library lacks and any room may use.

pub mod boundary;
pub mod decimal;
pub mod getopt;
pub mod http;
pub mod leftover;
pub mod links;
pub mod lockfile;
pub mod log;
pub mod namesake;
pub mod percent;
pub mod progress;
pub mod ready;
pub mod rng;
pub mod shell;
pub mod signal;
pub mod sort;
pub mod stamp;
pub mod sync;
pub mod time;
pub mod tree;
pub mod units;
pub mod user;
pub mod whole;
