//! The steps that a walk over a medium's own links may take.

use std::cell::Cell;

/// A count of steps, bounded by what the medium can hold: a walk that takes more goes in circles, or over the same
/// ground again and again.
pub struct Steps(Cell<u64>);

impl Steps {
    /// Allows `most` steps.
    pub fn new(most: u64) -> Steps {
        Steps(Cell::new(most))
    }

    /// Takes `count` steps; false if that is more than are left.
    pub fn take(&self, count: u64) -> bool {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}
