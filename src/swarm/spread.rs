//! How a seeder spreads distinct pieces first: while there are pieces that no peer has or is being given, all others
//! are not given again. A peer that asks for one of those can have it from another peer a moment later, and every
//! byte that we send twice delays one that we have not sent yet.
//!
//! The request is rejected (BEP 6), which makes the peer choose another piece. Only our own kind is treated so:
//! others may ask for the same piece again at once. Choosy peers are exempt too: they may want nothing else, or that
//! piece first, and the peer that had it may have left.

use super::peer::Peer;
use super::types::{Block, PeerKey};
use crate::torrent::Bitfield;

/// The pieces that are out, and the receivers of those that are not yet.
#[derive(Debug, Default)]
pub struct Spread {
    /// Pieces that no peer has announced and none is being given; `None` until the first request.
    fresh: Option<Bitfield>,
    /// Pieces that are being given, and their receivers.
    given: Vec<(u32, PeerKey)>,
}

impl Spread {
    /// Notes that a peer has announced the piece.
    pub fn seen(&mut self, piece: u32) {
        if let Some(fresh) = &mut self.fresh {
            fresh.clear(piece);
            self.given.retain(|(given, _)| *given != piece);
        }
    }

    /// Takes back what a peer that is gone was being given: it is out nowhere.
    pub fn forget(&mut self, key: PeerKey) {
        self.take_back(key, |_| true);
    }

    /// Takes back those pieces of `which` that the peer does not have yet and will not be given.
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

    /// Whether the peer at `at` had better request another piece than that of `block`; if not, it counts as being given
    /// this one.
    pub fn deflects(&mut self, peers: &[(PeerKey, Peer)], at: usize, block: Block) -> bool {
        let (key, peer) = &peers[at];
        let fresh = self.fresh.get_or_insert_with(|| {
            let mut fresh = Bitfield::full(peer.have.len());
            peers.iter().flat_map(|(_, peer)| peer.have.iter_ones()).for_each(|piece| {
                fresh.clear(piece);
            });
            fresh
        });
        if fresh.clear(block.piece) {
            self.given.push((block.piece, *key));
            return false;
        }
        !self.given.contains(&(block.piece, *key))
            && peer.traits.fast
            && peer.traits.is_friend()
            && !peer.choosy
            && fresh.words().zip(peer.have.words()).any(|(fresh, have)| fresh & !have != 0)
    }
}
