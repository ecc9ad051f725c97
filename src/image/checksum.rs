//! The checksums between an image's blocks.
//!
//! partclone's CRC-32 is the usual reflected one, begun with all ones and not inverted at the end: its value is
//! the bitwise NOT of zlib's. Version 1's (`CRC32_0001`) has a defect that its readers must share: of each block
//! it feeds the first byte, over and over, as many times as the block has bytes, and never begins anew.

/// How a container's blocks are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    None,
    /// CRC-32 of the bytes.
    Crc32,
    /// Version 1's CRC-32, which sees only the first byte of a block.
    Crc32V1,
}

impl Mode {
    /// From the number in a version 2 header.
    pub fn from_number(number: u16) -> Option<Mode> {
        match number {
            0 => Some(Mode::None),
            0x20 => Some(Mode::Crc32),
            0xff => Some(Mode::Crc32V1),
            _ => None,
        }
    }

    /// The number in a version 2 header.
    pub fn number(self) -> u16 {
        match self {
            Mode::None => 0,
            Mode::Crc32 => 0x20,
            Mode::Crc32V1 => 0xff,
        }
    }

    /// As partclone.info calls it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::None => "NONE",
            Mode::Crc32 => "CRC32",
            Mode::Crc32V1 => "CRC32_0001",
        }
    }

    /// Bytes that one checksum takes.
    pub fn size(self) -> usize {
        if self == Mode::None { 0 } else { 4 }
    }
}

/// partclone's CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// A checksum that is being made.
#[derive(Clone, Default)]
pub struct Running {
    crc: crc32fast::Hasher,
}

impl Running {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
    }

    /// Takes one block as version 1 does.
    pub fn update_v1(&mut self, block: &[u8]) {
        let row = [block.first().copied().unwrap_or(0); 4096];
        for part in block.chunks(row.len()) {
            self.crc.update(&row[..part.len()]);
        }
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        !self.crc.clone().finalize()
    }
}
