//! Web seeds (BEP 19): an HTTP server that has everything. To the swarm it is a peer that has everything, chokes
//! nobody and wants nothing; the swarm's driver carries its requests to the server.
//!
//! It spends a shared resource, the repository's own link, so peers come first. A web seed is asked for pieces that
//! no connected peer has, and for any piece only while all peers together give less than it does. In a busy room,
//! one server that sixty peers ask gives each of them little, and is left alone; where peers give nothing, it gives
//! everything. It is never asked for the same block twice: the endgame leaves it out.

use std::time::Duration;

/// Time for peers to come before a web seed is asked for anything, and again as much for them to give something
/// before it is asked for pieces that they have.
const PATIENCE: Duration = Duration::from_secs(1);
/// Minimum time over which its pace is measured.
const MEASURE: Duration = Duration::from_millis(100);

/// State of a web seed beyond that of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Time at which it was added.
    since: Duration,
    /// Time at which it was last given something to do after a pause, and the bytes that it gave since.
    began: Duration,
    given: u64,
    /// Its rate when it was last busy, bytes a second; 0 if not known.
    pace: f64,
}

impl Source {
    /// Creates the state of a web seed that is added at `now`.
    pub fn new(now: Duration) -> Source {
        Source { since: now, began: now, given: 0, pace: 0.0 }
    }

    /// Whether it is too new to be asked for anything.
    pub fn is_new(&self, now: Duration) -> bool {
        now < self.since + PATIENCE
    }

    /// Whether it is faster than all peers together, which give `given` bytes a second.
    pub fn is_needed(&self, now: Duration, given: f64) -> bool {
        given < self.pace.max(1.0) && now >= self.since + 2 * PATIENCE
    }

    /// Starts to measure its pace afresh at `now`, after a pause.
    pub fn begin(&mut self, now: Duration) {
        (self.began, self.given) = (now, 0);
    }

    /// Counts a block that it gave.
    pub fn gave(&mut self, now: Duration, bytes: u32) {
        self.given += u64::from(bytes);
        let time = now.saturating_sub(self.began);
        if time >= MEASURE {
            self.pace = self.given as f64 / time.as_secs_f64();
        }
    }
}
