//! Pieces in order through several threads, in bounded memory.
//!
//! There is no thread a stage and no queue: each worker takes the next piece in under a lock, works on it
//! alone, waits for its turn and gives it out under another. So a piece stays in one core's cache from reading
//! to writing, and there are as many buffers as workers, made once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct Intake<F> {
    fill: F,
    /// Number of the next piece.
    next: u64,
    ended: bool,
}

struct Outlet<D, E> {
    drain: D,
    /// Number of the piece whose turn it is.
    turn: u64,
    /// The error of the first piece that had one, or that a worker panicked.
    failed: Option<Result<(), E>>,
}

/// Passes pieces through `workers`, each with its own buffers, until `fill` has no more.
///
/// `fill` and `drain` are called by one worker at a time and in order; `work` by all at once. The first error in
/// the order of the pieces ends everything, and all pieces before it have been drained.
///
/// # Errors
/// What `fill`, `work` or `drain` gave.
pub fn run<W: Send, E: Send>(
    workers: &mut [W],
    fill: impl FnMut(&mut W) -> Result<bool, E> + Send,
    work: impl Fn(&mut W) -> Result<(), E> + Sync,
    drain: impl FnMut(&mut W) -> Result<(), E> + Send,
) -> Result<(), E> {
    let intake = Mutex::new(Intake { fill, next: 0, ended: false });
    let outlet = Mutex::new(Outlet { drain, turn: 0, failed: None });
    let turned = Condvar::new();
    std::thread::scope(|scope| {
        for worker in workers {
            let (intake, outlet, turned, work) = (&intake, &outlet, &turned, &work);
            scope.spawn(move || {
                // A panic here must not leave the others waiting for a turn that never comes.
                let bell = Bell { outlet, turned };
                while let Some((piece, filled)) = take(intake, worker) {
                    let worked = filled.and_then(|()| work(worker));
                    if !give(outlet, turned, piece, worked, worker) {
                        lock(intake).ended = true;
                        break;
                    }
                }
                drop(bell);
            });
        }
    });
    let outlet = outlet.into_inner().unwrap_or_else(PoisonError::into_inner);
    outlet.failed.unwrap_or(Ok(()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next piece's number and whether it was filled; none at the end.
fn take<W, E>(
    intake: &Mutex<Intake<impl FnMut(&mut W) -> Result<bool, E>>>,
    worker: &mut W,
) -> Option<(u64, Result<(), E>)> {
    let mut intake = lock(intake);
    if intake.ended {
        return None;
    }
    let filled = match (intake.fill)(worker) {
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

/// Waits for the piece's turn and drains it; false when all is over.
fn give<W, E, D: FnMut(&mut W) -> Result<(), E>>(
    outlet: &Mutex<Outlet<D, E>>,
    turned: &Condvar,
    piece: u64,
    worked: Result<(), E>,
    worker: &mut W,
) -> bool {
    let mut outlet = turned
        .wait_while(lock(outlet), |outlet| outlet.turn != piece && outlet.failed.is_none())
        .unwrap_or_else(PoisonError::into_inner);
    if outlet.failed.is_some() {
        return false;
    }
    if let Err(error) = worked.and_then(|()| (outlet.drain)(worker)) {
        outlet.failed = Some(Err(error));
    }
    outlet.turn += 1;
    turned.notify_all();
    outlet.failed.is_none()
}

/// Wakes all workers when its thread panics.
struct Bell<'a, D, E> {
    outlet: &'a Mutex<Outlet<D, E>>,
    turned: &'a Condvar,
}

impl<D, E> Drop for Bell<'_, D, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(self.outlet).failed.get_or_insert(Ok(()));
            self.turned.notify_all();
        }
    }
}

/// How many workers keep all cores busy: one more, for when one waits for a disk or its turn.
pub fn workers() -> usize {
    crate::sys::cpus::count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn count(pieces: u64, fail_at: Option<u64>, fill_fails_at: Option<u64>) -> (Result<(), u64>, Vec<u64>) {
        let mut next = 0;
        let mut out = Vec::new();
        let result = run(
            &mut [0; 4],
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
                &mut [0_u64; 3],
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
