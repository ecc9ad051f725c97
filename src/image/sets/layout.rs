//! The partitions of a disk as a set describes them: by the script that `sfdisk -d` printed, by a copy of the GPT, or by
//! the MBR alone.

use crate::image::Error;
use crate::image::checksum::crc32;
use crate::image::fields::Fields;
use crate::image::table::gpt::{self, Gpt};
use crate::image::table::mbr::{self, Entry};
use crate::image::table::{Kind, Partition};

/// Most partitions, and most bytes of a partition's start and size: more than any table has.
const MOST: usize = 256;
const FURTHEST: u64 = 1 << 50;

/// A partition, with what its table says beside place and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number, place, type and name.
    pub partition: Partition,
    /// Whether an MBR marks it bootable.
    pub bootable: bool,
    /// Its GUID in a GPT, in the byte order of the disk, and its flags.
    pub guid: [u8; 16],
    /// See `guid`.
    pub flags: u64,
}

/// What a set says about a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the sectors in which the table counts.
    pub sector: u32,
    /// Whether it is a GPT.
    pub gpt: bool,
    /// The disk's identity: a GUID in the byte order of the disk, or the four bytes of an MBR's.
    pub id: Vec<u8>,
    /// The disk's size, bytes; 0 if unknown.
    pub size: u64,
    /// The first sector that a GPT gives to partitions; 0 if unknown.
    pub first: u64,
    /// Its partitions.
    pub slots: Vec<Slot>,
}

impl Layout {
    /// Parses what `sfdisk -d` printed, also that of versions before 2.26; `None` if no partition is in it. `sector` is
    /// the size of a sector where the text does not give it.
    ///
    /// # Errors
    /// The line at fault.
    pub fn of_script(text: &str, sector: u32) -> Result<Option<Layout>, String> {
        let mut layout = Layout { sector, ..Layout::default() };
        let mut last = 0;
        for line in text.lines() {
            let Some((device, fields)) = line.split_once(" : ").filter(|(_, fields)| fields.contains("start=")) else {
                let Some((key, value)) = line.split_once(':') else { continue };
                let value = value.trim();
                match key.trim() {
                    "label" => layout.gpt = value == "gpt",
                    "label-id" => layout.id = identity(value).unwrap_or_default(),
                    "first-lba" => layout.first = value.parse().unwrap_or(0),
                    "last-lba" => last = value.parse().unwrap_or(0),
                    "sector-size" => layout.sector = value.parse().unwrap_or(0),
                    _ => {}
                }
                continue;
            };
            let slot = slot(device, fields, layout.sector, layout.gpt).ok_or_else(|| line.to_owned())?;
            if slot.partition.size > 0 {
                layout.slots.push(slot);
            }
            if layout.slots.len() > MOST {
                return Err(line.to_owned());
            }
        }
        if !matches!(layout.sector, 512 | 4096) {
            return Err(format!("sectors of {} bytes", layout.sector));
        }
        if layout.gpt && last > 0 && last < FURTHEST / 4096 {
            // The second copy of the table is behind the last sector that partitions may use.
            let entries = entry_count(&layout) * 128;
            layout.size = (last + 2) * u64::from(layout.sector) + entries.next_multiple_of(u64::from(layout.sector));
        }
        layout.sort();
        Ok((!layout.slots.is_empty()).then_some(layout))
    }

    /// Returns the partitions of a GPT on a disk of `size` bytes.
    pub fn of_gpt(gpt: &Gpt, sector: u32, size: u64) -> Layout {
        let known = gpt.partitions().into_iter().filter(|partition| partition.size > 0);
        let slots = known.map(|partition| Slot { partition, bootable: false, guid: [0; 16], flags: 0 }).collect();
        let mut layout = Layout { sector, gpt: true, size, slots, ..Layout::default() };
        layout.sort();
        layout
    }

