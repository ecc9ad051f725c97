//! The compressors of images, each in the format that its usual tool reads and writes.
//!
//! A codec is a line of [`CODECS`] and a file: a file in its format is cut into pieces that are expanded
//! independently, and what is written consists of such pieces. Recognised by content, never by name.

use std::io::{self, Read};

use kernels::lzo1x;
use kernels::xxh32::Xxh32;

use super::{Error, Watch, pipeline};

pub mod gzip;
mod lz4;
pub mod lzop;
mod plain;
pub mod seek;
mod zstd;

/// Packs a piece.
pub type Encode = fn(&[u8], &mut Scratch, &mut Vec<u8>) -> usize;
/// Expands a piece.
pub type Expand = fn(&Packed, &mut Scratch, &mut Vec<u8>) -> Result<usize, String>;

/// One compressed format.
#[derive(Clone, Copy)]
pub struct Codec {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Levels of compression that may be asked for, least and most; `None` where there is one way to write it.
    pub levels: Option<(u8, u8)>,
    /// Level that was asked for; `None` for the one that is fast.
    pub level: Option<u8>,
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

/// All codecs. The last one takes whatever no other recognises.
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
    plain::CODEC,
];

/// The codec called `name`.
pub fn named(name: &str) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.name == name)
}

/// The codec that `word` asks for by its name, with `:LEVEL` behind it or not.
///
/// # Errors
/// There is no such codec, or it has no such level; with what there is.
pub fn asked(word: &str) -> Result<Codec, String> {
    let (name, level) = word.split_once(':').map_or((word, None), |(name, level)| (name, Some(level)));
    let codec = named(name).ok_or_else(|| {
        let names: Vec<&str> = CODECS.iter().map(|codec| codec.name).collect();
        format!("compression {name} is none of {}", names.join(", "))
    })?;
    level.map_or(Ok(*codec), |level| codec.at(level))
}

impl Codec {
    /// The same at the level that `word` spells.
    ///
    /// # Errors
    /// There is no such level; with the levels that there are.
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

/// The codec of a file that begins with `head` (at least 16 bytes of it, if there are so many).
pub fn recognise(head: &[u8]) -> &'static Codec {
    CODECS.iter().find(|codec| (codec.recognise)(head)).unwrap_or(&plain::CODEC)
}

/// Compresses what `fill` gives until it gives nothing, and passes it to `send` piece by piece, in order, `head`
/// before the first one. `fill` gives the bytes it put into the front of the buffer. Gives the sizes of the pieces, where
/// they are compressed.
///
/// # Errors
/// What `fill` or `send` gave.
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
                    whole.sum.update(&worker.plain[..worker.filled]);
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
/// The input is damaged or cannot be read, an end was asked for, or what `take` gave.
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

/// Expands only as much of `input` as it takes until `take` says that it has enough.
///
/// # Errors
/// The input is damaged or cannot be read, or what `take` gave.
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

/// What one thread that expands keeps from piece to piece.
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

/// What coders keep from piece to piece; made once a thread.
#[derive(Default)]
pub struct Scratch {
    /// Level at which is compressed; `None` for the fast one.
    level: Option<u8>,
    lzo: lzo1x::Table,
    deflate: Option<gzip::Deflate>,
    zstd: zstd::Contexts,
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

/// A compressed piece as it stands in the file.
#[derive(Default)]
pub struct Packed {
    /// Where it begins in the file, bytes.
    pub at: u64,
    /// Its bytes are the first `used` of these; the buffer is kept from piece to piece.
    pub data: Vec<u8>,
    /// Bytes of `data` that count.
    pub used: usize,
    /// Bytes it expands to, or the most that it may where the format says no more.
    pub plain: usize,
    /// Its bytes are the plain ones.
    pub stored: bool,
    /// Its bytes are plain already: it is of a stream that is expanded while it is read, for nothing of it can be without
    /// all before it.
    pub streamed: bool,
    /// It is the first one that a checksum of all plain bytes covers.
    pub first: bool,
    /// The checksums that came with it.
    pub sums: Sums,
}

/// Checksums of a piece, as far as the format has them.
#[derive(Clone, Copy, Default)]
pub struct Sums {
    /// Adler-32 of the plain bytes.
    pub plain_adler: Option<u32>,
    /// CRC-32 of the plain bytes.
    pub plain_crc: Option<u32>,
    /// Adler-32 of the packed bytes.
    pub packed_adler: Option<u32>,
    /// CRC-32 of the packed bytes.
    pub packed_crc: Option<u32>,
    /// XXH32 of the packed bytes.
    pub packed_xxh: Option<u32>,
    /// XXH32 of the plain bytes of this piece and all before it, from the last that is a first one.
    pub whole: Option<u32>,
    /// How many bytes those are.
    pub size: Option<u64>,
}

/// Cuts a file into pieces, in order and without expanding them where the format allows.
pub trait Split: Send {
    /// Reads the next piece; false when there is none.
    fn next(&mut self, input: &mut Input, packed: &mut Packed) -> Result<bool, Error>;
}

/// A compressed file or stream that is read once, from its beginning.
pub struct Input {
    read: Box<dyn Read + Send>,
    name: String,
    /// Read but not yet taken: `ahead[from..]`.
    ahead: Vec<u8>,
    from: usize,
    at: u64,
}

impl Input {
    /// Reads `read`, which errors call `name`.
    pub fn new(read: Box<dyn Read + Send>, name: &str) -> Input {
        Input { read, name: name.to_owned(), ahead: Vec::new(), from: 0, at: 0 }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes taken so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// An error at byte `at`.
    pub fn damaged(&self, at: u64, why: String) -> Error {
        Error::Damaged { what: self.name.clone(), at, why }
    }

    /// The next bytes without taking them: `count` or more, fewer only before the end.
    pub fn peek(&mut self, count: usize) -> Result<&[u8], Error> {
        if self.ahead.len() - self.from < count {
            self.ahead.drain(..self.from);
            self.from = 0;
        }
        // Headers are taken byte by byte: not a system call each.
        let have = self.ahead.len();
        let lacks = count.saturating_sub(have - self.from);
        if lacks > 0 {
            self.ahead.resize(have + lacks.max(4096), 0);
            let mut got = 0;
            while got < lacks {
                match self.read.read(&mut self.ahead[have + got..]) {
                    Ok(0) => break,
                    Ok(count) => got += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Error::io(format!("read {} at byte {}", self.name, self.at), error)),
                }
            }
            self.ahead.truncate(have + got);
        }
        Ok(&self.ahead[self.from..])
    }

