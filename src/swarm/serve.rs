//! The choice of peers to serve: unchoke slots, and turns among the unchoked.
//!
//! A slot is BEP 3's unchoke. A leecher gives its slots to the peers that give it most (tit-for-tat) and keeps every
//! fourth for the one that has waited longest (the optimistic one); a seeder serves in turn. A slot ends after one
//! piece if another peer waits for it, but never within a piece: half a piece helps nobody.
//!
//! Of the peers that wait for a turn, every other turn goes to the one that has least; [`super::choker`] says how many
//! turns there are at once.

use std::time::Duration;

use super::choker::Turn;
use super::peer::Peer;
use super::state::Swarm;
use super::types::{Action, Block, PeerKey};

/// A peer whose connection takes nothing for this long loses its turn.
const STALLED: Duration = Duration::from_millis(500);
/// Fewest and most unchoke slots when they follow the rate.
const SLOTS: (usize, usize) = (6, 64);
/// Time in which the peer of a slot should get a piece, seconds.
const PIECE_TIME: f64 = 1.0;

impl Swarm {
    /// Returns the next block to send to the peer; `None` if it is not the peer's turn or nothing is requested. The
    /// peer's sender calls it again after each block.
    pub fn next_upload(&mut self, now: Duration, key: PeerKey) -> Option<Block> {
        let at = self.find(key)?;
        let turn = self.choker.turns.iter().position(|turn| turn.key == key)?;
        let peer = &mut self.peers[at].1;
        let Some(block) = peer.uploads.pop_front() else {
            self.choker.turns.swap_remove(turn);
            self.begin_turns(now);
            return None;
        };
        let length = u64::from(block.length);
        peer.up.add(now, length);
        peer.served += length;
        peer.sending = Some(block.piece);
        self.up.add(now, length);
        self.totals.uploaded += length;
        self.choker.sent += length;
        let current = &mut self.choker.turns[turn];
        current.moved = now;
        current.left = current.left.saturating_sub(length);
        if current.left == 0 {
            self.choker.turns.swap_remove(turn);
            if !self.peers[at].1.uploads.is_empty() {
                self.choker.line.push_back(key);
            }
            self.rechoke(now);
            self.begin_turns(now);
        }
        Some(block)
    }

    /// Puts a peer that has requests in line for a turn.
    pub(super) fn schedule(&mut self, now: Duration, key: PeerKey) {
        let choker = &mut self.choker;
        if choker.turns.iter().any(|turn| turn.key == key) {
            self.tell(key, Action::Wake);
        } else if !choker.line.contains(&key) {
            choker.line.push_back(key);
            self.begin_turns(now);
        }
    }

    fn begin_turns(&mut self, now: Duration) {
        let width = self.choker.width.max(self.choker.least());
        while self.choker.turns.len() < width {
            let Some(key) = self.next_in_line() else { break };
            let left = u64::from(self.geometry.piece_length());
            self.choker.turns.push(Turn { key, left, moved: now });
            self.tell(key, Action::Wake);
        }
    }

    /// Picks the peer for the next turn: every other time the one that has least, else the one that waits longest.
    /// So badly connected peers keep up with the others, and slow ones, which always have least, cannot hold all
    /// turns.
    fn next_in_line(&mut self) -> Option<PeerKey> {
        let choker = &mut self.choker;
        choker.begun += 1;
        if choker.begun.is_multiple_of(2) {
            return choker.line.pop_front();
        }
        let pieces = |key: &PeerKey| {
            let at = self.peers.binary_search_by_key(key, |(key, _)| *key).ok()?;
            Some(self.peers[at].1.have.count())
        };
        let (at, _) = choker.line.iter().enumerate().min_by_key(|(_, key)| pieces(key))?;
        choker.line.remove(at)
    }

    /// Ends the turns of peers that take nothing, and reviews the number of turns.
    pub(super) fn review_turns(&mut self, now: Duration) {
        while let Some(at) = self.choker.turns.iter().position(|turn| now.saturating_sub(turn.moved) > STALLED) {
            let key = self.choker.turns.swap_remove(at).key;
            // It gets another one once it has taken its last.
            if self.find(key).is_some_and(|at| !self.peers[at].1.uploads.is_empty()) {
                self.choker.line.push_back(key);
            }
            if self.choker.line.front() == Some(&key) {
                break;
            }
        }
        self.choker.review(now);
        self.begin_turns(now);
    }

    fn slots(&self, now: Duration) -> usize {
        self.config.slots.unwrap_or_else(|| {
            let pieces = self.up.per_second(now) * PIECE_TIME / f64::from(self.geometry.piece_length());
            (pieces as usize).clamp(SLOTS.0, SLOTS.1).max(self.choker.width + 2)
        })
    }

    /// Gives out slots: to all interested peers if there are enough, else by rank and in turn.
    pub(super) fn rechoke(&mut self, now: Duration) {
        let slots = if self.config.upload && !self.paused { self.slots(now) } else { 0 };
        for at in 0..self.peers.len() {
            if !self.peers[at].1.choked && !self.peers[at].1.interested {
                self.choke_peer(at);
            }
        }
        let mut taken = self.peers.iter().filter(|(_, peer)| !peer.choked).count();
        let waiting = self.peers.iter().filter(|(_, peer)| peer.choked && peer.interested).count();
        if waiting > 0 && taken + waiting > slots {
            let piece = u64::from(self.geometry.piece_length());
            let excess = (taken + waiting).saturating_sub(slots).min(waiting);
            let done = |peer: &Peer| !peer.choked && peer.served >= if peer.is_amid() { 2 * piece } else { piece };
            for _ in 0..excess {
                // Of those that had their piece, the one that gives us least makes room.
                let ranked = (0..self.peers.len()).filter(|&at| done(&self.peers[at].1));
                let Some(at) = ranked.min_by(|&a, &b| self.gives(now, a).total_cmp(&self.gives(now, b))) else { break };
                self.choke_peer(at);
                taken -= 1;
            }
        }
        while taken < slots {
            let waiting = (0..self.peers.len()).filter(|&at| {
                let peer = &self.peers[at].1;
                peer.choked && peer.interested
            });
            let optimistic = self.is_sated() || self.choker.given % 4 == 3;
            let next = if optimistic {
                waiting.min_by_key(|&at| self.peers[at].1.choked_since)
            } else {
                waiting.min_by(|&a, &b| {
                    let since = |at: usize| self.peers[at].1.choked_since;
                    self.gives(now, b).total_cmp(&self.gives(now, a)).then(since(a).cmp(&since(b)))
                })
            };
            let Some(at) = next else { break };
            self.choker.given += 1;
            let (key, peer) = &mut self.peers[at];
            peer.choked = false;
            peer.served = 0;
            let key = *key;
            self.tell(key, Action::Unchoke);
            taken += 1;
        }
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
        let fast = peer.traits.fast;
        let queued = std::mem::take(&mut peer.uploads);
        let begun = peer.sending;
        self.choker.forget(key);
        // It will come back for the piece it got a part of.
        self.spread.take_back(key, |piece| Some(piece) != begun);
        self.tell(key, Action::Choke);
        if fast {
            queued.into_iter().for_each(|block| self.tell(key, Action::Reject(block)));
        }
    }
}
