//! ogbox: disk imaging for computer labs over BitTorrent, one static binary with many names.
//!
//! The rooms, in the order in which arrows may point (down this list only; `image` and `tracker` know
//! nothing of `peer` or `swarm`, `engine` knows nothing of torrents):

// One file a command: its options, its help, its exit codes. Wires rooms together.
pub mod applets;
// What the standard library lacks and any room may use: the clock, logs, random numbers, stamps of files, tree walks.
pub mod base;
// OpenGnsys' conventions: disk numbers, REPO and CACHE, error codes, messages, logs, locks.
pub mod engine;
// Partition imaging: used-block maps, the partclone container, compressors, save, restore.
pub mod image;
// The wire: messages, handshake, extensions, connections (threads), discovery.
pub mod peer;
// A server's directory of images: what of it may be seeded, what was verified, what its images lack.
pub mod repository;
// Where pieces live: files, block devices, the resume journal.
pub mod storage;
// Who asks whom for what: picker, choker, request queues. Pure: no socket, file, clock or thread.
pub mod swarm;
// Every `unsafe`, every ioctl, every system call that rustix has no safe wrapper for.
pub mod sys;
// What a torrent is: bencode, metainfo, bitfield, piece hashing (its lanes are in the package `kernels`).
pub mod torrent;
// Both ends of the tracker protocol: client, server, its state, its pages.
pub mod tracker;
