//! Where a path leads, through symbolic links that may be followed, and among device nodes.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Symbolic links that are followed, one after the other.
const MOST_LINKS: usize = 40;

/// Returns where `path` leads, to a file that may not be there yet; `None` if a link of /proc leads to an open file, whose
/// name is not what was asked for.
///
/// # Errors
/// `PermissionDenied` for another user's link in a directory that all may write to; links without end.
pub fn destination(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(_) if is_in_proc(&path) => return Ok(None),
            Ok(_) if is_planted(&path)? => return Err(io::ErrorKind::PermissionDenied.into()),
            Ok(next) => path = directory_of(&path).join(next),
            // No link, or not there; what else is wrong with it shows when it is made.
            Err(_) => return Ok(Some(path)),
        }
    }
    Err(Errno::LOOP.into())
}

/// Opens `path` as `options` say, and not where a symbolic link leads that another user put into a directory of all, as
/// /tmp. For files that are appended to, which others read meanwhile: a block device is none, and none is made among device
/// nodes.
///
/// # Errors
/// Those of open(2); `PermissionDenied` for such a link; `InvalidInput` for a block device, and for a name among device
/// nodes that none has.
pub fn open_in_place(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let mut open = |flags: OFlags, path: &Path| {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_block_device() => return Err(only_restored_to()),
            Err(_) if is_among_nodes(path).unwrap_or(false) => return Err(no_such_device()),
            _ => {}
        }
        options.custom_flags(flags.bits() as i32).open(path)
    };
    match open(OFlags::NOFOLLOW, path) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => match destination(path)? {
            Some(destination) => open(OFlags::NOFOLLOW, &destination),
            None => open(OFlags::empty(), path),
        },
        opened => opened,
    }
}

/// Makes the file `path` empty, or a new one, as [`open_in_place`].
///
/// # Errors
/// As [`open_in_place`].
pub fn open_anew(path: &Path) -> io::Result<File> {
    open_in_place(File::options().write(true).create(true).truncate(true), path)
}

/// Whether the symbolic link `path` is another user's in a directory that all may write to, as /tmp. The kernel follows
/// none of these either, unless that is turned off (fs.protected_symlinks).
fn is_planted(path: &Path) -> io::Result<bool> {
    let (link, directory) = (fs::symlink_metadata(path)?, fs::metadata(directory_of(path))?);
    let own = rustix::process::geteuid().as_raw();
    Ok(is_shared(&directory) && ![own, directory.uid()].contains(&link.uid()))
}

fn is_shared(directory: &Metadata) -> bool {
    directory.mode() & 0o002 != 0
}

fn is_in_proc(path: &Path) -> bool {
    rustix::fs::statfs(directory_of(path)).is_ok_and(|system| system.f_type as libc::c_long == libc::PROC_SUPER_MAGIC)
}

/// Whether the file `path` is or would be on the file system of device nodes, where what is mistyped would fill memory
/// instead of a disk. What is mounted below /dev (/dev/shm) is an ordinary place.
pub fn is_among_nodes(path: &Path) -> io::Result<bool> {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let directory = directory_of(path);
    let (Ok(nodes), Ok(root)) = (device(Path::new("/dev")), device(Path::new("/"))) else { return Ok(false) };
    Ok(device(directory)? == nodes && (nodes != root || fs::canonicalize(directory)?.starts_with("/dev")))
}

/// Returns the error of a name among device nodes that none has.
pub fn no_such_device() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "there is no such device")
}

/// Returns the error of a block device in the place of a file.
pub fn only_restored_to() -> io::Error {
    let why = "it is a block device, which only restoring writes to: name a file";
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Returns the directory of the file `path`; `.` for a name alone.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn another_users_link_in_a_directory_of_all_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, other) = (dir.path().join("shared"), dir.path().join("other"));
        fs::create_dir(&shared).unwrap();
        fs::write(&other, "precious").unwrap();
        let link = shared.join("state");
        symlink(&other, &link).unwrap();
        if std::os::unix::fs::lchown(&link, Some(12345), None).is_err() {
            return;
        }
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(destination(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(open_in_place(File::options().append(true), &link).is_err());
        assert!(open_in_place(File::options().append(true), &other).is_ok());
        assert_eq!((fs::read(&other).unwrap(), link.is_symlink()), (b"precious".to_vec(), true));
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(destination(&link).unwrap(), Some(other));
    }
}
