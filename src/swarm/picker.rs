//! The choice of blocks to request from a peer: one piece at a time, rarest first, shared when nothing else is left,
//! and requested twice only in the endgame. Where some pieces are wanted before others, a peer is asked for all it
//! can give of a group before the next one.

use std::time::Duration;

use super::partial::Partial;
use super::rarity::Rarity;
use super::types::PeerKey;
use crate::base::rng::Rng;
use crate::torrent::{Bitfield, Geometry};

/// Time for which a peer that rejected a block is not asked for that piece again.
pub const REFUSAL: Duration = Duration::from_millis(1500);
/// Time after which a peer that sends nothing while requests wait is given up on.
pub const SNUB: Duration = Duration::from_secs(8);

/// The missing pieces: those that nobody fetches, and those that are being fetched.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    rarity: Rarity,
    pub partials: Vec<Partial>,
    spare: Vec<Partial>,
    /// Whether a block was requested from two peers, so that it must be cancelled at one when the other sends it.
    pub doubled: bool,
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
    pub fn shelve(&mut self, piece: u32, rng: &mut Rng) {
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
    pub fn is_endgame(&self) -> bool {
        self.rarity.is_empty() && self.partials.iter().all(|partial| partial.free() == 0)
    }

    /// Chooses the piece to go on with for a peer that can give the pieces of `gives`, in the first group of which
    /// it can give any: a half-done one that nobody works on, then the rarest that nobody fetches, then one to share
    /// with another peer.
    pub fn choose(&mut self, gives: impl Fn(&Rarity, u32) -> bool) -> Option<&mut Partial> {
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
