//! How the caller of a job on an image follows it, and ends it.

use super::container::Header;

/// Callbacks of a job on an image; they are called from the job's threads.
pub struct Watch<'a> {
    /// Receives the image's header once, before its first block.
    pub begin: &'a (dyn Fn(&Header) + Sync),
    /// Receives the bytes of the file system done since the last call.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Receives the bytes of the image file read since the last call.
    pub took: &'a (dyn Fn(u64) + Sync),
    /// Receives the bytes of the image file written since the last call.
    pub wrote: &'a (dyn Fn(u64) + Sync),
    /// Receives remarks for the user, a line each: what was taken although it is not as it should be.
    pub note: &'a (dyn Fn(&str) + Sync),
    /// Whether to stop; asked several times a second.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Watch<'_> {
    /// Returns a watch that ignores everything and never stops.
    pub fn idle() -> Watch<'static> {
        Watch { begin: &|_| {}, progress: &|_| {}, took: &|_| {}, wrote: &|_| {}, note: &|_| {}, stop: &|| false }
    }
}
