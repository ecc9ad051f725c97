//! The used blocks of a whole disk: those of all partitions in one map.
//!
//! The image is a partclone image of the whole device, so that partclone.restore takes it too; its file system is
//! called `DISK`, or `DISK4K` where the partition table counts in sectors of 4 KiB. What is not provably unused is in it:
//! the used blocks of each known file system, the other partitions in full, and what is in no file system at all. That is
//! boot loaders, the tables themselves, the EBR of each logical partition, and whatever comes behind the end of a file
//! system in its partition, such as a hash tree of dm-verity. Short stretches of it are kept whole, long ones where they
//! are not zero; a note names what was not looked at.

use super::Error;
use super::bitmap::Bitmap;
use super::container::DISKS;
use super::fields::is_zero;
use super::fs::{self, Used, raw};
use super::signature::{self, Usage};
use super::source::Source;
use super::table::{self, Table};

/// Longest stretch in no file system that is kept whole, and the part kept at either end of a longer one, bytes.
const SHORT: u64 = 16 << 20;
const EDGE: u64 = 1 << 20;
/// Most bytes of longer ones that are looked at on one disk: seconds, where reading all of a large one takes an hour.
const MOST: u64 = 2 << 30;

/// Returns partition `number` of a disk, as Linux numbers them.
///
/// # Errors
/// See [`part`].
pub fn partition(disk: &Source, number: usize) -> Result<Source, Error> {
    part(disk, number).map(|(source, _)| source)
}

/// Does the same, and returns whether the partition may hold several things, so that it is to be saved whole.
///
/// # Errors
/// There is no such partition, or the disk's table is damaged or cannot be read.
pub fn part(disk: &Source, number: usize) -> Result<(Source, bool), Error> {
    let partitions = table::sound(disk)?.map_or(Vec::new(), |table| table.partitions);
    let Some(found) = partitions.iter().find(|partition| partition.number as usize == number) else {
        let mut numbers: Vec<String> = partitions.iter().map(|partition| partition.number.to_string()).collect();
        if numbers.is_empty() {
            numbers.push("none".to_owned());
        }
        let why = format!("{} has no partition {number}; it has {}", disk.name(), numbers.join(", "));
        return Err(Error::Refused(why));
    };
    let part = disk.part(format!("{}, partition {number}", disk.name()), found.start, found.size)?;
    Ok((part, found.kind.holds_several().is_some()))
}

/// Returns the used blocks of a whole disk, and adds remarks on single partitions to `notes`. If the disk has a signature
/// outside its partitions, all its blocks are: its table may be left from before, or be that of an array.
///
/// # Errors
/// A partition's file system is damaged; with `force` the whole partition is saved instead.
pub fn used(source: &Source, table: &Table, force: bool, notes: &mut Vec<String>) -> Result<Used, Error> {
    let size = source.size();
    let block_size = raw::block_size(size)
        .ok_or_else(|| Error::Refused(format!("{}: {size} bytes are no whole number of sectors", source.name())))?;
    if let Some(name) = outside(source, table)? {
        notes.push(format!(
            "{} has a partition table and, outside its partitions, the signature of {name}: each block that is not zero is \
             saved (wipefs clears a signature that is stale)",
            source.name()
        ));
        return raw::used(source);
    }
    let map = Bitmap::new(size / u64::from(block_size));
    let mut kept = Kept { source, block: u64::from(block_size), map, left: MOST };
    let mut dirty = Vec::new();
    let mut end = 0;
    for partition in &table.partitions {
        kept.loose(end, partition.start)?;
        end = partition.start + partition.size;
        let part = source.part(
            format!("{}, partition {}", source.name(), partition.number),
            partition.start,
            partition.size,
        )?;
        let found = match (partition.kind.holds_several(), fs::recognise(&part)?) {
            (Some(what), _) => Err(Error::Refused(format!("{}: {what}, which may hold several things", part.name()))),
            (None, Some(fs)) => (fs.used)(&part),
            (None, None) => Err(Error::Refused(format!("{}: {}", part.name(), fs::unknown(&part)?))),
        };
        match found {
            Ok(used) => {
                let mut from = 0;
                let size = u64::from(used.block_size);
                while let Some((first, count)) = used.map.next_run(from) {
                    kept.keep(partition.start + first * size, count * size);
                    from = first + count;
                }
                // Among it the copy of NTFS's boot sector, which is beyond its map.
                kept.loose(partition.start + used.map.blocks() * size, end)?;
                dirty.extend(used.dirty);
            }
            // One of several devices, encrypted, or unknown.
            Err(Error::Refused(why)) => {
                notes.push(format!("{why}; it is saved whole"));
                kept.keep(partition.start, partition.size);
            }
            Err(error @ Error::Damaged { .. }) if force => {
                dirty.push(format!("{error}; it is saved whole"));
                kept.keep(partition.start, partition.size);
            }
            Err(error) => return Err(error),
        }
    }
    kept.loose(end, size)?;
    for (start, len) in &table.kept {
        kept.keep(*start, *len);
    }
    let (name, map) = (DISKS[usize::from(table.sector != 512)].0, kept.map);
    let dirty = (!dirty.is_empty()).then(|| dirty.join("; "));
    Ok(Used { name, block_size, device_size: size, used_by_super: map.used(), map, dirty })
}

