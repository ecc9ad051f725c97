//! F2FS: the valid maps of its segment information table (SIT), overridden by the last checkpoint's journal.
//!
//! Layouts after the kernel's Documentation/filesystems/f2fs.rst and its on-disk structures. Everything before the
//! main area (checkpoints, SIT, NAT, SSA) is kept, as partclone does. Several devices are refused.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// partclone's name for it.
pub const NAME: &str = "F2FS";

const MAGIC: u32 = 0xf2f5_2010;
/// Offsets of the two superblocks, bytes.
const SUPERBLOCKS: [u64; 2] = [1024, 4096 + 1024];
const SUPER_SIZE: usize = 3072;

/// Features under which the segments say what is used: all up to Linux 6.12.
const KNOWN: u32 = 0xffff;

const BLOCK: usize = 4096;
const BLOCK_LOG: u32 = 12;
/// A segment has 512 blocks.
const SEGMENT_LOG: u32 = 9;
const SEGMENT: u64 = 1 << SEGMENT_LOG;

/// Layout of a SIT entry: number of valid blocks, one bit for each block, time of the last change.
const ENTRY: usize = 74;
const ENTRIES: usize = BLOCK / ENTRY;
/// Layout of a journal's entry: the segment's number, and its SIT entry.
const JOURNALLED: usize = 4 + ENTRY;
const MOST_JOURNALLED: usize = 6;
/// Offset of the journal in a summary block, and of the second one in a compacted block.
const JOURNAL: usize = 3584;
const COMPACT_JOURNAL: usize = 507;

/// Flags of a checkpoint.
const UNMOUNTED: u32 = 0x1;
const COMPACT: u32 = 0x4;
const ERROR: u32 = 0x8;
const FSCK: u32 = 0x10;
const FAST_BOOT: u32 = 0x20;
const LARGE_NAT: u32 = 0x400;

/// Offset of the version bitmaps in a checkpoint.
const VERSIONS: usize = 192;
/// Limit above the blocks of version bitmap in any checkpoint.
const MOST_PAYLOAD: u32 = 256;

