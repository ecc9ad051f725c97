//! zstd (RFC 8878): what is written are frames of [`PIECE`] bytes, compressed and expanded side by side, and behind
//! them the seek table of zstd's "seekable format" in a frame that other readers skip. Frames of others are cut out by
//! their blocks' headers where they say that they are small, and expanded side by side as well; long ones in order
//! while the pieces before are written, with a window of up to 128 MiB as `zstd -d` has it.
//!
//! The C library does the coding. Frames are as long at every level, and so the window too, which keeps an image as easy
//! to read from its middle and bounds memory: a frame under way takes 3 MiB at level 1, 13 at 9 and 20 at 19, its buffers
//! included, and two a core and one more are under way.

use std::fs::File;
use std::os::unix::fs::FileExt;

use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, Strategy};

use super::{Codec, Input, Packed, Piece, Scratch, Split, Whole, u32_le};
use crate::image::Error;

/// The line of the table.
pub const CODEC: Codec = Codec {
    name: "zstd",
    levels: Some((1, MOST_LEVEL)),
    level: None,
    piece: PIECE,
    summed: false,
    recognise,
    begin: |_| {},
    encode: Some(encode),
    end: seek_table,
    split: || Box::<Splitter>::default(),
    expand: Some(expand),
};

/// Bytes of plain data in a frame of ours, and in a piece of a long one. Of installed systems' files: frames of 1 MiB
/// are 3 % smaller than `zstd -1` makes one frame of all, for the window is the whole frame and the table larger.
const PIECE: usize = 1 << 20;
/// Highest level: those above it, `zstd --ultra`, gain by windows that frames of this length have no use for.
const MOST_LEVEL: u8 = 19;
/// log2 of the entries of the compressor's table, and the shortest match it keeps, bytes.
const HASH_BITS: u32 = 15;
const MIN_MATCH: u32 = 6;
/// Largest frame that is expanded as one, bytes of plain data.
const MAX_FRAME: u64 = 4 << 20;
/// Most bytes such a frame may take: a little more than it holds, when nothing in it could be compressed.
const MAX_PACKED: usize = MAX_FRAME as usize + (64 << 10);
/// Largest block of a frame, bytes.
const MAX_BLOCK: usize = 128 << 10;

const MAGIC: u32 = 0xfd2f_b528;
/// Frames that readers skip: sixteen magic numbers.
const SKIPPABLE: u32 = 0x184d_2a50;
const SEEK_TABLE: u32 = 0x184d_2a5e;
const SEEK_MAGIC: u32 = 0x8f92_eab1;
/// Bytes before a table's entries, of an entry, and behind them.
const SEEK_HEAD: u32 = 8;
const SEEK_ENTRY: usize = 8;
const SEEK_FOOTER: usize = 9;
/// Most bytes of a frame's header.
const MAX_HEADER: usize = 18;

fn recognise(head: &[u8]) -> bool {
    // pzstd begins with a skippable frame of four bytes.
    let skipped = u32_le(head) & !15 == SKIPPABLE && u32_le(head.get(4..).unwrap_or(&[])) == 4;
    u32_le(head) == MAGIC || skipped && u32_le(head.get(12..).unwrap_or(&[])) == MAGIC
}

/// A compressor set as frames of ours want it; every setting is one that the library takes. Without a level it is one a
/// little faster than the library's first.
fn compressor(level: Option<u8>) -> CCtx<'static> {
    let mut context = CCtx::create();
    let fast =
        [CParameter::Strategy(Strategy::ZSTD_fast), CParameter::HashLog(HASH_BITS), CParameter::MinMatch(MIN_MATCH)];
    let all = [
        CParameter::CompressionLevel(level.unwrap_or(1).into()),
        CParameter::WindowLog(PIECE.ilog2()),
        CParameter::ChecksumFlag(true),
    ];
    for parameter in all.into_iter().chain(fast.into_iter().filter(|_| level.is_none())) {
        let _ = context.set_parameter(parameter);
    }
    context
}

