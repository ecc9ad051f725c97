//! Who asks whom for what: the decisions of a BitTorrent peer (BEP 3, 6), and nothing else.
//!
//! Pure: it is given the time and what happened, and leaves decisions in a queue. No socket, file, clock or
//! thread, so the simulator runs thousands of these in one process, and a test can play any peer.
//!
//! Words: a *piece* is what the metainfo has a hash of; a *block* is 16 KiB of it; a *request* asks one peer
//! for one or more blocks in a row of one piece; a peer's *turn* is the time in which we send it one piece.

mod blame;
mod choker;
mod leave;
mod partial;
mod picker;
mod rarity;
mod rate;
mod roster;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::sys::rng::Rng;
use crate::torrent::{BLOCK, Bitfield, Geometry};
use blame::Blame;
use choker::Choker;
pub use leave::{Leave, Reason, Standing};
use picker::Picker;
pub use rate::Rate;
pub use roster::Roster;
use spread::Spread;

/// The longest request that a stranger accepts, bytes (BEP 3).
pub const STRANGER_REQUEST: u32 = BLOCK;
/// The longest request that we accept and, of our own kind, ask for, bytes.
pub const FRIEND_REQUEST: u32 = 8 * BLOCK;
/// Requests that one peer may leave with us unanswered (`reqq` of BEP 10).
pub const REQUEST_QUEUE: u32 = 512;
/// Blocks that a peer may send although we took the request back, before it is taken for a flood.
const UNASKED_ALLOWED: u32 = 2 * REQUEST_QUEUE;

/// One connected peer. Keys are not used twice while a swarm lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

impl PeerKey {
    /// Stands where no peer is meant.
    pub const NOBODY: PeerKey = PeerKey(u32::MAX);
}

/// A range of bytes of one piece, as requests, pieces and cancels name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// Index of the piece.
    pub piece: u32,
    /// Offset in the piece, bytes.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

/// What a peer can do, from its handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Speaks the fast extension (BEP 6).
    pub fast: bool,
    /// The longest request it takes, bytes.
    pub max_request: u32,
    /// Requests it lets us leave unanswered.
    pub queue: u32,
}

impl Traits {
    /// What a peer is taken for until it says more.
    pub fn stranger(fast: bool) -> Traits {
        Traits { fast, max_request: STRANGER_REQUEST, queue: 250 }
    }

    /// It is of our own kind.
    fn is_friend(&self) -> bool {
        self.max_request > STRANGER_REQUEST
    }
}

/// How a swarm is to behave.
#[derive(Clone, Debug)]
pub struct Config {
    /// Peers unchoked at once; none: from the measured upload rate.
    pub slots: Option<usize>,
    /// Peers sent to at the same time, each one piece a turn.
    pub turns: usize,
    /// Serve others at all.
    pub upload: bool,
    /// The longest request to make of our own kind, bytes.
    pub max_request: u32,
    /// How long one request may last at the rate of whom it is made of, seconds, so that other messages do not
    /// wait behind it.
    pub request_time: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config { slots: None, turns: 4, upload: true, max_request: FRIEND_REQUEST, request_time: 0.008 }
    }
}

/// What is to be done for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell it which pieces are here, as the first message.
    Bitfield,
    /// Tell it that a piece is here.
    Have(u32),
    /// Serve it no longer; its queued requests are void.
    Choke,
    /// Serve it.
    Unchoke,
    /// It has something that we lack.
    Interested,
    /// It has nothing that we lack.
    NotInterested,
    /// Ask it for a block.
    Request(Block),
    /// Take a request back.
    Cancel(Block),
    /// Tell it that its request will not be served (BEP 6).
    Reject(Block),
    /// There is something to send: ask [`Swarm::next_upload`].
    Wake,
    /// Verify this piece and report with [`Swarm::verified`]; the peer is nobody.
    Verify(u32),
    /// End the connection.
    Drop(Offence),
    /// End the connection and refuse the address from now on.
    Ban(Offence),
}

