//! The geometry in NTFS's boot sector and its copy: sectors of a track, heads, and the hidden sectors before the partition.
//! Windows' boot code goes by them, so they must fit the place that a volume was restored to, as partclone.ntfsfixboot has it.
//!
//! Heads and sectors are the 255 and 63 that every disk says of itself today; the kernel knows the start of a partition.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Error;
use super::fields::Fields;
use super::fs::ntfs;
use super::source::Source;
use super::target::Target;
use crate::sys::block;

/// Offset of the geometry in a boot sector, and its size, bytes.
const AT: usize = 0x18;
const SIZE: usize = 8;
const SECTOR: u64 = 512;

/// A geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Heads of the disk.
    pub heads: u16,
    /// Sectors of a track.
    pub sectors: u16,
    /// First sector of the partition on its disk.
    pub start: u32,
}

impl Geometry {
    fn of(boot: &[u8]) -> Geometry {
        let f = Fields(boot);
        Geometry { sectors: f.u16(AT), heads: f.u16(AT + 2), start: f.u32(AT + 4) }
    }

    fn put(self, boot: &mut [u8]) {
        boot[AT..AT + 2].copy_from_slice(&self.sectors.to_le_bytes());
        boot[AT + 2..AT + 4].copy_from_slice(&self.heads.to_le_bytes());
        boot[AT + 4..AT + SIZE].copy_from_slice(&self.start.to_le_bytes());
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Heads and sectors in place of the disk's.
    pub shape: Option<(u16, u16)>,
    /// Start in place of the partition's.
    pub start: Option<u32>,
    /// Write it.
    pub write: bool,
    /// Accept what is no partition.
    pub any: bool,
    /// Accept a whole disk, and write what is right already.
    pub force: bool,
}

/// The boot sectors of a volume.
pub struct Boot {
    name: String,
    size: u64,
    sector: Vec<u8>,
    copy: Vec<u8>,
    /// What the kernel says of the partition; `None` of a file.
    partition: Option<Geometry>,
    /// What both should have.
    wanted: Geometry,
}

impl Boot {
    /// Reads the boot sectors of `path`.
    ///
    /// # Errors
    /// It cannot be read, holds no NTFS with sectors of 512 bytes, or is no partition while nothing says where it starts.
    pub fn read(path: &Path, wanted: &Wanted) -> Result<Boot, Error> {
        let source = Source::open(path, true)?;
        let name = source.name().to_owned();
        let size = source.size() - source.size() % SECTOR;
        let refused = |why: &str| Err(Error::Refused(format!("{name}: {why}: nothing was written")));
        let partition = start(path).map(|start| Geometry { heads: 255, sectors: 63, start });
        if partition.is_none() && !wanted.any {
            return refused("not a partition; use -b for a file that stands for one");
        }
        if partition.is_none() && wanted.write && wanted.start.is_none() {
            return refused("nothing says where its partition starts; use -s");
        }
        if partition.is_some_and(|found| found.start == 0) && !wanted.force {
            return refused("an entire disk, not a partition; use -f");
        }
        if size < 2 * SECTOR || ntfs::boot_sector(&source.read(0, SECTOR as usize)?).len() != SECTOR as usize {
            return refused("no NTFS with sectors of 512 bytes");
        }
        let (sector, copy) = (source.read(0, SECTOR as usize)?, source.read(size - SECTOR, SECTOR as usize)?);
        let own = Geometry::of(&sector);
        let (heads, sectors) = match (wanted.shape, partition, wanted.start) {
            (Some(shape), ..) => shape,
            (None, Some(found), None) => (found.heads, found.sectors),
            (None, ..) => (own.heads, own.sectors),
        };
        let start = wanted.start.or(partition.map(|found| found.start)).unwrap_or(own.start);
        Ok(Boot { name, size, sector, copy, partition, wanted: Geometry { heads, sectors, start } })
    }

    /// Returns the geometries: of the partition, in the boot sector and in its copy, and the one that both should have.
    pub fn found(&self) -> Vec<(&'static str, Geometry)> {
        let own = [("filesystem:", Geometry::of(&self.sector)), ("backup sector", Geometry::of(&self.copy))];
        let partition = self.partition.map(|found| ("partition:", found));
        partition.into_iter().chain(own).chain([("target:", self.wanted)]).collect()
    }

    /// Whether both are right already.
    pub fn is_right(&self) -> bool {
        self.sector == self.copy && Geometry::of(&self.sector) == self.wanted
    }

    /// Writes the wanted geometry to the boot sector, and that to its copy.
    ///
    /// # Errors
    /// The volume is in use, or cannot be written.
    pub fn write(mut self) -> Result<(), Error> {
        self.wanted.put(&mut self.sector);
        let mut target = Target::volume(Path::new(&self.name), self.size)?;
        target.write_at(&self.sector, self.size - SECTOR)?;
        target.write_at(&self.sector, 0)?;
        target.sync()
    }
}

/// Fits the boot sector that `volume` begins with to the partition `path`, and returns a note of it. `None` if it is right
/// already, has sectors of other than 512 bytes, or `path` is no partition of a disk.
pub fn fit(path: &Path, volume: &mut [u8]) -> Option<String> {
    let wanted = Geometry { heads: 255, sectors: 63, start: start(path).filter(|start| *start > 0)? };
    let was = Geometry::of(volume);
    if wanted == was || ntfs::boot_sector(volume).len() != SECTOR as usize {
        return None;
    }
    wanted.put(volume);
    Some(format!(
        "NTFS had itself at sector {} of a disk of {} heads and {} sectors: its boot sector and the copy now say {}, {} and {}, \
         as {} lies",
        was.start,
        was.heads,
        was.sectors,
        wanted.start,
        wanted.heads,
        wanted.sectors,
        path.display()
    ))
}

/// Returns the first sector of a partition, 0 for a whole disk; `None` for a file, and for what lies beyond 2 TiB, which the
/// field has no room for.
fn start(path: &Path) -> Option<u32> {
    let found = fs::metadata(path).ok().filter(|found| found.mode() & 0o170_000 == 0o060_000)?;
    let at = block::directory(Path::new(block::SYSFS), found.rdev());
    match fs::read_to_string(at.join("start")) {
        Ok(start) => start.trim().parse().ok(),
        Err(_) => at.exists().then_some(0),
    }
}