fn encode(plain: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> usize {
    let level = scratch.level;
    let context = scratch.zstd.pack.get_or_insert_with(|| compressor(level));
    let room = zstd_safe::compress_bound(plain.len());
    if out.len() < room {
        out.resize(room, 0);
    }
    match context.compress2(&mut out[..], plain) {
        Ok(length) => length,
        // With that much room only the lack of memory is left.
        Err(code) => panic!("zstd: {}", zstd_safe::get_error_name(code)),
    }
}

/// Appends the seek table: the two sizes of each frame, then their number.
fn seek_table(Whole { pieces, .. }: &Whole, out: &mut Vec<u8>) {
    // An empty frame, which is what zstd makes of nothing.
    if pieces.is_empty() {
        let length = encode(&[], &mut Scratch::default(), out);
        out.truncate(length);
        return;
    }
    write_table(pieces, out);
}

/// Appends a seek table.
pub fn write_table(pieces: &[Piece], out: &mut Vec<u8>) {
    let size = table_size(pieces.len());
    out.reserve_exact(size as usize);
    out.extend(SEEK_TABLE.to_le_bytes());
    out.extend((size as u32 - SEEK_HEAD).to_le_bytes());
    for piece in pieces {
        out.extend(piece.packed.to_le_bytes());
        out.extend(piece.plain.to_le_bytes());
    }
    out.extend(footer(pieces.len() as u32));
}

/// Returns the size of the seek table of so many pieces, bytes.
pub fn table_size(pieces: usize) -> u64 {
    (pieces * SEEK_ENTRY + SEEK_FOOTER) as u64 + u64::from(SEEK_HEAD)
}

/// Returns the seek table at the end of a file of `size` bytes; `None` if it has none, or one with more than `most`
/// pieces or with checksums.
pub fn read_table(file: &File, size: u64, most: usize) -> Option<Vec<Piece>> {
    let mut last = [0; SEEK_FOOTER];
    file.read_exact_at(&mut last, size.checked_sub(SEEK_FOOTER as u64)?).ok()?;
    let pieces = u32_le(&last);
    if last != footer(pieces) || pieces as usize > most {
        return None;
    }
    let length = table_size(pieces as usize);
    let at = size.checked_sub(length)?;
    let mut table = vec![0; length as usize];
    file.read_exact_at(&mut table, at).ok()?;
    let (head, entries) = table.split_at(SEEK_HEAD as usize);
    let sound = u32_le(head) == SEEK_TABLE && u64::from(u32_le(&head[4..])) == length - u64::from(SEEK_HEAD);
    let piece = |entry: &[u8]| Piece { packed: u32_le(entry), plain: u32_le(&entry[4..]) };
    sound.then(|| entries[..entries.len() - SEEK_FOOTER].chunks_exact(SEEK_ENTRY).map(piece).collect())
}

fn footer(frames: u32) -> [u8; SEEK_FOOTER] {
    let mut footer = [0; SEEK_FOOTER];
    footer[..4].copy_from_slice(&frames.to_le_bytes());
    footer[5..].copy_from_slice(&SEEK_MAGIC.to_le_bytes());
    footer
}

/// Cuts a file into its frames, or into pieces of their expanded content.
#[derive(Default)]
struct Splitter {
    frames: u32,
    /// Checksum of the seek table that the frames so far should have.
    table: crc32fast::Hasher,
    /// The long frame that is being expanded.
    stream: Option<Stream>,
}

struct Stream {
    context: DCtx<'static>,
    at: u64,
    plain: u64,
}

/// The header of a frame.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// Size of the header, bytes.
    size: usize,
    /// Expanded size, bytes, if the header has it.
    plain: Option<u64>,
    /// Whether a checksum of four bytes follows the frame.
    summed: bool,
}

impl Header {
    /// Parses the header at the beginning of `head`; `None` if it is cut short. The error is the fault of the header.
    fn parse(head: &[u8]) -> Result<Option<Header>, &'static str> {
        let Some(flags) = head.get(4) else { return Ok(None) };
        if flags & 8 != 0 {
            return Err("a zstd frame of a kind that is not known");
        }
        let single = flags >> 5 & 1;
        let window = usize::from(1 - single);
        let dictionary = [0, 1, 2, 4][usize::from(flags & 3)];
        let (length, add) = [(usize::from(single), 0), (2, 256), (4, 0), (8, 0)][usize::from(flags >> 6)];
        let at = 5 + window + dictionary;
        let Some(field) = head.get(at..at + length) else { return Ok(None) };
        if head[5 + window..at].iter().any(|byte| *byte != 0) {
            return Err("a zstd frame that needs a dictionary");
        }
        let plain = field.iter().rev().fold(0, |plain, byte| plain << 8 | u64::from(*byte)) + add;
        Ok(Some(Header { size: at + length, plain: (length > 0).then_some(plain), summed: flags & 4 != 0 }))
    }
}

impl Split for Splitter {
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
        packed.at = input.at();
        packed.used = 0;
        loop {
            if let Some(stream) = &mut self.stream {
                if piece(stream, input, packed)? {
                    let (length, plain) = (input.at() - stream.at, stream.plain);
                    self.stream = None;
                    self.count(length, plain);
                }
                if packed.used > 0 {
                    return Ok(true);
                }
                continue;
            }
            if self.frames > 0 && input.at_end()? {
                return Ok(false);
            }
            packed.at = input.at();
            let head = input.peek(MAX_HEADER)?;
            let (magic, length) = (u32_le(head), head.len());
            if length < 4 || magic & !15 == SKIPPABLE {
                self.skip(input, packed)?;
                continue;
            }
            if magic != MAGIC {
                let why = "neither the end nor another zstd frame follows".to_owned();
                return Err(input.damaged(packed.at, why));
            }
            let header = match Header::parse(head) {
                Ok(Some(header)) => header,
                Ok(None) => return Err(input.damaged(packed.at + length as u64, SHORT.to_owned())),
                Err(why) => return Err(input.damaged(packed.at, why.to_owned())),
            };
            match header.plain {
                Some(plain) if plain <= MAX_FRAME => {
                    packed.plain = plain as usize;
                    packed.streamed = false;
                    whole(&header, input, packed)?;
                    self.count(packed.used as u64, plain);
                    return Ok(true);
                }
                _ => self.stream = Some(Stream { context: DCtx::create(), at: packed.at, plain: 0 }),
            }
        }
    }
}

