//! Rate limits, shared by all connections of a session and fair between its torrents, and within a torrent between the
//! addresses of its peers: each that has data to move gets the same rate, however many connections it has (start-time
//! fair queueing, in bytes).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::base::sync::lock;

/// Longest burst after a pause, in seconds of the rate.
const BURST: f64 = 0.1;

/// A limit in bytes a second; threads that exceed it wait in line.
#[derive(Debug)]
pub struct Limiter {
    /// Changed only while the line is locked.
    rate: AtomicU64,
    line: Mutex<Line>,
}

/// A torrent's share of a limiter, or an address' share of a torrent's; changed only while the line is locked.
#[derive(Debug, Default)]
pub struct Share {
    /// Byte count of the whole at which its next bytes may pass.
    next: AtomicU64,
    /// Its own byte count, which the places of its parts are measured by.
    reached: AtomicU64,
}

impl Share {
    /// Takes the place for `bytes` of a part of a whole that has reached the count `reached`.
    fn take_place(&self, reached: u64, bytes: u64) -> u64 {
        // A part that was idle has no claim to what it left unused.
        let place = self.next.load(Ordering::Relaxed).max(reached);
        self.next.store(place + bytes, Ordering::Relaxed);
        place
    }
}

#[derive(Debug)]
struct Line {
    free_at: Instant,
    /// The byte count that all places are measured by.
    reached: u64,
    waiting: Vec<Waiter>,
    /// Number of waiters so far.
    came: u64,
}

#[derive(Debug)]
struct Waiter {
    /// The address in memory of its torrent's share.
    torrent: usize,
    /// A place of its torrent's, lowest first, and its own among those of the torrent.
    place: u64,
    part: u64,
    /// Order of arrival.
    came: u64,
    thread: Thread,
}

impl Line {
    /// The indices of the lowest place, and of the first of the torrent that has it, who may use it.
    fn first(&self) -> Option<(usize, usize)> {
        let waiting = || self.waiting.iter().enumerate();
        let (lowest, holder) = waiting().min_by_key(|(_, waiter)| (waiter.place, waiter.came))?;
        let parts = waiting().filter(|(_, waiter)| waiter.torrent == holder.torrent);
        parts.min_by_key(|(_, waiter)| (waiter.part, waiter.came)).map(|(first, _)| (lowest, first))
    }

    /// Wakes the first in line.
    fn wake(&self) {
        if let Some((_, first)) = self.first() {
            self.waiting[first].thread.unpark();
        }
    }
}

impl Limiter {
    /// Creates a limiter of `rate` bytes a second; 0: no limit.
    pub fn new(rate: u64) -> Limiter {
        let line = Line { free_at: Instant::now(), reached: 0, waiting: Vec::new(), came: 0 };
        Limiter { rate: AtomicU64::new(rate), line: Mutex::new(line) }
    }

    /// The limit, bytes a second; 0: no limit.
    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Changes the limit to `rate` bytes a second, also for threads that already wait.
    pub fn set_rate(&self, rate: u64) {
        let mut line = lock(&self.line);
        let before = self.rate.swap(rate, Ordering::Relaxed);
        let now = Instant::now();
        // Bytes let through in advance are paid for at the new rate; without a limit they are forgotten.
        let owed = line.free_at.saturating_duration_since(now).as_secs_f64() * before as f64;
        line.free_at = now + if rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(owed / rate as f64) };
        line.wake();
    }

    /// Waits until `bytes` more of the torrent that `share` belongs to may pass to the address that has the part
    /// `address` of it.
    pub fn pass(&self, share: &Share, address: &Share, bytes: u64) {
        if self.rate() == 0 {
            return;
        }
        let mut line = lock(&self.line);
        line.came += 1;
        let came = line.came;
        let place = share.take_place(line.reached, bytes);
        let part = address.take_place(share.reached.load(Ordering::Relaxed), bytes);
        let torrent = std::ptr::from_ref(share) as usize;
        line.waiting.push(Waiter { torrent, place, part, came, thread: thread::current() });
        loop {
            let turn = line.first().filter(|&(_, first)| line.waiting[first].came == came);
            let pause = line.free_at.saturating_duration_since(Instant::now());
            if let Some((lowest, first)) = turn
                && pause.is_zero()
            {
                // It leaves its place to the one whose place it takes.
                line.reached = line.waiting[lowest].place;
                line.waiting[lowest].place = line.waiting[first].place;
                line.waiting.swap_remove(first);
                break;
            }
            let first = turn.is_some();
            drop(line);
            // A thread that leaves wakes the first in line; one that was overtaken meanwhile goes back to sleep.
            if first {
                thread::park_timeout(pause)
            } else {
                thread::park()
            }
            line = lock(&self.line);
        }
        share.reached.store(part, Ordering::Relaxed);
        let (now, rate) = (Instant::now(), self.rate());
        if rate > 0 {
            let earliest = now.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now);
            line.free_at = line.free_at.max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        }
        line.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept_within_its_burst() {
        let (limiter, share) = (Limiter::new(1 << 20), Share::default());
        let begin = Instant::now();
        (0..32).for_each(|_| limiter.pass(&share, &Share::default(), 16 << 10));
        let seconds = begin.elapsed().as_secs_f64();
        assert!((0.35..1.5).contains(&seconds), "512 KiB at 1 MiB/s took {seconds} s");
    }

    #[test]
    fn a_thread_that_waits_continues_at_a_changed_rate() {
        for (rate, least, most) in [(0, 0.0, 0.5), (1 << 20, 0.4, 1.5)] {
            let (limiter, share) = (Limiter::new(1), Share::default());
            // At one byte a second the second of these would take a week.
            let seconds = thread::scope(|scope| {
                let passing = scope.spawn(|| {
                    limiter.pass(&share, &Share::default(), 512 << 10);
                    limiter.pass(&share, &Share::default(), 512 << 10);
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
    fn one_connection_gets_as_much_as_thirty_of_another_torrent_or_of_another_address_with_longer_blocks() {
        for torrents in [1, 2] {
            let limiter = Limiter::new(4 << 20);
            let torrent: [Share; 2] = Default::default();
            let (busy, quiet) = (Share::default(), Share::default());
            let until = Instant::now() + Duration::from_secs(1);
            let take = |torrent: &Share, address: &Share, bytes: u64| {
                let mut moved = 0;
                while Instant::now() < until {
                    limiter.pass(torrent, address, bytes);
                    moved += bytes;
                }
                moved
            };
            let (many, one): (u64, u64) = thread::scope(|scope| {
                let spawn = |_| scope.spawn(|| take(&torrent[0], &busy, 64 << 10));
                let threads: Vec<_> = (0..30).map(spawn).collect();
                let one = take(&torrent[torrents - 1], &quiet, 16 << 10);
                (threads.into_iter().map(|thread| thread.join().unwrap()).sum(), one)
            });
            let share = one as f64 / (one + many) as f64;
            assert!((0.3..0.6).contains(&share), "{one} of {} bytes, {torrents} torrents", one + many);
            assert!(one + many < 7 << 20, "{} bytes in a second, 30 of 64 KiB beside them", one + many);
        }
    }
}