    /// Nothing follows.
    pub fn at_end(&mut self) -> Result<bool, Error> {
        Ok(self.peek(1)?.is_empty())
    }

    /// Takes `count` bytes of those that [`Input::peek`] gave.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.ahead.len() - self.from);
        self.from += count;
        self.at += count as u64;
    }

    /// One byte of `what`.
    pub fn byte(&mut self, what: &str) -> Result<u8, Error> {
        self.peek(1)?;
        let byte = *self.ahead.get(self.from).ok_or_else(|| self.short(what))?;
        self.from += 1;
        self.at += 1;
        Ok(byte)
    }

    /// A big-endian number of `what`.
    pub fn u32_be(&mut self, what: &str) -> Result<u32, Error> {
        let mut value = 0;
        for byte in self.array::<4>(what)? {
            value = value << 8 | u32::from(byte);
        }
        Ok(value)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        if self.peek(N)?.len() < N {
            return Err(self.short(what));
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.ahead[self.from..self.from + N]);
        self.from += N;
        self.at += N as u64;
        Ok(bytes)
    }

    /// Takes exactly `len` bytes of `what` into the front of `buffer`, which grows no faster than bytes arrive.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, len: usize, what: &str) -> Result<(), Error> {
        if self.take(buffer, len)? < len {
            return Err(self.short(what));
        }
        Ok(())
    }

    /// Takes exactly `len` bytes of `what` behind those that are in `packed`.
    pub fn append(&mut self, packed: &mut Packed, len: usize, what: &str) -> Result<(), Error> {
        let got = self.take_behind(&mut packed.data, packed.used, len)?;
        packed.used += got;
        if got < len { Err(self.short(what)) } else { Ok(()) }
    }

    /// Takes up to `len` bytes into the front of `buffer`: fewer only before the end.
    pub fn take(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<usize, Error> {
        self.take_behind(buffer, 0, len)
    }

    fn take_behind(&mut self, buffer: &mut Vec<u8>, start: usize, len: usize) -> Result<usize, Error> {
        const STEP: usize = 256 << 10;
        let mut got = 0;
        while got < len {
            let want = (len - got).min(STEP.max(got));
            let place = start + got..start + got + want;
            if buffer.len() < place.end {
                buffer.resize(place.end, 0);
            }
            let (to, ahead) = (&mut buffer[place], &self.ahead[self.from..]);
            let ready = ahead.len().min(want);
            to[..ready].copy_from_slice(&ahead[..ready]);
            self.from += ready;
            let read = read_full(&mut self.read, &mut to[ready..]).map_err(|error| {
                Error::io(format!("read {} at byte {}", self.name, self.at + (got + ready) as u64), error)
            })?;
            got += ready + read;
            if ready + read < want {
                break;
            }
        }
        self.at += got as u64;
        Ok(got)
    }

    fn short(&self, what: &str) -> Error {
        let end = self.at + (self.ahead.len() - self.from) as u64;
        self.damaged(end, format!("cut short within {what}"))
    }
}

/// The number that `bytes` begin with; 0 when they are too short.
fn u32_le(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// Reads until `to` is full or the end comes.
pub fn read_full(read: &mut dyn Read, to: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < to.len() {
        match read.read(&mut to[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests;
