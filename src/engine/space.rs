//! The space that an image will need and has (ogGetSizeParameters).

use std::path::Path;

use super::{Code, Device, Engine, Error, Place};
use crate::image::fs::used;
use crate::image::source::Source;

/// OpenGnsys' estimates of a monolithic image's size, in hundredths of the file system's data.
const LZOP: u64 = 65;
const GZIP: u64 = 55;

/// Sizes in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Data in the partition.
    pub data: u64,
    /// Estimated size of its image.
    pub required: u64,
    /// Free space for the image, including the old backup that it replaces.
    pub free: u64,
}

impl Sizes {
    /// Whether the image will fit.
    pub fn fits(&self) -> bool {
        self.required < self.free
    }
}

/// The space of a file system, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free.
    pub free: u64,
    /// Free if it were empty.
    pub all: u64,
}

/// The space of the file system that `path` is on.
///
/// # Errors
/// [`Code::NotFound`]: `path` does not exist.
pub fn room(path: &Path) -> Result<Room, Error> {
    let room = rustix::fs::statvfs(path)
        .map_err(|error| Error::new(Code::NotFound, format!("find the free space in {}: {error}", path.display())))?;
    let kib = |blocks: u64| blocks.saturating_mul(room.f_frsize) >> 10;
    let reserved = room.f_bfree.saturating_sub(room.f_bavail);
    Ok(Room { free: kib(room.f_bavail), all: kib(room.f_blocks.saturating_sub(reserved)) })
}

/// KiB allocated to a file; 0 if it does not exist.
pub fn allocated_kib(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    path.metadata().map_or(0, |metadata| metadata.blocks() / 2)
}

impl Engine {
    /// The space that the image `name` of `device` will need, and has, in `place`.
    ///
    /// # Errors
    /// [`Code::Partition`]: the partition holds no known file system. See also [`Engine::directory`].
    pub fn sizes(&self, device: &Device, place: &Place, name: &str) -> Result<Sizes, Error> {
        let unknown = |error: crate::image::Error| Error::new(Code::Partition, error.to_string());
        let used = Source::open(&device.path, true).and_then(|source| used(&source)).map_err(unknown)?;
        let data = used.used_by_super.saturating_mul(u64::from(used.block_size)) >> 10;
        let hundredths = match self.env.get("IMGCOMP").to_ascii_lowercase().as_str() {
            "none" | "0" => 100,
            "gzip" | "2" => GZIP,
            _ => LZOP,
        };
        let backup = self.find(place, &format!("{name}.img.ant"))?.unwrap_or_default();
        let directory = self.directory(place)?;
        // The directory of the cache's images may not exist yet.
        let at = directory.ancestors().find(|at| *place != Place::Cache || at.is_dir()).unwrap_or(&directory);
        let free = room(at)?.free.saturating_add(allocated_kib(&backup));
        Ok(Sizes { data, required: data.saturating_mul(hundredths) / 100, free })
    }
}
