//! Btrfs on one device: the extents of its extent tree, found on the device through its chunk tree.
//!
//! Layouts after the Btrfs project's "On-disk Format". Kept are all copies of each block (DUP), the superblocks and
//! everything before the first of them and, if a log tree was not replayed, its own blocks and the extents that it
//! names. A block of the map is a sector; partclone's is a whole tree node, so that ours are a subset of theirs. If the
//! first superblock does not fit its checksum, a copy that does is taken.

use std::collections::HashSet;

use super::kind::Used;
use super::steps::Steps;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// partclone's name for it.
pub const NAME: &str = "BTRFS";

const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const SUPER_SIZE: u64 = 4096;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// Incompatible features under which the chunk tree still describes where all blocks are; not so zones and extent trees
/// of the second version.
const KNOWN: u64 = 0x1_0fff;

/// Types of items.
const EXTENT_DATA: u8 = 108;
const ROOT_ITEM: u8 = 132;
const EXTENT_ITEM: u8 = 168;
const METADATA_ITEM: u8 = 169;
const CHUNK_ITEM: u8 = 228;

/// Number of the extent tree.
const EXTENT_TREE: u64 = 2;

/// Types of chunks: striped over their devices, with parity.
const STRIPED: u64 = 0x48;
const PARITY: u64 = 0x180;

const HEADER: usize = 101;
const KEY: usize = 17;
const ITEM: usize = 25;
const POINTER: usize = 33;
const CHUNK: usize = 48;
const STRIPE: usize = 32;
const MOST_LEVEL: u8 = 7;
/// Most times that the extents found may take the volume's size; three is what a sound one can come to.
const MOST_MARKS: u64 = 4;

/// Whether the source has a superblock of Btrfs.
pub fn detect(source: &Source) -> Result<bool, Error> {
    Ok(source.size() >= SUPERBLOCKS[0] + SUPER_SIZE && source.read(SUPERBLOCKS[0] + 64, 8)? == *MAGIC)
}

/// Returns the used blocks; a block is a sector.
///
/// # Errors
/// The file system is damaged, or on several devices.
pub fn used(source: &Source) -> Result<Used, Error> {
    let (bytes, log_lost) = superblock(source)?;
    let f = Fields(&bytes);
    let mut volume = Volume::read(source, &f)?;
    let mut map = Bitmap::new(volume.size / volume.sector);
    map.set(0, SUPERBLOCKS[0] / volume.sector);
    for at in SUPERBLOCKS {
        map.set(at / volume.sector, SUPER_SIZE.div_ceil(volume.sector));
    }
    let mut seen = Bitmap::new(map.blocks());

    let mut chunks = Vec::new();
    volume.walk(&mut seen, f.u64(88), f.u8(199), &mut |key, data| {
        if key.kind == CHUNK_ITEM {
            chunks.push(volume.chunk(key.offset, data)?);
        }
        Ok(())
    })?;
    chunks.sort_unstable_by_key(|chunk| chunk.start);
    volume.chunks = chunks;

    let extents = volume.roots(&mut seen, f.u64(80), f.u8(198), &mut |_| Ok(()))?;
    let extents = extents.into_iter().find(|root| root.0 == EXTENT_TREE);
    let Some((_, node, level)) = extents else {
        return Err(volume.damaged(f.u64(80), "no extent tree in the root tree"));
    };
    volume.walk(&mut seen, node, level, &mut |key, _| volume.mark(&mut map, key))?;

    // The log names an extent once for each file and part that refers to it.
    let mut named = HashSet::new();
    let (log, log_level) = (f.u64(96), f.u8(200));
    if log != 0 {
        for (_, node, level) in volume.roots(&mut seen, log, log_level, &mut |key| volume.mark(&mut map, key))? {
            volume.walk(&mut seen, node, level, &mut |key, data| {
                let f = Fields(data);
                match key.kind {
                    // Data in the leaf itself, and holes, take no extent.
                    EXTENT_DATA if f.u8(20) != 0 && f.u64(21) != 0 => {
                        if !named.insert((f.u64(21), f.u64(29))) {
                            return Ok(());
                        }
                        volume.mark(&mut map, &Key { kind: EXTENT_ITEM, object: f.u64(21), offset: f.u64(29) })
                    }
                    _ => volume.mark(&mut map, key),
                }
            })?;
        }
    }
    Ok(Used {
        name: NAME,
        block_size: volume.sector as u32,
        device_size: volume.size,
        used_by_super: f.u64(120).min(volume.size) / volume.sector,
        map,
        dirty: (log != 0 || log_lost)
            .then(|| format!("{}: the Btrfs log tree must be replayed: mount and unmount it", source.name())),
    })
}

