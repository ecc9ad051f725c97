//! Addresses that peers connect from: what we give is shared among addresses first, so that nobody gains by many
//! connections.

use std::net::IpAddr;
use std::time::Duration;

/// Addresses without connections that are remembered.
const REMEMBERED: usize = 256;
/// Time for which a connection that takes nothing any more stands for its address, so that the next one waits;
/// doubled with each further one, …
const STALL: Duration = Duration::from_secs(5);
/// … up to this often, …
const DOUBLED: u32 = 6;
/// … and forgotten once the address has taken this many bytes: more than fit into buffers on the way.
const CALM: u64 = 4 << 20;
/// Pieces that an address may have again at once, and the seconds in which it may have one more.
const AT_ONCE: f64 = 0.25;
const AGAIN: f64 = 60.0;

/// An address, and what was given to it.
#[derive(Debug)]
pub struct Origin {
    /// `None` for a peer that stands for itself.
    ip: Option<IpAddr>,
    peers: u32,
    since: Duration,
    left: Duration,
    /// Its peers with a slot, and those that wait for one; as last counted.
    pub unchoked: usize,
    pub waiting: usize,
    /// Time at which one of its peers lost a slot, on the swarm's own count of chokes.
    pub choked_at: u64,
    /// Whether a peer of it that takes nothing any more keeps the others waiting; as last counted.
    pub stuck: bool,
    /// Its peers that are sent to or no longer take anything, and those that are sent to or want to be; as last counted.
    pub turns: usize,
    pub wanting: usize,
    /// Number of the place in line that was next when it got its last turn.
    pub served_at: u64,
    /// Bytes given for the first time, and bytes given again to the same peer.
    fresh: u64,
    again: u64,
    /// Connections that stopped taking, and the bytes that were `fresh` at the last one.
    stalls: u32,
    fresh_then: u64,
    /// Time at which one of its peers last asked for more than it may.
    flooded: Option<Duration>,
}

impl Origin {
    /// Counts bytes that one of its peers is given, which it may have been given before (`again`).
    pub fn give(&mut self, bytes: u64, again: bool) {
        if again {
            self.again += bytes;
            return;
        }
        self.fresh += bytes;
        if self.fresh - self.fresh_then > CALM {
            self.stalls = 0;
        }
    }

    /// Whether it was given too much again: more than a quarter of a piece of `piece` bytes, another piece a minute and an
    /// eighth of the rest, as a peer needs that failed to store some.
    pub fn repeats(&self, now: Duration, piece: u32) -> bool {
        if self.again == 0 {
            return false;
        }
        let pieces = AT_ONCE + now.saturating_sub(self.since).as_secs_f64() / AGAIN;
        self.again > self.fresh / 8 + (f64::from(piece) * pieces) as u64
    }

    /// Notes that one of its peers takes nothing any more.
    pub fn stall(&mut self) {
        (self.stalls, self.fresh_then) = ((self.stalls + 1).min(DOUBLED), self.fresh);
    }

    /// Notes that one of its peers asked for more than it may and was dropped, which also keeps the next one waiting.
    pub fn flood(&mut self, now: Duration) {
        self.stall();
        self.flooded = Some(now);
    }

    /// Whether a peer that was dropped keeps the others waiting.
    pub fn is_flooded(&self, now: Duration) -> bool {
        self.flooded.is_some_and(|since| self.is_stuck(now, since))
    }

    /// Whether such a peer, since then, still stands for the address.
    pub fn is_stuck(&self, now: Duration, since: Duration) -> bool {
        now.saturating_sub(since) < STALL * (1 << self.stalls.saturating_sub(1))
    }
}

/// All addresses with peers, and some without.
#[derive(Debug, Default)]
pub struct Origins(pub Vec<Origin>);

impl Origins {
    /// Returns the index of the address `ip` of one more peer; `None`: one that no other peer has.
    pub fn enter(&mut self, now: Duration, ip: Option<IpAddr>) -> usize {
        if let Some(at) = self.0.iter().position(|origin| ip.is_some() && origin.ip == ip) {
            self.0[at].peers += 1;
            return at;
        }
        let (unchoked, waiting, choked_at, stuck, turns, wanting, served_at) = (0, 0, 0, false, 0, 0, 0);
        let (fresh, again, stalls, fresh_then) = (0, 0, 0, 0);
        let origin = Origin {
            ip,
            peers: 1,
            since: now,
            left: now,
            unchoked,
            waiting,
            choked_at,
            stuck,
            turns,
            wanting,
            served_at,
            fresh,
            again,
            stalls,
            fresh_then,
            flooded: None,
        };
        let empty = || self.0.iter().enumerate().filter(|(_, origin)| origin.peers == 0);
        let oldest = empty().min_by_key(|(_, origin)| (origin.ip.is_some(), origin.left)).map(|(at, _)| at);
        match oldest.filter(|&at| self.0[at].ip.is_none() || empty().count() >= REMEMBERED) {
            Some(at) => {
                self.0[at] = origin;
                at
            }
            None => {
                self.0.push(origin);
                self.0.len() - 1
            }
        }
    }

    /// Notes that a peer of the address with this index is gone.
    pub fn leave(&mut self, now: Duration, at: usize) {
        self.0[at].peers -= 1;
        self.0[at].left = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_remembered_while_few_others_come_and_its_place_is_used_again() {
        let mut origins = Origins::default();
        let ip = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let first = origins.enter(Duration::ZERO, ip(1));
        assert_eq!(origins.enter(Duration::ZERO, ip(1)), first);
        let alone = origins.enter(Duration::ZERO, None);
        assert_ne!(origins.enter(Duration::ZERO, None), alone);
        origins.leave(Duration::ZERO, alone);
        assert_eq!(origins.enter(Duration::ZERO, None), alone);
        origins.0[first].stall();
        (0..2).for_each(|_| origins.leave(Duration::from_secs(1), first));
        for n in 2..10_000 {
            let at = origins.enter(Duration::from_secs(2), ip(n));
            origins.leave(Duration::from_secs(2), at);
            if n == 200 {
                assert_eq!(origins.enter(Duration::from_secs(2), ip(1)), first);
                assert_eq!(origins.0[first].stalls, 1);
                origins.leave(Duration::from_secs(2), first);
            }
        }
        assert!(origins.0.len() < REMEMBERED + 10, "{}", origins.0.len());
    }
}
