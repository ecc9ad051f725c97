//! The bytes of a partition table, as pieces of a disk: MBR, boot loader, the EBR of each logical partition, GPT.

use super::layout::{Layout, Slot, is_guarded, make_gpt, order};
use crate::image::table::gpt::Gpt;
use crate::image::table::{Kind, Partition, mbr};

/// Most bytes before the first partition that are written.
const FRONT: u64 = 1 << 20;
/// Sectors behind the last partition that are cleared where an MBR is written: room of an older GPT's second copy.
const BEHIND: u64 = 33;
/// Heads and sectors of the cylinders in which an MBR also counts, and the first one that it cannot tell.
const HEADS: u64 = 255;
const SECTORS: u64 = 63;
const CYLINDERS: u64 = 1024;

/// Some bytes of a disk, by their offset.
pub type Piece = (u64, Vec<u8>);

/// Returns everything outside the partitions of a disk with this layout. `boot` is what was saved from the disk's
/// beginning, `ebr` from that of its extended partition; either may be empty. A GPT that was saved is written as it is.
///
/// # Errors
/// What leaves no room for the table.
pub fn pieces(layout: &Layout, saved: Option<&Gpt>, boot: &[u8], ebr: &[u8]) -> Result<Vec<Piece>, String> {
    let sector = u64::from(layout.sector);
    let start = layout.slots.first().map_or(0, |slot| slot.partition.start);
    let mut front = boot[..boot.len().min(start as usize)].to_vec();
    front.resize(front.len().max(FRONT.min(start) as usize), 0);
    if front.len() < sector as usize {
        return Err("its first partition begins where the table is".to_owned());
    }
    let mut pieces = Vec::new();
    if layout.gpt {
        let made = if saved.is_none() { make_gpt(layout) } else { None };
        let gpt = saved.or(made.as_ref()).ok_or("its GPT could not be made")?;
        let last = (layout.size / sector).saturating_sub(1);
        let second = last.saturating_sub(gpt.entry_sectors());
        let entries = (2 * sector) as usize..2 * sector as usize + gpt.entries().len();
        if front.len() < entries.end || layout.end() > second * sector {
            return Err("there is no room for a GPT beside its partitions".to_owned());
        }
        front[entries].copy_from_slice(gpt.entries());
        let header = |lba, other, entries| gpt.header(lba, other, entries, second - 1);
        front[sector as usize..2 * sector as usize].copy_from_slice(&header(1, last, 2));
        if !is_guarded(&front) {
            protect(&mut front, last);
        }
        let mut tail = gpt.entries().to_vec();
        tail.resize(((last - second) * sector) as usize, 0);
        tail.extend(header(last, 1, second));
        pieces.push((second * sector, tail));
    } else {
        let most = |slot: &Slot| slot.partition.start.max(slot.partition.size) / sector;
        if layout.slots.iter().map(most).max() > Some(u32::MAX.into()) {
            return Err("its partitions reach further than an MBR can tell".to_owned());
        }
        master(layout, &mut front);
        logical(layout, ebr, &mut pieces)?;
        let room = (BEHIND * sector).min(layout.size.saturating_sub(layout.end()));
        pieces.push((layout.size - room, vec![0; room as usize]));
    }
    pieces.push((0, front));
    Ok(pieces)
}

/// Writes the entry that guards a GPT up to sector `last` as the only one.
fn protect(record: &mut [u8], last: u64) {
    record[446..510].fill(0);
    put(record, 0, 0, (1, last.min(u32::MAX.into())), 0xee, false);
    record[510..512].copy_from_slice(&[0x55, 0xaa]);
}

/// Writes the four entries of an MBR. One that the record has already keeps its addresses in cylinders.
fn master(layout: &Layout, record: &mut [u8]) {
    let old = mbr::extended(record);
    if let Some(id) = layout.id.first_chunk::<4>().filter(|_| record[440..444] == [0; 4]) {
        record[440..444].copy_from_slice(id);
    }
    for number in 1..=4 {
        let at = 446 + (number as usize - 1) * 16;
        let found = layout.slots.iter().find(|slot| slot.partition.number == number);
        let Some(Slot { partition, bootable, .. }) = found else {
            record[at..at + 16].fill(0);
            continue;
        };
        let Partition { start, size, kind: Kind::Mbr(kind), .. } = *partition else { continue };
        let (start, count) = (start / u64::from(layout.sector), size / u64::from(layout.sector));
        let same = |entry: &mbr::Entry| (entry.start, entry.count, entry.kind) == (start, count, kind);
        if old.is_some_and(|entries| same(&entries[number as usize - 1])) {
            record[at] = if *bootable { 0x80 } else { 0 };
        } else {
            put(record, number as usize - 1, 0, (start, count), kind, *bootable);
        }
    }
    record[510..512].copy_from_slice(&[0x55, 0xaa]);
}

