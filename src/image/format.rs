//! The format of a new image, and the header that follows from it and from the used blocks.

use super::bitmap::Bitmap;
use super::checksum::Mode;
use super::container::{Header, MapMode, Version};
use super::fs::Used;

/// The program in the header, where partclone puts its version: version of the format and name.
const MADE_BY: &str = "0.3+ogbox";

/// Bytes that one checksum covers by default: partclone's buffer.
const BYTES_PER_CHECKSUM: u32 = 1 << 20;

/// The format of a new image: version and checksums.
#[derive(Clone, Copy)]
pub struct Format {
    /// Version of the container.
    pub version: Version,
    /// Kind of the checksums, in version 2.
    pub checksum: Mode,
    /// Blocks that one checksum covers; `None` for as many as make 1 MiB.
    pub blocks_per_checksum: Option<u32>,
    /// Whether each checksum begins anew.
    pub reseed: bool,
}

impl Default for Format {
    /// The format of partclone 0.3.
    fn default() -> Format {
        Format { version: Version::Two, checksum: Mode::Crc32, blocks_per_checksum: None, reseed: true }
    }
}

impl Format {
    /// Sets the fields of the format in a header whose fields of the file system are right.
    pub fn put(&self, header: &mut Header) {
        header.version = self.version;
        if self.version == Version::One {
            // It has room for one of the two, and readers need this one.
            header.used_by_super = header.used_by_map;
        }
        (header.checksum, header.reseed, header.map) = match self.version {
            Version::One => (Mode::Crc32V1, false, MapMode::Byte),
            Version::Two => (self.checksum, self.reseed, MapMode::Bit),
        };
        let usual = BYTES_PER_CHECKSUM / header.block_size;
        header.blocks_per_checksum = match header.checksum {
            Mode::None => 0,
            Mode::Crc32V1 => 1,
            Mode::Crc32 | Mode::Xxh64 | Mode::Xxh128 => self.blocks_per_checksum.unwrap_or(usual).max(1),
        };
    }
}

/// Returns the header of an image of these blocks.
pub fn header(used: &Used, format: &Format) -> Header {
    let mut header = Header {
        version: Version::Two,
        made_by: MADE_BY.to_owned(),
        fs: used.name.to_owned(),
        device_size: used.device_size,
        blocks: used.map.blocks(),
        used_by_super: used.used_by_super,
        used_by_map: used.map.used(),
        block_size: used.block_size,
        cpu_bits: 64,
        checksum: Mode::None,
        blocks_per_checksum: 0,
        reseed: false,
        map: MapMode::Bit,
    };
    format.put(&mut header);
    header
}

/// Returns a header that stands for a job of `bytes` bytes without a file system; 0 if their number is unknown.
pub fn untyped(bytes: u64) -> Header {
    let (map, dirty) = (Bitmap::default(), None);
    let used = Used { name: "", block_size: 1, device_size: bytes, used_by_super: bytes, map, dirty };
    Header { used_by_map: bytes, ..header(&used, &Format::default()) }
}
