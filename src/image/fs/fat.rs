//! FAT12, FAT16, FAT32: the file allocation table, after Microsoft's "FAT File System Specification" (2005).
//!
//! The first copy of the table counts; where a FAT32 says that its copies are not alike, a cluster is used that any of them
//! has, as Windows takes the one named and Linux the first. Clusters marked bad are taken as unused, since they could not
//! be read.

use super::kind::Used;
use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::fields::Fields;
use crate::image::source::Source;

/// Bytes of the table read at once; a multiple of 12, so that no entry of any width straddles it.
const STEP: u64 = 12 << 16;

/// The flag of FAT32 by which the copies of the table are not alike.
const NOT_MIRRORED: u16 = 0x80;

/// Whether the source has a boot sector of FAT.
pub fn detect(source: &Source) -> Result<bool, Error> {
    if source.size() < 512 {
        return Ok(false);
    }
    let boot = source.read(0, 512)?;
    let f = Fields(&boot);
    let jump = matches!(f.u8(0), 0xeb | 0xe9);
    let sector = f.u16(11);
    let plausible = sector.is_power_of_two() && (512..=4096).contains(&sector) && f.u8(13).is_power_of_two();
    let other = boot[3..11] == *b"NTFS    " || boot[3..11] == *b"EXFAT   ";
    Ok(f.u16(510) == 0xaa55 && jump && plausible && !other && f.u16(14) > 0 && (1..=4).contains(&f.u8(16)))
}

/// The layout from the boot sector; in sectors.
struct Geometry {
    sector: u32,
    sectors: u64,
    per_cluster: u64,
    /// First sector of each copy of the table that counts.
    tables: Vec<u64>,
    /// First sector of the first cluster.
    data: u64,
    clusters: u64,
    /// Bits of an entry of the table.
    bits: u64,
    dirty: bool,
}

impl Geometry {
    fn read(source: &Source, boot: &[u8]) -> Result<Geometry, Error> {
        let f = Fields(boot);
        let sector = u32::from(f.u16(11));
        let short = u64::from(f.u16(19));
        let sectors = if short > 0 { short } else { u64::from(f.u32(32)) };
        let table_short = u64::from(f.u16(22));
        let table_sectors = if table_short > 0 { table_short } else { u64::from(f.u32(36)) };
        let root = (u64::from(f.u16(17)) * 32).div_ceil(u64::from(sector));
        let table = u64::from(f.u16(14));
        let data = table + u64::from(f.u8(16)) * table_sectors + root;
        let per_cluster = u64::from(f.u8(13));
        if sectors * u64::from(sector) > source.size() {
            let why = format!("{sectors} sectors of {sector} bytes do not fit into {} bytes", source.size());
            return Err(source.damaged(19, format!("the FAT boot sector: {why}")));
        }
        if data > sectors {
            let why = format!("its tables end at sector {data} of {sectors}");
            return Err(source.damaged(22, format!("the FAT boot sector: {why}")));
        }
        let clusters = (sectors - data) / per_cluster;
        let bits = match clusters {
            // The specification's limits decide, and nothing else; but FAT32 has no 16-bit size of the table.
            _ if table_short == 0 => 32,
            ..4085 => 12,
            _ => 16,
        };
        if ((clusters + 2) * bits).div_ceil(8) > table_sectors * u64::from(sector) {
            let why = format!("{clusters} clusters do not fit into a table of {table_sectors} sectors");
            return Err(source.damaged(22, format!("the FAT boot sector: {why}")));
        }
        let state = if bits == 32 { 0x41 } else { 0x25 };
        let alike = bits < 32 || f.u16(40) & NOT_MIRRORED == 0;
        let copies = if alike { 1 } else { u64::from(f.u8(16)) };
        let tables = (0..copies).map(|copy| table + copy * table_sectors).collect();
        Ok(Geometry { sector, sectors, per_cluster, tables, data, clusters, bits, dirty: f.u8(state) & 1 != 0 })
    }

    /// Calls `tell` with the number and the value of each entry of the table that begins at sector `table`.
    fn entries(&self, source: &Source, table: u64, mut tell: impl FnMut(u64, u32)) -> Result<(), Error> {
        let (start, end) = (table * u64::from(self.sector), ((self.clusters + 2) * self.bits).div_ceil(8));
        let mut buffer = vec![0; STEP.min(end) as usize];
        let mut at = 0;
        while at < end {
            let bytes = &mut buffer[..STEP.min(end - at) as usize];
            source.read_at(bytes, start + at)?;
            let first = at * 8 / self.bits;
            for index in 0..(bytes.len() as u64 * 8 / self.bits).min(self.clusters + 2 - first) {
                let f = Fields(bytes);
                let value = match self.bits {
                    32 => f.u32(index as usize * 4) & 0x0fff_ffff,
                    16 => u32::from(f.u16(index as usize * 2)),
                    _ => u32::from(f.u16((index * 3 / 2) as usize) >> (index % 2 * 4) & 0xfff),
                };
                tell(first + index, value);
            }
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Returns the used blocks; a block is a sector.
///
/// # Errors
/// The boot sector is impossible.
pub fn used(source: &Source) -> Result<Used, Error> {
    let geometry = Geometry::read(source, &source.read(0, 512)?)?;
    let mut map = Bitmap::new(geometry.sectors);
    map.set(0, geometry.data);
    let bad = 0x0fff_fff7_u32 & (((1_u64 << geometry.bits) - 1) as u32);
    let mut clean = true;
    for table in &geometry.tables {
        geometry.entries(source, *table, |entry, value| match entry {
            0 => {}
            // The two highest bits: properly unmounted, no read errors.
            1 => clean &= geometry.bits == 12 || value >> (geometry.bits.min(28) - 2) & 3 == 3,
            cluster if value != 0 && value != bad => {
                map.set(geometry.data + (cluster - 2) * geometry.per_cluster, geometry.per_cluster);
            }
            _ => {}
        })?;
    }
    let dirty = (geometry.dirty || !clean)
        .then(|| format!("{}: the FAT file system was not unmounted: run fsck.fat or chkdsk", source.name()));
    let name = match geometry.bits {
        12 => "FAT12",
        16 => "FAT16",
        _ => "FAT32",
    };
    Ok(Used {
        name,
        block_size: geometry.sector,
        device_size: geometry.sectors * u64::from(geometry.sector),
        used_by_super: map.used(),
        map,
        dirty,
    })
}
