//! Signals as flags that loops poll; handlers only set them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Flags for requests to end (SIGINT, SIGTERM), to reopen logs (SIGHUP) and to print state (SIGUSR1).
#[derive(Clone, Default)]
pub struct Signals {
    ends: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
    usr1: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the first SIGINT or SIGTERM as a request for an orderly end; a second one kills as usual.
    pub fn catch_ends() -> io::Result<Signals> {
        let signals = Signals::default();
        for signal in [SIGINT, SIGTERM] {
            // Registered first, so it runs first: once an end was requested, a second signal kills.
            signal_hook::flag::register_conditional_default(signal, signals.ends.clone())?;
            signal_hook::flag::register(signal, signals.ends.clone())?;
        }
        Ok(signals)
    }

    /// Takes SIGHUP as a request to reopen logs.
    pub fn catch_hangup(&self) -> io::Result<()> {
        signal_hook::flag::register(SIGHUP, self.hangup.clone()).map(drop)
    }

    /// Takes SIGHUP, the end of a terminal, as a request to end, unless this process was started with it ignored
    /// (nohup).
    ///
    /// # Errors
    /// The handler cannot be installed.
    pub fn catch_hangup_as_end(&self) -> io::Result<()> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if ignored.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1) {
            return Ok(());
        }
        signal_hook::flag::register(SIGHUP, self.ends.clone()).map(drop)
    }

    /// Takes SIGUSR1 as a request to print state.
    pub fn catch_usr1(&self) -> io::Result<()> {
        signal_hook::flag::register(SIGUSR1, self.usr1.clone()).map(drop)
    }

    /// Whether an end was requested.
    pub fn ending(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// Whether SIGHUP came since the last call.
    pub fn take_hangup(&self) -> bool {
        self.hangup.swap(false, Ordering::Relaxed)
    }

    /// Whether SIGUSR1 came since the last call.
    pub fn take_usr1(&self) -> bool {
        self.usr1.swap(false, Ordering::Relaxed)
    }

    /// Sleeps for `time`, or less if an end is requested; false if one was.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.ending() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        false
    }
}
