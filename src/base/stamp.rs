//! Stamps that tell a file's contents apart without reading them.
//!
//! They hold both times of change: that of the data can be put back by anybody who may write the file, that of the inode
//! by nobody. New owners, modes and names change the latter too, so that data is taken for changed though it is not.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, SystemTime};

/// Time after a change within which another may leave the same time behind: file systems take it from a clock that
/// ticks every few milliseconds.
const TICK: Duration = Duration::from_millis(50);
/// The same where times are whole seconds, or every other second (FAT).
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A file's inode, size in bytes, and times of change in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds and nanoseconds of mtime.
    pub modified: (i64, i64),
    /// Seconds and nanoseconds of ctime.
    pub changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Stamp {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Stamp { inode: metadata.ino(), size: metadata.size(), modified, changed }
    }
}

impl Stamp {
    /// Returns the stamp of an open file.
    ///
    /// # Errors
    /// The error of fstat(2).
    pub fn of(file: &File) -> io::Result<Stamp> {
        Ok(Stamp::from(&file.metadata()?))
    }

    /// Returns a stamp that any later change will alter: waits until the last change is old enough.
    ///
    /// # Errors
    /// The error of fstat(2).
    pub fn settled(file: &File) -> io::Result<Stamp> {
        let stamp = Stamp::of(file)?;
        let wait = |time: (i64, i64)| {
            let tick = if time.1 == 0 { COARSE_TICK } else { TICK };
            age(time).and_then(|age| tick.checked_sub(age))
        };
        match wait(stamp.modified).max(wait(stamp.changed)) {
            Some(left) => {
                thread::sleep(left);
                Stamp::of(file)
            }
            None => Ok(stamp),
        }
    }

    /// Time since the last change of the data; `None` if that is in the future.
    pub fn age(&self) -> Option<Duration> {
        age(self.modified)
    }
}

/// Time since this moment, in seconds and nanoseconds since 1970; `None` if that is to come.
fn age((seconds, nanoseconds): (i64, i64)) -> Option<Duration> {
    let moment = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(moment)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn every_change_of_content_after_a_settled_stamp_alters_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for round in 0..20 {
            fs::write(&path, [round; 8]).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let stamp = Stamp::settled(&file).unwrap();
            assert_eq!(Stamp::of(&file).unwrap(), stamp);
            file.write_all_at(&[99], 3).unwrap();
            assert_ne!(Stamp::of(&file).unwrap(), stamp, "a byte overwritten, round {round}");
            let written = fs::metadata(&path).unwrap().modified().unwrap();
            let stamp = Stamp::settled(&file).unwrap();
            file.write_all_at(&[98], 3).and_then(|()| file.set_modified(written)).unwrap();
            assert_ne!(Stamp::of(&file).unwrap(), stamp, "the same with its time put back, round {round}");
        }
    }

    #[test]
    fn a_moment_to_come_has_no_age() {
        let stamp = Stamp { modified: (i64::MAX, 0), ..Stamp::default() };
        assert_eq!((stamp.age(), Stamp { modified: (-1, 0), ..stamp }.age()), (None, None));
    }
}
