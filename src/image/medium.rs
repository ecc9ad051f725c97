//! What a target's bytes are written to: a part of an open device or file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Error;

/// An open device or file from some byte on.
pub struct Medium {
    file: File,
    /// What is written to in place of `file`: the same, open in another way.
    writer: Option<Box<dyn FileExt + Send + Sync>>,
    /// Offset in `file` that is byte 0 here.
    base: u64,
    name: String,
}

impl Medium {
    /// Returns all of `file`, called `name` in errors.
    pub fn new(file: File, name: String) -> Medium {
        Medium { file, writer: None, base: 0, name }
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns its name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the offset in the file that is byte 0 here.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Begins at byte `base` of the file from now on.
    pub fn shift(&mut self, base: u64) {
        self.base = base;
    }

    /// Writes by `writer` from now on, which is the same file, open in another way.
    pub fn write_by(&mut self, writer: Box<dyn FileExt + Send + Sync>) {
        self.writer = Some(writer);
    }

    /// Writes `bytes` at offset `at`.
    ///
    /// # Errors
    /// The disk failed, or is full.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        let writer: &dyn FileExt = self.writer.as_deref().map_or(&self.file, |writer| writer);
        writer
            .write_all_at(bytes, self.base + at)
            .map_err(|error| Error::io(format!("write {} bytes of {} at byte {at}", bytes.len(), self.name), error))
    }

    /// Reads back what is at offset `at`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), Error> {
        let length = to.len();
        self.file
            .read_exact_at(to, self.base + at)
            .map_err(|error| Error::io(format!("read back {length} bytes of {} at byte {at}", self.name), error))
    }

    /// Waits until everything written is on the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| Error::io(format!("write {} to the disk", self.name), error))
    }
}