/// Writes an entry; place and size in sectors, the place from sector `base` on.
fn put(record: &mut [u8], slot: usize, base: u64, (start, count): (u64, u64), kind: u8, bootable: bool) {
    let entry = &mut record[446 + slot * 16..462 + slot * 16];
    entry[0] = if bootable { 0x80 } else { 0 };
    entry[1..4].copy_from_slice(&cylinders(base + start));
    entry[4] = kind;
    entry[5..8].copy_from_slice(&cylinders((base + start + count).saturating_sub(1)));
    entry[8..12].copy_from_slice(&(start as u32).to_le_bytes());
    entry[12..].copy_from_slice(&(count as u32).to_le_bytes());
}

/// Returns the address of a sector as an MBR has it: head, sector and two bits of the cylinder, the rest of that.
fn cylinders(sector: u64) -> [u8; 3] {
    let (cylinder, head) = (sector / SECTORS / HEADS, sector / SECTORS % HEADS);
    match cylinder < CYLINDERS {
        true => [head as u8, (sector % SECTORS + 1) as u8 | (cylinder >> 2 & 0xc0) as u8, cylinder as u8],
        false => [0xfe, 0xff, 0xff],
    }
}

/// Adds the EBRs of the logical partitions, in the order of their numbers. Each is as far before its partition as the
/// first one, which begins the extended partition, or as near as there is room; the first has the code of `code`.
fn logical(layout: &Layout, code: &[u8], pieces: &mut Vec<Piece>) -> Result<(), String> {
    let sector = u64::from(layout.sector);
    let mut slots: Vec<&Slot> = layout.slots.iter().filter(|slot| slot.partition.number > 4).collect();
    order(&mut slots, |slot| slot.partition.number.into());
    let Some(first) = slots.first() else { return Ok(()) };
    let extended = layout.slots.iter().map(|slot| &slot.partition).find(|partition| partition.kind.is_extended());
    let extended = extended.ok_or("it has logical partitions but no extended one")?;
    let within = |slot: &&&Slot| {
        let Partition { start, size, .. } = slot.partition;
        start > extended.start && start + size <= extended.start + extended.size
    };
    if slots.iter().filter(within).count() < slots.len() {
        return Err("its logical partitions are not within the extended one".to_owned());
    }
    let usual = first.partition.start - extended.start;
    let mut places = Vec::new();
    for slot in &slots {
        let start = slot.partition.start;
        let ends = slots.iter().map(|other| other.partition.start + other.partition.size).filter(|end| *end <= start);
        let from = ends.max().unwrap_or(extended.start + if places.is_empty() { 0 } else { sector });
        let place = if places.is_empty() { extended.start } else { from.max(start.saturating_sub(usual)) };
        if place + sector > start || places.contains(&place) {
            return Err(format!("there is no room before partition {} for its EBR", slot.partition.number));
        }
        places.push(place);
    }
    for (index, slot) in slots.iter().enumerate() {
        let Partition { start, size, kind: Kind::Mbr(kind), .. } = slot.partition else { continue };
        let mut record = vec![0; layout.sector as usize];
        if index == 0 && code.len() == 512 {
            record[..446].copy_from_slice(&code[..446]);
        }
        let place = places[index];
        put(&mut record, 0, place / sector, ((start - place) / sector, size / sector), kind, slot.bootable);
        if let (Some(next), Some(place)) = (slots.get(index + 1), places.get(index + 1)) {
            let end = next.partition.start + next.partition.size;
            let from = extended.start / sector;
            put(&mut record, 1, from, (place / sector - from, (end - place) / sector), 5, false);
        }
        record[510..512].copy_from_slice(&[0x55, 0xaa]);
        pieces.push((places[index], record));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_table_is_made_or_refused(
            gpt: bool,
            slots in proptest::collection::vec((1_u32..12, 0_u64..40_000, 0_u64..9_000, 0_u8..16), 0..9),
            size in 0_u64..60_000,
            boot in 0_usize..3000,
        ) {
            let kinds = |kind| if gpt { "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".to_owned() } else { format!("{kind:x}") };
            let mut text = format!("label: {}\nlast-lba: {size}\n", if gpt { "gpt" } else { "dos" });
            for (number, start, size, kind) in slots {
                text += &format!("/dev/sda{number} : start={start}, size={size}, type={}\n", kinds(kind));
            }
            if let Ok(Some(mut layout)) = Layout::of_script(&text, 512) {
                layout.set_size(Some(size * 512));
                let pieces = pieces(&layout, None, &vec![7; boot], &[]);
                for (at, bytes) in pieces.unwrap_or_default() {
                    prop_assert!(at + bytes.len() as u64 <= layout.size);
                }
            }
        }
    }
}
