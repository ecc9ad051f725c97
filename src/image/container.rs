//! partclone's image container: its header, and the order of what follows.
//!
//! Both versions follow partclone's IMAGE_FORMATS.md: header, map of used blocks, then the used blocks with
//! checksums between them. Version 2 (partclone 0.3) has a header of 110 bytes with its own CRC, and a map of one bit
//! a block with a CRC after it; version 1 (partclone 0.2) has a header of 4160 bytes, a map of one byte a block, the
//! mark `BiTmAgIc`, and a checksum after each block. Only little-endian images are read.

use super::bitmap::Bitmap;
use super::checksum::{self, Between, Mode, Running};

/// Size of a version 2 header, bytes.
pub const HEADER_V2: usize = 110;
/// Size of a version 1 header, bytes.
pub const HEADER_V1: usize = 4160;
/// The mark after the map of version 1.
pub const MAP_MARK: &[u8; 8] = b"BiTmAgIc";

const MAGIC: &[u8; 15] = b"partclone-image";
/// Names of the file system in the images of whole disks, and the sector size that their partition tables count in,
/// bytes.
pub const DISKS: [(&str, u32); 2] = [("DISK", 512), ("DISK4K", 4096)];
/// Bytes from the beginning that contain the version.
pub const HEAD: usize = 36;

/// The version of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 0001, written by partclone 0.2.
    One,
    /// 0002, written by partclone 0.3.
    Two,
}

/// The form in which a map of used blocks is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapMode {
    /// No map: all blocks are in the image.
    None,
    /// One bit a block.
    Bit,
    /// One byte a block.
    Byte,
}

impl MapMode {
    /// Returns partclone.info's name for the mode.
    pub fn name(self) -> &'static str {
        match self {
            MapMode::None => "NONE",
            MapMode::Bit => "BIT",
            MapMode::Byte => "BYTE",
        }
    }
}

/// The header of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the container.
    pub version: Version,
    /// Version of the program that made it; empty in version 1.
    pub made_by: String,
    /// partclone's name for the file system (`EXTFS`, `NTFS` …).
    pub fs: String,
    /// Size of the file system's device, bytes.
    pub device_size: u64,
    /// Number of blocks of the file system.
    pub blocks: u64,
    /// Used blocks by the file system's own counters.
    pub used_by_super: u64,
    /// Used blocks by the map; version 1 does not have it and repeats the other.
    pub used_by_map: u64,
    /// Size of a block, bytes.
    pub block_size: u32,
    /// Word length of the machine that made it, bits; 0 in version 1.
    pub cpu_bits: u16,
    /// Kind of the checksums.
    pub checksum: Mode,
    /// Blocks that one checksum covers; 0 without checksums.
    pub blocks_per_checksum: u32,
    /// Whether each checksum begins anew instead of continuing the last one.
    pub reseed: bool,
    /// Form of the map.
    pub map: MapMode,
}

/// The reason why bytes are not the header of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the header, bytes.
    pub at: usize,
    /// The fault found there.
    pub why: String,
}

fn fault<T>(at: usize, why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, why: why.into() })
}

/// Returns the size of the header that begins with these [`HEAD`] bytes.
///
/// # Errors
/// The bytes are not of a partclone image, or its version or byte order is not supported.
pub fn header_size(head: &[u8]) -> Result<usize, Fault> {
    if head.len() < HEAD || !head.starts_with(MAGIC) {
        return fault(0, "not a partclone image");
    }
    match &head[30..34] {
        b"0001" => Ok(HEADER_V1),
        b"0002" => match &head[34..36] {
            [0xde, 0xc0] => Ok(HEADER_V2),
            [0xc0, 0xde] => fault(34, "made on a big-endian machine, which is not supported"),
            _ => fault(34, "the mark of the byte order is wrong"),
        },
        version => fault(30, format!("container version {:?} is not known", String::from_utf8_lossy(version))),
    }
}

