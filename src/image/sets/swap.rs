//! An empty Linux swap, made anew with the UUID and label that a set recorded.
//!
//! The layout is `union swap_header` of the kernel's include/linux/swap.h.

/// Bytes of a page, on which the size of the header and its unit depend.
pub const PAGE: usize = 4096;
/// Offsets in the header.
const VERSION: usize = 1024;
const LAST: usize = 1028;
const UUID: usize = 1036;
const LABEL: usize = 1052;
const MARK: usize = PAGE - 10;

/// Returns the header of a swap of `size` bytes; `None` if that is too small.
pub fn header(size: u64, uuid: [u8; 16], label: &str) -> Option<Vec<u8>> {
    let last = u32::try_from((size / PAGE as u64).checked_sub(1)?).unwrap_or(u32::MAX);
    let mut page = vec![0; PAGE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(VERSION, &1_u32.to_le_bytes());
    put(LAST, &last.to_le_bytes());
    put(UUID, &uuid);
    put(LABEL, &label.as_bytes()[..label.len().min(16)]);
    put(MARK, b"SWAPSPACE2");
    (last >= 9).then_some(page)
}
