//! Whole disks: MBR and GPT, and the used blocks of all partitions in one map.
//!
//! The image is one of partclone's, of the whole device, so that partclone.restore takes it too; its file system is
//! called `DISK` (`DISK4K` for sectors of 4 KiB, which all numbers of a partition table count in). Kept are what each
//! partition's own reader says, partitions that none knows in full, and what lies between: boot loaders, the tables
//! themselves, the EBR of each logical partition. Of a gap that is longer than 16 MiB only the ends are kept, where
//! something could be. GPT after the UEFI specification 2.10, section 5.3.

use super::bitmap::Bitmap;
use super::container::{DISKS, Header};
use super::fields::{Fields, is_zero};
use super::fs::{self, Used, raw};
use super::source::Source;
use super::target::Target;
use super::{Error, checksum};

/// Where the four entries of an MBR stand, and its mark.
const ENTRIES: usize = 446;
const MARK: u16 = 0xaa55;
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// More logical partitions than Linux reads.
const MOST_LOGICAL: usize = 256;

const GPT_MAGIC: &[u8; 8] = b"EFI PART";
const GPT_HEADER: usize = 92;
/// Largest table of a GPT that is believed, bytes: 32 times the usual.
const MOST_TABLE: u64 = 512 << 10;

/// A gap that is not longer is kept whole, of others this much at either end.
const SHORT_GAP: u64 = 16 << 20;
const GAP_END: u64 = 1 << 20;

/// A partition; in bytes.
struct Partition {
    number: usize,
    start: u64,
    size: u64,
}

/// A partition table that is sound.
pub struct Table {
    sector: u32,
    partitions: Vec<Partition>,
    /// Start and length of what must be kept wherever it lies, bytes.
    kept: Vec<(u64, u64)>,
}

/// Partition `number` of a disk, as Linux numbers them.
///
/// # Errors
/// There is none, or the disk's table is damaged or cannot be read.
pub fn partition(disk: &Source, number: usize) -> Result<Source, Error> {
    let partitions = Table::read(disk)?.map_or(Vec::new(), |table| table.partitions);
    let Some(found) = partitions.iter().find(|partition| partition.number == number) else {
        let mut numbers: Vec<String> = partitions.iter().map(|partition| partition.number.to_string()).collect();
        if numbers.is_empty() {
            numbers.push("none".to_owned());
        }
        let why = format!("{} has no partition {number}; it has {}", disk.name(), numbers.join(", "));
        return Err(Error::Refused(why));
    };
    disk.part(format!("{}, partition {number}", disk.name()), found.start, found.size)
}

/// One entry of an MBR, in sectors.
struct Entry {
    slot: usize,
    kind: u8,
    start: u64,
    count: u64,
}

/// The entries of an MBR or EBR that are not empty; none when it is neither.
fn entries(sector: &[u8]) -> Option<Vec<Entry>> {
    let f = Fields(sector);
    let sound = f.u16(510) == MARK && (0..4).all(|slot| matches!(f.u8(ENTRIES + slot * 16), 0 | 0x80));
    let entry = |slot| {
        let at = ENTRIES + slot * 16;
        Entry { slot, kind: f.u8(at + 4), start: f.u32(at + 8).into(), count: f.u32(at + 12).into() }
    };
    sound.then(|| (0..4).map(entry).filter(|entry| entry.kind != 0).collect())
}

