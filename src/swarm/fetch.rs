//! Requests to peers and web seeds: their number, their blocks, and the fate of those that are not answered.

use std::time::Duration;

use super::partial;
use super::peer::{Held, Request};
use super::rarity::Rarity;
use super::state::Swarm;
use super::types::{Action, Block, FRIEND_REQUEST, PeerKey};
use crate::torrent::{BLOCK, Geometry};

/// Seconds of a peer's sending that requests cover: a round trip behind the full queue of a switch, and the pause
/// until its next turn.
const AHEAD: f64 = 0.15;
/// The same for strangers that say how many requests they take: transmission looks at them twice a second, and with
/// fewer waiting it gives 0.5 MB/s instead of 3.
const AHEAD_STRANGER: f64 = 1.0;
/// Bytes to request ahead before a peer's rate is known, and at the least.
const AHEAD_LEAST: u64 = 16 * BLOCK as u64;
/// Peers that the same block is requested from in the endgame.
const ENDGAME_ASKERS: u8 = 2;
/// Bytes to request ahead from one peer in the endgame.
const ENDGAME_AHEAD: u64 = 8 * BLOCK as u64;

impl Swarm {
    /// Requests more from the peer, up to what its rate and its queue allow.
    pub(super) fn fill(&mut self, now: Duration, at: usize) {
        let peer = &self.peers[at].1;
        if self.paused || peer.choking || peer.useful == 0 {
            return;
        }
        if peer.source.is_some() {
            return self.fill_source(now, at);
        }
        let rate = peer.down.per_second(now);
        let time = if peer.told_queue && !peer.traits.is_friend() { AHEAD_STRANGER } else { AHEAD };
        let ahead = if peer.snubbed { u64::from(BLOCK) } else { ((rate * time) as u64).max(AHEAD_LEAST) };
        let most = ((rate * self.config.request_time) as u32).clamp(BLOCK, peer.traits.max_request) / BLOCK;
        while self.peers[at].1.requested < ahead
            && self.peers[at].1.requests.len() < self.peers[at].1.traits.queue as usize
        {
            let Some(block) = self.pick(at, most, |_, _| true).or_else(|| self.pick_again(at)) else { break };
            self.ask(now, at, block);
        }
    }

    /// Requests about one piece ahead from a web seed, if it is needed.
    fn fill_source(&mut self, now: Duration, at: usize) {
        let Some(source) = self.peers[at].1.source else { return };
        if source.is_new(now) {
            return;
        }
        let peers = || self.peers.iter().map(|(_, peer)| peer).filter(|peer| peer.source.is_none());
        let given: f64 = peers().map(|peer| peer.down.per_second(now)).sum();
        let slow = source.is_needed(now, given);
        let elsewhere = peers().any(|peer| peer.counted_as_seed);
        if self.peers[at].1.requests.is_empty()
            && let Some(source) = &mut self.peers[at].1.source
        {
            source.begin(now);
        }
        let ahead = match self.peers[at].1.snubbed {
            true => u64::from(BLOCK),
            false => u64::from(self.geometry.piece_length().max(FRIEND_REQUEST)),
        };
        while self.peers[at].1.requested < ahead {
            let suits = |rarity: &Rarity, piece| slow || !elsewhere && rarity.count(piece) == 0;
            let Some(block) = self.pick(at, FRIEND_REQUEST / BLOCK, suits) else { break };
            self.ask(now, at, block);
        }
    }

    /// Requests `block` from the peer.
    fn ask(&mut self, now: Duration, at: usize, block: Block) {
        let (key, peer) = &mut self.peers[at];
        if peer.requests.is_empty() {
            peer.heard = now;
        }
        peer.requested += u64::from(block.length);
        peer.requests.push_back(Request { block, held: Held::Waiting });
        let key = *key;
        self.tell(key, Action::Request(block));
    }

    /// Requests blocks from every idle peer that can give some.
    pub(super) fn fill_idle(&mut self, now: Duration) {
        for at in 0..self.peers.len() {
            let peer = &self.peers[at].1;
            if peer.requests.is_empty() && !peer.choking && peer.useful > 0 {
                self.fill(now, at);
            }
        }
    }

