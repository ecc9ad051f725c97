//! The used blocks of a whole disk: those of all partitions in one map.
//!
//! The image is a partclone image of the whole device, so that partclone.restore takes it too; its file system is
//! called `DISK`, or `DISK4K` where the partition table counts in sectors of 4 KiB. It holds the used blocks of each
//! known file system, the other partitions in full, and everything between partitions: boot loaders, the tables
//! themselves, the EBR of each logical partition. Gaps longer than 16 MiB are kept only at their ends, where something
//! could be.

use super::Error;
use super::bitmap::Bitmap;
use super::container::DISKS;
use super::fs::{self, Used, raw};
use super::source::Source;
use super::table::{self, Table};

/// Longest gap that is kept whole, and the part kept at either end of a longer one, bytes.
const SHORT_GAP: u64 = 16 << 20;
const GAP_END: u64 = 1 << 20;

/// Returns partition `number` of a disk, as Linux numbers them.
///
/// # Errors
/// There is no such partition, or the disk's table is damaged or cannot be read.
pub fn partition(disk: &Source, number: usize) -> Result<Source, Error> {
    let partitions = table::sound(disk)?.map_or(Vec::new(), |table| table.partitions);
    let Some(found) = partitions.iter().find(|partition| partition.number as usize == number) else {
        let mut numbers: Vec<String> = partitions.iter().map(|partition| partition.number.to_string()).collect();
        if numbers.is_empty() {
            numbers.push("none".to_owned());
        }
        let why = format!("{} has no partition {number}; it has {}", disk.name(), numbers.join(", "));
        return Err(Error::Refused(why));
    };
    disk.part(format!("{}, partition {number}", disk.name()), found.start, found.size)
}

/// Returns the used blocks of a whole disk, and adds remarks on single partitions to `notes`.
///
/// # Errors
/// A partition's file system is damaged; with `force` the whole partition is saved instead.
pub fn used(source: &Source, table: &Table, force: bool, notes: &mut Vec<String>) -> Result<Used, Error> {
    let size = source.size();
    let block_size = raw::block_size(size)
        .ok_or_else(|| Error::Refused(format!("{}: {size} bytes are no whole number of sectors", source.name())))?;
    let block = u64::from(block_size);
    let mut map = Bitmap::new(size / block);
    // Rounded outwards to whole blocks: partitions may begin anywhere.
    let mut keep = |start: u64, len: u64| map.set(start / block, (start + len).div_ceil(block) - start / block);
    let mut dirty = Vec::new();
    let mut end = 0;
    for partition in &table.partitions {
        keep_gap(end, partition.start, &mut keep);
        end = partition.start + partition.size;
        let part = source.part(
            format!("{}, partition {}", source.name(), partition.number),
            partition.start,
            partition.size,
        )?;
        let found = match fs::recognise(&part)? {
            Some(fs) => (fs.used)(&part),
            None => Err(Error::Refused(format!("{}: {}", part.name(), fs::unknown(&part)?))),
        };
        match found {
            Ok(used) => {
                let mut from = 0;
                while let Some((first, count)) = used.map.next_run(from) {
                    let size = u64::from(used.block_size);
                    keep(partition.start + first * size, count * size);
                    from = first + count;
                }
                // The copy of NTFS's boot sector, which is beyond its map.
                keep(end - u64::from(table.sector), u64::from(table.sector));
                dirty.extend(used.dirty);
            }
            // One of several devices, encrypted, or unknown.
            Err(Error::Refused(why)) => {
                notes.push(format!("{why}; it is saved whole"));
                keep(partition.start, partition.size);
            }
            Err(error @ Error::Damaged { .. }) if force => {
                dirty.push(format!("{error}; it is saved whole"));
                keep(partition.start, partition.size);
            }
            Err(error) => return Err(error),
        }
    }
    keep_gap(end, size, &mut keep);
    for (start, len) in &table.kept {
        keep(*start, *len);
    }
    let name = DISKS[usize::from(table.sector != 512)].0;
    let dirty = (!dirty.is_empty()).then(|| dirty.join("; "));
    Ok(Used { name, block_size, device_size: size, used_by_super: map.used(), map, dirty })
}

fn keep_gap(start: u64, end: u64, keep: &mut dyn FnMut(u64, u64)) {
    let len = end - start;
    if len <= SHORT_GAP {
        keep(start, len);
    } else {
        keep(start, GAP_END);
        keep(end - GAP_END, GAP_END);
    }
}