impl Header {
    /// Parses a header of the size that [`header_size`] returns.
    ///
    /// # Errors
    /// The first fault found. Sizes are checked against each other, not against any device.
    pub fn parse(bytes: &[u8]) -> Result<Header, Fault> {
        let size = header_size(bytes)?;
        if bytes.len() < size {
            return fault(bytes.len(), "the header is cut short");
        }
        let header = if size == HEADER_V1 { parse_v1(bytes) } else { parse_v2(&bytes[..size])? };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Fault> {
        let (at_size, at_blocks, at_block_size) = match self.version {
            Version::One => (40, 48, 36),
            Version::Two => (52, 60, 84),
        };
        if !(MIN_BLOCK_SIZE..=MAX_BLOCK_SIZE).contains(&self.block_size) {
            return fault(at_block_size, format!("blocks of {} bytes are impossible", self.block_size));
        }
        if self.blocks.checked_mul(u64::from(self.block_size)).is_none_or(|bytes| bytes > i64::MAX as u64) {
            return fault(at_blocks, format!("{} blocks of {} bytes are impossible", self.blocks, self.block_size));
        }
        if self.blocks > MAX_BLOCKS {
            return fault(at_blocks, format!("{} blocks are more than are supported ({MAX_BLOCKS})", self.blocks));
        }
        if self.blocks == 0 {
            return fault(at_blocks, "a file system without blocks");
        }
        if self.map == MapMode::None && self.blocks > MAX_UNMAPPED {
            return fault(at_blocks, format!("{} blocks are too many without a map of the used ones", self.blocks));
        }
        if self.device_size > i64::MAX as u64 {
            return fault(at_size, format!("a device of {} bytes is impossible", self.device_size));
        }
        Ok(())
    }

    /// Returns the size of all blocks, bytes.
    pub fn block_bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// Returns the size that a target must have, bytes: that of all blocks, or of the device if that is larger.
    pub fn target_size(&self) -> u64 {
        self.device_size.max(self.block_bytes())
    }

    /// Returns the size of the map without its check, bytes.
    pub fn map_size(&self) -> u64 {
        match self.map {
            MapMode::None => 0,
            MapMode::Bit => self.blocks.div_ceil(8),
            MapMode::Byte => self.blocks,
        }
    }

    /// Returns the size of the map's check, bytes: version 2's CRC, version 1's mark.
    pub fn map_check(&self) -> u64 {
        match (self.version, self.map) {
            (_, MapMode::None) => 0,
            (Version::One, _) => MAP_MARK.len() as u64,
            (Version::Two, _) => 4,
        }
    }

    /// Returns the number of bytes before the first block.
    pub fn front_size(&self) -> u64 {
        let header = if self.version == Version::One { HEADER_V1 } else { HEADER_V2 };
        header as u64 + self.map_size() + self.map_check()
    }

    /// Returns the sector size that a disk's partition table counts in, bytes; `None` if the image is not of a whole
    /// disk.
    pub fn disk_sector(&self) -> Option<u32> {
        DISKS.iter().find(|(name, _)| *name == self.fs).map(|(_, sector)| *sector)
    }

    /// Returns the checksums that go between the blocks of an image with this header.
    pub fn sums(&self) -> Between {
        Between::new(self.checksum, self.reseed, u64::from(self.blocks_per_checksum) * u64::from(self.block_size))
    }

    /// Returns the header's bytes, as partclone writes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![0; if self.version == Version::One { HEADER_V1 } else { HEADER_V2 }];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        match self.version {
            Version::One => {
                put(15, text(&self.fs, 15));
                put(30, b"0001");
                put(36, &self.block_size.to_le_bytes());
                put(40, &self.device_size.to_le_bytes());
                put(48, &self.blocks.to_le_bytes());
                put(56, &self.used_by_super.to_le_bytes());
            }
            Version::Two => {
                put(16, text(&self.made_by, 14));
                put(30, b"0002");
                put(34, &[0xde, 0xc0]);
                put(36, text(&self.fs, 16));
                put(52, &self.device_size.to_le_bytes());
                put(60, &self.blocks.to_le_bytes());
                put(68, &self.used_by_super.to_le_bytes());
                put(76, &self.used_by_map.to_le_bytes());
                put(84, &self.block_size.to_le_bytes());
                put(88, &18_u32.to_le_bytes());
                put(92, &2_u16.to_le_bytes());
                put(94, &self.cpu_bits.to_le_bytes());
                put(96, &self.checksum.number().to_le_bytes());
                put(98, &(self.checksum.size() as u16).to_le_bytes());
                put(100, &self.blocks_per_checksum.to_le_bytes());
                put(104, &[u8::from(self.reseed), map_number(self.map)]);
                let sum = checksum::crc32(&out[..106]);
                out[106..].copy_from_slice(&sum.to_le_bytes());
            }
        }
        out
    }
}