/// Whether the source has either superblock.
pub fn detect(source: &Source) -> Result<bool, Error> {
    for at in SUPERBLOCKS {
        if source.size() >= at + SUPER_SIZE as u64 && Fields(&source.read(at, 4)?).u32(0) == MAGIC {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the used blocks.
///
/// # Errors
/// The file system is damaged, or on several devices.
pub fn used(source: &Source) -> Result<Used, Error> {
    let mut first = None;
    for at in SUPERBLOCKS {
        match Geometry::read(source, at) {
            Ok(geometry) => {
                let used = geometry.used()?;
                if let Some(first) = first {
                    source.note(format!("the copy of the F2FS superblock is taken: {first}"));
                }
                return Ok(used);
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| source.damaged(SUPERBLOCKS[0], "no F2FS superblock")))
}

/// The layout from the superblock; in blocks.
struct Geometry<'a> {
    source: &'a Source,
    blocks: u64,
    /// Blocks of version bitmap after a checkpoint's first block.
    payload: u32,
    checkpoints: u64,
    sit: u64,
    /// Blocks of one copy of the SIT.
    sit_blocks: u64,
    main: u64,
    /// Number of segments: all, and those of the main area.
    segments: u32,
    main_segments: u32,
}

impl<'a> Geometry<'a> {
    fn read(source: &'a Source, at: u64) -> Result<Geometry<'a>, Error> {
        let bytes = source.read(at, SUPER_SIZE)?;
        let f = Fields(&bytes);
        let bad = |offset: u64, why: &str| Err(source.damaged(at + offset, format!("the F2FS superblock: {why}")));
        if f.u32(0) != MAGIC {
            return bad(0, "not one");
        }
        if f.u32(16) != BLOCK_LOG || f.u32(20) != SEGMENT_LOG {
            return bad(16, "only blocks of 4 KiB, 512 a segment, are known");
        }
        if f.u8(2201) != 0 {
            return Err(Error::Refused(format!(
                "{}: this F2FS is one of several devices: only one of a single device can be saved",
                source.name()
            )));
        }
        let unknown = f.u32(2180) & !KNOWN;
        if unknown != 0 {
            let name = source.name();
            return Err(Error::Refused(format!(
                "{name}: this F2FS has features that are not known ({unknown:#x}): save it with --raw"
            )));
        }
        let geometry = Geometry {
            source,
            blocks: f.u64(36),
            payload: f.u32(1664),
            checkpoints: u64::from(f.u32(76)),
            sit: u64::from(f.u32(80)),
            sit_blocks: u64::from(f.u32(56)) / 2 * SEGMENT,
            main: u64::from(f.u32(92)),
            segments: f.u32(48),
            main_segments: f.u32(68),
        };
        if geometry.blocks > source.size() / BLOCK as u64 {
            return bad(36, &format!("{} blocks do not fit into {} bytes", geometry.blocks, source.size()));
        }
        if geometry.main + u64::from(geometry.main_segments) * SEGMENT > geometry.blocks
            || geometry.sit + 2 * geometry.sit_blocks > geometry.main
            || geometry.checkpoints + 2 * SEGMENT > geometry.main
            || geometry.payload > MOST_PAYLOAD
            || geometry.sit_blocks < u64::from(geometry.main_segments).div_ceil(ENTRIES as u64)
        {
            return bad(48, "its areas do not fit into each other");
        }
        Ok(geometry)
    }

    fn block(&self, block: u64, count: usize) -> Result<Vec<u8>, Error> {
        self.source.read(block * BLOCK as u64, count * BLOCK)
    }

    fn used(&self) -> Result<Used, Error> {
        let (start, checkpoint) = self.checkpoint()?;
        let f = Fields(&checkpoint);
        let flags = f.u32(132);
        let mut map = Bitmap::new(self.blocks);
        map.set(0, self.main);
        let second = self.second_copies(&f, flags)?;
        for index in 0..u64::from(self.main_segments).div_ceil(ENTRIES as u64) {
            // Bits are counted from the highest of each byte.
            let copy = second.get(index as usize / 8).is_some_and(|byte| byte >> (7 - index % 8) & 1 == 1);
            let block = self.block(self.sit + index + if copy { self.sit_blocks } else { 0 }, 1)?;
            for (slot, entry) in block.chunks_exact(ENTRY).enumerate() {
                self.mark(&mut map, index * ENTRIES as u64 + slot as u64, entry);
            }
        }
        let journal = self.journal(start, &f, flags)?;
        let count = usize::from(Fields(&journal).u16(0)).min(MOST_JOURNALLED);
        for entry in journal[2..].chunks_exact(JOURNALLED).take(count) {
            self.mark(&mut map, u64::from(Fields(entry).u32(0)), &entry[4..]);
        }
        let why = if flags & (ERROR | FSCK) != 0 {
            Some("is marked as having errors: run fsck.f2fs")
        } else if flags & UNMOUNTED == 0 {
            Some("was not unmounted: mount and unmount it, or run fsck.f2fs")
        } else {
            None
        };
        Ok(Used {
            name: NAME,
            block_size: BLOCK as u32,
            device_size: self.blocks * BLOCK as u64,
            used_by_super: u64::from(self.segments.saturating_sub(f.u32(32))) * SEGMENT,
            map,
            dirty: why.map(|why| format!("{}: the F2FS file system {why}", self.source.name())),
        })
    }

    /// Replaces the valid map of a segment.
    fn mark(&self, map: &mut Bitmap, segment: u64, entry: &[u8]) {
        if segment >= u64::from(self.main_segments) {
            return;
        }
        let start = self.main + segment * SEGMENT;
        map.clear(start, SEGMENT);
        for block in (0..SEGMENT).filter(|block| entry[2 + *block as usize / 8] >> (7 - block % 8) & 1 == 1) {
            map.set(start + block, 1);
        }
    }

    /// Returns block number and content of the newer sound checkpoint, with its payload.
    fn checkpoint(&self) -> Result<(u64, Vec<u8>), Error> {
        let mut newest: Option<(u64, u64, Vec<u8>)> = None;
        for start in [self.checkpoints, self.checkpoints + SEGMENT] {
            let bytes = self.block(start, 1 + self.payload as usize)?;
            let f = Fields(&bytes);
            let (version, count) = (f.u64(0), u64::from(f.u32(136)));
            if !(2..=SEGMENT).contains(&count) || !sound(&bytes[..BLOCK]) {
                continue;
            }
            let last = self.block(start + count - 1, 1)?;
            // Its first and last block are the same, so everything in between was written.
            if sound(&last) && Fields(&last).u64(0) == version && newest.as_ref().is_none_or(|best| best.0 < version) {
                newest = Some((version, start, bytes));
            }
        }
        let at = self.checkpoints * BLOCK as u64;
        newest
            .map(|(_, start, bytes)| (start, bytes))
            .ok_or_else(|| self.source.damaged(at, "no F2FS checkpoint is sound: run fsck.f2fs"))
    }

    /// Returns one bit for each block of the SIT: whether its second copy counts.
    fn second_copies<'b>(&self, checkpoint: &Fields<'b>, flags: u32) -> Result<&'b [u8], Error> {
        let (sit, nat) = (checkpoint.u32(156) as usize, checkpoint.u32(160) as usize);
        let at = if flags & LARGE_NAT != 0 {
            // A checksum precedes both.
            VERSIONS + 4 + nat
        } else if self.payload > 0 {
            BLOCK
        } else {
            VERSIONS
        };
        let bits = checkpoint.0.get(at..).and_then(|rest| rest.get(..sit));
        bits.ok_or_else(|| {
            self.source.damaged(self.checkpoints * BLOCK as u64, "the F2FS checkpoint's version bitmaps are too long")
        })
    }

    /// Returns the journal of the SIT in the checkpoint that begins at block `start`.
    fn journal(&self, start: u64, checkpoint: &Fields, flags: u32) -> Result<Vec<u8>, Error> {
        let count = u64::from(checkpoint.u32(136));
        let (block, at) = if flags & COMPACT != 0 {
            (u64::from(checkpoint.u32(140)), COMPACT_JOURNAL)
        } else {
            // The last block follows summaries of three data segments and, after an unmount, of three node segments.
            let summaries = if flags & (UNMOUNTED | FAST_BOOT) != 0 { 6 } else { 3 };
            ((count - 1).saturating_sub(summaries) + 2, JOURNAL)
        };
        if block >= count {
            let at = start * BLOCK as u64 + 136;
            return Err(self.source.damaged(at, "the F2FS checkpoint has no room for its summaries"));
        }
        Ok(self.block(start + block, 1)?.split_off(at))
    }
}

/// Whether a checkpoint's block fits its checksum.
fn sound(block: &[u8]) -> bool {
    let at = Fields(block).u32(164) as usize;
    if !(VERSIONS..=BLOCK - 4).contains(&at) {
        return false;
    }
    // The kernel's CRC-32: started with the magic number, not inverted at the end.
    let mut crc = crc32fast::Hasher::new_with_initial(!MAGIC);
    crc.update(&block[..at]);
    !crc.finalize() == Fields(block).u32(at)
}
