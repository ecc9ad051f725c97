//! The wire: messages, handshakes, extensions, connections (threads), discovery.
//!
//! A [`Session`] has one port and one peer id and any number of [`Torrent`]s. Each connection has a thread that
//! reads and one that writes; both decide nothing themselves but ask the torrent's [`crate::swarm::Swarm`], whose
//! mutex is held for microseconds and never across I/O.

mod connection;
mod doorway;
pub mod extension;
mod hasher;
mod limiter;
mod link;
pub mod lsd;
mod nudge;
pub mod pex;
mod session;
#[cfg(test)]
mod tests;
mod torrent;
mod web;
pub mod wire;

use std::thread;

pub use limiter::Limiter;
pub use session::{Log, Options, Session};
pub use torrent::{Connected, Status, Torrent};
pub use web::range;

/// Stack of a connection's threads, bytes: they keep their buffers on the heap.
const STACK: usize = 128 << 10;

/// Runs `work` in a thread of its own with a small stack; false when the system gives no more threads.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work).is_ok()
}
