//! The types that a swarm and its driver exchange.

use crate::torrent::BLOCK;

/// The longest request that a stranger accepts, bytes (BEP 3).
pub const STRANGER_REQUEST: u32 = BLOCK;
/// The longest request that we accept from any peer, and make of our own kind, bytes.
pub const FRIEND_REQUEST: u32 = 8 * BLOCK;
/// Requests that one peer may have open with us (`reqq` of BEP 10).
pub const REQUEST_QUEUE: u32 = 512;

/// One connected peer. No key is used twice while a swarm lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

impl PeerKey {
    /// Stands for no peer.
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

/// Abilities of a peer, from its handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Whether it speaks the fast extension (BEP 6).
    pub fast: bool,
    /// The longest request it takes, bytes.
    pub max_request: u32,
    /// Requests that we may have open with it.
    pub queue: u32,
}

impl Traits {
    /// Assumed abilities of a peer until it says more.
    pub fn stranger(fast: bool) -> Traits {
        Traits { fast, max_request: STRANGER_REQUEST, queue: 250 }
    }

    /// Whether it is of our own kind.
    pub fn is_friend(&self) -> bool {
        self.max_request > STRANGER_REQUEST
    }
}

/// Behaviour of a swarm.
#[derive(Clone, Debug)]
pub struct Config {
    /// Peers unchoked at once; `None`: derived from the measured upload rate.
    pub slots: Option<usize>,
    /// Peers sent to at the same time, each one piece a turn.
    pub turns: usize,
    /// Whether to serve others at all.
    pub upload: bool,
    /// The longest request to make of our own kind, bytes.
    pub max_request: u32,
    /// Longest time that one request may take at the peer's rate, seconds, so that other messages do not wait behind
    /// it.
    pub request_time: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config { slots: None, turns: 4, upload: true, max_request: FRIEND_REQUEST, request_time: 0.008 }
    }
}

/// An action to be taken for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it the pieces that are here, as the first message.
    Bitfield,
    /// Announce to it a piece that is here.
    Have(u32),
    /// Serve it no longer; its queued requests are void.
    Choke,
    /// Serve it.
    Unchoke,
    /// Tell it that we are interested: it has something that we lack.
    Interested,
    /// Tell it that we are no longer interested.
    NotInterested,
    /// Request a block from it.
    Request(Block),
    /// Cancel a request.
    Cancel(Block),
    /// Reject its request (BEP 6).
    Reject(Block),
    /// Send something: ask [`super::Swarm::next_upload`] for it.
    Wake,
    /// Verify this piece and report with [`super::Swarm::verified`]; the peer is [`PeerKey::NOBODY`].
    Verify(u32),
    /// End the connection.
    Drop(Offence),
    /// End the connection and refuse the address from now on.
    Ban(Offence),
}

/// A peer's act that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Named a piece or a range that the torrent does not have.
    OutOfRange,
    /// Sent a bitfield of the wrong length or with spare bits set.
    BadBitfield,
    /// Asked for a longer block than we serve.
    RequestTooLong,
    /// Left more requests open than we allow.
    RequestFlood,
    /// Sent blocks that were not requested.
    Unasked,
    /// Announced again and again pieces that it was known to have.
    Repeated,
    /// Sent nothing at all while it owed us blocks.
    Stalled,
    /// Gave data that fail the piece's hash.
    BadData,
    /// Lacks nothing, as do we.
    Useless,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Offence::OutOfRange => "named a piece or a range that the torrent does not have",
            Offence::BadBitfield => "sent a bitfield that does not fit the torrent",
            Offence::RequestTooLong => "asked for a longer block than is served",
            Offence::RequestFlood => "left too many requests unanswered",
            Offence::Unasked => "sent blocks that were not requested",
            Offence::Repeated => "announced pieces again and again that it had",
            Offence::Stalled => "sent nothing for long although blocks were requested",
            Offence::BadData => "sent data that fail the hash of their piece",
            Offence::Useless => "lacks nothing, and neither do we",
        })
    }
}

/// Whether a block that arrived is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write this part of it, then call [`super::Swarm::stored`] with the part.
    Store(Block),
    /// It is here already, or no longer wanted.
    Ignore,
}

/// Outcome of verifying a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The hash is right.
    Good,
    /// The hash is wrong.
    Bad,
}

/// Totals for display.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Bytes of blocks that were written.
    pub downloaded: u64,
    /// Bytes of blocks that were handed out.
    pub uploaded: u64,
    /// Bytes that arrived and were thrown away.
    pub wasted: u64,
    /// Bytes of pieces that failed their hash.
    pub corrupt: u64,
}
