//! Waits for changes in directories (inotify(7)) with a time limit: on a network file system, changes by other
//! machines cause no event.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The watched directories.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    flags: WatchFlags,
    watched: HashSet<PathBuf>,
    /// Directories of the last list that do not exist.
    missing: HashSet<PathBuf>,
}

impl Watch {
    /// Creates a watch of nothing. With `writes`, files that are being written to count as changes, not only
    /// finished ones.
    ///
    /// # Errors
    /// The kernel has no inotify, or this user has used up its share.
    pub fn new(writes: bool) -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = if writes { FLAGS | WatchFlags::MODIFY } else { FLAGS };
        Ok(Watch { inotify, flags, watched: HashSet::new(), missing: HashSet::new() })
    }

    /// Watches exactly `directories`; true if one was added, which may have changed between the last look and now,
    /// or if one has vanished.
    pub fn only(&mut self, directories: &[PathBuf]) -> bool {
        let (before, missing) = (std::mem::take(&mut self.watched), std::mem::take(&mut self.missing));
        for directory in directories {
            match inotify::add_watch(&self.inotify, directory, self.flags) {
                Ok(_) => _ = self.watched.insert(directory.clone()),
                Err(Errno::NOENT) => _ = self.missing.insert(directory.clone()),
                Err(_) => {}
            }
        }
        // One that stays missing is not new.
        self.watched.difference(&before).next().or_else(|| self.missing.difference(&missing).next()).is_some()
    }

    /// Waits for a change, at most for `time`; true if there was one.
    pub fn wait(&mut self, time: Duration) -> bool {
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&time)).unwrap_or(0) == 0 {
            return false;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                // A directory that vanished must be watched anew if it comes back.
                Ok(event) if event.events().intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF) => {
                    self.watched.clear()
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_happens_in_a_watched_directory_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(false).unwrap();
        assert!(watch.only(&[dir.path().to_owned()]));
        assert!(!watch.only(&[dir.path().to_owned()]), "nothing new to watch");
        assert!(!watch.wait(Duration::ZERO));
        fs::write(dir.path().join("x"), "x").unwrap();
        assert!(watch.wait(Duration::from_secs(5)));
        assert!(!watch.wait(Duration::ZERO), "told once");
        fs::remove_file(dir.path().join("x")).unwrap();
        assert!(watch.wait(Duration::from_secs(5)));
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let both = [dir.path().to_owned(), dir.path().join("nowhere")];
        let mut watch = Watch::new(false).unwrap();
        assert!(watch.only(&both) && !watch.only(&both));
        assert!(!watch.only(&both[..1]) && watch.only(&both));
    }

    #[test]
    fn a_directory_that_comes_back_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let both = [dir.path().to_owned(), inner.clone()];
        fs::create_dir(&inner).unwrap();
        let mut watch = Watch::new(false).unwrap();
        watch.only(&both);
        fs::remove_dir(&inner).unwrap();
        assert!(watch.wait(Duration::from_secs(5)));
        fs::create_dir(&inner).unwrap();
        watch.only(&both);
        while watch.wait(Duration::ZERO) {}
        fs::write(inner.join("x"), "x").unwrap();
        assert!(watch.wait(Duration::from_secs(5)));
    }
}
