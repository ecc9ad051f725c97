//! The files that belong to an image and stand beside it: `X.img.sum`, `X.img.torrent` …

use std::io;
use std::path::{Path, PathBuf};

use crate::base::whole;

/// Extensions of the files renamed to `.ant` when an image is made anew: the image itself and those made from it.
const KEPT: &[&str] = &["", ".torrent", ".sum", ".full.sum"];

/// Extensions of the files that a download leaves and a complete image needs no more: ctorrent's journal.
const TRACES: &[&str] = &[".torrent.journal"];

/// Extensions of the files derived from an image; they are invalid once it changes.
const DERIVED: &[&str] = &[".torrent", ".torrent.bf", ".torrent.bfog", ".sum", ".full.sum"];

/// Appends `extension` to the whole of `path`: `X.img` and `.sum` give `X.img.sum`.
pub fn with(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// Renames an image and its files to their backup names (`X.img.ant`, `X.img.torrent.ant` …). Older backups are
/// replaced, or deleted where the image has no such file, so that all backups belong to one image.
///
/// # Errors
/// A file could not be renamed; those before it were.
pub fn keep_as_backup(image: &Path) -> io::Result<()> {
    for extension in KEPT {
        let path = with(image, extension);
        let backup = with(&path, ".ant");
        match whole::rename(&path, &backup) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&backup)?,
            done => done?,
        }
    }
    Ok(())
}

/// Deletes the files derived from an image; a missing one is not an error.
///
/// # Errors
/// A file could not be deleted.
pub fn remove_derived(image: &Path) -> io::Result<()> {
    DERIVED.iter().chain(TRACES).try_for_each(|extension| remove(&with(image, extension)))
}

/// Deletes what a download left beside the complete image that it made.
///
/// # Errors
/// A file could not be deleted.
pub fn remove_traces(image: &Path) -> io::Result<()> {
    TRACES.iter().try_for_each(|extension| remove(&with(image, extension)))
}

/// Deletes a file; a missing one is not an error.
///
/// # Errors
/// It could not be deleted.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_and_its_files_become_backups_together() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["x.img", "x.img.torrent", "x.img.sum", "x.img.ant", "x.img.full.sum.ant"] {
            std::fs::write(at(name), name).unwrap();
        }
        keep_as_backup(&at("x.img")).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["x.img.ant", "x.img.sum.ant", "x.img.torrent.ant"]);
        assert_eq!(std::fs::read_to_string(at("x.img.ant")).unwrap(), "x.img");
    }

    #[test]
    fn only_what_was_made_from_an_image_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["x.img", "x.img.torrent", "x.img.torrent.bf", "x.img.full.sum", "x.img.ant"] {
            std::fs::write(at(name), "").unwrap();
        }
        remove_derived(&at("x.img")).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["x.img", "x.img.ant"]);
    }
}
