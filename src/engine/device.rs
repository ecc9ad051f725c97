//! Disks and partitions as devices, and the identity that two names of one device share.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::{Code, Error};
use crate::sys::block;

/// A disk or partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Number of the disk, from 1 on.
    pub disk: usize,
    /// Number of the partition; `None` for the whole disk.
    pub partition: Option<u32>,
    /// Name in the kernel: `sda1`, `nvme0n1p3`.
    pub name: String,
    /// Path of the device node.
    pub path: PathBuf,
}

impl Device {
    /// Returns its size, bytes.
    ///
    /// # Errors
    /// [`Code::NotFound`]: it cannot be opened.
    pub fn size(&self) -> Result<u64, Error> {
        let unseen = |error| Error::new(Code::NotFound, format!("open {}: {error}", self.path.display()));
        let file = File::open(&self.path).map_err(unseen)?;
        let kind = file.metadata().map_err(unseen)?;
        if kind.file_type().is_block_device() { block::size(&file).map_err(unseen) } else { Ok(kind.len()) }
    }

    /// Returns its identity; `None` if its node does not exist.
    pub fn identity(&self) -> Option<Identity> {
        identity(&self.path)
    }
}

/// The identity of a device, or of a file that stands for one: equal for all its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Number of a block device.
    Device(u64),
    /// File system and inode of a file.
    File(u64, u64),
}

/// Returns the identity of the device or file at `path`; `None` if there is none.
pub fn identity(path: &Path) -> Option<Identity> {
    let of = |metadata: Metadata| match metadata.file_type().is_block_device() {
        true => Identity::Device(metadata.rdev()),
        false => Identity::File(metadata.dev(), metadata.ino()),
    };
    path.metadata().ok().map(of)
}
