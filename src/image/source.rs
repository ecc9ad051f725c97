//! What is saved: an unmounted device, or a file that holds a file system. Opened read-only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags};

use super::Error;
use crate::sys::block;

/// A device or file that is read at checked offsets.
pub struct Source {
    file: File,
    name: String,
    size: u64,
    sector_size: u32,
}

impl Source {
    /// Opens `path`.
    ///
    /// # Errors
    /// It cannot be opened, is neither a block device nor a regular file, or is a device that is mounted or
    /// otherwise in use, unless `force`.
    pub fn open(path: &Path, force: bool) -> Result<Source, Error> {
        let name = path.display().to_string();
        let open = |flags: OFlags| OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
        let kind = path.metadata().map_err(|error| Error::io(format!("open {name}"), error))?.file_type();
        let (file, size, sector_size) = if kind.is_block_device() {
            // The kernel's own answer: an exclusive open fails while a mount, swap, RAID or LVM holds it.
            let file = match open(OFlags::EXCL) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !force => {
                    return Err(Error::Refused(format!(
                        "{name} is mounted or otherwise in use: unmount it first, or take it as it is with --force"
                    )));
                }
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => open(OFlags::empty()),
                opened => opened,
            };
            let file = file.map_err(|error| Error::io(format!("open {name}"), error))?;
            let size = block::size(&file).map_err(|error| Error::io(format!("ask {name} for its size"), error))?;
            let sector = block::sector_size(&file);
            (file, size, sector.map_err(|error| Error::io(format!("ask {name} for its sector size"), error))?)
        } else if kind.is_file() {
            let file = open(OFlags::empty()).map_err(|error| Error::io(format!("open {name}"), error))?;
            let size = file.metadata().map_err(|error| Error::io(format!("open {name}"), error))?.len();
            (file, size, 512)
        } else {
            return Err(Error::Refused(format!("{name} is neither a block device nor a file")));
        };
        // Only advice: nothing is lost when it is not taken.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Ok(Source { file, name, size, sector_size })
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a sector of the device; 512 for a file.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Fills `to` with the bytes from `at` on.
    ///
    /// # Errors
    /// They reach past the end, or cannot be read.
    pub fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), Error> {
        if at.checked_add(to.len() as u64).is_none_or(|end| end > self.size) {
            return Err(self.damaged(at, format!("{} bytes from here reach past its end ({})", to.len(), self.size)));
        }
        self.file
            .read_exact_at(to, at)
            .map_err(|error| Error::io(format!("read {} bytes of {} at byte {at}", to.len(), self.name), error))
    }

    /// The `len` bytes from `at` on; for structures, whose length is bounded by the caller.
    pub fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        self.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// An error about byte `at`.
    pub fn damaged(&self, at: u64, why: impl Into<String>) -> Error {
        Error::Damaged { what: self.name.clone(), at, why: why.into() }
    }
}
