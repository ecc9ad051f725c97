//! The metainfo file, `.torrent` (BEP 3; 12 tiers of trackers, 19 web seeds, 27 private, 47 pad files).
//!
//! Every other room can rely on what is parsed here: the piece count agrees with the lengths, lengths do not
//! overflow, and no path leaves its directory, names the same file twice or goes through a file. Unknown keys are
//! ignored. A torrent without any data is refused: an image of 0 bytes is a mistake that should show at once, and no
//! other code needs to consider a torrent without pieces. Symbolic links (attribute `l` of BEP 47) are never made:
//! such an entry is read as the empty file it claims to be.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kernels::lanes;

use super::bencode::{self, Value};
use super::{Error, Geometry, InfoHash};
use crate::base::sort::sort;

/// The largest metainfo file that is read, in bytes: 3 million pieces.
pub const MAX_METAINFO: u64 = 64 << 20;

/// The largest piece length that is accepted, in bytes.
pub const MAX_PIECE_LENGTH: u32 = 256 << 20;

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Path of the file, relative and safe to join to a directory. In a torrent of several files it is below the
    /// torrent's own name; a single-file torrent's only path is that name.
    pub path: PathBuf,
    /// Length in bytes.
    pub length: u64,
    /// Whether it is zeros that only fill up a piece, never to be written (BEP 47).
    pub pad: bool,
}

/// A torrent's description, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// SHA-1 over the info dictionary as found.
    pub info_hash: InfoHash,
    /// The suggested name of the file or directory, safe as a file name; bytes that are not UTF-8 become U+FFFD.
    pub name: String,
    /// Lengths of the data and of the pieces.
    pub geometry: Geometry,
    /// The files in the order of their data.
    pub files: Vec<FileEntry>,
    /// Whether the files are inside a directory called `name`, even if there is only one.
    pub multi_file: bool,
    /// Tiers of tracker URLs (BEP 12); a lone `announce` is one tier of one.
    pub announce: Vec<Vec<String>>,
    /// Web seed URLs (BEP 19).
    pub web_seeds: Vec<String>,
    /// Whether peers may come from the tracker only (BEP 27).
    pub private: bool,
    /// Free text; OpenGnsys keeps the image's MD5 here.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// Creation time, seconds since 1970.
    pub creation_date: Option<i64>,
    /// The info dictionary as found.
    info: Vec<u8>,
    /// Span of the piece hashes in `info`.
    hashes: Range<usize>,
}

