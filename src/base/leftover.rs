//! Temporary files that killed programs left behind ([`Whole`](super::whole::Whole)).
//!
//! A temporary file is locked (flock(2)) for as long as its writer lives, and its name identifies the running kernel under
//! which it was created. If that is this kernel and the lock is free, the file is abandoned. If it is another one, as after a
//! power cut or in a directory that several machines share, the lock may not be visible here: the file is reported, and
//! removed once it has not been touched for a day.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};

use super::links::{destination, directory_of};
use super::stamp::Stamp;

/// Suffix of a temporary name.
const END: &str = ".ogbox-part";
/// Hexadecimal digits before the suffix.
const DIGITS: usize = 16;
/// The first of these digits, which identify the running kernel; the others are random.
const OF_KERNEL: usize = 6;
/// Longest file name, in bytes (NAME_MAX).
const LONGEST_NAME: usize = 255;
/// Age of the last change at which no machine is assumed to write the file any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A temporary file that no process of this machine is writing.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Path of the file.
    pub path: PathBuf,
    /// Bytes allocated on the disk.
    pub bytes: u64,
    /// Whether it was removed.
    pub removed: bool,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (path, bytes) = (self.path.display(), self.bytes);
        match self.removed {
            true => write!(f, "removed {path}: {bytes} bytes that a killed program left"),
            false => write!(f, "{path} has {bytes} bytes: another machine is writing it, or a killed program left it"),
        }
    }
}

/// Which leftovers are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remove {
    /// None; they are only reported.
    Nothing,
    /// Those of this machine, and those untouched for a day.
    Certain,
    /// All that are not locked; the caller has made sure that no other machine is writing them.
    All,
}

/// Finds the leftovers of the file `path` and removes those that `remove` selects.
pub fn of(path: &Path, remove: Remove) -> Vec<Leftover> {
    let Ok(Some(path)) = destination(path) else { return Vec::new() };
    let Ok(prefix) = prefix(&path) else { return Vec::new() };
    find(directory_of(&path), remove, &|name| name == prefix)
}

/// Finds the leftovers of all files in `directory` and removes those that `remove` selects.
pub fn within(directory: &Path, remove: Remove) -> Vec<Leftover> {
    find(directory, remove, &|name| name.len() > "..".len() && name.starts_with('.'))
}

/// Reports the leftovers in `directories` through `say`, and if `may_go`, removes those that are certain.
pub fn below(directories: &[PathBuf], may_go: bool, say: &dyn Fn(&str)) {
    let remove = if may_go { Remove::Certain } else { Remove::Nothing };
    let found = directories.iter().flat_map(|directory| within(directory, remove));
    found.for_each(|left| say(&left.to_string()));
}

/// Returns a new temporary name for `path`, in the same directory.
///
/// # Errors
/// `path` has no file name.
pub fn name_under_way(path: &Path) -> io::Result<PathBuf> {
    let random = RandomState::new().hash_one(std::process::id()) >> (4 * OF_KERNEL);
    let kernel = kernel().unwrap_or_else(|| "0".repeat(OF_KERNEL));
    let name = format!("{}{kernel}{random:0width$x}{END}", prefix(path)?, width = DIGITS - OF_KERNEL);
    Ok(path.with_file_name(name))
}

/// Locks the new file `file` for as long as it is open; returns `false` if another program just removed it as a leftover.
///
/// # Errors
/// Those of fstat(2).
pub fn claim(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        // Without locks on this file system, no leftover is certain either: locking it fails there as well.
        _ => Ok(file.metadata()?.nlink() > 0),
    }
}

/// Returns the prefix of a temporary name: as much of the final name as fits, between two dots.
fn prefix(path: &Path) -> io::Result<String> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let most = LONGEST_NAME - "..".len() - DIGITS - END.len();
    Ok(format!(".{}.", &name[..name.floor_char_boundary(most)]))
}

/// Returns the digits that identify the running kernel; `None` without its boot id.
fn kernel() -> Option<String> {
    let id = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{:0OF_KERNEL$x}", crc32fast::hash(&id) >> (32 - 4 * OF_KERNEL)))
}

fn find(directory: &Path, remove: Remove, is_meant: &dyn Fn(&str) -> bool) -> Vec<Leftover> {
    let here = kernel();
    let is_ours = |random: &str| here.as_deref().is_some_and(|here| random.starts_with(here));
    under_way(directory, is_meant).filter_map(|(path, random)| look(path, is_ours(&random), remove)).collect()
}

/// Lists the temporary files in `directory` whose prefixes `is_meant` accepts, each with its digits.
fn under_way<'a>(
    directory: &Path,
    is_meant: &'a dyn Fn(&str) -> bool,
) -> impl Iterator<Item = (PathBuf, String)> + use<'a> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(move |entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_suffix(END)?;
        let (prefix, random) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
        let is_random = random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_random && prefix.ends_with('.') && is_meant(prefix)).then(|| (entry.path(), random.to_owned()))
    })
}

