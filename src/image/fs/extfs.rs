//! ext2, ext3, ext4: the block bitmaps of all groups, after the kernel's Documentation/filesystems/ext4.
//!
//! Supported: 64bit, flex_bg, meta_bg, sparse_super(2), uninit_bg and metadata_csum (groups whose bitmap was never
//! written), bigalloc (one bit a cluster), blocks of 1–64 KiB. An external journal device is refused, and so are features
//! that are not known. If the superblock is damaged, its first copy counts.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// partclone's name for all of them.
pub const NAME: &str = "EXTFS";

const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;

const STATE_CLEAN: u16 = 1;
const STATE_ERRORS: u16 = 2;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_MMP: u32 = 0x100;
/// Features under which the bitmaps say what is used: all up to Linux 6.12 and e2fsprogs 1.47.
const KNOWN_INCOMPAT: u32 = 0x3_f7df;
const KNOWN_RO_COMPAT: u32 = 0x1_ffff;
const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
const RO_BIGALLOC: u32 = 0x200;
const RO_METADATA_CSUM: u32 = 0x400;
const GROUP_BLOCK_UNINIT: u16 = 2;

/// The block of multiple mount protection, and the sequence number in it while nobody has mounted it.
const MMP_MAGIC: u32 = 0x004d_4d50;
const MMP_CLEAN: u32 = 0xff4d_4d50;

/// Whether the source has a superblock of ext.
pub fn detect(source: &Source) -> Result<bool, Error> {
    if source.size() < SUPERBLOCK + 1024 {
        return Ok(false);
    }
    Ok(Fields(&source.read(SUPERBLOCK, 1024)?).u16(0x38) == MAGIC)
}

/// Returns the used blocks.
///
/// # Errors
/// The file system is damaged: its geometry is impossible, or a bitmap is outside the device or contradicts its group's
/// counter.
pub fn used(source: &Source) -> Result<Used, Error> {
    let bytes = source.read(SUPERBLOCK, 1024)?;
    let geometry = match Geometry::read(source, &bytes) {
        Err(error @ Error::Damaged { .. }) => {
            let (f, Some(mut copy)) = (Fields(&bytes), Geometry::copy(source)) else { return Err(error) };
            // A copy does not say in which state the file system is.
            (copy.state, copy.needs_recovery) = (f.u16(0x3a), f.u32(0x60) & INCOMPAT_RECOVER != 0);
            source.note(format!("its copy in the second group was taken: run e2fsck; {error}"));
            copy
        }
        read => read?,
    };
    let map = geometry.map(source)?;
    geometry.note(source);
    Ok(Used {
        name: NAME,
        block_size: geometry.block_size,
        device_size: geometry.blocks * u64::from(geometry.block_size),
        used_by_super: geometry.blocks - geometry.free.min(geometry.blocks),
        map,
        dirty: geometry.dirty(source),
    })
}

/// Refuses features that are not known; the first revision has no fields for them.
fn refuse_unknown(source: &Source, f: &Fields) -> Result<(), Error> {
    let (incompat, ro) = (f.u32(0x60) & !KNOWN_INCOMPAT, f.u32(0x64) & !KNOWN_RO_COMPAT);
    if f.u32(0x4c) > 0 && incompat | ro != 0 {
        let name = source.name();
        let features = format!("({incompat:#x}, {ro:#x}): save it with --raw");
        return Err(Error::Refused(format!("{name}: this ext has features that are not known {features}")));
    }
    Ok(())
}

/// The layout from the superblock.
struct Geometry {
    block_size: u32,
    blocks: u64,
    free: u64,
    first_block: u64,
    blocks_per_group: u32,
    /// Blocks of a group's inode table.
    inode_table: u64,
    /// Blocks that one bit of a bitmap stands for.
    cluster: u32,
    groups: u64,
    descriptor_size: u32,
    reserved_descriptor_blocks: u32,
    /// First meta group; with meta_bg, descriptors from there on are spread over the groups.
    first_meta_group: u64,
    meta_bg: bool,
    /// Whether a group's flag BLOCK_UNINIT is valid.
    uninit: bool,
    sparse_super: bool,
    /// The two groups with copies of the superblock, with sparse_super2.
    backups: Option<[u64; 2]>,
    state: u16,
    needs_recovery: bool,
    /// The block in which a computer says that it uses the file system.
    in_use: Option<u64>,
    /// The journal is on another device.
    external_journal: bool,
}