/// Sends everything before the first block in parts: header, map and the map's check.
///
/// # Errors
/// An error of `send`.
pub fn front<E>(header: &Header, map: &Bitmap, send: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    send(&header.to_bytes())?;
    let mut sum = Running::default();
    let mut left = map.blocks();
    let mut put = |bytes: &[u8]| {
        sum.update(bytes);
        send(bytes)
    };
    match header.map {
        MapMode::None => return Ok(()),
        MapMode::Bit => map.bytes(put)?,
        MapMode::Byte => map.bytes(|bytes| {
            let flags: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1)).collect();
            // The last byte may have bits past the last block.
            let here = left.min(flags.len() as u64);
            left -= here;
            put(&flags[..here as usize])
        })?,
    }
    match header.version {
        Version::One => send(MAP_MARK),
        Version::Two => send(&sum.value().to_le_bytes()),
    }
}

/// Smallest and largest block that is accepted, bytes: no device has smaller sectors, and one block is held in memory.
const MIN_BLOCK_SIZE: u32 = 512;
const MAX_BLOCK_SIZE: u32 = 16 << 20;
/// Most blocks that are accepted: 64 TiB in sectors of 512 bytes, 512 TiB in blocks of 4 KiB. The index of the map's
/// pages takes 16 bytes for every 8192 of them.
const MAX_BLOCKS: u64 = 1 << 37;
/// Most blocks that are accepted of an image without a map, since a map is made before any of them arrives: 2 TiB in
/// sectors of 512 bytes.
const MAX_UNMAPPED: u64 = 1 << 32;

fn text(text: &str, most: usize) -> &[u8] {
    // The last byte stays zero and ends the text.
    &text.as_bytes()[..text.len().min(most - 1)]
}

fn read_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    // It is printed on terminals: no control characters.
    bytes[..end].iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' }).collect()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut number = [0; N];
    number.copy_from_slice(&bytes[at..at + N]);
    number
}

fn map_number(mode: MapMode) -> u8 {
    match mode {
        MapMode::None => 0,
        MapMode::Bit => 1,
        MapMode::Byte => 8,
    }
}

fn parse_v1(bytes: &[u8]) -> Header {
    Header {
        version: Version::One,
        made_by: String::new(),
        fs: read_text(&bytes[15..30]),
        device_size: u64::from_le_bytes(number(bytes, 40)),
        blocks: u64::from_le_bytes(number(bytes, 48)),
        used_by_super: u64::from_le_bytes(number(bytes, 56)),
        used_by_map: u64::from_le_bytes(number(bytes, 56)),
        block_size: u32::from_le_bytes(number(bytes, 36)),
        cpu_bits: 0,
        checksum: Mode::Crc32V1,
        blocks_per_checksum: 1,
        reseed: false,
        map: MapMode::Byte,
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Header, Fault> {
    let (stored, sum) = (u32::from_le_bytes(number(bytes, 106)), checksum::crc32(&bytes[..106]));
    if stored != sum {
        return fault(106, format!("the header's checksum is {sum:#010x}, not {stored:#010x}"));
    }
    let mode = u16::from_le_bytes(number(bytes, 96));
    let Some(mode) = Mode::from_number(mode) else {
        return fault(96, format!("checksum mode {mode:#x} is not known"));
    };
    let size = usize::from(u16::from_le_bytes(number(bytes, 98)));
    if size != mode.size() {
        return fault(98, format!("a {} checksum of {size} bytes is impossible", mode.name()));
    }
    let blocks_per_checksum = u32::from_le_bytes(number(bytes, 100));
    if mode != Mode::None && blocks_per_checksum == 0 {
        return fault(100, "a checksum every 0 blocks is impossible");
    }
    let map = match bytes[105] {
        0 => MapMode::None,
        1 => MapMode::Bit,
        8 => MapMode::Byte,
        mode => return fault(105, format!("a map of {mode} bits a block is not known")),
    };
    Ok(Header {
        version: Version::Two,
        made_by: read_text(&bytes[16..30]),
        fs: read_text(&bytes[36..52]),
        device_size: u64::from_le_bytes(number(bytes, 52)),
        blocks: u64::from_le_bytes(number(bytes, 60)),
        used_by_super: u64::from_le_bytes(number(bytes, 68)),
        used_by_map: u64::from_le_bytes(number(bytes, 76)),
        block_size: u32::from_le_bytes(number(bytes, 84)),
        cpu_bits: u16::from_le_bytes(number(bytes, 94)),
        checksum: mode,
        blocks_per_checksum,
        reseed: bytes[104] != 0,
        map,
    })
}

#[cfg(test)]
mod tests;
