//! The interface of a reader of a file system: two functions, and the used blocks that one returns.

use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::source::Source;

/// The reader of one kind of file system.
pub struct FileSystem {
    /// partclone's name for it.
    pub name: &'static str,
    /// Whether the source holds one, by its signature alone; `used` reports any other damage.
    pub detect: fn(&Source) -> Result<bool, Error>,
    /// Returns its used blocks.
    pub used: fn(&Source) -> Result<Used, Error>,
}

/// The used blocks of a file system.
#[derive(Debug)]
pub struct Used {
    /// partclone's name for the file system.
    pub name: &'static str,
    /// Size of a block, bytes.
    pub block_size: u32,
    /// Size of the file system, bytes, and so of any target.
    pub device_size: u64,
    /// Used blocks by the file system's own counters.
    pub used_by_super: u64,
    /// The used blocks.
    pub map: Bitmap,
    /// The reason not to save it as it is, and the remedy; only `--force` overrides it.
    pub dirty: Option<String>,
}
