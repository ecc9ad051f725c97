//! What a peer was given of late, block by block: one that asks for the same again and again is found out.

use super::types::Block;
use crate::torrent::{BLOCK, Geometry};

/// Pieces that are remembered: more than a peer has under way at once.
const PIECES: usize = 16;

/// The blocks of the last pieces that a peer was given.
#[derive(Debug, Default)]
pub struct Given {
    /// The latest last.
    pieces: Vec<Piece>,
    last: Option<Block>,
}

#[derive(Debug, Default)]
struct Piece {
    index: u32,
    /// Bytes until as many as the piece has were given.
    left: u32,
    /// A bit for each block that was given to its end.
    blocks: Vec<u64>,
}

impl Given {
    /// Whether the peer was given this before.
    pub fn has(&self, block: Block) -> bool {
        let bit = block.begin / BLOCK;
        let given = |piece: &Piece| piece.left == 0 || piece.blocks[bit as usize / 64] & 1 << (bit % 64) != 0;
        self.last == Some(block) || self.pieces.iter().rev().find(|piece| piece.index == block.piece).is_some_and(given)
    }

    /// Notes that the peer is given `block`, which is within the torrent.
    pub fn note(&mut self, geometry: &Geometry, block: Block) {
        self.last = Some(block);
        match self.pieces.iter().rposition(|piece| piece.index == block.piece) {
            Some(at) => self.pieces[at..].rotate_left(1),
            None => {
                let mut piece = if self.pieces.len() < PIECES { Piece::default() } else { self.pieces.remove(0) };
                (piece.index, piece.left) = (block.piece, geometry.piece_size(block.piece));
                piece.blocks.clear();
                piece.blocks.resize(geometry.blocks(block.piece).div_ceil(64) as usize, 0);
                self.pieces.push(piece);
            }
        }
        let Some(piece) = self.pieces.last_mut() else { return };
        let end = block.begin + block.length;
        let ended = if end == geometry.piece_size(block.piece) { end.div_ceil(BLOCK) } else { end / BLOCK };
        (block.begin / BLOCK..ended).for_each(|bit| piece.blocks[bit as usize / 64] |= 1 << (bit % 64));
        piece.left = piece.left.saturating_sub(block.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_known_by_block_and_parts_of_a_block_are_told_apart() {
        // The last piece has a block and a half.
        let geometry = Geometry::new(u64::from(9 * BLOCK + BLOCK / 2), 4 * BLOCK);
        let block = |piece, begin, length| Block { piece, begin, length };
        let mut given = Given::default();
        given.note(&geometry, block(0, 0, 2 * BLOCK));
        assert_eq!([0, 1, 2].map(|at| given.has(block(0, at * BLOCK, BLOCK))), [true, true, false]);
        given.note(&geometry, block(0, 2 * BLOCK, BLOCK / 2));
        assert!(!given.has(block(0, 5 * BLOCK / 2, BLOCK / 2)), "the other half of the block");
        assert!(given.has(block(0, 2 * BLOCK, BLOCK / 2)));
        given.note(&geometry, block(2, BLOCK, BLOCK / 2));
        assert_eq!([0, 1].map(|at| given.has(block(2, at * BLOCK, BLOCK / 2))), [false, true]);
        // As many bytes as the piece has, of one part of it.
        (0..7).for_each(|_| given.note(&geometry, block(1, 1, BLOCK)));
        assert!(given.has(block(1, 3 * BLOCK, BLOCK)));
    }

    #[test]
    fn old_pieces_are_forgotten_and_those_in_use_are_not() {
        let geometry = Geometry::new(100 * u64::from(BLOCK), BLOCK);
        let block = |piece| Block { piece, begin: 0, length: BLOCK };
        let mut given = Given::default();
        for piece in 1..100 {
            given.note(&geometry, block(0));
            given.note(&geometry, block(piece));
        }
        assert_eq!(given.pieces.len(), PIECES);
        assert_eq!([0, 1, 84, 85, 99].map(|piece| given.has(block(piece))), [true, false, false, true, true]);
    }
}
