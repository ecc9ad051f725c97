//! XFS, versions 4 and 5: every block is used that is not in its allocation group's B+tree of free space by block.
//!
//! Layouts after "XFS Algorithms & Data Structures" (the xfsdocs project). The blocks of an AG's own free list count
//! as free, as in partclone. The log is kept whole. An external log and a real-time section, which are on other
//! devices, are refused, and so are features that are not known.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// partclone's name for it.
pub const NAME: &str = "XFS";

const AGF_MAGIC: u32 = u32::from_be_bytes(*b"XAGF");
const FREE_MAGIC: [u32; 2] = [u32::from_be_bytes(*b"ABTB"), u32::from_be_bytes(*b"AB3B")];
const AGFL_HEADER: usize = 36;
/// Limit above the levels of any tree.
const MOST_LEVELS: u32 = 16;

/// Features of version 5 under which the trees say what is free, up to Linux 6.16: among them a volume that is not to be
/// mounted before it is repaired.
const KNOWN_RO_COMPAT: u32 = 0xf;
const KNOWN_INCOMPAT: u32 = 0x7ff;
const NEEDS_REPAIR: u32 = 0x10;

/// Unit of the log, bytes.
const BASIC_BLOCK: usize = 512;
const RECORD_MAGIC: u32 = 0xfeed_babe;
const UNMOUNT: u8 = 0x20;
/// Most bytes of a log: XFS_MAX_LOG_BYTES.
const MOST_LOG: u64 = 2 << 30;
/// Bytes of the log read at once.
const STEP: u64 = 1 << 20;

/// Whether the source has a superblock of XFS.
pub fn detect(source: &Source) -> Result<bool, Error> {
    Ok(source.size() >= 512 && source.read(0, 4)? == *b"XFSB")
}

/// Returns the used blocks.
///
/// # Errors
/// The file system is damaged: its geometry is impossible, or free space is outside its allocation group or contradicts
/// the counters.
pub fn used(source: &Source) -> Result<Used, Error> {
    let geometry = Geometry::read(source)?;
    let mut map = Bitmap::new(geometry.blocks);
    map.set(0, geometry.blocks);
    let why = if geometry.needs_repair {
        Some("volume is marked as in need of repair: run xfs_repair")
    } else if !geometry.log_is_clean()? {
        Some("log must be replayed: mount and unmount it, or run xfs_repair")
    } else {
        None
    };
    let clean = why.is_none();
    // Blocks that the log has yet to allocate are free in the trees: with a log to replay, all blocks are saved by
    // force, and so they are with trees that are in need of repair.
    for group in (0..geometry.groups).filter(|_| clean) {
        geometry.clear_free(&mut map, group)?;
    }
    Ok(Used {
        name: NAME,
        block_size: geometry.block_size,
        device_size: geometry.blocks * u64::from(geometry.block_size),
        used_by_super: geometry.blocks - geometry.free.min(geometry.blocks),
        map,
        dirty: why.map(|why| format!("{}: the XFS {why}", source.name())),
    })
}

/// The layout from the superblock.
struct Geometry<'a> {
    source: &'a Source,
    five: bool,
    needs_repair: bool,
    uuid: Vec<u8>,
    block_size: u32,
    sector: u32,
    blocks: u64,
    free: u64,
    group_blocks: u32,
    groups: u32,
    /// Offset and length of the log, bytes.
    log: (u64, u64),
}