    /// Returns the partitions of an MBR; `None` if it is none, or has logical ones, which it does not describe.
    pub fn of_mbr(record: &[u8], sector: u32) -> Option<Layout> {
        let entries = mbr::master(record)?;
        if entries.iter().any(|entry| entry.is_extended() || entry.is_protective()) {
            return None;
        }
        let bytes = u64::from(sector);
        let slots = entries.iter().filter(|entry| entry.is_used()).map(|entry| Slot {
            partition: Partition {
                number: entry.slot as u32 + 1,
                start: entry.start * bytes,
                size: entry.count * bytes,
                kind: Kind::Mbr(entry.kind),
                name: String::new(),
            },
            bootable: Fields(record).u8(446 + entry.slot * 16) == 0x80,
            guid: [0; 16],
            flags: 0,
        });
        let mut layout = Layout { sector, slots: slots.collect(), ..Layout::default() };
        layout.sort();
        (!layout.slots.is_empty()).then_some(layout)
    }

    fn sort(&mut self) {
        order(&mut self.slots, |slot| slot.partition.start);
    }

    /// Returns the partitions that hold something, in the order of the disk.
    pub fn held(&self) -> impl Iterator<Item = &Partition> {
        self.slots.iter().map(|slot| &slot.partition).filter(|partition| !partition.kind.is_extended())
    }

    /// Sets the disk's size, bytes: as it is given, else as the table tells, else to the first whole MiB behind the last
    /// partition.
    pub fn set_size(&mut self, given: Option<u64>) {
        let end = self.end().next_multiple_of(1 << 20);
        self.size = given.filter(|size| (self.end()..=FURTHEST).contains(size)).unwrap_or(self.size);
        if self.size == 0 {
            self.size = end;
        }
    }

    /// Returns the end of the last partition, bytes.
    pub fn end(&self) -> u64 {
        self.slots.iter().map(|slot| slot.partition.start + slot.partition.size).max().unwrap_or(0)
    }
}

/// Sorts a few items; a hundredth of the code that sorting many takes.
pub fn order<T>(items: &mut [T], key: fn(&T) -> u64) {
    for end in 1..items.len() {
        for at in (1..=end).rev() {
            if key(&items[at - 1]) <= key(&items[at]) {
                break;
            }
            items.swap(at - 1, at);
        }
    }
}

/// Returns how many entries a GPT of these partitions has: 128, or as many as the highest number asks for.
pub fn entry_count(layout: &Layout) -> u64 {
    let highest = layout.slots.iter().map(|slot| slot.partition.number).max().unwrap_or(0);
    u64::from(highest).max(128).next_multiple_of(32)
}

/// Returns the GPT in a copy of a disk's first sectors, or in the file that `sgdisk -b` writes, which has the second
/// header between the first and the entries; `None` if it is not sound. With it the size of its disk, bytes.
pub fn saved_gpt(bytes: &[u8], sector: u32, by_sgdisk: bool) -> Option<(Gpt, u64)> {
    let step = sector as usize;
    let gpt = Gpt::read(sector, 1, &mut |to, at| {
        let at = at as usize + if by_sgdisk && at as usize >= 2 * step { step } else { 0 };
        let from = bytes.get(at..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or_else(|| Error::Damaged {
            what: "a copy of the GPT".to_owned(),
            at: at as u64,
            why: "cut short".to_owned(),
        })?);
        Ok(())
    });
    let other = Fields(bytes).u64(step + 32).checked_add(1)?.checked_mul(u64::from(sector))?;
    gpt.ok().flatten().map(|gpt| (gpt, other))
}

/// Whether the first bytes of a disk have an MBR that guards a GPT.
pub fn is_guarded(record: &[u8]) -> bool {
    mbr::master(record).is_some_and(|entries| entries.iter().any(Entry::is_protective))
}

