//! The choice of blocks to request from a peer: one piece at a time, rarest first, shared when nothing else is left,
//! and requested twice only in the endgame. Where some pieces are wanted before others, a peer is asked for all it
//! can give of a group before the next one.

use std::time::Duration;

use super::partial::{self, Partial};
use super::peer::{Held, Request};
use super::rarity::Rarity;
use super::{Action, Block, Offence, PeerKey, Swarm};
use crate::base::rng::Rng;
use crate::torrent::{BLOCK, Bitfield, Geometry};

/// Time for which a peer that rejected a block is not asked for that piece again.
pub const REFUSAL: Duration = Duration::from_millis(1500);
/// Time after which a peer that sends nothing while requests wait is given up on.
pub const SNUB: Duration = Duration::from_secs(8);
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

/// The missing pieces: those that nobody fetches, and those that are being fetched.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    rarity: Rarity,
    partials: Vec<Partial>,
    spare: Vec<Partial>,
    /// Whether a block was requested from two peers, so that it must be cancelled at one when the other sends it.
    doubled: bool,
}

impl Picker {
    /// Creates a picker for the pieces of `groups` that `have` lacks.
    pub fn new(geometry: Geometry, have: &Bitfield, groups: &[Bitfield], rng: &mut Rng) -> Picker {
        let rarity = Rarity::new(have, groups, rng);
        Picker { geometry, rarity, partials: Vec::new(), spare: Vec::new(), doubled: false }
    }

    /// The state of the piece if it is being fetched.
    pub fn partial(&mut self, piece: u32) -> Option<&mut Partial> {
        self.partials.iter_mut().find(|partial| partial.piece == piece)
    }

    /// Number of peers that have the piece, without those that announced everything at once.
    pub fn holders(&self, piece: u32) -> u16 {
        self.rarity.count(piece)
    }

    /// Counts the pieces `have` of a peer. A peer that has all of them makes none rarer than another.
    pub fn learn(&mut self, have: &Bitfield, rng: &mut Rng) {
        if !have.is_full() {
            have.iter_ones().for_each(|piece| self.rarity.gained(piece, rng));
        }
    }

    /// Uncounts the pieces of a peer that is gone and was counted piece by piece.
    pub fn forget(&mut self, have: &Bitfield, rng: &mut Rng) {
        have.iter_ones().for_each(|piece| self.rarity.lost(piece, rng));
    }

    /// Counts one more piece of a peer.
    pub fn gained(&mut self, piece: u32, rng: &mut Rng) {
        self.rarity.gained(piece, rng);
    }

    /// Marks the piece as missing (again); false if it is not wanted.
    pub fn want(&mut self, piece: u32, rng: &mut Rng) -> bool {
        self.rarity.insert(piece, rng);
        self.rarity.group(piece) != u32::MAX
    }

    /// Removes a piece that is here.
    pub fn finish(&mut self, piece: u32) {
        if let Some(at) = self.partials.iter().position(|partial| partial.piece == piece) {
            self.spare.push(self.partials.swap_remove(at));
        }
    }

    /// Marks all of a piece whose data was bad as missing.
    pub fn restart(&mut self, piece: u32) {
        let geometry = self.geometry;
        if let Some(partial) = self.partial(piece) {
            let workers = partial.workers;
            partial.restart(&geometry, piece);
            partial.workers = workers;
        }
    }

    /// Marks blocks that came from `giver` and were not written as missing again.
    pub fn abandon(&mut self, giver: PeerKey, rng: &mut Rng) {
        for at in (0..self.partials.len()).rev() {
            self.partials[at].abandon(giver);
            self.shelve(self.partials[at].piece, rng);
        }
    }

    /// Returns a piece that nobody fetches and of which nothing is here to the others.
    fn shelve(&mut self, piece: u32, rng: &mut Rng) {
        let untouched = |partial: &Partial| partial.piece == piece && partial.workers == 0 && partial.is_untouched();
        if let Some(at) = self.partials.iter().position(untouched) {
            self.spare.push(self.partials.swap_remove(at));
            self.rarity.insert(piece, rng);
        }
    }

    fn start(&mut self, piece: u32) -> &mut Partial {
        self.rarity.remove(piece);
        let mut partial = self.spare.pop().unwrap_or_else(|| Partial::new(&self.geometry, piece));
        partial.restart(&self.geometry, piece);
        self.partials.push(partial);
        self.partials.last_mut().expect("just pushed")
    }

    /// Whether every missing block was requested.
    fn is_endgame(&self) -> bool {
        self.rarity.is_empty() && self.partials.iter().all(|partial| partial.free() == 0)
    }

    /// Chooses the piece to go on with for a peer that can give the pieces of `gives`, in the first group of which
    /// it can give any: a half-done one that nobody works on, then the rarest that nobody fetches, then one to share
    /// with another peer.
    fn choose(&mut self, gives: impl Fn(&Rarity, u32) -> bool) -> Option<&mut Partial> {
        let gives = |piece| gives(&self.rarity, piece);
        let group = |piece| self.rarity.group(piece);
        let (mut left, mut shared): (Option<&Partial>, Option<&Partial>) = (None, None);
        for partial in self.partials.iter().filter(|partial| partial.free() > 0 && gives(partial.piece)) {
            let by = |other: &Partial| group(partial.piece).cmp(&group(other.piece));
            if partial.workers == 0 {
                if left.is_none_or(|left| by(left).then(partial.free().cmp(&left.free())).is_lt()) {
                    left = Some(partial);
                }
            } else if shared.is_none_or(|shared| by(shared).then(shared.free().cmp(&partial.free())).is_le()) {
                shared = Some(partial);
            }
        }
        let (left, shared) = (left.map(|left| left.piece), shared.map(|shared| shared.piece));
        if let Some(piece) = left.filter(|piece| group(*piece) == 0) {
            return self.partial(piece);
        }
        let rarest = self.rarity.iter().find(|&piece| gives(piece));
        // The first of those of the same group.
        let before = |one: Option<u32>, other: Option<u32>| match (one, other) {
            (Some(a), Some(b)) if group(b) < group(a) => other,
            (None, _) => other,
            _ => one,
        };
        let piece = before(before(left, rarest), shared)?;
        if rarest == Some(piece) { Some(self.start(piece)) } else { self.partial(piece) }
    }
}

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

    /// Requests `block` from the peer.
    pub(super) fn ask(&mut self, now: Duration, at: usize, block: Block) {
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
    pub(super) fn pick(&mut self, at: usize, most: u32, suits: impl Fn(&Rarity, u32) -> bool) -> Option<Block> {
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

    /// Ends the connection if neither we nor the peer lack anything.
    pub(super) fn drop_useless(&mut self, at: usize) {
        let (key, peer) = &self.peers[at];
        if self.is_sated() && peer.is_sated() {
            self.actions.push_back((*key, Action::Drop(Offence::Useless)));
        }
    }
}

fn block_of(geometry: &Geometry, piece: u32, (first, run): (u32, u32)) -> Block {
    let begin = first * BLOCK;
    Block { piece, begin, length: (run * BLOCK).min(geometry.piece_size(piece) - begin) }
}
