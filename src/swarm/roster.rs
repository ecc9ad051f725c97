//! Whom to connect to: the addresses that trackers, peers and the local network told of.
//!
//! Each peer dials six random ones whoever dials it, so the connections of a room make a well mixed graph in which
//! all have about twelve. (Who stops dialling when enough others have dialled it leaves the first ones with fifty
//! and the last ones with ten, and those with ten are served less.) Who fails is tried again later and later.
//!
//! Our own address is for ranking connections by canonical priority (BEP 40) when there are too many. Whom to dial is
//! not ranked: two that each other's six best are would dial each other, and all would have fewer connections.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::rng::Rng;

/// Connections that we dial, however many others dial us.
const DIALLED: usize = 6;
/// With fewer connections than this we dial more, one in a while: others may yet dial us.
const WANTED: usize = 9;
const WHILE: Duration = Duration::from_secs(1);
/// Addresses kept; more than any lab has.
const KNOWN: usize = 4096;
/// Connection attempts under way at once.
const DIALLING: usize = 8;
/// Pause after the first failure; doubled with each further one.
const RETRY: Duration = Duration::from_secs(2);
/// An address that failed this often in a row is forgotten.
const FAILURES: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle {
        not_before: Duration,
    },
    Dialling,
    /// True: we dialled it.
    Connected(bool),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    failures: u32,
    /// It was whole when last seen.
    whole: bool,
}

/// Known addresses of a swarm and what became of them.
#[derive(Debug)]
pub struct Roster {
    entries: HashMap<SocketAddr, Entry>,
    banned: HashSet<IpAddr>,
    us: Option<SocketAddr>,
    rng: Rng,
    patient: Duration,
}

impl Roster {
    /// Knows nobody yet.
    pub fn new(seed: u64) -> Roster {
        Roster {
            entries: HashMap::new(),
            banned: HashSet::new(),
            us: None,
            rng: Rng::new(seed),
            patient: Duration::ZERO,
        }
    }

    /// Our own address, as far as it is known.
    pub fn us(&self) -> Option<SocketAddr> {
        self.us
    }

    /// Others know us by `address`.
    pub fn we_are(&mut self, address: SocketAddr) {
        self.us = Some(address);
    }

    /// Somebody told of `address`. Gives true when it is news.
    pub fn add(&mut self, address: SocketAddr) -> bool {
        if address.port() == 0 || address.ip().is_unspecified() || self.banned.contains(&address.ip()) {
            return false;
        }
        if self.entries.len() >= KNOWN || self.entries.contains_key(&address) {
            return false;
        }
        let state = State::Idle { not_before: Duration::ZERO };
        self.entries.insert(address, Entry { state, failures: 0, whole: false });
        true
    }

    /// An address to dial now, given that there are `connections` and whether everything is here already.
    pub fn next_dial(&mut self, now: Duration, connections: usize, whole: bool) -> Option<SocketAddr> {
        let dialling = self.dialling();
        let ours = self.entries.values().filter(|entry| entry.state == State::Connected(true)).count();
        let few = connections + dialling < WANTED && now >= self.patient;
        if (ours + dialling >= DIALLED && !few) || dialling >= DIALLING {
            return None;
        }
        let ready = |entry: &Entry| match entry.state {
            State::Idle { not_before } => not_before <= now && !(whole && entry.whole),
            _ => false,
        };
        let ready: Vec<SocketAddr> = self.entries.iter().filter(|(_, entry)| ready(entry)).map(|(at, _)| *at).collect();
        let address = *ready.get(self.rng.below(ready.len() as u64) as usize)?;
        self.entries.get_mut(&address)?.state = State::Dialling;
        self.patient = now + WHILE;
        Some(address)
    }

    /// A connection to `address` is up, whoever dialled it.
    pub fn connected(&mut self, address: SocketAddr) {
        self.add(address);
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.state = State::Connected(entry.state == State::Dialling);
            entry.failures = 0;
        }
    }

    /// The connection to `address` ended, or never came up (`failed`). `whole`: it had everything.
    pub fn gone(&mut self, now: Duration, address: SocketAddr, failed: bool, whole: bool) {
        let Some(entry) = self.entries.get_mut(&address) else { return };
        entry.whole |= whole;
        entry.failures = if failed { entry.failures + 1 } else { 0 };
        if entry.failures >= FAILURES {
            self.entries.remove(&address);
        } else {
            entry.state = State::Idle { not_before: now + RETRY * (1 << entry.failures) };
        }
    }

    /// `address` is ourselves, or nothing is to be had there: forget it.
    pub fn forget(&mut self, address: SocketAddr) {
        self.entries.remove(&address);
    }

    /// Refuses everything from this address from now on.
    pub fn ban(&mut self, ip: IpAddr) {
        self.banned.insert(ip);
        self.entries.retain(|address, _| address.ip() != ip);
    }

    /// The address is refused.
    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.contains(&ip)
    }

    /// Connections that are being made.
    pub fn dialling(&self) -> usize {
        self.entries.values().filter(|entry| entry.state == State::Dialling).count()
    }

    /// Addresses known and not connected.
    pub fn spare(&self) -> usize {
        self.entries.values().filter(|entry| !matches!(entry.state, State::Connected(_))).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 2706))
    }

    #[test]
    fn it_dials_six_and_then_one_by_one_until_there_are_connections_enough() {
        let mut roster = Roster::new(1);
        (1..40).for_each(|last| assert!(roster.add(address(last))));
        let mut dial_all = |seconds, connections| {
            let now = Duration::from_secs(seconds);
            let dialled: Vec<_> = std::iter::from_fn(|| roster.next_dial(now, connections, false)).collect();
            dialled.iter().for_each(|address| roster.connected(*address));
            dialled.len()
        };
        assert_eq!(dial_all(1, 0), DIALLED);
        // Nobody has dialled us yet: one more at a time, until there are connections enough.
        assert_eq!([dial_all(1, 6), dial_all(2, 6), dial_all(3, WANTED)], [0, 1, 0]);
    }

    #[test]
    fn a_failure_is_tried_again_later_and_in_the_end_forgotten() {
        let mut roster = Roster::new(1);
        roster.add(address(1));
        let mut now = Duration::ZERO;
        for _ in 0..FAILURES {
            now += Duration::from_secs(1000);
            assert_eq!(roster.next_dial(now, 0, false), Some(address(1)));
            roster.gone(now, address(1), true, false);
            assert_eq!(roster.next_dial(now, 0, false), None);
        }
        assert_eq!(roster.next_dial(now + Duration::from_secs(1000), 0, false), None);
    }

    #[test]
    fn two_that_are_whole_do_not_meet_again_and_a_banned_address_never() {
        let mut roster = Roster::new(1);
        roster.add(address(1));
        roster.gone(Duration::ZERO, address(1), false, true);
        assert_eq!(roster.next_dial(Duration::from_secs(60), 0, true), None);
        assert_eq!(roster.next_dial(Duration::from_secs(60), 0, false), Some(address(1)));
        roster.ban(address(2).ip());
        assert!(!roster.add(address(2)));
    }
}