/// What a peer did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Named a piece or a range that the torrent does not have.
    OutOfRange,
    /// Sent a bitfield of the wrong length or with spare bits set.
    BadBitfield,
    /// Asked for a longer block than we serve.
    RequestTooLong,
    /// Left more requests unanswered than we allow.
    RequestFlood,
    /// Sent blocks that nobody asked it for.
    Unasked,
    /// Gave data that fail the piece's hash.
    BadData,
    /// Has nothing that we lack, nor we that it lacks.
    Useless,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Offence::OutOfRange => "named a piece or a range that the torrent does not have",
            Offence::BadBitfield => "sent a bitfield that does not fit the torrent",
            Offence::RequestTooLong => "asked for a longer block than is served",
            Offence::RequestFlood => "left too many requests unanswered",
            Offence::Unasked => "sent blocks that it was not asked for",
            Offence::BadData => "sent data that fail the hash of their piece",
            Offence::Useless => "is whole, and so are we",
        })
    }
}

/// Whether a block that came is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write this part of it, then call [`Swarm::stored`] with the part.
    Store(Block),
    /// It is here already, or no longer wanted.
    Ignore,
}

/// What verifying a piece gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The hash is right.
    Good,
    /// The hash is wrong.
    Bad,
}

/// What a request that we made still stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Its blocks are waited for.
    Waiting,
    /// It is late: its blocks may be asked of others, and are welcome if they come.
    Doubted,
    /// It was taken back; a peer with the fast extension still answers it.
    Cancelled,
}

/// One request made of a peer.
#[derive(Clone, Copy, Debug)]
struct Request {
    block: Block,
    held: Held,
}

/// What is known of one connected peer.
#[derive(Debug)]
struct Peer {
    traits: Traits,
    have: Bitfield,
    /// Announced everything at once, so that it is counted in `Picker::seeds` instead of piece by piece.
    counted_as_seed: bool,
    spoke: bool,
    /// It chokes us.
    choking: bool,
    /// It wants something of us.
    interested: bool,
    /// We choke it.
    choked: bool,
    /// We want something of it.
    wanting: bool,
    /// Pieces that it has and we lack.
    useful: u32,
    requests: VecDeque<Request>,
    requested: u64,
    fetching: Option<u32>,
    refused: Vec<(u32, Duration)>,
    down: Rate,
    up: Rate,
    heard: Duration,
    snubbed: bool,
    unasked: u32,
    uploads: VecDeque<Block>,
    /// Bytes handed out to it since it was unchoked.
    served: u64,
    /// When it was choked, on the swarm's own count of chokes.
    choked_since: u64,
}

/// Numbers to show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Bytes of blocks that were written.
    pub downloaded: u64,
    /// Bytes of blocks that were handed out.
    pub uploaded: u64,
    /// Bytes that came and were thrown away.
    pub wasted: u64,
    /// Bytes of pieces that failed their hash.
    pub corrupt: u64,
}

/// One torrent's swarm as one peer sees it.
#[derive(Debug)]
pub struct Swarm {
    geometry: Geometry,
    config: Config,
    rng: Rng,
    have: Bitfield,
    peers: Vec<(PeerKey, Peer)>,
    picker: Picker,
    choker: Choker,
    blame: Blame,
    actions: VecDeque<(PeerKey, Action)>,
    down: Rate,
    up: Rate,
    totals: Totals,
    next_key: u32,
    /// Counts chokes and joins: who waits longest has the smallest number.
    clock: u64,
    spread: Spread,
}

impl Swarm {
    /// A swarm of a torrent of which `have` is here; `seed` makes its random choices.
    pub fn new(geometry: Geometry, have: Bitfield, config: Config, seed: u64) -> Swarm {
        let mut rng = Rng::new(seed);
        let picker = Picker::new(geometry, &have, &mut rng);
        Swarm {
            geometry,
            choker: Choker::new(config.turns),
            config,
            have,
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
            rng,
        }
    }

    /// The pieces that are here and verified.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The torrent's measures.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Everything is here.
    pub fn is_whole(&self) -> bool {
        self.have.is_full()
    }

    /// Sums since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes a second in and out at `now`.
    pub fn rates(&self, now: Duration) -> (f64, f64) {
        (self.down.per_second(now), self.up.per_second(now))
    }

    /// Connected peers: those with everything, and the others.
    pub fn population(&self) -> (usize, usize) {
        let seeds = self.peers.iter().filter(|(_, peer)| peer.have.is_full()).count();
        (seeds, self.peers.len() - seeds)
    }

    /// Bytes still missing.
    pub fn left(&self) -> u64 {
        self.have.iter_zeros().map(|piece| u64::from(self.geometry.piece_size(piece))).sum()
    }

