//! The images below a directory, by their names.

use std::fs;
use std::path::{Path, PathBuf};

use super::set::Dir;
use super::{clonezilla, fog};
use crate::image::Error;

/// Whether a directory is a set.
pub fn is_set(path: &Path) -> bool {
    path.is_dir() && Dir::open(path).is_ok_and(|dir| clonezilla::is_one(&dir) || !fog::disks(&dir).is_empty())
}

/// Collects the files at `path`, and the directories that are sets, sorted by name, down to `depth` levels of directories;
/// none whose name begins with a dot.
///
/// # Errors
/// It is not there, or a directory cannot be read.
pub fn find(path: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |error| Error::io(format!("look into {}", path.display()), error);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if is_set(path) {
        files.push(path.to_owned());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        if !entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            found.push(entry.strip_prefix(".").unwrap_or(&entry).to_owned());
        }
    }
    found.sort();
    for entry in found {
        if entry.is_file() {
            files.push(entry);
        } else if depth > 1 && entry.is_dir() {
            find(&entry, depth - 1, files)?;
        }
    }
    Ok(())
}
