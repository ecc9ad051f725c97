//! The resume journal: which pieces were verified and have reached the medium.
//!
//! After a power cut or any other unclean end, only pieces that the journal cannot vouch for have to be hashed
//! again; after a clean stop, none. It is a head that names the content and the very files that hold it, followed by
//! records that are only ever appended. Each has a checksum, so a torn tail costs its own records and no more.
//!
//! A record says that a run of pieces is on the medium, and when the data last changed. The journal is believed only
//! while the data is as old as its last record says: exactly after a clean stop, and roughly after any other end,
//! when changes after the last record are unknown.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use kernels::lanes::sha1;

use super::{Error, Storage};
use crate::base::whole::Whole;
use crate::torrent::{Bitfield, Metainfo};

/// The first bytes of a journal, including its version.
const MAGIC: &[u8; 16] = b"ogbox journal 1\n";
/// Bytes of the head: the magic and the SHA-1 of the journaled content.
const HEAD: usize = MAGIC.len() + 20;
/// Bytes of a record: first piece, number of pieces (0: clean stop), time of the data's last change in nanoseconds,
/// CRC-32 of these; big-endian.
const RECORD: usize = 20;
/// The longest journal that is read, bytes.
const LONGEST: u64 = 16 << 20;
/// Tolerated difference between the data's last change and that of the last record after an unclean end,
/// nanoseconds: a journal is behind by seconds, and so are a file system's times on the medium.
const DRIFT: u64 = 120_000_000_000;
/// A change of the data this much later than the last record's makes a record due even without a new piece,
/// nanoseconds.
const KEPT_UP: u64 = DRIFT / 4;

/// The journal of one torrent's files.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    head: [u8; HEAD],
    /// The head that another run would have written: files made since then did not exist.
    head_before: [u8; HEAD],
    /// Open for appending; `None` until this run has written it.
    file: Option<File>,
    recorded: Bitfield,
    /// Time of the data's last change as of the last record, nanoseconds.
    stamp: u64,
}

/// A journal's statement about a torrent's pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Verified, and on the medium.
    pub pieces: Bitfield,
    /// Whether it was closed cleanly: pieces it does not name are not here.
    pub closed: bool,
}

impl Journal {
    /// Suffix of a journal's name, after the name of the data. OpenGnsys' console takes every file in a cache for an
    /// image unless its suffix is that of an accompanying file.
    pub const END: &str = ".torrent.journal";

    /// Creates the journal at `path` for the data of `storage`; the file need not exist.
    ///
    /// # Errors
    /// A file of the torrent cannot be examined.
    pub fn new(path: PathBuf, metainfo: &Metainfo, storage: &Storage) -> Result<Journal, Error> {
        let head = |before| -> Result<[u8; HEAD], Error> {
            let identity = [&metainfo.info_hash.0[..], &storage.identity(before)?].concat();
            let mut head = [0; HEAD];
            head[..MAGIC.len()].copy_from_slice(MAGIC);
            head[MAGIC.len()..].copy_from_slice(&sha1(&identity));
            Ok(head)
        };
        let recorded = Bitfield::new(metainfo.geometry.pieces());
        Ok(Journal { path, head: head(false)?, head_before: head(true)?, file: None, recorded, stamp: 0 })
    }

    /// Whether the journal's file exists, whatever it holds.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Reads its statement about the data as it is now; `None` if it is about something else, unreadable, or too
    /// old.
    pub fn read(&self, storage: &Storage) -> Option<Vouched> {
        fs::metadata(&self.path).ok().filter(|journal| journal.is_file() && journal.len() <= LONGEST)?;
        let modified = storage.modified(true).ok()?;
        vouched(&fs::read(&self.path).ok()?, &self.head_before, self.recorded.len(), modified)
    }

