//! Verification of complete pieces: one thread a session hashes them in lanes and reports to their torrents.

use std::io;
use std::sync::Arc;

use kernels::lanes::sha1;

use super::gather::{LANES, Queue};
use super::torrent::Torrent;
use crate::base::boundary::guard;
use crate::swarm::Verified;
use crate::torrent::{BLOCK, PieceHasher};

/// Verifies the queue's pieces until it is stopped.
pub fn run(queue: &Queue<Torrent>) {
    let mut hasher = PieceHasher::new();
    let (mut pieces, mut digests) = (Vec::with_capacity(LANES), Vec::with_capacity(LANES));
    let mut outcomes = Vec::with_capacity(LANES);
    while let Some(torrent) = queue.take(&mut pieces) {
        let verified = guard(format_args!("verify {}", torrent.name()), || {
            let read = |offset: u64, buffer: &mut [u8]| torrent.storage().read(offset, buffer);
            hasher.hash(&torrent.metainfo().geometry, &pieces, &read, &mut digests);
            for (piece, digest) in digests.drain(..) {
                match digest {
                    Ok(digest) => outcomes.push(judge(&torrent, piece, digest == torrent.metainfo().piece_hash(piece))),
                    Err(error) => torrent.fail(format!("read {} back: {error}", torrent.name())),
                }
            }
            torrent.verified(&outcomes);
        });
        outcomes.clear();
        if let Err(panicked) = verified {
            // The torrent would wait for these pieces without end.
            torrent.fail(panicked.to_string());
            (hasher, digests) = (PieceHasher::new(), Vec::with_capacity(LANES));
        }
    }
}

fn judge(torrent: &Arc<Torrent>, piece: u32, good: bool) -> (u32, Verified, Vec<[u8; 20]>) {
    // Block digests show which peer sent bad blocks; while all goes well they are not needed.
    let digests = if !good || torrent.with(|state, _| state.swarm.suspects(piece)) {
        block_digests(torrent, piece).unwrap_or_default()
    } else {
        Vec::new()
    };
    if !good {
        torrent.log(&format!("warn, piece {piece} hash check failed."));
    }
    (piece, if good { Verified::Good } else { Verified::Bad }, digests)
}

fn block_digests(torrent: &Torrent, piece: u32) -> io::Result<Vec<[u8; 20]>> {
    let geometry = &torrent.metainfo().geometry;
    let mut buffer = vec![0; BLOCK as usize];
    (0..geometry.blocks(piece))
        .map(|block| {
            let part = &mut buffer[..geometry.block_size(piece, block) as usize];
            torrent.storage().read(geometry.piece_offset(piece) + u64::from(block * BLOCK), part)?;
            Ok(sha1(part))
        })
        .collect()
}
