//! The queue of pieces to verify, handed out in groups that are hashed side by side in lanes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::base::sync::{lock, unpoisoned};

/// Maximum number of pieces in a group.
pub const LANES: usize = 16;
/// Longest time that a piece waits for others while they come fast.
const LINGER: Duration = Duration::from_millis(20);

/// Complete pieces, each with its torrent `T`.
pub struct Queue<T> {
    pieces: Mutex<Waiting<T>>,
    wake: Condvar,
    stop: AtomicBool,
}

struct Waiting<T> {
    pieces: VecDeque<(Arc<T>, u32)>,
    /// Average time between two pieces, seconds.
    gap: f64,
    last: Instant,
}

impl<T> Queue<T> {
    /// Creates an empty queue.
    pub fn new() -> Queue<T> {
        let waiting = Waiting { pieces: VecDeque::new(), gap: 1.0, last: Instant::now() };
        Queue { pieces: Mutex::new(waiting), wake: Condvar::new(), stop: AtomicBool::new(false) }
    }

    /// Adds a complete piece.
    pub fn push(&self, torrent: Arc<T>, piece: u32) {
        let mut waiting = lock(&self.pieces);
        let now = Instant::now();
        let gap = now.duration_since(waiting.last).as_secs_f64().min(1.0);
        waiting.gap = waiting.gap * 0.9 + gap * 0.1;
        waiting.last = now;
        waiting.pieces.push_back((torrent, piece));
        // Pieces between the first and the last of a group make no difference to the thread that waits.
        if matches!(waiting.pieces.len(), 1 | LANES) {
            self.wake.notify_one();
        }
    }

    /// Makes [`take`](Self::take) return `None` from now on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// Waits for pieces, and a little longer for more when they come fast; fills `pieces` with up to [`LANES`] of one
    /// torrent and returns it. `None` after [`stop`](Self::stop).
    pub fn take(&self, pieces: &mut Vec<u32>) -> Option<Arc<T>> {
        pieces.clear();
        let mut waiting = lock(&self.pieces);
        let mut deadline = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            let full = waiting.pieces.len() >= LANES;
            let fast = waiting.gap * LANES as f64 / 2.0 < LINGER.as_secs_f64();
            let until = if waiting.pieces.is_empty() { None } else { Some(*deadline.get_or_insert(now + LINGER)) };
            let time = match until {
                Some(until) if full || !fast || until <= now => break,
                Some(until) => until - now,
                None => Duration::from_secs(1),
            };
            waiting = unpoisoned(self.wake.wait_timeout(waiting, time)).0;
        }
        let torrent = waiting.pieces.front()?.0.clone();
        waiting.pieces.retain(|(other, piece)| {
            let take = pieces.len() < LANES && Arc::ptr_eq(other, &torrent);
            if take {
                pieces.push(*piece);
            }
            !take
        });
        Some(torrent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_of_one_torrent_in_order_and_no_larger_than_the_lanes() {
        let queue = Queue::new();
        let (one, other) = (Arc::new("one"), Arc::new("other"));
        (0..20).for_each(|piece| queue.push(one.clone(), piece));
        queue.push(other.clone(), 7);
        let mut pieces = Vec::new();
        let mut take = || queue.take(&mut pieces).map(|torrent| (*torrent, pieces.clone()));
        assert_eq!(take(), Some(("one", (0..16).collect())));
        assert_eq!(take(), Some(("one", (16..20).collect())));
        assert_eq!(take(), Some(("other", vec![7])));
        queue.push(other, 8);
        queue.stop();
        assert_eq!(take(), None);
    }
}