/// A group's descriptor.
struct Group {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    free: u32,
    flags: u16,
}

impl Geometry {
    fn read(source: &Source, bytes: &[u8]) -> Result<Geometry, Error> {
        let f = Fields(bytes);
        let bad = |at: u64, why: String| Err(source.damaged(SUPERBLOCK + at, format!("the ext superblock: {why}")));
        let (incompat, ro) = (f.u32(0x60), f.u32(0x64));
        if incompat & INCOMPAT_JOURNAL_DEV != 0 {
            return Err(Error::Refused(format!("{} is an ext journal device, not a file system", source.name())));
        }
        refuse_unknown(source, &f)?;
        let (block_log, cluster_log) = (f.u32(0x18), f.u32(0x1c));
        if block_log > 6 {
            return bad(0x18, format!("blocks of 2^{} bytes are impossible", u64::from(block_log) + 10));
        }
        let block_size = 1024 << block_log;
        let cluster = match (ro & RO_BIGALLOC != 0, cluster_log.wrapping_sub(block_log)) {
            (false, _) => 1,
            (true, more @ 0..=16) => 1 << more,
            (true, _) => {
                return bad(0x1c, format!("clusters of 2^{} bytes are impossible", u64::from(cluster_log) + 10));
            }
        };
        let wide = incompat & INCOMPAT_64BIT != 0;
        let high = |at: usize| if wide { u64::from(f.u32(at)) << 32 } else { 0 };
        let blocks = u64::from(f.u32(0x4)) | high(0x150);
        let free = u64::from(f.u32(0xc)) | high(0x158);
        let first_block = u64::from(f.u32(0x14));
        let (blocks_per_group, clusters_per_group) = (f.u32(0x20), f.u32(0x24));
        if blocks.checked_mul(u64::from(block_size)).is_none_or(|bytes| bytes > source.size()) {
            return bad(4, format!("{blocks} blocks of {block_size} bytes do not fit into {} bytes", source.size()));
        }
        if first_block > 1 || first_block >= blocks {
            return bad(0x14, format!("{first_block} cannot be the first block of {blocks}"));
        }
        let bits = if cluster > 1 { clusters_per_group } else { blocks_per_group };
        if bits == 0 || bits > block_size * 8 || u64::from(bits) * u64::from(cluster) != u64::from(blocks_per_group) {
            return bad(0x20, format!("groups of {blocks_per_group} blocks are impossible"));
        }
        let descriptor_size = match (wide, u32::from(f.u16(0xfe))) {
            (false, _) => 32,
            (true, size @ 64..=1024) if size.is_power_of_two() => size,
            (true, size) => return bad(0xfe, format!("group descriptors of {size} bytes are impossible")),
        };
        let (inodes_per_group, inode_size) = (f.u32(0x28), if f.u32(0x4c) == 0 { 128 } else { u32::from(f.u16(0x58)) });
        let groups = (blocks - first_block).div_ceil(u64::from(blocks_per_group));
        let table = (u64::from(inodes_per_group) * u64::from(inode_size)).div_ceil(u64::from(block_size));
        if groups.checked_mul(table).is_none_or(|all| all > blocks) {
            return bad(0x28, format!("{groups} groups of {inodes_per_group} inodes do not fit into {blocks} blocks"));
        }
        Ok(Geometry {
            block_size,
            blocks,
            free,
            first_block,
            blocks_per_group,
            inode_table: table,
            cluster,
            groups,
            descriptor_size,
            reserved_descriptor_blocks: u32::from(f.u16(0xce)),
            first_meta_group: u64::from(f.u32(0x104)),
            meta_bg: incompat & INCOMPAT_META_BG != 0,
            uninit: ro & (RO_GDT_CSUM | RO_METADATA_CSUM) != 0,
            sparse_super: ro & RO_SPARSE_SUPER != 0,
            backups: (f.u32(0x5c) & COMPAT_SPARSE_SUPER2 != 0)
                .then(|| [u64::from(f.u32(0x24c)), u64::from(f.u32(0x250))]),
            state: f.u16(0x3a),
            needs_recovery: incompat & INCOMPAT_RECOVER != 0,
            in_use: (incompat & INCOMPAT_MMP != 0).then(|| f.u64(0x168)),
            external_journal: f.u32(0x5c) & COMPAT_HAS_JOURNAL != 0 && f.u32(0xe0) == 0,
        })
    }

