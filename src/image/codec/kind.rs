//! The interface of a codec: how its format is recognised, written and read.

use twox_hash::XxHash32;

use super::input::Input;
use super::packed::Packed;
use super::scratch::Scratch;
use crate::image::Error;

/// Packs a piece.
pub type Encode = fn(&[u8], &mut Scratch, &mut Vec<u8>) -> usize;
/// Expands a piece.
pub type Expand = fn(&Packed, &mut Scratch, &mut Vec<u8>) -> Result<usize, String>;

/// One compressed format.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Its name on the command line.
    pub name: &'static str,
    /// Lowest and highest level of compression; `None` where there is no choice.
    pub levels: Option<(u8, u8)>,
    /// The chosen level; `None` for the default, which is the fastest.
    pub level: Option<u8>,
    /// Bytes of plain data that one piece holds.
    pub piece: usize,
    /// Whether a file ends with a checksum of all its plain bytes.
    pub summed: bool,
    /// Whether a file that begins with these bytes is in this format.
    pub recognise: fn(&[u8]) -> bool,
    /// Appends the bytes before the first piece.
    pub begin: fn(&mut Vec<u8>),
    /// Writes one piece into the front of the buffer, which grows as needed; returns the number of bytes written.
    /// `None` if pieces are stored plain, or the format is only read.
    pub encode: Option<Encode>,
    /// Appends the bytes after the last piece.
    pub end: fn(&Whole, &mut Vec<u8>),
    /// Returns a splitter of files into pieces.
    pub split: fn() -> Box<dyn Split>,
    /// Expands a piece into the front of the buffer; returns the number of bytes written, or the fault of the piece.
    /// `None` if pieces are stored plain.
    pub expand: Option<Expand>,
}

impl Codec {
    /// Whether images can be made in this format.
    pub fn is_written(&self) -> bool {
        self.encode.is_some() || self.is_plain()
    }

    /// Whether it leaves bytes as they are.
    pub fn is_plain(&self) -> bool {
        self.expand.is_none()
    }

    /// Returns the codec at the level that `word` spells.
    ///
    /// # Errors
    /// There is no such level; the message gives the range.
    pub fn at(&self, word: &str) -> Result<Codec, String> {
        let name = self.name;
        let (least, most) =
            self.levels.ok_or_else(|| format!("compression {name} has no levels, so none is {word}"))?;
        match word.parse() {
            Ok(level) if (least..=most).contains(&level) => Ok(Codec { level: Some(level), ..*self }),
            _ => Err(format!("level {word} of compression {name} is none of {least} to {most}")),
        }
    }
}

/// A summary of everything packed, for the bytes after it.
#[derive(Default)]
pub struct Whole {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// XXH32 of all plain bytes, if the format has it.
    pub sum: XxHash32,
}

/// The sizes of a piece, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// In the file.
    pub packed: u32,
    /// Expanded.
    pub plain: u32,
}

/// Cuts a file into pieces, in order, and without expanding them if the format allows.
pub trait Split: Send {
    /// Reads the next piece; false if there is none.
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error>;
}
