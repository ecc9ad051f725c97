//! ogbox: disk imaging for computer labs over BitTorrent, one static binary with many names.
//!
//! The rooms, uppermost first. A room may use only what those below it define, and not even that where the list says so;
//! `tests/house.rs` reads this list, holds the code to it and compares the README's table with it.
//!
//! - `applets`: commands
//! - `client`: a BitTorrent client without a face
//! - `repository`: a server's directory of images
//! - `engine` (not `torrent`): OpenGnsys' conventions
//! - `peer`: the wire of BitTorrent
//! - `swarm` (only `torrent`, `base`): decisions
//! - `storage`: where pieces live
//! - `image`: partition imaging
//! - `tracker`: both ends of the tracker protocol
//! - `torrent`: what a torrent is
//! - `base`: what any room above may use
//! - `kernels`: hot loops, a package of its own
//! - `sys`: system calls

pub mod applets;
pub mod base;
pub mod client;
pub mod engine;
pub mod image;
pub mod peer;
pub mod repository;
pub mod storage;
pub mod swarm;
pub mod sys;
pub mod torrent;
pub mod tracker;