/// Parses a line of a script: `/dev/sda1 : start= 2048, size= 204800, type=83, bootable`.
fn slot(device: &str, fields: &str, sector: u32, gpt: bool) -> Option<Slot> {
    let device = device.trim();
    let digits = device.len() - device.trim_end_matches(|last: char| last.is_ascii_digit()).len();
    let number = device[device.len() - digits..].parse().ok().filter(|number| (1..=1024).contains(number))?;
    let mut slot = Slot {
        partition: Partition { number, start: 0, size: 0, kind: Kind::Mbr(0), name: String::new() },
        bootable: false,
        guid: [0; 16],
        flags: 0,
    };
    let bytes = |text: &str| {
        let bytes = text.trim().parse::<u64>().ok()?.checked_mul(u64::from(sector))?;
        (bytes < FURTHEST).then_some(bytes)
    };
    for field in quoted(fields) {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        match key.trim() {
            "start" => slot.partition.start = bytes(value)?,
            "size" => slot.partition.size = bytes(value)?,
            "type" | "Id" if gpt => slot.partition.kind = Kind::Gpt(guid(value.trim())?),
            "type" | "Id" => slot.partition.kind = Kind::Mbr(u8::from_str_radix(value.trim(), 16).ok()?),
            "bootable" => slot.bootable = true,
            "uuid" => slot.guid = guid(value.trim())?,
            "name" => slot.partition.name = value.to_owned(),
            "attrs" => slot.flags = flags(value),
            _ => {}
        }
    }
    Some(slot)
}

/// Returns the fields between commas; quotes are taken off, and `\x2c` in them stands for its byte.
fn quoted(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut inside) = (Vec::new(), Vec::new(), false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => inside = !inside,
            b'\\' if inside => match bytes.next() {
                Some(b'x') => {
                    let code: String = bytes.by_ref().take(2).map(char::from).collect();
                    field.push(u8::from_str_radix(&code, 16).unwrap_or(b'?'));
                }
                other => field.extend(other),
            },
            b',' if !inside => fields.push(std::mem::take(&mut field)),
            byte => field.push(byte),
        }
    }
    fields.push(field);
    fields.iter().map(|field| String::from_utf8_lossy(field).trim_start().to_owned()).collect()
}

/// Returns the flags of a GPT's partition that sfdisk spells `RequiredPartition LegacyBIOSBootable GUID:60,63`.
fn flags(text: &str) -> u64 {
    let bits = text.split([' ', ',', ':']).map(|word| match word {
        "RequiredPartition" => 1,
        "NoBlockIOProtocol" => 2,
        "LegacyBIOSBootable" => 4,
        word => word.parse::<u32>().ok().filter(|bit| *bit < 64).map_or(0, |bit| 1 << bit),
    });
    bits.fold(0, |all, bit| all | bit)
}

/// Returns the 16 bytes that a UUID spells, in the order in which it spells them.
pub fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let digits = str::from_utf8(&digits).ok().filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// Returns a UUID in the byte order of a GPT, whose first three fields are little-endian.
fn guid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = uuid(text)?;
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Some(bytes)
}

fn identity(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("0x") {
        Some(number) => u32::from_str_radix(number, 16).ok().map(|number| number.to_le_bytes().to_vec()),
        None => guid(text).map(|guid| guid.to_vec()),
    }
}