    /// Brings the data to the medium, then records the new pieces of `have`. All of `have` must have been written
    /// before the call.
    ///
    /// # Errors
    /// The data could not be brought to the medium ([`Failed::Data`]), or the journal could not be written: then it
    /// must not be used any more, but its earlier records still stand.
    pub fn record(&mut self, storage: &Storage, have: &Bitfield) -> Result<(), Failed> {
        let modified = storage.modified(false).map_err(Failed::Data)?;
        let mut news = runs(have, &self.recorded);
        if !news.is_empty() {
            storage.sync().map_err(Failed::Data)?;
        } else if self.file.is_some() {
            // Only the time is new; a run that is known already can carry it.
            match (0..have.len()).find(|piece| self.recorded.get(*piece)) {
                Some(piece) if modified.saturating_sub(self.stamp) > KEPT_UP => news.push((piece, 1)),
                _ => return Ok(()),
            }
        }
        let mut bytes = Vec::new();
        news.iter().for_each(|(first, count)| bytes.extend_from_slice(&record(*first, *count, modified)));
        self.append(&bytes).map_err(|cause| Failed::Journal(Error::io("write", &self.path, cause)))?;
        for (first, count) in news {
            (first..first + count).for_each(|piece| _ = self.recorded.set(piece));
        }
        self.stamp = modified;
        Ok(())
    }

    /// Closes it cleanly: nothing writes to the data any more, and no pieces but those of `have` are here.
    ///
    /// # Errors
    /// As [`record`](Journal::record).
    pub fn close(mut self, storage: &Storage, have: &Bitfield) -> Result<(), Failed> {
        storage.sync_all().map_err(Failed::Data)?;
        self.record(storage, have)?;
        let modified = storage.modified(false).map_err(Failed::Data)?;
        self.append(&record(0, 0, modified)).map_err(|cause| Failed::Journal(Error::io("write", &self.path, cause)))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            return file.sync_data();
        }
        // The first time it is written anew.
        let mut whole = Whole::create(&self.path)?;
        whole.file().write_all(&[&self.head, bytes].concat())?;
        self.file = Some(whole.commit()?);
        Ok(())
    }
}

/// Why nothing could be recorded.
#[derive(Debug)]
pub enum Failed {
    /// The data did not reach the medium.
    Data(Error),
    /// The journal itself could not be written.
    Journal(Error),
}

fn record(first: u32, count: u32, stamp: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&first.to_be_bytes());
    record[4..8].copy_from_slice(&count.to_be_bytes());
    record[8..16].copy_from_slice(&stamp.to_be_bytes());
    let sum = crc32fast::hash(&record[..16]);
    record[16..].copy_from_slice(&sum.to_be_bytes());
    record
}

/// First piece, number of pieces and time of a record; `None` if it is torn.
fn parse(record: &[u8; RECORD]) -> Option<(u32, u32, u64)> {
    let [a, b, c, d, e] = *record.as_chunks::<4>().0 else { return None };
    let number = u32::from_be_bytes;
    let stamp = u64::from(number(c)) << 32 | u64::from(number(d));
    (crc32fast::hash(&record[..16]) == number(e)).then_some((number(a), number(b), stamp))
}

/// Runs of members of `have` that `recorded` lacks: first piece and number.
fn runs(have: &Bitfield, recorded: &Bitfield) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for piece in (0..have.len()).filter(|piece| have.get(*piece) && !recorded.get(*piece)) {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == piece => *count += 1,
            _ => runs.push((piece, 1)),
        }
    }
    runs
}

/// Reads the journal `bytes` of the content that `head` names and that last changed at `modified`.
fn vouched(bytes: &[u8], head: &[u8; HEAD], pieces: u32, modified: u64) -> Option<Vouched> {
    let records = bytes.strip_prefix(head)?;
    let mut vouched = Vouched { pieces: Bitfield::new(pieces), closed: false };
    let mut last = None;
    for (first, count, stamp) in records.as_chunks::<RECORD>().0.iter().map_while(parse) {
        // Nothing may follow the end, and no piece may lie beyond the torrent.
        if vouched.closed || first.checked_add(count).is_none_or(|end| end > pieces) {
            return None;
        }
        vouched.closed = count == 0;
        // Stops at a known piece: a journal made to cost time costs little.
        (first..first + count).take_while(|piece| vouched.pieces.set(*piece)).for_each(drop);
        last = Some(stamp);
    }
    let stamp = last?;
    let drift = if vouched.closed { 0 } else { DRIFT };
    (stamp.abs_diff(modified) <= drift).then_some(vouched)
}

#[cfg(test)]
mod tests;
