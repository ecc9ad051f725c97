//! Describing a file, a directory or a block device: making its metainfo file (BEP 3, 12, 19, 27).
//!
//! [`Source::open`] finds the files and their lengths, [`Source::describe`] reads and hashes them with
//! several threads and gives the metainfo's bytes, [`write`](fn@write) puts them where scanners of a directory see
//! either nothing or all of it.
//!
//! A directory's regular files are taken in the order of their paths, component by component, those behind
//! symbolic links too; directories behind symbolic links, sockets and the like are left out. A file that
//! changes while it is read is an error, because nobody could ever seed it.

use std::fs::{self, File, Metadata};
use std::io::{self, IoSliceMut, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Advice, RenameFlags};
use rustix::io::ReadWriteFlags;

use super::bencode::{Dict, Encoder};
use super::{Error, Geometry, MAX_METAINFO, MAX_PIECE_LENGTH, Metainfo, hash_pieces};

/// Bytes of one piece of advice. The kernel reads no more for one than a request to the disk may have, which
/// is 512 KiB or more for all but old disks; what it leaves out it reads when it is asked.
const ADVICE: u64 = 512 << 10;

/// What a metainfo file says besides the data.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Tiers of tracker URLs (BEP 12).
    pub announce: Vec<Vec<String>>,
    /// Bytes of a piece; chosen by the length of the data when absent (see [`piece_length_for`]).
    pub piece_length: Option<u32>,
    /// Free text.
    pub comment: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// Peers may come from the tracker only (BEP 27).
    pub private: bool,
    /// Web seed URLs (BEP 19).
    pub web_seeds: Vec<String>,
    /// The name inside the torrent, where it is not the base name of what is described.
    pub name: Option<String>,
}

/// The piece length for `length` bytes: from 256 KiB for small files up to 4 MiB from 4 GiB on. With 4 MiB
/// a piece is passed on after 36 ms at 1 Gbit/s, 20 GiB take 100 KiB of metainfo, and ctorrent, which knows
/// no longer pieces, can join. Longer ones only where the hashes would not fit a metainfo file.
pub fn piece_length_for(length: u64) -> u32 {
    let pieces = |piece_length: u32| length / u64::from(piece_length);
    let mut piece_length = 256 << 10;
    while (pieces(piece_length) >= 1024 && piece_length < 4 << 20)
        || (pieces(piece_length) > 3_000_000 && piece_length < MAX_PIECE_LENGTH)
    {
        piece_length *= 2;
    }
    piece_length
}

/// What is to be described: files that were found and measured.
#[derive(Debug)]
pub struct Source {
    /// What was asked for.
    path: PathBuf,
    /// The base name as bytes.
    name: Vec<u8>,
    parts: Vec<Part>,
    directory: bool,
    length: u64,
}

#[derive(Debug)]
struct Part {
    /// Where to open it.
    path: PathBuf,
    /// Its path below the directory; empty when it is the only file.
    below: PathBuf,
    /// Where it begins in the torrent.
    begin: u64,
    length: u64,
    changed: Option<SystemTime>,
}

impl Source {
    /// Finds the files of `path` and measures them.
    ///
    /// # Errors
    /// What cannot be read, and what holds no data.
    pub fn open(path: &Path) -> Result<Source, Error> {
        let metadata = fs::metadata(path).map_err(failed("measure", path))?;
        // Of `.`, `..` and `/` too the name must be one that can be saved under.
        let named = if path.file_name().is_some() { Ok(path.to_owned()) } else { path.canonicalize() };
        let named = named.map_err(failed("find the name of", path))?;
        let name = named.file_name().ok_or_else(|| failed("name", path)(io::ErrorKind::InvalidInput.into()))?;
        let mut source = Source {
            path: path.to_owned(),
            name: name.as_bytes().to_vec(),
            parts: Vec::new(),
            directory: metadata.is_dir(),
            length: 0,
        };
        if source.directory {
            let mut below = Vec::new();
            walk(path, Path::new(""), &mut below)?;
            crate::base::sort::sort(&mut below);
            for below in below {
                source.add(path.join(&below), below)?;
            }
        } else {
            source.add(path.to_owned(), PathBuf::new())?;
        }
        match source.length {
            0 => Err(failed("describe", path)(io::Error::new(io::ErrorKind::InvalidData, "it holds no data"))),
            _ => Ok(source),
        }
    }

