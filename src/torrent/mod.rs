//! Torrents: bencode, metainfo, piece geometry, bitfield, piece hashing.
//!
//! Values and their validation; no sockets. BEP 3 (the protocol), 12 (tiers of trackers), 19 (web seeds), 23
//! (compact peers), 27 (private), 47 (pad files). Version 2 torrents (BEP 52) are read by their version 1 half if
//! they have one, and refused otherwise.

pub mod bencode;
mod bitfield;
pub mod compact;
pub mod create;
mod error;
mod geometry;
mod hash;
mod id;
mod metainfo;

pub use bitfield::Bitfield;
pub use error::{Error, Fault};
pub use geometry::{BLOCK, Geometry};
pub use hash::{Hashed, PieceHasher, hash_pieces};
pub use id::{InfoHash, PeerId};
pub use metainfo::{FileEntry, MAX_METAINFO, MAX_PIECE_LENGTH, Metainfo};
