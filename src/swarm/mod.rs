//! The decisions of a BitTorrent peer (BEP 3, 6, 21): which block to ask of which peer, and which peer to serve.
//!
//! Pure: events and their times go in, decisions queue up to be taken. No socket, file, clock or thread, so the
//! simulator runs thousands of swarms in one process, and a test can play any peer.
//!
//! Terms: a *piece* is the unit that the metainfo has a hash of; a *block* is 16 KiB of it; a *request* asks one
//! peer for one or more successive blocks of one piece; a peer's *turn* is the time in which we send it one piece.

mod blame;
mod blocks;
mod choker;
mod leave;
mod partial;
mod peer;
mod picker;
mod priority;
mod rarity;
mod rate;
mod roster;
mod sight;
mod source;
mod spread;
#[cfg(test)]
mod tests;
mod types;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::rng::Rng;
use crate::torrent::{Bitfield, Geometry};
use blame::Blame;
use choker::Choker;
pub use leave::{Leave, Reason, Standing};
use peer::Peer;
use picker::Picker;
pub use priority::priority;
pub use rate::Rate;
pub use roster::Roster;
pub use sight::Sight;
use spread::Spread;
pub use types::{
    Action, Block, Config, FRIEND_REQUEST, Offence, PeerKey, REQUEST_QUEUE, STRANGER_REQUEST, Totals, Traits, Verdict,
    Verified,
};

/// Times that a peer may announce a piece that it was known to have, before it counts as a flood.
const REPEATED_ALLOWED: u32 = 4096;

/// One torrent's swarm as one peer sees it.
#[derive(Debug)]
pub struct Swarm {
    geometry: Geometry,
    config: Config,
    rng: Rng,
    have: Bitfield,
    /// Wanted pieces that are not here.
    missing: Bitfield,
    choosy: bool,
    peers: Vec<(PeerKey, Peer)>,
    picker: Picker,
    choker: Choker,
    blame: Blame,
    actions: VecDeque<(PeerKey, Action)>,
    down: Rate,
    up: Rate,
    totals: Totals,
    next_key: u32,
    /// Counter of chokes and joins: the peer that has waited longest has the smallest number.
    clock: u64,
    spread: Spread,
    paused: bool,
}

impl Swarm {
    /// Creates the swarm of a torrent of which `have` is here; `seed` determines its random choices.
    pub fn new(geometry: Geometry, have: Bitfield, config: Config, seed: u64) -> Swarm {
        let all = Bitfield::full(geometry.pieces());
        Swarm::with_groups(geometry, have, &[all], config, seed)
    }

    /// Like [`new`](Self::new), but only the pieces of `groups` are wanted, those of the first group before those of
    /// the next. A peer is asked for pieces of a later group only when it can give no more of the earlier ones.
    pub fn with_groups(geometry: Geometry, have: Bitfield, groups: &[Bitfield], config: Config, seed: u64) -> Swarm {
        let mut rng = Rng::new(seed);
        let picker = Picker::new(geometry, &have, groups, &mut rng);
        let mut missing = Bitfield::new(geometry.pieces());
        groups.iter().for_each(|group| missing.add(group));
        missing.remove(&have);
        Swarm {
            geometry,
            choker: Choker::new(config.turns),
            config,
            have,
            missing,
            choosy: !matches!(groups, [all] if all.is_full()),
            peers: Vec::new(),
            picker,
            blame: Blame::default(),
            actions: VecDeque::new(),
            down: Rate::default(),
            up: Rate::default(),
            totals: Totals::default(),
            next_key: 0,
            clock: 0,
            spread: Spread::default(),
            paused: false,
            rng,
        }
    }

    /// The pieces that are here and verified.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The torrent's lengths.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether every piece is here.
    pub fn is_whole(&self) -> bool {
        self.have.is_full()
    }

    /// Whether only some pieces are wanted, or some before others. Peers have to know that
    /// ([`peer_is_choosy`](Self::peer_is_choosy)).
    pub fn is_choosy(&self) -> bool {
        self.choosy
    }

    /// Whether every wanted piece is here.
    pub fn is_sated(&self) -> bool {
        self.missing.is_empty()
    }

