//! Rate limits, shared by all connections of a session, and fairly between its torrents: each that has something to
//! move gets the same rate, however many connections it has (start-time fair queueing, in bytes).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::base::sync::lock;

/// What may be moved at once after a pause, in seconds' worth of the rate.
const BURST: f64 = 0.1;

/// Lets through a number of bytes a second; whoever is over it waits in line.
#[derive(Debug)]
pub struct Limiter {
    /// Changed under the line's lock only.
    rate: AtomicU64,
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
        Limiter { rate: AtomicU64::new(rate), line: Mutex::new(line) }
    }

    /// Bytes a second that it lets through; 0: no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Lets through `rate` bytes a second from now on; who waits already waits at that rate.
    pub fn set_rate(&self, rate: u64) {
        let mut line = lock(&self.line);
        let before = self.rate.swap(rate, Ordering::Relaxed);
        let now = Instant::now();
        // What was let through in advance is paid for at the new rate; without a limit it is forgotten.
        let owed = line.free_at.saturating_duration_since(now).as_secs_f64() * before as f64;
        line.free_at = now + if rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(owed / rate as f64) };
        if let Some(first) = line.first() {
            first.thread.unpark();
        }
    }

    /// Waits until `bytes` more of what `share` belongs to may pass.
    pub fn pass(&self, share: &Share, bytes: u64) {
        if self.rate() == 0 {
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
        let (now, rate) = (Instant::now(), self.rate());
        if rate > 0 {
            let earliest = now.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now);
            line.free_at = line.free_at.max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        }
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
    fn who_waits_at_a_rate_that_changes_goes_on_at_the_new_one() {
        for (rate, least, most) in [(0, 0.0, 0.5), (1 << 20, 0.4, 1.5)] {
            let (limiter, share) = (Limiter::new(1), Share::default());
            // At one byte a second the second of these would take a week.
            let seconds = thread::scope(|scope| {
                let passing = scope.spawn(|| {
                    limiter.pass(&share, 512 << 10);
                    limiter.pass(&share, 512 << 10);
                });
                thread::sleep(Duration::from_millis(50));
                assert!(!passing.is_finished());
                let begin = Instant::now();
                limiter.set_rate(rate);
                passing.join().unwrap();
                begin.elapsed().as_secs_f64()
            });
            assert!((least..most).contains(&seconds), "{seconds} s at {rate}");
            assert_eq!(limiter.rate(), rate);
        }
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
