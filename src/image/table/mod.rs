//! Partition tables: MBR with its logical partitions, and GPT. One reader for all, which numbers partitions as Linux
//! does.
//!
//! [`read`] takes a table as it is, as the search for one partition does; [`sound`] wants one by which a whole disk
//! can be saved or overwritten.

use super::Error;
use super::fields::is_zero;
use super::source::Source;
use gpt::Gpt;
use mbr::{Chain, Entry};

pub mod gpt;
pub mod mbr;
mod partition;

pub use partition::{Kind, Partition};

/// The smallest disk that may have a table, bytes.
const SMALLEST: u64 = 1 << 14;
/// Most EBRs of one extended partition: more logical partitions than Linux numbers.
const MOST_LOGICAL: usize = 256;

/// A partition table.
pub struct Table {
    /// Bytes of the sectors in which it counts.
    pub sector: u32,
    /// Its partitions; extended ones among them only as [`read`] gives them.
    pub partitions: Vec<Partition>,
    /// Offset and length of everything that belongs to the table itself, bytes.
    pub kept: Vec<(u64, u64)>,
    /// Offset and fault of the place where it cannot be read further.
    broken: Option<(u64, String)>,
    /// The list of logical partitions leads past the end of the disk.
    leads_out: bool,
}

/// Reads the partition table of `source`; `None` if it has none. A damaged table has the partitions that could be read.
///
/// # Errors
/// The source cannot be read.
pub fn read(source: &Source) -> Result<Option<Table>, Error> {
    if source.is_partition() || source.size() < SMALLEST {
        return Ok(None);
    }
    let first = source.read(0, 512)?;
    let Some(entries) = mbr::master(&first) else { return Ok(None) };
    if entries.iter().any(Entry::is_protective) {
        return Table::gpt(source).map(Some);
    }
    // The last bytes of a file system's boot sector may look like the size of an entry, but not like its type as well.
    let last = source.size() / u64::from(source.sector_size());
    let fits = |entry: &Entry| entry.start > 0 && entry.start + entry.count <= last && !mbr::boots(&first);
    if !entries.iter().any(|entry| entry.is_used() && (entry.kind != 0 || fits(entry))) {
        return Ok(None);
    }
    Table::mbr(source, &entries).map(Some)
}

/// Reads the partition table of `source` for a job on the whole disk: partitions in the order of the disk, without
/// extended ones. `None` if there is no table, or partitions that overlap or do not fit: boot sectors look much like a
/// table.
///
/// # Errors
/// The source cannot be read; both copies of a GPT are damaged, or the list of logical partitions is.
pub fn sound(source: &Source) -> Result<Option<Table>, Error> {
    let Some(mut table) = read(source)? else { return Ok(None) };
    if let Some((at, why)) = table.broken {
        return Err(source.damaged(at, why));
    }
    table.partitions.retain(|partition| !partition.kind.is_extended());
    table.partitions.sort_by_key(|partition| partition.start);
    let mut end = u64::from(table.sector);
    for partition in &table.partitions {
        let next = partition.start.checked_add(partition.size);
        match next {
            Some(next) if partition.start >= end && partition.size > 0 && next <= source.size() => end = next,
            _ => return Ok(None),
        }
    }
    Ok((!table.leads_out).then_some(table))
}

impl Table {
    /// A table without partitions, whose first sector is the disk's.
    fn new(sector: u32) -> Table {
        let kept = vec![(0, u64::from(sector))];
        Table { sector, partitions: Vec::new(), kept, broken: None, leads_out: false }
    }

    fn mbr(source: &Source, entries: &[Entry; 4]) -> Result<Table, Error> {
        let mut table = Table::new(source.sector_size());
        for entry in entries.iter().filter(|entry| entry.is_used()) {
            table.push(entry.slot as u32 + 1, entry);
        }
        let mut number = 5;
        for extended in entries.iter().filter(|entry| entry.is_extended()) {
            table.logical(source, extended, &mut number)?;
        }
        Ok(table)
    }

    fn push(&mut self, number: u32, entry: &Entry) {
        let sector = u64::from(self.sector);
        let (start, size) = (entry.start * sector, entry.count * sector);
        self.partitions.push(Partition { number, start, size, kind: Kind::Mbr(entry.kind), name: String::new() });
    }

    /// Adds the logical partitions of an extended one, numbered from `number` on.
    fn logical(&mut self, source: &Source, extended: &Entry, number: &mut u32) -> Result<(), Error> {
        let sector = u64::from(self.sector);
        let mut chain = Chain::new(extended);
        for _ in 0..MOST_LOGICAL {
            let at = chain.at() * sector;
            if at + sector > source.size() {
                self.leads_out = true;
                return Ok(());
            }
            if self.kept.contains(&(at, sector)) {
                self.broken = Some((at, "the list of logical partitions goes in circles".to_owned()));
                return Ok(());
            }
            let bytes = source.read(at, 512)?;
            let Some(record) = mbr::extended(&bytes) else {
                // A new extended partition may be empty.
                if !(chain.is_first() && is_zero(&bytes)) {
                    let why =
                        "no list of logical partitions: save it with --raw, in which all that is not zero is kept";
                    self.broken = Some((at, why.to_owned()));
                }
                return Ok(());
            };
            self.kept.push((at, sector));
            for entry in chain.partitions(&record) {
                self.push(*number, &entry);
                *number += 1;
            }
            if !chain.follow(&record) {
                return Ok(());
            }
        }
        self.broken = Some((chain.at() * sector, format!("more than {MOST_LOGICAL} logical partitions")));
        Ok(())
    }

    fn gpt(source: &Source) -> Result<Table, Error> {
        // A file does not say how long its sectors are.
        let sectors: &[u32] = if source.sector_size() == 4096 { &[4096] } else { &[512, 4096] };
        for sector in sectors {
            let mut table = Table::new(*sector);
            let last = source.size() / u64::from(*sector) - 1;
            for lba in [1, last] {
                let Some(gpt) = Gpt::read(*sector, lba, &mut |to, at| source.read_at(to, at))? else { continue };
                // Only the table itself is kept yet: this is the first sound copy.
                if table.kept.len() == 1 {
                    table.partitions = gpt.partitions();
                }
                table.kept.extend(gpt.places());
            }
            if table.kept.len() > 1 {
                return Ok(table);
            }
        }
        let mut table = Table::new(sectors[0]);
        let why = "both copies of its GPT are damaged: mend it (gdisk), or save it with --raw, in which all that is not \
                   zero is kept";
        table.broken = Some((u64::from(sectors[0]), why.to_owned()));
        Ok(table)
    }
}

#[cfg(test)]
mod tests;
