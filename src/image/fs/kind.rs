//! What a reader of a file system is: two functions, and what they return.

use crate::image::Error;
use crate::image::bitmap::Bitmap;
use crate::image::source::Source;

/// How one kind of file system is read.
pub struct FileSystem {
    /// partclone's word for it.
    pub name: &'static str,
    /// Whether the source holds one; damage beyond the signature is for `used` to tell.
    pub detect: fn(&Source) -> Result<bool, Error>,
    /// Its used blocks.
    pub used: fn(&Source) -> Result<Used, Error>,
}

/// The used blocks of a file system.
#[derive(Debug)]
pub struct Used {
    /// partclone's word for the file system.
    pub name: &'static str,
    /// Bytes of a block.
    pub block_size: u32,
    /// Size of the file system, bytes: what a target must have.
    pub device_size: u64,
    /// Used blocks as the file system's own counters say.
    pub used_by_super: u64,
    /// Which blocks are used.
    pub map: Bitmap,
    /// Why it should not be taken as it is, and what to do about it; only `--force` takes it anyway.
    pub dirty: Option<String>,
}