    /// Sums since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes a second in and out at `now`.
    pub fn rates(&self, now: Duration) -> (f64, f64) {
        (self.down.per_second(now), self.up.per_second(now))
    }

    /// Connected peers: the number that lack nothing (any more), and the number of the others.
    pub fn population(&self) -> (usize, usize) {
        let peers = || self.peers.iter().filter(|(_, peer)| peer.source.is_none());
        let seeds = peers().filter(|(_, peer)| peer.is_sated()).count();
        (seeds, peers().count() - seeds)
    }

    /// Bytes of wanted pieces that are not here.
    pub fn left(&self) -> u64 {
        self.geometry.bytes_of(&self.missing)
    }

    /// Bytes of all pieces that are not here, wanted or not.
    pub fn lacks(&self) -> u64 {
        self.geometry.length() - self.geometry.bytes_of(&self.have)
    }

    /// Takes the oldest decision in the queue, with the peer it concerns.
    pub fn next_action(&mut self) -> Option<(PeerKey, Action)> {
        self.actions.pop_front()
    }

    /// Whether the peer is known to have everything, or all that it wants.
    pub fn is_peer_sated(&self, key: PeerKey) -> bool {
        self.find(key).is_some_and(|at| self.peers[at].1.is_sated())
    }

    /// Whether the peer owes us blocks that we requested.
    pub fn is_owed(&self, key: PeerKey) -> bool {
        self.find(key).is_some_and(|at| !self.peers[at].1.requests.is_empty())
    }

