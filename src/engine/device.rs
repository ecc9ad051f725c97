//! Disks and partitions, and whether two names are of the same one.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::{Code, Error};
use crate::sys::block;

/// A disk or partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number, from 1 on.
    pub disk: usize,
    /// Its partition's number; none for the whole disk.
    pub partition: Option<u32>,
    /// The kernel's name: `sda1`, `nvme0n1p3`.
    pub name: String,
    /// Its node.
    pub path: PathBuf,
}

impl Device {
    /// Its size, bytes.
    ///
    /// # Errors
    /// [`Code::NotFound`]: it cannot be opened.
    pub fn size(&self) -> Result<u64, Error> {
        let unseen = |error| Error::new(Code::NotFound, format!("open {}: {error}", self.path.display()));
        let file = File::open(&self.path).map_err(unseen)?;
        let kind = file.metadata().map_err(unseen)?;
        if kind.file_type().is_block_device() { block::size(&file).map_err(unseen) } else { Ok(kind.len()) }
    }

    /// What tells one device, or the file that stands for one, from all others.
    pub fn identity(&self) -> Option<Identity> {
        identity(&self.path)
    }
}

/// What two names of one device have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A block device's number.
    Device(u64),
    /// A file's file system and inode.
    File(u64, u64),
}

/// The identity of what `path` leads to, if there is such a thing.
pub fn identity(path: &Path) -> Option<Identity> {
    let of = |metadata: Metadata| match metadata.file_type().is_block_device() {
        true => Identity::Device(metadata.rdev()),
        false => Identity::File(metadata.dev(), metadata.ino()),
    };
    path.metadata().ok().map(of)
}