    fn add(&mut self, path: PathBuf, below: PathBuf) -> Result<(), Error> {
        let measure = || -> io::Result<(u64, Metadata)> {
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            match metadata.file_type() {
                kind if kind.is_file() => Ok((metadata.len(), metadata)),
                // Only its end tells how long a device is.
                kind if kind.is_block_device() => Ok((file.seek(SeekFrom::End(0))?, metadata)),
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file, directory or block device")),
            }
        };
        let (length, metadata) = measure().map_err(failed("measure", &path))?;
        let changed = metadata.is_file().then(|| metadata.modified().ok()).flatten();
        self.parts.push(Part { path, below, begin: self.length, length, changed });
        // Of what the kernel can address, 2^63 bytes, no two fit a u64; beyond that nobody gets.
        self.length = self.length.saturating_add(length);
        Ok(())
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The geometry that `options` give.
    pub fn geometry(&self, options: &Options) -> Geometry {
        Geometry::new(self.length, options.piece_length.unwrap_or_else(|| piece_length_for(self.length)))
    }

    /// Reads and hashes everything with `threads` threads, and gives the bytes of the metainfo file.
    /// `progress` is told the bytes of each piece that is done, from any thread.
    ///
    /// # Errors
    /// The first piece of data that could not be read; data that changed meanwhile; a name that is none, or
    /// a piece length with which the hashes do not fit a metainfo file.
    pub fn describe(
        &self,
        options: &Options,
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<u8>, Error> {
        let geometry = self.geometry(options);
        let refused = |error| Error::File { path: self.path.clone(), error: Box::new(error) };
        // Found again when the whole is read; here, before an hour of hashing.
        if u64::from(geometry.pieces()) * 20 > MAX_METAINFO {
            return Err(refused(Error::TooLarge { limit: MAX_METAINFO }));
        }
        let hashes = self.hash(&geometry, threads, progress)?;
        self.parts.iter().try_for_each(Part::unchanged)?;

        let mut out = Encoder::new();
        out.dict(|top| {
            let tiers = || options.announce.iter().filter(|tier| !tier.is_empty());
            if let Some(url) = tiers().flatten().next() {
                top.bytes("announce", url);
            }
            if tiers().flatten().count() > 1 {
                top.list("announce-list", |list| {
                    tiers().for_each(|tier| list.list(|list| tier.iter().for_each(|url| list.bytes(url))));
                });
            }
            optional(top, "comment", options.comment.as_deref());
            optional(top, "created by", options.created_by.as_deref());
            if let Some(date) = options.creation_date {
                top.int("creation date", date);
            }
            top.dict("info", |info| self.info(info, &geometry, options, &hashes));
            match options.web_seeds.as_slice() {
                [] => {}
                [url] => top.bytes("url-list", url),
                urls => top.list("url-list", |list| urls.iter().for_each(|url| list.bytes(url))),
            }
        });
        let bytes = out.finish();
        // What is made here can be read here: whatever name or piece length was asked for.
        Metainfo::parse(&bytes).map_err(refused)?;
        Ok(bytes)
    }

    fn info(&self, info: &mut Dict, geometry: &Geometry, options: &Options, hashes: &[u8]) {
        if self.directory {
            info.list("files", |list| {
                for part in &self.parts {
                    list.dict(|file| {
                        file.int("length", part.length as i64);
                        file.list("path", |path| part.below.iter().for_each(|name| path.bytes(name.as_bytes())));
                    });
                }
            });
        } else {
            info.int("length", self.length as i64);
        }
        info.bytes("name", options.name.as_ref().map_or(self.name.as_slice(), |name| name.as_bytes()));
        info.int("piece length", geometry.piece_length().into());
        info.bytes("pieces", hashes);
        if options.private {
            info.int("private", 1);
        }
    }

    /// The SHA-1s of all pieces, one after the other.
    fn hash(&self, geometry: &Geometry, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<u8>, Error> {
        let only = match self.parts.as_slice() {
            [part] => Some(part.open()?),
            _ => None,
        };
        let read = |offset: u64, into: &mut [u8]| self.read(only.as_ref(), offset, into);
        let drop_behind = only.as_ref().filter(|_| self.length > memory());

        let hashes = Mutex::new(vec![[0; 20]; geometry.pieces() as usize]);
        let failure = Mutex::new(None);
        let stop = AtomicBool::new(false);
        let done = |piece: u32, hash: io::Result<[u8; 20]>| {
            match hash {
                Ok(hash) => hashes.lock().unwrap_or_else(PoisonError::into_inner)[piece as usize] = hash,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
            if let Some(file) = drop_behind {
                advise(file, geometry.piece_offset(piece), geometry.piece_size(piece).into(), Advice::DontNeed);
            }
            progress(geometry.piece_size(piece).into());
        };
        // Pieces are read side by side, which looks like no order at all to the kernel: it is told what
        // comes, in the order of the file, as the threads take their pieces.
        let mut pieces = (0..geometry.pieces())
            .take_while(|_| !stop.load(Ordering::Relaxed))
            .inspect(|piece| only.iter().for_each(|file| read_ahead(file, geometry, *piece)));
        hash_pieces(geometry, &mut pieces, threads, &read, &done);
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(failed("read", &self.path)(error)),
            None => Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner).concat()),
        }
    }

    /// Fills `into` from the files that have the bytes from `offset` on. `only` is the only one, open.
    fn read(&self, only: Option<&File>, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if let Some(file) = only {
            return file.read_exact_at(into, offset).map_err(shorter);
        }
        let mut at = offset;
        let mut rest = into;
        let first = self.parts.partition_point(|part| part.begin + part.length <= offset);
        for part in &self.parts[first..] {
            if rest.is_empty() {
                break;
            }
            let within = at - part.begin;
            let length = (part.length - within).min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(length);
            if length > 0 {
                let filled = File::open(&part.path).and_then(|file| file.read_exact_at(now, within));
                filled.map_err(|error| {
                    let error = shorter(error);
                    io::Error::new(error.kind(), format!("{}: {error}", part.below.display()))
                })?;
            }
            (rest, at) = (later, at + length as u64);
        }
        Ok(())
    }
}

impl Part {
    fn open(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(failed("open", &self.path))
    }

