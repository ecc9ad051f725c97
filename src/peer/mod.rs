//! The wire: messages, handshakes, extensions, connections (threads), discovery.
//!
//! A [`Session`] has one port and one peer id and any number of [`Torrent`]s. Each connection has a thread that
//! reads and one that writes; they decide nothing themselves but ask the torrent's [`crate::swarm::Swarm`].
//!
//! Locks are taken in this order: the session's map of torrents; a torrent's state, which holds its swarm; a link's
//! `gossip`; its `listens`; then its outbox or the queue of pieces to verify. Those of the limiters, the doorway and
//! the nudge are taken alone. No lock is held across I/O that can wait, and a torrent's state is held for microseconds.

mod complaints;
mod connection;
mod doorway;
pub mod extension;
mod gather;
mod hasher;
mod limiter;
mod link;
pub mod lsd;
mod nudge;
pub mod pex;
mod sender;
mod session;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod torrent;
mod web;
pub mod wire;

use std::sync::Arc;
use std::thread;

use crate::base::boundary::guard;
pub use limiter::Limiter;
pub use session::{NearSeeds, Options, Session};
pub use torrent::{Connected, Status, Torrent};
pub use web::range;

/// Receives the lines that a session logs, without a newline. It may be called with a torrent's state locked, so it
/// must not call the session or its torrents.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Stack size of a connection's threads, bytes; their buffers are on the heap.
const STACK: usize = 128 << 10;

/// Runs `work` in its own thread with a small stack, where a panic ends in a line of `log`; returns false if the system has
/// no more threads.
fn spawn(name: &'static str, log: &Log, work: impl FnOnce() + Send + 'static) -> bool {
    let log = log.clone();
    let guarded = move || {
        survive(name, &log, work);
    };
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(guarded).is_ok()
}

/// Returns the result of `work`; `None` after a panic, which `log` reports.
fn survive<T>(what: &str, log: &Log, work: impl FnOnce() -> T) -> Option<T> {
    guard(what, work).map_err(|panicked| log(&format!("**error** {panicked}"))).ok()
}
