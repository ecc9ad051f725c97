//! Verifies pieces that are complete: one thread a session gathers them into lanes.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use kernels::lanes::sha1;

use super::lock;
use super::torrent::Torrent;
use crate::base::boundary::guard;
use crate::swarm::Verified;
use crate::torrent::{BLOCK, PieceHasher};

/// Pieces hashed side by side at the most.
const LANES: usize = 16;
/// A piece waits at most this long for others to be hashed with, when they come fast.
const LINGER: Duration = Duration::from_millis(20);

/// Pieces that wait to be verified.
pub struct Queue {
    pieces: Mutex<Waiting>,
    wake: Condvar,
    stop: AtomicBool,
}

struct Waiting {
    pieces: VecDeque<(Arc<Torrent>, u32)>,
    /// Average time between two pieces, seconds.
    gap: f64,
    last: Instant,
}

impl Queue {
    /// Nothing waits.
    pub fn new() -> Queue {
        let waiting = Waiting { pieces: VecDeque::new(), gap: 1.0, last: Instant::now() };
        Queue { pieces: Mutex::new(waiting), wake: Condvar::new(), stop: AtomicBool::new(false) }
    }

    /// The piece is complete.
    pub fn push(&self, torrent: Arc<Torrent>, piece: u32) {
        let mut waiting = lock(&self.pieces);
        let now = Instant::now();
        let gap = now.duration_since(waiting.last).as_secs_f64().min(1.0);
        waiting.gap = waiting.gap * 0.9 + gap * 0.1;
        waiting.last = now;
        waiting.pieces.push_back((torrent, piece));
        // Those between the first and the last of a group change nothing for whoever gathers it.
        if matches!(waiting.pieces.len(), 1 | LANES) {
            self.wake.notify_one();
        }
    }

    /// Ends [`Queue::run`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// Verifies what comes until [`Queue::stop`].
    pub fn run(&self) {
        let mut hasher = PieceHasher::new();
        let (mut pieces, mut digests) = (Vec::with_capacity(LANES), Vec::with_capacity(LANES));
        let mut outcomes = Vec::with_capacity(LANES);
        while let Some(torrent) = self.take(&mut pieces) {
            let verified = guard(format_args!("verify {}", torrent.name()), || {
                let read = |offset: u64, buffer: &mut [u8]| torrent.storage().read(offset, buffer);
                hasher.hash(&torrent.metainfo().geometry, &pieces, &read, &mut digests);
                for (piece, digest) in digests.drain(..) {
                    match digest {
                        Ok(digest) => {
                            outcomes.push(judge(&torrent, piece, digest == torrent.metainfo().piece_hash(piece)));
                        }
                        Err(error) => torrent.fail(format!("read {} back: {error}", torrent.name())),
                    }
                }
                torrent.verified(&outcomes);
            });
            outcomes.clear();
            if let Err(panicked) = verified {
                // Its pieces would be waited for without end.
                torrent.fail(panicked.to_string());
                (hasher, digests) = (PieceHasher::new(), Vec::with_capacity(LANES));
            }
        }
    }

    /// Waits for pieces, and a little longer for more of them when they come fast: up to [`LANES`] of one torrent.
    fn take(&self, pieces: &mut Vec<u32>) -> Option<Arc<Torrent>> {
        pieces.clear();
        let mut waiting = lock(&self.pieces);
        let mut deadline = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            let full = waiting.pieces.len() >= LANES;
            let fast = waiting.gap * LANES as f64 / 2.0 < LINGER.as_secs_f64();
            let until = if waiting.pieces.is_empty() { None } else { Some(*deadline.get_or_insert(now + LINGER)) };
            let time = match until {
                Some(until) if full || !fast || until <= now => break,
                Some(until) => until - now,
                None => Duration::from_secs(1),
            };
            waiting = self.wake.wait_timeout(waiting, time).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        let torrent = waiting.pieces.front()?.0.clone();
        waiting.pieces.retain(|(other, piece)| {
            let take = pieces.len() < LANES && Arc::ptr_eq(other, &torrent);
            if take {
                pieces.push(*piece);
            }
            !take
        });
        Some(torrent)
    }
}

fn judge(torrent: &Arc<Torrent>, piece: u32, good: bool) -> (u32, Verified, Vec<[u8; 20]>) {
    // Digests of blocks tell who gave bad ones; nobody needs them while all goes well.
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
