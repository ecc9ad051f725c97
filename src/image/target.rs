//! The target of a restore: a device, a file that stands for one, or a new sparse file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, OFlags};

use super::Error;
use super::container::Header;
use super::direct::{self, Direct};
use super::fs;
use super::medium::Medium;
use super::place::{self, Place};
use super::seal::{Seal, Unwritten};
use super::source::Source;
use super::table;
use crate::base::whole::Whole;
use crate::base::{leftover, links};
use crate::sys::block::{self, WholeBlocks};

/// Treatment of blocks that the file system does not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unused {
    /// Leave them as they are.
    #[default]
    Keep,
    /// Discard (trim) them on a device; in a file, make them holes.
    Discard,
    /// Zero them.
    Zero,
}

/// An open target, checked before its first byte is written.
pub struct Target {
    medium: Arc<Medium>,
    device: bool,
    /// Sector size of a device, bytes; `None` for a file.
    sector: Option<u32>,
    /// A file created for this restore, which has no name before it is complete.
    made: Option<Whole>,
    /// Bytes that the new content takes.
    length: u64,
    /// What becomes of sealed bytes that are not written; `None` if nothing is sealed: a file that has no name yet, or a few
    /// bytes that are changed in place.
    unwritten: Option<Unwritten>,
    touched: bool,
    /// From the first write to the end.
    seal: Option<Arc<Seal>>,
    /// Between the first write and the end, on a device.
    whole_blocks: Option<WholeBlocks>,
}

impl Target {
    /// Opens `path` for an image with this header, of which the blocks reach to byte `least`, and which is read `from` there.
    ///
    /// # Errors
    /// It cannot be opened, is in use (a mount, swap, RAID, LVM, loop device or another restore holds it), is where the
    /// image is, is smaller than `least`, or has sectors that do not divide the file system's blocks.
    pub fn open(path: &Path, header: &Header, least: u64, from: &[Place]) -> Result<Target, Error> {
        let name = path.display().to_string();
        let kind = match path.metadata() {
            Ok(metadata) => Some(metadata.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(format!("open {name}"), error)),
        };
        match kind {
            Some(kind) if kind.is_block_device() => Target::device(path, header, least, from),
            Some(kind) if kind.is_file() => Target::existing(path, name, header, least, from),
            Some(_) => Err(Error::Refused(format!("{name} is neither a block device nor a file"))),
            None => Target::new_file(path, name, header),
        }
    }

    /// Opens the block device `path` for `least` bytes of anything (0: nobody knows how many), which are read `from` there.
    /// What is behind them stays.
    ///
    /// # Errors
    /// It cannot be opened, is in use, is where the bytes are or is smaller than `least`.
    pub fn plain(path: &Path, least: u64, from: &[Place]) -> Result<Target, Error> {
        let name = path.display().to_string();
        // Reading may be what holds it.
        place::apart(from, &place::of(path), &name)?;
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(OFlags::EXCL.bits() as i32).open(path).map_err(
                |error| match error.kind() {
                    io::ErrorKind::ResourceBusy => Error::Refused(format!(
                        "{name} is mounted or otherwise in use: nothing was written; unmount it first"
                    )),
                    _ => Error::io(format!("open {name}"), error),
                },
            )?;
        let size = block::size(&file).map_err(|error| Error::io(format!("ask {name} for its size"), error))?;
        let sector =
            block::sector_size(&file).map_err(|error| Error::io(format!("ask {name} for its sector size"), error))?;
        large_enough(&name, size, least)?;
        guard(&file, &name, from)?;
        let length = if least > 0 { least } else { u64::MAX };
        let target = Target::of(file, name, length);
        Ok(Target { device: true, sector: Some(sector), unwritten: Some(Unwritten::Keep), ..target })
    }

