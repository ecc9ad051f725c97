//! What of a torrent is here already, and how the next run will know: the namesake's bitfield file and the journal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::status::Teller;
use super::{Io, Run, info};
use crate::applets::Failure;
use crate::applets::announcing::complain;
use crate::peer::Torrent;
use crate::storage::{Failed, Found, Journal, Storage, check_some};
use crate::sys::signal::Signals;
use crate::torrent::{Bitfield, Metainfo};

/// Pause between two records of the journal: what is lost at the most, and has to be hashed again.
const PAUSE: Duration = Duration::from_secs(3);
/// Time that connections get to end before the journal is closed.
const PARTING: Duration = Duration::from_secs(1);

/// The file that remembers an unfinished download's pieces: BEP 3's bitfield, raw.
pub struct BitfieldFile(PathBuf);

impl BitfieldFile {
    /// As `-b` names it, or beside the torrent.
    pub fn of(options: &Run, torrent: &Path) -> BitfieldFile {
        BitfieldFile(options.bitfield.clone().unwrap_or_else(|| with_end(torrent, ".bf")))
    }

    /// What it claims.
    fn read(&self, pieces: u32) -> Claim {
        let Ok(bytes) = fs::read(&self.0) else { return Claim::Nothing };
        Bitfield::from_bytes(pieces, &bytes).map_or(Claim::Damaged, Claim::Pieces)
    }

    /// Removes it, as the namesake does: once pieces come it would be wrong.
    pub fn forget(&self) {
        // What cannot be removed is written again at the end.
        let _ = fs::remove_file(&self.0);
    }

    /// Kept while something is missing, removed when nothing is.
    pub fn save(&self, have: &Bitfield) {
        let done = if have.is_full() {
            fs::remove_file(&self.0).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        } else {
            fs::write(&self.0, have.as_bytes())
        };
        if let Err(error) = done {
            complain(&format!("warn, bitfield file {}: {error}", self.0.display()));
        }
    }
}

/// What a bitfield file says.
enum Claim {
    Pieces(Bitfield),
    /// There is none.
    Nothing,
    /// It is not of this torrent, or was cut short.
    Damaged,
}

/// `path` with `end` behind its last name.
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// Finds out what of a torrent is here.
pub struct Looker<'a> {
    pub options: &'a Run,
    pub metainfo: &'a Metainfo,
    pub storage: &'a Storage,
    pub target: &'a Path,
    pub signals: &'a Signals,
}

impl Looker<'_> {
    /// Believes the bitfield file as `-f` says, the journal as far as it goes, and hashes the rest: of what the
    /// bitfield file claims, as the namesake does, or of all that was ever written. What it gives is of no use when a
    /// signal ended it.
    pub fn look(
        &self,
        found: Found,
        bitfield: &BitfieldFile,
        journal: Option<&Journal>,
        teller: &mut Teller,
        io: &mut Io,
    ) -> Result<Bitfield, Failure> {
        let pieces = self.metainfo.geometry.pieces();
        let claim = bitfield.read(pieces);
        if found == Found::Nothing {
            if self.options.force {
                writeln!(io.err, "Files were not present; overriding force mode!")?;
            }
            return Ok(Bitfield::new(pieces));
        }
        if self.options.check {
            return self.check_all(teller, io);
        }
        if self.options.force {
            match claim {
                Claim::Pieces(claimed) => {
                    writeln!(io.out, "Found bit field file; resuming download from previous state.")?;
                    return Ok(self.without_absent(claimed));
                }
                Claim::Nothing => {
                    writeln!(
                        io.out,
                        "Skipping hash checks and forcing seed mode.\n\
                         -----> STOP NOW if you have not downloaded the whole torrent! <-----"
                    )?;
                    return Ok(self.without_absent(Bitfield::full(pieces)));
                }
                // Something is missing, and nobody knows what.
                Claim::Damaged => return self.hash((0..pieces).collect(), teller, io),
            }
        }
        let vouched = journal.and_then(|journal| journal.read(self.storage));
        let Some(vouched) = vouched else {
            return match claim {
                Claim::Pieces(claimed) => {
                    writeln!(io.out, "Found bit field file; verifying previous state.")?;
                    self.hash(claimed.iter_ones().collect(), teller, io)
                }
                _ => self.hash((0..pieces).collect(), teller, io),
            };
        };
        let geometry = &self.metainfo.geometry;
        let written =
            |piece: &u32| !self.storage.is_hole(geometry.piece_offset(*piece), u64::from(geometry.piece_size(*piece)));
        let doubtful: Vec<u32> =
            if vouched.closed { Vec::new() } else { vouched.pieces.iter_zeros().filter(written).collect() };
        let (known, doubts) = (vouched.pieces.count(), doubtful.len());
        writeln!(io.out, "Found journal; {known} of {pieces} pieces are vouched for, {doubts} to be hashed.")?;
        let mut have = self.hash(doubtful, teller, io)?;
        for piece in vouched.pieces.iter_ones() {
            have.set(piece);
        }
        Ok(have)
    }

    /// Without the pieces of files that are not there, because they were not chosen.
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

    /// `-c`: hashes everything and says what is here.
    pub fn check_all(&self, teller: &mut Teller, io: &mut Io) -> Result<Bitfield, Failure> {
        let pieces = self.metainfo.geometry.pieces();
        let have = self.hash((0..pieces).collect(), teller, io)?;
        if self.signals.ending() {
            return Ok(have);
        }
        io.out.write_all(&info::files(self.metainfo, self.options.printable, Some(self.target), Some(&have)))?;
        say_already(&have, io)?;
        Ok(have)
    }

    /// Hashes `pieces`, on all processors and until a signal ends it, and gives those that are right.
    fn hash(&self, pieces: Vec<u32>, teller: &mut Teller, io: &mut Io) -> Result<Bitfield, Failure> {
        if pieces.is_empty() {
            return Ok(Bitfield::new(self.metainfo.geometry.pieces()));
        }
        io.out.flush()?;
        let of = pieces.len() as u32;
        let all = self.options.check;
        let told = Mutex::new((0, teller, &mut *io));
        let threads = crate::sys::cpus::count();
        let mut pieces = pieces.into_iter().take_while(|_| !self.signals.ending());
        let have = check_some(self.storage, self.metainfo, &mut pieces, threads, &|_| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let (done, teller, io) = &mut *told;
            *done += 1;
            // A reader that went away is no reason to stop.
            let _ = teller.hashed(*done, of, all, io);
        });
        if !all && !self.signals.ending() {
            writeln!(io.out, "Checking completed.")?;
        }
        Ok(have)
    }
}

