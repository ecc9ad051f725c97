//! The seal on a target that is being overwritten: what makes its old content usable goes before anything else is written,
//! and what makes the new one usable comes last. A target whose writer was killed, or lost its power, mounts as neither.
//!
//! A seal covers the heads of all contents at once, as neither the old one nor the new one need be known. They are
//! overwritten with zeroes, which are brought to the disk; what is written there later waits in memory (less than 300 KiB)
//! until all else is on the disk. They are:
//!
//! - the first page: ext (its copies only by `sb=`), XFS, NTFS, exFAT, FAT, the first superblocks of F2FS and NILFS2, LUKS,
//!   LVM, BitLocker, the MBR and a GPT's first header; the kernel takes neither copy of a GPT without its MBR;
//! - from there to 132 KiB: what falls back there (F2FS at 4 KiB, JFS at 60 KiB, LUKS2's secondary header); bcachefs and
//!   MD 1.2 at 4 KiB, ISO 9660 and UDF at 32 KiB, Btrfs, ReiserFS and GFS2 at 64 KiB, swap of any page size; the copies of
//!   the boot sectors of FAT and exFAT, from which nobody mounts; a GPT's entries;
//! - a page at each power of two from 256 KiB to 4 MiB: LUKS2's secondary header, UFS, VMFS;
//! - a page at 64 MiB and at 256 GiB: Btrfs' copies, from which its tools start and the kernel does not;
//! - the last 128 KiB: what falls back there (NTFS to the last sector, by ntfs3 since Linux 6.2; NILFS2); MD 0.90 and 1.0, RAID
//!   of firmware, a GPT's second copy.
//!
//! Sources: Linux 6.12 (`ntfs_init_from_boot`, `read_raw_super_block` of f2fs, `nilfs_load_super_block`, `readSuper` of jfs,
//! `btrfs_read_disk_super`, `find_valid_gpt`), libblkid 2.40, cryptsetup's `LUKS2_HDR2_OFFSETS`, md(4). Not sealed are copies
//! that are used only on demand (`mount -o sb=`, e2fsck, xfs_repair), and ZFS, which has four labels.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use super::Error;
use super::fields::is_zero;
use super::medium::Medium;
use crate::base::sync::lock;

const PAGE: u64 = 4096;
const SECTOR: usize = 512;

/// Beginning and end of what is sealed at fixed offsets, bytes.
const FRONT: [(u64, u64); 8] = [
    (0, 132 << 10),
    page(256 << 10),
    page(512 << 10),
    page(1 << 20),
    page(2 << 20),
    page(4 << 20),
    page(64 << 20),
    page(256 << 30),
];

/// Bytes sealed at the end.
const BACK: u64 = 128 << 10;

/// Marks of what is found elsewhere than in the first page, by their offset in a sector.
const MARKS: [(usize, &[u8]); 8] = [
    (0, b"\x10\x20\xf5\xf2"),       // F2FS
    (64, b"_BHRfS_M"),              // Btrfs
    (3, b"NTFS    "),               // NTFS
    (0, b"\x02\0\0\0\0\0\x34\x34"), // NILFS2, revision 2.0
    (0, b"JFS1"),                   // JFS
    (0, b"SKUL\xba\xbe"),           // LUKS2, secondary
    (0, b"\xfc\x4e\x2b\xa9"),       // MD
    (0, b"EFI PART"),               // GPT
];

const fn page(at: u64) -> (u64, u64) {
    (at, at + PAGE)
}

/// What becomes of sealed bytes that are not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// They stay zero, being free space of the new content: no mark of an older one is left to be found there.
    Zero,
    /// They are put back as they were.
    Keep,
}

/// A target under seal. Any thread may write to it.
pub struct Seal {
    medium: Arc<Medium>,
    /// The sealed places in order, none of which touch.
    heads: Vec<Head>,
}

/// The bytes of a sealed place that are to be there in the end.
struct Head {
    from: u64,
    to: u64,
    bytes: Mutex<Vec<u8>>,
}

impl Seal {
    /// Seals `medium`, which has `size` bytes and of which the new content takes the first `length`.
    /// Behind that only pages with a mark of their own are sealed: other data may be there.
    ///
    /// # Errors
    /// The heads cannot be overwritten: some may be.
    pub fn begin(medium: Arc<Medium>, size: u64, length: u64, unwritten: Unwritten) -> Result<Seal, Error> {
        let mut seal = Seal { medium, heads: Vec::new() };
        for (from, to) in places(size) {
            seal.hold(from, to.min(length), unwritten);
            for at in (from..to).step_by(PAGE as usize).filter(|at| at + PAGE > length) {
                let next = (at + PAGE).min(to);
                if is_marked(&seal.found(at, next)) {
                    seal.hold(at.max(length), next, unwritten);
                }
            }
        }
        seal.close()?;
        Ok(seal)
    }