    /// Returns the geometry from the copy of the superblock in the second group, whichever size its blocks have.
    fn copy(source: &Source) -> Option<Geometry> {
        (0..=6).find_map(|log| {
            let block = 1024_u64 << log;
            let at = (block * 8 + u64::from(log == 0)) * block;
            let bytes = source.read(at, 1024).ok()?;
            let f = Fields(&bytes);
            let is_copy = f.u16(0x38) == MAGIC && f.u32(0x18) == log && f.u16(0x5a) == 1;
            Geometry::read(source, &bytes).ok().filter(|_| is_copy)
        })
    }

    /// Notes what its image will not hold.
    fn note(&self, source: &Source) {
        if self.external_journal {
            source.note(
                "the journal of this ext file system is on another device, which its image does not hold: it mounts only \
                 with that journal, or after tune2fs -f -O ^has_journal",
            );
        }
    }

    /// Whether another computer uses it, by the block of multiple mount protection.
    fn is_in_use(&self, source: &Source) -> bool {
        let at = self.in_use.and_then(|block| self.inside(block));
        let bytes = at.and_then(|at| source.read(at, 8).ok()).unwrap_or_default();
        let f = Fields(&bytes);
        f.u32(0) == MMP_MAGIC && f.u32(4) != MMP_CLEAN
    }

    fn dirty(&self, source: &Source) -> Option<String> {
        let why = if self.is_in_use(source) {
            "it is in use, by this computer or another (multiple mount protection): unmount it there"
        } else if self.needs_recovery && self.external_journal {
            "the journal that must be replayed is on another device: mount and unmount it with that"
        } else if self.needs_recovery {
            "its journal must be replayed: mount and unmount it, or run e2fsck"
        } else if self.state & STATE_ERRORS != 0 {
            "it is marked as having errors: run e2fsck"
        } else if self.state & STATE_CLEAN == 0 {
            "it was not unmounted: run e2fsck"
        } else {
            return None;
        };
        Some(format!("{}: the ext file system is not clean: {why}", source.name()))
    }

    /// Returns the first block of a group, and its number of blocks.
    fn group(&self, group: u64) -> (u64, u64) {
        let start = self.first_block + group * u64::from(self.blocks_per_group);
        (start, u64::from(self.blocks_per_group).min(self.blocks - start))
    }

    fn has_super(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        match self.backups {
            _ if group == 0 => true,
            Some(backups) => backups.contains(&group),
            None => !self.sparse_super || group == 1 || power_of(3) || power_of(5) || power_of(7),
        }
    }

    fn descriptors_per_block(&self) -> u64 {
        u64::from(self.block_size / self.descriptor_size)
    }

    /// Returns the block with the descriptors of meta group `meta`.
    fn descriptor_block(&self, meta: u64) -> u64 {
        // With blocks of 1 KiB and clusters the first group begins at 0, but the superblock is in block 1.
        let shifted = u64::from(self.first_block == 0 && self.block_size == 1024);
        if !self.meta_bg || meta < self.first_meta_group {
            return self.first_block + shifted + 1 + meta;
        }
        let group = meta * self.descriptors_per_block();
        self.group(group).0 + u64::from(self.has_super(group)) + if group == 0 { shifted } else { 0 }
    }