/// Returns the first superblock that fits its checksum, or the very first if none does, and whether it lacks a log that
/// the first has: copies are not written with each.
fn superblock(source: &Source) -> Result<(Vec<u8>, bool), Error> {
    let first = source.read(SUPERBLOCKS[0], SUPER_SIZE as usize)?;
    let is_sound = |bytes: &[u8], at: u64| {
        let f = Fields(bytes);
        // Only the usual checksum is known here.
        f.u64(48) == at && bytes[64..72] == *MAGIC && (f.u16(196) != 0 || crc32c(&bytes[32..]) == f.u32(0))
    };
    if is_sound(&first, SUPERBLOCKS[0]) {
        return Ok((first, false));
    }
    for at in SUPERBLOCKS.into_iter().skip(1).filter(|at| at + SUPER_SIZE <= source.size()) {
        let copy = source.read(at, SUPER_SIZE as usize)?;
        // One of an older file system would be of another's UUID.
        if is_sound(&copy, at) && copy[32..48] == first[32..48] {
            source.note(format!(
                "the Btrfs superblock is damaged, and its copy at byte {at} was taken: run btrfs rescue"
            ));
            return Ok((copy, Fields(&first).u64(96) != 0));
        }
    }
    Ok((first, false))
}

/// CRC-32C, bit by bit: it is of one block.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ 0x82f6_3b78 & (crc & 1).wrapping_neg();
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// An item's key.
struct Key {
    kind: u8,
    object: u64,
    offset: u64,
}

impl Key {
    fn read(bytes: &[u8]) -> Key {
        let f = Fields(bytes);
        Key { object: f.u64(0), kind: f.u8(8), offset: f.u64(9) }
    }
}

/// A callback that receives items: their keys and their data.
type Teller<'a> = dyn FnMut(&Key, &[u8]) -> Result<(), Error> + 'a;

/// A range of logical addresses, and the offsets of its copies on the device; all in bytes.
struct Chunk {
    start: u64,
    length: u64,
    copies: Vec<u64>,
}

struct Volume<'a> {
    source: &'a Source,
    /// Bytes.
    size: u64,
    sector: u64,
    node: u64,
    device: u64,
    /// Sorted by start.
    chunks: Vec<Chunk>,
    /// Blocks of the map that may be marked. Extents do not overlap: of the extent tree, of the log, and of its nodes.
    marks: Steps,
}