/// Returns the bytes of a GPT with these partitions as they are at the beginning of a disk, the MBR left out; `None` if
/// there is no room for the table before its first partition or behind its last.
pub fn make_gpt(layout: &Layout) -> Option<Gpt> {
    let (sector, count) = (u64::from(layout.sector), entry_count(layout));
    let mut entries = vec![0; (count * 128) as usize];
    for Slot { partition, guid, flags, .. } in &layout.slots {
        let Kind::Gpt(kind) = partition.kind else { return None };
        let at = (partition.number as usize - 1) * 128;
        let entry = entries.get_mut(at..at + 128)?;
        let (first, count) = (partition.start / sector, partition.size / sector);
        entry[..16].copy_from_slice(&kind);
        entry[16..32].copy_from_slice(guid);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&(first + count).checked_sub(1)?.to_le_bytes());
        entry[48..56].copy_from_slice(&flags.to_le_bytes());
        for (place, unit) in entry[56..].as_chunks_mut::<2>().0.iter_mut().zip(partition.name.encode_utf16()) {
            *place = unit.to_le_bytes();
        }
    }
    let last = (layout.size / sector).checked_sub(1)?;
    let taken = (count * 128).div_ceil(sector);
    let mut bytes = vec![0; 2 * sector as usize];
    let header = &mut bytes[sector as usize..];
    header[..8].copy_from_slice(gpt::MAGIC);
    let id = layout.id.first_chunk::<16>().copied().unwrap_or_default();
    for (at, value) in
        [(24, 1), (32, last), (40, layout.first.max(2 + taken)), (48, last.checked_sub(taken + 1)?), (72, 2)]
    {
        header[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    for (at, value) in [(8, 0x1_0000), (12, 92), (80, count as u32), (84, 128), (88, !crc32(&entries))] {
        header[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    header[56..72].copy_from_slice(&id);
    let sum = !crc32(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes.extend(entries);
    saved_gpt(&bytes, layout.sector, false).map(|(gpt, _)| gpt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Layout {
        Layout::of_script(text, 512).unwrap().unwrap()
    }

    #[test]
    fn scripts_of_old_and_new_versions_of_sfdisk_are_read() {
        let old = of("# partition table of /dev/sda\nunit: sectors\n\n\
            /dev/sda1 : start=     2048, size=   204800, Id=83, bootable\n\
            /dev/sda2 : start=        0, size=        0, Id= 0\n\
            /dev/sda3 : start=   206848, size=     2048, Id= 5\n");
        let numbers: Vec<_> =
            old.slots.iter().map(|slot| (slot.partition.number, slot.partition.kind, slot.bootable)).collect();
        assert_eq!(numbers, [(1, Kind::Mbr(0x83), true), (3, Kind::Mbr(5), false)]);
        let new = of("label: gpt\nlabel-id: 00112233-4455-6677-8899-AABBCCDDEEFF\nfirst-lba: 2048\nlast-lba: 99966\n\
            sector-size: 512\n\n\
            /dev/nvme0n1p12 : start= 4096, size= 8, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
            uuid=00112233-4455-6677-8899-AABBCCDDEEFF, name=\"a \\x22b\\x22, c\", attrs=\"LegacyBIOSBootable GUID:60,63\"\n");
        let slot = &new.slots[0];
        assert_eq!((slot.partition.number, slot.partition.start, slot.partition.size), (12, 4096 * 512, 8 * 512));
        assert_eq!(slot.partition.name, "a \"b\", c");
        assert_eq!(slot.flags, 1 << 63 | 1 << 60 | 4);
        assert_eq!(slot.guid[..8], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!((new.gpt, new.first, new.size), (true, 2048, 100_000 * 512));
        let made = make_gpt(&new).unwrap().partitions();
        assert_eq!(made.as_slice(), std::slice::from_ref(&slot.partition));
    }

    #[test]
    fn a_line_that_cannot_be_is_named() {
        for line in [
            "/dev/sda : start= 1, size= 1",
            "/dev/sda1 : start= x, size= 1",
            "/dev/sda1 : start= 1, size= 99999999999999",
        ] {
            assert_eq!(Layout::of_script(line, 512), Err(line.to_owned()));
        }
        assert!(Layout::of_script("sector-size: 1\n/dev/sda1 : start=1, size=1", 512).is_err());
        assert_eq!(Layout::of_script("", 512), Ok(None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "([a-z0-9/:,=\"\\\\ -]{0,40}\n){0,6}") {
            let _ = Layout::of_script(&text, 512);
        }
    }
}
