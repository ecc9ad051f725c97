//! The compressors of images, each in the format that its usual tool reads and writes.
//!
//! Each codec is a file here and a line of [`CODECS`]. Files in its format are cut into pieces that are expanded
//! independently, and are written as such pieces. Formats are recognised by content, never by name.

use std::hash::Hasher;

use super::{Error, Watch, pipeline};

pub mod gzip;
mod input;
mod kind;
mod lz4;
pub mod lzop;
mod packed;
mod plain;
mod scratch;
pub mod seek;
mod xz;
mod zstd;

use input::u32_le;
pub use input::{Input, read_full};
pub use kind::{Codec, Encode, Expand, Piece, Split, Whole};
pub use packed::{Packed, Sums};
pub use scratch::Scratch;

/// All codecs. The last one accepts everything that no other recognises.
pub const CODECS: &[Codec] = &[
    Codec {
        name: "lzop",
        levels: None,
        level: None,
        piece: lzop::BLOCK,
        summed: false,
        recognise: lzop::recognise,
        begin: lzop::begin,
        encode: Some(lzop::encode),
        end: lzop::end,
        split: || Box::<lzop::Splitter>::default(),
        expand: Some(lzop::expand),
    },
    gzip::CODEC,
    zstd::CODEC,
    lz4::CODEC,
    xz::CODEC,
    plain::CODEC,
];

/// Returns the codec called `name` that images can be made in.
pub fn named(name: &str) -> Option<&'static Codec> {
    written().find(|codec| codec.name == name)
}

fn written() -> impl Iterator<Item = &'static Codec> {
    CODECS.iter().filter(|codec| codec.is_written())
}

/// Returns the codec that `word` names, at the level behind its name, if one is given (`zstd:9`).
///
/// # Errors
/// There is no such codec, or it has no such level; the message lists those that exist.
pub fn asked(word: &str) -> Result<Codec, String> {
    let (name, level) = word.split_once(':').map_or((word, None), |(name, level)| (name, Some(level)));
    let codec = named(name).ok_or_else(|| {
        let names: Vec<&str> = written().map(|codec| codec.name).collect();
        format!("compression {name} is none of {}", names.join(", "))
    })?;
    level.map_or(Ok(*codec), |level| codec.at(level))
}

/// Returns the codec of a file that begins with `head` (at least 16 bytes, if the file has as many).
pub fn recognise(head: &[u8]) -> &'static Codec {
    CODECS.iter().find(|codec| (codec.recognise)(head)).unwrap_or(&plain::CODEC)
}

/// Compresses the bytes from `fill` until there are none, and passes them to `send` piece by piece, in order, `head`
/// before the first one. `fill` returns the number of bytes it put into the front of the buffer. Returns the sizes of
/// the pieces, if they are compressed.
///
/// # Errors
/// An error of `fill` or `send`.
pub fn pack(
    codec: &Codec,
    head: &[u8],
    fill: &mut (dyn FnMut(&mut [u8]) -> Result<usize, Error> + Send),
    send: &mut (dyn FnMut(&[u8]) -> Result<(), Error> + Send),
) -> Result<Vec<Piece>, Error> {
    struct Worker {
        plain: Vec<u8>,
        filled: usize,
        packed: Vec<u8>,
        length: usize,
        scratch: Scratch,
    }
    let worker = || Worker {
        plain: vec![0; codec.piece],
        filled: 0,
        packed: Vec::new(),
        length: 0,
        scratch: Scratch { level: codec.level, ..Scratch::default() },
    };
    let mut workers: Vec<Worker> = (0..pipeline::buffers()).map(|_| worker()).collect();
    let mut whole = Whole::default();
    send(head)?;
    pipeline::run(
        &mut workers,
        |worker| {
            worker.filled = fill(&mut worker.plain)?;
            Ok(worker.filled > 0)
        },
        |worker| {
            if let Some(encode) = codec.encode {
                let plain = &worker.plain[..worker.filled];
                worker.length = encode(plain, &mut worker.scratch, &mut worker.packed);
            }
            Ok(())
        },
        |worker| match codec.encode {
            Some(_) => {
                whole.pieces.push(Piece { packed: worker.length as u32, plain: worker.filled as u32 });
                if codec.summed {
                    whole.sum.write(&worker.plain[..worker.filled]);
                }
                send(&worker.packed[..worker.length])
            }
            None => send(&worker.plain[..worker.filled]),
        },
    )?;
    let mut end = Vec::new();
    (codec.end)(&whole, &mut end);
    send(&end)?;
    Ok(whole.pieces)
}

/// Expands `input`, a file in the codec's format, and passes its plain bytes to `take`, in order.
///
/// # Errors
/// The input is damaged or cannot be read, an end was asked for, or an error of `take`.
pub fn unpack(
    codec: &Codec,
    input: &mut Input,
    watch: &Watch,
    take: &mut (dyn FnMut(&[u8]) -> Result<(), Error> + Send),
) -> Result<(), Error> {
    let name = input.name().to_owned();
    let mut split = (codec.split)();
    let mut frames = lz4::Frames::default();
    let mut workers: Vec<Unpacked> = (0..pipeline::buffers()).map(|_| Unpacked::default()).collect();
    pipeline::run(
        &mut workers,
        |worker| {
            if (watch.stop)() {
                return Err(Error::Interrupted);
            }
            let before = input.at();
            let more = split.next(input, &mut worker.packed)?;
            (watch.took)(input.at() - before);
            Ok(more)
        },
        |worker| worker.expand(codec, &name),
        |worker| {
            let (packed, plain) = (&worker.packed, worker.plain(codec));
            if codec.summed {
                frames.check(packed, plain).map_err(|why| damaged(&name, packed.at, why))?;
            }
            take(plain)
        },
    )
}

/// Expands `input` only until `take` returns false.
///
/// # Errors
/// The input is damaged or cannot be read, or an error of `take`.
pub fn unpack_while(
    codec: &Codec,
    input: &mut Input,
    take: &mut dyn FnMut(&[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
    let name = input.name().to_owned();
    let mut split = (codec.split)();
    let mut worker = Unpacked::default();
    while split.next(input, &mut worker.packed)? {
        worker.expand(codec, &name)?;
        if !take(worker.plain(codec))? {
            break;
        }
    }
    Ok(())
}

fn damaged(name: &str, at: u64, why: String) -> Error {
    Error::Damaged { what: name.to_owned(), at, why }
}

/// The buffers of one expanding thread, reused for all its pieces.
#[derive(Default)]
struct Unpacked {
    packed: Packed,
    plain: Vec<u8>,
    length: usize,
    scratch: Scratch,
}

impl Unpacked {
    fn expand(&mut self, codec: &Codec, name: &str) -> Result<(), Error> {
        if let Some(expand) = codec.expand.filter(|_| !self.packed.streamed) {
            self.length = expand(&self.packed, &mut self.scratch, &mut self.plain)
                .map_err(|why| damaged(name, self.packed.at, why))?;
        }
        Ok(())
    }

    fn plain(&self, codec: &Codec) -> &[u8] {
        match codec.expand {
            Some(_) if !self.packed.streamed => &self.plain[..self.length],
            _ => &self.packed.data[..self.packed.used],
        }
    }
}

#[cfg(test)]
mod tests;