impl Metainfo {
    /// Reads a metainfo file's bytes.
    ///
    /// # Errors
    /// [`Error::Bencode`], [`Error::Missing`], [`Error::Value`], [`Error::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, Error> {
        if bytes.len() as u64 > MAX_METAINFO {
            return Err(Error::TooLarge { limit: MAX_METAINFO });
        }
        let top = bencode::decode(bytes)?;
        if top.dict().is_none() {
            return Err(wrong("the metainfo", &top, "is not a dictionary"));
        }
        let info = top.get(b"info").ok_or(Error::Missing { key: "info" })?;
        Ok(Metainfo {
            announce: tiers(&top),
            web_seeds: web_seeds(&top),
            comment: text(&top, b"comment"),
            created_by: text(&top, b"created by"),
            creation_date: top.get(b"creation date").and_then(|date| date.int()),
            ..Metainfo::from_info_value(&info)?
        })
    }

    /// Reads a bare info dictionary, as peers hand it out (BEP 9).
    ///
    /// # Errors
    /// As [`Metainfo::parse`].
    pub fn from_info(bytes: &[u8]) -> Result<Metainfo, Error> {
        Metainfo::from_info_value(&bencode::decode(bytes)?)
    }

    /// Reads a metainfo file.
    ///
    /// # Errors
    /// The file's name, and the error of reading it or the fault in its contents.
    pub fn read(path: &Path) -> Result<Metainfo, Error> {
        let io = |error| Error::Io { doing: "read", path: path.to_owned(), error };
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_METAINFO + 1).read_to_end(&mut bytes)).map_err(io)?;
        Metainfo::parse(&bytes).map_err(|error| Error::File { path: path.to_owned(), error: Box::new(error) })
    }

    /// The SHA-1 that `piece` must have; all zeros for a piece that does not exist.
    pub fn piece_hash(&self, piece: u32) -> [u8; 20] {
        self.info[self.hashes.clone()].as_chunks().0.get(piece as usize).copied().unwrap_or_default()
    }

    /// The info dictionary's bytes, as found.
    pub fn info_bytes(&self) -> &[u8] {
        &self.info
    }

    fn from_info_value(info: &Value) -> Result<Metainfo, Error> {
        if info.dict().is_none() {
            return Err(wrong("info", info, "is not a dictionary"));
        }
        let piece_length = piece_length(info)?;
        let (name, name_bytes) = name(info)?;
        let (files, multi_file) = match (info.get(b"files"), info.get(b"length")) {
            (Some(list), None) => (files(&list)?, true),
            (None, Some(length)) => {
                let path = PathBuf::from(OsStr::from_bytes(name_bytes));
                let length = size("info.length", &length)?;
                (vec![FileEntry { path, length, pad: is_pad(info) }], false)
            }
            (Some(list), Some(_)) => return Err(wrong("info.files", &list, "is present together with info.length")),
            (None, None) => return Err(Error::Missing { key: "info.length" }),
        };
        let length = files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.length))
            .filter(|sum| i64::try_from(*sum).is_ok())
            .ok_or_else(|| wrong("info.files", info, "has lengths whose sum exceeds 64 bits"))?;
        if length == 0 {
            return Err(wrong("info", info, "describes no data: 0 bytes"));
        }
        let geometry = Geometry::new(length, piece_length);
        let hashes = hashes(info, length.div_ceil(u64::from(piece_length)))?;
        Ok(Metainfo {
            info_hash: InfoHash(lanes::sha1(info.raw())),
            name,
            geometry,
            files,
            multi_file,
            announce: Vec::new(),
            web_seeds: Vec::new(),
            private: info.get(b"private").and_then(|private| private.int()).is_some_and(|private| private != 0),
            comment: None,
            created_by: None,
            creation_date: None,
            info: info.raw().to_vec(),
            hashes,
        })
    }

    /// Returns for each file the pieces that it has bytes in.
    pub fn spans(&self) -> Vec<Range<u32>> {
        let piece_length = u64::from(self.geometry.piece_length());
        let mut start = 0;
        let span = |length: u64| {
            let first = start / piece_length;
            start += length;
            let end = if length == 0 { first } else { start.div_ceil(piece_length) };
            first as u32..end as u32
        };
        self.files.iter().map(|file| file.length).map(span).collect()
    }
}

fn wrong(key: &'static str, value: &Value, why: impl Into<String>) -> Error {
    Error::Value { key, at: value.at(), why: why.into() }
}

fn piece_length(info: &Value) -> Result<u32, Error> {
    let value = info.get(b"piece length").ok_or(Error::Missing { key: "info.piece length" })?;
    let length = value.int().ok_or_else(|| wrong("info.piece length", &value, "is not an integer"))?;
    match u32::try_from(length) {
        Ok(length) if (1..=MAX_PIECE_LENGTH).contains(&length) => Ok(length),
        _ => {
            Err(wrong("info.piece length", &value, format!("is {length}, not between 1 and {MAX_PIECE_LENGTH} bytes")))
        }
    }
}

/// The span of the piece hashes in the info dictionary, `pieces` of them.
fn hashes(info: &Value, pieces: u64) -> Result<Range<usize>, Error> {
    let Some(value) = info.get(b"pieces") else {
        return Err(match info.get(b"meta version") {
            Some(version) => wrong("info.meta version", &version, "says that this is not a version 1 torrent"),
            None => Error::Missing { key: "info.pieces" },
        });
    };
    let bytes = value.bytes().ok_or_else(|| wrong("info.pieces", &value, "is not a string"))?;
    if !bytes.len().is_multiple_of(20) {
        return Err(wrong("info.pieces", &value, format!("has {} bytes, not a multiple of 20", bytes.len())));
    }
    if bytes.len() as u64 / 20 != pieces {
        return Err(wrong(
            "info.pieces",
            &value,
            format!("has {} hashes, but the lengths make {pieces} pieces", bytes.len() / 20),
        ));
    }
    let end = value.at() - info.at() + value.raw().len();
    Ok(end - bytes.len()..end)
}

