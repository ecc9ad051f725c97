//! Exclusive use by a file whose being there is the lock, as OpenGnsys' scripts and other machines see it.
//!
//! A lock that says whose it is holds for as long as flock(2) on it does, so that a process which was killed locks nobody
//! out. It is taken like this:
//! 1. make the file with O_EXCL, lock it, then say whose it is: until then it looks like a script's, which nobody breaks;
//! 2. if it is there, open and lock that one, without waiting: who holds flock and reads there whose it is may have it,
//! 3. if the name still leads to the file that is locked: between opening and locking, its holder may have given it up
//!    and another taken the name.
//!
//! Whoever removes a lock does so holding flock on it, after the same look. What says nothing is a script's or another
//! machine's: it is never broken. Scripts that remove another's lock by force are not guarded against.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// How often a lock is tried for that goes away while it is looked at.
const ATTEMPTS: usize = 8;
/// Bytes of the longest text that says whose a lock is.
const LONGEST: u64 = 64;

/// Exclusive use, given up when it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock `path` for as long as this process lives, saying that it is `whose`; `None` when somebody has it.
    ///
    /// # Errors
    /// The file cannot be made, or the one that is there not be read.
    pub fn take(path: &Path, whose: &str) -> io::Result<Option<Lock>> {
        for _ in 0..ATTEMPTS {
            let taken = match File::create_new(path) {
                Ok(file) => Some(sign(file, whose)?),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match take_over(path, whose) {
                    // It was given up just now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    taken => taken?,
                },
                Err(error) => return Err(error),
            };
            return Ok(taken.map(|file| Lock { path: path.to_owned(), file }));
        }
        Ok(None)
    }

    /// Takes the lock `path` whatever becomes of this process; `None` when somebody has it.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn take_for_good(path: &Path) -> io::Result<Option<Lock>> {
        match File::create_new(path) {
            Ok(file) => Ok(Some(Lock { path: path.to_owned(), file })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It may have been taken away by force (ogUnlock), and be another's now.
        if leads_to(&self.path, &self.file).unwrap_or(false) {
            // Nobody is left to tell when it fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether somebody has the lock `path`: it is there, and not left by a dead process that said that it was `whose`.
pub fn is_held(path: &Path, whose: &str) -> bool {
    path.exists() && !matches!(take_over(path, whose), Ok(Some(_)))
}

/// Removes the lock `path` if a dead process left it that said that it was `whose`.
pub fn break_stale(path: &Path, whose: &str) {
    if let Ok(Some(file)) = take_over(path, whose) {
        drop(Lock { path: path.to_owned(), file });
    }
}

/// Makes a new lock file a process's.
fn sign(mut file: File, whose: &str) -> io::Result<File> {
    flock(&file, FlockOperation::LockExclusive)?;
    file.write_all(whose.as_bytes())?;
    // Or, where the power fails, an empty one is left, which nobody would take over.
    file.sync_all()?;
    Ok(file)
}

/// Takes the lock `path` if a dead process left it that said that it was `whose`; `NotFound` when it is there no more.
fn take_over(path: &Path, whose: &str) -> io::Result<Option<File>> {
    let file = File::options().read(true).write(true).open(path)?;
    Ok(if is_left(path, &file, whose)? { Some(file) } else { None })
}

/// Whether `file`, opened as `path`, is a lock that a dead process left; if so, this process has flock on it now.
fn is_left(path: &Path, mut file: &File, whose: &str) -> io::Result<bool> {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let mut said = Vec::new();
    Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut said)?;
    Ok(leads_to(path, file)? && said == whose.as_bytes())
}

/// Whether `path` is the name of the open `file`.
fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let (named, open) = (fs::metadata(path)?, file.metadata()?);
    Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const OURS: &str = "ours\n";

    #[test]
    fn a_lock_holds_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        for take in [|path: &Path| Lock::take(path, OURS), Lock::take_for_good] {
            let lock = take(&path).unwrap().unwrap();
            assert!(is_held(&path, OURS));
            assert!(Lock::take(&path, OURS).unwrap().is_none() && Lock::take_for_good(&path).unwrap().is_none());
            break_stale(&path, OURS);
            assert!(path.exists());
            drop(lock);
            assert!(!path.exists() && !is_held(&path, OURS));
        }
        assert_eq!(Lock::take(&dir.path().join("none/x"), OURS).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_dead_process_left_is_taken_over_and_what_others_made_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        for theirs in ["", "theirs\n", "ours", "ours\n\n"] {
            fs::write(&path, theirs).unwrap();
            break_stale(&path, OURS);
            assert!(is_held(&path, OURS) && Lock::take(&path, OURS).unwrap().is_none(), "{theirs:?}");
        }
        fs::write(&path, OURS).unwrap();
        assert!(!is_held(&path, OURS) && path.exists());
        let lock = Lock::take(&path, OURS).unwrap().unwrap();
        assert!(is_held(&path, OURS));
        drop(lock);
        fs::write(&path, OURS).unwrap();
        break_stale(&path, OURS);
        assert!(!path.exists());
    }

    #[test]
    fn who_breaks_a_stale_lock_leaves_one_that_was_taken_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        // The breaker has opened what a dead process left, and another breaks that and takes the lock.
        fs::write(&path, OURS).unwrap();
        let stale = File::open(&path).unwrap();
        break_stale(&path, OURS);
        let lock = Lock::take(&path, OURS).unwrap().unwrap();
        assert!(!is_left(&path, &stale, OURS).unwrap());
        drop(Lock { path: path.clone(), file: stale });
        assert!(path.exists() && is_held(&path, OURS));
        drop(lock);
        assert!(!path.exists());
    }

    #[test]
    fn whose_lock_was_taken_away_by_force_leaves_the_next_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let first = Lock::take(&path, OURS).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        let second = Lock::take(&path, OURS).unwrap().unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn among_many_takers_and_breakers_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let (holders, path) = (std::sync::atomic::AtomicU32::new(0), path.as_path());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        break_stale(path, OURS);
                        let Some(lock) = Lock::take(path, OURS).unwrap() else { continue };
                        assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        thread::yield_now();
                        assert!(leads_to(path, &lock.file).unwrap(), "somebody removed it");
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        // Every other holder dies without giving it up.
                        if lock.file.metadata().unwrap().ino() % 2 == 0 { drop(lock) } else { kill(lock) }
                    }
                });
            }
        });
    }

    /// Ends a lock as it ends with its process: the file is there, flock is not.
    fn kill(lock: Lock) {
        flock(&lock.file, FlockOperation::Unlock).unwrap();
        std::mem::forget(lock);
    }
}
