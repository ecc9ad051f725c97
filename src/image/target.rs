//! What is restored to: a device, a file that stands for one, or a new sparse file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::Error;
use super::container::Header;
use crate::sys::block;

/// An open target, checked before its first byte was written.
pub struct Target {
    file: File,
    name: String,
    /// The file, when it was made for this and goes with a failure.
    made: Option<PathBuf>,
    touched: bool,
}

impl Target {
    /// Opens `path` for the image that `header` tells of.
    ///
    /// # Errors
    /// It cannot be opened, is in use (a mount, swap, RAID or LVM holds it), is smaller than the file system, or
    /// its sectors are larger than the file system's blocks.
    pub fn open(path: &Path, header: &Header) -> Result<Target, Error> {
        let name = path.display().to_string();
        let kind = match path.metadata() {
            Ok(metadata) => Some(metadata.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(format!("open {name}"), error)),
        };
        match kind {
            Some(kind) if kind.is_block_device() => Target::device(path, name, header),
            Some(kind) if kind.is_file() => Target::existing(path, name, header),
            Some(_) => Err(Error::Refused(format!("{name} is neither a block device nor a file"))),
            None => Target::new_file(path, name, header),
        }
    }

    fn device(path: &Path, name: String, header: &Header) -> Result<Target, Error> {
        let file =
            OpenOptions::new().write(true).custom_flags(OFlags::EXCL.bits() as i32).open(path).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::ResourceBusy => Error::Refused(format!(
                        "{name} is mounted or otherwise in use: nothing was written; unmount it first"
                    )),
                    _ => Error::io(format!("open {name}"), error),
                }
            })?;
        let size = block::size(&file).map_err(|error| Error::io(format!("ask {name} for its size"), error))?;
        let sector =
            block::sector_size(&file).map_err(|error| Error::io(format!("ask {name} for its sector size"), error))?;
        large_enough(&name, size, header)?;
        if !header.block_size.is_multiple_of(sector) {
            return Err(Error::Refused(format!(
                "{name} has sectors of {sector} bytes, the file system blocks of {}: it could not be used there",
                header.block_size
            )));
        }
        Ok(Target { file, name, made: None, touched: false })
    }

    fn existing(path: &Path, name: String, header: &Header) -> Result<Target, Error> {
        let file =
            OpenOptions::new().write(true).open(path).map_err(|error| Error::io(format!("open {name}"), error))?;
        let size = file.metadata().map_err(|error| Error::io(format!("open {name}"), error))?.len();
        if size > 0 {
            large_enough(&name, size, header)?;
        } else {
            set_size(&file, &name, header)?;
        }
        Ok(Target { file, name, made: None, touched: false })
    }

    fn new_file(path: &Path, name: String, header: &Header) -> Result<Target, Error> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| Error::io(format!("create {name}"), error))?;
        let target = Target { file, name, made: Some(path.to_owned()), touched: false };
        set_size(&target.file, &target.name, header)?;
        Ok(target)
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes `bytes` at offset `at`.
    ///
    /// # Errors
    /// Any error is final: the target is unusable.
    pub fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.touched = true;
        self.file
            .write_all_at(bytes, at)
            .map_err(|error| Error::io(format!("write {} bytes of {} at byte {at}", bytes.len(), self.name), error))
    }

    /// Waits until all that was written is on the disk; the target is complete then.
    ///
    /// # Errors
    /// The disk failed: the target is unusable.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| Error::io(format!("write {} to the disk", self.name), error))?;
        self.made = None;
        self.touched = false;
        Ok(())
    }

    /// It was written to and not finished: what it holds now is neither the old nor the new.
    pub fn unusable(&self) -> bool {
        self.touched && self.made.is_none()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Nobody is left to tell when it fails.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn large_enough(name: &str, size: u64, header: &Header) -> Result<(), Error> {
    if size < header.target_size() {
        return Err(Error::Refused(format!(
            "{name} has {size} bytes, the file system {}: nothing was written",
            header.target_size()
        )));
    }
    Ok(())
}

fn set_size(file: &File, name: &str, header: &Header) -> Result<(), Error> {
    file.set_len(header.target_size())
        .map_err(|error| Error::io(format!("make {name} {} bytes long", header.target_size()), error))
}
