//! Wakes a thread that otherwise looks at the clock.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::base::sync::{lock, unpoisoned};

/// A pause that can be cut short.
#[derive(Debug, Default)]
pub struct Nudge {
    given: Mutex<bool>,
    wake: Condvar,
}

impl Nudge {
    /// Ends the pause that is, or the next one.
    pub fn give(&self) {
        *lock(&self.given) = true;
        self.wake.notify_all();
    }

    /// Pauses for `time`, less when nudged.
    pub fn pause(&self, time: Duration) {
        let given = self.wake.wait_timeout_while(lock(&self.given), time, |given| !*given);
        *unpoisoned(given).0 = false;
    }
}
