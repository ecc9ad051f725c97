//! lz4's frame format, written as independent blocks of [`PIECE`] bytes with a checksum of the content, as lz4 does.
//! Independent blocks are expanded on all cores, blocks that refer to earlier ones in order. Legacy frames (`lz4 -l`)
//! and frames that need a dictionary are refused.

use std::hash::Hasher;

use lz4_flex::block::{
    compress_into, decompress_into, decompress_into_with_dict, get_maximum_output_size as worst_case,
};
use twox_hash::XxHash32;

use super::{Codec, Input, Packed, Scratch, Split, Whole};
use crate::image::Error;

/// The line of the table.
pub const CODEC: Codec = Codec {
    name: "lz4",
    levels: None,
    level: None,
    piece: PIECE,
    summed: true,
    recognise,
    begin,
    encode: Some(encode),
    end,
    split: || Box::<Splitter>::default(),
    expand: Some(expand),
};

/// Bytes of plain data in a block of ours, and its code in a frame's header.
const PIECE: usize = 1 << 20;
const PIECE_CODE: u8 = 6 << 4;

/// Seed of the format's checksums, which are XXH32.
const SEED: u32 = 0;
const MAGIC: u32 = 0x184d_2204;
const LEGACY: u32 = 0x184c_2102;
/// Frames that readers skip: sixteen magic numbers.
const SKIPPABLE: u32 = 0x184d_2a50;

/// Flags of a frame's header, with its version.
const VERSION: u8 = 1 << 6;
const INDEPENDENT: u8 = 1 << 5;
const BLOCKS_SUMMED: u8 = 1 << 4;
const SIZE: u8 = 1 << 3;
const SUMMED: u8 = 1 << 2;
const DICTIONARY: u8 = 1;
/// Flag in a block's length: the block is stored uncompressed.
const STORED: u32 = 1 << 31;
/// How far back a block may refer, bytes.
const WINDOW: usize = 64 << 10;

fn recognise(head: &[u8]) -> bool {
    [MAGIC, LEGACY].iter().any(|magic| head.starts_with(&magic.to_le_bytes()))
}

fn begin(out: &mut Vec<u8>) {
    let head = [VERSION | INDEPENDENT | SUMMED, PIECE_CODE];
    out.extend(MAGIC.to_le_bytes());
    out.extend(head);
    out.push((XxHash32::oneshot(SEED, &head) >> 8) as u8);
}

fn end(whole: &Whole, out: &mut Vec<u8>) {
    out.extend([0; 4]);
    out.extend(whole.sum.finish_32().to_le_bytes());
}

fn encode(plain: &[u8], _: &mut Scratch, out: &mut Vec<u8>) -> usize {
    const HEAD: usize = 4;
    let room = HEAD + worst_case(plain.len());
    if out.len() < room {
        out.resize(room, 0);
    }
    let (length, stored) = match compress_into(plain, &mut out[HEAD..]) {
        Ok(length) if length < plain.len() => (length, 0),
        _ => {
            out[HEAD..HEAD + plain.len()].copy_from_slice(plain);
            (plain.len(), STORED)
        }
    };
    out[..HEAD].copy_from_slice(&(length as u32 | stored).to_le_bytes());
    HEAD + length
}

/// The header of a frame.
struct Frame {
    flags: u8,
    /// Largest block, bytes of plain data.
    block: usize,
    /// Expanded size, bytes, if the header has it.
    size: Option<u64>,
}

/// Cuts a file into its blocks.
#[derive(Default)]
struct Splitter {
    /// The frame that is being read; `None` between frames.
    frame: Option<Frame>,
    frames: u64,
    /// The plain bytes that the next block may refer to.
    before: Vec<u8>,
    /// A block with references to earlier ones, as it is in the file.
    linked: Packed,
}

const HEADER: &str = "an lz4 frame's header";
const BLOCK: &str = "an lz4 block";

impl Split for Splitter {
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
        packed.first = false;
        let frame = loop {
            if let Some(frame) = &self.frame {
                break frame;
            }
            if self.frames > 0 && input.at_end()? {
                return Ok(false);
            }
            self.frame = header(input, packed)?;
            if self.frame.is_some() {
                self.frames += 1;
                self.before.clear();
                packed.first = true;
            }
        };
        packed.at = input.at();
        packed.sums = Default::default();
        (packed.stored, packed.streamed) = (true, false);
        packed.used = 0;
        packed.plain = frame.block;
        let word = u32::from_le_bytes(input.array(BLOCK)?);
        if word == 0 {
            if frame.flags & SUMMED != 0 {
                packed.sums.whole = Some(u32::from_le_bytes(input.array("an lz4 frame's checksum")?));
            }
            packed.sums.size = frame.size;
            self.frame = None;
            return Ok(true);
        }
        let length = (word & !STORED) as usize;
        if length > frame.block {
            let why = format!("an lz4 block of {length} bytes is longer than its frame's blocks may be");
            return Err(input.damaged(packed.at, why));
        }
        let linked = frame.flags & INDEPENDENT == 0;
        packed.streamed = linked;
        let raw = if linked { &mut self.linked } else { &mut *packed };
        (raw.used, raw.stored, raw.plain, raw.sums) = (0, word & STORED != 0, frame.block, Default::default());
        input.append(raw, length, BLOCK)?;
        if frame.flags & BLOCKS_SUMMED != 0 {
            raw.sums.packed_xxh = Some(u32::from_le_bytes(input.array("an lz4 block's checksum")?));
        }
        if linked {
            self.look_back(packed).map_err(|why| input.damaged(packed.at, why))?;
        }
        Ok(true)
    }
}

