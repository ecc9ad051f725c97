//! The room nearest to the kernel: all `unsafe` outside the piece hasher's lanes is here.

#[cfg(test)]
pub mod allocations;
#[cfg(panic = "abort")]
mod backtrace;
pub mod block;
pub mod cpus;
pub mod datagrams;
pub mod http;
pub mod io;
pub mod lease;
pub mod limits;
pub mod log;
pub mod net;
pub mod priority;
pub mod ready;
pub mod rng;
pub mod signal;
pub mod sort;
pub mod stamp;
pub mod tcp;
pub mod time;
pub mod tree;
pub mod user;
pub mod watch;
