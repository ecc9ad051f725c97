//! The view of a swarm for observers, and their one command: to pause it.

use std::time::Duration;

use super::state::Swarm;
use super::types::PeerKey;
use crate::torrent::Bitfield;

/// The state of one peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// Whether it chokes us, and whether we are interested in it.
    pub down: (bool, bool),
    /// Whether we choke it, and whether it is interested in us.
    pub up: (bool, bool),
    /// Bytes a second, in and out.
    pub rates: (f64, f64),
    /// Bytes so far, in and out.
    pub totals: (u64, u64),
    /// Number of pieces that it has.
    pub pieces: u32,
}

impl Swarm {
    /// The state of a peer; `None` if it is not connected.
    pub fn sight(&self, now: Duration, key: PeerKey) -> Option<Sight> {
        let peer = &self.peers[self.find(key)?].1;
        Some(Sight {
            down: (peer.choking, peer.wanting),
            up: (peer.choked, peer.interested),
            rates: (peer.down.per_second(now), peer.up.per_second(now)),
            totals: (peer.down.total(), peer.up.total()),
            pieces: peer.have.count(),
        })
    }

    /// Time for which no block has gone to or come from the peer; zero if it is not connected.
    pub fn idle_for(&self, now: Duration, key: PeerKey) -> Duration {
        let moved = self.find(key).map(|at| &self.peers[at].1).map_or(now, |peer| peer.moved.max(peer.heard));
        now.saturating_sub(moved)
    }

    /// Pieces that are here or at a connected peer.
    pub fn reach(&self) -> Bitfield {
        if self.peers.iter().any(|(_, peer)| peer.have.is_full()) {
            return Bitfield::full(self.geometry.pieces());
        }
        let mut reach = self.have.clone();
        for piece in self.have.iter_zeros().filter(|piece| self.picker.holders(*piece) > 0) {
            reach.set(piece);
        }
        reach
    }

    /// Whether the swarm is paused: it requests nothing and serves nothing.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Pauses or goes on. A paused swarm chokes everybody and requests nothing more, but takes blocks that were
    /// requested.
    pub fn pause(&mut self, now: Duration, pause: bool) {
        self.paused = pause;
        if pause {
            for at in 0..self.peers.len() {
                if !self.peers[at].1.choked {
                    self.choke_peer(at);
                }
            }
        } else {
            self.rechoke(now);
            self.fill_idle(now);
        }
    }
}
