//! Where pieces live: one file, a block device, or the files of a directory, addressed as one range of bytes.
//!
//! Blocks are written in place as they arrive and verified by reading them back, so the page cache is the only
//! buffer of a piece, whatever its size. Which pieces are verified is not known here.

mod check;
mod error;
mod journal;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use kernels::lanes::sha1;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

pub use check::{check, check_some};
pub use error::Error;
pub use journal::{Failed, Journal, Vouched};

use crate::base::stamp::Stamp;
use crate::sys;
use crate::sys::block::WholeBlocks;
use crate::torrent::Metainfo;

/// A stretch of one file, as [`Storage::segments`] gives it.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The file; `None` for padding, which is zeros and stored nowhere (BEP 47), and for an absent file.
    pub file: Option<&'a File>,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

#[derive(Debug)]
struct Target {
    /// `None` for padding and for an absent file.
    file: Option<File>,
    /// Whether it does not exist, and need not.
    absent: bool,
    /// Whether this run made it: earlier knowledge of the other files does not cover it.
    fresh: bool,
    path: PathBuf,
    /// Offset in the torrent, bytes.
    start: u64,
    length: u64,
    /// The state it must stay in once the storage is guarded.
    stamp: Option<Stamp>,
    /// Of a device that is written to.
    _whole_blocks: Option<WholeBlocks>,
}

/// The files of one torrent.
#[derive(Debug)]
pub struct Storage {
    targets: Vec<Target>,
    guarded: bool,
}

/// The state that [`Storage::create`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Some file existed and may hold pieces.
    Data,
    /// All files are new.
    Nothing,
}

impl Storage {
    /// Opens existing data for reading only: `path` is the torrent's file, or its directory of files.
    ///
    /// # Errors
    /// A file is missing, unreadable, or not of the length that the torrent says.
    pub fn open(metainfo: &Metainfo, path: &Path) -> Result<Storage, Error> {
        Storage::open_there(metainfo, path, false)
    }

    /// Like [`open`](Self::open), but any number of files may be missing.
    ///
    /// # Errors
    /// A file is unreadable, or not of the length that the torrent says.
    pub fn open_some(metainfo: &Metainfo, path: &Path) -> Result<Storage, Error> {
        Storage::open_there(metainfo, path, true)
    }

    fn open_there(metainfo: &Metainfo, path: &Path, some: bool) -> Result<Storage, Error> {
        let storage = Storage::with_targets(metainfo, path, |_, path| match File::open(path) {
            Err(cause) if some && cause.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(|cause| Error::io("open", path, cause)),
        })?;
        for target in &storage.targets {
            let Some(file) = &target.file else { continue };
            let has = length_of(file, &target.path)?;
            let device = is_device(file, &target.path)?;
            if has < target.length || (has > target.length && !device) {
                return Err(Error::Length { path: target.path.clone(), has, wants: target.length });
            }
        }
        Ok(storage)
    }

    /// Opens for download, creating missing files, sparse and of full length.
    ///
    /// # Errors
    /// A file cannot be created or written or has another length, or a device is in use or too small.
    pub fn create(metainfo: &Metainfo, path: &Path) -> Result<(Storage, Found), Error> {
        Storage::create_some(metainfo, path, |_| true)
    }