/// Returns the name of what the whole disk holds by a signature in none of its partitions.
fn outside(source: &Source, table: &Table) -> Result<Option<&'static str>, Error> {
    let inside = |at: u64| table.partitions.iter().any(|of| (of.start..of.start + of.size).contains(&at));
    let found = signature::find(source);
    if let Some(found) = found.iter().find(|found| found.signature.usage != Usage::Copy && !inside(found.at)) {
        return Ok(Some(found.signature.name));
    }
    // Marks in the first sectors, where boot loaders are: only a whole file system counts. Boot loaders keep FAT's.
    for fs in fs::FILE_SYSTEMS.iter().filter(|fs| fs.name != "FAT") {
        if (fs.detect)(source)? && (fs.used)(source).is_ok() {
            return Ok(Some(fs.name));
        }
    }
    Ok(None)
}

/// The map of a disk in the making.
struct Kept<'a> {
    source: &'a Source,
    /// Size of a block, bytes.
    block: u64,
    map: Bitmap,
    /// Bytes that may still be looked at.
    left: u64,
}

impl Kept<'_> {
    /// Marks bytes as used, rounded outwards to whole blocks: partitions may begin anywhere.
    fn keep(&mut self, start: u64, len: u64) {
        let first = start / self.block;
        self.map.set(first, (start + len).div_ceil(self.block) - first);
    }

    /// Marks what is not provably unused between `start` and `end`, where no file system says so.
    fn loose(&mut self, start: u64, end: u64) -> Result<(), Error> {
        let len = end.saturating_sub(start);
        if len <= SHORT {
            self.keep(start, len);
            return Ok(());
        }
        self.keep(start, EDGE);
        self.keep(end - EDGE, EDGE);
        let (from, to) = (start + EDGE, end - EDGE);
        let looked = from + self.left.min(to - from);
        self.left -= looked - from;
        let mut bytes = vec![0; EDGE as usize];
        for at in (from..looked).step_by(EDGE as usize) {
            let bytes = &mut bytes[..EDGE.min(looked - at) as usize];
            self.source.read_at(bytes, at)?;
            if !is_zero(bytes) {
                self.keep(at, bytes.len() as u64);
            }
        }
        if looked < to {
            self.source.note(format!(
                "the {} bytes from byte {looked} to {to} are in no file system, were not looked at and are left out: --raw \
                 keeps what is not zero",
                to - looked
            ));
        }
        Ok(())
    }
}
