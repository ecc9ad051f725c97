//! No compression: the image as it is.

use super::{Codec, Input, Packed, Split};
use crate::image::Error;

/// Takes every file that no other codec recognises.
pub const CODEC: Codec = Codec {
    name: "none",
    levels: None,
    level: None,
    piece: PIECE,
    summed: false,
    recognise: |_| true,
    begin: |_| {},
    encode: None,
    end: |_, _| {},
    split: || Box::new(Splitter),
    expand: None,
};

/// Bytes that are read and written at once.
const PIECE: usize = 256 << 10;

struct Splitter;

impl Split for Splitter {
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
        packed.at = input.at();
        packed.used = input.take(&mut packed.data, PIECE)?;
        Ok(packed.used > 0)
    }
}