/// The line by which scripts know how much is here.
pub fn say_already(have: &Bitfield, io: &mut Io) -> io::Result<()> {
    let (pieces, of) = (have.count(), have.len());
    let percent = u64::from(pieces) * 100 / u64::from(of.max(1));
    writeln!(io.out, "Already/Total: {pieces}/{of} ({percent}%)")?;
    io.out.flush()
}

/// Where the journal of this run is; none when it is to have none.
pub fn journal(
    options: &Run,
    metainfo: &Metainfo,
    storage: &Storage,
    target: &Path,
) -> Result<Option<Journal>, Failure> {
    // What -f believes must not be vouched for, and of what becomes of a device between two runs nothing is known.
    let trusted = !options.force || options.check;
    let known = !storage.has_device() || options.journal_file.is_some();
    if !super::on(options.journal, options.no_journal) || !trusted || !known {
        return Ok(None);
    }
    let path = options.journal_file.clone().unwrap_or_else(|| with_end(target, Journal::END));
    Journal::new(path, metainfo, storage).map(Some).map_err(|error| Failure::new(1, error))
}

/// Keeps a torrent's journal up to date from a thread of its own: whoever waits for the medium, downloads do not.
pub struct Keeper {
    torrent: Arc<Torrent>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Journal>>,
}

impl Keeper {
    /// Begins to keep; none when there is nothing to be kept or no thread for it.
    pub fn start(journal: Option<Journal>, torrent: &Arc<Torrent>) -> Option<Keeper> {
        // Who only seeds leaves no file beside the data that was not there.
        let mut journal = journal.filter(|journal| !torrent.status().whole || journal.exists())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ours, theirs) = (torrent.clone(), stop.clone());
        let keep = move || {
            while !theirs.load(Ordering::Relaxed) {
                let have = ours.have();
                if !went_well(journal.record(ours.storage(), &have), &ours) {
                    return None;
                }
                thread::park_timeout(PAUSE);
            }
            Some(journal)
        };
        let thread = thread::Builder::new().name("journal".to_owned()).stack_size(128 << 10).spawn(keep).ok()?;
        Some(Keeper { torrent: torrent.clone(), stop, thread })
    }

    /// Closes the journal in order, once the torrent's session has ended.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A thread that panicked has said so already.
        let Ok(Some(journal)) = self.thread.join() else { return };
        let step = Duration::from_millis(10);
        for _ in 0..PARTING.as_millis() / step.as_millis() {
            if self.torrent.status().peers == (0, 0) {
                went_well(journal.close(self.torrent.storage(), &self.torrent.have()), &self.torrent);
                return;
            }
            thread::sleep(step);
        }
        // Somebody may still be writing: what was recorded stands, the rest is hashed again.
    }
}

fn went_well(done: Result<(), Failed>, torrent: &Torrent) -> bool {
    match &done {
        Ok(()) => {}
        Err(Failed::Data(error)) => torrent.fail(error.to_string()),
        Err(Failed::Journal(error)) => complain(&format!("warn, no journal: {error}")),
    }
    done.is_ok()
}
