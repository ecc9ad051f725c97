//! The files below a directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sort::sort_by;
use super::stamp::Stamp;

/// Depth to which nested directories are entered.
const DEPTH: usize = 16;
/// Maximum number of files that are remembered.
const MOST_FILES: usize = 100_000;

/// The result of [`walk`].
#[derive(Debug, Default)]
pub struct Tree {
    /// Files, sorted by the bytes of their paths.
    pub files: Vec<(PathBuf, Stamp)>,
    /// Directories that were read.
    pub directories: Vec<PathBuf>,
    /// Directories that could not be read, with the errors; one that vanished meanwhile is not listed.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Whether there were more files than are remembered.
    pub cut: bool,
}

impl Tree {
    /// The stamp of the file at `path`, if it was found.
    pub fn stamp(&self, path: &Path) -> Option<Stamp> {
        let at = self.files.binary_search_by(|(known, _)| known.as_os_str().cmp(path.as_os_str())).ok()?;
        Some(self.files[at].1)
    }

    /// Whether nothing is known of `path` because its directory could not be read.
    pub fn is_unknown(&self, path: &Path) -> bool {
        self.unreadable.iter().any(|(directory, _)| path.starts_with(directory))
    }
}

/// Finds every file below `top` whose name is `wanted`. Hidden files and directories are left out, symbolic links
/// are followed, and each directory is entered once.
pub fn walk(top: &Path, wanted: &dyn Fn(&OsStr) -> bool) -> Tree {
    let mut tree = Tree::default();
    let mut entered: Vec<(u64, u64)> = Vec::new();
    let mut to_do = vec![(top.to_owned(), 0)];
    while let Some((directory, depth)) = to_do.pop() {
        let listed = fs::metadata(&directory).and_then(|metadata| {
            let id = (metadata.dev(), metadata.ino());
            if entered.contains(&id) {
                return Ok(None);
            }
            entered.push(id);
            fs::read_dir(&directory).map(Some)
        });
        let entries = match listed {
            Ok(Some(entries)) => entries,
            Ok(None) => continue,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound || depth == 0 {
                    tree.unreadable.push((directory, error));
                }
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // Most entries can be skipped without looking at their inode.
            let file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if name.as_encoded_bytes().starts_with(b".") || (file && !wanted(&name)) {
                continue;
            }
            let path = entry.path();
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() && depth < DEPTH {
                to_do.push((path, depth + 1));
            } else if metadata.is_file() && wanted(&name) {
                if tree.files.len() == MOST_FILES {
                    tree.cut = true;
                    break;
                }
                tree.files.push((path, Stamp::from(&metadata)));
            }
        }
        tree.directories.push(directory);
    }
    sort_by(&mut tree.files, |one, other| one.0.as_os_str() < other.0.as_os_str());
    tree
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the names in `directory`, sorted.
    pub fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_found_once_however_deep_and_whatever_leads_round() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        for name in ["x", "a/y", "a/b/z", ".hidden", "a/other.no"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), deep.join("round")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("x"), deep.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", deep.join("dangling")).unwrap();
        let tree = walk(dir.path(), &|name| !name.as_encoded_bytes().ends_with(b".no"));
        let found: Vec<&str> =
            tree.files.iter().map(|(path, _)| path.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(found, ["a/b/link", "a/b/z", "a/y", "x"]);
        assert_eq!((tree.directories.len(), tree.unreadable.len(), tree.cut), (3, 0, false));
        assert_eq!(tree.stamp(&deep.join("link")), tree.stamp(&dir.path().join("x")));
        assert_eq!(tree.stamp(&deep).map(|stamp| stamp.size), None);
    }

    #[test]
    fn of_a_directory_that_is_gone_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("gone");
        let tree = walk(&top, &|_| true);
        assert!(tree.is_unknown(&top.join("x")) && !tree.is_unknown(&dir.path().join("x")));
    }
}
