//! How a seeder spreads distinct pieces first: while there are pieces that it has given to nobody, a piece that
//! one peer is getting is not given to a second one, who can have it from the first a moment later.
//!
//! The second one's request is rejected (BEP 6), which makes it choose another piece. Only our own kind is
//! treated so: others may ask for the same piece again at once.

use super::{Block, PeerKey, Swarm};

/// Who was given each piece first.
#[derive(Debug, Default)]
pub struct Spread {
    first: Vec<PeerKey>,
    fresh: u32,
    over: bool,
}

impl Spread {
    /// A peer is gone: what it was given may have gone with it.
    pub fn forget(&mut self, key: PeerKey) {
        if self.over {
            return;
        }
        for first in self.first.iter_mut().filter(|first| **first == key) {
            *first = PeerKey::NOBODY;
            self.fresh += 1;
        }
    }
}

impl Swarm {
    /// The request is better made for another piece.
    pub(super) fn deflects(&mut self, at: usize, block: Block) -> bool {
        if self.spread.over || !self.have.is_full() {
            return false;
        }
        let spread = &mut self.spread;
        if spread.first.is_empty() {
            spread.fresh = self.geometry.pieces();
            spread.first = vec![PeerKey::NOBODY; spread.fresh as usize];
        }
        let (key, peer) = &self.peers[at];
        let first = &mut spread.first[block.piece as usize];
        if *first == PeerKey::NOBODY {
            *first = *key;
            spread.fresh -= 1;
            spread.over = spread.fresh == 0;
            return false;
        }
        let given = *first;
        given != *key
            && peer.traits.fast
            && peer.traits.is_friend()
            && self
                .spread
                .first
                .iter()
                .enumerate()
                .any(|(piece, first)| *first == PeerKey::NOBODY && !peer.have.get(piece as u32))
    }
}
