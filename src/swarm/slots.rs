//! Unchoke slots (BEP 3): which peers may ask us for blocks.
//!
//! A leecher gives its slots to the peers that give it most (tit-for-tat) and keeps every fourth for the one that has
//! waited longest (the optimistic one); a seeder serves in turn. A slot ends after one piece if another peer waits for
//! it, but never within a piece: half a piece helps nobody.
//!
//! Slots are shared among addresses first, and within an address among its peers: a peer makes no room for one whose
//! address holds as many slots besides. A slot counts only while its peer takes blocks or waits for them. One that asks
//! for nothing, or takes nothing, keeps nobody out; it may still ask, and counts again when it does.

use std::time::Duration;

use super::peer::Peer;
use super::state::Swarm;
use super::types::{Action, Block};

/// Fewest and most unchoke slots when they follow the rate.
const SLOTS: (usize, usize) = (6, 64);
/// Time in which the peer of a slot should get a piece, seconds.
const PIECE_TIME: f64 = 1.0;
/// Time without a request or a block after which a slot no longer counts.
const DORMANT: Duration = Duration::from_millis(250);

impl Swarm {
    fn slots(&self, now: Duration) -> usize {
        self.config.slots.unwrap_or_else(|| {
            let pieces = self.up.per_second(now) * PIECE_TIME / f64::from(self.geometry.piece_length());
            (pieces as usize).clamp(SLOTS.0, SLOTS.1).max(self.choker.width + 2)
        })
    }

    /// Whether the peer has a slot and neither takes blocks nor waits for them.
    pub(super) fn is_dormant(&self, now: Duration, peer: &Peer) -> bool {
        let waits = || {
            let origin = &self.origins.0[peer.origin];
            let served = !origin.stuck && !origin.repeats(now, self.geometry.piece_length());
            peer.held || peer.lined.is_some() && !peer.uploads.is_empty() && served
        };
        now.saturating_sub(peer.moved) > DORMANT && !waits()
    }

    /// Counts the slots that matter and the peers that wait for one, by address and in all.
    fn count_slots(&mut self, now: Duration) -> (usize, usize) {
        let (mut taken, mut waiting) = (0, 0);
        let origins = &mut self.origins.0;
        for origin in origins.iter_mut() {
            (origin.unchoked, origin.waiting, origin.stuck) = (0, 0, origin.is_flooded(now));
        }
        for (_, peer) in &self.peers {
            origins[peer.origin].stuck |= peer.stalled.is_some_and(|since| origins[peer.origin].is_stuck(now, since));
        }
        for (_, peer) in &self.peers {
            if !peer.choked {
                taken += usize::from(!self.is_dormant(now, peer));
                self.origins.0[peer.origin].unchoked += 1;
            } else if peer.interested {
                waiting += 1;
                self.origins.0[peer.origin].waiting += 1;
            }
        }
        (taken, waiting)
    }

    /// Gives out slots: to all interested peers if there are enough, else by rank and in turn.
    pub(super) fn rechoke(&mut self, now: Duration) {
        let slots = if self.config.upload && !self.paused { self.slots(now) } else { 0 };
        for at in 0..self.peers.len() {
            if !self.peers[at].1.choked && !self.peers[at].1.interested {
                self.choke_peer(at);
            }
        }
        let (mut taken, waiting) = self.count_slots(now);
        let excess = (taken + waiting).saturating_sub(slots).min(waiting);
        for _ in 0..excess {
            let Some(at) = self.who_makes_room(now) else { break };
            self.choke_peer(at);
            let origin = &mut self.origins.0[self.peers[at].1.origin];
            origin.unchoked -= 1;
            origin.waiting += 1;
            taken -= 1;
        }
        while waiting > 0 && taken < slots {
            let Some(at) = self.who_is_next(now) else { break };
            self.choker.given += 1;
            let (key, peer) = &mut self.peers[at];
            peer.choked = false;
            peer.served = 0;
            peer.moved = now;
            let origin = &mut self.origins.0[peer.origin];
            origin.unchoked += 1;
            origin.waiting -= 1;
            let key = *key;
            self.tell(key, Action::Unchoke);
            taken += 1;
        }
    }

    /// Of the peers that had their piece, the one that gives us least makes room; but only for a peer of its own
    /// address or of one that holds fewer slots.
    fn who_makes_room(&self, now: Duration) -> Option<usize> {
        let piece = u64::from(self.geometry.piece_length());
        let origins = &self.origins.0;
        let lowest = origins.iter().filter(|origin| origin.waiting > 0).map(|origin| origin.unchoked).min()?;
        let may = |peer: &Peer| {
            let done = !peer.choked && peer.served >= if peer.is_amid() { 2 * piece } else { piece };
            let origin = &origins[peer.origin];
            done && (origin.waiting > 0 || lowest < origin.unchoked) && !self.is_dormant(now, peer)
        };
        let ranked = (0..self.peers.len()).filter(|&at| may(&self.peers[at].1));
        ranked.min_by(|&a, &b| self.gives(now, a).total_cmp(&self.gives(now, b)))
    }

    /// The waiting peer that gets the next slot: of those whose addresses hold fewest, by rank or in turn.
    fn who_is_next(&self, now: Duration) -> Option<usize> {
        let waits = |peer: &Peer| peer.choked && peer.interested;
        let holds = |peer: &Peer| self.origins.0[peer.origin].unchoked;
        let fewest = self.peers.iter().map(|(_, peer)| peer).filter(|peer| waits(peer)).map(holds).min()?;
        let waiting = (0..self.peers.len()).filter(|&at| {
            let peer = &self.peers[at].1;
            waits(peer) && holds(peer) == fewest
        });
        let since = |at: usize| {
            let peer = &self.peers[at].1;
            // It has waited no longer than its address.
            (peer.choked_since.max(self.origins.0[peer.origin].choked_at), peer.choked_since)
        };
        if self.is_sated() || self.choker.given % 4 == 3 {
            return waiting.min_by_key(|&at| since(at));
        }
        waiting.min_by(|&a, &b| self.gives(now, b).total_cmp(&self.gives(now, a)).then(since(a).cmp(&since(b))))
    }

    /// Bytes a second that the peer gives us; 0 for all once we lack nothing, so that all rank alike.
    fn gives(&self, now: Duration, at: usize) -> f64 {
        if self.is_sated() { 0.0 } else { self.peers[at].1.down.per_second(now) }
    }

    pub(super) fn choke_peer(&mut self, at: usize) {
        self.clock += 1;
        let (key, peer) = &mut self.peers[at];
        let key = *key;
        peer.choked = true;
        peer.choked_since = self.clock;
        self.origins.0[peer.origin].choked_at = self.clock;
        peer.lined = None;
        let fast = peer.traits.fast;
        let queued = std::mem::take(&mut peer.uploads);
        let begun = peer.sending;
        self.choker.forget(key);
        // It will come back for the piece it got a part of.
        self.spread.take_back(key, |piece| Some(piece) != begun);
        self.tell(key, Action::Choke);
        if fast {
            queued.into_iter().for_each(|block: Block| self.tell(key, Action::Reject(block)));
        }
    }
}
