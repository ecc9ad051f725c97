//! The choice of peers to connect to, among the addresses that trackers, peers and the local network gave.
//!
//! Each peer dials six random ones whoever dials it, so the connections of a room make a well mixed graph in which
//! every peer has about twelve. (If peers stopped dialling once enough others had dialled them, the first would have
//! fifty and the last ten, and those with ten would be served less.) Failed addresses are tried again at growing
//! intervals.
//!
//! Our own address serves to rank connections by canonical priority (BEP 40) when there are too many. Addresses to
//! dial are not ranked: peers that are among each other's six best would dial each other, and all would have fewer
//! connections.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::rng::Rng;

/// Connections that we dial, however many others dial us.
const DIALLED: usize = 6;
/// With fewer connections than this we dial more, one at a time: others may yet dial us.
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
    /// Connected; true if we dialled.
    Connected(bool),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    failures: u32,
    /// Whether it had everything when last seen.
    whole: bool,
}

/// Known addresses of a swarm and their states.
#[derive(Debug)]
pub struct Roster {
    entries: HashMap<SocketAddr, Entry>,
    banned: HashSet<IpAddr>,
    us: Option<SocketAddr>,
    rng: Rng,
    patient: Duration,
}

impl Roster {
    /// Creates a roster without addresses.
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

    /// Notes `address` as the one others know us by.
    pub fn we_are(&mut self, address: SocketAddr) {
        self.us = Some(address);
    }

    /// Adds `address`; true if it is new.
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

    /// Returns an address to dial now, if any, given the number of `connections` and whether everything is here
    /// (`whole`).
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

    /// Notes that a connection to `address` is up, whoever dialled.
    pub fn connected(&mut self, address: SocketAddr) {
        self.add(address);
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.state = State::Connected(entry.state == State::Dialling);
            entry.failures = 0;
        }
    }

    /// Notes that the connection to `address` ended or never came up (`failed`), and whether the peer had everything
    /// (`whole`).
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

    /// Forgets `address`: our own, or one that gives nothing.
    pub fn forget(&mut self, address: SocketAddr) {
        self.entries.remove(&address);
    }

    /// Refuses this address from now on.
    pub fn ban(&mut self, ip: IpAddr) {
        self.banned.insert(ip);
        self.entries.retain(|address, _| address.ip() != ip);
    }

    /// Whether the address is refused.
    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.contains(&ip)
    }

    /// Number of connections that are being made.
    pub fn dialling(&self) -> usize {
        self.entries.values().filter(|entry| entry.state == State::Dialling).count()
    }

    /// Number of known addresses without a connection.
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