    /// Whether the file is still the one that was measured.
    fn unchanged(&self) -> Result<(), Error> {
        let Some(changed) = self.changed else { return Ok(()) };
        let now = fs::metadata(&self.path).map_err(failed("measure", &self.path))?;
        if now.len() == self.length && now.modified().ok() == Some(changed) {
            return Ok(());
        }
        Err(failed("describe", &self.path)(io::Error::other("it changed while it was read")))
    }
}

/// Says what the end of a file means that was measured before.
fn shorter(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it became shorter"),
        _ => error,
    }
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| Error::Io { doing, path: path.to_owned(), error }
}

fn optional(top: &mut Dict, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        top.bytes(key, value);
    }
}

/// The regular files below `top`/`below`, as paths below `top`.
fn walk(top: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let here = top.join(below);
    for entry in fs::read_dir(&here).map_err(failed("list", &here))? {
        let entry = entry.map_err(failed("list", &here))?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type().map_err(failed("measure", &entry.path()))?;
        if kind.is_dir() {
            walk(top, &path, found)?;
        } else if fs::metadata(entry.path()).map_err(failed("measure", &entry.path()))?.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Has the kernel read a piece in one go, in the background, unless it is in memory: looking for what is
/// there already would cost a third of the time that hashing it takes.
fn read_ahead(file: &File, geometry: &Geometry, piece: u32) {
    let begin = geometry.piece_offset(piece);
    let end = begin + u64::from(geometry.piece_size(piece));
    let in_memory = |at: u64| {
        let mut byte = [0];
        rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_ok()
    };
    if !(in_memory(begin) && in_memory(end - 1)) {
        (begin..end).step_by(ADVICE as usize).for_each(|at| advise(file, at, ADVICE.min(end - at), Advice::WillNeed));
    }
}

fn advise(file: &File, offset: u64, length: u64, advice: Advice) {
    // Advice is no promise: whatever the kernel makes of it, reading works.
    let _ = rustix::fs::fadvise(file, offset, length.try_into().ok(), advice);
}

/// Bytes of memory of this machine.
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(info.mem_unit.into())
}

/// Writes a metainfo file under a name that no scanner of the directory takes for one, and gives it its own
/// name when it is complete and on the disk.
///
/// # Errors
/// Without `replace`, a file of that name that is there already; whatever fails in writing.
pub fn write(path: &Path, bytes: &[u8], replace: bool) -> Result<(), Error> {
    let name = path.file_name().ok_or_else(|| failed("write", path)(io::ErrorKind::InvalidInput.into()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}~", std::process::id()));
    let hidden = path.with_file_name(hidden);
    let put = || -> io::Result<()> {
        let mut file = File::create_new(&hidden)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        rename(&hidden, path, replace)
    };
    let result = put().map_err(failed("write", path));
    if result.is_err() {
        // Whether it was made or not, it is not to stay.
        let _ = fs::remove_file(&hidden);
    }
    result
}

fn rename(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags) {
        // File systems without such a renaming (CIFS, some FUSE) can still link, which replaces nothing.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !replace => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests;
