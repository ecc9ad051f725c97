//! Content that no reader knows: each block that is not all zeroes is used.
//!
//! Blocks that such an image leaves out are zero, and restoring it zeroes them: LUKS, LVM and the like must come back
//! bit by bit. An image of partclone.imager, which leaves out nothing, has the same name in lower case.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::is_zero;
use crate::image::source::Source;

/// The name of the file system in such an image.
pub const NAME: &str = "RAW";

const SECTOR: u32 = 512;
/// Bytes scanned between two reports; a multiple of all block sizes.
const STEP: usize = 1 << 20;

/// Whether blocks that an image leaves out are zero, by the name of its file system.
pub fn is_raw(fs: &str) -> bool {
    fs.eq_ignore_ascii_case(NAME)
}

/// Returns the largest block, at most 4 KiB, that divides `size`; `None` if that is not even a multiple of sectors.
pub fn block_size(size: u64) -> Option<u32> {
    (size > 0 && size.is_multiple_of(u64::from(SECTOR))).then(|| 1 << size.trailing_zeros().min(12))
}

/// Returns all blocks as used, of which [`scan`] then clears those that are zero.
///
/// # Errors
/// The size is not a multiple of a sector's.
pub fn used(source: &Source) -> Result<Used, Error> {
    let size = source.size();
    let block_size = block_size(size)
        .ok_or_else(|| Error::Refused(format!("{}: {size} bytes are no whole number of sectors", source.name())))?;
    Ok(all(source, NAME, block_size))
}

/// Returns all blocks as used, as those of the file system `name`, whose map is not read.
///
/// # Errors
/// The size is not a multiple of a sector's.
pub fn named(source: &Source, name: &'static str) -> Result<Used, Error> {
    Ok(Used { name, ..used(source)? })
}

/// Returns all sectors as used, as partclone.imager does.
pub fn whole(source: &Source) -> Used {
    all(source, "raw", SECTOR)
}

fn all(source: &Source, name: &'static str, block_size: u32) -> Used {
    let blocks = source.size() / u64::from(block_size);
    let mut map = Bitmap::new(blocks);
    map.set(0, blocks);
    Used { name, block_size, device_size: source.size(), used_by_super: blocks, map, dirty: None }
}

/// Marks the blocks that are all zeroes as unused, reading the whole source. `step` receives the bytes read since its
/// last call, 0 at first, and may end the scan with an error.
///
/// # Errors
/// The source cannot be read, or an error of `step`.
pub fn scan(source: &Source, used: &mut Used, step: &mut dyn FnMut(u64) -> Result<(), Error>) -> Result<(), Error> {
    let block = used.block_size as usize;
    let mut buffer = vec![0; STEP];
    let (mut at, mut done) = (0, 0);
    while at < source.size() {
        step(done)?;
        let bytes = &mut buffer[..(source.size() - at).min(STEP as u64) as usize];
        source.read_at(bytes, at)?;
        for (index, _) in bytes.chunks(block).enumerate().filter(|(_, block)| is_zero(block)) {
            used.map.clear(at / block as u64 + index as u64, 1);
        }
        done = bytes.len() as u64;
        at += done;
    }
    step(done)?;
    used.used_by_super = used.map.used();
    Ok(())
}
