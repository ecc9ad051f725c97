//! Number of usable processors.

/// Processors that this process may run on, at least 1 (sched_getaffinity(2)). std's count also reads the limits of
/// control groups, 9 KiB of code that a lab's PC has no use for.
pub fn count() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1) as usize)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_counts_as_std_does_where_nothing_limits() {
        let std = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(super::count() >= std);
    }
}