/// Opens a temporary file; fails on a link and does not block on a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Whether a process of this machine is writing a file that will be renamed to `path`.
pub fn is_being_written(path: &Path) -> bool {
    let Ok(Some(path)) = destination(path) else { return false };
    let Ok(prefix) = prefix(&path) else { return false };
    let is_locked = |path: PathBuf| {
        let Ok(file) = open(&path) else { return false };
        flock(file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    };
    under_way(directory_of(&path), &|name| name == prefix).any(|(path, _)| is_locked(path))
}

/// Examines the temporary file `path`; returns `None` if it is locked, vanishes meanwhile, or is no regular file.
fn look(path: PathBuf, is_ours: bool, remove: Remove) -> Option<Leftover> {
    let file = open(&path).ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    // Its writer may have finished between the opening and the locking.
    let same = fs::symlink_metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()));
    if locked == Err(rustix::io::Errno::WOULDBLOCK) || !same {
        return None;
    }
    let is_certain = || {
        let is_old = Stamp::from(&metadata).age().is_some_and(|age| age >= ABANDONED);
        own && locked.is_ok() && (is_ours || is_old)
    };
    let removed = match remove {
        Remove::Nothing => false,
        Remove::Certain => is_certain() && fs::remove_file(&path).is_ok(),
        Remove::All => fs::remove_file(&path).is_ok(),
    };
    Some(Leftover { path, bytes: metadata.blocks() * 512, removed })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::tree::tests::names;
    use super::super::whole::Whole;
    use super::*;

    /// Leaves a temporary file of `path` as a killed program does, and returns its path.
    fn killed(path: &Path) -> PathBuf {
        let left = name_under_way(path).unwrap();
        fs::write(&left, [1; 5000]).unwrap();
        left
    }

    #[test]
    fn what_a_killed_program_left_is_removed_and_what_is_being_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.img");
        let mut whole = Whole::create(&path).unwrap();
        let left = killed(&path);
        assert_eq!(names(dir.path()).len(), 2);
        let found = of(&path, Remove::Nothing);
        assert!(found.len() == 1 && found[0].path == left && found[0].bytes >= 5000 && !found[0].removed, "{found:?}");
        let found = of(&path, Remove::Certain);
        assert!(found.len() == 1 && found[0].removed, "{found:?}");
        let said = format!("removed {}: {} bytes that a killed program left", left.display(), found[0].bytes);
        assert_eq!(found[0].to_string(), said);
        assert_eq!((of(&path, Remove::All), within(dir.path(), Remove::All)), (vec![], vec![]), "it is locked");
        io::Write::write_all(whole.file(), b"x").unwrap();
        whole.commit().unwrap();
        assert_eq!(names(dir.path()), ["x.img"]);
    }

    #[test]
    fn what_another_machine_may_be_writing_is_removed_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.img");
        let digit = if kernel().is_some_and(|kernel| kernel.starts_with('0')) { '1' } else { '0' };
        let left = dir.path().join(format!(".x.img.{digit}123456789abcdef{END}"));
        fs::write(&left, "x").unwrap();
        let found = of(&path, Remove::Certain);
        assert!(found.len() == 1 && !found[0].removed && left.exists());
        assert!(found[0].to_string().ends_with("bytes: another machine is writing it, or a killed program left it"));
        let file = File::options().write(true).open(&left).unwrap();
        file.set_modified(SystemTime::now() - ABANDONED - Duration::from_secs(9)).unwrap();
        assert!(of(&path, Remove::Certain)[0].removed && !left.exists());
        fs::write(&left, "x").unwrap();
        assert!(of(&path, Remove::All)[0].removed && !left.exists());
    }

    #[test]
    fn other_names_links_and_pipes_are_no_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let others = [".x.0123.ogbox-part", ".x.0123456789abcdef.part", ".x.0123456789ABCDEF.ogbox-part", "x.img"];
        others.iter().for_each(|name| fs::write(at(name), "").unwrap());
        std::os::unix::fs::symlink("x.img", at(".x.0123456789abcdef.ogbox-part")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at(".x.0123456789abcdff.ogbox-part"), pipe, mode, 0).unwrap();
        killed(&at("y"));
        assert_eq!(of(&at("x"), Remove::All), []);
        assert_eq!(within(dir.path(), Remove::All).len(), 1, "the other file's");
        assert_eq!(names(dir.path()).len(), others.len() + 2);
    }

    #[test]
    fn a_long_name_is_cut_until_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ñ".repeat(127));
        let left = killed(&path);
        assert!(of(&path, Remove::Certain)[0].removed && !left.exists());
    }
}
