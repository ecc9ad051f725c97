//! exFAT: its allocation bitmap, after Microsoft's "exFAT file system specification" (2019).

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// partclone's name for it.
pub const NAME: &str = "EXFAT";

/// Entry types of the root directory.
const END_OF_DIRECTORY: u8 = 0;
const ALLOCATION_BITMAP: u8 = 0x81;

/// Flags of a volume.
const VOLUME_DIRTY: u16 = 2;
const MEDIA_FAILURE: u16 = 4;

/// Most bytes of a directory, by the specification.
const MOST_DIRECTORY: u64 = 256 << 20;

/// Whether the source has a boot sector of exFAT.
pub fn detect(source: &Source) -> Result<bool, Error> {
    Ok(source.size() >= 512 && source.read(0, 512)?[3..11] == *b"EXFAT   ")
}

struct Volume<'a> {
    source: &'a Source,
    sector_log: u32,
    cluster_log: u32,
    sectors: u64,
    /// First sector of the table and of the first cluster.
    table: u64,
    heap: u64,
    clusters: u64,
}

impl<'a> Volume<'a> {
    /// Reads the geometry from the boot sector.
    fn new(source: &'a Source, boot: &Fields) -> Result<Volume<'a>, Error> {
        let bad = |at: u64, why: String| Err(source.damaged(at, format!("the exFAT boot sector: {why}")));
        let (sector_log, per_cluster_log) = (u32::from(boot.u8(108)), u32::from(boot.u8(109)));
        if !(9..=12).contains(&sector_log) || sector_log + per_cluster_log > 25 {
            return bad(108, format!("sectors of 2^{sector_log} bytes, 2^{per_cluster_log} a cluster, are impossible"));
        }
        let volume = Volume {
            source,
            sector_log,
            cluster_log: sector_log + per_cluster_log,
            sectors: boot.u64(72),
            table: u64::from(boot.u32(80)),
            heap: u64::from(boot.u32(88)),
            clusters: u64::from(boot.u32(92)),
        };
        if volume.sectors > source.size() >> sector_log {
            return bad(72, format!("{} sectors do not fit into {} bytes", volume.sectors, source.size()));
        }
        if volume.heap + (volume.clusters << per_cluster_log) > volume.sectors {
            return bad(92, format!("{} clusters from sector {} on do not fit", volume.clusters, volume.heap));
        }
        Ok(volume)
    }

    /// log2 of the sectors of a cluster.
    fn per_cluster_log(&self) -> u32 {
        self.cluster_log - self.sector_log
    }

    /// Offset of a cluster, bytes.
    fn cluster(&self, cluster: u32) -> Option<u64> {
        let index = u64::from(cluster).checked_sub(2).filter(|index| *index < self.clusters)?;
        Some((self.heap << self.sector_log) + (index << self.cluster_log))
    }

    /// Calls `take` with the content of each cluster of the chain that begins at `first`, until it returns false. A
    /// chain of more than `most` bytes goes in circles. Those of a contiguous file follow each other.
    fn chain(&self, first: u32, most: u64, contiguous: bool, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut bytes = vec![0; 1 << self.cluster_log];
        let mut cluster = first;
        for _ in 0..self.clusters.min(most.div_ceil(bytes.len() as u64)) {
            let Some(at) = self.cluster(cluster) else { return Ok(()) };
            self.source.read_at(&mut bytes, at)?;
            if !take(&bytes) {
                return Ok(());
            }
            let entry = (self.table << self.sector_log) + u64::from(cluster) * 4;
            // Contiguous files may leave their table entries unset; the root's are always set, the bitmap's should be.
            cluster = if contiguous { cluster.wrapping_add(1) } else { Fields(&self.source.read(entry, 4)?).u32(0) };
        }
        Err(self.source.damaged(self.table << self.sector_log, "an exFAT cluster chain goes in circles"))
    }

    /// Returns first cluster and length (bytes) of the allocation bitmap that the root directory names; of two, that of
    /// number `active`.
    fn bitmap(&self, root: u32, active: u8) -> Result<Option<(u32, u64)>, Error> {
        let mut found = None;
        self.chain(root, MOST_DIRECTORY, false, |directory| {
            for entry in directory.chunks_exact(32) {
                let e = Fields(entry);
                match e.u8(0) {
                    END_OF_DIRECTORY => return false,
                    ALLOCATION_BITMAP if e.u8(1) & 1 == active => {
                        found = Some((e.u32(20), e.u64(24)));
                        return false;
                    }
                    _ => {}
                }
            }
            true
        })?;
        Ok(found)
    }

    /// Marks the sectors of the clusters that are used by the bitmap from cluster `first` on; returns how many clusters
    /// the bitmap has bits for.
    fn mark(&self, first: u32, contiguous: bool, map: &mut Bitmap) -> Result<u64, Error> {
        let log = self.per_cluster_log();
        let mut done = 0;
        self.chain(first, self.clusters.div_ceil(8), contiguous, |bytes| {
            let here = (bytes.len() as u64 * 8).min(self.clusters - done);
            let Some(bits) = Bitmap::from_bytes(bytes, here) else { return false };
            let mut from = 0;
            while let Some((start, run)) = bits.next_run(from) {
                from = start + run;
                map.set(self.heap + ((done + start) << log), run << log);
            }
            done += here;
            done < self.clusters
        })?;
        Ok(done)
    }
}

/// Returns the copy of the boot sector, in sector 12, whichever length sectors have.
fn copy(source: &Source) -> Option<Vec<u8>> {
    (9..=12).find_map(|log| {
        let boot = source.read(12 << log, 512).ok()?;
        let is_copy = boot[3..11] == *b"EXFAT   " && boot[108] == log && Volume::new(source, &Fields(&boot)).is_ok();
        is_copy.then_some(boot)
    })
}

/// Returns the used blocks; a block is a sector.
///
/// # Errors
/// The boot sector is impossible, or there is no allocation bitmap for all clusters.
pub fn used(source: &Source) -> Result<Used, Error> {
    let mut boot = source.read(0, 512)?;
    // A copy has old flags.
    let flags = Fields(&boot).u16(106);
    if let Err(why @ Error::Damaged { .. }) = Volume::new(source, &Fields(&boot)).map(drop) {
        let Some(copy) = copy(source) else { return Err(why) };
        boot = copy;
        source.note(format!("its copy was taken: run fsck.exfat or chkdsk; {why}"));
    }
    let f = Fields(&boot);
    let volume = Volume::new(source, &f)?;
    // With two tables and bitmaps (TexFAT) the active one counts.
    let active = flags as u8 & 1;
    let found = volume.bitmap(f.u32(96), active)?;
    let Some((first, length)) = found.filter(|(_, length)| *length >= volume.clusters.div_ceil(8)) else {
        return Err(source.damaged(96, "the exFAT root directory names no allocation bitmap for all clusters"));
    };
    let mut map = Bitmap::new(volume.sectors);
    map.set(0, volume.heap);
    if volume.mark(first, false, &mut map)? < volume.clusters {
        // Linux and fsck.exfat never look at its chain.
        if volume.mark(first, true, &mut map)? < volume.clusters {
            return Err(source.damaged(96, format!("the exFAT allocation bitmap of {length} bytes is cut short")));
        }
        source.note("the exFAT allocation bitmap has no whole cluster chain; taken as contiguous, as Linux does");
    }
    let why = match flags {
        _ if flags & VOLUME_DIRTY != 0 => Some("was not unmounted"),
        _ if flags & MEDIA_FAILURE != 0 => Some("is marked as on a failing disk"),
        _ => None,
    };
    let dirty = why.map(|why| format!("{}: the exFAT file system {why}: run fsck.exfat or chkdsk", source.name()));
    Ok(Used {
        name: NAME,
        block_size: 1 << volume.sector_log,
        device_size: volume.sectors << volume.sector_log,
        // partclone counts the cluster numbers 0 and 1, which stand for no cluster, as used ones.
        used_by_super: map.used() + (2 << volume.per_cluster_log()),
        map,
        dirty,
    })
}