    fn hold(&mut self, from: u64, to: u64, unwritten: Unwritten) {
        if from < to {
            let bytes = match unwritten {
                Unwritten::Zero => vec![0; (to - from) as usize],
                Unwritten::Keep => self.found(from, to),
            };
            self.heads.push(Head { from, to, bytes: Mutex::new(bytes) });
        }
    }

    /// Returns the bytes that are there; zeroes if they cannot be read.
    fn found(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = vec![0; (to - from) as usize];
        match self.medium.read_at(&mut bytes, from) {
            Ok(()) => bytes,
            Err(_) => vec![0; bytes.len()],
        }
    }

    /// Overwrites the heads with zeroes, on the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn close(&self) -> Result<(), Error> {
        for head in &self.heads {
            self.medium.write_at(&vec![0; (head.to - head.from) as usize], head.from)?;
        }
        self.medium.sync()
    }

    /// Cuts the bytes from `from` to `to` where heads begin and end: each part with its head, if it lies in one.
    fn cut(&self, from: u64, to: u64) -> Vec<(Option<&Head>, u64, u64)> {
        let (mut parts, mut at) = (Vec::new(), from);
        for head in &self.heads {
            let (start, end) = (head.from.max(at), head.to.min(to));
            if start < end {
                if at < start {
                    parts.push((None, at, start));
                }
                parts.push((Some(head), start, end));
                at = end;
            }
        }
        if at < to {
            parts.push((None, at, to));
        }
        parts
    }

    /// Returns beginning and end of what is not sealed between `from` and `to`.
    pub fn outside(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        self.cut(from, to).into_iter().filter_map(|(head, from, to)| head.is_none().then_some((from, to))).collect()
    }

    /// Writes `bytes` at offset `at`, those of a head into memory.
    ///
    /// # Errors
    /// Any error is final: the target is unusable.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        for (head, from, to) in self.cut(at, at + bytes.len() as u64) {
            let part = &bytes[(from - at) as usize..(to - at) as usize];
            match head {
                Some(head) => lock(&head.bytes)[(from - head.from) as usize..][..part.len()].copy_from_slice(part),
                None => self.medium.write_at(part, from)?,
            }
        }
        Ok(())
    }

    /// Fills `to` with the bytes from `at` on, those of a head as they are to be.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), Error> {
        for (head, from, end) in self.cut(at, at + to.len() as u64) {
            let part = &mut to[(from - at) as usize..(end - at) as usize];
            match head {
                Some(head) => part.copy_from_slice(&lock(&head.bytes)[(from - head.from) as usize..][..part.len()]),
                None => self.medium.read_at(part, from)?,
            }
        }
        Ok(())
    }

    /// Brings everything to the disk, and then what makes it usable.
    ///
    /// # Errors
    /// The disk failed: the target is unusable.
    pub fn lift(&self) -> Result<(), Error> {
        let (last, first): (Vec<_>, Vec<_>) =
            self.pages().into_iter().partition(|(at, bytes)| *at < PAGE || is_marked(bytes));
        // The first page comes last: where others have a mark, they are copies of what is there.
        for stage in [first, last] {
            for (at, bytes) in stage.iter().rev() {
                self.medium.write_at(bytes, *at)?;
            }
            self.medium.sync()?;
        }
        Ok(())
    }

    /// Returns the pages of the heads, with their offsets, that are not zero as on the disk.
    fn pages(&self) -> Vec<(u64, Vec<u8>)> {
        let mut pages = Vec::new();
        for head in &self.heads {
            let bytes = lock(&head.bytes);
            let chunks = (head.from..).step_by(PAGE as usize).zip(bytes.chunks(PAGE as usize));
            pages.extend(chunks.filter(|(_, page)| !is_zero(page)).map(|(at, page)| (at, page.to_vec())));
        }
        pages
    }

    /// Compares the heads with what is read back.
    ///
    /// # Errors
    /// They cannot be read, or are not what was written.
    pub fn compare(&self) -> Result<(), Error> {
        for head in &self.heads {
            let mut bytes = vec![0; (head.to - head.from) as usize];
            self.medium.read_at(&mut bytes, head.from)?;
            if bytes != *lock(&head.bytes) {
                let why = format!("what was read back up to byte {} is not what was written", head.to);
                return Err(Error::Damaged { what: self.medium.name().to_owned(), at: head.from, why });
            }
        }
        Ok(())
    }
}

