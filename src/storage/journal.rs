//! The resume journal: which pieces were verified and have reached the medium.
//!
//! It is a head that names the content and the very files that hold it, followed by records that are only ever
//! appended. Each has a checksum, so a torn tail costs its own records and no more.
//!
//! A record says that a run of pieces is on the medium; the last one, that the journal was closed and which times the
//! files had then. A closed journal spares all hashing while the files have exactly these times. It is closed by a
//! clean stop, and as soon as everything is here. After a power cut or any other unclean end before that, nothing
//! tells a later change of the files from the download's own: what was written is hashed again, and the journal spares
//! only what never was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use kernels::lanes::sha1;

use super::{Error, Storage};
use crate::base::whole::Whole;
use crate::torrent::{Bitfield, Metainfo};

/// The first bytes of a journal, including its version.
const MAGIC: &[u8; 16] = b"ogbox journal 2\n";
/// Bytes of the head: the magic and the SHA-1 of the journaled content.
const HEAD: usize = MAGIC.len() + 20;
/// Bytes of a record: first piece, number of pieces (0: closed), digest of the files' times when it was closed (0
/// before), CRC-32 of these; big-endian.
const RECORD: usize = 20;
/// The longest journal that is read, bytes.
const LONGEST: u64 = 16 << 20;

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
    /// Digest of the files' times before this run looked at them; `None` once this run writes to them.
    unwritten: Option<u64>,
    closed: bool,
}

/// A journal's statement about a torrent's pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Verified, and brought to the medium.
    pub pieces: Bitfield,
    /// Whether it was closed and the files have not changed since: these pieces are here, and no others. Otherwise
    /// they were written, and may have changed.
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
        Ok(Journal {
            path,
            head: head(false)?,
            head_before: head(true)?,
            file: None,
            recorded: Bitfield::new(metainfo.geometry.pieces()),
            unwritten: Some(storage.times(false)?),
            closed: false,
        })
    }

    /// Whether the journal's file exists, whatever it holds.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Reads its statement about the data as it is now; `None` if it is about something else, unreadable, or was
    /// closed before the data changed.
    pub fn read(&self, storage: &Storage) -> Option<Vouched> {
        fs::metadata(&self.path).ok().filter(|journal| journal.is_file() && journal.len() <= LONGEST)?;
        let times = storage.times(true).ok()?;
        let mut vouched = vouched(&fs::read(&self.path).ok()?, &self.head_before, self.recorded.len(), times)?;
        // Nothing shows whether a device changed.
        vouched.closed &= !storage.has_device();
        Some(vouched)
    }

    /// Prepares for this run's writing to the data: closing takes the files' times of then. Without it, it takes those
    /// from before the data was looked at, so that no change that another program makes meanwhile is missed.
    pub fn begin(&mut self) {
        self.unwritten = None;
    }

    /// Brings the data to the medium, then records the new pieces of `have`. All of `have` must have been written
    /// before the call.
    ///
    /// # Errors
    /// The data could not be brought to the medium ([`Failed::Data`]), or the journal could not be written: then it
    /// must not be used any more, but its earlier records still stand.
    pub fn record(&mut self, storage: &Storage, have: &Bitfield) -> Result<(), Failed> {
        if self.closed {
            // More is written than was expected: what was closed no longer holds.
            self.recorded = Bitfield::new(have.len());
            (self.file, self.unwritten, self.closed) = (None, None, false);
        }
        let news = runs(have, &self.recorded);
        if !news.is_empty() {
            storage.sync().map_err(Failed::Data)?;
        } else if self.file.is_some() {
            return Ok(());
        }
        let bytes: Vec<u8> = news.iter().flat_map(|(first, count)| record(*first, *count, 0)).collect();
        self.append(&bytes)?;
        for (first, count) in news {
            (first..first + count).for_each(|piece| _ = self.recorded.set(piece));
        }
        Ok(())
    }

    /// Closes it: nothing writes to the data any more, and no pieces but those of `have` are here. What is closed
    /// stays as it is: a change of the data after that is not this program's.
    ///
    /// # Errors
    /// As [`record`](Journal::record).
    pub fn close(&mut self, storage: &Storage, have: &Bitfield) -> Result<(), Failed> {
        if self.closed {
            return Ok(());
        }
        storage.sync_all().map_err(Failed::Data)?;
        let times = match self.unwritten {
            Some(times) => times,
            None => storage.settled_times().map_err(Failed::Data)?,
        };
        let news = runs(have, &self.recorded).into_iter().map(|(first, count)| record(first, count, 0));
        // In one go: a new journal is there whole, or not at all.
        let bytes: Vec<u8> = news.chain([record(0, 0, times)]).flatten().collect();
        self.append(&bytes)?;
        self.closed = true;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.put(bytes).map_err(|cause| Failed::Journal(Error::io("write", &self.path, cause)))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            return file.sync_data();
        }
        // The first time it is written anew, in the place of whatever has its name: a link would lead elsewhere.
        let mut whole = Whole::create_at(&self.path)?;
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

fn record(first: u32, count: u32, times: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&first.to_be_bytes());
    record[4..8].copy_from_slice(&count.to_be_bytes());
    record[8..16].copy_from_slice(&times.to_be_bytes());
    let sum = crc32fast::hash(&record[..16]);
    record[16..].copy_from_slice(&sum.to_be_bytes());
    record
}

/// First piece, number of pieces and digest of the times of a record; `None` if it is torn.
fn parse(record: &[u8; RECORD]) -> Option<(u32, u32, u64)> {
    let [a, b, c, d, e] = *record.as_chunks::<4>().0 else { return None };
    let number = u32::from_be_bytes;
    let times = u64::from(number(c)) << 32 | u64::from(number(d));
    (crc32fast::hash(&record[..16]) == number(e)).then_some((number(a), number(b), times))
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

/// Reads the journal `bytes` of the content that `head` names and whose files have the `times` of this digest.
fn vouched(bytes: &[u8], head: &[u8; HEAD], pieces: u32, times: u64) -> Option<Vouched> {
    let records = bytes.strip_prefix(head)?;
    let mut vouched = Vouched { pieces: Bitfield::new(pieces), closed: false };
    let mut last = None;
    for (first, count, recorded) in records.as_chunks::<RECORD>().0.iter().map_while(parse) {
        // Nothing may follow the end, and no piece may lie beyond the torrent.
        if vouched.closed || first.checked_add(count).is_none_or(|end| end > pieces) {
            return None;
        }
        vouched.closed = count == 0;
        // Stops at a known piece: a journal made to cost time costs little.
        (first..first + count).take_while(|piece| vouched.pieces.set(*piece)).for_each(drop);
        last = Some(recorded);
    }
    let recorded = last?;
    (!vouched.closed || recorded == times).then_some(vouched)
}

#[cfg(test)]
mod tests;
