//! System calls: all `unsafe` outside the piece hasher's lanes is here.

#[cfg(test)]
pub mod allocations;
pub mod block;
pub mod clock;
pub mod cpus;
pub mod datagrams;
pub mod io;
pub mod lease;
pub mod limits;
pub mod loops;
pub mod net;
pub mod priority;
pub mod tcp;
pub mod watch;
