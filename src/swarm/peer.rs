//! The state of one connected peer.

use std::collections::VecDeque;
use std::time::Duration;

use super::given::Given;
use super::rate::Rate;
use super::source::Source;
use super::types::{Block, Traits};
use crate::torrent::Bitfield;

/// State of a request that we made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Its blocks are awaited.
    Waiting,
    /// It is late: its blocks may be requested from others, and are welcome if they come.
    Doubted,
    /// It was cancelled; a peer with the fast extension still answers it.
    Cancelled,
}

/// One request made of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub block: Block,
    pub held: Held,
}

/// The state of one connected peer.
#[derive(Debug)]
pub struct Peer {
    pub traits: Traits,
    /// Whether it said itself how many requests it takes.
    pub told_queue: bool,
    /// Whether it wants only some pieces, or some before others.
    pub choosy: bool,
    pub have: Bitfield,
    /// Whether it announced everything at once, so that it is counted in `Picker::seeds` instead of piece by piece.
    pub counted_as_seed: bool,
    pub spoke: bool,
    /// Whether it chokes us.
    pub choking: bool,
    /// Whether it is interested in us.
    pub interested: bool,
    /// Whether it says that it wants nothing any more, of anybody (BEP 21).
    pub upload_only: bool,
    /// Whether we choke it.
    pub choked: bool,
    /// Whether we are interested in it.
    pub wanting: bool,
    /// Number of pieces that it has and we want.
    pub useful: u32,
    pub requests: VecDeque<Request>,
    pub requested: u64,
    pub fetching: Option<u32>,
    pub refused: Vec<(u32, Duration)>,
    pub down: Rate,
    pub up: Rate,
    pub heard: Duration,
    pub snubbed: bool,
    /// Blocks that it sent without a request of ours.
    pub unasked: u32,
    /// Times that it announced a piece that it was known to have.
    pub repeated: u32,
    pub uploads: VecDeque<Block>,
    /// The piece of the block that was handed out to it last.
    pub sending: Option<u32>,
    /// Bytes handed out to it since it was unchoked.
    pub served: u64,
    /// Index of its address in `Swarm::origins`.
    pub origin: usize,
    pub given: Given,
    /// Time at which it was unchoked or last took a block that it had not been given before.
    pub moved: Duration,
    /// Number of its place if it is in line for a turn.
    pub lined: Option<u64>,
    /// Whether its next block waits for our own limit.
    pub held: bool,
    /// Time at which it lost its turn because its connection took nothing; `None` once it takes something again.
    pub stalled: Option<Duration>,
    /// Time of its last choke, on the swarm's own count of chokes.
    pub choked_since: u64,
    /// Set if this is a web seed and no peer.
    pub source: Option<Source>,
}

impl Peer {
    /// Creates a peer that joins at `now`; nothing is known of its `pieces`. `choked_since` and `origin` are as in the
    /// fields.
    pub fn new(now: Duration, traits: Traits, pieces: u32, choked_since: u64, origin: usize) -> Peer {
        Peer {
            traits,
            told_queue: false,
            choosy: false,
            have: Bitfield::new(pieces),
            counted_as_seed: false,
            spoke: false,
            choking: true,
            interested: false,
            upload_only: false,
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
            repeated: 0,
            uploads: VecDeque::new(),
            sending: None,
            served: 0,
            origin,
            given: Given::default(),
            moved: now,
            lined: None,
            held: false,
            stalled: None,
            choked_since,
            source: None,
        }
    }

    /// Removes the request for `block` from the list and returns it.
    pub fn take_request(&mut self, block: Block) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.block == block)?;
        self.requested -= u64::from(block.length);
        self.requests.remove(at)
    }

    /// Whether it was sent a part of a piece and awaits the rest.
    pub fn is_amid(&self) -> bool {
        self.uploads.front().is_some_and(|next| Some(next.piece) == self.sending)
    }

    /// Whether it lacks nothing: it has everything, or all that it wants.
    pub fn is_sated(&self) -> bool {
        self.upload_only || self.have.is_full()
    }

    /// Whether it rejected a block of the piece not long ago.
    pub fn refuses(&self, piece: u32) -> bool {
        self.refused.iter().any(|(refused, _)| *refused == piece)
    }
}
