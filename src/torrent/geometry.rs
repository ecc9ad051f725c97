//! How a torrent's data are cut into pieces, and pieces into blocks (BEP 3).

use super::Bitfield;

/// Bytes of a block, the usual unit of a request.
pub const BLOCK: u32 = 16384;

/// The lengths of a torrent's data and of its pieces. All arithmetic on them is here.
///
/// Indices out of range do not panic: a piece or block that does not exist has size 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    length: u64,
    piece_length: u32,
}

impl Geometry {
    /// The geometry of `length` bytes in pieces of `piece_length` bytes. A piece length of 0 is taken as 1 (metainfo
    /// refuses it).
    pub fn new(length: u64, piece_length: u32) -> Geometry {
        Geometry { length, piece_length: piece_length.max(1) }
    }

    /// Bytes of the whole torrent.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of every piece but the last.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Number of pieces.
    pub fn pieces(&self) -> u32 {
        u32::try_from(self.length.div_ceil(u64::from(self.piece_length))).unwrap_or(u32::MAX)
    }

    /// Bytes of a piece; the last one may be short.
    pub fn piece_size(&self, piece: u32) -> u32 {
        let left = self.length.saturating_sub(self.piece_offset(piece));
        // The smaller of the two fits, as piece_length does.
        left.min(u64::from(self.piece_length)) as u32
    }

    /// Bytes of the pieces in a set that ranges over all of them.
    pub fn bytes_of(&self, set: &Bitfield) -> u64 {
        let last = self.pieces().saturating_sub(1);
        let short = if set.get(last) { self.piece_length - self.piece_size(last) } else { 0 };
        u64::from(set.count()) * u64::from(self.piece_length) - u64::from(short)
    }

    /// Offset of a piece in the torrent, bytes.
    pub fn piece_offset(&self, piece: u32) -> u64 {
        u64::from(piece) * u64::from(self.piece_length)
    }

    /// Number of blocks of a piece.
    pub fn blocks(&self, piece: u32) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK)
    }

    /// Bytes of a block; the last one of a piece may be short.
    pub fn block_size(&self, piece: u32, block: u32) -> u32 {
        let begin = u64::from(block) * u64::from(BLOCK);
        u64::from(self.piece_size(piece)).saturating_sub(begin).min(u64::from(BLOCK)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_piece_and_its_last_block_are_short() {
        let geometry = Geometry::new(100_000, 40_000);
        assert_eq!((0..4).map(|p| geometry.piece_size(p)).collect::<Vec<_>>(), [40_000, 40_000, 20_000, 0]);
        assert_eq!((0..4).map(|p| geometry.blocks(p)).collect::<Vec<_>>(), [3, 3, 2, 0]);
        assert_eq!((0..4).map(|b| geometry.block_size(0, b)).collect::<Vec<_>>(), [16384, 16384, 7232, 0]);
        assert_eq!((0..4).map(|b| geometry.block_size(2, b)).collect::<Vec<_>>(), [16384, 3616, 0, 0]);
        assert_eq!(geometry.piece_offset(2), 80_000);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let geometry = Geometry::new(u64::MAX, 0);
        assert_eq!(geometry.pieces(), u32::MAX);
        assert_eq!(geometry.piece_size(u32::MAX), 1);
        assert_eq!(Geometry::new(u64::MAX, u32::MAX).piece_size(u32::MAX), u32::MAX);
        assert_eq!(Geometry::new(0, 16384).pieces(), 0);
        assert_eq!(Geometry::new(u64::MAX, u32::MAX).block_size(0, u32::MAX), 0);
    }

    proptest! {
        #[test]
        fn pieces_and_blocks_cover_everything_once(length in 0u64..2_000_000, piece_length in 1u32..200_000) {
            let geometry = Geometry::new(length, piece_length);
            prop_assume!(geometry.pieces() < 5000);
            let mut set = Bitfield::full(geometry.pieces());
            prop_assert_eq!(geometry.bytes_of(&set), length);
            let (first, last) = (geometry.piece_size(0), geometry.pieces().saturating_sub(1));
            if set.clear(last) {
                prop_assert_eq!(geometry.bytes_of(&set), length - u64::from(geometry.piece_size(last)));
            }
            if set.clear(0) {
                prop_assert_eq!(geometry.bytes_of(&set), length - u64::from(geometry.piece_size(last)) - u64::from(first));
            }
            let sizes: u64 = (0..geometry.pieces()).map(|p| u64::from(geometry.piece_size(p))).sum();
            prop_assert_eq!(sizes, length);
            for piece in 0..geometry.pieces().min(50) {
                let blocks: u32 = (0..geometry.blocks(piece)).map(|b| geometry.block_size(piece, b)).sum();
                prop_assert_eq!(blocks, geometry.piece_size(piece));
            }
        }
    }
}
