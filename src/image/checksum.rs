//! The checksums between an image's blocks.
//!
//! partclone's CRC-32 is the usual reflected one, started with all ones and not inverted at the end: its value is
//! the bitwise NOT of zlib's. Version 1's (`CRC32_0001`) has a defect that readers must share: for each block it feeds
//! the first byte as many times as the block has bytes, and it is never reset.

/// The kind of checksum between an image's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No checksums.
    None,
    /// CRC-32 of the bytes.
    Crc32,
    /// Version 1's CRC-32, which sees only the first byte of a block.
    Crc32V1,
}

impl Mode {
    /// Returns the mode with this number in a version 2 header; `None` if unknown.
    pub fn from_number(number: u16) -> Option<Mode> {
        match number {
            0 => Some(Mode::None),
            0x20 => Some(Mode::Crc32),
            0xff => Some(Mode::Crc32V1),
            _ => None,
        }
    }

    /// Returns the mode's number in a version 2 header.
    pub fn number(self) -> u16 {
        match self {
            Mode::None => 0,
            Mode::Crc32 => 0x20,
            Mode::Crc32V1 => 0xff,
        }
    }

    /// Returns partclone.info's name for the mode.
    pub fn name(self) -> &'static str {
        match self {
            Mode::None => "NONE",
            Mode::Crc32 => "CRC32",
            Mode::Crc32V1 => "CRC32_0001",
        }
    }

    /// Returns the size of one checksum, bytes.
    pub fn size(self) -> usize {
        if self == Mode::None { 0 } else { 4 }
    }
}

/// Returns partclone's CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// A checksum under computation.
#[derive(Clone, Default)]
pub struct Running {
    crc: crc32fast::Hasher,
}

impl Running {
    /// Returns a checksum that continues from `value`.
    pub fn after(value: u32) -> Running {
        Running { crc: crc32fast::Hasher::new_with_initial(!value) }
    }

    /// Adds whole blocks of an image with checksums of this mode.
    pub fn update_blocks(&mut self, mode: Mode, blocks: &[u8], block_size: usize) {
        match mode {
            Mode::None => {}
            Mode::Crc32 => self.update(blocks),
            Mode::Crc32V1 => {
                for block in blocks.chunks_exact(block_size) {
                    self.update_v1(block.first().copied().unwrap_or(0), block.len());
                }
            }
        }
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

/// The checksums between the blocks of an image that is being written.
pub struct Between {
    mode: Mode,
    reseed: bool,
    /// Bytes that one checksum covers, and bytes until the next one is due.
    chunk: u64,
    left: u64,
    first: u8,
    sum: Running,
}

impl Between {
    /// Sums `chunk` bytes at a time: one block in version 1's mode, any number without checksums.
    pub fn new(mode: Mode, reseed: bool, chunk: u64) -> Between {
        let chunk = if mode == Mode::None { u64::MAX } else { chunk };
        Between { mode, reseed, chunk, left: chunk, first: 0, sum: Running::default() }
    }

    /// Returns how many bytes may be added before the next checksum.
    pub fn room(&self) -> u64 {
        self.left
    }

    /// Adds bytes of blocks, at most [`room`](Self::room); returns the checksum that is due after them, if any.
    pub fn add(&mut self, bytes: &[u8]) -> Option<[u8; 4]> {
        match (self.mode, bytes.first()) {
            (Mode::None, _) | (_, None) => return None,
            (Mode::Crc32, _) => self.sum.update(bytes),
            (Mode::Crc32V1, Some(first)) if self.left == self.chunk => self.first = *first,
            (Mode::Crc32V1, _) => {}
        }
        self.left -= bytes.len() as u64;
        (self.left == 0).then(|| self.due())
    }

    /// Returns the checksum that is due after the last block, if any.
    pub fn end(&mut self) -> Option<[u8; 4]> {
        (self.mode != Mode::None && self.left < self.chunk).then(|| self.due())
    }

    fn due(&mut self) -> [u8; 4] {
        self.left = self.chunk;
        if self.mode == Mode::Crc32V1 {
            self.sum.update_v1(self.first, self.chunk as usize);
        }
        let value = self.sum.value();
        if self.reseed {
            self.sum = Running::default();
        }
        value.to_le_bytes()
    }
}
