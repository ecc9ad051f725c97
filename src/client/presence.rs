//! Which pieces of a torrent are on the disk already, and how the next run will know: Enhanced CTorrent's bitfield file
//! and the journal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::event::{Event, Evidence, Face};
use crate::base::signal::Signals;
use crate::base::sync::{lock, unpoisoned};
use crate::base::whole;
use crate::peer::Log;
use crate::storage::{Found, Journal, Storage, Vouched, check_some};
use crate::sys::cpus;
use crate::torrent::{Bitfield, Metainfo};

/// How far the traces of an earlier run are believed without hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The journal that was closed; of other pieces none before they are hashed.
    Journal,
    /// The bitfield file; without one the data is taken for whole.
    Everything,
    /// Nothing: all is hashed.
    Nothing,
}

/// The file that remembers an unfinished download's pieces: BEP 3's bitfield, raw.
pub struct BitfieldFile(PathBuf);

impl BitfieldFile {
    /// The file at `path`, whether it is there or not.
    pub fn new(path: PathBuf) -> BitfieldFile {
        BitfieldFile(path)
    }

    fn read(&self, pieces: u32) -> Claim {
        let Ok(bytes) = fs::read(&self.0) else { return Claim::Nothing };
        Bitfield::from_bytes(pieces, &bytes).map_or(Claim::Damaged, Claim::Pieces)
    }

    /// Removes the file: once pieces come it would be wrong.
    pub fn forget(&self) {
        // A file that cannot be removed is written again at the end.
        let _ = fs::remove_file(&self.0);
    }

    /// Writes the file while something is missing, and removes it when nothing is.
    pub fn save(&self, have: &Bitfield, log: &Log) {
        let done = if have.is_full() {
            fs::remove_file(&self.0).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        } else {
            whole::write(&self.0, have.as_bytes())
        };
        if let Err(error) = done {
            log(&format!("warn, bitfield file {}: {error}", self.0.display()));
        }
    }
}

/// The content of a bitfield file.
enum Claim {
    Pieces(Bitfield),
    /// There is no file.
    Nothing,
    /// It is not of this torrent, or was cut short.
    Damaged,
}

/// Finds out which pieces are on the disk.
pub struct Looker<'a> {
    pub metainfo: &'a Metainfo,
    pub storage: &'a Storage,
    pub trust: Trust,
    pub signals: &'a Signals,
}

impl Looker<'_> {
    /// Believes the bitfield file and the journal as far as `trust` goes, and hashes the rest: the bitfield file's
    /// pieces, as Enhanced CTorrent does, or all that was ever written. The result is of no use when a signal ended it.
    ///
    /// # Errors
    /// `face` failed.
    pub fn look(
        &self,
        found: Found,
        bitfield: &BitfieldFile,
        journal: Option<&Journal>,
        face: Face,
    ) -> io::Result<Bitfield> {
        let pieces = self.metainfo.geometry.pieces();
        if found == Found::Nothing {
            face(Event::Looking(Evidence::Nothing))?;
            return Ok(Bitfield::new(pieces));
        }
        match (self.trust, bitfield.read(pieces)) {
            (Trust::Nothing, _) => self.look_at_all(face),
            (Trust::Everything, Claim::Pieces(claimed)) => {
                face(Event::Looking(Evidence::BitfieldTrusted))?;
                Ok(self.without_absent(claimed))
            }
            (Trust::Everything, Claim::Nothing) => {
                face(Event::Looking(Evidence::Trusted))?;
                Ok(self.without_absent(Bitfield::full(pieces)))
            }
            // Something is missing, and nothing tells which pieces.
            (Trust::Everything, Claim::Damaged) => self.look_at_all(face),
            (Trust::Journal, claim) => match (journal.and_then(|journal| journal.read(self.storage)), claim) {
                (Some(journal), _) => self.look_at_doubts(journal, face),
                (None, Claim::Pieces(claimed)) => {
                    face(Event::Looking(Evidence::Bitfield))?;
                    self.hash(claimed.iter_ones().collect(), face)
                }
                (None, _) => self.look_at_all(face),
            },
        }
    }

    /// Hashes everything.
    ///
    /// # Errors
    /// `face` failed.
    pub fn look_at_all(&self, face: Face) -> io::Result<Bitfield> {
        face(Event::Looking(Evidence::Hash))?;
        self.hash((0..self.metainfo.geometry.pieces()).collect(), face)
    }

    /// Takes the pieces of a closed journal as they are. Of any other it hashes the pieces that it names, which may have
    /// changed since, and those that were written after its last record.
    fn look_at_doubts(&self, journal: Vouched, face: Face) -> io::Result<Bitfield> {
        let geometry = &self.metainfo.geometry;
        let pieces = geometry.pieces();
        if journal.closed {
            let known = journal.pieces;
            face(Event::Looking(Evidence::Journal { known: known.count(), pieces, doubtful: 0 }))?;
            return Ok(known);
        }
        let is_hole = |piece| self.storage.is_hole(geometry.piece_offset(piece), u64::from(geometry.piece_size(piece)));
        let doubtful: Vec<u32> = (0..pieces).filter(|piece| journal.pieces.get(*piece) || !is_hole(*piece)).collect();
        face(Event::Looking(Evidence::Journal { known: 0, pieces, doubtful: doubtful.len() }))?;
        self.hash(doubtful, face)
    }

    /// Returns `claimed` without the pieces of files that are not there, because they were not chosen.
    fn without_absent(&self, mut claimed: Bitfield) -> Bitfield {
        let geometry = &self.metainfo.geometry;
        let there = |piece| self.storage.is_there(geometry.piece_offset(piece), u64::from(geometry.piece_size(piece)));
        for piece in 0..claimed.len() {
            if !there(piece) {
                claimed.clear(piece);
            }
        }
        claimed
    }

    /// Hashes `pieces`, on all processors and until a signal ends it, and returns those that are right.
    fn hash(&self, pieces: Vec<u32>, face: Face) -> io::Result<Bitfield> {
        if pieces.is_empty() {
            return Ok(Bitfield::new(self.metainfo.geometry.pieces()));
        }
        let of = pieces.len() as u32;
        let mut pieces = pieces.into_iter().take_while(|_| !self.signals.ending());
        let progress = Mutex::new((0, Ok(()), &mut *face));
        let have = check_some(self.storage, self.metainfo, &mut pieces, cpus::count(), &|_| {
            let mut progress = lock(&progress);
            let (done, outcome, face) = &mut *progress;
            *done += 1;
            if outcome.is_ok() {
                *outcome = face(Event::Hashed { done: *done, of });
            }
        });
        unpoisoned(progress.into_inner()).1?;
        if !self.signals.ending() {
            face(Event::Checked)?;
        }
        Ok(have)
    }
}

/// Returns `path` with `end` behind its last name.
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    PathBuf::from(name)
}
