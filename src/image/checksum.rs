//! The checksums between an image's blocks.
//!
//! partclone's CRC-32 is the usual reflected one, started with all ones and not inverted at the end: its value is
//! the bitwise NOT of zlib's. Version 1's (`CRC32_0001`) has a defect that readers must share: for each block it feeds
//! the first byte as many times as the block has bytes, and it is never reset. Newer versions of partclone also have XXH64 and
//! the 128-bit XXH3 (called XXH128), both with seed 0 and stored in little endian; Clonezilla saves with the latter.

use std::fmt;

use kernels::xxh::{Xxh64, Xxh128};

/// The kind of checksum between an image's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No checksums.
    None,
    /// CRC-32 of the bytes.
    Crc32,
    /// XXH64 of the bytes.
    Xxh64,
    /// 128-bit XXH3 of the bytes.
    Xxh128,
    /// Version 1's CRC-32, which sees only the first byte of a block.
    Crc32V1,
}

/// Number in a version 2 header, partclone.info's name, and size (bytes) of each mode.
const MODES: [(Mode, u16, &str, usize); 5] = [
    (Mode::None, 0, "NONE", 0),
    (Mode::Crc32, 0x20, "CRC32", 4),
    (Mode::Xxh64, 0x30, "XXH64", 8),
    (Mode::Xxh128, 0x31, "XXH128", 16),
    (Mode::Crc32V1, 0xff, "CRC32_0001", 4),
];