const WHAT: &str = "a zstd frame";
const SHORT: &str = "cut short within a zstd frame";

impl Splitter {
    fn count(&mut self, packed: u64, plain: u64) {
        self.frames = self.frames.saturating_add(1);
        self.table.update(&(packed as u32).to_le_bytes());
        self.table.update(&(plain as u32).to_le_bytes());
    }

    /// Skips a frame without data; a seek table must fit the frames before it.
    fn skip(&mut self, input: &mut Input, packed: &mut Packed) -> Result<(), Error> {
        input.array::<4>(WHAT)?;
        let mut left = u32::from_le_bytes(input.array(WHAT)?) as usize;
        let (mut sum, mut last) = (crc32fast::Hasher::new(), [0; SEEK_FOOTER]);
        while left > 0 {
            let step = left.min(PIECE);
            input.fill(&mut packed.data, step, WHAT)?;
            let bytes = &packed.data[..step];
            sum.update(bytes);
            let kept = step.min(SEEK_FOOTER);
            last.copy_within(kept.., 0);
            last[SEEK_FOOTER - kept..].copy_from_slice(&bytes[step - kept..]);
            left -= step;
        }
        // A table with checksums is another program's, and not needed.
        if u32_le(&last[5..]) == SEEK_MAGIC && last[4] & 0x80 == 0 {
            let mut table = self.table.clone();
            table.update(&footer(self.frames));
            if table.finalize() != sum.finalize() {
                let why = "the seek table does not fit the zstd frames before it".to_owned();
                return Err(input.damaged(packed.at, why));
            }
        }
        Ok(())
    }
}

/// Reads a whole frame, block by block.
fn whole(header: &Header, input: &mut Input, packed: &mut Packed) -> Result<(), Error> {
    input.append(packed, header.size, WHAT)?;
    loop {
        let at = packed.used;
        input.append(packed, 3, WHAT)?;
        let word = packed.data[at..at + 3].iter().rev().fold(0, |word, byte| word << 8 | usize::from(*byte));
        let length = match word >> 1 & 3 {
            1 => 1,
            3 => return Err(input.damaged(input.at() - 3, "a zstd block of a kind that is not known".to_owned())),
            _ => word >> 3,
        };
        if length > MAX_BLOCK || packed.used + length > MAX_PACKED {
            let why = format!("a zstd frame of more than {} bytes for {}", packed.used, packed.plain);
            return Err(input.damaged(packed.at, why));
        }
        input.append(packed, length, WHAT)?;
        if word & 1 == 1 {
            return input.append(packed, if header.summed { 4 } else { 0 }, WHAT);
        }
    }
}

/// Expands the next piece of a long frame; true once the frame has ended.
fn piece(stream: &mut Stream, input: &mut Input, packed: &mut Packed) -> Result<bool, Error> {
    packed.streamed = true;
    packed.data.resize(PIECE.max(packed.data.len()), 0);
    while packed.used < PIECE {
        let at = input.at();
        let ahead = input.peek(MAX_BLOCK)?;
        if ahead.is_empty() {
            return Err(input.damaged(at, SHORT.to_owned()));
        }
        let mut from = InBuffer::around(ahead);
        let mut to = OutBuffer::around(&mut packed.data[packed.used..PIECE]);
        let step = stream.context.decompress_stream(&mut to, &mut from);
        let (taken, given) = (from.pos(), to.pos());
        let why = match step {
            Ok(left) => {
                input.skip(taken);
                packed.used += given;
                stream.plain += given as u64;
                match left {
                    0 => return Ok(true),
                    _ if taken + given > 0 => continue,
                    _ => "stands still",
                }
            }
            Err(code) => zstd_safe::get_error_name(code),
        };
        return Err(input.damaged(at, format!("a damaged zstd frame: {why}")));
    }
    Ok(false)
}

fn expand(packed: &Packed, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<usize, String> {
    if out.len() < packed.plain {
        out.resize(packed.plain, 0);
    }
    let context = scratch.zstd.expand.get_or_insert_with(DCtx::create);
    match context.decompress(&mut out[..packed.plain], &packed.data[..packed.used]) {
        Ok(length) if length == packed.plain => Ok(length),
        Ok(length) => Err(format!("a zstd frame that expands to {length} bytes, not to {}", packed.plain)),
        Err(code) => Err(format!("a damaged zstd frame: {}", zstd_safe::get_error_name(code))),
    }
}

#[cfg(test)]
mod tests;
