//! Rate limits, shared by all connections of a session.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::lock;

/// What may be moved at once after a pause, in seconds' worth of the rate.
const BURST: f64 = 0.1;

/// Lets through a number of bytes a second; whoever is over it waits.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    free_at: Mutex<Instant>,
}

impl Limiter {
    /// Lets through `rate` bytes a second; 0: no limit.
    pub fn new(rate: u64) -> Limiter {
        Limiter { rate: rate as f64, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` more may pass.
    pub fn pass(&self, bytes: u64) {
        if self.rate == 0.0 {
            return;
        }
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate);
        let start = {
            let mut free_at = lock(&self.free_at);
            let now = Instant::now();
            let earliest = now.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now);
            let start = (*free_at).max(earliest);
            *free_at = start + cost;
            start
        };
        thread::sleep(start.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept_within_its_burst() {
        let limiter = Limiter::new(1 << 20);
        let begin = Instant::now();
        (0..32).for_each(|_| limiter.pass(16 << 10));
        let seconds = begin.elapsed().as_secs_f64();
        assert!((0.35..1.5).contains(&seconds), "512 KiB at 1 MiB/s took {seconds} s");
    }
}