    /// Opens the device or file `path` of at least `least` bytes, to change a few of them in place.
    ///
    /// # Errors
    /// It cannot be opened, is in use or is smaller.
    pub fn volume(path: &Path, least: u64) -> Result<Target, Error> {
        if path.metadata().is_ok_and(|found| found.file_type().is_block_device()) {
            return Ok(Target { unwritten: None, ..Target::plain(path, least, &[])? });
        }
        let name = path.display().to_string();
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| Error::io(format!("open {name}"), error))?;
        guard(&file, &name, &[])?;
        lock(&file, &name)?;
        Ok(Target { unwritten: None, ..Target::of(file, name, 0) })
    }

    fn of(file: File, name: String, length: u64) -> Target {
        let medium = Arc::new(Medium::new(file, name));
        let unwritten = Some(Unwritten::Zero);
        let (device, sector, made, touched, seal, whole_blocks) = (false, None, None, false, None, None);
        Target { medium, device, sector, made, length, unwritten, touched, seal, whole_blocks }
    }

    fn device(path: &Path, header: &Header, least: u64, from: &[Place]) -> Result<Target, Error> {
        let target = Target::plain(path, 0, from)?;
        let (name, sector) = (target.name(), target.sector.unwrap_or(512));
        if header.disk_sector().is_some() && block::is_partition(target.file()) {
            return Err(Error::Refused(format!(
                "{name} is a partition and the image a whole disk's: nothing was written; name the disk"
            )));
        }
        large_enough(name, target.size().unwrap_or(0), least)?;
        if !header.block_size.is_multiple_of(sector) {
            return Err(too_coarse(name, sector, &format!("the file system blocks of {}", header.block_size)));
        }
        Ok(Target { length: header.target_size(), unwritten: Some(Unwritten::Zero), ..target })
    }

    /// Begins at byte `offset` from now on, and grows a file that was made for an image with this header. A disk's table must
    /// have a partition around the `least` bytes there, unless `force` is given.
    ///
    /// # Errors
    /// The bytes reach into another partition or none, or the target cannot be read.
    pub fn shift(&mut self, offset: u64, header: &Header, least: u64, force: bool) -> Result<(), Error> {
        let end = offset.saturating_add(least);
        let fits = match self.source()?.filter(|_| !force).map(|source| table::sound(&source)) {
            Some(Ok(Some(table))) => {
                table.partitions.iter().any(|part| part.start <= offset && end <= part.start + part.size)
            }
            Some(Err(_)) => false,
            _ => true,
        };
        if !fits {
            return Err(Error::Refused(format!(
                "{} has a partition table, and no partition of it holds all bytes from {offset} to {end}: nothing was written",
                self.name()
            )));
        }
        if !self.device && self.size() == Some(header.target_size()) {
            let size = header.target_size().saturating_add(offset);
            let grown = self.file().set_len(size);
            grown.map_err(|error| Error::io(format!("make {} {size} bytes long", self.name()), error))?;
        }
        if let Some(medium) = Arc::get_mut(&mut self.medium) {
            medium.shift(offset);
        }
        Ok(())
    }

    /// Refuses a file system of these first bytes that the device's sectors are too large for.
    ///
    /// # Errors
    /// They are.
    pub fn suits(&self, head: &[u8]) -> Result<(), Error> {
        match (self.sector, fs::sector::made_for(head)) {
            (Some(has), Some((what, wants))) if wants < has => {
                Err(too_coarse(self.name(), has, &format!("the image's {what} was made for {wants}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes from now on past the kernel's cache if `direct`; so that each write ends on the disk, and has its error, if
    /// `surely`. Returns why it cannot, and then writes as before.
    pub fn tune(&mut self, direct: bool, surely: bool) -> Option<String> {
        let opened: io::Result<Box<dyn FileExt + Send + Sync>> = match (direct, surely) {
            (true, _) => Direct::open(self.file(), self.sector.unwrap_or(4096), true).map(|file| Box::new(file) as _),
            (false, true) => direct::reopen(self.file(), OFlags::DSYNC, true).map(|file| Box::new(file) as _),
            (false, false) => return None,
        };
        match (opened, Arc::get_mut(&mut self.medium)) {
            (Ok(writer), Some(medium)) => medium.write_by(writer),
            (Err(error), _) => return Some(format!("{} is written through the cache: {error}", self.name())),
            // It is under seal already.
            (Ok(_), None) => return Some(format!("{} is written as it was begun", self.name())),
        }
        None
    }

    /// Refuses to replace a partition table, a damaged one included; `why` is a clause for the error.
    ///
    /// # Errors
    /// The target has one, or cannot be read.
    pub fn spare_table(&self, why: &str) -> Result<(), Error> {
        if self.source()?.is_some_and(|source| !matches!(table::sound(&source), Ok(None))) {
            return Err(Error::Refused(format!(
                "{} has a partition table and {why}: nothing was written; name a partition, or clear the table first \
                 (wipefs -a)",
                self.name()
            )));
        }
        Ok(())
    }

    fn existing(path: &Path, name: String, header: &Header, least: u64, from: &[Place]) -> Result<Target, Error> {
        refuse_among_nodes(path, &name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| Error::io(format!("open {name}"), error))?;
        guard(&file, &name, from)?;
        lock(&file, &name)?;
        let size = file.metadata().map_err(|error| Error::io(format!("open {name}"), error))?.len();
        if size > 0 {
            large_enough(&name, size, least)?;
        } else {
            set_size(&file, &name, header)?;
        }
        Ok(Target::of(file, name, header.target_size()))
    }

    fn new_file(path: &Path, name: String, header: &Header) -> Result<Target, Error> {
        refuse_among_nodes(path, &name)?;
        if leftover::is_being_written(path) {
            return Err(being_written(&name));
        }
        let unmade = |error| Error::io(format!("create {name}"), error);
        let mut whole = Whole::create(path).map_err(unmade)?;
        let file = whole.file().try_clone().map_err(unmade)?;
        let target = Target { made: Some(whole), unwritten: None, ..Target::of(file, name, header.target_size()) };
        set_size(target.file(), target.name(), header)?;
        Ok(target)
    }

    /// Returns its name in errors.
    pub fn name(&self) -> &str {
        self.medium.name()
    }

    fn file(&self) -> &File {
        self.medium.file()
    }

    /// Returns its size, bytes; `None` if the kernel does not say.
    pub fn size(&self) -> Option<u64> {
        let size = match self.device {
            true => block::size(self.file()).ok(),
            false => self.file().metadata().ok().map(|metadata| metadata.len()),
        };
        size.map(|size| size.saturating_sub(self.medium.base()))
    }

    /// Returns its sector size, bytes; `None` for a file.
    pub fn sector(&self) -> Option<u32> {
        self.sector
    }

    /// Returns it as a source to read what it holds, or is to hold where it is under seal; `None` if its size is unknown.
    ///
    /// # Errors
    /// It cannot be opened again.
    pub fn source(&self) -> Result<Option<Source>, Error> {
        let Some(size) = self.size() else { return Ok(None) };
        let source = Source::opened(self.file(), self.name(), size, self.sector.unwrap_or(512))?;
        Ok(Some(match &self.seal {
            Some(seal) => source.through(Arc::clone(seal) as Arc<dyn FileExt + Send + Sync>),
            None => source,
        }))
    }

    /// Seals it, before anything else is written: see [`Seal`].
    fn begin(&mut self) -> Result<(), Error> {
        let Some(unwritten) = self.unwritten.filter(|_| !self.touched) else {
            self.touched = true;
            return Ok(());
        };
        let size = self.size().ok_or_else(|| Error::Refused(format!("{} does not say how long it is", self.name())))?;
        self.touched = true;
        self.seal = Some(Arc::new(Seal::begin(Arc::clone(&self.medium), size, self.length, unwritten)?));
        self.reread_partitions();
        self.whole_blocks = self.device.then(|| WholeBlocks::of(self.file())).flatten();
        Ok(())
    }

    /// Has the kernel reread a disk's table, so that it neither keeps partitions of the old one nor lacks those of the new.
    fn reread_partitions(&self) {
        if self.device && !block::is_partition(self.file()) {
            // Fails where there are no partitions or some are in use; the table is read at the next boot anyway.
            let _ = block::reread_partitions(self.file());
        }
    }

    /// Writes `bytes` at offset `at`.
    ///
    /// # Errors
    /// Any error is final: the target is unusable.
    pub fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.begin()?;
        match &self.seal {
            Some(seal) => seal.write_at(bytes, at),
            None => self.medium.write_at(bytes, at),
        }
    }

    /// Treats `len` bytes of whole blocks from `at` on as `unused` says.
    ///
    /// # Errors
    /// The target does not support it, or failed.
    pub fn clear(&mut self, unused: Unused, at: u64, len: u64) -> Result<(), Error> {
        match unused {
            Unused::Keep => return Ok(()),
            Unused::Discard if self.device && !block::can_discard(self.file()) => return Err(self.cannot_discard()),
            _ => self.begin()?,
        }
        // What is sealed is zero already, and a device may forget that when it discards it.
        let parts = self.seal.as_ref().map_or_else(|| vec![(at, at + len)], |seal| seal.outside(at, at + len));
        parts.into_iter().try_for_each(|(from, to)| self.clear_part(unused, from, to - from))
    }

    fn cannot_discard(&self) -> Error {
        Error::Refused(format!("{} cannot discard: leave out --discard", self.name()))
    }

    fn clear_part(&mut self, unused: Unused, at: u64, len: u64) -> Result<(), Error> {
        let start = self.medium.base() + at;
        let cleared = match (unused, self.device) {
            (Unused::Discard, true) => block::discard(self.file(), start, len),
            (Unused::Zero, true) => block::zero(self.file(), start, len),
            _ => {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(self.file(), hole, start, len).map_err(io::Error::from)
            }
        };
        match cleared {
            Err(error) if error.kind() == io::ErrorKind::Unsupported && unused == Unused::Discard => {
                Err(self.cannot_discard())
            }
            // The file is on a file system without holes.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let zeroes = vec![0; len.min(1 << 20) as usize];
                let mut done = 0;
                while done < len {
                    let part = (len - done).min(zeroes.len() as u64);
                    self.write_at(&zeroes[..part as usize], at + done)?;
                    done += part;
                }
                Ok(())
            }
            done => {
                done.map_err(|error| Error::io(format!("clear {len} bytes of {} at byte {at}", self.name()), error))
            }
        }
    }

    /// Reads the target's bytes at offset `at`, from the disk itself after [`Target::forget`], those under seal from memory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_at(&self, to: &mut [u8], at: u64) -> Result<(), Error> {
        match &self.seal {
            Some(seal) => seal.read_at(to, at),
            None => self.medium.read_at(to, at),
        }
    }

    /// Drops the target from the kernel's cache; everything must be on the disk already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self) -> Result<(), Error> {
        let dropped = match self.device {
            true => block::flush(self.file()),
            false => rustix::fs::fadvise(self.file(), 0, None, Advice::DontNeed).map_err(io::Error::from),
        };
        dropped.map_err(|error| Error::io(format!("drop {} from the cache", self.name()), error))
    }

    /// Waits until everything written is on the disk, but for what is under seal.
    ///
    /// # Errors
    /// The disk failed: the target is unusable.
    pub fn sync(&self) -> Result<(), Error> {
        self.medium.sync()
    }

    /// Brings everything to the disk and marks the target as complete: the seal is lifted, and compared if `verify` says so;
    /// a new file gets its name.
    ///
    /// # Errors
    /// The disk failed, or the name cannot be taken: another file has got it meanwhile. Nothing is left then.
    pub fn finish(&mut self, verify: bool) -> Result<(), Error> {
        if self.whole_blocks.is_some() {
            // Before the seal, which has the device's end, so that no part of a block is ever written as a whole one.
            self.sync()?;
            self.whole_blocks = None;
        }
        match &self.seal {
            None => self.sync()?,
            Some(seal) => {
                let mut lifted = seal.lift();
                if verify {
                    lifted = lifted.and_then(|()| self.forget()).and_then(|()| seal.compare());
                }
                if lifted.is_err() {
                    // The disk has failed already; that it takes this is not sure.
                    let _ = seal.close();
                }
                lifted?;
            }
        }
        self.reread_partitions();
        self.touched = false;
        let kept = self.made.take().map_or(Ok(()), |whole| whole.commit_new().map(drop));
        kept.map_err(|error| Error::io(format!("write {}", self.name()), error))
    }

    /// Returns `error` with the news that it was written to and not finished, so that it holds neither the old content nor
    /// the new.
    pub fn spoilt(&self, error: Error) -> Error {
        match self.touched && self.made.is_none() {
            true => Error::Refused(format!("{error}; {} was not finished and is unusable", self.name())),
            false => error,
        }
    }
}

/// Checks a target that another program is to open.
///
/// # Errors
/// It is in use, is where the bytes are that are read `from`, or a file among device nodes.
pub fn check(path: &Path, from: &[Place]) -> Result<(), Error> {
    let Ok(found) = path.metadata() else { return refuse_among_nodes(path, &path.display().to_string()) };
    if found.file_type().is_block_device() {
        return Target::plain(path, 0, from).map(drop);
    }
    let (name, to) = (path.display().to_string(), place::of_found(&found));
    place::apart(from, &to, &name)?;
    place::unused(&to, &name)
}

fn being_written(name: &str) -> Error {
    Error::Refused(format!("{name} is being written by another process: nothing was written"))
}

/// Refuses a target that holds what is read `from`, or whose bytes somebody has in another way.
fn guard(file: &File, name: &str, from: &[Place]) -> Result<(), Error> {
    let found = file.metadata().map_err(|error| Error::io(format!("open {name}"), error))?;
    let to = place::of_found(&found);
    place::apart(from, &to, name)?;
    place::unused(&to, name)
}

/// Keeps others from restoring to the same file until it is closed.
fn lock(file: &File, name: &str) -> Result<(), Error> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(being_written(name)),
        // A file system without locks (some FUSE) is no reason not to restore.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Refuses a file among device nodes, and names the devices that there are.
fn refuse_among_nodes(path: &Path, name: &str) -> Result<(), Error> {
    // What else is wrong with the directory shows when it is used.
    if !links::is_among_nodes(path).unwrap_or(false) {
        return Ok(());
    }
    let devices = block::names().join(", ");
    Err(Error::Refused(format!("there is no device {name}: nothing was written; there are {devices}")))
}

fn too_coarse(name: &str, sector: u32, but: &str) -> Error {
    Error::Refused(format!(
        "{name} has sectors of {sector} bytes, {but}: it could not be used there, and nothing was written; take a disk with \
         smaller sectors, or make the file system anew there and copy its files"
    ))
}

fn large_enough(name: &str, size: u64, least: u64) -> Result<(), Error> {
    if size < least {
        return Err(Error::Refused(format!("{name} has {size} bytes, the file system {least}: nothing was written")));
    }
    Ok(())
}

fn set_size(file: &File, name: &str, header: &Header) -> Result<(), Error> {
    file.set_len(header.target_size())
        .map_err(|error| Error::io(format!("make {name} {} bytes long", header.target_size()), error))
}
