//! MBR: the boot record with its four entries, and the list of extended boot records (EBR), one for each logical
//! partition. Bytes to values; nothing here reads a disk.
//!
//! Which entries count follows Linux (`msdos_partition` of the kernel, `partitions/dos.c` of libblkid): an entry is in
//! use if it has a size, whatever its type; an EBR without a partition takes no number.

use super::partition::Kind;
use crate::image::fields::Fields;

/// Offset of the first entry, and bytes of each.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// The mark at the end of a boot record, which the boot sectors of file systems have too.
const MARK: u16 = 0xaa55;
/// The type of the entry that guards a GPT.
const PROTECTIVE: u8 = 0xee;

/// One entry of a boot record; offsets and sizes in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the record, from 0 on.
    pub slot: usize,
    /// Its type byte.
    pub kind: u8,
    /// Its offset: in an MBR on the disk, in an EBR from that record, or from the first one if it is extended.
    pub start: u64,
    /// Its size.
    pub count: u64,
}

impl Entry {
    /// Whether it has a size, and so describes a partition.
    pub fn is_used(&self) -> bool {
        self.count > 0
    }

    /// Whether it holds logical partitions or, in an EBR, leads to the next one.
    pub fn is_extended(&self) -> bool {
        self.is_used() && Kind::Mbr(self.kind).is_extended()
    }

    /// Whether it guards a GPT.
    pub fn is_protective(&self) -> bool {
        self.kind == PROTECTIVE
    }
}

/// Returns the entries of the MBR in a disk's first sector; `None` if that is something else. The boot sector of a file
/// system has code or text where each entry of an MBR is marked bootable or not.
pub fn master(sector: &[u8]) -> Option<[Entry; 4]> {
    let f = Fields(sector);
    let marked = (0..4).all(|slot| matches!(f.u8(ENTRIES + slot * ENTRY), 0 | 0x80));
    extended(sector).filter(|_| marked)
}

/// Returns the entries of an EBR; `None` if the sector lacks the mark.
pub fn extended(sector: &[u8]) -> Option<[Entry; 4]> {
    let f = Fields(sector);
    let entry = |slot| {
        let at = ENTRIES + slot * ENTRY;
        Entry { slot, kind: f.u8(at + 4), start: f.u32(at + 8).into(), count: f.u32(at + 12).into() }
    };
    (f.u16(510) == MARK).then(|| [0, 1, 2, 3].map(entry))
}

/// Whether a disk's first sector is that of FAT, NTFS or exFAT by its jump and the length of its sectors.
pub fn boots(sector: &[u8]) -> bool {
    let f = Fields(sector);
    let length = f.u16(11);
    matches!(f.u8(0), 0xeb | 0xe9) && (length >= 256 && length.is_power_of_two() || sector[3..].starts_with(b"EXFAT"))
}

/// Writes the size of an entry into the bytes of its record, sectors; one that does not fit becomes the largest.
pub fn set_count(sector: &mut [u8], slot: usize, count: u64) {
    let at = ENTRIES + slot * ENTRY + 12;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    sector[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

/// A walk along the EBRs of one extended partition; in sectors.
pub struct Chain {
    /// The extended partition.
    start: u64,
    count: u64,
    /// The EBR that is due, and the size that the one before gives it.
    at: u64,
    size: u64,
}

impl Chain {
    /// Begins at the first EBR of an extended partition.
    pub fn new(extended: &Entry) -> Chain {
        let Entry { start, count, .. } = *extended;
        Chain { start, count, at: start, size: count }
    }

    /// Returns the sector of the EBR that is due.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether that EBR is the first one.
    pub fn is_first(&self) -> bool {
        self.at == self.start
    }

    /// Returns the logical partitions in the EBR that is due, their offsets from the disk's beginning. There should be
    /// one; the third and the fourth entry may be garbage, and count only where they fit.
    pub fn partitions(&self, record: &[Entry; 4]) -> impl Iterator<Item = Entry> {
        let fits = |entry: &Entry| {
            entry.slot < 2
                || entry.start + entry.count <= self.size
                    && self.at + entry.start + entry.count <= self.start + self.count
        };
        record
            .iter()
            .filter(move |entry| entry.is_used() && !entry.is_extended() && fits(entry))
            .map(|entry| Entry { start: self.at + entry.start, ..*entry })
    }

    /// Goes to the next EBR; false if there is none.
    pub fn follow(&mut self, record: &[Entry; 4]) -> bool {
        let next = record.iter().find(|entry| entry.is_extended());
        if let Some(next) = next {
            (self.at, self.size) = (self.start + next.start, next.count);
        }
        next.is_some()
    }
}