/// The bytes as they are to be in the end.
impl FileExt for Seal {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        Seal::read_at(self, to, at).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(to.len())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// Returns beginning and end of the places that are sealed in `size` bytes, in order.
fn places(size: u64) -> Vec<(u64, u64)> {
    let mut places = FRONT.to_vec();
    places.push((size.saturating_sub(BACK) / PAGE * PAGE, size));
    places.sort_unstable();
    let mut end = 0;
    for (from, to) in &mut places {
        (*from, *to) = ((*from).max(end), (*to).min(size));
        end = end.max(*to);
    }
    places.retain(|(from, to)| from < to);
    places
}

fn is_marked(page: &[u8]) -> bool {
    let is_mark =
        |sector: &[u8]| MARKS.iter().any(|(at, mark)| sector.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    page.chunks(SECTOR).any(is_mark)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    const SIZE: usize = 6 << 20;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn medium(file: &File) -> Arc<Medium> {
        Arc::new(Medium::new(file.try_clone().unwrap(), "it".to_owned()))
    }

    fn bytes(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn heads_are_within_the_target_in_order_and_apart() {
        let size = |mib: u64| mib << 20;
        for size in [0, 1, 4095, 4097, 100_000, 140_000, size(1) + 512, size(4), size(64) + 70_000, size(1 << 20)] {
            let places = places(size);
            assert!(places.iter().all(|(from, to)| from < to && *to <= size && from % PAGE == 0), "{size}");
            assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{size}");
            assert!(places.iter().map(|(from, to)| to - from).sum::<u64>() < 300 << 10);
            let is_in = |at: u64| at >= size || places.iter().any(|(from, to)| (*from..*to).contains(&at));
            let known = [0, 1024, 5120, 0xf000, 0x10040, 0x20000, 0x40000, 0x80000, 0x400000, size.saturating_sub(1)];
            assert!(known.into_iter().all(is_in) && is_in((size & !0xffff).saturating_sub(0x10000)), "{size}");
        }
    }

    #[test]
    fn what_is_sealed_is_zero_until_the_end_and_then_what_was_written() {
        let file = file(&[7; SIZE]);
        let seal = Seal::begin(medium(&file), SIZE as u64, SIZE as u64, Unwritten::Zero).unwrap();
        let sealed =
            |bytes: &[u8]| places(SIZE as u64).iter().all(|(from, to)| is_zero(&bytes[*from as usize..*to as usize]));
        assert!(sealed(&bytes(&file)) && bytes(&file)[200_000] == 7);
        let mut new = vec![7; SIZE];
        for (from, to) in places(SIZE as u64) {
            new[from as usize..to as usize].fill(0);
        }
        // Across the borders of heads, in any order.
        for (at, len) in [(3 << 20, 3 << 20), (100, 5), (130_000, 1_000_000)] {
            new[at..at + len].fill(9);
            seal.write_at(&vec![9; len], at as u64).unwrap();
        }
        assert!(sealed(&bytes(&file)) && bytes(&file)[200_000] == 9);
        let mut read = vec![0; SIZE];
        seal.read_at(&mut read, 0).unwrap();
        assert!(read == new);
        seal.lift().unwrap();
        assert!(bytes(&file) == new);
        seal.compare().unwrap();
        file.write_all_at(&[8], 103).unwrap();
        assert!(matches!(seal.compare(), Err(Error::Damaged { at: 0, .. })));
        seal.close().unwrap();
        assert!(sealed(&bytes(&file)));
    }

    #[test]
    fn what_lies_behind_the_new_content_is_left_alone_unless_it_has_a_mark() {
        let mut old = vec![7; SIZE];
        old[SIZE - 512 + 3..][..8].copy_from_slice(b"NTFS    ");
        for (unwritten, left) in [(Unwritten::Zero, 0), (Unwritten::Keep, 7)] {
            let file = file(&old);
            let seal = Seal::begin(medium(&file), SIZE as u64, 700, unwritten).unwrap();
            let mut sealed = old.clone();
            sealed[..700].fill(0);
            sealed[SIZE - 4096..].fill(0);
            assert!(bytes(&file) == sealed);
            seal.write_at(&[5; 600], 0).unwrap();
            seal.lift().unwrap();
            let mut new = old.clone();
            new[..600].fill(5);
            new[600..700].fill(left);
            if unwritten == Unwritten::Zero {
                new[SIZE - 4096..].fill(0);
            }
            assert!(bytes(&file) == new);
        }
    }
}
