//! Linux swap: only its header is kept, so that the restored partition is an empty swap with the same UUID. One in which a
//! system is hibernated is saved whole, by force.
//!
//! The layout is `union swap_header` of the kernel's include/linux/swap.h.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

const PAGE_SIZES: [u64; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

const MARK: &[u8] = b"SWAPSPACE2";
/// The marks of the kernel, of uswsusp and of the low-level hibernation of other systems.
const HIBERNATED: [&[u8]; 4] = [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];

/// Returns the page size and the last ten bytes of the first page; `None` if that is not a swap header.
fn signature(source: &Source) -> Result<Option<(u64, Vec<u8>)>, Error> {
    for page in PAGE_SIZES.into_iter().filter(|page| source.size() >= 2 * page) {
        let mark = source.read(page - 10, 10)?;
        if mark == MARK || HIBERNATED.iter().any(|hibernated| mark.starts_with(hibernated)) {
            return Ok(Some((page, mark)));
        }
    }
    Ok(None)
}

/// Whether the source has a swap header.
pub fn detect(source: &Source) -> Result<bool, Error> {
    Ok(signature(source)?.is_some())
}

/// Returns the header's page as used, all pages if a system is hibernated in them.
///
/// # Errors
/// The header is impossible.
pub fn used(source: &Source) -> Result<Used, Error> {
    let Some((page, mark)) = signature(source)? else {
        return Err(source.damaged(0, "no swap header"));
    };
    let pages = u64::from(Fields(&source.read(0, page as usize)?).u32(1028)) + 1;
    if pages * page > source.size() {
        return Err(source.damaged(1028, format!("a swap of {pages} pages does not fit into {} bytes", source.size())));
    }
    let mut map = Bitmap::new(pages);
    let hibernated = mark != MARK;
    map.set(0, if hibernated { pages } else { 1 });
    let dirty =
        hibernated.then(|| format!("{}: a system is hibernated in this swap: wake it and shut it down", source.name()));
    Ok(Used { name: "SWAP", block_size: page as u32, device_size: pages * page, used_by_super: map.used(), map, dirty })
}
