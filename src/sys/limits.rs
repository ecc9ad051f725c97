//! Limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors reserved for other uses.
const RESERVED: usize = 64;

/// Raises the limit of file descriptors for `wanted` of them; returns how many of those may be opened.
pub fn descriptors(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min((wanted + RESERVED) as u64);
    // Other parts of the process may have asked for more already.
    let current = limit.current.map_or(most, |current| current.max(most));
    let allowed = match setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }) {
        Ok(()) => Some(current),
        Err(_) => limit.current,
    };
    let descriptors = usize::try_from(allowed.unwrap_or(most)).unwrap_or(usize::MAX);
    descriptors.saturating_sub(RESERVED).min(wanted)
}