    /// Like [`create`](Self::create), but of the missing files only those are created whose number, from 0, is
    /// `needed`.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_some(
        metainfo: &Metainfo,
        path: &Path,
        needed: impl Fn(usize) -> bool,
    ) -> Result<(Storage, Found), Error> {
        let mut found = Found::Nothing;
        let mut storage = Storage::with_targets(metainfo, path, |number, path| {
            let there = path.metadata().ok();
            let data = there.as_ref().is_some_and(|there| there.len() > 0 || !there.is_file());
            if data {
                found = Found::Data;
            }
            let opened = |file: io::Result<File>| file.map(Some).map_err(|cause| Error::io("open", path, cause));
            if !needed(number) {
                // Nobody writes to it.
                return if data { opened(File::open(path)) } else { Ok(None) };
            }
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent).map_err(|cause| Error::io("make directory", parent, cause))?;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).truncate(false);
            if there.is_some_and(|there| there.file_type().is_block_device()) {
                // Fails if it is mounted or otherwise in use.
                options.custom_flags(OFlags::EXCL.bits() as i32);
            } else {
                options.create(true);
            }
            opened(options.open(path))
        })?;
        for (number, target) in storage.targets.iter_mut().enumerate() {
            let Some(file) = &target.file else { continue };
            let has = length_of(file, &target.path)?;
            let device = is_device(file, &target.path)?;
            if has == 0 && !device {
                file.set_len(target.length).map_err(|cause| Error::io("extend", &target.path, cause))?;
                target.fresh = true;
            } else if has < target.length || (has > target.length && !device) {
                // Perhaps another image of the same name: not ours to truncate or extend.
                return Err(Error::Length { path: target.path.clone(), has, wants: target.length });
            }
            if device && needed(number) {
                target._whole_blocks = WholeBlocks::of(file);
            }
        }
        Ok((storage, found))
    }

    /// Guards the files: from now on any change to one makes reading it an error. Waits until a change would show.
    ///
    /// # Errors
    /// A file cannot be examined.
    pub fn guard(&mut self) -> Result<(), Error> {
        for target in &mut self.targets {
            let Some(file) = &target.file else { continue };
            let stamp = Stamp::settled(file).map_err(|cause| Error::io("examine", &target.path, cause))?;
            target.stamp = Some(stamp);
        }
        self.guarded = true;
        Ok(())
    }

    /// Whether [`guard`](Self::guard) was called.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The state of the files when they were guarded.
    pub fn stamps(&self) -> Vec<Stamp> {
        self.targets.iter().filter_map(|target| target.stamp).collect()
    }

    /// Whether all files are still in the state in which they were guarded.
    pub fn is_unchanged(&self) -> bool {
        self.targets.iter().all(|target| target.check().is_ok())
    }

    fn with_targets(
        metainfo: &Metainfo,
        path: &Path,
        mut open: impl FnMut(usize, &Path) -> Result<Option<File>, Error>,
    ) -> Result<Storage, Error> {
        let mut start = 0;
        let mut targets = Vec::with_capacity(metainfo.files.len());
        for (number, entry) in metainfo.files.iter().enumerate() {
            let path = if metainfo.multi_file { path.join(&entry.path) } else { path.to_owned() };
            let file = if entry.pad { None } else { open(number, &path)? };
            // An empty file lacks nothing.
            let absent = file.is_none() && !entry.pad && entry.length > 0;
            targets.push(Target {
                file,
                absent,
                fresh: false,
                path,
                start,
                length: entry.length,
                stamp: None,
                _whole_blocks: None,
            });
            start += entry.length;
        }
        Ok(Storage { targets, guarded: false })
    }

    /// The stretches of files that make up `length` bytes from `offset`, in order.
    pub fn segments(&self, offset: u64, length: u64) -> impl Iterator<Item = Segment<'_>> {
        let end = offset + length;
        let first = self.targets.partition_point(|target| target.start + target.length <= offset);
        self.targets[first..].iter().take_while(move |target| target.start < end).map(move |target| {
            let from = offset.max(target.start);
            let to = end.min(target.start + target.length);
            Segment { file: target.file.as_ref(), offset: from - target.start, length: to - from }
        })
    }

    /// Fills `buffer` with the bytes from `offset`.
    ///
    /// # Errors
    /// The error of the read; `UnexpectedEof` if the file is shorter than the torrent says; an error if it is
    /// guarded and has changed.
    pub fn read(&self, offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let first = self.targets.partition_point(|target| target.start + target.length <= offset);
        let segments = self.segments(offset, buffer.len() as u64);
        for (segment, target) in segments.zip(&self.targets[first..]) {
            let (part, rest) = buffer.split_at_mut(segment.length as usize);
            match segment.file {
                Some(file) => file.read_exact_at(part, segment.offset)?,
                None if target.absent => return Err(io::ErrorKind::NotFound.into()),
                None => part.fill(0),
            }
            // Checked after the read: a write sets the time before it alters a byte, so unchanged means that the
            // bytes are right.
            target.check()?;
            buffer = rest;
        }
        Ok(())
    }

    /// Writes `parts`, one after the other, from `offset`.
    ///
    /// # Errors
    /// The error of the write, with the file and the offset in it.
    pub fn write(&self, offset: u64, parts: &mut [IoSlice]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if let [target] = self.targets.as_slice()
            && let Some(file) = &target.file
        {
            return sys::io::write_all_at(file, parts, offset).map_err(|cause| Error::at(&target.path, offset, cause));
        }
        // In several files: part by part, each cut where a file ends.
        let mut at = offset;
        for part in parts.iter() {
            let mut bytes: &[u8] = part;
            while !bytes.is_empty() {
                let Some(segment) = self.segments(at, bytes.len() as u64).next() else {
                    let cause = io::Error::from(io::ErrorKind::InvalidInput);
                    return Err(Error::at(Path::new("torrent"), offset + length as u64, cause));
                };
                let (now, rest) = bytes.split_at(segment.length as usize);
                let target =
                    || &self.targets[self.targets.partition_point(|target| target.start + target.length <= at)];
                let written = match segment.file {
                    Some(file) => file.write_all_at(now, segment.offset),
                    None if target().absent => Err(io::ErrorKind::NotFound.into()),
                    None => Ok(()),
                };
                written.map_err(|cause| Error::at(&target().path, segment.offset, cause))?;
                at += now.len() as u64;
                bytes = rest;
            }
        }
        Ok(())
    }

    /// Waits until all data written is on the medium.
    ///
    /// # Errors
    /// The error of fsync, with the file.
    pub fn sync(&self) -> Result<(), Error> {
        self.files()
            .try_for_each(|(file, target)| file.sync_data().map_err(|cause| Error::io("flush", &target.path, cause)))
    }

    /// Like [`sync`](Self::sync), including the files' times of change.
    ///
    /// # Errors
    /// The error of fsync, with the file.
    pub fn sync_all(&self) -> Result<(), Error> {
        self.files()
            .try_for_each(|(file, target)| file.sync_all().map_err(|cause| Error::io("flush", &target.path, cause)))
    }

    /// Reserves room in their file systems for the files whose number, from 0, is `needed`; devices have it already.
    ///
    /// # Errors
    /// There is not enough room, or the file system cannot reserve it.
    pub fn preallocate(&self, needed: impl Fn(usize) -> bool) -> Result<(), Error> {
        for (_, target) in
            self.targets.iter().enumerate().filter(|(number, target)| target.length > 0 && needed(*number))
        {
            let Some(file) = &target.file else { continue };
            if !is_device(file, &target.path)? {
                let done = fallocate(file, FallocateFlags::empty(), 0, target.length);
                done.map_err(|cause| Error::io("reserve room for", &target.path, cause.into()))?;
            }
        }
        Ok(())
    }

    /// Whether these `length` bytes from `offset` were never written, as far as the file systems know.
    pub fn is_hole(&self, offset: u64, length: u64) -> bool {
        self.segments(offset, length).all(|segment| {
            segment.file.is_none_or(|file| match seek(file, SeekFrom::Data(segment.offset)) {
                Ok(data) => data >= segment.offset + segment.length,
                Err(error) => error == Errno::NXIO,
            })
        })
    }

    /// Whether all files exist that hold these `length` bytes from `offset`.
    pub fn is_there(&self, offset: u64, length: u64) -> bool {
        let first = self.targets.partition_point(|target| target.start + target.length <= offset);
        self.targets[first..].iter().take_while(|target| target.start < offset + length).all(|target| !target.absent)
    }

    /// Whether none of the files exists.
    pub fn is_absent(&self) -> bool {
        self.targets.iter().all(|target| target.file.is_none())
    }

    /// True if a target is a block device, whose mtime and identity mean nothing.
    pub fn has_device(&self) -> bool {
        self.files().any(|(file, target)| is_device(file, &target.path).unwrap_or(true))
    }

    /// Digest of the times of the files' last changes; with `before`, files that this run made do not count. The time
    /// of the inode's change (ctime) is among them, which no program can put back.
    fn times(&self, before: bool) -> Result<u64, Error> {
        let mut times = Vec::new();
        for (file, target) in self.files().filter(|(_, target)| target.counts(before)) {
            let metadata = file.metadata().map_err(|cause| Error::io("examine", &target.path, cause))?;
            if metadata.is_file() {
                let (modified, changed) = (metadata.mtime(), metadata.ctime());
                times.extend(
                    [modified, metadata.mtime_nsec(), changed, metadata.ctime_nsec()].map(i64::to_be_bytes).concat(),
                );
            }
        }
        let [first, ..] = *sha1(&times).as_chunks::<8>().0 else { return Ok(0) };
        Ok(u64::from_be_bytes(first))
    }

    /// The same of all files, once so much time has passed since their last changes that any other shows.
    fn settled_times(&self) -> Result<u64, Error> {
        for (file, target) in self.files() {
            Stamp::settled(file).map_err(|cause| Error::io("examine", &target.path, cause))?;
        }
        self.times(false)
    }

    /// Tells these files from others of the same names: inode, time of birth, length. The device number is left out,
    /// since it may change with the next boot. With `before`, files that this run made do not count.
    fn identity(&self, before: bool) -> Result<Vec<u8>, Error> {
        let mut identity = Vec::new();
        for (file, target) in self.files().filter(|(_, target)| target.counts(before)) {
            let metadata = file.metadata().map_err(|cause| Error::io("examine", &target.path, cause))?;
            let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
            let born = born.map_or(0, |born| born.as_nanos() as u64);
            identity.extend([metadata.ino(), born, length_of(file, &target.path)?].map(u64::to_be_bytes).concat());
        }
        Ok(identity)
    }

    /// The targets with their files or devices.
    fn files(&self) -> impl Iterator<Item = (&File, &Target)> {
        self.targets.iter().filter_map(|target| Some((target.file.as_ref()?, target)))
    }
}