impl<'a> Geometry<'a> {
    fn read(source: &'a Source) -> Result<Geometry<'a>, Error> {
        let bytes = source.read(0, 512)?;
        let f = Fields(&bytes);
        let bad = |at: u64, why: String| Err(source.damaged(at, format!("the XFS superblock: {why}")));
        let refused =
            |why: &str| Err(Error::Refused(format!("{}: {why}: save it with --raw, and the other too", source.name())));
        let version = f.be16(100) & 15;
        if !(4..=5).contains(&version) {
            return bad(100, format!("version {version} is not known"));
        }
        let (block_size, sector) = (f.be32(4), u32::from(f.be16(102)));
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            return bad(4, format!("blocks of {block_size} bytes are impossible"));
        }
        if !sector.is_power_of_two() || !(512..=32768).contains(&sector) || sector > block_size {
            return bad(102, format!("sectors of {sector} bytes are impossible"));
        }
        if f.u8(126) != 0 {
            return bad(126, "mkfs.xfs was not finished".to_owned());
        }
        let (blocks, group_blocks, groups) = (f.be64(8), f.be32(84), f.be32(88));
        if blocks == 0 || blocks > source.size() / u64::from(block_size) {
            return bad(8, format!("{blocks} blocks of {block_size} bytes do not fit into {} bytes", source.size()));
        }
        // The four sectors at the beginning of every group must fit.
        if u64::from(group_blocks) * u64::from(block_size) < 4 * u64::from(sector)
            || blocks.div_ceil(u64::from(group_blocks)) != u64::from(groups)
        {
            return bad(84, format!("{groups} groups of {group_blocks} blocks are impossible"));
        }
        let (ro_unknown, unknown) = (f.be32(212) & !KNOWN_RO_COMPAT, f.be32(216) & !KNOWN_INCOMPAT);
        if version == 5 && ro_unknown | unknown != 0 {
            let name = source.name();
            return Err(Error::Refused(format!(
                "{name}: this XFS has features that are not known ({unknown:#x}, {ro_unknown:#x}): save it with --raw"
            )));
        }
        let (log_start, log_blocks) = (f.be64(48), u64::from(f.be32(96)));
        if log_start == 0 {
            return refused("this XFS has its log on another device");
        }
        if f.be64(16) != 0 {
            return refused("this XFS has a real-time section");
        }
        let mut geometry = Geometry {
            source,
            five: version == 5,
            needs_repair: version == 5 && f.be32(216) & NEEDS_REPAIR != 0,
            uuid: bytes[32..48].to_vec(),
            block_size,
            sector,
            blocks,
            free: f.be64(144),
            group_blocks,
            groups,
            log: (0, 0),
        };
        // A block number has the group above as many bits as a group's blocks need.
        let bits = u32::from(f.u8(124)).min(32);
        let log = geometry.block((log_start >> bits) as u32, (log_start & ((1 << bits) - 1)) as u32, log_blocks);
        let Some(log) = log.filter(|_| log_blocks * u64::from(block_size) <= MOST_LOG) else {
            return bad(48, format!("a log of {log_blocks} blocks from block {log_start:#x} on is impossible"));
        };
        geometry.log = (log * u64::from(block_size), log_blocks * u64::from(block_size));
        Ok(geometry)
    }

    /// Returns the number of a group's block in the file system; `None` if `count` blocks from there do not fit into
    /// the group.
    fn block(&self, group: u32, block: u32, count: u64) -> Option<u64> {
        let start = u64::from(group) * u64::from(self.group_blocks);
        let size = u64::from(self.group_blocks).min(self.blocks.saturating_sub(start));
        (u64::from(block) + count <= size).then(|| start + u64::from(block))
    }

    /// Clears the blocks in a group's tree of free space and in its free list.
    fn clear_free(&self, map: &mut Bitmap, group: u32) -> Result<(), Error> {
        let start = u64::from(group) * u64::from(self.group_blocks) * u64::from(self.block_size);
        let at = start + u64::from(self.sector);
        let agf = self.source.read(at, 64)?;
        let f = Fields(&agf);
        let bad = |at: u64, why: String| self.source.damaged(at, format!("XFS group {group}: {why}"));
        if f.be32(0) != AGF_MAGIC || f.be32(8) != group {
            return Err(bad(at, "not its header of free space".to_owned()));
        }
        let mut free = 0;
        let (root, levels) = (f.be32(16), f.be32(28));
        self.free_extents(group, root, levels, |first, count| {
            let place = self.block(group, first, u64::from(count))?;
            map.clear(place, u64::from(count));
            free += u64::from(count);
            Some(())
        })?;
        if free != u64::from(f.be32(52)) {
            let why = format!("{free} free blocks, {} in its counter: run xfs_repair", f.be32(52));
            return Err(bad(at + 52, why));
        }
        let list_at = start + 3 * u64::from(self.sector);
        let list = self.source.read(list_at, self.sector as usize)?;
        let list = &list[if self.five { AGFL_HEADER } else { 0 }..];
        let (first, count, slots) = (f.be32(40), f.be32(48), list.len() as u32 / 4);
        if first >= slots || count > slots {
            return Err(bad(at + 40, format!("a free list of {count} blocks from slot {first} on is impossible")));
        }
        for slot in (first..first + count).map(|slot| slot % slots) {
            let block = Fields(list).be32(slot as usize * 4);
            let place = self.block(group, block, 1);
            map.clear(place.ok_or_else(|| bad(list_at, format!("its free list has block {block}")))?, 1);
        }
        Ok(())
    }

