//! The output of an image or a copy: a file that gets its name once it is complete, a pipe, or a device through the one
//! guarded [`Target`].

use std::fs::{FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use super::Error;
use super::place::{self, Place};
use super::save::ImageFile;
use super::target::Target;

/// An output in progress.
pub enum Output {
    /// A file under way, or what is written through: a pipe or character device.
    File(ImageFile),
    /// A block device.
    Device {
        /// The device, checked.
        target: Target,
        /// Bytes written so far.
        at: u64,
    },
}

impl Output {
    /// Opens `path` for `least` bytes, which are read `from` there. A device's partition table is overwritten only by `force`; `why` says in the
    /// error why it would go.
    ///
    /// # Errors
    /// A file cannot be created; it is where the bytes are; a device is in use, too small or has a partition table.
    pub fn open(path: &Path, why: &str, least: u64, from: &[Place], force: bool) -> Result<Output, Error> {
        if !path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            place::apart(from, &place::of(path), &path.display().to_string())?;
            return ImageFile::create(path).map(Output::File);
        }
        let target = Target::plain(path, least, from)?;
        if !force {
            target.spare_table(why)?;
        }
        Ok(Output::Device { target, at: 0 })
    }

    /// Writes to a device past the kernel's cache from now on, if it can; an image's parts in a file do not fit its sectors.
    pub fn bypass_cache(&mut self) {
        if let Output::Device { target, .. } = self {
            // Through the cache the same bytes come to the same place.
            let _ = target.tune(true, false);
        }
    }

    /// Returns it as the output of a command.
    ///
    /// # Errors
    /// It is a device, which only ogbox itself writes to, or cannot be opened again.
    pub fn descriptor(&mut self) -> Result<Stdio, Error> {
        match self {
            Output::File(file) => {
                file.file().try_clone().map(Stdio::from).map_err(|error| Error::io("open it again", error))
            }
            Output::Device { target, .. } => {
                Err(Error::Refused(format!("a command does not write to {}: name a file or pipe", target.name())))
            }
        }
    }

    /// Brings everything to the disk, and a file under its name, if what was to be written came: `done`.
    ///
    /// # Errors
    /// That of `done`, with the news that a device is unusable; the disk failed, or the name cannot be taken.
    pub fn finish(self, done: Result<(), Error>) -> Result<(), Error> {
        match self {
            Output::File(file) => done.and_then(|()| file.finish()),
            Output::Device { mut target, .. } => match done.and_then(|()| target.finish(false)) {
                // The exit code tells it from a failure.
                Err(Error::Interrupted) => Err(Error::Interrupted),
                done => done.map_err(|error| target.spoilt(error)),
            },
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::File(file) => file.file().write(bytes),
            Output::Device { target, at } => {
                target.write_at(bytes, *at).map_err(|error| match error {
                    Error::Io { error, .. } => error,
                    error => io::Error::other(error),
                })?;
                *at += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives the bytes of an output.
pub type Take<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + Send + 'a;

/// What a compressed or expanded file takes over from the original.
pub struct Attributes {
    /// Its mode.
    pub mode: u32,
    /// When it was last written to, if that is known.
    pub modified: Option<SystemTime>,
}

/// Writes what `job` gives to `output`: a file that appears once it is complete, with `attributes`, or what takes the bytes
/// as they come. `source` is the file that they are made of; see [`Output::open`] for `force`.
///
/// # Errors
/// Those of `job`, of [`Output::open`] and [`Output::finish`]; the output cannot be written.
pub fn write_copy(
    output: &Path,
    source: Option<&Path>,
    attributes: Option<Attributes>,
    force: bool,
    job: &mut dyn FnMut(&mut Take) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |error| Error::io(format!("write {}", output.display()), error);
    if output.exists() && !output.is_file() {
        let from = source.map(place::of).unwrap_or_default();
        let mut out = Output::open(output, "a file would replace it", 0, &from, force)?;
        let done = job(&mut |bytes| out.write_all(bytes).map_err(failed));
        return out.finish(done);
    }
    let mut file = ImageFile::create(output)?;
    job(&mut |bytes| file.file().write_all(bytes).map_err(failed))?;
    if let Some(Attributes { mode, modified }) = attributes {
        file.file().set_permissions(Permissions::from_mode(mode & 0o777)).map_err(failed)?;
        if let Some(time) = modified {
            // A time that the file system cannot store is no reason to lose the file.
            let _ = file.file().set_times(FileTimes::new().set_modified(time).set_accessed(time));
        }
    }
    file.finish()
}
