//! Web seeds (BEP 19): an HTTP server that has everything. To the swarm it is a peer that has everything, chokes nobody
//! and wants nothing; whoever runs the swarm carries its requests to the server.
//!
//! It spends what all share, the repository's own link, so peers come first. A web seed is asked for a piece that no
//! peer has that is connected; for any piece only while all peers together give less than it does. When a room is busy
//! with itself, one server that sixty ask at once gives each little, and is let alone; where peers give nothing, it
//! gives everything. Nothing is asked of it twice: there is no endgame with it.

use std::time::Duration;

use super::{FRIEND_REQUEST, PeerKey, Swarm, Traits};
use crate::torrent::{BLOCK, Bitfield};

/// Time for peers to come and to give something, before a web seed is asked for anything, and before it is asked for
/// what they have.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time over which its pace is measured, at the least.
const MEASURE: Duration = Duration::from_millis(100);

/// What is known of a web seed beyond what is known of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// When it came.
    since: Duration,
    /// When it was last asked for something after it had nothing to do, and the bytes that it gave since.
    began: Duration,
    given: u64,
    /// Bytes a second that it gave when it last was busy; 0: not known.
    pace: f64,
}

impl Source {
    /// A block came.
    pub fn gave(&mut self, now: Duration, bytes: u32) {
        self.given += u64::from(bytes);
        let time = now.saturating_sub(self.began);
        if time >= MEASURE {
            self.pace = self.given as f64 / time.as_secs_f64();
        }
    }
}

impl Swarm {
    /// There is a web seed. It is asked by [`super::Action::Request`] and answers by [`Swarm::arrived`] or
    /// [`Swarm::rejected`]; what else it is told means nothing to it, but the end.
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

    /// Asks a web seed for about one piece ahead, if it is to be asked.
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
