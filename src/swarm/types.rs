//! The words that a swarm and whoever runs it speak to one another.

use crate::torrent::BLOCK;

/// The longest request that a stranger accepts, bytes (BEP 3).
pub const STRANGER_REQUEST: u32 = BLOCK;
/// The longest request that we accept and, of our own kind, ask for, bytes.
pub const FRIEND_REQUEST: u32 = 8 * BLOCK;
/// Requests that one peer may leave with us unanswered (`reqq` of BEP 10).
pub const REQUEST_QUEUE: u32 = 512;

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
    pub fn is_friend(&self) -> bool {
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
    /// There is something to send: ask [`super::Swarm::next_upload`].
    Wake,
    /// Verify this piece and report with [`super::Swarm::verified`]; the peer is nobody.
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
    /// Told again and again of pieces that it was known to have.
    Repeated,
    /// Sent nothing at all while it owed us blocks.
    Stalled,
    /// Gave data that fail the piece's hash.
    BadData,
    /// Lacks nothing, and neither do we.
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

/// Whether a block that came is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write this part of it, then call [`super::Swarm::stored`] with the part.
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
