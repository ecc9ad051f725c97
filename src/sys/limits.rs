//! What the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors kept for other things than those asked for.
const RESERVED: usize = 64;

/// How many of `wanted` file descriptors this process may open, after asking for them.
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