    /// Picks the next run of at most `most` blocks to request from the peer: of the piece it is at, else of one that
    /// `suits`.
    fn pick(&mut self, at: usize, most: u32, suits: impl Fn(&Rarity, u32) -> bool) -> Option<Block> {
        let geometry = self.geometry;
        let peer = &mut self.peers[at].1;
        if let Some(piece) = peer.fetching {
            let partial = self.picker.partial(piece);
            if let Some(run) = partial.and_then(|partial| partial.take_free(most)) {
                return Some(block_of(&geometry, piece, run));
            }
            peer.fetching = None;
            if let Some(partial) = self.picker.partial(piece) {
                partial.workers -= 1;
            }
        }
        let gives = |rarity: &Rarity, piece| peer.have.get(piece) && !peer.refuses(piece) && suits(rarity, piece);
        let partial = self.picker.choose(gives)?;
        partial.workers += 1;
        peer.fetching = Some(partial.piece);
        let piece = partial.piece;
        partial.take_free(most).map(|run| block_of(&geometry, piece, run))
    }

    fn pick_again(&mut self, at: usize) -> Option<Block> {
        let peer = &self.peers[at].1;
        if peer.requested >= ENDGAME_AHEAD || !self.picker.is_endgame() {
            return None;
        }
        let geometry = self.geometry;
        let mine = |piece: u32, block: u32| {
            peer.requests.iter().any(|request| {
                let (first, run) = partial::blocks(request.block.begin, request.block.length);
                request.block.piece == piece && (first..first + run).contains(&block)
            })
        };
        let start = self.rng.below(self.picker.partials.len() as u64) as usize;
        let (before, after) = self.picker.partials.split_at_mut(start);
        let mut candidates =
            after.iter_mut().chain(before).filter(|partial| peer.have.get(partial.piece) && !partial.verifying);
        let (piece, block) = candidates.find_map(|partial| {
            let piece = partial.piece;
            partial.take_again(ENDGAME_ASKERS, |block| mine(piece, block)).map(|block| (piece, block))
        })?;
        self.picker.doubled = true;
        Some(block_of(&geometry, piece, (block, 1)))
    }

    /// Frees the peer's requests, which it will not serve, for others.
    pub(super) fn release_all(&mut self, at: usize) {
        while let Some(request) = self.peers[at].1.requests.pop_front() {
            self.peers[at].1.requested -= u64::from(request.block.length);
            if request.held == Held::Waiting {
                self.give_up(request.block);
            }
        }
        self.stop_fetching(at);
    }

    /// Lets others be asked for a late peer's blocks; those it still sends are welcome.
    pub(super) fn doubt(&mut self, at: usize) {
        for index in 0..self.peers[at].1.requests.len() {
            let request = &mut self.peers[at].1.requests[index];
            if request.held == Held::Waiting {
                request.held = Held::Doubted;
                let block = request.block;
                self.give_up(block);
            }
        }
        self.picker.doubled = true;
        self.stop_fetching(at);
    }

    /// Counts one open request less for the block.
    pub(super) fn give_up(&mut self, block: Block) {
        let (first, run) = partial::blocks(block.begin, block.length);
        if let Some(partial) = self.picker.partial(block.piece) {
            partial.release(first, run);
        }
        self.picker.shelve(block.piece, &mut self.rng);
    }

    pub(super) fn stop_fetching(&mut self, at: usize) {
        if let Some(piece) = self.peers[at].1.fetching.take() {
            if let Some(partial) = self.picker.partial(piece) {
                partial.workers -= 1;
            }
            self.picker.shelve(piece, &mut self.rng);
        }
    }

    /// Cancels the block, which one peer has sent, at all others that were asked for it.
    pub(super) fn cancel_others(&mut self, giver: PeerKey, block: Block) {
        if !self.picker.doubled {
            return;
        }
        let Some(partial) = self.picker.partials.iter().find(|partial| partial.piece == block.piece) else { return };
        for (key, peer) in self.peers.iter_mut().filter(|(key, _)| *key != giver) {
            let fast = peer.traits.fast;
            let mut freed = 0;
            peer.requests.retain_mut(|request| {
                let (first, run) = partial::blocks(request.block.begin, request.block.length);
                if request.block.piece != block.piece
                    || request.held == Held::Cancelled
                    || partial.is_missing(first, run)
                {
                    return true;
                }
                request.held = Held::Cancelled;
                self.actions.push_back((*key, Action::Cancel(request.block)));
                // Only peers with the fast extension will answer.
                freed += if fast { 0 } else { u64::from(request.block.length) };
                fast
            });
            peer.requested -= freed;
        }
    }
}

fn block_of(geometry: &Geometry, piece: u32, (first, run): (u32, u32)) -> Block {
    let begin = first * BLOCK;
    Block { piece, begin, length: (run * BLOCK).min(geometry.piece_size(piece) - begin) }
}
