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

use std::sync::{Mutex, MutexGuard};
use std::thread;

use crate::base::boundary::guard;
pub use limiter::Limiter;
pub use session::{Log, Options, Session};
pub use torrent::{Connected, Status, Torrent};
pub use web::range;

/// Stack of a connection's threads, bytes: they keep their buffers on the heap.
const STACK: usize = 128 << 10;

/// Takes a lock; a thread that panicked holding it has ended its own connection, not everybody's.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `work` in a thread of its own with a small stack, where a panic ends in a line of `log`; false when the system
/// gives no more threads.
fn spawn(name: &'static str, log: &Log, work: impl FnOnce() + Send + 'static) -> bool {
    let log = log.clone();
    let guarded = move || {
        survive(name, &log, work);
    };
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(guarded).is_ok()
}

/// Does `work`; a panic ends in a line of `log`, and there is no result then.
fn survive<T>(what: &str, log: &Log, work: impl FnOnce() -> T) -> Option<T> {
    guard(what, work).map_err(|panicked| log(&format!("**error** {panicked}"))).ok()
}
