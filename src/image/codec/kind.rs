//! What a codec is: how it is recognised, written and read.

use kernels::xxh32::Xxh32;

use super::input::Input;
use super::packed::Packed;
use super::scratch::Scratch;
use crate::image::Error;

/// Packs a piece.
pub type Encode = fn(&[u8], &mut Scratch, &mut Vec<u8>) -> usize;
/// Expands a piece.
pub type Expand = fn(&Packed, &mut Scratch, &mut Vec<u8>) -> Result<usize, String>;

/// One compressed format.
pub struct Codec {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Bytes of plain data that one piece holds.
    pub piece: usize,
    /// A checksum of all plain bytes stands behind them.
    pub summed: bool,
    /// Whether a file that begins so is in this format.
    pub recognise: fn(&[u8]) -> bool,
    /// Appends what stands before the first piece.
    pub begin: fn(&mut Vec<u8>),
    /// Writes one piece into the front of the buffer, which grows as needed; gives the bytes written. None
    /// where pieces are their plain bytes.
    pub encode: Option<Encode>,
    /// Appends what stands behind the last piece.
    pub end: fn(&Whole, &mut Vec<u8>),
    /// A cutter of files into pieces.
    pub split: fn() -> Box<dyn Split>,
    /// Expands a piece into the front of the buffer; gives the bytes written, or what is wrong with the piece.
    /// None where pieces are their plain bytes.
    pub expand: Option<Expand>,
}

/// What was packed, for what stands behind it.
#[derive(Default)]
pub struct Whole {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// XXH32 of all plain bytes, where the format has it.
    pub sum: Xxh32,
}

/// The sizes of a piece, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// As it stands in the file.
    pub packed: u32,
    /// What it expands to.
    pub plain: u32,
}

/// Cuts a file into pieces, in order and without expanding them where the format allows.
pub trait Split: Send {
    /// Reads the next piece; false when there is none.
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error>;
}
