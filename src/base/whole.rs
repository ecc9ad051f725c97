//! Output files that appear complete or not at all: written under a temporary name in the same directory, synced, and then
//! renamed.
//!
//! The temporary name is `.NAME.RANDOM.ogbox-part`: hidden from programs that list images or torrents, and impossible to
//! predict. An existing file keeps its name until the new one is on the disk, and passes on its mode and, as far as the
//! process may, its owner. A symbolic link stays, and its target is replaced. Character devices and pipes are written
//! through, and so is an open file that a name of /proc refers to, such as /dev/stdout. Anything else in the way is an
//! error, and no file is created on the file system that holds the device nodes.
//!
//! Not promised: that a killed process leaves nothing behind ([`leftover`] finds its files), and that ACLs and extended
//! attributes survive.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::leftover;
use super::links::{destination, directory_of, is_among_nodes, no_such_device, only_restored_to};

/// Attempts to claim a new file before another program removes it as a leftover.
const ATTEMPTS: usize = 8;

/// An unfinished output file, removed when it is dropped before [`commit`](Whole::commit).
#[derive(Debug)]
pub struct Whole {
    file: File,
    path: PathBuf,
    /// The temporary name; `None` if the output is written through.
    part: Option<PathBuf>,
}

impl Whole {
    /// Begins the file `path`, or the target of the symbolic link of that name.
    ///
    /// # Errors
    /// The directory is not writable or holds the device nodes; `path` is a directory, block device or socket.
    pub fn create(path: &Path) -> io::Result<Whole> {
        match as_it_is(path, fs::metadata(path))? {
            Some(file) => Ok(Whole { file, path: path.to_owned(), part: None }),
            None => match destination(path)? {
                Some(destination) => Whole::begin(destination),
                // Appended to, since this may be standard output with earlier content.
                None => {
                    let file = File::options().append(true).open(path)?;
                    Ok(Whole { file, path: path.to_owned(), part: None })
                }
            },
        }
    }

    /// Begins the file `path`; a symbolic link of that name is itself replaced, so nothing is written elsewhere.
    ///
    /// # Errors
    /// As [`create`](Whole::create).
    pub fn create_at(path: &Path) -> io::Result<Whole> {
        match as_it_is(path, fs::symlink_metadata(path))? {
            Some(file) => Ok(Whole { file, path: path.to_owned(), part: None }),
            None => Whole::begin(path.to_owned()),
        }
    }

    fn begin(path: PathBuf) -> io::Result<Whole> {
        if is_among_nodes(&path)? {
            return Err(no_such_device());
        }
        let (file, part) = begin_locked(&path)?;
        let whole = Whole { file, path, part: Some(part) };
        if let Some(old) = fs::symlink_metadata(&whole.path).ok().filter(Metadata::is_file) {
            whole.inherit(&old)?;
        }
        Ok(whole)
    }

    /// Takes on the owner, group and mode of the file that is to be replaced.
    fn inherit(&self, old: &Metadata) -> io::Result<()> {
        let new = self.file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            // Only root may give files away, and some file systems have no owners.
            let _ = fchown(&self.file, Some(old.uid()), Some(old.gid()));
        }
        let mode = old.mode() & 0o777;
        if mode != new.mode() & 0o777 {
            self.file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Whether the output is written through, without a temporary name.
    pub fn is_written_through(&self) -> bool {
        self.part.is_none()
    }

    /// Returns the file to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the file, gives it its final name, and returns it, still open. An existing file of that name is replaced.
    ///
    /// # Errors
    /// Those of fsync(2) and rename(2). An existing file is untouched unless only the last step, syncing the directory,
    /// failed.
    pub fn commit(self) -> io::Result<File> {
        self.take_name(|part, path| fs::rename(part, path))
    }

    /// Does the same, but never replaces a file.
    ///
    /// # Errors
    /// As [`commit`](Whole::commit), and `AlreadyExists`.
    pub fn commit_new(self) -> io::Result<File> {
        self.take_name(|part, path| match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
            // CIFS and some FUSE file systems lack this flag; link(2) does not replace files either.
            Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(part, path).and_then(|()| fs::remove_file(part)),
            done => Ok(done?),
        })
    }

    fn take_name(mut self, rename: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<File> {
        let file = self.file.try_clone()?;
        let Some(part) = &self.part else {
            // A pipe or character device may have nothing to sync.
            return tolerant(file.sync_all()).map(|()| file);
        };
        file.sync_all()?;
        rename(part, &self.path)?;
        self.part = None;
        // The lock marks unfinished files; a caller that keeps this one open must not hold it.
        let _ = flock(&file, FlockOperation::Unlock);
        sync_directory(&self.path)?;
        Ok(file)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // There is no caller left to report a failure to.
            let _ = fs::remove_file(part);
        }
    }
}

/// Writes `bytes` to the file `path`, or to the target of the symbolic link of that name.
///
/// # Errors
/// As [`Whole::create`] and [`Whole::commit`].
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut whole = Whole::create(path)?;
    whole.file().write_all(bytes.as_ref())?;
    whole.commit().map(drop)
}

