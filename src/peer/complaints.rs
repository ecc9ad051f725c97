//! The share of a session's lines about others that gets into its log: whoever is dropped or refused again and again
//! cannot fill the disk.
//!
//! A source has [`OF_SOURCE`] lines at once and one more after each pause, all together have [`OF_ALL`]; what is left out
//! is counted, and said with the source's next line.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Log;
use crate::base::sync::lock;

/// Lines of a source that may come at once, and the pause after which there may be one more: 30 a minute.
const OF_SOURCE: Share = Share { burst: 32, pause: Duration::from_secs(2) };
/// Those of all sources: with lines of some 100 bytes, 400 bytes a second.
const OF_ALL: Share = Share { burst: 256, pause: Duration::from_millis(250) };
/// Most sources that are counted apart; further ones share an account.
const SOURCES: usize = 1024;

/// A burst and the pause between two lines after it.
#[derive(Clone, Copy)]
struct Share {
    burst: u32,
    pause: Duration,
}

/// What has been logged about a source, or about all.
#[derive(Default)]
struct Account {
    /// Time at which it has its whole burst again.
    fresh: Duration,
    left_out: u64,
}

impl Account {
    /// Whether there is a line left at `now`, which is taken.
    fn take(&mut self, now: Duration, share: Share) -> bool {
        let fresh = self.fresh.max(now) + share.pause;
        let is_left = fresh <= now + share.pause * share.burst;
        if is_left {
            self.fresh = fresh;
        }
        is_left
    }
}

#[derive(Default)]
struct Ration {
    sources: HashMap<IpAddr, Account>,
    all: Account,
}

impl Ration {
    /// Whether a line about `ip` may be logged at `now`: the number of those about it that were left out before; `None`
    /// if it may not.
    fn take(&mut self, now: Duration, ip: IpAddr) -> Option<u64> {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&ip) {
            self.sources.retain(|_, account| account.fresh > now);
        }
        let is_apart = self.sources.len() < SOURCES || self.sources.contains_key(&ip);
        let source = if is_apart { ip } else { Ipv4Addr::UNSPECIFIED.into() };
        let account = self.sources.entry(source).or_default();
        if account.take(now, OF_SOURCE) && self.all.take(now, OF_ALL) {
            return Some(std::mem::take(&mut account.left_out));
        }
        account.left_out += 1;
        None
    }
}

/// Returns a log that passes on to `log` those lines that begin with another's address as far as its share goes, and all
/// others.
pub fn rationed(log: Log) -> Log {
    let (begun, ration) = (Instant::now(), Mutex::new(Ration::default()));
    Arc::new(move |line| {
        let source = line.split_once(": ").and_then(|(address, _)| address.parse::<SocketAddr>().ok());
        let Some(source) = source else { return log(line) };
        let taken = lock(&ration).take(begun.elapsed(), source.ip());
        match taken {
            Some(0) => log(line),
            Some(left_out) => log(&format!("{line} ({left_out} more about {} are left out)", source.ip())),
            None => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    #[test]
    fn a_source_has_a_burst_and_then_a_line_in_a_while_and_what_is_left_out_is_counted() {
        let mut ration = Ration::default();
        let mut taken = |seconds: u64, n: usize| {
            (0..n).filter_map(|_| ration.take(Duration::from_secs(seconds), ip(1))).collect::<Vec<u64>>()
        };
        assert_eq!(taken(100, 100), [0; 32]);
        assert_eq!(taken(102, 10), [68]);
        assert_eq!(taken(103, 10), [0; 0]);
        assert_eq!(taken(1000, 40), [&[19][..], &[0; 31]].concat());
    }

    #[test]
    fn one_source_leaves_lines_for_others_and_all_together_are_bounded() {
        let mut ration = Ration::default();
        let mut taken = |seconds: u64, sources: std::ops::Range<u32>, n: usize| {
            let lines = sources.flat_map(|last| std::iter::repeat_n(last, n));
            lines.filter(|last| ration.take(Duration::from_secs(seconds), ip(*last)).is_some()).count()
        };
        assert_eq!(taken(0, 1..2, 100_000), 32);
        assert_eq!(taken(0, 2..3, 3), 3);
        assert_eq!(taken(0, 3..100_000, 1), 256 - 35);
        assert_eq!(taken(10, 3..100_000, 1), 40);
        assert!(ration.sources.len() <= SOURCES + 1);
    }

    #[test]
    fn lines_about_nobody_in_particular_are_all_passed_on() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (into, line) = (lines.clone(), "10.0.0.1:6881: dropped: broke the protocol");
        let log = rationed(Arc::new(move |line: &str| lock(&into).push(line.to_owned())));
        (0..100).for_each(|_| log("look for peers on the local network: no such device"));
        (0..100).for_each(|_| log(line));
        let lines = lock(&lines);
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (132, Some(line)));
    }
}
