//! Hashing stored pieces: read in small chunks, as many pieces at a time as there are lanes, by any number of
//! threads.
//!
//! Serves describing an image, checking the contents of a disk, and verifying a download's finished pieces. Whole
//! pieces are never in memory: a thread has one buffer of [`BUFFER`] bytes.

use std::io;
use std::sync::Mutex;

use kernels::lanes::{self, Lanes};

use super::Geometry;
use crate::base::sync::lock;

/// Bytes of each piece that are read at a time. With all lanes this fills a second-level cache of 1 MiB; half of it
/// costs 5 % more CPU time for system calls, a quarter 12 %, and twice as much saves nothing.
const CHUNK: usize = 64 << 10;

/// Bytes of a cache line. Each chunk begins at one, or its loads would touch two each; and each is shifted by one
/// line against the chunk before, or the lanes would evict each other from the few places that the first-level cache
/// has for lines at a power-of-two distance.
const LINE: usize = 64;

/// Distance from one lane's chunk to the next one's, bytes.
const STRIDE: usize = CHUNK + LINE;

/// Bytes of memory that a [`PieceHasher`] keeps.
pub const BUFFER: usize = lanes::WIDTH * STRIDE + LINE;

/// Reads the bytes at an offset in the torrent, all of them or fails.
pub type Read<'a> = dyn Fn(u64, &mut [u8]) -> io::Result<()> + Sync + 'a;

/// A piece and its SHA-1, or why it could not be read.
pub type Hashed = (u32, io::Result<[u8; 20]>);

/// The state of one hashing thread; its buffer is allocated once.
pub struct PieceHasher {
    buffer: Vec<u8>,
}

impl Default for PieceHasher {
    fn default() -> PieceHasher {
        PieceHasher::new()
    }
}

impl PieceHasher {
    /// Creates a hasher and allocates its buffer.
    pub fn new() -> PieceHasher {
        PieceHasher { buffer: vec![0; BUFFER] }
    }

    /// Hashes `pieces` and appends the results to `out`. Fastest with [`lanes::WIDTH`] pieces or a multiple of it;
    /// an unreadable piece does not affect the others.
    pub fn hash(&mut self, geometry: &Geometry, pieces: &[u32], read: &Read, out: &mut Vec<Hashed>) {
        // Lanes advance together, so a short last piece goes alone.
        let alike = pieces.chunk_by(|a, b| geometry.piece_size(*a) == geometry.piece_size(*b));
        for group in alike.flat_map(|pieces| pieces.chunks(lanes::WIDTH)) {
            self.group(geometry, group, read, out);
        }
    }

    /// Hashes up to [`lanes::WIDTH`] pieces of one size.
    fn group(&mut self, geometry: &Geometry, pieces: &[u32], read: &Read, out: &mut Vec<Hashed>) {
        let size = geometry.piece_size(pieces[0]) as usize;
        let mut failed: [Option<io::Error>; lanes::WIDTH] = Default::default();
        if size == 0 {
            let error = || io::Error::new(io::ErrorKind::InvalidInput, "the torrent has no such piece");
            out.extend(pieces.iter().map(|piece| (*piece, Err(error()))));
            return;
        }
        let mut lanes = Lanes::new(pieces.len());
        let mut digests = [[0; 20]; lanes::WIDTH];
        let aligned = self.buffer.as_ptr().align_offset(LINE).min(LINE);
        let buffer = &mut self.buffer[aligned..];
        for at in (0..size).step_by(CHUNK) {
            let length = CHUNK.min(size - at);
            let buffers = buffer.chunks_exact_mut(STRIDE);
            for ((piece, buffer), failed) in pieces.iter().zip(buffers).zip(&mut failed) {
                if failed.is_none() {
                    *failed = read(geometry.piece_offset(*piece) + at as u64, &mut buffer[..length]).err();
                }
            }
            if failed[..pieces.len()].iter().all(Option::is_some) {
                break;
            }
            // A lane whose read failed hashes stale bytes; its digest is ignored.
            let chunks: [&[u8]; lanes::WIDTH] = std::array::from_fn(|lane| &buffer[lane * STRIDE..][..length]);
            if at + length < size {
                lanes.update(&chunks[..pieces.len()]);
            } else {
                lanes.finish(&chunks[..pieces.len()], &mut digests[..pieces.len()]);
            }
        }
        for ((piece, failed), digest) in pieces.iter().zip(failed).zip(digests) {
            out.push((*piece, failed.map_or(Ok(digest), Err)));
        }
    }
}

