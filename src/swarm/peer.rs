//! What is known of one connected peer.

use std::collections::VecDeque;
use std::time::Duration;

use super::source::Source;
use super::{Block, Rate, Traits};
use crate::torrent::Bitfield;

/// What a request that we made still stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Its blocks are waited for.
    Waiting,
    /// It is late: its blocks may be asked of others, and are welcome if they come.
    Doubted,
    /// It was taken back; a peer with the fast extension still answers it.
    Cancelled,
}

/// One request made of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub block: Block,
    pub held: Held,
}

/// What is known of one connected peer.
#[derive(Debug)]
pub struct Peer {
    pub traits: Traits,
    /// It said itself how many requests it takes.
    pub told_queue: bool,
    /// It wants only some pieces, or some before others.
    pub choosy: bool,
    pub have: Bitfield,
    /// Announced everything at once, so that it is counted in `Picker::seeds` instead of piece by piece.
    pub counted_as_seed: bool,
    pub spoke: bool,
    /// It chokes us.
    pub choking: bool,
    /// It wants something of us.
    pub interested: bool,
    /// It says that it wants nothing any more, of anybody (BEP 21).
    pub upload_only: bool,
    /// We choke it.
    pub choked: bool,
    /// We want something of it.
    pub wanting: bool,
    /// Pieces that it has and we want.
    pub useful: u32,
    pub requests: VecDeque<Request>,
    pub requested: u64,
    pub fetching: Option<u32>,
    pub refused: Vec<(u32, Duration)>,
    pub down: Rate,
    pub up: Rate,
    pub heard: Duration,
    pub snubbed: bool,
    /// Blocks that it sent though it was not asked.
    pub unasked: u32,
    /// Times that it told of a piece that it was known to have.
    pub repeated: u32,
    pub uploads: VecDeque<Block>,
    /// The piece of the block that was handed out to it last.
    pub sending: Option<u32>,
    /// Bytes handed out to it since it was unchoked.
    pub served: u64,
    /// When it was choked, on the swarm's own count of chokes.
    pub choked_since: u64,
    /// It is no peer but a web seed.
    pub source: Option<Source>,
}

impl Peer {
    /// A peer that has joined at `now`; nothing is known of its `pieces`. `choked_since` as in the field.
    pub fn new(now: Duration, traits: Traits, pieces: u32, choked_since: u64) -> Peer {
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
            choked_since,
            source: None,
        }
    }

    /// Takes what is known of the request for `block` out of the list.
    pub fn take_request(&mut self, block: Block) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.block == block)?;
        self.requested -= u64::from(block.length);
        self.requests.remove(at)
    }

    /// It has been sent a part of a piece and awaits more of it.
    pub fn is_amid(&self) -> bool {
        self.uploads.front().is_some_and(|next| Some(next.piece) == self.sending)
    }

    /// It has everything, or all that it wants: it lacks nothing.
    pub fn is_sated(&self) -> bool {
        self.upload_only || self.have.is_full()
    }

    /// It rejected a block of the piece not long ago.
    pub fn refuses(&self, piece: u32) -> bool {
        self.refused.iter().any(|(refused, _)| *refused == piece)
    }
}
