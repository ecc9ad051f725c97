//! Transfer rates as exponentially decaying averages.

use std::time::Duration;

/// Time constant of the average, seconds: long enough to bridge the pause between two turns at an uploader, short
/// enough for a queue to follow a link that changes.
const WINDOW: f64 = 2.0;

/// Bytes a second, averaged over about the last two seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    weighted: f64,
    since: Option<Duration>,
    at: Duration,
    total: u64,
}

impl Rate {
    /// Counts `bytes` moved at `now`.
    pub fn add(&mut self, now: Duration, bytes: u64) {
        self.since.get_or_insert(now);
        self.weighted = self.decayed(now) + bytes as f64;
        self.at = now;
        self.total += bytes;
    }

    /// Bytes a second at `now`.
    pub fn per_second(&self, now: Duration) -> f64 {
        let Some(since) = self.since else { return 0.0 };
        // A window that has only just been opened holds less than WINDOW seconds' worth.
        let age = now.saturating_sub(since).as_secs_f64().max(0.05);
        self.decayed(now) / (WINDOW * (1.0 - (-age / WINDOW).exp()))
    }

    /// Bytes counted so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn decayed(&self, now: Duration) -> f64 {
        self.weighted * (-now.saturating_sub(self.at).as_secs_f64() / WINDOW).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_is_measured_within_a_few_percent_from_its_first_second() {
        let mut rate = Rate::default();
        for ms in (0..6_000).step_by(10) {
            rate.add(Duration::from_millis(ms), 10_000);
            if ms > 1_000 {
                let measured = rate.per_second(Duration::from_millis(ms));
                assert!((950_000.0..1_080_000.0).contains(&measured), "{measured} at {ms} ms");
            }
        }
    }

    #[test]
    fn silence_brings_it_down() {
        let mut rate = Rate::default();
        rate.add(Duration::from_secs(1), 1 << 20);
        assert!(rate.per_second(Duration::from_secs(20)) < 100.0);
        assert_eq!(rate.total(), 1 << 20);
    }
}