/// Hashes pieces on `threads` threads, including the caller's, and passes each result to `done` as it is ready, in
/// no particular order and from any thread.
///
/// Free threads take the next pieces from `pieces` in its order, so an iterator that ends early stops everything,
/// and one that watches the items it yields knows which will be read next.
pub fn hash_pieces(
    geometry: &Geometry,
    pieces: &mut (dyn Iterator<Item = u32> + Send),
    threads: usize,
    read: &Read,
    done: &(dyn Fn(u32, io::Result<[u8; 20]>) + Sync),
) {
    let threads = threads.max(1);
    let pieces = Mutex::new(pieces);
    let work = || {
        let mut hasher = PieceHasher::new();
        let (mut group, mut hashed) = (Vec::with_capacity(lanes::WIDTH), Vec::with_capacity(lanes::WIDTH));
        loop {
            {
                let mut pieces = lock(&pieces);
                // Towards the end every thread gets its share.
                let share = match pieces.size_hint() {
                    (_, Some(left)) => left.div_ceil(threads),
                    _ => lanes::WIDTH,
                };
                group.extend((&mut **pieces).take(share.clamp(1, lanes::WIDTH)));
            }
            if group.is_empty() {
                return;
            }
            hasher.hash(geometry, &group, read, &mut hashed);
            group.clear();
            hashed.drain(..).for_each(|(piece, hash)| done(piece, hash));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If no thread can be started, the others do its work.
            let spawned =
                std::thread::Builder::new().name("hash".into()).stack_size(256 << 10).spawn_scoped(scope, work);
            if spawned.is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1_smol::Sha1;

    fn data(length: usize) -> Vec<u8> {
        (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
    }

    fn oracle(geometry: &Geometry, data: &[u8], piece: u32) -> [u8; 20] {
        let begin = geometry.piece_offset(piece) as usize;
        Sha1::from(&data[begin..][..geometry.piece_size(piece) as usize]).digest().bytes()
    }

    fn reader(data: &[u8]) -> impl Fn(u64, &mut [u8]) -> io::Result<()> + Sync + '_ {
        |offset, into| {
            into.copy_from_slice(
                data.get(offset as usize..)
                    .and_then(|rest| rest.get(..into.len()))
                    .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?,
            );
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn every_piece_is_hashed_once_by_any_number_of_threads(
            length in 1usize..3_000_000, piece_length in 1u32..200_000, threads in 0usize..5, skip in 0u32..4
        ) {
            let geometry = Geometry::new(length as u64, piece_length.max(length as u32 / 500));
            let data = data(length);
            let wanted: Vec<u32> = (0..geometry.pieces()).filter(|piece| skip == 0 || piece % (skip + 1) != 0).collect();
            let hashed = Mutex::new(Vec::new());
            let done = |piece, hash: io::Result<[u8; 20]>| hashed.lock().unwrap().push((piece, hash.unwrap()));
            hash_pieces(&geometry, &mut wanted.iter().copied(), threads, &reader(&data), &done);
            let mut hashed = hashed.into_inner().unwrap();
            hashed.sort_unstable();
            let expected: Vec<_> = wanted.iter().map(|piece| (*piece, oracle(&geometry, &data, *piece))).collect();
            prop_assert_eq!(hashed, expected);
        }
    }

    #[test]
    fn a_piece_that_cannot_be_read_concerns_only_itself() {
        let geometry = Geometry::new(40 * 100_000 - 1, 100_000);
        let data = data(40 * 100_000 - 1);
        let (bad_begin, bad_end) = (geometry.piece_offset(3), geometry.piece_offset(39) + 70_000);
        let read = |offset: u64, into: &mut [u8]| match offset {
            offset if offset == bad_begin => Err(io::Error::other("bad sector")),
            offset if (bad_end - 60_000..bad_end).contains(&offset) => Err(io::Error::other("bad end")),
            _ => reader(&data)(offset, into),
        };
        let mut out = Vec::new();
        PieceHasher::new().hash(&geometry, &(0..41).collect::<Vec<u32>>(), &read, &mut out);
        for (piece, hash) in out {
            match piece {
                3 => assert_eq!(hash.unwrap_err().to_string(), "bad sector"),
                39 => assert_eq!(hash.unwrap_err().to_string(), "bad end"),
                40 => assert_eq!(hash.unwrap_err().to_string(), "the torrent has no such piece"),
                _ => assert_eq!(hash.unwrap(), oracle(&geometry, &data, piece)),
            }
        }
    }

    #[test]
    fn pieces_in_any_order_keep_their_numbers() {
        let geometry = Geometry::new(1_000_001, 50_000);
        let data = data(1_000_001);
        let pieces = [20, 3, 3, 0, 19, 20, 7];
        let mut out = Vec::new();
        PieceHasher::new().hash(&geometry, &pieces, &reader(&data), &mut out);
        let found: Vec<_> = out.into_iter().map(|(piece, hash)| (piece, hash.unwrap())).collect();
        assert_eq!(found, pieces.map(|piece| (piece, oracle(&geometry, &data, piece))));
    }

    #[test]
    fn a_device_that_fails_everywhere_is_given_up_at_once() {
        let geometry = Geometry::new(64 << 20, 4 << 20);
        let reads = Mutex::new(0);
        let read = |_: u64, _: &mut [u8]| {
            *reads.lock().unwrap() += 1;
            Err(io::Error::other("gone"))
        };
        let mut out = Vec::new();
        PieceHasher::new().hash(&geometry, &(0..16).collect::<Vec<u32>>(), &read, &mut out);
        assert!(out.len() == 16 && out.iter().all(|(_, hash)| hash.is_err()));
        assert_eq!(*reads.lock().unwrap(), 16);
    }
}
