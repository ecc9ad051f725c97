//! Files that are there whole or not at all: written under a name of their own in the same directory, brought to the disk,
//! and only then given the name they are for.
//!
//! Until then a file is `.NAME.RANDOM.ogbox-part`: hidden from whoever lists images or torrents, and a name that nobody can
//! foresee and put something else under. What has the name already keeps it until the new file is on the disk, and passes
//! its mode on. A symbolic link stays and what it leads to is replaced. Character devices and pipes are written to as they
//! are, and so is an open file behind a name of /proc, such as /dev/stdout; nothing else in the place of a file is written
//! to, and nothing is made where device nodes are.
//!
//! What is not promised: that a process which is killed leaves nothing behind ([`leftover`] finds it), and owner, ACLs and
//! extended attributes of a file that is replaced.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::leftover;
use super::links::{destination, directory_of, is_among_nodes, no_such_device, only_restored_to};

/// How often a name is tried while others are taken for leftovers.
const ATTEMPTS: usize = 8;

/// A file under way: gone when it is dropped before [`commit`](Whole::commit).
#[derive(Debug)]
pub struct Whole {
    file: File,
    path: PathBuf,
    /// Its name until it is complete; `None` for what is written to as it is.
    part: Option<PathBuf>,
}

impl Whole {
    /// Begins the file `path`, or what the symbolic link of that name leads to.
    ///
    /// # Errors
    /// The directory cannot be written to, or is where device nodes are; what has the name is a directory, block device
    /// or socket.
    pub fn create(path: &Path) -> io::Result<Whole> {
        match as_it_is(path, fs::metadata(path))? {
            Some(file) => Ok(Whole { file, path: path.to_owned(), part: None }),
            None => match destination(path)? {
                Some(destination) => Whole::begin(destination),
                // What was written to that file before stays: standard output may be one.
                None => {
                    let file = File::options().append(true).open(path)?;
                    Ok(Whole { file, path: path.to_owned(), part: None })
                }
            },
        }
    }

    /// Begins the file `path`, in whose place a symbolic link of that name is replaced: nothing is written elsewhere.
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
            let (mode, new) = (old.mode() & 0o777, whole.file.metadata()?.mode() & 0o777);
            if mode != new {
                whole.file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
        }
        Ok(whole)
    }

    /// Whether it is written to as it is, and never gets another name.
    pub fn is_written_through(&self) -> bool {
        self.part.is_none()
    }

    /// Where its bytes go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Brings it to the disk and under its name, in place of what has that name, and returns it still open.
    ///
    /// # Errors
    /// The disk failed, or the name cannot be taken. What had the name is untouched unless the very last step failed,
    /// bringing the directory to the disk.
    pub fn commit(self) -> io::Result<File> {
        self.take_name(|part, path| fs::rename(part, path))
    }

    /// The same where nothing may have the name yet.
    ///
    /// # Errors
    /// As [`commit`](Whole::commit); `AlreadyExists`.
    pub fn commit_new(self) -> io::Result<File> {
        self.take_name(|part, path| match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
            // File systems without such a renaming (CIFS, some FUSE) can still link, which replaces nothing.
            Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(part, path).and_then(|()| fs::remove_file(part)),
            done => Ok(done?),
        })
    }

    fn take_name(mut self, rename: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<File> {
        let file = self.file.try_clone()?;
        let Some(part) = &self.part else {
            // What is no file need not have a disk.
            return tolerant(file.sync_all()).map(|()| file);
        };
        file.sync_all()?;
        rename(part, &self.path)?;
        self.part = None;
        // The lock is a file under way's. Whoever keeps the file open has none.
        let _ = flock(&file, FlockOperation::Unlock);
        sync_directory(&self.path)?;
        Ok(file)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // Nobody is left to tell when it fails.
            let _ = fs::remove_file(part);
        }
    }
}

/// Writes `bytes` to the file `path`, or to what the symbolic link of that name leads to.
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

/// Gives the complete file `from` the name `to`, in the place of what has that name, once it is on the disk.
///
/// # Errors
/// The disk failed, or the name cannot be taken.
pub fn finish(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    rename(from, to)
}

/// Renames a file that is on the disk, so that the renaming is there as well.
///
/// # Errors
/// The name cannot be taken, or the disk failed.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(to)
}

/// Makes a file under way for `path`, locked.
fn begin_locked(path: &Path) -> io::Result<(File, PathBuf)> {
    for _ in 0..ATTEMPTS {
        let part = leftover::name_under_way(path)?;
        // O_EXCL: neither a file that is there nor what a link leads to is opened.
        let file = File::options().read(true).write(true).create_new(true).open(&part)?;
        if leftover::claim(&file)? {
            return Ok((file, part));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Opens `path` if it is written to as it is; `None` for what is replaced.
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

/// Brings the directory of `path` to the disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    tolerant(File::open(directory_of(path)).and_then(|directory| directory.sync_all()))
}

/// Passes over what a file system cannot do (CIFS, some FUSE), or what this process may not: it is no failure of a disk.
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

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

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