/// Writes `bytes` to the new file `path`.
///
/// # Errors
/// As [`Whole::create_at`] and [`Whole::commit_new`].
pub fn write_new(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut whole = Whole::create_at(path)?;
    whole.file().write_all(bytes.as_ref())?;
    whole.commit_new().map(drop)
}

/// Syncs the complete file `from` and renames it to `to`, replacing an existing file.
///
/// # Errors
/// Those of fsync(2) and rename(2).
pub fn finish(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    rename(from, to)
}

/// Renames a file that is already synced, and syncs its directory.
///
/// # Errors
/// Those of rename(2) and fsync(2).
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(to)
}

/// Creates the temporary file for `path` and locks it.
fn begin_locked(path: &Path) -> io::Result<(File, PathBuf)> {
    for _ in 0..ATTEMPTS {
        let part = leftover::name_under_way(path)?;
        // O_EXCL opens neither an existing file nor the target of a link.
        let file = File::options().read(true).write(true).create_new(true).open(&part)?;
        if leftover::claim(&file)? {
            return Ok((file, part));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Opens `path` if it is to be written through; returns `None` if it is to be replaced.
fn as_it_is(path: &Path, found: io::Result<Metadata>) -> io::Result<Option<File>> {
    let Ok(found) = found else { return Ok(None) };
    match found.file_type() {
        kind if kind.is_file() || kind.is_symlink() => Ok(None),
        kind if kind.is_char_device() || kind.is_fifo() => File::options().write(true).open(path).map(Some),
        kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        kind if kind.is_block_device() => Err(only_restored_to()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Syncs the directory of `path`.
fn sync_directory(path: &Path) -> io::Result<()> {
    tolerant(File::open(directory_of(path)).and_then(|directory| directory.sync_all()))
}

/// Ignores that a file system cannot sync (CIFS, some FUSE) or that this process may not: the disk did not fail.
fn tolerant(synced: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match synced {
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::super::tree::tests::names;
    use super::*;

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.img");
        let mut one = Whole::create(&path).unwrap();
        let mut two = Whole::create(&path).unwrap();
        one.file().write_all(b"one").unwrap();
        let under_way = names(dir.path());
        assert!(
            under_way.len() == 2
                && under_way.iter().all(|name| name.starts_with(".x.img.") && name.ends_with(".ogbox-part"))
        );
        one.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        two.file().write_all(b"two").unwrap();
        drop(two);
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"one".to_vec(), vec!["x.img".to_owned()]));
    }

    #[test]
    fn a_file_that_is_replaced_passes_its_mode_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, "old").unwrap();
        for mode in [0o600, 0o664, 0o444] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            write(&path, format!("{mode}")).unwrap();
            let metadata = path.metadata().unwrap();
            assert_eq!((metadata.mode() & 0o7777, fs::read_to_string(&path).unwrap()), (mode, format!("{mode}")));
        }
    }

    #[test]
    fn a_file_that_is_replaced_by_root_keeps_its_owner() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        write(&path, "new").unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 4321, 0o640));
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_link_is_followed_and_stays_unless_the_name_itself_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let (link, there) = (dir.path().join("link"), dir.path().join("deep/there"));
        fs::create_dir(dir.path().join("deep")).unwrap();
        symlink("second", &link).unwrap();
        symlink("deep/there", dir.path().join("second")).unwrap();
        for text in ["made", "replaced"] {
            write(&link, text).unwrap();
            assert!(link.is_symlink() && fs::read_to_string(&there).unwrap() == text);
        }
        assert_eq!(write_new(&link, "x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        Whole::create_at(&link).unwrap().commit().unwrap();
        assert!(link.is_file() && !link.is_symlink());
        assert_eq!(fs::read_to_string(&there).unwrap(), "replaced");
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(write(&dir.path().join("a"), "x").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_new_file_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_new(&path, "one").unwrap();
        assert_eq!(write_new(&path, "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"one".to_vec(), vec!["x".to_owned()]));
    }

    #[test]
    fn what_is_no_file_is_written_to_as_it_is_or_refused() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(dir.path(), "x").unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(write(Path::new("/"), "x").unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(write(&socket, "x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(names(dir.path()), ["socket"]);
        assert!(is_among_nodes(Path::new("/dev/sdz9")).unwrap() && !is_among_nodes(&socket).unwrap());
        assert_eq!(write(Path::new("/dev/sdz9"), "x").unwrap_err().to_string(), "there is no such device");
    }

    #[test]
    fn an_open_file_that_proc_leads_to_is_appended_to_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut out = File::create(&path).unwrap();
        out.write_all(b"before ").unwrap();
        let link = dir.path().join("stdout");
        symlink(format!("/proc/self/fd/{}", out.as_raw_fd()), &link).unwrap();
        write(&link, "written").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before written");
        assert_eq!(path.metadata().unwrap().ino(), out.metadata().unwrap().ino());
        assert_eq!(names(dir.path()), ["out", "stdout"]);
    }

    #[test]
    fn a_finished_file_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("x.img.part"), dir.path().join("x.img"));
        assert_eq!(finish(&from, &to).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&to, "old").unwrap();
        fs::write(&from, "new").unwrap();
        finish(&from, &to).unwrap();
        assert_eq!((fs::read(&to).unwrap(), names(dir.path())), (b"new".to_vec(), vec!["x.img".to_owned()]));
    }
}
