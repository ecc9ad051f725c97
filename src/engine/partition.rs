//! Partition tables, read from the disk itself: MBR with its logical partitions (as util-linux numbers them) and
//! GPT (UEFI specification 2.10, chapter 5), whose copy at the disk's end serves when the first is damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::image::fields::Fields;

/// A partition as its table tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 on.
    pub number: u32,
    /// Where it begins on its disk, bytes.
    pub start: u64,
    /// Its size, bytes.
    pub size: u64,
    /// What it is for.
    pub kind: Kind,
    /// GPT's name for it; MBR has none.
    pub name: String,
}

/// A partition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MBR's byte.
    Mbr(u8),
    /// GPT's GUID, as it stands on the disk.
    Gpt([u8; 16]),
}

/// Logical partitions that are followed; more than that is a loop.
const MOST_LOGICAL: u32 = 128;
/// Entries of a GPT that are looked at: what the specification asks for at least, four times.
const MOST_ENTRIES: u32 = 512;

/// The partitions of `disk`, which has `size` bytes in sectors of `sector` bytes; none where there is no table.
///
/// # Errors
/// It cannot be read.
pub fn table(disk: &File, size: u64, sector: u64) -> io::Result<Vec<Entry>> {
    let first = match read(disk, size, 0)? {
        Some(first) if is_mbr(&first) => first,
        _ => return Ok(Vec::new()),
    };
    if entries(&first).any(|entry| entry.kind == 0xee) {
        for at in [sector, size.saturating_sub(sector)] {
            if let Some(found) = gpt(disk, size, sector, at)? {
                return Ok(found);
            }
        }
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (at, entry) in entries(&first).enumerate() {
        found.extend(entry.told(at as u32 + 1, 0, sector));
    }
    if let Some(extended) = entries(&first).find(MbrEntry::is_extended) {
        logical(disk, size, sector, u64::from(extended.start), &mut found)?;
    }
    Ok(found)
}

/// Follows the chain of extended boot records that begins at sector `base`.
fn logical(disk: &File, size: u64, sector: u64, base: u64, found: &mut Vec<Entry>) -> io::Result<()> {
    let mut at = base;
    for number in 5..5 + MOST_LOGICAL {
        let record = match read(disk, size, at * sector)? {
            Some(record) if is_mbr(&record) => record,
            _ => return Ok(()),
        };
        let mut both = entries(&record);
        if let Some(entry) = both.next() {
            found.extend(entry.told(number, at, sector));
        }
        match both.next() {
            Some(next) if next.is_extended() => at = base + u64::from(next.start),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// One of the four entries of a boot record; positions in sectors.
struct MbrEntry {
    kind: u8,
    start: u32,
    sectors: u32,
}

impl MbrEntry {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn told(&self, number: u32, base: u64, sector: u64) -> Option<Entry> {
        (self.kind != 0 && self.sectors != 0).then(|| Entry {
            number,
            start: (base + u64::from(self.start)) * sector,
            size: u64::from(self.sectors) * sector,
            kind: Kind::Mbr(self.kind),
            name: String::new(),
        })
    }
}

fn entries(record: &[u8]) -> impl Iterator<Item = MbrEntry> {
    let f = Fields(record);
    [446, 462, 478, 494]
        .map(|at| MbrEntry { kind: f.u8(at + 4), start: f.u32(at + 8), sectors: f.u32(at + 12) })
        .into_iter()
}

/// A boot record and not the boot sector of a file system, which has the same mark: its entries are marked bootable
/// or not.
fn is_mbr(sector: &[u8]) -> bool {
    let f = Fields(sector);
    f.u16(510) == 0xaa55 && [446, 462, 478, 494].iter().all(|at| f.u8(*at) & 0x7f == 0)
}

/// The GPT whose header is at byte `at`, if a sound one is there.
fn gpt(disk: &File, size: u64, sector: u64, at: u64) -> io::Result<Option<Vec<Entry>>> {
    let Some(mut header) = read(disk, size, at)? else { return Ok(None) };
    let length = Fields(&header).u32(12) as usize;
    if !header.starts_with(b"EFI PART") || !(92..=512).contains(&length) {
        return Ok(None);
    }
    let sum = Fields(&header).u32(16);
    header[16..20].fill(0);
    if crc32fast::hash(&header[..length]) != sum {
        return Ok(None);
    }
    let f = Fields(&header);
    let (first, count, step) = (f.u64(72), f.u32(80), f.u32(84));
    if !(128..=4096).contains(&step) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for index in 0..count.min(MOST_ENTRIES) {
        let at = first.saturating_mul(sector).saturating_add(u64::from(index) * u64::from(step));
        let Some(entry) = read_some::<128>(disk, size, at)? else { break };
        let f = Fields(&entry);
        let mut kind = [0; 16];
        kind.copy_from_slice(&entry[..16]);
        let (start, end) = (f.u64(32), f.u64(40));
        if kind == [0; 16] || end < start {
            continue;
        }
        let units: Vec<u16> = (56..128).step_by(2).map(|at| f.u16(at)).take_while(|unit| *unit != 0).collect();
        found.push(Entry {
            number: index + 1,
            start: start.saturating_mul(sector),
            size: (end - start).saturating_add(1).saturating_mul(sector),
            kind: Kind::Gpt(kind),
            name: String::from_utf16_lossy(&units),
        });
    }
    Ok(Some(found))
}

fn read(disk: &File, size: u64, at: u64) -> io::Result<Option<Vec<u8>>> {
    Ok(read_some::<512>(disk, size, at)?.map(Vec::from))
}

/// The `N` bytes at `at`; none when the disk ends before.
fn read_some<const N: usize>(disk: &File, size: u64, at: u64) -> io::Result<Option<[u8; N]>> {
    if at.checked_add(N as u64).is_none_or(|end| end > size) {
        return Ok(None);
    }
    let mut bytes = [0; N];
    disk.read_exact_at(&mut bytes, at)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A disk of 64 MiB that sfdisk partitioned by `script`.
    fn disk(script: &str) -> File {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * MIB).unwrap();
        let mut sfdisk = Command::new("sfdisk");
        let mut child = sfdisk
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-q", "--no-reread"])
            .arg(file.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("sfdisk: `scripts/setup test` brings it");
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        file.reopen().unwrap()
    }

    fn told(disk: &File) -> Vec<(u32, u64, u64, String)> {
        let size = disk.metadata().unwrap().len();
        let line = |entry: Entry| {
            let kind = match entry.kind {
                Kind::Mbr(kind) => format!("{kind:02x}"),
                Kind::Gpt(_) => entry.name,
            };
            (entry.number, entry.start / MIB, entry.size / MIB, kind)
        };
        table(disk, size, 512).unwrap().into_iter().map(line).collect()
    }

    #[test]
    fn an_mbr_is_read_with_its_logical_partitions() {
        let script = "label: dos\nsize=8M, type=7\nsize=20M, type=5\nsize=8M, type=83\ntype=ca\nsize=4M, type=82\n\
                      size=4M, type=83\n";
        let is = |number, start, size, kind: &str| (number, start, size, kind.to_owned());
        assert_eq!(
            told(&disk(script)),
            [
                is(1, 1, 8, "07"),
                is(2, 9, 20, "05"),
                is(3, 29, 8, "83"),
                is(4, 37, 27, "ca"),
                is(5, 10, 4, "82"),
                is(6, 15, 4, "83"),
            ]
        );
    }

    #[test]
    fn a_gpt_is_read_with_its_names_also_from_its_copy() {
        let script = "label: gpt\nsize=8M, name=\"Windows\"\n4: size=20M, name=CACHE\n";
        let is = [(1, 1, 8, "Windows".to_owned()), (4, 9, 20, "CACHE".to_owned())];
        let disk = disk(script);
        assert_eq!(told(&disk), is);
        disk.write_all_at(b"EFI BART", 512).unwrap();
        assert_eq!(told(&disk), is);
        disk.write_all_at(&[1], 64 * MIB - 512 + 72).unwrap();
        assert_eq!(told(&disk), [], "neither header fits its checksum");
    }

    #[test]
    fn what_is_no_table_has_no_partitions() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(told(&file), []);
        file.set_len(4 * MIB).unwrap();
        assert_eq!(told(&file), []);
        // The boot sector of a FAT file system.
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        file.write_all_at(b"some boot code", 446).unwrap();
        assert_eq!(told(&file), []);
    }

    #[test]
    fn a_chain_of_logical_partitions_that_bites_its_tail_ends() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * MIB).unwrap();
        let record = |start: u32, second: (u8, u32)| {
            let mut bytes = [0; 512];
            bytes[510..].copy_from_slice(&[0x55, 0xaa]);
            for (at, (kind, start)) in [(446, (5, start)), (462, second)] {
                bytes[at + 4] = kind;
                bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
                bytes[at + 12] = 1;
            }
            bytes
        };
        file.write_all_at(&record(8, (0, 0)), 0).unwrap();
        file.write_all_at(&record(1, (5, 0)), 8 * 512).unwrap();
        assert_eq!(told(&file).len(), 1 + MOST_LOGICAL as usize);
    }
}