    /// The oldest decision that was not taken yet.
    pub fn next_action(&mut self) -> Option<(PeerKey, Action)> {
        self.actions.pop_front()
    }

    /// The peer is known to have everything.
    pub fn is_peer_whole(&self, key: PeerKey) -> bool {
        self.find(key).is_some_and(|at| self.peers[at].1.have.is_full())
    }

    /// A connection to a peer is up and both handshakes are done.
    pub fn join(&mut self, now: Duration, traits: Traits) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        self.clock += 1;
        self.peers.push((
            key,
            Peer {
                traits,
                have: Bitfield::new(self.geometry.pieces()),
                counted_as_seed: false,
                spoke: false,
                choking: true,
                interested: false,
                choked: true,
                wanting: false,
                useful: 0,
                requests: VecDeque::new(),
                requested: 0,
                fetching: None,
                refused: Vec::new(),
                down: Rate::default(),
                up: Rate::default(),
                heard: now,
                snubbed: false,
                unasked: 0,
                uploads: VecDeque::new(),
                served: 0,
                choked_since: self.clock,
            },
        ));
        self.tell(key, Action::Bitfield);
        key
    }

    /// The extension handshake (BEP 10) told more of what the peer can do.
    pub fn learn(&mut self, key: PeerKey, max_request: u32, queue: u32) {
        if let Some(at) = self.find(key) {
            let traits = &mut self.peers[at].1.traits;
            traits.max_request = max_request.clamp(STRANGER_REQUEST, self.config.max_request.max(STRANGER_REQUEST));
            traits.queue = queue.max(1);
        }
    }

    /// The connection to a peer is gone.
    pub fn leave(&mut self, now: Duration, key: PeerKey) {
        let Some(at) = self.find(key) else { return };
        self.release_all(at);
        let (_, peer) = self.peers.remove(at);
        if !peer.counted_as_seed {
            self.picker.forget(&peer.have, &mut self.rng);
        }
        self.choker.forget(key);
        self.spread.forget(key);
        self.rechoke(now);
        self.fill_idle(now);
    }

    /// The peer chokes us.
    pub fn choke(&mut self, now: Duration, key: PeerKey) {
        let Some(at) = self.find(key) else { return };
        self.peers[at].1.choking = true;
        // With the fast extension each request is answered or rejected; without it a choke voids them all.
        if !self.peers[at].1.traits.fast {
            self.release_all(at);
            self.fill_idle(now);
        }
    }

    /// The peer serves us.
    pub fn unchoke(&mut self, now: Duration, key: PeerKey) {
        let Some(at) = self.find(key) else { return };
        let peer = &mut self.peers[at].1;
        peer.choking = false;
        peer.heard = now;
        peer.snubbed = false;
        self.fill(now, at);
    }

    /// The peer wants (`true`) or no longer wants something of us.
    pub fn interested(&mut self, now: Duration, key: PeerKey, interested: bool) {
        let Some(at) = self.find(key) else { return };
        self.peers[at].1.interested = interested;
        self.rechoke(now);
    }

    /// The peer has one more piece.
    pub fn have_piece(&mut self, now: Duration, key: PeerKey, piece: u32) -> Result<(), Offence> {
        if piece >= self.geometry.pieces() {
            return Err(Offence::OutOfRange);
        }
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        peer.spoke = true;
        if !peer.have.set(piece) {
            return Ok(());
        }
        self.picker.gained(piece, &mut self.rng);
        if !self.have.get(piece) {
            peer.useful += 1;
            self.review_interest(at);
            // One more choice matters only to a peer that ran out of them.
            if self.peers[at].1.requests.is_empty() {
                self.fill(now, at);
            }
        }
        self.drop_useless(at);
        Ok(())
    }

    /// The peer has the pieces of `have` (BEP 3; have-all and have-none of BEP 6).
    ///
    /// It should come first and once. aria2 sends it again where many haves would be longer; then what is new in
    /// it counts, and what is left out stays: nobody loses pieces.
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
        peer.useful = have.iter_ones().filter(|&piece| !self.have.get(piece)).count() as u32;
        self.picker.learn(&have, &mut self.rng);
        peer.have = have;
        self.review_interest(at);
        self.drop_useless(at);
        self.fill(now, at);
        Ok(())
    }

    /// The peer asks for a block.
    pub fn request(&mut self, now: Duration, key: PeerKey, block: Block) -> Result<(), Offence> {
        self.check_range(block)?;
        if block.length > self.config.max_request.max(FRIEND_REQUEST) {
            return Err(Offence::RequestTooLong);
        }
        let Some(at) = self.find(key) else { return Ok(()) };
        let peer = &mut self.peers[at].1;
        if peer.uploads.len() >= REQUEST_QUEUE as usize * 2 {
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
        if self.deflects(at, block) {
            self.tell(key, Action::Reject(block));
            return Ok(());
        }
        self.peers[at].1.uploads.push_back(block);
        self.schedule(now, key);
        Ok(())
    }

    /// The peer takes a request back.
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

    /// The peer will not serve our request (BEP 6).
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

    /// A block has come whole from the peer.
    pub fn arrived(&mut self, now: Duration, key: PeerKey, block: Block) -> Result<Verdict, Offence> {
        self.check_range(block)?;
        let Some(at) = self.find(key) else { return Ok(Verdict::Ignore) };
        let peer = &mut self.peers[at].1;
        peer.heard = now;
        peer.snubbed = false;
        peer.down.add(now, u64::from(block.length));
        self.down.add(now, u64::from(block.length));
        let request = peer.take_request(block);
        if request.is_none() {
            // A cancel or a choke that crossed it explains some.
            peer.unasked += 1;
            if peer.unasked > UNASKED_ALLOWED {
                return Err(Offence::Unasked);
            }
        }
        let stored = self.accept(block, request);
        let length = stored.map_or(0, |part| part.length);
        self.totals.wasted += u64::from(block.length - length);
        if stored.is_none() {
            self.fill(now, at);
        }
        Ok(stored.map_or(Verdict::Ignore, Verdict::Store))
    }

    /// The part of a block that is still wanted, and is written from now on.
    fn accept(&mut self, block: Block, request: Option<Request>) -> Option<Block> {
        let request = request?;
        let (first, run) = partial::blocks(block.begin, block.length);
        let partial = self.picker.partial(block.piece)?;
        if request.held == Held::Waiting {
            partial.release(first, run);
        }
        let (first, run) = partial.begin_write(first, run)?;
        let begin = first * BLOCK;
        Some(Block { begin, length: (run * BLOCK).min(block.begin + block.length - begin), ..block })
    }

    /// The block that [`Swarm::arrived`] said to store is written.
    pub fn stored(&mut self, now: Duration, key: PeerKey, block: Block) {
        let (first, run) = partial::blocks(block.begin, block.length);
        self.totals.downloaded += u64::from(block.length);
        let Some(partial) = self.picker.partial(block.piece) else { return };
        partial.end_write(first, run, key);
        if partial.is_complete() {
            partial.verifying = true;
            self.tell(PeerKey::NOBODY, Action::Verify(block.piece));
        }
        self.cancel_others(key, block);
        if let Some(at) = self.find(key) {
            self.fill(now, at);
        }
    }

    /// A piece was verified. `digests` are hashes of its blocks, wanted when [`Swarm::suspects`] says so.
    pub fn verified(&mut self, now: Duration, piece: u32, verified: Verified, digests: &[[u8; 20]]) {
        let Some(partial) = self.picker.partial(piece) else { return };
        let guilty = self.blame.judge(piece, verified == Verified::Good, partial.givers(), digests);
        match verified {
            Verified::Good => {
                self.picker.finish(piece);
                self.have.set(piece);
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

    /// The hashes of this piece's blocks are wanted with its verification.
    pub fn suspects(&self, piece: u32) -> bool {
        self.blame.suspects(piece)
    }

    /// A verified piece turned out to be unreadable or lost: it is no longer here.
    pub fn lost(&mut self, now: Duration, piece: u32) {
        if self.have.clear(piece) {
            self.picker.want(piece, &mut self.rng);
            for at in 0..self.peers.len() {
                if self.peers[at].1.have.get(piece) {
                    self.peers[at].1.useful += 1;
                    self.review_interest(at);
                }
            }
            self.fill_idle(now);
        }
    }

    /// What goes by time: peers that stall, refusals that lapse, slots that rotate. Call it a few times a second.
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

impl Peer {
    fn take_request(&mut self, block: Block) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.block == block)?;
        self.requested -= u64::from(block.length);
        self.requests.remove(at)
    }

    fn refuses(&self, piece: u32) -> bool {
        self.refused.iter().any(|(refused, _)| *refused == piece)
    }
}
