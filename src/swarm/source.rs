//! Web seeds (BEP 19): an HTTP server that has everything. To the swarm it is a peer that has everything, chokes
//! nobody and wants nothing; the swarm's driver carries its requests to the server.
//!
//! It spends a shared resource, the repository's own link, so peers come first. A web seed is asked for pieces that
//! no connected peer has, and for any piece only while all peers together give less than it does. In a busy room,
//! one server that sixty peers ask gives each of them little, and is left alone; where peers give nothing, it gives
//! everything. It is never asked for the same block twice: the endgame leaves it out.

use std::time::Duration;

use super::{FRIEND_REQUEST, PeerKey, Swarm, Traits};
use crate::torrent::{BLOCK, Bitfield};

/// Time for peers to come before a web seed is asked for anything, and again as much for them to give something
/// before it is asked for pieces that they have.
const PATIENCE: Duration = Duration::from_secs(1);
/// Minimum time over which its pace is measured.
const MEASURE: Duration = Duration::from_millis(100);

/// State of a web seed beyond that of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Time at which it was added.
    since: Duration,
    /// Time at which it was last given something to do after a pause, and the bytes that it gave since.
    began: Duration,
    given: u64,
    /// Its rate when it was last busy, bytes a second; 0 if not known.
    pace: f64,
}

impl Source {
    /// Counts a block that it gave.
    pub fn gave(&mut self, now: Duration, bytes: u32) {
        self.given += u64::from(bytes);
        let time = now.saturating_sub(self.began);
        if time >= MEASURE {
            self.pace = self.given as f64 / time.as_secs_f64();
        }
    }
}

impl Swarm {
    /// Adds a web seed. Its requests come as [`super::Action::Request`], its answers go to [`Swarm::arrived`] or
    /// [`Swarm::rejected`]; it ignores all other actions except those that end it.
    pub fn join_source(&mut self, now: Duration) -> PeerKey {
        let traits = Traits { fast: true, max_request: FRIEND_REQUEST, queue: u32::MAX };
        let key = self.join(now, traits);
        let useful = self.missing.count();
        if let Some((_, peer)) = self.peers.last_mut() {
            peer.have = Bitfield::full(self.geometry.pieces());
            peer.source = Some(Source { since: now, began: now, given: 0, pace: 0.0 });
            (peer.counted_as_seed, peer.spoke, peer.upload_only, peer.choking) = (true, true, true, false);
            (peer.useful, peer.wanting) = (useful, useful > 0);
        }
        key
    }

    /// Requests about one piece ahead from a web seed, if it is needed.
    pub(super) fn fill_source(&mut self, now: Duration, at: usize) {
        let Some(source) = self.peers[at].1.source else { return };
        if now < source.since + PATIENCE {
            return;
        }
        let peers = || self.peers.iter().map(|(_, peer)| peer).filter(|peer| peer.source.is_none());
        let given: f64 = peers().map(|peer| peer.down.per_second(now)).sum();
        let slow = given < source.pace.max(1.0) && now >= source.since + 2 * PATIENCE;
        let elsewhere = peers().any(|peer| peer.counted_as_seed);
        if self.peers[at].1.requests.is_empty()
            && let Some(source) = &mut self.peers[at].1.source
        {
            (source.began, source.given) = (now, 0);
        }
        let ahead = match self.peers[at].1.snubbed {
            true => u64::from(BLOCK),
            false => u64::from(self.geometry.piece_length().max(FRIEND_REQUEST)),
        };
        while self.peers[at].1.requested < ahead {
            let suits = |rarity: &super::rarity::Rarity, piece| slow || !elsewhere && rarity.count(piece) == 0;
            let Some(block) = self.pick(at, FRIEND_REQUEST / BLOCK, suits) else { break };
            self.ask(now, at, block);
        }
    }
}
