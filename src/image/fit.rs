//! A disk's image restored to a larger disk: the GPT is made to fit the new size.

use super::Error;
use super::container::Header;
use super::table::gpt::{self, Gpt};
use super::table::mbr::{self, Entry};
use super::target::Target;

/// Fits the table of a disk that was just restored to a larger target: moves the second copy of the GPT to the end, and
/// removes the one that an older table left there.
///
/// # Errors
/// The target cannot be read or written.
pub fn fit(target: &mut Target, header: &Header) -> Result<(), Error> {
    let (Some(sector), Some(size)) = (header.disk_sector(), target.size()) else { return Ok(()) };
    let bytes = u64::from(sector);
    let (old_last, last) = (header.device_size / bytes - 1, size / bytes - 1);
    if last <= old_last {
        return Ok(());
    }
    let mut sectors = [vec![0; sector as usize], vec![0; sector as usize]];
    target.read_at(&mut sectors[0], 0)?;
    target.read_at(&mut sectors[1], last * bytes)?;
    let [mut first, stale] = sectors;
    if stale.starts_with(gpt::MAGIC) {
        target.write_at(&vec![0; sector as usize], last * bytes)?;
    }
    let Some(entries) = mbr::master(&first).filter(|entries| entries.iter().any(Entry::is_protective)) else {
        return Ok(());
    };
    let mut gpt = None;
    for lba in [1, old_last] {
        gpt = gpt.map_or_else(|| Gpt::read(sector, lba, &mut |to, at| target.read_at(to, at)), |gpt| Ok(Some(gpt)))?;
    }
    let Some(gpt) = gpt else { return Ok(()) };
    let second = last - gpt.entry_sectors();
    for (lba, other, entries) in [(last, 1, second), (1, last, gpt.first_entries())] {
        target.write_at(gpt.entries(), entries * bytes)?;
        target.write_at(&gpt.header(lba, other, entries, second - 1), lba * bytes)?;
    }
    if old_last < second {
        target.write_at(&vec![0; sector as usize], old_last * bytes)?;
    }
    for entry in entries.iter().filter(|entry| entry.is_protective()) {
        // In a hybrid MBR the protective entry covers only the front.
        if entry.start + entry.count > old_last {
            mbr::set_count(&mut first, entry.slot, last);
        }
    }
    target.write_at(&first, 0)
}
