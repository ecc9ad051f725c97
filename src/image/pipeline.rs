//! Pieces in order through several threads, in bounded memory.
//!
//! Threads are not tied to a stage: each fills a free set of buffers with the next piece under a lock, works on it
//! alone, and lays it down. A thread that lays down the piece whose turn it is drains it and all that are ready after
//! it; the others go on with the next free buffers instead of waiting for their turn. So a piece stays in one core's
//! cache from reading to the end of the work, and memory is bounded by the buffers that were passed.

use std::sync::{Condvar, Mutex};

use crate::base::sync::{lock, unpoisoned};

struct Intake<F> {
    fill: F,
    /// Number of the next piece.
    next: u64,
    ended: bool,
}

struct Outlet<'a, W, E> {
    /// Number of the piece whose turn it is.
    turn: u64,
    /// A thread is giving pieces out.
    draining: bool,
    /// Pieces that wait for their turn, with the results of the work on them.
    ready: Vec<(u64, Result<(), E>, &'a mut W)>,
    /// Buffers that hold no piece.
    free: Vec<&'a mut W>,
    /// The error of the first piece that had one, or the fact that a thread panicked.
    failed: Option<Result<(), E>>,
}

/// Passes pieces through the buffers `sets` until `fill` has no more; [`buffers`] returns how many there should be.
///
/// `fill` and `drain` are called by one thread at a time and in order; `work` by all at once. The first error in
/// the order of the pieces ends everything, and all pieces before it have been drained.
///
/// # Errors
/// The first error of `fill`, `work` or `drain`.
pub fn run<W: Send, E: Send>(
    sets: &mut [W],
    fill: impl FnMut(&mut W) -> Result<bool, E> + Send,
    work: impl Fn(&mut W) -> Result<(), E> + Sync,
    drain: impl FnMut(&mut W) -> Result<(), E> + Send,
) -> Result<(), E> {
    let threads = threads().min(sets.len());
    let intake = Mutex::new(Intake { fill, next: 0, ended: false });
    let outlet = Mutex::new(Outlet {
        turn: 0,
        draining: false,
        ready: Vec::with_capacity(sets.len()),
        free: sets.iter_mut().collect(),
        failed: None,
    });
    let drain = Mutex::new(drain);
    let freed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // A panic here must not leave the others waiting for buffers that never come.
                let bell = Bell { outlet: &outlet, freed: &freed };
                while let Some(set) = free(&outlet, &freed) {
                    let Some((piece, filled)) = take(&intake, set) else { break };
                    let worked = filled.and_then(|()| work(set));
                    if !give(&outlet, &drain, &freed, (piece, worked, set)) {
                        lock(&intake).ended = true;
                        break;
                    }
                }
                drop(bell);
            });
        }
    });
    let outlet = unpoisoned(outlet.into_inner());
    outlet.failed.unwrap_or(Ok(()))
}

/// Returns buffers without a piece; `None` once all is over.
fn free<'a, W, E>(outlet: &Mutex<Outlet<'a, W, E>>, freed: &Condvar) -> Option<&'a mut W> {
    let ready = freed.wait_while(lock(outlet), |outlet| outlet.free.is_empty() && outlet.failed.is_none());
    let mut outlet = unpoisoned(ready);
    if outlet.failed.is_some() { None } else { outlet.free.pop() }
}

/// Returns the next piece's number and whether it was filled; `None` at the end.
fn take<W, E>(
    intake: &Mutex<Intake<impl FnMut(&mut W) -> Result<bool, E>>>,
    set: &mut W,
) -> Option<(u64, Result<(), E>)> {
    let mut intake = lock(intake);
    if intake.ended {
        return None;
    }
    let filled = match (intake.fill)(set) {
        Ok(true) => Ok(()),
        Ok(false) => {
            intake.ended = true;
            return None;
        }
        Err(error) => {
            intake.ended = true;
            Err(error)
        }
    };
    intake.next += 1;
    Some((intake.next - 1, filled))
}

