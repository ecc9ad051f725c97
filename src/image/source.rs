//! The source of an image: an unmounted device, or a file that holds a file system. Opened read-only.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{Advice, OFlags};

use super::Error;
use super::direct::Direct;
use crate::base::sync::lock;
use crate::sys::block;

/// A device or file, or a part of one, read at checked offsets.
pub struct Source {
    file: Arc<dyn FileExt + Send + Sync>,
    name: String,
    /// Offset of the part, bytes; 0 for all of it.
    start: u64,
    size: u64,
    sector_size: u32,
    partition: bool,
    /// Whether a mount or the like holds it, so that it was opened by force.
    in_use: bool,
    /// Remarks of those who read it, on its parts too.
    notes: Arc<Mutex<Vec<String>>>,
}

impl Source {
    /// Opens `path`.
    ///
    /// # Errors
    /// It cannot be opened, is neither a block device nor a regular file, or is mounted or otherwise in use without
    /// `force`.
    pub fn open(path: &Path, force: bool) -> Result<Source, Error> {
        Source::opening(path, force, false)
    }

    /// Does the same, and reads past the kernel's cache where that is possible.
    ///
    /// # Errors
    /// See [`Source::open`].
    pub fn open_direct(path: &Path, force: bool) -> Result<Source, Error> {
        Source::opening(path, force, true)
    }

    fn opening(path: &Path, force: bool, direct: bool) -> Result<Source, Error> {
        let mut notes = Vec::new();
        let name = path.display().to_string();
        let open = |flags: OFlags| OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
        let kind = path.metadata().map_err(|error| Error::io(format!("open {name}"), error))?.file_type();
        let mut in_use = false;
        let (file, size, sector_size) = if kind.is_block_device() {
            // The kernel's own answer: an exclusive open fails while a mount, swap, RAID or LVM holds it.
            let file = match open(OFlags::EXCL) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !force => {
                    return Err(Error::Refused(format!(
                        "{name} is mounted or otherwise in use: unmount it first, or take it as it is with --force"
                    )));
                }
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    in_use = true;
                    open(OFlags::empty())
                }
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
        // Only advice: nothing is lost if it is ignored.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let partition = block::is_partition(&file);
        let file: Arc<dyn FileExt + Send + Sync> =
            match direct.then(|| Direct::open(&file, if kind.is_file() { 4096 } else { sector_size }, false)) {
                Some(Ok(direct)) => Arc::new(direct),
                Some(Err(error)) => {
                    notes.push(format!("{name} is read through the cache, as it cannot be read past it: {error}"));
                    Arc::new(file)
                }
                None => Arc::new(file),
            };
        let notes = Arc::new(Mutex::new(notes));
        Ok(Source { file, name, start: 0, size, sector_size, partition, in_use, notes })
    }

    /// Returns the `size` bytes from `start` on as a source of its own, called `name` in errors; offsets in errors
    /// count from its beginning.
    ///
    /// # Errors
    /// The part reaches past the end.
    pub fn part(&self, name: String, start: u64, size: u64) -> Result<Source, Error> {
        self.check(start, size)?;
        let file = Arc::clone(&self.file);
        let start = self.start + start;
        let (sector_size, in_use, notes) = (self.sector_size, self.in_use, Arc::clone(&self.notes));
        Ok(Source { file, name, start, size, sector_size, partition: true, in_use, notes })
    }

    /// Returns a file that is already open, called `name` in errors, as a source.
    pub fn opened(file: &File, name: &str, size: u64, sector_size: u32) -> Result<Source, Error> {
        let file = file.try_clone().map_err(|error| Error::io(format!("open {name} again"), error))?;
        let partition = block::is_partition(&file);
        Ok(Source { partition, ..Source::over(Arc::new(file), name.to_owned(), size, sector_size) })
    }

    /// Returns `file` as a source like a device of `size` bytes.
    pub fn over(file: Arc<dyn FileExt + Send + Sync>, name: String, size: u64, sector_size: u32) -> Source {
        let notes = Arc::default();
        Source { file, name, start: 0, size, sector_size, partition: false, in_use: false, notes }
    }

    /// Returns it with `file` read in its place, which shows the same bytes in another way.
    pub fn through(self, file: Arc<dyn FileExt + Send + Sync>) -> Source {
        Source { file, ..self }
    }

    /// Whether it is a partition of a disk, and so holds no partition table.
    pub fn is_partition(&self) -> bool {
        self.partition
    }

    /// Whether a mount, swap, RAID or LVM holds it.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// Returns its name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its size, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the sector size of the device, bytes; 512 for a file.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Fills `to` with the bytes from `at` on.
    ///
    /// # Errors
    /// The bytes reach past the end, or cannot be read.
    pub fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), Error> {
        self.check(at, to.len() as u64)?;
        self.file.read_exact_at(to, self.start + at).map_err(|error| match error.kind() {
            // It was longer when it was opened.
            io::ErrorKind::UnexpectedEof => {
                self.damaged(at, format!("it ends within {} bytes from here: it shrank", to.len()))
            }
            _ => Error::io(format!("read {} bytes of {} at byte {at}", to.len(), self.name), error),
        })
    }

    fn check(&self, at: u64, len: u64) -> Result<(), Error> {
        if at.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(self.damaged(at, format!("{len} bytes from here reach past its end ({})", self.size)));
        }
        Ok(())
    }

    /// Returns the `len` bytes from `at` on; meant for structures, with lengths that the caller bounds.
    pub fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        self.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Keeps a remark for the user: what was taken although it is not as it should be.
    pub fn note(&self, why: impl fmt::Display) {
        lock(&self.notes).push(format!("{}: {why}", self.name));
    }

    /// Returns the remarks since the last call.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.notes))
    }

    /// Returns an error about byte `at`.
    pub fn damaged(&self, at: u64, why: impl Into<String>) -> Error {
        Error::Damaged { what: self.name.clone(), at, why: why.into() }
    }
}