    /// Adds a peer whose connection is up and whose handshakes are done.
    pub fn join(&mut self, now: Duration, traits: Traits) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        self.clock += 1;
        self.peers.push((key, Peer::new(now, traits, self.geometry.pieces(), self.clock)));
        self.tell(key, Action::Bitfield);
        key
    }

    /// Takes from an extension handshake (BEP 10) what the peer can do; `None` leaves a trait as it was.
    pub fn learn(&mut self, key: PeerKey, max_request: Option<u32>, queue: Option<u32>) {
        if let Some(at) = self.find(key) {
            let peer = &mut self.peers[at].1;
            peer.told_queue |= queue.is_some();
            let traits = &mut peer.traits;
            let most = self.config.max_request.max(STRANGER_REQUEST);
            traits.max_request = max_request.unwrap_or(traits.max_request).clamp(STRANGER_REQUEST, most);
            traits.queue = queue.unwrap_or(traits.queue).max(1);
        }
    }

    /// Notes that the peer wants only some pieces, or some before others.
    pub fn peer_is_choosy(&mut self, key: PeerKey) {
        if let Some(at) = self.find(key) {
            self.peers[at].1.choosy = true;
        }
    }

    /// Notes whether the peer only uploads from now on (BEP 21). One that does gets no slot and lacks nothing; the
    /// pieces it has are still welcome.
    pub fn upload_only(&mut self, now: Duration, key: PeerKey, upload_only: bool) {
        let Some(at) = self.find(key) else { return };
        let peer = &mut self.peers[at].1;
        peer.upload_only = upload_only;
        if upload_only {
            peer.interested = false;
            self.rechoke(now);
            self.drop_useless(at);
        }
    }

    /// Removes a peer whose connection is gone.
    pub fn leave(&mut self, now: Duration, key: PeerKey) {
        let Some(at) = self.find(key) else { return };
        self.release_all(at);
        // The thread that was writing them may have panicked.
        self.picker.abandon(key, &mut self.rng);
        let (_, peer) = self.peers.remove(at);
        if !peer.counted_as_seed {
            self.picker.forget(&peer.have, &mut self.rng);
        }
        self.choker.forget(key);
        self.spread.forget(key);
        self.rechoke(now);
        self.fill_idle(now);
    }

    /// Handles the peer's choke.
    pub fn choke(&mut self, now: Duration, key: PeerKey) {
        let Some(at) = self.find(key) else { return };
        self.peers[at].1.choking = true;
        // With the fast extension each request is answered or rejected; without it a choke voids them all.
        if !self.peers[at].1.traits.fast {
            self.release_all(at);
            self.fill_idle(now);
        }
    }

    /// Handles the peer's unchoke.
    pub fn unchoke(&mut self, now: Duration, key: PeerKey) {
        let Some(at) = self.find(key) else { return };
        let peer = &mut self.peers[at].1;
        peer.choking = false;
        peer.heard = now;
        peer.snubbed = false;
        self.fill(now, at);
    }

    /// Handles the peer's interest (`true`) or loss of interest in us. A peer that is interested no longer only
    /// uploads.
    pub fn interested(&mut self, now: Duration, key: PeerKey, interested: bool) {
        let Some(at) = self.find(key) else { return };
        let peer = &mut self.peers[at].1;
        peer.interested = interested;
        peer.upload_only &= !interested;
        self.rechoke(now);
    }

    /// Handles the peer's announcement of one more piece.
    pub fn have_piece(&mut self, now: Duration, key: PeerKey, piece: u32) -> Result<(), Offence> {
        if piece >= self.geometry.pieces() {
            return Err(Offence::OutOfRange);
        }
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        peer.spoke = true;
        if !peer.have.set(piece) {
            peer.repeated += 1;
            return if peer.repeated > REPEATED_ALLOWED { Err(Offence::Repeated) } else { Ok(()) };
        }
        self.picker.gained(piece, &mut self.rng);
        self.spread.seen(piece);
        if self.missing.get(piece) {
            peer.useful += 1;
            self.review_interest(at);
            // One more choice matters only to a peer that has run out of them.
            if self.peers[at].1.requests.is_empty() {
                self.fill(now, at);
            }
        }
        self.drop_useless(at);
        Ok(())
    }

    /// Handles the peer's bitfield `have` (BEP 3), or its have-all or have-none (BEP 6).
    ///
    /// It should come first and only once. aria2 sends it again in place of many haves; then new pieces in it count,
    /// and pieces left out stay: no peer loses pieces.
    pub fn bitfield(&mut self, now: Duration, key: PeerKey, have: Bitfield) -> Result<(), Offence> {
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        if have.len() != self.geometry.pieces() {
            return Err(Offence::BadBitfield);
        }
        if peer.spoke {
            let missed: Vec<u32> = match peer.have.is_full() {
                true => Vec::new(),
                false => have.iter_ones().filter(|&piece| !peer.have.get(piece)).collect(),
            };
            return missed.into_iter().try_for_each(|piece| self.have_piece(now, key, piece));
        }
        peer.spoke = true;
        peer.counted_as_seed = have.is_full();
        peer.useful = have.iter_ones().filter(|&piece| self.missing.get(piece)).count() as u32;
        self.picker.learn(&have, &mut self.rng);
        peer.have = have;
        self.review_interest(at);
        self.drop_useless(at);
        self.fill(now, at);
        Ok(())
    }

    /// Handles the passage of time: peers that stall, refusals that lapse, slots that rotate. To be called a few
    /// times a second.
    pub fn tick(&mut self, now: Duration) {
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at].1;
            peer.refused.retain(|(_, until)| *until > now);
            let silent = now.saturating_sub(peer.heard);
            if !peer.requests.is_empty() && !peer.snubbed && silent > picker::SNUB {
                peer.snubbed = true;
                self.doubt(at);
            }
        }
        self.rechoke(now);
        self.review_turns(now);
        self.fill_idle(now);
    }

    fn find(&self, key: PeerKey) -> Option<usize> {
        // Keys only grow, and peers are pushed at the end: the list is sorted.
        self.peers.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    fn tell(&mut self, key: PeerKey, action: Action) {
        self.actions.push_back((key, action));
    }

    fn check_range(&self, block: Block) -> Result<(), Offence> {
        let inside = block.piece < self.geometry.pieces()
            && block.length > 0
            && block.begin.checked_add(block.length).is_some_and(|end| end <= self.geometry.piece_size(block.piece));
        if inside { Ok(()) } else { Err(Offence::OutOfRange) }
    }

    fn review_interest(&mut self, at: usize) {
        let (key, peer) = &mut self.peers[at];
        let wanting = peer.useful > 0;
        if wanting != peer.wanting {
            peer.wanting = wanting;
            let (key, action) = (*key, if wanting { Action::Interested } else { Action::NotInterested });
            self.tell(key, action);
        }
    }
}