/// Lays a piece down and drains those whose turn has come, unless another thread does; false once all is over.
fn give<'a, W, E>(
    outlet: &Mutex<Outlet<'a, W, E>>,
    drain: &Mutex<impl FnMut(&mut W) -> Result<(), E>>,
    freed: &Condvar,
    piece: (u64, Result<(), E>, &'a mut W),
) -> bool {
    let mut state = lock(outlet);
    state.ready.push(piece);
    if state.draining {
        return state.failed.is_none();
    }
    state.draining = true;
    while state.failed.is_none() {
        let turn = state.turn;
        let Some(at) = state.ready.iter().position(|(piece, ..)| *piece == turn) else { break };
        let (_, worked, set) = state.ready.swap_remove(at);
        drop(state);
        let drained = worked.and_then(|()| lock(drain)(set));
        state = lock(outlet);
        state.turn += 1;
        state.free.push(set);
        match drained {
            Ok(()) => freed.notify_one(),
            Err(error) => {
                state.failed.get_or_insert(Err(error));
                freed.notify_all();
            }
        }
    }
    state.draining = false;
    state.failed.is_none()
}

/// A guard that wakes all threads if its own panics.
struct Bell<'b, 'a, W, E> {
    outlet: &'b Mutex<Outlet<'a, W, E>>,
    freed: &'b Condvar,
}

impl<W, E> Drop for Bell<'_, '_, W, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(self.outlet).failed.get_or_insert(Ok(()));
            self.freed.notify_all();
        }
    }
}

/// Returns how many threads keep all cores busy: one more than cores, as one may wait for a disk.
fn threads() -> usize {
    crate::sys::cpus::count() + 1
}

/// Returns how many sets of buffers to make: one a thread, and one a core for pieces that wait for their turn.
pub fn buffers() -> usize {
    threads() + crate::sys::cpus::count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn count(pieces: u64, fail_at: Option<u64>, fill_fails_at: Option<u64>) -> (Result<(), u64>, Vec<u64>) {
        let mut next = 0;
        let mut out = Vec::new();
        let result = run(
            &mut [0; 6],
            |piece| {
                *piece = next;
                next += 1;
                if fill_fails_at == Some(*piece) { Err(1000 + *piece) } else { Ok(*piece < pieces) }
            },
            |piece| {
                // The later pieces are the faster ones.
                std::thread::sleep(std::time::Duration::from_micros(200 * (4 - *piece % 4)));
                if fail_at == Some(*piece) { Err(*piece) } else { Ok(()) }
            },
            |piece| {
                out.push(*piece);
                Ok(())
            },
        );
        (result, out)
    }

    #[test]
    fn pieces_come_out_in_order() {
        assert_eq!(count(100, None, None), (Ok(()), (0..100).collect()));
        assert_eq!(count(0, None, None), (Ok(()), vec![]));
    }

    #[test]
    fn the_first_error_in_order_wins_and_all_before_it_came_out() {
        assert_eq!(count(100, Some(37), None), (Err(37), (0..37).collect()));
        assert_eq!(count(100, Some(8), Some(10)), (Err(8), (0..8).collect()));
        assert_eq!(count(100, None, Some(10)), (Err(1010), (0..10).collect()));
    }

    #[test]
    fn a_panic_in_a_worker_ends_all_of_them() {
        let drained = AtomicU64::new(0);
        let caught = std::panic::catch_unwind(|| {
            let mut next = 0;
            run(
                &mut [0_u64; 4],
                |piece| {
                    *piece = next;
                    next += 1;
                    Ok::<bool, ()>(true)
                },
                |piece| if *piece == 5 { panic!("piece 5") } else { Ok(()) },
                |_| {
                    drained.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                },
            )
        });
        assert!(caught.is_err());
        assert!(drained.load(Ordering::Relaxed) <= 5);
    }
}
