//! Events: peers and web seeds come, go, and report what they have and want; time passes.

use std::net::IpAddr;
use std::time::Duration;

use super::peer::Peer;
use super::picker::SNUB;
use super::source::Source;
use super::state::Swarm;
use super::types::{Action, FRIEND_REQUEST, Offence, PeerKey, STRANGER_REQUEST, Traits};
use crate::torrent::Bitfield;

/// Times that a peer may announce a piece that it was known to have, before it counts as a flood.
const REPEATED_ALLOWED: u32 = 4096;

impl Swarm {
    /// Adds a peer whose connection is up and whose handshakes are done. It has an address of its own.
    pub fn join(&mut self, now: Duration, traits: Traits) -> PeerKey {
        self.join_from(now, traits, None)
    }

    /// Like [`join`](Self::join), from the address `ip`, among which all that we give is shared first.
    pub fn join_from(&mut self, now: Duration, traits: Traits, ip: Option<IpAddr>) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        self.clock += 1;
        let origin = self.origins.enter(now, ip);
        self.peers.push((key, Peer::new(now, traits, self.geometry.pieces(), self.clock, origin)));
        self.tell(key, Action::Bitfield);
        key
    }

    /// Adds a web seed. Its requests come as [`Action::Request`], its answers go to [`Swarm::arrived`] or
    /// [`Swarm::rejected`]; it ignores all other actions except those that end it.
    pub fn join_source(&mut self, now: Duration) -> PeerKey {
        let traits = Traits { fast: true, max_request: FRIEND_REQUEST, queue: u32::MAX };
        let key = self.join(now, traits);
        let useful = self.missing.count();
        if let Some((_, peer)) = self.peers.last_mut() {
            peer.have = Bitfield::full(self.geometry.pieces());
            peer.source = Some(Source::new(now));
            (peer.counted_as_seed, peer.spoke, peer.upload_only, peer.choking) = (true, true, true, false);
            (peer.useful, peer.wanting) = (useful, useful > 0);
        }
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
        self.origins.leave(now, peer.origin);
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
            if !peer.requests.is_empty() && !peer.snubbed && silent > SNUB {
                peer.snubbed = true;
                self.doubt(at);
            }
        }
        self.rechoke(now);
        self.review_turns(now);
        self.fill_idle(now);
    }
}