impl Table {
    /// The partition table of `source`; none when it has none, or one that cannot be: boot sectors of file systems
    /// look much like one.
    ///
    /// # Errors
    /// It cannot be read; a GPT of which both copies are damaged, or the list of logical partitions is.
    pub fn read(source: &Source) -> Result<Option<Table>, Error> {
        if source.is_partition() || source.size() < 1 << 14 {
            return Ok(None);
        }
        let Some(entries) = entries(&source.read(0, 512)?).filter(|entries| !entries.is_empty()) else {
            return Ok(None);
        };
        let table = if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
            Table::gpt(source)?
        } else {
            Table::mbr(source, &entries)?
        };
        Ok(table.sorted(source.size()))
    }

    /// Its partitions by where they begin; none when they overlap or do not fit.
    fn sorted(mut self, size: u64) -> Option<Table> {
        self.partitions.sort_by_key(|partition| partition.start);
        let mut end = u64::from(self.sector);
        for partition in &self.partitions {
            if partition.start < end || partition.size == 0 {
                return None;
            }
            end = partition.start.checked_add(partition.size)?;
        }
        (end <= size).then_some(self)
    }

    fn mbr(source: &Source, entries: &[Entry]) -> Result<Table, Error> {
        let sector = u64::from(source.sector_size());
        let mut table = Table { sector: source.sector_size(), partitions: Vec::new(), kept: vec![(0, sector)] };
        // Numbered as Linux does it: places in the table, then logical ones from 5 on.
        for entry in entries {
            if EXTENDED.contains(&entry.kind) {
                table.logical(source, entry.start, entry.count)?;
            } else {
                let (start, size) = (entry.start * sector, entry.count * sector);
                table.partitions.push(Partition { number: entry.slot + 1, start, size });
            }
        }
        Ok(table)
    }

    /// Follows the list of EBRs in the extended partition of sectors `start` to `start + count`.
    fn logical(&mut self, source: &Source, start: u64, count: u64) -> Result<(), Error> {
        let sector = u64::from(self.sector);
        let mut at = start;
        for number in 5..5 + MOST_LOGICAL {
            if (at + 1) * sector > source.size() {
                // The table that names it does not fit, and is none.
                self.partitions.push(Partition { number, start: at * sector, size: count * sector });
                return Ok(());
            }
            let ebr = source.read(at * sector, 512)?;
            let Some(entries) = entries(&ebr) else {
                if is_zero(&ebr) && at == start {
                    return Ok(());
                }
                let why = "no list of logical partitions: save it with --raw, in which all that is not zero is kept";
                return Err(source.damaged(at * sector, why));
            };
            self.kept.push((at * sector, sector));
            let mut next = None;
            for entry in entries {
                if EXTENDED.contains(&entry.kind) {
                    next = Some(start + entry.start);
                } else {
                    let (start, size) = ((at + entry.start) * sector, entry.count * sector);
                    self.partitions.push(Partition { number, start, size });
                }
            }
            match next {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
        Err(source.damaged(at * sector, format!("more than {MOST_LOGICAL} logical partitions")))
    }

    fn gpt(source: &Source) -> Result<Table, Error> {
        // A file does not say how long its sectors are.
        let sectors: &[u32] = if source.sector_size() == 4096 { &[4096] } else { &[512, 4096] };
        let mut found = None;
        for sector in sectors {
            let last = source.size() / u64::from(*sector) - 1;
            for lba in [1, last] {
                let Some(gpt) = Gpt::read(*sector, lba, &mut |to, at| source.read_at(to, at))? else { continue };
                let table = found.get_or_insert_with(|| gpt.table());
                table.kept.extend(gpt.places());
            }
            if found.is_some() {
                break;
            }
        }
        found.ok_or_else(|| {
            let why = "both copies of its GPT are damaged: mend it (gdisk), or save it with --raw, in which all that \
                       is not zero is kept";
            source.damaged(u64::from(sectors[0]), why)
        })
    }
}

/// Fills a buffer with what stands at an offset.
type Read<'a> = dyn FnMut(&mut [u8], u64) -> Result<(), Error> + 'a;

/// A header of a GPT and its entries, whose checksums fit.
struct Gpt {
    sector: u32,
    header: Vec<u8>,
    entries: Vec<u8>,
}

impl Gpt {
    /// Reads the copy whose header is sector `lba`; none when it is not sound.
    fn read(sector: u32, lba: u64, read: &mut Read) -> Result<Option<Gpt>, Error> {
        let mut header = vec![0; sector as usize];
        read(&mut header, lba * u64::from(sector))?;
        let f = Fields(&header);
        let (length, size) = (f.u32(12) as usize, u64::from(f.u32(80)) * u64::from(f.u32(84)));
        let sound = header.starts_with(GPT_MAGIC)
            && (GPT_HEADER..=sector as usize).contains(&length)
            && f.u64(24) == lba
            && f.u32(84) >= 128
            && (1..=MOST_TABLE).contains(&size);
        if !sound || header_sum(&header) != f.u32(16) {
            return Ok(None);
        }
        let sum = f.u32(88);
        let Some(at) = f.u64(72).checked_mul(u64::from(sector)) else { return Ok(None) };
        let mut entries = vec![0; size as usize];
        // Entries outside the disk are no damage that cannot be lived with: there is another copy.
        match read(&mut entries, at) {
            Err(Error::Damaged { .. }) => return Ok(None),
            done => done?,
        }
        Ok((!checksum::crc32(&entries) == sum).then_some(Gpt { sector, header, entries }))
    }

    fn table(&self) -> Table {
        let sector = u64::from(self.sector);
        let mut partitions = Vec::new();
        let bytes = |lba: u64| lba.saturating_mul(sector);
        for (index, entry) in self.entries.chunks_exact(Fields(&self.header).u32(84) as usize).enumerate() {
            let (first, last) = (Fields(entry).u64(32), Fields(entry).u64(40));
            if !is_zero(&entry[..16]) {
                let size = bytes(last.saturating_add(1).saturating_sub(first));
                partitions.push(Partition { number: index + 1, start: bytes(first), size });
            }
        }
        Table { sector: self.sector, partitions, kept: vec![(0, sector)] }
    }

    /// Where header and entries stand.
    fn places(&self) -> [(u64, u64); 2] {
        let (f, sector) = (Fields(&self.header), u64::from(self.sector));
        [(f.u64(24) * sector, sector), (f.u64(72) * sector, self.entries.len() as u64)]
    }

    /// Sectors of the entries.
    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(u64::from(self.sector))
    }

    /// The header of sector `lba`, whose other copy is in sector `other`, for entries in sector `entries`.
    fn header(&self, lba: u64, other: u64, entries: u64, last_usable: u64) -> Vec<u8> {
        let mut header = self.header.clone();
        for (at, value) in [(24, lba), (32, other), (48, last_usable), (72, entries)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = header_sum(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// The checksum of a header, taken with zeroes where it stands.
fn header_sum(header: &[u8]) -> u32 {
    let length = (Fields(header).u32(12) as usize).min(header.len());
    let mut bytes = header[..length].to_vec();
    bytes[16..20].fill(0);
    !checksum::crc32(&bytes)
}

/// The used blocks of a whole disk. `notes` gets what is worth telling of single partitions.
///
/// # Errors
/// A partition's file system is damaged; with `force` the whole partition is taken then.
pub fn used(source: &Source, table: &Table, force: bool, notes: &mut Vec<String>) -> Result<Used, Error> {
    let size = source.size();
    let block_size = raw::block_size(size)
        .ok_or_else(|| Error::Refused(format!("{}: {size} bytes are no whole number of sectors", source.name())))?;
    let block = u64::from(block_size);
    let mut map = Bitmap::new(size / block);
    // Outwards to whole blocks: partitions may begin anywhere.
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
                // A copy of NTFS' boot sector, which no map reaches to.
                keep(end - u64::from(table.sector), u64::from(table.sector));
                dirty.extend(used.dirty);
            }
            // One of several devices, encrypted, or not known.
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

/// Makes a disk that was just restored fit its target, where that is larger: the copy of the GPT goes to its end, and
/// one that an older table left there goes.
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
    let [mut mbr, stale] = sectors;
    if stale.starts_with(GPT_MAGIC) {
        target.write_at(&vec![0; sector as usize], last * bytes)?;
    }
    let entries = entries(&mbr).unwrap_or_default();
    if !entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        return Ok(());
    }
    let mut gpt = None;
    for lba in [1, old_last] {
        gpt = gpt.map_or_else(|| Gpt::read(sector, lba, &mut |to, at| target.read_at(to, at)), |gpt| Ok(Some(gpt)))?;
    }
    let Some(gpt) = gpt else { return Ok(()) };
    // The first copy's entries stay where they are; of the second only the last copy's place is known.
    let first = Fields(&gpt.header);
    let first = if first.u64(24) == 1 { first.u64(72) } else { 2 };
    let second = last - gpt.entry_sectors();
    for (lba, other, entries) in [(last, 1, second), (1, last, first)] {
        target.write_at(&gpt.entries, entries * bytes)?;
        target.write_at(&gpt.header(lba, other, entries, second - 1), lba * bytes)?;
    }
    if old_last < second {
        target.write_at(&vec![0; sector as usize], old_last * bytes)?;
    }
    for entry in entries.iter().filter(|entry| entry.kind == PROTECTIVE) {
        // A hybrid table's protective entry covers only the front.
        if entry.start + entry.count > old_last {
            let at = ENTRIES + entry.slot * 16;
            mbr[at + 12..at + 16].copy_from_slice(&(last.min(u64::from(u32::MAX)) as u32).to_le_bytes());
        }
    }
    target.write_at(&mbr, 0)
}