    fn map(&self, source: &Source) -> Result<Bitmap, Error> {
        let mut map = Bitmap::new(self.blocks);
        // The boot block, before the first group, is in no bitmap and is kept.
        map.set(0, self.first_block);
        let mut descriptors = vec![0; self.block_size as usize];
        let mut bits = vec![0; self.block_size as usize];
        let per_block = self.descriptors_per_block();
        let mut uninit = Vec::new();
        for index in 0..self.groups {
            let at = self.descriptor_block(index / per_block) * u64::from(self.block_size);
            if index % per_block == 0 {
                source.read_at(&mut descriptors, at)?;
            }
            let offset = (index % per_block) as usize * self.descriptor_size as usize;
            let group = self.descriptor(&descriptors[offset..offset + self.descriptor_size as usize]);
            if self.uninit && group.flags & GROUP_BLOCK_UNINIT != 0 {
                uninit.push((index, group));
                continue;
            }
            let (start, count) = self.group(index);
            let place = self.inside(group.block_bitmap).ok_or_else(|| {
                source.damaged(at, format!("group {index}'s bitmap in block {} is outside", group.block_bitmap))
            })?;
            source.read_at(&mut bits, place)?;
            let free = self.mark(&mut map, &bits, start, count);
            if free != u64::from(group.free) {
                return Err(source.damaged(
                    place,
                    format!(
                        "group {index}'s bitmap has {free} free clusters, its descriptor {}: run e2fsck",
                        group.free
                    ),
                ));
            }
        }
        for (index, group) in uninit {
            self.mark_uninit(&mut map, index, &group);
        }
        Ok(map)
    }

    fn descriptor(&self, bytes: &[u8]) -> Group {
        let f = Fields(bytes);
        let wide = self.descriptor_size >= 64;
        let block =
            |low: usize, high: usize| u64::from(f.u32(low)) | if wide { u64::from(f.u32(high)) << 32 } else { 0 };
        Group {
            block_bitmap: block(0, 0x20),
            inode_bitmap: block(4, 0x24),
            inode_table: block(8, 0x28),
            free: u32::from(f.u16(0xc)) | if wide { u32::from(f.u16(0x2c)) << 16 } else { 0 },
            flags: f.u16(0x12),
        }
    }

    /// Returns the offset of a block, bytes; `None` outside the file system.
    fn inside(&self, block: u64) -> Option<u64> {
        (block < self.blocks).then(|| block * u64::from(self.block_size))
    }

    /// Marks the used blocks of one group; returns its number of free clusters.
    fn mark(&self, map: &mut Bitmap, bits: &[u8], start: u64, count: u64) -> u64 {
        let cluster = u64::from(self.cluster);
        let clusters = count.div_ceil(cluster);
        // blocks_per_group was checked to be at most what a block has bits for.
        if cluster == 1 {
            return clusters - map.add(start, bits, clusters);
        }
        let Some(bits) = Bitmap::from_bytes(bits, clusters) else { return 0 };
        let mut from = 0;
        while let Some((first, run)) = bits.next_run(from) {
            from = first + run;
            map.set(start + first * cluster, (run * cluster).min(count - first * cluster));
        }
        clusters - bits.used()
    }

    /// Marks the metadata of a group whose bitmap was never written: its copy of superblock and descriptors, its
    /// bitmaps and its inode table, which may be in another group.
    fn mark_uninit(&self, map: &mut Bitmap, index: u64, group: &Group) {
        let (start, count) = self.group(index);
        let per_block = self.descriptors_per_block();
        let has_super = self.has_super(index);
        let meta = index / per_block;
        if has_super {
            map.set(start, 1);
        }
        if !self.meta_bg || meta < self.first_meta_group {
            if has_super {
                let all = self.groups.div_ceil(per_block);
                let here =
                    if self.meta_bg { self.first_meta_group } else { all + u64::from(self.reserved_descriptor_blocks) };
                // A copy is whole in its group, so that all of them take no longer than the map.
                map.set(start + 1, here.min(count));
            }
        } else if [0, 1, per_block - 1].contains(&(index % per_block)) {
            map.set(start + u64::from(has_super), 1);
        }
        map.set(group.block_bitmap, 1);
        map.set(group.inode_bitmap, 1);
        map.set(group.inode_table, self.inode_table);
    }
}
