//! One torrent's swarm as one peer sees it: its state, its numbers, and the queue of its decisions.

use std::collections::VecDeque;
use std::time::Duration;

use super::blame::Blame;
use super::choker::Choker;
use super::origin::Origins;
use super::peer::Peer;
use super::picker::Picker;
use super::rate::Rate;
use super::spread::Spread;
use super::types::{Action, Block, Config, Offence, PeerKey, Totals};
use crate::base::rng::Rng;
use crate::torrent::{Bitfield, Geometry};

/// One torrent's swarm as one peer sees it.
#[derive(Debug)]
pub struct Swarm {
    pub(super) geometry: Geometry,
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) have: Bitfield,
    /// Wanted pieces that are not here.
    pub(super) missing: Bitfield,
    pub(super) choosy: bool,
    pub(super) peers: Vec<(PeerKey, Peer)>,
    pub(super) origins: Origins,
    pub(super) picker: Picker,
    pub(super) choker: Choker,
    pub(super) blame: Blame,
    pub(super) actions: VecDeque<(PeerKey, Action)>,
    pub(super) down: Rate,
    pub(super) up: Rate,
    pub(super) totals: Totals,
    pub(super) next_key: u32,
    /// Counter of chokes and joins: the peer that has waited longest has the smallest number.
    pub(super) clock: u64,
    pub(super) spread: Spread,
    pub(super) paused: bool,
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
            origins: Origins::default(),
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

    pub(super) fn find(&self, key: PeerKey) -> Option<usize> {
        // Keys only grow, and peers are pushed at the end: the list is sorted.
        self.peers.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    pub(super) fn tell(&mut self, key: PeerKey, action: Action) {
        self.actions.push_back((key, action));
    }

    pub(super) fn check_range(&self, block: Block) -> Result<(), Offence> {
        let inside = block.piece < self.geometry.pieces()
            && block.length > 0
            && block.begin.checked_add(block.length).is_some_and(|end| end <= self.geometry.piece_size(block.piece));
        if inside { Ok(()) } else { Err(Offence::OutOfRange) }
    }

    pub(super) fn review_interest(&mut self, at: usize) {
        let (key, peer) = &mut self.peers[at];
        let wanting = peer.useful > 0;
        if wanting != peer.wanting {
            peer.wanting = wanting;
            let (key, action) = (*key, if wanting { Action::Interested } else { Action::NotInterested });
            self.tell(key, action);
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
