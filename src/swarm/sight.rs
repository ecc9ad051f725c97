//! What whoever watches a swarm may see of it, and the one thing they may tell it: to pause.

use std::time::Duration;

use super::{PeerKey, Swarm};
use crate::torrent::Bitfield;

/// How things stand with one peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// It chokes us, and we want something of it.
    pub down: (bool, bool),
    /// We choke it, and it wants something of us.
    pub up: (bool, bool),
    /// Bytes a second, in and out.
    pub rates: (f64, f64),
    /// Bytes so far, in and out.
    pub totals: (u64, u64),
    /// Pieces that it has.
    pub pieces: u32,
}

impl Swarm {
    /// How things stand with the peer.
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

    /// The pieces that are here, or that somebody has who is connected.
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

    /// Nothing is asked for and nothing is served.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Pauses: chokes everybody, asks for nothing more, and takes what was asked for already. Or goes on.
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
