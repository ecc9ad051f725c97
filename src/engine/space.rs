//! Room: what an image will take, and what is free for it (ogGetSizeParameters).

use std::path::Path;

use super::{Code, Device, Engine, Error, Place};
use crate::image::fs::used;
use crate::image::source::Source;

/// Hundredths of a file system's data that a monolithic image takes: what lzop and gzip leave of it, as OpenGnsys
/// reckons.
const LZOP: u64 = 65;
const GZIP: u64 = 55;

/// Sizes in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Data in the partition.
    pub data: u64,
    /// What its image will take.
    pub required: u64,
    /// What is free for it, the older backup that it replaces included.
    pub free: u64,
}

impl Sizes {
    /// Whether the image will fit.
    pub fn fits(&self) -> bool {
        self.required < self.free
    }
}

/// What there is where a file would be, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free.
    pub free: u64,
    /// Free when it were empty.
    pub all: u64,
}

/// The room where `path` is.
///
/// # Errors
/// [`Code::NotFound`]: it is nowhere.
pub fn room(path: &Path) -> Result<Room, Error> {
    let room = rustix::fs::statvfs(path)
        .map_err(|error| Error::new(Code::NotFound, format!("look for room in {}: {error}", path.display())))?;
    let kib = |blocks: u64| blocks.saturating_mul(room.f_frsize) >> 10;
    let reserved = room.f_bfree.saturating_sub(room.f_bavail);
    Ok(Room { free: kib(room.f_bavail), all: kib(room.f_blocks.saturating_sub(reserved)) })
}

/// KiB that are allocated to a file; 0 when there is none.
pub fn allocated_kib(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    path.metadata().map_or(0, |metadata| metadata.blocks() / 2)
}

impl Engine {
    /// What the image `name` of `device` in `place` will take and has.
    ///
    /// # Errors
    /// [`Code::Partition`]: the partition holds no file system that is known. See also [`Engine::directory`].
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
        // The directory of the cache's images may be yet to be made.
        let at = directory.ancestors().find(|at| *place != Place::Cache || at.is_dir()).unwrap_or(&directory);
        let free = room(at)?.free.saturating_add(allocated_kib(&backup));
        Ok(Sizes { data, required: data.saturating_mul(hundredths) / 100, free })
    }
}