    /// Calls `tell` with each extent of a group's tree of free space, the leaves from left to right, until it rejects
    /// one as outside.
    fn free_extents(
        &self,
        group: u32,
        root: u32,
        levels: u32,
        mut tell: impl FnMut(u32, u32) -> Option<()>,
    ) -> Result<(), Error> {
        let header = if self.five { 56 } else { 16 };
        let most = |record: usize| (self.block_size as usize - header) / record;
        let outside = |block: u32| {
            self.source
                .damaged(0, format!("XFS group {group}: its tree of free space has block {block}, outside of it"))
        };
        let mut bytes = vec![0; self.block_size as usize];
        let (mut block, mut level) = (root, levels.min(MOST_LEVELS));
        let circles = |at: u64| {
            self.source
                .damaged(at, format!("XFS group {group}: its tree of free space goes in circles: run xfs_repair"))
        };
        // Extents come in order, so that a walk which only ever gets further ends. The first levels only lead down.
        let mut end = 0;
        loop {
            let place = self.block(group, block, 1).ok_or_else(|| outside(block))? * u64::from(self.block_size);
            self.source.read_at(&mut bytes, place)?;
            let f = Fields(&bytes);
            let (found, records) = (u32::from(f.be16(4)), usize::from(f.be16(6)));
            level = level.saturating_sub(1);
            let fits = records <= if level > 0 { most(12) } else { most(8) };
            if f.be32(0) != FREE_MAGIC[usize::from(self.five)] || found != level || !fits {
                return Err(self
                    .source
                    .damaged(place, format!("XFS group {group}: not a block of its tree of free space")));
            }
            if level > 0 {
                // The leftmost child: pointers follow the room for all keys.
                block = f.be32(header + most(12) * 8);
                continue;
            }
            for record in 0..records {
                let (first, count) = (f.be32(header + record * 8), f.be32(header + record * 8 + 4));
                if u64::from(first) < end || count == 0 {
                    return Err(circles(place));
                }
                end = u64::from(first) + u64::from(count);
                tell(first, count).ok_or_else(|| outside(first))?;
            }
            block = f.be32(12);
            if block == u32::MAX {
                return Ok(());
            }
            if records == 0 {
                return Err(circles(place));
            }
        }
    }

    /// Whether the newest record of the log says that the file system was unmounted.
    fn log_is_clean(&self) -> Result<bool, Error> {
        let (start, length) = self.log;
        let mut newest = (0, true);
        let mut buffer = vec![0; STEP.min(length) as usize];
        let mut at = 0;
        while at < length {
            let bytes = &mut buffer[..STEP.min(length - at) as usize];
            self.source.read_at(bytes, start + at)?;
            for (index, block) in bytes.chunks_exact(BASIC_BLOCK).enumerate() {
                let f = Fields(block);
                // No other block begins like this, as the first word of each is replaced by the log's cycle.
                if f.be32(0) != RECORD_MAGIC || block[304..320] != self.uuid {
                    continue;
                }
                let here = at + (index * BASIC_BLOCK) as u64;
                let sequence = f.be64(16);
                if sequence & 0xffff_ffff == here / BASIC_BLOCK as u64 && sequence >= newest.0 {
                    newest = (sequence, f.be32(40) == 1 && self.unmounts(here, f.be32(320), f.be32(8))?);
                }
            }
            at += bytes.len() as u64;
        }
        Ok(newest.1)
    }

    /// Whether the record at byte `at` of the log, whose header covers `size` bytes, is that of an unmount.
    fn unmounts(&self, at: u64, size: u32, version: u32) -> Result<bool, Error> {
        let headers = if version & 2 != 0 { u64::from(size.clamp(1, 1 << 20)).div_ceil(32768) } else { 1 };
        let operation = (at + headers * BASIC_BLOCK as u64) % self.log.1;
        Ok(self.source.read(self.log.0 + operation, 12)?[9] & UNMOUNT != 0)
    }
}
