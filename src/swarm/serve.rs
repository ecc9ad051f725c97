//! Turns among the unchoked peers: each is sent one piece, and then the next ones are.
//!
//! Of the peers that wait for a turn, every other turn goes to the one that has least; [`super::choker`] says how many
//! turns there are at once, and [`super::slots`] who may ask at all. While peers of several addresses want one, each
//! address has one turn at a time, and a further one only of those that were added because they send more: the
//! connections of an address share what is its own.

use std::time::Duration;

use super::choker::{Choker, Turn};
use super::state::Swarm;
use super::types::{Action, Block, PeerKey};

/// A peer whose connection takes nothing for this long loses its turn.
const STALLED: Duration = Duration::from_millis(500);
/// A turn of which nothing was taken for this long leaves room for another one.
const SLOW: Duration = Duration::from_millis(250);
/// Pieces that a peer may have been given and not announced yet.
const UNANNOUNCED: u64 = 8;

impl Swarm {
    /// Returns the next block to send to the peer; `None` if it is not the peer's turn or nothing is requested. The
    /// peer's sender calls it again after each block.
    pub fn next_upload(&mut self, now: Duration, key: PeerKey) -> Option<Block> {
        let at = self.find(key)?;
        let stalled = self.peers[at].1.stalled.take().is_some();
        let Some(turn) = self.choker.turns.iter().position(|turn| turn.key == key) else {
            if stalled && !self.peers[at].1.uploads.is_empty() {
                self.schedule(now, key);
            }
            return None;
        };
        let next = if self.is_deferred(now, at) { None } else { self.peers[at].1.uploads.pop_front() };
        let Some(block) = next else {
            self.choker.turns.swap_remove(turn);
            self.line_up(at);
            self.begin_turns(now);
            return None;
        };
        let length = u64::from(block.length);
        let peer = &mut self.peers[at].1;
        let again = peer.given.has(block);
        peer.given.note(&self.geometry, block);
        self.origins.0[peer.origin].give(length, again);
        if !again {
            peer.moved = now;
        }
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
            self.line_up(at);
            self.rechoke(now);
            self.begin_turns(now);
        }
        Some(block)
    }

    /// Notes that the peer's block waits for our own limit (`true`), or has passed it: until then it is not the peer
    /// that takes nothing.
    pub fn hold(&mut self, now: Duration, key: PeerKey, held: bool) {
        if let Some(at) = self.find(key) {
            let peer = &mut self.peers[at].1;
            (peer.held, peer.moved) = (held, now);
        }
        if let Some(turn) = self.choker.turns.iter_mut().find(|turn| turn.key == key) {
            turn.moved = now;
        }
    }

    /// Puts a peer that has requests in line for a turn.
    pub(super) fn schedule(&mut self, now: Duration, key: PeerKey) {
        if self.choker.turns.iter().any(|turn| turn.key == key) {
            self.tell(key, Action::Wake);
        } else if let Some(at) = self.find(key)
            && self.peers[at].1.lined.is_none()
            && self.peers[at].1.stalled.is_none()
        {
            self.line_up(at);
            self.begin_turns(now);
        }
    }

    /// Puts the peer in line if it has requests and is not there yet.
    fn line_up(&mut self, at: usize) {
        let (key, peer) = &mut self.peers[at];
        if !peer.uploads.is_empty() && peer.lined.is_none() {
            peer.lined = Some(self.choker.places);
            self.choker.places += 1;
            self.choker.line.push_back(*key);
        }
    }

    fn begin_turns(&mut self, now: Duration) {
        let taken = |turn: &&Turn| now.saturating_sub(turn.moved) <= SLOW;
        let begun = |choker: &Choker| choker.turns.iter().filter(taken).count();
        if self.choker.line.is_empty()
            || begun(&self.choker) >= self.choker.width.max(self.choker.least(usize::MAX / 2))
        {
            return;
        }
        let rivals = self.count_turns(now);
        let least = self.choker.least(rivals);
        self.choker.share(rivals > 1 && self.origins.0.iter().any(|origin| origin.wanting > 1), least);
        let width = self.choker.width.max(least);
        let second = self.origins.0.iter().map(|origin| origin.turns.saturating_sub(1)).sum();
        let mut spare = if rivals > 1 { (width - least).saturating_sub(second) } else { width };
        while begun(&self.choker) < width {
            let Some(at) = self.next_in_line(now, rivals, spare > 0) else { break };
            self.choker.begun += 1;
            let (key, peer) = &mut self.peers[at];
            let (key, origin) = (*key, &mut self.origins.0[peer.origin]);
            spare -= usize::from(origin.turns > 0 && rivals > 1);
            origin.turns += 1;
            origin.served_at = self.choker.places;
            peer.lined = None;
            self.choker.line.retain(|waiting| *waiting != key);
            let left = u64::from(self.geometry.piece_length());
            self.choker.turns.push(Turn { key, left, moved: now });
            self.tell(key, Action::Wake);
        }
    }

    /// Counts the turns of each address, with those that its stalled peers wasted lately. Returns the number of addresses
    /// that have or want a turn.
    fn count_turns(&mut self, now: Duration) -> usize {
        let origins = &mut self.origins.0;
        for origin in origins.iter_mut() {
            (origin.turns, origin.wanting) = (usize::from(origin.is_flooded(now)), 0);
        }
        for (_, peer) in &self.peers {
            let origin = &mut origins[peer.origin];
            let stalled = peer.stalled.is_some_and(|since| origin.is_stuck(now, since));
            origin.turns += usize::from(stalled);
            origin.wanting += usize::from(peer.lined.is_some());
        }
        for turn in &self.choker.turns {
            if let Ok(at) = self.peers.binary_search_by_key(&turn.key, |(key, _)| *key) {
                let origin = &mut origins[self.peers[at].1.origin];
                origin.turns += 1;
                origin.wanting += 1;
            }
        }
        origins.iter().filter(|origin| origin.wanting > 0).count()
    }

    /// Picks the peer for the next turn of those whose addresses have fewest: every other time the one that has least,
    /// else the one whose address waits longest. So badly connected peers keep up with the others, and slow ones, which
    /// always have least, cannot hold all turns; nor can the connections of an address, which have little because they
    /// share it beside others: `rivals` addresses in all. Without a `spare` turn, only a peer whose address has none gets one.
    fn next_in_line(&self, now: Duration, rivals: usize, spare: bool) -> Option<usize> {
        let origin = |at: usize| &self.origins.0[self.peers[at].1.origin];
        let waiting = || {
            let line = self.choker.line.iter().filter_map(|key| self.find(*key));
            line.filter(|&at| (spare || origin(at).turns == 0) && !self.is_deferred(now, at))
        };
        let fewest = waiting().map(|at| origin(at).turns).min()?;
        let waiting = || waiting().filter(|&at| origin(at).turns == fewest);
        let mut next = None;
        if self.choker.begun.is_multiple_of(2) {
            let alone = waiting().filter(|&at| rivals <= 1 || origin(at).unchoked + origin(at).waiting <= 1);
            next = alone.min_by_key(|&at| self.pieces_of(at));
        }
        next.or_else(|| waiting().min_by_key(|&at| self.peers[at].1.lined.max(Some(origin(at).served_at))))
    }

    /// Number of pieces that the peer has; at the most for one that never announces what it is given.
    fn pieces_of(&self, at: usize) -> u32 {
        let (peer, piece) = (&self.peers[at].1, u64::from(self.geometry.piece_length()));
        let silent = peer.up.total() > (u64::from(peer.have.count()) + UNANNOUNCED) * piece;
        if silent { u32::MAX } else { peer.have.count() }
    }

    /// Whether the peer's next block waits because it asks for the same again and again while others want something.
    fn is_deferred(&self, now: Duration, at: usize) -> bool {
        let peer = &self.peers[at].1;
        self.origins.0[peer.origin].repeats(now, self.geometry.piece_length())
            && peer.uploads.front().is_some_and(|block| peer.given.has(*block))
            && self
                .peers
                .iter()
                .map(|(_, other)| other)
                .any(|other| other.origin != peer.origin && !other.choked && !self.is_dormant(now, other))
    }

    /// Ends the turns of peers that take nothing, and reviews the number of turns.
    pub(super) fn review_turns(&mut self, now: Duration) {
        while let Some(turn) = self.choker.turns.iter().position(|turn| now.saturating_sub(turn.moved) > STALLED) {
            let key = self.choker.turns.swap_remove(turn).key;
            let Some(at) = self.find(key) else { continue };
            let peer = &mut self.peers[at].1;
            if peer.held {
                self.line_up(at);
            } else {
                // It gets another one once it has taken its last.
                peer.stalled = Some(now);
                self.origins.0[peer.origin].stall();
            }
        }
        let rivals = if self.choker.line.is_empty() { 0 } else { self.count_turns(now) };
        self.choker.review(now, rivals);
        self.begin_turns(now);
    }
}
