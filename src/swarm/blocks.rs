//! Blocks that peers ask for, and blocks that they give.

use std::time::Duration;

use super::peer::{Held, Request};
use super::state::Swarm;
use super::types::{Action, Block, FRIEND_REQUEST, Offence, PeerKey, REQUEST_QUEUE, Verdict, Verified};
use super::{partial, picker};
use crate::torrent::BLOCK;

/// Blocks that a peer may send after we cancelled the request, before it counts as a flood.
pub const UNASKED_ALLOWED: u32 = 2 * REQUEST_QUEUE;

impl Swarm {
    /// Queues a block that the peer requests, or rejects the request.
    pub fn request(&mut self, now: Duration, key: PeerKey, block: Block) -> Result<(), Offence> {
        self.check_range(block)?;
        if block.length > self.config.max_request.max(FRIEND_REQUEST) {
            return Err(Offence::RequestTooLong);
        }
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        if peer.uploads.len() >= REQUEST_QUEUE as usize * 2 {
            self.origins.0[peer.origin].flood(now);
            return Err(Offence::RequestFlood);
        }
        if peer.choked || !self.have.get(block.piece) {
            if peer.traits.fast {
                self.tell(key, Action::Reject(block));
            }
            return Ok(());
        }
        if peer.uploads.contains(&block) {
            return Ok(());
        }
        if self.have.is_full() && self.spread.deflects(&self.peers, at, block) {
            self.tell(key, Action::Reject(block));
            return Ok(());
        }
        self.peers[at].1.uploads.push_back(block);
        self.schedule(now, key);
        Ok(())
    }

    /// Removes a request that the peer cancels.
    pub fn cancel(&mut self, key: PeerKey, block: Block) -> Result<(), Offence> {
        self.check_range(block)?;
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        if let Some(queued) = peer.uploads.iter().position(|upload| *upload == block) {
            peer.uploads.remove(queued);
            if peer.traits.fast {
                self.tell(key, Action::Reject(block));
            }
        }
        Ok(())
    }

    /// Handles the peer's refusal to serve our request (BEP 6).
    pub fn rejected(&mut self, now: Duration, key: PeerKey, block: Block) -> Result<(), Offence> {
        self.check_range(block)?;
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        let Some(request) = peer.take_request(block) else { return Ok(()) };
        if !peer.choking && request.held != Held::Cancelled && !peer.refuses(block.piece) {
            peer.refused.push((block.piece, now + picker::REFUSAL));
        }
        if request.held == Held::Waiting {
            self.give_up(block);
        }
        if self.peers[at].1.fetching == Some(block.piece) {
            self.stop_fetching(at);
        }
        self.fill_idle(now);
        Ok(())
    }

    /// Handles a whole block from the peer.
    pub fn arrived(&mut self, now: Duration, key: PeerKey, block: Block) -> Result<Verdict, Offence> {
        self.check_range(block)?;
        let Some(at) = self.find(key) else { return Ok(Verdict::Ignore) };
        let peer = &mut self.peers[at].1;
        peer.heard = now;
        peer.snubbed = false;
        peer.down.add(now, u64::from(block.length));
        if let Some(source) = &mut peer.source {
            source.gave(now, block.length);
        }
        self.down.add(now, u64::from(block.length));
        let request = peer.take_request(block);
        if request.is_none() {
            // Some cross our cancel or choke on the way.
            peer.unasked += 1;
            if peer.unasked > UNASKED_ALLOWED {
                return Err(Offence::Unasked);
            }
        }
        let stored = self.accept(key, block, request);
        let length = stored.map_or(0, |part| part.length);
        self.totals.wasted += u64::from(block.length - length);
        if stored.is_none() {
            self.fill(now, at);
        }
        Ok(stored.map_or(Verdict::Ignore, Verdict::Store))
    }

    /// Returns the part of a block that is still wanted, and marks it as being written.
    fn accept(&mut self, giver: PeerKey, block: Block, request: Option<Request>) -> Option<Block> {
        let request = request?;
        let (first, run) = partial::blocks(block.begin, block.length);
        let partial = self.picker.partial(block.piece)?;
        if request.held == Held::Waiting {
            partial.release(first, run);
        }
        let (first, run) = partial.begin_write(first, run, giver)?;
        let begin = first * BLOCK;
        Some(Block { begin, length: (run * BLOCK).min(block.begin + block.length - begin), ..block })
    }

    /// Marks a block that [`Swarm::arrived`] returned for storing as written.
    pub fn stored(&mut self, now: Duration, key: PeerKey, block: Block) {
        let (first, run) = partial::blocks(block.begin, block.length);
        self.totals.downloaded += u64::from(block.length);
        let Some(partial) = self.picker.partial(block.piece) else { return };
        partial.end_write(first, run);
        if partial.is_complete() {
            partial.verifying = true;
            self.tell(PeerKey::NOBODY, Action::Verify(block.piece));
        }
        self.cancel_others(key, block);
        if let Some(at) = self.find(key) {
            self.fill(now, at);
        }
    }

    /// Handles the verification of a piece. `digests` are the hashes of its blocks, needed when [`Swarm::suspects`]
    /// says so.
    pub fn verified(&mut self, now: Duration, piece: u32, verified: Verified, digests: &[[u8; 20]]) {
        let Some(partial) = self.picker.partial(piece) else { return };
        let guilty = self.blame.judge(piece, verified == Verified::Good, partial.givers(), digests);
        match verified {
            Verified::Good => {
                self.picker.finish(piece);
                self.have.set(piece);
                self.missing.clear(piece);
                for at in 0..self.peers.len() {
                    let (key, peer) = &mut self.peers[at];
                    let key = *key;
                    if peer.have.get(piece) {
                        peer.useful -= 1;
                    }
                    self.tell(key, Action::Have(piece));
                    self.review_interest(at);
                }
                (0..self.peers.len()).for_each(|at| self.drop_useless(at));
            }
            Verified::Bad => {
                self.totals.corrupt += u64::from(self.geometry.piece_size(piece));
                self.picker.restart(piece);
            }
        }
        for key in guilty {
            self.tell(key, Action::Ban(Offence::BadData));
        }
        self.fill_idle(now);
    }

    /// Whether the verification of this piece must come with the hashes of its blocks.
    pub fn suspects(&self, piece: u32) -> bool {
        self.blame.suspects(piece)
    }

    /// Marks a verified piece that turned out to be unreadable or lost as missing.
    pub fn lost(&mut self, now: Duration, piece: u32) {
        if self.have.clear(piece) && self.picker.want(piece, &mut self.rng) {
            self.missing.set(piece);
            for at in 0..self.peers.len() {
                if self.peers[at].1.have.get(piece) {
                    self.peers[at].1.useful += 1;
                    self.review_interest(at);
                }
            }
            self.fill_idle(now);
        }
    }
}