impl Mode {
    /// Returns the mode with this number in a version 2 header; `None` if unknown.
    pub fn from_number(number: u16) -> Option<Mode> {
        MODES.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// Returns the mode that a new image can have under this name, in any case; `None` if unknown.
    pub fn named(name: &str) -> Option<Mode> {
        MODES[..4].iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// Returns the mode that partclone's option `-a` gives this number; `None` if unknown.
    pub fn of_option(number: u64) -> Option<Mode> {
        MODES[..4].get(usize::try_from(number).ok()?).map(|row| row.0)
    }

    fn row(self) -> (Mode, u16, &'static str, usize) {
        MODES[self as usize]
    }

    /// Returns the mode's number in a version 2 header.
    pub fn number(self) -> u16 {
        self.row().1
    }

    /// Returns partclone.info's name for the mode.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Returns the size of one checksum, bytes.
    pub fn size(self) -> usize {
        self.row().3
    }
}

/// A checksum as it lies in an image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    bytes: [u8; 16],
    size: usize,
}

impl Sum {
    /// Returns the checksum of this mode that lies at the beginning of `bytes`.
    pub fn of(mode: Mode, bytes: &[u8]) -> Sum {
        let mut sum = Sum { bytes: [0; 16], size: mode.size() };
        let there = sum.size.min(bytes.len());
        sum.bytes[..there].copy_from_slice(&bytes[..there]);
        sum
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

impl fmt::Display for Sum {
    /// Prints the number, in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.bytes().iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Returns partclone's CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// partclone's CRC-32 under computation.
#[derive(Clone, Default)]
pub struct Running {
    crc: crc32fast::Hasher,
}

impl Running {
    /// Returns a checksum that continues from `value`.
    pub fn after(value: u32) -> Running {
        Running { crc: crc32fast::Hasher::new_with_initial(!value) }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
    }

    /// Adds one block of `len` bytes that begins with `first`, as version 1 does.
    pub fn update_v1(&mut self, first: u8, mut len: usize) {
        let row = [first; 4096];
        while len > 0 {
            let part = len.min(row.len());
            self.crc.update(&row[..part]);
            len -= part;
        }
    }

    /// Returns the checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        !self.crc.clone().finalize()
    }
}

/// A checksum of blocks under computation.
#[derive(Clone)]
pub enum BlockSum {
    /// None at all.
    None,
    /// CRC-32.
    Crc32(Running),
    /// XXH64.
    Xxh64(Xxh64),
    /// 128-bit XXH3.
    Xxh128(Box<Xxh128>),
    /// Version 1's CRC-32.
    Crc32V1(Running),
}

impl BlockSum {
    /// Returns the checksum of no blocks.
    pub fn new(mode: Mode) -> BlockSum {
        match mode {
            Mode::None => BlockSum::None,
            Mode::Crc32 => BlockSum::Crc32(Running::default()),
            Mode::Xxh64 => BlockSum::Xxh64(Xxh64::default()),
            Mode::Xxh128 => BlockSum::Xxh128(Box::default()),
            Mode::Crc32V1 => BlockSum::Crc32V1(Running::default()),
        }
    }

    /// Returns a CRC-32 of this mode that continues from the stored one `before`; `None` for the other modes, whose state
    /// is more than their value.
    pub fn after(mode: Mode, before: [u8; 4]) -> Option<BlockSum> {
        let running = Running::after(u32::from_le_bytes(before));
        match mode {
            Mode::Crc32 => Some(BlockSum::Crc32(running)),
            Mode::Crc32V1 => Some(BlockSum::Crc32V1(running)),
            Mode::None | Mode::Xxh64 | Mode::Xxh128 => None,
        }
    }

    /// Adds whole blocks of an image.
    pub fn update(&mut self, blocks: &[u8], block_size: usize) {
        match self {
            BlockSum::None => {}
            BlockSum::Crc32(crc) => crc.update(blocks),
            BlockSum::Xxh64(hash) => hash.update(blocks),
            BlockSum::Xxh128(hash) => hash.update(blocks),
            BlockSum::Crc32V1(crc) => {
                for block in blocks.chunks_exact(block_size) {
                    crc.update_v1(block.first().copied().unwrap_or(0), block.len());
                }
            }
        }
    }

    /// Returns the checksum of all blocks so far, as it is stored.
    pub fn value(&self) -> Sum {
        match self {
            BlockSum::None => Sum::of(Mode::None, &[]),
            BlockSum::Crc32(crc) | BlockSum::Crc32V1(crc) => Sum::of(Mode::Crc32, &crc.value().to_le_bytes()),
            BlockSum::Xxh64(hash) => Sum::of(Mode::Xxh64, &hash.value().to_le_bytes()),
            BlockSum::Xxh128(hash) => Sum::of(Mode::Xxh128, &hash.value().to_le_bytes()),
        }
    }
}

/// The checksums between the blocks of an image that is being written.
pub struct Between {
    mode: Mode,
    reseed: bool,
    /// Bytes that one checksum covers, and bytes until the next one is due.
    chunk: u64,
    left: u64,
    /// First byte of the current block, in version 1's mode.
    first: u8,
    sum: BlockSum,
}

impl Between {
    /// Sums `chunk` bytes at a time: one block in version 1's mode, any number without checksums.
    pub fn new(mode: Mode, reseed: bool, chunk: u64) -> Between {
        let chunk = if mode == Mode::None { u64::MAX } else { chunk };
        Between { mode, reseed, chunk, left: chunk, first: 0, sum: BlockSum::new(mode) }
    }

    /// Returns how many bytes may be added before the next checksum.
    pub fn room(&self) -> u64 {
        self.left
    }

    /// Adds bytes of blocks, at most [`room`](Self::room); returns the checksum that is due after them, if any.
    pub fn add(&mut self, bytes: &[u8]) -> Option<Sum> {
        match (&mut self.sum, bytes.first()) {
            (BlockSum::None, _) | (_, None) => return None,
            (BlockSum::Crc32V1(_), Some(first)) if self.left == self.chunk => self.first = *first,
            (BlockSum::Crc32V1(_), _) => {}
            (sum, _) => sum.update(bytes, bytes.len()),
        }
        self.left -= bytes.len() as u64;
        (self.left == 0).then(|| self.due())
    }

    /// Returns the checksum that is due after the last block, if any.
    pub fn end(&mut self) -> Option<Sum> {
        (self.mode != Mode::None && self.left < self.chunk).then(|| self.due())
    }

    fn due(&mut self) -> Sum {
        self.left = self.chunk;
        if let BlockSum::Crc32V1(crc) = &mut self.sum {
            crc.update_v1(self.first, self.chunk as usize);
        }
        let value = self.sum.value();
        if self.reseed {
            self.sum = BlockSum::new(self.mode);
        }
        value
    }
}