impl Target {
    /// Whether it shows the state of the data or, with `before`, its state before this run made new files. Empty
    /// files show nothing.
    fn counts(&self, before: bool) -> bool {
        self.length > 0 && !(before && self.fresh)
    }

    /// Fails if the file is no longer in the state in which it was guarded.
    fn check(&self) -> io::Result<()> {
        match (&self.file, self.stamp) {
            (Some(file), Some(stamp)) => {
                let metadata = file.metadata()?;
                let mut now = Stamp::from(&metadata);
                if metadata.nlink() == 0 {
                    // Its last name was taken, as by a file that replaces it: that is a change of the inode alone.
                    now.changed = stamp.changed;
                }
                if now == stamp { Ok(()) } else { Err(io::Error::other("it has changed")) }
            }
            _ => Ok(()),
        }
    }
}

fn is_device(file: &File, path: &Path) -> Result<bool, Error> {
    let metadata = file.metadata().map_err(|cause| Error::io("examine", path, cause))?;
    let kind = metadata.file_type();
    if kind.is_block_device() {
        return Ok(true);
    }
    if kind.is_file() {
        return Ok(false);
    }
    Err(Error::io("use", path, io::Error::other("neither a regular file nor a block device")))
}

/// Size of a file or block device, bytes.
fn length_of(mut file: &File, path: &Path) -> Result<u64, Error> {
    io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(|cause| Error::io("measure", path, cause))
}

#[cfg(test)]
mod tests;
