//! How a seeder spreads distinct pieces first: while there are pieces that nobody has or is being given, a piece
//! that somebody has or is being given is not given again; whoever asks for it can have it from there a moment
//! later, and every byte that we send twice is one that the swarm gets later.
//!
//! The request is rejected (BEP 6), which makes the peer choose another piece. Only our own kind is treated so:
//! others may ask for the same piece again at once. Nor who is choosy: it may want nothing else, or that first, and who
//! had it may have left.

use super::{Block, PeerKey, Swarm};
use crate::torrent::Bitfield;

/// Which pieces are out, and who is being given those that are not yet.
#[derive(Debug, Default)]
pub struct Spread {
    /// Pieces that no peer has announced and none is being given; none until the first request.
    fresh: Option<Bitfield>,
    /// Pieces that are being given, and to whom.
    given: Vec<(u32, PeerKey)>,
}

impl Spread {
    /// A peer has announced the piece.
    pub fn seen(&mut self, piece: u32) {
        if let Some(fresh) = &mut self.fresh {
            fresh.clear(piece);
            self.given.retain(|(given, _)| *given != piece);
        }
    }

    /// The peer is gone: what it was being given is out nowhere.
    pub fn forget(&mut self, key: PeerKey) {
        self.take_back(key, |_| true);
    }

    /// The peer is not going to be given those pieces of `which` that it does not have yet.
    pub fn take_back(&mut self, key: PeerKey, which: impl Fn(u32) -> bool) {
        let Some(fresh) = &mut self.fresh else { return };
        self.given.retain(|&(piece, to)| {
            let back = to == key && which(piece);
            if back {
                fresh.set(piece);
            }
            !back
        });
    }
}

impl Swarm {
    /// The request is better made for another piece.
    pub(super) fn deflects(&mut self, at: usize, block: Block) -> bool {
        if !self.have.is_full() {
            return false;
        }
        let (key, peer) = &self.peers[at];
        let fresh = self.spread.fresh.get_or_insert_with(|| {
            let mut fresh = Bitfield::full(self.geometry.pieces());
            self.peers.iter().flat_map(|(_, peer)| peer.have.iter_ones()).for_each(|piece| {
                fresh.clear(piece);
            });
            fresh
        });
        if fresh.clear(block.piece) {
            self.spread.given.push((block.piece, *key));
            return false;
        }
        !self.spread.given.contains(&(block.piece, *key))
            && peer.traits.fast
            && peer.traits.is_friend()
            && !peer.choosy
            && fresh.words().zip(peer.have.words()).any(|(fresh, have)| fresh & !have != 0)
    }
}
