//! Which pieces are here already.

use std::sync::Mutex;

use super::Storage;
use crate::base::sync::{lock, unpoisoned};
use crate::torrent::{Bitfield, Metainfo, hash_pieces};

/// Hashes every piece with `threads` threads and returns the set of those that are right; unreadable ones are not.
/// `progress` gets the bytes hashed since its last call.
pub fn check(storage: &Storage, metainfo: &Metainfo, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Bitfield {
    check_some(storage, metainfo, &mut (0..metainfo.geometry.pieces()), threads, progress)
}

/// Like [`check`], for `pieces` alone.
pub fn check_some(
    storage: &Storage,
    metainfo: &Metainfo,
    pieces: &mut (dyn Iterator<Item = u32> + Send),
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Bitfield {
    let geometry = &metainfo.geometry;
    let have = Mutex::new(Bitfield::new(geometry.pieces()));
    hash_pieces(geometry, pieces, threads, &|offset, buffer| storage.read(offset, buffer), &|piece, digest| {
        if digest.is_ok_and(|digest| digest == metainfo.piece_hash(piece)) {
            lock(&have).set(piece);
        }
        progress(u64::from(geometry.piece_size(piece)));
    });
    unpoisoned(have.into_inner())
}
