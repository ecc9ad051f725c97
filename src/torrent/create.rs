//! Describing a file, a directory or a block device: making its metainfo file (BEP 3, 12, 19, 27).
//!
//! [`Source::open`] finds the files and their lengths, [`Source::describe`] reads and hashes them with several
//! threads and returns the metainfo's bytes, and [`write`](write()) stores these so that scanners of a directory see
//! either nothing or all of them.
//!
//! A directory's regular files are taken in the order of their paths, component by component, including those behind
//! symbolic links; directories behind symbolic links, sockets and the like are left out. A file that changes while
//! it is read is an error, because nobody could ever seed it.

use std::fs::{self, File, Metadata};
use std::io::{self, IoSliceMut, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

use super::bencode::{Dict, Encoder};
use super::{Error, Geometry, MAX_METAINFO, MAX_PIECE_LENGTH, Metainfo, hash_pieces};
use crate::base::sync::{lock, unpoisoned};
use crate::base::whole;

/// Bytes of one piece of advice. The kernel reads no more for one than the maximum of a request to the disk, which
/// is 512 KiB or more for all but old disks; the rest it reads on demand.
const ADVICE: u64 = 512 << 10;

/// Contents of a metainfo file besides the data.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Tiers of tracker URLs (BEP 12).
    pub announce: Vec<Vec<String>>,
    /// Bytes of a piece; `None`: by the length of the data (see [`piece_length_for`]).
    pub piece_length: Option<u32>,
    /// Free text.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// Whether peers may come from the tracker only (BEP 27).
    pub private: bool,
    /// Web seed URLs (BEP 19).
    pub web_seeds: Vec<String>,
    /// The name inside the torrent; `None`: the base name of the source.
    pub name: Option<String>,
}

/// The piece length for `length` bytes: from 256 KiB for small files up to 4 MiB from 4 GiB on. With 4 MiB a piece
/// is passed on after 36 ms at 1 Gbit/s, 20 GiB take 100 KiB of metainfo, and ctorrent, which accepts no longer
/// pieces, can join. Longer ones only where the hashes would not fit a metainfo file.
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

/// Files to describe, found and measured.
#[derive(Debug)]
pub struct Source {
    /// The path that was asked for.
    path: PathBuf,
    /// The base name as bytes.
    name: Vec<u8>,
    parts: Vec<Part>,
    directory: bool,
    length: u64,
}

#[derive(Debug)]
struct Part {
    /// The path to open it by.
    path: PathBuf,
    /// Its path below the directory; empty when it is the only file.
    below: PathBuf,
    /// Offset in the torrent, bytes.
    begin: u64,
    length: u64,
    changed: Option<SystemTime>,
}

