//! Whatever no reader knows: each block that is not all zeroes is used.
//!
//! What an image of this kind leaves out is zero, so restoring one writes zeroes there: LUKS, LVM and the like must
//! come back bit by bit. An image of partclone.imager, which leaves out nothing, has the same name in small letters.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::is_zero;
use crate::image::source::Source;

/// The name of such an image.
pub const NAME: &str = "RAW";

const SECTOR: u32 = 512;
/// Bytes that are looked at between two looks at the clock; a multiple of all block sizes.
const STEP: usize = 1 << 20;

/// Whether all that an image leaves out is zero, by the name of its file system.
pub fn is_raw(fs: &str) -> bool {
    fs.eq_ignore_ascii_case(NAME)
}

/// What holds other volumes or encrypted ones, by its mark: traces of an older file system may still stand beside it.
pub fn enclosing(source: &Source) -> Result<Option<&'static str>, Error> {
    let head = source.read(0, source.size().min(2048) as usize)?;
    if head.starts_with(b"LUKS\xba\xbe") {
        return Ok(Some("LUKS"));
    }
    if head.get(3..).is_some_and(|rest| rest.starts_with(b"-FVE-FS-")) {
        return Ok(Some("BitLocker"));
    }
    // In any of the first four sectors, type in the label's header.
    let lvm = head.chunks_exact(512).any(|sector| sector.starts_with(b"LABELONE") && sector[24..].starts_with(b"LVM2"));
    Ok(lvm.then_some("LVM"))
}

/// Largest block of at most 4 KiB that the size is a multiple of; none when it is not even one of sectors.
pub fn block_size(size: u64) -> Option<u32> {
    (size > 0 && size.is_multiple_of(u64::from(SECTOR))).then(|| 1 << size.trailing_zeros().min(12))
}

/// All blocks; [`scan`] tells which are not zero.
///
/// # Errors
/// The size is no multiple of a sector's.
pub fn used(source: &Source) -> Result<Used, Error> {
    let size = source.size();
    let block_size = block_size(size)
        .ok_or_else(|| Error::Refused(format!("{}: {size} bytes are no whole number of sectors", source.name())))?;
    Ok(all(source, NAME, block_size))
}

/// All sectors, as partclone.imager takes them.
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
/// last call, 0 at first, and ends the scan by an error.
///
/// # Errors
/// The source cannot be read, or the error of `step`.
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
