//! Peer messages, bytes ↔ values, without I/O: BEP 3, the fast extension (BEP 6), the extension protocol's
//! envelope (BEP 10).

use std::fmt;

use crate::swarm::{Block, FRIEND_REQUEST};
use crate::torrent::{InfoHash, PeerId};

/// Length of a handshake, bytes.
pub const HANDSHAKE: usize = 68;
/// Number of bytes before the data of a piece message: length, id, piece, begin.
pub const PIECE_HEADER: usize = 13;
/// Longest extended message that is read, bytes.
pub const MAX_EXTENDED: usize = 64 << 10;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
const EXTENDED_BIT: (usize, u8) = (5, 0x10);
const FAST_BIT: (usize, u8) = (7, 0x04);

/// Ids of the messages, with the BEP that defines them.
mod id {
    pub const CHOKE: u8 = 0; // BEP 3
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const HAVE_ALL: u8 = 14; // BEP 6
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const EXTENDED: u8 = 20; // BEP 10
}

/// The first 68 bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The torrent that the connection is for.
    pub info_hash: InfoHash,
    /// The sender's peer id.
    pub peer_id: PeerId,
    /// Whether the sender speaks the fast extension (BEP 6).
    pub fast: bool,
    /// Whether the sender speaks the extension protocol (BEP 10).
    pub extended: bool,
}

impl Handshake {
    /// Returns the bytes to send.
    pub fn encode(&self) -> [u8; HANDSHAKE] {
        let mut bytes = [0; HANDSHAKE];
        bytes[..20].copy_from_slice(PROTOCOL);
        for (set, (at, bit)) in [(self.extended, EXTENDED_BIT), (self.fast, FAST_BIT)] {
            bytes[20 + at] |= if set { bit } else { 0 };
        }
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads a handshake.
    ///
    /// # Errors
    /// The bytes are of another protocol.
    pub fn decode(bytes: &[u8; HANDSHAKE]) -> Result<Handshake, Error> {
        if &bytes[..20] != PROTOCOL {
            return Err(Error::NotBitTorrent);
        }
        let mut handshake = Handshake {
            info_hash: InfoHash([0; 20]),
            peer_id: PeerId([0; 20]),
            extended: bytes[20 + EXTENDED_BIT.0] & EXTENDED_BIT.1 != 0,
            fast: bytes[20 + FAST_BIT.0] & FAST_BIT.1 != 0,
        };
        handshake.info_hash.0.copy_from_slice(&bytes[28..48]);
        handshake.peer_id.0.copy_from_slice(&bytes[48..]);
        Ok(handshake)
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Nothing; it only keeps the connection alive.
    KeepAlive,
    /// Requests will not be served.
    Choke,
    /// Requests will be served.
    Unchoke,
    /// The sender wants something.
    Interested,
    /// The sender wants nothing.
    NotInterested,
    /// The sender has this piece.
    Have(u32),
    /// The sender has these pieces.
    Bitfield(&'a [u8]),
    /// A request for a block.
    Request(Block),
    /// A block.
    Piece {
        /// Index of the piece.
        piece: u32,
        /// Offset in it, bytes.
        begin: u32,
        /// The data.
        data: &'a [u8],
    },
    /// A request is cancelled.
    Cancel(Block),
    /// The sender has every piece.
    HaveAll,
    /// The sender has no piece.
    HaveNone,
    /// A request will not be served.
    Reject(Block),
    /// A message of the extension protocol; id 0 is its handshake.
    Extended(u8, &'a [u8]),
    /// A message with an id that we do not use.
    Other(u8),
}

impl Message<'_> {
    /// Appends the bytes to send.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |id: u8, parts: &[&[u8]]| {
            let length: usize = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
            out.extend_from_slice(&(length as u32).to_be_bytes());
            out.push(id);
            parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        let numbers = |block: &Block| {
            let mut bytes = [0; 12];
            for (at, number) in [block.piece, block.begin, block.length].into_iter().enumerate() {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_be_bytes());
            }
            bytes
        };
        match self {
            Message::KeepAlive => out.extend_from_slice(&[0; 4]),
            Message::Choke => put(id::CHOKE, &[]),
            Message::Unchoke => put(id::UNCHOKE, &[]),
            Message::Interested => put(id::INTERESTED, &[]),
            Message::NotInterested => put(id::NOT_INTERESTED, &[]),
            Message::Have(piece) => put(id::HAVE, &[&piece.to_be_bytes()]),
            Message::Bitfield(bits) => put(id::BITFIELD, &[bits]),
            Message::Request(block) => put(id::REQUEST, &[&numbers(block)]),
            Message::Piece { piece, begin, data } => {
                put(id::PIECE, &[&piece.to_be_bytes(), &begin.to_be_bytes(), data])
            }
            Message::Cancel(block) => put(id::CANCEL, &[&numbers(block)]),
            Message::HaveAll => put(id::HAVE_ALL, &[]),
            Message::HaveNone => put(id::HAVE_NONE, &[]),
            Message::Reject(block) => put(id::REJECT, &[&numbers(block)]),
            Message::Extended(extension, payload) => put(id::EXTENDED, &[&[*extension], payload]),
            Message::Other(other) => put(*other, &[]),
        }
    }

    /// Reads the message at the front of `bytes`; returns it and its length, or `None` if it is incomplete.
    ///
    /// `bitfield` is the length in bytes of the torrent's bitfield.
    ///
    /// # Errors
    /// The message has an impossible length; reported before it is complete, so that the rest is not waited for.
    pub fn decode(bytes: &[u8], bitfield: usize) -> Result<Option<(Message<'_>, usize)>, Error> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 {
            return Ok(Some((Message::KeepAlive, 4)));
        }
        let Some(&kind) = rest.first() else {
            return if length > max_frame(bitfield) { Err(Error::Length { id: None, length }) } else { Ok(None) };
        };
        let fits = match kind {
            id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => length == 1,
            id::HAVE => length == 5,
            id::BITFIELD => length == 1 + bitfield,
            id::REQUEST | id::CANCEL | id::REJECT => length == 13,
            id::PIECE => (10..=9 + FRIEND_REQUEST as usize).contains(&length),
            id::EXTENDED => (2..=2 + MAX_EXTENDED).contains(&length),
            _ => length <= 1 + MAX_EXTENDED,
        };
        if !fits {
            return Err(Error::Length { id: Some(kind), length });
        }
        let Some(body) = rest.get(1..length) else { return Ok(None) };
        let number = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let block = || Block { piece: number(0), begin: number(4), length: number(8) };
        let message = match kind {
            id::CHOKE => Message::Choke,
            id::UNCHOKE => Message::Unchoke,
            id::INTERESTED => Message::Interested,
            id::NOT_INTERESTED => Message::NotInterested,
            id::HAVE => Message::Have(number(0)),
            id::BITFIELD => Message::Bitfield(body),
            id::REQUEST => Message::Request(block()),
            id::PIECE => Message::Piece { piece: number(0), begin: number(4), data: &body[8..] },
            id::CANCEL => Message::Cancel(block()),
            id::HAVE_ALL => Message::HaveAll,
            id::HAVE_NONE => Message::HaveNone,
            id::REJECT => Message::Reject(block()),
            id::EXTENDED => Message::Extended(body[0], &body[1..]),
            other => Message::Other(other),
        };
        Ok(Some((message, 4 + length)))
    }
}