impl Splitter {
    /// Expands a block with references to earlier ones, and keeps the bytes that the next one may refer to.
    fn look_back(&mut self, packed: &mut Packed) -> Result<(), String> {
        packed.used = expand_behind(&self.linked, &self.before, &mut packed.data)?;
        let plain = &packed.data[..packed.used];
        if plain.len() >= WINDOW {
            self.before.clear();
        }
        self.before.extend_from_slice(&plain[plain.len().saturating_sub(WINDOW)..]);
        let old = self.before.len().saturating_sub(WINDOW);
        self.before.drain(..old);
        Ok(())
    }
}

/// Reads a frame's header; `None` if the frame is a skippable one, which it skips.
fn header(input: &mut Input, packed: &mut Packed) -> Result<Option<Frame>, Error> {
    let at = input.at();
    match u32::from_le_bytes(input.array(HEADER)?) {
        MAGIC => {}
        LEGACY => {
            let why = "a legacy lz4 frame is not read: `lz4 -d` expands it".to_owned();
            return Err(input.damaged(at, why));
        }
        magic if magic & !15 == SKIPPABLE => {
            let mut left = u32::from_le_bytes(input.array(HEADER)?) as usize;
            while left > 0 {
                let step = left.min(PIECE);
                input.fill(&mut packed.data, step, "a frame to be skipped")?;
                left -= step;
            }
            return Ok(None);
        }
        _ => return Err(input.damaged(at, "neither the end nor another lz4 frame follows".to_owned())),
    }
    let mut head = input.array::<2>(HEADER)?.to_vec();
    let (flags, code) = (head[0], head[1]);
    let known = flags & 0xc2 == VERSION && code & 0x8f == 0 && code >> 4 >= 4;
    if !known {
        return Err(input.damaged(at, "an lz4 frame of a kind that is not known".to_owned()));
    }
    let mut size = None;
    if flags & SIZE != 0 {
        let field = input.array::<8>(HEADER)?;
        head.extend(field);
        size = Some(u64::from_le_bytes(field));
    }
    if flags & DICTIONARY != 0 {
        return Err(input.damaged(at, "an lz4 frame that needs a dictionary".to_owned()));
    }
    let (stored, sum) = (input.byte(HEADER)?, (XxHash32::oneshot(SEED, &head) >> 8) as u8);
    if stored != sum {
        return Err(input.damaged(at, format!("the lz4 frame's header has the checksum {sum:#04x}, not {stored:#04x}")));
    }
    Ok(Some(Frame { flags, block: 1 << (8 + 2 * (code >> 4)), size }))
}

fn expand(packed: &Packed, _: &mut Scratch, out: &mut Vec<u8>) -> Result<usize, String> {
    expand_behind(packed, &[], out)
}

/// Expands a block that may refer to `before`.
fn expand_behind(packed: &Packed, before: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
    let data = &packed.data[..packed.used];
    if let Some(stored) = packed.sums.packed_xxh {
        let sum = XxHash32::oneshot(SEED, data);
        if sum != stored {
            return Err(format!("the lz4 block's checksum is {sum:#010x}, not {stored:#010x}"));
        }
    }
    let room = if packed.stored { data.len() } else { packed.plain };
    if out.len() < room {
        out.resize(room, 0);
    }
    if packed.stored {
        out[..room].copy_from_slice(data);
        return Ok(room);
    }
    let expanded = match before {
        [] => decompress_into(data, &mut out[..room]),
        before => decompress_into_with_dict(data, &mut out[..room], before),
    };
    expanded.map_err(|error| format!("a damaged lz4 block: {error}"))
}

/// Compares the expanded pieces of a frame, in order, with the frame's size and checksum.
#[derive(Default)]
pub struct Frames {
    sum: XxHash32,
    size: u64,
}

impl Frames {
    /// Adds the next piece and its plain bytes.
    ///
    /// # Errors
    /// The frame that ends with it has another size or checksum.
    pub fn check(&mut self, packed: &Packed, plain: &[u8]) -> Result<(), String> {
        if packed.first {
            *self = Frames::default();
        }
        self.sum.write(plain);
        self.size += plain.len() as u64;
        match (packed.sums.whole, packed.sums.size) {
            (Some(stored), _) if stored != self.sum.finish_32() => {
                Err(format!("the lz4 frame's checksum is {:#010x}, not {stored:#010x}", self.sum.finish_32()))
            }
            (_, Some(size)) if size != self.size => {
                Err(format!("the lz4 frame holds {} bytes, not the {size} that it says", self.size))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
