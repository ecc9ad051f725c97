//! Exclusive use by the existence of a file, which OpenGnsys' scripts and other machines see.
//!
//! A lock with its owner's text in it is valid only while a process holds flock(2) on it, so that a killed process locks
//! nobody out. It is taken in these steps:
//! 1. Create the file with O_EXCL, flock it, then write the owner's text. Until then it looks like a script's lock, which
//!    is never broken.
//! 2. If the file exists, open it and flock it without waiting. If that succeeds and the text is the owner's, it is stale.
//! 3. Compare the name with the open file once more: between opening and locking, the holder may have given up the lock
//!    and another process may have taken the name.
//!
//! A lock is removed only while holding flock on it, after the same comparison. A lock without text belongs to a script or
//! another machine and is never broken. Scripts that remove a lock by force are not guarded against.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Attempts at a lock that vanishes while it is being examined.
const ATTEMPTS: usize = 8;
/// Longest owner's text, bytes.
const LONGEST: u64 = 64;

/// A lock that is held; given up when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock `path` with the text `owner`, for at most the life of this process; `None` if it is held already.
    ///
    /// # Errors
    /// The file cannot be created, or an existing one cannot be read.
    pub fn take(path: &Path, owner: &str) -> io::Result<Option<Lock>> {
        for _ in 0..ATTEMPTS {
            let taken = match File::create_new(path) {
                Ok(file) => Some(sign(file, owner)?),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match take_over(path, owner) {
                    // It was given up in the meantime.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    taken => taken?,
                },
                Err(error) => return Err(error),
            };
            return Ok(taken.map(|file| Lock { path: path.to_owned(), file }));
        }
        Ok(None)
    }

    /// Takes the lock `path` without a text, so that it outlives a killed process; `None` if it is held already.
    ///
    /// # Errors
    /// The file cannot be created.
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
        // It may have been removed by force (ogUnlockImage), and the name may be another's now.
        if leads_to(&self.path, &self.file).unwrap_or(false) {
            // A failure has nowhere to be reported.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the lock `path` is held: the file exists, and is not the stale lock of a dead process with the text `owner`.
pub fn is_held(path: &Path, owner: &str) -> bool {
    path.exists() && !matches!(take_over(path, owner), Ok(Some(_)))
}

/// Removes the lock `path` if it is the stale lock of a dead process with the text `owner`.
pub fn break_stale(path: &Path, owner: &str) {
    if let Ok(Some(file)) = take_over(path, owner) {
        drop(Lock { path: path.to_owned(), file });
    }
}

/// Makes a new lock file this process's.
fn sign(mut file: File, owner: &str) -> io::Result<File> {
    flock(&file, FlockOperation::LockExclusive)?;
    file.write_all(owner.as_bytes())?;
    // After a power cut an empty file would be left, which nobody would take over.
    file.sync_all()?;
    Ok(file)
}

/// Takes over the lock `path` if it is stale; `NotFound` if it is gone.
fn take_over(path: &Path, owner: &str) -> io::Result<Option<File>> {
    let file = File::options().read(true).write(true).open(path)?;
    Ok(if is_left(path, &file, owner)? { Some(file) } else { None })
}

/// Whether `file`, opened as `path`, is stale; if so, this process holds flock on it now.
fn is_left(path: &Path, mut file: &File, owner: &str) -> io::Result<bool> {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let mut said = Vec::new();
    Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut said)?;
    Ok(leads_to(path, file)? && said == owner.as_bytes())
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
    fn a_holder_whose_lock_was_removed_by_force_leaves_the_next_one() {
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