fn size(key: &'static str, value: &Value) -> Result<u64, Error> {
    let length = value.int().ok_or_else(|| wrong(key, value, "is not an integer"))?;
    u64::try_from(length).map_err(|_| wrong(key, value, format!("is {length}, below 0")))
}

/// Validates a name that must be exactly one component of a path.
fn component<'a>(key: &'static str, value: &Value<'a>) -> Result<&'a [u8], Error> {
    let bytes = value.bytes().ok_or_else(|| wrong(key, value, "is not a string"))?;
    if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(wrong(key, value, format!("is \"{}\", which is no file name", bytes.escape_ascii())));
    }
    Ok(bytes)
}

fn name<'a>(info: &Value<'a>) -> Result<(String, &'a [u8]), Error> {
    let value = info.get(b"name").ok_or(Error::Missing { key: "info.name" })?;
    let bytes = component("info.name", &value)?;
    Ok((String::from_utf8_lossy(bytes).into_owned(), bytes))
}

fn is_pad(entry: &Value) -> bool {
    entry.get(b"attr").and_then(|attr| attr.bytes()).is_some_and(|attr| attr.contains(&b'p'))
}

fn files(list: &Value) -> Result<Vec<FileEntry>, Error> {
    let entries = list.list().ok_or_else(|| wrong("info.files", list, "is not a list"))?;
    let files: Vec<FileEntry> = entries.map(|entry| file(&entry)).collect::<Result<_, Error>>()?;
    // Sorted by component, a path stands right before the paths below it. Pad files may share names.
    let mut paths: Vec<&Path> = files.iter().filter(|file| !file.pad).map(|file| file.path.as_path()).collect();
    sort(&mut paths);
    match paths.windows(2).find(|pair| pair[1].starts_with(pair[0])) {
        Some(pair) if pair[0] == pair[1] => {
            Err(wrong("info.files", list, format!("has \"{}\" twice", pair[0].display())))
        }
        Some(pair) => {
            Err(wrong("info.files", list, format!("has \"{}\" as a file and as a directory", pair[0].display())))
        }
        None => Ok(files),
    }
}

fn file(entry: &Value) -> Result<FileEntry, Error> {
    const PATH: &str = "info.files.path";
    let length = entry.get(b"length").ok_or(Error::Missing { key: "info.files.length" })?;
    let path = entry.get(b"path").ok_or(Error::Missing { key: PATH })?;
    let components = path.list().ok_or_else(|| wrong(PATH, &path, "is not a list"))?;
    let joined =
        components.map(|part| component(PATH, &part).map(OsStr::from_bytes)).collect::<Result<PathBuf, Error>>()?;
    if joined.as_os_str().is_empty() {
        return Err(wrong(PATH, &path, "is empty"));
    }
    Ok(FileEntry { path: joined, length: size("info.files.length", &length)?, pad: is_pad(entry) })
}

/// Tiers of trackers: BEP 12's list, else BEP 3's single one. Values that are not text are skipped: other trackers
/// may work.
fn tiers(top: &Value) -> Vec<Vec<String>> {
    let list = top.get(b"announce-list").and_then(|list| list.list()).into_iter().flatten();
    let mut tiers: Vec<Vec<String>> = list.map(|tier| urls(&tier)).filter(|tier| !tier.is_empty()).collect();
    if tiers.is_empty() {
        tiers.extend(top.get(b"announce").map(|url| urls(&url)).filter(|tier| !tier.is_empty()));
    }
    tiers
}

fn web_seeds(top: &Value) -> Vec<String> {
    top.get(b"url-list").map(|list| urls(&list)).unwrap_or_default()
}

/// A string or a list of strings, without the empty ones.
fn urls(value: &Value) -> Vec<String> {
    let one = value.str().into_iter();
    let many = value.list().into_iter().flatten().filter_map(|url| url.str());
    one.chain(many).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

fn text(top: &Value, key: &[u8]) -> Option<String> {
    top.get(key)?.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests;