impl<'a> Volume<'a> {
    /// Parses the superblock; its chunks are only those that lead to the chunk tree.
    fn read(source: &'a Source, f: &Fields) -> Result<Volume<'a>, Error> {
        let bad =
            |at: u64, why: String| Err(source.damaged(SUPERBLOCKS[0] + at, format!("the Btrfs superblock: {why}")));
        let refused = |why: String| Err(Error::Refused(format!("{}: {why}", source.name())));
        let (size, devices, unknown) = (f.u64(112), f.u64(136), f.u64(188) & !KNOWN);
        if devices != 1 {
            return refused(format!(
                "this Btrfs is one of {devices} devices: only one of a single device can be saved"
            ));
        }
        if unknown != 0 {
            return refused(format!("this Btrfs has features that are not known ({unknown:#x})"));
        }
        let (sector, node) = (u64::from(f.u32(144)), u64::from(f.u32(148)));
        if !sector.is_power_of_two() || !(512..=65536).contains(&sector) {
            return bad(144, format!("sectors of {sector} bytes are impossible"));
        }
        if !node.is_power_of_two() || !(sector.max(1024)..=65536).contains(&node) {
            return bad(148, format!("tree nodes of {node} bytes are impossible"));
        }
        if size > source.size() || size < SUPERBLOCKS[0] + SUPER_SIZE {
            return bad(112, format!("{size} bytes do not fit into {}", source.size()));
        }
        let marks = Steps::new(MOST_MARKS * (size / sector));
        let mut volume = Volume { source, size, sector, node, device: f.u64(201), chunks: Vec::new(), marks };
        let length = f.u32(160) as usize;
        let Some(mut rest) = f.0.get(811..).filter(|rest| rest.len() >= length && length <= 2048) else {
            return bad(160, format!("{length} bytes of system chunks are impossible"));
        };
        rest = &rest[..length];
        while rest.len() > KEY + CHUNK {
            let chunk = volume.chunk(Key::read(rest).offset, &rest[KEY..])?;
            rest = rest.get(KEY + CHUNK + STRIPE * chunk.copies.len()..).unwrap_or_default();
            volume.chunks.push(chunk);
        }
        volume.chunks.sort_unstable_by_key(|chunk| chunk.start);
        Ok(volume)
    }

    fn damaged(&self, logical: u64, why: &str) -> Error {
        self.source.damaged(SUPERBLOCKS[0], format!("Btrfs address {logical:#x}: {why}"))
    }

    /// Returns the chunk that an item's data describes.
    fn chunk(&self, start: u64, data: &[u8]) -> Result<Chunk, Error> {
        let f = Fields(data);
        let (length, kind, count) = (f.u64(0), f.u64(24), usize::from(f.u16(44)));
        let stripes = data.get(CHUNK..CHUNK + count * STRIPE).unwrap_or_default();
        if stripes.is_empty() || start.checked_add(length).is_none() {
            return Err(self.damaged(start, "its chunk is damaged"));
        }
        if kind & PARITY != 0 || kind & STRIPED != 0 && count > 1 {
            return Err(self.damaged(start, "its chunk is striped, but there is only one device"));
        }
        let mut copies = Vec::with_capacity(count);
        for stripe in stripes.chunks_exact(STRIPE).map(Fields) {
            if stripe.u64(0) != self.device {
                return Err(self.damaged(start, "its chunk is on another device"));
            }
            if stripe.u64(8).checked_add(length).is_none_or(|end| end > self.size) {
                return Err(self.damaged(start, "its chunk ends behind the device"));
            }
            copies.push(stripe.u64(8));
        }
        Ok(Chunk { start, length, copies })
    }

    /// Returns the offsets of the copies of `length` bytes at a logical address.
    fn places(&self, logical: u64, length: u64) -> Result<impl Iterator<Item = u64>, Error> {
        let index = self.chunks.partition_point(|chunk| chunk.start <= logical);
        let chunk = index.checked_sub(1).and_then(|index| self.chunks.get(index));
        let into = logical - chunk.map_or(0, |chunk| chunk.start);
        match chunk.filter(|chunk| into.checked_add(length).is_some_and(|end| end <= chunk.length)) {
            Some(chunk) => Ok(chunk.copies.iter().map(move |copy| copy + into)),
            None => Err(self.damaged(logical, "in no chunk")),
        }
    }

    /// Marks the extent that a key of the extent tree describes.
    fn mark(&self, map: &mut Bitmap, key: &Key) -> Result<(), Error> {
        let length = match key.kind {
            EXTENT_ITEM => key.offset,
            METADATA_ITEM => self.node,
            _ => return Ok(()),
        };
        for place in self.places(key.object, length)? {
            let first = place / self.sector;
            let count = (place + length).div_ceil(self.sector) - first;
            if !self.marks.take(count) {
                return Err(self.damaged(key.object, "more extents than the volume has room for: run btrfs check"));
            }
            map.set(first, count);
        }
        Ok(())
    }

    /// Collects the roots a root tree lists: tree number, root node and level. Calls `tell` for each of the tree's own
    /// nodes.
    fn roots(
        &self,
        seen: &mut Bitmap,
        node: u64,
        level: u8,
        tell: &mut dyn FnMut(&Key) -> Result<(), Error>,
    ) -> Result<Vec<(u64, u64, u8)>, Error> {
        let mut roots = Vec::new();
        self.walk(seen, node, level, &mut |key, data| {
            if key.kind == ROOT_ITEM {
                // In a root tree the object is the tree's number; in a log tree it is the same for all.
                roots.push((key.object, Fields(data).u64(176), Fields(data).u8(238)));
            }
            tell(key)
        })?;
        Ok(roots)
    }

    /// Calls `tell` with each item below a node, and with each node as an item of the extent tree.
    fn walk(&self, seen: &mut Bitmap, node: u64, level: u8, tell: &mut Teller) -> Result<(), Error> {
        let Some(place) = self.places(node, self.node)?.next() else { return Ok(()) };
        if level > MOST_LEVEL || seen.get(place / self.sector) {
            return Err(self.damaged(node, "a tree goes in circles"));
        }
        seen.set(place / self.sector, 1);
        let bytes = self.source.read(place, self.node as usize)?;
        let f = Fields(&bytes);
        let count = f.u32(96) as usize;
        let size = if level == 0 { ITEM } else { POINTER };
        if f.u64(48) != node || f.u8(100) != level || count > (bytes.len() - HEADER) / size {
            return Err(self
                .source
                .damaged(place, format!("not Btrfs' tree node {node:#x} of level {level}: run btrfs check")));
        }
        tell(&Key { kind: METADATA_ITEM, object: node, offset: 0 }, &[])?;
        for entry in bytes[HEADER..].chunks_exact(size).take(count) {
            let f = Fields(entry);
            if level > 0 {
                self.walk(seen, f.u64(KEY), level - 1, tell)?;
                continue;
            }
            let start = HEADER.saturating_add(f.u32(KEY) as usize);
            let data = bytes.get(start..).and_then(|rest| rest.get(..f.u32(KEY + 4) as usize));
            let data = data.ok_or_else(|| self.damaged(node, "an item reaches past its node"))?;
            tell(&Key::read(entry), data)?;
        }
        Ok(())
    }
}
