//! Rate limits, shared by all connections of a session, and fairly between its torrents: each that has something to
//! move gets the same rate, however many connections it has (start-time fair queueing, in bytes).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::lock;

/// What may be moved at once after a pause, in seconds' worth of the rate.
const BURST: f64 = 0.1;

/// Lets through a number of bytes a second; whoever is over it waits in line.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    line: Mutex<Line>,
}

/// What a torrent had of a limiter: the bytes at which its next may pass, counted as the line counts.
#[derive(Debug, Default)]
pub struct Share(AtomicU64);

#[derive(Debug)]
struct Line {
    free_at: Instant,
    /// Where the count of bytes stands that all who wait are measured by.
    reached: u64,
    waiting: Vec<Waiter>,
    /// Who came so far.
    came: u64,
}

#[derive(Debug)]
struct Waiter {
    /// Its place, the lowest first: a share's count, then the order of coming.
    place: (u64, u64),
    thread: Thread,
}

impl Line {
    fn first(&self) -> Option<&Waiter> {
        self.waiting.iter().min_by_key(|waiter| waiter.place)
    }
}

impl Limiter {
    /// Lets through `rate` bytes a second; 0: no limit.
    pub fn new(rate: u64) -> Limiter {
        let line = Line { free_at: Instant::now(), reached: 0, waiting: Vec::new(), came: 0 };
        Limiter { rate: rate as f64, line: Mutex::new(line) }
    }

    /// Waits until `bytes` more of what `share` belongs to may pass.
    pub fn pass(&self, share: &Share, bytes: u64) {
        if self.rate == 0.0 {
            return;
        }
        let mut line = lock(&self.line);
        line.came += 1;
        // Who was away has no claim to what it left unused.
        let place = (share.0.load(Ordering::Relaxed).max(line.reached), line.came);
        share.0.store(place.0 + bytes, Ordering::Relaxed);
        line.waiting.push(Waiter { place, thread: thread::current() });
        loop {
            let first = line.first().is_some_and(|waiter| waiter.place == place);
            let pause = line.free_at.saturating_duration_since(Instant::now());
            if first && pause.is_zero() {
                break;
            }
            drop(line);
            // Whoever leaves wakes the first; who is overtaken meanwhile goes back to sleep.
            if first {
                thread::park_timeout(pause)
            } else {
                thread::park()
            }
            line = lock(&self.line);
        }
        line.waiting.retain(|waiter| waiter.place != place);
        line.reached = place.0;
        let now = Instant::now();
        let earliest = now.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now);
        line.free_at = line.free_at.max(earliest) + Duration::from_secs_f64(bytes as f64 / self.rate);
        if let Some(next) = line.first() {
            next.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept_within_its_burst() {
        let (limiter, share) = (Limiter::new(1 << 20), Share::default());
        let begin = Instant::now();
        (0..32).for_each(|_| limiter.pass(&share, 16 << 10));
        let seconds = begin.elapsed().as_secs_f64();
        assert!((0.35..1.5).contains(&seconds), "512 KiB at 1 MiB/s took {seconds} s");
    }

    #[test]
    fn one_connection_of_a_torrent_gets_as_much_as_thirty_of_another() {
        let limiter = Limiter::new(4 << 20);
        let (busy, quiet) = (Share::default(), Share::default());
        let until = Instant::now() + Duration::from_secs(1);
        let take = |share: &Share, bytes: u64| {
            let mut moved = 0;
            while Instant::now() < until {
                limiter.pass(share, bytes);
                moved += bytes;
            }
            moved
        };
        let (many, one): (u64, u64) = thread::scope(|scope| {
            let threads: Vec<_> = (0..30).map(|_| scope.spawn(|| take(&busy, 64 << 10))).collect();
            let one = take(&quiet, 16 << 10);
            (threads.into_iter().map(|thread| thread.join().unwrap()).sum(), one)
        });
        let share = one as f64 / (one + many) as f64;
        assert!((0.3..0.6).contains(&share), "{one} of {} bytes", one + many);
        assert!(one + many < 7 << 20, "{} bytes in a second, 30 of 64 KiB beside them", one + many);
    }
}