/// Length of the longest message for a bitfield of `bitfield` bytes, without the length prefix.
pub fn max_frame(bitfield: usize) -> usize {
    (9 + FRIEND_REQUEST as usize).max(1 + bitfield).max(2 + MAX_EXTENDED)
}

/// A violation of the protocol by a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A handshake of another protocol.
    NotBitTorrent,
    /// A message of an impossible length for its kind.
    Length {
        /// Id of the message; `None` if only the length had come.
        id: Option<u8>,
        /// Announced length, bytes.
        length: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::NotBitTorrent => f.write_str("does not speak BitTorrent"),
            Error::Length { id: Some(id), length } => write!(f, "sent a message {id} of {length} bytes"),
            Error::Length { id: None, length } => write!(f, "sent a message of {length} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BITFIELD: usize = 5;

    fn block() -> impl Strategy<Value = Block> {
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| Block { piece, begin, length })
    }

    fn round_trip(message: Message) -> Result<(), TestCaseError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for cut in 0..bytes.len() {
            prop_assert_eq!(Message::decode(&bytes[..cut], BITFIELD), Ok(None));
        }
        prop_assert_eq!(Message::decode(&bytes, BITFIELD), Ok(Some((message, bytes.len()))));
        Ok(())
    }

    proptest! {
        #[test]
        fn every_message_survives_the_wire_and_is_never_read_before_it_is_complete(
            piece: u32, begin: u32, block in block(), data in prop::collection::vec(any::<u8>(), 1..40), bits: [u8; BITFIELD], id in 21u8..,
        ) {
            for message in [
                Message::KeepAlive, Message::Choke, Message::Unchoke, Message::Interested, Message::NotInterested,
                Message::Have(piece), Message::Bitfield(&bits), Message::Request(block), Message::Cancel(block),
                Message::Reject(block), Message::Piece { piece, begin, data: &data }, Message::HaveAll,
                Message::HaveNone, Message::Extended(id, &data), Message::Other(id),
            ] {
                round_trip(message)?;
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_wait_for_more_than_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, taken))) = Message::decode(&bytes, BITFIELD) {
                prop_assert!(taken <= bytes.len());
            }
            if bytes.len() >= 5 && bytes[0] > 0 {
                let refused = matches!(Message::decode(&bytes, BITFIELD), Err(Error::Length { .. }));
                prop_assert!(refused);
            }
        }

        #[test]
        fn a_handshake_survives_the_wire(info_hash: [u8; 20], peer_id: [u8; 20], fast: bool, extended: bool) {
            let handshake = Handshake { info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), fast, extended };
            prop_assert_eq!(Handshake::decode(&handshake.encode()), Ok(handshake));
        }
    }
}