impl Source {
    /// Finds the files of `path` and measures them.
    ///
    /// # Errors
    /// A file that cannot be read, or a path without data.
    pub fn open(path: &Path) -> Result<Source, Error> {
        let metadata = fs::metadata(path).map_err(failed("measure", path))?;
        // `.`, `..` and `/` too need a name that can be saved under.
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
                // The size of a device is known only from its end.
                kind if kind.is_block_device() => Ok((file.seek(SeekFrom::End(0))?, metadata)),
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file, directory or block device")),
            }
        };
        let (length, metadata) = measure().map_err(failed("measure", &path))?;
        let changed = metadata.is_file().then(|| metadata.modified().ok()).flatten();
        self.parts.push(Part { path, below, begin: self.length, length, changed });
        // The kernel addresses 2^63 bytes of a file, and two of those overflow a u64; no real torrent is that long.
        self.length = self.length.saturating_add(length);
        Ok(())
    }

    /// Total bytes of all files.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The geometry that results from `options`.
    pub fn geometry(&self, options: &Options) -> Geometry {
        Geometry::new(self.length, options.piece_length.unwrap_or_else(|| piece_length_for(self.length)))
    }

    /// Reads and hashes everything with `threads` threads, and returns the bytes of the metainfo file. `stop` is asked
    /// before each piece, `progress` takes the bytes of each that is done; both from any thread.
    ///
    /// # Errors
    /// The first piece of data that could not be read; data that changed meanwhile; a name that is none, or
    /// a piece length with which the hashes do not fit a metainfo file; a stop.
    pub fn describe(
        &self,
        options: &Options,
        threads: usize,
        stop: &(dyn Fn() -> bool + Sync),
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<u8>, Error> {
        let geometry = self.geometry(options);
        let refused = |error| Error::File { path: self.path.clone(), error: Box::new(error) };
        // Parsing would find this too; here it is found before an hour of hashing.
        if u64::from(geometry.pieces()) * 20 > MAX_METAINFO {
            return Err(refused(Error::TooLarge { limit: MAX_METAINFO }));
        }
        let hashes = self.hash(&geometry, threads, stop, progress)?;
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
        // Makes sure that the result can be read here, whatever name or piece length was asked for.
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
    fn hash(
        &self,
        geometry: &Geometry,
        threads: usize,
        stop: &(dyn Fn() -> bool + Sync),
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<u8>, Error> {
        let only = match self.parts.as_slice() {
            [part] => Some(part.open()?),
            _ => None,
        };
        let read = |offset: u64, into: &mut [u8]| self.read(only.as_ref(), offset, into);
        let drop_behind = only.as_ref().filter(|_| self.length > memory());

        let hashes = Mutex::new(vec![[0; 20]; geometry.pieces() as usize]);
        let failure = Mutex::new(None);
        let broken = AtomicBool::new(false);
        let done = |piece: u32, hash: io::Result<[u8; 20]>| {
            match hash {
                Ok(hash) => lock(&hashes)[piece as usize] = hash,
                Err(error) => {
                    broken.store(true, Ordering::Relaxed);
                    lock(&failure).get_or_insert(error);
                }
            }
            if let Some(file) = drop_behind {
                advise(file, geometry.piece_offset(piece), geometry.piece_size(piece).into(), Advice::DontNeed);
            }
            progress(geometry.piece_size(piece).into());
        };
        // The kernel sees the pieces' interleaved reads as random, so it is advised, in the order of the file, as
        // the threads take their pieces.
        let mut pieces = (0..geometry.pieces())
            .take_while(|_| !broken.load(Ordering::Relaxed) && !stop())
            .inspect(|piece| only.iter().for_each(|file| read_ahead(file, geometry, *piece)));
        hash_pieces(geometry, &mut pieces, threads, &read, &done);
        match unpoisoned(failure.into_inner()) {
            Some(error) => Err(failed("read", &self.path)(error)),
            None if stop() => Err(failed("read", &self.path)(io::Error::other("stopped before its end"))),
            None => Ok(unpoisoned(hashes.into_inner()).concat()),
        }
    }

    /// Fills `into` with the bytes from `offset`. `only` is the torrent's single file, if it has one, open.
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

    /// Fails if the file is no longer the one that was measured.
    fn unchanged(&self) -> Result<(), Error> {
        let Some(changed) = self.changed else { return Ok(()) };
        let now = fs::metadata(&self.path).map_err(failed("measure", &self.path))?;
        if now.len() == self.length && now.modified().ok() == Some(changed) {
            return Ok(());
        }
        Err(failed("describe", &self.path)(io::Error::other("it changed while it was read")))
    }
}

/// Explains the early end of a file that was measured before.
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

/// Collects the regular files below `top`/`below`, as paths below `top`.
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

/// Has the kernel read a piece in the background unless it is in memory: asking for cached data would cost a third
/// of the time that hashing takes.
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
    // Advice only: reading works whether or not the kernel follows it.
    let _ = rustix::fs::fadvise(file, offset, length.try_into().ok(), advice);
}

/// Memory of this machine, bytes.
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(info.mem_unit.into())
}

/// Writes a metainfo file under a name that scanners of the directory ignore, and renames it once it is complete and
/// on the disk.
///
/// # Errors
/// Without `replace`, a file of that name exists; or a write failed.
pub fn write(path: &Path, bytes: &[u8], replace: bool) -> Result<(), Error> {
    let written = if replace { whole::write(path, bytes) } else { whole::write_new(path, bytes) };
    written.map_err(failed("write", path))
}

#[cfg(test)]
mod tests;
